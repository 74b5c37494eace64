//! What is counted and measured: one table of meters, and a function for each thing that happens.
//!
//! The `metrics` crate carries them to Prometheus' text format. A label's value is always one of a fixed set of
//! words (a method, a route of the table, an operation's id, an error's code), so that no caller can make a
//! series, and none can be recognised in one.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use metrics::{counter, gauge, histogram};
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};

use crate::{audit::Action, error::Error};

/// How a meter behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// It only grows.
    Counter,
    /// It goes up and down.
    Gauge,
    /// It counts how many measurements lie in each bucket.
    Histogram,
}

impl Kind {
    /// The word of Prometheus' text format.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A row of the table of meters.
#[derive(Debug, Clone, Copy)]
pub struct Meter {
    /// As Prometheus knows it. Times are in seconds, sizes in bytes.
    pub name: &'static str,
    /// How it behaves.
    pub kind: Kind,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it tells.
    pub help: &'static str,
}

macro_rules! meters {
    ($($constant:ident: $kind:ident $name:literal [$($label:literal),*] $help:literal;)*) => {
        $(const $constant: &str = $name;)*

        /// Every meter there is.
        pub const METERS: &[Meter] =
            &[$(Meter { name: $name, kind: Kind::$kind, labels: &[$($label),*], help: $help }),*];
    };
}

meters! {
    REQUESTS: Counter "http_requests_total" ["method", "route", "status"]
        "Requests answered, by method, route of the table and status; 499 where the caller left before the answer.";
    REQUEST_SECONDS: Histogram "http_request_duration_seconds" ["method", "route", "status"]
        "Seconds from a request's head to its answer's head.";
    IN_FLIGHT: Gauge "http_requests_in_flight" []
        "Requests that have no answer yet.";
    WITH_CORRELATION: Counter "http_requests_with_correlation_id_total" []
        "Requests that came with a correlation id of their caller's.";
    OPERATIONS: Counter "vault_mcp_operations_total" ["operation", "outcome"]
        "Calls of operations over every front end, by how they ended: success, failed, refused, invalid, asked, unrecorded.";
    OPERATION_SECONDS: Histogram "vault_mcp_operation_duration_seconds" ["operation"]
        "Seconds that carrying out an operation took, between its two records.";
    ERRORS: Counter "vault_mcp_errors_total" ["code"]
        "Calls that gave an error, by its stable code.";
    RATE_LIMITED: Counter "vault_mcp_rate_limited_total" []
        "Calls refused because their subject was over its rate.";
    TURNED_AWAY: Counter "vault_mcp_auth_refusals_total" ["kind"]
        "HTTP callers who were not let in, by what was wrong: missing, api_key, jwt, mtls, certificate, conflict.";
    APPROVALS: Counter "vault_mcp_approvals_total" ["channel", "outcome"]
        "Questions to a human that ended, by who was asked and how: confirmed, or the code of the refusal.";
    PENDING: Gauge "vault_mcp_approvals_pending" []
        "Questions that wait for a human.";
    SESSIONS: Gauge "vault_mcp_mcp_sessions" []
        "Sessions of MCP over HTTP that are open.";
    VAULT_SECONDS: Histogram "vault_mcp_vault_request_duration_seconds" ["method", "outcome"]
        "Seconds that each request to Vault took, by method and class of its answer: 2xx, 3xx, 4xx, 5xx, none.";
    CHILD_TOKENS: Counter "vault_mcp_child_tokens_total" ["outcome"]
        "Vault tokens of single subjects, by what became of them: issued, failed, revoked.";
    READY: Gauge "vault_mcp_ready" []
        "1 where /readyz would say that everything is ready, else 0.";
    MEMORY: Gauge "process_resident_memory_bytes" []
        "Memory that the process holds.";
    STARTED: Gauge "process_start_time_seconds" []
        "When the process began, in seconds since 1970.";
    BUILD: Gauge "vault_mcp_build_info" ["version"]
        "1, with the program's version.";
}

/// Upper bounds of the buckets, in seconds: from an answer out of memory to the deadline of a call.
const BUCKETS: &[f64] =
    &[0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// How a call ended, or paused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was carried out.
    Success,
    /// It was tried and failed.
    Failed,
    /// Policy, scope or a limit refused it.
    Refused,
    /// Its arguments were.
    Invalid,
    /// A human is asked first.
    Asked,
    /// The audit log could not take its record.
    Unrecorded,
}

impl Outcome {
    /// All of them.
    pub const ALL: &[Self] =
        &[Self::Success, Self::Failed, Self::Refused, Self::Invalid, Self::Asked, Self::Unrecorded];

    /// The label's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Success => "success",
            Self::Failed => "failed",
            Self::Refused => "refused",
            Self::Invalid => "invalid",
            Self::Asked => "asked",
            Self::Unrecorded => "unrecorded",
        }
    }

    /// What a record of the audit log says of the call, if it says how it ended.
    fn of(action: Action) -> Option<Self> {
        match action {
            Action::Success => Some(Self::Success),
            Action::Failed => Some(Self::Failed),
            Action::Refused => Some(Self::Refused),
            Action::ValidationFailed => Some(Self::Invalid),
            Action::ConfirmationRequired => Some(Self::Asked),
            Action::Request
            | Action::Confirmed
            | Action::Aborted
            | Action::AnsweredElsewhere
            | Action::LogOpened
            | Action::Rotated
            | Action::Checkpoint
            | Action::TailSetAside => None,
        }
    }
}

/// What a summary shows: the same numbers, readable without parsing a page of them.
#[derive(Debug, Default)]
pub struct Totals {
    in_flight: AtomicU64,
    /// By the first digit of the status.
    answers: [AtomicU64; 6],
    /// In the order of [`Outcome::ALL`].
    operations: [AtomicU64; 6],
}

static TOTALS: OnceLock<Totals> = OnceLock::new();

impl Totals {
    /// Requests that have no answer yet.
    #[must_use]
    pub fn in_flight(&self) -> u64 {
        self.in_flight.load(Relaxed)
    }

    /// Answers by class of their status: `2xx` and how many.
    pub fn answers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        CLASSES.iter().zip(&self.answers).skip(1).map(|(class, count)| (*class, count.load(Relaxed)))
    }

    /// Calls by how they ended.
    pub fn operations(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let counts = Outcome::ALL.iter().zip(&self.operations);
        counts.map(|(outcome, count)| (outcome.as_str(), count.load(Relaxed)))
    }
}

/// What a status is called by its first digit.
const CLASSES: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

fn class_of(status: u16) -> (usize, &'static str) {
    let digit = usize::from(status / 100);
    CLASSES.get(digit).map_or((0, "none"), |word| (digit, *word))
}

/// Begins to count, once in a process: before this, and where it is never called, a report is a load and a
/// branch. Gives what renders the page.
///
/// # Errors
/// `internal` when another recorder is installed already.
pub fn install() -> Result<PrometheusHandle, Error> {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    if let Some(handle) = HANDLE.get() {
        return Ok(handle.clone());
    }
    let fault = |_| Error::Internal { what: "the meters cannot be installed" };
    let mut builder = PrometheusBuilder::new();
    for meter in METERS.iter().filter(|meter| meter.kind == Kind::Histogram) {
        let name = Matcher::Full(meter.name.to_owned());
        builder = builder.set_buckets_for_metric(name, BUCKETS).map_err(fault)?;
    }
    let handle = builder.install_recorder().map_err(fault)?;
    for meter in METERS {
        match meter.kind {
            Kind::Counter => metrics::describe_counter!(meter.name, meter.help),
            Kind::Gauge => metrics::describe_gauge!(meter.name, meter.help),
            Kind::Histogram => metrics::describe_histogram!(meter.name, meter.help),
        }
    }
    // What was never counted is nought, not missing: a rate over it then has a value from the first event on.
    for name in [WITH_CORRELATION, RATE_LIMITED] {
        counter!(name).absolute(0);
    }
    gauge!(IN_FLIGHT).set(0.0);
    gauge!(BUILD, "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    if let Ok(now) = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH) {
        gauge!(STARTED).set(now.as_secs_f64());
    }
    let _ = TOTALS.set(Totals::default());
    Ok(HANDLE.get_or_init(|| handle).clone())
}

/// The sums since [`install`]; nothing where it was not called.
#[must_use]
pub fn totals() -> Option<&'static Totals> {
    TOTALS.get()
}

/// A request came in.
pub fn request_began(with_correlation: bool) {
    let Some(totals) = totals() else { return };
    totals.in_flight.fetch_add(1, Relaxed);
    gauge!(IN_FLIGHT).increment(1.0);
    if with_correlation {
        counter!(WITH_CORRELATION).increment(1);
    }
}

/// It is answered, or its caller is gone.
pub fn request_ended(method: &'static str, route: &str, status: u16, took: Duration) {
    let Some(totals) = totals() else { return };
    totals.in_flight.fetch_sub(1, Relaxed);
    gauge!(IN_FLIGHT).decrement(1.0);
    let (class, _) = class_of(status);
    if let Some(count) = totals.answers.get(class) {
        count.fetch_add(1, Relaxed);
    }
    let status = status.to_string();
    let labels = [("method", method.to_owned()), ("route", route.to_owned()), ("status", status)];
    counter!(REQUESTS, &labels).increment(1);
    histogram!(REQUEST_SECONDS, &labels).record(took.as_secs_f64());
}

/// A record was written to the audit log, or could not be: what the meters count is what the log holds.
/// `operation` is an id of the table, or another word of this program's own.
pub fn recorded(
    operation: &'static str,
    action: Action,
    code: Option<&'static str>,
    channel: Option<&'static str>,
    written: bool,
) {
    let Some(totals) = totals() else { return };
    let outcome = if written { Outcome::of(action) } else { Some(Outcome::Unrecorded) };
    if let Some(outcome) = outcome {
        if let Some(count) = totals.operations.get(outcome as usize) {
            count.fetch_add(1, Relaxed);
        }
        counter!(OPERATIONS, "operation" => operation, "outcome" => outcome.as_str()).increment(1);
    }
    if let Some(code) = code {
        counter!(ERRORS, "code" => code).increment(1);
        if code == "rate_limited" {
            counter!(RATE_LIMITED).increment(1);
        }
    }
    let ended = match action {
        Action::Confirmed => Some("confirmed"),
        Action::Aborted => code,
        _ => None,
    };
    if let (Some(outcome), Some(channel), true) = (ended, channel, written) {
        counter!(APPROVALS, "channel" => channel, "outcome" => outcome).increment(1);
    }
}

/// An operation ran, well or not.
pub fn ran(operation: &'static str, took: Duration) {
    if totals().is_some() {
        histogram!(OPERATION_SECONDS, "operation" => operation).record(took.as_secs_f64());
    }
}

/// A request to Vault ended. `status` is nothing where no answer came.
pub(super) fn vault_answered(method: &http::Method, status: Option<u16>, took: Duration) {
    if totals().is_some() {
        let (_, class) = class_of(status.unwrap_or_default());
        histogram!(VAULT_SECONDS, "method" => method_word(method.as_str()), "outcome" => class)
            .record(took.as_secs_f64());
    }
}

/// What became of a token that stands for one subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChildToken {
    /// Vault gave it.
    Issued,
    /// Vault did not.
    Failed,
    /// It was given back.
    Revoked,
}

/// A caller was not let in. `kind` is one of a few words of ours.
pub fn turned_away(kind: &'static str) {
    if totals().is_some() {
        counter!(TURNED_AWAY, "kind" => kind).increment(1);
    }
}

/// A token of a single subject was issued, refused or revoked.
pub fn child_token(outcome: ChildToken) {
    if totals().is_some() {
        let word = match outcome {
            ChildToken::Issued => "issued",
            ChildToken::Failed => "failed",
            ChildToken::Revoked => "revoked",
        };
        counter!(CHILD_TOKENS, "outcome" => word).increment(1);
    }
}

/// What is looked up when somebody asks.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Questions that wait for a human.
    pub pending: usize,
    /// Sessions of MCP that are open.
    pub sessions: usize,
    /// Everything that calls need is there.
    pub ready: bool,
}

/// Sets the gauges that nobody reports to.
pub fn look(look: Look) {
    if totals().is_none() {
        return;
    }
    #[expect(clippy::cast_precision_loss, reason = "a gauge is a float; no such number comes near 2^53")]
    {
        gauge!(PENDING).set(look.pending as f64);
        gauge!(SESSIONS).set(look.sessions as f64);
        if let Some(bytes) = resident_bytes() {
            gauge!(MEMORY).set(bytes as f64);
        }
    }
    gauge!(READY).set(f64::from(u8::from(look.ready)));
}

/// Memory that the process holds, where the system says (proc(5), `VmRSS`).
#[must_use]
pub fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

/// A method as a label: one of those that anything here is asked with, else `other`.
#[must_use]
pub fn method_word(method: &str) -> &'static str {
    const KNOWN: [&str; 8] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "LIST"];
    KNOWN.iter().find(|known| **known == method).copied().unwrap_or("other")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_a_caller_made_up_is_no_label() {
        assert_eq!(
            (method_word("PATCH"), method_word("X-MY-OWN"), method_word("get")),
            ("PATCH", "other", "other")
        );
    }

    #[test]
    fn names_are_as_prometheus_wants_them() {
        for meter in METERS {
            assert_eq!(meter.name.ends_with("_total"), meter.kind == Kind::Counter, "{}", meter.name);
            assert_eq!(
                meter.name.ends_with("_duration_seconds"),
                meter.kind == Kind::Histogram,
                "{}",
                meter.name
            );
            assert!(meter.help.ends_with('.') && !meter.help.contains('\n'), "{}", meter.name);
        }
    }
}
