//! The one error type. Every variant names a fault, `code()` is the stable word that clients and the
//! audit log see, and `Display` says the fault first and the remedy after it.
//!
//! No variant carries a secret, a response body or another crate's `Debug` text: what is put in here
//! may be shown to a model.

use std::borrow::Cow;

use crate::{
    audit::AuditError,
    codes::{Code, Kind, codes},
};

/// Everything that can go wrong between a caller and Vault.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// An argument does not parse. `field` is a JSON path of argument names, never a value.
    #[error("{field}: {fault}. Correct the argument and call again.")]
    InvalidInput {
        /// Which argument.
        field: String,
        /// What is wrong with it.
        fault: Cow<'static, str>,
    },
    /// A name that would leave, or could be read as leaving, the caller's tree.
    #[error(
        "The path is not allowed: {fault}. Use 1 to 16 segments of letters, digits, '.', '_' and '-', joined by '/'."
    )]
    PathRefused {
        /// Which rule it breaks.
        fault: Cow<'static, str>,
    },
    /// No such tool, or its family is switched off.
    #[error(
        "There is no tool of that name here. Call tools/list for those that are; TOOLSETS and READ_ONLY decide which are registered."
    )]
    UnknownTool,
    /// A tool of AWS KMS, which is off.
    #[error(
        "AWS KMS is switched off here, so its tools do not exist. The user can set AWS_KMS_ENABLED=true (and AWS_REGION) for this server, have AWS credentials ready, and start it again."
    )]
    KmsOff,
    /// A value that is a mask, not a secret.
    #[error(
        "{field}: the value is a mask or a reference that an earlier answer showed in place of a secret. Leave the key out to keep its value, or give the real one."
    )]
    MaskedValue {
        /// Which argument.
        field: String,
    },
    /// `DANGEROUS_PATTERNS=block` and a value matches one.
    #[error(
        "A value contains a pattern that shells interpret ({patterns}) in: {keys}. Change the value, or set DANGEROUS_PATTERNS=warn to leave the decision to the human."
    )]
    DangerousPattern {
        /// The names of the keys.
        keys: String,
        /// The names of the patterns.
        patterns: String,
    },
    /// The request is larger than what is accepted.
    #[error("{what} is larger than {limit} bytes. Split it, or store large data elsewhere.")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// The limit in bytes.
        limit: usize,
    },

    /// Nobody knows who calls.
    #[error(
        "The caller did not prove who it is. Send an API key in X-API-Key, a token in Authorization: Bearer, or a client certificate; the audit log says what was wrong."
    )]
    Unauthorized,
    /// A page of another site would change something, with a credential that the browser added.
    #[error(
        "A page of another site sent this, which may change nothing here. To let it, name the site in CORS_ALLOW_ORIGINS, or this server's own address in PUBLIC_URL."
    )]
    ForeignOrigin,
    /// The caller lacks a scope.
    #[error("This caller lacks the scope '{scope}'. Ask the operator for a credential that has it.")]
    MissingScope {
        /// The scope.
        scope: &'static str,
    },
    /// Over the rate limit.
    #[error(
        "Rate limit exceeded. Wait {retry_after_seconds} s; RATE_LIMIT_REQUESTS and RATE_LIMIT_WINDOW_SECONDS set the limit."
    )]
    RateLimited {
        /// Whole seconds until the next call would be let through.
        retry_after_seconds: u64,
    },
    /// More calls at a time than there is room for.
    #[error(
        "More calls are running and waiting than this server takes. Nothing was done; call again in {retry_after_seconds} s. MAX_CONCURRENT_CALLS sets how many run at a time."
    )]
    Overloaded {
        /// Whole seconds to wait.
        retry_after_seconds: u64,
    },
    /// `REVEAL=never`.
    #[error(
        "This server never shows secret values to a model (REVEAL=never). Call without reveal; the user can look at the value with Vault's own tools."
    )]
    RevealForbidden,

    /// The human said no.
    #[error("The human declined. Nothing was done; do not try again unless they ask for it.")]
    Declined,
    /// The question was closed without an answer.
    #[error(
        "The question was cancelled and nobody may have been asked. Nothing was done; ask the user before calling again."
    )]
    Cancelled,
    /// There is no channel to a human.
    #[error(
        "This needs a human's yes and nobody could be asked: {why}. The user can run `vault-mcp approve` in another terminal, then call again."
    )]
    NobodyToAsk {
        /// Why not.
        why: Cow<'static, str>,
    },
    /// Nobody answered in time.
    #[error(
        "Nobody answered within {seconds} s; nobody may have been asked. Nothing was done; ask the user to watch for the question (or to run `vault-mcp approve`), then call again."
    )]
    ApprovalTimedOut {
        /// How long it waited, in seconds.
        seconds: u64,
    },
    /// The answer given was not the exact text that was asked for.
    #[error("The answer was not the word `yes`. Nothing was done; call again to be asked again.")]
    NotConfirmed,
    /// Three questions of this subject are open.
    #[error(
        "There are {limit} questions waiting for a human already. Wait until they are answered or run out."
    )]
    TooManyPending {
        /// The limit.
        limit: usize,
    },
    /// More than a caller may have open at once.
    #[error("There are {limit} {what} of this subject already. Wait until one ends, or end one.")]
    TooManyOpen {
        /// What there are too many of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A confirmation that is unknown, used, expired, or for another call.
    #[error(
        "The confirmation does not hold: {fault}. Nothing was done; call again without it to be asked anew."
    )]
    TicketInvalid {
        /// What is wrong with it.
        fault: &'static str,
    },

    /// No secret there.
    #[error("Secret not found: nothing lies at that path for this caller. List the folder to see what does.")]
    NotFound,
    /// The version was deleted or destroyed.
    #[error("Version {version} is {state}. {remedy}")]
    VersionGone {
        /// Version number.
        version: u64,
        /// `deleted` or `destroyed`.
        state: &'static str,
        /// What can be done.
        remedy: &'static str,
    },
    /// Check-and-set mismatch.
    #[error(
        "The secret changed in the meantime (check-and-set mismatch). Nothing was written; read it again and decide anew."
    )]
    Conflict,
    /// The engine is KV version 1.
    #[error(
        "This mount is KV version 1, which keeps no versions: {what} is not possible on it. Use a version 2 mount."
    )]
    UnsupportedOnKvV1 {
        /// What was asked for.
        what: &'static str,
    },
    /// No engine at the mount.
    #[error(
        "Nothing is mounted at '{mount}', or the token may not know. Check mounts_list and the setting that names it: KV_MOUNT, TRANSIT_MOUNT, DATABASE_MOUNT, SSH_MOUNT or PKI_MOUNT."
    )]
    MountNotFound {
        /// Mount path.
        mount: String,
    },
    /// Vault's policy refuses.
    #[error(
        "Forbidden by Vault policy. The token would need: path \"{path}\" {{ capabilities = [{capabilities}] }}. For a write, a person whose own token may do it can run `vault-mcp approve --login token` instead."
    )]
    Forbidden {
        /// API path as a policy names it.
        path: String,
        /// Quoted, comma-separated capabilities.
        capabilities: String,
    },
    /// There is no token.
    #[error(
        "There is no Vault token. The user can log in with `vault login` in a terminal and call again, or set VAULT_TOKEN (or VAULT_ROLE_ID and VAULT_SECRET_ID) for this server and start it again."
    )]
    TokenMissing,
    /// The token is no longer accepted.
    #[error(
        "Vault does not accept the token: it expired or was revoked. Log in again: a server that reads its token from a file takes the new one from there, one that was given VAULT_TOKEN must be given the new one."
    )]
    TokenInvalid,
    /// No token of the caller's own is to be had.
    #[error(
        "There is no Vault token of this caller's own: {fault}. The server's own is never used in its place. The operator can give the server's own token: {line}, and write the caller's policy."
    )]
    ChildToken {
        /// Why not.
        fault: Cow<'static, str>,
        /// What the policy of the server's own token has to say.
        line: String,
    },
    /// The caller's own token is no longer accepted.
    #[error(
        "Vault no longer accepts the token that was made for this caller: it was revoked, or ended early. Nothing was done; call again, with a new one."
    )]
    ChildTokenEnded,
    /// No answer at all.
    #[error("Vault at {address} cannot be reached: {fault}. Check VAULT_ADDR and that Vault is running.")]
    VaultUnreachable {
        /// Scheme, host and port.
        address: String,
        /// What happened, without bodies or headers.
        fault: Cow<'static, str>,
    },
    /// TLS failed.
    #[error(
        "The TLS connection to {address} failed: {fault}. Check VAULT_CACERT and the server's certificate."
    )]
    VaultTls {
        /// Scheme, host and port.
        address: String,
        /// What happened.
        fault: Cow<'static, str>,
    },
    /// No answer in time.
    #[error("Vault did not answer within {seconds} s. Check its health, then try again.")]
    VaultTimeout {
        /// The deadline in seconds.
        seconds: u64,
    },
    /// Sealed.
    #[error("Vault is sealed. Someone with the unseal keys must unseal it first.")]
    VaultSealed,
    /// A standby that does not forward, or a redirect.
    #[error(
        "The node at VAULT_ADDR is a standby and redirects. Point VAULT_ADDR at the active node or a load balancer."
    )]
    VaultStandby,
    /// Vault's own rate limit or quota.
    #[error("Vault itself limits the rate of requests. {remedy}")]
    VaultRateLimited {
        /// When to come back.
        remedy: String,
    },
    /// Vault says the request is wrong.
    #[error(
        "Vault refused the request as invalid (status {status}){hint}. Check the arguments and the engine's configuration."
    )]
    VaultRejected {
        /// HTTP status.
        status: u16,
        /// A bounded, value-free hint.
        hint: Cow<'static, str>,
    },
    /// Vault failed.
    #[error("Vault failed with status {status}. Try again later; its server log says why.")]
    VaultFailed {
        /// HTTP status.
        status: u16,
    },
    /// What came back is no answer of Vault's.
    #[error(
        "The answer is not one of Vault's ({fault}). Check that VAULT_ADDR names a Vault and no proxy's page."
    )]
    VaultAnswer {
        /// What is wrong with it.
        fault: &'static str,
    },
    /// A write whose outcome is not known.
    #[error(
        "It is not known whether the write took effect: {fault}. {read_back} Do not repeat it blindly; look at the current state first."
    )]
    OutcomeUnknown {
        /// What happened.
        fault: String,
        /// What a read after it showed.
        read_back: Cow<'static, str>,
    },

    /// The AWS credential chain gave nothing.
    #[error(
        "There are no AWS credentials: {fault}. The user can set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, for this server, or log in with `aws sso login`, then call again."
    )]
    KmsCredentialsMissing {
        /// What the chain ran into.
        fault: &'static str,
    },
    /// AWS does not take the credentials.
    #[error(
        "AWS does not accept the credentials: {fault}. The user can renew them (`aws sso login`, a new access key), then call again."
    )]
    KmsCredentialsRejected {
        /// Which of the ways.
        fault: &'static str,
    },
    /// IAM, the key policy or a grant does not allow it.
    #[error(
        "Forbidden by AWS. The credentials would need the action {action} on the key, in its key policy, an IAM policy or a grant."
    )]
    KmsForbidden {
        /// As a policy names it, `kms:Encrypt` say.
        action: &'static str,
    },
    /// AWS limits the rate.
    #[error("AWS KMS limits the rate of requests. Wait a few seconds, then call again.")]
    KmsThrottled,
    /// No such key in this account and region.
    #[error(
        "AWS KMS has no such key, alias or grant in this account and region. Check key_id, AWS_KMS_DEFAULT_KEY_ID and AWS_REGION."
    )]
    KmsKeyNotFound,
    /// The key is there and cannot be used for this.
    #[error("The key cannot be used for this: {fault}. Use another key, or ask the key's owner.")]
    KmsKeyUnusable {
        /// Why not.
        fault: &'static str,
    },
    /// A ciphertext that does not open.
    #[error(
        "The ciphertext does not open: it is damaged, was made with another key, or encryption_context is not the one it was made with. Give exactly the context of the encryption."
    )]
    KmsCiphertext,
    /// KMS says the request is wrong.
    #[error("AWS KMS refused the request as invalid{hint}. Check the arguments and the type of the key.")]
    KmsRejected {
        /// A bounded, value-free hint.
        hint: &'static str,
    },
    /// KMS failed.
    #[error("AWS KMS failed: {fault}. Try again later.")]
    KmsFailed {
        /// In what way.
        fault: &'static str,
    },
    /// No answer from KMS.
    #[error(
        "AWS KMS at {address} cannot be reached: {fault}. Check AWS_REGION, AWS_KMS_ENDPOINT and the network, then call again."
    )]
    KmsUnreachable {
        /// Endpoint, or the region whose endpoint was meant.
        address: String,
        /// What happened, without bodies or headers.
        fault: Cow<'static, str>,
    },

    /// A file that this server will not write.
    #[error(
        "The file is not written: {fault}. Name a new file in a folder that the client has open, or else in the working folder."
    )]
    FileRefused {
        /// Which rule it breaks.
        fault: Cow<'static, str>,
    },
    /// A file that this server will not read, or cannot make sense of.
    #[error(
        "The file is not used: {fault}. Name a text file of at most 1 MiB in a folder that the client has open, or else in the working folder."
    )]
    FileUnreadable {
        /// Which rule it breaks; a line by its number, never by its text.
        fault: Cow<'static, str>,
    },
    /// Keys that a file of this kind could not give back as they are in Vault.
    #[error(
        "Nothing is written, for readers of the file would not get what Vault has: {keys}. Choose another format or dialect, or change the key in Vault."
    )]
    NotCarried {
        /// Key names, each with what is in the way.
        keys: String,
    },
    /// A lease that this server did not issue to this caller.
    #[error(
        "This server issued no such lease to this caller, or it has ended. db_leases lists those it knows."
    )]
    LeaseUnknown,
    /// An approver with its own login could not carry the call out.
    #[error("{text}")]
    Elsewhere {
        /// The code that the approver gave.
        code: &'static str,
        /// Its fault and remedy.
        text: String,
    },

    /// The audit log refuses.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The operation took effect, but its record could not be written.
    #[error(
        "The operation was applied, but its audit record could not be written. Do not retry it; repair the audit log ({fault})."
    )]
    AppliedUnrecorded {
        /// The audit log's own fault.
        fault: String,
    },
    /// Settings do not fit.
    #[error("{setting}: {fault}")]
    Config {
        /// Name of the setting.
        setting: String,
        /// Fault and remedy.
        fault: String,
    },
    /// The server is going down.
    #[error("The server is shutting down. Start it again and repeat the call.")]
    ShuttingDown,
    /// A state that should not be.
    #[error("Internal error: {what}. Please report it.")]
    Internal {
        /// Which invariant failed.
        what: &'static str,
    },
}

codes!(Error {
    Self::InvalidInput { .. } => Input "invalid_input", "an argument is missing, unknown, or not of its type or form";
    Self::PathRefused { .. } => Input "path_refused", "a path would leave, or could be read as leaving, the caller's tree";
    Self::UnknownTool => Absent "unknown_tool", "there is no such tool, or its family is switched off";
    Self::KmsOff => Unavailable "kms_off", "`AWS_KMS_ENABLED` is false, and the call is for AWS KMS";
    Self::MaskedValue { .. } => Input "masked_value", "a value to be written is a mask or reference that an earlier answer showed";
    Self::DangerousPattern { .. } => Input "dangerous_pattern", "`DANGEROUS_PATTERNS=block`, and a value holds what a shell would interpret";
    Self::TooLarge { .. } => TooLarge "too_large", "the request, or a part of it, is over its limit";
    Self::Unauthorized => NobodyKnown "unauthorized", "over HTTP: no credential, one that does not hold, or two of different callers";
    Self::ForeignOrigin => NotAllowed "foreign_origin", "over HTTP: a page of a site that is not in `CORS_ALLOW_ORIGINS` would change something";
    Self::MissingScope { .. } => NotAllowed "missing_scope", "the caller's credential does not allow this kind of call";
    Self::RateLimited { .. } => Busy "rate_limited", "more calls than `RATE_LIMIT_REQUESTS` in the window";
    Self::Overloaded { .. } => Unavailable "overloaded", "more calls at a time than there is room for";
    Self::RevealForbidden => NotAllowed "reveal_forbidden", "`REVEAL=never`, and the call asks to see values";
    Self::Declined => NotAllowed "declined", "the human said no";
    Self::Cancelled => NotAllowed "cancelled", "the question was closed, or the call ended, without an answer";
    Self::NobodyToAsk { .. } => Unavailable "nobody_to_ask", "no approver is attached and the client cannot show a question";
    Self::ApprovalTimedOut { .. } => NotAllowed "approval_timed_out", "no answer before the question ran out";
    Self::NotConfirmed => NotAllowed "not_confirmed", "something other than `yes` was answered";
    Self::TooManyPending { .. } => Busy "too_many_pending", "three questions of this subject are open already";
    Self::TooManyOpen { .. } => Busy "too_many_open", "64 calls or streams of this subject over HTTP are open already";
    Self::TicketInvalid { .. } => NotAllowed "ticket_invalid", "a confirmation is forged, used, expired, or for another call";
    // Vault's own word for it, and the one that clients of its libraries know.
    Self::NotFound => Absent "invalid_path", "no secret there";
    Self::VersionGone { .. } => Absent "version_gone", "the version was deleted or destroyed";
    Self::Conflict => Conflict "conflict", "the secret is not at the version that was given or previewed";
    Self::UnsupportedOnKvV1 { .. } => Input "unsupported_on_kv_v1", "the mount is KV version 1, which keeps no versions";
    Self::MountNotFound { .. } => Absent "mount_not_found", "no engine at the mount, or the token may not know";
    Self::Forbidden { .. } => NotAllowed "forbidden", "Vault's policy does not allow it; the message has the line that would";
    Self::TokenMissing => Unavailable "token_missing", "there is no Vault token";
    Self::TokenInvalid => Unavailable "token_invalid", "Vault no longer accepts the token";
    Self::ChildToken { .. } => Unavailable "child_token", "no Vault token of the caller's own can be had; the message has the policy line that is missing";
    Self::ChildTokenEnded => Unavailable "child_token_ended", "the caller's own token was revoked in between";
    Self::VaultUnreachable { .. } => Upstream "vault_unreachable", "no connection, or it broke before an answer";
    Self::VaultTls { .. } => Upstream "vault_tls", "the TLS connection fails, most often over the certificate";
    Self::VaultTimeout { .. } => Timeout "vault_timeout", "no answer before the deadline";
    Self::VaultSealed => Unavailable "vault_sealed", "Vault is sealed";
    Self::VaultStandby => Unavailable "vault_standby", "the node is a standby or redirects";
    Self::VaultRateLimited { .. } => Unavailable "vault_rate_limited", "Vault's own rate limit or quota";
    Self::VaultRejected { .. } => Input "vault_rejected", "Vault refused the request as invalid";
    Self::VaultFailed { .. } => Upstream "vault_failed", "Vault answered with a failure of its own";
    Self::VaultAnswer { .. } => Upstream "vault_answer", "what answered does not speak as Vault does";
    Self::OutcomeUnknown { .. } => Upstream "outcome_unknown", "the connection broke during a write, and whether it happened cannot be told";
    Self::KmsCredentialsMissing { .. } => Unavailable "kms_credentials_missing", "the AWS credential chain gave no credentials";
    Self::KmsCredentialsRejected { .. } => Unavailable "kms_credentials_rejected", "AWS does not accept the credentials";
    Self::KmsForbidden { .. } => NotAllowed "kms_forbidden", "no policy or grant of AWS allows it";
    Self::KmsThrottled => Unavailable "kms_throttled", "AWS KMS limits the rate of requests";
    Self::KmsKeyNotFound => Absent "kms_key_not_found", "AWS KMS has no such key in the account and region";
    Self::KmsKeyUnusable { .. } => Input "kms_key_unusable", "the key is disabled, pending deletion, or not of the kind that can do it";
    Self::KmsCiphertext => Input "kms_ciphertext", "a ciphertext is damaged, or of another key or encryption context";
    Self::KmsRejected { .. } => Input "kms_rejected", "AWS KMS refused the request as invalid";
    Self::KmsFailed { .. } => Upstream "kms_failed", "AWS KMS answered with a failure of its own, or as it never does";
    Self::KmsUnreachable { .. } => Upstream "kms_unreachable", "no connection to AWS KMS, or no answer before the deadline";
    Self::FileRefused { .. } => Input "file_refused", "a file lies outside the client's folders, exists already, or is behind a link";
    Self::FileUnreadable { .. } => Input "file_unreadable", "a file lies outside the client's folders, is no text, or cannot be edited or read with certainty";
    Self::NotCarried { .. } => Input "not_carried", "a value or key name that a file of this kind would not give back unchanged, or that would steer programs";
    Self::LeaseUnknown => Absent "lease_unknown", "the lease is not one that this server issued to this caller";
    Self::AppliedUnrecorded { .. } => Internal "applied_unrecorded", "the write happened, but its end could not be recorded";
    Self::Config { .. } => Internal "config_invalid", "a setting does not fit";
    Self::ShuttingDown => Unavailable "shutting_down", "the server is ending";
    Self::Internal { .. } => Internal "internal", "a fault in this program";
} {
    Self::Elsewhere { code, .. } => code, Self::kind_of(code);
    Self::Audit(inner) => inner.code(), inner.kind();
});

impl Error {
    /// A code that came over a wire, as one of ours; `failed_elsewhere` for any other.
    #[must_use]
    pub fn known_code(code: &str) -> &'static str {
        let known = Self::CODES.iter().chain(AuditError::CODES).chain(Self::ELSEWHERE);
        known.map(|known| known.code).find(|known| *known == code).unwrap_or("failed_elsewhere")
    }

    /// What sort of fault a code stands for; [`Kind::Upstream`] for one that only an approver gives.
    #[must_use]
    pub fn kind_of(code: &str) -> Kind {
        let known = Self::CODES.iter().chain(AuditError::CODES).chain(Self::ELSEWHERE);
        known.filter(|known| known.code == code).map(|known| known.kind).next().unwrap_or(Kind::Upstream)
    }

    /// Codes that only an approver with its own login gives.
    pub const ELSEWHERE: &[Code] = &[
        Code {
            code: "target_differs",
            kind: Kind::Upstream,
            when: "the approver's settings lead the same call to another path",
        },
        Code {
            code: "failed_elsewhere",
            kind: Kind::Upstream,
            when: "the approver gave a code that this version does not know",
        },
    ];

    /// A fault in one argument, by its name.
    pub fn input(field: impl Into<String>, fault: impl Into<Cow<'static, str>>) -> Self {
        Self::InvalidInput { field: field.into(), fault: fault.into() }
    }

    /// A setting that does not fit.
    pub fn config(setting: impl Into<String>, fault: impl Into<String>) -> Self {
        Self::Config { setting: setting.into(), fault: fault.into() }
    }

    /// Seconds after which the same call may go through, where that is known.
    #[must_use]
    pub fn retry_after_seconds(&self) -> Option<u64> {
        match self {
            Self::RateLimited { retry_after_seconds } | Self::Overloaded { retry_after_seconds } => {
                Some(*retry_after_seconds)
            }
            _ => None,
        }
    }

    /// True when the call was refused for what it says, before anything was decided about it.
    #[must_use]
    pub fn is_validation(&self) -> bool {
        matches!(
            self,
            Self::InvalidInput { .. }
                | Self::PathRefused { .. }
                | Self::UnknownTool
                | Self::KmsOff
                | Self::MaskedValue { .. }
                | Self::DangerousPattern { .. }
                | Self::TooLarge { .. }
        )
    }
}
