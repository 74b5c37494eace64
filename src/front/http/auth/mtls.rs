//! Callers by client certificate: one that our own TLS verified, or one that a trusted proxy verified and names in
//! two headers. Which attribute of its subject names the caller is `MTLS_SUBJECT_CN_PREFIX`.
//!
//! A header is worth what the peer that sends it is worth. From any other peer than the trusted proxies identity
//! headers are refused and not ignored: whoever sends them tries something, or a proxy is missing in the settings,
//! and both should show. What this module does not do: verify a certificate (`tls` does), or ask whether one was
//! revoked.

use http::{HeaderMap, HeaderName};
use ipnet::IpNet;
use x509_cert::{
    Certificate,
    der::{
        Decode,
        asn1::{ObjectIdentifier, PrintableStringRef, Utf8StringRef},
    },
};

use super::{Identity, Method, Peer, Refusal, dn, only};
use crate::{caller::Scope, config::Config, error::Error, names::Subject};

/// What a proxy says of a good certificate.
const GOOD: &str = "SUCCESS";
/// What it says where the client has none (nginx, with `ssl_verify_client optional`).
const NO_CERTIFICATE: &str = "NONE";

/// An attribute of a certificate's subject that may name a caller.
struct Kind {
    names: [&'static str; 2],
    oid: ObjectIdentifier,
    dotted: &'static str,
}

const KINDS: &[Kind] = &[
    Kind { names: ["CN", "commonName"], oid: ObjectIdentifier::new_unwrap("2.5.4.3"), dotted: "2.5.4.3" },
    Kind {
        names: ["UID", "userId"],
        oid: ObjectIdentifier::new_unwrap("0.9.2342.19200300.100.1.1"),
        dotted: "0.9.2342.19200300.100.1.1",
    },
    Kind {
        names: ["OU", "organizationalUnitName"],
        oid: ObjectIdentifier::new_unwrap("2.5.4.11"),
        dotted: "2.5.4.11",
    },
    Kind { names: ["serialNumber", "SN"], oid: ObjectIdentifier::new_unwrap("2.5.4.5"), dotted: "2.5.4.5" },
];

impl Kind {
    /// True when a text of a distinguished name means this attribute, by name or by number.
    fn is(&self, text: &str) -> bool {
        let number = text.get(..4).filter(|start| start.eq_ignore_ascii_case("oid."));
        let text = number.and_then(|_| text.get(4..)).unwrap_or(text);
        text == self.dotted || self.names.iter().any(|name| name.eq_ignore_ascii_case(text))
    }
}

/// Which attribute names the caller, and what its value begins with besides the name.
struct Naming {
    kind: &'static Kind,
    prefix: String,
}

impl Naming {
    fn parse(text: &str) -> Result<Self, Error> {
        let expected = || {
            Error::config(
                "MTLS_SUBJECT_CN_PREFIX",
                "expected CN=, UID=, OU= or serialNumber=, and after it what the value begins with besides the caller's name.",
            )
        };
        let (kind, prefix) = text.split_once('=').ok_or_else(expected)?;
        // `SN` is a surname to some.
        let kind = KINDS.iter().find(|known| kind != "SN" && known.is(kind)).ok_or_else(expected)?;
        Ok(Self { kind, prefix: prefix.to_owned() })
    }

    /// The caller that one value names: the one there is.
    fn subject(&self, values: impl Iterator<Item = Option<String>>) -> Result<Subject, &'static str> {
        let mut values = values;
        let value = values.next().ok_or("a certificate that names nobody")?;
        if values.next().is_some() {
            return Err("a certificate that names two");
        }
        let value = value.ok_or("a certificate whose name is no text")?;
        let name = value.strip_prefix(&self.prefix).ok_or("a certificate of another kind of name")?;
        Subject::parse(name).map_err(|_| "a certificate whose name is no subject of ours")
    }
}

/// The certificates that are accepted.
pub(super) struct Mtls {
    naming: Naming,
    proxies: Option<Proxies>,
}

struct Proxies {
    networks: Vec<IpNet>,
    identity: HeaderName,
    verify: HeaderName,
}

impl Mtls {
    pub(super) fn new(config: &Config) -> Result<Self, Error> {
        let header = |setting, name: &str| {
            HeaderName::try_from(name).map_err(|_| Error::config(setting, "it is no name of a header."))
        };
        let naming = Naming::parse(&config.mtls_subject_cn_prefix)?;
        if !*config.auth_mtls_enabled {
            return Ok(Self { naming, proxies: None });
        }
        let identity = header("MTLS_IDENTITY_HEADER", &config.mtls_identity_header)?;
        let verify = header("MTLS_VERIFY_HEADER", &config.mtls_verify_header)?;
        if identity == verify {
            return Err(Error::config(
                "MTLS_VERIFY_HEADER",
                "it is MTLS_IDENTITY_HEADER as well. Have the proxy use two headers.",
            ));
        }
        if config.mtls_trusted_proxies.is_empty() {
            return Err(Error::config(
                "MTLS_TRUSTED_PROXIES",
                "AUTH_MTLS_ENABLED=true, and no proxy is trusted. Name the proxy's address.",
            ));
        }
        let networks = config.mtls_trusted_proxies.clone();
        Ok(Self { naming, proxies: Some(Proxies { networks, identity, verify }) })
    }

    /// Whom a certificate names that our own TLS verified.
    pub(super) fn by_certificate(&self, peer: &Peer) -> Result<Option<Identity>, Refusal> {
        let Some(der) = &peer.certificate else { return Ok(None) };
        let subject = self.read(der);
        let subject = subject.map_err(|fault| Refusal::Invalid { method: Method::Certificate, fault })?;
        Ok(Some(identity(subject, Method::Certificate)))
    }

    fn read(&self, der: &[u8]) -> Result<Subject, &'static str> {
        let certificate = Certificate::from_der(der).map_err(|_| "an unreadable certificate")?;
        let name = certificate.tbs_certificate().subject();
        let of_kind = name.iter().filter(|attribute| attribute.oid == self.naming.kind.oid);
        self.naming.subject(of_kind.map(|attribute| {
            let value = &attribute.value;
            let utf8 = || value.decode_as::<Utf8StringRef<'_>>().map(|text| text.as_str().to_owned());
            let printable =
                || value.decode_as::<PrintableStringRef<'_>>().map(|text| text.as_str().to_owned());
            utf8().or_else(|_| printable()).ok()
        }))
    }

    /// Whom a trusted proxy names.
    pub(super) fn by_headers(&self, headers: &HeaderMap, peer: &Peer) -> Result<Option<Identity>, Refusal> {
        let Some(proxies) = &self.proxies else { return Ok(None) };
        let invalid = |fault| Refusal::Invalid { method: Method::Mtls, fault };
        let identity_header = only(headers, &proxies.identity);
        let verify_header = only(headers, &proxies.verify);
        if matches!((&identity_header, &verify_header), (Ok(None), Ok(None))) {
            return Ok(None);
        }
        // An IPv4 peer of a socket for both kinds has an address of the other kind.
        let address = peer.address.to_canonical();
        if !proxies.networks.iter().any(|network| network.contains(&address)) {
            return Err(invalid("identity headers from a peer that is no trusted proxy"));
        }
        let (Ok(name), Ok(verified)) = (identity_header, verify_header) else {
            return Err(invalid("an identity header that stands there twice"));
        };
        match (name, verified.map(|verified| verified.as_bytes())) {
            (None, Some(verified)) if verified == NO_CERTIFICATE.as_bytes() => Ok(None),
            (Some(name), Some(verified)) if verified == GOOD.as_bytes() => {
                let name = name.to_str().map_err(|_| invalid("an identity header that is no text"))?;
                let attributes =
                    dn::parse(name).map_err(|_| invalid("an identity header that is no name"))?;
                let of_kind = attributes.into_iter().filter(|attribute| self.naming.kind.is(&attribute.kind));
                let subject = self.naming.subject(of_kind.map(|attribute| attribute.value));
                Ok(Some(identity(subject.map_err(invalid)?, Method::Mtls)))
            }
            (Some(_), None) => Err(invalid("an identity header without one that says it was verified")),
            (None, _) => Err(invalid("a certificate that was verified and names nobody")),
            (Some(_), Some(_)) => Err(invalid("a certificate that the proxy did not find good")),
        }
    }
}

/// A certificate says nothing of scopes: who has one may do what the subject may.
fn identity(subject: Subject, method: Method) -> Identity {
    Identity { subject, scopes: Scope::ALL.to_vec(), method }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;
    use crate::config::Layers;

    fn mtls(settings: &[(&str, &str)]) -> Result<Mtls, Error> {
        let environment = [("AUTH_MTLS_ENABLED", "true")].iter().chain(settings);
        let environment =
            environment.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Mtls::new(&Config::load(&Layers { environment, ..Layers::default() }).unwrap())
    }

    fn peer(address: &str) -> Peer {
        Peer { address: address.parse().unwrap(), ..Peer::default() }
    }

    fn subject(mtls: &Mtls, name: &str) -> Result<String, Refusal> {
        let mut headers = HeaderMap::new();
        headers.insert("x-ssl-client-s-dn", HeaderValue::from_str(name).unwrap());
        headers.insert("x-ssl-client-verify", HeaderValue::from_static("SUCCESS"));
        let found = mtls.by_headers(&headers, &peer("127.0.0.1"))?;
        Ok(found.unwrap().subject.to_string())
    }

    #[test]
    fn the_attribute_of_the_settings_names_the_caller_by_whatever_name_it_goes() {
        let common = mtls(&[]).unwrap();
        for name in ["CN=alice", "cn=alice", "commonName=alice", "2.5.4.3=alice", "OID.2.5.4.3=alice"] {
            assert_eq!(subject(&common, name).unwrap(), "alice", "{name}");
            assert!(subject(&common, &format!("{name},CN=admin")).is_err(), "{name} and another");
        }
        for name in ["CN=#0c05616c696365", "UID=alice", "CN=Alice", "CN=alice\\20", "CN="] {
            assert!(subject(&common, name).is_err(), "{name}");
        }
        let prefixed = mtls(&[("MTLS_SUBJECT_CN_PREFIX", "CN=agent-")]).unwrap();
        assert_eq!(subject(&prefixed, "O=x,CN=agent-alice").unwrap(), "alice");
        assert!(subject(&prefixed, "CN=alice").is_err());
        let user = mtls(&[("MTLS_SUBJECT_CN_PREFIX", "UID=")]).unwrap();
        assert_eq!(subject(&user, "CN=Alice A.,UID=alice").unwrap(), "alice");
    }

    #[test]
    fn settings_that_trust_nobody_or_name_nothing_are_refused() {
        for (name, value) in [
            ("MTLS_SUBJECT_CN_PREFIX", "CN"),
            ("MTLS_SUBJECT_CN_PREFIX", "emailAddress="),
            ("MTLS_SUBJECT_CN_PREFIX", "SN="),
            ("MTLS_IDENTITY_HEADER", "a header"),
            ("MTLS_IDENTITY_HEADER", "X-SSL-Client-Verify"),
            ("MTLS_TRUSTED_PROXIES", ","),
        ] {
            assert_eq!(
                mtls(&[(name, value)]).err().map(|error| error.code()),
                Some("config_invalid"),
                "{name}={value}"
            );
        }
    }

    #[test]
    fn a_proxy_is_known_by_its_address_in_either_form() {
        let mtls = mtls(&[("MTLS_TRUSTED_PROXIES", "10.0.0.0/8, fd00::1")]).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("x-ssl-client-s-dn", HeaderValue::from_static("CN=alice"));
        headers.insert("x-ssl-client-verify", HeaderValue::from_static("SUCCESS"));
        for (address, trusted) in [
            ("10.1.2.3", true),
            ("::ffff:10.1.2.3", true),
            ("fd00::1", true),
            ("127.0.0.1", false),
            ("fd00::2", false),
        ] {
            assert_eq!(mtls.by_headers(&headers, &peer(address)).is_ok(), trusted, "{address}");
        }
    }
}
