//! Places where no file is written or read, whoever asks.

use std::os::unix::fs::symlink;

use serde_json::json;

use super::Scene;
use crate::common::{
    Answer, Era, Home, Proxy, Server, Terminal, ToolResult, assert_refused, assert_untouched, canary, vault,
};

/// Names that lead out of the working folder, behind a link, or where other programs look.
fn forbidden(scene: &Scene, elsewhere: &std::path::Path) -> Vec<String> {
    symlink(elsewhere, scene.path("link")).unwrap();
    symlink(elsewhere.join("victim"), scene.path("target.env")).unwrap();
    symlink(elsewhere.join("nothing"), scene.path("dangling.env")).unwrap();
    for folder in ["inside/deep", ".git/hooks", ".ssh", ".github", "other/.git", "worktree"] {
        std::fs::create_dir_all(scene.path(folder)).unwrap();
    }
    std::fs::write(scene.path("worktree/.git"), "gitdir: elsewhere").unwrap();
    symlink("deep", scene.path("inside/link")).unwrap();
    std::fs::create_dir(scene.path("folder.env")).unwrap();
    let fifo = std::process::Command::new("mkfifo").arg(scene.path("fifo.env")).status().unwrap();
    assert!(fifo.success());
    let home = scene.home.path().display();
    [
        "link/x.env",
        "link/victim",
        "target.env",
        "dangling.env",
        "inside/link/x.env",
        "../x.env",
        "inside/../../x.env",
        "inside/../x.env",
        "./x.env",
        "/etc/x.env",
        "/etc/passwd",
        "~/.ssh/x.env",
        ".ssh/authorized_keys",
        ".git/hooks/pre-commit",
        ".git/config",
        ".github/x.env",
        ".bashrc",
        ".envrc",
        "other/x.env",
        "worktree/x.env",
        "folder.env",
        "fifo.env",
        "/proc/self/environ",
        "/dev/stdin",
    ]
    .iter()
    .map(|name| (*name).to_owned())
    .chain([
        format!("{home}/.ssh/x.env"),
        format!("{home}/x.env"),
        elsewhere.join("x.env").display().to_string(),
    ])
    .collect()
}

#[test]
fn no_file_is_written_or_read_outside_the_working_folder_or_through_a_link() {
    let proxy = Proxy::new(vault());
    let scene = Scene::with(&[("VAULT_ADDR", &proxy.address)]);
    let secret = canary("attack");
    scene.secret(json!({"A": secret}));
    let elsewhere = tempfile::tempdir().unwrap();
    let victim = elsewhere.path().join("victim");
    std::fs::write(&victim, "A=untouched\n").unwrap();
    let names = forbidden(&scene, elsewhere.path());
    let count = walk(scene.home.path());
    for name in &names {
        for format in ["env", "yaml"] {
            let call = json!({"service": "shop", "target": name, "format": format});
            let result = assert_untouched(&proxy, || scene.client.call("vault_inject", call));
            assert_refused(&result, "file_refused");
        }
        let call = json!({"service": "shop", "target": "new.env", "format": "env", "template": name});
        let result = assert_untouched(&proxy, || scene.client.call("vault_inject", call));
        assert_refused(&result, "file_unreadable");
        for tool in ["vault_scan_env", "vault_scan_compose"] {
            let call = json!({"service": "shop", "file_path": name});
            let result = assert_untouched(&proxy, || scene.client.call(tool, call));
            assert_refused(&result, "file_unreadable");
        }
        let call = json!({"service": "shop", "file_path": name, "format": "env"});
        let result = assert_untouched(&proxy, || scene.client.call("vault_generate_example", call));
        assert_refused(&result, "file_unreadable");
    }
    scene.write("plain.env", "A=1\n");
    for name in names {
        let call = json!({"service": "shop", "file_path": "plain.env", "output_path": name});
        assert_refused(&scene.client.call("vault_generate_example", call), "file_refused");
    }
    assert!(scene.client.asked().is_empty(), "a human was asked about a file that is refused");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "A=untouched\n");
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 1);
    assert_eq!(walk(scene.home.path()), count + 1, "a file was made");
    scene.records();
}

/// How many things lie below a folder of work.
fn walk(folder: &std::path::Path) -> usize {
    let entries = std::fs::read_dir(folder.join("work")).unwrap();
    fn count(path: &std::path::Path) -> usize {
        let is_folder = path.symlink_metadata().is_ok_and(|data| data.is_dir());
        let below =
            || std::fs::read_dir(path).unwrap().map(|entry| count(&entry.unwrap().path())).sum::<usize>();
        1 + if is_folder { below() } else { 0 }
    }
    entries.map(|entry| count(&entry.unwrap().path())).sum()
}

#[test]
fn a_target_that_is_swapped_for_a_link_while_the_human_thinks_is_refused() {
    let scene = Scene::new();
    scene.secret(json!({"A": canary("swap")}));
    let elsewhere = tempfile::tempdir().unwrap();
    let victim = elsewhere.path().join("victim");
    std::fs::write(&victim, "untouched").unwrap();
    scene.write(".env", "B=1\n");
    let (path, link) = (scene.path(".env"), victim.clone());
    scene.client.human(move |_| {
        let _ = std::fs::remove_file(&path);
        let _ = symlink(&link, &path);
        Answer::yes()
    });
    assert_refused(&scene.client.call("vault_inject", json!({"service": "shop"})), "file_refused");
    std::fs::create_dir(scene.path("sub")).unwrap();
    let (sub, outside) = (scene.path("sub"), elsewhere.path().to_owned());
    scene.client.human(move |_| {
        std::fs::remove_dir(&sub).unwrap();
        symlink(&outside, &sub).unwrap();
        Answer::yes()
    });
    let call = json!({"service": "shop", "target": "sub/.env"});
    assert_refused(&scene.client.call("vault_inject", call), "file_refused");
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

#[test]
fn files_swapped_for_links_all_the_time_lead_nowhere_else() {
    let scene = Scene::new();
    let secret = canary("race");
    scene.secret(json!({"A": secret}));
    let elsewhere = tempfile::tempdir().unwrap();
    std::fs::write(elsewhere.path().join("victim"), "untouched").unwrap();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let swapper = {
        let (stop, work, outside) = (stop.clone(), scene.home.work(), elsewhere.path().to_owned());
        std::thread::spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let _ = std::fs::remove_file(work.join("x.env"));
                let _ = symlink(outside.join("victim"), work.join("x.env"));
                let _ = std::fs::remove_file(work.join("sub"));
                let _ = std::fs::create_dir(work.join("sub"));
                let _ = std::fs::remove_file(work.join("x.env"));
                let _ = std::fs::write(work.join("x.env"), "B=1\n");
                let _ = std::fs::remove_dir_all(work.join("sub"));
                let _ = symlink(&outside, work.join("sub"));
            }
        })
    };
    let mut refused = 0;
    for round in 0..60 {
        let target = if round % 2 == 0 { "x.env" } else { "sub/y.env" };
        let result = scene.client.call("vault_inject", json!({"service": "shop", "target": target}));
        refused += usize::from(result.is_error());
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    swapper.join().unwrap();
    assert!(refused > 0, "the race was never met");
    assert_eq!(std::fs::read_to_string(elsewhere.path().join("victim")).unwrap(), "untouched");
    assert_eq!(std::fs::read_dir(elsewhere.path()).unwrap().count(), 1);
}

#[test]
fn a_server_without_a_working_folder_touches_no_file() {
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "shop", json!({"A": canary("root")}));
    let home = Home::new();
    let launch = Server::of(vault(), &subject).home(&home);
    let mut command = launch.command();
    command.current_dir("/").stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped());
    let mut child = command.stderr(std::process::Stdio::null()).spawn().unwrap();
    use std::io::{BufRead, Write};
    let mut input = child.stdin.take().unwrap();
    let output = std::io::BufReader::new(child.stdout.take().unwrap()).lines();
    let hello = json!({"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": {
        "protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}});
    let ready = json!({"jsonrpc": "2.0", "method": "notifications/initialized"});
    let call = json!({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {
        "name": "vault_scan_env", "arguments": {"service": "shop", "file_path": "etc/hostname"}}});
    for message in [hello, ready, call] {
        writeln!(input, "{message}").unwrap();
    }
    let answer = output.map(Result::unwrap).find(|line| line.contains("\"id\":2")).unwrap();
    assert!(answer.contains("file_unreadable: ") && answer.contains("no working folder"), "{answer}");
    drop(input);
    child.wait().unwrap();
}

/// The person's terminal has no folders of the server's: it may say yes to a write of a file, not do it.
#[test]
fn an_approver_with_its_own_login_lets_the_server_write_the_file() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let subject = vault().fresh_subject();
    vault().write_secret(&subject, "shop", json!({"A": "1"}));
    let home = Home::new();
    let client = Scene::connect(&subject, &home, &[], Era::mute());
    let launch = Server::launch().home(&home).vault(vault(), &subject).arg("approve");
    let mut terminal = Terminal::outside(&launch);
    let screen = terminal.wait_for("Attached");
    assert!(screen.contains("with your own Vault login"), "{screen}");
    let call = client.start_call("vault_inject", json!({"service": "shop"}));
    let screen = terminal.wait_for("Type yes to");
    assert!(!screen.contains("with your Vault login:") && screen.contains("INJECT "), "{screen}");
    terminal.type_line("yes");
    assert!(!ToolResult(call.wait().unwrap()).is_error());
    assert_eq!(std::fs::read_to_string(home.work().join(".env")).unwrap(), "A='1'\n");
}
