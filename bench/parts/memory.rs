//! Resident memory: idle, after the first read, after 5,000 pipelined calls.

use std::time::Duration;

use serde_json::json;

use crate::{
    measure::{Goal, Report},
    server::{Memory, Server, call, is_answer},
    vault::Vault,
};

const CALLS: usize = 5_000;

pub fn run(vault: &Vault) {
    vault.secret("memory");
    let mut server = Server::on(vault);
    // Whatever follows the handshake in the background is part of being idle.
    std::thread::sleep(Duration::from_millis(300));
    let idle = server.memory();
    server.call(1, "kv_read", &json!({"path": "memory"}));
    std::thread::sleep(Duration::from_millis(100));
    let first = server.memory();
    pipeline(&mut server);
    std::thread::sleep(Duration::from_millis(300));
    let after = server.memory();
    let mut report = Report::new("memory", Some(&vault.name));
    let mut rows = |when: &str, member: &str, memory: &Memory| {
        report.row(&format!("{when}, RSS"), &format!("{member}_rss_mb"), memory.rss, "MB");
        if let Some(pss) = memory.pss {
            report.row(&format!("{when}, PSS"), &format!("{member}_pss_mb"), pss, "MB");
        }
        report.note("", format!("{} threads", memory.threads));
    };
    rows("idle after initialize", "idle", &idle);
    rows("after the first read", "first", &first);
    rows("after 5,000 pipelined reads", "after", &after);
    report.row("at the worst moment, RSS", "peak_rss_mb", after.peak, "MB");
    report.row("ratio after / idle, RSS", "ratio", after.rss / idle.rss, "");
    report.print(&[Goal::at_most("idle RSS in MB", idle.rss, 10.0)]);
}

/// All calls are written as fast as the server takes them, whether or not answers have come.
fn pipeline(server: &mut Server) {
    let Server { input, output, .. } = server;
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for id in 0..CALLS {
                let line = call(id as u64 + 10, "kv_read", &json!({"path": "memory"})) + "\n";
                input.write_all(line.as_bytes()).unwrap();
            }
        });
        let mut line = String::new();
        for _ in 0..CALLS {
            line.clear();
            output.read_line(&mut line).unwrap();
            assert!(is_answer(&line), "{line}");
        }
    });
}
