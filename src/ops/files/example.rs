//! `vault_generate_example`: a file without its values.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Format, Stored, target};
use crate::{
    broker::{Granted, Look, Place},
    caller::Scope,
    error::Error,
    handover::{FileName, NewFile, example, target::read},
    names::ServiceName,
    op::{Effect, Files, Operation, Preview, Spec, Target, Toolset},
    secret::REFERENCE_SCHEME,
};

/// Most bytes of text that an answer carries.
const MAX_TEXT: usize = 64 * 1024;

/// `vault_generate_example`.
pub struct GenerateExample;

/// Arguments of `vault_generate_example`.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExampleInput {
    /// Service that has, or will have, the secrets.
    service: ServiceName,
    /// File to make an example of.
    file_path: FileName,
    /// Told by the file's name if left out.
    #[serde(default)]
    #[schemars(!default)]
    format: Format,
    /// New file that takes the text, in place of the answer; a human confirms it first.
    output_path: Option<FileName>,
}

/// Answer of `vault_generate_example`.
#[derive(Serialize, JsonSchema)]
pub struct ExampleOutput {
    /// The text.
    #[serde(skip_serializing_if = "Option::is_none")]
    example: Option<String>,
    /// The file that has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    /// Names that have a reference in it.
    references: Vec<String>,
    /// Comments and lines left out because they could hold a value.
    left_out: usize,
}

impl Operation for GenerateExample {
    const SPEC: Spec = Spec {
        id: "vault_generate_example",
        title: "Make an example file",
        summary: "Make a .env.example (or YAML) out of a file: references to the service in place of secrets, other values empty. It can be committed and is a template for vault_inject.",
        scope: Some(Scope::Read),
        effect: Effect::Read,
        toolset: Toolset::Service,
        idempotent: true,
    };
    const NEEDS_FILES: bool = true;
    type Input = ExampleInput;
    type Output = ExampleOutput;

    fn target(input: &Self::Input, place: &Place) -> Result<Target, Error> {
        input.format.of(&input.file_path)?;
        let from = input.file_path.as_str();
        match &input.output_path {
            Some(to) => target(&input.service, &format!("{from} → {}", to.as_str()), "and", place),
            None => target(&input.service, from, "and", place),
        }
    }

    fn files(input: &Self::Input) -> Files {
        input.output_path.as_ref().map_or(Files::Reads, |_| Files::Writes("output_path"))
    }

    async fn observe(input: &Self::Input, look: Look<'_>) -> Result<Preview, Error> {
        read(&input.file_path, look.roots())?;
        let Some(name) = &input.output_path else { return Ok(Preview::default()) };
        // Made and removed again: whether it can be made is known before a human is asked.
        drop(NewFile::create(name, look.roots())?);
        Ok(Preview { verb: "EXAMPLE", detail: "a new file without values".to_owned(), ..Preview::default() })
    }

    async fn run(input: Self::Input, granted: Granted) -> Result<Self::Output, Error> {
        let text = read(&input.file_path, granted.roots())?;
        let stored = Stored::read(&granted, &input.service).await?;
        let names = example::Names {
            stored: &|name| stored.has(name),
            reference: &|name| format!("{REFERENCE_SCHEME}{}#{name}", stored.location),
        };
        let made = match input.format.of(&input.file_path)? {
            Format::Yaml => example::yaml(&text, &names)?,
            _ => example::env(&text, &names),
        };
        granted.handles(made.referenced.iter().map(String::as_str));
        let file = match &input.output_path {
            Some(name) => {
                let file = NewFile::create(name, granted.roots())?;
                Some(file.fill(made.text.as_bytes())?.display().to_string())
            }
            None if made.text.len() > MAX_TEXT => {
                return Err(Error::TooLarge { what: "The example", limit: MAX_TEXT });
            }
            None => None,
        };
        Ok(ExampleOutput {
            example: file.is_none().then_some(made.text),
            file,
            references: made.referenced,
            left_out: made.left_out,
        })
    }
}
