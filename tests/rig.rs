//! The rig itself: what the other tests rely on to notice a fault would else go unnoticed when it breaks.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use std::time::Duration;

use common::{
    Answer, CANARY, Era, Fault, Kind, On, Proxy, Server, Terminal, ToolResult, Vault, assert_no_canary,
    assert_refused, assert_untouched, canary, records_of, vault, wait_until,
};
use serde_json::json;

fn get(proxy: &Proxy, path: &str) -> Result<common::Reply, String> {
    let url = format!("{}/v1/{path}", proxy.address);
    common::http::try_http("GET", &url, &[("X-Vault-Token", &vault().root)], None)
        .map_err(|error| error.to_string())
}

#[test]
fn a_secret_is_found_in_every_shape() {
    use base64::{Engine as _, engine::general_purpose::STANDARD};
    let secret = canary("shape");
    let shapes = [
        secret.clone(),
        secret.to_uppercase(),
        STANDARD.encode(&secret),
        hex::encode(&secret),
        secret.chars().rev().collect(),
    ];
    for shape in shapes {
        let text = format!("{} {shape} {}", "ä".repeat(300), "ö".repeat(300));
        assert!(
            std::panic::catch_unwind(|| assert_no_canary(text, "a test")).is_err(),
            "{shape} went unnoticed"
        );
    }
    assert_no_canary("nothing of the kind", "a test");
    assert_eq!(CANARY.len() % 3, 0);
}

#[test]
fn the_vault_keeps_what_it_is_given() {
    let vault = vault();
    let subject = vault.fresh_subject();
    assert_eq!(vault.version(&subject, "a/b"), 0);
    // 2^53 - 1: Vault itself rounds what lies above to a double.
    assert_eq!(vault.write_secret(&subject, "a/b", json!({"n": 9_007_199_254_740_991_u64})), 1);
    assert_eq!(vault.write_secret(&subject, "a/b", json!({"n": "2"})), 2);
    assert_eq!(vault.secret(&subject, "a/b"), json!({"n": "2"}));
    assert_eq!(vault.version(&subject, "a/b"), 2);
    assert_eq!(vault.list(&format!("secret/metadata/mcp/{subject}")).body["data"]["keys"], json!(["a/"]));
    let first = vault.secret_version(&subject, "a/b", 1);
    assert_eq!(first["n"].to_string(), "9007199254740991");
    vault.delete(&format!("secret/data/mcp/{subject}/a/b")).ok();
    assert!(vault.secret(&subject, "a/b").is_null());
}

#[test]
fn a_narrow_token_is_narrow() {
    let vault = vault();
    let (mine, other) = (vault.fresh_subject(), vault.fresh_subject());
    let token = vault.token_for(&mine);
    let write = |subject: &str| {
        let path = format!("secret/data/mcp/{subject}/x");
        vault.call_as(&token, "POST", &path, Some(&json!({"data": {"a": "b"}}))).status
    };
    assert_eq!((write(&mine), write(&other)), (200, 403));
}

#[test]
fn a_vault_of_ones_own_can_be_killed() {
    let mut own = Vault::own();
    assert_eq!(own.get("auth/token/lookup-self").status, 200);
    own.kill();
    assert!(common::http::try_http("GET", &own.url("sys/health"), &[], None).is_err());
    assert!(own.kind == Kind::Embedded || std::env::var_os("VAULT_MCP_TEST_VAULT").is_some());
}

#[test]
fn the_proxy_keeps_the_target_byte_for_byte() {
    let vault = vault();
    let subject = vault.fresh_subject();
    vault.write_secret(&subject, "x", json!({"a": "b"}));
    let proxy = Proxy::new(vault);
    let path = format!("secret/data/mcp/{subject}/x?version=1");
    let reply = get(&proxy, &path).unwrap();
    assert_eq!((reply.status, &reply.body["data"]["data"]), (200, &json!({"a": "b"})));
    let sent = proxy.requests();
    assert_eq!(sent.len(), 1);
    assert_eq!(sent[0].line(), format!("GET /v1/{path}"));
    assert_eq!(sent[0].header("x-vault-token"), Some(vault.root.as_str()));
    assert!(!sent[0].is_write() && sent[0].is_data());
    assert_untouched(&proxy, || ());
    let noticed = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        assert_untouched(&proxy, || get(&proxy, "sys/health").unwrap());
    }));
    assert!(noticed.is_err(), "a request went unnoticed");
}

#[test]
fn the_proxy_breaks_what_it_is_told_to_break() {
    let proxy = Proxy::new(vault());
    let health = || get(&proxy, "sys/health");
    proxy.fail(On::nth(2), Fault::Status(503));
    let statuses: Vec<_> = (0..3).map(|_| health().unwrap().status).collect();
    assert_eq!(statuses, [200, 503, 200]);

    proxy.fail(On::nth(1), Fault::RetryAfter("7"));
    let reply = health().unwrap();
    assert_eq!((reply.status, reply.header("retry-after")), (429, Some("7")));

    proxy.fail(On::nth(1), Fault::Redirect("http://127.0.0.1:1/v1/x".into()));
    assert_eq!(health().unwrap().status, 307);

    for fault in [Fault::ResetBefore, Fault::ResetAfter, Fault::NotHttp, Fault::Truncated] {
        // `ureq` tries a reset GET again by itself: all of them must fail.
        proxy.heal().fail(On::every(), fault.clone());
        let error = health().expect_err("a broken answer came through");
        if matches!(fault, Fault::ResetBefore | Fault::ResetAfter) {
            assert!(error.to_lowercase().contains("reset"), "{fault:?} gave {error}");
        }
    }
    proxy.heal().fail(On::nth(1), Fault::NotJson);
    assert!(health().unwrap().body.is_null());

    proxy.fail(On::nth(1), Fault::Huge(1 << 20));
    assert_eq!(health().unwrap().body["data"]["data"]["x"].as_str().unwrap().len(), (1 << 20) - 4);

    proxy.fail(On::nth(1), Fault::Delay(Duration::from_millis(300)));
    let start = std::time::Instant::now();
    health().unwrap();
    assert!(start.elapsed() >= Duration::from_millis(300));

    proxy.fail(On::target("sys/health"), Fault::BlackHole);
    let before = proxy.count();
    let url = format!("{}/v1/sys/health", proxy.address);
    std::thread::spawn(move || common::http::try_http("GET", &url, &[], None));
    wait_until("the swallowed request", common::PATIENCE, || (proxy.count() > before).then_some(()));
}

#[test]
fn a_reset_after_the_request_leaves_its_effect() {
    let vault = vault();
    let proxy = Proxy::new(vault);
    let write = |name: &str| {
        let url = format!("{}/v1/secret/data/mcp/{name}/x", proxy.address);
        let token = [("X-Vault-Token", vault.root.as_str())];
        common::http::try_http("POST", &url, &token, Some(r#"{"data":{"a":"b"}}"#))
    };
    let (before, after) = (vault.fresh_subject(), vault.fresh_subject());
    proxy.fail(On::writes().times(1), Fault::ResetBefore);
    assert!(write(&before).is_err());
    proxy.fail(On::writes().times(1), Fault::ResetAfter);
    assert!(write(&after).is_err());
    assert_eq!((vault.version(&before, "x"), vault.version(&after, "x")), (0, 1));
    assert_eq!(proxy.writes().len(), 2);
}

#[test]
fn a_terminal_outside_is_no_descendant_and_one_inside_is() {
    // What runs in them does not matter here, only where; the program ends at once or waits for its input.
    let launch = common::Server::launch();
    let mut inside = common::Terminal::inside(&launch);
    assert!(ancestors(inside.id()).contains(&std::process::id()));
    inside.type_text("\u{4}");
    if common::Terminal::can_stand_outside() {
        let outside = common::Terminal::outside(&launch);
        assert!(!ancestors(outside.id()).contains(&std::process::id()));
    }
}

/// The process and those that it descends from.
fn ancestors(id: u32) -> Vec<u32> {
    let parent = |id: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{id}/status")).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("PPid:"))?;
        line.trim().parse().ok().filter(|parent| *parent != 0)
    };
    std::iter::successors(Some(id), parent).collect()
}

#[test]
fn a_vault_behind_tls_speaks_tls() {
    use std::io::{Read as _, Write as _};
    let Some((vault, authority)) = Vault::with_tls() else { return };
    assert!(std::fs::read_to_string(authority).unwrap().contains("BEGIN CERTIFICATE"));
    let mut plain = std::net::TcpStream::connect(vault.address.trim_start_matches("https://")).unwrap();
    plain.write_all(b"GET /v1/sys/health HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = String::new();
    let _ = plain.read_to_string(&mut answer);
    assert!(answer.contains("HTTP request to an HTTPS server"), "{answer:?}");
}

#[test]
fn the_client_speaks_both_eras_and_the_human_is_heard() {
    let vault = vault();
    for era in [Era::handshake("2025-06-18").with(json!({"elicitation": {}})), Era::usual(), Era::stateless()]
    {
        let subject = vault.fresh_subject();
        let client = Server::of(vault, &subject).spawn().connect(era.clone());
        assert!(client.tools().len() > 10, "{era:?}");

        client.answers([Answer::yes(), Answer::Decline, Answer::Cancel, Answer::typed("no")]);
        let write = || client.call("kv_write", json!({"path": "x", "data": {"k": canary("rig")}}));
        assert_eq!(write().ok()["version"], 1, "{era:?}");
        assert_refused(&write(), "declined");
        assert_refused(&write(), "cancelled");
        assert_refused(&write(), "not_confirmed");
        assert_eq!(vault.version(&subject, "x"), 1);
        assert_eq!(client.asked().len(), 4);
        assert!(client.strays().is_empty(), "{:?}", client.strays());

        let records = records_of(client.server().home().audit_log(), "kv.write");
        assert!(records.iter().any(|record| record["action"] == "CONFIRMED"), "{records:?}");
        assert!(client.close().success());
    }
}

#[test]
fn an_approver_outside_is_heard_and_one_inside_is_not() {
    let vault = vault();
    let subject = vault.fresh_subject();
    let client = Server::of(vault, &subject).spawn().connect(Era::mute());
    let write = || client.start_call("kv_write", json!({"path": "x", "data": {"k": "v"}}));
    let approve = || Server::launch().home(client.server().home()).arg("approve");

    let inside = Terminal::inside(&approve());
    inside.wait_for_any(&["refus", "Refus"]);
    assert_refused(&ToolResult(write().wait().unwrap()), "nobody_to_ask");
    drop(inside);

    if Terminal::can_stand_outside() {
        let mut outside = Terminal::outside(&approve());
        outside.wait_for("Attached");
        let pending = write();
        outside.wait_for("CREATE");
        outside.type_line("yes");
        assert_eq!(ToolResult(pending.wait().unwrap()).ok()["version"], 1);
        assert_eq!(vault.secret(&subject, "x"), json!({"k": "v"}));
    }
}
