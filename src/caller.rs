//! Who calls, as whichever front end authenticated them.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::{handover::Roots, names::Subject, place::Place};

/// What a credential lets its caller do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// See secrets and their metadata.
    Read,
    /// Create, change and issue.
    Write,
    /// Remove versions softly.
    Delete,
    /// See names.
    List,
}

impl Scope {
    /// All four.
    pub const ALL: &[Scope] = &[Self::Read, Self::Write, Self::Delete, Self::List];

    /// The word that credentials carry.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Delete => "delete",
            Self::List => "list",
        }
    }

    /// The scope that a credential's word stands for.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|scope| scope.as_str() == word)
    }
}

/// The front end a call came in by. It decides who is asked and whether values are masked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Front {
    /// MCP on standard input and output.
    Stdio,
    /// The human's approver, doing a write with their own token.
    Approver,
    /// A subcommand that the human runs.
    Cli,
    /// A program with a credential of its own, over REST.
    Rest,
    /// MCP over HTTP.
    McpHttp,
}

impl Front {
    /// The word in audit records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stdio => "stdio",
            Self::Approver => "approver",
            Self::Cli => "cli",
            Self::Rest => "rest",
            Self::McpHttp => "mcp-http",
        }
    }

    /// True where the caller's files are this machine's: nobody's over a network.
    #[must_use]
    pub fn is_on_this_machine(self) -> bool {
        matches!(self, Self::Stdio | Self::Approver | Self::Cli)
    }

    /// True where a person sits at it, and the Vault token is their own.
    #[must_use]
    pub fn is_a_persons(self) -> bool {
        matches!(self, Self::Approver | Self::Cli)
    }

    /// True where the answer ends up with a model: an approver hands its result back to one.
    #[must_use]
    pub fn answers_a_model(self) -> bool {
        matches!(self, Self::Stdio | Self::Approver | Self::McpHttp)
    }
}

/// The subject a call acts for, with its scopes and its place in Vault.
#[derive(Debug, Clone)]
pub struct Caller {
    /// The agent.
    pub subject: Subject,
    /// What its credential allows.
    pub scopes: Vec<Scope>,
    /// Where the call came in.
    pub front: Front,
    /// Name and version that the client gave of itself; for the log only.
    pub client: Option<Arc<str>>,
    /// The caller's own tree.
    pub place: Arc<Place>,
    /// Folders that files may be read and written in.
    pub roots: Roots,
    /// What its calls have left of its allowance, for whoever answers the request.
    pub meter: Meter,
}

/// What is left of what a subject may do in a window of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    /// Calls in a window.
    pub limit: u32,
    /// Calls that are left now.
    pub remaining: u32,
    /// Seconds until all are there again.
    pub reset_seconds: u64,
}

/// Where the last call of a request leaves word of the allowance. Clones share it.
#[derive(Debug, Clone, Default)]
pub struct Meter(Arc<watch::Sender<Option<Allowance>>>);

impl Meter {
    /// Leaves word.
    pub fn note(&self, allowance: Allowance) {
        self.0.send_replace(Some(allowance));
    }

    /// The last word, if there was a call and there is a limit.
    #[must_use]
    pub fn read(&self) -> Option<Allowance> {
        *self.0.borrow()
    }

    /// Waits for the first word.
    pub async fn noted(&self) {
        // Whoever leaves word has the other end: while this is waited for, there is one.
        let _ = self.0.subscribe().wait_for(Option::is_some).await;
    }
}

impl Caller {
    /// True when the credential has the scope.
    #[must_use]
    pub fn has(&self, scope: Scope) -> bool {
        self.scopes.contains(&scope)
    }
}
