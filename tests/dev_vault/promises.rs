//! What the embedded dev Vault promises by itself.

use std::{net::SocketAddr, time::Duration};

use serde_json::{Value, json};
use vault_mcp::dev::{
    DevVault, Options, StartError,
    seed::{Seed, SeedError, seed},
};

use crate::client::{Ask, Got};

pub(crate) fn http_client() -> reqwest::Client {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().build().unwrap()
}

async fn start() -> DevVault {
    DevVault::start(Options { root_token: Some("root".to_owned()), ..Options::default() }).await.unwrap()
}

async fn ask(vault: &DevVault, method: &str, path: &str, token: &str, body: Value) -> Got {
    let mut ask = Ask::new(method, &format!("/v1/{path}")).token(token);
    if !body.is_null() {
        ask = ask.json(body);
    }
    ask.send(vault.address()).await
}

/// Asks until it is so; a minute at most.
async fn until(what: &str, mut is_so: impl AsyncFnMut() -> bool) {
    let start = std::time::Instant::now();
    while !is_so().await {
        assert!(start.elapsed() < Duration::from_secs(60), "waited in vain for {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn child(vault: &DevVault, body: Value) -> String {
    ask(vault, "POST", "auth/token/create", "root", body).await.text_at("/auth/client_token")
}

#[tokio::test]
async fn only_loopback_is_listened_on() {
    for address in ["0.0.0.0:0", "[::]:0", "192.0.2.1:0"] {
        let listen: SocketAddr = address.parse().unwrap();
        let refused = DevVault::start(Options { listen, root_token: None }).await.unwrap_err();
        assert!(matches!(refused, StartError::NotLoopback(_)), "{address}");
    }
}

#[tokio::test]
async fn a_root_token_that_no_header_carries_is_refused() {
    for token in ["", "a b", "a\nb", "é"] {
        let options = Options { root_token: Some(token.to_owned()), ..Options::default() };
        assert!(matches!(DevVault::start(options).await, Err(StartError::BadRootToken)), "{token:?}");
    }
}

#[tokio::test]
async fn two_servers_know_nothing_of_each_other() {
    let (one, other) = (start().await, DevVault::start(Options::default()).await.unwrap());
    ask(&one, "POST", "secret/data/a", "root", json!({ "data": { "a": 1 } })).await;
    assert_eq!(ask(&other, "GET", "secret/data/a", other.root_token(), Value::Null).await.status, 404);
    assert_eq!(ask(&other, "GET", "secret/data/a", "root", Value::Null).await.status, 403);
}

#[tokio::test]
async fn a_taken_port_is_an_error() {
    let one = start().await;
    let refused = DevVault::start(Options { listen: one.address(), root_token: None }).await.unwrap_err();
    assert!(matches!(refused, StartError::Listen { .. }));
}

#[tokio::test]
async fn nothing_answers_after_the_end() {
    let vault = start().await;
    let address = vault.address();
    vault.shutdown().await;
    assert!(tokio::net::TcpStream::connect(address).await.is_err());

    let vault = start().await;
    let address = vault.address();
    drop(vault);
    until("the end of what was dropped", async || tokio::net::TcpStream::connect(address).await.is_err())
        .await;
}

#[tokio::test]
async fn an_idle_connection_does_not_hold_the_end_up() {
    // Held up, each end would take the second that requests under way are given; a busy machine does not hold up
    // every one of several.
    let mut times = Vec::new();
    while times.iter().all(|time| *time >= Duration::from_millis(500)) {
        assert!(times.len() < 10, "{times:?}");
        let vault = start().await;
        let http = http_client();
        let answer = http.get(format!("{}/v1/sys/health", vault.url())).send().await.unwrap();
        answer.bytes().await.unwrap();
        let before = std::time::Instant::now();
        vault.shutdown().await;
        times.push(before.elapsed());
    }
}

#[tokio::test]
async fn an_expired_token_is_gone_with_its_children() {
    let vault = start().await;
    let policy = r#"path "auth/token/create" { capabilities = ["update"] }"#;
    ask(&vault, "POST", "sys/policies/acl/maker", "root", json!({ "policy": policy })).await;
    let parent = child(&vault, json!({ "policies": ["maker"], "ttl": "4s" })).await;
    let made = ask(&vault, "POST", "auth/token/create", &parent, json!({ "ttl": "1h" })).await;
    let made = made.text_at("/auth/client_token");
    assert_eq!(ask(&vault, "GET", "auth/token/lookup-self", &made, Value::Null).await.status, 200);
    until("the token's end", async || {
        ask(&vault, "GET", "auth/token/lookup-self", &parent, Value::Null).await.status != 200
    })
    .await;
    for token in [&parent, &made] {
        let got = ask(&vault, "GET", "auth/token/lookup-self", token, Value::Null).await;
        assert_eq!(got.status, 403);
        assert!(got.text.contains("invalid token"), "{}", got.text);
    }
}

#[tokio::test]
async fn a_wrapping_token_opens_once_and_ends() {
    let vault = start().await;
    ask(&vault, "POST", "secret/data/a", "root", json!({ "data": { "a": 1 } })).await;
    let wrap = |ttl: &'static str| {
        let ask = Ask::new("GET", "/v1/secret/data/a").token("root").header("X-Vault-Wrap-TTL", ttl);
        let address = vault.address();
        async move { ask.send(address).await.text_at("/wrap_info/token") }
    };
    let token = wrap("60s").await;
    let opened = ask(&vault, "POST", "sys/wrapping/unwrap", &token, Value::Null).await;
    assert_eq!(opened.at("/data/data/a"), json!(1));
    assert_eq!(ask(&vault, "POST", "sys/wrapping/unwrap", &token, Value::Null).await.status, 400);

    let token = wrap("1s").await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(ask(&vault, "POST", "sys/wrapping/unwrap", &token, Value::Null).await.status, 400);
}

#[tokio::test]
async fn of_ten_writes_with_one_cas_one_is_done() {
    let vault = start().await;
    let writes = (0..10).map(|number| {
        let body = json!({ "data": { "n": number }, "options": { "cas": 0 } });
        let ask = Ask::new("POST", "/v1/secret/data/race").token("root").json(body);
        let address = vault.address();
        tokio::spawn(async move { ask.send(address).await.status })
    });
    let mut done = 0;
    for write in writes.collect::<Vec<_>>() {
        match write.await.unwrap() {
            200 => done += 1,
            status => assert_eq!(status, 400),
        }
    }
    assert_eq!(done, 1);
    assert_eq!(
        ask(&vault, "GET", "secret/metadata/race", "root", Value::Null).await.at("/data/current_version"),
        json!(1)
    );
}

#[tokio::test]
async fn a_sealed_server_says_so_until_its_key_is_given() {
    let vault = start().await;
    ask(&vault, "POST", "secret/data/a", "root", json!({ "data": { "a": 1 } })).await;
    assert_eq!(ask(&vault, "POST", "sys/seal", "root", Value::Null).await.status, 204);

    let health = Ask::new("GET", "/v1/sys/health").send(vault.address()).await;
    assert_eq!((health.status, health.at("/sealed"), health.at("/standby")), (503, json!(true), json!(true)));
    let health = Ask::new("GET", "/v1/sys/health?sealedcode=200").send(vault.address()).await;
    assert_eq!(health.status, 200);
    let read = ask(&vault, "GET", "secret/data/a", "root", Value::Null).await;
    assert_eq!((read.status, read.at("/errors/0")), (503, json!("Vault is sealed")));
    let status = Ask::new("GET", "/v1/sys/seal-status").send(vault.address()).await;
    assert_eq!(
        (status.at("/sealed"), status.at("/t"), status.at("/progress")),
        (json!(true), json!(1), json!(0))
    );
    assert_eq!(status.at("/cluster_name"), Value::Null);

    let wrong = "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=";
    assert_eq!(ask(&vault, "POST", "sys/unseal", "", json!({ "key": wrong })).await.status, 400);
    assert_eq!(
        ask(&vault, "POST", "sys/unseal", "", json!({ "reset": true })).await.at("/sealed"),
        json!(true)
    );
    let opened = ask(&vault, "PUT", "sys/unseal", "", json!({ "key": vault.unseal_key() })).await;
    assert_eq!((opened.status, opened.at("/sealed")), (200, json!(false)));
    assert_eq!(ask(&vault, "GET", "secret/data/a", "root", Value::Null).await.status, 200);
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let vault = start().await;
    let announced = Ask::new("POST", "/v1/secret/data/a").token("root").body(&vec![b' '; (32 << 20) + 1]);
    assert_eq!(announced.send(vault.address()).await.status, 413);

    // Below the limit but with one text over a mebibyte.
    let long = json!({ "data": { "a": "x".repeat((1 << 20) + 1) } });
    let got = ask(&vault, "POST", "secret/data/a", "root", long).await;
    assert_eq!((got.status, got.at("/errors/0")), (500, json!("JSON string value exceeds allowed length")));
    let deep = format!("{{\"data\":{{\"a\":{}1{}}}}}", "[".repeat(10_000), "]".repeat(10_000));
    let got =
        Ask::new("POST", "/v1/secret/data/a").token("root").body(deep.as_bytes()).send(vault.address()).await;
    assert_eq!((got.status, got.at("/errors/0")), (500, json!("JSON input exceeds allowed nesting depth")));
    assert_eq!(ask(&vault, "GET", "sys/health", "root", Value::Null).await.status, 200);
}

#[tokio::test]
async fn version_1_keeps_numbers_and_version_2_rounds_them_as_vault_does() {
    let vault = start().await;
    ask(&vault, "POST", "sys/mounts/one", "root", json!({ "type": "kv-v1" })).await;
    let number = "12345678901234567890";
    let body = format!("{{\"n\":{number}}}");
    Ask::new("POST", "/v1/one/a").token("root").body(body.as_bytes()).send(vault.address()).await;
    let kept = ask(&vault, "GET", "one/a", "root", Value::Null).await;
    assert!(kept.text.contains(number), "{}", kept.text);

    let body = format!("{{\"data\":{body}}}");
    Ask::new("POST", "/v1/secret/data/a").token("root").body(body.as_bytes()).send(vault.address()).await;
    let rounded = ask(&vault, "GET", "secret/data/a", "root", Value::Null).await;
    assert!(rounded.text.contains("12345678901234567000"), "{}", rounded.text);
}

#[tokio::test]
async fn the_longest_times_break_nothing() {
    let vault = start().await;
    let (long, key) = (
        9_000_000_000_000_000_i64,
        "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ",
    );
    for engine in ["ssh", "pki"] {
        let config = json!({ "default_lease_ttl": long, "max_lease_ttl": long });
        ask(
            &vault,
            "POST",
            &format!("sys/mounts/{engine}"),
            "root",
            json!({ "type": engine, "config": config }),
        )
        .await;
    }
    let times = json!({ "ttl": long, "max_ttl": long, "not_before_duration": long });
    let with = |mut body: Value| {
        body.as_object_mut().unwrap().extend(times.as_object().unwrap().clone());
        body
    };
    for (path, body) in [
        ("ssh/config/ca", json!({ "key_type": "ed25519" })),
        (
            "ssh/roles/ca",
            with(json!({ "key_type": "ca", "allow_user_certificates": true, "allowed_users": "*" })),
        ),
        ("ssh/roles/otp", json!({ "key_type": "otp", "default_user": "a", "cidr_list": "0.0.0.0/0" })),
        ("ssh/sign/ca", json!({ "public_key": key, "valid_principals": "a" })),
        ("ssh/creds/otp", json!({ "ip": "127.0.0.1" })),
        ("pki/roles/web", with(json!({ "allow_any_name": true, "key_type": "ec" }))),
        ("pki/root/generate/internal", json!({ "common_name": "a", "key_type": "ed25519", "ttl": long })),
        ("pki/root/generate/internal", json!({ "common_name": "a", "key_type": "ed25519", "ttl": "1h" })),
        ("pki/issue/web", json!({ "common_name": "a" })),
    ] {
        // An answer, whichever: a panic would cut the connection.
        let got = ask(&vault, "POST", path, "root", body).await;
        assert!([200, 204, 400].contains(&got.status), "{path}: {} {}", got.status, got.text);
    }
}

#[tokio::test]
async fn what_is_not_here_says_so() {
    let vault = start().await;
    ask(&vault, "POST", "sys/mounts/transit", "root", json!({ "type": "transit" })).await;
    ask(&vault, "POST", "transit/keys/key", "root", json!({})).await;
    for engine in ["ssh", "pki"] {
        ask(&vault, "POST", &format!("sys/mounts/{engine}"), "root", json!({ "type": engine })).await;
    }
    for (path, body) in [
        ("transit/keys/other", json!({ "type": "ml-dsa" })),
        ("transit/keys/other", json!({ "derived": true, "convergent_encryption": true })),
        ("transit/datakey/plaintext/key", json!({})),
        ("transit/export/encryption-key/key", json!({})),
        ("transit/keys/key/trim", json!({ "min_available_version": 1 })),
        ("transit/encrypt/key", json!({ "plaintext": "eA==", "nonce": "AAAAAAAAAAAAAAAA" })),
        ("transit/hmac/key", json!({ "input": "eA==", "algorithm": "sha3-256" })),
        ("ssh/issue/user", json!({})),
        (
            "ssh/roles/x",
            json!({ "key_type": "ca", "allow_user_certificates": true, "allowed_users_template": true }),
        ),
        (
            "ssh/roles/x",
            json!({ "key_type": "ca", "allow_user_certificates": true, "algorithm_signer": "ssh-rsa" }),
        ),
        ("ssh/config/ca", json!({ "managed_key_name": "x" })),
        ("ssh/config/ca", json!({ "public_key": "x", "private_key": "x" })),
        ("pki/sign/web", json!({ "csr": "x" })),
        ("pki/config/urls", json!({})),
        ("pki/tidy", json!({})),
        ("pki/roles/x", json!({ "use_pss": true })),
        ("pki/roles/x", json!({ "policy_identifiers": "1.2.3" })),
        ("pki/roles/x", json!({ "key_type": "ec", "key_bits": 224 })),
        ("pki/root/generate/existing", json!({})),
        ("pki/root/generate/internal", json!({ "key_type": "ec", "permitted_dns_domains": "example.com" })),
        ("pki/revoke", json!({ "certificate": "x" })),
        ("sys/mounts/ssh/tune", json!({ "listing_visibility": "unauth" })),
        ("sys/mounts/aws", json!({ "type": "aws" })),
        ("sys/mounts/database", json!({ "type": "database" })),
        ("sys/auth/jwt", json!({ "type": "jwt" })),
        ("sys/audit/file", json!({ "type": "file" })),
        ("auth/token/create", json!({ "type": "batch", "policies": ["default"] })),
        (
            "sys/policies/acl/p",
            json!({ "policy": r#"path "a/{{identity.entity.id}}" { capabilities = ["read"] }"# }),
        ),
    ] {
        let got = ask(&vault, "POST", path, "root", body).await;
        assert_eq!(got.status, 400, "{path}");
        assert!(got.text.contains("embedded dev Vault"), "{path}: {}", got.text);
    }
    let got = ask(&vault, "POST", "aws/creds/x", "root", json!({})).await;
    assert_eq!(got.status, 404);
}

#[tokio::test]
async fn the_sample_content_can_be_used_by_all_its_logins() {
    let vault = start().await;
    let http = http_client();
    let what = Seed::for_subject("alice");
    let report = seed(&vault.url(), vault.root_token(), &http, &what).await.unwrap();
    assert!(report.skipped.is_empty(), "{:?}", report.skipped);

    let approle = report.approle.unwrap();
    let login = json!({ "role_id": approle.role_id, "secret_id": approle.secret_id });
    let robot = ask(&vault, "POST", "auth/approle/login", "", login).await.text_at("/auth/client_token");
    let userpass = report.userpass.unwrap();
    let path = format!("auth/userpass/login/{}", userpass.user);
    let human = ask(&vault, "POST", &path, "", json!({ "password": userpass.password })).await;
    let human = human.text_at("/auth/client_token");
    let agent = report.tokens[0].token.clone();
    let reader = report.tokens[1].token.clone();

    let own = "secret/data/mcp/alice/myapp";
    for token in [&robot, &human, &agent, &reader] {
        assert_eq!(ask(&vault, "GET", own, token, Value::Null).await.at("/data/metadata/version"), json!(2));
        assert_eq!(ask(&vault, "GET", "secret/data/mcp/bob/x", token, Value::Null).await.status, 403);
        assert_eq!(ask(&vault, "LIST", "secret/metadata/mcp", token, Value::Null).await.status, 403);
        let list = ask(&vault, "LIST", "secret/metadata/mcp/alice", token, Value::Null).await;
        assert_eq!(list.at("/data/keys"), json!(["myapp", "retired", "team/", "webshop"]));
    }
    let write = json!({ "data": { "a": 1 }, "options": { "cas": 2 } });
    assert_eq!(ask(&vault, "POST", own, &reader, write.clone()).await.status, 403);
    assert_eq!(ask(&vault, "POST", own, &agent, write).await.status, 200);
    let retired = ask(&vault, "GET", "secret/data/mcp/alice/retired", &agent, Value::Null).await;
    assert_eq!((retired.status, retired.at("/data/data")), (404, Value::Null));
    let versions = json!({ "versions": [1] });
    assert_eq!(ask(&vault, "POST", "secret/undelete/mcp/alice/retired", &agent, versions).await.status, 204);

    let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
    for (path, body) in [
        ("ssh/sign/user", json!({ "public_key": key })),
        ("ssh/creds/otp", json!({ "ip": "127.0.0.1" })),
        ("pki/issue/web", json!({ "common_name": "a.example.test" })),
    ] {
        for token in [&robot, &human, &agent] {
            let got = ask(&vault, "POST", path, token, body.clone()).await;
            assert_eq!(got.status, 200, "{path}: {}", got.text);
        }
        assert_eq!(ask(&vault, "POST", path, &reader, body).await.status, 403, "{path}");
    }
    for token in [&robot, &human, &agent, &reader] {
        assert_eq!(
            ask(&vault, "LIST", "pki/roles", token, Value::Null).await.at("/data/keys"),
            json!(["web"])
        );
    }

    // Twice adds versions and breaks nothing: the authorities are the same ones.
    let authorities = async || {
        let ssh = ask(&vault, "GET", "ssh/public_key", "", Value::Null).await;
        let pki = ask(&vault, "GET", "pki/ca/pem", "", Value::Null).await;
        assert!(ssh.text.starts_with("ssh-ed25519 ") && pki.text.starts_with("-----BEGIN CERTIFICATE"));
        (ssh.text, pki.text, ask(&vault, "LIST", "pki/certs", "root", Value::Null).await.at("/data/keys"))
    };
    let before = authorities().await;
    let again = seed(&vault.url(), vault.root_token(), &http, &what).await.unwrap();
    assert!(again.skipped.is_empty(), "{:?}", again.skipped);
    assert_eq!(again.secrets, report.secrets);
    assert_eq!(authorities().await, before);
}

#[tokio::test]
async fn sample_content_needs_a_root_token_and_a_plain_name() {
    let vault = start().await;
    let http = http_client();
    let token = child(&vault, json!({ "policies": ["default"] })).await;
    let refused = seed(&vault.url(), &token, &http, &Seed::for_subject("alice")).await.unwrap_err();
    assert!(matches!(refused, SeedError::Refused { status: 403, .. }), "{refused:?}");
    for name in ["", "../bob", "a/b", "a b", "*"] {
        let refused = seed(&vault.url(), "root", &http, &Seed::for_subject(name)).await.unwrap_err();
        assert!(matches!(refused, SeedError::BadName(_)), "{name:?}");
    }
    let url = vault.url();
    vault.shutdown().await;
    let refused = seed(&url, "root", &http, &Seed::for_subject("alice")).await.unwrap_err();
    assert!(matches!(refused, SeedError::Unreachable { .. }), "{refused:?}");
}
