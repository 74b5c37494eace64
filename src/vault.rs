//! Vault: one HTTP client, one executor, the token, and the engines' requests.
//!
//! vaultrs gives the typed requests; they are sent by our own [`Session`], because its client drops the
//! envelope, follows redirects with the token, and panics on a token with a newline. A `Session` is
//! lent out only inside `broker::Granted` and `broker::Look`.

mod child;
pub mod http;
pub mod issue;
pub mod kv;
mod leases;
mod mark;
pub mod sys;
pub mod token;
pub mod transit;

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ::http::Method;
use rustify::Endpoint;
use serde::{Deserialize, de::DeserializeOwned};

use crate::{
    caller::Caller,
    config::{Config, SecretText},
    error::Error,
    names::Subject,
};

use child::{Child, Children};

pub use child::Holder;
pub use http::{Raw, Transport};
pub use kv::KvKind;
pub use leases::{Lease, Leases};
pub use mark::Mark;
pub use token::Tokens;

/// How long all requests of one call may take together, retries included.
pub const DEADLINE: Duration = Duration::from_secs(10);
/// What a write leaves of that for a look at its outcome, should its answer be lost.
const READ_BACK: Duration = Duration::from_secs(2);

/// Everything about the Vault at `VAULT_ADDR` that outlives a call. Nothing is sent before the first use.
pub struct Vault {
    transport: Transport,
    tokens: Tokens,
    /// The tokens of the subjects, where each has its own.
    children: Option<Children>,
    kinds: Mutex<HashMap<String, KvKind>>,
    transit_keys: Mutex<HashMap<String, transit::KeyKind>>,
    leases: Leases,
}

impl Vault {
    /// From the settings; builds no client and opens no connection yet.
    ///
    /// # Errors
    /// `config_invalid` when the token file cannot be used.
    pub fn new(config: &Config) -> Result<Arc<Self>, Error> {
        Ok(Arc::new(Self {
            transport: Transport::new(config),
            tokens: Tokens::new(config)?,
            children: Children::new(config),
            kinds: Mutex::default(),
            transit_keys: Mutex::default(),
            leases: Leases::default(),
        }))
    }

    /// `scheme://host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.transport.address()
    }

    /// The namespace that goes with every request.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.transport.namespace()
    }

    /// The leases that this process issued.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        &self.leases
    }

    /// Puts another token of the server's own in place, as a new login hands it over.
    pub fn replace_token(&self, token: SecretText) {
        self.tokens.replace(token);
        if let Some(children) = &self.children {
            children.retire_all();
        }
    }

    /// True when each subject has a token of its own.
    #[must_use]
    pub fn has_children(&self) -> bool {
        self.children.is_some()
    }

    fn children(&self) -> Option<&Children> {
        self.children.as_ref()
    }

    /// The session of one call. Where subjects have tokens of their own it carries the subject's, and no way
    /// leads from it to the server's: an operation never sees the [`Vault`] behind it. The broker is the only
    /// caller.
    pub(crate) fn session_for(self: &Arc<Self>, caller: &Caller) -> Session {
        match &self.children {
            Some(_) if !caller.front.is_a_persons() => {
                let held = Arc::default();
                Session::new(self, Whose::Subject { subject: caller.subject.clone(), held })
            }
            _ => self.own_session(),
        }
    }

    /// A session with the server's own token: for what is about the server, and no caller's.
    pub(crate) fn own_session(self: &Arc<Self>) -> Session {
        Session::new(self, Whose::Servers)
    }

    /// Whether the server's own token may make those of its callers, where each has one.
    ///
    /// # Errors
    /// `child_token`.
    pub(crate) async fn check_children(&self, own: &Session) -> Result<(), Error> {
        match &self.children {
            Some(children) => children.check(own).await,
            None => Ok(()),
        }
    }

    /// The end: revokes the tokens that were made for callers, for at most this long, and makes no more.
    pub async fn end(self: &Arc<Self>, within: Duration) {
        if let Some(children) = &self.children {
            children.revoke_all(self, within).await;
        }
    }

    fn kind(&self, mount: &str) -> Option<KvKind> {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).get(mount).copied()
    }

    fn learn(&self, mount: &str, kind: KvKind) {
        self.kinds.lock().unwrap_or_else(PoisonError::into_inner).insert(mount.to_owned(), kind);
    }
}

/// What Vault wraps around an answer.
#[derive(Deserialize)]
pub struct Envelope<T> {
    /// Vault's id of the request, for its own audit log.
    #[serde(default)]
    pub request_id: String,
    /// Lease, where one was issued.
    #[serde(default)]
    pub lease_id: String,
    /// Lease duration in seconds.
    #[serde(default)]
    pub lease_duration: u64,
    /// True when the lease can be renewed.
    #[serde(default)]
    pub renewable: bool,
    /// The content.
    #[serde(default = "none")]
    pub data: Option<T>,
    /// Login answers.
    #[serde(default)]
    pub auth: Option<token::Auth>,
    /// In place of everything else, when the answer was wrapped.
    #[serde(default)]
    pub wrap_info: Option<Wrapping>,
    /// Remarks of the engine.
    #[serde(default)]
    pub warnings: Option<Vec<String>>,
}

/// A single-use token that holds an answer.
#[derive(Deserialize)]
pub struct Wrapping {
    /// The token.
    pub token: String,
    /// Seconds that it is good for.
    #[serde(default)]
    pub ttl: u64,
    /// When it was made (RFC 3339).
    #[serde(default)]
    pub creation_time: String,
}

fn none<T>() -> Option<T> {
    None
}

/// How a request is sent.
#[derive(Clone, Copy)]
struct How {
    content_type: Option<&'static str>,
    retry: bool,
    /// Where Vault does not know the token, take another one and send it again: then nothing has happened yet.
    replace_token: bool,
    with_token: bool,
    wrap_seconds: Option<u32>,
}

const READ: How =
    How { content_type: None, retry: true, replace_token: true, with_token: true, wrap_seconds: None };
/// Exactly once.
const WRITE: How = How { retry: false, replace_token: false, ..READ };

/// Marks requests that change nothing: they may be sent before a human was asked, and retried.
pub trait Reads: Endpoint {}

/// Whose token the requests of a session carry.
#[derive(Clone)]
enum Whose {
    /// The server's own.
    Servers,
    /// A subject's own, had at the first request.
    Subject { subject: Subject, held: Arc<Mutex<Option<Arc<Child>>>> },
}

/// The token that a request carries.
enum Bearer {
    Servers(SecretText),
    Subject(Arc<Child>),
}

impl Bearer {
    fn token(&self) -> &SecretText {
        match self {
            Self::Servers(token) => token,
            Self::Subject(child) => &child.token,
        }
    }
}

/// The right to send requests with one token, for one call.
#[derive(Clone)]
pub struct Session {
    vault: Arc<Vault>,
    whose: Whose,
    request_id: Arc<Mutex<Option<String>>>,
    ends: Instant,
}

impl Session {
    fn new(vault: &Arc<Vault>, whose: Whose) -> Self {
        Self { vault: vault.clone(), whose, request_id: Arc::default(), ends: Instant::now() + DEADLINE }
    }

    /// With this very token.
    fn of_child(vault: &Arc<Vault>, child: &Arc<Child>) -> Self {
        let held = Arc::new(Mutex::new(Some(child.clone())));
        Self::new(vault, Whose::Subject { subject: child.subject.clone(), held })
    }

    /// The Vault behind it. Operations do not get it: it has the server's own token.
    fn vault(&self) -> &Arc<Vault> {
        &self.vault
    }

    /// `scheme://host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        self.vault.address()
    }

    /// The leases that this process issued.
    #[must_use]
    pub fn leases(&self) -> &Leases {
        self.vault.leases()
    }

    /// True when it carries a subject's own token, which the server makes anew as needed.
    #[must_use]
    pub fn is_a_subjects(&self) -> bool {
        matches!(self.whose, Whose::Subject { .. })
    }

    /// Seconds until the server's own token ends, where known and few; nothing of it where it is not this
    /// session's.
    #[must_use]
    pub fn ends_soon(&self) -> Option<u64> {
        self.vault.tokens.ends_soon().filter(|_| !self.is_a_subjects())
    }

    /// Ends the token of this session: nothing that carries it works any more, and its leases end with it.
    ///
    /// # Errors
    /// As [`Self::write`].
    pub async fn end_token(&self) -> Result<(), Error> {
        self.write(&sys::RevokeSelf, "\"update\"").await?;
        self.forget_token();
        Ok(())
    }

    fn forget_token(&self) {
        match (&self.whose, &self.vault.children) {
            (Whose::Servers, _) => self.vault.tokens.forget(),
            (Whose::Subject { held, .. }, Some(children)) => {
                if let Some(child) = held.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    children.forget(&child);
                    self.vault.leases.ended_with(&child);
                }
            }
            (Whose::Subject { .. }, None) => {}
        }
    }

    /// What the leases hang on that this call is issued.
    #[must_use]
    pub fn holder(&self) -> Holder {
        match &self.whose {
            Whose::Servers => Holder::default(),
            Whose::Subject { held, .. } => {
                Holder::of(held.lock().unwrap_or_else(PoisonError::into_inner).clone())
            }
        }
    }

    /// Sees to it that what a lease hangs on lasts as long as the lease, if Vault lets it. Gives the seconds that
    /// can be counted on.
    pub async fn hold(&self, holder: &Holder, seconds: u64) -> u64 {
        match holder.child() {
            Some(child) => child::prolong(&self.vault, child, seconds).await,
            None => seconds,
        }
    }

    async fn bearer(&self) -> Result<Bearer, Error> {
        let (subject, held) = match &self.whose {
            Whose::Servers => {
                return self.vault.tokens.current(&self.vault.transport).await.map(Bearer::Servers);
            }
            Whose::Subject { subject, held } => (subject, held),
        };
        // One call, one token: what its first request was sent with.
        let known = held.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let child = match (known, &self.vault.children) {
            (Some(child), _) => child,
            (None, Some(children)) => children.current(&self.vault, subject).await?,
            (None, None) => return Err(Error::Internal { what: "a subject's token where there are none" }),
        };
        *held.lock().unwrap_or_else(PoisonError::into_inner) = Some(child.clone());
        Ok(Bearer::Subject(child))
    }

    /// Another token in place of one that Vault does not know, where there is one to be had.
    async fn instead_of(&self, stale: &Bearer) -> Result<Option<Bearer>, Error> {
        match (stale, &self.whose, &self.vault.children) {
            (Bearer::Servers(token), ..) => {
                let fresh = self.vault.tokens.instead_of(token, &self.vault.transport).await?;
                Ok(fresh.map(Bearer::Servers))
            }
            (Bearer::Subject(child), Whose::Subject { held, .. }, Some(children)) => {
                self.vault.leases.ended_with(child);
                let fresh = children.instead_of(&self.vault, child).await?;
                *held.lock().unwrap_or_else(PoisonError::into_inner) = Some(fresh.clone());
                Ok(Some(Bearer::Subject(fresh)))
            }
            (Bearer::Subject(_), ..) => Ok(None),
        }
    }

    /// The kind of a KV mount, if a call has shown it.
    #[must_use]
    pub fn kv_kind(&self, mount: &str) -> Option<KvKind> {
        self.vault.kind(mount)
    }

    /// Vault's id of the last request of this call.
    #[must_use]
    pub fn request_id(&self) -> Option<String> {
        self.request_id.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Notes the id that another back end gave the request of this call, for the audit log.
    #[cfg(feature = "kms")]
    pub(crate) fn note_request_id(&self, id: &str) {
        if (1..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        {
            *self.request_id.lock().unwrap_or_else(PoisonError::into_inner) = Some(id.to_owned());
        }
    }

    /// Sends a reading request, up to three times when the way to Vault fails, and gives the raw answer:
    /// status 2xx, 400, 403, 404 or 405.
    ///
    /// # Errors
    /// What stands in the way: token, transport, seal, standby, rate, failure.
    pub async fn read_raw<E: Reads>(&self, endpoint: &E) -> Result<Raw, Error> {
        let raw = self.exchange(endpoint, READ).await?;
        self.note(&raw);
        Ok(raw)
    }

    /// As [`Self::read_raw`], without a token.
    ///
    /// # Errors
    /// As there.
    pub async fn read_raw_openly<E: Reads>(&self, endpoint: &E) -> Result<Raw, Error> {
        self.exchange(endpoint, How { with_token: false, ..READ }).await
    }

    /// As [`Self::read_raw`], parsed; 404 is `NotFound`.
    ///
    /// # Errors
    /// As there, and what the status says.
    pub async fn read<E: Reads>(&self, endpoint: &E) -> Result<Envelope<E::Response>, Error> {
        let raw = self.read_raw(endpoint).await?;
        self.parse(raw, endpoint.path().as_str(), "\"read\"").await
    }

    /// Sends a changing request exactly once and gives the raw answer as [`Self::read_raw`] does.
    ///
    /// # Errors
    /// As there; `OutcomeUnknown` when the request may have arrived.
    pub async fn write_raw<E: Endpoint>(
        &self,
        endpoint: &E,
        content_type: Option<&'static str>,
    ) -> Result<Raw, Error> {
        let raw = self.exchange(endpoint, How { content_type, ..WRITE }).await?;
        self.note(&raw);
        if raw.status < 300 && !raw.is_vaults() {
            return Err(unknown("what came back is no answer of Vault's"));
        }
        Ok(raw)
    }

    /// Sends a request exactly once and has Vault put its answer into a single-use wrapping token.
    ///
    /// # Errors
    /// As [`Self::write_raw`], and what the status says.
    pub async fn write_wrapped<E: Endpoint>(
        &self,
        endpoint: &E,
        seconds: u32,
        capabilities: &str,
    ) -> Result<Wrapping, Error> {
        let raw = self.exchange(endpoint, How { wrap_seconds: Some(seconds), ..WRITE }).await?;
        let envelope = self.parse::<serde_json::Value>(raw, endpoint.path().as_str(), capabilities).await?;
        envelope.wrap_info.ok_or(Error::VaultAnswer { fault: "an answer that is not wrapped" })
    }

    /// As [`Self::write_raw`], parsed.
    ///
    /// # Errors
    /// As there, and what the status says.
    pub async fn write<E: Endpoint>(
        &self,
        endpoint: &E,
        capabilities: &str,
    ) -> Result<Envelope<E::Response>, Error> {
        let raw = self.write_raw(endpoint, None).await?;
        self.parse(raw, endpoint.path().as_str(), capabilities).await
    }

    /// Turns a raw answer into its envelope.
    ///
    /// # Errors
    /// What the status says.
    pub async fn parse<T: DeserializeOwned>(
        &self,
        raw: Raw,
        path: &str,
        capabilities: &str,
    ) -> Result<Envelope<T>, Error> {
        match raw.status {
            200..=299 => raw.envelope(),
            403 => Err(self.forbidden(&raw, path, capabilities).await),
            404 => Err(if raw.says("no handler for route") { mount_missing(path) } else { Error::NotFound }),
            400 if raw.says("check-and-set parameter did not match") => Err(Error::Conflict),
            status => Err(Error::VaultRejected { status, hint: raw.hint() }),
        }
    }

    /// 403 means a policy, or a token that no longer holds. Newer servers say which; else one look-up tells.
    pub async fn forbidden(&self, raw: &Raw, path: &str, capabilities: &str) -> Error {
        // How a policy's refusal is worded; a token that may not even look itself up gets it there, too.
        let policy = |raw: &Raw| raw.says("1 error occurred");
        let is_invalid = if raw.refuses_token() || policy(raw) {
            raw.refuses_token()
        } else {
            let looked = self.exchange(&sys::LookupSelf, READ).await;
            looked.is_ok_and(|looked| looked.refuses_token() || (looked.status == 403 && !policy(&looked)))
        };
        if is_invalid {
            self.forget_token();
            return match self.whose {
                Whose::Servers => Error::TokenInvalid,
                Whose::Subject { .. } => Error::ChildTokenEnded,
            };
        }
        Error::Forbidden { path: path.to_owned(), capabilities: capabilities.to_owned() }
    }

    fn note(&self, raw: &Raw) {
        if let Some(id) = raw.request_id() {
            *self.request_id.lock().unwrap_or_else(PoisonError::into_inner) = Some(id);
        }
    }

    async fn exchange<E: Endpoint>(&self, endpoint: &E, how: How) -> Result<Raw, Error> {
        let internal = |_| Error::Internal { what: "a request does not build" };
        let method: Method = endpoint.method().into();
        let path = endpoint.path();
        let query = endpoint.query().map_err(internal)?;
        let body = endpoint.body().map_err(internal)?;
        let transport = &self.vault.transport;
        let outgoing = || http::Outgoing {
            method: method.clone(),
            path: &path,
            query: query.clone(),
            body: body.clone(),
            content_type: how.content_type,
            wrap_seconds: how.wrap_seconds,
            token: None,
        };
        let late = || Error::VaultTimeout { seconds: DEADLINE.as_secs() };
        let ends = if how.retry { self.ends } else { self.ends - READ_BACK };
        let left = || ends.saturating_duration_since(Instant::now());

        // Until the request itself is sent, a lack of time leaves nothing unknown.
        let bearer = match how.with_token {
            true => Some(tokio::time::timeout(left(), self.bearer()).await.map_err(|_| late())??),
            false => None,
        };
        if left().is_zero() {
            return Err(late());
        }
        let within = async {
            let token = bearer.as_ref().map(Bearer::token);
            let raw = transport.send(http::Outgoing { token, ..outgoing() }, how.retry).await?;
            // A token that can be had anew is had anew, once.
            if how.replace_token
                && raw.status == 403
                && raw.refuses_token()
                && let Some(stale) = &bearer
                && let Some(fresh) = self.instead_of(stale).await?
            {
                let again = http::Outgoing { token: Some(fresh.token()), ..outgoing() };
                return transport.send(again, how.retry).await;
            }
            Ok(raw)
        };
        match tokio::time::timeout(left(), within).await {
            Ok(answer) => {
                let is_servers = matches!(bearer, Some(Bearer::Servers(_)));
                if is_servers && answer.as_ref().is_ok_and(|raw| raw.status != 403) {
                    self.vault.tokens.watch(&self.vault);
                }
                answer
            }
            Err(_) => {
                transport.failed();
                Err(if how.retry { late() } else { unknown("Vault did not answer in time") })
            }
        }
    }
}

/// The request may have taken effect. Whoever knows what to look at adds what a look shows.
fn unknown(fault: &str) -> Error {
    Error::OutcomeUnknown { fault: fault.to_owned(), read_back: "".into() }
}

fn mount_missing(path: &str) -> Error {
    Error::MountNotFound { mount: path.split('/').next().unwrap_or_default().to_owned() }
}
