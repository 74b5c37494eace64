//! A file without its values: what may be shown to anybody and committed. Nothing that could be a value is kept,
//! whatever it looks like: secrets become references, everything else becomes empty.

use yaml_serde::{Mapping, Value as Yaml};

use super::{
    dialect::Dialect,
    env_file::{Piece, pieces},
    looks,
};
use crate::error::Error;

/// How an entry with a secret is written, and which names the secret store has.
pub struct Names<'a> {
    /// True for a key of the service.
    pub stored: &'a dyn Fn(&str) -> bool,
    /// The reference that stands for a key.
    pub reference: &'a dyn Fn(&str) -> String,
}

/// The example and the names that have a reference in it.
#[derive(Debug)]
pub struct Example {
    /// The text.
    pub text: String,
    /// Names with a reference.
    pub referenced: Vec<String>,
    /// Lines that were left out, for they are no entries and could be anything.
    pub left_out: usize,
}

impl Names<'_> {
    /// The reference for an entry, where it is one of a secret.
    fn of(&self, name: &str, value: Option<&str>, used: &mut Vec<String>) -> Option<String> {
        let is_one =
            (self.stored)(name) || looks::secret(name, value).is_some() || looks::is_secret_name(name);
        is_one.then(|| {
            if !used.iter().any(|known| known == name) {
                used.push(name.to_owned());
            }
            (self.reference)(name)
        })
    }
}

/// True for what may be shown as a name: the rest of an unquoted key or certificate looks like one to a reader.
#[must_use]
pub fn is_name(name: &str) -> bool {
    let fits = (1..=128).contains(&name.len())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'));
    fits && looks::shape(name).is_none()
}

/// The example of a `.env` file.
#[must_use]
pub fn env(file: &str, names: &Names<'_>) -> Example {
    let file = file.strip_prefix('\u{feff}').unwrap_or(file);
    let pieces = pieces(file, Dialect::Python);
    let values: Vec<_> = pieces
        .iter()
        .filter_map(|piece| match piece {
            Piece::Entry(entry) => Some(entry.value()),
            _ => None,
        })
        .filter(|value| value.len() >= 4)
        .collect();
    let mut example = Example { text: String::new(), referenced: Vec::new(), left_out: 0 };
    for piece in &pieces {
        match piece {
            Piece::Other(line) => {
                let bare = line.trim();
                if bare.is_empty() {
                    example.text.push('\n');
                } else if let Some(comment) = bare.strip_prefix('#') {
                    match self::comment(comment, &|text| {
                        values.iter().any(|value| text.contains(value.as_str()))
                    }) {
                        Some(kept) => example.text.push_str(&format!("#{kept}\n")),
                        None => example.left_out += 1,
                    }
                } else {
                    match bare.split_whitespace().find(|word| *word != "export").filter(|name| is_name(name))
                    {
                        Some(name) => example.text.push_str(&format!("{name}=\n")),
                        None => example.left_out += 1,
                    }
                }
            }
            Piece::Entry(entry) if is_name(entry.name) => {
                let reference = names.of(entry.name, Some(&entry.value()), &mut example.referenced);
                let value = reference.map(|reference| format!("'{reference}'")).unwrap_or_default();
                example.text.push_str(&format!("{}={value}\n", entry.name));
            }
            Piece::Entry(_) | Piece::Odd(..) => example.left_out += 1,
        }
    }
    example
}

/// A comment as it may be shown: one that switches an entry off loses its value, one that could hold a value is
/// left out.
fn comment(text: &str, holds_value: &dyn Fn(&str) -> bool) -> Option<String> {
    let bare = text.trim_start_matches([' ', '\t', '#']);
    let bare = bare.strip_prefix("export ").unwrap_or(bare);
    if let Some((name, _)) = bare.split_once('=')
        && is_name(name.trim())
        && !name.trim().contains(char::is_whitespace)
    {
        return Some(format!(" {}=", name.trim()));
    }
    let mut words = text.split(|c: char| c.is_whitespace() || "\"'`,;()<>[]".contains(c));
    let shaped = words.clone().any(|word| looks::shape(word).is_some());
    let speaks = words.any(looks::is_secret_name);
    let assigns = text.contains([':', '=']) || text.contains(" is ") || text.contains("->");
    (!(shaped || holds_value(text) || (speaks && assigns))).then(|| text.trim_end().to_owned())
}

/// The example of a YAML file. Comments are left out with the values.
///
/// # Errors
/// `file_unreadable` when it is not YAML of one document.
pub fn yaml(file: &str, names: &Names<'_>) -> Result<Example, Error> {
    let unreadable = || Error::FileUnreadable { fault: "it is not YAML of one document".into() };
    let tree = super::yaml_file::parse(file).ok_or_else(unreadable)?;
    let mut example = Example { text: String::new(), referenced: Vec::new(), left_out: 0 };
    let blank = blank(&tree, None, names, &mut example);
    example.text = yaml_serde::to_string(&blank).map_err(|_| unreadable())?;
    Ok(example)
}

fn blank(tree: &Yaml, name: Option<&str>, names: &Names<'_>, example: &mut Example) -> Yaml {
    let text_of = |value: &str, example: &mut Example| {
        let reference = name.and_then(|name| names.of(name, Some(value), &mut example.referenced));
        Yaml::String(reference.unwrap_or_default())
    };
    match tree {
        Yaml::Null | Yaml::Bool(_) => tree.clone(),
        Yaml::Number(number) => text_of(&number.to_string(), example),
        // A list of variables, as compose files have.
        Yaml::String(text) if name.is_none() => match text.split_once('=') {
            Some((name, value)) if is_name(name) => {
                let reference = names.of(name, Some(value), &mut example.referenced);
                Yaml::String(format!("{name}={}", reference.unwrap_or_default()))
            }
            _ => Yaml::String(String::new()),
        },
        Yaml::String(text) => text_of(text, example),
        Yaml::Sequence(items) => {
            Yaml::Sequence(items.iter().map(|item| blank(item, None, names, example)).collect())
        }
        Yaml::Mapping(map) => {
            let mut kept = Mapping::new();
            for (key, item) in map {
                match key.as_str().filter(|key| is_name(key)) {
                    Some(key) => {
                        let item = blank(item, Some(key), names, example);
                        kept.insert(Yaml::String(key.to_owned()), item);
                    }
                    None => example.left_out += 1,
                }
            }
            Yaml::Mapping(kept)
        }
        Yaml::Tagged(tagged) => blank(&tagged.value, name, names, example),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NAMES: Names<'_> =
        Names { stored: &|name| name == "STORED", reference: &|name| format!("secretref://s/a#{name}") };

    #[test]
    fn secrets_become_references_and_other_values_empty() {
        let file = "# Settings of the shop\n\nexport DB_PASSWORD='canary-1' # canary-2\nPORT=9999\nSTORED=canary-3\n# OLD_KEY=canary-4\n# the password is canary-5\n# set the password by hand\n# see ghp_0123456789abcdefghijABCDEFGHIJ012345\n# was 9999 before\nBARE\nTEXT=\"two\ncanary-6\"\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASC1x2y3z==\n!canary-7\n";
        let example = env(file, &NAMES);
        assert_eq!(
            example.text,
            "# Settings of the shop\n\nDB_PASSWORD='secretref://s/a#DB_PASSWORD'\nPORT=\nSTORED='secretref://s/a#STORED'\n# OLD_KEY=\n# set the password by hand\nBARE=\nTEXT=\n"
        );
        assert_eq!(example.referenced, ["DB_PASSWORD", "STORED"]);
        assert_eq!(example.left_out, 5);
    }

    #[test]
    fn a_yaml_file_keeps_its_shape_and_no_value() {
        let file = "# canary-1\nSTORED: canary-2\nport: 9999\non: true\nnone: null\ndb:\n  password: canary-3\n  host: canary-4\n  list:\n    - TOKEN=canary-5\n    - PORT=canary6\n    - canary-7\n    - {api_key: canary-8, x: !t canary-9}\n\"canary 10\": x\n";
        let example = yaml(file, &NAMES).unwrap();
        assert_eq!(
            example.text,
            "STORED: secretref://s/a#STORED\nport: ''\non: true\nnone: null\ndb:\n  password: secretref://s/a#password\n  host: ''\n  list:\n  - TOKEN=secretref://s/a#TOKEN\n  - PORT=\n  - ''\n  - api_key: secretref://s/a#api_key\n    x: ''\n"
        );
        assert!(!example.text.contains("canary"));
    }

    proptest! {
        #[test]
        fn no_value_is_ever_in_an_example(
            value in "[A-Za-z0-9!?*.]{6,20}", name in "[A-Z]{1,6}", quote in "['\"`]?", comment in "# ?(x |was |PW=|key: )?"
        ) {
            let value = format!("v4lue{value}");
            let file = format!("{name}={quote}{value}{quote}\n{comment}{value}\n#{value}\n{name}={value} # {value}\n");
            prop_assert!(!env(&file, &NAMES).text.contains("v4lue"), "{}", env(&file, &NAMES).text);
            let file = format!("{name}: {quote}{value}{quote} # {value}\na: [{value}, X={value}]\n");
            if let Ok(example) = yaml(&file.replace('`', ""), &NAMES) {
                prop_assert!(!example.text.contains("v4lue"), "{}", example.text);
            }
        }
    }
}
