//! A new file for a secret: 0600, never over an existing one, never through a link.

use std::{
    borrow::Cow,
    fs::File,
    io::Write,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::{AtFlags, Mode, OFlags};
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::{
    Root,
    spot::{Spot, kind},
};
use crate::{error::Error, names::is_invisible};

/// Marks the schema of a file's name, and is taken out before anybody sees it: what names a file is left out
/// where callers have no files here.
pub const FILE_MARK: &str = "x-file";

/// A path of a file as a caller gave it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FileName(String);

impl FileName {
    /// A path of 1 to 1024 visible characters. Where it may lie is decided when it is opened.
    #[must_use]
    pub fn parse(text: String) -> Option<Self> {
        let fits = (1..=1024).contains(&text.len()) && !text.chars().any(is_invisible);
        fits.then_some(Self(text))
    }

    /// The last part.
    #[must_use]
    pub fn last(&self) -> &str {
        self.0.rsplit('/').next().unwrap_or_default()
    }

    /// The path.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What comes after the last dot, in lower case.
    #[must_use]
    pub fn ending(&self) -> String {
        Path::new(&self.0)
            .extension()
            .and_then(|ending| ending.to_str())
            .unwrap_or_default()
            .to_ascii_lowercase()
    }
}

impl<'de> Deserialize<'de> for FileName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(String::deserialize(deserializer)?)
            .ok_or_else(|| D::Error::custom("give a file's path of 1 to 1024 visible characters"))
    }
}

impl JsonSchema for FileName {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> Cow<'static, str> {
        "FileName".into()
    }
    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Its longest length would cost a model more, in every tool, than it tells.
        json_schema!({ "type": "string", FILE_MARK: true })
    }
}

/// A file that was made and waits for its content. Dropped without it, it is removed again.
pub struct NewFile {
    folder: OwnedFd,
    name: String,
    path: PathBuf,
    file: Option<File>,
}

pub(super) fn refused(fault: impl Into<Cow<'static, str>>) -> Error {
    Error::FileRefused { fault: fault.into() }
}

impl NewFile {
    /// Makes the file, empty and 0600.
    ///
    /// # Errors
    /// `file_refused`: outside the roots, behind a link, in a hidden folder or another repository, or there
    /// already.
    pub fn create(name: &FileName, roots: &[Root]) -> Result<Self, Error> {
        let Spot { folder, name, path } = Spot::find(name, roots).map_err(refused)?;
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let made = rustix::fs::openat(&folder, name.as_str(), flags, Mode::from_raw_mode(0o600));
        let file = made.map_err(|error| match error {
            rustix::io::Errno::EXIST => {
                refused("there is a file of that name already, and it is never overwritten")
            }
            other => refused(format!("it cannot be made ({})", kind(other))),
        })?;
        Ok(Self { folder, name, path, file: Some(File::from(file)) })
    }

    /// Writes the content and waits until the disk has it.
    ///
    /// # Errors
    /// `file_refused` when it cannot be written; then there is no file.
    pub fn fill(mut self, content: &[u8]) -> Result<PathBuf, Error> {
        let unwritten = |error: std::io::Error| refused(format!("it cannot be written ({})", error.kind()));
        let Some(mut file) = self.file.take() else {
            return Err(Error::Internal { what: "a file filled twice" });
        };
        let written = file.write_all(content).and_then(|()| file.sync_all());
        if let Err(error) = written {
            self.file = Some(file);
            return Err(unwritten(error));
        }
        // The name, too, must outlast a power cut.
        let _ = rustix::fs::fsync(&self.folder);
        Ok(self.path.clone())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            // Empty or half-written: worse than none. If it cannot be removed there is nobody to tell.
            let _ = rustix::fs::unlinkat(&self.folder, self.name.as_str(), AtFlags::empty());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;
    use crate::handover::roots::visible_folder;

    fn create(root: &Path, name: &str) -> Result<NewFile, Error> {
        NewFile::create(&FileName(name.to_owned()), &[Root::of(root).unwrap()])
    }

    #[test]
    fn a_new_file_is_0600_and_never_over_another() {
        let root = visible_folder();
        let path = create(root.path(), "out.env").unwrap().fill(b"A=1\n").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"A=1\n");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(create(root.path(), "out.env").err().unwrap().code(), "file_refused");
        assert_eq!(std::fs::read(&path).unwrap(), b"A=1\n");
    }

    #[test]
    fn a_file_that_gets_no_content_is_removed() {
        let root = visible_folder();
        drop(create(root.path(), "x").unwrap());
        assert!(!root.path().join("x").exists());
    }

    #[test]
    fn links_hidden_places_other_repositories_and_the_outside_are_refused() {
        let root = visible_folder();
        let elsewhere = visible_folder();
        symlink(elsewhere.path(), root.path().join("link")).unwrap();
        symlink(elsewhere.path().join("target"), root.path().join("dangling")).unwrap();
        std::fs::create_dir_all(root.path().join(".git/hooks")).unwrap();
        std::fs::create_dir_all(root.path().join("vendored/.git")).unwrap();
        std::fs::create_dir_all(root.path().join(".ssh")).unwrap();
        for name in [
            "link/x",
            "dangling",
            "../x",
            "a/../../x",
            "./x/..",
            ".git/hooks/pre-commit",
            ".ssh/id",
            ".bashrc",
            "vendored/x",
            "missing/x",
            "/etc/x",
            "",
            "/",
            elsewhere.path().join("x").to_str().unwrap(),
        ] {
            assert!(create(root.path(), name).is_err(), "{name} was accepted");
        }
        assert!(std::fs::read_dir(elsewhere.path()).unwrap().next().is_none());
        assert!(create(root.path(), ".env.local").is_ok());
        assert!(create(root.path(), root.path().join("y").to_str().unwrap()).is_ok());
        assert!(NewFile::create(&FileName("x".into()), &[]).is_err());
    }
}
