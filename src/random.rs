//! Random bytes, from the operating system. aws-lc-rs has its own generator, which spends tens of
//! milliseconds on its first byte: more than everything else at start.

use crate::error::Error;

/// Fills `bytes` with random bytes.
///
/// # Errors
/// When the system gives none.
pub fn fill(bytes: &mut [u8]) -> Result<(), Error> {
    getrandom::fill(bytes).map_err(|_| Error::Internal { what: "no randomness" })
}
