//! The transit engine: named keys with versions, and what is computed with them.
//!
//! All types of keys that aws-lc-rs can do: AES-GCM, ChaCha20-Poly1305, Ed25519, ECDSA, RSA and HMAC, derived
//! keys among them. Convergent encryption, import, export, backups, data keys, CMAC and post-quantum keys are
//! not here, and asking for them says so. An RSA key takes a moment to be made, and the server waits for it.

mod batch;
mod items;
mod key;
mod material;

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use self::{
    key::{Config, Key},
    material::Kind,
};
use super::{
    engine::{self, Call, Engine},
    fields::Fields,
    wire::{Answer, Fault, Op, Reply},
};

/// Most bytes that one call for random bytes gives.
const MAX_RANDOM: i64 = 128 * 1024;

/// One mount of it.
#[derive(Default)]
pub(super) struct Transit {
    keys: BTreeMap<String, Key>,
}

fn not_here(what: &str) -> Fault {
    engine::not_here("transit", what)
}

impl Engine for Transit {
    fn exists(&self, path: &str) -> Option<bool> {
        path.strip_prefix("encrypt/").map(|name| self.keys.contains_key(name))
    }

    fn fields(&self, path: &str) -> Option<&'static [&'static str]> {
        let mut parts = path.split('/');
        match (parts.next()?, parts.next(), parts.next()) {
            ("keys", Some(_), None) => Some(&[
                "name",
                "type",
                "key_size",
                "derived",
                "convergent_encryption",
                "exportable",
                "allow_plaintext_backup",
                "auto_rotate_period",
                "context",
                "managed_key_name",
                "managed_key_id",
                "parameter_set",
                "hybrid_key_type_pqc",
                "hybrid_key_type_ec",
            ]),
            ("keys", Some(_), Some("config")) => Some(&[
                "name",
                "min_decryption_version",
                "min_encryption_version",
                "deletion_allowed",
                "exportable",
                "allow_plaintext_backup",
                "auto_rotate_period",
            ]),
            ("keys", Some(_), Some("rotate")) => Some(&["name", "managed_key_name", "managed_key_id"]),
            ("encrypt", ..) => Some(&[
                "name",
                "plaintext",
                "padding_scheme",
                "context",
                "nonce",
                "type",
                "convergent_encryption",
                "key_version",
                "partial_failure_response_code",
                "associated_data",
                "batch_input",
                "iv",
            ]),
            ("decrypt", ..) => Some(&[
                "name",
                "ciphertext",
                "padding_scheme",
                "context",
                "nonce",
                "partial_failure_response_code",
                "associated_data",
                "batch_input",
            ]),
            ("rewrap", ..) => Some(&[
                "name",
                "ciphertext",
                "decrypt_padding_scheme",
                "encrypt_padding_scheme",
                "context",
                "nonce",
                "key_version",
                "batch_input",
            ]),
            ("sign" | "verify", ..) => Some(&[
                "name",
                "urlalgorithm",
                "input",
                "context",
                "signature",
                "hmac",
                "cmac",
                "hash_algorithm",
                "algorithm",
                "key_version",
                "mac_length",
                "prehashed",
                "signature_algorithm",
                "marshaling_algorithm",
                "salt_length",
                "signature_context",
                "batch_input",
            ]),
            ("hmac", ..) => {
                Some(&["name", "urlalgorithm", "input", "algorithm", "key_version", "batch_input"])
            }
            ("random", ..) => Some(&["urlbytes", "bytes", "format", "source"]),
            _ => None,
        }
    }

    fn captured(&self, path: &str) -> Option<&'static str> {
        (path == "random" || path.starts_with("random/")).then_some("source")
    }

    fn handle(&mut self, call: &Call<'_>) -> Answer {
        let path = call.path.trim_end_matches('/');
        let (verb, rest) = path.split_once('/').unwrap_or((path, ""));
        let (name, more) = rest.split_once('/').unwrap_or((rest, ""));
        if verb == "keys" && rest.is_empty() {
            return match call.op {
                Op::List => Ok(Some(Reply::keys(self.keys.keys().cloned().collect()))),
                _ => Err(Fault::unsupported_operation()),
            };
        }
        match (verb, more) {
            ("random", _) => {
                let write = call.op.is_write();
                if write { random(call, rest) } else { Err(Fault::unsupported_operation()) }
            }
            _ if !engine::is_name(name, b"") => Err(Fault::unsupported_path()),
            ("keys", "") => self.key(call, name),
            ("keys", "config" | "rotate") if !call.op.is_write() => Err(Fault::unsupported_operation()),
            ("keys", "config") => self.configure(call, name),
            ("keys", "rotate") => {
                let key = self.keys.get_mut(name).ok_or_else(|| Fault::bad("key not found"))?;
                key.rotate(call.now)?;
                Ok(Some(Reply::data(key.describe())))
            }
            ("encrypt" | "decrypt" | "rewrap", "") | ("sign" | "verify" | "hmac", _) => {
                if !call.op.is_write() {
                    return Err(Fault::unsupported_operation());
                }
                if verb == "encrypt" && !self.keys.contains_key(name) {
                    self.upsert(call, name)?;
                }
                items::compute(call, verb, self.keys.get(name), more)
            }
            ("keys", "csr" | "import" | "import_version" | "set-certificate" | "trim")
            | (
                "backup" | "byok-export" | "cache-config" | "cmac" | "config" | "datakey" | "export" | "hash"
                | "restore" | "wrapping_key",
                _,
            ) => Err(not_here(&format!("path {path:?}"))),
            _ => Err(Fault::unsupported_path()),
        }
    }
}

impl Transit {
    fn key(&mut self, call: &Call<'_>, name: &str) -> Answer {
        match call.op {
            Op::Read => Ok(self.keys.get(name).map(|key| Reply::data(key.describe()))),
            Op::Create | Op::Update => {
                let made = new_key(call, name)?;
                // One that is there already stays as it is, whatever was asked for.
                if let Some(key) = self.keys.get(name) {
                    return Ok(Some(Reply::data(key.describe())));
                }
                let key = made()?;
                let reply = Reply::data(key.describe());
                self.keys.insert(name.to_owned(), key);
                Ok(Some(reply))
            }
            Op::Delete => {
                let fault = |text: &str| Fault::bad(format!("error deleting policy {name}: {text}"));
                match self.keys.get(name) {
                    None => Err(fault("could not delete key; not found")),
                    Some(key) if !key.config.deletion_allowed => {
                        Err(fault("deletion is not allowed for this key"))
                    }
                    Some(_) => {
                        self.keys.remove(name);
                        Ok(None)
                    }
                }
            }
            Op::List => Err(Fault::unsupported_path()),
            _ => Err(Fault::unsupported_operation()),
        }
    }

    fn configure(&mut self, call: &Call<'_>, name: &str) -> Answer {
        let missing = || Fault::bad(format!("no existing key named {name} could be found"));
        let key = self.keys.get_mut(name).ok_or_else(missing)?;
        let mut reply = Reply::default();
        key.config = key.config.changed(&Fields(call.data), key.latest(), &mut reply.warnings)?;
        reply.data = key.describe().as_object().cloned();
        Ok(Some(reply))
    }

    /// Encrypting with a key that is not there makes it, for those who may create.
    fn upsert(&mut self, call: &Call<'_>, name: &str) -> Result<(), Fault> {
        let fields = Fields(call.data);
        let kind = match fields.text_or_empty("type")?.as_str() {
            "" => Kind::Aes256,
            text @ ("ecdsa-p256" | "ecdsa-p384" | "ecdsa-p521") => {
                return Err(Fault::bad(format!("key type {text} not supported for this operation")));
            }
            text => match kind_named(text)? {
                kind if kind.encrypts() => kind,
                _ => return Err(Fault::bad(format!("unknown key type {text}"))),
            },
        };
        if fields.bool("convergent_encryption")?.unwrap_or_default() {
            return Err(not_here("convergent encryption"));
        }
        let is_set =
            |value: Option<&Value>| value.and_then(Value::as_str).is_some_and(|context| !context.is_empty());
        let derived = match call.data.get("batch_input").and_then(Value::as_array) {
            Some(items) => is_set(items.first().and_then(|item| item.get("context"))),
            None => is_set(call.data.get("context")),
        };
        // What is no item at all is found out before a key is made.
        items::check(call, "encrypt")?;
        self.keys.insert(name.to_owned(), Key::new(name, kind, derived, 0, Config::default(), call.now)?);
        Ok(())
    }
}

/// What a request for a new key asks for, checked; the key is made when the result is called.
fn new_key<'a>(
    call: &Call<'_>,
    name: &'a str,
) -> Result<impl FnOnce() -> Result<Key, Fault> + use<'a>, Fault> {
    let fields = Fields(call.data);
    let derived = fields.bool("derived")?.unwrap_or_default();
    let convergent = fields.bool("convergent_encryption")?.unwrap_or_default();
    let kind = fields.text("type")?.unwrap_or_else(|| "aes256-gcm96".to_owned());
    let size = fields.int("key_size")?.unwrap_or_default();
    let config = Config::new(&fields)?;
    if !derived && convergent {
        return Err(Fault::bad("convergent encryption requires derivation to be enabled"));
    }
    let kind = kind_named(&kind)?;
    if convergent {
        return Err(not_here("convergent encryption"));
    }
    if size != 0 {
        if kind != Kind::Hmac {
            return Err(Fault::bad(format!("key_size is not valid for algorithm {}", kind.name())));
        }
        // Vault's own limits of an HMAC key.
        if !(32..=512).contains(&size) {
            return Err(Fault::bad(format!("invalid key_size {size}")));
        }
    }
    if derived && !kind.derives() {
        let text = format!(
            "key derivation and convergent encryption not supported for keys of type {}",
            kind.name()
        );
        return Err(Fault::list(http::StatusCode::INTERNAL_SERVER_ERROR, &[&text]));
    }
    if kind == Kind::Hmac && size == 0 {
        let text = "invalid key size for HMAC key, must be between 32 and 512 bytes";
        return Err(Fault::list(http::StatusCode::INTERNAL_SERVER_ERROR, &[text]));
    }
    let now = call.now;
    Ok(move || Key::new(name, kind, derived, size, config, now))
}

fn kind_named(text: &str) -> Result<Kind, Fault> {
    match Kind::named(text) {
        Some(kind) => Ok(kind),
        None if material::ABSENT.contains(&text) => Err(not_here(&format!("keys of type {text:?}"))),
        None => Err(Fault::bad(format!("unknown key type {text}"))),
    }
}

fn random(call: &Call<'_>, rest: &str) -> Answer {
    let fields = Fields(call.data);
    let (source, wanted) = match rest.split_once('/') {
        Some((source, bytes)) => (source, bytes),
        None if rest.bytes().all(|byte| byte.is_ascii_digit()) => ("", rest),
        None => (rest, ""),
    };
    let bytes = match wanted {
        "" => fields.int("bytes")?.unwrap_or(32),
        text => text.parse().map_err(|_| Fault::bad(format!("error parsing url-set byte count: {text}")))?,
    };
    if bytes < 1 {
        return Err(Fault::bad(r#""bytes" cannot be less than 1"#));
    }
    if bytes > MAX_RANDOM {
        return Err(Fault::bad(format!(r#""bytes" should be less than {MAX_RANDOM}"#)));
    }
    let format = fields.text("format")?.unwrap_or_else(|| "base64".to_owned());
    if !matches!(format.as_str(), "hex" | "base64") {
        return Err(Fault::bad(format!(
            "unsupported encoding format {format:?}; must be \"hex\" or \"base64\""
        )));
    }
    if !matches!(source, "" | "platform" | "seal" | "all") {
        return Err(Fault::bad(format!(
            "unsupported entropy source {source:?}; must be \"platform\" or \"seal\", or \"all\""
        )));
    }
    let bytes = super::random::many(usize::try_from(bytes).unwrap_or_default());
    let text = if format == "hex" { hex::encode(bytes) } else { STANDARD.encode(bytes) };
    Ok(Some(Reply::data(json!({ "random_bytes": text }))))
}
