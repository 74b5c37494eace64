//! What watches the server: each request is timed, counted, traced and written down here, under the name of its
//! route.
//!
//! What this module does not do: keep the audit log, which the broker keeps and nothing switches off. Nothing that
//! is noted here holds a header, a query, a body, or a path that is not the table's own.

mod access;
mod metrics;
mod observability;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request, State},
    middleware::Next,
    response::Response,
};
use http::{HeaderName, HeaderValue};
use tokio_util::sync::CancellationToken;
use tracing::{Instrument, Span};

use super::{
    App, Peer,
    answer::{Ids, Refusal},
    rest,
    routes::Routes,
};
use crate::{
    caller::Caller,
    error::Error,
    names::Subject,
    telemetry::{
        log, meters,
        trace::{self, Origin},
    },
};

const TRACE_ID: HeaderName = HeaderName::from_static("x-trace-id");

/// The routes by which it is watched.
pub(super) fn routes() -> Routes {
    metrics::routes().merge(observability::routes())
}

/// What is kept to watch the server by.
pub struct Watch {
    metrics: metrics::Metrics,
    access: Arc<access::Access>,
    began: Instant,
}

impl Watch {
    /// Begins to watch. Needs a runtime.
    ///
    /// # Errors
    /// `internal` when this process is watched by something else already.
    pub fn begin(files: &log::Files, ended: CancellationToken) -> Result<Self, Error> {
        let access = Arc::new(access::Access::new(files)?);
        Ok(Self { metrics: metrics::Metrics::begin(ended)?, access, began: Instant::now() })
    }
}

/// What a caller that left before the answer is counted as, as nginx has it.
const LEFT: u16 = 499;
/// The route of a request that none of ours is for.
const OTHER: &str = "other";

/// The name of a route: what stands in the table of operations, or in the router.
#[derive(Clone)]
enum Name {
    Operation(&'static str),
    Other(MatchedPath),
}

impl Name {
    fn of(request: &Request) -> Option<Self> {
        match request.extensions().get::<MatchedPath>() {
            Some(path) => Some(Self::Other(path.clone())),
            None => rest::template(request.method(), request.uri().path()).map(Self::Operation),
        }
    }

    fn as_str(&self) -> &str {
        match self {
            Self::Operation(template) => template,
            Self::Other(path) => path.as_str(),
        }
    }
}

/// A request, for the layers further in: they note what they find out.
struct Shared {
    access: Arc<access::Access>,
    method: &'static str,
    ids: Ids,
    peer: Peer,
    trace: Option<String>,
    noted: Mutex<Noted>,
}

#[derive(Default)]
struct Noted {
    route: Option<Name>,
    subject: Option<Subject>,
    /// Whether the request has its line; nothing before that is decided.
    written: Option<bool>,
}

impl Shared {
    fn noted(&self) -> MutexGuard<'_, Noted> {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What both lines of the log say.
    fn line<'a>(&'a self, noted: &'a Noted) -> access::Line<'a> {
        access::Line {
            request_id: &self.ids.request,
            correlation_id: &self.ids.correlation,
            trace_id: self.trace.as_deref(),
            method: self.method,
            route: noted.route.as_ref().map_or(OTHER, Name::as_str),
            subject: noted.subject.as_ref().map(Subject::as_str),
            client: self.peer.address,
        }
    }

    /// Writes the line about the request, once. True where there is one.
    fn write(&self, noted: &mut Noted) -> bool {
        let written = noted.written.unwrap_or_else(|| self.access.request(&self.line(noted)));
        noted.written = Some(written);
        written
    }
}

/// One request, from its head to its answer's head. It ends once, in whatever way.
struct Passage {
    shared: Arc<Shared>,
    span: Span,
    began: Instant,
    status: u16,
    refusal: Option<&'static str>,
}

impl Passage {
    fn begin(app: &App, request: &Request) -> Self {
        let began = Instant::now();
        let ids = request.extensions().get::<Ids>().cloned().unwrap_or_default();
        meters::request_began(ids.correlation != ids.request);
        let method = meters::method_word(request.method().as_str());
        let span = trace::request(method, &ids.request, &ids.correlation, request.headers());
        let shared = Shared {
            access: app.watch.access.clone(),
            method,
            ids,
            peer: request.extensions().get::<Peer>().cloned().unwrap_or_default(),
            trace: trace::id(&span),
            noted: Mutex::default(),
        };
        Self { shared: Arc::new(shared), span, began, status: LEFT, refusal: None }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let took = self.began.elapsed();
        let noted = &mut *self.shared.noted();
        let written = self.shared.write(noted);
        let line = self.shared.line(noted);
        meters::request_ended(line.method, line.route, self.status, took);
        trace::answered(&self.span, line.method, line.route, self.status);
        if written {
            self.shared.access.response(&line, self.status, took, self.refusal);
        }
    }
}

/// The layer around everything that can answer.
pub(super) async fn passage(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let mut passage = Passage::begin(&app, &request);
    request.extensions_mut().insert(passage.shared.clone());
    if let Some(path) = request.extensions().get::<MatchedPath>() {
        let mut noted = passage.shared.noted();
        noted.route = Some(Name::Other(path.clone()));
        passage.shared.write(&mut noted);
    }
    let mut response = next.run(request).instrument(passage.span.clone()).await;
    passage.status = response.status().as_u16();
    passage.refusal = response.extensions().get::<Refusal>().map(|Refusal(code)| *code);
    if let Some(id) = passage.shared.trace.as_ref().and_then(|id| HeaderValue::try_from(id).ok()) {
        response.headers_mut().insert(TRACE_ID, id);
    }
    response
}

/// The layer around what needs a credential: there the route can be told, whether or not there is one.
pub(super) async fn routed(request: Request, next: Next) -> Response {
    if let Some(shared) = request.extensions().get::<Arc<Shared>>() {
        shared.noted().route = Name::of(&request);
    }
    next.run(request).await
}

/// The layer behind the one that knows the caller.
pub(super) async fn called(mut request: Request, next: Next) -> Response {
    let extensions = request.extensions();
    let mut origin = None;
    if let (Some(shared), Some(caller)) = (extensions.get::<Arc<Shared>>(), extensions.get::<Caller>()) {
        trace::subject(&Span::current(), caller.subject.as_str());
        let mut noted = shared.noted();
        noted.subject = Some(caller.subject.clone());
        shared.write(&mut noted);
        origin = Some(Origin::new(&Span::current(), &shared.ids.request, &shared.ids.correlation));
    }
    // For calls that are carried out on tasks of a session's.
    if let Some(origin) = origin {
        request.extensions_mut().insert(origin);
    }
    next.run(request).await
}
