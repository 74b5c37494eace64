//! `vault-mcp user`: the file of users with API keys. A key is shown once, when it is made; the file holds its
//! digest. A running server reads the file again by itself.

use std::{io::Write, path::PathBuf, process::ExitCode};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use clap::Subcommand;

use super::print;
use crate::{
    caller::Scope,
    config::{Config, FromSetting, Seconds},
    error::Error,
    front::http::auth::users::{ApiKey, StoredKey, User, Users},
    names::Subject,
};

/// Who may call over HTTP with an API key.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// The file, if it is not the configured one
    #[arg(long, global = true, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Let an agent in: prints its new key, once
    Add {
        /// Whom its calls act for
        #[arg(value_parser = subject)]
        subject: Subject,
        /// What the key allows: words of read, write, delete, list
        #[arg(long, value_name = "LIST", default_value = "read,list", value_parser = scopes)]
        scopes: Scopes,
    },
    /// Show who is in the file
    List,
    /// Let an agent in no longer: all of its keys end
    Remove {
        /// Which
        #[arg(value_parser = subject)]
        subject: Subject,
    },
    /// Give an agent a new key in place of its old one: prints it, once
    Rotate {
        /// Which
        #[arg(value_parser = subject)]
        subject: Subject,
        /// How long the old key is good for beside the new one: 15m, 1h
        #[arg(long, value_name = "TIME", default_value = "0s", value_parser = Seconds::parse)]
        grace: Seconds,
    },
}

/// What a credential allows, as given in one argument.
#[derive(Debug, Clone)]
pub(super) struct Scopes(pub(super) Vec<Scope>);

/// Parses `read,list`.
pub(super) fn scopes(text: &str) -> Result<Scopes, String> {
    let words = text.split([',', ' ']).filter(|word| !word.is_empty());
    let known: Option<Vec<_>> = words.map(Scope::parse).collect();
    let known = known.filter(|known| !known.is_empty());
    known.map(Scopes).ok_or_else(|| "expected words of: read, write, delete, list".to_owned())
}

/// Parses a subject.
pub(super) fn subject(text: &str) -> Result<Subject, String> {
    Subject::parse(text)
        .map_err(|_| "expected lower-case letters, digits, '_' and '-', at most 63 of them".to_owned())
}

/// Runs the command.
pub(super) fn run(config: &Config, arguments: Arguments) -> Result<ExitCode, Error> {
    let path = arguments.file.or_else(|| Users::path(config));
    let path = path.ok_or_else(|| {
        Error::config("USERS_FILE", "this system names no folder for configuration. Set it, or give --file.")
    })?;
    let now = Utc::now();
    match arguments.command {
        Command::List => print(&listing(&Users::load(&path)?, now)),
        Command::Add { subject, scopes: Scopes(scopes) } => {
            let key = ApiKey::generate()?;
            let about = format!("The key of {subject}. It is not shown again.");
            let user = User { subject, scopes, keys: vec![key.stored(now)] };
            Users::change(&path, |users| match users.find(&user.subject) {
                Some(known) => Err(fault(format!(
                    "{} is in the file already. `vault-mcp user rotate` gives it a new key.",
                    known.subject
                ))),
                None => {
                    users.users.push(user);
                    Ok(())
                }
            })?;
            show(&key, &about)
        }
        Command::Remove { subject } => {
            Users::change(&path, |users| {
                let before = users.users.len();
                users.users.retain(|user| user.subject != subject);
                if users.users.len() == before { Err(unknown(&subject)) } else { Ok(()) }
            })?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Rotate { subject, grace } => {
            let key = ApiKey::generate()?;
            Users::change(&path, |users| {
                let user = users.find(&subject).ok_or_else(|| unknown(&subject))?;
                end(&mut user.keys, now, grace)?;
                user.keys.push(key.stored(now));
                Ok(())
            })?;
            show(&key, &format!("The new key of {subject}. It is not shown again."))
        }
    }
}

fn fault(text: String) -> Error {
    Error::config("user", text)
}

fn unknown(subject: &Subject) -> Error {
    fault(format!("there is no {subject} in the file. `vault-mcp user list` shows who is."))
}

/// Keys that are good no longer go; the others end when the grace is over, if not before.
fn end(keys: &mut Vec<StoredKey>, now: DateTime<Utc>, grace: Seconds) -> Result<(), Error> {
    let end = i64::try_from(grace.0)
        .ok()
        .and_then(TimeDelta::try_seconds)
        .and_then(|grace| now.checked_add_signed(grace))
        .ok_or_else(|| fault("that is too long a grace. Give one as 1h.".to_owned()))?;
    for key in keys.iter_mut() {
        key.expires = Some(key.expires.map_or(end, |expires| expires.min(end)));
    }
    keys.retain(|key| key.is_good_at(now));
    Ok(())
}

/// The key on standard output, so that a script can take it; what is said of it elsewhere.
fn show(key: &ApiKey, about: &str) -> Result<ExitCode, Error> {
    // Nobody reading is no fault.
    let _ = writeln!(std::io::stderr(), "{about}");
    print(&format!("{}\n", key.expose()))
}

fn listing(users: &Users, now: DateTime<Utc>) -> String {
    let time = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Secs, true);
    let mut rows = vec![["SUBJECT", "SCOPES", "KEY", "MADE", "GOOD UNTIL"].map(str::to_owned)];
    for user in &users.users {
        let scopes = user.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",");
        let row = |key: [String; 3]| {
            let [id, made, until] = key;
            [user.subject.to_string(), scopes.clone(), id, made, until]
        };
        let keys = user.keys.iter().filter(|key| key.is_good_at(now));
        let mut keys: Vec<_> = keys
            .map(|key| row([key.id.clone(), time(key.created), key.expires.map_or_else(String::new, time)]))
            .collect();
        if keys.is_empty() {
            keys.push(row(["none".to_owned(), String::new(), String::new()]));
        }
        rows.extend(keys);
    }
    let widths: Vec<usize> = (0..5)
        .map(|at| rows.iter().filter_map(|row| row.get(at)).map(String::len).max().unwrap_or_default())
        .collect();
    let line = |row: [String; 5]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.into_iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_never_makes_a_key_last_longer() {
        let now = Utc::now();
        let ends = |expires: Option<i64>, grace| {
            let mut key = ApiKey::generate().unwrap().stored(now);
            key.expires = expires.map(|seconds| now + TimeDelta::seconds(seconds));
            let mut keys = vec![key];
            end(&mut keys, now, Seconds(grace)).unwrap();
            keys.first().map(|key| (key.expires.unwrap() - now).num_seconds())
        };
        assert_eq!(ends(None, 0), None);
        assert_eq!(ends(None, 60), Some(60));
        assert_eq!(ends(Some(30), 60), Some(30));
        assert_eq!(ends(Some(90), 60), Some(60));
        assert_eq!(ends(Some(-1), 60), None);
        assert!(end(&mut Vec::new(), now, Seconds(u64::MAX)).is_err());
    }

    #[test]
    fn scopes_are_words_of_ours() {
        assert_eq!(scopes("read, list").unwrap().0, [Scope::Read, Scope::List]);
        for text in ["", "*", "READ", "read;list"] {
            assert!(scopes(text).is_err(), "{text}");
        }
    }
}
