//! Sockets: accepting, TLS, limits on connections and time, and a drain at the end. What is said on a
//! connection is the router's.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use axum::{Router, extract::Request};
use hyper::body::Incoming;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    server::graceful::GracefulShutdown,
    service::TowerToHyperService,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::util::MapRequest;

use crate::{config::Config, error::Error};

/// Connections at a time; more wait in the system's queue.
const MAX_CONNECTIONS: usize = 4096;
/// How long a request's head may take to arrive.
const HEAD: Duration = Duration::from_secs(10);
/// How long a TLS handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a reader may take none of what waits for it.
const READER: Duration = Duration::from_secs(30);
/// How long running calls may take at the end.
const DRAIN: Duration = Duration::from_secs(8);

/// Who is at the other end of a connection, and which of our ends they found.
#[derive(Debug, Clone)]
pub struct Peer {
    /// Their address; a proxy's, where one stands between.
    pub address: IpAddr,
    /// The port there.
    pub port: u16,
    /// Our own.
    pub local: SocketAddr,
    /// Whether the connection has TLS of our own.
    pub tls: bool,
    /// The client certificate that our own TLS verified, in DER.
    pub certificate: Option<Arc<[u8]>>,
}

impl Default for Peer {
    fn default() -> Self {
        let nowhere = Ipv4Addr::UNSPECIFIED.into();
        Self { address: nowhere, port: 0, local: SocketAddr::new(nowhere, 0), tls: false, certificate: None }
    }
}

/// A bound socket.
pub struct Listener {
    socket: TcpListener,
    tls: Option<TlsAcceptor>,
    most: usize,
}

impl Listener {
    /// Binds `HOST` and `PORT`.
    ///
    /// # Errors
    /// `config_invalid` when the address is taken or not this machine's, or the certificate cannot be used.
    pub async fn bind(config: &Config) -> Result<Self, Error> {
        let tls = super::tls::acceptor(config)?;
        let address = SocketAddr::new(*config.host, *config.port);
        let socket = TcpListener::bind(address).await.map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Error::config(
                "PORT",
                format!("{address} is in use. Stop what listens there, or give another port."),
            ),
            kind => Error::config(
                "HOST",
                format!("{address} cannot be listened on ({kind}). Give an address of this machine."),
            ),
        })?;
        Ok(Self { socket, tls, most: MAX_CONNECTIONS })
    }

    /// A port of this machine that the system chooses, without TLS.
    ///
    /// # Errors
    /// When there is none.
    pub async fn loopback() -> io::Result<Self> {
        let socket = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        Ok(Self { socket, tls: None, most: MAX_CONNECTIONS })
    }

    /// `host:port`, with the port that was given.
    #[must_use]
    pub fn host(&self) -> String {
        self.socket.local_addr().map(|address| address.to_string()).unwrap_or_default()
    }

    /// `scheme://host:port`, with the port that was given.
    #[must_use]
    pub fn url(&self) -> String {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        format!("{scheme}://{}", self.host())
    }

    /// Serves until `ended` is cancelled and what was running then is done, or is given up. What runs without a
    /// connection is done when `rest` is.
    pub async fn serve(self, router: Router, ended: CancellationToken, rest: impl Future<Output = ()>) {
        let room = Arc::new(Semaphore::new(self.most));
        let graceful = GracefulShutdown::new();
        loop {
            // Whoever finds no place is not let in yet; and nobody who waits hides that the end has come.
            let next = async { (room.clone().acquire_owned().await, accept(&self.socket).await) };
            let (place, (stream, address)) = tokio::select! {
                next = next => next,
                () = ended.cancelled() => break,
            };
            // An answer's last piece must not wait for more to send.
            let _ = stream.set_nodelay(true);
            let (router, tls, watcher) = (router.clone(), self.tls.clone(), graceful.watcher());
            // A connection that is gone already has no end here; it will not get far.
            let Ok(local) = stream.local_addr() else { continue };
            tokio::spawn(async move {
                let (port, has_tls) = (address.port(), tls.is_some());
                let peer = Peer { address: address.ip(), port, local, tls: has_tls, certificate: None };
                match tls {
                    None => converse(stream, router, peer, watcher).await,
                    Some(tls) => {
                        let Ok(Ok(stream)) = tokio::time::timeout(HANDSHAKE, tls.accept(stream)).await else {
                            return;
                        };
                        let certificate =
                            stream.get_ref().1.peer_certificates().and_then(|chain| chain.first());
                        let certificate = certificate.map(|certificate| Arc::from(certificate.as_ref()));
                        converse(stream, router, Peer { certificate, ..peer }, watcher).await;
                    }
                }
                drop(place);
            });
        }
        drop(self.socket);
        let drained = async {
            graceful.shutdown().await;
            rest.await;
        };
        if tokio::time::timeout(DRAIN, drained).await.is_err() {
            tracing::warn!("calls were still running at the end and were given up");
        }
    }
}

async fn accept(socket: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match socket.accept().await {
            Ok(accepted) => return accepted,
            // Out of descriptors, most likely: that passes.
            Err(error) => {
                tracing::warn!(kind = %error.kind(), "no connection can be accepted");
                tokio::time::sleep(Duration::from_millis(200)).await;
            }
        }
    }
}

async fn converse(
    stream: impl AsyncRead + AsyncWrite + Send + 'static,
    router: Router,
    peer: Peer,
    watcher: hyper_util::server::graceful::Watcher,
) {
    // Whoever asks and does not read must not hold the answer for ever.
    let mut stream = TimeoutStream::new(stream);
    stream.set_write_timeout(Some(READER));
    let service = MapRequest::new(router, move |mut request: Request<Incoming>| {
        request.extensions_mut().insert(peer.clone());
        request.map(axum::body::Body::new)
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD)
        .max_headers(64)
        .max_buf_size(64 << 10)
        .serve_connection(TokioIo::new(Box::pin(stream)), TowerToHyperService::new(service));
    // How a connection ends is the caller's affair.
    let _ = watcher.watch(connection).await;
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";

    #[tokio::test]
    async fn beyond_so_many_connections_more_wait_and_the_end_does_not() {
        let mut listener = Listener::loopback().await.unwrap();
        listener.most = 2;
        let host = listener.host();
        let ended = CancellationToken::new();
        let router = Router::new().fallback(async || "here");
        let served = tokio::spawn(listener.serve(router, ended.clone(), std::future::ready(())));
        let connect = async || {
            let mut stream = TcpStream::connect(&host).await.unwrap();
            stream.write_all(REQUEST).await.unwrap();
            stream
        };
        let mut answer = [0; 12];
        let mut inside = [connect().await, connect().await];
        for stream in &mut inside {
            stream.read_exact(&mut answer).await.unwrap();
        }
        let mut waiting = [connect().await, connect().await];
        let [first, _] = &mut waiting;
        let moment = Duration::from_millis(200);
        assert!(tokio::time::timeout(moment, first.read_exact(&mut answer)).await.is_err());
        let [gone, _stays] = inside;
        drop(gone);
        first.read_exact(&mut answer).await.unwrap();
        assert_eq!(&answer, b"HTTP/1.1 200");
        // It is full again, and somebody waits.
        ended.cancel();
        tokio::time::timeout(DRAIN / 2, served).await.unwrap().unwrap();
    }
}
