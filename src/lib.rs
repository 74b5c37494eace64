//! vault-mcp.

pub mod audit;
