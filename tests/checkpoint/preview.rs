//! What the human reads: it names what will happen, and nothing in it can make it say something else.

use serde_json::{Map, Value, json};

use crate::{
    common::{Answer, Era, assert_no_canary, canary, vault},
    scene::{Scene, assert_stopped, eras},
};

/// The message of the one question that this call asks.
fn question(scene: &Scene, era: Era, tool: &str, arguments: Value) -> String {
    let client = scene.client(era);
    client.always(Answer::Cancel);
    let result = client.call(tool, arguments);
    assert_eq!(result.code(), "cancelled", "{}", result.text());
    let asked = client.asked();
    assert_eq!(asked.len(), 1);
    assert_no_canary(asked[0].to_string(), "a question");
    asked[0]["message"].as_str().unwrap().to_owned()
}

/// Nothing that a terminal or a reader's eye would act on; lines only where the product put them.
#[track_caller]
fn assert_plain(message: &str) {
    for character in message.chars().filter(|character| *character != '\n') {
        let invisible = character.is_control()
            || matches!(character, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{e0000}'..='\u{e0fff}');
        assert!(!invisible, "{character:?} in {message:?}");
    }
    for line in message.lines().skip(1) {
        let product = ["  + ", "  ~ ", "  - ", "  ! "].iter().any(|sign| line.starts_with(sign));
        assert!(product, "a line that the product did not write: {line:?} in {message}");
    }
    assert!(message.len() < 4096, "{} bytes", message.len());
}

#[test]
fn the_first_line_says_what_happens_to_what() {
    for era in eras() {
        let scene = Scene::new();
        let target = format!("secret/mcp/{}/app", scene.subject);
        let data = json!({"DB_PASSWORD": canary("p"), "API_KEY": format!("$(id) {}", canary("p"))});
        let message = question(&scene, era.clone(), "kv_write", json!({"path": "app", "data": data}));
        let lines: Vec<_> = message.lines().collect();
        assert!(lines[0].starts_with(&format!("CREATE {target} — 2 keys · id ")), "{message}");
        assert!(lines[1].contains("+ API_KEY") && lines[1].contains("+ DB_PASSWORD"), "{message}");
        assert_eq!(lines[2], "  ! API_KEY: command substitution $(…)", "{message}");
        assert_plain(&message);

        vault().write_secret(&scene.subject, "app", json!({"DB_PASSWORD": "old", "OTHER": "x"}));
        let message = question(&scene, era.clone(), "kv_write", json!({"path": "app", "data": data}));
        assert!(message.starts_with(&format!("REPLACE {target}")), "{message}");
        for part in ["~ DB_PASSWORD", "+ API_KEY", "- OTHER"] {
            assert!(message.contains(part), "{part} in {message}");
        }
        for (tool, arguments, verb) in [
            ("kv_patch", json!({"path": "app", "data": {"OTHER": null}}), "UPDATE "),
            ("kv_delete", json!({"path": "app"}), "DELETE "),
            ("kv_destroy", json!({"path": "app", "versions": [1]}), "DESTROY "),
        ] {
            let message = question(&scene, era.clone(), tool, arguments);
            assert!(message.starts_with(&format!("{verb}{target}")), "{message}");
            assert_plain(&message);
        }
    }
}

/// Names that somebody else put into Vault, by its own HTTP API, where anything goes.
#[test]
fn names_found_in_vault_cannot_write_the_question() {
    let scene = Scene::new();
    let long = "k".repeat(10_000);
    let hostile = [
        "\u{1b}[2J\u{1b}[HCREATE nothing",
        "\u{1b}]0;title\u{7}",
        "\u{9b}31mred",
        "A\nCREATE secret/harmless — 1 keys · id 0000",
        "A\r\nB",
        "\u{202e}drowssap",
        "zero\u{200b}width",
        "tag\u{e0041}\u{e007f}",
        "line\u{2028}separator",
        "back\\slash\\n",
        "del\u{7f}",
        "space   + FAKE",
        long.as_str(),
    ];
    let data: Map<String, Value> = hostile.iter().map(|name| ((*name).to_owned(), json!("x"))).collect();
    vault().write_secret(&scene.subject, "app", Value::Object(data));
    for era in eras() {
        let message = question(&scene, era, "kv_write", json!({"path": "app", "data": {"A": "b"}}));
        assert!(message.starts_with(&format!("REPLACE secret/mcp/{}/app", scene.subject)), "{message}");
        assert_plain(&message);
        assert!(!message.contains(&"k".repeat(100)), "{message}");
        // A name that would look like another entry stands in quotes.
        assert!(message.contains("- \"space   + FAKE\""), "{message}");
    }
}

/// Names that a caller gives are refused before anybody is asked.
#[test]
fn hostile_names_in_a_call_are_refused_unasked() {
    let scene = Scene::new();
    let client = scene.client(Era::usual());
    for name in [
        "\u{1b}[2J".to_owned(),
        "A\nB".to_owned(),
        "\u{202e}x".to_owned(),
        "x\u{200b}".to_owned(),
        "k".repeat(257),
        "k".repeat(10_240),
        String::new(),
    ] {
        let before = scene.proxy.count();
        let result = client.call("kv_write", json!({"path": "app", "data": {name: canary("n")}}));
        assert_stopped(&scene, &result, "invalid_input");
        assert_eq!(scene.proxy.count(), before);
    }
    assert!(client.asked().is_empty());
}

#[test]
fn a_thousand_keys_and_warnings_fit_into_a_question() {
    let scene = Scene::new();
    let data: Map<String, Value> = (0..1000)
        .map(|i| (format!("KEY_{i}_{}", "ß".repeat(100)), json!(format!("$(x)`y`;&&|| {}", canary("n")))))
        .collect();
    let message = question(&scene, Era::usual(), "kv_write", json!({"path": "app", "data": data}));
    assert!(message.contains("1000 keys") && message.contains("… and 988 more"), "{message}");
    assert!(message.contains("more warnings"), "{message}");
    assert_plain(&message);
}
