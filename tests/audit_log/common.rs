//! A log in a folder of its own, and what the tests do with it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tempfile::TempDir;
use vault_mcp::audit::{
    Action, Approval, Audit, AuditError, Event, Fault, Fsync, Recorded, Report, Settings, VerifyOptions,
    verify,
};

/// A folder for one log.
pub(crate) struct Home {
    pub(crate) dir: TempDir,
    pub(crate) path: PathBuf,
}

impl Home {
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let path = dir.path().join("audit.jsonl");
        Self { dir, path }
    }

    /// Nothing is forced to disk: the tests kill processes, not machines.
    pub(crate) fn settings(&self) -> Settings {
        Settings { fsync: Fsync::Never, ..Settings::new(&self.path) }
    }

    pub(crate) fn open(&self) -> Audit {
        Audit::open(self.settings()).unwrap()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        fs::read(&self.path).unwrap()
    }

    pub(crate) fn lines(&self) -> Vec<String> {
        fs::read_to_string(&self.path).unwrap().lines().map(str::to_owned).collect()
    }

    pub(crate) fn put_lines<S: AsRef<str>>(&self, lines: &[S]) {
        let text: String = lines.iter().map(|line| format!("{}\n", line.as_ref())).collect();
        fs::write(&self.path, text).unwrap();
    }

    pub(crate) fn verify(&self) -> Report {
        verify(&self.path, &VerifyOptions::default()).unwrap()
    }

    pub(crate) fn faults(&self) -> Vec<Fault> {
        self.verify().problems.iter().map(|problem| problem.fault).collect()
    }

    /// Names of all files in the folder.
    pub(crate) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(self.dir.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

pub(crate) fn event<'a>(action: Action, id: &'a str) -> Event<'a> {
    Event {
        action,
        id,
        subject: "alice",
        front: "stdio",
        client: Some("test 1.0"),
        op: "kv.read",
        effect: "read",
        target: "secret/mcp/alice/app",
        keys: &[],
        outcome: None,
        code: None,
        vault_request_id: None,
        approval: None,
        durable: false,
    }
}

pub(crate) fn confirmed<'a>(id: &'a str, ticket: &'a str) -> Event<'a> {
    Event { approval: Some(Approval { channel: "client", ticket }), ..event(Action::Confirmed, id) }
}

/// A call: request and answer.
pub(crate) fn call(log: &Audit, id: &str) -> Result<Recorded, AuditError> {
    log.record(&event(Action::Request, id))?;
    log.record(&event(Action::Success, id))
}

/// A log with so many calls, closed with a checkpoint.
pub(crate) fn written(calls: usize) -> Home {
    let home = Home::new();
    let log = home.open();
    for number in 0..calls {
        call(&log, &format!("call-{number}")).unwrap();
    }
    drop(log);
    assert_eq!(home.verify().problems, []);
    home
}

/// A log in segments of about six records, with so many calls.
pub(crate) fn rotated(calls: usize) -> Home {
    let home = Home::new();
    let log = Audit::open(Settings { max_bytes: 3_000, ..home.settings() }).unwrap();
    for number in 0..calls {
        call(&log, &format!("call-{number}")).unwrap();
    }
    drop(log);
    assert_eq!(home.verify().problems, []);
    home
}

pub(crate) fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// The code of the error that opening or recording ends in.
pub(crate) fn refusal(settings: Settings) -> &'static str {
    match Audit::open(settings).and_then(|log| log.record(&event(Action::Request, "r"))) {
        Ok(recorded) => panic!("recorded {recorded:?}"),
        Err(error) => error.code(),
    }
}
