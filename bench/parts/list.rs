//! A folder of 100,000 names against one of 10,000: a page of each, and the plain client's listing.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{
    measure::{Goal, Report, Samples},
    server::Server,
    vault::{SUBJECT, Vault},
};

const SMALL: usize = 10_000;
const LARGE: usize = 100_000;
const ROUNDS: usize = 15;
const WRITERS: usize = 8;

struct Times {
    ours: Samples,
    plain: Samples,
}

pub fn run(vault: &Vault) {
    let mut server = Server::on(vault);
    let (small, large) = (times(vault, &mut server, SMALL), times(vault, &mut server, LARGE));
    let small_walk = walk(&mut server, SMALL);
    let mut report = Report::new("list", Some(&vault.name));
    report.row("kv_list of 10,000, p50 (one page)", "small_us", small.ours.p50(), "µs");
    report.row("kv_list of 100,000, p50 (one page)", "large_us", large.ours.p50(), "µs");
    let ratio = large.ours.p50() / small.ours.p50();
    let plain_ratio = large.plain.p50() / small.plain.p50();
    report.row("ratio", "ratio", ratio, "");
    report.row("plain LIST of 10,000, p50", "plain_small_us", small.plain.p50(), "µs");
    report.row("plain LIST of 100,000, p50", "plain_large_us", large.plain.p50(), "µs");
    report.row("ratio of the plain client", "plain_ratio", plain_ratio, "");
    report.row("added to 100,000 names, p50", "added_us", large.ours.p50() - large.plain.p50(), "µs");
    // Vault has no pages: each of ours is a whole listing there.
    report.row("all 10 pages of 10,000", "walk_small_us", small_walk, "µs");
    if large.ours.p50() < 200_000.0 {
        report.row("all 100 pages of 100,000", "walk_large_us", walk(&mut server, LARGE), "µs");
    } else {
        report.note("all 100 pages of 100,000", "left out: a page takes more than 200 ms");
    }
    report.row("RSS afterwards", "rss_mb", server.memory().rss, "MB");
    // Against the plain client: where Vault's own listing is not linear, ours cannot be. A little over one:
    // what fits a processor's cache at 10,000 does not at 100,000.
    report.print(&[Goal::at_most("ratio over the plain client's", ratio / plain_ratio, 1.3)]);
}

fn times(vault: &Vault, server: &mut Server, count: usize) -> Times {
    fill(vault, count);
    let mut plain = vault.plain();
    let path = format!("secret/metadata/mcp/{SUBJECT}/list-{count}/");
    let mut times = Times { ours: Samples::default(), plain: Samples::default() };
    for round in 0..=ROUNDS {
        let started = Instant::now();
        assert_eq!(plain.exchange("LIST", &path, None), 200);
        let one = started.elapsed();
        let started = Instant::now();
        let page = server.call(round as u64 + 1, "kv_list", &json!({"prefix": format!("list-{count}")}));
        let other = started.elapsed();
        assert_eq!(page["keys"].as_array().map(Vec::len), Some(1000));
        if round > 0 {
            times.plain.add(one);
            times.ours.add(other);
        }
    }
    times
}

/// Microseconds that it takes to see every name.
fn walk(server: &mut Server, count: usize) -> f64 {
    let started = Instant::now();
    let (mut seen, mut id) = (0, 1_000_000);
    let mut arguments = json!({"prefix": format!("list-{count}")});
    loop {
        id += 1;
        let page = server.call(id, "kv_list", &arguments);
        seen += page["keys"].as_array().map_or(0, Vec::len);
        match &page["next_cursor"] {
            Value::String(cursor) => arguments["cursor"] = cursor.as_str().into(),
            _ => break,
        }
    }
    assert_eq!(seen, count);
    started.elapsed().as_secs_f64() * 1e6
}

/// Metadata without versions: listed like any secret, and half the work to make. Vault stores none that says
/// nothing.
fn fill(vault: &Vault, count: usize) {
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            scope.spawn(move || {
                let mut plain = vault.plain();
                for number in (writer..count).step_by(WRITERS) {
                    let path = format!("secret/metadata/mcp/{SUBJECT}/list-{count}/secret-{number:06}");
                    let status = plain.exchange("POST", &path, Some(r#"{"max_versions":1}"#));
                    assert!(status < 300, "{path}: {status}");
                }
            });
        }
    });
}
