//! What can go wrong with the audit log, each fault with a stable code and its remedy.
//! Inner causes are reached through `source()` and never printed twice.

use std::io;
use std::path::{Path, PathBuf};

use crate::codes::codes;

/// A fault of the audit log. `Display` says the fault, then the remedy.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AuditError {
    /// The file or its folder may not be opened or written.
    #[error(
        "the audit log {path:?} cannot be written: {source}; give this user write access to it and its folder, or set AUDIT_LOG to another path"
    )]
    Unwritable {
        /// The path that refused.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No room: disk, quota or file size limit.
    #[error(
        "no room for an audit record in {path:?}: {source}; free space on that file system or raise the limit, nothing runs unrecorded until then"
    )]
    Full {
        /// The log.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The path is a symbolic link.
    #[error(
        "the audit log {path:?} is a symbolic link; set AUDIT_LOG to the real file, links are not followed"
    )]
    Symlink {
        /// The link.
        path: PathBuf,
    },
    /// The path is a FIFO, folder, device or socket.
    #[error(
        "the audit log {path:?} is {kind}, not a regular file; move it away or set AUDIT_LOG to another path"
    )]
    NotAFile {
        /// The path.
        path: PathBuf,
        /// What it is, with its article.
        kind: &'static str,
    },
    /// The file or folder belongs to somebody else.
    #[error(
        "{path:?} belongs to user {owner}, not to the user that runs this process; give it back with chown, or set AUDIT_LOG to a path of your own"
    )]
    ForeignOwner {
        /// The file or folder.
        path: PathBuf,
        /// The user id it belongs to.
        owner: u32,
    },
    /// The file can be read or written by others.
    #[error("{path:?} has mode {mode:04o}, others could read or change it; run chmod 600 on it")]
    Permissions {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// Others may create and remove files beside the log.
    #[error(
        "the folder {path:?} of the audit log has mode {mode:04o}, others could replace the log; run chmod 700 on it, or set AUDIT_LOG to a path in a private folder"
    )]
    FolderOpen {
        /// The folder.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The log's file is gone although it was begun.
    #[error(
        "the audit log {path:?} was removed; put it back, or to begin a new log move its key files ({path:?}.*) and rotated segments away too"
    )]
    Removed {
        /// Where it was.
        path: PathBuf,
    },
    /// The path names another file than the one this log is kept in.
    #[error(
        "the audit log {path:?} was replaced by {kind}; put the log back and find out who moved it, then start again"
    )]
    Replaced {
        /// The log.
        path: PathBuf,
        /// What is there now, with its article.
        kind: &'static str,
    },
    /// The log lost bytes that were in it.
    #[error(
        "the audit log {path:?} was shortened; restore it from a copy, or move the log with its key files away and start a new one"
    )]
    Shortened {
        /// The log.
        path: PathBuf,
    },
    /// The log's end is not a record that another can follow.
    #[error(
        "the audit log {path:?} is damaged: {why}; run `vault-mcp audit verify`, then move the log with its key files away to start a new one"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A key file beside the log is missing or empty.
    #[error(
        "the audit key {path:?} is missing though the log exists; restore it, or move the log away to start a new one with new keys"
    )]
    KeyMissing {
        /// The key file.
        path: PathBuf,
    },
    /// A key file cannot be understood.
    #[error("the audit key {path:?} is not a key of the expected form; restore it from a copy")]
    KeyBad {
        /// The key file.
        path: PathBuf,
    },
    /// There is no log to read.
    #[error("there is no audit log at {path:?}; give its path with --log, or set AUDIT_LOG")]
    NotFound {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// The path cannot carry a log's family of names.
    #[error(
        "{path:?} cannot name an audit log; use an absolute or relative path that ends in a UTF-8 file name, such as audit.jsonl"
    )]
    BadPath {
        /// The path.
        path: PathBuf,
    },
    /// The platform names no data folder.
    #[error("no data folder is known for this user; set HOME, or set AUDIT_LOG to a path")]
    NoHome,
    /// The log was rotated faster than this process could follow.
    #[error("the audit log {path:?} rotates faster than it can be followed; raise the rotation size")]
    Busy {
        /// The log.
        path: PathBuf,
    },
    /// The provider of random numbers and signatures refused.
    #[error(
        "the cryptographic provider failed while {doing}; start the process again, and report it if it stays"
    )]
    Crypto {
        /// What was being done.
        doing: &'static str,
    },
    /// A filter or option of the audit commands cannot be understood.
    #[error("{what}; {remedy}")]
    Usage {
        /// The fault.
        what: String,
        /// The remedy.
        remedy: &'static str,
    },
    /// Any other fault of the file system.
    #[error("{doing} {path:?} failed: {source}; check the file system, then try again")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The value to hash could not be read.
    #[error("the value could not be read: {source}; give it on standard input")]
    Input {
        /// What the system said.
        source: io::Error,
    },
    /// The answer of an audit command could not be written.
    #[error("the output could not be written: {source}; check where it goes")]
    Output {
        /// What the system said.
        #[from]
        source: io::Error,
    },
}

codes!(AuditError: Unavailable {
    Self::Unwritable { .. } => "audit_unwritable", "the log or its folder may not be written";
    Self::Full { .. } => "audit_full", "no room for a record";
    Self::Symlink { .. } => "audit_symlink", "the log is a symbolic link";
    Self::NotAFile { .. } => "audit_not_a_file", "the log is a FIFO, folder, device or socket";
    Self::ForeignOwner { .. } => "audit_foreign_owner", "the log or its folder belongs to another user";
    Self::Permissions { .. } => "audit_permissions", "others could read or change the log or a key";
    Self::FolderOpen { .. } => "audit_folder_open", "others could replace files in the log's folder";
    Self::Removed { .. } => "audit_removed", "the log is gone although it was begun";
    Self::Replaced { .. } => "audit_replaced", "the log's path names another file than before";
    Self::Shortened { .. } => "audit_shortened", "the log lost bytes";
    Self::Damaged { .. } => "audit_damaged", "the log's end is nothing that a record can follow";
    Self::KeyMissing { .. } => "audit_key_missing", "a key file beside the log is gone";
    Self::KeyBad { .. } => "audit_key_bad", "a key file cannot be understood";
    Self::NotFound { .. } => "audit_not_found", "there is no log to read";
    Self::BadPath { .. } => "audit_bad_path", "the path cannot name a log";
    Self::NoHome => "audit_no_home", "the system names no data folder for this user";
    Self::Busy { .. } => "audit_busy", "the log rotates faster than it can be followed";
    Self::Crypto { .. } => "audit_crypto", "no randomness, or no signature";
    Self::Usage { .. } => "audit_usage", "an option of the `audit` commands does not parse";
    Self::Io { .. } => "audit_io", "any other fault of the file system";
    Self::Input { .. } => "audit_input", "standard input cannot be read";
    Self::Output { .. } => "audit_output", "standard output cannot be written";
});

impl AuditError {
    /// Sorts a file system fault into the variant that names it.
    pub(super) fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        use io::ErrorKind as Kind;
        let path = path.to_path_buf();
        match source.kind() {
            Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge => Self::Full { path, source },
            Kind::PermissionDenied | Kind::ReadOnlyFilesystem => Self::Unwritable { path, source },
            _ => Self::Io { doing, path, source },
        }
    }
}
