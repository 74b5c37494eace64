//! Which keys there are, their public halves, and random bytes.

use std::collections::BTreeMap;

use futures_util::{StreamExt, stream};
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;

use crate::{
    broker::{Granted, Place},
    caller::Scope,
    error::Error,
    names::{EngineName, is_usable_segment, shown},
    op::{Effect, Operation, Rest, RestAnswer, Spec, Target, Toolset, Verb},
};

/// Keys that are looked at for one listing.
const MAX_LISTED: usize = 200;

/// `transit.keys`.
pub struct Keys;

/// Arguments of `transit.keys`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeysInput {
    /// Only this key, with the public half of each version.
    key: Option<EngineName>,
}

/// Answer of `transit.keys`.
#[derive(Serialize, JsonSchema)]
pub struct KeysOutput {
    /// The keys.
    keys: Vec<Key>,
}

/// One key.
#[derive(Serialize, JsonSchema)]
pub(crate) struct Key {
    /// Its name.
    name: String,
    /// Its type; absent when the token may not look at it.
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    kind: Option<String>,
    /// Its newest version.
    #[serde(skip_serializing_if = "Option::is_none")]
    latest_version: Option<u64>,
    /// Public keys by version (PEM, or base64 for Ed25519).
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    public_keys: BTreeMap<String, String>,
}

impl Operation for Keys {
    const SPEC: Spec = Spec {
        id: "transit.keys",
        title: "List transit keys",
        summary: "List the transit keys with type and newest version, or show the public half of one for verifying elsewhere. Private keys are never shown.",
        scope: Some(Scope::List),
        effect: Effect::Read,
        toolset: Toolset::Transit,
        idempotent: true,
    };
    type Input = KeysInput;
    type Output = KeysOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        let mount = &place.engines().transit;
        let (path, capabilities): (String, &'static [&'static str]) = match &input.key {
            Some(key) => (format!("{mount}/keys/{key}"), &["read"]),
            None => (format!("{mount}/keys"), &["list"]),
        };
        Ok(Target::at(path, capabilities))
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let transit = granted.transit();
        if let Some(key) = &input.key {
            let info = transit.key(key.as_str()).await?;
            let public = |value: &Value| {
                value
                    .get("public_key")
                    .and_then(Value::as_str)
                    .filter(|text| !text.is_empty())
                    .map(str::to_owned)
            };
            let public_keys = info
                .keys
                .iter()
                .filter_map(|(version, value)| Some((version.clone(), public(value)?)))
                .collect();
            let one = Key {
                name: key.as_str().to_owned(),
                kind: Some(info.kind),
                latest_version: Some(info.latest_version),
                public_keys,
            };
            return Ok(KeysOutput { keys: vec![one] });
        }
        let mut names = transit.keys().await?;
        names.sort_unstable();
        names.truncate(MAX_LISTED);
        let look = |name: String| async move {
            // Seen by name only where the token may list but not look.
            let info = if is_usable_segment(&name, true) { transit.key(&name).await.ok() } else { None };
            let (kind, latest_version) = info.map(|info| (info.kind, info.latest_version)).unzip();
            Key { name: shown(&name, 128), kind, latest_version, public_keys: BTreeMap::new() }
        };
        Ok(KeysOutput { keys: stream::iter(names).map(look).buffered(8).collect().await })
    }
}

/// `transit.random`.
pub struct Random;

/// Arguments of `transit.random`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomInput {
    /// How many bytes; 32 if left out.
    bytes: Option<Bytes>,
    /// base64 (if left out) or hex.
    format: Option<Format>,
}

/// 1 to 65536.
#[derive(Clone, Copy)]
struct Bytes(u32);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            bytes @ 1..=65_536 => Ok(Self(bytes)),
            _ => Err(D::Error::custom("give a number from 1 to 65536")),
        }
    }
}

impl JsonSchema for Bytes {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Bytes".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 1, "maximum": 65536 })
    }
}

/// How the bytes are written.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Base64,
    Hex,
}

/// Answer of `transit.random`.
#[derive(Serialize, JsonSchema)]
pub struct RandomOutput {
    /// The bytes.
    random: String,
}

impl Operation for Random {
    const SPEC: Spec = Spec {
        id: "transit.random",
        title: "Random bytes",
        summary: "Get random bytes from Vault. They are shown, so do not use them as a password or key: kv_generate makes one that nobody sees.",
        scope: Some(Scope::Read),
        effect: Effect::Compute,
        toolset: Toolset::Transit,
        idempotent: false,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Get,
        path: "/transit/random",
        answer: RestAnswer::Output,
        about: "Random bytes of Vault's.",
    });
    type Input = RandomInput;
    type Output = RandomOutput;

    fn target(_: &Self::Input, place: &Place) -> Result<Target, Error> {
        let path = format!("{}/random", &place.engines().transit);
        Ok(Target::at(path, &["update"]))
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let format = match input.format.unwrap_or_default() {
            Format::Base64 => "base64",
            Format::Hex => "hex",
        };
        let random = granted.transit().random(input.bytes.map_or(32, |bytes| bytes.0), format).await?;
        Ok(RandomOutput { random })
    }
}
