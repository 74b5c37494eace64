//! The token: where it comes from, how long it lasts, and what is said when it ends.

use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::Scene;
use crate::common::{
    Answer, Era, McpClient, PATIENCE, Proxy, Server, assert_refused, unique, vault, wait_until,
};

/// A token with the rights of `token_for`, made as this says.
fn token(subject: &str, how: Value) -> String {
    let wide = vault().token_for(subject);
    let policies =
        vault().call_as(&wide, "GET", "auth/token/lookup-self", None).ok()["data"]["policies"].clone();
    let mut body = json!({"policies": policies});
    body.as_object_mut().unwrap().extend(how.as_object().unwrap().clone());
    vault().put("auth/token/create", body).ok()["auth"]["client_token"].as_str().unwrap().to_owned()
}

fn read(client: &McpClient) -> crate::common::ToolResult {
    client.call("kv_read", json!({"path": "app"}))
}

fn said_nowhere(client: &McpClient, token: &str) {
    let server = client.server();
    let log = std::fs::read_to_string(server.home().audit_log()).unwrap();
    for (place, text) in [
        ("stdout", String::from_utf8_lossy(&server.stdout()).into_owned()),
        ("stderr", server.stderr()),
        ("the log", log),
    ] {
        assert!(!text.contains(token), "the token stands in {place}");
    }
}

#[test]
fn a_token_that_is_revoked_in_mid_session_is_said_to_be_invalid() {
    let subject = vault().fresh_subject();
    let token = token(&subject, json!({"ttl": "1h"}));
    let scene = Scene::with_token(&subject, &token, &[]);
    vault().put("auth/token/revoke", json!({"token": token})).ok();
    for (tool, arguments) in [
        ("kv_read", json!({"path": "app"})),
        ("kv_list", json!({})),
        ("kv_write", json!({"path": "app", "data": {"A": "2"}})),
        ("vault_set", json!({"service": "app", "secrets": {"A": "2"}})),
        ("mounts_list", json!({})),
    ] {
        let result = scene.client.call(tool, arguments);
        assert_refused(&result, "token_invalid");
        assert!(result.text().contains("expired or was revoked"), "{}", result.text());
    }
    assert!(scene.client.asked().is_empty(), "a human was asked in vain");
    said_nowhere(&scene.client, &token);
}

#[test]
fn a_token_that_expires_says_so_before_and_after() {
    let subject = vault().fresh_subject();
    let token = token(&subject, json!({"ttl": "12s", "renewable": false}));
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    let client = Server::of(vault(), &subject)
        .env("VAULT_TOKEN", &token)
        .env("RATE_LIMIT_ENABLED", "false")
        .spawn()
        .connect(Era::usual());
    wait_until("the notice", PATIENCE, || {
        let result = read(&client);
        result.ok();
        result.text().contains("token ends in").then_some(())
    });
    wait_until("the end", PATIENCE, || read(&client).is_error().then_some(()));
    assert_refused(&read(&client), "token_invalid");
}

#[test]
fn a_token_is_renewed_before_it_ends_and_no_end_is_spoken_of() {
    let subject = vault().fresh_subject();
    // Renewed when two thirds are over: what is left must do for a machine that has other work.
    let token = token(&subject, json!({"ttl": "9s", "renewable": true}));
    let scene = Scene::with_token(&subject, &token, &[]);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(14) {
        let result = read(&scene.client);
        result.ok();
        assert!(!result.text().contains("ends in"), "{}", result.text());
        std::thread::sleep(Duration::from_millis(200));
    }
    let renewals = scene.proxy.requests().iter().filter(|sent| sent.target.ends_with("renew-self")).count();
    assert!((2..=5).contains(&renewals), "{renewals} renewals in 14 s");
}

#[test]
fn a_token_that_can_be_renewed_no_further_says_so_in_time() {
    let subject = vault().fresh_subject();
    let token = token(&subject, json!({"ttl": "6s", "explicit_max_ttl": "14s", "renewable": true}));
    let scene = Scene::with_token(&subject, &token, &[]);
    wait_until("the notice", PATIENCE, || {
        let result = read(&scene.client);
        result.ok();
        result.text().contains("cannot be renewed further").then_some(())
    });
    wait_until("the end", PATIENCE, || read(&scene.client).is_error().then_some(()));
    assert_refused(&read(&scene.client), "token_invalid");
}

/// A role whose tokens may do what `token_for` may.
fn role(subject: &str, how: Value) -> (String, String) {
    let wide = vault().token_for(subject);
    let policies =
        vault().call_as(&wide, "GET", "auth/token/lookup-self", None).ok()["data"]["policies"].clone();
    let enabled = vault().put("sys/auth/approle", json!({"type": "approle"}));
    assert!(enabled.status < 300 || enabled.text.contains("already in use"), "{}", enabled.text);
    let name = unique("role");
    let mut body = json!({"token_policies": policies});
    body.as_object_mut().unwrap().extend(how.as_object().unwrap().clone());
    vault().put(&format!("auth/approle/role/{name}"), body).ok();
    let id = vault().get(&format!("auth/approle/role/{name}/role-id")).ok()["data"]["role_id"].clone();
    let secret =
        vault().put(&format!("auth/approle/role/{name}/secret-id"), json!({})).ok()["data"]["secret_id"]
            .clone();
    (id.as_str().unwrap().to_owned(), secret.as_str().unwrap().to_owned())
}

fn with_role(proxy: &Proxy, subject: &str, id: &str, secret: &str) -> McpClient {
    let client = Server::of(vault(), subject)
        .env("VAULT_ADDR", &proxy.address)
        .without("VAULT_TOKEN")
        .env("VAULT_ROLE_ID", id)
        .env("VAULT_SECRET_ID", secret)
        .env("RATE_LIMIT_ENABLED", "false")
        .spawn()
        .connect(Era::usual());
    client.always(Answer::yes());
    client
}

fn logins(proxy: &Proxy) -> Vec<crate::common::proxy::Sent> {
    proxy.requests().into_iter().filter(|sent| sent.target.ends_with("auth/approle/login")).collect()
}

#[test]
fn a_role_logs_in_at_the_first_use_once_for_many_calls() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    let (id, secret) = role(&subject, json!({"token_ttl": "1h"}));
    let proxy = Proxy::new(vault());
    let client = with_role(&proxy, &subject, &id, &secret);
    client.tools();
    assert_eq!(proxy.count(), 0, "something was sent before the first use");
    let pending: Vec<_> = (0..20).map(|_| client.start_call("kv_read", json!({"path": "app"}))).collect();
    for pending in pending {
        crate::common::ToolResult(pending.wait().unwrap()).ok();
    }
    let logins = logins(&proxy);
    assert_eq!(logins.len(), 1);
    assert!(logins[0].header("x-vault-token").is_none());
    said_nowhere(&client, &secret);
}

#[test]
fn a_role_s_session_outlives_its_tokens() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    let (id, secret) = role(&subject, json!({"token_ttl": "2s", "token_max_ttl": "3s"}));
    let proxy = Proxy::new(vault());
    let client = with_role(&proxy, &subject, &id, &secret);
    let start = Instant::now();
    while start.elapsed() < Duration::from_secs(8) {
        let result = read(&client);
        assert!(!result.is_error(), "after {:?}: {}", start.elapsed(), result.text());
        assert!(!result.text().contains("ends in"), "{}", result.text());
        std::thread::sleep(Duration::from_millis(150));
    }
    assert!((2..=5).contains(&logins(&proxy).len()), "{} logins", logins(&proxy).len());
    let before = logins(&proxy).len();
    std::thread::sleep(Duration::from_secs(4));
    client.call("kv_write", json!({"path": "app", "data": {"A": "2"}})).ok();
    assert!(logins(&proxy).len() <= before + 1);
}

#[test]
fn a_login_that_is_refused_names_the_settings_and_not_the_secret() {
    let subject = vault().fresh_subject();
    let (id, secret) = role(&subject, json!({"secret_id_num_uses": 1, "token_ttl": "1h"}));
    let proxy = Proxy::new(vault());
    let wrong = with_role(&proxy, &subject, &id, "kanarienvogel7f3a_secret_id");
    let result = wrong.call("kv_list", json!({}));
    assert_refused(&result, "config_invalid");
    assert!(
        result.text().contains("VAULT_ROLE_ID") && result.text().contains("VAULT_SECRET_ID"),
        "{}",
        result.text()
    );

    // A secret id for one use is used once; when its token is gone the next call says what is wrong.
    let proxy = Proxy::new(vault());
    let client = with_role(&proxy, &subject, &id, &secret);
    client.call("kv_list", json!({})).ok();
    let used =
        proxy.requests().iter().find_map(|sent| sent.header("x-vault-token").map(str::to_owned)).unwrap();
    vault().put("auth/token/revoke", json!({"token": used})).ok();
    let result = client.call("kv_list", json!({}));
    assert_refused(&result, "config_invalid");
    assert!(result.text().contains("used up"), "{}", result.text());
}

#[test]
fn a_token_comes_from_the_environment_its_file_or_the_home_in_this_order() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    let tokens: Vec<_> = (0..3).map(|_| token(&subject, json!({"ttl": "1h"}))).collect();
    let sent_by = |settings: &[(&str, &str)], home: Option<&str>| {
        let proxy = Proxy::new(vault());
        let mut launch =
            Server::of(vault(), &subject).without("VAULT_TOKEN").env("VAULT_ADDR", &proxy.address);
        for (name, value) in settings {
            launch = launch.env(name, value);
        }
        if let Some(text) = home {
            std::fs::write(launch.at().path().join(".vault-token"), text).unwrap();
        }
        let client = launch.spawn().connect(Era::usual());
        read(&client).ok();
        proxy.requests()[0].header("x-vault-token").unwrap().to_owned()
    };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, format!("{}\n", tokens[1])).unwrap();
    let file = file.to_str().unwrap();
    assert_eq!(
        sent_by(&[("VAULT_TOKEN", &tokens[0]), ("VAULT_TOKEN_FILE", file)], Some(&tokens[2])),
        tokens[0]
    );
    assert_eq!(sent_by(&[("VAULT_TOKEN_FILE", file)], Some(&tokens[2])), tokens[1]);
    assert_eq!(sent_by(&[("BAO_TOKEN", &tokens[0])], Some(&tokens[2])), tokens[0]);
    assert_eq!(sent_by(&[], Some(&format!("{}\n", tokens[2]))), tokens[2]);
}

#[test]
fn a_new_login_of_the_user_s_own_is_picked_up_without_a_restart() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    let tokens = [token(&subject, json!({"ttl": "1h"})), token(&subject, json!({"ttl": "1h"}))];
    let launch = Server::of(vault(), &subject).without("VAULT_TOKEN");
    let file = launch.at().path().join(".vault-token");
    let client = launch.spawn().connect(Era::usual());
    assert_refused(&read(&client), "token_missing");
    std::fs::write(&file, &tokens[0]).unwrap();
    read(&client).ok();
    vault().put("auth/token/revoke", json!({"token": tokens[0]})).ok();
    assert_refused(&read(&client), "token_invalid");
    std::fs::write(&file, &tokens[1]).unwrap();
    read(&client).ok();
    // Replaced before it was noticed: the very call goes through.
    let third = token(&subject, json!({"ttl": "1h"}));
    vault().put("auth/token/revoke", json!({"token": tokens[1]})).ok();
    std::fs::write(&file, &third).unwrap();
    read(&client).ok();
}

/// A session whose token lies in a file that somebody else keeps, as Vault Agent does.
fn with_file(subject: &str, proxy: &Proxy, file: &Path) -> McpClient {
    let client = Server::of(vault(), subject)
        .without("VAULT_TOKEN")
        .env("VAULT_ADDR", &proxy.address)
        .env("VAULT_TOKEN_FILE", file.to_str().unwrap())
        .env("RATE_LIMIT_ENABLED", "false")
        .spawn()
        .connect(Era::usual());
    client.always(Answer::yes());
    client
}

/// Puts a token in the place of another in one step.
fn rotate(file: &Path, token: &str) {
    let next = file.with_extension("next");
    std::fs::write(&next, format!("{token}\n")).unwrap();
    std::fs::rename(next, file).unwrap();
}

#[test]
fn a_token_file_that_is_rotated_is_read_again_when_vault_refuses_the_token() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    let tokens: Vec<_> = (0..4).map(|_| token(&subject, json!({"ttl": "1h"}))).collect();
    let revoke = |token: &str| drop(vault().put("auth/token/revoke", json!({"token": token})).ok());
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sink");
    rotate(&file, &tokens[0]);
    let proxy = Proxy::new(vault());
    let client = with_file(&subject, &proxy, &file);
    let used = || proxy.data_requests().last().unwrap().header("x-vault-token").unwrap().to_owned();
    read(&client).ok();
    // As long as Vault accepts the token it is kept: a file in the making is nobody's fault.
    std::fs::write(&file, "half a tok").unwrap();
    read(&client).ok();
    assert_eq!(used(), tokens[0]);
    // Replaced before it was noticed: the very call goes through, a write as well.
    rotate(&file, &tokens[1]);
    revoke(&tokens[0]);
    read(&client).ok();
    assert_eq!(used(), tokens[1]);
    rotate(&file, &tokens[2]);
    revoke(&tokens[1]);
    client.call("kv_write", json!({"path": "app", "data": {"A": "2"}})).ok();
    assert_eq!((used(), proxy.writes().len()), (tokens[2].clone(), 1));
    // Replaced afterwards: the next call goes through.
    revoke(&tokens[2]);
    assert_refused(&read(&client), "token_invalid");
    rotate(&file, &tokens[3]);
    read(&client).ok();
    for token in &tokens {
        said_nowhere(&client, token);
    }
}

#[test]
fn a_token_file_that_gives_nothing_any_more_is_named_and_no_other_source_is_taken() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    type Spoil = fn(&Path);
    let spoilers: [(&str, Spoil); 4] = [
        ("removed", |_| {}),
        ("empty", |file| std::fs::write(file, "\n").unwrap()),
        ("two words", |file| std::fs::write(file, "kanarienvogel7f3a_a token").unwrap()),
        ("a pipe", |file| assert!(Command::new("mkfifo").arg(file).status().unwrap().success())),
    ];
    for (how, spoil) in spoilers {
        let tokens = [token(&subject, json!({"ttl": "1h"})), token(&subject, json!({"ttl": "1h"}))];
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("sink");
        rotate(&file, &tokens[0]);
        let proxy = Proxy::new(vault());
        let client = with_file(&subject, &proxy, &file);
        std::fs::write(client.server().home().path().join(".vault-token"), &tokens[1]).unwrap();
        read(&client).ok();
        std::fs::remove_file(&file).unwrap();
        spoil(&file);
        vault().put("auth/token/revoke", json!({"token": tokens[0]})).ok();
        let result = read(&client);
        assert_refused(&result, "config_invalid");
        assert!(result.text().contains("VAULT_TOKEN_FILE"), "{how}: {}", result.text());
        let sent = proxy.requests();
        assert!(sent.iter().all(|sent| sent.header("x-vault-token") == Some(&tokens[0])), "{how}");
        rotate(&file, &tokens[1]);
        read(&client).ok();
    }
}

#[test]
fn a_given_token_is_not_replaced_by_what_lies_in_the_home() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    let tokens = [token(&subject, json!({"ttl": "1h"})), token(&subject, json!({"ttl": "1h"}))];
    let scene = Scene::with_token(&subject, &tokens[0], &[]);
    std::fs::write(scene.client.server().home().path().join(".vault-token"), &tokens[1]).unwrap();
    vault().put("auth/token/revoke", json!({"token": tokens[0]})).ok();
    assert_refused(&read(&scene.client), "token_invalid");
    let sent = scene.proxy.requests();
    assert!(sent.iter().all(|sent| sent.header("x-vault-token") != Some(&tokens[1])));
}

#[test]
fn nobody_is_told_of_an_end_when_the_next_token_lies_ready() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    let short = token(&subject, json!({"ttl": "20s", "renewable": false}));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sink");
    rotate(&file, &short);
    let proxy = Proxy::new(vault());
    let client = with_file(&subject, &proxy, &file);
    let speaks = || {
        let result = read(&client);
        result.ok();
        result.text().contains("token ends in")
    };
    wait_until("the notice", PATIENCE, || speaks().then_some(()));
    rotate(&file, &token(&subject, json!({"ttl": "1h"})));
    assert!(!speaks());
    // Nor when it has ended, and the next one is in use.
    wait_until("the next token", PATIENCE, || {
        assert!(!speaks());
        (proxy.data_requests().last().unwrap().header("x-vault-token") != Some(&short)).then_some(())
    });
}

#[test]
fn a_token_that_fits_no_header_is_refused_and_not_shown() {
    for bad in [
        "kanarienvogel7f3a\nX-Evil: 1",
        "kanarienvogel7f3a\r\n",
        "kanarienvogel7f3a x",
        "kanarienvogel7f3a\u{1b}",
        "kanarienvogel7f3a\u{7f}",
    ] {
        let run = Server::launch().env("SUBJECT", "alice").env("VAULT_TOKEN", bad).run("");
        assert!(!run.status.success(), "{bad:?} was accepted");
        assert!(
            run.stderr.contains("VAULT_TOKEN") && !run.stderr.contains("kanarienvogel"),
            "{}",
            run.stderr
        );
    }
    let subject = vault().fresh_subject();
    let proxy = Proxy::new(vault());
    for bad in ["kanarienvogel7f3a\nX-Evil: 1", "", "\n", "two words"] {
        let launch = Server::of(vault(), &subject).without("VAULT_TOKEN").env("VAULT_ADDR", &proxy.address);
        std::fs::write(launch.at().path().join(".vault-token"), bad).unwrap();
        let client = launch.spawn().connect(Era::usual());
        assert_refused(&client.call("kv_list", json!({})), "token_missing");
    }
    for bad in ["t\u{f6}ken", "\u{1f511}"] {
        let client = Server::of(vault(), &subject)
            .env("VAULT_ADDR", &proxy.address)
            .env("VAULT_TOKEN", bad)
            .spawn()
            .connect(Era::usual());
        assert!(client.call("kv_list", json!({})).is_error());
    }
    assert!(proxy.requests().iter().all(|sent| sent.header("x-evil").is_none()));
}

#[test]
fn the_namespace_goes_with_every_request_and_a_caller_cannot_change_it() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    let (id, secret) = role(&subject, json!({"token_ttl": "1h"}));
    let proxy = Proxy::new(vault());
    let client = Server::of(vault(), &subject)
        .env("VAULT_ADDR", &proxy.address)
        .env("VAULT_NAMESPACE", "team/a")
        .without("VAULT_TOKEN")
        .env("VAULT_ROLE_ID", &id)
        .env("VAULT_SECRET_ID", &secret)
        .spawn()
        .connect(Era::usual());
    client.always(Answer::yes());
    // A Vault without namespaces, or without this one, may answer as it likes: what counts is what was sent.
    let _ = read(&client);
    let _ = client.call("kv_write", json!({"path": "app", "data": {"A": "2"}}));
    let _ = client.call("vault_status", json!({}));
    let smuggled = json!({"name": "kv_read", "arguments": {"path": "app"}, "_meta": {"X-Vault-Namespace": "b", "namespace": "b"}});
    let _ = client.request("tools/call", smuggled);
    let sent = proxy.requests();
    assert!(sent.len() >= 3);
    for sent in sent {
        let namespaces: Vec<_> = sent
            .headers
            .iter()
            .filter(|(name, _)| name.eq_ignore_ascii_case("x-vault-namespace"))
            .map(|(_, value)| value.as_str())
            .collect();
        assert_eq!(namespaces, ["team/a"], "{}", sent.line());
        assert_eq!(sent.header("x-vault-request"), Some("true"), "{}", sent.line());
    }
}
