//! The keys themselves: made, shown in their public halves, used. All from aws-lc-rs.

use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::{
    aead, digest, hkdf, hmac, rsa,
    rsa::{
        KeyPair as RsaKeyPair, KeySize, OAEP_SHA256_MGF1SHA256, OaepPrivateDecryptingKey,
        OaepPublicEncryptingKey,
    },
    signature::{
        self, ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P256_SHA256_FIXED,
        ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_ASN1, ECDSA_P384_SHA384_ASN1_SIGNING,
        ECDSA_P384_SHA384_FIXED, ECDSA_P384_SHA384_FIXED_SIGNING, ECDSA_P521_SHA512_ASN1,
        ECDSA_P521_SHA512_ASN1_SIGNING, ECDSA_P521_SHA512_FIXED, ECDSA_P521_SHA512_FIXED_SIGNING,
        EcdsaKeyPair, EcdsaSigningAlgorithm, EcdsaVerificationAlgorithm, Ed25519KeyPair, KeyPair as _,
        UnparsedPublicKey,
    },
};
use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::dev::{pem, random, wire::Fault};

/// Types of keys that a real Vault knows and this one does not have.
pub(super) const ABSENT: &[&str] = &[
    "managed_key",
    "aes128-cmac",
    "aes192-cmac",
    "aes256-cmac",
    "ml-dsa",
    "hybrid",
    "slh-dsa",
    "aes128-cbc",
    "aes256-cbc",
];

/// Type of a key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Aes128,
    Aes256,
    ChaCha20,
    Ed25519,
    P256,
    P384,
    P521,
    Rsa2048,
    Rsa3072,
    Rsa4096,
    Hmac,
}

const KINDS: &[(Kind, &str)] = &[
    (Kind::Aes128, "aes128-gcm96"),
    (Kind::Aes256, "aes256-gcm96"),
    (Kind::ChaCha20, "chacha20-poly1305"),
    (Kind::Ed25519, "ed25519"),
    (Kind::P256, "ecdsa-p256"),
    (Kind::P384, "ecdsa-p384"),
    (Kind::P521, "ecdsa-p521"),
    (Kind::Rsa2048, "rsa-2048"),
    (Kind::Rsa3072, "rsa-3072"),
    (Kind::Rsa4096, "rsa-4096"),
    (Kind::Hmac, "hmac"),
];

impl Kind {
    pub(super) fn named(text: &str) -> Option<Self> {
        KINDS.iter().find(|(_, name)| *name == text).map(|(kind, _)| *kind)
    }

    pub(super) fn name(self) -> &'static str {
        KINDS.iter().find(|(kind, _)| *kind == self).map_or("", |(_, name)| *name)
    }

    pub(super) fn is_symmetric(self) -> bool {
        matches!(self, Self::Aes128 | Self::Aes256 | Self::ChaCha20)
    }

    pub(super) fn is_rsa(self) -> bool {
        matches!(self, Self::Rsa2048 | Self::Rsa3072 | Self::Rsa4096)
    }

    pub(super) fn encrypts(self) -> bool {
        self.is_symmetric() || self.is_rsa()
    }

    pub(super) fn signs(self) -> bool {
        !self.is_symmetric() && self != Self::Hmac
    }

    pub(super) fn derives(self) -> bool {
        self.is_symmetric() || self == Self::Ed25519
    }

    /// How signing and verifying with a curve are called, in ASN.1 and as the two numbers in a row, and the
    /// hash whose length fits the curve.
    fn curve(self) -> Option<Curve> {
        Some(match self {
            Self::P256 => Curve {
                name: "P-256",
                signing: (&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P256_SHA256_FIXED_SIGNING),
                verifying: (&ECDSA_P256_SHA256_ASN1, &ECDSA_P256_SHA256_FIXED),
                hash: &digest::SHA256,
            },
            Self::P384 => Curve {
                name: "P-384",
                signing: (&ECDSA_P384_SHA384_ASN1_SIGNING, &ECDSA_P384_SHA384_FIXED_SIGNING),
                verifying: (&ECDSA_P384_SHA384_ASN1, &ECDSA_P384_SHA384_FIXED),
                hash: &digest::SHA384,
            },
            Self::P521 => Curve {
                name: "P-521",
                signing: (&ECDSA_P521_SHA512_ASN1_SIGNING, &ECDSA_P521_SHA512_FIXED_SIGNING),
                verifying: (&ECDSA_P521_SHA512_ASN1, &ECDSA_P521_SHA512_FIXED),
                hash: &digest::SHA512,
            },
            _ => return None,
        })
    }
}

struct Curve {
    name: &'static str,
    signing: (&'static EcdsaSigningAlgorithm, &'static EcdsaSigningAlgorithm),
    verifying: (&'static EcdsaVerificationAlgorithm, &'static EcdsaVerificationAlgorithm),
    hash: &'static digest::Algorithm,
}

impl Curve {
    /// A digest of any hash as one of the length that the curve takes. ECDSA reads a digest as a number and
    /// only its leftmost bits, as many as the curve has (FIPS 186-5, 6.4): a longer one is cut, a shorter one
    /// gets zeros in front.
    fn digest(&self, bytes: &[u8]) -> Option<digest::Digest> {
        let length = self.hash.output_len();
        let mut fitted = vec![0; length.saturating_sub(bytes.len())];
        fitted.extend(bytes.iter().take(length));
        digest::Digest::import_less_safe(&fitted, self.hash).ok()
    }
}

/// Why something cannot be computed.
pub(super) enum Bad {
    /// The caller's fault, in Vault's words.
    User(String),
    /// What Vault calls a failure of its own.
    Internal(String),
}

impl Bad {
    pub(super) fn user(text: impl Into<String>) -> Self {
        Self::User(text.into())
    }

    fn crypto(_: aws_lc_rs::error::Unspecified) -> Self {
        Self::Internal("the computation failed".to_owned())
    }
}

/// One version's secret.
pub(super) enum Material {
    Symmetric(Vec<u8>),
    /// The seed.
    Ed25519([u8; 32]),
    /// The key pair in PKCS#8, since a pair knows one form of signatures only.
    Ecdsa {
        curve: Kind,
        pkcs8: Vec<u8>,
    },
    Rsa {
        pair: Box<RsaKeyPair>,
        decrypting: OaepPrivateDecryptingKey,
        encrypting: OaepPublicEncryptingKey,
    },
    Hmac(Vec<u8>),
}

impl Material {
    pub(super) fn generate(kind: Kind, size: usize) -> Result<Self, Fault> {
        let failed = || Fault::bad("the embedded dev Vault could not make the key");
        Ok(match kind {
            Kind::Aes128 => Self::Symmetric(random::many(16)),
            Kind::Aes256 | Kind::ChaCha20 => Self::Symmetric(random::many(32)),
            Kind::Ed25519 => Self::Ed25519(random::bytes()),
            Kind::Hmac => Self::Hmac(random::many(size)),
            Kind::P256 | Kind::P384 | Kind::P521 => {
                let curve = kind.curve().ok_or_else(failed)?;
                let pair = EcdsaKeyPair::generate(curve.signing.0).map_err(|_| failed())?;
                let pkcs8 = pair.to_pkcs8v1().map_err(|_| failed())?.as_ref().to_vec();
                Self::Ecdsa { curve: kind, pkcs8 }
            }
            Kind::Rsa2048 => Self::rsa(KeySize::Rsa2048).ok_or_else(failed)?,
            Kind::Rsa3072 => Self::rsa(KeySize::Rsa3072).ok_or_else(failed)?,
            Kind::Rsa4096 => Self::rsa(KeySize::Rsa4096).ok_or_else(failed)?,
        })
    }

    fn rsa(size: KeySize) -> Option<Self> {
        let pair = RsaKeyPair::generate(size).ok()?;
        let private: Pkcs8V1Der<'_> = pair.as_der().ok()?;
        let private = rsa::PrivateDecryptingKey::from_pkcs8(private.as_ref()).ok()?;
        let encrypting = OaepPublicEncryptingKey::new(private.public_key()).ok()?;
        let decrypting = OaepPrivateDecryptingKey::new(private).ok()?;
        Some(Self::Rsa { pair: Box::new(pair), decrypting, encrypting })
    }

    /// Name and public half, of those that have one; a derived key's is another for each context.
    pub(super) fn public(&self, derived: bool) -> Option<(String, String)> {
        match self {
            Self::Symmetric(_) | Self::Hmac(_) => None,
            Self::Ed25519(_) if derived => Some(("ed25519".to_owned(), String::new())),
            Self::Ed25519(seed) => {
                let pair = Ed25519KeyPair::from_seed_unchecked(seed).ok()?;
                Some(("ed25519".to_owned(), STANDARD.encode(pair.public_key().as_ref())))
            }
            Self::Ecdsa { curve, pkcs8 } => {
                let curve = curve.curve()?;
                let pair = EcdsaKeyPair::from_pkcs8(curve.signing.0, pkcs8).ok()?;
                let der: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
                Some((curve.name.to_owned(), pem::encode(pem::PUBLIC_KEY, der.as_ref())))
            }
            Self::Rsa { pair, .. } => {
                let der: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
                Some((
                    format!("rsa-{}", pair.public_modulus_len() * 8),
                    pem::encode(pem::PUBLIC_KEY, der.as_ref()),
                ))
            }
        }
    }
}

/// A context's own key (RFC 5869, no salt).
pub(super) fn derive(key: &[u8], context: &[u8], length: usize) -> Result<Vec<u8>, Bad> {
    struct Length(usize);
    impl hkdf::KeyType for Length {
        fn len(&self) -> usize {
            self.0
        }
    }
    let mut out = vec![0; length];
    let random = hkdf::Salt::new(hkdf::HKDF_SHA256, &[]).extract(key);
    let info = [context];
    let okm = random.expand(&info, Length(length)).map_err(Bad::crypto)?;
    okm.fill(&mut out).map_err(Bad::crypto)?;
    Ok(out)
}

fn sealing(kind: Kind, key: &[u8]) -> Result<aead::LessSafeKey, Bad> {
    let algorithm = match kind {
        Kind::Aes128 => &aead::AES_128_GCM,
        Kind::ChaCha20 => &aead::CHACHA20_POLY1305,
        _ => &aead::AES_256_GCM,
    };
    aead::UnboundKey::new(algorithm, key).map(aead::LessSafeKey::new).map_err(Bad::crypto)
}

/// Nonce, ciphertext and tag in a row.
pub(super) fn seal(kind: Kind, key: &[u8], plaintext: &[u8], associated: &[u8]) -> Result<Vec<u8>, Bad> {
    let nonce = random::bytes::<{ aead::NONCE_LEN }>();
    let mut body = plaintext.to_vec();
    sealing(kind, key)?
        .seal_in_place_append_tag(
            aead::Nonce::assume_unique_for_key(nonce),
            aead::Aad::from(associated),
            &mut body,
        )
        .map_err(Bad::crypto)?;
    Ok([nonce.as_slice(), &body].concat())
}

pub(super) fn open(kind: Kind, key: &[u8], sealed: &[u8], associated: &[u8]) -> Result<Vec<u8>, Bad> {
    let Some((nonce, body)) = sealed.split_at_checked(aead::NONCE_LEN) else {
        return Err(Bad::user("invalid ciphertext length"));
    };
    let nonce = aead::Nonce::try_assume_unique_for_key(nonce).map_err(Bad::crypto)?;
    let mut body = body.to_vec();
    match sealing(kind, key)?.open_in_place(nonce, aead::Aad::from(associated), &mut body) {
        Ok(plain) => Ok(plain.to_vec()),
        Err(_) => Err(Bad::user("cipher: message authentication failed")),
    }
}

pub(super) fn rsa_encrypt(key: &OaepPublicEncryptingKey, plaintext: &[u8]) -> Result<Vec<u8>, Bad> {
    if plaintext.len() > key.max_plaintext_size(&OAEP_SHA256_MGF1SHA256) {
        return Err(Bad::Internal(
            "failed to RSA encrypt the plaintext: crypto/rsa: message too long for RSA key size".to_owned(),
        ));
    }
    let mut out = vec![0; key.ciphertext_size()];
    let length = key.encrypt(&OAEP_SHA256_MGF1SHA256, plaintext, &mut out, None).map_err(Bad::crypto)?.len();
    out.truncate(length);
    Ok(out)
}

pub(super) fn rsa_decrypt(key: &OaepPrivateDecryptingKey, ciphertext: &[u8]) -> Result<Vec<u8>, Bad> {
    let mut out = vec![0; key.min_output_size()];
    match key.decrypt(&OAEP_SHA256_MGF1SHA256, ciphertext, &mut out, None) {
        Ok(plain) => Ok(plain.to_vec()),
        Err(_) => Err(Bad::Internal(
            "failed to RSA decrypt the ciphertext: crypto/rsa: decryption error".to_owned(),
        )),
    }
}

/// The digest of a hash that Vault names so; `None` for those that are not here.
pub(super) fn hash(name: &str) -> Option<&'static digest::Algorithm> {
    Some(match name {
        "sha1" => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        "sha2-224" => &digest::SHA224,
        "sha2-256" => &digest::SHA256,
        "sha2-384" => &digest::SHA384,
        "sha2-512" => &digest::SHA512,
        "sha3-256" => &digest::SHA3_256,
        "sha3-384" => &digest::SHA3_384,
        "sha3-512" => &digest::SHA3_512,
        _ => return None,
    })
}

/// HMAC of a message (RFC 2104).
pub(super) fn mac(key: &[u8], hash: &str, message: &[u8]) -> Result<Vec<u8>, Bad> {
    let algorithm = match hash {
        "sha1" => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        "sha2-224" => hmac::HMAC_SHA224,
        "sha2-256" => hmac::HMAC_SHA256,
        "sha2-384" => hmac::HMAC_SHA384,
        "sha2-512" => hmac::HMAC_SHA512,
        other => return Err(Bad::User(format!("the embedded dev Vault makes no HMAC with {other}"))),
    };
    Ok(hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref().to_vec())
}

pub(super) fn ecdsa_sign(curve: Kind, pkcs8: &[u8], digest: &[u8], jws: bool) -> Result<Vec<u8>, Bad> {
    let failed = || Bad::Internal("the computation failed".to_owned());
    let curve = curve.curve().ok_or_else(failed)?;
    let algorithm = if jws { curve.signing.1 } else { curve.signing.0 };
    let pair = EcdsaKeyPair::from_pkcs8(algorithm, pkcs8).map_err(|_| failed())?;
    let digest = curve.digest(digest).ok_or_else(failed)?;
    Ok(pair.sign_digest(&digest).map_err(Bad::crypto)?.as_ref().to_vec())
}

pub(super) fn ecdsa_verify(
    curve: Kind,
    pkcs8: &[u8],
    digest: &[u8],
    signature: &[u8],
    jws: bool,
) -> Result<bool, Bad> {
    if !jws {
        match der_sequence(signature) {
            None => return Err(Bad::user("supplied signature is invalid")),
            Some(0) => {}
            Some(_) => return Err(Bad::user("supplied signature contains extra data")),
        }
    }
    let failed = || Bad::Internal("the computation failed".to_owned());
    let curve = curve.curve().ok_or_else(failed)?;
    let pair = EcdsaKeyPair::from_pkcs8(curve.signing.0, pkcs8).map_err(|_| failed())?;
    let algorithm = if jws { curve.verifying.1 } else { curve.verifying.0 };
    let digest = curve.digest(digest).ok_or_else(failed)?;
    Ok(UnparsedPublicKey::new(algorithm, pair.public_key().as_ref())
        .verify_digest(&digest, signature)
        .is_ok())
}

/// Whether bytes begin with a DER sequence of two integers, and how many come after it.
fn der_sequence(bytes: &[u8]) -> Option<usize> {
    fn element(bytes: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
        let (head, rest) = bytes.split_first_chunk::<2>()?;
        let (length, rest) = match head {
            [found, _] if *found != tag => return None,
            [_, length @ 0..=0x7f] => (usize::from(*length), rest),
            [_, 0x81] => {
                let (length, rest) = rest.split_first()?;
                (usize::from(*length), rest)
            }
            _ => return None,
        };
        rest.split_at_checked(length)
    }
    let (inside, after) = element(bytes, 0x30)?;
    let (first, inside) = element(inside, 0x02)?;
    let (second, inside) = element(inside, 0x02)?;
    (!first.is_empty() && !second.is_empty() && inside.is_empty()).then_some(after.len())
}

/// How an RSA signature is padded, and its hash.
fn rsa_scheme(
    hash: &str,
    pss: bool,
) -> Result<
    (&'static dyn signature::RsaEncoding, &'static signature::RsaParameters, &'static digest::Algorithm),
    Bad,
> {
    Ok(match (hash, pss) {
        ("sha2-256", true) => {
            (&signature::RSA_PSS_SHA256, &signature::RSA_PSS_2048_8192_SHA256, &digest::SHA256)
        }
        ("sha2-384", true) => {
            (&signature::RSA_PSS_SHA384, &signature::RSA_PSS_2048_8192_SHA384, &digest::SHA384)
        }
        ("sha2-512", true) => {
            (&signature::RSA_PSS_SHA512, &signature::RSA_PSS_2048_8192_SHA512, &digest::SHA512)
        }
        ("sha2-256", false) => {
            (&signature::RSA_PKCS1_SHA256, &signature::RSA_PKCS1_2048_8192_SHA256, &digest::SHA256)
        }
        ("sha2-384", false) => {
            (&signature::RSA_PKCS1_SHA384, &signature::RSA_PKCS1_2048_8192_SHA384, &digest::SHA384)
        }
        ("sha2-512", false) => {
            (&signature::RSA_PKCS1_SHA512, &signature::RSA_PKCS1_2048_8192_SHA512, &digest::SHA512)
        }
        (other, _) => {
            return Err(Bad::User(format!(
                "the embedded dev Vault signs with RSA over sha2-256, sha2-384 and sha2-512 only, not over {other}"
            )));
        }
    })
}

pub(super) fn rsa_sign(pair: &RsaKeyPair, hash: &str, pss: bool, digest: &[u8]) -> Result<Vec<u8>, Bad> {
    let (encoding, _, algorithm) = rsa_scheme(hash, pss)?;
    let Ok(digest) = digest::Digest::import_less_safe(digest, algorithm) else {
        return Err(Bad::Internal("crypto/rsa: input must be hashed with given hash".to_owned()));
    };
    let mut out = vec![0; pair.public_modulus_len()];
    pair.sign_digest(encoding, &digest, &mut out).map_err(Bad::crypto)?;
    Ok(out)
}

pub(super) fn rsa_verify(
    pair: &RsaKeyPair,
    hash: &str,
    pss: bool,
    digest: &[u8],
    signature: &[u8],
) -> Result<bool, Bad> {
    let (_, parameters, algorithm) = rsa_scheme(hash, pss)?;
    let Ok(digest) = digest::Digest::import_less_safe(digest, algorithm) else { return Ok(false) };
    Ok(UnparsedPublicKey::new(parameters, pair.public_key().as_ref())
        .verify_digest(&digest, signature)
        .is_ok())
}

pub(super) fn ed25519_sign(seed: &[u8], message: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Bad> {
    let failed = |_| Bad::Internal("the computation failed".to_owned());
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(failed)?;
    Ok((pair.sign(message).as_ref().to_vec(), pair.public_key().as_ref().to_vec()))
}

pub(super) fn ed25519_verify(seed: &[u8], message: &[u8], signature: &[u8]) -> Result<bool, Bad> {
    let failed = |_| Bad::Internal("the computation failed".to_owned());
    let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(failed)?;
    let public = UnparsedPublicKey::new(&signature::ED25519, pair.public_key().as_ref());
    Ok(public.verify(message, signature).is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_derived_key_is_that_of_rfc_5869() {
        // Test case 3: no salt, no info; the first 32 bytes.
        let derived = derive(&[0x0b; 22], b"", 32);
        let Ok(derived) = derived else { panic!("no key") };
        assert_eq!(hex::encode(derived), "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d");
    }

    #[test]
    fn a_digest_is_fitted_to_its_curve_as_a_number() {
        let curve = Kind::P384.curve().unwrap();
        let short = curve.digest(&[7; 32]).unwrap();
        assert_eq!(short.as_ref(), [[0; 16].as_slice(), &[7; 32]].concat());
        assert_eq!(curve.digest(&[7; 64]).unwrap().as_ref(), [7; 48]);
    }

    #[test]
    fn a_signature_that_is_no_sequence_is_told_from_one_with_more_behind_it() {
        assert_eq!(der_sequence(&[0x30, 6, 2, 1, 1, 2, 1, 1]), Some(0));
        assert_eq!(der_sequence(&[0x30, 6, 2, 1, 1, 2, 1, 1, 9]), Some(1));
        for bad in [&[][..], &[0x30], &[0, 0, 0], &[0x30, 3, 2, 1, 1], &[0x30, 7, 2, 1, 1, 2, 1, 1, 0]] {
            assert_eq!(der_sequence(bad), None, "{bad:?}");
        }
    }
}
