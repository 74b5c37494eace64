//! What this process issued, to whom, and until when. In memory: another process's leases are not its
//! business, and a lease that is not here is refused before anything is sent.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::child::{Child, Holder};
use crate::names::Subject;

/// One lease.
#[derive(Debug, Clone)]
pub struct Lease {
    /// Vault's id of it.
    pub id: String,
    /// Whom it was issued to.
    pub subject: Subject,
    /// Role it was issued from.
    pub role: String,
    /// When it ends.
    pub ends: Instant,
    /// True when it can be renewed.
    pub renewable: bool,
    /// What it ends with.
    pub holder: Holder,
}

/// The ledger.
#[derive(Default)]
pub struct Leases(Mutex<Vec<Lease>>);

impl Leases {
    fn list(&self) -> std::sync::MutexGuard<'_, Vec<Lease>> {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        list.retain(|lease| lease.ends > now);
        list
    }

    /// Enters a lease.
    pub fn issued(&self, lease: Lease) {
        self.list().push(lease);
    }

    /// The subject's leases that have not ended.
    #[must_use]
    pub fn of(&self, subject: &Subject) -> Vec<Lease> {
        self.list().iter().filter(|lease| lease.subject == *subject).cloned().collect()
    }

    /// The subject's lease of this id.
    #[must_use]
    pub fn find(&self, subject: &Subject, id: &str) -> Option<Lease> {
        self.list().iter().find(|lease| lease.subject == *subject && lease.id == id).cloned()
    }

    /// It lasts that long from now.
    pub fn renewed(&self, id: &str, seconds: u64) {
        if let Some(lease) = self.list().iter_mut().find(|lease| lease.id == id) {
            lease.ends = Instant::now() + Duration::from_secs(seconds);
        }
    }

    /// A subject's token is gone, and so is what hung on it.
    pub(super) fn ended_with(&self, child: &Arc<Child>) {
        self.list().retain(|lease| lease.holder.child().is_none_or(|holder| !Arc::ptr_eq(holder, child)));
    }

    /// It is gone.
    pub fn ended(&self, id: &str) {
        self.list().retain(|lease| lease.id != id);
    }
}
