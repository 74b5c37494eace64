//! The session itself: whose token it is, what it may do, how to log in, and how to end it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    broker::{Granted, Look, Place},
    caller::Scope,
    error::Error,
    names::shown,
    op::{Effect, Operation, Preview, Spec, Target, Toolset},
    vault::sys::{self, InternalMounts, LookupSelf, Seal, SealStatus},
};

/// No arguments.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// `vault_status`.
pub struct Status;

/// Answer of `vault_status`.
#[derive(Serialize, JsonSchema)]
pub struct StatusOutput {
    /// Whom the calls act for.
    subject: String,
    /// Display name of the token.
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<String>,
    /// Its policies.
    policies: Vec<String>,
    /// When it ends (RFC 3339); absent when it does not, or the server renews it by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<String>,
    /// Seconds left; absent likewise.
    #[serde(skip_serializing_if = "Option::is_none")]
    seconds_left: Option<u64>,
    /// Address of Vault.
    address: String,
    /// Version of Vault.
    #[serde(skip_serializing_if = "Option::is_none")]
    vault_version: Option<String>,
    /// True when Vault is sealed.
    sealed: bool,
    /// Whether the token may write in the subject's tree; absent when it may not ask.
    #[serde(skip_serializing_if = "Option::is_none")]
    can_write: Option<bool>,
    /// What is wrong with the session, if anything, with the remedy.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    /// True for the embedded dev Vault: everything in it is gone when it ends.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    dev: bool,
}

impl Operation for Status {
    const SPEC: Spec = Spec {
        id: "vault_status",
        title: "Session status",
        summary: "Show the session: subject, policies, time left, whether Vault is sealed and the token may write. Use it when a call was refused or to check the set-up; there is no need to call it before other tools.",
        scope: Some(Scope::Read),
        effect: Effect::Read,
        toolset: Toolset::Session,
        idempotent: true,
    };
    type Input = Nothing;
    type Output = StatusOutput;

    fn target(_: &Self::Input, _: &Place) -> Result<Target, Error> {
        Ok(Target::named("auth/token/lookup-self"))
    }

    async fn run(_: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let session = granted.session();
        let place = granted.place();
        let sample = format!("{}/data/{}/x", place.mount(None)?, place.services());
        let seal = async { session.read_raw_openly(&SealStatus).await?.json::<Seal>() };
        let (seal, info, capabilities) = futures_util::future::join3(
            seal,
            session.read(&LookupSelf),
            sys::capabilities(session, vec![sample]),
        )
        .await;
        let seal = seal?;
        let (info, problem) = match info {
            Ok(envelope) => (envelope.data, None),
            Err(error) => (None, Some(error.to_string())),
        };
        let mut output = StatusOutput {
            subject: place.subject().as_str().to_owned(),
            user: None,
            policies: Vec::new(),
            expires: None,
            seconds_left: None,
            address: session.address().to_owned(),
            vault_version: Some(seal.version).filter(|version| !version.is_empty()),
            sealed: seal.sealed,
            can_write: capabilities
                .ok()
                .and_then(|list| Some(sys::allows(list.first()?, &["create", "update"]))),
            problem: if seal.sealed { Some(Error::VaultSealed.to_string()) } else { problem },
            dev: granted.config().is_dev(),
        };
        if let Some(info) = info {
            output.user = Some(shown(&info.display_name, 128)).filter(|name| !name.is_empty());
            output.policies = info.policies;
            output.policies.extend(info.identity_policies.unwrap_or_default());
            output.policies.dedup();
            if !session.is_a_subjects() {
                output.seconds_left = Some(info.ttl).filter(|_| info.expire_time.is_some());
                output.expires = info.expire_time;
            }
        }
        Ok(output)
    }
}

/// `vault_login`.
pub struct Login;

/// Answer of `vault_login`.
#[derive(Serialize, JsonSchema)]
pub struct LoginOutput {
    /// What the user can do, in their own terminal.
    instructions: Vec<String>,
}

impl Operation for Login {
    const SPEC: Spec = Spec {
        id: "vault_login",
        title: "How to log in",
        summary: "Give the user instructions for logging in to Vault. It takes no credential: never ask the user to paste a token or password into the conversation.",
        scope: None,
        effect: Effect::Read,
        toolset: Toolset::Session,
        idempotent: true,
    };
    type Input = Nothing;
    type Output = LoginOutput;

    fn target(_: &Self::Input, _: &Place) -> Result<Target, Error> {
        Ok(Target::named("-"))
    }

    async fn run(_: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        if !granted.caller().front.is_on_this_machine() {
            return Ok(LoginOutput {
                instructions: vec![
                    "Nobody logs in to Vault over this server: your own credential names you to it, and it has a Vault token.".into(),
                    "Where Vault refuses a call, its message says what is missing; the operator of this server can give it.".into(),
                    "Never paste a token or password into the conversation.".into(),
                ],
            });
        }
        let address = granted.session().address();
        Ok(LoginOutput {
            instructions: vec![
                format!("In a terminal of your own: export VAULT_ADDR={address}"),
                "Log in with your method, for example: vault login -method=oidc (it keeps the token in ~/.vault-token, which this server reads).".into(),
                "Or set VAULT_TOKEN (or VAULT_TOKEN_FILE) where the AI client starts this server, and start the client again.".into(),
                "Never paste a token or password into the conversation.".into(),
            ],
        })
    }
}

/// `vault_logout`.
pub struct Logout;

/// Answer of `vault_logout`.
#[derive(Serialize, JsonSchema)]
pub struct LogoutOutput {
    /// True: the token no longer works.
    revoked: bool,
    /// What is left for the user to remove.
    clean_up: Vec<String>,
}

impl Operation for Logout {
    const SPEC: Spec = Spec {
        id: "vault_logout",
        title: "Log out",
        summary: "Revoke the session's token, so that no further call works until the user logs in again. A human confirms it first. Use it only when the user asks to log out.",
        scope: None,
        effect: Effect::Destroy,
        toolset: Toolset::Session,
        idempotent: false,
    };
    const ENDS_TOKEN: bool = true;
    type Input = Nothing;
    type Output = LogoutOutput;

    fn target(_: &Self::Input, _: &Place) -> Result<Target, Error> {
        Ok(Target::named("auth/token/revoke-self"))
    }

    async fn observe(_: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let info = look.read(&LookupSelf).await?.data;
        let name = info.map(|info| shown(&info.display_name, 64)).filter(|name| !name.is_empty());
        let detail = name.map(|name| format!("the token of {name}; its leases and child tokens end with it"));
        Ok(Preview { verb: "REVOKE", detail: detail.unwrap_or_default(), ..Preview::default() })
    }

    async fn run(_: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let session = granted.session();
        session.end_token().await?;
        let clean_up = if session.is_a_subjects() {
            vec![
                "It was a token of your own, made by this server; leases issued with it ended with it.".into(),
                "The next call gets a new one. To end that, the operator removes your credential, or your policy in Vault.".into(),
            ]
        } else {
            vec![
                "Remove VAULT_TOKEN from the client's configuration and from your shell (unset VAULT_TOKEN)."
                    .into(),
                "Remove ~/.vault-token if it held this token.".into(),
            ]
        };
        Ok(LogoutOutput { revoked: true, clean_up })
    }
}

/// `mounts.list`.
pub struct Mounts;

/// Answer of `mounts.list`.
#[derive(Serialize, JsonSchema)]
pub struct MountsOutput {
    /// The engines.
    mounts: Vec<Mount>,
}

/// One engine.
#[derive(Serialize, JsonSchema)]
pub struct Mount {
    /// Its path, without a slash at the end.
    path: String,
    /// kv, transit, ssh, …
    #[serde(rename = "type")]
    kind: String,
    /// Version of a KV engine.
    #[serde(skip_serializing_if = "Option::is_none")]
    version: Option<String>,
    /// What the token may do in the subject's tree (KV) or on the engine.
    capabilities: Vec<String>,
    /// True when this server's tools use it.
    used: bool,
}

impl Operation for Mounts {
    const SPEC: Spec = Spec {
        id: "mounts.list",
        title: "List engines",
        summary: "List the engines that the token can see: path, type, version, and what it may do there. Use it when a mount is missing or a call was refused. It shows no secrets.",
        scope: Some(Scope::List),
        effect: Effect::Read,
        toolset: Toolset::Session,
        idempotent: true,
    };
    type Input = Nothing;
    type Output = MountsOutput;

    fn target(_: &Self::Input, _: &Place) -> Result<Target, Error> {
        Ok(Target::named("sys/internal/ui/mounts"))
    }

    async fn run(_: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let place = granted.place();
        let seen = granted
            .session()
            .read(&InternalMounts)
            .await?
            .data
            .ok_or(Error::VaultAnswer { fault: "no list of mounts" })?;
        let mut mounts: Vec<Mount> = seen
            .secret
            .into_iter()
            .filter(|(_, mount)| {
                !matches!(
                    mount.kind.as_str(),
                    "system" | "identity" | "cubbyhole" | "ns_system" | "ns_identity" | "ns_cubbyhole"
                )
            })
            .map(|(path, mount)| {
                let path = shown(path.trim_end_matches('/'), 128);
                let version =
                    mount.options.and_then(|options| Some(options.get("version")?.as_str()?.to_owned()));
                let used = place.mounts().iter().any(|name| name.as_str() == path);
                Mount { path, kind: mount.kind, version, capabilities: Vec::new(), used }
            })
            .collect();
        let folder = place.services();
        let probe = |mount: &Mount| match (mount.kind.as_str(), mount.version.as_deref()) {
            ("kv", Some("2")) => format!("{}/data/{folder}/x", mount.path),
            ("kv" | "generic", _) => format!("{}/{folder}/x", mount.path),
            _ => format!("{}/x", mount.path),
        };
        if !mounts.is_empty()
            && let Ok(lists) = sys::capabilities(granted.session(), mounts.iter().map(probe).collect()).await
        {
            for (mount, list) in mounts.iter_mut().zip(lists) {
                mount.capabilities = list;
            }
        }
        Ok(MountsOutput { mounts })
    }
}
