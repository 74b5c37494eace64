//! What a server for many agents needs besides: trees and policies of theirs, and a token of its own.

use http::Method;
use serde_json::{Value, json};

use super::{Client, Seed, SeedError, Server, parts, text};

/// Agents whose trees are filled; the others begin with empty ones.
const FILLED: usize = 16;
/// The policy of the server's own token.
const SERVER: &str = "mcp-server";

/// The agents of one server.
#[derive(Debug, Clone)]
pub struct Many<'a> {
    /// Those who are known beforehand.
    pub subjects: Vec<&'a str>,
    /// Where each has a token of its own: what the names of their policies begin with.
    pub own_tokens: Option<&'a str>,
}

/// Sets up what these agents need, after [`super::seed`], and gives the server's token. It works in every agent's
/// tree; or, where each has a token of its own, it makes those and nothing else.
///
/// # Errors
/// See [`SeedError`].
pub async fn seed_many(
    url: &str,
    token: &str,
    http: &Client,
    what: &Seed,
    many: &Many<'_>,
) -> Result<String, SeedError> {
    let server = Server { url: url.trim_end_matches('/'), token, http };
    let of = |subject: &str| Seed { subject: subject.to_owned(), ..what.clone() };
    for subject in many.subjects.iter().take(FILLED) {
        parts::kv2(&server, &of(subject), &mut super::Report::default()).await?;
    }
    let policy = async |name: &str, text: String| {
        let path = format!("sys/policies/acl/{name}");
        server.send(Method::POST, &path, &json!({ "policy": text })).await.map(drop)
    };
    match many.own_tokens {
        // A whole segment, whosever it is.
        None => policy(SERVER, parts::agent_policy(&of("+"))).await?,
        Some(prefix) => {
            for subject in &many.subjects {
                policy(&format!("{prefix}{subject}"), parts::agent_policy(&of(subject))).await?;
            }
            let make = r#"path "auth/token/create" { capabilities = ["update", "sudo"] }"#;
            policy(SERVER, make.to_owned()).await?;
        }
    }
    let made: Value = server
        .post(
            "auth/token/create",
            json!({ "policies": [SERVER], "ttl": what.token_ttl, "display_name": SERVER }),
        )
        .await?;
    Ok(text(&made, "/auth/client_token"))
}
