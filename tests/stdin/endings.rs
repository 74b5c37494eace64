//! How a session ends, and what it leaves behind.

use std::{
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::UnixStream,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    common::{
        AT_ONCE, Answer, Era, Fault, Gate, On, PATIENCE, Server, ToolResult, audit_records, canary,
        records_of, vault, wait_until,
    },
    session::{Session, call, initialize},
};

#[test]
fn the_end_of_input_is_the_end_and_no_failure() {
    // Before the first line, in the middle of one, and in the middle of the first.
    for said in ["", "\n", r#"{"jsonrpc":"2.0","id":1,"#, "\u{feff}", "garbage"] {
        let mut session = Session::silent();
        session.server.send(said);
        session.server.close();
        assert!(session.server.wait_within(AT_ONCE).success(), "{said:?}");
        assert!(session.server.stdout().is_empty(), "{said:?}");
    }
    let mut session = Session::open();
    // A call that was not finished is not made, whole as its text may look.
    session.server.send(call(1, "kv_list", json!({})).to_string());
    session.server.close();
    assert!(session.server.wait_within(AT_ONCE).success());
    assert_eq!(session.proxy.count(), 0);
}

#[test]
fn what_runs_at_the_end_of_input_finishes_and_is_recorded() {
    let subject = vault().fresh_subject();
    let proxy = crate::common::Proxy::new(vault());
    let mut client =
        Server::of(vault(), &subject).env("VAULT_ADDR", &proxy.address).spawn().connect(Era::usual());
    client.always(Answer::yes());
    // Longer than the five seconds that rmcp itself would wait; shorter than the ten that a call has.
    proxy.fail(On::target("/v1/secret/data/").method("POST"), Fault::DelayAfter(Duration::from_secs(6)));
    let write = client.start_call("kv_write", json!({"path": "app", "data": {"A": canary("e")}}));
    proxy.wait_for("the write", |request| request.is_data() && request.is_write());
    client.hang_up();
    // The client's reader is still there, so even the answer arrives.
    assert_eq!(ToolResult(write.wait().unwrap()).ok()["version"], 1);
    assert!(client.server_mut().wait().success());
    let actions: Vec<_> = records_of(client.server().home().audit_log(), "kv.write")
        .iter()
        .map(|record| record["action"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(actions, ["CONFIRMATION_REQUIRED", "CONFIRMED", "REQUEST", "SUCCESS"]);
    assert_eq!(vault().version(&subject, "app"), 1);
}

#[test]
fn a_signal_lets_what_runs_finish_and_starts_nothing_new() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let mut session = Session::open();
        vault().write_secret(&session.subject, "app", json!({"A": "b"}));
        let gate = Gate::new();
        session.proxy.fail(On::target("/v1/secret/data/"), Fault::Hold(gate.clone()));
        for id in 1..=5 {
            session.server.send_line(call(id, "kv_read", json!({"path": "app"})).to_string());
        }
        wait_until("five reads", PATIENCE, || (session.proxy.data_requests().len() == 5).then_some(()));
        session.server.signal(signal);
        // Nothing shows from outside when the signal was heard.
        std::thread::sleep(Duration::from_millis(1500));
        session.server.send_line(call(6, "kv_read", json!({"path": "app"})).to_string());
        std::thread::sleep(Duration::from_millis(300));
        gate.open();
        let mut ids: Vec<_> = (0..5).map(|_| session.answer()["id"].as_u64().unwrap()).collect();
        ids.sort_unstable();
        assert_eq!(ids, [1, 2, 3, 4, 5]);
        let status = session.server.wait();
        assert_eq!(status.code(), Some(0), "{signal:?}: {status}");
        assert_eq!(session.proxy.data_requests().len(), 5);
        let records = records_of(session.server.home().audit_log(), "kv.read");
        let ended = records.iter().filter(|record| record["action"] == "SUCCESS").count();
        assert_eq!((records.len(), ended), (10, 5));
    }
}

#[test]
fn a_signal_ends_an_idle_server_and_one_with_a_question_at_once() {
    let mut idle = Session::open();
    idle.server.signal(Signal::TERM);
    assert_eq!(idle.server.wait_within(AT_ONCE).code(), Some(0));

    let mut asking = Session::open();
    asking
        .server
        .send_line(call(1, "kv_write", json!({"path": "app", "data": {"A": canary("s")}})).to_string());
    assert_eq!(asking.answer()["method"], "elicitation/create");
    asking.server.signal(Signal::TERM);
    let answer = asking.answer();
    assert!(answer["result"]["content"][0]["text"].as_str().unwrap().starts_with("cancelled: "), "{answer}");
    assert_eq!(asking.server.wait_within(AT_ONCE).code(), Some(0));
    assert!(asking.proxy.writes().is_empty());
}

/// Clients built on Node hand over a socket where others hand over a pipe.
#[test]
fn a_signal_ends_a_server_whose_input_is_a_socket() {
    for (signal, hang_up) in [(Some(Signal::TERM), false), (None, true)] {
        let launch = Server::of(vault(), &vault().fresh_subject());
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (read, write) = UnixStream::pair().unwrap();
        let mut child = launch
            .command()
            .stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)))
            .stdout(Stdio::from(std::os::fd::OwnedFd::from(write)))
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut ours = ours;
        let mut answers = BufReader::new(read);
        let mut line = String::new();
        ours.write_all(format!("{}\n", initialize(1)).as_bytes()).unwrap();
        answers.read_line(&mut line).unwrap();
        assert!(line.contains("\"id\":1"), "{line}");
        ours.write_all(format!("{}\n", call(2, "kv_list", json!({}))).as_bytes()).unwrap();
        line.clear();
        answers.read_line(&mut line).unwrap();
        assert!(line.contains("\"id\":2"), "{line}");
        if let Some(signal) = signal {
            rustix::process::kill_process(rustix::process::Pid::from_child(&child), signal).unwrap();
        }
        if hang_up {
            drop(ours.shutdown(std::net::Shutdown::Both));
        }
        let status = wait_until("the end of the server", AT_ONCE, || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
    }
}

/// Nobody reads any more: the server ends, and says so in no other place.
#[test]
fn a_closed_standard_output_is_a_clean_end() {
    for close_at_once in [true, false] {
        let launch = Server::of(vault(), &vault().fresh_subject());
        let home = launch.at().clone();
        let mut child = launch
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        if !close_at_once {
            writeln!(stdin, "{}", initialize(1)).unwrap();
            stdout.read_line(&mut String::new()).unwrap();
        }
        drop(stdout);
        for id in 2..20 {
            let line = if id == 2 && close_at_once { initialize(2) } else { call(id, "kv_list", json!({})) };
            if writeln!(stdin, "{line}").is_err() {
                break;
            }
        }
        let status = wait_until("the end of the server", PATIENCE, || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0), "closed at once: {close_at_once}");
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!said.contains("panic"), "{said}");
        if !close_at_once {
            audit_records(home.audit_log());
        }
    }
}

/// A client that does not read fills the pipe: lines must stay whole whenever it reads again, and a client that
/// never does cannot keep the process.
#[test]
fn a_client_that_does_not_read_gets_whole_lines_later() {
    let launch = Server::of(vault(), &vault().fresh_subject()).env("RATE_LIMIT_ENABLED", "false");
    let mut child =
        launch.command().stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    writeln!(stdin, "{}", initialize(1)).unwrap();
    stdout.read_line(&mut String::new()).unwrap();
    // Answers from handlers and answers to lines that are no messages, mixed, many times what the pipe holds.
    const EACH: usize = 3000;
    let writer = std::thread::spawn(move || {
        for id in 0..EACH {
            writeln!(stdin, "{}\n{}", call(id, "nonsense", json!({})), "{".repeat(1 + id % 7)).unwrap();
        }
        stdin
    });
    std::thread::sleep(Duration::from_millis(1500));
    let (mut results, mut errors) = (vec![false; EACH], 0);
    for _ in 0..2 * EACH {
        // Now and then a pause, so that the pipe is full at many a moment.
        if errors % 100 == 50 {
            std::thread::sleep(Duration::from_millis(2));
        }
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        if message.get("error").is_some() {
            errors += 1;
        } else {
            let id = usize::try_from(message["id"].as_u64().unwrap()).unwrap();
            assert!(!std::mem::replace(&mut results[id], true));
        }
    }
    assert_eq!((errors, results.iter().filter(|answered| **answered).count()), (EACH, EACH));
    drop(writer.join().unwrap());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn a_client_that_never_reads_cannot_keep_the_process() {
    for by_signal in [true, false] {
        let launch = Server::of(vault(), &vault().fresh_subject());
        let mut child = launch
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        writeln!(stdin, "{}", initialize(1)).unwrap();
        // The last thing that it reads; from here on the pipe fills.
        let mut stdout = BufReader::with_capacity(64, child.stdout.take().unwrap());
        stdout.read_line(&mut String::new()).unwrap();
        let list = json!({"jsonrpc": "2.0", "id": 0, "method": "tools/list"});
        for id in 0..50 {
            let mut list = list.clone();
            list["id"] = json!(id);
            writeln!(stdin, "{list}").unwrap();
        }
        std::thread::sleep(Duration::from_millis(500));
        if by_signal {
            let id = rustix::process::Pid::from_child(&child);
            rustix::process::kill_process(id, Signal::TERM).unwrap();
        } else {
            drop(stdin);
        }
        let status = wait_until("the end of the server", PATIENCE, || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(0));
    }
}

#[test]
fn the_loudest_log_leaves_standard_output_to_the_protocol() {
    let subject = vault().fresh_subject();
    let server = Server::of(vault(), &subject)
        .env("LOG_LEVEL", "trace")
        .env("RUST_LOG", "trace")
        .env("RUST_BACKTRACE", "full")
        .spawn();
    let client = server.connect(Era::usual());
    client.always(Answer::yes());
    let secret = canary("log");
    client.call("kv_write", json!({"path": "app", "data": {"A": secret}})).ok();
    client.call("kv_read", json!({"path": "app"})).ok();
    client.call("kv_read", json!({"path": "../x"}));
    client.send(&json!({"jsonrpc": "2.0", "id": 77, "method": secret}));
    client.request("ping", json!({})).unwrap();
    for line in String::from_utf8(client.server().stdout()).unwrap().lines() {
        let message: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(message["jsonrpc"], "2.0");
    }
    wait_until("the finest log on standard error", PATIENCE, || {
        let said = client.server().stderr();
        (said.contains("TRACE") || said.contains("DEBUG")).then_some(())
    });
}

/// Standard output that is a full disk, a terminal's end or no descriptor at all.
#[test]
fn a_standard_output_that_takes_nothing_ends_the_server() {
    for stdout in ["/dev/full", "closed"] {
        let launch = Server::of(vault(), &vault().fresh_subject());
        let line = match stdout {
            "closed" => "exec \"$0\" >&-".to_owned(),
            other => format!("exec \"$0\" >{other}"),
        };
        let mut child = Command::new("/bin/sh")
            .args(["-c", &line, &crate::common::server::binary()])
            .env_clear()
            .envs(launch.at().environment())
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = child.stdin.take().unwrap();
        let _ = writeln!(stdin, "{}", initialize(1));
        if stdout == "closed" {
            // Rust opens /dev/null in its place, which takes everything.
            drop(stdin);
        }
        let status = wait_until("the end of the server", PATIENCE, || child.try_wait().unwrap());
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(status.code().is_some() && !said.contains("panic"), "{stdout}: {status} {said}");
    }
}
