//! Prompts: a few lines for a model to start from, each with the tool call it suggests. Arguments are
//! parsed as the tools parse them, so that nothing but a name gets into a message.

use rmcp::{
    ErrorData,
    model::{
        CacheScope, GetPromptRequestParams, GetPromptResponse, GetPromptResult, ListPromptsResult, Prompt,
        PromptArgument, PromptMessage, Role,
    },
};
use serde_json::Value;

use crate::names::{KeyName, SecretPath, ServiceName};

/// What an argument is parsed as.
#[derive(Clone, Copy)]
enum Kind {
    Path,
    Key,
    Service,
}

struct Argument {
    name: &'static str,
    description: &'static str,
    kind: Kind,
}

struct Row {
    name: &'static str,
    title: &'static str,
    description: &'static str,
    arguments: &'static [Argument],
    text: fn(&[String]) -> String,
}

const PATH: Argument = Argument { name: "path", description: "Path of the secret", kind: Kind::Path };
const KEY: Argument = Argument { name: "key", description: "Key inside the secret", kind: Kind::Key };
const SERVICE: Argument =
    Argument { name: "service", description: "Name of the service", kind: Kind::Service };

fn at(arguments: &[String], index: usize) -> &str {
    arguments.get(index).map(String::as_str).unwrap_or_default()
}

const ROWS: &[Row] = &[
    Row {
        name: "kv_read",
        title: "Look at a secret",
        description: "See which keys a secret has, without its values.",
        arguments: &[PATH],
        text: |a| {
            format!(
                "Which keys does the secret `{0}` have? Call kv_read with {{\"path\": \"{0}\"}} and list the key names with the kind and length class of each value. Do not ask to see the values.",
                at(a, 0)
            )
        },
    },
    Row {
        name: "kv_write",
        title: "Change a key of a secret",
        description: "Change one key and keep the others.",
        arguments: &[PATH, KEY],
        text: |a| {
            format!(
                "I want to change the key `{1}` of the secret `{0}`. Ask me for the new value only if it is not itself a secret; for a password or token call kv_generate with {{\"path\": \"{0}\", \"key\": \"{1}\"}} instead. Otherwise call kv_patch with {{\"path\": \"{0}\", \"data\": {{\"{1}\": \"…\"}}}}. I will be asked to confirm it.",
                at(a, 0),
                at(a, 1)
            )
        },
    },
    Row {
        name: "rotate_secret",
        title: "Rotate a secret",
        description: "Replace one key by a new random value, and check what uses it.",
        arguments: &[PATH, KEY],
        text: |a| {
            format!(
                "Rotate the key `{1}` of the secret `{0}`. First call kv_metadata with {{\"path\": \"{0}\"}} and tell me the current version. Then call kv_generate with {{\"path\": \"{0}\", \"key\": \"{1}\"}}; I will be asked to confirm it. Afterwards call kv_diff between the two versions to show that only this key changed, and list what in this project refers to it and must be restarted. kv_rollback goes back if something breaks.",
                at(a, 0),
                at(a, 1)
            )
        },
    },
    Row {
        name: "onboard_service",
        title: "Move a service's secrets in",
        description: "Give a new service its secrets, generated where possible.",
        arguments: &[SERVICE],
        text: |a| {
            format!(
                "Set up secrets for the service `{0}`. Call vault_list with {{\"service\": \"{0}\"}} to see what it has already. Find the variables that the project expects (names only: never print values from a .env file). For each password or key that can be new, call kv_generate with {{\"path\": \"{0}\", \"key\": \"…\"}}; for plain settings call vault_set with dry_run first and show me what would change. I will be asked to confirm each write.",
                at(a, 0)
            )
        },
    },
];

/// True when the prompt has the argument.
pub(super) fn takes(prompt: &str, argument: &str) -> bool {
    ROWS.iter().any(|row| row.name == prompt && row.arguments.iter().any(|one| one.name == argument))
}

/// `prompts/list`.
pub(super) fn list() -> ListPromptsResult {
    let prompt = |row: &Row| {
        let argument = |one: &Argument| {
            PromptArgument::new(one.name).with_description(one.description).with_required(true)
        };
        Prompt::new(row.name, Some(row.description), Some(row.arguments.iter().map(argument).collect()))
            .with_title(row.title)
    };
    ListPromptsResult::with_all_items(ROWS.iter().map(prompt).collect())
        .with_ttl_ms(3_600_000)
        .with_cache_scope(CacheScope::Private)
}

/// `prompts/get`.
pub(super) fn get(request: &GetPromptRequestParams) -> Result<GetPromptResponse, ErrorData> {
    let invalid = |message: String| ErrorData::invalid_params(message, None);
    let row = ROWS.iter().find(|row| row.name == request.name).ok_or_else(|| {
        invalid("There is no prompt of that name. Call prompts/list for those that are.".into())
    })?;
    let mut values = Vec::new();
    for argument in row.arguments {
        let given = request.arguments.as_ref().and_then(|map| map.get(argument.name)).and_then(Value::as_str);
        let text = given.ok_or_else(|| {
            invalid(format!("{}: the argument is missing. Give it as text.", argument.name))
        })?;
        let fault = match argument.kind {
            Kind::Path => SecretPath::parse(text).map(|_| ()),
            Kind::Key => KeyName::parse(text).map(|_| ()),
            Kind::Service => ServiceName::parse(text).map(|_| ()),
        };
        fault.map_err(|fault| invalid(format!("{}: {fault}. Correct the argument.", argument.name)))?;
        // Inside a JSON example and between backticks a quote would end the name early.
        if text.contains(['"', '`', '\\']) {
            return Err(invalid(format!("{}: quotes and backslashes have no place here.", argument.name)));
        }
        values.push(text.to_owned());
    }
    let message = PromptMessage::new_text(Role::User, (row.text)(&values));
    Ok(GetPromptResult::new(vec![message]).with_description(row.description).into())
}
