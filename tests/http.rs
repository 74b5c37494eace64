//! What `--http` promises, on the running server, over sockets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

#[path = "http/approver.rs"]
mod approver;
#[path = "http/auth.rs"]
mod auth;
#[path = "http/authorisation.rs"]
mod authorisation;
#[path = "http/browsers.rs"]
mod browsers;
#[path = "http/canary.rs"]
mod canary;
#[path = "http/child_tokens.rs"]
mod child_tokens;
#[path = "http/collector.rs"]
mod collector;
#[path = "http/compatibility.rs"]
mod compatibility;
#[path = "http/confirm.rs"]
mod confirm;
#[path = "http/dev.rs"]
mod dev;
#[path = "http/isolation.rs"]
mod isolation;
#[path = "http/leaving.rs"]
mod leaving;
#[path = "http/limits.rs"]
mod limits;
#[path = "http/logs.rs"]
mod logs;
#[path = "http/mcp.rs"]
mod mcp;
#[path = "http/pages.rs"]
mod pages;
#[path = "engines/programs.rs"]
#[allow(dead_code)] // some of them are the engines' alone
mod programs;
#[path = "http/readers.rs"]
mod readers;
#[path = "http/replicas.rs"]
mod replicas;
#[path = "http/rest.rs"]
mod rest;
#[path = "http/rig.rs"]
mod rig;
#[path = "http/rpc.rs"]
mod rpc;
#[path = "http/sockets.rs"]
mod sockets;
#[path = "http/sse.rs"]
mod sse;
#[path = "http/traces.rs"]
mod traces;
#[path = "http/watch.rs"]
mod watch;
#[path = "http/wire.rs"]
mod wire;
