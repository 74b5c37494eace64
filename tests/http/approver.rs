//! The approver's terminal answers for callers of MCP over HTTP, unless it belongs to the one who asks.

use std::process::{Command, Stdio};

use serde_json::{Value, json};

use super::{
    confirm::attended,
    rig::{Agent, Http, keys_of},
    wire::Client,
};
use crate::common::{
    Era, Home, PATIENCE, Server, Terminal, ToolResult, assert_refused, canary, http, server::binary, vault,
    wait_until,
};

fn write(path: &str) -> Value {
    json!({"name": "kv_write", "arguments": {"path": path, "data": {"A": canary("w")}}})
}

#[test]
fn an_attached_approver_is_asked_before_the_client() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let agent = Agent::new();
    let server = Http::start(&[&agent], &[]);
    let mut terminal = attended(&server);
    // A client that could ask is not, and one that cannot need not.
    for (number, era) in [Era::usual(), Era::stateless(), Era::mute()].into_iter().enumerate() {
        let path = format!("p{number}");
        let client = Client::begin(&server, &agent, era);
        // Without a session nothing of the answer comes before the person's.
        std::thread::scope(|scope| {
            let call = scope.spawn(|| client.request("tools/call", write(&path)).unwrap());
            terminal.wait_for(&format!("{}/{path}", agent.subject));
            terminal.type_line("yes");
            assert_eq!(ToolResult(call.join().unwrap()).ok()["version"], 1);
        });
        assert!(client.asked().is_empty());
    }
    std::thread::scope(|scope| {
        let door = server.door();
        let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": write("rpc")});
        let agent = &agent;
        let call = scope.spawn(move || door.call(agent, "POST", "/mcp/rpc", Some(body)));
        terminal.wait_for(&format!("{}/rpc", agent.subject));
        terminal.type_line("no");
        let answer = call.join().unwrap().ok();
        assert_refused(&ToolResult(answer["result"].clone()), "declined");
    });
    assert_eq!(vault().version(&agent.subject, "rpc"), 0);
}

/// A server that nobody here is the parent of, as one that a supervisor started.
struct Detached {
    home: std::sync::Arc<Home>,
    url: String,
    id: i32,
}

impl Detached {
    fn start(agent: &Agent, approval: &str) -> Self {
        let home = Home::new();
        let said = home.path().join("said");
        let started = Command::new("sh")
            .args(["-c", "setsid \"$0\" --http --port 0 </dev/null >/dev/null 2>\"$1\" & echo $!"])
            .arg(binary())
            .arg(&said)
            .env_clear()
            .envs(home.environment())
            .env("VAULT_ADDR", &vault().address)
            .env("VAULT_TOKEN", &vault().root)
            .env("API_KEYS_JSON", keys_of(&[agent]))
            .env("APPROVAL", approval)
            .current_dir(home.work())
            .stderr(Stdio::null())
            .output()
            .unwrap();
        let url = wait_until("the address of a detached server", PATIENCE, || {
            let said = std::fs::read_to_string(&said).ok()?;
            let (_, rest) = said.split_once("listening on ")?;
            Some(rest.split_once('\n')?.0.trim().to_owned())
        });
        let id = String::from_utf8(started.stdout).unwrap().trim().parse().unwrap();
        Self { home, url, id }
    }
}

impl Drop for Detached {
    fn drop(&mut self) {
        let _ = rustix::process::kill_process(
            rustix::process::Pid::from_raw(self.id).unwrap(),
            rustix::process::Signal::KILL,
        );
    }
}

#[test]
fn whoever_asks_does_not_answer() {
    if !cfg!(target_os = "linux") {
        return;
    }
    let agent = Agent::new();
    let server = Detached::start(&agent, "approver");
    let launch = Server::launch().home(&server.home).env("VAULT_ADDR", &vault().address).arg("approve");
    // On a terminal that this very process made up, as a model's shell would.
    let terminal = Terminal::inside(&launch);
    terminal.wait_for("Attached");
    let body = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": write("app")}).to_string();
    let headers = [("X-API-Key", agent.key.as_str()), ("Content-Type", "application/json")];
    let answer = http::http("POST", &format!("{}/mcp/rpc", server.url), &headers, Some(&body)).ok();
    let result = ToolResult(answer["result"].clone());
    assert_refused(&result, "nobody_to_ask");
    assert!(result.text().contains("started by the client that asks"), "{}", result.text());
    assert!(!terminal.screen().contains("CREATE"), "{}", terminal.screen());
    assert_eq!(vault().version(&agent.subject, "app"), 0);
}
