//! Many agents at a server that is killed in mid-work, again and again. Whatever a client was answered is in the
//! log, request and response; nothing reached Vault without its record before it; and the log verifies, with what
//! a kill tore off in the middle of a line set aside.

use std::{
    collections::{HashMap, HashSet},
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use serde_json::{Value, json};

use crate::{
    Dice, calls,
    common::{
        Answer, Era, Home, Proxy, Reply, Server, audit_records, http::try_http, proxy::Sent, unique, vault,
    },
    rig::{Agent, Http, keys_of},
    wire::Client,
};

/// By which route an agent calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Rest,
    Rpc,
    Sessions,
    NoSessions,
}

const AGENTS: [Way; 7] =
    [Way::Rest, Way::Rest, Way::Rest, Way::Rpc, Way::Sessions, Way::NoSessions, Way::NoSessions];

/// An answer that arrived whole.
struct Told {
    subject: String,
    op: &'static str,
    /// The last part of its path, which no other call of that operation has.
    name: String,
    well: bool,
}

/// The message that a stream of events ends with.
fn last_message(reply: &Reply) -> Option<Value> {
    if reply.body.is_object() {
        return Some(reply.body.clone());
    }
    let data = reply.text.lines().rev().filter_map(|line| line.strip_prefix("data:"));
    data.filter_map(|text| serde_json::from_str(text.trim()).ok()).next()
}

struct Worker<'a> {
    way: Way,
    agent: &'a Agent,
    client: Client,
    dice: Dice,
    written: Vec<String>,
    told: Vec<Told>,
}

impl Worker<'_> {
    /// A request of this agent's; nothing where the server went away.
    fn send(&self, method: &str, path: &str, body: Option<&Value>) -> Option<Reply> {
        let url = format!("{}{path}", self.client.url);
        let body = body.map(Value::to_string);
        try_http(method, &url, &[("X-API-Key", &self.agent.key)], body.as_deref()).ok()
    }

    /// The answer to a call of a tool; nothing where the server went away before it.
    fn tool(&self, params: Value) -> Option<Value> {
        let reply = if self.way == Way::Rpc {
            let message = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params});
            self.send("POST", "/mcp/rpc", Some(&message))?
        } else {
            let message = self.client.message("tools/call", params);
            let headers = self.client.headers(&message);
            let headers: Vec<_> =
                headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
            try_http("POST", &format!("{}/mcp", self.client.url), &headers, Some(&message.to_string()))
                .ok()?
        };
        assert_eq!(reply.status, 200, "{}", reply.text);
        // A stream that ends with the server is no answer.
        last_message(&reply)?.get("result").cloned()
    }

    /// Carries one operation out. Whether it went well, or nothing where no answer came.
    fn call(&self, op: &'static str, arguments: Value) -> Option<bool> {
        if self.way == Way::Rest {
            let path = arguments["path"].as_str().or(arguments["prefix"].as_str()).unwrap();
            let reply = match op {
                "kv.write" => {
                    self.send("PUT", &format!("/secrets/{path}"), Some(&json!({"data": arguments["data"]})))
                }
                "kv.read" => self.send("GET", &format!("/secrets/{path}"), None),
                _ => self.send("GET", &format!("/secrets?prefix={path}"), None),
            }?;
            assert!(matches!(reply.status, 200 | 404), "{}: {}", reply.status, reply.text);
            return Some(reply.status == 200);
        }
        let params = json!({"name": op, "arguments": arguments});
        let mut result = self.tool(params.clone())?;
        if result["resultType"] == "input_required" {
            result = self.tool(self.client.repeat(&params, &result)?)?;
        }
        Some(result["isError"] != true)
    }

    /// Works until the server goes away.
    fn work(mut self, budget: &AtomicUsize) -> Vec<Told> {
        let can_write = matches!(self.way, Way::Rest | Way::NoSessions);
        loop {
            let (op, name) = match self.dice.below(5) {
                0 | 1 if can_write => ("kv.write", unique("p")),
                2 if !self.written.is_empty() => ("kv.read", self.written.remove(0)),
                // Nothing is there, which one of the two takes for a fault.
                3 => ("kv.read", unique("n")),
                _ => ("kv.list", unique("n")),
            };
            let arguments = match op {
                "kv.write" => json!({"path": name, "data": {"A": "b"}}),
                "kv.list" => json!({"prefix": name}),
                _ => json!({"path": name}),
            };
            let Some(well) = self.call(op, arguments) else { return self.told };
            budget
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| Some(left.saturating_sub(1)))
                .ok();
            if op == "kv.write" && well {
                self.written.push(name.clone());
            }
            self.told.push(Told { subject: self.agent.subject.clone(), op, name, well });
        }
    }
}

/// A kill in the middle of a line leaves the front of one.
fn tear(log: &Path) {
    let mut file = std::fs::OpenOptions::new().append(true).open(log).unwrap();
    file.write_all(br#"{"schema":1,"seq":7,"ts":"2026-"#).unwrap();
}

/// A server on this log.
fn start(home: &Arc<Home>, log: &Path, agents: &[Agent]) -> Http {
    let proxy = Proxy::new(vault());
    let launch = Server::launch()
        .home(home)
        .env("AUDIT_LOG", log.to_str().unwrap())
        .env("VAULT_ADDR", &proxy.address)
        .env("VAULT_TOKEN", &vault().root)
        .env("RATE_LIMIT_ENABLED", "false")
        .env("APPROVAL", "client")
        .env("API_KEYS_JSON", keys_of(&agents.iter().collect::<Vec<_>>()));
    Http::of(launch, proxy)
}

/// One server's life: what its clients were told, and what it wrote to Vault.
fn round(
    home: &Arc<Home>,
    log: &Path,
    agents: &[Agent],
    dice: &mut Dice,
    budget: &AtomicUsize,
) -> (Vec<Told>, Vec<Sent>) {
    let mut http = start(home, log, agents);
    let workers: Vec<_> = AGENTS
        .into_iter()
        .zip(agents)
        .map(|(way, agent)| {
            let client = match way {
                Way::Sessions => Client::begin(&http, agent, Era::mute()),
                _ => Client::without_session(&http, agent, Era::stateless()),
            };
            client.always(Answer::yes());
            let dice = Dice::new(dice.below(u64::MAX));
            Worker { way, agent, client, dice, written: Vec::new(), told: Vec::new() }
        })
        .collect();
    let told = std::thread::scope(|scope| {
        let workers: Vec<_> = workers.into_iter().map(|worker| scope.spawn(|| worker.work(budget))).collect();
        // Some of the kills strike while the first calls are on their way, others a busy server.
        std::thread::sleep(Duration::from_millis(20 + dice.below(400)));
        http.server_mut().kill();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    let written = http.proxy.writes();
    (told, written)
}

#[test]
fn whatever_was_answered_over_http_before_a_kill_is_in_the_log_and_the_log_verifies() {
    let home = Home::new();
    // Not where the rig looks at each end of a server: it would read the whole log each time.
    let log = home.path().join("data").join("crash.jsonl");
    let agents: Vec<_> = AGENTS.iter().map(|_| Agent::new()).collect();
    let budget = AtomicUsize::new(calls());
    let mut dice = Dice::new(u64::from(std::process::id()));
    let (mut told, mut sent, mut rounds) = (Vec::new(), Vec::new(), 0);
    while budget.load(Ordering::Relaxed) > 0 {
        let (more_told, more_sent) = round(&home, &log, &agents, &mut dice, &budget);
        told.extend(more_told);
        sent.extend(more_sent);
        rounds += 1;
        if log.exists() && dice.below(3) == 0 {
            tear(&log);
        }
    }
    // One more life, which ends in peace.
    let mut http = start(&home, &log, &agents);
    http.get(&agents[0], "/secrets?prefix=last").ok();
    http.server().signal(rustix::process::Signal::TERM);
    assert!(http.server_mut().wait().success());
    let verify = Server::launch()
        .home(&home)
        .env("AUDIT_LOG", log.to_str().unwrap())
        .args(["audit", "verify"])
        .run("");
    assert!(verify.status.success(), "{}{}", verify.stdout, verify.stderr);

    // What the log says of each call, in its order.
    let mut recorded: HashMap<(String, String), Vec<Value>> = HashMap::new();
    for record in audit_records(&log) {
        let (op, target) = (record["op"].as_str().unwrap(), record["target"].as_str().unwrap());
        let name = target.trim_end_matches('/').rsplit('/').next().unwrap();
        recorded.entry((op.to_owned(), name.to_owned())).or_default().push(record);
    }
    let actions = |op: &str, name: &str| -> Vec<String> {
        let records = recorded.get(&(op.to_owned(), name.to_owned())).map(Vec::as_slice).unwrap_or_default();
        let actions = records.iter().map(|record| record["action"].as_str().unwrap().to_owned());
        actions.filter(|action| !action.starts_with("CONFIRM")).collect()
    };
    for Told { subject, op, name, well } in &told {
        let ended = if *well { "SUCCESS" } else { "FAILED" };
        assert_eq!(actions(op, name), ["REQUEST", ended], "{op} of {subject}/{name}");
        if *op == "kv.write" {
            assert!(*well);
            assert_eq!(vault().version(subject, name), 1, "{subject}/{name}");
        }
    }
    // What reached Vault: once, and after its record.
    let mut names = HashSet::new();
    for write in &sent {
        let name = write.target.rsplit('/').next().unwrap();
        assert!(names.insert(name.to_owned()), "{name} was sent twice");
        let records = recorded.get(&("kv.write".to_owned(), name.to_owned()));
        let request = records.into_iter().flatten().find(|record| record["action"] == "REQUEST");
        let request = request.unwrap_or_else(|| panic!("{name} was sent without a record"));
        let time = chrono::DateTime::parse_from_rfc3339(request["ts"].as_str().unwrap()).unwrap();
        assert!(SystemTime::from(time) <= write.at, "{name} was sent before its record");
    }
    let count = |op: &str| told.iter().filter(|told| told.op == op).count();
    let (writes, reads, lists) = (count("kv.write"), count("kv.read"), count("kv.list"));
    println!(
        "{rounds} kills: {writes} writes, {reads} reads, {lists} lists were answered, {} writes sent",
        sent.len()
    );
    assert!(writes > 0 && reads > 0 && lists > 0);
}
