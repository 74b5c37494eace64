//! What a human types. Each subcommand has its own file; without one, the MCP server runs on standard
//! input and output.

mod approve;
pub mod audit;
mod dev;
mod http;
mod jwt;
mod serve;
mod user;

use std::{collections::BTreeMap, io::Write, process::ExitCode, sync::Arc};

use clap::{Parser, Subcommand};
use tokio_util::sync::CancellationToken;

use crate::{
    audit::Audit,
    broker::{Broker, Place},
    caller::{Caller, Front, Meter, Scope},
    config::{Config, Layers, SETTINGS},
    error::Error,
    handover::{Roots, working_folder},
    telemetry::Telemetry,
    vault::Vault,
};

/// Lets an AI client use HashiCorp Vault or OpenBao without being trusted with it.
#[derive(Default, Parser)]
#[command(
    name = "vault-mcp",
    version,
    about,
    after_help = "Without a command it serves MCP on standard input and output.\nSettings come from the environment; `vault-mcp config` lists them."
)]
struct Arguments {
    /// Set NAME=VALUE, as the environment would; for anything but secrets
    #[arg(short, long = "set", value_name = "NAME=VALUE", global = true)]
    set: Vec<String>,
    /// Use an embedded Vault with sample content, in memory, gone at exit
    #[arg(long)]
    dev: bool,
    /// Serve REST, MCP over HTTP and events instead of standard input and output
    #[arg(long)]
    http: bool,
    /// Address to listen on, with --http
    #[arg(long, value_name = "ADDRESS", requires = "http")]
    host: Option<String>,
    /// Port to listen on, with --http; 0 takes a free one
    #[arg(long, value_name = "PORT", requires = "http")]
    port: Option<String>,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Answer the questions of running servers in this terminal
    Approve(approve::Arguments),
    /// Verify, show, follow and export the audit log
    Audit(audit::Args),
    /// Print the effective settings and where each came from
    Config,
    /// Run a Vault for trying out in the foreground, filled with sample content
    Dev(dev::Arguments),
    /// Make a token for trying the HTTP front, signed with JWT_HS256_SECRET
    Jwt(jwt::Arguments),
    /// Show the session: token, policies, time left, Vault's state
    Status,
    /// Say who may call over HTTP with an API key
    User(user::Arguments),
}

/// Runs the program.
#[must_use]
pub fn main() -> ExitCode {
    harden();
    // As clients start it there are none, and what would parse them need not be built.
    let arguments =
        if std::env::args_os().nth(1).is_none() { Arguments::default() } else { Arguments::parse() };
    match run(arguments) {
        Ok(code) => code,
        Err(error) => {
            // Standard error may be closed; there is nobody else to tell.
            let _ = writeln!(std::io::stderr(), "vault-mcp: {}: {error}", error.code());
            ExitCode::FAILURE
        }
    }
}

/// Before anything else: no core dump, no reading of this process's memory or environment by others.
fn harden() {
    #[cfg(target_os = "linux")]
    {
        // Where the system refuses, the process is as it was before.
        let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    }
    #[cfg(unix)]
    {
        // Whatever this process makes is for this user alone, log files of other crates included.
        rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
        let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Core, none);
    }
    // A panic's message can hold a value; its place is enough.
    std::panic::set_hook(Box::new(|info| {
        let place = info.location().map(|at| format!("{}:{}", at.file(), at.line())).unwrap_or_default();
        let _ = writeln!(
            std::io::stderr(),
            "vault-mcp: internal: a call ended in a panic at {place}. Please report it."
        );
    }));
}

fn run(arguments: Arguments) -> Result<ExitCode, Error> {
    if arguments.dev && arguments.command.is_some() {
        return Err(Error::config(
            "--dev",
            "it starts a Vault for one MCP session and goes with no command. For a Vault that commands can use as well, run `vault-mcp dev` in another terminal.",
        ));
    }
    if arguments.http && arguments.command.is_some() {
        return Err(Error::config("--http", "it goes with no command. Run the command in another terminal."));
    }
    let mut set = given(&arguments.set)?;
    for (name, value) in [("HOST", &arguments.host), ("PORT", &arguments.port)] {
        if let Some(value) = value {
            set.insert(name.to_owned(), value.clone());
        }
    }
    let layers = Layers::of_this_process(set, arguments.http)?;
    let config = Config::load(&layers)?;
    if arguments.http {
        config.check_http()?;
    }
    // Held until the end: what waits for the disk is then written out.
    let telemetry = Telemetry::start(&config, arguments.http)?;
    match arguments.command {
        None if arguments.http => http::run(config, arguments.dev, telemetry),
        None => serve::run(config, arguments.dev),
        Some(Command::Approve(arguments)) => approve::run(config, &arguments),
        Some(Command::Audit(arguments)) => {
            Ok(audit::run(arguments, &config.audit_path()?, &mut std::io::stdout().lock())?)
        }
        Some(Command::Dev(arguments)) => dev::run(&config, arguments),
        Some(Command::Config) => print_config(&config),
        Some(Command::Jwt(arguments)) => jwt::run(&config, &arguments),
        Some(Command::Status) => status(config),
        Some(Command::User(arguments)) => user::run(&config, arguments),
    }
}

/// `--set NAME=VALUE`. A secret on a command line could be read by every process of the machine.
fn given(set: &[String]) -> Result<BTreeMap<String, String>, Error> {
    let one = |text: &String| {
        let (name, value) =
            text.split_once('=').ok_or_else(|| Error::config("--set", "expected NAME=VALUE."))?;
        let name = name.to_ascii_uppercase();
        match SETTINGS.iter().find(|row| row.name == name) {
            None => Err(Error::config(
                "--set",
                format!(
                    "there is no setting '{}'. `vault-mcp config` lists them.",
                    crate::names::shown(&name, 60)
                ),
            )),
            Some(row) if row.secret => Err(Error::config(
                row.name,
                format!(
                    "a secret is not taken from the command line. Set {name} or {name}_FILE in the environment."
                ),
            )),
            Some(_) => Ok((name, value.to_owned())),
        }
    };
    set.iter().map(one).collect()
}

/// A broker over the configured Vault and audit log.
fn broker(config: Config) -> Result<Arc<Broker>, Error> {
    let audit = Audit::open(config.audit_settings()?)?;
    let vault = Vault::new(&config)?;
    Ok(Broker::new(Arc::new(config), vault, audit))
}

/// Whom stdio and the human's own commands act for.
fn local_caller(config: &Config, front: Front) -> Caller {
    let login = ["USER", "LOGNAME", "USERNAME"].iter().find_map(|name| std::env::var(name).ok());
    let subject = config.stdio_subject(login.as_deref());
    let place = Arc::new(Place::of(config, &subject));
    Caller {
        subject,
        scopes: Scope::ALL.to_vec(),
        front,
        client: None,
        place,
        roots: Roots::Known(working_folder()),
        meter: Meter::default(),
    }
}

/// A runtime on this thread: enough for one session, and a millisecond sooner.
fn runtime() -> Result<tokio::runtime::Runtime, Error> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|_| Error::Internal { what: "no runtime" })
}

/// Waits for a signal that asks to end, then cancels `ended`.
async fn on_signal(ended: CancellationToken) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut terminate), Ok(mut hangup), Ok(mut interrupt)) =
        (signal(SignalKind::terminate()), signal(SignalKind::hangup()), signal(SignalKind::interrupt()))
    else {
        return;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = hangup.recv() => {}
        _ = interrupt.recv() => {}
    }
    ended.cancel();
}

fn print_config(config: &Config) -> Result<ExitCode, Error> {
    let rows = config.effective();
    let widest = rows.iter().map(|(name, ..)| name.len()).max().unwrap_or_default();
    let mut text = String::new();
    for ((name, value, source), row) in rows.iter().zip(SETTINGS) {
        let value = if row.secret && !value.is_empty() { "***" } else { value.as_str() };
        text.push_str(&format!("{name:widest$}  {value}  ({source})\n"));
    }
    print(&text)
}

/// Prints to standard output; a reader that went away is no fault.
fn print(text: &str) -> Result<ExitCode, Error> {
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(Error::config("standard output", "cannot be written."))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

fn status(config: Config) -> Result<ExitCode, Error> {
    let caller = local_caller(&config, Front::Cli);
    let broker = broker(config)?;
    let op = crate::op::find("vault_status").ok_or(Error::UnknownTool)?;
    let outcome = runtime()?.block_on(broker.call(op, serde_json::json!({}), &caller, None))?;
    let crate::broker::Outcome::Done(answer) = outcome else {
        return Err(Error::Internal { what: "status asked" });
    };
    let mut text = String::new();
    for (key, value) in answer.value.as_object().into_iter().flatten() {
        let value = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Array(items) => {
                items.iter().filter_map(|item| item.as_str()).collect::<Vec<_>>().join(", ")
            }
            other => other.to_string(),
        };
        text.push_str(&format!("{:14} {value}\n", key.replace('_', " ")));
    }
    print(&text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_arguments_nothing_is_asked_for_as_if_they_had_been_parsed() {
        for arguments in [Arguments::default(), Arguments::parse_from(["vault-mcp"])] {
            let Arguments { set, dev, http, host, port, command } = arguments;
            assert!(set.is_empty() && !dev && !http && host.is_none() && port.is_none() && command.is_none());
        }
    }
}
