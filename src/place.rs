//! Where a caller's paths lie: the one place where a relative path becomes a full one.

use std::fmt;

use crate::{
    config::{Config, PathNames, fill},
    error::Error,
    names::{AwsKeyId, MountName, Prefix, SecretPath, ServiceName, Subject},
};

/// A caller's own tree, resolved from the templates for its subject.
#[derive(Debug, Clone)]
pub struct Place {
    subject: Subject,
    mounts: Vec<MountName>,
    root: String,
    services: String,
    engines: Engines,
    strict: bool,
}

/// Where the engines that are not KV are mounted. Vault's policy alone fences them.
#[derive(Debug, Clone)]
pub struct Engines {
    /// Transit.
    pub transit: MountName,
    /// Database.
    pub database: MountName,
    /// SSH.
    pub ssh: MountName,
    /// PKI.
    pub pki: MountName,
    /// Not mounted anywhere: the key of AWS KMS for calls that name none.
    pub aws_key: Option<AwsKeyId>,
}

/// A full path under a mount. Only a [`Place`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FullPath(String);

impl FullPath {
    /// The path under the mount, without a slash at either end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for FullPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Place {
    /// The place of a subject under these settings.
    #[must_use]
    pub fn of(config: &Config, subject: &Subject) -> Self {
        let resolve = |template: &str| {
            fill(template, &config.default_prefix, subject.as_str()).trim_matches('/').to_owned()
        };
        let mut mounts = vec![config.kv_mount.clone()];
        for mount in config.kv_mounts.iter() {
            if !mounts.contains(mount) {
                mounts.push(mount.clone());
            }
        }
        Self {
            subject: subject.clone(),
            mounts,
            root: resolve(&config.kv_root),
            services: resolve(&config.services_path),
            engines: Engines {
                transit: config.transit_mount.clone(),
                database: config.database_mount.clone(),
                ssh: config.ssh_mount.clone(),
                pki: config.pki_mount.clone(),
                aws_key: config.aws_kms_default_key_id.clone(),
            },
            strict: *config.path_names == PathNames::Strict,
        }
    }

    /// Whose place it is.
    #[must_use]
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The folder that relative paths begin at, without a slash at either end; empty for the whole mount.
    #[must_use]
    pub fn root(&self) -> &str {
        &self.root
    }

    /// The default mount, then those that `KV_MOUNTS` adds.
    #[must_use]
    pub fn mounts(&self) -> &[MountName] {
        &self.mounts
    }

    /// The mounts of the engines that are not KV.
    #[must_use]
    pub fn engines(&self) -> &Engines {
        &self.engines
    }

    /// True when names must fit the strict allow-list.
    #[must_use]
    pub fn is_strict(&self) -> bool {
        self.strict
    }

    /// The mount a call names, or the default one.
    ///
    /// # Errors
    /// `invalid_input` for a mount that is not among the configured ones.
    pub fn mount<'a>(&'a self, named: Option<&MountName>) -> Result<&'a str, Error> {
        match named {
            None => self.mounts.first().map(MountName::as_str).ok_or(Error::Internal { what: "no mount" }),
            Some(name) => {
                self.mounts.iter().find(|mount| *mount == name).map(MountName::as_str).ok_or_else(|| {
                    Error::input(
                        "mount",
                        format!(
                            "it is not one of the mounts this server uses ({})",
                            self.mounts.iter().map(MountName::as_str).collect::<Vec<_>>().join(", ")
                        ),
                    )
                })
            }
        }
    }

    /// The full path of a caller's path.
    ///
    /// # Errors
    /// `path_refused` when it does not fit the strict rule, or the whole grows too long.
    pub fn path(&self, path: &SecretPath) -> Result<FullPath, Error> {
        if self.strict && !path.is_strict() {
            return Err(Error::PathRefused { fault: "it has a character that is not allowed".into() });
        }
        self.join(&self.root, path.as_str())
    }

    /// The full path of a folder; empty for the root of the mount.
    ///
    /// # Errors
    /// As [`Self::path`].
    pub fn folder(&self, prefix: &Prefix) -> Result<FullPath, Error> {
        match prefix.path() {
            Some(path) => self.path(path),
            None => Ok(FullPath(self.root.clone())),
        }
    }

    /// The full path of a service.
    ///
    /// # Errors
    /// When the whole grows too long.
    pub fn service(&self, service: &ServiceName) -> Result<FullPath, Error> {
        self.join(&self.services, service.as_str())
    }

    /// The folder that holds the services.
    #[must_use]
    pub fn services(&self) -> FullPath {
        FullPath(self.services.clone())
    }

    /// The caller's path of a full one that begins with the default mount; nothing where it lies elsewhere.
    #[must_use]
    pub fn relative<'a>(&self, full: &'a str) -> Option<&'a str> {
        let mut rest = full;
        for part in [self.mounts.first()?.as_str(), &self.root] {
            if !part.is_empty() {
                rest = rest.strip_prefix(part)?.strip_prefix('/')?;
            }
        }
        Some(rest).filter(|rest| !rest.is_empty())
    }

    fn join(&self, root: &str, rest: &str) -> Result<FullPath, Error> {
        let full = if root.is_empty() { rest.to_owned() } else { format!("{root}/{rest}") };
        if full.len() > crate::names::MAX_PATH_BYTES {
            return Err(Error::PathRefused {
                fault: "with the folder it lies in it is longer than 1024 bytes".into(),
            });
        }
        Ok(FullPath(full))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Layers;

    fn place(settings: &[(&str, &str)], subject: &str) -> Place {
        let environment = settings.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let config = Config::load(&Layers { environment, ..Layers::default() }).unwrap();
        Place::of(&config, &Subject::parse(subject).unwrap())
    }

    #[test]
    fn every_path_begins_with_the_callers_own_prefix() {
        let alice = place(&[], "alice");
        let full = |text| alice.path(&SecretPath::parse(text).unwrap());
        assert_eq!(full("configs/demo").unwrap().as_str(), "mcp/alice/configs/demo");
        assert!(full("%2e%2e/bob").is_err() && full("a*").is_err() && full("x:undelete").is_err());
    }

    #[test]
    fn a_full_path_is_led_back_to_the_callers_own_or_to_none() {
        let alice = place(&[], "alice");
        assert_eq!(alice.relative("secret/mcp/alice/configs/demo"), Some("configs/demo"));
        for other in
            ["secret/mcp/alice", "secret/mcp/alice2/x", "secret/mcp/bob/x", "kv/mcp/alice/x", "transit/k"]
        {
            assert_eq!(alice.relative(other), None, "{other}");
        }
        let open = place(&[("KV_ROOT", "/"), ("PATH_NAMES", "any")], "alice");
        assert_eq!(open.relative("secret/a b/ü"), Some("a b/ü"));
    }

    #[test]
    fn an_open_root_is_the_mount_itself() {
        let open = place(&[("KV_ROOT", "/"), ("PATH_NAMES", "any")], "alice");
        assert_eq!(open.path(&SecretPath::parse("a b/ü").unwrap()).unwrap().as_str(), "a b/ü");
        assert_eq!(open.folder(&Prefix::default()).unwrap().as_str(), "");
    }

    #[test]
    fn a_mount_that_is_not_configured_is_refused() {
        let alice = place(&[("KV_MOUNTS", "kv1")], "alice");
        assert!(alice.mount(Some(&MountName::parse("kv1").unwrap())).is_ok());
        assert!(alice.mount(Some(&MountName::parse("sys").unwrap())).is_err());
    }
}
