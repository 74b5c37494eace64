//! What a subject may have open at once over HTTP, and the seat that a request holds while it is at work.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, OnceLock, PoisonError},
};

use rmcp::model::RequestId;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::{error::Error, front::mcp::InFlight, names::Subject};

/// Calls of one subject that run at a time.
const CALLS: usize = 64;
/// Streams of one subject that only listen.
const STREAMS: usize = 64;
/// Beyond this many subjects those that have nothing open are forgotten.
const REMEMBERED: usize = 64;

struct Share {
    calls: Arc<Semaphore>,
    streams: Arc<Semaphore>,
}

/// Every subject's share.
#[derive(Default)]
pub(in crate::front::http) struct Shares(Mutex<HashMap<Subject, Share>>);

impl Shares {
    fn take(
        &self,
        subject: &Subject,
        which: impl FnOnce(&Share) -> &Arc<Semaphore>,
    ) -> Option<OwnedSemaphorePermit> {
        let mut shares = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shares.len() >= REMEMBERED && !shares.contains_key(subject) {
            let is_used = |share: &Share| {
                share.calls.available_permits() < CALLS || share.streams.available_permits() < STREAMS
            };
            shares.retain(|_, share| is_used(share));
        }
        let share = shares.entry(subject.clone()).or_insert_with(|| Share {
            calls: Arc::new(Semaphore::new(CALLS)),
            streams: Arc::new(Semaphore::new(STREAMS)),
        });
        which(share).clone().try_acquire_owned().ok()
    }

    /// A seat for a call.
    ///
    /// # Errors
    /// `too_many_open`.
    pub(in crate::front::http) fn call(&self, subject: &Subject) -> Result<Arc<Seat>, Error> {
        let place = self.take(subject, |share| &share.calls);
        let place = place.ok_or(Error::TooManyOpen { what: "calls", limit: CALLS })?;
        Ok(Arc::new(Seat { _place: place, of: OnceLock::new() }))
    }

    /// A seat for a stream.
    ///
    /// # Errors
    /// `too_many_open`.
    pub(in crate::front::http) fn stream(&self, subject: &Subject) -> Result<Arc<Seat>, Error> {
        let place = self.take(subject, |share| &share.streams);
        let place = place.ok_or(Error::TooManyOpen { what: "streams", limit: STREAMS })?;
        Ok(Arc::new(Seat { _place: place, of: OnceLock::new() }))
    }
}

/// A request's seat. It travels among the extensions of the HTTP request, which the handler holds: so it is given
/// up when the handler ends, however that comes about, and whether or not the client still waits.
pub(in crate::front::http) struct Seat {
    _place: OwnedSemaphorePermit,
    of: OnceLock<(Arc<InFlight>, RequestId)>,
}

impl Seat {
    /// The request is one of this session's.
    pub(super) fn belongs_to(&self, flight: Arc<InFlight>, id: RequestId) {
        let _ = self.of.set((flight, id));
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        if let Some((flight, id)) = self.of.get() {
            flight.handled(id);
        }
    }
}
