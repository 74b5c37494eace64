//! What an operation is given: a look before the question, a grant after the decision. Neither can be
//! made outside the broker, so "forgot the check" does not compile.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    audit::Audit,
    caller::Caller,
    config::Config,
    error::Error,
    handover::Root,
    secret::{Disclosed, DisclosedValue, SecretData},
    vault::{
        Envelope, Lease, Reads, Session,
        kv::{KvReader, KvWriter},
        transit::Transit,
    },
};

use super::{Place, SecretValue};

/// The right to read the current state, for a preview.
#[derive(Clone, Copy)]
pub struct Look<'a> {
    session: &'a Session,
    caller: &'a Caller,
    roots: &'a [Root],
}

impl<'a> Look<'a> {
    pub(super) fn new(session: &'a Session, caller: &'a Caller, roots: &'a [Root]) -> Self {
        Self { session, caller, roots }
    }

    /// The caller's place.
    #[must_use]
    pub fn place(&self) -> &'a Place {
        &self.caller.place
    }

    /// Folders that files may be read and written in.
    #[must_use]
    pub fn roots(&self) -> &'a [Root] {
        self.roots
    }

    /// A KV mount, for reading.
    #[must_use]
    pub fn kv(&self, mount: &'a str) -> KvReader<'a> {
        KvReader::new(self.session, mount)
    }

    /// A lease of the caller's.
    ///
    /// # Errors
    /// `lease_unknown`.
    pub fn lease(&self, id: &str) -> Result<Lease, Error> {
        self.session.leases().find(&self.caller.subject, id).ok_or(Error::LeaseUnknown)
    }

    /// Any other reading request.
    ///
    /// # Errors
    /// As the session's.
    pub async fn read<E: Reads>(&self, endpoint: &E) -> Result<Envelope<E::Response>, Error> {
        self.session.read(endpoint).await
    }
}

/// The right to carry one call out. The broker makes one after every check has passed and the request
/// record is on disk.
pub struct Granted {
    pub(super) session: Session,
    pub(super) caller: Caller,
    pub(super) roots: Arc<[Root]>,
    pub(super) config: Arc<Config>,
    pub(super) audit: Audit,
    #[cfg(feature = "kms")]
    pub(super) kms: Arc<crate::kms::Kms>,
    /// What was observed for the preview the human agreed to; outer `None` when nobody was asked.
    pub(super) observed: Option<Option<u64>>,
    pub(super) reveal: bool,
    /// What the human typed along with the yes.
    pub(super) typed: Option<SecretValue>,
    pub(super) handled: Arc<Mutex<Vec<String>>>,
}

impl Granted {
    /// The caller's place.
    #[must_use]
    pub fn place(&self) -> &Place {
        &self.caller.place
    }

    /// The caller.
    #[must_use]
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// The settings.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// A KV mount.
    #[must_use]
    pub fn kv<'a>(&'a self, mount: &'a str) -> KvWriter<'a> {
        KvWriter::new(&self.session, mount)
    }

    /// A lease of the caller's.
    ///
    /// # Errors
    /// `lease_unknown`.
    pub fn lease(&self, id: &str) -> Result<Lease, Error> {
        Look::new(&self.session, &self.caller, &self.roots).lease(id)
    }

    /// Folders that files may be written in.
    #[must_use]
    pub fn roots(&self) -> &[Root] {
        &self.roots
    }

    /// The transit engine.
    #[must_use]
    pub fn transit(&self) -> Transit<'_> {
        Transit::new(&self.session, self.config.transit_mount.as_str())
    }

    /// AWS KMS.
    #[cfg(feature = "kms")]
    #[must_use]
    pub fn kms(&self) -> crate::kms::Access<'_> {
        self.kms.lend(&self.session)
    }

    /// Requests of other engines.
    #[must_use]
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// The check-and-set number for a write: the caller's own, else the version that was previewed, else
    /// none. A caller's own number that is not the previewed one cannot succeed, and Vault says so.
    #[must_use]
    pub fn cas(&self, given: Option<u64>) -> Option<u64> {
        given.or_else(|| self.observed.flatten())
    }

    /// The value that the human typed along with the yes.
    ///
    /// # Errors
    /// `nobody_to_ask` where the call came in by a way on which nobody is asked.
    pub fn typed_value(&self) -> Result<&SecretValue, Error> {
        self.typed.as_ref().ok_or(Error::NobodyToAsk { why: "nobody is asked on this way in".into() })
    }

    /// Values as this call may answer them.
    #[must_use]
    pub fn disclose(&self, data: &SecretData, location: &str, version: Option<u64>) -> Disclosed {
        if self.reveal { Disclosed::plain(data) } else { Disclosed::masked(data, location, version) }
    }

    /// A text as this call may answer it; `bytes` is the length that a mask speaks of.
    #[must_use]
    pub fn disclose_text(&self, text: zeroize::Zeroizing<String>, bytes: usize) -> DisclosedValue {
        if self.reveal {
            DisclosedValue::plain(text.to_string())
        } else {
            DisclosedValue::masked_bytes(bytes)
        }
    }

    /// Names of keys that the arguments did not tell, for the record of the response.
    pub fn handles<'k>(&self, keys: impl IntoIterator<Item = &'k str>) {
        let mut handled = self.handled.lock().unwrap_or_else(PoisonError::into_inner);
        handled.extend(keys.into_iter().map(str::to_owned));
    }

    /// HMAC of a value under the audit log's key: equality without the values.
    #[must_use]
    pub fn keyed_hash(&self, value: &[u8]) -> String {
        self.audit.hmac(value)
    }
}
