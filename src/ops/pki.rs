//! X.509 certificates: the chain is shown, the private key is masked or goes to a file.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use serde_json::Value;
use zeroize::Zeroizing;

use super::{database::role_missing, ssh::Ttl};
use crate::{
    broker::{Granted, Look, Place},
    caller::Scope,
    error::Error,
    handover::{FileName, NewFile},
    names::{EngineName, shown},
    op::{Effect, Files, Need, Operation, Preview, Spec, Target, Toolset},
    secret::DisclosedValue,
    vault::issue::{IssueCertificate, ListRoles, RevokeCertificate},
};

/// `pki.roles`.
pub struct Roles;

/// No arguments.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Answer of `pki.roles`.
#[derive(Serialize, JsonSchema)]
pub struct RolesOutput {
    /// Names of the roles.
    roles: Vec<String>,
}

impl Operation for Roles {
    const SPEC: Spec = Spec {
        id: "pki.roles",
        title: "List certificate roles",
        summary: "List the roles that certificates can be issued from. Use it before pki_issue.",
        scope: Some(Scope::List),
        effect: Effect::Read,
        toolset: Toolset::Pki,
        idempotent: true,
    };
    type Input = Nothing;
    type Output = RolesOutput;

    fn target(_: &Self::Input, place: &Place) -> Result<Target, Error> {
        let path = format!("{}/roles", place.engines().pki);
        Ok(Target::at(path, &["list"]))
    }

    async fn run(_: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let request = ListRoles { mount: granted.place().engines().pki.as_str().to_owned() };
        let raw = granted.session().read_raw(&request).await?;
        let path = rustify::Endpoint::path(&request);
        let answer = match granted.session().parse::<Value>(raw, &path, "\"list\"").await {
            Err(Error::NotFound) => return Ok(RolesOutput { roles: Vec::new() }),
            other => other?.data.unwrap_or_default(),
        };
        let names = answer.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
        Ok(RolesOutput {
            roles: names.iter().filter_map(Value::as_str).map(|name| shown(name, 128)).collect(),
        })
    }
}

/// A DNS name, an address of mail or another subject: visible text without a comma.
struct SubjectName(String);

impl<'de> Deserialize<'de> for SubjectName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let fits = (1..=253).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._@:*-".contains(&byte));
        if fits {
            Ok(Self(text))
        } else {
            Err(D::Error::custom("give one name of letters, digits, '.', '_', '-', '@', '*'"))
        }
    }
}

impl JsonSchema for SubjectName {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "SubjectName".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "maxLength": 253 })
    }
}

/// `pki.issue`.
pub struct Issue;

/// Arguments of `pki.issue`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssueInput {
    /// Role of the PKI engine.
    role: EngineName,
    /// Name of the certificate, such as app.example.com.
    common_name: SubjectName,
    /// Further names.
    #[schemars(length(max = 50))]
    alt_names: Option<Vec<SubjectName>>,
    /// IP addresses.
    #[schemars(length(max = 50))]
    ip_sans: Option<Vec<std::net::IpAddr>>,
    /// Time it is good for, such as 72h; the role's default if left out.
    ttl: Option<Ttl>,
    /// true asks the human to let you see the private key.
    #[serde(default)]
    reveal: bool,
    /// New file (0600) that takes private key, certificate and chain as PEM.
    to: Option<FileName>,
}

/// Answer of `pki.issue`.
#[derive(Serialize, JsonSchema)]
pub struct IssueOutput {
    /// Certificate as PEM.
    certificate: String,
    /// Issuers as PEM, from the nearest up.
    ca_chain: Vec<String>,
    /// Private key as PEM, or a mask.
    private_key: DisclosedValue,
    /// File that has key, certificate and chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Serial number, for pki_revoke.
    serial_number: String,
    /// Unix time of its end.
    expiration: i64,
}

impl Operation for Issue {
    const SPEC: Spec = Spec {
        id: "pki.issue",
        title: "Issue a certificate",
        summary: "Have Vault make a key and a certificate. A human confirms it first. Give `to` to put the private key into a new file with the chain; without it the key is masked and lost.",
        scope: Some(Scope::Write),
        effect: Effect::Issue,
        toolset: Toolset::Pki,
        idempotent: false,
    };
    type Input = IssueInput;
    type Output = IssueOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        for (field, count) in [
            ("alt_names", input.alt_names.as_ref().map_or(0, Vec::len)),
            ("ip_sans", input.ip_sans.as_ref().map_or(0, Vec::len)),
        ] {
            if count > 50 {
                return Err(Error::input(field, "give at most 50"));
            }
        }
        let path = format!("{}/issue/{}", place.engines().pki, input.role);
        Ok(Target::at(path, &["create", "update"]))
    }

    fn files(input: &Self::Input) -> Files {
        Files::written_by("to", input.to.as_ref())
    }

    fn wants_reveal(input: &Self::Input) -> bool {
        input.reveal
    }

    async fn observe(input: &Self::Input, _: Look<'_>) -> Result<Preview, Error> {
        let more = input.alt_names.as_ref().map_or(0, Vec::len) + input.ip_sans.as_ref().map_or(0, Vec::len);
        let more = if more > 0 { format!(" and {more} more names") } else { String::new() };
        let to = input
            .to
            .as_ref()
            .map(|file| format!(", to the file {}", shown(file.as_str(), 120)))
            .unwrap_or_default();
        Ok(Preview {
            verb: "ISSUE",
            detail: format!("a certificate for {}{more}{to}", input.common_name.0),
            ..Preview::default()
        })
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let file = input.to.as_ref().map(|name| NewFile::create(name, granted.roots())).transpose()?;
        let joined = |names: Vec<String>| (!names.is_empty()).then(|| names.join(","));
        let request = IssueCertificate {
            mount: granted.place().engines().pki.as_str().to_owned(),
            role: input.role.as_str().to_owned(),
            common_name: input.common_name.0,
            alt_names: joined(input.alt_names.unwrap_or_default().into_iter().map(|name| name.0).collect()),
            ip_sans: joined(input.ip_sans.unwrap_or_default().iter().map(ToString::to_string).collect()),
            ttl: input.ttl.map(|ttl| ttl.0),
        };
        let envelope =
            granted.session().write(&request, "\"create\", \"update\"").await.map_err(role_missing)?;
        let issued = envelope.data.ok_or(Error::VaultAnswer { fault: "a certificate without data" })?;
        let key = Zeroizing::new(issued.private_key);
        let chain = if issued.ca_chain.is_empty() { vec![issued.issuing_ca] } else { issued.ca_chain };
        let path = match file {
            Some(file) => {
                let mut pem = Zeroizing::new(String::new());
                for part in [key.as_str(), issued.certificate.as_str()]
                    .into_iter()
                    .chain(chain.iter().map(String::as_str))
                {
                    pem.push_str(part.trim_end());
                    pem.push('\n');
                }
                Some(file.fill(pem.as_bytes())?.display().to_string())
            }
            None => None,
        };
        let length = key.len();
        Ok(IssueOutput {
            certificate: issued.certificate,
            ca_chain: chain,
            private_key: granted.disclose_text(key, length),
            file: path,
            serial_number: issued.serial_number,
            expiration: issued.expiration,
        })
    }
}

/// Pairs of hexadecimal digits joined by colons or hyphens.
struct Serial(String);

impl<'de> Deserialize<'de> for Serial {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let fits = (2..=128).contains(&text.len())
            && text
                .split([':', '-'])
                .all(|pair| pair.len() == 2 && pair.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if fits { Ok(Self(text)) } else { Err(D::Error::custom("it is no serial number such as 1a:2b:3c")) }
    }
}

impl JsonSchema for Serial {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Serial".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9a-fA-F]{2}([:-][0-9a-fA-F]{2})*$" })
    }
}

/// `pki.revoke`.
pub struct Revoke;

/// Arguments of `pki.revoke`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeInput {
    /// Serial number, as pki_issue gave it.
    serial_number: Serial,
}

/// Answer of `pki.revoke`.
#[derive(Serialize, JsonSchema)]
pub struct RevokeOutput {
    /// Unix time of the revocation.
    revocation_time: i64,
    /// The same (RFC 3339).
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation_time_rfc3339: Option<String>,
}

impl Operation for Revoke {
    const SPEC: Spec = Spec {
        id: "pki.revoke",
        title: "Revoke a certificate",
        summary: "Revoke a certificate by its serial number; nothing takes that back. A human confirms it first.",
        scope: Some(Scope::Write),
        effect: Effect::Destroy,
        toolset: Toolset::Pki,
        idempotent: true,
    };
    type Input = RevokeInput;
    type Output = RevokeOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        let path = format!("{}/revoke", place.engines().pki);
        let name = format!("{} {}", place.engines().pki, input.serial_number.0);
        Ok(Target { name, keys: Vec::new(), needs: vec![Need::of(path, &["create", "update"])] })
    }

    async fn observe(_: &Self::Input, _: Look<'_>) -> Result<Preview, Error> {
        Ok(Preview { verb: "REVOKE", detail: "a certificate, for good".to_owned(), ..Preview::default() })
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let request = RevokeCertificate {
            mount: granted.place().engines().pki.as_str().to_owned(),
            serial_number: input.serial_number.0,
        };
        let envelope = granted.session().write(&request, "\"create\", \"update\"").await?;
        let revoked = envelope.data.ok_or(Error::VaultAnswer { fault: "a revocation without data" })?;
        Ok(RevokeOutput {
            revocation_time: revoked.revocation_time,
            revocation_time_rfc3339: revoked.revocation_time_rfc3339,
        })
    }
}
