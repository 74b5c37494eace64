//! `vault-mcp jwt`: a token for trying the HTTP front, signed with `JWT_HS256_SECRET`. An issuer that people log in
//! to takes this command's place where it matters.

use std::process::ExitCode;

use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::json;

use super::{
    print,
    user::{Scopes, scopes, subject},
};
use crate::{
    config::{Config, FromSetting, Seconds},
    error::Error,
    names::Subject,
};

/// Longest life, in seconds: what shall last longer is an API key, which can be taken away.
const LONGEST: u64 = 24 * 3600;

/// A token, and what is in it.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Whom the calls act for
    #[arg(long, value_parser = subject)]
    subject: Subject,
    /// What the token allows: words of read, write, delete, list
    #[arg(long, value_name = "LIST", default_value = "read,list", value_parser = scopes)]
    scopes: Scopes,
    /// How long it is good for, at most 24h
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = ttl)]
    ttl: Seconds,
}

fn ttl(text: &str) -> Result<Seconds, String> {
    Seconds::parse(text).and_then(|ttl| match ttl.0 {
        1..=LONGEST => Ok(ttl),
        _ => Err("expected a time from 1s to 24h".to_owned()),
    })
}

/// Prints a token.
pub(super) fn run(config: &Config, arguments: &Arguments) -> Result<ExitCode, Error> {
    let Some(secret) = &*config.jwt_hs256_secret else {
        return Err(Error::config(
            "JWT_HS256_SECRET",
            "it is not set, and tokens are signed with it. Set it here as for the server: `export JWT_HS256_SECRET=$(openssl rand -hex 32)`.",
        ));
    };
    let now = jsonwebtoken::get_current_timestamp();
    let claims = json!({
        "iss": *config.jwt_issuer,
        "aud": *config.jwt_audience,
        "sub": arguments.subject,
        "scopes": arguments.scopes.0,
        "iat": now,
        "exp": now + arguments.ttl.0,
        "jti": crate::random::uuid()?,
    });
    // A server with JWT_REQUIRE_KID takes it as well.
    let header = Header { kid: Some("development".to_owned()), ..Header::new(Algorithm::HS256) };
    let key = EncodingKey::from_secret(secret.expose().as_bytes());
    let token = jsonwebtoken::encode(&header, &claims, &key)
        .map_err(|_| Error::Internal { what: "a token that cannot be signed" })?;
    print(&format!("{token}\n"))
}
