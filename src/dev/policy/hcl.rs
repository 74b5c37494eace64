//! The part of HCL that policies are written in: `path "x" { key = value }`, comments, lists, objects; or
//! the same as JSON.

use serde_json::{Map, Value};

/// One `path` block.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) label: String,
    pub(super) attributes: Vec<(String, Value)>,
}

/// Reads all `path` blocks; the error says what is wrong and in which line.
pub(super) fn parse(text: &str) -> Result<Vec<Block>, String> {
    if text.trim_start().starts_with('{') {
        return json(text);
    }
    let mut reader = Reader { rest: text, line: 1 };
    let mut blocks = Vec::new();
    while let Some(token) = reader.next()? {
        match token {
            Token::Name(name) | Token::Text(name) if name == "path" => blocks.push(reader.block()?),
            Token::Name(name) | Token::Text(name) if name == "name" => {
                reader.expect(&Token::Sign('='))?;
                reader.value()?;
            }
            Token::Name(name) | Token::Text(name) => {
                return Err(format!("invalid key {name:?} on line {}", reader.line));
            }
            other => return Err(reader.unexpected(&other)),
        }
    }
    Ok(blocks)
}

fn json(text: &str) -> Result<Vec<Block>, String> {
    let root: Map<String, Value> = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let mut blocks = Vec::new();
    for (key, value) in root {
        match (key.as_str(), value) {
            ("name", _) => {}
            ("path", Value::Object(paths)) => json_blocks(paths, &mut blocks)?,
            ("path", Value::Array(items)) => {
                for item in items {
                    let Value::Object(paths) = item else {
                        return Err("\"path\" must hold objects".to_owned());
                    };
                    json_blocks(paths, &mut blocks)?;
                }
            }
            ("path", _) => return Err("\"path\" must be an object".to_owned()),
            (other, _) => return Err(format!("invalid key {other:?}")),
        }
    }
    Ok(blocks)
}

fn json_blocks(paths: Map<String, Value>, blocks: &mut Vec<Block>) -> Result<(), String> {
    for (label, rules) in paths {
        let rules = match rules {
            Value::Object(rules) => vec![rules],
            Value::Array(items) => items
                .into_iter()
                .map(|item| match item {
                    Value::Object(rules) => Ok(rules),
                    _ => Err(format!("path {label:?} must hold objects")),
                })
                .collect::<Result<_, _>>()?,
            _ => return Err(format!("path {label:?} must be an object")),
        };
        for rules in rules {
            blocks.push(Block { label: label.clone(), attributes: rules.into_iter().collect() });
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq)]
enum Token {
    Name(String),
    Text(String),
    Number(String),
    Sign(char),
}

struct Reader<'a> {
    rest: &'a str,
    line: usize,
}

impl Reader<'_> {
    fn block(&mut self) -> Result<Block, String> {
        let label = match self.next()? {
            Some(Token::Text(label)) => label,
            Some(other) => return Err(self.unexpected(&other)),
            None => return Err(self.ended()),
        };
        self.expect(&Token::Sign('{'))?;
        let attributes = self.attributes()?;
        Ok(Block { label, attributes })
    }

    /// Keys and values up to the closing brace, which is consumed.
    fn attributes(&mut self) -> Result<Vec<(String, Value)>, String> {
        let mut attributes = Vec::new();
        loop {
            match self.next()? {
                Some(Token::Sign('}')) => return Ok(attributes),
                Some(Token::Sign(',')) => {}
                Some(Token::Name(key) | Token::Text(key)) => {
                    let value = match self.next()? {
                        Some(Token::Sign('=')) => self.value()?,
                        // `key { … }` is an object too.
                        Some(Token::Sign('{')) => Value::Object(self.attributes()?.into_iter().collect()),
                        Some(other) => return Err(self.unexpected(&other)),
                        None => return Err(self.ended()),
                    };
                    attributes.push((key, value));
                }
                Some(other) => return Err(self.unexpected(&other)),
                None => return Err(self.ended()),
            }
        }
    }

    fn value(&mut self) -> Result<Value, String> {
        match self.next()? {
            Some(Token::Text(text)) => Ok(Value::String(text)),
            Some(Token::Number(number)) => serde_json::from_str(&number).map_err(|error| error.to_string()),
            Some(Token::Name(name)) if name == "true" || name == "false" => Ok(Value::Bool(name == "true")),
            Some(Token::Sign('[')) => self.items(),
            Some(Token::Sign('{')) => Ok(Value::Object(self.attributes()?.into_iter().collect())),
            Some(other) => Err(self.unexpected(&other)),
            None => Err(self.ended()),
        }
    }

    fn items(&mut self) -> Result<Value, String> {
        let mut items = Vec::new();
        loop {
            self.skip()?;
            if let Some(rest) = self.rest.strip_prefix(']') {
                self.rest = rest;
                return Ok(Value::Array(items));
            }
            items.push(self.value()?);
            match self.next()? {
                Some(Token::Sign(',')) => {}
                Some(Token::Sign(']')) => return Ok(Value::Array(items)),
                Some(other) => return Err(self.unexpected(&other)),
                None => return Err(self.ended()),
            }
        }
    }

    fn expect(&mut self, wanted: &Token) -> Result<(), String> {
        match self.next()? {
            Some(found) if found == *wanted => Ok(()),
            Some(other) => Err(self.unexpected(&other)),
            None => Err(self.ended()),
        }
    }

    fn next(&mut self) -> Result<Option<Token>, String> {
        self.skip()?;
        let Some(first) = self.rest.chars().next() else { return Ok(None) };
        if first == '"' {
            return self.text().map(|text| Some(Token::Text(text)));
        }
        if first.is_ascii_digit() || first == '-' {
            let taken = self.take(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '+'));
            return Ok(Some(Token::Number(taken)));
        }
        if first.is_alphabetic() || first == '_' {
            let taken = self.take(|c| c.is_alphanumeric() || matches!(c, '_' | '-' | '.'));
            return Ok(Some(Token::Name(taken)));
        }
        if matches!(first, '{' | '}' | '[' | ']' | '=' | ',') {
            self.rest = self.rest.get(1..).unwrap_or_default();
            return Ok(Some(Token::Sign(first)));
        }
        Err(format!("illegal character {first:?} on line {}", self.line))
    }

    fn take(&mut self, wanted: impl Fn(char) -> bool) -> String {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken.to_owned()
    }

    /// A quoted text on one line, with JSON's escapes.
    fn text(&mut self) -> Result<String, String> {
        let mut escaped = false;
        let end = self.rest.char_indices().skip(1).find_map(|(at, c)| {
            if escaped {
                escaped = false;
                return None;
            }
            escaped = c == '\\';
            (c == '"' || c == '\n').then_some((at, c))
        });
        match end {
            Some((at, '"')) => {
                let (quoted, rest) = self.rest.split_at(at + 1);
                self.rest = rest;
                serde_json::from_str(quoted).map_err(|_| format!("bad escape in text on line {}", self.line))
            }
            _ => Err(format!("literal not terminated on line {}", self.line)),
        }
    }

    /// Skips white space and comments.
    fn skip(&mut self) -> Result<(), String> {
        loop {
            let trimmed = self.rest.trim_start();
            self.count_lines(self.rest.len() - trimmed.len());
            self.rest = trimmed;
            if trimmed.starts_with('#') || trimmed.starts_with("//") {
                self.rest = trimmed.split_once('\n').map_or("", |(_, rest)| rest);
                self.line += 1;
            } else if let Some(comment) = trimmed.strip_prefix("/*") {
                let Some(end) = comment.find("*/") else {
                    return Err(format!("comment not terminated on line {}", self.line));
                };
                self.count_lines(end + 4);
                self.rest = comment.get(end + 2..).unwrap_or_default();
            } else {
                return Ok(());
            }
        }
    }

    fn count_lines(&mut self, bytes: usize) {
        self.line += self.rest.bytes().take(bytes).filter(|byte| *byte == b'\n').count();
    }

    fn unexpected(&self, token: &Token) -> String {
        let text = match token {
            Token::Name(text) | Token::Number(text) => text.clone(),
            Token::Text(text) => format!("{text:?}"),
            Token::Sign(sign) => sign.to_string(),
        };
        format!("unexpected {text} on line {}", self.line)
    }

    fn ended(&self) -> String {
        format!("object not terminated on line {}", self.line)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_lists_and_objects_are_read() {
        let blocks = parse(
            "# one\n// two\n/* three\n*/ path \"a\\\"b\" {\n capabilities = [\"read\", \"list\",]\n x { y = 1, z = true }\n}\nname = \"p\"\npath \"c\" {}",
        )
        .unwrap();
        assert_eq!(blocks.len(), 2);
        assert_eq!(blocks[0].label, "a\"b");
        assert_eq!(blocks[0].attributes[0].1, serde_json::json!(["read", "list"]));
        assert_eq!(blocks[0].attributes[1].1, serde_json::json!({ "y": 1, "z": true }));
    }

    #[test]
    fn a_fault_names_its_line() {
        assert!(parse("path \"a\" {\n\n  capabilities = [}\n}").unwrap_err().contains("line 3"));
        assert!(parse("path \"a").unwrap_err().contains("not terminated"));
    }
}
