//! The tokens: made, looked up, used, renewed, and revoked with their children.
//!
//! Expiry is lazy: each request first sweeps what has ended. This keeps state only; the paths below
//! `auth/token/` are in `token_paths`.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
};

use chrono::{DateTime, SubsecRound, TimeDelta, Utc};
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    duration,
    kv1::{DEFAULT_LEASE, Kv1},
    policy::Acl,
    random,
    wire::{Limits, Object, WrapInfo, time},
};

/// The longest life without a period: 768 hours, in seconds.
pub(super) const MAX_LEASE: i64 = DEFAULT_LEASE;

/// The policy of a wrapping token.
pub(super) const WRAPPING: &str = "response-wrapping";

/// One token.
pub(super) struct Token {
    pub(super) id: String,
    pub(super) accessor: String,
    pub(super) entity_id: String,
    pub(super) client_id: String,
    pub(super) policies: Vec<String>,
    /// The path that made it, `auth/token/create`.
    pub(super) path: String,
    pub(super) meta: Option<Object>,
    pub(super) display_name: String,
    /// Uses left; 0 is "any number", -1 "this was the last one".
    pub(super) num_uses: i64,
    pub(super) parent: Option<String>,
    pub(super) issued: DateTime<Utc>,
    pub(super) ttl: i64,
    pub(super) explicit_max_ttl: i64,
    pub(super) period: i64,
    /// The limit of a login's role, which renewals keep to.
    max_ttl: i64,
    /// What a renewal without an increment gives; 0 is the server's default.
    renewal_ttl: i64,
    pub(super) renewable: bool,
    pub(super) expires: Option<DateTime<Utc>>,
    pub(super) renewed: Option<DateTime<Utc>>,
    pub(super) acl: Option<Arc<Acl>>,
    pub(super) cubbyhole: Kv1,
    pub(super) wrapped: Option<Wrapped>,
}

/// What a wrapping token holds.
pub(super) struct Wrapped {
    /// The body to send when it is unwrapped.
    pub(super) body: String,
    /// The status to send with it, when it is not 200.
    pub(super) status: Option<StatusCode>,
    pub(super) creation_path: String,
    pub(super) creation_time: DateTime<Utc>,
    pub(super) ttl: TimeDelta,
}

impl Token {
    pub(super) fn is_root(&self) -> bool {
        self.policies.iter().any(|policy| policy == "root")
    }

    pub(super) fn is_wrapping(&self) -> bool {
        self.policies == [WRAPPING]
    }

    /// Whole seconds left; 0 when it does not end. Vault rounds the present to the second first.
    fn left(&self, now: DateTime<Utc>) -> i64 {
        let now = now.round_subsecs(0);
        self.expires.map_or(0, |at| at.signed_duration_since(now).num_seconds().max(0))
    }

    /// What `lookup` shows.
    pub(super) fn describe(&self, now: DateTime<Utc>) -> Object {
        let mut out = Object::new();
        let mut set = |key: &str, value: Value| out.insert(key.to_owned(), value);
        set("accessor", json!(self.accessor));
        set("creation_time", json!(self.issued.timestamp()));
        set("creation_ttl", json!(self.ttl));
        set("display_name", json!(self.display_name));
        set("entity_id", json!(self.entity_id));
        set("expire_time", self.expires.map_or(Value::Null, |at| json!(time(at))));
        set("explicit_max_ttl", json!(self.explicit_max_ttl));
        set("id", json!(self.id));
        set("issue_time", json!(time(self.issued)));
        set("meta", self.meta.clone().map_or(Value::Null, Value::Object));
        set("num_uses", json!(self.num_uses));
        set("orphan", json!(self.parent.is_none()));
        set("path", json!(self.path));
        set("policies", json!(self.policies));
        set("renewable", json!(self.renewable));
        set("ttl", json!(self.left(now)));
        set("type", json!("service"));
        if self.period > 0 {
            set("period", json!(self.period));
        }
        if let Some(at) = self.renewed {
            set("last_renewal", json!(time(at)));
            set("last_renewal_time", json!(at.timestamp()));
        }
        out
    }

    /// The `auth` block of an answer that made or renewed this token.
    pub(super) fn auth(&self, lease_duration: i64) -> Value {
        let mut auth = json!({
            "client_token": self.id,
            "accessor": self.accessor,
            "policies": self.policies,
            "token_policies": self.policies,
            "metadata": self.meta,
            "lease_duration": lease_duration,
            "renewable": self.renewable,
            "entity_id": self.entity_id,
            "token_type": "service",
            "orphan": self.parent.is_none(),
            "mfa_requirement": null,
            "num_uses": self.num_uses,
        });
        if self.policies.is_empty()
            && let Some(auth) = auth.as_object_mut()
        {
            auth.remove("token_policies");
        }
        auth
    }
}

/// What a new token shall be.
pub(super) struct New {
    pub(super) id: Option<String>,
    pub(super) policies: Vec<String>,
    pub(super) path: String,
    pub(super) meta: Option<Object>,
    pub(super) display_name: String,
    pub(super) parent: Option<String>,
    pub(super) renewable: bool,
    pub(super) entity_id: String,
    pub(super) renewal_ttl: i64,
    pub(super) limits: Limits,
}

/// All tokens.
#[derive(Default)]
pub(super) struct Tokens {
    by_id: HashMap<String, Token>,
    by_accessor: HashMap<String, String>,
    children: HashMap<String, Vec<String>>,
    ends: BTreeSet<(DateTime<Utc>, String)>,
}

impl Tokens {
    /// Removes what has ended, with its children.
    pub(super) fn sweep(&mut self, now: DateTime<Utc>) {
        while let Some((at, id)) = self.ends.first() {
            if *at > now {
                break;
            }
            let id = id.clone();
            self.revoke(&id);
        }
    }

    pub(super) fn get(&self, id: &str) -> Option<&Token> {
        self.by_id.get(id)
    }

    pub(super) fn get_mut(&mut self, id: &str) -> Option<&mut Token> {
        self.by_id.get_mut(id)
    }

    pub(super) fn by_accessor(&self, accessor: &str) -> Option<&Token> {
        self.by_accessor.get(accessor).and_then(|id| self.by_id.get(id))
    }

    pub(super) fn accessors(&self) -> Vec<String> {
        let mut all: Vec<String> = self.by_accessor.keys().cloned().collect();
        all.sort();
        all
    }

    /// The compiled policies of every token are out of date.
    pub(super) fn forget_acls(&mut self) {
        for token in self.by_id.values_mut() {
            token.acl = None;
        }
    }

    /// Makes a token; the limits are final already. Gives its id.
    pub(super) fn create(&mut self, new: New, now: DateTime<Utc>) -> String {
        let id = new.id.unwrap_or_else(|| format!("hvs.{}", random::letters(91)));
        let expires = (new.limits.ttl > 0).then(|| now + TimeDelta::seconds(new.limits.ttl));
        let token = Token {
            id: id.clone(),
            accessor: random::letters(24),
            // Vault counts a token without an entity by a digest of its policies; nobody can tell here.
            client_id: if new.entity_id.is_empty() {
                random::letters(43) + "="
            } else {
                new.entity_id.clone()
            },
            entity_id: new.entity_id,
            policies: new.policies,
            path: new.path,
            meta: new.meta,
            display_name: new.display_name,
            num_uses: new.limits.num_uses,
            parent: new.parent,
            issued: now,
            ttl: new.limits.ttl,
            explicit_max_ttl: new.limits.explicit_max_ttl,
            period: new.limits.period,
            max_ttl: new.limits.max_ttl,
            renewal_ttl: new.renewal_ttl,
            renewable: new.renewable,
            expires,
            renewed: None,
            acl: None,
            cubbyhole: Kv1::cubbyhole(),
            wrapped: None,
        };
        if let Some(parent) = &token.parent {
            self.children.entry(parent.clone()).or_default().push(id.clone());
        }
        if let Some(at) = expires {
            self.ends.insert((at, id.clone()));
        }
        self.by_accessor.insert(token.accessor.clone(), id.clone());
        self.by_id.insert(id.clone(), token);
        id
    }

    /// Makes a wrapping token around a body.
    pub(super) fn wrap(&mut self, wrapped: Wrapped, path: &str, now: DateTime<Utc>) -> WrapInfo {
        let ttl = wrapped.ttl;
        let creation_path = wrapped.creation_path.clone();
        let id = self.create(
            New {
                id: None,
                policies: vec![WRAPPING.to_owned()],
                path: path.to_owned(),
                meta: None,
                display_name: String::new(),
                parent: None,
                renewable: false,
                entity_id: String::new(),
                renewal_ttl: 0,
                limits: Limits {
                    ttl: ttl.num_seconds().max(1),
                    explicit_max_ttl: ttl.num_seconds(),
                    num_uses: 1,
                    ..Limits::default()
                },
            },
            now,
        );
        let mut accessor = String::new();
        if let Some(token) = self.by_id.get_mut(&id) {
            token.wrapped = Some(wrapped);
            accessor.clone_from(&token.accessor);
        }
        WrapInfo {
            token: id,
            accessor,
            ttl: ttl.num_seconds(),
            creation_time: now,
            creation_path,
            wrapped_accessor: None,
        }
    }

    /// Counts one use. The token of the last use stays until the request is done: the caller revokes it.
    pub(super) fn spend(&mut self, id: &str) -> bool {
        let Some(token) = self.by_id.get_mut(id) else { return false };
        match token.num_uses {
            0 => false,
            1 => {
                token.num_uses = -1;
                true
            }
            _ => {
                token.num_uses -= 1;
                false
            }
        }
    }

    /// Prolongs a token and gives the seconds it now has, with warnings; `Err` is Vault's refusal.
    pub(super) fn renew(
        &mut self,
        id: &str,
        increment: i64,
        now: DateTime<Utc>,
    ) -> Result<(i64, Vec<String>), &'static str> {
        let Some(token) = self.by_id.get_mut(id) else { return Err("token not found") };
        let Some(old) = token.expires.filter(|_| token.renewable) else {
            return Err("lease is not renewable");
        };
        let limits = Limits {
            ttl: if increment > 0 { increment } else { token.renewal_ttl },
            max_ttl: token.max_ttl,
            explicit_max_ttl: token.explicit_max_ttl,
            period: token.period,
            num_uses: 0,
        };
        let (ttl, warnings) = lifetime(limits, token.issued, now)?;
        let at = now + TimeDelta::seconds(ttl);
        token.expires = Some(at);
        token.renewed = Some(now);
        // A login's next renewal asks its role again, any other token goes on with what it got.
        if token.path.starts_with("auth/token/") {
            token.renewal_ttl = ttl;
        }
        self.ends.remove(&(old, id.to_owned()));
        self.ends.insert((at, id.to_owned()));
        Ok((ttl, warnings))
    }

    /// Ends a token and all below it.
    pub(super) fn revoke(&mut self, id: &str) {
        let mut doomed = vec![id.to_owned()];
        while let Some(id) = doomed.pop() {
            doomed.extend(self.children.remove(&id).unwrap_or_default());
            self.remove(&id);
        }
    }

    /// Ends a token alone; its children become orphans.
    pub(super) fn revoke_orphan(&mut self, id: &str) {
        for child in self.children.remove(id).unwrap_or_default() {
            if let Some(child) = self.by_id.get_mut(&child) {
                child.parent = None;
            }
        }
        self.remove(id);
    }

    fn remove(&mut self, id: &str) {
        let Some(token) = self.by_id.remove(id) else {
            self.ends.retain(|(_, known)| known != id);
            return;
        };
        self.by_accessor.remove(&token.accessor);
        if let Some(at) = token.expires {
            self.ends.remove(&(at, id.to_owned()));
        }
        if let Some(parent) = &token.parent
            && let Some(siblings) = self.children.get_mut(parent)
        {
            siblings.retain(|sibling| sibling != id);
        }
    }
}

/// How long a token lives from now: what is asked for, within the maximum. With Vault's warnings.
pub(super) fn lifetime(
    asked: Limits,
    start: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Result<(i64, Vec<String>), &'static str> {
    let mut warnings = Vec::new();
    let max =
        [asked.max_ttl, asked.explicit_max_ttl].into_iter().filter(|max| *max > 0).fold(MAX_LEASE, i64::min);
    let passed = now.timestamp() - start.timestamp();
    let (mut ttl, end) = if asked.period > 0 {
        if asked.period > max {
            warnings.push(format!(
                "period of {:?} exceeded the effective max_ttl of {:?}; period value is capped accordingly",
                human(asked.period),
                human(max)
            ));
        }
        (asked.period.min(max), (asked.explicit_max_ttl > 0).then_some(asked.explicit_max_ttl))
    } else {
        (if asked.ttl > 0 { asked.ttl } else { DEFAULT_LEASE }, Some(max))
    };
    if let Some(end) = end {
        let left = end - passed;
        if left <= 0 {
            return Err("past the max TTL, cannot renew");
        }
        if ttl > left {
            warnings.push(format!(
                "TTL of {:?} exceeded the effective max_ttl of {:?}; TTL value is capped accordingly",
                human(ttl),
                human(left)
            ));
            ttl = left;
        }
    }
    Ok((ttl, warnings))
}

/// Seconds as Vault's warnings print them: zero parts at the end left out.
fn human(seconds: i64) -> String {
    let text = duration::to_go(seconds);
    let text = text.strip_suffix("m0s").map_or(text.clone(), |text| format!("{text}m"));
    text.replacen("h0m", "h", 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new(parent: Option<&str>, ttl: i64) -> New {
        New {
            id: None,
            policies: vec!["default".to_owned()],
            path: "auth/token/create".to_owned(),
            meta: None,
            display_name: "token".to_owned(),
            parent: parent.map(str::to_owned),
            renewable: true,
            entity_id: String::new(),
            renewal_ttl: 0,
            limits: Limits { ttl, ..Limits::default() },
        }
    }

    #[test]
    fn children_end_with_their_parent() {
        let now = Utc::now();
        let mut tokens = Tokens::default();
        let parent = tokens.create(new(None, 60), now);
        let child = tokens.create(new(Some(&parent), 600), now);
        let grandchild = tokens.create(new(Some(&child), 0), now);
        tokens.sweep(now + TimeDelta::seconds(59));
        assert!(tokens.get(&parent).is_some());
        tokens.sweep(now + TimeDelta::seconds(60));
        for id in [&parent, &child, &grandchild] {
            assert!(tokens.get(id).is_none());
        }
        assert!(tokens.accessors().is_empty() && tokens.ends.is_empty() && tokens.children.is_empty());
    }

    #[test]
    fn orphans_outlive_their_parent() {
        let now = Utc::now();
        let mut tokens = Tokens::default();
        let parent = tokens.create(new(None, 60), now);
        let child = tokens.create(new(Some(&parent), 600), now);
        tokens.revoke_orphan(&parent);
        assert!(tokens.get(&child).unwrap().parent.is_none());
    }

    #[test]
    fn a_renewal_keeps_to_the_maximum() {
        let now = Utc::now();
        let mut tokens = Tokens::default();
        let mut asked = new(None, 60);
        asked.limits.explicit_max_ttl = 100;
        let id = tokens.create(asked, now);
        let (ttl, warnings) = tokens.renew(&id, 600, now + TimeDelta::seconds(40)).unwrap();
        assert_eq!(ttl, 60);
        assert_eq!(
            warnings,
            ["TTL of \"10m\" exceeded the effective max_ttl of \"1m\"; TTL value is capped accordingly"]
        );
    }
}
