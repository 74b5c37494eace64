//! What a record costs: `cargo bench --bench audit`. Durable records cost what the disk costs; put
//! `TMPDIR` where the log will lie.

#![allow(clippy::unwrap_used, missing_docs, reason = "a bench that cannot run should say so at once")]

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use vault_mcp::audit::{Action, Audit, Event, Settings, VerifyOptions, verify};

fn event(durable: bool, keys: &[String]) -> Event<'_> {
    Event {
        action: Action::Request,
        id: "0b0f2f6e-3d5c-4f0e-9a3f-6f4f2d3c1b2a",
        subject: "alice",
        front: "stdio",
        client: Some("claude-code 2.1.329"),
        op: "kv.write",
        effect: "write",
        target: "secret/mcp/alice/myapp",
        keys,
        outcome: None,
        code: None,
        vault_request_id: Some("5c1f3f0e-6a6e-4b53-9f8f-0f6f1f2f3f4f"),
        approval: None,
        durable,
    }
}

fn private() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("audit-bench").tempdir().unwrap()
}

fn record(c: &mut Criterion) {
    let keys = ["DB_PASSWORD".to_owned(), "API_KEY".to_owned()];
    let mut group = c.benchmark_group("record");
    group.throughput(Throughput::Elements(1));
    for (name, durable) in [("not durable", false), ("durable", true)] {
        let dir = private();
        let log = Audit::open(Settings::new(dir.path().join("audit.jsonl"))).unwrap();
        group.bench_function(name, |b| b.iter(|| log.record(&event(durable, &keys)).unwrap()));
    }
    // Two handles take turns: each reads the end that the other left.
    let dir = private();
    let path = dir.path().join("audit.jsonl");
    let logs = [Audit::open(Settings::new(&path)).unwrap(), Audit::open(Settings::new(&path)).unwrap()];
    let mut turns = logs.iter().cycle();
    group.bench_function("taking turns", |b| {
        b.iter(|| turns.next().unwrap().record(&event(false, &keys)).unwrap());
    });
    group.finish();
}

/// Calls at a time, as an HTTP server has them.
const AT_A_TIME: u64 = 16;

/// Durable records of sixteen callers on a runtime of two threads, as two cores have it.
fn many(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    let mut group = c.benchmark_group("durable, 16 at a time");
    group.throughput(Throughput::Elements(1));
    for (name, together) in [("an fsync each", false), ("one fsync for all that wait", true)] {
        let dir = private();
        let log = Audit::open(Settings::new(dir.path().join("audit.jsonl"))).unwrap();
        let one_at_a_time = std::sync::Arc::new(tokio::sync::Mutex::new(()));
        group.bench_function(name, |b| {
            b.iter_custom(|count| {
                let started = std::time::Instant::now();
                runtime.block_on(async {
                    let tasks: Vec<_> = (0..AT_A_TIME)
                        .map(|number| {
                            let (log, turn) = (log.clone(), one_at_a_time.clone());
                            let own = count / AT_A_TIME + u64::from(number < count % AT_A_TIME);
                            tokio::spawn(async move {
                                for _ in 0..own {
                                    let turn = if together { None } else { Some(turn.lock().await) };
                                    let appended = log.append(&event(true, &[])).unwrap();
                                    appended.wait_with_others().await.unwrap();
                                    drop(turn);
                                }
                            })
                        })
                        .collect();
                    for task in tasks {
                        task.await.unwrap();
                    }
                });
                started.elapsed()
            });
        });
    }
    group.finish();
}

fn open(c: &mut Criterion) {
    let dir = private();
    let path = dir.path().join("audit.jsonl");
    let log = Audit::open(Settings::new(&path)).unwrap();
    for _ in 0..10_000 {
        log.record(&event(false, &[])).unwrap();
    }
    drop(log);
    c.bench_function("open", |b| b.iter(|| Audit::open(Settings::new(&path)).unwrap()));
    let mut group = c.benchmark_group("verify");
    group.throughput(Throughput::Elements(10_000));
    group.sample_size(10);
    group.bench_function("10,000 records", |b| b.iter(|| verify(&path, &VerifyOptions::default()).unwrap()));
    group.finish();
}

criterion_group!(benches, record, many, open);
criterion_main!(benches);
