//! The audit log's promises, kept by real files and real processes.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a failed assumption is a failed test, in helpers too"
)]

#[path = "audit_log/by_hand.rs"]
mod by_hand;
#[path = "audit_log/chain.rs"]
mod chain;
#[path = "audit_log/common.rs"]
mod common;
#[path = "audit_log/files.rs"]
mod files;
#[path = "audit_log/output.rs"]
mod output;
#[path = "audit_log/processes.rs"]
mod processes;
