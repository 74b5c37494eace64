//! Signatures in every form, verified by openssl with the public half that `transit_keys` shows.

use std::path::Path;

use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use super::{
    programs::openssl,
    transit_keys::{base64, keys, over},
    work,
};
use crate::common::{McpClient, assert_refused, vault};

const MESSAGE: &[u8] = b"what is signed\n\x00\xff";

/// Writes the public half of version 1 as PEM into `pub.pem`.
fn public_half(client: &McpClient, key: &str, folder: &Path) {
    let shown = client.call("transit_keys", json!({"key": key}));
    let text = shown.ok()["keys"][0]["public_keys"]["1"].as_str().unwrap().to_owned();
    let pem = if text.starts_with("-----BEGIN") {
        text
    } else {
        // An Ed25519 key is shown as its 32 bytes; RFC 8410 says what stands before them.
        let mut der = hex::decode("302a300506032b6570032100").unwrap();
        der.extend(STANDARD.decode(text).unwrap());
        assert_eq!(der.len(), 44);
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(der))
    };
    std::fs::write(folder.join("pub.pem"), pem).unwrap();
}

fn sign(client: &McpClient, arguments: &Value) -> Vec<u8> {
    let signed = client.call("transit_sign", arguments.clone());
    let text = signed.ok()["signature"].as_str().unwrap().to_owned();
    let mut verify = arguments.clone();
    verify["signature"] = json!(text);
    assert_eq!(client.call("transit_verify", verify.clone()).ok()["valid"], true, "{arguments}");
    verify["input"] = json!(base64([9; 32]));
    assert_eq!(client.call("transit_verify", verify).ok()["valid"], false, "{arguments}");
    let body = text.strip_prefix("vault:v1:").unwrap();
    if arguments["marshaling_algorithm"] == "jws" {
        URL_SAFE_NO_PAD.decode(body).unwrap()
    } else {
        STANDARD.decode(body).unwrap()
    }
}

/// The DER form of an ECDSA signature that is the two numbers in a row, as JOSE has it.
fn der(raw: &[u8]) -> Vec<u8> {
    let integer = |bytes: &[u8]| {
        let mut bytes: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        if bytes.first().is_none_or(|byte| *byte >= 0x80) {
            bytes.insert(0, 0);
        }
        [&[2, u8::try_from(bytes.len()).unwrap()], bytes.as_slice()].concat()
    };
    let (r, s) = raw.split_at(raw.len() / 2);
    let body = [integer(r), integer(s)].concat();
    let length = u8::try_from(body.len()).unwrap();
    let head = if length < 0x80 { vec![0x30, length] } else { vec![0x30, 0x81, length] };
    [head, body].concat()
}

/// openssl says that the signature fits the message, and not another message.
#[track_caller]
fn assert_openssl(folder: &Path, signature: &[u8], what: &[&str]) {
    std::fs::write(folder.join("sig"), signature).unwrap();
    std::fs::write(folder.join("msg"), MESSAGE).unwrap();
    let mut arguments = what.to_vec();
    let said = openssl(folder, &arguments);
    assert!(said.is_ok(), "openssl {what:?} says {said:?}");
    let at = arguments.iter().position(|word| *word == "msg").unwrap();
    std::fs::write(folder.join("other"), b"another message").unwrap();
    arguments[at] = "other";
    // Where openssl is missing it says yes to nothing; that was named.
    let said = openssl(folder, &arguments);
    assert!(!said.is_ok_and(|text| !text.is_empty()), "openssl {what:?} takes any message");
}

const HASHES: &[(&str, &str)] =
    &[("sha2-224", "-sha224"), ("sha2-256", "-sha256"), ("sha2-384", "-sha384"), ("sha2-512", "-sha512")];

#[test]
fn an_ed25519_signature_is_good_for_openssl() {
    let Some(mount) = keys() else { return };
    let client = over(mount);
    let folder = work(&client);
    public_half(&client, "ed25519", &folder);
    let signature = sign(&client, &json!({"key": "ed25519", "input": base64(MESSAGE)}));
    let what =
        ["pkeyutl", "-verify", "-pubin", "-inkey", "pub.pem", "-rawin", "-in", "msg", "-sigfile", "sig"];
    assert_openssl(&folder, &signature, &what);
    // Vault signs the message itself with these keys, never a digest.
    let digest = json!({"key": "ed25519", "input": base64([1; 32]), "prehashed": true});
    let refused = client.call("transit_sign", digest);
    assert!(refused.is_error() && refused.text().contains("prehashed"), "{}", refused.0);
}

#[test]
fn an_ecdsa_signature_is_good_for_openssl_in_either_form() {
    let Some(mount) = keys() else { return };
    let client = over(mount);
    let folder = work(&client);
    for (key, size) in [("ecdsa-p256", 64), ("ecdsa-p384", 96), ("ecdsa-p521", 132)] {
        public_half(&client, key, &folder);
        for (hash, option) in HASHES {
            let what = ["dgst", option, "-verify", "pub.pem", "-signature", "sig", "msg"];
            let call = json!({"key": key, "input": base64(MESSAGE), "hash_algorithm": hash});
            assert_openssl(&folder, &sign(&client, &call), &what);
            let mut jws = call;
            jws["marshaling_algorithm"] = json!("jws");
            let raw = sign(&client, &jws);
            assert_eq!(raw.len(), size, "{key}");
            assert_openssl(&folder, &der(&raw), &what);
        }
    }
}

#[test]
fn the_sha_3_hashes_are_those_of_openssl() {
    let Some(mount) = keys() else { return };
    if vault().is_embedded() {
        eprintln!("left out: the embedded dev Vault signs with no hash of the SHA-3 family");
        return;
    }
    let client = over(mount);
    let folder = work(&client);
    public_half(&client, "ecdsa-p256", &folder);
    for (hash, option) in [("sha3-256", "-sha3-256"), ("sha3-384", "-sha3-384"), ("sha3-512", "-sha3-512")] {
        let call = json!({"key": "ecdsa-p256", "input": base64(MESSAGE), "hash_algorithm": hash});
        let what = ["dgst", option, "-verify", "pub.pem", "-signature", "sig", "msg"];
        assert_openssl(&folder, &sign(&client, &call), &what);
    }
}

#[test]
fn an_rsa_signature_is_good_for_openssl_in_either_padding() {
    let Some(mount) = keys() else { return };
    let client = over(mount);
    let folder = work(&client);
    for key in ["rsa-2048", "rsa-3072", "rsa-4096"] {
        public_half(&client, key, &folder);
        for (hash, option) in &HASHES[1..] {
            for (padding, sigopt) in [("pss", "rsa_padding_mode:pss"), ("pkcs1v15", "rsa_padding_mode:pkcs1")]
            {
                let call = json!({"key": key, "input": base64(MESSAGE), "hash_algorithm": hash,
                    "signature_algorithm": padding});
                let signature = sign(&client, &call);
                let what =
                    ["dgst", option, "-verify", "pub.pem", "-signature", "sig", "-sigopt", sigopt, "msg"];
                assert_openssl(&folder, &signature, &what);
            }
        }
        let salted = json!({"key": key, "input": base64(MESSAGE), "salt_length": "hash"});
        let signature = sign(&client, &salted);
        let what = [
            "dgst",
            "-sha256",
            "-verify",
            "pub.pem",
            "-signature",
            "sig",
            "-sigopt",
            "rsa_padding_mode:pss",
            "-sigopt",
            "rsa_pss_saltlen:32",
            "msg",
        ];
        assert_openssl(&folder, &signature, &what);
    }
}

#[test]
fn a_digest_is_signed_as_it_is_and_must_have_its_hash_s_length() {
    let Some(mount) = keys() else { return };
    let client = over(mount);
    let folder = work(&client);
    let digest = |hash: &'static aws_lc_rs::digest::Algorithm| {
        aws_lc_rs::digest::digest(hash, MESSAGE).as_ref().to_vec()
    };
    let (sha256, sha512) = (digest(&aws_lc_rs::digest::SHA256), digest(&aws_lc_rs::digest::SHA512));
    for (key, hash, option, bytes, more) in [
        ("ecdsa-p256", "sha2-256", "-sha256", &sha256, None),
        ("ecdsa-p521", "sha2-512", "-sha512", &sha512, None),
        ("rsa-2048", "sha2-256", "-sha256", &sha256, Some(("pkcs1v15", "rsa_padding_mode:pkcs1"))),
        ("rsa-2048", "sha2-512", "-sha512", &sha512, Some(("pss", "rsa_padding_mode:pss"))),
    ] {
        public_half(&client, key, &folder);
        let mut call = json!({"key": key, "input": base64(bytes), "hash_algorithm": hash, "prehashed": true});
        let mut what = vec!["dgst", option, "-verify", "pub.pem", "-signature", "sig"];
        if let Some((padding, sigopt)) = more {
            call["signature_algorithm"] = json!(padding);
            what.extend(["-sigopt", sigopt]);
        }
        what.push("msg");
        assert_openssl(&folder, &sign(&client, &call), &what);
    }
    let short = json!({"key": "rsa-2048", "input": base64(&sha256[..31]), "hash_algorithm": "sha2-256",
        "prehashed": true});
    let refused = client.call("transit_sign", short);
    assert_refused(&refused, "vault_rejected");
    assert!(refused.text().contains("length"), "{}", refused.text());
}

#[test]
fn an_hmac_is_the_same_that_anybody_would_compute_from_its_input() {
    let Some(mount) = keys() else { return };
    let client = over(mount);
    for (hash, length) in [("sha2-224", 28), ("sha2-256", 32), ("sha2-384", 48), ("sha2-512", 64)] {
        let call = json!({"key": "hmac", "input": base64(MESSAGE), "hash_algorithm": hash});
        let one = sign(&client, &call);
        assert_eq!(one.len(), length, "{hash}");
        assert_eq!(sign(&client, &call), one, "an HMAC has no randomness in it");
    }
}

#[test]
fn a_damaged_signature_is_not_valid_and_no_error() {
    let Some(mount) = keys() else { return };
    let client = over(mount);
    for key in ["ed25519", "ecdsa-p256", "rsa-2048", "hmac"] {
        for signature in ["vault:v1:AAAA", "vault:v1:MEUCIQ=="] {
            let call = json!({"key": key, "input": base64(MESSAGE), "signature": signature});
            assert_eq!(client.call("transit_verify", call).ok()["valid"], false, "{key} {signature}");
        }
    }
}
