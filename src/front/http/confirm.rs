//! `CONFIRM_REST=true`: a REST call that changes something waits for a person as well. The question is put to
//! the approver's terminal, the caller gets 202 with a ticket, and the same request with that ticket in
//! `X-Approval-Ticket` gets the result. The ticket alone is good for nothing: it names the question, and only
//! the person's yes makes the proof that the broker takes.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Json,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::{App, answer::Fault};
use crate::{
    broker::{Approved, Channel, Closed, LIFETIME, Question, TicketId},
    caller::Caller,
    error::Error,
    front::approver::{Decision, Hub},
    names::Subject,
    op::Op,
};

/// In which a caller names the question that its call waits for.
pub const TICKET: HeaderName = HeaderName::from_static("x-approval-ticket");

/// What became of a question.
enum State {
    Open,
    Yes(Approved),
    Closed(Error),
}

struct Entry {
    subject: Subject,
    state: State,
    since: Instant,
}

/// The questions of REST calls whose callers have not come back yet.
#[derive(Default)]
pub struct Pending(Mutex<HashMap<TicketId, Entry>>);

/// What a caller that comes back finds.
pub(super) enum Found {
    /// Nobody has answered yet.
    Open,
    /// A yes.
    Yes(Approved),
}

impl Pending {
    fn table(&self) -> MutexGuard<'_, HashMap<TicketId, Entry>> {
        let mut table = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A caller that never comes back leaves nothing behind for longer than twice a question's life.
        table.retain(|_, entry| entry.since.elapsed() < 2 * LIFETIME);
        table
    }

    /// What became of the question that these headers name; nothing where they name none.
    ///
    /// # Errors
    /// The person's no, or `ticket_invalid` for a ticket that is not this caller's, or is used.
    pub(super) fn take(&self, headers: &HeaderMap, caller: &Caller) -> Result<Option<Found>, Error> {
        let Some(text) = headers.get(&TICKET) else { return Ok(None) };
        let unknown = Error::TicketInvalid { fault: "it is unknown, used or expired" };
        let Ok(text) = text.to_str() else { return Err(unknown) };
        let ticket = TicketId::from(text.to_owned());
        let mut table = self.table();
        match table.get(&ticket) {
            Some(entry) if entry.subject == caller.subject => {}
            _ => return Err(unknown),
        }
        match table.remove(&ticket) {
            Some(Entry { state: State::Yes(approved), .. }) => Ok(Some(Found::Yes(approved))),
            Some(Entry { state: State::Closed(error), .. }) => Err(error),
            Some(open) => {
                table.insert(ticket, open);
                Ok(Some(Found::Open))
            }
            None => Err(unknown),
        }
    }

    fn settle(&self, ticket: &TicketId, state: State) {
        if let Some(entry) = self.table().get_mut(ticket) {
            entry.state = state;
        }
    }
}

/// Puts the question to the approver and answers 202; without one, says that nobody can be asked.
pub(super) fn ask(
    app: &Arc<App>,
    op: &'static Op,
    caller: Caller,
    arguments: Value,
    question: Question,
) -> Response {
    let hub = app.approvers.clone().filter(|hub| hub.is_attached());
    let Some(hub) = hub.filter(|hub| hub.has_login() || !question.needs_login) else {
        let closed = Closed::NobodyToAsk("CONFIRM_REST=true, and no approver is attached");
        return Fault(app.broker.close(&caller, &question.ticket, closed, Channel::Approver)).into_response();
    };
    let entry = Entry { subject: caller.subject.clone(), state: State::Open, since: Instant::now() };
    app.pending.table().insert(question.ticket.clone(), entry);
    let response = pending(&question);
    let app = app.clone();
    tokio::spawn(async move {
        let state = match decide(&app, &hub, op, &caller, &arguments, &question).await {
            Ok(approved) => State::Yes(approved),
            Err(error) => State::Closed(error),
        };
        app.pending.settle(&question.ticket, state);
    });
    response
}

async fn decide(
    app: &App,
    hub: &Arc<Hub>,
    op: &'static Op,
    caller: &Caller,
    arguments: &Value,
    question: &Question,
) -> Result<Approved, Error> {
    let decision = tokio::select! {
        decision = hub.ask(question, op.spec.id, arguments, caller) => decision,
        () = app.ended.cancelled() => Decision::Closed(Closed::Cancelled),
        () = tokio::time::sleep(Duration::from_secs(question.seconds)) => Decision::Closed(Closed::TimedOut),
    };
    match decision {
        Decision::Yes(consent) => {
            app.broker.approve(op, caller, &question.ticket, consent.at_approver(), consent)
        }
        Decision::Closed(closed) => {
            hub.withdraw(&question.ticket);
            Err(app.broker.close(caller, &question.ticket, closed, Channel::Approver))
        }
    }
}

fn pending(question: &Question) -> Response {
    let mut response = waiting(question.ticket.as_str());
    if let Ok(value) = HeaderValue::try_from(question.ticket.as_str()) {
        response.headers_mut().insert(TICKET, value);
    }
    response
}

/// 202: somebody is asked, and has not answered yet.
pub(super) fn waiting(ticket: &str) -> Response {
    let body = json!({
        "detail": "A person is asked at `vault-mcp approve`. Send the same request again with the ticket in X-Approval-Ticket to get the result.",
        "ticket": ticket,
        "expires_in": LIFETIME.as_secs(),
    });
    let mut response = (StatusCode::ACCEPTED, Json(body)).into_response();
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(2));
    response
}
