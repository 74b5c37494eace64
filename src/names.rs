//! Names that come from outside, parsed once into types that cannot hold anything dangerous.
//!
//! Rust's `url` crate resolves `..`, `%2e%2e` and `\`, drops tabs and newlines and cuts at `?` and `#`
//! before anything is sent. So a path is a list of segments checked against an allow-list here, each
//! segment is percent-encoded by the executor, and the finished URL is compared with the one expected.
//! What this module does not do: join a path to a caller's tree (`broker::Place` does) or send it.

use std::{borrow::Cow, fmt};

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

/// Most bytes a path may have.
pub const MAX_PATH_BYTES: usize = 1024;
/// Most segments a path may have.
pub const MAX_SEGMENTS: usize = 16;
/// Most bytes a segment may have.
pub const MAX_SEGMENT_BYTES: usize = 128;

/// Why a name was not accepted. Never quotes the name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// Nothing there.
    #[error("it is empty")]
    Empty,
    /// Over the limit.
    #[error("it is too long (at most {0} bytes)")]
    TooLong(usize),
    /// Over 16 segments.
    #[error("it has more than {MAX_SEGMENTS} segments")]
    TooManySegments,
    /// `//`, or a slash at an end.
    #[error("it has an empty segment: no leading, trailing or doubled '/'")]
    EmptySegment,
    /// `.` or `..`.
    #[error("'.' and '..' are no names")]
    DotSegment,
    /// Not in the allow-list.
    #[error("it has a character that is not allowed; allowed are {0}")]
    Character(&'static str),
    /// Control, bidi or zero-width characters.
    #[error("it has a control or invisible character")]
    Invisible,
    /// First character of a subject.
    #[error("it must begin with a lower-case letter or a digit")]
    FirstCharacter,
    /// What could make one of Vault's own policies of a subject.
    #[error("it has no '-', '_' or '.', so that with a subject it could be one of Vault's own policies")]
    NoSeparator,
}

/// True for characters that print nothing, reorder text or end a line: none of them has a place in a
/// name, and in a preview they could make it say something else.
#[must_use]
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}'
            | '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}'
            | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}' | '\u{1bca0}'..='\u{1bca3}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}' | '\u{e000}'..='\u{f8ff}')
}

/// `text` with everything invisible, and the backslash, written as an escape, cut at `max` characters.
/// What a human is shown before saying yes goes through here.
#[must_use]
pub fn shown(text: &str, max: usize) -> String {
    let mut out = String::with_capacity(text.len().min(max) + 8);
    for (i, c) in text.chars().enumerate() {
        if i == max {
            out.push('…');
            break;
        }
        match c {
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\\' => out.push_str("\\\\"),
            c if is_invisible(c) => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out
}

/// A key's name in a question. Blanks stand between the entries there, so a name that holds one is quoted: else it
/// could look like two names, or like a sign and a name.
#[must_use]
pub fn shown_name(key: &str) -> String {
    let text = shown(key, 64);
    if text.chars().any(|c| c.is_whitespace() || c == '"') {
        format!("\"{}\"", text.replace('"', "\\\""))
    } else {
        text
    }
}

const SEGMENT_CHARACTERS: &str = "letters, digits, '.', '_' and '-'";

fn is_segment_character(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')
}

/// A path of segments as a caller gave it, relative to nothing yet. It holds printable text without
/// dot segments; whether its characters fit the strict rule is `is_strict`, which the joining of a path
/// to a caller's tree asks unless `PATH_NAMES=any`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretPath(String);

impl SecretPath {
    /// Parses a decoded path. Percent signs are ordinary characters here: nothing is decoded twice.
    ///
    /// # Errors
    /// The first rule that the text breaks.
    pub fn parse(text: &str) -> Result<Self, NameFault> {
        if text.is_empty() {
            return Err(NameFault::Empty);
        }
        if text.len() > MAX_PATH_BYTES {
            return Err(NameFault::TooLong(MAX_PATH_BYTES));
        }
        let mut segments = 0;
        for segment in text.split('/') {
            segments += 1;
            if segments > MAX_SEGMENTS {
                return Err(NameFault::TooManySegments);
            }
            check_segment(segment)?;
        }
        Ok(Self(text.to_owned()))
    }

    /// The path as given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The segments, in order.
    pub fn segments(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// True when every segment is made of the strict allow-list's characters.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.0.chars().all(|c| c == '/' || is_segment_character(c))
    }
}

fn check_segment(segment: &str) -> Result<(), NameFault> {
    if segment.is_empty() {
        return Err(NameFault::EmptySegment);
    }
    if segment.len() > MAX_SEGMENT_BYTES {
        return Err(NameFault::TooLong(MAX_SEGMENT_BYTES));
    }
    if segment == "." || segment == ".." {
        return Err(NameFault::DotSegment);
    }
    if segment.chars().any(is_invisible) {
        return Err(NameFault::Invisible);
    }
    // A name that only looks like `.` or `..` (full-width or one-dot-leader dots) is one to a human.
    if segment
        .chars()
        .all(|c| matches!(c, '.' | '\u{2024}' | '\u{2025}' | '\u{2026}' | '\u{fe52}' | '\u{ff0e}'))
    {
        return Err(NameFault::DotSegment);
    }
    if segment.starts_with(char::is_whitespace) || segment.ends_with(char::is_whitespace) {
        return Err(NameFault::Invisible);
    }
    if segment.contains('\\') {
        return Err(NameFault::Character("anything printable but '\\'"));
    }
    Ok(())
}

/// The folder of a listing: a path, or nothing for the root. One trailing slash is dropped, because
/// that is how Vault itself prints folders.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Prefix(Option<SecretPath>);

impl Prefix {
    /// Parses a folder name.
    ///
    /// # Errors
    /// As [`SecretPath::parse`], but for the empty text, which is the root.
    pub fn parse(text: &str) -> Result<Self, NameFault> {
        if text.is_empty() {
            return Ok(Self(None));
        }
        SecretPath::parse(text.strip_suffix('/').unwrap_or(text)).map(|path| Self(Some(path)))
    }

    /// The path, or nothing for the root.
    #[must_use]
    pub fn path(&self) -> Option<&SecretPath> {
        self.0.as_ref()
    }
}

/// True when a name found in Vault fits what this server accepts, so that a caller can use it.
#[must_use]
pub fn is_usable_segment(name: &str, strict: bool) -> bool {
    let name = name.strip_suffix('/').unwrap_or(name);
    check_segment(name).is_ok() && (!strict || name.chars().all(is_segment_character))
}

macro_rules! text_name {
    ($(#[$doc:meta])* $name:ident, $pattern:literal, $max:literal, $what:literal, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Parses the whole text.
            ///
            /// # Errors
            /// The first rule that the text breaks.
            pub fn parse(text: &str) -> Result<Self, NameFault> {
                if text.is_empty() {
                    return Err(NameFault::Empty);
                }
                if text.len() > $max {
                    return Err(NameFault::TooLong($max));
                }
                let check: fn(&str) -> Result<(), NameFault> = $check;
                check(text)?;
                Ok(Self(text.to_owned()))
            }

            /// The name.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(D::Error::custom)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "pattern": $pattern })
            }
        }
    };
}

fn all(text: &str, allowed: fn(char) -> bool, names: &'static str) -> Result<(), NameFault> {
    if text.chars().all(allowed) { Ok(()) } else { Err(NameFault::Character(names)) }
}

fn is_word(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '-')
}

text_name!(
    /// The agent a call acts for. Lower case only: Vault lower-cases policy names but not KV paths, so
    /// `Alice` and `alice` would share a policy and not their data.
    Subject, "^[a-z0-9][a-z0-9_-]{0,62}$", 63, "subject",
    |text| {
        all(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'),
            "lower-case letters, digits, '_' and '-'")?;
        if text.starts_with(['_', '-']) { Err(NameFault::FirstCharacter) } else { Ok(()) }
    }
);

text_name!(
    /// What the names of the subjects' policies begin with. Lower case, as Vault keeps policy names; and never such
    /// that a subject makes `root` or `default` of it.
    PolicyPrefix, "^[a-z0-9._-]{1,64}$", 64, "prefix",
    |text| {
        all(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-' | '.'),
            "lower-case letters, digits, '.', '_' and '-'")?;
        if text.contains(['-', '_', '.']) { Ok(()) } else { Err(NameFault::NoSeparator) }
    }
);

text_name!(
    /// A service of the `vault_*` tools: one folder level.
    ServiceName, "^[A-Za-z0-9_-]{1,64}$", 64, "service",
    |text| all(text, is_word, "letters, digits, '_' and '-'")
);

text_name!(
    /// A key of a service: a name that may become an environment variable.
    ServiceKey, "^[A-Za-z0-9_-]{1,128}$", 128, "key",
    |text| all(text, is_word, "letters, digits, '_' and '-'")
);

text_name!(
    /// A key inside a secret: any visible text.
    KeyName, "^.{1,256}$", 256, "key",
    |text| if text.chars().any(is_invisible) { Err(NameFault::Invisible) } else { Ok(()) }
);

text_name!(
    /// A mount path of one level, as Vault's engines usually have.
    MountName, "^[A-Za-z0-9._-]{1,64}$", 64, "mount",
    |text| {
        all(text, is_segment_character, SEGMENT_CHARACTERS)?;
        check_segment(text)
    }
);

text_name!(
    /// A key, role or other name of an engine: one segment.
    EngineName, "^[A-Za-z0-9._-]{1,128}$", 128, "name",
    |text| {
        all(text, is_segment_character, SEGMENT_CHARACTERS)?;
        check_segment(text)
    }
);

text_name!(
    /// A key of AWS KMS: id, ARN or alias.
    AwsKeyId, "^[A-Za-z0-9:/_-]{1,2048}$", 2048, "key",
    |text| all(text, |c| c.is_ascii_alphanumeric() || matches!(c, ':' | '/' | '_' | '-'),
        "letters, digits, ':', '/', '_' and '-'")
);

impl From<AwsKeyId> for String {
    fn from(id: AwsKeyId) -> Self {
        id.0
    }
}

text_name!(
    /// A region of AWS. It becomes part of a host name.
    AwsRegion, "^[a-z][a-z0-9-]{1,31}$", 32, "region",
    |text| {
        all(text, |c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-',
            "lower-case letters, digits and '-'")?;
        if text.starts_with(|c: char| c.is_ascii_lowercase()) && !text.ends_with('-') {
            Ok(())
        } else {
            Err(NameFault::FirstCharacter)
        }
    }
);

macro_rules! path_serde {
    ($name:ident, $pattern:literal) => {
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let text = Cow::<'de, str>::deserialize(deserializer)?;
                Self::parse(&text).map_err(|fault| D::Error::custom(format!("{PATH_MARK}{fault}")))
            }
        }
        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }
            fn schema_name() -> Cow<'static, str> {
                stringify!($name).into()
            }
            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "maxLength": 1024 })
            }
        }
    };
}

/// Paths as documents for programs describe them (ECMA 262): a segment holds something that is no dot. The
/// schemas that models get go without: it would cost them 60 bytes a tool.
pub const PATH_PATTERN: &str = r"^\.*[A-Za-z0-9_-][A-Za-z0-9._-]*(/\.*[A-Za-z0-9_-][A-Za-z0-9._-]*){0,15}$";

/// Begins the message of a path fault inside serde's error, so that the parser of arguments can give it
/// its own code.
pub(crate) const PATH_MARK: &str = "path: ";

path_serde!(SecretPath, "");
path_serde!(Prefix, "");

/// A version number of KV v2: 1 or more. Refuses `1e3`, `"1"`, `1.0` and what does not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Version(u64);

impl Version {
    /// The number.
    #[must_use]
    pub fn get(self) -> u64 {
        self.0
    }

    /// A version from a number.
    ///
    /// # Errors
    /// On 0 and above 2^53, where other JSON readers begin to round.
    pub fn new(number: u64) -> Result<Self, &'static str> {
        if (1..=1 << 53).contains(&number) {
            Ok(Self(number))
        } else {
            Err("a version is a whole number from 1")
        }
    }
}

impl<'de> Deserialize<'de> for Version {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::new(u64::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for Version {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Version".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "integer", "minimum": 1 })
    }
}

/// One to 100 versions, each once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Versions(Vec<Version>);

impl Versions {
    /// The versions in ascending order.
    #[must_use]
    pub fn as_slice(&self) -> &[Version] {
        &self.0
    }

    /// The bare numbers.
    #[must_use]
    pub fn numbers(&self) -> Vec<u64> {
        self.0.iter().map(|version| version.get()).collect()
    }
}

impl<'de> Deserialize<'de> for Versions {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut versions = Vec::<Version>::deserialize(deserializer)?;
        versions.sort_unstable();
        versions.dedup();
        if versions.is_empty() || versions.len() > 100 {
            return Err(D::Error::custom("give 1 to 100 versions"));
        }
        Ok(Self(versions))
    }
}

impl JsonSchema for Versions {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "Versions".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "array", "items": { "type": "integer", "minimum": 1 }, "minItems": 1, "maxItems": 100 })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_path_that_could_leave_its_tree_does_not_parse_or_is_not_strict() {
        for text in [
            "../bob",
            "%2e%2e/bob",
            ".%2e/x",
            "..%2fbob",
            "%252e%252e",
            "a\\..\\..\\bob",
            "a//b",
            "/a",
            "a/",
            ".",
            "./a",
            "",
            "a\0b",
            "%00",
            "a/.\n./b",
            "a/.\t./b",
            "a?version=1",
            "a#x",
            "a ",
            "a.\u{200b}",
            "\u{ff0e}\u{ff0e}/a",
            "a\u{ff0f}b",
            "caf\u{e9}",
            "cafe\u{301}",
            "a\u{202e}b",
            "a+",
            "a*",
            "x:undelete",
            "{a}",
            "a%",
        ] {
            let strict = SecretPath::parse(text).is_ok_and(|path| path.is_strict());
            assert!(!strict, "{text:?} was accepted");
        }
        assert_eq!(SecretPath::parse(&"a".repeat(1025)), Err(NameFault::TooLong(MAX_PATH_BYTES)));
        assert_eq!(SecretPath::parse(&vec!["a"; 300].join("/")), Err(NameFault::TooManySegments));
        assert!(SecretPath::parse("configs/demo.v1/a_b-c").is_ok_and(|path| path.is_strict()));
    }

    #[test]
    fn subjects_are_lower_case_and_never_mended() {
        for text in ["Alice", "alice ", "*", "+", "a,b", "a/b", "", "-a", "_a", "a\n", &"a".repeat(64)] {
            assert!(Subject::parse(text).is_err(), "{text:?} was accepted");
        }
        for text in ["alice", "root2", "agent_api", "0", "a-b_c"] {
            assert!(Subject::parse(text).is_ok(), "{text:?} was refused");
        }
    }

    #[test]
    fn names_end_where_the_text_ends() {
        assert!(ServiceName::parse(&"a".repeat(64)).is_ok());
        assert!(ServiceName::parse(&"a".repeat(65)).is_err());
        assert!(ServiceName::parse("a\n").is_err());
        assert!(ServiceKey::parse(&"K".repeat(128)).is_ok());
        assert!(ServiceKey::parse(&"K".repeat(129)).is_err());
        assert!(ServiceKey::parse("K\n").is_err());
        assert!(KeyName::parse("any text: ü = 1").is_ok());
        assert!(KeyName::parse("a\u{202e}").is_err());
    }

    #[test]
    fn versions_are_whole_numbers_from_one() {
        for text in ["-1", "0", "1e3", "18446744073709551616", "\"1\"", "1.0", "null"] {
            assert!(serde_json::from_str::<Version>(text).is_err(), "{text} was accepted");
        }
        assert!(serde_json::from_str::<Version>("7").is_ok());
    }

    #[test]
    fn what_a_human_sees_holds_no_hidden_character() {
        assert_eq!(shown("a\u{202e}b\n\u{1b}[2Jc", 80), "a\\u{202e}b\\n\\u{1b}[2Jc");
        assert_eq!(shown("abcdef", 3), "abc…");
    }

    #[test]
    fn a_key_with_a_blank_stands_in_quotes() {
        for (key, text) in [
            ("API_KEY", "API_KEY"),
            ("a b", "\"a b\""),
            ("a\u{3000}b", "\"a\u{3000}b\""),
            ("a\"   + FAKE \"b", "\"a\\\"   + FAKE \\\"b\""),
            ("a\\\" b", "\"a\\\\\\\" b\""),
        ] {
            assert_eq!(shown_name(key), text);
        }
    }

    proptest! {
        #[test]
        fn an_accepted_path_is_sent_byte_for_byte(text in "\\PC{0,40}") {
            if let Ok(path) = SecretPath::parse(&text) && path.is_strict() {
                let expected = format!("http://h/v1/secret/data/mcp/alice/{text}");
                let url = url::Url::parse(&expected).unwrap();
                prop_assert_eq!(url.as_str(), expected);
            }
        }
    }
}
