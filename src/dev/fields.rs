//! Reading a request's fields the way Vault does: weakly typed, with its own error text.
//!
//! Vault turns numbers into text, text into numbers and a single text into a list where a field asks for
//! it. What cannot be turned is refused with the name of the field.

use chrono::TimeDelta;
use serde_json::Value;

use super::{
    duration,
    wire::{Fault, Object},
};

/// The fields of one request.
pub(super) struct Fields<'a>(pub(super) &'a Object);

impl<'a> Fields<'a> {
    fn get(&self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<String>, Fault> {
        self.get(name).map(|value| to_text(value).ok_or_else(|| wrong(name, "string", value))).transpose()
    }

    /// The text, or an empty one.
    pub(super) fn text_or_empty(&self, name: &str) -> Result<String, Fault> {
        Ok(self.text(name)?.unwrap_or_default())
    }

    pub(super) fn int(&self, name: &str) -> Result<Option<i64>, Fault> {
        self.get(name).map(|value| to_int(value).ok_or_else(|| not_a_number(name, value))).transpose()
    }

    pub(super) fn bool(&self, name: &str) -> Result<Option<bool>, Fault> {
        self.get(name)
            .map(|value| match value {
                Value::Bool(value) => Ok(*value),
                Value::String(text) if text.is_empty() => Ok(false),
                Value::String(text) => parse_bool(text).ok_or_else(|| {
                    conversion(
                        name,
                        format!(
                            "cannot parse '' as bool: strconv.ParseBool: parsing {text:?}: invalid syntax"
                        ),
                    )
                }),
                Value::Number(number) => Ok(number.as_f64() != Some(0.0)),
                other => Err(wrong(name, "bool", other)),
            })
            .transpose()
    }

    /// A duration; Vault drops what is below a second.
    pub(super) fn seconds(&self, name: &str) -> Result<Option<i64>, Fault> {
        let Some(found) = self.duration(name)? else { return Ok(None) };
        if found < TimeDelta::zero() {
            let text = format!("cannot provide negative value '{}'", found.num_seconds());
            return Err(conversion(name, text));
        }
        Ok(Some(found.num_seconds()))
    }

    /// A duration that may be negative.
    pub(super) fn duration(&self, name: &str) -> Result<Option<TimeDelta>, Fault> {
        self.get(name)
            .map(|value| {
                duration::from_value(value).ok_or_else(|| match value {
                    Value::String(text) => conversion(name, format!("time: invalid duration {text:?}")),
                    other => {
                        conversion(name, format!("could not parse duration from input: {}", kind(other)))
                    }
                })
            })
            .transpose()
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<&'a Object>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(object)),
            Some(other) => Err(wrong(name, "map", other)),
        }
    }

    /// A list of texts: a JSON list, or one text with commas.
    pub(super) fn list(&self, name: &str) -> Result<Option<Vec<String>>, Fault> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let list = match value {
            Value::Array(items) => items
                .iter()
                .map(|item| to_text(item).ok_or_else(|| wrong(name, "string", item)))
                .collect::<Result<Vec<_>, _>>()?,
            single => to_text(single)
                .ok_or_else(|| wrong(name, "string", single))?
                .split(',')
                .map(str::to_owned)
                .collect(),
        };
        Ok(Some(
            list.into_iter().map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect(),
        ))
    }

    /// A list of numbers: a JSON list, a single number, or text with commas.
    pub(super) fn ints(&self, name: &str) -> Result<Option<Vec<i64>>, Fault> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = |value: &Value| to_int(value).ok_or_else(|| not_a_number(name, value));
        match value {
            Value::Array(items) => items.iter().map(number).collect::<Result<_, _>>().map(Some),
            Value::String(text) => text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(|item| item.parse().map_err(|_| not_a_number(name, value)))
                .collect::<Result<_, _>>()
                .map(Some),
            other => Ok(Some(vec![number(other)?])),
        }
    }

    /// Text values by name, as in a token's `meta`.
    pub(super) fn pairs(&self, name: &str) -> Result<Option<Object>, Fault> {
        let Some(object) = self.object(name)? else { return Ok(None) };
        object
            .iter()
            .map(|(key, value)| {
                let text = match value {
                    Value::Null => Some(String::new()),
                    other => to_text(other),
                };
                text.map(|text| (key.clone(), Value::String(text)))
                    .ok_or_else(|| wrong(name, "string", value))
            })
            .collect::<Result<_, _>>()
            .map(Some)
    }
}

/// Text of a scalar, as Go's weak decoding gives it.
pub(super) fn to_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(true) => Some("1".to_owned()),
        Value::Bool(false) => Some("0".to_owned()),
        Value::Null => Some(String::new()),
        _ => None,
    }
}

/// A whole number of a scalar, as Go's weak decoding gives it.
pub(super) fn to_int(value: &Value) -> Option<i64> {
    match value {
        Value::Number(number) => number.as_i64().or_else(|| number.to_string().parse().ok()),
        Value::String(text) if text.is_empty() => Some(0),
        Value::String(text) => text.trim().parse().ok(),
        Value::Bool(value) => Some(i64::from(*value)),
        _ => None,
    }
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "TRUE" | "true" | "True" => Some(true),
        "0" | "f" | "F" | "FALSE" | "false" | "False" => Some(false),
        _ => None,
    }
}

fn conversion(name: &str, text: impl std::fmt::Display) -> Fault {
    Fault::bad(format!("Field validation failed: error converting input for field {name:?}: {text}"))
}

fn not_a_number(name: &str, value: &Value) -> Fault {
    match value {
        Value::String(text) => conversion(
            name,
            format!("cannot parse '' as int: strconv.ParseInt: parsing {text:?}: invalid syntax"),
        ),
        Value::Number(number) => conversion(
            name,
            format!(
                "error decoding json.Number into : strconv.ParseInt: parsing {:?}: invalid syntax",
                number.to_string()
            ),
        ),
        other => wrong(name, "int", other),
    }
}

fn wrong(name: &str, wanted: &str, found: &Value) -> Fault {
    conversion(name, format!("'' expected a {wanted}, got '{}'", kind(found)))
}

/// Go's name for the type that a JSON value decodes to.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nil",
        Value::Bool(_) => "bool",
        Value::Number(_) | Value::String(_) => "string",
        Value::Array(_) => "slice",
        Value::Object(_) => "map",
    }
}
