//! What the log is told of a call, step by step, and of what never became one.

use std::{net::IpAddr, sync::Arc};

use tracing::Instrument;

use super::{Broker, Channel, TicketId};
use crate::{
    audit::{Action, Appended, Approval as AuditApproval, AuditError, Event, Recorded},
    caller::{Caller, Front},
    error::Error,
    handover::Root,
    names::shown,
    op::{Op, Target},
    telemetry::{meters, trace},
};

/// A call on its way through the pipeline.
pub(super) struct Passing<'a> {
    pub(super) op: &'static Op,
    pub(super) caller: &'a Caller,
    pub(super) id: String,
    pub(super) target: Target,
    /// Folders that this call's files may lie in; none for a call that has nothing to do with files.
    pub(super) roots: Arc<[Root]>,
}

impl<'a> Passing<'a> {
    pub(super) fn new(op: &'static Op, caller: &'a Caller, id: String, target: Target) -> Self {
        Self { op, caller, id, target, roots: Arc::from([]) }
    }
}

impl Broker {
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

    /// Records a refusal and gives its error back; when not even that can be recorded, that error.
    pub(super) fn refuse(&self, passing: &Passing<'_>, action: Action, error: Error) -> Error {
        if matches!(error, Error::Audit(_)) {
            return error;
        }
        match self.record(passing, action, Some(error.code()), None, None) {
            Ok(()) => error,
            Err(unrecorded) => unrecorded,
        }
    }

    /// As [`Self::refuse`], without holding up others while the disk is slow.
    pub(super) async fn refuse_along(&self, passing: &Passing<'_>, action: Action, error: Error) -> Error {
        if matches!(error, Error::Audit(_)) {
            return error;
        }
        match self.record_along(passing, action, Some(error.code()), None, None).await {
            Ok(()) => error,
            Err(unrecorded) => unrecorded,
        }
    }

    /// Records, and waits for the disk where that is due.
    pub(super) fn record(
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
    pub(super) async fn record_along(
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

pub(super) fn event_of<'a>(action: Action, id: &'a str, caller: &'a Caller) -> Event<'a> {
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
