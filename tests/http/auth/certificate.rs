//! Client certificates on TLS of our own, made by openssl.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use super::super::rig::{Agent, Http, keys_of};
use crate::common::{Proxy, Server, vault};

fn openssl(folder: &Path, arguments: &[&str]) {
    let output = Command::new("openssl").args(arguments).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}

const NEW_KEY: &[&str] = &["req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/// Authorities, a server's certificate and callers', as PEM files.
pub(crate) struct Certificates(tempfile::TempDir);

impl Certificates {
    pub(crate) fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        for authority in ["ca", "other-ca"] {
            let (key, pem, name) =
                (format!("{authority}.key"), format!("{authority}.pem"), format!("/CN={authority}"));
            let more = ["-x509", "-days", "2", "-keyout", &key, "-out", &pem, "-subj", &name];
            openssl(made.0.path(), &[NEW_KEY, &more].concat());
        }
        made.sign("server", "ca", "/CN=server", "subjectAltName=IP:127.0.0.1", "2");
        made
    }

    pub(super) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn sign(&self, name: &str, authority: &str, subject: &str, extension: &str, days: &str) {
        let folder = self.0.path();
        std::fs::write(folder.join("ext"), extension).unwrap();
        let (key, csr, pem) = (format!("{name}.key"), format!("{name}.csr"), format!("{name}.pem"));
        let more = ["-utf8", "-keyout", &key, "-out", &csr, "-subj", subject];
        openssl(folder, &[NEW_KEY, &more].concat());
        let (ca, ca_key) = (format!("{authority}.pem"), format!("{authority}.key"));
        openssl(
            folder,
            &[
                "x509",
                "-req",
                "-in",
                &csr,
                "-CA",
                &ca,
                "-CAkey",
                &ca_key,
                "-CAcreateserial",
                "-out",
                &pem,
                "-extfile",
                "ext",
                "-days",
                days,
            ],
        );
    }

    /// A certificate for callers.
    pub(crate) fn client(&self, name: &str, subject: &str) {
        self.sign(name, "ca", subject, "extendedKeyUsage=clientAuth", "2");
    }
}

/// A server that takes the authority's certificates, and these agents.
pub(crate) fn server(made: &Certificates, agents: &[&Agent]) -> Http {
    let proxy = Proxy::new(vault());
    let path = |name: &str| made.path(name).display().to_string();
    let launch = Server::launch()
        .env("VAULT_ADDR", &proxy.address)
        .env("VAULT_TOKEN", &vault().root)
        .env("RATE_LIMIT_ENABLED", "false")
        .env("API_KEYS_JSON", keys_of(agents))
        .env("LOG_LEVEL", "debug")
        .env("TLS_CERT", path("server.pem"))
        .env("TLS_KEY", path("server.key"))
        .env("TLS_CLIENT_CA", path("ca.pem"));
    Http::of(launch, proxy)
}

/// A client that has no certificate and needs none of the server's.
pub(crate) fn client_without_tls() -> reqwest::ClientBuilder {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    reqwest::Client::builder().tls_backend_rustls().tls_certs_only([])
}

/// A client that knows the authority, and has this certificate.
pub(crate) fn client(made: &Certificates, certificate: Option<&str>) -> reqwest::ClientBuilder {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let authority = reqwest::Certificate::from_pem(&std::fs::read(made.path("ca.pem")).unwrap()).unwrap();
    let client = reqwest::Client::builder().tls_backend_rustls().tls_certs_only([authority]);
    let Some(name) = certificate else { return client };
    let mut pem = std::fs::read(made.path(&format!("{name}.pem"))).unwrap();
    pem.extend(std::fs::read(made.path(&format!("{name}.key"))).unwrap());
    client.identity(reqwest::Identity::from_pem(&pem).unwrap())
}

/// Status, `WWW-Authenticate` and body of `GET /whoami`; nothing where the handshake fails.
fn who(
    http: &Http,
    made: &Certificates,
    certificate: Option<&str>,
    headers: &[(&str, &str)],
) -> Option<(u16, String, String)> {
    let client = client(made, certificate).no_proxy();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut request = client.build().unwrap().get(format!("{}/whoami", http.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.ok()?;
        let challenge =
            response.headers().get("www-authenticate").map(|value| value.to_str().unwrap().to_owned());
        Some((response.status().as_u16(), challenge.unwrap_or_default(), response.text().await.unwrap()))
    })
}

#[test]
fn the_certificate_is_the_caller_and_no_header_is() {
    let made = Certificates::new();
    let agent = Agent::new();
    made.client("good", &format!("/O=Example/CN={}", agent.subject));
    let http = server(&made, &[&agent]);
    assert!(http.url.starts_with("https://"), "{}", http.url);
    let (status, _, body) = who(&http, &made, Some("good"), &[]).unwrap();
    assert!(status == 200 && body.contains(&format!("\"{}\"", agent.subject)), "{status} {body}");
    // A header that names another changes nothing.
    let headers = [("X-SSL-Client-S-DN", "CN=admin"), ("X-SSL-Client-Verify", "SUCCESS")];
    let (status, _, body) = who(&http, &made, Some("good"), &headers).unwrap();
    assert!(status == 200 && body.contains(&agent.subject), "{status} {body}");
    // Without a certificate a key will do, and without either nothing does.
    assert_eq!(who(&http, &made, None, &[("X-API-Key", &agent.key)]).unwrap().0, 200);
    let (status, challenge, body) = who(&http, &made, None, &headers).unwrap();
    assert_eq!((status, body.as_str()), (401, r#"{"detail":"Unauthorized"}"#));
    assert!(challenge.contains(&format!("resource_metadata=\"{}/.well-known/", http.url)), "{challenge}");
}

#[test]
fn a_certificate_and_a_key_must_be_the_same_subjects() {
    let made = Certificates::new();
    let (alice, bob) = (Agent::new(), Agent::new());
    made.client("alice", &format!("/CN={}", alice.subject));
    let http = server(&made, &[&alice, &bob]);
    assert_eq!(who(&http, &made, Some("alice"), &[("X-API-Key", &alice.key)]).unwrap().0, 200);
    assert_eq!(who(&http, &made, Some("alice"), &[("X-API-Key", &bob.key)]).unwrap().0, 401);
    assert_eq!(http.records().last().unwrap()["outcome"], "credentials of different subjects");
    assert_eq!(who(&http, &made, Some("alice"), &[("X-API-Key", "unknown")]).unwrap().0, 401);
}

#[test]
fn a_certificate_that_is_not_good_does_not_even_connect() {
    let made = Certificates::new();
    let agent = Agent::new();
    made.sign("stranger", "other-ca", "/CN=alice", "extendedKeyUsage=clientAuth", "2");
    made.sign("expired", "ca", "/CN=alice", "extendedKeyUsage=clientAuth", "-1");
    made.sign("of-a-server", "ca", "/CN=alice", "extendedKeyUsage=serverAuth", "2");
    let http = server(&made, &[&agent]);
    for name in ["stranger", "expired", "of-a-server"] {
        // A key beside it does not help.
        assert!(who(&http, &made, Some(name), &[("X-API-Key", &agent.key)]).is_none(), "{name}");
    }
    assert!(http.proxy.data_requests().is_empty());
    assert_eq!(who(&http, &made, None, &[("X-API-Key", &agent.key)]).unwrap().0, 200);
}

#[test]
fn a_certificate_whose_name_is_not_clear_is_nobodys() {
    let made = Certificates::new();
    for (name, subject) in [
        ("two", "/CN=alice/CN=admin"),
        ("together", "/CN=alice+CN=admin"),
        ("none", "/O=CN=admin"),
        ("upper", "/CN=Alice"),
        ("unicode", "/CN=älice"),
        ("slash", "/CN=a\\/b"),
        ("comma", "/CN=alice,CN=admin"),
        ("star", "/CN=*"),
    ] {
        made.client(name, subject);
    }
    let http = server(&made, &[]);
    for (name, why) in [
        ("two", "a certificate that names two"),
        ("together", "a certificate that names two"),
        ("none", "a certificate that names nobody"),
        ("upper", "a certificate whose name is no subject of ours"),
        ("unicode", "a certificate whose name is no subject of ours"),
        ("slash", "a certificate whose name is no subject of ours"),
        ("comma", "a certificate whose name is no subject of ours"),
        ("star", "a certificate whose name is no subject of ours"),
    ] {
        let before = http.records().len();
        let (status, _, body) = who(&http, &made, Some(name), &[]).unwrap();
        assert_eq!((status, body.as_str()), (401, r#"{"detail":"Unauthorized"}"#), "{name}");
        let records = http.records();
        assert_eq!(records.len() - before, 1, "{name}");
        assert_eq!(records.last().unwrap()["outcome"], why, "{name}");
    }
    assert!(http.proxy.data_requests().is_empty());
}
