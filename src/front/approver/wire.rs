//! What server and approver say to each other: one JSON object a line, both ends of the same version.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Longest line, in bytes: a request's arguments and room for the rest.
pub const MAX_LINE: u64 = (1 << 20) + (64 << 10);

/// Who the server is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Whom its calls act for.
    pub subject: String,
    /// Its Vault.
    pub address: String,
    /// Its namespace.
    pub namespace: Option<String>,
}

/// A question.
#[derive(Serialize, Deserialize)]
pub struct Ask {
    /// Its ticket.
    pub ticket: String,
    /// What to show; already safe for a terminal.
    pub text: String,
    /// Id of the operation.
    pub op: String,
    /// What it touches.
    pub target: String,
    /// Whom it acts for.
    pub subject: String,
    /// Seconds until it runs out.
    pub seconds: u64,
    /// The arguments, for an approver that carries the call out itself.
    pub arguments: Option<Value>,
}

/// From the server.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToApprover {
    /// First line.
    Hello(Hello),
    /// Attached: questions come here now.
    Attached,
    /// Not attached.
    Refused {
        /// Why.
        why: String,
    },
    /// A question.
    Ask(Ask),
    /// The question is no longer open.
    Withdraw {
        /// Its ticket.
        ticket: String,
    },
    /// Recorded: carry it out now.
    Go {
        /// Its ticket.
        ticket: String,
    },
    /// Something the human should know.
    Notice {
        /// The text.
        text: String,
    },
}

/// What a human typed.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// `yes`.
    Yes {
        /// The approver carries it out with its own login.
        execute: bool,
    },
    /// `no`.
    No,
    /// Anything else.
    Other,
}

/// From the approver.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromApprover {
    /// Wants the questions.
    Attach {
        /// It has its own Vault login.
        login: bool,
    },
    /// Hands a new token over to the server, and goes.
    Login {
        /// The token.
        token: String,
    },
    /// An answer.
    Answer {
        /// Ticket of the question.
        ticket: String,
        /// What was typed.
        answer: Answer,
    },
    /// Carried out.
    Done {
        /// Ticket of the question.
        ticket: String,
        /// The operation's output.
        output: Value,
    },
    /// Could not be carried out.
    Failed {
        /// Ticket of the question.
        ticket: String,
        /// Stable code.
        code: String,
        /// Fault and remedy.
        text: String,
    },
}

/// A message as its line.
#[must_use]
pub fn line<T: Serialize>(message: &T) -> Vec<u8> {
    // These types always serialize; an empty line would be ignored by the other end.
    let mut line = serde_json::to_vec(message).unwrap_or_default();
    line.push(b'\n');
    line
}
