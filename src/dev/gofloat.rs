//! Numbers as KV version 2 gives them back: it decodes a stored secret into Go's `float64`.
//!
//! Vault keeps what was written and rounds on the way out, so a whole number beyond 2^53 comes back changed
//! and one beyond the range cannot be read at all. Version 1 keeps numbers as they are.

use http::StatusCode;
use serde_json::{Number, Value};

use super::wire::{Fault, Object, multierror};

/// A copy with every number as Go would print it after rounding.
pub(super) fn value(data: &Value) -> Result<Value, Fault> {
    Ok(match data {
        Value::Number(number) => Value::Number(rounded(number)?),
        Value::Array(items) => Value::Array(items.iter().map(value).collect::<Result<_, _>>()?),
        Value::Object(inner) => Value::Object(
            inner
                .iter()
                .map(|(key, inner)| Ok((key.clone(), value(inner)?)))
                .collect::<Result<Object, _>>()?,
        ),
        other => other.clone(),
    })
}

fn rounded(number: &Number) -> Result<Number, Fault> {
    let text = number.as_str();
    // Short whole numbers are exact: nothing to do for nearly every secret.
    if text.len() < 16 && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(number.clone());
    }
    let float: f64 = text.parse().unwrap_or(f64::INFINITY);
    if !float.is_finite() {
        let text = format!("json: cannot unmarshal number {text} into Go value of type float64");
        return Err(Fault::new(StatusCode::INTERNAL_SERVER_ERROR, multierror(&[&text])));
    }
    let printed = print(float);
    Ok(serde_json::from_str(&printed).unwrap_or_else(|_| number.clone()))
}

/// Go's JSON form of a float: plain between 1e-6 and 1e21, with an exponent outside.
fn print(float: f64) -> String {
    let size = float.abs();
    if size == 0.0 || (1e-6..1e21).contains(&size) {
        return format!("{float}");
    }
    let text = format!("{float:e}");
    match text.split_once('e') {
        Some((digits, exponent)) if !exponent.starts_with('-') => format!("{digits}e+{exponent}"),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_back_as_go_prints_them() {
        for (given, expected) in [
            ("1", "1"),
            ("1.50", "1.5"),
            ("-0", "-0"),
            ("9007199254740993", "9007199254740992"),
            ("9223372036854775807", "9223372036854776000"),
            ("1e21", "1e+21"),
            ("1e-7", "1e-7"),
            ("123456789012345678901234567890", "1.2345678901234568e+29"),
        ] {
            let number: Number = serde_json::from_str(given).unwrap();
            assert_eq!(rounded(&number).unwrap().as_str(), expected, "{given}");
        }
        let number: Number = serde_json::from_str("1e999").unwrap();
        assert_eq!(rounded(&number).unwrap_err().status, StatusCode::INTERNAL_SERVER_ERROR);
    }
}
