//! Thousands of pipelined calls while servers and Vault are killed and connections break. However it went: the
//! audit log verifies, no write reached Vault without its record before it, none twice, and nobody was told
//! something else than what Vault holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

#[path = "crash/over_http.rs"]
mod over_http;
#[path = "http/rig.rs"]
#[allow(dead_code)] // some of it is for other tests
mod rig;
#[path = "http/wire.rs"]
#[allow(dead_code)] // as above
mod wire;

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, SystemTime},
};

use common::{
    Answer, Era, Fault, Home, Kind, McpClient, On, PATIENCE, Proxy, Server, ToolResult, Vault, audit_records,
    free_ports, http, wait_until,
};
use serde_json::{Map, Value, json};

/// How many calls: `VAULT_MCP_TEST_CRASH_CALLS`, else 10,000 where CI is set, else 2,000.
fn calls() -> usize {
    let set = |name: &str| std::env::var(name).ok().filter(|text| !text.is_empty());
    let default = if set("CI").is_some() { 10_000 } else { 2_000 };
    set("VAULT_MCP_TEST_CRASH_CALLS").map_or(default, |text| text.parse().unwrap())
}

const WORKERS: usize = 3;
const PATHS: u64 = 8;

/// Numbers without a seed to remember: what a test does with them does not depend on them.
struct Dice(u64);

impl Dice {
    fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn below(&mut self, limit: u64) -> u64 {
        // xorshift64 (Marsaglia).
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }
}

/// A Vault that can be killed and started again with what it held. The embedded one keeps everything in memory:
/// there only the way to it breaks.
enum Backend {
    Durable(Durable),
    Lasting(Vault),
}

struct Durable {
    program: String,
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
    unseal: String,
    root: String,
}

impl Durable {
    fn new(program: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("vm").tempdir_in("/tmp").unwrap();
        let port = free_ports(2);
        let config = format!(
            "disable_mlock = true\nstorage \"file\" {{ path = \"{}\" }}\n\
             listener \"tcp\" {{ address = \"127.0.0.1:{port}\" tls_disable = true }}\n",
            folder.path().join("store").display()
        );
        std::fs::write(folder.path().join("vault.hcl"), config).unwrap();
        let mut vault = Self {
            program: program.to_owned(),
            folder,
            port,
            child: None,
            unseal: String::new(),
            root: String::new(),
        };
        vault.spawn();
        let keys = vault.call("PUT", "sys/init", json!({"secret_shares": 1, "secret_threshold": 1}));
        vault.unseal = keys["keys"][0].as_str().unwrap().to_owned();
        vault.root = keys["root_token"].as_str().unwrap().to_owned();
        vault.unseal();
        let root = vault.vault();
        root.ensure_mount("secret", "kv", json!({"version": "2"}));
        wait_until("the mount", PATIENCE, || {
            (root.put("secret/config", json!({"max_versions": 5000})).status < 300).then_some(())
        });
        vault
    }

    fn vault(&self) -> Vault {
        Vault::at(&format!("http://127.0.0.1:{}", self.port), &self.root, Kind::Real)
    }

    fn call(&self, method: &str, path: &str, body: Value) -> Value {
        let url = format!("http://127.0.0.1:{}/v1/{path}", self.port);
        let text = body.to_string();
        wait_until(path, PATIENCE, || {
            let reply = http::try_http(method, &url, &[], Some(&text)).ok()?;
            (reply.status < 300).then_some(reply.body)
        })
    }

    /// It ends with the thread that calls this, should the test end without its `Drop`.
    fn spawn(&mut self) {
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(&self.program)
            .args(["server", "-config"])
            .arg(self.folder.path().join("vault.hcl"))
            .env_clear()
            .env("HOME", self.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.child = Some(child);
    }

    fn unseal(&self) {
        let state = self.call("PUT", "sys/unseal", json!({"key": self.unseal}));
        assert_eq!(state["sealed"], false);
        let url = format!("http://127.0.0.1:{}/v1/sys/health", self.port);
        wait_until("an active Vault", PATIENCE, || {
            (http::try_http("GET", &url, &[], None).ok()?.status == 200).then_some(())
        });
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn restart(&mut self) {
        self.kill();
        self.spawn();
        self.unseal();
    }
}

impl Drop for Durable {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Backend {
    fn new() -> Self {
        match std::env::var("VAULT_MCP_TEST_VAULT") {
            Ok(program) if !program.is_empty() => Self::Durable(Durable::new(&program)),
            _ => Self::Lasting(Vault::own()),
        }
    }

    fn vault(&self) -> Vault {
        match self {
            Self::Durable(durable) => durable.vault(),
            Self::Lasting(vault) => Vault::at(&vault.address, &vault.root, Kind::Embedded),
        }
    }

    fn crash(&mut self, proxy: &Proxy) {
        match self {
            Self::Durable(durable) => durable.restart(),
            Self::Lasting(_) => {
                proxy.fail(On::every(), Fault::ResetBefore);
                std::thread::sleep(Duration::from_millis(700));
                proxy.heal();
            }
        }
    }
}

/// What a caller was told about a write.
#[derive(Debug, PartialEq)]
enum Told {
    /// Written as this version.
    Written(u64),
    /// It did not happen.
    Refused(String),
    /// Nothing, or that it is not known.
    Unknown,
}

/// One write that was asked for: its path, and the one key that no other write has.
struct Asked {
    subject: String,
    path: String,
    told: Told,
}

/// One client after another on one subject, each killed sooner or later.
fn work(
    number: u64,
    home: &Arc<Home>,
    log: &Path,
    proxy: &Proxy,
    root: &str,
    budget: &AtomicUsize,
) -> HashMap<String, Asked> {
    let subject = common::unique("crash");
    let connect = || -> McpClient {
        let client = Server::launch()
            .home(home)
            .env("VAULT_ADDR", &proxy.address)
            .env("VAULT_TOKEN", root)
            .env("SUBJECT", &subject)
            .env("AUDIT_LOG", log.to_str().unwrap())
            .env("APPROVAL", "client")
            .env("RATE_LIMIT_ENABLED", "false")
            .spawn()
            .connect(Era::usual());
        client.always(Answer::yes());
        client
    };
    let mut dice = Dice::new(number + u64::from(std::process::id()));
    let mut client = connect();
    let mut asked = HashMap::new();
    const BATCH: usize = 12;
    while budget.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(BATCH)).is_ok() {
        let mut pending = Vec::new();
        for index in 0..BATCH {
            let path = format!("p{}", dice.below(PATHS));
            // At most three questions of a subject may be open at a time.
            if index % 4 == 0 {
                let key = common::unique("k");
                let data = Map::from_iter([(key.clone(), json!("v"))]);
                let call = client.start_call("kv_write", json!({"path": path, "data": data}));
                pending.push((Some((key, path)), call));
            } else {
                pending.push((None, client.start_call("kv_read", json!({"path": path}))));
            }
        }
        let killed = dice.below(4) == 0;
        if killed {
            std::thread::sleep(Duration::from_millis(dice.below(60)));
            client.server().signal(rustix::process::Signal::KILL);
        }
        let mut answered = 0;
        for (write, pending) in pending {
            let answer = pending.poll(PATIENCE);
            assert!(answer.is_some() || killed, "a call was never answered, and nobody was killed");
            let result = answer.map(|answer| ToolResult(answer.unwrap()));
            answered += usize::from(result.as_ref().is_some_and(|result| !result.is_error()));
            let Some((key, path)) = write else { continue };
            let told = match result {
                None => Told::Unknown,
                Some(result) if !result.is_error() => Told::Written(result.ok()["version"].as_u64().unwrap()),
                Some(result) if result.code() == "outcome_unknown" => Told::Unknown,
                Some(result) => Told::Refused(result.text()),
            };
            asked.insert(key, Asked { subject: subject.clone(), path, told });
        }
        if killed {
            client = connect();
        } else if answered == 0 {
            // Vault is away: do not spend the calls on that.
            std::thread::sleep(Duration::from_millis(300));
        }
    }
    assert!(client.close().success());
    asked
}

/// Breaks the way to Vault in passing, and Vault itself now and then.
fn havoc(backend: &mut Backend, proxy: &Proxy, over: &AtomicBool) -> usize {
    let mut dice = Dice::new(u64::from(std::process::id()) << 8);
    let mut crashes = 0;
    while !over.load(Ordering::Relaxed) {
        std::thread::sleep(Duration::from_millis(150 + dice.below(250)));
        let fault = match dice.below(9) {
            0 | 1 => Fault::ResetBefore,
            2 | 3 => Fault::ResetAfter,
            4 => Fault::StatusAfter(502),
            5 => Fault::Status(503),
            6 => Fault::Truncated,
            7 => Fault::DelayAfter(Duration::from_millis(300)),
            _ => {
                if crashes < 4 {
                    backend.crash(proxy);
                    crashes += 1;
                }
                continue;
            }
        };
        proxy.fail(On::every().times(1 + usize::try_from(dice.below(2)).unwrap()), fault);
    }
    proxy.heal();
    crashes
}

#[test]
fn whatever_is_killed_the_log_verifies_and_every_write_is_recorded_before_and_sent_once() {
    let mut backend = Backend::new();
    let vault = backend.vault();
    if let Backend::Lasting(_) = backend {
        vault.put("secret/config", json!({"max_versions": 5000})).ok();
    }
    let proxy = Proxy::new(&vault);
    let home = Home::new();
    // Not where the rig looks at each end of a server: it would read the whole log each time.
    let log: PathBuf = home.path().join("data").join("crash.jsonl");
    let (budget, over) = (AtomicUsize::new(calls()), AtomicBool::new(false));

    let (asked, crashes) = std::thread::scope(|scope| {
        let havoc = scope.spawn(|| havoc(&mut backend, &proxy, &over));
        let (home, log, proxy, root, budget) = (&home, &log, &proxy, &vault.root, &budget);
        let workers: Vec<_> = (0..WORKERS as u64)
            .map(|number| scope.spawn(move || work(number, home, log, proxy, root, budget)))
            .collect();
        let results: Vec<_> = workers.into_iter().map(std::thread::ScopedJoinHandle::join).collect();
        over.store(true, Ordering::Relaxed);
        let crashes = havoc.join().unwrap();
        let mut asked = HashMap::new();
        for result in results {
            asked.extend(result.unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        (asked, crashes)
    });

    // Once more, on this thread: a Vault ends with the thread that started it.
    backend.crash(&proxy);

    // The log verifies, also by the key that signs it.
    let verify = Server::launch()
        .home(&home)
        .env("AUDIT_LOG", log.to_str().unwrap())
        .args(["audit", "verify"])
        .run("");
    assert!(verify.status.success(), "{}{}", verify.stdout, verify.stderr);

    // When each write's request was recorded, by its key.
    let mut recorded: HashMap<String, Vec<SystemTime>> = HashMap::new();
    let mut ended: HashMap<String, String> = HashMap::new();
    for record in audit_records(&log).iter().filter(|record| record["op"] == "kv.write") {
        let key = record["keys"][0].as_str().unwrap_or_default().to_owned();
        let time = chrono::DateTime::parse_from_rfc3339(record["ts"].as_str().unwrap()).unwrap();
        match record["action"].as_str().unwrap() {
            "REQUEST" => recorded.entry(key).or_default().push(time.into()),
            "SUCCESS" | "FAILED" => {
                drop(ended.insert(key, record["code"].as_str().unwrap_or("ok").to_owned()))
            }
            _ => {}
        }
    }

    // Every write that reached the way to Vault: once, and after its record.
    let mut sent: HashSet<String> = HashSet::new();
    for write in proxy.writes() {
        let body = write.json();
        let Some(key) = body["data"].as_object().and_then(|data| data.keys().next().cloned()) else {
            panic!("a write that nobody asked for: {}", write.line())
        };
        assert!(sent.insert(key.clone()), "{key} was sent twice");
        let times = recorded.get(&key).unwrap_or_else(|| panic!("{key} was sent without a record"));
        assert!(
            times.len() == 1 && times[0] <= write.at,
            "{key} was sent before its record, or recorded twice"
        );
        assert!(body["options"]["cas"].is_u64(), "{key} carried no check-and-set");
    }

    // What Vault holds, version by version.
    let mut held: HashMap<String, u64> = HashMap::new();
    let places: BTreeMap<(&str, &str), ()> =
        asked.values().map(|asked| ((asked.subject.as_str(), asked.path.as_str()), ())).collect();
    for (subject, path) in places.keys() {
        let versions = vault.versions(subject, path);
        for number in
            versions.as_object().into_iter().flatten().map(|(number, _)| number.parse::<u64>().unwrap())
        {
            let data = vault.secret_version(subject, path, number);
            let keys: Vec<_> = data.as_object().unwrap().keys().cloned().collect();
            assert_eq!(keys.len(), 1, "a version that nobody wrote: {data}");
            assert!(sent.contains(&keys[0]), "{} came another way", keys[0]);
            assert!(held.insert(keys[0].clone(), number).is_none(), "{} was written twice", keys[0]);
        }
    }

    // Nobody was told otherwise.
    let (mut written, mut refused, mut unknown) = (0, 0, 0);
    for (key, asked) in &asked {
        match &asked.told {
            Told::Written(version) => {
                assert_eq!(held.get(key), Some(version), "{key}");
                assert_eq!(
                    ended.get(key).map(String::as_str),
                    Some("ok"),
                    "{key} succeeded without a record"
                );
                written += 1;
            }
            Told::Refused(text) => {
                assert!(!held.contains_key(key), "{key} was written and its caller was told: {text}");
                refused += 1;
            }
            Told::Unknown => unknown += 1,
        }
    }
    println!(
        "{} calls, {crashes} crashes of Vault: {written} written, {refused} refused, {unknown} unknown, {} sent, {} held",
        calls(),
        sent.len(),
        held.len()
    );
    assert!(written > calls() / 20 && unknown > 0, "{written} written, {refused} refused, {unknown} unknown");
}
