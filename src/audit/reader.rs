//! Reads a log back, segment after segment, while others may go on writing to it. It judges nothing:
//! a line is bytes until somebody parses it.
//!
//! Whoever may read the files may read the log, so that a copy can be examined on another machine and
//! by another user; the checks of owner and permissions are the writer's.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use super::AuditError;
use super::names::Names;
use super::record::{self, LogFact, Record};

/// How often a moment without rotation is looked for.
const STILL_LOOKS: u32 = 50;

/// How often, and after which pause, a file that may just be rotated is looked for.
const ROTATION_LOOKS: u32 = 20;
const ROTATION_PAUSE: Duration = Duration::from_millis(5);

/// One file of a log.
pub(super) struct Part {
    /// Its number; that of the file that is written to follows from its first record.
    pub(super) number: u32,
    /// Its name, without the folder.
    pub(super) name: String,
    /// Whether it is the file that is written to.
    pub(super) current: bool,
    /// Open already, if it is the current one; the others have names that stay.
    file: Option<File>,
    /// How much of it there was when the log was opened.
    len: u64,
}

/// A line of a part.
pub(super) struct Line {
    /// From 1.
    pub(super) number: u64,
    /// Without its end.
    pub(super) bytes: Vec<u8>,
    /// Whether it has an end.
    pub(super) ended: bool,
}

/// All files of a log that are there, in order.
pub(super) struct Reader {
    pub(super) names: Names,
    pub(super) parts: Vec<Part>,
    /// Names that look like finished segments but have numbers that were not reached yet.
    pub(super) strays: Vec<String>,
}

impl Reader {
    pub(super) fn open(path: &Path) -> Result<Self, AuditError> {
        let names = Names::of(path)?;
        let current = at_one_moment(&names)?;
        let begins = current.file.as_ref().and_then(first_number);
        let mut parts = Vec::new();
        let mut strays = Vec::new();
        for (number, path) in current.listed {
            let name = names.segment_name(number);
            if begins.is_none_or(|begins| number < begins) {
                parts.push(Part { number, name, current: false, file: None, len: u64::MAX });
            } else if current.still && !current.file.as_ref().is_some_and(|file| is_at(file, &path)) {
                strays.push(name);
            }
        }
        if let Some(file) = current.file {
            let number =
                begins.unwrap_or_else(|| parts.last().map_or(1, |last| last.number.saturating_add(1)));
            // Under the lock no line is half written, so one that is then is torn.
            let locked = file.lock_shared().is_ok();
            let len = file.metadata().map(|meta| meta.len());
            if locked {
                let _ = file.unlock();
            }
            let len = len.map_err(|source| AuditError::io("examining", path, source))?;
            let name = names.name().to_owned();
            parts.push(Part { number, name, current: true, file: Some(file), len });
        }
        if parts.is_empty() {
            return Err(AuditError::NotFound { path: path.to_path_buf() });
        }
        Ok(Self { names, parts, strays })
    }

    /// Calls `each` with every line of every part, until it fails.
    pub(super) fn lines(
        &self,
        mut each: impl FnMut(&Part, Line) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        for part in &self.parts {
            part.lines(&self.names, |line| each(part, line))?;
        }
        Ok(())
    }
}

impl Part {
    /// Calls `each` with every line, until it fails.
    pub(super) fn lines(
        &self,
        names: &Names,
        mut each: impl FnMut(Line) -> Result<(), AuditError>,
    ) -> Result<(), AuditError> {
        let path = names.folder.join(&self.name);
        let fault = |source| AuditError::io("reading", &path, source);
        let opened;
        let mut file = match &self.file {
            Some(file) => file,
            None => {
                opened = open_file(&path)?;
                &opened
            }
        };
        file.seek(SeekFrom::Start(0)).map_err(fault)?;
        let mut lines = BufReader::with_capacity(64 * 1024, file.take(self.len));
        for number in 1.. {
            let mut bytes = Vec::new();
            if lines.read_until(b'\n', &mut bytes).map_err(fault)? == 0 {
                break;
            }
            let ended = bytes.pop_if(|byte| *byte == b'\n').is_some();
            each(Line { number, bytes, ended })?;
        }
        Ok(())
    }
}

/// The current file and the finished segments, as they were at one moment.
struct Moment {
    file: Option<File>,
    listed: Vec<(u32, PathBuf)>,
    /// Whether it really was one moment: the log was not rotated while they were looked up.
    still: bool,
}

fn at_one_moment(names: &Names) -> Result<Moment, AuditError> {
    let mut looks = 0;
    loop {
        looks += 1;
        let file = match open_current(names) {
            Err(AuditError::NotFound { .. }) => None,
            other => Some(other?),
        };
        let listed = match names.segments() {
            Err(_) if file.is_none() => Vec::new(),
            other => other?,
        };
        if file.is_none() && !listed.is_empty() && looks == 1 {
            // It was begun and rotated between the two looks; or it is gone, and stays so.
            continue;
        }
        let still = file.as_ref().is_none_or(|file| is_at(file, &names.path));
        // What a log has that never is still can be read all the same; only what was dropped or added
        // in that moment may be missed.
        if still || looks == STILL_LOOKS {
            return Ok(Moment { file, listed, still });
        }
    }
}

/// Opens the file that is written to. For a moment in a rotation there is none.
pub(super) fn open_current(names: &Names) -> Result<File, AuditError> {
    for _ in 0..ROTATION_LOOKS {
        match open_file(&names.path) {
            Err(AuditError::NotFound { .. }) if names.segments().is_ok_and(|all| !all.is_empty()) => {
                thread::sleep(ROTATION_PAUSE);
            }
            other => return other,
        }
    }
    open_file(&names.path)
}

/// Opens a regular file for reading; anything else could make the reader wait for ever.
pub(super) fn open_file(path: &Path) -> Result<File, AuditError> {
    let fault = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => AuditError::NotFound { path: path.to_path_buf() },
        _ => AuditError::io("reading", path, source),
    };
    let meta = fs::metadata(path).map_err(fault)?;
    if !meta.is_file() {
        return Err(AuditError::NotAFile { path: path.to_path_buf(), kind: super::platform::kind(&meta) });
    }
    File::open(path).map_err(fault)
}

fn is_at(file: &File, path: &Path) -> bool {
    let id = |meta: io::Result<fs::Metadata>| meta.ok().map(|meta| super::platform::id(&meta));
    id(fs::metadata(path)) == id(file.metadata())
}

/// The number of a segment according to its first record.
pub(super) fn first_number(mut file: &File) -> Option<u32> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).ok()?;
    file.take(record::MAX_RECORD as u64).read_to_end(&mut bytes).ok()?;
    let line = bytes.split(|byte| *byte == b'\n').next()?;
    segment_of(&record::parse(line).ok()?)
}

/// The number of the segment that a record begins, if it begins one.
pub(super) fn segment_of(record: &Record<'_>) -> Option<u32> {
    match record.log {
        Some(LogFact::Opened { segment, .. } | LogFact::Rotated { segment, .. }) => Some(segment),
        _ => None,
    }
}
