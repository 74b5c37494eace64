//! Whether the server lives, and whether it can do its work.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use schemars::JsonSchema;
use serde::Serialize;

use super::{
    App,
    routes::{Access, Content, Endpoint, Reply, Routes},
};
use crate::op::Verb;

static HEALTH: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/healthz",
    tag: "health",
    title: "Whether the server answers",
    about: "Always 200 while the server runs. It says nothing about Vault; `/readyz` does.",
    access: Access::Open,
    parameters: &[],
    body: Content::Nothing,
    replies: &[Reply { status: 200, when: "It answers.", content: Content::json::<Health>() }],
};

static LIVE: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/livez",
    tag: "health",
    title: "Whether the process lives",
    about: "For a supervisor that restarts what does not answer.",
    access: Access::Open,
    parameters: &[],
    body: Content::Nothing,
    replies: &[Reply { status: 200, when: "It lives.", content: Content::json::<Live>() }],
};

static READY: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/readyz",
    tag: "health",
    title: "Whether the server can do its work",
    about: "For a load balancer: 503 while Vault would not take a call, with the reason.",
    access: Access::Open,
    parameters: &[],
    body: Content::Nothing,
    replies: &[
        Reply { status: 200, when: "It can.", content: Content::json::<Ready>() },
        Reply { status: 503, when: "It cannot; the parts say why.", content: Content::json::<Ready>() },
    ],
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(&HEALTH, async || Json(Health { ok: true, time: now() }))
        .add(&LIVE, async || Json(Live { ok: true }))
        .add(&READY, ready)
}

/// The server answers.
#[derive(Serialize, JsonSchema)]
struct Health {
    /// True.
    ok: bool,
    /// The server's clock (RFC 3339, UTC).
    time: String,
}

/// The process lives.
#[derive(Serialize, JsonSchema)]
struct Live {
    /// True.
    ok: bool,
}

/// Whether calls would be carried out.
#[derive(Serialize, JsonSchema)]
struct Ready {
    /// True when every part is.
    ok: bool,
    /// The server's clock (RFC 3339, UTC).
    time: String,
    /// Vault.
    vault: Part,
    /// AWS KMS.
    kms: Part,
}

/// A back end.
#[derive(Serialize, JsonSchema)]
struct Part {
    /// False when calls to it would fail.
    ok: bool,
    /// `ready`, `disabled`, or what is wrong.
    detail: String,
}

fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    let (ok, detail) = app.broker.readiness().await;
    let kms = if *app.broker.config().aws_kms_enabled { "ready" } else { "disabled" };
    let body =
        Ready { ok, time: now(), vault: Part { ok, detail }, kms: Part { ok: true, detail: kms.to_owned() } };
    (if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(body)).into_response()
}
