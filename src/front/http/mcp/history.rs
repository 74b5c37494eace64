//! What a session's streams said of late, so that a client whose connection broke can take one up where it was.
//!
//! Bounded in number, bytes and time. A stream that is taken up goes on with what is said later, until the answer
//! that it was opened for.

use std::{
    collections::VecDeque,
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::{Duration, Instant},
};

use futures_util::stream;
use rmcp::{
    model::JsonRpcMessage,
    transport::streamable_http_server::session::{
        EventId, EventStore, EventStoreError, EventStream, ServerSseMessage,
    },
};
use tokio::sync::watch;

use crate::front::mcp::InFlight;

/// Messages that are kept.
const MESSAGES: usize = 64;
/// Bytes that they may have together.
const BYTES: usize = 256 << 10;
/// How long a stream is kept after its answer.
const KEPT: Duration = Duration::from_secs(60);

struct Kept {
    number: u64,
    stream: Arc<str>,
    message: ServerSseMessage,
    bytes: usize,
    /// Set on the answer that ends a stream: when it was given.
    ended: Option<Instant>,
}

#[derive(Default)]
struct Log {
    kept: VecDeque<Kept>,
    bytes: usize,
    last: u64,
}

impl Log {
    fn forget(&mut self, which: impl Fn(&Kept) -> bool) {
        self.kept.retain(|kept| !which(kept));
        self.bytes = self.kept.iter().map(|kept| kept.bytes).sum();
    }

    fn forget_old(&mut self) {
        let old = |kept: &Kept| kept.ended.is_some_and(|ended| ended.elapsed() >= KEPT);
        let streams: Vec<Arc<str>> =
            self.kept.iter().filter(|kept| old(kept)).map(|kept| kept.stream.clone()).collect();
        if !streams.is_empty() {
            self.forget(|kept| streams.contains(&kept.stream));
        }
    }
}

/// The history of one session. Clones are the same history.
#[derive(Clone)]
pub(super) struct History(Arc<Shared>);

struct Shared {
    log: Mutex<Log>,
    /// The number of the last message; closed when the session has gone.
    told: watch::Sender<u64>,
    flight: Arc<InFlight>,
}

impl History {
    /// Tells `flight` of each answer.
    pub(super) fn new(flight: Arc<InFlight>) -> Self {
        Self(Arc::new(Shared { log: Mutex::default(), told: watch::Sender::new(0), flight }))
    }

    /// Lets go of what nobody may ask for any more.
    pub(super) fn forget_old(&self) {
        self.0.lock().forget_old();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What comes after this number on this stream: a message, nothing yet, or nothing ever.
    fn after(&self, stream: &str, number: u64) -> Next {
        let log = self.lock();
        let mut of_stream = log.kept.iter().filter(|kept| &*kept.stream == stream).peekable();
        if of_stream.peek().is_none() && !is_standalone(stream) {
            return Next::Never;
        }
        let mut ended = false;
        for kept in of_stream {
            if kept.number > number {
                return Next::Message(kept.number, kept.message.clone());
            }
            ended |= kept.ended.is_some();
        }
        if ended { Next::Never } else { Next::Later }
    }
}

enum Next {
    Message(u64, ServerSseMessage),
    Later,
    Never,
}

/// The stream that no request opened goes on for as long as the session.
fn is_standalone(stream: &str) -> bool {
    stream.ends_with(":common")
}

#[async_trait::async_trait]
impl EventStore for History {
    async fn store_event(&self, stream: &str, event: &ServerSseMessage) -> Result<EventId, EventStoreError> {
        let answered = event.message.as_deref().and_then(|message| match message {
            JsonRpcMessage::Response(response) => Some(&response.id),
            JsonRpcMessage::Error(error) => error.id.as_ref(),
            _ => None,
        });
        if let Some(id) = answered {
            self.0.flight.sent(id);
        }
        let bytes = 128 + event.message.as_deref().map_or(0, size_of);
        let number = {
            let mut log = self.0.lock();
            log.last += 1;
            let number = log.last;
            log.forget_old();
            while log.kept.len() >= MESSAGES || (log.bytes + bytes > BYTES && !log.kept.is_empty()) {
                let first = log.kept.pop_front().map_or(0, |first| first.bytes);
                log.bytes -= first;
            }
            if bytes <= BYTES {
                let known =
                    log.kept.iter().find(|kept| &*kept.stream == stream).map(|kept| kept.stream.clone());
                let mut message = event.clone();
                message.event_id = Some(number.to_string());
                let ended = (answered.is_some() && !is_standalone(stream)).then(Instant::now);
                let stream = known.unwrap_or_else(|| stream.into());
                log.kept.push_back(Kept { number, stream, message, bytes, ended });
                log.bytes += bytes;
            }
            number
        };
        self.0.told.send_replace(number);
        Ok(number.to_string())
    }

    async fn replay_events_after(&self, last: &str) -> Result<EventStream, EventStoreError> {
        let number: u64 = last.parse()?;
        let stream = {
            let log = self.0.lock();
            let known = log.kept.iter().find(|kept| kept.number == number).map(|kept| kept.stream.clone());
            known.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?
        };
        let from = (Arc::downgrade(&self.0), self.0.told.subscribe(), stream, number);
        Ok(Box::pin(stream::unfold(from, async |(history, mut told, stream, number)| {
            loop {
                told.mark_unchanged();
                match Weak::upgrade(&history)?.after(&stream, number) {
                    Next::Message(number, message) => {
                        return Some((message, (history, told, stream, number)));
                    }
                    Next::Later => {}
                    Next::Never => return None,
                }
                told.changed().await.ok()?;
            }
        })))
    }
}

/// Bytes of a message on the wire.
fn size_of(message: &impl serde::Serialize) -> usize {
    struct Count(usize);
    impl io::Write for Count {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut count = Count(0);
    // Counting cannot fail.
    let _ = serde_json::to_writer(&mut count, message);
    count.0
}

#[cfg(test)]
mod tests {
    use futures_util::{FutureExt, StreamExt};
    use rmcp::model::{EmptyResult, RequestId, ServerJsonRpcMessage, ServerResult};

    use super::*;

    fn answer(id: i64) -> ServerSseMessage {
        let result = ServerResult::EmptyResult(EmptyResult {});
        ServerSseMessage::from_message(ServerJsonRpcMessage::response(result, RequestId::Number(id)))
    }

    fn priming() -> ServerSseMessage {
        ServerSseMessage::retry(Duration::from_secs(1))
    }

    #[tokio::test]
    async fn a_stream_is_taken_up_where_it_was_and_ends_with_its_answer() {
        let history = History::new(Arc::default());
        let first = history.store_event("a", &priming()).await.unwrap();
        history.store_event("b", &answer(2)).await.unwrap();
        let mut stream = history.replay_events_after(&first).await.unwrap();
        assert!(stream.next().now_or_never().is_none(), "another stream's message was heard");
        let id = history.store_event("a", &answer(1)).await.unwrap();
        assert_eq!(stream.next().await.unwrap().event_id, Some(id.clone()));
        assert!(stream.next().await.is_none());
        assert!(history.replay_events_after(&id).await.unwrap().next().await.is_none());
        for unknown in ["0", "99", "-1", "x", "1/1", ""] {
            assert!(history.replay_events_after(unknown).await.is_err(), "{unknown}");
        }
    }

    #[tokio::test]
    async fn a_stream_ends_with_its_session() {
        let history = History::new(Arc::default());
        let first = history.store_event("s:common", &priming()).await.unwrap();
        let mut stream = history.replay_events_after(&first).await.unwrap();
        assert!(stream.next().now_or_never().is_none());
        drop(history);
        assert!(stream.next().await.is_none());
    }

    #[tokio::test]
    async fn what_is_kept_is_bounded_in_number_and_bytes() {
        let history = History::new(Arc::default());
        for id in 0..200 {
            history.store_event(&id.to_string(), &answer(id)).await.unwrap();
        }
        assert_eq!(history.0.lock().kept.len(), MESSAGES);
        let large = RequestId::String("x".repeat(100 << 10).into());
        let result = ServerResult::EmptyResult(EmptyResult {});
        let large = ServerSseMessage::from_message(ServerJsonRpcMessage::response(result, large));
        for _ in 0..5 {
            history.store_event("large", &large).await.unwrap();
            assert!(history.0.lock().bytes <= BYTES);
        }
        assert_eq!(history.0.lock().kept.len(), 2);
    }
}
