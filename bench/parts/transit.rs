//! Encrypting through stdio against the same request by the plain client: 32 bytes, 64 KiB, and a batch of 1,000
//! against 1,000 calls.

use std::time::Instant;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use crate::{
    measure::{Goal, Report, Samples},
    server::{Server, call, is_answer},
    vault::Vault,
};

const CALLS: usize = 1_000;
const KEY: &str = "bench";

pub fn run(vault: &Vault) {
    let mut plain = vault.plain();
    // A mount that is there already is as good.
    plain.exchange("POST", "sys/mounts/transit", Some(r#"{"type":"transit"}"#));
    assert!(matches!(plain.exchange("POST", &format!("transit/keys/{KEY}"), Some("{}")), 200 | 204));
    let mut server = Server::on(vault);
    let mut report = Report::new("transit", Some(&vault.name));
    report.note("calls", format!("{CALLS} each way, in turn"));
    let mut goals = Vec::new();
    for (what, member, bytes) in [("32 bytes", "32", 32), ("64 KiB", "64k", 64 << 10)] {
        let text = STANDARD.encode(vec![b'x'; bytes]);
        let body = json!({ "plaintext": text }).to_string();
        let line = call(1, "transit_encrypt", &json!({"key": KEY, "plaintext": text}));
        let (mut straight, mut ours) = (Samples::default(), Samples::default());
        for round in 0..CALLS + 50 {
            let started = Instant::now();
            assert_eq!(plain.exchange("POST", &format!("transit/encrypt/{KEY}"), Some(&body)), 200);
            let direct = started.elapsed();
            let started = Instant::now();
            let answer = server.exchange(&line);
            let through = started.elapsed();
            assert!(is_answer(answer), "{answer}");
            // The first ones warm up.
            if round >= 50 {
                straight.add(direct);
                ours.add(through);
            }
        }
        let added = ours.p50() - straight.p50();
        report.row(&format!("{what}: plain client, p50"), &format!("plain_{member}"), straight.p50(), "µs");
        report.row(&format!("{what}: transit_encrypt, p50"), &format!("p50_{member}"), ours.p50(), "µs");
        report.row(&format!("{what}: added, p50"), &format!("added_{member}"), added, "µs");
        if bytes == 32 {
            goals.push(Goal::at_most("added p50 of 32 bytes, in µs", added, 60.0));
            goals.push(Goal::at_most(
                "added p99 of 32 bytes, in ms",
                (ours.p99() - straight.p99()) / 1e3,
                1.0,
            ));
        }
    }
    let text = STANDARD.encode("0123456789abcdef");
    let items: Vec<Value> = (0..1_000).map(|_| json!({ "plaintext": text })).collect();
    let (batch, single) = (
        call(1, "transit_encrypt", &json!({"key": KEY, "batch": items})),
        call(1, "transit_encrypt", &json!({"key": KEY, "plaintext": text})),
    );
    let started = Instant::now();
    assert!(is_answer(server.exchange(&batch)));
    let together = started.elapsed().as_secs_f64();
    let started = Instant::now();
    for _ in 0..1_000 {
        assert!(is_answer(server.exchange(&single)));
    }
    let apart = started.elapsed().as_secs_f64();
    report.row("a batch of 1,000", "batch", together * 1e6, "µs");
    report.row("1,000 calls", "calls", apart * 1e6, "µs");
    report.row("ratio", "ratio", apart / together, "");
    report.print(&goals);
}
