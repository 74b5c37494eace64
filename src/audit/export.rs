//! Writes records in the forms that log collectors read: OCSF 1.3 (API Activity), Elastic Common Schema
//! 8.11, and ArcSight's Common Event Format. One line for each record, plain ASCII.

use std::fmt::Write as _;
use std::io::Write;
use std::path::Path;

use chrono::DateTime;
use serde_json::{Value, json};

use super::record::{self, Record};
use super::show::{self, Filter, Found};
use super::{Action, AuditError};

/// A form that log collectors read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Target {
    /// OCSF 1.3.0, class API Activity (6003), JSON Lines.
    Ocsf,
    /// Elastic Common Schema 8.11, JSON Lines.
    Ecs,
    /// Common Event Format 0, for syslog.
    Cef,
}

const PRODUCT: &str = env!("CARGO_PKG_NAME");
const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Writes the wanted records of the log at `path`; gives the number of lines that are no records and
/// were left out.
///
/// # Errors
/// If the log cannot be read or `out` not be written.
pub fn export(path: &Path, filter: &Filter, to: Target, out: &mut dyn Write) -> Result<u64, AuditError> {
    let mut unreadable = 0;
    show::select(path, filter, |found| {
        let Found::Record(record) = found else {
            unreadable += 1;
            return Ok(());
        };
        match to {
            Target::Ocsf => json_line(&ocsf(&record), out)?,
            Target::Ecs => json_line(&ecs(&record), out)?,
            Target::Cef => writeln!(out, "{}", cef(&record))?,
        }
        Ok(())
    })?;
    Ok(unreadable)
}

fn json_line(value: &Value, out: &mut dyn Write) -> Result<(), AuditError> {
    out.write_all(&record::ascii(value)?)?;
    out.write_all(b"\n")?;
    Ok(())
}

/// How a record ended, for forms that know success, failure and neither.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Outcome {
    Success,
    Failure,
    Open,
}

fn outcome(action: Action) -> Outcome {
    match action {
        Action::Request | Action::ConfirmationRequired | Action::AnsweredElsewhere => Outcome::Open,
        Action::Failed
        | Action::Aborted
        | Action::ValidationFailed
        | Action::Refused
        | Action::TailSetAside => Outcome::Failure,
        Action::Success | Action::Confirmed | Action::LogOpened | Action::Rotated | Action::Checkpoint => {
            Outcome::Success
        }
    }
}

fn millis(record: &Record<'_>) -> i64 {
    DateTime::parse_from_rfc3339(&record.ts).map_or(0, |at| at.timestamp_millis())
}

/// One sentence about the record.
fn message(record: &Record<'_>) -> String {
    format!("{} {} {} by {}", record.action.as_str(), record.op, record.target, record.subject)
}

/// The record's own fields that the form has no place for.
fn rest(record: &Record<'_>) -> Value {
    json!({
        "action": record.action,
        "front": record.front,
        "effect": record.effect,
        "keys": record.keys,
        "outcome": record.outcome,
        "vault_request_id": record.vault_request_id,
        "approval": record.approval,
        "prev": record.prev,
        "hash": record.hash,
        "log": record.log,
    })
}

/// Sets a member if there is something to set it to.
fn set(map: &mut Value, key: &str, value: Option<impl Into<Value>>) {
    if let (Some(map), Some(value)) = (map.as_object_mut(), value) {
        map.insert(key.to_owned(), value.into());
    }
}

fn ocsf(record: &Record<'_>) -> Value {
    let last = record.op.rsplit(['.', '_']).next().unwrap_or_default();
    let (activity, activity_name) = match (record.effect.as_ref(), last) {
        (_, "delete" | "destroy" | "revoke") | ("destroy", _) => (4, "Delete"),
        ("issue", _) | ("write", "generate") => (1, "Create"),
        ("write", _) => (3, "Update"),
        ("read", _) => (2, "Read"),
        _ => (99, "Other"),
    };
    let activity_name = if activity == 99 { record.op.as_ref() } else { activity_name };
    let (status, status_name) = match outcome(record.action) {
        Outcome::Success => (1, "Success"),
        Outcome::Failure => (2, "Failure"),
        Outcome::Open => (0, "Unknown"),
    };
    let response = record.code.as_deref().map(|code| {
        let mut response = json!({ "error": code });
        set(&mut response, "error_message", record.outcome.as_deref());
        response
    });
    let mut api = json!({
        "operation": record.op,
        "request": { "uid": record.id },
        "service": { "name": PRODUCT },
    });
    set(&mut api, "response", response);
    let mut actor = json!({ "user": { "name": record.subject, "uid": record.subject } });
    set(&mut actor, "app_name", record.client.as_deref());
    let mut event = json!({
        "activity_id": activity,
        "activity_name": activity_name,
        "category_uid": 6,
        "category_name": "Application Activity",
        "class_uid": 6003,
        "class_name": "API Activity",
        "type_uid": 600_300 + activity,
        "type_name": format!("API Activity: {activity_name}"),
        "severity_id": if status == 2 { 2 } else { 1 },
        "severity": if status == 2 { "Low" } else { "Informational" },
        "status_id": status,
        "status": status_name,
        "time": millis(record),
        "message": message(record),
        "metadata": {
            "version": "1.3.0",
            "uid": format!("{}:{}", record.seq, record.hash),
            "sequence": record.seq,
            "correlation_uid": record.id,
            "log_name": "audit",
            "original_time": record.ts,
            "event_code": record.action,
            "product": { "name": PRODUCT, "vendor_name": PRODUCT, "version": VERSION },
        },
        "actor": actor,
        "api": api,
        "src_endpoint": { "name": record.front },
        "resources": [{ "name": record.target, "type": "secret store path" }],
        "unmapped": rest(record),
    });
    set(&mut event, "status_code", record.code.as_deref());
    set(&mut event, "status_detail", record.outcome.as_deref());
    event
}

fn ecs(record: &Record<'_>) -> Value {
    let kind = match (record.effect.as_ref(), record.action) {
        (_, Action::Refused | Action::Aborted | Action::ValidationFailed) => vec!["denied"],
        (_, Action::Confirmed) => vec!["allowed"],
        ("destroy", _) => vec!["deletion"],
        ("issue", _) => vec!["creation"],
        ("write", _) => vec!["change"],
        ("read", _) => vec!["access"],
        _ => vec!["info"],
    };
    let outcome = match outcome(record.action) {
        Outcome::Success => "success",
        Outcome::Failure => "failure",
        Outcome::Open => "unknown",
    };
    let mut own = rest(record);
    set(&mut own, "target", Some(record.target.as_ref()));
    let error = record.code.as_deref().map(|code| {
        let mut error = json!({ "code": code });
        set(&mut error, "message", record.outcome.as_deref());
        error
    });
    let mut event = json!({
        "@timestamp": record.ts,
        "ecs": { "version": "8.11.0" },
        "message": message(record),
        "event": {
            "kind": "event",
            "category": ["api"],
            "type": kind,
            "outcome": outcome,
            "action": record.op,
            "code": record.action,
            "dataset": "vault_mcp.audit",
            "module": "vault_mcp",
            "provider": PRODUCT,
            "id": format!("{}:{}", record.seq, record.hash),
            "sequence": record.seq,
            "hash": record.hash,
        },
        "user": { "name": record.subject },
        "related": { "user": [record.subject] },
        "service": { "name": PRODUCT, "type": PRODUCT, "version": VERSION },
        "observer": { "vendor": PRODUCT, "product": PRODUCT, "version": VERSION },
        "trace": { "id": record.id },
        "vault_mcp": own,
    });
    set(&mut event, "user_agent", record.client.as_deref().map(|name| json!({ "original": name })));
    set(&mut event, "error", error);
    event
}

fn cef(record: &Record<'_>) -> String {
    let (outcome, severity) = match outcome(record.action) {
        Outcome::Success => ("success", 3),
        Outcome::Failure => ("failure", 6),
        Outcome::Open => ("unknown", 3),
    };
    let mut line = format!(
        "CEF:0|{PRODUCT}|{PRODUCT}|{VERSION}|{}|{}|{severity}|",
        head(&format!("{}:{}", record.op, record.action.as_str())),
        head(&format!("{} {}", record.op, record.action.as_str())),
    );
    let keys = record.keys.join(",");
    let approval =
        record.approval.as_ref().map(|approval| format!("{}:{}", approval.channel, approval.ticket));
    let time = millis(record).to_string();
    let seq = record.seq.to_string();
    let text = message(record);
    let fields: [(&str, Option<&str>); 16] = [
        ("rt", Some(&time)),
        ("externalId", Some(&record.id)),
        ("suser", Some(&record.subject)),
        ("act", Some(record.action.as_str())),
        ("cat", Some(&record.effect)),
        ("outcome", Some(outcome)),
        ("reason", record.code.as_deref()),
        ("requestClientApplication", record.client.as_deref()),
        ("cn1", Some(&seq)),
        ("cs1", Some(&record.target)),
        ("cs2", Some(&keys)),
        ("cs3", Some(&record.front)),
        ("cs4", Some(&record.hash)),
        ("cs5", approval.as_deref()),
        ("cs6", record.vault_request_id.as_deref()),
        ("msg", Some(&text)),
    ];
    let labels = ["seq", "target", "keys", "front", "hash", "approval", "vaultRequestId"];
    let custom = fields.iter().map(|(name, _)| *name).skip(8).zip(labels);
    let mut parts = Vec::with_capacity(fields.len() * 2);
    for (name, value) in &fields {
        let Some(value) = value.filter(|value| !value.is_empty()) else { continue };
        if let Some((_, label)) = custom.clone().find(|(custom, _)| custom == name) {
            parts.push(format!("{name}Label={label}"));
        }
        parts.push(format!("{name}={}", extension(value)));
    }
    line.push_str(&parts.join(" "));
    line
}

/// A text for CEF's head: a bar or backslash takes a backslash, and there is no way to write a line end.
fn head(text: &str) -> String {
    escape(text, |character| matches!(character, '\\' | '|'), false)
}

/// A text for CEF's extension: an equals sign or backslash takes a backslash, line ends are `\n`, `\r`.
fn extension(text: &str) -> String {
    escape(text, |character| matches!(character, '\\' | '='), true)
}

fn escape(text: &str, special: impl Fn(char) -> bool, line_ends: bool) -> String {
    let mut out = String::with_capacity(text.len());
    let mut units = [0; 2];
    for character in text.chars() {
        match character {
            '\n' if line_ends => out.push_str("\\n"),
            '\r' if line_ends => out.push_str("\\r"),
            _ if special(character) => out.extend(['\\', character]),
            ' '..='~' => out.push(character),
            _ => {
                for unit in character.encode_utf16(&mut units) {
                    let _ = write!(out, "\\\\u{unit:04x}");
                }
            }
        }
    }
    out
}
