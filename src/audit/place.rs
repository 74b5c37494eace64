//! Puts the files of a log in place: begins a log, finishes what a killed process began, and reads the
//! first and last record of a file. Writes no record into a file that is in place already.

use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::sync::Arc;

use chrono::Utc;

use super::keys;
use super::names::Names;
use super::platform::{self, Access, FileId};
use super::record::{self, LogFact, MAX_RECORD, NO_HASH, Record};
use super::{Action, AuditError};

/// How many rotations by others are followed within one record.
pub(super) const FOLLOW_LIMIT: usize = 100;

/// An exclusive lock, given back when dropped.
pub(super) struct Locked(Arc<File>);

impl Locked {
    pub(super) fn take(file: &Arc<File>, names: &Names) -> Result<Self, AuditError> {
        loop {
            match file.lock() {
                Ok(()) => return Ok(Self(Arc::clone(file))),
                Err(signal) if signal.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(AuditError::io("locking", &names.path, source)),
            }
        }
    }
}

impl Drop for Locked {
    fn drop(&mut self) {
        // Closing the file gives the lock back too, so a failure here costs time and nothing else.
        let _ = self.0.unlock();
    }
}

pub(super) fn damaged(names: &Names, why: &'static str) -> AuditError {
    AuditError::Damaged { path: names.path.clone(), why }
}

pub(super) fn seal(
    record: &mut Record<'_>,
    seq: u64,
    prev: &str,
    names: &Names,
) -> Result<(Vec<u8>, String), AuditError> {
    let (line, hash) = record
        .seal(seq, Utc::now(), prev)
        .map_err(|source| AuditError::io("composing a record for", &names.path, source))?;
    if line.len() > MAX_RECORD {
        return Err(damaged(names, "a record would be longer than any may be"));
    }
    Ok((line, hash))
}

/// Opens the log if it is there.
fn open_existing(names: &Names) -> Result<Option<(File, FileId)>, AuditError> {
    match platform::open(&names.path, Access::Append) {
        Ok((file, meta)) => Ok(Some((file, platform::id(&meta)))),
        Err(AuditError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(other) => Err(other),
    }
}

/// Opens the log; begins it if it never was.
pub(super) fn open_or_begin(names: &Names) -> Result<(File, FileId), AuditError> {
    for _ in 0..FOLLOW_LIMIT {
        if let Some(opened) = open_existing(names)? {
            return Ok(opened);
        }
        ensure_present(names)?;
    }
    Err(AuditError::Busy { path: names.path.clone() })
}

/// There was no file under the path, or only a moment ago: begins the log if it never was, waits for a
/// rotation that is under way, finishes one whose owner died, or says that the log was removed.
///
/// Nobody who calls this holds a lock; who holds the lock of a segment never waits for that of the key.
pub(super) fn ensure_present(names: &Names) -> Result<(), AuditError> {
    let path = names.hmac_key();
    let (key_file, _) = platform::open(&path, Access::AppendOrMake)?;
    let key_file = Arc::new(key_file);
    let _lock = Locked::take(&key_file, names)?;
    let begun = !keys::read_text(&key_file, &path)?.is_empty();
    let present = || fs::symlink_metadata(&names.path).is_ok();
    let removed = || AuditError::Removed { path: names.path.clone() };
    for _ in 0..FOLLOW_LIMIT {
        // This before the list: a rotation that takes the file away makes the segment in the same step.
        if present() {
            return Ok(());
        }
        let Some((number, last)) = names.segments()?.pop() else {
            return match begun {
                false => begin(names, &key_file),
                true if finish_beginning(names)? => Ok(()),
                true => Err(removed()),
            };
        };
        if !begun {
            return Err(AuditError::KeyMissing { path });
        }
        let file = match platform::open(&last, Access::Append) {
            Ok((file, _)) => Arc::new(file),
            // Retention was faster.
            Err(AuditError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(other) => return Err(other),
        };
        // Who rotates holds the lock of the segment that it finishes until the new file is in place. So
        // if there is no file now, and no later segment, then nobody is at it any more.
        let _lock = Locked::take(&file, names)?;
        if present() {
            return Ok(());
        }
        if names.segments()?.pop().is_none_or(|(latest, _)| latest != number) {
            continue;
        }
        return if finish_rotation(names)? { Ok(()) } else { Err(removed()) };
    }
    Err(AuditError::Busy { path: names.path.clone() })
}

/// Makes keys and first record of a new log, under the lock of the HMAC key file. The order lets a kill
/// at any point be made good: until the HMAC key is written all of it is done again.
fn begin(names: &Names, mut key_file: &File) -> Result<(), AuditError> {
    let signer = keys::make_signer(names)?;
    let fact = LogFact::Opened {
        segment: 1,
        product: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
        public_key: signer.public_text(),
    };
    let mut record = Record::own(Action::LogOpened, "audit.open", names.name(), fact);
    prepare_next(names, &mut record, 1, NO_HASH)?;
    let path = names.hmac_key();
    key_file
        .write_all(keys::new_hmac_text()?.as_bytes())
        .and_then(|()| key_file.sync_all())
        .map_err(|source| AuditError::io("writing", &path, source))?;
    put_next_in_place(names)
}

/// Writes a new segment's first record, to disk, under the name that nobody reads.
pub(super) fn prepare_next(
    names: &Names,
    record: &mut Record<'_>,
    seq: u64,
    prev: &str,
) -> Result<(), AuditError> {
    let (line, _) = seal(record, seq, prev, names)?;
    let next = names.next();
    let fault = |source| AuditError::io("writing", &next, source);
    match fs::remove_file(&next) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => return Err(fault(source)),
        _ => {}
    }
    let (mut file, _) = platform::open(&next, Access::Make)?;
    let written = file.write_all(&line).and_then(|()| file.sync_all());
    if written.is_err() {
        // A part of a segment must not wait there for somebody to put it in place.
        let _ = fs::remove_file(&next);
    }
    written.map_err(fault)
}

fn put_next_in_place(names: &Names) -> Result<(), AuditError> {
    fs::rename(names.next(), &names.path)
        .map_err(|source| AuditError::io("putting in place", &names.path, source))?;
    platform::sync_folder(&names.folder)
}

/// The first record of the segment that waits to be put in place, if one does.
fn waiting(names: &Names) -> Result<Option<(LogFact, String)>, AuditError> {
    match platform::open(&names.next(), Access::Append) {
        Ok((file, _)) => Ok(read_head(&file, names).ok().map(|(_, fact, prev)| (fact, prev))),
        Err(AuditError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(other) => Err(other),
    }
}

/// Puts the waiting segment in place if it follows the last finished one. Says whether it did.
fn finish_rotation(names: &Names) -> Result<bool, AuditError> {
    let Some((number, last)) = names.segments()?.pop() else { return Ok(false) };
    let Some((LogFact::Rotated { segment, .. }, prev)) = waiting(names)? else { return Ok(false) };
    let (last, _) = platform::open(&last, Access::Append)?;
    let end = last_line(&last, names)?;
    let follows = segment == number.saturating_add(1)
        && end.torn.is_empty()
        && record::hash_of(&end.line).is_some_and(|hash| hash == prev);
    if follows {
        put_next_in_place(names)?;
    }
    Ok(follows)
}

/// Puts the first segment in place if the process that began the log died before it could.
fn finish_beginning(names: &Names) -> Result<bool, AuditError> {
    let begun = matches!(waiting(names)?, Some((LogFact::Opened { .. }, _)));
    if begun {
        put_next_in_place(names)?;
    }
    Ok(begun)
}

/// Length with line end, fact and `prev` of a segment's first record.
pub(super) fn read_head(mut file: &File, names: &Names) -> Result<(u64, LogFact, String), AuditError> {
    let mut bytes = Vec::with_capacity(1024);
    file.seek(SeekFrom::Start(0))
        .and_then(|_| file.take(MAX_RECORD as u64).read_to_end(&mut bytes))
        .map_err(|source| AuditError::io("reading", &names.path, source))?;
    let shortened = || AuditError::Shortened { path: names.path.clone() };
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(shortened)?;
    let line = bytes.get(..end).unwrap_or_default();
    let first = record::parse(line).map_err(|why| damaged(names, why))?;
    if record::hash_of(line).is_none_or(|hash| hash != first.hash) {
        return Err(damaged(names, "the hash of its first record does not match"));
    }
    let fact = first.log.ok_or_else(|| damaged(names, "its first record does not begin a segment"))?;
    Ok((end as u64 + 1, fact, first.prev.into_owned()))
}

/// The last whole line of a file without its end, and what follows it.
pub(super) struct End {
    pub(super) line: Vec<u8>,
    pub(super) torn: Vec<u8>,
}

pub(super) fn last_line(mut file: &File, names: &Names) -> Result<End, AuditError> {
    let fault = |source| AuditError::io("reading", &names.path, source);
    let len = file.metadata().map_err(fault)?.len();
    let mut window = 2 * MAX_RECORD as u64;
    loop {
        let start = len.saturating_sub(window);
        let mut bytes = Vec::new();
        file.seek(SeekFrom::Start(start)).map_err(fault)?;
        file.take(len - start).read_to_end(&mut bytes).map_err(fault)?;
        let mut parts = bytes.rsplitn(3, |byte| *byte == b'\n');
        let torn = parts.next();
        let line = parts.next();
        let more = parts.next().is_some();
        match (torn, line) {
            (Some(torn), Some(line)) if more || start == 0 => {
                return Ok(End { line: line.to_vec(), torn: torn.to_vec() });
            }
            _ if start == 0 => return Err(AuditError::Shortened { path: names.path.clone() }),
            _ => window = window.saturating_mul(4),
        }
    }
}
