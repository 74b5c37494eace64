//! Signing and verifying; with an HMAC key, its HMACs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::{Base64, KeyVersion, VaultText, check_context, insert, single, target_in, text_of};
use crate::{
    broker::{Granted, Place},
    caller::Scope,
    error::Error,
    names::EngineName,
    op::{Effect, Operation, Rest, RestAnswer, Spec, Target, Toolset, Verb},
    vault::transit::{KeyKind, Scheme},
};

/// Hash of the input.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
enum Hash {
    #[serde(rename = "sha2-224")]
    Sha224,
    #[serde(rename = "sha2-256")]
    Sha256,
    #[serde(rename = "sha2-384")]
    Sha384,
    #[serde(rename = "sha2-512")]
    Sha512,
    #[serde(rename = "sha3-256")]
    Sha3_256,
    #[serde(rename = "sha3-384")]
    Sha3_384,
    #[serde(rename = "sha3-512")]
    Sha3_512,
    #[serde(rename = "none")]
    None,
}

impl Hash {
    fn as_str(self) -> &'static str {
        match self {
            Self::Sha224 => "sha2-224",
            Self::Sha256 => "sha2-256",
            Self::Sha384 => "sha2-384",
            Self::Sha512 => "sha2-512",
            Self::Sha3_256 => "sha3-256",
            Self::Sha3_384 => "sha3-384",
            Self::Sha3_512 => "sha3-512",
            Self::None => "none",
        }
    }
}

/// Padding of an RSA signature.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Padding {
    Pss,
    Pkcs1v15,
}

/// Form of an ECDSA signature.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Marshaling {
    Asn1,
    Jws,
}

/// Salt of a PSS signature.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Salt {
    Auto,
    Hash,
}

fn scheme(
    hash: Option<Hash>,
    padding: Option<Padding>,
    marshaling: Option<Marshaling>,
    salt: Option<Salt>,
    prehashed: bool,
    key_version: Option<KeyVersion>,
) -> Scheme {
    Scheme {
        hash: hash.map(Hash::as_str),
        signature: padding.map(|padding| match padding {
            Padding::Pss => "pss",
            Padding::Pkcs1v15 => "pkcs1v15",
        }),
        marshaling: marshaling.map(|form| match form {
            Marshaling::Asn1 => "asn1",
            Marshaling::Jws => "jws",
        }),
        salt_length: salt.map(|salt| match salt {
            Salt::Auto => "auto",
            Salt::Hash => "hash",
        }),
        prehashed,
        key_version: key_version.map(|version| version.0),
    }
}

/// An HMAC is made with a hash. Some servers break the connection off when there is none.
fn check_hash(kind: &KeyKind, hash: Option<Hash>) -> Result<(), Error> {
    if kind.kind == "hmac" && matches!(hash, Some(Hash::None)) {
        return Err(Error::input("hash_algorithm", "an HMAC needs a hash; name one or leave it out"));
    }
    Ok(())
}

/// `transit.sign`.
pub struct Sign;

/// Arguments of `transit.sign`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInput {
    /// Name of the key.
    key: EngineName,
    /// Bytes to sign, as base64.
    input: Base64,
    /// Hash; sha2-256 if left out.
    hash_algorithm: Option<Hash>,
    /// Padding, for RSA; pss if left out.
    signature_algorithm: Option<Padding>,
    /// Form, for ECDSA; asn1 if left out.
    marshaling_algorithm: Option<Marshaling>,
    /// Salt length, for PSS.
    salt_length: Option<Salt>,
    /// input is a digest already.
    #[serde(default)]
    prehashed: bool,
    /// Context (base64), for a derived key.
    context: Option<Base64>,
    /// Key version; the newest if left out.
    key_version: Option<KeyVersion>,
}

/// Answer of `transit.sign`.
#[derive(Serialize, JsonSchema)]
pub struct Signature {
    /// The signature, with the version of the key.
    signature: String,
}

impl Operation for Sign {
    const SPEC: Spec = Spec {
        id: "transit.sign",
        title: "Sign",
        summary: "Sign bytes (with an HMAC key: make their HMAC) with a key that stays in Vault. Use it only for what the user asked to have signed.",
        scope: Some(Scope::Write),
        effect: Effect::Compute,
        toolset: Toolset::Transit,
        idempotent: false,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/transit/sign",
        answer: RestAnswer::Output,
        about: "Signs bytes with a key that stays in Vault; with an HMAC key, makes their HMAC.",
    });
    type Input = SignInput;
    type Output = Signature;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        Ok(target_in(place, "sign", &input.key))
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let transit = granted.transit();
        let kind = transit.kind(input.key.as_str()).await?;
        check_context(&kind, input.context.is_some(), input.context.is_some())?;
        check_hash(&kind, input.hash_algorithm)?;
        let (verb, field) = if kind.kind == "hmac" { ("hmac", "hmac") } else { ("sign", "signature") };
        let scheme = scheme(
            input.hash_algorithm,
            input.signature_algorithm,
            input.marshaling_algorithm,
            input.salt_length,
            input.prehashed,
            input.key_version,
        );
        let mut item = Map::new();
        insert(&mut item, "input", Some(input.input.as_str()));
        insert(&mut item, "context", input.context.as_ref().map(Base64::as_str));
        let results = transit.batch(verb, input.key.as_str(), scheme, vec![item]).await?;
        let signature = single(
            results.into_iter().map(|result| result.and_then(|item| text_of(&item, field))).collect(),
        )?;
        Ok(Signature { signature })
    }
}

/// `transit.verify`.
pub struct Verify;

/// Arguments of `transit.verify`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyInput {
    /// Name of the key.
    key: EngineName,
    /// Bytes that were signed, as base64.
    input: Base64,
    /// Signature or HMAC, as Vault gave it.
    signature: VaultText,
    /// Hash it was made with; sha2-256 if left out.
    hash_algorithm: Option<Hash>,
    /// Padding, for RSA; pss if left out.
    signature_algorithm: Option<Padding>,
    /// Form, for ECDSA; asn1 if left out.
    marshaling_algorithm: Option<Marshaling>,
    /// Salt length, for PSS.
    salt_length: Option<Salt>,
    /// input is a digest already.
    #[serde(default)]
    prehashed: bool,
    /// Context (base64), for a derived key.
    context: Option<Base64>,
}

/// Answer of `transit.verify`.
#[derive(Serialize, JsonSchema)]
pub struct Verdict {
    /// True when the signature is good.
    valid: bool,
}

impl Operation for Verify {
    const SPEC: Spec = Spec {
        id: "transit.verify",
        title: "Verify a signature",
        summary: "Tell whether a signature or HMAC that Vault made fits the bytes. To verify elsewhere, take the public key from transit_keys.",
        scope: Some(Scope::Read),
        effect: Effect::Compute,
        toolset: Toolset::Transit,
        idempotent: true,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/transit/verify",
        answer: RestAnswer::Output,
        about: "Tells whether a signature or HMAC that Vault made fits the bytes.",
    });
    type Input = VerifyInput;
    type Output = Verdict;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        Ok(target_in(place, "verify", &input.key))
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let transit = granted.transit();
        let kind = transit.kind(input.key.as_str()).await?;
        check_context(&kind, input.context.is_some(), input.context.is_some())?;
        check_hash(&kind, input.hash_algorithm)?;
        let scheme = scheme(
            input.hash_algorithm,
            input.signature_algorithm,
            input.marshaling_algorithm,
            input.salt_length,
            input.prehashed,
            None,
        );
        let mut item = Map::new();
        insert(&mut item, "input", Some(input.input.as_str()));
        insert(&mut item, "context", input.context.as_ref().map(Base64::as_str));
        insert(
            &mut item,
            if kind.kind == "hmac" { "hmac" } else { "signature" },
            Some(input.signature.as_str()),
        );
        let verdict = transit.verify(input.key.as_str(), scheme, item).await?;
        Ok(Verdict { valid: single(vec![verdict])? })
    }
}
