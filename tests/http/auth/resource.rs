//! What a client that wants a token is told, and one whose token does not reach.

use serde_json::json;

use super::{
    super::rig::{Agent, Http},
    assert_turned_away, assert_turned_away_from, talkative,
    tokens::{Issuer, Pair, bearer, claims, hs256, with},
};
use crate::common::{assert_untouched, canary, vault};

const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";

#[test]
fn a_refusal_leads_to_the_description_of_the_resource_and_that_to_the_issuer() {
    let pair = Pair::ec();
    let issuer = Issuer::new(&[pair.jwk("a")]);
    let url = issuer.url();
    let http = talkative(&[], &[("JWT_JWKS_URL", &url), ("JWT_ISSUER", "https://issuer.example.com")]);
    for (path, part) in [("/secrets", ""), ("/mcp", "/mcp"), ("/mcp/rpc", "/mcp"), ("/mcpx", "")] {
        let reply = assert_turned_away_from(&http, "POST", path, &[], None, "no credential");
        let challenge = reply.header("www-authenticate").unwrap();
        let at = format!("{}{WELL_KNOWN}{part}", http.url);
        assert_eq!(challenge, format!("Bearer resource_metadata=\"{at}\", scope=\"read list\""));
        let metadata = http.bare("GET", at.strip_prefix(&http.url).unwrap(), &[], None).ok();
        assert_eq!(
            metadata,
            json!({
                "resource": format!("{}{part}", http.url),
                "authorization_servers": ["https://issuer.example.com"],
                "scopes_supported": ["read", "write", "delete", "list"],
                "bearer_methods_supported": ["header"],
                "resource_name": "vault-mcp",
            })
        );
    }
    assert_eq!(issuer.proxy.count(), 0, "a description costs no fetch");
}

#[test]
fn the_public_address_is_what_the_resource_is_known_by() {
    let settings =
        [("PUBLIC_URL", "https://vault-mcp.example.com"), ("JWT_ISSUER", "https://issuer.example.com")];
    let http = talkative(&[], &settings);
    let host = [("Host", "evil.example.com")];
    let metadata = http.bare("GET", &format!("{WELL_KNOWN}/mcp"), &host, None).ok();
    assert_eq!(metadata["resource"], "https://vault-mcp.example.com/mcp");
    assert!(
        metadata.get("authorization_servers").is_none(),
        "without keys of theirs, no token is an issuer's"
    );
    let reply = assert_turned_away_from(&http, "POST", "/mcp", &host, None, "no credential");
    let challenge = reply.header("www-authenticate").unwrap();
    assert!(challenge.contains(&format!("\"https://vault-mcp.example.com{WELL_KNOWN}/mcp\"")), "{challenge}");
}

#[test]
fn a_host_header_names_this_server_or_is_not_looked_at() {
    let http = talkative(&[], &[]);
    let port = http.url.rsplit(':').next().unwrap();
    for (host, resource) in [
        (format!("localhost:{port}"), format!("http://localhost:{port}")),
        ("evil.example.com".to_owned(), http.url.clone()),
        (format!("evil.example.com:{port}"), http.url.clone()),
        ("a\"b".to_owned(), http.url.clone()),
    ] {
        let metadata = http.bare("GET", WELL_KNOWN, &[("Host", &host)], None).ok();
        assert_eq!(metadata["resource"], json!(resource), "{host}");
        let reply = assert_turned_away(&http, &[("Host", &host)], "no credential");
        let challenge = reply.header("www-authenticate").unwrap();
        assert!(
            !challenge.contains("evil") && challenge.contains(&format!("\"{resource}{WELL_KNOWN}\"")),
            "{challenge}"
        );
    }
}

#[test]
fn a_token_that_does_not_reach_is_told_what_would() {
    let secret = canary("a_secret_of_32_bytes_or_more");
    let agent = Agent::with_scopes(&["read"]);
    let http = talkative(&[&agent], &[("JWT_HS256_SECRET", &secret)]);
    let token = bearer(&hs256(&secret, &with(claims(&agent.subject), json!({"scopes": "read"}))));
    let body = Some(r#"{"data": {"a": "1"}}"#);
    let reply = http.bare("PUT", "/secrets/app", &[("Authorization", &token)], body);
    assert_eq!((reply.status, &reply.body["error"]), (403, &json!("missing_scope")), "{}", reply.text);
    assert_eq!(
        reply.header("www-authenticate").unwrap(),
        format!(
            "Bearer error=\"insufficient_scope\", scope=\"read write\", resource_metadata=\"{}{WELL_KNOWN}\"",
            http.url
        )
    );
    // A key cannot be exchanged for a better one by asking somebody.
    let by_key = http.bare("PUT", "/secrets/app", &[("X-API-Key", &agent.key)], body);
    assert_eq!(by_key.status, 403);
    assert!(by_key.header("www-authenticate").is_none());
    assert_eq!(vault().version(&agent.subject, "app"), 0);
}

#[test]
fn over_mcp_a_token_that_does_not_reach_is_told_by_http_where_its_issuer_could_give_another() {
    let pair = Pair::ec();
    let issuer = Issuer::new(&[pair.jwk("a")]);
    let (url, subject) = (issuer.url(), vault().fresh_subject());
    let call = |http: &Http, token: &str, tool: &str| {
        let arguments = json!({"path": "app", "data": {"a": "1"}});
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": {
            "name": tool, "arguments": arguments,
            "_meta": {
                "io.modelcontextprotocol/protocolVersion": "2026-07-28",
                "io.modelcontextprotocol/clientInfo": {"name": "tests", "version": "1"},
                "io.modelcontextprotocol/clientCapabilities": {},
            },
        }});
        let headers = [
            ("Authorization", token),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            ("MCP-Protocol-Version", "2026-07-28"),
            ("Mcp-Method", "tools/call"),
            ("Mcp-Name", tool),
        ];
        http.bare("POST", "/mcp", &headers, Some(&message.to_string()))
    };
    let by_issuer = talkative(&[], &[("JWT_JWKS_URL", &url), ("JWT_ISSUER", "https://issuer.example.com")]);
    let narrow = json!({"scopes": "list", "iss": "https://issuer.example.com"});
    let token = bearer(&pair.token("a", &with(claims(&subject), narrow)));
    for tool in ["kv_write", "kv.write"] {
        let before = by_issuer.records().len();
        let reply = assert_untouched(&by_issuer.proxy, || call(&by_issuer, &token, tool));
        assert_eq!((reply.status, &reply.body["error"]), (403, &json!("missing_scope")), "{}", reply.text);
        let challenge = reply.header("www-authenticate").unwrap();
        let expected = "Bearer error=\"insufficient_scope\", scope=\"list write\", resource_metadata=\"";
        assert!(challenge.starts_with(expected) && challenge.ends_with("/mcp\""), "{challenge}");
        let new = &by_issuer.records()[before..];
        assert_eq!(new.len(), 1, "{new:?}");
        for (name, value) in [
            ("action", "REFUSED"),
            ("code", "missing_scope"),
            ("op", "kv.write"),
            ("subject", subject.as_str()),
        ] {
            assert_eq!(new[0][name], value, "{}", new[0]);
        }
    }
    // Such a call costs as much as any.
    let limited = talkative(
        &[],
        &[
            ("JWT_JWKS_URL", &url),
            ("JWT_ISSUER", "https://issuer.example.com"),
            ("RATE_LIMIT_ENABLED", "true"),
            ("RATE_LIMIT_REQUESTS", "2"),
            ("RATE_LIMIT_WINDOW_SECONDS", "3600"),
        ],
    );
    for (status, left) in [(403, "1"), (403, "0"), (429, "0")] {
        let reply = assert_untouched(&limited.proxy, || call(&limited, &token, "kv_write"));
        assert_eq!(
            (reply.status, reply.header("RateLimit-Remaining")),
            (status, Some(left)),
            "{}",
            reply.text
        );
        assert_eq!(reply.header("Retry-After").is_some(), status == 429);
    }
    // Where nobody could give a better token, the model hears of it as of any other refusal.
    let secret = canary("a_secret_of_32_bytes_or_more");
    let by_secret = talkative(&[], &[("JWT_HS256_SECRET", &secret)]);
    let token = bearer(&hs256(&secret, &with(claims(&subject), json!({"scopes": "list"}))));
    let reply = assert_untouched(&by_secret.proxy, || call(&by_secret, &token, "kv_write"));
    assert_eq!(reply.status, 200, "{}", reply.text);
    assert!(
        reply.text.contains("missing_scope: ") && reply.text.contains("\"isError\":true"),
        "{}",
        reply.text
    );
    assert_eq!(vault().version(&subject, "app"), 0);
}
