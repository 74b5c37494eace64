//! Whether the server lives, and whether it can do its work. Anybody may ask, so the answers are words of our own,
//! without an address or a setting in them, and a flood of questions is one look at Vault each second or two.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    Json,
    extract::State,
    response::{IntoResponse, Response},
};
use http::{HeaderValue, StatusCode, header};
use schemars::JsonSchema;
use serde::Serialize;
use tokio::sync::Mutex;

use super::{
    App,
    routes::{Access, Content, Endpoint, Reply, Routes},
};
use crate::{broker::Broker, error::Error, op::Verb};

/// How long what a look found is good for.
const FRESH: Duration = Duration::from_millis(1500);
/// The same for credentials that are there, whose lookup may ask a metadata service.
const FRESH_CREDENTIALS: Duration = Duration::from_secs(30);
/// How long a look may take: whoever probes gives up soon after.
const LOOK: Duration = Duration::from_secs(3);

static HEALTH: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/healthz",
    tag: "health",
    title: "Whether the server answers",
    about: "Always 200 while the server runs. It says nothing about Vault; `/readyz` does.",
    access: Access::Open,
    parameters: &[],
    body: Content::Nothing,
    replies: &[Reply { status: 200, when: "It answers.", content: Content::json::<Health>() }],
};

static LIVE: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/livez",
    tag: "health",
    title: "Whether the process lives",
    about: "For a supervisor that restarts what does not answer.",
    access: Access::Open,
    parameters: &[],
    body: Content::Nothing,
    replies: &[Reply { status: 200, when: "It lives.", content: Content::json::<Live>() }],
};

static READY: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/readyz",
    tag: "health",
    title: "Whether the server can do its work",
    about: "For a load balancer: 503 while a call would not be carried out, with the reason. What it finds is good for 1.5 s.",
    access: Access::Open,
    parameters: &[],
    body: Content::Nothing,
    replies: &[
        Reply { status: 200, when: "It can.", content: Content::json::<Ready>() },
        Reply { status: 503, when: "It cannot; the parts say why.", content: Content::json::<Ready>() },
    ],
};

pub(super) fn routes() -> Routes {
    Routes::default()
        .add(&HEALTH, async || fresh(Json(Health { ok: true, time: now() })))
        .add(&LIVE, async || fresh(Json(Live { ok: true })))
        .add(&READY, ready)
}

/// The server answers.
#[derive(Serialize, JsonSchema)]
struct Health {
    /// True.
    ok: bool,
    /// The server's clock (RFC 3339, UTC).
    time: String,
}

/// The process lives.
#[derive(Serialize, JsonSchema)]
struct Live {
    /// True.
    ok: bool,
}

/// Whether calls would be carried out.
#[derive(Serialize, JsonSchema)]
struct Ready {
    /// True when every part is.
    ok: bool,
    /// The server's clock (RFC 3339, UTC).
    time: String,
    /// Vault.
    vault: Part,
    /// AWS KMS.
    kms: Part,
    /// The audit log, where it is what is in the way.
    #[serde(skip_serializing_if = "Option::is_none")]
    audit: Option<Part>,
    /// The server itself, where it is about to end.
    #[serde(skip_serializing_if = "Option::is_none")]
    server: Option<Part>,
}

/// Something that calls need.
#[derive(Debug, Clone, Copy, Serialize, JsonSchema)]
struct Part {
    /// False when calls would fail for it.
    ok: bool,
    /// `ready`, `disabled`, or what is wrong.
    detail: &'static str,
}

fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Millis, true)
}

/// What a cache must not keep.
fn fresh(answer: impl IntoResponse) -> Response {
    let mut response = answer.into_response();
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

async fn ready(State(app): State<Arc<App>>) -> Response {
    let report = app.readiness.report(&app.broker).await;
    let ending = app.ended.is_cancelled();
    let ok = report.is_ready() && !ending;
    let body = Ready {
        ok,
        time: now(),
        vault: report.vault,
        kms: report.kms,
        audit: (!report.audit.ok).then_some(report.audit),
        server: ending.then_some(Part { ok: false, detail: "shutting down" }),
    };
    fresh((if ok { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, Json(body)))
}

impl Part {
    const READY: Self = Self { ok: true, detail: "ready" };

    fn of(result: Result<(), Error>) -> Self {
        match result {
            Ok(()) => Self::READY,
            // What nobody wants is not missing.
            Err(Error::KmsOff) => Self { ok: true, detail: "disabled" },
            Err(error) => Self { ok: false, detail: detail_of(&error) },
        }
    }
}

/// What anybody may read. An error's own text names addresses and settings.
fn detail_of(error: &Error) -> &'static str {
    match error {
        Error::TokenMissing | Error::TokenInvalid => "Vault token unauthenticated",
        Error::ChildToken { .. } => "Vault token may not make child tokens",
        Error::VaultSealed => "Vault sealed",
        Error::VaultStandby => "Vault standby",
        Error::VaultRateLimited { .. } => "Vault rate limited",
        Error::VaultUnreachable { .. } => "Vault unreachable",
        Error::VaultTls { .. } => "Vault TLS failure",
        Error::VaultTimeout { .. } => "Vault did not answer in time",
        Error::VaultFailed { .. } | Error::VaultAnswer { .. } | Error::VaultRejected { .. } => {
            "Vault failure"
        }
        Error::Config { .. } => "configuration invalid",
        Error::KmsCredentialsMissing { .. } | Error::KmsCredentialsRejected { .. } => {
            "AWS credentials missing"
        }
        Error::KmsUnreachable { .. } => "AWS credentials did not come in time",
        Error::Audit(_) => "audit log not writable",
        _ => "failure",
    }
}

/// What a look found.
#[derive(Debug, Clone, Copy)]
pub(super) struct Report {
    vault: Part,
    kms: Part,
    audit: Part,
    at: Instant,
    kms_at: Instant,
}

impl Report {
    /// True when a call could be carried out.
    pub(super) fn is_ready(&self) -> bool {
        self.vault.ok && self.kms.ok && self.audit.ok
    }
}

/// The last look. One at a time looks, whoever else asks waits for what it finds.
#[derive(Default)]
pub struct Readiness(Arc<Mutex<Option<Report>>>);

impl Readiness {
    /// What the last look found, or a new one where that was too long ago.
    pub(super) async fn report(&self, broker: &Arc<Broker>) -> Report {
        let mut kept = self.0.clone().lock_owned().await;
        if let Some(report) = kept.filter(|report| report.at.elapsed() < FRESH) {
            return report;
        }
        let last = *kept;
        let broker = broker.clone();
        // On a task of its own: who asks may go away, and the next must not have to begin again.
        let look = tokio::spawn(async move {
            let report = look(&broker, last).await;
            *kept = Some(report);
            report
        });
        look.await.unwrap_or_else(|_| {
            let broken = Part { ok: false, detail: "failure" };
            let now = Instant::now();
            Report { vault: broken, kms: broken, audit: broken, at: now, kms_at: now }
        })
    }
}

async fn look(broker: &Broker, last: Option<Report>) -> Report {
    let late = |_| Err(Error::VaultTimeout { seconds: LOOK.as_secs() });
    let vault =
        async { Part::of(tokio::time::timeout(LOOK, broker.vault_is_ready()).await.unwrap_or_else(late)) };
    let kms = async {
        let known = last.filter(|last| last.kms.ok && last.kms_at.elapsed() < FRESH_CREDENTIALS);
        if let Some(last) = known {
            return (last.kms, last.kms_at);
        }
        let late = |_| Err(Error::KmsUnreachable { address: String::new(), fault: "".into() });
        let found = tokio::time::timeout(LOOK, broker.kms_is_ready()).await.unwrap_or_else(late);
        (Part::of(found), Instant::now())
    };
    let (vault, (kms, kms_at)) = tokio::join!(vault, kms);
    Report { vault, kms, audit: Part::of(broker.audit_is_ready()), at: Instant::now(), kms_at }
}
