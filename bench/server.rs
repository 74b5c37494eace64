//! vault-mcp as a child process, and a client of one line at a time.

use std::{
    io::{BufRead, BufReader, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
};

use serde_json::{Value, json};

use crate::vault::{ROOT, SUBJECT, Vault};

/// What is measured: `VAULT_MCP_TEST_BINARY` if it is set, an older build say, else what cargo built.
pub fn binary() -> String {
    std::env::var("VAULT_MCP_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_vault-mcp").to_owned())
}

/// A folder for keys and audit log, gone when dropped.
pub fn home() -> tempfile::TempDir {
    tempfile::Builder::new().prefix("vault-mcp-bench").tempdir().unwrap()
}

/// What a client connects the server's standard streams to.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// Pipes: Python, Rust, Go, shells.
    Pipes,
    /// Unix sockets: Node.js, and so most desktop clients.
    Sockets,
}

/// The command as shipped: audit log on, no rate limit, one tree.
pub fn command(address: &str, home: &tempfile::TempDir) -> Command {
    let mut command = Command::new(binary());
    command
        .env_clear()
        .env("HOME", home.path())
        .env("XDG_RUNTIME_DIR", home.path())
        .env("AUDIT_LOG", home.path().join("audit.jsonl"))
        .env("VAULT_ADDR", address)
        .env("VAULT_TOKEN", ROOT)
        .env("SUBJECT", SUBJECT)
        .env("RATE_LIMIT_ENABLED", "false")
        .stderr(Stdio::null());
    command
}

pub const INITIALIZE: &str = r#"{"jsonrpc":"2.0","id":0,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"bench","version":"1"}}}"#;
const INITIALIZED: &str = r#"{"jsonrpc":"2.0","method":"notifications/initialized"}"#;

/// A session whose client can show a question, and whose person says yes at once.
pub struct InjectingServer {
    server: Server,
    folder: std::path::PathBuf,
}

impl InjectingServer {
    pub fn on(vault: &Vault) -> Self {
        let home = home();
        let folder = home.path().join("work");
        std::fs::create_dir(&folder).unwrap();
        let mut command = command(&vault.address, &home);
        let mut child =
            command.current_dir(&folder).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let (input, output): (Box<dyn Write + Send>, Box<dyn BufRead + Send>) =
            (Box::new(input), Box::new(BufReader::new(output)));
        let mut server = Server { child, input, output, line: String::new(), _home: home };
        server.exchange(&INITIALIZE.replace(r#""capabilities":{}"#, r#""capabilities":{"elicitation":{}}"#));
        server.send(INITIALIZED);
        Self { server, folder }
    }

    /// The folder that it works in.
    pub fn folder(&self) -> &std::path::Path {
        &self.folder
    }

    /// A call that asks once and must succeed.
    pub fn call(&mut self, line: &str) {
        let question: Value = serde_json::from_str(self.server.exchange(line)).unwrap();
        assert_eq!(question["method"], "elicitation/create", "{question}");
        let yes = json!({"jsonrpc": "2.0", "id": question["id"], "result": {"action": "accept", "content": {"answer": "yes"}}});
        let answer = self.server.exchange(&yes.to_string());
        assert!(is_answer(answer), "{answer}");
    }
}

/// A running `vault-mcp --http`.
pub struct HttpServer {
    child: Child,
    pub url: String,
    _home: tempfile::TempDir,
}

impl HttpServer {
    /// With every guard on: credentials, scopes, the rate limit (too wide to be met), the audit log.
    pub fn on(vault: &Vault, keys: &Value, settings: &[(&str, &str)]) -> Self {
        let home = home();
        let mut command = command(&vault.address, &home);
        command
            .args(["--http", "--port", "0"])
            .env("API_KEYS_JSON", keys.to_string())
            .env("RATE_LIMIT_ENABLED", "true")
            .env("RATE_LIMIT_REQUESTS", "4000000000")
            .env("LOG_DIR", home.path().join("logs"))
            .envs(settings.iter().copied())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let url = lines.find_map(|line| Some(line.ok()?.split_once("listening on ")?.1.trim().to_owned()));
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, url: url.unwrap_or_else(|| panic!("vault-mcp --http does not start")), _home: home }
    }

    pub fn memory(&self) -> Memory {
        memory_of(self.child.id())
    }

    pub fn cpu_us(&self) -> f64 {
        cpu_us_of(self.child.id())
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Microseconds that a process' threads have run so far.
fn cpu_us_of(process: u32) -> f64 {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let ran = |thread: std::fs::DirEntry| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).unwrap_or_default();
        text.split(' ').next().and_then(|ns| ns.parse::<f64>().ok()).unwrap_or_default() / 1e3
    };
    threads.map(|thread| ran(thread.unwrap())).sum()
}

fn memory_of(process: u32) -> Memory {
    let folder = format!("/proc/{process}");
    let field = |file: &str, name: &str| {
        let text = std::fs::read_to_string(format!("{folder}/{file}")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix(name))?;
        Some(line.split_whitespace().next()?.parse::<f64>().ok()? * 1024.0 / 1e6)
    };
    Memory {
        rss: field("status", "VmRSS:").unwrap_or(f64::NAN),
        peak: field("status", "VmHWM:").unwrap_or(f64::NAN),
        // Not ours to read unless we are root: the process is not dumpable.
        pss: field("smaps_rollup", "Pss:"),
        threads: std::fs::read_dir(format!("{folder}/task")).map_or(0, Iterator::count),
    }
}

/// A session past its handshake.
pub struct Server {
    child: Child,
    pub input: Box<dyn Write + Send>,
    pub output: Box<dyn BufRead + Send>,
    line: String,
    _home: tempfile::TempDir,
}

impl Server {
    pub fn on(vault: &Vault) -> Self {
        Self::start(&vault.address, Streams::Pipes)
    }

    pub fn start(address: &str, streams: Streams) -> Self {
        let home = home();
        let mut command = command(address, &home);
        let (child, input, output): (Child, Box<dyn Write + Send>, Box<dyn BufRead + Send>) = match streams {
            Streams::Pipes => {
                let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
                let (input, output) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
                (child, Box::new(input), Box::new(BufReader::with_capacity(64 << 10, output)))
            }
            Streams::Sockets => {
                let (input, its_input) = UnixStream::pair().unwrap();
                let (output, its_output) = UnixStream::pair().unwrap();
                let child = command
                    .stdin(OwnedFd::from(its_input))
                    .stdout(OwnedFd::from(its_output))
                    .spawn()
                    .unwrap();
                // Else the copies in `command` keep the streams open.
                drop(command);
                (child, Box::new(input), Box::new(BufReader::with_capacity(64 << 10, output)))
            }
        };
        let mut server = Self { child, input, output, line: String::new(), _home: home };
        server.exchange(INITIALIZE);
        server.send(INITIALIZED);
        server
    }

    pub fn send(&mut self, line: &str) {
        // One write a message, as clients do.
        let line = format!("{line}\n");
        self.input.write_all(line.as_bytes()).unwrap();
    }

    pub fn receive(&mut self) -> &str {
        self.line.clear();
        let read = self.output.read_line(&mut self.line).unwrap();
        assert!(read > 0, "vault-mcp ended");
        &self.line
    }

    pub fn exchange(&mut self, line: &str) -> &str {
        self.send(line);
        self.receive()
    }

    /// A call that must succeed; gives its structured answer.
    pub fn call(&mut self, id: u64, tool: &str, arguments: &Value) -> Value {
        let answer: Value = serde_json::from_str(self.exchange(&call(id, tool, arguments))).unwrap();
        assert_ne!(answer["result"]["isError"], true, "{tool}: {answer}");
        answer["result"]["structuredContent"].clone()
    }

    /// Microseconds that its threads have run so far: what a call costs whatever else the machine does.
    pub fn cpu_us(&self) -> f64 {
        cpu_us_of(self.child.id())
    }

    pub fn memory(&self) -> Memory {
        memory_of(self.child.id())
    }
}

/// In MB (10⁶ bytes).
pub struct Memory {
    pub rss: f64,
    pub peak: f64,
    pub pss: Option<f64>,
    pub threads: usize,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The line of a tool call.
pub fn call(id: u64, tool: &str, arguments: &Value) -> String {
    json!({"jsonrpc": "2.0", "id": id, "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
        .to_string()
}

/// False for a JSON-RPC error and for a tool's error.
pub fn is_answer(line: &str) -> bool {
    line.contains("\"result\"") && !line.contains("\"isError\":true")
}
