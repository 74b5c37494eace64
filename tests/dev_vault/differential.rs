//! One script, two servers, the same answers.

use std::{
    collections::HashMap,
    env,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener},
    process::{Child, Command, Stdio},
    time::Duration,
};

use serde_json::json;
use vault_mcp::dev::{DevVault, Options, seed};

use crate::{
    alike::{comparable, normalise},
    client::{Ask, Got},
    script::{Step, steps},
};

/// A `vault server -dev` that ends with the test.
struct RealVault {
    child: Child,
    address: SocketAddr,
    unseal_key: String,
}

impl RealVault {
    async fn start(binary: &str) -> Self {
        for _ in 0..5 {
            if let Some(vault) = Self::start_once(binary).await {
                return vault;
            }
        }
        panic!("{binary} does not start; try `{binary} server -dev` by hand");
    }

    /// `None` when it ended at once: somebody else was given the port meanwhile.
    async fn start_once(binary: &str) -> Option<Self> {
        let address = free_address();
        let child = Command::new(binary)
            .args(["server", "-dev", "-dev-no-store-token", "-dev-root-token-id=root"])
            .arg(format!("-dev-listen-address={address}"))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("VAULT_MCP_TEST_VAULT starts");
        let mut vault = Self { child, address, unseal_key: String::new() };
        let output = BufReader::new(vault.child.stdout.take().unwrap());
        // The banner is read to its key; what comes after is thrown away, or the server would block.
        let (found, key) = tokio::sync::oneshot::channel();
        std::thread::spawn(move || {
            let mut found = Some(found);
            for line in output.lines().map_while(Result::ok) {
                if let Some(key) = line.strip_prefix("Unseal Key: ")
                    && let Some(found) = found.take()
                {
                    let _ = found.send(key.trim().to_owned());
                }
            }
        });
        // Without a key its output ended, and so did it.
        vault.unseal_key = tokio::time::timeout(Duration::from_secs(60), key).await.unwrap().ok()?;
        for _ in 0..1200 {
            if tokio::net::TcpStream::connect(address).await.is_ok()
                && Ask::new("GET", "/v1/secret/config").token("root").send(address).await.status == 200
            {
                return Some(vault);
            }
            if vault.child.try_wait().unwrap().is_some() {
                return None;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("the real Vault did not answer within a minute");
    }
}

impl Drop for RealVault {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A free port whose next one is free too: Vault takes both.
fn free_address() -> SocketAddr {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        if address.port() < u16::MAX && TcpListener::bind(("127.0.0.1", address.port() + 1)).is_ok() {
            return address;
        }
    }
}

/// What a server's answers have given so far.
#[derive(Default)]
struct Kept(HashMap<&'static str, String>);

impl Kept {
    fn fill(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, (name, value)| text.replace(&format!("{{{name}}}"), value))
    }

    async fn run(&mut self, step: &Step, to: SocketAddr) -> Got {
        let mut ask = step.ask.clone();
        ask.path = self.fill(&ask.path);
        for (_, value) in &mut ask.headers {
            *value = self.fill(value);
        }
        if let Some(body) = &mut ask.body {
            // Within a body a value is a JSON text: a certificate has line breaks.
            let fill = |text: String, (name, value): (&&str, &String)| {
                let value = serde_json::to_string(value).unwrap();
                text.replace(&format!("{{{name}}}"), value.trim_matches('"'))
            };
            *body = self.0.iter().fold(String::from_utf8_lossy(body).into_owned(), fill).into_bytes();
        }
        let got = ask.send(to).await;
        for (name, pointer) in &step.keep {
            self.0.insert(name, got.text_at(pointer));
        }
        got
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_vault_answers_the_same() {
    let Some(binary) = env::var("VAULT_MCP_TEST_VAULT").ok().filter(|binary| !binary.is_empty()) else {
        println!("skipped: VAULT_MCP_TEST_VAULT names no vault binary to compare with");
        return;
    };
    let real = RealVault::start(&binary).await;
    let embedded =
        DevVault::start(Options { root_token: Some("root".to_owned()), ..Options::default() }).await.unwrap();

    let (mut kept_real, mut kept_embedded) = (Kept::default(), Kept::default());
    kept_real.0.insert("unseal_key", real.unseal_key.clone());
    kept_embedded.0.insert("unseal_key", embedded.unseal_key().to_owned());
    let mut differences = Vec::new();
    let steps = steps();
    for (number, step) in steps.iter().enumerate() {
        let theirs = kept_real.run(step, real.address).await;
        let ours = kept_embedded.run(step, embedded.address()).await;
        let (theirs, ours) = (comparable(&theirs, step), comparable(&ours, step));
        if theirs != ours {
            let body = step.ask.body.as_ref().map(|body| String::from_utf8_lossy(body).into_owned());
            let body = body.unwrap_or_default().chars().take(200).collect::<String>();
            differences.push(format!(
                "{number}: {} {} {body}\n     real {theirs}\n embedded {ours}",
                step.ask.method, step.ask.path,
            ));
        }
    }
    println!("{} requests compared", steps.len());
    assert!(differences.is_empty(), "{} differences:\n{}", differences.len(), differences.join("\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_content_is_the_same_on_a_real_vault() {
    let Some(binary) = env::var("VAULT_MCP_TEST_VAULT").ok().filter(|binary| !binary.is_empty()) else {
        println!("skipped: VAULT_MCP_TEST_VAULT names no vault binary to compare with");
        return;
    };
    let real = RealVault::start(&binary).await;
    let embedded =
        DevVault::start(Options { root_token: Some("root".to_owned()), ..Options::default() }).await.unwrap();
    let http = crate::promises::http_client();
    let what = seed::Seed::for_subject("alice");
    let mut shown = Vec::new();
    for address in [real.address, embedded.address()] {
        let report = seed::seed(&format!("http://{address}"), "root", &http, &what).await.unwrap();
        assert!(report.skipped.is_empty(), "{:?}", report.skipped);
        let agent = &report.tokens[0].token;
        let mut answers = Vec::new();
        let key = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";
        let posts = [
            ("ssh/sign/user", json!({ "public_key": key })),
            ("ssh/creds/otp", json!({ "ip": "127.0.0.1", "username": "deploy" })),
            ("pki/issue/web", json!({ "common_name": "a.example.test" })),
            ("pki/issue/web", json!({ "common_name": "a.example.com" })),
            ("pki/revoke", json!({ "serial_number": "11:22" })),
        ];
        for (method, path) in [
            ("LIST", "secret/metadata/mcp/alice"),
            ("LIST", "secret/metadata/mcp/alice/team/ci"),
            ("GET", "secret/data/mcp/alice/myapp"),
            ("GET", "secret/data/mcp/alice/myapp?version=1"),
            ("GET", "secret/data/mcp/alice/retired"),
            ("GET", "secret/data/mcp/alice/team/ci/typed"),
            ("GET", "secret/data/mcp/bob/myapp"),
            ("LIST", "secret/metadata/mcp"),
            ("LIST", "kv1/mcp/alice"),
            ("GET", "kv1/mcp/alice/legacy"),
            ("GET", "auth/token/lookup-self"),
            ("GET", "transit/keys/k"),
            ("LIST", "transit/keys"),
            ("GET", "ssh/roles/user"),
            ("LIST", "ssh/roles"),
            ("GET", "ssh/public_key"),
            ("LIST", "pki/roles"),
            ("GET", "pki/roles/web"),
            ("GET", "pki/cert/ca"),
        ] {
            let got = Ask::new(method, &format!("/v1/{path}")).token(agent).send(address).await;
            let mut body = got.json();
            normalise("", &mut body);
            answers.push((path, got.status, body));
        }
        for (path, body) in posts {
            let ask = Ask::new("POST", &format!("/v1/{path}")).token(agent).json(body);
            let got = ask.send(address).await;
            let mut body = got.json();
            normalise("", &mut body);
            answers.push((path, got.status, body));
        }
        shown.push((report.secrets, report.ssh_roles, report.pki_roles, report.policies, answers));
    }
    assert_eq!(shown[0], shown[1]);
}
