//! What the text of a setting parses into. A type's errors say the fault and what would be accepted, never the text.

use std::{fmt, net::IpAddr, path::PathBuf, str::FromStr};

use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::{
    effect::Effect,
    names::{AwsKeyId, EngineName, MountName, PolicyPrefix, Subject},
};

/// A secret given as a setting. It never prints.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

impl SecretText {
    /// The text itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Display for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

/// A type that a setting's text parses into. Errors say the fault and the remedy, never the text.
pub trait FromSetting: Sized {
    /// Parses the text.
    ///
    /// # Errors
    /// The fault, then what would be accepted.
    fn parse(text: &str) -> Result<Self, String>;
    /// The value as `vault-mcp config` prints it.
    fn print(&self) -> String;
}

macro_rules! by_from_str {
    ($($type:ty: $expected:literal),*) => {$(
        impl FromSetting for $type {
            fn parse(text: &str) -> Result<Self, String> {
                <$type>::from_str(text).map_err(|_| format!("expected {}", $expected))
            }
            fn print(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
by_from_str!(u16: "a whole number", u32: "a whole number", u64: "a whole number", String: "text");

impl FromSetting for IpAddr {
    fn parse(text: &str) -> Result<Self, String> {
        // The one name whose address nobody needs to look up (RFC 6761, section 6.3).
        let text = if text.eq_ignore_ascii_case("localhost") { "127.0.0.1" } else { text };
        text.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| {
            "expected an IP address, 127.0.0.1 for this machine alone, 0.0.0.0 for all of its networks"
                .to_owned()
        })
    }
    fn print(&self) -> String {
        self.to_string()
    }
}

impl FromSetting for bool {
    fn parse(text: &str) -> Result<Self, String> {
        match text.to_ascii_lowercase().as_str() {
            "1" | "true" | "yes" | "on" => Ok(true),
            "0" | "false" | "no" | "off" => Ok(false),
            _ => Err("expected true or false".into()),
        }
    }
    fn print(&self) -> String {
        self.to_string()
    }
}

impl FromSetting for PathBuf {
    fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
    fn print(&self) -> String {
        self.display().to_string()
    }
}

impl FromSetting for SecretText {
    fn parse(text: &str) -> Result<Self, String> {
        if text.chars().any(|c| c.is_control() || c == ' ') {
            return Err("it holds a space or a line break; give the bare secret".into());
        }
        Ok(Self(Zeroizing::new(text.to_owned())))
    }
    fn print(&self) -> String {
        "***".into()
    }
}

/// A secret that is a JSON document. It never prints.
#[derive(Debug, Clone)]
pub struct SecretJson(SecretText);

impl SecretJson {
    /// The document's text.
    #[must_use]
    pub fn expose(&self) -> &str {
        self.0.expose()
    }
}

impl FromSetting for SecretJson {
    fn parse(text: &str) -> Result<Self, String> {
        match serde_json::from_str::<serde::de::IgnoredAny>(text) {
            Ok(_) => Ok(Self(SecretText(Zeroizing::new(text.to_owned())))),
            Err(error) => Err(format!("expected JSON; it does not parse at column {}", error.column())),
        }
    }
    fn print(&self) -> String {
        self.0.print()
    }
}

impl FromSetting for Subject {
    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|fault| fault.to_string())
    }
    fn print(&self) -> String {
        self.to_string()
    }
}

impl FromSetting for PolicyPrefix {
    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|fault| fault.to_string())
    }
    fn print(&self) -> String {
        self.to_string()
    }
}

impl FromSetting for EngineName {
    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|fault| fault.to_string())
    }
    fn print(&self) -> String {
        self.to_string()
    }
}

impl FromSetting for AwsKeyId {
    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text).map_err(|_| "expected the id, the ARN or the alias of a key".to_owned())
    }
    fn print(&self) -> String {
        self.to_string()
    }
}

impl FromSetting for MountName {
    fn parse(text: &str) -> Result<Self, String> {
        Self::parse(text.trim_end_matches('/')).map_err(|fault| fault.to_string())
    }
    fn print(&self) -> String {
        self.to_string()
    }
}

impl FromSetting for Vec<MountName> {
    fn parse(text: &str) -> Result<Self, String> {
        words(text).map(<MountName as FromSetting>::parse).collect()
    }
    fn print(&self) -> String {
        self.iter().map(MountName::as_str).collect::<Vec<_>>().join(",")
    }
}

impl FromSetting for Vec<IpNet> {
    fn parse(text: &str) -> Result<Self, String> {
        let network = |word: &str| {
            let host = || word.parse::<IpAddr>().map(IpNet::from);
            word.parse().or_else(|_| host()).map_err(|_| "expected networks as 10.0.0.0/8".to_owned())
        };
        words(text).map(network).collect()
    }
    fn print(&self) -> String {
        self.iter().map(IpNet::to_string).collect::<Vec<_>>().join(",")
    }
}

/// Web origins that browsers may call from (RFC 6454): scheme, host and port.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Origins(pub Vec<String>);

impl FromSetting for Origins {
    fn parse(text: &str) -> Result<Self, String> {
        let origin = |word: &str| {
            match <Address as FromSetting>::parse(word) {
            Ok(address) => Ok(address.as_str().to_owned()),
            Err(_) => Err("expected origins as https://app.example.com; `*` is not taken, for credentials would go with it".to_owned()),
        }
        };
        words(text).map(origin).collect::<Result<_, _>>().map(Self)
    }
    fn print(&self) -> String {
        self.0.join(",")
    }
}

/// A span of time, in whole seconds: `90`, `90s`, `15m`, `1h`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seconds(pub u64);

impl FromSetting for Seconds {
    fn parse(text: &str) -> Result<Self, String> {
        let (digits, unit) = match text.trim().strip_suffix(['s', 'm', 'h']) {
            Some(digits) => (digits, text.trim().chars().last().unwrap_or('s')),
            None => (text.trim(), 's'),
        };
        let factor = match unit {
            'h' => 3600,
            'm' => 60,
            _ => 1,
        };
        let seconds = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
        seconds.map(Self).ok_or_else(|| "expected a time as 90s, 15m or 1h".to_owned())
    }
    fn print(&self) -> String {
        format!("{}s", self.0)
    }
}

impl<T: FromSetting> FromSetting for Option<T> {
    fn parse(text: &str) -> Result<Self, String> {
        T::parse(text).map(Some)
    }
    fn print(&self) -> String {
        self.as_ref().map(T::print).unwrap_or_default()
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split([',', ' ']).map(str::trim).filter(|word| !word.is_empty())
}

macro_rules! word_setting {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant),* }

        impl FromSetting for $name {
            fn parse(text: &str) -> Result<Self, String> {
                match text.to_ascii_lowercase().as_str() {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(concat!("expected one of:", $(" ", $word),*).to_owned()),
                }
            }
            fn print(&self) -> String {
                match self { $(Self::$variant => $word),* }.to_owned()
            }
        }
    };
}

word_setting!(
    /// Who is asked.
    Approval {
        /// An attached approver, else the client.
        Auto = "auto",
        /// The client only.
        Client = "client",
        /// The approver only.
        Approver = "approver",
    }
);
word_setting!(
    /// Whether a model may see a value when it asks to.
    Reveal {
        /// The human decides each time.
        Ask = "ask",
        /// Yes.
        Always = "always",
        /// No.
        Never = "never",
    }
);
word_setting!(
    /// What happens to values that shells would interpret.
    DangerousPatterns {
        /// The human is told.
        Warn = "warn",
        /// The call is refused.
        Block = "block",
    }
);
word_setting!(
    /// Which names are accepted as path segments.
    PathNames {
        /// The allow-list of the validation rules.
        Strict = "strict",
        /// Any printable text (stdio only).
        Any = "any",
    }
);
word_setting!(
    /// How tool names are published.
    ToolNames {
        /// `kv_read`.
        Underscore = "underscore",
        /// `kv.read`.
        Dotted = "dotted",
    }
);
word_setting!(
    /// When the audit log is forced to disk.
    AuditFsync {
        /// After each record.
        Always = "always",
        /// After the records of issue, write and destroy.
        Writes = "writes",
        /// Never.
        Never = "never",
    }
);

/// Effects that wait for a human on MCP. `write` and `destroy` always do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfirmEffects(Vec<Effect>);

impl ConfirmEffects {
    /// True when calls of this effect wait for a human.
    #[must_use]
    pub fn contains(&self, effect: Effect) -> bool {
        self.0.contains(&effect)
    }
}

impl FromSetting for ConfirmEffects {
    fn parse(text: &str) -> Result<Self, String> {
        let mut effects = vec![Effect::Issue, Effect::Write, Effect::Destroy];
        for word in words(text) {
            match word.to_ascii_lowercase().as_str() {
                "read" => effects.push(Effect::Read),
                "compute" => effects.push(Effect::Compute),
                "issue" | "write" | "destroy" => {}
                "-issue" => effects.retain(|effect| *effect != Effect::Issue),
                _ => return Err("expected words of: read, compute (added), -issue (removed); write and destroy always ask".into()),
            }
        }
        Ok(Self(effects))
    }
    fn print(&self) -> String {
        self.0.iter().map(|effect| effect.as_str()).collect::<Vec<_>>().join(",")
    }
}

/// Which families of tools are registered; nothing means all.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Toolsets(Vec<String>);

impl Toolsets {
    /// The families that `TOOLSETS` may name.
    pub const KNOWN: &[&str] = &["kv", "service", "transit", "db", "ssh", "pki", "kms"];

    /// True when the family is on.
    #[must_use]
    pub fn contains(&self, family: &str) -> bool {
        self.0.is_empty() || self.0.iter().any(|name| name == family)
    }
}

impl FromSetting for Toolsets {
    fn parse(text: &str) -> Result<Self, String> {
        let names: Vec<String> =
            words(text).map(str::to_ascii_lowercase).filter(|name| name != "all").collect();
        match names.iter().find(|name| !Self::KNOWN.contains(&name.as_str())) {
            Some(_) => Err(format!("expected words of: {}", Self::KNOWN.join(", "))),
            None => Ok(Self(names)),
        }
    }
    fn print(&self) -> String {
        if self.0.is_empty() { "all".into() } else { self.0.join(",") }
    }
}

/// The address of Vault: scheme, host and port, nothing else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Address(String);

impl Address {
    /// `scheme://host:port` without a slash at the end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True for this machine's own addresses.
    #[must_use]
    pub fn is_loopback(&self) -> bool {
        url::Url::parse(&self.0).ok().is_some_and(|url| is_loopback(&url))
    }
}

impl FromSetting for Address {
    fn parse(text: &str) -> Result<Self, String> {
        let expected =
            || "expected http://host:port or https://host:port, without a path or credentials".to_owned();
        let url = url::Url::parse(text).map_err(|_| expected())?;
        let plain = matches!(url.scheme(), "http" | "https")
            && url.host().is_some()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        if plain { Ok(Self(url.as_str().trim_end_matches('/').to_owned())) } else { Err(expected()) }
    }
    fn print(&self) -> String {
        self.0.clone()
    }
}

/// Where an issuer publishes its keys: https, or this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysUrl(url::Url);

impl KeysUrl {
    /// The address.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_str()
    }

    /// True for plain HTTP.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }
}

impl fmt::Display for KeysUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromSetting for KeysUrl {
    fn parse(text: &str) -> Result<Self, String> {
        let expected = || {
            "expected an address as https://issuer.example.com/jwks.json, without credentials or a fragment"
                .to_owned()
        };
        let url = url::Url::parse(text).map_err(|_| expected())?;
        let bare = url.host().is_some()
            && url.fragment().is_none()
            && url.username().is_empty()
            && url.password().is_none();
        match url.scheme() {
            _ if !bare => Err(expected()),
            "https" => Ok(Self(url)),
            "http" if is_loopback(&url) => Ok(Self(url)),
            "http" => Err("plain http is refused for another machine: whoever is in between could give out keys of their own. Give an https address".to_owned()),
            _ => Err(expected()),
        }
    }
    fn print(&self) -> String {
        self.as_str().to_owned()
    }
}

/// True for this machine's own addresses.
fn is_loopback(url: &url::Url) -> bool {
    match url.host() {
        Some(url::Host::Domain(name)) => name == "localhost",
        Some(url::Host::Ipv4(address)) => address.is_loopback(),
        Some(url::Host::Ipv6(address)) => address.is_loopback(),
        None => false,
    }
}

/// Where traces are sent: `http://host:port`, with a path where one stands before OTLP's own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Collector(url::Url);

impl Collector {
    /// The address that takes spans (OTLP specification, "OTLP/HTTP Request").
    #[must_use]
    pub fn traces(&self) -> String {
        format!("{}/v1/traces", self.0.as_str().trim_end_matches('/'))
    }

    /// True where there is no TLS.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self.0.scheme() == "http"
    }
}

impl FromSetting for Collector {
    fn parse(text: &str) -> Result<Self, String> {
        let fits = |url: &url::Url| {
            matches!(url.scheme(), "http" | "https")
                && url.host().is_some()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        };
        let expected = || {
            "expected http://host:port or https://host:port, without credentials; those go into OTEL_EXPORTER_OTLP_HEADERS".to_owned()
        };
        url::Url::parse(text).ok().filter(fits).map(Self).ok_or_else(expected)
    }
    fn print(&self) -> String {
        self.0.to_string()
    }
}
