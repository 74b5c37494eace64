//! One error of each code, with made-up names, so that the document shows the real sentences.

use std::{io, path::PathBuf};

use vault_mcp::{audit::AuditError, error::Error};

pub(crate) fn samples() -> Vec<Error> {
    let address = || "https://vault.example.com:8200".to_owned();
    vec![
        Error::input("path", "missing field `path`"),
        Error::PathRefused { fault: "path: a segment is '..'".into() },
        Error::UnknownTool,
        Error::MaskedValue { field: "DB_PASSWORD".into() },
        Error::DangerousPattern { keys: "START".into(), patterns: "command substitution $(…)".into() },
        Error::TooLarge { what: "The data", limit: 1_048_576 },
        Error::Unauthorized,
        Error::ForeignOrigin,
        Error::MissingScope { scope: "write" },
        Error::RateLimited { retry_after_seconds: 12 },
        Error::Overloaded { retry_after_seconds: 1 },
        Error::RevealForbidden,
        Error::Declined,
        Error::Cancelled,
        Error::NobodyToAsk {
            why: "this client cannot show a question (no form elicitation) and no approver is attached"
                .into(),
        },
        Error::ApprovalTimedOut { seconds: 120 },
        Error::NotConfirmed,
        Error::TooManyPending { limit: 3 },
        Error::TooManyOpen { what: "calls", limit: 64 },
        Error::TicketInvalid { fault: "it is unknown, used or expired" },
        Error::NotFound,
        Error::VersionGone { version: 3, state: "deleted", remedy: "Undelete it, or read another version." },
        Error::Conflict,
        Error::UnsupportedOnKvV1 { what: "patching" },
        Error::MountNotFound { mount: "secret".into() },
        Error::Forbidden { path: "secret/data/mcp/alice/myapp".into(), capabilities: "\"patch\"".into() },
        Error::TokenMissing,
        Error::TokenInvalid,
        Error::ChildToken {
            fault: "the server's own may not make one".into(),
            line: "path \"auth/token/create\" { capabilities = [\"update\", \"sudo\"] }".into(),
        },
        Error::ChildTokenEnded,
        Error::VaultUnreachable { address: address(), fault: "the connection was refused".into() },
        Error::VaultTls { address: address(), fault: "the certificate is not trusted".into() },
        Error::VaultTimeout { seconds: 10 },
        Error::VaultSealed,
        Error::VaultStandby,
        Error::VaultRateLimited { remedy: "Wait 2 s, then call again.".into() },
        Error::VaultRejected { status: 400, hint: ": no data was given".into() },
        Error::VaultFailed { status: 500 },
        Error::VaultAnswer { fault: "its body does not have the expected shape" },
        Error::OutcomeUnknown {
            fault: "the answer broke off".into(),
            read_back: "A read afterwards shows version 4; the write may still arrive.".into(),
        },
        Error::KmsCredentialsMissing { fault: "no provider of the chain has any" },
        Error::KmsCredentialsRejected { fault: "they have expired" },
        Error::KmsForbidden { action: "kms:Encrypt" },
        Error::KmsThrottled,
        Error::KmsKeyNotFound,
        Error::KmsKeyUnusable { fault: "it is disabled" },
        Error::KmsCiphertext,
        Error::KmsRejected { hint: ": a grant token is not valid" },
        Error::KmsFailed { fault: "an internal error" },
        Error::KmsUnreachable {
            address: "kms.eu-central-1".into(),
            fault: "no connection within 4 s".into(),
        },
        Error::AppliedUnrecorded { fault: "no room for an audit record".into() },
        Error::config(
            "VAULT_ADDR",
            "expected http://host:port or https://host:port, without a path or credentials.",
        ),
        Error::FileRefused {
            fault: "there is a file of that name already, and it is never overwritten".into(),
        },
        Error::LeaseUnknown,
        Error::FileUnreadable { fault: "it is larger than 1 MiB".into() },
        Error::NotCarried { keys: "MOTTO (a line break)".into() },
        Error::KmsOff,
        Error::KmsCredentialsMissing { fault: "no provider has any" },
        Error::KmsCredentialsRejected { fault: "the token has expired" },
        Error::KmsForbidden { action: "kms:Encrypt" },
        Error::KmsThrottled,
        Error::KmsKeyNotFound,
        Error::KmsKeyUnusable { fault: "it is disabled" },
        Error::KmsCiphertext,
        Error::KmsRejected { hint: ": the algorithm does not fit the key" },
        Error::KmsFailed { fault: "an internal error" },
        Error::KmsUnreachable { address: "eu-central-1".into(), fault: "no connection".into() },
        Error::ShuttingDown,
        Error::Internal { what: "no randomness" },
    ]
}

pub(crate) fn audit_samples() -> Vec<AuditError> {
    let path = || PathBuf::from("/home/alice/.local/share/vault-mcp/audit/audit.jsonl");
    let folder = || PathBuf::from("/home/alice/.local/share/vault-mcp/audit");
    let source = |text: &str| io::Error::other(text.to_owned());
    vec![
        AuditError::Unwritable { path: path(), source: source("permission denied") },
        AuditError::Full { path: path(), source: source("no storage space") },
        AuditError::Symlink { path: path() },
        AuditError::NotAFile { path: path(), kind: "a FIFO" },
        AuditError::ForeignOwner { path: path(), owner: 1001 },
        AuditError::Permissions { path: path(), mode: 0o644 },
        AuditError::FolderOpen { path: folder(), mode: 0o777 },
        AuditError::Removed { path: path() },
        AuditError::Replaced { path: path(), kind: "another file" },
        AuditError::Shortened { path: path() },
        AuditError::Damaged { path: path(), why: "the hash of its last record does not match" },
        AuditError::KeyMissing { path: path().with_extension("jsonl.hmac-key") },
        AuditError::KeyBad { path: path().with_extension("jsonl.hmac-key") },
        AuditError::NotFound { path: path() },
        AuditError::BadPath { path: PathBuf::from("/") },
        AuditError::NoHome,
        AuditError::Busy { path: path() },
        AuditError::Crypto { doing: "signing a checkpoint" },
        AuditError::Usage {
            what: "\"yesterday\" is not a time".into(),
            remedy: "give RFC 3339 (2026-01-31T12:00:00Z), a date (2026-01-31) or how long ago (90s, 15m, 2h, 7d)",
        },
        AuditError::Io { doing: "reading", path: path(), source: source("input/output error") },
        AuditError::Input { source: source("stream did not contain valid UTF-8") },
        AuditError::Output { source: source("no storage space") },
    ]
}
