//! One record: its fields, its one spelling in bytes, and the hash that chains it to the one before.
//!
//! The spelling is what gets hashed, so there is exactly one for each record: the fields in the order
//! of [`Record`], no white space, plain ASCII. It is also what makes a line safe to print.

use std::borrow::Cow;
use std::io;

use aws_lc_rs::digest;
use chrono::{DateTime, SecondsFormat, Utc};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::ser::{CharEscape, Formatter};

use super::{Action, Event};

/// The version of the record's form.
pub const SCHEMA: u32 = 1;

/// No record is longer than this, in bytes with its line end.
pub const MAX_RECORD: usize = 16 * 1024;

/// `prev` of the first record of a log.
pub const NO_HASH: &str = "0000000000000000000000000000000000000000000000000000000000000000";

/// One line of the audit log. Fields are written in this order, each of them always, but `log`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(title = "A record of the vault-mcp audit log")]
pub struct Record<'a> {
    /// Version of this form: 1.
    pub schema: u32,
    /// Number of the record in the whole log, from 1, without gaps, across segments.
    pub seq: u64,
    /// When the record was written: RFC 3339, UTC, microseconds.
    #[schemars(regex(pattern = r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"))]
    pub ts: Cow<'a, str>,
    /// `hash` of the record before; 64 zeros in the first record of the log.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub prev: Cow<'a, str>,
    /// SHA-256 of this line without its `"hash":"…",` member and without the line end.
    #[schemars(regex(pattern = "^[0-9a-f]{64}$"))]
    pub hash: Cow<'a, str>,
    /// What happened.
    pub action: Action,
    /// Id of the call, the same in all records of one call; `log` in the log's own records.
    pub id: Cow<'a, str>,
    /// The agent that the call acts for.
    pub subject: Cow<'a, str>,
    /// The way the call came in: stdio, rest, mcp, rpc, approver or cli; `log` in the log's own records.
    pub front: Cow<'a, str>,
    /// What the client calls itself. Not verified.
    pub client: Option<Cow<'a, str>>,
    /// Id of the operation, as `kv.write`.
    pub op: Cow<'a, str>,
    /// read, compute, issue, write or destroy.
    pub effect: Cow<'a, str>,
    /// What the operation touches: a path, key, role or lease.
    pub target: Cow<'a, str>,
    /// Names of the keys that the operation touches, never their values.
    pub keys: Vec<Cow<'a, str>>,
    /// How it ended, in words.
    pub outcome: Option<Cow<'a, str>>,
    /// Stable code of the error, if it ended in one.
    pub code: Option<Cow<'a, str>>,
    /// Request id that Vault gave to the call, as in Vault's own audit log.
    pub vault_request_id: Option<Cow<'a, str>>,
    /// The human checkpoint that the call went through.
    pub approval: Option<ApprovalRecord<'a>>,
    /// Facts of the log about itself, only in its own records.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub log: Option<LogFact>,
}

/// The human checkpoint of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApprovalRecord<'a> {
    /// Where the human was asked: client or approver.
    pub channel: Cow<'a, str>,
    /// Id of the ticket; one CONFIRMED for each.
    pub ticket: Cow<'a, str>,
}

/// What the log says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum LogFact {
    /// `LOG_OPENED`: the first record of a log.
    Opened {
        /// Always 1.
        segment: u32,
        /// Name and version of the program that began the log.
        product: String,
        /// Base64 of the raw Ed25519 public key that verifies the checkpoints.
        public_key: String,
    },
    /// `ROTATED`: the first record of every later segment.
    Rotated {
        /// Number of the segment that begins here.
        segment: u32,
        /// File name of the segment before.
        previous: String,
        /// Number of the oldest segment that was kept at this time.
        oldest: u32,
        /// Base64 of the raw Ed25519 public key that verifies the checkpoints.
        public_key: String,
    },
    /// `CHECKPOINT`: a signature over all that came before.
    Checkpoint {
        /// `seq` of the record before.
        seq: u64,
        /// `hash` of the record before.
        hash: String,
        /// Base64 of the Ed25519 signature over `vault-mcp-audit-checkpoint:1:<seq>:<hash>`.
        signature: String,
    },
    /// `TAIL_SET_ASIDE`: an unfinished last line was moved out of the log.
    TailSetAside {
        /// How many bytes it had.
        bytes: u64,
        /// SHA-256 of those bytes, hexadecimal.
        sha256: String,
        /// Name of the file beside the log that holds them.
        file: String,
    },
}

impl<'a> Record<'a> {
    /// The record of an event, its place in the chain still to be filled in. Long texts are cut.
    pub(super) fn of(event: &Event<'a>) -> Self {
        Self {
            action: event.action,
            id: clip(event.id, 128),
            subject: clip(event.subject, 256),
            front: clip(event.front, 32),
            client: event.client.map(|text| clip(text, 256)),
            op: clip(event.op, 128),
            effect: clip(event.effect, 32),
            target: clip(event.target, 4096),
            keys: clip_list(event.keys, 6144),
            outcome: event.outcome.map(|text| clip(text, 1024)),
            code: event.code.map(|text| clip(text, 128)),
            vault_request_id: event.vault_request_id.map(|text| clip(text, 128)),
            approval: event.approval.map(|approval| ApprovalRecord {
                channel: clip(approval.channel, 64),
                ticket: clip(approval.ticket, 128),
            }),
            log: None,
            ..Self::blank()
        }
    }

    /// A record of the log about itself.
    pub(super) fn own(action: Action, op: &'static str, target: &'a str, fact: LogFact) -> Self {
        Self {
            action,
            id: Cow::Borrowed("log"),
            subject: Cow::Borrowed("vault-mcp"),
            front: Cow::Borrowed("log"),
            op: Cow::Borrowed(op),
            effect: Cow::Borrowed("write"),
            target: clip(target, 4096),
            log: Some(fact),
            ..Self::blank()
        }
    }

    fn blank() -> Self {
        Self {
            schema: SCHEMA,
            seq: 0,
            ts: Cow::Borrowed(""),
            prev: Cow::Borrowed(NO_HASH),
            hash: Cow::Borrowed(NO_HASH),
            action: Action::Request,
            id: Cow::Borrowed(""),
            subject: Cow::Borrowed(""),
            front: Cow::Borrowed(""),
            client: None,
            op: Cow::Borrowed(""),
            effect: Cow::Borrowed(""),
            target: Cow::Borrowed(""),
            keys: Vec::new(),
            outcome: None,
            code: None,
            vault_request_id: None,
            approval: None,
            log: None,
        }
    }

    /// Fills in the place in the chain, and gives the finished line and its hash.
    pub(super) fn seal(&mut self, seq: u64, now: DateTime<Utc>, prev: &str) -> io::Result<(Vec<u8>, String)> {
        self.seq = seq;
        self.ts = Cow::Owned(now.to_rfc3339_opts(SecondsFormat::Micros, true));
        self.prev = Cow::Owned(prev.to_owned());
        self.hash = Cow::Borrowed(NO_HASH);
        let mut line = self.to_line()?;
        let hash = hash_of(&line).ok_or_else(|| io::Error::other("the record has no place for its hash"))?;
        if let Some(place) = find(&line, HASH_MEMBER).map(|at| at + HASH_MEMBER.len())
            && let Some(place) = line.get_mut(place..place + hash.len())
        {
            place.copy_from_slice(hash.as_bytes());
        }
        line.push(b'\n');
        Ok((line, hash))
    }

    /// The one spelling of this record, without the line end.
    pub(super) fn to_line(&self) -> io::Result<Vec<u8>> {
        ascii(self)
    }
}

/// Anything as JSON in plain ASCII, without white space.
pub(super) fn ascii<T: Serialize + ?Sized>(value: &T) -> io::Result<Vec<u8>> {
    let mut line = Vec::with_capacity(768);
    value.serialize(&mut serde_json::Serializer::with_formatter(&mut line, Ascii))?;
    Ok(line)
}

/// The record in a line (without its end), if it is spelled as we spell it.
pub(super) fn parse(line: &[u8]) -> Result<Record<'static>, &'static str> {
    let record: Record<'static> =
        serde_json::from_slice(line).map_err(|_| "the line is not a record of the log")?;
    if record.schema != SCHEMA {
        return Err("the record has a version that is not known here");
    }
    match record.to_line() {
        Ok(again) if again == line => Ok(record),
        _ => Err("the line is not spelled as the log spells a record"),
    }
}

const HASH_MEMBER: &[u8; 8] = b"\"hash\":\"";

/// The hash that a line should carry: SHA-256 over the line without its `"hash":"…",` member.
/// None if there is no such member. The first one is the right one: what stands before it is
/// numbers and hexadecimal, and a quote inside a text is escaped.
pub(super) fn hash_of(line: &[u8]) -> Option<String> {
    let at = find(line, HASH_MEMBER)?;
    let (before, rest) = line.split_at_checked(at)?;
    let (member, after) = rest.split_at_checked(HASH_MEMBER.len() + NO_HASH.len() + 2)?;
    if !member.ends_with(b"\",") {
        return None;
    }
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(before);
    context.update(after);
    Some(hex::encode(context.finish()))
}

/// With the length known at compile time a comparison is one instruction.
fn find<const N: usize>(line: &[u8], what: &[u8; N]) -> Option<usize> {
    line.windows(N).position(|window| window == what)
}

/// SHA-256, hexadecimal.
pub(super) fn sha256(bytes: &[u8]) -> String {
    hex::encode(digest::digest(&digest::SHA256, bytes))
}

/// JSON as plain ASCII: every control character, DEL and everything beyond ASCII is `\uXXXX`.
struct Ascii;

impl Formatter for Ascii {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, out: &mut W, text: &str) -> io::Result<()> {
        let plain = |byte: &u8| matches!(byte, 0x20..=0x7e);
        if text.as_bytes().iter().all(plain) {
            return out.write_all(text.as_bytes());
        }
        let mut units = [0_u16; 2];
        for character in text.chars() {
            if matches!(character, ' '..='~') {
                out.write_all(&[character as u8])?;
            } else {
                for unit in character.encode_utf16(&mut units) {
                    write!(out, "\\u{unit:04x}")?;
                }
            }
        }
        Ok(())
    }

    fn write_char_escape<W: ?Sized + io::Write>(
        &mut self,
        out: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        let control = match escape {
            CharEscape::Quote => return out.write_all(b"\\\""),
            CharEscape::ReverseSolidus => return out.write_all(b"\\\\"),
            CharEscape::Solidus => return out.write_all(b"/"),
            CharEscape::Backspace => 0x08,
            CharEscape::FormFeed => 0x0c,
            CharEscape::LineFeed => 0x0a,
            CharEscape::CarriageReturn => 0x0d,
            CharEscape::Tab => 0x09,
            CharEscape::AsciiControl(byte) => byte,
        };
        write!(out, "\\u{control:04x}")
    }
}

/// A text as a JSON string in plain ASCII, with its quotes: safe on a line and on a terminal.
pub(super) fn quoted(text: &str) -> String {
    ascii(text).ok().and_then(|json| String::from_utf8(json).ok()).unwrap_or_default()
}

fn escaped_len(character: char) -> usize {
    match character {
        '"' | '\\' => 2,
        ' '..='~' => 1,
        other => 6 * other.len_utf16(),
    }
}

/// Cuts a text so that its escaped form has at most `limit` bytes, and says how much was cut.
fn clip(text: &str, limit: usize) -> Cow<'_, str> {
    let mut total = 0;
    let mut room = limit.saturating_sub(24);
    let mut keep = 0;
    for (at, character) in text.char_indices() {
        let length = escaped_len(character);
        total += length;
        if length <= room {
            room -= length;
            keep = at + character.len_utf8();
        } else {
            room = 0;
        }
        if total > limit {
            let kept = text.get(..keep).unwrap_or_default();
            return Cow::Owned(format!("{kept}[+{} bytes]", text.len() - kept.len()));
        }
    }
    Cow::Borrowed(text)
}

/// Cuts a list so that its escaped form has at most `limit` bytes, and says how many were cut.
fn clip_list(texts: &[String], limit: usize) -> Vec<Cow<'_, str>> {
    let mut list = Vec::with_capacity(texts.len().min(64));
    let mut room = limit.saturating_sub(32);
    for (at, text) in texts.iter().enumerate() {
        let text = clip(text, 600);
        let length = text.chars().map(escaped_len).sum::<usize>() + 3;
        if length > room {
            list.push(Cow::Owned(format!("[+{} keys]", texts.len() - at)));
            break;
        }
        room -= length;
        list.push(text);
    }
    list
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::audit::Approval;

    fn event<'a>(text: &'a str, keys: &'a [String]) -> Event<'a> {
        Event {
            action: Action::Success,
            id: text,
            subject: text,
            front: text,
            client: Some(text),
            op: text,
            effect: text,
            target: text,
            keys,
            outcome: Some(text),
            code: Some(text),
            vault_request_id: Some(text),
            approval: Some(Approval { channel: text, ticket: text }),
            durable: false,
        }
    }

    fn line(event: &Event<'_>) -> (Vec<u8>, String) {
        let now = DateTime::from_timestamp(1_700_000_000, 123_456_789).unwrap();
        Record::of(event).seal(u64::MAX, now, NO_HASH).unwrap()
    }

    #[test]
    fn a_record_has_one_spelling_and_a_hash_over_it() {
        let keys = ["A".to_owned(), "B\n".to_owned()];
        let (line, hash) = line(&Event { client: None, ..event("kv", &keys) });
        insta::assert_snapshot!(String::from_utf8(line.clone()).unwrap());
        let text = String::from_utf8(line).unwrap();
        let bare = text.trim_end().replacen(&format!("\"hash\":\"{hash}\","), "", 1);
        assert_eq!(sha256(bare.as_bytes()), hash);
    }

    #[test]
    fn a_record_is_bounded_whatever_comes_in() {
        for text in
            ["a".repeat(20_000), "\u{1f600}".repeat(20_000), "\"".repeat(20_000), "\u{7f}".repeat(20_000)]
        {
            let keys = vec![text.clone(); 3_000];
            let (line, _) = line(&event(&text, &keys));
            assert!(line.len() <= MAX_RECORD, "{}", line.len());
            let record = parse(line.trim_ascii_end()).unwrap();
            assert!(record.target.ends_with("bytes]"), "{}", record.target);
            assert!(record.keys.last().unwrap().ends_with("keys]"));
        }
    }

    #[test]
    fn a_text_within_its_limit_is_kept_whole() {
        assert_eq!(clip(&"a".repeat(128), 128), "a".repeat(128));
        assert_eq!(clip(&"a".repeat(129), 128), format!("{}[+25 bytes]", "a".repeat(104)));
        assert_eq!(clip("\u{2028}\u{2028}", 12), "\u{2028}\u{2028}");
    }

    proptest! {
        #[test]
        fn every_text_survives_as_one_line_of_printable_ascii(
            text in any::<String>(),
            keys in prop::collection::vec(any::<String>(), 0..8),
        ) {
            let (line, hash) = line(&event(&text, &keys));
            let (end, body) = line.split_last().unwrap();
            prop_assert_eq!(*end, b'\n');
            prop_assert!(body.iter().all(|byte| matches!(byte, 0x20..=0x7e)));
            prop_assert!(line.len() <= MAX_RECORD);
            let record = parse(body).unwrap();
            prop_assert_eq!(&record.hash, &hash);
            prop_assert_eq!(hash_of(body).unwrap(), hash);
            let value: serde_json::Value = serde_json::from_slice(body).unwrap();
            if text.chars().map(escaped_len).sum::<usize>() <= 32 {
                prop_assert_eq!(record.target.as_ref(), text.as_str());
                prop_assert_eq!(value["target"].as_str().unwrap(), text.as_str());
            }
        }

        #[test]
        fn a_quoted_text_is_json_for_the_same_text(text in any::<String>()) {
            let json = quoted(&text);
            prop_assert!(json.bytes().all(|byte| matches!(byte, 0x20..=0x7e)));
            prop_assert_eq!(serde_json::from_str::<String>(&json).unwrap(), text);
        }
    }
}
