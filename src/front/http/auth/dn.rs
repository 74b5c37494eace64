//! Distinguished names as text: RFC 4514, and RFC 2253 before it, as TLS proxies put a certificate's subject into
//! a header.
//!
//! Strict, because a reader that is generous can be told another name than the one that was certified: readers that
//! take `/` or `;` for a separator see a second attribute in `O=x/CN=admin`, where there is one organisation of
//! that name. What this module does not do: know which attributes there are.

/// An attribute of a name.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Attribute {
    /// As it was written: `CN`, `2.5.4.3`.
    pub(super) kind: String,
    /// Nothing for a value in hexadecimal, which stands for another type than text.
    pub(super) value: Option<String>,
}

/// The attributes of a name, in the order of the text, those that share a level included.
///
/// # Errors
/// The rule that the text breaks.
pub(super) fn parse(text: &str) -> Result<Vec<Attribute>, &'static str> {
    let mut attributes = Vec::new();
    let mut rest = text;
    loop {
        let (attribute, after) = attribute(rest)?;
        attributes.push(attribute);
        let mut characters = after.chars();
        match characters.next() {
            None => return Ok(attributes),
            // Spaces after a separator are how some write lists, and belong to neither side.
            Some(',' | '+') => rest = characters.as_str().trim_start_matches(' '),
            Some(_) => return Err("a value holds a character that must be escaped"),
        }
    }
}

fn attribute(text: &str) -> Result<(Attribute, &str), &'static str> {
    let (kind, value) = text.split_once('=').ok_or("there is no attribute and value")?;
    let fits = kind.starts_with(|first: char| first.is_ascii_alphanumeric())
        && kind.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'.');
    if !fits {
        return Err("the name of an attribute is none");
    }
    let kind = kind.to_owned();
    if let Some(hex) = value.strip_prefix('#') {
        let end = hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len());
        let (digits, after) = hex.split_at(end);
        if digits.is_empty() || !digits.len().is_multiple_of(2) {
            return Err("a hexadecimal value is none");
        }
        return Ok((Attribute { kind, value: None }, after));
    }
    let (value, after) = string(value)?;
    Ok((Attribute { kind, value: Some(value) }, after))
}

/// A value up to the next separator, unescaped.
fn string(text: &str) -> Result<(String, &str), &'static str> {
    let mut bytes: Vec<u8> = Vec::new();
    let mut characters = text.char_indices();
    let mut ends_in_a_space = false;
    let mut end = text.len();
    while let Some((at, character)) = characters.next() {
        match character {
            ',' | '+' => {
                end = at;
                break;
            }
            '"' | ';' | '<' | '>' | '\0' => return Err("a value holds a character that must be escaped"),
            ' ' if bytes.is_empty() => return Err("a value begins with a bare space"),
            '\\' => {
                let (_, escaped) = characters.next().ok_or("an escape has no end")?;
                match escaped {
                    ' ' | '"' | '#' | '+' | ',' | ';' | '<' | '=' | '>' | '\\' => {
                        bytes.extend_from_slice(escaped.encode_utf8(&mut [0; 4]).as_bytes());
                    }
                    high => {
                        let low = characters.next().map(|(_, low)| low).ok_or("an escape has no end")?;
                        let byte = high.to_digit(16).zip(low.to_digit(16)).map(|(high, low)| high << 4 | low);
                        bytes.push(byte.and_then(|byte| u8::try_from(byte).ok()).ok_or("an escape is none")?);
                    }
                }
                ends_in_a_space = false;
                continue;
            }
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
        ends_in_a_space = character == ' ';
    }
    if ends_in_a_space {
        return Err("a value ends with a bare space");
    }
    let value = String::from_utf8(bytes).map_err(|_| "a value is no UTF-8")?;
    Ok((value, text.get(end..).unwrap_or_default()))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn values(text: &str) -> Vec<(String, String)> {
        let one = |attribute: Attribute| (attribute.kind, attribute.value.unwrap());
        parse(text).unwrap().into_iter().map(one).collect()
    }

    fn pair(kind: &str, value: &str) -> (String, String) {
        (kind.to_owned(), value.to_owned())
    }

    #[test]
    fn the_examples_of_the_rfc_are_read_as_it_says() {
        assert_eq!(
            values("UID=jsmith,DC=example,DC=net"),
            [pair("UID", "jsmith"), pair("DC", "example"), pair("DC", "net")]
        );
        assert_eq!(
            values("OU=Sales+CN=J.  Smith,DC=example"),
            [pair("OU", "Sales"), pair("CN", "J.  Smith"), pair("DC", "example")]
        );
        assert_eq!(values(r#"CN=James \"Jim\" Smith\, III"#), [pair("CN", r#"James "Jim" Smith, III"#)]);
        assert_eq!(values(r"CN=Before\0dAfter"), [pair("CN", "Before\rAfter")]);
        assert_eq!(values(r"CN=Lu\C4\8Di\C4\87"), [pair("CN", "Lu\u{10d}i\u{107}")]);
        assert_eq!(
            parse("1.3.6.1.4.1.1466.0=#04024869,CN=a").unwrap()[0],
            Attribute { kind: "1.3.6.1.4.1.1466.0".into(), value: None }
        );
    }

    #[test]
    fn a_separator_of_other_notations_is_part_of_the_value_or_refused() {
        assert_eq!(values("O=x/CN=admin,CN=alice"), [pair("O", "x/CN=admin"), pair("CN", "alice")]);
        assert_eq!(values(r"O=CN=admin,CN=alice"), [pair("O", "CN=admin"), pair("CN", "alice")]);
        assert_eq!(values(r"O=x\,CN=admin,CN=alice"), [pair("O", "x,CN=admin"), pair("CN", "alice")]);
        assert_eq!(values(r"O=x\2cCN\3dadmin,CN=alice"), [pair("O", "x,CN=admin"), pair("CN", "alice")]);
        assert_eq!(values(r"CN=a\+b"), [pair("CN", "a+b")]);
        for text in ["O=x;CN=admin", "CN=\"alice\"", "CN=<alice>", "/CN=alice", "/C=DE/CN=alice"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for text in [
            "",
            "alice",
            ",",
            "CN=alice,",
            "CN=alice,,O=x",
            "=alice",
            " CN=alice",
            "C N=alice",
            "CN= alice",
            "CN=alice ",
            "CN=alice ,O=x",
            r"CN=alice\",
            r"CN=alice\0",
            r"CN=alice\zz",
            r"CN=\ff",
            "CN=#",
            "CN=#0",
            "CN=#0g",
            "CN=#04024869x",
        ] {
            assert!(parse(text).is_err(), "{text:?} is read");
        }
        assert_eq!(values("CN=,O=x"), [pair("CN", ""), pair("O", "x")]);
        assert_eq!(values(r"CN=\ a\ "), [pair("CN", " a ")]);
        assert_eq!(values("CN=a, O=b"), [pair("CN", "a"), pair("O", "b")]);
    }

    proptest! {
        /// Every byte escaped: no value can reach beyond its own attribute.
        #[test]
        fn an_escaped_value_comes_back_and_stays_alone(value in "\\PC{1,30}") {
            let escaped: String = value.bytes().map(|byte| format!("\\{byte:02X}")).collect();
            prop_assert_eq!(values(&format!("O={escaped},CN=alice")), [pair("O", &value), pair("CN", "alice")]);
        }

        #[test]
        fn no_text_makes_it_panic(text in any::<String>()) {
            let _ = parse(&text);
        }
    }
}
