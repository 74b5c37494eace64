//! What becomes of a call when Vault, or the way to it, fails: a clear error in time, reads tried again, writes
//! sent once, and an outcome that is not known said to be unknown.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

#[path = "vault_faults/audit.rs"]
mod audit;
#[path = "vault_faults/reads.rs"]
mod reads;
#[path = "vault_faults/tls.rs"]
mod tls;
#[path = "vault_faults/tokens.rs"]
mod tokens;
#[path = "vault_faults/writes.rs"]
mod writes;

use std::time::{Duration, Instant};

use common::{Answer, Era, McpClient, Proxy, Server, vault};
use serde_json::json;

/// What every call must end within: ten seconds, and as good as ten for a machine that has other work.
const LIMIT: Duration = Duration::from_secs(19);

/// A session behind a proxy with one secret, `app`, in it. Its first call and the look at the token are over.
struct Scene {
    subject: String,
    proxy: Proxy,
    client: McpClient,
}

impl Scene {
    fn new(settings: &[(&str, &str)]) -> Self {
        let subject = vault().fresh_subject();
        let token = vault().token_for(&subject);
        Self::with_token(&subject, &token, settings)
    }

    fn with_token(subject: &str, token: &str, settings: &[(&str, &str)]) -> Self {
        vault().write_secret(subject, "app", json!({"A": "1"}));
        let proxy = Proxy::new(vault());
        let mut launch = Server::of(vault(), subject)
            .env("VAULT_ADDR", &proxy.address)
            .env("VAULT_TOKEN", token)
            .env("RATE_LIMIT_ENABLED", "false");
        for (name, value) in settings {
            launch = launch.env(name, value);
        }
        let client = launch.spawn().connect(Era::usual());
        client.always(Answer::yes());
        client.call("kv_read", json!({"path": "app"})).ok();
        proxy.wait_for("the renewal of the token", |sent| sent.target.ends_with("renew-self"));
        Self { subject: subject.to_owned(), proxy, client }
    }
}

/// What it gives, and how long that took.
fn timed<T>(what: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = what();
    (result, start.elapsed())
}
