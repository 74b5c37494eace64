//! The front ends: each turns its protocol into calls of the broker and the broker's answers back.

pub mod approver;
pub mod http;
pub mod mcp;
pub mod page;
mod strict_json;
