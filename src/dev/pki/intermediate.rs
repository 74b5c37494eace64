//! `root/sign-intermediate`: another mount's request becomes an authority below this one.

use serde_json::json;
use x509_cert::ext::pkix::BasicConstraints;

use super::{
    certificate::{self, By, Signer, Template},
    format::Format,
    generate::{NO_SUBJECT, NO_URLS, authority_usage, constrained_names, path_length, unfit_usages},
    issuers::Issuers,
    not_here,
    request::{Outliving, Wanted},
    revocation::Certificates,
    roles::{KeyChoice, Role},
};
use crate::dev::{
    engine::Call,
    fields::Fields,
    wire::{Answer, Fault, Reply},
};

pub(super) const FIELDS: &[&str] = &[
    "csr",
    "common_name",
    "alt_names",
    "ip_sans",
    "uri_sans",
    "other_sans",
    "serial_number",
    "exclude_cn_from_sans",
    "ttl",
    "not_after",
    "not_before_duration",
    "format",
    "private_key_format",
    "issuer_ref",
    "key_usage",
    "signature_bits",
    "use_pss",
    "use_csr_values",
    "max_path_length",
    "enforce_leaf_not_after_behavior",
    "skid",
    "permitted_dns_domains",
    "excluded_dns_domains",
    "permitted_ip_ranges",
    "excluded_ip_ranges",
    "permitted_email_addresses",
    "excluded_email_addresses",
    "permitted_uri_domains",
    "excluded_uri_domains",
    "ou",
    "organization",
    "country",
    "locality",
    "province",
    "street_address",
    "postal_code",
];

impl Issuers {
    /// Signs the request of an intermediate authority.
    pub(super) fn sign_intermediate(&self, call: &Call<'_>, certificates: &mut Certificates) -> Answer {
        let fields = Fields(call.data);
        let format = Format::read(&fields)?.ok_or_else(|| {
            Fault::bad("The \"format\" path parameter must be \"pem\", \"der\" or \"pem_bundle\"")
        })?;
        constrained_names(&fields)?;
        for (name, what) in [("use_pss", "RSA-PSS signatures"), ("use_csr_values", "use_csr_values")] {
            if fields.bool(name)?.unwrap_or_default() {
                return Err(not_here(what));
            }
        }
        let role = Role::for_authority(&fields, KeyChoice::default())?;
        let reference = fields.text("issuer_ref")?.unwrap_or_else(|| "default".to_owned());
        if reference.trim().is_empty() {
            return Err(Fault::bad("missing issuer reference"));
        }
        let (issuer, pair) = self.signing(&reference)?;
        let text = fields.text_or_empty("csr")?;
        if text.is_empty() {
            return Err(Fault::bad("\"csr\" is empty"));
        }
        let request = certificate::read_request(&text)?;
        let strict = fields.bool("enforce_leaf_not_after_behavior")?.unwrap_or_default();
        let outliving = if strict { Outliving::Refused } else { Outliving::Cut };
        let from_request = fields
            .text_or_empty("common_name")?
            .is_empty()
            .then(|| certificate::common_name(&request.info.subject));
        let wanted = Wanted::read(call, &role, Some(issuer), outliving, from_request.as_deref())?;
        let above = certificate::authority_constraints(&issuer.certificate);
        let above = above.and_then(|constraints| constraints.path_len_constraint);
        if above == Some(0) {
            return Err(Fault::bad(
                "signing certificate has a max path length of zero, and cannot issue further CA certificates",
            ));
        }
        let length = path_length(&fields)?.or(above.map(|length| length - 1));
        let template = Template {
            subject: certificate::subject(&wanted.common_name, &role.subject)?,
            names: &wanted.names,
            not_before: wanted.not_before,
            not_after: wanted.not_after,
            key_usage: authority_usage(&role.key_usage),
            extended_usages: Vec::new(),
            constraints: Some(BasicConstraints { ca: true, path_len_constraint: length }),
            public_key: request.info.public_key,
        };
        let signer = Signer { pair, hash: role.key.hash() };
        let made = certificate::issue(template, &By::Issuer(signer, &issuer.certificate))?;
        certificates.keep(&made, &issuer.id)?;

        let mut chain = vec![format.certificate(&made)?];
        for above in self.chain(issuer) {
            chain.push(format.certificate(&above.certificate)?);
        }
        let own = match format {
            Format::PemBundle => Some(chain.join("\n")),
            Format::Pem | Format::Der => chain.first().cloned(),
        };
        let tbs = made.tbs_certificate();
        let mut reply = Reply::data(json!({
            "expiration": wanted.not_after.timestamp(),
            "serial_number": certificate::serial_text(tbs.serial_number()),
            "certificate": own,
            "issuing_ca": chain.get(1),
            "ca_chain": chain,
        }));
        if tbs.subject().is_empty() {
            reply.warnings.push(NO_SUBJECT.to_owned());
        }
        reply.warnings.push(NO_URLS.to_owned());
        if length == Some(0) {
            reply.warnings.push(
                "Max path length of the signed certificate is zero. This certificate cannot be used to issue \
                 intermediate CA certificates."
                    .to_owned(),
            );
        }
        reply.warnings.extend(wanted.warnings);
        if !strict && wanted.not_after == issuer.not_after() {
            reply.warnings.push(
                "the signed intermediary CA certificate's notAfter was truncated to the issuer's notAfter"
                    .to_owned(),
            );
        }
        if let Some(unfit) = unfit_usages(&role.key_usage) {
            reply.warnings.push(format!("Invalid key usage: {unfit}"));
        }
        Ok(Some(reply))
    }
}
