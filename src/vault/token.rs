//! The session's token: where it comes from, how it is renewed, and when it ends.
//!
//! Sources in order: `VAULT_TOKEN` or the file that `VAULT_TOKEN_FILE` names, AppRole, the file
//! `~/.vault-token`. A file is read again when Vault no longer accepts what it held: a login or Vault Agent
//! may have put another token there. Nothing is looked up before the first call; after the first answer a
//! task looks the token up and renews it before it ends.

use std::{
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use ::http::Method;
use rustify::Endpoint;
use rustify_derive::Endpoint;
use serde::{Deserialize, Serialize};
use tokio::task::AbortHandle;
use zeroize::Zeroizing;

use super::{Transport, Vault, http::Outgoing, sys};
use crate::{
    config::{Config, FromSetting, SecretText, Source},
    error::Error,
};

/// `POST auth/approle/login` (Vault API, AppRole).
#[derive(Endpoint, Serialize)]
#[endpoint(path = "auth/approle/login", method = "POST", response = "serde_json::Value")]
struct AppRoleLogin {
    role_id: String,
    secret_id: String,
}

/// The part of a login's answer that is kept.
#[derive(Deserialize)]
pub struct Auth {
    pub(super) client_token: String,
    #[serde(default)]
    pub(super) lease_duration: u64,
    /// All that it has, those of its identity among them.
    #[serde(default)]
    pub(super) policies: Vec<String>,
}

enum Origin {
    Given,
    File(TokenFile),
    AppRole { role_id: String, secret_id: SecretText },
    None,
}

/// A file that others keep a token in.
struct TokenFile {
    path: PathBuf,
    /// The setting that names it; none for the one in the home folder.
    variable: Option<String>,
}

impl TokenFile {
    fn read(&self) -> Result<SecretText, Error> {
        let missing = |what: String| match &self.variable {
            Some(variable) => Error::config(
                variable,
                format!(
                    "{what}. It was read again because Vault no longer accepts the token from it; whoever keeps the file must put a new one there."
                ),
            ),
            None => Error::TokenMissing,
        };
        let unreadable =
            |error: std::io::Error| missing(format!("the file cannot be read ({})", error.kind()));
        // A pipe would keep the reader waiting.
        if !std::fs::metadata(&self.path).map_err(unreadable)?.is_file() {
            return Err(missing("it no longer names a file".to_owned()));
        }
        let text = Zeroizing::new(std::fs::read_to_string(&self.path).map_err(unreadable)?);
        SecretText::parse(text.trim())
            .ok()
            .filter(|token| !token.expose().is_empty())
            .ok_or_else(|| missing("the file holds no token".to_owned()))
    }
}

#[derive(Default)]
struct State {
    token: Option<SecretText>,
    /// When the token ends, where that is known and nothing here can put it off.
    ends: Option<Instant>,
}

/// The token of the session and its life.
pub struct Tokens {
    origin: Origin,
    state: Mutex<State>,
    login: tokio::sync::Mutex<()>,
    watcher: Mutex<Option<AbortHandle>>,
}

/// A token with less life left than this is spoken of.
const SAY_SO: Duration = Duration::from_secs(300);

impl Tokens {
    /// From the settings.
    ///
    /// # Errors
    /// None today; the file in the home folder is read at the first use.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let (origin, token) = if let Some(token) = &*config.vault_token {
            let origin = match &config.vault_token.source {
                // What came through a pipe cannot be had again.
                Source::SecretFile { variable, path } if path.is_file() => {
                    Origin::File(TokenFile { path: path.clone(), variable: Some(variable.clone()) })
                }
                _ => Origin::Given,
            };
            (origin, Some(token.clone()))
        } else if let (Some(role_id), Some(secret_id)) = (&*config.vault_role_id, &*config.vault_secret_id) {
            (Origin::AppRole { role_id: role_id.clone(), secret_id: secret_id.clone() }, None)
        } else if let Some(base) = directories::BaseDirs::new() {
            (Origin::File(TokenFile { path: base.home_dir().join(".vault-token"), variable: None }), None)
        } else {
            (Origin::None, None)
        };
        Ok(Self {
            origin,
            state: Mutex::new(State { token, ends: None }),
            login: tokio::sync::Mutex::new(()),
            watcher: Mutex::new(None),
        })
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The token to send, logging in where that is how it is had.
    ///
    /// # Errors
    /// `token_missing`, or what the login said.
    pub async fn current(&self, transport: &Transport) -> Result<SecretText, Error> {
        if let Some(token) = self.state().token.clone() {
            return Ok(token);
        }
        let _one_at_a_time = self.login.lock().await;
        if let Some(token) = self.state().token.clone() {
            return Ok(token);
        }
        let token = match &self.origin {
            Origin::AppRole { role_id, secret_id } => approle(transport, role_id, secret_id).await?,
            Origin::File(file) => file.read()?,
            Origin::Given => return Err(Error::TokenInvalid),
            Origin::None => return Err(Error::TokenMissing),
        };
        self.state().token = Some(token.clone());
        Ok(token)
    }

    /// Called when Vault no longer accepts the token: one that can be had anew is dropped, a given one is
    /// kept, so that each call goes on saying what is wrong.
    pub fn forget(&self) {
        if matches!(self.origin, Origin::AppRole { .. } | Origin::File(_)) {
            *self.state() = State::default();
            self.unwatch();
        }
    }

    /// Another token in place of one that Vault no longer accepts, where there is one to be had.
    ///
    /// # Errors
    /// What a login said.
    pub async fn instead_of(
        &self,
        stale: &SecretText,
        transport: &Transport,
    ) -> Result<Option<SecretText>, Error> {
        // Another call may have been quicker.
        if self.state().token.as_ref().is_some_and(|token| token.expose() == stale.expose()) {
            self.forget();
        }
        match self.current(transport).await {
            Ok(token) if token.expose() != stale.expose() => Ok(Some(token)),
            Ok(_) | Err(Error::TokenMissing | Error::TokenInvalid) => Ok(None),
            Err(other) => Err(other),
        }
    }

    /// Puts another token in place, as a new login hands it over.
    pub fn replace(&self, token: SecretText) {
        *self.state() = State { token: Some(token), ends: None };
        self.unwatch();
    }

    /// Seconds left, where known and few, and no other token lies ready.
    #[must_use]
    pub fn ends_soon(&self) -> Option<u64> {
        let (left, token) = {
            let state = self.state();
            (state.ends?.saturating_duration_since(Instant::now()), state.token.clone()?)
        };
        let replaced = || match &self.origin {
            Origin::File(file) => file.read().is_ok_and(|next| next.expose() != token.expose()),
            _ => false,
        };
        (left < SAY_SO && !replaced()).then_some(left.as_secs())
    }

    /// After the first answer: looks the token up and renews it from then on, in the background.
    pub fn watch(&self, vault: &Arc<Vault>) {
        let mut watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner);
        if watcher.is_some() {
            return;
        }
        let weak = Arc::downgrade(vault);
        let task = tokio::spawn(async move {
            loop {
                let Some(vault) = weak.upgrade() else { return };
                let Some(pause) = vault.tokens.look_and_renew(&vault).await else { return };
                drop(vault);
                tokio::time::sleep(pause).await;
            }
        });
        *watcher = Some(task.abort_handle());
    }

    /// The next answer begins a new watch, over the token that is then in place.
    fn unwatch(&self) {
        let watcher = self.watcher.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(watcher) = watcher {
            watcher.abort();
        }
    }

    /// One round: how long until the next, or nothing when the token does not end or is gone.
    async fn look_and_renew(&self, vault: &Arc<Vault>) -> Option<Duration> {
        let session = vault.own_session();
        let info = match session.read(&sys::LookupSelf).await {
            Ok(envelope) => envelope.data?,
            Err(Error::Forbidden { .. } | Error::TokenInvalid | Error::TokenMissing) => return None,
            Err(_) => return Some(Duration::from_secs(30)),
        };
        if info.ttl == 0 && info.expire_time.is_none() {
            self.state().ends = None;
            return None;
        }
        let ttl = Duration::from_secs(info.ttl);
        let renewed = match info.renewable {
            true => session.write(&sys::RenewSelf { increment: None }, "\"update\"").await.ok(),
            false => None,
        };
        let (left, put_off) = match renewed.and_then(|envelope| envelope.auth) {
            // Less than a whole life is Vault's way of saying that the last one has begun.
            Some(auth) => {
                let whole = if info.period > 0 { info.period } else { info.creation_ttl };
                (Duration::from_secs(auth.lease_duration), auth.lease_duration + 1 >= whole)
            }
            None => (ttl, false),
        };
        // A role logs in anew by itself.
        let for_good = !put_off && !matches!(self.origin, Origin::AppRole { .. });
        self.state().ends = for_good.then(|| Instant::now() + left);
        Some((left * 2 / 3).max(Duration::from_secs(1)))
    }
}

async fn approle(transport: &Transport, role_id: &str, secret_id: &SecretText) -> Result<SecretText, Error> {
    let login = AppRoleLogin { role_id: role_id.to_owned(), secret_id: secret_id.expose().to_owned() };
    let body = login.body().map_err(|_| Error::Internal { what: "a login does not build" })?;
    let path = login.path();
    let outgoing = Outgoing {
        method: Method::POST,
        path: &path,
        query: None,
        body,
        content_type: None,
        wrap_seconds: None,
        token: None,
    };
    // Sent once: a secret id may be good for one use only.
    let raw = transport.send(outgoing, false).await.map_err(|error| match error {
        Error::OutcomeUnknown { .. } => Error::VaultUnreachable {
            address: transport.address().to_owned(),
            fault: "the AppRole login got no answer".into(),
        },
        other => other,
    })?;
    if raw.status >= 300 {
        return Err(Error::config(
            "VAULT_ROLE_ID",
            "Vault does not accept the AppRole login. Check VAULT_ROLE_ID, VAULT_SECRET_ID and that the secret id is not used up.",
        ));
    }
    let auth = raw
        .envelope::<serde_json::Value>()?
        .auth
        .ok_or(Error::VaultAnswer { fault: "a login without a token" })?;
    SecretText::parse(&auth.client_token).map_err(|_| Error::VaultAnswer { fault: "a login without a token" })
}
