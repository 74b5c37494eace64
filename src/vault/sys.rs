//! Requests of the system back end and of tokens that vaultrs does not have, or has with too little in
//! their answers.
//! Sources: Vault API pages "/sys/capabilities-self", "/sys/seal-status", "/sys/internal/ui/mounts" and
//! "Token auth method".

use std::collections::BTreeMap;

use rustify_derive::Endpoint;
use serde::{Deserialize, Serialize};

use super::{Reads, Session};
use crate::error::Error;

/// `GET auth/token/lookup-self`.
#[derive(Endpoint)]
#[endpoint(path = "auth/token/lookup-self", response = "TokenInfo")]
pub struct LookupSelf;
impl Reads for LookupSelf {}

/// What Vault knows about the token.
#[derive(Debug, Clone, Deserialize)]
pub struct TokenInfo {
    /// Name that the login gave it.
    #[serde(default)]
    pub display_name: String,
    /// Policies of the token itself.
    #[serde(default)]
    pub policies: Vec<String>,
    /// Policies of its identity.
    #[serde(default)]
    pub identity_policies: Option<Vec<String>>,
    /// Seconds left; 0 for a token that does not end.
    #[serde(default)]
    pub ttl: u64,
    /// When it ends (RFC 3339), if it does.
    #[serde(default)]
    pub expire_time: Option<String>,
    /// True when it can be renewed.
    #[serde(default)]
    pub renewable: bool,
    /// Seconds that it was made for.
    #[serde(default)]
    pub creation_ttl: u64,
    /// Seconds that each renewal of a periodic token gives; 0 for any other.
    #[serde(default)]
    pub period: u64,
}

/// `POST auth/token/renew-self`.
#[derive(Endpoint, Serialize)]
#[endpoint(path = "auth/token/renew-self", method = "POST", response = "serde_json::Value")]
pub struct RenewSelf {
    /// Seconds from now, with their unit; what the token was made for if left out.
    pub increment: Option<String>,
}

/// `POST auth/token/create`, and `auth/token/create/{role}`.
#[derive(Endpoint, Serialize)]
#[endpoint(path = "{self.path}", method = "POST", response = "serde_json::Value")]
pub struct CreateToken {
    /// One of the two.
    #[endpoint(skip)]
    pub path: String,
    /// Policies besides `default`.
    pub policies: Vec<String>,
    /// Seconds with their unit.
    pub ttl: String,
    /// `service`: a batch token cannot be revoked.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// What Vault's own audit log calls it.
    pub display_name: String,
    /// The same, for whoever looks the token up.
    pub meta: BTreeMap<&'static str, String>,
}

/// `POST auth/token/revoke-self`.
#[derive(Endpoint)]
#[endpoint(path = "auth/token/revoke-self", method = "POST", response = "serde_json::Value")]
pub struct RevokeSelf;

/// `GET sys/seal-status`: needs no token.
#[derive(Endpoint)]
#[endpoint(path = "sys/seal-status", response = "serde_json::Value")]
pub struct SealStatus;
impl Reads for SealStatus {}

/// The part of the seal status that matters here. It comes without an envelope.
#[derive(Debug, Clone, Deserialize)]
pub struct Seal {
    /// True when sealed.
    pub sealed: bool,
    /// Version of the server.
    #[serde(default)]
    pub version: String,
}

/// `POST sys/capabilities-self`. It changes nothing, although it is a POST.
#[derive(Endpoint, Serialize)]
#[endpoint(path = "sys/capabilities-self", method = "POST", response = "BTreeMap<String, serde_json::Value>")]
pub struct CapabilitiesSelf {
    /// API paths without `v1/`.
    pub paths: Vec<String>,
}
impl Reads for CapabilitiesSelf {}

/// `GET sys/internal/ui/mounts`: what Vault's own interface shows to any token.
#[derive(Endpoint)]
#[endpoint(path = "sys/internal/ui/mounts", response = "UiMounts")]
pub struct InternalMounts;
impl Reads for InternalMounts {}

/// Mounts that the token may see.
#[derive(Debug, Deserialize)]
pub struct UiMounts {
    /// Secret engines by path with a slash at the end.
    #[serde(default)]
    pub secret: BTreeMap<String, UiMount>,
}

/// `GET sys/internal/ui/mounts/{mount}`: one engine, for any token that may do something on it. Vault's own
/// command line asks this to tell the versions of KV apart.
#[derive(Endpoint)]
#[endpoint(path = "sys/internal/ui/mounts/{self.mount}", response = "UiMount")]
pub struct InternalMount {
    /// Its path.
    #[endpoint(skip)]
    pub mount: String,
}
impl Reads for InternalMount {}

/// One engine.
#[derive(Debug, Deserialize)]
pub struct UiMount {
    /// `kv`, `transit`, …
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Engine options; KV keeps its version there.
    #[serde(default)]
    pub options: Option<BTreeMap<String, serde_json::Value>>,
    /// What the operator wrote.
    #[serde(default)]
    pub description: String,
}

/// What the token may do on each path, in the order asked.
///
/// # Errors
/// As any read.
pub async fn capabilities(session: &Session, paths: Vec<String>) -> Result<Vec<Vec<String>>, Error> {
    let request = CapabilitiesSelf { paths };
    let answer = session.read(&request).await?.data.unwrap_or_default();
    let one = |path: &String| {
        let list = answer.get(path).and_then(|value| value.as_array()).cloned().unwrap_or_default();
        list.iter().filter_map(|word| word.as_str().map(str::to_owned)).collect()
    };
    Ok(request.paths.iter().map(one).collect())
}

/// True when a capability list allows one of `wanted`.
#[must_use]
pub fn allows(capabilities: &[String], wanted: &[&str]) -> bool {
    capabilities.iter().any(|have| have == "root" || wanted.contains(&have.as_str()))
}
