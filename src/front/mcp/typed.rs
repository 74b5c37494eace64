//! A question that asks for a value, put before a client: it gets the address of a [`Page`] on this machine to open
//! (URL elicitation), and never a form, because what is typed into a form of its own the client has.
//!
//! That the client accepts means that the page was opened. The yes is the value itself, and comes from the page.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
    time::Duration,
};

use rmcp::{
    model::{
        ClientResult, CustomNotification, ElicitRequest, ElicitRequestParams, ElicitResult,
        ElicitationAction, InputRequest, ServerNotification, ServerRequest,
    },
    service::{RequestContext, RoleServer},
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    confirm::{self, Asked, Heard, UNASKABLE},
    handler::McpServer,
};
use crate::{
    broker::{Approved, CallDigest, Channel, Closed, Consent, LIFETIME, Question, TicketId},
    caller::Caller,
    error::Error,
    front::page::{Given, Page},
    op::Op,
};

/// The pages of questions whose clients come back with another request.
#[derive(Default)]
pub(super) struct Pages(Mutex<HashMap<TicketId, (Page, Instant)>>);

impl Pages {
    fn keep(&self, ticket: TicketId, page: Page) {
        let mut pages = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        pages.retain(|_, (page, _)| !page.is_over());
        pages.insert(ticket, (page, Instant::now() + LIFETIME));
    }

    /// The page of this question, and when its time is over.
    pub(super) fn take(&self, ticket: &TicketId) -> Option<(Page, Instant)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(ticket)
    }
}

/// Asks, and gives the yes with its value or the way to get it.
///
/// # Errors
/// As [`confirm::ask`].
pub(super) async fn ask(
    server: &McpServer,
    context: &RequestContext<RoleServer>,
    op: &'static Op,
    caller: &Caller,
    call: CallDigest,
    question: Question,
) -> Result<Asked, Error> {
    let broker = server.broker();
    let nobody = |why| Err(broker.close(caller, &question.ticket, Closed::NobodyToAsk(why), Channel::Page));
    // A page of this machine is of no use to somebody at another.
    let opens = confirm::elicitation(server, context).is_some_and(|modes| modes.url.is_some());
    if !opens || !caller.front.is_on_this_machine() {
        return nobody(
            "this client cannot have a page opened for the value (no URL elicitation), and no approver is attached",
        );
    }
    let Ok(page) = Page::open(&question, caller, broker.config()).await else {
        return nobody("no page can be served on this machine");
    };
    let id = crate::random::uuid()?;
    let params = ElicitRequestParams::UrlElicitationParams {
        meta: None,
        message: question.text.clone(),
        url: page.url().to_owned(),
        elicitation_id: id.clone(),
    };
    let request = ElicitRequest::new(params);
    let until = Instant::now() + Duration::from_secs(question.seconds);
    if confirm::speaks_input_required(context) {
        let repeat = confirm::repeat_with(
            server,
            op,
            caller,
            call,
            &question,
            None,
            InputRequest::Elicitation(request),
        );
        server.pages().keep(question.ticket, page);
        return Ok(Asked::Repeat(repeat));
    }
    let patience = Duration::from_secs(question.seconds);
    let asked = ServerRequest::ElicitRequest(request);
    let given = match confirm::request(server, context, asked, patience, typed(context, &page)).await {
        Ok(Heard::Meanwhile(given)) => Ok(given),
        Ok(Heard::Client(ClientResult::ElicitResult(result))) => {
            opened(server, context, &page, until, &result).await
        }
        Ok(Heard::Client(_)) => Err(UNASKABLE),
        Err(closed) => Err(closed),
    };
    if given.is_ok() {
        let done =
            CustomNotification::new("notifications/elicitation/complete", Some(json!({"elicitationId": id})));
        // A client that is gone learns nothing.
        let _ = context.peer.send_notification(ServerNotification::CustomNotification(done)).await;
    }
    settle(server, op, caller, &question.ticket, given).map(Asked::Approved)
}

/// The second half of the 2026-07-28 way: the client says what became of the page.
///
/// # Errors
/// As [`confirm::answered`].
pub(super) async fn answered(
    server: &McpServer,
    context: &RequestContext<RoleServer>,
    op: &'static Op,
    caller: &Caller,
    ticket: &TicketId,
    (page, until): (Page, Instant),
    result: Option<ElicitResult>,
) -> Result<Approved, Error> {
    let given = match result {
        Some(result) => opened(server, context, &page, until, &result).await,
        None => Err(Closed::Cancelled),
    };
    settle(server, op, caller, ticket, given)
}

fn settle(
    server: &McpServer,
    op: &'static Op,
    caller: &Caller,
    ticket: &TicketId,
    given: Result<Given, Closed>,
) -> Result<Approved, Error> {
    let closed = match given {
        Ok(Given::Value(value)) => {
            return server.broker().approve(op, caller, ticket, Channel::Page, Consent::Value(value));
        }
        Ok(Given::Declined) => Closed::Declined,
        Err(closed) => closed,
    };
    Err(server.broker().close(caller, ticket, closed, Channel::Page))
}

/// What comes of a page after the client's word on it.
async fn opened(
    server: &McpServer,
    context: &RequestContext<RoleServer>,
    page: &Page,
    until: Instant,
    result: &ElicitResult,
) -> Result<Given, Closed> {
    match result.action {
        ElicitationAction::Accept => {}
        ElicitationAction::Decline => return Err(Closed::Declined),
        _ => return Err(Closed::Cancelled),
    }
    tokio::select! {
        given = typed(context, page) => Ok(given),
        () = context.ct.cancelled() => Err(Closed::Cancelled),
        () = server.ended() => Err(Closed::Cancelled),
        () = tokio::time::sleep_until(until) => Err(Closed::TimedOut),
    }
}

async fn typed(context: &RequestContext<RoleServer>, page: &Page) -> Given {
    tokio::select! {
        given = page.answer() => given,
        never = confirm::keep_telling(context, "Waiting for the value to be typed on the page") => match never {},
    }
}
