//! The sessions of protocols before 2026-07-28. Each belongs to the subject that began it and is nobody else's:
//! under another one its id is as unknown as any. Their number is bounded, and one that nobody uses ends.
//!
//! What a session does is rmcp's; it has one manager of its own here, with its own history.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use futures_util::{Stream, StreamExt};
use rmcp::{
    model::{ClientJsonRpcMessage, ClientNotification, JsonRpcMessage, RequestId, ServerJsonRpcMessage},
    transport::streamable_http_server::session::{
        EventStream, ServerSseMessage, SessionId, SessionManager,
        local::{LocalSessionManager, LocalSessionManagerError},
    },
};
use tokio_util::sync::CancellationToken;

use super::{history::History, seat::Seat};
use crate::{front::mcp::InFlight, names::Subject};

/// How many there may be, and for how long.
struct Bounds {
    /// Sessions of all subjects together.
    all: usize,
    /// Sessions of one subject; one more ends the one that was not used for the longest time.
    of_one: usize,
    /// How long a session without a stream may be unused.
    idle: Duration,
    /// How often that is looked at.
    sweep: Duration,
}

impl Default for Bounds {
    fn default() -> Self {
        let (idle, sweep) = (Duration::from_secs(15 * 60), Duration::from_secs(30));
        Self { all: 4096, of_one: 32, idle, sweep }
    }
}

/// One session.
pub(super) struct Session {
    subject: Subject,
    manager: LocalSessionManager,
    history: History,
    flight: Arc<InFlight>,
    /// The client knows events without data.
    pub(super) primed: bool,
    used: Mutex<Instant>,
    streams: AtomicUsize,
}

impl Session {
    fn touch(&self) {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
    }

    fn unused(&self) -> Duration {
        self.used.lock().unwrap_or_else(PoisonError::into_inner).elapsed()
    }

    fn is_idle(&self, idle: Duration) -> bool {
        self.streams.load(Ordering::Relaxed) == 0 && self.unused() >= idle
    }
}

/// A stream of a session: while it lives, the session is in use.
struct InUse(Arc<Session>);

impl InUse {
    fn new(session: Arc<Session>) -> Self {
        session.streams.fetch_add(1, Ordering::Relaxed);
        Self(session)
    }
}

impl Drop for InUse {
    fn drop(&mut self) {
        self.0.touch();
        self.0.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The stream, during which its session is in use.
fn held(session: Arc<Session>, stream: EventStream) -> EventStream {
    let in_use = InUse::new(session);
    Box::pin(stream.inspect(move |_| {
        let _ = &in_use;
    }))
}

/// All sessions.
#[derive(Default)]
pub(super) struct Sessions {
    bounds: Bounds,
    table: Mutex<HashMap<SessionId, Arc<Session>>>,
}

impl Sessions {
    fn table(&self) -> MutexGuard<'_, HashMap<SessionId, Arc<Session>>> {
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends sessions that are idle, until the server does.
    pub(super) async fn sweep(sessions: Weak<Self>, ended: CancellationToken) {
        loop {
            let Some(pause) = sessions.upgrade().map(|sessions| sessions.bounds.sweep) else { return };
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = ended.cancelled() => return,
            }
            let Some(sessions) = sessions.upgrade() else { return };
            let idle: Vec<_> = {
                let mut table = sessions.table();
                table.values().for_each(|session| session.history.forget_old());
                table.extract_if(|_, session| session.is_idle(sessions.bounds.idle)).collect()
            };
            for (id, session) in idle {
                end(&id, &session).await;
            }
        }
    }

    /// The session of this id, if it is this subject's.
    pub(super) fn find(&self, id: &str, subject: &Subject) -> Option<Arc<Session>> {
        let session = self.table().get(id).filter(|session| session.subject == *subject).cloned()?;
        session.touch();
        Some(session)
    }

    /// How many are open.
    pub(super) fn count(&self) -> usize {
        self.table().len()
    }

    /// True when one more can be begun for this subject.
    pub(super) fn has_room_for(&self, subject: &Subject) -> bool {
        let table = self.table();
        table.len() < self.bounds.all || table.values().any(|session| session.subject == *subject)
    }

    /// Enters a session. Gives those that had to end for it.
    fn enter(&self, id: SessionId, session: Session) -> Vec<(SessionId, Arc<Session>)> {
        let mut table = self.table();
        let mut own: Vec<_> = table
            .iter()
            .filter(|(_, other)| other.subject == session.subject)
            .map(|(id, other)| (other.streams.load(Ordering::Relaxed) == 0, other.unused(), id.clone()))
            .collect();
        // One that has a stream goes last.
        own.sort_unstable();
        let mut ended = Vec::new();
        while own.len() >= self.bounds.of_one || (table.len() >= self.bounds.all && !own.is_empty()) {
            let Some((.., oldest)) = own.pop() else { break };
            ended.extend(table.remove_entry(&oldest));
        }
        table.insert(id, Arc::new(session));
        ended
    }
}

async fn end(id: &SessionId, session: &Session) {
    // One that has ended by itself is as good.
    let _ = session.manager.close_session(id).await;
}

/// Why a session did not take a request, where rmcp has no words for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Refusal {
    /// It ended in this moment.
    Gone,
    /// The request's id is that of one that still runs.
    IdTaken,
}

/// What goes wrong with a session.
#[derive(Debug, thiserror::Error)]
pub(super) enum Fault {
    #[error("the session is not there")]
    Unknown,
    #[error("the id of the request is taken")]
    IdTaken,
    #[error(transparent)]
    Session(#[from] LocalSessionManagerError),
}

/// The sessions as one request of one subject sees them.
pub(super) struct Own {
    sessions: Arc<Sessions>,
    subject: Subject,
    primed: bool,
    seat: Option<Arc<Seat>>,
    refusal: OnceLock<Refusal>,
}

impl Own {
    /// For a request in this seat. `primed`: a session that it begins is one whose client knows events without data.
    pub(super) fn new(
        sessions: Arc<Sessions>,
        subject: Subject,
        primed: bool,
        seat: Option<Arc<Seat>>,
    ) -> Self {
        Self { sessions, subject, primed, seat, refusal: OnceLock::new() }
    }

    /// Why the request was not taken, if it was not for one of these reasons.
    pub(super) fn refusal(&self) -> Option<Refusal> {
        self.refusal.get().copied()
    }

    fn session(&self, id: &SessionId) -> Result<Arc<Session>, Fault> {
        self.sessions.find(id, &self.subject).ok_or_else(|| self.refuse(Refusal::Gone, Fault::Unknown))
    }

    fn refuse(&self, refusal: Refusal, fault: Fault) -> Fault {
        let _ = self.refusal.set(refusal);
        fault
    }
}

/// A request's id from when it is taken in until it is under way.
struct Arriving<'a>(Option<(&'a InFlight, &'a RequestId)>);

impl Drop for Arriving<'_> {
    fn drop(&mut self) {
        if let Some((flight, id)) = self.0 {
            flight.sent(id);
        }
    }
}

impl SessionManager for Own {
    type Error = Fault;
    type Transport = <LocalSessionManager as SessionManager>::Transport;

    async fn create_session(&self) -> Result<(SessionId, Self::Transport), Fault> {
        let flight = Arc::<InFlight>::default();
        let history = History::new(flight.clone());
        let mut manager = LocalSessionManager::default();
        // How long a session may be idle is decided here, where its streams are counted.
        manager.session_config.keep_alive = None;
        if !self.primed {
            manager.session_config.sse_retry = None;
        }
        let manager = manager.with_event_store(Arc::new(history.clone()));
        let (id, transport) = manager.create_session().await?;
        let session = Session {
            subject: self.subject.clone(),
            manager,
            history,
            flight,
            primed: self.primed,
            used: Mutex::new(Instant::now()),
            streams: AtomicUsize::new(0),
        };
        for (id, session) in self.sessions.enter(id.clone(), session) {
            end(&id, &session).await;
        }
        Ok((id, transport))
    }

    async fn initialize_session(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<ServerJsonRpcMessage, Fault> {
        Ok(self.session(id)?.manager.initialize_session(id, message).await?)
    }

    async fn has_session(&self, id: &SessionId) -> Result<bool, Fault> {
        Ok(self.sessions.find(id, &self.subject).is_some())
    }

    async fn close_session(&self, id: &SessionId) -> Result<(), Fault> {
        let Some(session) = self.sessions.find(id, &self.subject) else { return Ok(()) };
        self.sessions.table().remove(id);
        end(id, &session).await;
        Ok(())
    }

    async fn create_stream(
        &self,
        id: &SessionId,
        message: ClientJsonRpcMessage,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Fault> {
        let session = self.session(id)?;
        let request = match &message {
            JsonRpcMessage::Request(request) => Some(request.id.clone()),
            _ => None,
        };
        let mut arriving = Arriving(None);
        if let Some(request) = &request {
            if !session.flight.arrived(request) {
                return Err(self.refuse(Refusal::IdTaken, Fault::IdTaken));
            }
            arriving.0 = Some((&session.flight, request));
            if let Some(seat) = &self.seat {
                seat.belongs_to(session.flight.clone(), request.clone());
            }
        }
        let stream: EventStream = Box::pin(session.manager.create_stream(id, message).await?);
        arriving.0 = None;
        drop(arriving);
        Ok(held(session, stream))
    }

    async fn accept_message(&self, id: &SessionId, message: ClientJsonRpcMessage) -> Result<(), Fault> {
        let session = self.session(id)?;
        if let JsonRpcMessage::Notification(notification) = &message
            && let ClientNotification::CancelledNotification(cancelled) = &notification.notification
            && let Some(request) = &cancelled.params.request_id
        {
            session.flight.cancelled(request);
        }
        Ok(session.manager.accept_message(id, message).await?)
    }

    async fn create_standalone_stream(
        &self,
        id: &SessionId,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Fault> {
        let session = self.session(id)?;
        let stream: EventStream = Box::pin(session.manager.create_standalone_stream(id).await?);
        Ok(held(session, stream))
    }

    async fn resume(
        &self,
        id: &SessionId,
        last: String,
    ) -> Result<impl Stream<Item = ServerSseMessage> + Send + Sync + 'static, Fault> {
        let session = self.session(id)?;
        let stream: EventStream = Box::pin(session.manager.resume(id, last).await?);
        Ok(held(session, stream))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sessions(bounds: Bounds) -> Arc<Sessions> {
        Arc::new(Sessions { bounds, table: Mutex::default() })
    }

    fn own(sessions: &Arc<Sessions>, subject: &str) -> Own {
        Own::new(sessions.clone(), Subject::parse(subject).unwrap(), false, None)
    }

    fn is_there(own: &Own, id: &SessionId) -> bool {
        // As `find`, which would count as a use.
        own.sessions.table().get(id).is_some_and(|session| session.subject == own.subject)
    }

    /// A pause, so that of two uses one is the later.
    async fn later() {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }

    #[tokio::test]
    async fn a_full_table_has_no_room_for_newcomers_and_others_lose_their_own_oldest() {
        let sessions = sessions(Bounds { all: 3, of_one: 2, ..Bounds::default() });
        let [alice, bob, carol] = ["alice", "bob", "carol"].map(|subject| own(&sessions, subject));
        let (first, _running) = alice.create_session().await.unwrap();
        later().await;
        let (second, _running) = alice.create_session().await.unwrap();
        let (of_bob, _running) = bob.create_session().await.unwrap();
        assert!(!sessions.has_room_for(&carol.subject));
        assert!(sessions.has_room_for(&bob.subject));
        // What was used of late is not the oldest.
        later().await;
        assert!(alice.has_session(&first).await.unwrap());
        let (third, _running) = alice.create_session().await.unwrap();
        assert!(is_there(&alice, &first) && !is_there(&alice, &second) && is_there(&alice, &third));
        let (again, _running) = bob.create_session().await.unwrap();
        assert!(!is_there(&bob, &of_bob) && is_there(&bob, &again));
        assert_eq!(sessions.count(), 3);
        alice.close_session(&first).await.unwrap();
        assert!(sessions.has_room_for(&carol.subject));
    }

    #[tokio::test]
    async fn a_session_that_has_a_stream_goes_last() {
        let sessions = sessions(Bounds { of_one: 2, ..Bounds::default() });
        let alice = own(&sessions, "alice");
        let (first, _running) = alice.create_session().await.unwrap();
        let stream = held(alice.session(&first).unwrap(), Box::pin(futures_util::stream::pending()));
        later().await;
        let (second, _running) = alice.create_session().await.unwrap();
        let (third, _running) = alice.create_session().await.unwrap();
        assert!(is_there(&alice, &first) && !is_there(&alice, &second) && is_there(&alice, &third));
        drop(stream);
    }

    #[tokio::test]
    async fn a_session_that_nobody_uses_ends_unless_it_has_a_stream() {
        let moment = Duration::from_millis(50);
        let sessions = sessions(Bounds { idle: moment, sweep: moment / 10, ..Bounds::default() });
        let alice = own(&sessions, "alice");
        let (listening, _running) = alice.create_session().await.unwrap();
        let stream = held(alice.session(&listening).unwrap(), Box::pin(futures_util::stream::pending()));
        let (idle, _running) = alice.create_session().await.unwrap();
        let ended = CancellationToken::new();
        let sweep = tokio::spawn(Sessions::sweep(Arc::downgrade(&sessions), ended.clone()));
        while is_there(&alice, &idle) {
            later().await;
        }
        assert!(is_there(&alice, &listening), "it has a stream");
        assert!(alice.session(&idle).is_err());
        assert_eq!(alice.refusal(), Some(Refusal::Gone));
        drop(stream);
        while sessions.count() > 0 {
            later().await;
        }
        ended.cancel();
        sweep.await.unwrap();
    }
}
