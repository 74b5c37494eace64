//! One file a part.

pub mod agents;
pub mod flight;
pub mod http;
pub mod inject;
pub mod list;
pub mod memory;
pub mod overload;
pub mod read;
pub mod start;
pub mod tools;
pub mod transit;
