//! What each tool of the engines beside KV promises, over stdio and on real back ends: what Vault issues is used
//! (verified by openssl, logged in with by psql and ssh), and what was refused, Vault never heard of.
//!
//! Transit, SSH and PKI are tried over the embedded Vault as well; what only a real one has (databases) is left
//! out there, by name. A program that this machine lacks (PostgreSQL, sshd, openssl) is named, too; with CI set its absence
//! is a failure.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

#[path = "engines/canary.rs"]
mod canary;
#[path = "engines/database.rs"]
mod database;
#[path = "engines/every_tool.rs"]
mod every_tool;
#[cfg(feature = "kms")]
#[path = "kms/other_side.rs"]
mod other_side;
#[path = "engines/pki.rs"]
mod pki;
#[path = "engines/policies.rs"]
mod policies;
#[path = "engines/programs.rs"]
mod programs;
#[path = "engines/sample.rs"]
mod sample;
#[path = "engines/ssh.rs"]
mod ssh;
#[path = "engines/transit_attacks.rs"]
mod transit_attacks;
#[path = "engines/transit_batches.rs"]
mod transit_batches;
#[path = "engines/transit_keys.rs"]
mod transit_keys;
#[path = "engines/transit_signatures.rs"]
mod transit_signatures;
#[path = "engines/wrap.rs"]
mod wrap;

use std::{
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use common::{Answer, Era, McpClient, Proxy, Server, vault};
use serde_json::{Value, json};

/// A session of a subject of its own, with root's token, whose human says yes to everything.
fn session(settings: &[(&str, &str)]) -> McpClient {
    session_of(&vault().fresh_subject(), &vault().root, settings)
}

/// The same for this subject with this token.
fn session_of(subject: &str, token: &str, settings: &[(&str, &str)]) -> McpClient {
    let mut launch =
        Server::of(vault(), subject).env("VAULT_TOKEN", token).env("RATE_LIMIT_ENABLED", "false");
    for (name, value) in settings {
        launch = launch.env(name, value);
    }
    let modes = json!({"elicitation": {"form": {}, "url": {}}});
    let client = launch.spawn().connect(Era::usual().with(modes));
    // Yes; and where a value is asked for, one is typed.
    client.human(|question| match question["url"].as_str() {
        Some(url) => {
            assert_eq!(common::page::type_value(url, "typed"), 200);
            Answer::Accept(json!({}))
        }
        None => Answer::yes(),
    });
    client
}

/// A session with root's token behind a proxy that counts.
fn through(proxy: &Proxy, settings: &[(&str, &str)]) -> McpClient {
    let subject = vault().fresh_subject();
    let mut all = vec![("VAULT_ADDR", proxy.address.as_str())];
    all.extend_from_slice(settings);
    session_of(&subject, &vault().root, &all)
}

/// The last question to the human.
#[track_caller]
fn question(client: &McpClient) -> String {
    let asked = client.asked();
    asked.last().expect("nobody was asked")["message"].as_str().unwrap().to_owned()
}

/// The folder that the client's server works in.
fn work(client: &McpClient) -> PathBuf {
    client.server().home().work().canonicalize().unwrap()
}

/// A file that the server made: 0600, and its text.
#[track_caller]
fn private_file(path: impl AsRef<Path>) -> String {
    let path = path.as_ref();
    let mode = std::fs::metadata(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(mode.permissions().mode() & 0o7777, 0o600, "{}", path.display());
    std::fs::read_to_string(path).unwrap()
}

/// A mask and no value: what stands in an answer in place of a secret.
#[track_caller]
fn assert_masked(value: &Value) {
    assert!(value["masked"] == true && value["type"] == "string", "no mask: {value}");
}
