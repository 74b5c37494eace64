//! `--http --dev`: a server for many agents over the Vault inside the process, for trying out.

use serde_json::{Value, json};

use super::rig::{Agent, Http, assert_refused, keys_of};
use crate::common::{Proxy, Reply, Server, vault};

fn start(agents: &[&Agent], settings: &[(&str, &str)]) -> Http {
    let mut launch = Server::launch()
        .env("RATE_LIMIT_ENABLED", "false")
        .env("API_KEYS_JSON", keys_of(agents))
        .arg("--dev");
    for (name, value) in settings {
        launch = launch.env(name, value);
    }
    // It meets no Vault but its own.
    Http::of(launch, Proxy::new(vault()))
}

fn agent(subject: &str) -> Agent {
    Agent { subject: subject.to_owned(), ..Agent::new() }
}

#[test]
fn every_agent_with_a_key_finds_sample_secrets_and_works_in_its_own_tree() {
    for settings in [vec![], vec![("CHILD_TOKEN_ENABLED", "true")]] {
        let (one, other) = (agent("agent_api"), agent("another-1"));
        let http = start(&[&one, &other], &settings);
        for agent in [&one, &other] {
            let keys = http.get(agent, "/secrets").ok()["keys"].clone();
            assert!(keys.as_array().unwrap().contains(&json!("myapp")), "{settings:?}: {keys}");
            assert_eq!(http.get(agent, "/secrets/myapp").ok()["data"]["DB_USER"], "myapp");
        }
        http.put(&one, "/secrets/own", json!({"data": {"a": "1"}})).ok();
        assert_refused(&http.get(&other, "/secrets/own"), 404, "invalid_path");
        assert_eq!(http.bare("GET", "/readyz", &[], None).status, 200);
        assert_eq!(http.proxy.count(), 0);
    }
}

#[test]
fn with_tokens_of_their_own_the_servers_reaches_no_secret() {
    let one = agent("agent_api");
    let http = start(&[&one], &[("CHILD_TOKEN_ENABLED", "true"), ("CHILD_TOKEN_POLICY_PREFIX", "sample.")]);
    http.get(&one, "/secrets/myapp").ok();
    // A subject that nobody has written a policy for has one token, and it opens nothing.
    let http = start(&[&one], &[("CHILD_TOKEN_ENABLED", "true"), ("CHILD_TOKEN_ROLE", "none")]);
    assert_refused(&http.get(&one, "/secrets/myapp"), 503, "child_token");
}

/// What clients of such servers send, and what they get.
#[test]
fn what_a_client_sends_first_works_at_once() {
    let one = agent("agent_api");
    let http = start(&[&one], &[]);
    let ok = |reply: Reply| -> Value { reply.ok() };
    let written = ok(http.put(&one, "/secrets/configs/demo", json!({"data": {"foo": "bar"}})));
    assert_eq!(written["version"], 1);
    for path in ["/secrets/configs/demo", "/secrets/configs/demo?version=1"] {
        let read = ok(http.get(&one, path));
        assert_eq!((&read["data"], &read["version"]), (&json!({"foo": "bar"}), &json!(1)));
    }
    assert_eq!(ok(http.get(&one, "/secrets?prefix=configs"))["keys"], json!(["demo"]));
    assert_eq!(http.delete(&one, "/secrets/configs/demo").status, 204);
    let gone = http.get(&one, "/secrets/configs/demo");
    assert_eq!(gone.status, 404);
    assert_eq!(gone.body["detail"], "Secret not found");
    let all = json!({"versions": [1]});
    assert_eq!(ok(http.post(&one, "/secrets/configs/demo:undelete", all.clone())), json!({"ok": true}));
    assert_eq!(ok(http.post(&one, "/secrets/configs/demo:destroy", all)), json!({"ok": true}));

    let random = ok(http.get(&one, "/transit/random?bytes=16&format=hex"))["random"].clone();
    assert_eq!(random.as_str().unwrap().len(), 32);
    let encrypted = ok(http.post(&one, "/transit/encrypt", json!({"key": "k", "plaintext": "aGk="})));
    let ciphertext = encrypted["ciphertext"].as_str().unwrap();
    assert!(ciphertext.starts_with("vault:v1:"));
    let sealed = json!({"key": "k", "ciphertext": ciphertext});
    assert_eq!(ok(http.post(&one, "/transit/decrypt", sealed.clone()))["plaintext"], "aGk=");
    let rewrapped = ok(http.post(&one, "/transit/rewrap", sealed));
    assert!(rewrapped["ciphertext"].as_str().unwrap().starts_with("vault:v1:"));
    let input = json!({"key": "signing", "input": "aGk="});
    let signature = ok(http.post(&one, "/transit/sign", input.clone()))["signature"].clone();
    let mut signed = input;
    signed["signature"] = signature;
    assert_eq!(ok(http.post(&one, "/transit/verify", signed)), json!({"valid": true}));
    let off = http.post(&one, "/kms/encrypt", json!({"plaintext": "aGk="}));
    assert_eq!((off.status, &off.body["detail"]), (503, &json!("AWS KMS support is disabled")));
}
