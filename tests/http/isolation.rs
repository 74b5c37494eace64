//! One agent never sees an event, key name, lease or ticket of another's, whatever it calls and however it asks.
//!
//! Alice has plenty that can be recognised. Bob, who may do everything in his own tree, calls every route of the
//! table and every tool, harmlessly and with what is hers, while she works beside him. Nothing that he is told holds
//! any of her marks, and nothing of hers is changed. Sums over all callers (`/metrics`, `/observability/summary`)
//! name nobody, so they are held to the same.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use vault_mcp::op::OPS;

use super::{
    authorisation::{Call, PUBLIC_KEY, every_route},
    compatibility,
    confirm::{answered, attended, confirming, ticket_of},
    rig::{Agent, Http, assert_refused},
    wire::{Client, Wire},
};
use crate::common::{
    Answer, Era, PATIENCE, Terminal, ToolResult, assert_refused as assert_tool_refused, unique, vault,
    wait_until,
};

/// How long a stream is listened to after its last word.
const QUIET: Duration = Duration::from_millis(400);

/// The agents. Hers begins with his: whatever compares no more than a beginning takes her for him.
fn agents() -> (Agent, Agent) {
    let bob = Agent::new();
    (Agent { subject: format!("{}{}", bob.subject, unique("x")), ..Agent::new() }, bob)
}

/// What is hers.
struct Alice {
    agent: Agent,
    /// Where she keeps a secret of two versions, of which the first is deleted.
    path: String,
    /// Where she writes while he looks.
    busy: String,
    /// Words that stand in nothing but what is hers.
    marks: Vec<String>,
    /// The ids of requests of hers.
    requests: Vec<String>,
    correlation: String,
    /// A lease of hers, real where there is a database.
    lease: String,
    leased: bool,
    /// A session of hers with its stream.
    session: Client,
    /// The id of an event of that stream's.
    told: String,
    /// A question of hers that waits, with what she would say yes with.
    yes: Value,
    asked: Instant,
    /// Her own stream of events, and the id of its first.
    events: Wire,
    event: String,
}

/// Writes what is hers, behind the server's back where the server would have to ask.
fn settle(http: &Http, agent: &Agent, database: bool) -> Alice {
    let mark = |what: &str| unique(&format!("hers{what}"));
    let (path, key, value, old, note) = (mark("path"), mark("key"), mark("value"), mark("old"), mark("note"));
    let (gone, service, correlation, busy) =
        (mark("gone"), mark("service"), mark("correlation"), mark("busy"));
    let subject = &agent.subject;
    let here = format!("{path}/{}", mark("leaf"));
    vault().write_secret(subject, &here, json!({(key.clone()): old}));
    vault().write_secret(subject, &here, json!({(key.clone()): value}));
    vault().put(&format!("secret/delete/mcp/{subject}/{here}"), json!({"versions": [1]})).ok();
    let metadata = json!({"custom_metadata": {(note.clone()): note}});
    vault().put(&format!("secret/metadata/mcp/{subject}/{here}"), metadata).ok();
    vault().write_secret(subject, &gone, json!({(key.clone()): value}));
    vault().delete(&format!("secret/data/mcp/{subject}/{gone}")).ok();

    let mut events = events_of(http, agent, None);
    let client = Client::begin(http, agent, Era::stateless());
    client.always(Answer::yes());
    client.call("vault_set", json!({"service": service, "secrets": {(key.clone()): value}})).ok();
    let mut requests = Vec::new();
    for path in ["/secrets".to_owned(), format!("/secrets/{here}")] {
        let headers = [("X-API-Key", agent.key.as_str()), ("X-Correlation-Id", correlation.as_str())];
        let reply = http.bare("GET", &path, &headers, None);
        assert!(reply.text.contains(&gone) || reply.text.contains(&value), "{}", reply.text);
        requests.push(reply.header("x-request-id").unwrap().to_owned());
    }
    let issued = database.then(|| client.call("db_issue_creds", json!({"role": "app"})).ok().clone());
    let lease = issued.map(|issued| issued["lease_id"].as_str().unwrap().to_owned());
    let leased = lease.is_some();
    let lease = lease.unwrap_or_else(|| format!("database/creds/app/{}", mark("lease")));

    let session = Client::begin(http, agent, Era::usual());
    let uri = format!("kv://{subject}/{here}");
    session.request("resources/subscribe", json!({"uri": uri})).unwrap();
    let mut wire = session.start("tools/call", json!({"name": "kv_list", "arguments": {}}));
    let told = wire.event().unwrap().id.unwrap();
    let call = json!({"name": "kv_write", "arguments": {"path": path, "data": {(key.clone()): value}}});
    let began = Instant::now();
    let asked = client.request("tools/call", call.clone()).unwrap();
    let yes = client.repeat(&call, &asked).unwrap();
    let event = events.told().unwrap();
    assert!(event.data.unwrap().contains(subject.as_str()));

    let state = yes["requestState"].as_str().unwrap().to_owned();
    let id = session.session.clone().unwrap();
    let mut marks =
        vec![subject.clone(), busy.clone(), agent.key.clone(), path, key, value, old, note, gone, service];
    marks.extend([correlation.clone(), lease.clone(), id, state]);
    marks.extend(requests.iter().cloned());
    Alice {
        agent: agent.clone(),
        path: here,
        busy,
        marks,
        requests,
        correlation,
        lease,
        leased,
        session,
        told,
        yes,
        asked: began,
        events,
        event: event.id.unwrap(),
    }
}

impl Alice {
    /// Everything of hers as Vault has it, but what she writes meanwhile.
    fn state(&self) -> Value {
        fn below(path: &str, but: &str, all: &mut Vec<Value>) {
            let keys = vault().list(&format!("secret/metadata/{path}")).body["data"]["keys"].clone();
            for key in keys.as_array().into_iter().flatten().map(|key| key.as_str().unwrap()) {
                if key.ends_with('/') {
                    below(&format!("{path}{key}"), but, all);
                } else if key != but {
                    let metadata = vault().get(&format!("secret/metadata/{path}{key}")).body["data"].clone();
                    let versions = 1..=metadata["current_version"].as_u64().unwrap();
                    let data = versions.map(|version| {
                        vault().get(&format!("secret/data/{path}{key}?version={version}")).body["data"]
                            .clone()
                    });
                    all.push(json!([key, data.collect::<Vec<_>>(), metadata]));
                }
            }
        }
        let mut all = Vec::new();
        below(&format!("mcp/{}/", self.agent.subject), &self.busy, &mut all);
        assert!(all.len() >= 3, "{all:?}");
        json!(all)
    }

    /// She does something that is an event to her.
    fn works(&self, http: &Http) {
        let call = json!({"name": "kv_list", "arguments": {}});
        let call = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": call});
        http.post(&self.agent, "/mcp/rpc", call).ok();
        http.put(&self.agent, &format!("/secrets/{}", self.busy), json!({"data": {"A": "b"}})).ok();
    }

    /// Ways to say which secret of hers is meant, or which lease, for what is called so. None is a name in anybody's
    /// tree: one that is would be his own there.
    fn reaches(&self, name: &str) -> Vec<String> {
        if name == "lease_id" {
            return vec![self.lease.clone(), format!("{}/", self.lease), format!("../{}", self.lease)];
        }
        let there = format!("{}/{}", self.agent.subject, self.path);
        let mut all: Vec<_> = ["../", "/mcp/", "/", "%2e%2e/", "..%2f", "a/../../", "kv://", "./../"]
            .iter()
            .map(|before| format!("{before}{there}"))
            .collect();
        all.push(format!("../{}", self.agent.subject));
        all.push(format!("../{there}#{}", self.marks[4]));
        all
    }

    /// None of her marks stands in it.
    #[track_caller]
    fn assert_unseen(&self, what: &str, told: &str) {
        for mark in &self.marks {
            assert!(!told.contains(mark.as_str()), "{mark} of another agent's stands in {what}: {told}");
        }
    }

    /// Nothing that names what is hers has been sent to Vault after so many requests.
    #[track_caller]
    fn assert_unsought(&self, http: &Http, before: usize) {
        for sent in http.proxy.requests().split_off(before) {
            let whole = String::from_utf8_lossy(&[&sent.head[..], &sent.body].concat()).into_owned();
            // Her tree and where she works stand in what she does herself.
            let sought = self.marks.iter().skip(2).find(|mark| whole.contains(mark.as_str()));
            assert!(sought.is_none(), "{sought:?} was asked for: {}", sent.line());
        }
    }

    /// What she has is still hers: her session, her lease, her question, her events.
    fn assert_unhindered(mut self, http: &Http) {
        self.session.call("kv_list", json!({})).ok();
        let client = Client::begin(http, &self.agent, Era::stateless());
        if self.leased {
            let leases = client.call("db_leases", json!({}));
            assert!(leases.ok().to_string().contains(&self.lease), "{leases:?}");
            http.post(&self.agent, "/db/revoke", json!({"lease_id": self.lease})).ok();
        }
        let written = ToolResult(client.request("tools/call", self.yes.clone()).unwrap());
        // A question lives for two minutes: on a machine that crawls this one may be over.
        if self.asked.elapsed() < Duration::from_secs(100) {
            assert_eq!(written.ok()["version"], 1);
        }
        let event = self.events.told().unwrap().json();
        assert_eq!(event["subject"], self.agent.subject, "{event}");
        let own = format!("/observability/logs/responses?correlation_id={}", self.correlation);
        let lines = http.get(&self.agent, &own);
        assert!(self.requests.iter().all(|id| lines.text.contains(id)), "{}", lines.text);
    }
}

/// Everything that comes: status, headers, and the body or the events until there are no more for a while.
fn all_of(mut wire: Wire, quiet: Duration) -> String {
    let mut told = format!("{} {:?}", wire.status, wire.headers);
    if !wire.is_stream() {
        return told + &wire.text();
    }
    while let Some(Some(event)) = wire.event_within(quiet) {
        told += &format!("{event:?}");
    }
    told
}

/// The stream of what happens to an agent, from behind this event on.
fn events_of(http: &Http, agent: &Agent, last: Option<&str>) -> Wire {
    let mut headers = vec![("X-API-Key", agent.key.as_str())];
    headers.extend(last.map(|last| ("Last-Event-ID", last)));
    Wire::open(&http.url, "GET", "/mcp/sse", &headers, None)
}

/// A request of his, byte for byte as it stands here.
fn ask(http: &Http, agent: &Agent, call: &Call, more: &[(&str, &str)]) -> String {
    let json = "application/json, text/event-stream";
    let mut headers = vec![("X-API-Key", agent.key.as_str()), ("Accept", json)];
    headers.extend(call.body.as_ref().map(|_| ("Content-Type", "application/json")));
    headers.extend_from_slice(more);
    let wire = Wire::open(&http.url, call.method, &call.path, &headers, call.body.as_deref());
    all_of(wire, Duration::from_millis(50))
}

/// Every route with each way to say where her secret is, in the path and in whatever names something.
fn reaching(alice: &Alice) -> Vec<Call> {
    let mut calls = Vec::new();
    for (_, call) in every_route() {
        let with = |reach: &str, path: String, body: Option<String>| {
            let (what, scope, method) = (format!("{} with {reach}", call.what), call.scope, call.method);
            Call { what, scope, method, path, body }
        };
        let (bare, query) = call.path.split_once('?').unwrap_or((&call.path, ""));
        for reach in alice.reaches("path") {
            // What is named last in a path, by its operation's case or its place in the template.
            for before in ["app", "requests"].iter().filter_map(|held| bare.strip_suffix(held)) {
                calls.push(with(&reach, format!("{before}{reach}"), call.body.clone()));
            }
            let names = query.split('&').filter_map(|pair| Some(pair.split_once('=')?.0));
            for name in names.chain(["subject"]) {
                calls.push(with(&reach, format!("{bare}?{name}={reach}"), call.body.clone()));
            }
        }
        let body: Value =
            call.body.as_deref().map_or(Value::Null, |body| serde_json::from_str(body).unwrap());
        for (name, _) in body.as_object().into_iter().flatten().filter(|(_, value)| value.is_string()) {
            for reach in alice.reaches(name) {
                let mut body = body.clone();
                body[name] = json!(reach);
                calls.push(with(&reach, call.path.clone(), Some(body.to_string())));
            }
        }
    }
    for log in ["requests", "responses", "server"] {
        let queries = alice.requests.iter().map(|id| format!("request_id={id}"));
        for query in queries.chain([format!("correlation_id={}", alice.correlation), "limit=500".to_owned()])
        {
            let path = format!("/observability/logs/{log}?{query}");
            calls.push(Call { what: path.clone(), path, method: "GET", body: None, scope: None });
        }
    }
    calls
}

fn database() -> Option<String> {
    compatibility::database().map(|(mount, _)| mount)
}

fn start(alice: &Agent, bob: &Agent, database: Option<&str>) -> Http {
    let mut settings = vec![("LOG_LEVEL", "debug")];
    settings.extend(database.map(|mount| ("DATABASE_MOUNT", mount)));
    Http::start(&[alice, bob], &settings)
}

#[test]
fn no_route_tells_one_agent_of_another() {
    let (agent, bob) = agents();
    let database = database();
    let http = start(&agent, &bob, database.as_deref());
    let alice = settle(&http, &agent, database.is_some());
    let events = events_of(&http, &bob, Some(&alice.event));
    let (before, heard) = (alice.state(), http.proxy.count());
    let state = alice.yes["requestState"].as_str().unwrap().to_owned();
    let session = alice.session.session.clone().unwrap();
    let stolen = [
        ("Mcp-Session-Id", session.as_str()),
        ("Last-Event-ID", &alice.event),
        ("X-Approval-Ticket", &state),
        ("MCP-Protocol-Version", "2025-11-25"),
    ];
    for more in [&[][..], &stolen] {
        for (_, call) in every_route() {
            alice.works(&http);
            alice.assert_unseen(&call.what, &ask(&http, &bob, &call, more));
        }
    }
    for (at, call) in reaching(&alice).iter().enumerate() {
        if at % 16 == 0 {
            alice.works(&http);
        }
        alice.assert_unseen(&call.what, &ask(&http, &bob, call, &[]));
    }
    // Her lease is to him as one that nobody has.
    for route in ["/db/renew", "/db/revoke"] {
        let refusals = [alice.lease.as_str(), "database/creds/app/none"].map(|lease| {
            let reply = http.post(&bob, route, json!({"lease_id": lease}));
            assert_refused(&reply, 404, "lease_unknown");
            reply.text
        });
        assert_eq!(refusals[0], refusals[1]);
    }
    alice.assert_unseen("the events meanwhile", &all_of(events, QUIET));
    alice.assert_unsought(&http, heard);
    assert_eq!(alice.state(), before);
    alice.assert_unhindered(&http);
}

/// An argument of this name that does no harm.
fn harmless(name: &str) -> Value {
    match name {
        "path" | "role" | "service" | "username" => json!("app"),
        "data" | "secrets" => json!({"A": "b"}),
        "key" => json!("A"),
        "a" | "b" => json!("app#A"),
        "version" | "from_version" | "to_version" => json!(1),
        "versions" => json!([1]),
        "input" => json!("aGk="),
        "signature" => json!("vault:v1:aGk="),
        "lease_id" => json!("database/creds/app/none"),
        "ip" => json!("127.0.0.1"),
        "public_key" => json!(PUBLIC_KEY),
        "common_name" => json!("app.example.com"),
        "serial_number" => json!("1a:2b:3c"),
        _ => panic!("there is no harmless {name}"),
    }
}

/// Arguments that say which thing is meant, of those that a tool takes.
const NAMING: [&str; 11] =
    ["path", "prefix", "service", "mount", "a", "b", "key", "role", "lease_id", "serial_number", "cursor"];

/// Calls of every tool: one without harm, and one for each argument and each way to name what is hers.
fn tool_calls(listed: &[Value], alice: &Alice) -> Vec<(String, Value)> {
    let mut calls = Vec::new();
    for op in OPS {
        let name = op.spec.tool_name();
        let schema = listed.iter().find(|tool| tool["name"] == name.as_str());
        let schema = schema.map_or(Value::Null, |tool| tool["inputSchema"].clone());
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        let required = required.iter().map(|name| name.as_str().unwrap());
        let arguments: Value = required.map(|name| (name.to_owned(), harmless(name))).collect();
        calls.push((name.clone(), arguments.clone()));
        // A key of transit's is a part of a path; one in a secret may be any text.
        let names = |naming: &&&str| **naming != "key" || name.starts_with("transit_");
        let there = |naming: &&&str| schema["properties"].get(**naming).is_some();
        for naming in NAMING.iter().filter(there).filter(names) {
            for reach in alice.reaches(naming) {
                let mut arguments = arguments.clone();
                arguments[*naming] = json!(reach);
                calls.push((name.clone(), arguments));
            }
        }
    }
    calls
}

/// What a client may ask besides tools.
fn requests(alice: &Alice) -> Vec<(&'static str, Value)> {
    let mut all = vec![
        ("tools/list", json!({})),
        ("resources/list", json!({})),
        ("resources/templates/list", json!({})),
        ("prompts/list", json!({})),
        ("server/discover", json!({})),
        ("ping", json!({})),
        ("logging/setLevel", json!({"level": "debug"})),
        ("tasks/list", json!({})),
    ];
    let template = format!("kv://{}/{{+path}}", alice.agent.subject);
    for reach in alice.reaches("path") {
        let of = json!({"type": "ref/resource", "uri": template});
        let argument = json!({"name": "path", "value": reach});
        all.push(("completion/complete", json!({"ref": of, "argument": argument})));
        all.push(("resources/read", json!({"uri": reach})));
        all.push(("resources/read", json!({"uri": format!("kv://{reach}")})));
    }
    all.push(("resources/read", json!({"uri": format!("kv://{}/", alice.agent.subject)})));
    all.push(("resources/subscribe", json!({"uri": format!("kv://{}/{}", alice.agent.subject, alice.path)})));
    all
}

#[test]
fn no_tool_or_resource_tells_one_agent_of_another() {
    let (agent, bob) = agents();
    let database = database();
    let http = start(&agent, &bob, database.as_deref());
    let alice = settle(&http, &agent, database.is_some());
    let events = events_of(&http, &bob, Some(&alice.event));
    let (before, heard) = (alice.state(), http.proxy.count());
    vault().write_secret(&bob.subject, "app", json!({"A": "b"}));
    let mute = Client::begin(&http, &bob, Era::mute());
    let asking = Client::begin(&http, &bob, Era::stateless());
    asking.always(Answer::yes());
    let tools = mute.request("tools/list", json!({})).unwrap();
    let tools = tools["tools"].as_array().unwrap();
    let rpc = |method: &str, params: &Value| Call {
        what: method.to_owned(),
        scope: None,
        method: "POST",
        path: "/mcp/rpc".to_owned(),
        body: Some(json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params}).to_string()),
    };
    for (method, params) in requests(&alice) {
        alice.works(&http);
        let what = format!("{method} {params}");
        alice.assert_unseen(&what, &all_of(mute.start(method, params.clone()), QUIET));
        alice.assert_unseen(&what, &all_of(asking.start(method, params.clone()), QUIET));
        alice.assert_unseen(&what, &ask(&http, &bob, &rpc(method, &params), &[]));
    }
    for (at, (tool, arguments)) in tool_calls(tools, &alice).into_iter().enumerate() {
        if at % 16 == 0 {
            alice.works(&http);
        }
        let what = format!("{tool} {arguments}");
        let params = json!({"name": tool, "arguments": arguments});
        alice.assert_unseen(&what, &all_of(mute.start("tools/call", params.clone()), QUIET));
        alice.assert_unseen(&what, &ask(&http, &bob, &rpc("tools/call", &params), &[]));
        // And with a person of his own who says yes to whatever is asked.
        let first = asking.request("tools/call", params.clone());
        alice.assert_unseen(&what, &format!("{first:?}"));
        let repeated = first.ok().filter(|result| result["resultType"] == "input_required");
        if let Some(repeated) = repeated.and_then(|result| asking.repeat(&params, &result)) {
            alice.assert_unseen(&what, &format!("{:?}", asking.request("tools/call", repeated)));
        }
    }
    assert!(asking.asked().len() >= 10, "hardly anything was confirmed");
    // Her question, with her yes, in every way that he could send it.
    let stolen = ToolResult(asking.request("tools/call", alice.yes.clone()).unwrap());
    assert_tool_refused(&stolen, "ticket_invalid");
    alice.assert_unseen("a stolen question", &format!("{stolen:?}"));
    let told = ask(&http, &bob, &rpc("tools/call", &alice.yes), &[]);
    assert!(told.contains("ticket_invalid"), "{told}");
    alice.assert_unseen("a stolen question in one message", &told);
    // Her session is none of his.
    let thief = mute.in_session(alice.session.session.as_deref().unwrap());
    let call = thief.message("tools/call", json!({"name": "kv_list", "arguments": {}}));
    for wire in [thief.post(&call), thief.listen(Some(&alice.told)), thief.post(&thief.hello())] {
        assert_eq!(wire.status, 404);
        alice.assert_unseen("a stolen session", &all_of(wire, QUIET));
    }
    alice.assert_unseen("the events meanwhile", &all_of(events, QUIET));
    alice.assert_unsought(&http, heard);
    assert_eq!(alice.state(), before);
    alice.assert_unhindered(&http);
}

#[test]
fn no_stream_tells_one_agent_of_another() {
    let (agent, bob) = agents();
    let http = start(&agent, &bob, None);
    let alice = settle(&http, &agent, false);
    let uris = [format!("kv://{}/{}", agent.subject, alice.busy), format!("kv://{}/app", bob.subject)];
    let events = |last: Option<&str>| events_of(&http, &bob, last);
    let session = Client::begin(&http, &bob, Era::usual());
    for uri in &uris {
        let subscribed = session.request("resources/subscribe", json!({"uri": uri}));
        assert_eq!(subscribed.is_ok(), *uri == uris[1], "{uri}: {subscribed:?}");
        alice.assert_unseen("a subscription", &format!("{subscribed:?}"));
    }
    let filter = json!({"notifications": {"resourceSubscriptions": uris}});
    let stateless = Client::begin(&http, &bob, Era::stateless());
    let streams = [
        events(None),
        events(Some(&alice.event)),
        events(Some("00000000-0")),
        events(Some(&alice.told)),
        session.listen(None),
        session.listen(Some(&alice.told)),
        session.listen(Some(&alice.event)),
        stateless.start("subscriptions/listen", filter),
    ];
    let before = alice.state();
    for _ in 0..20 {
        alice.works(&http);
        http.put(&bob, "/secrets/app", json!({"data": {"A": "b"}})).ok();
    }
    for (at, stream) in streams.into_iter().enumerate() {
        assert_eq!(stream.status, 200, "{at}");
        let told = all_of(stream, QUIET);
        alice.assert_unseen(&format!("stream {at}"), &told);
        // An event is told in its listener's own name: that of a call, which he has made none of, would be hers.
        assert!(!told.contains("tool.completed"), "{at}: {told}");
        // It was listened to: his own change is told on each.
        let resumed = at == 5 || at == 6;
        assert!(resumed || told.contains(&format!("kv://{}/app", bob.subject)), "{at}: {told}");
    }
    assert_eq!(alice.state(), before);
    alice.assert_unhindered(&http);
}

#[test]
fn no_ticket_of_one_agent_is_of_use_to_another_on_any_route() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let (alice, bob) = agents();
    let http = confirming(&[&alice, &bob]);
    let mut terminal = attended(&http);
    let (path, key) = (unique("herspath"), unique("herskey"));
    let (route, body) = (format!("/secrets/{path}"), json!({"data": {(key.clone()): "v"}}));
    let ticket = ticket_of(&http.put(&alice, &route, body.clone()));
    terminal.wait_for("to decline:");
    let theft = Call {
        what: "her own call".to_owned(),
        scope: None,
        method: "PUT",
        path: route.clone(),
        body: Some(body.to_string()),
    };
    let calls: Vec<_> = every_route().into_iter().map(|(_, call)| call).chain([theft]).collect();
    for call in &calls {
        let told = ask(&http, &bob, call, &[("X-Approval-Ticket", &ticket)]);
        for mark in [&ticket, &path, &key, &alice.subject, &alice.key] {
            assert!(
                !told.contains(mark.as_str()),
                "{mark} of another agent's stands in {}: {told}",
                call.what
            );
        }
        // What waits for a person is refused, and asks nobody.
        assert!(!told.starts_with("202 ") || call.what == "/mcp", "{}: {told}", call.what);
    }
    let headers = [("X-API-Key", bob.key.as_str()), ("X-Approval-Ticket", ticket.as_str())];
    assert_refused(&http.bare("PUT", &route, &headers, Some(&body.to_string())), 403, "ticket_invalid");
    assert!(http.proxy.writes().is_empty());
    assert_eq!(terminal.screen().matches("to decline:").count(), 1, "{}", terminal.screen());
    // It is still hers, once.
    terminal.type_line("yes");
    assert_eq!(answered(&http, &alice, &route, &body, &ticket).ok()["version"], 1);
    assert_eq!((vault().version(&alice.subject, &path), vault().version(&bob.subject, &path)), (1, 0));
    wait_until("no question to be open", PATIENCE, || {
        (http.get(&bob, "/observability/summary").body["pending_approvals"] == 0).then_some(())
    });
}
