//! Requests of the transit engine. vaultrs lacks batches, salt lengths and some hashes, and cannot parse
//! newer key types.
//!
//! Source: Vault API page "Transit secrets engine".

use std::{
    collections::BTreeMap,
    sync::PoisonError,
    time::{Duration, Instant},
};

use rustify::Endpoint;
use rustify_derive::Endpoint;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{
    Raw, Reads, Session,
    http::{DAMAGED_SIGNATURE, hint_of},
};
use crate::error::Error;

/// For how long it is remembered what kind of key a name stands for: keys are deleted and made anew.
const KIND_HOLDS: Duration = Duration::from_secs(30);

/// What does not change over a key's life.
#[derive(Debug, Clone)]
pub struct KeyKind {
    /// `aes256-gcm96`, `ed25519`, …
    pub kind: String,
    /// True when each context has a key of its own.
    pub derived: bool,
    seen: Instant,
}

/// A key as `GET transit/keys/{name}` shows it.
#[derive(Debug, Clone, Deserialize)]
pub struct KeyInfo {
    /// `aes256-gcm96`, `ed25519`, …
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Newest version.
    #[serde(default)]
    pub latest_version: u64,
    /// True when each context has a key of its own.
    #[serde(default)]
    pub derived: bool,
    /// Each version: a time, or an object with the public half.
    #[serde(default)]
    pub keys: BTreeMap<String, Value>,
}

#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/keys/{self.name}", response = "KeyInfo")]
struct ReadKey {
    #[endpoint(skip)]
    mount: String,
    #[endpoint(skip)]
    name: String,
}
impl Reads for ReadKey {}

#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/keys", method = "LIST", response = "Value")]
struct ListKeys {
    #[endpoint(skip)]
    mount: String,
}
impl Reads for ListKeys {}

/// `POST {mount}/{verb}/{name}` with a batch. It changes nothing, so it may be retried.
#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/{self.verb}/{self.name}", method = "POST", response = "Value")]
struct Batch {
    #[endpoint(skip)]
    mount: String,
    #[endpoint(skip)]
    verb: &'static str,
    #[endpoint(skip)]
    name: String,
    batch_input: Vec<Map<String, Value>>,
    hash_algorithm: Option<&'static str>,
    algorithm: Option<&'static str>,
    signature_algorithm: Option<&'static str>,
    marshaling_algorithm: Option<&'static str>,
    salt_length: Option<&'static str>,
    prehashed: Option<bool>,
    key_version: Option<u64>,
}
impl Reads for Batch {}

#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/random", method = "POST", response = "Value")]
struct Random {
    #[endpoint(skip)]
    mount: String,
    bytes: u32,
    format: &'static str,
}
impl Reads for Random {}

/// How a signature is made; what is `None` is left to Vault.
#[derive(Debug, Clone, Copy, Default)]
pub struct Scheme {
    /// `sha2-256`, …
    pub hash: Option<&'static str>,
    /// `pss` or `pkcs1v15`, for RSA.
    pub signature: Option<&'static str>,
    /// `asn1` or `jws`, for ECDSA.
    pub marshaling: Option<&'static str>,
    /// `auto`, `hash` or a number, for PSS.
    pub salt_length: Option<&'static str>,
    /// The input is a digest already.
    pub prehashed: bool,
    /// The version that signs. Encryption takes it from each item, signing from the request alone.
    pub key_version: Option<u64>,
}

/// Strings that one request may hold (OpenBao's limit), less some room for the rest of the body.
const MAX_STRINGS: usize = 990;

/// What came of each item, in order.
type Items = Vec<Result<Map<String, Value>, &'static str>>;

/// The only fault over which Vault gives up a whole request.
const SPOILT: &str = "it was not made with this key";

/// The transit engine at a mount.
#[derive(Clone, Copy)]
pub struct Transit<'a> {
    session: &'a Session,
    mount: &'a str,
}

impl<'a> Transit<'a> {
    pub(crate) fn new(session: &'a Session, mount: &'a str) -> Self {
        Self { session, mount }
    }

    /// What kind of key it is. A key that is not there is an error: Vault would make one at the first
    /// encryption, and that is not for a caller to bring about.
    ///
    /// # Errors
    /// `NotFound` as `vault_rejected`, or what stands in the way.
    pub async fn kind(&self, name: &str) -> Result<KeyKind, Error> {
        let id = format!("{}/{name}", self.mount);
        let keys = &self.session.vault().transit_keys;
        if let Some(kind) = keys.lock().unwrap_or_else(PoisonError::into_inner).get(&id)
            && kind.seen.elapsed() < KIND_HOLDS
        {
            return Ok(kind.clone());
        }
        let seen = Instant::now();
        let info = self.key(name).await?;
        let kind = KeyKind { kind: info.kind, derived: info.derived, seen };
        keys.lock().unwrap_or_else(PoisonError::into_inner).insert(id, kind.clone());
        Ok(kind)
    }

    /// All that Vault shows of a key.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn key(&self, name: &str) -> Result<KeyInfo, Error> {
        let request = ReadKey { mount: self.mount.into(), name: name.into() };
        match self.session.read(&request).await {
            Ok(envelope) => envelope.data.ok_or(Error::VaultAnswer { fault: "a key without data" }),
            Err(Error::NotFound) => {
                Err(Error::VaultRejected { status: 404, hint: ": there is no such key".into() })
            }
            Err(other) => Err(other),
        }
    }

    /// Names of the keys.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn keys(&self) -> Result<Vec<String>, Error> {
        let request = ListKeys { mount: self.mount.into() };
        let raw = self.session.read_raw(&request).await?;
        let answer = match self.session.parse::<Value>(raw, &request.path(), "\"list\"").await {
            Err(Error::NotFound) => return Ok(Vec::new()),
            other => other?.data.unwrap_or_default(),
        };
        let names = answer.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(names.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect())
    }

    /// Sends items through one verb, in as many requests as it takes; a result or a fault for each, in
    /// order.
    ///
    /// # Errors
    /// When a request as a whole fails.
    pub async fn batch(
        &self,
        verb: &'static str,
        name: &str,
        scheme: Scheme,
        items: Vec<Map<String, Value>>,
    ) -> Result<Items, Error> {
        let strings = items.iter().map(Map::len).max().unwrap_or(1).max(1);
        let chunk = (MAX_STRINGS / strings).max(1);
        let mut results = Vec::with_capacity(items.len());
        let mut items = items.into_iter().peekable();
        while items.peek().is_some() {
            let part: Vec<_> = items.by_ref().take(chunk).collect();
            match self.part(verb, name, scheme, part).await? {
                Ok(part) => results.extend(part),
                Err(mut request) => {
                    // Vault gave up over one of them and does not say which.
                    for item in std::mem::take(&mut request.batch_input) {
                        match self.part(verb, name, scheme, vec![item]).await? {
                            Ok(one) => results.extend(one),
                            Err(_) => results.push(Err(SPOILT)),
                        }
                    }
                }
            }
        }
        Ok(results)
    }

    /// One request of a batch; given back where Vault fails over an item without naming it.
    async fn part(
        &self,
        verb: &'static str,
        name: &str,
        scheme: Scheme,
        items: Vec<Map<String, Value>>,
    ) -> Result<Result<Items, Batch>, Error> {
        let count = items.len();
        let request = Batch {
            mount: self.mount.into(),
            verb,
            name: name.into(),
            batch_input: items,
            hash_algorithm: scheme.hash.filter(|_| verb != "hmac"),
            algorithm: scheme.hash.filter(|_| verb == "hmac"),
            signature_algorithm: scheme.signature,
            marshaling_algorithm: scheme.marshaling,
            salt_length: scheme.salt_length,
            prehashed: scheme.prehashed.then_some(true),
            key_version: scheme.key_version,
        };
        let raw = self.session.read_raw(&request).await?;
        match self.results(raw, &request.path()).await? {
            None => Ok(Err(request)),
            Some(results) if results.len() == count => Ok(Ok(results)),
            Some(_) => Err(Error::VaultAnswer { fault: "a batch of another length" }),
        }
    }

    /// Vault answers 400 or 500 when an item failed, most often with the results of all of them all the same;
    /// `None` where it has none to show.
    async fn results(&self, raw: Raw, path: &str) -> Result<Option<Items>, Error> {
        #[derive(Deserialize)]
        struct Results {
            batch_results: Vec<Map<String, Value>>,
        }
        let parsed = raw.envelope::<Results>().ok().and_then(|envelope| envelope.data);
        let list = match (raw.status, parsed) {
            (200 | 400 | 500, Some(list)) => list.batch_results,
            (500, None) => return Ok(None),
            _ => {
                let envelope = self.session.parse::<Results>(raw, path, "\"update\"").await?;
                envelope.data.ok_or(Error::VaultAnswer { fault: "a batch without results" })?.batch_results
            }
        };
        let one = |item: Map<String, Value>| match item
            .get("error")
            .and_then(Value::as_str)
            .filter(|text| !text.is_empty())
        {
            None => Ok(item),
            Some(text) => Err(match hint_of(text).trim_start_matches(": ") {
                "" => "the item was refused",
                hint => hint,
            }),
        };
        Ok(Some(list.into_iter().map(one).collect()))
    }

    /// Whether one signature is good. One that is no signature at all is not.
    ///
    /// # Errors
    /// When the request fails, or Vault finds fault with anything but the signature.
    pub async fn verify(
        &self,
        name: &str,
        scheme: Scheme,
        item: Map<String, Value>,
    ) -> Result<Result<bool, &'static str>, Error> {
        let result = self.batch("verify", name, scheme, vec![item]).await?.pop();
        Ok(match result {
            Some(Ok(item)) => item.get("valid").and_then(Value::as_bool).ok_or("Vault gave no verdict"),
            Some(Err(fault)) if DAMAGED_SIGNATURE.ends_with(fault) => Ok(false),
            Some(Err(fault)) => Err(fault),
            None => Err("Vault gave no verdict"),
        })
    }

    /// Random bytes of Vault's.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn random(&self, bytes: u32, format: &'static str) -> Result<String, Error> {
        let request = Random { mount: self.mount.into(), bytes, format };
        let raw = self.session.read_raw(&request).await?;
        let answer = self.session.parse::<Value>(raw, &request.path(), "\"update\"").await?;
        let answer = answer.data.unwrap_or_default();
        let text = answer.get("random_bytes").and_then(Value::as_str).map(str::to_owned);
        text.ok_or(Error::VaultAnswer { fault: "no random bytes" })
    }
}
