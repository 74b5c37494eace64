//! What a browser is told: pages of which sites may read answers here (`CORS_ALLOW_ORIGINS`), that no answer is
//! to be kept, and that a page of any other site changes nothing, whatever credential the browser adds by itself
//! (a client certificate, say). Programs that are no browsers notice nothing of it.

use std::time::Duration;

use axum::{extract::Request, middleware::Next, response::Response};
use http::{HeaderMap, HeaderName, HeaderValue, Method, header};
use tower_http::cors::CorsLayer;

use super::confirm::TICKET;
use crate::{config::Config, error::Error};

/// How long a browser may remember what it was told.
const REMEMBERED: Duration = Duration::from_secs(600);

/// What a page may send besides what any may.
const SENT: [HeaderName; 9] = [
    header::AUTHORIZATION,
    header::CONTENT_TYPE,
    HeaderName::from_static("x-api-key"),
    HeaderName::from_static("x-correlation-id"),
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("mcp-session-id"),
    HeaderName::from_static("mcp-protocol-version"),
    HeaderName::from_static("last-event-id"),
    TICKET,
];

/// What a page may see besides what any may.
const SEEN: [HeaderName; 10] = [
    HeaderName::from_static("x-request-id"),
    HeaderName::from_static("x-correlation-id"),
    HeaderName::from_static("x-trace-id"),
    HeaderName::from_static("ratelimit-limit"),
    HeaderName::from_static("ratelimit-remaining"),
    HeaderName::from_static("ratelimit-reset"),
    HeaderName::from_static("mcp-session-id"),
    header::RETRY_AFTER,
    header::WWW_AUTHENTICATE,
    TICKET,
];

/// The layer that answers for the sites of `CORS_ALLOW_ORIGINS`; none where none is named.
///
/// No site is allowed to have the browser add a credential: pages say in a header who they act for.
pub(super) fn cors(config: &Config) -> Option<CorsLayer> {
    let origins: Vec<HeaderValue> =
        sites(config).filter_map(|site| HeaderValue::from_str(site).ok()).collect();
    let layer = CorsLayer::new()
        .allow_origin(origins.clone())
        .allow_methods([Method::GET, Method::POST, Method::PUT, Method::DELETE])
        .allow_headers(SENT)
        .expose_headers(SEEN)
        .max_age(REMEMBERED);
    (!origins.is_empty()).then_some(layer)
}

fn sites(config: &Config) -> impl Iterator<Item = &str> {
    config.cors_allow_origins.0.iter().map(String::as_str)
}

/// A layer that has no answer kept or taken for what it is not, unless the answer says otherwise itself.
pub(super) async fn keep_nothing(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    for (name, value) in [(header::CACHE_CONTROL, "no-store"), (header::X_CONTENT_TYPE_OPTIONS, "nosniff")] {
        headers.entry(name).or_insert(HeaderValue::from_static(value));
    }
    response
}

/// A layer around what needs a credential: whatever it answers holds a caller's own, and is kept nowhere, also where
/// what made the answer would have it asked for again (`no-cache`, as streams have it by default).
pub(super) async fn keep_no_secret(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

/// Refuses a change that a page of another site sent.
///
/// # Errors
/// `foreign_origin`.
pub(super) fn check_origin(config: &Config, method: &Method, headers: &HeaderMap) -> Result<(), Error> {
    if method.is_safe() {
        // What it reads, the browser does not show to the page.
        return Ok(());
    }
    let own = |site: &str| {
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
        let public = config.public_url.as_ref().map(|url| url.as_str());
        let at = site.split_once("://").filter(|(scheme, _)| matches!(*scheme, "http" | "https"));
        public == Some(site) || at.is_some_and(|(_, name)| host == Some(name))
    };
    let known = |site: &HeaderValue| {
        site.to_str().is_ok_and(|site| own(site) || sites(config).any(|allowed| allowed == site))
    };
    if headers.get_all(header::ORIGIN).iter().all(known) { Ok(()) } else { Err(Error::ForeignOrigin) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    #[test]
    fn a_change_comes_from_no_page_or_from_one_of_ours() {
        let settings =
            [("PUBLIC_URL", "https://vault.example.com"), ("CORS_ALLOW_ORIGINS", "https://app.example.com")];
        let environment = settings.map(|(name, text)| (name.to_owned(), text.to_owned())).into();
        let config = Config::load(&Layers { environment, ..Layers::default() }).unwrap();
        let sent = |method: Method, origins: &[&str]| {
            let mut headers =
                HeaderMap::from_iter([(header::HOST, HeaderValue::from_static("127.0.0.1:8089"))]);
            for origin in origins {
                headers.append(header::ORIGIN, HeaderValue::from_str(origin).unwrap());
            }
            check_origin(&config, &method, &headers).is_ok()
        };
        for origins in [
            &[][..],
            &["http://127.0.0.1:8089"],
            &["https://127.0.0.1:8089"],
            &["https://vault.example.com"],
            &["https://app.example.com"],
        ] {
            assert!(sent(Method::POST, origins), "{origins:?}");
        }
        for origins in [
            &["null"][..],
            &[""],
            &["127.0.0.1:8089"],
            &["http://127.0.0.1"],
            &["http://localhost:8089"],
            &["file://127.0.0.1:8089"],
            &["https://app.example.com.evil.example"],
            &["http://app.example.com"],
            &["https://app.example.com:8443"],
            &["https://app.example.com", "https://evil.example"],
        ] {
            for method in [Method::POST, Method::PUT, Method::DELETE] {
                assert!(!sent(method, origins), "{origins:?}");
            }
            assert!(sent(Method::GET, origins), "{origins:?}");
        }
    }
}
