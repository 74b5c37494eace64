//! An example of each operation that REST has: the arguments, wherever they are given, and the answer. A test
//! parses the arguments, and another sends them.

use serde_json::{Map, Value};

/// An operation's example.
pub(super) struct Example {
    arguments: Map<String, Value>,
    /// What is answered.
    pub(super) answer: Value,
}

impl Example {
    /// The arguments but for the one in the path.
    pub(super) fn body(&self, held: Option<&str>) -> Value {
        let mut body = self.arguments.clone();
        if let Some(held) = held {
            body.remove(held);
        }
        Value::Object(body)
    }

    /// One argument.
    pub(super) fn argument(&self, name: &str) -> Option<Value> {
        self.arguments.get(name).cloned()
    }
}

/// The example of this operation.
pub(super) fn of(id: &str) -> Option<Example> {
    let (_, arguments, answer) = EXAMPLES.iter().find(|(of, _, _)| *of == id)?;
    Some(Example {
        arguments: serde_json::from_str(arguments).ok()?,
        answer: serde_json::from_str(answer).ok()?,
    })
}

/// Operation, arguments, answer.
const EXAMPLES: &[(&str, &str, &str)] = &[
    ("kv.list", r#"{"prefix": "configs"}"#, r#"{"keys": ["demo", "shop/"]}"#),
    (
        "kv.read",
        r#"{"path": "configs/demo", "version": 1}"#,
        r#"{"path": "configs/demo", "version": 1, "created_time": "2026-01-02T03:04:05.678Z", "data": {"foo": "bar"}}"#,
    ),
    (
        "kv.write",
        r#"{"path": "configs/demo", "data": {"foo": "bar"}, "cas": 0}"#,
        r#"{"path": "configs/demo", "version": 1, "created_time": "2026-01-02T03:04:05.678Z"}"#,
    ),
    ("kv.delete", r#"{"path": "configs/demo"}"#, "null"),
    ("kv.undelete", r#"{"path": "configs/demo", "versions": [1]}"#, "null"),
    ("kv.destroy", r#"{"path": "configs/demo", "versions": [1]}"#, "null"),
    (
        "transit.encrypt",
        r#"{"key": "orders", "plaintext": "aGVsbG8="}"#,
        r#"{"ciphertext": "vault:v1:8SDd3WHDOjf7mq69CyCqYjBXAiQQAVZRkFM13ok481zoCmHnSeDX9vyf7w=="}"#,
    ),
    (
        "transit.decrypt",
        r#"{"key": "orders", "ciphertext": "vault:v1:8SDd3WHDOjf7mq69CyCqYjBXAiQQAVZRkFM13ok481zoCmHnSeDX9vyf7w=="}"#,
        r#"{"plaintext": "aGVsbG8="}"#,
    ),
    (
        "transit.sign",
        r#"{"key": "releases", "input": "aGVsbG8=", "hash_algorithm": "sha2-256"}"#,
        r#"{"signature": "vault:v1:MEUCIQCyb869d7KWuA0hBM9b5NJrmWzMW3/pT+0XYCM9VmGR+QIgWWF6ufi4OS2xo1eS2V5IeJQfsi59qeMWtgX0LipxEHI="}"#,
    ),
    (
        "transit.verify",
        r#"{"key": "releases", "input": "aGVsbG8=", "signature": "vault:v1:MEUCIQCyb869d7KWuA0hBM9b5NJrmWzMW3/pT+0XYCM9VmGR+QIgWWF6ufi4OS2xo1eS2V5IeJQfsi59qeMWtgX0LipxEHI="}"#,
        r#"{"valid": true}"#,
    ),
    (
        "transit.rewrap",
        r#"{"key": "orders", "ciphertext": "vault:v1:8SDd3WHDOjf7mq69CyCqYjBXAiQQAVZRkFM13ok481zoCmHnSeDX9vyf7w=="}"#,
        r#"{"ciphertext": "vault:v2:XjsPWPjqPrBi1N2Ms2s1QM798YyFWnO4TR4lsFA9VjmQzPjLpZ9HFcbJqg=="}"#,
    ),
    (
        "transit.random",
        r#"{"bytes": 16, "format": "hex"}"#,
        r#"{"random": "2c27f4a3a9fc9bb4dd9e35d18bf3bbbe"}"#,
    ),
    (
        "db.issue_creds",
        r#"{"role": "app"}"#,
        r#"{"username": "v-token-app-x5Jh2v8", "password": "A1a-V3hY7ffUxqbzFV3f", "lease_id": "database/creds/app/2f6a614c", "lease_duration": 3600, "renewable": true}"#,
    ),
    (
        "db.renew",
        r#"{"lease_id": "database/creds/app/2f6a614c", "increment": 600}"#,
        r#"{"lease_id": "database/creds/app/2f6a614c", "lease_duration": 600}"#,
    ),
    ("db.revoke", r#"{"lease_id": "database/creds/app/2f6a614c"}"#, "null"),
    (
        "ssh.otp",
        r#"{"role": "otp", "ip": "10.0.0.5", "username": "deploy"}"#,
        r#"{"key": "2f7e25a2-24c9-4b7b-0d35-27d5e5203a5c", "ip": "10.0.0.5", "username": "deploy", "port": 22}"#,
    ),
    (
        "ssh.sign",
        r#"{"role": "people", "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIKDJ0P2rLhjVLsKGpKYzA8Y6L0pCzDnzO5Yp3mAGkPgB", "valid_principals": ["deploy"], "ttl": "30m"}"#,
        r#"{"signed_key": "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQ", "serial_number": "1b2c3d4e5f607182", "valid_principals": ["deploy"]}"#,
    ),
    (
        "kms.encrypt",
        r#"{"plaintext": "aGVsbG8=", "key_id": "alias/orders", "encryption_context": {"shop": "1"}}"#,
        r#"{"ciphertext": "AQICAHhkYXRh", "key_id": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}"#,
    ),
    (
        "kms.decrypt",
        r#"{"ciphertext": "AQICAHhkYXRh", "encryption_context": {"shop": "1"}}"#,
        r#"{"plaintext": "aGVsbG8=", "key_id": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}"#,
    ),
    (
        "kms.generate_data_key",
        r#"{"key_id": "alias/orders", "key_spec": "AES_256"}"#,
        r#"{"plaintext": "c2l4dGVlbiBieXRlcyE=", "ciphertext": "AQIDAHhkYXRh", "key_id": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"}"#,
    ),
    (
        "kms.sign",
        r#"{"key_id": "alias/releases", "message": "aGVsbG8=", "signing_algorithm": "ECDSA_SHA_256"}"#,
        r#"{"signature": "MEUCIQCyb869", "key_id": "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab", "signing_algorithm": "ECDSA_SHA_256"}"#,
    ),
    (
        "kms.verify",
        r#"{"key_id": "alias/releases", "message": "aGVsbG8=", "signature": "MEUCIQCyb869", "signing_algorithm": "ECDSA_SHA_256"}"#,
        r#"{"valid": true}"#,
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::op::OPS;

    #[test]
    fn every_rest_row_has_an_example_that_parses() {
        for op in OPS.iter().filter(|op| op.rest.is_some()) {
            let example = of(op.spec.id).unwrap_or_else(|| panic!("{} has no example", op.spec.id));
            if let Err(error) = op.parse(Value::Object(example.arguments)) {
                panic!("{}: {error}", op.spec.id);
            }
        }
        assert_eq!(EXAMPLES.len(), OPS.iter().filter(|op| op.rest.is_some()).count());
    }
}
