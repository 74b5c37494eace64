//! A random value that goes straight into a secret: the model names it and never holds it.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};
use zeroize::Zeroizing;

use super::{Written, change::Cas, merge::OneKey};
use crate::{
    broker::{Granted, Look, Place},
    caller::Scope,
    error::Error,
    names::{KeyName, MountName, SecretPath},
    op::{Effect, Operation, Preview, Spec, Target, Toolset},
};

/// `kv.generate`.
pub struct Generate;

/// Arguments of `kv.generate`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateInput {
    /// Path of the secret; it is created if there is none.
    path: SecretPath,
    /// Key that takes the value; other keys keep theirs.
    key: KeyName,
    /// Characters; 32 if left out.
    length: Option<Length>,
    /// Which characters; alphanumeric if left out.
    charset: Option<Charset>,
    /// Write only onto this version; 0 only if there is none.
    cas: Option<Cas>,
    /// Another KV mount.
    mount: Option<MountName>,
}

impl GenerateInput {
    fn one_key(&self) -> OneKey<'_> {
        OneKey { path: &self.path, key: &self.key, cas: self.cas, mount: self.mount.as_ref() }
    }
}

/// 8 to 1024.
#[derive(Clone, Copy)]
struct Length(usize);

impl<'de> Deserialize<'de> for Length {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match usize::deserialize(deserializer)? {
            length @ 8..=1024 => Ok(Self(length)),
            _ => Err(D::Error::custom("give a number from 8 to 1024")),
        }
    }
}

impl JsonSchema for Length {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Length".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 8, "maximum": 1024 })
    }
}

/// Sets of characters, none of which a shell or a template acts on.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Charset {
    #[default]
    Alphanumeric,
    Hex,
    Digits,
    Base64url,
    Symbols,
}

impl Charset {
    fn characters(self) -> &'static [u8] {
        match self {
            Self::Alphanumeric => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789",
            Self::Hex => b"0123456789abcdef",
            Self::Digits => b"0123456789",
            Self::Base64url => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_",
            Self::Symbols => b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.,:+=@%^",
        }
    }
}

/// Each character with the same chance: bytes beyond the last whole multiple of the set are thrown away.
fn random_text(length: usize, charset: Charset) -> Result<Zeroizing<String>, Error> {
    let set = charset.characters();
    let fair = 256 / set.len() * set.len();
    let mut text = Zeroizing::new(String::with_capacity(length));
    let mut bytes = Zeroizing::new([0u8; 64]);
    while text.len() < length {
        crate::random::fill(&mut bytes[..])?;
        for byte in bytes.iter().map(|byte| usize::from(*byte)).filter(|byte| *byte < fair) {
            if text.len() == length {
                break;
            }
            text.extend(set.get(byte % set.len()).copied().map(char::from));
        }
    }
    Ok(text)
}

impl Operation for Generate {
    const SPEC: Spec = Spec {
        id: "kv.generate",
        title: "Generate a value",
        summary: "Put a random value under one key of a secret, which is created if need be; the value is never shown. A human confirms it first. Use it for every new password or key instead of making one up.",
        scope: Some(Scope::Write),
        effect: Effect::Write,
        toolset: Toolset::Kv,
        idempotent: false,
    };
    type Input = GenerateInput;
    type Output = Written;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        input.one_key().target(place)
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let mut preview = input.one_key().preview(look).await?;
        preview.detail.push_str(", a random value");
        Ok(preview)
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let length = input.length.map_or(32, |length| length.0);
        let value = random_text(length, input.charset.unwrap_or_default())?;
        input.one_key().set(&granted, &value).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_random_text_has_its_length_and_only_its_characters() {
        for charset in
            [Charset::Alphanumeric, Charset::Hex, Charset::Digits, Charset::Base64url, Charset::Symbols]
        {
            let text = random_text(1024, charset).unwrap();
            assert_eq!(text.len(), 1024);
            assert!(text.bytes().all(|byte| charset.characters().contains(&byte)), "{charset:?}");
            assert_ne!(*text, *random_text(1024, charset).unwrap());
            assert!(crate::broker::patterns::found(&serde_json::Value::from(text.as_str())).is_empty());
        }
    }
}
