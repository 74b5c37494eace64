//! No password, key, plaintext or one-time password leaves but by a human's yes or into a file.

use base64::{Engine as _, engine::general_purpose::STANDARD};

use crate::common::McpClient;

/// None of these texts stands in standard output, standard error or the audit log of this session: not plain,
/// not in base64, not in hex.
#[track_caller]
pub(crate) fn assert_nowhere(client: &McpClient, secrets: &[&str]) {
    let server = client.server();
    let audit = std::fs::read(server.home().audit_log()).unwrap();
    let places = [
        ("standard output", server.stdout()),
        ("standard error", server.stderr().into_bytes()),
        ("the audit log", audit),
    ];
    for (place, bytes) in places {
        let text = String::from_utf8_lossy(&bytes);
        for secret in secrets {
            assert!(secret.len() >= 8, "too short to be looked for: {secret}");
            for shape in [(*secret).to_owned(), STANDARD.encode(secret), hex::encode(secret)] {
                assert!(!text.contains(shape.trim_end_matches('=')), "a secret stands in {place}");
            }
        }
    }
}
