//! Bodies: whole before anything reads them, within bounds of size and time, and only from callers that are
//! known. What comes after finds a body that is there at once.

use std::{sync::Arc, time::Duration};

use axum::{
    body::{Body, HttpBody, to_bytes},
    extract::{Request, State},
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{StatusCode, header};

use super::{
    App,
    answer::{Fault, plain},
};
use crate::{broker::MAX_REQUEST, caller::Caller, error::Error};

/// How long a body may take to arrive.
const ARRIVAL: Duration = Duration::from_secs(10);

/// A layer behind the one that knows the caller: takes the body in, or refuses it and records that.
pub(super) async fn whole(State(app): State<Arc<App>>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    if body.is_end_stream() {
        return next.run(Request::from_parts(parts, body)).await;
    }
    let announced =
        parts.headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    let fits = announced.is_none_or(|length: usize| length <= MAX_REQUEST);
    let taken = if fits {
        tokio::time::timeout(ARRIVAL, to_bytes(body, MAX_REQUEST)).await
    } else {
        discard(body, 2 * MAX_REQUEST).await;
        Ok(Err(too_large()))
    };
    let refused = |error: Error| match parts.extensions.get::<Caller>() {
        Some(caller) => app.broker.refuse_unknown(parts.uri.path(), caller, error),
        None => error,
    };
    let mut response = match taken {
        Ok(Ok(bytes)) => return next.run(Request::from_parts(parts, Body::from(bytes))).await,
        Ok(Err(_)) => {
            Fault(refused(Error::TooLarge { what: "The body", limit: MAX_REQUEST })).into_response()
        }
        Err(_) => {
            refused(Error::input("body", "it did not arrive within 10 s"));
            plain(StatusCode::REQUEST_TIMEOUT, "The body did not arrive within 10 s")
        }
    };
    // What is left of the body is not waited for.
    response.headers_mut().insert(header::CONNECTION, header::HeaderValue::from_static("close"));
    response
}

/// Most bytes that are read of a body that comes with no good credential.
pub(super) const STRANGERS: usize = 64 << 10;

/// Reads a body that nobody wants, of this many bytes at most and for a moment, so that the answer to it is not
/// lost with a connection that closes on it. Past that it closes.
pub(super) async fn discard(body: Body, most: usize) {
    const MOMENT: Duration = Duration::from_secs(1);
    if body.is_end_stream() || body.size_hint().lower() > most as u64 {
        return;
    }
    // Whether it came whole is no matter.
    let _ = tokio::time::timeout(MOMENT, to_bytes(body, most)).await;
}

fn too_large() -> axum::Error {
    axum::Error::new(std::io::Error::from(std::io::ErrorKind::FileTooLarge))
}
