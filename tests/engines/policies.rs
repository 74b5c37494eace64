//! `docs/policies/*.hcl`: each lets its family of tools do all that they do, and no line of it can go.

use std::{collections::BTreeSet, path::Path};

use serde_json::{Value, json};

use super::{database, pki, session_of, ssh, transit_keys};
use crate::common::{McpClient, vault};

/// One `path` line of a policy.
#[derive(Clone, Debug)]
struct Rule {
    path: String,
    capabilities: Vec<String>,
}

impl Rule {
    fn text(&self) -> String {
        let words: Vec<_> = self.capabilities.iter().map(|word| format!("\"{word}\"")).collect();
        format!("path \"{}\" {{ capabilities = [{}] }}\n", self.path, words.join(", "))
    }
}

fn rules(toolset: &str) -> Vec<Rule> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/policies/{toolset}.hcl"));
    let text = std::fs::read_to_string(&path).unwrap();
    let rule = |line: &str| {
        let parts: Vec<&str> = line.split('"').collect();
        assert!(line.starts_with("path \"") && line.ends_with("] }"), "{line}");
        let words = parts[3..].iter().step_by(2).map(|word| (*word).to_owned());
        Rule { path: parts[1].to_owned(), capabilities: words.take(parts[3..].len() / 2).collect() }
    };
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let rules: Vec<Rule> = lines.map(rule).collect();
    assert!(!rules.is_empty());
    rules
}

/// What a family's tools do, by name; whoever runs it counts what failed.
type Calls = Vec<(&'static str, Value)>;

/// Runs all calls with a token of this policy; the calls that failed, with their codes.
fn failures(
    rules: &[Rule],
    subject: &str,
    settings: &[(&str, &str)],
    calls: impl Fn(&McpClient) -> Vec<String>,
) -> Vec<String> {
    let policy: String = rules.iter().map(Rule::text).collect();
    let token = vault().token(&policy, "10m");
    calls(&session_of(subject, &token, settings))
}

/// Runs the calls in order; each that fails is named with its code.
fn run(client: &McpClient, calls: Calls) -> Vec<String> {
    let mut failed = Vec::new();
    for (tool, arguments) in calls {
        let result = client.call(tool, arguments.clone());
        if result.is_error() {
            failed.push(format!("{tool} {arguments}: {}", result.text()));
        }
    }
    failed
}

/// The whole policy lets everything through; without any one of its capabilities something fails with
/// `forbidden`. `scene` makes what the calls need, for a subject of its own each time.
fn holds(
    toolset: &str,
    mount: &str,
    settings: &[(&str, &str)],
    calls: impl Fn(&McpClient, &str) -> Vec<String>,
) {
    let rules = rules(toolset);
    let at = |subject: &str, rules: &[Rule]| -> Vec<Rule> {
        let place = |path: &str| {
            let path = path.replace("/mcp/alice", &format!("/mcp/{subject}"));
            match path.split_once('/') {
                Some((first, rest)) if first != "sys" && first != "secret" => format!("{mount}/{rest}"),
                _ => path,
            }
        };
        let moved = |rule: &Rule| Rule { path: place(&rule.path), ..rule.clone() };
        rules.iter().map(moved).collect()
    };
    let subject = vault().fresh_subject();
    let all = failures(&at(&subject, &rules), &subject, settings, |client| calls(client, &subject));
    assert!(all.is_empty(), "{toolset}.hcl is not enough: {all:#?}");
    for (index, rule) in rules.iter().enumerate() {
        for capability in &rule.capabilities {
            let mut fewer = rules.clone();
            fewer[index].capabilities.retain(|word| word != capability);
            if fewer[index].capabilities.is_empty() {
                fewer.remove(index);
            }
            if fewer.is_empty() {
                continue;
            }
            let subject = vault().fresh_subject();
            let failed =
                failures(&at(&subject, &fewer), &subject, settings, |client| calls(client, &subject));
            assert!(
                failed.iter().any(|text| text.contains(": forbidden: ")),
                "{toolset}.hcl: {:?} on {} is more than needed: {failed:#?}",
                capability,
                rule.path
            );
        }
    }
}

#[test]
fn the_kv_policy_is_the_least() {
    holds("kv", "secret", &[], |client, subject| {
        for value in 1..=3 {
            vault().write_secret(subject, "folder/app", json!({"A": value, "B": "b"}));
        }
        run(
            client,
            vec![
                ("kv_list", json!({})),
                ("kv_list", json!({"prefix": "folder"})),
                ("kv_read", json!({"path": "folder/app"})),
                ("kv_metadata", json!({"path": "folder/app"})),
                ("kv_diff", json!({"path": "folder/app", "from_version": 1, "to_version": 2})),
                ("kv_write", json!({"path": "new", "data": {"A": "1"}})),
                ("kv_write", json!({"path": "folder/app", "data": {"A": "2"}})),
                ("kv_patch", json!({"path": "folder/app", "data": {"C": "3"}})),
                ("kv_rollback", json!({"path": "folder/app", "version": 2})),
                ("kv_generate", json!({"path": "folder/app", "key": "G"})),
                ("secret_ask", json!({"path": "folder/app", "key": "T"})),
                ("secret_ask", json!({"path": "asked", "key": "T"})),
                ("secret_compare", json!({"a": "folder/app#A", "b": "new#A"})),
                ("secret_wrap", json!({"path": "folder/app"})),
                ("secret_wrap", json!({"path": "folder/app", "keys": ["A"]})),
                ("kv_delete", json!({"path": "new"})),
                ("kv_undelete", json!({"path": "new", "versions": [1]})),
                ("kv_delete", json!({"path": "folder/app", "versions": [1, 2]})),
                ("kv_undelete", json!({"path": "folder/app", "versions": [1]})),
                ("kv_destroy", json!({"path": "folder/app", "versions": [1]})),
            ],
        )
    });
}

#[test]
fn the_service_policy_is_the_least() {
    holds("service", "secret", &[], |client, subject| {
        vault().write_secret(subject, "shop", json!({"A": "1"}));
        run(
            client,
            vec![
                ("vault_list", json!({})),
                ("vault_list", json!({"service": "shop"})),
                ("vault_get", json!({"service": "shop"})),
                ("vault_get", json!({"service": "shop", "key": "A"})),
                ("vault_set", json!({"service": "shop", "secrets": {"A": "2"}, "dry_run": true})),
                ("vault_set", json!({"service": "shop", "secrets": {"A": "2"}})),
                ("vault_set", json!({"service": "fresh", "secrets": {"A": "1"}})),
            ],
        )
    });
}

#[test]
fn the_transit_policy_is_the_least() {
    let Some(mount) = transit_keys::keys() else { return };
    let made = |path: &str, field: &str, body: Value| {
        vault().put(&format!("{mount}/{path}"), body).ok()["data"][field].clone()
    };
    let ciphertext = made("encrypt/aes256-gcm96", "ciphertext", json!({"plaintext": "eA=="}));
    let signature = made("sign/ed25519", "signature", json!({"input": "eA=="}));
    holds("transit", mount, &[("TRANSIT_MOUNT", mount)], |client, _| {
        run(
            client,
            vec![
                ("transit_keys", json!({})),
                ("transit_keys", json!({"key": "ed25519"})),
                ("transit_encrypt", json!({"key": "aes256-gcm96", "plaintext": "eA=="})),
                ("transit_decrypt", json!({"key": "aes256-gcm96", "ciphertext": ciphertext})),
                ("transit_decrypt", json!({"key": "aes256-gcm96", "ciphertext": ciphertext, "reveal": true})),
                ("transit_rewrap", json!({"key": "aes256-gcm96", "ciphertext": ciphertext})),
                ("transit_sign", json!({"key": "ed25519", "input": "eA=="})),
                ("transit_sign", json!({"key": "hmac", "input": "eA=="})),
                ("transit_verify", json!({"key": "ed25519", "input": "eA==", "signature": signature})),
                ("transit_random", json!({})),
            ],
        )
    });
}

#[test]
fn the_database_policy_is_the_least() {
    let Some(mount) = database::mounted() else { return };
    holds("db", mount, &[("DATABASE_MOUNT", mount)], |client, _| {
        let issued = client.call("db_issue_creds", json!({"role": "app"}));
        if issued.is_error() {
            return vec![format!("db_issue_creds: {}", issued.text())];
        }
        let id = issued.ok()["lease_id"].clone();
        run(
            client,
            vec![
                ("db_leases", json!({})),
                ("db_renew", json!({"lease_id": id})),
                ("db_revoke", json!({"lease_id": id})),
            ],
        )
    });
}

#[test]
fn the_ssh_policy_is_the_least() {
    let Some((mount, user)) = ssh::mounted() else { return };
    holds("ssh", mount, &[("SSH_MOUNT", mount)], |client, _| {
        let named = json!({"role": "user", "public_key": ssh::PUBLIC, "valid_principals": [user]});
        let mut failed = run(
            client,
            vec![
                ("ssh_otp", json!({"role": "otp", "ip": "127.0.0.1", "username": user})),
                ("ssh_sign", named),
            ],
        );
        // That the role cannot be read is answered with what to do about it.
        let unnamed = client.call("ssh_sign", json!({"role": "user", "public_key": ssh::PUBLIC}));
        if unnamed.is_error() && unnamed.text().contains("no default user that could be seen") {
            failed.push("ssh_sign: forbidden: to read the role".to_owned());
        }
        failed
    });
}

#[test]
fn the_pki_policy_is_the_least() {
    let Some(mount) = pki::mounted() else { return };
    holds("pki", mount, &[("PKI_MOUNT", mount)], |client, _| {
        let mut failed = run(client, vec![("pki_roles", json!({}))]);
        let issued = client.call("pki_issue", json!({"role": "web", "common_name": "a.example.com"}));
        if issued.is_error() {
            failed.push(format!("pki_issue: {}", issued.text()));
            return failed;
        }
        failed.extend(run(
            client,
            vec![("pki_revoke", json!({"serial_number": issued.ok()["serial_number"]}))],
        ));
        failed
    });
}

#[test]
fn every_family_of_tools_has_its_policy() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/policies");
    let there: BTreeSet<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        // Whose tokens many callers have over HTTP: tests/http/child_tokens.rs.
        .filter(|name| !name.starts_with("http-"))
        .collect();
    let families: BTreeSet<String> = vault_mcp::op::OPS
        .iter()
        .map(|op| op.spec.toolset.as_str().to_owned())
        // The session's own tools need Vault's `default` policy; AWS KMS asks AWS.
        .filter(|family| family != "session" && family != "kms")
        .collect();
    assert_eq!(there, families);
}
