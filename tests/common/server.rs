//! The binary as a child process on stdio, in an environment that holds nothing but what the test gave it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, RecvTimeoutError, channel},
    },
    time::Duration,
};

use super::{
    PATIENCE, Vault,
    client::{Era, McpClient},
    oracle::assert_no_canary,
    wait_until,
};

/// The program under test: `VAULT_MCP_TEST_BINARY` if it is set, a release build say, else what cargo built.
pub fn binary() -> String {
    std::env::var("VAULT_MCP_TEST_BINARY").unwrap_or_else(|_| env!("CARGO_BIN_EXE_vault-mcp").to_owned())
}

/// A person's home for one test: gone when dropped. Servers that shall see each other (an approver, a second
/// server on the same audit log) share one `Home`.
pub struct Home {
    folder: tempfile::TempDir,
}

impl Home {
    pub fn new() -> Arc<Self> {
        // Short, because a Unix socket's path may have 107 bytes.
        let folder = tempfile::Builder::new().prefix("vm").tempdir_in("/tmp").unwrap();
        for name in ["data", "run", "config", "work"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        private(&folder.path().join("run"));
        private(folder.path());
        Arc::new(Self { folder })
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// The working folder that servers of this home start in.
    pub fn work(&self) -> PathBuf {
        self.path().join("work")
    }

    pub fn audit_log(&self) -> PathBuf {
        self.path().join("audit.jsonl")
    }

    /// The environment that this home means; what a test adds comes on top.
    pub fn environment(&self) -> Vec<(String, String)> {
        let under = |name: &str| self.path().join(name).display().to_string();
        [
            ("HOME", self.path().display().to_string()),
            ("PATH", "/usr/local/bin:/usr/bin:/bin".to_owned()),
            ("XDG_DATA_HOME", under("data")),
            ("XDG_CONFIG_HOME", under("config")),
            ("XDG_RUNTIME_DIR", under("run")),
            ("AUDIT_LOG", self.audit_log().display().to_string()),
            ("RUST_BACKTRACE", "1".to_owned()),
        ]
        .map(|(name, value)| (name.to_owned(), value))
        .to_vec()
    }
}

fn private(path: &Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).unwrap();
}

/// How a server is to be started.
pub struct Launch {
    home: Arc<Home>,
    arguments: Vec<String>,
    environment: Vec<(String, String)>,
}

impl Launch {
    /// Shares `home` with others.
    pub fn home(mut self, home: &Arc<Home>) -> Self {
        self.environment
            .retain(|(name, value)| !self.home.environment().contains(&(name.clone(), value.clone())));
        self.home = Arc::clone(home);
        self.environment.splice(0..0, home.environment());
        self
    }

    /// Sets a variable; the last word on a name counts.
    pub fn env(mut self, name: &str, value: impl AsRef<str>) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self.environment.push((name.to_owned(), value.as_ref().to_owned()));
        self
    }

    pub fn without(mut self, name: &str) -> Self {
        self.environment.retain(|(known, _)| known != name);
        self
    }

    pub fn arg(mut self, argument: impl AsRef<str>) -> Self {
        self.arguments.push(argument.as_ref().to_owned());
        self
    }

    pub fn args<const N: usize>(mut self, arguments: [&str; N]) -> Self {
        self.arguments.extend(arguments.map(str::to_owned));
        self
    }

    /// The address, a token of root's and a subject of the test's own.
    pub fn vault(self, vault: &Vault, subject: &str) -> Self {
        self.env("VAULT_ADDR", &vault.address).env("VAULT_TOKEN", &vault.root).env("SUBJECT", subject)
    }

    /// The command as it would be started, for tests of subcommands: `launch.command().output()`.
    pub fn command(&self) -> Command {
        let mut command = Command::new(binary());
        command.args(&self.arguments).env_clear().envs(self.environment.iter().cloned());
        command.current_dir(self.home.work());
        command
    }

    /// What a terminal needs to start the same: the environment and the arguments behind the program's name.
    pub fn parts(&self) -> (Vec<(String, String)>, Vec<String>) {
        (self.environment.clone(), self.arguments.clone())
    }

    /// The home that this launch uses.
    pub fn at(&self) -> &Arc<Home> {
        &self.home
    }

    pub fn spawn(self) -> Server {
        let mut child = self
            .command()
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{} does not start: {error}", binary()));
        let stdout = child.stdout.take().unwrap();
        let mut stderr = child.stderr.take().unwrap();
        let (lines_in, lines) = channel();
        let transcript = Arc::new(Mutex::new(Vec::new()));
        let said = Arc::new(Mutex::new(Vec::new()));
        {
            let transcript = Arc::clone(&transcript);
            std::thread::spawn(move || {
                let mut stdout = BufReader::new(stdout);
                loop {
                    let mut line = Vec::new();
                    match stdout.read_until(b'\n', &mut line) {
                        Ok(0) | Err(_) => return,
                        Ok(_) => {}
                    }
                    transcript.lock().unwrap().extend_from_slice(&line);
                    if lines_in.send(line).is_err() {
                        return;
                    }
                }
            });
        }
        let listener = {
            let said = Arc::clone(&said);
            std::thread::spawn(move || {
                let mut piece = [0; 4096];
                while let Ok(length @ 1..) = stderr.read(&mut piece) {
                    said.lock().unwrap().extend_from_slice(&piece[..length]);
                }
            })
        };
        Server {
            stdin: child.stdin.take().map(|stdin| Arc::new(Mutex::new(stdin))),
            child,
            lines: Some(lines),
            transcript,
            said,
            listener: Some(listener),
            home: self.home,
        }
    }
}

/// A running `vault-mcp`. Killed when dropped; then its standard error and its audit log must be free of
/// canaries, whatever the test was about.
pub struct Server {
    child: Child,
    stdin: Option<Arc<Mutex<ChildStdin>>>,
    lines: Option<Receiver<Vec<u8>>>,
    transcript: Arc<Mutex<Vec<u8>>>,
    said: Arc<Mutex<Vec<u8>>>,
    listener: Option<std::thread::JoinHandle<()>>,
    home: Arc<Home>,
}

impl Server {
    /// A launch in a home of its own, with nothing configured.
    pub fn launch() -> Launch {
        let home = Home::new();
        Launch { arguments: Vec::new(), environment: home.environment(), home }
    }

    /// The usual: stdio, this Vault, this subject.
    pub fn of(vault: &Vault, subject: &str) -> Launch {
        Self::launch().vault(vault, subject)
    }

    /// Speaks MCP from here on.
    pub fn connect(self, era: Era) -> McpClient {
        McpClient::over(self, era)
    }

    pub fn home(&self) -> &Arc<Home> {
        &self.home
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends these bytes and nothing more; `false` when the server no longer reads.
    pub fn send(&self, bytes: impl AsRef<[u8]>) -> bool {
        let Some(stdin) = &self.stdin else { return false };
        let mut stdin = stdin.lock().unwrap();
        stdin.write_all(bytes.as_ref()).and_then(|()| stdin.flush()).is_ok()
    }

    /// Sends a line.
    pub fn send_line(&self, line: impl AsRef<str>) -> bool {
        self.send(format!("{}\n", line.as_ref()))
    }

    /// The next line on standard output, without its end; `None` when it is closed.
    pub fn line(&self) -> Option<String> {
        match self.take_line(PATIENCE) {
            Ok(line) => Some(line),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => {
                panic!("no line on standard output within {PATIENCE:?}; {}", self.account())
            }
        }
    }

    /// Asserts that nothing more is said for this long.
    pub fn assert_silent(&self, patience: Duration) {
        if let Ok(line) = self.take_line(patience) {
            panic!("standard output should be silent and said {line:?}; {}", self.account());
        }
    }

    fn take_line(&self, patience: Duration) -> Result<String, RecvTimeoutError> {
        let lines = self.lines.as_ref().expect("the lines belong to an McpClient now");
        let line = lines.recv_timeout(patience)?;
        let line = String::from_utf8(line).expect("standard output is UTF-8");
        Ok(line.trim_end_matches('\n').to_owned())
    }

    /// Closes the server's standard input. A client that still holds it keeps it open.
    pub fn close(&mut self) {
        self.stdin = None;
    }

    /// Waits for the end and returns how it was.
    pub fn wait(&mut self) -> ExitStatus {
        self.wait_within(PATIENCE)
    }

    pub fn wait_within(&mut self, patience: Duration) -> ExitStatus {
        let what = format!("the end of process {}", self.child.id());
        wait_until(&what, patience, || self.child.try_wait().unwrap())
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Sends a signal, `rustix::process::Signal::TERM` say.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let id = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(id, signal).unwrap();
    }

    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Everything said on standard error so far.
    pub fn stderr(&self) -> String {
        String::from_utf8_lossy(&self.said.lock().unwrap()).into_owned()
    }

    /// Waits for a text on standard error.
    pub fn wait_for_stderr(&self, text: &str) {
        wait_until(&format!("{text:?} on standard error"), PATIENCE, || {
            self.stderr().contains(text).then_some(())
        });
    }

    /// Everything said on standard output so far, byte for byte.
    pub fn stdout(&self) -> Vec<u8> {
        self.transcript.lock().unwrap().clone()
    }

    /// The state of things, for a panic's message.
    pub fn account(&self) -> String {
        let said = self.stderr();
        let tail = said.char_indices().rev().nth(2000).map_or(0, |(at, _)| at);
        format!("process {}; standard error ends with:\n{}", self.child.id(), &said[tail..])
    }

    /// Lets the rest of standard error come in; for a second at most, since a grandchild may hold it open.
    fn hear_out(&mut self) {
        let Some(listener) = self.listener.take() else { return };
        for _ in 0..100 {
            if listener.is_finished() {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(super) fn take_lines(&mut self) -> Receiver<Vec<u8>> {
        self.lines.take().expect("the lines were taken before")
    }

    /// The server's standard input, for a thread that writes while the test reads.
    pub fn writer(&self) -> Arc<Mutex<ChildStdin>> {
        Arc::clone(self.stdin.as_ref().expect("standard input is closed"))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        self.hear_out();
        if !std::thread::panicking() {
            assert_no_canary(&*self.said.lock().unwrap(), "standard error");
            if let Ok(log) = std::fs::read(self.home.audit_log()) {
                assert_no_canary(&log, "the audit log");
            }
        }
    }
}

/// What a run of a subcommand gave.
pub struct Run {
    pub status: ExitStatus,
    pub stdout: String,
    pub stderr: String,
}

impl Launch {
    /// Runs to the end with `input` on standard input.
    pub fn run(self, input: &str) -> Run {
        let mut server = self.spawn();
        server.send(input);
        server.close();
        let status = server.wait();
        let stdout = wait_until("the end of standard output", PATIENCE, || {
            loop {
                match server.lines.as_ref().unwrap().recv_timeout(Duration::from_millis(1)) {
                    Ok(_) => {}
                    Err(RecvTimeoutError::Timeout) => return None,
                    Err(RecvTimeoutError::Disconnected) => return Some(server.stdout()),
                }
            }
        });
        server.hear_out();
        Run { status, stdout: String::from_utf8_lossy(&stdout).into_owned(), stderr: server.stderr() }
    }
}
