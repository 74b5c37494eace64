//! Questions that wait for a human, and the proof that one said yes.
//!
//! A ticket is 128 random bits, bound to one call by a digest, good for 120 s and for one use; it lives
//! in memory only. [`Tickets::redeem`] takes it out of the table and is the only maker of [`Approved`].
//! A ticket that ran out is kept until somebody has recorded its end.
//!
//! A *carried* question is one that its client may bring to any of several servers. None of them can redeem it until
//! it was adopted, and whoever adopts it has spent its mark at Vault before: so its one use is one over all of them.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use serde_json::Value;

use crate::{
    error::Error,
    names::Subject,
    op::{Boxed, Preview},
    vault::Mark,
};

use super::SecretValue;

/// How long a question may wait.
pub const LIFETIME: Duration = Duration::from_secs(120);
/// How many questions of one subject may wait at once.
pub(super) const MAX_PENDING: usize = 3;
/// How long it is known here that a carried question was answered: longer than any state of it opens.
const KNOWN: Duration = Duration::from_secs(600);

/// The name of a question.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct TicketId(String);

impl TicketId {
    /// Characters of one.
    pub const LENGTH: usize = 32;

    fn random() -> Result<Self, Error> {
        let mut bytes = [0u8; 16];
        crate::random::fill(&mut bytes)?;
        Ok(Self(hex::encode(bytes)))
    }

    /// 32 hexadecimal digits.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The four digits that a human compares.
    #[must_use]
    pub fn short(&self) -> &str {
        self.0.get(..4).unwrap_or(&self.0)
    }
}

impl From<String> for TicketId {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Display for TicketId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// SHA-256 over everything that a yes is about.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CallDigest([u8; 32]);

impl CallDigest {
    /// Digest of the tool, its canonical arguments and where they go. The observed state has its own
    /// field in the ticket, so that "changed since" can be told from "another call".
    #[must_use]
    pub fn of(
        op: &str,
        arguments: &Value,
        subject: &Subject,
        address: &str,
        namespace: Option<&str>,
    ) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        for part in [op, subject.as_str(), address, namespace.unwrap_or_default()] {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part.as_bytes());
        }
        let mut canonical = Vec::new();
        canonical_json(arguments, &mut canonical);
        context.update(&canonical);
        let mut bytes = [0u8; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self(bytes)
    }

    /// The 32 bytes, to bind something else to the same call.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl From<[u8; 32]> for CallDigest {
    fn from(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
}

/// JSON with sorted keys and no spaces; numbers stay as they were written. Equal values give equal
/// bytes whatever order their keys came in.
pub fn canonical_json(value: &Value, out: &mut Vec<u8>) {
    let text = |text: &str, out: &mut Vec<u8>| {
        // Writing a string to memory cannot fail.
        let _ = serde_json::to_writer(out, text);
    };
    match value {
        Value::Null => out.extend_from_slice(b"null"),
        Value::Bool(flag) => out.extend_from_slice(if *flag { b"true" } else { b"false" }),
        Value::Number(number) => out.extend_from_slice(number.to_string().as_bytes()),
        Value::String(string) => text(string, out),
        Value::Array(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                canonical_json(item, out);
            }
            out.push(b']');
        }
        Value::Object(map) => {
            let mut entries: Vec<_> = map.iter().collect();
            entries.sort_unstable_by(|a, b| a.0.cmp(b.0));
            out.push(b'{');
            for (i, (key, item)) in entries.into_iter().enumerate() {
                if i > 0 {
                    out.push(b',');
                }
                text(key, out);
                out.push(b':');
                canonical_json(item, out);
            }
            out.push(b'}');
        }
    }
}

/// What a human was shown, as far as it can change while they read. `version` is what a write then gives
/// to Vault as check-and-set; the digest covers the rest of the preview, since not every change of a secret
/// makes a version, and the target, since another server may have another tree for the same arguments.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    pub(super) version: Option<u64>,
    /// A yes to it brings a value along.
    asks_for_value: bool,
    pub(super) digest: [u8; 32],
}

impl Shown {
    pub(super) fn of(target: &str, preview: &Preview) -> Self {
        let mut context = digest::Context::new(&digest::SHA256);
        let mut part = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_be_bytes());
            context.update(bytes);
        };
        part(target.as_bytes());
        part(preview.verb.as_bytes());
        part(preview.detail.as_bytes());
        for (change, key) in &preview.changes {
            part(&[*change as u8]);
            part(key.as_bytes());
        }
        for warning in &preview.warnings {
            part(warning.as_bytes());
        }
        if let Some(key) = &preview.asks_for {
            part(b"asks for");
            part(key.as_bytes());
        }
        let mut bytes = [0u8; 32];
        bytes.copy_from_slice(context.finish().as_ref());
        Self { version: preview.version, asks_for_value: preview.asks_for.is_some(), digest: bytes }
    }

    /// What was shown at another server. Questions that ask for a value stay where they were asked.
    pub(super) fn elsewhere(version: Option<u64>, digest: [u8; 32]) -> Self {
        Self { version, asks_for_value: false, digest }
    }
}

/// Who carried the question to a human.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    /// The MCP client's own dialog.
    Client,
    /// `vault-mcp approve`.
    Approver,
    /// `vault-mcp approve` with its own Vault login, which does the write.
    ApproverLogin,
    /// A page of this server's own, on this machine, where a value is typed.
    Page,
}

impl Channel {
    /// The word in audit records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Approver => "approver",
            Self::ApproverLogin => "approver_login",
            Self::Page => "page",
        }
    }
}

/// Somebody else who carries the operation out: an approver with its own token.
pub trait Delegate: Send + Sync {
    /// Runs the operation there and gives its output.
    fn run(&self, op: &'static str, arguments: Value) -> Boxed<'_, Result<Value, Error>>;
}

/// What comes with a human's yes.
pub enum Consent {
    /// Nothing more: the call is carried out here.
    Plain,
    /// Somebody else carries it out.
    Elsewhere(Arc<dyn Delegate>),
    /// The value that the question asked for.
    Value(SecretValue),
}

impl Consent {
    /// How a yes from `vault-mcp approve` came.
    #[must_use]
    pub fn at_approver(&self) -> Channel {
        if matches!(self, Self::Elsewhere(_)) { Channel::ApproverLogin } else { Channel::Approver }
    }

    /// A question that asks for a value gets one, here or where it is carried out; another question gets none.
    fn fits(&self, asks_for_value: bool) -> Result<(), Error> {
        match self {
            Self::Plain if asks_for_value => {
                Err(Error::TicketInvalid { fault: "no value came with the yes" })
            }
            Self::Value(_) if !asks_for_value => {
                Err(Error::TicketInvalid { fault: "nobody asked for a value" })
            }
            _ => Ok(()),
        }
    }
}

/// The proof that a human said yes to one call. Only [`Tickets::redeem`] makes one, and the broker
/// takes it by value.
pub struct Approved {
    pub(super) ticket: TicketId,
    pub(super) digest: CallDigest,
    pub(super) shown: Shown,
    pub(super) channel: Channel,
    pub(super) consent: Consent,
    pub(super) call_id: String,
}

struct Waiting<C> {
    subject: Subject,
    digest: CallDigest,
    shown: Shown,
    call_id: String,
    since: Instant,
    call: C,
}

/// A question whose answer may come to another server.
struct Carried<C> {
    waiting: Waiting<C>,
    mark: Mark,
}

impl<C> Carried<C> {
    /// While it still counts as one that waits.
    fn is_pending(&self) -> bool {
        self.waiting.since.elapsed() < LIFETIME
    }
}

/// What is known of a carried question.
pub(super) struct Known<'a> {
    pub(super) subject: &'a Subject,
    pub(super) digest: CallDigest,
    pub(super) shown: Shown,
    pub(super) call_id: &'a str,
}

/// A question that ended with nobody there to record it.
pub(super) struct Lapsed<C> {
    pub(super) ticket: TicketId,
    pub(super) call_id: String,
    pub(super) call: C,
}

struct Table<C> {
    waiting: HashMap<TicketId, Waiting<C>>,
    /// Asked here and carried by their clients. Nothing here can be redeemed.
    carried: HashMap<TicketId, Carried<C>>,
    /// Carried questions, of here and of elsewhere, that are being or were answered here: of each, one answer goes to
    /// Vault.
    taken: HashMap<TicketId, Instant>,
    /// Ran out, and their end is not recorded yet.
    lapsed: HashMap<TicketId, Waiting<C>>,
    declined: Vec<(CallDigest, Instant)>,
}

impl<C> Table<C> {
    fn pending_of(&self, subject: &Subject) -> usize {
        let carried = self.carried.values().filter(|carried| carried.is_pending());
        let all = self.waiting.values().chain(carried.map(|carried| &carried.waiting));
        all.filter(|waiting| waiting.subject == *subject).count()
    }
}

/// The questions of this process. `C` is what the owner needs to know of a call to record its end.
pub(super) struct Tickets<C>(Mutex<Table<C>>);

impl<C> Default for Tickets<C> {
    fn default() -> Self {
        Self(Mutex::new(Table {
            waiting: HashMap::new(),
            carried: HashMap::new(),
            taken: HashMap::new(),
            lapsed: HashMap::new(),
            declined: Vec::new(),
        }))
    }
}

/// The answer to a carried question, on its way to Vault. What is dropped before it is known how that ended may come
/// again.
pub(super) struct Taking<'a, C> {
    tickets: &'a Tickets<C>,
    id: &'a TicketId,
    done: bool,
}

impl<C> Taking<'_, C> {
    /// Vault has said whether it was the first: another answer to this question finds nothing.
    pub(super) fn done(mut self) {
        self.done = true;
    }
}

impl<C> Drop for Taking<'_, C> {
    fn drop(&mut self) {
        if !self.done {
            self.tickets.table().taken.remove(self.id);
        }
    }
}

impl<C> Tickets<C> {
    fn table(&self) -> std::sync::MutexGuard<'_, Table<C>> {
        let mut guard = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let table = &mut *guard;
        table.lapsed.extend(table.waiting.extract_if(|_, waiting| waiting.since.elapsed() >= LIFETIME));
        table.declined.retain(|(_, since)| since.elapsed() < LIFETIME);
        table.taken.retain(|_, since| since.elapsed() < KNOWN);
        guard
    }

    /// Opens a question.
    ///
    /// # Errors
    /// `too_many_pending`; `declined` when the human said no to this very call in the last two minutes.
    pub(super) fn open(
        &self,
        subject: &Subject,
        digest: CallDigest,
        shown: Shown,
        call_id: &str,
        call: C,
    ) -> Result<TicketId, Error> {
        let mut table = self.table();
        if table.declined.iter().any(|(no, _)| *no == digest) {
            return Err(Error::Declined);
        }
        if table.pending_of(subject) >= MAX_PENDING {
            return Err(Error::TooManyPending { limit: MAX_PENDING });
        }
        let id = TicketId::random()?;
        let waiting = Waiting {
            subject: subject.clone(),
            digest,
            shown,
            call_id: call_id.to_owned(),
            since: Instant::now(),
            call,
        };
        table.waiting.insert(id.clone(), waiting);
        Ok(id)
    }

    /// Takes the ticket: whoever comes second finds nothing.
    ///
    /// # Errors
    /// `ticket_invalid` for an unknown, used or expired ticket, one of another subject, or a yes that lacks its value.
    pub(super) fn redeem(
        &self,
        id: &TicketId,
        subject: &Subject,
        channel: Channel,
        consent: Consent,
    ) -> Result<(Approved, C), Error> {
        let mut table = self.table();
        if let Some(waiting) = table.waiting.get(id) {
            if waiting.subject != *subject {
                return Err(Error::TicketInvalid { fault: "it belongs to another caller" });
            }
            consent.fits(waiting.shown.asks_for_value)?;
        }
        let waiting = table
            .waiting
            .remove(id)
            .ok_or(Error::TicketInvalid { fault: "it is unknown, used or expired" })?;
        let approved = Approved {
            ticket: id.clone(),
            digest: waiting.digest,
            shown: waiting.shown,
            channel,
            consent,
            call_id: waiting.call_id,
        };
        Ok((approved, waiting.call))
    }

    /// Closes a question without a yes. A no is remembered for as long as a ticket lives. Gives the
    /// call when the end of the question is not recorded yet.
    pub(super) fn close(&self, id: &TicketId, declined: bool) -> Option<Lapsed<C>> {
        let mut table = self.table();
        let waiting = table.waiting.remove(id).or_else(|| table.lapsed.remove(id))?;
        if declined {
            table.declined.push((waiting.digest, Instant::now()));
        }
        Some(Lapsed::from((id.clone(), waiting)))
    }

    /// True when the ticket could still be redeemed.
    #[must_use]
    pub(super) fn is_open(&self, id: &TicketId) -> bool {
        self.table().waiting.contains_key(id)
    }

    /// How many could still be answered.
    #[must_use]
    pub(super) fn pending(&self) -> usize {
        let table = self.table();
        table.waiting.len() + table.carried.values().filter(|carried| carried.is_pending()).count()
    }

    /// True when this subject may not be asked anything more.
    #[must_use]
    pub(super) fn is_full(&self, subject: &Subject) -> bool {
        self.table().pending_of(subject) >= MAX_PENDING
    }

    /// What another server would need to know of a question that waits here.
    pub(super) fn look<T>(&self, id: &TicketId, look: impl FnOnce(Known<'_>, &C) -> T) -> Option<T> {
        let table = self.table();
        let Waiting { subject, digest, shown, call_id, call, .. } = table.waiting.get(id)?;
        Some(look(Known { subject, digest: *digest, shown: *shown, call_id }, call))
    }

    /// Lets the client carry a question away: from here on it can be redeemed nowhere until it is adopted. `false`
    /// when it no longer waits.
    pub(super) fn hand_out(&self, id: &TicketId, mark: Mark) -> bool {
        let mut table = self.table();
        let Some(waiting) = table.waiting.remove(id) else { return false };
        table.carried.insert(id.clone(), Carried { waiting, mark });
        true
    }

    /// Begins to answer a carried question; nothing when that was begun, or done, before.
    pub(super) fn take<'a>(&'a self, id: &'a TicketId) -> Option<Taking<'a, C>> {
        let mut table = self.table();
        if table.taken.contains_key(id) {
            return None;
        }
        table.taken.insert(id.clone(), Instant::now());
        drop(table);
        Some(Taking { tickets: self, id, done: false })
    }

    /// Makes a carried question one that waits here, for the caller to redeem or to close. Its mark must have been
    /// spent. What this server knows of it itself counts for more than what came with it.
    ///
    /// # Errors
    /// `ticket_invalid` where one of that name waits already.
    pub(super) fn adopt(&self, id: &TicketId, known: &Known<'_>, call: C) -> Result<(), Error> {
        let mut table = self.table();
        if table.waiting.contains_key(id) {
            return Err(Error::TicketInvalid { fault: "it waits already" });
        }
        let call = table.carried.remove(id).map_or(call, |own| own.waiting.call);
        let waiting = Waiting {
            subject: known.subject.clone(),
            digest: known.digest,
            shown: known.shown,
            call_id: known.call_id.to_owned(),
            since: Instant::now(),
            call,
        };
        table.waiting.insert(id.clone(), waiting);
        Ok(())
    }

    /// True for a carried question of which nothing was heard since.
    #[must_use]
    pub(super) fn is_carried(&self, id: &TicketId) -> bool {
        self.table().carried.contains_key(id)
    }

    /// The carried questions of a subject, with their marks.
    pub(super) fn carried_of(&self, subject: &Subject) -> Vec<(TicketId, Mark)> {
        let table = self.table();
        let own = table.carried.iter().filter(|(_, carried)| carried.waiting.subject == *subject);
        own.map(|(id, carried)| (id.clone(), carried.mark.clone())).collect()
    }

    /// Lets go of a carried question that is over, for its record.
    pub(super) fn let_go(&self, id: &TicketId) -> Option<Lapsed<C>> {
        let Carried { waiting, .. } = self.table().carried.remove(id)?;
        Some(Lapsed::from((id.clone(), waiting)))
    }

    /// The questions that ran out since the last time, for their record.
    pub(super) fn take_lapsed(&self) -> Vec<Lapsed<C>> {
        self.table().lapsed.drain().map(Lapsed::from).collect()
    }

    /// Closes every open question.
    pub(super) fn take_open(&self) -> Vec<Lapsed<C>> {
        self.table().waiting.drain().map(Lapsed::from).collect()
    }
}

impl<C> From<(TicketId, Waiting<C>)> for Lapsed<C> {
    fn from((ticket, waiting): (TicketId, Waiting<C>)) -> Self {
        Self { ticket, call_id: waiting.call_id, call: waiting.call }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use crate::op::Change;

    use super::*;

    fn subject(name: &str) -> Subject {
        Subject::parse(name).unwrap()
    }

    fn shown(version: Option<u64>) -> Shown {
        Shown::of("t", &Preview { version, ..Preview::default() })
    }

    fn digest(op: &str, arguments: &Value) -> CallDigest {
        CallDigest::of(op, arguments, &subject("alice"), "http://v", None)
    }

    #[test]
    fn a_ticket_is_good_once_and_for_its_subject_only() {
        let tickets = Tickets::<()>::default();
        let id = tickets.open(&subject("alice"), digest("a", &json!({})), shown(None), "c", ()).unwrap();
        assert!(tickets.redeem(&id, &subject("bob"), Channel::Client, Consent::Plain).is_err());
        assert!(tickets.redeem(&id, &subject("alice"), Channel::Client, Consent::Plain).is_ok());
        assert!(tickets.redeem(&id, &subject("alice"), Channel::Client, Consent::Plain).is_err());
    }

    #[test]
    fn a_yes_without_the_value_that_was_asked_for_is_none_and_a_value_goes_nowhere_else() {
        let tickets = Tickets::<()>::default();
        let value = || {
            let text = zeroize::Zeroizing::new("x".to_owned());
            Consent::Value(SecretValue::parse(text, crate::config::DangerousPatterns::Warn).unwrap())
        };
        let alice = subject("alice");
        let asking = Shown::of("t", &Preview { asks_for: Some("K".into()), ..Preview::default() });
        let id = tickets.open(&alice, digest("a", &json!(1)), asking, "c", ()).unwrap();
        assert!(tickets.redeem(&id, &alice, Channel::Client, Consent::Plain).is_err());
        assert!(tickets.redeem(&id, &alice, Channel::Page, value()).is_ok());
        assert!(tickets.redeem(&id, &alice, Channel::Page, value()).is_err());
        let plain = tickets.open(&alice, digest("a", &json!(2)), shown(None), "c", ()).unwrap();
        assert!(tickets.redeem(&plain, &alice, Channel::Page, value()).is_err());
        assert!(tickets.redeem(&plain, &alice, Channel::Client, Consent::Plain).is_ok());
    }

    #[test]
    fn ten_parallel_replays_redeem_once() {
        let tickets = Arc::new(Tickets::<()>::default());
        let id = tickets.open(&subject("alice"), digest("a", &json!({})), shown(None), "c", ()).unwrap();
        let redeemed: usize = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..10)
                .map(|_| {
                    scope.spawn(|| {
                        usize::from(
                            tickets.redeem(&id, &subject("alice"), Channel::Client, Consent::Plain).is_ok(),
                        )
                    })
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(redeemed, 1);
    }

    #[test]
    fn the_fourth_question_of_a_subject_is_refused_and_another_subject_is_not() {
        let tickets = Tickets::<()>::default();
        for i in 0..3 {
            tickets.open(&subject("alice"), digest("a", &json!(i)), shown(None), "c", ()).unwrap();
        }
        assert_eq!(
            tickets.open(&subject("alice"), digest("a", &json!(9)), shown(None), "c", ()).unwrap_err().code(),
            "too_many_pending"
        );
        assert!(tickets.open(&subject("bob"), digest("a", &json!(9)), shown(None), "c", ()).is_ok());
    }

    #[test]
    fn a_declined_call_is_not_asked_again_at_once_and_another_is() {
        let tickets = Tickets::<()>::default();
        let id = tickets.open(&subject("alice"), digest("a", &json!(1)), shown(None), "c", ()).unwrap();
        tickets.close(&id, true);
        assert_eq!(
            tickets.open(&subject("alice"), digest("a", &json!(1)), shown(None), "c", ()).unwrap_err().code(),
            "declined"
        );
        assert!(tickets.open(&subject("alice"), digest("a", &json!(2)), shown(None), "c", ()).is_ok());
        assert!(tickets.redeem(&id, &subject("alice"), Channel::Client, Consent::Plain).is_err());
    }

    fn mark() -> Mark {
        Mark::parse("hvs.x").unwrap()
    }

    #[test]
    fn a_carried_question_is_redeemed_after_it_was_adopted_and_counts_as_one_that_waits() {
        let tickets = Tickets::<&str>::default();
        let alice = subject("alice");
        let open = |number: i32| tickets.open(&alice, digest("a", &json!(number)), shown(None), "c", "own");
        let id = open(0).unwrap();
        let redeem = || tickets.redeem(&id, &alice, Channel::Client, Consent::Plain);
        assert!(tickets.hand_out(&id, mark()) && !tickets.hand_out(&id, mark()));
        assert!(redeem().is_err() && !tickets.is_open(&id));
        assert!(tickets.close(&id, true).is_none(), "closed without its mark");
        open(1).unwrap();
        open(2).unwrap();
        assert!(tickets.is_full(&alice) && open(3).is_err());
        assert_eq!(tickets.pending(), 3);
        let known =
            Known { subject: &alice, digest: digest("a", &json!(0)), shown: shown(Some(4)), call_id: "c" };
        tickets.adopt(&id, &known, "theirs").unwrap();
        assert!(tickets.adopt(&id, &known, "theirs").is_err(), "adopted twice");
        let (approved, call) = redeem().unwrap();
        assert_eq!((approved.shown.version, call), (Some(4), "own"));
        assert!(redeem().is_err());
        // The end of the process closes what waits here, and not what is carried.
        assert!(tickets.hand_out(&open(5).unwrap(), mark()));
        assert_eq!(tickets.take_open().len(), 2);
        assert_eq!(tickets.carried_of(&alice).len(), 1);
    }

    #[test]
    fn of_the_answers_to_a_carried_question_one_is_on_its_way_and_a_broken_one_may_come_again() {
        let tickets = Tickets::<()>::default();
        let id = TicketId::from("t".to_owned());
        let first = tickets.take(&id).unwrap();
        assert!(tickets.take(&id).is_none() && tickets.take(&id).is_none());
        drop(first);
        tickets.take(&id).unwrap().done();
        assert!(tickets.take(&id).is_none());
    }

    #[test]
    fn what_was_shown_differs_with_everything_that_can_change() {
        let base = Preview { verb: "UPDATE", version: Some(1), ..Preview::default() };
        let key = |change, key: &str| (change, key.to_owned());
        for other in [
            Preview { verb: "CREATE", ..base.clone() },
            Preview { version: Some(2), ..base.clone() },
            Preview { version: None, ..base.clone() },
            Preview { detail: "x".into(), ..base.clone() },
            Preview { warnings: vec!["x".into()], ..base.clone() },
            Preview { changes: vec![key(Change::Added, "x")], ..base.clone() },
            Preview { asks_for: Some("x".into()), ..base.clone() },
        ] {
            assert!(Shown::of("t", &base) != Shown::of("t", &other), "{other:?}");
        }
        let added = Preview { changes: vec![key(Change::Added, "x")], ..base.clone() };
        let removed = Preview { changes: vec![key(Change::Removed, "x")], ..base.clone() };
        assert!(Shown::of("t", &added) != Shown::of("t", &removed));
        assert!(Shown::of("t", &base) == Shown::of("t", &base.clone()));
        assert!(Shown::of("t", &base) != Shown::of("u", &base));
    }

    #[test]
    fn a_question_ends_once_in_the_record() {
        let tickets = Tickets::<&str>::default();
        let open = |what| {
            tickets.open(&subject("alice"), digest("a", &json!(what)), shown(None), "c", what).unwrap()
        };
        let (first, second) = (open("first"), open("second"));
        assert!(tickets.take_lapsed().is_empty());
        tickets.close(&first, false).unwrap();
        let left: Vec<_> = tickets.take_open().into_iter().map(|lapsed| lapsed.call).collect();
        assert_eq!(left, ["second"]);
        assert!(tickets.close(&second, false).is_none() && !tickets.is_open(&second));
    }

    #[test]
    fn the_digest_differs_with_every_part_of_the_call() {
        let base = CallDigest::of("kv.write", &json!({"a": 1}), &subject("alice"), "http://v", None);
        for other in [
            CallDigest::of("kv.patch", &json!({"a": 1}), &subject("alice"), "http://v", None),
            CallDigest::of("kv.write", &json!({"a": 1.0}), &subject("alice"), "http://v", None),
            CallDigest::of("kv.write", &json!({"a": 1}), &subject("bob"), "http://v", None),
            CallDigest::of("kv.write", &json!({"a": 1}), &subject("alice"), "http://w", None),
            CallDigest::of("kv.write", &json!({"a": 1}), &subject("alice"), "http://v", Some("n")),
        ] {
            assert!(base != other);
        }
    }

    fn json_value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "\\PC{0,8}".prop_map(Value::from)
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::vec(("\\PC{0,4}", inner), 0..4)
                    .prop_map(|entries| Value::Object(entries.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn canonical_json_means_the_same_and_ignores_order(value in json_value()) {
            let mut once = Vec::new();
            canonical_json(&value, &mut once);
            let back: Value = serde_json::from_slice(&once).unwrap();
            prop_assert_eq!(&back, &value);
            let reversed = match value {
                Value::Object(map) => Value::Object(map.into_iter().rev().collect()),
                other => other,
            };
            let mut again = Vec::new();
            canonical_json(&reversed, &mut again);
            prop_assert_eq!(once, again);
        }
    }
}
