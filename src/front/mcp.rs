//! MCP over the table of operations. Nothing here knows an operation: `tools/list` and `tools/call` are a
//! loop over `OPS` and one call of the broker.
//!
//! One [`House`] a process; one [`McpServer`] a session, whose caller is known from the start ([`stdio`]), or comes
//! with each request (`front/http/mcp`). Whatever a session subscribed to or was asked is its own.

mod confirm;
mod flight;
mod handler;
pub(in crate::front) mod message;
mod prompts;
mod resources;
mod roots;
pub mod stdio;
pub mod streams;
mod typed;

pub(in crate::front) use flight::InFlight;
pub use flight::Tracked;
pub use handler::{Dialog, House, McpServer};
