//! The Vault that is read from: a real one in dev mode when `VAULT_MCP_TEST_VAULT` names its binary, and
//! the embedded one.

use std::{
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crate::{plain::Plain, server};

pub const ROOT: &str = "bench-root";
/// The subject whose tree everything lies in.
pub const SUBJECT: &str = "bench";

pub struct Vault {
    pub address: String,
    /// What it calls itself, for the tables.
    pub name: String,
    child: Child,
    _home: tempfile::TempDir,
}

impl Vault {
    /// `vault server -dev`, when a binary is named.
    pub fn real() -> Option<Self> {
        let program = std::env::var("VAULT_MCP_TEST_VAULT").ok().filter(|program| !program.is_empty())?;
        for _ in 0..5 {
            let (home, listen) = (server::home(), format!("127.0.0.1:{}", two_free_ports()));
            let mut child = Command::new(&program)
                .args(["server", "-dev", "-dev-no-store-token", "-log-level=error"])
                .arg(format!("-dev-root-token-id={ROOT}"))
                .arg(format!("-dev-listen-address={listen}"))
                .env_clear()
                .env("HOME", home.path())
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .spawn()
                .unwrap_or_else(|error| panic!("VAULT_MCP_TEST_VAULT: {program} does not start: {error}"));
            let address = format!("http://{listen}");
            if answers(&address, &mut child) {
                let version = version(&address);
                return Some(Self { address, name: format!("Vault {version}"), child, _home: home });
            }
            let _ = child.kill();
            let _ = child.wait();
        }
        panic!("{program} does not start; try `{program} server -dev` by hand");
    }

    /// `vault-mcp dev`.
    pub fn embedded() -> Self {
        let home = server::home();
        let mut child = Command::new(server::binary())
            .args(["dev", "--listen", "127.0.0.1:0", "--no-sample", "--root-token", ROOT])
            .env_clear()
            .env("HOME", home.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let address = lines.find_map(|line| line.ok()?.strip_prefix("export VAULT_ADDR=").map(str::to_owned));
        // The rest is for people; what is not read must not block it.
        std::thread::spawn(move || lines.for_each(drop));
        let address = address.unwrap_or_else(|| panic!("vault-mcp dev said no address"));
        assert!(answers(&address, &mut child), "vault-mcp dev does not answer");
        Self { address, name: "embedded dev Vault".into(), child, _home: home }
    }

    pub fn plain(&self) -> Plain {
        Plain::connect(&self.address, ROOT)
    }

    /// Writes a secret of a few keys under the subject's tree; gives its API path.
    pub fn secret(&self, name: &str) -> String {
        let path = format!("secret/data/mcp/{SUBJECT}/{name}");
        let body = r#"{"data":{"DB_USER":"app","DB_PASSWORD":"correct horse battery staple","API_KEY":"0123456789abcdef0123456789abcdef"}}"#;
        let status = self.plain().exchange("POST", &path, Some(body));
        assert_eq!(status, 200, "writing {path}");
        path
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Two ports in a row that are free now: `server -dev` takes the one above as well.
fn two_free_ports() -> u16 {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = first.local_addr().unwrap().port();
        if port < u16::MAX && TcpListener::bind(("127.0.0.1", port + 1)).is_ok() {
            return port;
        }
    }
}

/// True once the server knows our token, false when it ends or somebody else has the port.
fn answers(address: &str, child: &mut Child) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if child.try_wait().unwrap().is_some() {
            return false;
        }
        if TcpStream::connect(address.trim_start_matches("http://")).is_ok()
            && Plain::connect(address, ROOT).exchange("GET", "auth/token/lookup-self", None) == 200
            // KV comes a moment after the token in dev mode.
            && Plain::connect(address, ROOT).exchange("GET", "secret/config", None) == 200
        {
            return true;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    false
}

fn version(address: &str) -> String {
    let mut plain = Plain::connect(address, ROOT);
    plain.exchange("GET", "sys/health", None);
    let health: serde_json::Value = serde_json::from_slice(&plain.body).unwrap();
    health["version"].as_str().unwrap_or("?").to_owned()
}
