//! REST: every route of the table, checked in Vault behind the product's back; and paths that try to leave
//! their tree.

use serde_json::json;

use super::rig::{Agent, Http, assert_refused};
use crate::common::{assert_untouched, canary, vault};

#[test]
fn a_secret_is_written_read_listed_deleted_and_brought_back() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let written = http.put(&agent, "/secrets/configs/demo", json!({"data": {"foo": "bar"}})).ok();
    assert_eq!(written["version"], 1);
    assert!(written["created_time"].is_string() && written.get("data").is_none(), "{written}");
    assert_eq!(vault().secret(&agent.subject, "configs/demo"), json!({"foo": "bar"}));
    for path in ["/secrets/configs/demo", "/secrets/configs/demo?version=1"] {
        let read = http.get(&agent, path).ok();
        assert_eq!((&read["data"], &read["version"]), (&json!({"foo": "bar"}), &json!(1)), "{path}");
    }
    assert_eq!(http.get(&agent, "/secrets?prefix=configs").ok()["keys"], json!(["demo"]));
    assert_eq!(http.get(&agent, "/secrets?prefix=nothing").ok(), json!({"keys": []}));
    let deleted = http.delete(&agent, "/secrets/configs/demo");
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    let gone = http.get(&agent, "/secrets/configs/demo");
    assert_refused(&gone, 404, "invalid_path");
    assert_eq!(gone.body["detail"], "Secret not found");
    let undeleted = http.post(&agent, "/secrets/configs/demo:undelete", json!({"versions": [1]}));
    assert_eq!(undeleted.ok(), json!({"ok": true}));
    assert_eq!(http.get(&agent, "/secrets/configs/demo").ok()["data"], json!({"foo": "bar"}));
    let destroyed = http.post(&agent, "/secrets/configs/demo:destroy", json!({"versions": [1]}));
    assert_eq!(destroyed.ok(), json!({"ok": true}));
    assert_eq!(vault().versions(&agent.subject, "configs/demo")["1"]["destroyed"], true);
}

#[test]
fn a_write_carries_the_callers_check_and_set() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    http.put(&agent, "/secrets/app", json!({"data": {"a": "1"}, "cas": 0})).ok();
    let again = http.put(&agent, "/secrets/app", json!({"data": {"a": "2"}, "cas": 0}));
    assert_refused(&again, 409, "conflict");
    assert_eq!(vault().secret(&agent.subject, "app"), json!({"a": "1"}));
}

#[test]
fn a_path_that_leaves_its_tree_reaches_no_vault_and_leaves_a_record() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let value = canary("path");
    for path in [
        "%2e%2e/bob",
        ".%2e/x",
        "..%2fbob",
        "%252e%252e",
        "a%5c..%5c..%5cbob",
        "a//b",
        "/a",
        "a/",
        "a%00b",
        "a%0a/../b",
        "a%3fversion=1",
        "a%23x",
        "a%20",
        "a.%20",
        "%EF%BC%8E%EF%BC%8E/x",
        "a%E2%80%8Bb",
        "a+b",
        "*",
        "sys:undelete",
        "a%3Aundelete",
    ] {
        let before = http.records().len();
        for (method, body) in [("GET", None), ("PUT", Some(json!({"data": {"a": value}}))), ("DELETE", None)]
        {
            let reply = assert_untouched(&http.proxy, || {
                http.call(&agent, method, &format!("/secrets/{path}"), body)
            });
            assert_refused(&reply, 422, "path_refused");
        }
        assert_eq!(http.records().len() - before, 3, "{path}");
    }
    let long = vec!["a"; 300].join("/");
    assert_refused(&http.get(&agent, &format!("/secrets/{long}")), 422, "path_refused");
}

#[test]
fn nobody_without_a_credential_learns_what_there_is() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    for (method, path) in [
        ("GET", "/secrets"),
        ("GET", "/nothing"),
        ("PATCH", "/secrets/a"),
        ("PUT", "/secrets/a"),
        ("POST", "/transit/encrypt"),
        ("POST", "/db/creds/x"),
        ("GET", "/secrets/%2e%2e"),
    ] {
        let reply = assert_untouched(&http.proxy, || http.bare(method, path, &[], Some("{broken")));
        assert_eq!((reply.status, &reply.body), (401, &json!({"detail": "Unauthorized"})), "{method} {path}");
    }
}
