//! Appends records: lock, see that the file is still the one, read the end if somebody else wrote,
//! write one whole line, unlock. Also rotates, and follows rotations by others.
//!
//! The lock is on the file itself and goes with it through a rename. Who rotates keeps the lock of the
//! old file until the new one is in place, so whoever waits for that lock finds a finished rotation, or
//! one whose owner died: then the path still names the old file or, where files cannot have two names,
//! the new segment lies ready under `….next`.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::hmac;
use chrono::Utc;

use super::keys::{self, Signer};
use super::names::Names;
use super::place::{
    FOLLOW_LIMIT, Locked, damaged, ensure_present, last_line, open_or_begin, prepare_next, read_head, seal,
};
use super::platform::{self, Access, FileId};
use super::record::{self, LogFact, Record};
use super::{Action, AuditError, CHECKPOINT_EVERY, Recorded, Settings};

/// A log that is open for appending.
pub(super) struct Writer {
    names: Arc<Names>,
    max_bytes: u64,
    keep: Option<usize>,
    signer: Option<Signer>,
    current: Current,
    /// Whether this writer wrote something since the last checkpoint that it saw.
    unsigned: bool,
}

/// The file that is written to.
struct Current {
    file: Arc<File>,
    id: FileId,
    /// Number of the segment and length of its first line; read when first needed.
    head: Option<(u32, u64)>,
    /// Where the file ends; None if that must be read.
    tail: Option<Tail>,
}

/// Whether a record can be written to the file.
enum Settled {
    /// It can.
    Ready,
    /// It was rotated, and this is the file that took its place.
    Moved(Current),
    /// There is no file under the path at the moment.
    Missing,
}

/// The end of the chain.
struct Tail {
    len: u64,
    seq: u64,
    hash: String,
}

/// A record in the file, perhaps not yet on the disk.
pub(super) struct Written {
    pub(super) recorded: Recorded,
    file: Arc<File>,
    path: PathBuf,
}

impl Written {
    /// Waits until the disk has it.
    pub(super) fn sync(&self) -> Result<(), AuditError> {
        self.file.sync_data().map_err(|source| self.fault(source))
    }

    /// The file that it is in.
    pub(super) fn file(&self) -> &Arc<File> {
        &self.file
    }

    /// What went wrong when the disk did not take it.
    pub(super) fn fault(&self, source: io::Error) -> AuditError {
        AuditError::io("syncing", &self.path, source)
    }
}

impl Writer {
    pub(super) fn open(names: Names, settings: &Settings) -> Result<(Self, hmac::Key), AuditError> {
        platform::ready_folder(&names.folder)?;
        let (file, id) = open_or_begin(&names)?;
        let hmac = keys::load_hmac(&names)?;
        let writer = Self {
            names: Arc::new(names),
            max_bytes: settings.max_bytes,
            keep: settings.keep,
            signer: None,
            current: Current { file: Arc::new(file), id, head: None, tail: None },
            unsigned: false,
        };
        Ok((writer, hmac))
    }

    pub(super) fn append(&mut self, record: &mut Record<'_>) -> Result<Written, AuditError> {
        for _ in 0..FOLLOW_LIMIT {
            let _lock = self.ready()?;
            if self.last_seq() % CHECKPOINT_EVERY == CHECKPOINT_EVERY - 1 {
                self.push_checkpoint()?;
            }
            let (line, hash) = self.sealed(record)?;
            if self.is_full(line.len()) {
                self.rotate()?;
                continue;
            }
            let recorded = self.push(&line, hash)?;
            self.unsigned = true;
            return Ok(Written {
                recorded,
                file: Arc::clone(&self.current.file),
                path: self.names.path.clone(),
            });
        }
        Err(AuditError::Busy { path: self.names.path.clone() })
    }

    /// Whether a record could be appended now: the path still names our log and its end is whole.
    pub(super) fn check(&mut self) -> Result<(), AuditError> {
        self.ready().map(drop)
    }

    /// Writes a checkpoint unless this writer has nothing that is not signed.
    pub(super) fn checkpoint(&mut self) -> Result<(), AuditError> {
        if !self.unsigned {
            return Ok(());
        }
        let _lock = self.ready()?;
        self.push_checkpoint()
    }

    /// Takes the lock of the file that the path names, with its end known.
    fn ready(&mut self) -> Result<Locked, AuditError> {
        for _ in 0..FOLLOW_LIMIT {
            let lock = Locked::take(&self.current.file, &self.names)?;
            match self.settle()? {
                Settled::Ready => return Ok(lock),
                moved => {
                    drop(lock);
                    self.go_along(moved)?;
                }
            }
        }
        Err(AuditError::Busy { path: self.names.path.clone() })
    }

    /// Without the lock: does what `settle` found to be needed before trying again.
    fn go_along(&mut self, moved: Settled) -> Result<(), AuditError> {
        match moved {
            Settled::Ready => {}
            Settled::Moved(next) => self.current = next,
            Settled::Missing => ensure_present(&self.names)?,
        }
        Ok(())
    }

    /// Under the lock: makes sure that the path still names our file and that its end is known.
    fn settle(&mut self) -> Result<Settled, AuditError> {
        let names = Arc::clone(&self.names);
        let path = &names.path;
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            // Removed, or another rotation than that of our file is under way or was killed.
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(Settled::Missing),
            Err(source) => return Err(AuditError::io("examining", path, source)),
        };
        if !meta.is_file() {
            return Err(AuditError::Replaced { path: path.clone(), kind: platform::kind(&meta) });
        }
        if platform::id(&meta) != self.current.id {
            return self.follow();
        }
        let len = meta.len();
        match &self.current.tail {
            Some(tail) if tail.len == len => {}
            Some(tail) if len < tail.len => return Err(AuditError::Shortened { path: path.clone() }),
            _ => self.read_end(len)?,
        }
        Ok(Settled::Ready)
    }

    /// Opens the file that took the place of ours, if that was our own rotation.
    fn follow(&mut self) -> Result<Settled, AuditError> {
        let names = Arc::clone(&self.names);
        let path = &names.path;
        let replaced = || AuditError::Replaced { path: path.clone(), kind: "another file" };
        let opened = platform::open(path, Access::Append)
            .and_then(|(file, meta)| Ok((read_head(&file, &names)?, file, meta)));
        let ((_, fact, prev), file, meta) = match opened {
            Ok(opened) => opened,
            Err(AuditError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                return Ok(Settled::Missing);
            }
            Err(other @ (AuditError::Io { .. } | AuditError::Unwritable { .. })) => return Err(other),
            // Whatever is wrong with it, it is not what we would have put there.
            Err(_) => return Err(replaced()),
        };
        let LogFact::Rotated { segment, oldest, .. } = fact else { return Err(replaced()) };
        let ours = self.segment()?;
        // Ours is now a finished segment, or it was one and retention has removed it since.
        let regular = segment > ours && (self.is_finished_segment()? || oldest > ours);
        if !regular {
            // Unless the next rotation, with its retention, came between the two looks.
            let still = fs::symlink_metadata(path).is_ok_and(|now| platform::id(&now) == platform::id(&meta));
            return if still { Err(replaced()) } else { Ok(Settled::Missing) };
        }
        if segment == ours.saturating_add(1) && self.is_finished_segment()? {
            let end = last_line(&self.current.file, &self.names)?;
            if !end.torn.is_empty() || record::hash_of(&end.line).is_none_or(|hash| hash != prev) {
                return Err(replaced());
            }
        }
        let id = platform::id(&meta);
        Ok(Settled::Moved(Current { file: Arc::new(file), id, head: None, tail: None }))
    }

    /// Whether our file lies where rotation would put it.
    fn is_finished_segment(&mut self) -> Result<bool, AuditError> {
        let segment = self.segment()?;
        let place = self.names.segment(segment);
        Ok(fs::symlink_metadata(place).is_ok_and(|meta| platform::id(&meta) == self.current.id))
    }

    fn head(&mut self) -> Result<(u32, u64), AuditError> {
        if let Some(head) = self.current.head {
            return Ok(head);
        }
        let (len, fact, _) = read_head(&self.current.file, &self.names)?;
        let segment = match fact {
            LogFact::Opened { segment, .. } | LogFact::Rotated { segment, .. } => segment,
            _ => return Err(damaged(&self.names, "its first record does not begin a segment")),
        };
        self.current.head = Some((segment, len));
        Ok((segment, len))
    }

    fn segment(&mut self) -> Result<u32, AuditError> {
        self.head().map(|(segment, _)| segment)
    }

    fn last_seq(&self) -> u64 {
        self.current.tail.as_ref().map_or(0, |tail| tail.seq)
    }

    /// Reads where the chain ends, and sets an unfinished last line aside.
    fn read_end(&mut self, len: u64) -> Result<(), AuditError> {
        let known = self.current.tail.take().map_or(0, |tail| tail.seq);
        if len == 0 {
            return Err(AuditError::Shortened { path: self.names.path.clone() });
        }
        self.head()?;
        let end = last_line(&self.current.file, &self.names)?;
        let last = record::parse(&end.line).map_err(|why| damaged(&self.names, why))?;
        if record::hash_of(&end.line).is_none_or(|hash| hash != last.hash) {
            return Err(damaged(&self.names, "the hash of its last record does not match"));
        }
        if last.seq < known {
            return Err(damaged(&self.names, "its last record is older than one that was seen before"));
        }
        let whole = len.saturating_sub(end.torn.len() as u64);
        let tail = Tail { len: whole, seq: last.seq, hash: last.hash.into_owned() };
        if !end.torn.is_empty() {
            return self.set_aside(&end.torn, tail);
        }
        self.current.tail = Some(tail);
        Ok(())
    }

    fn set_aside(&mut self, torn: &[u8], tail: Tail) -> Result<(), AuditError> {
        let name = self.names.torn_name(&Utc::now().format("%Y%m%dT%H%M%S%6fZ").to_string());
        let path = self.names.folder.join(&name);
        let fault = |source| AuditError::io("writing", &path, source);
        let (mut copy, _) = platform::open(&path, Access::Make)?;
        copy.write_all(torn).and_then(|()| copy.sync_all()).map_err(fault)?;
        platform::sync_folder(&self.names.folder)?;
        // Only now that the bytes are safe elsewhere.
        self.current
            .file
            .set_len(tail.len)
            .map_err(|source| AuditError::io("truncating", &self.names.path, source))?;
        self.current.tail = Some(tail);
        let fact = LogFact::TailSetAside {
            bytes: torn.len() as u64,
            sha256: record::sha256(torn),
            file: name.clone(),
        };
        self.push_own(Action::TailSetAside, "audit.set_aside", &name, fact)
    }

    fn push_checkpoint(&mut self) -> Result<(), AuditError> {
        let Some((seq, hash)) = self.current.tail.as_ref().map(|tail| (tail.seq, tail.hash.clone())) else {
            return Err(damaged(&self.names, "its end is not known"));
        };
        let signature = self.signer()?.sign(seq, &hash)?;
        let name = self.names.name().to_owned();
        self.push_own(
            Action::Checkpoint,
            "audit.checkpoint",
            &name,
            LogFact::Checkpoint { seq, hash, signature },
        )?;
        self.unsigned = false;
        Ok(())
    }

    fn push_own(
        &mut self,
        action: Action,
        op: &'static str,
        target: &str,
        fact: LogFact,
    ) -> Result<(), AuditError> {
        let mut record = Record::own(action, op, target, fact);
        let (line, hash) = self.sealed(&mut record)?;
        self.push(&line, hash).map(drop)
    }

    fn sealed(&self, record: &mut Record<'_>) -> Result<(Vec<u8>, String), AuditError> {
        let Some(tail) = &self.current.tail else {
            return Err(damaged(&self.names, "its end is not known"));
        };
        seal(record, tail.seq.saturating_add(1), &tail.hash, &self.names)
    }

    /// Writes a whole line at the end, or leaves the file as it was.
    fn push(&mut self, line: &[u8], hash: String) -> Result<Recorded, AuditError> {
        // While it is taken, whatever goes wrong makes the next call read the end again.
        let Some(tail) = self.current.tail.take() else {
            return Err(damaged(&self.names, "its end is not known"));
        };
        let mut file: &File = &self.current.file;
        if let Err(source) = file.write_all(line) {
            // If this fails too, the next writer sets the unfinished line aside.
            let _ = file.set_len(tail.len);
            return Err(AuditError::io("writing", &self.names.path, source));
        }
        let seq = tail.seq.saturating_add(1);
        self.current.tail = Some(Tail { len: tail.len + line.len() as u64, seq, hash: hash.clone() });
        Ok(Recorded { seq, hash })
    }

    fn signer(&mut self) -> Result<&Signer, AuditError> {
        let signer = match self.signer.take() {
            Some(signer) => signer,
            None => Signer::load(&self.names)?,
        };
        Ok(self.signer.insert(signer))
    }

    /// Whether a line would take the segment over its size. A segment takes one record at least.
    fn is_full(&self, line: usize) -> bool {
        let len = self.current.tail.as_ref().map_or(0, |tail| tail.len);
        let head = self.current.head.map_or(0, |(_, len)| len);
        len > head && len + line as u64 > self.max_bytes
    }

    /// Under the lock: finishes this segment and puts the next one in its place.
    fn rotate(&mut self) -> Result<(), AuditError> {
        let number = self.segment()?;
        let following = number.saturating_add(1);
        let finished = self.names.segment(number);
        // Ours already if somebody died right here.
        let linked = self.is_finished_segment()?;
        if !linked && fs::symlink_metadata(&finished).is_ok() {
            return Err(damaged(&self.names, "the name of its next finished segment is taken"));
        }
        self.push_checkpoint()?;
        let names = Arc::clone(&self.names);
        let fault = |source| AuditError::io("rotating", &names.path, source);
        self.current.file.sync_all().map_err(fault)?;
        let before = self.names.segments()?.into_iter().map(|(before, _)| before);
        let before: Vec<u32> = before.filter(|before| *before != number).collect();
        let count = before.len() + 1;
        let drop_count = self.keep.map_or(0, |keep| count.saturating_sub(keep));
        let oldest = before.iter().chain([&number]).nth(drop_count).copied().unwrap_or(following);
        let (seq, hash) = match &self.current.tail {
            Some(tail) => (tail.seq, tail.hash.clone()),
            None => return Err(damaged(&self.names, "its end is not known")),
        };
        let fact = LogFact::Rotated {
            segment: following,
            previous: self.names.segment_name(number),
            oldest,
            public_key: self.signer()?.public_text(),
        };
        let name = self.names.name().to_owned();
        let mut record = Record::own(Action::Rotated, "audit.rotate", &name, fact);
        prepare_next(&self.names, &mut record, seq.saturating_add(1), &hash)?;
        fs::rename(&self.names.path, &finished).map_err(fault)?;
        fs::rename(self.names.next(), &self.names.path).map_err(fault)?;
        platform::sync_folder(&self.names.folder)?;
        // Oldest first: what a kill leaves is a log without a gap. The new file can be rotated already, and
        // its retention be faster. What cannot be removed now is left to the next rotation: the record that
        // is to be written must not fail for it.
        for number in before.into_iter().chain([number]).take(drop_count) {
            match fs::remove_file(names.segment(number)) {
                Err(fault) if fault.kind() != io::ErrorKind::NotFound => break,
                _ => {}
            }
        }
        Ok(())
    }
}
