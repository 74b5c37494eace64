//! A secret in a single-use wrapping token, for a program that unwraps it itself.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Map;
use vaultrs::api::kv2::requests::ReadSecretRequest;

use super::kv::{read::reveal_preview, target};
use crate::{
    broker::{Granted, Look, Place},
    caller::Scope,
    error::Error,
    names::{KeyName, SecretPath},
    op::{Effect, Operation, Preview, Spec, Target, Toolset},
    vault::{KvKind, issue},
};

/// `secret.wrap`.
pub struct Wrap;

/// Arguments of `secret.wrap`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WrapInput {
    /// Path of the secret.
    path: SecretPath,
    /// Only these keys.
    #[schemars(length(min = 1, max = 100))]
    keys: Option<Vec<KeyName>>,
    /// Seconds the token is good for, 1 to 120; 60 if left out.
    ttl: Option<Seconds>,
}

/// 1 to 120.
#[derive(Clone, Copy)]
struct Seconds(u32);

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u32::deserialize(deserializer)? {
            seconds @ 1..=120 => Ok(Self(seconds)),
            _ => Err(D::Error::custom("give seconds from 1 to 120")),
        }
    }
}

impl JsonSchema for Seconds {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Seconds".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 1, "maximum": 120 })
    }
}

/// Answer of `secret.wrap`.
#[derive(Serialize, JsonSchema)]
pub struct WrapOutput {
    /// The wrapping token: good once.
    token: String,
    /// Seconds it is good for.
    ttl: u64,
    /// How a program gets at the secret.
    unwrap: String,
}

impl Operation for Wrap {
    const SPEC: Spec = Spec {
        id: "secret.wrap",
        title: "Wrap a secret",
        summary: "Put a secret into a token that can be unwrapped once, within 120 s. A human confirms it first. Use it to hand a secret to a program that talks to Vault; whoever holds the token can see the secret.",
        scope: Some(Scope::Read),
        effect: Effect::Issue,
        toolset: Toolset::Kv,
        idempotent: false,
    };
    type Input = WrapInput;
    type Output = WrapOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        if input.keys.as_ref().is_some_and(|keys| !(1..=100).contains(&keys.len())) {
            return Err(Error::input("keys", "give 1 to 100 keys, or leave it out for all"));
        }
        let mut target = target(&input.path, None, place, &[("data", &["read"])])?;
        target.keys = input.keys.iter().flatten().map(|key| key.as_str().to_owned()).collect();
        Ok(target)
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let path = look.place().path(&input.path)?;
        let read = look.kv(look.place().mount(None)?).read(path.as_str(), None).await?;
        let wanted = |key: &String| {
            input.keys.as_ref().is_none_or(|keys| keys.iter().any(|name| name.as_str() == key))
        };
        let mut preview = reveal_preview(read.data.keys().into_iter().filter(wanted).collect(), read.version);
        preview.verb = "WRAP";
        preview
            .warnings
            .push("The model gets the token: with it anyone can unwrap the values once.".to_owned());
        Ok(preview)
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let mount = granted.place().mount(None)?.to_owned();
        let path = granted.place().path(&input.path)?;
        let seconds = input.ttl.map_or(60, |ttl| ttl.0);
        let kv = granted.kv(&mount);
        let whole = input.keys.is_none() && kv.kind() == Some(KvKind::V2);
        let wrapping = if whole {
            // Vault wraps its own answer: the values do not pass through here.
            let request = ReadSecretRequest {
                mount: mount.clone(),
                path: path.as_str().to_owned(),
                version: granted.cas(None),
            };
            granted.session().write_wrapped(&request, seconds, "\"read\"").await?
        } else {
            let mut read = kv.read(path.as_str(), granted.cas(None)).await?;
            if let Some(keys) = &input.keys {
                read.data.retain(|key| keys.iter().any(|name| name.as_str() == key));
            }
            let content: Map<_, _> = read.data.expose().clone();
            if content.is_empty() {
                return Err(Error::input("keys", "the secret has none of these keys"));
            }
            granted.session().write_wrapped(&issue::Wrap(content), seconds, "\"update\"").await?
        };
        Ok(WrapOutput {
            token: wrapping.token,
            ttl: wrapping.ttl,
            unwrap: "vault unwrap TOKEN, or POST /v1/sys/wrapping/unwrap with the token as X-Vault-Token"
                .to_owned(),
        })
    }
}
