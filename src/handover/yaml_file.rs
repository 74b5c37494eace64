//! YAML files: single scalars are replaced in their lines, so that comments and order stay. What the edit did is
//! then checked by a parser: exactly the wanted values changed, or nothing is written.
//!
//! Keys stand at the top level of the file. Where the file has placeholders (`${KEY}` or `secretref://…` as a
//! whole value, at any depth), those are filled instead, and nothing is added.
//!
//! Values are written as JSON, which YAML 1.1 and 1.2 read alike once what JSON leaves bare and YAML does not
//! print is escaped (YAML 1.2.2, 5.1 and 5.7).

use serde_json::{Map, Value};
use yaml_serde::{Number, Value as Yaml};
use zeroize::Zeroizing;

use crate::{error::Error, names::shown, secret::REFERENCE_SCHEME};

/// A file with its new values.
pub struct Merged {
    /// The new text.
    pub text: Zeroizing<String>,
    /// Keys that were not there.
    pub added: Vec<String>,
    /// Keys whose value was replaced, at the top or in a placeholder.
    pub changed: Vec<String>,
    /// Keys for which the file has no place.
    pub unplaced: Vec<String>,
}

fn refused(fault: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::FileRefused { fault: fault.into() }
}

/// Puts values into a file. `resolve` tells which key a text stands for, if it is a placeholder.
///
/// # Errors
/// `file_refused` for a file that cannot be edited with certainty, `not_carried` with the keys that cannot be
/// written.
pub fn merge(
    file: &str,
    values: &Map<String, Value>,
    resolve: &dyn Fn(&str) -> Option<String>,
) -> Result<Merged, Error> {
    let old =
        parse(file).ok_or_else(|| refused("it is not YAML of one document, or a key stands in it twice"))?;
    if !matches!(old, Yaml::Mapping(_) | Yaml::Null) {
        return Err(refused("its top level is no mapping of names to values"));
    }
    let mut written = Map::new();
    let mut faults = Vec::new();
    for (key, value) in values {
        match scalar(value) {
            Ok(text) => {
                written.insert(key.clone(), Value::String(text));
            }
            Err(why) => faults.push(format!("{} ({why})", shown(key, 64))),
        }
    }
    if !faults.is_empty() {
        return Err(Error::NotCarried { keys: faults.join(", ") });
    }
    let text_of = |key: &str| written.get(key).and_then(Value::as_str).unwrap_or_default();

    let mut used = Vec::new();
    let filled = fill(&old, values, resolve, &mut used);
    let has_placeholders = !used.is_empty();
    let mut expected = filled;
    let mut text = Zeroizing::new(String::with_capacity(file.len() + 1024));
    let (mut changed, mut at_top) = (Vec::new(), Vec::new());
    let mut lines = file.split_inclusive('\n').peekable();
    // Lines deeper than this belong to a block of text and are no YAML.
    let mut block: Option<usize> = None;
    while let Some(line) = lines.next() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        if block.is_some_and(|above| line.trim().is_empty() || indent > above) {
            text.push_str(line);
            continue;
        }
        block = None;
        let Some(spot) = Spot::of(line) else {
            text.push_str(line);
            continue;
        };
        let found = resolve(&spot.plain()).filter(|key| values.contains_key(key));
        let top = spot.top.clone().filter(|name| values.contains_key(name) && !at_top.contains(name));
        let Some(key) = found.or(top.clone()) else {
            if spot.opens_block {
                block = Some(spot.depth);
            }
            text.push_str(line);
            continue;
        };
        if top.as_ref() == Some(&key) {
            let before = old.get(key.as_str());
            if matches!(before, Some(Yaml::Mapping(_) | Yaml::Sequence(_) | Yaml::Tagged(_))) {
                return Err(refused(format!("{} is a structure in it, no single value", shown(&key, 64))));
            }
            at_top.push(key.clone());
        }
        text.push_str(spot.before);
        if spot.value.is_empty() {
            text.push(' ');
        }
        text.push_str(text_of(&key));
        text.push_str(spot.after);
        if spot.opens_block {
            // The old text goes with its value.
            while lines.peek().is_some_and(|next| {
                let deeper = next.len() - next.trim_start_matches(' ').len() > spot.depth;
                deeper || (next.trim().is_empty() && spot.depth == 0)
            }) {
                lines.next();
            }
        }
        if !changed.contains(&key) {
            changed.push(key);
        }
    }

    let mut added = Vec::new();
    let mut unplaced = Vec::new();
    for key in values.keys().filter(|key| !changed.contains(key)) {
        if has_placeholders {
            unplaced.push(key.clone());
            continue;
        }
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        for part in [&name(key), ": ", text_of(key), "\n"] {
            text.push_str(part);
        }
        added.push(key.clone());
    }

    if let Yaml::Null = expected {
        expected = Yaml::Mapping(yaml_serde::Mapping::new());
    }
    if let Yaml::Mapping(map) = &mut expected {
        for key in at_top.iter().chain(&added) {
            let value = values.get(key).map_or(Yaml::Null, yaml);
            map.insert(Yaml::String(key.clone()), value);
        }
    }
    // Two readers of the same text can be no more sure than this one; what it does not confirm is not written.
    let confirmed = parse(&text).is_some_and(|read| {
        read == expected
            || (matches!(read, Yaml::Null) && expected == Yaml::Mapping(yaml_serde::Mapping::new()))
    });
    if !confirmed {
        return Err(refused(
            "it cannot be edited line by line with certainty (values over several lines, flow style, or anchors)",
        ));
    }
    Ok(Merged { text, added, changed, unplaced })
}

/// The one document of a text.
#[must_use]
pub fn parse(text: &str) -> Option<Yaml> {
    if text.trim().is_empty() {
        return Some(Yaml::Null);
    }
    yaml_serde::from_str(text).ok()
}

/// Where a tree holds references to secrets: the names that lead there, joined by dots.
#[must_use]
pub fn references(tree: &Yaml) -> Vec<String> {
    fn walk(tree: &Yaml, path: &str, found: &mut Vec<String>) {
        let below = |name: &str| if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        match tree {
            Yaml::String(text) if text.starts_with(REFERENCE_SCHEME) => found.push(path.to_owned()),
            Yaml::Sequence(items) => {
                items.iter().enumerate().for_each(|(at, item)| walk(item, &below(&at.to_string()), found));
            }
            Yaml::Mapping(map) => {
                for (key, item) in map {
                    walk(item, &below(key.as_str().unwrap_or("?")), found);
                }
            }
            _ => {}
        }
    }
    let mut found = Vec::new();
    walk(tree, "", &mut found);
    found
}

/// The tree with every placeholder replaced by its value; `used` gets their keys.
fn fill(
    tree: &Yaml,
    values: &Map<String, Value>,
    resolve: &dyn Fn(&str) -> Option<String>,
    used: &mut Vec<String>,
) -> Yaml {
    match tree {
        Yaml::String(text) => match resolve(text).and_then(|key| Some((values.get(&key)?, key))) {
            Some((value, key)) => {
                used.push(key);
                yaml(value)
            }
            None => tree.clone(),
        },
        Yaml::Sequence(items) => {
            Yaml::Sequence(items.iter().map(|item| fill(item, values, resolve, used)).collect())
        }
        Yaml::Mapping(map) => Yaml::Mapping(
            map.iter().map(|(key, item)| (key.clone(), fill(item, values, resolve, used))).collect(),
        ),
        other => other.clone(),
    }
}

/// What YAML reads where JSON has this value.
fn yaml(value: &Value) -> Yaml {
    match value {
        Value::Null => Yaml::Null,
        Value::Bool(flag) => Yaml::Bool(*flag),
        Value::Number(number) => {
            let whole = number.as_i64().map(Number::from).or_else(|| number.as_u64().map(Number::from));
            whole.or_else(|| number.as_f64().map(Number::from)).map_or(Yaml::Null, Yaml::Number)
        }
        Value::String(text) => Yaml::String(text.clone()),
        Value::Array(items) => Yaml::Sequence(items.iter().map(yaml).collect()),
        Value::Object(map) => {
            Yaml::Mapping(map.iter().map(|(key, item)| (Yaml::String(key.clone()), yaml(item))).collect())
        }
    }
}

/// A value on one line.
fn scalar(value: &Value) -> Result<String, &'static str> {
    Ok(match value {
        Value::Null => "null".to_owned(),
        Value::Bool(flag) => flag.to_string(),
        Value::Number(number) => self::number(&number.to_string())?,
        Value::String(text) => quoted(text),
        Value::Array(items) => {
            format!("[{}]", items.iter().map(scalar).collect::<Result<Vec<_>, _>>()?.join(", "))
        }
        Value::Object(map) => {
            let one = |(key, item): (&String, &Value)| Ok(format!("{}: {}", quoted(key), scalar(item)?));
            format!("{{{}}}", map.iter().map(one).collect::<Result<Vec<_>, &'static str>>()?.join(", "))
        }
    })
}

/// A number as YAML 1.1 and 1.2 both read it: the former knows an exponent only behind a point and with a sign.
fn number(text: &str) -> Result<String, &'static str> {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let digits = |text: &str| text.bytes().filter(u8::is_ascii_digit).count();
    if digits(mantissa) > 17
        || (exponent.is_none() && !mantissa.contains('.') && text.parse::<i64>().is_err())
    {
        return Err("a number of more digits than readers keep");
    }
    Ok(match exponent {
        None => mantissa.to_owned(),
        Some(exponent) => {
            let point = if mantissa.contains('.') { "" } else { ".0" };
            let sign = if exponent.starts_with(['+', '-']) { "" } else { "+" };
            format!("{mantissa}{point}e{sign}{exponent}")
        }
    })
}

/// A text as JSON writes it, with everything escaped that YAML does not print.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{0}'..='\u{1f}'
            | '\u{7f}'..='\u{9f}'
            | '\u{2028}'
            | '\u{2029}'
            | '\u{feff}'
            | '\u{fffe}'
            | '\u{ffff}' => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// A key on the top level: bare where nobody could read anything else.
fn name(key: &str) -> String {
    const WORDS: &[&str] = &["y", "n", "yes", "no", "on", "off", "true", "false", "null"];
    let plain = key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
        && !WORDS.contains(&key.to_ascii_lowercase().as_str());
    if plain { key.to_owned() } else { quoted(key) }
}

/// A scalar in a line of block style: `key: value` or `- value`.
struct Spot<'a> {
    /// Everything up to the value.
    before: &'a str,
    /// The value as it stands there.
    value: &'a str,
    /// Blanks, a comment, the line break.
    after: &'a str,
    /// The key, when it stands at the very start of the line.
    top: Option<String>,
    /// The column of the innermost key or dash.
    depth: usize,
    /// The value is text on the lines below.
    opens_block: bool,
}

impl<'a> Spot<'a> {
    fn of(line: &'a str) -> Option<Self> {
        let bare = line.trim_end_matches(['\n', '\r']);
        let mut at = bare.len() - bare.trim_start_matches(' ').len();
        let rest = |at: usize| bare.get(at..).unwrap_or_default();
        if rest(at).is_empty()
            || rest(at).starts_with(['#', '%', '?'])
            || bare.starts_with("---")
            || bare.starts_with("...")
        {
            return None;
        }
        let mut depth = at;
        let mut is_item = false;
        while rest(at).starts_with("- ") {
            depth = at;
            is_item = true;
            at += 1 + rest(at + 1).len() - rest(at + 1).trim_start_matches(' ').len();
        }
        let mut top = None;
        if let Some((key, length)) = key_of(rest(at)) {
            top = (at == 0).then_some(key);
            depth = at;
            at += length;
        } else if !is_item {
            return None;
        }
        let blanks = rest(at).len() - rest(at).trim_start_matches([' ', '\t']).len();
        let empty = rest(at).trim().is_empty() || rest(at).trim_start().starts_with('#');
        at += if empty { 0 } else { blanks };
        // A name for the value, to be repeated elsewhere, stays.
        if rest(at).starts_with('&') {
            let length = rest(at).find(' ')?;
            at += length;
            at += rest(at).len() - rest(at).trim_start_matches(' ').len();
        }
        if empty {
            // Nothing there: no value, or a structure on the lines below, which the parser tells.
            let before = line.get(..at)?;
            let after = line.get(at..)?;
            return Some(Self { before, value: "", after, top, depth, opens_block: false });
        }
        let length = scalar_length(rest(at))?;
        let value = rest(at).get(..length)?;
        let opens_block = value.starts_with(['|', '>']);
        Some(Self {
            before: line.get(..at)?,
            value,
            after: line.get(at + length..)?,
            top,
            depth,
            opens_block,
        })
    }

    /// The text that the value stands for, where it is a simple one.
    fn plain(&self) -> String {
        let inner = |quote: char| self.value.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
        inner('"').or_else(|| inner('\'')).unwrap_or(self.value).to_owned()
    }
}

/// The key at the start of a text, and the bytes up to and with its colon.
fn key_of(text: &str) -> Option<(String, usize)> {
    let (key, length) = match text.chars().next()? {
        quote @ ('"' | '\'') => {
            let length = scalar_length(text)?;
            let inner = text.get(1..length.checked_sub(1)?)?;
            let key = if quote == '"' {
                serde_json::from_str(text.get(..length)?).ok()?
            } else {
                inner.replace("''", "'")
            };
            (key, length)
        }
        '[' | '{' | '&' | '*' | '!' | '|' | '>' | '#' | '@' | '`' => return None,
        _ => {
            let length = text.match_indices(':').map(|(at, _)| at).find(|at| {
                text.get(at + 1..).is_some_and(|rest| rest.is_empty() || rest.starts_with([' ', '\t']))
            })?;
            let key = text.get(..length)?;
            if key.contains(" #") {
                return None;
            }
            (key.trim_end().to_owned(), length)
        }
    };
    let colon = text.get(length..)?.trim_start_matches(' ');
    let after = colon.strip_prefix(':')?;
    (after.is_empty() || after.starts_with([' ', '\t'])).then_some((key, text.len() - after.len()))
}

/// How long the scalar at the start of a text is; `None` when it does not end on this line.
fn scalar_length(text: &str) -> Option<usize> {
    match text.chars().next()? {
        '"' => {
            let mut escaped = false;
            for (at, c) in text.char_indices().skip(1) {
                match c {
                    '"' if !escaped => return Some(at + 1),
                    '\\' => escaped = !escaped,
                    _ => escaped = false,
                }
            }
            None
        }
        '\'' => {
            let mut rest = text.char_indices().skip(1).peekable();
            while let Some((at, c)) = rest.next() {
                if c == '\'' {
                    if rest.peek().is_some_and(|(_, next)| *next == '\'') {
                        rest.next();
                    } else {
                        return Some(at + 1);
                    }
                }
            }
            None
        }
        _ => {
            let comment = text
                .match_indices('#')
                .map(|(at, _)| at)
                .find(|at| text.get(..*at).is_some_and(|before| before.ends_with([' ', '\t'])));
            Some(text.get(..comment.unwrap_or(text.len()))?.trim_end().len())
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn placeholder(text: &str) -> Option<String> {
        let inner = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        inner.map(str::to_owned)
    }

    fn put(file: &str, values: Value) -> Result<Merged, Error> {
        merge(file, values.as_object().unwrap(), &placeholder)
    }

    #[test]
    fn top_level_keys_change_in_place_and_new_ones_stand_at_the_end() {
        let file = "# settings\nhost: db # the main one\n\n\"DB\": 'old' # kept\nnested:\n  DB: other\nEMPTY:\nPEM: |\n  -----\n  DB: x\n\nlast: 1";
        let merged =
            put(file, json!({"DB": "new: #1", "EMPTY": 5, "PEM": "a\nb", "NEW": "no", "no": true})).unwrap();
        assert_eq!(
            merged.text.as_str(),
            "# settings\nhost: db # the main one\n\n\"DB\": \"new: #1\" # kept\nnested:\n  DB: other\nEMPTY: 5\nPEM: \"a\\nb\"\nlast: 1\nNEW: \"no\"\n\"no\": true\n"
        );
        assert_eq!((merged.changed.len(), merged.added), (3, vec!["NEW".to_owned(), "no".to_owned()]));
    }

    #[test]
    fn placeholders_are_filled_at_any_depth_and_nothing_is_added() {
        let file = "services:\n  web:\n    environment:\n      DB: &db ${DB} # here\n      TWO: *db\n    list:\n      - \"${API}\"\n      - name: '${API}'\n    note: |\n      DB: ${DB}\n      stays\n";
        let merged = put(file, json!({"DB": "it's \"x\"", "API": [1, "two"], "MORE": "x"})).unwrap();
        assert_eq!(
            merged.text.as_str(),
            file.replacen("${DB}", "\"it's \\\"x\\\"\"", 1)
                .replace("\"${API}\"", "[1, \"two\"]")
                .replace("'${API}'", "[1, \"two\"]")
        );
        assert_eq!(merged.unplaced, ["MORE"]);
        assert!(merged.added.is_empty());
    }

    #[test]
    fn what_cannot_be_edited_with_certainty_is_refused() {
        for file in [
            "{DB: old}\n",
            "- DB\n",
            "DB: 'over\n  lines'\n",
            "DB: over\n  lines\n",
            "DB:\n  a: 1\n",
            "DB: [1]\n",
            "DB: !mine 1\n",
            "a: {b: \"${DB}\"}\n",
            "? DB\n: old\n",
            "a: 1\n---\nb: 2\n",
            "a: 1\na: 2\n",
            "a: [\n",
            "a: 1\n...\n",
            "text",
        ] {
            let error = put(file, json!({"DB": "canary"})).err();
            let error = error.unwrap_or_else(|| panic!("{file:?} was accepted"));
            assert_eq!(error.code(), "file_refused", "{file:?}: {error}");
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }

    #[test]
    fn numbers_are_written_for_old_and_new_readers() {
        for (number_in, text) in
            [("1e21", "1.0e+21"), ("1.5E-7", "1.5e-7"), ("5432", "5432"), ("1.10", "1.10"), ("-0", "-0")]
        {
            assert_eq!(number(number_in).as_deref(), Ok(text));
        }
        assert!(number("12345678901234567890").is_err() && number("0.123456789012345678").is_err());
    }

    #[test]
    fn an_expanding_bomb_ends_soon() {
        let mut bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
        for level in 1..12 {
            let item = format!("*a{}", level - 1);
            bomb.push_str(&format!("a{level}: &a{level} [{}]\n", vec![item; 10].join(", ")));
        }
        let start = std::time::Instant::now();
        assert!(put(&bomb, json!({"DB": "x"})).is_err());
        assert!(put(&format!("{}1{}", "[".repeat(20_000), "]".repeat(20_000)), json!({"DB": "x"})).is_err());
        assert!(start.elapsed().as_secs() < 60, "{:?}", start.elapsed());
    }

    proptest! {
        #[test]
        fn any_text_is_read_back_as_it_was(key in "\\PC{1,10}", value in any::<String>(), top: bool) {
            let file = if top { "# c\na: 1 # d\nB: old\n" } else { "a: \"${B}\" # c\n" };
            let mut values = Map::from_iter([("B".to_owned(), Value::from(value.as_str()))]);
            if top {
                values.insert(key, Value::from(value));
            }
            let merged = merge(file, &values, &placeholder).unwrap();
            prop_assert!(merged.text.contains("# c\n"));
        }

        #[test]
        fn any_file_is_edited_rightly_or_refused(file in "((  )?(- )?([a-dB]: )?('?[a-z#]{0,4}'?|\\$\\{B\\}|\\||\"x\")( #[a-z]{0,3})?\n){0,6}") {
            // The check inside is the promise; what must not happen is a panic.
            let _ = put(&file, json!({"B": "x\ny"}));
        }
    }
}
