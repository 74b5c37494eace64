//! What must not work with transit: each is refused by name of the argument, and Vault never hears of it.

use serde_json::{Value, json};

use super::{
    through,
    transit_keys::{base64, keys},
};
use crate::common::{CANARY, Proxy, assert_refused, assert_untouched, audit_records, vault};

fn attack(calls: Vec<(&'static str, Value, &str)>) {
    let Some(mount) = keys() else { return };
    let proxy = Proxy::new(vault());
    let client = through(&proxy, &[("TRANSIT_MOUNT", mount)]);
    let log = client.server().home().audit_log();
    for (tool, arguments, code) in calls {
        let before = audit_records(&log).len();
        let result = assert_untouched(&proxy, || client.call(tool, arguments.clone()));
        assert!(result.is_error(), "{tool} {arguments} was not refused: {}", result.0);
        assert_refused(&result, code);
        let records = audit_records(&log);
        assert_eq!(records.len(), before + 1, "{tool} {arguments}: one record each");
        let last = records.last().unwrap();
        assert!(last["action"] == "VALIDATION_FAILED" && last["code"] == code, "{last}");
    }
    assert!(client.asked().is_empty());
    proxy.assert_within(&[format!("/v1/{mount}/")]);
}

#[test]
fn text_that_is_no_plain_base64_is_not_sent() {
    let mut calls = Vec::new();
    for text in [
        "",
        "a",
        "eA",
        "eA=",
        "eA===",
        "_-8=",
        "aGVs bG8=",
        "aGVs\nbG8=",
        "aGVsbG8=\n",
        "aGVsbG8=\r\n",
        "eB==",
        "äöü=",
        "aGVsbG8=\u{0}",
        CANARY,
    ] {
        calls.push(("transit_encrypt", json!({"key": "aes256-gcm96", "plaintext": text}), "invalid_input"));
        calls.push((
            "transit_encrypt",
            json!({"key": "aes256-gcm96", "batch": [{"plaintext": "eA=="}, {"plaintext": text}]}),
            "invalid_input",
        ));
        calls.push((
            "transit_encrypt",
            json!({"key": "derived", "plaintext": "eA==", "context": text}),
            "invalid_input",
        ));
        calls.push(("transit_sign", json!({"key": "ed25519", "input": text}), "invalid_input"));
        calls.push((
            "transit_verify",
            json!({"key": "ed25519", "input": text, "signature": "vault:v1:AAAA"}),
            "invalid_input",
        ));
    }
    for value in [json!(null), json!(5), json!([1]), json!({"a": "eA=="})] {
        calls.push(("transit_encrypt", json!({"key": "aes256-gcm96", "plaintext": value}), "invalid_input"));
    }
    attack(calls);
}

#[test]
fn text_that_is_no_ciphertext_of_vault_s_is_not_sent() {
    let mut calls = Vec::new();
    for text in [
        "",
        "aGVsbG8=",
        "vault:aGVsbG8=",
        "vault:v0:aGVsbG8=",
        "vault:v00:aGVsbG8=",
        "vault:v01:aGVsbG8=",
        "vault:v-1:aGVsbG8=",
        "vault:v1e3:aGVsbG8=",
        "vault:v:aGVsbG8=",
        "vault:v1:",
        "vault:v1",
        "vault:v99999999999999999999:aGVsbG8=",
        "Vault:v1:aGVsbG8=",
        " vault:v1:aGVsbG8=",
        "vault:v1:aGVs\nbG8=",
        "vault:v1:aGVs bG8=",
        "vault:v1:vault:v1:aGVsbG8=",
        "vault:v1:\u{202e}",
        CANARY,
    ] {
        for tool in ["transit_decrypt", "transit_rewrap"] {
            calls.push((tool, json!({"key": "aes256-gcm96", "ciphertext": text}), "invalid_input"));
            calls.push((
                tool,
                json!({"key": "aes256-gcm96", "batch": [{"ciphertext": text}]}),
                "invalid_input",
            ));
        }
        calls.push((
            "transit_verify",
            json!({"key": "ed25519", "input": "eA==", "signature": text}),
            "invalid_input",
        ));
    }
    attack(calls);
}

#[test]
fn a_key_s_name_is_one_plain_segment() {
    let mut calls = Vec::new();
    let long = "k".repeat(129);
    for key in [
        "",
        ".",
        "..",
        "../other",
        "k/rotate",
        "k/../x",
        "k?x",
        "k#x",
        "k%2frotate",
        "%2e%2e",
        "k\n",
        "k ",
        "k\u{0}",
        "k\\x",
        "*",
        "+",
        "ｋ",
        "k\u{200b}",
        long.as_str(),
    ] {
        calls.push(("transit_encrypt", json!({"key": key, "plaintext": "eA=="}), "invalid_input"));
        calls.push(("transit_decrypt", json!({"key": key, "ciphertext": "vault:v1:AAAA"}), "invalid_input"));
        calls.push(("transit_rewrap", json!({"key": key, "ciphertext": "vault:v1:AAAA"}), "invalid_input"));
        calls.push(("transit_sign", json!({"key": key, "input": "eA=="}), "invalid_input"));
        calls.push((
            "transit_verify",
            json!({"key": key, "input": "eA==", "signature": "vault:v1:AAAA"}),
            "invalid_input",
        ));
        calls.push(("transit_keys", json!({"key": key}), "invalid_input"));
    }
    attack(calls);
}

#[test]
fn numbers_and_words_outside_their_range_are_not_sent() {
    let mut calls = Vec::new();
    for bytes in ["0", "-1", "1000000000", "65537", "1e3", "1.5", "\"32\"", "18446744073709551616"] {
        let arguments: Value = serde_json::from_str(&format!("{{\"bytes\": {bytes}}}")).unwrap();
        calls.push(("transit_random", arguments, "invalid_input"));
    }
    for version in ["0", "-1", "1.5", "\"1\"", "18446744073709551616", "1000001"] {
        let number: Value = serde_json::from_str(version).unwrap();
        let encrypt = json!({"key": "aes256-gcm96", "plaintext": "eA==", "key_version": number});
        calls.push(("transit_encrypt", encrypt, "invalid_input"));
        calls.push((
            "transit_sign",
            json!({"key": "ed25519", "input": "eA==", "key_version": number}),
            "invalid_input",
        ));
    }
    for (field, word) in [
        ("hash_algorithm", "sha1"),
        ("hash_algorithm", "SHA2-256"),
        ("hash_algorithm", "md5"),
        ("signature_algorithm", "raw"),
        ("marshaling_algorithm", "der"),
        ("salt_length", "0"),
        ("prehashed", "true"),
        ("mount", "other"),
    ] {
        let mut arguments = json!({"key": "ed25519", "input": "eA=="});
        arguments[field] = json!(word);
        calls.push(("transit_sign", arguments, "invalid_input"));
    }
    calls.push(("transit_random", json!({"format": "raw"}), "invalid_input"));
    attack(calls);
}

#[test]
fn a_version_that_the_key_does_not_have_is_said_to_be_missing() {
    let Some(mount) = keys() else { return };
    let proxy = Proxy::new(vault());
    let client = through(&proxy, &[("TRANSIT_MOUNT", mount)]);
    for (tool, arguments) in [
        ("transit_decrypt", json!({"key": "aes256-gcm96", "ciphertext": "vault:v999:AAAA"})),
        ("transit_rewrap", json!({"key": "aes256-gcm96", "ciphertext": "vault:v999:AAAA"})),
        ("transit_verify", json!({"key": "ed25519", "input": base64("x"), "signature": "vault:v999:AAAA"})),
    ] {
        let refused = client.call(tool, arguments);
        assert_refused(&refused, "vault_rejected");
        assert!(refused.text().contains("no such version"), "{tool}: {}", refused.text());
    }
}

#[test]
fn an_hmac_without_a_hash_is_not_sent_since_it_breaks_real_servers() {
    let Some(mount) = keys() else { return };
    let proxy = Proxy::new(vault());
    let client = through(&proxy, &[("TRANSIT_MOUNT", mount)]);
    for (tool, mut arguments) in [
        ("transit_sign", json!({"key": "hmac", "input": base64("x")})),
        ("transit_verify", json!({"key": "hmac", "input": base64("x"), "signature": "vault:v1:AAAA"})),
    ] {
        arguments["hash_algorithm"] = json!("none");
        assert_refused(&client.call(tool, arguments), "invalid_input");
    }
    let sent = proxy.data_requests();
    assert!(sent.iter().all(|sent| sent.method == "GET"), "{sent:?}");
}
