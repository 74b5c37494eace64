//! A thousand agents, each with an API key and an open `/mcp` session, calling in turn: what one costs in memory,
//! and what is left of the rate.

use serde_json::{Map, Value, json};

use super::http::in_flight;
use crate::{
    measure::{Goal, Report},
    plain::Plain,
    server::{HttpServer, INITIALIZE, call},
    vault::Vault,
};

const AGENTS: usize = 1_000;
const FEW: usize = 16;
const CALLS: usize = 5_000;

/// A session past its handshake, on a connection of its own.
fn session(url: &str, key: &str) -> Plain {
    let head = |session: &str| {
        format!(
            "X-API-Key: {key}\r\nContent-Type: application/json\r\nAccept: application/json, text/event-stream\r\n{session}"
        )
    };
    let mut plain = Plain::with(url, "/", head(""));
    assert_eq!(
        plain.exchange("POST", "mcp", Some(INITIALIZE)),
        200,
        "{}",
        String::from_utf8_lossy(&plain.body)
    );
    let session = plain
        .header("mcp-session-id")
        .map(|id| format!("Mcp-Session-Id: {id}\r\nMCP-Protocol-Version: 2025-11-25\r\n"));
    plain.say(head(&session.unwrap_or_default()));
    let initialized = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;
    assert_eq!(plain.exchange("POST", "mcp", Some(initialized)), 202);
    plain
}

pub fn run(vault: &Vault) {
    let subjects: Vec<String> = (0..AGENTS).map(|number| format!("agent{number}")).collect();
    let keys: Map<String, Value> =
        subjects.iter().map(|subject| (format!("key-of-{subject}"), subject.as_str().into())).collect();
    let server = HttpServer::on(vault, &Value::Object(keys), &[]);
    let list = call(1, "kv_list", &json!({}));
    let post = |one: &mut Plain, _: usize| one.send("POST", "mcp", Some(&list));
    let mut few: Vec<Plain> =
        subjects.iter().take(FEW).map(|subject| session(&server.url, &format!("key-of-{subject}"))).collect();
    in_flight(&mut few, CALLS, post);
    let of_few = in_flight(&mut few, CALLS, post);
    let before = server.memory();
    let mut all: Vec<Plain> =
        subjects.iter().map(|subject| session(&server.url, &format!("key-of-{subject}"))).collect();
    let opened = server.memory();
    // In turn, 16 at a time: each call is another agent's.
    let mut in_turn = 0.0;
    for round in 0..3 {
        let started = std::time::Instant::now();
        for chunk in all.chunks_mut(FEW) {
            in_flight(chunk, chunk.len(), post);
        }
        if round > 0 {
            in_turn = (AGENTS as f64 / started.elapsed().as_secs_f64()).max(in_turn);
        }
    }
    let after = server.memory();
    let each = (after.rss - before.rss) * 1e6 / 1024.0 / AGENTS as f64;
    let mut report = Report::new("agents", Some(&vault.name));
    report.row("kv_list over /mcp, 16 agents at a time", "few_per_s", of_few, "/s");
    report.row("1,000 agents in turn, 16 at a time", "per_s", in_turn.round(), "/s");
    report.row("ratio", "ratio", in_turn / of_few, "");
    report.row("resident memory with 16 sessions", "rss_before", before.rss, "MB");
    report.row("with 1,016 sessions open", "rss_opened", opened.rss, "MB");
    report.row("after their calls", "rss_after", after.rss, "MB");
    report.row("an agent", "kib_an_agent", each, "KiB");
    report.print(&[
        Goal::at_least("rate kept with 1,000 agents", in_turn / of_few, 0.5),
        Goal::at_most("KiB an agent", each, 100.0),
    ]);
}
