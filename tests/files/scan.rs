//! vault_scan_env, vault_scan_compose.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::Scene;
use crate::common::{self, ToolResult, assert_no_canary, assert_refused};

/// A secret that only its name gives away: with a blank it does not look like a random text.
fn canary(name: &str) -> String {
    format!("{} x", common::canary(name))
}

/// `name@place` → what it looks like, what Vault has.
fn entries(result: &ToolResult) -> BTreeMap<String, (String, String)> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let all = result.ok()["entries"].as_array().unwrap();
    all.iter()
        .map(|entry| {
            (
                format!("{}@{}", text(&entry["name"]), text(&entry["at"])),
                (text(&entry["looks"]), text(&entry["vault"])),
            )
        })
        .collect()
}

#[track_caller]
fn assert_found(result: &ToolResult, wanted: &[(&str, &str, &str)]) {
    assert_no_canary(result.0.to_string(), "the answer of a scan");
    let wanted: BTreeMap<_, _> = wanted
        .iter()
        .map(|(at, looks, vault)| ((*at).to_owned(), ((*looks).to_owned(), (*vault).to_owned())))
        .collect();
    assert_eq!(entries(result), wanted);
}

#[test]
fn an_env_file_is_told_apart_by_look_and_by_what_vault_has() {
    let scene = Scene::new();
    let (same, other) = (canary("same"), canary("other"));
    scene.secret(json!({"DB_PASSWORD": same, "API_KEY": canary("vault"), "PORT": 5432, "QUOTED": "it's", "PLAIN": same}));
    scene.write(
        ".env",
        &format!(
            "# {other}\nDB_PASSWORD='{same}'\nAPI_KEY={other}\nPORT=5432\nQUOTED=\"it's\"\nNEW_TOKEN={other} # c\nURL=postgres://u:{other}@h/d\nLOG=info\nEMPTY_SECRET=\nREF_SECRET=${{X}}\n'{other}\n"
        ),
    );
    let result = scene.client.call("vault_scan_env", json!({"service": "shop", "file_path": ".env"}));
    assert_found(
        &result,
        &[
            ("DB_PASSWORD@line 2", "name", "same"),
            ("API_KEY@line 3", "name", "different"),
            ("PORT@line 4", "-", "same"),
            ("QUOTED@line 5", "-", "same"),
            ("NEW_TOKEN@line 6", "name", "-"),
            ("URL@line 7", "URL with a password", "-"),
        ],
    );
    assert_eq!(result.ok()["others"], 3);
    assert_eq!(result.ok()["unread"], json!(["line 11 is no NAME=value, comment or blank line"]));
    assert_eq!(
        result.ok()["offer"],
        json!({"tool": "vault_set", "service": "shop", "keys": ["NEW_TOKEN", "URL"]})
    );
    assert!(scene.client.asked().is_empty());
    let records = scene.records();
    let success = records.iter().find(|record| record["action"] == "SUCCESS").unwrap();
    assert_eq!(success["keys"].as_array().unwrap().len(), 6, "{success}");
}

#[test]
fn a_service_that_is_not_there_yet_has_nothing_and_the_offer_has_all() {
    let scene = Scene::new();
    scene.write("x.env", &format!("A_SECRET={}\nB=1\n", canary("none")));
    let result = scene.client.call("vault_scan_env", json!({"service": "new", "file_path": "x.env"}));
    assert_found(&result, &[("A_SECRET@line 1", "name", "-")]);
    assert_eq!(result.ok()["offer"]["keys"], json!(["A_SECRET"]));
}

#[test]
fn a_line_that_is_a_part_of_a_value_is_not_shown_as_a_name() {
    let scene = Scene::new();
    let part = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASC1x2y3z";
    scene.write(".env", &format!("{part}==\nghp_0123456789abcdefghijABCDEFGHIJ012345=x\nA=1\n"));
    for call in ["vault_scan_env", "vault_generate_example"] {
        let result = scene.client.call(call, json!({"service": "shop", "file_path": ".env"}));
        assert!(
            !result.0.to_string().contains("MIIE") && !result.0.to_string().contains("ghp_"),
            "{}",
            result.0
        );
    }
}

#[test]
fn a_file_full_of_guesses_finds_out_nothing() {
    let scene = Scene::new();
    scene.secret(json!({"PIN": "4711"}));
    let guesses: String =
        (0..10_000).map(|guess| format!("PIN={guess:04}\nPIN{guess}={guess:04}\n")).collect();
    scene.write(".env", &guesses);
    let result = scene.client.call("vault_scan_env", json!({"service": "shop", "file_path": ".env"}));
    assert_eq!(entries(&result)["PIN@line 19999"].1, "different");
    assert!(!result.0.to_string().contains("same"));
    let mut compose = "services:\n".to_owned();
    for guess in 4700..4720 {
        compose.push_str(&format!("  s{guess}:\n    environment:\n      PIN: \"{guess}\"\n"));
    }
    scene.write("compose.yml", &compose);
    let result =
        scene.client.call("vault_scan_compose", json!({"service": "shop", "file_path": "compose.yml"}));
    let words: Vec<_> = entries(&result).into_values().map(|(_, vault)| vault).collect();
    assert_eq!(words.iter().filter(|word| *word == "different").count(), 3, "{words:?}");
    assert_eq!(words.iter().filter(|word| *word == "not compared").count(), 17, "{words:?}");
}

#[test]
fn a_compose_file_is_read_in_all_its_forms() {
    let scene = Scene::new();
    let (same, other) = (canary("compose"), canary("else"));
    scene.secret(json!({"DB_PASSWORD": same, "SHARED_TOKEN": same}));
    scene.write(
        "deploy/compose.yaml",
        &format!(
            "x-env: &env\n  SHARED_TOKEN: {same}\n  LEVEL: info\nservices:\n  web:\n    environment:\n      <<: *env\n      DB_PASSWORD: {same}\n      FROM: ${{HOME_TOKEN}}\n    env_file: ./web.env\n    build:\n      context: .\n      args:\n        - BUILD_TOKEN={other}\n        - BARE_TOKEN\n  job:\n    environment:\n      - DB_PASSWORD={other}\n      - {other}\n    env_file:\n      - path: ../outside.env\n      - missing.env\n      - web.env\n"
        ),
    );
    scene.write("deploy/web.env", &format!("WEB_SECRET={other}\nX=1\n"));
    scene.write("outside.env", &format!("OUT_SECRET={other}\n"));
    let call = json!({"service": "shop", "file_path": "deploy/compose.yaml"});
    let result = scene.client.call("vault_scan_compose", call);
    assert_found(
        &result,
        &[
            ("SHARED_TOKEN@services.web.environment", "name", "same"),
            ("DB_PASSWORD@services.web.environment", "name", "same"),
            ("BUILD_TOKEN@services.web.build.args", "name", "-"),
            ("DB_PASSWORD@services.job.environment", "name", "different"),
            ("WEB_SECRET@services.web.env_file ./web.env line 1", "name", "-"),
        ],
    );
    let unread = result.ok()["unread"].to_string();
    assert!(
        unread.contains("../outside.env: '.', '..'") && unread.contains("missing.env: there is no such"),
        "{unread}"
    );
    assert_eq!(result.ok()["offer"]["keys"], json!(["BUILD_TOKEN", "WEB_SECRET"]));
    scene.write("x.yml", "a: 1\n");
    let refused = scene.client.call("vault_scan_compose", json!({"service": "shop", "file_path": "x.yml"}));
    assert_refused(&refused, "file_unreadable");
}

#[test]
fn a_file_with_secrets_that_git_would_commit_is_warned_of() {
    let scene = Scene::new();
    scene.git(&["init", "-q"]);
    scene.write("a.env", "LEVEL=info\n");
    scene.write("b.env", &format!("A_SECRET={}\n", canary("git")));
    let scan =
        |file: &str| scene.client.call("vault_scan_env", json!({"service": "shop", "file_path": file}));
    assert!(scan("a.env").ok().get("warnings").is_none());
    assert!(scan("b.env").ok()["warnings"][0].as_str().unwrap().contains("does not ignore b.env"));
}
