//! The audit log: who asked for what, who agreed, and how it ended, in a file that shows tampering.
//!
//! One JSON record a line; each carries the SHA-256 of the one before, and signed checkpoints stand
//! between them. Several processes share one file. `audit/README.md` describes the format and how to
//! verify it by hand.
//!
//! This module does not decide what is recorded and never sees a secret value: callers give names, and
//! [`Audit::hmac`] where a value must be recognised later. A record is appended at once; whoever needs it on the
//! disk waits for that, by blocking or, where many wait at a time, together ([`Appended`]).

mod error;
mod export;
mod group;
mod keys;
mod names;
mod place;
mod platform;
mod reader;
mod record;
mod show;
mod tail;
mod verify;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use aws_lc_rs::hmac;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::runtime::{Handle, RuntimeFlavor};

pub use self::error::AuditError;
pub use self::export::{Target, export};
pub use self::record::{ApprovalRecord, LogFact, MAX_RECORD, NO_HASH, Record, SCHEMA};
pub use self::show::{Filter, Format, parse_time, show};
pub use self::tail::tail;
pub use self::verify::{Fault, Problem, Report, VerifyOptions, verify};

use self::group::Group;
use self::names::Names;
use self::writer::{Writer, Written};

/// Rotation size unless told otherwise: 64 MiB.
pub const DEFAULT_MAX_BYTES: u64 = 64 * 1024 * 1024;

/// Every record whose number is a multiple of this is a checkpoint.
pub const CHECKPOINT_EVERY: u64 = 1000;

/// Where the log lies unless told otherwise: `audit/audit.jsonl` in the platform's data folder for this
/// program.
///
/// # Errors
/// [`AuditError::NoHome`] if the platform names no such folder.
pub fn default_path() -> Result<PathBuf, AuditError> {
    let folders = directories::ProjectDirs::from("", "", "vault-mcp").ok_or(AuditError::NoHome)?;
    Ok(folders.data_dir().join("audit").join("audit.jsonl"))
}

/// HMAC-SHA-256 of a value with the key of an existing log, as [`Audit::hmac`] gives it, without opening
/// the log for writing.
///
/// # Errors
/// If the key is missing or cannot be read.
pub fn hmac_of(path: &Path, value: &[u8]) -> Result<String, AuditError> {
    Ok(keys::hmac_text(&keys::load_hmac(&Names::of(path)?)?, value))
}

/// JSON Schema of a record, as committed in `audit/schema.json`.
#[must_use]
pub fn schema() -> schemars::Schema {
    schemars::schema_for!(Record<'static>)
}

/// When a record is forced to the disk before [`Audit::record`] returns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Fsync {
    /// Each record.
    Always,
    /// Records of calls that issue, write or destroy.
    #[default]
    Writes,
    /// Never; a power cut may take the last records with it, a killed process does not.
    Never,
}

/// How a log is kept.
#[derive(Debug, Clone)]
pub struct Settings {
    /// The file that is written to. Its folder also takes segments and keys.
    pub path: PathBuf,
    /// When records are forced to the disk.
    pub fsync: Fsync,
    /// A segment is finished before it grows over this many bytes; it ends in a checkpoint, which may
    /// take it over by less than a record.
    pub max_bytes: u64,
    /// How many finished segments are kept; None keeps all.
    pub keep: Option<usize>,
}

impl Settings {
    /// The defaults for a log at `path`.
    #[must_use]
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), fsync: Fsync::default(), max_bytes: DEFAULT_MAX_BYTES, keep: None }
    }
}

/// What a record says happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[value(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Action {
    /// A call is about to be carried out; Vault has not heard of it.
    Request,
    /// The call with this id was carried out.
    Success,
    /// The call with this id was tried and failed, or its outcome is unknown.
    Failed,
    /// A human is to be asked.
    ConfirmationRequired,
    /// A human agreed; the ticket is used up.
    Confirmed,
    /// A human declined, or nobody answered.
    Aborted,
    /// A question of this server's was answered at another one, whose log says how.
    AnsweredElsewhere,
    /// The arguments were refused.
    ValidationFailed,
    /// Policy, scope or a limit refused the call.
    Refused,
    /// The log begins. The log's own.
    LogOpened,
    /// A new segment begins. The log's own.
    Rotated,
    /// A signature over everything before. The log's own.
    Checkpoint,
    /// An unfinished last line was moved out. The log's own.
    TailSetAside,
}

impl Action {
    /// The name in a record, as `CONFIRMATION_REQUIRED`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "REQUEST",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
            Self::ConfirmationRequired => "CONFIRMATION_REQUIRED",
            Self::Confirmed => "CONFIRMED",
            Self::Aborted => "ABORTED",
            Self::AnsweredElsewhere => "ANSWERED_ELSEWHERE",
            Self::ValidationFailed => "VALIDATION_FAILED",
            Self::Refused => "REFUSED",
            Self::LogOpened => "LOG_OPENED",
            Self::Rotated => "ROTATED",
            Self::Checkpoint => "CHECKPOINT",
            Self::TailSetAside => "TAIL_SET_ASIDE",
        }
    }

    /// Whether the log writes such records about itself.
    #[must_use]
    pub fn is_own(self) -> bool {
        matches!(self, Self::LogOpened | Self::Rotated | Self::Checkpoint | Self::TailSetAside)
    }
}

/// The human checkpoint of a call.
#[derive(Debug, Clone, Copy)]
pub struct Approval<'a> {
    /// client or approver.
    pub channel: &'a str,
    /// Id of the ticket.
    pub ticket: &'a str,
}

/// Something to record. Names only; there is no field for a value.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    /// What happened. The log's own actions are refused.
    pub action: Action,
    /// Id of the call, a UUID.
    pub id: &'a str,
    /// The agent that the call acts for.
    pub subject: &'a str,
    /// stdio, rest, mcp, rpc, approver or cli.
    pub front: &'a str,
    /// What the client calls itself.
    pub client: Option<&'a str>,
    /// Id of the operation.
    pub op: &'a str,
    /// read, compute, issue, write or destroy.
    pub effect: &'a str,
    /// What is touched.
    pub target: &'a str,
    /// Key names.
    pub keys: &'a [String],
    /// How it ended, in words.
    pub outcome: Option<&'a str>,
    /// Stable error code.
    pub code: Option<&'a str>,
    /// Vault's own id of the request.
    pub vault_request_id: Option<&'a str>,
    /// The human checkpoint.
    pub approval: Option<Approval<'a>>,
    /// The record belongs to an issue, write or destroy: on disk before `record` returns, unless fsync
    /// is never.
    pub durable: bool,
}

/// Where a record stands in the chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recorded {
    /// Its number.
    pub seq: u64,
    /// Its hash, hexadecimal.
    pub hash: String,
}

/// A log that is open for writing. Clones share it; other processes may have it open too.
#[derive(Clone)]
pub struct Audit(Arc<Inner>);

struct Inner {
    fsync: Fsync,
    hmac: hmac::Key,
    writer: Mutex<Writer>,
    group: Group,
}

/// A record that is in the file. Until one of the two ways of waiting has returned Ok, what it announces must not
/// happen.
#[must_use = "the record is not known to be on the disk"]
pub struct Appended {
    recorded: Recorded,
    /// What is not on the disk yet.
    missing: Option<(Audit, Written)>,
}

/// True where other tasks share the threads of this one.
fn on_shared_threads() -> bool {
    Handle::try_current().is_ok_and(|handle| handle.runtime_flavor() == RuntimeFlavor::MultiThread)
}

impl Appended {
    /// Waits for the disk, and keeps the thread until then.
    ///
    /// # Errors
    /// If the record is not known to be on the disk.
    pub fn wait(self) -> Result<Recorded, AuditError> {
        if let Some((_, written)) = &self.missing {
            match on_shared_threads() {
                true => tokio::task::block_in_place(|| written.sync())?,
                false => written.sync()?,
            }
        }
        Ok(self.recorded)
    }

    /// Waits for the disk together with whoever else does. Where nobody else can be waiting, on a runtime of one
    /// thread, it is the same as [`Self::wait`]: a hand-over to another thread would only cost.
    ///
    /// # Errors
    /// As there.
    pub async fn wait_with_others(self) -> Result<Recorded, AuditError> {
        match self.missing {
            Some((audit, written)) if on_shared_threads() => audit.0.group.sync(written).await?,
            Some((_, written)) => written.sync()?,
            None => {}
        }
        Ok(self.recorded)
    }
}

impl Audit {
    /// Opens the log, and begins it if neither it nor its keys are there. The end of the file is not
    /// read before the first record.
    ///
    /// # Errors
    /// Whatever makes the path unfit: a link, FIFO or folder, a foreign owner, permissions wider than
    /// 0600, a folder that others may write to, no write access, a log that is gone while its keys remain.
    pub fn open(settings: Settings) -> Result<Self, AuditError> {
        let names = Names::of(&settings.path)?;
        let fsync = settings.fsync;
        let (writer, hmac) = Writer::open(names, &settings)?;
        Ok(Self(Arc::new(Inner { fsync, hmac, writer: Mutex::new(writer), group: Group::default() })))
    }

    /// Appends a record. When this returns Ok the record is in the file, and on the disk if the event
    /// is durable and the settings do not forbid it.
    ///
    /// # Errors
    /// If the record is not in the log, or not known to be on the disk: what it announces must not happen.
    pub fn record(&self, event: &Event<'_>) -> Result<Recorded, AuditError> {
        self.append(event)?.wait()
    }

    /// Appends a record, and leaves it to the caller how to wait for the disk.
    ///
    /// # Errors
    /// If the record is not in the log.
    pub fn append(&self, event: &Event<'_>) -> Result<Appended, AuditError> {
        if event.action.is_own() {
            return Err(AuditError::Usage {
                what: format!("{} records are written by the audit log alone", event.action.as_str()),
                remedy: "record what happened to the call instead",
            });
        }
        let mut record = Record::of(event);
        let written = self.writer().append(&mut record)?;
        let sync = match self.0.fsync {
            Fsync::Always => true,
            Fsync::Writes => event.durable,
            Fsync::Never => false,
        };
        let recorded = written.recorded.clone();
        Ok(Appended { recorded, missing: sync.then(|| (self.clone(), written)) })
    }

    /// Whether a record could be appended now. A call that reads from Vault before its own record (the
    /// preview for a human) asks this first.
    ///
    /// # Errors
    /// As [`Audit::record`].
    pub fn check(&self) -> Result<(), AuditError> {
        self.writer().check()
    }

    /// Signs everything up to now, if there is something that is not yet signed. Done by itself every
    /// [`CHECKPOINT_EVERY`] records, at rotation and when the last clone is dropped.
    ///
    /// # Errors
    /// As [`Audit::record`].
    pub fn checkpoint(&self) -> Result<(), AuditError> {
        self.writer().checkpoint()
    }

    /// HMAC-SHA-256 of a value with this log's key, as `hmac-sha256:<hex>`: equal values give equal
    /// texts, and without the key nobody can try values out.
    #[must_use]
    pub fn hmac(&self, value: &[u8]) -> String {
        keys::hmac_text(&self.0.hmac, value)
    }

    fn writer(&self) -> std::sync::MutexGuard<'_, Writer> {
        // A writer that panicked has forgotten where the end is, and reads it again.
        self.0.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        // Nobody is left to tell; the next checkpoint covers what this one would have.
        let _ = self.writer.get_mut().unwrap_or_else(PoisonError::into_inner).checkpoint();
    }
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").field("fsync", &self.0.fsync).finish_non_exhaustive()
    }
}
