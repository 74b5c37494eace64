//! Roles: which names a certificate may have, what it may be used for, how long it is good.

use http::StatusCode;
use serde::Serialize;
use serde_json::Value;
use x509_cert::der::oid::ObjectIdentifier;

use super::not_here;
use crate::dev::{
    fields::Fields,
    keypair::{Hash, Kind},
    wire::Fault,
};

pub(super) const FIELDS: &[&str] = &[
    "backend",
    "name",
    "ttl",
    "max_ttl",
    "allow_localhost",
    "allowed_domains",
    "allowed_domains_template",
    "allow_bare_domains",
    "allow_subdomains",
    "allow_glob_domains",
    "allow_wildcard_certificates",
    "allow_any_name",
    "enforce_hostnames",
    "allow_ip_sans",
    "allowed_uri_sans",
    "allowed_uri_sans_template",
    "allowed_other_sans",
    "allowed_serial_numbers",
    "allowed_user_ids",
    "server_flag",
    "client_flag",
    "code_signing_flag",
    "email_protection_flag",
    "key_type",
    "key_bits",
    "signature_bits",
    "use_pss",
    "key_usage",
    "ext_key_usage",
    "ext_key_usage_oids",
    "use_csr_common_name",
    "use_csr_sans",
    "serial_number_source",
    "ou",
    "organization",
    "country",
    "locality",
    "province",
    "street_address",
    "postal_code",
    "generate_lease",
    "no_store",
    "require_cn",
    "cn_validations",
    "policy_identifiers",
    "basic_constraints_valid_for_non_ca",
    "not_before_duration",
    "not_after",
    "issuer_ref",
];

/// A role, shown as Vault shows it. Times are in seconds; zero is "not set".
#[derive(Serialize, Default)]
pub(super) struct Role {
    pub(super) ttl: i64,
    pub(super) max_ttl: i64,
    pub(super) allow_localhost: bool,
    pub(super) allowed_domains: Vec<String>,
    pub(super) allowed_domains_template: bool,
    pub(super) allow_bare_domains: bool,
    /// Always false: Vault shows it and cannot set it any more.
    pub(super) allow_token_displayname: bool,
    pub(super) allow_subdomains: bool,
    pub(super) allow_glob_domains: bool,
    pub(super) allow_wildcard_certificates: bool,
    pub(super) allow_any_name: bool,
    pub(super) allowed_uri_sans_template: bool,
    pub(super) enforce_hostnames: bool,
    pub(super) allow_ip_sans: bool,
    pub(super) server_flag: bool,
    pub(super) client_flag: bool,
    pub(super) code_signing_flag: bool,
    pub(super) email_protection_flag: bool,
    pub(super) use_csr_common_name: bool,
    pub(super) use_csr_sans: bool,
    pub(super) serial_number_source: SerialNumberSource,
    #[serde(flatten)]
    pub(super) key: KeyChoice,
    pub(super) use_pss: bool,
    pub(super) key_usage: Vec<String>,
    pub(super) ext_key_usage: Vec<String>,
    pub(super) ext_key_usage_oids: Vec<String>,
    #[serde(flatten)]
    pub(super) subject: Subject,
    pub(super) no_store: bool,
    pub(super) allowed_other_sans: Vec<String>,
    pub(super) allowed_serial_numbers: Vec<String>,
    pub(super) allowed_user_ids: Vec<String>,
    pub(super) allowed_uri_sans: Vec<String>,
    pub(super) require_cn: bool,
    pub(super) cn_validations: Vec<CnValidation>,
    pub(super) policy_identifiers: Vec<String>,
    pub(super) basic_constraints_valid_for_non_ca: bool,
    pub(super) not_before_duration: i64,
    pub(super) not_after: String,
    pub(super) issuer_ref: String,
    pub(super) generate_lease: bool,
}

/// What the parts of a subject are, beside its common name.
#[derive(Serialize, Default)]
pub(super) struct Subject {
    pub(super) ou: Vec<String>,
    pub(super) organization: Vec<String>,
    pub(super) country: Vec<String>,
    pub(super) locality: Vec<String>,
    pub(super) province: Vec<String>,
    pub(super) street_address: Vec<String>,
    pub(super) postal_code: Vec<String>,
}

impl Subject {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        let list = |name: &str| Ok::<_, Fault>(fields.list(name)?.unwrap_or_default());
        Ok(Self {
            ou: list("ou")?,
            organization: list("organization")?,
            country: list("country")?,
            locality: list("locality")?,
            province: list("province")?,
            street_address: list("street_address")?,
            postal_code: list("postal_code")?,
        })
    }
}

/// Type of the keys that are made.
#[derive(Serialize, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "lowercase")]
pub(super) enum KeyType {
    #[default]
    Rsa,
    Ec,
    Ed25519,
    /// Only for signing what others made.
    Any,
}

/// The keys that are made, and the length of the hash of RSA signatures.
#[derive(Serialize, Clone, Copy, Default)]
pub(super) struct KeyChoice {
    pub(super) key_type: KeyType,
    key_bits: i64,
    signature_bits: i64,
}

impl KeyChoice {
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        let bits = fields.int("key_bits")?.unwrap_or_default();
        let hash = fields.int("signature_bits")?.unwrap_or_default();
        let or = |set: i64, usual: i64| if set == 0 { usual } else { set };
        let (key_type, key_bits, signature_bits) = match fields.text("key_type")?.as_deref() {
            None | Some("rsa") => (KeyType::Rsa, or(bits, 2048), or(hash, 256)),
            Some("ec") => (KeyType::Ec, or(bits, 256), hash),
            Some("ed25519") => (KeyType::Ed25519, bits, 0),
            Some("any") => (KeyType::Any, bits, 0),
            Some(other) => return Err(Fault::bad(format!("unknown key type {other}"))),
        };
        let fault = match key_type {
            KeyType::Rsa if key_bits < 2048 => {
                format!("RSA keys < 2048 bits are unsafe and not supported: got {key_bits}")
            }
            KeyType::Rsa if Kind::rsa(key_bits).is_none() => {
                format!("unsupported bit length for RSA key: {key_bits}")
            }
            KeyType::Rsa if ![256, 384, 512].contains(&signature_bits) => {
                format!("unsupported hash signature algorithm: {signature_bits}")
            }
            KeyType::Ec if key_bits == 224 => return Err(not_here("keys on P-224")),
            KeyType::Ec if Kind::ec(key_bits).is_none() => {
                format!("unsupported bit length for EC key: {key_bits}")
            }
            _ => return Ok(Self { key_type, key_bits, signature_bits }),
        };
        Err(Fault::bad(fault))
    }

    /// The key pair to make; `None` for "any".
    pub(super) fn kind(self) -> Option<Kind> {
        match self.key_type {
            KeyType::Rsa => Kind::rsa(self.key_bits),
            KeyType::Ec => Kind::ec(self.key_bits),
            KeyType::Ed25519 => Some(Kind::Ed25519),
            KeyType::Any => None,
        }
    }

    /// The hash for a signature by an RSA key.
    pub(super) fn hash(self) -> Hash {
        match self.signature_bits {
            384 => Hash::Sha384,
            512 => Hash::Sha512,
            _ => Hash::Sha256,
        }
    }
}

/// Where a subject's serial number comes from.
#[derive(Serialize, Clone, Copy, Default)]
#[serde(rename_all = "kebab-case")]
pub(super) enum SerialNumberSource {
    #[default]
    JsonCsr,
    Json,
}

/// What a common name may be.
#[derive(Serialize, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(super) enum CnValidation {
    Email,
    Hostname,
    Disabled,
}

impl Role {
    /// What an authority may be made with: any name.
    pub(super) fn for_authority(fields: &Fields<'_>, key: KeyChoice) -> Result<Self, Fault> {
        Ok(Self {
            ttl: fields.seconds("ttl")?.unwrap_or_default(),
            allow_localhost: true,
            allow_any_name: true,
            allow_ip_sans: true,
            allow_wildcard_certificates: true,
            key,
            key_usage: fields.list("key_usage")?.unwrap_or_default(),
            subject: Subject::read(fields)?,
            cn_validations: vec![CnValidation::Disabled],
            not_before_duration: fields.seconds("not_before_duration")?.unwrap_or(30),
            ..Self::default()
        })
    }

    /// The role that a request describes.
    pub(super) fn read(fields: &Fields<'_>, warnings: &mut Vec<String>) -> Result<Self, Fault> {
        let flag = |name: &str, usual: bool| Ok::<_, Fault>(fields.bool(name)?.unwrap_or(usual));
        let list = |name: &str| Ok::<_, Fault>(fields.list(name)?.unwrap_or_default());
        let (ttl, max_ttl) =
            (fields.seconds("ttl")?.unwrap_or_default(), fields.seconds("max_ttl")?.unwrap_or_default());
        let no_store = flag("no_store", false)?;
        let generate_lease = flag("generate_lease", false)?;
        if no_store && generate_lease {
            warnings.push(
                "mutually exclusive values no_store=true and generate_lease=true were both specified; \
                 no_store=true takes priority"
                    .to_owned(),
            );
        } else if generate_lease {
            warnings.push(
                "it is encouraged to disable generate_lease and rely on PKI's native capabilities when possible; \
                 this option can cause Vault-wide issues with large numbers of issued certificates"
                    .to_owned(),
            );
        }
        if max_ttl > 0 && ttl > max_ttl {
            return Err(Fault::bad(r#""ttl" value must be less than "max_ttl" value"#));
        }
        let key = KeyChoice::read(fields)?;
        let serial_number_source = match fields.text("serial_number_source")?.as_deref() {
            None | Some("json-csr") => SerialNumberSource::JsonCsr,
            Some("json") => SerialNumberSource::Json,
            Some(other) => return Err(Fault::bad(format!("unknown serial_number_source {other}"))),
        };
        for (name, what) in [
            ("allowed_domains_template", "identity templates"),
            ("allowed_uri_sans_template", "identity templates"),
            ("use_pss", "RSA-PSS signatures"),
        ] {
            if flag(name, false)? {
                return Err(not_here(what));
            }
        }
        let ext_key_usage_oids = list("ext_key_usage_oids")?;
        if let Some(bad) = ext_key_usage_oids.iter().find(|oid| ObjectIdentifier::new(oid).is_err()) {
            let text = "could not be parsed as a valid oid for an extended key usage";
            return Err(Fault::bad(format!("{bad:?} {text}")));
        }
        if !list("policy_identifiers")?.is_empty() {
            return Err(not_here("certificate policies"));
        }
        let usual = || ["DigitalSignature", "KeyAgreement", "KeyEncipherment"].map(str::to_owned).to_vec();
        let issuer_ref = match fields.text_or_empty("issuer_ref")? {
            none if none.is_empty() => "default".to_owned(),
            issuer => issuer,
        };
        Ok(Self {
            ttl,
            max_ttl,
            allow_localhost: flag("allow_localhost", true)?,
            allowed_domains: list("allowed_domains")?,
            allowed_domains_template: false,
            allow_bare_domains: flag("allow_bare_domains", false)?,
            allow_token_displayname: false,
            allow_subdomains: flag("allow_subdomains", false)?,
            allow_glob_domains: flag("allow_glob_domains", false)?,
            allow_wildcard_certificates: flag("allow_wildcard_certificates", true)?,
            allow_any_name: flag("allow_any_name", false)?,
            allowed_uri_sans_template: false,
            enforce_hostnames: flag("enforce_hostnames", true)?,
            allow_ip_sans: flag("allow_ip_sans", true)?,
            server_flag: flag("server_flag", true)?,
            client_flag: flag("client_flag", true)?,
            code_signing_flag: flag("code_signing_flag", false)?,
            email_protection_flag: flag("email_protection_flag", false)?,
            use_csr_common_name: flag("use_csr_common_name", true)?,
            use_csr_sans: flag("use_csr_sans", true)?,
            serial_number_source,
            key,
            use_pss: false,
            key_usage: fields.list("key_usage")?.unwrap_or_else(usual),
            ext_key_usage: list("ext_key_usage")?,
            ext_key_usage_oids,
            subject: Subject::read(fields)?,
            no_store,
            allowed_other_sans: list("allowed_other_sans")?,
            allowed_serial_numbers: list("allowed_serial_numbers")?,
            allowed_user_ids: list("allowed_user_ids")?,
            allowed_uri_sans: list("allowed_uri_sans")?,
            require_cn: flag("require_cn", true)?,
            cn_validations: cn_validations(&list("cn_validations")?)?,
            policy_identifiers: Vec::new(),
            basic_constraints_valid_for_non_ca: flag("basic_constraints_valid_for_non_ca", false)?,
            not_before_duration: fields.seconds("not_before_duration")?.unwrap_or(30),
            not_after: fields.text_or_empty("not_after")?,
            issuer_ref,
            generate_lease: generate_lease && !no_store,
        })
    }

    pub(super) fn describe(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The warning about a role whose issuer is not there.
    pub(super) fn without_issuer(&self) -> String {
        if self.issuer_ref == "default" {
            "Issuing Certificate was set to default, but no default issuing certificate (configurable at \
             /config/issuers) is currently set"
                .to_owned()
        } else {
            let name = &self.issuer_ref;
            format!(
                "Issuing Certificate was set to {name} but no issuing certificate currently has that name"
            )
        }
    }

    /// The object identifiers of what a certificate may be used for (RFC 5280, 4.2.1.12), in Vault's order.
    pub(super) fn extended_usages(&self) -> Vec<ObjectIdentifier> {
        const NAMES: &[(&str, &str)] = &[
            ("any", "2.5.29.37.0"),
            ("serverauth", "1.3.6.1.5.5.7.3.1"),
            ("clientauth", "1.3.6.1.5.5.7.3.2"),
            ("codesigning", "1.3.6.1.5.5.7.3.3"),
            ("emailprotection", "1.3.6.1.5.5.7.3.4"),
            ("ipsecendsystem", "1.3.6.1.5.5.7.3.5"),
            ("ipsectunnel", "1.3.6.1.5.5.7.3.6"),
            ("ipsecuser", "1.3.6.1.5.5.7.3.7"),
            ("timestamping", "1.3.6.1.5.5.7.3.8"),
            ("ocspsigning", "1.3.6.1.5.5.7.3.9"),
            ("microsoftservergatedcrypto", "1.3.6.1.4.1.311.10.3.3"),
            ("netscapeservergatedcrypto", "2.16.840.1.113730.4.1"),
        ];
        let named =
            |name: &str| self.ext_key_usage.iter().any(|usage| usage.trim().eq_ignore_ascii_case(name));
        let wanted = |name: &str| {
            named(name)
                || match name {
                    "serverauth" => self.server_flag,
                    "clientauth" => self.client_flag,
                    "codesigning" => self.code_signing_flag,
                    "emailprotection" => self.email_protection_flag,
                    _ => false,
                }
        };
        NAMES
            .iter()
            .filter(|(name, _)| wanted(name))
            .map(|(_, oid)| *oid)
            .chain(self.ext_key_usage_oids.iter().map(String::as_str))
            .filter_map(|oid| ObjectIdentifier::new(oid).ok())
            .collect()
    }
}

fn cn_validations(given: &[String]) -> Result<Vec<CnValidation>, Fault> {
    let fault = |text: String| {
        let text = format!("cn_validations value incorrect: {text}");
        Fault::list(StatusCode::INTERNAL_SERVER_ERROR, &[&text])
    };
    if given.is_empty() {
        return Ok(vec![CnValidation::Email, CnValidation::Hostname]);
    }
    let mut found = Vec::new();
    for text in given {
        let lower = text.to_lowercase();
        let one = match lower.as_str() {
            "email" => CnValidation::Email,
            "hostname" => CnValidation::Hostname,
            "disabled" => CnValidation::Disabled,
            _ => return Err(fault(format!("unknown type: `{text}`"))),
        };
        if found.contains(&one) {
            return Err(fault(format!("`{lower}` specified multiple times")));
        }
        found.push(one);
    }
    if found.contains(&CnValidation::Disabled) && found.len() > 1 {
        return Err(fault("cannot specify `disabled` along with `email` or `hostname`".to_owned()));
    }
    Ok(found)
}
