//! A mark that can be spent once, by whichever of several servers comes first: a response-wrapping token. Vault keeps
//! it, counts its one use and ends it in time. It opens nothing: what it wraps is the name of what it marks.
//!
//! Source: Vault API page "/sys/wrapping". That of many unwraps at once one succeeds, and that the token outlives the
//! one that made it, is Vault's.

use std::{sync::Arc, time::Duration};

use ::http::Method;
use rustify_derive::Endpoint;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{DEADLINE, READ_BACK, Reads, Session, Vault, http::Outgoing, issue};
use crate::{
    config::{FromSetting, SecretText},
    error::Error,
};

/// What the wrapping token wraps: this field, with the name of what is marked.
const FIELD: &str = "marks";

/// How long a mark may take to be spent.
const SPENDING: Duration = DEADLINE.saturating_sub(READ_BACK);

/// Vault's own words for a wrapping token that was used, has expired or never was.
const SPENT: &str = "wrapping token is not valid";

/// A mark. Whoever has it can spend it, and nothing else.
#[derive(Clone, Debug)]
pub struct Mark(SecretText);

impl Mark {
    /// The mark that this text is, if it is one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        SecretText::parse(text).ok().filter(|token| !token.expose().is_empty()).map(Self)
    }

    /// Its text, to be sealed.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

/// `POST sys/wrapping/lookup`: needs no token, and does not use up the one that it asks about.
#[derive(Endpoint, Serialize)]
#[endpoint(path = "sys/wrapping/lookup", method = "POST", response = "serde_json::Value")]
struct LookupWrapping {
    token: String,
}
impl Reads for LookupWrapping {}

#[derive(Deserialize)]
struct Wrapped {
    #[serde(default)]
    marks: String,
}

impl Session {
    /// Makes a mark of this name, with this session's token, for so many seconds.
    ///
    /// # Errors
    /// `forbidden` where a policy does not let the token wrap; what stands between here and Vault.
    pub async fn mark(&self, name: &str, seconds: u32) -> Result<Mark, Error> {
        let content = Map::from_iter([(FIELD.to_owned(), Value::from(name))]);
        let wrapping = self.write_wrapped(&issue::Wrap(content), seconds, "\"update\"").await;
        let wrapping = wrapping.map_err(|error| self.vault().nothing_changed(error))?;
        Mark::parse(&wrapping.token).ok_or(Error::VaultAnswer { fault: "a wrapping without a token" })
    }
}

impl Vault {
    /// Spends a mark of this name: `true` for whoever comes first, `false` for all others, and when it has expired.
    /// It is its own credential; no other token is sent.
    ///
    /// # Errors
    /// What stands between here and Vault. Then it may be spent or not.
    pub(crate) async fn spend(self: &Arc<Self>, mark: &Mark, name: &str) -> Result<bool, Error> {
        let outgoing = Outgoing {
            method: Method::POST,
            path: "sys/wrapping/unwrap",
            query: None,
            body: Some(b"{}".to_vec()),
            content_type: None,
            wrap_seconds: None,
            token: Some(&mark.0),
        };
        let late = |_| Error::VaultTimeout { seconds: SPENDING.as_secs() };
        let sent =
            tokio::time::timeout(SPENDING, self.transport.send(outgoing, false)).await.map_err(late)?;
        let raw = sent.map_err(|error| self.nothing_changed(error))?;
        match raw.status {
            200..=299 => {
                let wrapped = raw.envelope::<Wrapped>()?.data;
                Ok(wrapped.is_some_and(|wrapped| wrapped.marks == name))
            }
            400 | 403 if raw.says(SPENT) || raw.says("permission denied") || raw.refuses_token() => Ok(false),
            status => Err(Error::VaultRejected { status, hint: raw.hint() }),
        }
    }

    /// Whether a mark is spent or has expired.
    ///
    /// # Errors
    /// What stands between here and Vault.
    pub(crate) async fn is_spent(self: &Arc<Self>, mark: &Mark) -> Result<bool, Error> {
        let asked = LookupWrapping { token: mark.expose().to_owned() };
        let raw = self.own_session().read_raw_openly(&asked).await?;
        match raw.status {
            200..=299 => Ok(false),
            400 if raw.says(SPENT) => Ok(true),
            status => Err(Error::VaultRejected { status, hint: raw.hint() }),
        }
    }

    /// A mark that was made or spent without an answer is not a write of the caller's whose outcome is unknown.
    fn nothing_changed(&self, error: Error) -> Error {
        match error {
            Error::OutcomeUnknown { fault, .. } => {
                Error::VaultUnreachable { address: self.address().to_owned(), fault: fault.into() }
            }
            other => other,
        }
    }
}
