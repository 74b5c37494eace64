//! A page of this server's own, on this machine, for one question: a person types there the value that it asks for.
//!
//! Who may: whoever opens the address first, once, within the question's time. The address holds 128 random bits and
//! goes to the client only. With the first look at the page it is used up: from then on the page belongs to that
//! browser, which shows a cookie, and its form brings another 128 bits along. The browser has to name this very address
//! as host, so that no name that resolves to this machine will do, and as origin of what it sends, so that no other page
//! can send anything. Nothing is cached, nothing runs in it, nothing frames it.
//!
//! What it does not do: know what the value is for, or store it. A value is the yes to its question and leaves as
//! [`SecretValue`]; what the client says of the page never is.

mod form;

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use axum::{
    Router,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use futures_util::StreamExt;
use http::{HeaderMap, HeaderName, Method, StatusCode, header};
use subtle::ConstantTimeEq;
use tokio::sync::Notify;
use tokio_util::sync::{CancellationToken, DropGuard};
use zeroize::Zeroizing;

use super::http::listen::Listener;
use crate::{
    broker::{MAX_REQUEST, Question, SecretValue},
    caller::Caller,
    config::{Config, DangerousPatterns},
    error::Error,
};

/// Most bytes of a form: a value of which every byte is percent-encoded, and room for the rest.
const MAX_FORM: usize = 3 * MAX_REQUEST + 4096;
/// The cookie that says which browser opened the page.
const COOKIE: &str = "vault-mcp-page";

/// What came of the page.
pub enum Given {
    /// The value, and with it the yes.
    Value(SecretValue),
    /// The person declined.
    Declined,
}

/// A page that is served until it is dropped, or its question's time is over.
pub struct Page {
    shared: Arc<Shared>,
    url: String,
    _served: DropGuard,
}

struct Shared {
    /// `127.0.0.1:PORT`, which has to be the host.
    host: String,
    /// 32 hexadecimal digits; the whole path of the page.
    token: String,
    about: form::About,
    seconds: u64,
    dangerous: DangerousPatterns,
    state: Mutex<Stage>,
    changed: Notify,
}

enum Stage {
    /// Nobody has opened the page.
    New,
    /// Somebody has.
    Opened(Browser),
    /// Somebody has, and answered.
    Answered(Given),
    /// The answer is taken, or the time is over.
    Over,
}

/// The one browser that the page belongs to.
#[derive(Clone)]
struct Browser {
    cookie: String,
    form: String,
}

impl Page {
    /// Serves the page for this question.
    ///
    /// # Errors
    /// `internal` when there is no randomness, or no port on this machine.
    pub async fn open(question: &Question, caller: &Caller, config: &Config) -> Result<Self, Error> {
        let listener =
            Listener::loopback().await.map_err(|_| Error::Internal { what: "no port on this machine" })?;
        let (host, token) = (listener.host(), random()?);
        let url = format!("http://{host}/{token}");
        let shared = Arc::new(Shared {
            host,
            token,
            about: form::About {
                subject: caller.subject.as_str().to_owned(),
                address: config.vault_addr.as_str().to_owned(),
                question: question.text.clone(),
                key: question.asks_for.clone().unwrap_or_default(),
            },
            seconds: question.seconds,
            dangerous: *config.dangerous_patterns,
            state: Mutex::new(Stage::New),
            changed: Notify::new(),
        });
        let ended = CancellationToken::new();
        let router = Router::new().fallback(serve).with_state(shared.clone());
        tokio::spawn(listener.serve(router, ended.clone(), std::future::ready(())));
        let (limit, state) = (Duration::from_secs(question.seconds), shared.clone());
        let gone = ended.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(limit, gone.cancelled()).await;
            // A value that nobody came for is wiped.
            *state.lock() = Stage::Over;
            gone.cancel();
        });
        Ok(Self { shared, url, _served: ended.drop_guard() })
    }

    /// Where it is.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// True when nothing comes of it any more.
    #[must_use]
    pub fn is_over(&self) -> bool {
        matches!(*self.shared.lock(), Stage::Over)
    }

    /// Waits for the person's answer, and takes it: whoever comes second waits for ever.
    pub async fn answer(&self) -> Given {
        loop {
            {
                let mut state = self.shared.lock();
                match std::mem::replace(&mut *state, Stage::Over) {
                    Stage::Answered(given) => return given,
                    other => *state = other,
                }
            }
            self.shared.changed.notified().await;
        }
    }
}

fn random() -> Result<String, Error> {
    let mut bytes = [0u8; 16];
    crate::random::fill(&mut bytes)?;
    Ok(hex::encode(bytes))
}

/// A request that the page does not answer, and what its reader is told.
struct Refusal(StatusCode, &'static str);

impl Refusal {
    const NO_PAGE: Self = Self(StatusCode::NOT_FOUND, "There is no page here.");
    const OTHER_BROWSER: Self = Self(
        StatusCode::GONE,
        "This page was opened already, and belongs to the browser that did. If that was not you, decline in your AI client.",
    );
    const OVER: Self = Self(StatusCode::GONE, "This question is answered, or its time is over.");
    const FOREIGN: Self = Self(StatusCode::FORBIDDEN, "This was not sent by the page itself.");
    const FORM: Self = Self(StatusCode::BAD_REQUEST, "That is not the page's form.");
}

async fn serve(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let answered = match *request.method() {
        Method::GET => shared.show(&request),
        Method::POST => shared.take(request).await,
        _ => Err(Refusal(StatusCode::METHOD_NOT_ALLOWED, "The page is read and sent, nothing else.")),
    };
    let (status, cookie, html) = match answered {
        Ok(shown) => (shown.status, shown.cookie, shown.html),
        Err(Refusal(status, text)) => (status, None, form::note(text)),
    };
    let mut response = (status, html).into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_TYPE, "text/html; charset=utf-8"),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        // Not `no-referrer`: browsers then say `Origin: null` of the page's own form.
        (header::REFERRER_POLICY, "same-origin"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, http::HeaderValue::from_static(value));
    }
    let policy = form::content_security_policy();
    for (name, value) in [(header::CONTENT_SECURITY_POLICY, Some(policy)), (header::SET_COOKIE, cookie)] {
        if let Some(value) = value.and_then(|value| value.try_into().ok()) {
            headers.insert(name, value);
        }
    }
    response
}

/// What the person sees.
struct Shown {
    status: StatusCode,
    cookie: Option<String>,
    html: String,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Stage> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The host is this very address, and the path the page's.
    fn check_address(&self, request: &Request) -> Result<(), Refusal> {
        if only(request.headers(), &header::HOST) != Some(self.host.as_str()) {
            return Err(Refusal(StatusCode::MISDIRECTED_REQUEST, "This is not the address of the page."));
        }
        let path = request.uri().path().strip_prefix('/').unwrap_or_default();
        if request.uri().query().is_some() || !same(path, &self.token) {
            return Err(Refusal::NO_PAGE);
        }
        Ok(())
    }

    fn show(&self, request: &Request) -> Result<Shown, Refusal> {
        self.check_address(request)?;
        // A browser that fetches ahead must not use the address up.
        let ahead = ["sec-purpose", "purpose", "x-moz"];
        if ahead.iter().any(|name| request.headers().contains_key(*name)) {
            return Err(Refusal(StatusCode::FORBIDDEN, "The page is not fetched ahead."));
        }
        let mut state = self.lock();
        let (browser, cookie) = match &*state {
            Stage::New => {
                let no_randomness = |_| Refusal(StatusCode::INTERNAL_SERVER_ERROR, "There is no randomness.");
                let browser = Browser {
                    cookie: random().map_err(no_randomness)?,
                    form: random().map_err(no_randomness)?,
                };
                let cookie = format!(
                    "{COOKIE}={}; Path=/{}; Max-Age={}; HttpOnly; SameSite=Strict",
                    browser.cookie, self.token, self.seconds
                );
                *state = Stage::Opened(browser.clone());
                (browser, Some(cookie))
            }
            Stage::Opened(browser) if is_its(browser, request.headers()) => (browser.clone(), None),
            Stage::Opened(_) => return Err(Refusal::OTHER_BROWSER),
            Stage::Answered(_) | Stage::Over => return Err(Refusal::OVER),
        };
        let html = self.about.html(&self.token, &browser.form, None);
        Ok(Shown { status: StatusCode::OK, cookie, html })
    }

    async fn take(&self, request: Request) -> Result<Shown, Refusal> {
        self.check_address(&request)?;
        let headers = request.headers();
        let origin = format!("http://{}", self.host);
        if only(headers, &header::ORIGIN) != Some(origin.as_str()) {
            return Err(Refusal::FOREIGN);
        }
        if headers.get("sec-fetch-site").is_some_and(|site| site != "same-origin") {
            return Err(Refusal::FOREIGN);
        }
        let kind = only(headers, &header::CONTENT_TYPE).unwrap_or_default();
        if kind.split(';').next().map(str::trim) != Some("application/x-www-form-urlencoded") {
            return Err(Refusal::FORM);
        }
        let browser = match &*self.lock() {
            Stage::Opened(browser) if is_its(browser, headers) => browser.clone(),
            Stage::New | Stage::Opened(_) => return Err(Refusal::OTHER_BROWSER),
            Stage::Answered(_) | Stage::Over => return Err(Refusal::OVER),
        };
        let body = whole(request).await?;
        let sent = form::Sent::parse(&body).ok_or(Refusal::FORM)?;
        if !same(&sent.form, &browser.form) {
            return Err(Refusal::FOREIGN);
        }
        let (given, told) = if sent.declined {
            (Given::Declined, "Declined. Nothing is stored.".to_owned())
        } else {
            match SecretValue::parse(sent.value, self.dangerous) {
                Ok(value) => {
                    let told =
                        format!("Taken ({} characters). The server stores it now.", value.length_class());
                    (Given::Value(value), told)
                }
                Err(fault) => {
                    let html = self.about.html(&self.token, &browser.form, Some(&fault.to_string()));
                    return Ok(Shown { status: StatusCode::UNPROCESSABLE_ENTITY, cookie: None, html });
                }
            }
        };
        {
            let mut state = self.lock();
            // Another form may have been quicker, or the time is over by now.
            if !matches!(&*state, Stage::Opened(_)) {
                return Err(Refusal::OVER);
            }
            *state = Stage::Answered(given);
        }
        self.changed.notify_one();
        let html = form::note(&format!("{told} You can close this page."));
        Ok(Shown { status: StatusCode::OK, cookie: None, html })
    }
}

/// The value of a header that stands there once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    let mut all = headers.get_all(name).iter();
    let first = all.next()?.to_str().ok()?;
    all.next().is_none().then_some(first)
}

fn same(given: &str, wanted: &str) -> bool {
    given.as_bytes().ct_eq(wanted.as_bytes()).into()
}

/// The request shows the cookie of the browser that opened the page.
fn is_its(browser: &Browser, headers: &HeaderMap) -> bool {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|line| line.to_str().ok());
    let mut values = cookies.flat_map(|line| line.split(';')).filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        (name == COOKIE).then_some(value)
    });
    values.any(|value| same(value, &browser.cookie))
}

/// The body, within bounds, in memory that is wiped; what the HTTP library had of it is not.
async fn whole(request: Request) -> Result<Zeroizing<Vec<u8>>, Refusal> {
    const TOO_LONG: Refusal =
        Refusal(StatusCode::PAYLOAD_TOO_LARGE, "That is longer than a value may be. Go back and try again.");
    let length = only(request.headers(), &header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
    let length: usize = length.ok_or(Refusal::FORM)?;
    if length > MAX_FORM {
        return Err(TOO_LONG);
    }
    let mut body = Zeroizing::new(Vec::with_capacity(length));
    let mut pieces = request.into_body().into_data_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece.map_err(|_| Refusal::FORM)?;
        // More than was said would make the vector grow and leave copies behind.
        if body.len() + piece.len() > length {
            return Err(TOO_LONG);
        }
        body.extend_from_slice(&piece);
    }
    Ok(body)
}
