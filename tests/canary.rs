//! Fifty secret values go through every tool and every fault, with every log at its finest. None is found
//! anywhere but where a human agreed to show it; nor is the token.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::{
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
};

use common::{
    Answer, CANARY, Era, Fault, Home, McpClient, On, Proxy, Server, assert_no_canary, assert_refused, canary,
    vault,
};
use serde_json::{Value, json};

/// A session that logs as much as it can.
fn loud(home: &Arc<Home>, subject: &str, token: &str, proxy: &Proxy, settings: &[(&str, &str)]) -> McpClient {
    let mut launch = Server::of(vault(), subject)
        .home(home)
        .vault(vault(), subject)
        .env("VAULT_ADDR", &proxy.address)
        .env("VAULT_TOKEN", token)
        .env("LOG_LEVEL", "trace")
        .env("RUST_LOG", "trace")
        .env("LOG_DIR", home.path().join("logs").to_str().unwrap())
        .env("RATE_LIMIT_ENABLED", "false");
    for (name, value) in settings {
        launch = launch.env(name, value);
    }
    let client = launch.spawn().connect(Era::usual());
    client.always(Answer::yes());
    client
}

/// Every file below a folder, whole.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

/// Nothing said, logged or left behind holds a canary or one of these.
#[track_caller]
fn assert_silent(client: &McpClient, secrets: &[&str]) {
    let server = client.server();
    let mut places = files(server.home().path());
    assert!(
        places.iter().any(|(name, text)| name.contains("/logs/") && !text.is_empty()),
        "nothing was logged"
    );
    places.push(("standard output".into(), server.stdout()));
    places.push(("standard error".into(), server.stderr().into_bytes()));
    places.push(("the questions".into(), serde_json::to_vec(&client.asked()).unwrap()));
    for arguments in [
        ["audit", "show"].as_slice(),
        &["audit", "show", "--format", "line"],
        &["audit", "export", "--target", "ecs"],
        &["config"],
    ] {
        let mut launch = Server::launch().home(server.home());
        for argument in arguments {
            launch = launch.arg(argument);
        }
        let run = launch.env("VAULT_TOKEN", secrets[0]).command().output().unwrap();
        places.push((arguments.join(" "), [run.stdout, run.stderr].concat()));
    }
    for (place, bytes) in places {
        assert_no_canary(&bytes, &place);
        let text = String::from_utf8_lossy(&bytes);
        for secret in secrets {
            assert!(!text.contains(secret), "a secret stands in {place}");
        }
    }
}

#[test]
fn fifty_secrets_are_handled_and_none_is_said() {
    let home = Home::new();
    let subject = vault().fresh_subject();
    let token = vault().token_for(&subject);
    let proxy = Proxy::new(vault());
    let client = loud(&home, &subject, &token, &proxy, &[]);
    let secrets: Vec<String> = (0..50).map(|number| canary(&format!("n{number}x"))).collect();

    for (index, secret) in secrets.iter().enumerate() {
        let (path, other) = (format!("app{index}"), &secrets[(index + 1) % 50]);
        client.call("kv_write", json!({"path": path, "data": {"A": secret, "L": [secret, {"x": secret}], "D": format!("{secret}$(id)")}})).ok();
        client
            .call("kv_patch", json!({"path": path, "data": {"P": other, "A": null, "O": {"inner": secret}}}))
            .ok();
        client.call("vault_set", json!({"service": path, "secrets": {"S": secret, "T": other}})).ok();
        client.call("kv_read", json!({"path": path})).ok();
        client.call("vault_get", json!({"service": path})).ok();
        client.call("kv_diff", json!({"path": path, "from_version": 1, "to_version": 2})).ok();
        let same = client.call("secret_compare", json!({"a": format!("{path}#S"), "b": format!("{path}#S")}));
        assert_eq!(same.ok()["equal"], true);
        let uri = format!("kv://{subject}/{path}");
        client.request("resources/read", json!({"uri": uri})).unwrap();
    }
    for path in ["app0", "app1"] {
        client.call("kv_generate", json!({"path": path, "key": "G"})).ok();
        client.call("kv_rollback", json!({"path": path, "version": 1})).ok();
        client.call("kv_delete", json!({"path": path})).ok();
        client.call("kv_metadata", json!({"path": path})).ok();
    }
    assert_silent(&client, &[&token]);
}

#[test]
fn secrets_that_are_refused_or_fail_in_any_way_are_not_said() {
    let home = Home::new();
    let subject = vault().fresh_subject();
    let token = vault().token_for(&subject);
    let proxy = Proxy::new(vault());
    let client = loud(&home, &subject, &token, &proxy, &[]);
    let secret = canary("failing");
    vault().write_secret(&subject, "app", json!({"A": secret}));
    let write = json!({"path": "app", "data": {"A": secret, "D": format!("{secret};`id`\u{1b}\n")}});

    // Refused for what they say.
    for (tool, arguments) in [
        ("kv_write", json!({"path": "app", "data": secret})),
        ("kv_write", json!({"path": "app", "data": {"A": secret}, "cas": secret})),
        ("kv_write", json!({"path": "app", "data": {"A": secret}, secret.clone(): 1})),
        ("kv_write", json!({"path": "app", "data": {"A": secret}, "cas": 7})),
        ("kv_write", json!({"path": "../x", "data": {"A": secret}})),
        ("kv_write", json!({"path": "app", "data": {"A": secret, "M": {"masked": true, "type": "string"}}})),
        ("vault_set", json!({"service": "app", "secrets": {"A": format!("{secret}{}", "x".repeat(9000))}})),
        ("vault_set", json!({"service": "app", "secrets": {"A": [secret]}})),
        ("kv_patch", json!({"path": "none", "data": {"A": secret}})),
        ("vault_login", json!({"token": secret})),
        ("no_such_tool", json!({"A": secret})),
        ("secret_compare", json!({"a": "app#A", "b": "app#none"})),
    ] {
        // An argument's name is echoed so that it can be corrected: that is a name, and the model's own.
        let named = arguments.get(&secret).is_some();
        let result = client.call(tool, arguments);
        assert!(result.is_error(), "{tool}");
        if named {
            assert!(result.text().len() < 400);
        } else {
            assert_no_canary(result.text(), tool);
        }
    }
    // Not agreed to.
    for answer in [
        Answer::Decline,
        Answer::Cancel,
        Answer::typed("no"),
        Answer::typed(&secret),
        Answer::Error(-32603, secret.clone()),
    ] {
        client.always(answer);
        let mut call = write.clone();
        call["data"]["N"] = json!(common::unique("n"));
        assert!(client.call("kv_write", call).is_error());
    }
    client.always(Answer::yes());
    // Broken on the way there, in Vault, and on the way back; with answers that quote what was sent.
    let quoting =
        json!({"errors": [format!("cannot parse {secret}"), secret], "warnings": [secret]}).to_string();
    for fault in [
        Fault::Status(500),
        Fault::Status(403),
        Fault::Status(400),
        Fault::ResetAfter,
        Fault::StatusAfter(502),
        Fault::StatusAfter(400),
        Fault::StatusAfter(404),
        Fault::Truncated,
        Fault::NotJson,
        Fault::NotHttp,
        Fault::Body(quoting.clone()),
        Fault::Body(format!("<html>{secret}</html>")),
        Fault::Body(format!(
            r#"{{"request_id":"{secret}","data":{{"version":"{secret}","created_time":"{secret}"}}}}"#
        )),
        Fault::Redirect(format!("http://127.0.0.1:1/{secret}")),
    ] {
        proxy.heal().fail(On::target("/secret/data/").changing(), fault.clone());
        let shown = format!("{fault:?}");
        let result = client.call("kv_write", write.clone());
        assert!(result.is_error(), "{shown}: {}", result.0);
        assert_no_canary(result.text(), &shown);
    }
    for fault in [
        Fault::Body(quoting),
        Fault::Body(format!("[{secret}")),
        Fault::StatusAfter(500),
        Fault::StatusAfter(400),
        Fault::Truncated,
    ] {
        proxy.heal().fail(On::target("/secret/"), fault.clone());
        for (tool, arguments) in
            [("kv_read", json!({"path": "app", "reveal": true})), ("kv_metadata", json!({"path": "app"}))]
        {
            let result = client.call(tool, arguments);
            assert_no_canary(result.0.to_string(), &format!("{tool} under {fault:?}"));
        }
        std::thread::sleep(std::time::Duration::from_millis(2100)); // the breaker
    }
    proxy.heal();
    // Lines that are no calls.
    for line in [
        format!(
            r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"name":"kv_write","arguments":{{"path":"x","data":{{"A":"{secret}""#
        ),
        format!(
            r#"{{"jsonrpc":"2.0","id":"{secret}","method":"nothing/{secret}","params":{{"x":"{secret}"}}}}"#
        )
        .replace(&format!(r#""id":"{secret}""#), r#""id":4711"#),
        format!(r#"{{"jsonrpc":"1.0","id":2,"method":"tools/call","params":"{secret}"}}"#),
        format!(
            r#"{{"jsonrpc":"2.0","id":3,"method":"tools/call","params":{{"name":["{secret}"],"arguments":"{secret}"}}}}"#
        ),
        format!("{secret}\u{0}{secret}"),
        format!(r#"{{"jsonrpc":"2.0","method":"notifications/{secret}","params":{{"A":"{secret}"}}}}"#),
        format!(r#"{{"jsonrpc":"2.0","id":99999,"result":{{"A":"{secret}"}}}}"#),
    ] {
        client.server().send_line(line);
    }
    client.call("kv_list", json!({})).ok();
    let said = client.server().stdout();
    let said = String::from_utf8_lossy(&said);
    // What names an argument or a method is the model's own word and may come back to it; nothing else may.
    for line in said.lines().filter(|line| line.to_lowercase().contains(CANARY)) {
        let message: Value = serde_json::from_str(line).unwrap();
        let echo = message["result"]["content"][0]["text"]
            .as_str()
            .or(message["error"]["message"].as_str())
            .unwrap_or_default();
        assert!(echo.contains("no argument") || echo.contains("nothing/"), "said: {line}");
    }
    let server = client.server();
    for (place, bytes) in files(server.home().path()) {
        assert_no_canary(&bytes, &place);
    }
    assert_no_canary(server.stderr(), "standard error");
    assert!(!said.contains(&token) && !server.stderr().contains(&token));
}

#[test]
fn a_value_that_a_human_agreed_to_show_is_said_once_and_logged_nowhere() {
    let home = Home::new();
    let subject = vault().fresh_subject();
    let token = vault().token_for(&subject);
    let proxy = Proxy::new(vault());
    let client = loud(&home, &subject, &token, &proxy, &[]);
    let secret = canary("shown");
    vault().write_secret(&subject, "app", json!({"A": secret, "B": canary("hidden")}));
    let result = client.call("kv_read", json!({"path": "app", "keys": ["A"], "reveal": true}));
    assert_eq!(result.ok()["data"], json!({"A": secret}));
    let said = client.server().stdout();
    let said = String::from_utf8_lossy(&said);
    let lines: Vec<_> = said.lines().filter(|line| line.contains(CANARY)).collect();
    assert!(lines.len() == 1 && !lines[0].contains("hidden"), "{lines:?}");
    for (place, bytes) in files(client.server().home().path()) {
        assert_no_canary(&bytes, &place);
    }
    assert_no_canary(client.server().stderr(), "standard error");
}

#[test]
fn a_secret_of_a_role_and_its_token_are_said_nowhere() {
    let home = Home::new();
    let subject = vault().fresh_subject();
    let proxy = Proxy::new(vault());
    // A Vault that quotes the whole login in its refusal, then one that gives a token that cannot be.
    let secret_id = canary("secretid");
    let settings =
        [("VAULT_TOKEN", ""), ("VAULT_ROLE_ID", "a-role"), ("VAULT_SECRET_ID", secret_id.as_str())];
    let client = loud(&home, &subject, "", &proxy, &settings);
    let answer = |token: &str| {
        json!({"auth": {"client_token": token, "lease_duration": 60}, "errors": [secret_id]}).to_string()
    };
    for body in [
        answer(&format!("{secret_id}\nx")),
        answer(""),
        format!("<html>{secret_id}"),
        json!({"errors": [secret_id]}).to_string(),
    ] {
        proxy.heal().fail(On::target("approle/login"), Fault::Body(body));
        let result = client.call("kv_list", json!({}));
        assert!(result.is_error());
        assert_no_canary(result.0.to_string(), "a failed login");
    }
    proxy.heal().fail(On::target("approle/login"), Fault::Body(answer(&secret_id)));
    assert_refused(&client.call("kv_list", json!({})), "token_invalid");
    assert_silent(&client, &["a-role-that-is-nowhere"]);
}

#[test]
fn a_panic_s_report_and_the_start_s_errors_hold_no_secret() {
    let secret = canary("setting");
    for (name, value) in [
        ("VAULT_TOKEN", format!("{secret} x")),
        ("VAULT_SECRET_ID", secret.clone()),
        ("VAULT_ADDR", format!("http://user:{secret}@127.0.0.1:1")),
        ("APPROVAL", secret.clone()),
        ("RATE_LIMIT_REQUESTS", secret.clone()),
    ] {
        let run = Server::launch().env("SUBJECT", "alice").env(name, value).run("");
        assert!(!run.status.success(), "{name} was accepted");
        assert_no_canary(run.stderr + &run.stdout, name);
    }
    let run = Server::launch().env("VAULT_TOKEN", &secret).env("SUBJECT", "alice").arg("config").run("");
    assert!(run.status.success() && run.stdout.contains("***"), "{}", run.stderr);
    assert_no_canary(run.stdout + &run.stderr, "vault-mcp config");
}

/// As root everything is readable: the server then runs as somebody else, and somebody else looks.
#[test]
#[cfg(target_os = "linux")]
fn the_environment_and_memory_of_a_running_server_are_closed_to_its_own_user() {
    use std::os::unix::fs::{PermissionsExt, chown};
    const NOBODY: u32 = 65_534;
    let root = rustix::process::geteuid().is_root();
    let folder = tempfile::Builder::new().prefix("vm").tempdir_in("/tmp").unwrap();
    let program = folder.path().join("vault-mcp");
    // By another process: a program that this one had open to write could be held open by a child that a test
    // beside this one is starting, and then it does not run.
    assert!(Command::new("cp").arg(common::server::binary()).arg(&program).status().unwrap().success());
    let home = folder.path().join("home");
    std::fs::create_dir(&home).unwrap();
    for (path, mode) in [(folder.path(), 0o755), (&program, 0o755), (&home, 0o700)] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    let as_user = |program: &Path| {
        if !root {
            return Command::new(program);
        }
        chown(&home, Some(NOBODY), Some(NOBODY)).unwrap();
        let mut command = Command::new("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups"]).arg(program);
        command
    };
    let secret = canary("environ");
    // The look itself works: an ordinary program's environment is open to its user.
    let mut plain = as_user(Path::new("/bin/sleep")).arg("60").env("VAULT_TOKEN", &secret).spawn().unwrap();
    let mut server = as_user(&program)
        .env_clear()
        .env("HOME", &home)
        .env("PATH", "/usr/bin:/bin")
        .env("VAULT_TOKEN", &secret)
        .env("SUBJECT", "alice")
        .env("AUDIT_LOG", home.join("audit.jsonl"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {"protocolVersion": "2025-11-25",
        "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    writeln!(server.stdin.as_mut().unwrap(), "{hello}").unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("serverInfo"), "{line}");
    let look = |id: u32, name: &str| {
        as_user(Path::new("/bin/cat")).arg(format!("/proc/{id}/{name}")).output().unwrap()
    };
    // It begins as `setpriv`, for root.
    let name = format!("/proc/{}/comm", plain.id());
    common::wait_until("sleep", common::PATIENCE, || {
        std::fs::read_to_string(&name).is_ok_and(|name| name.trim() == "sleep").then_some(())
    });
    let seen = look(plain.id(), "environ");
    let control = String::from_utf8_lossy(&seen.stdout).contains(&secret);
    let (environ, maps) = (look(server.id(), "environ"), look(server.id(), "maps"));
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.id())).unwrap();
    plain.kill().unwrap();
    server.kill().unwrap();
    let _ = (plain.wait(), server.wait());
    assert!(control, "the control was not readable either: {}", String::from_utf8_lossy(&seen.stderr));
    for (name, seen) in [("environ", environ), ("maps", maps)] {
        assert!(!seen.status.success() && seen.stdout.is_empty(), "/proc/PID/{name} is open");
    }
    let core = limits.lines().find(|line| line.starts_with("Max core file size")).unwrap();
    assert_eq!(core.split_whitespace().nth(4), Some("0"), "{core}");
}
