//! Whether git would commit a file. Git itself is asked, because only git knows all its ways to ignore a file;
//! where it cannot be asked, that is said.

use std::{
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// What git says of some files in one folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// No work tree, or every file is ignored.
    Safe,
    /// These would be committed by `git add`, or are tracked already.
    Commits(Vec<String>),
    /// They lie in a work tree, and git did not answer.
    Unknown,
}

impl Verdict {
    /// A sentence for the human and for the answer.
    #[must_use]
    pub fn warning(&self) -> Option<String> {
        match self {
            Self::Safe => None,
            Self::Commits(names) => Some(format!(
                "git does not ignore {}: a commit could carry the values. Add it to .gitignore.",
                names.join(" and ")
            )),
            Self::Unknown => {
                Some("The file lies in a git work tree; whether git ignores it could not be told.".to_owned())
            }
        }
    }
}

/// How long git may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Asks git about a file and the backups that would be made of it.
pub async fn ask(path: PathBuf) -> Verdict {
    tokio::task::spawn_blocking(move || ask_about(&path)).await.unwrap_or(Verdict::Unknown)
}

fn ask_about(path: &Path) -> Verdict {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else {
        return Verdict::Unknown;
    };
    if !folder.ancestors().any(|above| above.join(".git").symlink_metadata().is_ok()) {
        return Verdict::Safe;
    }
    let backup = format!("{name}.20000101-000000.bak");
    match check_ignore(folder, &[name, &backup]) {
        Some(ignored) => {
            let mut left = Vec::new();
            if !ignored.iter().any(|known| known == name) {
                left.push(crate::names::shown(name, 120));
            }
            if !ignored.contains(&backup) {
                left.push("its backups (*.bak)".to_owned());
            }
            if left.is_empty() { Verdict::Safe } else { Verdict::Commits(left) }
        }
        None => Verdict::Unknown,
    }
}

/// Those of the names that git ignores; `None` when it did not say.
fn check_ignore(folder: &Path, names: &[&str]) -> Option<Vec<String>> {
    let mut command = Command::new(program()?);
    // A repository's own settings may name programs for git to run. None of them is needed here.
    command.args(["-c", "core.fsmonitor=false", "-c", "core.hooksPath=/dev/null", "--no-pager"]);
    command.args(["check-ignore", "-z", "--stdin"]).current_dir(folder).env_clear();
    for kept in ["HOME", "XDG_CONFIG_HOME"] {
        if let Some(value) = std::env::var_os(kept) {
            command.env(kept, value);
        }
    }
    command.envs([("LC_ALL", "C"), ("GIT_OPTIONAL_LOCKS", "0"), ("GIT_NO_LAZY_FETCH", "1")]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().ok()?;
    // Two names fit into any pipe; so does the answer, which is read after the end.
    let written = child.stdin.take().map(|mut input| input.write_all(names.join("\0").as_bytes()));
    let start = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if start.elapsed() < PATIENCE => std::thread::sleep(Duration::from_millis(2)),
            _ => {
                let _ = child.kill();
                let _ = child.wait();
                return None;
            }
        }
    };
    written?.ok()?;
    let mut said = String::new();
    child.stdout.take()?.take(1 << 16).read_to_string(&mut said).ok()?;
    match status.code() {
        Some(0 | 1) => Some(said.split('\0').filter(|name| !name.is_empty()).map(str::to_owned).collect()),
        _ => None,
    }
}

/// Git where systems have it, else the first absolute entry of PATH that holds one: a relative one would be the
/// working folder's.
fn program() -> Option<PathBuf> {
    let usual = ["/usr/bin", "/usr/local/bin", "/bin", "/opt/homebrew/bin"].map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    usual
        .into_iter()
        .chain(std::env::split_paths(&path))
        .filter(|folder| folder.is_absolute())
        .map(|folder| folder.join("git"))
        .find(|program| program.is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn git_is_asked_about_the_file_and_its_backups() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(".env");
        assert_eq!(ask_about(&path), Verdict::Safe, "no work tree");
        let git = |arguments: &[&str]| {
            let done = Command::new(program().expect("the tests need git"))
                .args(arguments)
                .current_dir(root.path())
                .env("HOME", root.path())
                .output()
                .unwrap();
            assert!(done.status.success(), "{arguments:?}");
        };
        git(&["init", "-q"]);
        let backups = || "its backups (*.bak)".to_owned();
        assert_eq!(ask_about(&path), Verdict::Commits(vec![".env".into(), backups()]));
        std::fs::write(root.path().join(".gitignore"), ".env\n").unwrap();
        assert_eq!(ask_about(&path), Verdict::Commits(vec![backups()]));
        std::fs::write(root.path().join(".gitignore"), ".env\n*.bak\n").unwrap();
        assert_eq!(ask_about(&path), Verdict::Safe);
        std::fs::write(&path, "").unwrap();
        git(&["add", "-f", ".env"]);
        assert_eq!(ask_about(&path), Verdict::Commits(vec![".env".into()]), "tracked although ignored");
    }

    #[test]
    fn a_repository_that_git_refuses_is_said_to_be_unknown_and_runs_nothing() {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join(".git")).unwrap();
        assert_eq!(ask_about(&root.path().join(".env")), Verdict::Unknown);
        std::fs::remove_dir(root.path().join(".git")).unwrap();
        let program = program().unwrap();
        let done = Command::new(&program).args(["init", "-q"]).current_dir(root.path()).output().unwrap();
        assert!(done.status.success());
        let trap = root.path().join("trap");
        let config = format!("[core]\n\tfsmonitor = \"touch {}\"\n", trap.display());
        std::fs::write(root.path().join(".git/config"), config).unwrap();
        std::fs::write(root.path().join("a"), "").unwrap();
        ask_about(&root.path().join("a"));
        assert!(!trap.exists());
        // The trap is a real one.
        let _ = Command::new(&program).args(["status"]).current_dir(root.path()).output().unwrap();
        assert!(trap.exists(), "this git has no such trap, so the test shows nothing");
    }
}
