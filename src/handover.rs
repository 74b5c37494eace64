//! Secrets to files instead of into a conversation. What is here reads and writes files and knows no Vault;
//! which folders it may touch comes with the caller.
//!
//! - [`Roots`]: the folders that it may touch. [`NewFile`]: a new file, never over another. [`target`]: a file as
//!   it is, replaced as a whole.
//! - [`env_file`] and [`yaml_file`]: edits that keep comments, order and foreign entries. [`dialect`]: how a
//!   value is written so that readers get it back unchanged, or not at all.
//! - [`compose`], [`looks`]: reading what lies in files already. [`example`]: a file without its values.
//! - [`git`]: whether a file would be committed.

pub mod compose;
pub mod dialect;
pub mod env_file;
pub mod example;
pub mod git;
pub mod looks;
mod new_file;
pub mod render;
mod roots;
mod spot;
pub mod target;
pub mod yaml_file;

pub use new_file::{FILE_MARK, FileName, NewFile};
pub use roots::{FindRoots, Root, Roots, of_client, working_folder};
