//! What watches the server: probes, metrics, traces, logs; and that none of it tells a secret, or one agent of
//! another.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};

use super::{
    child_tokens,
    confirm::attended,
    rig::{Agent, Http, assert_ids},
};
use crate::common::{
    Fault, Gate, On, PATIENCE, Proxy, Reply, Server, Terminal, assert_no_canary, canary, unique, vault,
    wait_until,
};

/// A server whose every look at its token meets this.
fn behind(fault: Fault) -> Http {
    let http = Http::start(&[], &[]);
    http.proxy.fail(On::target("lookup-self"), fault);
    http
}

fn readyz(http: &Http) -> Reply {
    http.bare("GET", "/readyz", &[], None)
}

/// An answer without its clock, which must be there.
fn timeless(reply: &Reply) -> Value {
    let mut body = reply.body.clone();
    let time = body.as_object_mut().unwrap().remove("time").expect("a time");
    assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
    body
}

#[test]
fn probes_answer_anybody_in_the_words_that_clients_compare_with() {
    let http = Http::start(&[], &[]);
    let health = http.bare("GET", "/healthz", &[], None);
    assert_eq!((health.status, timeless(&health)), (200, json!({"ok": true})));
    let live = http.bare("GET", "/livez", &[], None);
    assert_eq!((live.status, live.body.clone()), (200, json!({"ok": true})));
    let ready = readyz(&http);
    let parts = json!({"ok": true, "vault": {"ok": true, "detail": "ready"}, "kms": {"ok": true, "detail": "disabled"}});
    assert_eq!((ready.status, timeless(&ready)), (200, parts));
    for reply in [&health, &live, &ready] {
        assert_ids(reply);
        assert_eq!(reply.header("cache-control"), Some("no-store"));
    }
}

#[test]
fn a_server_that_cannot_work_says_so_with_the_reason_and_without_an_address() {
    let sealed = json!({"errors": ["Vault is sealed"]}).to_string();
    let stale = json!({"errors": ["permission denied", "invalid token"]}).to_string();
    for (fault, detail) in [
        (Fault::Answer(503, sealed), "Vault sealed"),
        (Fault::Answer(403, stale), "Vault token unauthenticated"),
        (Fault::Redirect("http://127.0.0.1:1/v1/x".into()), "Vault standby"),
        (Fault::RetryAfter("7"), "Vault rate limited"),
        (Fault::ResetBefore, "Vault unreachable"),
        (Fault::Page(404), "Vault failure"),
        (Fault::Status(500), "Vault failure"),
        (Fault::BlackHole, "Vault did not answer in time"),
    ] {
        let http = behind(fault.clone());
        let reply = readyz(&http);
        let parts = json!({"ok": false, "vault": {"ok": false, "detail": detail}, "kms": {"ok": true, "detail": "disabled"}});
        assert_eq!((reply.status, timeless(&reply)), (503, parts), "{fault:?}");
        assert!(!reply.text.contains("127.0.0.1") && !reply.text.contains(&vault().root), "{}", reply.text);
        assert_eq!(http.bare("GET", "/healthz", &[], None).status, 200);
        assert!(metrics(&http).contains("vault_mcp_ready 0"));
    }
}

#[test]
fn a_server_without_a_token_says_so() {
    let proxy = Proxy::new(vault());
    let launch = Server::launch().env("VAULT_ADDR", &proxy.address);
    let http = Http::of(launch, proxy);
    assert_eq!(readyz(&http).body["vault"], json!({"ok": false, "detail": "Vault token unauthenticated"}));
}

#[test]
fn a_server_that_could_not_record_a_call_is_not_ready() {
    let http = Http::start(&[], &[]);
    let log = http.home().audit_log();
    std::fs::rename(&log, log.with_extension("away")).unwrap();
    std::os::unix::fs::symlink("/dev/null", &log).unwrap();
    let reply = readyz(&http);
    assert_eq!(
        (reply.status, &reply.body["audit"]["ok"], &reply.body["vault"]["ok"]),
        (503, &json!(false), &json!(true))
    );
    assert!(!reply.text.contains("jsonl"), "{}", reply.text);
    std::fs::remove_file(log).unwrap();
}

#[test]
fn kms_is_ready_where_there_are_credentials_to_sign_with() {
    let on =
        [("AWS_KMS_ENABLED", "true"), ("AWS_REGION", "eu-central-1"), ("AWS_EC2_METADATA_DISABLED", "true")];
    let without = readyz(&Http::start(&[], &on));
    assert_eq!(
        (without.status, &without.body["kms"]),
        (503, &json!({"ok": false, "detail": "AWS credentials missing"}))
    );
    let secret = canary("aws");
    let keys = [("AWS_ACCESS_KEY_ID", "AKIAEXAMPLE"), ("AWS_SECRET_ACCESS_KEY", secret.as_str())];
    let with = readyz(&Http::start(&[], &[&on[..], &keys[..]].concat()));
    assert_eq!((with.status, &with.body["kms"]), (200, &json!({"ok": true, "detail": "ready"})));
}

#[test]
fn a_flood_of_probes_is_a_few_looks_at_vault_even_when_nobody_waits_for_the_answer() {
    let http = Http::start(&[], &[]);
    let gate = Gate::new();
    http.proxy.fail(On::target("lookup-self"), Fault::HoldAfter(gate.clone()));
    let looks = || http.proxy.requests().iter().filter(|sent| sent.target.contains("lookup-self")).count();
    let address = http.url.trim_start_matches("http://").to_owned();
    // Each leaves at once, as the first look is still on its way.
    for _ in 0..50 {
        use std::io::Write as _;
        let mut probe = std::net::TcpStream::connect(&address).unwrap();
        probe.write_all(b"GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    }
    let url = format!("{}/readyz", http.url);
    let probe = |url: &str| crate::common::http::http("GET", url, &[], None).status;
    std::thread::scope(|scope| {
        let waiting: Vec<_> = (0..20).map(|_| scope.spawn(|| probe(&url))).collect();
        std::thread::sleep(Duration::from_millis(300));
        gate.open();
        for probe in waiting {
            assert_eq!(probe.join().unwrap(), 200);
        }
    });
    // One for the flood; the token's own watch looks once, too; and on a machine that crawls, one more.
    assert!((1..=3).contains(&looks()), "{} looks", looks());
}

#[test]
fn a_caller_learns_who_they_are_and_what_arrives_of_their_headers() {
    let agent = Agent::with_scopes(&["read", "list"]);
    let http = Http::start(&[&agent], &[]);
    let prefix = format!("mcp/{}", agent.subject);
    let whoami = json!({"subject": agent.subject, "scopes": ["read", "list"], "vault_path_prefix": prefix});
    assert_eq!(http.get(&agent, "/whoami").ok(), whoami);
    let secret = canary("header");
    let names = [
        "Authorization-X",
        "Cookie",
        "X-Vault-Token",
        "X-SSL-Client-S-DN",
        "X-SSL-Client-Verify",
        "X-Amz-Security-Token",
        "Proxy-Authorization",
        "X-Auth",
        "Referer",
        "X-Anything",
    ];
    let mut headers = vec![("X-API-Key", agent.key.as_str()), ("Accept", "application/json"), ("X-Two", "a")];
    headers.extend(names.iter().map(|name| (*name, secret.as_str())));
    let reply = http.bare("GET", "/echo-headers", &headers, None);
    assert_no_canary(&reply.text, "an echo");
    assert!(!reply.text.contains(&agent.key), "{}", reply.text);
    let echo = reply.ok();
    assert_eq!(
        (&echo["accept"], &echo["x-api-key"], &echo["x-two"]),
        (&json!("application/json"), &json!("[redacted]"), &json!("[redacted]"))
    );
    for name in names {
        assert_eq!(echo[name.to_lowercase()], "[redacted]", "{name}");
    }
    for path in ["/whoami", "/echo-headers"] {
        assert_eq!(http.bare("GET", path, &[], None).body, json!({"detail": "Unauthorized"}));
    }
}

pub(crate) fn metrics(http: &Http) -> String {
    let reply = http.bare("GET", "/metrics", &[], None);
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("text/plain; version=0.0.4; charset=utf-8"));
    reply.text
}

/// The page's samples: name and labels as written → value.
fn samples(page: &str) -> BTreeMap<String, f64> {
    let lines = page.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
    lines
        .map(|line| line.rsplit_once(' ').unwrap())
        .map(|(name, value)| (name.to_owned(), value.parse().unwrap()))
        .collect()
}

#[test]
fn what_happened_is_counted_under_the_route_of_the_table() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    http.put(&agent, "/secrets/a/b", json!({"data": {"k": "v"}})).ok();
    http.get(&agent, "/secrets/a/b").ok();
    http.get(&agent, "/secrets/a/b").ok();
    http.get(&agent, "/secrets/missing");
    http.get(&agent, "/secrets?prefix=a").ok();
    http.post(&agent, "/secrets/a/b:undelete", json!({"versions": [1]})).ok();
    http.post(&agent, "/secrets/a/b:undelete", json!({"versions": "x"}));
    http.bare("GET", "/secrets/a/b", &[("X-Correlation-Id", "mine")], None);
    http.get(&agent, "/no/such/route");
    http.bare("BREW", "/secrets/a", &[("X-API-Key", &agent.key)], None);
    let page = metrics(&http);
    let samples = samples(&page);
    for (sample, count) in [
        (r#"http_requests_total{method="PUT",route="/secrets/{path}",status="200"}"#, 1.0),
        (r#"http_requests_total{method="GET",route="/secrets/{path}",status="200"}"#, 2.0),
        (r#"http_requests_total{method="GET",route="/secrets/{path}",status="404"}"#, 1.0),
        (r#"http_requests_total{method="GET",route="/secrets",status="200"}"#, 1.0),
        (r#"http_requests_total{method="POST",route="/secrets/{path}:undelete",status="200"}"#, 1.0),
        (r#"http_requests_total{method="POST",route="/secrets/{path}:undelete",status="422"}"#, 1.0),
        (r#"http_requests_total{method="GET",route="/secrets/{path}",status="401"}"#, 1.0),
        (r#"http_requests_total{method="GET",route="other",status="404"}"#, 1.0),
        (r#"http_requests_total{method="other",route="other",status="405"}"#, 1.0),
        (r#"http_request_duration_seconds_count{method="GET",route="/secrets/{path}",status="200"}"#, 2.0),
        ("http_requests_with_correlation_id_total", 1.0),
        ("http_requests_in_flight", 1.0),
        (r#"vault_mcp_operations_total{operation="kv.read",outcome="success"}"#, 2.0),
        (r#"vault_mcp_operations_total{operation="kv.read",outcome="failed"}"#, 1.0),
        (r#"vault_mcp_operations_total{operation="kv.undelete",outcome="invalid"}"#, 1.0),
        (r#"vault_mcp_operation_duration_seconds_count{operation="kv.read"}"#, 3.0),
        (r#"vault_mcp_errors_total{code="invalid_path"}"#, 1.0),
        ("vault_mcp_rate_limited_total", 0.0),
        ("vault_mcp_ready", 1.0),
    ] {
        assert_eq!(samples.get(sample), Some(&count), "{sample} in\n{page}");
    }
    let asked = samples[r#"vault_mcp_vault_request_duration_seconds_count{method="GET",outcome="2xx"}"#];
    assert!(asked >= 2.0, "{asked}");
    assert!(samples["process_resident_memory_bytes"] > 1e6);
}

#[test]
fn a_refusal_for_its_rate_is_counted_and_so_is_a_question_that_nobody_was_there_for() {
    let (often, asking) = (Agent::new(), Agent::new());
    let settings = [("RATE_LIMIT_ENABLED", "true"), ("RATE_LIMIT_REQUESTS", "2"), ("CONFIRM_REST", "true")];
    let http = Http::start(&[&often, &asking], &settings);
    let statuses: Vec<_> = (0..3).map(|_| http.get(&often, "/secrets").status).collect();
    assert_eq!(statuses, [200, 200, 429]);
    assert_eq!(http.put(&asking, "/secrets/a", json!({"data": {"k": "v"}})).status, 503);
    let page = metrics(&http);
    let samples = samples(&page);
    for (sample, count) in [
        ("vault_mcp_rate_limited_total", 1.0),
        (r#"vault_mcp_operations_total{operation="kv.list",outcome="refused"}"#, 1.0),
        (r#"vault_mcp_operations_total{operation="kv.write",outcome="asked"}"#, 1.0),
        (r#"vault_mcp_approvals_total{channel="approver",outcome="nobody_to_ask"}"#, 1.0),
        ("vault_mcp_approvals_pending", 0.0),
    ] {
        assert_eq!(samples.get(sample), Some(&count), "{sample} in\n{page}");
    }
}

#[test]
fn a_question_is_counted_while_it_waits_and_by_its_answer() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[("CONFIRM_REST", "true")]);
    let mut terminal = attended(&http);
    assert_eq!(http.put(&agent, "/secrets/a", json!({"data": {"k": "v"}})).status, 202);
    terminal.wait_for("CREATE");
    let count = |name: &str| samples(&metrics(&http)).get(name).copied();
    assert_eq!(count("vault_mcp_approvals_pending"), Some(1.0));
    terminal.type_line("yes");
    let confirmed = r#"vault_mcp_approvals_total{channel="approver",outcome="confirmed"}"#;
    wait_until("the answer", PATIENCE, || (count(confirmed) == Some(1.0)).then_some(()));
    assert_eq!(count("vault_mcp_approvals_pending"), Some(0.0));
}

#[test]
fn sessions_of_mcp_are_counted_while_they_are_open() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let client = json!({"name": "a-client", "version": "1"});
    let params = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": client});
    let begin = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": params}).to_string();
    let headers = [
        ("X-API-Key", agent.key.as_str()),
        ("Content-Type", "application/json"),
        ("Accept", "application/json, text/event-stream"),
    ];
    let reply = http.bare("POST", "/mcp", &headers, Some(&begin));
    let session = reply.header("mcp-session-id").expect("a session").to_owned();
    let count = || samples(&metrics(&http))["vault_mcp_mcp_sessions"];
    assert_eq!(count(), 1.0);
    let named = [("X-API-Key", agent.key.as_str()), ("Mcp-Session-Id", &session)];
    assert_eq!(http.bare("DELETE", "/mcp", &named, None).status, 202);
    wait_until("the session's end", PATIENCE, || (count() == 0.0).then_some(()));
}

#[test]
fn tokens_of_subjects_are_counted_by_what_became_of_them() {
    let (agent, other) = (Agent::new(), Agent::new());
    let http = child_tokens::start(&[&agent, &other], &[]);
    http.get(&agent, "/secrets").ok();
    http.get(&agent, "/secrets").ok();
    http.proxy.fail(On::target("auth/token/create"), Fault::Status(500));
    assert_eq!(http.get(&other, "/secrets").status, 502);
    let samples = samples(&metrics(&http));
    let count =
        |outcome: &str| samples.get(&format!(r#"vault_mcp_child_tokens_total{{outcome="{outcome}"}}"#));
    assert_eq!((count("issued"), count("failed"), count("revoked")), (Some(&1.0), Some(&1.0), None));
}

#[test]
fn no_caller_can_make_a_series_or_be_recognised_in_one() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let secret = canary("series");
    let call = |round: usize| {
        let word = format!("{round}{}", unique("madeup"));
        http.put(&agent, &format!("/secrets/{word}"), json!({"data": {(word.clone()): secret}}));
        http.get(&agent, &format!("/secrets/{word}/x"));
        http.get(&agent, &format!("/{word}"));
        http.get(&agent, &format!("/secrets?{word}=1"));
        http.post(&agent, &format!("/db/creds/{word}"), json!({}));
        http.post(&agent, &format!("/transit/{word}"), json!({(word.clone()): word}));
        let method = format!("M{round}");
        http.bare(
            &method,
            &format!("/secrets/{word}"),
            &[("X-API-Key", &agent.key), ("X-Correlation-Id", &word)],
            None,
        );
        http.bare("GET", "/secrets", &[("X-API-Key", &word), ("User-Agent", &word)], None);
    };
    call(0);
    let series = |page: &str| samples(page).into_keys().collect::<Vec<_>>();
    // The first scrape is counted in the second.
    metrics(&http);
    let before = series(&metrics(&http));
    (1..5).for_each(call);
    let page = metrics(&http);
    assert_eq!(series(&page), before);
    assert_no_canary(&page, "the metrics");
    for known in ["madeup", &agent.subject, &agent.key, &vault().root] {
        assert!(!page.contains(known), "{known} stands in\n{page}");
    }
}

#[test]
fn a_caller_that_leaves_before_the_answer_is_counted_once_and_is_in_flight_no_more() {
    use std::io::Write as _;
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    http.proxy.fail(On::target("secret/data"), Fault::BlackHole);
    let mut leaving = std::net::TcpStream::connect(http.url.trim_start_matches("http://")).unwrap();
    let request = format!("GET /secrets/a HTTP/1.1\r\nHost: x\r\nX-API-Key: {}\r\n\r\n", agent.key);
    leaving.write_all(request.as_bytes()).unwrap();
    let count = |name: &str| samples(&metrics(&http)).get(name).copied();
    // Itself and the one that waits for Vault.
    wait_until("two in flight", PATIENCE, || (count("http_requests_in_flight") == Some(2.0)).then_some(()));
    drop(leaving);
    let left = r#"http_requests_total{method="GET",route="/secrets/{path}",status="499"}"#;
    wait_until("the one that left", PATIENCE, || (count(left) == Some(1.0)).then_some(()));
    assert_eq!(count("http_requests_in_flight"), Some(1.0));
    // Its call goes on until Vault has had its time.
    let unanswered = r#"vault_mcp_vault_request_duration_seconds_count{method="GET",outcome="none"}"#;
    wait_until("the end of the request to Vault", PATIENCE, || {
        (count(unanswered) >= Some(1.0)).then_some(())
    });
}
