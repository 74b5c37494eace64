//! The key that signs certificates, and SSH's own forms of public keys and signatures (RFC 4253, 4251, 5656,
//! 8709).

use base64::{Engine as _, engine::general_purpose::STANDARD};
use der::{Decode, Sequence, asn1::UintRef};
use http::StatusCode;

use super::not_here;
use crate::dev::{
    fields::Fields,
    keypair::{Curve, Hash, KeyPair, Kind},
    wire::Fault,
};

pub(super) const FIELDS: &[&str] = &[
    "private_key",
    "public_key",
    "generate_signing_key",
    "key_type",
    "key_bits",
    "managed_key_name",
    "managed_key_id",
];

/// The authority of a mount.
pub(super) struct Authority {
    pair: KeyPair,
    /// Its public key as the wire has it, and in a line.
    blob: Vec<u8>,
    line: String,
}

impl Authority {
    /// A new key of the type that a request names.
    pub(super) fn generate(fields: &Fields<'_>) -> Result<Self, Fault> {
        if !fields.text_or_empty("managed_key_name")?.is_empty()
            || !fields.text_or_empty("managed_key_id")?.is_empty()
        {
            return Err(not_here("managed keys"));
        }
        let given = |name: &str| Ok(!fields.text_or_empty(name)?.is_empty());
        if given("public_key")? && given("private_key")? {
            return Err(not_here("import of a key; let it generate one"));
        }
        if !fields.bool("generate_signing_key")?.unwrap_or(true) {
            return Err(Fault::bad(
                "if generate_signing_key is false, either both public_key and private_key or a managed key must \
                 be provided",
            ));
        }
        let kind = fields.text("key_type")?.unwrap_or_else(|| "ssh-rsa".to_owned());
        let pair = KeyPair::generate(kind_of(&kind, fields.int("key_bits")?.unwrap_or_default())?)?;
        let blob = blob(&pair)?;
        let line = line(&blob)?;
        Ok(Self { pair, blob, line })
    }

    /// The public key as it stands in `TrustedUserCAKeys`, with its line break.
    pub(super) fn public(&self) -> &str {
        &self.line
    }

    pub(super) fn blob(&self) -> &[u8] {
        &self.blob
    }

    pub(super) fn is_rsa(&self) -> bool {
        matches!(self.pair, KeyPair::Rsa(_))
    }

    /// A signature as the wire has it; `hash` is for RSA.
    pub(super) fn sign(&self, message: &[u8], hash: Hash) -> Result<Vec<u8>, Fault> {
        let raw = self.pair.sign(message, hash)?;
        let mut out = Vec::new();
        match &self.pair {
            KeyPair::Ed25519(_) => {
                string(&mut out, b"ssh-ed25519");
                string(&mut out, &raw);
            }
            KeyPair::Ec(curve, _) => {
                let numbers = EcdsaSignature::from_der(&raw).map_err(|_| broken())?;
                let mut inner = Vec::new();
                mpint(&mut inner, numbers.r)?;
                mpint(&mut inner, numbers.s)?;
                string(&mut out, curve_names(*curve).0.as_bytes());
                string(&mut out, &inner);
            }
            KeyPair::Rsa(_) => {
                let name: &[u8] = if hash == Hash::Sha512 { b"rsa-sha2-512" } else { b"rsa-sha2-256" };
                string(&mut out, name);
                string(&mut out, &raw);
            }
        }
        Ok(out)
    }
}

/// RFC 3279, 2.2.3.
#[derive(Sequence)]
struct EcdsaSignature<'a> {
    r: UintRef<'a>,
    s: UintRef<'a>,
}

/// RFC 8017, A.1.1.
#[derive(Sequence)]
struct RsaPublicKey<'a> {
    modulus: UintRef<'a>,
    exponent: UintRef<'a>,
}

fn broken() -> Fault {
    Fault::bad("the embedded dev Vault could not write a key in SSH's form")
}

fn kind_of(name: &str, bits: i64) -> Result<Kind, Fault> {
    let internal = |text: String| Fault::list(StatusCode::INTERNAL_SERVER_ERROR, &[&text]);
    match name {
        "ssh-rsa" | "rsa" => match if bits == 0 { 4096 } else { bits } {
            bits if bits < 2048 => {
                Err(internal(format!("refusing to generate weak {name} key: {bits} bits < 2048 bits")))
            }
            bits => Kind::rsa(bits).ok_or_else(|| not_here(&format!("RSA keys of {bits} bits"))),
        },
        "ecdsa-sha2-nistp256" => Ok(Kind::Ec(Curve::P256)),
        "ecdsa-sha2-nistp384" => Ok(Kind::Ec(Curve::P384)),
        "ecdsa-sha2-nistp521" => Ok(Kind::Ec(Curve::P521)),
        "ec" => Kind::ec(if bits == 0 { 256 } else { bits })
            .ok_or_else(|| internal(format!("unknown ECDSA key pair algorithm and bits: {name} / {bits}"))),
        "ssh-ed25519" | "ed25519" => Ok(Kind::Ed25519),
        _ => Err(internal(format!("unknown ssh key pair algorithm: {name}"))),
    }
}

fn curve_names(curve: Curve) -> (&'static str, &'static str) {
    match curve {
        Curve::P256 => ("ecdsa-sha2-nistp256", "nistp256"),
        Curve::P384 => ("ecdsa-sha2-nistp384", "nistp384"),
        Curve::P521 => ("ecdsa-sha2-nistp521", "nistp521"),
    }
}

fn blob(pair: &KeyPair) -> Result<Vec<u8>, Fault> {
    let mut out = Vec::new();
    match pair {
        KeyPair::Ed25519(_) => {
            string(&mut out, b"ssh-ed25519");
            string(&mut out, pair.public());
        }
        KeyPair::Ec(curve, _) => {
            let (algorithm, name) = curve_names(*curve);
            string(&mut out, algorithm.as_bytes());
            string(&mut out, name.as_bytes());
            string(&mut out, pair.public());
        }
        KeyPair::Rsa(_) => {
            let key = RsaPublicKey::from_der(pair.public()).map_err(|_| broken())?;
            string(&mut out, b"ssh-rsa");
            mpint(&mut out, key.exponent)?;
            mpint(&mut out, key.modulus)?;
        }
    }
    Ok(out)
}

/// What the wire has, in a line: its type, then base64.
pub(super) fn line(blob: &[u8]) -> Result<String, Fault> {
    let kind = first_string(blob).ok_or_else(broken)?;
    Ok(format!("{} {}\n", String::from_utf8_lossy(kind), STANDARD.encode(blob)))
}

/// The string at the beginning of a blob.
pub(super) fn first_string(blob: &[u8]) -> Option<&[u8]> {
    let (length, rest) = blob.split_first_chunk::<4>()?;
    rest.get(..usize::try_from(u32::from_be_bytes(*length)).ok()?)
}

/// Appends a string: its length, then its bytes. What is longer than a request can be never gets here.
pub(super) fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend(u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend(bytes);
}

fn mpint(out: &mut Vec<u8>, number: UintRef<'_>) -> Result<(), Fault> {
    let number = ssh_key::Mpint::from_positive_bytes(number.as_bytes()).map_err(|_| broken())?;
    string(out, number.as_bytes());
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn public_keys_of_all_types_are_read_by_others() {
        for kind in [Kind::Ed25519, Kind::Ec(Curve::P256), Kind::Ec(Curve::P384), Kind::Ec(Curve::P521)] {
            let pair = KeyPair::generate(kind).unwrap();
            let line = line(&blob(&pair).unwrap()).unwrap();
            let key = ssh_key::PublicKey::from_openssh(line.trim()).unwrap();
            assert_eq!(line, key.to_openssh().unwrap() + "\n", "{kind:?}");
        }
    }
}
