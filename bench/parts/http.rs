//! 16 reads in flight: through `--http` with every guard on, and through a hop that copies bytes to the same
//! Vault. Then writes, whose audit records are on disk before they are answered.

use std::time::Instant;

use serde_json::json;

use crate::{
    hop::Hop,
    measure::{Goal, Report, spread},
    plain::Plain,
    server::HttpServer,
    vault::{ROOT, SUBJECT, Vault},
};

const IN_FLIGHT: usize = 16;
const READS: usize = 4_000;
const WRITES: usize = 600;
const ROUNDS: usize = 9;
const KEY: &str = "bench-key-of-no-other-use";

pub fn run(vault: &Vault) {
    let path = vault.secret("http");
    let hop = Hop::to(&vault.address);
    let server = HttpServer::on(vault, &json!({ KEY: SUBJECT }), &[]);
    let mut through_hop: Vec<Plain> = (0..IN_FLIGHT).map(|_| Plain::connect(&hop.address, ROOT)).collect();
    let mut ours: Vec<Plain> = (0..IN_FLIGHT).map(|_| Plain::with_key(&server.url, KEY)).collect();
    let mut straight: Vec<Plain> = (0..IN_FLIGHT).map(|_| vault.plain()).collect();
    let idle = server.memory();
    let get = |all: &mut [Plain], path: &str| in_flight(all, READS, |one, _| one.send("GET", path, None));
    get(&mut through_hop, &path);
    get(&mut ours, "secrets/http");
    get(&mut straight, &path);
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        let hop = get(&mut through_hop, &path);
        let before = server.cpu_us();
        let own = get(&mut ours, "secrets/http");
        let cpu = (server.cpu_us() - before) / READS as f64;
        rounds.push((own, hop, get(&mut straight, &path), cpu));
    }
    let mut writes = Vec::new();
    for _ in 0..3 {
        let data = r#"{"data":{"user":"app","password":"correct horse battery staple"}}"#;
        let hop = in_flight(&mut through_hop, WRITES, |one, number| {
            one.send("POST", &format!("secret/data/mcp/{SUBJECT}/w{}", number % IN_FLIGHT), Some(data));
        });
        let own = in_flight(&mut ours, WRITES, |one, number| {
            one.send("PUT", &format!("secrets/w{}", number % IN_FLIGHT), Some(data));
        });
        writes.push((own, hop));
    }
    let mut report = Report::new("http", Some(&vault.name));
    report.note(
        "rounds",
        format!("{ROUNDS} of {READS} reads each way, {IN_FLIGHT} in flight; the middle one counts"),
    );
    report.row(
        "straight to the Vault",
        "straight_per_s",
        spread(rounds.iter().map(|round| round.2)).middle,
        "/s",
    );
    report.row(
        "through the byte-copying hop",
        "hop_per_s",
        spread(rounds.iter().map(|round| round.1)).middle,
        "/s",
    );
    report.row(
        "GET /secrets/… through vault-mcp",
        "per_s",
        spread(rounds.iter().map(|round| round.0)).middle,
        "/s",
    );
    let ratio = spread(rounds.iter().map(|round| round.0 / round.1));
    report.row("ratio to the hop", "ratio", ratio.middle, "");
    report.note("", format!("{:.2} … {:.2}", ratio.low, ratio.high));
    report.row(
        "processor time of vault-mcp a read",
        "cpu_us",
        spread(rounds.iter().map(|round| round.3)).middle,
        "µs",
    );
    report.row(
        "PUT through the hop",
        "put_hop_per_s",
        spread(writes.iter().map(|round| round.1)).middle,
        "/s",
    );
    report.row(
        "PUT through vault-mcp, each record on disk",
        "put_per_s",
        spread(writes.iter().map(|round| round.0)).middle,
        "/s",
    );
    report.row("resident memory idle", "rss_idle", idle.rss, "MB");
    report.row("resident memory after it all", "rss", server.memory().rss, "MB");
    report.print(&[Goal::at_least("reads kept of the hop's", ratio.middle, 0.85)]);
}

/// Answers a second, with a request kept on each connection.
pub fn in_flight(all: &mut [Plain], count: usize, mut send: impl FnMut(&mut Plain, usize)) -> f64 {
    let started = Instant::now();
    let width = all.len();
    for (number, one) in all.iter_mut().enumerate() {
        send(one, number);
    }
    for received in 0..count {
        let one = &mut all[received % width];
        let status = one.receive();
        assert!(matches!(status, 200 | 204), "status {status}: {}", String::from_utf8_lossy(&one.body));
        if received + width < count {
            send(one, received + width);
        }
    }
    (count as f64 / started.elapsed().as_secs_f64()).round()
}
