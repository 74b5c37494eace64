//! The socket: whose it is, who may speak to it, and what is left of it.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::{
        fs::{FileTypeExt, MetadataExt, PermissionsExt},
        net::{UnixListener, UnixStream},
    },
    path::PathBuf,
    sync::Arc,
};

use serde_json::json;

use crate::{
    approver::approve,
    common::{Era, PATIENCE, Terminal, server::Home, wait_until},
    scene::{Scene, assert_stopped, write},
};

fn folder(home: &Arc<Home>) -> PathBuf {
    home.path().join("run").join("vault-mcp")
}

fn sockets(home: &Arc<Home>) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(folder(home)) else { return Vec::new() };
    entries.map(|entry| entry.unwrap().path()).collect()
}

#[test]
fn the_socket_is_this_users_alone_and_goes_with_its_server() {
    let scene = Scene::new();
    let mut client = scene.client(Era::mute());
    let home = client.server().home().clone();
    let mode = |path: &PathBuf| std::fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777;
    assert_eq!(mode(&folder(&home)), 0o700);
    let found = sockets(&home);
    assert_eq!(found, [folder(&home).join(format!("{}.sock", client.server().id()))]);
    let metadata = std::fs::symlink_metadata(&found[0]).unwrap();
    assert!(metadata.file_type().is_socket());
    assert_eq!(mode(&found[0]), 0o600);
    assert_eq!(metadata.uid(), rustix::process::getuid().as_raw());
    client.hang_up();
    client.server_mut().wait();
    assert!(sockets(&home).is_empty(), "{:?}", sockets(&home));
}

#[test]
fn a_folder_that_others_can_read_is_not_used() {
    let scene = Scene::new();
    let home = Home::new();
    std::fs::create_dir(folder(&home)).unwrap();
    std::fs::set_permissions(folder(&home), std::fs::Permissions::from_mode(0o755)).unwrap();
    let client = scene.launch().home(&home).spawn().connect(Era::mute());
    assert!(sockets(&home).is_empty(), "{:?}", sockets(&home));
    // The server works without, and says why there is no approver.
    assert_stopped(&scene, &client.call("kv_write", write()), "nobody_to_ask");
    client.server().wait_for_stderr("no approver can attach");
    // Nor is one that is a link to somewhere else.
    let home = Home::new();
    let elsewhere = home.path().join("elsewhere");
    std::fs::create_dir(&elsewhere).unwrap();
    std::fs::set_permissions(&elsewhere, std::fs::Permissions::from_mode(0o700)).unwrap();
    std::os::unix::fs::symlink(&elsewhere, folder(&home)).unwrap();
    let client = scene.launch().home(&home).spawn().connect(Era::mute());
    assert!(std::fs::read_dir(&elsewhere).unwrap().next().is_none());
    client.server().wait_for_stderr("no approver can attach");
}

#[test]
fn the_socket_of_a_dead_server_is_tidied_up() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let scene = Scene::new();
    let mut client = scene.client(Era::mute());
    let home = client.server().home().clone();
    client.server_mut().kill();
    assert_eq!(sockets(&home).len(), 1, "a killed server leaves its socket");
    let alive = scene.launch().home(&home).spawn().connect(Era::mute());
    let terminal = Terminal::outside(&approve(&scene, &home));
    terminal.wait_for("Attached");
    wait_until("the dead socket to go", PATIENCE, || (sockets(&home).len() == 1).then_some(()));
    assert_eq!(sockets(&home), [folder(&home).join(format!("{}.sock", alive.server().id()))]);
    assert_eq!(terminal.screen().matches("Attached").count(), 1);
}

/// Whoever speaks the wire itself, without `vault-mcp approve`, is looked at just the same.
#[test]
fn a_caller_from_the_clients_own_tree_gets_no_question() {
    let scene = Scene::new();
    let client = scene.client(Era::mute());
    let stream = UnixStream::connect(&sockets(client.server().home())[0]).unwrap();
    let mut write_half = stream.try_clone().unwrap();
    let _ = write_half.write_all(b"{\"attach\":{\"login\":false}}\n");
    let mut line = String::new();
    BufReader::new(&stream).read_line(&mut line).unwrap();
    assert!(line.contains("refused"), "{line}");
    assert_stopped(&scene, &client.call("kv_write", write()), "nobody_to_ask");

    // A child that outlives the process which connected has no ancestors left to look at.
    let Some(python) = ["/usr/bin/python3", "/usr/local/bin/python3"]
        .into_iter()
        .find(|path| std::path::Path::new(path).exists())
    else {
        return;
    };
    let script = "\
import os, socket, sys, time
s = socket.socket(socket.AF_UNIX); r, w = os.pipe()
if os.fork() == 0:
    if os.fork() == 0:
        os.setsid()
        s.connect(sys.argv[1])
        if os.fork() != 0: os._exit(0)
        time.sleep(0.2)
        try: s.sendall(b'{\"attach\":{\"login\":false}}\\n')
        except OSError: pass
        got = b''
        s.settimeout(30)
        try:
            while True:
                piece = s.recv(4096)
                if not piece: break
                got += piece
        except OSError: pass
        os.write(w, got); os._exit(0)
    os._exit(0)
os.close(w); print(os.read(r, 65536).decode())
";
    let output = std::process::Command::new(python)
        .args(["-c", script])
        .arg(&sockets(client.server().home())[0])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        said.contains("refused") && !said.contains("attached\""),
        "{said} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_stopped(&scene, &client.call("kv_write", write()), "nobody_to_ask");
}

/// A program of the same user that plays a server: what it says cannot take the person's terminal over.
#[test]
fn a_false_server_cannot_write_on_the_terminal() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let scene = Scene::new();
    let home = Home::new();
    std::fs::create_dir(folder(&home)).unwrap();
    std::fs::set_permissions(folder(&home), std::fs::Permissions::from_mode(0o700)).unwrap();
    let listener = UnixListener::bind(folder(&home).join("1.sock")).unwrap();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let hostile = "\u{1b}[2J\u{1b}[H\u{1b}]0;owned\u{7}";
        let hello = json!({"hello": {"version": "9", "pid": 1, "subject": hostile, "address": hostile, "namespace": null}});
        let notice = json!({"notice": {"text": hostile}});
        let ask = json!({"ask": {
            "ticket": hostile, "text": format!("{hostile}DELETE everything\n\u{9b}31m\u{202e}"), "op": hostile,
            "target": hostile, "subject": hostile, "seconds": u64::MAX, "arguments": null,
        }});
        let mut answers = BufReader::new(stream.try_clone().unwrap()).lines();
        writeln!(stream, "{hello}").unwrap();
        answers.next().unwrap().unwrap();
        writeln!(stream, "\"attached\"\n{notice}\n{ask}").unwrap();
        answers.next().unwrap().unwrap()
    });
    let mut terminal = Terminal::outside(&approve(&scene, &home));
    let screen = terminal.wait_for("Type yes");
    assert!(screen.contains("Waiting for questions"), "the screen was cleared: {screen}");
    assert!(screen.contains("DELETE everything"), "{screen}");
    assert!(!terminal.screen_with_escapes().contains('\u{1b}'), "{:?}", terminal.screen_with_escapes());
    terminal.type_line("no");
    assert!(server.join().unwrap().contains("\"no\""));
}
