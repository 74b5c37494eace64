//! What the integration tests share: a running `vault-mcp`, a client of its own kind, a Vault, a proxy that
//! breaks things, a terminal for the human, and the oracles that every attack is judged by.
//!
//! Nothing in here knows the product's source: it starts the binary and speaks its wires, as a stranger would.
//! Every wait has an end and says what was waited for. Each `tests/*.rs` says `mod common;` and, because Clippy
//! counts only `#[test]` functions as tests, allows `clippy::unwrap_used` and its like for its own helpers.
#![allow(dead_code, unused_imports, unreachable_pub, missing_docs)] // no test binary uses all of it
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

pub mod client;
pub mod http;
pub mod oracle;
pub mod proxy;
pub mod server;
pub mod terminal;
pub mod vault;

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

pub use client::{Answer, Era, McpClient, ToolResult};
pub use http::Reply;
pub use oracle::{
    CANARY, assert_no_canary, assert_refused, assert_untouched, audit_records, canary, records_of,
};
pub use proxy::{Fault, On, Proxy};
pub use server::{Home, Server};
pub use terminal::Terminal;
pub use vault::{Kind, Vault, vault};

/// How long anything may take before the test fails. Long, because two cores may be shared with a build.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// A name that no other test in any process of this machine uses: `[a-z][a-z0-9]*`, fit for a subject.
pub fn unique(prefix: &str) -> String {
    static COUNT: AtomicU64 = AtomicU64::new(0);
    let nanos = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    let count = COUNT.fetch_add(1, Ordering::Relaxed);
    format!("{prefix}{:x}x{:x}x{count:x}", std::process::id(), nanos & 0xff_ffff_ffff)
}

/// Looks every 10 ms until `look` gives something; panics with `what` when `patience` is over.
pub fn wait_until<T>(what: &str, patience: Duration, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < patience, "waited {patience:?} in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
