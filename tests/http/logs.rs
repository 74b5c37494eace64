//! Lines about requests, and who sees them.

use std::{os::unix::fs::PermissionsExt, path::PathBuf};

use serde_json::{Value, json};

use super::rig::{Agent, Http, assert_refused};
use crate::common::{PATIENCE, Server, canary, unique, wait_until};

fn folder(http: &Http) -> PathBuf {
    http.home().work().join("logs")
}

/// The lines of one kind, once there are so many that satisfy this.
fn lines(http: &Http, kind: &str, count: usize, wanted: impl Fn(&Value) -> bool) -> Vec<Value> {
    wait_until(&format!("{count} lines in {kind}"), PATIENCE, || {
        let mut found = Vec::new();
        for entry in std::fs::read_dir(folder(http)).ok()?.flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with(kind) && name.ends_with(".jsonl") {
                let text = std::fs::read_to_string(entry.path()).unwrap();
                let whole = text.split_inclusive('\n').filter(|line| line.ends_with('\n'));
                found.extend(whole.map(|line| serde_json::from_str::<Value>(line).expect(line)));
            }
        }
        found.retain(&wanted);
        (found.len() >= count).then_some(found)
    })
}

fn of<'a>(agent: &'a Agent) -> impl Fn(&Value) -> bool + 'a {
    |line| line["subject"] == agent.subject.as_str()
}

#[test]
fn a_request_and_its_answer_are_a_line_each_with_ids_and_route_and_nothing_of_their_content() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let word = unique("hidden");
    let headers = [
        ("X-API-Key", agent.key.as_str()),
        ("X-Correlation-Id", "mine-7"),
        ("User-Agent", &word),
        ("X-Any", &word),
    ];
    let body = json!({"data": {(word.clone()): canary("body")}}).to_string();
    let written = http.bare("PUT", &format!("/secrets/{word}"), &headers, Some(&body));
    http.bare("GET", &format!("/secrets/a?version={word}"), &headers, None);
    let request = &lines(&http, "requests", 2, of(&agent))[0];
    let answers = lines(&http, "responses", 2, of(&agent));
    let (answer, refusal) = (&answers[0], &answers[1]);
    for line in [request, answer] {
        assert_eq!(line["request_id"], written.header("x-request-id").unwrap());
        assert_eq!((&line["correlation_id"], &line["method"]), (&json!("mine-7"), &json!("PUT")));
        assert_eq!((&line["route"], &line["client"]), (&json!("/secrets/{path}"), &json!("127.0.0.1")));
        assert!(line["ts"].as_str().unwrap().ends_with('Z') && line.get("trace_id").is_none());
    }
    assert_eq!((&answer["status"], answer.get("error")), (&json!(200), None));
    assert!(answer["ms"].as_f64().unwrap() > 0.0);
    assert_eq!((&refusal["status"], &refusal["error"]), (&json!(422), &json!("invalid_input")));
    for kind in ["requests", "responses", "server"] {
        let text = lines(&http, kind, 0, |_| true).iter().map(Value::to_string).collect::<String>();
        assert!(!text.contains(&word) && !text.contains(&agent.key), "{text}");
    }
}

#[test]
fn the_files_are_their_owner_s_alone() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    http.get(&agent, "/whoami");
    lines(&http, "responses", 1, of(&agent));
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(folder(&http)), 0o700);
    let names: Vec<_> = std::fs::read_dir(folder(&http)).unwrap().flatten().collect();
    assert_eq!(names.len(), 3);
    assert!(names.iter().all(|entry| mode(entry.path()) == 0o600));
}

#[test]
fn a_folder_that_others_may_write_to_is_refused_and_so_is_one_that_cannot_be_made() {
    let home = crate::common::Home::new();
    let open = home.work().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    for folder in [open.to_str().unwrap(), "/proc/nothing"] {
        let launch = Server::launch().home(&home).args(["--http", "--port", "0"]).env("LOG_DIR", folder);
        let run = launch.run("");
        assert!(!run.status.success() && run.stderr.contains("config_invalid: LOG_DIR: "), "{}", run.stderr);
    }
}

/// What `/observability/logs` shows an agent.
fn shown(http: &Http, agent: &Agent, log: &str, query: &str) -> Vec<Value> {
    let reply = http.get(agent, &format!("/observability/logs/{log}{query}")).ok();
    reply["lines"].as_array().unwrap().clone()
}

#[test]
fn each_agent_sees_their_own_lines_and_nobody_else_s() {
    let alice = Agent::new();
    // A subject that begins with the other's.
    let bob = Agent { subject: format!("{}-b", alice.subject), ..Agent::new() };
    // At this level the program says a line for each call that ran.
    let http = Http::start(&[&alice, &bob], &[("LOG_LEVEL", "debug")]);
    let (hers, his) = (unique("hers"), unique("his"));
    for (agent, word) in [(&alice, &hers), (&bob, &his)] {
        let path = format!("/secrets/{word}");
        http.put(agent, &path, json!({"data": {(word.clone()): "v"}})).ok();
        http.get(agent, &path).ok();
        http.get(agent, &format!("/secrets/{word}/missing"));
    }
    http.bare("GET", "/secrets/nobody", &[], None);
    for (agent, other, word) in [(&alice, &bob, &his), (&bob, &alice, &hers)] {
        for log in ["requests", "responses"] {
            lines(&http, log, 3, of(agent));
            let seen = shown(&http, agent, log, "");
            assert!(seen.len() >= 3 && seen.iter().all(of(agent)), "{seen:?}");
        }
        let about = |line: &Value| {
            let spans = line["spans"].as_array().cloned().unwrap_or_default();
            spans.iter().any(|span| span["name"] == "request" && span["subject"] == agent.subject.as_str())
        };
        lines(&http, "server", 3, about);
        let seen = shown(&http, agent, "server", "");
        assert!(seen.len() >= 3 && seen.iter().all(about), "{seen:?}");
        for log in ["requests", "responses", "server"] {
            let text =
                shown(&http, agent, log, "?limit=500").iter().map(Value::to_string).collect::<String>();
            let others = format!("\"{}\"", other.subject);
            assert!(!text.contains(&others) && !text.contains(word.as_str()), "{text}");
        }
    }
}

#[test]
fn what_is_said_while_a_call_of_mcp_is_carried_out_is_its_caller_s_line_too() {
    let (agent, other) = (Agent::new(), Agent::new());
    let http = Http::start(&[&agent, &other], &[("LOG_LEVEL", "debug")]);
    let params = json!({"name": "kv_list", "arguments": {}});
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}).to_string();
    let headers = [("X-API-Key", agent.key.as_str()), ("Content-Type", "application/json")];
    let reply = http.bare("POST", "/mcp/rpc", &headers, Some(&body));
    let id = reply.header("x-request-id").unwrap().to_owned();
    let ran = wait_until("the line about the call", PATIENCE, || {
        let lines = shown(&http, &agent, "server", &format!("?request_id={id}"));
        lines.into_iter().find(|line| line["op"] == "kv.list")
    });
    assert_eq!(ran["message"], "ran");
    assert!(shown(&http, &other, "server", "").iter().all(|line| !line.to_string().contains(&agent.subject)));
}

#[test]
fn lines_are_chosen_by_number_request_and_correlation() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let call = |correlation: &str| {
        let headers = [("X-API-Key", agent.key.as_str()), ("X-Correlation-Id", correlation)];
        http.bare("GET", "/whoami", &headers, None).header("x-request-id").unwrap().to_owned()
    };
    let ids = [call("a"), call("b"), call("a")];
    lines(&http, "responses", 3, of(&agent));
    let seen = |query: &str| -> Vec<_> {
        let lines = shown(&http, &agent, "responses", query);
        lines.iter().map(|line| line["request_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(seen("?correlation_id=a"), [ids[0].clone(), ids[2].clone()]);
    assert_eq!(seen("?correlation_id=a&limit=1"), [ids[2].clone()]);
    assert_eq!(seen(&format!("?request_id={}", ids[1])), [ids[1].clone()]);
    assert!(seen("?correlation_id=nothing").is_empty());
    for query in
        ["?limit=0", "?limit=501", "?limit=x", "?limit=-1", "?subject=a", "?limit=1&limit=2", "?file=../x"]
    {
        let reply = http.get(&agent, &format!("/observability/logs/responses{query}"));
        assert_refused(&reply, 422, "invalid_input");
    }
    for log in ["audit", "..%2f..%2fetc", "requests.2026-01-01.jsonl", "Server", "%00"] {
        assert_eq!(http.get(&agent, &format!("/observability/logs/{log}")).status, 404, "{log}");
    }
}

#[test]
fn who_may_not_read_sees_neither_lines_nor_sums() {
    let writer = Agent::with_scopes(&["write", "list", "delete"]);
    let http = Http::start(&[&writer], &[]);
    for path in ["/observability/summary", "/observability/logs/requests", "/observability/logs/server"] {
        assert_eq!(http.bare("GET", path, &[], None).status, 401);
        assert_eq!(http.get(&writer, path).status, 403);
    }
}

#[test]
fn the_summary_adds_up() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    http.put(&agent, "/secrets/a", json!({"data": {"k": "v"}})).ok();
    http.get(&agent, "/secrets/a").ok();
    http.get(&agent, "/secrets/b");
    http.bare("GET", "/secrets/a", &[], None);
    let summary = http.get(&agent, "/observability/summary").ok();
    assert_eq!(summary["answers"], json!({"1xx": 0, "2xx": 2, "3xx": 0, "4xx": 2, "5xx": 0}));
    let operations =
        json!({"success": 2, "failed": 1, "refused": 0, "invalid": 0, "asked": 0, "unrecorded": 0});
    assert_eq!(summary["operations"], operations);
    assert_eq!((&summary["in_flight"], &summary["pending_approvals"]), (&json!(1), &json!(0)));
    assert_eq!(summary["sessions"], 0);
    assert_eq!((&summary["ready"], &summary["version"]), (&json!(true), &json!(env!("CARGO_PKG_VERSION"))));
    assert!(summary["memory_bytes"].as_u64().unwrap() > 1 << 20 && summary["uptime_seconds"].is_u64());
}

#[test]
fn a_flood_of_nobody_s_requests_does_not_fill_the_disk_and_hides_no_agent_s_line() {
    let agent = Agent::new();
    let http = Http::start(&[&agent], &[]);
    let begin = std::time::Instant::now();
    for _ in 0..400 {
        http.bare("GET", "/secrets/a", &[], None);
    }
    http.get(&agent, "/whoami").ok();
    let own = lines(&http, "responses", 1, of(&agent));
    let all = lines(&http, "responses", 1, |_| true);
    let left_out: u64 = all.iter().filter_map(|line| line["left_out"].as_u64()).sum();
    assert_eq!(own.len(), 1);
    // Every answer is either written down or counted as left out.
    assert_eq!(all.len() as u64 - 1 + left_out, 400);
    // Fifty at once and fifty a second: on a machine that crawls none is too many.
    assert!(left_out > 0 || begin.elapsed().as_secs() >= 7);
}

#[test]
fn on_stdio_no_file_is_written_that_was_not_asked_for() {
    let home = crate::common::Home::new();
    Server::launch().home(&home).run("");
    assert!(!home.work().join("logs").exists());
    let folder = home.path().join("mine");
    Server::launch().home(&home).env("LOG_DIR", folder.to_str().unwrap()).run("");
    let names: Vec<_> = std::fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name()).collect();
    assert!(names.len() == 1 && names[0].to_str().unwrap().starts_with("server."), "{names:?}");
}
