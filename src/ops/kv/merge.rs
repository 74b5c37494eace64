//! Values that are put into a secret beside what is there: where that can be done, and how; and the one key whose
//! value no model gives.

use serde_json::{Map, Value};

use super::{
    Written,
    change::{Cas, check_cas},
    preview_merge, target,
};
use crate::{
    broker::{Granted, Look, Place},
    error::Error,
    names::{KeyName, MountName, SecretPath},
    op::{Preview, Target},
    vault::{
        KvKind,
        kv::{Current, KvRead, KvReader, KvWriter, WrittenVersion},
    },
};

/// One key of a secret that takes a value from elsewhere than the call.
pub(super) struct OneKey<'a> {
    pub(super) path: &'a SecretPath,
    pub(super) key: &'a KeyName,
    pub(super) cas: Option<Cas>,
    pub(super) mount: Option<&'a MountName>,
}

impl OneKey<'_> {
    /// What is touched.
    ///
    /// # Errors
    /// When a name does not fit the caller's place.
    pub(super) fn target(&self, place: &Place) -> Result<Target, Error> {
        let mut target = target(self.path, self.mount, place, &[("data", &["create", "update"])])?;
        target.keys = vec![self.key.as_str().to_owned()];
        Ok(target)
    }

    /// What happens to the secret.
    ///
    /// # Errors
    /// When the value could not be put there.
    pub(super) async fn preview(&self, look: Look<'_>) -> Result<Preview, Error> {
        let mount = look.place().mount(self.mount)?;
        let path = look.place().path(self.path)?;
        let kv = look.kv(mount);
        let current = kv.current(path.as_str()).await?;
        check_cas(self.cas, &kv, &current)?;
        check_mergeable(&kv, path.as_str(), &current)?;
        Ok(preview_merge(&current, &self.entry("")))
    }

    /// Puts the value there.
    ///
    /// # Errors
    /// Vault's.
    pub(super) async fn set(&self, granted: &Granted, value: &str) -> Result<Written, Error> {
        let mount = granted.place().mount(self.mount)?;
        let path = granted.place().path(self.path)?;
        let kv = granted.kv(mount);
        let current = kv.current(path.as_str()).await?;
        let cas = granted.cas(self.cas.map(|cas| cas.0)).or(current.cas());
        let written = merge(&kv, path.as_str(), &current, self.entry(value), cas).await?;
        Ok(Written::of(self.path.as_str(), written))
    }

    fn entry(&self, value: &str) -> Map<String, Value> {
        Map::from_iter([(self.key.as_str().to_owned(), Value::from(value))])
    }
}

/// Version 1 cannot merge by itself: what cannot be seen there would be replaced.
pub(crate) fn check_mergeable(kv: &KvReader<'_>, path: &str, current: &Current) -> Result<(), Error> {
    match current {
        Current::Unseen(_) if kv.kind() == Some(KvKind::V1) => {
            Err(Error::Forbidden { path: format!("{}/{path}", kv.mount()), capabilities: "\"read\"".into() })
        }
        _ => Ok(()),
    }
}

/// Puts entries into a secret beside what is there, creating it if need be. Vault itself merges where it
/// can, so that values this server had no need of stay where they are.
pub(crate) async fn merge(
    kv: &KvWriter<'_>,
    path: &str,
    current: &Current,
    entries: Map<String, Value>,
    cas: Option<u64>,
) -> Result<WrittenVersion, Error> {
    let whole = |read: &KvRead| {
        let mut data = read.data.expose().clone();
        data.extend(entries.clone());
        data
    };
    match current {
        Current::Absent | Current::Gone(_) => kv.write(path, entries, cas).await,
        Current::Present(read) if kv.kind() == Some(KvKind::V1) => kv.write(path, whole(read), None).await,
        Current::Present(read) => match kv.patch(path, entries.clone(), cas).await {
            // A policy without `patch` can still allow the whole write.
            Err(Error::Forbidden { .. }) => kv.write(path, whole(read), cas).await,
            other => other,
        },
        // What is there cannot be seen, so it must not be replaced: merged, or created where there is none.
        Current::Unseen(_) => match kv.patch(path, entries.clone(), cas).await {
            Err(Error::NotFound) => kv.write(path, entries, Some(cas.unwrap_or(0))).await,
            other => other,
        },
    }
}
