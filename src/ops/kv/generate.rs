//! A random value that goes straight into a secret: the model names it and never holds it.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{
    Written,
    change::{Cas, check_cas},
    preview_merge, target,
};
use crate::{
    broker::{Granted, Look, Place},
    caller::Scope,
    error::Error,
    names::{KeyName, MountName, SecretPath},
    op::{Effect, Operation, Preview, Spec, Target, Toolset},
    vault::{
        KvKind,
        kv::{Current, KvRead, KvReader, KvWriter, WrittenVersion},
    },
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
        preview.detail.push_str(", a random value");
        Ok(preview)
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let mount = granted.place().mount(input.mount.as_ref())?;
        let path = granted.place().path(&input.path)?;
        let kv = granted.kv(mount);
        let length = input.length.map_or(32, |length| length.0);
        let value = random_text(length, input.charset.unwrap_or_default())?;
        let current = kv.current(path.as_str()).await?;
        let cas = granted.cas(input.cas.map(|cas| cas.0)).or(current.cas());
        let entry = Map::from_iter([(input.key.as_str().to_owned(), Value::from(value.as_str()))]);
        let written = merge(&kv, path.as_str(), &current, entry, cas).await?;
        Ok(Written::of(input.path.as_str(), written))
    }
}

/// Version 1 cannot merge by itself: what cannot be seen there would be replaced.
pub(crate) fn check_mergeable(kv: &KvReader<'_>, path: &str, current: &Current) -> Result<(), Error> {
    match current {
        Current::Unseen(_) if kv.kind() == Some(KvKind::V1) => {
            Err(Error::Forbidden { path: format!("{}/{path}", kv.mount()), capabilities: "\"read\"".into() })
        }
        _ => Ok(()),
    }
}

/// Puts entries into a secret beside what is there, creating it if need be. Vault itself merges where it
/// can, so that values this server had no need of stay where they are.
pub(crate) async fn merge(
    kv: &KvWriter<'_>,
    path: &str,
    current: &Current,
    entries: Map<String, Value>,
    cas: Option<u64>,
) -> Result<WrittenVersion, Error> {
    let whole = |read: &KvRead| {
        let mut data = read.data.expose().clone();
        data.extend(entries.clone());
        data
    };
    match current {
        Current::Absent | Current::Gone(_) => kv.write(path, entries, cas).await,
        Current::Present(read) if kv.kind() == Some(KvKind::V1) => kv.write(path, whole(read), None).await,
        Current::Present(read) => match kv.patch(path, entries.clone(), cas).await {
            // A policy without `patch` can still allow the whole write.
            Err(Error::Forbidden { .. }) => kv.write(path, whole(read), cas).await,
            other => other,
        },
        // What is there cannot be seen, so it must not be replaced: merged, or created where there is none.
        Current::Unseen(_) => match kv.patch(path, entries.clone(), cas).await {
            Err(Error::NotFound) => kv.write(path, entries, Some(cas.unwrap_or(0))).await,
            other => other,
        },
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
            assert!(crate::broker::patterns::found(&Value::from(text.as_str())).is_empty());
        }
    }
}
