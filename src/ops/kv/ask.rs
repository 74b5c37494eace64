//! A value that only the human knows: the model names the key, the human types the value where the model cannot look.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{Written, change::Cas, merge::OneKey};
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

impl AskInput {
    fn one_key(&self) -> OneKey<'_> {
        OneKey { path: &self.path, key: &self.key, cas: self.cas, mount: self.mount.as_ref() }
    }
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
        input.one_key().target(place)
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let mut preview = input.one_key().preview(look).await?;
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
        input.one_key().set(&granted, value.expose()).await
    }
}
