//! How a value is written into a `.env` file so that the programs which read it get the same value. No quoting
//! works for all of them; what a dialect cannot carry is refused, never bent.
//!
//! What each reader does was read from its source: python-dotenv 1.x `parser.py` and `variables.py`, `dotenv`
//! (npm) 17 `lib/main.js`, docker/cli `pkg/kvfile`, POSIX.1-2024 "Shell Command Language" 2.2.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::Deserialize;

/// Who will read the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Dialect {
    /// sh, bash, dash, python-dotenv and npm's dotenv alike.
    #[default]
    Posix,
    /// Only shells that source it.
    Shell,
    /// Only python-dotenv.
    Python,
    /// Only npm's dotenv.
    Node,
    /// Only `docker run --env-file`.
    Docker,
}

impl JsonSchema for Dialect {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Dialect".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "type": "string", "enum": ["posix", "shell", "python", "node", "docker"] })
    }
}

/// Most bytes that a line of docker's may have: its reader gives up at 64 KiB.
const DOCKER_LINE: usize = 60_000;

impl Dialect {
    /// The text behind `NAME=`.
    ///
    /// # Errors
    /// What is in the way, without the value.
    pub fn quote(self, value: &str) -> Result<String, &'static str> {
        if value.contains('\0') {
            return Err("a NUL character");
        }
        if value.contains('\r') && !matches!(self, Self::Shell | Self::Node) {
            return Err("a carriage return");
        }
        match self {
            Self::Posix => posix(value),
            Self::Shell => Ok(format!("'{}'", value.replace('\'', r"'\''"))),
            Self::Python => python(value),
            Self::Node => node(value),
            Self::Docker if value.contains('\n') => Err("a line break"),
            Self::Docker if value.len() > DOCKER_LINE => Err("more than 60000 bytes"),
            Self::Docker => Ok(value.to_owned()),
        }
    }

    /// Whether a file in this dialect may hold a variable of this name.
    ///
    /// # Errors
    /// What is in the way.
    pub fn check_name(self, name: &str) -> Result<(), &'static str> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        let shells = matches!(self, Self::Posix | Self::Shell);
        let fits = !name.is_empty()
            && !name.starts_with(|c: char| !(c.is_ascii_alphabetic() || c == '_'))
            && name.chars().all(|c| plain(c) || (!shells && matches!(c, '-' | '.')));
        if !fits {
            return Err(if shells { "no name of a shell variable" } else { "no name of a variable" });
        }
        let steers = STEERING.contains(&name) || STEERING_PREFIXES.iter().any(|head| name.starts_with(head));
        if steers { Err("a name that steers programs") } else { Ok(()) }
    }
}

/// Both quotes are literal to the shells but for what is refused here; the others are why it is refused.
fn posix(value: &str) -> Result<String, &'static str> {
    // python-dotenv expands this in any quotes.
    if value.contains("${") {
        return Err("${, which python-dotenv expands in any quotes");
    }
    if !value.contains('\'') {
        // python-dotenv makes one backslash of two; a last one would quote the quote for it and for npm's.
        return if value.contains(r"\\") {
            Err("two backslashes in a row")
        } else if value.ends_with('\\') {
            Err("a backslash at the end")
        } else {
            Ok(format!("'{value}'"))
        };
    }
    if value.contains(['"', '\\', '$', '`']) {
        return Err("a single quote beside a double quote, backslash, dollar sign or backtick");
    }
    Ok(format!("\"{value}\""))
}

fn python(value: &str) -> Result<String, &'static str> {
    if value.contains("${") {
        return Err("${, which python-dotenv expands in any quotes");
    }
    if value.ends_with('\\') {
        return Err("a backslash at the end");
    }
    Ok(format!("'{}'", value.replace('\\', r"\\").replace('\'', r"\'")))
}

fn node(value: &str) -> Result<String, &'static str> {
    if value.ends_with('\\') {
        return Err("a backslash at the end");
    }
    if !value.contains('\r') {
        for quote in ['\'', '`'] {
            if !value.contains(quote) {
                return Ok(format!("{quote}{value}{quote}"));
            }
        }
    }
    // In double quotes, and only there, \n and \r stand for line breaks.
    if value.contains('"') || value.contains(r"\n") || value.contains(r"\r") {
        return Err("a mixture of quotes, backslashes and line breaks");
    }
    Ok(format!("\"{}\"", value.replace('\r', r"\r")))
}

/// Names that make shells, loaders, interpreters or git act, that shells do not let be set, or that are no
/// ordinary key where a program keeps its environment in an object.
const STEERING: &[&str] = &[
    "__proto__",
    "constructor",
    "prototype",
    "PATH",
    "IFS",
    "ENV",
    "SHELL",
    "SHELLOPTS",
    "PS0",
    "PS1",
    "PS2",
    "PS3",
    "PS4",
    "PROMPT_COMMAND",
    "CDPATH",
    "GLOBIGNORE",
    "FUNCNEST",
    "TMOUT",
    "POSIXLY_CORRECT",
    "HOME",
    "PWD",
    "OLDPWD",
    "UID",
    "EUID",
    "PPID",
    "GROUPS",
    "DIRSTACK",
    "FUNCNAME",
    "HISTCMD",
    "HISTFILE",
    "LINENO",
    "OPTIND",
    "OPTARG",
    "OPTERR",
    "RANDOM",
    "SRANDOM",
    "SECONDS",
    "EPOCHSECONDS",
    "EPOCHREALTIME",
    "PIPESTATUS",
    "REPLY",
    "_",
    "EDITOR",
    "VISUAL",
    "PAGER",
    "LESSOPEN",
    "LESSCLOSE",
    "BROWSER",
    "SSH_ASKPASS",
    "SUDO_ASKPASS",
    "GCONV_PATH",
    "LOCPATH",
    "NLSPATH",
    "NODE_OPTIONS",
    "NODE_PATH",
    "NODE_EXTRA_CA_CERTS",
    "PYTHONPATH",
    "PYTHONHOME",
    "PYTHONSTARTUP",
    "PYTHONINSPECT",
    "PYTHONBREAKPOINT",
    "PYTHONWARNINGS",
    "PYTHONUSERBASE",
    "PERL5LIB",
    "PERL5OPT",
    "PERL5DB",
    "PERLLIB",
    "RUBYLIB",
    "RUBYOPT",
    "JAVA_TOOL_OPTIONS",
    "_JAVA_OPTIONS",
    "JDK_JAVA_OPTIONS",
    "CLASSPATH",
    "GIT_SSH",
    "GIT_SSH_COMMAND",
    "GIT_EXTERNAL_DIFF",
    "GIT_PAGER",
    "GIT_EDITOR",
    "GIT_ASKPASS",
    "GIT_EXEC_PATH",
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_PROXY_COMMAND",
    "GIT_TEMPLATE_DIR",
    "GIT_SEQUENCE_EDITOR",
];
const STEERING_PREFIXES: &[&str] =
    &["LD_", "DYLD_", "BASH", "COMP_", "GIT_CONFIG", "npm_config_", "NPM_CONFIG_"];

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Dialect; 5] =
        [Dialect::Posix, Dialect::Shell, Dialect::Python, Dialect::Node, Dialect::Docker];

    #[test]
    fn names_that_steer_programs_are_refused_in_every_dialect() {
        for dialect in ALL {
            for name in [
                "__proto__",
                "=X",
                "LD_PRELOAD",
                "PATH",
                "BASH_ENV",
                "IFS",
                "",
                "1A",
                "A B",
                "A=B",
                "A\n",
                "ENV",
                "NODE_OPTIONS",
                "PYTHONPATH",
                "GIT_SSH_COMMAND",
                "BASH_FUNC_ls%%",
                "UID",
                "Ä",
                "-A",
                "LD_AUDIT",
            ] {
                assert!(dialect.check_name(name).is_err(), "{name:?} in {dialect:?}");
            }
            for name in ["DB_PASSWORD", "_x", "path", "Path", "API_KEY2", "GIT_TOKEN"] {
                assert_eq!(dialect.check_name(name), Ok(()), "{name:?} in {dialect:?}");
            }
            let dashed = dialect.check_name("a-b").is_ok();
            assert_eq!(dashed, !matches!(dialect, Dialect::Posix | Dialect::Shell), "{dialect:?}");
        }
    }

    #[test]
    fn single_quotes_come_first_and_what_cannot_be_carried_is_refused() {
        for (value, written) in [
            ("", Some("''")),
            ("$(id)", Some("'$(id)'")),
            ("`id`", Some("'`id`'")),
            ("a b#c\nd", Some("'a b#c\nd'")),
            (r"a\b", Some(r"'a\b'")),
            ("it's", Some("\"it's\"")),
            (r"a\\b", None),
            (r"a\", None),
            ("it's $x", None),
            ("it's \"x\"", None),
            ("${HOME}", None),
            ("a\rb", None),
            ("a\0b", None),
        ] {
            assert_eq!(Dialect::Posix.quote(value).ok().as_deref(), written, "{value:?}");
        }
        assert_eq!(Dialect::Shell.quote("it's ${X}\r").as_deref(), Ok("'it'\\''s ${X}\r'"));
        assert_eq!(Dialect::Python.quote(r"it's \\ ").as_deref(), Ok(r"'it\'s \\\\ '"));
        assert_eq!(Dialect::Node.quote("it's `\r").as_deref(), Ok(r#""it's `\r""#));
        assert_eq!(Dialect::Docker.quote(" it's \"${X}\" ").as_deref(), Ok(" it's \"${X}\" "));
        for dialect in ALL {
            assert!(dialect.quote("a\0").is_err());
        }
    }
}
