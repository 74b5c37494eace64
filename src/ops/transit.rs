//! Cryptography with keys that never leave Vault. One item or a batch, through the same code: a batch keeps
//! its order and has a result or an error for each item.

mod cipher;
mod keys;
mod signature;

pub use cipher::{Decrypt, Encrypt, Rewrap};
pub use keys::{Keys, Random};
pub use signature::{Sign, Verify};

use base64::{Engine, engine::general_purpose::STANDARD};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use crate::{
    broker::Place,
    error::Error,
    names::EngineName,
    op::{Need, Target},
    vault::transit::KeyKind,
};

/// Items that one call may hold.
pub const MAX_BATCH: usize = 1000;

/// Standard base64 with padding, checked before anything is sent. Never empty.
#[derive(Clone)]
pub(crate) struct Base64(Zeroizing<String>);

impl Base64 {
    fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        if text.is_empty() {
            return Err(D::Error::custom("it is empty; give at least one byte as base64"));
        }
        match STANDARD.decode(text.as_bytes()) {
            Ok(bytes) => {
                drop(Zeroizing::new(bytes));
                Ok(Self(text))
            }
            Err(_) => Err(D::Error::custom(
                "it is no standard base64 (A-Z a-z 0-9 + / with = padding, on one line)",
            )),
        }
    }
}

impl JsonSchema for Base64 {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Base64".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "contentEncoding": "base64" })
    }
}

/// What Vault makes of a text or signs: `vault:vN:` and base64.
#[derive(Clone)]
pub(crate) struct VaultText(String);

impl VaultText {
    fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for VaultText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let fits = text.strip_prefix("vault:v").and_then(|rest| rest.split_once(':')).is_some_and(
            |(version, body)| {
                let number = !version.starts_with('0')
                    && version.len() <= 9
                    && version.bytes().all(|byte| byte.is_ascii_digit());
                // ECDSA signatures in JWS form are base64url without padding.
                let characters =
                    body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=-_".contains(&byte));
                !version.is_empty() && number && !body.is_empty() && characters
            },
        );
        if fits {
            Ok(Self(text))
        } else {
            Err(D::Error::custom("it is not of the form vault:v1:…, as Vault gave it"))
        }
    }
}

impl JsonSchema for VaultText {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "VaultText".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": "^vault:v[1-9][0-9]*:.+$" })
    }
}

/// A version of a key.
#[derive(Clone, Copy)]
pub(crate) struct KeyVersion(u64);

impl<'de> Deserialize<'de> for KeyVersion {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        if (1..=1_000_000).contains(&number) {
            Ok(Self(number))
        } else {
            Err(D::Error::custom("a key version is a whole number from 1"))
        }
    }
}

impl JsonSchema for KeyVersion {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KeyVersion".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1 })
    }
}

/// The items that [`check_given`] has seen, and whether they are a batch.
fn one_or_many<T>(one: Option<T>, batch: Option<Vec<T>>) -> (Vec<T>, bool) {
    match batch {
        Some(items) => (items, true),
        None => (one.into_iter().collect(), false),
    }
}

/// One item or a batch of a fitting size is there: found out before anything is recorded as a request.
fn check_given<T, U>(one: Option<&T>, batch: Option<&Vec<U>>, name: &'static str) -> Result<(), Error> {
    match (one, batch) {
        (Some(_), None) => Ok(()),
        (None, Some(items)) if (1..=MAX_BATCH).contains(&items.len()) => Ok(()),
        (None, Some(_)) => Err(Error::input("batch", format!("give 1 to {MAX_BATCH} items"))),
        _ => Err(Error::input(name, format!("give either {name} or batch"))),
    }
}

/// What a call of one verb touches.
fn target_in(place: &Place, verb: &'static str, key: &EngineName) -> Target {
    let mount = &place.engines().transit;
    Target {
        name: format!("{mount}/{key}"),
        keys: Vec::new(),
        needs: vec![Need::of(format!("{mount}/{verb}/{key}"), &["update"])],
    }
}

/// A context where the key has none would be ignored by Vault, and the caller would believe in a
/// separation that is not there.
fn check_context(kind: &KeyKind, any: bool, all: bool) -> Result<(), Error> {
    match (kind.derived, any, all) {
        (false, true, _) => {
            Err(Error::input("context", "the key is not derived and takes no context; leave it out"))
        }
        (true, _, false) => Err(Error::input("context", "the key is derived and needs a context")),
        _ => Ok(()),
    }
}

fn insert(map: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        map.insert(name.to_owned(), value.into());
    }
}

/// A single item's fault is the call's fault.
fn single<T>(mut results: Vec<Result<T, &'static str>>) -> Result<T, Error> {
    match results.pop() {
        Some(Ok(value)) => Ok(value),
        Some(Err(fault)) => Err(Error::VaultRejected { status: 400, hint: format!(": {fault}").into() }),
        None => Err(Error::VaultAnswer { fault: "an empty batch" }),
    }
}

fn text_of(item: &Map<String, Value>, name: &str) -> Result<String, &'static str> {
    item.get(name).and_then(Value::as_str).map(str::to_owned).ok_or("Vault gave no result for it")
}
