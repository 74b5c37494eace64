//! `root/generate/…` and `intermediate/generate/…`: new authorities, and requests that another one may sign.

use serde_json::{Value, json};
use x509_cert::{
    der::flagset::FlagSet,
    ext::pkix::{BasicConstraints, KeyUsages},
};

use super::{
    certificate::{self, By, Signer, Template},
    format::Format,
    issuers::{Issuer, Issuers, Key},
    not_here,
    request::{Outliving, Wanted},
    revocation::Certificates,
    roles::{KeyChoice, Role},
};
use crate::dev::{
    engine::{Call, is_name},
    fields::Fields,
    keypair::KeyPair,
    pem, random,
    wire::{Answer, Fault, Object, Reply},
};

pub(super) const FIELDS: &[&str] = &[
    "exported",
    "common_name",
    "alt_names",
    "ip_sans",
    "uri_sans",
    "other_sans",
    "serial_number",
    "exclude_cn_from_sans",
    "ttl",
    "not_after",
    "not_before_duration",
    "format",
    "private_key_format",
    "key_type",
    "key_bits",
    "key_name",
    "key_ref",
    "key_usage",
    "signature_bits",
    "use_pss",
    "max_path_length",
    "issuer_name",
    "permitted_dns_domains",
    "excluded_dns_domains",
    "permitted_ip_ranges",
    "excluded_ip_ranges",
    "permitted_email_addresses",
    "excluded_email_addresses",
    "permitted_uri_domains",
    "excluded_uri_domains",
    "managed_key_name",
    "managed_key_id",
    "add_basic_constraints",
    "ou",
    "organization",
    "country",
    "locality",
    "province",
    "street_address",
    "postal_code",
];

/// Vault's words about a mount that names no addresses for its lists and issuers.
pub(super) const NO_URLS: &str = "This mount hasn't configured any authority information access (AIA) fields; this may make it harder for systems \
     to find missing certificates in the chain or to validate revocation status of certificates. Consider updating \
     /config/urls or the newly generated issuer with this information.";

/// Vault's words about an authority without a name.
pub(super) const NO_SUBJECT: &str = "This issuer certificate was generated without a Subject; this makes it likely that issuing leaf certs with this \
     certificate will cause TLS validation libraries to reject this certificate.";

/// What a request for a new authority says: where its key goes, and what it is for.
struct Generation {
    exported: bool,
    format: Format,
    role: Role,
}

impl Generation {
    fn read(call: &Call<'_>, how: &str) -> Result<Self, Fault> {
        let fields = Fields(call.data);
        let exported = match how {
            "internal" => false,
            "exported" => true,
            "existing" => return Err(not_here("authorities over an existing key")),
            "kms" => return Err(not_here("managed keys")),
            _ if !is_name(how, b"") => return Err(Fault::unsupported_path()),
            _ => {
                return Err(Fault::bad(
                    "the \"exported\" path parameter must be \"internal\", \"existing\", exported\" or \"kms\"",
                ));
            }
        };
        let format = Format::read(&fields)?.ok_or_else(Format::unknown)?;
        let key = KeyChoice::read(&fields)?;
        constrained_names(&fields)?;
        if fields.bool("use_pss")?.unwrap_or_default() {
            return Err(not_here("RSA-PSS signatures"));
        }
        Ok(Self { exported, format, role: Role::for_authority(&fields, key)? })
    }

    fn pair(&self) -> Result<KeyPair, Fault> {
        let kind = self.role.key.kind().ok_or_else(|| Fault::bad("unknown key type any"))?;
        KeyPair::generate(kind)
    }

    /// The private key, when it is to be shown.
    fn exported(&self, pair: &KeyPair, fields: &Fields<'_>) -> Result<Object, Fault> {
        let mut data = Object::new();
        if self.exported {
            data.insert("private_key".to_owned(), json!(self.format.private_key(pair, fields)?));
            data.insert("private_key_type".to_owned(), json!(self.role.key.key_type));
        }
        Ok(data)
    }

    fn signer<'a>(&self, pair: &'a KeyPair) -> Signer<'a> {
        Signer { pair, hash: self.role.key.hash() }
    }
}

/// Refuses a request that would bind an authority to some names.
pub(super) fn constrained_names(fields: &Fields<'_>) -> Result<(), Fault> {
    for kind in ["dns_domains", "ip_ranges", "email_addresses", "uri_domains"] {
        for rule in ["permitted", "excluded"] {
            if !fields.list(&format!("{rule}_{kind}"))?.unwrap_or_default().is_empty() {
                return Err(not_here("name constraints"));
            }
        }
    }
    Ok(())
}

/// What an authority's key is for: signing, and what else was asked for and may be.
pub(super) fn authority_usage(asked: &[String]) -> FlagSet<KeyUsages> {
    let signing = KeyUsages::KeyCertSign | KeyUsages::CRLSign;
    let digital = asked.iter().any(|usage| usage.trim().eq_ignore_ascii_case("digitalsignature"));
    if digital { signing | KeyUsages::DigitalSignature } else { signing }
}

/// What is wrong with the usages that were asked for an authority's key; they are passed over.
pub(super) fn unfit_usages(asked: &[String]) -> Option<String> {
    let unfit: Vec<String> = asked
        .iter()
        .filter_map(|usage| match usage.trim().to_lowercase().as_str() {
            "crlsign" | "certsign" | "digitalsignature" => None,
            "contentcommitment" | "keyencipherment" | "dataencipherment" | "keyagreement"
            | "encipheronly" | "decipheronly" => {
                Some(format!("key usage {usage} is only valid for non-Ca certs"))
            }
            _ => Some(format!("unrecognized key usage {usage}")),
        })
        .collect();
    (!unfit.is_empty()).then(|| unfit.join("; "))
}

/// `max_path_length`: none when it is left out or negative.
pub(super) fn path_length(fields: &Fields<'_>) -> Result<Option<u8>, Fault> {
    Ok(fields.int("max_path_length")?.and_then(|length| u8::try_from(length).ok()))
}

impl Issuers {
    /// `root/generate/{how}`.
    pub(super) fn generate_root(
        &mut self,
        call: &Call<'_>,
        how: &str,
        certificates: &mut Certificates,
    ) -> Answer {
        let asked = Generation::read(call, how)?;
        let fields = Fields(call.data);
        let issuer_name = self.new_issuer_name(&fields)?;
        let key_name = self.new_key_name(&fields)?;
        let wanted = Wanted::read(call, &asked.role, None, Outliving::Refused, None)?;
        let pair = asked.pair()?;
        let length = path_length(&fields)?;
        let template = Template {
            subject: certificate::subject(&wanted.common_name, &asked.role.subject)?,
            names: &wanted.names,
            not_before: wanted.not_before,
            not_after: wanted.not_after,
            key_usage: authority_usage(&asked.role.key_usage),
            extended_usages: Vec::new(),
            constraints: Some(BasicConstraints { ca: true, path_len_constraint: length }),
            public_key: certificate::public_key(&pair)?,
        };
        let has_subject = !template.subject.is_empty();
        let made = certificate::issue(template, &By::Itself(asked.signer(&pair)))?;

        let key = Key { id: random::uuid(), name: key_name, pair };
        let issuer =
            Issuer { id: random::uuid(), name: issuer_name, certificate: made, key: Some(key.id.clone()) };
        let own = asked.format.certificate(&issuer.certificate)?;
        let mut data = asked.exported(&key.pair, &fields)?;
        let certificate = match data.get("private_key").and_then(Value::as_str) {
            Some(secret) if asked.format == Format::PemBundle => format!("{secret}\n{own}"),
            _ => own.clone(),
        };
        for (name, value) in [
            ("certificate", json!(certificate)),
            ("issuing_ca", json!(own)),
            ("expiration", json!(issuer.not_after().timestamp())),
            ("serial_number", json!(issuer.serial())),
            ("issuer_id", json!(issuer.id)),
            ("issuer_name", json!(issuer.name)),
            ("key_id", json!(key.id)),
            ("key_name", json!(key.name)),
        ] {
            data.insert(name.to_owned(), value);
        }
        let unfit = unfit_usages(&asked.role.key_usage);
        let mut warnings: Vec<String> =
            unfit.map(|text| format!("Invalid key usage will be ignored: {text}")).into_iter().collect();
        if !has_subject {
            warnings.push(NO_SUBJECT.to_owned());
        }
        warnings.push(NO_URLS.to_owned());
        if length == Some(0) {
            warnings.push(
                "Max path length of the generated certificate is zero. This certificate cannot be used to issue \
                 intermediate CA certificates."
                    .to_owned(),
            );
        }
        certificates.keep(&issuer.certificate, &issuer.id)?;
        self.keep(issuer, key);
        Ok(Some(Reply { data: Some(data), warnings, ..Reply::default() }))
    }

    /// `intermediate/generate/{how}`: a key, and a request that another authority may sign.
    pub(super) fn generate_intermediate(&mut self, call: &Call<'_>, how: &str) -> Answer {
        let asked = Generation::read(call, how)?;
        let fields = Fields(call.data);
        let key_name = self.new_key_name(&fields)?;
        if fields.bool("add_basic_constraints")?.unwrap_or_default() {
            return Err(not_here("requests with basic constraints"));
        }
        let wanted = Wanted::read(call, &asked.role, None, Outliving::Refused, None)?;
        let pair = asked.pair()?;
        let subject = certificate::subject(&wanted.common_name, &asked.role.subject)?;
        let der = certificate::request(subject, &wanted.names, asked.signer(&pair))?;
        let mut data = asked.exported(&pair, &fields)?;
        let text = asked.format.text(pem::REQUEST, &der);
        let text = match data.get("private_key").and_then(Value::as_str) {
            Some(secret) if asked.format == Format::PemBundle => format!("{secret}\n{text}"),
            _ => text,
        };
        let key = Key { id: random::uuid(), name: key_name, pair };
        data.insert("csr".to_owned(), json!(text));
        data.insert("key_id".to_owned(), json!(key.id));
        self.keep_key(key);
        let warning = format!(
            "{NO_URLS} Since this certificate is an intermediate, it might be useful to regenerate this certificate \
             after fixing this problem for the root mount."
        );
        Ok(Some(Reply { data: Some(data), warnings: vec![warning], ..Reply::default() }))
    }
}
