//! One agent at four times its limit beside fifteen within theirs: its refusals are fast, the others unhurt.

use std::time::{Duration, Instant};

use serde_json::{Map, Value};

use crate::{
    measure::{Goal, Report, Samples},
    plain::Plain,
    server::HttpServer,
    vault::Vault,
};

/// Calls a second that each agent is allowed.
const LIMIT: u32 = 50;
const QUIET: usize = 15;
const LASTS: Duration = Duration::from_secs(4);

pub fn run(vault: &Vault) {
    let keys: Map<String, Value> =
        (0..=QUIET).map(|number| (format!("key-{number}"), format!("agent{number}").into())).collect();
    let limit = LIMIT.to_string();
    let settings = [("RATE_LIMIT_REQUESTS", limit.as_str()), ("RATE_LIMIT_WINDOW_SECONDS", "1")];
    let server = HttpServer::on(vault, &Value::Object(keys), &settings);
    let alone = quiet(&server, None);
    let mut refused = Samples::default();
    let mut let_through = 0;
    let beside = quiet(&server, Some((&mut refused, &mut let_through)));
    let mut report = Report::new("overload", Some(&vault.name));
    report.row("the others alone, p99", "alone_p99", alone.p99(), "µs");
    report.row("the others beside the overload, p99", "beside_p99", beside.p99(), "µs");
    report.row("a refusal, p50", "refusal_p50", refused.p50(), "µs");
    report.row("a refusal, p99", "refusal_p99", refused.p99(), "µs");
    report.row("let through of the one over its limit", "let_through", f64::from(let_through), "calls");
    report.print(&[Goal::at_most("p99 of the others, in ms", beside.p99() / 1e3, alone.p99() / 1e3 + 10.0)]);
}

/// Times of the quiet agents' calls at half their limit each, with the loud one beside them or not.
fn quiet(server: &HttpServer, loud: Option<(&mut Samples, &mut u32)>) -> Samples {
    let mut all: Vec<Plain> =
        (1..=QUIET).map(|number| Plain::with_key(&server.url, &format!("key-{number}"))).collect();
    let mut times = Samples::default();
    std::thread::scope(|scope| {
        if let Some((refused, let_through)) = loud {
            scope.spawn(move || {
                let mut one = Plain::with_key(&server.url, "key-0");
                let (started, pause) = (Instant::now(), Duration::from_secs(1) / (4 * LIMIT));
                let mut next = started;
                while started.elapsed() < LASTS {
                    let asked = Instant::now();
                    match one.exchange("GET", "secrets?prefix=x", None) {
                        429 => refused.add(asked.elapsed()),
                        200 => *let_through += 1,
                        status => panic!("status {status}"),
                    }
                    next += pause;
                    std::thread::sleep(next.saturating_duration_since(Instant::now()));
                }
            });
        }
        let started = Instant::now();
        let pause = Duration::from_secs(1) / (LIMIT / 2) / QUIET as u32;
        let mut next = started;
        for number in (0..QUIET).cycle() {
            if started.elapsed() >= LASTS {
                break;
            }
            let asked = Instant::now();
            assert_eq!(all[number].exchange("GET", "secrets?prefix=x", None), 200);
            times.add(asked.elapsed());
            next += pause;
            std::thread::sleep(next.saturating_duration_since(Instant::now()));
        }
    });
    times
}
