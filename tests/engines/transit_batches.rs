//! Batches: order, a result or a fault for each item, their limit, and how they are split.

use serde_json::{Value, json};

use super::{
    assert_masked, private_file, question, through,
    transit_keys::{base64, decrypted, keys, over},
    work,
};
use crate::common::{Answer, Proxy, assert_no_canary, assert_refused, assert_untouched, canary, vault};

fn results(value: &Value) -> &Vec<Value> {
    assert!(value.get("ciphertext").is_none() && value.get("plaintext").is_none(), "{value}");
    value["batch"].as_array().unwrap()
}

#[test]
fn a_batch_keeps_its_order_through_encrypt_rewrap_and_decrypt() {
    let Some(mount) = keys() else { return };
    let client = over(mount);
    for key in ["aes256-gcm96", "chacha20-poly1305", "rsa-2048"] {
        let secrets: Vec<String> = (0..7).map(|number| canary(&format!("item{number}"))).collect();
        let items: Vec<Value> = secrets.iter().map(|secret| json!({"plaintext": base64(secret)})).collect();
        let encrypted = client.call("transit_encrypt", json!({"key": key, "batch": items}));
        let ciphertexts = results(encrypted.ok());
        for (secret, item) in secrets.iter().zip(ciphertexts) {
            assert_eq!(decrypted(mount, key, &item["ciphertext"], None), *secret);
        }
        let rewrapped = client.call("transit_rewrap", json!({"key": key, "batch": ciphertexts}));
        for (secret, item) in secrets.iter().zip(results(rewrapped.ok())) {
            assert_eq!(decrypted(mount, key, &item["ciphertext"], None), *secret);
        }
        let plain = client.call("transit_decrypt", json!({"key": key, "batch": ciphertexts, "reveal": true}));
        for (secret, item) in secrets.iter().zip(results(plain.ok())) {
            assert_eq!(item["plaintext"], base64(secret));
        }
        let masked = client.call("transit_decrypt", json!({"key": key, "batch": ciphertexts}));
        results(masked.ok()).iter().for_each(|item| assert_masked(&item["plaintext"]));
        assert_no_canary(masked.0.to_string(), "a masked batch");
    }
}

#[test]
fn good_and_bad_items_of_one_batch_each_have_their_own_answer() {
    let Some(mount) = keys() else { return };
    let client = over(mount);
    for key in ["aes256-gcm96", "rsa-2048"] {
        let good = client.call("transit_encrypt", json!({"key": key, "plaintext": base64("good")}));
        let good = good.ok()["ciphertext"].as_str().unwrap().to_owned();
        let mut damaged = good.clone().into_bytes();
        let at = "vault:v1:".len() + 6;
        damaged[at] = if damaged[at] == b'A' { b'B' } else { b'A' };
        let damaged = String::from_utf8(damaged).unwrap();
        let items = json!([
            {"ciphertext": damaged},
            {"ciphertext": good},
            {"ciphertext": good.replace("vault:v1:", "vault:v999:")},
            {"ciphertext": good},
            {"ciphertext": "vault:v1:AAAA"},
        ]);
        for tool in ["transit_decrypt", "transit_rewrap"] {
            let answer = client.call(tool, json!({"key": key, "batch": items}));
            let list = results(answer.ok());
            assert_eq!(list.len(), 5, "{key} {tool}: {list:?}");
            for (index, item) in list.iter().enumerate() {
                let is_good = matches!(index, 1 | 3);
                assert_eq!(item.get("error").is_none(), is_good, "{key} {tool} {index}: {item}");
                let has_result = item.get("plaintext").or_else(|| item.get("ciphertext")).is_some();
                assert_eq!(has_result, is_good, "{key} {tool} {index}: {item}");
            }
            assert!(list[2]["error"].as_str().unwrap().contains("no such version"), "{list:?}");
        }
        // All bad is no other case, also where Vault calls it a failure of its own.
        let bad = json!({"key": key, "batch": [{"ciphertext": "vault:v1:AAAA"}, {"ciphertext": damaged}]});
        let answer = client.call("transit_decrypt", bad);
        assert!(results(answer.ok()).iter().all(|item| item["error"].is_string()), "{}", answer.0);
    }
}

#[test]
fn a_plaintext_too_long_for_its_rsa_key_is_said_to_be_and_spoils_no_other() {
    let Some(mount) = keys() else { return };
    let proxy = Proxy::new(vault());
    let client = through(&proxy, &[("TRANSIT_MOUNT", mount)]);
    // OAEP with SHA-256 takes the modulus less 66 bytes (RFC 8017, 7.1.1).
    for (key, most) in [("rsa-2048", 190), ("rsa-3072", 318)] {
        let (fits, long) = (base64(vec![7; most]), base64(vec![7; most + 1]));
        client.call("transit_encrypt", json!({"key": key, "plaintext": fits})).ok();
        let before = proxy.data_requests().len();
        let refused = client.call("transit_encrypt", json!({"key": key, "plaintext": long}));
        assert_refused(&refused, "vault_rejected");
        assert!(refused.text().contains("too long for this RSA key"), "{}", refused.text());
        assert!(proxy.data_requests().len() <= before + 1, "it was tried again");
        let mixed = json!({"key": key, "batch": [{"plaintext": long}, {"plaintext": fits}]});
        let answer = client.call("transit_encrypt", mixed);
        let list = results(answer.ok());
        assert!(list[0]["error"].is_string() && list[1]["ciphertext"].is_string(), "{list:?}");
    }
}

#[test]
fn bad_items_do_not_make_vault_look_broken() {
    let Some(mount) = keys() else { return };
    let client = over(mount);
    for _ in 0..8 {
        let bad = client.call("transit_decrypt", json!({"key": "rsa-2048", "ciphertext": "vault:v1:AAAA"}));
        assert_refused(&bad, "vault_rejected");
    }
    client.call("transit_random", json!({})).ok();
}

#[test]
fn a_thousand_items_are_split_and_a_thousand_and_one_refused() {
    let Some(mount) = keys() else { return };
    let proxy = Proxy::new(vault());
    let client = through(&proxy, &[("TRANSIT_MOUNT", mount)]);
    let items = |count: usize| -> Vec<Value> {
        (0..count).map(|number| json!({"plaintext": base64(format!("item {number}"))})).collect()
    };
    let answer = client.call("transit_encrypt", json!({"key": "aes256-gcm96", "batch": items(1000)}));
    let list = results(answer.ok()).clone();
    assert_eq!(list.len(), 1000);
    let sent = proxy.data_requests().into_iter().filter(|sent| sent.target.contains("/encrypt/"));
    let sizes: Vec<usize> = sent.map(|sent| sent.json()["batch_input"].as_array().unwrap().len()).collect();
    assert_eq!((sizes.iter().sum::<usize>(), sizes.len()), (1000, 2), "{sizes:?}");
    for number in [0, 1, 989, 990, 999] {
        assert_eq!(
            decrypted(mount, "aes256-gcm96", &list[number]["ciphertext"], None),
            format!("item {number}")
        );
    }
    // With a context there are two strings an item, so half as many fit a request.
    let context = base64("c");
    let derived: Vec<Value> =
        (0..1000).map(|_| json!({"plaintext": base64("x"), "context": context})).collect();
    let answer = client.call("transit_encrypt", json!({"key": "derived", "batch": derived}));
    assert_eq!(results(answer.ok()).len(), 1000);
    let sent = proxy.data_requests().into_iter().filter(|sent| sent.target.contains("/encrypt/derived"));
    assert_eq!(sent.count(), 3);
    for count in [0, 1001] {
        for (tool, items) in [
            ("transit_encrypt", items(count)),
            ("transit_decrypt", vec![json!({"ciphertext": "vault:v1:AAAA"}); count]),
            ("transit_rewrap", vec![json!({"ciphertext": "vault:v1:AAAA"}); count]),
        ] {
            let call = || client.call(tool, json!({"key": "aes256-gcm96", "batch": items}));
            assert_refused(&assert_untouched(&proxy, call), "invalid_input");
        }
    }
}

#[test]
fn an_item_and_a_batch_at_once_or_neither_is_refused() {
    let Some(mount) = keys() else { return };
    let proxy = Proxy::new(vault());
    let client = through(&proxy, &[("TRANSIT_MOUNT", mount)]);
    for (tool, field, text) in [
        ("transit_encrypt", "plaintext", "eA=="),
        ("transit_decrypt", "ciphertext", "vault:v1:AAAA"),
        ("transit_rewrap", "ciphertext", "vault:v1:AAAA"),
    ] {
        let both = json!({"key": "aes256-gcm96", field: text, "batch": [{field: text}]});
        for arguments in [both, json!({"key": "aes256-gcm96"})] {
            assert_refused(&assert_untouched(&proxy, || client.call(tool, arguments)), "invalid_input");
        }
    }
}

#[test]
fn a_plaintext_goes_into_a_new_file_behind_a_yes_and_nowhere_else() {
    let Some(mount) = keys() else { return };
    let client = over(mount);
    let secret = canary("file");
    let made = client.call("transit_encrypt", json!({"key": "aes256-gcm96", "plaintext": base64(&secret)}));
    let call = |more: Value| {
        let mut call = json!({"key": "aes256-gcm96", "ciphertext": made.ok()["ciphertext"]});
        call.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.call("transit_decrypt", call)
    };
    let opened = call(json!({"to": "plain.bin"}));
    assert_masked(&opened.ok()["plaintext"]);
    assert_no_canary(opened.0.to_string(), "the answer");
    let asked = question(&client);
    assert!(
        asked.starts_with("DECRYPT ") && asked.contains("1 ciphertext, to the file plain.bin"),
        "{asked}"
    );
    assert_eq!(opened.ok()["file"], work(&client).join("plain.bin").display().to_string());
    assert_eq!(private_file(work(&client).join("plain.bin")), secret);
    call(json!({"to": "plain.env"})).ok();
    assert_eq!(
        private_file(work(&client).join("plain.env")),
        format!("TRANSIT_PLAINTEXT='{}'\n", base64(&secret))
    );

    let count = client.asked().len();
    for name in ["plain.bin", "../x", ".ssh/x", "missing/x", "/etc/x"] {
        assert_refused(&call(json!({"to": name})), "file_refused");
    }
    assert_refused(
        &client.call(
            "transit_decrypt",
            json!({"key": "aes256-gcm96", "batch": [{"ciphertext": made.ok()["ciphertext"]}], "to": "x"}),
        ),
        "invalid_input",
    );
    // What cannot be opened leaves no file behind.
    let bad = json!({"key": "aes256-gcm96", "ciphertext": "vault:v1:AAAA", "to": "bad.bin"});
    assert!(client.call("transit_decrypt", bad).is_error());
    assert!(!work(&client).join("bad.bin").exists());
    assert!(client.asked().len() > count);
    client.always(Answer::Decline);
    assert_refused(&call(json!({"to": "declined.bin"})), "declined");
    assert!(!work(&client).join("declined.bin").exists());
    assert_eq!(private_file(work(&client).join("plain.bin")), secret);
}
