//! Names and values at and over every limit, in every spelling that readers disagree about. What is refused
//! reaches no Vault, is recorded once and not quoted; what is accepted arrives as it was given.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{
    Answer, CANARY, Era, McpClient, PATIENCE, Proxy, Server, assert_no_canary, assert_refused,
    assert_untouched, audit_records, canary, vault, wait_until,
};
use serde_json::{Map, Value, json};

struct Scene {
    subject: String,
    proxy: Proxy,
    client: McpClient,
}

impl Scene {
    fn new() -> Self {
        let subject = vault().fresh_subject();
        let proxy = Proxy::new(vault());
        let client = Server::of(vault(), &subject)
            .env("VAULT_ADDR", &proxy.address)
            .env("RATE_LIMIT_ENABLED", "false")
            .spawn()
            .connect(Era::usual());
        client.always(Answer::yes());
        client.call("kv_list", json!({})).ok();
        proxy.wait_for("the look at the token", |sent| sent.target.ends_with("lookup-self"));
        Self { subject, proxy, client }
    }

    #[track_caller]
    fn refuses(&self, tool: &str, arguments: Value, code: &str) {
        let log = self.client.server().home().audit_log();
        let before = audit_records(&log).len();
        let result = assert_untouched(&self.proxy, || self.client.call(tool, arguments));
        assert_refused(&result, code);
        let records = audit_records(&log).split_off(before);
        let fits =
            records.len() == 1 && records[0]["action"] == "VALIDATION_FAILED" && records[0]["code"] == code;
        assert!(fits, "{tool}: {records:?}");
    }

    /// Sends a line as it is; gives what the server says to it.
    fn line(&self, line: impl AsRef<[u8]>) -> String {
        let before = self.client.strays().len();
        self.client.server().send([line.as_ref(), b"\n"].concat());
        wait_until("an answer to a raw line", PATIENCE, || self.client.strays().get(before).cloned())
    }

    /// The session is as good as new.
    #[track_caller]
    fn goes_on(&self) {
        self.client.call("kv_list", json!({})).ok();
    }
}

#[test]
fn a_service_s_name_is_64_characters_of_the_allowed_ones() {
    let scene = Scene::new();
    let bad = [
        "a".repeat(65),
        String::new(),
        "a\n".into(),
        "a ".into(),
        "a.b".into(),
        "a/b".into(),
        "..".into(),
        "caf\u{e9}".into(),
        "a\u{200b}".into(),
        "a%2fb".into(),
        "a:b".into(),
        "\u{ff41}".into(),
    ];
    for service in bad {
        for (tool, arguments) in [
            ("vault_get", json!({"service": service})),
            ("vault_list", json!({"service": service})),
            ("vault_set", json!({"service": service, "secrets": {"A": "1"}})),
        ] {
            scene.refuses(tool, arguments, "invalid_input");
        }
    }
    for service in
        ["a".repeat(64), "__proto__".into(), "-".into(), "0".into(), "constructor".into(), "AbC_-9".into()]
    {
        scene.client.call("vault_set", json!({"service": service, "secrets": {"A": "1"}})).ok();
        assert_eq!(vault().secret(&scene.subject, &service), json!({"A": "1"}));
    }
}

#[test]
fn a_key_of_a_service_is_fit_for_an_environment() {
    let scene = Scene::new();
    for key in [
        "K".repeat(129),
        String::new(),
        "K\n".into(),
        "=X".into(),
        "A=B".into(),
        "A B".into(),
        "A.B".into(),
        "A\0".into(),
        "\u{202e}A".into(),
        "${A}".into(),
        "A;B".into(),
    ] {
        let secrets = Map::from_iter([(key.clone(), json!("1"))]);
        scene.refuses("vault_set", json!({"service": "s", "secrets": secrets}), "invalid_input");
        scene.refuses("vault_get", json!({"service": "s", "key": key}), "invalid_input");
    }
    // Names that a shell or a linker acts on are stored: what is done with them is a matter of handing them over.
    for key in ["K".repeat(128), "__proto__".into(), "LD_PRELOAD".into(), "PATH".into(), "BASH_ENV".into()] {
        let secrets = Map::from_iter([(key.clone(), json!("1"))]);
        scene.client.call("vault_set", json!({"service": "s", "secrets": secrets})).ok();
        assert_eq!(vault().secret(&scene.subject, "s")[&key], "1");
    }
    scene.refuses("vault_set", json!({"service": "s", "secrets": {}}), "invalid_input");
    let many = Map::from_iter((0..201).map(|number| (format!("K{number}"), json!("v"))));
    scene.refuses("vault_set", json!({"service": "s", "secrets": many}), "invalid_input");
}

#[test]
fn a_value_of_a_service_is_a_short_text_a_number_or_a_flag() {
    let scene = Scene::new();
    let set = |value: Value| json!({"service": "s", "secrets": {"A": value}});
    let long = format!("{}{}", canary("long"), "x".repeat(8193));
    scene.refuses("vault_set", set(json!(long)), "invalid_input");
    scene.refuses("vault_set", set(json!("ü".repeat(4097))), "invalid_input");
    for value in [Value::Null, json!([]), json!({}), json!([canary("list")]), json!({"a": canary("object")})]
    {
        scene.refuses("vault_set", set(value), "invalid_input");
    }
    for value in [
        json!("x".repeat(8192)),
        json!(""),
        json!(0),
        json!(-1.5),
        json!(false),
        json!("null"),
        json!("\u{0}\u{7f}"),
    ] {
        scene.client.call("vault_set", set(value.clone())).ok();
        assert_eq!(vault().secret(&scene.subject, "s")["A"], value);
    }
}

#[test]
fn a_key_of_a_secret_is_any_visible_text_of_256_bytes() {
    let scene = Scene::new();
    let write = |key: &str| json!({"path": "x", "data": Map::from_iter([(key.to_owned(), json!("1"))])});
    for key in [
        "",
        &"k".repeat(257),
        &"ü".repeat(129),
        "a\nb",
        "a\0",
        "a\u{1b}[2J",
        "a\u{202e}b",
        "\u{200b}",
        "\u{feff}",
        "a\u{2028}",
    ] {
        scene.refuses("kv_write", write(key), "invalid_input");
        scene.refuses("kv_patch", write(key), "invalid_input");
        scene.refuses("kv_generate", json!({"path": "x", "key": key}), "invalid_input");
        scene.refuses("kv_read", json!({"path": "x", "keys": [key]}), "invalid_input");
    }
    for key in [
        "k".repeat(256),
        "__proto__".into(),
        "constructor".into(),
        "=X".into(),
        "a b".into(),
        "a.b/c".into(),
        "\u{1f511} \u{fc}".into(),
        "${X}".into(),
        "\"quoted\\\"".into(),
    ] {
        scene.client.call("kv_write", write(&key)).ok();
        assert_eq!(vault().secret(&scene.subject, "x"), json!({&key: "1"}), "{key}");
        let read = scene.client.call("kv_read", json!({"path": "x", "keys": [key]}));
        assert_eq!(read.ok()["data"][&key]["masked"], true, "{key}");
    }
    scene.refuses("kv_write", json!({"path": "x", "data": {}}), "invalid_input");
    let many = Map::from_iter((0..1001).map(|number| (format!("K{number}"), json!("v"))));
    scene.refuses("kv_write", json!({"path": "x", "data": many}), "invalid_input");
    for data in [json!(canary("text")), json!([canary("list")]), json!(7), Value::Null] {
        scene.refuses("kv_write", json!({"path": "x", "data": data}), "invalid_input");
    }
}

#[test]
fn values_arrive_as_they_were_given() {
    let scene = Scene::new();
    let data = json!({
        "controls": (0..32u8).map(char::from).collect::<String>(),
        "bidi": "a\u{202e}b\u{2066}c", "nul": "\u{0}", "bom": "\u{feff}x", "astral": "\u{1f511}\u{10ffff}",
        "escapes": "\\u0041 \\n \" / \u{2028}", "spaces": "  x  ", "json": "{\"a\":1}", "deep": [[[[[[{"a": [null]}]]]]]],
        "numbers": [0, -1, 1.5, 1e10, 9_007_199_254_740_992_u64, 1e-7], "empty": {"list": [], "object": {}},
    });
    scene.client.call("kv_write", json!({"path": "x", "data": data})).ok();
    let stored = vault().secret(&scene.subject, "x");
    for (key, value) in data.as_object().unwrap() {
        if key == "numbers" {
            let floats = |list: &Value| {
                list.as_array().unwrap().iter().map(|n| n.as_f64().unwrap()).collect::<Vec<_>>()
            };
            assert_eq!(floats(&stored[key]), floats(value));
        } else {
            assert_eq!(&stored[key], value, "{key}");
        }
    }
}

#[test]
fn a_call_of_up_to_a_mebibyte_is_served_and_a_larger_one_is_not() {
    let scene = Scene::new();
    let value = |bytes: usize| format!("{CANARY}{}", "x".repeat(bytes - CANARY.len()));
    let fits = value(500 << 10);
    scene.client.call("kv_write", json!({"path": "x", "data": {"A": fits}})).ok();
    assert_eq!(vault().secret(&scene.subject, "x"), json!({"A": fits}));
    for bytes in [1 << 20, (1 << 20) + 1, 33 << 20] {
        let before = scene.proxy.data_requests().len();
        let call = json!({"name": "kv_write", "arguments": {"path": "y", "data": {"A": value(bytes)}}});
        let refused = scene.client.request("tools/call", call);
        let text = match &refused {
            Ok(result) => {
                assert_eq!(result["isError"], true, "{bytes} bytes were accepted");
                result.to_string()
            }
            Err(error) => error.to_string(),
        };
        assert_no_canary(&text, "the refusal of a large call");
        assert_eq!(scene.proxy.data_requests().len(), before);
        scene.goes_on();
    }
    assert_eq!(vault().version(&scene.subject, "y"), 0);
}

/// A call of kv_write as text, with this in place of the data.
fn raw_call(data: &str) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":777,"method":"tools/call","params":{{"name":"kv_write","arguments":{{"path":"raw","data":{data}}}}}}}"#
    )
}

#[test]
fn what_readers_of_json_disagree_about_is_refused_before_it_is_read() {
    let scene = Scene::new();
    let secret = canary("raw");
    let deep = |levels: usize| format!("{{\"A\":{}{}}}", "[".repeat(levels), "]".repeat(levels));
    let lines: Vec<Vec<u8>> = vec![
        raw_call(&format!(r#"{{"A":"{secret}","A":"other"}}"#)).into(),
        raw_call(&format!(r#"{{"A":{{"x":"{secret}","x":1}}}}"#)).into(),
        raw_call(&format!(r#"{{"A":"{secret}","\u0041":"other"}}"#)).into(),
        raw_call(&format!(r#"{{"A":"{secret}"}},"data":{{"A":"other"}}"#)).into(),
        raw_call(&format!(r#"{{"A":"{secret}\ud800"}}"#)).into(),
        raw_call(&format!(r#"{{"A":"{secret}\udc00\ud800"}}"#)).into(),
        [raw_call(&format!(r#"{{"A":"{secret}"#)).as_bytes(), b"\xff\xfe\"}}}}"].concat(),
        [raw_call(&format!(r#"{{"A":"{secret}"#)).as_bytes(), b"\xed\xa0\x80\"}}}}"].concat(),
        raw_call(&deep(10_000)).into(),
        raw_call(&deep(100)).into(),
        raw_call(&format!(r#"{{"A":"{secret}",}}"#)).into(),
        raw_call(&format!(r#"{{'A':"{secret}"}}"#)).into(),
        raw_call(&format!(r#"{{"A":"{secret}"}} "#)).replace("777", "07").into(),
        raw_call(r#"{"A":{"$serde_json::private::Number":"12"}}"#).into(),
        raw_call(r#"{"A":{"\u0024serde_json::private::Number":"12"}}"#).into(),
        raw_call(r#"{"$serde_json::private::RawValue":"[1]"}"#).into(),
        raw_call(r#"{"A":NaN}"#).into(),
        raw_call(r#"{"A":Infinity}"#).into(),
        raw_call(r#"{"A":01}"#).into(),
        raw_call(r#"{"A":+1}"#).into(),
        raw_call(r#"{"A":0x10}"#).into(),
        raw_call("{\"A\":\"a\tb\"}").into(),
    ];
    for line in lines {
        let shown = String::from_utf8_lossy(&line).chars().skip(90).take(60).collect::<String>();
        let answer = assert_untouched(&scene.proxy, || scene.line(&line));
        let message: Value = serde_json::from_str(&answer).unwrap();
        let refused = message.get("error").is_some() || message["result"]["isError"] == true;
        assert!(refused, "{shown}: {answer}");
        assert_no_canary(&answer, "the refusal of a line");
        scene.goes_on();
    }
    assert!(scene.client.asked().is_empty());
    assert_eq!(vault().version(&scene.subject, "raw"), 0);
}

#[test]
fn a_number_that_cannot_be_kept_is_refused_by_name_and_not_quoted() {
    let scene = Scene::new();
    for number in [
        "1e999",
        "-1e999",
        "1e-999",
        "9223372036854775808",
        "9007199254740993",
        "1.0000000000000000001",
        "123456789012345678901234567890",
    ] {
        let answer =
            assert_untouched(&scene.proxy, || scene.line(raw_call(&format!(r#"{{"PIN":{number}}}"#))));
        let message: Value = serde_json::from_str(&answer).unwrap();
        let text = message["result"]["content"][0]["text"].as_str().unwrap_or_default();
        assert!(text.starts_with("invalid_input: ") && text.contains("PIN"), "{number}: {answer}");
        assert!(!answer.contains(number), "{answer}");
    }
    for (number, kept) in
        [("9007199254740992", 9_007_199_254_740_992.0), ("-0.1", -0.1), ("1e3", 1000.0), ("1.50", 1.5)]
    {
        scene.line(raw_call(&format!(r#"{{"PIN":{number}}}"#)));
        assert_eq!(vault().secret(&scene.subject, "raw")["PIN"].as_f64(), Some(kept), "{number}");
    }
}

#[test]
fn a_refusal_quotes_no_value_wherever_it_stood() {
    let scene = Scene::new();
    let secret = canary("quoted");
    for (tool, arguments) in [
        ("kv_read", json!({"path": "x", "version": secret})),
        ("kv_read", json!({"path": "x", "keys": secret})),
        ("kv_read", json!({"path": "x", "reveal": secret})),
        ("kv_read", json!({"path": [secret]})),
        ("kv_write", json!({"path": "x", "data": secret})),
        ("kv_write", json!({"path": "x", "data": {"A": "1"}, "cas": secret})),
        ("kv_write", json!({"path": "x", "value": secret})),
        ("kv_write", json!({"data": {"A": secret}})),
        ("kv_generate", json!({"path": "x", "key": "A", "charset": secret})),
        ("kv_generate", json!({"path": "x", "key": "A", "length": secret})),
        ("kv_list", json!({"limit": secret})),
        ("vault_set", json!({"service": "s", "secrets": secret})),
        ("vault_set", json!({"service": "s", "secrets": {"A": [secret]}})),
        ("vault_set", json!({"service": "s", "secrets": {"A": "1"}, "dry_run": secret})),
        ("vault_login", json!({"token": secret})),
        ("kv_destroy", json!({"path": "x", "versions": [secret]})),
    ] {
        scene.refuses(tool, arguments, "invalid_input");
    }
    for path in [format!("../{secret}"), format!("{secret}\\"), format!("{secret}?x")] {
        scene.refuses("kv_read", json!({"path": path}), "path_refused");
    }
}
