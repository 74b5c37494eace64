//! The one HTTP client, and how a request is sent: no redirects, own TLS roots and identity, each segment
//! percent-encoded, the finished URL compared with the expected one, retries for reads only, a breaker.

use std::{
    path::Path,
    sync::{
        OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderValue, Method, header};
use serde::de::DeserializeOwned;

use super::Envelope;
use crate::{
    config::{Config, SecretText},
    error::Error,
    telemetry::VaultRequest,
};

/// Largest answer that is read, in bytes: one listing of some hundred thousand keys.
const MAX_ANSWER: usize = 64 << 20;
/// Failures in a row after which the breaker opens.
const BREAKER_FAILURES: u32 = 5;
/// How long it stays open, in milliseconds.
const BREAKER_OPEN_MS: u64 = 2_000;

/// Builds the only kind of HTTP client this program has.
///
/// # Errors
/// When the TLS material does not load.
pub fn http_client(tls: &Tls) -> Result<reqwest::Client, Error> {
    // Two builders could race to install the same provider; the loser's error changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut builder = reqwest::Client::builder()
        .tls_backend_rustls()
        .redirect(reqwest::redirect::Policy::none())
        // What is repeated is decided below; for its own attempts reqwest would copy every request.
        .retry(reqwest::retry::never().max_retries_per_request(0))
        .connect_timeout(Duration::from_secs(4))
        .pool_idle_timeout(Duration::from_secs(60))
        .no_proxy()
        .tcp_nodelay(true)
        .referer(false);
    if tls.plain {
        // Loading the system's roots takes longer than everything else at start.
        builder = builder.tls_certs_only(Vec::new());
    } else if let Some(path) = &tls.ca {
        let pem = read(path, "VAULT_CACERT")?;
        let roots = reqwest::Certificate::from_pem_bundle(&pem)
            .ok()
            .filter(|roots| !roots.is_empty())
            .ok_or_else(|| {
                Error::config(
                    "VAULT_CACERT",
                    "the file holds no PEM certificate. Give the authority's certificate.",
                )
            })?;
        builder = builder.tls_certs_only(roots);
    }
    if let Some((cert, key)) = &tls.identity {
        let mut pem = read(cert, "VAULT_CLIENT_CERT")?;
        pem.push(b'\n');
        pem.extend(read(key, "VAULT_CLIENT_KEY")?);
        let identity = reqwest::Identity::from_pem(&pem).map_err(|_| {
            Error::config("VAULT_CLIENT_CERT", "certificate and key do not load as PEM. Check both files.")
        })?;
        builder = builder.identity(identity);
    }
    if tls.skip_verify {
        builder = builder.tls_danger_accept_invalid_certs(true);
    }
    builder.build().map_err(|_| {
        Error::config(
            "VAULT_CACERT",
            "the TLS settings do not build a client. Check certificate, key and authority.",
        )
    })
}

fn read(path: &Path, setting: &'static str) -> Result<Vec<u8>, Error> {
    std::fs::read(path).map_err(|error| {
        Error::config(setting, format!("the file cannot be read ({}). Check the path.", error.kind()))
    })
}

/// What TLS is made of.
#[derive(Debug, Clone, Default)]
pub struct Tls {
    /// The address is plain HTTP.
    pub plain: bool,
    /// Authorities in place of the system's.
    pub ca: Option<std::path::PathBuf>,
    /// Client certificate and key.
    pub identity: Option<(std::path::PathBuf, std::path::PathBuf)>,
    /// Accept anything (loopback only; the settings see to that).
    pub skip_verify: bool,
}

/// A request about to be sent.
pub struct Outgoing<'a> {
    /// GET, LIST, POST, …
    pub method: Method,
    /// Decoded API path without `v1/`.
    pub path: &'a str,
    /// Encoded query.
    pub query: Option<String>,
    /// JSON body.
    pub body: Option<Vec<u8>>,
    /// In place of `application/json`.
    pub content_type: Option<&'static str>,
    /// Seconds of the wrapping token that the answer is to be put into.
    pub wrap_seconds: Option<u32>,
    /// The token, if the request carries one.
    pub token: Option<&'a SecretText>,
}

/// An answer as it came.
pub struct Raw {
    /// HTTP status.
    pub status: u16,
    body: Vec<u8>,
}

impl Raw {
    /// The body as Vault's envelope; an empty body is an empty envelope.
    ///
    /// # Errors
    /// `vault_answer` when it is none.
    pub fn envelope<T: DeserializeOwned>(&self) -> Result<Envelope<T>, Error> {
        let body: &[u8] = if self.body.is_empty() { b"{}" } else { &self.body };
        object(body).ok_or(Error::VaultAnswer { fault: "its body does not have the expected shape" })
    }

    /// The body as a JSON object without Vault's envelope (health, seal status).
    ///
    /// # Errors
    /// `vault_answer` when it is none.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|_| Error::VaultAnswer { fault: "its body does not have the expected shape" })
    }

    /// True when one of Vault's error or warning texts contains `text`.
    #[must_use]
    pub fn says(&self, text: &str) -> bool {
        let found = |list: &Option<Vec<String>>| list.iter().flatten().any(|line| line.contains(text));
        let messages = self.messages();
        found(&messages.errors) || found(&messages.warnings)
    }

    /// True for an answer to a transit batch that is about its items, whatever the status says.
    fn is_about_an_item(&self) -> bool {
        #[derive(serde::Deserialize)]
        struct Batch {
            batch_results: Vec<serde::de::IgnoredAny>,
        }
        let data = self.envelope::<Batch>().ok().and_then(|envelope| envelope.data);
        data.is_some_and(|data| !data.batch_results.is_empty()) || self.says("failed to RSA decrypt")
    }

    /// True when Vault's envelope names at least one warning.
    #[must_use]
    pub fn warns(&self) -> bool {
        self.messages().warnings.is_some_and(|list| !list.is_empty())
    }

    /// True when Vault says that it does not know the token, rather than that a policy forbids.
    #[must_use]
    pub fn refuses_token(&self) -> bool {
        self.says("invalid token") || self.says("bad token")
    }

    /// False for a body that Vault would not send: a proxy's page, say.
    #[must_use]
    pub fn is_vaults(&self) -> bool {
        self.body.is_empty() || object::<Messages>(&self.body).is_some()
    }

    fn messages(&self) -> Messages {
        object(&self.body).unwrap_or_default()
    }

    /// A short text for a refusal, from a fixed list: Vault's own words can quote what was sent.
    #[must_use]
    pub fn hint(&self) -> std::borrow::Cow<'static, str> {
        let messages = self.messages();
        let lines = messages.errors.iter().flatten().chain(messages.warnings.iter().flatten());
        lines.map(|line| hint_of(line)).find(|hint| !hint.is_empty()).unwrap_or_default().into()
    }

    /// Vault's id of the request.
    #[must_use]
    pub fn request_id(&self) -> Option<String> {
        // Vault writes it first; a scan of the head saves parsing a large body twice.
        let head = self.body.get(..self.body.len().min(128))?;
        let text = std::str::from_utf8(head).unwrap_or_default();
        let rest = text.split_once("\"request_id\":\"")?.1;
        let id = rest.split_once('"')?.0;
        (id.len() <= 64 && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') && !id.is_empty())
            .then(|| id.to_owned())
    }
}

/// What Vault says of an ECDSA signature that does not even parse.
pub(super) const DAMAGED_SIGNATURE: &str = ": the signature is damaged";

/// What Vault says of a lease that is over.
pub const LEASE_ENDED: &str = ": the lease has ended";

/// What a text of Vault's means, in our own words; empty when it is not known.
#[must_use]
pub fn hint_of(text: &str) -> &'static str {
    const KNOWN: &[(&str, &str)] = &[
        ("check-and-set parameter required", ": the mount or secret requires check-and-set; give cas"),
        ("no handler for route", ": nothing is mounted there"),
        ("unsupported path", ": the engine has no such path"),
        ("unsupported operation", ": the engine does not support this operation"),
        ("no data provided", ": no data was given"),
        ("max_versions", ": the version limit"),
        ("lease is not renewable", ": the lease is not renewable"),
        ("quota", ": a quota of Vault's"),
        ("required index state", ": this node has not caught up with the others; call again"),
        ("encryption key not found", ": there is no such key"),
        ("signing key not found", ": there is no such key"),
        ("version is too new", ": the key has no such version"),
        ("higher than the latest key version", ": the key has no such version"),
        ("no such key version", ": the key has no such version"),
        ("key version does not exist", ": the key has no such version"),
        ("disallowed by policy", ": the key's minimum version is newer"),
        ("message authentication failed", ": it was not made with this key and context"),
        ("RSA decrypt", ": it was not made with this key"),
        ("message too long for RSA", ": the plaintext is too long for this RSA key"),
        ("invalid ciphertext", ": the ciphertext is damaged"),
        ("input must be hashed", ": a prehashed input must have the length of its hash"),
        ("prehashed must be false", ": Ed25519 keys sign the message itself; leave prehashed out"),
        ("hash_algorithm=none requires", ": hash_algorithm none needs prehashed and pkcs1v15"),
        ("missing 'context'", ": the key is derived and needs a context"),
        ("context", ": the context does not fit"),
        ("unknown role", ": there is no such role"),
        ("Unknown role", ": there is no such role"),
        ("role could not be found", ": there is no such role"),
        ("Role \"", ": there is no such role"),
        ("valid_principals", ": the role does not allow these principals"),
        ("cert_type", ": the role does not allow this type of certificate"),
        ("is not allowed by role", ": the role does not allow this name"),
        ("not allowed by this role", ": the role does not allow this name"),
        ("ttl is larger than maximum", ": the ttl is over the role's maximum"),
        ("IP does not belong", ": the role does not allow this address"),
        ("allowed users list", ": the role does not allow this user"),
        ("is not allowed", ": the role does not allow this"),
        ("certificate with serial", ": there is no such certificate"),
        ("lease not found", LEASE_ENDED),
        ("does not support", ": this type of key does not support the operation"),
        ("not supported for key type", ": this type of key does not support the operation"),
        ("unsupported key type", ": this type of key does not support the operation"),
        ("supplied signature is invalid", DAMAGED_SIGNATURE),
        ("hash algorithm", ": the hash algorithm does not fit the key"),
    ];
    KNOWN.iter().find(|(known, _)| text.contains(known)).map_or("", |(_, hint)| hint)
}

/// A JSON object's content. serde would take a list for a struct as well.
fn object<T: DeserializeOwned>(body: &[u8]) -> Option<T> {
    body.trim_ascii_start().starts_with(b"{").then(|| serde_json::from_slice(body).ok()).flatten()
}

impl Drop for Raw {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.body);
    }
}

#[derive(Default, serde::Deserialize)]
struct Messages {
    #[serde(default)]
    errors: Option<Vec<String>>,
    #[serde(default)]
    warnings: Option<Vec<String>>,
}

/// The client with its address, namespace and breaker.
pub struct Transport {
    address: String,
    /// The address once more, so that its host is not parsed for each request.
    base: Option<url::Url>,
    namespace: Option<String>,
    tls: Tls,
    client: OnceLock<reqwest::Client>,
    failures: AtomicU32,
    opened_at_ms: AtomicU64,
    born: Instant,
}

impl Transport {
    /// From the settings. The client itself is built at the first use.
    #[must_use]
    pub fn new(config: &Config) -> Self {
        let address = config.vault_addr.as_str().to_owned();
        Self {
            namespace: config.vault_namespace.clone(),
            tls: Tls {
                plain: address.starts_with("http://"),
                ca: config.vault_cacert.clone(),
                identity: config.vault_client_cert.clone().zip(config.vault_client_key.clone()),
                skip_verify: *config.vault_skip_verify,
            },
            base: url::Url::parse(&address).ok(),
            address,
            client: OnceLock::new(),
            failures: AtomicU32::new(0),
            opened_at_ms: AtomicU64::new(0),
            born: Instant::now(),
        }
    }

    /// `scheme://host:port`.
    #[must_use]
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The namespace that goes with every request.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.namespace.as_deref()
    }

    fn client(&self) -> Result<&reqwest::Client, Error> {
        if let Some(client) = self.client.get() {
            return Ok(client);
        }
        let client = http_client(&self.tls)?;
        Ok(self.client.get_or_init(|| client))
    }

    /// Counts a failure of the way to Vault.
    pub fn failed(&self) {
        if self.failures.fetch_add(1, Ordering::Relaxed) + 1 >= BREAKER_FAILURES {
            self.opened_at_ms.store(self.now_ms(), Ordering::Relaxed);
        }
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.born.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_open(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= BREAKER_FAILURES
            && self.now_ms().saturating_sub(self.opened_at_ms.load(Ordering::Relaxed)) < BREAKER_OPEN_MS
    }

    fn check_breaker(&self) -> Result<(), Error> {
        if self.is_open() {
            Err(self.unreachable("several requests in a row failed, so none is sent for 2 s"))
        } else {
            Ok(())
        }
    }

    fn unreachable(&self, fault: &'static str) -> Error {
        Error::VaultUnreachable { address: self.address.clone(), fault: fault.into() }
    }

    /// Sends a request. A read is tried up to three times; anything else exactly once.
    ///
    /// # Errors
    /// What stands between here and an answer with status 2xx, 400, 403, 404 or 405. For anything
    /// but a read, `OutcomeUnknown` when the request may have taken effect.
    pub async fn send(&self, outgoing: Outgoing<'_>, retry: bool) -> Result<Raw, Error> {
        self.check_breaker()?;
        let client = self.client()?;
        let mut attempt = 0;
        loop {
            let outcome = self.once(client, &outgoing).await;
            let failure = match outcome {
                Ok(raw) => {
                    self.failures.store(0, Ordering::Relaxed);
                    return Ok(raw);
                }
                Err(failure) => failure,
            };
            if failure.counts {
                self.failed();
            }
            if !retry {
                return Err(if failure.may_have_happened {
                    Error::OutcomeUnknown { fault: failure.what, read_back: "".into() }
                } else {
                    failure.error
                });
            }
            if !failure.worth_retrying || attempt == 2 || self.is_open() {
                return Err(failure.error);
            }
            attempt += 1;
            tokio::time::sleep(jitter(attempt)).await;
        }
    }

    async fn once(&self, client: &reqwest::Client, outgoing: &Outgoing<'_>) -> Result<Raw, Failure> {
        let mut request = self.build(outgoing).map_err(Failure::local)?;
        let asked = VaultRequest::begin(&outgoing.method, outgoing.path);
        request.headers_mut().extend(asked.parent());
        let mut response = client.execute(request).await.map_err(|error| self.transport_failure(&error))?;
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => body.extend_from_slice(&chunk),
                Ok(Some(_)) => {
                    return Err(Failure {
                        worth_retrying: false,
                        ..Failure::broken(
                            "the answer is larger than 64 MiB",
                            Error::VaultAnswer { fault: "it is larger than 64 MiB" },
                        )
                    });
                }
                Ok(None) => break,
                Err(_) => {
                    return Err(Failure::broken(
                        "the answer broke off",
                        self.unreachable("the answer broke off"),
                    ));
                }
            }
        }
        asked.answered(status);
        let raw = Raw { status, body };
        match status {
            // What a page of somebody else's says about a path or a policy is not Vault's word.
            400..=499 if !raw.is_vaults() => Err(Failure::refused(
                Error::VaultAnswer { fault: "a page that is not Vault's, under an error's status" },
                "not Vault's answer",
            )),
            200..=299 | 400 | 403 | 404 | 405 => Ok(raw),
            // The node has not caught up with what another one wrote.
            412 => Err(Failure {
                worth_retrying: true,
                ..Failure::refused(Error::VaultRejected { status, hint: raw.hint() }, "behind")
            }),
            300..=399 => Err(Failure::refused(Error::VaultStandby, "the node redirects")),
            429 => {
                let remedy = match retry_after {
                    Some(seconds) => format!("Wait {seconds} s, then call again."),
                    None => "Wait a little, then call again.".to_owned(),
                };
                Err(Failure {
                    worth_retrying: retry_after.is_none_or(|seconds| seconds <= 1),
                    ..Failure::refused(Error::VaultRateLimited { remedy }, "rate limited")
                })
            }
            // Vault calls an item of a batch that it cannot work out a failure of its own.
            500 if raw.is_about_an_item() => Ok(raw),
            503 if raw.says("sealed") => Err(Failure::refused(Error::VaultSealed, "sealed")),
            500.. => Err(Failure::broken(
                format!("Vault answered with status {status}"),
                Error::VaultFailed { status },
            )),
            _ => Err(Failure::refused(Error::VaultRejected { status, hint: raw.hint() }, "rejected")),
        }
    }

    fn build(&self, outgoing: &Outgoing<'_>) -> Result<reqwest::Request, Error> {
        let mut expected = format!("{}/v1/", self.address);
        encode_path(outgoing.path, &mut expected);
        if let Some(query) = outgoing.query.as_deref().filter(|query| !query.is_empty()) {
            expected.push('?');
            expected.push_str(query);
        }
        let path = expected.get(self.address.len()..).unwrap_or_default();
        let url = url::Url::options().base_url(self.base.as_ref()).parse(path);
        let url = url.map_err(|_| Error::Internal { what: "a URL does not parse" })?;
        if url.as_str() != expected {
            return Err(Error::PathRefused { fault: "it would be sent as another path".into() });
        }
        let mut request = reqwest::Request::new(outgoing.method.clone(), url);
        let headers = request.headers_mut();
        headers.insert("x-vault-request", HeaderValue::from_static("true"));
        if let Some(token) = outgoing.token {
            let mut value = HeaderValue::from_str(token.expose()).map_err(|_| Error::TokenInvalid)?;
            value.set_sensitive(true);
            headers.insert("x-vault-token", value);
        }
        if let Some(seconds) = outgoing.wrap_seconds {
            headers.insert("x-vault-wrap-ttl", HeaderValue::from(seconds));
        }
        if let Some(namespace) = &self.namespace {
            let value = HeaderValue::from_str(namespace)
                .map_err(|_| Error::config("VAULT_NAMESPACE", "it does not fit a header."))?;
            headers.insert("x-vault-namespace", value);
        }
        if let Some(body) = &outgoing.body {
            headers.insert(
                header::CONTENT_TYPE,
                HeaderValue::from_static(outgoing.content_type.unwrap_or("application/json")),
            );
            *request.body_mut() = Some(body.clone().into());
        }
        Ok(request)
    }

    fn transport_failure(&self, error: &reqwest::Error) -> Failure {
        let address = || self.address.clone();
        if let Some(fault) = tls_fault(error) {
            let error = Error::VaultTls { address: address(), fault: fault.into() };
            return Failure { counts: true, ..Failure::refused(error, "TLS") };
        }
        if error.is_connect() {
            let what = if error.is_timeout() { "no connection within 4 s" } else { "no connection" };
            return Failure {
                counts: true,
                worth_retrying: true,
                ..Failure::refused(self.unreachable(what), what)
            };
        }
        Failure::broken(
            "the connection broke off",
            self.unreachable("the connection broke off before an answer"),
        )
    }
}

/// What TLS found wrong, if it was TLS. The text lies deep in the chain and holds no secret; the URL is left
/// out.
pub(crate) fn tls_fault(error: &reqwest::Error) -> Option<String> {
    Some(crate::names::shown(&rustls_error(error)?.to_string(), 200))
}

/// It may sit in an I/O error that sits in another one, and `source` skips what an I/O error wraps.
fn rustls_error<'a>(error: &'a (dyn std::error::Error + 'static)) -> Option<&'a rustls::Error> {
    if let Some(fault) = error.downcast_ref::<rustls::Error>() {
        return Some(fault);
    }
    let wrapped = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
    match wrapped {
        Some(inner) => rustls_error(inner),
        None => error.source().and_then(rustls_error),
    }
}

/// Why an attempt gave no usable answer.
struct Failure {
    error: Error,
    what: String,
    /// A write may have taken effect.
    may_have_happened: bool,
    worth_retrying: bool,
    /// Counts towards the breaker.
    counts: bool,
}

impl Failure {
    fn local(error: Error) -> Self {
        Self { error, what: String::new(), may_have_happened: false, worth_retrying: false, counts: false }
    }
    /// Vault, or the way to it, said no before anything happened.
    fn refused(error: Error, what: &str) -> Self {
        Self { error, what: what.to_owned(), may_have_happened: false, worth_retrying: false, counts: false }
    }
    /// It broke after the request was sent.
    fn broken(what: impl Into<String>, error: Error) -> Self {
        Self { error, what: what.into(), may_have_happened: true, worth_retrying: true, counts: true }
    }
}

/// 50–150 ms, then 100–300 ms.
fn jitter(attempt: u32) -> Duration {
    let mut byte = [0u8; 1];
    // Without randomness the delay is merely not jittered.
    let _ = crate::random::fill(&mut byte);
    let base = 50u64 << attempt.saturating_sub(1).min(4);
    Duration::from_millis(base + base * 2 * u64::from(byte[0]) / 255)
}

/// Percent-encodes each segment of a decoded path: everything but RFC 3986's unreserved characters.
fn encode_path(path: &str, out: &mut String) {
    for byte in path.bytes() {
        match byte {
            b'/' | b'-' | b'.' | b'_' | b'~' | b'0'..=b'9' | b'a'..=b'z' | b'A'..=b'Z' => {
                out.push(char::from(byte))
            }
            _ => {
                const HEX: &[u8; 16] = b"0123456789ABCDEF";
                out.push('%');
                for nibble in [byte >> 4, byte & 15] {
                    out.push(HEX.get(usize::from(nibble)).copied().map_or('0', char::from));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    #[test]
    fn a_path_that_url_would_rewrite_is_not_sent() {
        let transport = Transport::new(&Config::load(&Layers::default()).unwrap());
        let build = |path| {
            transport.build(&Outgoing {
                method: Method::GET,
                path,
                query: None,
                body: None,
                content_type: None,
                wrap_seconds: None,
                token: None,
            })
        };
        for path in ["secret/data/../x", "secret/data/./x", "secret/data/a/.."] {
            assert!(build(path).is_err(), "{path}");
        }
        for (path, sent) in [
            ("secret/data/%2e%2e/x", "/v1/secret/data/%252e%252e/x"),
            ("secret/data/a?b#c", "/v1/secret/data/a%3Fb%23c"),
            ("secret/data/ü x\\y", "/v1/secret/data/%C3%BC%20x%5Cy"),
            ("secret/data/a\tb", "/v1/secret/data/a%09b"),
        ] {
            assert_eq!(build(path).unwrap().url().path(), sent);
        }
    }
}
