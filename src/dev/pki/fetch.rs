//! What anybody may read: the authority, its chain, the revocation list, single certificates. And the lists of
//! serial numbers, for those who may.

use http::StatusCode;
use serde_json::json;
use x509_cert::der::Encode;

use super::{certificate, format::Format, issuers::Issuers, not_here, only, revocation::Certificates};
use crate::dev::{
    engine::Call,
    pem,
    wire::{Answer, Fault, Op, Reply},
};

const CERTIFICATE: &str = "application/pkix-cert";
const CERTIFICATE_PEM: &str = "application/pem-certificate-chain";
const CRL: &str = "application/pkix-crl";
const CRL_PEM: &str = "application/x-pem-file";

/// What was asked for by name or by number, and how it shall look.
struct Asked {
    what: What,
    look: Look,
}

enum What {
    Authority,
    Chain,
    List,
    Serial(String),
}

/// As bytes, as text, or within JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    Der,
    Pem,
    Json,
}

impl Asked {
    fn read(head: &str, rest: &str) -> Result<Self, Fault> {
        let (what, look) = match (head, rest) {
            ("ca", "") => (What::Authority, Look::Der),
            ("ca", "pem") => (What::Authority, Look::Pem),
            ("ca_chain", "") => (What::Chain, Look::Pem),
            ("crl", "") => (What::List, Look::Der),
            ("crl", "pem") => (What::List, Look::Pem),
            ("cert", "ca") => (What::Authority, Look::Json),
            ("cert", "ca_chain") => (What::Chain, Look::Json),
            ("cert", "crl") => (What::List, Look::Json),
            ("cert", rest) => {
                let (serial, look) = match rest.split_once('/') {
                    None => (rest, Look::Json),
                    Some((serial, "raw")) => (serial, Look::Der),
                    Some((serial, "raw/pem")) => (serial, Look::Pem),
                    Some(_) => return Err(Fault::unsupported_path()),
                };
                if serial == "ca" {
                    return Ok(Self { what: What::Authority, look });
                }
                let fits = |byte: u8| byte.is_ascii_hexdigit() || matches!(byte, b'-' | b':');
                if serial.is_empty() || !serial.bytes().all(fits) {
                    return Err(Fault::unsupported_path());
                }
                (What::Serial(serial.to_owned()), look)
            }
            ("crl", rest) => return Err(not_here(&format!("path \"crl/{rest}\""))),
            _ => return Err(Fault::unsupported_path()),
        };
        Ok(Self { what, look })
    }
}

pub(super) fn fetch(
    call: &Call<'_>,
    head: &str,
    rest: &str,
    issuers: &Issuers,
    certificates: &Certificates,
) -> Answer {
    match (head, rest) {
        ("certs", "") => {
            only(call.op == Op::List)?;
            return Ok(Some(Reply::keys(certificates.serials())));
        }
        ("certs", "revoked") => {
            only(call.op == Op::List)?;
            return Ok(Some(Reply::keys(certificates.revoked_serials())));
        }
        // A list is made when it is read, so there is nothing to do.
        ("crl", "rotate") => {
            only(call.op == Op::Read)?;
            return Ok(Some(Reply::data(json!({ "success": true }))));
        }
        _ => {}
    }
    let Asked { what, look } = Asked::read(head, rest)?;
    only(call.op == Op::Read)?;
    let found = match &what {
        What::Authority | What::Chain => issuers.find("default").map(Some),
        What::List => issuers.find("default").map(Some).map_err(|mut fault| {
            fault.status = StatusCode::INTERNAL_SERVER_ERROR;
            fault
        }),
        What::Serial(_) => Ok(None),
    };
    // Without an authority the bytes are none, and the JSON says why.
    let issuer = match found {
        Err(fault) if look == Look::Json => return Err(fault),
        Err(_) => None,
        Ok(issuer) => issuer,
    };
    let (media, media_pem, label) = match what {
        What::List => (CRL, CRL_PEM, pem::CRL),
        What::Chain => (CERTIFICATE, CERTIFICATE, pem::CERTIFICATE),
        What::Authority | What::Serial(_) => (CERTIFICATE, CERTIFICATE_PEM, pem::CERTIFICATE),
    };
    let text = match (&what, issuer) {
        (What::Chain, Some(issuer)) => {
            let chain = issuers.chain(issuer);
            let texts: Result<Vec<_>, _> =
                chain.iter().map(|above| Format::Pem.certificate(&above.certificate)).collect();
            Some(texts?.join("\n"))
        }
        _ => None,
    };
    let der = match (&what, issuer) {
        (What::Authority, Some(issuer)) => Some(issuer.certificate.to_der().map_err(certificate::broken)?),
        (What::List, Some(issuer)) => certificates.list(issuer, issuers, call.now)?,
        (What::Serial(serial), _) => certificates.get(serial).map(|kept| kept.der.clone()),
        _ => None,
    };
    if look == Look::Der {
        return Ok(Some(Reply::plain(media, der.unwrap_or_default())));
    }
    let text = text.or_else(|| der.map(|der| Format::Pem.text(label, &der)));
    if look == Look::Pem {
        return Ok(Some(Reply::plain(media_pem, text.unwrap_or_default().into_bytes())));
    }
    let Some(text) = text else { return Ok(None) };
    let kept = match &what {
        What::Serial(serial) => certificates.get(serial),
        _ => None,
    };
    let mut data = match kept {
        Some(kept) => kept.describe(&text),
        None => json!({ "certificate": text, "revocation_time": 0, "revocation_time_rfc3339": "" }),
    };
    if let (What::Chain, Some(data)) = (&what, data.as_object_mut()) {
        data.insert("ca_chain".to_owned(), json!(text));
    }
    Ok(Some(Reply::data(data)))
}
