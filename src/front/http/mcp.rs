//! MCP over HTTP: `/mcp` (Streamable HTTP), `/mcp/rpc` and `/mcp/sse`.
//!
//! What rmcp leaves to a server is here: a body is read strictly before rmcp sees it, a session belongs to the
//! subject that began it ([`sessions`]), what a subject may have open is bounded ([`seat`]), what a broken
//! connection missed can be heard again ([`history`]), and pages of other sites are refused ([`site`]). What is
//! said in the protocol is `front/mcp`'s, as on standard input and output; who says it is each request's
//! [`Caller`], as `auth` established it.

mod history;
mod rpc;
mod seat;
mod sessions;
mod site;
mod sse;

use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};

use axum::{
    Json,
    body::{Body, Bytes, HttpBody, to_bytes},
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header, request::Parts};
use http_body_util::{BodyExt, Full};
use rmcp::{
    model::{
        ClientJsonRpcMessage, ClientRequest, ErrorCode, ErrorData, JsonRpcMessage, ProtocolVersion,
        RequestId, ServerJsonRpcMessage,
    },
    transport::{StreamableHttpServerConfig, StreamableHttpService},
};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use tokio_util::sync::CancellationToken;

use super::{
    App, Peer,
    answer::{Fault, plain},
    auth::Identity,
    routes::{Access, Content, Endpoint, Parameter, Place, Reply, Routes},
};
use crate::{
    broker::MAX_REQUEST,
    caller::{Caller, Front},
    config::Config,
    error::Error,
    front::{
        approver::Connection,
        mcp::{Dialog, House, McpServer, message},
    },
    op::Verb,
};
use seat::{Seat, Shares};
use sessions::{Own, Refusal, Sessions};
use site::Site;

/// How long answers may still be written once the server is to end. Streams that only listen end at once.
const FINISHING: Duration = Duration::from_secs(7);
/// What a client that lost its connection waits before it comes back.
const RETRY: Duration = Duration::from_secs(3);

/// How long the head of a stream waits for the call to begin that it is opened for.
const BEGINNING: Duration = Duration::from_secs(1);

/// The code of JSON-RPC for a caller that has too much open (the range is for servers to define).
const BUSY: i32 = -32000;

const SESSION: &str = "mcp-session-id";
const VERSION: &str = "mcp-protocol-version";

/// What the routes of MCP share.
pub struct Mcp {
    house: Arc<House>,
    sessions: Arc<Sessions>,
    shares: Shares,
    site: Site,
    settings: StreamableHttpServerConfig,
    /// Tells this process's events from another's.
    epoch: String,
    ended: CancellationToken,
    /// Cancelled when what is still unanswered at the end is given up.
    given_up: CancellationToken,
}

impl Mcp {
    /// For a server that is reached at this URL. Needs a runtime.
    ///
    /// # Errors
    /// When there is no randomness.
    pub(super) fn new(
        house: Arc<House>,
        config: &Config,
        url: &str,
        ended: CancellationToken,
    ) -> Result<Self, Error> {
        let mut epoch = [0; 4];
        crate::random::fill(&mut epoch)?;
        let epoch = hex::encode(epoch);
        let site = Site::of(config, url);
        let settings = site
            .settings()
            .clone()
            .with_max_request_body_bytes(MAX_REQUEST)
            .with_sse_keep_alive(Some(Duration::from_secs(*config.sse_keepalive_seconds)));
        let sessions = Arc::<Sessions>::default();
        tokio::spawn(Sessions::sweep(Arc::downgrade(&sessions), ended.clone()));
        let given_up = CancellationToken::new();
        let (ending, late) = (ended.clone(), given_up.clone());
        tokio::spawn(async move {
            ending.cancelled().await;
            tokio::time::sleep(FINISHING).await;
            late.cancel();
        });
        Ok(Self { house, sessions, shares: Shares::default(), site, settings, epoch, ended, given_up })
    }

    /// Sessions that are open.
    pub(super) fn open_sessions(&self) -> usize {
        self.sessions.count()
    }

    /// rmcp's service for one request of this caller.
    async fn serve(
        &self,
        caller: &Caller,
        own: &Arc<Own>,
        settings: StreamableHttpServerConfig,
        request: http::Request<Full<Bytes>>,
    ) -> Response {
        let server = McpServer::of_requests(self.house.clone(), caller, Dialog::Client);
        let service = StreamableHttpService::new(move || Ok(server.clone()), own.clone(), settings);
        plain_of(service.handle(request).await).await
    }
}

const SESSION_ID: Parameter = Parameter {
    name: "Mcp-Session-Id",
    place: Place::Header,
    about: "The session, in revisions that have them: as the answer to `initialize` named it.",
    schema: <String as JsonSchema>::json_schema,
};
const PROTOCOL_VERSION: Parameter = Parameter {
    name: "MCP-Protocol-Version",
    place: Place::Header,
    about: "The revision of the protocol, from 2025-06-18 on.",
    schema: <String as JsonSchema>::json_schema,
};
const LAST_EVENT: Parameter = Parameter {
    name: "Last-Event-ID",
    place: Place::Header,
    about: "The last event that was heard. What followed is sent again, as far as it is kept.",
    schema: <String as JsonSchema>::json_schema,
};

const EVENTS: Content = Content::Text("text/event-stream");
const REFUSED: Reply =
    Reply { status: 403, when: "The Host or the Origin is not ours.", content: Content::json::<Detail>() };
const NO_SESSION: Reply = Reply {
    status: 404,
    when: "There is no such session of this caller.",
    content: Content::json::<Detail>(),
};
const TOO_MANY: Reply = Reply {
    status: 429,
    when: "The caller has too many calls or streams open.",
    content: Content::json::<Detail>(),
};

static POST: Endpoint = Endpoint {
    verb: Verb::Post,
    path: "/mcp",
    tag: "mcp",
    title: "A message of MCP",
    about: "Streamable HTTP of every revision from 2024-11-05 to 2026-07-28. One JSON-RPC message a request; a request of the protocol is answered by a stream that ends with its result.",
    access: Access::Caller,
    parameters: &[SESSION_ID, PROTOCOL_VERSION],
    body: Content::Json(message_schema),
    replies: &[
        Reply { status: 200, when: "The answer, and what is said before it.", content: EVENTS },
        Reply { status: 202, when: "A notification or a response was taken.", content: Content::Nothing },
        Reply {
            status: 400,
            when: "It is no message, or contradicts its headers.",
            content: Content::Json(message_schema),
        },
        Reply {
            status: 403,
            when: "The Host or the Origin is not ours; or the call needs a scope that the token does not have and its issuer could give (`missing_scope`, and what to ask for in `WWW-Authenticate`).",
            content: Content::Fault,
        },
        NO_SESSION,
        Reply {
            status: 406,
            when: "The client does not accept both JSON and streams.",
            content: Content::json::<Detail>(),
        },
        Reply { status: 415, when: "The body is said to be no JSON.", content: Content::json::<Detail>() },
        Reply {
            status: 429,
            when: "The caller has too many calls or streams open; or a call that its token does not reach is one too many in the window.",
            content: Content::Json(busy_schema),
        },
        Reply { status: 503, when: "No session is free.", content: Content::json::<Detail>() },
    ],
};

static GET: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/mcp",
    tag: "mcp",
    title: "What a session's server says unasked",
    about: "A stream of the session, or with `Last-Event-ID` the rest of one whose connection broke. Revisions before 2026-07-28 only.",
    access: Access::Caller,
    parameters: &[SESSION_ID, PROTOCOL_VERSION, LAST_EVENT],
    body: Content::Nothing,
    replies: &[
        Reply { status: 200, when: "The stream.", content: EVENTS },
        Reply { status: 400, when: "A header is missing or unknown.", content: Content::json::<Detail>() },
        REFUSED,
        NO_SESSION,
        Reply { status: 405, when: "The revision has no such streams.", content: Content::json::<Detail>() },
        Reply {
            status: 406,
            when: "The client does not accept streams.",
            content: Content::json::<Detail>(),
        },
        TOO_MANY,
    ],
};

static DELETE: Endpoint = Endpoint {
    verb: Verb::Delete,
    path: "/mcp",
    tag: "mcp",
    title: "The end of a session",
    about: "Ends the session and what it waits for. Revisions before 2026-07-28 only.",
    access: Access::Caller,
    parameters: &[SESSION_ID, PROTOCOL_VERSION],
    body: Content::Nothing,
    replies: &[
        Reply { status: 202, when: "It has ended.", content: Content::Nothing },
        Reply { status: 400, when: "A header is missing or unknown.", content: Content::json::<Detail>() },
        REFUSED,
        NO_SESSION,
        Reply { status: 405, when: "The revision has no sessions.", content: Content::json::<Detail>() },
    ],
};

/// A refusal in words.
#[derive(serde::Serialize, JsonSchema)]
struct Detail {
    /// What is wrong.
    detail: String,
}

/// A message of JSON-RPC 2.0: what is in it is MCP's to say.
fn message_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({
        "type": "object",
        "properties": {
            "jsonrpc": { "const": "2.0" },
            "id": { "type": ["integer", "string"] },
            "method": { "type": "string" },
            "params": { "type": "object" }
        },
        "required": ["jsonrpc"]
    })
}

/// Said in the protocol where it is the protocol's request that has no room, else as all other refusals are.
fn busy_schema(generator: &mut SchemaGenerator) -> Schema {
    json_schema!({ "anyOf": [message_schema(generator), Detail::json_schema(generator)] })
}

/// For callers with a credential.
pub(super) fn routes() -> Routes {
    Routes::default()
        .add(&POST, post)
        .add(&GET, get)
        .add(&DELETE, delete)
        .merge(rpc::routes())
        .merge(sse::routes())
}

/// Something, or the answer that there is none.
type OrRefused<T> = Result<T, Box<Response>>;

/// Who sends a request, once it is clear that no other site does. The credential goes no further.
async fn enter(app: &App, parts: &mut Parts) -> OrRefused<Caller> {
    if let Some(refusal) = app.mcp.site.refusal(&parts.uri, &parts.headers).await {
        return Err(refusal.into());
    }
    for name in [header::AUTHORIZATION, header::COOKIE, HeaderName::from_static("x-api-key")] {
        parts.headers.remove(name);
    }
    if let Some(peer) = parts.extensions.get::<Peer>() {
        let (client, server) = (SocketAddr::new(peer.address, peer.port), peer.local);
        parts.extensions.insert(Connection { client, server });
    }
    let Some(caller) = parts.extensions.remove::<Caller>() else {
        return Err(Fault(Error::Internal { what: "a message without a caller" }).into_response().into());
    };
    Ok(Caller { front: Front::McpHttp, ..caller })
}

/// Takes the message out of a request. What is no message is answered as JSON-RPC has it.
async fn read(body: Body) -> OrRefused<(Bytes, ClientJsonRpcMessage)> {
    let text = to_bytes(body, MAX_REQUEST)
        .await
        .map_err(|_| Fault(Error::TooLarge { what: "The body", limit: MAX_REQUEST }).into_response())?;
    match message::read(&text) {
        Ok(message) => Ok((text, message)),
        Err(unreadable) => Err(refused(StatusCode::BAD_REQUEST, unreadable.id, unreadable.error).into()),
    }
}

/// An error of JSON-RPC.
fn refused(status: StatusCode, id: Option<RequestId>, error: ErrorData) -> Response {
    (status, Json(ServerJsonRpcMessage::error(error, id))).into_response()
}

/// The seat of a request, or the answer that there is none.
fn seat(app: &App, caller: &Caller, message: &ClientJsonRpcMessage) -> OrRefused<Option<Arc<Seat>>> {
    let JsonRpcMessage::Request(request) = message else { return Ok(None) };
    let taken = match &request.request {
        ClientRequest::PingRequest(_) => return Ok(None),
        ClientRequest::SubscriptionsListenRequest(_) => app.mcp.shares.stream(&caller.subject),
        _ => app.mcp.shares.call(&caller.subject),
    };
    taken.map(Some).map_err(|error| {
        let error = ErrorData::new(ErrorCode(BUSY), format!("{}: {error}", error.code()), None);
        let mut response = refused(StatusCode::TOO_MANY_REQUESTS, Some(request.id.clone()), error);
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        response.into()
    })
}

/// 403 for a call that needs another token, where there is an issuer who could give it: by that, clients know to
/// ask for one (MCP 2025-11-25 and 2026-07-28, authorization). Elsewhere nobody could act on it, and the model is
/// told, as of every other refusal.
fn beyond_its_token(
    app: &App,
    parts: &Parts,
    caller: &Caller,
    message: &ClientJsonRpcMessage,
) -> Option<Response> {
    let JsonRpcMessage::Request(request) = message else { return None };
    let ClientRequest::CallToolRequest(call) = &request.request else { return None };
    parts.extensions.get::<Identity>().filter(|identity| app.auth.can_step_up(identity))?;
    let op = crate::op::find(&call.params.name).filter(|op| app.broker.offers(op))?;
    app.broker.lacks_scope(op, caller).map(|error| Fault(error).into_response())
}

/// Whether it costs its caller a call in any case. A completion may, and its answer is not waited for.
fn makes_a_call(message: &ClientJsonRpcMessage) -> bool {
    let JsonRpcMessage::Request(request) = message else { return false };
    matches!(
        request.request,
        ClientRequest::CallToolRequest(_)
            | ClientRequest::ReadResourceRequest(_)
            | ClientRequest::ListResourcesRequest(_)
    )
}

fn session_of(headers: &HeaderMap) -> Option<&str> {
    headers.get(SESSION)?.to_str().ok()
}

/// Whether this revision's clients know events without data (SEP-1699).
fn is_primed(version: &ProtocolVersion) -> bool {
    version.as_str() >= ProtocolVersion::V_2025_11_25.as_str()
}

async fn post(State(app): State<Arc<App>>, request: Request) -> Response {
    try_post(&app, request).await.unwrap_or_else(|refused| *refused)
}

async fn try_post(app: &App, request: Request) -> OrRefused<Response> {
    let (mut parts, body) = request.into_parts();
    let caller = enter(app, &mut parts).await?;
    let (text, message) = read(body).await?;
    let seat = seat(app, &caller, &message)?;
    if let Some(refusal) = beyond_its_token(app, &parts, &caller, &message) {
        return Err(refusal.into());
    }
    let begun = match &message {
        JsonRpcMessage::Request(request) => match &request.request {
            ClientRequest::InitializeRequest(begin) => Some(is_primed(&begin.params.protocol_version)),
            _ => None,
        },
        _ => None,
    };
    let mcp = &app.mcp;
    if begun.is_some() && session_of(&parts.headers).is_none() && !mcp.sessions.has_room_for(&caller.subject)
    {
        return Err(plain(StatusCode::SERVICE_UNAVAILABLE, "No session is free. Try again later").into());
    }
    let primed = begun.unwrap_or_default();
    let own = Arc::new(Own::new(mcp.sessions.clone(), caller.subject.clone(), primed, seat.clone()));
    parts.extensions.insert(caller.clone());
    if let Some(seat) = seat {
        parts.extensions.insert(seat);
    }
    let settings = mcp.settings.clone().with_sse_retry(primed.then_some(RETRY));
    let settings = settings.with_cancellation_token(mcp.given_up.clone());
    let request = http::Request::from_parts(parts, Full::new(text));
    let response = mcp.serve(&caller, &own, settings, request).await;
    if makes_a_call(&message) && response.status().is_success() && app.broker.limits_calls() {
        // In a session the stream is there before the call has begun, and its head says what the call leaves.
        let _ = tokio::time::timeout(BEGINNING, caller.meter.noted()).await;
    }
    Ok(match own.refusal() {
        None => response,
        Some(Refusal::Gone) => no_session(),
        Some(Refusal::IdTaken) => {
            let fault = "The id belongs to a request that is still running. Use a new id.";
            // Under that id the other request is answered.
            refused(StatusCode::BAD_REQUEST, None, ErrorData::invalid_request(fault, None))
        }
    })
}

async fn get(State(app): State<Arc<App>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let caller = match enter(&app, &mut parts).await {
        Ok(caller) => caller,
        Err(refused) => return *refused,
    };
    let mcp = &app.mcp;
    let seat = match mcp.shares.stream(&caller.subject) {
        Ok(seat) => seat,
        Err(error) => return Fault(error).into_response(),
    };
    let session = session_of(&parts.headers).and_then(|id| mcp.sessions.find(id, &caller.subject));
    let primed = session.is_some_and(|session| session.primed);
    let own = Arc::new(Own::new(mcp.sessions.clone(), caller.subject.clone(), primed, None));
    let settings = mcp.settings.clone().with_sse_retry(primed.then_some(RETRY));
    let settings = settings.with_cancellation_token(mcp.ended.clone());
    let request = http::Request::from_parts(parts, Full::default());
    let response = mcp.serve(&caller, &own, settings, request).await;
    if own.refusal().is_some() {
        return no_session();
    }
    // Held for as long as the stream is.
    response.map(|body| {
        Body::new(body.map_frame(move |frame| {
            let _ = &seat;
            frame
        }))
    })
}

async fn delete(State(app): State<Arc<App>>, request: Request) -> Response {
    let (mut parts, _) = request.into_parts();
    let caller = match enter(&app, &mut parts).await {
        Ok(caller) => caller,
        Err(refused) => return *refused,
    };
    let mcp = &app.mcp;
    // rmcp takes the end of a session that is not there for a success.
    let modern = parts.headers.get(VERSION).is_some_and(|version| {
        version.to_str().is_ok_and(|version| version >= ProtocolVersion::V_2026_07_28.as_str())
    });
    if !modern
        && let Some(id) = session_of(&parts.headers)
        && mcp.sessions.find(id, &caller.subject).is_none()
    {
        return no_session();
    }
    let own = Arc::new(Own::new(mcp.sessions.clone(), caller.subject.clone(), false, None));
    let request = http::Request::from_parts(parts, Full::default());
    mcp.serve(&caller, &own, mcp.settings.clone(), request).await
}

fn no_session() -> Response {
    plain(StatusCode::NOT_FOUND, "Not Found: Session not found")
}

/// rmcp's refusals in words, as all others of this server are.
async fn plain_of<B>(response: http::Response<B>) -> Response
where
    B: HttpBody<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let is_json = response.headers().get(header::CONTENT_TYPE).is_some_and(|kind| kind == "application/json");
    if response.status().is_success() || is_json {
        return response.map(Body::new);
    }
    let (parts, body) = response.into_parts();
    let text = body.collect().await.map_or_else(|never| match never {}, http_body_util::Collected::to_bytes);
    let mut response = plain(parts.status, &String::from_utf8_lossy(&text));
    if let Some(allowed) = parts.headers.get(header::ALLOW) {
        response.headers_mut().insert(header::ALLOW, allowed.clone());
    }
    response
}
