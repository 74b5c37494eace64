//! One file a part.

pub mod flight;
pub mod list;
pub mod memory;
pub mod read;
pub mod start;
pub mod tools;
