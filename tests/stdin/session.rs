//! A session spoken by hand, line by line.

use std::time::Duration;

use serde_json::{Value, json};

use crate::common::{Proxy, Server, assert_no_canary, heard_since, server::Launch, vault};

/// How long silence must last to count as silence.
pub(crate) const QUIET: Duration = Duration::from_millis(300);

/// A server behind a proxy, and a line at a time.
pub(crate) struct Session {
    pub(crate) proxy: Proxy,
    pub(crate) subject: String,
    pub(crate) server: Server,
}

impl Session {
    /// Started, and nothing said yet.
    pub(crate) fn silent() -> Self {
        Self::with(|launch| launch)
    }

    pub(crate) fn with(change: impl FnOnce(Launch) -> Launch) -> Self {
        let proxy = Proxy::new(vault());
        let subject = vault().fresh_subject();
        let launch = Server::of(vault(), &subject).env("VAULT_ADDR", &proxy.address);
        let server = change(launch.env("RATE_LIMIT_ENABLED", "false")).spawn();
        Self { proxy, subject, server }
    }

    /// After the handshake.
    pub(crate) fn open() -> Self {
        Self::silent().shake_hands()
    }

    pub(crate) fn shake_hands(self) -> Self {
        self.server.send_line(initialize(0).to_string());
        assert_eq!(self.answer()["id"], 0);
        self.server.send_line(json!({"jsonrpc": "2.0", "method": "notifications/initialized"}).to_string());
        self
    }

    /// The next line, which must be protocol.
    #[track_caller]
    pub(crate) fn answer(&self) -> Value {
        let line = self.server.line().unwrap_or_else(|| panic!("no answer; {}", self.server.account()));
        assert_no_canary(&line, "standard output");
        let message: Value = serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
        assert_eq!(message["jsonrpc"], "2.0", "{line}");
        message
    }

    /// What comes back for these bytes and a newline.
    #[track_caller]
    pub(crate) fn exchange(&self, line: impl AsRef<[u8]>) -> Value {
        let mut bytes = line.as_ref().to_vec();
        bytes.push(b'\n');
        assert!(self.server.send(bytes), "the server no longer reads; {}", self.server.account());
        self.answer()
    }

    /// The server is there and works: a ping is answered, and nothing else is said before.
    #[track_caller]
    pub(crate) fn assert_alive(&self) {
        let id = format!("alive-{}", crate::common::unique("p"));
        let answer = self.exchange(json!({"jsonrpc": "2.0", "id": id, "method": "ping"}).to_string());
        assert_eq!(answer, json!({"jsonrpc": "2.0", "id": id, "result": {}}));
    }

    /// These bytes are answered with a JSON-RPC error of this code under this id, and Vault hears of nothing.
    #[track_caller]
    pub(crate) fn assert_error(&self, line: impl AsRef<[u8]>, code: i64, id: &Value) -> String {
        let before = self.proxy.count();
        let answer = self.exchange(line);
        assert_eq!(answer["error"]["code"], code, "{answer}");
        assert_eq!(answer.get("id").unwrap_or(&Value::Null), id, "{answer}");
        assert!(heard_since(&self.proxy, before).is_empty(), "Vault heard of it");
        answer["error"]["message"].as_str().unwrap().to_owned()
    }
}

pub(crate) fn initialize(id: impl Into<Value>) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "initialize", "params": {
        "protocolVersion": "2025-11-25",
        "capabilities": {"elicitation": {"form": {}}},
        "clientInfo": {"name": "by-hand", "version": "1"},
    }})
}

pub(crate) fn call(id: impl Into<Value>, tool: &str, arguments: Value) -> Value {
    json!({"jsonrpc": "2.0", "id": id.into(), "method": "tools/call", "params": {"name": tool, "arguments": arguments}})
}
