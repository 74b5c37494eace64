//! No record, no request; no response record, no secret.

use std::{path::Path, process::Command};

use serde_json::json;

use super::Scene;
use crate::common::{
    Answer, Fault, Gate, On, Server, ToolResult, assert_no_canary, assert_refused, assert_untouched, canary,
    vault,
};

type Spoil = fn(&Path);

/// A scene whose spoilt log is out of the way before anybody opens it: a FIFO would keep its reader waiting.
struct Spoilt(Scene);

impl std::ops::Deref for Spoilt {
    type Target = Scene;
    fn deref(&self) -> &Scene {
        &self.0
    }
}

impl Drop for Spoilt {
    fn drop(&mut self) {
        let log = self.0.client.server().home().audit_log();
        let _ = std::fs::rename(&log, log.with_extension("spoilt"));
    }
}

const SPOILERS: &[(&str, Spoil)] = &[
    ("removed", |log| std::fs::remove_file(log).unwrap()),
    ("moved", |log| std::fs::rename(log, log.with_extension("moved")).unwrap()),
    ("another file", |log| {
        let copy = std::fs::read(log).unwrap();
        std::fs::remove_file(log).unwrap();
        std::fs::write(log, copy).unwrap();
    }),
    ("a link", |log| {
        let moved = log.with_extension("moved");
        std::fs::rename(log, &moved).unwrap();
        std::os::unix::fs::symlink(moved, log).unwrap();
    }),
    ("a fifo", |log| {
        std::fs::remove_file(log).unwrap();
        assert!(Command::new("mkfifo").arg(log).status().unwrap().success());
    }),
    ("a folder", |log| {
        std::fs::remove_file(log).unwrap();
        std::fs::create_dir(log).unwrap();
    }),
    ("emptied", |log| std::fs::write(log, "").unwrap()),
];

#[test]
fn without_a_record_nothing_is_sent() {
    for (how, spoil) in SPOILERS {
        let scene = Spoilt(Scene::new(&[("REVEAL", "always")]));
        spoil(&scene.client.server().home().audit_log());
        for (tool, arguments) in [
            ("kv_read", json!({"path": "app"})),
            ("kv_read", json!({"path": "app", "reveal": true})),
            ("kv_list", json!({})),
            ("kv_write", json!({"path": "app", "data": {"A": "2"}})),
            ("kv_delete", json!({"path": "app"})),
            ("vault_set", json!({"service": "app", "secrets": {"A": "2"}})),
            ("vault_status", json!({})),
            ("mounts_list", json!({})),
            ("vault_logout", json!({})),
            ("secret_compare", json!({"a": "app#A", "b": "app#A"})),
        ] {
            let result = assert_untouched(&scene.proxy, || scene.client.call(tool, arguments));
            let code = result.code();
            assert!(code.starts_with("audit_"), "{how}, {tool}: {}", result.text());
            assert!(result.0.get("structuredContent").is_none(), "{how}, {tool}: {}", result.0);
        }
        let uri = format!("kv://{}/app", scene.subject);
        let read = || scene.client.request("resources/read", json!({"uri": uri}));
        let error = assert_untouched(&scene.proxy, read).expect_err("a resource without a record");
        assert!(error["message"].as_str().unwrap().starts_with("audit_"), "{how}: {error}");
        assert!(scene.client.asked().is_empty(), "{how}: a human was asked about what could not be recorded");
    }
}

#[test]
fn a_log_that_goes_while_the_human_thinks_stops_the_write() {
    for (how, spoil) in SPOILERS {
        let scene = Spoilt(Scene::new(&[]));
        let (log, spoil) = (scene.client.server().home().audit_log(), *spoil);
        scene.client.human(move |_| {
            spoil(&log);
            Answer::yes()
        });
        let result = scene.client.call("kv_write", json!({"path": "app", "data": {"A": "2"}}));
        assert!(result.code().starts_with("audit_"), "{how}: {}", result.text());
        assert!(scene.proxy.writes().is_empty(), "{how}: it was written");
        assert_eq!(vault().version(&scene.subject, "app"), 1);
    }
}

/// Starts a call and spoils the log while Vault has the request.
fn spoilt_in_between(
    scene: &Scene,
    tool: &str,
    arguments: serde_json::Value,
    on: On,
    method: &str,
    spoil: Spoil,
) -> ToolResult {
    let gate = Gate::new();
    scene.proxy.fail(on, Fault::HoldAfter(gate.clone()));
    let before = scene.proxy.count();
    let pending = scene.client.start_call(tool, arguments);
    crate::common::wait_until("the request", crate::common::PATIENCE, || {
        let sent = scene.proxy.requests().split_off(before);
        sent.iter().any(|sent| sent.is_data() && sent.method == method).then_some(())
    });
    spoil(&scene.client.server().home().audit_log());
    gate.open();
    ToolResult(pending.wait().unwrap())
}

#[test]
fn a_write_whose_response_cannot_be_recorded_is_applied_and_not_to_be_retried() {
    for (how, spoil) in SPOILERS {
        let scene = Spoilt(Scene::new(&[]));
        let call = json!({"path": "app", "data": {"A": "2"}});
        let on = On::target("/secret/data/").method("POST");
        let result = spoilt_in_between(&scene, "kv_write", call, on, "POST", *spoil);
        assert_refused(&result, "applied_unrecorded");
        assert!(
            result.text().contains("was applied") && result.text().contains("Do not retry"),
            "{how}: {}",
            result.text()
        );
        assert_eq!(vault().version(&scene.subject, "app"), 2, "{how}");
        assert_eq!(scene.proxy.writes().len(), 1);
    }
}

#[test]
fn a_read_whose_response_cannot_be_recorded_gives_no_secret() {
    for (how, spoil) in SPOILERS {
        let scene = Spoilt(Scene::new(&[("REVEAL", "always")]));
        vault().write_secret(&scene.subject, "app", json!({"A": canary("unrecorded")}));
        let call = json!({"path": "app", "reveal": true});
        let result = spoilt_in_between(&scene, "kv_read", call, On::target("/secret/data/"), "GET", *spoil);
        assert!(result.code().starts_with("audit_"), "{how}: {}", result.text());
        assert_no_canary(scene.client.server().stdout(), "standard output");
    }
}

#[test]
fn a_server_without_a_log_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let in_folder = |name: &str| folder.path().join(name).display().to_string();
    std::fs::create_dir(folder.path().join("folder")).unwrap();
    std::os::unix::fs::symlink("/dev/null", folder.path().join("link")).unwrap();
    for path in
        [in_folder("folder"), in_folder("link"), "/dev/null".into(), "/proc/nowhere/audit.jsonl".into()]
    {
        let run = Server::of(vault(), "alice").env("AUDIT_LOG", &path).run("");
        assert!(!run.status.success(), "{path} was accepted");
        assert!(run.stdout.is_empty() && run.stderr.contains("audit_"), "{path}: {}", run.stderr);
    }
}
