//! The userpass auth method: users with a password, login.
//!
//! Passwords are kept as salted digests; the process is on loopback and forgets all at exit, so there is no
//! slow hash.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{Context, SHA256};
use serde_json::{Value, json};
use subtle::ConstantTimeEq;

use super::{
    engine::{Call, Engine},
    fields::Fields,
    login_params::TokenParams,
    random,
    wire::{Answer, Fault, Login, Object, Op, Reply},
};

/// One mount of it.
#[derive(Default)]
pub(super) struct Userpass {
    users: BTreeMap<String, User>,
}

struct User {
    password: Password,
    token: TokenParams,
}

struct Password {
    salt: [u8; 16],
    digest: Vec<u8>,
}

impl Password {
    fn new(text: &str) -> Self {
        let salt = random::bytes::<16>();
        Self { digest: digest(&salt, text), salt }
    }

    fn is(&self, text: &str) -> bool {
        self.digest.ct_eq(&digest(&self.salt, text)).into()
    }
}

fn digest(salt: &[u8], text: &str) -> Vec<u8> {
    let mut context = Context::new(&SHA256);
    context.update(salt);
    context.update(text.as_bytes());
    context.finish().as_ref().to_vec()
}

impl Engine for Userpass {
    fn exists(&self, path: &str) -> Option<bool> {
        let name = path.strip_prefix("users/")?;
        (!name.contains('/')).then(|| self.users.contains_key(&name.to_lowercase()))
    }

    fn fields(&self, path: &str) -> Option<&'static [&'static str]> {
        path.starts_with("login/").then_some(&["username", "password"])
    }

    fn is_open(&self, path: &str) -> bool {
        path.strip_prefix("login/").is_some_and(|name| !name.is_empty())
    }

    fn handle(&mut self, call: &Call<'_>) -> Answer {
        if let Some(name) = call.path.strip_prefix("login/") {
            return self.login(call, &name.to_lowercase());
        }
        let Some(rest) = call.path.strip_prefix("users") else { return Err(Fault::unsupported_path()) };
        let rest = rest.trim_start_matches('/').to_lowercase();
        if rest.is_empty() {
            return match call.op {
                Op::List => Ok(Some(Reply::keys(self.users.keys().cloned().collect()))),
                _ => Err(Fault::unsupported_operation()),
            };
        }
        let fields = Fields(call.data);
        match (rest.split_once('/'), call.op) {
            (None, Op::Read) => Ok(self.users.get(&rest).map(|user| {
                let mut out = Object::new();
                user.token.describe(&mut out);
                Reply::data(Value::Object(out))
            })),
            (None, Op::Create | Op::Update) => self.write(&fields, rest),
            (None, Op::Delete) => {
                self.users.remove(&rest);
                Ok(None)
            }
            (Some((name, "password")), Op::Create | Op::Update) => {
                let password = fields.text_or_empty("password")?;
                if password.is_empty() {
                    return Err(Fault::bad("missing password"));
                }
                let user = self.users.get_mut(name).ok_or_else(unknown)?;
                user.password = Password::new(&password);
                Ok(None)
            }
            (Some((name, "policies")), Op::Create | Op::Update) => {
                self.users.get_mut(name).ok_or_else(unknown)?.token.update(&fields)?;
                Ok(None)
            }
            (Some((_, "password" | "policies")) | None, _) => Err(Fault::unsupported_operation()),
            _ => Err(Fault::unsupported_path()),
        }
    }
}

fn unknown() -> Fault {
    Fault::bad("username does not exist")
}

impl Userpass {
    fn write(&mut self, fields: &Fields<'_>, name: String) -> Answer {
        let password = fields.text_or_empty("password")?;
        if fields.has("password_hash") {
            return Err(Fault::bad("the embedded dev Vault takes no \"password_hash\"; give \"password\""));
        }
        let known = self.users.get(&name);
        if password.is_empty() && known.is_none() {
            return Err(Fault::bad("\"password\" or \"password_hash\" must be supplied"));
        }
        let mut token = known.map(|user| user.token.clone()).unwrap_or_default();
        token.update(fields)?;
        match self.users.get_mut(&name) {
            Some(user) => {
                user.token = token;
                if !password.is_empty() {
                    user.password = Password::new(&password);
                }
            }
            None => {
                self.users.insert(name, User { password: Password::new(&password), token });
            }
        }
        Ok(None)
    }

    fn login(&mut self, call: &Call<'_>, name: &str) -> Answer {
        if !call.op.is_write() {
            return Err(Fault::unsupported_operation());
        }
        let password = Fields(call.data).text_or_empty("password")?;
        if password.is_empty() {
            return Err(Fault::bad("invalid credentials"));
        }
        let Some(user) = self.users.get(name).filter(|user| user.password.is(&password)) else {
            return Err(Fault::bad("invalid username or password"));
        };
        let mut metadata = Object::new();
        metadata.insert("username".to_owned(), json!(name));
        let mount = call.mount.trim_start_matches("auth/").trim_end_matches('/');
        Ok(Some(Reply {
            login: Some(Box::new(Login {
                policies: user.token.policies.clone(),
                no_default_policy: user.token.no_default_policy,
                metadata,
                display_name: format!("{mount}-{name}"),
                alias: name.to_owned(),
                path: format!("login/{name}"),
                limits: user.token.limits,
                warnings: Vec::new(),
            })),
            ..Reply::default()
        }))
    }
}
