//! What JSON readers disagree about is refused before anything reads it: duplicate keys (one reader takes
//! the first, another the last) and deep nesting. Syntax, UTF-8 and lone surrogates are serde_json's.

use std::{collections::HashSet, fmt};

use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Levels of nesting that are accepted.
const MAX_DEPTH: usize = 64;

/// Begins the message of a refusal that is about shape and not syntax.
const SHAPE: &str = "not accepted: ";

/// Why a line is no message.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::front) enum Fault {
    /// It is not JSON.
    Syntax,
    /// It is JSON that readers would understand differently.
    Shape(&'static str),
}

/// Checks one line.
///
/// # Errors
/// The first fault.
pub(in crate::front) fn check(line: &[u8]) -> Result<(), Fault> {
    if names_a_private_key(line) {
        return Err(Fault::Shape("it holds a name that this program's JSON reader keeps for itself"));
    }
    let mut deserializer = serde_json::Deserializer::from_slice(line);
    let outcome = Level(0).deserialize(&mut deserializer).and_then(|()| deserializer.end());
    outcome.map_err(|error| {
        let text = error.to_string();
        if text.starts_with(SHAPE) {
            if text.contains("key") {
                Fault::Shape("a key stands twice in one object")
            } else {
                Fault::Shape("it is nested deeper than 64 levels")
            }
        } else {
            Fault::Syntax
        }
    })
}

/// serde_json hands numbers over as objects with a key of this prefix; an object that comes with such a key
/// would become a number. No number's own text holds it, so the line is searched, escapes resolved.
fn names_a_private_key(line: &[u8]) -> bool {
    const PREFIX: &[u8] = b"$serde_json::private::";
    // Without a colon pair or an escape there is nothing to look closer at.
    let suspicious = |pair: &[u8]| pair == b"::" || pair == b"\\u";
    if !line.windows(2).any(suspicious) {
        return false;
    }
    let mut text = Vec::with_capacity(line.len());
    let mut rest = line;
    while let Some((&byte, after)) = rest.split_first() {
        let escaped = after.strip_prefix(b"u00").filter(|_| byte == b'\\').and_then(|after| {
            let (digits, after) = after.split_at_checked(2)?;
            let [byte] = hex::decode(digits).ok()?.try_into().ok()?;
            Some((byte, after))
        });
        let (byte, after) = escaped.unwrap_or((byte, after));
        text.push(byte);
        rest = after;
    }
    text.windows(PREFIX.len()).any(|window| window == PREFIX)
}

struct Level(usize);

impl<'de> DeserializeSeed<'de> for Level {
    type Value = ();
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.0 > MAX_DEPTH {
            return Err(D::Error::custom(format!("{SHAPE}depth")));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Level {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
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
    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }
    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while seq.next_element_seed(Level(self.0 + 1))?.is_some() {}
        Ok(())
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = map.next_key::<String>()? {
            // With arbitrary precision serde_json hands a number over as a map of this one key.
            if key == "$serde_json::private::Number" && seen.is_empty() {
                map.next_value::<IgnoredAny>()?;
                continue;
            }
            map.next_value_seed(Level(self.0 + 1))?;
            if !seen.insert(key) {
                return Err(A::Error::custom(format!("{SHAPE}key")));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn duplicate_keys_are_found_at_any_depth_and_in_any_spelling() {
        for line in [r#"{"a":1,"a":2}"#, r#"{"x":[{"a":1,"b":{"c":1,"c":1}}]}"#, r#"{"a":1,"\u0061":2}"#] {
            assert_eq!(
                check(line.as_bytes()),
                Err(Fault::Shape("a key stands twice in one object")),
                "{line}"
            );
        }
        assert_eq!(check(br#"{"a":{"b":1},"b":{"b":1e999,"c":123456789012345678901234567890}}"#), Ok(()));
    }

    #[test]
    fn a_key_that_would_become_a_number_is_refused_in_any_spelling() {
        for line in [
            r#"{"a":{"$serde_json::private::Number":"12"}}"#,
            r#"{"a":{"\u0024serde_json\u003a\u003Aprivate::Number":"12"}}"#,
            r#"{"$serde_json::private::RawValue":"[1,1]"}"#,
        ] {
            assert!(matches!(check(line.as_bytes()), Err(Fault::Shape(_))), "{line}");
        }
        assert_eq!(check(br#"{"a::b":"x\u0041","b":1.50,"c":"std::fmt"}"#), Ok(()));
    }

    #[test]
    fn deep_nesting_is_refused_without_using_the_stack_up() {
        let deep = "[".repeat(10_000) + &"]".repeat(10_000);
        assert!(check(deep.as_bytes()).is_err());
        let fits = "[".repeat(60) + &"]".repeat(60);
        assert_eq!(check(fits.as_bytes()), Ok(()));
    }

    #[test]
    fn what_is_no_json_is_told_apart() {
        for line in [&b"{"[..], b"{}{}", b"\xff", br#"{"a":"\ud800"}"#, b"{\"a\":\"\x00\"}", b""] {
            assert_eq!(check(line), Err(Fault::Syntax), "{line:?}");
        }
    }
}
