//! A value that a person types for a call that asks for one. It goes from their keyboard into the one call that they
//! agreed to, by way of [`super::Approved`], and nowhere else: it has no `Clone`, no `Display`, no serializer.

use std::fmt;

use zeroize::Zeroizing;

use super::{MAX_REQUEST, patterns};
use crate::{config::DangerousPatterns, secret};

/// What a person typed: visible text that can be stored. Wiped when dropped.
pub struct SecretValue(Zeroizing<String>);

/// Why a text is no value, in words for the person who typed it. The text itself is in none of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ValueFault {
    /// Nothing was typed.
    Empty,
    /// More than a request may have.
    TooLong,
    /// A character that no keyboard types and no screen shows.
    Control,
    /// What answers show in place of a value.
    Mask,
    /// `DANGEROUS_PATTERNS=block`, and these are in it.
    Pattern(Vec<&'static str>),
}

impl fmt::Display for ValueFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Empty => f.write_str("It is empty. Type the value, or decline."),
            Self::TooLong => write!(f, "It is longer than {MAX_REQUEST} bytes. Store it elsewhere."),
            Self::Control => f.write_str(
                "It holds a line break, a tab or another control character. Type the value as one line of text.",
            ),
            Self::Mask => f.write_str("It is a mask or a reference, not a value. Type the value itself."),
            Self::Pattern(names) => write!(
                f,
                "It holds what a shell interprets ({}), and DANGEROUS_PATTERNS=block refuses that. Type another value.",
                names.join(", ")
            ),
        }
    }
}

impl SecretValue {
    /// Takes what was typed, to the letter.
    ///
    /// # Errors
    /// The first rule that it breaks.
    pub fn parse(text: Zeroizing<String>, dangerous: DangerousPatterns) -> Result<Self, ValueFault> {
        if text.is_empty() {
            return Err(ValueFault::Empty);
        }
        if text.len() > MAX_REQUEST {
            return Err(ValueFault::TooLong);
        }
        if text.chars().any(char::is_control) {
            return Err(ValueFault::Control);
        }
        if secret::text_is_mask(&text) {
            return Err(ValueFault::Mask);
        }
        if dangerous == DangerousPatterns::Block {
            let found = patterns::found_in(&text);
            if !found.is_empty() {
                return Err(ValueFault::Pattern(found));
            }
        }
        Ok(Self(text))
    }

    /// The value. Call sites of this are what a reviewer looks for.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What may be said of its length.
    #[must_use]
    pub fn length_class(&self) -> &'static str {
        secret::length_class(self.0.chars().count())
    }
}

impl fmt::Debug for SecretValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretValue(***)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, dangerous: DangerousPatterns) -> Result<SecretValue, ValueFault> {
        SecretValue::parse(Zeroizing::new(text.to_owned()), dangerous)
    }

    #[test]
    fn what_is_no_value_is_said_without_repeating_it() {
        let long = "x".repeat(MAX_REQUEST + 1);
        let mask = r#" {"masked": true, "type": "string"}"#;
        for text in [
            "",
            &long,
            "canary\n",
            "\r",
            "a\tb",
            "\u{1b}[2Jcanary",
            "\0",
            "a\u{7f}",
            "\u{9b}1m",
            mask,
            "secretref://a#canary",
        ] {
            let fault = parse(text, DangerousPatterns::Warn).unwrap_err();
            assert!(!fault.to_string().contains("canary") && fault.to_string().contains(". "), "{fault}");
        }
        for text in ["$(canary)", "`id`", "a;b", "a&&b"] {
            assert!(parse(text, DangerousPatterns::Warn).is_ok(), "{text}");
            let fault = parse(text, DangerousPatterns::Block).unwrap_err();
            assert!(
                matches!(fault, ValueFault::Pattern(_)) && !fault.to_string().contains("canary"),
                "{fault}"
            );
        }
    }

    #[test]
    fn a_value_is_kept_to_the_letter_and_prints_as_nothing() {
        for text in [" lead and trail ", "Ünï 日本 🗝", "\u{202e}x", "'\"\\", "{\"masked\": 1}", "x"] {
            let value = parse(text, DangerousPatterns::Block).unwrap();
            assert_eq!(value.expose(), text);
            assert_eq!(format!("{value:?}"), "SecretValue(***)");
        }
        assert_eq!(parse("日本", DangerousPatterns::Warn).unwrap().length_class(), "1-8");
    }
}
