//! Reads: tried again where that helps, and never for long.

use std::time::{Duration, Instant};

use serde_json::json;

use super::{LIMIT, Scene, timed};
use crate::common::{
    Era, Fault, On, PATIENCE, Proxy, Server, Vault, assert_refused, records_of, vault, wait_until,
};

fn data() -> On {
    On::target("/secret/")
}

/// The error of a read that fails in this way each time, and how often it was sent.
fn failing(fault: Fault) -> (crate::common::ToolResult, usize) {
    let scene = Scene::new(&[]);
    let before = scene.proxy.data_requests().len();
    scene.proxy.fail(data(), fault);
    let (result, took) = timed(|| scene.client.call("kv_read", json!({"path": "app"})));
    assert!(took < LIMIT, "it took {took:?}");
    let sent = scene.proxy.data_requests().len() - before;
    // The same session goes on once the fault is over; five failures may have opened the breaker.
    scene.proxy.heal();
    wait_until("the session's recovery", PATIENCE, || {
        (!scene.client.call("kv_read", json!({"path": "app"})).is_error()).then_some(())
    });
    let records = records_of(scene.client.server().home().audit_log(), "kv.read");
    let failed =
        records.iter().find(|record| record["action"] == "FAILED").expect("no record of the failure");
    assert_eq!(failed["code"], result.code());
    (result, sent)
}

#[test]
fn a_failing_server_is_asked_three_times_and_then_named() {
    for status in [500, 502, 503, 504, 520] {
        let (result, sent) = failing(Fault::Status(status));
        assert_refused(&result, "vault_failed");
        assert!(result.text().contains(&status.to_string()), "{}", result.text());
        assert_eq!(sent, 3, "status {status}");
    }
}

#[test]
fn a_broken_connection_is_tried_three_times() {
    for fault in [Fault::ResetBefore, Fault::ResetAfter, Fault::NotHttp, Fault::Truncated] {
        let (result, sent) = failing(fault.clone());
        assert_refused(&result, "vault_unreachable");
        assert_eq!(sent, 3, "{fault:?}");
    }
}

#[test]
fn a_read_survives_two_failures() {
    let scene = Scene::new(&[]);
    for fault in
        [Fault::ResetAfter, Fault::Status(502), Fault::Status(412), Fault::Truncated, Fault::Status(429)]
    {
        scene.proxy.heal().fail(data().times(2), fault.clone());
        let result = scene.client.call("kv_read", json!({"path": "app"}));
        assert!(!result.is_error(), "{fault:?}: {}", result.text());
    }
}

#[test]
fn a_limit_of_vault_s_own_says_when_to_come_back() {
    let (result, sent) = failing(Fault::RetryAfter("7"));
    assert_refused(&result, "vault_rate_limited");
    assert!(result.text().contains("7 s") && sent == 1, "{sent}: {}", result.text());
    let (result, sent) = failing(Fault::Status(429));
    assert_refused(&result, "vault_rate_limited");
    assert_eq!(sent, 3);
    for nonsense in ["soon", "-1", "1e9", "Wed, 21 Oct 2099 07:28:00 GMT", "99999999999999999999999"] {
        let (result, _) = failing(Fault::RetryAfter(nonsense));
        assert_refused(&result, "vault_rate_limited");
    }
}

#[test]
fn a_node_that_is_behind_is_said_to_be() {
    let (result, sent) = failing(Fault::Status(412));
    assert_refused(&result, "vault_rejected");
    assert_eq!(sent, 3);
}

#[test]
fn a_standby_s_redirect_is_not_followed_and_its_target_hears_nothing() {
    let elsewhere = Proxy::new(vault());
    for to in
        [format!("{}/v1/secret/data/x", elsewhere.address), "//127.0.0.1:1/x".into(), "/v1/sys/health".into()]
    {
        let (result, sent) = failing(Fault::Redirect(to));
        assert_refused(&result, "vault_standby");
        assert_eq!(sent, 1);
    }
    assert_eq!((elsewhere.count(), elsewhere.connections()), (0, 0), "the token went elsewhere");
}

#[test]
fn what_is_no_answer_of_vault_s_is_told_apart() {
    let forgeries = [
        Fault::NotJson,
        Fault::Body("[]".into()),
        Fault::Body("null".into()),
        Fault::Body("{}".into()),
        Fault::Body(r#"{"data":[]}"#.into()),
        Fault::Body(r#"{"data":{"data":"x"}}"#.into()),
        Fault::Body(r#"{"data":{"data":{},"metadata":{"version":"1"}}}"#.into()),
        Fault::Body("[".repeat(200_000)),
        Fault::Body(format!(r#"{{"data":{{"data":{}}}}}"#, "{\"a\":".repeat(10_000))),
        Fault::Body("\u{0}".repeat(1000)),
    ];
    for fault in forgeries {
        let shown = format!("{fault:?}").chars().take(60).collect::<String>();
        let (result, sent) = failing(fault);
        assert_eq!(result.code(), "vault_answer", "{shown}: {}", result.text());
        assert_refused(&result, "vault_answer");
        assert_eq!(sent, 1, "{shown}");
    }
}

#[test]
fn a_page_of_a_proxy_s_teaches_nothing_about_the_mount_or_the_token() {
    for status in [403, 404, 400, 405] {
        let scene = Scene::new(&[]);
        scene.proxy.fail(data(), Fault::Page(status));
        assert_refused(&scene.client.call("kv_read", json!({"path": "app"})), "vault_answer");
        scene.proxy.heal();
        // Still a version 2 mount, still the same token.
        scene.client.call("kv_write", json!({"path": "app", "data": {"A": "2"}})).ok();
        assert_eq!(vault().version(&scene.subject, "app"), 2);
    }
    // The same before anything is known of the mount.
    let subject = vault().fresh_subject();
    let proxy = Proxy::new(vault());
    proxy.fail(data(), Fault::Page(404));
    let client =
        Server::of(vault(), &subject).env("VAULT_ADDR", &proxy.address).spawn().connect(Era::usual());
    client.always(crate::common::Answer::yes());
    assert_refused(&client.call("kv_read", json!({"path": "x"})), "vault_answer");
    proxy.heal();
    client.call("kv_write", json!({"path": "x", "data": {"A": "1"}})).ok();
    assert_eq!(vault().secret(&subject, "x"), json!({"A": "1"}));
}

#[test]
fn an_answer_of_any_size_is_cut_short() {
    let scene = Scene::new(&[("REVEAL", "always")]);
    scene.proxy.fail(data(), Fault::Huge(200 << 20));
    let (result, took) = timed(|| scene.client.call("kv_read", json!({"path": "app", "reveal": true})));
    assert_refused(&result, "vault_answer");
    assert!(took < LIMIT, "{took:?}");
    let status = std::fs::read_to_string(format!("/proc/{}/status", scene.client.server().id())).unwrap();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    let peak: u64 = peak.trim().trim_end_matches(" kB").parse().unwrap();
    assert!(peak < 300_000, "{peak} kB for an answer of 200 MiB");
}

#[test]
fn a_slow_vault_is_waited_for_and_a_silent_one_is_not() {
    let slow = Scene::new(&[]);
    slow.proxy.fail(data(), Fault::Delay(Duration::from_secs(2)));
    slow.client.call("kv_read", json!({"path": "app"})).ok();

    let silent = Scene::new(&[]);
    silent.proxy.fail(On::every(), Fault::BlackHole);
    let calls = [
        ("kv_read", json!({"path": "app"})),
        ("kv_list", json!({})),
        ("kv_metadata", json!({"path": "app"})),
        ("kv_diff", json!({"path": "app", "from_version": 1, "to_version": 2})),
        ("vault_get", json!({"service": "app", "reveal": true})),
        ("vault_status", json!({})),
        ("mounts_list", json!({})),
        ("kv_write", json!({"path": "app", "data": {"A": "2"}})),
        ("vault_set", json!({"service": "app", "secrets": {"A": "2"}})),
    ];
    let (answers, took) = timed(|| {
        let pending: Vec<_> = calls
            .into_iter()
            .map(|(tool, arguments)| (tool, silent.client.start_call(tool, arguments)))
            .collect();
        let wait = |(tool, pending): (_, crate::common::client::Pending)| (tool, pending.wait().unwrap());
        pending.into_iter().map(wait).collect::<Vec<_>>()
    });
    assert!(took < LIMIT, "{took:?}");
    for (tool, answer) in answers {
        let result = crate::common::ToolResult(answer);
        assert!(
            ["vault_timeout", "vault_unreachable"].contains(&result.code().as_str()),
            "{tool}: {}",
            result.text()
        );
    }
    assert!(silent.client.asked().is_empty());
}

#[test]
fn an_answer_that_drips_ends_in_time() {
    let scene = Scene::new(&[]);
    scene.proxy.fail(data(), Fault::Drip(Duration::from_millis(200)));
    let (result, took) = timed(|| scene.client.call("kv_read", json!({"path": "app"})));
    assert_refused(&result, "vault_timeout");
    assert!(took < LIMIT, "{took:?}");
}

#[test]
fn many_slow_requests_of_one_call_share_its_time() {
    // Nothing is known of the mount: a read of nothing takes two requests, each of which would fit alone.
    let subject = vault().fresh_subject();
    let token = vault().token_for(&subject);
    let proxy = Proxy::new(vault());
    proxy.fail(On::every(), Fault::Delay(Duration::from_secs(6)));
    let client = Server::of(vault(), &subject)
        .env("VAULT_ADDR", &proxy.address)
        .env("VAULT_TOKEN", token)
        .spawn()
        .connect(Era::usual());
    let (result, took) = timed(|| client.call("kv_read", json!({"path": "none"})));
    assert_refused(&result, "vault_timeout");
    assert!(took < LIMIT, "{took:?}");
    assert_eq!(proxy.data_requests().len(), 2);
}

#[test]
fn the_breaker_opens_after_five_failures_and_closes_again() {
    let scene = Scene::new(&[]);
    let read = || scene.client.call("kv_read", json!({"path": "app"}));
    let closed = || wait_until("the breaker's end", PATIENCE, || (!read().is_error()).then_some(()));
    // It is open for two seconds. Where the five calls take longer than that they show nothing: then again.
    for _ in 0..20 {
        scene.proxy.fail(On::every(), Fault::Status(500));
        let before = scene.proxy.count();
        let opening = Instant::now();
        assert_refused(&read(), "vault_failed");
        assert!(read().is_error());
        let open = scene.proxy.count();
        let results = ["kv_read", "kv_metadata", "kv_delete"]
            .map(|tool| scene.client.call(tool, json!({"path": "app"})));
        let (sent, took) = (scene.proxy.count() - open, opening.elapsed());
        scene.proxy.heal();
        if took < Duration::from_secs(2) {
            assert_eq!(open - before, 5, "not five failures");
            for result in results {
                assert_refused(&result, "vault_unreachable");
                assert!(result.text().contains("none is sent"), "{}", result.text());
            }
            assert_eq!(sent, 0, "something was sent while the breaker was open");
            closed();
            return;
        }
        closed();
    }
    panic!("this machine is too slow: five calls took two seconds, twenty times");
}

#[test]
fn a_call_that_finds_nothing_does_not_count_as_a_failure() {
    let scene = Scene::new(&[]);
    for _ in 0..10 {
        assert_refused(&scene.client.call("kv_read", json!({"path": "none"})), "invalid_path");
    }
    scene.client.call("kv_read", json!({"path": "app"})).ok();
}

#[test]
fn a_vault_that_is_not_there_or_goes_away_is_said_to_be_unreachable() {
    let mut own = Vault::own();
    own.write_secret("alice", "app", json!({"A": "1"}));
    let client = Server::of(&own, "alice").spawn().connect(Era::usual());
    client.call("kv_read", json!({"path": "app"})).ok();
    own.kill();
    let (result, took) = timed(|| client.call("kv_read", json!({"path": "app"})));
    assert_refused(&result, "vault_unreachable");
    assert!(result.text().contains(&own.address) && took < LIMIT, "{took:?}: {}", result.text());
    let none = Server::of(&own, "alice").spawn().connect(Era::usual());
    assert_refused(&none.call("kv_list", json!({})), "vault_unreachable");
    // Nothing answers at a documentation address (RFC 5737): the connection itself must time out.
    let far =
        Server::of(&own, "alice").env("VAULT_ADDR", "http://192.0.2.1:8200").spawn().connect(Era::usual());
    let (result, took) = timed(|| far.call("kv_list", json!({})));
    assert!(["vault_unreachable", "vault_timeout"].contains(&result.code().as_str()), "{}", result.text());
    assert!(took < LIMIT, "{took:?}");
}

#[test]
fn a_sealed_vault_is_said_to_be_sealed() {
    let own = Vault::own();
    own.write_secret("alice", "app", json!({"A": "1"}));
    let client = Server::of(&own, "alice").spawn().connect(Era::usual());
    client.always(crate::common::Answer::yes());
    client.call("kv_read", json!({"path": "app"})).ok();
    if own.put("sys/seal", json!({})).status >= 300 {
        // The embedded one cannot be sealed.
        assert!(own.is_embedded());
        return;
    }
    for (tool, arguments) in [
        ("kv_read", json!({"path": "app"})),
        ("kv_list", json!({})),
        ("kv_write", json!({"path": "app", "data": {"A": "2"}})),
        ("vault_logout", json!({})),
    ] {
        assert_refused(&client.call(tool, arguments), "vault_sealed");
    }
    let status = client.call("vault_status", json!({}));
    assert_eq!(status.ok()["sealed"], true);
    assert!(status.ok()["problem"].as_str().unwrap().contains("sealed"), "{}", status.0);
    assert!(client.asked().is_empty());
}
