//! The family of names around one log: `audit.jsonl` is written to, `audit.000001.jsonl` and so on
//! are its finished segments, `audit.jsonl.*` are its keys and what was set aside.

use std::fs;
use std::path::{Path, PathBuf};

use super::AuditError;

/// Names of the files that belong to one log.
#[derive(Debug, Clone)]
pub(super) struct Names {
    /// The file that is written to.
    pub(super) path: PathBuf,
    /// The folder it lies in.
    pub(super) folder: PathBuf,
    name: String,
    stem: String,
    ending: String,
}

impl Names {
    pub(super) fn of(path: &Path) -> Result<Self, AuditError> {
        let bad = || AuditError::BadPath { path: path.to_path_buf() };
        let name = path.file_name().and_then(|name| name.to_str()).ok_or_else(bad)?.to_owned();
        let (stem, ending) = match name.rsplit_once('.') {
            Some((stem, ending)) if !stem.is_empty() => (stem.to_owned(), format!(".{ending}")),
            _ => (name.clone(), String::new()),
        };
        let folder = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_path_buf(),
            _ => PathBuf::from("."),
        };
        Ok(Self { path: path.to_path_buf(), folder, name, stem, ending })
    }

    /// The bare name of the file that is written to.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The bare name of finished segment `number`.
    pub(super) fn segment_name(&self, number: u32) -> String {
        format!("{}.{number:06}{}", self.stem, self.ending)
    }

    /// Finished segment `number`.
    pub(super) fn segment(&self, number: u32) -> PathBuf {
        self.folder.join(self.segment_name(number))
    }

    /// A new segment, until it takes the place of the one that is being finished.
    pub(super) fn next(&self) -> PathBuf {
        self.beside("next")
    }

    /// Hexadecimal HMAC key; what is in it also says that the log was begun.
    pub(super) fn hmac_key(&self) -> PathBuf {
        self.beside("hmac-key")
    }

    /// Ed25519 private key, PKCS#8 PEM.
    pub(super) fn signing_key(&self) -> PathBuf {
        self.beside("signing-key.pem")
    }

    /// Ed25519 public key, PEM.
    pub(super) fn public_key(&self) -> PathBuf {
        self.beside("public-key.pem")
    }

    /// The bare name for a torn tail that was found at `stamp`.
    pub(super) fn torn_name(&self, stamp: &str) -> String {
        format!("{}.torn-{stamp}", self.name)
    }

    fn beside(&self, what: &str) -> PathBuf {
        self.folder.join(format!("{}.{what}", self.name))
    }

    /// Finished segments that are there, by number.
    pub(super) fn segments(&self) -> Result<Vec<(u32, PathBuf)>, AuditError> {
        let mut found = Vec::new();
        for entry in self.entries()? {
            if let Some(number) = self.number_of(&entry) {
                found.push((number, self.folder.join(entry)));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Bare names of the torn tails that were set aside.
    pub(super) fn torn(&self) -> Result<Vec<String>, AuditError> {
        let prefix = self.torn_name("");
        let mut found = self.entries()?;
        found.retain(|name| name.starts_with(&prefix));
        found.sort();
        Ok(found)
    }

    fn entries(&self) -> Result<Vec<String>, AuditError> {
        let fault = |source| AuditError::io("listing the folder", &self.folder, source);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(fault)? {
            if let Ok(name) = entry.map_err(fault)?.file_name().into_string() {
                names.push(name);
            }
        }
        Ok(names)
    }

    fn number_of(&self, name: &str) -> Option<u32> {
        let digits = name.strip_prefix(&self.stem)?.strip_prefix('.')?.strip_suffix(self.ending.as_str())?;
        let number = digits.parse().ok()?;
        // Only the one spelling that we write ourselves, or two names could claim one number.
        (number > 0 && self.segment_name(number) == name).then_some(number)
    }
}
