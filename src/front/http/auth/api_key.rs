//! API keys, from `API_KEYS_JSON`. Only digests are kept.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use http::HeaderMap;
use serde::Deserialize;
use subtle::ConstantTimeEq;

use super::{Identity, Method, Refusal};
use crate::{caller::Scope, config::Config, error::Error, names::Subject};

/// What a key stands for: a subject alone has every scope.
#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Subject(String),
    Scoped { subject: String, scopes: Vec<String> },
}

/// The keys that are accepted.
pub(super) struct ApiKeys(Vec<([u8; 32], Subject, Vec<Scope>)>);

fn digest_of(key: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    out
}

impl ApiKeys {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let fault = |what: &str| Error::config("API_KEYS_JSON", what);
        let Some(text) = &*config.api_keys_json else { return Ok(Self(Vec::new())) };
        let entries: HashMap<String, Entry> = serde_json::from_str(text.expose()).map_err(|_| {
            fault("expected {\"key\": \"subject\"} or {\"key\": {\"subject\": …, \"scopes\": […]}}.")
        })?;
        let one = |(key, entry): (String, Entry)| {
            let (subject, scopes) = match entry {
                Entry::Subject(subject) => (subject, Scope::ALL.to_vec()),
                Entry::Scoped { subject, scopes } => {
                    let known =
                        |word: &String| Scope::ALL.iter().copied().find(|scope| scope.as_str() == word);
                    let scopes: Option<Vec<_>> = scopes.iter().map(known).collect();
                    (subject, scopes.ok_or_else(|| fault("scopes are read, write, delete, list."))?)
                }
            };
            let subject = Subject::parse(&subject)
                .map_err(|_| fault("a subject is lower-case letters, digits, '_' and '-', at most 63."))?;
            Ok((digest_of(&key), subject, scopes))
        };
        entries.into_iter().map(one).collect::<Result<_, _>>().map(Self)
    }

    /// Nothing where no key was sent.
    pub(super) fn identify(&self, headers: &HeaderMap) -> Result<Option<Identity>, Refusal> {
        let mut given = headers.get_all("x-api-key").iter();
        let Some(key) = given.next() else { return Ok(None) };
        if given.next().is_some() {
            return Err(Refusal::Invalid("two API keys"));
        }
        let key = digest_of(key.to_str().map_err(|_| Refusal::Invalid("an API key that is no text"))?);
        let mut found = None;
        // Every key is compared, so that time tells nothing.
        for (digest, subject, scopes) in &self.0 {
            if bool::from(digest.ct_eq(&key)) {
                found = Some(Identity {
                    subject: subject.clone(),
                    scopes: scopes.clone(),
                    method: Method::ApiKey,
                });
            }
        }
        found.map(Some).ok_or(Refusal::Invalid("an unknown API key"))
    }
}
