//! `/openapi.json`, and the pages over it: open to everybody, the same bytes until they change, under a policy
//! that a browser holds them to. What they look like is looked at in a browser, in `tests/http_clients`.

use std::collections::HashSet;

use regex::Regex;
use serde_json::Value;

use super::rig::{Agent, Http, assert_ids};
use crate::common::Reply;

const PAGES: [&str; 2] = ["/docs", "/redoc"];

/// What a page loads.
fn assets(page: &Reply) -> Vec<String> {
    let address = Regex::new(r#"(?:src|href)="(assets/[^"]+)""#).unwrap();
    address.captures_iter(&page.text).map(|found| format!("/{}", &found[1])).collect()
}

fn operations(document: &Value) -> HashSet<(String, String)> {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, methods): (&String, &Value)| {
        let methods: Vec<_> = methods.as_object().unwrap().keys().cloned().collect();
        methods.into_iter().map(|method| (method, path.clone())).collect::<Vec<_>>()
    };
    paths.iter().flat_map(of).collect()
}

#[test]
fn the_pages_are_open_and_load_only_what_is_here() {
    let http = Http::start(&[&Agent::new()], &[]);
    for page in PAGES {
        let reply = http.bare("GET", page, &[], None);
        assert_eq!((reply.status, reply.header("content-type")), (200, Some("text/html; charset=utf-8")));
        assert_ids(&reply);
        let policy = reply.header("content-security-policy").unwrap();
        assert!(policy.starts_with("default-src 'none'; script-src 'self'; "), "{policy}");
        assert!(!policy.contains("unsafe") && !policy.contains("http"), "{policy}");
        for part in ["frame-ancestors 'none'", "base-uri 'none'", "form-action 'none'"] {
            assert!(policy.contains(part), "{policy}");
        }
        for (name, value) in [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
        ] {
            assert_eq!(reply.header(name), Some(value), "{page}: {name}");
        }
        // No script and no style in the page itself, and none from elsewhere.
        assert!(!reply.text.contains("<style") && !reply.text.contains("//"), "{}", reply.text);
        assert_eq!(reply.text.matches("<script ").count(), 2);
        assert_eq!(assets(&reply).len(), 3);
        for asset in assets(&reply) {
            let file = http.bare("GET", &asset, &[], None);
            assert_eq!(file.status, 200, "{asset}");
            assert_eq!(file.header("cache-control"), Some("public, max-age=31536000, immutable"));
            assert_eq!(file.header("x-content-type-options"), Some("nosniff"));
            assert!(file.header("content-type").unwrap().starts_with("text/"));
        }
    }
}

#[test]
fn what_a_client_has_is_not_sent_again() {
    let http = Http::start(&[&Agent::new()], &[]);
    let mut files: Vec<String> =
        PAGES.iter().flat_map(|page| assets(&http.bare("GET", page, &[], None))).collect();
    files.extend([PAGES[0].to_owned(), PAGES[1].to_owned(), "/openapi.json".to_owned()]);
    for file in files {
        let first = http.bare("GET", &file, &[], None);
        let tag = first.header("etag").unwrap();
        let again = http.bare("GET", &file, &[("If-None-Match", tag)], None);
        assert_eq!((again.status, again.text.as_str(), again.header("etag")), (304, "", Some(tag)), "{file}");
        assert_eq!(http.bare("GET", &file, &[("If-None-Match", "\"another\"")], None).status, 200);
    }
}

#[test]
fn an_address_holds_the_bytes_that_its_digest_names_or_nothing() {
    let http = Http::start(&[&Agent::new()], &[]);
    let asset = assets(&http.bare("GET", "/docs", &[], None)).pop().unwrap();
    let name = asset.rsplit('/').next().unwrap();
    let digest = asset.rsplit('/').nth(1).unwrap();
    for wrong in [
        format!("/assets/{}/{name}", "0".repeat(digest.len())),
        format!("/assets/{digest}/nothing.js"),
        format!("/assets/{digest}/../../Cargo.toml"),
        format!("/assets/{digest}/..%2f..%2fCargo.toml"),
        format!("/assets/{digest}/%ff"),
        format!("/assets/{digest}/LICENSE"),
    ] {
        let reply = http.bare("GET", &wrong, &[], None);
        assert!([401, 404].contains(&reply.status), "{wrong}: {}", reply.status);
    }
    // Kept compressed: those who cannot take that are told so, and get no bytes that they would misread.
    let bundle =
        assets(&http.bare("GET", "/redoc", &[], None)).into_iter().find(|asset| asset.contains("standalone"));
    let plain = http.bare("GET", &bundle.unwrap(), &[("Accept-Encoding", "identity")], None);
    assert_eq!(plain.status, 406);
    assert!(plain.body["detail"].as_str().unwrap().contains("gzip"), "{}", plain.text);
}

#[test]
fn the_document_is_open_and_speaks_of_what_is_switched_on() {
    let agent = Agent::new();
    let all = Http::start(&[&agent], &[]);
    let reply = all.bare("GET", "/openapi.json", &[], None);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    let whole = reply.ok();
    assert_eq!(whole["openapi"], "3.1.0");
    let pair = |method: &str, path: &str| (method.to_owned(), path.to_owned());
    let routes = operations(&whole);
    for route in [
        pair("put", "/secrets/{path}"),
        pair("post", "/secrets/{path}:undelete"),
        pair("get", "/readyz"),
        pair("get", "/openapi.json"),
        pair("get", "/docs"),
    ] {
        assert!(routes.contains(&route), "{route:?}");
    }
    assert!(whole["components"]["securitySchemes"]["ApiKey"].is_object());
    assert!(whole["components"]["securitySchemes"].get("MutualTLS").is_none());

    let settings = [
        ("READ_ONLY", "true"),
        ("TOOLSETS", "kv"),
        ("AUTH_JWT_ENABLED", "false"),
        ("AUTH_MTLS_ENABLED", "true"),
    ];
    let reader = Http::start(&[&agent], &settings).bare("GET", "/openapi.json", &[], None).ok();
    let routes = operations(&reader);
    assert!(routes.contains(&pair("get", "/secrets/{path}")));
    assert!(
        !routes.contains(&pair("put", "/secrets/{path}"))
            && !routes.contains(&pair("get", "/transit/random"))
    );
    let schemes: Vec<_> = reader["components"]["securitySchemes"].as_object().unwrap().keys().collect();
    assert_eq!(schemes, ["ApiKey", "MutualTLS"]);

    let bare = Http::start(&[&agent], &[("EXPOSE_REST_ROUTES", "false")])
        .bare("GET", "/openapi.json", &[], None)
        .ok();
    let routes = operations(&bare);
    assert!(
        !routes.iter().any(|(_, path)| path.starts_with("/secrets"))
            && routes.contains(&pair("get", "/readyz"))
    );
}

#[test]
fn every_route_of_the_document_is_there_and_asks_for_a_credential_where_it_says_so() {
    let http = Http::start(&[&Agent::new()], &[]);
    let document = http.bare("GET", "/openapi.json", &[], None).ok();
    let filled = Regex::new(r"\{[^}]*\}").unwrap();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            let open = operation["security"].as_array().unwrap().is_empty();
            let address = filled.replace_all(path, "x");
            let reply = http.bare(&method.to_uppercase(), &address, &[], Some(""));
            let status = reply.status.to_string();
            assert!(
                operation["responses"].get(&status).is_some(),
                "{method} {path} answers {status}, which the document does not say"
            );
            assert_eq!(reply.status == 401, !open, "{method} {path}: {}", reply.text);
        }
    }
}
