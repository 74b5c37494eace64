//! One-time passwords: issued for one user on one host, verified once.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use http::StatusCode;
use ipnet::IpNet;
use serde_json::json;

use super::roles::{Otp, Role};
use crate::dev::{
    engine::Call,
    fields::Fields,
    random,
    wire::{Answer, Fault, Op, Reply, Secret},
};

/// What was issued and not yet verified, and the roles that are for any address.
#[derive(Default)]
pub(super) struct Passwords {
    issued: BTreeMap<String, Login>,
    any_address: BTreeSet<String>,
}

struct Login {
    role: String,
    username: String,
    ip: IpAddr,
}

impl Passwords {
    /// `creds/{role}`.
    pub(super) fn issue(&mut self, call: &Call<'_>, name: &str, role: Option<&Role>) -> Answer {
        let fields = Fields(call.data);
        let ip = fields.text_or_empty("ip")?;
        if ip.is_empty() {
            return Err(Fault::bad("Missing ip"));
        }
        let role = role.ok_or_else(|| Fault::bad(format!("Role {name:?} not found")))?;
        let (default_user, allowed) = match role {
            Role::Otp(role) => (role.default_user.as_str(), role.allowed_users.as_str()),
            Role::Ca(role) => (role.default_user.as_str(), role.allowed_users.as_str()),
        };
        let username = match fields.text_or_empty("username")? {
            none if none.is_empty() && default_user.is_empty() => {
                return Err(Fault::bad("No default username registered. Use 'username' option"));
            }
            none if none.is_empty() => default_user.to_owned(),
            username => username,
        };
        let listed =
            !allowed.is_empty() && (allowed == "*" || allowed.split(',').any(|user| user.trim() == username));
        if username != default_user && !listed {
            return Err(Fault::bad(if allowed.is_empty() {
                "Username has to be either in allowed users list or has to be a default username"
            } else {
                "Username is not present is allowed users list"
            }));
        }
        let ip: IpAddr = match ip.parse::<IpAddr>() {
            Ok(ip) => ip.to_canonical(),
            Err(_) => return Err(Fault::bad(format!("Invalid IP {ip:?}"))),
        };
        let outside = || Fault::bad("Error validating IP: IP does not belong to role");
        let role = match role {
            Role::Otp(role) => role,
            // A role for certificates has no networks; only one for any address comes this far.
            Role::Ca(_) if self.any_address.contains(name) => {
                return Err(Fault::list(StatusCode::INTERNAL_SERVER_ERROR, &["key type unknown"]));
            }
            Role::Ca(_) => return Err(outside()),
        };
        if !self.any_address.contains(name) && !role.allows(ip) {
            return Err(outside());
        }
        let key = random::uuid();
        let mut reply = Reply::data(json!({
            "key_type": "otp",
            "key": key,
            "username": username,
            "ip": ip.to_string(),
            "port": role.port,
        }));
        reply.secret = Some(Secret { name: key.clone(), ttl: call.lease.default });
        self.issued.insert(key, Login { role: name.to_owned(), username, ip });
        Ok(Some(reply))
    }

    /// `verify`, as the helper on a host asks it, without a token.
    pub(super) fn verify(&mut self, call: &Call<'_>) -> Answer {
        let otp = Fields(call.data).text_or_empty("otp")?;
        // The helper's question whether it reaches its Vault.
        if otp == "verify-echo-request" {
            return Ok(Some(Reply::data(json!({ "message": "verify-echo-response" }))));
        }
        let login = self.issued.remove(&otp).ok_or_else(|| Fault::bad("OTP not found"))?;
        Ok(Some(Reply::data(json!({
            "username": login.username,
            "ip": login.ip.to_string(),
            "role_name": login.role,
        }))))
    }

    /// `lookup`: the roles for an address.
    pub(super) fn lookup(&self, call: &Call<'_>, roles: &BTreeMap<String, Role>) -> Answer {
        let ip = Fields(call.data).text_or_empty("ip")?;
        if ip.is_empty() {
            return Err(Fault::bad("Missing ip"));
        }
        // Go prints the address that it could not read.
        let ip: IpAddr = ip.parse().map_err(|_| Fault::bad(r#"Invalid IP "<nil>""#))?;
        let within = |role: &Role| matches!(role, Role::Otp(role) if within(&role.cidr_list, ip));
        let mut names: Vec<&String> =
            roles.iter().filter(|(_, role)| within(role)).map(|(name, _)| name).collect();
        names.extend(&self.any_address);
        let names = (!names.is_empty()).then_some(names);
        Ok(Some(Reply::data(json!({ "roles": names }))))
    }

    /// `config/zeroaddress`: the roles that are for any address.
    pub(super) fn any_address(&mut self, call: &Call<'_>, roles: &BTreeMap<String, Role>) -> Answer {
        match call.op {
            Op::Read if self.any_address.is_empty() => Ok(None),
            Op::Read => Ok(Some(Reply::data(json!({ "roles": self.any_address })))),
            Op::Create | Op::Update => {
                let names = Fields(call.data).list("roles")?.unwrap_or_default();
                if names.is_empty() {
                    return Err(Fault::bad("Missing roles"));
                }
                if let Some(unknown) = names.iter().find(|name| !roles.contains_key(*name)) {
                    return Err(Fault::bad(format!("Role {unknown:?} does not exist")));
                }
                self.any_address = names.into_iter().collect();
                Ok(None)
            }
            Op::Delete => {
                self.any_address.clear();
                Ok(None)
            }
            _ => Err(Fault::unsupported_operation()),
        }
    }

    pub(super) fn forget(&mut self, otp: &str) {
        self.issued.remove(otp);
    }

    pub(super) fn forget_role(&mut self, name: &str) {
        self.any_address.remove(name);
    }
}

impl Otp {
    fn allows(&self, ip: IpAddr) -> bool {
        within(&self.cidr_list, ip) && !within(&self.exclude_cidr_list, ip)
    }
}

/// Whether an address is in one of the networks of a list with commas.
fn within(list: &str, ip: IpAddr) -> bool {
    list.split(',').filter_map(|item| item.trim().parse::<IpNet>().ok()).any(|network| network.contains(&ip))
}
