//! `issue/{role}`: a key and a certificate for it.

use std::collections::BTreeMap;

use serde_json::json;
use x509_cert::{
    der::flagset::FlagSet,
    ext::pkix::{BasicConstraints, KeyUsages},
};

use super::{
    certificate::{self, By, Signer, Template},
    format::Format,
    issuers::Issuers,
    request::{Outliving, Wanted},
    revocation::Certificates,
    roles::Role,
};
use crate::dev::{
    engine::Call,
    fields::Fields,
    keypair::KeyPair,
    wire::{Answer, Fault, Reply, Secret},
};

pub(super) const FIELDS: &[&str] = &[
    "role",
    "common_name",
    "alt_names",
    "ip_sans",
    "uri_sans",
    "other_sans",
    "user_ids",
    "serial_number",
    "exclude_cn_from_sans",
    "ttl",
    "not_after",
    "format",
    "private_key_format",
    "remove_roots_from_chain",
    "cert_metadata",
    "issuer_ref",
];

pub(super) fn issue(
    call: &Call<'_>,
    name: &str,
    roles: &BTreeMap<String, Role>,
    issuers: &Issuers,
    certificates: &mut Certificates,
) -> Answer {
    let role = roles.get(name).ok_or_else(|| Fault::bad(format!("unknown role: {name}")))?;
    let fields = Fields(call.data);
    let kind = role.key.kind().ok_or_else(|| {
        Fault::bad("role key type \"any\" not allowed for issuing certificates, only signing")
    })?;
    let format = Format::read(&fields)?.ok_or_else(Format::unknown)?;
    let (issuer, signing) = issuers.signing(&role.issuer_ref)?;
    let wanted = Wanted::read(call, role, Some(issuer), Outliving::Refused, None)?;
    let pair = KeyPair::generate(kind)?;
    let template = Template {
        subject: certificate::subject(&wanted.common_name, &role.subject)?,
        names: &wanted.names,
        not_before: wanted.not_before,
        not_after: wanted.not_after,
        key_usage: usages(&role.key_usage),
        extended_usages: role.extended_usages(),
        constraints: role
            .basic_constraints_valid_for_non_ca
            .then_some(BasicConstraints { ca: false, path_len_constraint: None }),
        public_key: certificate::public_key(&pair)?,
    };
    let signer = Signer { pair: signing, hash: role.key.hash() };
    let made = certificate::issue(template, &By::Issuer(signer, &issuer.certificate))?;
    if !role.no_store {
        certificates.keep(&made, &issuer.id)?;
    }

    let own = format.certificate(&made)?;
    let secret = format.private_key(&pair, &fields)?;
    let without_roots = fields.bool("remove_roots_from_chain")?.unwrap_or_default();
    let (mut whole, mut shown) = (Vec::new(), Vec::new());
    for above in issuers.chain(issuer) {
        let text = format.certificate(&above.certificate)?;
        if !(without_roots && above.is_root()) {
            shown.push(text.clone());
        }
        whole.push(text);
    }
    let bundle = [[secret.clone(), own.clone()].as_slice(), &whole].concat().join("\n");
    let serial = certificate::serial_text(made.tbs_certificate().serial_number());
    let mut reply = Reply::data(json!({
        "certificate": if format == Format::PemBundle { bundle } else { own },
        "issuing_ca": whole.first(),
        "private_key": secret,
        "private_key_type": role.key.key_type,
        "serial_number": serial,
        "expiration": wanted.not_after.timestamp(),
    }));
    if let Some(data) = reply.data.as_mut().filter(|_| !shown.is_empty()) {
        data.insert("ca_chain".to_owned(), json!(shown));
    }
    // Vault says them twice.
    reply.warnings = [wanted.warnings.as_slice(), &wanted.warnings].concat();
    if role.generate_lease {
        let ttl = (wanted.not_after - call.now).num_seconds();
        reply.secret = Some(Secret { name: serial, ttl });
    }
    Ok(Some(reply))
}

/// The usages that a role names; others are passed over, as Vault does.
fn usages(names: &[String]) -> FlagSet<KeyUsages> {
    let usage = |name: &String| {
        Some(match name.trim().to_lowercase().as_str() {
            "digitalsignature" => KeyUsages::DigitalSignature,
            "contentcommitment" => KeyUsages::NonRepudiation,
            "keyencipherment" => KeyUsages::KeyEncipherment,
            "dataencipherment" => KeyUsages::DataEncipherment,
            "keyagreement" => KeyUsages::KeyAgreement,
            "certsign" => KeyUsages::KeyCertSign,
            "crlsign" => KeyUsages::CRLSign,
            "encipheronly" => KeyUsages::EncipherOnly,
            "decipheronly" => KeyUsages::DecipherOnly,
            _ => return None,
        })
    };
    names.iter().filter_map(usage).fold(FlagSet::default(), |all, one| all | one)
}
