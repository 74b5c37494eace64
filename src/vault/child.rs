//! A Vault token of its own for each subject, with that subject's policy and no other.
//!
//! The server's own token makes them. A session of a caller's carries one, and there is no way from it to the
//! server's own: where none can be had, the call fails. What this module does not do: decide whose sessions
//! carry one ([`Vault::session_for`] does), or send a caller's requests.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use futures_util::stream::{self, StreamExt};
use tokio::{sync::OwnedMutexGuard, task::JoinHandle};
use tracing::Instrument;

use super::{
    How, Session, Vault, WRITE,
    sys::{self, CreateToken, RenewSelf, RevokeSelf},
};
use crate::{
    config::{Config, FromSetting, SecretText},
    error::Error,
    names::Subject,
    op::Boxed,
    telemetry::meters::{self, ChildToken},
};

/// Subjects that have a token at a time. One more ends that of the subject that was quiet for longest.
const MAX_SUBJECTS: usize = 4096;
/// Tokens that are revoked at a time when the server ends.
const REVOKED_AT_A_TIME: usize = 16;

/// How a token is asked for: once, and again only where Vault says that it does not know the server's own.
const MAKE: How = How { replace_token: true, ..WRITE };

/// A subject's token. It is known to this process alone.
pub(super) struct Child {
    pub(super) subject: Subject,
    pub(super) token: SecretText,
    /// From then on a new one is made.
    stale: Instant,
    ends: Mutex<Instant>,
    /// Held by whoever has Vault prolong it: of two the later could shorten what the other was given.
    prolonging: tokio::sync::Mutex<()>,
}

impl Child {
    fn ends(&self) -> Instant {
        *self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_fresh(&self) -> bool {
        Instant::now() < self.stale
    }

    fn has_ended(&self) -> bool {
        self.ends() <= Instant::now()
    }
}

/// What keeps a lease alive: Vault ends a lease with the token that it was issued to.
#[derive(Clone, Default)]
pub struct Holder(Option<Arc<Child>>);

impl std::fmt::Debug for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "a subject's token" } else { "the server's token" })
    }
}

impl Holder {
    pub(super) fn of(child: Option<Arc<Child>>) -> Self {
        Self(child)
    }

    pub(super) fn child(&self) -> Option<&Arc<Child>> {
        self.0.as_ref()
    }
}

struct Slot {
    child: Option<Arc<Child>>,
    /// Held by whoever makes the subject's next one.
    gate: Arc<tokio::sync::Mutex<()>>,
    used: Instant,
}

impl Slot {
    /// True when nothing but the table knows of it: no call uses it, no lease hangs on it.
    fn is_idle(&self) -> bool {
        Arc::strong_count(&self.gate) == 1
            && self.child.as_ref().is_none_or(|child| Arc::strong_count(child) == 1)
    }
}

#[derive(Default)]
struct Table {
    by_subject: HashMap<Subject, Slot>,
    /// No longer given out, and not ended: a call or a lease may still need them.
    former: Vec<Arc<Child>>,
    closed: bool,
}

impl Table {
    /// Sets the subject's token aside, if it is this one or any.
    fn retire(&mut self, subject: &Subject, which: Option<&Arc<Child>>) {
        let Some(slot) = self.by_subject.get_mut(subject) else { return };
        let is_meant = |child: &Arc<Child>| which.is_none_or(|which| Arc::ptr_eq(which, child));
        if slot.child.as_ref().is_some_and(is_meant) {
            self.former.extend(slot.child.take());
        }
        self.former.retain(|child| !child.has_ended());
    }

    /// Makes room for one more subject. Gives the tokens that have to end for it: one, or more where there was a
    /// time at which none could.
    fn make_room(&mut self, most: usize) -> Vec<Arc<Child>> {
        let mut evicted = Vec::new();
        while self.by_subject.len() >= most {
            let idle = self.by_subject.iter().filter(|(_, slot)| slot.is_idle());
            let Some((quiet, _)) = idle.min_by_key(|(_, slot)| slot.used) else { break };
            let quiet = quiet.clone();
            evicted.extend(self.by_subject.remove(&quiet).and_then(|slot| slot.child));
        }
        evicted.retain(|child| !child.has_ended());
        evicted
    }
}

/// The tokens of all subjects.
pub(super) struct Children {
    prefix: String,
    ttl: u64,
    /// API path that makes them.
    path: String,
    most: usize,
    table: Mutex<Table>,
}

impl Children {
    /// From the settings; nothing where they are switched off.
    pub(super) fn new(config: &Config) -> Option<Self> {
        config.child_token_enabled.then(|| Self {
            prefix: config.child_token_policy_prefix.as_str().to_owned(),
            ttl: config.child_token_ttl.0,
            path: match &*config.child_token_role {
                Some(role) => format!("auth/token/create/{role}"),
                None => "auth/token/create".to_owned(),
            },
            most: MAX_SUBJECTS,
            table: Mutex::default(),
        })
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The subject's token if there is one to be used, else what must be held to make one.
    fn look(&self, vault: &Arc<Vault>, subject: &Subject) -> Result<Found, Error> {
        let mut table = self.table();
        if table.closed {
            return Err(Error::ShuttingDown);
        }
        let evicted = match table.by_subject.contains_key(subject) {
            true => Vec::new(),
            false => table.make_room(self.most),
        };
        let now = Instant::now();
        let slot = table.by_subject.entry(subject.clone()).or_insert_with(|| Slot {
            child: None,
            gate: Arc::default(),
            used: now,
        });
        slot.used = now;
        let found = match slot.child.as_ref().filter(|child| child.is_fresh()) {
            Some(child) => Found::Child(child.clone()),
            None => Found::Gate(slot.gate.clone()),
        };
        drop(table);
        for child in evicted {
            let vault = vault.clone();
            tokio::spawn(async move { revoke(&vault, &child).await });
        }
        Ok(found)
    }

    /// The subject's token, made where there is none or it has lived four fifths of its life. Of the calls that
    /// want one at the same time, one asks Vault.
    ///
    /// # Errors
    /// `child_token` where Vault gives none; `shutting_down`; what stands between here and Vault.
    pub(super) async fn current(&self, vault: &Arc<Vault>, subject: &Subject) -> Result<Arc<Child>, Error> {
        let gate = match self.look(vault, subject)? {
            Found::Child(child) => return Ok(child),
            Found::Gate(gate) => gate,
        };
        let held = gate.lock_owned().await;
        // Whoever held it before has made one, most likely.
        if let Found::Child(child) = self.look(vault, subject)? {
            return Ok(child);
        }
        let made = start(vault.clone(), subject.clone(), held).await;
        made.map_err(|_| Error::Internal { what: "the making of a token ended in a panic" })?
    }

    /// Another token in place of one that Vault no longer accepts.
    ///
    /// # Errors
    /// As [`Self::current`].
    pub(super) async fn instead_of(
        &self,
        vault: &Arc<Vault>,
        stale: &Arc<Child>,
    ) -> Result<Arc<Child>, Error> {
        self.forget(stale);
        self.current(vault, &stale.subject).await
    }

    /// Vault no longer accepts this one.
    pub(super) fn forget(&self, child: &Arc<Child>) {
        *child.ends.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        self.table().retire(&child.subject, Some(child));
    }

    /// The server has another token of its own: whoever calls next gets one made of it.
    pub(super) fn retire_all(&self) {
        let mut table = self.table();
        let subjects: Vec<_> = table.by_subject.keys().cloned().collect();
        for subject in subjects {
            table.retire(&subject, None);
        }
    }

    /// Puts a token in place, unless the server is ending.
    fn keep(&self, child: &Arc<Child>) -> Result<(), Error> {
        let mut table = self.table();
        if table.closed {
            return Err(Error::ShuttingDown);
        }
        table.retire(&child.subject, None);
        let slot = table.by_subject.entry(child.subject.clone()).or_insert_with(|| Slot {
            child: None,
            gate: Arc::default(),
            used: Instant::now(),
        });
        slot.child = Some(child.clone());
        Ok(())
    }

    /// Revokes every token, for at most this long. No more are made.
    pub(super) async fn revoke_all(&self, vault: &Arc<Vault>, within: Duration) {
        let (children, gates) = {
            let mut table = self.table();
            table.closed = true;
            let slots: Vec<_> = table.by_subject.drain().map(|(_, slot)| slot).collect();
            let mut children = std::mem::take(&mut table.former);
            let (current, gates): (Vec<_>, Vec<_>) =
                slots.into_iter().map(|slot| (slot.child, slot.gate)).unzip();
            children.extend(current.into_iter().flatten());
            children.retain(|child| !child.has_ended());
            (children, gates)
        };
        let count = children.len();
        let revoked = async {
            stream::iter(children)
                .for_each_concurrent(REVOKED_AT_A_TIME, |child| async move { revoke(vault, &child).await })
                .await;
            // Whoever is making one finds the table closed and revokes it.
            for gate in gates {
                drop(gate.lock().await);
            }
        };
        if tokio::time::timeout(within, revoked).await.is_err() {
            tracing::warn!(
                count,
                "not all tokens of subjects could be revoked in time; they end by themselves"
            );
        }
    }

    /// The policy of a subject.
    fn policy(&self, subject: &Subject) -> String {
        format!("{}{subject}", self.prefix)
    }

    /// What the server's own policy has to say so that it can make them.
    fn need(&self) -> (&str, &'static [&'static str]) {
        // A role says itself what its tokens may be; else only sudo lets a token make one that it is no part of.
        (&self.path, if self.path.ends_with("create") { &["update", "sudo"] } else { &["update"] })
    }

    /// Whether the server's own token may make them, as far as it may ask.
    ///
    /// # Errors
    /// `child_token`.
    pub(super) async fn check(&self, own: &Session) -> Result<(), Error> {
        let (path, needed) = self.need();
        let Ok(lists) = sys::capabilities(own, vec![path.to_owned()]).await else { return Ok(()) };
        let may = |list: &Vec<String>| needed.iter().all(|word| sys::allows(list, &[word]));
        match lists.first() {
            Some(list) if !may(list) => Err(self.refused("the server's own may not make one".into())),
            Some(_) | None => Ok(()),
        }
    }

    fn refused(&self, fault: String) -> Error {
        let (path, capabilities) = self.need();
        let capabilities: Vec<_> = capabilities.iter().map(|word| format!("\"{word}\"")).collect();
        Error::ChildToken {
            fault: fault.into(),
            line: format!("path \"{path}\" {{ capabilities = [{}] }}", capabilities.join(", ")),
        }
    }
}

enum Found {
    Child(Arc<Child>),
    Gate(Arc<tokio::sync::Mutex<()>>),
}

/// Makes a token in a task of its own: a caller that goes away must not leave one that nobody knows of.
fn start(
    vault: Arc<Vault>,
    subject: Subject,
    held: OwnedMutexGuard<()>,
) -> JoinHandle<Result<Arc<Child>, Error>> {
    let making = async move {
        let made = make(&vault, &subject).await;
        drop(held);
        made
    };
    // The request to Vault belongs to the call that needs the token.
    tokio::spawn(making.in_current_span())
}

/// Boxed, for it sends a request, which may lead here.
fn make<'a>(vault: &'a Arc<Vault>, subject: &'a Subject) -> Boxed<'a, Result<Arc<Child>, Error>> {
    Box::pin(async move {
        let Some(children) = vault.children() else {
            return Err(Error::Internal { what: "a token for a subject where there are none" });
        };
        let asked = children.ask(vault, subject).await;
        meters::child_token(if asked.is_ok() { ChildToken::Issued } else { ChildToken::Failed });
        let child = Arc::new(asked?);
        if let Err(error) = children.keep(&child) {
            revoke(vault, &child).await;
            return Err(error);
        }
        Ok(child)
    })
}

impl Children {
    async fn ask(&self, vault: &Arc<Vault>, subject: &Subject) -> Result<Child, Error> {
        let policy = self.policy(subject);
        let request = CreateToken {
            path: self.path.clone(),
            policies: vec![policy.clone()],
            ttl: format!("{}s", self.ttl),
            kind: "service",
            display_name: format!("vault-mcp-{subject}"),
            meta: [("subject", subject.as_str().to_owned())].into(),
        };
        // Before it is sent: the token lives from some moment after.
        let asked = Instant::now();
        let session = vault.own_session();
        let raw = session.exchange(&request, MAKE).await.map_err(|error| match error {
            // A token that was made and did not arrive ends by itself, and nothing of the call has happened.
            Error::OutcomeUnknown { fault, .. } => {
                Error::VaultUnreachable { address: vault.address().to_owned(), fault: fault.into() }
            }
            other => other,
        })?;
        let auth = match raw.status {
            200..=299 => raw.envelope::<serde_json::Value>()?.auth,
            403 => {
                return Err(match session.forbidden(&raw, &self.path, "\"update\"").await {
                    Error::Forbidden { .. } => self.refused("the server's own may not make one".into()),
                    other => other,
                });
            }
            _ if raw.says("subset") => {
                return Err(self.refused(format!("the server's own may not give the policy \"{policy}\"")));
            }
            status => {
                return Err(
                    self.refused(format!("Vault refused to make one (status {status}){}", raw.hint()))
                );
            }
        };
        let auth = auth.ok_or(Error::VaultAnswer { fault: "a login without a token" })?;
        let token = SecretText::parse(&auth.client_token)
            .map_err(|_| Error::VaultAnswer { fault: "a login without a token" })?;
        let life = |share: f64| asked + Duration::from_secs(auth.lease_duration).mul_f64(share);
        let child = Child {
            subject: subject.clone(),
            token,
            stale: life(0.8),
            ends: Mutex::new(life(1.0)),
            prolonging: tokio::sync::Mutex::default(),
        };
        // A token takes over the identity of the one that made it, and with it that identity's policies.
        if let Some(more) = auth.policies.iter().find(|name| !["default", &policy].contains(&name.as_str())) {
            let fault = format!(
                "one would also carry the policy \"{}\" of the server's own identity; give the server its policies by its token, or make these by a token role with orphan=true (CHILD_TOKEN_ROLE)",
                crate::names::shown(more, 64)
            );
            revoke(vault, &Arc::new(child)).await;
            return Err(self.refused(fault));
        }
        tracing::debug!(%subject, seconds = auth.lease_duration, "a token of the subject's own was made");
        Ok(child)
    }
}

/// Ends a token. What cannot be revoked ends by itself.
async fn revoke(vault: &Arc<Vault>, child: &Arc<Child>) {
    let session = Session::of_child(vault, child);
    match session.write(&RevokeSelf, "\"update\"").await {
        Ok(_) => meters::child_token(ChildToken::Revoked),
        Err(error) => {
            tracing::warn!(subject = %child.subject, code = error.code(), "a subject's token could not be revoked");
        }
    }
}

/// Makes a token last this long from now, if Vault lets it. Gives the seconds that it lasts.
pub(super) async fn prolong(vault: &Arc<Vault>, child: &Arc<Child>, seconds: u64) -> u64 {
    let _one_at_a_time = child.prolonging.lock().await;
    let left = || child.ends().saturating_duration_since(Instant::now()).as_secs();
    if left() >= seconds {
        return seconds;
    }
    let asked = Instant::now();
    let request = RenewSelf { increment: Some(format!("{seconds}s")) };
    let renewed = Session::of_child(vault, child).write(&request, "\"update\"").await;
    let Some(auth) = renewed.ok().and_then(|envelope| envelope.auth) else { return left().min(seconds) };
    let ends = asked + Duration::from_secs(auth.lease_duration);
    let mut known = child.ends.lock().unwrap_or_else(PoisonError::into_inner);
    *known = ends.max(*known);
    auth.lease_duration.min(seconds)
}

#[cfg(test)]
mod tests {
    use axum::{Json, Router, extract::Request};
    use serde_json::{Value, json};
    use tokio::{net::TcpListener, sync::mpsc};

    use super::*;
    use crate::config::Layers;

    /// A Vault that makes tokens, each with the number of its making as its name, and tells which ones are revoked.
    async fn vault_of(most: usize) -> (Arc<Vault>, mpsc::UnboundedReceiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let (tell, revoked) = mpsc::unbounded_channel();
        let made = Arc::new(Mutex::new(0));
        let answer = async move |request: Request| {
            if request.uri().path().ends_with("/revoke-self") {
                let token = request.headers()["x-vault-token"].to_str().unwrap().to_owned();
                tell.send(token).unwrap();
                return Json(Value::Null);
            }
            assert!(request.uri().path().ends_with("/token/create"), "{}", request.uri());
            let number = {
                let mut made = made.lock().unwrap();
                *made += 1;
                *made
            };
            let auth = json!({
                "client_token": format!("hvs.{number}"), "lease_duration": 90, "policies": ["default"],
            });
            Json(json!({ "request_id": "x", "auth": auth }))
        };
        tokio::spawn(async move { axum::serve(listener, Router::new().fallback(answer)).await });
        let environment =
            [("VAULT_ADDR", &*address), ("VAULT_TOKEN", "hvs.own"), ("CHILD_TOKEN_ENABLED", "true")]
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .into();
        let mut vault =
            Vault::new(&Config::load(&Layers { environment, ..Layers::default() }).unwrap()).unwrap();
        Arc::get_mut(&mut vault).unwrap().children.as_mut().unwrap().most = most;
        (vault, revoked)
    }

    fn subject(name: &str) -> Subject {
        Subject::parse(name).unwrap()
    }

    #[tokio::test]
    async fn one_subject_too_many_ends_the_token_of_the_one_that_was_quiet_for_longest() {
        let (vault, mut revoked) = vault_of(2).await;
        let children = vault.children().unwrap();
        let of = async |name: &str| {
            let child = children.current(&vault, &subject(name)).await.unwrap();
            // Of two uses one is the later.
            tokio::time::sleep(Duration::from_millis(2)).await;
            child.token.expose().to_owned()
        };
        assert_eq!((of("alice").await, of("bob").await), ("hvs.1".to_owned(), "hvs.2".to_owned()));
        assert_eq!(of("alice").await, "hvs.1");
        assert_eq!(of("carol").await, "hvs.3");
        assert_eq!(revoked.recv().await.unwrap(), "hvs.2");
        assert_eq!(of("alice").await, "hvs.1");
        // Whoever comes back gets another.
        assert_eq!(of("bob").await, "hvs.4");
        assert_eq!(revoked.recv().await.unwrap(), "hvs.3");
        assert_eq!(children.table().by_subject.len(), 2);
    }

    #[tokio::test]
    async fn a_token_that_a_call_or_a_lease_needs_is_not_ended_for_another_subject() {
        let (vault, mut revoked) = vault_of(1).await;
        let children = vault.children().unwrap();
        let held = Holder::of(Some(children.current(&vault, &subject("alice")).await.unwrap()));
        children.current(&vault, &subject("bob")).await.unwrap();
        assert_eq!(children.table().by_subject.len(), 2);
        drop(held);
        // The next one that comes finds both idle, and there is room for one.
        children.current(&vault, &subject("carol")).await.unwrap();
        let mut ended = [revoked.recv().await.unwrap(), revoked.recv().await.unwrap()];
        ended.sort();
        assert_eq!(ended, ["hvs.1", "hvs.2"]);
        assert_eq!(children.table().by_subject.len(), 1);
        // The end ends the rest.
        vault.end(Duration::from_secs(10)).await;
        assert_eq!(revoked.recv().await.unwrap(), "hvs.3");
    }
}
