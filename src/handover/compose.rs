//! Compose files, for reading: what a service's container gets as environment and build arguments, whichever way
//! it is written. Anchors and merge keys are followed; files named by `env_file` are given back as names.
//!
//! Source: Compose specification, "services", "environment", "env_file", "build args", "fragments".

use yaml_serde::Value as Yaml;
use zeroize::Zeroizing;

/// One variable in a compose file.
#[derive(Debug, PartialEq, Eq)]
pub struct Variable {
    /// Where it stands: `services.web.environment`, say.
    pub place: String,
    /// Its name.
    pub name: String,
    /// The literal value; `None` where it comes from elsewhere.
    pub value: Option<Zeroizing<String>>,
}

/// What a compose file has.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Compose {
    /// The variables, in order.
    pub variables: Vec<Variable>,
    /// Files of variables: where each is named, and its path from the compose file's folder.
    pub env_files: Vec<(String, String)>,
}

/// Reads a compose file.
///
/// # Errors
/// What it is not, without a word of it.
pub fn parse(text: &str) -> Result<Compose, &'static str> {
    let mut tree: Yaml = yaml_serde::from_str(text).map_err(|_| "it is not YAML of one document")?;
    tree.apply_merge().map_err(|_| "a merge key (<<) in it leads to no mapping")?;
    let services = tree.get("services").and_then(Yaml::as_mapping).ok_or("it has no mapping 'services'")?;
    let mut compose = Compose::default();
    for (name, service) in services {
        let Some(name) = name.as_str() else { continue };
        let place = |part: &str| format!("services.{name}.{part}");
        if let Some(variables) = service.get("environment") {
            collect(variables, &place("environment"), &mut compose.variables);
        }
        if let Some(arguments) = service.get("build").and_then(|build| build.get("args")) {
            collect(arguments, &place("build.args"), &mut compose.variables);
        }
        let files = match service.get("env_file") {
            Some(Yaml::Sequence(files)) => files.iter().collect(),
            Some(file) => vec![file],
            None => Vec::new(),
        };
        for file in files {
            if let Some(path) = file.as_str().or_else(|| file.get("path")?.as_str()) {
                compose.env_files.push((place("env_file"), path.to_owned()));
            }
        }
    }
    Ok(compose)
}

/// A list of `NAME=value` or a mapping of names to values.
fn collect(tree: &Yaml, place: &str, found: &mut Vec<Variable>) {
    let mut add = |name: &str, value: Option<String>| {
        let value = value.and_then(literal).map(Zeroizing::new);
        found.push(Variable { place: place.to_owned(), name: name.to_owned(), value });
    };
    match tree {
        Yaml::Sequence(items) => {
            for item in items.iter().filter_map(Yaml::as_str) {
                match item.split_once('=') {
                    Some((name, value)) => add(name, Some(value.to_owned())),
                    None => add(item, None),
                }
            }
        }
        Yaml::Mapping(map) => {
            for (name, value) in map {
                let Some(name) = name.as_str() else { continue };
                let text = match value {
                    Yaml::String(text) => Some(text.clone()),
                    Yaml::Bool(flag) => Some(flag.to_string()),
                    Yaml::Number(number) => Some(number.to_string()),
                    _ => None,
                };
                add(name, text);
            }
        }
        _ => {}
    }
}

/// The value without compose's own escapes; `None` when a variable stands in it.
fn literal(text: String) -> Option<String> {
    let mut rest = text.as_str();
    while let Some(at) = rest.find('$') {
        let after = rest.get(at + 1..).unwrap_or_default();
        match after.chars().next() {
            Some('$') => rest = after.get(1..).unwrap_or_default(),
            Some(c) if c == '{' || c == '_' || c.is_ascii_alphabetic() => return None,
            _ => rest = after,
        }
    }
    Some(text.replace("$$", "$"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_maps_anchors_merges_and_files_are_read() {
        let text = r#"
x-common: &common
  API_KEY: "abc"
  LEVEL: info
services:
  web:
    image: nginx
    environment:
      <<: *common
      LEVEL: debug
      PORT: 5432
      DEBUG: true
      FROM_HOST:
      EXPANDED: ${HOME}/x
      DOLLARS: a$$b$1
    env_file: web.env
    build:
      context: .
      args: ["TOKEN=t=1", "BARE"]
  job:
    environment: &list
      - DB_PASSWORD=it's # no comment
      - EMPTY=
      - "QUOTED=\"x\""
    env_file:
      - a.env
      - path: ../b.env
        required: false
  twin:
    environment: *list
  none:
    image: x
"#;
        let read = parse(text).unwrap();
        let all: Vec<_> = read
            .variables
            .iter()
            .map(|v| {
                (
                    v.place.trim_start_matches("services."),
                    v.name.as_str(),
                    v.value.as_ref().map(|v| v.as_str()),
                )
            })
            .collect();
        for wanted in [
            ("web.environment", "API_KEY", Some("abc")),
            ("web.environment", "LEVEL", Some("debug")),
            ("web.environment", "PORT", Some("5432")),
            ("web.environment", "DEBUG", Some("true")),
            ("web.environment", "FROM_HOST", None),
            ("web.environment", "EXPANDED", None),
            ("web.environment", "DOLLARS", Some("a$b$1")),
            ("web.build.args", "TOKEN", Some("t=1")),
            ("web.build.args", "BARE", None),
            ("job.environment", "DB_PASSWORD", Some("it's")),
            ("job.environment", "EMPTY", Some("")),
            ("job.environment", "QUOTED", Some("\"x\"")),
            ("twin.environment", "DB_PASSWORD", Some("it's")),
        ] {
            assert!(all.contains(&wanted), "{wanted:?} is not in {all:#?}");
        }
        assert_eq!(all.len(), 15);
        let files: Vec<_> = read.env_files.iter().map(|(_, path)| path.as_str()).collect();
        assert_eq!(files, ["web.env", "a.env", "../b.env"]);
    }

    #[test]
    fn what_is_no_compose_file_is_said_to_be_none() {
        for text in ["", "a: 1", "- x", "services: [", "services: x", "services:\n  a:\n    <<: 5\n"] {
            assert!(parse(text).is_err(), "{text:?}");
        }
    }
}
