//! The paths below `sys/` that ask for a token: policies, capabilities, wrapping, leases, mounts.

use chrono::Utc;
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    core::Core,
    fields::Fields,
    mounts::Table,
    policy::Policy,
    tokens::WRAPPING,
    wire::{Answer, Fault, Object, Op, Reply, Request, multierror, time},
};

impl Core {
    pub(super) fn system(&mut self, request: &Request, path: &str) -> Answer {
        let op = request.op;
        let (head, rest) = path.split_once('/').unwrap_or((path, ""));
        match (head, rest) {
            ("mounts", rest) => self.mount_paths(Table::Secrets, request, rest),
            ("auth", rest) => self.mount_paths(Table::Auth, request, rest),
            ("policies", "acl" | "acl/") => match op {
                Op::List => Ok(Some(Reply::keys(self.policy_names()))),
                _ => Err(Fault::unsupported_operation()),
            },
            ("policies", rest) if rest.starts_with("acl/") => {
                self.policy(request, rest.trim_start_matches("acl/"), "policy")
            }
            ("policy", "") => match op {
                Op::List | Op::Read => {
                    let names = self.policy_names();
                    Ok(Some(Reply::data(json!({ "keys": names, "policies": names }))))
                }
                _ => Err(Fault::unsupported_operation()),
            },
            ("policy", name) => self.policy(request, name, "rules"),
            ("capabilities-self", "") => {
                updates(op)?;
                self.capabilities(request, request.token.clone().unwrap_or_default(), true)
            }
            ("capabilities", "") => {
                updates(op)?;
                let token = Fields(&request.data).text_or_empty("token")?;
                self.capabilities(request, token, false)
            }
            ("capabilities-accessor", "") => {
                updates(op)?;
                let accessor = Fields(&request.data).text_or_empty("accessor")?;
                let token = self.tokens.by_accessor(&accessor).map(|token| token.id.clone());
                let token = token.ok_or_else(|| Fault::bad(multierror(&["invalid accessor"])))?;
                self.capabilities(request, token, false)
            }
            ("wrapping", rest @ ("wrap" | "unwrap" | "lookup" | "rewrap")) => self.wrapping(request, rest),
            ("leases", _) | ("renew" | "revoke" | "revoke-prefix" | "revoke-force", _) => {
                self.lease_paths(request, path)
            }
            ("internal", "ui/mounts") => {
                reads(op)?;
                self.visible_mounts(request)
            }
            ("internal", "ui/resultant-acl") => {
                reads(op)?;
                let root = request
                    .token
                    .as_deref()
                    .and_then(|id| self.tokens.get(id))
                    .is_some_and(|it| it.is_root());
                Ok(Some(Reply::data(json!({ "chroot_namespace": "", "root": root }))))
            }
            ("internal", rest) if rest.starts_with("ui/mounts/") => {
                reads(op)?;
                self.visible_mount(request, rest.trim_start_matches("ui/mounts/"))
            }
            ("audit", "") => {
                reads(op)?;
                Ok(Some(Reply::data(json!({}))))
            }
            ("audit" | "audit-hash", _) => Err(Fault::bad(
                "the embedded dev Vault keeps no audit log; use a real `vault server -dev` for audit devices",
            )),
            _ => Err(Fault::unsupported_path()),
        }
    }

    fn policy_names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.policies.keys().filter(|name| *name != WRAPPING).cloned().collect();
        names.push("root".to_owned());
        names.sort();
        names
    }

    /// One policy; the field of its text is `policy`, in the old paths `rules`.
    fn policy(&mut self, request: &Request, name: &str, field: &str) -> Answer {
        let lower = name.to_lowercase();
        match request.op {
            Op::Read if lower == "root" => Ok(Some(Reply::data(json!({ "name": lower, field: "" })))),
            Op::Read => Ok(self
                .policies
                .get(&lower)
                .map(|policy| Reply::data(json!({ "name": lower, field: policy.text })))),
            Op::Create | Op::Update => {
                let fields = Fields(&request.data);
                let mut text = fields.text_or_empty("policy")?;
                let mut warnings = Vec::new();
                if text.is_empty() && field == "rules" {
                    text = fields.text_or_empty("rules")?;
                    warnings.push("'rules' is deprecated, please use 'policy' instead".to_owned());
                }
                if text.is_empty() {
                    return Err(Fault::bad("'policy' parameter not supplied or empty"));
                }
                let policy = Policy::parse(&text).map_err(Fault::bad)?;
                if ["root", WRAPPING, "control-group"].contains(&lower.as_str()) {
                    return Err(Fault::bad(format!("cannot update {lower:?} policy")));
                }
                self.policies.insert(lower.clone(), policy);
                self.tokens.forget_acls();
                if lower != name {
                    warnings.push(format!("policy name was converted to {lower}"));
                }
                Ok((!warnings.is_empty()).then(|| Reply { warnings, ..Reply::default() }))
            }
            Op::Delete => {
                match lower.as_str() {
                    "default" => return Err(Fault::bad("cannot delete default policy")),
                    "root" | WRAPPING | "control-group" => {
                        return Err(Fault::bad(format!("cannot delete {lower:?} policy")));
                    }
                    _ => {}
                }
                self.policies.remove(&lower);
                self.tokens.forget_acls();
                Ok(None)
            }
            _ => Err(Fault::unsupported_operation()),
        }
    }

    fn capabilities(&mut self, request: &Request, token: String, own: bool) -> Answer {
        let fields = Fields(&request.data);
        if token.is_empty() {
            return Err(Fault::list(StatusCode::INTERNAL_SERVER_ERROR, &["no token found"]));
        }
        let mut paths = fields.list("paths")?.unwrap_or_default();
        if paths.is_empty() {
            paths = fields.list("path")?.unwrap_or_default();
        }
        if paths.is_empty() {
            return Err(Fault::bad("paths must be supplied"));
        }
        let acl = self.acl(&token).ok_or_else(|| {
            if own { Fault::invalid_token() } else { Fault::bad(multierror(&["invalid token"])) }
        })?;
        let mut found = Object::new();
        for path in &paths {
            found.insert(path.clone(), json!(acl.capabilities(path)));
        }
        if let [path] = paths.as_slice() {
            found.insert("capabilities".to_owned(), json!(acl.capabilities(path)));
        }
        Ok(Some(Reply::data(Value::Object(found))))
    }

    /// Before anything else: these paths work on a wrapping token only.
    pub(super) fn check_wrapping_token(&self, request: &Request) -> Result<(), Fault> {
        let given = match request.data.get("token") {
            None | Some(Value::Null) => request.token.as_deref().unwrap_or_default(),
            Some(Value::String(text)) if text.is_empty() => {
                return Err(wrapping_fault("empty token in request body"));
            }
            Some(Value::String(text)) => text,
            Some(_) => return Err(wrapping_fault("could not decode token in request body")),
        };
        if given.is_empty() {
            return Err(wrapping_fault("token is empty"));
        }
        if self.tokens.get(given).is_some_and(|token| token.is_wrapping() && token.num_uses > 0) {
            Ok(())
        } else {
            Err(Fault::bad("wrapping token is not valid or does not exist"))
        }
    }

    fn wrapping(&mut self, request: &Request, what: &str) -> Answer {
        if what != "lookup" || request.op != Op::Read {
            updates(request.op)?;
        }
        if what == "wrap" {
            if request.wrap.is_none_or(|ttl| ttl.is_zero()) {
                return Err(Fault::bad("endpoint requires response wrapping to be used"));
            }
            return Ok(Some(Reply::data(Value::Object(request.data.clone()))));
        }
        let given = request.data.get("token").and_then(Value::as_str).filter(|given| !given.is_empty());
        let id = given.or(request.token.as_deref()).unwrap_or_default().to_owned();
        let Some(wrapped) = self.tokens.get(&id).and_then(|token| token.wrapped.as_ref()) else {
            return Ok(None);
        };
        let reply = match what {
            "lookup" => {
                return Ok(Some(Reply::data(json!({
                    "creation_path": wrapped.creation_path,
                    "creation_time": time(wrapped.creation_time),
                    "creation_ttl": wrapped.ttl.num_seconds(),
                }))));
            }
            "rewrap" => Reply {
                rewrapped: Some((wrapped.body.clone(), wrapped.creation_path.clone())),
                status: wrapped.status,
                wrap_ttl: Some(wrapped.ttl),
                ..Reply::default()
            },
            _ => Reply {
                raw: Some(wrapped.body.clone()),
                status: Some(wrapped.status.unwrap_or(StatusCode::OK)),
                ..Reply::default()
            },
        };
        self.tokens.revoke_orphan(&id);
        Ok(Some(reply))
    }
}

fn wrapping_fault(text: &str) -> Fault {
    Fault::new(StatusCode::FORBIDDEN, format!("error validating wrapping token: {text}"))
}

fn updates(op: Op) -> Result<(), Fault> {
    if op.is_write() { Ok(()) } else { Err(Fault::unsupported_operation()) }
}

fn reads(op: Op) -> Result<(), Fault> {
    if op == Op::Read { Ok(()) } else { Err(Fault::unsupported_operation()) }
}

/// The seal and what can be asked without a token; these bodies have no envelope.
impl Core {
    pub(super) fn seal_status(&self) -> Value {
        let mut out = json!({
            "type": "shamir",
            "initialized": true,
            "sealed": self.sealed,
            "t": 1,
            "n": 1,
            "progress": 0,
            "nonce": "",
            "version": super::core::VERSION,
            "build_date": self.started.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
            "migration": false,
            "recovery_seal": false,
            "storage_type": "inmem",
        });
        self.name_cluster(&mut out);
        out
    }

    pub(super) fn health(&self) -> Value {
        let replication = if self.sealed { "unknown" } else { "disabled" };
        let mut out = json!({
            "initialized": true,
            "sealed": self.sealed,
            "standby": self.sealed,
            "performance_standby": false,
            "replication_performance_mode": replication,
            "replication_dr_mode": replication,
            "server_time_utc": Utc::now().timestamp(),
            "version": super::core::VERSION,
            "enterprise": false,
            "echo_duration_ms": 0,
            "clock_skew_ms": 0,
            "replication_primary_canary_age_ms": 0,
        });
        self.name_cluster(&mut out);
        out
    }

    fn name_cluster(&self, out: &mut Value) {
        if let Some(out) = out.as_object_mut().filter(|_| !self.sealed) {
            out.insert("cluster_name".to_owned(), json!(self.cluster_name));
            out.insert("cluster_id".to_owned(), json!(self.cluster_id));
        }
    }

    /// `sys/seal`, which asks for sudo.
    pub(super) fn seal(&mut self, request: &Request) -> Answer {
        if request.op != Op::Update {
            return Err(Fault::silent(StatusCode::METHOD_NOT_ALLOWED));
        }
        if self.sealed {
            return Ok(None);
        }
        self.tokens.sweep(request.now);
        let Some(token) = &request.token else {
            return Err(Fault::new(StatusCode::FORBIDDEN, "permission denied"));
        };
        let acl = self.acl(token).ok_or_else(Fault::invalid_token)?;
        if !acl.allows(Op::Update, "sys/seal", true) {
            return Err(Fault::denied());
        }
        self.sealed = true;
        Ok(None)
    }

    /// `sys/unseal`: one key opens it.
    pub(super) fn unseal(&mut self, data: &Object) -> Result<Value, Fault> {
        use base64::{Engine as _, engine::general_purpose::STANDARD};

        if data.get("reset").and_then(Value::as_bool) == Some(true) {
            if !self.sealed {
                return Err(Fault::bad("vault is unsealed"));
            }
            return Ok(self.seal_status());
        }
        let text = data.get("key").and_then(Value::as_str).unwrap_or_default();
        if text.is_empty() {
            return Err(Fault::bad(
                "'key' must be specified in request body as JSON, or 'reset' set to true",
            ));
        }
        let key = hex::decode(text)
            .ok()
            .filter(|key| (16..=32).contains(&key.len()))
            .or_else(|| STANDARD.decode(text).ok())
            .ok_or_else(|| Fault::bad("'key' must be a valid hex or base64 string"))?;
        if key.len() < 16 {
            return Err(Fault::bad("invalid key: key is shorter than minimum 16 bytes"));
        }
        if key.len() > 32 {
            return Err(Fault::bad("invalid key: key is longer than maximum 32 bytes"));
        }
        if self.sealed {
            if key != self.unseal_key {
                return Err(Fault::bad(
                    "unable to retrieve stored keys: invalid key: failed to decrypt keys from storage: error \
                     decrypting seal wrapped value\nerror decrypting using seal shamir: cipher: message \
                     authentication failed",
                ));
            }
            self.sealed = false;
        }
        Ok(self.seal_status())
    }
}
