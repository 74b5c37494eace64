//! API keys, from `API_KEYS_JSON` and the file of users. What is kept is digests, and how long a comparison takes
//! says nothing about them: keys are looked up by an HMAC with a key of this process, which nobody outside can
//! compute, and the digest itself is then compared in constant time.

use std::{collections::HashMap, sync::Arc};

use aws_lc_rs::hmac;
use chrono::{DateTime, Utc};
use http::HeaderMap;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::{
    Identity, Method, Refusal, only,
    users::{Digest, Users, is_made_here},
    watched::Watched,
};
use crate::{caller::Scope, config::Config, error::Error, names::Subject};

/// The header that carries a key.
pub(super) const HEADER: &str = "x-api-key";
/// Shorter keys are told of at the start: somebody has thought them up.
const SHORT: usize = 20;

/// What a key stands for: a subject alone has every scope.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Subject(String),
    Scoped(Scoped),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Scoped {
    subject: String,
    scopes: Vec<String>,
}

/// Whom a key belongs to.
struct Holder {
    digest: Digest,
    subject: Subject,
    scopes: Vec<Scope>,
    expires: Option<DateTime<Utc>>,
}

/// Keys by their marks.
struct Table {
    /// Of this process alone.
    mark: hmac::Key,
    holders: HashMap<[u8; 32], Holder>,
}

impl Table {
    fn new(holders: impl IntoIterator<Item = Holder>) -> Result<Self, Error> {
        let mut secret = [0; 32];
        crate::random::fill(&mut secret)?;
        let mark = hmac::Key::new(hmac::HMAC_SHA256, &secret);
        let holders = holders.into_iter().map(|holder| (mark_of(&mark, holder.digest), holder)).collect();
        Ok(Self { mark, holders })
    }

    fn find(&self, digest: Digest) -> Option<&Holder> {
        let holder = self.holders.get(&mark_of(&self.mark, digest))?;
        let same = bool::from(holder.digest.0.ct_eq(&digest.0));
        (same && holder.expires.is_none_or(|expires| Utc::now() < expires)).then_some(holder)
    }
}

fn mark_of(key: &hmac::Key, digest: Digest) -> [u8; 32] {
    let mut mark = [0; 32];
    mark.copy_from_slice(hmac::sign(key, &digest.0).as_ref());
    mark
}

/// The keys of the file of users; nobody's until the file is read.
#[derive(Default)]
struct FromFile(Option<Table>);

impl FromFile {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let users = Users::parse(bytes)?;
        let holders = users.users.into_iter().flat_map(|user| {
            user.keys.into_iter().map(move |key| Holder {
                digest: key.sha256,
                subject: user.subject.clone(),
                scopes: user.scopes.clone(),
                expires: key.expires,
            })
        });
        Table::new(holders).map(|table| Self(Some(table))).map_err(|error| error.to_string())
    }
}

/// The keys that are accepted.
pub(super) struct ApiKeys {
    set: Table,
    file: Option<Watched<FromFile>>,
}

impl ApiKeys {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let needed = config.users_file.is_some();
        let file = Users::path(config)
            .map(|path| Watched::open("USERS_FILE", &path, needed, FromFile::parse))
            .transpose()?;
        Ok(Self { set: Table::new(from_setting(config)?)?, file })
    }

    /// Nothing where no key was sent.
    pub(super) fn identify(&self, headers: &HeaderMap) -> Result<Option<Identity>, Refusal> {
        let refused = |fault| Refusal::Invalid { method: Method::ApiKey, fault };
        let Some(key) = only(headers, HEADER).map_err(|_| refused("two API keys"))? else { return Ok(None) };
        let key = key.to_str().map_err(|_| refused("an API key that is no text"))?;
        let digest = Digest::of(key);
        let file: Option<Arc<FromFile>> =
            self.file.as_ref().filter(|_| is_made_here(key)).map(Watched::current);
        let from_file = file.as_ref().and_then(|file| file.0.as_ref()?.find(digest));
        match (self.set.find(digest), from_file) {
            (Some(one), Some(other)) if one.subject != other.subject => {
                Err(refused("an API key that two subjects have"))
            }
            (Some(holder), _) | (None, Some(holder)) => Ok(Some(Identity {
                subject: holder.subject.clone(),
                scopes: holder.scopes.clone(),
                method: Method::ApiKey,
            })),
            (None, None) => Err(refused("an unknown API key")),
        }
    }
}

/// The subjects that have API keys.
///
/// # Errors
/// `config_invalid` when the setting or the file of users cannot be used.
pub fn known_subjects(config: &Config) -> Result<Vec<Subject>, Error> {
    let mut subjects: Vec<_> = from_setting(config)?.into_iter().map(|holder| holder.subject).collect();
    if let Some(path) = Users::path(config).filter(|path| path.exists()) {
        subjects.extend(Users::load(&path)?.users.into_iter().map(|user| user.subject));
    }
    subjects.sort_unstable();
    subjects.dedup();
    Ok(subjects)
}

/// `API_KEYS_JSON`.
fn from_setting(config: &Config) -> Result<Vec<Holder>, Error> {
    let fault = |what: &str| Error::config("API_KEYS_JSON", what);
    let Some(text) = &*config.api_keys_json else { return Ok(Vec::new()) };
    crate::front::strict_json::check(text.expose().as_bytes())
        .map_err(|_| fault("a key stands in it twice, or it is nested too deeply."))?;
    let entries: HashMap<String, Entry> = serde_json::from_str(text.expose()).map_err(|_| {
        fault("expected {\"key\": \"subject\"} or {\"key\": {\"subject\": …, \"scopes\": […]}}.")
    })?;
    let one = |(key, entry): (String, Entry)| {
        if key.is_empty() || key.bytes().any(|byte| !byte.is_ascii_graphic()) {
            return Err(fault("a key is printable ASCII without blanks, for it travels in a header."));
        }
        if key.len() < SHORT {
            tracing::warn!(
                "API_KEYS_JSON holds a key of fewer than {SHORT} characters: it can be guessed. `vault-mcp user add` makes keys that cannot"
            );
        }
        let (subject, scopes) = match entry {
            Entry::Subject(subject) => (subject, Scope::ALL.to_vec()),
            Entry::Scoped(Scoped { subject, scopes }) => {
                let scopes: Option<Vec<_>> = scopes.iter().map(|word| Scope::parse(word)).collect();
                (subject, scopes.ok_or_else(|| fault("scopes are read, write, delete, list."))?)
            }
        };
        let subject = Subject::parse(&subject)
            .map_err(|_| fault("a subject is lower-case letters, digits, '_' and '-', at most 63."))?;
        Ok(Holder { digest: Digest::of(&key), subject, scopes, expires: None })
    };
    entries.into_iter().map(one).collect()
}
