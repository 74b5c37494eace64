//! `sign/{role}`: what a role allows, made into a certificate (OpenSSH's PROTOCOL.certkeys).
//!
//! The certificate is put together here and not by the builder of `ssh-key`, which in debug builds verifies its
//! own signature and cannot without the cryptography that we leave out.

use std::collections::BTreeMap;

use aws_lc_rs::digest;
use base64::{DecodeError, Engine as _, engine::general_purpose::STANDARD};
use http::StatusCode;
use serde_json::json;
use ssh_key::{Algorithm, public::KeyData};

use super::{
    authority::{self, Authority, string},
    roles::{Ca, Role, options},
};
use crate::dev::{
    duration,
    engine::Call,
    fields::Fields,
    keypair::Hash,
    random,
    wire::{Answer, Fault, Reply},
};

pub(super) const FIELDS: &[&str] = &[
    "role",
    "ttl",
    "public_key",
    "valid_principals",
    "cert_type",
    "key_id",
    "critical_options",
    "extensions",
];

/// Whom a certificate is about, by its number in it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum CertType {
    User = 1,
    Host = 2,
}

/// A public key that a caller wants signed.
struct PublicKey {
    blob: Vec<u8>,
    data: KeyData,
}

pub(super) fn sign(call: &Call<'_>, name: &str, role: &Role, authority: Option<&Authority>) -> Answer {
    let fields = Fields(call.data);
    let key = fields.text_or_empty("public_key")?;
    if key.is_empty() {
        return Err(Fault::bad("missing public_key"));
    }
    let key = PublicKey::parse(&key)
        .map_err(|text| Fault::bad(format!("failed to parse public_key as SSH key: {text}")))?;
    let Role::Ca(role) = role else {
        // A role for passwords allows nothing of what a certificate asks for.
        let kind = fields.text("cert_type")?.unwrap_or_else(|| "user".to_owned());
        return Err(forbidden(&kind));
    };
    role.check_length(&key.data)?;
    let key_id = role.key_id(&fields, call.caller.display_name, name, &key.blob)?;
    let kind = match fields.text("cert_type")?.unwrap_or_else(|| "user".to_owned()).as_str() {
        "user" if role.allow_user_certificates => CertType::User,
        "host" if role.allow_host_certificates => CertType::Host,
        other => return Err(forbidden(other)),
    };
    let principals = role.principals(&fields, kind)?;
    let ttl = role.lifetime(&fields, call)?;
    let critical_options = role.critical_options(&fields)?;
    let extensions = role.extensions(&fields)?;
    let authority = authority.ok_or_else(|| {
        let text = "error creating signer: no keys configured";
        Fault::list(StatusCode::INTERNAL_SERVER_ERROR, &[text])
    })?;
    let hash = if authority.is_rsa() { role.algorithm_signer.hash() } else { Hash::Sha256 };
    let certificate = Certificate {
        key: &key,
        serial: u64::from_be_bytes(random::bytes()),
        kind,
        key_id: &key_id,
        principals: &principals,
        valid_after: duration::earlier(call.now, role.not_before_duration).timestamp().cast_unsigned(),
        valid_before: duration::later(call.now, ttl).timestamp().cast_unsigned(),
        critical_options: &critical_options,
        extensions: &extensions,
    };
    Ok(Some(Reply::data(json!({
        "serial_number": format!("{:x}", certificate.serial),
        "signed_key": authority::line(&certificate.signed_by(authority, hash)?)?,
    }))))
}

fn forbidden(kind: &str) -> Fault {
    Fault::bad(match kind {
        "user" | "host" => format!("cert_type '{kind}' is not allowed by role"),
        _ => "cert_type must be either 'user' or 'host'".to_owned(),
    })
}

impl PublicKey {
    /// Base64, or a line with it in the second place. The error is Go's.
    fn parse(text: &str) -> Result<Self, String> {
        let text = text.split(' ').nth(1).unwrap_or(text);
        let text: String = text.chars().filter(|letter| !matches!(letter, '\r' | '\n')).collect();
        let blob = STANDARD.decode(&text).map_err(|error| {
            let at = match error {
                DecodeError::InvalidByte(at, _) | DecodeError::InvalidLastSymbol { offset: at, .. } => at,
                _ => text.len() / 4 * 4,
            };
            format!("illegal base64 data at input byte {at}")
        })?;
        let name = String::from_utf8_lossy(authority::first_string(&blob).ok_or("ssh: short read")?);
        if !matches!(Algorithm::new(&name), Ok(known) if !matches!(known, Algorithm::Other(_))) {
            return Err(format!("ssh: unknown key algorithm: {name}"));
        }
        let data = ssh_key::PublicKey::from_bytes(&blob).map_err(|_| "ssh: short read")?.key_data().clone();
        Ok(Self { blob, data })
    }
}

impl Ca {
    /// Whether the role signs keys of this type and length.
    fn check_length(&self, key: &KeyData) -> Result<(), Fault> {
        if self.allowed_user_key_lengths.is_empty() {
            return Ok(());
        }
        let bits = |number: &ssh_key::Mpint| {
            let bytes = number.as_positive_bytes().unwrap_or_default();
            let first = bytes.first().map_or(0, |byte| byte.leading_zeros());
            i64::try_from(bytes.len() * 8).unwrap_or(i64::MAX) - i64::from(first)
        };
        let (kind, bits, names): (_, _, &[&str]) = match key {
            KeyData::Rsa(key) => ("rsa", bits(&key.n), &["rsa", "ssh-rsa"]),
            KeyData::Dsa(key) => ("dsa", bits(&key.p), &["dsa", "ssh-dss"]),
            KeyData::Ecdsa(key) => match key.curve() {
                ssh_key::EcdsaCurve::NistP256 => ("ecdsa", 256, &["ecdsa", "ec", "ecdsa-sha2-nistp256"]),
                ssh_key::EcdsaCurve::NistP384 => ("ecdsa", 384, &["ecdsa", "ec", "ecdsa-sha2-nistp384"]),
                ssh_key::EcdsaCurve::NistP521 => ("ecdsa", 521, &["ecdsa", "ec", "ecdsa-sha2-nistp521"]),
            },
            KeyData::Ed25519(_) => ("ed25519", 0, &["ed25519", "ssh-ed25519"]),
            _ => return Err(Fault::bad(unmet("public key type of  is not allowed"))),
        };
        let allowed: Vec<_> = names
            .iter()
            .filter_map(|name| Some((*name, self.allowed_user_key_lengths.get(*name)?)))
            .collect();
        if allowed.is_empty() {
            return Err(Fault::bad(unmet(&format!("key of type {kind} is not allowed"))));
        }
        // The name of a curve says the length already.
        let any = |name: &str| kind == "ed25519" || name.starts_with("ecdsa-");
        if allowed.iter().any(|(name, lengths)| lengths.contains(&bits) || (any(name) && !lengths.is_empty()))
        {
            return Ok(());
        }
        Err(Fault::bad(unmet(&format!("key is of an invalid size: {bits}"))))
    }

    fn key_id(
        &self,
        fields: &Fields<'_>,
        display_name: &str,
        role: &str,
        key: &[u8],
    ) -> Result<String, Fault> {
        let asked = fields.text_or_empty("key_id")?;
        if !asked.is_empty() {
            if !self.allow_user_key_ids {
                return Err(Fault::bad("setting key_id is not allowed by role"));
            }
            return Ok(asked);
        }
        let format = match self.key_id_format.as_str() {
            "" if display_name.is_empty() => "vault-{{public_key_hash}}",
            "" => "vault-{{token_display_name}}-{{public_key_hash}}",
            format => format,
        };
        let hash = hex::encode(digest::digest(&digest::SHA256, key));
        Ok(format
            .replace("{{token_display_name}}", display_name)
            .replace("{{role_name}}", role)
            .replace("{{public_key_hash}}", &hash))
    }

    fn principals(&self, fields: &Fields<'_>, kind: CertType) -> Result<Vec<String>, Fault> {
        let (default, allowed) = match kind {
            CertType::User => (self.default_user.as_str(), self.allowed_users.as_str()),
            CertType::Host => ("", self.allowed_domains.as_str()),
        };
        let mut asked = match fields.text("valid_principals")? {
            Some(text) => list(&text),
            None => list(default),
        };
        if asked.is_empty() && !default.is_empty() {
            asked = vec![default.to_owned()];
        }
        let names = list(allowed);
        if asked.is_empty() {
            return if self.allow_empty_principals {
                Ok(asked)
            } else {
                Err(Fault::bad("empty valid principals not allowed by role"))
            };
        }
        if names.is_empty() {
            return Err(Fault::bad("role is not configured to allow any principals"));
        }
        if allowed != "*" {
            let fits = |principal: &String| match kind {
                CertType::User => names.contains(principal),
                CertType::Host => names.iter().any(|domain| {
                    let below =
                        principal.strip_suffix(domain.as_str()).is_some_and(|rest| rest.ends_with('.'));
                    (self.allow_bare_domains && domain == principal) || (self.allow_subdomains && below)
                }),
            };
            if let Some(other) = asked.iter().find(|principal| !fits(principal)) {
                return Err(Fault::bad(format!("{other} is not a valid value for valid_principals")));
            }
        }
        Ok(asked)
    }

    fn lifetime(&self, fields: &Fields<'_>, call: &Call<'_>) -> Result<i64, Fault> {
        let asked = fields.seconds("ttl")?;
        let ttl = match asked.unwrap_or(self.ttl) {
            0 => call.lease.default,
            ttl => ttl,
        };
        let max = if self.max_ttl == 0 { call.lease.max } else { self.max_ttl };
        match asked {
            Some(_) if ttl > max => Err(Fault::bad(format!("ttl is larger than maximum allowed {max}"))),
            _ => Ok(ttl.min(max)),
        }
    }

    fn critical_options(&self, fields: &Fields<'_>) -> Result<BTreeMap<String, String>, Fault> {
        let asked = options(fields, "critical_options")?;
        if asked.is_empty() {
            return Ok(self.default_critical_options.clone());
        }
        let allowed: Vec<&str> = self.allowed_critical_options.split(',').collect();
        let other = refused(&asked, &allowed);
        if !self.allowed_critical_options.is_empty() && !other.is_empty() {
            return Err(Fault::bad(format!("critical options not on allowed list: [{other}]")));
        }
        Ok(asked)
    }

    fn extensions(&self, fields: &Fields<'_>) -> Result<BTreeMap<String, String>, Fault> {
        let asked = options(fields, "extensions")?;
        if asked.is_empty() {
            return Ok(self.default_extensions.clone());
        }
        let allowed: Vec<&str> = self.allowed_extensions.split(',').collect();
        let other = refused(&asked, &allowed);
        if self.allowed_extensions != "*" && !other.is_empty() {
            return Err(Fault::bad(format!("extensions [{other}] are not on allowed list")));
        }
        Ok(asked)
    }
}

fn unmet(text: &str) -> String {
    format!("public_key failed to meet the key requirements: {text}")
}

/// The names that are not on a list, as Go prints them.
fn refused(asked: &BTreeMap<String, String>, allowed: &[&str]) -> String {
    let other: Vec<&str> = asked.keys().map(String::as_str).filter(|name| !allowed.contains(name)).collect();
    other.join(" ")
}

/// The items of a text with commas, each once, in order of the alphabet.
fn list(text: &str) -> Vec<String> {
    let mut items: Vec<String> =
        text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect();
    items.sort_unstable();
    items.dedup();
    items
}

/// What a certificate says.
struct Certificate<'a> {
    key: &'a PublicKey,
    serial: u64,
    kind: CertType,
    key_id: &'a str,
    principals: &'a [String],
    /// Unix times.
    valid_after: u64,
    valid_before: u64,
    critical_options: &'a BTreeMap<String, String>,
    extensions: &'a BTreeMap<String, String>,
}

impl Certificate<'_> {
    fn signed_by(&self, authority: &Authority, hash: Hash) -> Result<Vec<u8>, Fault> {
        let mut out = Vec::new();
        string(&mut out, self.key.data.algorithm().to_certificate_type().as_bytes());
        string(&mut out, &random::bytes::<32>());
        // The key again, without the name of its type.
        let name = authority::first_string(&self.key.blob).map_or(0, <[u8]>::len);
        out.extend(self.key.blob.get(4 + name..).unwrap_or_default());
        out.extend(self.serial.to_be_bytes());
        out.extend((self.kind as u32).to_be_bytes());
        string(&mut out, self.key_id.as_bytes());
        let mut principals = Vec::new();
        for principal in self.principals {
            string(&mut principals, principal.as_bytes());
        }
        string(&mut out, &principals);
        out.extend(self.valid_after.to_be_bytes());
        out.extend(self.valid_before.to_be_bytes());
        string(&mut out, &packed(self.critical_options));
        string(&mut out, &packed(self.extensions));
        // Reserved.
        string(&mut out, b"");
        string(&mut out, authority.blob());
        let signature = authority.sign(&out, hash)?;
        string(&mut out, &signature);
        Ok(out)
    }
}

/// Names in order, each with its value in a string of its own; no value is an empty string.
fn packed(options: &BTreeMap<String, String>) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, value) in options {
        string(&mut out, name.as_bytes());
        let mut inner = Vec::new();
        if !value.is_empty() {
            string(&mut inner, value.as_bytes());
        }
        string(&mut out, &inner);
    }
    out
}
