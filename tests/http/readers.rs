//! Readers of streams that do not read, and many that have nothing to read: what they cost the server, and that
//! nobody else pays for them.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use rustix::net::{AddressFamily, SocketType, connect, socket, sockopt};
use serde_json::{Value, json};

use super::{
    rig::{Agent, Http},
    wire::{Client, Wire},
};
use crate::common::{Era, PATIENCE, wait_until};

/// A stream that has been begun and is not read: its socket takes as little as a socket can.
struct Deaf(BufReader<TcpStream>);

impl Deaf {
    fn open(http: &Http, method: &str, path: &str, headers: &[(String, String)], body: &str) -> Self {
        let address: SocketAddr = http.url.trim_start_matches("http://").parse().unwrap();
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        sockopt::set_socket_recv_buffer_size(&socket, 2048).unwrap();
        connect(&socket, &address).unwrap();
        let mut stream = TcpStream::from(socket);
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
        stream.write_all(text.as_bytes()).unwrap();
        let mut reader = BufReader::with_capacity(256, stream);
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        assert!(line.starts_with("HTTP/1.1 200 "), "{line}");
        Self(reader)
    }

    /// Of the events.
    fn of_events(http: &Http, agent: &Agent) -> Self {
        Self::open(http, "GET", "/mcp/sse", &[("X-API-Key".to_owned(), agent.key.clone())], "")
    }

    /// Reads after all, to the end: the events' data.
    fn read(self) -> Vec<Value> {
        let lines = self.0.lines().map_while(Result::ok);
        let data: Vec<_> =
            lines.filter_map(|line| Some(line.strip_prefix("data:")?.trim().to_owned())).collect();
        data.iter().map(|text| serde_json::from_str(text).unwrap()).collect()
    }
}

/// Bytes of memory that the server has.
fn memory(http: &Http) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{}/status", http.server().id())).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<usize>().unwrap() << 10
}

fn open(http: &Http, agent: &Agent) -> Wire {
    Wire::open(&http.url, "GET", "/mcp/sse", &[("X-API-Key", &agent.key)], None)
}

/// A path as long as one may be, so that an event has about a kilobyte.
fn long_path() -> String {
    vec!["p".repeat(120); 8].join("/")
}

/// So many writes of this agent's, several at a time.
fn flood(http: &Http, agent: &Agent, path: &str, writes: usize) {
    let (door, left) = (http.door(), AtomicUsize::new(writes));
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while left
                    .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1))
                    .is_ok()
                {
                    let body = json!({"data": {"A": "b"}});
                    door.call(agent, "PUT", &format!("/secrets/{path}"), Some(body)).ok();
                }
            });
        }
    });
}

#[test]
fn readers_that_never_read_are_let_go_and_cost_nobody_else_anything() {
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = Http::start(&[&alice, &bob], &[("AUDIT_FSYNC", "never")]);
    let path = long_path();
    let uri = format!("kv://{}/{path}", alice.subject);
    // Every kind of stream there is.
    let later = Deaf::of_events(&http, &alice);
    let mut never = vec![Deaf::of_events(&http, &alice), Deaf::of_events(&http, &alice)];
    let session = Client::begin(&http, &alice, Era::usual());
    session.request("resources/subscribe", json!({"uri": uri})).unwrap();
    never.push(Deaf::open(&http, "GET", "/mcp", &session.headers(&Value::Null), ""));
    let without = Client::begin(&http, &alice, Era::stateless());
    let listen = json!({"notifications": {"resourceSubscriptions": [uri]}});
    let listen = without.message("subscriptions/listen", listen);
    never.push(Deaf::open(&http, "POST", "/mcp", &without.headers(&listen), &listen.to_string()));
    let (other, mut of_bob) = (Client::begin(&http, &bob, Era::usual()), open(&http, &bob));

    flood(&http, &alice, &path, 500);
    let before = memory(&http);
    flood(&http, &alice, &path, 4_000);
    let grown = memory(&http).saturating_sub(before);
    println!("grown by {} KiB", grown >> 10);
    // What was told them since has more than 4 MB for each.
    assert!(grown < 8 << 20, "{grown} bytes for events that nobody reads");

    // Nobody else notices.
    other.call("kv_list", json!({})).ok();
    http.put(&bob, "/secrets/app", json!({"data": {"A": "b"}})).ok();
    let uri = format!("kv://{}/app", bob.subject);
    let told = std::iter::repeat_with(|| of_bob.told().unwrap().json());
    assert!(told.take(3).any(|event| event["uri"] == uri.as_str()));
    without.call("kv_list", json!({})).ok();

    // Who reads after all hears what there was, how much was missed, and no more.
    let heard = later.read();
    assert!(heard.len() > 100, "{}", heard.len());
    let (last, events) = heard.split_last().unwrap();
    assert!(events.iter().all(|event| event["type"] == "resource.changed"));
    assert_eq!(last["type"], "lagged");
    assert!(last["missed"].as_u64().unwrap() > 0);

    // The streams of the others are given up after half a minute, and what they had of a subject's share is free.
    let mut more = Vec::new();
    while let Some(stream) = Some(open(&http, &alice)).filter(|stream| stream.status == 200) {
        more.push(stream);
    }
    assert!(more.len() <= 60, "{} more streams than there may be", more.len());
    for _ in 0..never.len() {
        more.push(wait_until("a stream that is free", 2 * PATIENCE, || {
            Some(open(&http, &alice)).filter(|stream| stream.status == 200)
        }));
    }
    assert_eq!(open(&http, &alice).status, 429);
    // The session is there, and can be heard again.
    session.call("kv_list", json!({})).ok();
}

#[test]
fn a_thousand_streams_with_nothing_to_say_leave_room_for_calls() {
    let agents: Vec<_> = std::iter::repeat_with(Agent::new).take(16).collect();
    let all: Vec<_> = agents.iter().collect();
    let http = Http::start(&all, &[("SSE_KEEPALIVE_SECONDS", "1")]);
    let before = memory(&http);
    let mut streams: Vec<_> = (0..1000).map(|number| open(&http, &agents[number % agents.len()])).collect();
    assert!(streams.iter().all(|stream| stream.status == 200));
    let each = memory(&http).saturating_sub(before) / streams.len();
    println!("{} KiB each", each >> 10);
    assert!(each < 128 << 10, "{each} bytes for a stream");
    for agent in &agents {
        http.put(agent, "/secrets/app", json!({"data": {"A": "b"}})).ok();
        assert_eq!(http.get(agent, "/secrets").ok()["keys"], json!(["app"]));
    }
    // Each has heard of its own agent's change and of nothing else.
    for (number, stream) in streams.iter_mut().enumerate() {
        let uri = format!("kv://{}/app", agents[number % agents.len()].subject);
        assert_eq!(stream.told().unwrap().json()["uri"], uri);
    }
    for stream in &mut streams[..32] {
        stream.assert_silent(Duration::from_millis(5));
    }
}
