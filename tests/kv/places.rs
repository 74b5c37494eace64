//! Where paths lie: more mounts, an open root, names of any kind.

use serde_json::json;

use super::{question, session, words};
use crate::common::{Answer, Era, Proxy, Server, assert_refused, unique, vault};

#[test]
fn a_second_mount_is_used_when_it_is_named_and_configured() {
    let (team, other) = (unique("team"), unique("other"));
    for mount in [&team, &other] {
        vault().ensure_mount(mount, "kv", json!({"version": "2"}));
        crate::common::wait_until("the mount", crate::common::PATIENCE, || {
            (vault().get(&format!("{mount}/config")).status == 200).then_some(())
        });
    }
    let (subject, client) = session(&[("KV_MOUNTS", &team)]);
    client.call("kv_write", json!({"path": "app", "mount": team, "data": {"A": "team"}})).ok();
    assert!(
        question(&client).starts_with(&format!("CREATE {team}/mcp/{subject}/app")),
        "{}",
        question(&client)
    );
    client.call("kv_write", json!({"path": "app", "data": {"A": "secret"}})).ok();
    let stored = |mount: &str| {
        vault().get(&format!("{mount}/data/mcp/{subject}/app")).body["data"]["data"]["A"].clone()
    };
    assert_eq!((stored(&team), stored("secret")), (json!("team"), json!("secret")));
    let read = client.call("kv_read", json!({"path": "app", "mount": team}));
    assert!(read.ok()["data"]["A"]["ref"].as_str().unwrap().starts_with(&format!("secretref://{team}/")));
    for tool in ["kv_list", "kv_metadata"] {
        client
            .call(
                tool,
                if tool == "kv_list" {
                    json!({"mount": team})
                } else {
                    json!({"path": "app", "mount": team})
                },
            )
            .ok();
    }
    for mount in [other.as_str(), "sys", "auth", "identity", "cubbyhole"] {
        assert_refused(&client.call("kv_read", json!({"path": "app", "mount": mount})), "invalid_input");
    }
    for mount in ["../secret", "secret/data", "secret/", "", ".", "secret ", "%73ecret"] {
        assert_refused(&client.call("kv_read", json!({"path": "app", "mount": mount})), "invalid_input");
    }
}

#[test]
fn a_mount_that_is_not_there_is_said_to_be_missing() {
    let (_, client) = session(&[("KV_MOUNT", "nowhere")]);
    for (tool, arguments) in [
        ("kv_read", json!({"path": "x"})),
        ("kv_list", json!({})),
        ("kv_metadata", json!({"path": "x"})),
        ("kv_write", json!({"path": "x", "data": {"A": "1"}})),
        ("vault_get", json!({"service": "x"})),
    ] {
        assert_refused(&client.call(tool, arguments), "mount_not_found");
    }
    assert!(client.asked().is_empty());
}

const ODD: &[&str] = &[
    "with space",
    "caf\u{e9} \u{fc}ber",
    "100%",
    "%2e%2e",
    "%2F",
    "what?version=1",
    "frag#ment",
    "a+b*c",
    "x:undelete",
    "{a}|b^c`d\"e",
    "semi;colon,comma",
    "\u{65e5}\u{672c}",
    "\u{1f511}",
    "cafe\u{301}",
    "a\u{ff0f}b",
    "...dots",
    "~tilde",
    "AbC",
];

#[test]
fn names_of_any_kind_round_trip_byte_for_byte() {
    let subject = vault().fresh_subject();
    let proxy = Proxy::new(vault());
    let client = Server::of(vault(), &subject)
        .env("VAULT_ADDR", &proxy.address)
        .env("PATH_NAMES", "any")
        .env("REVEAL", "always")
        .env("RATE_LIMIT_ENABLED", "false")
        .spawn()
        .connect(Era::usual());
    client.always(Answer::yes());
    for (index, name) in ODD.iter().enumerate() {
        let path = format!("odd/{name}/leaf {name}");
        client.call("kv_write", json!({"path": path, "data": {"I": index}})).ok();
    }
    for (index, name) in ODD.iter().enumerate() {
        let path = format!("odd/{name}/leaf {name}");
        let read = client.call("kv_read", json!({"path": path, "reveal": true}));
        assert_eq!((&read.ok()["data"]["I"], &read.ok()["path"]), (&json!(index), &json!(path)));
        // The same name, encoded by hand, in Vault itself.
        let encode = |text: &str| -> String {
            text.bytes()
                .map(|byte| {
                    if byte.is_ascii_alphanumeric() {
                        char::from(byte).to_string()
                    } else {
                        format!("%{byte:02X}")
                    }
                })
                .collect()
        };
        let target =
            format!("secret/data/mcp/{subject}/odd/{}/{}", encode(name), encode(&format!("leaf {name}")));
        assert_eq!(vault().get(&target).body["data"]["data"]["I"], json!(index), "{name:?}");
    }
    let listed = client.call("kv_list", json!({"prefix": "odd"}));
    let mut expected: Vec<String> = ODD.iter().map(|name| format!("{name}/")).collect();
    expected.sort();
    assert_eq!(words(&listed.ok()["keys"]), expected);
    assert!(listed.ok().get("unusable").is_none(), "{}", listed.0);
    let prefixes = ["data", "metadata"].map(|area| format!("/v1/secret/{area}/mcp/{subject}/"));
    let mut prefixes = prefixes.to_vec();
    prefixes.push(format!("/v1/secret/mcp/{subject}/"));
    proxy.assert_within(&prefixes);
}

#[test]
fn names_of_any_kind_still_exclude_what_hides_or_climbs() {
    let (_, client) = session(&[("PATH_NAMES", "any")]);
    for path in [
        "..",
        ".",
        "a/../b",
        "a/./b",
        "a//b",
        "/a",
        "a/",
        "",
        " a",
        "a ",
        "a\tb",
        "a\nb",
        "a\0b",
        "a\u{7f}b",
        "a\u{9b}b",
        "a\u{200b}b",
        "a\u{202e}b",
        "a\u{feff}b",
        "a\u{2028}b",
        "a\\b",
        "\u{ff0e}\u{ff0e}/a",
        "\u{2025}/a",
        "\u{2024}\u{2024}",
    ] {
        assert_refused(&client.call("kv_read", json!({"path": path})), "path_refused");
    }
}

#[test]
fn strict_names_refuse_odd_ones_in_the_same_words_as_before() {
    let (_, client) = session(&[]);
    for name in
        ODD.iter().filter(|name| !name.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c)))
    {
        assert_refused(&client.call("kv_read", json!({"path": name})), "path_refused");
    }
}

#[test]
fn an_open_root_is_the_whole_mount_and_no_more() {
    let folder = unique("root");
    vault().put(&format!("secret/data/{folder}/app"), json!({"data": {"A": "1"}})).ok();
    let proxy = Proxy::new(vault());
    let client = Server::of(vault(), &vault().fresh_subject())
        .env("VAULT_ADDR", &proxy.address)
        .env("KV_ROOT", "/")
        .spawn()
        .connect(Era::usual());
    client.always(Answer::yes());
    assert!(words(&client.call("kv_list", json!({})).ok()["keys"]).contains(&format!("{folder}/").as_str()));
    let read = client.call("kv_read", json!({"path": format!("{folder}/app")}));
    assert_eq!(read.ok()["data"]["A"]["ref"], format!("secretref://secret/{folder}/app?version=1#A"));
    client.call("kv_write", json!({"path": format!("{folder}/new"), "data": {"B": "2"}})).ok();
    assert_eq!(vault().get(&format!("secret/data/{folder}/new")).body["data"]["data"], json!({"B": "2"}));
    for path in ["../sys/policies/acl/x", "..", "/sys"] {
        assert_refused(&client.call("kv_read", json!({"path": path})), "path_refused");
    }
    proxy.assert_within(&["/v1/secret/data/".to_owned(), "/v1/secret/metadata".to_owned()]);
}
