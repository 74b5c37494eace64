//! Which refusals a route can end in: from the table of error codes, each code's kind giving the status.

use serde_json::{Value, json};

use super::{
    Document, ids,
    model::{Response, Responses, json_of},
    pascal, reference,
};
use crate::{
    audit::AuditError,
    codes::{Code, Kind},
    config::Config,
    error::Error,
    front::http::{
        answer::status_of,
        rest::{self, Row},
        routes::{Access, Content, Endpoint},
    },
    op::{Op, Spec, Toolset, Verb},
};

/// In the order of their statuses.
const KINDS: &[Kind] = &[
    Kind::NotAllowed,
    Kind::Absent,
    Kind::Conflict,
    Kind::TooLarge,
    Kind::Input,
    Kind::Busy,
    Kind::Internal,
    Kind::Upstream,
    Kind::Unavailable,
    Kind::Timeout,
];

impl Document<'_> {
    /// The refusals of an operation's route, by status.
    pub(super) fn refusals(&mut self, row: &Row) -> Responses {
        let mut responses = Responses::new();
        let (op, config) = (row.op, self.config);
        for kind in KINDS {
            let of = |op: &'static Op| {
                codes().filter(move |code| code.kind == *kind && applies(code, &op.spec, config))
            };
            if of(op).next().is_none() {
                continue;
            }
            // One component for the whole family: what each row lacks of it, no program would miss.
            let family = rest::rows().iter().filter(|other| other.op.spec.toolset == op.spec.toolset);
            let mut codes: Vec<&Code> = family.flat_map(|other| of(other.op)).collect();
            codes.sort_unstable_by_key(|code| code.code);
            codes.dedup();
            let name = format!("{kind:?}{}", pascal(op.spec.toolset.as_str()));
            let response = refusal(*kind, &codes);
            self.responses.insert(name.clone(), response.into());
            responses.insert(status_of(*kind).as_str().to_owned(), reference("responses", &name));
        }
        if row.query.values().any(rest::Kind::is_word) {
            responses
                .insert("400".into(), self.plain("WrongWord", "A word that is none of the allowed ones."));
        }
        if matches!(row.rest.verb, Verb::Post | Verb::Put) {
            responses.insert("408".into(), self.plain("TooSlow", "The body did not arrive in time."));
        }
        responses.insert("401".into(), self.unauthorized());
        if self.asks(op) {
            let mut headers = ids();
            headers.insert("X-Approval-Ticket", reference("headers", "Ticket"));
            headers.insert("Retry-After", reference("headers", "RetryAfter"));
            let waiting = Response {
                description: "A person is asked. Send the same request again with the ticket.".into(),
                headers,
                content: Some(json_of(reference("schemas", "Waiting"), None)),
            };
            self.responses.insert("Waiting".into(), waiting.into());
            responses.insert("202".into(), reference("responses", "Waiting"));
        }
        responses
    }

    /// The refusals of a route that is no operation's.
    pub(super) fn refusals_of(&mut self, endpoint: &Endpoint) -> Responses {
        let mut codes = vec!["internal"];
        if matches!(endpoint.access, Access::Scope(_)) {
            codes.push("missing_scope");
        }
        if endpoint.access != Access::Open {
            // For who sends wrong credentials again and again, whatever the limit of calls is.
            codes.push("rate_limited");
        }
        if !matches!(endpoint.body, Content::Nothing) {
            codes.push("too_large");
        }
        let mut responses: Responses = codes.into_iter().map(|code| self.one(code)).collect();
        if !matches!(endpoint.body, Content::Nothing) {
            responses.insert("408".into(), self.plain("TooSlow", "The body did not arrive in time."));
        }
        if endpoint.access != Access::Open {
            responses.insert("401".into(), self.unauthorized());
        }
        responses
    }

    /// The refusal that has this code alone, by its status.
    fn one(&mut self, code: &str) -> (String, Value) {
        let kind = Error::kind_of(code);
        let codes: Vec<&Code> = codes().filter(|known| known.code == code).collect();
        let name = pascal(code);
        self.responses.insert(name.clone(), refusal(kind, &codes).into());
        (status_of(kind).as_str().to_owned(), reference("responses", &name))
    }

    fn unauthorized(&mut self) -> Value {
        let mut headers = ids();
        headers.insert("WWW-Authenticate", reference("headers", "WwwAuthenticate"));
        let response = Response {
            description:
                "There is no credential, or one that does not hold. Which it is, the server's log knows."
                    .into(),
            headers,
            content: Some(json_of(reference("schemas", "Error"), Some(json!({ "detail": "Unauthorized" })))),
        };
        self.responses.insert("Unauthorized".into(), response.into());
        reference("responses", "Unauthorized")
    }

    fn plain(&mut self, name: &str, when: &str) -> Value {
        let content = Some(json_of(reference("schemas", "Error"), None));
        let response = Response { description: when.to_owned(), headers: ids(), content };
        self.responses.insert(name.to_owned(), response.into());
        reference("responses", name)
    }
}

/// Every code that an answer may carry.
fn codes() -> impl Iterator<Item = &'static Code> {
    Error::CODES.iter().chain(Error::ELSEWHERE).chain(AuditError::CODES)
}

/// The answer that carries one of these codes.
fn refusal(kind: Kind, codes: &[&Code]) -> Response {
    let lines: Vec<_> = codes.iter().map(|code| format!("- `{}`: {}", code.code, code.when)).collect();
    let words: Vec<_> = codes.iter().map(|code| code.code).collect();
    let mut headers = ids();
    if matches!(kind, Kind::Busy | Kind::Unavailable) {
        headers.insert("Retry-After", reference("headers", "RetryAfter"));
    }
    if kind == Kind::NotAllowed {
        headers.insert("WWW-Authenticate", reference("headers", "WwwAuthenticate"));
    }
    let schema = json!({
        "allOf": [reference("schemas", "Error")],
        "required": ["error"],
        "properties": { "error": { "enum": words } },
    });
    Response { description: lines.join("\n"), headers, content: Some(json_of(schema, None)) }
}

/// Whether a REST call of this operation can end with this code. What is not named here can: a new code stands
/// in the document until somebody knows better.
fn applies(code: &Code, spec: &Spec, config: &Config) -> bool {
    let changes = !spec.effect.is_read_only();
    let kms = spec.toolset == Toolset::Kms;
    match code.code {
        // REST has no masks and no files, says of a version that is gone that it is not there, and has no route
        // for what is not registered.
        "reveal_forbidden" | "file_refused" | "file_unreadable" | "not_carried" | "version_gone"
        | "unknown_tool" => false,
        // Told to whoever starts the server; and 401 tells nobody more than that it is one.
        "config_invalid" | "unauthorized" => false,
        "missing_scope" => spec.scope.is_some(),
        "declined" | "cancelled" | "nobody_to_ask" | "approval_timed_out" | "not_confirmed"
        | "too_many_pending" | "target_differs" | "failed_elsewhere" => {
            *config.confirm_rest && config.confirm_effects.contains(spec.effect)
        }
        "masked_value" | "dangerous_pattern" | "conflict" => spec.toolset == Toolset::Kv && changes,
        "unsupported_on_kv_v1" => spec.toolset == Toolset::Kv,
        "lease_unknown" => spec.toolset == Toolset::Db,

        "applied_unrecorded" => changes,
        "outcome_unknown" => changes && !kms,
        "forbidden" | "invalid_path" | "mount_not_found" => !kms,
        code if code.starts_with("kms_") => kms,
        code if code.starts_with("vault_") || code.starts_with("token_") => !kms,
        _ => true,
    }
}
