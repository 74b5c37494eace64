//! `vault_inject`: the values of a service into a file.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{Format, as_text, referenced, target};
use crate::{
    broker::{Granted, Look, Place, patterns},
    caller::Scope,
    config::DangerousPatterns,
    error::Error,
    handover::{
        FileName, Root,
        dialect::Dialect,
        env_file::{self, Assignment, Piece},
        git,
        target::{TargetFile, read},
        yaml_file,
    },
    names::{ServiceName, shown},
    op::{Change, Effect, Files, Operation, Preview, Spec, Target, Toolset},
    secret::{REFERENCE_SCHEME, SecretData},
};

/// `vault_inject`.
pub struct Inject;

/// Arguments of `vault_inject`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InjectInput {
    /// Name of the service.
    service: ServiceName,
    /// File to write; .env if left out.
    target: Option<FileName>,
    /// Told by the target's name if left out.
    #[serde(default)]
    #[schemars(!default)]
    format: Format,
    /// File to begin with, in place of what the target holds.
    template: Option<FileName>,
    /// Who reads the .env file; posix: shells, python-dotenv and npm's dotenv alike.
    #[serde(default)]
    #[schemars(!default)]
    dialect: Dialect,
}

impl InjectInput {
    fn target(&self) -> Result<FileName, Error> {
        let default = || FileName::parse(".env".to_owned());
        self.target.clone().or_else(default).ok_or(Error::Internal { what: "no name of a file" })
    }
}

/// Answer of `vault_inject`.
#[derive(Serialize, JsonSchema)]
pub struct InjectOutput {
    /// The file, 0600.
    file: String,
    /// What it held before, 0600.
    #[serde(skip_serializing_if = "Option::is_none")]
    backup: Option<String>,
    /// Names that have their value in the file now.
    keys: Vec<String>,
    /// Keys of the service for which the YAML file has no placeholder.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unplaced: Vec<String>,
    /// Names that still hold a reference: to another secret, another version, or a key that is not there.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unresolved: Vec<String>,
    /// What the user should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

impl Operation for Inject {
    const SPEC: Spec = Spec {
        id: "vault_inject",
        title: "Write secrets into a file",
        summary: "Write a service's values into a .env or YAML file (0600, backup beside it) without showing them to you. Comments, order and other entries stay. Use it in place of reading values and writing them yourself. A human confirms it first.",
        scope: Some(Scope::Write),
        effect: Effect::Write,
        toolset: Toolset::Service,
        idempotent: true,
    };
    const NEEDS_FILES: bool = true;
    type Input = InjectInput;
    type Output = InjectOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        let file = input.target()?;
        input.format.of(&file)?;
        target(&input.service, file.as_str(), "→", place)
    }

    fn files(_: &Self::Input) -> Files {
        Files::Writes("target")
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let opened = Opened::of(input, look.roots())?;
        let mount = look.place().mount(None)?;
        let path = look.place().service(&input.service)?;
        let secret = look.kv(mount).read(path.as_str(), None).await?;
        let plan = Plan::make(input, opened, &secret.data, &format!("{mount}/{path}"), secret.version)?;
        let mut warnings: Vec<String> =
            git::ask(plan.file.path().to_owned()).await.warning().into_iter().collect();
        if !plan.unresolved.is_empty() {
            let names: Vec<_> = plan.unresolved.iter().map(|name| shown(name, 64)).collect();
            warnings.push(format!("Still a reference, no value: {}", names.join(", ")));
        }
        for (key, names) in dangerous(&secret.data) {
            warnings.extend(names.iter().map(|name| format!("{}: {name}", shown(key, 64))));
        }
        let state = if plan.file.text().is_some() {
            "the file exists, a backup is made beside it"
        } else {
            "a new file"
        };
        let template = input.template.as_ref();
        let template = template.map(|name| format!(", from {}", shown(name.as_str(), 120)));
        Ok(Preview {
            verb: "INJECT",
            detail: format!("{state}{}", template.unwrap_or_default()),
            changes: plan.changes,
            warnings,
            version: secret.version,
            ..Preview::default()
        })
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let opened = Opened::of(&input, granted.roots())?;
        let mount = granted.place().mount(None)?;
        let path = granted.place().service(&input.service)?;
        let secret = granted.kv(mount).read(path.as_str(), granted.cas(None)).await?;
        if *granted.config().dangerous_patterns == DangerousPatterns::Block {
            let found = dangerous(&secret.data);
            if !found.is_empty() {
                let keys: Vec<_> = found.iter().map(|(key, _)| shown(key, 64)).collect();
                let mut names: Vec<&str> =
                    found.iter().flat_map(|(_, names)| names.iter().copied()).collect();
                names.sort_unstable();
                names.dedup();
                return Err(Error::DangerousPattern { keys: keys.join(", "), patterns: names.join(", ") });
            }
        }
        let plan = Plan::make(&input, opened, &secret.data, &format!("{mount}/{path}"), secret.version)?;
        let keys = plan.written();
        granted.handles(keys.iter().map(String::as_str));
        let Plan { file, text, unplaced, unresolved, .. } = plan;
        let written =
            tokio::task::spawn_blocking(move || file.replace(text.as_bytes(), chrono::Local::now()))
                .await
                .map_err(|_| Error::Internal { what: "writing a file ended early" })??;
        let verdict = git::ask(written.path.clone()).await;
        let listed = |names: Vec<String>| names.iter().map(|name| shown(name, 256)).collect();
        Ok(InjectOutput {
            file: written.path.display().to_string(),
            backup: written.backup.map(|backup| backup.display().to_string()),
            keys: listed(keys),
            unplaced: listed(unplaced),
            unresolved: listed(unresolved),
            warnings: verdict.warning().into_iter().collect(),
        })
    }
}

fn dangerous(data: &SecretData) -> Vec<(&str, Vec<&'static str>)> {
    let all = data.expose().iter().map(|(key, value)| (key.as_str(), patterns::found(value)));
    all.filter(|(_, names)| !names.is_empty()).collect()
}

/// The files of a call. They are opened before Vault is asked for anything.
struct Opened {
    name: FileName,
    file: TargetFile,
    template: Option<Zeroizing<String>>,
}

impl Opened {
    fn of(input: &InjectInput, roots: &[Root]) -> Result<Self, Error> {
        let name = input.target()?;
        let file = TargetFile::open(&name, roots)?;
        let template = input.template.as_ref().map(|name| read(name, roots)).transpose()?;
        Ok(Self { name, file, template })
    }
}

/// What would be written, made anew for the preview and for the write.
struct Plan {
    file: TargetFile,
    text: Zeroizing<String>,
    changes: Vec<(Change, String)>,
    unplaced: Vec<String>,
    unresolved: Vec<String>,
}

impl Plan {
    fn make(
        input: &InjectInput,
        Opened { name, file, template }: Opened,
        data: &SecretData,
        location: &str,
        version: Option<u64>,
    ) -> Result<Self, Error> {
        let base = template.as_deref().map(String::as_str).or(file.text()).unwrap_or_default();
        let resolve = |text: &str| referenced(text, location, version);
        match input.format.of(&name)? {
            Format::Yaml => {
                let merged = into_yaml(base, data.expose(), &resolve)?;
                let old = file.text().and_then(yaml_file::parse);
                let was = |key: &String| old.as_ref().is_some_and(|old| old.get(key.as_str()).is_some());
                let is_template = template.is_some();
                let change = |key: &String, known: bool| match known {
                    true => (Change::Changed, key.clone()),
                    false => (Change::Added, key.clone()),
                };
                let mut changes: Vec<_> =
                    merged.changed.iter().map(|key| change(key, !is_template || was(key))).collect();
                changes.extend(merged.added.iter().map(|key| change(key, is_template && was(key))));
                let new = yaml_file::parse(&merged.text);
                let gone =
                    old.as_ref().and_then(|old| old.as_mapping()).into_iter().flat_map(|map| map.keys());
                let gone = gone.filter_map(|key| key.as_str());
                let gone = gone.filter(|key| new.as_ref().is_none_or(|new| new.get(*key).is_none()));
                changes.extend(gone.map(|key| (Change::Removed, key.to_owned())));
                let unresolved = new.as_ref().map(yaml_file::references).unwrap_or_default();
                Ok(Self { file, text: merged.text, changes, unplaced: merged.unplaced, unresolved })
            }
            _ => {
                let (merged, unresolved) = into_env(base, data.expose(), &resolve, input.dialect)?;
                let old = file.text().map(|text| names(text, input.dialect)).unwrap_or_default();
                let new = names(&merged.text, input.dialect);
                let change = |key: String| match old.contains(&key.as_str()) {
                    true => (Change::Changed, key),
                    false => (Change::Added, key),
                };
                let mut changes: Vec<_> =
                    merged.changed.into_iter().chain(merged.added).map(change).collect();
                let gone = old.iter().filter(|name| !new.contains(name));
                changes.extend(gone.map(|name| (Change::Removed, (*name).to_owned())));
                let text = merged.text;
                Ok(Self { file, text, changes, unplaced: Vec::new(), unresolved })
            }
        }
    }

    /// Names that get a value.
    fn written(&self) -> Vec<String> {
        let kept = self.changes.iter().filter(|(change, _)| *change != Change::Removed);
        kept.map(|(_, key)| key.clone()).collect()
    }
}

/// Names of the entries of a `.env` file, each once.
fn names(text: &str, dialect: Dialect) -> Vec<&str> {
    let mut names = Vec::new();
    for piece in env_file::pieces(text, dialect) {
        if let Piece::Entry(entry) = piece
            && !names.contains(&entry.name)
        {
            names.push(entry.name);
        }
    }
    names
}

/// Every entry that is a reference to a key of the service, or has the name of one, gets its value; what is left
/// of the service stands at the end. The second part is the entries that are references still.
fn into_env(
    base: &str,
    values: &Map<String, Value>,
    resolve: &dyn Fn(&str) -> Option<String>,
    dialect: Dialect,
) -> Result<(env_file::Merged, Vec<String>), Error> {
    let mut texts: Vec<(&str, Zeroizing<String>)> = Vec::new();
    let mut nulls = Vec::new();
    for (key, value) in values {
        match as_text(value) {
            Some(text) => texts.push((key, text)),
            None => nulls.push(format!("{} (null)", shown(key, 64))),
        }
    }
    if !nulls.is_empty() {
        return Err(Error::NotCarried { keys: nulls.join(", ") });
    }
    let value_of = |key: &str| texts.iter().find(|(name, _)| *name == key).map(|(_, text)| text.as_str());
    let (mut placed, mut unresolved, mut elsewhere) = (Vec::new(), Vec::new(), Vec::new());
    for piece in env_file::pieces(base, dialect) {
        let Piece::Entry(entry) = piece else { continue };
        let text = entry.value();
        if text.starts_with(REFERENCE_SCHEME) {
            match resolve(&text).and_then(|key| Some((value_of(&key)?, key))) {
                Some((value, key)) => {
                    placed.push(Assignment { name: entry.name, value });
                    elsewhere.push(key);
                }
                None if value_of(entry.name).is_none() => unresolved.push(entry.name.to_owned()),
                None => {}
            }
        }
        if let Some(value) = value_of(entry.name).filter(|_| !placed.iter().any(|one| one.name == entry.name))
        {
            placed.push(Assignment { name: entry.name, value });
        }
    }
    let rest: Vec<_> = texts
        .iter()
        .filter(|(key, _)| !elsewhere.iter().any(|known| known == key))
        .map(|(name, value)| Assignment { name, value })
        .collect();
    Ok((env_file::merge(base, &placed, &rest, dialect)?, unresolved))
}

/// The same for YAML. Compose expands dollar signs in its files, so none can be put there.
fn into_yaml(
    base: &str,
    values: &Map<String, Value>,
    resolve: &dyn Fn(&str) -> Option<String>,
) -> Result<yaml_file::Merged, Error> {
    let is_compose =
        yaml_file::parse(base).is_some_and(|tree| tree.get("services").is_some_and(|part| part.is_mapping()));
    if is_compose {
        let dollars = values.iter().filter(|(_, value)| value.to_string().contains('$'));
        let faults: Vec<_> = dollars
            .map(|(key, _)| format!("{} (a dollar sign, which compose expands)", shown(key, 64)))
            .collect();
        if !faults.is_empty() {
            return Err(Error::NotCarried { keys: faults.join(", ") });
        }
    }
    let placeholder = |text: &str| {
        let inner = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
        inner.map(str::to_owned).or_else(|| resolve(text))
    };
    yaml_file::merge(base, values, &placeholder)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn env(base: &str, values: Value) -> (String, Vec<String>) {
        let resolve = |text: &str| referenced(text, "secret/a/shop", Some(1));
        let (merged, left) = into_env(base, values.as_object().unwrap(), &resolve, Dialect::Posix).unwrap();
        (merged.text.to_string(), left)
    }

    #[test]
    fn references_of_a_template_are_filled_and_may_rename() {
        let template = "# t\nURL='secretref://secret/a/shop#DB'\nAPI=secretref://secret/a/shop?version=1#API\nGONE='secretref://secret/a/shop#NONE'\nBLOG='secretref://secret/a/blog#X'\nPORT=1\n";
        let (text, left) = env(template, json!({"DB": "d", "API": 7, "ON": true, "LIST": ["a"]}));
        assert_eq!(
            text,
            "# t\nURL='d'\nAPI='7'\nGONE='secretref://secret/a/shop#NONE'\nBLOG='secretref://secret/a/blog#X'\nPORT=1\nLIST='[\"a\"]'\nON='true'\n"
        );
        assert_eq!(left, ["GONE", "BLOG"]);
    }

    #[test]
    fn what_a_file_cannot_hold_is_refused_by_name() {
        let none = |_: &str| None;
        let values = json!({"A": null});
        let error = into_env("", values.as_object().unwrap(), &none, Dialect::Posix).err().unwrap();
        assert!(error.code() == "not_carried" && error.to_string().contains("A (null)"), "{error}");
        let compose = "services:\n  web:\n    environment:\n      DB: ${DB}\n";
        let values = json!({"DB": "pa$$word", "OK": "x"});
        let error = into_yaml(compose, values.as_object().unwrap(), &none).err().unwrap().to_string();
        assert!(error.contains("DB (a dollar sign") && !error.contains("OK"), "{error}");
    }
}
