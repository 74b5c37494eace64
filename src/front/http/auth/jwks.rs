//! The issuer's public keys (RFC 7517), from an address or a file.
//!
//! Fetched keys are used for `JWT_JWKS_CACHE_SECONDS`. A token whose key id is not among them may mean that the
//! issuer has new keys, so it leads to a fetch, but to no more than one in 30 s, whoever sends how many such tokens.
//! However many callers wait, one fetch is under way at a time. While the issuer does not answer, the keys that it
//! gave are used for an hour more, and then no longer. What this module does not do: look at a token.

use std::{
    sync::{Arc, OnceLock, PoisonError, RwLock},
    time::{Duration, Instant},
};

use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyAlgorithm, KeyOperations, PublicKeyUse},
};
use serde::Deserialize;

use super::watched::Watched;
use crate::{
    config::{Config, KeysUrl},
    error::Error,
    vault::http::{Tls, http_client},
};

/// Most bytes that a set of keys may have.
const MAX_SET: usize = 1 << 20;
/// Most keys that it may hold.
const MAX_KEYS: usize = 100;
/// How long a fetch may take, from the connection to the last byte.
const DEADLINE: Duration = Duration::from_secs(5);
/// After a fetch, how long an unknown key id leads to no other.
const UNKNOWN_PAUSE: Duration = Duration::from_secs(30);
/// After a fetch that failed, how long there is no other.
const FAILED_PAUSE: Duration = Duration::from_secs(5);
/// How long keys are used beyond their time while the issuer does not answer.
const STALE: Duration = Duration::from_secs(3600);

/// A key that signatures are verified with, and the one algorithm that it is for.
pub(super) struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    /// What verifies.
    pub(super) decoding: DecodingKey,
}

/// The keys of an issuer.
#[derive(Default)]
pub(super) struct KeySet(Vec<Arc<Key>>);

/// What is known of a wanted key.
#[derive(Clone)]
enum Found {
    One(Arc<Key>),
    Unknown,
    /// More than one fits.
    Many,
}

impl KeySet {
    /// Reads a set. A key of a kind that is not verified with here is left out: sets hold keys for other uses, and
    /// kinds that are yet to come.
    ///
    /// # Errors
    /// What is wrong with the set as a whole.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Set {
            keys: Vec<serde_json::Value>,
        }
        let set: Set = serde_json::from_slice(bytes).map_err(|_| {
            "it is no set of keys in JSON (RFC 7517). Give the issuer's `jwks_uri`.".to_owned()
        })?;
        if set.keys.len() > MAX_KEYS {
            return Err(format!("it holds more than {MAX_KEYS} keys. Give a set of signing keys only."));
        }
        let keys: Vec<_> = set.keys.into_iter().filter_map(key).map(Arc::new).collect();
        if keys.is_empty() {
            return Err(
                "it holds no key for RS256 or ES256. Have the issuer sign with one of them.".to_owned()
            );
        }
        Ok(Self(keys))
    }

    /// The key that a token names; where it names none, the only one there is.
    fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Found {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.algorithm == algorithm && id.is_none_or(|id| key.id.as_deref() == Some(id)));
        match (fitting.next(), fitting.next()) {
            (Some(key), None) => Found::One(key.clone()),
            (None, _) => Found::Unknown,
            (Some(_), Some(_)) => Found::Many,
        }
    }
}

/// A key for signatures by RS256 or ES256, or nothing.
fn key(value: serde_json::Value) -> Option<Key> {
    let jwk: Jwk = serde_json::from_value(value).ok()?;
    if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
        return None;
    }
    if jwk.common.key_operations.as_ref().is_some_and(|list| !list.contains(&KeyOperations::Verify)) {
        return None;
    }
    let algorithm = match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => Algorithm::RS256,
        AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => Algorithm::ES256,
        // A shared secret in a public place is none.
        _ => return None,
    };
    if jwk.common.key_algorithm.is_some_and(|stated| stated != KeyAlgorithm::from(algorithm)) {
        return None;
    }
    let decoding = DecodingKey::from_jwk(&jwk).ok()?;
    if let DecodingKeyKind::RsaModulusExponent { n, .. } = decoding.kind() {
        let length = n.iter().skip_while(|byte| **byte == 0).count();
        // 2,048 to 8,192 bits: shorter ones are broken, longer ones take a caller's time for ours.
        if !(256..=1024).contains(&length) {
            return None;
        }
    }
    Some(Key { id: jwk.common.key_id, algorithm, decoding })
}

/// Why there is no key for a token.
pub(super) type Refused = &'static str;

/// Where keys come from.
pub(super) enum Keys {
    /// An address.
    Fetched(Arc<Fetched>),
    /// A file, read again when it changes.
    File(Watched<KeySet>),
}

impl Keys {
    /// As the settings say; nothing where they name neither.
    ///
    /// # Errors
    /// `config_invalid` when both are named, or the file cannot be used.
    pub(super) fn new(config: &Config) -> Result<Option<Self>, Error> {
        match (&*config.jwt_jwks_url, &*config.jwt_jwks_file) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => Err(Error::config(
                "JWT_JWKS_FILE",
                "it goes without JWT_JWKS_URL: keys come from one place. Set one of the two.",
            )),
            (Some(url), None) => {
                let ttl = Duration::from_secs(*config.jwt_jwks_cache_seconds);
                Ok(Some(Self::Fetched(Arc::new(Fetched::new(url.clone(), ttl)))))
            }
            (None, Some(path)) => {
                let file = Watched::open("JWT_JWKS_FILE", path, true, KeySet::parse)?;
                Ok(Some(Self::File(file)))
            }
        }
    }

    /// The key that a token of this algorithm names.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) async fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Result<Arc<Key>, Refused> {
        let found = match self {
            Self::File(file) => file.current().find(id, algorithm),
            Self::Fetched(fetched) => return fetched.find(id, algorithm).await,
        };
        one(found)
    }
}

fn one(found: Found) -> Result<Arc<Key>, Refused> {
    match found {
        Found::One(key) => Ok(key),
        Found::Unknown => Err("a token of an unknown key"),
        Found::Many => Err("a token without a key id, or with one that several keys have"),
    }
}

/// Keys from an address.
pub(super) struct Fetched {
    url: KeysUrl,
    ttl: Duration,
    client: OnceLock<reqwest::Client>,
    state: RwLock<State>,
    /// Held by the one fetch that is under way.
    under_way: tokio::sync::Mutex<()>,
}

#[derive(Default)]
struct State {
    /// The keys, and when they came.
    held: Option<(Arc<KeySet>, Instant)>,
    /// When the last fetch ended.
    tried: Option<Instant>,
    /// Whether it failed.
    failed: bool,
}

/// What to do for a wanted key.
enum Step {
    /// Answer with what is known.
    Settle(Result<Arc<Key>, Refused>),
    /// Ask the issuer first.
    Fetch,
}

impl State {
    fn step(&self, id: Option<&str>, algorithm: Algorithm, ttl: Duration, now: Instant) -> Step {
        let since_try = self.tried.map(|tried| now.saturating_duration_since(tried));
        let paused = |pause| since_try.is_some_and(|since| since < pause);
        let Some((set, came)) = &self.held else {
            return if paused(FAILED_PAUSE) { Step::Settle(Err(NO_KEYS)) } else { Step::Fetch };
        };
        let found = set.find(id, algorithm);
        let age = now.saturating_duration_since(*came);
        if age < ttl {
            return match found {
                Found::Unknown if !paused(UNKNOWN_PAUSE) => Step::Fetch,
                known => Step::Settle(one(known)),
            };
        }
        // Asking again and again keeps no issuer from coming back, and each asking keeps a caller waiting.
        if !(self.failed && paused(FAILED_PAUSE)) {
            return Step::Fetch;
        }
        Step::Settle(if age < ttl.saturating_add(STALE) { one(found) } else { Err(NO_KEYS) })
    }
}

const NO_KEYS: Refused = "a token, while there are no keys of its issuer";

impl Fetched {
    fn new(url: KeysUrl, ttl: Duration) -> Self {
        Self {
            url,
            ttl,
            client: OnceLock::new(),
            state: RwLock::default(),
            under_way: tokio::sync::Mutex::default(),
        }
    }

    fn step(&self, id: Option<&str>, algorithm: Algorithm) -> Step {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        state.step(id, algorithm, self.ttl, Instant::now())
    }

    async fn find(self: &Arc<Self>, id: Option<&str>, algorithm: Algorithm) -> Result<Arc<Key>, Refused> {
        if let Step::Settle(settled) = self.step(id, algorithm) {
            return settled;
        }
        // On a task of its own: a caller that goes away must not take the fetch with it, or whoever does so again
        // and again would have the issuer asked as often, and nobody would ever get its keys.
        let (this, owned) = (self.clone(), id.map(str::to_owned));
        let fetched =
            tokio::spawn(async move { this.fetch_if_still_needed(owned.as_deref(), algorithm).await });
        fetched.await.unwrap_or(Err(NO_KEYS))
    }

    async fn fetch_if_still_needed(
        &self,
        id: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<Arc<Key>, Refused> {
        let _under_way = self.under_way.lock().await;
        if let Step::Settle(settled) = self.step(id, algorithm) {
            return settled;
        }
        let fetched = self.fetch().await;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.tried = Some(Instant::now());
        state.failed = fetched.is_err();
        match fetched {
            Ok(set) => {
                let found = set.find(id, algorithm);
                state.held = Some((Arc::new(set), Instant::now()));
                one(found)
            }
            Err(fault) => {
                tracing::warn!(url = %self.url, %fault, "the issuer's keys cannot be fetched");
                match state.step(id, algorithm, self.ttl, Instant::now()) {
                    Step::Settle(settled) => settled,
                    // The failure was now, so there is a pause.
                    Step::Fetch => Err(NO_KEYS),
                }
            }
        }
    }

    async fn fetch(&self) -> Result<KeySet, String> {
        let client = match self.client.get() {
            Some(client) => client,
            None => {
                let tls = Tls { plain: self.url.is_plain(), ..Tls::default() };
                let client = http_client(&tls).map_err(|error| error.to_string())?;
                self.client.get_or_init(|| client)
            }
        };
        let request = client.get(self.url.as_str()).timeout(DEADLINE);
        let unreachable = |error: reqwest::Error| {
            let what = if error.is_timeout() { "no whole answer within 5 s" } else { "no answer" };
            what.to_owned()
        };
        let mut response = request.send().await.map_err(unreachable)?;
        // Redirects are not followed: the address is who the keys are believed from.
        if response.status() != http::StatusCode::OK {
            return Err(format!("status {}", response.status().as_u16()));
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(unreachable)? {
            if body.len() + chunk.len() > MAX_SET {
                return Err(format!("more than {MAX_SET} bytes"));
            }
            body.extend_from_slice(&chunk);
        }
        KeySet::parse(&body)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    // The P-256 key of RFC 7517, appendix A.1.
    fn ec(id: &str) -> Value {
        json!({
            "kty": "EC", "crv": "P-256", "kid": id,
            "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
        })
    }

    fn rsa(id: &str, bytes: usize) -> Value {
        use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
        json!({ "kty": "RSA", "kid": id, "e": "AQAB", "n": URL_SAFE_NO_PAD.encode(vec![0xc5; bytes]) })
    }

    fn with(mut key: Value, more: Value) -> Value {
        key.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        key
    }

    fn parse(keys: &[Value]) -> Result<KeySet, String> {
        KeySet::parse(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn a_set_keeps_the_keys_that_verify_and_leaves_the_others_out() {
        let set = parse(&[
            ec("a"),
            rsa("b", 256),
            with(ec("c"), json!({"use": "enc"})),
            with(ec("d"), json!({"alg": "ES384"})),
            with(rsa("e", 256), json!({"alg": "RS512"})),
            with(rsa("f", 256), json!({"key_ops": ["encrypt"]})),
            rsa("g", 255),
            rsa("h", 1025),
            json!({"kty": "oct", "kid": "i", "k": "c2VjcmV0"}),
            json!({"kty": "of tomorrow", "kid": "j"}),
            json!("k"),
            with(ec("l"), json!({"kid": 7})),
        ])
        .unwrap();
        let kept: Vec<_> = set.0.iter().map(|key| (key.id.as_deref().unwrap(), key.algorithm)).collect();
        assert_eq!(kept, [("a", Algorithm::ES256), ("b", Algorithm::RS256)]);
    }

    #[test]
    fn a_set_that_is_none_or_too_large_is_refused() {
        assert!(parse(&[]).is_err());
        assert!(parse(&vec![ec("a"); MAX_KEYS + 1]).is_err());
        for text in ["", "[]", "{}", "<html>", r#"{"keys": {}}"#] {
            assert!(KeySet::parse(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn a_key_is_found_by_id_and_algorithm_and_without_an_id_only_when_it_is_the_one() {
        let set = parse(&[ec("a"), ec("b"), rsa("a", 256), rsa("b", 256), rsa("b", 257)]).unwrap();
        let find = |id, algorithm| match set.find(id, algorithm) {
            Found::One(key) => Some(key.algorithm),
            _ => None,
        };
        assert_eq!(find(Some("a"), Algorithm::ES256), Some(Algorithm::ES256));
        assert_eq!(find(Some("a"), Algorithm::RS256), Some(Algorithm::RS256));
        assert_eq!(find(Some("b"), Algorithm::RS256), None, "two have that id");
        assert_eq!(find(Some("a"), Algorithm::HS256), None);
        assert_eq!(find(None, Algorithm::ES256), None);
        let alone = parse(&[ec("a"), rsa("b", 256)]).unwrap();
        assert!(matches!(alone.find(None, Algorithm::ES256), Found::One(_)));
    }

    /// One letter for each step: known, refused, fetch.
    fn steps(state: &State, start: Instant, seconds: u64) -> String {
        let ttl = Duration::from_secs(300);
        let step =
            |id| match state.step(Some(id), Algorithm::ES256, ttl, start + Duration::from_secs(seconds)) {
                Step::Settle(Ok(_)) => 'k',
                Step::Settle(Err(_)) => 'r',
                Step::Fetch => 'f',
            };
        [step("a"), step("other")].iter().collect()
    }

    #[test]
    fn fetching_has_its_pauses_and_old_keys_have_an_end() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let none = State::default();
        assert_eq!(steps(&none, start, 0), "ff");
        let down = State { held: None, tried: Some(start), failed: true };
        assert_eq!((steps(&down, start, 4).as_str(), steps(&down, start, 5).as_str()), ("rr", "ff"));

        let set = Arc::new(parse(&[ec("a")]).unwrap());
        let fresh = State { held: Some((set.clone(), start)), tried: Some(start), failed: false };
        assert_eq!(steps(&fresh, start, 29), "kr", "an unknown id shortly after a fetch");
        assert_eq!(steps(&fresh, start, 30), "kf", "and later");
        assert_eq!(steps(&fresh, start, 299), "kf");
        assert_eq!(steps(&fresh, start, 300), "ff", "their time is over");

        let tried_in_vain =
            |seconds| State { held: Some((set.clone(), start)), tried: Some(at(seconds)), failed: true };
        assert_eq!(steps(&tried_in_vain(300), start, 301), "kr", "the issuer is down");
        assert_eq!(steps(&tried_in_vain(300), start, 305), "ff", "and asked again");
        assert_eq!(steps(&tried_in_vain(3899), start, 3899), "kr");
        assert_eq!(steps(&tried_in_vain(3900), start, 3900), "rr", "for an hour and no longer");
    }
}
