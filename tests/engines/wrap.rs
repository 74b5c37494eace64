//! Wrapping: a token that gives the secret away once, and nothing of it in our own answers.

use serde_json::{Value, json};

use super::{canary::assert_nowhere, question, session_of, through};
use crate::common::{
    Answer, Fault, McpClient, On, PATIENCE, Proxy, assert_no_canary, assert_refused, assert_untouched,
    canary, vault, wait_until,
};

fn unwrap(token: &Value) -> crate::common::Reply {
    vault().call_as(token.as_str().unwrap(), "POST", "sys/wrapping/unwrap", None)
}

/// A subject with a secret of two keys, and its session.
fn scene() -> (String, McpClient, String, String) {
    let subject = vault().fresh_subject();
    let client = session_of(&subject, &vault().root, &[]);
    let (one, two) = (canary("one"), canary("two"));
    vault().write_secret(&subject, "app", json!({"ONE": one, "TWO": two}));
    (subject, client, one, two)
}

#[test]
fn a_wrapping_token_gives_the_secret_once() {
    let (subject, client, one, two) = scene();
    let wrapped = client.call("secret_wrap", json!({"path": "app"})).ok().clone();
    let asked = question(&client);
    assert!(asked.starts_with(&format!("WRAP secret/mcp/{subject}/app")), "{asked}");
    assert!(asked.contains("ONE") && asked.contains("TWO") && asked.contains("anyone can unwrap"), "{asked}");
    assert_eq!(wrapped["ttl"], 60);
    let content = unwrap(&wrapped["token"]).ok();
    assert_eq!(content["data"]["data"], json!({"ONE": one, "TWO": two}));
    assert_eq!(unwrap(&wrapped["token"]).status, 400, "it was good twice");
    assert_no_canary(client.server().stdout(), "standard output");
    assert_nowhere(&client, &[&one, &two]);
    let audit = std::fs::read_to_string(client.server().home().audit_log()).unwrap();
    assert!(!audit.contains(wrapped["token"].as_str().unwrap()), "the token stands in the audit log");
}

#[test]
fn only_the_keys_that_were_named_are_wrapped() {
    let (_, client, one, two) = scene();
    let wrapped =
        client.call("secret_wrap", json!({"path": "app", "keys": ["TWO"], "ttl": 120})).ok().clone();
    let asked = question(&client);
    assert!(asked.contains("TWO") && !asked.contains("ONE"), "{asked}");
    assert_eq!(wrapped["ttl"], 120);
    let content = unwrap(&wrapped["token"]).ok();
    assert_eq!(content["data"], json!({"TWO": two}));
    assert_eq!(unwrap(&wrapped["token"]).status, 400);
    let none = client.call("secret_wrap", json!({"path": "app", "keys": ["THREE"]}));
    assert_refused(&none, "invalid_input");
    assert_nowhere(&client, &[&one, &two]);
}

#[test]
fn a_wrapping_token_ends_by_itself() {
    let (_, client, ..) = scene();
    let wrapped = client.call("secret_wrap", json!({"path": "app", "ttl": 1})).ok().clone();
    assert_eq!(wrapped["ttl"], 1);
    wait_until("the end of a wrapping token", PATIENCE, || {
        let body = json!({"token": wrapped["token"]});
        (vault().put("sys/wrapping/lookup", body).status != 200).then_some(())
    });
    assert_ne!(unwrap(&wrapped["token"]).status, 200);
}

#[test]
fn what_is_wrapped_is_what_the_human_saw() {
    let (subject, client, one, two) = scene();
    let newer = canary("newer");
    let (write_for, mut value) = (subject.clone(), Some(newer.clone()));
    client.human(move |_| {
        if let Some(value) = value.take() {
            vault().write_secret(&write_for, "app", json!({"THREE": value}));
        }
        Answer::yes()
    });
    let wrapped = client.call("secret_wrap", json!({"path": "app"})).ok().clone();
    let asked = client.asked();
    assert_eq!(asked.len(), 2, "nobody was asked about the new state");
    assert!(question(&client).contains("THREE"), "{}", question(&client));
    assert_eq!(unwrap(&wrapped["token"]).ok()["data"]["data"], json!({"THREE": newer}));
    assert_nowhere(&client, &[&one, &two, &newer]);
}

#[test]
fn times_and_keys_outside_their_range_wrap_nothing() {
    let (subject, ..) = scene();
    let proxy = Proxy::new(vault());
    let client = session_of(&subject, &vault().root, &[("VAULT_ADDR", &proxy.address)]);
    for ttl in ["0", "121", "-1", "1e2", "60.5", "\"60\"", "18446744073709551616"] {
        let ttl: Value = serde_json::from_str(ttl).unwrap();
        let call = || client.call("secret_wrap", json!({"path": "app", "ttl": ttl}));
        assert_refused(&assert_untouched(&proxy, call), "invalid_input");
    }
    for keys in [json!([]), json!([""]), json!("ONE"), json!(["a\n"]), json!(vec!["A"; 101])] {
        let call = || client.call("secret_wrap", json!({"path": "app", "keys": keys}));
        assert_refused(&assert_untouched(&proxy, call), "invalid_input");
    }
    assert_refused(
        &assert_untouched(&proxy, || client.call("secret_wrap", json!({"path": "../bob/app"}))),
        "path_refused",
    );
    assert!(client.asked().is_empty());
    assert_refused(&client.call("secret_wrap", json!({"path": "nothing"})), "invalid_path");
    client.always(Answer::Decline);
    assert_refused(&client.call("secret_wrap", json!({"path": "app"})), "declined");
    let wrapped = proxy.requests().iter().filter(|sent| sent.header("x-vault-wrap-ttl").is_some()).count();
    assert_eq!(wrapped, 0);
}

#[test]
fn a_wrapping_is_sent_for_once_though_the_connection_breaks() {
    let (subject, ..) = scene();
    let proxy = Proxy::new(vault());
    let client = session_of(&subject, &vault().root, &[("VAULT_ADDR", &proxy.address)]);
    let wraps = || proxy.requests().iter().filter(|sent| sent.header("x-vault-wrap-ttl").is_some()).count();
    // The looks for the question and after the yes go first.
    proxy.fail(On::target("/data/").skip(2), Fault::ResetAfter);
    assert_refused(&client.call("secret_wrap", json!({"path": "app"})), "outcome_unknown");
    assert_eq!(wraps(), 1);
    proxy.heal().fail(On::target("/wrapping/wrap"), Fault::ResetAfter);
    assert_refused(&client.call("secret_wrap", json!({"path": "app", "keys": ["ONE"]})), "outcome_unknown");
    assert_eq!(wraps(), 2);
}

#[test]
fn a_version_1_secret_is_wrapped_as_well() {
    vault().ensure_mount("wrapone", "kv", json!({"version": "1"}));
    let proxy = Proxy::new(vault());
    let client = through(&proxy, &[("KV_MOUNT", "wrapone"), ("KV_ROOT", "/")]);
    let secret = canary("one");
    vault().put("wrapone/app", json!({"A": secret})).ok();
    let wrapped = client.call("secret_wrap", json!({"path": "app"})).ok().clone();
    assert_eq!(unwrap(&wrapped["token"]).ok()["data"]["A"], secret);
    assert_nowhere(&client, &[&secret]);
}
