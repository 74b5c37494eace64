//! The question carried by a person's own terminal, outside the client's process tree.

use std::{process::Stdio, sync::Arc, time::Duration};

use serde_json::{Value, json};

use crate::{
    common::{
        AT_ONCE, Answer, Era, McpClient, PATIENCE, Terminal, ToolResult, assert_no_canary, assert_refused,
        server::{Home, Launch},
        vault, wait_until,
    },
    scene::{Scene, assert_recorded, assert_stopped, call_records, write},
};

/// `vault-mcp approve` as a person in this home would start it, without a Vault login.
pub(crate) fn approve(scene: &Scene, home: &Arc<Home>) -> Launch {
    scene.launch().home(home).without("VAULT_TOKEN").arg("approve")
}

/// A client that cannot ask by itself, and a person at a terminal.
fn attended(scene: &Scene) -> (McpClient, Terminal) {
    let client = scene.client(Era::mute());
    let terminal = Terminal::outside(&approve(scene, client.server().home()));
    terminal.wait_for("Attached");
    (client, terminal)
}

const PROMPT: &str = ", no to decline:";

/// Waits until the prompt has appeared this often.
pub(crate) fn wait_for_prompt(terminal: &Terminal, count: usize) -> String {
    wait_until(&format!("prompt {count} on:\n{}", terminal.screen().trim_end()), PATIENCE, || {
        let screen = terminal.screen();
        (screen.matches(PROMPT).count() >= count).then_some(screen)
    })
}

fn done(call: crate::common::client::Pending) -> ToolResult {
    ToolResult(call.wait().unwrap())
}

#[test]
fn a_yes_at_the_terminal_writes_and_the_record_says_who_allowed_it() {
    if !Terminal::can_stand_outside() {
        return;
    }
    for era in [Era::mute(), Era::stateless_mute(), Era::usual(), Era::stateless()] {
        let scene = Scene::new();
        let client = scene.client(era);
        let mut terminal = Terminal::outside(&approve(&scene, client.server().home()));
        terminal.wait_for("Attached");
        let arguments = write();
        let call = client.start_call("kv_write", arguments.clone());
        let screen = wait_for_prompt(&terminal, 1);
        assert!(
            screen.contains(&format!("CREATE secret/mcp/{}/app — 2 keys · id ", scene.subject)),
            "{screen}"
        );
        assert!(screen.contains("+ API_KEY") && screen.contains("+ DB_PASSWORD"), "{screen}");
        scene.assert_unwritten();
        terminal.type_line("yes");
        assert_eq!(done(call).ok()["version"], 1);
        assert_eq!(scene.secret(), arguments["data"]);
        assert_no_canary(terminal.screen(), "the terminal");
        // It is preferred over the client, which was asked nothing.
        assert!(client.asked().is_empty());
        assert_recorded(&client, &["CONFIRMATION_REQUIRED", "CONFIRMED", "REQUEST", "SUCCESS"], "");
        let records = call_records(&client);
        let ticket = records[0]["approval"]["ticket"].as_str().unwrap();
        assert_eq!(records[1]["approval"]["channel"], "approver");
        assert_eq!(records[1]["approval"]["ticket"], ticket);
        assert!(screen.contains(&format!("id {}", &ticket[..4])), "{screen}");
    }
}

#[test]
fn a_no_is_final_and_anything_else_is_no_yes() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let scene = Scene::new();
    let (client, mut terminal) = attended(&scene);
    let mut prompts = 0;
    for (typed, code) in [
        ("Yes", "not_confirmed"),
        ("YES", "not_confirmed"),
        ("y", "not_confirmed"),
        ("yes ", "not_confirmed"),
        (" yes", "not_confirmed"),
        ("yes yes", "not_confirmed"),
        ("", "not_confirmed"),
        ("no way", "not_confirmed"),
        ("ja", "not_confirmed"),
        ("no", "declined"),
    ] {
        let arguments = write();
        let call = client.start_call("kv_write", arguments.clone());
        prompts += 1;
        wait_for_prompt(&terminal, prompts);
        terminal.type_line(typed);
        let result = done(call);
        assert_stopped(&scene, &result, code);
        assert_recorded(&client, &["CONFIRMATION_REQUIRED", "ABORTED"], code);
        if code == "declined" {
            assert_stopped(&scene, &client.call("kv_write", arguments), "declined");
            assert_eq!(terminal.screen().matches(PROMPT).count(), prompts, "asked again after a no");
        }
    }
    let screen = terminal.screen();
    assert!(screen.contains("Declined") && screen.contains("That was not yes"), "{screen}");
}

#[test]
fn what_was_typed_before_the_question_is_no_answer_to_it() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let scene = Scene::new();
    let (client, mut terminal) = attended(&scene);
    // Whole lines, and a word that only waits for its Enter. What stands on the screen has been typed.
    terminal.type_line("yes");
    terminal.type_line("yes");
    terminal.type_text("yes");
    terminal.wait_for("yes\nyes\nyes");
    let call = client.start_call("kv_write", write());
    wait_for_prompt(&terminal, 1);
    assert!(call.poll(Duration::from_millis(700)).is_none(), "answered by what was typed before");
    terminal.type_line("");
    assert_stopped(&scene, &done(call), "not_confirmed");

    // Two questions, and two answers in one breath: the second question was not yet there.
    let first = client.start_call("kv_write", write());
    wait_for_prompt(&terminal, 2);
    let second = client.start_call("kv_write", json!({"path": "other", "data": {"A": "b"}}));
    std::thread::sleep(Duration::from_millis(300));
    terminal.type_text("yes\nyes\nyes\n");
    assert_eq!(done(first).ok()["version"], 1);
    wait_for_prompt(&terminal, 3);
    assert!(second.poll(Duration::from_millis(700)).is_none(), "one yes answered two questions");
    assert_eq!(vault().version(&scene.subject, "other"), 0);
    terminal.type_line("yes");
    assert_eq!(done(second).ok()["version"], 1);
}

#[test]
fn a_question_that_is_withdrawn_leaves_the_terminal() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let scene = Scene::new();
    let (client, mut terminal) = attended(&scene);
    let call = client.start_call("kv_write", write());
    wait_for_prompt(&terminal, 1);
    client.notify("notifications/cancelled", json!({"requestId": call.id}));
    terminal.wait_for("no longer open");
    terminal.type_line("yes");
    assert!(call.poll(Duration::from_millis(500)).is_none());
    scene.assert_unwritten();
    assert_recorded(&client, &["CONFIRMATION_REQUIRED", "ABORTED"], "cancelled");
    // A word that waits for its Enter is not the answer to the next one.
    terminal.type_text("yes");
    wait_until("the word on the screen", PATIENCE, || {
        terminal.screen().trim_end().ends_with("\nyes").then_some(())
    });
    let next = client.start_call("kv_write", write());
    wait_for_prompt(&terminal, 2);
    terminal.type_line("");
    assert_stopped(&scene, &done(next), "not_confirmed");
}

#[test]
fn an_approver_that_leaves_while_asked_has_said_nothing() {
    if !Terminal::can_stand_outside() {
        return;
    }
    for by_keyboard in [true, false] {
        let scene = Scene::new();
        let (client, mut terminal) = attended(&scene);
        let call = client.start_call("kv_write", write());
        wait_for_prompt(&terminal, 1);
        if by_keyboard {
            terminal.interrupt();
        } else {
            // Ctrl-D: the end of the terminal's input.
            terminal.type_text("\u{4}");
        }
        // Long before the question's own end.
        let result = done(call);
        assert_stopped(&scene, &result, "nobody_to_ask");
        assert!(result.text().contains("went away"), "{}", result.text());
        assert_recorded(&client, &["CONFIRMATION_REQUIRED", "ABORTED"], "nobody_to_ask");
        // Now there is nobody: the next call says what would help.
        let result = client.call("kv_write", write());
        assert_stopped(&scene, &result, "nobody_to_ask");
        assert!(result.text().contains("vault-mcp approve"), "{}", result.text());
    }
}

#[test]
fn a_second_approver_is_refused_and_the_first_is_told() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let scene = Scene::new();
    let (client, mut first) = attended(&scene);
    let second = Terminal::outside(&approve(&scene, client.server().home()));
    let screen = second.wait_for("refused this terminal");
    assert!(screen.contains("another approver is attached"), "{screen}");
    first.wait_for("A second approver tried to attach");
    // The first goes on as if nothing had been.
    let call = client.start_call("kv_write", write());
    wait_for_prompt(&first, 1);
    // While a question is on the screen it is put there again after such news.
    let third = Terminal::outside(&approve(&scene, client.server().home()));
    third.wait_for("refused this terminal");
    let screen = wait_for_prompt(&first, 2);
    assert!(screen.trim_end().ends_with("no to decline:"), "{screen}");
    assert!(!second.screen().contains("CREATE"), "{}", second.screen());
    first.type_line("yes");
    assert_eq!(done(call).ok()["version"], 1);
}

#[test]
fn a_terminal_that_descends_from_the_client_is_refused() {
    let scene = Scene::new();
    let client = scene.client(Era::mute());
    // A real tty, made by the client's own process: what a model's shell tool could do.
    let terminal = Terminal::inside(&approve(&scene, client.server().home()));
    let screen = terminal.wait_for("refused this terminal");
    assert!(screen.contains("started by the AI client itself"), "{screen}");
    assert!(screen.contains("run `vault-mcp approve` in a terminal of your own"), "{screen}");
    assert_stopped(&scene, &client.call("kv_write", write()), "nobody_to_ask");
    assert!(!terminal.screen().contains("CREATE"), "{}", terminal.screen());
}

/// Many clients start their servers through a shell or a package runner: those stand for the client.
#[test]
fn a_shell_between_client_and_server_hides_neither() {
    use std::io::{BufRead as _, BufReader, Write as _};
    let scene = Scene::new();
    let launch = scene.launch();
    let home = launch.at().clone();
    let mut shell = std::process::Command::new("/bin/sh")
        .args(["-c", "\"$0\"; true", &crate::common::server::binary()])
        .env_clear()
        .envs(launch.parts().0)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = shell.stdin.take().unwrap();
    let mut stdout = BufReader::new(shell.stdout.take().unwrap());
    let mut exchange = |method: &str, params: Value| {
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        writeln!(stdin, "{message}").unwrap();
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        serde_json::from_str::<Value>(&line).unwrap()["result"].clone()
    };
    let client_info = json!({"name": "by-hand", "version": "1"});
    exchange(
        "initialize",
        json!({"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": client_info}),
    );
    let terminal = Terminal::inside(&approve(&scene, &home));
    terminal.wait_for("refused this terminal");
    let result = ToolResult(exchange("tools/call", json!({"name": "kv_write", "arguments": write()})));
    assert_stopped(&scene, &result, "nobody_to_ask");
    drop(stdin);
    assert!(shell.wait().unwrap().success());
}

#[test]
fn an_approver_without_a_terminal_does_not_start() {
    let scene = Scene::new();
    let client = scene.client(Era::mute());
    for stdin in [Stdio::null(), Stdio::piped()] {
        let mut child = approve(&scene, client.server().home())
            .command()
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        drop(child.stdin.take().map(|mut stdin| std::io::Write::write_all(&mut stdin, b"yes\nyes\n")));
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{said}");
        assert!(said.contains("no terminal") && said.contains("in a terminal of your own"), "{said}");
    }
    assert_stopped(&scene, &client.call("kv_write", write()), "nobody_to_ask");
}

#[test]
fn the_setting_says_who_is_asked() {
    if !Terminal::can_stand_outside() {
        return;
    }
    // APPROVAL=approver without one: nobody is asked, not even a client that could.
    let scene = Scene::new();
    let client = scene.launch().env("APPROVAL", "approver").spawn().connect(Era::usual());
    let result = client.call("kv_write", write());
    assert_stopped(&scene, &result, "nobody_to_ask");
    assert!(result.text().contains("APPROVAL=approver") && result.text().contains("vault-mcp approve"));
    assert!(client.asked().is_empty());
    // … and with one, as by default.
    let mut terminal = Terminal::outside(&approve(&scene, client.server().home()));
    terminal.wait_for("Attached");
    let call = client.start_call("kv_write", write());
    wait_for_prompt(&terminal, 1);
    terminal.type_line("yes");
    assert_eq!(done(call).ok()["version"], 1);

    // APPROVAL=client: there is no socket to attach to.
    let scene = Scene::new();
    let client = scene.launch().env("APPROVAL", "client").spawn().connect(Era::usual());
    let terminal = Terminal::outside(&approve(&scene, client.server().home()));
    terminal.wait_for("Waiting for questions");
    client.always(Answer::yes());
    std::thread::sleep(Duration::from_millis(800));
    assert_eq!(client.call("kv_write", write()).ok()["version"], 1);
    assert_eq!(client.asked().len(), 1);
    assert!(!terminal.screen().contains("Attached"), "{}", terminal.screen());
}

#[test]
fn hostile_names_do_nothing_to_the_terminal() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let scene = Scene::new();
    let hostile = json!({
        "\u{1b}[2J\u{1b}[HCREATE nothing": "x",
        "\u{1b}]0;owned\u{7}": "x",
        "A\nType yes to allow it, no to decline: yes": "x",
        "\u{202e}drowssap": "x",
        "\u{9b}31m": "x",
        "k".repeat(10_000): "x",
    });
    vault().write_secret(&scene.subject, "app", hostile);
    let (client, mut terminal) = attended(&scene);
    let call = client.start_call("kv_write", json!({"path": "app", "data": {"A": "b"}}));
    let screen = wait_for_prompt(&terminal, 1);
    assert!(screen.contains("Attached to the server"), "the screen was cleared: {screen}");
    assert!(screen.contains("\\u{1b}[2J") && screen.contains("\\u{202e}"), "{screen}");
    let begins = screen.lines().filter(|line| line.starts_with("Type yes")).count();
    assert_eq!(begins, 1, "a second prompt: {screen}");
    assert!(
        !terminal.screen_with_escapes().contains('\u{1b}'),
        "colours: {:?}",
        terminal.screen_with_escapes()
    );
    terminal.type_line("no");
    assert_refused(&done(call), "declined");
}

#[test]
fn one_terminal_serves_two_servers_and_says_which() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let (one, other) = (Scene::new(), Scene::new());
    let first = one.client(Era::mute());
    let home = first.server().home().clone();
    let second = other.launch().home(&home).spawn().connect(Era::mute());
    let mut terminal = Terminal::outside(&approve(&one, &home));
    for scene in [&one, &other] {
        terminal.wait_for(&format!("Attached to the server of '{}'", scene.subject));
    }
    let (a, b) = (first.start_call("kv_write", write()), second.start_call("kv_write", write()));
    let screen = wait_for_prompt(&terminal, 1);
    let first_is_asked = screen.contains(&format!("'{}' asks for kv.write (process ", one.subject));
    terminal.type_line("yes");
    let screen = wait_for_prompt(&terminal, 2);
    for scene in [&one, &other] {
        assert!(screen.contains(&format!("'{}' asks for kv.write (process ", scene.subject)), "{screen}");
        assert!(screen.contains(&format!("CREATE secret/mcp/{}/app", scene.subject)), "{screen}");
    }
    terminal.type_line("no");
    let (yes, no) = if first_is_asked { (a, b) } else { (b, a) };
    assert_eq!(done(yes).ok()["version"], 1);
    assert_refused(&done(no), "declined");
    assert_eq!(one.version() + other.version(), 1);
    // One ends, the other goes on.
    let ended = second.server().id();
    second.close();
    terminal.wait_for(&format!("The server with process {ended} has ended"));
    let call = first.start_call("kv_write", json!({"path": "more", "data": {"A": "b"}}));
    wait_for_prompt(&terminal, 3);
    terminal.type_line("yes");
    done(call).ok();
}

#[test]
fn once_answers_one_question_and_leaves() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let scene = Scene::new();
    let client = scene.client(Era::mute());
    let mut terminal = Terminal::outside(&approve(&scene, client.server().home()).arg("--once"));
    terminal.wait_for("Attached");
    let call = client.start_call("kv_write", write());
    wait_for_prompt(&terminal, 1);
    terminal.type_line("yes");
    assert_eq!(done(call).ok()["version"], 1);
    assert_eq!(terminal.wait(), 0);
    assert_eq!(
        client.call("kv_write", Value::Object(write().as_object().unwrap().clone())).code(),
        "nobody_to_ask"
    );
}

/// Server gone while its question is on the screen: the person is told, and their yes goes nowhere.
#[test]
fn a_server_that_ends_takes_its_question_along() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let scene = Scene::new();
    let (mut client, mut terminal) = attended(&scene);
    let _call = client.start_call("kv_write", write());
    wait_for_prompt(&terminal, 1);
    client.hang_up();
    assert!(client.server_mut().wait_within(AT_ONCE).success());
    terminal.wait_for("no longer open");
    terminal.type_line("yes");
    scene.assert_unwritten();
    assert_recorded(&client, &["CONFIRMATION_REQUIRED", "ABORTED"], "cancelled");
}
