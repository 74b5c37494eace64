//! Settings: one table, read in layers, each value knowing where it came from.
//!
//! Precedence: arguments, environment (`NAME`, then its `BAO_*` synonym, then `NAME_FILE` for a secret),
//! the configuration file, the default. `vault-mcp config` prints the result. Nothing else in the
//! crate reads the environment, but for the AWS SDK, which looks for its credentials there.
//!
//! Here are the table and what must hold between settings; [`values`] has their types, [`layers`] reads them.

mod layers;
mod values;

use std::{net::IpAddr, path::PathBuf};

use ipnet::IpNet;

use crate::{
    audit,
    error::Error,
    names::{AwsKeyId, AwsRegion, EngineName, MountName, PolicyPrefix, Subject},
};

pub use layers::{Layers, Setting, Source};
pub use values::{
    Address, Approval, AuditFsync, Collector, ConfirmEffects, DangerousPatterns, FromSetting, KeysUrl,
    Origins, PathNames, Reveal, Seconds, SecretJson, SecretText, ToolNames, Toolsets,
};

/// A row of the table of settings.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    /// Environment variable and, in lower case, key of the configuration file.
    pub name: &'static str,
    /// Text of the default, where there is one.
    pub default: Option<&'static str>,
    /// What it does.
    pub help: &'static str,
    /// True when its value is a secret.
    pub secret: bool,
}

macro_rules! settings {
    ($($(#[doc = $doc:literal])+ $field:ident: $type:ty = $name:literal $default:expr, $secret:literal;)*) => {
        /// The effective settings.
        #[derive(Debug)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $field: Setting<$type>,)*
            dev: bool,
        }

        /// Every setting, in the order of the documentation.
        pub const SETTINGS: &[Row] =
            &[$(Row { name: $name, default: $default, help: concat!($($doc),+), secret: $secret }),*];

        impl Config {
            fn read(layers: &Layers) -> Result<Self, Error> {
                let mut rows = SETTINGS.iter();
                $(let $field = layers.setting::<$type>(rows.next().ok_or(Error::Internal { what: "settings table" })?)?;)*
                Ok(Self { $($field,)* dev: false })
            }

            /// Each setting's name, printed value and source.
            #[must_use]
            pub fn effective(&self) -> Vec<(&'static str, String, &Source)> {
                vec![$(($name, self.$field.print(), &self.$field.source)),*]
            }
        }
    };
}

settings! {
    /// Address of Vault or OpenBao: scheme, host and port.
    vault_addr: Address = "VAULT_ADDR" Some("http://localhost:8200"), false;
    /// Namespace, sent with every request.
    vault_namespace: Option<String> = "VAULT_NAMESPACE" None, false;
    /// Token of the session; else the file ~/.vault-token, as Vault's own CLI keeps it. A file is read again when Vault no longer accepts the token.
    vault_token: Option<SecretText> = "VAULT_TOKEN" None, true;
    /// AppRole login in place of a token: the role's id.
    vault_role_id: Option<String> = "VAULT_ROLE_ID" None, false;
    /// AppRole login in place of a token: the secret id.
    vault_secret_id: Option<SecretText> = "VAULT_SECRET_ID" None, true;
    /// PEM file of the certificate authorities to trust in place of the system's.
    vault_cacert: Option<PathBuf> = "VAULT_CACERT" None, false;
    /// PEM file of the client certificate.
    vault_client_cert: Option<PathBuf> = "VAULT_CLIENT_CERT" None, false;
    /// PEM file of the client certificate's key.
    vault_client_key: Option<PathBuf> = "VAULT_CLIENT_KEY" None, false;
    /// Accept any server certificate; refused for anything but this machine.
    vault_skip_verify: bool = "VAULT_SKIP_VERIFY" Some("false"), false;
    /// Mount of the KV engine.
    kv_mount: MountName = "KV_MOUNT" Some("secret"), false;
    /// More KV mounts that callers may name in `mount`.
    kv_mounts: Vec<MountName> = "KV_MOUNTS" Some(""), false;
    /// Mount of the transit engine.
    transit_mount: MountName = "TRANSIT_MOUNT" Some("transit"), false;
    /// Mount of the database engine.
    database_mount: MountName = "DATABASE_MOUNT" Some("database"), false;
    /// Mount of the SSH engine.
    ssh_mount: MountName = "SSH_MOUNT" Some("ssh"), false;
    /// Mount of the PKI engine.
    pki_mount: MountName = "PKI_MOUNT" Some("pki"), false;
    /// Revoke what this session issued when it ends.
    revoke_leases_on_exit: bool = "REVOKE_LEASES_ON_EXIT" Some("false"), false;
    /// First folder of the agents' trees.
    default_prefix: String = "DEFAULT_PREFIX" Some("mcp"), false;
    /// Folder that paths are relative to; `/` opens the whole mount and leaves the fence to Vault's policy.
    kv_root: String = "KV_ROOT" Some("{DEFAULT_PREFIX}/{subject}"), false;
    /// Folder that holds the services of the `vault_*` tools.
    services_path: String = "SERVICES_PATH" Some("{DEFAULT_PREFIX}/{subject}"), false;
    /// Whom stdio calls act for; else the login name, made to fit.
    subject: Option<Subject> = "SUBJECT" None, false;
    /// Limit the rate of calls per subject.
    rate_limit_enabled: bool = "RATE_LIMIT_ENABLED" Some("true"), false;
    /// Calls per window.
    rate_limit_requests: u32 = "RATE_LIMIT_REQUESTS" Some("60"), false;
    /// Length of the window in seconds.
    rate_limit_window_seconds: u64 = "RATE_LIMIT_WINDOW_SECONDS" Some("60"), false;
    /// HTTP: calls that run at a time; four times as many wait for up to 2 s, and what comes on top is refused.
    max_concurrent_calls: u32 = "MAX_CONCURRENT_CALLS" Some("64"), false;
    /// Who is asked before a write: auto (an attached approver, else the client), client, approver.
    approval: Approval = "APPROVAL" Some("auto"), false;
    /// Effects that wait for a human besides write and destroy; `-issue` removes issue.
    confirm_effects: ConfirmEffects = "CONFIRM_EFFECTS" Some("issue"), false;
    /// Whether a model that asks to may see a value: ask, always, never.
    reveal: Reveal = "REVEAL" Some("ask"), false;
    /// Values that shells would interpret: warn, block.
    dangerous_patterns: DangerousPatterns = "DANGEROUS_PATTERNS" Some("warn"), false;
    /// Path names: strict, or any printable text (stdio only).
    path_names: PathNames = "PATH_NAMES" Some("strict"), false;
    /// Families of tools to register besides the session's own: kv, service; all by default.
    toolsets: Toolsets = "TOOLSETS" Some("all"), false;
    /// Tool names: underscore (kv_read) or dotted (kv.read).
    tool_names: ToolNames = "TOOL_NAMES" Some("underscore"), false;
    /// Register only what reads and computes.
    read_only: bool = "READ_ONLY" Some("false"), false;
    /// Offer the tools of AWS KMS. Credentials come from AWS' standard chain: environment, profile, SSO, container, instance.
    aws_kms_enabled: bool = "AWS_KMS_ENABLED" Some("false"), false;
    /// Region of AWS KMS; else the profile's or the instance's.
    aws_region: Option<String> = "AWS_REGION" None, false;
    /// Key of AWS KMS that calls use which name none: id, ARN or alias.
    aws_kms_default_key_id: Option<AwsKeyId> = "AWS_KMS_DEFAULT_KEY_ID" None, false;
    /// Address to use in place of the region's own for AWS KMS; https unless it is this machine.
    aws_kms_endpoint: Option<Address> = "AWS_KMS_ENDPOINT" None, false;
    /// The audit log's file; by default in the platform's data folder.
    audit_log: Option<PathBuf> = "AUDIT_LOG" None, false;
    /// When the audit log is forced to disk: always, writes, never.
    audit_fsync: AuditFsync = "AUDIT_FSYNC" Some("writes"), false;
    /// Level of the log on standard error: error, warn, info, debug, trace.
    log_level: String = "LOG_LEVEL" Some("warn"), false;
    /// Folder for log files; with `--http` ./logs, on stdio none is written unless this is set.
    log_dir: Option<PathBuf> = "LOG_DIR" None, false;
    /// HTTP: address to listen on. Anything but this machine's own needs TLS_CERT or MTLS_TRUSTED_PROXIES.
    host: IpAddr = "HOST" Some("127.0.0.1"), false;
    /// HTTP: port to listen on; 0 takes a free one and says which.
    port: u16 = "PORT" Some("8089"), false;
    /// HTTP: address that clients know this server by, where a proxy stands before it.
    public_url: Option<Address> = "PUBLIC_URL" None, false;
    /// HTTP: serve the REST routes; without them MCP alone.
    expose_rest_routes: bool = "EXPOSE_REST_ROUTES" Some("true"), false;
    /// HTTP: REST calls that change something wait for a person at `vault-mcp approve` as well.
    confirm_rest: bool = "CONFIRM_REST" Some("false"), false;
    /// HTTP: web origins that browsers may call from; none by default.
    cors_allow_origins: Origins = "CORS_ALLOW_ORIGINS" Some(""), false;
    /// HTTP: seconds between signs of life on event streams.
    sse_keepalive_seconds: u64 = "SSE_KEEPALIVE_SECONDS" Some("15"), false;
    /// HTTP: key that seals what a client carries between question and answer, 32 bytes or more as text or base64. Servers that share it finish each other's questions. By default one of this process.
    request_state_key: Option<SecretText> = "REQUEST_STATE_KEY" None, true;
    /// HTTP: take API keys in `X-API-Key`.
    auth_api_key_enabled: bool = "AUTH_API_KEY_ENABLED" Some("true"), false;
    /// HTTP: take JSON Web Tokens in `Authorization: Bearer`.
    auth_jwt_enabled: bool = "AUTH_JWT_ENABLED" Some("true"), false;
    /// HTTP: take the identity headers of trusted TLS proxies.
    auth_mtls_enabled: bool = "AUTH_MTLS_ENABLED" Some("false"), false;
    /// HTTP: API keys as JSON: {"key": "subject"} or {"key": {"subject": "…", "scopes": ["read", "list"]}}.
    api_keys_json: Option<SecretJson> = "API_KEYS_JSON" None, true;
    /// HTTP: file of users with hashed API keys, which `vault-mcp user` writes and which is read again when it changes; by default users.json in the platform's configuration folder.
    users_file: Option<PathBuf> = "USERS_FILE" None, false;
    /// HTTP: whom tokens must be issued by.
    jwt_issuer: String = "JWT_ISSUER" Some("mcp-auth"), false;
    /// HTTP: whom tokens must be meant for; PUBLIC_URL counts as well where it is set.
    jwt_audience: String = "JWT_AUDIENCE" Some("mcp-agents"), false;
    /// HTTP: shared secret of HS256 tokens, 32 bytes or more unless HOST is this machine; goes without JWKS.
    jwt_hs256_secret: Option<SecretText> = "JWT_HS256_SECRET" None, true;
    /// HTTP: where the issuer publishes its keys; https unless it is this machine.
    jwt_jwks_url: Option<KeysUrl> = "JWT_JWKS_URL" None, false;
    /// HTTP: file of the issuer's keys in place of an address.
    jwt_jwks_file: Option<PathBuf> = "JWT_JWKS_FILE" None, false;
    /// HTTP: seconds that fetched keys are used for.
    jwt_jwks_cache_seconds: u64 = "JWT_JWKS_CACHE_SECONDS" Some("300"), false;
    /// HTTP: refuse tokens without a key id.
    jwt_require_kid: bool = "JWT_REQUIRE_KID" Some("false"), false;
    /// HTTP: compare the issuer.
    jwt_validate_issuer: bool = "JWT_VALIDATE_ISSUER" Some("true"), false;
    /// HTTP: compare the audience.
    jwt_validate_audience: bool = "JWT_VALIDATE_AUDIENCE" Some("true"), false;
    /// HTTP: header in which a trusted proxy gives the client certificate's subject (RFC 2253).
    mtls_identity_header: String = "MTLS_IDENTITY_HEADER" Some("x-ssl-client-s-dn"), false;
    /// HTTP: header in which a trusted proxy says that it verified the certificate.
    mtls_verify_header: String = "MTLS_VERIFY_HEADER" Some("x-ssl-client-verify"), false;
    /// HTTP: attribute of a client certificate's subject that names the caller, and what its value begins with besides: CN=, UID=, OU= or serialNumber=.
    mtls_subject_cn_prefix: String = "MTLS_SUBJECT_CN_PREFIX" Some("CN="), false;
    /// HTTP: networks of the proxies whose identity headers count.
    mtls_trusted_proxies: Vec<IpNet> = "MTLS_TRUSTED_PROXIES" Some("127.0.0.1/32"), false;
    /// HTTP: PEM file of this server's own certificate and its chain.
    tls_cert: Option<PathBuf> = "TLS_CERT" None, false;
    /// HTTP: PEM file of its key.
    tls_key: Option<PathBuf> = "TLS_KEY" None, false;
    /// HTTP: PEM file of the authorities whose client certificates name callers.
    tls_client_ca: Option<PathBuf> = "TLS_CLIENT_CA" None, false;
    /// Use a Vault token of its own for each subject, with the policy of that subject alone.
    child_token_enabled: bool = "CHILD_TOKEN_ENABLED" Some("false"), false;
    /// How long such a token lives.
    child_token_ttl: Seconds = "CHILD_TOKEN_TTL" Some("90s"), false;
    /// What the names of the subjects' policies begin with.
    child_token_policy_prefix: PolicyPrefix = "CHILD_TOKEN_POLICY_PREFIX" Some("mcp-agent-"), false;
    /// Token role to make such tokens by; without one the server's own token needs sudo on auth/token/create.
    child_token_role: Option<EngineName> = "CHILD_TOKEN_ROLE" None, false;
    /// HTTP: collector that traces go to by OTLP over HTTP; none by default.
    otel_exporter_otlp_endpoint: Option<Collector> = "OTEL_EXPORTER_OTLP_ENDPOINT" None, false;
    /// HTTP: name of this service in traces.
    otel_service_name: String = "OTEL_SERVICE_NAME" Some("vault-mcp"), false;
}

impl Config {
    /// The settings of these layers, with what must hold between them.
    ///
    /// # Errors
    /// `config_invalid`, naming the setting, the fault and the remedy.
    pub fn load(layers: &Layers) -> Result<Self, Error> {
        let config = Self::read(layers)?;
        if *config.vault_skip_verify && !config.vault_addr.is_loopback() {
            return Err(Error::config(
                "VAULT_SKIP_VERIFY",
                "it is refused for a Vault on another machine: anyone in between could take the token. Set VAULT_CACERT to the authority's certificate.",
            ));
        }
        if config.vault_client_cert.is_some() != config.vault_client_key.is_some() {
            return Err(Error::config(
                "VAULT_CLIENT_CERT",
                "it goes with VAULT_CLIENT_KEY. Set both or neither.",
            ));
        }
        if config.vault_role_id.is_some() != config.vault_secret_id.is_some() {
            return Err(Error::config("VAULT_ROLE_ID", "it goes with VAULT_SECRET_ID. Set both or neither."));
        }
        if *config.rate_limit_requests == 0 || *config.rate_limit_window_seconds == 0 {
            return Err(Error::config(
                "RATE_LIMIT_REQUESTS",
                "it and the window must be at least 1. RATE_LIMIT_ENABLED=false switches the limit off.",
            ));
        }
        if !(1..=10_000).contains(&*config.max_concurrent_calls) {
            return Err(Error::config("MAX_CONCURRENT_CALLS", "expected 1 to 10000."));
        }
        if let Some(namespace) = config.vault_namespace.as_deref()
            && !namespace.split('/').all(|part| {
                part.is_empty()
                    || !matches!(part, "." | "..")
                        && part.chars().all(|c| c.is_ascii_alphanumeric() || "._-".contains(c))
            })
        {
            return Err(Error::config(
                "VAULT_NAMESPACE",
                "expected names of letters, digits, '.', '_' and '-', joined by '/'.",
            ));
        }
        if !(5..=86_400).contains(&config.child_token_ttl.0) {
            return Err(Error::config(
                "CHILD_TOKEN_TTL",
                "expected 5s to 24h: shorter ends within a call, longer is no short life.",
            ));
        }
        config.check_aws()?;
        for (name, root) in [("KV_ROOT", &*config.kv_root), ("SERVICES_PATH", &*config.services_path)] {
            let filled = fill(root, &config.default_prefix, "a");
            if filled != "/" && crate::names::SecretPath::parse(filled.trim_matches('/')).is_err() {
                return Err(Error::config(
                    name,
                    "it is no path of plain names and {subject} or {DEFAULT_PREFIX}.",
                ));
            }
        }
        if !["error", "warn", "info", "debug", "trace", "off"]
            .contains(&config.log_level.to_ascii_lowercase().as_str())
        {
            return Err(Error::config("LOG_LEVEL", "expected one of: error, warn, info, debug, trace, off."));
        }
        Ok(config)
    }

    /// What must hold besides when many callers are served over HTTP.
    ///
    /// # Errors
    /// `config_invalid`, naming the setting, the fault and the remedy.
    pub fn check_http(&self) -> Result<(), Error> {
        if !self.kv_root.contains("{subject}") || !self.services_path.contains("{subject}") {
            return Err(Error::config(
                if self.kv_root.contains("{subject}") { "SERVICES_PATH" } else { "KV_ROOT" },
                "with --http it must contain {subject}: else every caller would reach every other's secrets.",
            ));
        }
        if *self.path_names == PathNames::Any {
            return Err(Error::config(
                "PATH_NAMES",
                "`any` is for stdio only. Leave it at `strict` with --http.",
            ));
        }
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return Err(Error::config("TLS_CERT", "it goes with TLS_KEY. Set both or neither."));
        }
        if self.tls_client_ca.is_some() && self.tls_cert.is_none() {
            return Err(Error::config("TLS_CLIENT_CA", "it goes with TLS_CERT and TLS_KEY. Set them, too."));
        }
        let behind_a_proxy = *self.auth_mtls_enabled
            && self.mtls_trusted_proxies.source != Source::Default
            && !self.mtls_trusted_proxies.is_empty();
        if !self.host.is_loopback() && self.tls_cert.is_none() && !behind_a_proxy {
            return Err(Error::config(
                "HOST",
                "credentials would cross the network in the clear. Set TLS_CERT and TLS_KEY, or AUTH_MTLS_ENABLED=true and MTLS_TRUSTED_PROXIES for a TLS proxy before it, or listen on 127.0.0.1.",
            ));
        }
        if *self.sse_keepalive_seconds == 0 {
            return Err(Error::config("SSE_KEEPALIVE_SECONDS", "expected at least 1."));
        }
        Ok(())
    }

    /// `AWS_REGION` is in many an environment for other programs: it is looked at only where KMS is on.
    fn check_aws(&self) -> Result<(), Error> {
        if let Some(endpoint) = &*self.aws_kms_endpoint
            && !endpoint.as_str().starts_with("https://")
            && !endpoint.is_loopback()
        {
            return Err(Error::config(
                "AWS_KMS_ENDPOINT",
                "plain http is refused for another machine: plaintexts and keys would go over the wire in the clear. Give an https address.",
            ));
        }
        if !*self.aws_kms_enabled {
            return Ok(());
        }
        if !cfg!(feature = "kms") {
            return Err(Error::config(
                "AWS_KMS_ENABLED",
                "this program was built without AWS KMS. Build it with the feature `kms`, or leave the setting out.",
            ));
        }
        match self.aws_region.as_deref().map(AwsRegion::parse) {
            Some(Err(_)) => {
                Err(Error::config("AWS_REGION", "it is no region of AWS. Give one as eu-central-1."))
            }
            Some(Ok(_)) | None => Ok(()),
        }
    }

    /// Where the audit log lies.
    ///
    /// # Errors
    /// When the platform names no data folder and `AUDIT_LOG` is not set.
    pub fn audit_path(&self) -> Result<PathBuf, Error> {
        Ok(match &*self.audit_log {
            Some(path) => path.clone(),
            None => audit::default_path()?,
        })
    }

    /// The audit log's settings.
    ///
    /// # Errors
    /// As [`Self::audit_path`].
    pub fn audit_settings(&self) -> Result<audit::Settings, Error> {
        let fsync = match *self.audit_fsync {
            AuditFsync::Always => audit::Fsync::Always,
            AuditFsync::Writes => audit::Fsync::Writes,
            AuditFsync::Never => audit::Fsync::Never,
        };
        Ok(audit::Settings { fsync, ..audit::Settings::new(self.audit_path()?) })
    }

    /// True when the Vault is the embedded dev Vault of this very process.
    #[must_use]
    pub fn is_dev(&self) -> bool {
        self.dev
    }

    /// Takes a token that a human typed in place of any other.
    pub fn give_token(&mut self, token: SecretText) {
        self.vault_token = Setting { value: Some(token), source: Source::Argument };
    }

    /// Points the settings at the embedded Vault of this process, whatever the environment says.
    ///
    /// # Errors
    /// When the address is none.
    pub fn use_embedded(&mut self, url: &str, token: SecretText) -> Result<(), Error> {
        let address = <Address as FromSetting>::parse(url).map_err(|fault| Error::config("--dev", fault))?;
        self.vault_addr = Setting { value: address, source: Source::Argument };
        self.vault_namespace = Setting { value: None, source: Source::Argument };
        self.give_token(token);
        self.dev = true;
        Ok(())
    }

    /// Whom stdio calls act for.
    #[must_use]
    pub fn stdio_subject(&self, login_name: Option<&str>) -> Subject {
        let fitted = || {
            let name: String = login_name
                .unwrap_or("user")
                .to_ascii_lowercase()
                .chars()
                .map(|c| if c.is_ascii_alphanumeric() || matches!(c, '_' | '-') { c } else { '-' })
                .take(63)
                .collect();
            Subject::parse(name.trim_start_matches(['-', '_'])).ok()
        };
        let fallback = || Subject::parse("user").ok();
        match self.subject.clone().or_else(fitted).or_else(fallback) {
            Some(subject) => subject,
            None => unreachable!("'user' is a subject"),
        }
    }
}

/// Fills a folder template.
#[must_use]
pub fn fill(template: &str, prefix: &str, subject: &str) -> String {
    template.replace("{DEFAULT_PREFIX}", prefix).replace("{subject}", subject)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::effect::Effect;

    fn layers(environment: &[(&str, &str)]) -> Layers {
        let environment = environment.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        Layers { environment, ..Layers::default() }
    }

    #[test]
    fn arguments_win_over_environment_over_file_over_default() {
        let mut layers = layers(&[("KV_MOUNT", "env"), ("BAO_ADDR", "http://127.0.0.1:1")]);
        layers.file = Some((
            "c.toml".into(),
            [("KV_MOUNT".to_owned(), "file".to_owned()), ("REVEAL".to_owned(), "never".to_owned())].into(),
        ));
        let config = Config::load(&layers).unwrap();
        assert_eq!(config.kv_mount.as_str(), "env");
        assert_eq!(*config.reveal, Reveal::Never);
        assert_eq!(config.vault_addr.source, Source::Environment("BAO_ADDR".into()));
        layers.arguments.insert("KV_MOUNT".into(), "arg".into());
        assert_eq!(Config::load(&layers).unwrap().kv_mount.as_str(), "arg");
    }

    #[test]
    fn an_unexpanded_variable_is_refused_by_name_and_never_echoed() {
        let error = Config::load(&layers(&[("VAULT_TOKEN", "${VAULT_TOKEN_canary}")])).unwrap_err();
        assert_eq!(error.code(), "config_invalid");
        assert!(
            error.to_string().starts_with("VAULT_TOKEN: ") && !error.to_string().contains("canary"),
            "{error}"
        );
    }

    #[test]
    fn a_secret_never_prints() {
        let config = Config::load(&layers(&[("VAULT_TOKEN", "hvs.canary")])).unwrap();
        assert!(!format!("{config:?}{:?}", config.effective()).contains("canary"));
    }

    #[test]
    fn an_address_with_anything_but_scheme_host_and_port_is_refused() {
        for text in ["ftp://h", "http://h/x", "http://u:p@h", "http://h?x", "h:8200", "http://"] {
            assert!(<Address as FromSetting>::parse(text).is_err(), "{text}");
        }
        let remote = layers(&[("VAULT_SKIP_VERIFY", "true"), ("VAULT_ADDR", "https://vault.example.com")]);
        assert!(Config::load(&remote).is_err());
    }

    #[test]
    fn kms_goes_to_another_machine_by_https_only() {
        for (endpoint, fits) in [
            ("https://kms.example.com", true),
            ("http://127.0.0.1:4566", true),
            ("http://localhost:4566", true),
            ("http://169.254.169.254", false),
            ("http://kms.eu-west-1.amazonaws.com", false),
            ("https://kms.example.com/path", false),
        ] {
            assert_eq!(Config::load(&layers(&[("AWS_KMS_ENDPOINT", endpoint)])).is_ok(), fits, "{endpoint}");
        }
    }

    #[cfg(feature = "kms")]
    #[test]
    fn a_region_that_is_none_matters_only_where_kms_is_on() {
        for region in ["evil.example.com/", "EU-WEST-1", "eu west", "-", "eu-"] {
            assert!(Config::load(&layers(&[("AWS_REGION", region)])).is_ok());
            let on = layers(&[("AWS_REGION", region), ("AWS_KMS_ENABLED", "true")]);
            assert_eq!(Config::load(&on).unwrap_err().code(), "config_invalid", "{region}");
        }
        let on = layers(&[("AWS_REGION", "us-gov-west-1"), ("AWS_KMS_ENABLED", "true")]);
        assert!(Config::load(&on).is_ok());
    }

    #[cfg(not(feature = "kms"))]
    #[test]
    fn a_build_without_kms_does_not_claim_to_have_it() {
        assert_eq!(
            Config::load(&layers(&[("AWS_KMS_ENABLED", "true")])).unwrap_err().code(),
            "config_invalid"
        );
    }

    #[test]
    fn confirm_effects_cannot_remove_write_or_destroy() {
        for text in ["-write", "-destroy", "none", "-read"] {
            assert!(ConfirmEffects::parse(text).is_err(), "{text}");
        }
        let without = ConfirmEffects::parse("-issue").unwrap();
        assert!(
            !without.contains(Effect::Issue)
                && without.contains(Effect::Write)
                && without.contains(Effect::Destroy)
        );
    }

    #[test]
    fn a_login_name_is_made_to_fit_a_subject() {
        let config = Config::load(&layers(&[])).unwrap();
        assert_eq!(config.stdio_subject(Some("Jane.Doe")).as_str(), "jane-doe");
        assert_eq!(config.stdio_subject(Some("--")).as_str(), "user");
    }
}
