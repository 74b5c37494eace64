//! A question to a human: what it shows, how it is opened, and how it ends. A yes becomes an [`Approved`] in
//! [`super::tickets`] and nowhere else.

use std::sync::PoisonError;

use serde_json::Value;

use super::{
    Approved, Broker, CallDigest, Channel, Consent, LIFETIME, Look, Passing, TicketId, dangerous,
    tickets::{Lapsed, Shown},
};
use crate::{
    audit::Action,
    caller::Caller,
    error::Error,
    names::{shown, shown_name},
    op::{AnyCall, Change, Files, Op, Preview, Target, Way},
    vault::{KvKind, Session, sys},
};

/// What a human is asked.
#[derive(Debug, Clone)]
pub struct Question {
    /// Redeemed by a yes.
    pub ticket: TicketId,
    /// What is shown: the first line names action and target. Safe for any terminal.
    pub text: String,
    /// Seconds until it runs out.
    pub seconds: u64,
    /// Mount and full path, or another name of the thing.
    pub target: String,
    /// The server's own token may not do this; only an approver with its own login can.
    pub needs_login: bool,
    /// An approver with its own login may carry it out: it changes something, and shows nothing.
    pub can_be_delegated: bool,
    /// The key whose value the yes has to bring along; as it is, not safe for a terminal.
    pub asks_for: Option<String>,
}

/// Why a question closed without a yes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Closed {
    /// The human said no.
    Declined,
    /// The dialog was closed, or the call was cancelled.
    Cancelled,
    /// No answer in time.
    TimedOut,
    /// An answer that was not the exact text.
    NotConfirmed,
    /// There was no way to ask.
    NobodyToAsk(&'static str),
}

impl Closed {
    /// The error that the caller gets.
    #[must_use]
    pub fn into_error(self) -> Error {
        match self {
            Self::Declined => Error::Declined,
            Self::Cancelled => Error::Cancelled,
            Self::TimedOut => Error::ApprovalTimedOut { seconds: LIFETIME.as_secs() },
            Self::NotConfirmed => Error::NotConfirmed,
            Self::NobodyToAsk(why) => Error::NobodyToAsk { why: why.into() },
        }
    }
}

/// What a record about a question needs to know of the call.
pub(super) struct Asked {
    pub(super) op: &'static Op,
    pub(super) caller: Caller,
    pub(super) target: Target,
}

impl Broker {
    /// The preview, and whether the server's token lacks what the call needs. Both questions go to Vault
    /// at the same time.
    pub(super) async fn observe(
        &self,
        passing: &Passing<'_>,
        call: &dyn AnyCall,
        session: &Session,
    ) -> Result<(Preview, bool), Error> {
        let ways = || passing.target.needs.iter().flat_map(|need| &need.0);
        let paths = ways().map(|way| way.path.clone()).collect::<Vec<_>>();
        // A token that may not ask about itself finds out by trying.
        let capabilities = async {
            if paths.is_empty() {
                return Ok(Vec::new());
            }
            Ok(sys::capabilities(session, paths).await.unwrap_or_default())
        };
        // What is refused without a look at Vault ends the call before the other question is sent.
        let seen = call.observe(Look::new(session, passing.caller, &passing.roots));
        let (mut preview, have) = futures_util::future::try_join(seen, capabilities).await?;
        if preview.verb.is_empty() {
            preview.verb = if call.wants_reveal() { "REVEAL" } else { "RUN" };
        }
        for (key, names) in dangerous(call) {
            preview.warnings.extend(names.iter().map(|name| format!("{}: {name}", shown_name(key))));
        }
        let mut needs_login = false;
        let mut have = have.into_iter();
        for need in &passing.target.needs {
            let answers: Vec<_> = need.0.iter().zip(&mut have).collect();
            // What kind a mount is, the preview has just found out.
            let open = |way: &Way| match &way.on {
                Some((mount, kind)) => session.kv_kind(mount).unwrap_or(KvKind::V2) == *kind,
                None => true,
            };
            let open: Vec<_> = answers.iter().filter(|(way, _)| open(way)).collect();
            let Some((first, _)) = open.first() else { continue };
            if !open.iter().any(|(way, have)| sys::allows(have, way.capabilities)) {
                let login = self.login_attached.lock().unwrap_or_else(PoisonError::into_inner)();
                if !login || call.wants_reveal() || call.files() != Files::None {
                    let quoted = first
                        .capabilities
                        .iter()
                        .map(|word| format!("\"{word}\""))
                        .collect::<Vec<_>>()
                        .join(", ");
                    return Err(Error::Forbidden { path: first.path.clone(), capabilities: quoted });
                }
                needs_login = true;
            }
        }
        Ok((preview, needs_login))
    }

    pub(super) fn ask(
        &self,
        passing: &Passing<'_>,
        call: &dyn AnyCall,
        digest: CallDigest,
        preview: Preview,
        needs_login: bool,
        changed: bool,
    ) -> Result<Question, Error> {
        self.record_lapsed(Closed::TimedOut, self.tickets.take_lapsed());
        let opened = self.tickets.open(
            &passing.caller.subject,
            digest,
            Shown::of(&passing.target.name, &preview),
            &passing.id,
            Asked { op: passing.op, caller: passing.caller.clone(), target: passing.target.clone() },
        );
        let ticket = match opened {
            Ok(ticket) => ticket,
            Err(error) => return Err(self.refuse(passing, Action::Refused, error)),
        };
        let channel = (Channel::Client, ticket.clone());
        if let Err(error) = self.record(passing, Action::ConfirmationRequired, None, None, Some(&channel)) {
            self.tickets.close(&ticket, false);
            return Err(error);
        }
        let text = question_text(passing, call, &preview, &ticket, changed);
        Ok(Question {
            ticket,
            text,
            seconds: LIFETIME.as_secs(),
            target: passing.target.name.clone(),
            needs_login,
            can_be_delegated: !passing.op.spec.effect.is_read_only() && call.files() == Files::None,
            asks_for: preview.asks_for,
        })
    }

    /// What a human's yes to this call is about, and nothing else.
    #[must_use]
    pub fn digest_of(&self, op: &Op, arguments: &Value, caller: &Caller) -> CallDigest {
        let (address, namespace) = (self.vault.address(), self.vault.namespace());
        CallDigest::of(op.spec.id, arguments, &caller.subject, address, namespace)
    }

    /// A human's yes: consumes the ticket and records it.
    ///
    /// # Errors
    /// `ticket_invalid`, or the audit log's fault.
    pub fn approve(
        &self,
        op: &'static Op,
        caller: &Caller,
        ticket: &TicketId,
        channel: Channel,
        consent: Consent,
    ) -> Result<Approved, Error> {
        let (approved, asked) = match self.tickets.redeem(ticket, &caller.subject, channel, consent) {
            Ok(redeemed) => redeemed,
            Err(error) => {
                let unknown = Passing::new(op, caller, ticket.as_str().to_owned(), Target::named("-"));
                return Err(self.refuse(&unknown, Action::Refused, error));
            }
        };
        let passing = Passing::new(asked.op, caller, approved.call_id.clone(), asked.target);
        self.record(&passing, Action::Confirmed, None, None, Some(&(channel, ticket.clone())))?;
        Ok(approved)
    }

    /// A question that ends without a yes. Gives the error for the caller.
    pub fn close(&self, caller: &Caller, ticket: &TicketId, closed: Closed, channel: Channel) -> Error {
        self.abort(caller, ticket, closed.into_error(), closed == Closed::Declined, channel)
    }

    pub(super) fn abort(
        &self,
        caller: &Caller,
        ticket: &TicketId,
        error: Error,
        declined: bool,
        channel: Channel,
    ) -> Error {
        let Some(ended) = self.tickets.close(ticket, declined) else {
            return error;
        };
        let passing = Passing::new(ended.call.op, caller, ended.call_id, ended.call.target);
        match self.record(
            &passing,
            Action::Aborted,
            Some(error.code()),
            None,
            Some(&(channel, ticket.clone())),
        ) {
            Ok(()) => error,
            Err(unrecorded) => unrecorded,
        }
    }

    /// The end of questions that nobody waits for: a client of 2026-07-28 need not come back with an answer.
    pub(super) fn record_lapsed(&self, closed: Closed, lapsed: Vec<Lapsed<Asked>>) {
        let code = closed.into_error().code();
        for Lapsed { ticket, call_id, call: Asked { op, caller, target } } in lapsed {
            let passing = Passing::new(op, &caller, call_id, target);
            let approval = (Channel::Client, ticket);
            if let Err(error) = self.record(&passing, Action::Aborted, Some(code), None, Some(&approval)) {
                tracing::error!(%error, "the end of a question is not recorded");
            }
        }
    }

    /// True while the ticket could be redeemed.
    #[must_use]
    pub fn is_open(&self, ticket: &TicketId) -> bool {
        self.tickets.is_open(ticket)
    }
}

/// At most this many keys are named in a question; the rest is counted.
const SHOWN_KEYS: usize = 12;

fn question_text(
    passing: &Passing<'_>,
    call: &dyn AnyCall,
    preview: &Preview,
    ticket: &TicketId,
    changed: bool,
) -> String {
    let mut text = format!("{} {}", preview.verb, shown(&passing.target.name, 200));
    if !preview.detail.is_empty() {
        text.push_str(" — ");
        text.push_str(&preview.detail);
    }
    text.push_str(&format!(" · id {}", ticket.short()));
    if changed {
        text.push_str("\n  ! It changed since you were asked; this is the new state.");
    }
    if !preview.changes.is_empty() {
        let sign = |change: &Change| match change {
            Change::Added => '+',
            Change::Changed => '~',
            Change::Removed => '-',
        };
        let keys = preview
            .changes
            .iter()
            .take(SHOWN_KEYS)
            .map(|(change, key)| format!("{} {}", sign(change), shown_name(key)));
        text.push_str("\n  ");
        text.push_str(&keys.collect::<Vec<_>>().join("   "));
        if preview.changes.len() > SHOWN_KEYS {
            text.push_str(&format!("   … and {} more", preview.changes.len() - SHOWN_KEYS));
        }
    }
    if let (Files::Writes(_), Some(first)) = (call.files(), passing.roots.first()) {
        text.push_str(&format!("\n  folder: {}", shown(&first.path().display().to_string(), 200)));
    }
    for warning in preview.warnings.iter().take(SHOWN_KEYS) {
        text.push_str("\n  ! ");
        text.push_str(warning);
    }
    if preview.warnings.len() > SHOWN_KEYS {
        text.push_str(&format!("\n  ! … and {} more warnings", preview.warnings.len() - SHOWN_KEYS));
    }
    if call.wants_reveal() {
        text.push_str("\n  ! The values would be shown to the model and kept in its conversation.");
    }
    if preview.verb == "WRITE" {
        text.push_str("\n  ! The current state could not be seen: what is there would be replaced unseen.");
    }
    text
}
