//! What programs send that were written for a bridge of this kind: they change host and key, and the answers are
//! those that they know. Each line of `docs/migrating.md` is sent by `curl` as such a program would send it.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::{SystemTime, UNIX_EPOCH},
};

use base64::{Engine, prelude::BASE64_STANDARD};
use serde_json::{Value, json};

use super::{programs, rig::Http};
use crate::common::{Proxy, Server, unique, vault};

/// An answer, as curl printed it.
#[derive(Debug)]
struct Said {
    status: u16,
    body: Value,
}

impl Said {
    /// Status and body together.
    #[track_caller]
    fn is(&self, status: u16, body: Value) {
        assert_eq!((self.status, &self.body), (status, &body));
    }

    #[track_caller]
    fn ok(self) -> Value {
        assert_eq!(self.status, 200, "{}", self.body);
        self.body
    }
}

/// Runs curl with these arguments.
#[track_caller]
fn curl(arguments: &[&str]) -> Said {
    let program = programs::program("curl").expect("these tests send what they send by curl");
    let done = Command::new(program)
        .args(["-q", "-sS", "-i", "--max-time", "30", "--noproxy", "*"])
        .args(arguments)
        .output()
        .unwrap();
    assert!(done.status.success(), "curl {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    let text = String::from_utf8(done.stdout).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    let status = head.lines().next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let body = if body.is_empty() { Value::Null } else { serde_json::from_str(body).unwrap() };
    Said { status, body }
}

/// A server as a bridge is set up: a key by its short name, everything else as it comes.
struct Bridge {
    http: Http,
    subject: String,
    key: String,
    /// Of the same subject, for reading alone.
    reader: String,
}

impl Bridge {
    fn start(settings: &[(&str, &str)]) -> Self {
        Self::with_token(&vault().root, settings)
    }

    fn with_token(token: &str, settings: &[(&str, &str)]) -> Self {
        // With an underscore, as such names have.
        let (subject, key, reader) = (unique("agent_"), unique("dev-key-"), unique("reader-key-"));
        let keys = json!({&key: subject, &reader: {"subject": subject, "scopes": ["read", "list"]}});
        let proxy = Proxy::new(vault());
        let mut launch = Server::launch()
            .env("VAULT_ADDR", &proxy.address)
            .env("VAULT_TOKEN", token)
            .env("RATE_LIMIT_ENABLED", "false")
            .env("API_KEYS_JSON", keys.to_string());
        for (name, value) in settings {
            launch = launch.env(name, value);
        }
        Self { http: Http::of(launch, proxy), subject, key, reader }
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.http.url)
    }

    #[track_caller]
    fn send(&self, method: &str, path: &str) -> Said {
        curl(&["-X", method, "-H", &format!("X-API-Key: {}", self.key), &self.url(path)])
    }

    #[track_caller]
    fn send_json(&self, method: &str, path: &str, body: Value) -> Said {
        let key = format!("X-API-Key: {}", self.key);
        let body = body.to_string();
        curl(&[
            "-X",
            method,
            "-H",
            &key,
            "-H",
            "Content-Type: application/json",
            "-d",
            &body,
            &self.url(path),
        ])
    }

    #[track_caller]
    fn post(&self, path: &str, body: Value) -> Said {
        self.send_json("POST", path, body)
    }

    #[track_caller]
    fn rpc(&self, id: u64, method: &str, params: Value) -> Value {
        let answer = self
            .post("/mcp/rpc", json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
            .ok();
        assert_eq!((&answer["jsonrpc"], &answer["id"]), (&json!("2.0"), &json!(id)), "{answer}");
        assert!(answer.get("error").is_none(), "{answer}");
        answer["result"].clone()
    }
}

#[test]
fn lines_1_to_7_a_secret_with_its_versions() {
    let bridge = Bridge::start(&[]);
    let written = bridge.send_json("PUT", "/secrets/configs/demo", json!({"data": {"foo": "bar"}})).ok();
    assert_eq!(written["version"], 1);
    assert!(written["created_time"].as_str().is_some_and(|time| time.contains('T')), "{written}");
    assert!(!written.to_string().contains("bar"), "the value is repeated: {written}");
    // Where such bridges keep it.
    let lies = vault().get(&format!("secret/data/mcp/{}/configs/demo", bridge.subject)).ok();
    assert_eq!(lies["data"]["data"], json!({"foo": "bar"}));

    let is_there = || {
        for path in ["/secrets/configs/demo", "/secrets/configs/demo?version=1"] {
            let read = bridge.send("GET", path).ok();
            assert_eq!((&read["data"], &read["version"]), (&json!({"foo": "bar"}), &json!(1)), "{path}");
        }
    };
    is_there();
    bridge.send("GET", "/secrets?prefix=configs").is(200, json!({"keys": ["demo"]}));
    bridge.send("GET", "/secrets?prefix=nothing").is(200, json!({"keys": []}));

    bridge.send("DELETE", "/secrets/configs/demo").is(204, Value::Null);
    let gone = json!({"detail": "Secret not found", "error": "invalid_path"});
    bridge.send("GET", "/secrets/configs/demo").is(404, gone.clone());
    bridge.send("GET", "/secrets/never/was").is(404, gone.clone());
    bridge.post("/secrets/configs/demo:undelete", json!({"versions": [1]})).is(200, json!({"ok": true}));
    is_there();
    bridge.post("/secrets/configs/demo:destroy", json!({"versions": [1]})).is(200, json!({"ok": true}));
    bridge.send("GET", "/secrets/configs/demo").is(404, gone);
    assert_eq!(vault().versions(&bridge.subject, "configs/demo")["1"]["destroyed"], true);
}

#[test]
fn lines_8_to_12_cryptography() {
    let mount = vault().new_mount("transit").unwrap();
    vault().put(&format!("{mount}/keys/k"), json!({})).ok();
    vault().put(&format!("{mount}/keys/signing"), json!({"type": "ed25519"})).ok();
    let bridge = Bridge::start(&[("TRANSIT_MOUNT", &mount)]);

    let random = |query: &str| {
        bridge.send("GET", &format!("/transit/random{query}")).ok()["random"].as_str().unwrap().to_owned()
    };
    let (one, other) = (random("?bytes=16&format=hex"), random("?bytes=16&format=hex"));
    assert!(
        one.len() == 32 && one.bytes().all(|byte| byte.is_ascii_hexdigit()) && one != other,
        "{one} {other}"
    );
    assert_eq!(BASE64_STANDARD.decode(random("")).unwrap().len(), 32);
    bridge
        .send("GET", "/transit/random?bytes=16&format=octal")
        .is(400, json!({"detail": "Invalid format. Use 'base64' or 'hex'."}));

    let encrypted = bridge.post("/transit/encrypt", json!({"key": "k", "plaintext": "aGk="})).ok();
    let ciphertext = encrypted["ciphertext"].as_str().unwrap();
    assert!(ciphertext.starts_with("vault:v1:"), "{encrypted}");
    bridge
        .post("/transit/decrypt", json!({"key": "k", "ciphertext": ciphertext}))
        .is(200, json!({"plaintext": "aGk="}));

    let signed = bridge.post("/transit/sign", json!({"key": "signing", "input": "aGk="})).ok();
    assert!(signed["signature"].as_str().unwrap().starts_with("vault:v1:"), "{signed}");
    for (input, valid) in [("aGk=", true), ("aG8=", false)] {
        let body = json!({"key": "signing", "input": input, "signature": signed["signature"]});
        bridge.post("/transit/verify", body).is(200, json!({"valid": valid}));
    }

    vault().put(&format!("{mount}/keys/k/rotate"), json!({})).ok();
    let rewrapped = bridge.post("/transit/rewrap", json!({"key": "k", "ciphertext": ciphertext})).ok();
    assert!(rewrapped["ciphertext"].as_str().unwrap().starts_with("vault:v2:"), "{rewrapped}");
    bridge
        .post("/transit/decrypt", json!({"key": "k", "ciphertext": rewrapped["ciphertext"]}))
        .is(200, json!({"plaintext": "aGk="}));
}

#[test]
fn line_11_with_the_algorithms_that_a_caller_names() {
    let mount = vault().new_mount("transit").unwrap();
    vault().put(&format!("{mount}/keys/rsa"), json!({"type": "rsa-2048"})).ok();
    let bridge = Bridge::start(&[("TRANSIT_MOUNT", &mount)]);
    let how = json!({"key": "rsa", "input": "aGk=", "hash_algorithm": "sha2-512", "signature_algorithm": "pkcs1v15"});
    let signed = bridge.post("/transit/sign", how.clone()).ok();
    let mut verify = how;
    verify["signature"] = signed["signature"].clone();
    bridge.post("/transit/verify", verify.clone()).is(200, json!({"valid": true}));
    verify["signature_algorithm"] = "pss".into();
    bridge.post("/transit/verify", verify).is(200, json!({"valid": false}));
}

/// A mount of the engine over a real PostgreSQL, with the role `app`; nothing where there is none.
pub(crate) fn database() -> Option<(String, &'static programs::Postgres)> {
    let (mount, postgres) = (vault().new_mount("database")?, programs::postgres()?);
    let address = format!(
        "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
        postgres.port
    );
    let config = json!({
        "plugin_name": "postgresql-database-plugin", "connection_url": address, "username": "admin",
        "password": postgres.password, "allowed_roles": "*",
    });
    vault().put(&format!("{mount}/config/pg"), config).ok();
    let create = "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'";
    let role =
        json!({"db_name": "pg", "creation_statements": [create], "default_ttl": "1h", "max_ttl": "24h"});
    vault().put(&format!("{mount}/roles/app"), role).ok();
    Some((mount, postgres))
}

#[test]
fn line_13_a_database_user_that_logs_in_and_then_does_not() {
    let Some((mount, postgres)) = database() else { return };
    let bridge = Bridge::start(&[("DATABASE_MOUNT", &mount)]);

    let issued = bridge.send("POST", "/db/creds/app").ok();
    let (user, password) = (issued["username"].as_str().unwrap(), issued["password"].as_str().unwrap());
    assert!(issued["lease_duration"] == 3600 && issued["renewable"] == true, "{issued}");
    assert_eq!(postgres.psql(user, password, "select 40 + 2").unwrap().trim(), "42");

    let renewed = bridge.post("/db/renew", json!({"lease_id": issued["lease_id"], "increment": 7200})).ok();
    assert_eq!((&renewed["lease_id"], &renewed["lease_duration"]), (&issued["lease_id"], &json!(7200)));
    assert_eq!(bridge.post("/db/renew", json!({"lease_id": issued["lease_id"]})).status, 200);
    bridge.post("/db/revoke", json!({"lease_id": issued["lease_id"]})).is(200, json!({"ok": true}));
    assert!(!postgres.has_user(user));
}

#[test]
fn line_14_a_one_time_password_and_a_certificate() {
    let Some(mount) = vault().new_mount("ssh") else { return };
    vault().put(&format!("{mount}/config/ca"), json!({"generate_signing_key": true})).ok();
    let otp = json!({"key_type": "otp", "default_user": "deploy", "cidr_list": "127.0.0.0/8"});
    vault().put(&format!("{mount}/roles/otp"), otp).ok();
    let people = json!({
        "key_type": "ca", "allow_user_certificates": true, "allow_host_certificates": true, "allowed_users": "deploy",
        "allowed_domains": "example.com", "allow_bare_domains": true, "ttl": "30m", "max_ttl": "2h",
    });
    vault().put(&format!("{mount}/roles/people"), people).ok();
    let bridge = Bridge::start(&[("SSH_MOUNT", &mount)]);

    for (port, answered) in [(None, 22), (Some(2222), 2222)] {
        let mut body = json!({"role": "otp", "ip": "127.0.0.1", "username": "deploy"});
        if let Some(port) = port {
            body["port"] = port.into();
        }
        let issued = bridge.post("/ssh/otp", body).ok();
        assert_eq!(
            (&issued["ip"], &issued["username"], &issued["port"]),
            (&json!("127.0.0.1"), &json!("deploy"), &json!(answered))
        );
        // The password is the one that the host would ask Vault about.
        let verified = vault()
            .call_as("", "POST", &format!("{mount}/verify"), Some(&json!({"otp": issued["key"]})))
            .ok();
        assert_eq!(verified["data"]["username"], "deploy");
    }

    let folder = tempfile::tempdir().unwrap();
    let Some((key, public)) = programs::ssh_key(folder.path(), "id", "ed25519") else { return };
    let signed = bridge
        .post("/ssh/sign", json!({"role": "people", "public_key": public, "valid_principals": "deploy"}))
        .ok();
    assert!(signed["serial_number"].is_string(), "{signed}");
    let certificate = key.with_file_name("id-cert.pub");
    std::fs::write(&certificate, signed["signed_key"].as_str().unwrap()).unwrap();
    let shown =
        Command::new(programs::program("ssh-keygen").unwrap()).arg("-Lf").arg(&certificate).output().unwrap();
    let shown = programs::said(&shown);
    assert!(shown.contains("user certificate") && shown.contains("deploy"), "{shown}");
    let body = json!({
        "role": "people", "public_key": public, "cert_type": "host", "valid_principals": "example.com", "ttl": "10m",
    });
    assert!(
        bridge.post("/ssh/sign", body).ok()["signed_key"].as_str().unwrap().contains("-cert-v01@openssh.com")
    );
}

#[test]
fn line_15_keys_of_aws_while_they_are_switched_off() {
    let bridge = Bridge::start(&[]);
    for (path, body) in [
        ("encrypt", json!({"plaintext": "aGk="})),
        ("decrypt", json!({"ciphertext": "aGk="})),
        ("data-key", json!({})),
        ("sign", json!({"message": "aGk=", "signing_algorithm": "ECDSA_SHA_256"})),
        ("verify", json!({"message": "aGk=", "signature": "aGk=", "signing_algorithm": "ECDSA_SHA_256"})),
    ] {
        let off = bridge.post(&format!("/kms/{path}"), body);
        assert_eq!((off.status, &off.body["detail"]), (503, &json!("AWS KMS support is disabled")), "{path}");
    }
}

#[test]
fn line_16_health() {
    let bridge = Bridge::start(&[]);
    let health = curl(&[&bridge.url("/healthz")]).ok();
    assert!(health["ok"] == true && health["time"].is_string(), "{health}");
    curl(&[&bridge.url("/livez")]).is(200, json!({"ok": true}));
    let ready = curl(&[&bridge.url("/readyz")]).ok();
    assert!(ready["ok"] == true && ready["time"].is_string(), "{ready}");
    assert_eq!(ready["vault"], json!({"ok": true, "detail": "ready"}));
    assert_eq!(ready["kms"], json!({"ok": true, "detail": "disabled"}));

    let without = Bridge::with_token(&unique("no-token"), &[]);
    let unready = curl(&[&without.url("/readyz")]);
    assert_eq!((unready.status, &unready.body["ok"]), (503, &json!(false)), "{unready:?}");
    assert_eq!(unready.body["vault"], json!({"ok": false, "detail": "Vault token unauthenticated"}));
}

#[test]
fn lines_17_to_19_who_calls_and_who_may_not() {
    let bridge = Bridge::start(&[]);
    let who = bridge.send("GET", "/whoami").ok();
    let mut scopes: Vec<_> =
        who["scopes"].as_array().unwrap().iter().map(|scope| scope.as_str().unwrap()).collect();
    scopes.sort_unstable();
    assert_eq!(scopes, ["delete", "list", "read", "write"]);
    assert_eq!(who["subject"], bridge.subject);
    assert_eq!(who["vault_path_prefix"], format!("mcp/{}", bridge.subject));

    for arguments in [
        &["-X", "GET"][..],
        &["-X", "PUT", "-d", "{broken"],
        &["-X", "GET", "-H", "X-API-Key: another"],
        &["-X", "GET", "-H", "Authorization: Bearer none"],
    ] {
        for path in ["/secrets/configs/demo", "/whoami", "/nothing"] {
            let url = bridge.url(path);
            curl(&[arguments, &[&url]].concat()).is(401, json!({"detail": "Unauthorized"}));
        }
    }

    let reader = format!("X-API-Key: {}", bridge.reader);
    let read = curl(&["-H", &reader, &bridge.url("/secrets")]);
    assert_eq!(read.status, 200, "{read:?}");
    let write =
        curl(&["-X", "PUT", "-H", &reader, "-d", r#"{"data": {"a": "1"}}"#, &bridge.url("/secrets/a")]);
    assert_eq!((write.status, &write.body["detail"]), (403, &json!("Forbidden: missing scopes")));
    assert_eq!(vault().version(&bridge.subject, "a"), 0);
}

#[test]
fn line_20_what_the_policy_of_vault_refuses() {
    let token = vault()
        .token("path \"secret/data/mcp/+/open\" { capabilities = [\"create\", \"update\", \"read\"] }", "1h");
    let bridge = Bridge::with_token(&token, &[]);
    assert_eq!(bridge.send_json("PUT", "/secrets/open", json!({"data": {"a": "1"}})).status, 200);
    let refused = json!({"detail": "Forbidden by Vault policy", "error": "forbidden"});
    bridge.send("GET", "/secrets/closed").is(403, refused.clone());
    bridge.send_json("PUT", "/secrets/closed", json!({"data": {"a": "1"}})).is(403, refused.clone());
    bridge.send("DELETE", "/secrets/open").is(403, refused);
}

#[test]
fn line_21_more_than_60_calls_in_a_minute() {
    let bridge = Bridge::start(&[("RATE_LIMIT_ENABLED", "true")]);
    // On one connection, as fast as they go. Time gives some back: the 61st is refused, or one soon after it.
    let done = Command::new(programs::program("curl").unwrap())
        .args(["-q", "-sS", "--noproxy", "*", "-H", &format!("X-API-Key: {}", bridge.key)])
        .args(["-w", "\n%{http_code} %header{retry-after}\n", &bridge.url("/secrets?prefix=a[1-200]")])
        .output()
        .unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    let answers: Vec<(&str, &str)> = lines.chunks(2).map(|pair| (pair[0], pair[1])).collect();
    let passed = answers.iter().take_while(|(_, said)| said.starts_with("200")).count();
    assert!(passed >= 60, "only {passed} calls were let through");
    let (body, said) = answers.get(passed).expect("there is no limit");
    let wait = said.strip_prefix("429 ").and_then(|wait| wait.parse::<u64>().ok());
    assert!(wait.is_some_and(|wait| (1..=60).contains(&wait)), "{said}");
    let body: Value = serde_json::from_str(body).unwrap();
    assert_eq!(body["detail"], "Rate limit exceeded");
}

#[test]
fn line_22_the_headers_of_a_request_without_its_credentials() {
    let bridge = Bridge::start(&[]);
    let key = format!("X-API-Key: {}", bridge.key);
    let echo = curl(&[
        "-H",
        &key,
        "-H",
        "X-Correlation-Id: job-7",
        "-H",
        "Cookie: id=1",
        &bridge.url("/echo-headers"),
    ])
    .ok();
    assert_eq!(echo["x-correlation-id"], "job-7");
    assert!(echo["user-agent"].as_str().unwrap().starts_with("curl/"), "{echo}");
    assert!(!echo.to_string().contains(&bridge.key) && !echo.to_string().contains("id=1"), "{echo}");
    assert!(echo.get("x-api-key").is_some(), "{echo}");
}

#[test]
fn line_23_messages_of_mcp_one_by_one() {
    let bridge = Bridge::start(&[]);
    vault().write_secret(&bridge.subject, "configs/demo", json!({"foo": "bar"}));
    let client = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "old", "version": "1"}});
    let began = bridge.rpc(1, "initialize", client);
    assert_eq!(began["protocolVersion"], "2025-06-18");
    assert!(began["serverInfo"]["name"].is_string() && began["capabilities"]["tools"].is_object(), "{began}");
    let listed = bridge.rpc(2, "tools/list", json!({}));
    let tools = listed["tools"].as_array().unwrap();
    let read = tools.iter().find(|tool| tool["name"] == "kv_read").unwrap();
    assert!(read["inputSchema"].is_object() && read["description"].is_string(), "{read}");
    for (id, name) in [(3, "kv.read"), (4, "kv_read")] {
        let called =
            bridge.rpc(id, "tools/call", json!({"name": name, "arguments": {"path": "configs/demo"}}));
        assert_ne!(called["isError"], json!(true), "{called}");
        assert_eq!(called["content"][0]["type"], "text");
        assert_eq!(called["structuredContent"]["data"]["foo"]["masked"], true, "{called}");
        assert!(!called.to_string().contains("\"bar\""), "{called}");
    }
    assert_eq!(bridge.rpc(5, "shutdown", json!({})), json!({}));
}

/// curl, killed when the test is over.
struct Listening(Child);

impl Drop for Listening {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn line_24_events_while_messages_are_answered() {
    let bridge = Bridge::start(&[("SSE_KEEPALIVE_SECONDS", "1")]);
    let key = format!("X-API-Key: {}", bridge.key);
    let mut listening = Command::new(programs::program("curl").unwrap());
    listening.args(["-q", "-sSN", "--max-time", "60", "--noproxy", "*", "-H", &key, &bridge.url("/mcp/sse")]);
    let mut listening = Listening(listening.stdout(Stdio::piped()).spawn().unwrap());
    let mut lines = BufReader::new(listening.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    // A first sign of life: from now on it hears.
    assert!(lines.any(|line| line.starts_with(':')), "the stream ended");
    bridge.rpc(1, "tools/call", json!({"name": "kv.read", "arguments": {"path": "configs/none"}}));
    let event: Value =
        lines.find_map(|line| serde_json::from_str(line.strip_prefix("data: ")?).ok()).unwrap();
    assert_eq!(
        (&event["type"], &event["subject"]),
        (&json!("tool.completed"), &json!(bridge.subject)),
        "{event}"
    );
    assert!(
        ["kv.read", "kv_read"].contains(&event["tool"].as_str().unwrap()) && !event["ts"].is_null(),
        "{event}"
    );
    assert!(lines.any(|line| line.starts_with(':')), "no sign of life after the event");
}

/// A JSON Web Token over this shared secret, with the scopes written like this.
fn token(secret: &str, subject: &str, scopes: Value) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims =
        json!({"iss": "mcp-auth", "aud": "mcp-agents", "sub": subject, "exp": now + 300, "scopes": scopes});
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap()
}

#[test]
fn tokens_and_the_headers_of_a_proxy_name_callers_as_before() {
    let secret = unique("a-shared-secret-of-more-than-32-bytes-");
    let bridge = Bridge::start(&[("JWT_HS256_SECRET", &secret), ("AUTH_MTLS_ENABLED", "true")]);
    for scopes in [json!(["read", "list"]), json!("read list"), json!("read,list")] {
        let bearer = format!("Authorization: Bearer {}", token(&secret, "agent_jwt", scopes.clone()));
        let who = curl(&["-H", &bearer, &bridge.url("/whoami")]).ok();
        assert_eq!(
            (&who["subject"], &who["scopes"]),
            (&json!("agent_jwt"), &json!(["read", "list"])),
            "{scopes}"
        );
    }
    let proxy = ["-H", "X-SSL-Client-S-DN: CN=agent_mtls", "-H", "X-SSL-Client-Verify: SUCCESS"];
    let url = bridge.url("/whoami");
    assert_eq!(curl(&[&proxy[..], &[&url]].concat()).ok()["subject"], "agent_mtls");
}
