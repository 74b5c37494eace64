//! `GET /mcp/sse`: what happened to the caller, in order, and nothing of anybody else.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    rig::{Agent, Http},
    wire::{Client, Wire},
};
use crate::common::{Era, assert_no_canary, canary};

fn open(http: &Http, agent: &Agent, last: Option<&str>) -> Wire {
    let mut headers = vec![("X-API-Key", agent.key.as_str())];
    headers.extend(last.map(|last| ("Last-Event-ID", last)));
    let wire = Wire::open(&http.url, "GET", "/mcp/sse", &headers, None);
    assert!(wire.status == 200 && wire.is_stream());
    wire
}

fn rpc(http: &Http, agent: &Agent, tool: &str, arguments: Value) {
    let params = json!({"name": tool, "arguments": arguments});
    let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
    http.post(agent, "/mcp/rpc", message).ok();
}

fn put(http: &Http, agent: &Agent, path: &str) {
    http.put(agent, &format!("/secrets/{path}"), json!({"data": {"SECRET_KEY": canary("v")}})).ok();
}

#[test]
fn a_call_that_ended_is_told_by_the_name_it_was_called_by() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let mut events = open(&http, &agent, None);
    rpc(&http, &agent, "kv.list", json!({}));
    rpc(&http, &agent, "kv_list", json!({}));
    Client::begin(&http, &agent, Era::mute()).call("kv_read", json!({"path": "none"}));
    for tool in ["kv.list", "kv_list", "kv_read"] {
        let event = events.told().unwrap().json();
        assert_eq!(event["type"], "tool.completed");
        assert_eq!((&event["tool"], &event["subject"]), (&json!(tool), &json!(agent.subject)));
        assert!(chrono::DateTime::parse_from_rfc3339(event["ts"].as_str().unwrap()).is_ok());
        assert_eq!(event.as_object().unwrap().len(), 4, "{event}");
    }
    // A name that is no tool is nobody's news.
    rpc(&http, &agent, "no_such_tool", json!({}));
    events.assert_silent(Duration::from_millis(300));
}

#[test]
fn a_change_is_told_by_its_uri_without_value_or_key() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let mut events = open(&http, &agent, None);
    put(&http, &agent, "configs/demo");
    let event = events.told().unwrap();
    assert_no_canary(format!("{event:?}"), "an event");
    let event = event.json();
    assert_eq!(event["type"], "resource.changed");
    assert_eq!(event["uri"], format!("kv://{}/configs/demo", agent.subject));
    assert!(!event.to_string().contains("SECRET_KEY"));
}

#[test]
fn one_subject_never_hears_of_another() {
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = Http::start(&[&alice, &bob], &[]);
    let (mut of_alice, mut of_bob) = (open(&http, &alice, None), open(&http, &bob, None));
    put(&http, &alice, "a");
    rpc(&http, &alice, "kv_list", json!({}));
    let first = of_alice.told().unwrap();
    of_bob.assert_silent(Duration::from_millis(400));
    // Nor by the id of an event that is not theirs.
    let mut stolen = open(&http, &bob, first.id.as_deref());
    stolen.assert_silent(Duration::from_millis(300));
    let mut all = open(&http, &bob, Some("00000000-0"));
    all.assert_silent(Duration::from_millis(300));
}

#[test]
fn who_comes_back_hears_what_was_missed() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let mut events = open(&http, &agent, None);
    put(&http, &agent, "a");
    let last = events.told().unwrap().id.unwrap();
    events.cut();
    for path in ["b", "c"] {
        put(&http, &agent, path);
    }
    let mut again = open(&http, &agent, Some(&last));
    for path in ["b", "c"] {
        assert_eq!(again.told().unwrap().json()["uri"], format!("kv://{}/{path}", agent.subject));
    }
    // An id from before a restart: everything that is kept is news.
    let mut restarted = open(&http, &agent, Some("ffffffff-1000000"));
    assert_eq!(restarted.told().unwrap().json()["uri"], format!("kv://{}/a", agent.subject));
    // Text that is no id is as none.
    let mut odd = open(&http, &agent, Some("nonsense"));
    odd.assert_silent(Duration::from_millis(300));
}

#[test]
fn who_missed_more_than_is_kept_is_told_how_much() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let mut events = open(&http, &agent, None);
    rpc(&http, &agent, "kv_list", json!({}));
    let last = events.told().unwrap().id.unwrap();
    events.cut();
    for _ in 0..130 {
        rpc(&http, &agent, "kv_list", json!({}));
    }
    let mut again = open(&http, &agent, Some(&last));
    assert_eq!(again.told().unwrap().json(), json!({"type": "lagged", "missed": 2}));
    for _ in 0..128 {
        assert_eq!(again.told().unwrap().json()["type"], "tool.completed");
    }
    again.assert_silent(Duration::from_millis(200));
}

#[test]
fn a_silent_stream_shows_signs_of_life() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[("SSE_KEEPALIVE_SECONDS", "1")]);
    let mut events = open(&http, &agent, None);
    for _ in 0..2 {
        let event = events.event().unwrap();
        assert!(event.comment.is_some() && event.data.is_none(), "{event:?}");
    }
}
