//! What watches the server: each request is timed and counted here, under the name of its route.
//!
//! What this module does not do: keep the audit log, which the broker keeps and nothing switches off. Nothing that
//! is noted here holds a header, a query, a body, or a path that is not the table's own.

mod metrics;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request},
    middleware::Next,
    response::Response,
};
use tokio_util::sync::CancellationToken;

use super::{answer::Ids, rest, routes::Routes};
use crate::{error::Error, telemetry::meters};

/// The routes by which it is watched.
pub(super) fn routes() -> Routes {
    metrics::routes()
}

/// What is kept to watch the server by.
pub struct Watch {
    metrics: metrics::Metrics,
}

impl Watch {
    /// Begins to watch. Needs a runtime.
    ///
    /// # Errors
    /// `internal` when this process is watched by something else already.
    pub fn begin(ended: CancellationToken) -> Result<Self, Error> {
        Ok(Self { metrics: metrics::Metrics::begin(ended)? })
    }
}

/// What a caller that left before the answer is counted as, as nginx has it.
const LEFT: u16 = 499;
/// The route of a request that none of ours is for, or that was refused before anybody looked.
const OTHER: &str = "other";

/// What the layers further in find out about a request.
#[derive(Clone, Default)]
struct Noted(Arc<Mutex<Option<Name>>>);

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

impl Noted {
    fn lock(&self) -> MutexGuard<'_, Option<Name>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One request, from its head to its answer's head. It ends once, in whatever way.
struct Passage {
    method: &'static str,
    began: Instant,
    noted: Noted,
    status: u16,
}

impl Passage {
    fn begin(request: &Request) -> Self {
        let ids = request.extensions().get::<Ids>();
        meters::request_began(ids.is_some_and(|ids| ids.correlation != ids.request));
        Self {
            method: meters::method_word(request.method().as_str()),
            began: Instant::now(),
            noted: Noted::default(),
            status: LEFT,
        }
    }
}

impl Drop for Passage {
    fn drop(&mut self) {
        let name = self.noted.lock().take();
        let route = name.as_ref().map_or(OTHER, Name::as_str);
        meters::request_ended(self.method, route, self.status, self.began.elapsed());
    }
}

/// The layer around everything that can answer.
pub(super) async fn passage(mut request: Request, next: Next) -> Response {
    let mut passage = Passage::begin(&request);
    *passage.noted.lock() = request.extensions().get::<MatchedPath>().cloned().map(Name::Other);
    request.extensions_mut().insert(passage.noted.clone());
    let response = next.run(request).await;
    passage.status = response.status().as_u16();
    response
}

/// The layer around what needs a credential: there the route can be told, whether or not there is one.
pub(super) async fn routed(request: Request, next: Next) -> Response {
    if let Some(noted) = request.extensions().get::<Noted>() {
        *noted.lock() = Name::of(&request);
    }
    next.run(request).await
}
