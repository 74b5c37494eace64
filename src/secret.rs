//! Secret values and what is shown in their place.
//!
//! A [`SecretData`] is the content of a secret on its way from Vault. It prints, logs and serializes as
//! masks; the plain values come out only through [`SecretData::expose`], which the code that may show
//! them calls by name. Strings inside are wiped when it is dropped.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer, ser::SerializeMap};
use serde_json::{Map, Value, json};
use zeroize::Zeroize;

/// Scheme of the references that stand in for masked values.
pub const REFERENCE_SCHEME: &str = "secretref://";

/// Keys and values of one secret.
#[derive(Clone, Default)]
pub struct SecretData(Map<String, Value>);

impl SecretData {
    /// Takes ownership of what Vault answered.
    #[must_use]
    pub fn new(data: Map<String, Value>) -> Self {
        Self(data)
    }

    /// The plain values. Call sites of this are what a reviewer looks for.
    #[must_use]
    pub fn expose(&self) -> &Map<String, Value> {
        &self.0
    }

    /// Names of the keys, in order.
    #[must_use]
    pub fn keys(&self) -> Vec<String> {
        self.0.keys().cloned().collect()
    }

    /// How many keys there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there is no key.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keeps the named keys only.
    pub fn retain(&mut self, keep: impl Fn(&str) -> bool) {
        self.0.retain(|key, value| {
            let kept = keep(key);
            if !kept {
                wipe(value);
            }
            kept
        });
    }
}

impl From<Map<String, Value>> for SecretData {
    fn from(data: Map<String, Value>) -> Self {
        Self(data)
    }
}

impl fmt::Debug for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SecretData({} keys, masked)", self.0.len())
    }
}

impl fmt::Display for SecretData {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

impl Serialize for SecretData {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.0.len()))?;
        for (key, value) in &self.0 {
            map.serialize_entry(key, &mask(value, None))?;
        }
        map.end()
    }
}

impl Drop for SecretData {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

fn wipe(value: &mut Value) {
    match value {
        Value::String(text) => text.zeroize(),
        Value::Array(items) => items.iter_mut().for_each(wipe),
        Value::Object(map) => map.values_mut().for_each(wipe),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// Where a value lies, for the reference that a mask carries.
#[derive(Debug, Clone)]
pub struct Reference<'a> {
    /// Mount and full path, joined by `/`.
    pub location: &'a str,
    /// Version, where the engine keeps versions.
    pub version: Option<u64>,
    /// Key inside the secret.
    pub key: &'a str,
}

/// What stands in place of a value: its JSON type, a length class that does not give the length away, and
/// a reference that tools which hand secrets over accept.
#[must_use]
pub fn mask(value: &Value, reference: Option<&Reference<'_>>) -> Value {
    let (kind, length) = match value {
        Value::String(text) => ("string", Some(length_class(text.chars().count()))),
        Value::Number(_) => ("number", None),
        Value::Bool(_) => ("boolean", None),
        Value::Null => ("null", None),
        Value::Array(_) => ("array", None),
        Value::Object(_) => ("object", None),
    };
    let mut mask = json!({ "masked": true, "type": kind });
    if let Some(map) = mask.as_object_mut() {
        if let Some(length) = length {
            map.insert("length".into(), length.into());
        }
        if let Some(at) = reference {
            let version = at.version.map(|version| format!("?version={version}")).unwrap_or_default();
            map.insert("ref".into(), format!("{REFERENCE_SCHEME}{}{version}#{}", at.location, at.key).into());
        }
    }
    mask
}

/// A class of lengths in characters, wide enough that it does not help a guess.
#[must_use]
pub fn length_class(characters: usize) -> &'static str {
    match characters {
        0 => "0",
        1..=8 => "1-8",
        9..=16 => "9-16",
        17..=32 => "17-32",
        33..=64 => "33-64",
        65..=256 => "65-256",
        _ => "257+",
    }
}

/// True for what [`mask`] makes, and for a bare reference: a model that writes back what it read must not
/// replace a secret by its mask.
#[must_use]
pub fn is_mask(value: &Value) -> bool {
    match value {
        Value::String(text) => text.starts_with(REFERENCE_SCHEME),
        Value::Object(map) => map.get("masked") == Some(&Value::Bool(true)) && map.contains_key("type"),
        _ => false,
    }
}

/// True for a reference, and for a mask that is written out as JSON.
#[must_use]
pub fn text_is_mask(text: &str) -> bool {
    text.starts_with(REFERENCE_SCHEME)
        || (text.trim_start().starts_with('{')
            && text.contains("\"masked\"")
            && serde_json::from_str(text).is_ok_and(|inner: Value| is_mask(&inner)))
}

/// True when a mask stands anywhere in the value: in a list, in an object, or written out as JSON text.
#[must_use]
pub fn holds_mask(value: &Value) -> bool {
    is_mask(value)
        || match value {
            Value::String(text) => text_is_mask(text),
            Value::Array(items) => items.iter().any(holds_mask),
            Value::Object(map) => map.values().any(holds_mask),
            Value::Null | Value::Bool(_) | Value::Number(_) => false,
        }
}

/// Values of a secret as an answer carries them: plain or masked, decided by whoever holds the grant.
#[derive(Serialize)]
#[serde(transparent)]
pub struct Disclosed(Map<String, Value>);

impl Disclosed {
    /// Every value masked, with references.
    #[must_use]
    pub fn masked(data: &SecretData, location: &str, version: Option<u64>) -> Self {
        let one = |(key, value): (&String, &Value)| {
            (key.clone(), mask(value, Some(&Reference { location, version, key })))
        };
        Self(data.0.iter().map(one).collect())
    }

    /// Every value as it is. Only `broker::Granted` calls this.
    pub(crate) fn plain(data: &SecretData) -> Self {
        Self(data.0.clone())
    }
}

/// One value as an answer carries it: plain or masked.
#[derive(Serialize)]
#[serde(transparent)]
pub struct DisclosedValue(Value);

impl DisclosedValue {
    /// A mask in place of a text that stands for `bytes` bytes.
    #[must_use]
    pub fn masked_bytes(bytes: usize) -> Self {
        Self(json!({ "masked": true, "type": "string", "length": length_class(bytes) }))
    }

    /// The text as it is. Only `broker::Granted` calls this.
    pub(crate) fn plain(text: String) -> Self {
        Self(Value::String(text))
    }
}

impl Drop for DisclosedValue {
    fn drop(&mut self) {
        wipe(&mut self.0);
    }
}

impl JsonSchema for DisclosedValue {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Value".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "anyOf": [{ "type": "string" }, { "type": "object" }],
            "description": "The text, or {masked, type, length} in its place."
        })
    }
}

impl fmt::Debug for Disclosed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Disclosed({} keys)", self.0.len())
    }
}

impl Drop for Disclosed {
    fn drop(&mut self) {
        self.0.values_mut().for_each(wipe);
    }
}

impl JsonSchema for Disclosed {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Values".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "object", "description": "Each key's value, or {masked, type, length, ref} in its place." })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_prints_logs_and_serializes_as_masks() {
        let data = SecretData::new(json!({"K": "canary-value", "N": 4711}).as_object().cloned().unwrap());
        for shown in [format!("{data:?}"), format!("{data}"), serde_json::to_string(&data).unwrap()] {
            assert!(!shown.contains("canary-value") && !shown.contains("4711"), "{shown}");
        }
    }

    #[test]
    fn a_mask_is_told_from_a_value() {
        assert!(is_mask(&mask(&json!("x"), None)));
        assert!(is_mask(&json!("secretref://secret/a#b")));
        assert!(!is_mask(&json!("masked")));
        assert!(!is_mask(&json!({"masked": false})));
        let mask = mask(&json!("x"), None);
        for holder in [json!([mask]), json!({"a": {"b": mask}}), json!(mask.to_string())] {
            assert!(holds_mask(&holder), "{holder}");
        }
        assert!(!holds_mask(&json!({"a": ["{\"masked\": 1}", null]})));
    }
}
