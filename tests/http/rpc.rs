//! `POST /mcp/rpc`: one message, one answer, and nobody who could be asked.

use serde_json::{Value, json};

use super::rig::{Agent, Http};
use crate::common::{Era, ToolResult, assert_no_canary, assert_refused, assert_untouched, canary, vault};

fn request(method: &str, params: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": 7, "method": method, "params": params})
}

fn call(http: &Http, agent: &Agent, tool: &str, arguments: Value) -> ToolResult {
    let params = json!({"name": tool, "arguments": arguments});
    let answer = http.post(agent, "/mcp/rpc", request("tools/call", params)).ok();
    assert_eq!(answer["id"], 7);
    ToolResult(answer["result"].clone())
}

#[test]
fn one_message_gets_one_answer() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    vault().write_secret(&agent.subject, "app", json!({"A": canary("r")}));
    let hello = json!({"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": Era::info()});
    let hello = http.post(&agent, "/mcp/rpc", request("initialize", hello)).ok();
    assert_eq!(hello["result"]["protocolVersion"], "2025-06-18");
    assert_eq!(hello["result"]["serverInfo"]["name"], "vault-mcp");
    let tools = http.post(&agent, "/mcp/rpc", request("tools/list", json!({}))).ok();
    assert!(tools["result"]["tools"].as_array().unwrap().iter().any(|tool| tool["name"] == "kv_read"));
    for tool in ["kv.read", "kv_read"] {
        let read = call(&http, &agent, tool, json!({"path": "app"}));
        assert_eq!(read.ok()["data"]["A"]["masked"], true);
        assert_no_canary(read.0.to_string(), "a masked answer");
    }
    let done = http.post(&agent, "/mcp/rpc", request("shutdown", json!({}))).ok();
    assert_eq!(done, json!({"jsonrpc": "2.0", "id": 7, "result": {}}));
    // It ends nothing.
    call(&http, &agent, "kv_list", json!({})).ok();
    let told =
        http.post(&agent, "/mcp/rpc", json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
    assert_eq!((told.status, told.text.as_str()), (202, ""));
}

#[test]
fn what_is_no_request_is_refused_by_its_code() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let secret = canary("odd");
    let cases = [
        (format!("{{{secret}"), 400, -32700),
        ("[]".to_owned(), 400, -32600),
        (format!(r#"[{{"jsonrpc":"2.0","id":1,"method":"{secret}"}}]"#), 400, -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#.to_owned(), 400, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"id":1,"method":"ping"}"#.to_owned(), 400, -32600),
        (format!(r#"{{"jsonrpc":"2.0","id":1,"result":{{"x":"{secret}"}}}}"#), 400, -32600),
        (r#"{"jsonrpc":"2.0","id":1,"method":"no/such"}"#.to_owned(), 200, -32601),
        (
            r#"{"jsonrpc":"2.0","id":1,"method":"resources/subscribe","params":{"uri":"kv://a/b"}}"#
                .to_owned(),
            200,
            -32601,
        ),
        (r#"{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}"#.to_owned(), 200, -32602),
    ];
    for (text, status, code) in cases {
        let reply = assert_untouched(&http.proxy, || {
            http.bare("POST", "/mcp/rpc", &[("X-API-Key", &agent.key)], Some(&text))
        });
        assert_eq!(
            (reply.status, &reply.body["error"]["code"]),
            (status, &json!(code)),
            "{text}: {}",
            reply.text
        );
        assert_no_canary(&reply.text, "a refusal");
    }
}

#[test]
fn a_write_finds_nobody_to_ask_whatever_the_message_claims() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let arguments = json!({"path": "app", "data": {"A": canary("w")}});
    assert_refused(&call(&http, &agent, "kv_write", arguments.clone()), "nobody_to_ask");
    let form = json!({"elicitation": {"form": {}}});
    for version in ["2025-11-25", "2026-07-28"] {
        let meta = Era::handshake(version).with(form.clone()).meta();
        let params = json!({"name": "kv_write", "arguments": arguments, "_meta": meta});
        let answer = http.post(&agent, "/mcp/rpc", request("tools/call", params)).ok();
        assert_refused(&ToolResult(answer["result"].clone()), "nobody_to_ask");
    }
    for state in ["", "x"] {
        let params = json!({
            "name": "kv_write", "arguments": arguments, "requestState": state,
            "inputResponses": {"approval": {"action": "accept", "content": {"answer": "yes"}}},
        });
        let answer = http.post(&agent, "/mcp/rpc", request("tools/call", params)).ok();
        assert_refused(&ToolResult(answer["result"].clone()), "ticket_invalid");
    }
    assert!(http.proxy.writes().is_empty());
}
