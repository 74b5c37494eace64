//! Sample content for a Vault that is used for trying out: secrets, policies, ways to log in.
//!
//! Everything is set up by HTTP, so the same code serves the embedded dev Vault, `vault server -dev` and
//! `bao server -dev`. What a server lacks is skipped and reported, with the reason. All values are made up
//! and say so. Each part is one function; more parts are added to [`seed`]'s list.

use http::Method;
use reqwest::Client;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

mod many;
mod parts;

pub use many::{Many, seed_many};

/// What to set up.
#[derive(Debug, Clone)]
pub struct Seed {
    /// The mount of KV version 2; it is made when it does not exist. Default `secret`.
    pub mount: String,
    /// The mount of KV version 1. Default `kv1`.
    pub mount_v1: String,
    /// The mount of transit; it is made when it does not exist. Default `transit`.
    pub transit: String,
    /// The mount of the SSH engine; it is made when it does not exist. Default `ssh`.
    pub ssh: String,
    /// The mount of the PKI engine; it is made when it does not exist. Default `pki`.
    pub pki: String,
    /// The mount of the database engine, where a server has one; nothing is made there. Default `database`.
    pub database: String,
    /// The first segment of every agent's tree. Default `mcp`.
    pub prefix: String,
    /// The agent whose tree is filled.
    pub subject: String,
    /// The time to live of the tokens that are made, in Vault's form. Default `24h`.
    pub token_ttl: String,
}

impl Seed {
    /// The sample content of one subject, with the defaults for the rest.
    #[must_use]
    pub fn for_subject(subject: &str) -> Self {
        Self {
            mount: "secret".to_owned(),
            mount_v1: "kv1".to_owned(),
            transit: "transit".to_owned(),
            ssh: "ssh".to_owned(),
            pki: "pki".to_owned(),
            database: "database".to_owned(),
            prefix: "mcp".to_owned(),
            subject: subject.to_owned(),
            token_ttl: "24h".to_owned(),
        }
    }
}

/// What was set up. Holds credentials of the sample server: `Debug` and `Serialize` show them.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Report {
    /// KV paths that were written, with their mount: `secret/mcp/alice/myapp`.
    pub secrets: Vec<String>,
    /// Transit keys that were made, with their mount: `transit/k`.
    pub transit_keys: Vec<String>,
    /// Roles of the SSH engine, with their mount: `ssh/user` for certificates, `ssh/otp` for passwords.
    pub ssh_roles: Vec<String>,
    /// Roles of the PKI engine, with their mount: `pki/web`.
    pub pki_roles: Vec<String>,
    /// The names of the policies that were written.
    pub policies: Vec<String>,
    /// One token for each policy, in the same order.
    pub tokens: Vec<PolicyToken>,
    /// The AppRole, when the server has the method.
    pub approle: Option<AppRoleLogin>,
    /// The userpass user, when the server has the method.
    pub userpass: Option<UserpassLogin>,
    /// What was not set up, and why.
    pub skipped: Vec<Skipped>,
}

/// A token with one policy (and `default`).
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PolicyToken {
    /// The policy.
    pub policy: String,
    /// The token's id.
    pub token: String,
}

/// How to log in by AppRole.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AppRoleLogin {
    /// The mount, `approle`.
    pub mount: String,
    /// The role's name.
    pub role: String,
    /// For `VAULT_ROLE_ID`.
    pub role_id: String,
    /// For `VAULT_SECRET_ID`.
    pub secret_id: String,
}

/// How to log in by userpass.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct UserpassLogin {
    /// The mount, `userpass`.
    pub mount: String,
    /// The user's name.
    pub user: String,
    /// The password: a well-known sample one.
    pub password: String,
}

/// A part that was left out.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Skipped {
    /// The part, `kv version 1`.
    pub part: String,
    /// The server's reason.
    pub reason: String,
}

/// Why the sample content could not be set up.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum SeedError {
    /// The server could not be reached or broke off.
    #[error("the Vault at {url} could not be reached; check that it runs and the address is right")]
    Unreachable {
        /// The address.
        url: String,
        /// What the HTTP client said.
        source: reqwest::Error,
    },
    /// The server refused a part that everything else needs.
    #[error("the Vault refused {what} with status {status} ({reason}); a root token is needed")]
    Refused {
        /// The request.
        what: String,
        /// The HTTP status.
        status: u16,
        /// Vault's own words.
        reason: String,
    },
    /// The subject or a mount cannot be a path.
    #[error("{0:?} cannot be part of a Vault path; use a-z, 0-9, - and _")]
    BadName(String),
}

/// Sets up sample content on the Vault at `url` with a root `token`. Running it twice adds versions and
/// tokens, and changes nothing else.
///
/// # Errors
/// See [`SeedError`]. What the server lacks is no error, it is in [`Report::skipped`].
pub async fn seed(url: &str, token: &str, http: &Client, what: &Seed) -> Result<Report, SeedError> {
    let mounts = [&what.mount, &what.mount_v1, &what.transit, &what.ssh, &what.pki, &what.database];
    for name in mounts.into_iter().chain([&what.prefix, &what.subject]) {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        if name.is_empty() || name.starts_with('-') || !name.bytes().all(fits) {
            return Err(SeedError::BadName(name.clone()));
        }
    }
    let server = Server { url: url.trim_end_matches('/'), token, http };
    let mut report = Report::default();
    parts::kv2(&server, what, &mut report).await?;
    parts::policies(&server, what, &mut report).await?;
    // What may be missing. JWT has its place here.
    for (part, done) in [
        ("kv version 1", parts::kv1(&server, what, &mut report).await),
        ("transit", parts::transit(&server, what, &mut report).await),
        ("ssh", parts::ssh(&server, what, &mut report).await),
        ("pki", parts::pki(&server, what, &mut report).await),
        ("approle", parts::approle(&server, what, &mut report).await),
        ("userpass", parts::userpass(&server, what, &mut report).await),
    ] {
        match done {
            Err(SeedError::Refused { status, reason, .. }) => {
                let reason = format!("{reason} (status {status})");
                report.skipped.push(Skipped { part: part.to_owned(), reason });
            }
            done => done?,
        }
    }
    Ok(report)
}

/// The server as the parts see it.
struct Server<'a> {
    url: &'a str,
    token: &'a str,
    http: &'a Client,
}

impl Server<'_> {
    async fn send(&self, method: Method, path: &str, body: &Value) -> Result<Value, SeedError> {
        // A mount that was just made answers "upgrading" for a moment.
        let mut tries = 0;
        loop {
            match self.once(&method, path, body).await {
                Err(SeedError::Refused { reason, .. }) if reason.contains("Upgrading from") && tries < 50 => {
                    tries += 1;
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
                other => return other,
            }
        }
    }

    async fn once(&self, method: &Method, path: &str, body: &Value) -> Result<Value, SeedError> {
        let unreachable = |source| SeedError::Unreachable { url: self.url.to_owned(), source };
        let mut request = self
            .http
            .request(method.clone(), format!("{}/v1/{path}", self.url))
            .header("X-Vault-Token", self.token)
            .header("X-Vault-Request", "true");
        if !body.is_null() {
            request = request.json(body);
        }
        let response = request.send().await.map_err(unreachable)?;
        let status = response.status();
        let text = response.text().await.map_err(unreachable)?;
        let answer: Value = serde_json::from_str(&text).unwrap_or_default();
        if status.is_success() {
            return Ok(answer);
        }
        let reason = answer
            .get("errors")
            .and_then(Value::as_array)
            .map(|errors| errors.iter().filter_map(Value::as_str).collect::<Vec<_>>().join("; "))
            .filter(|reason| !reason.is_empty())
            .unwrap_or_else(|| "no reason given".to_owned());
        Err(SeedError::Refused { what: format!("{method} {path}"), status: status.as_u16(), reason })
    }

    async fn post(&self, path: &str, body: Value) -> Result<Value, SeedError> {
        self.send(Method::POST, path, &body).await
    }

    async fn get(&self, path: &str) -> Result<Value, SeedError> {
        self.send(Method::GET, path, &Value::Null).await
    }

    /// Mounts something, unless it is there already.
    async fn mount(&self, path: &str, body: Value) -> Result<(), SeedError> {
        self.once_only(path, body, "already in use").await
    }

    /// Makes something that cannot be made twice; that it is there already, the server says in these words.
    async fn once_only(&self, path: &str, body: Value, already: &str) -> Result<(), SeedError> {
        match self.post(path, body).await {
            Err(SeedError::Refused { reason, .. }) if reason.contains(already) => Ok(()),
            other => other.map(|_| ()),
        }
    }
}

/// A text in an answer; empty when it is not there.
fn text(answer: &Value, pointer: &str) -> String {
    answer.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn data(fields: Value) -> Value {
    json!({ "data": fields })
}
