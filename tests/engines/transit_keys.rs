//! Every type of key through every tool; versions, contexts, masks; what a token may not do.

use std::sync::OnceLock;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{assert_masked, question, session, session_of, through};
use crate::common::{
    Answer, McpClient, Proxy, assert_no_canary, assert_refused, assert_untouched, canary, unique, vault,
};

/// Types of keys: whether they encrypt, and whether they sign.
pub(crate) const TYPES: &[(&str, bool, bool)] = &[
    ("aes128-gcm96", true, false),
    ("aes256-gcm96", true, false),
    ("chacha20-poly1305", true, false),
    ("ed25519", false, true),
    ("ecdsa-p256", false, true),
    ("ecdsa-p384", false, true),
    ("ecdsa-p521", false, true),
    ("rsa-2048", true, true),
    ("rsa-3072", true, true),
    ("rsa-4096", true, true),
    ("hmac", false, true),
];

/// A mount with one key of each type, which is its name; tests leave these keys as they are.
pub(crate) fn keys() -> Option<&'static str> {
    static SHARED: OnceLock<Option<String>> = OnceLock::new();
    let made = || {
        let mount = vault().new_mount("transit")?;
        for (kind, ..) in TYPES {
            make_key(&mount, kind, json!({ "type": kind, "key_size": if *kind == "hmac" { 32 } else { 0 } }));
        }
        make_key(&mount, "derived", json!({ "derived": true }));
        make_key(&mount, "derived-ed25519", json!({ "derived": true, "type": "ed25519" }));
        Some(mount)
    };
    SHARED.get_or_init(made).as_deref()
}

#[track_caller]
pub(crate) fn make_key(mount: &str, name: &str, body: Value) {
    vault().put(&format!("{mount}/keys/{name}"), body).ok();
}

/// A session over the shared keys.
pub(crate) fn over(mount: &str) -> McpClient {
    session(&[("TRANSIT_MOUNT", mount)])
}

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

/// What Vault itself decrypts.
#[track_caller]
pub(crate) fn decrypted(mount: &str, key: &str, ciphertext: &Value, context: Option<&str>) -> String {
    let mut body = json!({ "ciphertext": ciphertext });
    if let Some(context) = context {
        body["context"] = json!(context);
    }
    let reply = vault().put(&format!("{mount}/decrypt/{key}"), body).ok();
    let plain = STANDARD.decode(reply["data"]["plaintext"].as_str().unwrap()).unwrap();
    String::from_utf8(plain).unwrap()
}

#[test]
fn every_type_of_key_does_what_it_can_and_says_what_it_cannot() {
    let Some(mount) = keys() else { return };
    let client = over(mount);
    for (kind, encrypts, signs) in TYPES {
        let secret = canary("plain");
        let encrypted = client.call("transit_encrypt", json!({"key": kind, "plaintext": base64(&secret)}));
        if *encrypts {
            let ciphertext = &encrypted.ok()["ciphertext"];
            assert!(ciphertext.as_str().unwrap().starts_with("vault:v1:"), "{kind}: {ciphertext}");
            assert_eq!(decrypted(mount, kind, ciphertext, None), secret, "{kind}");
            let masked = client.call("transit_decrypt", json!({"key": kind, "ciphertext": ciphertext}));
            assert_masked(&masked.ok()["plaintext"]);
            let again = client.call("transit_rewrap", json!({"key": kind, "ciphertext": ciphertext}));
            assert_eq!(decrypted(mount, kind, &again.ok()["ciphertext"], None), secret, "{kind}");
        } else {
            assert_refused(&encrypted, "vault_rejected");
            assert!(encrypted.text().contains("does not support"), "{kind}: {}", encrypted.text());
        }
        let input = base64("a message");
        let signed = client.call("transit_sign", json!({"key": kind, "input": input}));
        if *signs {
            let signature = &signed.ok()["signature"];
            let good = json!({"key": kind, "input": input, "signature": signature});
            assert_eq!(client.call("transit_verify", good).ok()["valid"], true, "{kind}");
            let other = json!({"key": kind, "input": base64("another"), "signature": signature});
            assert_eq!(client.call("transit_verify", other).ok()["valid"], false, "{kind}");
        } else {
            assert_refused(&signed, "vault_rejected");
            assert!(signed.text().contains("does not support"), "{kind}: {}", signed.text());
        }
    }
    assert!(client.asked().is_empty(), "computing asks nobody");
}

#[test]
fn the_listing_has_every_key_with_its_type_and_version() {
    let Some(mount) = keys() else { return };
    let client = over(mount);
    let listed = client.call("transit_keys", json!({})).ok()["keys"].as_array().unwrap().clone();
    for (kind, ..) in TYPES {
        let expected = json!({"name": kind, "type": kind, "latest_version": 1});
        assert!(listed.contains(&expected), "{kind} is not among {listed:?}");
    }
    for (kind, encrypts, signs) in TYPES {
        let one = client.call("transit_keys", json!({"key": kind})).ok()["keys"][0].clone();
        let public = one.get("public_keys").and_then(|keys| keys.get("1"));
        let is_asymmetric = *kind != "hmac" && (*signs || kind.starts_with("rsa"));
        assert_eq!(public.is_some(), is_asymmetric, "{kind} (encrypts: {encrypts}): {one}");
        assert!(!one.to_string().contains("PRIVATE"), "{one}");
    }
}

#[test]
fn an_engine_without_keys_lists_none() {
    let Some(empty) = vault().new_mount("transit") else { return };
    assert_eq!(over(&empty).call("transit_keys", json!({})).ok()["keys"], json!([]));
}

#[test]
fn a_derived_key_separates_by_context_and_wants_one() {
    let Some(mount) = keys() else { return };
    let client = over(mount);
    let secret = canary("derived");
    let (one, other) = (base64("tenant 1"), base64("tenant 2"));
    let call = json!({"key": "derived", "plaintext": base64(&secret), "context": one});
    let ciphertext = client.call("transit_encrypt", call).ok()["ciphertext"].clone();
    assert_eq!(decrypted(mount, "derived", &ciphertext, Some(&one)), secret);
    let good = client.call(
        "transit_decrypt",
        json!({"key": "derived", "ciphertext": ciphertext, "context": one, "reveal": true}),
    );
    assert_eq!(good.ok()["plaintext"], base64(&secret));
    let wrong =
        client.call("transit_decrypt", json!({"key": "derived", "ciphertext": ciphertext, "context": other}));
    assert_refused(&wrong, "vault_rejected");
    assert!(wrong.text().contains("with this key and context"), "{}", wrong.text());
    for (tool, arguments) in [
        ("transit_encrypt", json!({"key": "derived", "plaintext": base64("x")})),
        (
            "transit_encrypt",
            json!({"key": "derived", "batch": [
            {"plaintext": base64("x"), "context": one}, {"plaintext": base64("y")}]}),
        ),
        ("transit_sign", json!({"key": "derived-ed25519", "input": base64("x")})),
    ] {
        let without = client.call(tool, arguments);
        assert_refused(&without, "invalid_input");
        assert!(without.text().contains("needs a context"), "{}", without.text());
    }
    let without = client.call("transit_decrypt", json!({"key": "derived", "ciphertext": ciphertext}));
    assert!(without.is_error() && without.text().contains("needs a context"), "{}", without.text());
    let rewrapped =
        client.call("transit_rewrap", json!({"key": "derived", "ciphertext": ciphertext, "context": one}));
    assert_eq!(decrypted(mount, "derived", &rewrapped.ok()["ciphertext"], Some(&one)), secret);

    let sign = json!({"key": "derived-ed25519", "input": base64("m"), "context": one});
    let signature = client.call("transit_sign", sign).ok()["signature"].clone();
    for (context, valid) in [(&one, true), (&other, false)] {
        let verify = json!({
            "key": "derived-ed25519", "input": base64("m"), "signature": signature, "context": context});
        assert_eq!(client.call("transit_verify", verify).ok()["valid"], valid);
    }
}

#[test]
fn a_context_on_a_key_that_has_none_is_refused_and_never_silently_dropped() {
    let Some(mount) = keys() else { return };
    let proxy = Proxy::new(vault());
    let client = through(&proxy, &[("TRANSIT_MOUNT", mount)]);
    let plain = base64("x");
    let ciphertext = client.call("transit_encrypt", json!({"key": "aes256-gcm96", "plaintext": plain})).ok()
        ["ciphertext"]
        .clone();
    client.call("transit_sign", json!({"key": "ed25519", "input": plain})).ok();
    let context = base64("tenant");
    for (tool, arguments) in [
        ("transit_encrypt", json!({"key": "aes256-gcm96", "plaintext": plain, "context": context})),
        (
            "transit_encrypt",
            json!({"key": "aes256-gcm96", "batch": [
            {"plaintext": plain}, {"plaintext": plain, "context": context}]}),
        ),
        ("transit_decrypt", json!({"key": "aes256-gcm96", "ciphertext": ciphertext, "context": context})),
        ("transit_rewrap", json!({"key": "aes256-gcm96", "ciphertext": ciphertext, "context": context})),
        ("transit_sign", json!({"key": "ed25519", "input": plain, "context": context})),
        (
            "transit_verify",
            json!({"key": "ed25519", "input": plain, "signature": "vault:v1:AAAA", "context": context}),
        ),
    ] {
        let refused = assert_untouched(&proxy, || client.call(tool, arguments));
        assert_refused(&refused, "invalid_input");
        assert!(refused.text().contains("takes no context"), "{tool}: {}", refused.text());
    }
}

#[test]
fn a_rotated_key_encrypts_with_its_newest_version_and_rewraps_what_is_older() {
    if keys().is_none() {
        return;
    }
    let mount = keys().unwrap();
    let key = unique("rotated");
    make_key(mount, &key, json!({}));
    let client = over(mount);
    let secret = canary("old");
    let encrypt = |arguments: Value| client.call("transit_encrypt", arguments);
    let old = encrypt(json!({"key": key, "plaintext": base64(&secret)})).ok()["ciphertext"].clone();
    let rotate = || vault().put(&format!("{mount}/keys/{key}/rotate"), json!({})).ok();
    rotate();
    rotate();
    let new = encrypt(json!({"key": key, "plaintext": base64(&secret)})).ok()["ciphertext"].clone();
    assert!(new.as_str().unwrap().starts_with("vault:v3:"), "{new}");
    let second = encrypt(json!({"key": key, "plaintext": base64(&secret), "key_version": 2}));
    assert!(second.ok()["ciphertext"].as_str().unwrap().starts_with("vault:v2:"));
    let fourth = encrypt(json!({"key": key, "plaintext": base64(&secret), "key_version": 4}));
    assert_refused(&fourth, "vault_rejected");
    assert!(fourth.text().contains("no such version"), "{}", fourth.text());
    let rewrapped = client.call("transit_rewrap", json!({"key": key, "ciphertext": old})).ok().clone();
    assert!(rewrapped["ciphertext"].as_str().unwrap().starts_with("vault:v3:"), "{rewrapped}");
    assert_eq!(decrypted(mount, &key, &rewrapped["ciphertext"], None), secret);
    assert_eq!(client.call("transit_keys", json!({"key": key})).ok()["keys"][0]["latest_version"], 3);

    vault().put(&format!("{mount}/keys/{key}/config"), json!({"min_decryption_version": 2})).ok();
    let too_old = client.call("transit_decrypt", json!({"key": key, "ciphertext": old}));
    assert_refused(&too_old, "vault_rejected");
    assert!(too_old.text().contains("minimum version is newer"), "{}", too_old.text());
}

#[test]
fn a_signature_names_its_version_and_an_older_one_stays_good() {
    if keys().is_none() {
        return;
    }
    let mount = keys().unwrap();
    let client = over(mount);
    for kind in ["ed25519", "ecdsa-p256", "hmac"] {
        let key = unique("signer");
        make_key(mount, &key, json!({ "type": kind, "key_size": if kind == "hmac" { 32 } else { 0 } }));
        let input = base64("m");
        let old = client.call("transit_sign", json!({"key": key, "input": input})).ok()["signature"].clone();
        vault().put(&format!("{mount}/keys/{key}/rotate"), json!({})).ok();
        let new = client.call("transit_sign", json!({"key": key, "input": input})).ok()["signature"].clone();
        assert!(new.as_str().unwrap().starts_with("vault:v2:"), "{kind}: {new}");
        let first = client.call("transit_sign", json!({"key": key, "input": input, "key_version": 1}));
        assert!(first.ok()["signature"].as_str().unwrap().starts_with("vault:v1:"), "{kind}");
        for signature in [&old, &new, &first.ok()["signature"]] {
            let verify = json!({"key": key, "input": input, "signature": signature});
            assert_eq!(client.call("transit_verify", verify).ok()["valid"], true, "{kind}");
        }
        let third = client.call("transit_sign", json!({"key": key, "input": input, "key_version": 3}));
        assert!(third.is_error() && third.text().contains("no such version"), "{kind}: {}", third.text());
        let moved = old.as_str().unwrap().replace("vault:v1:", "vault:v2:");
        let moved = client.call("transit_verify", json!({"key": key, "input": input, "signature": moved}));
        assert_eq!(moved.ok()["valid"], false, "{kind}");
    }
}

#[test]
fn a_plaintext_is_masked_until_the_human_lets_it_be_seen() {
    let Some(mount) = keys() else { return };
    let secret = canary("reveal");
    let ciphertext = vault()
        .put(&format!("{mount}/encrypt/aes256-gcm96"), json!({"plaintext": base64(&secret)}))
        .ok()["data"]["ciphertext"]
        .clone();
    let call = |reveal: bool| json!({"key": "aes256-gcm96", "ciphertext": ciphertext, "reveal": reveal});

    let client = over(mount);
    let masked = client.call("transit_decrypt", call(false));
    assert_masked(&masked.ok()["plaintext"]);
    assert_no_canary(masked.0.to_string(), "a masked answer");
    assert!(client.asked().is_empty());
    assert_eq!(client.call("transit_decrypt", call(true)).ok()["plaintext"], base64(&secret));
    let asked = question(&client);
    assert!(asked.starts_with(&format!("REVEAL {mount}/aes256-gcm96 — ")), "{asked}");
    assert!(asked.contains("shown to the model"), "{asked}");
    assert_no_canary(asked, "a question");

    client.always(Answer::Decline);
    assert_refused(&client.call("transit_decrypt", call(true)), "declined");

    let never = session(&[("TRANSIT_MOUNT", mount), ("REVEAL", "never")]);
    assert_refused(&never.call("transit_decrypt", call(true)), "reveal_forbidden");
    assert_masked(&never.call("transit_decrypt", call(false)).ok()["plaintext"]);
    assert!(never.asked().is_empty());

    let always = session(&[("TRANSIT_MOUNT", mount), ("REVEAL", "always")]);
    assert_eq!(always.call("transit_decrypt", call(true)).ok()["plaintext"], base64(&secret));
    assert_masked(&always.call("transit_decrypt", call(false)).ok()["plaintext"]);
    assert!(always.asked().is_empty());
}

#[test]
fn random_bytes_come_in_the_length_and_form_that_was_asked_for() {
    let Some(mount) = keys() else { return };
    let client = over(mount);
    let random = |arguments: Value| client.call("transit_random", arguments).ok()["random"].clone();
    let decoded = |text: Value| STANDARD.decode(text.as_str().unwrap()).unwrap().len();
    assert_eq!(decoded(random(json!({}))), 32);
    assert_eq!(decoded(random(json!({"bytes": 1}))), 1);
    assert_eq!(decoded(random(json!({"bytes": 65536, "format": "base64"}))), 65536);
    assert_eq!(hex::decode(random(json!({"bytes": 5, "format": "hex"})).as_str().unwrap()).unwrap().len(), 5);
    assert_ne!(random(json!({})), random(json!({})));
}

#[test]
fn no_engine_no_key_and_no_permission_are_three_answers_with_three_remedies() {
    let Some(mount) = keys() else { return };
    let calls = [
        ("transit_encrypt", json!({"key": "nosuch", "plaintext": base64("x")}), "keys/nosuch", "read"),
        (
            "transit_decrypt",
            json!({"key": "nosuch", "ciphertext": "vault:v1:AAAA"}),
            "decrypt/nosuch",
            "update",
        ),
        (
            "transit_rewrap",
            json!({"key": "nosuch", "ciphertext": "vault:v1:AAAA"}),
            "rewrap/nosuch",
            "update",
        ),
        ("transit_sign", json!({"key": "nosuch", "input": base64("x")}), "keys/nosuch", "read"),
        (
            "transit_verify",
            json!({"key": "nosuch", "input": base64("x"), "signature": "vault:v1:AAAA"}),
            "keys/nosuch",
            "read",
        ),
        ("transit_keys", json!({"key": "nosuch"}), "keys/nosuch", "read"),
    ];
    let missing = session(&[("TRANSIT_MOUNT", "nosuchmount")]);
    let here = over(mount);
    let bare = session_of(
        &vault().fresh_subject(),
        &vault().token("path \"none\" { capabilities = [\"read\"] }", "5m"),
        &[("TRANSIT_MOUNT", mount)],
    );
    for (tool, arguments, path, capability) in calls {
        let no_engine = missing.call(tool, arguments.clone());
        assert_refused(&no_engine, "mount_not_found");
        assert!(no_engine.text().contains("TRANSIT_MOUNT"), "{tool}: {}", no_engine.text());

        let no_key = here.call(tool, arguments.clone());
        assert_refused(&no_key, "vault_rejected");
        assert!(no_key.text().contains("there is no such key"), "{tool}: {}", no_key.text());

        let no_permission = bare.call(tool, arguments);
        assert_refused(&no_permission, "forbidden");
        let line = format!("path \"{mount}/{path}\" {{ capabilities = [\"{capability}\"] }}");
        assert!(no_permission.text().contains(&line), "{tool}: {}", no_permission.text());
    }
    // A key that is not there must not come into being by encrypting with it.
    assert_eq!(vault().get(&format!("{mount}/keys/nosuch")).status, 404);
    for (tool, path, capability) in [("transit_keys", "keys", "list"), ("transit_random", "random", "update")]
    {
        let refused = bare.call(tool, json!({}));
        assert_refused(&refused, "forbidden");
        let line = format!("path \"{mount}/{path}\" {{ capabilities = [\"{capability}\"] }}");
        assert!(refused.text().contains(&line), "{tool}: {}", refused.text());
        assert_refused(&missing.call(tool, json!({})), "mount_not_found");
    }
}

#[test]
fn a_key_that_was_deleted_does_not_come_back_by_encrypting() {
    let Some(mount) = keys() else { return };
    let key = unique("gone");
    make_key(mount, &key, json!({}));
    let client = over(mount);
    let call = json!({"key": key, "plaintext": base64("x")});
    client.call("transit_encrypt", call.clone()).ok();
    vault().put(&format!("{mount}/keys/{key}/config"), json!({"deletion_allowed": true})).ok();
    vault().delete(&format!("{mount}/keys/{key}")).ok();
    // Another session has not seen the key; this one learns of its end at the latest when it looks again.
    assert_refused(&over(mount).call("transit_encrypt", call), "vault_rejected");
    assert_eq!(vault().get(&format!("{mount}/keys/{key}")).status, 404);
}
