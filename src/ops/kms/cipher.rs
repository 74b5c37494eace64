//! Encrypting, decrypting, data keys.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use super::{Context, GrantTokens, Made, Payload, base64_of, key_of, target_of, terms};
use crate::{
    broker::{Granted, Look, Place},
    caller::Scope,
    error::Error,
    handover::{FileName, NewFile, render},
    kms::DataKeySize,
    names::{AwsKeyId, shown},
    op::{Effect, Files, Operation, Preview, Rest, RestAnswer, Spec, Target, Toolset, Verb},
    secret::DisclosedValue,
};

/// `kms.encrypt`.
pub struct Encrypt;

/// Arguments of `kms.encrypt`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EncryptInput {
    /// Base64 of at most 4096 bytes.
    plaintext: Payload,
    /// Id, ARN or alias; else the configured key.
    #[schemars(with = "Option<String>")]
    key_id: Option<AwsKeyId>,
    /// Names and texts, not secret, needed again to decrypt.
    #[serde(default)]
    encryption_context: Context,
    /// Grant tokens.
    #[serde(default)]
    grant_tokens: GrantTokens,
}

/// Answer of `kms.encrypt`.
#[derive(Serialize, JsonSchema)]
pub struct EncryptOutput {
    /// The ciphertext as base64.
    ciphertext: String,
    /// ARN of the key.
    key_id: String,
}

impl Operation for Encrypt {
    const SPEC: Spec = Spec {
        id: "kms.encrypt",
        title: "Encrypt with AWS KMS",
        summary: "Encrypt a few bytes with an AWS KMS key. For more use a key of kms_generate_data_key.",
        scope: Some(Scope::Write),
        effect: Effect::Compute,
        toolset: Toolset::Kms,
        idempotent: false,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/kms/encrypt",
        answer: RestAnswer::Output,
        about: "Encrypts at most 4096 bytes with a key of AWS KMS.",
    });
    type Input = EncryptInput;
    type Output = EncryptOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        Ok(target_of(Some(&key_of(input.key_id.as_ref(), place)?), &input.encryption_context))
    }

    async fn observe(input: &Self::Input, _: Look<'_>) -> Result<Preview, Error> {
        let detail = format!("{} bytes{}", input.plaintext.0.len(), input.encryption_context.told());
        Ok(Preview { verb: "ENCRYPT", detail, ..Preview::default() })
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let key = key_of(input.key_id.as_ref(), granted.place())?;
        let terms = terms(Some(key), input.encryption_context, input.grant_tokens);
        let (ciphertext, key_id) = granted.kms().encrypt(terms, input.plaintext.0).await?;
        Ok(EncryptOutput { ciphertext: base64_of(&ciphertext).to_string(), key_id })
    }
}

/// `kms.decrypt`.
pub struct Decrypt;

/// Arguments of `kms.decrypt`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DecryptInput {
    /// Base64.
    ciphertext: Made,
    /// As given to kms_encrypt.
    #[serde(default)]
    encryption_context: Context,
    /// Key that it must be of.
    #[schemars(with = "Option<String>")]
    key_id: Option<AwsKeyId>,
    /// Grant tokens.
    #[serde(default)]
    grant_tokens: GrantTokens,
    /// Ask the human to show it to you.
    #[serde(default)]
    reveal: bool,
    /// New file (0600) for the bytes; .env and .json get base64.
    to: Option<FileName>,
}

/// Answer of `kms.decrypt`.
#[derive(Serialize, JsonSchema)]
pub struct DecryptOutput {
    /// The plaintext as base64, or a mask.
    plaintext: DisclosedValue,
    /// File that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// ARN of the key.
    key_id: String,
}

impl Operation for Decrypt {
    const SPEC: Spec = Spec {
        id: "kms.decrypt",
        title: "Decrypt with AWS KMS",
        summary: "Decrypt what AWS KMS encrypted. The plaintext is masked; `to` puts it into a new file (a human confirms it). Do not set reveal unless the user asked to see it.",
        scope: Some(Scope::Read),
        effect: Effect::Compute,
        toolset: Toolset::Kms,
        idempotent: true,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/kms/decrypt",
        answer: RestAnswer::Output,
        about: "Decrypts what AWS KMS encrypted.",
    });
    type Input = DecryptInput;
    type Output = DecryptOutput;

    fn target(input: &Self::Input, _: &Place) -> Result<Target, Error> {
        // The configured key is for making ciphertexts; each says itself what it was made with.
        Ok(target_of(input.key_id.as_ref(), &input.encryption_context))
    }

    fn wants_reveal(input: &Self::Input) -> bool {
        input.reveal
    }

    fn files(input: &Self::Input) -> Files {
        Files::written_by("to", input.to.as_ref())
    }

    async fn observe(input: &Self::Input, _: Look<'_>) -> Result<Preview, Error> {
        let context = input.encryption_context.told();
        let detail = match &input.to {
            Some(file) => {
                format!("the plaintext of 1 ciphertext{context}, to the file {}", shown(file.as_str(), 120))
            }
            None => format!("the plaintext of 1 ciphertext{context}"),
        };
        Ok(Preview { verb: if input.reveal { "REVEAL" } else { "DECRYPT" }, detail, ..Preview::default() })
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let file = input.to.as_ref().map(|name| NewFile::create(name, granted.roots())).transpose()?;
        let terms = terms(input.key_id, input.encryption_context, input.grant_tokens);
        let opened = granted.kms().decrypt(terms, std::mem::take(&mut *{ input.ciphertext.0 })).await?;
        let text = base64_of(&opened.plaintext);
        let file = match (file, &input.to) {
            (Some(file), Some(name)) => {
                Some(render::fill(file, name, &opened.plaintext, &[("KMS_PLAINTEXT", &text)])?)
            }
            _ => None,
        };
        let length = opened.plaintext.len();
        Ok(DecryptOutput { plaintext: granted.disclose_text(text, length), file, key_id: opened.key_id })
    }
}

/// Kinds of data keys that have a name.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
enum KeySpec {
    #[serde(rename = "AES_256")]
    Aes256,
    #[serde(rename = "AES_128")]
    Aes128,
}

/// Length of a data key that has no name.
#[derive(Debug, Clone, Copy)]
struct KeyBytes(u16);

impl<'de> Deserialize<'de> for KeyBytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            number @ 1..=1024 => Ok(Self(u16::try_from(number).unwrap_or(u16::MAX))),
            _ => Err(D::Error::custom("give 1 to 1024 bytes")),
        }
    }
}

impl JsonSchema for KeyBytes {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "KeyBytes".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "maximum": 1024 })
    }
}

/// `kms.generate_data_key`.
pub struct DataKey;

/// Arguments of `kms.generate_data_key`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataKeyInput {
    /// Id, ARN or alias; else the configured key.
    #[schemars(with = "Option<String>")]
    key_id: Option<AwsKeyId>,
    /// AES_256 if left out.
    key_spec: Option<KeySpec>,
    /// In place of key_spec.
    number_of_bytes: Option<KeyBytes>,
    /// Names and texts, not secret, needed again to decrypt.
    #[serde(default)]
    encryption_context: Context,
    /// Grant tokens.
    #[serde(default)]
    grant_tokens: GrantTokens,
    /// Ask the human to show it to you.
    #[serde(default)]
    reveal: bool,
    /// New file (0600) for the bytes; .env and .json get base64.
    to: Option<FileName>,
}

impl DataKeyInput {
    fn size(&self) -> Result<DataKeySize, Error> {
        match (self.key_spec, self.number_of_bytes) {
            (Some(_), Some(_)) => {
                Err(Error::input("number_of_bytes", "give either key_spec or number_of_bytes"))
            }
            (Some(KeySpec::Aes128), None) => Ok(DataKeySize::Aes128),
            (Some(KeySpec::Aes256) | None, None) => Ok(DataKeySize::Aes256),
            (None, Some(KeyBytes(number))) => Ok(DataKeySize::Bytes(number)),
        }
    }
}

/// Answer of `kms.generate_data_key`.
#[derive(Serialize, JsonSchema)]
pub struct DataKeyOutput {
    /// The key as base64, or a mask.
    plaintext: DisclosedValue,
    /// The encrypted key as base64, for kms_decrypt.
    ciphertext: String,
    /// File that has the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// ARN of the key that encrypted it.
    key_id: String,
}

impl Operation for DataKey {
    const SPEC: Spec = Spec {
        id: "kms.generate_data_key",
        title: "Make an AWS KMS data key",
        summary: "Make a key and its ciphertext, for kms_decrypt. A human confirms it first. The key is masked; `to` puts it into a new file.",
        scope: Some(Scope::Write),
        effect: Effect::Issue,
        toolset: Toolset::Kms,
        idempotent: false,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/kms/data-key",
        answer: RestAnswer::Output,
        about: "Makes a key, in clear and encrypted by a key of AWS KMS.",
    });
    type Input = DataKeyInput;
    type Output = DataKeyOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        input.size()?;
        Ok(target_of(Some(&key_of(input.key_id.as_ref(), place)?), &input.encryption_context))
    }

    fn files(input: &Self::Input) -> Files {
        Files::written_by("to", input.to.as_ref())
    }

    fn wants_reveal(input: &Self::Input) -> bool {
        input.reveal
    }

    async fn observe(input: &Self::Input, _: Look<'_>) -> Result<Preview, Error> {
        let bytes = match input.size()? {
            DataKeySize::Aes256 => 32,
            DataKeySize::Aes128 => 16,
            DataKeySize::Bytes(number) => number,
        };
        let mut detail = format!("a data key of {bytes} bytes{}", input.encryption_context.told());
        if let Some(file) = &input.to {
            detail.push_str(&format!(", to the file {}", shown(file.as_str(), 120)));
        }
        Ok(Preview { verb: "ISSUE", detail, ..Preview::default() })
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let size = input.size()?;
        let key = key_of(input.key_id.as_ref(), granted.place())?;
        // Made before the key is: what cannot be handed over must not be made.
        let file = input.to.as_ref().map(|name| NewFile::create(name, granted.roots())).transpose()?;
        let terms = terms(Some(key), input.encryption_context, input.grant_tokens);
        let made = granted.kms().generate_data_key(terms, size).await?;
        let text = base64_of(&made.opened.plaintext);
        let ciphertext = base64_of(&made.ciphertext).to_string();
        let file = match (file, &input.to) {
            (Some(file), Some(name)) => {
                let entries = [("KMS_DATA_KEY", text.as_str()), ("KMS_DATA_KEY_CIPHERTEXT", &ciphertext)];
                Some(render::fill(file, name, &made.opened.plaintext, &entries)?)
            }
            _ => None,
        };
        let length = made.opened.plaintext.len();
        Ok(DataKeyOutput {
            plaintext: granted.disclose_text(text, length),
            ciphertext,
            file,
            key_id: made.opened.key_id,
        })
    }
}
