//! Questions that a client carries from one server to another. Replicas share Vault, their settings and nothing else,
//! so what a ticket holds goes with the client, in a box that only servers with the same `REQUEST_STATE_KEY` open; and
//! that it is answered once, Vault sees to: the box holds a [`Mark`], and whoever takes the answer spends it first.
//!
//! What this module does not do: make an [`super::Approved`]. A question that was adopted is redeemed as any other.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use aws_lc_rs::{aead, hkdf};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use zeroize::Zeroizing;

use crate::{
    audit::{Action, Approval as AuditApproval, Event},
    caller::{Caller, Front},
    config::{Approval, Config},
    error::Error,
    names::Subject,
    op::{Op, Target},
    telemetry::meters,
    vault::Mark,
};

use super::{
    Asked, Broker, CallDigest, Channel, Closed, LIFETIME, Passing, TicketId, event_of,
    tickets::{Known, Lapsed, Shown},
};

/// How long after a question's end the server that asked has Vault say whether it was answered: an answer may have been
/// on its way, and clocks differ.
const LATER: Duration = Duration::from_secs(15);
/// How often it asks, and how long it waits in between, where Vault does not answer.
const TRIES: u32 = 3;
const BETWEEN: Duration = Duration::from_secs(10);
/// How long Vault keeps a mark: until after the last of these.
const MARK_SECONDS: u32 = 200;

/// What is wrong with an answer that comes second, or too late.
const USED: &str = "it is unknown, used or expired";

/// Seals and opens boxes. What is in one cannot be read by its client, although it could only spoil its own question
/// with the mark in it.
pub(super) struct Boxes(Option<aead::LessSafeKey>);

/// All that a ticket holds, but for what the box is bound to.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Content {
    version: Option<u64>,
    shown: [u8; 32],
    call_id: String,
    target: String,
    mark: String,
}

/// What a box is good for: one operation, subject, set of arguments and ticket.
struct BoundTo(Vec<u8>);

impl BoundTo {
    fn new(op: &str, subject: &Subject, call: CallDigest, ticket: &TicketId) -> Self {
        let mut bytes = call.as_bytes().to_vec();
        for part in [op, subject.as_str(), ticket.as_str()] {
            bytes.extend_from_slice(&(part.len() as u64).to_be_bytes());
            bytes.extend_from_slice(part.as_bytes());
        }
        Self(bytes)
    }

    fn aad(&self) -> aead::Aad<&[u8]> {
        aead::Aad::from(&self.0)
    }
}

impl Boxes {
    /// Under a key of its own that comes from `REQUEST_STATE_KEY`; without that there are none.
    pub(super) fn new(config: &Config) -> Self {
        Self(config.request_state_key.as_ref().and_then(|secret| {
            let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, b"vault-mcp/carried-question/1");
            let random = salt.extract(secret.expose().as_bytes());
            let key = random.expand(&[b"AES-256-GCM-SIV"], &aead::AES_256_GCM_SIV).ok()?;
            Some(aead::LessSafeKey::new(aead::UnboundKey::from(key)))
        }))
    }

    fn seal(&self, content: &Content, bound_to: &BoundTo) -> Result<Option<Vec<u8>>, Error> {
        let Some(key) = &self.0 else { return Ok(None) };
        let internal = Error::Internal { what: "a question cannot be sealed" };
        // Replicas draw from one room of nonces. With SIV two that are the same give away no more than that two
        // contents are.
        let mut nonce = [0u8; aead::NONCE_LEN];
        crate::random::fill(&mut nonce)?;
        let Ok(mut body) = serde_json::to_vec(content) else { return Err(internal) };
        let unique = aead::Nonce::assume_unique_for_key(nonce);
        if key.seal_in_place_append_tag(unique, bound_to.aad(), &mut body).is_err() {
            return Err(internal);
        }
        Ok(Some([nonce.as_slice(), &body].concat()))
    }

    fn open(&self, sealed: &[u8], bound_to: &BoundTo) -> Option<Content> {
        let (nonce, body) = sealed.split_first_chunk::<{ aead::NONCE_LEN }>()?;
        let nonce = aead::Nonce::assume_unique_for_key(*nonce);
        let mut body = Zeroizing::new(body.to_vec());
        let plain = self.0.as_ref()?.open_in_place(nonce, bound_to.aad(), &mut body).ok()?;
        serde_json::from_slice(plain).ok()
    }
}

impl Broker {
    /// Lets the client carry a plain question to any server that has the same settings: gives what another one needs to
    /// finish it. Nothing where this server has no other (no `REQUEST_STATE_KEY`), or the caller no way to one.
    ///
    /// # Errors
    /// `forbidden` where a policy does not let the caller's token wrap, and what stands between here and Vault. Then
    /// the question is closed.
    pub async fn hand_out(
        self: &Arc<Self>,
        op: &'static Op,
        caller: &Caller,
        call: CallDigest,
        ticket: &TicketId,
    ) -> Result<Option<Vec<u8>>, Error> {
        if self.boxes.0.is_none() || caller.front != Front::McpHttp {
            return Ok(None);
        }
        let sealed = self.seal(op, caller, call, ticket).await;
        sealed.map_err(|error| self.abort(caller, ticket, error, false, Channel::Client))
    }

    async fn seal(
        self: &Arc<Self>,
        op: &'static Op,
        caller: &Caller,
        call: CallDigest,
        ticket: &TicketId,
    ) -> Result<Option<Vec<u8>>, Error> {
        let mark = {
            let _place = self.room.enter(caller).await?;
            self.vault.session_for(caller).mark(ticket.as_str(), MARK_SECONDS).await?
        };
        let content = self.tickets.look(ticket, |known, asked| Content {
            version: known.shown.version,
            shown: known.shown.digest,
            call_id: known.call_id.to_owned(),
            target: asked.target.name.clone(),
            mark: mark.expose().to_owned(),
        });
        let content = content.ok_or(Error::TicketInvalid { fault: USED })?;
        let sealed = self.boxes.seal(&content, &BoundTo::new(op.spec.id, &caller.subject, call, ticket))?;
        if !self.tickets.hand_out(ticket, mark.clone()) {
            return Err(Error::TicketInvalid { fault: USED });
        }
        tokio::spawn(watch(Arc::downgrade(self), ticket.clone(), mark));
        Ok(sealed)
    }

    /// Takes the answer to a question that the client carried here: from then on the question waits here, for this
    /// answer, and no other server takes one.
    ///
    /// # Errors
    /// `ticket_invalid` where it was answered before, has expired, or is not this caller's. What stands between here
    /// and Vault: then it may still be answered.
    pub async fn take_up(
        &self,
        op: &'static Op,
        caller: &Caller,
        arguments: &Value,
        (call, ticket, carried): (CallDigest, &TicketId, &[u8]),
    ) -> Result<(), Error> {
        let invalid = |fault| Err(self.refuse_unknown(op.spec.id, caller, Error::TicketInvalid { fault }));
        if caller.front != Front::McpHttp || *self.config.approval == Approval::Approver {
            return invalid("a client's answer does not count here");
        }
        let content = self.boxes.open(carried, &BoundTo::new(op.spec.id, &caller.subject, call, ticket));
        let opened = content.and_then(|content| Some((Mark::parse(&content.mark)?, content)));
        let Some((mark, content)) = opened else {
            return invalid("its state is forged, expired or for another call");
        };
        // Also so that one who sends the same again and again does not do so to Vault.
        let Some(taking) = self.tickets.take(ticket) else { return invalid(USED) };
        let spent = async {
            let _place = self.room.enter(caller).await?;
            self.vault.spend(&mark, ticket.as_str()).await
        };
        match spent.await {
            Ok(true) => taking.done(),
            Ok(false) => {
                taking.done();
                self.record_elsewhere(ticket);
                return invalid(USED);
            }
            Err(error) => {
                let passing = Passing::new(op, caller, content.call_id, Target::named(content.target));
                return Err(self.refuse_along(&passing, Action::Refused, error).await);
            }
        }
        let target = if call == self.digest_of(op, arguments, caller) {
            let target = op.parse(arguments.clone()).and_then(|call| call.target(&caller.place)).ok();
            target.filter(|target| target.name == content.target)
        } else {
            None
        };
        let target = target.unwrap_or_else(|| Target::named(content.target));
        let known = Known {
            subject: &caller.subject,
            digest: call,
            shown: Shown::elsewhere(content.version, content.shown),
            call_id: &content.call_id,
        };
        self.tickets.adopt(ticket, &known, Asked { op, caller: caller.clone(), target })
    }

    /// Lets go of those of a subject's questions that were answered elsewhere, so that they no longer count against
    /// the next.
    pub(super) async fn settle(&self, caller: &Caller) {
        let carried = self.tickets.carried_of(&caller.subject);
        let looked = carried.iter().map(|(ticket, mark)| async move {
            if self.vault.is_spent(mark).await.unwrap_or(false)
                && let Some(taking) = self.tickets.take(ticket)
            {
                taking.done();
                self.record_elsewhere(ticket);
            }
        });
        join_all(looked).await;
    }

    /// The end of a carried question that nobody answered here.
    ///
    /// # Errors
    /// Why it is still not known how it ended.
    async fn end_of_carried(&self, ticket: &TicketId, mark: &Mark) -> Result<(), Error> {
        if !self.tickets.is_carried(ticket) {
            return Ok(());
        }
        // Whoever answers at this very moment is about to say how it ends.
        let taking = self.tickets.take(ticket).ok_or(Error::TicketInvalid { fault: USED })?;
        // Whoever spends it ends it: after this record no other server can take a late answer.
        let unanswered = self.vault.spend(mark, ticket.as_str()).await?;
        taking.done();
        if unanswered {
            let error = Closed::TimedOut.into_error();
            self.record_carried(ticket, Action::Aborted, Some(error.code()), None);
        } else {
            self.record_elsewhere(ticket);
        }
        Ok(())
    }

    fn record_elsewhere(&self, ticket: &TicketId) {
        let outcome = "what Vault keeps for its one answer was spent, and none was taken here";
        self.record_carried(ticket, Action::AnsweredElsewhere, None, Some(outcome));
    }

    /// Records the end of a carried question that was asked here; of any other its own server has the record.
    fn record_carried(
        &self,
        ticket: &TicketId,
        action: Action,
        code: Option<&'static str>,
        outcome: Option<&str>,
    ) {
        let Some(Lapsed { call_id, call: Asked { op, caller, target }, .. }) = self.tickets.let_go(ticket)
        else {
            return;
        };
        let channel = Channel::Client.as_str();
        let written = self.audit.record(&Event {
            op: op.spec.id,
            effect: op.spec.effect.as_str(),
            target: &target.name,
            keys: &target.keys,
            code,
            outcome,
            approval: Some(AuditApproval { channel, ticket: ticket.as_str() }),
            ..event_of(action, &call_id, &caller)
        });
        meters::recorded(op.spec.id, action, code, Some(channel), written.is_ok());
        if let Err(error) = written {
            tracing::error!(%error, "the end of a question is not recorded");
        }
    }
}

/// Sees to the end of a question that its client never brings back.
async fn watch(broker: Weak<Broker>, ticket: TicketId, mark: Mark) {
    tokio::time::sleep(LIFETIME + LATER).await;
    let mut fault = None;
    for _ in 0..TRIES {
        let Some(broker) = broker.upgrade() else { return };
        match broker.end_of_carried(&ticket, &mark).await {
            Ok(()) => return,
            Err(error) => fault = Some(error),
        }
        drop(broker);
        tokio::time::sleep(BETWEEN).await;
    }
    if let (Some(broker), Some(error)) = (broker.upgrade(), fault) {
        let outcome = "nobody answered here; Vault could not be asked about other servers";
        broker.record_carried(&ticket, Action::Aborted, Some(error.code()), Some(outcome));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::config::Layers;

    fn boxes(key: &str) -> Boxes {
        let environment = [("REQUEST_STATE_KEY".to_owned(), key.to_owned())].into();
        Boxes::new(&Config::load(&Layers { environment, ..Layers::default() }).unwrap())
    }

    fn content() -> Content {
        let (call_id, target, mark) =
            ("c".to_owned(), "secret/mcp/alice/app".to_owned(), "hvs.mark".to_owned());
        Content { version: Some(3), shown: [7; 32], call_id, target, mark }
    }

    fn bound_to(op: &str, subject: &str, arguments: i32, ticket: &str) -> BoundTo {
        let subject = Subject::parse(subject).unwrap();
        let call = CallDigest::of("kv.write", &json!(arguments), &subject, "http://v", None);
        BoundTo::new(op, &subject, call, &TicketId::from(ticket.to_owned()))
    }

    #[test]
    fn a_box_opens_under_its_key_for_what_it_is_bound_to_and_unchanged() {
        let (key, other) = ("k".repeat(32), "o".repeat(32));
        let own = || bound_to("kv.write", "alice", 1, "t");
        let sealed = boxes(&key).seal(&content(), &own()).unwrap().unwrap();
        let opened = boxes(&key).open(&sealed, &own()).unwrap();
        assert_eq!((opened.version, opened.shown, opened.mark.as_str()), (Some(3), [7; 32], "hvs.mark"));
        assert!(boxes(&other).open(&sealed, &own()).is_none());
        assert!(Boxes(None).open(&sealed, &own()).is_none());
        for bound_to in [
            bound_to("kv.patch", "alice", 1, "t"),
            bound_to("kv.write", "bob", 1, "t"),
            bound_to("kv.write", "alice", 2, "t"),
            bound_to("kv.write", "alice", 1, "u"),
        ] {
            assert!(boxes(&key).open(&sealed, &bound_to).is_none());
        }
        for at in 0..sealed.len() {
            let mut forged = sealed.clone();
            forged[at] ^= 1;
            assert!(boxes(&key).open(&forged, &own()).is_none(), "byte {at}");
            assert!(boxes(&key).open(&sealed[..at], &own()).is_none(), "{at} bytes");
        }
    }

    #[test]
    fn what_a_box_holds_cannot_be_read_from_outside_and_no_two_are_alike() {
        let boxes = boxes(&"k".repeat(32));
        let sealed = || boxes.seal(&content(), &bound_to("kv.write", "alice", 1, "t")).unwrap().unwrap();
        let (first, second) = (sealed(), sealed());
        assert_ne!(first, second);
        assert!(!String::from_utf8_lossy(&first).contains("mark"));
        assert!(Boxes(None).seal(&content(), &bound_to("kv.write", "alice", 1, "t")).unwrap().is_none());
    }
}
