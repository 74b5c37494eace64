//! What every attack is judged by.

use std::{collections::HashSet, path::Path};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::Value;

use super::{
    ToolResult,
    proxy::{Proxy, Sent},
    unique,
};

/// The mark at the head of every secret value in the tests. Its length is a multiple of three, so that it is
/// found again in base64, wherever the value itself began the encoded text.
pub const CANARY: &str = "kanarienvogel7f3a_";

/// A secret value that no other test uses and that no output may hold.
pub fn canary(name: &str) -> String {
    format!("{CANARY}{}", unique(name))
}

/// Fails when these bytes hold a canary: plain, in base64, in hex, or backwards.
#[track_caller]
pub fn assert_no_canary(bytes: impl AsRef<[u8]>, place: &str) {
    let text = String::from_utf8_lossy(bytes.as_ref());
    let shapes = [
        ("plain", CANARY.to_owned()),
        ("base64", STANDARD.encode(CANARY)),
        ("hex", hex::encode(CANARY)),
        ("backwards", CANARY.chars().rev().collect()),
    ];
    for (shape, needle) in shapes {
        if let Some(at) = text.to_ascii_lowercase().find(&needle.to_ascii_lowercase()) {
            // The text around it, cut where characters begin.
            let from = (0..=at.saturating_sub(200)).rev().find(|index| text.is_char_boundary(*index));
            let to = (at + 200..text.len()).find(|index| text.is_char_boundary(*index));
            let around = &text[from.unwrap_or(0)..to.unwrap_or(text.len())];
            panic!("a secret ({shape}) stands in {place}: …{around}…");
        }
    }
}

/// The call was refused as it should be: an error, as text only (a structured error breaks some clients), that
/// begins with its stable code, says the fault and the remedy, and holds no secret.
#[track_caller]
pub fn assert_refused(result: &ToolResult, code: &str) {
    let raw = &result.0;
    assert_eq!(raw["isError"], true, "the call was not refused: {raw}");
    assert!(raw.get("structuredContent").is_none(), "a structured error: {raw}");
    let content = raw["content"].as_array().unwrap_or_else(|| panic!("no content: {raw}"));
    assert!(!content.is_empty(), "an error without a word: {raw}");
    assert!(content.iter().all(|block| block["type"] == "text"), "not only text: {raw}");
    assert_no_canary(raw.to_string(), "an error");
    let text = result.text();
    assert_eq!(result.code(), code, "another error than expected: {text}");
    let told = text.split_once(": ").map_or("", |(_, told)| told);
    assert!(told.contains(". "), "a fault without a remedy: {text}");
}

/// What `attack` does, the Vault behind the proxy never hears of.
#[track_caller]
pub fn assert_untouched<T>(proxy: &Proxy, attack: impl FnOnce() -> T) -> T {
    let before = proxy.count();
    let result = attack();
    let sent: Vec<_> = heard_since(proxy, before).iter().map(Sent::line).collect();
    assert!(sent.is_empty(), "Vault heard of it: {sent:?}");
    result
}

/// What the Vault behind the proxy heard after so many requests. Not counted are one look at a token and one
/// renewal of it, if it had been used before: the product sees to the life of a token by itself, after its first
/// use, whenever that comes.
pub fn heard_since(proxy: &Proxy, before: usize) -> Vec<Sent> {
    let mut earlier = proxy.requests();
    let mut later = earlier.split_off(before);
    let token = |sent: &Sent| sent.header("x-vault-token").map(str::to_owned);
    let used: HashSet<_> = earlier.iter().filter_map(token).collect();
    let mut watched = HashSet::new();
    later.retain(|sent| {
        let of_watch = ["/lookup-self", "/renew-self"].into_iter().find(|end| sent.target.ends_with(end));
        match (of_watch, token(sent)) {
            (Some(end), Some(token)) if used.contains(&token) => !watched.insert((end, token)),
            _ => true,
        }
    });
    later
}

/// The records of an audit log, in order. A line that is no JSON fails the test.
#[track_caller]
pub fn audit_records(path: impl AsRef<Path>) -> Vec<Value> {
    let path = path.as_ref();
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let parse = |line: &str| {
        serde_json::from_str(line).unwrap_or_else(|error| panic!("a record that is no JSON: {error}: {line}"))
    };
    text.lines().map(parse).collect()
}

/// The records of one operation.
#[track_caller]
pub fn records_of(path: impl AsRef<Path>, operation: &str) -> Vec<Value> {
    audit_records(path).into_iter().filter(|record| record["op"] == operation).collect()
}
