//! `CONFIRM_REST=true`: a REST call that changes something waits for a person as well. The question is put to
//! the approver, the caller gets 202 with a ticket, and the same request with that ticket gets the result.

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::StatusCode;
use serde_json::json;

use crate::broker::Question;

/// 202: somebody is asked.
pub(super) fn pending(question: &Question) -> Response {
    let body = json!({
        "detail": "Waiting for a person at `vault-mcp approve`",
        "ticket": question.ticket.as_str(),
        "expires_in": question.seconds,
    });
    (StatusCode::ACCEPTED, Json(body)).into_response()
}
