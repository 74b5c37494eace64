//! Which sites may call: the Host that a request was sent to, and the Origin of the page that sent it. A page
//! that had its own name point at this machine (DNS rebinding) is told by the one, any other page by the other.

use axum::{body::Body, response::Response};
use http::{HeaderMap, Method, StatusCode, Uri, header};
use rmcp::transport::{
    StreamableHttpServerConfig, StreamableHttpService,
    streamable_http_server::session::never::NeverSessionManager,
};
use url::{Host, Url};

use super::plain_of;
use crate::{config::Config, front::mcp::McpServer};

/// The names of this server.
pub(super) struct Site(StreamableHttpService<McpServer, NeverSessionManager>);

impl Site {
    /// What is ours at this address, under `PUBLIC_URL`, and by `CORS_ALLOW_ORIGINS`.
    pub(super) fn of(config: &Config, url: &str) -> Self {
        let own = Url::parse(url).ok();
        let public = config.public_url.as_ref().and_then(|url| Url::parse(url.as_str()).ok());
        let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        hosts.extend(own.iter().chain(&public).filter_map(name));
        let at = |host: &String| {
            Some(origin(own.as_ref()?.scheme(), host, own.as_ref()?.port_or_known_default()?))
        };
        let mut origins: Vec<String> = hosts.iter().filter_map(at).collect();
        let others = config.cors_allow_origins.0.iter().filter_map(|text| Url::parse(text).ok());
        // Each with its port: an entry without one would stand for every port of that host.
        origins.extend(
            others
                .chain(public)
                .filter_map(|url| Some(origin(url.scheme(), &name(&url)?, url.port_or_known_default()?))),
        );
        let settings = StreamableHttpServerConfig::default()
            .with_allowed_hosts(hosts)
            .enforce_origin_validation()
            .with_allowed_origins(origins);
        let never = || Err(std::io::Error::other("a request that is only looked at"));
        Self(StreamableHttpService::new(never, NeverSessionManager::default().into(), settings))
    }

    /// The settings of a service that checks the same.
    pub(super) fn settings(&self) -> &StreamableHttpServerConfig {
        &self.0.config
    }

    /// The refusal of a request from elsewhere, if it is one: 403, or 400 without a Host.
    ///
    /// rmcp looks at both headers before anything else, so a method that it does not have shows what it thinks of
    /// them: for routes that are not rmcp's own.
    pub(in crate::front::http) async fn refusal(&self, uri: &Uri, headers: &HeaderMap) -> Option<Response> {
        let mut probe = http::Request::new(Body::empty());
        *probe.method_mut() = Method::TRACE;
        *probe.uri_mut() = uri.clone();
        for name in [header::HOST, header::ORIGIN] {
            if let Some(value) = headers.get(&name) {
                probe.headers_mut().insert(name, value.clone());
            }
        }
        let several = headers.get_all(header::ORIGIN).iter().nth(1).is_some();
        let response = self.0.handle(probe).await;
        if several {
            return Some(super::super::answer::plain(
                StatusCode::FORBIDDEN,
                "Forbidden: more than one Origin",
            ));
        }
        if response.status() == StatusCode::METHOD_NOT_ALLOWED {
            None
        } else {
            Some(plain_of(response).await)
        }
    }
}

/// The host's name as a `Host` header has it; none for an address that stands for every one.
fn name(url: &Url) -> Option<String> {
    match url.host()? {
        Host::Ipv4(address) if address.is_unspecified() => None,
        Host::Ipv6(address) if address.is_unspecified() => None,
        Host::Ipv6(address) => Some(address.to_string()),
        other => Some(other.to_string()),
    }
}

fn origin(scheme: &str, host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("{scheme}://[{host}]:{port}")
    } else {
        format!("{scheme}://{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    async fn allows(settings: &[(&str, &str)], own: &str, host: &str, from: Option<&str>) -> bool {
        let environment = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let config = Config::load(&Layers { environment, ..Layers::default() }).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, host.parse().unwrap());
        if let Some(from) = from {
            headers.insert(header::ORIGIN, from.parse().unwrap());
        }
        Site::of(&config, own).refusal(&Uri::from_static("/mcp"), &headers).await.is_none()
    }

    #[tokio::test]
    async fn own_names_and_origins_pass_and_no_others() {
        let own = "http://127.0.0.1:8089";
        for host in ["127.0.0.1:8089", "localhost:8089", "[::1]:8089", "LOCALHOST"] {
            assert!(allows(&[], own, host, None).await, "{host}");
        }
        for host in ["evil.example", "127.0.0.1.evil.example:8089", "10.0.0.1:8089", "localhost.evil.example"]
        {
            assert!(!allows(&[], own, host, None).await, "{host}");
        }
        for origin in ["http://127.0.0.1:8089", "http://localhost:8089", "http://[::1]:8089"] {
            assert!(allows(&[], own, "localhost:8089", Some(origin)).await, "{origin}");
        }
        for origin in [
            "null",
            "http://localhost:3000",
            "https://localhost:8089",
            "http://evil.example",
            "http://localhost",
            "file://",
            "http://127.0.0.1:8089.evil.example",
            "",
        ] {
            assert!(!allows(&[], own, "localhost:8089", Some(origin)).await, "{origin}");
        }
    }

    #[tokio::test]
    async fn what_the_settings_name_passes_at_its_own_port() {
        let settings =
            [("PUBLIC_URL", "https://vault.example.com"), ("CORS_ALLOW_ORIGINS", "https://app.example.com")];
        let own = "http://0.0.0.0:8089";
        let from = async |host: &str, origin: &str| allows(&settings, own, host, Some(origin)).await;
        assert!(from("vault.example.com", "https://vault.example.com").await);
        assert!(from("vault.example.com:443", "https://app.example.com:443").await);
        assert!(!from("vault.example.com", "https://app.example.com:8443").await);
        assert!(!from("vault.example.com", "http://app.example.com").await);
        assert!(!from("0.0.0.0:8089", "https://vault.example.com").await);
    }
}
