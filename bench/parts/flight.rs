//! 64 reads in flight: through stdio, and by the plain client over 64 connections.
//!
//! The plain client is one thread that keeps a request on each connection and takes the answers in turn:
//! cheaper than 64 threads, and so the harder yardstick.

use std::time::Instant;

use serde_json::json;

use crate::{
    measure::{Goal, Report, Spread, spread},
    plain::Plain,
    server::{Server, call, is_answer},
    vault::Vault,
};

const IN_FLIGHT: usize = 64;
const READS: usize = 4_000;
const ROUNDS: usize = 9;

pub fn run(vault: &Vault) {
    let path = vault.secret("flight");
    let mut server = Server::on(vault);
    let mut connections: Vec<Plain> = (0..IN_FLIGHT).map(|_| vault.plain()).collect();
    let lines: Vec<String> =
        (0..READS).map(|id| call(id as u64 + 1, "kv_read", &json!({"path": "flight"}))).collect();
    stdio(&mut server, &lines);
    plain(&mut connections, &path);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let before = server.cpu_us();
        let ours = stdio(&mut server, &lines);
        let cpu = (server.cpu_us() - before) / lines.len() as f64;
        rounds.push((ours, plain(&mut connections, &path), cpu));
    }
    let mut report = Report::new("flight", Some(&vault.name));
    report.note(
        "rounds",
        format!("{ROUNDS} of {READS} reads each way, {IN_FLIGHT} in flight; the middle one counts"),
    );
    let mut row = |what: &str, member: &str, figure: &Spread, unit: &str| {
        report.row(what, member, figure.middle, unit);
        report.note("", format!("{:.2} … {:.2}", figure.low, figure.high));
    };
    row("plain client, 64 connections", "plain_per_s", &spread(rounds.iter().map(|round| round.1)), "/s");
    row("kv_read through stdio", "per_s", &spread(rounds.iter().map(|round| round.0)), "/s");
    let ratio = spread(rounds.iter().map(|round| round.0 / round.1));
    row("ratio", "ratio", &ratio, "");
    row("processor time of vault-mcp a read", "cpu_us", &spread(rounds.iter().map(|round| round.2)), "µs");
    report.print(&[Goal::at_least("throughput ratio", ratio.middle, 0.8)]);
}

/// Reads a second.
fn stdio(server: &mut Server, lines: &[String]) -> f64 {
    let started = Instant::now();
    let mut waiting = lines.iter();
    for line in waiting.by_ref().take(IN_FLIGHT) {
        server.send(line);
    }
    for _ in lines {
        let answer = server.receive();
        assert!(is_answer(answer), "{answer}");
        if let Some(line) = waiting.next() {
            server.send(line);
        }
    }
    (lines.len() as f64 / started.elapsed().as_secs_f64()).round()
}

fn plain(connections: &mut [Plain], path: &str) -> f64 {
    let started = Instant::now();
    for connection in connections.iter_mut() {
        connection.send("GET", path, None);
    }
    let mut sent = connections.len();
    for received in 0..READS {
        let connection = &mut connections[received % IN_FLIGHT];
        assert_eq!(connection.receive(), 200);
        if sent < READS {
            connection.send("GET", path, None);
            sent += 1;
        }
    }
    (READS as f64 / started.elapsed().as_secs_f64()).round()
}
