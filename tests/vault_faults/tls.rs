//! TLS: own authorities, wrong certificates, client certificates. A proxy of the tests' own speaks TLS in front
//! of the Vault, with certificates that openssl makes.

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use rustls::{
    RootCertStore, ServerConfig, ServerConnection, Stream,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::WebPkiClientVerifier,
};
use serde_json::json;

use crate::common::{Era, McpClient, Server, Vault, assert_refused, vault};

fn openssl(folder: &Path, arguments: &str) {
    let output = Command::new("openssl").args(arguments.split(' ')).current_dir(folder).output().unwrap();
    assert!(output.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&output.stderr));
}

/// An authority and what it signed, as PEM files.
struct Certificates(tempfile::TempDir);

impl Certificates {
    fn new() -> Self {
        let made = Self(tempfile::tempdir().unwrap());
        for authority in ["ca", "other-ca"] {
            let key = format!(
                "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout {authority}.key -out {authority}.pem -subj /CN={authority}"
            );
            openssl(made.0.path(), &key);
        }
        made.sign("server", "ca", "subjectAltName=IP:127.0.0.1", "2");
        made.sign("elsewhere", "ca", "subjectAltName=DNS:vault.example.com", "2");
        made.sign("expired", "ca", "subjectAltName=IP:127.0.0.1", "-1");
        made.sign("foreign", "other-ca", "subjectAltName=IP:127.0.0.1", "2");
        made.sign("client", "ca", "extendedKeyUsage=clientAuth", "2");
        made.sign("stranger", "other-ca", "extendedKeyUsage=clientAuth", "2");
        made
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn sign(&self, name: &str, authority: &str, extension: &str, days: &str) {
        let folder = self.0.path();
        std::fs::write(folder.join(format!("{name}.ext")), extension).unwrap();
        openssl(
            folder,
            &format!(
                "req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}"
            ),
        );
        let sign = format!(
            "x509 -req -in {name}.csr -CA {authority}.pem -CAkey {authority}.key -CAcreateserial -out {name}.pem -extfile {name}.ext"
        );
        // A negative lifetime is how every version of openssl makes a certificate of yesterday.
        openssl(folder, &format!("{sign} -days {days}"));
    }
}

/// Speaks TLS with this certificate in front of the Vault, each connection on a thread of its own.
fn in_front_of(vault: &Vault, made: &Certificates, name: &str, clients: bool) -> String {
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let chain = vec![CertificateDer::from_pem_file(made.path(&format!("{name}.pem"))).unwrap()];
    let key = PrivateKeyDer::from_pem_file(made.path(&format!("{name}.key"))).unwrap();
    let builder = ServerConfig::builder();
    let builder = if clients {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(made.path("ca.pem")).unwrap()).unwrap();
        builder.with_client_cert_verifier(WebPkiClientVerifier::builder(Arc::new(roots)).build().unwrap())
    } else {
        builder.with_no_client_auth()
    };
    let config = Arc::new(builder.with_single_cert(chain, key).unwrap());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("https://{}", listener.local_addr().unwrap());
    let upstream = vault.address.trim_start_matches("http://").to_owned();
    std::thread::spawn(move || {
        for client in listener.incoming() {
            let (Ok(client), config, upstream) = (client, Arc::clone(&config), upstream.clone()) else {
                continue;
            };
            std::thread::spawn(move || drop(relay(client, config, &upstream)));
        }
    });
    address
}

/// One request; the answer ends where the connection ends.
fn relay(mut client: TcpStream, config: Arc<ServerConfig>, upstream: &str) -> std::io::Result<()> {
    let mut session = ServerConnection::new(config).map_err(std::io::Error::other)?;
    let mut tls = Stream::new(&mut session, &mut client);
    let mut request = Vec::new();
    let mut piece = [0; 4096];
    let end = loop {
        if let Some(at) = request.windows(4).position(|four| four == b"\r\n\r\n") {
            break at + 4;
        }
        match tls.read(&mut piece)? {
            0 => return Ok(()),
            length => request.extend_from_slice(&piece[..length]),
        }
    };
    let head = String::from_utf8_lossy(&request[..end]).to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
    while request.len() < end + length.unwrap_or(0usize) {
        let read = tls.read(&mut piece)?;
        request.extend_from_slice(&piece[..read]);
    }
    let mut vault = TcpStream::connect(upstream)?;
    let text = String::from_utf8_lossy(&request).replacen("\r\n", "\r\nConnection: close\r\n", 1);
    vault.write_all(text.as_bytes())?;
    let mut answer = Vec::new();
    vault.read_to_end(&mut answer)?;
    tls.write_all(&answer)?;
    tls.conn.send_close_notify();
    tls.flush()
}

fn client(address: &str, settings: &[(&str, &Path)]) -> McpClient {
    let mut launch = Server::of(vault(), &vault().fresh_subject()).env("VAULT_ADDR", address);
    for (name, value) in settings {
        launch = launch.env(name, value.to_str().unwrap());
    }
    let client = launch.spawn().connect(Era::usual());
    client.always(crate::common::Answer::yes());
    client
}

#[test]
fn an_authority_of_one_s_own_is_trusted_and_no_other() {
    let made = Certificates::new();
    let address = in_front_of(vault(), &made, "server", false);
    let ca = made.path("ca.pem");
    let trusting = client(&address, &[("VAULT_CACERT", &ca)]);
    trusting.call("kv_write", json!({"path": "app", "data": {"A": "1"}})).ok();
    trusting.call("kv_read", json!({"path": "app"})).ok();
    for (why, server, authority) in [
        ("the system's authorities only", "server", None),
        ("another authority", "server", Some("other-ca.pem")),
        ("signed by another", "foreign", Some("ca.pem")),
        ("made for another name", "elsewhere", Some("ca.pem")),
        ("expired", "expired", Some("ca.pem")),
    ] {
        let address = in_front_of(vault(), &made, server, false);
        let authority = authority.map(|name| made.path(name));
        let settings: Vec<_> = authority.iter().map(|path| ("VAULT_CACERT", path.as_path())).collect();
        let result = client(&address, &settings).call("kv_list", json!({}));
        assert_refused(&result, "vault_tls");
        assert!(result.text().contains("VAULT_CACERT"), "{why}: {}", result.text());
        let write = client(&address, &settings).call("kv_write", json!({"path": "app", "data": {"A": "1"}}));
        assert_refused(&write, "vault_tls");
    }
}

#[test]
fn a_client_certificate_is_shown_where_it_is_wanted() {
    let made = Certificates::new();
    let address = in_front_of(vault(), &made, "server", true);
    let ca = made.path("ca.pem");
    let with = |name: &str| {
        let (cert, key) = (made.path(&format!("{name}.pem")), made.path(&format!("{name}.key")));
        client(&address, &[("VAULT_CACERT", &ca), ("VAULT_CLIENT_CERT", &cert), ("VAULT_CLIENT_KEY", &key)])
    };
    with("client").call("kv_list", json!({})).ok();
    for refused in [with("stranger"), client(&address, &[("VAULT_CACERT", &ca)])] {
        let result = refused.call("kv_list", json!({}));
        assert!(["vault_tls", "vault_unreachable"].contains(&result.code().as_str()), "{}", result.text());
    }
}

#[test]
fn checking_is_switched_off_for_this_machine_only() {
    let made = Certificates::new();
    let address = in_front_of(vault(), &made, "foreign", false);
    let yes = Path::new("true");
    client(&address, &[("VAULT_SKIP_VERIFY", yes)]).call("kv_list", json!({})).ok();
    for address in [
        "https://vault.example.com:8200",
        "https://10.0.0.1:8200",
        "https://localhost.example.com",
        "https://127.0.0.1.nip.io",
    ] {
        let run =
            Server::of(vault(), "alice").env("VAULT_ADDR", address).env("VAULT_SKIP_VERIFY", "true").run("");
        assert!(
            !run.status.success() && run.stderr.contains("VAULT_SKIP_VERIFY"),
            "{address}: {}",
            run.stderr
        );
    }
}

#[test]
fn files_that_hold_no_certificate_are_named() {
    let made = Certificates::new();
    let address = in_front_of(vault(), &made, "server", false);
    let (ca, key, none) = (made.path("ca.pem"), made.path("client.key"), made.path("none.pem"));
    std::fs::write(made.path("empty.pem"), "kanarienvogel7f3a_pem").unwrap();
    let empty = made.path("empty.pem");
    for (settings, name) in [
        (vec![("VAULT_CACERT", none.as_path())], "VAULT_CACERT"),
        (vec![("VAULT_CACERT", empty.as_path())], "VAULT_CACERT"),
        (vec![("VAULT_CACERT", key.as_path())], "VAULT_CACERT"),
        (
            vec![("VAULT_CACERT", &ca), ("VAULT_CLIENT_CERT", &empty), ("VAULT_CLIENT_KEY", &key)],
            "VAULT_CLIENT_CERT",
        ),
        (
            vec![("VAULT_CACERT", &ca), ("VAULT_CLIENT_CERT", &ca), ("VAULT_CLIENT_KEY", &none)],
            "VAULT_CLIENT_KEY",
        ),
    ] {
        let result = client(&address, &settings).call("kv_list", json!({}));
        assert_refused(&result, "config_invalid");
        assert!(result.text().contains(name), "{name}: {}", result.text());
    }
    let half = Server::of(vault(), "alice").env("VAULT_CLIENT_CERT", "x.pem").run("");
    assert!(!half.status.success() && half.stderr.contains("VAULT_CLIENT_KEY"), "{}", half.stderr);
}

#[test]
fn a_vault_behind_its_own_tls_is_served() {
    let Some((own, authority)) = Vault::with_tls() else { return };
    let client = Server::of(&own, "alice")
        .env("VAULT_CACERT", authority.to_str().unwrap())
        .spawn()
        .connect(Era::usual());
    client.always(crate::common::Answer::yes());
    client.call("kv_write", json!({"path": "app", "data": {"A": "1"}})).ok();
    assert_eq!(client.call("kv_read", json!({"path": "app"})).ok()["version"], 1);
}
