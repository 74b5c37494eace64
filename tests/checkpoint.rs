//! The human checkpoint's promises: no write without a person's yes to exactly that write, whoever carries the
//! question and whatever a client answers.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed assumption is a failed test, in helpers too"
)]

mod common;

#[path = "checkpoint/by_client.rs"]
mod by_client;
#[path = "checkpoint/expiry.rs"]
mod expiry;
#[path = "checkpoint/preview.rs"]
mod preview;
#[path = "checkpoint/scene.rs"]
mod scene;
#[path = "checkpoint/state.rs"]
mod state;
