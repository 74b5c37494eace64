//! Connections: bodies and heads without bounds, readers that do not read, and the end of the server.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use serde_json::json;

use super::rig::{Agent, Http, assert_refused};
use crate::common::{
    Fault, On, PATIENCE, Server, ToolResult, assert_refused as assert_tool_refused, assert_untouched,
    audit_records, http, unique, vault, wait_until,
};

fn connect(server: &Http) -> TcpStream {
    let stream = TcpStream::connect(server.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Whatever comes until the connection ends.
fn rest_of(stream: &mut TcpStream) -> String {
    let mut text = Vec::new();
    // A reset is an end as well.
    let _ = stream.read_to_end(&mut text);
    String::from_utf8_lossy(&text).into_owned()
}

#[test]
fn a_body_over_the_limit_is_refused_before_it_is_read() {
    let agent = Agent::new();
    let server = Http::start(&[&agent], &[]);
    let before = server.records().len();
    let reply = assert_untouched(&server.proxy, || {
        let mut stream = connect(&server);
        let head = format!(
            "PUT /secrets/a HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\nContent-Length: 34603008\r\n\r\n",
            agent.key
        );
        stream.write_all(head.as_bytes()).unwrap();
        rest_of(&mut stream)
    });
    assert!(reply.starts_with("HTTP/1.1 413 ") && reply.contains("too_large"), "{reply}");
    assert_eq!(server.records().len() - before, 1);
}

#[test]
fn a_chunked_body_without_end_is_cut_off() {
    let agent = Agent::new();
    let server = Http::start(&[&agent], &[]);
    let reply = assert_untouched(&server.proxy, || {
        let mut stream = connect(&server);
        let head = format!(
            "PUT /secrets/a HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
            agent.key
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut chunk = b"10000\r\n".to_vec();
        chunk.resize(7 + 0x10000, b' ');
        chunk.extend_from_slice(b"\r\n");
        // Two megabytes; the server need not take them all.
        for _ in 0..32 {
            if stream.write_all(&chunk).is_err() {
                break;
            }
        }
        rest_of(&mut stream)
    });
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 413 "), "{reply}");
    assert_eq!(server.get(&agent, "/secrets?prefix=x").status, 200);
}

#[test]
fn a_body_and_a_head_that_never_end_are_not_waited_for() {
    let agent = Agent::new();
    let server = Http::start(&[&agent], &[]);
    let mut slow_head = connect(&server);
    slow_head.write_all(b"GET /livez HTTP/1.1\r\nX-A: ").unwrap();
    let mut slow_body = connect(&server);
    let head = format!(
        "PUT /secrets/a HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\nContent-Length: 100\r\n\r\n{{",
        agent.key
    );
    slow_body.write_all(head.as_bytes()).unwrap();
    for _ in 0..100 {
        std::thread::sleep(Duration::from_millis(200));
        let (a, b) = (slow_head.write_all(b"b"), slow_body.write_all(b" "));
        if a.is_err() && b.is_err() {
            break;
        }
    }
    let reply = rest_of(&mut slow_body);
    assert!(reply.is_empty() || reply.starts_with("HTTP/1.1 408 "), "{reply}");
    rest_of(&mut slow_head);
    assert_eq!(server.get(&agent, "/secrets?prefix=x").status, 200);
}

#[test]
fn two_requests_in_one_are_no_way_around_the_credential() {
    let agent = Agent::new();
    let server = Http::start(&[&agent], &[]);
    let reply = assert_untouched(&server.proxy, || {
        let mut stream = connect(&server);
        let smuggled = "GET /secrets HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let head = format!(
            "POST /transit/random HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\nContent-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{smuggled}",
            agent.key,
            smuggled.len(),
        );
        stream.write_all(head.as_bytes()).unwrap();
        rest_of(&mut stream)
    });
    let answers: Vec<_> = reply.lines().filter(|line| line.starts_with("HTTP/1.1 ")).collect();
    assert!(
        answers.iter().all(|line| line.contains(" 400 ") || line.contains(" 401 ") || line.contains(" 405 ")),
        "{reply}"
    );
}

#[test]
fn a_call_that_runs_at_the_end_is_answered_and_recorded() {
    let agent = Agent::new();
    let mut server = Http::start(&[&agent], &[]);
    server.put(&agent, "/secrets/app", json!({"data": {"a": "b"}})).ok();
    server.proxy.fail(On::target("/data/"), Fault::Delay(Duration::from_millis(1500)));
    let url = format!("{}/secrets/app", server.url);
    let key = agent.key.clone();
    let running = std::thread::spawn(move || http::http("GET", &url, &[("X-API-Key", &key)], None));
    server.proxy.wait_for("the read", |sent| sent.method == "GET" && sent.target.contains("/data/"));
    server.server().signal(rustix::process::Signal::TERM);
    let reply = running.join().unwrap();
    assert_eq!((reply.status, &reply.body["data"]), (200, &json!({"a": "b"})), "{}", reply.text);
    assert!(server.server_mut().wait().success());
    let records = audit_records(server.home().audit_log());
    let last = records.iter().rfind(|record| record["op"] == "kv.read").unwrap();
    assert_eq!(last["action"], "SUCCESS");
    let verified = Server::launch().home(server.home()).args(["audit", "verify"]).run("");
    assert!(verified.status.success(), "{}{}", verified.stdout, verified.stderr);
}

#[test]
fn a_call_that_does_not_end_is_given_up_and_the_server_ends() {
    let agent = Agent::new();
    let mut server = Http::start(&[&agent], &[]);
    server.proxy.fail(On::target("/data/"), Fault::BlackHole);
    let url = format!("{}/secrets/app", server.url);
    let key = agent.key.clone();
    let running = std::thread::spawn(move || http::try_http("GET", &url, &[("X-API-Key", &key)], None));
    server.proxy.wait_for("the read", |sent| sent.target.contains("/data/"));
    server.server().signal(rustix::process::Signal::TERM);
    assert!(server.server_mut().wait_within(PATIENCE).success());
    drop(running.join());
}

#[test]
fn what_would_open_the_door_too_far_is_refused_at_the_start() {
    for (name, value, says) in [
        ("HOST", "0.0.0.0", "TLS_CERT"),
        ("HOST", "::", "TLS_CERT"),
        ("HOST", "example.com", "IP address"),
        ("KV_ROOT", "/", "{subject}"),
        ("KV_ROOT", "shared", "{subject}"),
        ("SERVICES_PATH", "shared", "{subject}"),
        ("PATH_NAMES", "any", "stdio only"),
        ("TLS_CERT", "/nowhere/cert.pem", "TLS_KEY"),
        ("TLS_CLIENT_CA", "/nowhere/ca.pem", "TLS_CERT"),
        ("CORS_ALLOW_ORIGINS", "*", "CORS_ALLOW_ORIGINS"),
        ("API_KEYS_JSON", "{broken", "API_KEYS_JSON"),
        ("API_KEYS_JSON", r#"{"key": "Alice"}"#, "lower-case"),
    ] {
        let run = Server::of(vault(), "x").env(name, value).args(["--http", "--port", "0"]).run("");
        assert!(!run.status.success(), "{name}={value} was taken");
        assert!(
            run.stderr.contains("config_invalid") && run.stderr.contains(says),
            "{name}={value}: {}",
            run.stderr
        );
    }
}

#[test]
fn a_port_that_is_taken_is_said_to_be() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let run = Server::of(vault(), "x").args(["--http", "--port", &port]).run("");
    assert!(!run.status.success() && run.stderr.contains("is in use"), "{}", run.stderr);
}

#[test]
fn a_caller_cannot_choose_where_vault_is_or_with_which_token() {
    let agent = Agent::new();
    let server = Http::start(&[&agent], &[]);
    let namespace = unique("ns");
    let headers = [
        ("X-API-Key", agent.key.as_str()),
        ("X-Vault-Namespace", namespace.as_str()),
        ("X-Vault-Token", "hvs.another"),
        ("VAULT_ADDR", "http://127.0.0.1:9"),
        ("X-Vault-Addr", "http://127.0.0.1:9"),
        ("VAULT_SKIP_VERIFY", "true"),
        ("VAULT_NAMESPACE", namespace.as_str()),
        ("X-Forwarded-Host", "127.0.0.1:9"),
    ];
    server.get(&agent, "/secrets?prefix=x");
    server.proxy.wait_for("the look at the token", |sent| sent.target.ends_with("lookup-self"));
    let before = server.proxy.count();
    assert_eq!(server.bare("GET", "/secrets?prefix=x", &headers, None).status, 200);
    let sent = server.proxy.requests().split_off(before);
    assert!(!sent.is_empty());
    for request in sent {
        assert_eq!(request.header("x-vault-token"), Some(vault().root.as_str()), "{}", request.line());
        assert_eq!(request.header("x-vault-namespace"), None);
    }
    for argument in ["VAULT_ADDR", "VAULT_SKIP_VERIFY", "token", "namespace", "vault_token", "address"] {
        assert_untouched(&server.proxy, || {
            let read = server.get(&agent, &format!("/secrets/app?{argument}=x"));
            assert_refused(&read, 422, "invalid_input");
            let body = json!({"data": {"A": "b"}, (argument): "x"});
            assert_refused(&server.put(&agent, "/secrets/app", body), 422, "invalid_input");
            let params = json!({"name": "kv_read", "arguments": {"path": "app", (argument): "x"}});
            let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
            let result = ToolResult(server.post(&agent, "/mcp/rpc", message).ok()["result"].clone());
            assert_tool_refused(&result, "invalid_input");
        });
    }
}

/// Many connections that say nothing do not keep others out.
#[test]
fn idle_connections_keep_nobody_out() {
    let agent = Agent::new();
    let server = Http::start(&[&agent], &[]);
    let idle: Vec<_> = (0..300).map(|_| connect(&server)).collect();
    let start = Instant::now();
    assert_eq!(server.get(&agent, "/secrets?prefix=x").status, 200);
    assert!(start.elapsed() < PATIENCE);
    drop(idle);
    wait_until("an answer after them", PATIENCE, || {
        (server.get(&agent, "/secrets?prefix=x").status == 200).then_some(())
    });
}
