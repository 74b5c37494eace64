//! Key pairs that sign: made, shown in both halves, used. The authorities of SSH and PKI have one each, and so
//! has every certificate that PKI issues.
//!
//! What a signature looks like inside a certificate is the engines' own affair; here it is what X.509 wants: a
//! DER sequence for ECDSA (RFC 3279), the bytes themselves for Ed25519 and RSA.

use aws_lc_rs::{
    encoding::{AsDer, EcPrivateKeyRfc5915Der, Pkcs8V1Der, PublicKeyX509Der},
    rand::SystemRandom,
    rsa::{KeyPair as RsaKeyPair, KeySize},
    signature::{
        ECDSA_P256_SHA256_ASN1, ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1,
        ECDSA_P384_SHA384_ASN1_SIGNING, ECDSA_P521_SHA512_ASN1, ECDSA_P521_SHA512_ASN1_SIGNING, ED25519,
        EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_2048_8192_SHA256,
        RSA_PKCS1_2048_8192_SHA384, RSA_PKCS1_2048_8192_SHA512, RSA_PKCS1_SHA256, RSA_PKCS1_SHA384,
        RSA_PKCS1_SHA512, RsaEncoding, VerificationAlgorithm,
    },
};
use der::{Decode, Sequence, asn1::OctetStringRef};
use spki::AlgorithmIdentifierRef;
use x509_cert::spki;

use super::{pem, random, wire::Fault};

/// A curve of NIST's.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    fn signing(self) -> &'static EcdsaSigningAlgorithm {
        match self {
            Self::P256 => &ECDSA_P256_SHA256_ASN1_SIGNING,
            Self::P384 => &ECDSA_P384_SHA384_ASN1_SIGNING,
            Self::P521 => &ECDSA_P521_SHA512_ASN1_SIGNING,
        }
    }
}

/// Type of a key pair.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    Ed25519,
    Ec(Curve),
    Rsa(KeySize),
}

impl Kind {
    /// An RSA key of this length; `None` for lengths that are not made here.
    pub(super) fn rsa(bits: i64) -> Option<Self> {
        Some(Self::Rsa(match bits {
            2048 => KeySize::Rsa2048,
            3072 => KeySize::Rsa3072,
            4096 => KeySize::Rsa4096,
            8192 => KeySize::Rsa8192,
            _ => return None,
        }))
    }

    /// A key on the curve of this length.
    pub(super) fn ec(bits: i64) -> Option<Self> {
        Some(Self::Ec(match bits {
            256 => Curve::P256,
            384 => Curve::P384,
            521 => Curve::P521,
            _ => return None,
        }))
    }
}

/// The hash of an RSA signature; the other types have their own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Hash {
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    fn signing(self) -> &'static dyn RsaEncoding {
        match self {
            Self::Sha256 => &RSA_PKCS1_SHA256,
            Self::Sha384 => &RSA_PKCS1_SHA384,
            Self::Sha512 => &RSA_PKCS1_SHA512,
        }
    }
}

/// How a signature of a key pair was made.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Scheme {
    Ed25519,
    Ecdsa(Curve),
    Rsa(Hash),
}

impl Scheme {
    /// How such a signature is verified.
    pub(super) fn verifying(self) -> &'static dyn VerificationAlgorithm {
        match self {
            Self::Ed25519 => &ED25519,
            Self::Ecdsa(Curve::P256) => &ECDSA_P256_SHA256_ASN1,
            Self::Ecdsa(Curve::P384) => &ECDSA_P384_SHA384_ASN1,
            Self::Ecdsa(Curve::P521) => &ECDSA_P521_SHA512_ASN1,
            Self::Rsa(Hash::Sha256) => &RSA_PKCS1_2048_8192_SHA256,
            Self::Rsa(Hash::Sha384) => &RSA_PKCS1_2048_8192_SHA384,
            Self::Rsa(Hash::Sha512) => &RSA_PKCS1_2048_8192_SHA512,
        }
    }
}

/// A private key with its public half.
pub(super) enum KeyPair {
    Ed25519(Ed25519KeyPair),
    Ec(Curve, EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

fn failed<E>(_: E) -> Fault {
    Fault::bad("the embedded dev Vault could not use the key")
}

impl KeyPair {
    /// A new one. Ed25519 takes microseconds; the first ECDSA key of the process waits tens of milliseconds for
    /// the generator of aws-lc-rs; RSA takes up to seconds.
    pub(super) fn generate(kind: Kind) -> Result<Self, Fault> {
        Ok(match kind {
            // From the system's generator, see `random`.
            Kind::Ed25519 => {
                Self::Ed25519(Ed25519KeyPair::from_seed_unchecked(&random::bytes::<32>()).map_err(failed)?)
            }
            Kind::Ec(curve) => Self::Ec(curve, EcdsaKeyPair::generate(curve.signing()).map_err(failed)?),
            Kind::Rsa(size) => Self::Rsa(Box::new(RsaKeyPair::generate(size).map_err(failed)?)),
        })
    }

    /// How it signs; `hash` is for RSA.
    pub(super) fn scheme(&self, hash: Hash) -> Scheme {
        match self {
            Self::Ed25519(_) => Scheme::Ed25519,
            Self::Ec(curve, _) => Scheme::Ecdsa(*curve),
            Self::Rsa(_) => Scheme::Rsa(hash),
        }
    }

    /// A signature over a message; `hash` is for RSA.
    pub(super) fn sign(&self, message: &[u8], hash: Hash) -> Result<Vec<u8>, Fault> {
        Ok(match self {
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Self::Ec(_, pair) => pair.sign(&SystemRandom::new(), message).map_err(failed)?.as_ref().to_vec(),
            Self::Rsa(pair) => {
                let mut out = vec![0; pair.public_modulus_len()];
                pair.sign(hash.signing(), &SystemRandom::new(), message, &mut out).map_err(failed)?;
                out
            }
        })
    }

    /// The public half by itself: 32 bytes, a point without compression, or PKCS#1.
    pub(super) fn public(&self) -> &[u8] {
        match self {
            Self::Ed25519(pair) => pair.public_key().as_ref(),
            Self::Ec(_, pair) => pair.public_key().as_ref(),
            Self::Rsa(pair) => pair.public_key().as_ref(),
        }
    }

    /// The public half as X.509 has it (`SubjectPublicKeyInfo`, DER).
    pub(super) fn public_der(&self) -> Result<Vec<u8>, Fault> {
        let der: PublicKeyX509Der<'_> = match self {
            Self::Ed25519(pair) => pair.public_key().as_der(),
            Self::Ec(_, pair) => pair.public_key().as_der(),
            Self::Rsa(pair) => pair.public_key().as_der(),
        }
        .map_err(failed)?;
        Ok(der.as_ref().to_vec())
    }

    /// The private half in PKCS#8.
    pub(super) fn pkcs8(&self) -> Result<Vec<u8>, Fault> {
        Ok(match self {
            Self::Ed25519(pair) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            Self::Ec(_, pair) => pair.to_pkcs8v1().map_err(failed)?.as_ref().to_vec(),
            Self::Rsa(pair) => {
                let der: Pkcs8V1Der<'_> = pair.as_der().map_err(failed)?;
                der.as_ref().to_vec()
            }
        })
    }

    /// The private half in the form that is older than PKCS#8, where the type has one, and its PEM label.
    pub(super) fn traditional(&self) -> Result<(&'static str, Vec<u8>), Fault> {
        Ok(match self {
            Self::Ed25519(_) => (pem::PRIVATE_KEY, self.pkcs8()?),
            Self::Ec(_, pair) => {
                let der: EcPrivateKeyRfc5915Der<'_> = pair.private_key().as_der().map_err(failed)?;
                (pem::EC_PRIVATE_KEY, der.as_ref().to_vec())
            }
            Self::Rsa(_) => {
                let pkcs8 = self.pkcs8()?;
                let key = PrivateKeyInfo::from_der(&pkcs8).map_err(failed)?;
                (pem::RSA_PRIVATE_KEY, key.private_key.as_bytes().to_vec())
            }
        })
    }
}

/// RFC 5208, 5, without the attributes that nobody writes.
#[derive(Sequence)]
struct PrivateKeyInfo<'a> {
    _version: u8,
    _algorithm: AlgorithmIdentifierRef<'a>,
    private_key: &'a OctetStringRef,
}
