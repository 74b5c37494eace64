//! Whether the server lives, and whether it can do its work.

use std::sync::Arc;

use axum::{
    Json, Router,
    extract::State,
    response::{IntoResponse, Response},
    routing::get,
};
use http::StatusCode;
use serde_json::json;

use super::App;

pub(super) fn routes() -> Router<Arc<App>> {
    Router::new()
        .route("/healthz", get(health))
        .route("/livez", get(async || Json(json!({ "ok": true }))))
        .route("/readyz", get(ready))
}

fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

async fn health() -> Response {
    Json(json!({ "ok": true, "time": now() })).into_response()
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    let (vault_ok, vault) = app.broker.readiness().await;
    let kms = if *app.broker.config().aws_kms_enabled { "ready" } else { "disabled" };
    let body = json!({
        "ok": vault_ok,
        "time": now(),
        "vault": { "ok": vault_ok, "detail": vault },
        "kms": { "ok": true, "detail": kms },
    });
    (if vault_ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(body)).into_response()
}
