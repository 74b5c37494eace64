//! Much at once: long lines, many calls, a client that does not read.

use std::{
    io::Write,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{
    common::{Fault, Gate, On, PATIENCE, vault, wait_until},
    session::{Session, call},
};

/// Resident memory of a process in MiB.
fn memory(id: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

#[test]
fn sixty_four_megabytes_without_a_newline_are_answered_and_not_kept() {
    let session = Session::open();
    let filler = vec![b'a'; 1 << 20];
    let before = memory(session.server.id());
    // The id at the front, at the very end, nowhere to be found, and in a place that is another object's.
    for (head, tail, id) in [
        (r#"{"jsonrpc":"2.0","id":17,"method":"tools/call","params":{"a":""#, r#""}}"#, json!(17)),
        (r#"{"jsonrpc":"2.0","id":"front","method":"x","params":{"a":""#, "", json!("front")),
        (r#"{"jsonrpc":"2.0","method":"tools/call","params":{"a":""#, r#""},"id":"end"}"#, json!("end")),
        (r#"{"jsonrpc":"2.0","method":"tools/call","params":{"id":3,"a":""#, r#""}}"#, Value::Null),
        ("", "", Value::Null),
    ] {
        assert!(session.server.send(head));
        for _ in 0..64 {
            assert!(session.server.send(&filler));
        }
        let error = session.assert_error(tail, -32600, &id);
        assert!(error.starts_with("too_large: ") && error.contains("1048576"), "{error}");
        session.assert_alive();
    }
    let after = memory(session.server.id());
    assert!(after < before + 12, "{before} MiB grew to {after} MiB");
}

#[test]
fn a_line_of_just_the_limit_is_read_and_one_byte_more_is_not() {
    let session = Session::open();
    let frame = json!({"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"a": "@"}}).to_string();
    for (length, fits) in [((1 << 20) - 1, true), (1 << 20, false), ((1 << 20) + 1, false)] {
        let filler = "a".repeat(length - (frame.len() - 1));
        let line = frame.replace('@', &filler);
        assert_eq!(line.len(), length);
        let answer = session.exchange(&line);
        assert_eq!(answer["id"], 1);
        assert_eq!(answer.get("result").is_some(), fits, "{length}");
    }
}

#[test]
fn five_thousand_calls_at_once_are_all_answered_and_sixty_four_run() {
    const CALLS: usize = 5000;
    let session = Session::open();
    vault().write_secret(&session.subject, "app", json!({"A": "b"}));
    // They pile up until the gate opens.
    let gate = Gate::new();
    session.proxy.fail(On::target("/v1/secret/"), Fault::Hold(gate.clone()));
    let lines: String =
        (0..CALLS).map(|id| format!("{}\n", call(id, "kv_read", json!({"path": "app"})))).collect();
    let start = Instant::now();
    let stdin = session.server.writer();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.lock().unwrap().write_all(lines.as_bytes()).unwrap());
        // While all of them wait, no more than 64 have reached Vault.
        wait_until("64 requests", PATIENCE, || (session.proxy.data_requests().len() >= 64).then_some(()));
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(session.proxy.data_requests().len(), 64);
        session.proxy.heal();
        gate.open();
        let mut answered = vec![false; CALLS];
        for _ in 0..CALLS {
            let answer = session.answer();
            assert_eq!(answer["result"]["structuredContent"]["version"], 1, "{answer}");
            let id = usize::try_from(answer["id"].as_u64().unwrap()).unwrap();
            assert!(!std::mem::replace(&mut answered[id], true), "{id} was answered twice");
        }
    });
    eprintln!("5,000 reads in {:?}, {} MiB at most", start.elapsed(), memory(session.server.id()));
    assert!(memory(session.server.id()) < 64, "{} MiB", memory(session.server.id()));
    session.assert_alive();
}

#[test]
fn other_requests_are_bounded_as_well() {
    let session = Session::open();
    let gate = Gate::new();
    session.proxy.fail(On::target("/v1/secret/"), Fault::Hold(gate.clone()));
    let uri = format!("kv://{}/app", session.subject);
    let lines: String = (0..200)
        .map(|id| {
            format!(
                "{}\n",
                json!({"jsonrpc": "2.0", "id": id, "method": "resources/read", "params": {"uri": uri}})
            )
        })
        .collect();
    let stdin = session.server.writer();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.lock().unwrap().write_all(lines.as_bytes()).unwrap());
        wait_until("64 requests", PATIENCE, || (session.proxy.data_requests().len() >= 64).then_some(()));
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(session.proxy.data_requests().len(), 64);
        session.proxy.heal();
        gate.open();
        for _ in 0..200 {
            assert!(session.answer()["error"]["message"].as_str().unwrap().starts_with("invalid_path: "));
        }
    });
}

/// A cancelled request gets no answer: its id and its place must come free all the same.
#[test]
fn cancelled_calls_do_not_use_the_places_up() {
    let session = Session::open();
    vault().write_secret(&session.subject, "app", json!({"A": "b"}));
    for round in 0..3 {
        let gate = Gate::new();
        session.proxy.fail(On::target("/v1/secret/"), Fault::Hold(gate.clone()));
        let before = session.proxy.data_requests().len();
        for id in 0..60 {
            session.server.send_line(call(id, "kv_read", json!({"path": "app"})).to_string());
        }
        wait_until("60 requests", PATIENCE, || {
            (session.proxy.data_requests().len() >= before + 60).then_some(())
        });
        for id in 0..60 {
            let params = json!({"requestId": id});
            session.server.send_line(
                json!({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params}).to_string(),
            );
        }
        // The ping came after them, so they have been heard when it is answered.
        session.assert_alive();
        session.proxy.heal();
        gate.open();
        session.server.assert_silent(Duration::from_secs(1));
        let answer =
            session.exchange(call(format!("after-{round}"), "kv_read", json!({"path": "app"})).to_string());
        assert_eq!(answer["result"]["structuredContent"]["version"], 1, "{answer}");
    }
}
