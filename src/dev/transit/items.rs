//! What is computed with a key, item by item: encrypt, decrypt, rewrap, sign, verify, hmac.

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::{
    batch::{Items, Shape, text},
    key::Key,
    material::{self, Bad, Kind, Material},
    not_here,
};
use crate::dev::{
    engine::Call,
    fields::{Fields, to_int},
    wire::{Answer, Fault, Object},
};

const NO_CONTEXT: &str = "missing 'context' for key derivation; the key was created using a derived key, which means additional, per-request information must be included in order to perform operations with the key";
const TOO_OLD: &str = "ciphertext or signature version is disallowed by policy (too old)";

/// The fields that a single item is made of.
fn fields_of(verb: &str) -> &'static [&'static str] {
    match verb {
        "encrypt" => &["plaintext", "context", "nonce", "key_version", "associated_data", "padding_scheme"],
        "decrypt" => &["ciphertext", "context", "nonce", "associated_data", "padding_scheme"],
        "rewrap" => &["ciphertext", "context", "nonce", "key_version"],
        "sign" | "hmac" => &["input", "context"],
        _ => &["input", "context", "signature", "hmac", "cmac"],
    }
}

/// What can be wrong with a request before any key is looked at.
pub(super) fn check(call: &Call<'_>, verb: &str) -> Result<Items, Fault> {
    let items = Items::read(call, fields_of(verb))?;
    if matches!(verb, "encrypt" | "decrypt" | "rewrap") {
        items.check_contexts()?;
    }
    for name in ["nonce", "padding_scheme", "decrypt_padding_scheme", "encrypt_padding_scheme"] {
        if call.data.contains_key(name) || items.list.iter().any(|item| !text(item, name).is_empty()) {
            return Err(not_here(name));
        }
    }
    if !items.is_batch {
        let lacks = |name: &str| items.list.iter().any(|item| text(item, name).is_empty());
        match verb {
            "encrypt" if !call.data.contains_key("plaintext") => {
                return Err(Fault::bad("missing plaintext to encrypt"));
            }
            "decrypt" | "rewrap" if lacks("ciphertext") => {
                return Err(Fault::bad("missing ciphertext to decrypt"));
            }
            "hmac" if !call.data.contains_key("input") => return Err(Fault::bad("missing input for HMAC")),
            _ => {}
        }
    }
    Ok(items)
}

/// Answers one request that computes with a key.
pub(super) fn compute(call: &Call<'_>, verb: &str, key: Option<&Key>, url_algorithm: &str) -> Answer {
    let items = check(call, verb)?;
    match verb {
        "encrypt" | "decrypt" | "rewrap" => {
            let key = key.ok_or_else(|| Fault::bad("encryption key not found"))?;
            let shape = Shape {
                beside: (verb == "decrypt").then(|| ("plaintext", json!(""))),
                fails: verb != "rewrap",
                ends: verb == "rewrap",
            };
            items.answer(call, &shape, |item| match verb {
                "encrypt" => {
                    let plain = decode(&text(item, "plaintext"))?;
                    encrypt(key, item, &plain)
                }
                "decrypt" => {
                    let plain = decrypt(key, item)?;
                    Ok(object(json!({ "plaintext": STANDARD.encode(plain) })))
                }
                _ => encrypt(key, item, &decrypt(key, item)?),
            })
        }
        "hmac" => {
            let key = key.ok_or_else(|| Fault::bad("encryption key not found"))?;
            let hash = hash_name(call, url_algorithm, &["algorithm"])?;
            let version = Fields(call.data).int("key_version")?.unwrap_or_default();
            hmac(call, items, key, &hash, version)
        }
        "sign" => {
            let scheme = Scheme::read(call, url_algorithm)?;
            let key = key.ok_or_else(|| Fault::bad("signing key not found"))?;
            scheme.check(key.kind)?;
            let version = Fields(call.data).int("key_version")?.unwrap_or_default();
            let shape = Shape { beside: Some(("key_version", json!(0))), fails: false, ends: false };
            let is_batch = items.is_batch;
            items.answer(call, &shape, |item| sign(key, item, &scheme, version, is_batch))
        }
        _ => verify(call, items, key, url_algorithm),
    }
}

fn object(value: Value) -> Object {
    value.as_object().cloned().unwrap_or_default()
}

/// Base64, with Go's words for what is none.
fn decode(text: &str) -> Result<Vec<u8>, Bad> {
    STANDARD.decode(text).map_err(|error| {
        let at = match error {
            base64::DecodeError::InvalidByte(at, _)
            | base64::DecodeError::InvalidLastSymbol { offset: at, .. } => at,
            _ => text.len(),
        };
        Bad::User(format!("illegal base64 data at input byte {at}"))
    })
}

/// The bytes of a version's symmetric key, for this context where the key is derived.
fn symmetric(key: &Key, version: i64, context: &[u8]) -> Result<Vec<u8>, Bad> {
    let entry = key.version(version).ok_or_else(|| Bad::user("no such key version"))?;
    let Material::Symmetric(bytes) = &entry.material else {
        return Err(Bad::user("no such key version"));
    };
    if !key.derived {
        return Ok(bytes.clone());
    }
    if context.is_empty() {
        return Err(Bad::user(NO_CONTEXT));
    }
    material::derive(bytes, context, bytes.len())
}

fn encrypt(key: &Key, item: &Object, plain: &[u8]) -> Result<Object, Bad> {
    let context = decode(&text(item, "context"))?;
    if !key.kind.encrypts() {
        return Err(Bad::User(format!("message encryption not supported for key type {}", key.kind.name())));
    }
    let wanted = item.get("key_version").and_then(to_int).unwrap_or_default();
    let version = match wanted {
        0 => key.latest(),
        ..0 => return Err(Bad::user("requested version for encryption is negative")),
        _ if wanted > key.latest() => {
            return Err(Bad::user("requested version for encryption is higher than the latest key version"));
        }
        _ if wanted < key.config.min_encryption => {
            let text = "requested version for encryption is less than the minimum encryption key version";
            return Err(Bad::user(text));
        }
        _ => wanted,
    };
    let entry = key.version(version).ok_or_else(|| Bad::user("no such key version"))?;
    let body = match &entry.material {
        Material::Rsa { encrypting, .. } => material::rsa_encrypt(encrypting, plain)?,
        _ => {
            let associated = decode(&text(item, "associated_data"))?;
            material::seal(key.kind, &symmetric(key, version, &context)?, plain, &associated)?
        }
    };
    Ok(object(json!({
        "ciphertext": format!("vault:v{version}:{}", STANDARD.encode(body)),
        "key_version": version,
    })))
}

/// Version and body of what Vault made; `what` is how Vault calls it.
fn taken_apart<'a>(key: &Key, given: &'a str, what: &str) -> Result<(i64, &'a str), Bad> {
    let Some(rest) = given.strip_prefix("vault:v") else {
        return Err(Bad::User(format!("invalid {what}: no prefix")));
    };
    let Some((version, body)) = rest.split_once(':') else {
        return Err(Bad::User(format!("invalid {what}: wrong number of fields")));
    };
    let Ok(version) = version.parse::<i64>() else {
        return Err(Bad::User(format!("invalid {what}: version number could not be decoded")));
    };
    // A ciphertext of Vault's first days counts from 0.
    let version = if version == 0 && what == "ciphertext" { 1 } else { version };
    if version > key.latest() {
        return Err(Bad::User(format!("invalid {what}: version is too new")));
    }
    if version < key.config.min_decryption {
        return Err(Bad::user(if what == "HMAC" {
            "cannot verify HMAC: version is too old (disallowed by policy)"
        } else {
            TOO_OLD
        }));
    }
    Ok((version, body))
}

fn decrypt(key: &Key, item: &Object) -> Result<Vec<u8>, Bad> {
    let ciphertext = text(item, "ciphertext");
    if ciphertext.is_empty() {
        return Err(Bad::user("missing ciphertext to decrypt"));
    }
    let context = decode(&text(item, "context"))?;
    if !key.kind.encrypts() {
        return Err(Bad::User(format!("message decryption not supported for key type {}", key.kind.name())));
    }
    let (version, body) = taken_apart(key, &ciphertext, "ciphertext")?;
    let body = STANDARD.decode(body).map_err(|_| Bad::user("invalid ciphertext: could not decode base64"))?;
    let entry = key.version(version).ok_or_else(|| Bad::user("no such key version"))?;
    match &entry.material {
        Material::Rsa { decrypting, .. } => material::rsa_decrypt(decrypting, &body),
        _ => {
            let associated = decode(&text(item, "associated_data"))?;
            material::open(key.kind, &symmetric(key, version, &context)?, &body, &associated)
        }
    }
}

const HASHES: &[&str] = &[
    "none", "sha1", "sha2-224", "sha2-256", "sha2-384", "sha2-512", "sha3-224", "sha3-256", "sha3-384",
    "sha3-512",
];

/// The hash of a request: in the path, or in the first of these fields that is there.
fn hash_name(call: &Call<'_>, url: &str, names: &[&str]) -> Result<String, Fault> {
    let mut found = url.to_owned();
    for name in names {
        if found.is_empty() {
            found = Fields(call.data).text_or_empty(name)?;
        }
    }
    if found.is_empty() {
        found = "sha2-256".to_owned();
    }
    Ok(found)
}

fn hmac(call: &Call<'_>, items: Items, key: &Key, hash: &str, wanted: i64) -> Answer {
    let version = match wanted {
        0 => key.latest(),
        ..0 => return Err(Fault::bad("key version does not exist (cannot be negative)")),
        _ if wanted > key.latest() => {
            let text = format!("key version does not exist; latest key version is {}", key.latest());
            return Err(Fault::bad(text));
        }
        _ if wanted < key.config.min_encryption => {
            return Err(Fault::bad("cannot generate HMAC: version is too old (disallowed by policy)"));
        }
        _ => wanted,
    };
    check_hmac_hash(hash)?;
    let entry = key.version(version).ok_or_else(|| Fault::bad("no such key version"))?;
    let shape = Shape { beside: Some(("valid", json!(false))), fails: false, ends: false };
    let is_batch = items.is_batch;
    items.answer(call, &shape, |item| {
        if !item.contains_key("input") {
            return Err(Bad::user("missing input for HMAC"));
        }
        let input = input_of(item, "unable to decode input as base64")?;
        let made = STANDARD.encode(material::mac(&entry.hmac, hash, &input)?);
        let mut result = object(json!({ "hmac": format!("vault:v{version}:{made}") }));
        if is_batch {
            result.insert("valid".to_owned(), json!(false));
        }
        Ok(result)
    })
}

fn check_hmac_hash(hash: &str) -> Result<(), Fault> {
    if !HASHES.contains(&hash) {
        // Vault prints the number of the unknown hash here.
        return Err(Fault::bad("unsupported algorithm '\\x00'"));
    }
    if hash == "none" {
        // A real server breaks the connection off.
        return Err(not_here("HMAC without a hash"));
    }
    Ok(())
}

fn input_of(item: &Object, fault: &str) -> Result<Vec<u8>, Bad> {
    decode(&text(item, "input")).map_err(|bad| match bad {
        Bad::User(text) | Bad::Internal(text) => Bad::User(format!("{fault}: {text}")),
    })
}

/// How signatures of a request are made.
struct Scheme {
    hash: String,
    jws: bool,
    prehashed: bool,
    /// `pss` (or nothing), `pkcs1v15`, or what Vault does not know.
    padding: String,
}

impl Scheme {
    fn read(call: &Call<'_>, url: &str) -> Result<Self, Fault> {
        let fields = Fields(call.data);
        // `algorithm` is the older name, which Vault never gets to see: the newer one has a default.
        let hash = hash_name(call, url, &["hash_algorithm"])?;
        if !HASHES.contains(&hash.as_str()) {
            return Err(Fault::bad(format!("invalid hash algorithm {hash:?}")));
        }
        let marshaling = fields.text("marshaling_algorithm")?.unwrap_or_else(|| "asn1".to_owned());
        if !matches!(marshaling.as_str(), "asn1" | "jws") {
            return Err(Fault::bad(format!("invalid marshaling type {marshaling:?}")));
        }
        let salt = fields.text("salt_length")?.unwrap_or_else(|| "auto".to_owned());
        match salt.to_ascii_lowercase().as_str() {
            "auto" | "hash" => {}
            other => match other.parse::<i64>() {
                Ok(number) if number < -1 => {
                    return Err(Fault::bad(format!("salt length is invalid: {number}")));
                }
                Ok(_) => return Err(not_here("salt length as a number")),
                Err(_) => {
                    return Err(Fault::bad(format!(
                        "salt length neither 'auto', 'hash', nor an int: {salt}"
                    )));
                }
            },
        }
        Ok(Self {
            hash,
            jws: marshaling == "jws",
            prehashed: fields.bool("prehashed")?.unwrap_or_default(),
            padding: fields.text_or_empty("signature_algorithm")?,
        })
    }

    fn check(&self, kind: Kind) -> Result<(), Fault> {
        if !kind.signs() {
            return Err(Fault::bad(format!("key type {} does not support signing", kind.name())));
        }
        if self.hash == "none" && !(self.prehashed && self.padding == "pkcs1v15") {
            let text = "hash_algorithm=none requires both prehashed=true and signature_algorithm=pkcs1v15";
            return Err(Fault::bad(text));
        }
        Ok(())
    }

    /// What Ed25519 keys do not take.
    fn check_pure(&self, kind: Kind, before: &str) -> Result<(), Bad> {
        let fault = match kind {
            Kind::Ed25519 if self.prehashed => "prehashed must be false",
            Kind::Ed25519 if self.hash == "sha2-512" => "hash_alogithm should not be set",
            _ => return Ok(()),
        };
        Err(Bad::User(format!("{before}: only Pure Ed25519 signatures supported, {fault}")))
    }

    /// What is signed: the input's digest, but for Ed25519.
    fn digest(&self, kind: Kind, input: Vec<u8>) -> Result<Vec<u8>, Bad> {
        if self.prehashed || kind == Kind::Ed25519 {
            return Ok(input);
        }
        let hash = material::hash(&self.hash)
            .ok_or_else(|| Bad::User(format!("the embedded dev Vault has no hash {}", self.hash)))?;
        Ok(aws_lc_rs::digest::digest(hash, &input).as_ref().to_vec())
    }

    fn is_pss(&self) -> Result<bool, Bad> {
        match self.padding.as_str() {
            "" | "pss" => Ok(true),
            "pkcs1v15" => Ok(false),
            other => Err(Bad::Internal(format!("unsupported rsa signature algorithm {other}"))),
        }
    }

    fn encode(&self, signature: Vec<u8>) -> String {
        if self.jws { URL_SAFE_NO_PAD.encode(signature) } else { STANDARD.encode(signature) }
    }
}

/// The seed of an Ed25519 key, for this context where the key is derived.
fn seed(key: &Key, seed: &[u8], context: &[u8]) -> Result<Vec<u8>, Bad> {
    if !key.derived {
        return Ok(seed.to_vec());
    }
    if context.is_empty() {
        return Err(Bad::Internal(format!("error deriving key: {NO_CONTEXT}")));
    }
    material::derive(seed, context, seed.len())
}

fn sign(key: &Key, item: &Object, scheme: &Scheme, wanted: i64, is_batch: bool) -> Result<Object, Bad> {
    if is_batch && !item.contains_key("input") {
        return Err(Bad::user("missing input"));
    }
    let input = input_of(item, "unable to decode input")?;
    let context = decode(&text(item, "context")).map_err(|_| Bad::user("failed to base64-decode context"))?;
    let digest = scheme.digest(key.kind, input)?;
    scheme.check_pure(key.kind, "failed to parse batch item")?;
    // Vault takes these for failures of its own.
    let internal = |text: &str| Err(Bad::Internal(text.to_owned()));
    let version = match wanted {
        0 => key.latest(),
        ..0 => return internal("requested version for signing is negative"),
        _ if wanted > key.latest() => {
            return internal("requested version for signing is higher than the latest key version");
        }
        _ if wanted < key.config.min_encryption => {
            return internal("requested version for signing is less than the minimum encryption key version");
        }
        _ => wanted,
    };
    let entry = key.version(version).ok_or_else(|| Bad::user("no such key version"))?;
    let mut public = None;
    let signature = match &entry.material {
        Material::Ed25519(bytes) => {
            let (signature, key_shown) = material::ed25519_sign(&seed(key, bytes, &context)?, &digest)?;
            public = key.derived.then(|| STANDARD.encode(key_shown));
            signature
        }
        Material::Ecdsa { curve, pkcs8 } => material::ecdsa_sign(*curve, pkcs8, &digest, scheme.jws)?,
        Material::Rsa { pair, .. } => material::rsa_sign(pair, &scheme.hash, scheme.is_pss()?, &digest)?,
        Material::Symmetric(_) | Material::Hmac(_) => return Err(Bad::user("no such key version")),
    };
    let mut result = object(json!({
        "signature": format!("vault:v{version}:{}", scheme.encode(signature)),
        "key_version": version,
    }));
    if let Some(public) = public {
        let name = if is_batch { "publickey" } else { "public_key" };
        result.insert(name.to_owned(), json!(public));
    }
    Ok(result)
}

fn verify(call: &Call<'_>, items: Items, key: Option<&Key>, url: &str) -> Answer {
    let has = |item: &Object, name: &str| item.contains_key(name);
    let all = items.list.len();
    let signatures = items.list.iter().filter(|item| has(item, "signature")).count();
    let hmacs = items.list.iter().filter(|item| !has(item, "signature") && has(item, "hmac")).count();
    if items.list.iter().any(|item| has(item, "cmac")) {
        return Err(not_here("CMAC"));
    }
    match (signatures, hmacs) {
        (0, 0) if items.is_batch => {
            return Err(Fault::bad("no batch_input elements have 'signature', 'hmac' or 'cmac'"));
        }
        (0, 0) => {
            return Err(Fault::bad("missing one of 'signature', 'hmac' or 'cmac' arguments to verify"));
        }
        (1.., 1..) => {
            let text = "elements of batch_input must all provide either 'signature', 'hmac' or 'cmac'";
            return Err(Fault::bad(text));
        }
        (some, 0) if some < all => {
            return Err(Fault::bad("some elements of batch_input are missing 'signature'"));
        }
        (0, some) if some < all => return Err(Fault::bad("some elements of batch_input are missing 'hmac'")),
        _ => {}
    }
    let shape = Shape { beside: Some(("valid", json!(false))), fails: false, ends: false };
    if hmacs > 0 {
        let key = key.ok_or_else(|| Fault::bad("encryption key not found"))?;
        let hash = hash_name(call, url, &["hash_algorithm", "algorithm"])?;
        check_hmac_hash(&hash)?;
        return items.answer(call, &shape, |item| verify_hmac(key, item, &hash));
    }
    let scheme = Scheme::read(call, url)?;
    let key = key.ok_or_else(|| Fault::bad("signature verification key not found"))?;
    scheme.check(key.kind)?;
    items.answer(call, &shape, |item| {
        let valid = verify_signature(key, item, &scheme)?;
        Ok(object(json!({ "valid": valid })))
    })
}

fn verify_hmac(key: &Key, item: &Object, hash: &str) -> Result<Object, Bad> {
    if !item.contains_key("input") {
        return Err(Bad::user("missing input"));
    }
    let input = input_of(item, "unable to decode input as base64")?;
    let given = text(item, "hmac");
    let (version, body) = taken_apart(key, &given, "HMAC").map_err(|bad| match bad {
        Bad::User(text) if text == "invalid HMAC: no prefix" => {
            Bad::user("invalid HMAC to verify: no prefix")
        }
        other => other,
    })?;
    let body = decode(body).map_err(|bad| match bad {
        Bad::User(text) | Bad::Internal(text) => {
            Bad::User(format!("unable to decode verification HMAC as base64: {text}"))
        }
    })?;
    let entry = key.version(version).ok_or_else(|| Bad::user("no such key version"))?;
    let made = material::mac(&entry.hmac, hash, &input)?;
    let valid = aws_lc_rs::constant_time::verify_slices_are_equal(&made, &body).is_ok();
    Ok(object(json!({ "valid": valid })))
}

fn verify_signature(key: &Key, item: &Object, scheme: &Scheme) -> Result<bool, Bad> {
    let item_fault = |what: &str, bad: Bad| match bad {
        Bad::User(text) | Bad::Internal(text) => Bad::User(format!("failed to parse item: {what}{text}")),
    };
    let input = decode(&text(item, "input")).map_err(|bad| item_fault("failed to parse input: ", bad))?;
    let context =
        decode(&text(item, "context")).map_err(|bad| item_fault("failed to parse context: ", bad))?;
    let digest = scheme.digest(key.kind, input)?;
    scheme.check_pure(key.kind, "failed to parse batch item").map_err(|bad| item_fault("", bad))?;
    let given = text(item, "signature");
    let (version, body) = taken_apart(key, &given, "signature")?;
    let body = if scheme.jws { URL_SAFE_NO_PAD.decode(body) } else { STANDARD.decode(body) };
    let body = body.map_err(|_| Bad::user("invalid base64 signature value"))?;
    let entry = key.version(version).ok_or_else(|| Bad::user("no such key version"))?;
    match &entry.material {
        Material::Ed25519(bytes) => material::ed25519_verify(&seed(key, bytes, &context)?, &digest, &body),
        Material::Ecdsa { curve, pkcs8 } => material::ecdsa_verify(*curve, pkcs8, &digest, &body, scheme.jws),
        Material::Rsa { pair, .. } => {
            material::rsa_verify(pair, &scheme.hash, scheme.is_pss()?, &digest, &body)
        }
        Material::Symmetric(_) | Material::Hmac(_) => Err(Bad::user("no such key version")),
    }
}
