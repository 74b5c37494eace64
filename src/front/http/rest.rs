//! REST: a loop over the table of operations. Verb, path and form of the answer are in each row; arguments are
//! gathered from path, query and body into the one object that every front end hands to the broker.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use axum::{
    Json,
    body::to_bytes,
    extract::{Request, State},
    response::{IntoResponse, Response},
};
use http::{HeaderValue, Method, StatusCode, header, request::Parts};
use percent_encoding::percent_decode_str;
use serde_json::{Map, Value, json};

use super::{
    App,
    answer::{Fault, Route, plain},
    browsers::check_origin,
    confirm::{self, Found},
};
use crate::{
    broker::{Answer, MAX_REQUEST, Outcome},
    caller::{Caller, Front},
    error::Error,
    front::strict_json,
    op::{FOR_MODELS, OPS, Op, Rest, RestAnswer, Verb},
};

/// A row of the table with a route, ready to be matched.
pub(super) struct Row {
    pub(super) op: &'static Op,
    pub(super) rest: Rest,
    before: &'static str,
    /// The argument that the path holds, and what follows it.
    pub(super) held: Option<(&'static str, &'static str)>,
    /// The arguments that the query may hold.
    pub(super) query: HashMap<String, Kind>,
}

/// What the text of a query parameter stands for.
pub(super) enum Kind {
    Text,
    Number,
    Flag,
    /// One of these.
    Words(Vec<String>),
}

impl Kind {
    /// Whether only certain words are taken.
    pub(super) fn is_word(&self) -> bool {
        matches!(self, Self::Words(_))
    }
}

static ROWS: LazyLock<Vec<Row>> = LazyLock::new(|| OPS.iter().filter_map(row).collect());

/// Every REST route, in the order of the table.
pub(super) fn rows() -> &'static [Row] {
    &ROWS
}

fn row(op: &'static Op) -> Option<Row> {
    let rest = op.rest?;
    let (before, held) = match rest.path.split_once('{') {
        None => (rest.path, None),
        Some((before, held)) => (before, held.split_once('}')),
    };
    let query = match rest.verb {
        Verb::Get | Verb::Delete => kinds(op),
        Verb::Post | Verb::Put => HashMap::new(),
    };
    Some(Row { op, rest, before, held, query })
}

/// The arguments that a query may hold: those that are no lists or objects.
fn kinds(op: &Op) -> HashMap<String, Kind> {
    let schema = op.input_schema();
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    let kind = |property: &Value| {
        if let Some(words) = property.get("enum").and_then(Value::as_array) {
            return Some(Kind::Words(words.iter().filter_map(Value::as_str).map(str::to_owned).collect()));
        }
        match property.get("type").and_then(Value::as_str) {
            Some("string") => Some(Kind::Text),
            Some("integer") => Some(Kind::Number),
            Some("boolean") => Some(Kind::Flag),
            _ => None,
        }
    };
    let ours = properties.filter(|(name, _)| !FOR_MODELS.contains(&name.as_str()));
    ours.filter_map(|(name, property)| Some((name.clone(), kind(property)?))).collect()
}

fn verb_of(method: &Method) -> Option<Verb> {
    [
        (Method::GET, Verb::Get),
        (Method::POST, Verb::Post),
        (Method::PUT, Verb::Put),
        (Method::DELETE, Verb::Delete),
    ]
    .into_iter()
    .find_map(|(known, verb)| (known == method).then_some(verb))
}

pub(super) fn word_of(verb: Verb) -> &'static str {
    match verb {
        Verb::Get => "GET",
        Verb::Post => "POST",
        Verb::Put => "PUT",
        Verb::Delete => "DELETE",
    }
}

impl Row {
    /// The part of the path that is the argument, still encoded; nothing where the path is another.
    fn matches<'a>(&self, path: &'a str) -> Option<Option<&'a str>> {
        let rest = path.strip_prefix(self.before)?;
        match self.held {
            None => rest.is_empty().then_some(None),
            Some((_, after)) => rest.strip_suffix(after).map(Some),
        }
    }

    /// How much of the path is stated: of two that match, the one that says more is meant.
    fn stated(&self) -> usize {
        self.before.len() + self.held.map_or(usize::MAX / 2, |(_, after)| after.len())
    }
}

/// Why a request has no row.
#[derive(Debug, PartialEq)]
enum Nowhere {
    /// 404.
    NoSuchPath,
    /// 405, with what is allowed there.
    NoSuchMethod(Vec<&'static str>),
}

impl IntoResponse for Nowhere {
    fn into_response(self) -> Response {
        let Self::NoSuchMethod(allowed) = self else { return plain(StatusCode::NOT_FOUND, "Not Found") };
        let mut response = plain(StatusCode::METHOD_NOT_ALLOWED, "Method Not Allowed");
        if let Ok(value) = HeaderValue::try_from(allowed.join(", ")) {
            response.headers_mut().insert(header::ALLOW, value);
        }
        response
    }
}

/// The row for a request, with the argument in its path.
fn find<'a>(method: &Method, path: &'a str) -> Result<(&'static Row, Option<&'a str>), Nowhere> {
    let there: Vec<_> = ROWS.iter().filter_map(|row| Some((row, row.matches(path)?))).collect();
    let verb = verb_of(method);
    let best =
        there.iter().filter(|(row, _)| Some(row.rest.verb) == verb).max_by_key(|(row, _)| row.stated());
    if let Some((row, held)) = best {
        return Ok((row, *held));
    }
    if there.is_empty() {
        return Err(Nowhere::NoSuchPath);
    }
    let mut allowed: Vec<_> = there.iter().map(|(row, _)| word_of(row.rest.verb)).collect();
    allowed.sort_unstable();
    allowed.dedup();
    Err(Nowhere::NoSuchMethod(allowed))
}

/// The path of the row that a request is for, as the table has it.
pub(super) fn template(method: &Method, path: &str) -> Option<&'static str> {
    find(method, path).ok().map(|(row, _)| row.rest.path)
}

/// Answers whatever no other route does.
pub(super) async fn serve(State(app): State<Arc<App>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    if !*app.broker.config().expose_rest_routes {
        return plain(StatusCode::NOT_FOUND, "Not Found");
    }
    let Some(caller) = parts.extensions.remove::<Caller>() else {
        return Fault(Error::Internal { what: "a REST call without a caller" }).into_response();
    };
    let caller = Caller { front: Front::Rest, ..caller };
    let path = parts.uri.path().to_owned();
    let (row, held) = match find(&parts.method, &path) {
        Ok(found) => found,
        Err(nowhere) => return nowhere.into_response(),
    };
    let route = Route(row.rest.path);
    if let Err(error) = check_origin(app.broker.config(), &parts.method, &parts.headers) {
        return route.on(refused(&app, row, &caller, error));
    }
    // It is whole already, and within its bounds.
    let body = to_bytes(body, MAX_REQUEST).await.unwrap_or_default();
    let arguments = match arguments(row, held, &parts, &body) {
        Ok(arguments) => arguments,
        Err(Odd::Error(error)) => return route.on(refused(&app, row, &caller, error)),
        Err(Odd::Word(detail)) => {
            let error = Error::input("query", "a word that is none of the allowed ones");
            return route.on(match app.broker.refuse_unknown(row.op.spec.id, &caller, error) {
                Error::InvalidInput { .. } => plain(StatusCode::BAD_REQUEST, &detail),
                other => Fault(other).into_response(),
            });
        }
    };
    let approved = match app.pending.take(&parts.headers, &caller) {
        Ok(None) => None,
        Ok(Some(Found::Yes(approved))) => Some(approved),
        Ok(Some(Found::Open)) => return route.on(confirm::waiting(ticket_of(&parts))),
        // A person's answer is recorded where they gave it.
        Err(error @ Error::TicketInvalid { .. }) => return route.on(refused(&app, row, &caller, error)),
        Err(error) => return route.on(Fault(error).into_response()),
    };
    route.on(match app.broker.call(row.op, arguments.clone(), &caller, approved).await {
        Ok(Outcome::Done(answer)) => done(row.rest.answer, answer),
        Ok(Outcome::Ask(question)) => confirm::ask(&app, row.op, caller, arguments, question),
        Err(error) => Fault(error).into_response(),
    })
}

fn ticket_of(parts: &Parts) -> &str {
    parts.headers.get(&confirm::TICKET).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// Records a refusal that the broker never saw, and gives it.
fn refused(app: &App, row: &Row, caller: &Caller, error: Error) -> Response {
    Fault(app.broker.refuse_unknown(row.op.spec.id, caller, error)).into_response()
}

fn done(form: RestAnswer, answer: Answer) -> Response {
    match form {
        RestAnswer::Output => Json(answer.value).into_response(),
        RestAnswer::Ok => Json(json!({ "ok": true })).into_response(),
        RestAnswer::Empty => StatusCode::NO_CONTENT.into_response(),
    }
}

/// Why arguments cannot be gathered.
enum Odd {
    Error(Error),
    /// A query parameter that is none of its allowed words.
    Word(String),
}

impl From<Error> for Odd {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

fn arguments(row: &Row, held: Option<&str>, parts: &Parts, body: &[u8]) -> Result<Value, Odd> {
    let mut map = match row.rest.verb {
        // What a body says must not be passed over: which versions to delete, say.
        Verb::Get | Verb::Delete if !body.is_empty() => {
            return Err(Error::input("body", "there is none here; give everything in the query").into());
        }
        Verb::Get | Verb::Delete => query(row, parts.uri.query().unwrap_or_default())?,
        Verb::Post | Verb::Put => {
            if parts.uri.query().is_some_and(|query| !query.is_empty()) {
                return Err(Error::input("query", "there is none here; give everything in the body").into());
            }
            let map = object(body)?;
            if let Some(name) = FOR_MODELS.iter().find(|name| map.contains_key(**name)) {
                return Err(Error::input(*name, "it is for models; here the answer holds the values").into());
            }
            map
        }
    };
    if let (Some((name, _)), Some(text)) = (row.held, held) {
        // Decoded once; what the decoded text may be is decided by the names.
        let text = percent_decode_str(text)
            .decode_utf8()
            .map_err(|_| Error::PathRefused { fault: "it is no UTF-8".into() })?;
        if map.insert(name.to_owned(), Value::String(text.into_owned())).is_some() {
            return Err(Error::input(name, "it stands in the path; leave it out elsewhere").into());
        }
    }
    Ok(Value::Object(map))
}

fn query(row: &Row, query: &str) -> Result<Map<String, Value>, Odd> {
    let mut map = Map::new();
    for (name, text) in url::form_urlencoded::parse(query.as_bytes()) {
        let shown = || crate::names::shown(&name, 40);
        let Some(kind) = row.query.get(&*name) else {
            return Err(Error::input(shown(), "there is no such query parameter here").into());
        };
        let value = match kind {
            Kind::Text => Value::String(text.into_owned()),
            Kind::Number => {
                let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
                let number = text.parse::<u64>().ok().filter(|_| digits);
                number.ok_or_else(|| Error::input(shown(), "expected a whole number"))?.into()
            }
            Kind::Flag => match &*text {
                "true" => Value::Bool(true),
                "false" => Value::Bool(false),
                _ => return Err(Error::input(shown(), "expected true or false").into()),
            },
            Kind::Words(words) if words.iter().any(|word| *word == text) => Value::String(text.into_owned()),
            Kind::Words(words) => {
                let words: Vec<_> = words.iter().map(|word| format!("'{word}'")).collect();
                return Err(Odd::Word(format!("Invalid {}. Use {}.", shown(), words.join(" or "))));
            }
        };
        if map.insert(name.into_owned(), value).is_some() {
            return Err(Error::input("query", "a parameter stands there twice").into());
        }
    }
    Ok(map)
}

/// A JSON object, or nothing for an empty body.
fn object(body: &[u8]) -> Result<Map<String, Value>, Error> {
    if body.is_empty() {
        return Ok(Map::new());
    }
    strict_json::check(body).map_err(|fault| match fault {
        strict_json::Fault::Syntax => Error::input("body", "it is no JSON"),
        strict_json::Fault::Shape(fault) => Error::input("body", fault),
    })?;
    match serde_json::from_slice(body) {
        Ok(Value::Object(map)) => Ok(map),
        _ => Err(Error::input("body", "expected a JSON object")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(method: &Method, path: &str) -> Result<(&'static str, Option<String>), u16> {
        find(method, path)
            .map(|(row, held)| (row.op.spec.id, held.map(str::to_owned)))
            .map_err(|nowhere| nowhere.into_response().status().as_u16())
    }

    #[test]
    fn the_path_that_says_more_is_meant() {
        let held = |text: &str| Some(text.to_owned());
        assert_eq!(found(&Method::GET, "/secrets"), Ok(("kv.list", None)));
        assert_eq!(found(&Method::GET, "/secrets/a/b"), Ok(("kv.read", held("a/b"))));
        assert_eq!(found(&Method::POST, "/secrets/a/b:undelete"), Ok(("kv.undelete", held("a/b"))));
        assert_eq!(
            found(&Method::POST, "/secrets/a:undelete:destroy"),
            Ok(("kv.destroy", held("a:undelete")))
        );
        assert_eq!(found(&Method::POST, "/db/creds/app"), Ok(("db.issue_creds", held("app"))));
    }

    #[test]
    fn no_route_and_no_method_are_two_answers() {
        assert_eq!(found(&Method::GET, "/nothing"), Err(404));
        assert_eq!(found(&Method::GET, "/secretsx"), Err(404));
        assert_eq!(found(&Method::POST, "/secrets/a"), Err(405));
        assert_eq!(found(&Method::PATCH, "/secrets/a"), Err(405));
        // An action's name is one only where it stands as it is.
        assert_eq!(found(&Method::POST, "/secrets/a%3Aundelete"), Err(405));
    }
}
