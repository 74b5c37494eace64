//! The seam between the core and what is mounted in it.
//!
//! The core routes, checks the token and the policies, and wraps; an engine only knows its own paths and
//! keeps its own data. A new type of mount is one module that implements [`Engine`] and one arm in
//! [`secrets`] or [`auth`].

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{
    approle::AppRole,
    kv1::Kv1,
    kv2::Kv2,
    pki::Pki,
    ssh::Ssh,
    transit::Transit,
    userpass::Userpass,
    wire::{Answer, Fault, Object, Op},
};

/// One call to an engine: allowed already, its path relative to the mount.
pub(super) struct Call<'a> {
    pub(super) op: Op,
    pub(super) path: &'a str,
    pub(super) data: &'a Object,
    pub(super) now: DateTime<Utc>,
    /// The mount's own path, `secret/` or `auth/approle/`.
    pub(super) mount: &'a str,
    /// How long what the mount issues lives.
    pub(super) lease: LeaseTimes,
    /// Who calls, for engines that record it.
    pub(super) caller: Caller<'a>,
}

/// The lease times of a mount, in seconds: what is set for it, else the server's.
#[derive(Clone, Copy, Default)]
pub(super) struct LeaseTimes {
    pub(super) default: i64,
    pub(super) max: i64,
}

/// The calling token as far as an engine may know it.
#[derive(Clone, Copy, Default)]
pub(super) struct Caller<'a> {
    pub(super) display_name: &'a str,
    pub(super) entity_id: &'a str,
    pub(super) client_id: &'a str,
}

/// What Vault takes for a name: it begins and ends with a word character; within, dots and hyphens, and what
/// `more` adds.
pub(super) fn is_name(text: &str, more: &[u8]) -> bool {
    let word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    text.bytes().all(|byte| word(byte) || matches!(byte, b'-' | b'.') || more.contains(&byte))
        && text.bytes().next().is_some_and(word)
        && text.bytes().next_back().is_some_and(word)
}

/// `what` as an answer that says that this is no real Vault.
pub(super) fn not_here(engine: &str, what: &str) -> Fault {
    Fault::bad(format!(
        "the embedded dev Vault's {engine} engine has no {what}; use a real `vault server -dev` for it"
    ))
}

/// What is mounted: keeps its data, answers its paths.
pub(super) trait Engine: Send {
    /// Whether the thing at `path` exists, where the engine tells a create from an update; else `None`.
    fn exists(&self, path: &str) -> Option<bool>;

    /// Whether `path` is open to callers without a token (a login).
    fn is_open(&self, _path: &str) -> bool {
        false
    }

    /// Whether `path` asks for `sudo`.
    fn needs_sudo(&self, _path: &str) -> bool {
        false
    }

    /// The fields that a path knows; others are answered with a warning. `None`: it takes any.
    fn fields(&self, _path: &str) -> Option<&'static [&'static str]> {
        None
    }

    /// The field that a path itself gives; one in the body is passed over, with a warning.
    fn captured(&self, _path: &str) -> Option<&'static str> {
        None
    }

    /// The lease of what [`Secret`](super::wire::Secret) names so is over.
    fn revoke(&mut self, _secret: &str, _now: DateTime<Utc>) {}

    /// Answers one call.
    fn handle(&mut self, call: &Call<'_>) -> Answer;
}

/// Why a mount could not be made.
pub(super) enum Refused {
    /// No Vault has such an engine.
    Unknown,
    /// A real Vault has it, this one does not.
    NotHere,
    /// The options do not fit the engine; the text says how.
    Options(String),
}

/// A secrets engine by its type, and the type and options to show for it.
pub(super) fn secrets(
    kind: &str,
    options: Option<&Object>,
) -> Result<(Box<dyn Engine>, String, Value), Refused> {
    let version = options.and_then(|options| options.get("version")).and_then(Value::as_str);
    let shown = |version: &str| {
        let mut options = options.cloned().unwrap_or_default();
        options.insert("version".to_owned(), json!(version));
        Value::Object(options)
    };
    match (kind, version) {
        ("kv-v2", _) | ("kv", Some("2")) => Ok((Box::new(Kv2::default()), "kv".to_owned(), shown("2"))),
        ("kv-v1", _) | ("kv", Some("1")) => Ok((Box::new(Kv1::default()), "kv".to_owned(), shown("1"))),
        ("kv", None | Some("")) => {
            let shown = options.cloned().unwrap_or_default();
            Ok((Box::new(Kv1::default()), "kv".to_owned(), Value::Object(shown)))
        }
        ("transit" | "ssh" | "pki", None) => {
            let shown = options.cloned().unwrap_or_default();
            let engine: Box<dyn Engine> = match kind {
                "transit" => Box::new(Transit::default()),
                "ssh" => Box::new(Ssh::default()),
                _ => Box::new(Pki::default()),
            };
            Ok((engine, kind.to_owned(), Value::Object(shown)))
        }
        ("kv", Some(_)) => {
            Err(Refused::Options("nil backend of type \"kv\" returned from factory".to_owned()))
        }
        (known, Some(_)) if UNVERSIONED.contains(&known) || ABSENT_SECRETS.contains(&known) => {
            Err(Refused::Options(format!("secrets engine {known:?} does not allow setting a version")))
        }
        (known, _) if ABSENT_SECRETS.contains(&known) => Err(Refused::NotHere),
        _ => Err(Refused::Unknown),
    }
}

/// An auth method by its type.
pub(super) fn auth(kind: &str) -> Result<Box<dyn Engine>, Refused> {
    match kind {
        "approle" => Ok(Box::new(AppRole::default())),
        "userpass" => Ok(Box::new(Userpass::default())),
        known if ABSENT_AUTH.contains(&known) => Err(Refused::NotHere),
        _ => Err(Refused::Unknown),
    }
}

/// Engines that are here and have no versions.
const UNVERSIONED: &[&str] = &["transit", "ssh", "pki"];

const ABSENT_SECRETS: &[&str] = &[
    "aws",
    "azure",
    "consul",
    "database",
    "gcp",
    "gcpkms",
    "kubernetes",
    "ldap",
    "mongodbatlas",
    "nomad",
    "openldap",
    "rabbitmq",
    "terraform",
    "totp",
];

const ABSENT_AUTH: &[&str] = &[
    "alicloud",
    "aws",
    "azure",
    "cert",
    "cf",
    "gcp",
    "github",
    "jwt",
    "kerberos",
    "kubernetes",
    "ldap",
    "oci",
    "oidc",
    "okta",
    "radius",
    "token",
];
