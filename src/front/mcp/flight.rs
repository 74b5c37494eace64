//! The requests that are under way: which ids are taken, how many may run at a time, and when the last one
//! is done.
//!
//! rmcp gives no answer to a request that its client cancelled, while the handler may still be at work. So
//! a request is over when its answer is written, or when it was cancelled and its handler has ended.

use std::{
    collections::HashMap,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use futures_util::FutureExt;
use rmcp::{
    ErrorData, RoleServer, Service,
    model::{
        ClientNotification, ClientRequest, ErrorCode, ProtocolVersion, RequestId, ServerConfig, ServerResult,
    },
    service::{NotificationContext, RequestContext},
};
use tokio::{sync::Notify, time::Instant};

/// Requests that run at a time; the next one waits in the pipe.
const MAX_RUNNING: usize = 64;
/// How long the end waits for what runs: longer than a call may take, an approver's own write included.
const FINISHING: Duration = Duration::from_secs(35);
/// How long the end then waits for a client to read its answers.
const HEARING: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Request {
    running: bool,
    cancelled: bool,
    handled: bool,
}

/// The requests of one session.
#[derive(Default)]
pub struct InFlight {
    requests: Mutex<HashMap<RequestId, Request>>,
    changed: Notify,
}

impl InFlight {
    fn lock(&self) -> MutexGuard<'_, HashMap<RequestId, Request>> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// False when the id is taken.
    pub(in crate::front) fn arrived(&self, id: &RequestId) -> bool {
        let mut requests = self.lock();
        if requests.contains_key(id) {
            return false;
        }
        requests.insert(id.clone(), Request::default());
        true
    }

    /// Gives a place to run, if there is one.
    pub(super) fn admit(&self, id: &RequestId) -> bool {
        let mut requests = self.lock();
        if requests.values().filter(|request| request.running).count() >= MAX_RUNNING {
            return false;
        }
        if let Some(request) = requests.get_mut(id) {
            request.running = true;
        }
        true
    }

    /// The answer is written.
    pub(in crate::front) fn sent(&self, id: &RequestId) {
        if self.lock().remove(id).is_some() {
            self.changed.notify_one();
        }
    }

    /// The client no longer wants an answer.
    pub(in crate::front) fn cancelled(&self, id: &RequestId) {
        self.mark(id, |request| request.cancelled = true);
    }

    pub(in crate::front) fn handled(&self, id: &RequestId) {
        self.mark(id, |request| request.handled = true);
    }

    fn mark(&self, id: &RequestId, mark: impl FnOnce(&mut Request)) {
        let mut requests = self.lock();
        let Some(request) = requests.get_mut(id) else { return };
        mark(request);
        if request.cancelled && request.handled {
            requests.remove(id);
        }
        self.changed.notify_one();
    }

    /// Waits until something changed since the last time.
    pub(super) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until nothing runs and every answer is written, within bounds.
    pub(super) async fn drained(&self) {
        self.drained_within(FINISHING, HEARING).await;
    }

    async fn drained_within(&self, finishing: Duration, hearing: Duration) {
        let mut until = Instant::now() + finishing;
        let mut finished = false;
        loop {
            {
                let requests = self.lock();
                if requests.is_empty() {
                    return;
                }
                if !finished && requests.values().all(|request| request.handled || !request.running) {
                    finished = true;
                    until = Instant::now() + hearing;
                }
            }
            if tokio::time::timeout_at(until, self.changed()).await.is_err() {
                return;
            }
        }
    }
}

/// What a request is answered that ended in a panic.
pub(super) fn panicked() -> ErrorData {
    let message = "internal: The request ended in a panic. Please report it.";
    ErrorData::new(ErrorCode::INTERNAL_ERROR, message, None)
}

/// A service whose every request is told of when it is done, however it ends.
pub struct Tracked<S> {
    service: S,
    in_flight: Arc<InFlight>,
}

impl<S> Tracked<S> {
    /// Tracks the requests of this service.
    pub fn new(service: S, in_flight: Arc<InFlight>) -> Self {
        Self { service, in_flight }
    }
}

impl<S: Service<RoleServer>> Service<RoleServer> for Tracked<S> {
    async fn handle_request(
        &self,
        request: ClientRequest,
        context: RequestContext<RoleServer>,
    ) -> Result<ServerResult, ErrorData> {
        let id = context.id.clone();
        // Boxed, because rmcp moves the future that holds this one about: it is several kilobytes.
        let handling = Box::pin(self.service.handle_request(request, context));
        let result = AssertUnwindSafe(handling).catch_unwind().await;
        self.in_flight.handled(&id);
        // A panic in one request must not leave its caller waiting for ever.
        result.unwrap_or_else(|_| Err(panicked()))
    }

    async fn handle_notification(
        &self,
        notification: ClientNotification,
        context: NotificationContext<RoleServer>,
    ) -> Result<(), ErrorData> {
        self.service.handle_notification(notification, context).await
    }

    fn get_info(&self) -> ServerConfig {
        self.service.get_info()
    }

    fn supported_protocol_versions(&self) -> std::borrow::Cow<'static, [ProtocolVersion]> {
        self.service.supported_protocol_versions()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: i64) -> RequestId {
        RequestId::Number(number)
    }

    #[test]
    fn an_id_is_free_again_when_its_answer_is_written() {
        let flight = InFlight::default();
        assert!(flight.arrived(&id(1)) && !flight.arrived(&id(1)));
        flight.handled(&id(1));
        assert!(!flight.arrived(&id(1)));
        flight.sent(&id(1));
        assert!(flight.arrived(&id(1)));
    }

    #[test]
    fn a_cancelled_request_keeps_its_place_until_its_handler_ends() {
        let flight = InFlight::default();
        for number in 0..64 {
            assert!(flight.arrived(&id(number)) && flight.admit(&id(number)));
        }
        assert!(flight.arrived(&id(64)) && !flight.admit(&id(64)));
        flight.cancelled(&id(0));
        assert!(!flight.admit(&id(64)));
        flight.handled(&id(0));
        assert!(flight.admit(&id(64)));
        // In the other order as well.
        flight.handled(&id(1));
        assert!(!flight.arrived(&id(1)));
        flight.cancelled(&id(1));
        assert!(flight.arrived(&id(1)));
    }

    #[tokio::test]
    async fn the_end_waits_long_for_handlers_and_shortly_for_readers() {
        let flight = Arc::new(InFlight::default());
        let (finishing, hearing) = (Duration::from_secs(60), Duration::from_millis(20));
        flight.drained_within(finishing, finishing).await;
        // A handler at work is waited for; that its answer is not read, hardly.
        assert!(flight.arrived(&id(1)) && flight.admit(&id(1)));
        let later = flight.clone();
        let handler = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(60)).await;
            later.handled(&id(1));
        });
        let start = Instant::now();
        flight.drained_within(finishing, hearing).await;
        assert!(handler.is_finished() && start.elapsed() >= Duration::from_millis(80));
        assert!(start.elapsed() < finishing);
        // A handler that does not end is given up.
        assert!(flight.arrived(&id(2)) && flight.admit(&id(2)));
        flight.drained_within(hearing, finishing).await;
    }

    struct Panics;

    impl rmcp::ServerHandler for Panics {
        async fn list_prompts(
            &self,
            _: Option<rmcp::model::PaginatedRequestParams>,
            _: RequestContext<RoleServer>,
        ) -> Result<rmcp::model::ListPromptsResult, ErrorData> {
            panic!("a value that nobody may see")
        }
    }

    #[tokio::test]
    async fn a_panic_is_answered_and_the_session_goes_on() {
        use rmcp::ServiceExt;
        use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};

        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (read, write) = tokio::io::split(theirs);
        let ended = tokio_util::sync::CancellationToken::new();
        let transport = super::super::stdio::StdioTransport::new(read, write, ended);
        let service = Tracked::new(Panics, transport.in_flight());
        let server = tokio::spawn(async move { service.serve(transport).await.unwrap().waiting().await });
        let (read, mut write) = tokio::io::split(ours);
        let mut lines = BufReader::new(read).lines();
        let mut exchange = async |line: &str| {
            write.write_all(line.as_bytes()).await.unwrap();
            write.write_all(b"\n").await.unwrap();
            let answer = lines.next_line().await.unwrap().unwrap();
            serde_json::from_str::<serde_json::Value>(&answer).unwrap()
        };
        exchange(r#"{"jsonrpc":"2.0","id":1,"method":"initialize","params":{"protocolVersion":"2025-11-25","capabilities":{},"clientInfo":{"name":"x","version":"1"}}}"#).await;
        for _ in 0..2 {
            let answer = exchange(r#"{"jsonrpc":"2.0","id":2,"method":"prompts/list"}"#).await;
            assert_eq!((&answer["id"], &answer["error"]["code"]), (&2.into(), &(-32603).into()));
            assert!(!answer.to_string().contains("nobody may see"));
        }
        assert_eq!(exchange(r#"{"jsonrpc":"2.0","id":3,"method":"ping"}"#).await["id"], 3);
        drop((write, lines));
        server.await.unwrap().unwrap();
    }
}
