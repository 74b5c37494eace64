//! Who calls: each kind of credential, what is wrong with it, and that nobody gets further without one.

#[path = "auth/api_key.rs"]
mod api_key;
#[path = "auth/certificate.rs"]
pub(crate) mod certificate;
#[path = "auth/document.rs"]
mod document;
#[path = "auth/flood.rs"]
mod flood;
#[path = "auth/jwks.rs"]
mod jwks;
#[path = "auth/jwt.rs"]
mod jwt;
#[path = "auth/mtls.rs"]
mod mtls;
#[path = "auth/resource.rs"]
mod resource;
#[path = "auth/several.rs"]
mod several;
#[path = "auth/tokens.rs"]
mod tokens;

use super::rig::{Agent, Http, assert_ids};
use crate::common::{Reply, assert_no_canary, assert_untouched, canary};

/// A server that says everything it has to say: whatever a credential holds would show in its log.
fn talkative(agents: &[&Agent], settings: &[(&str, &str)]) -> Http {
    let mut all = vec![("LOG_LEVEL", "debug")];
    all.extend_from_slice(settings);
    Http::start(agents, &all)
}

/// A call with these headers and nothing else.
fn call(http: &Http, headers: &[(&str, &str)]) -> Reply {
    http.bare("GET", "/secrets?prefix=nothing", headers, None)
}

/// The call gets through as this subject.
#[track_caller]
fn assert_let_in(http: &Http, subject: &str, headers: &[(&str, &str)]) {
    let who = http.bare("GET", "/whoami", headers, None).ok();
    assert_eq!(who["subject"], subject, "{who}");
}

/// Nobody is let in: 401 in the one form there is, Vault hears nothing, and one record says why.
#[track_caller]
fn assert_turned_away(http: &Http, headers: &[(&str, &str)], why: &str) -> Reply {
    assert_turned_away_from(http, "GET", "/secrets?prefix=nothing", headers, None, why)
}

#[track_caller]
fn assert_turned_away_from(
    http: &Http,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
    why: &str,
) -> Reply {
    let before = http.records().len();
    let reply = assert_untouched(&http.proxy, || http.bare(method, path, headers, body));
    assert_eq!((reply.status, reply.text.as_str()), (401, r#"{"detail":"Unauthorized"}"#), "{why}");
    assert!(reply.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer ")), "{reply:?}");
    assert_no_canary(format!("{:?}", reply.headers), "a refusal's headers");
    assert_ids(&reply);
    let (log, said) = (std::fs::read_to_string(http.home().audit_log()).unwrap(), http.server().stderr());
    for (name, value) in headers.iter().filter(|(_, value)| value.len() > 16) {
        assert!(!log.contains(value) && !said.contains(value), "{name} stands in a log");
    }
    let new = &http.records()[before..];
    assert_eq!(new.len(), 1, "{new:?}");
    let record = &new[0];
    assert_eq!(record["outcome"], why, "{record}");
    for (name, value) in
        [("action", "REFUSED"), ("code", "unauthorized"), ("subject", "-"), ("target", "127.0.0.1")]
    {
        assert_eq!(record[name], value, "{record}");
    }
    reply
}

#[test]
fn nobody_without_a_credential_learns_a_route_a_method_a_limit_or_a_fault() {
    let http = talkative(&[], &[]);
    let value = canary("nobody");
    let whole = format!(r#"{{"data": {{"a": "{value}"}}}}"#);
    for (method, path, body) in [
        ("GET", "/secrets", None),
        ("GET", "/secrets/../bob", None),
        ("PATCH", "/secrets/a", Some("{}")),
        ("POST", "/secrets/a", Some("{}")),
        ("GET", "/nothing/here", None),
        ("GET", "/", None),
        ("PUT", "/secrets/a", Some(whole.as_str())),
        ("PUT", "/secrets/a", Some("{not json")),
        ("PUT", "/secrets/a?x=1", Some(r#"{"dat": 1}"#)),
        ("POST", "/transit/encrypt", Some(r#"{"key": 7}"#)),
        ("GET", "/transit/random?format=octal", None),
        ("GET", "/whoami", None),
        ("GET", "/echo-headers", None),
        ("POST", "/mcp", Some("{}")),
        ("POST", "/mcp/rpc", Some("{}")),
        ("GET", "/mcp/sse", None),
        ("GET", "/observability/summary", None),
        ("GET", "/.well-known/openid-configuration", None),
        ("GET", "/secrets?api_key=x&access_token=y&key=z", None),
    ] {
        assert_turned_away_from(&http, method, path, &[], body, "no credential");
    }
}

#[test]
fn a_body_over_the_limit_is_not_what_nobody_hears_of() {
    let http = talkative(&[], &[]);
    let body = format!(r#"{{"data": {{"a": "{}"}}}}"#, "x".repeat(2 << 20));
    // The server need not read it to the end, so the answer may meet a connection that is still being written to.
    match crate::common::http::try_http("PUT", &format!("{}/secrets/a", http.url), &[], Some(&body)) {
        Ok(reply) => assert_eq!(reply.status, 401, "{}", reply.text),
        Err(error) => {
            assert!(http.records().iter().any(|record| record["code"] == "unauthorized"), "{error}")
        }
    }
    assert!(http.proxy.data_requests().is_empty());
}
