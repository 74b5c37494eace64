//! The folders that a client names for files (MCP roots), and what they do not make possible.

use std::{
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::{Scene, mode};
use crate::common::{Answer, Era, Home, McpClient, Proxy, assert_refused, assert_untouched, canary, vault};

fn era() -> Era {
    Era::usual().with(json!({"elicitation": {"form": {}}, "roots": {"listChanged": true}}))
}

fn uri(path: &Path) -> String {
    format!("file://{}", path.display())
}

fn list(folders: &[PathBuf]) -> Value {
    json!({"roots": folders.iter().map(|path| json!({"uri": uri(path)})).collect::<Vec<_>>()})
}

/// A session of a client that has these folders open, which the test may change; and how often it was asked.
struct Open {
    scene: Scene,
    folders: Arc<Mutex<Option<Value>>>,
    count: Arc<AtomicUsize>,
}

impl Open {
    fn new(folders: impl FnOnce(&Home) -> Option<Value>) -> Self {
        Self::with(&[], era(), folders)
    }

    fn with(settings: &[(&str, &str)], era: Era, folders: impl FnOnce(&Home) -> Option<Value>) -> Self {
        let (subject, home) = (vault().fresh_subject(), Home::new());
        let folders = Arc::new(Mutex::new(folders(&home)));
        let client = Scene::connect(&subject, &home, settings, era);
        let count = Arc::new(AtomicUsize::new(0));
        let (answer, counter) = (folders.clone(), count.clone());
        client.folders(move || {
            counter.fetch_add(1, Ordering::Relaxed);
            answer.lock().unwrap().clone()
        });
        let scene = Scene { subject, client, home };
        scene.secret(json!({"A": "1"}));
        Self { scene, folders, count }
    }

    fn client(&self) -> &McpClient {
        &self.scene.client
    }

    fn asked(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    fn change(&self, folders: Value) {
        *self.folders.lock().unwrap() = Some(folders);
        self.client().notify("notifications/roots/list_changed", json!({}));
    }

    fn inject(&self, target: &str) -> crate::common::ToolResult {
        self.client().call("vault_inject", json!({"service": "shop", "target": target, "format": "env"}))
    }
}

/// A folder of the home, made.
fn folder(home: &Home, name: &str) -> PathBuf {
    let path = home.path().canonicalize().unwrap().join(name);
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn the_clients_folders_are_asked_for_when_a_file_is_needed_and_again_when_they_change() {
    let open = Open::new(|home| Some(list(&[folder(home, "first"), folder(home, "second")])));
    let (first, second) = (folder(&open.scene.home, "first"), folder(&open.scene.home, "second"));
    open.client().call("vault_get", json!({"service": "shop"})).ok();
    open.client().call("kv_write", json!({"path": "x", "data": {"A": "1"}})).ok();
    assert_eq!(open.asked(), 0, "asked for folders that nothing needed");

    // A relative name begins at the first.
    std::fs::write(first.join("in.env"), "A=1\nB=2\n").unwrap();
    let scanned = open.client().call("vault_scan_env", json!({"service": "shop", "file_path": "in.env"}));
    assert_eq!(scanned.ok()["entries"][0]["vault"], "same");
    let written = open.inject(".env");
    assert_eq!(written.ok()["file"], first.join(".env").display().to_string());
    assert_eq!(std::fs::read_to_string(first.join(".env")).unwrap(), "A='1'\n");
    assert_eq!(mode(first.join(".env")), 0o600);
    let line = format!("\n  folder: {}", first.display());
    assert!(open.scene.question().contains(&line), "{}", open.scene.question());
    open.inject(second.join(".env").to_str().unwrap()).ok();
    assert_eq!(std::fs::read_to_string(second.join(".env")).unwrap(), "A='1'\n");
    assert_eq!(open.asked(), 1);
    // The working folder is not among them.
    let work = open.scene.home.work().canonicalize().unwrap();
    assert_refused(&open.inject(work.join(".env").to_str().unwrap()), "file_refused");

    open.change(list(std::slice::from_ref(&second)));
    let call = json!({"service": "shop", "file_path": ".env", "output_path": "made.env"});
    open.client().call("vault_generate_example", call).ok();
    assert_eq!(mode(second.join("made.env")), 0o600);
    assert_refused(&open.inject(first.join("other.env").to_str().unwrap()), "file_refused");
    assert_eq!((open.asked(), open.scene.names()), (2, Vec::<String>::new()));
}

#[test]
fn a_client_without_an_answer_leaves_the_working_folder_and_holds_nothing_up() {
    for (answer, asked) in [
        (None, 1),
        (Some(json!({"roots": []})), 1),
        (Some(json!({"folders": []})), 1),
        (Some(json!({"roots": [{"name": "no uri"}]})), 1),
    ] {
        let shown = format!("{answer:?}");
        let open = Open::new(|_| answer);
        let start = Instant::now();
        open.inject("a.env").ok();
        assert!(start.elapsed() < Duration::from_secs(30), "{shown}");
        open.inject("b.env").ok();
        assert_eq!(open.scene.names(), ["a.env", "b.env"], "{shown}");
        assert_eq!(open.asked(), asked, "{shown}");
    }
    // One that says no.
    let scene = Scene::of(&[], era());
    scene.secret(json!({"A": "1"}));
    scene.client.call("vault_inject", json!({"service": "shop"})).ok();
    assert_eq!(scene.names(), [".env"]);
}

#[test]
fn only_a_client_that_has_folders_is_asked_and_none_without_a_handshake() {
    let roots = json!({"elicitation": {"form": {}}, "roots": {}});
    for era in [Era::usual(), Era::stateless(), Era::stateless().with(roots)] {
        let open = Open::with(&[], era, |home| Some(list(&[folder(home, "first")])));
        open.inject(".env").ok();
        assert_eq!((open.asked(), open.scene.names()), (0, vec![".env".to_owned()]));
    }
}

#[test]
fn a_folder_that_is_none_of_a_users_is_no_root_whoever_names_it() {
    let proxy = Proxy::new(vault());
    let elsewhere = tempfile::Builder::new().prefix("vm").tempdir().unwrap();
    let base = elsewhere.path().canonicalize().unwrap();
    for name in [".ssh", "project/.git/hooks", ".config/app"] {
        std::fs::create_dir_all(base.join(name)).unwrap();
    }
    symlink("/etc", base.join("system")).unwrap();
    symlink(base.join(".ssh"), base.join("keys")).unwrap();
    symlink("/", base.join("all")).unwrap();
    let here = uri(&base);
    let uris = [
        "file:///".to_owned(),
        "file:///etc".to_owned(),
        "file:///proc/self/cwd".to_owned(),
        "file:///%65tc".to_owned(),
        format!("{here}/.ssh"),
        format!("{here}/%2Essh"),
        format!("{here}/project/.git/hooks"),
        format!("{here}/project/.git"),
        format!("{here}/.config/app"),
        format!("{here}/project/../.ssh"),
        format!("{here}/project%2F..%2F.ssh"),
        format!("{here}/system"),
        format!("{here}/keys"),
        format!("{here}/all"),
        base.join("project").display().to_string(),
        "file://example.com/srv".to_owned(),
        "https://example.com/".to_owned(),
        "project".to_owned(),
        "~".to_owned(),
    ];
    let open = Open::with(&[("VAULT_ADDR", &proxy.address)], era(), |_| None);
    for uri in &uris {
        open.change(json!({"roots": [{"uri": uri, "name": "project"}]}));
        for name in ["x.env", "authorized_keys.env"] {
            let result = assert_untouched(&proxy, || open.inject(name));
            assert_refused(&result, "file_refused");
        }
    }
    assert_eq!(open.asked(), uris.len());
    assert!(open.client().asked().is_empty(), "a human was asked about a file that is refused");
    assert_eq!(open.scene.names(), Vec::<String>::new(), "the working folder stood in for what was refused");
    for name in [".ssh", "project/.git/hooks", ".config/app"] {
        assert_eq!(std::fs::read_dir(base.join(name)).unwrap().count(), 0, "{name}");
    }
    // What is none does not take along what is one.
    open.change(json!({"roots": [{"uri": "file:///etc"}, {"uri": format!("{here}/project")}]}));
    open.inject("x.env").ok();
    assert!(base.join("project/x.env").exists());
}

#[test]
fn within_a_clients_folder_the_rules_for_places_hold() {
    let open = Open::new(|home| Some(list(&[home.path().to_owned()])));
    let home = open.scene.home.path().canonicalize().unwrap();
    let elsewhere = tempfile::Builder::new().prefix("vm").tempdir().unwrap();
    for name in [".ssh", "project/.git/hooks", ".config"] {
        std::fs::create_dir_all(home.join(name)).unwrap();
    }
    symlink(elsewhere.path(), home.join("link")).unwrap();
    for name in [
        ".ssh/x.env",
        ".config/x.env",
        "project/.git/hooks/x.env",
        "project/x.env",
        "link/x.env",
        ".bashrc",
        "../x.env",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain(["/etc/x.env".to_owned(), elsewhere.path().join("x.env").display().to_string()])
    .chain([".ssh/x.env", "link/x.env"].map(|name| home.join(name).display().to_string()))
    {
        assert_refused(&open.inject(&name), "file_refused");
    }
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 0);
    assert!(open.client().asked().is_empty());
    open.inject("work/x.env").ok();

    // A folder that is a link is the folder behind it, under either name.
    symlink(home.join("work"), home.join("named")).unwrap();
    open.change(list(&[home.join("named")]));
    for (target, file) in [(home.join("named/y.env"), "y.env"), (home.join("work/z.env"), "z.env")] {
        let written = open.inject(target.to_str().unwrap());
        assert_eq!(written.ok()["file"], home.join("work").join(file).display().to_string());
    }
    // The system's folders below a folder that is none.
    open.change(json!({"roots": [{"uri": "file:///var"}]}));
    assert_refused(&open.inject("spool/x.env"), "file_refused");
}

#[test]
fn folders_that_change_while_the_human_thinks_do_not_move_what_was_agreed_to() {
    let open = Open::new(|home| Some(list(&[folder(home, "first")])));
    let (first, second) = (folder(&open.scene.home, "first"), folder(&open.scene.home, "second"));
    let (folders, now, shown) =
        (open.folders.clone(), list(std::slice::from_ref(&second)), Arc::new(Mutex::new(String::new())));
    let (say, input) = (shown.clone(), open.client().server().writer());
    open.client().human(move |question| {
        use std::io::Write as _;
        *say.lock().unwrap() = question["message"].as_str().unwrap().to_owned();
        *folders.lock().unwrap() = Some(now.clone());
        let changed = json!({"jsonrpc": "2.0", "method": "notifications/roots/list_changed"});
        input.lock().unwrap().write_all(format!("{changed}\n").as_bytes()).unwrap();
        Answer::After(Duration::from_millis(300), Box::new(Answer::yes()))
    });
    open.inject("x.env").ok();
    assert!(shown.lock().unwrap().contains(&first.display().to_string()));
    assert!(first.join("x.env").exists() && !second.join("x.env").exists());
    open.client().always(Answer::yes());
    open.inject("y.env").ok();
    assert!(second.join("y.env").exists());
}

#[test]
fn a_call_that_is_cancelled_while_the_client_thinks_says_nothing_of_its_folders() {
    let open = Open::new(|_| None);
    let secret = canary("cancelled");
    open.scene.secret(json!({"A": secret}));
    let call = open.client().start_call("vault_inject", json!({"service": "shop"}));
    crate::common::wait_until("the question for folders", crate::common::PATIENCE, || {
        (open.asked() == 1).then_some(())
    });
    open.client().notify("notifications/cancelled", json!({"requestId": call.id}));
    *open.folders.lock().unwrap() = Some(list(&[folder(&open.scene.home, "first")]));
    open.inject("x.env").ok();
    assert!(folder(&open.scene.home, "first").join("x.env").exists());
    assert_eq!((open.asked(), open.scene.names()), (2, Vec::<String>::new()));
}
