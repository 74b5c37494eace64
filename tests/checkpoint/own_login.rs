//! The wall: a server whose token can only read, and a person whose own login does the write.

use serde_json::{Value, json};

use crate::{
    approver::{approve, wait_for_prompt},
    common::{
        Answer, Era, Proxy, Server, Terminal, ToolResult, Vault, assert_no_canary, assert_refused,
        assert_untouched, audit_records, vault, vault::Kind,
    },
    scene::{Scene, call_records, text, write},
};

/// A token that may look at this subject's secrets and change none.
pub(crate) fn reader(vault: &Vault, subject: &str) -> String {
    let rule = |part: &str| {
        let may = r#"["read", "list"]"#;
        format!(
            "path \"secret/{part}/mcp/{subject}\" {{ capabilities = {may} }}\n\
             path \"secret/{part}/mcp/{subject}/*\" {{ capabilities = {may} }}\n"
        )
    };
    vault.token(&(rule("data") + &rule("metadata")), "1h")
}

/// The same write, three ways; Vault itself says whose token did it.
#[test]
fn the_same_write_is_made_in_three_ways() {
    let data = json!({"DB_PASSWORD": crate::common::canary("three")});
    let arguments = json!({"path": "app", "data": data});
    let finish = |scene: &Scene, token: &str| {
        assert_eq!((scene.version(), scene.secret()), (1, data.clone()));
        let writes = scene.proxy.writes();
        assert_eq!(writes.len(), 1, "{:?}", writes.iter().map(|write| write.line()).collect::<Vec<_>>());
        assert_eq!(writes[0].header("x-vault-token"), Some(token), "another token made the write");
        assert_eq!(writes[0].json()["options"]["cas"], 0);
    };

    // The client's own dialog.
    let scene = Scene::new();
    let token = vault().token_for(&scene.subject);
    let client = scene.launch().env("VAULT_TOKEN", &token).spawn().connect(Era::usual());
    client.always(Answer::yes());
    assert_eq!(client.call("kv_write", arguments.clone()).ok()["version"], 1);
    finish(&scene, &token);

    if !Terminal::can_stand_outside() {
        return;
    }
    // A person at another terminal: the server's token does it.
    let scene = Scene::new();
    let token = vault().token_for(&scene.subject);
    let client = scene.launch().env("VAULT_TOKEN", &token).spawn().connect(Era::mute());
    let mut terminal = Terminal::outside(&approve(&scene, client.server().home()));
    terminal.wait_for("Attached");
    let call = client.start_call("kv_write", arguments.clone());
    wait_for_prompt(&terminal, 1);
    terminal.type_line("yes");
    assert_eq!(ToolResult(call.wait().unwrap()).ok()["version"], 1);
    finish(&scene, &token);

    // A person with a login of their own, while the server's token can only read.
    for era in [Era::mute(), Era::stateless_mute()] {
        let scene = Scene::new();
        let (reads, writes) = (reader(vault(), &scene.subject), vault().token_for(&scene.subject));
        let client = scene.launch().env("VAULT_TOKEN", &reads).spawn().connect(era);
        let launch = approve(&scene, client.server().home()).env("VAULT_TOKEN", &writes);
        let mut terminal = Terminal::outside(&launch);
        let screen = terminal.wait_for("Attached");
        assert!(
            screen.contains("with your own Vault login") && screen.contains("(policies: default, policy"),
            "{screen}"
        );
        let call = client.start_call("kv_write", arguments.clone());
        let screen = wait_for_prompt(&terminal, 1);
        assert!(screen.contains(&format!("CREATE secret/mcp/{}/app — 1 key", scene.subject)), "{screen}");
        assert!(screen.contains("Type yes to do it with your Vault login"), "{screen}");
        terminal.type_line("yes");
        assert_eq!(ToolResult(call.wait().unwrap()).ok()["version"], 1);
        finish(&scene, &writes);
        assert_no_canary(terminal.screen(), "the terminal");
        // Everything that names a token of the server only looked.
        let tried = scene.proxy.writes().iter().any(|sent| sent.header("x-vault-token") == Some(&reads));
        assert!(!tried, "the server tried with its own token");
        // Both processes recorded it, in one log.
        let records = call_records(&client);
        let of = |front: &str| {
            let mine = records.iter().filter(|record| record["front"] == front);
            mine.map(|record| text(record, "action")).collect::<Vec<_>>()
        };
        let steps = ["CONFIRMATION_REQUIRED", "CONFIRMED", "REQUEST", "SUCCESS"];
        assert_eq!(of("stdio"), steps);
        assert_eq!(of("approver"), steps);
        let channels: Vec<_> = records
            .iter()
            .filter(|record| record["action"] == "CONFIRMED")
            .map(|record| text(record, "approval.channel") + record["approval"]["channel"].as_str().unwrap())
            .collect();
        assert_eq!(channels, ["approver_login", "approver_login"]);
    }
}

/// A fourth way does not exist.
#[test]
fn without_such_a_person_a_token_that_can_only_read_is_told_the_policy_and_nobody_is_asked() {
    for era in [Era::usual(), Era::stateless()] {
        let scene = Scene::new();
        let token = reader(vault(), &scene.subject);
        let client = scene.launch().env("VAULT_TOKEN", &token).spawn().connect(era);
        let result = client.call("kv_write", write());
        assert_refused(&result, "forbidden");
        let line = format!(
            "path \"secret/data/mcp/{}/app\" {{ capabilities = [\"create\", \"update\"] }}",
            scene.subject
        );
        assert!(result.text().contains(&line), "{}", result.text());
        assert!(client.asked().is_empty());
        scene.assert_unwritten();
        let records = call_records(&client);
        assert_eq!(records.len(), 1, "{records:?}");
        assert_eq!(
            (text(&records[0], "action"), text(&records[0], "code")),
            ("REFUSED".into(), "forbidden".into())
        );
    }
    if !Terminal::can_stand_outside() {
        return;
    }
    // Nor does a person without a login make it possible.
    let scene = Scene::new();
    let token = reader(vault(), &scene.subject);
    let client = scene.launch().env("VAULT_TOKEN", &token).spawn().connect(Era::mute());
    let terminal = Terminal::outside(&approve(&scene, client.server().home()));
    terminal.wait_for("Attached");
    assert_refused(&client.call("kv_write", write()), "forbidden");
    assert!(!terminal.screen().contains("asks for"), "{}", terminal.screen());
    scene.assert_unwritten();
}

/// What Vault's own audit device wrote about the write.
#[test]
fn vaults_own_audit_names_the_persons_token() {
    let own = Vault::own();
    if own.kind == Kind::Embedded || !Terminal::can_stand_outside() {
        eprintln!("left out: the embedded Vault has no audit devices");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("vault-audit.jsonl");
    let options = json!({"file_path": log, "hmac_accessor": "false"});
    own.put("sys/audit/file", json!({"type": "file", "options": options})).ok();
    let proxy = Proxy::new(&own);
    let subject = own.fresh_subject();
    let (reads, writes) = (reader(&own, &subject), own.token_for(&subject));
    let accessor = |token: &str| {
        let reply = own.call_as(token, "GET", "auth/token/lookup-self", None).ok();
        reply["data"]["accessor"].as_str().unwrap().to_owned()
    };
    let (reader, writer) = (accessor(&reads), accessor(&writes));
    let launch = || Server::of(&own, &subject).env("VAULT_ADDR", &proxy.address);
    let client = launch().env("VAULT_TOKEN", &reads).spawn().connect(Era::mute());
    let home = client.server().home().clone();
    let mut terminal = Terminal::outside(&launch().home(&home).env("VAULT_TOKEN", &writes).arg("approve"));
    terminal.wait_for("Attached");
    let call = client.start_call("kv_write", write());
    wait_for_prompt(&terminal, 1);
    terminal.type_line("yes");
    assert_eq!(ToolResult(call.wait().unwrap()).ok()["version"], 1);

    let path = format!("secret/data/mcp/{subject}/app");
    let entries: Vec<Value> = audit_records(&log)
        .into_iter()
        .filter(|entry| entry["type"] == "request" && entry["request"]["path"] == path.as_str())
        .collect();
    let by = |operations: &[&str]| {
        let of = entries
            .iter()
            .filter(|entry| operations.contains(&entry["request"]["operation"].as_str().unwrap()));
        of.map(|entry| text(&entry["auth"], "accessor")).collect::<Vec<_>>()
    };
    assert_eq!(by(&["create", "update", "patch", "delete"]), [writer]);
    assert!(by(&["read"]).contains(&reader), "the server looked with its own token");
}

#[test]
fn a_login_of_ones_own_shows_what_it_will_do_itself_and_a_no_is_a_no() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let scene = Scene::new();
    let (reads, writes) = (reader(vault(), &scene.subject), vault().token_for(&scene.subject));
    let client = scene.launch().env("VAULT_TOKEN", &reads).spawn().connect(Era::mute());
    let mut terminal =
        Terminal::outside(&approve(&scene, client.server().home()).env("VAULT_TOKEN", &writes));
    terminal.wait_for("Attached");
    for (prompt, (typed, code)) in [("no", "declined"), ("maybe", "not_confirmed")].into_iter().enumerate() {
        let call = client.start_call("kv_write", write());
        wait_for_prompt(&terminal, prompt + 1);
        terminal.type_line(typed);
        assert_refused(&ToolResult(call.wait().unwrap()), code);
        scene.assert_unwritten();
        let aborted = call_records(&client).iter().filter(|record| record["action"] == "ABORTED").count();
        assert_eq!(aborted, 2 * (prompt + 1), "one record each, of server and approver");
    }
    // It changed while they read: what they agreed to is not done.
    let call = client.start_call("kv_write", write());
    wait_for_prompt(&terminal, 3);
    vault().write_secret(&scene.subject, "app", json!({"THEIRS": "x"}));
    terminal.type_line("yes");
    let screen = wait_for_prompt(&terminal, 4);
    assert!(screen.contains("Not done: it changed since you were asked"), "{screen}");
    assert!(screen.contains(&format!("REPLACE secret/mcp/{}/app", scene.subject)), "{screen}");
    assert!(screen.contains("- THEIRS"), "{screen}");
    terminal.type_line("no");
    assert_refused(&ToolResult(call.wait().unwrap()), "declined");
    assert_eq!((scene.version(), scene.secret()), (1, json!({"THEIRS": "x"})));
    assert!(scene.proxy.writes().is_empty());
    // Every question of both processes has its end in the log.
    let count =
        |action: &str| call_records(&client).iter().filter(|record| record["action"] == action).count();
    assert_eq!((count("CONFIRMATION_REQUIRED"), count("CONFIRMED"), count("ABORTED")), (8, 1, 7));
}

#[test]
fn a_login_for_another_vault_or_without_the_right_to_write_does_nothing() {
    if !Terminal::can_stand_outside() {
        return;
    }
    // Another address: the same path there would be another secret.
    let (scene, elsewhere) = (Scene::new(), Scene::new());
    let (reads, writes) = (reader(vault(), &scene.subject), vault().token_for(&scene.subject));
    let client = scene.launch().env("VAULT_TOKEN", &reads).spawn().connect(Era::mute());
    let home = client.server().home().clone();
    let other =
        approve(&scene, &home).env("VAULT_TOKEN", &writes).env("VAULT_ADDR", &elsewhere.proxy.address);
    {
        let terminal = Terminal::outside(&other);
        terminal.wait_for("Attached");
        let result = assert_untouched(&elsewhere.proxy, || client.call("kv_write", write()));
        assert!(result.is_error(), "{}", result.text());
        let screen = terminal.wait_for("turned down");
        assert!(screen.contains("Set the same address"), "{screen}");
        scene.assert_unwritten();
    }
    // Another root: the same path would lie elsewhere.
    crate::common::wait_until("the first terminal to be forgotten", crate::common::PATIENCE, || {
        (client.call("kv_write", write()).code() == "forbidden").then_some(())
    });
    {
        let terminal = Terminal::outside(
            &approve(&scene, &home).env("VAULT_TOKEN", &vault().root).env("DEFAULT_PREFIX", "elsewhere"),
        );
        terminal.wait_for("Attached");
        let result = client.call("kv_write", write());
        assert!(result.is_error(), "{}", result.text());
        terminal.wait_for("turned down");
        scene.assert_unwritten();
    }
    crate::common::wait_until("the second terminal to be forgotten", crate::common::PATIENCE, || {
        (client.call("kv_write", write()).code() == "forbidden").then_some(())
    });
    // A token that is none is told at once.
    {
        let terminal = Terminal::outside(&approve(&scene, &home).env("VAULT_TOKEN", "s.nonsense"));
        let screen = terminal.wait_for("It may not work");
        assert!(screen.contains("does not accept the token"), "{screen}");
    }
    // A login that may not write either: the person is told which line of policy is missing.
    let terminal = Terminal::outside(&approve(&scene, &home).env("VAULT_TOKEN", &reads));
    terminal.wait_for("Attached");
    let result = client.call("kv_write", write());
    assert!(result.is_error(), "{}", result.text());
    let screen = terminal.wait_for("turned down");
    assert!(screen.contains("forbidden") && screen.contains("capabilities"), "{screen}");
    scene.assert_unwritten();
}
