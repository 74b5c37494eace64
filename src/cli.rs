//! The human's side: one file for each subcommand.

pub mod audit;
