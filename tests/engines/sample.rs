//! `vault-mcp --dev`: every tool but those of databases and KMS has something to be tried on, with nothing else
//! installed.

use serde_json::{Value, json};

use super::{assert_masked, private_file, programs::openssl, ssh::PUBLIC, work};
use crate::common::{Answer, Era, McpClient, Server, assert_refused};

/// A session with a Vault of its own, whose human says yes to everything. Its token is the agent's, not root's.
fn session() -> McpClient {
    let client =
        Server::launch().arg("--dev").env("RATE_LIMIT_ENABLED", "false").spawn().connect(Era::usual());
    client.always(Answer::yes());
    client
}

#[test]
fn the_sample_ssh_engine_signs_keys_and_gives_passwords() {
    let client = session();
    let signed = client.call("ssh_sign", json!({"role": "user", "public_key": PUBLIC})).ok().clone();
    assert_eq!(signed["valid_principals"], json!(["ubuntu"]));
    let text = signed["signed_key"].as_str().unwrap();
    let certificate = ssh_key::Certificate::from_openssh(text.trim()).unwrap();
    assert_eq!(certificate.valid_principals(), ["ubuntu"]);
    let other = json!({"role": "user", "public_key": PUBLIC, "valid_principals": "root"});
    assert_refused(&client.call("ssh_sign", other), "vault_rejected");

    let call = json!({"role": "otp", "ip": "127.0.0.1", "username": "deploy", "to": "otp.json"});
    let issued = client.call("ssh_otp", call).ok().clone();
    assert_masked(&issued["key"]);
    let file: Value = serde_json::from_str(&private_file(work(&client).join("otp.json"))).unwrap();
    assert!(file["SSH_OTP"].as_str().unwrap().len() > 30 && file["SSH_USER"] == "deploy", "{file}");
}

#[test]
fn the_sample_authority_issues_what_openssl_verifies_and_takes_it_back() {
    let client = session();
    let folder = work(&client);
    assert_eq!(client.call("pki_roles", json!({})).ok()["roles"], json!(["web"]));
    let call =
        json!({"role": "web", "common_name": "app.example.test", "ip_sans": ["10.0.0.1"], "to": "app.pem"});
    let issued = client.call("pki_issue", call).ok().clone();
    assert_masked(&issued["private_key"]);
    private_file(folder.join("app.pem"));
    std::fs::write(folder.join("root.pem"), issued["ca_chain"][0].as_str().unwrap()).unwrap();
    let verify =
        ["verify", "-CAfile", "root.pem", "-purpose", "sslserver", "-verify_hostname", "app.example.test"];
    openssl(&folder, &[verify.as_slice(), &["app.pem"]].concat()).unwrap();
    let evil = client.call("pki_issue", json!({"role": "web", "common_name": "app.example.com"}));
    assert_refused(&evil, "vault_rejected");

    let revoke = || client.call("pki_revoke", json!({"serial_number": issued["serial_number"]})).ok().clone();
    let first = revoke();
    assert!(first["revocation_time"].as_i64().unwrap() > 1_700_000_000, "{first}");
    assert_eq!(revoke(), first);
}

#[test]
fn what_the_sample_vault_lacks_says_so() {
    let client = session();
    let refused = client.call("db_issue_creds", json!({"role": "app"}));
    assert_refused(&refused, "mount_not_found");
    assert!(refused.text().contains("DATABASE_MOUNT"), "{}", refused.text());
}
