//! Secrets of a service to files, and files looked through for secrets. Values go between Vault and the file; an
//! answer names keys and never a value.

mod example;
mod inject;
mod scan;

pub use example::GenerateExample;
pub use inject::Inject;
pub use scan::{ScanCompose, ScanEnv};

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;
use serde_json::Value;
use zeroize::Zeroizing;

use super::kv::need;
use crate::{
    broker::{Granted, Place},
    error::Error,
    handover::FileName,
    names::{ServiceName, shown},
    op::Target,
    secret::{REFERENCE_SCHEME, SecretData},
};

/// What a file is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Format {
    /// As the file's name tells.
    #[default]
    Auto,
    /// `NAME=value` lines.
    Env,
    /// YAML.
    Yaml,
}

impl Format {
    /// The format of this file; never `Auto`.
    fn of(self, file: &FileName) -> Result<Self, Error> {
        let name = file.last();
        match (self, file.ending().as_str()) {
            (Self::Auto, _) if name == ".env" || name.starts_with(".env.") => Ok(Self::Env),
            (Self::Auto, "env") => Ok(Self::Env),
            (Self::Auto, "yaml" | "yml") => Ok(Self::Yaml),
            (Self::Auto, _) => {
                Err(Error::input("format", "the file's name does not tell it; give env or yaml"))
            }
            (given, _) => Ok(given),
        }
    }
}

impl JsonSchema for Format {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Format".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ["auto", "env", "yaml"] })
    }
}

/// The target of a call on a service and a file.
fn target(service: &ServiceName, file: &str, joined: &str, place: &Place) -> Result<Target, Error> {
    let mount = place.mount(None)?;
    let full = place.service(service)?;
    let needs = vec![need(mount, full.as_str(), &[("data", &["read"])])];
    Ok(Target { name: format!("{mount}/{full} {joined} {}", shown(file, 200)), keys: Vec::new(), needs })
}

/// The key that a `secretref://` text names, if it lies at this location; a version other than this one is
/// another value.
fn referenced(text: &str, location: &str, version: Option<u64>) -> Option<String> {
    let rest = text.strip_prefix(REFERENCE_SCHEME)?.strip_prefix(location)?;
    let (asked, key) = rest.split_once('#')?;
    let fits = match asked.strip_prefix("?version=") {
        Some(number) => version.is_some_and(|version| number == version.to_string()),
        None => asked.is_empty(),
    };
    (fits && !key.is_empty()).then(|| key.to_owned())
}

/// What a service has in Vault now; nothing where there is no such secret yet.
struct Stored {
    /// Mount and path.
    location: String,
    data: SecretData,
}

impl Stored {
    async fn read(granted: &Granted, service: &ServiceName) -> Result<Self, Error> {
        let mount = granted.place().mount(None)?;
        let path = granted.place().service(service)?;
        let data = match granted.kv(mount).read(path.as_str(), None).await {
            Ok(read) => read.data,
            Err(Error::NotFound | Error::VersionGone { .. }) => SecretData::default(),
            Err(other) => return Err(other),
        };
        Ok(Self { location: format!("{mount}/{path}"), data })
    }

    fn has(&self, key: &str) -> bool {
        self.data.expose().contains_key(key)
    }

    /// The keyed hash of a key's value as a file would have it.
    fn hash(&self, granted: &Granted, key: &str) -> Option<String> {
        let text = as_text(self.data.expose().get(key)?)?;
        Some(granted.keyed_hash(text.as_bytes()))
    }
}

/// A value as the text that a variable gets: numbers and flags as JSON writes them, lists and objects as JSON.
/// Nothing stands for null.
fn as_text(value: &Value) -> Option<Zeroizing<String>> {
    match value {
        Value::Null => None,
        Value::String(text) => Some(Zeroizing::new(text.clone())),
        other => Some(Zeroizing::new(other.to_string())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_is_good_for_its_own_secret_and_version_only() {
        let key = |text: &str, version| referenced(text, "secret/mcp/a/shop", version);
        assert_eq!(key("secretref://secret/mcp/a/shop#DB", Some(3)).as_deref(), Some("DB"));
        assert_eq!(key("secretref://secret/mcp/a/shop?version=3#DB", Some(3)).as_deref(), Some("DB"));
        for other in [
            "secretref://secret/mcp/a/shop?version=2#DB",
            "secretref://secret/mcp/a/shop2#DB",
            "secretref://secret/mcp/b/shop#DB",
            "secretref://secret/mcp/a/shop#",
            "secretref://secret/mcp/a/shop",
            "secret/mcp/a/shop#DB",
        ] {
            assert_eq!(key(other, Some(3)), None, "{other}");
        }
    }

    #[test]
    fn the_format_is_told_by_the_name() {
        let of = |name: &str| Format::Auto.of(&FileName::parse(name.into()).unwrap()).ok();
        for name in [".env", "a/.env.local", ".env.production", "x.env"] {
            assert_eq!(of(name), Some(Format::Env), "{name}");
        }
        assert_eq!((of("a.yml"), of("b/C.YAML")), (Some(Format::Yaml), Some(Format::Yaml)));
        assert_eq!((of("Makefile"), of("env"), of("a.json")), (None, None, None));
    }
}
