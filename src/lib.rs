//! vault-mcp.
