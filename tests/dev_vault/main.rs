//! The embedded dev Vault: what it promises, and that a real Vault answers the same.
//!
//! The comparison runs when `VAULT_MCP_TEST_VAULT` names a `vault` binary (made for 1.21.0).

// Everything here is a test: a failed assumption is a failed test.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout
)]

mod alike;
mod client;
mod differential;
mod promises;
mod script;
