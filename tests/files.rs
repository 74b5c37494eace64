//! What the file tools promise: values go between Vault and files and into no answer; a file is replaced whole,
//! with a backup, in the caller's folders only, and never through a link.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

#[path = "files/attacks.rs"]
mod attacks;
#[path = "files/example.rs"]
mod example;
#[path = "files/inject.rs"]
mod inject;
#[path = "files/roots.rs"]
mod roots;
#[path = "files/scan.rs"]
mod scan;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use common::{Answer, Era, Home, McpClient, Server, assert_no_canary, audit_records, vault};
use serde_json::Value;

/// A session with a working folder, whose human says yes to everything.
struct Scene {
    subject: String,
    client: McpClient,
    home: Arc<Home>,
}

impl Scene {
    fn new() -> Self {
        Self::with(&[])
    }

    fn with(settings: &[(&str, &str)]) -> Self {
        Self::of(settings, Era::usual())
    }

    fn of(settings: &[(&str, &str)], era: Era) -> Self {
        let subject = vault().fresh_subject();
        let home = Home::new();
        let client = Self::connect(&subject, &home, settings, era);
        Self { subject, client, home }
    }

    fn connect(subject: &str, home: &Arc<Home>, settings: &[(&str, &str)], era: Era) -> McpClient {
        let mut launch = Server::of(vault(), subject).home(home).env("RATE_LIMIT_ENABLED", "false");
        for (name, value) in settings {
            launch = launch.env(name, value);
        }
        let client = launch.spawn().connect(era);
        client.always(Answer::yes());
        client
    }

    /// Another session of the same person: a no counts for the rest of the one it was said in.
    fn again(&self) -> McpClient {
        Self::connect(&self.subject, &self.home, &[], Era::usual())
    }

    fn secret(&self, data: Value) {
        vault().write_secret(&self.subject, "shop", data);
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.work().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        std::fs::write(self.path(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
    }

    /// Names in the working folder, in order.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(self.home.work())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    /// What the human was shown last.
    #[track_caller]
    fn question(&self) -> String {
        let asked = self.client.asked();
        asked.last().expect("nobody was asked")["message"].as_str().unwrap().to_owned()
    }

    fn git(&self, arguments: &[&str]) {
        let done = std::process::Command::new("git")
            .args(arguments)
            .current_dir(self.home.work())
            .env("HOME", self.home.path())
            .output()
            .unwrap();
        assert!(done.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&done.stderr));
    }

    /// The log and the server's own words hold no secret; returns the log's records.
    #[track_caller]
    fn records(&self) -> Vec<Value> {
        assert_no_canary(std::fs::read(self.home.audit_log()).unwrap(), "the audit log");
        assert_no_canary(self.client.server().stderr(), "standard error");
        audit_records(self.home.audit_log())
    }
}

fn mode(path: impl AsRef<Path>) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(path).unwrap().permissions().mode() & 0o777
}
