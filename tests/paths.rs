//! Paths that try to leave their tree, through every door that takes one. Vault hears of none of them, each
//! leaves one record, and what is sent begins, byte for byte, with the caller's own prefix.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::cell::Cell;

use common::{
    Answer, Era, McpClient, Proxy, Server, ToolResult, assert_refused, assert_untouched, audit_records, vault,
};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};

/// A session behind a proxy, its background look at the token over and done with.
struct Scene {
    subject: String,
    proxy: Proxy,
    client: McpClient,
}

impl Scene {
    fn new(settings: &[(&str, &str)]) -> Self {
        let subject = vault().fresh_subject();
        let proxy = Proxy::new(vault());
        let mut launch = Server::of(vault(), &subject)
            .env("VAULT_ADDR", &proxy.address)
            .env("RATE_LIMIT_ENABLED", "false");
        for (name, value) in settings {
            launch = launch.env(name, value);
        }
        let client = launch.spawn().connect(Era::usual());
        client.always(Answer::yes());
        client.call("kv_list", json!({})).ok();
        proxy.wait_for("the look at the token", |sent| sent.target.ends_with("lookup-self"));
        Self { subject, proxy, client }
    }

    fn records(&self) -> Vec<Value> {
        audit_records(self.client.server().home().audit_log())
    }

    /// The tool refuses, Vault hears of nothing, and one record says so.
    #[track_caller]
    fn refuses(&self, tool: &str, arguments: Value, code: &str) {
        let before = self.records().len();
        let told = format!("{tool} {arguments}");
        let result = assert_untouched(&self.proxy, || self.client.call(tool, arguments));
        assert!(result.is_error(), "{told} went through: {}", result.0);
        assert_refused(&result, code);
        self.one_refusal(before, code, &told);
    }

    #[track_caller]
    fn one_refusal(&self, before: usize, code: &str, told: &str) {
        let records = self.records().split_off(before);
        assert_eq!(records.len(), 1, "{told}: {records:?}");
        let fits = records[0]["action"] == "VALIDATION_FAILED" && records[0]["code"] == code;
        assert!(fits, "{told}: {}", records[0]);
    }

    /// The same for a resource: a JSON-RPC error whose message begins with the code.
    #[track_caller]
    fn refuses_resource(&self, uri: &str) {
        let before = self.records().len();
        let read = || self.client.request("resources/read", json!({"uri": uri}));
        match assert_untouched(&self.proxy, read) {
            Err(error) => {
                let message = error["message"].as_str().unwrap();
                assert!(message.starts_with("path_refused: "), "{uri}: {error}");
            }
            Ok(result) => panic!("{uri} was read: {result}"),
        }
        self.one_refusal(before, "path_refused", uri);
    }

    #[track_caller]
    fn assert_within_own_tree(&self) {
        let folder = format!("/v1/secret/metadata/mcp/{}", self.subject);
        let version_one = format!("/v1/secret/mcp/{}", self.subject);
        let prefixes = ["data", "metadata", "delete", "undelete", "destroy"]
            .map(|area| format!("/v1/secret/{area}/mcp/{}/", self.subject));
        for sent in self.proxy.data_requests() {
            let target = sent.target.split('?').next().unwrap();
            let fits = prefixes.iter().any(|prefix| target.starts_with(prefix))
                || target == folder
                || target == version_one
                || target.starts_with(&format!("{version_one}/"));
            assert!(fits, "{} lies outside the tree of {}", sent.line(), self.subject);
        }
    }
}

/// What no door takes.
fn bad_paths() -> Vec<String> {
    let fixed = [
        "../bob",
        "..",
        "a/../../bob",
        "a/..",
        "%2e%2e/bob",
        ".%2e/x",
        "%2e./x",
        "..%2fbob",
        "..%2Fbob",
        "%252e%252e",
        "%252e%252e/bob",
        "%c0%ae%c0%ae/bob",
        "a\\..\\..\\bob",
        "..\\bob",
        "a//b",
        "//bob",
        "/a",
        "/mcp/bob/a",
        ".",
        "./a",
        "a/./b",
        "...",
        "a\0b",
        "a/..\0/b",
        "%00",
        "a%00b",
        "a/.\n./b",
        ".\n.",
        ".\t./b",
        "\t../b",
        "a\r\nX-Vault-Token: x",
        "a\u{7f}",
        "a\u{85}b",
        "x?version=1",
        "x?list=true",
        "x&y=z",
        "x;y",
        " a",
        "a ",
        "a /b",
        "a/ ",
        "a\u{a0}",
        "\u{ff0e}\u{ff0e}/bob",
        "\u{2025}/bob",
        "\u{2024}\u{2024}/bob",
        "a\u{ff0f}b",
        "a\u{2215}b",
        "a\u{29f8}..\u{29f8}bob",
        "caf\u{e9}",
        "cafe\u{301}",
        "a\u{200b}b",
        "a\u{202e}b",
        "\u{feff}a",
        "a\u{2028}b",
        "+",
        "a+b",
        "*",
        "a*",
        "x:undelete",
        "x:destroy",
        "{subject}",
        "${HOME}",
        "$(id)",
        "~",
        "a|b",
        "a\"b",
        "a'b",
        "http://127.0.0.1/x",
        "secret://x",
    ];
    let mut all: Vec<String> = fixed.map(str::to_owned).into();
    all.extend(["a".repeat(1025), "a".repeat(129), vec!["a"; 300].join("/"), vec!["a"; 17].join("/")]);
    all.push(format!("{}{}", "../".repeat(10), "etc/passwd"));
    all
}

#[test]
fn no_tool_takes_a_path_that_could_leave_its_tree() {
    let scene = Scene::new(&[]);
    for path in bad_paths() {
        scene.refuses("kv_read", json!({"path": path}), "path_refused");
        scene.refuses("kv_list", json!({"prefix": path}), "path_refused");
        scene.refuses("kv_write", json!({"path": path, "data": {"K": "v"}}), "path_refused");
        scene.refuses("secret_compare", json!({"a": format!("{path}#K"), "b": "x#K"}), "path_refused");
        scene.refuses("secret_compare", json!({"a": "x#K", "b": format!("{path}#K")}), "path_refused");
    }
    scene.assert_within_own_tree();
}

#[test]
fn the_other_tools_take_no_such_path_either() {
    let scene = Scene::new(&[]);
    for path in ["../bob", "%2e%2e/bob", "a\\..\\bob", "a//b", "x?version=1", "x#y", "a\n", "", "/a", "a/"] {
        for (tool, mut arguments) in [
            ("kv_metadata", json!({})),
            ("kv_diff", json!({"from_version": 1, "to_version": 2})),
            ("kv_patch", json!({"data": {"K": "v"}})),
            ("kv_rollback", json!({"version": 1})),
            ("kv_generate", json!({"key": "K"})),
            ("kv_delete", json!({})),
            ("kv_undelete", json!({"versions": [1]})),
            ("kv_destroy", json!({"versions": [1]})),
            ("kv_read", json!({"reveal": true})),
        ] {
            arguments["path"] = json!(path);
            scene.refuses(tool, arguments, "path_refused");
        }
    }
}

#[test]
fn an_ending_that_is_no_name_is_taken_by_a_folder_alone() {
    let scene = Scene::new(&[]);
    for path in ["", "a/", "a/b/"] {
        scene.refuses("kv_read", json!({"path": path}), "path_refused");
        scene.refuses("kv_write", json!({"path": path, "data": {"K": "v"}}), "path_refused");
        scene.client.call("kv_list", json!({"prefix": path})).ok();
    }
    for prefix in ["/", "//", "a//", "/a/"] {
        scene.refuses("kv_list", json!({"prefix": prefix}), "path_refused");
    }
    scene.assert_within_own_tree();
}

#[test]
fn what_is_no_text_is_no_path() {
    let scene = Scene::new(&[]);
    for path in [json!(1), json!(["a"]), json!({"path": "a"}), Value::Null, json!(true)] {
        scene.refuses("kv_read", json!({"path": path}), "invalid_input");
    }
    scene.refuses("kv_read", json!({}), "invalid_input");
    scene.refuses("kv_read", json!({"path": "a", "subject": "bob"}), "invalid_input");
    for smuggled in ["namespace", "X-Vault-Namespace", "token", "VAULT_ADDR", "VAULT_SKIP_VERIFY", "address"]
    {
        scene.refuses("kv_read", json!({"path": "a", smuggled: "x"}), "invalid_input");
    }
}

#[test]
fn a_path_that_looks_like_an_api_of_vault_stays_below_the_caller_s_tree() {
    let scene = Scene::new(&[]);
    let paths = [
        "sys/policies/acl/root",
        "auth/token/create",
        "v1/sys/seal",
        "data/x",
        "metadata/x",
        "destroy/x",
        "a.",
        ".a",
        "a..b",
        "-",
        "_",
    ];
    for path in paths {
        scene.client.call("kv_write", json!({"path": path, "data": {"K": path}})).ok();
        scene.client.call("kv_read", json!({"path": path})).ok();
        let expected = format!("/v1/secret/data/mcp/{}/{path}", scene.subject);
        let sent = scene.proxy.data_requests();
        assert!(sent.iter().any(|sent| sent.target == expected && sent.method == "POST"), "{path}");
        assert!(sent.iter().any(|sent| sent.target == expected && sent.method == "GET"), "{path}");
        assert_eq!(vault().secret(&scene.subject, path), json!({"K": path}));
    }
    scene.assert_within_own_tree();
    assert_eq!(vault().get("sys/health").body["sealed"], false);
}

#[test]
fn a_sibling_whose_name_begins_alike_is_another_tree() {
    let scene = Scene::new(&[]);
    let sibling = format!("{}2", scene.subject);
    vault().write_secret(&sibling, "theirs", json!({"K": "v"}));
    assert_eq!(scene.client.call("kv_list", json!({})).ok()["keys"], json!([]));
    for path in [format!("../{sibling}/theirs"), format!("2/../../{sibling}/theirs")] {
        scene.refuses("kv_read", json!({"path": path}), "path_refused");
    }
    assert_refused(&scene.client.call("kv_read", json!({"path": "2/theirs"})), "invalid_path");
    scene.refuses_resource(&format!("kv://{sibling}/theirs"));
    scene.refuses_resource(&format!("kv://{sibling}/"));
    scene.assert_within_own_tree();
}

#[test]
fn no_resource_of_another_subject_or_with_a_bad_path_is_read() {
    let scene = Scene::new(&[]);
    let own = &scene.subject;
    for uri in [
        "kv://bob/x".to_owned(),
        "kv://bob/".into(),
        format!("kv://{own}@bob/"),
        format!("kv://bob@{own}/x"),
        format!("kv://{own}:x@bob/x"),
        format!("kv://{own}:80/x"),
        format!("KV://{own}/x"),
        format!("Kv://{own}/x"),
        format!(" kv://{own}/x"),
        format!("kv:/{own}/x"),
        format!("kv:///{own}/x"),
        format!("kv://{own}"),
        format!("kv://{}/x", own.to_uppercase()),
        format!("kv://{own}%2fx"),
        format!("kv://%{:02x}{}/x", own.as_bytes()[0], &own[1..]),
        format!("kv://{own}./x"),
        format!("kv://{own}//x"),
        format!("kv://{own}/x#y"),
        format!("kv://{own}/%"),
        format!("kv://{own}/%zz"),
        format!("kv://{own}/%ff"),
        format!("kv://{own}/%c0%ae%c0%ae/bob"),
        format!("kv://{own}/%2e%2e/bob/x"),
        format!("kv://{own}/..%2fbob%2fx"),
        format!("kv://{own}/%252e%252e/bob/x"),
        format!("kv://{own}/a%00b"),
        format!("kv://{own}/a%0ab"),
        format!("kv://{own}/a%5c..%5cb"),
        format!("secret://{own}/x"),
        "http://127.0.0.1:8200/v1/sys/health".into(),
        "file:///etc/passwd".into(),
        String::new(),
        "kv".into(),
    ] {
        scene.refuses_resource(&uri);
    }
    for path in bad_paths() {
        // A query is a resource's own matter; the rest must be refused as a path.
        if !path.contains('?') {
            scene.refuses_resource(&format!("kv://{own}/{path}"));
        }
    }
    for query in [
        "",
        "version=0",
        "version=-1",
        "version=1e3",
        "version=18446744073709551616",
        "version=\"1\"",
        "version=",
        "version=1&version=2",
        "version=1#x",
        "Version=1",
        "list=true",
        "version=+1",
        "version=%31",
    ] {
        scene.refuses_resource(&format!("kv://{own}/x?{query}"));
    }
    scene.refuses_resource(&format!("kv://{own}/folder/?version=1"));
    scene.assert_within_own_tree();
}

#[test]
fn an_own_resource_is_read_at_the_version_asked_for_and_decoded_once() {
    let scene = Scene::new(&[]);
    vault().write_secret(&scene.subject, "a/b", json!({"K": "1"}));
    vault().write_secret(&scene.subject, "a/b", json!({"K": "2", "L": "3"}));
    for (uri, keys, version) in [("a/b?version=1", 1, 1), ("a/b", 2, 2), ("%61%2Fb", 2, 2)] {
        let uri = format!("kv://{}/{uri}", scene.subject);
        let result = scene.client.request("resources/read", json!({"uri": uri})).unwrap();
        let content = &result["contents"][0];
        assert_eq!(content["uri"], uri);
        let body: Value = serde_json::from_str(content["text"].as_str().unwrap()).unwrap();
        assert_eq!(
            (body["data"].as_object().unwrap().len(), &body["version"]),
            (keys, &json!(version)),
            "{uri}"
        );
        assert_eq!(body["data"]["K"]["masked"], true);
    }
    scene.assert_within_own_tree();
}

#[test]
fn nobody_subscribes_to_what_they_may_not_read() {
    let scene = Scene::new(&[]);
    for uri in [
        "kv://bob/x",
        "kv://bob/",
        "KV://x/",
        "file:///etc/passwd",
        &format!("kv://{}/../bob", scene.subject),
    ] {
        let subscribe = || scene.client.request("resources/subscribe", json!({"uri": uri}));
        let error = assert_untouched(&scene.proxy, subscribe).expect_err("a subscription");
        assert!(error["message"].as_str().unwrap().starts_with("path_refused"), "{error}");
    }
}

#[test]
fn a_completion_never_leaves_the_tree_and_offers_what_was_typed_only() {
    let scene = Scene::new(&[]);
    vault().write_secret(&scene.subject, "apps/one", json!({"K": "v"}));
    vault().write_secret(&scene.subject, "apps/two", json!({"K": "v"}));
    let template = format!("kv://{}/{{+path}}{{?version}}", scene.subject);
    let complete = |typed: &str| {
        let params = json!({"ref": {"type": "ref/resource", "uri": template}, "argument": {"name": "path", "value": typed}});
        scene.client.request("completion/complete", params).unwrap()["completion"]["values"].clone()
    };
    assert_eq!(complete("ap"), json!(["apps/"]));
    assert_eq!(complete("apps/t"), json!(["apps/two"]));
    for path in bad_paths() {
        for typed in [path.clone(), format!("{path}/"), format!("{path}/x")] {
            let values = complete(&typed);
            let fits = |value: &Value| value.as_str().unwrap().starts_with(&typed);
            assert!(values.as_array().unwrap().iter().all(fits), "{typed:?}: {values}");
        }
    }
    scene.assert_within_own_tree();
}

#[test]
fn a_version_is_a_whole_number_from_one() {
    let scene = Scene::new(&[]);
    for version in
        ["-1", "0", "1e3", "1.0", "18446744073709551616", "9007199254740993", "\"1\"", "null2", "[1]", "true"]
    {
        let Ok(version) = serde_json::from_str::<Value>(version) else { continue };
        scene.refuses("kv_read", json!({"path": "x", "version": version}), "invalid_input");
        scene.refuses("kv_rollback", json!({"path": "x", "version": version}), "invalid_input");
        scene.refuses(
            "kv_diff",
            json!({"path": "x", "from_version": version, "to_version": 1}),
            "invalid_input",
        );
        scene.refuses(
            "kv_diff",
            json!({"path": "x", "from_version": 1, "to_version": version}),
            "invalid_input",
        );
        scene.refuses("kv_destroy", json!({"path": "x", "versions": [version]}), "invalid_input");
    }
}

#[test]
fn a_mount_is_one_of_those_configured() {
    let scene = Scene::new(&[]);
    for mount in [
        "sys",
        "..",
        ".",
        "secret/",
        "secret/data",
        "/secret",
        "../secret",
        "secret%2f",
        "SECRET",
        "secret ",
        "",
        "secret\n",
        "secret?x",
    ] {
        for tool in ["kv_read", "kv_metadata", "kv_delete"] {
            scene.refuses(tool, json!({"path": "x", "mount": mount}), "invalid_input");
        }
        scene.refuses("kv_list", json!({"mount": mount}), "invalid_input");
    }
}

#[test]
fn a_root_or_mount_that_climbs_is_refused_at_the_start() {
    for (name, value) in [
        ("KV_ROOT", "mcp/../{subject}"),
        ("KV_ROOT", ".."),
        ("KV_ROOT", "a//b"),
        ("KV_ROOT", "a\\b"),
        ("SERVICES_PATH", "../{subject}"),
        ("DEFAULT_PREFIX", ".."),
        ("DEFAULT_PREFIX", "a/../.."),
        ("KV_MOUNT", "../sys"),
        ("KV_MOUNT", "sys/policies"),
        ("KV_MOUNT", ".."),
        ("KV_MOUNTS", "a,../b"),
        ("SUBJECT", "Alice"),
        ("SUBJECT", "alice "),
        ("SUBJECT", "*"),
        ("SUBJECT", "+"),
        ("SUBJECT", "a,b"),
        ("SUBJECT", "a/b"),
        ("SUBJECT", "../bob"),
        ("VAULT_NAMESPACE", "a\nb"),
        ("VAULT_NAMESPACE", "../a"),
        ("VAULT_NAMESPACE", "a b"),
        ("VAULT_ADDR", "http://127.0.0.1:1/v1/x"),
        ("VAULT_ADDR", "http://user:pass@127.0.0.1:1"),
        ("VAULT_ADDR", "http://127.0.0.1:1?x"),
        ("VAULT_ADDR", "file:///etc"),
        ("VAULT_ADDR", "127.0.0.1:1"),
    ] {
        let run = Server::launch().env("SUBJECT", "alice").env(name, value).run("");
        assert!(!run.status.success(), "{name}={value:?} was accepted");
        assert!(run.stderr.contains("config_invalid") && run.stderr.contains(name), "{name}: {}", run.stderr);
        assert!(run.stdout.is_empty(), "{}", run.stdout);
    }
}

/// Segments that mean harm, joined by what joins or cuts.
fn wild_path() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        24 => "[A-Za-z0-9._-]{1,6}",
        1 => Just("..".to_owned()),
        1 => Just(".".to_owned()),
        1 => Just(String::new()),
        1 => prop::sample::select(vec!["%2e%2e", ".%2e", "%2f", "\\..", "?x=1", "#f", "\u{ff0e}\u{ff0e}", "a b", "\t", "..;", "%00"])
            .prop_map(str::to_owned),
        1 => "\\PC{1,4}",
        1 => ".{1,3}",
    ];
    let joint = prop_oneof![24 => Just("/"), 1 => prop::sample::select(vec!["", "//", "\\", "\n"])];
    let ending = prop_oneof![8 => Just(""), 1 => Just("/")];
    (prop::collection::vec((piece, joint), 1..6), ending).prop_map(|(parts, ending)| {
        let text: String = parts.iter().flat_map(|(piece, joint)| [piece.as_str(), joint]).collect();
        format!("{}{ending}", text.strip_suffix('/').unwrap_or(&text))
    })
}

/// Every path is either refused unheard, or sent below the own prefix exactly as this says.
fn holds_on_the_wire(scene: &Scene, cases: u32, sent_as: impl Fn(&str) -> String) {
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    let (refused, sent) = (Cell::new(0), Cell::new(0));
    let outcome = TestRunner::new(config).run(&wild_path(), |path| {
        let before = scene.proxy.count();
        let result: ToolResult = scene.client.call("kv_read", json!({"path": path}));
        let after = scene.proxy.requests().split_off(before);
        prop_assert!(result.is_error());
        if result.code() == "path_refused" {
            prop_assert!(after.is_empty(), "{path:?} was refused and sent");
            refused.set(refused.get() + 1);
        } else {
            // Nothing lies there, or Vault itself does not print the name.
            prop_assert!(
                ["invalid_path", "vault_rejected"].contains(&result.code().as_str()),
                "{}",
                result.0
            );
            let expected = format!("/v1/secret/data/mcp/{}/{}", scene.subject, sent_as(&path));
            prop_assert_eq!(&after[0].target, &expected);
            sent.set(sent.get() + 1);
        }
        Ok(())
    });
    outcome.unwrap_or_else(|failure| panic!("{failure}"));
    let (refused, sent) = (refused.get(), sent.get());
    assert!(
        refused > cases / 10 && sent > cases / 10,
        "the paths are all alike: {refused} refused, {sent} sent"
    );
    scene.assert_within_own_tree();
}

#[test]
fn any_path_at_all_is_refused_or_sent_byte_for_byte() {
    holds_on_the_wire(&Scene::new(&[]), 400, str::to_owned);
}

#[test]
fn any_path_at_all_is_refused_or_sent_encoded_byte_by_byte_where_any_name_is_allowed() {
    holds_on_the_wire(&Scene::new(&[("PATH_NAMES", "any")]), 400, |path| {
        let mut out = String::new();
        for byte in path.bytes() {
            match byte {
                b'/' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
                _ if byte.is_ascii_alphanumeric() => out.push(char::from(byte)),
                _ => out.push_str(&format!("%{byte:02X}")),
            }
        }
        out
    });
}
