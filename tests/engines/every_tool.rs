//! Each tool that the server lists is called on a real back end, leaves its records, and says no secret. A tool that is
//! added without a call here fails this.

use std::collections::{BTreeMap, BTreeSet};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{canary::assert_nowhere, database, pki, private_file, ssh, transit_keys, work};
use crate::common::{Answer, Era, McpClient, Server, audit_records, canary, page, vault};
#[cfg(feature = "kms")]
use crate::other_side::{REGION, other_side};

/// The calls so far, by tool.
struct Calls {
    client: McpClient,
    made: BTreeSet<String>,
}

impl Calls {
    #[track_caller]
    fn call(&mut self, tool: &str, arguments: Value) -> Value {
        self.made.insert(tool.to_owned());
        self.client.call(tool, arguments).ok().clone()
    }
}

/// Families without a back end here, which is said where it is looked for.
fn left_out() -> BTreeSet<&'static str> {
    let mut families = BTreeSet::new();
    let mut without = |family, there: bool| {
        if !there {
            families.insert(family);
        }
    };
    without("transit", transit_keys::keys().is_some());
    without("db", database::mounted().is_some());
    without("ssh", ssh::mounted().is_some());
    without("pki", pki::mounted().is_some());
    #[cfg(feature = "kms")]
    without("kms", other_side().is_some());
    families
}

/// A session with every back end that there is, whose human says yes and types this value where one is asked for.
fn session(subject: &str, typed: &str) -> McpClient {
    // Not the root token itself: it is revoked at the end.
    let made = vault().put("auth/token/create", json!({"policies": ["root"], "ttl": "10m"})).ok();
    let mut launch = Server::of(vault(), subject)
        .env("VAULT_TOKEN", made["auth"]["client_token"].as_str().unwrap())
        .env("RATE_LIMIT_ENABLED", "false")
        .env("LOG_LEVEL", "trace");
    let mounts = [
        ("TRANSIT_MOUNT", transit_keys::keys()),
        ("DATABASE_MOUNT", database::mounted()),
        ("SSH_MOUNT", ssh::mounted().map(|(mount, _)| mount)),
        ("PKI_MOUNT", pki::mounted()),
    ];
    for (name, mount) in mounts {
        launch = mount.into_iter().fold(launch, |launch, mount| launch.env(name, mount));
    }
    #[cfg(feature = "kms")]
    if let Some(aws) = other_side() {
        let key = canary("aws");
        launch = launch
            .env("AWS_KMS_ENABLED", "true")
            .env("AWS_KMS_ENDPOINT", &aws.address)
            .env("AWS_REGION", REGION)
            .env("AWS_ACCESS_KEY_ID", "AKIAVAULTMCPTEST")
            .env("AWS_SECRET_ACCESS_KEY", key)
            .env("AWS_EC2_METADATA_DISABLED", "true");
    }
    let modes = json!({"elicitation": {"form": {}, "url": {}}});
    let client = launch.spawn().connect(Era::usual().with(modes));
    let typed = typed.to_owned();
    client.human(move |question| match question["url"].as_str() {
        Some(url) => {
            assert_eq!(page::type_value(url, &typed), 200);
            Answer::Accept(json!({}))
        }
        None => Answer::yes(),
    });
    client
}

#[test]
fn every_tool_is_called_on_a_real_back_end_recorded_and_says_no_secret() {
    let subject = vault().fresh_subject();
    let secret = canary("each");
    let client = session(&subject, &secret);
    // Operation by tool, as the server itself names them in its records.
    let listed: BTreeSet<String> =
        client.tools().iter().map(|tool| tool["name"].as_str().unwrap().to_owned()).collect();
    let mut calls = Calls { client, made: BTreeSet::new() };
    let left_out = left_out();
    kv(&mut calls, &subject, &secret);
    files(&mut calls, &secret);
    let mut secrets = vec![secret.clone()];
    if !left_out.contains("transit") {
        transit(&mut calls, &secret);
    }
    if !left_out.contains("db") {
        secrets.push(database_calls(&mut calls));
    }
    if let Some((_, user)) = ssh::mounted() {
        let otp = json!({"role": "otp", "ip": "127.0.0.1", "username": user, "to": "otp.json"});
        calls.call("ssh_otp", otp);
        secrets.push(in_json(&calls.client, "otp.json", "SSH_OTP"));
        let sign = json!({"role": "user", "public_key": ssh::PUBLIC, "valid_principals": [user]});
        calls.call("ssh_sign", sign);
    }
    if !left_out.contains("pki") {
        calls.call("pki_roles", json!({}));
        let issue = json!({"role": "web", "common_name": "app.example.com", "to": "key.pem"});
        let issued = calls.call("pki_issue", issue);
        let pem = private_file(work(&calls.client).join("key.pem"));
        secrets.extend(pem.lines().skip(1).take_while(|line| !line.starts_with("-----")).map(str::to_owned));
        calls.call("pki_revoke", json!({"serial_number": issued["serial_number"]}));
    }
    #[cfg(feature = "kms")]
    if !left_out.contains("kms") {
        kms(&mut calls, &secret);
    }
    calls.call("mounts_list", json!({}));
    calls.call("vault_status", json!({}));
    calls.call("vault_login", json!({}));
    calls.call("vault_logout", json!({}));

    let family = |name: &str| name.split('_').next().unwrap_or_default().to_owned();
    let missing: Vec<_> =
        listed.difference(&calls.made).filter(|name| !left_out.contains(family(name).as_str())).collect();
    assert!(missing.is_empty(), "no call was made here of {missing:?}");

    // The records: each tool's own operation, begun and ended well.
    let mut actions: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for record in audit_records(calls.client.server().home().audit_log()) {
        let of = |name: &str| record[name].as_str().unwrap_or_default().to_owned();
        actions.entry(of("op").replace('.', "_")).or_default().insert(of("action"));
    }
    for tool in &calls.made {
        let seen = actions.get(tool).unwrap_or_else(|| panic!("{tool} left no record"));
        assert!(seen.contains("REQUEST") && seen.contains("SUCCESS"), "{tool}: {seen:?}");
    }
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).filter(|text| text.len() >= 8).collect();
    assert_nowhere(&calls.client, &secrets);
}

/// A value in a file that the server made.
fn in_json(client: &McpClient, file: &str, name: &str) -> String {
    let text = private_file(work(client).join(file));
    let values: Value = serde_json::from_str(&text).unwrap();
    values[name].as_str().unwrap().to_owned()
}

fn kv(calls: &mut Calls, subject: &str, secret: &str) {
    let path = |more: Value| {
        let mut arguments = json!({"path": "app"});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        arguments
    };
    calls.call("kv_write", path(json!({"data": {"A": secret, "L": [secret]}})));
    calls.call("kv_patch", path(json!({"data": {"B": secret}})));
    calls.call("kv_generate", path(json!({"key": "G"})));
    calls.call("secret_ask", path(json!({"key": "T"})));
    assert_eq!(vault().secret(subject, "app")["T"], secret);
    calls.call("kv_list", json!({}));
    calls.call("kv_read", path(json!({})));
    calls.call("kv_metadata", path(json!({})));
    calls.call("kv_diff", path(json!({"from_version": 1, "to_version": 4})));
    calls.call("kv_rollback", path(json!({"version": 2})));
    calls.call("secret_compare", json!({"a": "app#A", "b": "app#B"}));
    calls.call("secret_wrap", path(json!({"keys": ["A"]})));
    calls.call("kv_delete", path(json!({"versions": [1]})));
    calls.call("kv_undelete", path(json!({"versions": [1]})));
    calls.call("kv_destroy", path(json!({"versions": [1]})));
}

fn files(calls: &mut Calls, secret: &str) {
    calls.call("vault_set", json!({"service": "shop", "secrets": {"DB_PASSWORD": secret}}));
    calls.call("vault_list", json!({}));
    calls.call("vault_get", json!({"service": "shop"}));
    calls.call("vault_inject", json!({"service": "shop"}));
    let folder = work(&calls.client);
    assert!(private_file(folder.join(".env")).contains(secret));
    let compose = format!("services:\n  web:\n    environment:\n      DB_PASSWORD: {secret}\n");
    std::fs::write(folder.join("compose.yaml"), compose).unwrap();
    let file = |name: &str| json!({"service": "shop", "file_path": name});
    calls.call("vault_scan_env", file(".env"));
    calls.call("vault_scan_compose", file("compose.yaml"));
    calls.call("vault_generate_example", file(".env"));
}

fn transit(calls: &mut Calls, secret: &str) {
    let plaintext = STANDARD.encode(secret);
    let made = calls.call("transit_encrypt", json!({"key": "aes256-gcm96", "plaintext": plaintext}));
    let sealed = json!({"key": "aes256-gcm96", "ciphertext": made["ciphertext"]});
    calls.call("transit_decrypt", sealed.clone());
    calls.call("transit_rewrap", sealed);
    let signed = calls.call("transit_sign", json!({"key": "ed25519", "input": plaintext}));
    let verify = json!({"key": "ed25519", "input": plaintext, "signature": signed["signature"]});
    assert_eq!(calls.call("transit_verify", verify)["valid"], true);
    calls.call("transit_random", json!({}));
    calls.call("transit_keys", json!({}));
}

/// The password that was issued.
fn database_calls(calls: &mut Calls) -> String {
    let issued = calls.call("db_issue_creds", json!({"role": "app", "to": "db.json"}));
    let lease = json!({"lease_id": issued["lease_id"]});
    calls.call("db_renew", lease.clone());
    calls.call("db_leases", json!({}));
    calls.call("db_revoke", lease);
    in_json(&calls.client, "db.json", "DB_PASSWORD")
}

#[cfg(feature = "kms")]
fn kms(calls: &mut Calls, secret: &str) {
    let aws = other_side().unwrap();
    let (key, plaintext) = (aws.key().0, STANDARD.encode(secret));
    let made = calls.call("kms_encrypt", json!({"key_id": key, "plaintext": plaintext}));
    calls.call("kms_decrypt", json!({"ciphertext": made["ciphertext"]}));
    calls.call("kms_generate_data_key", json!({"key_id": key, "to": "data.key"}));
    let (key, _) = aws.signing_key("ECC_NIST_P256");
    let sign = json!({"key_id": key, "message": plaintext, "signing_algorithm": "ECDSA_SHA_256"});
    let signed = calls.call("kms_sign", sign.clone());
    let mut verify = sign;
    verify["signature"] = signed["signature"].clone();
    calls.call("kms_verify", verify);
}
