//! The objects of OpenAPI 3.1 that the document is made of; only their parts that it uses.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

/// An Operation Object.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Operation {
    pub(super) operation_id: String,
    pub(super) tags: [&'static str; 1],
    pub(super) summary: &'static str,
    pub(super) description: String,
    pub(super) security: Value,
    pub(super) parameters: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) request_body: Option<Body>,
    pub(super) responses: Responses,
}

/// A Parameter Object.
#[derive(Serialize)]
pub(super) struct Parameter {
    pub(super) name: String,
    #[serde(rename = "in")]
    pub(super) place: &'static str,
    pub(super) required: bool,
    pub(super) description: Value,
    pub(super) schema: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) example: Option<Value>,
}

/// A Request Body Object.
#[derive(Serialize)]
pub(super) struct Body {
    pub(super) required: bool,
    pub(super) content: Contents,
}

/// Response Objects, or references to them, by status.
pub(super) type Responses = BTreeMap<String, Value>;

/// A Response Object.
#[derive(Serialize)]
pub(super) struct Response {
    pub(super) description: String,
    pub(super) headers: BTreeMap<&'static str, Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) content: Option<Contents>,
}

/// Media Type Objects by media type.
pub(super) type Contents = BTreeMap<&'static str, Media>;

/// A Media Type Object.
#[derive(Serialize)]
pub(super) struct Media {
    pub(super) schema: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) example: Option<Value>,
}

/// JSON of this schema.
pub(super) fn json_of(schema: Value, example: Option<Value>) -> Contents {
    BTreeMap::from([("application/json", Media { schema, example })])
}

macro_rules! into_json {
    ($($object:ty),*) => {$(
        impl From<$object> for Value {
            fn from(object: $object) -> Self {
                // Strings, lists and maps with text keys: nothing that JSON could not hold.
                serde_json::to_value(object).unwrap_or_default()
            }
        }
    )*};
}
into_json!(Operation, Parameter, Response);
