//! What two answers must have in common. What is random or of the moment is made equal; a certificate is taken
//! apart and compared by what it says.

use der::{Decode, Encode};
use regex::Regex;
use serde_json::{Value, json};
use x509_cert::{Certificate, crl::CertificateList, ext::Extension, request::CertReq};

use crate::{client::Got, script::Step};

/// The part of an answer that is compared.
pub(crate) fn comparable(got: &Got, step: &Step) -> Value {
    if step.status_only {
        return json!({ "status": got.status });
    }
    let mut body: Value = serde_json::from_slice(&got.bytes).unwrap_or_else(|_| raw(&got.bytes));
    // Go's redirects have a page of HTML.
    if got.status == 307 {
        body = Value::Null;
    }
    normalise("", &mut body);
    json!({
        "status": got.status,
        "content-type": got.header("content-type").filter(|_| got.status != 307 && !got.bytes.is_empty()),
        "location": got.header("location"),
        "x-vault-namespace": got.header("x-vault-namespace"),
        "cache-control": got.header("cache-control").filter(|_| got.status != 400),
        "body": body,
    })
}

/// A body that is no JSON: text, or DER.
fn raw(bytes: &[u8]) -> Value {
    match std::str::from_utf8(bytes) {
        // An authority's key for SSH.
        Ok(text) if ssh_key::PublicKey::from_openssh(text.trim()).is_ok() => {
            json!(text.split(' ').next())
        }
        Ok(text) => json!(text),
        Err(_) => encoded(bytes).unwrap_or_else(|| json!("<bytes>")),
    }
}

pub(crate) fn normalise(key: &str, value: &mut Value) {
    match value {
        Value::Array(items) => {
            for item in items.iter_mut() {
                normalise(key, item);
            }
            // Secret ids have random accessors and certificates random serials, so their order is random too.
            if key == "keys" {
                items.sort_by_key(Value::to_string);
            }
        }
        // Ids of issuers, each with that of its key.
        Value::Object(object) if key == "mapping" => {
            let mut keys: Vec<Value> = object.values().map(|key| json!(key.as_str() != Some(""))).collect();
            keys.sort_by_key(Value::to_string);
            *value = json!(keys);
        }
        Value::Object(object) => {
            for (key, value) in object.iter_mut() {
                normalise(key, value);
            }
        }
        Value::String(text) if key == "warnings" => *value = json!(without_seconds(text)),
        Value::String(text) if key == "random_bytes" => *value = json!(text.len()),
        // What was made with a version of a transit key.
        Value::String(text) if text.starts_with("vault:v") => {
            *value = json!(text.split(':').nth(1).map(|version| format!("<made with {version}>")));
        }
        Value::String(text) => *value = text_of(key, text),
        Value::Number(number) => match key {
            "creation_time" | "server_time_utc" | "last_renewal_time" => *value = json!("<seconds>"),
            // A second may have passed on one side and not on the other.
            "ttl" | "lease_duration" => {
                *value = json!((number.as_i64().unwrap_or_default() + 30).div_euclid(60))
            }
            "expiration" => {
                let from_now = number.as_i64().unwrap_or_default() - chrono::Utc::now().timestamp();
                *value = json!((from_now + 30).div_euclid(60));
            }
            "revocation_time" => *value = json!(number.as_i64() > Some(0)),
            // The versions of a transit key, each with the time it was made.
            _ if key.bytes().all(|byte| byte.is_ascii_digit()) => *value = json!("<seconds>"),
            _ => {}
        },
        _ => {}
    }
}

/// A warning with its quoted durations in whole minutes: `"1h29m59s"` and `"1h30m"` are the same.
fn without_seconds(text: &str) -> String {
    let parts = text.split('"').map(|part| {
        let mut seconds = 0;
        let mut number = String::new();
        for letter in part.chars() {
            let unit = match letter {
                '0'..='9' => {
                    number.push(letter);
                    continue;
                }
                'h' => 3600,
                'm' => 60,
                's' => 1,
                _ => return part.to_owned(),
            };
            seconds += number.parse::<i64>().unwrap_or_default() * unit;
            number.clear();
        }
        if seconds == 0 { part.to_owned() } else { format!("{} min", (seconds + 30) / 60) }
    });
    parts.collect::<Vec<_>>().join("\"")
}

fn text_of(key: &str, text: &str) -> Value {
    if let Some(name) = placeholder(key, text) {
        return json!(name);
    }
    if text.contains("-----BEGIN ") {
        return pem(text);
    }
    if text.contains("-cert-v01@openssh.com ") {
        return ssh_certificate(text);
    }
    // DER, where a certificate was asked for in that form.
    if ["certificate", "issuing_ca", "ca_chain", "csr", "private_key"].contains(&key) {
        use base64::Engine as _;
        let der = base64::engine::general_purpose::STANDARD.decode(text).unwrap_or_default();
        return encoded(&der).unwrap_or_else(|| about(&der));
    }
    if key == "lease_id" || key == "id" && text.contains('/') {
        return json!(text.rsplit_once('/').map(|(path, _)| format!("{path}/<lease>")));
    }
    let uuid = Regex::new("[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}").unwrap();
    let serial = Regex::new("[0-9a-f]{2}(:[0-9a-f]{2}){15,}").unwrap();
    let time = Regex::new(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z").unwrap();
    let text = uuid.replace_all(text, "<uuid>");
    let text = time.replace_all(&text, "<time>");
    json!(serial.replace_all(&text, "<serial>"))
}

fn placeholder(key: &str, text: &str) -> Option<&'static str> {
    if text.is_empty() {
        return None;
    }
    let hex = |text: &str| text.bytes().all(|byte| byte.is_ascii_hexdigit() || b"-:".contains(&byte));
    match key {
        "accessor" | "wrapped_accessor" => return Some("<accessor>"),
        "client_id" => return Some("<client>"),
        "cluster_name" => return Some("<cluster>"),
        "serial_number" if hex(text) => return Some("<serial>"),
        "public_key" | "publickey" if !text.starts_with("ssh-") && !text.starts_with("ecdsa-") => {
            return Some("<public key>");
        }
        "public_key" => return ssh_key::PublicKey::from_openssh(text.trim()).ok().map(|_| "<SSH key>"),
        _ => {}
    }
    if text.starts_with("hvs.") {
        return Some("<token>");
    }
    // The last part of a lease's id.
    if key == "keys" && text.len() == 24 && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Some("<lease>");
    }
    if chrono::DateTime::parse_from_rfc3339(text).is_ok() && !text.starts_with("0001") {
        return Some("<time>");
    }
    None
}

/// PEM, block by block; what stands around the blocks counts.
fn pem(text: &str) -> Value {
    let block = Regex::new("(?s)-----BEGIN ([A-Z0-9 ]+)-----\n(.*?)-----END [A-Z0-9 ]+-----").unwrap();
    let mut blocks = Vec::new();
    for found in block.captures_iter(text) {
        use base64::Engine as _;
        let lines = found[2].replace('\n', "");
        let der = base64::engine::general_purpose::STANDARD.decode(lines).unwrap_or_default();
        let what = encoded(&der).unwrap_or_else(|| about(&der));
        blocks.push(json!({ "label": &found[1], "what": what }));
    }
    json!({ "around": block.replace_all(text, "<block>"), "blocks": blocks })
}

/// What DER says: a certificate, a request or a revocation list.
fn encoded(der: &[u8]) -> Option<Value> {
    if let Ok(certificate) = Certificate::from_der(der) {
        let tbs = certificate.tbs_certificate();
        let from = tbs.validity().not_before.to_unix_duration();
        let lasts = (tbs.validity().not_after.to_unix_duration() - from).as_secs();
        return Some(json!({
            "subject": tbs.subject().to_string(),
            "issuer": tbs.issuer().to_string(),
            "minutes": (lasts + 10) / 60,
            "key": tbs.subject_public_key_info().algorithm.oid.to_string(),
            "signature": algorithm(certificate.signature_algorithm()),
            "extensions": extensions(tbs.extensions().map(Vec::as_slice)),
            "serial": tbs.serial_number().as_bytes().len() > 16,
        }));
    }
    if let Ok(list) = CertificateList::<x509_cert::certificate::Rfc5280>::from_der(der) {
        let tbs = list.tbs_cert_list;
        let from = tbs.this_update.to_unix_duration();
        return Some(json!({
            "issuer": tbs.issuer.to_string(),
            "seconds": tbs.next_update.map(|next| (next.to_unix_duration() - from).as_secs()),
            "revoked": tbs.revoked_certificates.map(|revoked| revoked.len()),
            "signature": algorithm(&list.signature_algorithm),
            "extensions": extensions(tbs.crl_extensions.as_deref()),
        }));
    }
    let request = CertReq::from_der(der).ok()?;
    let attributes: Vec<_> =
        request.info.attributes.iter().map(|one| hex::encode(one.to_der().unwrap())).collect();
    Some(json!({
        "subject": request.info.subject.to_string(),
        "key": request.info.public_key.algorithm.oid.to_string(),
        "signature": algorithm(&request.algorithm),
        "attributes": attributes,
    }))
}

/// A private key: its length is not the same each time.
fn about(der: &[u8]) -> Value {
    json!(format!("<about {} bytes>", (der.len() + 32) / 64 * 64))
}

fn algorithm(id: &x509_cert::AlgorithmIdentifier) -> String {
    hex::encode(id.to_der().unwrap())
}

/// Each with its bytes, but for those that are made from a key or a number.
fn extensions(all: Option<&[Extension]>) -> Value {
    let shown = all.unwrap_or_default().iter().map(|one| {
        let oid = one.extn_id.to_string();
        let of_key = ["2.5.29.14", "2.5.29.35"].contains(&oid.as_str());
        let value = one.extn_value.as_bytes();
        let value = match oid.as_str() {
            // How often a list was made is the server's own affair.
            "2.5.29.20" => "<number>".to_owned(),
            _ if of_key => format!("<{} bytes>", value.len()),
            _ => hex::encode(value),
        };
        json!([oid, one.critical, value])
    });
    let mut shown: Vec<Value> = shown.collect();
    shown.sort_by_key(Value::to_string);
    json!(shown)
}

fn ssh_certificate(text: &str) -> Value {
    let Ok(certificate) = ssh_key::Certificate::from_openssh(text.trim()) else {
        return json!("<no certificate>");
    };
    json!({
        "newline": text.ends_with('\n'),
        "key": certificate.algorithm().to_string(),
        "type": format!("{:?}", certificate.cert_type()),
        "id": certificate.key_id(),
        "principals": certificate.valid_principals(),
        "seconds": (certificate.valid_before() - certificate.valid_after()),
        "options": format!("{:?}", certificate.critical_options().iter().collect::<Vec<_>>()),
        "extensions": format!("{:?}", certificate.extensions().iter().collect::<Vec<_>>()),
        "nonce": certificate.nonce().len(),
        "authority": certificate.signature_key().algorithm().to_string(),
        "signature": certificate.signature().algorithm().to_string(),
    })
}
