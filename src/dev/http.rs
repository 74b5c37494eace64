//! HTTP: from bytes to a [`Request`] and back, as Vault's own front does it.
//!
//! What is decided here needs no token: methods, headers, the body's size and form, unclean paths, and the
//! answers that have no envelope (health, seal, init).

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::{
    body::{Body, Bytes, to_bytes},
    extract::{Request as HttpRequest, State},
    response::Response,
};
use chrono::{TimeDelta, Utc};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use serde_json::{Value, json};

use super::{
    core::Core,
    duration,
    fields::parse_bool,
    json as reader, random,
    wire::{Answer, Fault, Object, Op, Plain, Request},
};

/// Vault's default limit for a body.
const MAX_BODY: usize = 32 << 20;

/// The core, shared by all connections. Its lock is held for microseconds and never across an await.
pub(super) type Shared = Arc<Mutex<Core>>;

fn lock(core: &Shared) -> MutexGuard<'_, Core> {
    // A panic elsewhere leaves a consistent state behind: nothing is half-done across calls.
    core.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What goes out.
struct Out {
    status: StatusCode,
    media_type: &'static str,
    body: Vec<u8>,
}

const JSON: &str = "application/json";

impl Out {
    fn json(status: StatusCode, body: &Value) -> Self {
        let mut body = body.to_string().into_bytes();
        body.push(b'\n');
        Self { status, media_type: JSON, body }
    }

    fn nothing(status: StatusCode) -> Self {
        Self { status, media_type: JSON, body: Vec::new() }
    }

    fn fault(fault: &Fault) -> Self {
        Self::json(fault.status, &fault.body())
    }
}

/// Answers every request.
pub(super) async fn serve(State(core): State<Shared>, request: HttpRequest) -> Response {
    let (parts, body) = request.into_parts();
    let namespace = parts.headers.get("x-vault-namespace").cloned();
    let mut response = answer(&core, &parts.method, &parts.uri, &parts.headers, body).await;
    // Vault without namespaces ignores the header and echoes it.
    if let Some(namespace) = namespace {
        response.headers_mut().insert("x-vault-namespace", namespace);
    }
    response
}

async fn answer(
    core: &Shared,
    method: &Method,
    uri: &http::Uri,
    headers: &HeaderMap,
    body: Body,
) -> Response {
    let Some(path) = decode(uri.path()) else { return plain(StatusCode::BAD_REQUEST) };
    if path.chars().any(is_unprintable) {
        return plain(StatusCode::BAD_REQUEST);
    }
    let clean = clean(uri.path());
    if clean != uri.path() {
        return redirect(&clean, uri.query());
    }
    if path == "/v1/sys" {
        return redirect("/v1/sys/", uri.query());
    }
    let Some(path) = path.strip_prefix("/v1/") else {
        return redirect(if path == "/v1" { "/v1/" } else { "/ui/" }, None);
    };
    let body = match body_of(body, headers).await {
        Ok(body) => body,
        Err(fault) => return respond(Out::fault(&fault)),
    };
    if method == Method::HEAD {
        let mut out = dispatch(core, method, path, uri.query().unwrap_or_default(), headers, &body);
        out.body.clear();
        return respond(out);
    }
    respond(dispatch(core, method, path, uri.query().unwrap_or_default(), headers, &body))
}

async fn body_of(body: Body, headers: &HeaderMap) -> Result<Bytes, Fault> {
    let too_large = || {
        Fault::new(StatusCode::PAYLOAD_TOO_LARGE, "failed to parse JSON input: http: request body too large")
    };
    let announced = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: usize| length > MAX_BODY) {
        return Err(too_large());
    }
    to_bytes(body, MAX_BODY).await.map_err(|_| too_large())
}

fn dispatch(
    core: &Shared,
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Out {
    if !body.is_empty()
        && let Err(fault) = reader::check(body)
    {
        return Out::fault(&fault);
    }
    if let Some(out) = without_envelope(core, method, path, query, body) {
        return out;
    }
    let mut request = match parse(method, path, query, headers, body) {
        Ok(request) => request,
        Err(fault) => return Out::fault(&fault),
    };
    let answer = {
        let mut core = lock(core);
        if path == "sys/seal" { core.seal(&request) } else { core.handle(&mut request) }
    };
    render(answer, &request)
}

fn render(answer: Answer, request: &Request) -> Out {
    let reply = match answer {
        Err(fault) => return Out::fault(&fault),
        Ok(None) if matches!(request.op, Op::Read | Op::List | Op::Other) => {
            return Out::fault(&Fault::silent(StatusCode::NOT_FOUND));
        }
        Ok(None) => return Out::nothing(StatusCode::NO_CONTENT),
        Ok(Some(reply)) => reply,
    };
    if let Some(raw) = reply.raw {
        return Out {
            status: reply.status.unwrap_or(StatusCode::OK),
            media_type: JSON,
            body: raw.into_bytes(),
        };
    }
    if let Some(Plain { media_type, body }) = reply.plain {
        let status = if body.is_empty() { StatusCode::NO_CONTENT } else { StatusCode::OK };
        return Out { status, media_type, body };
    }
    let is_empty = reply.data.as_ref().is_none_or(serde_json::Map::is_empty);
    if request.op == Op::List && is_empty && reply.warnings.is_empty() && reply.wrap.is_none() {
        return Out::fault(&Fault::silent(StatusCode::NOT_FOUND));
    }
    let mut envelope = reply.envelope(&request.id);
    if reply.wrap.is_none() && is_flattened(&request.path) {
        // The oldest paths of `sys/` show their data at the top as well.
        for (key, value) in reply.data.into_iter().flatten() {
            envelope.entry(key).or_insert(value);
        }
    }
    Out::json(reply.status.unwrap_or(StatusCode::OK), &Value::Object(envelope))
}

fn is_flattened(path: &str) -> bool {
    const WHOLE: &[&str] = &[
        "sys/audit",
        "sys/auth",
        "sys/capabilities",
        "sys/capabilities-accessor",
        "sys/capabilities-self",
        "sys/mounts",
        "sys/policy",
    ];
    WHOLE.contains(&path)
        || ["sys/auth/", "sys/mounts/", "sys/policy/"].iter().any(|prefix| path.starts_with(prefix))
}

fn parse(
    method: &Method,
    path: &str,
    query: &str,
    headers: &HeaderMap,
    body: &Bytes,
) -> Result<Request, Fault> {
    let mut path = path.to_owned();
    let mut data = Object::new();
    let op = match method.as_str() {
        "GET" => {
            data = parameters(query);
            match data.get("list").and_then(Value::as_str).filter(|list| !list.is_empty()) {
                None => Op::Read,
                Some(list) => match parse_bool(list) {
                    Some(true) => {
                        data.remove("list");
                        Op::List
                    }
                    Some(false) => Op::Read,
                    None => return Err(Fault::silent(StatusCode::BAD_REQUEST)),
                },
            }
        }
        "LIST" => {
            data = parameters(query);
            Op::List
        }
        "POST" | "PUT" => {
            data = reader::fields(body, headers)?;
            Op::Update
        }
        "PATCH" => {
            media_type(headers)?;
            data = reader::fields(body, headers)?;
            Op::Patch
        }
        "DELETE" => {
            data = parameters(query);
            Op::Delete
        }
        "HEAD" | "OPTIONS" => Op::Other,
        _ => return Err(Fault::silent(StatusCode::METHOD_NOT_ALLOWED)),
    };
    if op == Op::List && !path.ends_with('/') {
        path.push('/');
    }
    Ok(Request {
        id: random::uuid(),
        op,
        path,
        data,
        token: token(headers),
        wrap: wrap(headers)?,
        now: Utc::now(),
    })
}

fn media_type(headers: &HeaderMap) -> Result<(), Fault> {
    let given = headers.get(header::CONTENT_TYPE).and_then(|given| given.to_str().ok()).unwrap_or_default();
    let name = given.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if name.is_empty() {
        return Err(Fault::bad("mime: no media type"));
    }
    if name != "application/merge-patch+json" {
        let text = format!("PATCH requires Content-Type of application/merge-patch+json, provided {name}");
        return Err(Fault::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    Ok(())
}

fn token(headers: &HeaderMap) -> Option<String> {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    if let Some(token) = headers.get("x-vault-token").and_then(text).filter(|token| !token.is_empty()) {
        return Some(token);
    }
    let bearer =
        |value: &HeaderValue| text(value)?.strip_prefix("Bearer ").map(|token| token.trim().to_owned());
    headers.get_all(header::AUTHORIZATION).iter().find_map(bearer).filter(|token| !token.is_empty())
}

fn wrap(headers: &HeaderMap) -> Result<Option<TimeDelta>, Fault> {
    let Some(text) =
        headers.get("x-vault-wrap-ttl").and_then(|ttl| ttl.to_str().ok()).filter(|ttl| !ttl.is_empty())
    else {
        return Ok(None);
    };
    let fault = |text: String| Fault::bad(format!("error parsing X-Vault-Wrap-TTL header: {text}"));
    let ttl = duration::parse(text).ok_or_else(|| fault(format!("time: invalid duration {text:?}")))?;
    if ttl < TimeDelta::zero() {
        return Err(fault("requested wrap ttl cannot be negative".to_owned()));
    }
    Ok(Some(ttl).filter(|ttl| !ttl.is_zero()))
}

/// Query parameters as fields: one value is a text, several are a list.
fn parameters(query: &str) -> Object {
    let mut out = Object::new();
    for (key, value) in url::form_urlencoded::parse(query.as_bytes()) {
        match out.get_mut(key.as_ref()) {
            None => {
                out.insert(key.into_owned(), json!(value));
            }
            Some(Value::Array(values)) => values.push(json!(value)),
            Some(known) => *known = json!([known.clone(), value]),
        }
    }
    out
}

/// The paths that answer without an envelope, sealed or not.
fn without_envelope(core: &Shared, method: &Method, path: &str, query: &str, body: &Bytes) -> Option<Out> {
    let only = |allowed: bool| (!allowed).then(|| Out::fault(&Fault::silent(StatusCode::METHOD_NOT_ALLOWED)));
    let is_get = method == Method::GET;
    let ok = |body: &Value| Out::json(StatusCode::OK, body);
    Some(match path {
        "sys/health" => match only(is_get || method == Method::HEAD) {
            Some(out) => out,
            None => health(core, query),
        },
        "sys/seal-status" => only(is_get).unwrap_or_else(|| ok(&lock(core).seal_status())),
        "sys/init" => match method.as_str() {
            "GET" => ok(&json!({ "initialized": true })),
            "PUT" | "POST" => Out::fault(&Fault::bad("Vault is already initialized")),
            _ => Out::fault(&Fault::silent(StatusCode::METHOD_NOT_ALLOWED)),
        },
        "sys/leader" => only(is_get).unwrap_or_else(|| {
            ok(&json!({
                "ha_enabled": false,
                "is_self": false,
                "active_time": "0001-01-01T00:00:00Z",
                "leader_address": "",
                "leader_cluster_address": "",
                "performance_standby": false,
                "performance_standby_last_remote_wal": 0,
            }))
        }),
        "sys/unseal" => only(matches!(method.as_str(), "PUT" | "POST")).unwrap_or_else(|| {
            let unsealed = reader::object(body).and_then(|data| lock(core).unseal(&data));
            unsealed.map_or_else(|fault| Out::fault(&fault), |status| ok(&status))
        }),
        _ => return None,
    })
}

fn health(core: &Shared, query: &str) -> Out {
    let query = parameters(query);
    let text =
        |name: &str| query.get(name).and_then(|value| value.as_str().or_else(|| value.get(0)?.as_str()));
    let fault = || Out::fault(&Fault::silent(StatusCode::BAD_REQUEST));
    for name in ["standbyok", "perfstandbyok"] {
        if text(name).is_some_and(|text| !text.is_empty() && parse_bool(text).is_none()) {
            return fault();
        }
    }
    let code = |name: &str, usual: StatusCode| match text(name) {
        None => Some(usual),
        Some(text) => text.parse().ok().and_then(|code| StatusCode::from_u16(code).ok()),
    };
    // The states that this server is never in are read all the same: a bad code is refused.
    let never = [
        "uninitcode",
        "standbycode",
        "drsecondarycode",
        "performancestandbycode",
        "haunhealthycode",
        "removedcode",
    ];
    if never.into_iter().any(|name| code(name, StatusCode::OK).is_none()) {
        return fault();
    }
    let (Some(active), Some(sealed)) =
        (code("activecode", StatusCode::OK), code("sealedcode", StatusCode::SERVICE_UNAVAILABLE))
    else {
        return fault();
    };
    let core = lock(core);
    Out::json(if core.sealed { sealed } else { active }, &core.health())
}

fn respond(out: Out) -> Response {
    let has_body = !out.body.is_empty();
    let mut response = Response::new(Body::from(out.body));
    *response.status_mut() = out.status;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::STRICT_TRANSPORT_SECURITY,
        HeaderValue::from_static("max-age=31536000; includeSubDomains"),
    );
    if has_body {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(out.media_type));
    }
    response
}

fn plain(status: StatusCode) -> Response {
    respond(Out::nothing(status))
}

fn redirect(path: &str, query: Option<&str>) -> Response {
    let target = query.map_or_else(|| path.to_owned(), |query| format!("{path}?{query}"));
    let mut response = plain(StatusCode::TEMPORARY_REDIRECT);
    if let Ok(target) = HeaderValue::from_str(&target) {
        response.headers_mut().insert(header::LOCATION, target);
    }
    response
}

/// Percent-decodes a path; `None` when an escape is broken.
fn decode(path: &str) -> Option<String> {
    let mut out = Vec::with_capacity(path.len());
    let mut bytes = path.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
        let (high, low) = (digit(bytes.next())?, digit(bytes.next())?);
        out.push(u8::try_from(high * 16 + low).ok()?);
    }
    Some(
        String::from_utf8(out).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()),
    )
}

/// Go's `unicode.IsPrint` as far as it matters in a path: no controls, no format characters.
fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
        || (c.is_whitespace() && c != ' ')
}

/// The path without `.`, `..` and doubled slashes, as Go's router wants it.
fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop();
            }
            part => parts.push(part),
        }
    }
    let mut out = String::with_capacity(path.len());
    for part in &parts {
        out.push('/');
        out.push_str(part);
    }
    // A trailing slash is kept; `x/.` and `x/..` leave none behind.
    if out.is_empty() || path.ends_with('/') {
        out.push('/');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once_and_cleaned_as_sent() {
        assert_eq!(decode("/a%20b%2fc").as_deref(), Some("/a b/c"));
        assert_eq!(decode("/a%zz"), None);
        assert_eq!(decode("/a%2"), None);
        for (path, expected) in [
            ("/v1/a", "/v1/a"),
            ("/v1/a/", "/v1/a/"),
            ("/v1//a", "/v1/a"),
            ("/v1/a/../b", "/v1/b"),
            ("/v1/%2e%2e/a", "/v1/%2e%2e/a"),
            ("/", "/"),
        ] {
            assert_eq!(clean(path), expected);
        }
    }
}
