//! Logs: lines of text on standard error, lines of JSON in daily files.
//!
//! rmcp, reqwest, hyper, vaultrs and the rest print arguments, URLs and bodies at their finer levels, so they are
//! capped whatever `LOG_LEVEL` says. The audit log is another thing and lies elsewhere.

use std::{
    io::{BufWriter, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Serialize;
use tracing::Subscriber;
use tracing_appender::{
    non_blocking::{NonBlocking, NonBlockingBuilder, WorkerGuard},
    rolling::{Builder, Rotation},
};
use tracing_subscriber::{
    Layer,
    filter::{LevelFilter, Targets},
    fmt,
    registry::LookupSpan,
};

use crate::{config::Config, error::Error};

/// Days that files are kept for.
const DAYS: usize = 14;
/// Lines that may wait for the disk. Whoever writes one more waits as well: none is lost.
const WAITING: usize = 4096;
/// Bytes that are written at once while lines come in faster than the disk takes them.
const AT_ONCE: usize = 64 << 10;
/// The ending of every file.
pub const ENDING: &str = "jsonl";

/// The kinds of lines, each in files of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A request that came in.
    Requests,
    /// What it was answered.
    Responses,
    /// What the program says.
    Server,
}

impl Kind {
    /// What the names of its files begin with.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Responses => "responses",
            Self::Server => "server",
        }
    }
}

/// What this program may say, and what others may.
fn levels(config: &Config) -> Targets {
    let level = config.log_level.parse().unwrap_or(LevelFilter::WARN);
    Targets::new().with_default(LevelFilter::WARN.min(level)).with_target("vault_mcp", level)
}

/// Lines of text on standard error.
pub(super) fn to_stderr<S>(config: &Config) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fmt::layer().with_writer(std::io::stderr).with_ansi(false).with_filter(levels(config))
}

/// Where lines of one kind go. They are written by a thread of their own.
#[derive(Clone)]
pub struct Lines(NonBlocking);

impl Lines {
    /// Adds a line.
    pub fn write<T: Serialize>(&self, line: &T) {
        let mut bytes = Vec::with_capacity(512);
        // Neither can fail: plain structures serialize, and the channel lives as long as the process.
        if serde_json::to_writer(&mut bytes, line).is_ok() {
            bytes.push(b'\n');
            let _ = self.0.clone().write_all(&bytes);
        }
    }
}

/// The files of a folder.
pub struct Files {
    open: Option<Open>,
    /// Written out when dropped.
    _guards: Vec<WorkerGuard>,
}

struct Open {
    folder: Arc<Path>,
    server: Lines,
    http: Option<(Lines, Lines)>,
}

impl Files {
    /// Opens those of `LOG_DIR`: on stdio where it is set, with `--http` in `./logs` where it is not.
    ///
    /// # Errors
    /// `config_invalid` when they cannot be written.
    pub(super) fn open(config: &Config, http: bool) -> Result<Self, Error> {
        let folder = config.log_dir.clone().or_else(|| http.then(|| PathBuf::from("logs")));
        let Some(folder) = folder else { return Ok(Self { open: None, _guards: Vec::new() }) };
        make(&folder)?;
        let mut guards = Vec::new();
        let mut lines = |kind| {
            let (lines, guard) = daily(&folder, kind)?;
            guards.push(guard);
            Ok::<_, Error>(lines)
        };
        let server = lines(Kind::Server)?;
        let http = if http { Some((lines(Kind::Requests)?, lines(Kind::Responses)?)) } else { None };
        let open = Some(Open { folder: folder.into(), server, http });
        Ok(Self { open, _guards: guards })
    }

    /// Lines of JSON in the files of the server's own.
    pub(super) fn server<S>(&self, config: &Config) -> Option<impl Layer<S> + use<S>>
    where
        S: Subscriber + for<'a> LookupSpan<'a>,
    {
        let Lines(writer) = self.open.as_ref()?.server.clone();
        let layer = fmt::layer()
            .json()
            .flatten_event(true)
            .with_current_span(false)
            .with_writer(move || writer.clone());
        Some(layer.with_filter(levels(config)))
    }

    /// The folder, and where lines about requests and about their answers go; nothing on stdio.
    #[must_use]
    pub fn http(&self) -> Option<(Arc<Path>, Lines, Lines)> {
        let open = self.open.as_ref()?;
        let (requests, responses) = open.http.clone()?;
        Some((open.folder.clone(), requests, responses))
    }
}

/// Makes the folder, for this user alone.
fn make(folder: &Path) -> Result<(), Error> {
    let mut builder = std::fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.recursive(true).create(folder).map_err(|error| unusable(folder, &error.kind()))?;
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        let mode =
            std::fs::metadata(folder).map_err(|error| unusable(folder, &error.kind()))?.permissions().mode();
        if mode & 0o002 != 0 {
            return Err(unusable(folder, &"every user of this machine may write to it"));
        }
    }
    Ok(())
}

fn daily(folder: &Path, kind: Kind) -> Result<(Lines, WorkerGuard), Error> {
    let file = Builder::new()
        .rotation(Rotation::DAILY)
        .filename_prefix(kind.as_str())
        .filename_suffix(ENDING)
        .max_log_files(DAYS)
        .build(folder)
        .map_err(|error| unusable(folder, &error))?;
    // The thread flushes whenever no line waits, so that a buffer holds lines back under load only.
    let (writer, guard) = NonBlockingBuilder::default()
        .lossy(false)
        .buffered_lines_limit(WAITING)
        .thread_name(kind.as_str())
        .finish(BufWriter::with_capacity(AT_ONCE, file));
    Ok((Lines(writer), guard))
}

fn unusable(folder: &Path, fault: &dyn std::fmt::Display) -> Error {
    let folder = folder.display();
    Error::config(
        "LOG_DIR",
        format!("{folder} cannot be used ({fault}). Give a folder that this user alone may write to."),
    )
}
