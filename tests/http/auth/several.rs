//! More than one credential in a request.

use serde_json::json;

use super::{
    super::rig::Agent,
    assert_let_in, assert_turned_away, call, talkative,
    tokens::{bearer, claims, hs256, with},
};
use crate::common::{canary, vault};

#[test]
fn credentials_of_two_subjects_are_nobodys() {
    let secret = canary("several_secret_of_32_bytes_or_more");
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = talkative(&[&alice, &bob], &[("JWT_HS256_SECRET", &secret), ("AUTH_MTLS_ENABLED", "true")]);
    let of_alice = bearer(&hs256(&secret, &claims(&alice.subject)));
    let name = format!("CN={}", bob.subject);
    let certified = [("X-SSL-Client-S-DN", name.as_str()), ("X-SSL-Client-Verify", "SUCCESS")];

    assert_let_in(&http, &alice.subject, &[("X-API-Key", &alice.key), ("Authorization", &of_alice)]);
    let why = "credentials of different subjects";
    assert_turned_away(&http, &[("X-API-Key", &bob.key), ("Authorization", &of_alice)], why);
    assert_turned_away(&http, &[("X-API-Key", &alice.key), certified[0], certified[1]], why);
    assert_turned_away(&http, &[("Authorization", &of_alice), certified[0], certified[1]], why);
    assert_let_in(&http, &bob.subject, &[("X-API-Key", &bob.key), certified[0], certified[1]]);
}

#[test]
fn a_bad_credential_beside_a_good_one_lets_nobody_in() {
    let secret = canary("several_secret_of_32_bytes_or_more");
    let alice = Agent::new();
    let http = talkative(&[&alice], &[("JWT_HS256_SECRET", &secret)]);
    let good = bearer(&hs256(&secret, &claims(&alice.subject)));
    let bad = bearer(&hs256("another secret", &claims(&alice.subject)));
    assert_turned_away(
        &http,
        &[("X-API-Key", &alice.key), ("Authorization", &bad)],
        "a token whose signature is not good",
    );
    let other = canary("key");
    assert_turned_away(&http, &[("X-API-Key", &other), ("Authorization", &good)], "an unknown API key");
    // What is no credential of ours counts for nothing, neither way.
    assert_let_in(&http, &alice.subject, &[("X-API-Key", &alice.key), ("Authorization", "Basic YTpi")]);
    assert_turned_away(&http, &[("Authorization", "Basic YTpi")], "no credential");
}

#[test]
fn a_credential_of_a_kind_that_is_switched_off_is_refused_and_not_overlooked() {
    let secret = canary("several_secret_of_32_bytes_or_more");
    let alice = Agent::new();
    let without_tokens =
        talkative(&[&alice], &[("JWT_HS256_SECRET", &secret), ("AUTH_JWT_ENABLED", "false")]);
    let token = bearer(&hs256(&secret, &claims(&alice.subject)));
    let both = [("X-API-Key", alice.key.as_str()), ("Authorization", token.as_str())];
    assert_turned_away(&without_tokens, &both, "a token, and none are taken");
    assert_let_in(&without_tokens, &alice.subject, &both[..1]);
    let without_keys =
        talkative(&[&alice], &[("JWT_HS256_SECRET", &secret), ("AUTH_API_KEY_ENABLED", "false")]);
    assert_turned_away(&without_keys, &both, "an API key, and none are taken");
    assert_let_in(&without_keys, &alice.subject, &both[1..]);
}

#[test]
fn two_credentials_of_one_subject_allow_what_both_allow() {
    let secret = canary("several_secret_of_32_bytes_or_more");
    let alice = Agent::with_scopes(&["read", "list"]);
    let http = talkative(&[&alice], &[("JWT_HS256_SECRET", &secret)]);
    let token = hs256(&secret, &with(claims(&alice.subject), json!({"scopes": "write list"})));
    let both = [("X-API-Key", alice.key.clone()), ("Authorization", bearer(&token))];
    let both = both.each_ref().map(|(name, value)| (*name, value.as_str()));
    let who = http.bare("GET", "/whoami", &both, None).ok();
    assert_eq!(who["scopes"], json!(["list"]), "{who}");
    assert_eq!(call(&http, &both).status, 200);
    let body = Some(r#"{"data": {"a": "1"}}"#);
    for (method, body) in [("GET", None), ("PUT", body)] {
        let reply = http.bare(method, "/secrets/app", &both, body);
        assert_eq!((reply.status, &reply.body["error"]), (403, &json!("missing_scope")), "{}", reply.text);
    }
    assert_eq!(vault().version(&alice.subject, "app"), 0);
}

#[test]
fn a_callers_token_and_key_go_to_nobody_else() {
    let secret = canary("several_secret_of_32_bytes_or_more");
    let alice = Agent::new();
    let http = talkative(&[&alice], &[("JWT_HS256_SECRET", &secret)]);
    let token = bearer(&hs256(&secret, &claims(&alice.subject)));
    let headers = [("X-API-Key", alice.key.as_str()), ("Authorization", token.as_str())];
    let written = http.bare("PUT", "/secrets/app", &headers, Some(r#"{"data": {"a": "1"}}"#));
    assert_eq!(written.status, 200, "{}", written.text);
    let sent = http.proxy.data_requests();
    assert!(!sent.is_empty());
    for request in sent {
        let whole = String::from_utf8_lossy(&[request.head, request.body].concat()).into_owned();
        assert!(!whole.contains(&alice.key) && !whole.contains(&token["Bearer ".len()..]), "{whole}");
        assert!(!whole.to_ascii_lowercase().contains("authorization:"), "{whole}");
    }
}
