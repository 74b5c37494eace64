//! What is said of an operation's route: all of it from its row in the table.

use serde_json::{Map, Value};

use super::{
    Document, camel, counted, examples,
    model::{Body, Operation, Parameter, Response, json_of},
    pascal, reference, tag,
};
use crate::{
    front::http::{rest::Row, routes::Access},
    names::PATH_PATTERN,
    op::{FOR_MODELS, Op, RestAnswer, Verb},
};

impl Document<'_> {
    pub(super) fn operation(&mut self, row: &Row) -> Value {
        let spec = &row.op.spec;
        let mut parameters = in_path_and_query(row);
        parameters.push(reference("parameters", "CorrelationId"));
        let mut description = row.rest.about.to_owned();
        if self.asks(row.op) {
            parameters.push(reference("parameters", "Ticket"));
            description.push_str(" With `CONFIRM_REST` a person is asked first: 202 gives a ticket.");
        }
        let request_body = matches!(row.rest.verb, Verb::Post | Verb::Put).then(|| self.body(row));
        let mut responses = self.refusals(row);
        let (status, done) = self.done(row);
        responses.insert(status.to_owned(), done.into());
        Operation {
            operation_id: camel(spec.id),
            tags: [tag(spec.toolset)],
            summary: spec.title,
            description,
            security: self.security(spec.scope.map_or(Access::Caller, Access::Scope)),
            parameters,
            request_body,
            responses,
        }
        .into()
    }

    /// Whether a person may be asked before it.
    pub(super) fn asks(&self, op: &Op) -> bool {
        *self.config.confirm_rest && self.config.confirm_effects.contains(op.spec.effect)
    }

    fn body(&mut self, row: &Row) -> Body {
        let held = row.held.map(|(name, _)| name);
        let schema = in_body(row.op.exact_input_schema(), held);
        let required = schema.get("required").is_some();
        let name = format!("{}Body", pascal(row.op.spec.id));
        let example = examples::of(row.op.spec.id).map(|example| example.body(held));
        self.schemas.insert(name.clone(), Value::Object(schema));
        Body { required, content: json_of(reference("schemas", &name), example) }
    }

    /// The answer when all went well.
    fn done(&mut self, row: &Row) -> (&'static str, Response) {
        let content = match row.rest.answer {
            RestAnswer::Empty => None,
            RestAnswer::Ok => Some(json_of(reference("schemas", "Done"), None)),
            RestAnswer::Output => {
                let name = format!("{}Answer", pascal(row.op.spec.id));
                self.schemas.insert(name.clone(), Value::Object(row.op.exact_output_schema()));
                let example = examples::of(row.op.spec.id).map(|example| example.answer);
                Some(json_of(reference("schemas", &name), example))
            }
        };
        let status = if content.is_some() { "200" } else { "204" };
        (status, Response { description: "It is done.".into(), headers: counted(), content })
    }
}

fn in_path_and_query(row: &Row) -> Vec<Value> {
    let schema = row.op.input_schema();
    let needed = schema.get("required").and_then(Value::as_array).cloned().unwrap_or_default();
    let place = |name: &str| match row.held {
        Some((held, _)) if held == name => Some("path"),
        _ if row.query.contains_key(name) => Some("query"),
        _ => None,
    };
    let parameter = |name: &str, schema: &Value| {
        let place = place(name)?;
        let mut schema = schema.as_object().cloned().unwrap_or_default();
        let description = schema.remove("description").unwrap_or_default();
        if matches!(name, "path" | "prefix") {
            schema.insert("pattern".into(), PATH_PATTERN.into());
        }
        Some(Parameter {
            name: name.to_owned(),
            place,
            required: place == "path" || needed.iter().any(|needed| needed == name),
            description,
            schema: Value::Object(schema),
            example: examples::of(row.op.spec.id).and_then(|example| example.argument(name)),
        })
    };
    let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
    properties.filter_map(|(name, schema)| parameter(name, schema)).map(Value::from).collect()
}

/// The arguments that come in the body.
fn in_body(mut schema: Map<String, Value>, held: Option<&str>) -> Map<String, Value> {
    let is_there = |name: &str| !FOR_MODELS.contains(&name) && held != Some(name);
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.retain(|name, _| is_there(name));
    }
    if let Some(required) = schema.get_mut("required").and_then(Value::as_array_mut) {
        required.retain(|name| name.as_str().is_some_and(is_there));
        if required.is_empty() {
            schema.remove("required");
        }
    }
    schema
}
