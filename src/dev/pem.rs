//! PEM (RFC 7468): DER in letters, between two lines that say what it is.

use base64::{Engine as _, engine::general_purpose::STANDARD};

pub(super) const CERTIFICATE: &str = "CERTIFICATE";
pub(super) const REQUEST: &str = "CERTIFICATE REQUEST";
pub(super) const CRL: &str = "X509 CRL";
pub(super) const PUBLIC_KEY: &str = "PUBLIC KEY";
pub(super) const PRIVATE_KEY: &str = "PRIVATE KEY";
pub(super) const EC_PRIVATE_KEY: &str = "EC PRIVATE KEY";
pub(super) const RSA_PRIVATE_KEY: &str = "RSA PRIVATE KEY";

/// One block, ending in a line break.
pub(super) fn encode(label: &str, der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut out = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + "-----END " + label + "-----\n"
}

/// The next block of a text and what comes after it; what stands before a block is passed over, as OpenSSL
/// writes a certificate in words there.
pub(super) fn next(text: &str) -> Option<(&str, Vec<u8>, &str)> {
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, rest) = rest.split_once("-----")?;
    let (body, rest) = rest.split_once("-----END ")?;
    let rest = rest.strip_prefix(label)?.strip_prefix("-----")?;
    let body: String = body.chars().filter(|letter| !letter.is_ascii_whitespace()).collect();
    Some((label, STANDARD.decode(body).ok()?, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_are_read_one_after_the_other_as_they_were_written() {
        let text = format!("words\n{}between\n{}", encode(CERTIFICATE, &[7; 100]), encode(CRL, b""));
        let (label, der, rest) = next(&text).unwrap();
        assert_eq!((label, der), (CERTIFICATE, vec![7; 100]));
        let (label, der, rest) = next(rest).unwrap();
        assert_eq!((label, der), (CRL, vec![]));
        assert_eq!(next(rest), None);
    }

    #[test]
    fn what_is_no_block_is_none() {
        for text in [
            "",
            "-----BEGIN X-----",
            "-----BEGIN X-----\nAAAA\n-----END Y-----",
            "-----BEGIN X-----\n!\n-----END X-----",
        ] {
            assert_eq!(next(text), None, "{text}");
        }
    }
}
