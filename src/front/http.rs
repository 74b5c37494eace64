//! The same operations over HTTP, for many callers at once: REST, MCP, events, and what watches them.
//!
//! Who calls is established here and nowhere else ([`auth`]); everything that is guarded, limited, asked and
//! recorded is so by the broker, as on every other front end. REST routes are a loop over the table of
//! operations. What this module does not do: know an operation, or speak to Vault.

pub mod answer;
pub mod auth;
mod browsers;
pub mod confirm;
mod docs;
mod fixed;
mod health;
mod intake;
pub(super) mod listen;
pub mod mcp;
pub mod openapi;
mod rest;
pub mod routes;
mod tls;
mod watch;
mod whoami;

use std::sync::{Arc, OnceLock};

use axum::{
    Router,
    middleware::{from_fn, from_fn_with_state},
};
use tokio_util::sync::CancellationToken;
use tower::{ServiceBuilder, util::option_layer};
use tower_http::catch_panic::CatchPanicLayer;

pub use listen::{Listener, Peer};
use routes::Routes;

use crate::{
    broker::Broker,
    error::Error,
    front::{approver::Hub, mcp::House},
    telemetry::log,
};

/// What every request's handler may use.
pub struct App {
    /// The one way to an operation.
    pub broker: Arc<Broker>,
    /// Who a credential belongs to.
    pub auth: auth::Auth,
    /// The human's terminal, where one can attach.
    pub approvers: Option<Arc<Hub>>,
    /// Questions of REST calls, where `CONFIRM_REST` asks them.
    pub pending: confirm::Pending,
    /// `/openapi.json`, once somebody has asked for it.
    pub document: OnceLock<fixed::Fixed>,
    /// Cancelled when the server is to end: questions and streams end with it.
    pub ended: CancellationToken,
    /// What the routes of MCP share.
    pub mcp: mcp::Mcp,
    /// What the last look at Vault found.
    pub readiness: health::Readiness,
    /// What the server is watched by.
    pub watch: watch::Watch,
}

impl App {
    /// The state of a server over this broker that is reached at this URL. Needs a runtime.
    ///
    /// # Errors
    /// `config_invalid` when the settings of authentication do not fit.
    pub fn new(
        broker: Arc<Broker>,
        approvers: Option<Arc<Hub>>,
        files: &log::Files,
        url: &str,
        ended: CancellationToken,
    ) -> Result<Arc<Self>, Error> {
        let auth = auth::Auth::new(broker.config())?;
        let watch = watch::Watch::begin(files, ended.clone())?;
        let readiness = health::Readiness::default();
        let (pending, document) = (confirm::Pending::default(), OnceLock::new());
        let house = House::new(broker.clone(), approvers.clone(), ended.clone())?;
        let mcp = mcp::Mcp::new(house, broker.config(), url, ended.clone())?;
        Ok(Arc::new(Self { broker, auth, approvers, pending, document, ended, mcp, readiness, watch }))
    }
}

/// Every route that is no operation's, each with its description.
#[must_use]
pub fn routes() -> Routes {
    auth::routes()
        .merge(health::routes())
        .merge(mcp::routes())
        .merge(watch::routes())
        .merge(whoami::routes())
        .merge(openapi::routes())
        .merge(docs::routes())
}

/// Every route. A request passes the layers of a stack from its top to its bottom.
pub fn router(app: &Arc<App>) -> Router {
    let (open, guarded) = routes().into_routers();
    // Each stack is one layer to its router: of layers that are added one by one, each would have a box around the
    // one before, and every request would copy all of them at each.
    let behind_a_credential = ServiceBuilder::new()
        .layer(from_fn(watch::routed))
        .layer(from_fn(browsers::keep_no_secret))
        .layer(from_fn_with_state(app.clone(), auth::require))
        .layer(from_fn(watch::called))
        .layer(from_fn_with_state(app.clone(), intake::whole));
    // Whatever is not named elsewhere is a REST route or none, and nobody learns which without a credential.
    let guarded = guarded.fallback(rest::serve).with_state(app.clone()).layer(behind_a_credential);
    let around_all = ServiceBuilder::new()
        // Around what answers for a panic, too.
        .layer(from_fn(browsers::keep_nothing))
        .layer(from_fn(answer::identify))
        .layer(from_fn_with_state(app.clone(), watch::passage))
        .layer(CatchPanicLayer::custom(answer::panicked))
        .layer(option_layer(browsers::cors(app.broker.config())));
    open.with_state(app.clone()).fallback_service(guarded).layer(around_all)
}
