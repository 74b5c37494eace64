//! The client's folders (MCP roots): asked for when the first call needs a file, and again after the client said
//! that they changed. A client that names none, or does not answer, leaves the working folder.
//!
//! Protocols before 2026-07-28 only. There, roots are deprecated (SEP-2577), and without a session each call that
//! needs a file would cost a round trip more and a list to be carried along under seal: the working folder serves.
#![allow(deprecated)] // in 2026-07-28, as said above

use std::{convert::Infallible, future::Future, pin::Pin, sync::Arc, time::Duration};

use rmcp::{
    model::{ClientResult, ListRootsRequest, ServerRequest},
    service::{RequestContext, RoleServer},
};
use tokio::sync::{Mutex, OnceCell};

use super::{
    confirm::{self, Heard},
    handler::McpServer,
};
use crate::{
    broker::Closed,
    caller::Front,
    handover::{FindRoots, Root, Roots, of_client},
};

/// How long a client may take to name its folders. They are its own settings; nobody is asked.
const PATIENCE: Duration = Duration::from_secs(3);

/// What the client of this session said; nothing before it was asked, and after it said that this changed.
#[derive(Default)]
pub(super) struct Told(Mutex<Option<Arc<[Root]>>>);

impl Told {
    /// The client's folders have changed.
    pub(super) async fn forget(&self) {
        *self.0.lock().await = None;
    }
}

/// Where this call's files may lie.
pub(super) fn of(server: &McpServer, context: &RequestContext<RoleServer>) -> Roots {
    let session = server.session_caller();
    let capabilities = context.peer.peer_info().map(|info| info.capabilities.clone());
    let names_folders = capabilities.is_some_and(|has| has.roots.is_some());
    // A client on another machine speaks of folders there.
    if session.front != Front::Stdio || confirm::speaks_input_required(context) || !names_folders {
        return session.roots.clone();
    }
    let found = OnceCell::new();
    Roots::Asked(Arc::new(OfCall { server: server.clone(), context: context.clone(), found }))
}

/// One call asks once: what a human was shown stays so until the call is done.
struct OfCall {
    server: McpServer,
    context: RequestContext<RoleServer>,
    found: OnceCell<Arc<[Root]>>,
}

impl FindRoots for OfCall {
    fn find(&self) -> Pin<Box<dyn Future<Output = Arc<[Root]>> + Send + '_>> {
        Box::pin(async { self.found.get_or_init(|| self.of_session()).await.clone() })
    }
}

impl OfCall {
    async fn of_session(&self) -> Arc<[Root]> {
        // Held while asking: calls that come together ask once.
        let mut told = self.server.told_roots().0.lock().await;
        if let Some(known) = &*told {
            return known.clone();
        }
        let request = ServerRequest::ListRootsRequest(ListRootsRequest::default());
        let quietly = std::future::pending::<Infallible>();
        let answer = confirm::request(&self.server, &self.context, request, PATIENCE, quietly).await;
        let roots = match answer {
            Ok(Heard::Client(ClientResult::ListRootsResult(list))) if !list.roots.is_empty() => {
                of_client(list.roots.iter().map(|root| root.uri.as_str()))
            }
            // The call is over, and that says nothing of the client's folders.
            Err(Closed::Cancelled) => return Arc::from([]),
            // No folder is open, or the client does not say.
            _ => self.server.session_caller().roots.find().await,
        };
        *told = Some(roots.clone());
        roots
    }
}
