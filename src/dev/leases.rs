//! Leases: what was issued, until when, and `sys/leases/…` over it.
//!
//! A lease ends with its time, with the token that it was issued to, or when it is revoked; then its engine
//! hears of it. Nothing here can be renewed: no engine issues what could be.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::{
    core::Core,
    duration,
    fields::Fields,
    mounts::Slot,
    random,
    wire::{Answer, Fault, Op, Reply, Request, Secret, time},
};

/// All leases, by id.
#[derive(Default)]
pub(super) struct Leases(BTreeMap<String, Lease>);

struct Lease {
    /// The mount that issued it, and what it knows it by.
    mount: String,
    secret: String,
    /// The token that it was issued to.
    token: String,
    issued: DateTime<Utc>,
    ends: DateTime<Utc>,
}

impl Core {
    /// Makes the lease of an answer that issues something.
    pub(super) fn lease(&mut self, reply: &mut Reply, request: &Request, mount: &str) {
        let Some(Secret { name, ttl }) = reply.secret.take() else { return };
        let id = format!("{}/{}", request.path, random::letters(24));
        reply.lease_id.clone_from(&id);
        reply.lease_duration = ttl;
        let lease = Lease {
            mount: mount.to_owned(),
            secret: name,
            token: request.token.clone().unwrap_or_default(),
            issued: request.now,
            ends: duration::later(request.now, ttl),
        };
        self.leases.0.insert(id, lease);
    }

    /// Ends the leases whose time is over or whose token or mount is gone.
    pub(super) fn sweep_leases(&mut self, now: DateTime<Utc>) {
        let Self { leases, tokens, mounts, .. } = self;
        leases.0.retain(|_, lease| {
            let Some(mount) = mounts.get_mut(&lease.mount) else { return false };
            let lives = lease.ends > now && tokens.get(&lease.token).is_some();
            if !lives && let Slot::Engine(engine) = &mut mount.slot {
                engine.revoke(&lease.secret, now);
            }
            lives
        });
    }

    fn revoke_lease(&mut self, id: &str, now: DateTime<Utc>) {
        if let Some(lease) = self.leases.0.remove(id)
            && let Some(Slot::Engine(engine)) = self.mounts.get_mut(&lease.mount).map(|mount| &mut mount.slot)
        {
            engine.revoke(&lease.secret, now);
        }
    }

    /// `sys/leases/…` and the older paths of the same.
    pub(super) fn lease_paths(&mut self, request: &Request, path: &str) -> Answer {
        let fields = Fields(&request.data);
        let (call, inline) = match path.split_once('/') {
            Some(("leases", call)) => call.split_once('/').unwrap_or((call, "")),
            Some((call, inline)) => (call, inline),
            None => (path, ""),
        };
        let id = match fields.text_or_empty("lease_id")? {
            id if id.is_empty() => fields.text_or_empty("url_lease_id")?,
            id => id,
        };
        let id = if id.is_empty() { inline.to_owned() } else { id };
        match (call, request.op) {
            ("lookup", Op::List) => Ok(Some(Reply::keys(self.leases.below(inline)))),
            ("revoke-prefix" | "revoke-force", Op::Update) if !inline.is_empty() => {
                let prefix = format!("{}/", inline.trim_end_matches('/'));
                let ids: Vec<String> =
                    self.leases.0.keys().filter(|id| id.starts_with(&prefix)).cloned().collect();
                for id in ids {
                    self.revoke_lease(&id, request.now);
                }
                Ok(None)
            }
            ("lookup" | "renew" | "revoke", Op::Update) if id.is_empty() => {
                Err(Fault::bad("lease_id must be specified"))
            }
            ("lookup", Op::Update) => match self.leases.0.get(&id) {
                Some(lease) => Ok(Some(Reply::data(lease.describe(&id, request.now)))),
                None => Err(Fault::bad("invalid lease")),
            },
            ("renew", Op::Update) => Err(match self.leases.0.get(&id) {
                Some(_) => Fault::bad("lease is not renewable"),
                None => Fault::bad("lease not found"),
            }),
            ("revoke", Op::Update) => {
                self.revoke_lease(&id, request.now);
                Ok(None)
            }
            ("lookup" | "renew" | "revoke" | "revoke-prefix" | "revoke-force", _) => {
                Err(Fault::unsupported_operation())
            }
            _ => Err(Fault::unsupported_path()),
        }
    }
}

impl Leases {
    /// The next parts of the ids below a prefix, each once; those that go on end in a slash.
    fn below(&self, prefix: &str) -> Vec<String> {
        let mut keys: Vec<String> = self
            .0
            .keys()
            .filter_map(|id| id.strip_prefix(prefix))
            .map(|rest| match rest.split_once('/') {
                Some((folder, _)) => format!("{folder}/"),
                None => rest.to_owned(),
            })
            .collect();
        keys.dedup();
        keys
    }
}

impl Lease {
    fn describe(&self, id: &str, now: DateTime<Utc>) -> Value {
        json!({
            "id": id,
            "issue_time": time(self.issued),
            "expire_time": time(self.ends),
            "last_renewal": null,
            "renewable": false,
            "ttl": (self.ends - now).num_seconds(),
        })
    }
}
