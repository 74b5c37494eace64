//! Where a caller's file lies: its folder, opened step by step from a root with no link followed, and the last
//! part of its name. What is checked is what is used later: nobody can put a link in between.

use std::{
    borrow::Cow,
    os::fd::OwnedFd,
    path::{Component, Path, PathBuf},
};

use rustix::fs::{AtFlags, Mode, OFlags};

use super::{
    FileName,
    roots::{Root, is_systems},
};

/// What is wrong with a path. Which error it becomes, reading or writing decides.
pub(super) type Fault = Cow<'static, str>;

/// An opened folder and a name in it.
pub(super) struct Spot {
    pub(super) folder: OwnedFd,
    pub(super) name: String,
    pub(super) path: PathBuf,
}

impl Spot {
    /// Walks to the folder of a file.
    ///
    /// # Errors
    /// Outside the roots, behind a link, in a hidden folder or another repository.
    pub(super) fn find(name: &FileName, roots: &[Root]) -> Result<Self, Fault> {
        let (root, relative) = locate(Path::new(name.as_str()), roots)?;
        let mut parts: Vec<&str> = Vec::new();
        for component in relative.components() {
            match component {
                Component::Normal(part) => parts.push(part.to_str().ok_or("its name is no text")?),
                _ => return Err("'.', '..' and absolute parts have no place in it".into()),
            }
        }
        let last = parts.pop().ok_or("it names no file")?;
        // Hidden names steer other programs (.git, .ssh, .bashrc, .envrc): only .env files are for us.
        let is_env = last == ".env" || last.starts_with(".env.");
        if parts.iter().any(|part| part.starts_with('.')) || (last.starts_with('.') && !is_env) {
            return Err("a hidden file or folder is not for secrets, but for .env files".into());
        }
        let path = root.path().join(parts.iter().collect::<PathBuf>());
        if is_systems(&path) {
            return Err("it lies in a folder of the system".into());
        }
        let folder = open_folder(root.path(), &parts)?;
        let path = path.join(last);
        Ok(Self { folder, name: last.to_owned(), path })
    }
}

/// The root a path lies in, and the rest of it.
fn locate<'a>(path: &Path, roots: &'a [Root]) -> Result<(&'a Root, PathBuf), Fault> {
    let first = roots.first().ok_or(
        "the client names no folder for files, and this server has no working folder; start it in one",
    )?;
    if path.is_relative() {
        return Ok((first, path.to_owned()));
    }
    let inside = roots.iter().find_map(|root| Some((root, root.strip(path)?.to_owned())));
    inside.ok_or_else(|| "it lies outside the client's folders".into())
}

fn open_folder(root: &Path, parts: &[&str]) -> Result<OwnedFd, Fault> {
    let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
    let missing = |error: rustix::io::Errno| -> Fault {
        match error {
            rustix::io::Errno::NOENT => "its folder does not exist".into(),
            rustix::io::Errno::LOOP | rustix::io::Errno::NOTDIR => {
                "a part of its path is a link or no folder".into()
            }
            other => format!("its folder cannot be opened ({})", kind(other)).into(),
        }
    };
    let mut folder = rustix::fs::open(root, flags, Mode::empty()).map_err(missing)?;
    for part in parts {
        folder = rustix::fs::openat(&folder, *part, flags, Mode::empty()).map_err(missing)?;
        if rustix::fs::statat(&folder, ".git", AtFlags::SYMLINK_NOFOLLOW).is_ok() {
            return Err("it lies in another repository".into());
        }
    }
    Ok(folder)
}

/// An operating system's error in words.
pub(super) fn kind(error: rustix::io::Errno) -> std::io::ErrorKind {
    std::io::Error::from(error).kind()
}
