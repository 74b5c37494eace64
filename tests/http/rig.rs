//! A running `vault-mcp --http` and its callers.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::common::{
    Home, PATIENCE, Proxy, Reply, Server, assert_no_canary, audit_records, http, server::Launch, unique,
    vault, wait_until,
};

/// A program with an API key of its own.
#[derive(Clone, Debug)]
pub(crate) struct Agent {
    pub(crate) subject: String,
    pub(crate) key: String,
    pub(crate) scopes: Vec<&'static str>,
}

impl Agent {
    /// An agent that no other test has, with every scope.
    pub(crate) fn new() -> Self {
        Self::with_scopes(&["read", "write", "delete", "list"])
    }

    pub(crate) fn with_scopes(scopes: &[&'static str]) -> Self {
        Self { subject: vault().fresh_subject(), key: unique("key"), scopes: scopes.to_vec() }
    }
}

/// `API_KEYS_JSON` for these agents.
pub(crate) fn keys_of(agents: &[&Agent]) -> String {
    let entry =
        |agent: &&Agent| (agent.key.clone(), json!({ "subject": agent.subject, "scopes": agent.scopes }));
    Value::Object(agents.iter().map(entry).collect()).to_string()
}

/// A running server, and the counting proxy between it and its Vault.
pub(crate) struct Http {
    server: Server,
    pub(crate) url: String,
    pub(crate) proxy: Proxy,
}

impl Http {
    /// A server for these agents with root's token, the rate limit off, and these settings.
    pub(crate) fn start(agents: &[&Agent], settings: &[(&str, &str)]) -> Self {
        let proxy = Proxy::new(vault());
        let mut launch = Server::launch()
            .env("VAULT_ADDR", &proxy.address)
            .env("VAULT_TOKEN", &vault().root)
            .env("RATE_LIMIT_ENABLED", "false")
            .env("API_KEYS_JSON", keys_of(agents));
        for (name, value) in settings {
            launch = launch.env(name, value);
        }
        Self::of(launch, proxy)
    }

    /// This launch with `--http` on a free port.
    pub(crate) fn of(launch: Launch, proxy: Proxy) -> Self {
        let mut server = launch.args(["--http", "--port", "0"]).spawn();
        let url = wait_until("the address that it listens on", PATIENCE, || {
            let said = server.stderr();
            assert!(server.is_running(), "it does not start: {said}");
            let (_, rest) = said.split_once("listening on ")?;
            let (url, _) = rest.split_once('\n')?;
            Some(url.trim().to_owned())
        });
        Self { server, url, proxy }
    }

    pub(crate) fn server(&self) -> &Server {
        &self.server
    }

    pub(crate) fn server_mut(&mut self) -> &mut Server {
        &mut self.server
    }

    pub(crate) fn home(&self) -> &Arc<Home> {
        self.server.home()
    }

    /// The address alone, for threads, which cannot share the process.
    pub(crate) fn door(&self) -> Door {
        Door { url: self.url.clone() }
    }

    /// The records of the audit log.
    pub(crate) fn records(&self) -> Vec<Value> {
        audit_records(self.home().audit_log())
    }

    /// A request without any credential but these headers.
    #[track_caller]
    pub(crate) fn bare(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Reply {
        http::http(method, &format!("{}{path}", self.url), headers, body)
    }

    /// A request of an agent.
    #[track_caller]
    pub(crate) fn call(&self, agent: &Agent, method: &str, path: &str, body: Option<Value>) -> Reply {
        let body = body.map(|body| body.to_string());
        self.bare(method, path, &[("X-API-Key", &agent.key)], body.as_deref())
    }

    #[track_caller]
    pub(crate) fn get(&self, agent: &Agent, path: &str) -> Reply {
        self.call(agent, "GET", path, None)
    }

    #[track_caller]
    pub(crate) fn put(&self, agent: &Agent, path: &str, body: Value) -> Reply {
        self.call(agent, "PUT", path, Some(body))
    }

    #[track_caller]
    pub(crate) fn post(&self, agent: &Agent, path: &str, body: Value) -> Reply {
        self.call(agent, "POST", path, Some(body))
    }

    #[track_caller]
    pub(crate) fn delete(&self, agent: &Agent, path: &str) -> Reply {
        self.call(agent, "DELETE", path, None)
    }
}

/// Where a server listens.
#[derive(Clone, Debug)]
pub(crate) struct Door {
    url: String,
}

impl Door {
    /// A request of an agent.
    #[track_caller]
    pub(crate) fn call(&self, agent: &Agent, method: &str, path: &str, body: Option<Value>) -> Reply {
        let body = body.map(|body| body.to_string());
        let headers = [("X-API-Key", agent.key.as_str())];
        http::http(method, &format!("{}{path}", self.url), &headers, body.as_deref())
    }
}

/// The answer is this refusal: its status, its code, no secret, and the ids that every answer has.
#[track_caller]
pub(crate) fn assert_refused(reply: &Reply, status: u16, code: &str) {
    assert_eq!(reply.status, status, "{}", reply.text);
    assert_eq!(reply.body["error"], code, "{}", reply.text);
    assert!(!reply.body["detail"].is_null(), "{}", reply.text);
    assert_no_canary(&reply.text, "a refusal");
    assert_ids(reply);
}

/// The ids that every answer carries.
#[track_caller]
pub(crate) fn assert_ids(reply: &Reply) {
    for name in ["x-request-id", "x-correlation-id"] {
        assert!(reply.header(name).is_some_and(|id| !id.is_empty()), "no {name}: {:?}", reply.headers);
    }
}
