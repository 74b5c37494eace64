//! A file whose change counts without a restart: users that an operator adds or takes away, keys that an issuer
//! rotates. It is looked at when it is needed, at most once a second.
//!
//! A file that cannot be used keeps what it said before, and the log says so; a file that is gone says nothing any
//! more, for taking it away is how somebody would end everything in it. What this module does not do: know what
//! the files hold.

use std::{
    fs::{Metadata, OpenOptions},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use rustix::fs::OFlags;

use crate::error::Error;

/// Most bytes that such a file may have.
const MAX_FILE: u64 = 4 << 20;
/// How long a look at the file holds.
const LOOK: Duration = Duration::from_secs(1);

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Stamp {
    file: (u64, u64),
    size: u64,
    written: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &Metadata) -> Self {
        Self {
            file: (metadata.dev(), metadata.ino()),
            size: metadata.size(),
            written: (metadata.mtime(), metadata.mtime_nsec()),
            // Ownership and permissions as well: mending them is a change.
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}

/// A file and what it says.
pub(super) struct Watched<T> {
    path: PathBuf,
    setting: &'static str,
    parse: fn(&[u8]) -> Result<T, String>,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// The state of the file that was looked at last, used or not; nothing where there was none.
    seen: Option<Stamp>,
    /// When it was looked at last, if it was needed at all since it was opened.
    looked: Option<Instant>,
    value: Arc<T>,
}

impl<T: Default> Watched<T> {
    /// Reads the file for the first time. `setting` is what the user knows it by.
    ///
    /// # Errors
    /// `config_invalid` when it is there and cannot be used, or is missing and `needed`.
    pub(super) fn open(
        setting: &'static str,
        path: &Path,
        needed: bool,
        parse: fn(&[u8]) -> Result<T, String>,
    ) -> Result<Self, Error> {
        let (seen, value) = match read(path) {
            Ok((stamp, bytes)) => {
                (Some(stamp), parse(&bytes).map_err(|fault| Error::config(setting, fault))?)
            }
            Err(Unusable::Missing) if !needed => (None, T::default()),
            Err(unusable) => return Err(Error::config(setting, unusable.to_string())),
        };
        let state = State { seen, looked: None, value: Arc::new(value) };
        Ok(Self { path: path.to_owned(), setting, parse, state: Mutex::new(state) })
    }

    /// What the file says now, or said less than a second ago.
    pub(super) fn current(&self) -> Arc<T> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.looked.is_none_or(|looked| looked.elapsed() >= LOOK) {
            state.looked = Some(Instant::now());
            self.look(&mut state);
        }
        state.value.clone()
    }

    fn look(&self, state: &mut State<T>) {
        let there = std::fs::metadata(&self.path).ok().map(|metadata| Stamp::of(&metadata));
        if there == state.seen {
            return;
        }
        // Noted whether it can be used or not, so that one fault is told once.
        state.seen = there;
        let path = self.path.display();
        match read(&self.path) {
            Ok((stamp, bytes)) => match (self.parse)(&bytes) {
                Ok(value) => {
                    state.seen = Some(stamp);
                    state.value = Arc::new(value);
                    tracing::info!(setting = self.setting, %path, "read again");
                }
                Err(fault) => {
                    tracing::error!(setting = self.setting, %path, %fault, "the file is broken; what it said before goes on");
                }
            },
            Err(Unusable::Missing) => {
                state.value = Arc::default();
                tracing::error!(setting = self.setting, %path, "the file is gone, and with it all that it said");
            }
            Err(fault) => {
                tracing::error!(setting = self.setting, %path, %fault, "the file cannot be used; what it said before goes on");
            }
        }
    }
}

/// What a file says, once; nothing where there is none.
///
/// # Errors
/// `config_invalid` when it cannot be used.
pub(super) fn load<T: Default>(
    setting: &'static str,
    path: &Path,
    parse: fn(&[u8]) -> Result<T, String>,
) -> Result<T, Error> {
    match read(path) {
        Ok((_, bytes)) => parse(&bytes).map_err(|fault| Error::config(setting, fault)),
        Err(Unusable::Missing) => Ok(T::default()),
        Err(unusable) => Err(Error::config(setting, unusable.to_string())),
    }
}

/// Why a file is not read.
#[derive(Debug, thiserror::Error)]
enum Unusable {
    #[error("there is no such file. Make it, or correct the path.")]
    Missing,
    #[error("the file cannot be read ({0}). Check its path and permissions.")]
    Unreadable(io::ErrorKind),
    #[error("it is no regular file. Name one.")]
    NotAFile,
    #[error("the file belongs to another user, who could let anybody in. Give it to this user or to root.")]
    ForeignOwner,
    #[error("others may write to the file, and so let anybody in. Take that away: chmod go-w.")]
    Writable,
    #[error("the file is larger than {MAX_FILE} bytes. Split it, or remove what is no longer used.")]
    TooLarge,
}

impl From<io::Error> for Unusable {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Missing,
            kind => Self::Unreadable(kind),
        }
    }
}

/// The file's content. Symbolic links are followed, as mounted secrets are links; what counts is who owns what
/// they lead to, and who may write to it.
fn read(path: &Path) -> Result<(Stamp, Vec<u8>), Unusable> {
    // Without NONBLOCK, opening a FIFO would wait for its other end.
    let flags = (OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC).bits();
    let flags = i32::try_from(flags).unwrap_or_default();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(Unusable::NotAFile);
    }
    if metadata.uid() != 0 && metadata.uid() != rustix::process::geteuid().as_raw() {
        return Err(Unusable::ForeignOwner);
    }
    if metadata.mode() & 0o022 != 0 {
        return Err(Unusable::Writable);
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(Unusable::TooLarge);
    }
    Ok((Stamp::of(&metadata), bytes))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn parse(bytes: &[u8]) -> Result<String, String> {
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        if text.contains("broken") { Err("broken".into()) } else { Ok(text) }
    }

    fn watched(path: &Path) -> Watched<String> {
        Watched::open("USERS_FILE", path, true, parse).unwrap()
    }

    /// The content as the next look finds it.
    fn now(watched: &Watched<String>) -> String {
        watched.state.lock().unwrap().looked = None;
        watched.current().as_ref().clone()
    }

    #[test]
    fn a_change_counts_a_broken_file_does_not_and_a_file_that_is_gone_says_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let watched = watched(&path);
        assert_eq!(*watched.current(), "one");
        std::fs::write(&path, "two!").unwrap();
        // Looked at just now, and for as long as this test may take.
        watched.state.lock().unwrap().looked = Some(Instant::now() + 60 * LOOK);
        assert_eq!(*watched.current(), "one", "it is looked at once a second");
        assert_eq!(now(&watched), "two!");
        std::fs::write(&path, "broken").unwrap();
        assert_eq!(now(&watched), "two!");
        std::fs::remove_file(&path).unwrap();
        assert_eq!(now(&watched), "");
        std::fs::write(&path, "three").unwrap();
        assert_eq!(now(&watched), "three");
    }

    #[test]
    fn a_file_that_others_may_write_to_counts_from_when_that_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let watched = watched(&path);
        std::fs::write(&path, "two").unwrap();
        for mode in [0o620, 0o602, 0o666] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(now(&watched), "one", "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(now(&watched), "two");
    }

    #[test]
    fn what_cannot_be_used_is_refused_at_the_start() {
        let folder = tempfile::tempdir().unwrap();
        let open = |name: &str, needed| {
            let opened = Watched::open("USERS_FILE", &folder.path().join(name), needed, parse);
            opened.map(|watched| watched.current().as_ref().clone()).map_err(|error| error.to_string())
        };
        std::fs::write(folder.path().join("broken"), "broken").unwrap();
        std::fs::write(folder.path().join("large"), vec![b'x'; usize::try_from(MAX_FILE).unwrap() + 1])
            .unwrap();
        std::fs::create_dir(folder.path().join("folder")).unwrap();
        let fifo = folder.path().join("fifo");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &fifo,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::from_raw_mode(0o600),
            0,
        )
        .unwrap();
        for (name, word) in [
            ("broken", "broken"),
            ("large", "larger"),
            ("folder", "regular"),
            ("fifo", "regular"),
            ("missing", "no such file"),
        ] {
            let error = open(name, true).unwrap_err();
            assert!(error.starts_with("USERS_FILE: ") && error.contains(word), "{name}: {error}");
        }
        assert_eq!(open("missing", false).unwrap(), "");
    }
}
