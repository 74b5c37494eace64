//! Cryptography with keys of AWS KMS. Registered only where `AWS_KMS_ENABLED` says so.
//!
//! Arguments and answers are those of the KMS API, in snake case. Lengths, alphabets and combinations are
//! checked here, before anything is sent. Region, endpoint and credentials are no arguments.

mod cipher;
mod signature;

pub use cipher::{DataKey, Decrypt, Encrypt};
pub use signature::{Sign, Verify};

use std::{borrow::Cow, collections::HashMap};

use base64::{Engine, engine::general_purpose::STANDARD};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use zeroize::Zeroizing;

use crate::{
    broker::Place,
    error::Error,
    kms::Terms,
    names::{AwsKeyId, KeyName, shown},
    op::Target,
};

/// Most bytes of an encryption context, names and values together.
const MAX_CONTEXT: usize = 8192;

/// 1 to `MAX` bytes, given as standard base64 with padding.
#[derive(Clone)]
struct Bytes<const MAX: usize>(Zeroizing<Vec<u8>>);

/// What KMS encrypts or signs itself.
type Payload = Bytes<4096>;
/// What KMS made: ciphertexts and signatures.
type Made = Bytes<6144>;

impl<'de, const MAX: usize> Deserialize<'de> for Bytes<MAX> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        let bytes = STANDARD.decode(text.as_bytes()).map(Zeroizing::new).map_err(|_| {
            D::Error::custom("it is no standard base64 (A-Z a-z 0-9 + / with = padding, on one line)")
        })?;
        match bytes.len() {
            0 => Err(D::Error::custom("it is empty; give at least one byte as base64")),
            length if length > MAX => Err(D::Error::custom(format!("it holds more than {MAX} bytes"))),
            _ => Ok(Self(bytes)),
        }
    }
}

impl<const MAX: usize> JsonSchema for Bytes<MAX> {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // What a schema could add, a model knows from the description and pays for in every session.
        json_schema!({ "type": "string" })
    }
}

/// Names and values that are bound to a ciphertext. AWS writes them into its log: they are no place for
/// secrets.
#[derive(Clone, Default)]
struct Context(Vec<(KeyName, String)>);

impl Context {
    fn names(&self) -> Vec<String> {
        self.0.iter().map(|(name, _)| name.to_string()).collect()
    }

    /// For the line that a human is shown.
    fn told(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let names: Vec<_> = self.0.iter().take(8).map(|(name, _)| shown(name.as_str(), 64)).collect();
        format!(", context {}{}", names.join(", "), if self.0.len() > 8 { ", …" } else { "" })
    }
}

impl<'de> Deserialize<'de> for Context {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = HashMap::<KeyName, String>::deserialize(deserializer)?;
        let mut pairs: Vec<_> = map.into_iter().collect();
        pairs.sort_unstable();
        let size: usize = pairs.iter().map(|(name, value)| name.as_str().len() + value.len()).sum();
        if size > MAX_CONTEXT {
            return Err(D::Error::custom(format!("it holds more than {MAX_CONTEXT} bytes")));
        }
        if pairs.iter().any(|(_, value)| value.is_empty()) {
            return Err(D::Error::custom("a value in it is empty"));
        }
        Ok(Self(pairs))
    }
}

impl JsonSchema for Context {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Context".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object" })
    }
}

/// Up to ten grant tokens.
#[derive(Clone, Default)]
struct GrantTokens(Vec<String>);

impl<'de> Deserialize<'de> for GrantTokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let tokens = Vec::<String>::deserialize(deserializer)?;
        let fits = |token: &String| {
            (1..=8192).contains(&token.len())
                && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=_-".contains(&byte))
        };
        if tokens.len() <= 10 && tokens.iter().all(fits) {
            Ok(Self(tokens))
        } else {
            Err(D::Error::custom("give at most 10 grant tokens, as AWS gave them"))
        }
    }
}

impl JsonSchema for GrantTokens {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "GrantTokens".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": { "type": "string" } })
    }
}

/// The key that a call names, else the configured one.
fn key_of(given: Option<&AwsKeyId>, place: &Place) -> Result<AwsKeyId, Error> {
    given
        .or(place.engines().aws_key.as_ref())
        .cloned()
        .ok_or_else(|| Error::input("key_id", "name a key: this server has no AWS_KMS_DEFAULT_KEY_ID"))
}

/// What a call touches. Vault's policy has no say in it: AWS' does.
fn target_of(key: Option<&AwsKeyId>, context: &Context) -> Target {
    let name = key.map_or("aws-kms".to_owned(), |key| format!("aws-kms/{key}"));
    Target { keys: context.names(), ..Target::named(name) }
}

fn terms(key: Option<AwsKeyId>, context: Context, grant_tokens: GrantTokens) -> Terms {
    let context = context.0.into_iter().map(|(name, value)| (name.to_string(), value)).collect();
    Terms { key, context, grant_tokens: grant_tokens.0 }
}

fn base64_of(bytes: &[u8]) -> Zeroizing<String> {
    Zeroizing::new(STANDARD.encode(bytes))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use crate::op::find;

    fn code(id: &str, arguments: Value) -> Option<&'static str> {
        find(id).unwrap().parse(arguments).err().map(|error| {
            assert!(!error.to_string().contains("canary"), "{error}");
            error.code()
        })
    }

    #[test]
    fn what_kms_would_not_take_does_not_parse() {
        use base64::{Engine, engine::general_purpose::STANDARD};
        let bytes = |length: usize| STANDARD.encode(vec![b'x'; length]);
        let refused = Some("invalid_input");
        assert_eq!(code("kms.encrypt", json!({"plaintext": bytes(4096)})), None);
        for plaintext in [bytes(4097), String::new(), "canary".into(), "Y2FuYXJ5\n".into(), "YQ".into()] {
            assert_eq!(code("kms.encrypt", json!({"plaintext": plaintext})), refused);
        }
        for key in ["", "a b", "../x", "alias/a?x", "arn:aws:kms\n", "canary%20", &"k".repeat(2049)] {
            assert_eq!(code("kms.encrypt", json!({"plaintext": "YQ==", "key_id": key})), refused, "{key}");
        }
        for context in
            [json!([]), json!({"a": 1}), json!({"": "x"}), json!({"a": ""}), json!({"a": "x".repeat(9000)})]
        {
            let arguments = json!({"plaintext": "YQ==", "encryption_context": context});
            assert_eq!(code("kms.encrypt", arguments), refused);
        }
        for tokens in [json!("x"), json!([""]), json!(["a b"]), json!(vec!["x"; 11])] {
            let arguments = json!({"plaintext": "YQ==", "grant_tokens": tokens});
            assert_eq!(code("kms.encrypt", arguments), refused);
        }
        for number in [json!(0), json!(1025), json!(-1), json!("32"), json!(1e3)] {
            assert_eq!(code("kms.generate_data_key", json!({"number_of_bytes": number})), refused);
        }
    }

    #[test]
    fn region_endpoint_and_credentials_are_no_arguments() {
        for name in [
            "region",
            "endpoint",
            "endpoint_url",
            "access_key_id",
            "secret_access_key",
            "session_token",
            "profile",
        ] {
            for (id, mut arguments) in [
                ("kms.encrypt", json!({"plaintext": "YQ=="})),
                ("kms.decrypt", json!({"ciphertext": "YQ=="})),
                ("kms.generate_data_key", json!({})),
                ("kms.sign", json!({"message": "YQ==", "signing_algorithm": "ECDSA_SHA_256"})),
            ] {
                assert_eq!(code(id, arguments.clone()), None, "{id}");
                arguments[name] = json!("http://169.254.169.254/canary");
                assert_eq!(code(id, arguments), Some("invalid_input"), "{id} {name}");
            }
        }
    }
}
