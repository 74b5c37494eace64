//! What an operation does to the world: the word that decides whether a human is asked.

use serde::Serialize;

/// What an operation does to the world.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Effect {
    /// Nothing changes.
    Read,
    /// Cryptography; nothing changes.
    Compute,
    /// A credential or lease comes into being.
    Issue,
    /// State changes.
    Write,
    /// Something is lost.
    Destroy,
}

impl Effect {
    /// The word in audit records and settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Compute => "compute",
            Self::Issue => "issue",
            Self::Write => "write",
            Self::Destroy => "destroy",
        }
    }

    /// True for those that leave Vault as it was.
    #[must_use]
    pub fn is_read_only(self) -> bool {
        matches!(self, Self::Read | Self::Compute)
    }
}
