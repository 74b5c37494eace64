//! MCP over the table of operations. Nothing here knows an operation: `tools/list` and `tools/call` are a
//! loop over `OPS` and one call of the broker.

mod confirm;
mod flight;
mod handler;
mod prompts;
mod resources;
mod roots;
pub mod stdio;
pub mod streams;

pub use flight::Tracked;
pub use handler::McpServer;
