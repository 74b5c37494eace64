//! Callers that go away in mid-call: what Vault has heard of is in the audit log from beginning to end, whatever
//! the call came in by and whenever its caller left.

use serde_json::{Value, json};

use super::{
    rig::{Agent, Http},
    watch::metrics,
    wire::{Client, Wire},
};
use crate::common::{Answer, Era, Fault, Gate, On, PATIENCE, Server, canary, vault, wait_until};

/// How Vault keeps a call waiting until the gate is open, and when.
type Moment = (fn(Gate) -> Fault, &'static str);

fn moments() -> [Moment; 2] {
    [(Fault::Hold, "before Vault has it"), (Fault::HoldAfter, "once Vault has done it")]
}

/// The call is at Vault's door.
fn wait_for_vault(http: &Http, method: &'static str) {
    http.proxy.wait_for("the call", |sent| sent.method == method && sent.target.contains("/data/"));
}

/// Nothing of the request is left in the server but what goes on without it.
fn wait_for_leaving(http: &Http) {
    // This look at it is one.
    wait_until("nobody but us", PATIENCE, || {
        metrics(http).contains("http_requests_in_flight 1\n").then_some(())
    });
}

/// Asks the server to end, and waits until it has begun to.
fn begin_the_end(http: &Http) {
    http.server().signal(rustix::process::Signal::TERM);
    let address = http.url.trim_start_matches("http://");
    wait_until("a closed door", PATIENCE, || std::net::TcpStream::connect(address).is_err().then_some(()));
}

/// What the log says of an operation, as soon as it says how the last call of it ended.
fn actions(http: &Http, op: &str) -> Vec<String> {
    wait_until(&format!("the end of {op} in the audit log"), PATIENCE, || {
        let of_op: Vec<Value> = http.records().into_iter().filter(|record| record["op"] == op).collect();
        let actions: Vec<_> =
            of_op.iter().map(|record| record["action"].as_str().unwrap().to_owned()).collect();
        matches!(actions.last()?.as_str(), "SUCCESS" | "FAILED" | "ABORTED").then_some(actions)
    })
}

/// Sends a REST call and does not wait for its answer.
fn send(http: &Http, agent: &Agent, method: &str, path: &str, body: &str) -> std::net::TcpStream {
    use std::io::Write;
    let address = http.url.trim_start_matches("http://");
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nX-API-Key: {}\r\n", agent.key);
    write!(stream, "{head}Content-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    stream
}

fn write() -> Value {
    json!({"data": {"A": canary("w")}})
}

#[test]
fn a_rest_call_is_recorded_to_its_end() {
    for (fault, when) in moments() {
        let agent = Agent::new();
        let http = Http::start(&[&agent], &[]);
        let gate = Gate::new();
        http.proxy.fail(On::target("/data/").changing().times(1), fault(gate.clone()));
        let stream = send(&http, &agent, "PUT", "/secrets/app", &write().to_string());
        wait_for_vault(&http, "POST");
        drop(stream);
        wait_for_leaving(&http);
        gate.open();
        assert_eq!(actions(&http, "kv.write"), ["REQUEST", "SUCCESS"], "{when}");
        assert_eq!(vault().version(&agent.subject, "app"), 1, "{when}");
    }
}

#[test]
fn a_rest_call_that_fails_is_recorded_to_its_end() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let gate = Gate::new();
    http.proxy.fail(On::target("/data/").changing().times(1), Fault::HoldAfter(gate.clone()));
    // Such a version is not there.
    let body = json!({"data": {"A": canary("w")}, "cas": 7}).to_string();
    let stream = send(&http, &agent, "PUT", "/secrets/app", &body);
    wait_for_vault(&http, "POST");
    drop(stream);
    wait_for_leaving(&http);
    gate.open();
    assert_eq!(actions(&http, "kv.write"), ["REQUEST", "FAILED"]);
}

#[test]
fn the_end_of_the_server_waits_for_calls_whose_callers_are_gone() {
    let agent = Agent::new();
    let mut http = Http::start(&[&agent], &[]);
    let gate = Gate::new();
    http.proxy.fail(On::target("/data/").changing().times(1), Fault::HoldAfter(gate.clone()));
    let stream = send(&http, &agent, "PUT", "/secrets/app", &write().to_string());
    wait_for_vault(&http, "POST");
    drop(stream);
    wait_for_leaving(&http);
    begin_the_end(&http);
    gate.open();
    assert!(http.server_mut().wait().success());
    assert_eq!(actions(&http, "kv.write"), ["REQUEST", "SUCCESS"]);
    let verified = Server::launch().home(http.home()).args(["audit", "verify"]).run("");
    assert!(verified.status.success(), "{}{}", verified.stdout, verified.stderr);
}

/// A confirmed write over `/mcp`, up to the moment at which Vault has it: the stream that its answer will come on.
fn confirmed_write(http: &Http, client: &Client) -> Wire {
    let params = json!({"name": "kv_write", "arguments": {"path": "app", "data": {"A": canary("w")}}});
    client.always(Answer::yes());
    if client.session.is_none() {
        let asked = client.request("tools/call", params.clone()).unwrap();
        let message = client.message("tools/call", client.repeat(&params, &asked).unwrap());
        // Not before its end has a stream without a session anything to say, so its head is not waited for.
        let headers = client.headers(&message);
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let wire = Wire::send(&client.url, "POST", "/mcp", &headers, Some(&message.to_string()));
        wait_for_vault(http, "POST");
        return wire;
    }
    let mut wire = client.start("tools/call", params);
    let question = wire.told().unwrap().json();
    let yes = json!({"action": "accept", "content": {"answer": "yes"}});
    let told = client.post(&json!({"jsonrpc": "2.0", "id": question["id"], "result": yes}));
    assert_eq!(told.status, 202);
    wait_for_vault(http, "POST");
    wire
}

#[test]
fn a_call_of_mcp_is_recorded_to_its_end_with_a_session_and_without() {
    for era in [Era::usual(), Era::stateless()] {
        for (fault, when) in moments() {
            let agent = Agent::new();
            let http = Http::start(&[&agent], &[]);
            let client = Client::begin(&http, &agent, era.clone());
            let gate = Gate::new();
            http.proxy.fail(On::target("/data/").changing().times(1), fault(gate.clone()));
            confirmed_write(&http, &client).cut();
            wait_for_leaving(&http);
            gate.open();
            let expected = ["CONFIRMATION_REQUIRED", "CONFIRMED", "REQUEST", "SUCCESS"];
            assert_eq!(actions(&http, "kv.write"), expected, "{era:?} {when}");
            assert_eq!(vault().version(&agent.subject, "app"), 1, "{era:?} {when}");
        }
    }
}

#[test]
fn the_end_of_the_server_waits_for_calls_of_mcp_whose_callers_are_gone() {
    for era in [Era::usual(), Era::stateless()] {
        let agent = Agent::new();
        let mut http = Http::start(&[&agent], &[]);
        let client = Client::begin(&http, &agent, era.clone());
        let gate = Gate::new();
        http.proxy.fail(On::target("/data/").changing().times(1), Fault::HoldAfter(gate.clone()));
        confirmed_write(&http, &client).cut();
        wait_for_leaving(&http);
        begin_the_end(&http);
        gate.open();
        assert!(http.server_mut().wait().success());
        assert_eq!(actions(&http, "kv.write").last().unwrap(), "SUCCESS", "{era:?}");
    }
}

#[test]
fn a_message_of_rpc_is_recorded_to_its_end_and_waited_for() {
    for end in [false, true] {
        let agent = Agent::new();
        let mut http = Http::start(&[&agent], &[]);
        vault().write_secret(&agent.subject, "app", json!({"A": canary("r")}));
        let gate = Gate::new();
        http.proxy.fail(On::target("/data/").times(1), Fault::HoldAfter(gate.clone()));
        let params = json!({"name": "kv_read", "arguments": {"path": "app"}});
        let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
        let stream = send(&http, &agent, "POST", "/mcp/rpc", &message.to_string());
        wait_for_vault(&http, "GET");
        drop(stream);
        wait_for_leaving(&http);
        if end {
            begin_the_end(&http);
        }
        gate.open();
        if end {
            assert!(http.server_mut().wait().success());
        }
        assert_eq!(actions(&http, "kv.read"), ["REQUEST", "SUCCESS"], "{end}");
    }
}

#[test]
fn a_question_whose_caller_is_gone_is_closed_and_stands_in_nobodys_way() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[("CONFIRM_REST", "true")]);
    for _ in 0..4 {
        let gate = Gate::new();
        http.proxy.heal().fail(On::target("/data/").times(1), Fault::HoldAfter(gate.clone()));
        let before = http.proxy.count();
        let stream = send(&http, &agent, "PUT", "/secrets/app", &write().to_string());
        wait_until("the look at what is there", PATIENCE, || {
            let sent = http.proxy.requests().split_off(before);
            sent.iter().any(|sent| sent.target.contains("/data/")).then_some(())
        });
        drop(stream);
        wait_for_leaving(&http);
        let known = http.records().len();
        gate.open();
        wait_until("the end of the question", PATIENCE, || (http.records().len() >= known + 2).then_some(()));
        let log = http.records();
        let actions: Vec<_> = log[known..].iter().map(|record| record["action"].as_str().unwrap()).collect();
        assert_eq!(actions, ["CONFIRMATION_REQUIRED", "ABORTED"]);
    }
    assert!(http.proxy.writes().is_empty());
}
