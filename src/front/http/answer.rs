//! From the outcome of a call to an HTTP answer: the one place where an error becomes a status.

use std::any::Any;

use axum::{
    Json,
    extract::Request,
    middleware::Next,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use crate::{caller::Allowance, codes::Kind, error::Error};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CORRELATION_ID: HeaderName = HeaderName::from_static("x-correlation-id");

/// An error on its way out.
pub struct Fault(pub Error);

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self(error)
    }
}

/// The status that a fault of this kind becomes (RFC 9110, section 15).
#[must_use]
pub fn status_of(kind: Kind) -> StatusCode {
    match kind {
        Kind::Input => StatusCode::UNPROCESSABLE_ENTITY,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::NobodyKnown => StatusCode::UNAUTHORIZED,
        Kind::NotAllowed => StatusCode::FORBIDDEN,
        Kind::Absent => StatusCode::NOT_FOUND,
        Kind::Conflict => StatusCode::CONFLICT,
        Kind::Busy => StatusCode::TOO_MANY_REQUESTS,
        Kind::Timeout => StatusCode::GATEWAY_TIMEOUT,
        Kind::Unavailable => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Upstream => StatusCode::BAD_GATEWAY,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// What `detail` says. Some texts are what clients of such servers compare with, so they stand as they are.
fn detail_of(error: &Error) -> Value {
    let text = match error {
        Error::NotFound | Error::VersionGone { .. } => "Secret not found".to_owned(),
        Error::Forbidden { .. } => "Forbidden by Vault policy".to_owned(),
        Error::Unauthorized => "Unauthorized".to_owned(),
        Error::MissingScope { .. } => "Forbidden: missing scopes".to_owned(),
        Error::RateLimited { .. } => "Rate limit exceeded".to_owned(),
        Error::KmsOff => "AWS KMS support is disabled".to_owned(),
        Error::InvalidInput { field, fault } => {
            return json!([{ "loc": [field], "msg": fault, "type": error.code() }]);
        }
        Error::PathRefused { fault } => {
            return json!([{ "loc": ["path"], "msg": fault, "type": error.code() }]);
        }
        other => other.to_string(),
    };
    Value::String(text)
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        let Self(error) = self;
        let mut headers = HeaderMap::new();
        if let Some(seconds) = error.retry_after_seconds() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        // A version that is gone is not there: programs ask for one thing only.
        let code =
            if matches!(error, Error::VersionGone { .. }) { Error::NotFound.code() } else { error.code() };
        let body = json!({ "detail": detail_of(&error), "error": code });
        let mut response = (status_of(error.kind()), headers, Json(body)).into_response();
        response.extensions_mut().insert(Refusal(code));
        if let Error::MissingScope { scope } = error {
            response.extensions_mut().insert(Lacking(scope));
        }
        response
    }
}

/// On an answer: the stable code of its error, which logs know it by.
#[derive(Debug, Clone, Copy)]
pub struct Refusal(pub &'static str);

/// On an answer: the scope that the caller would have needed.
#[derive(Debug, Clone, Copy)]
pub struct Lacking(pub &'static str);

/// A refusal that is no operation's: no credential, no route, a wrong method.
#[must_use]
pub fn plain(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({ "detail": detail }))).into_response()
}

/// A panic in one request is that request's alone.
pub fn panicked(_: Box<dyn Any + Send>) -> Response {
    Fault(Error::Internal { what: "the request ended in a panic" }).into_response()
}

/// Ids of one request, on every answer: ours, and the one that the caller follows it by.
#[derive(Debug, Clone, Default)]
pub struct Ids {
    /// Made here.
    pub request: String,
    /// As the caller gave it, else ours.
    pub correlation: String,
}

/// What is left of a caller's allowance, in the three fields of draft-ietf-httpapi-ratelimit-headers-06: later
/// drafts have one field, which clients of such servers do not read.
pub fn tell_allowance(headers: &mut HeaderMap, allowance: Allowance) {
    for (name, number) in [
        ("ratelimit-limit", u64::from(allowance.limit)),
        ("ratelimit-remaining", u64::from(allowance.remaining)),
        ("ratelimit-reset", allowance.reset_seconds),
    ] {
        headers.insert(HeaderName::from_static(name), HeaderValue::from(number));
    }
}

/// A header that is a plain word of at most 128 characters: none of a caller's other text gets into a log or
/// an answer's headers.
fn plain_word(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    let text = headers.get(name)?.to_str().ok()?;
    let fits = (1..=128).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte));
    fits.then(|| text.to_owned())
}

/// A layer that gives every request its ids and puts them on its answer.
pub async fn identify(mut request: Request, next: Next) -> Response {
    let own = match crate::random::uuid() {
        Ok(id) => id,
        Err(error) => return Fault(error).into_response(),
    };
    let given = [CORRELATION_ID, REQUEST_ID].iter().find_map(|name| plain_word(request.headers(), name));
    let ids = Ids { correlation: given.unwrap_or_else(|| own.clone()), request: own };
    request.extensions_mut().insert(ids.clone());
    let mut response = next.run(request).await;
    for (name, id) in [(REQUEST_ID, ids.request), (CORRELATION_ID, ids.correlation)] {
        if let Ok(value) = HeaderValue::try_from(id) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

/// The route that a request took, as the table has it: what metrics and logs know it by.
#[derive(Debug, Clone, Copy)]
pub struct Route(pub &'static str);

impl Route {
    /// Notes the route on an answer.
    #[must_use]
    pub fn on(self, mut response: Response) -> Response {
        response.extensions_mut().insert(self);
        response
    }
}
