//! SSH: one-time passwords and signed certificates. What makes a certificate good for more than was meant
//! (no principals, a wildcard, options in the key line) is refused before anything is sent.

use std::net::IpAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use zeroize::Zeroizing;

use super::database::role_missing;
use crate::{
    broker::{Granted, Look, Place},
    caller::Scope,
    error::Error,
    handover::{FileName, NewFile, render},
    names::{EngineName, shown},
    op::{Effect, Files, Operation, Preview, Rest, RestAnswer, Spec, Target, Toolset, Verb},
    secret::DisclosedValue,
    vault::issue::{IssueSshOtp, ReadSshRole, SignSshKey},
};

/// A user or host that a certificate or password is for.
#[derive(Debug, Clone)]
struct Principal(String);

impl Principal {
    fn parse(text: &str) -> Result<Self, &'static str> {
        let fits = (1..=64).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._@-".contains(&byte))
            && !text.starts_with('-');
        if fits {
            Ok(Self(text.to_owned()))
        } else {
            Err("give a plain name: letters, digits, '.', '_', '@', '-'; no wildcard, no list")
        }
    }
}

impl<'de> Deserialize<'de> for Principal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::parse(&String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

impl JsonSchema for Principal {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Principal".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[A-Za-z0-9._@][A-Za-z0-9._@-]{0,63}$" })
    }
}

/// The address of one host; names, wildcards and "any" are refused.
struct Host(IpAddr);

impl<'de> Deserialize<'de> for Host {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let address: IpAddr = String::deserialize(deserializer)?
            .parse()
            .map_err(|_| D::Error::custom("give an IP address, no host name"))?;
        if address.is_unspecified() || address.is_multicast() {
            return Err(D::Error::custom("give the address of one host"));
        }
        Ok(Self(address))
    }
}

impl JsonSchema for Host {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Host".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

/// A time such as `30m`, `8h` or `3600` (seconds), from a second to a year.
pub(crate) struct Ttl(pub(crate) String);

impl<'de> Deserialize<'de> for Ttl {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (digits, unit) = match text.char_indices().next_back() {
            Some((at, unit @ ('s' | 'm' | 'h' | 'd'))) => (text.get(..at).unwrap_or_default(), unit),
            _ => (text.as_str(), 's'),
        };
        let factor: u64 = match unit {
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => 1,
        };
        let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
        let seconds =
            digits.parse::<u64>().ok().filter(|_| plain).and_then(|number| number.checked_mul(factor));
        match seconds {
            Some(seconds @ 1..=31_536_000) => Ok(Self(format!("{seconds}s"))),
            _ => Err(D::Error::custom("give a time such as 30m, 8h or 7d, at most a year")),
        }
    }
}

impl JsonSchema for Ttl {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Ttl".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "pattern": "^[0-9]+[smhd]?$" })
    }
}

/// `ssh.otp`.
pub struct Otp;

/// Arguments of `ssh.otp`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct OtpInput {
    /// Role of the SSH engine.
    role: EngineName,
    /// IP address of the host.
    ip: Host,
    /// User on the host.
    username: Principal,
    /// Port, to be repeated in the answer.
    port: Option<u16>,
    /// true asks the human to let you see the password.
    #[serde(default)]
    reveal: bool,
    /// New file (0600) that takes the password: .env lines, or JSON for .json.
    to: Option<FileName>,
}

/// Answer of `ssh.otp`.
#[derive(Serialize, JsonSchema)]
pub struct OtpOutput {
    /// The one-time password, or a mask.
    key: DisclosedValue,
    /// File that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Host it is good for.
    ip: String,
    /// User it is good for.
    username: String,
    /// Port of the host.
    port: u16,
}

impl Operation for Otp {
    const SPEC: Spec = Spec {
        id: "ssh.otp",
        title: "Issue an SSH one-time password",
        summary: "Issue a password that is good for one SSH login on one host. A human confirms it first. Give `to` to put it into a new file; without it the password is masked.",
        scope: Some(Scope::Write),
        effect: Effect::Issue,
        toolset: Toolset::Ssh,
        idempotent: false,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/ssh/otp",
        answer: RestAnswer::Output,
        about: "Issues a password that is good for one SSH login on one host.",
    });
    type Input = OtpInput;
    type Output = OtpOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        let path = format!("{}/creds/{}", place.engines().ssh, input.role);
        Ok(Target::at(path, &["create", "update"]))
    }

    fn files(input: &Self::Input) -> Files {
        Files::written_by("to", input.to.as_ref())
    }

    fn wants_reveal(input: &Self::Input) -> bool {
        input.reveal
    }

    async fn observe(input: &Self::Input, _: Look<'_>) -> Result<Preview, Error> {
        let to = input
            .to
            .as_ref()
            .map(|file| format!(", to the file {}", shown(file.as_str(), 120)))
            .unwrap_or_default();
        let detail = format!("one login as {} on {}{to}", input.username.0, input.ip.0);
        Ok(Preview { verb: "ISSUE", detail, ..Preview::default() })
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let file = input.to.as_ref().map(|name| NewFile::create(name, granted.roots())).transpose()?;
        let request = IssueSshOtp {
            mount: granted.place().engines().ssh.as_str().to_owned(),
            role: input.role.as_str().to_owned(),
            ip: input.ip.0.to_string(),
            username: input.username.0,
        };
        let envelope =
            granted.session().write(&request, "\"create\", \"update\"").await.map_err(role_missing)?;
        let otp = envelope.data.ok_or(Error::VaultAnswer { fault: "a password without data" })?;
        let key = Zeroizing::new(otp.key);
        // It ends with the token that it was issued to; its own lease would last for weeks.
        let session = granted.session();
        session.hold(&session.holder(), OTP_SECONDS).await;
        let path = match (file, &input.to) {
            (Some(file), Some(name)) => {
                let content = render::entries(
                    name,
                    &[("SSH_OTP", &key), ("SSH_HOST", &otp.ip), ("SSH_USER", &otp.username)],
                )?;
                Some(file.fill(&content)?.display().to_string())
            }
            _ => None,
        };
        let length = key.len();
        Ok(OtpOutput {
            key: granted.disclose_text(key, length),
            file: path,
            ip: otp.ip,
            username: otp.username,
            port: input.port.unwrap_or(if otp.port == 0 { 22 } else { otp.port }),
        })
    }
}

/// How long a one-time password is to be good for at least, in seconds.
const OTP_SECONDS: u64 = 300;

/// A public key in OpenSSH form, taken apart and put together again without its comment.
struct PublicKey(String);

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Zeroizing::new(String::deserialize(deserializer)?);
        if text.contains("PRIVATE KEY") {
            return Err(D::Error::custom(
                "this is a private key; it was not sent anywhere. Give the public key (the .pub file), and treat the private one as exposed",
            ));
        }
        let line = text.strip_suffix('\n').unwrap_or(&text);
        if line.len() > 16_384 || line.contains(['\n', '\r']) {
            return Err(D::Error::custom("give one line, as in the .pub file"));
        }
        let key = ssh_key::PublicKey::from_openssh(line).map_err(|_| D::Error::custom("it is no OpenSSH public key such as 'ssh-ed25519 AAAA…'; options before the type are not accepted"))?;
        let bare = ssh_key::PublicKey::from(key.key_data().clone());
        bare.to_openssh()
            .map(Self)
            .map_err(|_| D::Error::custom("it does not encode as an OpenSSH public key"))
    }
}

impl JsonSchema for PublicKey {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PublicKey".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string" })
    }
}

/// Whom a certificate identifies.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum CertType {
    #[default]
    User,
    Host,
}

/// One name or several.
struct Principals(Vec<Principal>);

impl<'de> Deserialize<'de> for Principals {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Either;
        impl<'de> serde::de::Visitor<'de> for Either {
            type Value = Vec<Principal>;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("a name or a list of names")
            }
            fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Principal::parse(text).map(|one| vec![one]).map_err(E::custom)
            }
            fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(one) = seq.next_element()? {
                    list.push(one);
                }
                Ok(list)
            }
        }
        let list = deserializer.deserialize_any(Either)?;
        if (1..=32).contains(&list.len()) {
            Ok(Self(list))
        } else {
            Err(D::Error::custom("give 1 to 32 names: a certificate without any is good for everybody"))
        }
    }
}

impl JsonSchema for Principals {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Principals".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({
            "anyOf": [
                { "type": "string" },
                { "type": "array", "items": { "type": "string" }, "minItems": 1, "maxItems": 32 }
            ]
        })
    }
}

/// `ssh.sign`.
pub struct Sign;

/// Arguments of `ssh.sign`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignInput {
    /// Role of the SSH engine.
    role: EngineName,
    /// Public key, as in the .pub file.
    public_key: PublicKey,
    /// user (if left out) or host.
    cert_type: Option<CertType>,
    /// Users (or host names) it is good for; the role's default user if left out.
    valid_principals: Option<Principals>,
    /// Time it is good for, such as 30m; the role's default if left out.
    ttl: Option<Ttl>,
    /// New file that takes the certificate, such as id_ed25519-cert.pub.
    to: Option<FileName>,
}

/// Answer of `ssh.sign`.
#[derive(Serialize, JsonSchema)]
pub struct SignOutput {
    /// The certificate in OpenSSH form; absent when a file has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    signed_key: Option<String>,
    /// File that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Its serial number.
    serial_number: String,
    /// Whom it is good for.
    valid_principals: Vec<String>,
}

impl Operation for Sign {
    const SPEC: Spec = Spec {
        id: "ssh.sign",
        title: "Sign an SSH key",
        summary: "Have Vault sign an SSH public key: the certificate logs its holder in. A human confirms it first. Give the public key only, never a private one. Give `to` to put the certificate beside its key.",
        scope: Some(Scope::Write),
        effect: Effect::Issue,
        toolset: Toolset::Ssh,
        idempotent: false,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/ssh/sign",
        answer: RestAnswer::Output,
        about: "Signs an SSH public key: the certificate logs its holder in.",
    });
    type Input = SignInput;
    type Output = SignOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        let path = format!("{}/sign/{}", place.engines().ssh, input.role);
        Ok(Target::at(path, &["create", "update"]))
    }

    fn files(input: &Self::Input) -> Files {
        Files::written_by("to", input.to.as_ref())
    }

    async fn observe(input: &Self::Input, _: Look<'_>) -> Result<Preview, Error> {
        let kind = if matches!(input.cert_type, Some(CertType::Host)) { "host" } else { "user" };
        let names = match &input.valid_principals {
            Some(list) => list.0.iter().map(|one| one.0.as_str()).collect::<Vec<_>>().join(", "),
            None => "the role's default user".to_owned(),
        };
        let ttl = input.ttl.as_ref().map(|ttl| format!(" for {}", ttl.0)).unwrap_or_default();
        let to = input
            .to
            .as_ref()
            .map(|file| format!(", to the file {}", shown(file.as_str(), 120)))
            .unwrap_or_default();
        let detail = format!("a {kind} certificate for {names}{ttl}{to}");
        Ok(Preview { verb: "SIGN", detail, ..Preview::default() })
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let mount = granted.place().engines().ssh.as_str().to_owned();
        let role = input.role.as_str().to_owned();
        let principals: Vec<String> = match input.valid_principals {
            Some(list) => list.0.into_iter().map(|one| one.0).collect(),
            None => vec![default_user(&granted, &mount, &role).await?],
        };
        let file = input.to.as_ref().map(|name| NewFile::create(name, granted.roots())).transpose()?;
        let request = SignSshKey {
            mount,
            role,
            public_key: input.public_key.0,
            cert_type: if matches!(input.cert_type, Some(CertType::Host)) { "host" } else { "user" },
            valid_principals: principals.join(","),
            ttl: input.ttl.map(|ttl| ttl.0),
        };
        let envelope =
            granted.session().write(&request, "\"create\", \"update\"").await.map_err(role_missing)?;
        let signed = envelope.data.ok_or(Error::VaultAnswer { fault: "a signature without data" })?;
        let path = file
            .map(|file| file.fill(signed.signed_key.as_bytes()))
            .transpose()?
            .map(|path| path.display().to_string());
        Ok(SignOutput {
            signed_key: path.is_none().then_some(signed.signed_key),
            file: path,
            serial_number: signed.serial_number,
            valid_principals: principals,
        })
    }
}

/// A role without a default user would sign for everybody.
async fn default_user(granted: &Granted, mount: &str, role: &str) -> Result<String, Error> {
    let missing = || {
        Error::input(
            "valid_principals",
            "name whom the certificate is for; the role has no default user that could be seen",
        )
    };
    let request = ReadSshRole { mount: mount.to_owned(), role: role.to_owned() };
    let role = match granted.session().read(&request).await {
        Ok(envelope) => envelope.data.ok_or_else(missing)?,
        Err(Error::Forbidden { .. }) => return Err(missing()),
        Err(other) => return Err(role_missing(other)),
    };
    Principal::parse(&role.default_user).map(|one| one.0).map_err(|_| missing())
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

    #[test]
    fn a_public_key_loses_its_comment_and_keeps_its_bytes() {
        let key: PublicKey =
            serde_json::from_value(format!("{KEY} a comment, that could say anything").into()).unwrap();
        assert_eq!(key.0, KEY);
    }

    #[test]
    fn what_is_no_bare_public_key_is_refused() {
        for text in [
            format!("command=\"id\" {KEY}"),
            format!("{KEY}\n{KEY}"),
            "-----BEGIN OPENSSH PRIVATE KEY-----".to_owned(),
            "ssh-ed25519 AAAA".to_owned(),
            String::new(),
        ] {
            assert!(serde_json::from_value::<PublicKey>(text.clone().into()).is_err(), "{text} was accepted");
        }
    }

    #[test]
    fn principals_that_mean_more_than_one_name_are_refused() {
        for value in [
            serde_json::json!(""),
            serde_json::json!([]),
            serde_json::json!("*"),
            serde_json::json!("root,alice"),
            serde_json::json!(["a", ""]),
            serde_json::json!(["-a"]),
        ] {
            assert!(serde_json::from_value::<Principals>(value.clone()).is_err(), "{value} was accepted");
        }
        assert!(serde_json::from_value::<Principals>(serde_json::json!(["root", "alice"])).is_ok());
    }

    #[test]
    fn times_and_hosts_that_are_none_are_refused() {
        for text in ["0", "-1", "0s", "1y", "", "99999999d", "1.5h", "h"] {
            assert!(serde_json::from_value::<Ttl>(text.into()).is_err(), "{text} was accepted");
        }
        for text in ["0.0.0.0", "::", "example.com", "10.0.0.0/8", "224.0.0.1"] {
            assert!(serde_json::from_value::<Host>(text.into()).is_err(), "{text} was accepted");
        }
    }
}
