//! The certificates that were issued, and those of them that were taken back.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use x509_cert::{Certificate, der::Encode, serial_number::SerialNumber};

use super::{
    certificate::{self, Signer},
    issuers::{Issuer, Issuers},
    not_here,
};
use crate::dev::{
    engine::Call,
    fields::Fields,
    keypair::Hash,
    wire::{Answer, Fault, Reply, time},
};

/// By serial number, in Vault's form.
#[derive(Default)]
pub(super) struct Certificates {
    kept: BTreeMap<String, Kept>,
    /// How often something was taken back: the number of the revocation list.
    changes: u64,
}

/// One of them.
pub(super) struct Kept {
    pub(super) der: Vec<u8>,
    serial: SerialNumber,
    not_after: DateTime<Utc>,
    /// The id of who issued it.
    issuer: String,
    revoked: Option<DateTime<Utc>>,
}

impl Certificates {
    pub(super) fn keep(&mut self, made: &Certificate, issuer: &str) -> Result<(), Fault> {
        let tbs = made.tbs_certificate();
        let kept = Kept {
            der: made.to_der().map_err(certificate::broken)?,
            serial: tbs.serial_number().clone(),
            not_after: certificate::moment(tbs.validity().not_after),
            issuer: issuer.to_owned(),
            revoked: None,
        };
        self.kept.insert(certificate::serial_text(tbs.serial_number()), kept);
        Ok(())
    }

    /// One by its serial number, which may have hyphens for colons and capitals.
    pub(super) fn get(&self, serial: &str) -> Option<&Kept> {
        self.kept.get(&plain(serial))
    }

    pub(super) fn serials(&self) -> Vec<String> {
        self.kept.keys().cloned().collect()
    }

    pub(super) fn revoked_serials(&self) -> Vec<String> {
        let revoked = self.kept.iter().filter(|(_, kept)| kept.revoked.is_some());
        revoked.map(|(serial, _)| serial.clone()).collect()
    }

    /// `revoke`: by serial number.
    pub(super) fn revoke_by_request(&mut self, call: &Call<'_>, issuers: &Issuers) -> Answer {
        let fields = Fields(call.data);
        match (fields.has("serial_number"), fields.has("certificate")) {
            (false, false) => {
                return Err(Fault::bad("The serial number or certificate to revoke must be provided."));
            }
            (true, true) => {
                return Err(Fault::bad(
                    "Must provide either the certificate or the serial to revoke; not both.",
                ));
            }
            (false, true) => return Err(not_here("revocation by a certificate; give its serial number")),
            (true, false) => {}
        }
        let serial = fields.text_or_empty("serial_number")?;
        if serial.is_empty() {
            return Err(Fault::bad("The serial number must be provided"));
        }
        let Some(kept) = self.get(&serial) else {
            return Err(Fault::bad(format!("certificate with serial {serial} not found.")));
        };
        if let Some(issuer) = issuers.by_serial(&plain(&serial)) {
            let id = &issuer.id;
            return Err(Fault::bad(format!("adding issuer (id: {id}) to its own CRL is not allowed")));
        }
        if kept.revoked.is_none() && kept.not_after < call.now + TimeDelta::seconds(2) {
            let serial = plain(&serial);
            let text = format!("certificate with serial {serial} already expired; refusing to add to CRL");
            return Ok(Some(Reply::warning(text)));
        }
        let revoked = self.revoke(&serial, call.now).unwrap_or(call.now);
        Ok(Some(Reply::data(json!({
            "revocation_time": revoked.timestamp(),
            "revocation_time_rfc3339": time(revoked),
            "state": "revoked",
        }))))
    }

    /// Takes one back; when that was, now or before. `None` when it is not known.
    pub(super) fn revoke(&mut self, serial: &str, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let kept = self.kept.get_mut(&plain(serial))?;
        if kept.revoked.is_none() {
            self.changes += 1;
        }
        Some(*kept.revoked.get_or_insert(now))
    }

    /// The revocation list of an issuer, made now.
    pub(super) fn list(
        &self,
        issuer: &Issuer,
        issuers: &Issuers,
        now: DateTime<Utc>,
    ) -> Result<Option<Vec<u8>>, Fault> {
        let Some(pair) = issuers.pair_of(issuer) else { return Ok(None) };
        let revoked: Vec<_> = self
            .kept
            .values()
            .filter(|kept| kept.issuer == issuer.id)
            .filter_map(|kept| Some((kept.serial.clone(), kept.revoked?)))
            .collect();
        let signer = Signer { pair, hash: Hash::Sha256 };
        certificate::revocation_list(&revoked, self.changes + 1, now, signer, &issuer.certificate).map(Some)
    }
}

impl Kept {
    /// `cert/{serial}`, around the certificate's text.
    pub(super) fn describe(&self, text: &str) -> Value {
        let mut out = json!({
            "certificate": text,
            "revocation_time": self.revoked.map_or(0, |at| at.timestamp()),
            "revocation_time_rfc3339": self.revoked.map(time).unwrap_or_default(),
        });
        if let Some(out) = out.as_object_mut().filter(|_| self.revoked.is_some()) {
            out.insert("issuer_id".to_owned(), json!(self.issuer));
        }
        out
    }
}

/// A serial number in the form in which it is kept.
fn plain(serial: &str) -> String {
    serial.to_lowercase().replace('-', ":")
}
