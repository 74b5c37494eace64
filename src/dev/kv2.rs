//! The key-value engine, version 2: versions, check-and-set, patch, soft deletion, destruction, metadata.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use http::StatusCode;
use serde_json::{Value, json};

use super::{
    duration,
    engine::{Call, Engine},
    fields::{Fields, to_int},
    gofloat,
    kv1::list,
    wire::{Answer, Fault, Object, Op, Reply, time},
};

mod metadata;

const DEFAULT_VERSIONS: u64 = 10;

/// One mount of it.
#[derive(Default)]
pub(super) struct Kv2 {
    config: Config,
    secrets: BTreeMap<String, Secret>,
}

#[derive(Default)]
struct Config {
    max_versions: u64,
    cas_required: bool,
    /// Seconds; negative switches the secrets' own settings off.
    delete_version_after: i64,
}

/// One path: its settings and its versions.
#[derive(Default)]
struct Secret {
    current: u64,
    oldest: u64,
    created: DateTime<Utc>,
    updated: DateTime<Utc>,
    max_versions: u64,
    cas_required: bool,
    delete_version_after: i64,
    custom_metadata: Option<Object>,
    versions: BTreeMap<u64, Version>,
    last_updated_by: Value,
}

struct Version {
    created: DateTime<Utc>,
    deletion: Option<DateTime<Utc>>,
    destroyed: bool,
    /// An object, or null where null was written; `None` once destroyed.
    data: Option<Value>,
    created_by: Value,
    deleted_by: Value,
}

impl Version {
    fn is_deleted(&self, now: DateTime<Utc>) -> bool {
        self.deletion.is_some_and(|at| at < now)
    }
}

/// The parts of a v2 path.
enum Place<'a> {
    Config,
    Data(&'a str),
    Metadata(&'a str),
    Delete(&'a str),
    Undelete(&'a str),
    Destroy(&'a str),
    Subkeys(&'a str),
    Elsewhere,
}

fn place(path: &str) -> Place<'_> {
    if path == "config" {
        return Place::Config;
    }
    let Some((kind, rest)) = path.split_once('/') else { return Place::Elsewhere };
    match kind {
        // A data path that ends in a slash is no data path.
        "data" if !rest.is_empty() && !rest.ends_with('/') => Place::Data(rest),
        "metadata" => Place::Metadata(rest),
        "delete" => Place::Delete(rest),
        "undelete" => Place::Undelete(rest),
        "destroy" => Place::Destroy(rest),
        "subkeys" => Place::Subkeys(rest),
        _ => Place::Elsewhere,
    }
}

impl Engine for Kv2 {
    fn exists(&self, path: &str) -> Option<bool> {
        match place(path) {
            Place::Data(key) | Place::Metadata(key) => Some(self.secrets.contains_key(key)),
            _ => None,
        }
    }

    fn fields(&self, path: &str) -> Option<&'static [&'static str]> {
        Some(match place(path) {
            Place::Config => &["max_versions", "cas_required", "delete_version_after"],
            Place::Data(_) => &["path", "version", "options", "data"],
            Place::Metadata(_) => &[
                "path",
                "exclude_deleted",
                "max_versions",
                "cas_required",
                "delete_version_after",
                "custom_metadata",
            ],
            Place::Delete(_) | Place::Undelete(_) | Place::Destroy(_) => &["path", "versions"],
            Place::Subkeys(_) => &["path", "version", "depth"],
            Place::Elsewhere => return None,
        })
    }

    fn handle(&mut self, call: &Call<'_>) -> Answer {
        match (place(call.path), call.op) {
            (Place::Config, Op::Read) => self.read_config(),
            (Place::Config, Op::Update | Op::Create) => self.write_config(call),
            (Place::Data(key), Op::Read) => self.read(key, call),
            (Place::Data(key), Op::Create | Op::Update) => self.write(key, call),
            (Place::Data(key), Op::Patch) => self.patch(key, call),
            (Place::Data(key), Op::Delete) => self.delete_latest(key, call),
            (Place::Metadata(key), Op::Read) => self.read_metadata(key),
            (Place::Metadata(key), Op::List) => self.list(key, call),
            (Place::Metadata(key), Op::Create | Op::Update) => self.write_metadata(key, call),
            (Place::Metadata(key), Op::Patch) => self.patch_metadata(key, call),
            (Place::Metadata(key), Op::Delete) => {
                self.secrets.remove(key);
                Ok(None)
            }
            (Place::Delete(key), Op::Create | Op::Update) => self.delete_versions(key, call),
            (Place::Undelete(key), Op::Create | Op::Update) => self.undelete(key, call),
            (Place::Destroy(key), Op::Create | Op::Update) => self.destroy(key, call),
            (Place::Subkeys(key), Op::Read) => self.subkeys(key, call),
            (Place::Elsewhere, Op::Other) => Err(Fault::unsupported_operation()),
            (Place::Elsewhere, op) => Ok(Some(elsewhere(call.path, op))),
            _ => Err(Fault::unsupported_operation()),
        }
    }
}

impl Kv2 {
    fn read(&self, key: &str, call: &Call<'_>) -> Answer {
        let Some((number, secret, version)) = self.version(key, call)? else { return Ok(None) };
        Ok(Some(match &version.data {
            Some(data) if !version.is_deleted(call.now) => Reply::data(json!({
                "data": gofloat::value(data)?,
                "metadata": describe(number, secret, version),
            })),
            _ => Reply::data(json!({ "data": null, "metadata": describe(number, secret, version) }))
                .with_status(StatusCode::NOT_FOUND),
        }))
    }

    fn subkeys(&self, key: &str, call: &Call<'_>) -> Answer {
        let depth = Fields(call.data).int("depth")?.unwrap_or_default();
        let Some((number, secret, version)) = self.version(key, call)? else { return Ok(None) };
        Ok(Some(match &version.data {
            Some(data) if !version.is_deleted(call.now) => Reply::data(json!({
                "subkeys": data.as_object().map(|data| without_values(data, 1, depth)),
                "metadata": describe(number, secret, version),
            })),
            _ => Reply::data(json!({ "subkeys": null, "metadata": describe(number, secret, version) }))
                .with_status(StatusCode::NOT_FOUND),
        }))
    }

    /// The version that a read asks for, if there is one.
    fn version(&self, key: &str, call: &Call<'_>) -> Result<Option<(u64, &Secret, &Version)>, Fault> {
        let asked = Fields(call.data).int("version")?.unwrap_or_default();
        let Some(secret) = self.secrets.get(key) else { return Ok(None) };
        let number = u64::try_from(asked).ok().filter(|number| *number > 0).unwrap_or(secret.current);
        Ok(secret.versions.get(&number).map(|version| (number, secret, version)))
    }

    fn write(&mut self, key: &str, call: &Call<'_>) -> Answer {
        let Some(given) = call.data.get("data") else { return Err(Fault::bad("no data provided")) };
        // A null is kept as it is; everything else is an object.
        let data = Fields(call.data)
            .object("data")?
            .map_or_else(|| given.clone(), |data| Value::Object(data.into_owned()));
        let options = Fields(call.data).object("options")?;
        let existing = self.secrets.get(key);
        check_cas(options.as_deref(), &self.config, existing)?;
        let secret = self.secrets.entry(key.to_owned()).or_default();
        Ok(Some(secret.add(data, &self.config, call)))
    }

    fn patch(&mut self, key: &str, call: &Call<'_>) -> Answer {
        let Some(patch) = Fields(call.data).object("data")? else {
            return Err(Fault::bad("no data provided"));
        };
        let options = Fields(call.data).object("options")?;
        let nothing = || Ok(Some(Reply::bare(StatusCode::NOT_FOUND)));
        let Some(secret) = self.secrets.get_mut(key) else { return nothing() };
        check_cas(options.as_deref(), &self.config, Some(secret))?;
        let Some(version) = secret.versions.get(&secret.current) else { return nothing() };
        let Some(data) = version.data.as_ref().filter(|_| !version.is_deleted(call.now)) else {
            let described = describe(secret.current, secret, version);
            return Ok(Some(Reply::data(described).with_status(StatusCode::NOT_FOUND)));
        };
        let mut merged = gofloat::value(data)?;
        merge(&mut merged, &patch);
        Ok(Some(secret.add(merged, &self.config, call)))
    }

    fn delete_latest(&mut self, key: &str, call: &Call<'_>) -> Answer {
        let Some(secret) = self.secrets.get_mut(key) else { return Ok(None) };
        let current = secret.current;
        if let Some(version) = secret.versions.get_mut(&current)
            && !version.destroyed
            && !version.is_deleted(call.now)
        {
            version.deletion = Some(call.now);
            version.deleted_by = attribution(call);
            secret.last_updated_by = attribution(call);
        }
        Ok(None)
    }

    fn delete_versions(&mut self, key: &str, call: &Call<'_>) -> Answer {
        let numbers = versions(call, "No version number provided")?;
        let Some(secret) = self.secrets.get_mut(key) else { return Ok(None) };
        for number in numbers {
            if let Some(version) = secret.versions.get_mut(&number)
                && !version.destroyed
                && !version.is_deleted(call.now)
            {
                version.deletion = Some(call.now);
                version.deleted_by = attribution(call);
            }
        }
        secret.last_updated_by = attribution(call);
        Ok(None)
    }

    fn undelete(&mut self, key: &str, call: &Call<'_>) -> Answer {
        let numbers = versions(call, "No version number provided")?;
        let Some(secret) = self.secrets.get_mut(key) else { return Ok(None) };
        let again = secret.deletion_time(&self.config, call.now);
        for number in numbers {
            if let Some(version) = secret.versions.get_mut(&number).filter(|version| !version.destroyed) {
                version.deletion = again;
                version.deleted_by = Value::Null;
            }
        }
        secret.last_updated_by = attribution(call);
        if let Some(by) = secret.last_updated_by.as_object_mut() {
            by.insert("operation".to_owned(), json!("undelete"));
        }
        Ok(None)
    }

    fn destroy(&mut self, key: &str, call: &Call<'_>) -> Answer {
        let numbers = versions(call, "no version number provided")?;
        let Some(secret) = self.secrets.get_mut(key) else { return Ok(None) };
        for number in numbers {
            if let Some(version) = secret.versions.get_mut(&number) {
                version.destroyed = true;
                version.data = None;
            }
        }
        Ok(None)
    }

    fn list(&self, key: &str, call: &Call<'_>) -> Answer {
        let keys = list(&self.secrets, key);
        if Fields(call.data).bool("exclude_deleted")? != Some(true) {
            return Ok(Some(Reply::keys(keys)));
        }
        let kept = |name: &String| {
            let secret = self.secrets.get(&format!("{key}{name}"));
            secret
                .and_then(|secret| secret.versions.get(&secret.current))
                .is_none_or(|version| version.deletion.is_none())
        };
        Ok(Some(Reply::keys(keys.into_iter().filter(kept).collect())))
    }
}

impl Secret {
    /// Adds a version and drops those beyond the limit.
    fn add(&mut self, data: Value, config: &Config, call: &Call<'_>) -> Reply {
        let deletion = self.deletion_time(config, call.now);
        if self.current == 0 && self.created == DateTime::<Utc>::default() {
            self.created = call.now;
        }
        self.last_updated_by = attribution(call);
        self.updated = call.now;
        self.current += 1;
        let version = Version {
            created: call.now,
            deletion,
            destroyed: false,
            data: Some(data),
            created_by: attribution(call),
            deleted_by: Value::Null,
        };
        let reply = Reply::data(describe(self.current, self, &version));
        self.versions.insert(self.current, version);
        let limit = match self.max_versions.max(config.max_versions) {
            0 => DEFAULT_VERSIONS,
            limit => limit,
        };
        if self.current - self.oldest >= limit {
            let last_dropped = self.current.saturating_sub(limit);
            self.versions.retain(|number, _| *number > last_dropped);
            self.oldest = last_dropped + 1;
        }
        reply
    }

    /// When a version made now ends by itself: the shorter of the mount's and the secret's setting.
    fn deletion_time(&self, config: &Config, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        if config.delete_version_after < 0 {
            return None;
        }
        let after = [config.delete_version_after, self.delete_version_after]
            .into_iter()
            .filter(|at| *at > 0)
            .min()?;
        now.checked_add_signed(TimeDelta::try_seconds(after)?)
    }
}

fn check_cas(options: Option<&Object>, config: &Config, secret: Option<&Secret>) -> Result<(), Fault> {
    let current = secret.map_or(0, |secret| secret.current);
    match options.and_then(|options| options.get("cas")) {
        Some(cas) => {
            let cas = match cas {
                Value::Null => 0,
                other => to_int(other).ok_or_else(|| Fault::bad("error parsing check-and-set parameter"))?,
            };
            if u64::try_from(cas) == Ok(current) {
                Ok(())
            } else {
                Err(Fault::bad("check-and-set parameter did not match the current version"))
            }
        }
        None if config.cas_required || secret.is_some_and(|secret| secret.cas_required) => {
            Err(Fault::bad("check-and-set parameter required for this call"))
        }
        None => Ok(()),
    }
}

/// JSON merge patch: null removes, an object merges, anything else replaces.
fn merge(target: &mut Value, patch: &Object) {
    if !target.is_object() {
        *target = Value::Object(Object::new());
    }
    let Some(object) = target.as_object_mut() else { return };
    for (key, value) in patch {
        match value {
            Value::Null => {
                object.remove(key);
            }
            Value::Object(inner) => merge(object.entry(key.clone()).or_insert(Value::Null), inner),
            other => {
                object.insert(key.clone(), other.clone());
            }
        }
    }
}

/// The same keys with null for every value, down to `limit` levels (0: all).
fn without_values(data: &Object, depth: i64, limit: i64) -> Value {
    data.iter()
        .map(|(key, value)| {
            let deeper = limit == 0 || depth < limit;
            let kept = match value {
                Value::Object(inner) if deeper && !inner.is_empty() => {
                    without_values(inner, depth + 1, limit)
                }
                _ => Value::Null,
            };
            (key.clone(), kept)
        })
        .collect::<Object>()
        .into()
}

fn versions(call: &Call<'_>, missing: &str) -> Result<Vec<u64>, Fault> {
    let numbers = Fields(call.data).ints("versions")?.unwrap_or_default();
    if numbers.is_empty() {
        return Err(Fault::bad(missing));
    }
    Ok(numbers.into_iter().filter_map(|number| u64::try_from(number).ok()).collect())
}

fn describe(number: u64, secret: &Secret, version: &Version) -> Value {
    json!({
        "version": number,
        "created_time": time(version.created),
        "deletion_time": version.deletion.map(time).unwrap_or_default(),
        "destroyed": version.destroyed,
        "custom_metadata": secret.custom_metadata,
    })
}

/// Who did it, as `metadata` shows it.
fn attribution(call: &Call<'_>) -> Value {
    let mut by = Object::new();
    if !call.caller.display_name.is_empty() {
        by.insert("actor".to_owned(), json!(call.caller.display_name));
    }
    if !call.caller.entity_id.is_empty() {
        by.insert("entity_id".to_owned(), json!(call.caller.entity_id));
    }
    if !call.caller.client_id.is_empty() {
        by.insert("client_id".to_owned(), json!(call.caller.client_id));
    }
    by.insert("operation".to_owned(), json!(call.op.name()));
    Value::Object(by)
}

/// The answer to a path that is none of version 2.
fn elsewhere(path: &str, op: Op) -> Reply {
    let text = match path {
        "metadata" | "data" | "delete" | "undelete" | "destroy" => {
            "Non-listing operations on the root of a K/V v2 mount are not supported.".to_owned()
        }
        _ => {
            let command = match op {
                Op::Create | Op::Update => "put",
                Op::Patch => "patch",
                Op::Read => "get",
                Op::List => "list",
                Op::Delete => "delete",
                Op::Other => "",
            };
            format!(
                "Invalid path for a versioned K/V secrets engine. See the API docs for the appropriate API \
                 endpoints to use. If using the Vault CLI, use 'vault kv {command}' for this operation."
            )
        }
    };
    Reply::warning(text).with_status(StatusCode::NOT_FOUND)
}

impl Kv2 {
    fn read_config(&self) -> Answer {
        Ok(Some(Reply::data(json!({
            "max_versions": self.config.max_versions,
            "cas_required": self.config.cas_required,
            "delete_version_after": duration::to_go(self.config.delete_version_after),
        }))))
    }

    fn write_config(&mut self, call: &Call<'_>) -> Answer {
        let fields = Fields(call.data);
        let max_versions = fields.int("max_versions")?;
        let cas_required = fields.bool("cas_required")?;
        let after = fields.duration("delete_version_after")?;
        if let Some(max_versions) = max_versions {
            self.config.max_versions = u64::try_from(max_versions).unwrap_or_default();
        }
        if let Some(cas_required) = cas_required {
            self.config.cas_required = cas_required;
        }
        if let Some(after) = after {
            self.config.delete_version_after = after.num_seconds();
        }
        Ok(None)
    }
}
