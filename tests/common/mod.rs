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
pub mod page;
pub mod proxy;
pub mod server;
pub mod terminal;
pub mod vault;

use std::{
    net::TcpListener,
    sync::atomic::{AtomicU16, AtomicU64, Ordering},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

pub use client::{Answer, Era, McpClient, ToolResult};
pub use http::Reply;
pub use oracle::{
    CANARY, assert_no_canary, assert_refused, assert_untouched, audit_records, canary, heard_since,
    records_of,
};
pub use proxy::{Fault, Gate, On, Proxy};
pub use server::{Home, Server};
pub use terminal::Terminal;
pub use vault::{Kind, Vault, vault};

/// How long anything may take before the test fails. Long, because two cores may be shared with a build; half of
/// a question's life, so that what ends within it did not wait for that.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// Less than the five seconds that rmcp would wait at the end of its input. What the product does at once takes
/// milliseconds; the rest is for a machine that has other work.
pub const AT_ONCE: Duration = Duration::from_secs(4);

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

/// The lowest of so many ports in a row that are free, for a server that must be told where to listen.
///
/// They lie below those that the system hands out by itself (32768 and up, on Linux), to connections as well:
/// nothing takes one between this look and the server's start, nor while a test starts it anew. Each process of
/// tests begins at a place of its own.
pub fn free_ports(count: u16) -> u16 {
    const LOWEST: u16 = 16_384;
    const HOW_MANY: u16 = 16_000;
    static GIVEN: AtomicU16 = AtomicU16::new(0);
    let start = u16::try_from(u64::from(std::process::id()) * 37 % u64::from(HOW_MANY)).unwrap();
    wait_until("free ports in a row", PATIENCE, || {
        let given = GIVEN.fetch_add(count, Ordering::Relaxed) % HOW_MANY;
        let lowest = LOWEST + (start + given) % (HOW_MANY - count);
        (lowest..lowest + count).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok()).then_some(lowest)
    })
}

/// An address where nobody listens, and nobody will while this is kept: bound, and never listened on.
pub struct DeadEnd(rustix::fd::OwnedFd);

impl DeadEnd {
    pub fn new() -> Self {
        use rustix::net::{AddressFamily, Ipv4Addr, SocketAddrV4, SocketType, bind, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &SocketAddrV4::new(Ipv4Addr::LOCALHOST, 0)).unwrap();
        Self(socket)
    }

    /// `http://127.0.0.1:PORT`.
    pub fn address(&self) -> String {
        let address = rustix::net::getsockname(&self.0).unwrap();
        format!("http://{}", std::net::SocketAddr::try_from(address).unwrap())
    }
}
