//! Changing secrets. Each operation previews what a human is asked about, and writes with the version of
//! that preview as check-and-set.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use super::{Affected, AreaWay, Entries, Written, preview_merge, preview_write, target};
use crate::{
    broker::{Granted, Look, Place},
    caller::Scope,
    error::Error,
    names::{MountName, SecretPath, Version, Versions},
    op::{Effect, Operation, Preview, Rest, RestAnswer, Spec, Target, Toolset, Verb},
    vault::{
        KvKind,
        kv::{Current, KvReader},
    },
};

/// A check-and-set number: 0 for "only if there is none".
#[derive(Clone, Copy)]
pub(crate) struct Cas(pub(crate) u64);

impl<'de> Deserialize<'de> for Cas {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let number = u64::deserialize(deserializer)?;
        if number > 0 {
            Version::new(number).map_err(serde::de::Error::custom)?;
        }
        Ok(Self(number))
    }
}

impl JsonSchema for Cas {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Cas".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 0 })
    }
}

/// A caller's own check-and-set that is not the state the human would be shown cannot succeed, and on
/// version 1 there is none.
pub(crate) fn check_cas(given: Option<Cas>, kv: &KvReader<'_>, current: &Current) -> Result<(), Error> {
    match (given, current.cas()) {
        (Some(_), _) if kv.kind() == Some(KvKind::V1) => {
            Err(Error::UnsupportedOnKvV1 { what: "check-and-set" })
        }
        (Some(Cas(given)), Some(now)) if given != now => Err(Error::Conflict),
        _ => Ok(()),
    }
}

/// `kv.write`.
pub struct Write;

/// Arguments of `kv.write`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WriteInput {
    /// Path of the secret.
    path: SecretPath,
    /// All keys and values; keys left out are gone in the new version.
    data: Entries,
    /// Write only onto this version; 0 only if there is none.
    cas: Option<Cas>,
    /// Another KV mount.
    mount: Option<MountName>,
}

impl Operation for Write {
    const SPEC: Spec = Spec {
        id: "kv.write",
        title: "Write a secret",
        summary: "Create a secret, or replace its whole content by a new version. A human confirms it first. To change some keys and keep the others use kv_patch; to make up a password use kv_generate, so that you never hold it.",
        scope: Some(Scope::Write),
        effect: Effect::Write,
        toolset: Toolset::Kv,
        idempotent: false,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Put,
        path: "/secrets/{path}",
        answer: RestAnswer::Output,
        about: "Creates a secret, or replaces its whole content by a new version. With `cas` it does so only onto that version. The values are not repeated in the answer.",
    });
    type Input = WriteInput;
    type Output = Written;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        let mut target =
            target(&input.path, input.mount.as_ref(), place, &[("data", &["create", "update"])])?;
        target.keys = input.data.0.keys().cloned().collect();
        Ok(target)
    }

    fn values(input: &Self::Input) -> Vec<(&str, &Value)> {
        input.data.0.iter().map(|(key, value)| (key.as_str(), value)).collect()
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let mount = look.place().mount(input.mount.as_ref())?;
        let path = look.place().path(&input.path)?;
        let kv = look.kv(mount);
        let current = kv.current(path.as_str()).await?;
        check_cas(input.cas, &kv, &current)?;
        Ok(preview_write(&current, &input.data.0))
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let mount = granted.place().mount(input.mount.as_ref())?;
        let path = granted.place().path(&input.path)?;
        let cas = granted.cas(input.cas.map(|cas| cas.0));
        let written = granted.kv(mount).write(path.as_str(), input.data.0, cas).await?;
        Ok(Written::of(input.path.as_str(), written))
    }
}

/// `kv.patch`.
pub struct Patch;

/// Arguments of `kv.patch`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchInput {
    /// Path of the secret.
    path: SecretPath,
    /// Keys to add or change; null removes a key. Other keys keep their values.
    data: Entries,
    /// Patch only this version.
    cas: Option<Cas>,
    /// Another KV mount.
    mount: Option<MountName>,
}

impl Operation for Patch {
    const SPEC: Spec = Spec {
        id: "kv.patch",
        title: "Change keys of a secret",
        summary: "Add, change or remove (null) some keys of an existing secret; the others keep their values. A human confirms it first. Do not read the secret to write it back: this needs only the keys that change.",
        scope: Some(Scope::Write),
        effect: Effect::Write,
        toolset: Toolset::Kv,
        idempotent: false,
    };
    type Input = PatchInput;
    type Output = Written;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        let mut target = target(&input.path, input.mount.as_ref(), place, &[("data", &["patch", "update"])])?;
        target.keys = input.data.0.keys().cloned().collect();
        Ok(target)
    }

    fn values(input: &Self::Input) -> Vec<(&str, &Value)> {
        input.data.0.iter().map(|(key, value)| (key.as_str(), value)).collect()
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let mount = look.place().mount(input.mount.as_ref())?;
        let path = look.place().path(&input.path)?;
        let kv = look.kv(mount);
        let current = kv.current(path.as_str()).await?;
        if kv.kind() == Some(KvKind::V1) {
            return Err(Error::UnsupportedOnKvV1 { what: "patching" });
        }
        check_cas(input.cas, &kv, &current)?;
        match current {
            Current::Absent => Err(Error::NotFound),
            Current::Gone(version) => Err(Error::VersionGone {
                version,
                state: "deleted or destroyed",
                remedy: "There is nothing to patch; undelete it, or write the secret anew.",
            }),
            current => Ok(preview_merge(&current, &input.data.0)),
        }
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let mount = granted.place().mount(input.mount.as_ref())?;
        let path = granted.place().path(&input.path)?;
        let cas = granted.cas(input.cas.map(|cas| cas.0));
        let kv = granted.kv(mount);
        let written = match kv.patch(path.as_str(), input.data.0.clone(), cas).await {
            // A policy without `patch` can still allow reading and writing the whole.
            Err(Error::Forbidden { path: refused, capabilities }) => {
                let Ok(read) = kv.read(path.as_str(), cas).await else {
                    return Err(Error::Forbidden { path: refused, capabilities });
                };
                let mut data = read.data.expose().clone();
                merge_patch(&mut data, input.data.0);
                kv.write(path.as_str(), data, read.version).await?
            }
            other => other?,
        };
        Ok(Written::of(input.path.as_str(), written))
    }
}

/// What Vault's own PATCH does (RFC 7396): objects are merged, null removes, anything else replaces.
fn merge_patch(target: &mut Map<String, Value>, patch: Map<String, Value>) {
    for (key, value) in patch {
        match value {
            Value::Null => drop(target.remove(&key)),
            Value::Object(inner) => {
                let slot = target.entry(key).or_insert_with(|| Value::Object(Map::new()));
                if !slot.is_object() {
                    *slot = Value::Object(Map::new());
                }
                if let Value::Object(slot) = slot {
                    merge_patch(slot, inner);
                }
            }
            other => drop(target.insert(key, other)),
        }
    }
}

/// `kv.rollback`.
pub struct Rollback;

/// Arguments of `kv.rollback`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RollbackInput {
    /// Path of the secret.
    path: SecretPath,
    /// Version whose content becomes the newest.
    version: Version,
    /// Another KV mount.
    mount: Option<MountName>,
}

impl Operation for Rollback {
    const SPEC: Spec = Spec {
        id: "kv.rollback",
        title: "Roll a secret back",
        summary: "Write the content of an older version as a new version. A human confirms it first. Look at kv_diff before. For a deleted version use kv_undelete.",
        scope: Some(Scope::Write),
        effect: Effect::Write,
        toolset: Toolset::Kv,
        idempotent: false,
    };
    type Input = RollbackInput;
    type Output = Written;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        target(&input.path, input.mount.as_ref(), place, &[("data", &["create", "update"])])
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let mount = look.place().mount(input.mount.as_ref())?;
        let path = look.place().path(&input.path)?;
        let kv = look.kv(mount);
        let (old, current) = futures_util::future::try_join(
            kv.read(path.as_str(), Some(input.version.get())),
            kv.current(path.as_str()),
        )
        .await?;
        let mut preview = preview_write(&current, old.data.expose());
        preview.verb = "ROLLBACK";
        let from = preview.version.map(|version| format!("from version {version} ")).unwrap_or_default();
        preview.detail = format!("{from}to the content of version {}", input.version.get());
        if let (_, Some(now)) = super::state_of(&current) {
            preview.changes.retain(|(_, key)| now.get(key) != old.data.expose().get(key));
        }
        Ok(preview)
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let mount = granted.place().mount(input.mount.as_ref())?;
        let path = granted.place().path(&input.path)?;
        let kv = granted.kv(mount);
        let old = kv.read(path.as_str(), Some(input.version.get())).await?;
        let written = kv.write(path.as_str(), old.data.expose().clone(), granted.cas(None)).await?;
        Ok(Written::of(input.path.as_str(), written))
    }
}

/// `kv.delete`.
pub struct Delete;

/// Arguments of `kv.delete`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeleteInput {
    /// Path of the secret.
    path: SecretPath,
    /// Versions to delete; the newest if left out.
    versions: Option<Versions>,
    /// Another KV mount.
    mount: Option<MountName>,
}

impl Operation for Delete {
    const SPEC: Spec = Spec {
        id: "kv.delete",
        title: "Delete a secret's versions",
        summary: "Delete the newest or the named versions of a secret; kv_undelete brings them back (not on a version 1 mount). A human confirms it first. To remove content for good use kv_destroy.",
        scope: Some(Scope::Delete),
        effect: Effect::Write,
        toolset: Toolset::Kv,
        idempotent: true,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Delete,
        path: "/secrets/{path}",
        answer: RestAnswer::Empty,
        about: "Deletes the newest version. `:undelete` brings it back.",
    });
    type Input = DeleteInput;
    type Output = Affected;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        // The newest version can be named too, so either right will do for it.
        let ways: &[AreaWay] = if input.versions.is_some() {
            &[("delete", &["create", "update"])]
        } else {
            &[("data", &["delete"]), ("delete", &["create", "update"])]
        };
        target(&input.path, input.mount.as_ref(), place, ways)
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let mount = look.place().mount(input.mount.as_ref())?;
        let path = look.place().path(&input.path)?;
        let kv = look.kv(mount);
        let current = kv.current(path.as_str()).await?;
        if let Some(versions) = &input.versions {
            if kv.kind() == Some(KvKind::V1) {
                return Err(Error::UnsupportedOnKvV1 { what: "deleting single versions" });
            }
            let preview =
                preview_versions("DELETE", ", can be undeleted", &input.path, mount, versions, look);
            return preview
                .await
                .map(|preview| Preview { version: preview.version.or(current.cas()), ..preview });
        }
        let detail = match &current {
            Current::Absent => return Err(Error::NotFound),
            Current::Gone(version) => {
                return Err(Error::VersionGone {
                    version: *version,
                    state: "deleted or destroyed already",
                    remedy: "Name other versions, or leave it.",
                });
            }
            Current::Present(read) => match read.version {
                Some(version) => format!("version {version}, can be undeleted"),
                None => "for good: this mount keeps no versions".to_owned(),
            },
            Current::Unseen(_) => "the newest version".to_owned(),
        };
        Ok(Preview { verb: "DELETE", detail, version: current.cas(), ..Preview::default() })
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let mount = granted.place().mount(input.mount.as_ref())?;
        let path = granted.place().path(&input.path)?;
        let kv = granted.kv(mount);
        // The human agreed to a version: that one is deleted by its number, even if a newer one has come since.
        let versions = match &input.versions {
            Some(versions) => versions.numbers(),
            None => granted.cas(None).into_iter().collect(),
        };
        match kv.delete(path.as_str(), &versions).await {
            // A policy may allow deleting the newest version and nothing by number.
            Err(Error::Forbidden { .. }) if input.versions.is_none() => kv.delete(path.as_str(), &[]).await?,
            other => other?,
        }
        Ok(Affected { path: input.path.as_str().to_owned(), versions })
    }
}

fn list(versions: &Versions) -> String {
    versions.numbers().iter().map(u64::to_string).collect::<Vec<_>>().join(", ")
}

/// Arguments that name versions of one secret.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct VersionsInput {
    /// Path of the secret.
    path: SecretPath,
    /// Versions, such as [1, 2].
    versions: Versions,
    /// Another KV mount.
    mount: Option<MountName>,
}

/// `kv.undelete`.
pub struct Undelete;

impl Operation for Undelete {
    const SPEC: Spec = Spec {
        id: "kv.undelete",
        title: "Undelete versions",
        summary: "Bring deleted versions of a secret back. A human confirms it first. It cannot bring back destroyed versions; see kv_metadata for which are which.",
        scope: Some(Scope::Write),
        effect: Effect::Write,
        toolset: Toolset::Kv,
        idempotent: true,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/secrets/{path}:undelete",
        answer: RestAnswer::Ok,
        about: "Brings deleted versions back, but for destroyed ones.",
    });
    type Input = VersionsInput;
    type Output = Affected;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        target(&input.path, input.mount.as_ref(), place, &[("undelete", &["create", "update"])])
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let mount = look.place().mount(input.mount.as_ref())?;
        preview_versions("UNDELETE", "", &input.path, mount, &input.versions, look).await
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let mount = granted.place().mount(input.mount.as_ref())?;
        let path = granted.place().path(&input.path)?;
        let versions = input.versions.numbers();
        granted.kv(mount).undelete(path.as_str(), &versions).await?;
        Ok(Affected { path: input.path.as_str().to_owned(), versions })
    }
}

/// `kv.destroy`.
pub struct Destroy;

impl Operation for Destroy {
    const SPEC: Spec = Spec {
        id: "kv.destroy",
        title: "Destroy versions for good",
        summary: "Remove the content of versions for good. Nothing brings it back. A human confirms it first. Use it only when the user asks for destruction; otherwise use kv_delete.",
        scope: Some(Scope::Write),
        effect: Effect::Destroy,
        toolset: Toolset::Kv,
        idempotent: true,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/secrets/{path}:destroy",
        answer: RestAnswer::Ok,
        about: "Removes the content of versions for good.",
    });
    type Input = VersionsInput;
    type Output = Affected;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        target(&input.path, input.mount.as_ref(), place, &[("destroy", &["create", "update"])])
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let mount = look.place().mount(input.mount.as_ref())?;
        preview_versions("DESTROY", ", for good", &input.path, mount, &input.versions, look).await
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let mount = granted.place().mount(input.mount.as_ref())?;
        let path = granted.place().path(&input.path)?;
        let versions = input.versions.numbers();
        granted.kv(mount).destroy(path.as_str(), &versions).await?;
        Ok(Affected { path: input.path.as_str().to_owned(), versions })
    }
}

/// Vault accepts any number; a human is shown only versions that exist, and what state they are in.
async fn preview_versions(
    verb: &'static str,
    end: &str,
    path: &SecretPath,
    mount: &str,
    versions: &Versions,
    look: Look<'_>,
) -> Result<Preview, Error> {
    let path = look.place().path(path)?;
    let metadata = match look.kv(mount).metadata(path.as_str()).await {
        Ok(metadata) => Some(metadata),
        Err(Error::Forbidden { .. }) => None,
        Err(other) => return Err(other),
    };
    let mut warnings = Vec::new();
    for version in versions.numbers() {
        let Some(metadata) = &metadata else {
            warnings.push("the versions' state could not be seen".to_owned());
            break;
        };
        match metadata.versions.get(&version.to_string()) {
            None => return Err(Error::input("versions", format!("there is no version {version}"))),
            Some(info) if info.destroyed => {
                return Err(Error::VersionGone {
                    version,
                    state: "destroyed",
                    remedy: "Its content is gone for good; name other versions.",
                });
            }
            Some(_) => {}
        }
    }
    Ok(Preview {
        verb,
        detail: format!("versions {}{end}", list(versions)),
        warnings,
        version: metadata.map(|metadata| metadata.current_version),
        ..Preview::default()
    })
}
