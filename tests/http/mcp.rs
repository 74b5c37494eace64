//! `/mcp` on the running server: every revision of the protocol, and what belongs to whom.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    rig::{Agent, Http, assert_ids},
    wire::{Client, Wire},
};
use crate::common::{
    Answer, Era, PATIENCE, ToolResult, assert_no_canary, assert_refused, assert_untouched, canary, vault,
    wait_until,
};

/// The revisions with a handshake, oldest first, and the one without.
const REVISIONS: [&str; 5] = ["2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25", "2026-07-28"];

/// Both ways a client can carry a question.
fn eras() -> [Era; 3] {
    let first = Era::handshake("2025-06-18").with(json!({"elicitation": {}}));
    [first, Era::usual(), Era::stateless()]
}

fn write() -> Value {
    json!({"path": "app", "data": {"DB_PASSWORD": canary("w")}})
}

#[test]
fn every_revision_reads_masked_over_http() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    vault().write_secret(&agent.subject, "app", json!({"A": canary("r")}));
    for version in REVISIONS {
        let client = Client::begin(&http, &agent, Era::handshake(version));
        assert_eq!(client.session.is_some(), version < "2026-07-28", "{version}");
        let read = client.call("kv_read", json!({"path": "app"}));
        assert_eq!(read.ok()["data"]["A"]["masked"], true, "{version}");
        assert_no_canary(read.0.to_string(), "a masked answer");
        assert_eq!(client.call("kv.list", json!({})).ok()["keys"], json!(["app"]), "{version}");
    }
    let records = http.records();
    let of_reads: Vec<_> = records.iter().filter(|record| record["op"] == "kv.read").collect();
    assert_eq!(of_reads.len(), 2 * REVISIONS.len());
    for record in of_reads {
        assert_eq!((&record["front"], &record["subject"]), (&json!("mcp-http"), &json!(agent.subject)));
        assert_eq!(record["client"], "vault-mcp-tests/1");
    }
}

#[test]
fn a_write_waits_for_the_human_on_the_stream_of_its_own_call() {
    for era in eras() {
        let agent = Agent::new();
        let http = Http::start(&[&agent], &[]);
        let client = Client::begin(&http, &agent, era.clone());
        client.always(Answer::Decline);
        assert_refused(&client.call("kv_write", write()), "declined");
        assert_eq!(vault().version(&agent.subject, "app"), 0, "{era:?}");
        client.always(Answer::yes());
        let arguments = write();
        assert_eq!(client.call("kv_write", arguments.clone()).ok()["version"], 1, "{era:?}");
        assert_eq!(vault().secret(&agent.subject, "app"), arguments["data"]);
        let asked = client.asked();
        assert_eq!(asked.len(), 2, "{era:?}");
        assert!(asked[1]["message"].as_str().unwrap().starts_with("CREATE secret/"), "{}", asked[1]);
        assert_no_canary(asked[1].to_string(), "a question");
    }
}

#[test]
fn nothing_but_the_exact_yes_is_one() {
    for era in eras() {
        let agent = Agent::new();
        let http = Http::start(&[&agent], &[]);
        let client = Client::begin(&http, &agent, era.clone());
        for answer in
            [json!({}), json!({"answer": "Yes"}), json!({"answer": true}), json!({"answer": "yes "})]
        {
            client.always(Answer::Accept(answer.clone()));
            assert_refused(&client.call("kv_write", write()), "not_confirmed");
        }
        client.always(Answer::Cancel);
        assert_refused(&client.call("kv_write", write()), "cancelled");
        assert!(http.proxy.writes().is_empty(), "{era:?}");
    }
}

#[test]
fn a_client_without_a_dialog_is_told_so() {
    for era in [Era::mute(), Era::stateless_mute()] {
        let agent = Agent::new();
        let http = Http::start(&[&agent], &[]);
        let client = Client::begin(&http, &agent, era);
        assert_refused(&client.call("kv_write", write()), "nobody_to_ask");
        assert!(http.proxy.writes().is_empty());
    }
}

#[test]
fn a_session_is_unknown_to_every_other_subject() {
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = Http::start(&[&alice, &bob], &[]);
    let client = Client::begin(&http, &alice, Era::usual());
    let thief = client.under(&bob.key);
    let unknown = thief.in_session("00000000-0000-4000-8000-000000000000");
    let call = client.message("tools/call", json!({"name": "kv_list", "arguments": {}}));
    let told = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}});
    for other in [&thief, &unknown] {
        assert_untouched(&http.proxy, || {
            let mut answers = vec![other.post(&call), other.post(&told), other.post(&other.hello())];
            answers.push(other.listen(None));
            answers.push(other.listen(Some("1")));
            answers.push(other.send("DELETE", &other.headers(&Value::Null), None));
            for answer in answers {
                assert_eq!(answer.status, 404);
                assert_eq!(answer.json(), json!({"detail": "Not Found: Session not found"}));
            }
        });
    }
    // It still is the first one's, who can end it.
    assert_eq!(client.call("kv_list", json!({})).ok()["keys"], json!([]));
    assert_eq!(client.send("DELETE", &client.headers(&Value::Null), None).status, 202);
    assert_eq!(client.post(&call).status, 404);
    assert_eq!(client.send("DELETE", &client.headers(&Value::Null), None).status, 404);
}

#[test]
fn what_a_request_may_do_is_what_its_own_credential_allows() {
    let reader = Agent::with_scopes(&["read"]);
    let lister = Agent { key: format!("{}l", reader.key), scopes: vec!["list"], ..reader.clone() };
    let http = Http::start(&[&reader, &lister], &[]);
    vault().write_secret(&reader.subject, "app", json!({"A": "b"}));
    let client = Client::begin(&http, &reader, Era::usual());
    let other = client.under(&lister.key);
    client.call("kv_read", json!({"path": "app"})).ok();
    assert_refused(&client.call("kv_list", json!({})), "missing_scope");
    other.call("kv_list", json!({})).ok();
    assert_refused(&other.call("kv_read", json!({"path": "app"})), "missing_scope");
    assert_refused(&other.call("kv_write", write()), "missing_scope");
}

#[test]
fn the_tools_of_one_subject_never_touch_anothers_tree() {
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = Http::start(&[&alice, &bob], &[]);
    vault().write_secret(&bob.subject, "app", json!({"A": canary("bob")}));
    for era in [Era::mute(), Era::stateless_mute()] {
        let client = Client::begin(&http, &alice, era);
        assert_eq!(client.call("kv_list", json!({})).ok()["keys"], json!([]));
        assert_refused(&client.call("kv_read", json!({"path": "app"})), "invalid_path");
        for path in [format!("../{}/app", bob.subject), format!("%2e%2e/{}/app", bob.subject)] {
            let refused = assert_untouched(&http.proxy, || client.call("kv_read", json!({"path": path})));
            assert_eq!(refused.code(), "path_refused");
        }
        let uri = format!("kv://{}/app", bob.subject);
        let error = assert_untouched(&http.proxy, || client.request("resources/read", json!({"uri": uri})));
        assert!(error.unwrap_err()["message"].as_str().unwrap().starts_with("path_refused"));
        let templates = client.request("resources/templates/list", json!({})).unwrap();
        assert!(templates.to_string().contains(&format!("kv://{}/", alice.subject)));
        assert!(!templates.to_string().contains(&bob.subject));
    }
}

#[test]
fn tools_about_files_are_not_there_for_callers_elsewhere() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    // A client that says it has folders has them on its own machine.
    let era = Era::usual().with(json!({"elicitation": {"form": {}}, "roots": {}}));
    let client = Client::begin(&http, &agent, era);
    let tools = client.request("tools/list", json!({})).unwrap()["tools"].as_array().unwrap().clone();
    let names: Vec<_> = tools.iter().map(|tool| tool["name"].as_str().unwrap()).collect();
    assert!(names.contains(&"kv_read") && names.contains(&"vault_set"), "{names:?}");
    for missing in ["vault_inject", "vault_scan_env", "vault_scan_compose", "vault_generate_example"] {
        assert!(!names.contains(&missing), "{missing} is listed");
        let arguments = json!({"service": "app", "file_path": ".env"});
        assert_refused(&assert_untouched(&http.proxy, || client.call(missing, arguments)), "unknown_tool");
    }
    for tool in &tools {
        assert!(tool["inputSchema"]["properties"].get("to").is_none(), "{}", tool["name"]);
    }
    let issue = json!({"role": "app", "to": "secret.env"});
    assert_refused(&assert_untouched(&http.proxy, || client.call("db_issue_creds", issue)), "invalid_input");
    let made = std::fs::read_dir(http.home().work()).unwrap().map(|entry| entry.unwrap().file_name());
    let made: Vec<_> = made.filter(|name| name != "logs").collect();
    assert!(made.is_empty(), "{made:?}");
}

#[test]
fn subscribers_hear_of_their_own_resources_alone() {
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = Http::start(&[&alice, &bob], &[]);
    let mut heard = Vec::new();
    for agent in [&alice, &bob] {
        let client = Client::begin(&http, agent, Era::usual());
        let uri = format!("kv://{}/app", agent.subject);
        client.request("resources/subscribe", json!({"uri": uri})).unwrap();
        let stream = client.listen(None);
        assert_eq!(stream.status, 200);
        heard.push((client, stream, uri));
    }
    let (thief, _, _) = &heard[1];
    let foreign = json!({"uri": format!("kv://{}/app", alice.subject)});
    assert!(thief.request("resources/subscribe", foreign).is_err());
    http.put(&alice, "/secrets/app", json!({"data": {"A": canary("s")}})).ok();
    let update = heard[0].1.told().unwrap().json();
    assert_eq!(update["method"], "notifications/resources/updated");
    assert_eq!(update["params"]["uri"], heard[0].2);
    heard[1].1.assert_silent(Duration::from_millis(400));
    // The newer way: a request that goes on.
    let client = Client::begin(&http, &alice, Era::stateless());
    let uris = [format!("kv://{}/app", alice.subject), format!("kv://{}/app", bob.subject)];
    let filter = json!({"notifications": {"resourceSubscriptions": uris}});
    let mut stream = client.start("subscriptions/listen", filter);
    let accepted = stream.told().unwrap().json();
    assert!(
        accepted.to_string().contains(&uris[0]) && !accepted.to_string().contains(&uris[1]),
        "{accepted}"
    );
    http.put(&bob, "/secrets/app", json!({"data": {"A": "x"}})).ok();
    stream.assert_silent(Duration::from_millis(400));
    http.put(&alice, "/secrets/app", json!({"data": {"A": "x"}})).ok();
    assert_eq!(stream.told().unwrap().json()["params"]["uri"], uris[0]);
}

#[test]
fn a_broken_stream_is_taken_up_where_it_was() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let client = Client::begin(&http, &agent, Era::usual());
    let mut wire = client.start("tools/call", json!({"name": "kv_write", "arguments": write()}));
    let primed = wire.event().unwrap();
    assert_eq!(primed.data.as_deref(), Some(""));
    let question = wire.told().unwrap();
    assert_eq!(question.json()["method"], "elicitation/create");
    wire.cut();
    // From the start of it the question comes again, from the question on only what followed.
    let mut again = client.listen(primed.id.as_deref());
    assert_eq!(again.told().unwrap(), question);
    let mut later = client.listen(question.id.as_deref());
    later.assert_silent(Duration::from_millis(200));
    let yes = json!({"action": "accept", "content": {"answer": "yes"}});
    assert_eq!(
        client.post(&json!({"jsonrpc": "2.0", "id": question.json()["id"], "result": yes})).status,
        202
    );
    for stream in [&mut again, &mut later] {
        assert_eq!(stream.told().unwrap().json()["result"]["structuredContent"]["version"], 1);
        assert!(stream.told().is_none(), "a stream goes on behind its answer");
    }
    // What another session said is not to be had, nor by another subject.
    let other = Client::begin(&http, &agent, Era::usual());
    let mut foreign = other.listen(primed.id.as_deref());
    if let Some(Some(event)) = foreign.event_within(Duration::from_millis(400)) {
        assert!(!event.data.unwrap_or_default().contains("elicitation"), "another session's question");
    }
}

#[test]
fn pages_of_other_sites_are_refused_on_every_route() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[("CORS_ALLOW_ORIGINS", "https://app.example.com")]);
    let own = http.url.clone();
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    let open = |method: &str, path: &str, extra: (&str, &str)| {
        let headers = [
            ("X-API-Key", agent.key.as_str()),
            ("Content-Type", "application/json"),
            ("Accept", "application/json, text/event-stream"),
            extra,
        ];
        Wire::open(&own, method, path, &headers, (method == "POST").then_some(&body))
    };
    for (method, path) in
        [("POST", "/mcp"), ("GET", "/mcp"), ("DELETE", "/mcp"), ("POST", "/mcp/rpc"), ("GET", "/mcp/sse")]
    {
        for origin in ["null", "https://evil.example", "http://localhost:1", "https://app.example.com:8443"] {
            assert_eq!(open(method, path, ("Origin", origin)).status, 403, "{method} {path} {origin}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example"] {
            assert_eq!(open(method, path, ("Host", host)).status, 403, "{method} {path} {host}");
        }
        for origin in [own.as_str(), "https://app.example.com"] {
            assert_ne!(open(method, path, ("Origin", origin)).status, 403, "{method} {path} {origin}");
        }
    }
}

#[test]
fn headers_that_contradict_the_body_are_refused() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let client = Client::begin(&http, &agent, Era::stateless_mute());
    let call = client.message("tools/call", json!({"name": "kv_list", "arguments": {}}));
    let changes = [
        ("Mcp-Method", Some("tools/list")),
        ("Mcp-Method", None),
        ("Mcp-Name", Some("kv_read")),
        ("Mcp-Name", None),
        ("MCP-Protocol-Version", Some("2025-11-25")),
        ("MCP-Protocol-Version", Some("1999-01-01")),
        ("MCP-Protocol-Version", None),
    ];
    for (name, value) in changes {
        let mut headers = client.headers(&call);
        headers.retain(|(known, _)| known != name);
        headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
        let reply = assert_untouched(&http.proxy, || client.send("POST", &headers, Some(&call.to_string())));
        assert_eq!(reply.status, 400, "{name} {value:?}");
    }
    client.call("kv_list", json!({})).ok();
    let session = Client::begin(&http, &agent, Era::mute());
    let mut headers = session.headers(&Value::Null);
    headers.retain(|(name, _)| name != "MCP-Protocol-Version");
    headers.push(("MCP-Protocol-Version".to_owned(), "1999-01-01".to_owned()));
    let ping = json!({"jsonrpc": "2.0", "id": 1, "method": "ping"}).to_string();
    assert_eq!(session.send("POST", &headers, Some(&ping)).status, 400);
}

#[test]
fn what_is_no_message_is_answered_and_never_quoted() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let secret = canary("odd");
    let deep = format!("{}{}", "[".repeat(10_000), "]".repeat(10_000));
    let odd = [
        (String::new(), -32700),
        (format!("{{\"a\": {secret}"), -32700),
        ("{}{}".to_owned(), -32700),
        (format!(r#"{{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{{"a":{deep}}}}}"#), -32600),
        (format!(r#"{{"jsonrpc":"2.0","id":1,"id":2,"method":"{secret}"}}"#), -32600),
        (format!(r#"[{{"jsonrpc":"2.0","id":1,"method":"ping","x":"{secret}"}}]"#), -32600),
        (r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#.to_owned(), -32600),
        (r#"{"jsonrpc":"2.0","id":1.5,"method":"ping"}"#.to_owned(), -32600),
        (format!(r#"{{"jsonrpc":"1.0","id":1,"method":"{secret}"}}"#), -32600),
        (format!("\"{secret}\""), -32600),
    ];
    for client in
        [Client::begin(&http, &agent, Era::mute()), Client::begin(&http, &agent, Era::stateless_mute())]
    {
        for (text, code) in &odd {
            let reply = assert_untouched(&http.proxy, || {
                client.send("POST", &client.headers(&Value::Null), Some(text))
            });
            assert_eq!(reply.status, 400, "{text:.60}");
            let body = reply.json();
            assert_eq!(body["error"]["code"], *code, "{text:.60}: {body}");
            assert_no_canary(body.to_string(), "a refusal");
        }
        // Answers to nothing, and a notification of nothing.
        let stray = client.post(&json!({"jsonrpc": "2.0", "id": 77, "result": {}}));
        assert_eq!(stray.status, if client.session.is_some() { 202 } else { 400 });
        assert!(client.call("kv_list", json!({})).ok()["keys"].is_array());
    }
    let large =
        format!(r#"{{"jsonrpc":"2.0","id":1,"method":"ping","params":{{"a":"{}"}}}}"#, "x".repeat(1 << 20));
    let reply = http.bare("POST", "/mcp", &[("X-API-Key", &agent.key)], Some(&large));
    assert_eq!((reply.status, reply.body["error"].as_str()), (413, Some("too_large")));
    assert_ids(&reply);
}

#[test]
fn an_id_in_use_is_not_taken_twice_and_free_again_afterwards() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let client = Client::begin(&http, &agent, Era::usual());
    client.always(Answer::yes());
    let message = |name: &str, arguments: Value| json!({"jsonrpc": "2.0", "id": "x", "method": "tools/call", "params": {"name": name, "arguments": arguments}});
    let waiting = client.post(&message("kv_write", write()));
    let refused = client.post(&message("kv_list", json!({})));
    assert_eq!(refused.status, 400);
    let body = refused.json();
    assert_eq!((&body["error"]["code"], &body["id"]), (&json!(-32600), &Value::Null), "{body}");
    assert_eq!(client.answer(waiting).unwrap()["structuredContent"]["version"], 1);
    client.answer(client.post(&message("kv_list", json!({})))).unwrap();
    // A cancelled request gives its id back once its handler has ended.
    let mut waiting = client.post(&message("kv_write", json!({"path": "b", "data": {"A": "b"}})));
    waiting.told().unwrap();
    let told = json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "x"}});
    assert_eq!(client.post(&told).status, 202);
    assert!(waiting.told().is_none_or(|event| event.json()["method"] == "notifications/cancelled"));
    wait_until("the id to be free", PATIENCE, || {
        let wire = client.post(&message("kv_list", json!({})));
        (wire.status == 200).then(|| client.answer(wire).unwrap())
    });
    assert_eq!(vault().version(&agent.subject, "b"), 0);
}

#[test]
fn a_yes_is_good_for_its_own_subject_and_arguments_and_once() {
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = Http::start(&[&alice, &bob], &[]);
    let client = Client::begin(&http, &alice, Era::stateless());
    let thief = client.under(&bob.key);
    client.always(Answer::yes());
    let params = json!({"name": "kv_write", "arguments": write()});
    let asked = client.request("tools/call", params.clone()).unwrap();
    let yes = client.repeat(&params, &asked).unwrap();
    let tool = |who: &Client, params: Value| ToolResult(who.request("tools/call", params).unwrap());
    assert_refused(&tool(&thief, yes.clone()), "ticket_invalid");
    let rpc = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": yes});
    let rpc = http.post(&alice, "/mcp/rpc", rpc).ok();
    assert_refused(&ToolResult(rpc["result"].clone()), "ticket_invalid");
    assert!(http.proxy.writes().is_empty());
    // Ten at a time have one effect.
    let done: Vec<_> = std::thread::scope(|scope| {
        let replays: Vec<_> = (0..10).map(|_| scope.spawn(|| tool(&client, yes.clone()))).collect();
        replays.into_iter().map(|replay| replay.join().unwrap()).collect()
    });
    assert_eq!(done.iter().filter(|result| !result.is_error()).count(), 1);
    for refused in done.iter().filter(|result| result.is_error()) {
        assert_refused(refused, "ticket_invalid");
    }
    assert_eq!(vault().version(&alice.subject, "app"), 1);
    assert_eq!(vault().version(&bob.subject, "app"), 0);
}

#[test]
fn the_questions_of_one_subject_do_not_stand_in_anothers_way() {
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = Http::start(&[&alice, &bob], &[]);
    let first = Client::begin(&http, &alice, Era::stateless());
    let call = |number: usize| json!({"name": "kv_write", "arguments": {"path": format!("p{number}"), "data": {"A": "b"}}});
    for number in 0..3 {
        let asked = first.request("tools/call", call(number)).unwrap();
        assert_eq!(asked["resultType"], "input_required", "{asked}");
    }
    let fourth = ToolResult(first.request("tools/call", call(3)).unwrap());
    assert_refused(&fourth, "too_many_pending");
    let second = Client::begin(&http, &bob, Era::stateless());
    second.always(Answer::yes());
    second.call("kv_write", write()).ok();
}

#[test]
fn a_subject_that_begins_more_sessions_than_it_may_loses_its_own_oldest() {
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = Http::start(&[&alice, &bob], &[]);
    let other = Client::begin(&http, &bob, Era::mute());
    let first = Client::begin(&http, &alice, Era::mute());
    let mut last = first.clone();
    for _ in 0..32 {
        last = Client::begin(&http, &alice, Era::mute());
    }
    let ping = |client: &Client| client.post(&json!({"jsonrpc": "2.0", "id": 9, "method": "ping"})).status;
    assert_eq!((ping(&first), ping(&last), ping(&other)), (404, 200, 200));
}

#[test]
fn a_subject_has_so_many_streams_and_no_more_and_another_has_its_own() {
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = Http::start(&[&alice, &bob], &[]);
    let open = |agent: &Agent| Wire::open(&http.url, "GET", "/mcp/sse", &[("X-API-Key", &agent.key)], None);
    let streams: Vec<_> = (0..64).map(|_| open(&alice)).collect();
    assert!(streams.iter().all(|stream| stream.status == 200));
    let refused = open(&alice);
    assert_eq!(refused.status, 429);
    assert_eq!(refused.json()["error"], "too_many_open");
    assert_eq!(open(&bob).status, 200);
    drop(streams);
    wait_until("a stream to be free again", PATIENCE, || (open(&alice).status == 200).then_some(()));
}

#[test]
fn rest_routes_that_are_switched_off_leave_mcp() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[("EXPOSE_REST_ROUTES", "false")]);
    assert_eq!(http.get(&agent, "/secrets").status, 404);
    for era in [Era::mute(), Era::stateless_mute()] {
        Client::begin(&http, &agent, era).call("kv_list", json!({})).ok();
    }
}

#[test]
fn streams_end_and_questions_are_told_when_the_server_does() {
    let agent = Agent::new();
    let mut http = Http::start(&[&agent], &[]);
    let client = Client::begin(&http, &agent, Era::usual());
    let mut listening = client.listen(None);
    let mut events = Wire::open(&http.url, "GET", "/mcp/sse", &[("X-API-Key", &agent.key)], None);
    let mut waiting = client.start("tools/call", json!({"name": "kv_write", "arguments": write()}));
    assert_eq!(waiting.told().unwrap().json()["method"], "elicitation/create");
    http.server().signal(rustix::process::Signal::TERM);
    let answer = waiting.told().expect("the call is told").json();
    assert_refused(&ToolResult(answer["result"].clone()), "cancelled");
    assert!(listening.told().is_none());
    // The call's own end is an event, which may still get through.
    while let Some(event) = events.told() {
        assert_eq!(event.json()["type"], "tool.completed");
    }
    assert!(http.server_mut().wait().success());
    assert!(http.proxy.writes().is_empty());
}
