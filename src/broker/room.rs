//! Room for calls: so many run at a time, so many more wait for a while, and what comes on top is refused at once.
//! One subject has a share of it, so that no other waits behind its crowd.
//!
//! Only for callers over a network: on standard input the transport has bounds of its own, and a person's command
//! is one at a time.

use std::{
    collections::HashMap,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{caller::Caller, config::Config, error::Error, names::Subject};

/// For each that runs, so many may wait.
const WAITING: usize = 4;
/// How long one waits.
const PATIENCE: Duration = Duration::from_secs(2);
/// What a refused caller is told to wait, in seconds.
const COME_BACK: u64 = 1;

/// The room.
pub(super) struct Room {
    places: Semaphore,
    waiting: AtomicUsize,
    most_waiting: usize,
    /// Calls of one subject, running and waiting.
    most_of_one: usize,
    of_one: Mutex<HashMap<Subject, usize>>,
}

/// The right to run. Given back when dropped.
pub(super) struct Place<'a> {
    _seat: Option<SemaphorePermit<'a>>,
    _share: Option<Share<'a>>,
}

/// One of a subject's calls.
struct Share<'a> {
    room: &'a Room,
    subject: Subject,
}

impl Drop for Share<'_> {
    fn drop(&mut self) {
        let mut of_one = self.room.of_one();
        if let Some(count) = of_one.get_mut(&self.subject) {
            *count -= 1;
            if *count == 0 {
                of_one.remove(&self.subject);
            }
        }
    }
}

/// One that waits, however its waiting ends.
struct InLine<'a>(&'a AtomicUsize);

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Room {
    /// From the settings.
    pub(super) fn new(config: &Config) -> Self {
        let running = usize::try_from(*config.max_concurrent_calls).unwrap_or(usize::MAX).clamp(1, 10_000);
        Self {
            places: Semaphore::new(running),
            waiting: AtomicUsize::new(0),
            most_waiting: running * WAITING,
            most_of_one: running,
            of_one: Mutex::default(),
        }
    }

    fn of_one(&self) -> MutexGuard<'_, HashMap<Subject, usize>> {
        self.of_one.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place to run, perhaps after a while.
    ///
    /// # Errors
    /// `overloaded`.
    pub(super) async fn enter(&self, caller: &Caller) -> Result<Place<'_>, Error> {
        if caller.front.is_on_this_machine() {
            return Ok(Place { _seat: None, _share: None });
        }
        let share = self.share(&caller.subject)?;
        let seat = match self.places.try_acquire() {
            Ok(seat) => seat,
            Err(_) => self.wait().await?,
        };
        Ok(Place { _seat: Some(seat), _share: Some(share) })
    }

    fn share(&self, subject: &Subject) -> Result<Share<'_>, Error> {
        let mut of_one = self.of_one();
        let count = of_one.entry(subject.clone()).or_default();
        // A count of nothing is never over it, so no empty entry is left behind.
        if *count >= self.most_of_one {
            return Err(OVERLOADED);
        }
        *count += 1;
        drop(of_one);
        Ok(Share { room: self, subject: subject.clone() })
    }

    async fn wait(&self) -> Result<SemaphorePermit<'_>, Error> {
        let before = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _in_line = InLine(&self.waiting);
        if before >= self.most_waiting {
            return Err(OVERLOADED);
        }
        match tokio::time::timeout(PATIENCE, self.places.acquire()).await {
            Ok(Ok(seat)) => Ok(seat),
            // The semaphore is never closed.
            Ok(Err(_)) | Err(_) => Err(OVERLOADED),
        }
    }
}

const OVERLOADED: Error = Error::Overloaded { retry_after_seconds: COME_BACK };

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::{
        broker,
        caller::{Front, Meter},
        config::Layers,
        handover::Roots,
    };

    fn room(running: &str) -> Room {
        let environment = [("MAX_CONCURRENT_CALLS".to_owned(), running.to_owned())].into();
        Room::new(&Config::load(&Layers { environment, ..Layers::default() }).unwrap())
    }

    fn caller(subject: &str, front: Front) -> Caller {
        let config = Config::load(&Layers::default()).unwrap();
        let subject = Subject::parse(subject).unwrap();
        Caller {
            place: Arc::new(broker::Place::of(&config, &subject)),
            subject,
            scopes: Vec::new(),
            front,
            client: None,
            roots: Roots::none(),
            meter: Meter::default(),
        }
    }

    #[tokio::test]
    async fn what_no_place_and_no_line_is_left_for_is_refused_and_places_are_given_back() {
        let room = room("2");
        let callers: Vec<_> = (0..11).map(|number| caller(&format!("s{number}"), Front::Rest)).collect();
        let running = [room.enter(&callers[0]).await.unwrap(), room.enter(&callers[1]).await.unwrap()];
        let waiting: Vec<_> = callers[2..10].iter().map(|caller| Box::pin(room.enter(caller))).collect();
        let mut waiting = futures_util::future::join_all(waiting);
        assert!(futures_util::poll!(&mut waiting).is_pending());
        assert_eq!(room.enter(&callers[10]).await.err().unwrap().code(), "overloaded");
        drop(running);
        assert_eq!(room.places.available_permits(), 0, "those who waited were let in");
        // Whoever goes away while waiting leaves no gap.
        drop(waiting);
        assert_eq!((room.waiting.load(Ordering::Relaxed), room.places.available_permits()), (0, 2));
        assert!(room.of_one().is_empty());
    }

    #[tokio::test]
    async fn one_subject_has_no_more_than_its_share_and_this_machine_no_bound() {
        let room = room("3");
        let (alice, bob) = (caller("alice", Front::McpHttp), caller("bob", Front::Rest));
        let mut inside = Vec::new();
        for _ in 0..3 {
            inside.push(room.enter(&alice).await.unwrap());
        }
        assert_eq!(room.enter(&alice).await.err().unwrap().code(), "overloaded");
        assert!(futures_util::poll!(Box::pin(room.enter(&bob))).is_pending(), "the line is free for others");
        room.enter(&caller("alice", Front::Stdio)).await.unwrap();
        inside.pop();
        room.enter(&bob).await.unwrap();
    }
}
