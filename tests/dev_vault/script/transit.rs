//! The transit engine.

use serde_json::{Value, json};

use super::{Step, delete, get, list, post, step};

const X: &str = "eA==";

fn keys() -> Vec<Step> {
    let mut all = vec![
        post("sys/mounts/tr", json!({ "type": "transit", "description": "keys" })),
        get("sys/mounts/tr"),
        list("tr/keys"),
        get("tr/keys"),
        get("tr/keys/none"),
        post("tr/keys/none/rotate", json!({})),
        post("tr/keys/none/config", json!({})),
        delete("tr/keys/none"),
        post("tr/keys/x", json!({ "type": "no-such-type" })),
        post("tr/keys/x", json!({ "type": "" })),
        post("tr/keys/x", json!({ "convergent_encryption": true })),
        post("tr/keys/x", json!({ "key_size": 32 })),
        post("tr/keys/x", json!({ "key_size": 16, "type": "hmac" })),
        post("tr/keys/x", json!({ "key_size": 513, "type": "hmac" })),
        post("tr/keys/x", json!({ "auto_rotate_period": "1m" })),
        post("tr/keys/x", json!({ "auto_rotate_period": "soon" })),
        post("tr/keys/x", json!({ "derived": "perhaps" })),
        post("tr/keys/x", json!({ "derived": true, "type": "rsa-2048" })),
        post("tr/keys/x", json!({ "derived": true, "type": "hmac" })),
        get("tr/keys/x"),
        post("tr/keys/-x", json!({})),
        post("tr/keys/x.", json!({})),
        post("tr/keys/x/y", json!({})),
        post("tr/keys/", json!({})),
        post("tr/none", json!({})),
        get("tr/none"),
    ];
    for kind in [
        "aes128-gcm96",
        "aes256-gcm96",
        "chacha20-poly1305",
        "ed25519",
        "ecdsa-p256",
        "ecdsa-p384",
        "ecdsa-p521",
        "rsa-2048",
        "hmac",
    ] {
        all.push(post(
            &format!("tr/keys/{kind}"),
            json!({ "type": kind, "key_size": if kind == "hmac" { 32 } else { 0 } }),
        ));
        all.push(get(&format!("tr/keys/{kind}")));
    }
    all.extend([
        post(
            "tr/keys/big",
            json!({ "type": "hmac", "key_size": 64, "exportable": true, "auto_rotate_period": "2h" }),
        ),
        post("tr/keys/derived", json!({ "derived": true, "unknown": 1 })),
        post("tr/keys/edder", json!({ "derived": true, "type": "ed25519" })),
        get("tr/keys/edder"),
        post("tr/keys/derived", json!({ "type": "ed25519" })),
        step("PUT", "tr/keys/aes256-gcm96").json(json!({})),
        list("tr/keys"),
        list("tr/keys/"),
        list("tr/keys/aes256-gcm96"),
        get("tr/keys").token("hvs.unknown"),
        post("tr/keys/aes256-gcm96/rotate", json!({})),
        get("tr/keys/aes256-gcm96/rotate"),
        post("tr/keys/aes256-gcm96/rotate", json!({})),
        post("tr/keys/aes256-gcm96/config", json!({ "min_decryption_version": 4 })),
        post("tr/keys/aes256-gcm96/config", json!({ "min_decryption_version": -1 })),
        post("tr/keys/aes256-gcm96/config", json!({ "min_decryption_version": 0 })),
        post("tr/keys/aes256-gcm96/config", json!({ "min_encryption_version": 4 })),
        post("tr/keys/aes256-gcm96/config", json!({ "min_encryption_version": -1 })),
        post(
            "tr/keys/aes256-gcm96/config",
            json!({ "min_decryption_version": 3, "min_encryption_version": 2 }),
        ),
        post("tr/keys/aes256-gcm96/config", json!({ "auto_rotate_period": 5 })),
        post("tr/keys/aes256-gcm96/config", json!({ "exportable": true, "allow_plaintext_backup": true })),
        post("tr/keys/aes256-gcm96/config", json!({ "exportable": false })),
        post("tr/keys/aes256-gcm96/config", json!({})),
        get("tr/keys/aes256-gcm96/config"),
        post("tr/keys/ed25519/rotate", json!({})),
        delete("tr/keys/big"),
        post("tr/keys/big/config", json!({ "deletion_allowed": true })),
        delete("tr/keys/big"),
        get("tr/keys/big"),
    ]);
    all
}

fn ciphers() -> Vec<Step> {
    let batch = |items: Value| json!({ "batch_input": items });
    let mut all = Vec::new();
    for key in ["aes128-gcm96", "aes256-gcm96", "chacha20-poly1305", "rsa-2048"] {
        all.extend([
            post(&format!("tr/encrypt/{key}"), json!({ "plaintext": X })).keep("made", "/data/ciphertext"),
            post(&format!("tr/decrypt/{key}"), json!({ "ciphertext": "{made}" })),
            post(&format!("tr/rewrap/{key}"), json!({ "ciphertext": "{made}" })),
            post(
                &format!("tr/encrypt/{key}"),
                batch(json!([{ "plaintext": X, "reference": "r1" }, { "plaintext": "" }])),
            ),
            post(
                &format!("tr/decrypt/{key}"),
                batch(
                    json!([{ "ciphertext": "{made}", "reference": "r" }, { "ciphertext": "vault:v9:AAAA" }]),
                ),
            ),
            post(&format!("tr/decrypt/{key}"), batch(json!([{ "ciphertext": "vault:v1:AAAA" }]))),
            post(
                &format!("tr/rewrap/{key}"),
                batch(json!([{ "ciphertext": "{made}" }, { "ciphertext": "vault:v9:AAAA" }])),
            ),
            post(&format!("tr/rewrap/{key}"), batch(json!([{ "ciphertext": "vault:v1:AAAA" }]))),
            post(&format!("tr/decrypt/{key}"), json!({ "ciphertext": "vault:v1:AAAA" })),
            post(&format!("tr/rewrap/{key}"), json!({ "ciphertext": "vault:v1:AAAA" })),
        ]);
    }
    for ciphertext in [
        "",
        "x",
        "vault:",
        "vault:v",
        "vault:v1",
        "vault:vx:AAAA",
        "vault:v0:AAAA",
        "vault:v-1:AAAA",
        "vault:v1:",
        "vault:v1:!",
        "vault:v99:AAAA",
        "vault:v1:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    ] {
        all.push(post("tr/decrypt/aes256-gcm96", json!({ "ciphertext": ciphertext })));
        all.push(post("tr/decrypt/aes256-gcm96", batch(json!([{ "ciphertext": ciphertext }]))));
    }
    all.extend([
        post("tr/encrypt/aes256-gcm96", json!({})),
        post("tr/encrypt/aes256-gcm96", json!({ "plaintext": "" })),
        post("tr/encrypt/aes256-gcm96", json!({ "plaintext": "!" })),
        post("tr/encrypt/aes256-gcm96", json!({ "plaintext": "eA" })).status_only(),
        post("tr/encrypt/aes256-gcm96", json!({ "plaintext": 5 })).status_only(),
        post("tr/encrypt/aes256-gcm96", batch(json!([]))),
        post("tr/encrypt/aes256-gcm96", batch(json!("x"))).status_only(),
        post("tr/encrypt/aes256-gcm96", batch(json!(["x"]))).status_only(),
        post("tr/encrypt/aes256-gcm96", batch(json!([{ "plaintext": "!" }, { "plaintext": X }]))),
        post("tr/encrypt/aes256-gcm96", json!({ "batch_input": [{ "plaintext": "!" }, { "plaintext": X }], "partial_failure_response_code": 200 })),
        post("tr/encrypt/aes256-gcm96", json!({ "batch_input": [{ "plaintext": "!" }], "partial_failure_response_code": 200 })),
        post("tr/encrypt/aes256-gcm96", json!({ "plaintext": X, "key_version": 2 })),
        post("tr/encrypt/aes256-gcm96", json!({ "plaintext": X, "key_version": 9 })),
        post("tr/encrypt/aes256-gcm96", json!({ "plaintext": X, "key_version": -1 })),
        post("tr/encrypt/aes256-gcm96", batch(json!([{ "plaintext": X, "key_version": 1 }, { "plaintext": X, "key_version": 9 }]))),
        post("tr/encrypt/aes256-gcm96", json!({ "plaintext": X, "context": X })),
        post("tr/encrypt/aes256-gcm96", batch(json!([{ "plaintext": X, "context": X }, { "plaintext": X }]))),
        post("tr/encrypt/aes256-gcm96", json!({ "plaintext": X, "associated_data": X })).keep("bound", "/data/ciphertext"),
        post("tr/decrypt/aes256-gcm96", json!({ "ciphertext": "{bound}", "associated_data": X })),
        post("tr/decrypt/aes256-gcm96", json!({ "ciphertext": "{bound}" })),
        post("tr/encrypt/aes256-gcm96", json!({ "plaintext": X, "unknown": 1 })),
        get("tr/encrypt/aes256-gcm96"),
        list("tr/encrypt"),
        delete("tr/decrypt/aes256-gcm96"),
        post("tr/encrypt/derived", json!({ "plaintext": X })),
        post("tr/encrypt/derived", json!({ "plaintext": X, "context": "!" })),
        post("tr/encrypt/derived", json!({ "plaintext": X, "context": X })).keep("derived", "/data/ciphertext"),
        post("tr/decrypt/derived", json!({ "ciphertext": "{derived}", "context": X })),
        post("tr/decrypt/derived", json!({ "ciphertext": "{derived}", "context": "eQ==" })),
        post("tr/decrypt/derived", json!({ "ciphertext": "{derived}" })),
        post("tr/rewrap/derived", json!({ "ciphertext": "{derived}", "context": X })),
        post("tr/encrypt/ed25519", json!({ "plaintext": X })),
        post("tr/decrypt/ed25519", json!({ "ciphertext": "vault:v1:AAAA" })),
        post("tr/encrypt/hmac", batch(json!([{ "plaintext": X }]))),
        post("tr/decrypt/none", json!({ "ciphertext": "vault:v1:AAAA" })),
        post("tr/rewrap/none", json!({ "ciphertext": "vault:v1:AAAA" })),
        post("tr/encrypt/upserted", json!({ "plaintext": X })),
        get("tr/keys/upserted"),
        post("tr/encrypt/upserted-derived", json!({ "plaintext": X, "context": X })),
        get("tr/keys/upserted-derived"),
        post("tr/encrypt/upserted-x", json!({ "plaintext": X, "type": "ecdsa-p256" })),
        post("tr/encrypt/upserted-x", json!({ "plaintext": X, "type": "ed25519" })),
        post("tr/encrypt/upserted-x", json!({})),
        get("tr/keys/upserted-x"),
        post("tr/keys/aes256-gcm96/config", json!({ "min_decryption_version": 2, "min_encryption_version": 3 })),
        post("tr/encrypt/aes256-gcm96", json!({ "plaintext": X, "key_version": 2 })),
        post("tr/decrypt/aes256-gcm96", json!({ "ciphertext": "vault:v1:AAAA" })),
        post("tr/encrypt/rsa-2048", json!({ "plaintext": "A".repeat(400) })),
        post("tr/encrypt/rsa-2048", batch(json!([{ "plaintext": "A".repeat(400) }, { "plaintext": X }]))),
        // Creating is another right than updating.
        post("sys/policies/acl/tr-update", json!({ "policy": "path \"tr/encrypt/*\" { capabilities = [\"update\"] }" })),
        post("auth/token/create", json!({ "policies": ["tr-update"] })).keep("update-only", "/auth/client_token"),
        post("tr/encrypt/aes256-gcm96", json!({ "plaintext": X })).token("{update-only}"),
        post("tr/encrypt/not-yet", json!({ "plaintext": X })).token("{update-only}"),
        post("tr/decrypt/aes256-gcm96", json!({ "ciphertext": "vault:v1:AAAA" })).token("{update-only}"),
    ]);
    all
}

fn signatures() -> Vec<Step> {
    let batch = |items: Value| json!({ "batch_input": items });
    let mut all = Vec::new();
    for key in ["ed25519", "ecdsa-p256", "ecdsa-p384", "ecdsa-p521", "rsa-2048", "aes256-gcm96", "hmac"] {
        all.extend([
            post(&format!("tr/sign/{key}"), json!({ "input": X })).keep("made", "/data/signature"),
            post(&format!("tr/verify/{key}"), json!({ "input": X, "signature": "{made}" })),
            post(&format!("tr/verify/{key}"), json!({ "input": "eQ==", "signature": "{made}" })),
            post(&format!("tr/sign/{key}"), batch(json!([{ "input": X, "reference": "r" }, { "input": "!" }, {}]))),
            post(&format!("tr/verify/{key}"), batch(json!([{ "input": X, "signature": "{made}", "reference": "r" }, { "input": X, "signature": "vault:v9:AAAA" }, { "input": "!", "signature": "{made}" }, { "input": X, "signature": "x" }, { "input": X, "signature": "vault:v1:!" }, { "input": X, "signature": "vault:v1:AAAA" }]))),
            post(&format!("tr/sign/{key}"), json!({ "input": X, "key_version": 7 })),
            post(&format!("tr/sign/{key}"), json!({ "input": X, "key_version": 1 })),
            post(&format!("tr/sign/{key}"), json!({ "input": X, "key_version": -1 })),
            post(&format!("tr/sign/{key}/sha2-384"), json!({ "input": X })).keep("made384", "/data/signature"),
            post(&format!("tr/verify/{key}/sha2-384"), json!({ "input": X, "signature": "{made384}" })),
            post(&format!("tr/verify/{key}"), json!({ "input": X, "signature": "{made384}" })),
            post(&format!("tr/sign/{key}"), json!({ "input": X, "hash_algorithm": "sha2-512" })),
            post(&format!("tr/sign/{key}"), json!({ "input": X, "algorithm": "sha2-512" })),
            post(&format!("tr/sign/{key}"), json!({ "input": X, "hash_algorithm": "md5" })),
            post(&format!("tr/sign/{key}"), json!({ "input": X, "hash_algorithm": "none" })),
            post(&format!("tr/sign/{key}"), json!({ "input": X, "marshaling_algorithm": "jws" })),
            post(&format!("tr/sign/{key}"), json!({ "input": X, "marshaling_algorithm": "der" })),
            post(&format!("tr/sign/{key}"), json!({ "input": X, "prehashed": true })),
            post(&format!("tr/sign/{key}"), json!({ "input": X, "salt_length": "long" })),
            post(&format!("tr/sign/{key}"), json!({ "input": X, "salt_length": "-7" })),
            post(&format!("tr/hmac/{key}"), json!({ "input": X })).keep("hmac", "/data/hmac"),
            post(&format!("tr/verify/{key}"), json!({ "input": X, "hmac": "{hmac}" })),
            post(&format!("tr/verify/{key}"), json!({ "input": "eQ==", "hmac": "{hmac}" })),
            post(&format!("tr/hmac/{key}"), batch(json!([{ "input": X, "reference": "r" }, { "input": "!" }, {}]))),
        ]);
    }
    all.extend([
        post("tr/sign/rsa-2048", json!({ "input": X, "signature_algorithm": "pkcs1v15" })).keep("made", "/data/signature"),
        post("tr/verify/rsa-2048", json!({ "input": X, "signature": "{made}", "signature_algorithm": "pkcs1v15" })),
        post("tr/verify/rsa-2048", json!({ "input": X, "signature": "{made}" })),
        post("tr/sign/rsa-2048", json!({ "input": X, "signature_algorithm": "raw" })),
        post("tr/sign/rsa-2048", batch(json!([{ "input": X }]))),
        post("tr/sign/edder", json!({ "input": X })),
        post("tr/sign/edder", json!({ "input": X, "context": X })).keep("made", "/data/signature"),
        post("tr/sign/edder", batch(json!([{ "input": X, "context": X }, { "input": X, "context": "!" }]))),
        post("tr/verify/edder", json!({ "input": X, "context": X, "signature": "{made}" })),
        post("tr/verify/edder", json!({ "input": X, "context": "eQ==", "signature": "{made}" })),
        post("tr/verify/edder", json!({ "input": X, "signature": "{made}" })),
        post("tr/sign/none", json!({ "input": X })),
        post("tr/verify/none", json!({ "input": X, "signature": "vault:v1:AAAA" })),
        post("tr/verify/none", json!({ "input": X, "hmac": "vault:v1:AAAA" })),
        post("tr/hmac/none", json!({ "input": X })),
        post("tr/sign/ed25519", json!({})),
        post("tr/sign/ed25519", batch(json!([]))),
        post("tr/verify/ed25519", json!({ "input": X })),
        post("tr/verify/ed25519", batch(json!([{ "input": X }]))),
        post("tr/verify/ed25519", batch(json!([{ "input": X, "signature": "vault:v1:AAAA" }, { "input": X }]))),
        post("tr/verify/ed25519", batch(json!([{ "input": X, "signature": "vault:v1:AAAA" }, { "input": X, "hmac": "vault:v1:AAAA" }]))),
        post("tr/verify/hmac", batch(json!([{ "input": X, "hmac": "vault:v1:AAAA" }, { "input": X }]))),
        post("tr/verify/hmac", batch(json!([{ "input": X, "hmac": "x" }, { "input": X, "hmac": "vault:v" }, { "input": X, "hmac": "vault:vx:AAAA" }, { "input": X, "hmac": "vault:v9:AAAA" }, { "input": X, "hmac": "vault:v1:!" }]))),
        post("tr/hmac/hmac", json!({})),
        post("tr/hmac/hmac", json!({ "input": X, "algorithm": "sha2-512" })),
        post("tr/hmac/hmac/sha2-224", json!({ "input": X })),
        post("tr/hmac/hmac", json!({ "input": X, "key_version": 4 })),
        post("tr/hmac/hmac", json!({ "input": X, "key_version": -4 })),
        get("tr/sign/ed25519"),
        post("tr/sign/ed25519/sha2-256/x", json!({ "input": X })),
        post("tr/random", json!({})),
        post("tr/random", json!({ "bytes": 5, "format": "hex" })),
        post("tr/random/7", json!({ "format": "hex" })),
        post("tr/random/platform/7", json!({ "format": "hex" })),
        post("tr/random", json!({ "bytes": 0 })),
        post("tr/random", json!({ "bytes": -1 })),
        post("tr/random", json!({ "bytes": 200_000 })),
        post("tr/random", json!({ "bytes": "many" })),
        post("tr/random", json!({ "format": "binary" })),
        post("tr/random", json!({ "source": "moon" })),
        get("tr/random"),
        delete("sys/mounts/tr"),
        post("tr/encrypt/aes256-gcm96", json!({ "plaintext": X })),
    ]);
    all
}

/// All of it.
pub(super) fn steps() -> Vec<Step> {
    let mut all = keys();
    all.extend(ciphers());
    all.extend(signatures());
    all
}
