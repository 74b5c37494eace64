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
mod parse;
pub mod patterns;
mod question;
mod records;
mod room;
mod running;
mod tickets;
mod typed;

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, PoisonError},
    time::Instant,
};

use futures_util::FutureExt;
use serde_json::Value;
use tracing::Instrument;

use crate::{
    audit::{Action, Audit},
    caller::{Caller, Front},
    config::Config,
    error::Error,
    op::{Files, Op, Target, Toolset},
    telemetry::{meters, trace},
    vault::{Vault, sys},
};

pub use crate::place::{FullPath, Place};
pub use grant::{Granted, Look};
pub use question::{Closed, Question};
pub use tickets::{Approved, CallDigest, Channel, Consent, Delegate, LIFETIME, TicketId, canonical_json};
pub use typed::{SecretValue, ValueFault};

use carried::Boxes;
use events::{Events, What};
use limit::Limiter;
use parse::dangerous;
use question::Asked;
use records::{Passing, event_of};
use room::Room;
use running::Running;
use tickets::{Shown, Tickets};

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

    /// Nobody will answer here any more: whatever is still open is closed, and recorded as such; the tokens that were
    /// made for callers are revoked. A question that its client carries stays open: another server may finish it, and
    /// has the record of how it ended.
    pub async fn end(&self) {
        self.record_lapsed(Closed::TimedOut, self.tickets.take_lapsed());
        self.record_lapsed(Closed::Cancelled, self.tickets.take_open());
        self.vault.end(REVOKING).await;
    }
}
