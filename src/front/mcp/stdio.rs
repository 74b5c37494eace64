//! MCP's stdio transport: one JSON-RPC message a line.
//!
//! Around what rmcp brings for reading and writing stand the rules it leaves to a server: a notification
//! before the session is established is dropped (it would end the process), a line over 1 MiB and a line
//! that is no message are answered, ids in flight are not reused, at most 64 requests run at a time, and the
//! end of input ends pending questions at once but lets what runs finish. Nothing else writes to standard
//! output.

use std::{io, sync::Arc, time::Duration};

use rmcp::{
    model::{
        ClientNotification, ClientRequest, ErrorCode, ErrorData, GetMeta, JsonRpcMessage, ProtocolVersion,
        RequestId,
    },
    service::{RoleServer, RxJsonRpcMessage, TxJsonRpcMessage},
    transport::Transport,
};
use tokio::{
    io::{AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader},
    sync::Mutex as AsyncMutex,
    task::JoinHandle,
};
use tokio_util::sync::CancellationToken;

use super::{
    flight::InFlight,
    message::{self, id_after_key, top_level_id},
};

/// Longest line that is read, in bytes.
pub const MAX_LINE: usize = 1 << 20;
/// How long the end may wait for the client to read.
const CLOSING: Duration = Duration::from_secs(1);

/// The transport over a pair of streams.
pub struct StdioTransport<R, W> {
    read: BufReader<R>,
    line: Vec<u8>,
    /// The rest of an over-long line is being thrown away; its last bytes are kept for the id.
    discarding: Option<Vec<u8>>,
    /// A request that waits for one of the 64 places.
    held: Option<RxJsonRpcMessage<RoleServer>>,
    /// An answer that must be written before the next line is read. A task of its own: rmcp drops our
    /// future whenever something else happens, and half a line must not stay on the wire.
    owed: Option<JoinHandle<io::Result<()>>>,
    established: bool,
    in_flight: Arc<InFlight>,
    write: Arc<AsyncMutex<W>>,
    ended: CancellationToken,
    /// Cancelled when a client that does not read is waited for no longer.
    given_up: CancellationToken,
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Send + Unpin + 'static> StdioTransport<R, W> {
    /// `ended` is cancelled at the end of input; cancelling it from outside ends the input.
    pub fn new(read: R, write: W, ended: CancellationToken) -> Self {
        Self {
            read: BufReader::with_capacity(64 << 10, read),
            line: Vec::new(),
            discarding: None,
            held: None,
            owed: None,
            established: false,
            in_flight: Arc::default(),
            write: Arc::new(AsyncMutex::new(write)),
            ended,
            given_up: CancellationToken::new(),
        }
    }

    /// What is under way, for the service to tell when a request is done.
    pub fn in_flight(&self) -> Arc<InFlight> {
        self.in_flight.clone()
    }

    /// Reads up to and including the next newline into `self.line`. Safe to drop at any await: nothing is
    /// consumed that is not kept.
    async fn next_line(&mut self) -> io::Result<Line> {
        loop {
            let available = self.read.fill_buf().await?;
            if available.is_empty() {
                return Ok(Line::End);
            }
            let newline = available.iter().position(|byte| *byte == b'\n');
            let taken = newline.map_or(available.len(), |at| at + 1);
            let piece = available.get(..taken).unwrap_or_default();
            let state = if let Some(tail) = &mut self.discarding {
                tail.extend_from_slice(piece);
                let excess = tail.len().saturating_sub(TAIL);
                tail.drain(..excess);
                newline.map_or(Line::More, |_| Line::TooLong)
            } else if self.line.len() + taken > MAX_LINE {
                self.discarding =
                    Some(piece.get(piece.len().saturating_sub(TAIL)..).unwrap_or_default().to_vec());
                newline.map_or(Line::More, |_| Line::TooLong)
            } else {
                self.line.extend_from_slice(piece);
                newline.map_or(Line::More, |_| Line::Whole)
            };
            self.read.consume(taken);
            if !matches!(state, Line::More) {
                return Ok(state);
            }
        }
    }

    fn error(
        &mut self,
        id: Option<RequestId>,
        code: ErrorCode,
        message: impl Into<std::borrow::Cow<'static, str>>,
    ) {
        let answer: TxJsonRpcMessage<RoleServer> =
            JsonRpcMessage::error(ErrorData::new(code, message, None), id);
        let write = self.write.clone();
        self.owed = Some(tokio::spawn(async move { put(&write, &answer).await }));
    }

    /// Turns a whole line into a message, or into an answer that is owed.
    fn take_line(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        let line = std::mem::take(&mut self.line);
        let text = line.strip_suffix(b"\n").unwrap_or(&line);
        let text = text.strip_suffix(b"\r").unwrap_or(text);
        let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
        if text.iter().all(u8::is_ascii_whitespace) {
            return None;
        }
        let message = match message::read(text) {
            Ok(message) => message,
            Err(unreadable) => {
                if !unreadable.wants_no_answer {
                    self.error(unreadable.id, unreadable.error.code, unreadable.error.message);
                }
                return None;
            }
        };
        match &message {
            JsonRpcMessage::Request(request) => {
                if !self.in_flight.arrived(&request.id) {
                    self.error(
                        None,
                        ErrorCode::INVALID_REQUEST,
                        "The id belongs to a request that is still running. Use a new id.",
                    );
                    return None;
                }
                self.established |= establishes(&request.request);
            }
            _ if !self.established => return None,
            JsonRpcMessage::Notification(notification) => {
                if let ClientNotification::CancelledNotification(cancelled) = &notification.notification
                    && let Some(id) = &cancelled.params.request_id
                {
                    self.in_flight.cancelled(id);
                }
            }
            _ => {}
        }
        Some(message)
    }

    /// Lets a message through unless all places are taken.
    fn admit(&self, message: &RxJsonRpcMessage<RoleServer>) -> bool {
        match message {
            // A subscription lasts as long as the session; it would keep its place for ever.
            JsonRpcMessage::Request(request)
                if !matches!(
                    request.request,
                    ClientRequest::PingRequest(_) | ClientRequest::SubscriptionsListenRequest(_)
                ) =>
            {
                self.in_flight.admit(&request.id)
            }
            _ => true,
        }
    }
}

/// Whether this request ends rmcp's opening, in which anything but a request ends the process: `initialize`
/// does, and a request of 2026-07-28 with all its metadata; a ping or a discovery does not.
fn establishes(request: &ClientRequest) -> bool {
    match request {
        ClientRequest::InitializeRequest(_) => true,
        ClientRequest::PingRequest(_) | ClientRequest::DiscoverRequest(_) => false,
        other => {
            let meta = other.get_meta();
            meta.missing_required_keys(&ProtocolVersion::V_2026_07_28).is_empty()
                && meta
                    .protocol_version()
                    .is_some_and(|version| ProtocolVersion::KNOWN_VERSIONS.contains(&version))
        }
    }
}

/// Bytes kept from the end of an over-long line.
const TAIL: usize = 256;

enum Line {
    Whole,
    TooLong,
    More,
    End,
}

impl<R, W> Transport<RoleServer> for StdioTransport<R, W>
where
    R: AsyncRead + Send + Unpin,
    W: AsyncWrite + Send + Unpin + 'static,
{
    type Error = io::Error;

    fn send(
        &mut self,
        item: TxJsonRpcMessage<RoleServer>,
    ) -> impl Future<Output = Result<(), io::Error>> + Send + 'static {
        let write = self.write.clone();
        let in_flight = self.in_flight.clone();
        let ended = self.ended.clone();
        let given_up = self.given_up.clone();
        async move {
            let answered = match &item {
                JsonRpcMessage::Response(response) => Some(response.id.clone()),
                JsonRpcMessage::Error(error) => error.id.clone(),
                _ => None,
            };
            let outcome = tokio::select! {
                biased;
                outcome = put(&write, &item) => outcome,
                () = given_up.cancelled() => Err(io::ErrorKind::BrokenPipe.into()),
            };
            if let Some(id) = answered {
                in_flight.sent(&id);
            }
            if outcome.is_err() {
                // Nobody reads any more: there is nothing left to serve.
                ended.cancel();
            }
            outcome
        }
    }

    async fn receive(&mut self) -> Option<RxJsonRpcMessage<RoleServer>> {
        loop {
            if let Some(answer) = &mut self.owed {
                let written = tokio::select! {
                    written = answer => written,
                    () = self.ended.cancelled() => Ok(Ok(())),
                };
                self.owed = None;
                if !matches!(written, Ok(Ok(()))) {
                    self.ended.cancel();
                }
            }
            if self.ended.is_cancelled() {
                // rmcp leaves its loop at this `None`: what runs is to finish and be answered first.
                if let Some(JsonRpcMessage::Request(unheard)) = self.held.take() {
                    self.in_flight.sent(&unheard.id);
                }
                self.in_flight.drained().await;
                self.given_up.cancel();
                return None;
            }
            if let Some(message) = self.held.take() {
                if self.admit(&message) {
                    return Some(message);
                }
                self.held = Some(message);
                let (in_flight, ended) = (self.in_flight.clone(), self.ended.clone());
                tokio::select! {
                    () = in_flight.changed() => {}
                    () = ended.cancelled() => {}
                }
                continue;
            }
            let ended = self.ended.clone();
            let line = tokio::select! {
                line = self.next_line() => line,
                () = ended.cancelled() => continue,
            };
            match line {
                Ok(Line::Whole) => self.held = self.take_line(),
                Ok(Line::TooLong) => {
                    let tail = self.discarding.take().unwrap_or_default();
                    let id = top_level_id(&self.line).or_else(|| id_at_end(&tail));
                    self.line = Vec::new();
                    self.error(id, ErrorCode::INVALID_REQUEST, "too_large: The message is longer than 1048576 bytes. Split it, or store large data elsewhere.");
                }
                Ok(Line::More) => {}
                Ok(Line::End) | Err(_) => self.ended.cancel(),
            }
        }
    }

    async fn close(&mut self) -> Result<(), io::Error> {
        self.ended.cancel();
        // A client that does not read must not keep this process.
        let shutdown = async { self.write.lock().await.shutdown().await };
        tokio::time::timeout(CLOSING, shutdown).await.unwrap_or(Ok(()))
    }
}

async fn put<W: AsyncWrite + Unpin>(
    write: &AsyncMutex<W>,
    item: &TxJsonRpcMessage<RoleServer>,
) -> io::Result<()> {
    let mut line = serde_json::to_vec(item)?;
    line.push(b'\n');
    let mut write = write.lock().await;
    write.write_all(&line).await?;
    write.flush().await
}

/// `"id": …}` at the very end of a line, where some clients put it.
fn id_at_end(tail: &[u8]) -> Option<RequestId> {
    let body = tail.trim_ascii_end().strip_suffix(b"}")?;
    let at = body.windows(4).rposition(|window| window == b"\"id\"")?;
    let mut rest = body.get(at + 4..)?.to_vec();
    rest.push(b'}');
    let id = id_after_key(&rest)?;
    // Anything between the id and the end would make it another object's.
    let text = serde_json::to_vec(&id).ok()?;
    let value = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    (value.strip_prefix(text.as_slice())?.trim_ascii() == b"}").then_some(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_line_that_is_too_long_is_found_at_its_end() {
        let number = Some(RequestId::Number(7));
        assert_eq!(id_at_end(br#"aaa"},"jsonrpc":"2.0","id":7}"#), number);
        assert_eq!(id_at_end(br#"aaa"},"id":"a-b"}"#), Some(RequestId::String("a-b".into())));
        assert_eq!(id_at_end(br#""id":7,"x":1}"#), None);
    }
}
