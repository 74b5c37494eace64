//! The embedded dev Vault: a server in this process that speaks Vault's HTTP API, for trying out and for
//! fast tests.
//!
//! Memory only, loopback only, gone at exit. It knows nothing of the rest of the crate and is reached by
//! HTTP only, so what works with it works with a real server; where the two differ the real one (1.21.0) is
//! right, and a test compares them request by request. KV versions 1 and 2, transit, SSH, PKI, tokens, leases,
//! ACL policies, AppRole, userpass, response wrapping, seal and health are here; audit devices, identity,
//! namespaces and every other engine are not, and asking for one gets an answer that says so.
//!
//! ```text
//! dev            the handle: start, address, root token, shutdown
//! ├ http         bytes ↔ request, and the answers without an envelope; json: bodies and their limits
//! ├ core         the way of one request: route → token → policies → engine → login or wrapping
//! │ ├ system     sys/…         mounts   sys/mounts, sys/auth, sys/internal/ui/mounts
//! │ ├ leases     what was issued, until when; sys/leases/…
//! │ ├ tokens     the tokens    token_paths   auth/token/…
//! │ └ policy     rules and what they allow together
//! ├ engine       what is mounted: kv1, kv2, transit, ssh, pki, approle, userpass — the seam for more
//! ├ keypair      keys that sign, for ssh and pki; pem: their text
//! └ seed         sample content, set up by HTTP on any Vault
//! ```

use std::{
    io,
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use axum::{Router, serve::ListenerExt};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use chrono::Utc;
use thiserror::Error;
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};

mod approle;
mod core;
mod duration;
mod engine;
mod fields;
mod gofloat;
mod http;
mod json;
mod keypair;
mod kv1;
mod kv2;
mod leases;
mod login_params;
mod mounts;
mod pem;
mod pki;
mod policy;
mod random;
pub mod seed;
mod ssh;
mod system;
mod token_paths;
mod tokens;
mod transit;
mod userpass;
mod wire;

/// How long [`DevVault::shutdown`] waits for requests under way.
const GRACE: Duration = Duration::from_secs(1);

/// How to start a [`DevVault`].
#[derive(Debug, Clone)]
pub struct Options {
    /// Where to listen: a loopback address; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The id of the root token; a random one when `None`.
    pub root_token: Option<String>,
}

impl Default for Options {
    /// 127.0.0.1, a free port, a random root token.
    fn default() -> Self {
        Self { listen: SocketAddr::from(([127, 0, 0, 1], 0)), root_token: None }
    }
}

/// Why a [`DevVault`] did not start.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum StartError {
    /// The address is reachable from other machines.
    #[error("the dev Vault listens on loopback only, not on {0}; use 127.0.0.1 or ::1")]
    NotLoopback(SocketAddr),
    /// The root token is empty or cannot be sent in a header.
    #[error("the dev Vault's root token must be 1 to 256 printable ASCII characters without spaces")]
    BadRootToken,
    /// The address could not be taken.
    #[error("the dev Vault could not listen on {address}; choose another port or stop what uses this one")]
    Listen {
        /// The address that was asked for.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A policy that comes with the server does not parse; a fault of this program.
    #[error("the dev Vault's own policies are broken: {0}; please report this")]
    Broken(String),
}

/// A running embedded Vault. Dropping it ends the server: no new connections, open ones end with their
/// request.
#[derive(Debug)]
pub struct DevVault {
    address: SocketAddr,
    root_token: String,
    unseal_key: String,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl DevVault {
    /// Starts a server on the current tokio runtime; it answers when this returns.
    ///
    /// # Errors
    /// See [`StartError`].
    pub async fn start(options: Options) -> Result<Self, StartError> {
        if !options.listen.ip().is_loopback() {
            return Err(StartError::NotLoopback(options.listen));
        }
        let root_token = options.root_token.unwrap_or_else(|| format!("hvs.{}", random::letters(24)));
        if !(1..=256).contains(&root_token.len()) || !root_token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(StartError::BadRootToken);
        }
        let listen = |source| StartError::Listen { address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(listen)?;
        let address = listener.local_addr().map_err(listen)?;

        let key = random::bytes::<32>();
        let core = core::Core::new(&root_token, key, Utc::now()).map_err(StartError::Broken)?;
        let router = Router::new().fallback(http::serve).with_state(Arc::new(Mutex::new(core)));
        // Without this a small answer waits for the client's delayed ACK.
        let listener = listener.tap_io(|stream| {
            let _ = stream.set_nodelay(true);
        });
        let (stop, mut stopped) = watch::channel(false);
        let server = tokio::spawn(async move {
            let serving = axum::serve(listener, router).with_graceful_shutdown(async move {
                // An error means that the handle is gone, which ends the server too.
                let _ = stopped.wait_for(|stop| *stop).await;
            });
            let _ = serving.await;
        });
        Ok(Self { address, root_token, unseal_key: STANDARD.encode(key), stop, server })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The base address, `http://127.0.0.1:PORT`, as `VAULT_ADDR` wants it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The id of the root token.
    #[must_use]
    pub fn root_token(&self) -> &str {
        &self.root_token
    }

    /// The key for `sys/unseal` (base64), for those who sealed it.
    #[must_use]
    pub fn unseal_key(&self) -> &str {
        &self.unseal_key
    }

    /// Ends the server and waits, at most a second, for requests under way. Idle connections are closed.
    pub async fn shutdown(mut self) {
        let _ = self.stop.send(true);
        if tokio::time::timeout(GRACE, &mut self.server).await.is_err() {
            self.server.abort();
        }
    }
}
