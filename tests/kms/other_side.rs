//! `aws.py` in a Python that has moto: one for the test binary.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    sync::{Mutex, OnceLock},
};

use serde_json::{Value, json};

pub(crate) const REGION: &str = "eu-west-1";

pub(crate) struct OtherSide {
    /// Where moto listens.
    pub address: String,
    wires: Mutex<(ChildStdin, BufReader<ChildStdout>)>,
    _child: Child,
}

/// `None` where no Python can be had that has moto. With CI=true that fails the test.
pub(crate) fn other_side() -> Option<&'static OtherSide> {
    static SHARED: OnceLock<Result<OtherSide, String>> = OnceLock::new();
    match SHARED.get_or_init(start) {
        Ok(found) => Some(found),
        Err(why) => {
            let ci = std::env::var("CI").is_ok_and(|text| text == "true" || text == "1");
            assert!(!ci, "no moto: {why}");
            eprintln!("left out: {} (no moto: {why})", std::thread::current().name().unwrap_or_default());
            None
        }
    }
}

fn start() -> Result<OtherSide, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/kms");
    let python = python(&folder.join("requirements.txt"))?;
    let mut child = Command::new(&python)
        .arg("-B")
        .arg(folder.join("aws.py"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|error| format!("{} does not start: {error}", python.display()))?;
    let stdin = child.stdin.take().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).map_err(|error| error.to_string())?;
    if !line.starts_with("http://127.0.0.1:") {
        return Err(format!("{} with {} ended", python.display(), folder.join("aws.py").display()));
    }
    Ok(OtherSide { address: line.trim().to_owned(), wires: Mutex::new((stdin, stdout)), _child: child })
}

/// The Python that `VAULT_MCP_TEST_MOTO_PYTHON` names, else a virtual environment below `target/`, made once.
fn python(requirements: &Path) -> Result<PathBuf, String> {
    if let Some(given) = std::env::var_os("VAULT_MCP_TEST_MOTO_PYTHON").filter(|path| !path.is_empty()) {
        return Ok(given.into());
    }
    let wanted = std::fs::read(requirements).map_err(|error| error.to_string())?;
    let id = wanted.iter().fold(0u32, |sum, byte| sum.wrapping_mul(31).wrapping_add(u32::from(*byte)));
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("moto-{id:08x}"));
    let (python, whole) = (folder.join("bin/python"), folder.join("whole"));
    if whole.exists() {
        return Ok(python);
    }
    let run = |command: &mut Command, what: &str| {
        let done = command.stdin(Stdio::null()).output().map_err(|error| format!("{what}: {error}"))?;
        if done.status.success() { Ok(()) } else { Err(format!("{what} fails")) }
    };
    run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder), "python3 -m venv")?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"]).arg(requirements);
    run(&mut pip, "pip install")?;
    std::fs::write(whole, "").map_err(|error| error.to_string())?;
    Ok(python)
}

impl OtherSide {
    /// Has the other side do something; an AWS error is `{"error": code}`.
    #[track_caller]
    pub(crate) fn ask(&self, wanted: Value) -> Value {
        // A test that failed in here left nothing half said.
        let mut wires = self.wires.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let (stdin, stdout) = &mut *wires;
        writeln!(stdin, "{wanted}").and_then(|()| stdin.flush()).expect("the other side ended");
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|_| panic!("the other side ended at {wanted}"))
    }

    /// Id and ARN of a new key for encryption.
    pub(crate) fn key(&self) -> (String, String) {
        self.pair(json!({"do": "create_key"}))
    }

    /// The same, for signatures.
    pub(crate) fn signing_key(&self, spec: &str) -> (String, String) {
        self.pair(json!({"do": "create_key", "spec": spec, "usage": "SIGN_VERIFY"}))
    }

    fn pair(&self, wanted: Value) -> (String, String) {
        let made = self.ask(wanted);
        let text = |name: &str| made[name].as_str().unwrap_or_else(|| panic!("{made}")).to_owned();
        (text("id"), text("arn"))
    }
}
