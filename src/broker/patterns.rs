//! Patterns in values that a shell, a template or a log reader would act on. The human is told which
//! pattern sits under which key; the value itself is never repeated.

use std::sync::LazyLock;

use regex::RegexSet;
use serde_json::Value;

const PATTERNS: &[(&str, &str)] = &[
    ("command substitution $(…)", r"\$\("),
    ("command substitution `…`", "`"),
    ("variable expansion ${…}", r"\$\{"),
    ("command chaining &&", "&&"),
    ("command chaining ||", r"\|\|"),
    ("command separator ;", ";"),
    ("line break", "[\r\n]"),
    ("control character", "[\u{0}-\u{8}\u{b}\u{c}\u{e}-\u{1f}\u{7f}-\u{9f}]"),
];

static SET: LazyLock<RegexSet> = LazyLock::new(|| {
    RegexSet::new(PATTERNS.iter().map(|(_, pattern)| pattern)).unwrap_or_else(|_| RegexSet::empty())
});

/// Names of the patterns in a value, texts inside lists and objects included.
#[must_use]
pub fn found(value: &Value) -> Vec<&'static str> {
    let mut hit = [false; 8];
    scan(value, &mut hit);
    PATTERNS.iter().zip(hit).filter(|(_, hit)| *hit).map(|((name, _), _)| *name).collect()
}

/// Names of the patterns in a text.
#[must_use]
pub fn found_in(text: &str) -> Vec<&'static str> {
    SET.matches(text).into_iter().filter_map(|index| PATTERNS.get(index)).map(|(name, _)| *name).collect()
}

fn scan(value: &Value, hit: &mut [bool; 8]) {
    match value {
        Value::String(text) => {
            for index in SET.matches(text) {
                if let Some(slot) = hit.get_mut(index) {
                    *slot = true;
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| scan(item, hit)),
        Value::Object(map) => map.values().for_each(|item| scan(item, hit)),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_pattern_is_found_and_ordinary_values_are_not() {
        assert_eq!(SET.len(), PATTERNS.len());
        for (value, count) in [
            ("$(id)", 1),
            ("`id`", 1),
            ("${X}", 1),
            ("a&&b", 1),
            ("a||b", 1),
            ("a;b", 1),
            ("a\nb", 1),
            ("a\u{1b}b", 1),
            ("p@ss w0rd!$x&y|z", 0),
            ("", 0),
            ("a\tb", 0),
        ] {
            assert_eq!(found(&json!(value)).len(), count, "{value:?}");
        }
        assert_eq!(found(&json!({"a": ["x", "`"]})).len(), 1);
    }
}
