//! The programs that use what Vault issues, and the servers that they log in to.

use std::{
    io::Write,
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::OnceLock,
};

use crate::common::{PATIENCE, free_ports, unique, wait_until};

/// A program by its name; `None` where the machine lacks it, which is said, and fails in CI.
pub(crate) fn program(name: &str) -> Option<PathBuf> {
    let mut folders: Vec<PathBuf> =
        std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()).collect();
    folders.extend(["/usr/local/sbin", "/usr/sbin", "/sbin"].map(PathBuf::from));
    // Debian keeps PostgreSQL's own programs here, by version.
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    folders.extend(versions.map(|version| version.path().join("bin")));
    let found = folders.into_iter().map(|folder| folder.join(name)).find(|path| path.is_file());
    if found.is_none() {
        assert!(std::env::var_os("CI").is_none(), "{name} is missing, and CI must not go without");
        eprintln!("left out: there is no {name} here");
    }
    found
}

/// Runs a program with this on standard input.
pub(crate) fn run(command: &mut Command, input: &[u8]) -> Output {
    let mut child =
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that does not read its input is no fault of the test's.
    let _ = child.stdin.take().unwrap().write_all(input);
    child.wait_with_output().unwrap()
}

/// What a program said, both ways.
pub(crate) fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A server that ends with this process, however that happens: a shell waits for the end of its input, which is
/// our end of a pipe, then asks the server to end and removes its folder.
struct Keeper(Child);

impl Keeper {
    /// `signal` is what the server takes as a request to end at once.
    fn start(folder: &Path, signal: &str, command: &[&str]) -> Self {
        let script = "exec 3<&0; \"$@\" </dev/null >\"$0/log\" 2>&1 3<&- & server=$!; \
                      (cat >/dev/null; kill -$signal $server; \
                       for i in 1 2 3 4 5 6 7 8 9 10; do kill -0 $server || break; sleep 0.2; done; \
                       kill -9 $server; rm -rf \"$0\") <&3 >/dev/null 2>&1 & exec 3<&-; wait $server";
        let shell = Command::new("/bin/sh")
            .args(["-c", script])
            .arg(folder)
            .args(command)
            .env_clear()
            .envs([("PATH", "/usr/local/bin:/usr/bin:/bin"), ("LC_ALL", "C"), ("signal", signal)])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        Self(shell)
    }

    /// Waits until the port answers; `false` when the server ended instead.
    fn answers(&mut self, what: &str, port: u16) -> bool {
        wait_until(what, PATIENCE, || {
            if self.0.try_wait().unwrap().is_some() {
                return Some(false);
            }
            TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(true)
        })
    }
}

/// A folder that outlives this function and is removed by a [`Keeper`].
fn folder(prefix: &str) -> PathBuf {
    tempfile::Builder::new().prefix(prefix).tempdir_in("/tmp").unwrap().keep()
}

/// A PostgreSQL of this test binary's own.
pub(crate) struct Postgres {
    pub(crate) port: u16,
    /// The password of its administrator, `admin`.
    pub(crate) password: String,
    psql: PathBuf,
    _keeper: Keeper,
}

impl Postgres {
    /// Runs SQL as this user; the output, or what the server said.
    pub(crate) fn psql(&self, user: &str, password: &str, sql: &str) -> Result<String, String> {
        let mut command = Command::new(&self.psql);
        command.args(["-X", "-A", "-t", "-w", "-h", "127.0.0.1", "-d", "postgres", "-v", "ON_ERROR_STOP=1"]);
        command.args(["-p", &self.port.to_string(), "-U", user, "-c", sql]);
        command.env("PGPASSWORD", password).env("PGCONNECT_TIMEOUT", "20");
        let output = run(&mut command, b"");
        if output.status.success() {
            Ok(String::from_utf8(output.stdout).unwrap())
        } else {
            Err(said(&output))
        }
    }

    /// Whether this user exists.
    pub(crate) fn has_user(&self, user: &str) -> bool {
        let sql = format!("select count(*) from pg_roles where rolname = '{user}'");
        self.psql("admin", &self.password, &sql).unwrap().trim() == "1"
    }
}

/// The PostgreSQL of this test binary.
pub(crate) fn postgres() -> Option<&'static Postgres> {
    static SHARED: OnceLock<Option<Postgres>> = OnceLock::new();
    SHARED.get_or_init(start_postgres).as_ref()
}

fn start_postgres() -> Option<Postgres> {
    let (initdb, server, psql) = (program("initdb")?, program("postgres")?, program("psql")?);
    let folder = folder("vmpg");
    let data = folder.join("data");
    let password = unique("pg");
    let secret = folder.join("password");
    std::fs::write(&secret, &password).unwrap();
    // PostgreSQL refuses to run as root: its Debian user does, or else nobody.
    let user = is_root().then(|| if is_user("postgres") { "postgres" } else { "nobody" });
    let mut as_user: Vec<String> = Vec::new();
    if let Some(user) = user {
        let id = |flag: &str| {
            let output = Command::new("id").args([flag, user]).output().unwrap();
            String::from_utf8(output.stdout).unwrap().trim().to_owned()
        };
        let (uid, gid) = (id("-u"), id("-g"));
        assert!(Command::new("chown").args(["-R", &uid]).arg(&folder).status().unwrap().success());
        as_user = vec![
            program("setpriv")?.display().to_string(),
            format!("--reuid={uid}"),
            format!("--regid={gid}"),
            "--clear-groups".to_owned(),
        ];
    }
    let mut make: Vec<String> = as_user.clone();
    make.push(initdb.display().to_string());
    make.extend(["-U", "admin", "-A", "scram-sha-256", "-E", "UTF8", "--no-sync", "-D"].map(str::to_owned));
    make.extend([data.display().to_string(), format!("--pwfile={}", secret.display())]);
    let made = run(Command::new(&make[0]).args(&make[1..]).current_dir("/").env("LC_ALL", "C"), b"");
    assert!(made.status.success(), "initdb: {}", said(&made));
    for _ in 0..5 {
        let port = free_ports(1);
        let mut serve = as_user.clone();
        serve.extend([server.display().to_string(), "-D".to_owned(), data.display().to_string()]);
        for option in [
            format!("port={port}"),
            "listen_addresses=127.0.0.1".to_owned(),
            format!("unix_socket_directories={}", folder.display()),
            "fsync=off".to_owned(),
        ] {
            serve.extend(["-c".to_owned(), option]);
        }
        let words: Vec<&str> = serve.iter().map(String::as_str).collect();
        // INT: open connections are cut.
        let mut keeper = Keeper::start(&folder, "INT", &words);
        if !keeper.answers("PostgreSQL", port) {
            continue;
        }
        let postgres = Postgres { port, password: password.clone(), psql: psql.clone(), _keeper: keeper };
        wait_until("PostgreSQL to take logins", PATIENCE, || {
            postgres.psql("admin", &postgres.password, "select 1").ok()
        });
        return Some(postgres);
    }
    panic!("PostgreSQL does not start; its log is in {}", folder.display());
}

fn is_user(name: &str) -> bool {
    Command::new("id").arg(name).output().unwrap().status.success()
}

/// An sshd of this test binary's own, for the user who runs the tests. It trusts one authority and no key.
pub(crate) struct Sshd {
    pub(crate) port: u16,
    /// The user who can log in.
    pub(crate) user: String,
    ssh: PathBuf,
    _keeper: Keeper,
}

impl Sshd {
    /// Starts one that trusts this authority.
    pub(crate) fn start(authority: &str) -> Option<Self> {
        let (sshd, ssh, keygen) = (program("sshd")?, program("ssh")?, program("ssh-keygen")?);
        let folder = folder("vmssh");
        let at = |name: &str| folder.join(name).display().to_string();
        std::fs::write(at("ca.pub"), authority).unwrap();
        let made = run(Command::new(keygen).args(["-q", "-t", "ed25519", "-N", "", "-f", &at("host")]), b"");
        assert!(made.status.success(), "ssh-keygen: {}", said(&made));
        if is_root() {
            // Where sshd separates its privileges; Debian makes it at boot.
            std::fs::create_dir_all("/run/sshd").unwrap();
        }
        let name = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(name.stdout).unwrap().trim().to_owned();
        for _ in 0..5 {
            let port = free_ports(1);
            let config = [
                format!("Port {port}"),
                "ListenAddress 127.0.0.1".to_owned(),
                format!("HostKey {}", at("host")),
                format!("PidFile {}", at("pid")),
                format!("TrustedUserCAKeys {}", at("ca.pub")),
                "AuthorizedKeysFile none".to_owned(),
                "AuthenticationMethods publickey".to_owned(),
                "PasswordAuthentication no".to_owned(),
                "KbdInteractiveAuthentication no".to_owned(),
                "PermitRootLogin prohibit-password".to_owned(),
                "UsePAM no".to_owned(),
                "StrictModes no".to_owned(),
                "MaxStartups 100:30:200".to_owned(),
            ];
            std::fs::write(at("config"), config.join("\n") + "\n").unwrap();
            // It must be called by its whole path: it starts itself again for each connection.
            let path = sshd.display().to_string();
            let mut keeper = Keeper::start(&folder, "TERM", &[&path, "-D", "-e", "-f", &at("config")]);
            if keeper.answers("sshd", port) {
                return Some(Self { port, user, ssh, _keeper: keeper });
            }
        }
        let log = std::fs::read_to_string(folder.join("log")).unwrap_or_default();
        panic!("sshd does not start: {log}");
    }

    /// Logs in with a key and a certificate and says a word there; `false` when the door stays shut.
    pub(crate) fn lets_in(&self, key: &Path, certificate: &Path) -> bool {
        let mut command = Command::new(&self.ssh);
        command.args(["-F", "none", "-T", "-o", "BatchMode=yes", "-o", "IdentitiesOnly=yes"]);
        command.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null"]);
        command.args(["-o", "PreferredAuthentications=publickey", "-o", "ConnectTimeout=20"]);
        command.arg("-o").arg(format!("CertificateFile={}", certificate.display())).arg("-i").arg(key);
        command.args(["-p", &self.port.to_string(), &format!("{}@127.0.0.1", self.user), "echo let in"]);
        command.env_remove("SSH_AUTH_SOCK");
        let output = run(&mut command, b"");
        if output.status.success() {
            assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "let in");
            return true;
        }
        let said = said(&output);
        assert!(said.contains("Permission denied"), "ssh failed for another reason: {said}");
        false
    }
}

/// A user's new key pair: the private key's path and the public line.
pub(crate) fn ssh_key(folder: &Path, name: &str, kind: &str) -> Option<(PathBuf, String)> {
    let path = folder.join(name);
    let mut command = Command::new(program("ssh-keygen")?);
    command.args(["-q", "-t", kind, "-N", "", "-C", "someone@somewhere", "-f"]).arg(&path);
    let made = run(&mut command, b"");
    assert!(made.status.success(), "ssh-keygen: {}", said(&made));
    let public = std::fs::read_to_string(path.with_extension("pub")).unwrap();
    Some((path, public.trim().to_owned()))
}

/// Whether openssl, called like this in this folder, says yes.
pub(crate) fn openssl(folder: &Path, arguments: &[&str]) -> Result<String, String> {
    let Some(program) = program("openssl") else { return Ok(String::new()) };
    let output = run(Command::new(program).current_dir(folder).args(arguments), b"");
    if output.status.success() { Ok(said(&output)) } else { Err(said(&output)) }
}
