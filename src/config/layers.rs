//! The layers that settings are read from, and where each value came from.

use std::{collections::BTreeMap, fmt, net::IpAddr, ops::Deref, path::PathBuf};

use ipnet::IpNet;
use zeroize::Zeroizing;

use super::{
    Row, SETTINGS,
    values::{
        Address, Approval, AuditFsync, ConfirmEffects, DangerousPatterns, FromSetting, Origins, PathNames,
        Reveal, Seconds, ToolNames, Toolsets,
    },
};
use crate::{
    error::Error,
    names::{MountName, PolicyPrefix},
};

/// Where a value came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Nobody set it.
    Default,
    /// A command-line argument.
    Argument,
    /// The environment variable of this name.
    Environment(String),
    /// The file that a `NAME_FILE` variable names.
    SecretFile {
        /// The variable.
        variable: String,
        /// The file, whatever the working folder will be.
        path: PathBuf,
    },
    /// The configuration file.
    File(PathBuf),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Argument => f.write_str("argument"),
            Self::Environment(name) => write!(f, "environment {name}"),
            Self::SecretFile { variable, .. } => write!(f, "file named by {variable}"),
            Self::File(path) => write!(f, "{}", path.display()),
        }
    }
}

/// A value and where it came from. Not `Clone`, so that `.clone()` means the value's.
#[derive(Debug)]
pub struct Setting<T> {
    pub(super) value: T,
    /// Where it came from.
    pub source: Source,
}

impl<T> Deref for Setting<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.value
    }
}

/// What the settings are read from.
#[derive(Debug, Default)]
pub struct Layers {
    /// `NAME` → text, from the command line.
    pub arguments: BTreeMap<String, String>,
    /// The environment.
    pub environment: BTreeMap<String, String>,
    /// The configuration file's path and its entries, keys in upper case.
    pub file: Option<(PathBuf, BTreeMap<String, String>)>,
}

impl Layers {
    /// Reads this process's environment and the configuration file that `APP_CONFIG_FILE` names. With
    /// `here`, else `config.toml`, `config.json` or `config.yaml` of the working folder: never on stdio,
    /// where that folder is whatever project the client has open and its files are the model's to write.
    ///
    /// # Errors
    /// When the file cannot be read or names an unknown setting.
    pub fn of_this_process(arguments: BTreeMap<String, String>, here: bool) -> Result<Self, Error> {
        let environment: BTreeMap<String, String> = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect();
        let named = environment.get("APP_CONFIG_FILE").filter(|text| !text.is_empty()).map(PathBuf::from);
        let found = || {
            ["config.toml", "config.json", "config.yaml"]
                .iter()
                .map(PathBuf::from)
                .find(|path| path.is_file())
        };
        let path = if named.is_some() || !here { named } else { found() };
        let file = path.map(|path| read_file(&path).map(|entries| (path, entries))).transpose()?;
        Ok(Self { arguments, environment, file })
    }

    pub(super) fn setting<T: FromSetting + DefaultText>(&self, row: &Row) -> Result<Setting<T>, Error> {
        let Some((text, source)) = self.text(row)? else {
            let value = match row.default {
                Some(text) => T::parse(text).map_err(|fault| Error::config(row.name, fault))?,
                None => T::absent().ok_or(Error::Internal { what: "a setting without default" })?,
            };
            return Ok(Setting { value, source: Source::Default });
        };
        if text.starts_with("${") {
            return Err(Error::config(
                row.name,
                "it is an unexpanded variable of the client's configuration. Set that variable where the client runs, or give a default there.",
            ));
        }
        let value =
            T::parse(&text).map_err(|fault| Error::config(row.name, format!("{fault} (from {source}).")))?;
        Ok(Setting { value, source })
    }

    fn text(&self, row: &Row) -> Result<Option<(Zeroizing<String>, Source)>, Error> {
        let given = |text: &String| (!text.is_empty()).then(|| Zeroizing::new(text.clone()));
        if let Some(text) = self.arguments.get(row.name).and_then(given) {
            return Ok(Some((text, Source::Argument)));
        }
        let synonym = row.name.strip_prefix("VAULT_").map(|rest| format!("BAO_{rest}"));
        for name in [Some(row.name.to_owned()), synonym].into_iter().flatten() {
            if let Some(text) = self.environment.get(&name).and_then(given) {
                return Ok(Some((text, Source::Environment(name))));
            }
            let from_file = format!("{name}_FILE");
            if let Some(path) = self.environment.get(&from_file).filter(|path| row.secret && !path.is_empty())
            {
                let text = std::fs::read_to_string(path).map_err(|error| {
                    Error::config(
                        &from_file,
                        format!(
                            "the file cannot be read ({}). Check the path and its permissions.",
                            error.kind()
                        ),
                    )
                })?;
                let path = std::path::absolute(path).unwrap_or_else(|_| path.into());
                let source = Source::SecretFile { variable: from_file, path };
                return Ok(Some((Zeroizing::new(text.trim_end().to_owned()), source)));
            }
        }
        let entry = self.file.as_ref().and_then(|(path, entries)| Some((entries.get(row.name)?, path)));
        Ok(entry.and_then(|(text, path)| Some((given(text)?, Source::File(path.clone())))))
    }
}

/// What a setting without a default is when nobody sets it.
pub(super) trait DefaultText: Sized {
    /// Nothing, for an optional setting.
    fn absent() -> Option<Self> {
        None
    }
}
impl<T> DefaultText for Option<T> {
    fn absent() -> Option<Self> {
        Some(None)
    }
}
macro_rules! always_default { ($($type:ty),*) => {$(impl DefaultText for $type {})*}; }
always_default!(
    Address,
    bool,
    MountName,
    Vec<MountName>,
    String,
    u16,
    u32,
    u64,
    IpAddr,
    Vec<IpNet>,
    Origins,
    Seconds,
    PolicyPrefix,
    Approval,
    ConfirmEffects,
    Reveal,
    DangerousPatterns,
    PathNames,
    Toolsets,
    ToolNames,
    AuditFsync
);

fn read_file(path: &std::path::Path) -> Result<BTreeMap<String, String>, Error> {
    let name = path.display().to_string();
    let fault = |what: String| Error::config(name.clone(), what);
    let text = std::fs::read_to_string(path)
        .map_err(|error| fault(format!("cannot be read ({}). Check the path.", error.kind())))?;
    let invalid = |line: Option<usize>| {
        let at = line.map(|line| format!(" near line {line}")).unwrap_or_default();
        fault(format!(
            "does not parse{at}. Give one `NAME = value` a line as TOML, or an object as JSON or YAML."
        ))
    };
    let value: serde_json::Value = match path.extension().and_then(|extension| extension.to_str()) {
        Some("toml") => toml::from_str(&text).map_err(|error| {
            invalid(
                error.span().map(|span| text.get(..span.start).unwrap_or_default().lines().count().max(1)),
            )
        })?,
        Some("json") => serde_json::from_str(&text).map_err(|error| invalid(Some(error.line())))?,
        Some("yaml" | "yml") => {
            yaml_serde::from_str(&text).map_err(|error| invalid(error.location().map(|at| at.line())))?
        }
        _ => return Err(fault("has an ending that is not .toml, .json or .yaml. Rename it.".into())),
    };
    let Some(map) = value.as_object() else { return Err(invalid(None)) };
    let mut entries = BTreeMap::new();
    for (key, value) in map {
        let upper = key.to_ascii_uppercase();
        if !SETTINGS.iter().any(|row| row.name == upper) {
            return Err(fault(format!(
                "there is no setting '{}'. `vault-mcp config` lists them.",
                crate::names::shown(key, 60)
            )));
        }
        let text = match value {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Bool(flag) => flag.to_string(),
            serde_json::Value::Number(number) => number.to_string(),
            serde_json::Value::Array(items) => {
                items.iter().filter_map(|item| item.as_str()).collect::<Vec<_>>().join(",")
            }
            _ => return Err(fault(format!("{upper} is neither text, number, flag nor list."))),
        };
        entries.insert(upper, text);
    }
    Ok(entries)
}
