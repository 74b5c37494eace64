//! The AppRole auth method: roles, role ids, secret ids, login.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    engine::{Call, Engine},
    fields::Fields,
    login_params::TokenParams,
    random,
    wire::{Answer, Fault, Login, Object, Op, Reply, time},
};

/// One mount of it.
#[derive(Default)]
pub(super) struct AppRole {
    roles: BTreeMap<String, Role>,
}

struct Role {
    id: String,
    bind_secret_id: bool,
    secret_id_num_uses: i64,
    secret_id_ttl: i64,
    token: TokenParams,
    /// By the secret id itself.
    secrets: BTreeMap<String, SecretId>,
}

struct SecretId {
    accessor: String,
    num_uses: i64,
    ttl: i64,
    created: DateTime<Utc>,
    updated: DateTime<Utc>,
    metadata: Object,
}

impl SecretId {
    fn ends(&self) -> Option<DateTime<Utc>> {
        (self.ttl > 0).then(|| self.created + TimeDelta::seconds(self.ttl))
    }

    fn describe(&self) -> Value {
        json!({
            "cidr_list": [],
            "creation_time": time(self.created),
            "expiration_time": self.ends().map_or_else(|| "0001-01-01T00:00:00Z".to_owned(), time),
            "last_updated_time": time(self.updated),
            "metadata": self.metadata,
            "secret_id_accessor": self.accessor,
            "secret_id_num_uses": self.num_uses,
            "secret_id_ttl": self.ttl,
            "token_bound_cidrs": [],
        })
    }
}

impl Engine for AppRole {
    fn exists(&self, path: &str) -> Option<bool> {
        let role = path.strip_prefix("role/")?;
        (!role.contains('/')).then(|| self.roles.contains_key(&role.to_lowercase()))
    }

    fn fields(&self, path: &str) -> Option<&'static [&'static str]> {
        match path.trim_end_matches('/') {
            "login" => Some(&["role_id", "secret_id"]),
            path if path.ends_with("/secret-id") || path.ends_with("/custom-secret-id") => Some(&[
                "role_name",
                "secret_id",
                "metadata",
                "cidr_list",
                "token_bound_cidrs",
                "num_uses",
                "ttl",
            ]),
            _ => None,
        }
    }

    fn is_open(&self, path: &str) -> bool {
        path == "login"
    }

    fn handle(&mut self, call: &Call<'_>) -> Answer {
        for role in self.roles.values_mut() {
            role.secrets.retain(|_, secret| secret.ends().is_none_or(|at| at > call.now));
        }
        match call.path {
            "login" => self.login(call),
            "role" | "role/" => match call.op {
                Op::List => Ok(Some(Reply::keys(self.roles.keys().cloned().collect()))),
                _ => Err(Fault::unsupported_operation()),
            },
            path => match path.strip_prefix("role/") {
                Some(path) => {
                    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
                    self.role(call, &name.to_lowercase(), rest.trim_end_matches('/'))
                }
                None => Err(Fault::unsupported_path()),
            },
        }
    }
}

impl AppRole {
    fn role(&mut self, call: &Call<'_>, name: &str, rest: &str) -> Answer {
        let fields = Fields(call.data);
        if rest.is_empty() {
            return match call.op {
                Op::Read => Ok(self.roles.get(name).map(|role| Reply::data(role.describe()))),
                Op::Create | Op::Update => self.write(call, name),
                Op::Delete => {
                    self.roles.remove(name);
                    Ok(None)
                }
                _ => Err(Fault::unsupported_operation()),
            };
        }
        let missing = || Fault::new(StatusCode::NOT_FOUND, format!("role {name:?} does not exist"));
        let is_write = call.op.is_write();
        match (rest, call.op) {
            ("role-id", Op::Read) => {
                Ok(self.roles.get(name).map(|role| Reply::data(json!({ "role_id": role.id }))))
            }
            ("role-id", _) if is_write => {
                let id = fields.text_or_empty("role_id")?;
                if id.is_empty() {
                    return Err(Fault::bad("missing role_id"));
                }
                if self.roles.iter().any(|(known, role)| role.id == id && known != name) {
                    return Err(Fault::bad("role_id already in use"));
                }
                self.roles.get_mut(name).ok_or_else(missing)?.id = id;
                Ok(None)
            }
            ("secret-id", Op::List) => {
                let role = self.roles.get(name).ok_or_else(missing)?;
                Ok(Some(Reply::keys(role.secrets.values().map(|secret| secret.accessor.clone()).collect())))
            }
            ("secret-id", _) if is_write => {
                self.roles.get_mut(name).ok_or_else(missing)?.issue(call, random::uuid())
            }
            ("custom-secret-id", _) if is_write => {
                let id = fields.text_or_empty("secret_id")?;
                if id.is_empty() {
                    return Err(Fault::bad("missing secret_id"));
                }
                let role = self.roles.get_mut(name).ok_or_else(missing)?;
                if role.secrets.contains_key(&id) {
                    let text = "failed to store secret_id: SecretID is already registered";
                    return Err(Fault::list(StatusCode::INTERNAL_SERVER_ERROR, &[text]));
                }
                role.issue(call, id)
            }
            ("secret-id/lookup", _) if is_write => {
                let id = fields.text_or_empty("secret_id")?;
                let role = self.roles.get(name).ok_or_else(missing)?;
                Ok(role.secrets.get(&id).map(|secret| Reply::data(secret.describe())))
            }
            ("secret-id/destroy", _) if is_write || call.op == Op::Delete => {
                let id = fields.text_or_empty("secret_id")?;
                self.roles.get_mut(name).ok_or_else(missing)?.secrets.remove(&id);
                Ok(None)
            }
            ("secret-id-accessor/lookup", _) if is_write => {
                let accessor = fields.text_or_empty("secret_id_accessor")?;
                let role = self.roles.get(name).ok_or_else(missing)?;
                let found = role.secrets.values().find(|secret| secret.accessor == accessor);
                let found = found.ok_or_else(|| {
                    let text = "failed to find accessor entry for secret_id_accessor:";
                    Fault::new(StatusCode::NOT_FOUND, format!("{text} {accessor:?}"))
                })?;
                Ok(Some(Reply::data(found.describe())))
            }
            ("secret-id-accessor/destroy", _) if is_write || call.op == Op::Delete => {
                let accessor = fields.text_or_empty("secret_id_accessor")?;
                let role = self.roles.get_mut(name).ok_or_else(missing)?;
                role.secrets.retain(|_, secret| secret.accessor != accessor);
                Ok(None)
            }
            (
                "role-id"
                | "secret-id"
                | "custom-secret-id"
                | "secret-id/lookup"
                | "secret-id/destroy"
                | "secret-id-accessor/lookup"
                | "secret-id-accessor/destroy",
                _,
            ) => Err(Fault::unsupported_operation()),
            _ => Err(Fault::unsupported_path()),
        }
    }

    fn write(&mut self, call: &Call<'_>, name: &str) -> Answer {
        let fields = Fields(call.data);
        let known = self.roles.get(name);
        let mut token = known.map(|role| role.token.clone()).unwrap_or_default();
        token.update(&fields)?;
        let id = match fields.text("role_id")? {
            Some(id) if id.is_empty() => {
                return Err(Fault::bad("invalid role_id supplied, or failed to generate a role_id"));
            }
            Some(id) => id,
            None => known.map_or_else(random::uuid, |role| role.id.clone()),
        };
        let bind_secret_id =
            fields.bool("bind_secret_id")?.unwrap_or_else(|| known.is_none_or(|role| role.bind_secret_id));
        let secret_id_num_uses = fields
            .int("secret_id_num_uses")?
            .unwrap_or_else(|| known.map_or(0, |role| role.secret_id_num_uses));
        if secret_id_num_uses < 0 {
            return Err(Fault::bad("secret_id_num_uses cannot be negative"));
        }
        let secret_id_ttl =
            fields.seconds("secret_id_ttl")?.unwrap_or_else(|| known.map_or(0, |role| role.secret_id_ttl));
        if !bind_secret_id {
            return Err(Fault::list(
                StatusCode::INTERNAL_SERVER_ERROR,
                &[
                    "failed to validate role constraints: at least one constraint should be enabled on the role",
                ],
            ));
        }
        let secrets = self.roles.remove(name).map(|role| role.secrets).unwrap_or_default();
        let role = Role { id, bind_secret_id, secret_id_num_uses, secret_id_ttl, token, secrets };
        self.roles.insert(name.to_owned(), role);
        Ok(None)
    }

    fn login(&mut self, call: &Call<'_>) -> Answer {
        let fields = Fields(call.data);
        let role_id = fields.text_or_empty("role_id")?.trim().to_owned();
        if role_id.is_empty() {
            let text = "failed to determine alias name from login request";
            return Err(Fault::new(StatusCode::INTERNAL_SERVER_ERROR, text));
        }
        if !matches!(call.op, Op::Update | Op::Create) {
            return Err(Fault::unsupported_operation());
        }
        let refused = || Fault::bad("invalid role or secret ID");
        let (name, role) = self.roles.iter_mut().find(|(_, role)| role.id == role_id).ok_or_else(refused)?;
        let secret_id = fields.text_or_empty("secret_id")?.trim().to_owned();
        if secret_id.is_empty() {
            return Err(Fault::bad("missing secret_id"));
        }
        let secret = role.secrets.get_mut(&secret_id).ok_or_else(refused)?;
        let mut metadata = secret.metadata.clone();
        metadata.insert("role_name".to_owned(), json!(name));
        match secret.num_uses {
            0 => {}
            1 => {
                role.secrets.remove(&secret_id);
            }
            _ => {
                secret.num_uses -= 1;
                secret.updated = call.now;
            }
        }
        Ok(Some(Reply {
            login: Some(Box::new(Login {
                policies: role.token.policies.clone(),
                no_default_policy: role.token.no_default_policy,
                metadata,
                display_name: call.mount.trim_start_matches("auth/").trim_end_matches('/').to_owned(),
                alias: role_id,
                path: "login".to_owned(),
                limits: role.token.limits,
                warnings: Vec::new(),
            })),
            ..Reply::default()
        }))
    }
}

impl Role {
    fn describe(&self) -> Value {
        let mut out = Object::new();
        out.insert("bind_secret_id".to_owned(), json!(self.bind_secret_id));
        out.insert("local_secret_ids".to_owned(), json!(false));
        out.insert("secret_id_bound_cidrs".to_owned(), Value::Null);
        out.insert("secret_id_num_uses".to_owned(), json!(self.secret_id_num_uses));
        out.insert("secret_id_ttl".to_owned(), json!(self.secret_id_ttl));
        self.token.describe(&mut out);
        Value::Object(out)
    }

    fn issue(&mut self, call: &Call<'_>, id: String) -> Answer {
        let fields = Fields(call.data);
        let num_uses = match fields.int("num_uses")? {
            Some(uses) if uses < 0 => return Err(Fault::bad("num_uses cannot be negative")),
            Some(uses) if self.secret_id_num_uses > 0 && (uses == 0 || uses > self.secret_id_num_uses) => {
                return Err(Fault::bad("num_uses cannot be higher than the role's secret_id_num_uses"));
            }
            Some(uses) => uses,
            None => self.secret_id_num_uses,
        };
        let ttl = match fields.seconds("ttl")? {
            Some(ttl) if self.secret_id_ttl > 0 && (ttl == 0 || ttl > self.secret_id_ttl) => {
                return Err(Fault::bad("ttl cannot be longer than the role's secret_id_ttl"));
            }
            Some(ttl) => ttl,
            None => self.secret_id_ttl,
        };
        // The metadata is JSON inside a text.
        let metadata = match fields.text_or_empty("metadata")? {
            text if text.is_empty() => Object::new(),
            text => serde_json::from_str(&text)
                .map_err(|error| Fault::bad(format!("failed to parse metadata: {error}")))?,
        };
        let secret = SecretId {
            accessor: random::uuid(),
            num_uses,
            ttl,
            created: call.now,
            updated: call.now,
            metadata,
        };
        let reply = Reply::data(json!({
            "secret_id": id,
            "secret_id_accessor": secret.accessor,
            "secret_id_num_uses": num_uses,
            "secret_id_ttl": ttl,
        }));
        self.secrets.insert(id, secret);
        Ok(Some(reply))
    }
}
