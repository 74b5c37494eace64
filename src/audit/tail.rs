//! Shows the end of the log and follows it, through rotation. Polls: a log on any file system can be
//! followed that way, and a human does not see a fifth of a second.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::AuditError;
use super::names::Names;
use super::reader;
use super::record;
use super::show::{self, Filter, Format};

const POLL: Duration = Duration::from_millis(200);

/// How much is read at once, in bytes: more than any line.
const PORTION: u64 = 1024 * 1024;

/// How long the path may name no file of the log before that is an error: longer than a rotation takes.
const PATIENCE: u32 = 15;

/// Writes the last records (`filter.last`, else ten); then, if `follow`, every new one that fits, until
/// `go_on` says no. It is asked before each look at the file.
///
/// # Errors
/// If the log cannot be read, is gone, or `out` cannot be written.
pub fn tail(
    path: &Path,
    filter: &Filter,
    format: Format,
    follow: bool,
    out: &mut dyn Write,
    go_on: &mut dyn FnMut() -> bool,
) -> Result<(), AuditError> {
    let names = Names::of(path)?;
    // Opened before the past is shown, so that nothing falls between; what was shown is told by number.
    let mut place = Place::of(reader::open_current(&names)?, path)?;
    place.skip_to_end()?;
    let filter = Filter { last: Some(filter.last.unwrap_or(10)), ..filter.clone() };
    let mut seen = 0;
    show::select(path, &Filter { last: Some(1), ..Filter::default() }, |found| {
        if let show::Found::Record(record) = found {
            seen = record.seq;
        }
        Ok(())
    })?;
    let until = seen;
    show::select(path, &filter, |found| match found {
        show::Found::Record(record) if record.seq <= until => Ok(show::print(&record, format, out)?),
        show::Found::Record(_) => Ok(()),
        unreadable @ show::Found::Unreadable { .. } => Ok(writeln!(out, "{unreadable}")?),
    })?;
    out.flush()?;
    let mut absent = 0;
    while follow && go_on() {
        let mut idle = true;
        for line in place.new_lines()? {
            idle = false;
            match record::parse(&line) {
                Ok(record) if record.seq > seen => {
                    seen = record.seq;
                    if filter.wants(&record) {
                        show::print(&record, format, out)?;
                    }
                }
                Ok(_) => {}
                Err(why) => writeln!(out, "{}: {why}; run vault-mcp audit verify", show::bare(names.name()))?,
            }
        }
        out.flush()?;
        if !idle {
            continue;
        }
        match place.successor(&names) {
            Ok(Some(next)) => place = next,
            Ok(None) => absent = 0,
            // Between the two renames of a rotation there is no file under the path.
            Err(AuditError::NotFound { .. }) if absent < PATIENCE => absent += 1,
            Err(AuditError::NotFound { path }) => return Err(AuditError::Removed { path }),
            Err(other) => return Err(other),
        }
        thread::sleep(POLL);
    }
    Ok(())
}

/// Where the follower reads.
struct Place {
    file: File,
    path: PathBuf,
    id: super::platform::FileId,
    number: Option<u32>,
    offset: u64,
}

impl Place {
    fn open(path: &Path) -> Result<Self, AuditError> {
        Self::of(reader::open_file(path)?, path)
    }

    fn of(file: File, path: &Path) -> Result<Self, AuditError> {
        let meta = file.metadata().map_err(|source| AuditError::io("examining", path, source))?;
        let number = reader::first_number(&file);
        Ok(Self { file, path: path.to_path_buf(), id: super::platform::id(&meta), number, offset: 0 })
    }

    /// Goes to the beginning of a line near the end.
    fn skip_to_end(&mut self) -> Result<(), AuditError> {
        let fault = |source| AuditError::io("reading", &self.path, source);
        let len = self.file.metadata().map_err(fault)?.len();
        let start = len.saturating_sub(2 * record::MAX_RECORD as u64);
        if start > 0 {
            let bytes = self.read(start)?;
            let line = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            self.offset = start + line as u64;
        }
        Ok(())
    }

    /// Whole lines that came since the last time, a portion of them.
    fn new_lines(&mut self) -> Result<Vec<Vec<u8>>, AuditError> {
        let bytes = self.read(self.offset)?;
        let mut lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').map(<[u8]>::to_vec).collect();
        // What follows the last line end is not finished yet.
        let unfinished = lines.pop().map_or(0, |rest| rest.len());
        self.offset += (bytes.len() - unfinished) as u64;
        Ok(lines)
    }

    fn read(&self, from: u64) -> Result<Vec<u8>, AuditError> {
        let mut bytes = Vec::new();
        let mut file = &self.file;
        file.seek(SeekFrom::Start(from))
            .and_then(|_| file.take(PORTION).read_to_end(&mut bytes))
            .map_err(|source| AuditError::io("reading", &self.path, source))?;
        Ok(bytes)
    }

    /// The next file, if this one was rotated away.
    fn successor(&self, names: &Names) -> Result<Option<Self>, AuditError> {
        let current = Self::open(&names.path)?;
        if current.id == self.id {
            return Ok(None);
        }
        match (self.number, current.number) {
            // Several rotations went by: the next one is a finished segment already.
            (Some(ours), Some(theirs)) if theirs > ours.saturating_add(1) => {
                match Self::open(&names.segment(ours + 1)) {
                    Ok(next) => Ok(Some(next)),
                    Err(AuditError::NotFound { .. }) => Ok(Some(current)),
                    Err(other) => Err(other),
                }
            }
            (Some(ours), Some(theirs)) if theirs == ours.saturating_add(1) => Ok(Some(current)),
            _ => Err(AuditError::Replaced { path: names.path.clone(), kind: "another file" }),
        }
    }
}
