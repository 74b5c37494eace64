//! Standard input and output as an enemy would use them: every line is answered or ignored as the protocol says,
//! nothing hangs, nothing breaks, and standard output carries nothing but protocol.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed assumption is a failed test, in helpers too"
)]

mod common;

#[path = "stdin/endings.rs"]
mod endings;
#[path = "stdin/lines.rs"]
mod lines;
#[path = "stdin/load.rs"]
mod load;
#[path = "stdin/session.rs"]
mod session;
#[path = "stdin/versions.rs"]
mod versions;
