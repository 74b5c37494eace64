//! Limits: of one subject's calls in a window, and of all calls at a time.

use std::{collections::BTreeMap, sync::Mutex, time::Duration};

use serde_json::json;

use super::{
    rig::{Agent, Http, assert_refused},
    wire::{Client, Wire},
};
use crate::common::{
    Era, Fault, Gate, On, PATIENCE, Reply, ToolResult, assert_refused as assert_tool_refused,
    assert_untouched, unique, wait_until,
};

/// Calls in a window that lasts longer than the test.
fn limited_to(agents: &[&Agent], calls: &str) -> Http {
    let settings = [
        ("RATE_LIMIT_ENABLED", "true"),
        ("RATE_LIMIT_REQUESTS", calls),
        ("RATE_LIMIT_WINDOW_SECONDS", "3600"),
    ];
    Http::start(agents, &settings)
}

#[track_caller]
fn number(reply: &Reply, name: &str) -> u64 {
    let value = reply.header(name).unwrap_or_else(|| panic!("no {name}: {:?}", reply.headers));
    value.parse().unwrap()
}

#[track_caller]
fn allowance(reply: &Reply) -> (u64, u64) {
    assert!((1..=3600).contains(&number(reply, "RateLimit-Reset")), "{:?}", reply.headers);
    (number(reply, "RateLimit-Limit"), number(reply, "RateLimit-Remaining"))
}

#[track_caller]
fn assert_limited(reply: &Reply) {
    assert_refused(reply, 429, "rate_limited");
    assert_eq!(reply.body["detail"], "Rate limit exceeded");
    assert_eq!(allowance(reply).1, 0);
    let wait = number(reply, "Retry-After");
    assert!((1..=number(reply, "RateLimit-Reset")).contains(&wait), "{:?}", reply.headers);
}

#[test]
fn every_answer_says_what_is_left_and_the_call_after_the_last_waits() {
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = limited_to(&[&alice, &bob], "5");
    let written = http.put(&alice, "/secrets/app", json!({"data": {"a": "1"}}));
    assert_eq!((written.status, allowance(&written)), (200, (5, 4)));
    let read = http.get(&alice, "/secrets/app");
    assert_eq!((read.status, allowance(&read)), (200, (5, 3)));
    assert!(number(&read, "RateLimit-Reset") > number(&written, "RateLimit-Reset"));
    let absent = http.get(&alice, "/secrets/nothing");
    assert_eq!((absent.status, allowance(&absent)), (404, (5, 2)));
    let deleted = http.delete(&alice, "/secrets/app");
    assert_eq!((deleted.status, allowance(&deleted)), (204, (5, 1)));
    assert!(deleted.header("Retry-After").is_none());
    assert_eq!(allowance(&http.get(&alice, "/secrets")), (5, 0));
    for (method, path) in [("GET", "/secrets/app"), ("DELETE", "/secrets/app"), ("GET", "/secrets")] {
        assert_limited(&assert_untouched(&http.proxy, || http.call(&alice, method, path, None)));
    }
    let refused: Vec<_> =
        http.records().into_iter().filter(|record| record["code"] == "rate_limited").collect();
    assert_eq!(refused.len(), 3);
    assert!(refused.iter().all(|record| {
        record["action"] == "REFUSED" && record["subject"] == alice.subject.as_str() && record["op"] != "-"
    }));
    // Nobody pays for another, and what is no call costs nothing.
    assert_eq!(allowance(&http.get(&bob, "/secrets")), (5, 4));
    let whoami = http.get(&alice, "/whoami");
    assert_eq!((whoami.status, whoami.header("RateLimit-Limit")), (200, None));
}

#[test]
fn a_call_that_is_refused_for_what_it_says_costs_as_much_as_any() {
    let agent = Agent::with_scopes(&["read", "list"]);
    for (method, path, body, status) in [
        ("GET", "/secrets/a%2f..%2fb", None, 422),
        ("GET", "/secrets/a?version=x", None, 422),
        ("GET", "/transit/random?format=octal", None, 400),
        ("POST", "/transit/decrypt", Some("{\"key\":"), 422),
        ("PUT", "/secrets/a", Some("{\"data\":{\"a\":\"1\"}}"), 403),
    ] {
        let http = limited_to(&[&agent], "3");
        let call = || http.bare(method, path, &[("X-API-Key", &agent.key)], body);
        for left in [2, 1, 0] {
            let reply = call();
            assert_eq!(
                (reply.status, allowance(&reply)),
                (status, (3, left)),
                "{method} {path}: {}",
                reply.text
            );
        }
        assert_limited(&call());
        assert_limited(&http.get(&agent, "/secrets"));
        assert_eq!(http.proxy.count(), 0, "{method} {path}");
    }
}

#[test]
fn a_subject_has_one_allowance_whatever_its_keys() {
    let agent = Agent::new();
    let other_key = Agent { key: unique("key"), ..agent.clone() };
    let http = limited_to(&[&agent, &other_key], "3");
    assert_eq!(allowance(&http.get(&agent, "/secrets")), (3, 2));
    assert_eq!(allowance(&http.get(&other_key, "/secrets")), (3, 1));
    assert_eq!(allowance(&http.get(&agent, "/secrets")), (3, 0));
    assert_limited(&http.get(&other_key, "/secrets"));
}

/// How many calls were refused because there was no room.
fn overloaded(http: &Http) -> usize {
    http.records().into_iter().filter(|record| record["code"] == "overloaded").count()
}

/// A call of each agent at the same time, and what is done meanwhile: the answers, also counted by how they ended.
fn crowd(
    http: &Http,
    agents: &[Agent],
    meanwhile: impl FnOnce(),
) -> (BTreeMap<(u16, String), usize>, Vec<Reply>) {
    let door = http.door();
    let replies = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for agent in agents {
            scope.spawn(|| {
                let reply = door.call(agent, "GET", "/secrets", None);
                replies.lock().unwrap().push(reply);
            });
        }
        meanwhile();
    });
    let replies = replies.into_inner().unwrap();
    let mut counts = BTreeMap::new();
    for reply in &replies {
        let code = reply.body["error"].as_str().unwrap_or_default().to_owned();
        *counts.entry((reply.status, code)).or_default() += 1;
    }
    (counts, replies)
}

#[test]
fn four_times_what_there_is_room_for_is_refused_at_once_and_the_rest_is_served() {
    let agents: Vec<_> = std::iter::repeat_with(Agent::new).take(40).collect();
    let http = Http::start(&agents.iter().collect::<Vec<_>>(), &[("MAX_CONCURRENT_CALLS", "2")]);
    // Whoever is in stays in until all have come: two run and eight wait.
    let gate = Gate::new();
    http.proxy.fail(On::target("/metadata/"), Fault::Hold(gate.clone()));
    let (counts, replies) = crowd(&http, &agents, || {
        wait_until("thirty refusals", PATIENCE, || (overloaded(&http) >= 30).then_some(()));
        gate.open();
    });
    let served = counts[&(200, String::new())];
    assert!((2..=10).contains(&served), "{counts:?}");
    assert_eq!(counts.get(&(503, "overloaded".to_owned())), Some(&(40 - served)), "{counts:?}");
    for reply in replies.iter().filter(|reply| reply.status == 503) {
        assert_refused(reply, 503, "overloaded");
        assert_eq!(number(reply, "Retry-After"), 1);
    }
    let of_vault =
        http.proxy.requests().into_iter().filter(|sent| sent.target.contains("/metadata/")).count();
    assert_eq!(of_vault, served, "what was refused reached Vault");
    assert_eq!(overloaded(&http), 40 - served);
    // The room is free again.
    http.proxy.heal();
    let (counts, _) = crowd(&http, &agents[..2], || ());
    assert_eq!(counts, [((200, String::new()), 2)].into());
}

#[test]
fn one_subjects_crowd_leaves_room_for_the_others() {
    let (loud, quiet) = (Agent::new(), Agent::new());
    let http = Http::start(&[&loud, &quiet], &[("MAX_CONCURRENT_CALLS", "4")]);
    let gate = Gate::new();
    http.proxy.fail(On::target(format!("/mcp/{}", loud.subject)), Fault::Hold(gate.clone()));
    let door = http.door();
    std::thread::scope(|scope| {
        let crowd = scope.spawn(|| {
            let replies = std::thread::scope(|scope| {
                let all: Vec<_> = (0..30)
                    .map(|_| scope.spawn(|| door.call(&loud, "GET", "/secrets", None).status))
                    .collect();
                all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
            });
            assert!(replies.iter().all(|status| [200, 503].contains(status)), "{replies:?}");
            assert!(replies.contains(&503), "no bound for one subject");
        });
        // While some of them are inside and others find no room.
        wait_until("a refusal", PATIENCE, || (overloaded(&http) > 0).then_some(()));
        // The crowd has every place; the next one that is free is not for it. A wait lasts two seconds at most.
        let other = scope.spawn(|| door.call(&quiet, "GET", "/secrets", None));
        std::thread::sleep(Duration::from_millis(200));
        gate.open();
        other.join().unwrap().ok();
        crowd.join().unwrap();
    });
}

#[test]
fn a_caller_that_goes_away_gives_its_place_back_once_its_call_has_ended() {
    use std::io::Write;
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = Http::start(&[&alice, &bob], &[("MAX_CONCURRENT_CALLS", "1")]);
    let gate = Gate::new();
    http.proxy.fail(On::target("/metadata/").times(1), Fault::Hold(gate.clone()));
    let mut stream = std::net::TcpStream::connect(http.url.trim_start_matches("http://")).unwrap();
    write!(stream, "GET /secrets HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\n\r\n", alice.key).unwrap();
    http.proxy.wait_for("the one inside", |sent| sent.target.contains("/metadata/"));
    drop(stream);
    // Else whoever comes and goes has as much run as they like.
    assert_refused(&http.get(&alice, "/secrets"), 503, "overloaded");
    assert_refused(&http.get(&bob, "/secrets"), 503, "overloaded");
    gate.open();
    http.get(&bob, "/secrets").ok();
    http.get(&alice, "/secrets").ok();
}

/// What an answer of `/mcp` says is left. A stream has it in its head, before anything is said on it.
#[track_caller]
fn allowance_on(wire: &Wire) -> (u64, u64) {
    let number = |name: &str| {
        let value = wire.header(name).unwrap_or_else(|| panic!("no {name}: {:?}", wire.headers));
        value.parse::<u64>().unwrap()
    };
    assert!((1..=3600).contains(&number("ratelimit-reset")), "{:?}", wire.headers);
    (number("ratelimit-limit"), number("ratelimit-remaining"))
}

#[test]
fn a_subject_has_one_allowance_over_rest_and_every_way_of_mcp_and_each_answer_says_what_is_left() {
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = limited_to(&[&alice, &bob], "9");
    let list = json!({"name": "kv_list", "arguments": {}});
    let rpc = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": list});
    let eras = [Era::handshake("2025-06-18"), Era::mute(), Era::stateless_mute()];
    let clients = eras.map(|era| Client::begin(&http, &alice, era));
    assert_eq!(allowance(&http.get(&alice, "/secrets")), (9, 8));
    assert_eq!(allowance(&http.post(&alice, "/mcp/rpc", rpc.clone())), (9, 7));
    let mut left = 7;
    for client in &clients {
        let wire = client.start("tools/call", list.clone());
        left -= 1;
        assert!(wire.is_stream(), "{:?}", wire.headers);
        assert_eq!(allowance_on(&wire), (9, left), "{:?}", client.era);
        assert!(!ToolResult(client.answer(wire).unwrap()).is_error());
    }
    // A tool that is none costs as much, a resource as well.
    let wire = clients[1].start("tools/call", json!({"name": "no_such_tool", "arguments": {}}));
    assert_eq!(allowance_on(&wire), (9, 3));
    let uri = format!("kv://{}/app", alice.subject);
    let wire = clients[1].start("resources/read", json!({"uri": uri}));
    assert_eq!(allowance_on(&wire), (9, 2));
    assert_eq!(allowance_on(&clients[1].start("resources/list", json!({}))), (9, 1));
    assert_eq!(allowance(&http.get(&alice, "/secrets")), (9, 0));
    // Nothing is left, wherever it is asked for; and Vault hears nothing of it.
    assert_untouched(&http.proxy, || {
        assert_limited(&http.get(&alice, "/secrets"));
        let refused = http.post(&alice, "/mcp/rpc", rpc);
        assert_eq!((refused.status, allowance(&refused)), (200, (9, 0)));
        assert_tool_refused(&ToolResult(refused.body["result"].clone()), "rate_limited");
        for client in &clients {
            let wire = client.start("tools/call", list.clone());
            assert_eq!((wire.status, allowance_on(&wire)), (200, (9, 0)), "{:?}", client.era);
            assert_tool_refused(&ToolResult(client.answer(wire).unwrap()), "rate_limited");
        }
    });
    // What is no call says nothing of it, and another subject has its own.
    assert_eq!(clients[1].start("tools/list", json!({})).header("ratelimit-limit"), None);
    let other = Client::begin(&http, &bob, Era::mute());
    assert_eq!(allowance_on(&other.start("tools/call", list)), (9, 8));
}
