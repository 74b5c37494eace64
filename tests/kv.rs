//! What each tool of KV, services and the session promises, over stdio, checked in Vault itself behind the
//! product's back.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

#[path = "kv/changing.rs"]
mod changing;
#[path = "kv/looking.rs"]
mod looking;
#[path = "kv/places.rs"]
mod places;
#[path = "kv/policies.rs"]
mod policies;
#[path = "kv/services.rs"]
mod services;
#[path = "kv/session.rs"]
mod session;
#[path = "kv/settings.rs"]
mod settings;
#[path = "kv/version_one.rs"]
mod version_one;

use common::{Answer, Era, McpClient, Server, vault};

/// A session of a subject of its own, with root's token, whose human says yes to everything.
fn session(settings: &[(&str, &str)]) -> (String, McpClient) {
    let subject = vault().fresh_subject();
    let client = session_of(&subject, &vault().root, settings);
    (subject, client)
}

/// The same for this subject with this token.
fn session_of(subject: &str, token: &str, settings: &[(&str, &str)]) -> McpClient {
    let mut launch =
        Server::of(vault(), subject).env("VAULT_TOKEN", token).env("RATE_LIMIT_ENABLED", "false");
    for (name, value) in settings {
        launch = launch.env(name, value);
    }
    let client = launch.spawn().connect(Era::usual());
    client.always(Answer::yes());
    client
}

/// What the human was shown last.
#[track_caller]
fn question(client: &McpClient) -> String {
    let asked = client.asked();
    asked.last().expect("nobody was asked")["message"].as_str().unwrap().to_owned()
}

/// The words of a JSON list.
fn words(list: &serde_json::Value) -> Vec<&str> {
    list.as_array().into_iter().flatten().filter_map(serde_json::Value::as_str).collect()
}
