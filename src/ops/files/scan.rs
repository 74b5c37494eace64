//! `vault_scan_env` and `vault_scan_compose`: what in a file looks secret, and what of it Vault has already.
//!
//! Values are compared by keyed hash, and only with the key of the same name. Each name is compared with few
//! values a call: a file full of guesses must not find out a secret.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Stored, target};
use crate::{
    broker::{Granted, Place},
    caller::Scope,
    error::Error,
    handover::{
        FileName, compose,
        env_file::{self, Entry},
        example::is_name,
        git, looks,
        target::{path_of, read},
    },
    names::{ServiceKey, ServiceName, shown},
    op::{Effect, Files, Operation, Spec, Target, Toolset},
    ops::service::MAX_VALUE,
};

/// Most entries that an answer lists.
const MAX_FOUND: usize = 500;
/// Most values that are compared with one key in a call.
const MAX_COMPARED: usize = 3;
/// Most files that are read for one compose file.
const MAX_FILES: usize = 20;

/// Arguments of both.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScanInput {
    /// Service to compare with.
    service: ServiceName,
    /// The file.
    file_path: FileName,
}

/// Answer of both.
#[derive(Serialize, JsonSchema)]
pub struct ScanOutput {
    /// The service.
    service: String,
    /// Entries that look secret, or that the service has a key for.
    entries: Vec<Found>,
    /// How many other entries there are.
    others: usize,
    /// What could not be read, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unread: Vec<String>,
    /// The write that would put into Vault what looks secret and is not there; the values are in the file.
    #[serde(skip_serializing_if = "Option::is_none")]
    offer: Option<Offer>,
    /// What the user should know.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// One entry.
#[derive(Serialize, JsonSchema)]
struct Found {
    /// Its name.
    name: String,
    /// Line, or place in a compose file.
    at: String,
    /// What makes it look secret.
    #[serde(skip_serializing_if = "Option::is_none")]
    looks: Option<&'static str>,
    /// same or different, where the service has a key of this name.
    #[serde(skip_serializing_if = "Option::is_none")]
    vault: Option<&'static str>,
}

/// A call that would help.
#[derive(Serialize, JsonSchema)]
struct Offer {
    /// The tool.
    tool: &'static str,
    /// The service.
    service: String,
    /// Names of the keys.
    keys: Vec<String>,
}

/// What is found in one call.
struct Scan<'a> {
    granted: &'a Granted,
    stored: Stored,
    compared: BTreeMap<String, Vec<String>>,
    entries: Vec<Found>,
    others: usize,
    unread: Vec<String>,
    offered: Vec<String>,
}

impl<'a> Scan<'a> {
    async fn of(granted: &'a Granted, service: &ServiceName) -> Result<Self, Error> {
        let stored = Stored::read(granted, service).await?;
        Ok(Self {
            granted,
            stored,
            compared: BTreeMap::new(),
            entries: Vec::new(),
            others: 0,
            unread: Vec::new(),
            offered: Vec::new(),
        })
    }

    /// One entry; `readings` are what different readers may take for its value.
    fn add(&mut self, name: &str, at: String, readings: &[&str]) {
        if !is_name(name) {
            self.unread.push(format!("{at}: its name may be a part of a value"));
            return;
        }
        let looks = readings.first().and_then(|value| looks::secret(name, Some(value)));
        let vault = self.compare(name, readings);
        if looks.is_none() && vault.is_none() {
            self.others += 1;
            return;
        }
        let fits = ServiceKey::parse(name).is_ok() && readings.iter().all(|value| value.len() <= MAX_VALUE);
        if looks.is_some()
            && fits
            && !self.stored.has(name)
            && !self.offered.iter().any(|known| known == name)
        {
            self.offered.push(name.to_owned());
        }
        if self.entries.len() < MAX_FOUND {
            self.entries.push(Found { name: name.to_owned(), at, looks, vault });
        } else {
            self.others += 1;
        }
    }

    fn compare(&mut self, name: &str, readings: &[&str]) -> Option<&'static str> {
        let wanted = self.stored.hash(self.granted, name)?;
        let mut hashes: Vec<_> =
            readings.iter().map(|value| self.granted.keyed_hash(value.as_bytes())).collect();
        hashes.dedup();
        if hashes.is_empty() {
            return None;
        }
        let compared = self.compared.entry(name.to_owned()).or_default();
        hashes.retain(|hash| {
            let known = compared.contains(hash);
            if !known && compared.len() < MAX_COMPARED {
                compared.push(hash.clone());
            }
            known || compared.contains(hash)
        });
        match hashes.contains(&wanted) {
            true => Some("same"),
            false if hashes.is_empty() => Some("not compared"),
            false => Some("different"),
        }
    }

    /// The entries of a `.env` file. Where a name stands twice, the last one counts.
    fn add_env(&mut self, text: &str, place: &str) {
        let (entries, odd) = env_file::entries(text);
        let is_last =
            |at: usize, entry: &Entry<'_>| entries.iter().skip(at + 1).all(|later| later.name != entry.name);
        for (at, entry) in entries.iter().enumerate() {
            if !is_last(at, entry) {
                continue;
            }
            let at = format!("{place}line {}", entry.line);
            let value = entry.value();
            let readings = if entry.expands() { Vec::new() } else { vec![value.as_str(), entry.plain()] };
            self.add(entry.name, at, &readings);
        }
        for line in odd.iter().take(MAX_FILES) {
            self.unread.push(format!("{place}line {line} is no NAME=value, comment or blank line"));
        }
    }

    async fn finish(self, service: &ServiceName, path: Option<std::path::PathBuf>) -> ScanOutput {
        self.granted.handles(self.entries.iter().map(|entry| entry.name.as_str()));
        let holds = self.entries.iter().any(|entry| entry.looks.is_some() || entry.vault == Some("same"));
        let warning = match path.filter(|_| holds) {
            Some(path) => git::ask(path).await.warning(),
            None => None,
        };
        let offer = (!self.offered.is_empty()).then(|| Offer {
            tool: "vault_set",
            service: service.as_str().to_owned(),
            keys: self.offered,
        });
        ScanOutput {
            service: service.as_str().to_owned(),
            entries: self.entries,
            others: self.others,
            unread: self.unread,
            offer,
            warnings: warning.into_iter().collect(),
        }
    }
}

/// `vault_scan_env`.
pub struct ScanEnv;

impl Operation for ScanEnv {
    const SPEC: Spec = Spec {
        id: "vault_scan_env",
        title: "Find secrets in a .env file",
        summary: "Tell which entries of a .env file look secret and which a service has already with the same value. It shows no values. Use it before moving secrets into Vault.",
        scope: Some(Scope::Read),
        effect: Effect::Read,
        toolset: Toolset::Service,
        idempotent: true,
    };
    const NEEDS_FILES: bool = true;
    type Input = ScanInput;
    type Output = ScanOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        target(&input.service, input.file_path.as_str(), "and", place)
    }

    fn files(_: &Self::Input) -> Files {
        Files::Reads
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let text = read(&input.file_path, granted.roots())?;
        let mut scan = Scan::of(&granted, &input.service).await?;
        scan.add_env(&text, "");
        Ok(scan.finish(&input.service, path_of(&input.file_path, granted.roots())).await)
    }
}

/// `vault_scan_compose`.
pub struct ScanCompose;

impl Operation for ScanCompose {
    const SPEC: Spec = Spec {
        id: "vault_scan_compose",
        title: "Find secrets in a compose file",
        summary: "The same as vault_scan_env for a compose file: environment, build arguments and the files that env_file names. It shows no values.",
        scope: Some(Scope::Read),
        effect: Effect::Read,
        toolset: Toolset::Service,
        idempotent: true,
    };
    const NEEDS_FILES: bool = true;
    type Input = ScanInput;
    type Output = ScanOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        target(&input.service, input.file_path.as_str(), "and", place)
    }

    fn files(_: &Self::Input) -> Files {
        Files::Reads
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let text = read(&input.file_path, granted.roots())?;
        let compose = compose::parse(&text).map_err(|fault| Error::FileUnreadable { fault: fault.into() })?;
        let mut scan = Scan::of(&granted, &input.service).await?;
        for variable in &compose.variables {
            let readings: Vec<&str> = variable.value.iter().map(|value| value.as_str()).collect();
            scan.add(&variable.name, shown(&variable.place, 120), &readings);
        }
        let mut seen: Vec<&str> = Vec::new();
        for (place, path) in &compose.env_files {
            let bare = path.trim_start_matches("./");
            if seen.contains(&bare) {
                continue;
            }
            seen.push(bare);
            let place = format!("{} {}", shown(place, 120), shown(path, 120));
            let name = (seen.len() <= MAX_FILES).then(|| beside(&input.file_path, path)).flatten();
            match name.map(|name| read(&name, granted.roots())) {
                Some(Ok(text)) => scan.add_env(&text, &format!("{place} ")),
                Some(Err(Error::FileUnreadable { fault })) => scan.unread.push(format!("{place}: {fault}")),
                Some(Err(other)) => return Err(other),
                None => scan.unread.push(format!("{place}: too many files, or no name of one")),
            }
        }
        Ok(scan.finish(&input.service, path_of(&input.file_path, granted.roots())).await)
    }
}

/// A path as a file names it, from that file's folder.
fn beside(file: &FileName, path: &str) -> Option<FileName> {
    let path = path.trim_start_matches("./");
    let folder = file.as_str().rsplit_once('/').map(|(folder, _)| folder);
    FileName::parse(match folder {
        Some(folder) if !path.starts_with('/') => format!("{folder}/{path}"),
        _ => path.to_owned(),
    })
}
