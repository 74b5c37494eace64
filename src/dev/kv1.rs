//! The key-value engine, version 1: one value a path, no history. Also what cubbyholes are made of.

use std::collections::BTreeMap;

use http::StatusCode;

use super::{
    duration,
    engine::{Call, Engine},
    wire::{Answer, Fault, Object, Op, Reply},
};

/// What a mount without a TTL of its own reports: 768 hours, in seconds.
pub(super) const DEFAULT_LEASE: i64 = 768 * 3600;

/// One mount of it.
#[derive(Default)]
pub(super) struct Kv1 {
    entries: BTreeMap<String, Object>,
    /// A cubbyhole has no lease duration.
    is_cubbyhole: bool,
}

impl Kv1 {
    pub(super) fn cubbyhole() -> Self {
        Self { is_cubbyhole: true, ..Self::default() }
    }
}

impl Engine for Kv1 {
    fn exists(&self, path: &str) -> Option<bool> {
        Some(self.entries.contains_key(path))
    }

    fn handle(&mut self, call: &Call<'_>) -> Answer {
        match call.op {
            Op::Read => {
                let Some(data) = self.entries.get(call.path) else { return Ok(None) };
                let told = data.get("ttl").or_else(|| data.get("lease")).and_then(duration::from_value);
                let lease_duration = match told {
                    _ if self.is_cubbyhole => 0,
                    Some(told) => told.num_seconds(),
                    None => DEFAULT_LEASE,
                };
                Ok(Some(Reply { data: Some(data.clone()), lease_duration, ..Reply::default() }))
            }
            Op::List => Ok(Some(Reply::keys(list(&self.entries, call.path)))),
            Op::Create | Op::Update => {
                if call.path.is_empty() {
                    return Err(Fault::bad("missing path"));
                }
                if call.data.is_empty() {
                    let text = "missing data fields";
                    return Err(if self.is_cubbyhole {
                        Fault::list(StatusCode::INTERNAL_SERVER_ERROR, &[text])
                    } else {
                        Fault::bad(text)
                    });
                }
                self.entries.insert(call.path.to_owned(), call.data.clone());
                Ok(None)
            }
            Op::Delete => {
                self.entries.remove(call.path);
                Ok(None)
            }
            Op::Patch | Op::Other => Err(Fault::unsupported_operation()),
        }
    }
}

/// The names directly below a folder, folders with a `/` at their end, each once and in order.
pub(super) fn list<T>(entries: &BTreeMap<String, T>, folder: &str) -> Vec<String> {
    let prefix = match folder {
        "" | "/" => String::new(),
        folder if folder.ends_with('/') => folder.to_owned(),
        folder => format!("{folder}/"),
    };
    let mut keys: Vec<String> = Vec::new();
    for key in entries.range(prefix.clone()..).map(|(key, _)| key).take_while(|key| key.starts_with(&prefix))
    {
        let Some(rest) = key.strip_prefix(&prefix).filter(|rest| !rest.is_empty()) else { continue };
        let name = match rest.split_once('/') {
            Some((folder, _)) => format!("{folder}/"),
            None => rest.to_owned(),
        };
        if keys.last() != Some(&name) {
            keys.push(name);
        }
    }
    // `a.b/` sorts before `a/` in Vault's listing of names, but not among the full paths.
    keys.sort();
    keys.dedup();
    keys
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_shows_names_and_folders_once() {
        let entries: BTreeMap<String, ()> = ["a", "a/b", "a/c/d", "a-b/x", "b/c", "b/d"]
            .into_iter()
            .map(|key| (key.to_owned(), ()))
            .collect();
        assert_eq!(list(&entries, ""), ["a", "a-b/", "a/", "b/"]);
        assert_eq!(list(&entries, "a/"), ["b", "c/"]);
        assert_eq!(list(&entries, "b"), ["c", "d"]);
        assert!(list(&entries, "none/").is_empty());
    }
}
