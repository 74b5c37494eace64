//! vault_status, vault_login, vault_logout, mounts_list.

use serde_json::json;

use super::{question, session, session_of, words};
use crate::common::{Answer, Era, Server, assert_refused, unique, vault};

#[test]
fn the_status_tells_whose_session_it_is_and_shows_no_token() {
    let subject = vault().fresh_subject();
    let token = vault().token_for(&subject);
    let client = session_of(&subject, &token, &[]);
    let result = client.call("vault_status", json!({}));
    let status = result.ok();
    assert_eq!((&status["subject"], &status["address"]), (&json!(subject), &json!(vault().address)));
    assert_eq!((&status["sealed"], &status["can_write"]), (&json!(false), &json!(true)));
    assert!(words(&status["policies"]).contains(&"default"), "{status}");
    let left = status["seconds_left"].as_u64().unwrap();
    assert!((3500..=3600).contains(&left), "{left}");
    assert!(status["expires"].as_str().unwrap().starts_with("20") && status["vault_version"].is_string());
    assert!(!result.0.to_string().contains(&token), "the token was shown");
    assert!(status.get("problem").is_none());
    let root = session_of(&subject, &vault().root, &[]).call("vault_status", json!({}));
    assert!(root.ok().get("seconds_left").is_none() && root.ok().get("expires").is_none(), "{}", root.0);
}

#[test]
fn the_status_of_a_session_that_may_not_write_says_so() {
    let subject = vault().fresh_subject();
    let policy = format!("path \"secret/data/mcp/{subject}/*\" {{ capabilities = [\"read\"] }}");
    let client = session_of(&subject, &vault().token(&policy, "5m"), &[]);
    assert_eq!(client.call("vault_status", json!({})).ok()["can_write"], false);
}

#[test]
fn the_status_of_a_session_with_a_bad_or_no_token_says_what_to_do() {
    let subject = vault().fresh_subject();
    let bad = session_of(&subject, "s.notatoken", &[]).call("vault_status", json!({}));
    assert!(bad.ok()["problem"].as_str().unwrap().contains("does not accept the token"), "{}", bad.0);
    let none = Server::of(vault(), &subject).without("VAULT_TOKEN").spawn().connect(Era::usual());
    let result = none.call("vault_status", json!({}));
    assert!(result.ok()["problem"].as_str().unwrap().contains("no Vault token"), "{}", result.0);
    assert_refused(&none.call("kv_list", json!({})), "token_missing");
}

#[test]
fn login_instructs_and_takes_no_credential() {
    let (_, client) = session(&[]);
    let result = client.call("vault_login", json!({}));
    let all = words(&result.ok()["instructions"]).join("\n");
    assert!(all.contains(&vault().address) && all.contains("Never paste a token"), "{all}");
    for argument in ["token", "password", "role_id"] {
        let call = json!({argument: "kanarienvogel7f3a_login"});
        assert_refused(&client.call("vault_login", call), "invalid_input");
    }
    let tool = client.tools().into_iter().find(|tool| tool["name"] == "vault_login").unwrap();
    assert!(tool["inputSchema"]["properties"].as_object().is_none_or(serde_json::Map::is_empty));
}

#[test]
fn logout_revokes_the_token_after_a_yes_and_says_what_to_clean_up() {
    let subject = vault().fresh_subject();
    let token = vault().token_for(&subject);
    let client = session_of(&subject, &token, &[]);
    let alive = || vault().call_as(&token, "GET", "auth/token/lookup-self", None).status == 200;
    client.always(Answer::Decline);
    assert_refused(&client.call("vault_logout", json!({})), "declined");
    assert!(alive());
    let client = session_of(&subject, &token, &[]);
    let result = client.call("vault_logout", json!({}));
    assert_eq!(result.ok()["revoked"], true);
    assert!(words(&result.ok()["clean_up"]).join(" ").contains("VAULT_TOKEN"));
    assert!(question(&client).starts_with("REVOKE auth/token/revoke-self"), "{}", question(&client));
    assert!(!alive(), "the token still works");
    assert_refused(&client.call("kv_list", json!({})), "token_invalid");
}

#[test]
fn the_mounts_that_the_token_can_see_are_listed() {
    let one = unique("kvone");
    vault().ensure_mount(&one, "kv", json!({"version": "1"}));
    let (_, client) = session(&[("KV_MOUNTS", &one)]);
    let result = client.call("mounts_list", json!({}));
    let mounts = result.ok()["mounts"].as_array().unwrap();
    let find = |path: &str| mounts.iter().find(|mount| mount["path"] == path);
    let secret = find("secret").unwrap_or_else(|| panic!("no secret/ in {mounts:?}"));
    assert_eq!(
        (&secret["type"], &secret["version"], &secret["used"]),
        (&json!("kv"), &json!("2"), &json!(true))
    );
    assert_eq!(secret["capabilities"], json!(["root"]));
    assert_eq!(find(&one).unwrap()["version"], "1");
    assert!(find("sys").is_none() && find("identity").is_none() && find("cubbyhole").is_none(), "{mounts:?}");

    let subject = vault().fresh_subject();
    let narrow = session_of(&subject, &vault().token_for(&subject), &[]);
    let result = narrow.call("mounts_list", json!({}));
    let mounts = result.ok()["mounts"].as_array().unwrap();
    assert_eq!(mounts.len(), 1, "a narrow token saw {mounts:?}");
    let may = words(&mounts[0]["capabilities"]);
    assert!(may.contains(&"read") && may.contains(&"update") && !may.contains(&"sudo"), "{may:?}");
}
