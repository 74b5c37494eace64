//! The whole server behind HTTP: mounts, policies, tokens, the seal, and the way of one request.
//!
//! One request: sealed? → what has ended is swept → route → token → create or update → policies → the engine
//! → login or wrapping → what the last use of a token leaves is revoked. No I/O happens here and nothing
//! waits; the front holds a lock around it.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    engine::{Call, Caller, Engine, LeaseTimes},
    fields::Fields,
    kv2::Kv2,
    leases::Leases,
    mounts::{Mount, Slot},
    policy::{Acl, Policy},
    random,
    tokens::{New, Tokens, WRAPPING, Wrapped, lifetime},
    wire::{Answer, Fault, Limits, Login, Op, Reply, Request},
};

/// The version of Vault whose answers are given.
pub(super) const VERSION: &str = "1.21.0";

/// All state of one embedded Vault.
pub(super) struct Core {
    pub(super) sealed: bool,
    pub(super) unseal_key: [u8; 32],
    pub(super) cluster_id: String,
    pub(super) cluster_name: String,
    pub(super) started: DateTime<Utc>,
    pub(super) mounts: BTreeMap<String, Mount>,
    pub(super) policies: BTreeMap<String, Policy>,
    pub(super) tokens: Tokens,
    pub(super) leases: Leases,
    /// Who logged in through which mount, so that the same caller gets the same entity.
    entities: HashMap<(String, String), String>,
}

/// The policy that every token has unless it asks not to. Templates are left out: nothing here has entities.
const DEFAULT_POLICY: &str = r#"# What every token may do with itself
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
path "sys/internal/ui/resultant-acl" { capabilities = ["read"] }
path "sys/renew" { capabilities = ["update"] }
path "sys/leases/renew" { capabilities = ["update"] }
path "sys/leases/lookup" { capabilities = ["update"] }
path "cubbyhole/*" { capabilities = ["create", "read", "update", "delete", "list"] }
path "sys/wrapping/wrap" { capabilities = ["update"] }
path "sys/wrapping/lookup" { capabilities = ["update"] }
path "sys/wrapping/unwrap" { capabilities = ["update"] }
path "sys/tools/hash" { capabilities = ["update"] }
path "sys/tools/hash/*" { capabilities = ["update"] }
path "sys/control-group/request" { capabilities = ["update"] }
path "identity/oidc/provider/+/authorize" { capabilities = ["read", "update"] }
"#;

/// What a wrapping token may do; it cannot be written or given to another token.
const WRAPPING_POLICY: &str = r#"
path "cubbyhole/response" {
    capabilities = ["create", "read"]
}

path "sys/wrapping/unwrap" {
    capabilities = ["update"]
}
"#;

impl Core {
    /// A fresh server with KV version 2 at `secret/` and the given root token.
    pub(super) fn new(root_token: &str, unseal_key: [u8; 32], now: DateTime<Utc>) -> Result<Self, String> {
        let cluster = random::uuid();
        let mut core = Self {
            sealed: false,
            unseal_key,
            cluster_name: format!("vault-cluster-{}", cluster.get(..8).unwrap_or_default()),
            cluster_id: random::uuid(),
            started: now,
            mounts: BTreeMap::new(),
            policies: BTreeMap::new(),
            tokens: Tokens::default(),
            leases: Leases::default(),
            entities: HashMap::new(),
        };
        for (name, text) in [("default", DEFAULT_POLICY), (WRAPPING, WRAPPING_POLICY)] {
            core.policies.insert(name.to_owned(), Policy::parse(text)?);
        }
        let system =
            |kind: &str, description: &str, slot: Slot| Mount::new(kind, description, Value::Null, slot);
        for (path, mut mount) in [
            (
                "sys/",
                system("system", "system endpoints used for control, policy and debugging", Slot::System),
            ),
            ("identity/", system("identity", "identity store", Slot::Identity)),
            ("cubbyhole/", system("cubbyhole", "per-token private secret storage", Slot::Cubbyhole)),
            ("auth/token/", system("token", "token based credentials", Slot::Tokens)),
            (
                "secret/",
                Mount::new(
                    "kv",
                    "key/value secret storage",
                    json!({ "version": "2" }),
                    Slot::Engine(Box::new(Kv2::default())),
                ),
            ),
        ] {
            mount.local = path == "cubbyhole/";
            mount.seal_wrap = path == "sys/";
            mount.name_accessor(path);
            core.mounts.insert(path.to_owned(), mount);
        }
        core.tokens.create(
            New {
                id: Some(root_token.to_owned()),
                policies: vec!["root".to_owned()],
                path: "auth/token/create".to_owned(),
                meta: None,
                display_name: "token".to_owned(),
                parent: None,
                renewable: false,
                entity_id: String::new(),
                renewal_ttl: 0,
                limits: Limits::default(),
            },
            now,
        );
        Ok(core)
    }

    /// Answers one request below `/v1/` that is not one of the seal's own.
    pub(super) fn handle(&mut self, request: &mut Request) -> Answer {
        if self.sealed {
            return Err(Fault::new(StatusCode::SERVICE_UNAVAILABLE, "Vault is sealed"));
        }
        self.tokens.sweep(request.now);
        self.sweep_leases(request.now);
        if request.path.ends_with('/') && matches!(request.op, Op::Create | Op::Update | Op::Patch) {
            return Err(Fault::bad("cannot write to a path ending in '/'"));
        }
        if matches!(
            request.path.as_str(),
            "sys/wrapping/lookup" | "sys/wrapping/rewrap" | "sys/wrapping/unwrap"
        ) {
            self.check_wrapping_token(request)?;
        }
        let mount = self.mount_of(&request.path);
        let inner = mount
            .as_deref()
            .and_then(|mount| request.path.strip_prefix(mount))
            .unwrap_or_default()
            .to_owned();
        if mount.as_deref().is_some_and(|mount| self.is_open(mount, &inner, request.op)) {
            let mount = mount.unwrap_or_default();
            let answer = self.route(request, &mount, &inner).map_err(Fault::unlisted);
            return self.finish(answer, request, &mount, true);
        }

        let Some(token) = request.token.clone() else {
            return Err(Fault::new(StatusCode::FORBIDDEN, "permission denied"));
        };
        let acl = self.acl(&token).ok_or_else(Fault::invalid_token)?;
        let mut exists = None;
        if request.op.is_write() {
            exists = mount.as_deref().and_then(|mount| self.exists(mount, &inner, &token));
            request.op = if exists == Some(false) { Op::Create } else { Op::Update };
        }
        let sudo = is_root_path(&request.path)
            || mount.as_deref().is_some_and(|mount| self.needs_sudo(mount, &inner));
        let allowed = acl.allows(request.op, &request.path, sudo);
        let last_use = self.tokens.spend(&token);
        let answer = match mount.as_deref() {
            _ if !allowed => Err(Fault::denied()),
            None => Err(Fault::new(
                StatusCode::NOT_FOUND,
                format!("no handler for route {:?}. route entry not found.", request.path),
            )),
            Some(mount) => {
                let answer =
                    self.route(request, mount, &inner).map_err(|fault| fault.for_field(exists.is_some()));
                self.finish(answer, request, mount, false)
            }
        };
        if last_use {
            self.tokens.revoke(&token);
        }
        answer
    }

    /// The compiled policies of a token; `None` when there is no such token.
    pub(super) fn acl(&mut self, token: &str) -> Option<Arc<Acl>> {
        let entry = self.tokens.get_mut(token)?;
        if let Some(acl) = &entry.acl {
            return Some(Arc::clone(acl));
        }
        let acl = if entry.is_root() {
            Acl::root()
        } else {
            Acl::of(entry.policies.iter().filter_map(|name| self.policies.get(name)))
        };
        let acl = Arc::new(acl);
        entry.acl = Some(Arc::clone(&acl));
        Some(acl)
    }

    /// The mount that answers a path.
    pub(super) fn mount_of(&self, path: &str) -> Option<String> {
        // A mount is answered without its slash too: `LIST kv` is the root of `kv/`.
        let folder = format!("{path}/");
        self.mounts.keys().rev().find(|mount| path.starts_with(mount.as_str()) || folder == **mount).cloned()
    }

    fn is_open(&self, mount: &str, inner: &str, op: Op) -> bool {
        match self.mounts.get(mount).map(|mount| &mount.slot) {
            Some(Slot::System) => {
                matches!(inner, "wrapping/lookup" | "internal/ui/mounts")
                    || inner.starts_with("internal/ui/mounts/")
            }
            Some(Slot::Engine(engine)) => op != Op::Other && engine.is_open(inner),
            _ => false,
        }
    }

    fn needs_sudo(&self, mount: &str, inner: &str) -> bool {
        match self.mounts.get(mount).map(|mount| &mount.slot) {
            Some(Slot::Engine(engine)) => engine.needs_sudo(inner),
            _ => false,
        }
    }

    fn exists(&self, mount: &str, inner: &str, token: &str) -> Option<bool> {
        match &self.mounts.get(mount)?.slot {
            Slot::Engine(engine) => engine.exists(inner),
            Slot::Cubbyhole => self.tokens.get(token)?.cubbyhole.exists(inner),
            _ => None,
        }
    }

    fn route(&mut self, request: &Request, mount: &str, inner: &str) -> Answer {
        let Some(entry) = self.mounts.get_mut(mount) else { return Err(Fault::unsupported_path()) };
        let token = request.token.as_deref().unwrap_or_default();
        let lease = entry.lease_times();
        match &mut entry.slot {
            Slot::System => self.system(request, inner),
            Slot::Tokens => self.token_paths(request, inner),
            Slot::Identity => Err(Fault::unsupported_path()),
            Slot::Cubbyhole => {
                let call = Call {
                    op: request.op,
                    path: inner,
                    data: &request.data,
                    now: request.now,
                    mount,
                    lease: LeaseTimes::default(),
                    caller: Caller::default(),
                };
                self.tokens.get_mut(token).ok_or_else(Fault::invalid_token)?.cubbyhole.handle(&call)
            }
            Slot::Engine(engine) => {
                let caller = self.tokens.get(token).map_or(Caller::default(), |token| Caller {
                    display_name: &token.display_name,
                    entity_id: &token.entity_id,
                    client_id: &token.client_id,
                });
                let call = Call {
                    op: request.op,
                    path: inner,
                    data: &request.data,
                    now: request.now,
                    mount,
                    lease,
                    caller,
                };
                let mut answer = engine.handle(&call);
                if let Ok(Some(reply)) = &mut answer
                    && let Some(known) = engine.fields(inner)
                {
                    let fields = Fields(&request.data);
                    reply.warnings.extend(fields.unrecognized(known));
                    reply.warnings.extend(engine.captured(inner).and_then(|name| fields.replaced(name)));
                }
                answer
            }
        }
    }

    /// Makes the token of a login, names the mount, wraps.
    fn finish(&mut self, answer: Answer, request: &Request, mount: &str, open: bool) -> Answer {
        let Some(mut reply) = answer? else { return Ok(None) };
        if let Some(login) = reply.login.take() {
            reply = self.login(*login, mount, request.now)?;
        }
        self.lease(&mut reply, request, mount);
        if reply.plain.is_some() {
            return Ok(Some(reply));
        }
        if !open && reply.status.is_none() && reply.raw.is_none() {
            reply.mount_type = self.mounts.get(mount).map(|mount| mount.kind.clone()).unwrap_or_default();
        }
        let Some(ttl) = reply.wrap_ttl.or(request.wrap).filter(|ttl| ttl.num_milliseconds() > 0) else {
            return Ok(Some(reply));
        };
        if request.op == Op::List && reply.data.as_ref().is_none_or(serde_json::Map::is_empty) {
            return Err(Fault::unsupported_path().unlisted());
        }
        let wrapped_accessor = reply.wrapped_accessor();
        let (body, creation_path) = match reply.rewrapped.take() {
            Some((body, path)) => (body, path),
            None => (Value::Object(reply.envelope(&request.id)).to_string(), request.path.clone()),
        };
        let mut info = self.tokens.wrap(
            Wrapped {
                body: match reply.raw {
                    Some(raw) => raw,
                    None => body,
                },
                status: reply.status,
                creation_path,
                creation_time: request.now,
                ttl,
            },
            &request.path,
            request.now,
        );
        info.wrapped_accessor = wrapped_accessor;
        Ok(Some(Reply { wrap: Some(info), warnings: reply.warnings, ..Reply::default() }))
    }

    fn login(&mut self, login: Login, mount: &str, now: DateTime<Utc>) -> Result<Reply, Fault> {
        let mut limits = login.limits;
        let renewal_ttl = limits.ttl;
        let (ttl, mut warnings) = lifetime(limits, now, now).map_err(Fault::bad)?;
        limits.ttl = ttl;
        let mut policies = sanitize(login.policies, !login.no_default_policy);
        if login.no_default_policy {
            policies.retain(|policy| policy != "default");
        }
        if policies.iter().any(|policy| policy == "root") {
            return Err(Fault::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "auth methods cannot create root tokens",
            ));
        }
        warnings.extend(login.warnings);
        let entity_id =
            self.entities.entry((mount.to_owned(), login.alias)).or_insert_with(random::uuid).clone();
        let id = self.tokens.create(
            New {
                id: None,
                policies,
                path: format!("{mount}{}", login.path),
                meta: Some(login.metadata),
                display_name: login.display_name,
                parent: None,
                renewable: true,
                entity_id,
                renewal_ttl,
                limits,
            },
            now,
        );
        let auth = self.tokens.get(&id).map(|token| token.auth(ttl));
        Ok(Reply { auth, warnings, ..Reply::default() })
    }
}

/// Policy names in lower case, each once, in order; with `default` when asked for. `root` stands alone.
pub(super) fn sanitize(policies: Vec<String>, add_default: bool) -> Vec<String> {
    let mut names: Vec<String> =
        policies.iter().map(|name| name.trim().to_lowercase()).filter(|name| !name.is_empty()).collect();
    if names.iter().any(|name| name == "root") {
        return vec!["root".to_owned()];
    }
    if add_default {
        names.push("default".to_owned());
    }
    names.sort();
    names.dedup();
    names
}

/// The paths that need `sudo`.
pub(super) fn is_root_path(path: &str) -> bool {
    const WHOLE: &[&str] = &[
        "sys/remount",
        "sys/audit",
        "sys/raw",
        "sys/rotate",
        "sys/config/cors",
        "sys/leases",
        "sys/seal",
        "sys/step-down",
        "auth/token/revoke-orphan",
        "auth/token/accessors/",
    ];
    const BELOW: &[&str] = &[
        "sys/auth/",
        "sys/audit/",
        "sys/raw/",
        "sys/config/auditing/",
        "sys/plugins/catalog/",
        "sys/revoke-prefix/",
        "sys/revoke-force/",
        "sys/leases/revoke-prefix/",
        "sys/leases/revoke-force/",
        "sys/leases/lookup/",
        "sys/internal/inspect/",
    ];
    WHOLE.contains(&path) || BELOW.iter().any(|prefix| path.starts_with(prefix))
}
