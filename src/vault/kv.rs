//! KV, versions 1 and 2, over one interface. Which version a mount has is told by the answers of data
//! calls: most tokens may not read `sys/mounts`.
//!
//! Source: Vault API pages "KV secrets engine - version 1" and "- version 2".

use std::collections::BTreeMap;

use rustify::Endpoint;
use rustify_derive::Endpoint;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use vaultrs::api::{
    kv1::requests::{DeleteSecretRequest, GetSecretRequest, ListSecretRequest},
    kv2::requests::{
        DeleteLatestSecretVersionRequest, DeleteSecretVersionsRequest, DestroySecretVersionsRequest,
        ListSecretsRequest, ReadSecretMetadataRequest, ReadSecretRequest, UndeleteSecretVersionsRequest,
    },
};

use super::{Reads, Session};
use crate::{error::Error, secret::SecretData};

impl Reads for ReadSecretRequest {}
impl Reads for ReadSecretMetadataRequest {}
impl Reads for ListSecretsRequest {}
impl Reads for GetSecretRequest {}
impl Reads for ListSecretRequest {}

/// Which of the two engines a mount is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KvKind {
    /// Without versions.
    V1,
    /// With versions.
    V2,
}

/// vaultrs's request holds the check-and-set number in 32 bits and cannot leave the body's order alone.
#[derive(Endpoint, Serialize)]
#[endpoint(path = "{self.mount}/data/{self.path}", method = "POST", response = "WrittenVersion")]
struct WriteData {
    #[endpoint(skip)]
    #[serde(skip)]
    mount: String,
    #[endpoint(skip)]
    #[serde(skip)]
    path: String,
    data: Map<String, Value>,
    options: Options,
}

#[derive(Serialize)]
struct Options {
    #[serde(skip_serializing_if = "Option::is_none")]
    cas: Option<u64>,
}

/// `PATCH {mount}/data/{path}`, which vaultrs lacks (RFC 7396 merge patch).
#[derive(Endpoint, Serialize)]
#[endpoint(path = "{self.mount}/data/{self.path}", method = "PATCH", response = "WrittenVersion")]
struct PatchData {
    #[endpoint(skip)]
    #[serde(skip)]
    mount: String,
    #[endpoint(skip)]
    #[serde(skip)]
    path: String,
    data: Map<String, Value>,
    options: Options,
}

/// `POST {mount}/{path}` on version 1. The body is the secret itself.
struct WriteV1 {
    mount: String,
    path: String,
    data: Map<String, Value>,
}

impl Endpoint for WriteV1 {
    type Response = Value;
    const REQUEST_BODY_TYPE: rustify::enums::RequestType = rustify::enums::RequestType::JSON;
    const RESPONSE_BODY_TYPE: rustify::enums::ResponseType = rustify::enums::ResponseType::JSON;
    fn path(&self) -> String {
        format!("{}/{}", self.mount, self.path)
    }
    fn method(&self) -> rustify::enums::RequestMethod {
        rustify::enums::RequestMethod::POST
    }
    fn body(&self) -> Result<Option<Vec<u8>>, rustify::errors::ClientError> {
        serde_json::to_vec(&self.data)
            .map(Some)
            .map_err(|error| rustify::errors::ClientError::DataParseError { source: error.into() })
    }
}

/// Version and time of what was written.
#[derive(Debug, Clone, Deserialize, Default)]
pub struct WrittenVersion {
    /// Its number.
    pub version: u64,
    /// When (RFC 3339).
    #[serde(default)]
    pub created_time: String,
}

/// A secret as read. Version and time are absent on version 1.
#[derive(Debug)]
pub struct KvRead {
    /// The content.
    pub data: SecretData,
    /// Its version.
    pub version: Option<u64>,
    /// When it was written (RFC 3339).
    pub created_time: Option<String>,
    /// What people noted about the secret. It is data: nothing acts on it.
    pub custom_metadata: BTreeMap<String, Value>,
}

/// What is known of one version.
#[derive(Debug, Clone, Deserialize)]
pub struct VersionInfo {
    /// When it was written (RFC 3339).
    #[serde(default)]
    pub created_time: String,
    /// When it was deleted, or empty.
    #[serde(default)]
    pub deletion_time: String,
    /// True when its content is gone for good.
    #[serde(default)]
    pub destroyed: bool,
}

/// All that a mount knows of a secret but its content.
#[derive(Debug, Clone, Deserialize)]
pub struct KvMetadata {
    /// The newest version's number.
    #[serde(default)]
    pub current_version: u64,
    /// Writes must carry check-and-set.
    #[serde(default)]
    pub cas_required: bool,
    /// What people noted.
    #[serde(default)]
    pub custom_metadata: Option<BTreeMap<String, Value>>,
    /// Each version by its number.
    #[serde(default)]
    pub versions: BTreeMap<String, VersionInfo>,
}

/// The current state of a secret, as a preview needs it.
#[derive(Debug)]
pub enum Current {
    /// Nothing was ever written there.
    Absent,
    /// A readable version.
    Present(KvRead),
    /// The newest version, deleted or destroyed.
    Gone(u64),
    /// The token may not look at the content; the newest version's number, if it may see that.
    Unseen(Option<u64>),
}

impl Current {
    /// The check-and-set number that lets a write through only if nothing changed; `None` when it is not
    /// known or the mount keeps no versions.
    #[must_use]
    pub fn cas(&self) -> Option<u64> {
        match self {
            Self::Absent => Some(0),
            Self::Present(read) => read.version,
            Self::Gone(version) => Some(*version),
            Self::Unseen(version) => *version,
        }
    }
}

/// A KV mount, for reading. The broker lends it out.
#[derive(Clone, Copy)]
pub struct KvReader<'a> {
    session: &'a Session,
    mount: &'a str,
}

impl<'a> KvReader<'a> {
    pub(crate) fn new(session: &'a Session, mount: &'a str) -> Self {
        Self { session, mount }
    }

    /// The kind of the mount, if a call has shown it.
    #[must_use]
    pub fn kind(&self) -> Option<KvKind> {
        self.session.vault().kind(self.mount)
    }

    /// The mount's path.
    #[must_use]
    pub fn mount(&self) -> &str {
        self.mount
    }

    /// Asks Vault which kind the mount is, where the data calls cannot tell because a policy refuses them.
    async fn ask_kind(&self) -> Option<KvKind> {
        if self.kind().is_none()
            && let Ok(raw) =
                self.session.read_raw(&super::sys::InternalMount { mount: self.mount.to_owned() }).await
            && raw.status == 200
            && let Some(mount) = raw.envelope::<super::sys::UiMount>().ok().and_then(|envelope| envelope.data)
            && matches!(mount.kind.as_str(), "kv" | "generic")
        {
            let version = mount.options.as_ref().and_then(|options| options.get("version")?.as_str());
            let kind = if version == Some("2") { KvKind::V2 } else { KvKind::V1 };
            self.session.vault().learn(self.mount, kind);
        }
        self.kind()
    }

    fn refuse_v1(&self, what: &'static str) -> Result<(), Error> {
        if self.kind() == Some(KvKind::V1) { Err(Error::UnsupportedOnKvV1 { what }) } else { Ok(()) }
    }

    /// Reads a secret.
    ///
    /// # Errors
    /// `NotFound`, `VersionGone`, or what stands in the way.
    pub async fn read(&self, path: &str, version: Option<u64>) -> Result<KvRead, Error> {
        if version.is_some() {
            self.refuse_v1("reading an older version")?;
        }
        if self.kind() == Some(KvKind::V1) {
            return self.read_v1(path).await;
        }
        let request = ReadSecretRequest { mount: self.mount.into(), path: path.into(), version };
        let raw = self.session.read_raw(&request).await?;
        match raw.status {
            200 => {
                let data: Content = raw.envelope()?.data.ok_or(NO_DATA)?;
                self.session.vault().learn(self.mount, KvKind::V2);
                let Some(content) = data.data else { return Err(gone(&data.metadata)) };
                Ok(KvRead {
                    data: SecretData::new(content),
                    version: Some(data.metadata.version),
                    created_time: Some(data.metadata.created_time),
                    custom_metadata: data.metadata.custom_metadata.unwrap_or_default(),
                })
            }
            404 => {
                if let Ok(envelope) = raw.envelope::<Content>()
                    && let Some(content) = envelope.data
                {
                    self.session.vault().learn(self.mount, KvKind::V2);
                    return Err(gone(&content.metadata));
                }
                if raw.says("no handler for route") {
                    return Err(Error::MountNotFound { mount: self.mount.to_owned() });
                }
                match self.kind() {
                    Some(KvKind::V2) => Err(Error::NotFound),
                    _ => self.read_unknown(path, version).await,
                }
            }
            403 if self.kind().is_none() && self.ask_kind().await == Some(KvKind::V1) => {
                if version.is_some() {
                    return Err(Error::UnsupportedOnKvV1 { what: "reading an older version" });
                }
                self.read_v1(path).await
            }
            _ => {
                self.session.parse::<Value>(raw, &request.path(), "\"read\"").await.and(Err(Error::NotFound))
            }
        }
    }

    /// A version 2 mount answers a version 1 path with a warning; a version 1 mount does not.
    async fn read_unknown(&self, path: &str, version: Option<u64>) -> Result<KvRead, Error> {
        let raw =
            self.session.read_raw(&GetSecretRequest { mount: self.mount.into(), path: path.into() }).await?;
        match raw.status {
            404 if raw.says("versioned") => {
                self.session.vault().learn(self.mount, KvKind::V2);
                Err(Error::NotFound)
            }
            200 | 404 => {
                self.session.vault().learn(self.mount, KvKind::V1);
                if version.is_some() {
                    return Err(Error::UnsupportedOnKvV1 { what: "reading an older version" });
                }
                if raw.status == 404 { Err(Error::NotFound) } else { v1_read(&raw) }
            }
            // A policy written for version 2 paths refuses this one: that is no sign of version 1.
            _ => match self.ask_kind().await {
                Some(KvKind::V1) => {
                    Err(self.session.forbidden(&raw, &format!("{}/{path}", self.mount), "\"read\"").await)
                }
                _ => Err(Error::NotFound),
            },
        }
    }

    async fn read_v1(&self, path: &str) -> Result<KvRead, Error> {
        let request = GetSecretRequest { mount: self.mount.into(), path: path.into() };
        let raw = self.session.read_raw(&request).await?;
        if raw.status == 200 {
            return v1_read(&raw);
        }
        self.session.parse::<Value>(raw, &request.path(), "\"read\"").await.and(Err(Error::NotFound))
    }

    /// Names in a folder, folders with a slash at the end; an empty folder has none.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn list(&self, folder: &str) -> Result<Vec<String>, Error> {
        let v2 = async || {
            let request = ListSecretsRequest { mount: self.mount.into(), path: folder.into() };
            let raw = self.session.read_raw(&request).await?;
            Ok::<_, Error>((raw, request.path()))
        };
        let v1 = async || {
            let request = ListSecretRequest { mount: self.mount.into(), path: folder.into() };
            let raw = self.session.read_raw(&request).await?;
            Ok::<_, Error>((raw, request.path()))
        };
        let (raw, path) = if self.kind() == Some(KvKind::V1) { v1().await? } else { v2().await? };
        match raw.status {
            404 if raw.says("no handler for route") => {
                Err(Error::MountNotFound { mount: self.mount.to_owned() })
            }
            404 if self.kind().is_none() => {
                // An empty folder and a version 1 mount look alike: the version 1 path tells them apart.
                let (other, path) = v1().await?;
                if other.status == 200 && !other.warns() {
                    self.session.vault().learn(self.mount, KvKind::V1);
                    return names(&other);
                }
                if other.status == 403 && self.ask_kind().await == Some(KvKind::V1) {
                    return Err(self.session.forbidden(&other, &path, "\"list\"").await);
                }
                Ok(Vec::new())
            }
            403 if self.kind().is_none() && self.ask_kind().await == Some(KvKind::V1) => {
                let (raw, path) = v1().await?;
                match raw.status {
                    200 => names(&raw),
                    404 => Ok(Vec::new()),
                    _ => self.session.parse::<Value>(raw, &path, "\"list\"").await.map(|_| Vec::new()),
                }
            }
            404 => Ok(Vec::new()),
            200 => {
                if self.kind().is_none() && !raw.warns() {
                    self.session.vault().learn(self.mount, KvKind::V2);
                }
                names(&raw)
            }
            _ => self.session.parse::<Value>(raw, &path, "\"list\"").await.map(|_| Vec::new()),
        }
    }

    /// What is known of a secret but its content.
    ///
    /// # Errors
    /// `UnsupportedOnKvV1`, `NotFound`, or what stands in the way.
    pub async fn metadata(&self, path: &str) -> Result<KvMetadata, Error> {
        self.refuse_v1("metadata")?;
        let request = ReadSecretMetadataRequest { mount: self.mount.into(), path: path.into() };
        let raw = self.session.read_raw(&request).await?;
        if self.kind().is_none() {
            // Whether this is version 1 decides what the answer should say.
            match raw.status {
                404 => drop(self.read(path, None).await),
                403 => drop(self.ask_kind().await),
                _ => {}
            }
            self.refuse_v1("metadata")?;
        }
        let answer = self.session.parse::<KvMetadata>(raw, &request.path(), "\"read\"").await?;
        self.session.vault().learn(self.mount, KvKind::V2);
        answer.data.ok_or(NO_DATA)
    }

    /// The state that a preview is made from. A token that may not read the content may still read the
    /// metadata.
    ///
    /// # Errors
    /// What stands in the way, but for a policy that forbids looking.
    pub async fn current(&self, path: &str) -> Result<Current, Error> {
        match self.read(path, None).await {
            Ok(read) => Ok(Current::Present(read)),
            Err(Error::NotFound) => Ok(Current::Absent),
            Err(Error::VersionGone { version, .. }) => Ok(Current::Gone(version)),
            Err(Error::Forbidden { .. }) if self.kind() == Some(KvKind::V1) => Ok(Current::Unseen(None)),
            Err(Error::Forbidden { .. }) => match self.metadata(path).await {
                Ok(metadata) => Ok(Current::Unseen(Some(metadata.current_version))),
                Err(Error::NotFound) => Ok(Current::Absent),
                Err(Error::Forbidden { .. }) => Ok(Current::Unseen(None)),
                Err(other) => Err(other),
            },
            Err(other) => Err(other),
        }
    }
}

/// A KV mount, for writing. Only a `Granted` gives one.
#[derive(Clone, Copy)]
pub struct KvWriter<'a>(KvReader<'a>);

impl<'a> std::ops::Deref for KvWriter<'a> {
    type Target = KvReader<'a>;
    fn deref(&self) -> &KvReader<'a> {
        &self.0
    }
}

impl<'a> KvWriter<'a> {
    pub(crate) fn new(session: &'a Session, mount: &'a str) -> Self {
        Self(KvReader::new(session, mount))
    }

    /// Writes a whole secret. With `cas`, only onto that version (0: only if there is none).
    ///
    /// # Errors
    /// `Conflict`, or what stands in the way; an unknown outcome is followed by a read-back.
    pub async fn write(
        &self,
        path: &str,
        data: Map<String, Value>,
        cas: Option<u64>,
    ) -> Result<WrittenVersion, Error> {
        if self.kind() == Some(KvKind::V1) {
            let request = WriteV1 { mount: self.mount.into(), path: path.into(), data };
            let raw = match self.session.write_raw(&request, None).await {
                Err(Error::OutcomeUnknown { fault, .. }) => {
                    return Err(self.read_back(path, None, Some(&request.data), fault).await);
                }
                other => other?,
            };
            self.session.parse::<Value>(raw, &request.path(), "\"create\", \"update\"").await?;
            return Ok(WrittenVersion::default());
        }
        let request =
            WriteData { mount: self.mount.into(), path: path.into(), data, options: Options { cas } };
        let written = match self.session.write_raw(&request, None).await {
            Ok(raw) => self.written(raw, &request.path(), "\"create\", \"update\"").await,
            Err(other) => Err(other),
        };
        match written {
            Err(Error::OutcomeUnknown { fault, .. }) => {
                Err(self.read_back(path, cas, Some(&request.data), fault).await)
            }
            other => other,
        }
    }

    /// Merges keys into a secret; null removes one.
    ///
    /// # Errors
    /// As [`Self::write`]; `NotFound` when there is nothing to patch.
    pub async fn patch(
        &self,
        path: &str,
        data: Map<String, Value>,
        cas: Option<u64>,
    ) -> Result<WrittenVersion, Error> {
        self.refuse_v1("patching")?;
        let request =
            PatchData { mount: self.mount.into(), path: path.into(), data, options: Options { cas } };
        let written = match self.session.write_raw(&request, Some("application/merge-patch+json")).await {
            Ok(raw) => self.written(raw, &request.path(), "\"patch\"").await,
            Err(other) => Err(other),
        };
        match written {
            Err(Error::OutcomeUnknown { fault, .. }) => Err(self.read_back(path, cas, None, fault).await),
            other => other,
        }
    }

    /// Deletes the newest version (or, on version 1, the secret).
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn delete(&self, path: &str, versions: &[u64]) -> Result<(), Error> {
        if self.kind() == Some(KvKind::V1) {
            if !versions.is_empty() {
                return Err(Error::UnsupportedOnKvV1 { what: "deleting single versions" });
            }
            let request = DeleteSecretRequest { mount: self.mount.into(), path: path.into() };
            return self.done(&request, "\"delete\"", path, &[]).await;
        }
        if versions.is_empty() {
            let request = DeleteLatestSecretVersionRequest { mount: self.mount.into(), path: path.into() };
            return self.done(&request, "\"delete\"", path, &[]).await;
        }
        let request = DeleteSecretVersionsRequest {
            mount: self.mount.into(),
            path: path.into(),
            versions: versions.to_vec(),
        };
        self.done(&request, "\"update\"", path, versions).await
    }

    /// Brings deleted versions back.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn undelete(&self, path: &str, versions: &[u64]) -> Result<(), Error> {
        self.refuse_v1("undeleting")?;
        let request = UndeleteSecretVersionsRequest {
            mount: self.mount.into(),
            path: path.into(),
            versions: versions.to_vec(),
        };
        self.done(&request, "\"update\"", path, versions).await
    }

    /// Removes the content of versions for good.
    ///
    /// # Errors
    /// What stands in the way.
    pub async fn destroy(&self, path: &str, versions: &[u64]) -> Result<(), Error> {
        self.refuse_v1("destroying versions")?;
        let request = DestroySecretVersionsRequest {
            mount: self.mount.into(),
            path: path.into(),
            versions: versions.to_vec(),
        };
        self.done(&request, "\"update\"", path, versions).await
    }

    async fn done<E: Endpoint>(
        &self,
        request: &E,
        capabilities: &str,
        path: &str,
        versions: &[u64],
    ) -> Result<(), Error> {
        match self.session.write_raw(request, None).await {
            Ok(raw) => self.session.parse::<Value>(raw, &request.path(), capabilities).await.map(|_| ()),
            Err(Error::OutcomeUnknown { fault, .. }) => {
                let read_back = self.state_afterwards(path, versions).await.into();
                Err(Error::OutcomeUnknown { fault, read_back })
            }
            Err(other) => Err(other),
        }
    }

    async fn written(
        &self,
        raw: super::Raw,
        path: &str,
        capabilities: &str,
    ) -> Result<WrittenVersion, Error> {
        let envelope = match self.session.parse::<WrittenVersion>(raw, path, capabilities).await {
            Err(Error::VaultAnswer { fault }) => return Err(super::unknown(fault)),
            other => other?,
        };
        let written = envelope.data.ok_or_else(|| super::unknown("the answer names no version"))?;
        self.session.vault().learn(self.mount, KvKind::V2);
        Ok(written)
    }

    /// After a write whose answer was lost: what a look at the secret tells. The content decides, where the
    /// whole was written and the token may read it.
    async fn read_back(
        &self,
        path: &str,
        cas: Option<u64>,
        whole: Option<&Map<String, Value>>,
        fault: String,
    ) -> Error {
        if let Some(whole) = whole
            && let Ok(read) = self.read(path, None).await
            && same_content(read.data.expose(), whole)
        {
            let of = read.version.map(|version| format!(" as version {version}")).unwrap_or_default();
            let read_back = format!("A read afterwards shows exactly this content{of}.").into();
            return Error::OutcomeUnknown { fault, read_back };
        }
        let read_back = match (self.metadata(path).await, cas) {
            (Ok(metadata), Some(cas)) if metadata.current_version > cas => format!(
                "A read afterwards shows version {}, so a write has arrived since the preview of version {cas}; it is probably this one.",
                metadata.current_version
            ),
            (Ok(metadata), _) => format!(
                "A read afterwards shows version {}; the write may still arrive.",
                metadata.current_version
            ),
            (Err(Error::NotFound), _) => {
                "A read afterwards shows nothing there; the write may still arrive.".to_owned()
            }
            (Err(Error::UnsupportedOnKvV1 { .. }), _) => {
                "A read afterwards shows another content, or none; the write may still arrive.".to_owned()
            }
            _ => "A read afterwards was not possible.".to_owned(),
        };
        Error::OutcomeUnknown { fault, read_back: read_back.into() }
    }

    /// After a change of versions whose answer was lost: their state.
    async fn state_afterwards(&self, path: &str, versions: &[u64]) -> String {
        if self.kind() == Some(KvKind::V1) {
            return match self.read(path, None).await {
                Ok(_) => {
                    "A read afterwards shows the secret still there; the request may still arrive.".into()
                }
                Err(Error::NotFound) => "A read afterwards shows nothing there.".into(),
                Err(_) => "A read afterwards was not possible.".into(),
            };
        }
        let Ok(metadata) = self.metadata(path).await else {
            return "A read afterwards was not possible.".to_owned();
        };
        let newest = [metadata.current_version];
        let named = if versions.is_empty() { &newest } else { versions };
        let state = |version: &u64| {
            let state = match metadata.versions.get(&version.to_string()) {
                Some(info) if info.destroyed => "destroyed",
                Some(info) if !info.deletion_time.is_empty() => "deleted",
                Some(_) => "there",
                None => "gone",
            };
            format!("version {version} is {state}")
        };
        let states: Vec<_> = named.iter().map(state).collect();
        format!("A read afterwards shows: {}; the request may still arrive.", states.join(", "))
    }
}

/// Equal as Vault keeps it: it may write a number in another way.
fn same_content(a: &Map<String, Value>, b: &Map<String, Value>) -> bool {
    fn same(a: &Value, b: &Value) -> bool {
        match (a, b) {
            (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
            (Value::Array(a), Value::Array(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
            }
            (Value::Object(a), Value::Object(b)) => same_content(a, b),
            (a, b) => a == b,
        }
    }
    a.len() == b.len() && a.iter().all(|(key, value)| b.get(key).is_some_and(|other| same(value, other)))
}

/// Success without what was asked for.
const NO_DATA: Error = Error::VaultAnswer { fault: "it says success and holds no data" };

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    data: Option<Map<String, Value>>,
    metadata: ContentMetadata,
}

#[derive(Deserialize)]
struct ContentMetadata {
    #[serde(default)]
    created_time: String,
    #[serde(default)]
    custom_metadata: Option<BTreeMap<String, Value>>,
    #[serde(default)]
    destroyed: bool,
    version: u64,
}

fn gone(metadata: &ContentMetadata) -> Error {
    let (state, remedy) = if metadata.destroyed {
        ("destroyed", "Its content is gone for good; read another version.")
    } else {
        ("deleted", "Undelete it, or read another version.")
    };
    Error::VersionGone { version: metadata.version, state, remedy }
}

fn v1_read(raw: &super::Raw) -> Result<KvRead, Error> {
    let data: Map<String, Value> = raw.envelope()?.data.ok_or(NO_DATA)?;
    Ok(KvRead {
        data: SecretData::new(data),
        version: None,
        created_time: None,
        custom_metadata: BTreeMap::new(),
    })
}

#[derive(Deserialize)]
struct Names {
    #[serde(default)]
    keys: Vec<String>,
}

fn names(raw: &super::Raw) -> Result<Vec<String>, Error> {
    Ok(raw.envelope::<Names>()?.data.ok_or(NO_DATA)?.keys)
}
