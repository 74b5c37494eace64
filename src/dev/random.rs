//! Identifiers: request ids, accessors, tokens. Random, never derived from anything.
//!
//! Straight from the system's generator: that of aws-lc-rs gathers entropy for tens of milliseconds before its
//! first byte, and this server starts in one.

const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";

/// `N` random bytes.
pub(super) fn bytes<const N: usize>() -> [u8; N] {
    let mut out = [0_u8; N];
    // The system's generator fails only where the process could not have started.
    let filled = getrandom::fill(&mut out);
    debug_assert!(filled.is_ok());
    out
}

/// As many random bytes as wanted.
pub(super) fn many(length: usize) -> Vec<u8> {
    let mut out = vec![0_u8; length];
    let filled = getrandom::fill(&mut out);
    debug_assert!(filled.is_ok());
    out
}

/// A random UUID (version 4).
pub(super) fn uuid() -> String {
    let mut raw = bytes::<16>();
    if let Some(byte) = raw.get_mut(6) {
        *byte = (*byte & 0x0f) | 0x40;
    }
    if let Some(byte) = raw.get_mut(8) {
        *byte = (*byte & 0x3f) | 0x80;
    }
    let text = hex::encode(raw);
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32))
}

/// `length` random letters and digits.
pub(super) fn letters(length: usize) -> String {
    let mut out = String::with_capacity(length);
    while out.len() < length {
        // 248 is the largest multiple of 62 in a byte: bytes above it would favour the first letters.
        for byte in bytes::<32>().into_iter().filter(|byte| *byte < 248) {
            if out.len() < length {
                out.push(char::from(LETTERS.get(usize::from(byte) % 62).copied().unwrap_or(b'0')));
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_have_their_form_and_differ() {
        let id = uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert_ne!(id, uuid());
        assert_eq!(letters(24).len(), 24);
        assert_ne!(letters(24), letters(24));
    }
}
