//! Database credentials and the leases they come with.

use std::time::{Duration, Instant};

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de::Error as _};
use zeroize::Zeroizing;

use crate::{
    broker::{Granted, Look, Place},
    caller::Scope,
    error::Error,
    handover::{FileName, NewFile, render},
    names::{EngineName, shown},
    op::{Effect, Files, Need, Operation, Preview, Rest, RestAnswer, Spec, Target, Toolset, Verb},
    secret::DisclosedValue,
    vault::{
        Lease,
        http::LEASE_ENDED,
        issue::{IssueDatabaseCreds, RenewLease, RevokeLease},
    },
};

/// `db.issue_creds`.
pub struct Issue;

/// Arguments of `db.issue_creds`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IssueInput {
    /// Role of the database engine.
    role: EngineName,
    /// true asks the human to let you see the password.
    #[serde(default)]
    reveal: bool,
    /// New file (0600) that takes user name and password: .env lines, or JSON for .json.
    to: Option<FileName>,
}

/// Answer of `db.issue_creds`.
#[derive(Serialize, JsonSchema)]
pub struct IssueOutput {
    /// Name of the database user.
    username: String,
    /// Its password, or a mask.
    password: DisclosedValue,
    /// File that has both.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Lease; revoke it when it is no longer needed.
    lease_id: String,
    /// Seconds it lasts.
    lease_duration: u64,
    /// True when it can be renewed.
    renewable: bool,
}

impl Operation for Issue {
    const SPEC: Spec = Spec {
        id: "db.issue_creds",
        title: "Issue database credentials",
        summary: "Have Vault make a database user from a role, with a lease. A human confirms it first. Give `to` to put user and password into a new file; without it the password is masked and of no use. Revoke the lease when done.",
        scope: Some(Scope::Write),
        effect: Effect::Issue,
        toolset: Toolset::Db,
        idempotent: false,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/db/creds/{role}",
        answer: RestAnswer::Output,
        about: "Has Vault make a database user from a role, with a lease. Revoke the lease when the user is no longer needed.",
    });
    type Input = IssueInput;
    type Output = IssueOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        let path = format!("{}/creds/{}", place.engines().database, input.role);
        Ok(Target::at(path, &["read"]))
    }

    fn files(input: &Self::Input) -> Files {
        Files::written_by("to", input.to.as_ref())
    }

    fn wants_reveal(input: &Self::Input) -> bool {
        input.reveal
    }

    async fn observe(input: &Self::Input, _: Look<'_>) -> Result<Preview, Error> {
        let detail = match &input.to {
            Some(file) => format!("database user and password to the file {}", shown(file.as_str(), 120)),
            None => "a database user".to_owned(),
        };
        Ok(Preview { verb: "ISSUE", detail, ..Preview::default() })
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        // Made before the user is: a file that cannot be had must not leave credentials behind.
        let file = input.to.as_ref().map(|name| NewFile::create(name, granted.roots())).transpose()?;
        let request = IssueDatabaseCreds {
            mount: granted.place().engines().database.as_str().to_owned(),
            role: input.role.as_str().to_owned(),
        };
        let envelope = granted.session().write(&request, "\"read\"").await.map_err(role_missing)?;
        let creds = envelope.data.ok_or(Error::VaultAnswer { fault: "credentials without data" })?;
        let password = Zeroizing::new(creds.password);
        let session = granted.session();
        let holder = session.holder();
        let seconds = session.hold(&holder, envelope.lease_duration).await;
        session.leases().issued(Lease {
            id: envelope.lease_id.clone(),
            subject: granted.caller().subject.clone(),
            role: input.role.as_str().to_owned(),
            ends: Instant::now() + Duration::from_secs(seconds),
            renewable: envelope.renewable,
            holder,
        });
        let path = match (file, &input.to) {
            (Some(file), Some(name)) => {
                let content =
                    render::entries(name, &[("DB_USERNAME", &creds.username), ("DB_PASSWORD", &password)])?;
                Some(file.fill(&content)?.display().to_string())
            }
            _ => None,
        };
        let length = password.len();
        Ok(IssueOutput {
            username: creds.username,
            password: granted.disclose_text(password, length),
            file: path,
            lease_id: envelope.lease_id,
            lease_duration: seconds,
            renewable: envelope.renewable,
        })
    }
}

/// An engine's 404 or 400 about a role is no missing secret.
pub(crate) fn role_missing(error: Error) -> Error {
    match error {
        Error::NotFound => Error::VaultRejected { status: 404, hint: ": there is no such role".into() },
        other => other,
    }
}

/// Vault knows nothing of the lease any more.
fn has_ended(error: &Error) -> bool {
    matches!(error, Error::VaultRejected { hint, .. } if hint == LEASE_ENDED)
}

/// Id of a lease. Only one that is in this server's ledger is ever sent.
#[derive(Clone)]
struct LeaseId(String);

impl<'de> Deserialize<'de> for LeaseId {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let fits = (1..=512).contains(&text.len())
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/._-".contains(&byte));
        if fits && !text.split('/').any(|part| part.is_empty() || part == "." || part == "..") {
            Ok(Self(text))
        } else {
            Err(D::Error::custom("it is no lease id as db_issue_creds gave it"))
        }
    }
}

impl JsonSchema for LeaseId {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LeaseId".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "maxLength": 512 })
    }
}

/// Seconds to renew for, at most a year.
#[derive(Clone, Copy)]
struct Increment(u64);

impl<'de> Deserialize<'de> for Increment {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u64::deserialize(deserializer)? {
            seconds @ 1..=31_536_000 => Ok(Self(seconds)),
            _ => Err(D::Error::custom("give seconds from 1 to 31536000")),
        }
    }
}

impl JsonSchema for Increment {
    fn inline_schema() -> bool {
        true
    }
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Increment".into()
    }
    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "integer", "minimum": 1, "maximum": 31_536_000 })
    }
}

/// `db.renew`.
pub struct Renew;

/// Arguments of `db.renew`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RenewInput {
    /// Lease, as db_issue_creds gave it.
    lease_id: LeaseId,
    /// Seconds from now; the role's default if left out.
    increment: Option<Increment>,
}

/// Answer of `db.renew`.
#[derive(Serialize, JsonSchema)]
pub struct RenewOutput {
    /// The lease.
    lease_id: String,
    /// Seconds it lasts now.
    lease_duration: u64,
}

impl Operation for Renew {
    const SPEC: Spec = Spec {
        id: "db.renew",
        title: "Renew a lease",
        summary: "Make a lease that db_issue_creds gave last longer. A human confirms it first.",
        scope: Some(Scope::Write),
        effect: Effect::Write,
        toolset: Toolset::Db,
        idempotent: true,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/db/renew",
        answer: RestAnswer::Output,
        about: "Makes a lease last longer. Only leases that this server gave to this caller can be renewed.",
    });
    type Input = RenewInput;
    type Output = RenewOutput;

    fn target(input: &Self::Input, _: &Place) -> Result<Target, Error> {
        let needs = vec![Need::of("sys/leases/renew".to_owned(), &["update"])];
        Ok(Target { name: input.lease_id.0.clone(), keys: Vec::new(), needs })
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let lease = look.lease(&input.lease_id.0)?;
        let wanted = input
            .increment
            .map_or("the role's default time".to_owned(), |seconds| format!("{} s", seconds.0));
        Ok(Preview {
            verb: "RENEW",
            detail: format!("lease of the role {}, for {wanted}", shown(&lease.role, 64)),
            ..Preview::default()
        })
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let lease = granted.lease(&input.lease_id.0)?;
        let holder = lease.holder;
        let request = RenewLease { lease_id: lease.id, increment: input.increment.map(|seconds| seconds.0) };
        let envelope = match granted.session().write(&request, "\"update\"").await {
            Err(error) if has_ended(&error) => {
                granted.session().leases().ended(&request.lease_id);
                return Err(error);
            }
            other => other?,
        };
        let seconds = granted.session().hold(&holder, envelope.lease_duration).await;
        granted.session().leases().renewed(&request.lease_id, seconds);
        Ok(RenewOutput { lease_id: request.lease_id, lease_duration: seconds })
    }
}

/// `db.revoke`.
pub struct Revoke;

/// Arguments of `db.revoke`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RevokeInput {
    /// Lease, as db_issue_creds gave it.
    lease_id: LeaseId,
}

/// Answer of `db.revoke`.
#[derive(Serialize, JsonSchema)]
pub struct RevokeOutput {
    /// The lease that ended.
    lease_id: String,
}

impl Operation for Revoke {
    const SPEC: Spec = Spec {
        id: "db.revoke",
        title: "Revoke a lease",
        summary: "End a lease that db_issue_creds gave: its database user can no longer log in. A human confirms it first.",
        scope: Some(Scope::Write),
        effect: Effect::Destroy,
        toolset: Toolset::Db,
        idempotent: true,
    };
    const REST: Option<Rest> = Some(Rest {
        verb: Verb::Post,
        path: "/db/revoke",
        answer: RestAnswer::Ok,
        about: "Ends a lease: its database user can no longer log in.",
    });
    type Input = RevokeInput;
    type Output = RevokeOutput;

    fn target(input: &Self::Input, _: &Place) -> Result<Target, Error> {
        let needs = vec![Need::of("sys/leases/revoke".to_owned(), &["update"])];
        Ok(Target { name: input.lease_id.0.clone(), keys: Vec::new(), needs })
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        let lease = look.lease(&input.lease_id.0)?;
        Ok(Preview {
            verb: "REVOKE",
            detail: format!("lease of the role {}; its user is removed", shown(&lease.role, 64)),
            ..Preview::default()
        })
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let lease = granted.lease(&input.lease_id.0)?;
        granted
            .session()
            .write(&RevokeLease { lease_id: lease.id.clone(), sync: true }, "\"update\"")
            .await?;
        granted.session().leases().ended(&lease.id);
        Ok(RevokeOutput { lease_id: lease.id })
    }
}

/// `db.leases`.
pub struct List;

/// No arguments.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// Answer of `db.leases`.
#[derive(Serialize, JsonSchema)]
pub struct ListOutput {
    /// The leases.
    leases: Vec<Held>,
}

/// One lease.
#[derive(Serialize, JsonSchema)]
struct Held {
    /// Its id.
    lease_id: String,
    /// Role it was issued from.
    role: String,
    /// Seconds left.
    seconds_left: u64,
    /// True when it can be renewed.
    renewable: bool,
}

impl Operation for List {
    const SPEC: Spec = Spec {
        id: "db.leases",
        title: "List leases",
        summary: "List the leases that this server issued to you and has not seen end. Use it to revoke what is no longer needed. It does not know leases of other servers.",
        scope: Some(Scope::Read),
        effect: Effect::Read,
        toolset: Toolset::Db,
        idempotent: true,
    };
    type Input = Nothing;
    type Output = ListOutput;

    fn target(_: &Self::Input, place: &Place) -> Result<Target, Error> {
        Ok(Target::named(place.engines().database.as_str()))
    }

    async fn run(_: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let held = |lease: Lease| Held {
            seconds_left: lease.ends.saturating_duration_since(Instant::now()).as_secs(),
            lease_id: lease.id,
            role: lease.role,
            renewable: lease.renewable,
        };
        let leases = granted.session().leases().of(&granted.caller().subject);
        Ok(ListOutput { leases: leases.into_iter().map(held).collect() })
    }
}
