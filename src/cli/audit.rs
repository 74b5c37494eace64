//! `vault-mcp audit`: verifies, shows, follows and exports the audit log. It only reads, but for the key
//! that `hash` uses it needs no more than the log's files.

use std::io::{IsTerminal, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use chrono::Utc;
use clap::Subcommand;
use zeroize::Zeroizing;

use crate::audit::{self, Action, AuditError, Filter, Format, Target, VerifyOptions};

/// Verify, show and export the audit log.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The log, if it is not the configured one
    #[arg(long, global = true, value_name = "FILE")]
    log: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Check chain, signatures and promises; exits 1 if something is wrong
    Verify {
        /// Public key to verify with, if not the one beside the log: a copy kept elsewhere proves more
        #[arg(long, value_name = "PEM")]
        key: Option<PathBuf>,
        /// A record that must be there, as noted before: the only way to see that the end was cut off
        #[arg(long, value_name = "SEQ:HASH")]
        expect: Option<String>,
    },
    /// Print records
    Show {
        #[command(flatten)]
        filter: FilterArgs,
        /// How to print them
        #[arg(long, value_enum, default_value_t)]
        format: Format,
    },
    /// Print the last records
    Tail {
        #[command(flatten)]
        filter: FilterArgs,
        /// How to print them
        #[arg(long, value_enum, default_value_t)]
        format: Format,
        /// Go on with new ones as they come
        #[arg(short, long)]
        follow: bool,
    },
    /// Print the keyed hash of a value read from standard input, to look for it in the log
    Hash {
        /// Hash every byte; otherwise one line end at the end is left out
        #[arg(long)]
        raw: bool,
    },
    /// Write records in a form that log collectors read
    Export {
        /// The form
        #[arg(long, value_enum)]
        to: Target,
        #[command(flatten)]
        filter: FilterArgs,
    },
}

#[derive(Debug, clap::Args)]
struct FilterArgs {
    /// From this time on: 2026-01-31T12:00:00Z, 2026-01-31, or 15m, 2h, 7d ago
    #[arg(long, value_name = "TIME")]
    since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Of this agent
    #[arg(long)]
    subject: Option<String>,
    /// Of this operation, as kv.write
    #[arg(long)]
    op: Option<String>,
    /// With this action, as CONFIRMED
    #[arg(long, value_enum, ignore_case = true)]
    action: Option<Action>,
    /// Of the call with this id
    #[arg(long)]
    id: Option<String>,
    /// Only the last so many
    #[arg(short = 'n', value_name = "COUNT")]
    last: Option<usize>,
}

impl FilterArgs {
    fn parse(self) -> Result<Filter, AuditError> {
        let now = Utc::now();
        let time = |text: Option<String>| text.map(|text| audit::parse_time(&text, now)).transpose();
        Ok(Filter {
            since: time(self.since)?,
            until: time(self.until)?,
            subject: self.subject,
            op: self.op,
            action: self.action,
            id: self.id,
            last: self.last,
        })
    }
}

/// Runs the command on the log that `args` name, else on the one at `default_log_path`.
///
/// # Errors
/// If the log cannot be read, an argument not be understood, or `out` not be written. What `verify` finds
/// is no error but an exit code of 1.
pub fn run(args: Args, default_log_path: &Path, out: &mut dyn Write) -> Result<ExitCode, AuditError> {
    let path = args.log.as_deref().unwrap_or(default_log_path);
    match args.command {
        Command::Verify { key, expect } => {
            let expect = expect.as_deref().map(parse_expected).transpose()?;
            let report = audit::verify(path, &VerifyOptions { key, expect })?;
            report.print(out)?;
            Ok(if report.is_sound() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Command::Show { filter, format } => {
            audit::show(path, &filter.parse()?, format, out)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Tail { filter, format, follow } => {
            audit::tail(path, &filter.parse()?, format, follow, out, &mut || true)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Hash { raw } => {
            let value = read_value(raw)?;
            writeln!(out, "{}", audit::hmac_of(path, &value)?)?;
            Ok(ExitCode::SUCCESS)
        }
        Command::Export { to, filter } => {
            let unreadable = audit::export(path, &filter.parse()?, to, out)?;
            if unreadable > 0 {
                // Not on the output: a collector would take it for a record.
                eprintln!(
                    "{unreadable} lines are not records of the log and were left out; run vault-mcp audit verify"
                );
                return Ok(ExitCode::FAILURE);
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn parse_expected(text: &str) -> Result<(u64, String), AuditError> {
    let parsed = text.split_once(':').and_then(|(seq, hash)| Some((seq.parse().ok()?, hash)));
    match parsed {
        Some((seq, hash)) if hash.len() == audit::NO_HASH.len() => Ok((seq, hash.to_ascii_lowercase())),
        _ => Err(AuditError::Usage {
            what: "--expect takes the number and the hash of a record".to_owned(),
            remedy: "copy SEQ:HASH as an earlier verification printed it",
        }),
    }
}

/// A value is never an argument: arguments can be seen by every process and stay in the shell's history.
fn read_value(raw: bool) -> Result<Zeroizing<Vec<u8>>, AuditError> {
    let fault = |source| AuditError::Input { source };
    if std::io::stdin().is_terminal() {
        let typed = dialoguer::Password::new()
            .with_prompt("Value")
            .allow_empty_password(true)
            .interact()
            .map_err(|dialoguer::Error::IO(source)| fault(source))?;
        return Ok(Zeroizing::new(typed.into_bytes()));
    }
    let mut value = Zeroizing::new(Vec::new());
    std::io::stdin().read_to_end(&mut value).map_err(fault)?;
    if !raw && value.pop_if(|byte| *byte == b'\n').is_some() {
        value.pop_if(|byte| *byte == b'\r');
    }
    Ok(value)
}
