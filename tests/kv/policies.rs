//! Tokens that may do some things and not others.

use serde_json::json;

use super::{question, session_of, words};
use crate::common::{Answer, Era, Proxy, Server, assert_refused, vault};

fn rules(subject: &str, rules: &[(&str, &str)]) -> String {
    let one = |(area, capabilities): &(&str, &str)| {
        let words: Vec<_> = capabilities.split(' ').map(|word| format!("\"{word}\"")).collect();
        let body = format!("{{ capabilities = [{}] }}", words.join(", "));
        format!(
            "path \"secret/{area}/mcp/{subject}\" {body}\npath \"secret/{area}/mcp/{subject}/*\" {body}\n"
        )
    };
    rules.iter().map(one).collect()
}

fn narrow(subject: &str, list: &[(&str, &str)]) -> crate::common::McpClient {
    session_of(subject, &vault().token(&rules(subject, list), "5m"), &[])
}

#[test]
fn a_token_that_may_list_and_not_read_lists() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    let client = narrow(&subject, &[("metadata", "list")]);
    assert_eq!(words(&client.call("kv_list", json!({})).ok()["keys"]), ["app"]);
    assert_eq!(words(&client.call("vault_list", json!({})).ok()["services"]), ["app"]);
    let read = client.call("kv_read", json!({"path": "app"}));
    assert_refused(&read, "forbidden");
    let needed = format!("path \"secret/data/mcp/{subject}/app\" {{ capabilities = [\"read\"] }}");
    assert!(read.text().contains(&needed), "{}", read.text());
    assert_refused(&client.call("kv_write", json!({"path": "app", "data": {"A": "2"}})), "forbidden");
    assert!(client.asked().is_empty(), "a human was asked in vain");
}

#[test]
fn a_token_that_may_read_and_not_write_asks_no_human_in_vain() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    let client = narrow(&subject, &[("data", "read"), ("metadata", "read list")]);
    client.call("kv_read", json!({"path": "app"})).ok();
    for (tool, arguments, area) in [
        ("kv_write", json!({"path": "app", "data": {"A": "2"}}), "data"),
        ("kv_patch", json!({"path": "app", "data": {"A": "2"}}), "data"),
        ("kv_generate", json!({"path": "app", "key": "A"}), "data"),
        ("kv_rollback", json!({"path": "app", "version": 1}), "data"),
        ("kv_delete", json!({"path": "app"}), "data"),
        ("kv_delete", json!({"path": "app", "versions": [1]}), "delete"),
        ("kv_undelete", json!({"path": "app", "versions": [1]}), "undelete"),
        ("kv_destroy", json!({"path": "app", "versions": [1]}), "destroy"),
        ("vault_set", json!({"service": "app", "secrets": {"A": "2"}}), "data"),
    ] {
        let result = client.call(tool, arguments);
        assert_refused(&result, "forbidden");
        assert!(
            result.text().contains(&format!("path \"secret/{area}/mcp/{subject}/app\"")),
            "{tool}: {}",
            result.text()
        );
    }
    assert!(client.asked().is_empty());
    assert_eq!(vault().version(&subject, "app"), 1);
}

#[test]
fn a_token_that_may_write_and_not_read_is_shown_as_one_that_cannot_see() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"KEEP": "1"}));
    let client = narrow(&subject, &[("data", "create update")]);
    client.call("kv_write", json!({"path": "new", "data": {"A": "1"}})).ok();
    let asked = question(&client);
    assert!(asked.starts_with("WRITE ") && asked.contains("could not be seen"), "{asked}");
    assert_eq!(vault().secret(&subject, "new"), json!({"A": "1"}));
    // A merge must not replace what it cannot see.
    for (tool, arguments) in [
        ("vault_set", json!({"service": "app", "secrets": {"A": "1"}})),
        ("kv_generate", json!({"path": "app", "key": "A"})),
        ("kv_patch", json!({"path": "app", "data": {"A": "1"}})),
    ] {
        let result = client.call(tool, arguments);
        assert!(result.is_error(), "{tool} went through: {}", result.0);
    }
    assert_eq!(
        (vault().version(&subject, "app"), vault().secret(&subject, "app")),
        (1, json!({"KEEP": "1"}))
    );
}

#[test]
fn a_merge_that_cannot_see_lets_vault_merge_and_says_so() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"KEEP": "1"}));
    let client = narrow(&subject, &[("data", "create update patch")]);
    for (tool, arguments) in [
        ("vault_set", json!({"service": "app", "secrets": {"A": "1"}})),
        ("kv_generate", json!({"path": "app", "key": "G"})),
        ("kv_patch", json!({"path": "app", "data": {"P": "1"}})),
    ] {
        client.call(tool, arguments).ok();
        let asked = question(&client);
        assert!(asked.starts_with("UPDATE ") && asked.contains("could not be seen"), "{tool}: {asked}");
    }
    let now = vault().secret(&subject, "app");
    assert!(now["KEEP"] == "1" && now["A"] == "1" && now["P"] == "1" && now["G"].is_string(), "{now}");
    client.call("vault_set", json!({"service": "fresh", "secrets": {"A": "1"}})).ok();
    assert_eq!(vault().secret(&subject, "fresh"), json!({"A": "1"}));
}

#[test]
fn a_token_that_may_update_and_not_patch_still_merges() {
    let subject = vault().fresh_subject();
    let data = json!({"KEEP": "1", "N": 5, "L": [null, 1.5], "Z": null});
    vault().write_secret(&subject, "app", data);
    let client = narrow(&subject, &[("data", "create read update")]);
    client.call("vault_set", json!({"service": "app", "secrets": {"A": "2"}})).ok();
    client.call("kv_generate", json!({"path": "app", "key": "G"})).ok();
    let now = vault().secret(&subject, "app");
    assert!(
        now["KEEP"] == "1" && now["N"] == 5 && now["L"] == json!([null, 1.5]) && now["A"] == "2",
        "{now}"
    );
    assert!(now["G"].is_string() && now.as_object().unwrap().contains_key("Z"), "{now}");
    client.call("kv_patch", json!({"path": "app", "data": {"A": null, "B": [1]}})).ok();
    let now = vault().secret(&subject, "app");
    assert!(now.get("A").is_none() && now["B"] == json!([1]) && now["KEEP"] == "1", "{now}");
    assert!(now.as_object().unwrap().contains_key("Z"), "{now}");
    assert_eq!(vault().version(&subject, "app"), 4);
}

#[test]
fn a_token_that_may_only_delete_by_number_or_only_the_newest_can() {
    for list in [[("data", "read delete")].as_slice(), &[("data", "read"), ("delete", "update")]] {
        let subject = vault().fresh_subject();
        vault().write_secret(&subject, "app", json!({"A": "1"}));
        let client = narrow(&subject, list);
        assert_eq!(client.call("kv_delete", json!({"path": "app"})).ok()["versions"], json!([1]));
        assert!(vault().secret(&subject, "app").is_null(), "{list:?}");
    }
}

#[test]
fn a_token_that_may_not_ask_about_itself_finds_out_by_trying() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "app", json!({"A": "1"}));
    let name = crate::common::unique("bare");
    vault()
        .put(
            &format!("sys/policies/acl/{name}"),
            json!({"policy": rules(&subject, &[("data", "read create update")])}),
        )
        .ok();
    let made = vault()
        .put("auth/token/create", json!({"policies": [name], "no_default_policy": true, "ttl": "5m"}))
        .ok();
    let token = made["auth"]["client_token"].as_str().unwrap();
    let proxy = Proxy::new(vault());
    let client = Server::of(vault(), &subject)
        .env("VAULT_ADDR", &proxy.address)
        .env("VAULT_TOKEN", token)
        .spawn()
        .connect(Era::usual());
    client.always(Answer::yes());
    assert_eq!(client.call("kv_write", json!({"path": "app", "data": {"A": "2"}})).ok()["version"], 2);
    client.call("vault_status", json!({})).ok();
    let list = client.call("kv_list", json!({}));
    // The token works, so it must not be called expired only because it may not look itself up.
    assert_refused(&list, "forbidden");
}
