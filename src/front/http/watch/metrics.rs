//! The page that Prometheus reads. It is open like the probes: nothing in it tells one caller, path or secret from
//! another.

use std::{sync::Arc, time::Duration};

use axum::{
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, header};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio_util::sync::CancellationToken;

use crate::{
    error::Error,
    front::http::{
        App,
        routes::{Access, Content, Endpoint, Reply, Routes},
    },
    op::Verb,
    telemetry::meters,
};

/// How often measurements that nobody has read are put into their buckets.
const UPKEEP: Duration = Duration::from_secs(5);

/// What renders the page.
pub(super) struct Metrics(PrometheusHandle);

impl Metrics {
    /// Begins to count, and keeps the counts in order until `ended`. Needs a runtime.
    ///
    /// # Errors
    /// As [`meters::install`].
    pub(super) fn begin(ended: CancellationToken) -> Result<Self, Error> {
        let handle = meters::install()?;
        let upkeep = handle.clone();
        tokio::spawn(async move {
            while tokio::time::timeout(UPKEEP, ended.cancelled()).await.is_err() {
                upkeep.run_upkeep();
            }
        });
        Ok(Self(handle))
    }
}

static METRICS: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/metrics",
    tag: "watch",
    title: "Counts and times for Prometheus",
    about: "Prometheus' text format. Nothing in it tells one caller, path or secret from another.",
    access: Access::Open,
    parameters: &[],
    body: Content::Nothing,
    replies: &[Reply { status: 200, when: "Always.", content: Content::Text(KIND) }],
};

const KIND: &str = "text/plain; version=0.0.4; charset=utf-8";

pub(super) fn routes() -> Routes {
    Routes::default().add(&METRICS, page)
}

async fn page(State(app): State<Arc<App>>) -> Response {
    let ready = app.readiness.report(&app.broker).await.is_ready();
    let sessions = app.mcp.open_sessions();
    meters::look(meters::Look { pending: app.broker.pending(), sessions, ready });
    let text = app.watch.metrics.0.render();
    ([(header::CONTENT_TYPE, HeaderValue::from_static(KIND))], text).into_response()
}
