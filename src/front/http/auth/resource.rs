//! This server as an OAuth resource: where its tokens come from (RFC 9728), and what a refusal tells a client that
//! wants one (RFC 6750), as the MCP revisions 2025-11-25 and 2026-07-28 ask of a server.
//!
//! By which address it is known is `PUBLIC_URL`. Without that, clients are told the address that they reached, which
//! is right for a server without a proxy before it; but no token counts as meant for an address that was merely
//! reached, since `http://127.0.0.1:8089` is another server on every machine. What this module does not do: issue
//! tokens, or pass a caller's on.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
};
use http::{HeaderMap, HeaderValue, Uri, header};
use schemars::JsonSchema;
use serde::Serialize;

use super::{Identity, Method, Peer, Refusal};
use crate::{
    caller::Scope,
    config::Config,
    front::http::{
        App,
        routes::{Access, Content, Endpoint, Reply, Routes},
    },
    op::Verb,
};

/// Where the resource's description lies, for all of it and for `/mcp`.
const WELL_KNOWN: &str = "/.well-known/oauth-protected-resource";
/// The part of the server that MCP clients know.
const MCP: &str = "/mcp";
/// What a client without a token asks for first: enough to look around.
const FIRST: &[Scope] = &[Scope::Read, Scope::List];

static WHOLE: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/.well-known/oauth-protected-resource",
    tag: "authorization",
    title: "Where tokens for this server come from",
    about: "OAuth 2.0 Protected Resource Metadata (RFC 9728) for the whole server.",
    access: Access::Open,
    parameters: &[],
    body: Content::Nothing,
    replies: &[Reply { status: 200, when: "Always.", content: Content::json::<Metadata>() }],
};

static FOR_MCP: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/.well-known/oauth-protected-resource/mcp",
    tag: "authorization",
    title: "Where tokens for /mcp come from",
    about: "OAuth 2.0 Protected Resource Metadata (RFC 9728) for the MCP endpoint, as MCP clients ask for it.",
    access: Access::Open,
    parameters: &[],
    body: Content::Nothing,
    replies: &[Reply { status: 200, when: "Always.", content: Content::json::<Metadata>() }],
};

pub(in crate::front::http) fn routes() -> Routes {
    Routes::default()
        .add(&WHOLE, async |State(app): State<Arc<App>>, request: Request| {
            Json(app.auth.resource.metadata(&request, ""))
        })
        .add(&FOR_MCP, async |State(app): State<Arc<App>>, request: Request| {
            Json(app.auth.resource.metadata(&request, MCP))
        })
}

/// OAuth 2.0 Protected Resource Metadata (RFC 9728).
#[derive(Debug, Serialize, JsonSchema)]
struct Metadata {
    /// The resource: what a client asks a token for (RFC 8707).
    resource: String,
    /// Issuers of tokens for it; left out where only API keys, certificates or development tokens are taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    authorization_servers: Vec<String>,
    /// What a token can allow.
    scopes_supported: Vec<Scope>,
    /// How a token is sent: in a header.
    bearer_methods_supported: Vec<&'static str>,
    /// The name for people.
    resource_name: &'static str,
}

/// What this server says of itself to those who want a token for it.
pub(super) struct Resource {
    public: Option<String>,
    issuer: Option<String>,
}

impl Resource {
    pub(super) fn new(config: &Config) -> Self {
        let by_keys =
            *config.auth_jwt_enabled && (config.jwt_jwks_url.is_some() || config.jwt_jwks_file.is_some());
        let issuer = config.jwt_issuer.as_str();
        let address = url::Url::parse(issuer).is_ok_and(|url| matches!(url.scheme(), "https" | "http"));
        Self {
            public: config.public_url.as_ref().map(|url| url.as_str().to_owned()),
            issuer: (by_keys && address).then(|| issuer.to_owned()),
        }
    }

    /// True where tokens come from somebody who can be asked for another.
    pub(super) fn has_issuer(&self) -> bool {
        self.issuer.is_some()
    }

    /// What a token may say that it is meant for, besides `JWT_AUDIENCE`.
    pub(super) fn audiences(&self) -> Vec<String> {
        let ends = ["", "/", MCP, "/mcp/"];
        self.public.iter().flat_map(|public| ends.map(|end| format!("{public}{end}"))).collect()
    }

    fn metadata(&self, request: &Request, part: &str) -> Metadata {
        let peer = request.extensions().get::<Peer>().cloned().unwrap_or_default();
        Metadata {
            resource: format!("{}{part}", self.base(request.headers(), &peer)),
            authorization_servers: self.issuer.iter().cloned().collect(),
            scopes_supported: Scope::ALL.to_vec(),
            bearer_methods_supported: vec!["header"],
            resource_name: "vault-mcp",
        }
    }

    /// Scheme, host and port. The `Host` header decides between names of this very socket and nothing more: it is
    /// the caller's to write.
    fn base(&self, headers: &HeaderMap, peer: &Peer) -> String {
        if let Some(public) = &self.public {
            return public.clone();
        }
        let scheme = if peer.tls { "https" } else { "http" };
        let (address, port) = (peer.local.ip().to_canonical(), peer.local.port());
        let by_name = format!("localhost:{port}");
        let host = headers.get(header::HOST).map(HeaderValue::as_bytes);
        if address.is_loopback() && host.is_some_and(|host| host.eq_ignore_ascii_case(by_name.as_bytes())) {
            return format!("{scheme}://{by_name}");
        }
        format!("{scheme}://{}", std::net::SocketAddr::new(address, port))
    }

    /// `WWW-Authenticate` for a caller who is not let in.
    pub(super) fn challenge(
        &self,
        refusal: &Refusal,
        uri: &Uri,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Option<HeaderValue> {
        let metadata = self.metadata_url(uri, headers, peer);
        let error = match refusal {
            Refusal::Invalid { method: Method::Jwt, .. } => "error=\"invalid_token\", ",
            _ => "",
        };
        let text = format!("Bearer {error}resource_metadata=\"{metadata}\", scope=\"{}\"", words(FIRST));
        HeaderValue::try_from(text).ok()
    }

    /// `WWW-Authenticate` for a caller whose token does not allow this: what it has, and what it needs besides.
    /// Nothing for other credentials, which nobody can exchange for better ones.
    pub(super) fn step_up(
        &self,
        identity: &Identity,
        lacking: &str,
        uri: &Uri,
        headers: &HeaderMap,
        peer: &Peer,
    ) -> Option<HeaderValue> {
        if identity.method != Method::Jwt {
            return None;
        }
        let metadata = self.metadata_url(uri, headers, peer);
        let mut scopes = identity.scopes.clone();
        scopes.extend(Scope::parse(lacking));
        let text = format!(
            "Bearer error=\"insufficient_scope\", scope=\"{}\", resource_metadata=\"{metadata}\"",
            words(&scopes)
        );
        HeaderValue::try_from(text).ok()
    }

    fn metadata_url(&self, uri: &Uri, headers: &HeaderMap, peer: &Peer) -> String {
        let part = if is_mcp(uri.path()) { MCP } else { "" };
        format!("{}{WELL_KNOWN}{part}", self.base(headers, peer))
    }
}

/// True for `/mcp` and what lies below it.
pub(super) fn is_mcp(path: &str) -> bool {
    path.strip_prefix(MCP).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn words(scopes: &[Scope]) -> String {
    scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn base(public: Option<&str>, local: &str, tls: bool, host: &str) -> String {
        let resource = Resource { public: public.map(str::to_owned), issuer: None };
        let peer = Peer { local: local.parse().unwrap(), tls, ..Peer::default() };
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_str(host).unwrap());
        resource.base(&headers, &peer)
    }

    #[test]
    fn a_host_header_cannot_name_another_server() {
        assert_eq!(base(None, "127.0.0.1:8089", false, "127.0.0.1:8089"), "http://127.0.0.1:8089");
        assert_eq!(base(None, "127.0.0.1:8089", false, "LOCALHOST:8089"), "http://localhost:8089");
        assert_eq!(base(None, "[::1]:8089", true, "localhost:8089"), "https://localhost:8089");
        assert_eq!(base(None, "127.0.0.1:8089", false, "evil.example.com"), "http://127.0.0.1:8089");
        assert_eq!(base(None, "127.0.0.1:8089", false, "localhost:99"), "http://127.0.0.1:8089");
        assert_eq!(base(None, "10.0.0.5:8089", true, "localhost:8089"), "https://10.0.0.5:8089");
        let public = Some("https://vault-mcp.example.com");
        assert_eq!(
            base(public, "127.0.0.1:8089", false, "evil.example.com"),
            "https://vault-mcp.example.com"
        );
    }

    #[test]
    fn what_begins_with_mcp_is_not_all_mcp() {
        for (path, mcp) in [("/mcp", true), ("/mcp/rpc", true), ("/mcpx", false), ("/secrets/mcp", false)] {
            assert_eq!(is_mcp(path), mcp, "{path}");
        }
    }
}
