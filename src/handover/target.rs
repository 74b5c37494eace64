//! A file as it is now, and its replacement as a whole: never half-written, never through a link, never without
//! a backup, and not at all when somebody else changed it in between.

use std::{
    fs::File,
    io::{Read, Write},
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat};
use zeroize::Zeroizing;

use super::{
    FileName, Root,
    new_file::refused,
    spot::{Fault, Spot, kind},
};
use crate::error::Error;

/// Most bytes that a file may have to be read.
pub const MAX_FILE: usize = 1 << 20;

fn unreadable(fault: Fault) -> Error {
    Error::FileUnreadable { fault }
}

/// The text of a file that has to be there.
///
/// # Errors
/// `file_unreadable`: outside the roots, behind a link, not there, no regular file, too large, no text.
pub fn read(name: &FileName, roots: &[Root]) -> Result<Zeroizing<String>, Error> {
    let spot = Spot::find(name, roots).map_err(unreadable)?;
    let existing = Existing::open(&spot).map_err(unreadable)?;
    Ok(existing.ok_or_else(|| unreadable("there is no such file".into()))?.text)
}

/// The whole path of a file that can be reached.
#[must_use]
pub fn path_of(name: &FileName, roots: &[Root]) -> Option<PathBuf> {
    Spot::find(name, roots).ok().map(|spot| spot.path)
}

/// What tells whether a file is still the one that was read.
#[derive(PartialEq, Eq)]
struct Seen(u64, u64, i64, i64, u64);

impl Seen {
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the types differ by platform")]
    fn of(stat: &Stat) -> Self {
        Self(
            stat.st_dev as u64,
            stat.st_ino as u64,
            stat.st_size as i64,
            stat.st_mtime as i64,
            stat.st_mtime_nsec as u64,
        )
    }
}

struct Existing {
    text: Zeroizing<String>,
    seen: Seen,
}

impl Existing {
    fn open(spot: &Spot) -> Result<Option<Self>, Fault> {
        // Without NONBLOCK, a named pipe would hold the call for ever.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
        let file = match rustix::fs::openat(&spot.folder, spot.name.as_str(), flags, Mode::empty()) {
            Ok(file) => file,
            Err(rustix::io::Errno::NOENT) => return Ok(None),
            Err(rustix::io::Errno::LOOP) => return Err("it is a link".into()),
            Err(other) => return Err(format!("it cannot be opened ({})", kind(other)).into()),
        };
        let stat =
            rustix::fs::fstat(&file).map_err(|error| format!("it cannot be looked at ({})", kind(error)))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err("it is no regular file".into());
        }
        let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE.min(stat.st_size.max(0) as usize) + 1));
        let read = File::from(file).take(MAX_FILE as u64 + 1).read_to_end(&mut bytes);
        read.map_err(|error| format!("it cannot be read ({})", error.kind()))?;
        if bytes.len() > MAX_FILE {
            return Err("it has more than 1 MiB".into());
        }
        let text = String::from_utf8(std::mem::take(&mut *bytes)).map_err(|error| {
            drop(Zeroizing::new(error.into_bytes()));
            "it is no UTF-8 text"
        })?;
        Ok(Some(Self { text: Zeroizing::new(text), seen: Seen::of(&stat) }))
    }
}

/// A file that is to be replaced, or made when it is not there.
pub struct TargetFile {
    spot: Spot,
    existing: Option<Existing>,
}

/// What was written.
#[derive(Debug)]
pub struct Written {
    /// The file.
    pub path: PathBuf,
    /// The old one, if there was one.
    pub backup: Option<PathBuf>,
}

impl TargetFile {
    /// Reads what is there.
    ///
    /// # Errors
    /// `file_refused`: outside the roots, behind a link, no regular file, too large, no text.
    pub fn open(name: &FileName, roots: &[Root]) -> Result<Self, Error> {
        let spot = Spot::find(name, roots).map_err(refused)?;
        let existing = Existing::open(&spot).map_err(refused)?;
        Ok(Self { spot, existing })
    }

    /// The text that is there.
    #[must_use]
    pub fn text(&self) -> Option<&str> {
        self.existing.as_ref().map(|existing| existing.text.as_str())
    }

    /// The whole path.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.spot.path
    }

    /// The name that a backup made at this time gets.
    #[must_use]
    pub fn backup_name(&self, now: chrono::DateTime<chrono::Local>) -> String {
        format!("{}.{}.bak", self.spot.name, now.format("%Y%m%d-%H%M%S"))
    }

    /// Puts the content in its place: backup first, then a temporary file in the same folder, then one rename.
    ///
    /// # Errors
    /// `file_refused` when it cannot be written or the file is no longer what was read; then it is as it was.
    pub fn replace(self, content: &[u8], now: chrono::DateTime<chrono::Local>) -> Result<Written, Error> {
        let mut random = [0u8; 8];
        crate::random::fill(&mut random)?;
        let temporary =
            self.write_new(&format!(".{}.{}.tmp", self.spot.name, hex::encode(random)), content)?;
        let Some(existing) = &self.existing else {
            self.put_new(temporary)?;
            return Ok(Written { path: self.spot.path, backup: None });
        };
        let backup = self.write_backup(existing.text.as_bytes(), now)?;
        let now_there =
            rustix::fs::statat(&self.spot.folder, self.spot.name.as_str(), AtFlags::SYMLINK_NOFOLLOW);
        if now_there.ok().map(|stat| Seen::of(&stat)).as_ref() != Some(&existing.seen) {
            return Err(refused("it was changed by somebody else in the meantime; call again"));
        }
        rustix::fs::renameat(
            &self.spot.folder,
            temporary.name.as_str(),
            &self.spot.folder,
            self.spot.name.as_str(),
        )
        .map_err(|error| refused(format!("it cannot be replaced ({})", kind(error))))?;
        temporary.keep();
        let path = self.spot.path.with_file_name(&backup.name);
        backup.keep();
        // The names, too, must outlast a power cut.
        let _ = rustix::fs::fsync(&self.spot.folder);
        Ok(Written { path: self.spot.path, backup: Some(path) })
    }

    fn write_backup(
        &self,
        content: &[u8],
        now: chrono::DateTime<chrono::Local>,
    ) -> Result<Temporary<'_>, Error> {
        let name = self.backup_name(now);
        for more in 0..10 {
            let name = match (more, name.strip_suffix(".bak")) {
                (1.., Some(name)) => format!("{name}-{more}.bak"),
                _ => name.clone(),
            };
            match rustix::fs::statat(&self.spot.folder, name.as_str(), AtFlags::SYMLINK_NOFOLLOW) {
                Err(rustix::io::Errno::NOENT) => return self.write_new(&name, content),
                _ => continue,
            }
        }
        Err(refused("there are ten backups of this second already"))
    }

    /// A new file beside the target, 0600, on the disk. Removed again unless it is kept.
    fn write_new(&self, name: &str, content: &[u8]) -> Result<Temporary<'_>, Error> {
        let unwritten =
            |error: std::io::Error| refused(format!("its folder cannot be written to ({})", error.kind()));
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let mode = Mode::from_raw_mode(0o600);
        let file = rustix::fs::openat(&self.spot.folder, name, flags, mode)
            .map_err(|error| unwritten(error.into()))?;
        let temporary = Temporary { spot: &self.spot, name: name.to_owned(), kept: false };
        let mut file = File::from(file);
        file.write_all(content).and_then(|()| file.sync_all()).map_err(unwritten)?;
        Ok(temporary)
    }

    /// Gives the temporary file its name where there was none. A link never replaces what came in between.
    fn put_new(&self, temporary: Temporary<'_>) -> Result<(), Error> {
        let (folder, name) = (&self.spot.folder, self.spot.name.as_str());
        let there = || refused("somebody else made it in the meantime; call again");
        match rustix::fs::linkat(folder, temporary.name.as_str(), folder, name, AtFlags::empty()) {
            // The temporary name goes with the drop.
            Ok(()) => {}
            Err(rustix::io::Errno::EXIST) => return Err(there()),
            Err(_) => {
                // A file system without hard links.
                if rustix::fs::statat(folder, name, AtFlags::SYMLINK_NOFOLLOW).is_ok() {
                    return Err(there());
                }
                rustix::fs::renameat(folder, temporary.name.as_str(), folder, name)
                    .map_err(|error| refused(format!("it cannot be made ({})", kind(error))))?;
                temporary.keep();
            }
        }
        let _ = rustix::fs::fsync(folder);
        Ok(())
    }
}

/// A file that is removed when it is dropped.
struct Temporary<'a> {
    spot: &'a Spot,
    name: String,
    kept: bool,
}

impl Temporary<'_> {
    fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if !self.kept {
            // If it cannot be removed there is nobody to tell.
            let _ = rustix::fs::unlinkat(&self.spot.folder, self.name.as_str(), AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::handover::roots::visible_folder;

    fn name(text: &str) -> FileName {
        FileName::parse(text.to_owned()).unwrap()
    }

    fn open(root: &Path, file: &str) -> Result<TargetFile, Error> {
        TargetFile::open(&name(file), &[Root::of(root).unwrap()])
    }

    fn names(root: &Path) -> Vec<String> {
        let mut names: Vec<_> = std::fs::read_dir(root)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        std::fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_file_is_replaced_with_a_backup_and_both_are_0600() {
        let root = visible_folder();
        let path = root.path().join(".env");
        std::fs::write(&path, "OLD=1\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let now = chrono::Local::now();
        let mut backups = Vec::new();
        for (number, old) in ["OLD=1\n", "N=0\n", "N=1\n"].iter().enumerate() {
            let target = open(root.path(), ".env").unwrap();
            assert_eq!(target.text(), Some(*old));
            let written = target.replace(format!("N={number}\n").as_bytes(), now).unwrap();
            let backup = written.backup.unwrap();
            assert_eq!(std::fs::read_to_string(&backup).unwrap(), *old);
            assert_eq!((mode(&backup), mode(&path)), (0o600, 0o600));
            backups.push(backup.file_name().unwrap().to_str().unwrap().to_owned());
        }
        let stamp = now.format("%Y%m%d-%H%M%S");
        assert_eq!(backups[0], format!(".env.{stamp}.bak"));
        assert_eq!(names(root.path()).len(), 4, "{:?}", names(root.path()));
    }

    #[test]
    fn a_new_file_is_made_0600_and_leaves_nothing_else() {
        let root = visible_folder();
        let written = open(root.path(), "a.yaml").unwrap().replace(b"a: 1\n", chrono::Local::now()).unwrap();
        assert!(written.backup.is_none());
        assert_eq!((names(root.path()), mode(&written.path)), (vec!["a.yaml".to_owned()], 0o600));
    }

    #[test]
    fn what_is_swapped_for_a_link_while_writing_leads_nowhere_else() {
        let root = visible_folder();
        let elsewhere = visible_folder();
        let victim = elsewhere.path().join("victim");
        std::fs::write(&victim, "untouched").unwrap();
        let path = root.path().join(".env");

        // The target itself, there before or not.
        std::fs::write(&path, "A=1\n").unwrap();
        let target = open(root.path(), ".env").unwrap();
        std::fs::remove_file(&path).unwrap();
        symlink(&victim, &path).unwrap();
        assert_eq!(target.replace(b"A=2\n", chrono::Local::now()).unwrap_err().code(), "file_refused");
        assert_eq!(names(root.path()), [".env"]);
        std::fs::remove_file(&path).unwrap();
        let target = open(root.path(), ".env").unwrap();
        symlink(&victim, &path).unwrap();
        assert_eq!(target.replace(b"A=2\n", chrono::Local::now()).unwrap_err().code(), "file_refused");
        assert!(std::fs::symlink_metadata(&path).unwrap().is_symlink());

        // Its folder: what is written lands in the folder that was opened.
        std::fs::create_dir(root.path().join("sub")).unwrap();
        let target = open(root.path(), "sub/x.env").unwrap();
        std::fs::rename(root.path().join("sub"), root.path().join("moved")).unwrap();
        symlink(elsewhere.path(), root.path().join("sub")).unwrap();
        target.replace(b"A=2\n", chrono::Local::now()).unwrap();
        assert_eq!(std::fs::read(root.path().join("moved/x.env")).unwrap(), b"A=2\n");
        assert_eq!(names(elsewhere.path()), ["victim"]);
        assert_eq!(std::fs::read_to_string(&victim).unwrap(), "untouched");
    }

    #[test]
    fn a_file_that_changed_since_it_was_read_is_not_replaced() {
        let root = visible_folder();
        let path = root.path().join(".env");
        std::fs::write(&path, "A=1\n").unwrap();
        let target = open(root.path(), ".env").unwrap();
        std::fs::write(&path, "A=1\nB=2\n").unwrap();
        assert_eq!(target.replace(b"A=2\n", chrono::Local::now()).unwrap_err().code(), "file_refused");
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "A=1\nB=2\n");
        assert_eq!(names(root.path()), [".env"]);
    }

    #[test]
    fn only_regular_text_files_of_at_most_a_mebibyte_are_read() {
        let root = visible_folder();
        std::fs::create_dir(root.path().join("folder")).unwrap();
        std::fs::write(root.path().join("large"), vec![b'a'; MAX_FILE + 1]).unwrap();
        std::fs::write(root.path().join("fits"), vec![b'a'; MAX_FILE]).unwrap();
        std::fs::write(root.path().join("binary"), [0xff, 0xfe]).unwrap();
        symlink("fits", root.path().join("link")).unwrap();
        let fifo = std::process::Command::new("mkfifo").arg(root.path().join("fifo")).status();
        assert!(fifo.is_ok_and(|status| status.success()));
        for file in ["folder", "large", "binary", "link", "missing", "fifo", "../x", "/etc/hostname"] {
            let error = read(&name(file), &[Root::of(root.path()).unwrap()]).unwrap_err();
            assert_eq!(error.code(), "file_unreadable", "{file}");
            if file != "missing" {
                assert_eq!(open(root.path(), file).err().unwrap().code(), "file_refused", "{file}");
            }
        }
        assert_eq!(read(&name("fits"), &[Root::of(root.path()).unwrap()]).unwrap().len(), MAX_FILE);
    }
}
