//! A value that only the human knows: the model names the key, the human types the value where the model cannot look.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};

use super::{
    Written,
    change::{Cas, check_cas},
    generate::{check_mergeable, merge},
    preview_merge, target,
};
use crate::{
    broker::{Granted, Look, Place},
    caller::Scope,
    error::Error,
    names::{KeyName, MountName, SecretPath, is_invisible, shown_name},
    op::{Effect, Operation, Preview, Spec, Target, Toolset},
};

/// `secret.ask`.
pub struct Ask;

/// Arguments of `secret.ask`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AskInput {
    /// Path of the secret; it is created if there is none.
    path: SecretPath,
    /// Key that takes the value; other keys keep theirs.
    key: KeyName,
    /// For the human: which value is meant.
    prompt: Option<Prompt>,
    /// Write only onto this version; 0 only if there is none.
    cas: Option<Cas>,
    /// Another KV mount.
    mount: Option<MountName>,
}

/// One line of visible text of 1 to 200 characters.
struct Prompt(String);

impl<'de> Deserialize<'de> for Prompt {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let fits = (1..=200).contains(&text.chars().count()) && !text.chars().any(is_invisible);
        if fits {
            Ok(Self(text))
        } else {
            Err(D::Error::custom("give one line of 1 to 200 visible characters"))
        }
    }
}

impl JsonSchema for Prompt {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Prompt".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "maxLength": 200 })
    }
}

impl Operation for Ask {
    const SPEC: Spec = Spec {
        id: "secret.ask",
        title: "Ask the human for a value",
        summary: "Have the human type a value that only they know (an API key, a password) into one key of a secret; you never see it. Use it in place of asking for it in the conversation. For a random value use kv_generate.",
        scope: Some(Scope::Write),
        effect: Effect::Write,
        toolset: Toolset::Kv,
        idempotent: false,
    };
    type Input = AskInput;
    type Output = Written;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        let mut target =
            target(&input.path, input.mount.as_ref(), place, &[("data", &["create", "update"])])?;
        target.keys = vec![input.key.as_str().to_owned()];
        Ok(target)
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let mount = look.place().mount(input.mount.as_ref())?;
        let path = look.place().path(&input.path)?;
        let kv = look.kv(mount);
        let current = kv.current(path.as_str()).await?;
        check_cas(input.cas, &kv, &current)?;
        check_mergeable(&kv, path.as_str(), &current)?;
        let value = Map::from_iter([(input.key.as_str().to_owned(), Value::from(""))]);
        let mut preview = preview_merge(&current, &value);
        let new = if preview.verb == "CREATE" { " of a new secret" } else { "" };
        let of = preview.detail.strip_prefix("1 key").unwrap_or_default();
        preview.detail = format!("key {}{new}{of}", shown_name(input.key.as_str()));
        preview.verb = "ASK";
        preview.asks_for = Some(input.key.as_str().to_owned());
        // What a model wrote stands as such: it must not read as if this program said it.
        preview.warnings.extend(input.prompt.iter().map(|prompt| {
            format!(
                "The caller's words, not checked: \"{}\"",
                prompt.0.replace('\\', "\\\\").replace('"', "\\\"")
            )
        }));
        Ok(preview)
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let value = granted.typed_value()?;
        let mount = granted.place().mount(input.mount.as_ref())?;
        let path = granted.place().path(&input.path)?;
        let kv = granted.kv(mount);
        let current = kv.current(path.as_str()).await?;
        let cas = granted.cas(input.cas.map(|cas| cas.0)).or(current.cas());
        let entry = Map::from_iter([(input.key.as_str().to_owned(), Value::from(value.expose()))]);
        let written = merge(&kv, path.as_str(), &current, entry, cas).await?;
        Ok(Written::of(input.path.as_str(), written))
    }
}
