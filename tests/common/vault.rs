//! The Vault that a test binary runs against: one that was given, a real one, or the product's own embedded one.
//!
//! | set | what is used |
//! |---|---|
//! | `TEST_VAULT_ADDR` and `TEST_VAULT_TOKEN` | that server |
//! | `VAULT_MCP_TEST_VAULT`, the path of a `vault` or `bao` | `server -dev` on a free port, one for each test binary |
//! | nothing | `vault-mcp dev` on a free port |
//!
//! A test sets its scene and checks its outcome here, over Vault's own HTTP API with a root token, never through
//! the product.

use std::{
    io::{BufRead, BufReader, Read},
    net::TcpStream,
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::OnceLock,
};

use serde_json::{Value, json};

use super::{
    PATIENCE, Reply, free_ports, http,
    server::{Home, binary},
    unique, wait_until,
};

/// Which server stands behind the address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `vault` or `bao`, started or given.
    Real,
    /// `vault-mcp dev`.
    Embedded,
}

/// A Vault and its root token.
pub struct Vault {
    pub address: String,
    pub root: String,
    pub kind: Kind,
    /// The shell that watches over the server; see [`watched`].
    keeper: Option<Child>,
    server: Option<u32>,
    home: Option<std::sync::Arc<Home>>,
}

/// The Vault of this test binary. Tests run at the same time in it: use a subject of your own for each.
pub fn vault() -> &'static Vault {
    static SHARED: OnceLock<Vault> = OnceLock::new();
    SHARED.get_or_init(|| match (std::env::var("TEST_VAULT_ADDR"), std::env::var("TEST_VAULT_TOKEN")) {
        (Ok(address), Ok(root)) => Vault {
            address: address.trim_end_matches('/').to_owned(),
            root,
            kind: Kind::Real,
            keeper: None,
            server: None,
            home: None,
        },
        _ => Vault::own(),
    })
}

impl Vault {
    /// A server that the test itself started, at this address.
    pub fn at(address: &str, root: &str, kind: Kind) -> Self {
        let (address, root) = (address.to_owned(), root.to_owned());
        Self { address, root, kind, keeper: None, server: None, home: None }
    }

    /// A Vault for one test alone, which may seal or kill it.
    pub fn own() -> Self {
        match std::env::var("VAULT_MCP_TEST_VAULT") {
            Ok(program) if !program.is_empty() => Self::real(&program),
            _ => Self::embedded(),
        }
    }

    /// `vault server -dev` on a free port. It takes the port above as well, so a start may fail: then again.
    pub fn real(program: &str) -> Self {
        for _ in 0..5 {
            let (mut vault, _) = Self::launch(program, false);
            let up = wait_until("a Vault that is up, or its end", PATIENCE, || {
                if vault.has_ended() {
                    return Some(false);
                }
                let reply = http::try_http("GET", &vault.url("sys/health"), &[], None);
                matches!(reply, Ok(Reply { status: 200, .. })).then_some(true)
            });
            // Somebody else's server may have taken the port: ours knows the token.
            if up && vault.get("auth/token/lookup-self").status == 200 {
                return vault;
            }
        }
        panic!("{program} does not start; try `{program} server -dev` by hand");
    }

    /// A real Vault behind TLS, and the file of the authority that signed its certificate; `None` where the tests
    /// run over the embedded one, which has no TLS. Nothing here can look into it: `ureq` is built without TLS.
    pub fn with_tls() -> Option<(Self, PathBuf)> {
        let program = std::env::var("VAULT_MCP_TEST_VAULT").ok().filter(|program| !program.is_empty())?;
        for _ in 0..5 {
            let (mut vault, folder) = Self::launch(&program, true);
            let authority = folder.join("vault-ca.pem");
            let up = wait_until("a Vault behind TLS, or its end", PATIENCE, || {
                if vault.has_ended() {
                    return Some(false);
                }
                let listens = TcpStream::connect(vault.address.trim_start_matches("https://")).is_ok();
                (listens && authority.exists()).then_some(true)
            });
            if up {
                return Some((vault, authority));
            }
        }
        panic!("{program} does not start; try `{program} server -dev-tls` by hand");
    }

    fn launch(program: &str, tls: bool) -> (Self, PathBuf) {
        let home = Home::new();
        let folder = home.work();
        let root = unique("root");
        let listen = format!("127.0.0.1:{}", free_ports(2));
        let mut command = watched(program, &home);
        command.args(["server", "-dev-no-store-token"]);
        if tls {
            command.arg("-dev-tls").arg(format!("-dev-tls-cert-dir={}", folder.display()));
        } else {
            command.arg("-dev");
        }
        command.arg(format!("-dev-root-token-id={root}")).arg(format!("-dev-listen-address={listen}"));
        command.env_clear().env("HOME", home.path()).env("PATH", "/usr/local/bin:/usr/bin:/bin");
        let (keeper, server, stdout) = start(&mut command);
        drain(stdout);
        let address = format!("{}://{listen}", if tls { "https" } else { "http" });
        let (keeper, server, home) = (Some(keeper), Some(server), Some(home));
        (Self { address, root, kind: Kind::Real, keeper, server, home }, folder)
    }

    fn has_ended(&mut self) -> bool {
        self.keeper.as_mut().is_none_or(|keeper| keeper.try_wait().unwrap().is_some())
    }

    /// The product's own, on a port that it chooses itself.
    pub fn embedded() -> Self {
        let home = Home::new();
        let root = unique("root");
        let mut command = watched(&binary(), &home);
        command.args(["dev", "--listen", "127.0.0.1:0", "--root-token", &root]);
        command.env_clear().envs(home.environment());
        let (keeper, server, mut stdout) = start(&mut command);
        let mut said = String::new();
        let address = loop {
            let mut line = String::new();
            if matches!(stdout.read_line(&mut line), Ok(0) | Err(_)) {
                panic!("`vault-mcp dev` ended and named no address; it said {said:?}");
            }
            said.push_str(&line);
            if let Some(address) = address_in(&line) {
                break address;
            }
        };
        drain(stdout);
        let vault = Self {
            address,
            root,
            kind: Kind::Embedded,
            keeper: Some(keeper),
            server: Some(server),
            home: Some(home),
        };
        wait_until("the embedded Vault", PATIENCE, || {
            let reply = http::try_http("GET", &vault.url("sys/health"), &[], None);
            matches!(reply, Ok(Reply { status: 200, .. })).then_some(())
        });
        vault
    }

    /// Ends the server at once, as a crash would.
    pub fn kill(&mut self) {
        if let Some(server) =
            self.server.take().and_then(|id| rustix::process::Pid::from_raw(id.cast_signed()))
        {
            let _ = rustix::process::kill_process(server, rustix::process::Signal::KILL);
        }
        if let Some(mut keeper) = self.keeper.take() {
            drop(keeper.stdin.take());
            let _ = keeper.wait();
        }
    }

    pub fn is_embedded(&self) -> bool {
        self.kind == Kind::Embedded
    }

    /// The address of an API path, `secret/data/x` say.
    pub fn url(&self, path: &str) -> String {
        format!("{}/v1/{path}", self.address)
    }

    /// Any request, with root's token.
    #[track_caller]
    pub fn call(&self, method: &str, path: &str, body: Option<&Value>) -> Reply {
        self.call_as(&self.root, method, path, body)
    }

    /// Any request, with another token.
    #[track_caller]
    pub fn call_as(&self, token: &str, method: &str, path: &str, body: Option<&Value>) -> Reply {
        let body = body.map(Value::to_string);
        http::http(method, &self.url(path), &[("X-Vault-Token", token)], body.as_deref())
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Reply {
        self.call("GET", path, None)
    }

    #[track_caller]
    pub fn put(&self, path: &str, body: Value) -> Reply {
        self.call("POST", path, Some(&body))
    }

    #[track_caller]
    pub fn list(&self, path: &str) -> Reply {
        self.call("LIST", path, None)
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Reply {
        self.call("DELETE", path, None)
    }

    /// A subject that no other test uses.
    pub fn fresh_subject(&self) -> String {
        unique("s")
    }

    /// Writes a version of `secret/mcp/{subject}/{path}` and returns its number.
    #[track_caller]
    pub fn write_secret(&self, subject: &str, path: &str, data: Value) -> u64 {
        let reply = self.put(&format!("secret/data/mcp/{subject}/{path}"), json!({"data": data})).ok();
        reply["data"]["version"].as_u64().unwrap()
    }

    /// The newest version's data; null when there is none or it is deleted.
    #[track_caller]
    pub fn secret(&self, subject: &str, path: &str) -> Value {
        self.get(&format!("secret/data/mcp/{subject}/{path}")).body["data"]["data"].clone()
    }

    /// One version's data; null when it is deleted or destroyed.
    #[track_caller]
    pub fn secret_version(&self, subject: &str, path: &str, version: u64) -> Value {
        let reply = self.get(&format!("secret/data/mcp/{subject}/{path}?version={version}"));
        reply.body["data"]["data"].clone()
    }

    /// The number of the newest version, deleted or not; 0 when there never was one.
    #[track_caller]
    pub fn version(&self, subject: &str, path: &str) -> u64 {
        let reply = self.get(&format!("secret/metadata/mcp/{subject}/{path}"));
        reply.body["data"]["current_version"].as_u64().unwrap_or(0)
    }

    /// `versions` of the metadata: number → created, deleted, destroyed.
    #[track_caller]
    pub fn versions(&self, subject: &str, path: &str) -> Value {
        self.get(&format!("secret/metadata/mcp/{subject}/{path}")).body["data"]["versions"].clone()
    }

    /// A token with the default policy and this one, in HCL; `ttl` as Vault writes it, `10m` say.
    #[track_caller]
    pub fn token(&self, policy: &str, ttl: &str) -> String {
        let name = unique("policy");
        self.put(&format!("sys/policies/acl/{name}"), json!({"policy": policy})).ok();
        let reply = self.put("auth/token/create", json!({"policies": [name], "ttl": ttl})).ok();
        reply["auth"]["client_token"].as_str().unwrap().to_owned()
    }

    /// A token that may do everything below `mcp/{subject}` on `secret/` and nothing else.
    #[track_caller]
    pub fn token_for(&self, subject: &str) -> String {
        let rule = |part: &str| {
            let all = r#"["create", "read", "update", "patch", "delete", "list"]"#;
            format!(
                "path \"secret/{part}/mcp/{subject}\" {{ capabilities = {all} }}\n\
                 path \"secret/{part}/mcp/{subject}/*\" {{ capabilities = {all} }}\n"
            )
        };
        let policy: String = ["data", "metadata", "delete", "undelete", "destroy"].map(rule).concat();
        self.token(&policy, "1h")
    }

    /// Makes sure that an engine of this type is mounted here, with these options (`{"version": "1"}`).
    #[track_caller]
    pub fn ensure_mount(&self, path: &str, engine: &str, options: Value) {
        let known = format!("{path}/");
        let mounts = self.get("sys/mounts").ok();
        if mounts.get(&known).or_else(|| mounts["data"].get(&known)).is_some() {
            return;
        }
        let reply = self.put(&format!("sys/mounts/{path}"), json!({"type": engine, "options": options}));
        // Another test of this binary may have been quicker.
        assert!(reply.status < 300 || reply.text.contains("already in use"), "{path}: {}", reply.text);
    }

    /// A mount of an engine that nobody else has; `None` where the embedded Vault has no such engine, which is said.
    pub fn new_mount(&self, engine: &str) -> Option<String> {
        let path = unique(engine);
        let reply = self.put(&format!("sys/mounts/{path}"), json!({ "type": engine }));
        if self.is_embedded() && reply.text.contains("embedded dev Vault") {
            eprintln!("left out: the embedded dev Vault has no {engine} engine");
            return None;
        }
        reply.ok();
        Some(path)
    }
}

impl Drop for Vault {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The address in the first line of `vault-mcp dev`: a JSON object with a field that holds it, or
/// `export VAULT_ADDR=…`.
fn address_in(line: &str) -> Option<String> {
    let start = line.find("http://127.0.0.1:")?;
    let address = &line[start..];
    let end = address.find(|letter: char| !(letter.is_ascii_alphanumeric() || ".:/".contains(letter)));
    Some(address[..end.unwrap_or(address.len())].trim_end_matches('/').to_owned())
}

/// A command that runs `program` and ends it when this process ends, however that happens: a shell waits for the
/// end of its input, which is our end of a pipe, then kills the server and removes its home. The servers of a
/// `static` are never dropped, and the kernel's parent-death signal follows the thread that started the child,
/// which here is a test's own. The shell's first line on standard output is the server's process id.
fn watched(program: &str, home: &Home) -> Command {
    let mut command = Command::new("/bin/sh");
    command.args([
        "-c",
        "exec 3<&0; \"$@\" </dev/null 3<&- & server=$!; echo $server; \
         (cat >/dev/null; kill -9 $server; rm -rf \"$0\") <&3 >/dev/null 2>&1 & \
         exec 3<&- >/dev/null; wait $server",
    ]);
    command.arg(home.path()).arg(program);
    command
}

/// Starts a watched command; returns the shell, the server's process id and its standard output.
fn start(command: &mut Command) -> (Child, u32, BufReader<impl Read + use<>>) {
    let mut keeper =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut stdout = BufReader::new(keeper.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    let server = line.trim().parse().unwrap_or_else(|_| panic!("no process id in {line:?}"));
    (keeper, server, stdout)
}

/// Keeps reading, so that the server never waits for a full pipe.
fn drain(mut stdout: BufReader<impl Read + Send + 'static>) {
    std::thread::spawn(move || std::io::copy(&mut stdout, &mut std::io::sink()));
}
