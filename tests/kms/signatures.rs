//! Signatures, checked with the public key by a library that knows nothing of AWS.

use serde_json::{Value, json};

use super::{Scene, base64, unbase64};
use crate::common::{assert_refused, assert_untouched};

const RSA: [&str; 6] = [
    "RSASSA_PSS_SHA_256",
    "RSASSA_PSS_SHA_384",
    "RSASSA_PSS_SHA_512",
    "RSASSA_PKCS1_V1_5_SHA_256",
    "RSASSA_PKCS1_V1_5_SHA_384",
    "RSASSA_PKCS1_V1_5_SHA_512",
];

#[test]
fn a_signature_fits_the_public_key_and_nothing_else() {
    let Some(scene) = Scene::new(&[]) else { return };
    for (spec, algorithms) in [
        ("RSA_2048", &RSA[..]),
        ("ECC_NIST_P256", &["ECDSA_SHA_256"]),
        ("ECC_NIST_P384", &["ECDSA_SHA_384"]),
        ("ECC_NIST_P521", &["ECDSA_SHA_512"]),
        ("ECC_SECG_P256K1", &["ECDSA_SHA_256"]),
    ] {
        let (key, arn) = scene.aws.signing_key(spec);
        for algorithm in algorithms {
            let message = base64(format!("a message for {algorithm}"));
            let arguments = json!({"message": message, "signing_algorithm": algorithm, "key_id": key});
            let made = scene.client.call("kms_sign", arguments.clone());
            assert_eq!(
                (&made.ok()["key_id"], &made.ok()["signing_algorithm"]),
                (&json!(arn), &json!(algorithm))
            );
            let sent = scene.proxy.requests().pop().unwrap().json();
            assert_eq!((&sent["MessageType"], &sent["Message"]), (&json!("RAW"), &json!(message)));
            let signature = &made.ok()["signature"];
            let check = |message: &str, signature: &Value| {
                scene.aws.ask(json!({
                    "do": "check", "key": key, "algorithm": algorithm, "message": message,
                    "signature": signature,
                }))
            };
            assert_eq!(check(&message, signature)["valid"], true, "{spec} {algorithm}");
            assert_eq!(check(&base64("another"), signature)["valid"], false, "{spec} {algorithm}");
            let verify = |message: &str, signature: &str| {
                let mut arguments = arguments.clone();
                arguments["message"] = json!(message);
                arguments["signature"] = json!(signature);
                scene.client.call("kms_verify", arguments).ok()["valid"].clone()
            };
            let good = signature.as_str().unwrap();
            assert_eq!(verify(&message, good), true, "{spec} {algorithm}");
            assert_eq!(verify(&base64("another"), good), false, "{spec} {algorithm}");
            let mut bent = unbase64(signature);
            let last = bent.len() - 1;
            bent[last] ^= 1;
            assert_eq!(verify(&message, &base64(bent)), false, "{spec} {algorithm}");
        }
    }
    assert!(scene.client.asked().is_empty());
}

#[test]
fn a_digest_is_sent_as_one() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (key, _) = scene.aws.signing_key("ECC_NIST_P384");
    let digest = base64([0x5a; 48]);
    for kind in [json!({}), json!({"message_type": "DIGEST"})] {
        let mut arguments =
            json!({"message_digest": digest, "signing_algorithm": "ECDSA_SHA_384", "key_id": key});
        arguments.as_object_mut().unwrap().extend(kind.as_object().unwrap().clone());
        let made = scene.client.call("kms_sign", arguments.clone());
        let sent = scene.proxy.requests().pop().unwrap().json();
        assert_eq!((&sent["MessageType"], &sent["Message"]), (&json!("DIGEST"), &json!(digest)));
        // moto takes a digest for a message: so does the check.
        let check = json!({
            "do": "check", "key": key, "algorithm": "ECDSA_SHA_384", "message": digest,
            "signature": made.ok()["signature"],
        });
        assert_eq!(scene.aws.ask(check)["valid"], true);
        arguments["signature"] = made.ok()["signature"].clone();
        assert_eq!(scene.client.call("kms_verify", arguments).ok()["valid"], true);
        let sent = scene.proxy.requests().pop().unwrap().json();
        assert_eq!((&sent["MessageType"], &sent["Message"]), (&json!("DIGEST"), &json!(digest)));
    }
}

#[test]
fn a_digest_of_another_length_is_refused_before_it_is_sent() {
    let Some(scene) = Scene::new(&[]) else { return };
    for (algorithm, length) in [
        ("RSASSA_PSS_SHA_256", 32),
        ("RSASSA_PSS_SHA_384", 48),
        ("RSASSA_PSS_SHA_512", 64),
        ("RSASSA_PKCS1_V1_5_SHA_256", 32),
        ("ECDSA_SHA_256", 32),
        ("ECDSA_SHA_384", 48),
        ("ECDSA_SHA_512", 64),
        ("ED25519_PH_SHA_512", 64),
        ("ML_DSA_SHAKE_256", 64),
        ("SM2DSA", 32),
        ("ED25519_SHA_512", 0),
    ] {
        for wrong in [1, 20, 31, 32, 33, 48, 64, 65].into_iter().filter(|wrong| *wrong != length) {
            let digest = base64(vec![1; wrong]);
            for tool in ["kms_sign", "kms_verify"] {
                let mut arguments =
                    json!({"message_digest": digest, "signing_algorithm": algorithm, "key_id": "alias/a"});
                if tool == "kms_verify" {
                    arguments["signature"] = json!("YQ==");
                }
                let refused = assert_untouched(&scene.proxy, || scene.client.call(tool, arguments));
                assert_refused(&refused, "invalid_input");
                assert!(refused.text().contains("message_digest"), "{}", refused.text());
            }
        }
    }
}

#[test]
fn message_and_digest_exclude_each_other() {
    let Some(scene) = Scene::new(&[]) else { return };
    let digest = base64([1; 32]);
    for more in [
        json!({}),
        json!({"message": digest, "message_digest": digest}),
        json!({"message": digest, "message_type": "DIGEST"}),
        json!({"message_digest": digest, "message_type": "RAW"}),
        json!({"message_digest": digest, "message_type": "EXTERNAL_MU"}),
        json!({"message": base64([1; 4097])}),
        json!({"message": ""}),
        json!({"message": digest, "signing_algorithm": "RSASSA_PSS_SHA_1"}),
        json!({"message": digest, "signing_algorithm": "none"}),
    ] {
        let mut arguments = json!({"signing_algorithm": "ECDSA_SHA_256", "key_id": "alias/a"});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let refused = assert_untouched(&scene.proxy, || scene.client.call("kms_sign", arguments));
        assert_refused(&refused, "invalid_input");
    }
}

#[test]
fn a_key_for_encryption_does_not_sign() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (key, _) = scene.aws.key();
    let arguments = json!({"message": "YQ==", "signing_algorithm": "ECDSA_SHA_256", "key_id": key});
    // AWS says InvalidKeyUsageException here; moto says ValidationException.
    assert_refused(&scene.client.call("kms_sign", arguments), "kms_rejected");
}

#[test]
fn a_human_may_be_asked_before_each_signature() {
    let Some(scene) = Scene::new(&[("CONFIRM_EFFECTS", "compute")]) else { return };
    let (key, _) = scene.aws.signing_key("ECC_NIST_P256");
    let arguments = json!({"message": "YQ==", "signing_algorithm": "ECDSA_SHA_256", "key_id": key});
    scene.client.call("kms_sign", arguments).ok();
    let asked = scene.question();
    assert!(
        asked.starts_with(&format!("SIGN aws-kms/{key} — a message of 1 bytes, ECDSA_SHA_256")),
        "{asked}"
    );
}
