//! Tokens with a shared secret: what holds, and everything that does not.

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use serde_json::{Value, json};

use super::{
    super::rig::{Agent, Http},
    assert_let_in, assert_turned_away, call, talkative,
    tokens::{Pair, bearer, claims, hmac_signed, hs256, now, part, with},
};
use crate::common::{PATIENCE, Server, canary, vault};

fn server() -> (Http, String) {
    let secret = canary("a_secret_of_32_bytes_or_more");
    (talkative(&[], &[("JWT_HS256_SECRET", &secret)]), secret)
}

#[track_caller]
fn refused(http: &Http, token: &str, why: &str) {
    let reply = assert_turned_away(http, &[("Authorization", &bearer(token))], why);
    let challenge = reply.header("www-authenticate").unwrap();
    assert!(challenge.contains("error=\"invalid_token\""), "{challenge}");
}

#[test]
fn a_good_token_reads_and_writes_in_its_subjects_tree() {
    let (http, secret) = server();
    let subject = vault().fresh_subject();
    let token = bearer(&hs256(&secret, &claims(&subject)));
    let headers = [("Authorization", token.as_str())];
    let written = http.bare("PUT", "/secrets/app", &headers, Some(r#"{"data": {"a": "1"}}"#));
    assert_eq!(written.status, 200, "{}", written.text);
    assert_eq!(vault().secret(&subject, "app"), json!({"a": "1"}));
    for scheme in ["bearer", "BEARER"] {
        let header = format!("{scheme} {}", &token["Bearer ".len()..]);
        assert_let_in(&http, &subject, &[("authorization", &header)]);
    }
}

#[test]
fn claims_that_do_not_hold_let_nobody_in() {
    let (http, secret) = server();
    let now = now();
    for (change, why) in [
        (json!({"exp": now - 60}), "an expired token"),
        (json!({"exp": null}), "a token that never ends"),
        (json!({"exp": (now + 300).to_string()}), "a token whose claims are not of their types"),
        (json!({"nbf": now + 120}), "a token that is not valid yet"),
        (json!({"nbf": now.to_string()}), "a token whose claims are not of their types"),
        (json!({"iss": "mcp-auth/"}), "a token of another issuer"),
        (json!({"iss": "other"}), "a token of another issuer"),
        (json!({"iss": ["mcp-auth"]}), "a token whose claims are not of their types"),
        (json!({"iss": null}), "a token of another issuer"),
        (json!({"aud": "other"}), "a token that is meant for somebody else"),
        (json!({"aud": ["other", "mcp-agents2"]}), "a token that is meant for somebody else"),
        (json!({"aud": []}), "a token that is meant for somebody else"),
        (json!({"aud": null}), "a token that is meant for somebody else"),
        (json!({"aud": http.url}), "a token that is meant for somebody else"),
        (json!({"sub": null}), "a token without a subject"),
    ] {
        let token = hs256(&secret, &with(claims("alice"), change));
        refused(&http, &token, why);
    }
    let list = hs256(&secret, &with(claims("alice"), json!({"aud": ["other", "mcp-agents"]})));
    assert_let_in(&http, "alice", &[("Authorization", &bearer(&list))]);
}

#[test]
fn a_subject_that_is_none_is_refused_and_never_mended() {
    let (http, secret) = server();
    for subject in
        ["Alice", "alice ", " alice", "*", "+", "a,b", "a/b", "..", "", "älice", "-a", &"a".repeat(64)]
    {
        let token = hs256(&secret, &with(claims("x"), json!({"sub": subject})));
        refused(&http, &token, "a token whose subject is none of ours");
    }
    // A name like any other, and no other's tree.
    let root = hs256(&secret, &claims("root"));
    assert_let_in(&http, "root", &[("Authorization", &bearer(&root))]);
}

#[test]
fn no_token_chooses_how_it_is_verified() {
    let (http, secret) = server();
    let good = claims("alice");
    let unsigned = |alg: &str| {
        format!("{}.{}.", part(json!({"alg": alg, "typ": "JWT"}).to_string()), part(good.to_string()))
    };
    for alg in ["none", "None", "NONE", "nOnE"] {
        refused(&http, &unsigned(alg), "a token with an unreadable header");
        let signed = hmac_signed(&secret, &json!({"alg": alg}), &good);
        refused(&http, &signed, "a token with an unreadable header");
    }
    refused(&http, &unsigned("HS256"), "a token whose signature is not good");
    for alg in ["HS384", "HS512", "RS256", "ES256", "PS256", "EdDSA"] {
        refused(
            &http,
            &hmac_signed(&secret, &json!({"alg": alg}), &good),
            "a token of another algorithm than HS256",
        );
    }
    refused(&http, &Pair::ec().token("a", &good), "a token of another algorithm than HS256");
    refused(&http, &hs256(&format!("{secret}x"), &good), "a token whose signature is not good");
    refused(&http, &hs256("", &good), "a token whose signature is not good");

    let header = |more: Value| with(json!({"alg": "HS256", "typ": "JWT"}), more);
    for (more, why) in [
        (json!({"crit": ["exp"]}), "a token with extensions that it calls critical"),
        (json!({"crit": []}), "a token with extensions that it calls critical"),
        (json!({"crit": ["b64"], "b64": false}), "a token with extensions that it calls critical"),
        (json!({"zip": "DEF"}), "an encrypted token"),
        (json!({"enc": "A256GCM"}), "an encrypted token"),
        (json!({"typ": "secevent+jwt"}), "a token of another type"),
        (json!({"kid": "k".repeat(257)}), "a token whose key id is too long"),
        (json!({"kid": 7}), "a token with an unreadable header"),
    ] {
        refused(&http, &hmac_signed(&secret, &header(more), &good), why);
    }
    // Where a key could be had from is the issuer's and ours to say: what the token says of it is not looked at.
    let stranger = json!({
        "jku": "http://127.0.0.1:1/jwks.json", "x5u": "http://127.0.0.1:1/x5u.pem",
        "jwk": Pair::ec().jwk("a"), "kid": "../../etc/passwd' OR 1=1 --", "typ": "at+jwt",
    });
    let token = hmac_signed(&secret, &header(stranger), &good);
    assert_let_in(&http, "alice", &[("Authorization", &bearer(&token))]);
}

#[test]
fn what_is_not_shaped_like_a_token_is_refused_before_it_is_read() {
    let (http, secret) = server();
    let good = hs256(&secret, &claims("alice"));
    let parts: Vec<&str> = good.split('.').collect();
    let three = "a token that has not three parts";
    refused(&http, "", three);
    refused(&http, "x", three);
    refused(&http, &format!("{good}.{}", parts[2]), three);
    refused(&http, &format!("{}.{}", parts[0], parts[1]), three);
    refused(&http, "a.b.c.d.e", three);
    refused(&http, "..", "a token with an unreadable header");
    refused(&http, &format!("{good}="), "a token whose signature is not good");
    refused(
        &http,
        &format!("{}.{}.{}", parts[0], parts[1], &parts[2][1..]),
        "a token whose signature is not good",
    );
    refused(
        &http,
        &format!("{}.{}x.{}", parts[0], parts[1], parts[2]),
        "a token whose signature is not good",
    );
    refused(&http, &format!("{} .{}.{}", parts[0], parts[1], parts[2]), "a token with an unreadable header");
    let long = hs256(&secret, &with(claims("alice"), json!({"x": "y".repeat(8 << 10)})));
    refused(&http, &long, "a token of more than 8 KiB");
    // Claims that stand there twice: one reader takes the first, another the last.
    let twice = claims("alice").to_string().replacen('{', r#"{"sub": "root", "#, 1);
    let message = format!("{}.{}", parts[0], part(twice));
    let key = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, secret.as_bytes());
    let signature = part(aws_lc_rs::hmac::sign(&key, message.as_bytes()));
    refused(&http, &format!("{message}.{signature}"), "a token whose claims are not of their types");
    assert_turned_away(
        &http,
        &[("Authorization", &bearer(&good)), ("Authorization", &bearer(&good))],
        "two Authorization headers",
    );
}

#[test]
fn a_token_of_eight_megabytes_takes_nothing_but_its_connection() {
    let (http, secret) = server();
    let mut stream = TcpStream::connect(http.url.trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /secrets HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ").unwrap();
    let piece = vec![b'a'; 64 << 10];
    // The server stops reading long before the end.
    let cut = (0..128).any(|_| stream.write_all(&piece).is_err());
    let mut reply = Vec::new();
    let _ = stream.read_to_end(&mut reply);
    let reply = String::from_utf8_lossy(&reply);
    assert!(cut || reply.starts_with("HTTP/1.1 431 "), "{reply}");
    assert!(http.proxy.data_requests().is_empty());
    assert_let_in(&http, "alice", &[("Authorization", &bearer(&hs256(&secret, &claims("alice"))))]);
}

#[test]
fn scopes_of_a_token_are_words_of_ours_and_a_star_is_none() {
    let (http, secret) = server();
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"a": "1"}));
    for (scopes, list, read) in [
        (json!({"scopes": ["read", "list"]}), 200, 200),
        (json!({"scopes": "read,list"}), 200, 200),
        (json!({"scopes": null, "scope": "openid list"}), 200, 403),
        (json!({"scopes": ["*"]}), 403, 403),
        (json!({"scopes": "*"}), 403, 403),
        (json!({"scopes": null}), 403, 403),
        (json!({"scopes": []}), 403, 403),
    ] {
        let token = bearer(&hs256(&secret, &with(claims(&subject), scopes.clone())));
        let headers = [("Authorization", token.as_str())];
        assert_eq!(call(&http, &headers).status, list, "{scopes}");
        assert_eq!(http.bare("GET", "/secrets/app", &headers, None).status, read, "{scopes}");
        assert_eq!(http.bare("DELETE", "/secrets/app", &headers, None).status, 403, "{scopes}");
    }
    assert_eq!(vault().secret(&subject, "app"), json!({"a": "1"}));
}

#[test]
fn checks_that_are_switched_off_are_off_and_one_that_is_on_is_on() {
    let secret = canary("a_secret_of_32_bytes_or_more");
    let settings = [
        ("JWT_HS256_SECRET", secret.as_str()),
        ("JWT_VALIDATE_ISSUER", "false"),
        ("JWT_VALIDATE_AUDIENCE", "false"),
        ("JWT_REQUIRE_KID", "true"),
    ];
    let http = talkative(&[], &settings);
    let claims = with(claims("alice"), json!({"iss": "anybody", "aud": null}));
    refused(&http, &hs256(&secret, &claims), "a token without a key id");
    let named = hmac_signed(&secret, &json!({"alg": "HS256", "kid": "a"}), &claims);
    assert_let_in(&http, "alice", &[("Authorization", &bearer(&named))]);
    let expired =
        hmac_signed(&secret, &json!({"alg": "HS256", "kid": "a"}), &with(claims, json!({"exp": 1})));
    refused(&http, &expired, "an expired token");
}

#[test]
fn settings_that_contradict_each_other_or_can_be_guessed_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("jwks.json");
    std::fs::write(&keys, super::tokens::set(&[Pair::ec().jwk("a")])).unwrap();
    let keys = keys.display().to_string();
    let long = canary("a_secret_of_32_bytes_or_more");
    let remote = [("HOST", "0.0.0.0"), ("AUTH_MTLS_ENABLED", "true"), ("MTLS_TRUSTED_PROXIES", "10.0.0.1")];
    let cases: &[(&[(&str, &str)], &str)] = &[
        (&[("JWT_HS256_SECRET", &long), ("JWT_JWKS_FILE", &keys)], "JWT_HS256_SECRET"),
        (
            &[("JWT_HS256_SECRET", &long), ("JWT_JWKS_URL", "https://issuer.example.com/jwks")],
            "JWT_HS256_SECRET",
        ),
        (&[("JWT_JWKS_FILE", &keys), ("JWT_JWKS_URL", "https://issuer.example.com/jwks")], "JWT_JWKS_FILE"),
        (&[("JWT_JWKS_FILE", "/nothing/here.json")], "JWT_JWKS_FILE"),
        (&[("JWT_JWKS_URL", "http://issuer.example.com/jwks")], "JWT_JWKS_URL"),
        (&[("JWT_JWKS_URL", "https://user:pass@issuer.example.com/jwks")], "JWT_JWKS_URL"),
        (&[("JWT_JWKS_URL", "file:///etc/passwd")], "JWT_JWKS_URL"),
        (&[("JWT_JWKS_CACHE_SECONDS", "0")], "JWT_JWKS_CACHE_SECONDS"),
        (&[("JWT_HS256_SECRET", "short"), remote[0], remote[1], remote[2]], "JWT_HS256_SECRET"),
    ];
    for (settings, setting) in cases {
        let mut launch = Server::launch().env("VAULT_ADDR", "http://127.0.0.1:1").env("VAULT_TOKEN", "x");
        for (name, value) in *settings {
            launch = launch.env(name, value);
        }
        let run = launch.args(["--http", "--port", "0"]).run("");
        assert!(!run.status.success(), "{settings:?}");
        let expected = format!("vault-mcp: config_invalid: {setting}: ");
        assert!(run.stderr.contains(&expected), "{settings:?}: {}", run.stderr);
    }
}

#[test]
fn the_development_token_is_one_that_the_server_takes() {
    let secret = canary("a_secret_of_32_bytes_or_more");
    let http = talkative(&[], &[("JWT_HS256_SECRET", &secret), ("JWT_REQUIRE_KID", "true")]);
    let make = |arguments: &[&str]| {
        let mut launch = Server::launch().env("JWT_HS256_SECRET", &secret).arg("jwt");
        for argument in arguments {
            launch = launch.arg(argument);
        }
        launch.run("")
    };
    let made = make(&["--subject", "agent_jwt", "--scopes", "read,write", "--ttl", "5m"]);
    assert!(made.status.success(), "{}", made.stderr);
    let token = made.stdout.trim_end();
    let who = http.bare("GET", "/whoami", &[("Authorization", &bearer(token))], None).ok();
    assert_eq!((&who["subject"], &who["scopes"]), (&json!("agent_jwt"), &json!(["read", "write"])));

    let few = make(&["--subject", "agent_jwt"]);
    let who = http.bare("GET", "/whoami", &[("Authorization", &bearer(few.stdout.trim_end()))], None).ok();
    assert_eq!(who["scopes"], json!(["read", "list"]), "what is not asked for is not given");
    for arguments in [
        &["--subject", "Alice"][..],
        &["--subject", "a", "--scopes", "*"],
        &["--subject", "a", "--ttl", "25h"],
        &["--subject", "a", "--ttl", "0s"],
        &[],
    ] {
        let refused = make(arguments);
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{arguments:?}: {}", refused.stdout);
    }
    let unset = Server::launch().args(["jwt", "--subject", "a"]).run("");
    assert!(!unset.status.success() && unset.stderr.contains("JWT_HS256_SECRET"), "{}", unset.stderr);
    let agent = Agent::new();
    assert_eq!(http.call(&agent, "GET", "/whoami", None).status, 401, "a made-up key is still none");
}
