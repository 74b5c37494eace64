//! What happened to whom: calls that ended and secrets that changed, told to whoever listens for that subject.
//!
//! Each subject has a log of its own, so nothing of one reaches another and a thousand listeners do not wake
//! each other. A log begins with its first listener and is dropped some time after its last; it is bounded,
//! and a listener that falls behind learns how much it missed. No event holds a value or the name of a key.

use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use crate::names::Subject;

/// Events that a log holds.
const HISTORY: usize = 128;
/// How long a log outlives its last listener: as long as a client may take to come back.
const KEPT: Duration = Duration::from_secs(300);

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A call ended, well or not.
    Completed {
        /// The tool, as it was called.
        tool: Box<str>,
    },
    /// Something in Vault changed.
    Changed {
        /// Mount and full path.
        target: Box<str>,
    },
}

/// Something that happened, and when.
#[derive(Debug)]
pub struct Event {
    /// Counts the subject's events from 1.
    pub number: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// What.
    pub what: What,
}

/// From where a listener hears.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// What happens from now on.
    Now,
    /// What happened after the event of this number, as far as it is kept.
    After(u64),
}

/// So many events were missed; what is heard next is the oldest that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Missed(pub u64);

#[derive(Default)]
struct History {
    events: VecDeque<Arc<Event>>,
    /// The number of the last one.
    last: u64,
    silent_since: Option<Instant>,
}

struct Log {
    history: Mutex<History>,
    told: watch::Sender<u64>,
}

impl Log {
    fn lock(&self) -> MutexGuard<'_, History> {
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The logs of all subjects.
#[derive(Default)]
pub struct Events(Mutex<HashMap<Subject, Arc<Log>>>);

impl Events {
    fn logs(&self) -> MutexGuard<'_, HashMap<Subject, Arc<Log>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the subject's listeners, if it has or had any.
    pub fn tell(&self, subject: &Subject, what: impl FnOnce() -> What) {
        let Some(log) = self.logs().get(subject).cloned() else { return };
        let number = {
            let mut history = log.lock();
            history.last += 1;
            let number = history.last;
            if history.events.len() >= HISTORY {
                history.events.pop_front();
            }
            history.events.push_back(Arc::new(Event { number, at: Utc::now(), what: what() }));
            number
        };
        log.told.send_replace(number);
    }

    /// Listens to what happens to this subject.
    #[must_use]
    pub fn listen(&self, subject: &Subject, since: Since) -> Listener {
        let mut logs = self.logs();
        let forgotten = |log: &Log| log.lock().silent_since.is_some_and(|since| since.elapsed() >= KEPT);
        logs.retain(|_, log| log.told.receiver_count() > 0 || !forgotten(log));
        let new = || Arc::new(Log { history: Mutex::default(), told: watch::Sender::new(0) });
        let log = logs.entry(subject.clone()).or_insert_with(new).clone();
        // Before the table is let go of: a log that nobody listens to may leave it.
        let told = log.told.subscribe();
        drop(logs);
        let last = log.lock().last;
        let heard = match since {
            Since::Now => last,
            // A number from another life of this server says nothing.
            Since::After(number) => number.min(last),
        };
        Listener { log, told, heard }
    }
}

/// Hears a subject's events, one after the other.
pub struct Listener {
    log: Arc<Log>,
    told: watch::Receiver<u64>,
    heard: u64,
}

impl Listener {
    /// The next event. Safe to drop at any await.
    ///
    /// # Errors
    /// How many were missed, once; the next call goes on behind them.
    pub async fn next(&mut self) -> Result<Arc<Event>, Missed> {
        loop {
            self.told.mark_unchanged();
            if let Some(found) = self.take() {
                return found;
            }
            if self.told.changed().await.is_err() {
                // The log is ours as well: its sender lives.
                std::future::pending::<()>().await;
            }
        }
    }

    /// What is there already.
    pub fn take(&mut self) -> Option<Result<Arc<Event>, Missed>> {
        let history = self.log.lock();
        let oldest = history.events.front()?.number;
        if self.heard + 1 < oldest {
            let missed = oldest - 1 - self.heard;
            self.heard = oldest - 1;
            return Some(Err(Missed(missed)));
        }
        let at = usize::try_from(self.heard + 1 - oldest).ok()?;
        let event = history.events.get(at)?.clone();
        self.heard = event.number;
        Some(Ok(event))
    }
}

impl Drop for Listener {
    fn drop(&mut self) {
        self.log.lock().silent_since = Some(Instant::now());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn subject(name: &str) -> Subject {
        Subject::parse(name).unwrap()
    }

    fn changed(number: usize) -> What {
        What::Changed { target: format!("secret/{number}").into() }
    }

    #[tokio::test]
    async fn a_subject_hears_of_itself_alone() {
        let events = Events::default();
        let mut alice = events.listen(&subject("alice"), Since::Now);
        let mut bob = events.listen(&subject("bob"), Since::Now);
        events.tell(&subject("alice"), || changed(1));
        assert_eq!(alice.next().await.unwrap().what, changed(1));
        assert!(bob.take().is_none() && !bob.told.has_changed().unwrap());
        // Nobody listens: nothing is kept, not even made.
        events.tell(&subject("carol"), || panic!("made for nobody"));
    }

    #[tokio::test]
    async fn who_comes_back_hears_what_happened_meanwhile() {
        let events = Events::default();
        let mut first = events.listen(&subject("alice"), Since::Now);
        events.tell(&subject("alice"), || changed(1));
        let last = first.next().await.unwrap().number;
        drop(first);
        events.tell(&subject("alice"), || changed(2));
        let mut again = events.listen(&subject("alice"), Since::After(last));
        assert_eq!(again.next().await.unwrap().what, changed(2));
        assert!(again.take().is_none());
        assert!(events.listen(&subject("alice"), Since::Now).take().is_none());
        // A number that was never given does not make it wait for that event.
        let mut ahead = events.listen(&subject("alice"), Since::After(u64::MAX));
        events.tell(&subject("alice"), || changed(3));
        assert_eq!(ahead.next().await.unwrap().what, changed(3));
    }

    #[tokio::test]
    async fn who_falls_behind_learns_by_how_much_and_memory_stays_bounded() {
        let events = Events::default();
        let mut slow = events.listen(&subject("alice"), Since::Now);
        for number in 0..HISTORY + 7 {
            events.tell(&subject("alice"), || changed(number));
        }
        assert_eq!(slow.next().await.unwrap_err(), Missed(7));
        assert_eq!(slow.next().await.unwrap().what, changed(7));
        assert_eq!(slow.log.lock().events.len(), HISTORY);
    }
}
