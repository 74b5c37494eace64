//! Carries the broker's question to a human: an attached approver first, else the client's own dialog, in
//! whichever of the two protocols the client speaks. The model has no part in it.

use std::{convert::Infallible, future::Future, time::Duration};

use http::request::Parts;
use rmcp::{
    model::{
        CancelledNotification, CancelledNotificationParam, ClientResult, ElicitRequest, ElicitRequestParams,
        ElicitResult, ElicitationAction, ElicitationCapability, ElicitationSchema, InputRequest,
        InputRequests, InputRequiredResult, InputResponses, ProgressNotificationParam, ProtocolVersion,
        RequestStateCodec, SealOptions, ServerRequest, StringSchema,
    },
    service::{PeerRequestOptions, RequestContext, RoleServer, ServiceError},
};
use serde_json::Value;

use super::{
    handler::{Dialog, McpServer},
    typed,
};
use crate::{
    broker::{Approved, CallDigest, Channel, Closed, Consent, Question, TicketId},
    caller::Caller,
    config::{Approval, Config},
    error::Error,
    front::approver::{Connection, Decision},
    op::Op,
};

/// Key of our question among a result's input requests.
const QUESTION: &str = "approval";
/// Name of the one field of the form.
const FIELD: &str = "answer";
/// How often a waiting call says so.
const TELL_EVERY: Duration = Duration::from_secs(5);
/// The exact text that is a yes.
const YES: &str = "yes";

/// What came of asking.
pub(super) enum Asked {
    /// A human said yes.
    Approved(Approved),
    /// The client must ask and repeat the call.
    Repeat(InputRequiredResult),
}

/// Whether the client can be told to ask its human and send the request again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum MayRepeat {
    /// A tool call can.
    Yes,
    /// Reading a resource, or completing a name, cannot: the question would be left open.
    No,
}

/// The form: one required text without default. An empty accept, a default or a ticked box is no yes.
fn form() -> ElicitationSchema {
    let described = |field: StringSchema| {
        field
            .title("Answer")
            .description("Type yes to allow it. Anything else, or an empty answer, does nothing.")
            .max_length(16)
    };
    ElicitationSchema::builder().required_string_property(FIELD, described).build_unchecked()
}

pub(super) fn speaks_input_required(context: &RequestContext<RoleServer>) -> bool {
    context
        .protocol_version()
        .is_some_and(|version| version.as_str() >= ProtocolVersion::V_2026_07_28.as_str())
}

/// Whether the client says it can show a form. `_meta` counts only where the protocol has it there, and nothing
/// counts where nothing can be asked.
fn shows_forms(server: &McpServer, context: &RequestContext<RoleServer>) -> bool {
    elicitation(server, context).is_some_and(|modes| modes.form.is_some() || modes.url.is_none())
}

/// How the client says that it can ask.
pub(super) fn elicitation(
    server: &McpServer,
    context: &RequestContext<RoleServer>,
) -> Option<ElicitationCapability> {
    if server.dialog() == Dialog::None {
        return None;
    }
    let capabilities = if speaks_input_required(context) {
        context.client_capabilities()
    } else {
        context.peer.peer_info().map(|info| info.capabilities.clone())
    };
    capabilities.and_then(|capabilities| capabilities.elicitation)
}

/// The connection that a request came over; none on standard input, where the client is the server's parent.
fn connection(context: &RequestContext<RoleServer>) -> Option<Connection> {
    context.extensions.get::<Parts>()?.extensions.get::<Connection>().copied()
}

/// Asks, and gives a human's yes or the way to get it.
///
/// # Errors
/// Declined, cancelled, timed out, nobody to ask: each its own code.
pub(super) async fn ask(
    server: &McpServer,
    context: &RequestContext<RoleServer>,
    op: &'static Op,
    caller: &Caller,
    arguments: &Value,
    question: Question,
    repeat: MayRepeat,
) -> Result<Asked, Error> {
    let broker = server.broker();
    let approval = *broker.config().approval;
    let close = |closed, channel| broker.close(caller, &question.ticket, closed, channel);

    let hub = server.approvers().filter(|hub| approval != Approval::Client && hub.is_attached());
    let of_client = match hub.zip(connection(context)) {
        Some((hub, connection)) => hub.is_of_client(connection).await,
        None => false,
    };
    if let Some(hub) = hub
        && !of_client
        && (hub.has_login() || !question.needs_login)
    {
        let decision = tokio::select! {
            decision = hub.ask(&question, op.spec.id, arguments, caller) => decision,
            () = context.ct.cancelled() => Decision::Closed(Closed::Cancelled),
            () = server.ended() => Decision::Closed(Closed::Cancelled),
            never = keep_telling(context, "Waiting for the person at the approver's terminal") => match never {},
            () = tokio::time::sleep(Duration::from_secs(question.seconds)) => Decision::Closed(Closed::TimedOut),
        };
        let channel = if hub.has_login() { Channel::ApproverLogin } else { Channel::Approver };
        return match decision {
            Decision::Yes(consent) => broker
                .approve(op, caller, &question.ticket, consent.at_approver(), consent)
                .map(Asked::Approved),
            Decision::Closed(closed) => {
                hub.withdraw(&question.ticket);
                Err(close(closed, channel))
            }
        };
    }
    if approval == Approval::Approver {
        let why = if of_client {
            "APPROVAL=approver, and the one that is attached was started by the client that asks"
        } else {
            "APPROVAL=approver, and no approver is attached"
        };
        return Err(close(Closed::NobodyToAsk(why), Channel::Approver));
    }
    if question.needs_login {
        return Err(close(
            Closed::NobodyToAsk("the approver with its own login is no longer attached"),
            Channel::Approver,
        ));
    }
    if question.asks_for.is_some() {
        let call = broker.digest_of(op, arguments, caller);
        return typed::ask(server, context, op, caller, call, question).await;
    }
    if !shows_forms(server, context) {
        return Err(close(
            Closed::NobodyToAsk(
                "this client cannot show a question (no form elicitation) and no approver is attached",
            ),
            Channel::Client,
        ));
    }
    if repeat == MayRepeat::No && speaks_input_required(context) {
        return Err(close(
            Closed::NobodyToAsk("a resource cannot carry a question in this protocol; call the tool"),
            Channel::Client,
        ));
    }
    let params = ElicitRequestParams::FormElicitationParams {
        meta: None,
        message: question.text.clone(),
        requested_schema: form(),
    };
    if speaks_input_required(context) {
        let call = broker.digest_of(op, arguments, caller);
        let request = InputRequest::Elicitation(ElicitRequest::new(params));
        let carried = broker.hand_out(op, caller, call, &question.ticket).await?;
        return Ok(Asked::Repeat(repeat_with(server, op, caller, call, &question, carried, request)));
    }
    match elicit(server, context, params, question.seconds).await {
        Ok(result) => match verdict(&result) {
            None => broker
                .approve(op, caller, &question.ticket, Channel::Client, Consent::Plain)
                .map(Asked::Approved),
            Some(closed) => Err(close(closed, Channel::Client)),
        },
        Err(closed) => Err(close(closed, Channel::Client)),
    }
}

/// The way of 2026-07-28: the client has this asked and repeats the call. With `carried` it may do so at another server.
pub(super) fn repeat_with(
    server: &McpServer,
    op: &Op,
    caller: &Caller,
    call: CallDigest,
    question: &Question,
    carried: Option<Vec<u8>>,
    request: InputRequest,
) -> InputRequiredResult {
    let state = State { ticket: question.ticket.clone(), call, carried };
    let state = state.seal(server.state_codec(), op, caller, Duration::from_secs(question.seconds));
    let requests = InputRequests::from([(QUESTION.to_owned(), request)]);
    InputRequiredResult::new(Some(requests), Some(state))
}

/// What a client of 2026-07-28 carries between question and answer: sealed, and good for one operation, one set
/// of arguments and one subject.
struct State {
    ticket: TicketId,
    call: CallDigest,
    /// All that another server needs, sealed once more so that the client cannot read it: this seal only signs.
    carried: Option<Vec<u8>>,
}

impl State {
    fn bound_to(op: &Op, caller: &Caller) -> Vec<u8> {
        format!("{}|{}", op.spec.id, caller.subject).into_bytes()
    }

    fn seal(&self, codec: &RequestStateCodec, op: &Op, caller: &Caller, ttl: Duration) -> String {
        let carried = self.carried.as_deref().unwrap_or_default();
        let payload = [self.call.as_bytes(), self.ticket.as_str().as_bytes(), carried].concat();
        let bound_to = Self::bound_to(op, caller);
        codec.seal_with(&payload, &SealOptions::new().associated_data(&bound_to).ttl(ttl))
    }

    /// Nothing for a state that is forged, changed, expired, or for another operation or subject.
    fn open(codec: &RequestStateCodec, op: &Op, caller: &Caller, sealed: &str) -> Option<Self> {
        let payload = codec.open_with(sealed, &Self::bound_to(op, caller)).ok()?;
        let (call, rest) = payload.split_first_chunk::<32>()?;
        let (ticket, carried) = rest.split_first_chunk::<{ TicketId::LENGTH }>()?;
        let ticket = TicketId::from(String::from_utf8(ticket.to_vec()).ok()?);
        let carried = (!carried.is_empty()).then(|| carried.to_vec());
        Some(Self { ticket, call: CallDigest::from(*call), carried })
    }
}

/// The second half of the 2026-07-28 way: the client repeats the call with the human's answer.
///
/// # Errors
/// `ticket_invalid` for a state that is forged, changed, expired, used or for another call; else as [`ask`].
pub(super) async fn answered(
    server: &McpServer,
    context: &RequestContext<RoleServer>,
    op: &'static Op,
    caller: &Caller,
    arguments: &Value,
    state: &str,
    responses: Option<&InputResponses>,
) -> Result<Approved, Error> {
    let broker = server.broker();
    let invalid = |fault| broker.refuse_unknown(op.spec.id, caller, Error::TicketInvalid { fault });
    if server.dialog() == Dialog::None {
        return Err(invalid("nobody was asked here, so nobody can have answered"));
    }
    let Some(State { ticket, call, carried }) = State::open(server.state_codec(), op, caller, state) else {
        return Err(invalid("its state is forged, expired or for another call"));
    };
    if let Some(carried) = &carried {
        broker.take_up(op, caller, arguments, (call, &ticket, carried)).await?;
    }
    if !broker.is_open(&ticket) {
        return Err(invalid("it is unknown, used or expired"));
    }
    if call != broker.digest_of(op, arguments, caller) {
        // Used up: what it was given for must be asked about anew.
        broker.close(caller, &ticket, Closed::NotConfirmed, Channel::Client);
        drop(server.pages().take(&ticket));
        return Err(invalid("it was given for other arguments"));
    }
    let response = responses.and_then(|responses| responses.get(QUESTION)).cloned();
    let result = response.map(serde_json::from_value::<ElicitResult>);
    if let Some(page) = server.pages().take(&ticket) {
        let result = result.and_then(Result::ok);
        return typed::answered(server, context, op, caller, &ticket, page, result).await;
    }
    let closed = match result {
        Some(Ok(result)) => verdict(&result),
        Some(Err(_)) => Some(Closed::NotConfirmed),
        None => Some(Closed::Cancelled),
    };
    match closed {
        None => broker.approve(op, caller, &ticket, Channel::Client, Consent::Plain),
        Some(closed) => Err(broker.close(caller, &ticket, closed, Channel::Client)),
    }
}

/// Nothing for a yes; else why it is none.
fn verdict(result: &ElicitResult) -> Option<Closed> {
    match result.action {
        ElicitationAction::Accept => {
            let answer =
                result.content.as_ref().and_then(|content| content.get(FIELD)).and_then(Value::as_str);
            (answer != Some(YES)).then_some(Closed::NotConfirmed)
        }
        ElicitationAction::Decline => Some(Closed::Declined),
        _ => Some(Closed::Cancelled),
    }
}

/// Tells a client that asked for progress that the call still lives: some give up a call that says nothing.
pub(super) async fn keep_telling(context: &RequestContext<RoleServer>, message: &'static str) -> Infallible {
    let Some(token) = context.meta.get_progress_token() else { return std::future::pending().await };
    let mut seconds = 0.0;
    loop {
        let progress = ProgressNotificationParam::new(token.clone(), seconds).with_message(message);
        // A client that is gone is noticed by the question itself.
        let _ = context.peer.notify_progress(progress).await;
        tokio::time::sleep(TELL_EVERY).await;
        seconds += TELL_EVERY.as_secs_f64();
    }
}

pub(super) const UNASKABLE: Closed = Closed::NobodyToAsk("the client did not show the question");

async fn elicit(
    server: &McpServer,
    context: &RequestContext<RoleServer>,
    params: ElicitRequestParams,
    seconds: u64,
) -> Result<ElicitResult, Closed> {
    let question = ServerRequest::ElicitRequest(ElicitRequest::new(params));
    let telling = keep_telling(context, "Waiting for a person's answer");
    match request(server, context, question, Duration::from_secs(seconds), telling).await? {
        Heard::Client(ClientResult::ElicitResult(result)) => Ok(result),
        Heard::Client(_) => Err(UNASKABLE),
        Heard::Meanwhile(never) => match never {},
    }
}

/// What ended the wait for a client.
pub(super) enum Heard<T> {
    /// Its answer.
    Client(ClientResult),
    /// Something else that makes its answer needless.
    Meanwhile(T),
}

/// Asks the client something and waits this long, or until `meanwhile` is done. What is no longer needed, because of
/// that or because the call is over, is taken back.
pub(super) async fn request<T>(
    server: &McpServer,
    context: &RequestContext<RoleServer>,
    request: ServerRequest,
    patience: Duration,
    meanwhile: impl Future<Output = T>,
) -> Result<Heard<T>, Closed> {
    let handle = context
        .peer
        .send_cancellable_request(request, PeerRequestOptions::no_options())
        .await
        .map_err(|_| UNASKABLE)?;
    let id = handle.id.clone();
    let ended = tokio::select! {
        response = handle.await_response() => {
            return response.map(Heard::Client).map_err(|error| match error {
                ServiceError::McpError(_) => UNASKABLE,
                _ => Closed::Cancelled,
            });
        }
        () = context.ct.cancelled() => Err(Closed::Cancelled),
        () = server.ended() => return Err(Closed::Cancelled),
        done = meanwhile => Ok(Heard::Meanwhile(done)),
        () = tokio::time::sleep(patience) => Err(Closed::TimedOut),
    };
    // The dialog would otherwise stay on the screen and collect a yes that no longer counts.
    let withdrawn = CancelledNotification::new(CancelledNotificationParam::new(
        Some(id),
        Some("no longer needed".into()),
    ));
    let _ = context.peer.send_notification(withdrawn.into()).await;
    ended
}

/// A codec under `REQUEST_STATE_KEY`, so that any replica can open what another sealed; else under a key of this
/// process, so that a state from before a restart does not open.
///
/// # Errors
/// `config_invalid` for a key that is too short; or when there is no randomness.
pub(super) fn new_codec(config: &Config) -> Result<RequestStateCodec, Error> {
    if let Some(key) = &*config.request_state_key {
        return RequestStateCodec::try_new(key.expose()).map_err(|_| {
            Error::config("REQUEST_STATE_KEY", "it is shorter than 32 bytes. Take `openssl rand -base64 32`.")
        });
    }
    let mut key = zeroize::Zeroizing::new([0u8; 32]);
    crate::random::fill(&mut key[..])?;
    RequestStateCodec::try_new(key.to_vec())
        .map_err(|_| Error::Internal { what: "the state key does not fit" })
}
