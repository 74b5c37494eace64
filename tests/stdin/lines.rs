//! One line at a time: what is a message, and what a line that is none is answered with.

use serde_json::{Value, json};

use crate::{
    common::{audit_records, canary, vault},
    session::{QUIET, Session, call, initialize},
};

const PARSE_ERROR: i64 = -32700;
const INVALID_REQUEST: i64 = -32600;
const METHOD_NOT_FOUND: i64 = -32601;
const INVALID_PARAMS: i64 = -32602;

fn ping(id: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"ping"}}"#)
}

#[test]
fn line_ends_and_marks_of_other_systems_are_understood() {
    let session = Session::open();
    assert_eq!(session.exchange(format!("{}\r", ping("1")))["id"], 1);
    assert_eq!(session.exchange(format!("\u{feff}{}", ping("2")))["id"], 2);
    assert_eq!(session.exchange(format!("  \t{}  ", ping("3")))["id"], 3);
    assert_eq!(session.exchange(format!("\u{feff}{}\r", ping("\"é\"")))["id"], "é");
    // Blank lines are nothing at all.
    assert!(session.server.send("\n\r\n   \n\t\n\n"));
    session.server.assert_silent(QUIET);
    session.assert_alive();
}

#[test]
fn a_byte_order_mark_before_the_first_request_is_understood() {
    let session = Session::silent();
    assert_eq!(session.exchange(format!("\u{feff}{}\r", initialize(7)))["id"], 7);
    session.assert_alive();
}

#[test]
fn what_is_no_json_is_a_parse_error_without_an_id() {
    let session = Session::open();
    let two = format!("{}{}", ping("1"), ping("2"));
    let lines: Vec<Vec<u8>> = vec![
        b"hello".to_vec(),
        b"{".to_vec(),
        b"}".to_vec(),
        two.into_bytes(),
        format!("{} {}", ping("1"), ping("2")).into_bytes(),
        format!("{},", ping("1")).into_bytes(),
        b"\0".to_vec(),
        format!("{}\0", ping("1")).into_bytes(),
        format!("\0{}", ping("1")).into_bytes(),
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"pi\0ng\"}".to_vec(),
        b"{\"jsonrpc\":\"2.0\",\"id\":1,\"method\":\"\xff\xfe\"}".to_vec(),
        b"{\"jsonrpc\":\"2.0\",\"id\":\"\xed\xa0\x80\",\"method\":\"ping\"}".to_vec(),
        br#"{"jsonrpc":"2.0","id":1,"method":"\ud800"}"#.to_vec(),
        br#"{"jsonrpc":"2.0","id":1,"method":"\udc00\ud800"}"#.to_vec(),
        br#"{'jsonrpc':'2.0','id':1,'method':'ping'}"#.to_vec(),
        br#"{"jsonrpc":"2.0","id":1,"method":"ping",}"#.to_vec(),
        br#"{"jsonrpc":"2.0","id":01,"method":"ping"}"#.to_vec(),
        br#"{"jsonrpc":"2.0","id":NaN,"method":"ping"}"#.to_vec(),
        b"\xfe\xff\0{\0}".to_vec(),
        b"Content-Length: 46\r".to_vec(),
        b"GET / HTTP/1.1\r".to_vec(),
    ];
    for line in lines {
        session.assert_error(&line, PARSE_ERROR, &Value::Null);
        session.assert_alive();
    }
}

#[test]
fn a_secret_in_a_broken_line_is_not_repeated() {
    let session = Session::with(|launch| launch.env("LOG_LEVEL", "trace")).shake_hands();
    let secret = canary("line");
    let whole = call(1, "kv_write", json!({"path": "app", "data": {"A": secret}})).to_string();
    session.assert_error(&whole[..whole.len() - 1], PARSE_ERROR, &Value::Null);
    session.assert_error(whole.replace("tools/call", "tools\\ud800"), PARSE_ERROR, &Value::Null);
    session.assert_error(format!("{{\"id\":1,\"id\":2,\"x\":{whole}}}"), INVALID_REQUEST, &json!(1));
    session.assert_error(whole.replace("2.0", &secret), INVALID_REQUEST, &json!(1));
    session.assert_error(whole.replace("\"id\":1", "\"id\":null"), INVALID_REQUEST, &Value::Null);
    session.assert_error(whole.replace("tools/call", &secret), METHOD_NOT_FOUND, &json!(1));
    session.assert_error(
        whole.replace("\"kv_write\"", &format!("[\"{secret}\"]")),
        INVALID_PARAMS,
        &json!(1),
    );
    session.assert_alive();
    // The rig looks for the secret in standard error and in the log when the server ends.
}

#[test]
fn json_that_is_no_message_is_an_invalid_request() {
    let session = Session::open();
    for (line, id) in [
        (json!(null), Value::Null),
        (json!(1), Value::Null),
        (json!("ping"), Value::Null),
        (json!([]), Value::Null),
        (json!({}), Value::Null),
        (json!([{"jsonrpc": "2.0", "id": 1, "method": "ping"}]), Value::Null),
        (json!([call(1, "kv_list", json!({})), call(2, "kv_list", json!({}))]), Value::Null),
        (json!({"jsonrpc": "1.0", "id": 1, "method": "ping"}), json!(1)),
        (json!({"jsonrpc": 2.0, "id": 1, "method": "ping"}), json!(1)),
        (json!({"id": 1, "method": "ping"}), json!(1)),
        (json!({"jsonrpc": "2.0", "id": null, "method": "ping"}), Value::Null),
        (json!({"jsonrpc": "2.0", "id": 1.5, "method": "ping"}), Value::Null),
        (json!({"jsonrpc": "2.0", "id": true, "method": "ping"}), Value::Null),
        (json!({"jsonrpc": "2.0", "id": {}, "method": "ping"}), Value::Null),
        (json!({"jsonrpc": "2.0", "id": [1], "method": "ping"}), Value::Null),
        (json!({"jsonrpc": "2.0", "id": 1}), json!(1)),
        (json!({"jsonrpc": "2.0", "id": 1, "method": 7}), json!(1)),
        (json!({"jsonrpc": "2.0", "id": 1, "method": null}), json!(1)),
    ] {
        session.assert_error(line.to_string(), INVALID_REQUEST, &id);
        session.assert_alive();
    }
}

#[test]
fn what_readers_would_understand_differently_is_refused_under_its_id() {
    let session = Session::open();
    let twice = r#"{"jsonrpc":"2.0","id":5,"method":"ping","method":"tools/list"}"#;
    assert!(session.assert_error(twice, INVALID_REQUEST, &json!(5)).contains("stands twice"));
    let inside = r#"{"jsonrpc":"2.0","id":6,"method":"tools/call","params":{"name":"kv_write","arguments":{"path":"a","data":{"K":"x","\u004b":"y"}}}}"#;
    assert!(session.assert_error(inside, INVALID_REQUEST, &json!(6)).contains("stands twice"));
    for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
        let deep = format!(
            r#"{{"jsonrpc":"2.0","id":7,"method":"ping","params":{{"a":{}1{}}}}}"#,
            open.repeat(10_000),
            close.repeat(10_000)
        );
        assert!(session.assert_error(deep, INVALID_REQUEST, &json!(7)).contains("nested"));
    }
    let cut = format!(r#"{{"jsonrpc":"2.0","id":8,"method":"ping","params":{{"a":{}"#, "[".repeat(100_000));
    session.assert_error(cut, INVALID_REQUEST, &json!(8));
    session.assert_alive();
}

#[test]
fn numbers_are_not_rounded_and_those_that_vault_would_round_are_refused() {
    let session = Session::open();
    for (id, number) in ["1e999", "-1e999", "9223372036854775808", "123456789012345678901234567890", "1e-999"]
        .into_iter()
        .enumerate()
    {
        let line = call(id, "kv_write", json!({"path": "app", "data": {"N": "@"}}));
        let before = session.proxy.writes().len();
        let answer = session.exchange(line.to_string().replace("\"@\"", number));
        let text = answer["result"]["content"][0]["text"].as_str().unwrap_or_else(|| panic!("{answer}"));
        assert!(text.starts_with("invalid_input: N: "), "{number}: {text}");
        assert_eq!(session.proxy.writes().len(), before);
    }
    session.assert_alive();
}

#[test]
fn unknown_methods_and_wrong_params_are_told_apart() {
    let session = Session::open();
    for method in ["nonsense", "", "tools/destroy", "tools/Call", "rpc.discover", "__proto__", "tasks/list"] {
        let line = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": {}});
        session.assert_error(line.to_string(), METHOD_NOT_FOUND, &json!(1));
    }
    for params in [
        Value::Null,
        json!({}),
        json!({"name": 7}),
        json!({"name": null}),
        json!({"name": ["kv_list"]}),
        json!({"name": "kv_list", "arguments": "path"}),
        json!({"name": "kv_list", "arguments": ["path"]}),
        json!({"name": "kv_list", "arguments": 7}),
    ] {
        let line = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        let before = audit_records(session.server.home().audit_log()).len();
        session.assert_error(line.to_string(), INVALID_PARAMS, &json!(1));
        let records = audit_records(session.server.home().audit_log());
        let new: Vec<_> =
            records[before..].iter().filter(|record| record["action"] == "VALIDATION_FAILED").collect();
        assert_eq!(new.len(), 1, "{params}: {new:?}");
        assert_eq!(new[0]["code"], "invalid_input");
    }
    // JSON-RPC lets params be an object or a list, and MCP an object only; what is neither is no request.
    for params in [
        json!(7),
        json!("kv_list"),
        json!([]),
        json!(["kv_list", {}]),
        json!({"name": "kv_list", "_meta": 7}),
    ] {
        for method in ["tools/call", "tools/list", "completion/complete", "nonsense"] {
            let line = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
            session.assert_error(line.to_string(), INVALID_REQUEST, &json!(1));
        }
    }
    for (method, params) in [
        ("resources/read", json!({"uri": 7})),
        ("resources/read", json!({})),
        ("prompts/get", json!({"name": {}})),
        ("completion/complete", json!({"ref": 7})),
        ("resources/subscribe", json!({"uri": null})),
    ] {
        let line = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        session.assert_error(line.to_string(), INVALID_PARAMS, &json!(1));
    }
    session.assert_alive();
}

#[test]
fn an_id_that_is_in_flight_is_not_taken_twice() {
    use crate::common::{Fault, Gate, On};
    let session = Session::open();
    vault().write_secret(&session.subject, "app", json!({"A": "b"}));
    for id in [json!(1), json!("x")] {
        let gate = Gate::new();
        session.proxy.fail(On::target("/v1/secret/").times(1), Fault::Hold(gate.clone()));
        session.server.send_line(call(id.clone(), "kv_list", json!({})).to_string());
        let refused = session.exchange(call(id.clone(), "kv_read", json!({"path": "app"})).to_string());
        if refused.get("error").is_some() {
            assert_eq!(refused["error"]["code"], INVALID_REQUEST);
            assert!(refused["error"]["message"].as_str().unwrap().contains("still running"), "{refused}");
            assert!(refused.get("id").is_none_or(Value::is_null), "{refused}");
            gate.open();
            let first = session.answer();
            assert_eq!((&first["id"], &first["result"]["structuredContent"]["keys"]), (&id, &json!(["app"])));
        } else {
            panic!("the same id ran twice: {refused}");
        }
        // A text and a number are different ids; and after the answer the id is free.
        let again = session.exchange(call(id.clone(), "kv_list", json!({})).to_string());
        assert_eq!(again["id"], id);
    }
    session.assert_alive();
}

#[test]
fn answers_that_nobody_asked_for_are_nothing() {
    let session = Session::open();
    let yes = json!({"action": "accept", "content": {"answer": "yes"}});
    for line in [
        json!({"jsonrpc": "2.0", "id": 0, "result": yes}),
        json!({"jsonrpc": "2.0", "id": "x", "result": {}}),
        json!({"jsonrpc": "2.0", "id": 99, "error": {"code": -1, "message": "x"}}),
        json!({"jsonrpc": "2.0", "error": {"code": -32700, "message": "x"}}),
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 4711}}),
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {}}),
        json!({"jsonrpc": "2.0", "method": "notifications/nonsense", "params": [1, 2]}),
        json!({"jsonrpc": "1.0", "method": "notifications/nonsense"}),
        json!({"method": "tools/call", "params": {"name": "kv_list"}}),
        json!({"jsonrpc": "2.0", "method": 7}),
        json!({"jsonrpc": "1.0", "id": 5, "result": yes}),
        json!({"jsonrpc": "2.0", "id": null, "result": yes}),
        json!({"jsonrpc": "2.0", "id": 5, "result": yes, "error": {"code": 1, "message": "x"}}),
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 1}}),
    ] {
        session.server.send_line(line.to_string());
    }
    session.server.assert_silent(QUIET);
    session.assert_alive();
    assert_eq!(session.proxy.count(), 0);
}

#[test]
fn what_is_no_request_before_the_first_request_is_nothing() {
    let session = Session::silent();
    for line in [
        json!({"jsonrpc": "2.0", "method": "notifications/initialized"}),
        json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}),
        json!({"jsonrpc": "2.0", "id": 1, "result": {}}),
        json!({"jsonrpc": "2.0", "id": 1, "error": {"code": 1, "message": "x"}}),
    ] {
        session.server.send_line(line.to_string());
    }
    session.server.assert_silent(QUIET);
    session.shake_hands().assert_alive();
}

/// A client that probes first and changes its mind: none of it may end the process.
#[test]
fn what_comes_between_a_probe_and_the_handshake_is_nothing_either() {
    let session = Session::silent();
    let stray = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}})
        .to_string();
    session.assert_alive();
    session.server.send_line(&stray);
    // A request of no session is answered with an error …
    for line in [
        json!({"jsonrpc": "2.0", "id": 1, "method": "server/discover"}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "tools/list"}),
        call(1, "kv_list", json!({})),
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {}}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": [7]}),
        json!({"jsonrpc": "2.0", "id": 1, "method": "nonsense"}),
    ] {
        let answer = session.exchange(line.to_string());
        assert!(answer["error"]["code"].is_i64(), "{answer}");
        session.server.send_line(&stray);
        session.server.send_line(json!({"jsonrpc": "2.0", "id": 1, "result": {}}).to_string());
    }
    // … a discovery with its answer, and then the old handshake works.
    let meta = json!({
        "io.modelcontextprotocol/protocolVersion": "2026-07-28",
        "io.modelcontextprotocol/clientInfo": {"name": "x", "version": "1"},
        "io.modelcontextprotocol/clientCapabilities": {},
    });
    let found = session.exchange(
        json!({"jsonrpc": "2.0", "id": 2, "method": "server/discover", "params": {"_meta": meta}})
            .to_string(),
    );
    assert!(found["result"].is_object(), "{found}");
    session.server.send_line(&stray);
    session.shake_hands().assert_alive();
}

#[test]
fn a_second_handshake_does_no_harm() {
    let session = Session::open();
    let answer = session.exchange(initialize("again").to_string());
    assert_eq!(answer["id"], "again");
    session.assert_alive();
    let listed = session.exchange(call(3, "kv_list", json!({})).to_string());
    assert_eq!(listed["id"], 3);
}
