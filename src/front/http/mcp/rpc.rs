//! `POST /mcp/rpc`: one message of JSON-RPC, one answer, and nothing before, between or after. For programs that
//! want no streams and no sessions. The client cannot be asked anything here, whatever it says it can do: a call
//! that needs a human needs an attached approver.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::StatusCode;
use rmcp::{
    model::{
        ClientRequest, EmptyResult, ErrorCode, ErrorData, GetExtensions, JsonRpcMessage,
        ServerJsonRpcMessage, ServerResult,
    },
    service::{RoleServer, serve_directly_with_ct},
    transport::OneshotTransport,
};
use tokio_util::sync::CancellationToken;

use super::{Detail, OrRefused, REFUSED, busy_schema, enter, message_schema, read, refused, seat};
use crate::{
    front::{
        http::{
            App,
            routes::{Access, Content, Endpoint, Reply, Routes},
        },
        mcp::{Dialog, McpServer},
    },
    op::Verb,
};

static RPC: Endpoint = Endpoint {
    verb: Verb::Post,
    path: "/mcp/rpc",
    tag: "mcp",
    title: "One message of MCP, one answer",
    about: "`initialize`, `tools/list`, `tools/call`, `shutdown` and the rest of MCP's requests as plain JSON-RPC, without sessions or streams. A call that needs a person waits for one at `vault-mcp approve`.",
    access: Access::Caller,
    parameters: &[],
    body: Content::Json(message_schema),
    replies: &[
        Reply {
            status: 200,
            when: "The answer, an error of the protocol included.",
            content: Content::Json(message_schema),
        },
        Reply { status: 202, when: "A notification was taken.", content: Content::Nothing },
        Reply { status: 400, when: "It is no message.", content: Content::Json(message_schema) },
        REFUSED,
        Reply {
            status: 429,
            when: "The caller has too many calls open; or this is no message, and one too many in the window.",
            content: Content::Json(busy_schema),
        },
        Reply { status: 503, when: "The server is ending.", content: Content::json::<Detail>() },
    ],
};

pub(super) fn routes() -> Routes {
    Routes::default().add(&RPC, rpc)
}

async fn rpc(State(app): State<Arc<App>>, request: Request) -> Response {
    try_rpc(&app, request).await.unwrap_or_else(|refused| *refused)
}

async fn try_rpc(app: &App, request: Request) -> OrRefused<Response> {
    let (mut parts, body) = request.into_parts();
    let caller = enter(app, &mut parts).await?;
    let (_, mut message) = read(body).await?;
    let request = match &mut message {
        JsonRpcMessage::Request(request) => request,
        JsonRpcMessage::Notification(_) => return Ok(StatusCode::ACCEPTED.into_response()),
        JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_) => {
            let fault = "Nothing was asked here that this could answer. Send a request or a notification.";
            return Err(
                refused(StatusCode::BAD_REQUEST, None, ErrorData::invalid_request(fault, None)).into()
            );
        }
    };
    let id = request.id.clone();
    match &request.request {
        // Of JSON-RPC dialects that end a session with it. There is none to end.
        ClientRequest::CustomRequest(custom) if custom.method == "shutdown" => {
            let done = ServerResult::EmptyResult(EmptyResult {});
            return Ok(Json(ServerJsonRpcMessage::response(done, id)).into_response());
        }
        ClientRequest::SubscriptionsListenRequest(_) | ClientRequest::SubscribeRequest(_) => {
            let fault = "One answer tells of no later changes. Listen at /mcp or /mcp/sse.";
            let error = ErrorData::new(ErrorCode::METHOD_NOT_FOUND, fault, None);
            return Ok(refused(StatusCode::OK, Some(id), error));
        }
        _ => {}
    }
    let seat = seat(app, &caller, &message)?;
    let server = McpServer::of_requests(app.mcp.house.clone(), &caller, Dialog::None);
    parts.extensions.insert(caller);
    if let Some(seat) = seat {
        parts.extensions.insert(seat);
    }
    if let JsonRpcMessage::Request(request) = &mut message {
        request.request.extensions_mut().insert(parts);
    }
    let (transport, mut answers) = OneshotTransport::<RoleServer>::new(message);
    let over = CancellationToken::new();
    let running = serve_directly_with_ct(server, transport, None, over.clone());
    // A task of its own: what is under way is finished and recorded, whether or not the client still waits.
    tokio::spawn(running.waiting());
    let _over = over.drop_guard();
    while let Some(answer) = answers.recv().await {
        if matches!(answer, JsonRpcMessage::Response(_) | JsonRpcMessage::Error(_)) {
            return Ok(Json(answer).into_response());
        }
        // Progress of the call: there is no stream to tell it on.
    }
    let error = ErrorData::internal_error("internal: The request was not answered. Please report it.", None);
    Ok(refused(StatusCode::OK, Some(id), error))
}
