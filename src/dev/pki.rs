//! The PKI engine: an authority, roles, certificates that it issues and takes back.
//!
//! Certificates are real: `openssl verify` takes them, and a revocation list says which no more. There may be
//! several issuers, an intermediate among them. Signing a caller's request (but for an intermediate's), name
//! constraints, URLs in certificates, OCSP, ACME, tidying and imported keys are not here, and asking for them
//! says so.

mod certificate;
mod fetch;
mod format;
mod generate;
mod intermediate;
mod issue;
mod issuers;
mod names;
mod request;
mod revocation;
mod roles;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use self::{issuers::Issuers, revocation::Certificates, roles::Role};
use super::{
    engine::{self, Call, Engine},
    fields::Fields,
    wire::{Answer, Fault, Op, Reply},
};

/// One mount of it.
#[derive(Default)]
pub(super) struct Pki {
    roles: BTreeMap<String, Role>,
    issuers: Issuers,
    certificates: Certificates,
}

fn not_here(what: &str) -> Fault {
    engine::not_here("pki", what)
}

fn only(allowed: bool) -> Result<(), Fault> {
    if allowed { Ok(()) } else { Err(Fault::unsupported_operation()) }
}

impl Engine for Pki {
    fn exists(&self, _path: &str) -> Option<bool> {
        None
    }

    fn is_open(&self, path: &str) -> bool {
        matches!(path, "ca" | "ca/pem" | "ca_chain" | "crl" | "crl/pem") || path.starts_with("cert/")
    }

    fn needs_sudo(&self, path: &str) -> bool {
        path == "root"
    }

    fn fields(&self, path: &str) -> Option<&'static [&'static str]> {
        let (head, rest) = path.split_once('/').unwrap_or((path, ""));
        Some(match (head, rest) {
            ("roles", "") | ("certs", _) | ("crl", "rotate") | ("root", "") => &[],
            ("roles", _) => roles::FIELDS,
            ("issue", _) => issue::FIELDS,
            ("revoke", "") => &["serial_number", "certificate"],
            ("root", "sign-intermediate") => intermediate::FIELDS,
            ("root" | "intermediate", rest) if rest.starts_with("generate/") => generate::FIELDS,
            ("intermediate", "set-signed") => &["certificate"],
            _ => return None,
        })
    }

    fn captured(&self, path: &str) -> Option<&'static str> {
        match path.split_once('/')? {
            ("roles", name) if !name.is_empty() => Some("name"),
            ("issue", _) => Some("role"),
            (_, rest) if rest.starts_with("generate/") => Some("exported"),
            _ => None,
        }
    }

    fn handle(&mut self, call: &Call<'_>) -> Answer {
        let path = call.path.trim_end_matches('/');
        let (head, rest) = path.split_once('/').unwrap_or((path, ""));
        // A list's path ends in a slash, and only these may.
        if path != call.path && !matches!(path, "roles" | "certs" | "certs/revoked") {
            return Err(Fault::unsupported_path());
        }
        match (head, rest) {
            ("roles", "") => {
                only(call.op == Op::List)?;
                Ok(Some(Reply::keys(self.roles.keys().cloned().collect())))
            }
            ("roles" | "issue", name) if !engine::is_name(name, b"") => Err(Fault::unsupported_path()),
            ("roles", name) => self.role(call, name),
            ("issue", name) => {
                only(call.op.is_write())?;
                issue::issue(call, name, &self.roles, &self.issuers, &mut self.certificates)
            }
            ("revoke", "") => {
                only(call.op.is_write())?;
                self.certificates.revoke_by_request(call, &self.issuers)
            }
            ("root", "") => {
                only(call.op == Op::Delete)?;
                self.issuers = Issuers::default();
                Ok(Some(Reply::warning(
                    "DELETE /root deletes all keys and issuers; prefer the new DELETE /key/:key_ref and DELETE \
                     /issuer/:issuer_ref for finer granularity, unless removal of all keys and issuers is desired.",
                )))
            }
            ("root", "sign-intermediate") => {
                only(call.op.is_write())?;
                self.issuers.sign_intermediate(call, &mut self.certificates)
            }
            ("root", rest) if let Some(how) = rest.strip_prefix("generate/") => {
                only(call.op.is_write())?;
                self.issuers.generate_root(call, how, &mut self.certificates)
            }
            ("intermediate", rest) if let Some(how) = rest.strip_prefix("generate/") => {
                only(call.op.is_write())?;
                self.issuers.generate_intermediate(call, how)
            }
            ("intermediate", "set-signed") => {
                only(call.op.is_write())?;
                self.issuers.set_signed(call)
            }
            ("root" | "intermediate", "generate") => Err(Fault::unsupported_path()),
            ("ca" | "ca_chain" | "crl" | "cert" | "certs", rest) => {
                fetch::fetch(call, head, rest, &self.issuers, &self.certificates)
            }
            (
                "acme" | "config" | "eab" | "issuer" | "issuers" | "key" | "keys" | "intermediate" | "ocsp"
                | "revoke-with-key" | "root" | "sign" | "sign-verbatim" | "tidy" | "tidy-cancel"
                | "tidy-status",
                _,
            ) => Err(not_here(&format!("path {path:?}"))),
            _ => Err(Fault::unsupported_path()),
        }
    }

    fn revoke(&mut self, secret: &str, now: DateTime<Utc>) {
        self.certificates.revoke(secret, now);
    }
}

impl Pki {
    fn role(&mut self, call: &Call<'_>, name: &str) -> Answer {
        match call.op {
            Op::Read => Ok(self.roles.get(name).map(|role| Reply::data(role.describe()))),
            Op::Create | Op::Update => {
                let mut warnings = Vec::new();
                let role = Role::read(&Fields(call.data), &mut warnings)?;
                if self.issuers.find(&role.issuer_ref).is_err() {
                    // Before the other warnings, as Vault has it.
                    warnings.insert(0, role.without_issuer());
                }
                let mut reply = Reply::data(role.describe());
                reply.warnings = warnings;
                self.roles.insert(name.to_owned(), role);
                Ok(Some(reply))
            }
            Op::Delete => {
                self.roles.remove(name);
                Ok(None)
            }
            Op::Patch => Err(not_here("changes to parts of a role; write it anew")),
            _ => Err(Fault::unsupported_operation()),
        }
    }
}
