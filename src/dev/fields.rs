//! Reading a request's fields the way Vault does: weakly typed, with its own error text.
//!
//! Vault turns numbers into text, text into numbers and a single text into a list where a field asks for
//! it. What cannot be turned is refused with the name of the field.

use std::borrow::Cow;

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
        self.get(name)
            .map(|value| to_text(value).ok_or_else(|| conversion(name, unconvertible("", "string", value))))
            .transpose()
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
                other => Err(conversion(name, unconvertible("", "bool", other))),
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
                    _ => conversion(name, "could not parse duration from input".to_owned()),
                })
            })
            .transpose()
    }

    pub(super) fn object(&self, name: &str) -> Result<Option<Cow<'a, Object>>, Fault> {
        match self.get(name) {
            None => Ok(None),
            Some(Value::Object(object)) => Ok(Some(Cow::Borrowed(object))),
            // Weak decoding makes one map of a list of maps.
            Some(Value::Array(items)) => {
                let mut all = Object::new();
                for (index, item) in items.iter().enumerate() {
                    let Value::Object(item) = item else {
                        return Err(conversion(
                            name,
                            format!("'[{index}]' expected a map, got '{}'", kind(item)),
                        ));
                    };
                    all.extend(item.clone());
                }
                Ok(Some(Cow::Owned(all)))
            }
            Some(other) => Err(conversion(name, format!("'' expected a map, got '{}'", kind(other)))),
        }
    }

    /// A list of texts where a single text is one item, commas and all.
    pub(super) fn items(&self, name: &str) -> Result<Option<Vec<String>>, Fault> {
        match self.get(name) {
            Some(Value::Array(_)) | None => self.list(name),
            Some(single) => Ok(Some(vec![
                to_text(single).ok_or_else(|| conversion(name, unconvertible("", "string", single)))?,
            ])),
        }
    }

    /// The warning that Vault adds when a request has fields that the path does not know.
    pub(super) fn unrecognized(&self, known: &[&str]) -> Option<String> {
        let mut ignored: Vec<&str> =
            self.0.keys().map(String::as_str).filter(|key| !known.contains(key)).collect();
        ignored.sort_unstable();
        (!ignored.is_empty())
            .then(|| format!("Endpoint ignored these unrecognized parameters: [{}]", ignored.join(" ")))
    }

    /// The warning about a field that the path gives as well.
    pub(super) fn replaced(&self, name: &str) -> Option<String> {
        self.has(name).then(|| {
            format!(
                "Endpoint replaced the value of these parameters with the values captured from the endpoint's \
                 path: [{name}]"
            )
        })
    }

    /// A list of texts: a JSON list, or one text with commas.
    pub(super) fn list(&self, name: &str) -> Result<Option<Vec<String>>, Fault> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let list = match value {
            Value::Array(items) => items
                .iter()
                .map(|item| to_text(item).ok_or_else(|| conversion(name, unconvertible("", "string", item))))
                .collect::<Result<Vec<_>, _>>()?,
            single => to_text(single)
                .ok_or_else(|| conversion(name, unconvertible("", "string", single)))?
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
        let texts: Vec<Value> = match value {
            Value::Array(items) => items.clone(),
            Value::String(text) => {
                text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect()
            }
            other => vec![other.clone()],
        };
        let numbers: Vec<Option<i64>> = texts.iter().map(to_int).collect();
        let mut faults: Vec<String> = texts
            .iter()
            .zip(&numbers)
            .enumerate()
            .filter(|(_, (_, number))| number.is_none())
            .map(|(index, (text, _))| format!("* {}", unparsed(&format!("[{index}]"), text)))
            .collect();
        if faults.is_empty() {
            return Ok(Some(numbers.into_iter().flatten().collect()));
        }
        faults.sort();
        let text = format!("{} error(s) decoding:\n\n{}", faults.len(), faults.join("\n"));
        Err(conversion(name, text))
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
                    .ok_or_else(|| conversion(name, unconvertible("", "string", value)))
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
    conversion(name, unparsed("", value))
}

/// Why a value is no whole number, in the words of Go's weak decoding; `place` names it within a list.
fn unparsed(place: &str, value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        other => return unconvertible(place, "int", other),
    };
    format!("cannot parse '{place}' as int: strconv.ParseInt: parsing {text:?}: invalid syntax")
}

/// A value that no weak decoding turns into the type, in Go's words.
pub(super) fn unconvertible(place: &str, wanted: &str, value: &Value) -> String {
    let kind = if value.is_array() { "[]interface {}" } else { "map[string]interface {}" };
    format!(
        "'{place}' expected type '{wanted}', got unconvertible type '{kind}', value: '{}'",
        go_print(value)
    )
}

/// A value as Go's `%v` prints it.
pub(super) fn go_print(value: &Value) -> String {
    match value {
        Value::Array(items) => format!("[{}]", items.iter().map(go_print).collect::<Vec<_>>().join(" ")),
        Value::Object(object) => {
            let inner: Vec<String> =
                object.iter().map(|(key, value)| format!("{key}:{}", go_print(value))).collect();
            format!("map[{}]", inner.join(" "))
        }
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        other => other.to_string(),
    }
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
