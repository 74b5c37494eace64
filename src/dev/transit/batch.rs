//! One item or a batch: read, computed item by item, answered in the same order.

use http::StatusCode;
use serde_json::{Value, json};

use super::material::Bad;
use crate::dev::{
    engine::Call,
    fields::to_text,
    wire::{Answer, Fault, Object, Reply},
};

/// What an answer to each item looks like where it went wrong, and what becomes of the request then.
pub(super) struct Shape {
    /// Stands beside an error.
    pub(super) beside: Option<(&'static str, Value)>,
    /// A failed item makes a failed answer.
    pub(super) fails: bool,
    /// A failure of the server's own ends the request.
    pub(super) ends: bool,
}

/// The items of a request.
pub(super) struct Items {
    pub(super) list: Vec<Object>,
    pub(super) is_batch: bool,
}

impl Items {
    /// Reads the batch, or a single item from the request's own fields.
    pub(super) fn read(call: &Call<'_>, names: &[&str]) -> Result<Self, Fault> {
        let Some(batch) = call.data.get("batch_input").filter(|value| !value.is_null()) else {
            let own = |name: &&str| Some(((*name).to_owned(), call.data.get(*name)?.clone()));
            return Ok(Self { list: vec![names.iter().filter_map(own).collect()], is_batch: false });
        };
        let broken = |text: String| {
            Fault::list(StatusCode::INTERNAL_SERVER_ERROR, &[&format!("failed to parse batch input: {text}")])
        };
        let items =
            batch.as_array().ok_or_else(|| broken("source data must be an array or slice".to_owned()))?;
        if items.is_empty() {
            return Err(Fault::bad("missing batch input to process"));
        }
        let mut list = Vec::with_capacity(items.len());
        for (index, item) in items.iter().enumerate() {
            let item = item.as_object().ok_or_else(|| broken(format!("[{index}] expected a map")))?;
            list.push(item.clone());
        }
        Ok(Self { list, is_batch: true })
    }

    /// Contexts are set in all items or in none.
    pub(super) fn check_contexts(&self) -> Result<(), Fault> {
        let with = self.list.iter().filter(|item| !text(item, "context").is_empty()).count();
        if with != 0 && with != self.list.len() {
            return Err(Fault::bad("context should be set either in all the request blocks or in none"));
        }
        Ok(())
    }

    /// Computes each and answers.
    pub(super) fn answer(
        self,
        call: &Call<'_>,
        shape: &Shape,
        compute: impl Fn(&Object) -> Result<Object, Bad>,
    ) -> Answer {
        let internal = |text: &str| Fault::list(StatusCode::INTERNAL_SERVER_ERROR, &[text]);
        let mut results = Vec::with_capacity(self.list.len());
        let (mut user_faults, mut own_faults, mut good) = (false, false, false);
        for item in &self.list {
            let mut result = match compute(item) {
                Ok(result) => {
                    good = true;
                    result
                }
                Err(Bad::User(text)) if !self.is_batch => return Err(Fault::bad(text)),
                Err(Bad::Internal(text)) if !self.is_batch || shape.ends => return Err(internal(&text)),
                Err(Bad::User(text) | Bad::Internal(text)) if !shape.fails => failed(shape, &text),
                Err(Bad::User(text)) => {
                    user_faults = true;
                    failed(shape, &text)
                }
                Err(Bad::Internal(text)) => {
                    own_faults = true;
                    failed(shape, &text)
                }
            };
            if self.is_batch {
                result.insert("reference".to_owned(), json!(text(item, "reference")));
            }
            results.push(result);
        }
        if !self.is_batch {
            return Ok(Some(Reply { data: results.pop(), ..Reply::default() }));
        }
        let reply = Reply::data(json!({ "batch_results": results }));
        let mut status = match (user_faults, own_faults) {
            (true, _) => StatusCode::BAD_REQUEST,
            (false, true) => StatusCode::INTERNAL_SERVER_ERROR,
            (false, false) => return Ok(Some(reply)),
        };
        let wanted = call.data.get("partial_failure_response_code").and_then(crate::dev::fields::to_int);
        if let Some(code) = wanted.filter(|_| good).and_then(|code| u16::try_from(code).ok())
            && let Ok(code) = StatusCode::from_u16(code)
        {
            status = code;
        }
        Ok(Some(reply.with_status(status)))
    }
}

fn failed(shape: &Shape, text: &str) -> Object {
    let mut result = Object::new();
    if let Some((name, value)) = &shape.beside {
        result.insert((*name).to_owned(), value.clone());
    }
    result.insert("error".to_owned(), json!(text));
    result
}

/// A text of an item, empty when it has none.
pub(super) fn text(item: &Object, name: &str) -> String {
    item.get(name).and_then(to_text).unwrap_or_default()
}
