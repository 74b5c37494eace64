//! Mounts of KV version 1.

use serde_json::{Value, json};

use super::{question, session, session_of, words};
use crate::common::{assert_refused, canary, unique, vault};

fn mount() -> String {
    let mount = unique("one");
    vault().ensure_mount(&mount, "kv", json!({"version": "1"}));
    mount
}

fn stored(mount: &str, subject: &str, path: &str) -> Value {
    vault().get(&format!("{mount}/mcp/{subject}/{path}")).body["data"].clone()
}

#[test]
fn read_write_list_and_delete_work_on_version_1() {
    let mount = mount();
    let (subject, client) = session(&[("KV_MOUNT", &mount), ("REVEAL", "always")]);
    let secret = canary("one");
    let data = json!({"A": secret, "N": 9_007_199_254_740_992_u64, "L": [1, null], "data": {"data": "x"}});
    let written = client.call("kv_write", json!({"path": "deep/app", "data": data}));
    assert!(written.ok().get("version").is_none(), "{}", written.0);
    assert!(
        question(&client).starts_with(&format!("CREATE {mount}/mcp/{subject}/deep/app")),
        "{}",
        question(&client)
    );
    assert_eq!(stored(&mount, &subject, "deep/app"), data);
    let read = client.call("kv_read", json!({"path": "deep/app", "reveal": true}));
    assert_eq!(read.ok()["data"], data);
    assert!(read.ok().get("version").is_none());
    let masked = client.call("kv_read", json!({"path": "deep/app"}));
    assert_eq!(masked.ok()["data"]["A"]["ref"], format!("secretref://{mount}/mcp/{subject}/deep/app#A"));
    assert_eq!(client.call("kv_list", json!({})).ok(), &json!({"keys": ["deep/"]}));
    assert_eq!(client.call("kv_list", json!({"prefix": "deep"})).ok(), &json!({"keys": ["app"]}));
    client.call("kv_write", json!({"path": "deep/app", "data": {"A": "new"}})).ok();
    assert!(question(&client).starts_with("REPLACE "), "{}", question(&client));
    client.call("kv_delete", json!({"path": "deep/app"})).ok();
    assert!(question(&client).contains("for good"), "{}", question(&client));
    assert!(stored(&mount, &subject, "deep/app").is_null());
    assert_refused(&client.call("kv_read", json!({"path": "deep/app"})), "invalid_path");
    assert_refused(&client.call("kv_delete", json!({"path": "deep/app"})), "invalid_path");
}

#[test]
fn what_needs_versions_is_refused_as_such_on_version_1_and_asks_nobody() {
    let mount = mount();
    let calls = |first: bool| {
        let (subject, client) = session(&[("KV_MOUNT", &mount)]);
        if first {
            vault().put(&format!("{mount}/mcp/{subject}/app"), json!({"A": "1"})).ok();
        }
        (subject, client)
    };
    // Each tool as the first call of a session, with and without a secret there: nothing is known of the mount.
    for there in [true, false] {
        for (tool, arguments) in [
            ("kv_metadata", json!({"path": "app"})),
            ("kv_diff", json!({"path": "app", "from_version": 1, "to_version": 2})),
            ("kv_rollback", json!({"path": "app", "version": 1})),
            ("kv_patch", json!({"path": "app", "data": {"A": "2"}})),
            ("kv_undelete", json!({"path": "app", "versions": [1]})),
            ("kv_destroy", json!({"path": "app", "versions": [1]})),
            ("kv_delete", json!({"path": "app", "versions": [1]})),
            ("kv_read", json!({"path": "app", "version": 1})),
            ("kv_write", json!({"path": "app", "data": {"A": "2"}, "cas": 1})),
        ] {
            let (subject, client) = calls(there);
            assert_refused(&client.call(tool, arguments), "unsupported_on_kv_v1");
            assert!(client.asked().is_empty(), "{tool}: {:?}", client.asked());
            assert_eq!(stored(&mount, &subject, "app").is_null(), !there, "{tool}");
        }
    }
}

#[test]
fn services_and_generated_values_are_merged_on_version_1() {
    let mount = mount();
    let (subject, client) = session(&[("KV_MOUNT", &mount)]);
    assert_eq!(client.call("vault_list", json!({})).ok(), &json!({"services": []}));
    client.call("vault_set", json!({"service": "shop", "secrets": {"A": "1", "B": 2}})).ok();
    let set = client.call("vault_set", json!({"service": "shop", "secrets": {"A": "9"}}));
    assert!(set.ok().get("version").is_none(), "{}", set.0);
    client.call("kv_generate", json!({"path": "shop", "key": "G"})).ok();
    let now = stored(&mount, &subject, "shop");
    assert!(now["A"] == "9" && now["B"] == 2 && now["G"].as_str().unwrap().len() == 32, "{now}");
    assert_eq!(words(&client.call("vault_list", json!({})).ok()["services"]), ["shop"]);
}

#[test]
fn a_write_into_an_empty_mount_lands_where_version_1_reads_it() {
    for first in ["kv_list", "kv_read", "none"] {
        let mount = mount();
        let (subject, client) = session(&[("KV_MOUNT", &mount)]);
        match first {
            "kv_list" => drop(client.call("kv_list", json!({})).ok()),
            "kv_read" => assert_refused(&client.call("kv_read", json!({"path": "x"})), "invalid_path"),
            _ => {}
        }
        client.call("kv_write", json!({"path": "app", "data": {"A": first}})).ok();
        assert_eq!(stored(&mount, &subject, "app"), json!({"A": first}));
        let top = vault().list(&mount).body["data"]["keys"].clone();
        assert_eq!(top, json!(["mcp/"]), "something lies beside the tree");
    }
}

fn rule(path: &str, capabilities: &str) -> String {
    let words: Vec<_> = capabilities.split(' ').map(|word| format!("\"{word}\"")).collect();
    format!("path \"{path}\" {{ capabilities = [{}] }}\n", words.join(", "))
}

#[test]
fn a_token_whose_policy_names_version_1_paths_only_can_use_them() {
    let mount = mount();
    let subject = vault().fresh_subject();
    let policy = rule(&format!("{mount}/mcp/{subject}/*"), "create read update delete list");
    let token = vault().token(&policy, "5m");
    for first in ["kv_read", "kv_list", "kv_write"] {
        let client = session_of(&subject, &token, &[("KV_MOUNT", &mount)]);
        match first {
            "kv_read" => assert_refused(&client.call("kv_read", json!({"path": "none"})), "invalid_path"),
            "kv_list" => drop(client.call("kv_list", json!({"prefix": "folder"})).ok()),
            _ => {}
        }
        client.call("kv_write", json!({"path": "app", "data": {"A": first}})).ok();
        assert_eq!(stored(&mount, &subject, "app"), json!({"A": first}));
        client.call("vault_set", json!({"service": "app", "secrets": {"B": "2"}})).ok();
        assert_eq!(stored(&mount, &subject, "app"), json!({"A": first, "B": "2"}));
        client.call("kv_delete", json!({"path": "app"})).ok();
        assert!(stored(&mount, &subject, "app").is_null());
    }
}

#[test]
fn a_token_that_may_write_and_not_read_on_version_1_replaces_nothing_unseen_and_misplaces_nothing() {
    let mount = mount();
    let subject = vault().fresh_subject();
    vault().put(&format!("{mount}/mcp/{subject}/app"), json!({"KEEP": "1"})).ok();
    // Once on the tree only, once on the whole mount: there a version 2 request would be let through.
    for path in [format!("{mount}/mcp/{subject}/*"), format!("{mount}/*")] {
        let token = vault().token(&rule(&path, "create update"), "5m");
        let client = session_of(&subject, &token, &[("KV_MOUNT", &mount)]);
        let merged = client.call("vault_set", json!({"service": "app", "secrets": {"A": "1"}}));
        assert!(merged.is_error(), "a merge was done without seeing what is there: {}", merged.0);
        let generated = client.call("kv_generate", json!({"path": "app", "key": "A"}));
        assert!(generated.is_error(), "{}", generated.0);
        assert_eq!(stored(&mount, &subject, "app"), json!({"KEEP": "1"}));
        client.call("kv_write", json!({"path": "other", "data": {"A": "1"}})).ok();
        assert!(question(&client).contains("could not be seen"), "{}", question(&client));
        assert_eq!(stored(&mount, &subject, "other"), json!({"A": "1"}));
        assert_eq!(vault().list(&mount).body["data"]["keys"], json!(["mcp/"]), "a write went astray");
    }
}

#[test]
fn a_version_2_mount_is_not_mistaken_for_version_1() {
    // A policy that names version 2 paths only refuses the version 1 path, whatever is there.
    let subject = vault().fresh_subject();
    let token = vault().token_for(&subject);
    let client = session_of(&subject, &token, &[]);
    assert_refused(&client.call("kv_read", json!({"path": "none"})), "invalid_path");
    assert_eq!(client.call("kv_list", json!({})).ok(), &json!({"keys": []}));
    assert_refused(&client.call("kv_metadata", json!({"path": "none"})), "invalid_path");
    client.call("kv_write", json!({"path": "app", "data": {"A": "1"}})).ok();
    client.call("kv_patch", json!({"path": "app", "data": {"A": "2"}})).ok();
    assert_eq!(vault().secret(&subject, "app"), json!({"A": "2"}));
    let (subject, client) = session(&[]);
    assert_eq!(client.call("kv_list", json!({})).ok(), &json!({"keys": []}));
    client.call("kv_write", json!({"path": "data", "data": {"data": "1"}})).ok();
    client.call("kv_patch", json!({"path": "data", "data": {"data": "2"}})).ok();
    assert_eq!(vault().secret(&subject, "data"), json!({"data": "2"}));
}
