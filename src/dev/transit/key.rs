//! A named key: its versions, what may be done with which of them, and how it is shown.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::material::{Kind, Material};
use crate::dev::{
    fields::Fields,
    random,
    wire::{Fault, Object, time},
};

/// What can be changed about a key.
#[derive(Clone, Copy)]
pub(super) struct Config {
    pub(super) min_decryption: i64,
    pub(super) min_encryption: i64,
    pub(super) deletion_allowed: bool,
    exportable: bool,
    allow_plaintext_backup: bool,
    auto_rotate: i64,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            min_decryption: 1,
            min_encryption: 0,
            deletion_allowed: false,
            exportable: false,
            allow_plaintext_backup: false,
            auto_rotate: 0,
        }
    }
}

impl Config {
    /// Of a new key.
    pub(super) fn new(fields: &Fields<'_>) -> Result<Self, Fault> {
        Ok(Self {
            exportable: fields.bool("exportable")?.unwrap_or_default(),
            allow_plaintext_backup: fields.bool("allow_plaintext_backup")?.unwrap_or_default(),
            auto_rotate: auto_rotate(fields)?.unwrap_or_default(),
            ..Self::default()
        })
    }

    /// With what a request changes.
    pub(super) fn changed(
        mut self,
        fields: &Fields<'_>,
        latest: i64,
        warnings: &mut Vec<String>,
    ) -> Result<Self, Fault> {
        if let Some(wanted) = fields.int("min_decryption_version")? {
            if wanted < 0 {
                return Err(Fault::bad("min decryption version cannot be negative"));
            }
            if wanted == 0 {
                warnings.push(
                    "since Vault 0.3, transit key numbering starts at 1; forcing minimum to 1".to_owned(),
                );
            }
            self.min_decryption = wanted.max(1);
            if self.min_decryption > latest {
                return Err(Fault::bad(format!(
                    "cannot set min decryption version of {wanted}, latest key version is {latest}"
                )));
            }
        }
        if let Some(wanted) = fields.int("min_encryption_version")? {
            if wanted < 0 {
                return Err(Fault::bad("min encryption version cannot be negative"));
            }
            if wanted > latest {
                return Err(Fault::bad(format!(
                    "cannot set min encryption version of {wanted}, latest key version is {latest}"
                )));
            }
            self.min_encryption = wanted;
        }
        if self.min_encryption > 0 && self.min_encryption < self.min_decryption {
            return Err(Fault::bad(format!(
                "cannot set min encryption/decryption values; min encryption version of {} must be greater than or equal to min decryption version of {}",
                self.min_encryption, self.min_decryption
            )));
        }
        if let Some(allowed) = fields.bool("deletion_allowed")? {
            self.deletion_allowed = allowed;
        }
        // Both can be set and never be taken back.
        self.exportable |= fields.bool("exportable")?.unwrap_or_default();
        self.allow_plaintext_backup |= fields.bool("allow_plaintext_backup")?.unwrap_or_default();
        if let Some(period) = auto_rotate(fields)? {
            self.auto_rotate = period;
        }
        Ok(self)
    }
}

fn auto_rotate(fields: &Fields<'_>) -> Result<Option<i64>, Fault> {
    let period = fields.seconds("auto_rotate_period")?;
    match period {
        Some(1..3600) => Err(Fault::bad("auto rotate period must be 0 to disable or at least an hour")),
        period => Ok(period),
    }
}

/// One version of a key.
pub(super) struct Version {
    pub(super) material: Material,
    /// Every key can make HMACs, whatever else it does.
    pub(super) hmac: Vec<u8>,
    made: DateTime<Utc>,
}

/// A named key.
pub(super) struct Key {
    name: String,
    pub(super) kind: Kind,
    pub(super) derived: bool,
    /// Bytes of an HMAC key; 0 for every other.
    size: usize,
    pub(super) config: Config,
    versions: Vec<Version>,
}

impl Key {
    pub(super) fn new(
        name: &str,
        kind: Kind,
        derived: bool,
        size: i64,
        config: Config,
        now: DateTime<Utc>,
    ) -> Result<Self, Fault> {
        let size = usize::try_from(size).unwrap_or_default();
        let mut key = Self { name: name.to_owned(), kind, derived, size, config, versions: Vec::new() };
        key.rotate(now)?;
        Ok(key)
    }

    /// Adds a version.
    pub(super) fn rotate(&mut self, now: DateTime<Utc>) -> Result<(), Fault> {
        let material = Material::generate(self.kind, self.size)?;
        let hmac = match &material {
            Material::Hmac(key) => key.clone(),
            _ => random::many(32),
        };
        self.versions.push(Version { material, hmac, made: now });
        Ok(())
    }

    pub(super) fn latest(&self) -> i64 {
        i64::try_from(self.versions.len()).unwrap_or(i64::MAX)
    }

    /// A version by its number, from 1.
    pub(super) fn version(&self, number: i64) -> Option<&Version> {
        self.versions.get(usize::try_from(number).ok()?.checked_sub(1)?)
    }

    /// The key as `GET keys/{name}` shows it.
    pub(super) fn describe(&self) -> Value {
        let keys: Object = (1..)
            .zip(&self.versions)
            .filter(|(number, _): &(i64, _)| *number >= self.config.min_decryption)
            .map(|(number, version)| {
                let shown = match version.material.public(self.derived) {
                    None => json!(version.made.timestamp()),
                    Some((name, public)) => json!({
                        "certificate_chain": "",
                        "creation_time": time(version.made),
                        "hybrid_public_key": "",
                        "name": name,
                        "public_key": public,
                    }),
                };
                (number.to_string(), shown)
            })
            .collect();
        let mut out = json!({
            "allow_plaintext_backup": self.config.allow_plaintext_backup,
            "auto_rotate_period": self.config.auto_rotate,
            "deletion_allowed": self.config.deletion_allowed,
            "derived": self.derived,
            "exportable": self.config.exportable,
            "imported_key": false,
            "latest_version": self.latest(),
            "min_available_version": 0,
            "min_decryption_version": self.config.min_decryption,
            "min_encryption_version": self.config.min_encryption,
            "name": self.name,
            "supports_decryption": self.kind.encrypts(),
            "supports_derivation": self.kind.derives(),
            "supports_encryption": self.kind.encrypts(),
            "supports_signing": self.kind.signs(),
            "type": self.kind.name(),
        });
        if let Some(out) = out.as_object_mut() {
            // HMAC keys are shown with their size and without their versions.
            if self.kind == Kind::Hmac {
                out.insert("key_size".to_owned(), json!(self.size));
            } else {
                out.insert("keys".to_owned(), Value::Object(keys));
            }
            if self.derived {
                out.insert("kdf".to_owned(), json!("hkdf_sha256"));
                out.insert("convergent_encryption".to_owned(), json!(false));
            }
        }
        out
    }
}
