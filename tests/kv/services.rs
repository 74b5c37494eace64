//! vault_list, vault_get, vault_set.

use serde_json::json;

use super::{question, session, words};
use crate::common::{Answer, assert_no_canary, assert_refused, canary, vault};

#[test]
fn services_and_their_keys_are_listed() {
    let (subject, client) = session(&[]);
    assert_eq!(client.call("vault_list", json!({})).ok(), &json!({"services": []}));
    vault().write_secret(&subject, "shop", json!({"DB": canary("list"), "API": "x"}));
    vault().write_secret(&subject, "blog", json!({"A": "x"}));
    vault().write_secret(&subject, "folder/inner", json!({"A": "x"}));
    assert_eq!(words(&client.call("vault_list", json!({})).ok()["services"]), ["blog", "shop"]);
    let keys = client.call("vault_list", json!({"service": "shop"}));
    assert_eq!(words(&keys.ok()["keys"]), ["API", "DB"]);
    assert_no_canary(keys.0.to_string(), "a list of keys");
    assert_refused(&client.call("vault_list", json!({"service": "none"})), "invalid_path");
}

#[test]
fn a_service_is_read_masked_and_revealed_as_policy_says() {
    let (subject, client) = session(&[]);
    let secret = canary("get");
    vault().write_secret(&subject, "shop", json!({"DB": secret, "API": "short"}));
    let masked = client.call("vault_get", json!({"service": "shop"}));
    assert_no_canary(masked.0.to_string(), "a masked service");
    assert_eq!(
        masked.ok()["data"]["DB"]["ref"],
        format!("secretref://secret/mcp/{subject}/shop?version=1#DB")
    );
    let one = client.call("vault_get", json!({"service": "shop", "key": "API"}));
    assert_eq!(one.ok()["data"].as_object().unwrap().len(), 1);
    assert!(client.asked().is_empty());
    let revealed = client.call("vault_get", json!({"service": "shop", "key": "DB", "reveal": true}));
    assert_eq!(revealed.ok()["data"], json!({"DB": secret}));
    assert!(
        question(&client).starts_with("REVEAL ") && !question(&client).contains("API"),
        "{}",
        question(&client)
    );
    assert_refused(&client.call("vault_get", json!({"service": "shop", "key": "NONE"})), "invalid_input");
    client.always(Answer::Decline);
    let declined = client.call("vault_get", json!({"service": "shop", "reveal": true}));
    assert_refused(&declined, "declined");
}

#[test]
fn a_service_is_merged_key_by_key() {
    let (subject, client) = session(&[]);
    let secret = canary("set");
    let first = client
        .call("vault_set", json!({"service": "shop", "secrets": {"DB": secret, "PORT": 5432, "ON": true}}));
    assert_eq!(first.ok()["version"], 1);
    assert!(
        question(&client).starts_with(&format!("CREATE secret/mcp/{subject}/shop")),
        "{}",
        question(&client)
    );
    let second = client
        .call("vault_set", json!({"service": "shop", "secrets": {"DB": secret, "PORT": 1, "NEW": "x"}}));
    assert_eq!(second.ok()["keys"], json!({"DB": "unchanged", "PORT": "changed", "NEW": "added"}));
    assert_eq!(second.ok()["dry_run"], false);
    assert_eq!(vault().secret(&subject, "shop"), json!({"DB": secret, "PORT": 1, "ON": true, "NEW": "x"}));
    assert_no_canary(second.0.to_string(), "the answer to vault_set");
}

#[test]
fn a_dry_run_asks_nobody_and_changes_nothing() {
    let (subject, client) = session(&[]);
    vault().write_secret(&subject, "shop", json!({"A": "1"}));
    let call = json!({"service": "shop", "secrets": {"A": "2", "B": "3"}, "dry_run": true});
    let result = client.call("vault_set", call);
    assert_eq!(result.ok()["keys"], json!({"A": "changed", "B": "added"}));
    assert!(result.ok()["dry_run"] == true && result.ok().get("version").is_none());
    assert!(client.asked().is_empty());
    assert_eq!((vault().version(&subject, "shop"), vault().secret(&subject, "shop")), (1, json!({"A": "1"})));
}

#[test]
fn a_service_that_was_deleted_is_made_anew_and_the_human_is_told() {
    let (subject, client) = session(&[]);
    vault().write_secret(&subject, "shop", json!({"OLD": "1"}));
    vault().delete(&format!("secret/data/mcp/{subject}/shop")).ok();
    client.call("vault_set", json!({"service": "shop", "secrets": {"A": "2"}})).ok();
    assert!(question(&client).contains("after version 1, which is deleted"), "{}", question(&client));
    assert_eq!(vault().secret(&subject, "shop"), json!({"A": "2"}));
}

#[test]
fn both_families_see_the_same_data_and_services_can_lie_elsewhere() {
    let (subject, client) = session(&[]);
    client.call("vault_set", json!({"service": "shop", "secrets": {"A": "1"}})).ok();
    assert_eq!(client.call("kv_read", json!({"path": "shop"})).ok()["version"], 1);
    let (other, client) = session(&[("SERVICES_PATH", "apps/{subject}/prod")]);
    client.call("vault_set", json!({"service": "shop", "secrets": {"A": "1"}})).ok();
    let stored = vault().get(&format!("secret/data/apps/{other}/prod/shop"));
    assert_eq!(stored.body["data"]["data"], json!({"A": "1"}));
    assert_ne!(subject, other);
    assert_refused(&client.call("kv_read", json!({"path": "shop"})), "invalid_path");
}
