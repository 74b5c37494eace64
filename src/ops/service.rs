//! The service tools: KV by the name of a service, one level, with keys fit for an environment.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::{Map, Value};

use super::kv::{merge, need, preview_merge, read::reveal_preview, state_of};
use crate::{
    broker::{Granted, Look, Place},
    caller::Scope,
    error::Error,
    names::{ServiceKey, ServiceName, is_usable_segment, shown},
    op::{Change, Effect, Operation, Preview, Spec, Target, Toolset},
    secret::Disclosed,
};

/// Most bytes a value may have in the service tools.
pub const MAX_VALUE: usize = 8 * 1024;

fn target(
    service: &ServiceName,
    place: &Place,
    capabilities: &'static [&'static str],
) -> Result<Target, Error> {
    let mount = place.mount(None)?;
    let full = place.service(service)?;
    let needs = vec![need(mount, full.as_str(), &[("data", capabilities)])];
    Ok(Target { name: format!("{mount}/{full}"), keys: Vec::new(), needs })
}

/// `vault_list`.
pub struct List;

/// Arguments of `vault_list`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ListInput {
    /// List the key names of this service; all services if left out.
    service: Option<ServiceName>,
}

/// Answer of `vault_list`.
#[derive(Serialize, JsonSchema)]
pub struct ListOutput {
    /// Names of the services.
    #[serde(skip_serializing_if = "Option::is_none")]
    services: Option<Vec<String>>,
    /// Key names of the one service.
    #[serde(skip_serializing_if = "Option::is_none")]
    keys: Option<Vec<String>>,
}

impl Operation for List {
    const SPEC: Spec = Spec {
        id: "vault_list",
        title: "List services",
        summary: "List the services that have secrets, or the key names of one service. Use it first when the user speaks of a service's secrets. It shows no values. For folders of any depth use kv_list.",
        scope: Some(Scope::List),
        effect: Effect::Read,
        toolset: Toolset::Service,
        idempotent: true,
    };
    type Input = ListInput;
    type Output = ListOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        match &input.service {
            Some(service) => target(service, place, &["read"]),
            None => {
                let mount = place.mount(None)?;
                let folder = place.services();
                let needs = vec![need(mount, &format!("{folder}/"), &[("metadata", &["list"])])];
                Ok(Target { name: format!("{mount}/{folder}/"), keys: Vec::new(), needs })
            }
        }
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let mount = granted.place().mount(None)?;
        let kv = granted.kv(mount);
        if let Some(service) = &input.service {
            let read = kv.read(granted.place().service(service)?.as_str(), None).await?;
            let keys = read.data.keys().iter().map(|key| shown(key, 256)).collect();
            return Ok(ListOutput { services: None, keys: Some(keys) });
        }
        let mut services = kv.list(granted.place().services().as_str()).await?;
        services.retain(|name| !name.ends_with('/') && is_usable_segment(name, true));
        services.sort_unstable();
        Ok(ListOutput { services: Some(services), keys: None })
    }
}

/// `vault_get`.
pub struct Get;

/// Arguments of `vault_get`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GetInput {
    /// Name of the service.
    service: ServiceName,
    /// Only this key.
    key: Option<ServiceKey>,
    /// true asks the human to let you see the values.
    #[serde(default)]
    reveal: bool,
}

/// Answer of `vault_get`.
#[derive(Serialize, JsonSchema)]
pub struct GetOutput {
    /// The service.
    service: String,
    /// The version read.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// Values or masks.
    data: Disclosed,
}

impl Operation for Get {
    const SPEC: Spec = Spec {
        id: "vault_get",
        title: "Get a service's secrets",
        summary: "Get the keys of a service with each value masked. Use it to check what is configured. Do not set reveal unless the user asked to see a value.",
        scope: Some(Scope::Read),
        effect: Effect::Read,
        toolset: Toolset::Service,
        idempotent: true,
    };
    type Input = GetInput;
    type Output = GetOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        let mut target = target(&input.service, place, &["read"])?;
        target.keys = input.key.iter().map(|key| key.as_str().to_owned()).collect();
        Ok(target)
    }

    fn wants_reveal(input: &Self::Input) -> bool {
        input.reveal
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let path = look.place().service(&input.service)?;
        let read = look.kv(look.place().mount(None)?).read(path.as_str(), None).await?;
        let wanted = |key: &String| input.key.as_ref().is_none_or(|name| name.as_str() == key);
        Ok(reveal_preview(read.data.keys().into_iter().filter(wanted).collect(), read.version))
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let mount = granted.place().mount(None)?;
        let path = granted.place().service(&input.service)?;
        let mut read = granted.kv(mount).read(path.as_str(), granted.cas(None)).await?;
        if let Some(key) = &input.key {
            if !read.data.expose().contains_key(key.as_str()) {
                return Err(Error::input(
                    "key",
                    "the service has no such key; vault_list shows those it has",
                ));
            }
            read.data.retain(|name| name == key.as_str());
        }
        Ok(GetOutput {
            data: granted.disclose(&read.data, &format!("{mount}/{path}"), read.version),
            service: input.service.as_str().to_owned(),
            version: read.version,
        })
    }
}

/// `vault_set`.
pub struct Set;

/// Arguments of `vault_set`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SetInput {
    /// Name of the service.
    service: ServiceName,
    /// Keys and values to add or change; other keys keep their values.
    secrets: ServiceEntries,
    /// true only shows what would change.
    #[serde(default)]
    dry_run: bool,
}

/// Keys fit for an environment, to texts of at most 8 KiB.
struct ServiceEntries(Map<String, Value>);

impl<'de> Deserialize<'de> for ServiceEntries {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let map = Map::<String, Value>::deserialize(deserializer)?;
        if map.is_empty() || map.len() > 200 {
            return Err(D::Error::custom("give 1 to 200 keys"));
        }
        for (key, value) in &map {
            ServiceKey::parse(key).map_err(|fault| D::Error::custom(format!("a key's name: {fault}")))?;
            match value {
                Value::String(text) if text.len() > MAX_VALUE => {
                    return Err(D::Error::custom(format!(
                        "the value of {key} is longer than {MAX_VALUE} bytes"
                    )));
                }
                Value::String(_) | Value::Number(_) | Value::Bool(_) => {}
                // A mask is an object; it is refused by its own name further on.
                Value::Object(_) if crate::secret::is_mask(value) => {}
                _ => {
                    return Err(D::Error::custom(format!(
                        "the value of {key} must be a text, a number or a flag"
                    )));
                }
            }
        }
        Ok(Self(map))
    }
}

impl JsonSchema for ServiceEntries {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Secrets".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "type": "object", "minProperties": 1,
            "propertyNames": { "pattern": "^[A-Za-z0-9_-]{1,128}$" },
            "additionalProperties": { "anyOf": [{ "type": "string" }, { "type": "number" }, { "type": "boolean" }] }
        })
    }
}

/// Answer of `vault_set`.
#[derive(Serialize, JsonSchema)]
pub struct SetOutput {
    /// The service.
    service: String,
    /// The version written; absent after a dry run and on a version 1 mount.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<u64>,
    /// True when nothing was written.
    dry_run: bool,
    /// added, changed or unchanged, by key.
    keys: BTreeMap<String, String>,
}

impl Operation for Set {
    const SPEC: Spec = Spec {
        id: "vault_set",
        title: "Set a service's secrets",
        summary: "Add or change keys of a service; its other keys keep their values. A human confirms it first; dry_run shows what would change. For a new random value use kv_generate, so that you never hold it.",
        scope: Some(Scope::Write),
        effect: Effect::Write,
        toolset: Toolset::Service,
        idempotent: false,
    };
    type Input = SetInput;
    type Output = SetOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        let mut target = target(&input.service, place, &["create", "update", "patch"])?;
        target.keys = input.secrets.0.keys().cloned().collect();
        Ok(target)
    }

    fn values(input: &Self::Input) -> Vec<(&str, &Value)> {
        input.secrets.0.iter().map(|(key, value)| (key.as_str(), value)).collect()
    }

    fn is_harmless(input: &Self::Input) -> bool {
        input.dry_run
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let path = look.place().service(&input.service)?;
        let kv = look.kv(look.place().mount(None)?);
        let current = kv.current(path.as_str()).await?;
        merge::check_mergeable(&kv, path.as_str(), &current)?;
        Ok(preview_merge(&current, &input.secrets.0))
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let mount = granted.place().mount(None)?;
        let path = granted.place().service(&input.service)?;
        let kv = granted.kv(mount);
        let current = kv.current(path.as_str()).await?;
        let (_, old) = state_of(&current);
        let keys = preview_merge(&current, &input.secrets.0)
            .changes
            .into_iter()
            .map(|(change, key)| {
                let same = old
                    .and_then(|old| old.get(&key))
                    .is_some_and(|value| input.secrets.0.get(&key) == Some(value));
                let word = match change {
                    Change::Changed if same => "unchanged",
                    Change::Changed => "changed",
                    Change::Added => "added",
                    Change::Removed => "removed",
                };
                (key, word.to_owned())
            })
            .collect();
        let service = input.service.as_str().to_owned();
        if input.dry_run {
            return Ok(SetOutput { service, version: None, dry_run: true, keys });
        }
        let cas = granted.cas(None).or(current.cas());
        let written = merge::merge(&kv, path.as_str(), &current, input.secrets.0, cas).await?;
        Ok(SetOutput {
            service,
            version: Some(written.version).filter(|version| *version > 0),
            dry_run: false,
            keys,
        })
    }
}
