//! What a browser is told: which pages may read answers, and that no other page changes anything.

use serde_json::json;

use super::rig::{Agent, Http, assert_refused};
use crate::common::{Reply, assert_untouched, vault};

const APP: &str = "https://app.example.com";

fn preflight(http: &Http, origin: &str, path: &str) -> Reply {
    let asks = [
        ("Origin", origin),
        ("Access-Control-Request-Method", "PUT"),
        ("Access-Control-Request-Headers", "x-api-key,content-type"),
    ];
    http.bare("OPTIONS", path, &asks, None)
}

fn words(reply: &Reply, name: &str) -> Vec<String> {
    reply.header(name).unwrap_or_default().split(',').map(|word| word.trim().to_ascii_lowercase()).collect()
}

#[test]
fn no_page_may_read_answers_unless_its_site_is_named() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    assert_eq!(preflight(&http, APP, "/secrets/a").status, 401);
    for headers in
        [[("X-API-Key", agent.key.as_str()), ("Origin", APP)], [("X-API-Key", "wrong"), ("Origin", APP)]]
    {
        let reply = http.bare("GET", "/secrets", &headers, None);
        assert!(!reply.headers.iter().any(|(name, _)| name.starts_with("access-control-")), "{reply:?}");
    }
}

#[test]
fn a_page_of_a_named_site_may_call_with_a_credential_of_its_own_and_see_the_ids() {
    let agent = Agent::new();
    let http =
        Http::start(&[&agent], &[("CORS_ALLOW_ORIGINS", "https://app.example.com http://localhost:3000")]);
    for origin in [APP, "http://localhost:3000"] {
        let asked = preflight(&http, origin, "/secrets/a");
        assert_eq!((asked.status, asked.header("access-control-allow-origin")), (200, Some(origin)));
        for header in [
            "x-api-key",
            "authorization",
            "content-type",
            "x-correlation-id",
            "mcp-session-id",
            "last-event-id",
        ] {
            assert!(words(&asked, "access-control-allow-headers").contains(&header.to_owned()), "{header}");
        }
        for method in ["get", "put", "post", "delete"] {
            assert!(words(&asked, "access-control-allow-methods").contains(&method.to_owned()), "{method}");
        }
        let headers = [("X-API-Key", agent.key.as_str()), ("Origin", origin)];
        let written = http.bare("PUT", "/secrets/a", &headers, Some(r#"{"data": {"a": "1"}}"#));
        assert_eq!((written.status, written.header("access-control-allow-origin")), (200, Some(origin)));
        for header in
            ["x-request-id", "x-correlation-id", "retry-after", "ratelimit-remaining", "mcp-session-id"]
        {
            assert!(
                words(&written, "access-control-expose-headers").contains(&header.to_owned()),
                "{header}"
            );
        }
        // What a cache keeps for one site is not another's.
        assert!(words(&written, "vary").contains(&"origin".to_owned()), "{:?}", written.header("vary"));
        // The browser adds no credential by itself.
        for reply in [&asked, &written] {
            assert_eq!(reply.header("access-control-allow-credentials"), None);
        }
    }
    // A refusal can be read as well: the page is to know why.
    let refused = http.bare("GET", "/secrets", &[("Origin", APP)], None);
    assert_eq!((refused.status, refused.header("access-control-allow-origin")), (401, Some(APP)));
    for origin in
        ["https://evil.example", "https://app.example.com.evil.example", "http://app.example.com", "null"]
    {
        assert_eq!(
            preflight(&http, origin, "/secrets/a").header("access-control-allow-origin"),
            None,
            "{origin}"
        );
    }
}

#[test]
fn a_star_is_not_taken_for_a_site() {
    for origins in ["*", "https://app.example.com,*", "null"] {
        let run = crate::common::Server::launch()
            .env("VAULT_ADDR", &vault().address)
            .env("CORS_ALLOW_ORIGINS", origins)
            .args(["--http", "--port", "0"])
            .run("");
        assert!(
            !run.status.success() && run.stderr.contains("CORS_ALLOW_ORIGINS"),
            "{origins}: {}",
            run.stderr
        );
    }
}

#[test]
fn a_page_of_another_site_changes_nothing_and_that_is_recorded() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[("CORS_ALLOW_ORIGINS", APP)]);
    vault().write_secret(&agent.subject, "a", json!({"a": "1"}));
    for (method, path, body) in [
        ("PUT", "/secrets/a", Some(r#"{"data": {"a": "2"}}"#)),
        ("POST", "/secrets/a:destroy", Some(r#"{"versions": [1]}"#)),
        ("POST", "/db/creds/app", None),
        ("DELETE", "/secrets/a", None),
    ] {
        for origin in ["https://evil.example", "null"] {
            let before = http.records().len();
            let headers =
                [("X-API-Key", agent.key.as_str()), ("Origin", origin), ("Content-Type", "text/plain")];
            let reply = assert_untouched(&http.proxy, || http.bare(method, path, &headers, body));
            assert_refused(&reply, 403, "foreign_origin");
            assert_eq!(http.records().len() - before, 1, "{method} {path}");
        }
    }
    assert_eq!(vault().secret(&agent.subject, "a"), json!({"a": "1"}));
    let own = [("X-API-Key", agent.key.as_str()), ("Origin", http.url.as_str())];
    assert_eq!(http.bare("DELETE", "/secrets/a", &own, None).status, 204);
}

#[test]
fn no_answer_with_a_secret_is_kept_by_anybody_on_the_way() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    vault().write_secret(&agent.subject, "a", json!({"a": "1"}));
    for reply in [
        http.get(&agent, "/secrets/a"),
        http.get(&agent, "/secrets/nothing"),
        http.get(&agent, "/whoami"),
        http.bare("GET", "/secrets/a", &[], None),
    ] {
        assert_eq!(reply.header("cache-control"), Some("no-store"), "{}", reply.text);
        assert_eq!(reply.header("x-content-type-options"), Some("nosniff"));
    }
}
