//! The file of users: who may call with an API key, and with which scopes. `vault-mcp user` writes it, the server
//! reads it.
//!
//! A key is made here and nowhere else, from 256 random bits, and the file holds its SHA-256. A slow hash would
//! protect what people think up; 256 random bits cannot be guessed at any speed, and the digest is compared on
//! every request. So that nobody can put the digest of a password in, a key from this file is taken only in the
//! form in which keys are made.

use std::{
    io::Write,
    path::{Path, PathBuf},
};

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use zeroize::Zeroizing;

use super::watched;
use crate::{caller::Scope, config::Config, error::Error, names::Subject};

/// What every key begins with, for those who look for keys where none should be.
const PREFIX: &str = "vmcp_";
/// Digits of a key's public id.
const ID_DIGITS: usize = 12;
/// Digits of its secret part.
const SECRET_DIGITS: usize = 64;
/// The one form of the file that is known here.
const FORM: u32 = 1;

/// A key as its holder has it. It is shown once.
pub struct ApiKey(Zeroizing<String>);

impl ApiKey {
    /// A new one.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn generate() -> Result<Self, Error> {
        let mut id = [0; ID_DIGITS / 2];
        let mut secret = Zeroizing::new([0; SECRET_DIGITS / 2]);
        crate::random::fill(&mut id)?;
        crate::random::fill(secret.as_mut())?;
        let secret = Zeroizing::new(hex::encode(secret.as_ref()));
        Ok(Self(Zeroizing::new(format!("{PREFIX}{}_{}", hex::encode(id), *secret))))
    }

    /// The key itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// What the file keeps of it.
    #[must_use]
    pub fn stored(&self, created: DateTime<Utc>) -> StoredKey {
        let id = self.0.get(PREFIX.len()..PREFIX.len() + ID_DIGITS).unwrap_or_default().to_owned();
        StoredKey { id, sha256: Digest::of(&self.0), created, expires: None }
    }
}

/// True for a text of the form in which keys are made here.
#[must_use]
pub fn is_made_here(text: &str) -> bool {
    let digits = |text: &str, count| {
        text.len() == count && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    text.strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('_'))
        .is_some_and(|(id, secret)| digits(id, ID_DIGITS) && digits(secret, SECRET_DIGITS))
}

/// SHA-256 of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Digest(pub [u8; 32]);

impl Digest {
    /// Of this key.
    #[must_use]
    pub fn of(key: &str) -> Self {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
        Self(bytes)
    }
}

impl Serialize for Digest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&hex::encode(self.0))
    }
}

impl<'de> Deserialize<'de> for Digest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let mut bytes = [0; 32];
        hex::decode_to_slice(text, &mut bytes)
            .map_err(|_| D::Error::custom("expected 64 hexadecimal digits"))?;
        Ok(Self(bytes))
    }
}

/// A key as the file has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredKey {
    /// The public part, by which people speak of it.
    pub id: String,
    /// SHA-256 of the whole key.
    pub sha256: Digest,
    /// When it was made.
    pub created: DateTime<Utc>,
    /// From when on it is no longer taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires: Option<DateTime<Utc>>,
}

impl StoredKey {
    /// True while the key is taken.
    #[must_use]
    pub fn is_good_at(&self, now: DateTime<Utc>) -> bool {
        self.expires.is_none_or(|expires| now < expires)
    }
}

/// An agent and its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct User {
    /// Whom its calls act for.
    pub subject: Subject,
    /// What its keys allow.
    pub scopes: Vec<Scope>,
    /// Its keys; more than one only while one takes another's place.
    pub keys: Vec<StoredKey>,
}

/// The content of the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Users {
    form: u32,
    /// In the order in which they were added.
    pub users: Vec<User>,
}

impl Default for Users {
    fn default() -> Self {
        Self { form: FORM, users: Vec::new() }
    }
}

impl Users {
    /// What the bytes of a file say.
    ///
    /// # Errors
    /// The fault, then the remedy; never a digest.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        let users: Self = serde_json::from_slice(bytes).map_err(|error| {
            format!(
                "the file is none of `vault-mcp user` (line {}). Restore it, or make it anew with that command.",
                error.line()
            )
        })?;
        if users.form != FORM {
            return Err(format!(
                "the file has form {}, and this version knows {FORM}. Use the version that wrote it.",
                users.form
            ));
        }
        let mut digests = std::collections::HashSet::new();
        for (number, user) in users.users.iter().enumerate() {
            let earlier = users.users.iter().take(number);
            if earlier.into_iter().any(|other| other.subject == user.subject) {
                return Err(format!("{} stands in the file twice. Remove one entry.", user.subject));
            }
            if user.keys.iter().any(|key| !digests.insert(key.sha256)) {
                return Err(format!("a key of {} stands in the file twice. Remove one.", user.subject));
            }
        }
        Ok(users)
    }

    /// Where the file lies: `USERS_FILE`, else `users.json` in the platform's folder for configuration. Never the
    /// working folder, whose files may be anybody's.
    #[must_use]
    pub fn path(config: &Config) -> Option<PathBuf> {
        config.users_file.clone().or_else(|| {
            let folders = directories::ProjectDirs::from("", "", "vault-mcp")?;
            Some(folders.config_dir().join("users.json"))
        })
    }

    /// What the file says; nobody where there is none.
    ///
    /// # Errors
    /// `config_invalid` when it cannot be used.
    pub fn load(path: &Path) -> Result<Self, Error> {
        watched::load("USERS_FILE", path, Self::parse)
    }

    /// Changes the file, one change at a time.
    ///
    /// # Errors
    /// Those of `change`, and `config_invalid` when the file cannot be read or written. Nothing is changed then.
    pub fn change(path: &Path, change: impl FnOnce(&mut Self) -> Result<(), Error>) -> Result<(), Error> {
        let folder = folder_of(path);
        std::fs::create_dir_all(folder).map_err(|error| unwritable(path, &error))?;
        // Beside the file, which is replaced: a lock on it would be on what is gone.
        let mut beside = path.as_os_str().to_owned();
        beside.push(".lock");
        let lock = std::fs::OpenOptions::new().create(true).append(true).open(beside);
        let lock = lock.map_err(|error| unwritable(path, &error))?;
        lock.lock().map_err(|error| unwritable(path, &error))?;
        let mut users = Self::load(path)?;
        change(&mut users)?;
        users.save(path)
    }

    /// The user of this subject.
    pub fn find(&mut self, subject: &Subject) -> Option<&mut User> {
        self.users.iter_mut().find(|user| user.subject == *subject)
    }

    /// Puts the file in place of what was there, at once and for this user alone (0600).
    fn save(&self, path: &Path) -> Result<(), Error> {
        let failed = |error: std::io::Error| unwritable(path, &error);
        let folder = folder_of(path);
        // Made 0600, written out, then renamed: a reader sees the old file or the new one.
        let mut file = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
        let text =
            serde_json::to_string_pretty(self).map_err(|_| Error::Internal { what: "users as JSON" })?;
        writeln!(file, "{text}").map_err(failed)?;
        file.as_file().sync_all().map_err(failed)?;
        file.persist(path).map_err(|error| failed(error.error))?;
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
    }
}

fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    let (path, kind) = (path.display(), error.kind());
    Error::config(
        "USERS_FILE",
        format!(
            "{path} cannot be written ({kind}). Give this user write access to its folder, or name another file."
        ),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_made_here_is_known_by_its_form_and_its_digest_only() {
        let key = ApiKey::generate().unwrap();
        assert!(is_made_here(key.expose()));
        let stored = key.stored(Utc::now());
        assert_eq!(stored.sha256, Digest::of(key.expose()));
        assert!(key.expose().starts_with(&format!("vmcp_{}_", stored.id)));
        let text = serde_json::to_string(&stored).unwrap();
        let secret = key.expose().rsplit('_').next().unwrap();
        assert!(!text.contains(secret));
        for text in
            ["hunter2", "", "vmcp_", "vmcp_0_0", &key.expose().to_uppercase(), &format!("{} ", key.expose())]
        {
            assert!(!is_made_here(text), "{text}");
        }
    }

    #[test]
    fn a_file_that_says_one_thing_twice_is_broken() {
        let key = |id: &str| serde_json::json!({"id": id, "sha256": "ab".repeat(32), "created": "2026-01-01T00:00:00Z"});
        let user = |subject: &str, keys: &[serde_json::Value]| serde_json::json!({"subject": subject, "scopes": ["read"], "keys": keys});
        let file = |users: &[serde_json::Value]| {
            Users::parse(serde_json::json!({"form": 1, "users": users}).to_string().as_bytes())
        };
        assert!(file(&[user("alice", &[key("a")]), user("bob", &[])]).is_ok());
        assert!(file(&[user("alice", &[]), user("alice", &[])]).unwrap_err().contains("alice"));
        assert!(file(&[user("alice", &[key("a")]), user("bob", &[key("b")])]).unwrap_err().contains("bob"));
        assert!(file(&[user("Alice", &[])]).is_err());
        assert!(Users::parse(br#"{"form": 2, "users": []}"#).is_err());
        assert!(Users::parse(br#"{"form": 1, "users": [], "more": 1}"#).is_err());
        assert!(Users::parse(b"").is_err());
    }

    #[test]
    fn what_is_saved_is_for_this_user_alone_and_read_back_the_same() {
        use std::os::unix::fs::PermissionsExt;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("below").join("users.json");
        let keys = vec![ApiKey::generate().unwrap().stored(Utc::now())];
        let users = Users {
            users: vec![User { subject: Subject::parse("alice").unwrap(), scopes: vec![Scope::Read], keys }],
            ..Users::default()
        };
        Users::change(&path, |empty| {
            assert!(empty.users.is_empty());
            empty.clone_from(&users);
            Ok(())
        })
        .unwrap();
        let refused = Users::change(&path, |users| {
            users.users.clear();
            Err(Error::ShuttingDown)
        });
        assert!(refused.is_err());
        assert_eq!(Users::parse(&std::fs::read(&path).unwrap()).unwrap(), users);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
}
