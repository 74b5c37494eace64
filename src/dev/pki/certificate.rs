//! Certificates, requests for them and revocation lists, as bytes (RFC 5280, RFC 2986). The structures and their
//! encoding are those of `x509-cert`; the signatures are made by [`KeyPair`].

use std::net::IpAddr;

use aws_lc_rs::{digest, signature::UnparsedPublicKey};
use chrono::{DateTime, Utc};
use x509_cert::{
    AlgorithmIdentifier, Certificate, SubjectPublicKeyInfo, Version,
    attr::AttributeTypeAndValue,
    crl::{RevokedCert, TbsCertList},
    der::{
        self, Decode, Encode,
        asn1::{
            Any, AnyRef, BitStringRef, GeneralizedTime, Ia5String, OctetString, PrintableStringRef, SetOfVec,
            Utf8StringRef,
        },
        flagset::FlagSet,
        oid::{
            ObjectIdentifier,
            db::{rfc4519, rfc5912, rfc8410},
        },
    },
    ext::{
        Extension, Extensions, ToExtension,
        pkix::{
            AuthorityKeyIdentifier, BasicConstraints, CrlNumber, ExtendedKeyUsage, KeyUsage, KeyUsages,
            SubjectAltName, SubjectKeyIdentifier, name::GeneralName,
        },
    },
    name::{Name, RdnSequence, RelativeDistinguishedName},
    request::{self, CertReq, CertReqInfo, ExtensionReq},
    serial_number::SerialNumber,
    time::{Time, Validity},
};

use super::roles::Subject;
use crate::dev::{
    keypair::{Curve, Hash, KeyPair, Scheme},
    pem, random,
    wire::Fault,
};

/// A key pair and, for RSA, the hash that it signs with.
#[derive(Clone, Copy)]
pub(super) struct Signer<'a> {
    pub(super) pair: &'a KeyPair,
    pub(super) hash: Hash,
}

/// What a certificate is for, beside its subject.
#[derive(Default)]
pub(super) struct Names {
    pub(super) dns: Vec<String>,
    pub(super) email: Vec<String>,
    pub(super) ip: Vec<IpAddr>,
}

impl Names {
    /// In order, each once.
    pub(super) fn sort(&mut self) {
        for list in [&mut self.dns, &mut self.email] {
            list.sort_unstable();
            list.dedup();
        }
    }

    fn extension(&self, subject: &Name) -> der::Result<Option<Extension>> {
        let mut names = Vec::new();
        for name in &self.dns {
            names.push(GeneralName::DnsName(Ia5String::new(name)?));
        }
        for name in &self.email {
            names.push(GeneralName::Rfc822Name(Ia5String::new(name)?));
        }
        for address in &self.ip {
            names.push(GeneralName::from(*address));
        }
        if names.is_empty() {
            return Ok(None);
        }
        (subject.is_empty(), &SubjectAltName(names)).to_extension(subject, &[]).map(Some)
    }
}

/// What is to be certified.
pub(super) struct Template<'a> {
    pub(super) subject: Name,
    pub(super) names: &'a Names,
    pub(super) not_before: DateTime<Utc>,
    pub(super) not_after: DateTime<Utc>,
    pub(super) key_usage: FlagSet<KeyUsages>,
    pub(super) extended_usages: Vec<ObjectIdentifier>,
    pub(super) constraints: Option<BasicConstraints>,
    pub(super) public_key: SubjectPublicKeyInfo,
}

/// Who signs a certificate: its own subject, or an issuer's certificate.
pub(super) enum By<'a> {
    Itself(Signer<'a>),
    Issuer(Signer<'a>, &'a Certificate),
}

/// RFC 5280, 4.1. `x509-cert` has the same, but only its own builder can fill it.
#[derive(::der::Sequence)]
struct Tbs {
    #[asn1(context_specific = "0", tag_mode = "EXPLICIT")]
    version: Version,
    serial_number: SerialNumber,
    signature: AlgorithmIdentifier,
    issuer: Name,
    validity: Validity,
    subject: Name,
    public_key: SubjectPublicKeyInfo,
    #[asn1(context_specific = "3", tag_mode = "EXPLICIT")]
    extensions: Extensions,
}

/// What certificates, requests and lists have in common: the content, and a signature over it.
#[derive(::der::Sequence)]
struct Signed<'a> {
    content: AnyRef<'a>,
    algorithm: AlgorithmIdentifier,
    signature: BitStringRef<'a>,
}

pub(super) fn broken(_: der::Error) -> Fault {
    Fault::bad("the embedded dev Vault could not write the certificate")
}

/// Makes a certificate. The result is read back, so that what is handed out is a certificate.
pub(super) fn issue(template: Template<'_>, by: &By<'_>) -> Result<Certificate, Fault> {
    let signer = match by {
        By::Itself(signer) | By::Issuer(signer, _) => *signer,
    };
    let tbs = Tbs::new(template, by, signer).map_err(broken)?;
    let der = sign(&tbs.to_der().map_err(broken)?, signer)?;
    Certificate::from_der(&der).map_err(broken)
}

impl Tbs {
    fn new(template: Template<'_>, by: &By<'_>, signer: Signer<'_>) -> der::Result<Self> {
        let Template { subject, names, key_usage, constraints, public_key, .. } = template;
        let own_id = key_identifier(&public_key);
        let (issuer, authority_id) = match by {
            By::Itself(_) => (subject.clone(), own_id.clone()),
            By::Issuer(_, certificate) => {
                (certificate.tbs_certificate().subject().clone(), identifier_of(certificate))
            }
        };
        let mut extensions = Extensions::new();
        let mut add =
            |extension: der::Result<Extension>| extension.map(|extension| extensions.push(extension));
        if !key_usage.is_empty() {
            add((true, &KeyUsage(key_usage)).to_extension(&subject, &[]))?;
        }
        if !template.extended_usages.is_empty() {
            add((false, &ExtendedKeyUsage(template.extended_usages)).to_extension(&subject, &[]))?;
        }
        if let Some(constraints) = constraints {
            add((true, &constraints).to_extension(&subject, &[]))?;
        }
        let own_id = SubjectKeyIdentifier(OctetString::new(own_id)?);
        add((false, &own_id).to_extension(&subject, &[]))?;
        let authority_id = AuthorityKeyIdentifier {
            key_identifier: Some(OctetString::new(authority_id)?),
            ..AuthorityKeyIdentifier::default()
        };
        add((false, &authority_id).to_extension(&subject, &[]))?;
        if let Some(names) = names.extension(&subject)? {
            extensions.push(names);
        }
        Ok(Self {
            version: Version::V3,
            serial_number: new_serial()?,
            signature: algorithm(signer),
            issuer,
            validity: Validity::new(at(template.not_before)?, at(template.not_after)?),
            subject,
            public_key,
            extensions,
        })
    }
}

/// Twenty random bytes, positive as a number and never shorter.
fn new_serial() -> der::Result<SerialNumber> {
    let mut bytes = random::bytes::<20>();
    if let Some(first) = bytes.first_mut() {
        *first = *first & 0x7f | 0x40;
    }
    SerialNumber::new(&bytes)
}

/// A serial number as Vault writes it: `1a:2b:3c`.
pub(super) fn serial_text(serial: &SerialNumber) -> String {
    let bytes = serial.as_bytes();
    let bytes = if bytes.len() > 1 { bytes.strip_prefix(&[0]).unwrap_or(bytes) } else { bytes };
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

/// SHA-1 of the key's bits (RFC 5280, 4.2.1.2).
pub(super) fn key_identifier(key: &SubjectPublicKeyInfo) -> Vec<u8> {
    let bits = key.subject_public_key.raw_bytes();
    digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, bits).as_ref().to_vec()
}

/// The identifier of an issuer's key: what its certificate says, which is not always ours.
fn identifier_of(issuer: &Certificate) -> Vec<u8> {
    let tbs = issuer.tbs_certificate();
    match tbs.get_extension::<SubjectKeyIdentifier>() {
        Ok(Some((_, identifier))) => identifier.0.as_bytes().to_vec(),
        _ => key_identifier(tbs.subject_public_key_info()),
    }
}

/// Whether a certificate is its issuer's: the names meet and the signature is good.
pub(super) fn is_issued_by(certificate: &Certificate, issuer: &Certificate) -> bool {
    let (tbs, above) = (certificate.tbs_certificate(), issuer.tbs_certificate());
    tbs.issuer() == above.subject()
        && tbs.to_der().is_ok_and(|content| {
            let signature = certificate.signature().raw_bytes();
            let by = certificate.signature_algorithm().oid;
            is_signed(above.subject_public_key_info(), by, &content, signature)
        })
}

/// The basic constraints of a certificate that may issue others.
pub(super) fn authority_constraints(certificate: &Certificate) -> Option<BasicConstraints> {
    let found = certificate.tbs_certificate().get_extension::<BasicConstraints>();
    found.ok().flatten().map(|(_, constraints)| constraints).filter(|constraints| constraints.ca)
}

/// A moment, in the form that its year wants.
fn at(time: DateTime<Utc>) -> der::Result<Time> {
    let seconds = u64::try_from(time.timestamp()).map_err(|_| der::ErrorKind::DateTime)?;
    let time = GeneralizedTime::from_unix_duration(std::time::Duration::from_secs(seconds))?;
    Ok(Time::from(time.to_date_time()))
}

pub(super) fn moment(time: Time) -> DateTime<Utc> {
    let seconds = i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    DateTime::from_timestamp(seconds, 0).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

fn algorithm(signer: Signer<'_>) -> AlgorithmIdentifier {
    let (oid, has_null) = match signer.pair.scheme(signer.hash) {
        Scheme::Ed25519 => (rfc8410::ID_ED_25519, false),
        Scheme::Ecdsa(Curve::P256) => (rfc5912::ECDSA_WITH_SHA_256, false),
        Scheme::Ecdsa(Curve::P384) => (rfc5912::ECDSA_WITH_SHA_384, false),
        Scheme::Ecdsa(Curve::P521) => (rfc5912::ECDSA_WITH_SHA_512, false),
        Scheme::Rsa(Hash::Sha256) => (rfc5912::SHA_256_WITH_RSA_ENCRYPTION, true),
        Scheme::Rsa(Hash::Sha384) => (rfc5912::SHA_384_WITH_RSA_ENCRYPTION, true),
        Scheme::Rsa(Hash::Sha512) => (rfc5912::SHA_512_WITH_RSA_ENCRYPTION, true),
    };
    AlgorithmIdentifier { oid, parameters: has_null.then(Any::null) }
}

/// Whether a signature over a message is that of a public key. The pairs of hash and curve are those that
/// [`algorithm`] writes.
fn is_signed(key: &SubjectPublicKeyInfo, by: ObjectIdentifier, message: &[u8], signature: &[u8]) -> bool {
    let scheme = match by {
        rfc8410::ID_ED_25519 => Scheme::Ed25519,
        rfc5912::ECDSA_WITH_SHA_256 => Scheme::Ecdsa(Curve::P256),
        rfc5912::ECDSA_WITH_SHA_384 => Scheme::Ecdsa(Curve::P384),
        rfc5912::ECDSA_WITH_SHA_512 => Scheme::Ecdsa(Curve::P521),
        rfc5912::SHA_256_WITH_RSA_ENCRYPTION => Scheme::Rsa(Hash::Sha256),
        rfc5912::SHA_384_WITH_RSA_ENCRYPTION => Scheme::Rsa(Hash::Sha384),
        rfc5912::SHA_512_WITH_RSA_ENCRYPTION => Scheme::Rsa(Hash::Sha512),
        _ => return false,
    };
    let key = UnparsedPublicKey::new(scheme.verifying(), key.subject_public_key.raw_bytes());
    key.verify(message, signature).is_ok()
}

fn sign(content: &[u8], signer: Signer<'_>) -> Result<Vec<u8>, Fault> {
    let signature = signer.pair.sign(content, signer.hash)?;
    let signed = Signed {
        content: AnyRef::from_der(content).map_err(broken)?,
        algorithm: algorithm(signer),
        signature: BitStringRef::from_bytes(&signature).map_err(broken)?,
    };
    signed.to_der().map_err(broken)
}

/// The public half of a pair as a certificate has it.
pub(super) fn public_key(pair: &KeyPair) -> Result<SubjectPublicKeyInfo, Fault> {
    SubjectPublicKeyInfo::from_der(&pair.public_der()?).map_err(broken)
}

/// A subject, its parts in Vault's order.
pub(super) fn subject(common_name: &str, fields: &Subject) -> Result<Name, Fault> {
    let mut sequence = RdnSequence::default();
    let common_name = [common_name.to_owned()];
    for (oid, values) in [
        (rfc4519::COUNTRY_NAME, fields.country.as_slice()),
        (rfc4519::ST, &fields.province),
        (rfc4519::LOCALITY_NAME, &fields.locality),
        (rfc4519::STREET, &fields.street_address),
        (rfc4519::POSTAL_CODE, &fields.postal_code),
        (rfc4519::ORGANIZATION_NAME, &fields.organization),
        (rfc4519::ORGANIZATIONAL_UNIT_NAME, &fields.ou),
        (rfc4519::COMMON_NAME, &common_name),
    ] {
        let mut set = SetOfVec::new();
        for value in values.iter().filter(|value| !value.is_empty()) {
            let value = attribute(oid, value).map_err(broken)?;
            if !set.as_slice().contains(&value) {
                set.insert(value).map_err(broken)?;
            }
        }
        if !set.is_empty() {
            sequence.push(RelativeDistinguishedName::from(set));
        }
    }
    Name::from_der(&sequence.to_der().map_err(broken)?).map_err(broken)
}

fn attribute(oid: ObjectIdentifier, value: &str) -> der::Result<AttributeTypeAndValue> {
    let value = match PrintableStringRef::new(value) {
        Ok(text) => Any::encode_from(&text)?,
        Err(_) => Any::encode_from(&Utf8StringRef::new(value)?)?,
    };
    Ok(AttributeTypeAndValue { oid, value })
}

/// A request for a certificate (RFC 2986), signed with its own key.
pub(super) fn request(subject: Name, names: &Names, signer: Signer<'_>) -> Result<Vec<u8>, Fault> {
    let info = CertReqInfo {
        version: request::Version::V1,
        public_key: public_key(signer.pair)?,
        attributes: match names.extension(&subject).map_err(broken)? {
            Some(names) => {
                let wanted = ExtensionReq(vec![names]).try_into().map_err(broken)?;
                SetOfVec::try_from(vec![wanted]).map_err(broken)?
            }
            None => SetOfVec::new(),
        },
        subject,
    };
    sign(&info.to_der().map_err(broken)?, signer)
}

/// A request of a caller's, whose signature is its own key's.
pub(super) fn read_request(text: &str) -> Result<CertReq, Fault> {
    let Some((_, der, _)) = pem::next(text) else { return Err(Fault::bad("csr contains no data")) };
    let request = CertReq::from_der(&der)
        .map_err(|_| Fault::bad("certificate request could not be parsed: x509: malformed request"))?;
    let content = request.info.to_der().map_err(broken)?;
    let signature = request.signature.raw_bytes();
    if is_signed(&request.info.public_key, request.algorithm.oid, &content, signature) {
        Ok(request)
    } else {
        Err(Fault::bad("request signature invalid"))
    }
}

/// The common name of a subject, where it is text.
pub(super) fn common_name(name: &Name) -> String {
    let found = name.iter().find(|attribute| attribute.oid == rfc4519::COMMON_NAME);
    found.and_then(|found| std::str::from_utf8(found.value.value()).ok()).unwrap_or_default().to_owned()
}

/// A list of what an issuer has taken back (RFC 5280, 5), good for three days as Vault's is.
pub(super) fn revocation_list(
    revoked: &[(SerialNumber, DateTime<Utc>)],
    number: u64,
    now: DateTime<Utc>,
    signer: Signer<'_>,
    issuer: &Certificate,
) -> Result<Vec<u8>, Fault> {
    let tbs = issuer.tbs_certificate();
    let make = || {
        let entry = |(serial, time): &(SerialNumber, DateTime<Utc>)| {
            Ok(RevokedCert {
                serial_number: serial.clone(),
                revocation_date: at(*time)?,
                crl_entry_extensions: None,
            })
        };
        let entries = revoked.iter().map(entry).collect::<der::Result<Vec<_>>>()?;
        let authority_id = AuthorityKeyIdentifier {
            key_identifier: Some(OctetString::new(identifier_of(issuer))?),
            ..AuthorityKeyIdentifier::default()
        };
        let number = CrlNumber(der::asn1::Uint::new(&number.to_be_bytes())?);
        let list: TbsCertList = TbsCertList {
            version: Version::V2,
            signature: algorithm(signer),
            issuer: tbs.subject().clone(),
            this_update: at(now)?,
            next_update: Some(at(now + chrono::TimeDelta::hours(72))?),
            revoked_certificates: (!entries.is_empty()).then_some(entries),
            crl_extensions: Some(vec![
                (false, &authority_id).to_extension(tbs.subject(), &[])?,
                (false, &number).to_extension(tbs.subject(), &[])?,
            ]),
        };
        list.to_der()
    };
    sign(&make().map_err(broken)?, signer)
}
