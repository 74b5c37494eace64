//! The walk over a body: depth, counts, lengths, keys twice, numbers out of range.
//!
//! It looks like the front ends' own walk (`front/strict_json`), which refuses for another reason and in other words.
//! This one is Vault's, and nothing here imports from the front ends.

use std::{collections::HashSet, fmt};

use axum::body::Bytes;
use http::StatusCode;
use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};

use crate::dev::wire::Fault;

/// Vault's limit is 300; serde_json's own, which cannot be raised without a feature, is 128.
const MAX_ITEMS: usize = 10_000;
const MAX_TEXT: usize = 1 << 20;

/// Refuses what Vault's own walk refuses. A body that is no object or list passes.
pub(in crate::dev) fn check(body: &Bytes) -> Result<(), Fault> {
    let fault = |text: String| Fault::new(StatusCode::INTERNAL_SERVER_ERROR, text);
    if !matches!(body.iter().find(|byte| !byte.is_ascii_whitespace()), Some(b'{' | b'[')) {
        return Ok(());
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    Walk.deserialize(&mut reader).map_err(|error| fault(explain(&error)))?;
    reader.end().map_err(|_| {
        // The reader stands before the first byte that is too much.
        let rest = after_value(body);
        fault(format!("invalid character '{rest}' after top-level value"))
    })
}

fn explain(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let text = text.rsplit_once(" at line ").map_or(text.as_str(), |(text, _)| text);
    if error.is_eof() {
        return "malformed JSON, unclosed containers".to_owned();
    }
    if text.starts_with("recursion limit") {
        return "JSON input exceeds allowed nesting depth".to_owned();
    }
    match text {
        "number out of range" => "malformed JSON, invalid number syntax".to_owned(),
        text => text.to_owned(),
    }
}

/// The first character after the top-level value.
fn after_value(body: &Bytes) -> char {
    let mut stream = serde_json::Deserializer::from_slice(body).into_iter::<serde::de::IgnoredAny>();
    let _ = stream.next();
    let rest = body.get(stream.byte_offset()..).unwrap_or_default();
    rest.iter().find(|byte| !byte.is_ascii_whitespace()).map_or(' ', |byte| char::from(*byte))
}

struct Walk;

impl<'de> DeserializeSeed<'de> for Walk {
    type Value = ();

    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Walk {
    type Value = ();

    fn expecting(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<(), E> {
        if text.len() > MAX_TEXT {
            Err(E::custom("JSON string value exceeds allowed length"))
        } else {
            Ok(())
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let mut count = 0;
        while items.next_element_seed(Walk)?.is_some() {
            count += 1;
            if count > MAX_ITEMS {
                return Err(A::Error::custom("JSON array exceeds allowed element count"));
            }
        }
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut seen: HashSet<String> = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key == "$serde_json::private::Number" {
                // A number, in its own text.
                let number: String = entries.next_value()?;
                if !number.parse::<f64>().is_ok_and(f64::is_finite) {
                    // serde_json writes a plus into the exponent that was not there.
                    let number = number.replace("e+", "e");
                    let text = format!("malformed JSON, invalid number syntax for '{number}'");
                    return Err(A::Error::custom(text));
                }
                continue;
            }
            if seen.len() >= MAX_ITEMS {
                return Err(A::Error::custom("JSON object exceeds allowed entry count"));
            }
            if seen.contains(&key) {
                return Err(A::Error::custom(format!("duplicate key '{key}' in object")));
            }
            seen.insert(key);
            entries.next_value_seed(Walk)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(body: impl Into<Bytes>) -> String {
        check(&body.into()).unwrap_err().errors.remove(0)
    }

    #[test]
    fn what_vault_refuses_is_refused_in_its_words() {
        assert!(check(&Bytes::from_static(b"{\"a\":[1,2.5,-3e4,{\"b\":null,\"c\":true}]}")).is_ok());
        assert!(check(&Bytes::from_static(b"no json")).is_ok());
        assert_eq!(refusal("{\"a\":"), "malformed JSON, unclosed containers");
        assert_eq!(refusal("{\"a\":1,\"a\":2}"), "duplicate key 'a' in object");
        assert_eq!(refusal("{\"a\":1} x"), "invalid character 'x' after top-level value");
        assert_eq!(refusal("{\"a\":1e999}"), "malformed JSON, invalid number syntax for '1e999'");
        assert_eq!(
            refusal(format!("[{}1]", "1,".repeat(10_000))),
            "JSON array exceeds allowed element count"
        );
        assert_eq!(
            refusal(format!("[\"{}\"]", "x".repeat(1 << 20 | 1))),
            "JSON string value exceeds allowed length"
        );
    }
}
