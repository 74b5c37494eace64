//! Roles: what a password or a certificate may be for.

use std::collections::BTreeMap;

use http::StatusCode;
use ipnet::IpNet;
use serde::Serialize;
use serde_json::Value;

use super::not_here;
use crate::dev::{
    fields::{Fields, go_print, to_int},
    keypair::Hash,
    wire::Fault,
};

pub(super) const FIELDS: &[&str] = &[
    "role",
    "default_user",
    "default_user_template",
    "cidr_list",
    "exclude_cidr_list",
    "port",
    "key_type",
    "allowed_users",
    "allowed_users_template",
    "allowed_domains",
    "allowed_domains_template",
    "ttl",
    "max_ttl",
    "allowed_critical_options",
    "allowed_extensions",
    "default_critical_options",
    "default_extensions",
    "default_extensions_template",
    "allow_user_certificates",
    "allow_host_certificates",
    "allow_bare_domains",
    "allow_subdomains",
    "allow_user_key_ids",
    "key_id_format",
    "allowed_user_key_lengths",
    "algorithm_signer",
    "not_before_duration",
    "allow_empty_principals",
];

/// A role, shown as Vault shows it.
#[derive(Serialize)]
#[serde(tag = "key_type", rename_all = "lowercase")]
pub(super) enum Role {
    Otp(Otp),
    Ca(Box<Ca>),
}

/// A role for one-time passwords. Lists are texts with commas, as they came.
#[derive(Serialize)]
pub(super) struct Otp {
    pub(super) default_user: String,
    pub(super) cidr_list: String,
    pub(super) exclude_cidr_list: String,
    pub(super) port: i64,
    pub(super) allowed_users: String,
}

/// A role for certificates. Times are in seconds; zero is "not set".
#[derive(Serialize)]
pub(super) struct Ca {
    pub(super) allowed_users: String,
    allowed_users_template: bool,
    pub(super) allowed_domains: String,
    allowed_domains_template: bool,
    pub(super) default_user: String,
    default_user_template: bool,
    pub(super) ttl: i64,
    pub(super) max_ttl: i64,
    pub(super) allowed_critical_options: String,
    pub(super) allowed_extensions: String,
    pub(super) allow_user_certificates: bool,
    pub(super) allow_host_certificates: bool,
    pub(super) allow_bare_domains: bool,
    pub(super) allow_subdomains: bool,
    pub(super) allow_user_key_ids: bool,
    pub(super) key_id_format: String,
    pub(super) default_critical_options: BTreeMap<String, String>,
    pub(super) default_extensions: BTreeMap<String, String>,
    default_extensions_template: bool,
    pub(super) allowed_user_key_lengths: BTreeMap<String, Vec<i64>>,
    pub(super) algorithm_signer: Signer,
    pub(super) not_before_duration: i64,
    pub(super) allow_empty_principals: bool,
}

/// How an authority with an RSA key signs.
#[derive(Clone, Copy, PartialEq, Eq, Serialize)]
pub(super) enum Signer {
    #[serde(rename = "default")]
    Default,
    #[serde(rename = "rsa-sha2-256")]
    Sha256,
    #[serde(rename = "rsa-sha2-512")]
    Sha512,
}

impl Signer {
    pub(super) fn hash(self) -> Hash {
        if self == Self::Sha512 { Hash::Sha512 } else { Hash::Sha256 }
    }
}

impl Role {
    pub(super) fn key_type(&self) -> &'static str {
        match self {
            Self::Otp(_) => "otp",
            Self::Ca(_) => "ca",
        }
    }

    pub(super) fn describe(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }

    /// The role that a request describes, in Vault's order of checks.
    pub(super) fn read(fields: &Fields<'_>) -> Result<Self, Fault> {
        let allowed_users = fields.text_or_empty("allowed_users")?;
        let networks = |name: &str, entry: &str| {
            let list = fields.text_or_empty(name)?;
            for item in list.split(',').map(str::trim).filter(|item| !item.is_empty()) {
                if item.parse::<IpNet>().is_err() {
                    let text = format!("failed to validate {name}{entry}: invalid CIDR address: {item}");
                    return Err(Fault::list(StatusCode::INTERNAL_SERVER_ERROR, &[&text]));
                }
            }
            Ok(list)
        };
        let cidr_list = networks("cidr_list", "")?;
        let exclude_cidr_list = networks("exclude_cidr_list", " entry")?;
        let port = match fields.int("port")?.unwrap_or_default() {
            0 => 22,
            port => port,
        };
        let default_user = fields.text_or_empty("default_user")?;
        match fields.text_or_empty("key_type")?.to_lowercase().as_str() {
            "" => Err(Fault::bad("missing key type")),
            "otp" if default_user.is_empty() => Err(Fault::bad("missing default user")),
            "otp" => Ok(Self::Otp(Otp { default_user, cidr_list, exclude_cidr_list, port, allowed_users })),
            "dynamic" => Err(Fault::bad("dynamic key type roles are no longer supported")),
            "ca" => Ok(Self::Ca(Box::new(Ca::read(fields, allowed_users, default_user)?))),
            _ => Err(Fault::bad("invalid key type")),
        }
    }
}

impl Ca {
    fn read(fields: &Fields<'_>, allowed_users: String, default_user: String) -> Result<Self, Fault> {
        let algorithm_signer = match fields.text_or_empty("algorithm_signer")?.as_str() {
            "" | "default" => Signer::Default,
            "rsa-sha2-256" => Signer::Sha256,
            "rsa-sha2-512" => Signer::Sha512,
            "ssh-rsa" => return Err(not_here("signatures over SHA-1")),
            other => {
                let text = format!("unknown algorithm signer {other:?}");
                return Err(Fault::list(StatusCode::INTERNAL_SERVER_ERROR, &[&text]));
            }
        };
        let bool = |name: &str| Ok::<_, Fault>(fields.bool(name)?.unwrap_or_default());
        for name in [
            "allowed_users_template",
            "allowed_domains_template",
            "default_user_template",
            "default_extensions_template",
        ] {
            if bool(name)? {
                return Err(not_here("identity templates"));
            }
        }
        let role = Self {
            allowed_users,
            allowed_users_template: false,
            allowed_domains: fields.text_or_empty("allowed_domains")?,
            allowed_domains_template: false,
            default_user,
            default_user_template: false,
            ttl: fields.seconds("ttl")?.unwrap_or_default(),
            max_ttl: fields.seconds("max_ttl")?.unwrap_or_default(),
            allowed_critical_options: fields.text_or_empty("allowed_critical_options")?,
            allowed_extensions: fields.text_or_empty("allowed_extensions")?,
            allow_user_certificates: bool("allow_user_certificates")?,
            allow_host_certificates: bool("allow_host_certificates")?,
            allow_bare_domains: bool("allow_bare_domains")?,
            allow_subdomains: bool("allow_subdomains")?,
            allow_user_key_ids: bool("allow_user_key_ids")?,
            key_id_format: fields.text_or_empty("key_id_format")?,
            default_critical_options: options(fields, "default_critical_options")?,
            default_extensions: options(fields, "default_extensions")?,
            default_extensions_template: false,
            allowed_user_key_lengths: lengths(fields)?,
            algorithm_signer,
            not_before_duration: fields.seconds("not_before_duration")?.unwrap_or(30),
            allow_empty_principals: bool("allow_empty_principals")?,
        };
        if !role.allow_user_certificates && !role.allow_host_certificates {
            return Err(Fault::bad(
                "Either 'allow_user_certificates' or 'allow_host_certificates' must be set to 'true'",
            ));
        }
        if role.ttl != 0 && role.max_ttl != 0 && role.ttl > role.max_ttl {
            return Err(Fault::bad(r#""ttl" value must be less than "max_ttl" when both are specified"#));
        }
        Ok(role)
    }
}

/// Options or extensions: names with a text each.
pub(super) fn options(fields: &Fields<'_>, name: &str) -> Result<BTreeMap<String, String>, Fault> {
    let given = fields.object(name)?.unwrap_or_default();
    Ok(given.iter().map(|(key, value)| (key.clone(), go_print(value))).collect())
}

/// Which lengths of which types of keys are signed.
fn lengths(fields: &Fields<'_>) -> Result<BTreeMap<String, Vec<i64>>, Fault> {
    let given = fields.object("allowed_user_key_lengths")?.unwrap_or_default();
    let numbers = |value: &Value| match value {
        Value::Array(items) => items.iter().map(to_int).collect::<Option<Vec<_>>>(),
        single => to_int(single).map(|number| vec![number]),
    };
    given
        .iter()
        .map(|(key, value)| match numbers(value) {
            Some(numbers) => Ok((key.clone(), numbers)),
            None => {
                let text = format!("strconv.ParseInt: parsing {:?}: invalid syntax", go_print(value));
                Err(Fault::bad(format!("error processing allowed_user_key_lengths: {text}")))
            }
        })
        .collect()
}
