//! Secrets to files instead of into a conversation. What is here writes files and knows no Vault; which
//! folders it may write in comes with the caller.

mod new_file;
pub mod render;

use std::{path::PathBuf, sync::Arc};

pub use new_file::{FileName, NewFile};

/// The working folder as the only root; none when it is `/`, which is where some clients start their
/// servers and no place for a user's files.
#[must_use]
pub fn working_folder() -> Arc<[PathBuf]> {
    let folder = std::env::current_dir().and_then(|folder| folder.canonicalize()).ok();
    folder.filter(|folder| folder.parent().is_some()).into_iter().collect()
}
