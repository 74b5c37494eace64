//! No password, key, plaintext or one-time password leaves but by a human's yes or into a file.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{database, pki, private_file, session_of, ssh, transit_keys, work};
use crate::common::{McpClient, assert_no_canary, canary, vault};

/// None of these texts stands in standard output, standard error or the audit log of this session: not plain,
/// not in base64, not in hex.
#[track_caller]
pub(crate) fn assert_nowhere(client: &McpClient, secrets: &[&str]) {
    let server = client.server();
    let audit = std::fs::read(server.home().audit_log()).unwrap();
    let places = [
        ("standard output", server.stdout()),
        ("standard error", server.stderr().into_bytes()),
        ("the audit log", audit),
    ];
    for (place, bytes) in places {
        let text = String::from_utf8_lossy(&bytes);
        for secret in secrets {
            assert!(secret.len() >= 8, "too short to be looked for: {secret}");
            for shape in [(*secret).to_owned(), STANDARD.encode(secret), hex::encode(secret)] {
                assert!(!text.contains(shape.trim_end_matches('=')), "a secret stands in {place}");
            }
        }
    }
}

/// What stands in a file that the server made, and is long enough to be a secret.
fn secrets_in(client: &McpClient, file: &str) -> Vec<String> {
    let text = private_file(work(client).join(file));
    if file.ends_with(".json") {
        let values: Value = serde_json::from_str(&text).unwrap();
        let names = ["DB_PASSWORD", "SSH_OTP"];
        return names.iter().filter_map(|name| values[name].as_str().map(str::to_owned)).collect();
    }
    let key = text.lines().skip(1).take_while(|line| !line.starts_with("-----END"));
    key.filter(|line| line.len() > 16).map(str::to_owned).collect()
}

#[test]
fn no_secret_of_any_engine_is_said_at_the_loudest_log_level() {
    let subject = vault().fresh_subject();
    let mut settings = vec![("LOG_LEVEL", "trace")];
    let transit = transit_keys::keys();
    let database = database::mounted();
    let ssh = ssh::mounted();
    let pki = pki::mounted();
    settings.extend(transit.map(|mount| ("TRANSIT_MOUNT", mount)));
    settings.extend(database.map(|mount| ("DATABASE_MOUNT", mount)));
    settings.extend(ssh.map(|(mount, _)| ("SSH_MOUNT", mount)));
    settings.extend(pki.map(|mount| ("PKI_MOUNT", mount)));
    let client = session_of(&subject, &vault().root, &settings);
    let secret = canary("everywhere");
    let mut secrets = vec![secret.clone()];
    vault().write_secret(&subject, "app", json!({"A": secret}));
    client.call("secret_wrap", json!({"path": "app", "keys": ["A"]})).ok();
    if transit.is_some() {
        let plaintext = STANDARD.encode(&secret);
        for key in ["aes256-gcm96", "rsa-2048"] {
            let made =
                client.call("transit_encrypt", json!({"key": key, "batch": [{"plaintext": plaintext}]}));
            let items = made.ok()["batch"].clone();
            client.call("transit_decrypt", json!({"key": key, "batch": items})).ok();
            client.call("transit_rewrap", json!({"key": key, "batch": items})).ok();
        }
        for (tool, key) in
            [("transit_encrypt", "nosuch"), ("transit_encrypt", "ed25519"), ("transit_sign", "nosuch")]
        {
            let field = if tool == "transit_sign" { "input" } else { "plaintext" };
            assert!(client.call(tool, json!({"key": key, field: plaintext})).is_error());
            assert!(client.call(tool, json!({"key": key, field: format!("{plaintext}!")})).is_error());
        }
        client.call("transit_sign", json!({"key": "ed25519", "input": plaintext})).ok();
    }
    if database.is_some() {
        client.call("db_issue_creds", json!({"role": "app", "to": "db.json"})).ok();
        secrets.extend(secrets_in(&client, "db.json"));
    }
    if let Some((_, user)) = ssh {
        let call = json!({"role": "otp", "ip": "127.0.0.1", "username": user, "to": "otp.json"});
        client.call("ssh_otp", call).ok();
        secrets.extend(secrets_in(&client, "otp.json"));
    }
    if pki.is_some() {
        let call = json!({"role": "web", "common_name": "a.example.com", "to": "key.pem"});
        client.call("pki_issue", call).ok();
        secrets.extend(secrets_in(&client, "key.pem"));
    }
    let secrets: Vec<&str> = secrets.iter().map(String::as_str).collect();
    assert_nowhere(&client, &secrets);
    assert_no_canary(client.server().stdout(), "standard output");
    assert!(!client.server().stderr().contains(&vault().root), "the token stands in the log");
}
