//! Tokens by an issuer's keys: rotation, an issuer that is down or hostile, and callers that would have it asked
//! again and again.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{
    ServerConfig, ServerConnection, Stream,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use serde_json::{Value, json};

use super::{
    super::rig::Http,
    assert_let_in, assert_turned_away, call,
    certificate::Certificates,
    talkative,
    tokens::{Issuer, Pair, bearer, claims, hmac_signed, part, set, with},
};
use crate::common::{Fault, On, PATIENCE, http::http, proxy::Gate, wait_until};

const UNKNOWN: &str = "a token of an unknown key";
const NO_KEYS: &str = "a token, while there are no keys of its issuer";

fn server(issuer: &Issuer, more: &[(&str, &str)]) -> Http {
    let url = issuer.url();
    let mut settings = vec![("JWT_JWKS_URL", url.as_str())];
    settings.extend_from_slice(more);
    talkative(&[], &settings)
}

#[track_caller]
fn refused(http: &Http, token: &str, why: &str) {
    assert_turned_away(http, &[("Authorization", &bearer(token))], why);
}

/// What a call with this header is answered, from whichever thread.
fn status_at(url: &str, authorization: &str) -> u16 {
    http("GET", &format!("{url}/whoami"), &[("Authorization", authorization)], None).status
}

#[track_caller]
fn taken(http: &Http, token: &str) {
    assert_let_in(http, "alice", &[("Authorization", &bearer(token))]);
}

#[test]
fn tokens_of_the_issuers_keys_are_taken_and_its_keys_are_fetched_once() {
    let (rsa, ec) = (Pair::rsa(), Pair::ec());
    let issuer =
        Issuer::new(&[rsa.jwk("r"), ec.jwk("e"), json!({"kty": "oct", "kid": "o", "k": "c2VjcmV0"})]);
    let http = server(&issuer, &[]);
    assert_eq!(issuer.proxy.count(), 0, "nobody is asked before there is a need");
    for _ in 0..3 {
        taken(&http, &rsa.token("r", &claims("alice")));
        taken(&http, &ec.token("e", &claims("alice")));
    }
    // Without a key id, the one key of the kind is meant.
    taken(&http, &ec.signed(&json!({"alg": "ES256"}), &claims("alice")));
    assert_eq!(issuer.proxy.count(), 1);
    let fetched = &issuer.proxy.requests()[0];
    assert_eq!(fetched.line(), "GET /jwks.json");
    assert!(fetched.header("authorization").is_none() && fetched.header("x-vault-token").is_none());
}

#[test]
fn a_public_key_is_no_shared_secret_and_no_other_key_is_the_issuers() {
    let (rsa, ec, stranger) = (Pair::rsa(), Pair::ec(), Pair::rsa());
    let issuer =
        Issuer::new(&[rsa.jwk("r"), ec.jwk("e"), json!({"kty": "oct", "kid": "o", "k": part("secret")})]);
    let http = server(&issuer, &[]);
    let good = claims("alice");
    taken(&http, &rsa.token("r", &good));
    let other = "a token of another algorithm than RS256 and ES256";
    for text in rsa.public_texts().iter().chain(&ec.public_texts()) {
        refused(&http, &hmac_signed(text, &json!({"alg": "HS256", "kid": "r"}), &good), other);
        let passed_off = hmac_signed(text, &json!({"alg": "RS256", "kid": "r"}), &good);
        refused(&http, &passed_off, "a token whose signature is not good");
    }
    refused(&http, &hmac_signed("secret", &json!({"alg": "HS256", "kid": "o"}), &good), other);
    refused(&http, &hmac_signed("secret", &json!({"alg": "RS256", "kid": "o"}), &good), UNKNOWN);
    for alg in ["RS384", "RS512", "PS256", "ES384", "EdDSA"] {
        refused(&http, &rsa.signed(&json!({"alg": alg, "kid": "r"}), &good), other);
    }
    refused(
        &http,
        &rsa.signed(&json!({"alg": "none", "kid": "r"}), &good),
        "a token with an unreadable header",
    );
    refused(&http, &stranger.token("r", &good), "a token whose signature is not good");
    // A key of one kind under the id of another.
    refused(&http, &ec.signed(&json!({"alg": "ES256", "kid": "r"}), &good), UNKNOWN);

    // A key that the token brings along is not looked at, and neither is where it says that one lies.
    let elsewhere = Issuer::new(&[stranger.jwk("r")]);
    let brought = json!({
        "alg": "RS256", "kid": "r", "jwk": stranger.jwk("r"), "jku": elsewhere.url(), "x5u": elsewhere.url(),
    });
    refused(&http, &stranger.signed(&brought, &good), "a token whose signature is not good");
    assert_eq!(elsewhere.proxy.count(), 0);
}

#[test]
fn a_token_without_a_key_id_is_ambiguous_where_there_are_several_keys() {
    let (one, two) = (Pair::ec(), Pair::ec());
    let issuer = Issuer::new(&[one.jwk("1"), two.jwk("2"), two.jwk("twice"), one.jwk("twice")]);
    let http = server(&issuer, &[]);
    let ambiguous = "a token without a key id, or with one that several keys have";
    refused(&http, &one.signed(&json!({"alg": "ES256"}), &claims("alice")), ambiguous);
    refused(&http, &one.token("twice", &claims("alice")), ambiguous);
    taken(&http, &one.token("1", &claims("alice")));
    for id in ["../1", "1' OR '1'='1", "1\u{0}", "1 ", ""] {
        refused(&http, &one.token(id, &claims("alice")), UNKNOWN);
    }
    let long = "1".repeat(2000);
    refused(&http, &one.token(&long, &claims("alice")), "a token whose key id is too long");
    let longer = "1".repeat(10 << 10);
    refused(&http, &one.token(&longer, &claims("alice")), "a token of more than 8 KiB");
    assert_eq!(issuer.proxy.count(), 1);
}

#[test]
fn a_flood_of_unknown_key_ids_costs_one_fetch() {
    let (old, new) = (Pair::ec(), Pair::ec());
    let issuer = Issuer::new(&[old.jwk("old")]);
    let http = server(&issuer, &[]);
    // The first of them fetches; whatever comes in the next 30 s does not.
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (url, new) = (&http.url, &new);
            scope.spawn(move || {
                for n in 0..20 {
                    let token = new.token(&format!("{thread}-{n}"), &claims("alice"));
                    let status = status_at(url, &bearer(&token));
                    assert!(matches!(status, 401 | 429), "{status}");
                }
            });
        }
    });
    taken(&http, &old.token("old", &claims("alice")));
    let fetched = issuer.proxy.count() as u64;
    assert!(
        (1..=1 + begun.elapsed().as_secs() / 30).contains(&fetched),
        "{fetched} in {:?}",
        begun.elapsed()
    );
    assert!(http.proxy.data_requests().is_empty());
}

#[test]
fn an_unknown_key_id_half_a_minute_later_finds_the_new_key() {
    let (old, new) = (Pair::ec(), Pair::ec());
    let issuer = Issuer::new(&[old.jwk("old")]);
    let http = server(&issuer, &[]);
    taken(&http, &old.token("old", &claims("alice")));
    let fetched = Instant::now();
    issuer.rotate(&[old.jwk("old"), new.jwk("new")]);
    let token = bearer(&new.token("new", &claims("alice")));
    wait_until("the new key", 2 * PATIENCE, || {
        std::thread::sleep(Duration::from_millis(500));
        let status = call(&http, &[("Authorization", &token)]).status;
        // Asked sooner, and whoever makes up key ids could have it asked at will.
        assert!(
            status == 401 || fetched.elapsed() >= Duration::from_secs(29),
            "after {:?}",
            fetched.elapsed()
        );
        (status == 200).then_some(())
    });
    assert_eq!(issuer.proxy.count(), 2);
}

#[test]
fn a_key_that_the_issuer_takes_back_ends_with_the_cache() {
    let (old, new) = (Pair::ec(), Pair::ec());
    let issuer = Issuer::new(&[old.jwk("old")]);
    let http = server(&issuer, &[("JWT_JWKS_CACHE_SECONDS", "1")]);
    let of_old = bearer(&old.token("old", &claims("alice")));
    assert_let_in(&http, "alice", &[("Authorization", &of_old)]);
    issuer.rotate(&[new.jwk("new")]);
    wait_until("the end of the old key", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(100));
        (call(&http, &[("Authorization", &of_old)]).status == 401).then_some(())
    });
    taken(&http, &new.token("new", &claims("alice")));
}

#[test]
fn callers_that_come_at_once_wait_for_one_fetch_and_one_that_leaves_does_not_end_it() {
    let pair = Pair::ec();
    let issuer = Issuer::new(&[pair.jwk("a")]);
    let http = server(&issuer, &[]);
    let gate = Gate::new();
    issuer.proxy.fail(On::every(), Fault::Hold(gate.clone()));
    let token = bearer(&pair.token("a", &claims("alice")));
    let leaving = || {
        let mut stream = TcpStream::connect(http.url.trim_start_matches("http://")).unwrap();
        write!(stream, "GET /whoami HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\n\r\n").unwrap();
        stream
    };
    let first = leaving();
    issuer.proxy.wait_for("the fetch", |_| true);
    drop(first);
    let url = &http.url;
    std::thread::scope(|scope| {
        let callers: Vec<_> = (0..16).map(|_| scope.spawn(|| status_at(url, &token))).collect();
        for _ in 0..8 {
            drop(leaving());
        }
        // They are under way, or will find the key there: one fetch either way.
        std::thread::sleep(Duration::from_millis(300));
        gate.open();
        for caller in callers {
            assert_eq!(caller.join().unwrap(), 200);
        }
    });
    assert_eq!(issuer.proxy.count(), 1);
}

#[test]
fn an_issuer_that_is_down_or_hostile_gives_no_keys_and_takes_no_time() {
    let (pair, stranger) = (Pair::ec(), Pair::ec());
    let elsewhere = Issuer::new(&[stranger.jwk("a")]);
    let ten_thousand = set(&vec![stranger.jwk("a"); 10_000]);
    let no_keys = set(&[json!({"kty": "oct", "kid": "a", "k": "c2VjcmV0"})]);
    let faults = [
        Fault::Status(500),
        Fault::Answer(404, set(&[stranger.jwk("a")])),
        Fault::Redirect(elsewhere.url()),
        Fault::Huge(50 << 20),
        Fault::Body(ten_thousand),
        Fault::Body(no_keys),
        Fault::Body("[]".into()),
        Fault::NotJson,
        Fault::NotHttp,
        Fault::Truncated,
        Fault::ResetBefore,
        Fault::BlackHole,
        Fault::Drip(Duration::from_millis(200)),
    ];
    std::thread::scope(|scope| {
        for fault in faults {
            let (pair, stranger, elsewhere) = (&pair, &stranger, &elsewhere);
            scope.spawn(move || {
                let issuer = Issuer::new(&[pair.jwk("a")]);
                let http = server(&issuer, &[]);
                issuer.proxy.fail(On::every(), fault.clone());
                refused(&http, &stranger.token("a", &claims("alice")), NO_KEYS);
                // For a while nobody is asked again.
                let asked = Instant::now();
                refused(&http, &pair.token("a", &claims("alice")), NO_KEYS);
                let slow = asked.elapsed() > Duration::from_secs(4);
                assert!(issuer.proxy.count() == 1 || slow, "{fault:?}: {}", issuer.proxy.count());
                assert_eq!(elsewhere.proxy.count(), 0, "{fault:?}");
                issuer.proxy.heal();
                let token = bearer(&pair.token("a", &claims("alice")));
                wait_until("the issuer to be asked again", PATIENCE, || {
                    std::thread::sleep(Duration::from_millis(250));
                    (call(&http, &[("Authorization", &token)]).status == 200).then_some(())
                });
            });
        }
    });
}

#[test]
fn keys_that_were_fetched_are_used_on_while_the_issuer_is_down() {
    let pair = Pair::ec();
    let issuer = Issuer::new(&[pair.jwk("a")]);
    let http = server(&issuer, &[("JWT_JWKS_CACHE_SECONDS", "1")]);
    let token = pair.token("a", &claims("alice"));
    taken(&http, &token);
    issuer.proxy.fail(On::every(), Fault::Status(503));
    let asked = issuer.proxy.count();
    wait_until("a fetch in vain", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(100));
        taken(&http, &token);
        (issuer.proxy.count() > asked).then_some(())
    });
    taken(&http, &token);
    refused(&http, &pair.token("b", &claims("alice")), UNKNOWN);
}

#[test]
fn keys_of_a_file_count_and_so_does_its_change() {
    let (old, new) = (Pair::rsa(), Pair::ec());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    let write = |keys: &[Value]| std::fs::write(&path, set(keys)).unwrap();
    write(&[old.jwk("old")]);
    let http = talkative(&[], &[("JWT_JWKS_FILE", &path.display().to_string())]);
    taken(&http, &old.token("old", &claims("alice")));
    write(&[new.jwk("new")]);
    let token = bearer(&new.token("new", &claims("alice")));
    wait_until("the file to be read again", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(100));
        (call(&http, &[("Authorization", &token)]).status == 200).then_some(())
    });
    refused(&http, &old.token("old", &claims("alice")), UNKNOWN);
    std::fs::write(&path, "{").unwrap();
    wait_until("word of the broken file", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(100));
        taken(&http, &new.token("new", &claims("alice")));
        http.server().stderr().contains("the file is broken").then_some(())
    });
}

#[test]
fn an_issuers_claims_are_held_to_the_same_rules() {
    let pair = Pair::ec();
    let issuer = Issuer::new(&[pair.jwk("a")]);
    let public = "https://vault-mcp.example.com";
    let http = server(&issuer, &[("JWT_ISSUER", "https://issuer.example.com"), ("PUBLIC_URL", public)]);
    let good =
        with(claims("alice"), json!({"iss": "https://issuer.example.com", "aud": format!("{public}/mcp")}));
    taken(&http, &pair.token("a", &good));
    for audience in [json!(public), json!(format!("{public}/")), json!(["x", "mcp-agents"])] {
        taken(&http, &pair.token("a", &with(good.clone(), json!({"aud": audience}))));
    }
    for (change, why) in [
        (json!({"aud": "https://other.example.com/mcp"}), "a token that is meant for somebody else"),
        (json!({"aud": format!("{public}.evil.example.com")}), "a token that is meant for somebody else"),
        (json!({"aud": null}), "a token that is meant for somebody else"),
        (json!({"iss": "https://issuer.example.com/"}), "a token of another issuer"),
        (json!({"exp": 1}), "an expired token"),
        (json!({"sub": "Alice"}), "a token whose subject is none of ours"),
    ] {
        refused(&http, &pair.token("a", &with(good.clone(), change)), why);
    }
}

/// Speaks TLS with the certificate of `made` in front of an issuer; its address.
fn over_tls(made: &Certificates, issuer: &Issuer) -> String {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let chain = vec![CertificateDer::from_pem_file(made.path("server.pem")).unwrap()];
    let key = PrivateKeyDer::from_pem_file(made.path("server.key")).unwrap();
    let config = ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    let config = Arc::new(config);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let plain = issuer.url();
    // It ends with the test's process, as does whoever could ask it.
    std::thread::spawn(move || {
        for mut client in listener.incoming().flatten() {
            let mut session = ServerConnection::new(config.clone()).unwrap();
            let mut tls = Stream::new(&mut session, &mut client);
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") && matches!(tls.read(&mut byte), Ok(1)) {
                head.push(byte[0]);
            }
            if head.is_empty() {
                continue;
            }
            let keys = http("GET", &plain, &[], None).text;
            let answer = format!(
                "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{keys}",
                keys.len()
            );
            // A client that goes away is no fault of the issuer's.
            let _ = tls.write_all(answer.as_bytes());
            session.send_close_notify();
            let _ = session.complete_io(&mut client);
        }
    });
    format!("https://{address}/jwks.json")
}

#[test]
fn an_issuer_is_believed_by_its_certificate_and_the_authority_may_be_ones_own() {
    let pair = Pair::ec();
    let issuer = Issuer::new(&[pair.jwk("a")]);
    let made = Certificates::new();
    let url = over_tls(&made, &issuer);
    let token = pair.token("a", &claims("alice"));
    let stranger = talkative(&[], &[("JWT_JWKS_URL", &url)]);
    refused(&stranger, &token, NO_KEYS);
    let authority = made.path("ca.pem").display().to_string();
    let known = talkative(&[], &[("JWT_JWKS_URL", &url), ("SSL_CERT_FILE", &authority)]);
    taken(&known, &token);
}
