//! The embedded dev Vault: what it promises, and that a real Vault answers the same.
//!
//! The comparison runs when `VAULT_MCP_TEST_VAULT` names a `vault` binary (made for 1.21.0).

mod client;
mod differential;
mod promises;
mod script;
