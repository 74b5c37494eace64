//! Bodies: JSON within Vault's limits, or a form.
//!
//! Vault 1.21 walks a body before anything else looks at it and answers 500 to what is not JSON, nests too
//! deep, is too long or names a key twice.

use axum::body::Bytes;
use http::{HeaderMap, StatusCode, header};
use serde_json::{Value, json};

use super::wire::{Fault, Object};

mod limits;

pub(super) use limits::check;

/// The fields of a write: an object, nothing, or a form.
pub(super) fn fields(body: &Bytes, headers: &HeaderMap) -> Result<Object, Fault> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    let first = body.iter().find(|byte| !byte.is_ascii_whitespace());
    if kind == "application/x-www-form-urlencoded" && !matches!(first, None | Some(b'{' | b'[')) {
        let mut out = Object::new();
        for (key, value) in url::form_urlencoded::parse(body) {
            out.insert(key.into_owned(), json!(value));
        }
        return Ok(out);
    }
    object(body).map_err(|mut fault| {
        for text in &mut fault.errors {
            *text = format!("error parsing JSON: {text}");
        }
        fault
    })
}

/// One JSON object; an empty body and null are an empty one.
pub(super) fn object(body: &Bytes) -> Result<Object, Fault> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(Object::new());
    }
    let fault = |text: String| Fault::bad(format!("failed to parse JSON input: {text}"));
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(Value::Null) => Ok(Object::new()),
        Ok(other) => {
            let kind = match other {
                Value::Array(_) => "array",
                Value::String(_) => "string",
                Value::Bool(_) => "bool",
                _ => "number",
            };
            Err(fault(format!(
                "json: cannot unmarshal {kind} into Go value of type map[string]interface {{}}"
            )))
        }
        Err(error) => match body.first().filter(|byte| !matches!(byte, b'{' | b'[')) {
            Some(byte) => Err(fault(format!(
                "invalid character '{}' looking for beginning of value",
                char::from(*byte)
            ))),
            None => Err(Fault::new(StatusCode::BAD_REQUEST, format!("failed to parse JSON input: {error}"))),
        },
    }
}
