//! The authorities of a mount and their keys, and what is taken in from elsewhere.

use chrono::{DateTime, Utc};
use http::StatusCode;
use serde_json::{Map, Value, json};
use x509_cert::{Certificate, der::Decode};

use super::{certificate, generate::NO_URLS};
use crate::dev::{
    engine::{Call, is_name},
    fields::Fields,
    keypair::KeyPair,
    pem, random,
    wire::{Answer, Fault, Reply},
};

/// A certificate that may issue others. Without a key of this mount it only stands in chains.
pub(super) struct Issuer {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) certificate: Certificate,
    /// The id of its key.
    pub(super) key: Option<String>,
}

/// A key that authorities were made with, or may be.
pub(super) struct Key {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) pair: KeyPair,
}

/// All of them; the first with which something can be signed is the default.
#[derive(Default)]
pub(super) struct Issuers {
    issuers: Vec<Issuer>,
    keys: Vec<Key>,
    default: Option<String>,
}

impl Issuer {
    pub(super) fn not_after(&self) -> DateTime<Utc> {
        certificate::moment(self.certificate.tbs_certificate().validity().not_after)
    }

    pub(super) fn serial(&self) -> String {
        certificate::serial_text(self.certificate.tbs_certificate().serial_number())
    }

    /// Whether it issued itself.
    pub(super) fn is_root(&self) -> bool {
        certificate::is_issued_by(&self.certificate, &self.certificate)
    }
}

impl Issuers {
    /// The issuer of a role: the default one, or one by its id or name.
    pub(super) fn find(&self, reference: &str) -> Result<&Issuer, Fault> {
        if reference == "default" {
            let id = self.default.as_ref();
            return self
                .issuers
                .iter()
                .find(|issuer| Some(&issuer.id) == id)
                .ok_or_else(|| Fault::bad("no default issuer currently configured"));
        }
        self.issuers
            .iter()
            .find(|issuer| issuer.id == reference || issuer.name == reference)
            .ok_or_else(|| Fault::bad(format!("unable to find PKI issuer for reference: {reference}")))
    }

    /// The issuer of a role with its key.
    pub(super) fn signing(&self, reference: &str) -> Result<(&Issuer, &KeyPair), Fault> {
        let prefixed = |fault: Fault| {
            let text = fault.errors.join("; ");
            let text = format!("could not fetch the CA certificate (was one set?): {text}");
            Fault::list(StatusCode::INTERNAL_SERVER_ERROR, &[&text])
        };
        let issuer = self.find(reference).map_err(prefixed)?;
        let pair = self.pair_of(issuer).ok_or_else(|| {
            let id = &issuer.id;
            prefixed(Fault::bad(format!(
                "unable to fetch corresponding key for issuer {id}; unable to use this issuer for signing"
            )))
        })?;
        Ok((issuer, pair))
    }

    pub(super) fn pair_of(&self, issuer: &Issuer) -> Option<&KeyPair> {
        let id = issuer.key.as_ref()?;
        self.keys.iter().find(|key| key.id == *id).map(|key| &key.pair)
    }

    pub(super) fn by_serial(&self, serial: &str) -> Option<&Issuer> {
        self.issuers.iter().find(|issuer| issuer.serial() == serial)
    }

    /// An issuer and those above it, as far as they are known here.
    pub(super) fn chain<'a>(&'a self, issuer: &'a Issuer) -> Vec<&'a Issuer> {
        let mut chain = vec![issuer];
        let mut last = issuer;
        while !last.is_root() {
            let above = self.issuers.iter().find(|above| {
                !chain.iter().any(|known| known.id == above.id)
                    && certificate::is_issued_by(&last.certificate, &above.certificate)
            });
            let Some(above) = above else { break };
            chain.push(above);
            last = above;
        }
        chain
    }

    /// `intermediate/set-signed`: takes certificates of authorities; those whose key is here can issue.
    pub(super) fn set_signed(&mut self, call: &Call<'_>) -> Answer {
        let bundle = Fields(call.data).text_or_empty("certificate")?;
        if bundle.is_empty() {
            return Err(Fault::bad("'pem_bundle' and 'certificate' parameters were empty"));
        }
        if bundle.len() < 75 {
            return Err(Fault::bad(
                "provided data for import was too short; perhaps a path was passed to the API rather than the \
                 contents of a PEM file",
            ));
        }
        let mut certificates = Vec::new();
        let mut rest = bundle.as_str();
        while !rest.trim().is_empty() {
            let (label, der, after) =
                pem::next(rest).ok_or_else(|| Fault::bad("provided PEM block contained no data"))?;
            rest = after;
            match label {
                "CERTIFICATE" | "X509 CERTIFICATE" => certificates.push(der),
                "CRL" | "X509 CRL" | "EC PARAMS" | "EC PARAMETERS" => {}
                _ => {
                    return Err(Fault::bad(
                        "private keys found in the PEM bundle but not allowed by the path; use \
                         /issuers/import/bundle",
                    ));
                }
            }
        }
        let (mut mapping, mut imported, mut existing) = (Map::new(), Vec::new(), Vec::new());
        for (index, der) in certificates.iter().enumerate() {
            let text = pem::encode(pem::CERTIFICATE, der);
            let (issuer, is_new) = self
                .import(der)
                .map_err(|fault| Fault::bad(format!("Error parsing issuer {index}: {fault}\n{text}")))?;
            mapping.insert(issuer.id.clone(), json!(issuer.key.clone().unwrap_or_default()));
            if is_new { &mut imported } else { &mut existing }.push(issuer.id.clone());
        }
        let or_null = |list: Vec<String>| if list.is_empty() { Value::Null } else { json!(list) };
        let mut reply = Reply::data(json!({
            "mapping": mapping,
            "imported_keys": null,
            "imported_issuers": or_null(imported),
            "existing_keys": null,
            "existing_issuers": or_null(existing),
        }));
        reply.warnings.push(NO_URLS.to_owned());
        Ok(Some(reply))
    }

    /// Takes a certificate; `false` when it was here already.
    fn import(&mut self, der: &[u8]) -> Result<(&Issuer, bool), String> {
        let certificate = Certificate::from_der(der).map_err(|_| {
            "unable to parse certificate from PEM block: x509: malformed certificate".to_owned()
        })?;
        if certificate::authority_constraints(&certificate).is_none() {
            return Err("Refusing to import non-CA certificate".to_owned());
        }
        let known = self.issuers.iter().position(|issuer| issuer.certificate == certificate);
        let at = known.unwrap_or(self.issuers.len());
        if known.is_none() {
            let public = certificate.tbs_certificate().subject_public_key_info();
            let is_its =
                |key: &&Key| certificate::public_key(&key.pair).is_ok_and(|of_key| of_key == *public);
            let key = self.keys.iter().find(is_its).map(|key| key.id.clone());
            let id = random::uuid();
            if key.is_some() {
                self.default.get_or_insert_with(|| id.clone());
            }
            self.issuers.push(Issuer { id, name: String::new(), certificate, key });
        }
        let issuer = self.issuers.get(at).ok_or_else(|| "it is gone".to_owned())?;
        Ok((issuer, known.is_none()))
    }

    /// Keeps an authority and its key; the first is the default.
    pub(super) fn keep(&mut self, issuer: Issuer, key: Key) {
        self.default.get_or_insert_with(|| issuer.id.clone());
        self.issuers.push(issuer);
        self.keys.push(key);
    }

    pub(super) fn keep_key(&mut self, key: Key) {
        self.keys.push(key);
    }

    /// `issuer_name` of a request; empty when it is left out.
    pub(super) fn new_issuer_name(&self, fields: &Fields<'_>) -> Result<String, Fault> {
        let Some(name) = fields.text("issuer_name")? else { return Ok(String::new()) };
        let name = name.trim().to_owned();
        if name.is_empty() {
            return Err(Fault::bad("expected non-empty issuer name"));
        }
        if name.eq_ignore_ascii_case("default") {
            return Err(Fault::bad("reserved keyword 'default' can not be used as issuer name"));
        }
        if !is_name(&name, b"") {
            return Err(Fault::bad("issuer name contained invalid characters"));
        }
        if self.find(&name).is_ok() {
            return Err(Fault::bad("issuer name already in use"));
        }
        Ok(name)
    }

    /// `key_name` of a request; empty when it is left out.
    pub(super) fn new_key_name(&self, fields: &Fields<'_>) -> Result<String, Fault> {
        let Some(name) = fields.text("key_name")? else { return Ok(String::new()) };
        let name = name.trim().to_owned();
        if name.eq_ignore_ascii_case("default") {
            return Err(Fault::bad("reserved keyword 'default' can not be used as key name"));
        }
        if !is_name(&name, b"") {
            return Err(Fault::bad("key name contained invalid characters"));
        }
        if self.keys.iter().any(|key| key.name == name || key.id == name) {
            return Err(Fault::bad("key name already in use"));
        }
        Ok(name)
    }
}
