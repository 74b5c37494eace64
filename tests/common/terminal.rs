//! A human's terminal: a real tty with a program in it, read and typed into by the test.
//!
//! [`Terminal::outside`] runs in a tmux server, which has left the test's process tree: for the product it is
//! a person at another terminal. [`Terminal::inside`] has a tty too but descends from the process that started
//! it, as everything does that a model's own shell tool could start: for the product it is an attacker.

use std::{
    io::{Read, Write},
    path::PathBuf,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{
    PATIENCE,
    server::{Launch, binary},
    unique,
};

/// A tty and what runs in it; ended when dropped.
pub struct Terminal {
    kind: Kind,
}

enum Kind {
    Tmux { socket: String, _folder: tempfile::TempDir },
    Script { child: Child, stdin: ChildStdin, output: Arc<Mutex<Vec<u8>>> },
}

impl Terminal {
    /// Whether there is a tmux here to stand outside with. A test without it says so and ends: `tests/run.sh`
    /// installs it, and with `CI` set its absence is a failure.
    pub fn can_stand_outside() -> bool {
        let there = Command::new("tmux").arg("-V").stdout(Stdio::null()).status().is_ok_and(|s| s.success());
        assert!(there || std::env::var_os("CI").is_none(), "tmux is missing, and CI must not go without");
        if !there {
            eprintln!("left out: there is no tmux here");
        }
        there
    }

    /// The program, with this launch's environment and arguments, in a terminal outside our process tree.
    pub fn outside(launch: &Launch) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let settings = folder.path().join("tmux.conf");
        // What was on the screen must stay readable after the program's end.
        std::fs::write(
            &settings,
            "set -g remain-on-exit on\nset -g history-limit 20000\nset -g status off\n",
        )
        .unwrap();
        let socket = unique("vault-mcp-");
        let (environment, arguments) = launch.parts();
        let mut command = Command::new("tmux");
        command.args(["-L", &socket, "-f"]).arg(&settings);
        command.args(["new-session", "-d", "-x", "160", "-y", "50", "-c"]).arg(launch.at().work());
        command.args(["env", "-i", "TERM=tmux"]);
        command.args(environment.iter().map(|(name, value)| format!("{name}={value}")));
        command.arg(binary()).args(arguments).env_remove("TMUX");
        let status = command.status().unwrap();
        assert!(status.success(), "tmux does not start: {status}");
        Self { kind: Kind::Tmux { socket, _folder: folder } }
    }

    /// The program in a tty of util-linux' `script`, a child of this process.
    pub fn inside(launch: &Launch) -> Self {
        let (environment, arguments) = launch.parts();
        let line = std::iter::once(&binary())
            .chain(&arguments)
            .map(|word| quoted(word))
            .collect::<Vec<_>>()
            .join(" ");
        let mut child = Command::new("script")
            .args(["--quiet", "--return", "--command", &line, "/dev/null"])
            .env_clear()
            .envs(environment)
            .env("TERM", "xterm")
            .env("SHELL", "/bin/sh")
            .current_dir(launch.at().work())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("`script` of util-linux");
        let stdin = child.stdin.take().unwrap();
        let mut stdout = child.stdout.take().unwrap();
        let output = Arc::new(Mutex::new(Vec::new()));
        let all = Arc::clone(&output);
        std::thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(length @ 1..) = stdout.read(&mut piece) {
                all.lock().unwrap().extend_from_slice(&piece[..length]);
            }
        });
        Self { kind: Kind::Script { child, stdin, output } }
    }

    /// Everything shown so far. tmux gives what a human sees, escape codes executed; `script` gives the bytes.
    pub fn screen(&self) -> String {
        match &self.kind {
            Kind::Tmux { .. } => self.tmux(&["capture-pane", "-p", "-J", "-S", "-"]),
            Kind::Script { output, .. } => String::from_utf8_lossy(&output.lock().unwrap()).into_owned(),
        }
    }

    /// As [`Self::screen`], with the escape codes for colours and attributes that tmux kept.
    pub fn screen_with_escapes(&self) -> String {
        match &self.kind {
            Kind::Tmux { .. } => self.tmux(&["capture-pane", "-p", "-e", "-J", "-S", "-"]),
            Kind::Script { .. } => self.screen(),
        }
    }

    /// Types these characters; no Enter.
    pub fn type_text(&mut self, text: &str) {
        match &mut self.kind {
            Kind::Tmux { .. } => drop(self.tmux(&["send-keys", "-l", "--", text])),
            Kind::Script { stdin, .. } => {
                let _ = stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush());
            }
        }
    }

    /// Types a line and presses Enter.
    pub fn type_line(&mut self, text: &str) {
        if !text.is_empty() {
            self.type_text(text);
        }
        match &mut self.kind {
            Kind::Tmux { .. } => drop(self.tmux(&["send-keys", "Enter"])),
            Kind::Script { .. } => self.type_text("\r"),
        }
    }

    /// Presses Ctrl-C.
    pub fn interrupt(&mut self) {
        match &mut self.kind {
            Kind::Tmux { .. } => drop(self.tmux(&["send-keys", "C-c"])),
            Kind::Script { .. } => self.type_text("\u{3}"),
        }
    }

    /// Waits until this text is on the screen, and returns the screen.
    #[track_caller]
    pub fn wait_for(&self, text: &str) -> String {
        self.wait_for_any(&[text])
    }

    /// Waits until one of these texts is on the screen, and returns the screen.
    #[track_caller]
    pub fn wait_for_any(&self, texts: &[&str]) -> String {
        let start = std::time::Instant::now();
        loop {
            let screen = self.screen();
            if texts.iter().any(|text| screen.contains(text)) {
                return screen;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "waited {PATIENCE:?} in vain for {texts:?} on the terminal, which shows:\n{}",
                screen.trim_end()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Waits for the program's end and returns its exit code, or -1 when a signal ended it.
    #[track_caller]
    pub fn wait(&mut self) -> i32 {
        let start = std::time::Instant::now();
        loop {
            if let Some(code) = self.exit_code() {
                return code;
            }
            assert!(
                start.elapsed() < PATIENCE,
                "waited {PATIENCE:?} in vain for the end of process {} in the terminal, which shows:\n{}",
                self.id(),
                self.screen().trim_end()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn exit_code(&mut self) -> Option<i32> {
        if let Kind::Script { child, .. } = &mut self.kind {
            return child.try_wait().unwrap().map(|status| status.code().unwrap_or(-1));
        }
        let format = "#{pane_dead} #{pane_dead_status} #{pane_dead_signal} #{pid}";
        let state = self.tmux(&["display-message", "-p", format]);
        let words: Vec<_> = state.trim_end_matches('\n').split(' ').collect();
        let [dead, status, signal, server] = words[..] else { panic!("tmux says {state:?}") };
        if dead != "1" {
            return None;
        }
        if status.is_empty() && signal.is_empty() {
            // The terminal is closed, and tmux has not collected the program. Before 3.5 it may never do so: as
            // the terminal closes, it lets libutempter run a helper, which sets SIGCHLD aside meanwhile, and the
            // program's own signal is lost when it comes just then. Sent again, it makes tmux look; a program
            // that has not ended stays uncollected.
            let server = server.parse().ok().and_then(rustix::process::Pid::from_raw).expect("tmux's own id");
            rustix::process::kill_process(server, rustix::process::Signal::CHILD).unwrap();
            return None;
        }
        Some(status.parse().unwrap_or(-1))
    }

    /// The process id of the program (outside) or of `script` (inside).
    pub fn id(&self) -> u32 {
        match &self.kind {
            Kind::Script { child, .. } => child.id(),
            Kind::Tmux { .. } => self.tmux(&["display-message", "-p", "#{pane_pid}"]).trim().parse().unwrap(),
        }
    }

    fn tmux(&self, arguments: &[&str]) -> String {
        let Kind::Tmux { socket, .. } = &self.kind else { return String::new() };
        let output = Command::new("tmux").args(["-L", socket]).args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "tmux {arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr).trim_end()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        match &mut self.kind {
            Kind::Tmux { socket, .. } => {
                let _ = Command::new("tmux").args(["-L", socket, "kill-server"]).output();
                // tmux leaves its socket behind.
                let id = rustix::process::getuid().as_raw();
                let folder =
                    std::env::var_os("TMUX_TMPDIR").map_or_else(|| PathBuf::from("/tmp"), PathBuf::from);
                let _ = std::fs::remove_file(folder.join(format!("tmux-{id}")).join(socket));
            }
            Kind::Script { child, .. } => {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

/// A word for a shell's command line.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', r"'\''"))
}
