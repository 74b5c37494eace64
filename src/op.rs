//! One definition of each operation, and the one table of them.
//!
//! An operation is a type that implements [`Operation`]; [`OPS`] lists them. MCP tools, the audit log's
//! names and the documents are loops over that table. `docs/adding-an-operation.md` shows what a new one
//! takes. What this module does not do: decide whether a call may run (the broker does), or know which
//! front end it came from.

use std::{collections::HashMap, future::Future, pin::Pin, sync::OnceLock};

use schemars::{
    JsonSchema, Schema, SchemaGenerator,
    generate::{Contract, SchemaSettings},
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};

pub use crate::effect::Effect;
use crate::{
    broker::{Granted, Look, Place},
    caller::Scope,
    error::Error,
    handover::FILE_MARK,
    names::PATH_MARK,
    ops,
    vault::KvKind,
};

/// The families that `TOOLSETS` picks from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Toolset {
    /// About the session itself; always there.
    Session,
    /// KV by path.
    Kv,
    /// KV by service.
    Service,
    /// Cryptography with keys that stay in Vault.
    Transit,
    /// Database credentials and their leases.
    Db,
    /// One-time passwords and certificates for SSH.
    Ssh,
    /// X.509 certificates.
    Pki,
    /// AWS KMS.
    Kms,
}

impl Toolset {
    /// The word in `TOOLSETS`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Session => "session",
            Self::Kv => "kv",
            Self::Service => "service",
            Self::Transit => "transit",
            Self::Db => "db",
            Self::Ssh => "ssh",
            Self::Pki => "pki",
            Self::Kms => "kms",
        }
    }
}

/// The constant part of an operation.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    /// Dotted identifier, as audit records and settings name it.
    pub id: &'static str,
    /// For people, in a client's list.
    pub title: &'static str,
    /// For models: what it does, when to use it, and when not to.
    pub summary: &'static str,
    /// What the caller's credential must allow.
    pub scope: Option<Scope>,
    /// What it does to the world.
    pub effect: Effect,
    /// Its family.
    pub toolset: Toolset,
    /// True when repeating it changes nothing more.
    pub idempotent: bool,
}

impl Spec {
    /// The MCP tool name: several desktop clients reject a whole server over one dotted name.
    #[must_use]
    pub fn tool_name(&self) -> String {
        self.id.replace('.', "_")
    }
}

/// Where an operation lies in REST, and what its answer looks like there.
#[derive(Debug, Clone, Copy)]
pub struct Rest {
    /// The method.
    pub verb: Verb,
    /// The path. `{name}` is the argument of that name; it takes the rest of the path where it is a secret's.
    /// Arguments that the path does not hold come in the query (GET, DELETE) or in a JSON object.
    pub path: &'static str,
    /// What is answered when all went well.
    pub answer: RestAnswer,
    /// For whoever writes the calling program: what it does there. Nothing is masked in REST, and a person is
    /// asked only where the server is set up so.
    pub about: &'static str,
}

/// Arguments that are a model's: where to put a secret that it may not see, and whether it may. A program has
/// the values in its answer.
pub const FOR_MODELS: &[&str] = &["reveal", "to"];

/// Methods of HTTP that operations use (RFC 9110, section 9).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Does something.
    Post,
    /// Creates or replaces.
    Put,
    /// Removes.
    Delete,
}

/// The answer to a REST call that went well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RestAnswer {
    /// 200 with the output.
    Output,
    /// 200 with `{"ok": true}`.
    Ok,
    /// 204 and nothing.
    Empty,
}

/// Something that the token must be allowed, in one of these ways.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Need(pub Vec<Way>);

/// A capability on an API path, as a policy grants it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// API path without `v1/`.
    pub path: String,
    /// Any one of these will do.
    pub capabilities: &'static [&'static str],
    /// The way is open on a KV mount of this kind only.
    pub on: Option<(String, KvKind)>,
}

impl Need {
    /// One path, whatever the engine.
    #[must_use]
    pub fn of(path: impl Into<String>, capabilities: &'static [&'static str]) -> Self {
        Self(vec![Way { path: path.into(), capabilities, on: None }])
    }
}

/// What a call touches: for the human, the log, and the check of the token's capabilities.
#[derive(Debug, Clone, Default)]
pub struct Target {
    /// Mount and full path, or another name of the thing.
    pub name: String,
    /// Key names, never values.
    pub keys: Vec<String>,
    /// What the token must be allowed.
    pub needs: Vec<Need>,
}

impl Target {
    /// A target without keys or needs.
    #[must_use]
    pub fn named(name: impl Into<String>) -> Self {
        Self { name: name.into(), ..Self::default() }
    }

    /// A target that is its own API path, on which the token needs one of these capabilities.
    #[must_use]
    pub fn at(path: String, capabilities: &'static [&'static str]) -> Self {
        Self { needs: vec![Need::of(path.clone(), capabilities)], ..Self::named(path) }
    }
}

/// How a key fares in a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It was not there.
    Added,
    /// It is replaced.
    Changed,
    /// It goes.
    Removed,
}

/// What a human is shown before saying yes, and what must still be so when the answer comes.
#[derive(Debug, Clone, Default)]
pub struct Preview {
    /// CREATE, UPDATE, DELETE, …
    pub verb: &'static str,
    /// A few words after the target's name.
    pub detail: String,
    /// What happens to each key.
    pub changes: Vec<(Change, String)>,
    /// Lines that deserve a second look.
    pub warnings: Vec<String>,
    /// The state the preview was made from; part of the ticket's digest. `None`: it could not be seen.
    pub version: Option<u64>,
    /// The key whose value the human types along with the yes.
    pub asks_for: Option<String>,
}

/// What a call does with files of this machine. One that does anything cannot be carried out by an approver, who
/// may sit elsewhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Files {
    /// Nothing.
    None,
    /// It reads some.
    Reads,
    /// It writes the one that this argument names. Such a call waits for a human like a write, although the
    /// operation itself may change nothing, and a read-only server refuses it.
    Writes(&'static str),
}

impl Files {
    /// [`Self::Writes`] where the argument of this name is given.
    #[must_use]
    pub fn written_by<T>(name: &'static str, argument: Option<&T>) -> Self {
        argument.map_or(Self::None, |_| Self::Writes(name))
    }
}

/// One thing that can be done, whatever the front end.
pub trait Operation: Sized + Send + 'static {
    /// Its row.
    const SPEC: Spec;
    /// Its REST route, where it has one.
    const REST: Option<Rest> = None;
    /// It is about files of this machine: of no use to callers who have none here.
    const NEEDS_FILES: bool = false;
    /// True when it ends the Vault token that it is called with: it is not there for callers who share one.
    const ENDS_TOKEN: bool = false;
    /// Arguments; newtypes parse themselves.
    type Input: DeserializeOwned + JsonSchema + Send + Sync + 'static;
    /// The answer, already masked where the grant does not say otherwise.
    type Output: Serialize + JsonSchema + 'static;

    /// What the call touches.
    ///
    /// # Errors
    /// When a name does not fit the caller's place.
    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error>;

    /// True when the call asks to see secret values.
    fn wants_reveal(_input: &Self::Input) -> bool {
        false
    }

    /// Values that are about to be stored, by key, for the scan of dangerous patterns.
    fn values(_input: &Self::Input) -> Vec<(&str, &Value)> {
        Vec::new()
    }

    /// True when this very call changes nothing although the operation could (a dry run).
    fn is_harmless(_input: &Self::Input) -> bool {
        false
    }

    /// What this very call does with files of this machine. Without saying so, it is given no folder.
    fn files(_input: &Self::Input) -> Files {
        Files::None
    }

    /// Reads the current state and makes the preview. Called only when a human will be asked.
    fn observe(_input: &Self::Input, _look: Look<'_>) -> impl Future<Output = Result<Preview, Error>> + Send {
        async { Ok(Preview::default()) }
    }

    /// Does it.
    fn run(input: Self::Input, granted: Granted) -> impl Future<Output = Result<Self::Output, Error>> + Send;
}

/// A boxed future, as trait objects need it.
pub type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A parsed call whose operation is no longer a type parameter.
pub trait AnyCall: Send + Sync {
    /// As [`Operation::target`].
    ///
    /// # Errors
    /// As there.
    fn target(&self, place: &Place) -> Result<Target, Error>;
    /// As [`Operation::wants_reveal`].
    fn wants_reveal(&self) -> bool;
    /// As [`Operation::values`].
    fn values(&self) -> Vec<(&str, &Value)>;
    /// As [`Operation::is_harmless`].
    fn is_harmless(&self) -> bool;
    /// As [`Operation::files`].
    fn files(&self) -> Files;
    /// As [`Operation::observe`].
    fn observe<'a>(&'a self, look: Look<'a>) -> Boxed<'a, Result<Preview, Error>>;
    /// As [`Operation::run`], with the output as JSON.
    fn run(self: Box<Self>, granted: Granted) -> Boxed<'static, Result<Value, Error>>;
}

struct Parsed<O: Operation>(O::Input);

impl<O: Operation> AnyCall for Parsed<O> {
    fn target(&self, place: &Place) -> Result<Target, Error> {
        O::target(&self.0, place)
    }
    fn wants_reveal(&self) -> bool {
        O::wants_reveal(&self.0)
    }
    fn values(&self) -> Vec<(&str, &Value)> {
        O::values(&self.0)
    }
    fn is_harmless(&self) -> bool {
        O::is_harmless(&self.0)
    }
    fn files(&self) -> Files {
        O::files(&self.0)
    }
    fn observe<'a>(&'a self, look: Look<'a>) -> Boxed<'a, Result<Preview, Error>> {
        Box::pin(O::observe(&self.0, look))
    }
    fn run(self: Box<Self>, granted: Granted) -> Boxed<'static, Result<Value, Error>> {
        Box::pin(async move {
            let output = O::run(self.0, granted).await?;
            serde_json::to_value(&output)
                .map_err(|_| Error::Internal { what: "an output does not serialize" })
        })
    }
}

/// A row of the table.
pub struct Op {
    /// The constant part.
    pub spec: Spec,
    /// The REST route.
    pub rest: Option<Rest>,
    /// It is about files of this machine.
    pub needs_files: bool,
    /// As [`Operation::ENDS_TOKEN`].
    pub ends_token: bool,
    input: fn(&mut SchemaGenerator) -> Schema,
    output: fn(&mut SchemaGenerator) -> Schema,
    parse: fn(Value) -> Result<Box<dyn AnyCall>, Error>,
}

impl Op {
    /// The row of an operation.
    #[must_use]
    pub const fn of<O: Operation>() -> Self {
        Self {
            spec: O::SPEC,
            rest: O::REST,
            needs_files: O::NEEDS_FILES,
            ends_token: O::ENDS_TOKEN,
            input: <O::Input as JsonSchema>::json_schema,
            output: <O::Output as JsonSchema>::json_schema,
            parse: |arguments| {
                let input: O::Input = parse_arguments(arguments)?;
                Ok(Box::new(Parsed::<O>(input)))
            },
        }
    }

    /// Parses the arguments.
    ///
    /// # Errors
    /// `invalid_input` or `path_refused`, naming arguments and never quoting values.
    pub fn parse(&self, arguments: Value) -> Result<Box<dyn AnyCall>, Error> {
        (self.parse)(arguments)
    }

    /// The closed JSON Schema of the arguments.
    #[must_use]
    pub fn input_schema(&self) -> Map<String, Value> {
        schema_of(self.input, Contract::Deserialize, tidy)
    }

    /// The same for callers elsewhere, without the arguments that name files of this machine.
    #[must_use]
    pub fn input_schema_elsewhere(&self) -> Map<String, Value> {
        let mut schema = self.input_schema();
        if let Some(Value::Object(properties)) = schema.get_mut("properties") {
            for name in self.file_arguments() {
                properties.remove(name);
            }
        }
        schema
    }

    /// The arguments that name files of this machine.
    #[must_use]
    pub fn file_arguments(&self) -> &'static [String] {
        static FOUND: OnceLock<HashMap<&'static str, Vec<String>>> = OnceLock::new();
        let found =
            FOUND.get_or_init(|| OPS.iter().map(|op| (op.spec.id, op.find_file_arguments())).collect());
        found.get(self.spec.id).map(Vec::as_slice).unwrap_or_default()
    }

    fn find_file_arguments(&self) -> Vec<String> {
        let schema = schema_of(self.input, Contract::Deserialize, |_| {});
        let properties = schema.get("properties").and_then(Value::as_object).into_iter().flatten();
        properties.filter(|(_, schema)| holds_mark(schema)).map(|(name, _)| name.clone()).collect()
    }

    /// The JSON Schema of the answer.
    #[must_use]
    pub fn output_schema(&self) -> Map<String, Value> {
        // What is left out of an answer when it is empty is not required in it.
        schema_of(self.output, Contract::Serialize, tidy)
    }

    /// As [`Self::input_schema`], and `null` is told where it is taken.
    #[must_use]
    pub fn exact_input_schema(&self) -> Map<String, Value> {
        schema_of(self.input, Contract::Deserialize, neutral)
    }

    /// As [`Self::output_schema`], and `null` is told where it can be.
    #[must_use]
    pub fn exact_output_schema(&self) -> Map<String, Value> {
        schema_of(self.output, Contract::Serialize, neutral)
    }
}

/// Every operation there is, in the order that `tools/list` has them.
pub static OPS: &[Op] = ops::TABLE;

/// The row with this id or tool name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Op> {
    static INDEX: OnceLock<HashMap<String, &'static Op>> = OnceLock::new();
    let index = INDEX.get_or_init(|| {
        let both = |op: &'static Op| [(op.spec.id.to_owned(), op), (op.spec.tool_name(), op)];
        OPS.iter().flat_map(both).collect()
    });
    index.get(name).copied()
}

fn schema_of(
    schema: fn(&mut SchemaGenerator) -> Schema,
    contract: Contract,
    change: fn(&mut Value),
) -> Map<String, Value> {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.contract = contract;
    });
    let mut generator = settings.into_generator();
    let mut value = schema(&mut generator).to_value();
    change(&mut value);
    match value {
        Value::Object(mut map) => {
            // The tool's own description says what the whole is for.
            map.remove("description");
            map
        }
        _ => Map::new(),
    }
}

/// True when a file's name has its place in this schema.
fn holds_mark(schema: &Value) -> bool {
    match schema {
        Value::Object(map) => map.contains_key(FILE_MARK) || map.values().any(holds_mark),
        Value::Array(items) => items.iter().any(holds_mark),
        _ => false,
    }
}

/// Drops what is said of Rust and not of JSON: titles that are types' names, and integer formats (which one
/// widely used client warns about at every call).
pub(crate) fn neutral(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.remove("$schema");
            map.remove(FILE_MARK);
            map.remove("title")
                .filter(|title| title.is_object())
                .map(|kept| map.insert("title".into(), kept));
            if map
                .get("format")
                .and_then(Value::as_str)
                .is_some_and(|format| format.starts_with("uint") || format.starts_with("int"))
            {
                map.remove("format");
            }
            map.values_mut().for_each(neutral);
        }
        Value::Array(items) => items.iter_mut().for_each(neutral),
        _ => {}
    }
}

/// Drops also what costs a model tokens and tells it nothing more: `null` as an alternative of an optional argument,
/// defaults that are what one would think, and the encoding of a text, which its description names.
fn tidy(value: &mut Value) {
    neutral(value);
    shorten(value);
}

fn shorten(value: &mut Value) {
    match value {
        Value::Object(map) => {
            // Not an argument of that name.
            if map.get("contentEncoding").is_some_and(Value::is_string) {
                map.remove("contentEncoding");
            }
            if let Some(Value::Array(types)) = map.get_mut("type") {
                types.retain(|kind| kind != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    map.insert("type".into(), only);
                }
            }
            if let Some(Value::Array(words)) = map.get_mut("enum") {
                words.retain(|word| !word.is_null());
            }
            if let Some(Value::Array(options)) = map.get_mut("anyOf") {
                options.retain(|option| option.get("type").is_none_or(|kind| kind != "null"));
                if let [Value::Object(only)] = options.as_slice() {
                    let only = only.clone();
                    map.remove("anyOf");
                    for (key, value) in only {
                        map.entry(key).or_insert(value);
                    }
                }
            }
            if map.get("default").is_some_and(|default| default.is_null() || *default == Value::Bool(false)) {
                map.remove("default");
            }
            map.values_mut().for_each(shorten);
        }
        Value::Array(items) => items.iter_mut().for_each(shorten),
        _ => {}
    }
}

/// Parses arguments and says what is wrong without quoting a value: serde's own messages hold the
/// offending text, which may be the secret.
fn parse_arguments<T: DeserializeOwned>(arguments: Value) -> Result<T, Error> {
    serde_path_to_error::deserialize(arguments).map_err(|error| {
        let field = match error.path().to_string() {
            path if path == "." || path == "?" => "arguments".to_owned(),
            path => crate::names::shown(&path, 80),
        };
        let message = error.into_inner().to_string();
        let expected = || message.rsplit(", expected ").next().unwrap_or("another type").to_owned();
        if let Some(fault) = message.strip_prefix(PATH_MARK) {
            return Error::PathRefused { fault: format!("{field}: {fault}").into() };
        }
        let fault = if message.starts_with("invalid type") || message.starts_with("invalid value") {
            format!("the type is wrong; expected {}", expected())
        } else if let Some(rest) = message.strip_prefix("unknown field `") {
            let name = rest.split('`').next().unwrap_or_default();
            format!("there is no argument '{}' here; expected {}", crate::names::shown(name, 40), expected())
        } else if message.starts_with("unknown variant") {
            format!("not one of the allowed words; expected {}", expected())
        } else if message.starts_with("invalid length") {
            format!("the length is wrong; expected {}", expected())
        } else {
            // `missing field`, `duplicate field`, and the texts of our own newtypes: no values in any.
            message
        };
        Error::input(field, fault)
    })
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_and_tool_names_are_unique_and_fit_every_client() {
        let mut seen = HashSet::new();
        for op in OPS {
            let name = op.spec.tool_name();
            assert!(name.len() <= 48 && name.chars().all(|c| c.is_ascii_lowercase() || c == '_'), "{name}");
            assert!(seen.insert(name), "{} twice", op.spec.id);
        }
    }

    #[test]
    fn every_schema_is_closed_and_every_argument_described() {
        for op in OPS {
            let schema = op.input_schema();
            assert_eq!(schema.get("type"), Some(&Value::from("object")), "{}", op.spec.id);
            assert_eq!(schema.get("additionalProperties"), Some(&Value::Bool(false)), "{}", op.spec.id);
            let properties = schema.get("properties").and_then(Value::as_object).cloned().unwrap_or_default();
            for (name, property) in properties {
                assert!(property.get("description").is_some(), "{}.{name} has no description", op.spec.id);
            }
            let text = serde_json::to_string(&schema).unwrap()
                + &serde_json::to_string(&op.output_schema()).unwrap();
            assert!(!text.contains("uint64") && !text.contains("$ref"), "{}: {text}", op.spec.id);
        }
    }

    #[test]
    fn what_names_a_file_of_this_machine_is_known_from_its_type() {
        let arguments = |id| find(id).unwrap().file_arguments();
        assert_eq!(arguments("db.issue_creds"), ["to"]);
        assert_eq!(arguments("vault_inject"), ["target", "template"]);
        assert!(arguments("kv.write").is_empty());
        for op in OPS {
            let schema = |map: Map<String, Value>| Value::Object(map).to_string();
            assert!(!schema(op.input_schema()).contains(FILE_MARK), "{}", op.spec.id);
            // Whoever cannot leave a file out is of no use elsewhere.
            let required = op.input_schema().get("required").and_then(Value::as_array).cloned();
            let needs =
                required.iter().flatten().any(|name| op.file_arguments().iter().any(|file| name == file));
            assert!(op.needs_files || !needs, "{}", op.spec.id);
            let elsewhere = op.input_schema_elsewhere();
            assert!(op.file_arguments().iter().all(|name| elsewhere["properties"].get(name).is_none()));
        }
    }

    #[test]
    fn a_tool_costs_a_model_at_most_800_bytes_on_average() {
        // As `tools/list` writes it, the output schema aside.
        let around = r#"{"name":"","title":"","description":"","inputSchema":,"annotations":{"readOnlyHint":false,"destructiveHint":false,"idempotentHint":false,"openWorldHint":false}},"#;
        let cost = |op: &Op| {
            let schema = serde_json::to_string(&op.input_schema()).unwrap();
            around.len()
                + op.spec.tool_name().len()
                + op.spec.title.len()
                + op.spec.summary.len()
                + schema.len()
        };
        let total: usize = OPS.iter().map(cost).sum();
        assert!(total / OPS.len() <= 800, "{} bytes a tool", total / OPS.len());
    }

    #[test]
    fn a_refused_argument_is_named_and_its_value_is_not_quoted() {
        for (id, arguments) in [
            ("kv.write", serde_json::json!({"path": "a", "data": "canary"})),
            ("kv.write", serde_json::json!({"path": "a", "data": {"K": "v"}, "cas": "canary"})),
            ("kv.read", serde_json::json!({"path": 5, "version": "canary"})),
            ("kv.read", serde_json::json!({"path": "../canary"})),
        ] {
            let Err(error) = find(id).unwrap().parse(arguments) else { panic!("{id} accepted it") };
            assert!(!error.to_string().contains("canary"), "{error}");
        }
    }
}
