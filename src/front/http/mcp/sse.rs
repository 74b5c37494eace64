//! `GET /mcp/sse`: what happens to the caller's subject, as server-sent events: calls of tools that ended, and
//! secrets that changed. No event holds a value or the name of a key, and none is another subject's.
//!
//! Each event has an id; a client that comes back with the last one hears what it missed, as far as it is kept.

use std::{convert::Infallible, sync::Arc, time::Duration};

use axum::{
    extract::{Request, State},
    response::{
        IntoResponse, Response, Sse,
        sse::{Event as SseEvent, KeepAlive},
    },
};
use futures_util::stream;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::{Value, json};

use super::{EVENTS, LAST_EVENT, REFUSED, Seat, TOO_MANY, enter};
use crate::{
    broker::events::{Event, Listener, Missed, Since, What},
    caller::Caller,
    front::http::{
        App,
        answer::Fault,
        routes::{Access, Content, Endpoint, Reply, Routes},
    },
    op::Verb,
};

static SSE: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/mcp/sse",
    tag: "mcp",
    title: "What happens to the caller",
    about: "Events as they come: `tool.completed` {type, tool, subject, ts} when a call of a tool ends, well or not; `resource.changed` {type, uri, subject, ts} when something in Vault changed; `lagged` {type, missed} when events were missed, after which a slow reader is let go. Comments in between say that the connection lives.",
    access: Access::Caller,
    parameters: &[LAST_EVENT],
    body: Content::Nothing,
    replies: &[Reply { status: 200, when: "The events.", content: EVENTS }, REFUSED, TOO_MANY],
};

pub(super) fn routes() -> Routes {
    Routes::default().add(&SSE, listen)
}

async fn listen(State(app): State<Arc<App>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let caller = match enter(&app, &mut parts).await {
        Ok(caller) => caller,
        Err(refused) => return *refused,
    };
    let seat = match app.mcp.shares.stream(&caller.subject) {
        Ok(seat) => seat,
        Err(error) => return Fault(error).into_response(),
    };
    let since = last_heard(&parts.headers, &app.mcp.epoch);
    let events = app.broker.events().listen(&caller.subject, since);
    let keep_alive = Duration::from_secs(*app.broker.config().sse_keepalive_seconds);
    let told = Told { app, caller, events, caught_up: false, over: false, _seat: seat };
    let mut response = Sse::new(stream::unfold(told, Told::next))
        .keep_alive(KeepAlive::new().interval(keep_alive).text("keep-alive"))
        .into_response();
    // nginx would gather events before it passes them on.
    response
        .headers_mut()
        .insert(HeaderName::from_static("x-accel-buffering"), HeaderValue::from_static("no"));
    response
}

/// From where a client that comes back hears: what it heard last is known only to the process that told it.
fn last_heard(headers: &HeaderMap, epoch: &str) -> Since {
    let Some(id) = headers.get("last-event-id").and_then(|id| id.to_str().ok()) else { return Since::Now };
    match id.split_once('-') {
        Some((process, number)) if process == epoch => number.parse().map_or(Since::Now, Since::After),
        // Another process told it, this one before a restart say: all that is kept is news.
        Some(_) => Since::After(0),
        None => Since::Now,
    }
}

/// A stream of events.
struct Told {
    app: Arc<App>,
    caller: Caller,
    events: Listener,
    /// What was kept for the client has been told: from now on it keeps up or is let go.
    caught_up: bool,
    over: bool,
    _seat: Arc<Seat>,
}

impl Told {
    async fn next(mut self) -> Option<(Result<SseEvent, Infallible>, Self)> {
        while !self.over {
            let heard = match self.events.take() {
                Some(heard) => heard,
                None => {
                    self.caught_up = true;
                    tokio::select! {
                        heard = self.events.next() => heard,
                        () = self.app.ended.cancelled() => return None,
                    }
                }
            };
            let (id, data) = match heard {
                Ok(event) => (Some(event.number), self.data(&event)),
                Err(Missed(missed)) => {
                    self.over = self.caught_up;
                    (None, Some(json!({ "type": "lagged", "missed": missed })))
                }
            };
            let Some(data) = data else { continue };
            let mut event = SseEvent::default().data(data.to_string());
            if let Some(number) = id {
                event = event.id(format!("{}-{number}", self.app.mcp.epoch));
            }
            return Some((Ok(event), self));
        }
        None
    }

    /// Nothing for what has no name on this side, such as another mount.
    fn data(&self, event: &Event) -> Option<Value> {
        let subject = self.caller.subject.as_str();
        let ts = event.at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true);
        match &event.what {
            What::Completed { tool } => {
                Some(json!({ "type": "tool.completed", "tool": tool, "subject": subject, "ts": ts }))
            }
            What::Changed { target } => {
                let path = self.caller.place.relative(target)?;
                let uri = format!("kv://{subject}/{path}");
                Some(json!({ "type": "resource.changed", "uri": uri, "subject": subject, "ts": ts }))
            }
        }
    }
}
