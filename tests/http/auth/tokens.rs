//! Tokens as an issuer makes them, and as an attacker does: signed here by hand, with keys of the tests' own.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    sync::{Arc, Mutex},
};

use aws_lc_rs::{
    encoding::{AsDer, PublicKeyX509Der},
    hmac,
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256, RsaKeyPair,
        RsaPublicKeyComponents,
    },
};
use base64::{
    Engine as _,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::{Value, json};

use crate::common::Proxy;

/// Seconds since 1970.
pub(super) fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs()
}

/// Claims that hold, under the settings as they are by default.
pub(super) fn claims(subject: &str) -> Value {
    json!({
        "iss": "mcp-auth", "aud": "mcp-agents", "sub": subject,
        "exp": now() + 300, "scopes": ["read", "write", "delete", "list"],
    })
}

/// `base` with these members in place of its own; null takes one away.
pub(super) fn with(mut base: Value, changes: Value) -> Value {
    let map = base.as_object_mut().unwrap();
    for (name, value) in changes.as_object().unwrap() {
        match value {
            Value::Null => map.remove(name),
            value => map.insert(name.clone(), value.clone()),
        };
    }
    base
}

pub(super) fn part(text: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(text)
}

/// A header that carries this token.
pub(super) fn bearer(token: &str) -> String {
    format!("Bearer {token}")
}

fn signed(header: &Value, claims: &Value, sign: impl FnOnce(&[u8]) -> Vec<u8>) -> String {
    let message = format!("{}.{}", part(header.to_string()), part(claims.to_string()));
    format!("{message}.{}", part(sign(message.as_bytes())))
}

/// HMAC with SHA-256, whatever the header says.
pub(super) fn hmac_signed(secret: impl AsRef<[u8]>, header: &Value, claims: &Value) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_ref());
    signed(header, claims, |message| hmac::sign(&key, message).as_ref().to_vec())
}

/// A usual HS256 token.
pub(super) fn hs256(secret: &str, claims: &Value) -> String {
    hmac_signed(secret, &json!({"alg": "HS256", "typ": "JWT"}), claims)
}

/// A key pair of an issuer.
pub(super) enum Pair {
    Rsa(RsaKeyPair),
    Ec(EcdsaKeyPair),
}

impl Pair {
    pub(super) fn rsa() -> Self {
        Self::Rsa(RsaKeyPair::generate(KeySize::Rsa2048).unwrap())
    }

    pub(super) fn ec() -> Self {
        Self::Ec(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap())
    }

    pub(super) fn algorithm(&self) -> &'static str {
        match self {
            Self::Rsa(_) => "RS256",
            Self::Ec(_) => "ES256",
        }
    }

    /// The public half (RFC 7517).
    pub(super) fn jwk(&self, id: &str) -> Value {
        match self {
            Self::Rsa(pair) => {
                let public: RsaPublicKeyComponents<Vec<u8>> = pair.public_key().into();
                json!({"kty": "RSA", "kid": id, "use": "sig", "alg": "RS256", "n": part(public.n), "e": part(public.e)})
            }
            Self::Ec(pair) => {
                let point = pair.public_key().as_ref();
                json!({"kty": "EC", "crv": "P-256", "kid": id, "use": "sig", "x": part(&point[1..33]), "y": part(&point[33..])})
            }
        }
    }

    /// Signs under any header at all.
    pub(super) fn signed(&self, header: &Value, claims: &Value) -> String {
        let random = SystemRandom::new();
        signed(header, claims, |message| match self {
            Self::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).unwrap();
                signature
            }
            Self::Ec(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
        })
    }

    /// A usual token of this key.
    pub(super) fn token(&self, id: &str, claims: &Value) -> String {
        self.signed(&json!({"alg": self.algorithm(), "typ": "JWT", "kid": id}), claims)
    }

    /// Texts by which the public key is known: what an attacker would try as a shared secret.
    pub(super) fn public_texts(&self) -> Vec<Vec<u8>> {
        let der = match self {
            Self::Rsa(pair) => {
                AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref().to_vec()
            }
            Self::Ec(pair) => {
                AsDer::<PublicKeyX509Der<'_>>::as_der(pair.public_key()).unwrap().as_ref().to_vec()
            }
        };
        let lines: Vec<_> = STANDARD.encode(&der).into_bytes().chunks(64).map(<[u8]>::to_vec).collect();
        let body = lines.join(&b'\n');
        let pem = [b"-----BEGIN PUBLIC KEY-----\n", body.as_slice(), b"\n-----END PUBLIC KEY-----"].concat();
        let jwk = self.jwk("a").to_string().into_bytes();
        vec![der, pem.clone(), [pem, b"\n".to_vec()].concat(), jwk]
    }
}

/// A set of keys (RFC 7517).
pub(super) fn set(keys: &[Value]) -> String {
    json!({ "keys": keys }).to_string()
}

/// An issuer's address for its keys, behind a proxy that counts who asks and can break the answers.
pub(super) struct Issuer {
    pub(super) proxy: Proxy,
    answer: Arc<Mutex<String>>,
}

impl Issuer {
    pub(super) fn new(keys: &[Value]) -> Self {
        let answer = Arc::new(Mutex::new(set(keys)));
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let current = answer.clone();
        // It ends with the test's process, as does whoever could ask it.
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let body = current.lock().unwrap().clone();
                // A client that goes away is no fault of the issuer's.
                std::thread::spawn(move || drop(answer_with(&client, &body)));
            }
        });
        Self { proxy: Proxy::before(&address), answer }
    }

    pub(super) fn url(&self) -> String {
        format!("{}/jwks.json", self.proxy.address)
    }

    /// From now on it has these keys.
    pub(super) fn rotate(&self, keys: &[Value]) {
        *self.answer.lock().unwrap() = set(keys);
    }
}

fn answer_with(mut client: &TcpStream, body: &str) -> std::io::Result<()> {
    let mut reader = BufReader::new(client.try_clone()?);
    let mut line = String::new();
    while reader.read_line(&mut line)? > 0 && line != "\r\n" {
        line.clear();
    }
    write!(
        client,
        "HTTP/1.0 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )?;
    client.shutdown(std::net::Shutdown::Write)?;
    reader.read_to_end(&mut Vec::new()).map(drop)
}
