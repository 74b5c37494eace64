//! What our own part of a call costs: `cargo bench --bench pipeline`.
//!
//! Whole calls of the broker run against a stub that answers over loopback what Vault would; the
//! exchange alone is measured beside them, so that the difference is ours. The rest needs no Vault.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a bench that cannot run should say so at once"
)]

use std::{
    collections::BTreeMap,
    hint::black_box,
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
};

use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use rmcp::{model::ClientJsonRpcMessage, transport::Transport};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use vault_mcp::{
    audit::Audit,
    broker::{Broker, CallDigest, Channel, Closed, Outcome, Place, canonical_json},
    caller::{Caller, Front, Meter, Scope},
    config::{Config, Layers},
    front::mcp::stdio::StdioTransport,
    handover::Roots,
    names::Subject,
    op::{self, OPS},
    secret::{Disclosed, SecretData},
    vault::Vault,
};

/// Answers every request on a connection with what its path calls for.
fn stub() -> SocketAddr {
    const READ: &str = r#"{"request_id":"5c1f3f0e-6a6e-4b53-9f8f-0f6f1f2f3f4f","lease_id":"","renewable":false,"lease_duration":0,"data":{"data":{"DB_USER":"app","DB_PASSWORD":"correct horse","API_KEY":"0123456789abcdef"},"metadata":{"created_time":"2026-01-01T00:00:00.000000Z","custom_metadata":null,"deletion_time":"","destroyed":false,"version":3}},"wrap_info":null,"warnings":null,"auth":null,"mount_type":"kv"}"#;
    const CAPABILITIES: &str = r#"{"request_id":"5c1f3f0e-6a6e-4b53-9f8f-0f6f1f2f3f4f","data":{"capabilities":["root"],"secret/data/mcp/alice/myapp":["root"]}}"#;
    const LOOKUP: &str = r#"{"request_id":"5c1f3f0e-6a6e-4b53-9f8f-0f6f1f2f3f4f","data":{"id":"t","display_name":"root","policies":["root"],"ttl":0,"renewable":false}}"#;
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = |mut stream: TcpStream| {
        stream.set_nodelay(true).unwrap();
        let mut request = Vec::new();
        let mut piece = [0; 4096];
        loop {
            match stream.read(&mut piece) {
                Ok(0) | Err(_) => return,
                Ok(read) => request.extend_from_slice(piece.get(..read).unwrap()),
            }
            let text = String::from_utf8_lossy(&request);
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
            if body.len() < length.map_or(0, |length| length.parse().unwrap()) {
                continue;
            }
            let answer = if head.contains("/capabilities-self") {
                CAPABILITIES
            } else if head.contains("/lookup-self") {
                LOOKUP
            } else {
                READ
            };
            request.clear();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
            stream.write_all(format!("{head}{}\r\n\r\n{answer}", answer.len()).as_bytes()).unwrap();
        }
    };
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            std::thread::spawn(move || serve(stream.unwrap()));
        }
    });
    address
}

fn config(address: &str, log: &std::path::Path) -> Config {
    let environment: BTreeMap<String, String> = [
        ("VAULT_ADDR", address),
        ("VAULT_TOKEN", "bench-root"),
        ("RATE_LIMIT_ENABLED", "false"),
        ("AUDIT_LOG", log.to_str().unwrap()),
    ]
    .into_iter()
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .collect();
    Config::load(&Layers { environment, ..Layers::default() }).unwrap()
}

fn private() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("pipeline-bench").tempdir().unwrap()
}

fn caller(config: &Config) -> Caller {
    let subject = Subject::parse("alice").unwrap();
    let place = Arc::new(Place::of(config, &subject));
    let client = Some(Arc::from("bench/1"));
    Caller {
        subject,
        scopes: Scope::ALL.to_vec(),
        front: Front::Stdio,
        client,
        place,
        roots: Roots::none(),
        meter: Meter::default(),
    }
}

fn broker(c: &mut Criterion) {
    let dir = private();
    let address = stub();
    let config = Arc::new(config(&format!("http://{address}"), &dir.path().join("audit.jsonl")));
    let caller = caller(&config);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let audit = Audit::open(config.audit_settings().unwrap()).unwrap();
    let vault = Vault::new(&config).unwrap();
    let broker = Broker::new(config.clone(), vault, audit);
    let (read, write) = (op::find("kv.read").unwrap(), op::find("kv.write").unwrap());

    let mut group = c.benchmark_group("broker");
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut answer = [0; 4096];
    group.bench_function("the exchange with the stub alone", |b| {
        b.iter(|| {
            stream.write_all(b"GET /v1/secret/data/mcp/alice/myapp HTTP/1.1\r\nhost: stub\r\n\r\n").unwrap();
            stream.read(&mut answer).unwrap()
        });
    });
    let arguments = json!({"path": "myapp"});
    group.bench_function("kv_read: parse, decide, record, read, mask, record", |b| {
        b.to_async(&runtime).iter(|| async {
            let outcome = broker.call(read, arguments.clone(), &caller, None).await.unwrap();
            assert!(matches!(outcome, Outcome::Done(_)));
        });
    });
    let arguments = json!({"path": "myapp", "data": {"DB_PASSWORD": "new", "API_KEY": "$(id)"}});
    group.bench_function("kv_write: parse, observe, ask, record, and the question closed", |b| {
        b.to_async(&runtime).iter(|| async {
            let outcome = broker.call(write, arguments.clone(), &caller, None).await.unwrap();
            let Outcome::Ask(question) = outcome else { panic!("nobody was asked") };
            // At most three may be open; this is the second record of the two.
            broker.close(&caller, &question.ticket, Closed::Cancelled, Channel::Client)
        });
    });
    group.finish();
}

fn parse(c: &mut Criterion) {
    let mut group = c.benchmark_group("arguments");
    for (id, arguments) in [
        ("kv.read", json!({"path": "configs/demo/myapp", "keys": ["DB_USER", "DB_PASSWORD"]})),
        ("kv.write", json!({"path": "configs/demo/myapp", "data": {"DB_USER": "app", "DB_PASSWORD": "x"}})),
    ] {
        let op = op::find(id).unwrap();
        group.bench_function(id, |b| {
            b.iter_batched(
                || arguments.clone(),
                |arguments| op.parse(arguments).is_ok(),
                BatchSize::SmallInput,
            );
        });
    }
    let arguments = json!({"path": "configs/demo/myapp", "data": keys(50)});
    let subject = Subject::parse("alice").unwrap();
    group.bench_function("canonical JSON of 50 keys", |b| {
        let mut out = Vec::new();
        b.iter(|| {
            out.clear();
            canonical_json(&arguments, &mut out);
            out.len()
        });
    });
    group.bench_function("digest of a call with 50 keys", |b| {
        b.iter(|| CallDigest::of("kv.write", &arguments, &subject, "http://127.0.0.1:8200", None));
    });
    group.finish();
}

/// A secret of so many keys.
fn keys(count: usize) -> Value {
    (0..count).map(|i| (format!("KEY_{i:05}"), Value::from("correct horse battery staple"))).collect()
}

fn mask(c: &mut Criterion) {
    let data = SecretData::new(keys(50).as_object().cloned().unwrap());
    let mut group = c.benchmark_group("mask");
    group.throughput(Throughput::Elements(50));
    group.bench_function("50 keys", |b| {
        b.iter(|| Disclosed::masked(black_box(&data), "secret/mcp/alice/myapp", Some(3)));
    });
    group.bench_function("50 keys, to bytes", |b| {
        b.iter(|| serde_json::to_vec(&Disclosed::masked(&data, "secret/mcp/alice/myapp", Some(3))).unwrap());
    });
    group.finish();
}

/// A `tools/call` line of about this many bytes: many keys, as a write has them.
fn line(size: usize) -> Vec<u8> {
    let value = |count| {
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": "kv_write", "arguments": {"path": "myapp", "data": keys(count)}}})
    };
    let one = keys(1).to_string().len() - 1;
    let mut line = value(size.saturating_sub(150) / one).to_string().into_bytes();
    line.push(b'\n');
    line
}

/// rmcp's parse of a line alone, and our transport's: framing, the strict check, then that same parse.
fn lines(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let mut group = c.benchmark_group("line");
    for (name, size) in [("1 KiB", 1 << 10), ("1 MiB", 1 << 20)] {
        let line = line(size);
        assert!(line.len() <= size && line.len() * 10 > size * 8, "{name}: {}", line.len());
        group.throughput(Throughput::Bytes(line.len() as u64));
        group.bench_function(format!("{name}: parse alone"), |b| {
            b.iter(|| serde_json::from_slice::<ClientJsonRpcMessage>(&line).unwrap());
        });
        group.bench_function(format!("{name}: framed, checked, parsed"), |b| {
            b.to_async(&runtime).iter(|| async {
                let (read, write) = (line.as_slice(), tokio::io::sink());
                let mut transport = StdioTransport::new(read, write, CancellationToken::new());
                transport.receive().await.unwrap()
            });
        });
    }
    group.finish();
}

fn tools(c: &mut Criterion) {
    c.bench_function("tools/list: the schemas of every operation", |b| {
        b.iter(|| OPS.iter().map(|op| (op.input_schema(), op.output_schema())).collect::<Vec<_>>());
    });
}

criterion_group!(benches, broker, parse, mask, lines, tools);
criterion_main!(benches);
