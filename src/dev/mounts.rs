//! What is mounted where, and how `sys/mounts`, `sys/auth` and `sys/internal/ui/mounts` show it.

use http::StatusCode;
use serde_json::{Value, json};

use super::{
    core::Core,
    duration,
    engine::{self, Engine, LeaseTimes, Refused},
    fields::Fields,
    kv1::DEFAULT_LEASE,
    random,
    wire::{Answer, Fault, Object, Op, Reply, Request},
};

/// Who answers below a mount.
pub(super) enum Slot {
    System,
    Tokens,
    Cubbyhole,
    Identity,
    Engine(Box<dyn Engine>),
}

/// One mount.
pub(super) struct Mount {
    pub(super) kind: String,
    pub(super) slot: Slot,
    pub(super) local: bool,
    pub(super) seal_wrap: bool,
    description: String,
    options: Value,
    uuid: String,
    accessor: String,
    default_lease_ttl: i64,
    max_lease_ttl: i64,
}

impl Mount {
    pub(super) fn new(kind: &str, description: &str, options: Value, slot: Slot) -> Self {
        Self {
            kind: kind.to_owned(),
            slot,
            local: false,
            seal_wrap: false,
            description: description.to_owned(),
            options,
            uuid: random::uuid(),
            accessor: String::new(),
            default_lease_ttl: 0,
            max_lease_ttl: 0,
        }
    }

    /// Gives the mount its accessor: the type, `auth_` before it for auth methods, and a random end.
    pub(super) fn name_accessor(&mut self, path: &str) {
        let table = if path.starts_with("auth/") { "auth_" } else { "" };
        self.accessor = format!("{table}{}_{}", self.kind, hex::encode(random::bytes::<4>()));
    }

    /// The lease times that apply.
    pub(super) fn lease_times(&self) -> LeaseTimes {
        let or_server = |set: i64| if set == 0 { DEFAULT_LEASE } else { set };
        let max = or_server(self.max_lease_ttl);
        LeaseTimes { default: or_server(self.default_lease_ttl).min(max), max }
    }

    /// Changes lease times and description; other settings are refused by name.
    fn retune(&mut self, data: &Object) -> Result<(), Fault> {
        const KNOWN: &[&str] = &["default_lease_ttl", "max_lease_ttl", "description"];
        if let Some(other) = data.keys().find(|key| !KNOWN.contains(&key.as_str())) {
            return Err(Fault::bad(format!(
                "the embedded dev Vault tunes lease times and description only, not {other:?}; mount it anew \
                 with what you need"
            )));
        }
        let fields = Fields(data);
        let time = |name: &str, set: i64| match fields.text_or_empty(name)?.as_str() {
            "" => Ok(set),
            "system" => Ok(0),
            text => match duration::parse(text) {
                Some(found) => Ok(found.num_seconds()),
                None => Err(Fault::bad(format!("time: invalid duration {text:?}"))),
            },
        };
        let default = time("default_lease_ttl", self.default_lease_ttl)?;
        let max = time("max_lease_ttl", self.max_lease_ttl)?;
        if default != 0 && max != 0 && max < default {
            return Err(Fault::bad(format!(
                "backend max lease TTL of {max} would be less than backend default lease TTL of {default}"
            )));
        }
        (self.default_lease_ttl, self.max_lease_ttl) = (default, max);
        if let Some(description) = fields.text("description")? {
            self.description = description;
        }
        Ok(())
    }

    /// `effective`: show the lease times that apply, not those that are set.
    fn describe(&self, is_auth: bool, effective: bool) -> Value {
        let ttl = |set: i64| if effective && set == 0 { DEFAULT_LEASE } else { set };
        let mut config = json!({
            "default_lease_ttl": ttl(self.default_lease_ttl),
            "force_no_cache": false,
            "max_lease_ttl": ttl(self.max_lease_ttl),
        });
        let (version, supported) = match (self.kind.as_str(), &self.slot) {
            ("kv", _) => ("v0.25.0+builtin", true),
            (_, slot) => ("v1.21.0+builtin.vault", matches!(slot, Slot::Engine(_))),
        };
        if let Some(config) = config.as_object_mut() {
            if is_auth {
                config.insert("token_type".to_owned(), json!("default-service"));
            }
            match self.slot {
                Slot::System => config.insert("passthrough_request_headers".to_owned(), json!(["Accept"])),
                Slot::Identity => {
                    config.insert("passthrough_request_headers".to_owned(), json!(["Authorization"]))
                }
                _ => None,
            };
        }
        let mut out = json!({
            "accessor": self.accessor,
            "config": config,
            "description": self.description,
            "external_entropy_access": false,
            "local": self.local,
            "options": self.options,
            "plugin_version": "",
            "running_plugin_version": version,
            "running_sha256": "",
            "seal_wrap": self.seal_wrap,
            "type": self.kind,
            "uuid": self.uuid,
        });
        if supported && let Some(out) = out.as_object_mut() {
            out.insert("deprecation_status".to_owned(), json!("supported"));
        }
        out
    }
}

/// One of the two tables of mounts.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Table {
    Secrets,
    Auth,
}

impl Table {
    fn path(self, name: &str) -> String {
        let name = name.trim_matches('/');
        match self {
            Table::Secrets => format!("{name}/"),
            Table::Auth => format!("auth/{name}/"),
        }
    }
}

impl Core {
    /// `sys/mounts…` and `sys/auth…`, the rest of the path after the table's name.
    pub(super) fn mount_paths(&mut self, table: Table, request: &Request, rest: &str) -> Answer {
        if rest.is_empty() {
            return match request.op {
                Op::Read => Ok(Some(Reply::data(Value::Object(self.table(table, false, |_| true))))),
                _ => Err(Fault::unsupported_operation()),
            };
        }
        if let Some(name) = rest.strip_suffix("/tune") {
            return self.tune(table, request, name);
        }
        match request.op {
            Op::Read => {
                let path = table.path(rest);
                let Some(mount) = self.mounts.get(&path) else {
                    let what = if table == Table::Auth { "auth engine" } else { "secret engine mount" };
                    return Err(Fault::bad(format!("No {what} at {}/", rest.trim_matches('/'))));
                };
                Ok(Some(Reply::data(mount.describe(table == Table::Auth, false))))
            }
            Op::Create | Op::Update => self.mount(table, request, rest),
            Op::Delete => self.unmount(table, rest),
            _ => Err(Fault::unsupported_operation()),
        }
    }

    fn mount(&mut self, table: Table, request: &Request, name: &str) -> Answer {
        let fields = Fields(&request.data);
        let path = table.path(name);
        let kind = fields.text_or_empty("type")?;
        let options = fields.object("options")?;
        let description = fields.text_or_empty("description")?;
        let config = fields.object("config")?.unwrap_or_default().into_owned();
        if kind.is_empty() {
            return Err(Fault::bad("backend type must be specified as a string"));
        }
        let made = match table {
            Table::Secrets => engine::secrets(&kind, options.as_deref()),
            Table::Auth => engine::auth(&kind).map(|engine| {
                (engine, kind.clone(), options.clone().unwrap_or_default().into_owned().into())
            }),
        };
        if let Err(Refused::Unknown) = made {
            return Err(Fault::bad(format!("plugin not found in the catalog: {kind}")));
        }
        let reserved = ["auth/", "sys/", "cubbyhole/", "identity/", "audit/"];
        if table == Table::Secrets && reserved.iter().any(|reserved| path.starts_with(reserved)) {
            return Err(Fault::bad(format!("cannot mount {path:?}")));
        }
        let taken =
            self.mounts.keys().find(|known| path.starts_with(known.as_str()) || known.starts_with(&path));
        if let Some(taken) = taken {
            let taken = taken.strip_prefix("auth/").filter(|_| table == Table::Auth).unwrap_or(taken);
            return Err(Fault::bad(format!("path is already in use at {taken}")));
        }
        let (engine, kind, options) = made.map_err(|refused| match refused {
            Refused::Options(text) => Fault::bad(text),
            Refused::Unknown | Refused::NotHere => Fault::bad(format!(
                "the embedded dev Vault has no {kind:?} engine; use a real `vault server -dev` for it"
            )),
        })?;
        let mut mount = Mount::new(&kind, &description, options, Slot::Engine(engine));
        let config = Fields(&config);
        mount.default_lease_ttl = config.seconds("default_lease_ttl")?.unwrap_or_default();
        mount.max_lease_ttl = config.seconds("max_lease_ttl")?.unwrap_or_default();
        mount.name_accessor(&path);
        self.mounts.insert(path, mount);
        Ok(None)
    }

    fn unmount(&mut self, table: Table, name: &str) -> Answer {
        let path = table.path(name);
        match self.mounts.get(&path).map(|mount| &mount.slot) {
            Some(Slot::Engine(_)) => {
                self.mounts.remove(&path);
                Ok(None)
            }
            Some(Slot::Tokens) => Err(Fault::bad("token credential backend cannot be disabled")),
            Some(_) => Err(Fault::bad(format!("cannot unmount {path:?}"))),
            None => Ok(None),
        }
    }

    fn tune(&mut self, table: Table, request: &Request, name: &str) -> Answer {
        let path = table.path(name);
        match request.op {
            Op::Read => {
                let Some(mount) = self.mounts.get(&path) else {
                    let text = "cannot fetch sysview for path ";
                    return Err(Fault::bad(format!(
                        "{text}{:?}",
                        path.strip_prefix("auth/").unwrap_or(&path)
                    )));
                };
                let described = mount.describe(table == Table::Auth, true);
                let mut out = json!({
                    "default_lease_ttl": described.pointer("/config/default_lease_ttl"),
                    "description": mount.description,
                    "force_no_cache": false,
                    "max_lease_ttl": described.pointer("/config/max_lease_ttl"),
                });
                if let Some(out) = out.as_object_mut() {
                    if mount.options.as_object().is_some_and(|options| !options.is_empty()) {
                        out.insert("options".to_owned(), mount.options.clone());
                    }
                    if table == Table::Auth {
                        out.insert("token_type".to_owned(), json!("default-service"));
                    }
                }
                Ok(Some(Reply::data(out)))
            }
            Op::Create | Op::Update => {
                let mount = self.mounts.get_mut(&path).filter(|mount| matches!(mount.slot, Slot::Engine(_)));
                let missing = || Fault::bad(format!("tune of path {path:?} failed: no mount entry found"));
                mount.ok_or_else(missing)?.retune(&request.data)?;
                Ok(None)
            }
            _ => Err(Fault::unsupported_operation()),
        }
    }

    fn table(&self, table: Table, effective: bool, visible: impl Fn(&str) -> bool) -> Object {
        self.mounts
            .iter()
            .filter(|(path, _)| path.starts_with("auth/") == (table == Table::Auth) && visible(path))
            .map(|(path, mount)| {
                let name = path.strip_prefix("auth/").unwrap_or(path);
                (name.to_owned(), mount.describe(table == Table::Auth, effective))
            })
            .collect()
    }

    /// `sys/internal/ui/mounts`: the mounts that the calling token can do something with.
    pub(super) fn visible_mounts(&mut self, request: &Request) -> Answer {
        let acl = match &request.token {
            None => None,
            Some(token) => Some(self.acl(token).ok_or_else(Fault::invalid_token)?),
        };
        let visible = |path: &str| acl.as_ref().is_some_and(|acl| acl.sees_mount(path));
        Ok(Some(Reply::data(json!({
            "auth": self.table(Table::Auth, true, visible),
            "secret": self.table(Table::Secrets, true, visible),
        }))))
    }

    /// `sys/internal/ui/mounts/{path}`: the mount of a path, for those who can do something with it.
    pub(super) fn visible_mount(&mut self, request: &Request, path: &str) -> Answer {
        let Some(token) = &request.token else {
            return Err(Fault::new(StatusCode::FORBIDDEN, "permission denied"));
        };
        let acl = self.acl(token).ok_or_else(Fault::invalid_token)?;
        let path = format!("{}/", path.trim_matches('/'));
        let found = self.mount_of(&path).filter(|mount| acl.sees_mount(mount));
        let Some((mount, entry)) = found.and_then(|mount| self.mounts.get_key_value(&mount)) else {
            let text = "preflight capability check returned 403, please ensure client's policies grant access to path";
            return Err(Fault::new(StatusCode::FORBIDDEN, format!("{text} {path:?}")));
        };
        let is_auth = mount.starts_with("auth/");
        let mut described = entry.describe(is_auth, true);
        if let Some(described) = described.as_object_mut() {
            described.insert("path".to_owned(), json!(mount.strip_prefix("auth/").unwrap_or(mount)));
        }
        Ok(Some(Reply::data(described)))
    }
}
