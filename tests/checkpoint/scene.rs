//! A secret that somebody wants written, the proxy that counts, and the log that must say so.

use serde_json::{Value, json};

use crate::common::{
    Era, McpClient, Proxy, Server, ToolResult, assert_refused, audit_records, canary, server::Launch, vault,
};

/// Both ways a client can carry a question: `elicitation/create` and `InputRequiredResult`.
pub(crate) fn eras() -> [Era; 3] {
    let form = json!({"elicitation": {"form": {}}});
    // 2025-06-18 has elicitation without modes.
    let first = Era::handshake("2025-06-18").with(json!({"elicitation": {}}));
    [first, Era::handshake("2025-11-25").with(form), Era::stateless()]
}

/// A subject of its own, behind a proxy of its own.
pub(crate) struct Scene {
    pub(crate) proxy: Proxy,
    pub(crate) subject: String,
}

impl Scene {
    pub(crate) fn new() -> Self {
        Self { proxy: Proxy::new(vault()), subject: vault().fresh_subject() }
    }

    pub(crate) fn launch(&self) -> Launch {
        Server::of(vault(), &self.subject).env("VAULT_ADDR", &self.proxy.address)
    }

    pub(crate) fn client(&self, era: Era) -> McpClient {
        self.launch().spawn().connect(era)
    }

    /// The number of `app`'s newest version, as Vault itself says.
    pub(crate) fn version(&self) -> u64 {
        vault().version(&self.subject, "app")
    }

    /// What `app` holds, as Vault itself says.
    pub(crate) fn secret(&self) -> Value {
        vault().secret(&self.subject, "app")
    }

    /// `app`'s newest version is this one.
    #[track_caller]
    pub(crate) fn assert_version(&self, version: u64) {
        assert_eq!(self.version(), version);
    }

    /// Vault was asked to change nothing, and `app` is not there.
    #[track_caller]
    pub(crate) fn assert_unwritten(&self) {
        let writes: Vec<_> = self.proxy.writes().iter().map(|request| request.line()).collect();
        assert!(writes.is_empty(), "Vault was asked to change something: {writes:?}");
        assert_eq!(self.version(), 0, "something was written");
    }
}

/// Arguments of a `kv_write` to `app`, with a secret of its own.
pub(crate) fn write() -> Value {
    json!({"path": "app", "data": {"DB_PASSWORD": canary("w"), "API_KEY": canary("w")}})
}

/// The records of the newest call in this client's log: action and code, in order.
pub(crate) fn last_call(client: &McpClient) -> Vec<(String, String)> {
    let records = call_records(client);
    let id = records.last().map(|record| record["id"].clone()).unwrap_or_default();
    let of_call = records.iter().filter(|record| record["id"] == id);
    of_call.map(|record| (text(record, "action"), text(record, "code"))).collect()
}

/// How the newest call ended in the log: the actions of its records, and the last one's code.
#[track_caller]
pub(crate) fn assert_recorded(client: &McpClient, actions: &[&str], code: &str) {
    let call = last_call(client);
    let seen: Vec<_> = call.iter().map(|(action, _)| action.as_str()).collect();
    assert_eq!(seen, actions, "{call:?}");
    assert_eq!(call.last().unwrap().1, code, "{call:?}");
}

/// The call was refused with this code, in words that fit, and Vault was not asked to change anything.
#[track_caller]
pub(crate) fn assert_stopped(scene: &Scene, result: &ToolResult, code: &str) {
    assert_refused(result, code);
    scene.assert_unwritten();
}

pub(crate) fn text(record: &Value, field: &str) -> String {
    record[field].as_str().unwrap_or_default().to_owned()
}

/// The records of a log that are about calls, without those about the log itself.
pub(crate) fn call_records(client: &McpClient) -> Vec<Value> {
    let mut records = audit_records(client.server().home().audit_log());
    records.retain(|record| !["LOG_OPENED", "CHECKPOINT"].contains(&record["action"].as_str().unwrap()));
    records
}
