//! `/openapi.json`: what this server answers, in OpenAPI 3.1, made from what answers it. An operation's route,
//! arguments and answer come from its row in the table, every other route from the description that it was
//! registered with, refusals from the table of error codes. What is switched off is not in it.

mod examples;
mod model;
mod operations;
mod refusals;

use std::{collections::BTreeMap, sync::Arc};

use axum::extract::State;
use http::HeaderMap;
use schemars::{
    Schema, SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde_json::{Map, Value, json};

use model::{Body, Contents, Media, Operation, Response};

use super::{
    App,
    fixed::Fixed,
    rest,
    routes::{Access, Content, Endpoint, Place, Reply, Routes},
};
use crate::{
    broker::Broker,
    config::Config,
    op::{Toolset, Verb, neutral},
};

static DOCUMENT: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/openapi.json",
    tag: "documents",
    title: "This document",
    about: "Every route of this server as it is set up, in OpenAPI 3.1.",
    access: Access::Open,
    parameters: &[],
    body: Content::Nothing,
    replies: &[
        Reply { status: 200, when: "The document.", content: Content::Json(any_object) },
        Reply { status: 304, when: "It is the one that `If-None-Match` names.", content: Content::Nothing },
    ],
};

fn any_object(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({ "type": "object" })
}

pub(super) fn routes() -> Routes {
    Routes::default().add(&DOCUMENT, async |State(app): State<Arc<App>>, headers: HeaderMap| {
        let make = || Fixed::new("application/json", made(app.broker.config()).to_string().into_bytes());
        app.document.get_or_init(make).answer(&headers)
    })
}

/// The document of a server with these settings.
#[must_use]
pub fn made(config: &Config) -> Value {
    let mut document = Document { config, schemas: schemas(), responses: BTreeMap::new() };
    let mut paths: BTreeMap<String, Map<String, Value>> = BTreeMap::new();
    let mut put = |path: &str, verb: Verb, operation: Value| {
        paths.entry(path.replace("{*", "{")).or_default().insert(method(verb), operation);
    };
    if *config.expose_rest_routes {
        for row in rest::rows().iter().filter(|row| Broker::is_registered(config, row.op)) {
            put(row.rest.path, row.rest.verb, document.operation(row));
        }
    }
    for endpoint in super::routes().endpoints() {
        put(endpoint.path, endpoint.verb, document.endpoint(endpoint));
    }
    let used = |tag: &str| {
        paths
            .values()
            .flat_map(Map::values)
            .any(|operation| operation.pointer("/tags/0").is_some_and(|used| used == tag))
    };
    let tags: Vec<_> = TAGS
        .iter()
        .filter(|(tag, _)| used(tag))
        .map(|(tag, about)| json!({ "name": tag, "description": about }))
        .collect();
    let schemes = security_schemes(config);
    let security: Vec<_> = schemes.keys().map(|scheme| json!({ scheme: [] })).collect();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "vault-mcp",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": env!("CARGO_PKG_DESCRIPTION"),
            "description": ABOUT,
            "license": { "name": "MIT or Apache 2.0", "identifier": env!("CARGO_PKG_LICENSE") },
        },
        "servers": [{ "url": config.public_url.as_ref().map_or("/", |url| url.as_str()) }],
        "tags": tags,
        "security": security,
        "paths": paths,
        "components": {
            "securitySchemes": schemes,
            "headers": headers(),
            "parameters": parameters(),
            "responses": document.responses,
            "schemas": document.schemas,
        },
    })
}

const ABOUT: &str = "\
HashiCorp Vault or OpenBao for programs and AI agents, each with a credential and a tree of its own.\n\n\
- **Paths** are relative to the caller's own tree. A slash in a path parameter may be sent as it is or as `%2F`.\n\
- **Values** are given in clear in REST, never masked: where a schema speaks of a mask, it is what models get over MCP.\n\
- **Every answer** carries `X-Request-Id` and `X-Correlation-Id`; the second is yours if you send one.\n\
- **Limits** are a subject's, over all of its credentials: `RateLimit-Limit`, `RateLimit-Remaining` and \
  `RateLimit-Reset` on the answer to a call say what is left of them.\n\
- **Refusals** are `{\"detail\", \"error\"}`: a text for people, and a code that stays as it is.\n\
- **Every call** of an operation is in the audit log, whatever came of it.";

/// Groups of routes.
const TAGS: &[(&str, &str)] = &[
    ("secrets", "Secrets with versions (KV)."),
    ("transit", "Cryptography with keys that stay in Vault."),
    ("database", "Database users that Vault makes, and their leases."),
    ("ssh", "One-time passwords and certificates for SSH."),
    ("kms", "Keys of AWS KMS; `AWS_KMS_ENABLED` switches them on."),
    ("mcp", "The Model Context Protocol over HTTP, and live events."),
    ("caller", "What the server knows of who calls."),
    ("authorization", "Where tokens for this server come from."),
    ("watch", "What the server does: metrics and logs."),
    ("health", "Whether the server lives and can do its work."),
    ("documents", "This API's own description."),
];

fn tag(toolset: Toolset) -> &'static str {
    match toolset {
        Toolset::Session => "caller",
        Toolset::Kv | Toolset::Service => "secrets",
        Toolset::Transit => "transit",
        Toolset::Db => "database",
        Toolset::Ssh => "ssh",
        Toolset::Pki => "pki",
        Toolset::Kms => "kms",
    }
}

/// The words of an id or a path as one: `kv.read` is `kvRead`, as the id of an operation.
fn camel(words: &str) -> String {
    let mut words = words.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| !word.is_empty());
    let first = words.next().map(str::to_owned);
    first.into_iter().chain(words.map(capital)).collect()
}

/// The same as the name of a component: `KvRead`.
fn pascal(words: &str) -> String {
    capital(&camel(words))
}

fn capital(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map(|first| first.to_ascii_uppercase()).into_iter().chain(letters).collect()
}

fn method(verb: Verb) -> String {
    rest::word_of(verb).to_ascii_lowercase()
}

/// The ways to say who one is that are switched on.
fn security_schemes(config: &Config) -> Map<String, Value> {
    let mut schemes = Map::new();
    if *config.auth_api_key_enabled {
        let key = json!({ "type": "apiKey", "in": "header", "name": "X-API-Key", "description": "A key of `API_KEYS_JSON` or `USERS_FILE`." });
        schemes.insert("ApiKey".into(), key);
    }
    if *config.auth_jwt_enabled {
        let token = json!({
            "type": "http", "scheme": "bearer", "bearerFormat": "JWT",
            "description": "A JSON Web Token with `sub`, `exp` and `scopes`, for this server's audience.",
        });
        schemes.insert("Bearer".into(), token);
    }
    if *config.auth_mtls_enabled || config.tls_client_ca.is_some() {
        let certificate = json!({ "type": "mutualTLS", "description": "A client certificate whose common name is the caller." });
        schemes.insert("MutualTLS".into(), certificate);
    }
    schemes
}

fn headers() -> Value {
    let text = |about: &str, required: bool| json!({ "description": about, "required": required, "schema": { "type": "string" } });
    json!({
        "RequestId": text("Made here for this request.", true),
        "CorrelationId": text("The caller's own id of what this request belongs to; else the request's.", true),
        "TraceId": text("The trace that this request belongs to, where it is traced.", false),
        "RetryAfter": { "description": "Seconds to wait.", "schema": { "type": "integer", "minimum": 0 } },
        "RateLimitLimit": { "description": "Calls in a window.", "schema": { "type": "integer", "minimum": 0 } },
        "RateLimitRemaining": { "description": "Calls that are left of it.", "schema": { "type": "integer", "minimum": 0 } },
        "RateLimitReset": { "description": "Seconds until all are there again.", "schema": { "type": "integer", "minimum": 0 } },
        "WwwAuthenticate": text("How to get a token, where tokens are taken.", false),
        "Ticket": text("The question that this call waits for.", true),
        "Allow": text("The methods that are answered there.", true),
    })
}

/// Headers of the answer to a call that counted.
fn counted() -> BTreeMap<&'static str, Value> {
    let left = [
        ("RateLimit-Limit", "RateLimitLimit"),
        ("RateLimit-Remaining", "RateLimitRemaining"),
        ("RateLimit-Reset", "RateLimitReset"),
    ];
    ids().into_iter().chain(left.map(|(name, component)| (name, reference("headers", component)))).collect()
}

/// Headers of every answer.
fn ids() -> BTreeMap<&'static str, Value> {
    [("X-Request-Id", "RequestId"), ("X-Correlation-Id", "CorrelationId"), ("X-Trace-Id", "TraceId")]
        .into_iter()
        .map(|(name, component)| (name, reference("headers", component)))
        .collect()
}

fn parameters() -> Value {
    json!({
        "CorrelationId": {
            "name": "X-Correlation-Id", "in": "header",
            "description": "Your id of what this request belongs to, repeated in the answer and the logs. Anything but a plain word of up to 128 characters is passed over.",
            "schema": { "type": "string" },
        },
        "Ticket": {
            "name": "X-Approval-Ticket", "in": "header",
            "description": "The ticket of an earlier 202: the same request with it gets the result once a person has said yes.",
            "schema": { "type": "string" },
        },
    })
}

fn reference(section: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{section}/{name}") })
}

/// Schemas that no type of ours is.
fn schemas() -> BTreeMap<String, Value> {
    let error = json!({
        "type": "object",
        "description": "A refusal or a failure.",
        "required": ["detail"],
        "additionalProperties": false,
        "properties": {
            "detail": {
                "description": "The fault, and what can be done about it: a text, or one entry for each argument that is at fault. It never holds a value.",
                "oneOf": [
                    { "type": "string" },
                    { "type": "array", "items": {
                        "type": "object",
                        "required": ["loc", "msg", "type"],
                        "additionalProperties": false,
                        "properties": {
                            "loc": { "description": "The argument.", "type": "array", "items": { "type": "string" } },
                            "msg": { "description": "What is wrong with it.", "type": "string" },
                            "type": { "description": "As `error`.", "type": "string" },
                        },
                    } },
                ],
            },
            "error": { "description": "What it is, in a word that stays as it is.", "type": "string" },
        },
        "examples": [{ "detail": "Secret not found", "error": "invalid_path" }],
    });
    let done = json!({
        "type": "object",
        "required": ["ok"],
        "properties": { "ok": { "const": true } },
        "additionalProperties": false,
    });
    let waiting = json!({
        "type": "object",
        "description": "A person is asked first.",
        "required": ["detail", "ticket", "expires_in"],
        "properties": {
            "detail": { "type": "string" },
            "ticket": { "description": "Names the question; it is no yes.", "type": "string" },
            "expires_in": { "description": "Seconds that the person has.", "type": "integer", "minimum": 0 },
        },
    });
    [("Error", error), ("Done", done), ("Waiting", waiting)]
        .map(|(name, schema)| (name.to_owned(), schema))
        .into()
}

/// A document in the making.
struct Document<'a> {
    config: &'a Config,
    schemas: BTreeMap<String, Value>,
    responses: BTreeMap<String, Value>,
}

impl Document<'_> {
    /// Which credentials are taken, and the scope they need.
    fn security(&self, access: Access) -> Value {
        let scopes: &[&str] = match access {
            Access::Open => return json!([]),
            Access::Caller => &[],
            Access::Scope(scope) => &[scope.as_str()],
        };
        security_schemes(self.config).keys().map(|scheme| json!({ scheme: scopes })).collect()
    }

    /// What is said of a route that is no operation's.
    fn endpoint(&mut self, endpoint: &Endpoint) -> Value {
        let parameters = endpoint.parameters.iter().map(|parameter| {
            let place = match parameter.place {
                Place::Path => "path",
                Place::Query => "query",
                Place::Header => "header",
            };
            json!({
                "name": parameter.name,
                "in": place,
                "required": parameter.place == Place::Path,
                "description": parameter.about,
                "schema": inline(parameter.schema, Contract::Deserialize),
            })
        });
        let parameters = parameters.chain([reference("parameters", "CorrelationId")]).collect();
        let mut responses = self.refusals_of(endpoint);
        for reply in endpoint.replies {
            let response = Response {
                description: reply.when.into(),
                headers: ids(),
                content: content(reply.content, Contract::Serialize),
            };
            responses.insert(reply.status.to_string(), response.into());
        }
        Operation {
            operation_id: camel(&format!("{}{}", method(endpoint.verb), endpoint.path)),
            tags: [endpoint.tag],
            summary: endpoint.title,
            description: endpoint.about.to_owned(),
            security: self.security(endpoint.access),
            parameters,
            request_body: content(endpoint.body, Contract::Deserialize)
                .map(|content| Body { required: true, content }),
            responses,
        }
        .into()
    }
}

fn content(content: Content, contract: Contract) -> Option<Contents> {
    let (media, schema) = match content {
        Content::Nothing => return None,
        Content::Json(schema) => ("application/json", inline(schema, contract)),
        Content::Fault => ("application/json", reference("schemas", "Error")),
        Content::Text(media) => (media, json!({ "type": "string" })),
    };
    Some(BTreeMap::from([(media, Media { schema, example: None })]))
}

fn inline(schema: fn(&mut SchemaGenerator) -> Schema, contract: Contract) -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.contract = contract;
    });
    let mut value = schema(&mut settings.into_generator()).to_value();
    neutral(&mut value);
    value
}
