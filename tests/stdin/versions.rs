//! Every revision of the protocol that clients in the field speak.

use serde_json::json;

use crate::common::{Answer, Era, Server, canary, vault};

const REVISIONS: [&str; 5] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"];

#[test]
fn every_revision_lists_and_calls() {
    for version in REVISIONS {
        let subject = vault().fresh_subject();
        vault().write_secret(&subject, "app", json!({"TOKEN": canary("v")}));
        let client = Server::of(vault(), &subject).spawn().connect(Era::handshake(version));
        if client.era().has_handshake() {
            assert_eq!(client.initialized["protocolVersion"], version);
            assert_eq!(client.initialized["serverInfo"]["name"], "vault-mcp");
        } else {
            let found = client.request("server/discover", json!({})).unwrap();
            let versions = found["supportedVersions"].as_array().unwrap_or_else(|| panic!("{found}"));
            assert!(versions.contains(&json!(version)), "{found}");
        }
        let tools = client.tools();
        assert!(tools.iter().any(|tool| tool["name"] == "kv_read"), "{version}");
        let read = client.call("kv_read", json!({"path": "app"}));
        assert_eq!(read.ok()["version"], 1, "{version}");
        let before = client.call("kv_write", json!({"path": "app", "data": {"A": "b"}}));
        assert_eq!(before.code(), "nobody_to_ask", "{version}");
        assert!(client.strays().is_empty(), "{version}: {:?}", client.strays());
        assert!(client.close().success(), "{version}");
    }
}

#[test]
fn a_revision_of_the_future_gets_one_that_is_known() {
    for version in ["2099-01-01", "1.0", ""] {
        let client = Server::of(vault(), &vault().fresh_subject())
            .spawn()
            .connect(Era { version: version.to_owned(), capabilities: json!({}) });
        if version < "2026-07-28" {
            let agreed = client.initialized["protocolVersion"].as_str().unwrap();
            assert!(REVISIONS.contains(&agreed) && agreed < "2026", "{agreed}");
            assert!(!client.tools().is_empty());
        } else {
            let error = client.request("tools/list", json!({})).unwrap_err();
            assert!(error["data"]["supported"].as_array().is_some_and(|known| known.len() >= 5), "{error}");
            client.server().account();
        }
    }
}

#[test]
fn every_revision_with_elicitation_can_write() {
    let forms = [
        ("2025-06-18", json!({"elicitation": {}})),
        ("2025-11-25", json!({"elicitation": {"form": {}}})),
        ("2025-11-25", json!({"elicitation": {"form": {}, "url": {}}})),
        ("2026-07-28", json!({"elicitation": {"form": {}}})),
        ("2026-07-28", json!({"elicitation": {}})),
    ];
    for (version, capabilities) in forms {
        let subject = vault().fresh_subject();
        let client =
            Server::of(vault(), &subject).spawn().connect(Era::handshake(version).with(capabilities));
        client.always(Answer::yes());
        client.call("kv_write", json!({"path": "app", "data": {"A": canary("v")}})).ok();
        assert_eq!(vault().version(&subject, "app"), 1, "{version}");
    }
}
