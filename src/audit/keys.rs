//! The keys of one log: an HMAC key for values and an Ed25519 pair for checkpoints, in files beside
//! the log. The HMAC key file is written last when a log is begun, so what is in it says that the
//! log exists; its lock makes two first openers take turns.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;

use aws_lc_rs::hmac;
use aws_lc_rs::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use zeroize::{Zeroize, Zeroizing};

use super::AuditError;
use super::names::Names;
use super::platform::{self, Access};

/// Length of the raw Ed25519 public key in bytes.
const PUBLIC_KEY_LEN: usize = 32;

/// What a SubjectPublicKeyInfo for Ed25519 begins with (RFC 8410).
const SPKI_PREFIX: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

const HMAC_KEY_LEN: usize = 32;

/// A longer key file than this is none of ours.
const MAX_KEY_FILE: u64 = 4096;

/// The bytes that a checkpoint signs.
pub(super) fn checkpoint_text(seq: u64, hash: &str) -> String {
    format!("vault-mcp-audit-checkpoint:1:{seq}:{hash}")
}

/// `hmac-sha256:` and the hexadecimal HMAC of a value.
pub(super) fn hmac_text(key: &hmac::Key, value: &[u8]) -> String {
    format!("hmac-sha256:{}", hex::encode(hmac::sign(key, value)))
}

/// A new HMAC key, as it stands in its file.
pub(super) fn new_hmac_text() -> Result<Zeroizing<String>, AuditError> {
    let mut key = Zeroizing::new([0_u8; HMAC_KEY_LEN]);
    getrandom::fill(key.as_mut_slice()).map_err(|_| AuditError::Crypto { doing: "making the HMAC key" })?;
    let mut text = Zeroizing::new(hex::encode(key.as_slice()));
    text.push('\n');
    Ok(text)
}

/// Reads the text of an opened HMAC key file; empty if the log was not begun.
pub(super) fn read_text(file: &File, path: &Path) -> Result<Zeroizing<String>, AuditError> {
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(MAX_KEY_FILE)
        .read_to_end(&mut bytes)
        .map_err(|source| AuditError::io("reading", path, source))?;
    match std::str::from_utf8(&bytes) {
        Ok(text) => Ok(Zeroizing::new(text.to_owned())),
        Err(_) => Err(AuditError::KeyBad { path: path.to_path_buf() }),
    }
}

/// The key in the text of an HMAC key file.
pub(super) fn parse_hmac(text: &str, path: &Path) -> Result<hmac::Key, AuditError> {
    let mut key = Zeroizing::new([0_u8; HMAC_KEY_LEN]);
    hex::decode_to_slice(text.trim_ascii_end(), key.as_mut_slice())
        .map_err(|_| AuditError::KeyBad { path: path.to_path_buf() })?;
    Ok(hmac::Key::new(hmac::HMAC_SHA256, key.as_slice()))
}

/// The HMAC key of an existing log.
pub(super) fn load_hmac(names: &Names) -> Result<hmac::Key, AuditError> {
    let path = names.hmac_key();
    let (file, _) = open_key(&path)?;
    let text = read_text(&file, &path)?;
    if text.is_empty() {
        return Err(AuditError::KeyMissing { path });
    }
    parse_hmac(&text, &path)
}

/// Makes the Ed25519 pair of a new log and stores both halves.
pub(super) fn make_signer(names: &Names) -> Result<Signer, AuditError> {
    let crypto = |_| AuditError::Crypto { doing: "making the signing key" };
    let pair = Ed25519KeyPair::generate().map_err(crypto)?;
    let document = pair.to_pkcs8v1().map_err(crypto)?;
    let signer = Signer { pair };
    let mut private = pem("PRIVATE KEY", document.as_ref());
    let written = store(&names.signing_key(), private.as_bytes());
    private.zeroize();
    written?;
    store(&names.public_key(), signer.public_pem().as_bytes())?;
    Ok(signer)
}

/// Only called while a log is begun: what an interrupted beginning left behind was never used.
fn store(path: &Path, bytes: &[u8]) -> Result<(), AuditError> {
    let (mut file, _) = platform::open(path, Access::AppendOrMake)?;
    file.set_len(0)
        .and_then(|()| file.write_all(bytes))
        .and_then(|()| file.sync_all())
        .map_err(|source| AuditError::io("writing", path, source))
}

fn open_key(path: &Path) -> Result<(File, std::fs::Metadata), AuditError> {
    match platform::open(path, Access::Read) {
        Err(AuditError::Io { path, source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Err(AuditError::KeyMissing { path })
        }
        other => other,
    }
}

/// Signs checkpoints.
pub(super) struct Signer {
    pair: Ed25519KeyPair,
}

impl Signer {
    pub(super) fn load(names: &Names) -> Result<Self, AuditError> {
        let path = names.signing_key();
        let (file, _) = open_key(&path)?;
        let text = read_text(&file, &path)?;
        let bad = || AuditError::KeyBad { path: path.clone() };
        let der = Zeroizing::new(from_pem("PRIVATE KEY", &text).ok_or_else(bad)?);
        let pair = Ed25519KeyPair::from_pkcs8(&der).map_err(|_| bad())?;
        Ok(Self { pair })
    }

    /// Base64 of the signature over a checkpoint.
    pub(super) fn sign(&self, seq: u64, hash: &str) -> Result<String, AuditError> {
        let signature = self
            .pair
            .try_sign(checkpoint_text(seq, hash).as_bytes())
            .map_err(|_| AuditError::Crypto { doing: "signing a checkpoint" })?;
        Ok(STANDARD.encode(signature))
    }

    /// Base64 of the raw public key.
    pub(super) fn public_text(&self) -> String {
        STANDARD.encode(self.pair.public_key())
    }

    fn public_pem(&self) -> String {
        let mut der = SPKI_PREFIX.to_vec();
        der.extend_from_slice(self.pair.public_key().as_ref());
        pem("PUBLIC KEY", &der)
    }
}

/// Verifies checkpoints.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verifier {
    key: Vec<u8>,
}

impl Verifier {
    /// From a PEM file: the one beside the log, or a copy that is kept elsewhere.
    pub(super) fn load(path: &Path) -> Result<Self, AuditError> {
        let missing = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::NotFound => AuditError::KeyMissing { path: path.to_path_buf() },
            _ => AuditError::io("reading", path, source),
        };
        let file = File::open(path).map_err(missing)?;
        let text = read_text(&file, path)?;
        from_pem("PUBLIC KEY", &text)
            .and_then(|der| der.strip_prefix(&SPKI_PREFIX).map(<[u8]>::to_vec))
            .filter(|key| key.len() == PUBLIC_KEY_LEN)
            .map(|key| Self { key })
            .ok_or_else(|| AuditError::KeyBad { path: path.to_path_buf() })
    }

    /// Whether `text` is the base64 of this key.
    pub(super) fn is(&self, text: &str) -> bool {
        STANDARD.encode(&self.key) == text
    }

    pub(super) fn accepts(&self, seq: u64, hash: &str, signature: &str) -> bool {
        STANDARD.decode(signature).is_ok_and(|signature| {
            UnparsedPublicKey::new(&ED25519, &self.key)
                .verify(checkpoint_text(seq, hash).as_bytes(), &signature)
                .is_ok()
        })
    }
}

fn pem(label: &str, der: &[u8]) -> String {
    // Both of our keys fit on PEM's one line of 64 characters.
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

fn from_pem(label: &str, text: &str) -> Option<Vec<u8>> {
    let body = text.trim().strip_prefix(&format!("-----BEGIN {label}-----"))?;
    let body = body.strip_suffix(&format!("-----END {label}-----"))?;
    let body: Zeroizing<String> = Zeroizing::new(body.split_ascii_whitespace().collect());
    STANDARD.decode(body.as_bytes()).ok()
}
