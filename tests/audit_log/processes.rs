//! Several processes share one log, and a kill at any time leaves one that verifies.
//!
//! A child is this test program again, told by its environment what to do.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use vault_mcp::audit::{Audit, AuditError, Fsync, Settings, VerifyOptions, verify};

use crate::common::{Home, call};

const ROLE: &str = "AUDIT_TEST_ROLE";
const LOG: &str = "AUDIT_TEST_LOG";
const MAX: &str = "AUDIT_TEST_MAX_BYTES";
const KEEP: &str = "AUDIT_TEST_KEEP";
const NOBODY: u32 = 65_534;

/// A child to be started.
pub(crate) struct Child {
    command: Command,
    home: std::path::PathBuf,
    program: Option<tempfile::TempDir>,
}

pub(crate) fn child(role: &str, home: &Home) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "processes::the_child", "--nocapture", "--test-threads=1"]);
    Child { command, home: home.dir.path().to_owned(), program: None }
        .with(ROLE, role)
        .with(LOG, home.path.to_str().unwrap())
}

impl Child {
    fn with(mut self, name: &str, value: &str) -> Self {
        self.command.env(name, value);
        self
    }

    /// Runs as a user whom permissions stop: another than root, who gets the log's folder.
    pub(crate) fn unprivileged(mut self) -> Self {
        if !rustix::process::geteuid().is_root() {
            return self;
        }
        // The program may lie where that user cannot reach it.
        let place = tempfile::tempdir().unwrap();
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o755)).unwrap();
        let program = place.path().join("child");
        // By another process: a program that this one had open to write could be held open by a child that a
        // test beside this one is starting, and then it does not run.
        let copied = Command::new("cp").arg(std::env::current_exe().unwrap()).arg(&program).status().unwrap();
        assert!(copied.success());
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        chown(&self.home, Some(NOBODY), Some(NOBODY)).unwrap();
        for entry in fs::read_dir(&self.home).unwrap() {
            chown(entry.unwrap().path(), Some(NOBODY), Some(NOBODY)).unwrap();
        }
        let mut command = Command::new(program);
        command.args(self.command.get_args()).uid(NOBODY).gid(NOBODY).current_dir("/");
        for (name, value) in self.command.get_envs() {
            command.env(name, value.unwrap());
        }
        self.command = command;
        self.program = Some(place);
        self
    }

    /// Runs with a limit on the size of files, in blocks of 512 bytes.
    pub(crate) fn file_limit(mut self, blocks: u64) -> Self {
        let mut command = Command::new("sh");
        // Without the trap the limit would be a signal and not an error.
        command.args(["-c", &format!("trap '' XFSZ; ulimit -f {blocks}; exec \"$0\" \"$@\"")]);
        command.arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            command.env(name, value.unwrap());
        }
        self.command = command;
        self
    }

    fn spawn(mut self) -> std::process::Child {
        self.command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// Runs it to its end, and gives the code of the error that it ended in.
    pub(crate) fn code(mut self) -> String {
        let output = self.command.stderr(Stdio::piped()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let code = text.lines().find_map(|line| line.split_once("CODE=")).map(|(_, code)| code.to_owned());
        code.unwrap_or_else(|| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// Not a test by itself: what a child does.
#[test]
fn the_child() {
    let (Ok(role), Ok(path)) = (std::env::var(ROLE), std::env::var(LOG)) else { return };
    let max_bytes = std::env::var(MAX).map_or(u64::MAX, |max| max.parse().unwrap());
    let keep = std::env::var(KEEP).ok().map(|keep| keep.parse().unwrap());
    let settings = Settings { fsync: Fsync::Never, max_bytes, keep, ..Settings::new(path) };
    let name = std::process::id();
    let work = || -> Result<(), AuditError> {
        if role == "reopen" {
            for number in 0..60 {
                call(&Audit::open(settings.clone())?, &format!("{name}-{number}"))?;
            }
            return Ok(());
        }
        let log = Audit::open(settings)?;
        let calls = match role.as_str() {
            "open" => 0,
            "write" => 250,
            "fill" | "for-ever" => u64::MAX,
            other => panic!("{other}"),
        };
        for number in 0..calls {
            call(&log, &format!("{name}-{number}"))?;
        }
        Ok(())
    };
    let code = work().map_or_else(|error| error.code(), |()| "none");
    println!("\nCODE={code}");
}

#[test]
fn eight_processes_write_one_valid_chain_through_rotations() {
    let home = Home::new();
    // None of them finds a log: one begins it, the others wait.
    let children: Vec<_> = (0..8)
        .map(|_| child("write", &home).with(MAX, "60000"))
        .map(|child| thread::spawn(move || child.code()))
        .collect();
    for child in children {
        assert_eq!(child.join().unwrap(), "none");
    }
    let report = home.verify();
    assert!(report.is_sound(), "{:?}", report.problems);
    assert!(report.segments > 10, "{}", report.segments);
    let own = report.records - 8 * 250 * 2;
    assert!((report.segments as u64..500).contains(&own), "{own}");
    assert!(!report.notes.iter().any(|note| note.contains("no answer")), "{:?}", report.notes);
}

#[test]
fn processes_that_come_and_go_share_a_log_that_rotates_all_the_time() {
    let home = Home::new();
    let start = |keep: Option<&str>| {
        let child = child("reopen", &home).with(MAX, "3000");
        let child = keep.into_iter().fold(child, |child, keep| child.with(KEEP, keep));
        thread::spawn(move || child.code())
    };
    for keep in [None, Some("3"), Some("0")] {
        let children: Vec<_> = (0..4).map(|_| start(keep)).collect();
        // Whoever looks meanwhile sees a sound log.
        while children.iter().any(|child| !child.is_finished()) {
            match verify(&home.path, &VerifyOptions::default()) {
                Ok(report) => assert_eq!(report.problems, [], "{keep:?}"),
                // Before the first record, or a segment that retention dropped while it was to be read.
                Err(error) => assert!(matches!(error.code(), "audit_not_found"), "{keep:?}: {error}"),
            }
        }
        for child in children {
            assert_eq!(child.join().unwrap(), "none", "{keep:?}");
        }
        let report = home.verify();
        assert_eq!(report.problems, [], "{keep:?}");
        let (seq, _) = report.last.unwrap();
        assert!(seq > 4 * 60 * 2, "{seq}");
    }
    assert!(!home.names().iter().any(|name| name.starts_with("audit.0")), "{:?}", home.names());
}

/// Bytes in all files of the log's folder.
fn size(home: &Home) -> u64 {
    let length = |name: String| fs::metadata(home.file(&name)).map_or(0, |file| file.len());
    home.names().into_iter().map(length).sum()
}

#[test]
fn killed_writers_leave_a_log_that_can_be_written_and_verified() {
    let home = Home::new();
    let start = Instant::now();
    let mut killed = 0;
    while killed < 40 {
        let begun = size(&home);
        let mut writers: Vec<_> =
            (0..2).map(|_| child("for-ever", &home).with(MAX, "20000").spawn()).collect();
        // In the midst of their work, and at another moment each time.
        while size(&home) < begun + 30_000 {
            assert!(start.elapsed() < Duration::from_secs(300), "they write nothing");
            thread::sleep(Duration::from_millis(2));
        }
        thread::sleep(Duration::from_millis((killed * 7) % 50));
        for writer in &mut writers {
            // SIGKILL.
            writer.kill().unwrap();
            writer.wait().unwrap();
            killed += 1;
        }
        call(&home.open(), &format!("after-{killed}")).unwrap();
    }
    let report = home.verify();
    assert!(report.is_sound(), "{:?}", report.problems);
    assert!(report.records > 1_000, "{}", report.records);
    println!("{} records in {} segments after {killed} kills", report.records, report.segments);
}
