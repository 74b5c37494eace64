//! The paths below `auth/token/`.

use http::StatusCode;

use super::{
    core::{Core, sanitize},
    duration,
    fields::{Fields, to_text},
    tokens::{New, WRAPPING, lifetime},
    wire::{Answer, Fault, Limits, Op, Reply, Request, multierror},
};

impl Core {
    pub(super) fn token_paths(&mut self, request: &Request, path: &str) -> Answer {
        let fields = Fields(&request.data);
        let own = request.token.clone().unwrap_or_default();
        let given = || fields.text_or_empty("token");
        match (path, request.op) {
            ("create", Op::Update) => self.create_token(request, &own, false),
            ("create-orphan", Op::Update) => self.create_token(request, &own, true),
            ("lookup-self", Op::Read | Op::Update) => self.lookup(&own, request),
            ("lookup", Op::Read | Op::Update) => {
                let token = given()?;
                self.lookup(if token.is_empty() { &own } else { &token }, request)
            }
            ("lookup-accessor", Op::Update) => {
                let id = self.by_accessor(&fields)?.ok_or_else(|| coded("invalid accessor"))?;
                let mut reply = self.lookup(&id, request)?;
                if let Some(data) = reply.as_mut().and_then(|reply| reply.data.as_mut()) {
                    data.insert("id".to_owned(), "".into());
                }
                Ok(reply)
            }
            ("renew-self", Op::Update) => self.renew(&own, request),
            ("renew", Op::Update) => self.renew(&required(given()?)?, request),
            ("renew-accessor", Op::Update) => {
                let id = self.by_accessor(&fields)?.ok_or_else(|| coded("invalid accessor"))?;
                let mut reply = self.renew(&id, request)?;
                if let Some(auth) = reply.as_mut().and_then(|reply| reply.auth.as_mut()?.as_object_mut()) {
                    auth.insert("client_token".to_owned(), "".into());
                }
                Ok(reply)
            }
            ("revoke-self", Op::Update) => {
                self.tokens.revoke(&own);
                Ok(None)
            }
            ("revoke", Op::Update) => {
                let id = required(given()?)?;
                self.tokens.revoke(&id);
                Ok(None)
            }
            ("revoke-accessor", Op::Update) => match self.by_accessor(&fields)? {
                Some(id) => {
                    self.tokens.revoke(&id);
                    Ok(None)
                }
                None => Ok(Some(Reply::warning("No token found with this accessor"))),
            },
            ("revoke-orphan", Op::Update) => {
                let id = required(given()?)?;
                if self.tokens.get(&id).is_none() {
                    return Err(Fault::bad("token to revoke not found"));
                }
                self.tokens.revoke_orphan(&id);
                Ok(None)
            }
            ("accessors" | "accessors/", Op::List) => Ok(Some(Reply::keys(self.tokens.accessors()))),
            (
                "create" | "create-orphan" | "lookup-self" | "lookup" | "lookup-accessor" | "renew-self"
                | "renew" | "renew-accessor" | "revoke-self" | "revoke" | "revoke-accessor" | "revoke-orphan"
                | "accessors" | "accessors/",
                _,
            ) => Err(Fault::unsupported_operation()),
            _ => Err(Fault::unsupported_path()),
        }
    }

    fn by_accessor(&self, fields: &Fields<'_>) -> Result<Option<String>, Fault> {
        let accessor = fields.text_or_empty("accessor")?;
        if accessor.is_empty() {
            return Err(coded("missing accessor"));
        }
        Ok(self.tokens.by_accessor(&accessor).map(|token| token.id.clone()))
    }

    fn lookup(&self, id: &str, request: &Request) -> Answer {
        let Some(token) = self.tokens.get(id) else {
            return Err(Fault::new(StatusCode::FORBIDDEN, "bad token"));
        };
        Ok(Some(Reply { data: Some(token.describe(request.now)), ..Reply::default() }))
    }

    fn renew(&mut self, id: &str, request: &Request) -> Answer {
        let increment = Fields(&request.data).seconds("increment")?.unwrap_or_default();
        let (ttl, warnings) = self.tokens.renew(id, increment, request.now).map_err(Fault::bad)?;
        let auth = self.tokens.get(id).map(|token| token.auth(ttl));
        Ok(Some(Reply { auth, warnings, ..Reply::default() }))
    }

    fn create_token(&mut self, request: &Request, own: &str, orphan: bool) -> Answer {
        let fields = Fields(&request.data);
        let sudo = self.acl(own).is_some_and(|acl| acl.is_sudo(&request.path));
        let Some(parent) = self.tokens.get(own) else {
            return Err(Fault::bad("parent token lookup failed: no parent found"));
        };
        if parent.num_uses != 0 {
            return Err(Fault::bad("restricted use token cannot generate child tokens"));
        }
        match fields.text_or_empty("type")?.as_str() {
            "" | "service" => {}
            "batch" => {
                return Err(Fault::bad("the embedded dev Vault has no batch tokens; leave `type` out"));
            }
            _ => return Err(Fault::bad("invalid 'token_type' value")),
        }
        // All fields are read first: one of the wrong type is refused whether it would be used or not.
        let num_uses = fields.int("num_uses")?.unwrap_or_default();
        let no_default = fields.bool("no_default_policy")? == Some(true);
        let no_parent = fields.bool("no_parent")? == Some(true);
        let renewable = fields.bool("renewable")?.unwrap_or(true);
        let meta = fields.pairs("meta")?;
        let mut warnings: Vec<String> = fields.unrecognized(CREATE_FIELDS).into_iter().collect();
        if num_uses < 0 {
            return Err(Fault::bad("number of uses cannot be negative"));
        }
        if fields.has("entity_alias") {
            return Err(Fault::bad("'entity_alias' is only allowed in combination with token role"));
        }
        let id = fields.text("id")?.filter(|id| !id.is_empty());
        if id.is_some() && !sudo {
            return Err(Fault::bad("root or sudo privileges required to specify token id"));
        }

        let asked = fields.items("policies")?.unwrap_or_default();
        let mut policies = if asked.is_empty() {
            parent.policies.clone()
        } else if sudo {
            sanitize(asked, !no_default)
        } else {
            let asked = sanitize(asked, false);
            if !asked.iter().all(|policy| parent.policies.contains(policy)) {
                return Err(Fault::bad("child policies must be subset of parent"));
            }
            sanitize(asked, !no_default && parent.policies.iter().any(|policy| policy == "default"))
        };
        if no_default {
            policies.retain(|policy| policy != "default");
        }
        if policies.iter().any(|policy| policy == WRAPPING || policy == "control-group") {
            let policy =
                policies.iter().find(|policy| *policy == WRAPPING).map_or("control-group", |name| name);
            return Err(Fault::bad(format!("cannot assign policy {policy:?}")));
        }
        let is_root = policies.iter().any(|policy| policy == "root");
        if is_root && !parent.is_root() {
            return Err(Fault::bad("root tokens may not be created without parent token being root"));
        }

        if no_parent && !sudo {
            return Err(Fault::bad("root or sudo privileges required to create orphan token"));
        }
        let limits = Limits {
            ttl: life(&fields, "ttl")?,
            max_ttl: 0,
            explicit_max_ttl: life(&fields, "explicit_max_ttl")?,
            period: life(&fields, "period")?,
            num_uses,
        };
        if limits.period > 0 && !sudo {
            return Err(Fault::bad("root or sudo privileges required to create periodic token"));
        }
        let mut limits = limits;
        if limits.period > 0 || limits.ttl > 0 || !is_root {
            let (ttl, said) = lifetime(limits, request.now, request.now).map_err(Fault::bad)?;
            limits.ttl = ttl;
            warnings.splice(0..0, said);
        } else {
            limits.ttl = limits.explicit_max_ttl;
        }
        if limits.ttl == 0 && parent.ttl != 0 {
            return Err(Fault::bad("expiring root tokens cannot create non-expiring root tokens"));
        }
        let renewable = renewable && limits.ttl != 0;

        if let Some(id) = &id {
            warnings.push(
                "Supplying a custom ID for the token uses the weaker SHA1 hashing instead of the more secure \
                 SHA2-256 HMAC for token obfuscation. SHA1 hashed tokens on the wire leads to less secure lookups."
                    .to_owned(),
            );
            if self.tokens.get(id).is_some() {
                return Err(Fault::bad("cannot create a token with a duplicate ID"));
            }
        }
        for policy in policies.iter().filter(|policy| *policy != "root") {
            if !self.policies.contains_key(policy) {
                warnings.push(format!("Policy {policy:?} does not exist"));
            }
        }
        let is_orphan = orphan || no_parent;
        let entity_id = if is_orphan { String::new() } else { parent.entity_id.clone() };
        let id = self.tokens.create(
            New {
                id,
                policies,
                path: request.path.clone(),
                meta,
                display_name: display_name(&fields.text_or_empty("display_name")?),
                parent: (!is_orphan).then(|| own.to_owned()),
                renewable,
                entity_id,
                renewal_ttl: limits.ttl,
                limits,
            },
            request.now,
        );
        let auth = self.tokens.get(&id).map(|token| token.auth(token.ttl));
        Ok(Some(Reply { auth, warnings, ..Reply::default() }))
    }
}

const CREATE_FIELDS: &[&str] = &[
    "display_name",
    "explicit_max_ttl",
    "entity_alias",
    "num_uses",
    "period",
    "renewable",
    "ttl",
    "lease",
    "type",
    "no_default_policy",
    "id",
    "meta",
    "no_parent",
    "policies",
];

/// The duration fields of a token are text to Vault, read after its own checks: other texts than elsewhere.
fn life(fields: &Fields<'_>, name: &str) -> Result<i64, Fault> {
    let Some(value) = fields.0.get(name).filter(|value| !value.is_null()) else { return Ok(0) };
    let text = to_text(value).unwrap_or_default();
    let found =
        duration::parse(&text).ok_or_else(|| Fault::bad(format!("time: invalid duration {text:?}")))?;
    if found.num_milliseconds() < 0 {
        return Err(Fault::bad(format!("{name} must be positive")));
    }
    Ok(found.num_seconds())
}

fn display_name(asked: &str) -> String {
    if asked.is_empty() {
        return "token".to_owned();
    }
    let clean: String =
        asked.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect();
    let name = format!("token-{clean}");
    name.strip_suffix('-').map_or(name.clone(), str::to_owned)
}

fn required(token: String) -> Result<String, Fault> {
    if token.is_empty() { Err(Fault::bad("missing token ID")) } else { Ok(token) }
}

fn coded(text: &str) -> Fault {
    Fault::bad(multierror(&[text]))
}
