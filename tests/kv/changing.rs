//! Write, patch, rollback, generate, delete, undelete, destroy.

use serde_json::{Value, json};

use super::{question, session};
use crate::common::{
    Answer, McpClient, Proxy, Server, assert_no_canary, assert_refused, canary, unique, vault,
};
use crate::common::{Era, Fault, Gate, On};

#[test]
fn a_write_creates_then_replaces_and_the_human_is_told_which() {
    let (subject, client) = session(&[]);
    let secret = canary("write");
    let first = client.call("kv_write", json!({"path": "app", "data": {"A": secret, "B": secret}}));
    assert_eq!((&first.ok()["path"], &first.ok()["version"]), (&json!("app"), &json!(1)));
    assert!(first.ok()["created_time"].is_string());
    let asked = question(&client);
    assert!(asked.starts_with(&format!("CREATE secret/mcp/{subject}/app — 2 keys · id ")), "{asked}");
    assert!(asked.contains("+ A") && asked.contains("+ B"), "{asked}");
    let second = client.call("kv_write", json!({"path": "app", "data": {"A": "x", "C": secret}}));
    assert_eq!(second.ok()["version"], 2);
    let asked = question(&client);
    assert!(asked.starts_with("REPLACE ") && asked.contains("replaces version 1"), "{asked}");
    assert!(asked.contains("~ A") && asked.contains("+ C") && asked.contains("- B"), "{asked}");
    assert_eq!(vault().secret(&subject, "app"), json!({"A": "x", "C": secret}));
    assert_no_canary(serde_json::to_string(&client.asked()).unwrap(), "a question");
}

#[test]
fn a_write_over_a_deleted_version_says_so() {
    let (subject, client) = session(&[]);
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    vault().delete(&format!("secret/data/mcp/{subject}/app")).ok();
    assert_eq!(client.call("kv_write", json!({"path": "app", "data": {"A": "2"}})).ok()["version"], 2);
    let asked = question(&client);
    assert!(asked.starts_with("CREATE ") && asked.contains("after version 1, which is deleted"), "{asked}");
}

#[test]
fn what_is_no_text_is_kept_as_it_is() {
    let (subject, client) = session(&[]);
    let data = json!({
        "int": 9_007_199_254_740_992_u64, "negative": -5, "float": 0.125, "yes": true, "null": null,
        "list": [1, "two", null, [3]], "tree": {"a": {"b": [false]}}, "empty": "", "unicode": "ä\u{1f600}\u{202e}",
    });
    client.call("kv_write", json!({"path": "types", "data": data})).ok();
    assert_eq!(vault().secret(&subject, "types"), data);
    let patched = client.call("kv_patch", json!({"path": "types", "data": {"int": 7, "list": [null, 0]}}));
    assert_eq!(patched.ok()["version"], 2);
    let mut expected = data;
    expected["int"] = json!(7);
    expected["list"] = json!([null, 0]);
    assert_eq!(vault().secret(&subject, "types"), expected);
}

#[test]
fn a_number_that_vault_would_round_is_refused_and_never_stored_rounded() {
    let (subject, client) = session(&[]);
    for (index, number) in [
        "9007199254740993",
        "-9007199254740993",
        "9223372036854775807",
        "9223372036854775808",
        "1e999",
        "0.1234567890123456789",
    ]
    .iter()
    .enumerate()
    {
        let path = format!("n{index}");
        let data: Value = serde_json::from_str(&format!(r#"{{"a": [{number}]}}"#)).unwrap();
        assert_refused(&client.call("kv_write", json!({"path": path, "data": data})), "invalid_input");
        assert_eq!(vault().version(&subject, &path), 0);
    }
    assert!(client.asked().is_empty());
}

#[test]
fn a_caller_s_own_check_and_set_is_kept() {
    let (subject, client) = session(&[]);
    let write = |cas: u64| client.call("kv_write", json!({"path": "app", "data": {"A": cas}, "cas": cas}));
    assert_refused(&write(1), "conflict");
    assert_eq!(write(0).ok()["version"], 1);
    assert_refused(&write(0), "conflict");
    assert_eq!(write(1).ok()["version"], 2);
    assert_eq!(client.asked().len(), 2, "a human was asked about a write that could not succeed");
    let patch = |cas: u64| client.call("kv_patch", json!({"path": "app", "data": {"B": cas}, "cas": cas}));
    assert_refused(&patch(1), "conflict");
    assert_eq!(patch(2).ok()["version"], 3);
    let generate = |cas: u64| client.call("kv_generate", json!({"path": "app", "key": "C", "cas": cas}));
    assert_refused(&generate(2), "conflict");
    assert_eq!(generate(3).ok()["version"], 4);
    assert_eq!(vault().version(&subject, "app"), 4);
    for cas in [json!(-1), json!("0"), json!(1.0), json!(u64::MAX)] {
        let call = json!({"path": "app", "data": {"A": "x"}, "cas": cas});
        assert_refused(&client.call("kv_write", call), "invalid_input");
    }
}

#[test]
fn a_secret_that_changed_while_the_human_read_is_asked_about_again() {
    let (subject, client) = session(&[]);
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    let (other, mut asked) = (subject.clone(), 0);
    client.human(move |_| {
        asked += 1;
        if asked == 1 {
            vault().write_secret(&other, "app", json!({"A": "somebody else's", "Z": "new"}));
        }
        Answer::yes()
    });
    let result = client.call("kv_write", json!({"path": "app", "data": {"A": "mine"}}));
    let asked = client.asked();
    assert_eq!(asked.len(), 2);
    let again = asked[1]["message"].as_str().unwrap();
    assert!(again.contains("changed since you were asked") && again.contains("- Z"), "{again}");
    assert_eq!(result.ok()["version"], 3);
}

#[test]
fn a_write_carries_the_previewed_version_to_vault() {
    let subject = vault().fresh_subject();
    let proxy = Proxy::new(vault());
    let client = through(&proxy, &subject);
    client.call("kv_write", json!({"path": "app", "data": {"A": "1"}})).ok();
    client.call("kv_patch", json!({"path": "app", "data": {"A": "2"}})).ok();
    client.call("kv_generate", json!({"path": "app", "key": "G"})).ok();
    client.call("kv_rollback", json!({"path": "app", "version": 1})).ok();
    client.call("vault_set", json!({"service": "app", "secrets": {"S": "3"}})).ok();
    let writes = proxy.writes();
    let sent: Vec<_> =
        writes.iter().map(|sent| (sent.method.as_str(), sent.json()["options"]["cas"].as_u64())).collect();
    let expected =
        [("POST", Some(0)), ("PATCH", Some(1)), ("PATCH", Some(2)), ("POST", Some(3)), ("PATCH", Some(4))];
    assert_eq!(sent, expected);
    // A write by somebody else between the second look and the write itself loses against check-and-set.
    let gate = Gate::new();
    proxy.fail(On::target("/secret/data/").method("POST"), Fault::Hold(gate.clone()));
    let pending = client.start_call("kv_write", json!({"path": "app", "data": {"A": "mine"}}));
    proxy.wait_for("the late write", |sent| sent.method == "POST" && sent.json()["data"]["A"] == "mine");
    vault().write_secret(&subject, "app", json!({"A": "theirs"}));
    gate.open();
    let result = crate::common::ToolResult(pending.wait().unwrap());
    assert_refused(&result, "conflict");
    assert_eq!(vault().secret(&subject, "app"), json!({"A": "theirs"}));
}

fn through(proxy: &Proxy, subject: &str) -> McpClient {
    let client = Server::of(vault(), subject)
        .env("VAULT_ADDR", &proxy.address)
        .env("RATE_LIMIT_ENABLED", "false")
        .spawn()
        .connect(Era::usual());
    client.always(Answer::yes());
    client
}

#[test]
fn a_patch_adds_changes_and_removes_and_leaves_the_rest() {
    let (subject, client) = session(&[]);
    let secret = canary("patch");
    vault().write_secret(
        &subject,
        "app",
        json!({"KEEP": secret, "CHANGE": 1, "DROP": "x", "NULL": null, "TREE": {"a": 1}}),
    );
    let data = json!({"CHANGE": [2], "DROP": null, "NEW": {"x": 3}});
    let result = client.call("kv_patch", json!({"path": "app", "data": data}));
    assert_eq!(result.ok()["version"], 2);
    let asked = question(&client);
    assert!(asked.starts_with("UPDATE ") && asked.contains("3 keys of version 1"), "{asked}");
    assert!(asked.contains("~ CHANGE") && asked.contains("- DROP") && asked.contains("+ NEW"), "{asked}");
    let now = vault().secret(&subject, "app");
    assert_eq!(now["KEEP"], secret);
    assert_eq!(
        (&now["CHANGE"], &now["NEW"], &now["TREE"]),
        (&json!([2]), &json!({"x": 3}), &json!({"a": 1}))
    );
    assert!(now.get("DROP").is_none() && now.as_object().unwrap().contains_key("NULL"), "{now}");
}

#[test]
fn there_is_nothing_to_patch_where_nothing_is_and_nobody_is_asked() {
    let (subject, client) = session(&[]);
    assert_refused(&client.call("kv_patch", json!({"path": "none", "data": {"A": "1"}})), "invalid_path");
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    vault().delete(&format!("secret/data/mcp/{subject}/app")).ok();
    assert_refused(&client.call("kv_patch", json!({"path": "app", "data": {"A": "1"}})), "version_gone");
    assert!(client.asked().is_empty(), "{:?}", client.asked());
}

#[test]
fn a_rollback_writes_the_old_content_as_a_new_version() {
    let (subject, client) = session(&[]);
    let old = json!({"A": canary("old"), "N": 1, "L": [null]});
    vault().write_secret(&subject, "app", old.clone());
    vault().write_secret(&subject, "app", json!({"A": "x", "B": "y", "N": 1}));
    assert_eq!(client.call("kv_rollback", json!({"path": "app", "version": 1})).ok()["version"], 3);
    let asked = question(&client);
    assert!(
        asked.starts_with("ROLLBACK ") && asked.contains("from version 2 to the content of version 1"),
        "{asked}"
    );
    assert!(
        asked.contains("~ A") && asked.contains("- B") && asked.contains("+ L") && !asked.contains("~ N"),
        "{asked}"
    );
    assert_eq!(vault().secret(&subject, "app"), old);
    assert_refused(&client.call("kv_rollback", json!({"path": "app", "version": 9})), "invalid_path");
    vault().put(&format!("secret/destroy/mcp/{subject}/app"), json!({"versions": [2]})).ok();
    assert_refused(&client.call("kv_rollback", json!({"path": "app", "version": 2})), "version_gone");
}

#[test]
fn a_generated_value_is_random_fits_its_set_and_is_shown_to_nobody() {
    let (subject, client) = session(&[]);
    let sets = [
        (json!({}), 32, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"),
        (json!({"charset": "hex", "length": 8}), 8, "0123456789abcdef"),
        (json!({"charset": "digits", "length": 1024}), 1024, "0123456789"),
    ];
    let mut seen = Vec::new();
    for (index, (more, length, set)) in sets.iter().enumerate() {
        let mut arguments = json!({"path": "made", "key": format!("K{index}")});
        arguments.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        client.call("kv_generate", arguments).ok();
        let stored = vault().secret(&subject, "made")[format!("K{index}")].as_str().unwrap().to_owned();
        assert_eq!(stored.len(), *length);
        assert!(stored.chars().all(|letter| set.contains(letter)), "{stored}");
        seen.push(stored);
    }
    let all = vault().secret(&subject, "made");
    assert_eq!(all.as_object().unwrap().len(), 3, "other keys were lost: {all}");
    let said = String::from_utf8_lossy(&client.server().stdout()).into_owned() + &client.server().stderr();
    assert!(seen.iter().all(|value| !said.contains(value)), "a generated value was said");
    assert!(question(&client).contains("a random value"));
    for length in [0, 7, 1025] {
        let call = json!({"path": "made", "key": "K", "length": length});
        assert_refused(&client.call("kv_generate", call), "invalid_input");
    }
    assert_refused(
        &client.call("kv_generate", json!({"path": "made", "key": "K", "charset": "all"})),
        "invalid_input",
    );
}

#[test]
fn a_generated_value_leaves_keys_of_any_type_alone() {
    let (subject, client) = session(&[]);
    vault().write_secret(&subject, "app", json!({"N": 5, "L": [null, {"a": 1.5}], "Z": null}));
    client.call("kv_generate", json!({"path": "app", "key": "N"})).ok();
    let now = vault().secret(&subject, "app");
    assert!(now["N"].is_string() && now["L"] == json!([null, {"a": 1.5}]), "{now}");
    assert!(now.as_object().unwrap().contains_key("Z"));
}

#[test]
fn delete_undelete_and_destroy_do_what_they_say_to_the_versions_named() {
    let (subject, client) = session(&[]);
    for number in 1..=4 {
        vault().write_secret(&subject, "app", json!({"A": number}));
    }
    let state = |number: &str| {
        let versions = vault().versions(&subject, "app");
        let version = &versions[number];
        (version["deletion_time"] != "", version["destroyed"] == true)
    };
    let newest = client.call("kv_delete", json!({"path": "app"}));
    assert_eq!(newest.ok(), &json!({"path": "app", "versions": [4]}));
    assert!(
        question(&client).contains("DELETE") && question(&client).contains("version 4"),
        "{}",
        question(&client)
    );
    assert_eq!(state("4"), (true, false));

    let named = client.call("kv_delete", json!({"path": "app", "versions": [2, 1, 2]}));
    assert_eq!(named.ok()["versions"], json!([1, 2]));
    assert_eq!((state("1").0, state("2").0, state("3").0), (true, true, false));

    client.call("kv_undelete", json!({"path": "app", "versions": [2, 4]})).ok();
    assert!(question(&client).starts_with("UNDELETE "));
    assert_eq!((state("1").0, state("2").0, state("4").0), (true, false, false));
    assert_eq!(vault().secret(&subject, "app"), json!({"A": 4}));

    client.call("kv_destroy", json!({"path": "app", "versions": [3]})).ok();
    assert!(question(&client).starts_with("DESTROY ") && question(&client).contains("for good"));
    assert_eq!(state("3"), (false, true));
    assert_eq!(vault().secret_version(&subject, "app", 2), json!({"A": 2}));
}

#[test]
fn versions_that_are_not_there_are_refused_before_anybody_is_asked() {
    let (subject, client) = session(&[]);
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    for tool in ["kv_delete", "kv_undelete", "kv_destroy"] {
        assert_refused(&client.call(tool, json!({"path": "app", "versions": [1, 9]})), "invalid_input");
        assert_refused(&client.call(tool, json!({"path": "none", "versions": [1]})), "invalid_path");
        for versions in
            [json!([]), json!([0]), json!([-1]), json!(["1"]), json!([1e3]), json!(1), json!(vec![1; 0])]
        {
            assert_refused(&client.call(tool, json!({"path": "app", "versions": versions})), "invalid_input");
        }
    }
    assert_refused(&client.call("kv_delete", json!({"path": "none"})), "invalid_path");
    vault().delete(&format!("secret/data/mcp/{subject}/app")).ok();
    assert_refused(&client.call("kv_delete", json!({"path": "app"})), "version_gone");
    assert!(client.asked().is_empty());
}

#[test]
fn a_delete_takes_the_version_that_the_human_saw_and_no_newer_one() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"A": "seen"}));
    let proxy = Proxy::new(vault());
    let client = through(&proxy, &subject);
    let gate = Gate::new();
    let late = Fault::Hold(gate.clone());
    proxy.fail(On::target(format!("/mcp/{subject}/app")).method("DELETE"), late.clone());
    proxy.fail(On::target("/secret/delete/"), late);
    let pending = client.start_call("kv_delete", json!({"path": "app"}));
    proxy.wait_for("the late delete", |sent| sent.is_data() && sent.is_write());
    vault().write_secret(&subject, "app", json!({"A": "newer"}));
    gate.open();
    let result = crate::common::ToolResult(pending.wait().unwrap());
    assert_eq!(result.ok()["versions"], json!([1]));
    assert_eq!(
        vault().secret(&subject, "app"),
        json!({"A": "newer"}),
        "a version was deleted that nobody agreed to"
    );
}

#[test]
fn a_declined_write_changes_nothing() {
    let (subject, client) = session(&[]);
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    client.always(Answer::Decline);
    let calls = [
        ("kv_write", json!({"path": "app", "data": {"A": "2"}})),
        ("kv_patch", json!({"path": "app", "data": {"A": "2"}})),
        ("kv_generate", json!({"path": "app", "key": "A"})),
        ("kv_rollback", json!({"path": "app", "version": 1})),
        ("kv_delete", json!({"path": "app"})),
        ("kv_delete", json!({"path": "app", "versions": [1]})),
        ("kv_destroy", json!({"path": "app", "versions": [1]})),
        ("kv_undelete", json!({"path": "app", "versions": [1]})),
        ("vault_set", json!({"service": "app", "secrets": {"A": "2"}})),
    ];
    for (tool, arguments) in calls {
        assert_refused(&client.call(tool, arguments), "declined");
    }
    assert_eq!(vault().version(&subject, "app"), 1);
    assert_eq!(vault().secret(&subject, "app"), json!({"A": "1"}));
}

#[test]
fn a_mount_that_requires_check_and_set_and_keeps_two_versions_is_served() {
    let mount = unique("cas");
    vault().ensure_mount(&mount, "kv", json!({"version": "2"}));
    // A new version 2 mount is upgraded in the background for a moment.
    let path = format!("{mount}/config");
    crate::common::wait_until("the mount", crate::common::PATIENCE, || {
        (vault().put(&path, json!({"cas_required": true, "max_versions": 2})).status < 300).then_some(())
    });
    let (subject, client) = session(&[("KV_MOUNT", &mount)]);
    client.call("kv_write", json!({"path": "app", "data": {"A": 1}})).ok();
    client.call("kv_patch", json!({"path": "app", "data": {"A": 2}})).ok();
    client.call("kv_generate", json!({"path": "app", "key": "G"})).ok();
    client.call("vault_set", json!({"service": "app", "secrets": {"S": "4"}})).ok();
    client.call("vault_set", json!({"service": "fresh", "secrets": {"S": "1"}})).ok();
    client.call("kv_rollback", json!({"path": "app", "version": 3})).ok();
    let metadata = client.call("kv_metadata", json!({"path": "app"}));
    let numbers: Vec<_> =
        metadata.ok()["versions"].as_array().unwrap().iter().map(|v| v["number"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [4, 5]);
    assert_refused(&client.call("kv_rollback", json!({"path": "app", "version": 1})), "invalid_path");
    let stored = vault().get(&format!("{mount}/data/mcp/{subject}/app")).body["data"]["data"].clone();
    assert!(stored["A"] == 2 && stored["G"].is_string() && stored.get("S").is_none(), "{stored}");
}
