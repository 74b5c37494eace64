//! The forms in which certificates, requests and keys stand in an answer.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use x509_cert::{Certificate, der::Encode};

use super::certificate;
use crate::dev::{fields::Fields, keypair::KeyPair, pem, wire::Fault};

/// `format` of a request.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Pem,
    /// Key, certificate and chain in one text.
    PemBundle,
    /// In base64.
    Der,
}

impl Format {
    /// `None` when a request names another one.
    pub(super) fn read(fields: &Fields<'_>) -> Result<Option<Self>, Fault> {
        Ok(match fields.text("format")?.as_deref() {
            None | Some("pem") => Some(Self::Pem),
            Some("pem_bundle") => Some(Self::PemBundle),
            Some("der") => Some(Self::Der),
            Some(_) => None,
        })
    }

    pub(super) fn unknown() -> Fault {
        Fault::bad(r#"the "format" path parameter must be "pem", "der", or "pem_bundle""#)
    }

    /// DER in this form; PEM is without its last line break, as Vault has it in answers.
    pub(super) fn text(self, label: &str, der: &[u8]) -> String {
        match self {
            Self::Der => STANDARD.encode(der),
            Self::Pem | Self::PemBundle => pem::encode(label, der).trim_end().to_owned(),
        }
    }

    pub(super) fn certificate(self, certificate: &Certificate) -> Result<String, Fault> {
        Ok(self.text(pem::CERTIFICATE, &certificate.to_der().map_err(certificate::broken)?))
    }

    /// A private key, in PKCS#8 when `private_key_format` asks for it.
    pub(super) fn private_key(self, pair: &KeyPair, fields: &Fields<'_>) -> Result<String, Fault> {
        if fields.text_or_empty("private_key_format")? == "pkcs8" {
            return Ok(self.text(pem::PRIVATE_KEY, &pair.pkcs8()?));
        }
        let (label, der) = pair.traditional()?;
        Ok(self.text(label, &der))
    }
}
