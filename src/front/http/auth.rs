//! Who calls: a credential in, a [`Caller`] out, or 401. Nothing of a request is looked at before.
//!
//! Four kinds of credential count: an API key ([`users`] and `API_KEYS_JSON`), a JSON Web Token, a client
//! certificate on a connection of our own, and one that a trusted proxy vouches for. Whatever a request carries
//! must hold and name one subject: a bad credential beside a good one is refused, since nobody sends one by
//! mistake who need not know of it, and two that hold allow what both allow. A query is never looked at.
//!
//! What this module does not do: decide what a caller may do (the broker does), or pass a credential on to anybody.

mod api_key;
mod dn;
mod flood;
mod jwks;
mod jwt;
mod mtls;
mod resource;
pub mod users;
mod watched;

use std::sync::Arc;

use axum::{
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{
    HeaderMap, HeaderValue, StatusCode,
    header::{self, AsHeaderName},
};

use super::{
    App, Peer,
    answer::{Fault, Lacking, plain, tell_allowance},
    intake,
};
use crate::{
    broker::Place,
    caller::{Caller, Front, Meter, Scope},
    config::Config,
    error::Error,
    handover::Roots,
    names::{Subject, shown},
    telemetry::meters,
};
pub use api_key::known_subjects;
use flood::{Flood, Told};
use resource::Resource;
pub(super) use resource::routes;

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

impl Method {
    /// The word for metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ApiKey => "api_key",
            Self::Jwt => "jwt",
            Self::Mtls => "mtls",
            Self::Certificate => "certificate",
        }
    }
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

impl Identity {
    /// What two credentials of one request stand for together.
    fn with(self, other: Self) -> Result<Self, Refusal> {
        if self.subject != other.subject {
            return Err(Refusal::Conflict);
        }
        Ok(Self { scopes: both(&self.scopes, &other.scopes), ..self })
    }
}

/// Why there is no caller. The answer is the same 401 for all; log and audit log know which.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No credential of a kind that is switched on.
    #[error("no credential")]
    Missing,
    /// One that does not hold.
    #[error("{fault}")]
    Invalid {
        /// Its kind.
        method: Method,
        /// What is wrong with it; nothing of the credential itself.
        fault: &'static str,
    },
    /// Two of different subjects.
    #[error("credentials of different subjects")]
    Conflict,
}

impl Refusal {
    /// The word for metrics.
    #[must_use]
    pub fn kind(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Invalid { method, .. } => method.as_str(),
            Self::Conflict => "conflict",
        }
    }
}

/// The scopes that are in both lists.
fn both(one: &[Scope], other: &[Scope]) -> Vec<Scope> {
    one.iter().copied().filter(|scope| other.contains(scope)).collect()
}

/// A header stands there more than once, and readers disagree about which counts.
#[derive(Debug)]
struct Twice;

/// The one value of a header.
fn only(headers: &HeaderMap, name: impl AsHeaderName) -> Result<Option<&HeaderValue>, Twice> {
    let mut values = headers.get_all(name).iter();
    let value = values.next();
    if values.next().is_some() { Err(Twice) } else { Ok(value) }
}

/// The ways to tell who calls.
pub struct Auth {
    api_keys: Option<api_key::ApiKeys>,
    jwt: Option<jwt::Jwt>,
    mtls: mtls::Mtls,
    resource: Resource,
    flood: Flood,
}

impl Auth {
    /// From the settings.
    ///
    /// # Errors
    /// `config_invalid`.
    pub fn new(config: &Config) -> Result<Self, Error> {
        let resource = Resource::new(config);
        let api_keys = config.auth_api_key_enabled.then(|| api_key::ApiKeys::new(config)).transpose()?;
        let jwt = match *config.auth_jwt_enabled {
            true => jwt::Jwt::new(config, resource.audiences())?,
            false => None,
        };
        Ok(Self { api_keys, jwt, mtls: mtls::Mtls::new(config)?, resource, flood: Flood::new() })
    }

    /// Who sent these headers from there.
    ///
    /// # Errors
    /// A refusal: no credential, one that does not hold, or two of different subjects.
    pub async fn identify(&self, headers: &HeaderMap, peer: &Peer) -> Result<Identity, Refusal> {
        // What costs most comes last, and not at all after what failed.
        let given = [
            self.mtls.by_certificate(peer)?,
            self.mtls.by_headers(headers, peer)?,
            self.by_api_key(headers)?,
            self.by_token(headers).await?,
        ];
        let mut given = given.into_iter().flatten();
        let first = given.next().ok_or(Refusal::Missing)?;
        given.try_fold(first, Identity::with)
    }

    /// True where whoever has this identity can get a token that allows more, and be told by whom.
    pub(super) fn can_step_up(&self, identity: &Identity) -> bool {
        identity.method == Method::Jwt && self.resource.has_issuer()
    }

    fn by_api_key(&self, headers: &HeaderMap) -> Result<Option<Identity>, Refusal> {
        match &self.api_keys {
            Some(keys) => keys.identify(headers),
            None if headers.contains_key(api_key::HEADER) => {
                Err(Refusal::Invalid { method: Method::ApiKey, fault: "an API key, and none are taken" })
            }
            None => Ok(None),
        }
    }

    async fn by_token(&self, headers: &HeaderMap) -> Result<Option<Identity>, Refusal> {
        let Some(token) = jwt::bearer(headers)? else { return Ok(None) };
        match &self.jwt {
            Some(jwt) => jwt.identify(token).await.map(Some),
            None => Err(Refusal::Invalid { method: Method::Jwt, fault: "a token, and none are taken" }),
        }
    }
}

/// A layer that lets nobody pass without a credential. What comes after it finds the [`Caller`] and the
/// [`Identity`] among the request's extensions.
pub(super) async fn require(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
    let identity = match app.auth.identify(request.headers(), &peer).await {
        Ok(identity) => identity,
        Err(refusal) => {
            let response = turn_away(&app, &request, &peer, refusal);
            // What was sent along is on its way: a connection that closed on it would take the answer with it.
            intake::discard(request.into_body(), intake::STRANGERS).await;
            return response;
        }
    };
    let caller = caller(app.broker.config(), &identity, request.headers());
    let meter = caller.meter.clone();
    request.extensions_mut().insert(caller);
    request.extensions_mut().insert(identity.clone());
    let (uri, host) = (request.uri().clone(), request.headers().get(header::HOST).cloned());
    let mut response = next.run(request).await;
    if let Some(allowance) = meter.read() {
        tell_allowance(response.headers_mut(), allowance);
    }
    if let Some(Lacking(scope)) = response.extensions().get::<Lacking>().copied() {
        let headers: HeaderMap = host.into_iter().map(|host| (header::HOST, host)).collect();
        if let Some(value) = app.auth.resource.step_up(&identity, scope, &uri, &headers, &peer) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
    }
    response
}

/// Counts, records and answers a refusal.
fn turn_away(app: &App, request: &Request, peer: &Peer, refusal: Refusal) -> Response {
    meters::turned_away(refusal.kind());
    tracing::info!(%refusal, peer = %peer.address, "unauthorized");
    let told = app.auth.flood.refused(peer.address);
    let why = match told {
        Told::Alone { after: 0 } => Some(refusal.to_string()),
        Told::Alone { after } => Some(format!("{refusal}; {after} of this address before it have no record")),
        Told::First { .. } => {
            tracing::warn!(peer = %peer.address, "so many refusals that not every one is recorded");
            Some(format!("{refusal}; those of this address that follow have no record each"))
        }
        Told::Untold { .. } => None,
    };
    if let Some(why) = why {
        let front = if resource::is_mcp(request.uri().path()) { Front::McpHttp } else { Front::Rest };
        let client = client(request.headers());
        if let Err(error) = app.broker.turn_away(front, peer.address, client.as_deref(), &why) {
            tracing::error!(%error, "a refusal is not recorded");
        }
    }
    // Whoever sends no credential is told how to get one, however often they ask: it costs nothing.
    if let (Told::First { wait } | Told::Untold { wait }, false) = (told, refusal == Refusal::Missing) {
        return Fault(Error::RateLimited { retry_after_seconds: wait }).into_response();
    }
    let mut response = plain(StatusCode::UNAUTHORIZED, "Unauthorized");
    let challenge = app.auth.resource.challenge(&refusal, request.uri(), request.headers(), peer);
    if let Some(challenge) = challenge {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
    }
    response
}

/// What a client calls itself. Not verified.
fn client(headers: &HeaderMap) -> Option<String> {
    let agent = headers.get(header::USER_AGENT)?.to_str().ok()?;
    Some(shown(agent, 96))
}

/// The caller that an identity stands for. Each route sets the front end that it is.
fn caller(config: &Config, identity: &Identity, headers: &HeaderMap) -> Caller {
    Caller {
        subject: identity.subject.clone(),
        scopes: identity.scopes.clone(),
        front: Front::Rest,
        client: client(headers).map(Arc::from),
        place: Arc::new(Place::of(config, &identity.subject)),
        // Files of this machine are not the callers'.
        roots: Roots::none(),
        meter: Meter::default(),
    }
}
