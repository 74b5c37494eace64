//! vault-mcp lets an AI client use HashiCorp Vault or OpenBao without being trusted with it.
//!
//! # The house
//!
//! One definition of each operation, one table of them, one way in:
//!
//! ```text
//!  front/mcp      tools/call, resources, prompts: on stdin and stdout, and for front/http
//!  front/http     who calls, REST as a loop over the table, MCP and events over HTTP, what watches them
//!  front/approver the socket that a human's terminal attaches to
//!  cli            what a human types
//!       │   (a Caller, an &'static Op, JSON arguments)
//!       ▼
//!  broker         limit → parse → authorise → observe → decide → record → run → record → answer
//!       │ Look, Granted        │ Event          │ Approved ← tickets ← a human's yes
//!       ▼                      ▼
//!  ops ── op                 audit              error, codes, names, effect, secret, place, caller, config:
//!                                                words used by all
//!       │ Session
//!       ▼
//!  vault          one HTTP client, the token, the engines' requests
//!  kms            AWS KMS over the same kind of HTTP client, where it is switched on
//!
//!  telemetry      meters, log files, traces: every room may report here, and none learns who looks
//!
//!  dev            the embedded dev Vault; imports nothing from above, is reached by HTTP only
//! ```
//!
//! Imports point down: `front → broker → {op, audit, vault, kms}`, `ops → {op, vault, kms}`. No operation knows a
//! front end and no front end knows an operation.
//!
//! `PUT /secrets/{path}` joins the way below at step 2: [`front::http::auth`] has made the caller, and
//! `front/http/rest.rs` the arguments.
//!
//! # A write, from line to disk: `tools/call kv_write` on stdio
//!
//! 1. [`front::mcp::stdio`] reads the line, refuses what readers could understand differently, and hands the
//!    message to rmcp, which calls `call_tool` in `front/mcp/handler.rs`.
//! 2. The handler finds the row in [`op::OPS`] and calls [`broker::Broker::call`] with the session's
//!    [`caller::Caller`].
//! 3. Limit: it costs one call of the subject's allowance, whatever becomes of it. Parse: the arguments become
//!    names ([`names::SecretPath`] and friends), or the call ends as `VALIDATION_FAILED` with names of arguments
//!    and no values. [`broker::Place`] joins the path to the caller's own tree.
//! 4. Authorise: scope, reveal policy.
//! 5. Observe: a [`broker::Look`] reads the current version and, at the same time, asks Vault what the token
//!    may do; the operation makes its [`op::Preview`].
//! 6. Decide: a write needs a human. A ticket is opened over the digest of the call,
//!    `CONFIRMATION_REQUIRED` is recorded, and [`broker::Outcome::Ask`] goes back as data.
//! 7. `front/mcp/confirm.rs` puts the question before an attached approver, or before the client in its own
//!    protocol. A yes redeems the ticket: the table gives out the one [`broker::Approved`] and `CONFIRMED` is
//!    recorded. Over HTTP the client may carry the question to another server (`broker/carried.rs`).
//! 8. The same call goes in again with it. Digest and observed version must still be what was agreed to. The
//!    `REQUEST` record is on disk before Vault hears of the write; a [`broker::Granted`] is made; the
//!    operation runs; the write carries the previewed version as check-and-set.
//! 9. `SUCCESS` or `FAILED` is on disk before the client hears of it.

#![forbid(unsafe_code)]

pub mod audit;
pub mod broker;
pub mod caller;
pub mod cli;
pub mod codes;
pub mod config;
pub mod dev;
pub mod effect;
pub mod error;
pub mod front;
pub mod handover;
#[cfg(feature = "kms")]
pub mod kms;
pub mod names;
pub mod op;
pub mod ops;
pub mod place;
pub mod random;
pub mod secret;
pub mod telemetry;
pub mod vault;
