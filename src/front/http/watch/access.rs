//! The log of requests and of their answers: a line of JSON each.
//!
//! Requests of nobody can be had by the million. Of those only some a second are written down, and the next line
//! says how many were not; the metrics count them all.

use std::{
    net::IpAddr,
    num::NonZeroU32,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use governor::{
    Quota, RateLimiter,
    clock::MonotonicClock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, NotKeyed},
};
use serde::Serialize;

use crate::{
    error::Error,
    telemetry::log::{Files, Lines},
};

/// Requests of nobody that are written down, a second.
const OF_NOBODY: NonZeroU32 = NonZeroU32::MIN.saturating_add(49);

type Limit = RateLimiter<NotKeyed, InMemoryState, MonotonicClock, NoOpMiddleware<std::time::Instant>>;

/// Where the lines go.
pub(super) struct Access {
    pub(super) folder: Arc<Path>,
    requests: Lines,
    responses: Lines,
    nobody: Limit,
    left_out: AtomicU64,
}

/// What a line says of a request.
#[derive(Clone, Copy, Serialize)]
pub(super) struct Line<'a> {
    pub(super) request_id: &'a str,
    pub(super) correlation_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) trace_id: Option<&'a str>,
    pub(super) method: &'static str,
    pub(super) route: &'a str,
    pub(super) subject: Option<&'a str>,
    pub(super) client: IpAddr,
}

#[derive(Serialize)]
struct Request<'a> {
    ts: String,
    #[serde(flatten)]
    line: Line<'a>,
}

#[derive(Serialize)]
struct Response<'a> {
    ts: String,
    #[serde(flatten)]
    line: Line<'a>,
    status: u16,
    /// Milliseconds, to the microsecond.
    ms: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'static str>,
    /// Answers to nobody before this one that were not written down.
    #[serde(skip_serializing_if = "is_nought")]
    left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference")]
fn is_nought(number: &u64) -> bool {
    *number == 0
}

fn now() -> String {
    chrono::Utc::now().to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

impl Access {
    /// Over the files of this process.
    ///
    /// # Errors
    /// `internal` when they were not opened for HTTP.
    pub(super) fn new(files: &Files) -> Result<Self, Error> {
        let (folder, requests, responses) =
            files.http().ok_or(Error::Internal { what: "no files for requests" })?;
        let nobody = RateLimiter::direct_with_clock(Quota::per_second(OF_NOBODY), MonotonicClock);
        Ok(Self { folder, requests, responses, nobody, left_out: AtomicU64::new(0) })
    }

    /// Writes that a request came in. False where it is one of too many of nobody; its answer then has no line
    /// either.
    #[must_use]
    pub(super) fn request(&self, line: &Line<'_>) -> bool {
        let kept = line.subject.is_some() || self.nobody.check().is_ok();
        if kept {
            self.requests.write(&Request { ts: now(), line: *line });
        } else {
            self.left_out.fetch_add(1, Relaxed);
        }
        kept
    }

    /// Writes what a request was answered.
    pub(super) fn response(&self, line: &Line<'_>, status: u16, took: Duration, error: Option<&'static str>) {
        #[expect(clippy::cast_precision_loss, reason = "2^53 microseconds are 285 years")]
        let ms = took.as_micros() as f64 / 1000.0;
        let left_out = self.left_out.swap(0, Relaxed);
        self.responses.write(&Response { ts: now(), line: *line, status, ms, error, left_out });
    }
}
