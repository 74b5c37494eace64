//! Requests that bring credentials into being: database, SSH, PKI, wrapping, leases. Each is sent exactly
//! once, whatever its HTTP method.
//!
//! Sources: Vault API pages "Database", "SSH", "PKI", "/sys/leases", "/sys/wrapping".

use rustify::Endpoint;
use rustify_derive::Endpoint;
use serde::Deserialize;
use serde_json::{Map, Value};

use super::Reads;

/// `GET {mount}/creds/{role}`. A GET that creates a user: it is sent once.
#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/creds/{self.role}", response = "DatabaseCreds")]
pub struct IssueDatabaseCreds {
    /// Mount of the engine.
    #[endpoint(skip)]
    pub mount: String,
    /// Role.
    #[endpoint(skip)]
    pub role: String,
}

/// A database user.
#[derive(Deserialize)]
pub struct DatabaseCreds {
    /// Its name.
    #[serde(default)]
    pub username: String,
    /// Its password.
    #[serde(default)]
    pub password: String,
}

/// `PUT sys/leases/renew`.
#[derive(Endpoint)]
#[endpoint(path = "sys/leases/renew", method = "PUT", response = "Value")]
pub struct RenewLease {
    /// The lease.
    pub lease_id: String,
    /// Seconds from now; the engine's default if left out.
    pub increment: Option<u64>,
}

/// `PUT sys/leases/revoke`.
#[derive(Endpoint)]
#[endpoint(path = "sys/leases/revoke", method = "PUT", response = "Value")]
pub struct RevokeLease {
    /// The lease.
    pub lease_id: String,
    /// Wait until it is done.
    pub sync: bool,
}

/// `POST {mount}/creds/{role}` of the SSH engine: a one-time password.
#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/creds/{self.role}", method = "POST", response = "SshOtp")]
pub struct IssueSshOtp {
    /// Mount of the engine.
    #[endpoint(skip)]
    pub mount: String,
    /// Role.
    #[endpoint(skip)]
    pub role: String,
    /// Host.
    pub ip: String,
    /// User on it.
    pub username: String,
}

/// A one-time password.
#[derive(Deserialize)]
pub struct SshOtp {
    /// The password.
    #[serde(default)]
    pub key: String,
    /// Host it is good for.
    #[serde(default)]
    pub ip: String,
    /// User it is good for.
    #[serde(default)]
    pub username: String,
    /// Port, where the role names one.
    #[serde(default)]
    pub port: u16,
}

/// `POST {mount}/sign/{role}` of the SSH engine.
#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/sign/{self.role}", method = "POST", response = "SignedSshKey")]
pub struct SignSshKey {
    /// Mount of the engine.
    #[endpoint(skip)]
    pub mount: String,
    /// Role.
    #[endpoint(skip)]
    pub role: String,
    /// Key in OpenSSH form, without comment.
    pub public_key: String,
    /// `user` or `host`.
    pub cert_type: &'static str,
    /// Names joined by commas; never empty, which would be good for everybody.
    pub valid_principals: String,
    /// Seconds with their unit.
    pub ttl: Option<String>,
}

/// A certificate.
#[derive(Deserialize)]
pub struct SignedSshKey {
    /// Its number.
    #[serde(default)]
    pub serial_number: String,
    /// The certificate in OpenSSH form.
    #[serde(default)]
    pub signed_key: String,
}

/// `GET {mount}/roles/{role}` of the SSH engine.
#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/roles/{self.role}", response = "SshRole")]
pub struct ReadSshRole {
    /// Mount of the engine.
    #[endpoint(skip)]
    pub mount: String,
    /// Role.
    #[endpoint(skip)]
    pub role: String,
}
impl Reads for ReadSshRole {}

/// The part of a role that matters here.
#[derive(Deserialize)]
pub struct SshRole {
    /// User that certificates are for when none is named.
    #[serde(default)]
    pub default_user: String,
}

/// `LIST {mount}/roles`.
#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/roles", method = "LIST", response = "Value")]
pub struct ListRoles {
    /// Mount of the engine.
    #[endpoint(skip)]
    pub mount: String,
}
impl Reads for ListRoles {}

/// `POST {mount}/issue/{role}` of the PKI engine.
#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/issue/{self.role}", method = "POST", response = "IssuedCertificate")]
pub struct IssueCertificate {
    /// Mount of the engine.
    #[endpoint(skip)]
    pub mount: String,
    /// Role.
    #[endpoint(skip)]
    pub role: String,
    /// Subject.
    pub common_name: String,
    /// Further names, joined by commas.
    pub alt_names: Option<String>,
    /// Further addresses, joined by commas.
    pub ip_sans: Option<String>,
    /// Seconds with their unit.
    pub ttl: Option<String>,
}

/// A certificate and its key.
#[derive(Deserialize)]
pub struct IssuedCertificate {
    /// PEM.
    #[serde(default)]
    pub certificate: String,
    /// PEM.
    #[serde(default)]
    pub issuing_ca: String,
    /// PEM, from the issuer up.
    #[serde(default)]
    pub ca_chain: Vec<String>,
    /// PEM.
    #[serde(default)]
    pub private_key: String,
    /// With colons.
    #[serde(default)]
    pub serial_number: String,
    /// Unix time of its end.
    #[serde(default)]
    pub expiration: i64,
}

/// `POST {mount}/revoke` of the PKI engine.
#[derive(Endpoint)]
#[endpoint(path = "{self.mount}/revoke", method = "POST", response = "RevokedCertificate")]
pub struct RevokeCertificate {
    /// Mount of the engine.
    #[endpoint(skip)]
    pub mount: String,
    /// With colons.
    pub serial_number: String,
}

/// When a certificate was revoked.
#[derive(Deserialize)]
pub struct RevokedCertificate {
    /// Unix time.
    #[serde(default)]
    pub revocation_time: i64,
    /// RFC 3339.
    #[serde(default)]
    pub revocation_time_rfc3339: Option<String>,
}

/// `POST sys/wrapping/wrap`: the body is what is wrapped.
pub struct Wrap(pub Map<String, Value>);

impl Endpoint for Wrap {
    type Response = Value;
    const REQUEST_BODY_TYPE: rustify::enums::RequestType = rustify::enums::RequestType::JSON;
    const RESPONSE_BODY_TYPE: rustify::enums::ResponseType = rustify::enums::ResponseType::JSON;
    fn path(&self) -> String {
        "sys/wrapping/wrap".to_owned()
    }
    fn method(&self) -> rustify::enums::RequestMethod {
        rustify::enums::RequestMethod::POST
    }
    fn body(&self) -> Result<Option<Vec<u8>>, rustify::errors::ClientError> {
        serde_json::to_vec(&self.0)
            .map(Some)
            .map_err(|error| rustify::errors::ClientError::DataParseError { source: error.into() })
    }
}
