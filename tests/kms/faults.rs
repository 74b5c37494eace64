//! What AWS refuses, and a way to it that breaks: each with its own code, its remedy, and nothing echoed.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::{Scene, base64, launch};
use crate::common::{DeadEnd, Era, Fault, On, assert_no_canary, assert_refused, canary};

fn refusal(code: &str) -> String {
    // As KMS writes it, with a text that must not be passed on.
    json!({"__type": code, "message": format!("arn:aws:iam::1:user/x {}", canary("from aws"))}).to_string()
}

fn encrypt(scene: &Scene, key: &str) -> crate::common::ToolResult {
    let arguments = json!({"plaintext": base64(canary("sent")), "key_id": key});
    scene.client.call("kms_encrypt", arguments)
}

#[test]
fn each_refusal_of_aws_has_a_code_and_a_remedy() {
    let Some(scene) = Scene::new(&[]) else { return };
    for (theirs, status, ours, remedy) in [
        ("AccessDeniedException", 400, "kms_forbidden", "kms:Encrypt"),
        ("UnrecognizedClientException", 400, "kms_credentials_rejected", "access key"),
        ("ExpiredTokenException", 400, "kms_credentials_rejected", "expired"),
        ("InvalidSignatureException", 400, "kms_credentials_rejected", "clock"),
        ("NotFoundException", 400, "kms_key_not_found", "AWS_REGION"),
        ("DisabledException", 400, "kms_key_unusable", "disabled"),
        ("KMSInvalidStateException", 400, "kms_key_unusable", "state"),
        ("InvalidKeyUsageException", 400, "kms_key_unusable", "usage"),
        ("InvalidGrantTokenException", 400, "kms_rejected", "grant token"),
        ("ValidationException", 400, "kms_rejected", "length"),
        ("SomethingNew", 400, "kms_rejected", "arguments"),
    ] {
        scene.proxy.heal().fail(On::every(), Fault::Answer(status, refusal(theirs)));
        let before = scene.proxy.count();
        let refused = encrypt(&scene, "alias/a");
        assert_refused(&refused, ours);
        assert!(refused.text().contains(remedy), "{theirs}: {}", refused.text());
        assert_eq!(scene.proxy.count() - before, 1, "{theirs} was tried again");
    }
    assert_no_canary(scene.client.server().stdout(), "standard output");
}

#[test]
fn a_key_that_is_not_there_is_said_so() {
    let Some(scene) = Scene::new(&[]) else { return };
    for key in ["alias/none", "00000000-0000-0000-0000-000000000000"] {
        assert_refused(&encrypt(&scene, key), "kms_key_not_found");
    }
}

#[test]
fn throttling_is_waited_out_or_said_so() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (key, _) = scene.aws.key();
    scene.proxy.fail(On::every().times(2), Fault::Answer(400, refusal("ThrottlingException")));
    encrypt(&scene, &key).ok();
    assert_eq!(scene.proxy.count(), 3);
    scene.proxy.fail(On::every(), Fault::Answer(400, refusal("ThrottlingException")));
    assert_refused(&encrypt(&scene, &key), "kms_throttled");
    assert_eq!(scene.proxy.count(), 6);
}

#[test]
fn a_failure_of_aws_is_tried_again_for_what_changes_nothing() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (key, _) = scene.aws.key();
    scene.proxy.fail(On::every().times(1), Fault::Answer(500, refusal("KMSInternalException")));
    encrypt(&scene, &key).ok();
    scene.proxy.fail(On::every().times(1), Fault::ResetBefore);
    encrypt(&scene, &key).ok();
    scene.proxy.fail(On::every(), Fault::Answer(503, String::new()));
    assert_refused(&encrypt(&scene, &key), "kms_failed");
}

#[test]
fn a_data_key_is_asked_for_once_whatever_happens() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (key, _) = scene.aws.key();
    for (fault, code) in [
        (Fault::Answer(400, refusal("ThrottlingException")), "kms_throttled"),
        (Fault::Answer(500, refusal("KMSInternalException")), "kms_failed"),
        (Fault::ResetBefore, "kms_unreachable"),
        (Fault::ResetAfter, "kms_unreachable"),
        (Fault::Truncated, "kms_unreachable"),
    ] {
        scene.proxy.heal().fail(On::every(), fault.clone());
        let before = scene.proxy.count();
        let refused = scene.client.call("kms_generate_data_key", json!({"key_id": key, "to": "key.bin"}));
        assert_refused(&refused, code);
        assert_eq!(scene.proxy.count() - before, 1, "{fault:?}: asked again");
        assert!(!scene.home.work().join("key.bin").exists());
    }
    scene.proxy.heal();
    scene.client.call("kms_generate_data_key", json!({"key_id": key, "to": "key.bin"})).ok();
}

#[test]
fn a_failed_call_is_in_the_log_with_its_code() {
    let Some(scene) = Scene::new(&[]) else { return };
    assert_refused(&encrypt(&scene, "alias/none"), "kms_key_not_found");
    let records = crate::common::records_of(scene.home.audit_log(), "kms.encrypt");
    let last: &Value = records.last().unwrap();
    assert_eq!((&last["action"], &last["code"]), (&json!("FAILED"), &json!("kms_key_not_found")));
    assert!(last["vault_request_id"].is_string(), "{last}");
}

#[test]
fn an_answer_that_is_none_of_kms_is_said_so() {
    let Some(scene) = Scene::new(&[]) else { return };
    for (fault, code) in [
        (Fault::NotJson, "kms_failed"),
        (Fault::Body("{}".to_owned()), "kms_failed"),
        (Fault::Answer(403, "<html>Sign in".to_owned()), "kms_rejected"),
        (Fault::Redirect("http://169.254.169.254/".to_owned()), "kms_failed"),
        (Fault::NotHttp, "kms_unreachable"),
        (Fault::Huge(2 << 20), "kms_unreachable"),
    ] {
        scene.proxy.heal().fail(On::every(), fault.clone());
        let refused = encrypt(&scene, "alias/a");
        assert_eq!(refused.code(), code, "{fault:?}: {}", refused.text());
        assert_refused(&refused, code);
    }
}

#[test]
fn a_way_that_is_shut_is_told_with_its_address() {
    let nobody = DeadEnd::new();
    let address = nobody.address();
    let client = launch().env("AWS_KMS_ENDPOINT", &address).spawn().connect(Era::usual());
    let refused = client.call("kms_encrypt", json!({"plaintext": "YQ==", "key_id": "alias/a"}));
    assert_refused(&refused, "kms_unreachable");
    assert!(
        refused.text().contains(&address) && refused.text().contains("no connection"),
        "{}",
        refused.text()
    );
}

#[test]
fn no_answer_ends_at_the_deadline() {
    let Some(scene) = Scene::new(&[]) else { return };
    scene.proxy.fail(On::every(), Fault::BlackHole);
    let start = Instant::now();
    assert_refused(&encrypt(&scene, "alias/a"), "kms_unreachable");
    let took = start.elapsed();
    // Ten seconds are promised; a second attempt would make it twenty.
    assert!((Duration::from_secs(9)..Duration::from_secs(19)).contains(&took), "{took:?}");
}
