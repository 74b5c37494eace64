//! The `metadata/` paths of KV version 2: settings, custom metadata, the list of versions.

use std::borrow::Cow;

use http::StatusCode;
use serde_json::{Value, json};

use super::{Kv2, Secret, time};
use crate::dev::{
    duration,
    engine::Call,
    fields::{Fields, to_text, unconvertible},
    wire::{Answer, Fault, Object, Reply, multierror},
};

const PREFIX: &str = "custom_metadata validation failed";

impl Kv2 {
    pub(super) fn read_metadata(&self, key: &str) -> Answer {
        let Some(secret) = self.secrets.get(key) else { return Ok(None) };
        let versions: Object = secret
            .versions
            .iter()
            .map(|(number, version)| {
                let described = json!({
                    "created_time": time(version.created),
                    "deletion_time": version.deletion.map(time).unwrap_or_default(),
                    "destroyed": version.destroyed,
                    "created_by": version.created_by,
                    "deleted_by": version.deleted_by,
                });
                (number.to_string(), described)
            })
            .collect();
        Ok(Some(Reply::data(json!({
            "versions": versions,
            "current_version": secret.current,
            "oldest_version": secret.oldest,
            "created_time": time(secret.created),
            "updated_time": time(secret.updated),
            "max_versions": secret.max_versions,
            "cas_required": secret.cas_required,
            "delete_version_after": duration::to_go(secret.delete_version_after),
            "custom_metadata": secret.custom_metadata,
            "last_updated_by": secret.last_updated_by,
        }))))
    }

    pub(super) fn write_metadata(&mut self, key: &str, call: &Call<'_>) -> Answer {
        if key.is_empty() {
            return Err(Fault::bad("missing path"));
        }
        let settings = Settings::read(call)?;
        if settings.is_empty() {
            return Ok(None);
        }
        let custom = settings.custom.as_deref().map(|custom| texts(custom, false)).transpose()?;
        let reply = settings.ignored_cas(self.config.cas_required);
        let secret = self.secrets.entry(key.to_owned()).or_insert_with(|| Secret {
            created: call.now,
            updated: call.now,
            ..Secret::default()
        });
        settings.apply(secret);
        if custom.is_some() {
            secret.custom_metadata = custom.filter(|custom| !custom.is_empty());
        }
        Ok(reply)
    }

    pub(super) fn patch_metadata(&mut self, key: &str, call: &Call<'_>) -> Answer {
        if key.is_empty() {
            return Err(Fault::bad("missing path"));
        }
        let settings = Settings::read(call)?;
        let changes = settings.custom.as_deref().map(|custom| texts(custom, true)).transpose()?;
        let Some(secret) = self.secrets.get_mut(key) else {
            return Ok(Some(Reply::bare(StatusCode::NOT_FOUND)));
        };
        let reply = settings.ignored_cas(self.config.cas_required);
        settings.apply(secret);
        if let (Some(changes), Some(given)) = (changes, &settings.custom) {
            let mut custom = secret.custom_metadata.take().unwrap_or_default();
            for key in given.iter().filter(|(_, value)| value.is_null()).map(|(key, _)| key) {
                custom.remove(key);
            }
            custom.extend(changes);
            secret.custom_metadata = Some(custom).filter(|custom| !custom.is_empty());
        }
        Ok(reply)
    }
}

/// What a write to `metadata/` may set.
struct Settings<'a> {
    max_versions: Option<i64>,
    cas_required: Option<bool>,
    delete_version_after: Option<i64>,
    custom: Option<Cow<'a, Object>>,
}

impl<'a> Settings<'a> {
    fn read(call: &Call<'a>) -> Result<Self, Fault> {
        let fields = Fields(call.data);
        Ok(Self {
            max_versions: fields.int("max_versions")?,
            cas_required: fields.bool("cas_required")?,
            delete_version_after: fields.seconds("delete_version_after")?,
            custom: fields.object("custom_metadata")?,
        })
    }

    fn is_empty(&self) -> bool {
        self.max_versions.is_none()
            && self.cas_required.is_none()
            && self.delete_version_after.is_none()
            && self.custom.is_none()
    }

    fn ignored_cas(&self, mandated: bool) -> Option<Reply> {
        (self.cas_required == Some(false) && mandated).then(|| {
            Reply::warning(
                "\"cas_required\" set to false, but is mandated by backend config. This value will be ignored.",
            )
        })
    }

    fn apply(&self, secret: &mut Secret) {
        if let Some(max_versions) = self.max_versions {
            secret.max_versions = u64::try_from(max_versions).unwrap_or_default();
        }
        if let Some(cas_required) = self.cas_required {
            secret.cas_required = cas_required;
        }
        if let Some(after) = self.delete_version_after {
            secret.delete_version_after = after;
        }
    }
}

/// Custom metadata: at most 64 texts, names of 1–128 and values of 1–512 printable bytes.
fn texts(given: &Object, drop_nulls: bool) -> Result<Object, Fault> {
    let mut texts = Object::new();
    let mut faults = Vec::new();
    for (key, value) in given.iter().filter(|(_, value)| !(drop_nulls && value.is_null())) {
        let Some(text) = to_text(value) else {
            return Err(Fault::bad(format!("{PREFIX}: {}", unconvertible("", "string", value))));
        };
        texts.insert(key.clone(), Value::String(text));
    }
    if texts.len() > 64 {
        let text = format!("{PREFIX}: payload must contain at most 64 keys, provided {}", texts.len());
        return Err(Fault::bad(multierror(&[&text])));
    }
    for (key, text) in &texts {
        let text = text.as_str().unwrap_or_default();
        if key.is_empty() || key.len() > 128 {
            let length = key.len();
            faults
                .push(format!("{PREFIX}: length of key {key:?} is {length} but must be 0 < len(key) <= 128"));
        }
        if text.is_empty() || text.len() > 512 {
            let length = text.len();
            faults.push(format!(
                "{PREFIX}: length of value for key {key:?} is {length} but must be 0 < len(value) <= 512"
            ));
        }
        if key.chars().any(char::is_control) {
            faults.push(format!("{PREFIX}: key {key:?} ({key}) contains unprintable characters"));
        }
        if text.chars().any(char::is_control) {
            faults.push(format!("{PREFIX}: value for key {key:?} contains unprintable characters"));
        }
    }
    if faults.is_empty() {
        return Ok(texts);
    }
    let faults: Vec<&str> = faults.iter().map(String::as_str).collect();
    Err(Fault::bad(multierror(&faults)))
}
