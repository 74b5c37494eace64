//! KV secrets by path: list, read, compare, and the changes. Values come back masked unless the grant
//! says otherwise; nothing here decides that.

mod ask;
mod change;
mod generate;
pub(crate) mod merge;
pub(crate) mod read;

pub use ask::Ask;
pub use change::{Delete, Destroy, Patch, Rollback, Undelete, Write};
pub use generate::Generate;
pub use read::{Compare, Diff, List, Metadata, Read};

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use crate::{
    broker::Place,
    error::Error,
    names::{MountName, SecretPath, shown},
    op::{Change as KeyChange, Need, Preview, Target, Way},
    vault::{
        KvKind,
        kv::{Current, WrittenVersion},
    },
};

/// Keys to values, as arguments carry them. At least one; names are visible text of at most 256 bytes.
#[derive(Debug, Clone)]
pub struct Entries(pub(crate) Map<String, Value>);

impl<'de> serde::Deserialize<'de> for Entries {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        use serde::de::Error as _;
        let map = Map::<String, Value>::deserialize(deserializer)?;
        if map.is_empty() || map.len() > 1000 {
            return Err(D::Error::custom("give 1 to 1000 keys"));
        }
        for key in map.keys() {
            crate::names::KeyName::parse(key)
                .map_err(|fault| D::Error::custom(format!("a key's name: {fault}")))?;
        }
        Ok(Self(map))
    }
}

impl JsonSchema for Entries {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Entries".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "object", "minProperties": 1 })
    }
}

/// Where a written version lies.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Written {
    /// The path as it was given.
    pub path: String,
    /// The new version; absent on a version 1 mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<u64>,
    /// When it was written (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub created_time: Option<String>,
}

impl Written {
    pub(crate) fn of(path: impl Into<String>, written: WrittenVersion) -> Self {
        let kept = written.version > 0;
        Self {
            path: path.into(),
            version: kept.then_some(written.version),
            created_time: kept.then_some(written.created_time).filter(|time| !time.is_empty()),
        }
    }
}

/// Path and versions that were acted on.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Affected {
    /// The path as it was given.
    pub path: String,
    /// The versions.
    pub versions: Vec<u64>,
}

/// Capabilities of which any one will do, on an API folder of version 2 (`data`, `metadata`, …).
pub(crate) type AreaWay = (&'static str, &'static [&'static str]);

/// Target of a call on one secret. Any of `ways` will do.
pub(crate) fn target(
    path: &SecretPath,
    mount: Option<&MountName>,
    place: &Place,
    ways: &[AreaWay],
) -> Result<Target, Error> {
    let mount = place.mount(mount)?;
    let full = place.path(path)?;
    Ok(Target {
        name: format!("{mount}/{full}"),
        keys: Vec::new(),
        needs: vec![need(mount, full.as_str(), ways)],
    })
}

/// What a token needs for a path of a KV mount. What lies below `data` or `metadata` on version 2 lies at the
/// top of a version 1 mount; the other folders have no counterpart there.
pub(crate) fn need(mount: &str, full: &str, ways: &[AreaWay]) -> Need {
    let both = |&(area, capabilities): &AreaWay| {
        let two = Way {
            path: format!("{mount}/{area}/{full}"),
            capabilities,
            on: Some((mount.to_owned(), KvKind::V2)),
        };
        let one = matches!(area, "data" | "metadata").then(|| Way {
            path: format!("{mount}/{full}"),
            capabilities,
            on: Some((mount.to_owned(), KvKind::V1)),
        });
        std::iter::once(two).chain(one)
    };
    Need(ways.iter().flat_map(both).collect())
}

/// Version and content, as far as they are known.
pub(crate) fn state_of(current: &Current) -> (Option<u64>, Option<&Map<String, Value>>) {
    match current {
        Current::Present(read) => (read.version, Some(read.data.expose())),
        other => (other.cas(), None),
    }
}

/// Preview of replacing the whole content.
pub(crate) fn preview_write(current: &Current, data: &Map<String, Value>) -> Preview {
    let (version, old) = state_of(current);
    let mut changes: Vec<_> = data
        .keys()
        .map(|key| {
            (
                if old.is_some_and(|old| old.contains_key(key)) {
                    KeyChange::Changed
                } else {
                    KeyChange::Added
                },
                key.clone(),
            )
        })
        .collect();
    if let Some(old) = old {
        changes.extend(
            old.keys().filter(|key| !data.contains_key(*key)).map(|key| (KeyChange::Removed, key.clone())),
        );
    }
    let (verb, from) = match current {
        Current::Absent => ("CREATE", String::new()),
        Current::Present(_) => {
            ("REPLACE", version.map(|version| format!(", replaces version {version}")).unwrap_or_default())
        }
        Current::Gone(version) => ("CREATE", format!(", after version {version}, which is deleted")),
        Current::Unseen(_) => ("WRITE", String::new()),
    };
    Preview { verb, detail: format!("{}{from}", keys(data.len())), changes, version, ..Preview::default() }
}

/// Preview of merging keys into the content.
pub(crate) fn preview_merge(current: &Current, data: &Map<String, Value>) -> Preview {
    let (version, old) = state_of(current);
    let changes = data
        .iter()
        .map(|(key, value)| {
            let known = old.is_some_and(|old| old.contains_key(key));
            let change = match (value.is_null(), known) {
                (true, _) => KeyChange::Removed,
                (false, true) => KeyChange::Changed,
                (false, false) => KeyChange::Added,
            };
            (change, key.clone())
        })
        .collect();
    let (verb, of) = match (current, version) {
        (Current::Absent, _) => ("CREATE", String::new()),
        (Current::Gone(version), _) => ("CREATE", format!(", after version {version}, which is deleted")),
        (_, Some(version)) => ("UPDATE", format!(" of version {version}")),
        (_, None) => ("UPDATE", String::new()),
    };
    let unseen = matches!(current, Current::Unseen(_));
    let warnings = unseen.then(|| {
        "The current state could not be seen; keys that are not named keep their values.".to_owned()
    });
    Preview {
        verb,
        detail: format!("{}{of}", keys(data.len())),
        changes,
        version,
        warnings: warnings.into_iter().collect(),
        ..Preview::default()
    }
}

fn keys(count: usize) -> String {
    if count == 1 { "1 key".into() } else { format!("{count} keys") }
}

/// Metadata that people wrote, cut to what an answer should carry. It is data, never an instruction.
pub(crate) fn custom_metadata(metadata: BTreeMap<String, Value>) -> BTreeMap<String, String> {
    metadata
        .into_iter()
        .map(|(key, value)| {
            let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            (shown(&key, 128), shown(&text, 512))
        })
        .collect()
}
