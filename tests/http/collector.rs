//! A collector of traces: takes OTLP over HTTP as the specification has it, and keeps every byte.

use std::{
    collections::BTreeMap,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::ExportTraceServiceRequest, common::v1::any_value::Value as Any,
    trace::v1::span::SpanKind,
};
use prost::Message;

use crate::common::{PATIENCE, wait_until};

/// A span as it arrived.
#[derive(Clone, Debug)]
pub(crate) struct Span {
    pub(crate) name: String,
    pub(crate) trace: String,
    pub(crate) id: String,
    pub(crate) parent: String,
    pub(crate) kind: SpanKind,
    pub(crate) failed: bool,
    pub(crate) attributes: BTreeMap<String, String>,
    pub(crate) service: String,
    pub(crate) events: usize,
}

#[derive(Default)]
struct Taken {
    bytes: Vec<u8>,
    spans: Vec<Span>,
}

/// A running collector. It ends with the test's process.
pub(crate) struct Collector {
    pub(crate) url: String,
    taken: Arc<Mutex<Taken>>,
}

impl Collector {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let taken = Arc::new(Mutex::new(Taken::default()));
        let shared = Arc::clone(&taken);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let shared = Arc::clone(&shared);
                std::thread::spawn(move || serve(stream, &shared));
            }
        });
        Self { url, taken }
    }

    /// Everything that arrived, byte for byte, heads included.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.taken.lock().unwrap().bytes.clone()
    }

    /// Every span so far.
    pub(crate) fn spans(&self) -> Vec<Span> {
        self.taken.lock().unwrap().spans.clone()
    }

    /// The spans of a trace, once the one of this name is among them: it ends last.
    pub(crate) fn trace(&self, id: &str, last: &str) -> Vec<Span> {
        wait_until(&format!("the span {last} of {id}"), PATIENCE, || {
            let spans: Vec<_> = self.spans().into_iter().filter(|span| span.trace == id).collect();
            spans.iter().any(|span| span.name == last).then_some(spans)
        })
    }
}

/// Requests of one connection, until it ends.
fn serve(stream: TcpStream, taken: &Mutex<Taken>) -> Option<()> {
    let mut answers = stream.try_clone().ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let (mut head, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().unwrap();
            }
            head.push_str(&line);
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).ok()?;
        let lower = head.to_lowercase();
        assert!(lower.starts_with("post /v1/traces http/1.1"), "{head}");
        assert!(lower.contains("content-type: application/x-protobuf"), "{head}");
        let request = ExportTraceServiceRequest::decode(&*body).expect("protobuf");
        let mut taken = taken.lock().unwrap();
        taken.bytes.extend_from_slice(head.as_bytes());
        taken.bytes.extend_from_slice(&body);
        taken.spans.extend(spans_of(request));
        answers
            .write_all(
                b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n",
            )
            .ok()?;
    }
}

fn text(value: Option<Any>) -> String {
    match value {
        Some(Any::StringValue(text)) => text,
        Some(Any::IntValue(number)) => number.to_string(),
        Some(Any::BoolValue(flag)) => flag.to_string(),
        other => format!("{other:?}"),
    }
}

fn spans_of(request: ExportTraceServiceRequest) -> Vec<Span> {
    let mut found = Vec::new();
    for resource in request.resource_spans {
        let attributes = resource.resource.map(|resource| resource.attributes).unwrap_or_default();
        let service = attributes.into_iter().find(|attribute| attribute.key == "service.name");
        let service = text(service.and_then(|attribute| attribute.value?.value));
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            let kind = span.kind();
            let attribute = |pair: opentelemetry_proto::tonic::common::v1::KeyValue| {
                (pair.key, text(pair.value.and_then(|value| value.value)))
            };
            found.push(Span {
                name: span.name,
                trace: hex::encode(span.trace_id),
                id: hex::encode(span.span_id),
                parent: hex::encode(span.parent_span_id),
                kind,
                failed: span.status.is_some_and(|status| status.code == 2),
                attributes: span.attributes.into_iter().map(attribute).collect(),
                service: service.clone(),
                events: span.events.len(),
            });
        }
    }
    found
}
