//! Who calls: a credential in, a [`Caller`] out, or 401. Nothing of a request is looked at before.

mod api_key;

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderMap, StatusCode};

use super::{App, Peer, answer::plain};
use crate::{
    broker::Place,
    caller::{Caller, Front, Scope},
    config::Config,
    error::Error,
    handover::Roots,
    names::{Subject, shown},
};

/// How a caller proved who they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// `X-API-Key`.
    ApiKey,
    /// `Authorization: Bearer`, a JSON Web Token.
    Jwt,
    /// The identity headers of a trusted proxy.
    Mtls,
    /// A client certificate on a TLS connection of our own.
    Certificate,
}

/// Whom a credential belongs to, and what it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The agent.
    pub subject: Subject,
    /// What the credential allows.
    pub scopes: Vec<Scope>,
    /// By which way it came.
    pub method: Method,
}

/// Why there is no caller. The answer is the same 401 for all; the log knows which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No credential of a kind that is switched on.
    #[error("no credential")]
    Missing,
    /// One that does not hold.
    #[error("{0}")]
    Invalid(&'static str),
}

/// The ways to tell who calls.
pub struct Auth {
    api_keys: Option<api_key::ApiKeys>,
}

impl Auth {
    /// From the settings.
    ///
    /// # Errors
    /// `config_invalid`.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let api_keys = config.auth_api_key_enabled.then(|| api_key::ApiKeys::new(config)).transpose()?;
        Ok(Self { api_keys })
    }

    /// Who sent these headers from there.
    ///
    /// # Errors
    /// A refusal: no credential, or one that does not hold.
    pub async fn identify(&self, headers: &HeaderMap, _peer: &Peer) -> Result<Identity, Refusal> {
        match &self.api_keys {
            Some(keys) => keys.identify(headers)?.ok_or(Refusal::Missing),
            None => Err(Refusal::Missing),
        }
    }
}

/// A layer that lets nobody pass without a credential. What comes after it finds the [`Caller`] and the
/// [`Identity`] among the request's extensions.
pub(super) async fn require(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    match app.auth.identify(request.headers(), &peer).await {
        Ok(identity) => {
            let caller = caller(app.broker.config(), &identity, request.headers());
            request.extensions_mut().insert(caller);
            request.extensions_mut().insert(identity);
            next.run(request).await
        }
        Err(refusal) => {
            tracing::info!(%refusal, peer = ?peer.address, "unauthorized");
            plain(StatusCode::UNAUTHORIZED, "Unauthorized")
        }
    }
}

/// The caller that an identity stands for. Each route sets the front end that it is.
fn caller(config: &Config, identity: &Identity, headers: &HeaderMap) -> Caller {
    let agent = headers.get(http::header::USER_AGENT).and_then(|value| value.to_str().ok());
    Caller {
        subject: identity.subject.clone(),
        scopes: identity.scopes.clone(),
        front: Front::Rest,
        client: agent.map(|text| Arc::from(shown(text, 96))),
        place: Arc::new(Place::of(config, &identity.subject)),
        // Files of this machine are not the callers'.
        roots: Roots::none(),
    }
}
