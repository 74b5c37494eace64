//! The one way in. Every call from every front end goes through [`Broker::call`], whose steps read in
//! order: limit, parse, authorise, observe, decide, record the request, run, record the response, answer.
//!
//! Asking a human is data: `call` returns [`Outcome::Ask`], the front end carries the question to
//! somebody, and comes back with what [`Broker::approve`] gave it. What this module does not do: speak
//! a protocol, or know how a question reaches a person.

mod carried;
pub mod events;
mod grant;
mod limit;
pub mod patterns;
mod room;
mod running;
mod tickets;
mod typed;

use std::{
    net::IpAddr,
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use futures_util::FutureExt;
use serde_json::Value;
use tracing::Instrument;

use crate::{
    audit::{Action, Appended, Approval as AuditApproval, Audit, AuditError, Event, Recorded},
    caller::{Caller, Front},
    config::{Config, DangerousPatterns, Reveal},
    error::Error,
    handover::Root,
    names::{shown, shown_name},
    op::{AnyCall, Boxed, Change, Effect, Files, Op, Preview, Target, Toolset, Way},
    secret::holds_mask,
    telemetry::{meters, trace},
    vault::{KvKind, Session, Vault, sys},
};

pub use crate::place::{FullPath, Place};
pub use grant::{Granted, Look};
pub use tickets::{Approved, CallDigest, Channel, Consent, Delegate, LIFETIME, TicketId, canonical_json};
pub use typed::{SecretValue, ValueFault};

use carried::Boxes;
use events::{Events, What};
use limit::Limiter;
use room::Room;
use running::Running;
use tickets::{Lapsed, Shown, Tickets};

/// Most bytes that the arguments of a call may have.
pub const MAX_REQUEST: usize = 1 << 20;

/// How long the end may take to revoke what was made for callers.
const REVOKING: std::time::Duration = std::time::Duration::from_millis(1_500);

/// A panic in one call is that call's alone.
const PANICKED: Error = Error::Internal { what: "the call ended in a panic" };

/// What came of a call.
pub enum Outcome {
    /// It was carried out.
    Done(Answer),
    /// A human must be asked first.
    Ask(Question),
}

/// The output of an operation, as the caller may see it.
#[derive(Debug)]
pub struct Answer {
    /// The output as JSON.
    pub value: Value,
    /// Things worth saying beside it, such as a token about to end.
    pub notices: Vec<String>,
}

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

/// The pipeline and the state that outlives a call.
pub struct Broker {
    config: Arc<Config>,
    vault: Arc<Vault>,
    audit: Audit,
    limiter: Limiter,
    room: Room,
    running: Running,
    tickets: Tickets<Asked>,
    boxes: Boxes,
    login_attached: Mutex<Box<dyn Fn() -> bool + Send + Sync>>,
    events: Events,
    #[cfg(feature = "kms")]
    kms: Arc<crate::kms::Kms>,
}

/// What a record about a question needs to know of the call.
struct Asked {
    op: &'static Op,
    caller: Caller,
    target: Target,
}

/// A call on its way through the pipeline.
struct Passing<'a> {
    op: &'static Op,
    caller: &'a Caller,
    id: String,
    target: Target,
    /// Folders that this call's files may lie in; none for a call that has nothing to do with files.
    roots: Arc<[Root]>,
}

impl<'a> Passing<'a> {
    fn new(op: &'static Op, caller: &'a Caller, id: String, target: Target) -> Self {
        Self { op, caller, id, target, roots: Arc::from([]) }
    }
}

impl Broker {
    /// A broker over these settings, this Vault and this log.
    #[must_use]
    pub fn new(config: Arc<Config>, vault: Arc<Vault>, audit: Audit) -> Arc<Self> {
        Arc::new(Self {
            limiter: Limiter::new(&config),
            room: Room::new(&config),
            running: Running::default(),
            tickets: Tickets::default(),
            boxes: Boxes::new(&config),
            login_attached: Mutex::new(Box::new(|| false)),
            events: Events::default(),
            #[cfg(feature = "kms")]
            kms: Arc::new(crate::kms::Kms::new(&config)),
            config,
            vault,
            audit,
        })
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Arc<Config> {
        &self.config
    }

    /// Tells the broker how to find out whether an approver with its own login is attached.
    pub fn when_login_attached(&self, check: impl Fn() -> bool + Send + Sync + 'static) {
        *self.login_attached.lock().unwrap_or_else(PoisonError::into_inner) = Box::new(check);
    }

    /// Puts another token in place: a new login of the same human.
    pub fn replace_token(&self, token: crate::config::SecretText) {
        self.vault.replace_token(token);
    }

    /// Whether Vault would take a call now. Not a call: nothing of it is recorded, and nothing of a secret is
    /// touched. The same holds for the two that follow.
    ///
    /// # Errors
    /// What would be in the way.
    pub async fn vault_is_ready(&self) -> Result<(), Error> {
        let session = self.vault.own_session();
        match session.read(&sys::LookupSelf).await {
            // A token that may not look itself up is one that Vault takes.
            Ok(_) | Err(Error::Forbidden { .. }) => self.vault.check_children(&session).await,
            Err(error) => Err(error),
        }
    }

    /// Whether calls of AWS KMS have credentials to sign with; AWS itself is not asked.
    ///
    /// # Errors
    /// `kms_off`, or what would be in the way.
    #[cfg_attr(not(feature = "kms"), expect(clippy::unused_async, reason = "it waits where KMS is built in"))]
    pub async fn kms_is_ready(&self) -> Result<(), Error> {
        if !*self.config.aws_kms_enabled {
            return Err(Error::KmsOff);
        }
        #[cfg(feature = "kms")]
        self.kms.has_credentials().await?;
        Ok(())
    }

    /// Whether a record could be written: without one there is no call.
    ///
    /// # Errors
    /// The audit log's fault.
    pub fn audit_is_ready(&self) -> Result<(), Error> {
        Ok(self.audit.check()?)
    }

    /// Questions that wait for a human.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.tickets.pending()
    }

    /// What happens to each subject, for whoever listens.
    #[must_use]
    pub fn events(&self) -> &Events {
        &self.events
    }

    /// True when the operation is registered under these settings.
    #[must_use]
    pub fn offers(&self, op: &Op) -> bool {
        Self::is_registered(&self.config, op) && !self.is_off(op)
    }

    /// The same for one caller: what is about files of this machine is not there for callers elsewhere, nor what
    /// would end a token that others call with, too.
    #[must_use]
    pub fn offers_to(&self, op: &Op, caller: &Caller) -> bool {
        self.offers(op) && self.is_for(op, caller.front)
    }

    fn is_for(&self, op: &Op, front: Front) -> bool {
        front.is_on_this_machine() || !(op.needs_files || op.ends_token && !self.vault.has_children())
    }

    /// True when these settings leave the operation in, whether or not its back end is on.
    #[must_use]
    pub fn is_registered(config: &Config, op: &Op) -> bool {
        let family =
            op.spec.toolset == Toolset::Session || config.toolsets.contains(op.spec.toolset.as_str());
        family && (!*config.read_only || op.spec.effect.is_read_only())
    }

    /// True when the back end behind it is switched off.
    fn is_off(&self, op: &Op) -> bool {
        op.spec.toolset == Toolset::Kms && !*self.config.aws_kms_enabled
    }

    /// Whether a caller's calls in a window are limited: then each leaves word of it in the caller's meter.
    #[must_use]
    pub fn limits_calls(&self) -> bool {
        self.limiter.is_on()
    }

    /// Carries a call through all steps. With `approved`, the human's yes to the same call. Whoever goes away
    /// meanwhile does not end it: its records are written, and a question that it came to is closed.
    ///
    /// # Errors
    /// Whatever refused or failed; its record is in the log.
    pub async fn call(
        self: &Arc<Self>,
        op: &'static Op,
        arguments: Value,
        caller: &Caller,
        approved: Option<Approved>,
    ) -> Result<Outcome, Error> {
        let span = trace::operation(op.spec.id, caller.front.as_str());
        let call = {
            let (broker, caller, span) = (self.clone(), caller.clone(), span.clone());
            async move {
                let outcome = broker.pass(op, arguments, &caller, approved).await;
                if let Err(error) = &outcome {
                    trace::refused(&span, error.code());
                }
                outcome
            }
        };
        let unheard = {
            let (broker, caller) = (self.clone(), caller.clone());
            move |outcome| {
                if let Ok(Outcome::Ask(question)) = outcome {
                    broker.close(&caller, &question.ticket, Closed::Cancelled, Channel::Client);
                }
            }
        };
        self.running.see_through(call, unheard).instrument(span).await
    }

    /// Waits until no call runs any more.
    pub async fn all_ended(&self) {
        self.running.ended().await;
    }

    async fn pass(
        &self,
        op: &'static Op,
        arguments: Value,
        caller: &Caller,
        approved: Option<Approved>,
    ) -> Result<Outcome, Error> {
        let id = match &approved {
            Some(approved) => approved.call_id.clone(),
            None => crate::random::uuid()?,
        };
        let mut passing = Passing::new(op, caller, id, Target::named("-"));

        // Limit. What a human has said yes to costs one like any call, but is not refused any more.
        if let Err(error) = self.limiter.take(caller)
            && approved.is_none()
        {
            return Err(self.refuse_along(&passing, Action::Refused, error).await);
        }

        // Parse.
        let parsed = self.parse(&mut passing, &arguments);
        let call = match parsed {
            Ok(call) => call,
            Err(error) => return Err(self.refuse_along(&passing, Action::ValidationFailed, error).await),
        };

        // Authorise, and find room.
        if let Err(error) = self.authorise(&passing, call.as_ref()) {
            return Err(self.refuse_along(&passing, Action::Refused, error).await);
        }
        let _place = match self.room.enter(caller).await {
            Ok(place) => place,
            Err(error) => return Err(self.refuse_along(&passing, Action::Refused, error).await),
        };

        if call.files() != Files::None {
            passing.roots = caller.roots.find().await;
        }

        // Observe and decide.
        let session = self.vault.session_for(caller);
        let approved = match (self.must_ask(&passing, call.as_ref()), approved) {
            (false, _) => None,
            (true, approved) => {
                // The preview is read from Vault: where nothing can be recorded, nothing is read either.
                if let Err(error) = self.audit.check() {
                    meters::recorded(op.spec.id, Action::Request, None, None, false);
                    return Err(error.into());
                }
                let seen = self.observe(&passing, call.as_ref(), &session).instrument(trace::step("observe"));
                let (preview, needs_login) = match seen.await {
                    Ok(seen) => seen,
                    Err(error) => return Err(self.refuse_along(&passing, Action::Refused, error).await),
                };
                if passing.target.keys.is_empty() {
                    passing.target.keys = preview.changes.iter().map(|(_, key)| key.clone()).collect();
                }
                let digest = self.digest_of(op, &arguments, caller);
                match approved {
                    Some(approved) if approved.digest != digest => {
                        let error = Error::TicketInvalid { fault: "it was given for another call" };
                        return Err(self.refuse_along(&passing, Action::Refused, error).await);
                    }
                    Some(approved) if approved.shown == Shown::of(&passing.target.name, &preview) => {
                        Some(approved)
                    }
                    changed => {
                        if self.tickets.is_full(&caller.subject) {
                            self.settle(caller).await;
                        }
                        return self
                            .ask(&passing, call.as_ref(), digest, preview, needs_login, changed.is_some())
                            .map(Outcome::Ask);
                    }
                }
            }
        };

        // Record the request: no record, no request.
        let approval = approved.as_ref().map(|approved| (approved.channel, approved.ticket.clone()));
        self.record_along(&passing, Action::Request, None, None, approval.as_ref()).await?;

        // Run.
        let started = Instant::now();
        let handled = Arc::new(Mutex::new(Vec::new()));
        let observed = approved.as_ref().map(|approved| approved.shown.version);
        let result = match approved.map_or(Consent::Plain, |approved| approved.consent) {
            Consent::Elsewhere(delegate) => {
                delegate.run(op.spec.id, arguments).instrument(trace::step("run elsewhere")).await
            }
            here => {
                let granted = Granted {
                    reveal: !caller.front.answers_a_model() || call.wants_reveal(),
                    observed,
                    typed: if let Consent::Value(value) = here { Some(value) } else { None },
                    session: session.clone(),
                    caller: caller.clone(),
                    roots: passing.roots.clone(),
                    config: self.config.clone(),
                    audit: self.audit.clone(),
                    handled: handled.clone(),
                    #[cfg(feature = "kms")]
                    kms: self.kms.clone(),
                };
                let run = AssertUnwindSafe(call.run(granted)).catch_unwind();
                // What was sent before a panic was sent: it has its record like any other failure.
                run.instrument(trace::step("run")).await.unwrap_or(Err(PANICKED))
            }
        };
        meters::ran(op.spec.id, started.elapsed());
        tracing::debug!(
            op = op.spec.id,
            ok = result.is_ok(),
            micros = started.elapsed().as_micros() as u64,
            "ran"
        );

        // Record the response: no response record, no secret.
        for key in handled.lock().unwrap_or_else(PoisonError::into_inner).drain(..) {
            if !passing.target.keys.contains(&key) {
                passing.target.keys.push(key);
            }
        }
        let (action, code) = match &result {
            Ok(_) => (Action::Success, None),
            Err(error) => (Action::Failed, Some(error.code())),
        };
        let request_id = session.request_id();
        let recorded =
            self.record_along(&passing, action, code, request_id.as_deref(), approval.as_ref()).await;
        if let Err(error) = recorded {
            let applied = result.is_ok() && !op.spec.effect.is_read_only();
            return Err(if applied { Error::AppliedUnrecorded { fault: error.to_string() } } else { error });
        }

        // Answer.
        let value = result?;
        if !op.spec.effect.is_read_only() {
            self.events
                .tell(&caller.subject, || What::Changed { target: passing.target.name.as_str().into() });
        }
        let notices = session.ends_soon().map(|seconds| {
            format!("The Vault token ends in {seconds} s and cannot be renewed further. Ask the user to log in again.")
        });
        Ok(Outcome::Done(Answer { value, notices: notices.into_iter().collect() }))
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

    fn abort(
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

    /// Nobody will answer here any more: whatever is still open is closed, and recorded as such; the tokens that were
    /// made for callers are revoked. A question that its client carries stays open: another server may finish it, and
    /// has the record of how it ended.
    pub async fn end(&self) {
        self.record_lapsed(Closed::TimedOut, self.tickets.take_lapsed());
        self.record_lapsed(Closed::Cancelled, self.tickets.take_open());
        self.vault.end(REVOKING).await;
    }

    /// The end of questions that nobody waits for: a client of 2026-07-28 need not come back with an answer.
    fn record_lapsed(&self, closed: Closed, lapsed: Vec<Lapsed<Asked>>) {
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

    /// Records a call that never became one: an unknown tool, or arguments that are no object. It costs its caller
    /// one call all the same, and the error is that of the limit where none is left.
    pub fn refuse_unknown(&self, tool: &str, caller: &Caller, error: Error) -> Error {
        let (action, error) = match self.limiter.take(caller) {
            Ok(()) => (Action::ValidationFailed, error),
            Err(limited) => (Action::Refused, limited),
        };
        let id = match crate::random::uuid() {
            Ok(id) => id,
            Err(error) => return error,
        };
        let target = shown(tool, 64);
        let event = Event {
            op: "-",
            effect: "-",
            target: &target,
            code: Some(error.code()),
            ..event_of(action, &id, caller)
        };
        let written = self.audit.record(&event);
        meters::recorded("unknown", action, Some(error.code()), None, written.is_ok());
        match written {
            Ok(_) => error,
            Err(unrecorded) => unrecorded.into(),
        }
    }

    /// The refusal, recorded, of a call that the caller's credential does not allow; nothing where it does. It costs
    /// its caller one call like any other refusal. For a front end that tells of it in another way than of what else
    /// may be wrong with a call.
    pub fn lacks_scope(&self, op: &'static Op, caller: &Caller) -> Option<Error> {
        let scope = op.spec.scope.filter(|scope| !caller.has(*scope))?;
        let id = match crate::random::uuid() {
            Ok(id) => id,
            Err(error) => return Some(error),
        };
        let passing = Passing::new(op, caller, id, Target::named("-"));
        let error = self.limiter.take(caller).err().unwrap_or(Error::MissingScope { scope: scope.as_str() });
        Some(self.refuse(&passing, Action::Refused, error))
    }

    /// Records that somebody was turned away before it was known who they are: `from` is where they called from,
    /// `why` what their credential lacked.
    ///
    /// # Errors
    /// The audit log's own. Whoever it is stays out all the same.
    pub fn turn_away(
        &self,
        front: Front,
        from: IpAddr,
        client: Option<&str>,
        why: &str,
    ) -> Result<(), Error> {
        let id = crate::random::uuid()?;
        let event = Event {
            action: Action::Refused,
            id: &id,
            subject: "-",
            front: front.as_str(),
            client,
            op: "-",
            effect: "-",
            target: &from.to_string(),
            keys: &[],
            outcome: Some(why),
            code: Some(Error::Unauthorized.code()),
            vault_request_id: None,
            approval: None,
            durable: false,
        };
        self.audit.record(&event)?;
        Ok(())
    }

    fn parse(&self, passing: &mut Passing<'_>, arguments: &Value) -> Result<Box<dyn AnyCall>, Error> {
        let front = passing.caller.front;
        if !Self::is_registered(&self.config, passing.op) || !self.is_for(passing.op, front) {
            return Err(Error::UnknownTool);
        }
        if self.is_off(passing.op) {
            has_scope(passing)?;
            return Err(Error::KmsOff);
        }
        if !front.is_on_this_machine() {
            let named = passing
                .op
                .file_arguments()
                .iter()
                .find(|name| arguments.get(name).is_some_and(|value| !value.is_null()));
            if let Some(name) = named {
                let fault = "it names a file of the server's machine, and you have none there; leave it out";
                return Err(Error::input(name.clone(), fault));
            }
        }
        let call = passing.op.parse(arguments.clone())?;
        passing.target = call.target(&passing.caller.place)?;
        if let Files::Writes(argument) = call.files()
            && *self.config.read_only
        {
            return Err(Error::input(argument, "this server writes no files (READ_ONLY=true); leave it out"));
        }
        let mut size = 0;
        for (key, value) in call.values() {
            if holds_mask(value) {
                return Err(Error::MaskedValue { field: shown(key, 64) });
            }
            if !survives(value) {
                return Err(Error::input(
                    shown(key, 64),
                    "it holds a number that Vault would round; give it as text",
                ));
            }
            size += approximate_size(value);
            if size > MAX_REQUEST {
                return Err(Error::TooLarge { what: "The data", limit: MAX_REQUEST });
            }
        }
        if *self.config.dangerous_patterns == DangerousPatterns::Block {
            let found = dangerous(call.as_ref());
            if !found.is_empty() {
                let keys = found.iter().map(|(key, _)| shown(key, 64)).collect::<Vec<_>>().join(", ");
                let mut names: Vec<&str> =
                    found.iter().flat_map(|(_, names)| names.iter().copied()).collect();
                names.sort_unstable();
                names.dedup();
                return Err(Error::DangerousPattern { keys, patterns: names.join(", ") });
            }
        }
        Ok(call)
    }

    fn authorise(&self, passing: &Passing<'_>, call: &dyn AnyCall) -> Result<(), Error> {
        has_scope(passing)?;
        if call.wants_reveal()
            && passing.caller.front.answers_a_model()
            && *self.config.reveal == Reveal::Never
        {
            return Err(Error::RevealForbidden);
        }
        Ok(())
    }

    /// Whether a human stands between this call and Vault.
    fn must_ask(&self, passing: &Passing<'_>, call: &dyn AnyCall) -> bool {
        match passing.caller.front {
            // The human's own command at the human's own terminal.
            Front::Cli => return false,
            // A program with its own credential and scope, where nobody has said otherwise.
            Front::Rest if !*self.config.confirm_rest => return false,
            Front::Approver | Front::Stdio | Front::Rest | Front::McpHttp => {}
        }
        let effect = match passing.op.spec.effect {
            _ if call.is_harmless() => Effect::Read,
            own if own.is_read_only() && matches!(call.files(), Files::Writes(_)) => Effect::Write,
            own => own,
        };
        self.config.confirm_effects.contains(effect)
            || (call.wants_reveal()
                && passing.caller.front.answers_a_model()
                && *self.config.reveal == Reveal::Ask)
    }

    /// The preview, and whether the server's token lacks what the call needs. Both questions go to Vault
    /// at the same time.
    async fn observe(
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

    fn ask(
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

    /// Records a refusal and gives its error back; when not even that can be recorded, that error.
    fn refuse(&self, passing: &Passing<'_>, action: Action, error: Error) -> Error {
        if matches!(error, Error::Audit(_)) {
            return error;
        }
        match self.record(passing, action, Some(error.code()), None, None) {
            Ok(()) => error,
            Err(unrecorded) => unrecorded,
        }
    }

    /// As [`Self::refuse`], without holding up others while the disk is slow.
    async fn refuse_along(&self, passing: &Passing<'_>, action: Action, error: Error) -> Error {
        if matches!(error, Error::Audit(_)) {
            return error;
        }
        match self.record_along(passing, action, Some(error.code()), None, None).await {
            Ok(()) => error,
            Err(unrecorded) => unrecorded,
        }
    }

    /// Records, and waits for the disk where that is due.
    fn record(
        &self,
        passing: &Passing<'_>,
        action: Action,
        code: Option<&'static str>,
        vault_request_id: Option<&str>,
        approval: Option<&(Channel, TicketId)>,
    ) -> Result<(), Error> {
        let step = trace::step("record");
        let appended = || self.append(passing, action, code, vault_request_id, approval);
        let written = step.in_scope(|| appended().and_then(Appended::wait));
        self.count(passing, action, code, approval, written)
    }

    /// The same together with other calls: one fsync for all that wait.
    async fn record_along(
        &self,
        passing: &Passing<'_>,
        action: Action,
        code: Option<&'static str>,
        vault_request_id: Option<&str>,
        approval: Option<&(Channel, TicketId)>,
    ) -> Result<(), Error> {
        let step = trace::step("record");
        let appended = step.in_scope(|| self.append(passing, action, code, vault_request_id, approval));
        let written = match appended {
            Ok(appended) => appended.wait_with_others().instrument(step).await,
            Err(error) => Err(error),
        };
        self.count(passing, action, code, approval, written)
    }

    fn append(
        &self,
        passing: &Passing<'_>,
        action: Action,
        code: Option<&'static str>,
        vault_request_id: Option<&str>,
        approval: Option<&(Channel, TicketId)>,
    ) -> Result<Appended, AuditError> {
        let durable = !passing.op.spec.effect.is_read_only()
            && matches!(action, Action::Request | Action::Success | Action::Failed | Action::Confirmed);
        let approval = approval
            .map(|(channel, ticket)| AuditApproval { channel: channel.as_str(), ticket: ticket.as_str() });
        self.audit.append(&Event {
            op: passing.op.spec.id,
            effect: passing.op.spec.effect.as_str(),
            target: &passing.target.name,
            keys: &passing.target.keys,
            code,
            vault_request_id,
            approval,
            durable,
            ..event_of(action, &passing.id, passing.caller)
        })
    }

    fn count(
        &self,
        passing: &Passing<'_>,
        action: Action,
        code: Option<&'static str>,
        approval: Option<&(Channel, TicketId)>,
        written: Result<Recorded, AuditError>,
    ) -> Result<(), Error> {
        let channel = approval.map(|(channel, _)| channel.as_str());
        meters::recorded(passing.op.spec.id, action, code, channel, written.is_ok());
        written?;
        Ok(())
    }
}

fn has_scope(passing: &Passing<'_>) -> Result<(), Error> {
    match passing.op.spec.scope {
        Some(scope) if !passing.caller.has(scope) => Err(Error::MissingScope { scope: scope.as_str() }),
        _ => Ok(()),
    }
}

fn event_of<'a>(action: Action, id: &'a str, caller: &'a Caller) -> Event<'a> {
    Event {
        action,
        id,
        subject: caller.subject.as_str(),
        front: caller.front.as_str(),
        client: caller.client.as_deref(),
        op: "-",
        effect: "-",
        target: "-",
        keys: &[],
        outcome: None,
        code: None,
        vault_request_id: None,
        approval: None,
        durable: false,
    }
}

fn dangerous(call: &dyn AnyCall) -> Vec<(&str, Vec<&'static str>)> {
    let values = call.values().into_iter();
    values.map(|(key, value)| (key, patterns::found(value))).filter(|(_, names)| !names.is_empty()).collect()
}

/// False for numbers that Vault would give back changed: version 2 of KV keeps every number as a float.
fn survives(value: &Value) -> bool {
    match value {
        Value::Number(number) => {
            let text = number.to_string();
            let mantissa = text.split(['e', 'E']).next().unwrap_or(&text);
            let digits =
                mantissa.trim_start_matches(['-', '0', '.']).chars().filter(char::is_ascii_digit).count();
            let exponent =
                text.split(['e', 'E']).nth(1).map_or(Some(0), |exponent| exponent.parse::<i32>().ok());
            // A float keeps any integer up to 2^53 and any 15 significant digits (IEEE 754 binary64).
            number.as_i64().is_some_and(|whole| whole.unsigned_abs() <= 1 << 53)
                || (digits <= 15 && exponent.is_some_and(|exponent| exponent.abs() < 290))
        }
        Value::Array(items) => items.iter().all(survives),
        Value::Object(map) => map.values().all(survives),
        Value::Null | Value::Bool(_) | Value::String(_) => true,
    }
}

fn approximate_size(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len(),
        Value::Array(items) => items.iter().map(approximate_size).sum(),
        Value::Object(map) => map.iter().map(|(key, item)| key.len() + approximate_size(item)).sum(),
        Value::Null | Value::Bool(_) | Value::Number(_) => 8,
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

/// Keeps the type of a boxed delegate's future in one place.
pub type DelegateFuture<'a> = Boxed<'a, Result<Value, Error>>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_vault_would_round_is_told_from_one_it_keeps() {
        for (text, kept) in [
            ("1", true),
            ("-9007199254740992", true),
            ("9007199254740992", true),
            ("9007199254740993", false),
            ("-9223372036854775808", false),
            ("9223372036854775807", false),
            ("9223372036854775808", false),
            ("1e999", false),
            ("1.10", true),
            ("0.1", true),
            ("123456789012345678.5", false),
            ("1e10", true),
            ("[1e999]", false),
            ("{\"a\":12345678901234567890123}", false),
            ("\"9223372036854775808\"", true),
        ] {
            assert_eq!(survives(&serde_json::from_str(text).unwrap()), kept, "{text}");
        }
    }
}
