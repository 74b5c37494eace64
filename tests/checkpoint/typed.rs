//! Values that a person types at their own terminal: they reach Vault, and nobody else.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    approver::{approve, wait_for_prompt},
    common::{
        Answer, Era, McpClient, PATIENCE, Terminal, ToolResult, assert_no_canary, assert_refused, canary,
        vault, wait_until,
    },
    own_login::reader,
    scene::{Scene, assert_recorded, assert_stopped, call_records, text},
};

pub(crate) fn ask() -> Value {
    json!({"path": "app", "key": "DB_PASSWORD", "prompt": "the password of the \"new\" database"})
}

fn done(call: crate::common::client::Pending) -> ToolResult {
    ToolResult(call.wait().unwrap())
}

fn attended(scene: &Scene, era: Era, settings: &[(&str, &str)]) -> (McpClient, Terminal) {
    let launch = settings.iter().fold(scene.launch(), |launch, (name, value)| launch.env(name, value));
    let client = launch.spawn().connect(era);
    let terminal = Terminal::outside(&approve(scene, client.server().home()));
    terminal.wait_for("Attached");
    (client, terminal)
}

const ENTER: &str = "Value of DB_PASSWORD (not shown as you type; Enter alone gives up):";

/// Says yes to the question on the screen, which is this one in order, and waits until the value is asked for.
fn say_yes(terminal: &mut Terminal, question: usize) {
    wait_for_prompt(terminal, question);
    let before = terminal.screen().matches(ENTER).count();
    terminal.type_line("yes");
    wait_for_entry(terminal, before + 1);
}

fn wait_for_entry(terminal: &Terminal, count: usize) {
    wait_until(&format!("entry {count} on:\n{}", terminal.screen().trim_end()), PATIENCE, || {
        (terminal.screen().matches(ENTER).count() >= count).then_some(())
    });
}

/// Neither the terminal nor the client nor the log has heard of a secret.
#[track_caller]
fn assert_unheard(client: &McpClient, terminal: &Terminal) {
    assert_no_canary(terminal.screen(), "the terminal");
    assert_no_canary(client.server().stdout(), "the client");
    assert_no_canary(client.server().stderr(), "standard error");
    assert_no_canary(std::fs::read(client.server().home().audit_log()).unwrap(), "the audit log");
}

#[test]
fn a_value_typed_at_the_terminal_is_stored_beside_the_others_and_seen_by_nobody() {
    if !Terminal::can_stand_outside() {
        return;
    }
    for era in [Era::mute(), Era::stateless_mute(), Era::usual(), Era::stateless()] {
        let scene = Scene::new();
        vault().write_secret(&scene.subject, "app", json!({"KEPT": [1, "x"], "DB_PASSWORD": "old"}));
        let (client, mut terminal) = attended(&scene, era, &[("LOG_LEVEL", "trace")]);
        let call = client.start_call("secret_ask", ask());
        let screen = wait_for_prompt(&terminal, 1);
        for shown in [
            &format!("ASK secret/mcp/{}/app — key DB_PASSWORD of version 1 · id ", scene.subject),
            "  ~ DB_PASSWORD",
            "! The caller's words, not checked: \"the password of the \\\"new\\\" database\"",
            "Type yes to enter the value, no to decline:",
        ] {
            assert!(screen.contains(shown), "{shown} is not on:\n{screen}");
        }
        terminal.type_line("yes");
        wait_for_entry(&terminal, 1);
        assert_eq!(scene.version(), 1);
        let value = format!("{} Ünï 日本 $(id) '\"\\", canary("typed"));
        terminal.type_line(&value);
        let result = done(call);
        assert_eq!(
            result.ok(),
            &json!({"path": "app", "version": 2, "created_time": result.ok()["created_time"]})
        );
        assert_eq!(scene.secret(), json!({"KEPT": [1, "x"], "DB_PASSWORD": value}));
        let screen = terminal.wait_for("Allowed.");
        assert!(screen.contains("Taken (33-64 characters)."), "{screen}");
        assert_unheard(&client, &terminal);
        assert!(client.asked().is_empty());
        assert_recorded(&client, &["CONFIRMATION_REQUIRED", "CONFIRMED", "REQUEST", "SUCCESS"], "");
        let records = call_records(&client);
        assert_eq!(records[1]["approval"]["channel"], "approver");
        assert_eq!((&records[2]["op"], &records[2]["keys"]), (&"secret.ask".into(), &json!(["DB_PASSWORD"])));
        // It is written onto the version that was shown.
        let writes = scene.proxy.writes();
        assert_eq!((writes.len(), &writes[0].json()["options"]["cas"]), (1, &json!(1)));
    }
}

#[test]
fn a_new_secret_is_made_and_a_version_one_mount_keeps_its_other_keys() {
    if !Terminal::can_stand_outside() {
        return;
    }
    vault().ensure_mount("kv1", "kv", json!({"version": "1"}));
    let scene = Scene::new();
    let (client, mut terminal) = attended(&scene, Era::mute(), &[("KV_MOUNTS", "kv1")]);
    let call = client.start_call("secret_ask", json!({"path": "app", "key": "DB_PASSWORD", "cas": 0}));
    let screen = wait_for_prompt(&terminal, 1);
    assert!(screen.contains("/app — key DB_PASSWORD of a new secret · id "), "{screen}");
    say_yes(&mut terminal, 1);
    terminal.type_line("first");
    assert_eq!(done(call).ok()["version"], 1);
    assert_eq!(scene.secret(), json!({"DB_PASSWORD": "first"}));
    assert_refused(&client.call("secret_ask", json!({"path": "app", "key": "K", "cas": 0})), "conflict");

    let path = format!("kv1/mcp/{}/app", scene.subject);
    vault().put(&path, json!({"KEPT": 1})).ok();
    let on_one = json!({"path": "app", "key": "DB_PASSWORD", "mount": "kv1"});
    let call = client.start_call("secret_ask", on_one.clone());
    say_yes(&mut terminal, 2);
    terminal.type_line("second");
    assert!(done(call).ok().get("version").is_none());
    assert_eq!(vault().get(&path).ok()["data"], json!({"KEPT": 1, "DB_PASSWORD": "second"}));
    let mut with_cas = on_one;
    with_cas["cas"] = json!(1);
    assert_refused(&client.call("secret_ask", with_cas), "unsupported_on_kv_v1");
}

#[test]
fn a_value_that_is_none_is_said_to_be_none_and_asked_for_again() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let scene = Scene::new();
    let (client, mut terminal) = attended(&scene, Era::mute(), &[("DANGEROUS_PATTERNS", "block")]);
    let call = client.start_call("secret_ask", ask());
    say_yes(&mut terminal, 1);
    let secret = canary("bad");
    let mut entries = 1;
    for (typed, said) in [
        (format!("{secret}\u{1b}[2Jx"), "control character"),
        (format!("{secret}\tx"), "control character"),
        (format!("{secret}$(id)"), "DANGEROUS_PATTERNS=block"),
        ("secretref://secret/mcp/alice/app#K".to_owned(), "a mask or a reference"),
        (format!("{secret}\n{secret}\nyes\n"), "more than one line"),
    ] {
        if typed.contains('\n') {
            terminal.type_text(&typed);
        } else {
            terminal.type_line(&typed);
        }
        entries += 1;
        wait_for_entry(&terminal, entries);
        assert!(terminal.screen().contains(said), "{said:?} is not on:\n{}", terminal.screen());
    }
    assert!(call.poll(Duration::from_millis(200)).is_none());
    scene.assert_unwritten();
    // Backspace, also over a character of three bytes, and Ctrl-U.
    terminal.type_text("wrong\u{15}good 日\u{7f}\u{7f}!x\u{7f}");
    terminal.type_line("");
    assert_eq!(done(call).ok()["version"], 1);
    assert_eq!(scene.secret(), json!({"DB_PASSWORD": "good!"}));
    assert_unheard(&client, &terminal);

    // Longer than what a terminal's own line may have.
    let long = canary("long").repeat(300);
    let call = client.start_call("secret_ask", ask());
    say_yes(&mut terminal, 2);
    for piece in long.as_bytes().chunks(512) {
        terminal.type_text(std::str::from_utf8(piece).unwrap());
    }
    terminal.type_line("");
    assert_eq!(done(call).ok()["version"], 2);
    assert_eq!(scene.secret(), json!({"DB_PASSWORD": long}));
    assert_unheard(&client, &terminal);

    // Nothing is no value, and no answer to what comes next.
    let call = client.start_call("secret_ask", ask());
    say_yes(&mut terminal, 3);
    terminal.type_line("");
    assert_refused(&done(call), "not_confirmed");
    assert_eq!(scene.version(), 2);
}

#[test]
fn a_no_is_a_no_and_what_is_not_yes_brings_no_value() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let scene = Scene::new();
    let (client, mut terminal) = attended(&scene, Era::mute(), &[]);
    for (count, (typed, code)) in
        [("Yes", "not_confirmed"), ("hunter2", "not_confirmed"), ("no", "declined")].into_iter().enumerate()
    {
        let call = client.start_call("secret_ask", ask());
        wait_for_prompt(&terminal, count + 1);
        terminal.type_line(typed);
        assert_stopped(&scene, &done(call), code);
    }
    assert_stopped(&scene, &client.call("secret_ask", ask()), "declined");
    assert!(!terminal.screen().contains("Value of"), "{}", terminal.screen());
}

#[test]
fn a_question_that_ends_while_the_value_is_typed_stores_nothing_and_leaves_the_terminal_usable() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let scene = Scene::new();
    let (client, mut terminal) = attended(&scene, Era::mute(), &[]);
    let call = client.start_call("secret_ask", ask());
    say_yes(&mut terminal, 1);
    terminal.type_text(&canary("half"));
    client.notify("notifications/cancelled", json!({"requestId": call.id}));
    terminal.wait_for("no longer open");
    terminal.type_line("shown again");
    terminal.wait_for("shown again");
    scene.assert_unwritten();
    assert_recorded(&client, &["CONFIRMATION_REQUIRED", "ABORTED"], "cancelled");
    // Half a value is not the beginning of the next.
    let call = client.start_call("secret_ask", ask());
    say_yes(&mut terminal, 2);
    terminal.type_line("whole");
    assert_eq!(done(call).ok()["version"], 1);
    assert_eq!(scene.secret(), json!({"DB_PASSWORD": "whole"}));
    // Ctrl-C leaves, here as elsewhere.
    let call = client.start_call("secret_ask", ask());
    say_yes(&mut terminal, 3);
    terminal.type_text(&canary("half"));
    terminal.interrupt();
    assert_refused(&done(call), "nobody_to_ask");
    assert_eq!(terminal.wait(), 0);
    assert_eq!(scene.version(), 1);
    assert_unheard(&client, &terminal);
}

#[test]
fn a_secret_that_changes_while_the_value_is_typed_is_asked_about_again() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let scene = Scene::new();
    let (client, mut terminal) = attended(&scene, Era::mute(), &[]);
    let call = client.start_call("secret_ask", ask());
    say_yes(&mut terminal, 1);
    vault().write_secret(&scene.subject, "app", json!({"THEIRS": "x"}));
    terminal.type_line(&canary("stale"));
    let screen = wait_for_prompt(&terminal, 2);
    assert!(screen.contains("It changed since you were asked"), "{screen}");
    assert_eq!(scene.secret(), json!({"THEIRS": "x"}));
    // A yes alone does not bring the first value back.
    say_yes(&mut terminal, 2);
    terminal.type_line("fresh");
    assert_eq!(done(call).ok()["version"], 2);
    assert_eq!(scene.secret(), json!({"THEIRS": "x", "DB_PASSWORD": "fresh"}));
}

/// Where the person's own login does the write, the value does not come to the server at all.
#[test]
fn a_login_of_ones_own_stores_the_value_itself() {
    if !Terminal::can_stand_outside() {
        return;
    }
    for era in [Era::mute(), Era::stateless_mute()] {
        let scene = Scene::new();
        vault().write_secret(&scene.subject, "app", json!({"KEPT": "1"}));
        let (reads, writes) = (reader(vault(), &scene.subject), vault().token_for(&scene.subject));
        let client = scene.launch().env("VAULT_TOKEN", &reads).spawn().connect(era);
        let launch = approve(&scene, client.server().home()).env("VAULT_TOKEN", &writes);
        let mut terminal = Terminal::outside(&launch);
        terminal.wait_for("Attached");
        let value = canary("own");
        let call = client.start_call("secret_ask", ask());
        let screen = wait_for_prompt(&terminal, 1);
        assert!(screen.contains("store it with your Vault login"), "{screen}");
        say_yes(&mut terminal, 1);
        terminal.type_line(&format!("{value}\t"));
        wait_for_entry(&terminal, 2);
        terminal.type_line(&value);
        assert_eq!(done(call).ok()["version"], 2);
        assert_eq!(scene.secret(), json!({"KEPT": "1", "DB_PASSWORD": value}));
        let sent = scene.proxy.writes();
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].header("x-vault-token"), Some(writes.as_str()), "another token made the write");
        assert_unheard(&client, &terminal);
        for front in ["stdio", "approver"] {
            let records = call_records(&client);
            let mine = records.iter().filter(|record| record["front"] == front);
            let actions: Vec<_> = mine.map(|record| text(record, "action")).collect();
            assert_eq!(actions, ["CONFIRMATION_REQUIRED", "CONFIRMED", "REQUEST", "SUCCESS"], "{front}");
        }
    }
}

/// The client's own form is no place for a value: what is typed there, the client has.
#[test]
fn a_client_without_an_approver_is_told_so_and_its_form_is_not_used() {
    for era in [Era::mute(), Era::usual(), Era::stateless()] {
        let scene = Scene::new();
        let client = scene.client(era);
        client.always(Answer::Accept(json!({"answer": "yes", "value": canary("form"), "DB_PASSWORD": "x"})));
        let result = client.call("secret_ask", ask());
        assert_stopped(&scene, &result, "nobody_to_ask");
        assert!(result.text().contains("vault-mcp approve"), "{}", result.text());
        assert!(client.asked().is_empty(), "the client was asked for a value");
        assert_recorded(&client, &["CONFIRMATION_REQUIRED", "ABORTED"], "nobody_to_ask");
    }
    // Nor can the arguments carry one.
    let scene = Scene::new();
    let client = scene.client(Era::usual());
    for more in [
        json!({"value": "x"}),
        json!({"data": {"DB_PASSWORD": "x"}}),
        json!({"prompt": "two\nlines"}),
        json!({"prompt": "\u{1b}[2J"}),
        json!({"prompt": ""}),
        json!({"prompt": "x".repeat(201)}),
        json!({"key": "a\u{202e}b"}),
        json!({"path": "../bob"}),
    ] {
        let mut arguments = ask();
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let result = client.call("secret_ask", arguments);
        assert!(["invalid_input", "path_refused"].contains(&result.code().as_str()), "{}", result.text());
    }
    assert!(scene.proxy.requests().is_empty());
}
