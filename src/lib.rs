//! vault-mcp.

pub mod audit;
pub mod cli;
