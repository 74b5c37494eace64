//! Encrypting, decrypting, rewrapping.

use base64::{Engine, engine::general_purpose::STANDARD};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Map;
use zeroize::Zeroizing;

use super::{
    Base64, KeyVersion, VaultText, check_context, check_given, insert, one_or_many, single, target_in,
    text_of,
};
use crate::{
    broker::{Granted, Look, Place},
    caller::Scope,
    error::Error,
    handover::{FileName, NewFile, render},
    names::{EngineName, shown},
    op::{Effect, Files, Operation, Preview, Rest, RestAnswer, Spec, Target, Toolset, Verb},
    secret::DisclosedValue,
    vault::transit::{Scheme, Transit},
};

/// A result or the fault of one item of a batch.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ItemCiphertext {
    /// The ciphertext.
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext: Option<String>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// One ciphertext, or one for each item.
#[derive(Serialize, JsonSchema)]
pub struct Ciphertexts {
    /// The ciphertext, for a single item.
    #[serde(skip_serializing_if = "Option::is_none")]
    ciphertext: Option<String>,
    /// For a batch: a ciphertext or an error for each item, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<Vec<ItemCiphertext>>,
}

impl Ciphertexts {
    fn of(results: Vec<Result<String, &'static str>>, is_batch: bool) -> Result<Self, Error> {
        if !is_batch {
            return Ok(Self { ciphertext: Some(single(results)?), batch: None });
        }
        let item = |result: Result<String, &'static str>| match result {
            Ok(text) => ItemCiphertext { ciphertext: Some(text), error: None },
            Err(fault) => ItemCiphertext { ciphertext: None, error: Some(fault.to_owned()) },
        };
        Ok(Self { ciphertext: None, batch: Some(results.into_iter().map(item).collect()) })
    }
}

/// `transit.encrypt`.
pub struct Encrypt;

/// Arguments of `transit.encrypt`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncryptInput {
    /// Name of the key.
    key: EngineName,
    /// Bytes to encrypt, as base64.
    plaintext: Option<Base64>,
    /// Context (base64), for a derived key.
    context: Option<Base64>,
    /// Key version; the newest if left out.
    key_version: Option<KeyVersion>,
    /// Up to 1000 items instead.
    #[schemars(length(min = 1, max = 1000))]
    batch: Option<Vec<EncryptItem>>,
}

/// One item of a batch.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct EncryptItem {
    plaintext: Base64,
    context: Option<Base64>,
}

impl Operation for Encrypt {
    const SPEC: Spec = Spec {
        id: "transit.encrypt",
        title: "Encrypt",
        summary: "Encrypt bytes with a key that stays in Vault. Use it to protect data that is stored elsewhere. For many items use batch. It does not store anything; to keep a secret use kv_write.",
        scope: Some(Scope::Write),
        effect: Effect::Compute,
        toolset: Toolset::Transit,
        idempotent: false,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/transit/encrypt",
        answer: RestAnswer::Output,
        about: "Encrypts bytes with a key that stays in Vault: one `plaintext`, or a `batch`.",
    });
    type Input = EncryptInput;
    type Output = Ciphertexts;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        check_given(input.plaintext.as_ref(), input.batch.as_ref(), "plaintext")?;
        Ok(target_in(place, "encrypt", &input.key))
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let one = input.plaintext.map(|plaintext| EncryptItem { plaintext, context: input.context.clone() });
        let (items, is_batch) = one_or_many(one, input.batch);
        let transit = granted.transit();
        let kind = transit.kind(input.key.as_str()).await?;
        check_context(
            &kind,
            items.iter().any(|item| item.context.is_some()),
            items.iter().all(|item| item.context.is_some()),
        )?;
        let version = input.key_version.map(|version| version.0);
        let body = |item: EncryptItem| {
            let mut map = Map::new();
            insert(&mut map, "plaintext", Some(item.plaintext.as_str()));
            insert(&mut map, "context", item.context.as_ref().map(Base64::as_str));
            insert(&mut map, "key_version", version);
            map
        };
        let results = transit
            .batch("encrypt", input.key.as_str(), Scheme::default(), items.into_iter().map(body).collect())
            .await?;
        Ciphertexts::of(
            results.into_iter().map(|result| result.and_then(|item| text_of(&item, "ciphertext"))).collect(),
            is_batch,
        )
    }
}

/// `transit.rewrap`.
pub struct Rewrap;

/// Arguments of `transit.rewrap`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RewrapInput {
    /// Name of the key.
    key: EngineName,
    /// Ciphertext of an older version of the key.
    ciphertext: Option<VaultText>,
    /// Context (base64), for a derived key.
    context: Option<Base64>,
    /// Up to 1000 items instead.
    #[schemars(length(min = 1, max = 1000))]
    batch: Option<Vec<CiphertextItem>>,
}

/// One item of a batch.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CiphertextItem {
    ciphertext: VaultText,
    context: Option<Base64>,
}

impl CiphertextItem {
    fn body(self) -> Map<String, serde_json::Value> {
        let mut map = Map::new();
        insert(&mut map, "ciphertext", Some(self.ciphertext.as_str()));
        insert(&mut map, "context", self.context.as_ref().map(Base64::as_str));
        map
    }
}

/// Only where a context is given is the key looked at: that one is missing Vault says itself.
async fn check_given_contexts(
    transit: Transit<'_>,
    key: &EngineName,
    items: &[CiphertextItem],
) -> Result<(), Error> {
    if items.iter().any(|item| item.context.is_some()) {
        check_context(&transit.kind(key.as_str()).await?, true, true)?;
    }
    Ok(())
}

impl Operation for Rewrap {
    const SPEC: Spec = Spec {
        id: "transit.rewrap",
        title: "Rewrap a ciphertext",
        summary: "Encrypt a ciphertext anew with the key's newest version, without showing the plaintext. Use it after a key was rotated.",
        scope: Some(Scope::Write),
        effect: Effect::Compute,
        toolset: Toolset::Transit,
        idempotent: false,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/transit/rewrap",
        answer: RestAnswer::Output,
        about: "Encrypts a ciphertext anew with the key's newest version, without showing the plaintext.",
    });
    type Input = RewrapInput;
    type Output = Ciphertexts;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        check_given(input.ciphertext.as_ref(), input.batch.as_ref(), "ciphertext")?;
        Ok(target_in(place, "rewrap", &input.key))
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let one =
            input.ciphertext.map(|ciphertext| CiphertextItem { ciphertext, context: input.context.clone() });
        let (items, is_batch) = one_or_many(one, input.batch);
        check_given_contexts(granted.transit(), &input.key, &items).await?;
        let bodies = items.into_iter().map(CiphertextItem::body).collect();
        let results =
            granted.transit().batch("rewrap", input.key.as_str(), Scheme::default(), bodies).await?;
        Ciphertexts::of(
            results.into_iter().map(|result| result.and_then(|item| text_of(&item, "ciphertext"))).collect(),
            is_batch,
        )
    }
}

/// `transit.decrypt`.
pub struct Decrypt;

/// Arguments of `transit.decrypt`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecryptInput {
    /// Name of the key.
    key: EngineName,
    /// Ciphertext, as Vault gave it.
    ciphertext: Option<VaultText>,
    /// Context (base64), for a derived key.
    context: Option<Base64>,
    /// Up to 1000 items instead.
    #[schemars(length(min = 1, max = 1000))]
    batch: Option<Vec<CiphertextItem>>,
    /// true asks the human to let you see the plaintext.
    #[serde(default)]
    reveal: bool,
    /// New file (0600) for one plaintext's bytes.
    to: Option<FileName>,
}

/// A result or the fault of one item of a batch.
#[derive(Serialize, JsonSchema)]
pub(crate) struct ItemPlaintext {
    /// The plaintext as base64, or a mask.
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<DisclosedValue>,
    /// Why there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

/// One plaintext, or one for each item.
#[derive(Serialize, JsonSchema)]
pub struct Plaintexts {
    /// The plaintext as base64, or a mask, for a single item.
    #[serde(skip_serializing_if = "Option::is_none")]
    plaintext: Option<DisclosedValue>,
    /// For a batch: a plaintext or an error for each item, in order.
    #[serde(skip_serializing_if = "Option::is_none")]
    batch: Option<Vec<ItemPlaintext>>,
    /// File that has the plaintext.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
}

impl Operation for Decrypt {
    const SPEC: Spec = Spec {
        id: "transit.decrypt",
        title: "Decrypt",
        summary: "Decrypt what transit_encrypt made. The plaintext is masked: use it to check that a ciphertext is good; `to` puts it into a new file (a human confirms it). Do not set reveal unless the user asked to see it.",
        scope: Some(Scope::Read),
        effect: Effect::Compute,
        toolset: Toolset::Transit,
        idempotent: true,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/transit/decrypt",
        answer: RestAnswer::Output,
        about: "Decrypts what `/transit/encrypt` made: one `ciphertext`, or a `batch`.",
    });
    type Input = DecryptInput;
    type Output = Plaintexts;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        check_given(input.ciphertext.as_ref(), input.batch.as_ref(), "ciphertext")?;
        if input.to.is_some() && input.batch.is_some() {
            return Err(Error::input("to", "it takes one plaintext; give `ciphertext` in place of `batch`"));
        }
        Ok(target_in(place, "decrypt", &input.key))
    }

    fn files(input: &Self::Input) -> Files {
        Files::written_by("to", input.to.as_ref())
    }

    fn wants_reveal(input: &Self::Input) -> bool {
        input.reveal
    }

    async fn observe(input: &Self::Input, _: Look<'_>) -> Result<Preview, Error> {
        let count = input.batch.as_ref().map_or(1, Vec::len);
        let detail = if count == 1 {
            "the plaintext of 1 ciphertext".to_owned()
        } else {
            format!("the plaintexts of {count} ciphertexts")
        };
        let to = input.to.as_ref().map(|file| format!(", to the file {}", shown(file.as_str(), 120)));
        let detail = detail + &to.unwrap_or_default();
        Ok(Preview { verb: if input.reveal { "REVEAL" } else { "DECRYPT" }, detail, ..Preview::default() })
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let one =
            input.ciphertext.map(|ciphertext| CiphertextItem { ciphertext, context: input.context.clone() });
        let (items, is_batch) = one_or_many(one, input.batch);
        check_given_contexts(granted.transit(), &input.key, &items).await?;
        let file = input.to.as_ref().map(|name| NewFile::create(name, granted.roots())).transpose()?;
        let bodies = items.into_iter().map(CiphertextItem::body).collect();
        let results =
            granted.transit().batch("decrypt", input.key.as_str(), Scheme::default(), bodies).await?;
        let opened = results.into_iter().map(|result| -> Result<_, &'static str> {
            let text = Zeroizing::new(text_of(&result?, "plaintext")?);
            let bytes = Zeroizing::new(STANDARD.decode(text.as_bytes()).map_err(|_| "Vault gave no base64")?);
            Ok((text, bytes))
        });
        if !is_batch {
            let (text, bytes) = single(opened.collect())?;
            let named = [("TRANSIT_PLAINTEXT", text.as_str())];
            let file = match (file, &input.to) {
                (Some(file), Some(name)) => Some(render::fill(file, name, &bytes, &named)?),
                _ => None,
            };
            let plaintext = Some(granted.disclose_text(text, bytes.len()));
            return Ok(Plaintexts { plaintext, batch: None, file });
        }
        let results = opened.map(|one| one.map(|(text, bytes)| granted.disclose_text(text, bytes.len())));
        let item = |result: Result<DisclosedValue, &'static str>| match result {
            Ok(plaintext) => ItemPlaintext { plaintext: Some(plaintext), error: None },
            Err(fault) => ItemPlaintext { plaintext: None, error: Some(fault.to_owned()) },
        };
        Ok(Plaintexts { plaintext: None, batch: Some(results.map(item).collect()), file: None })
    }
}
