//! On and off, where credentials and region come from, and what goes over the wire.

use serde_json::{Value, json};

use super::{ACCESS_KEY, REGION, SECRET_KEY, Scene, base64, launch, other_side};
use crate::common::{
    Answer, DeadEnd, Era, McpClient, Proxy, Server, assert_refused, assert_untouched, audit_records, canary,
    records_of,
};

const TOOLS: [&str; 5] = ["kms_encrypt", "kms_decrypt", "kms_generate_data_key", "kms_sign", "kms_verify"];

fn listed(client: &McpClient) -> Vec<String> {
    let names = client.tools().into_iter().map(|tool| tool["name"].as_str().unwrap().to_owned());
    names.filter(|name| name.starts_with("kms")).collect()
}

#[test]
fn it_is_off_unless_it_is_switched_on() {
    let nobody = DeadEnd::new();
    for off in [launch().without("AWS_KMS_ENABLED"), launch().env("AWS_KMS_ENABLED", "false")] {
        let client = off.env("AWS_KMS_ENDPOINT", nobody.address()).spawn().connect(Era::usual());
        assert!(listed(&client).is_empty());
        for tool in TOOLS {
            let refused = client.call(tool, json!({}));
            assert_refused(&refused, "kms_off");
            assert!(refused.text().contains("AWS_KMS_ENABLED=true"), "{}", refused.text());
        }
    }
    let on = launch().spawn().connect(Era::usual());
    assert_eq!(listed(&on), TOOLS);
}

#[test]
fn toolsets_and_read_only_hold_for_kms_too() {
    let other = launch().env("TOOLSETS", "kv").spawn().connect(Era::usual());
    assert!(listed(&other).is_empty());
    assert_refused(&other.call("kms_encrypt", json!({"plaintext": "YQ=="})), "unknown_tool");
    let only = launch().env("TOOLSETS", "kms").spawn().connect(Era::usual());
    assert_eq!(listed(&only), TOOLS);
    let reader = launch().env("READ_ONLY", "true").spawn().connect(Era::usual());
    assert_eq!(listed(&reader), ["kms_encrypt", "kms_decrypt", "kms_sign", "kms_verify"]);
    assert_refused(&reader.call("kms_generate_data_key", json!({})), "unknown_tool");
    let to_file = json!({"ciphertext": "YQ==", "to": "plain.bin"});
    assert_refused(&reader.call("kms_decrypt", to_file), "invalid_input");
}

#[test]
fn the_scopes_and_effects_are_told_to_the_client() {
    let client = launch().spawn().connect(Era::usual());
    for tool in client.tools() {
        let name = tool["name"].as_str().unwrap();
        if name.starts_with("kms") {
            let reads = name != "kms_generate_data_key";
            assert_eq!(tool["annotations"]["readOnlyHint"], reads, "{name}");
        }
    }
}

#[test]
fn nothing_is_looked_up_before_the_first_call() {
    let Some(aws) = other_side::other_side() else { return };
    let (proxy, metadata) = (Proxy::before(&aws.address), Proxy::before(&aws.address));
    let client = launch()
        .without("AWS_ACCESS_KEY_ID")
        .without("AWS_REGION")
        .env("AWS_EC2_METADATA_DISABLED", "false")
        .env("AWS_EC2_METADATA_SERVICE_ENDPOINT", &metadata.address)
        .env("AWS_KMS_ENDPOINT", &proxy.address)
        .spawn()
        .connect(Era::usual());
    assert_eq!(listed(&client), TOOLS);
    assert_refused(&client.call("kv_read", json!({"path": "../x"})), "path_refused");
    assert_eq!((proxy.connections(), metadata.connections()), (0, 0));
    // The chain of AWS does ask there, once a call needs it: it is the chain, not its absence, that is tested.
    assert!(client.call("kms_encrypt", json!({"plaintext": "YQ==", "key_id": "k"})).is_error());
    assert!(metadata.connections() > 0);
    assert_eq!(proxy.connections(), 0);
}

#[test]
fn a_request_is_signed_as_aws_wants_it() {
    let Some(scene) = Scene::new(&[("AWS_SESSION_TOKEN", "session-token")]) else { return };
    let (key, _) = scene.aws.key();
    scene.client.call("kms_encrypt", json!({"plaintext": base64("x"), "key_id": key})).ok();
    let sent = scene.proxy.requests().pop().unwrap();
    assert_eq!((sent.method.as_str(), sent.target.as_str()), ("POST", "/"));
    assert_eq!(sent.header("x-amz-target"), Some("TrentService.Encrypt"));
    assert_eq!(sent.header("x-amz-security-token"), Some("session-token"));
    let verdict = |secret: &str, body: &[u8]| {
        scene.aws.ask(json!({
            "do": "sigv4", "method": sent.method, "target": sent.target, "headers": sent.headers,
            "body": base64(body), "secret": secret,
        }))
    };
    let good = verdict(SECRET_KEY, &sent.body);
    assert_eq!(good["valid"], true, "{good}\n{}", String::from_utf8_lossy(&sent.head));
    assert_eq!(good["access"], ACCESS_KEY);
    assert_eq!(good["scope"], format!("{REGION}/kms/aws4_request"));
    assert_eq!(verdict("another secret", &sent.body)["valid"], false);
    let mut other = sent.body.clone();
    other[5] ^= 1;
    assert_eq!(verdict(SECRET_KEY, &other)["valid"], false);
}

#[test]
fn credentials_and_region_may_come_from_a_profile() {
    let Some(aws) = other_side::other_side() else { return };
    let (key, _) = aws.key();
    let proxy = Proxy::before(&aws.address);
    let launch = launch()
        .without("AWS_ACCESS_KEY_ID")
        .without("AWS_SECRET_ACCESS_KEY")
        .without("AWS_REGION")
        .env("AWS_PROFILE", "work")
        .env("AWS_KMS_ENDPOINT", &proxy.address);
    let folder = launch.at().path().join(".aws");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("config"), format!("[profile work]\nregion = {REGION}\n")).unwrap();
    let client = launch.spawn().connect(Era::usual());
    let arguments = json!({"plaintext": base64("x"), "key_id": key});
    let missing = assert_untouched(&proxy, || client.call("kms_encrypt", arguments.clone()));
    assert_refused(&missing, "kms_credentials_missing");
    // The user logs in; the session goes on.
    let keys = "[work]\naws_access_key_id = AKIAFROMPROFILE\naws_secret_access_key = x\n";
    std::fs::write(folder.join("credentials"), keys).unwrap();
    client.call("kms_encrypt", arguments).ok();
    let sent = proxy.requests().pop().unwrap();
    let told = sent.header("authorization").unwrap();
    assert!(
        told.contains("Credential=AKIAFROMPROFILE/") && told.contains(&format!("/{REGION}/kms/")),
        "{told}"
    );
}

#[test]
fn without_a_region_the_setting_is_named() {
    let Some(scene) = Scene::new(&[("AWS_REGION", "")]) else { return };
    let refused = assert_untouched(&scene.proxy, || {
        scene.client.call("kms_encrypt", json!({"plaintext": "YQ==", "key_id": "alias/a"}))
    });
    assert_refused(&refused, "config_invalid");
    assert!(refused.text().contains("AWS_REGION"), "{}", refused.text());
}

#[test]
fn settings_that_would_leak_are_refused_at_the_start() {
    for (name, value) in [
        ("AWS_KMS_ENDPOINT", "http://169.254.169.254"),
        ("AWS_KMS_ENDPOINT", "http://kms.example.com"),
        ("AWS_REGION", "evil.example.com/"),
        ("AWS_KMS_DEFAULT_KEY_ID", "alias/a b"),
    ] {
        let run = launch().env(name, value).run("");
        assert!(!run.status.success() && run.stderr.contains(name), "{name}: {}", run.stderr);
    }
    // Not where KMS is off: the variable is there for other programs.
    let run = Server::launch().env("AWS_REGION", "evil.example.com/").run("");
    assert!(run.status.success(), "{}", run.stderr);
}

#[test]
fn the_configured_key_is_used_where_a_call_names_none() {
    let Some(aws) = other_side::other_side() else { return };
    let (key, arn) = aws.key();
    let Some(scene) = Scene::new(&[("AWS_KMS_DEFAULT_KEY_ID", &key)]) else { return };
    let made = scene.client.call("kms_encrypt", json!({"plaintext": base64("x")}));
    assert_eq!(made.ok()["key_id"], arn);
    scene.client.call("kms_generate_data_key", json!({})).ok();
    assert!(scene.question().starts_with(&format!("ISSUE aws-kms/{key} — a data key of 32 bytes")));
    let none = Scene::new(&[]).unwrap();
    for (tool, arguments) in [
        ("kms_encrypt", json!({"plaintext": "YQ=="})),
        ("kms_generate_data_key", json!({})),
        ("kms_sign", json!({"message": "YQ==", "signing_algorithm": "ECDSA_SHA_256"})),
    ] {
        let refused = assert_untouched(&none.proxy, || none.client.call(tool, arguments));
        assert_refused(&refused, "invalid_input");
        assert!(refused.text().contains("AWS_KMS_DEFAULT_KEY_ID"), "{}", refused.text());
    }
    assert!(none.client.asked().is_empty());
}

#[test]
fn every_call_is_in_the_log_with_aws_own_id_and_without_values() {
    let Some(scene) = Scene::new(&[]) else { return };
    let ((key, _), (signer, _)) = (scene.aws.key(), scene.aws.signing_key("ECC_NIST_P256"));
    let secret = base64(canary("logged"));
    let context = json!({"purpose": canary("context")});
    let call = |tool: &str, arguments: Value| scene.client.call(tool, arguments).ok().clone();
    let made =
        call("kms_encrypt", json!({"plaintext": secret, "key_id": key, "encryption_context": context}));
    call("kms_decrypt", json!({"ciphertext": made["ciphertext"], "encryption_context": context}));
    call("kms_generate_data_key", json!({"key_id": key}));
    let sign = json!({"message": secret, "signing_algorithm": "ECDSA_SHA_256", "key_id": signer});
    let signature = call("kms_sign", sign.clone())["signature"].clone();
    let mut verify = sign;
    verify["signature"] = signature;
    call("kms_verify", verify);
    let log = scene.home.audit_log();
    for (op, effect, target, asked) in [
        ("kms.encrypt", "compute", format!("aws-kms/{key}"), false),
        ("kms.decrypt", "compute", "aws-kms".to_owned(), false),
        ("kms.generate_data_key", "issue", format!("aws-kms/{key}"), true),
        ("kms.sign", "compute", format!("aws-kms/{signer}"), false),
        ("kms.verify", "compute", format!("aws-kms/{signer}"), false),
    ] {
        let records = records_of(&log, op);
        let actions: Vec<_> = records.iter().map(|record| record["action"].as_str().unwrap()).collect();
        let all = ["CONFIRMATION_REQUIRED", "CONFIRMED", "REQUEST", "SUCCESS"];
        assert_eq!(actions, if asked { &all[..] } else { &all[2..] }, "{op}");
        for record in records.iter().filter(|record| record["action"] != "CONFIRMED") {
            assert_eq!((&record["effect"], &record["target"]), (&json!(effect), &json!(target)), "{op}");
        }
        let id = records.last().unwrap()["vault_request_id"].as_str().unwrap_or_default().to_owned();
        assert!(id.len() >= 20, "{op} has no id of AWS: {records:?}");
    }
    assert_eq!(records_of(&log, "kms.encrypt")[0]["keys"], json!(["purpose"]));
    // `Server`'s end looks for canaries in the log; the secret of the signature is one.
    assert!(!audit_records(&log).is_empty());
}

#[test]
fn no_record_no_request() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (key, _) = scene.aws.key();
    let arguments = json!({"plaintext": "YQ==", "key_id": key});
    scene.client.call("kms_encrypt", arguments.clone()).ok();
    std::fs::remove_file(scene.home.audit_log()).unwrap();
    std::fs::create_dir(scene.home.audit_log()).unwrap();
    let refused = assert_untouched(&scene.proxy, || scene.client.call("kms_encrypt", arguments));
    assert!(refused.code().starts_with("audit_"), "{}", refused.text());
    std::fs::remove_dir(scene.home.audit_log()).unwrap();
}

#[test]
fn a_declined_data_key_is_never_asked_for() {
    let Some(scene) = Scene::new(&[]) else { return };
    let (key, _) = scene.aws.key();
    scene.client.always(Answer::Decline);
    let refused = assert_untouched(&scene.proxy, || {
        scene.client.call("kms_generate_data_key", json!({"key_id": key, "to": "key.bin"}))
    });
    assert_refused(&refused, "declined");
    assert!(!scene.home.work().join("key.bin").exists());
}
