//! vault_inject.

use std::os::unix::fs::PermissionsExt;

use serde_json::json;

use super::{Scene, mode};
use crate::common::{Answer, assert_no_canary, assert_refused, canary};

#[test]
fn a_new_env_file_gets_the_values_and_the_answer_does_not() {
    let scene = Scene::new();
    let secret = canary("new");
    scene.secret(json!({"DB": secret, "PORT": 5432, "ON": true, "LIST": ["a", 1]}));
    let result = scene.client.call("vault_inject", json!({"service": "shop"}));
    assert_eq!(scene.read(".env"), format!("DB='{secret}'\nLIST='[\"a\",1]'\nON='true'\nPORT='5432'\n"));
    assert_eq!(mode(scene.path(".env")), 0o600);
    assert_eq!(result.ok()["keys"], json!(["DB", "LIST", "ON", "PORT"]));
    assert_eq!(result.ok()["file"], scene.path(".env").canonicalize().unwrap().to_str().unwrap());
    assert!(result.ok().get("backup").is_none() && result.ok().get("warnings").is_none(), "{}", result.0);
    assert_no_canary(result.0.to_string(), "the answer");
    assert_eq!(scene.names(), [".env"]);
}

#[test]
fn the_human_sees_file_keys_and_what_happens_to_them() {
    let scene = Scene::new();
    scene.write(".env", "OLD=1\nDB=old\n");
    scene.secret(json!({"DB": canary("shown"), "CMD": "$(id)"}));
    scene.client.always(Answer::Decline);
    assert_refused(&scene.client.call("vault_inject", json!({"service": "shop"})), "declined");
    assert_eq!((scene.read(".env"), scene.names()), ("OLD=1\nDB=old\n".into(), vec![".env".into()]));
    let question = scene.question();
    assert_no_canary(&question, "the question");
    let first =
        format!("INJECT secret/mcp/{}/shop → .env — the file exists, a backup is made", scene.subject);
    assert!(question.starts_with(&first), "{question}");
    for part in ["~ DB", "+ CMD", "! CMD: command substitution $(…)"] {
        assert!(question.contains(part), "{part} is not in: {question}");
    }
    let records = scene.records();
    let asked = records.iter().find(|record| record["action"] == "CONFIRMATION_REQUIRED").unwrap();
    assert_eq!(asked["keys"], json!(["DB", "CMD"]), "{asked}");
}

#[test]
fn an_existing_env_file_keeps_comments_order_and_foreign_keys_and_has_a_backup() {
    let scene = Scene::new();
    let secret = canary("kept");
    let old = "# shop\nexport DB=\"old\" # main\n\nFOREIGN='x y'\nAPI=1";
    scene.write(".env", old);
    std::fs::set_permissions(scene.path(".env"), std::fs::Permissions::from_mode(0o644)).unwrap();
    scene.secret(json!({"DB": secret, "API": "it's", "NEW": ""}));
    let result = scene.client.call("vault_inject", json!({"service": "shop"}));
    let backup = result.ok()["backup"].as_str().unwrap();
    assert_eq!(
        scene.read(".env"),
        format!("# shop\nexport DB='{secret}' # main\n\nFOREIGN='x y'\nAPI=\"it's\"\nNEW=''\n")
    );
    assert_eq!(std::fs::read_to_string(backup).unwrap(), old);
    assert_eq!((mode(scene.path(".env")), mode(backup)), (0o600, 0o600));
    let name = backup.rsplit('/').next().unwrap();
    let stamp = name.strip_prefix(".env.").and_then(|rest| rest.strip_suffix(".bak")).unwrap();
    assert!(stamp.len() == 15 && stamp.split('-').all(|part| part.parse::<u64>().is_ok()), "{name}");
    assert_eq!(scene.names().len(), 2, "{:?}", scene.names());
}

#[test]
fn a_template_is_filled_and_what_only_the_old_file_had_is_shown_as_removed() {
    let scene = Scene::new();
    let secret = canary("template");
    scene.write("config/.env.example", &format!(
        "# from Vault\nURL='secretref://secret/mcp/{}/shop#DB'\nOTHER='secretref://secret/mcp/nobody/shop#X'\nPORT=1\n",
        scene.subject
    ));
    scene.write("config/.env", "GONE=1\nPORT=2\n");
    scene.secret(json!({"DB": secret}));
    let call = json!({"service": "shop", "target": "config/.env", "template": "config/.env.example"});
    let result = scene.client.call("vault_inject", call);
    let text = scene.read("config/.env");
    assert!(text.starts_with(&format!("# from Vault\nURL='{secret}'\nOTHER='secretref://")), "{text}");
    assert_eq!((&result.ok()["keys"], &result.ok()["unresolved"]), (&json!(["URL"]), &json!(["OTHER"])));
    let question = scene.question();
    assert!(question.contains("+ URL") && question.contains("- GONE"), "{question}");
    assert!(question.contains("Still a reference, no value: OTHER"), "{question}");
    assert!(question.contains("from config/.env.example"), "{question}");
    assert!(std::fs::read_to_string(result.ok()["backup"].as_str().unwrap()).unwrap().starts_with("GONE=1"));
}

#[test]
fn a_yaml_file_is_edited_in_place_and_its_placeholders_are_filled() {
    let scene = Scene::new();
    let secret = canary("yaml");
    scene.secret(json!({"DB": secret, "PORT": 5432, "LIST": ["a: b", null]}));
    scene.write("app.yml", "# app\nDB: old # main\nother:\n  DB: x\n");
    let result = scene.client.call("vault_inject", json!({"service": "shop", "target": "app.yml"}));
    assert_eq!(
        scene.read("app.yml"),
        format!("# app\nDB: \"{secret}\" # main\nother:\n  DB: x\nLIST: [\"a: b\", null]\nPORT: 5432\n")
    );
    assert_eq!(result.ok()["keys"], json!(["DB", "LIST", "PORT"]));
    scene.write("deep.tmpl", "db:\n  password: ${DB} # here\n  port: \"${PORT}\"\n");
    let call = json!({"service": "shop", "target": "deep.yaml", "template": "deep.tmpl"});
    let result = scene.client.call("vault_inject", call);
    assert_eq!(scene.read("deep.yaml"), format!("db:\n  password: \"{secret}\" # here\n  port: 5432\n"));
    assert_eq!(result.ok()["unplaced"], json!(["LIST"]));
    assert_no_canary(result.0.to_string(), "the answer");
}

#[test]
fn a_value_or_a_name_that_the_file_cannot_carry_is_refused_by_name_and_nothing_is_written() {
    let scene = Scene::new();
    let tail = canary("carried");
    for (data, names) in [
        (json!({"OK": tail, "BAD": format!("{tail}\\")}), "BAD (a backslash at the end)"),
        (json!({"OK": tail, "BAD": format!("${{HOME}}{tail}")}), "BAD (${, which"),
        (json!({"OK": tail, "NIL": null}), "NIL (null)"),
        (json!({"OK": tail, "PATH": tail, "LD_PRELOAD": tail}), "PATH (a name that steers programs)"),
        (json!({"__proto__": tail}), "__proto__ (a name that steers"),
        (json!({"=X": tail}), "=X (no name"),
        (json!({"BASH_ENV": tail}), "BASH_ENV (a name"),
        (json!({"IFS": tail}), "IFS (a name"),
        (json!({"a-b": tail}), "a-b (no name of a shell variable)"),
    ] {
        scene.secret(data.clone());
        let result = scene.client.call("vault_inject", json!({"service": "shop"}));
        assert_refused(&result, "not_carried");
        assert!(result.text().contains(names), "{data}: {}", result.text());
        assert!(!result.text().contains("OK ("), "{}", result.text());
    }
    assert!(scene.names().is_empty() && scene.client.asked().is_empty(), "{:?}", scene.names());
    // Another dialect, or YAML, carries what it can.
    scene.secret(json!({"BAD": format!("{tail}\\'${{x}}")}));
    let call = json!({"service": "shop", "dialect": "shell"});
    scene.client.call("vault_inject", call).ok();
    assert_eq!(scene.read(".env"), format!("BAD='{tail}\\'\\''${{x}}'\n"));
    scene.client.call("vault_inject", json!({"service": "shop", "target": "x", "format": "yaml"})).ok();
    assert_eq!(scene.read("x"), format!("BAD: \"{tail}\\\\'${{x}}\"\n"));
    scene.records();
}

#[test]
fn what_is_asked_for_wrongly_is_said() {
    let scene = Scene::new();
    scene.secret(json!({"A": "1"}));
    for (call, code) in [
        (json!({"service": "shop", "target": "settings.toml"}), "invalid_input"),
        (json!({"service": "shop", "dialect": "fish"}), "invalid_input"),
        (json!({"service": "shop", "format": "json"}), "invalid_input"),
        (json!({"service": "shop", "target": ""}), "invalid_input"),
        (json!({"service": "shop", "target": "a\u{202e}.env"}), "invalid_input"),
        (json!({"service": "none"}), "invalid_path"),
        (json!({"service": "shop", "template": "missing.env"}), "file_unreadable"),
        (json!({"service": "shop", "target": "no/such/folder/.env"}), "file_refused"),
    ] {
        assert_refused(&scene.client.call("vault_inject", call), code);
    }
    assert!(scene.names().is_empty());
}

#[test]
fn a_file_that_git_would_commit_is_warned_of_before_and_after() {
    let scene = Scene::new();
    scene.secret(json!({"A": "1"}));
    scene.git(&["init", "-q"]);
    let result = scene.client.call("vault_inject", json!({"service": "shop"}));
    let warning = "git does not ignore .env and its backups";
    assert!(result.ok()["warnings"][0].as_str().unwrap().starts_with(warning), "{}", result.0);
    assert!(scene.question().contains(warning), "{}", scene.question());
    scene.write(".gitignore", ".env\n.env.*\n");
    let result = scene.client.call("vault_inject", json!({"service": "shop"}));
    assert!(result.ok().get("warnings").is_none(), "{}", result.0);
    assert!(!scene.question().contains("git"), "{}", scene.question());
}

#[test]
fn the_log_names_the_keys_and_the_file_and_no_value() {
    let scene = Scene::new();
    scene.secret(json!({"DB": canary("log"), "API": canary("log")}));
    scene.client.call("vault_inject", json!({"service": "shop", "target": ".env.local"})).ok();
    let records = scene.records();
    let of = |action: &str| {
        let found =
            records.iter().find(|record| record["action"] == action && record["op"] == "vault_inject");
        found.unwrap_or_else(|| panic!("no {action}: {records:#?}")).clone()
    };
    for action in ["CONFIRMATION_REQUIRED", "REQUEST", "SUCCESS"] {
        let record = of(action);
        assert_eq!(record["target"], format!("secret/mcp/{}/shop → .env.local", scene.subject));
        assert_eq!(record["keys"], json!(["API", "DB"]), "{action}");
        assert_eq!(record["effect"], "write");
    }
}

#[test]
fn a_secret_or_a_file_that_changes_before_the_yes_is_asked_about_again() {
    let scene = Scene::new();
    scene.secret(json!({"A": "1"}));
    let (subject, path) = (scene.subject.clone(), scene.path(".env"));
    let mut times = 0;
    scene.client.human(move |_| {
        times += 1;
        match times {
            1 => {
                crate::common::vault().write_secret(&subject, "shop", json!({"A": "2", "B": "3"}));
            }
            2 => std::fs::write(&path, "FOREIGN=1\n").unwrap(),
            _ => {}
        }
        Answer::yes()
    });
    scene.client.call("vault_inject", json!({"service": "shop"})).ok();
    assert_eq!(scene.client.asked().len(), 3);
    assert_eq!(scene.read(".env"), "FOREIGN=1\nA='2'\nB='3'\n");
}

#[test]
fn blocked_patterns_and_a_read_only_server_write_nothing() {
    let scene = Scene::with(&[("DANGEROUS_PATTERNS", "block")]);
    scene.secret(json!({"A": "$(id)", "B": "x"}));
    let result = scene.client.call("vault_inject", json!({"service": "shop"}));
    assert_refused(&result, "dangerous_pattern");
    assert!(result.text().contains(": A.") && scene.names().is_empty(), "{}", result.text());
    let scene = Scene::with(&[("READ_ONLY", "true")]);
    assert_refused(&scene.client.call("vault_inject", json!({"service": "shop"})), "unknown_tool");
    let names: Vec<_> = scene.client.tools().iter().map(|tool| tool["name"].clone()).collect();
    assert!(names.contains(&json!("vault_scan_env")) && !names.contains(&json!("vault_inject")));
}
