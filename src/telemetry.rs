//! What can be known of the running process from outside: meters, log files, traces.
//!
//! Every room may report here, and none learns whether anybody looks: on stdio nothing is installed that was not
//! asked for, and a report is one load of a flag. What this module does not do: the audit log, which is the
//! broker's and never switched off; or answer an HTTP request, which is the front's. Nothing that is reported here
//! holds a secret, a path below a mount, or a caller's own text.

pub mod log;
pub mod meters;
pub mod trace;

use std::time::Instant;

use http::{HeaderName, HeaderValue, Method};
use tracing::Span;
use tracing_subscriber::{layer::SubscriberExt, util::SubscriberInitExt};

use crate::{config::Config, error::Error};

/// What is to be ended with the process: files are written out, spans are sent.
pub struct Telemetry {
    files: log::Files,
    traces: Option<trace::Traces>,
}

impl Telemetry {
    /// Sets up logs and, for `--http`, traces, as the settings say. Before any runtime: what sends the spans waits
    /// on a thread of its own.
    ///
    /// # Errors
    /// `config_invalid`, for a folder or a collector that cannot be used.
    pub fn start(config: &Config, http: bool) -> Result<Self, Error> {
        let files = log::Files::open(config, http)?;
        let traces = if http { trace::Traces::connect(config)? } else { None };
        // A second subscriber in one process can only come from a test; the first one stays.
        let _ = tracing_subscriber::registry()
            .with(traces.as_ref().map(trace::Traces::layer))
            .with(log::to_stderr(config))
            .with(files.server(config))
            .try_init();
        Ok(Self { files, traces })
    }

    /// The log files.
    #[must_use]
    pub fn files(&self) -> &log::Files {
        &self.files
    }

    /// Sends what is left, within two seconds. After the runtime.
    pub fn end(self) {
        if let Some(traces) = self.traces {
            traces.end();
        }
    }
}

/// A request on its way to Vault, for meters and traces. One that is dropped without an answer got none: the
/// connection broke, or whoever waited for it gave up.
pub struct VaultRequest<'a> {
    method: &'a Method,
    began: Instant,
    status: Option<u16>,
    span: Span,
}

impl<'a> VaultRequest<'a> {
    /// It is about to be sent. Of the path the first part alone is noted.
    #[must_use]
    pub fn begin(method: &'a Method, path: &str) -> Self {
        Self { method, began: Instant::now(), status: None, span: trace::vault_request(method, path) }
    }

    /// The header that says which span it belongs to, where it is traced.
    #[must_use]
    pub fn parent(&self) -> Option<(HeaderName, HeaderValue)> {
        trace::parent_header(&self.span)
    }

    /// Its answer is here, whole.
    pub fn answered(mut self, status: u16) {
        self.status = Some(status);
    }
}

impl Drop for VaultRequest<'_> {
    fn drop(&mut self) {
        meters::vault_answered(self.method, self.status, self.began.elapsed());
        trace::vault_answered(&self.span, self.status);
    }
}
