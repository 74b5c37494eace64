//! What must not work: every call here ends before anything is sent.

use serde_json::{Value, json};

use super::{Scene, base64, other_side};
use crate::common::{
    Answer, Era, Proxy, assert_no_canary, assert_refused, assert_untouched, canary, records_of,
};

/// Refused as invalid, in one record, with nothing sent and nobody asked.
#[track_caller]
fn assert_invalid(scene: &Scene, tool: &str, arguments: Value) {
    let op = tool.replacen('_', ".", 1);
    let before = records_of(scene.home.audit_log(), &op).len();
    let refused = assert_untouched(&scene.proxy, || scene.client.call(tool, arguments));
    assert_refused(&refused, "invalid_input");
    let records = records_of(scene.home.audit_log(), &op);
    assert_eq!(records.len(), before + 1, "{op}");
    assert_eq!(records.last().unwrap()["action"], "VALIDATION_FAILED");
    assert!(scene.client.asked().is_empty());
}

#[test]
fn a_plaintext_of_4097_bytes_or_of_no_base64_is_refused() {
    let Some(scene) = Scene::new(&[("AWS_KMS_DEFAULT_KEY_ID", "alias/a")]) else { return };
    let secret = canary("plaintext");
    for plaintext in [
        base64(secret.repeat(100)),
        base64(vec![0; 4097]),
        String::new(),
        secret.clone(),
        format!("{}\n", base64(&secret)),
        "YQ".to_owned(),
        "YQ=".to_owned(),
        "YR==".to_owned(),
        base64([0xfb, 0xff]).replace('+', "-").replace('/', "_"),
    ] {
        assert_invalid(&scene, "kms_encrypt", json!({"plaintext": plaintext}));
    }
    for ciphertext in [base64(vec![0; 6145]), "not base64".to_owned(), String::new()] {
        assert_invalid(&scene, "kms_decrypt", json!({"ciphertext": ciphertext}));
    }
    for plaintext in [json!(null), json!(5), json!(["YQ=="]), json!({"masked": true})] {
        assert_invalid(&scene, "kms_encrypt", json!({"plaintext": plaintext}));
    }
}

#[test]
fn a_caller_brings_no_endpoint_region_or_credentials() {
    let Some(scene) = Scene::new(&[("AWS_KMS_DEFAULT_KEY_ID", "alias/a")]) else { return };
    let elsewhere = Proxy::before(&scene.aws.address);
    for (tool, given) in [
        ("kms_encrypt", json!({"plaintext": "YQ=="})),
        ("kms_decrypt", json!({"ciphertext": "YQ=="})),
        ("kms_generate_data_key", json!({})),
        ("kms_sign", json!({"message": "YQ==", "signing_algorithm": "ECDSA_SHA_256"})),
        ("kms_verify", json!({"message": "YQ==", "signing_algorithm": "ECDSA_SHA_256", "signature": "YQ=="})),
    ] {
        for (name, value) in [
            ("endpoint", "http://169.254.169.254/latest/meta-data/iam/"),
            ("endpoint_url", elsewhere.address.as_str()),
            ("region", "eu-central-1"),
            ("aws_access_key_id", "AKIA"),
            ("secret_access_key", "kanarienvogel7f3a_secret"),
            ("session_token", "x"),
            ("profile", "admin"),
            ("AWS_KMS_ENDPOINT", "http://169.254.169.254"),
        ] {
            let mut arguments = given.clone();
            arguments[name] = json!(value);
            assert_invalid(&scene, tool, arguments);
        }
    }
    assert_eq!(elsewhere.connections(), 0);
}

#[test]
fn variables_of_aws_do_not_move_the_endpoint() {
    let Some(aws) = other_side::other_side() else { return };
    let elsewhere = Proxy::before(&aws.address);
    let Some(scene) = Scene::new(&[
        ("AWS_ENDPOINT_URL", &elsewhere.address),
        ("AWS_ENDPOINT_URL_KMS", &elsewhere.address),
        ("HTTP_PROXY", &elsewhere.address),
        ("http_proxy", &elsewhere.address),
        ("ALL_PROXY", &elsewhere.address),
    ]) else {
        return;
    };
    let (key, _) = scene.aws.key();
    scene.client.call("kms_encrypt", json!({"plaintext": "YQ==", "key_id": key})).ok();
    assert_eq!((elsewhere.connections(), scene.proxy.count()), (0, 1));
}

#[test]
fn a_key_id_is_plain_text_of_bounded_length() {
    let Some(scene) = Scene::new(&[]) else { return };
    for key in [
        "",
        " ",
        "alias/a b",
        "alias/a\n",
        "alias/a\u{202e}",
        "alias/ä",
        "a?x=y",
        "a#x",
        "a%2f",
        "${x}",
        "\u{0}",
        &"k".repeat(2049),
    ] {
        assert_invalid(&scene, "kms_encrypt", json!({"plaintext": "YQ==", "key_id": key}));
    }
    for key in [json!(1), json!(null), json!(["alias/a"])] {
        // `null` is no key: the configured one is missing as well.
        assert_invalid(&scene, "kms_encrypt", json!({"plaintext": "YQ==", "key_id": key}));
    }
    assert_refused(
        &scene.client.call("kms_encrypt", json!({"plaintext": "YQ==", "key_id": "../../other"})),
        "invalid_input",
    );
}

#[test]
fn a_context_is_bounded_text() {
    let Some(scene) = Scene::new(&[("AWS_KMS_DEFAULT_KEY_ID", "alias/a")]) else { return };
    let many: serde_json::Map<_, _> = (0..2000).map(|i| (format!("k{i}"), json!("vvvv"))).collect();
    for context in [
        json!("a=b"),
        json!([["a", "b"]]),
        json!({"a": 1}),
        json!({"a": null}),
        json!({"a": {"b": "c"}}),
        json!({"": "x"}),
        json!({"a": ""}),
        json!({"a\nb": "x"}),
        json!({"a\u{200b}": "x"}),
        json!({"a": "x".repeat(8192)}),
        Value::Object(many),
    ] {
        let arguments = json!({"plaintext": "YQ==", "encryption_context": context});
        assert_invalid(&scene, "kms_encrypt", arguments);
    }
    for tokens in [json!("x"), json!([""]), json!(["a b"]), json!([1]), json!(vec!["x"; 11])] {
        assert_invalid(&scene, "kms_encrypt", json!({"plaintext": "YQ==", "grant_tokens": tokens}));
    }
}

#[test]
fn no_plaintext_is_in_any_output_but_an_approved_reveal() {
    let Some(scene) = Scene::new(&[]) else { return };
    let ((key, _), (signer, _)) = (scene.aws.key(), scene.aws.signing_key("RSA_2048"));
    let secret = base64(canary("everywhere"));
    let context = json!({"note": canary("note")});
    let call = |tool: &str, arguments: Value| scene.client.call(tool, arguments);
    let made =
        call("kms_encrypt", json!({"plaintext": secret, "key_id": key, "encryption_context": context}));
    let ciphertext = made.ok()["ciphertext"].clone();
    call("kms_decrypt", json!({"ciphertext": ciphertext, "encryption_context": context})).ok();
    call("kms_decrypt", json!({"ciphertext": ciphertext, "encryption_context": context, "to": "x.env"})).ok();
    assert!(call("kms_decrypt", json!({"ciphertext": ciphertext})).is_error());
    assert!(call("kms_encrypt", json!({"plaintext": secret, "key_id": "alias/none"})).is_error());
    let sign = json!({"message": secret, "signing_algorithm": "RSASSA_PSS_SHA_256", "key_id": signer});
    let mut verify = sign.clone();
    verify["signature"] = call("kms_sign", sign).ok()["signature"].clone();
    call("kms_verify", verify).ok();
    assert_no_canary(scene.client.server().stdout(), "standard output");
    assert_no_canary(serde_json::to_string(&scene.client.asked()).unwrap(), "a question");
    scene.client.always(Answer::Decline);
    let refused =
        call("kms_decrypt", json!({"ciphertext": ciphertext, "encryption_context": context, "reveal": true}));
    assert_refused(&refused, "declined");
    assert_no_canary(scene.client.server().stdout(), "standard output");
    assert_no_canary(scene.client.server().stderr(), "standard error");
    assert_no_canary(std::fs::read(scene.home.audit_log()).unwrap(), "the audit log");
}

#[test]
fn a_data_key_needs_a_human_who_can_be_asked() {
    let Some(aws) = other_side::other_side() else { return };
    let (key, _) = aws.key();
    let proxy = Proxy::before(&aws.address);
    let client = super::launch().env("AWS_KMS_ENDPOINT", &proxy.address).spawn().connect(Era::mute());
    for (tool, arguments) in [
        ("kms_generate_data_key", json!({"key_id": key})),
        ("kms_decrypt", json!({"ciphertext": "YQ==", "reveal": true})),
        ("kms_decrypt", json!({"ciphertext": "YQ==", "to": "x.bin"})),
    ] {
        let refused = assert_untouched(&proxy, || client.call(tool, arguments));
        assert_refused(&refused, "nobody_to_ask");
    }
}
