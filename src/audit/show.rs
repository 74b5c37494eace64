//! Shows records to a person: filters, and three forms. Whatever a record holds, a line stays a line
//! and a terminal is not steered.

use std::collections::VecDeque;
use std::io::{self, Write};
use std::path::Path;
use std::str::FromStr;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};

use super::reader::Reader;
use super::record::{self, Record};
use super::{Action, AuditError};

/// Which records are wanted; everything that is set must fit.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// At this time or later.
    pub since: Option<DateTime<Utc>>,
    /// Before this time.
    pub until: Option<DateTime<Utc>>,
    /// For this subject.
    pub subject: Option<String>,
    /// Of this operation.
    pub op: Option<String>,
    /// With this action.
    pub action: Option<Action>,
    /// Of the call with this id.
    pub id: Option<String>,
    /// Only so many, the last ones.
    pub last: Option<usize>,
}

impl Filter {
    /// Whether a record is wanted, the number aside.
    #[must_use]
    pub fn wants(&self, record: &Record<'_>) -> bool {
        let text = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|wanted| wanted == is);
        let time = || {
            if self.since.is_none() && self.until.is_none() {
                return true;
            }
            DateTime::parse_from_rfc3339(&record.ts).is_ok_and(|at| {
                self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at < until)
            })
        };
        text(&self.subject, &record.subject)
            && text(&self.op, &record.op)
            && text(&self.id, &record.id)
            && self.action.is_none_or(|action| action == record.action)
            && time()
    }
}

/// A time as people give it: RFC 3339, a date (its beginning in UTC), or how long ago (`90s`, `15m`, `2h`,
/// `7d`).
///
/// # Errors
/// [`AuditError::Usage`] if it is none of these.
pub fn parse_time(text: &str, now: DateTime<Utc>) -> Result<DateTime<Utc>, AuditError> {
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    if let Some(start) = NaiveDate::from_str(text).ok().and_then(|date| date.and_hms_opt(0, 0, 0)) {
        return Ok(start.and_utc());
    }
    let ago = || {
        let (at, unit) = text.char_indices().next_back()?;
        let number: i64 = text.get(..at)?.parse().ok().filter(|number| *number >= 0)?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3_600,
            'd' => 86_400,
            _ => return None,
        };
        now.checked_sub_signed(TimeDelta::try_seconds(number.checked_mul(seconds)?)?)
    };
    ago().ok_or_else(|| AuditError::Usage {
        what: format!("{} is not a time", record::quoted(text)),
        remedy: "give RFC 3339 (2026-01-31T12:00:00Z), a date (2026-01-31) or how long ago (90s, 15m, 2h, 7d)",
    })
}

/// How records are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum Format {
    /// `[timestamp] USER=… ACTION=… SERVICE=… DETAILS=…`
    #[default]
    Line,
    /// As they stand in the log.
    Json,
    /// In columns.
    Table,
}

/// Writes the wanted records of the log at `path`.
///
/// # Errors
/// If the log cannot be read or `out` not be written.
pub fn show(path: &Path, filter: &Filter, format: Format, out: &mut dyn Write) -> Result<(), AuditError> {
    let mut rows = Vec::new();
    select(path, filter, |found| {
        match (&found, format) {
            (Found::Record(record), Format::Table) => rows.push(cells(record)),
            (Found::Record(record), _) => print(record, format, out)?,
            (Found::Unreadable { .. }, _) => writeln!(out, "{found}")?,
        }
        Ok(())
    })?;
    if format == Format::Table {
        table(&rows, out)?;
    }
    Ok(())
}

/// What reading a line gave.
pub(super) enum Found {
    Record(Box<Record<'static>>),
    Unreadable { file: String, line: u64 },
}

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Record(record) => f.write_str(&line(record)),
            Self::Unreadable { file, line } => {
                write!(f, "{}:{line}: not a record of the log; run vault-mcp audit verify", bare(file))
            }
        }
    }
}

/// Calls `each` with the wanted records, and with every line that is none.
pub(super) fn select(
    path: &Path,
    filter: &Filter,
    mut each: impl FnMut(Found) -> Result<(), AuditError>,
) -> Result<(), AuditError> {
    let mut kept = VecDeque::new();
    Reader::open(path)?.lines(|part, line| {
        let found = match record::parse(&line.bytes) {
            Ok(record) if filter.wants(&record) => Found::Record(Box::new(record)),
            Ok(_) => return Ok(()),
            Err(_) => Found::Unreadable { file: part.name.clone(), line: line.number },
        };
        let Some(last) = filter.last else { return each(found) };
        kept.push_back(found);
        if kept.len() > last {
            kept.pop_front();
        }
        Ok(())
    })?;
    kept.into_iter().try_for_each(each)
}

/// Writes one record. A table of one has no head.
pub(super) fn print(record: &Record<'_>, format: Format, out: &mut dyn Write) -> io::Result<()> {
    match format {
        Format::Line => writeln!(out, "{}", line(record)),
        Format::Json => {
            out.write_all(&record.to_line()?)?;
            out.write_all(b"\n")
        }
        Format::Table => writeln!(out, "{}", cells(record).join("  ")),
    }
}

/// A record as `[timestamp] USER=… ACTION=… SERVICE=… DETAILS=…`. A value that could be taken for
/// something else is quoted as in JSON.
fn line(record: &Record<'_>) -> String {
    let mut details = vec![
        format!("op={}", bare(&record.op)),
        format!("effect={}", bare(&record.effect)),
        format!("front={}", bare(&record.front)),
        format!("id={}", bare(&record.id)),
    ];
    if !record.keys.is_empty() {
        let keys: Vec<String> = record.keys.iter().map(|key| bare(key)).collect();
        details.push(format!("keys={}", keys.join(",")));
    }
    let optional = [
        ("client", record.client.as_deref()),
        ("outcome", record.outcome.as_deref()),
        ("code", record.code.as_deref()),
        ("vault_request_id", record.vault_request_id.as_deref()),
        ("channel", record.approval.as_ref().map(|approval| approval.channel.as_ref())),
        ("ticket", record.approval.as_ref().map(|approval| approval.ticket.as_ref())),
    ];
    for (name, value) in optional {
        if let Some(value) = value {
            details.push(format!("{name}={}", bare(value)));
        }
    }
    format!(
        "[{}] USER={} ACTION={} SERVICE={} DETAILS={}",
        bare(&record.ts),
        bare(&record.subject),
        record.action.as_str(),
        bare(&record.target),
        details.join(" ")
    )
}

/// A text as it is if it is made of letters and signs that end no field, else quoted in plain ASCII.
pub(super) fn bare(text: &str) -> String {
    let plain = |byte: u8| {
        byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'.' | b'/' | b':' | b'+' | b'@' | b'#')
    };
    if !text.is_empty() && text.bytes().all(plain) { text.to_owned() } else { record::quoted(text) }
}

const HEAD: [&str; 7] = ["TIME", "SUBJECT", "ACTION", "OPERATION", "TARGET", "KEYS", "OUTCOME"];

/// A cell that is longer than this is cut in a table; the other forms show it whole.
const CELL: usize = 48;

fn cells(record: &Record<'_>) -> [String; 7] {
    let keys: Vec<String> = record.keys.iter().map(|key| bare(key)).collect();
    let outcome = record.code.as_deref().or(record.outcome.as_deref()).map(bare).unwrap_or_default();
    [
        bare(&record.ts),
        bare(&record.subject),
        record.action.as_str().to_owned(),
        bare(&record.op),
        bare(&record.target),
        keys.join(","),
        outcome,
    ]
    .map(|mut cell| {
        if cell.len() > CELL {
            // All of it is ASCII, so this is no middle of a character.
            cell.truncate(CELL - 3);
            cell.push_str("...");
        }
        cell
    })
}

fn table(rows: &[[String; 7]], out: &mut dyn Write) -> io::Result<()> {
    let mut widths = HEAD.map(str::len);
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.len().max(*width);
        }
    }
    let head = HEAD.map(str::to_owned);
    for row in std::iter::once(&head).chain(rows) {
        let padded: Vec<String> =
            row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        writeln!(out, "{}", padded.join("  ").trim_end())?;
    }
    Ok(())
}
