//! What a caller can find out about themself: who the server takes them for, and which headers reach it through
//! whatever stands between.

use std::collections::BTreeMap;

use axum::{Extension, Json};
use http::{HeaderMap, HeaderName, header};
use schemars::JsonSchema;
use serde::Serialize;

use super::routes::{Access, Content, Endpoint, Reply, Routes};
use crate::{caller::Caller, op::Verb};

static WHOAMI: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/whoami",
    tag: "caller",
    title: "Who the server takes the caller for",
    about: "The subject that the credential stands for, what it allows, and the folder that paths are relative to.",
    access: Access::Caller,
    parameters: &[],
    body: Content::Nothing,
    replies: &[Reply { status: 200, when: "The credential holds.", content: Content::json::<WhoAmI>() }],
};

static ECHO: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/echo-headers",
    tag: "caller",
    title: "The headers that reach the server",
    about: "Name and value of each header of this request. Every value that may be a credential is redacted: all but a few headers' that never are.",
    access: Access::Caller,
    parameters: &[],
    body: Content::Nothing,
    replies: &[Reply {
        status: 200,
        when: "The credential holds.",
        content: Content::json::<BTreeMap<String, String>>(),
    }],
};

/// For callers with a credential.
pub(super) fn routes() -> Routes {
    Routes::default().add(&WHOAMI, whoami).add(&ECHO, echo)
}

/// Who calls.
#[derive(Serialize, JsonSchema)]
struct WhoAmI {
    /// The agent.
    subject: String,
    /// What its credential allows.
    scopes: Vec<&'static str>,
    /// The folder under the KV mount that paths are relative to.
    vault_path_prefix: String,
}

async fn whoami(Extension(caller): Extension<Caller>) -> Json<WhoAmI> {
    Json(WhoAmI {
        subject: caller.subject.to_string(),
        scopes: caller.scopes.iter().map(|scope| scope.as_str()).collect(),
        vault_path_prefix: caller.place.root().to_owned(),
    })
}

/// In place of a value.
const REDACTED: &str = "[redacted]";

/// Headers whose values are never a credential. Whatever is not named here may be one, under a name that some
/// proxy or client has thought of.
const HARMLESS: [HeaderName; 15] = [
    header::ACCEPT,
    header::ACCEPT_CHARSET,
    header::ACCEPT_ENCODING,
    header::ACCEPT_LANGUAGE,
    header::CACHE_CONTROL,
    header::CONNECTION,
    header::CONTENT_LENGTH,
    header::CONTENT_TYPE,
    header::HOST,
    header::ORIGIN,
    header::TE,
    header::TRANSFER_ENCODING,
    header::USER_AGENT,
    HeaderName::from_static("x-correlation-id"),
    HeaderName::from_static("x-request-id"),
];

async fn echo(headers: HeaderMap) -> Json<BTreeMap<String, String>> {
    let mut shown: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &headers {
        let value = match value.to_str() {
            Ok(text) if HARMLESS.contains(name) => text,
            _ => REDACTED,
        };
        shown
            .entry(name.as_str().to_owned())
            .and_modify(|first| *first = format!("{first}, {value}"))
            .or_insert_with(|| value.to_owned());
    }
    Json(shown)
}
