//! The human checkpoint's promises: no write without a person's yes to exactly that write, whoever carries the
//! question and whatever a client answers.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed assumption is a failed test, in helpers too"
)]

mod common;

#[path = "checkpoint/approver.rs"]
mod approver;
#[path = "checkpoint/by_client.rs"]
mod by_client;
#[path = "checkpoint/expiry.rs"]
mod expiry;
#[path = "checkpoint/own_login.rs"]
mod own_login;
#[path = "checkpoint/page.rs"]
mod page;
#[path = "checkpoint/preview.rs"]
mod preview;
#[path = "checkpoint/scene.rs"]
mod scene;
#[path = "checkpoint/socket.rs"]
mod socket;
#[path = "checkpoint/state.rs"]
mod state;
#[path = "checkpoint/typed.rs"]
mod typed;
