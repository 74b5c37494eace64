//! API keys: from the environment, and from the file that `vault-mcp user` writes while the server runs.

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use serde_json::{Value, json};

use super::{
    super::rig::{Agent, Http},
    assert_let_in, assert_turned_away, call, talkative,
};
use crate::common::{Home, PATIENCE, Proxy, Server, canary, server::Run, unique, vault, wait_until};

const UNKNOWN: &str = "an unknown API key";

/// A home with a server that reads its file of users.
struct Scene {
    home: Arc<Home>,
    http: Http,
}

impl Scene {
    fn new() -> Self {
        let home = Home::new();
        let proxy = Proxy::new(vault());
        let launch = Server::launch()
            .home(&home)
            .env("VAULT_ADDR", &proxy.address)
            .env("VAULT_TOKEN", &vault().root)
            .env("RATE_LIMIT_ENABLED", "false")
            .env("LOG_LEVEL", "debug");
        Self { http: Http::of(launch, proxy), home }
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("config/vault-mcp/users.json")
    }

    fn user(&self, arguments: &[&str]) -> Run {
        user(&self.home, arguments)
    }

    /// Runs the command and gives the key that it prints.
    #[track_caller]
    fn key(&self, arguments: &[&str]) -> String {
        let run = self.user(arguments);
        assert!(run.status.success(), "{}", run.stderr);
        let key = run.stdout.trim_end().to_owned();
        assert!(key.starts_with("vmcp_") && !key.contains(char::is_whitespace), "{key}");
        assert!(!run.stderr.contains(&key));
        key
    }

    /// Waits until a call with this key is answered so; a file is looked at once a second.
    #[track_caller]
    fn wait_for(&self, key: &str, status: u16) {
        wait_until(&format!("status {status}"), PATIENCE, || {
            (call(&self.http, &[("X-API-Key", key)]).status == status).then_some(())
        });
    }
}

fn user(home: &Arc<Home>, arguments: &[&str]) -> Run {
    let mut launch = Server::launch().home(home).arg("user");
    for argument in arguments {
        launch = launch.arg(argument);
    }
    launch.run("")
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_key_is_whole_or_it_is_nobodys() {
    let agent = Agent { key: canary("key"), ..Agent::new() };
    let http = talkative(&[&agent], &[]);
    assert_let_in(&http, &agent.subject, &[("x-api-key", &agent.key)]);
    let longer = format!("{}x", agent.key);
    for key in
        ["", "x", &agent.key[1..], &agent.key[..agent.key.len() - 1], &longer, &agent.key.to_uppercase()]
    {
        assert_turned_away(&http, &[("X-API-Key", key)], UNKNOWN);
    }
    assert_turned_away(&http, &[("X-API-Key", &agent.key), ("X-API-Key", &agent.key)], "two API keys");
    assert_turned_away(&http, &[("X-API-Key", "a"), ("X-API-Key", &agent.key)], "two API keys");
    let both = format!("{}, {}", agent.key, agent.key);
    assert_turned_away(&http, &[("X-API-Key", &both)], UNKNOWN);
}

#[test]
fn a_key_in_the_query_a_cookie_or_another_header_is_not_read() {
    let agent = Agent { key: canary("key"), ..Agent::new() };
    let http = talkative(&[&agent], &[]);
    for name in ["api_key", "apikey", "x-api-key", "X-API-Key", "key", "token", "access_token"] {
        let reply = http.bare("GET", &format!("/secrets?{name}={}", agent.key), &[], None);
        assert_eq!(reply.status, 401, "{name}");
    }
    for (header, value) in [
        ("Cookie", format!("X-API-Key={}", agent.key)),
        ("Authorization", agent.key.clone()),
        ("Authorization", format!("ApiKey {}", agent.key)),
        ("X-Vault-Token", agent.key.clone()),
    ] {
        assert_turned_away(&http, &[(header, &value)], "no credential");
    }
    assert!(http.proxy.data_requests().is_empty());
}

#[test]
fn keys_of_the_environment_are_read_in_both_forms_and_refused_in_others() {
    let keys =
        json!({"dev-key": "agent_api", "other-key": {"subject": "other", "scopes": ["read"]}}).to_string();
    let http = talkative(&[], &[("API_KEYS_JSON", &keys)]);
    let who = |key: &str| http.bare("GET", "/whoami", &[("X-API-Key", key)], None).ok();
    assert_eq!(who("dev-key")["scopes"], json!(["read", "write", "delete", "list"]));
    assert_eq!(
        (&who("other-key")["subject"], &who("other-key")["scopes"]),
        (&json!("other"), &json!(["read"]))
    );
    for keys in [
        r#"{"key": "Alice"}"#,
        r#"{"key": "alice "}"#,
        r#"{"key": "*"}"#,
        r#"{"key": "+"}"#,
        r#"{"key": "a,b"}"#,
        r#"{"key": "a/b"}"#,
        r#"{"": "alice"}"#,
        r#"{"a key": "alice"}"#,
        r#"{"key": {"subject": "alice"}}"#,
        r#"{"key": {"subject": "alice", "scopes": ["*"]}}"#,
        r#"{"key": {"subject": "alice", "scopes": ["read"], "more": 1}}"#,
        r#"{"key": "alice", "key": "bob"}"#,
        r#"["key"]"#,
    ] {
        let run = Server::launch().env("API_KEYS_JSON", keys).args(["--http", "--port", "0"]).run("");
        assert!(
            !run.status.success() && run.stderr.contains("config_invalid: API_KEYS_JSON: "),
            "{keys}: {}",
            run.stderr
        );
    }
}

#[test]
fn users_come_and_go_while_the_server_runs() {
    let scene = Scene::new();
    let subject = vault().fresh_subject();
    let key = scene.key(&["add", &subject, "--scopes", "read,list"]);
    scene.wait_for(&key, 200);
    let headers = [("X-API-Key", key.as_str())];
    let who = scene.http.bare("GET", "/whoami", &headers, None).ok();
    assert_eq!((&who["subject"], &who["scopes"]), (&json!(subject), &json!(["read", "list"])));

    let listed = scene.user(&["list"]).stdout;
    let id = key.split('_').nth(1).unwrap();
    assert!(listed.contains(&subject) && listed.contains("read,list") && listed.contains(id), "{listed}");
    let file = std::fs::read_to_string(scene.file()).unwrap();
    let secret = key.rsplit('_').next().unwrap();
    assert!(!file.contains(secret) && !listed.contains(secret));
    assert_eq!(mode(&scene.file()), 0o600);

    let next = scene.key(&["rotate", &subject]);
    scene.wait_for(&next, 200);
    assert_turned_away(&scene.http, &headers, UNKNOWN);
    let graced = scene.key(&["rotate", &subject, "--grace", "1h"]);
    scene.wait_for(&graced, 200);
    assert_let_in(&scene.http, &subject, &[("X-API-Key", &next)]);

    assert!(scene.user(&["remove", &subject]).status.success());
    scene.wait_for(&graced, 401);
    scene.wait_for(&next, 401);
    assert!(!scene.user(&["list"]).stdout.contains(&subject));
}

#[test]
fn a_grace_ends() {
    let scene = Scene::new();
    let subject = vault().fresh_subject();
    let key = scene.key(&["add", &subject]);
    let next = scene.key(&["rotate", &subject, "--grace", "3s"]);
    scene.wait_for(&next, 200);
    scene.wait_for(&key, 401);
    assert_let_in(&scene.http, &subject, &[("X-API-Key", &next)]);
}

#[test]
fn a_broken_file_changes_nothing_and_one_that_is_gone_lets_nobody_in() {
    let scene = Scene::new();
    let subject = vault().fresh_subject();
    let key = scene.key(&["add", &subject]);
    scene.wait_for(&key, 200);
    let headers = [("X-API-Key", key.as_str())];
    let whole = std::fs::read_to_string(scene.file()).unwrap();

    std::fs::write(scene.file(), "{\"form\": 1, \"users\": [").unwrap();
    wait_until("word of the broken file", PATIENCE, || {
        assert_let_in(&scene.http, &subject, &headers);
        scene.http.server().stderr().contains("the file is broken").then_some(())
    });
    let refused = scene.user(&["add", "other"]);
    assert!(!refused.status.success() && refused.stdout.is_empty(), "{}", refused.stdout);

    // Others could have written what it says now.
    std::fs::write(scene.file(), whole.replace(&subject, "root")).unwrap();
    std::fs::set_permissions(scene.file(), std::fs::Permissions::from_mode(0o620)).unwrap();
    wait_until("word of the permissions", PATIENCE, || {
        assert_let_in(&scene.http, &subject, &headers);
        scene.http.server().stderr().contains("others may write").then_some(())
    });
    std::fs::set_permissions(scene.file(), std::fs::Permissions::from_mode(0o640)).unwrap();
    wait_until("the file to count again", PATIENCE, || {
        (scene.http.bare("GET", "/whoami", &headers, None).body["subject"] == "root").then_some(())
    });
    std::fs::remove_file(scene.file()).unwrap();
    scene.wait_for(&key, 401);
}

#[test]
fn a_digest_of_something_that_people_think_up_lets_nobody_in() {
    let scene = Scene::new();
    let subject = vault().fresh_subject();
    let key = scene.key(&["add", &subject]);
    scene.wait_for(&key, 200);
    let digest =
        |text: &str| hex::encode(aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes()));
    let mut file: Value = serde_json::from_str(&std::fs::read_to_string(scene.file()).unwrap()).unwrap();
    let stored = file["users"][0]["keys"][0].clone();
    assert_eq!(stored["sha256"], json!(digest(&key)), "the digest is that of the key as it is sent");
    let mut more = stored;
    more["sha256"] = json!(digest("hunter2"));
    file["users"][0]["keys"].as_array_mut().unwrap().push(more);
    let marker = unique("m");
    file["users"].as_array_mut().unwrap().push(json!({"subject": marker, "scopes": [], "keys": []}));
    std::fs::write(scene.file(), file.to_string()).unwrap();
    wait_until("the file to be read again", PATIENCE, || {
        std::thread::sleep(Duration::from_millis(100));
        assert_let_in(&scene.http, &subject, &[("X-API-Key", &key)]);
        (scene.http.server().stderr().matches("read again").count() >= 2).then_some(())
    });
    assert_turned_away(&scene.http, &[("X-API-Key", "hunter2")], UNKNOWN);
}

#[test]
fn a_file_that_the_settings_name_must_be_there_and_one_of_the_working_folder_is_not_read() {
    let home = Home::new();
    let run = Server::launch()
        .home(&home)
        .env("USERS_FILE", "/nothing/users.json")
        .args(["--http", "--port", "0"])
        .run("");
    assert!(!run.status.success() && run.stderr.contains("config_invalid: USERS_FILE: "), "{}", run.stderr);

    let here = home.work().join("users.json");
    let made = user(&home, &["add", "alice", "--file", &here.display().to_string()]);
    assert!(made.status.success() && here.exists(), "{}", made.stderr);
    let proxy = Proxy::new(vault());
    let launch =
        || Server::launch().home(&home).env("VAULT_ADDR", &proxy.address).env("VAULT_TOKEN", &vault().root);
    let without = Http::of(launch(), Proxy::new(vault()));
    assert_eq!(call(&without, &[("X-API-Key", made.stdout.trim_end())]).status, 401);
    let with = Http::of(launch().env("USERS_FILE", "users.json"), Proxy::new(vault()));
    assert_let_in(&with, "alice", &[("X-API-Key", made.stdout.trim_end())]);
}

#[test]
fn who_is_added_at_the_same_time_is_added() {
    let home = Home::new();
    let names: Vec<String> = (0..8).map(|n| format!("agent{n}")).collect();
    std::thread::scope(|scope| {
        for name in &names {
            let home = &home;
            scope.spawn(move || assert!(user(home, &["add", name]).status.success()));
        }
    });
    let listed = user(&home, &["list"]).stdout;
    for name in &names {
        assert!(listed.contains(name), "{name} is lost: {listed}");
    }
    let again = user(&home, &["add", "agent0"]);
    assert!(!again.status.success() && again.stderr.contains("rotate"), "{}", again.stderr);
    for arguments in
        [&["add", "Alice"][..], &["add", "x", "--scopes", "*"], &["remove", "nobody"], &["rotate", "nobody"]]
    {
        let refused = user(&home, arguments);
        assert!(!refused.status.success() && refused.stdout.is_empty(), "{arguments:?}");
    }
    assert_eq!(user(&home, &["list"]).stdout, listed);
}
