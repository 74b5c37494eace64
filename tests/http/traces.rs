//! Traces: one for each request, under the caller's own where they have one, told of to Vault, and silent about
//! paths, values and credentials.

use std::{net::TcpListener, time::Duration};

use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use serde_json::{Value, json};

use super::{
    collector::{Collector, Span},
    rig::{Agent, Http},
};
use crate::common::{canary, vault};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

fn traced(agents: &[&Agent], collector: &Collector) -> Http {
    // Spans wait for at most this long before they are sent.
    let settings =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "100")];
    Http::start(agents, &settings)
}

fn with<'a>(agent: &'a Agent, parent: &'a str) -> [(&'a str, &'a str); 2] {
    [("X-API-Key", &agent.key), ("traceparent", parent)]
}

#[track_caller]
fn only<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let found: Vec<_> = spans.iter().filter(|span| span.name == name).collect();
    assert_eq!(found.len(), 1, "{name} among {:?}", spans.iter().map(|span| &span.name).collect::<Vec<_>>());
    found[0]
}

#[test]
fn a_request_is_a_trace_of_its_steps_under_the_caller_s_own_span_and_vault_is_told_its_part() {
    let agent = Agent::new();
    let collector = Collector::start();
    let http = traced(&[&agent], &collector);
    vault().write_secret(&agent.subject, "a/b", json!({"k": canary("traced")}));
    let reply = http.bare("GET", "/secrets/a/b", &with(&agent, PARENT), None);
    assert_eq!((reply.status, reply.header("x-trace-id")), (200, Some(TRACE)));

    let spans = collector.trace(TRACE, "GET /secrets/{path}");
    let request = only(&spans, "GET /secrets/{path}");
    assert_eq!(
        (request.parent.as_str(), request.kind, request.failed),
        ("00f067aa0ba902b7", SpanKind::Server, false)
    );
    assert_eq!(request.service, "vault-mcp");
    for (name, value) in [
        ("http.route", "/secrets/{path}"),
        ("http.request.method", "GET"),
        ("http.response.status_code", "200"),
        ("subject", &agent.subject),
        ("request_id", reply.header("x-request-id").unwrap()),
        ("correlation_id", reply.header("x-correlation-id").unwrap()),
    ] {
        assert_eq!(request.attributes.get(name).map(String::as_str), Some(value), "{name}");
    }
    let operation = only(&spans, "kv.read");
    assert_eq!(
        (operation.parent.as_str(), operation.attributes["front"].as_str()),
        (request.id.as_str(), "rest")
    );
    let run = only(&spans, "run");
    assert_eq!(run.parent, operation.id);
    assert_eq!(spans.iter().filter(|span| span.name == "record" && span.parent == operation.id).count(), 2);
    let asked: Vec<_> = spans.iter().filter(|span| span.name == "vault GET secret").collect();
    assert!(
        !asked.is_empty() && asked.iter().all(|span| span.parent == run.id && span.kind == SpanKind::Client)
    );

    let sent = http.proxy.requests();
    let read = sent.iter().find(|sent| sent.target.contains("/secret/data/")).unwrap();
    let told = read.header("traceparent").expect("Vault is told");
    assert!(asked.iter().any(|span| told == format!("00-{TRACE}-{}-01", span.id)), "{told}");
    assert!(read.header("tracestate").is_none() && read.header("baggage").is_none());
    assert!(spans.iter().all(|span| span.events == 0));
}

/// `tools/call` as one message with one answer.
fn rpc(http: &Http, headers: &[(&str, &str)], tool: &str, arguments: &Value) -> Value {
    let params = json!({"name": tool, "arguments": arguments});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
    let mut all = vec![("Content-Type", "application/json"), ("MCP-Protocol-Version", "2025-06-18")];
    all.extend_from_slice(headers);
    http.bare("POST", "/mcp/rpc", &all, Some(&body)).ok()
}

#[test]
fn a_call_of_mcp_belongs_to_the_request_that_brought_it_although_another_task_carries_it_out() {
    let agent = Agent::new();
    let collector = Collector::start();
    let http = traced(&[&agent], &collector);
    vault().write_secret(&agent.subject, "a", json!({"k": canary("rpc")}));
    let answer = rpc(&http, &with(&agent, PARENT), "kv_read", &json!({"path": "a"}));
    assert_ne!(answer["result"]["isError"], true, "{answer}");
    let spans = collector.trace(TRACE, "POST /mcp/rpc");
    let request = only(&spans, "POST /mcp/rpc");
    let message = only(&spans, "message");
    assert_eq!((message.parent.as_str(), request.parent.as_str()), (request.id.as_str(), "00f067aa0ba902b7"));
    assert_eq!(message.attributes["request_id"], request.attributes["request_id"]);
    let operation = only(&spans, "kv.read");
    assert_eq!((&operation.parent, operation.attributes["front"].as_str()), (&message.id, "mcp-http"));
    let sent = http.proxy.requests();
    let read = sent.iter().find(|sent| sent.target.contains("/secret/data/")).unwrap();
    assert!(read.header("traceparent").is_some_and(|told| told.contains(TRACE)));
}

#[test]
fn a_refusal_is_told_by_its_code() {
    let agent = Agent::new();
    let collector = Collector::start();
    let http = traced(&[&agent], &collector);
    http.bare("GET", "/secrets/missing", &with(&agent, PARENT), None);
    let spans = collector.trace(TRACE, "GET /secrets/{path}");
    let operation = only(&spans, "kv.read");
    assert!(operation.failed && operation.attributes["error.type"] == "invalid_path", "{operation:?}");
    // A secret that is not there is the caller's affair, not the server's fault.
    assert!(!only(&spans, "GET /secrets/{path}").failed);
}

#[test]
fn a_parent_that_is_none_is_not_taken_and_one_that_is_not_traced_is_not_traced_here() {
    let agent = Agent::new();
    let collector = Collector::start();
    let http = traced(&[&agent], &collector);
    let long = format!("{PARENT}-{}", "x".repeat(4000));
    for parent in ["x", "00-00000000000000000000000000000000-00f067aa0ba902b7-01", "00-xyz", &long] {
        let reply = http.bare("GET", "/whoami", &with(&agent, parent), None);
        let id = reply.header("x-trace-id").unwrap_or_else(|| panic!("{parent} hides the request"));
        assert!(id.len() == 32 && id != TRACE && !id.starts_with("0000000000"), "{id}");
    }
    let twice = [("X-API-Key", agent.key.as_str()), ("traceparent", PARENT), ("traceparent", PARENT)];
    assert_ne!(http.bare("GET", "/whoami", &twice, None).header("x-trace-id"), Some(TRACE));
    let quiet = PARENT.replace("-01", "-00");
    assert_eq!(http.bare("GET", "/whoami", &with(&agent, &quiet), None).header("x-trace-id"), None);
}

#[test]
fn without_a_collector_nobody_is_traced_and_vault_is_told_nothing() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let reply = http.bare("GET", "/secrets/a", &with(&agent, PARENT), None);
    assert_eq!(reply.header("x-trace-id"), None);
    assert!(http.proxy.requests().iter().all(|sent| sent.header("traceparent").is_none()));
}

#[test]
fn what_is_left_is_sent_at_the_end() {
    let agent = Agent::new();
    let collector = Collector::start();
    let settings =
        [("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "3600000")];
    let mut http = Http::start(&[&agent], &settings);
    let reply = http.get(&agent, "/whoami");
    assert!(collector.spans().is_empty());
    http.server().signal(rustix::process::Signal::TERM);
    assert!(http.server_mut().wait().success());
    collector.trace(reply.header("x-trace-id").unwrap(), "GET /whoami");
}

#[test]
fn a_collector_that_never_answers_holds_nobody_up_and_not_the_end_either() {
    let agent = Agent::new();
    // Connections are taken by the system, and nobody reads from them.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    let settings = [("OTEL_EXPORTER_OTLP_ENDPOINT", url.as_str()), ("OTEL_BSP_SCHEDULE_DELAY", "10")];
    let mut http = Http::start(&[&agent], &settings);
    for _ in 0..50 {
        http.get(&agent, "/whoami").ok();
    }
    http.server().signal(rustix::process::Signal::TERM);
    assert!(http.server_mut().wait_within(Duration::from_secs(20)).success());
}

#[test]
fn a_collector_s_address_with_a_credential_is_refused_and_not_repeated() {
    let secret = canary("collector");
    for address in [format!("http://user:{secret}@127.0.0.1:4318"), format!("ftp://{secret}"), secret] {
        let launch = crate::common::Server::launch().args(["--http", "--port", "0"]);
        let run = launch.env("OTEL_EXPORTER_OTLP_ENDPOINT", &address).run("");
        assert!(!run.status.success());
        assert!(
            run.stderr.contains("config_invalid") && run.stderr.contains("OTEL_EXPORTER_OTLP_ENDPOINT"),
            "{}",
            run.stderr
        );
        crate::common::assert_no_canary(&run.stderr, "standard error");
    }
}
