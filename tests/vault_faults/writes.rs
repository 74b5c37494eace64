//! Writes: sent once, and what is not known is said not to be known.

use std::time::Duration;

use serde_json::{Value, json};

use super::{LIMIT, Scene, timed};
use crate::common::{Answer, Era, Fault, On, Server, ToolResult, Vault, assert_refused, records_of, vault};

fn on_write() -> On {
    On::target("/secret/data/").method("POST")
}

/// A write onto version 1 that fails in this way: the error, and whether it took effect.
fn failing(fault: Fault) -> (ToolResult, bool) {
    let scene = Scene::new(&[]);
    scene.proxy.fail(on_write(), fault);
    let call = json!({"path": "app", "data": {"A": "2", "N": 1.50, "L": [null]}});
    let (result, took) = timed(|| scene.client.call("kv_write", call));
    // Twice the limit: once for the question, once for the write.
    assert!(took < LIMIT * 2, "it took {took:?}");
    assert_eq!(scene.proxy.writes().len(), 1, "a write was not sent exactly once");
    assert_eq!(scene.client.asked().len(), 1);
    let records = records_of(scene.client.server().home().audit_log(), "kv.write");
    assert_eq!(records.last().unwrap()["code"], result.code(), "{records:?}");
    let applied = vault().version(&scene.subject, "app") == 2;
    (result, applied)
}

#[track_caller]
fn assert_unknown(result: &ToolResult, read_back: &str) {
    assert_refused(result, "outcome_unknown");
    let text = result.text();
    assert!(text.contains("not known whether") && text.contains("Do not repeat it blindly"), "{text}");
    assert!(text.contains(read_back), "{text}");
}

#[test]
fn a_write_that_vault_refused_is_no_unknown_outcome() {
    for (fault, code) in [
        (Fault::Status(429), "vault_rate_limited"),
        (Fault::RetryAfter("0"), "vault_rate_limited"),
        (Fault::Status(412), "vault_rejected"),
        (Fault::Status(400), "vault_rejected"),
        (Fault::Status(403), "forbidden"),
        (Fault::Redirect("http://127.0.0.1:1/v1/x".into()), "vault_standby"),
        (Fault::Page(403), "vault_answer"),
    ] {
        let shown = format!("{fault:?}");
        let (result, applied) = failing(fault);
        assert_eq!(result.code(), code, "{shown}: {}", result.text());
        assert!(!applied, "{shown}");
    }
}

#[test]
fn a_write_that_failed_on_the_way_there_is_unknown_and_looked_for() {
    for fault in [
        Fault::Status(500),
        Fault::Status(502),
        Fault::Status(503),
        Fault::Status(504),
        Fault::ResetBefore,
        Fault::NotHttp,
        Fault::NotJson,
    ] {
        let shown = format!("{fault:?}");
        let (result, applied) = failing(fault);
        assert_unknown(&result, "shows version 1; the write may still arrive");
        assert!(!applied, "{shown}");
    }
}

#[test]
fn a_write_that_failed_on_the_way_back_is_unknown_and_found() {
    for fault in [
        Fault::StatusAfter(500),
        Fault::StatusAfter(502),
        Fault::StatusAfter(504),
        Fault::ResetAfter,
        Fault::Truncated,
    ] {
        let shown = format!("{fault:?}");
        let (result, applied) = failing(fault);
        assert!(applied, "{shown}");
        assert_unknown(&result, "shows exactly this content as version 2");
    }
}

#[test]
fn a_write_that_is_never_answered_ends_in_time_with_a_look_at_the_outcome() {
    for (fault, applied, read_back) in [
        (Fault::BlackHole, false, "shows version 1"),
        (Fault::BlackHoleAfter, true, "shows exactly this content as version 2"),
    ] {
        let scene = Scene::new(&[]);
        scene.proxy.fail(on_write(), fault);
        let (result, took) =
            timed(|| scene.client.call("kv_write", json!({"path": "app", "data": {"A": "2"}})));
        assert!(took < LIMIT, "it took {took:?}");
        assert_unknown(&result, read_back);
        assert_eq!(scene.proxy.writes().len(), 1);
        assert_eq!(vault().version(&scene.subject, "app") == 2, applied);
    }
}

#[test]
fn a_slow_vault_leaves_a_write_its_time_and_no_more() {
    let scene = Scene::new(&[]);
    scene.proxy.fail(On::target("/secret/"), Fault::Delay(Duration::from_secs(3)));
    scene.client.call("kv_write", json!({"path": "app", "data": {"A": "2"}})).ok();
    assert_eq!(scene.proxy.writes().len(), 1);

    let slower = Scene::new(&[]);
    slower.proxy.fail(On::target("/secret/"), Fault::Delay(Duration::from_secs(6)));
    let started = std::time::Instant::now();
    let pending = slower.client.start_call("kv_write", json!({"path": "app", "data": {"A": "2"}}));
    slower.client.wait_until_asked(1);
    let asked = started.elapsed();
    let result = ToolResult(pending.wait().unwrap());
    assert!(started.elapsed() - asked < LIMIT, "{:?}", started.elapsed() - asked);
    assert!(["outcome_unknown", "vault_timeout"].contains(&result.code().as_str()), "{}", result.text());
    assert!(slower.proxy.writes().len() <= 1);
}

#[test]
fn a_write_that_was_never_sent_is_said_to_have_failed() {
    let mut own = Vault::own();
    let proxyless = own.address.clone();
    let client = Server::of(&own, "alice").spawn().connect(Era::usual());
    client.call("kv_list", json!({})).ok();
    let (tell, told) = std::sync::mpsc::channel();
    let (done, wait) = std::sync::mpsc::channel();
    client.human(move |_| {
        tell.send(()).unwrap();
        wait.recv().unwrap();
        Answer::yes()
    });
    let pending = client.start_call("kv_write", json!({"path": "app", "data": {"A": "2"}}));
    told.recv().unwrap();
    own.kill();
    done.send(()).unwrap();
    let result = ToolResult(pending.wait().unwrap());
    assert_refused(&result, "vault_unreachable");
    assert!(result.text().contains(&proxyless));
}

/// Each tool that writes: what it does, and the words of the look afterwards when Vault did it and said 502.
fn writing_tools() -> Vec<(&'static str, Value, &'static str)> {
    vec![
        ("kv_write", json!({"path": "app", "data": {"A": "9"}}), "exactly this content as version 4"),
        ("kv_patch", json!({"path": "app", "data": {"B": "9"}}), "shows version 4, so a write has arrived"),
        ("kv_generate", json!({"path": "app", "key": "G"}), "shows version 4, so a write has arrived"),
        ("kv_rollback", json!({"path": "app", "version": 1}), "exactly this content as version 4"),
        (
            "vault_set",
            json!({"service": "app", "secrets": {"S": "9"}}),
            "shows version 4, so a write has arrived",
        ),
        ("kv_delete", json!({"path": "app"}), "version 3 is deleted"),
        ("kv_delete", json!({"path": "app", "versions": [1]}), "version 1 is deleted"),
        ("kv_undelete", json!({"path": "app", "versions": [2]}), "version 2 is there"),
        ("kv_destroy", json!({"path": "app", "versions": [1]}), "version 1 is destroyed"),
    ]
}

fn scene_of_three_versions() -> Scene {
    let scene = Scene::new(&[]);
    vault().write_secret(&scene.subject, "app", json!({"A": "2"}));
    vault().write_secret(&scene.subject, "app", json!({"A": "3"}));
    vault().put(&format!("secret/delete/mcp/{}/app", scene.subject), json!({"versions": [2]})).ok();
    scene
}

#[test]
fn every_writing_tool_sends_its_write_once_and_looks_afterwards() {
    for (tool, arguments, words) in writing_tools() {
        let scene = scene_of_three_versions();
        scene.proxy.fail(On::target("/secret/").changing(), Fault::StatusAfter(502));
        let result = scene.client.call(tool, arguments.clone());
        assert_eq!(scene.proxy.writes().len(), 1, "{tool} {arguments}");
        assert_refused(&result, "outcome_unknown");
        assert!(result.text().contains(words), "{tool} {arguments}: {}", result.text());
    }
}

#[test]
fn a_look_that_is_not_possible_is_said_not_to_be() {
    for (tool, arguments, _) in writing_tools() {
        let scene = scene_of_three_versions();
        scene.proxy.fail(On::target("/secret/").changing(), Fault::ResetAfter);
        // From the moment of the write on, nothing gets through any more.
        scene.proxy.fail(On::target("/secret/").after_a_write(), Fault::ResetBefore);
        let result = scene.client.call(tool, arguments.clone());
        assert_eq!(scene.proxy.writes().len(), 1, "{tool} {arguments}");
        assert_refused(&result, "outcome_unknown");
        assert!(result.text().contains("was not possible"), "{tool} {arguments}: {}", result.text());
    }
}

#[test]
fn a_logout_that_got_no_answer_is_unknown() {
    let scene = Scene::new(&[]);
    scene.proxy.fail(On::target("revoke-self"), Fault::ResetAfter);
    assert_refused(&scene.client.call("vault_logout", json!({})), "outcome_unknown");
    let sent = scene.proxy.requests().iter().filter(|sent| sent.target.ends_with("revoke-self")).count();
    assert_eq!(sent, 1);
}
