//! The tools of AWS KMS over stdio, against moto's KMS, AWS' SDK for Python and an independent library of
//! cryptography. No Vault takes part: these tools need none.
#![cfg(feature = "kms")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

#[path = "kms/attacks.rs"]
mod attacks;
#[path = "kms/ciphers.rs"]
mod ciphers;
#[path = "kms/faults.rs"]
mod faults;
#[path = "kms/other_side.rs"]
mod other_side;
#[path = "kms/set_up.rs"]
mod set_up;
#[path = "kms/signatures.rs"]
mod signatures;

use std::sync::Arc;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use common::{Answer, Era, Home, McpClient, Proxy, Server, server::Launch};
use other_side::{OtherSide, REGION};

/// What the server signs with.
const ACCESS_KEY: &str = "AKIAVAULTMCPTEST";
const SECRET_KEY: &str = "kanarienvogel7f3a_not-for-any-output";

/// A session before moto, through a proxy, whose human says yes to everything.
struct Scene {
    aws: &'static OtherSide,
    proxy: Proxy,
    client: McpClient,
    home: Arc<Home>,
}

impl Scene {
    /// `None` where moto cannot be had; then the test says so and ends.
    fn new(settings: &[(&str, &str)]) -> Option<Self> {
        let aws = other_side::other_side()?;
        let proxy = Proxy::before(&aws.address);
        let mut launch = launch().env("AWS_KMS_ENDPOINT", &proxy.address);
        for (name, value) in settings {
            launch = launch.env(name, value);
        }
        let home = Arc::clone(launch.at());
        let client = launch.spawn().connect(Era::usual());
        client.always(Answer::yes());
        Some(Self { aws, proxy, client, home })
    }

    /// What the human was shown last.
    #[track_caller]
    fn question(&self) -> String {
        self.client.asked().last().expect("nobody was asked")["message"].as_str().unwrap().to_owned()
    }
}

/// With everything that KMS needs but the endpoint. The Vault does not exist.
fn launch() -> Launch {
    Server::launch()
        .env("VAULT_ADDR", "http://127.0.0.1:1")
        .env("SUBJECT", "alice")
        .env("RATE_LIMIT_ENABLED", "false")
        .env("AWS_KMS_ENABLED", "true")
        .env("AWS_REGION", REGION)
        .env("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        .env("AWS_EC2_METADATA_DISABLED", "true")
}

fn base64(bytes: impl AsRef<[u8]>) -> String {
    STANDARD.encode(bytes)
}

fn unbase64(text: &serde_json::Value) -> Vec<u8> {
    STANDARD.decode(text.as_str().unwrap()).unwrap()
}
