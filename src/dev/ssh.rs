//! The SSH engine: one-time passwords, and certificates signed by an authority of its own.
//!
//! Certificates are real: an sshd that trusts the authority takes them. Identity templates, managed keys, key
//! pairs made by the server (`issue/…`) and SHA-1 signatures are not here, and asking for them says so.

mod authority;
mod otp;
mod roles;
mod sign;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::json;

use self::{authority::Authority, otp::Passwords, roles::Role};
use super::{
    engine::{self, Call, Engine},
    fields::Fields,
    wire::{Answer, Fault, Op, Reply},
};

/// One mount of it.
#[derive(Default)]
pub(super) struct Ssh {
    roles: BTreeMap<String, Role>,
    authority: Option<Authority>,
    passwords: Passwords,
}

fn not_here(what: &str) -> Fault {
    engine::not_here("ssh", what)
}

fn only(allowed: bool) -> Result<(), Fault> {
    if allowed { Ok(()) } else { Err(Fault::unsupported_operation()) }
}

impl Engine for Ssh {
    fn exists(&self, _path: &str) -> Option<bool> {
        None
    }

    fn is_open(&self, path: &str) -> bool {
        matches!(path, "verify" | "public_key")
    }

    fn fields(&self, path: &str) -> Option<&'static [&'static str]> {
        let (head, rest) = path.split_once('/').unwrap_or((path, ""));
        Some(match (head, rest) {
            ("roles", "") | ("public_key", "") => &[],
            ("roles", _) => roles::FIELDS,
            ("creds", _) => &["role", "username", "ip"],
            ("lookup", "") => &["ip"],
            ("verify", "") => &["otp"],
            ("config", "zeroaddress") => &["roles"],
            ("config", "ca") => authority::FIELDS,
            ("sign", _) => sign::FIELDS,
            _ => return None,
        })
    }

    fn captured(&self, path: &str) -> Option<&'static str> {
        ["roles/", "creds/", "sign/"].iter().any(|head| path.starts_with(head)).then_some("role")
    }

    fn handle(&mut self, call: &Call<'_>) -> Answer {
        let path = call.path.trim_end_matches('/');
        let (head, rest) = path.split_once('/').unwrap_or((path, ""));
        // A list's path ends in a slash, and only one path may.
        if path != call.path && path != "roles" {
            return Err(Fault::unsupported_path());
        }
        match (head, rest) {
            ("roles", "") => {
                only(call.op == Op::List)?;
                Ok(Some(self.list_roles()))
            }
            ("roles" | "creds" | "sign" | "issue", name) if !engine::is_name(name, b"@") => {
                Err(Fault::unsupported_path())
            }
            ("roles", name) => self.role(call, name),
            ("creds", name) => {
                only(call.op.is_write())?;
                let role = self.roles.get(name);
                self.passwords.issue(call, name, role)
            }
            ("sign", name) => {
                only(call.op.is_write())?;
                let role = self.roles.get(name).ok_or_else(|| Fault::bad(format!("Unknown role: {name}")))?;
                sign::sign(call, name, role, self.authority.as_ref())
            }
            ("issue", _) => Err(not_here("key pairs made by the server")),
            ("lookup", "") => {
                only(call.op.is_write())?;
                self.passwords.lookup(call, &self.roles)
            }
            ("verify", "") => {
                only(call.op.is_write())?;
                self.passwords.verify(call)
            }
            ("config", "zeroaddress") => self.passwords.any_address(call, &self.roles),
            ("config", "ca") => self.configure(call),
            ("public_key", "") => {
                only(call.op == Op::Read)?;
                let shown = |authority: &Authority| authority.public().to_owned().into_bytes();
                Ok(self.authority.as_ref().map(|authority| Reply::plain("text/plain", shown(authority))))
            }
            _ => Err(Fault::unsupported_path()),
        }
    }

    fn revoke(&mut self, secret: &str, _now: DateTime<Utc>) {
        self.passwords.forget(secret);
    }
}

impl Ssh {
    fn list_roles(&self) -> Reply {
        if self.roles.is_empty() {
            return Reply::keys(Vec::new());
        }
        let info: serde_json::Map<_, _> = self
            .roles
            .iter()
            .map(|(name, role)| (name.clone(), json!({ "key_type": role.key_type() })))
            .collect();
        Reply::data(json!({ "keys": self.roles.keys().collect::<Vec<_>>(), "key_info": info }))
    }

    fn role(&mut self, call: &Call<'_>, name: &str) -> Answer {
        match call.op {
            Op::Read => Ok(self.roles.get(name).map(|role| Reply::data(role.describe()))),
            Op::Create | Op::Update => {
                let role = Role::read(&Fields(call.data))?;
                self.roles.insert(name.to_owned(), role);
                Ok(None)
            }
            Op::Delete => {
                self.roles.remove(name);
                self.passwords.forget_role(name);
                Ok(None)
            }
            _ => Err(Fault::unsupported_operation()),
        }
    }

    fn configure(&mut self, call: &Call<'_>) -> Answer {
        match call.op {
            Op::Read => match &self.authority {
                Some(authority) => Ok(Some(Reply::data(json!({ "public_key": authority.public() })))),
                None => Err(Fault::bad("keys haven't been configured yet")),
            },
            Op::Create | Op::Update => {
                if self.authority.is_some() {
                    let text = "keys are already configured; delete them before reconfiguring";
                    return Err(Fault::bad(text));
                }
                let authority = self.authority.insert(Authority::generate(&Fields(call.data))?);
                Ok(Some(Reply::data(json!({ "public_key": authority.public() }))))
            }
            Op::Delete => {
                self.authority = None;
                Ok(None)
            }
            _ => Err(Fault::unsupported_operation()),
        }
    }
}
