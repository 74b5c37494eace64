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

/// A random UUID, version 4 (RFC 9562).
///
/// # Errors
/// As [`fill`].
pub fn uuid() -> Result<String, Error> {
    let mut bytes = [0u8; 16];
    fill(&mut bytes)?;
    bytes[6] = (bytes[6] & 0x0f) | 0x40;
    bytes[8] = (bytes[8] & 0x3f) | 0x80;
    let hex = hex::encode(bytes);
    let parts = [(0, 8), (8, 12), (12, 16), (16, 20), (20, 32)];
    Ok(parts.iter().filter_map(|(from, to)| hex.get(*from..*to)).collect::<Vec<_>>().join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uuid_is_random_and_of_version_4() {
        let id = uuid().unwrap();
        assert_eq!((id.len(), id.get(14..15)), (36, Some("4")));
        assert_ne!(id, uuid().unwrap());
    }
}
