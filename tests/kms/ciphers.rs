//! Encrypting, decrypting and data keys, each used by AWS' SDK for Python the other way round.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::{Scene, base64, unbase64};
use crate::common::{Answer, assert_no_canary, assert_refused, assert_untouched, canary};

#[test]
fn what_is_encrypted_here_is_decrypted_there() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (key, arn) = scene.aws.key();
    let secret = canary("encrypt");
    let context = json!({"purpose": "test", "ünïcode": "värde"});
    let made = scene.client.call(
        "kms_encrypt",
        json!({"plaintext": base64(&secret), "key_id": arn, "encryption_context": context, "grant_tokens": ["AQpA+/=_-"]}),
    );
    assert_eq!(made.ok()["key_id"], arn);
    let ciphertext = &made.ok()["ciphertext"];
    let there = scene.aws.ask(json!({"do": "decrypt", "ciphertext": ciphertext, "context": context}));
    assert_eq!(there["plaintext"], base64(&secret));
    let sent = scene.proxy.requests().pop().unwrap().json();
    assert_eq!(sent["KeyId"], arn);
    assert_eq!(sent["GrantTokens"], json!(["AQpA+/=_-"]));
    assert_eq!(sent["EncryptionContext"], context);
    assert!(scene.client.asked().is_empty());
    let largest = json!({"plaintext": base64([7; 4096]), "key_id": key});
    scene.client.call("kms_encrypt", largest).ok();
    assert_no_canary(scene.client.server().stdout(), "standard output");
}

#[test]
fn what_is_encrypted_there_is_decrypted_here_and_masked() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (key, arn) = scene.aws.key();
    let secret = canary("decrypt");
    let there = scene.aws.ask(json!({"do": "encrypt", "key": key, "plaintext": base64(&secret)}));
    let opened = scene.client.call("kms_decrypt", json!({"ciphertext": there["ciphertext"]}));
    assert_eq!(opened.ok()["plaintext"]["masked"], true);
    assert_eq!(opened.ok()["key_id"], arn);
    assert!(scene.client.asked().is_empty());
    assert_no_canary(scene.client.server().stdout(), "standard output");
    let shown = scene.client.call("kms_decrypt", json!({"ciphertext": there["ciphertext"], "reveal": true}));
    assert_eq!(unbase64(&shown.ok()["plaintext"]), secret.as_bytes());
    let asked = scene.question();
    assert!(asked.starts_with("REVEAL aws-kms — the plaintext of 1 ciphertext"), "{asked}");
    assert!(asked.contains("shown to the model"), "{asked}");
    assert_no_canary(scene.client.server().stderr(), "standard error");
}

#[test]
fn a_plaintext_is_never_shown_against_the_setting_or_the_human() {
    let Some(scene) = Scene::new(&[("REVEAL", "never")]) else { return };
    let (key, _) = scene.aws.key();
    let there = scene.aws.ask(json!({"do": "encrypt", "key": key, "plaintext": base64(canary("never"))}));
    let reveal = json!({"ciphertext": there["ciphertext"], "reveal": true});
    let refused = assert_untouched(&scene.proxy, || scene.client.call("kms_decrypt", reveal.clone()));
    assert_refused(&refused, "reveal_forbidden");
    let key_shown = json!({"key_id": key, "reveal": true});
    let refused = assert_untouched(&scene.proxy, || scene.client.call("kms_generate_data_key", key_shown));
    assert_refused(&refused, "reveal_forbidden");
    let scene = Scene::new(&[]).unwrap();
    scene.client.always(Answer::Decline);
    let refused = assert_untouched(&scene.proxy, || scene.client.call("kms_decrypt", reveal));
    assert_refused(&refused, "declined");
}

#[test]
fn a_plaintext_goes_into_a_new_file_after_a_human_s_yes() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (key, _) = scene.aws.key();
    let secret = canary("to file");
    let there = scene.aws.ask(json!({"do": "encrypt", "key": key, "plaintext": base64(&secret)}));
    let call = |to: &str| {
        let arguments = json!({"ciphertext": there["ciphertext"], "to": to});
        scene.client.call("kms_decrypt", arguments)
    };
    let done = call("plain.bin");
    assert_eq!(done.ok()["plaintext"]["masked"], true);
    let file = scene.home.work().join("plain.bin");
    assert_eq!(done.ok()["file"].as_str().unwrap(), file.canonicalize().unwrap().to_str().unwrap());
    assert_eq!(std::fs::read(&file).unwrap(), secret.as_bytes());
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let asked = scene.question();
    assert!(asked.starts_with("DECRYPT aws-kms — ") && asked.contains("to the file plain.bin"), "{asked}");
    assert!(!asked.contains("shown to the model"), "{asked}");
    // Never over another file; and nothing is decrypted for it.
    let refused = assert_untouched(&scene.proxy, || call("plain.bin"));
    assert_refused(&refused, "file_refused");
    assert_refused(&assert_untouched(&scene.proxy, || call("../plain.bin")), "file_refused");
    call("plain.json").ok();
    let json: serde_json::Value =
        serde_json::from_slice(&std::fs::read(scene.home.work().join("plain.json")).unwrap()).unwrap();
    assert_eq!(json, json!({"KMS_PLAINTEXT": base64(&secret)}));
    scene.client.always(Answer::Decline);
    assert_refused(&assert_untouched(&scene.proxy, || call("other.bin")), "declined");
    assert!(!scene.home.work().join("other.bin").exists());
    assert_no_canary(scene.client.server().stdout(), "standard output");
}

#[test]
fn a_file_is_gone_when_there_is_nothing_to_put_into_it() {
    let Some(scene) = Scene::new(&[]) else { return };
    let bad = scene.client.call("kms_decrypt", json!({"ciphertext": base64("garbage"), "to": "plain.bin"}));
    assert_refused(&bad, "kms_ciphertext");
    assert!(!scene.home.work().join("plain.bin").exists());
}

#[test]
fn another_encryption_context_does_not_open_a_ciphertext() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (key, _) = scene.aws.key();
    let secret = canary("context");
    let context = json!({"tenant": "a", "purpose": "b"});
    let arguments = json!({"plaintext": base64(&secret), "key_id": key, "encryption_context": context});
    let made = scene.client.call("kms_encrypt", arguments);
    let open = |context: serde_json::Value| {
        let arguments = json!({"ciphertext": made.ok()["ciphertext"], "encryption_context": context});
        scene.client.call("kms_decrypt", arguments)
    };
    open(json!({"purpose": "b", "tenant": "a"})).ok();
    for other in [
        json!({}),
        json!({"tenant": "a"}),
        json!({"tenant": "a", "purpose": "c"}),
        json!({"Tenant": "a", "purpose": "b"}),
        json!({"tenant": "a", "purpose": "b", "more": "c"}),
    ] {
        assert_refused(&open(other), "kms_ciphertext");
    }
}

#[test]
fn a_data_key_is_masked_and_its_ciphertext_gives_it_back() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (key, arn) = scene.aws.key();
    let context = json!({"purpose": "disk"});
    let arguments = json!({"key_id": key, "encryption_context": context, "to": "data.key"});
    let made = scene.client.call("kms_generate_data_key", arguments);
    assert_eq!((&made.ok()["plaintext"]["masked"], &made.ok()["key_id"]), (&json!(true), &json!(arn)));
    let asked = scene.question();
    assert!(asked.starts_with(&format!("ISSUE aws-kms/{key} — a data key of 32 bytes")), "{asked}");
    assert!(asked.contains("context purpose") && asked.contains("to the file data.key"), "{asked}");
    let bytes = std::fs::read(scene.home.work().join("data.key")).unwrap();
    assert_eq!(bytes.len(), 32);
    let heard = String::from_utf8_lossy(&scene.client.server().stdout()).into_owned();
    assert!(!heard.contains(&base64(&bytes)) && !heard.contains(&hex::encode(&bytes)));
    // Somebody encrypts with the key; a reader who has only the ciphertext of it opens that.
    let sealed = scene.aws.ask(json!({"do": "seal", "key": base64(&bytes), "text": "hello"}));
    let read = scene.aws.ask(json!({
        "do": "open", "wrapped": made.ok()["ciphertext"], "sealed": sealed["sealed"], "context": context,
    }));
    assert_eq!(read["text"], "hello", "{read}");
    let again = json!({"ciphertext": made.ok()["ciphertext"], "encryption_context": context, "reveal": true});
    assert_eq!(unbase64(&scene.client.call("kms_decrypt", again).ok()["plaintext"]), bytes);
}

#[test]
fn a_data_key_has_the_size_that_was_asked_for() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (key, _) = scene.aws.key();
    for (size, bytes, spec, number) in [
        (json!({}), 32, json!("AES_256"), json!(null)),
        (json!({"key_spec": "AES_256"}), 32, json!("AES_256"), json!(null)),
        (json!({"key_spec": "AES_128"}), 16, json!("AES_128"), json!(null)),
        (json!({"number_of_bytes": 1}), 1, json!(null), json!(1)),
        (json!({"number_of_bytes": 1024}), 1024, json!(null), json!(1024)),
    ] {
        let mut arguments = json!({"key_id": key, "reveal": true});
        arguments.as_object_mut().unwrap().extend(size.as_object().unwrap().clone());
        let made = scene.client.call("kms_generate_data_key", arguments);
        assert_eq!(unbase64(&made.ok()["plaintext"]).len(), bytes, "{size}");
        assert!(scene.question().contains(&format!("{bytes} bytes")));
        let sent = scene.proxy.requests().pop().unwrap().json();
        assert_eq!((&sent["KeySpec"], &sent["NumberOfBytes"]), (&spec, &number));
    }
    for size in [
        json!({"key_spec": "AES_256", "number_of_bytes": 32}),
        json!({"key_spec": "AES_512"}),
        json!({"number_of_bytes": 0}),
        json!({"number_of_bytes": 1025}),
        json!({"number_of_bytes": "32"}),
    ] {
        let refused = assert_untouched(&scene.proxy, || scene.client.call("kms_generate_data_key", size));
        assert_refused(&refused, "invalid_input");
    }
}

#[test]
fn a_data_key_goes_into_a_dotenv_file_with_its_ciphertext() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (key, _) = scene.aws.key();
    let made = scene.client.call("kms_generate_data_key", json!({"key_id": key, "to": ".env.kms"}));
    let text = std::fs::read_to_string(scene.home.work().join(".env.kms")).unwrap();
    let value = |name: &str| {
        let line = text.lines().find_map(|line| line.strip_prefix(&format!("{name}='"))).unwrap();
        json!(line.strip_suffix('\'').unwrap())
    };
    assert_eq!(value("KMS_DATA_KEY_CIPHERTEXT"), made.ok()["ciphertext"]);
    let there = scene.aws.ask(json!({"do": "decrypt", "ciphertext": made.ok()["ciphertext"]}));
    assert_eq!(value("KMS_DATA_KEY"), there["plaintext"]);
}
