//! Traces: a span for each request, call, step and request to Vault, sent to a collector by OTLP over HTTP where
//! one is named.
//!
//! Spans are made by the functions below and by nothing else, under a target that the exporter alone listens to.
//! So what a trace can say is what these functions take: words of this program's own, ids, a subject, the name of a
//! mount. No event, and no span of another crate, gets into it.

use std::{sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use opentelemetry::{
    Context,
    propagation::{Extractor, TextMapPropagator},
    trace::{SpanContext, TraceContextExt, TracerProvider},
};
use opentelemetry_otlp::{SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::{Resource, propagation::TraceContextPropagator, trace::SdkTracerProvider};
use tracing::{Span, Subscriber, debug_span, error_span, field::Empty};
use tracing_opentelemetry::OpenTelemetrySpanExt;
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    registry::LookupSpan,
};

use super::meters::method_word;
use crate::{
    config::{Collector, Config},
    error::Error,
};

/// What spans of this module are known by.
const TARGET: &str = "vault_mcp::trace";
/// How long the collector may take for one delivery.
const DELIVERY: Duration = Duration::from_secs(5);
/// How long the last delivery may take, at the end of the process.
const LAST: Duration = Duration::from_millis(1500);
/// W3C Trace Context, section 3.2.
const TRACEPARENT: &str = "traceparent";

/// The way to a collector.
pub(super) struct Traces(SdkTracerProvider);

impl Traces {
    /// Nothing where no collector is named. Nothing is sent yet.
    ///
    /// # Errors
    /// `config_invalid` when the client for it cannot be built.
    pub(super) fn connect(config: &Config) -> Result<Option<Self>, Error> {
        let Some(collector) = &*config.otel_exporter_otlp_endpoint else { return Ok(None) };
        let unusable = |what: &str| {
            Error::config(
                "OTEL_EXPORTER_OTLP_ENDPOINT",
                format!("the collector cannot be used: {what}. Give its address, http://127.0.0.1:4318 say."),
            )
        };
        let client = client(collector).map_err(|_| unusable("no HTTP client can be built"))?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(client)
            .with_endpoint(collector.traces())
            .with_timeout(DELIVERY)
            .build()
            .map_err(|_| unusable("the exporter does not take it"))?;
        let resource = Resource::builder()
            .with_service_name(config.otel_service_name.clone())
            .with_attribute(opentelemetry::KeyValue::new("service.version", env!("CARGO_PKG_VERSION")))
            .build();
        let provider =
            SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build();
        Ok(Some(Self(provider)))
    }

    /// Takes the spans of this module, whatever `LOG_LEVEL` says, and nothing else.
    pub(super) fn layer<S>(&self) -> impl Layer<S> + use<S>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("vault-mcp"))
            .with_location(false)
            .with_threads(false)
            .with_level(false)
            .with_target(false)
            .with_tracked_inactivity(false)
            .with_context_activation(false)
            .with_filter(Targets::new().with_target(TARGET, LevelFilter::TRACE))
    }

    /// Sends what is left. A collector that does not answer is not waited for.
    pub(super) fn end(self) {
        let _ = self.0.shutdown_with_timeout(LAST);
    }
}

/// The exporter calls it on a thread of its own, where waiting is no harm.
fn client(collector: &Collector) -> Result<reqwest::blocking::Client, reqwest::Error> {
    // Two builders could race to install the same provider; the loser's error changes nothing.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let mut builder = reqwest::blocking::Client::builder()
        .tls_backend_rustls()
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(DELIVERY);
    if collector.is_plain() {
        // The system's roots are not needed, and take long to load.
        builder = builder.tls_certs_only(Vec::new());
    }
    builder.build()
}

/// One request over HTTP. It is there for the log as well, whose lines say which request they belong to; its
/// parent is the caller's span, where the headers name one.
pub fn request(method: &'static str, request_id: &str, correlation_id: &str, headers: &HeaderMap) -> Span {
    let span = error_span!(
        target: TARGET,
        "request",
        otel.kind = "server",
        otel.status_code = Empty,
        http.request.method = method,
        http.route = Empty,
        http.response.status_code = Empty,
        request_id,
        correlation_id,
        subject = Empty,
    );
    if headers.contains_key(TRACEPARENT) {
        // Where nobody traces there is nothing to set it on.
        let _ = span.set_parent(TraceContextPropagator::new().extract(&Parent(headers)));
    }
    span
}

/// A request over HTTP, for what goes on working for it on tasks of its own: it names the request and does not
/// keep its span open.
#[derive(Debug, Clone)]
pub struct Origin {
    request_id: Arc<str>,
    correlation_id: Arc<str>,
    parent: Option<SpanContext>,
}

impl Origin {
    /// Of a request and its span.
    #[must_use]
    pub fn new(span: &Span, request_id: &str, correlation_id: &str) -> Self {
        Self { request_id: request_id.into(), correlation_id: correlation_id.into(), parent: context(span) }
    }
}

/// What a message of MCP sets going, which may go on after the request that brought it is answered.
#[must_use]
pub fn message(origin: &Origin, subject: &str) -> Span {
    // Named as the request is: lines of the log are found by it.
    let span = error_span!(
        target: TARGET,
        "request",
        otel.name = "message",
        request_id = &*origin.request_id,
        correlation_id = &*origin.correlation_id,
        subject,
    );
    if let Some(parent) = &origin.parent {
        // Where nobody traces there is nothing to set it on.
        let _ = span.set_parent(Context::new().with_remote_span_context(parent.clone()));
    }
    span
}

/// Notes whom the request is from.
pub fn subject(span: &Span, subject: &str) {
    span.record("subject", subject);
}

/// Notes how the request ended.
pub fn answered(span: &Span, method: &str, route: &str, status: u16) {
    if context(span).is_none() {
        return;
    }
    // A name that is recorded after the beginning is not heard of: it goes to the span itself.
    span.context().span().update_name(format!("{method} {route}"));
    span.record("http.route", route);
    span.record("http.response.status_code", status);
    if status >= 500 {
        span.record("otel.status_code", "ERROR");
    }
}

/// One call of an operation.
pub fn operation(id: &'static str, front: &'static str) -> Span {
    debug_span!(
        target: TARGET,
        "operation",
        otel.name = id,
        otel.status_code = Empty,
        operation = id,
        front,
        error.type = Empty,
    )
}

/// Notes that the call gave an error.
pub fn refused(span: &Span, code: &'static str) {
    span.record("otel.status_code", "ERROR");
    span.record("error.type", code);
}

/// One step of a call.
pub fn step(name: &'static str) -> Span {
    debug_span!(target: TARGET, "step", otel.name = name)
}

/// One request to Vault. Of its path the first part alone is noted: the name of a mount, `sys` or `auth`.
pub fn vault_request(method: &Method, path: &str) -> Span {
    let method = method_word(method.as_str());
    let mount = path.split('/').next().unwrap_or_default();
    debug_span!(
        target: TARGET,
        "vault",
        otel.kind = "client",
        otel.name = format_args!("vault {method} {mount}"),
        otel.status_code = Empty,
        http.request.method = method,
        http.response.status_code = Empty,
        vault.mount = mount,
    )
}

/// Notes what Vault answered.
pub fn vault_answered(span: &Span, status: Option<u16>) {
    if let Some(status) = status {
        span.record("http.response.status_code", status);
    }
    if status.is_none_or(|status| status >= 500) {
        span.record("otel.status_code", "ERROR");
    }
}

/// The id of the trace that a span belongs to, where it is sent to a collector.
#[must_use]
pub fn id(span: &Span) -> Option<String> {
    context(span).map(|context| context.trace_id().to_string())
}

/// The header that tells the next server which span it works for.
#[must_use]
pub fn parent_header(span: &Span) -> Option<(HeaderName, HeaderValue)> {
    let context = context(span)?;
    let (trace, id, flags) = (context.trace_id(), context.span_id(), context.trace_flags().to_u8());
    Some((
        HeaderName::from_static(TRACEPARENT),
        HeaderValue::try_from(format!("00-{trace}-{id}-{flags:02x}")).ok()?,
    ))
}

fn context(span: &Span) -> Option<SpanContext> {
    if span.is_disabled() {
        return None;
    }
    let context = span.context().span().span_context().clone();
    (context.is_valid() && context.is_sampled()).then_some(context)
}

/// What is taken over from a request: its parent span and nothing else, and that only where it is one.
struct Parent<'a>(&'a HeaderMap);

impl Extractor for Parent<'_> {
    fn get(&self, key: &str) -> Option<&str> {
        let mut values = self.0.get_all(TRACEPARENT).iter();
        let only = values.next().filter(|_| key == TRACEPARENT && values.next().is_none())?;
        only.to_str().ok()
    }

    fn keys(&self) -> Vec<&str> {
        vec![TRACEPARENT]
    }
}
