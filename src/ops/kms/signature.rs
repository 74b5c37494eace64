//! Signing and verifying with asymmetric keys.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Context, GrantTokens, Made, Payload, base64_of, key_of, target_of, terms};
use crate::{
    broker::{Granted, Look, Place},
    caller::Scope,
    error::Error,
    kms::Message,
    names::AwsKeyId,
    op::{Effect, Operation, Preview, Rest, RestAnswer, Spec, Target, Toolset, Verb},
};

/// How a signature is made. The words are AWS'.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
enum Algorithm {
    #[serde(rename = "RSASSA_PSS_SHA_256")]
    PssSha256,
    #[serde(rename = "RSASSA_PSS_SHA_384")]
    PssSha384,
    #[serde(rename = "RSASSA_PSS_SHA_512")]
    PssSha512,
    #[serde(rename = "RSASSA_PKCS1_V1_5_SHA_256")]
    Pkcs1Sha256,
    #[serde(rename = "RSASSA_PKCS1_V1_5_SHA_384")]
    Pkcs1Sha384,
    #[serde(rename = "RSASSA_PKCS1_V1_5_SHA_512")]
    Pkcs1Sha512,
    #[serde(rename = "ECDSA_SHA_256")]
    EcdsaSha256,
    #[serde(rename = "ECDSA_SHA_384")]
    EcdsaSha384,
    #[serde(rename = "ECDSA_SHA_512")]
    EcdsaSha512,
    #[serde(rename = "ED25519_SHA_512")]
    Ed25519,
    #[serde(rename = "ED25519_PH_SHA_512")]
    Ed25519Ph,
    #[serde(rename = "ML_DSA_SHAKE_256")]
    MlDsa,
    #[serde(rename = "SM2DSA")]
    Sm2,
}

/// The words as a pattern, which is a third as long as their list.
const ALGORITHMS: &str =
    "^((RSASSA_(PSS|PKCS1_V1_5)|ECDSA)_SHA_(256|384|512)|ED25519_(PH_)?SHA_512|ML_DSA_SHAKE_256|SM2DSA)$";

impl JsonSchema for Algorithm {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Algorithm".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "pattern": ALGORITHMS })
    }
}

impl Algorithm {
    fn as_str(self) -> &'static str {
        match self {
            Self::PssSha256 => "RSASSA_PSS_SHA_256",
            Self::PssSha384 => "RSASSA_PSS_SHA_384",
            Self::PssSha512 => "RSASSA_PSS_SHA_512",
            Self::Pkcs1Sha256 => "RSASSA_PKCS1_V1_5_SHA_256",
            Self::Pkcs1Sha384 => "RSASSA_PKCS1_V1_5_SHA_384",
            Self::Pkcs1Sha512 => "RSASSA_PKCS1_V1_5_SHA_512",
            Self::EcdsaSha256 => "ECDSA_SHA_256",
            Self::EcdsaSha384 => "ECDSA_SHA_384",
            Self::EcdsaSha512 => "ECDSA_SHA_512",
            Self::Ed25519 => "ED25519_SHA_512",
            Self::Ed25519Ph => "ED25519_PH_SHA_512",
            Self::MlDsa => "ML_DSA_SHAKE_256",
            Self::Sm2 => "SM2DSA",
        }
    }

    /// What KMS takes in place of the message, and how long it is. Source: API page "Sign", `MessageType`.
    fn digest(self) -> Option<(MessageType, usize)> {
        match self {
            Self::PssSha256 | Self::Pkcs1Sha256 | Self::EcdsaSha256 | Self::Sm2 => {
                Some((MessageType::Digest, 32))
            }
            Self::PssSha384 | Self::Pkcs1Sha384 | Self::EcdsaSha384 => Some((MessageType::Digest, 48)),
            Self::PssSha512 | Self::Pkcs1Sha512 | Self::EcdsaSha512 | Self::Ed25519Ph => {
                Some((MessageType::Digest, 64))
            }
            Self::MlDsa => Some((MessageType::ExternalMu, 64)),
            Self::Ed25519 => None,
        }
    }

    /// False where KMS signs digests only.
    fn takes_message(self) -> bool {
        self != Self::Ed25519Ph
    }
}

/// What stands for the message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
enum MessageType {
    #[serde(rename = "RAW")]
    Raw,
    #[serde(rename = "DIGEST")]
    Digest,
    #[serde(rename = "EXTERNAL_MU")]
    ExternalMu,
}

/// Message or digest, whichever was given, where it fits the algorithm.
fn message(
    message: Option<&Payload>,
    digest: Option<&Payload>,
    algorithm: Algorithm,
    kind: Option<MessageType>,
) -> Result<Message, Error> {
    let (given, is_digest) = match (message, digest) {
        (Some(message), None) => (message, false),
        (None, Some(digest)) => (digest, true),
        _ => return Err(Error::input("message", "give either message or message_digest")),
    };
    let bytes: Zeroizing<Vec<u8>> = given.0.clone();
    if !is_digest {
        if kind.is_some_and(|kind| kind != MessageType::Raw) {
            return Err(Error::input("message_type", "a message is RAW; give a digest as message_digest"));
        }
        if !algorithm.takes_message() {
            let fault = "ED25519_PH_SHA_512 signs digests only; give the SHA-512 as message_digest";
            return Err(Error::input("message", fault));
        }
        return Ok(Message::Raw(bytes));
    }
    let Some((own, length)) = algorithm.digest() else {
        let fault = "ED25519_SHA_512 signs whole messages only; give message";
        return Err(Error::input("message_digest", fault));
    };
    if let Some(kind) = kind.filter(|kind| *kind != own) {
        let fault = match kind {
            MessageType::Raw => "a digest is not RAW; give the whole message as message",
            MessageType::Digest => "ML_DSA_SHAKE_256 takes EXTERNAL_MU, not DIGEST",
            MessageType::ExternalMu => "EXTERNAL_MU is for ML_DSA_SHAKE_256 only; leave it out",
        };
        return Err(Error::input("message_type", fault));
    }
    if bytes.len() != length {
        let fault =
            format!("it has {} bytes, and {} takes a digest of {length}", bytes.len(), algorithm.as_str());
        return Err(Error::input("message_digest", fault));
    }
    Ok(if own == MessageType::ExternalMu { Message::ExternalMu(bytes) } else { Message::Digest(bytes) })
}

/// `kms.sign`.
pub struct Sign;

/// Arguments of `kms.sign`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInput {
    /// Base64 of at most 4096 bytes.
    message: Option<Payload>,
    /// In its place: its digest.
    message_digest: Option<Payload>,
    /// One of the key's.
    signing_algorithm: Algorithm,
    /// Optional.
    message_type: Option<MessageType>,
    /// Id, ARN or alias; else the configured key.
    #[schemars(with = "Option<String>")]
    key_id: Option<AwsKeyId>,
    /// Grant tokens.
    #[serde(default)]
    grant_tokens: GrantTokens,
}

impl SignInput {
    fn message(&self) -> Result<Message, Error> {
        let (given, digest) = (self.message.as_ref(), self.message_digest.as_ref());
        message(given, digest, self.signing_algorithm, self.message_type)
    }
}

/// Answer of `kms.sign`.
#[derive(Serialize, JsonSchema)]
pub struct SignOutput {
    /// The signature as base64.
    signature: String,
    /// How it was made.
    signing_algorithm: &'static str,
    /// ARN of the key.
    key_id: String,
}

impl Operation for Sign {
    const SPEC: Spec = Spec {
        id: "kms.sign",
        title: "Sign with AWS KMS",
        summary: "Sign with an AWS KMS key what the user asked to have signed.",
        scope: Some(Scope::Write),
        effect: Effect::Compute,
        toolset: Toolset::Kms,
        idempotent: false,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/kms/sign",
        answer: RestAnswer::Output,
        about: "Signs a message or its digest with a key of AWS KMS.",
    });
    type Input = SignInput;
    type Output = SignOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        input.message()?;
        Ok(target_of(Some(&key_of(input.key_id.as_ref(), place)?), &Context::default()))
    }

    async fn observe(input: &Self::Input, _: Look<'_>) -> Result<Preview, Error> {
        let what = match input.message()? {
            Message::Raw(bytes) => format!("a message of {} bytes", bytes.len()),
            Message::Digest(_) | Message::ExternalMu(_) => "a digest".to_owned(),
        };
        let detail = format!("{what}, {}", input.signing_algorithm.as_str());
        Ok(Preview { verb: "SIGN", detail, ..Preview::default() })
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let message = input.message()?;
        let key = key_of(input.key_id.as_ref(), granted.place())?;
        let terms = terms(Some(key), Context::default(), input.grant_tokens);
        let signing_algorithm = input.signing_algorithm.as_str();
        let (signature, key_id) = granted.kms().sign(terms, message, signing_algorithm).await?;
        Ok(SignOutput { signature: base64_of(&signature).to_string(), signing_algorithm, key_id })
    }
}

/// `kms.verify`.
pub struct Verify;

/// Arguments of `kms.verify`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VerifyInput {
    /// Base64 of at most 4096 bytes.
    message: Option<Payload>,
    /// In its place: its digest.
    message_digest: Option<Payload>,
    /// Base64.
    signature: Made,
    /// One of the key's.
    signing_algorithm: Algorithm,
    /// Optional.
    message_type: Option<MessageType>,
    /// Id, ARN or alias; else the configured key.
    #[schemars(with = "Option<String>")]
    key_id: Option<AwsKeyId>,
    /// Grant tokens.
    #[serde(default)]
    grant_tokens: GrantTokens,
}

impl VerifyInput {
    fn message(&self) -> Result<Message, Error> {
        let (given, digest) = (self.message.as_ref(), self.message_digest.as_ref());
        message(given, digest, self.signing_algorithm, self.message_type)
    }
}

/// Answer of `kms.verify`.
#[derive(Serialize, JsonSchema)]
pub struct Verdict {
    /// True when the signature is good.
    valid: bool,
}

impl Operation for Verify {
    const SPEC: Spec = Spec {
        id: "kms.verify",
        title: "Verify with AWS KMS",
        summary: "Tell whether a signature by an AWS KMS key is good.",
        scope: Some(Scope::Read),
        effect: Effect::Compute,
        toolset: Toolset::Kms,
        idempotent: true,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/kms/verify",
        answer: RestAnswer::Output,
        about: "Tells whether a signature by a key of AWS KMS is good.",
    });
    type Input = VerifyInput;
    type Output = Verdict;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        input.message()?;
        Ok(target_of(Some(&key_of(input.key_id.as_ref(), place)?), &Context::default()))
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let message = input.message()?;
        let key = key_of(input.key_id.as_ref(), granted.place())?;
        let terms = terms(Some(key), Context::default(), input.grant_tokens);
        let signature = std::mem::take(&mut *{ input.signature.0 });
        let valid = granted.kms().verify(terms, message, input.signing_algorithm.as_str(), signature).await?;
        Ok(Verdict { valid })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: usize, algorithm: Algorithm, kind: Option<MessageType>) -> Result<Message, Error> {
        message(None, Some(&super::super::Bytes(vec![7; bytes].into())), algorithm, kind)
    }

    #[test]
    fn a_digest_has_the_length_of_its_algorithm() {
        use Algorithm::*;
        for (algorithm, length) in [
            (PssSha256, 32),
            (PssSha384, 48),
            (PssSha512, 64),
            (Pkcs1Sha256, 32),
            (Pkcs1Sha384, 48),
            (Pkcs1Sha512, 64),
            (EcdsaSha256, 32),
            (EcdsaSha384, 48),
            (EcdsaSha512, 64),
            (Ed25519Ph, 64),
            (MlDsa, 64),
            (Sm2, 32),
        ] {
            assert!(check(length, algorithm, None).is_ok(), "{algorithm:?}");
            for wrong in [1, 20, 28, 31, 32, 33, 48, 64, 65].into_iter().filter(|wrong| *wrong != length) {
                assert!(check(wrong, algorithm, None).is_err(), "{algorithm:?} took {wrong} bytes");
            }
        }
        assert!(check(64, Ed25519, None).is_err());
    }

    #[test]
    fn the_pattern_in_the_schema_is_the_list_of_words() {
        let pattern = regex::Regex::new(ALGORITHMS).unwrap();
        let mut words = 0;
        for padding in
            ["RSASSA_PSS", "RSASSA_PKCS1_V1_5", "ECDSA", "ED25519", "ED25519_PH", "ML_DSA", "SM2DSA"]
        {
            for rest in ["", "_SHA_224", "_SHA_256", "_SHA_384", "_SHA_512", "_SHAKE_256"] {
                let word = format!("{padding}{rest}");
                let parsed = serde_json::from_value::<Algorithm>(word.clone().into());
                assert_eq!(pattern.is_match(&word), parsed.is_ok(), "{word}");
                words += usize::from(parsed.is_ok_and(|parsed| parsed.as_str() == word));
            }
        }
        assert_eq!(words, 13);
    }

    #[test]
    fn message_and_type_say_the_same() {
        let raw = || super::super::Bytes::<4096>(vec![7; 32].into());
        let one = Some(raw());
        let given = |message_: bool, digest: bool, kind| {
            let (message_, digest) = (one.as_ref().filter(|_| message_), one.as_ref().filter(|_| digest));
            message(message_, digest, Algorithm::EcdsaSha256, kind)
        };
        assert!(given(true, false, Some(MessageType::Raw)).is_ok());
        assert!(given(false, true, Some(MessageType::Digest)).is_ok());
        for (message_, digest, kind) in [
            (true, true, None),
            (false, false, None),
            (true, false, Some(MessageType::Digest)),
            (true, false, Some(MessageType::ExternalMu)),
            (false, true, Some(MessageType::Raw)),
            (false, true, Some(MessageType::ExternalMu)),
        ] {
            assert_eq!(given(message_, digest, kind).err().map(|error| error.code()), Some("invalid_input"));
        }
        assert!(check(64, Algorithm::MlDsa, Some(MessageType::ExternalMu)).is_ok());
        assert!(check(64, Algorithm::MlDsa, Some(MessageType::Digest)).is_err());
        assert!(message(one.as_ref(), None, Algorithm::Ed25519Ph, None).is_err());
    }
}
