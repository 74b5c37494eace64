//! The documents say what the code does: tables are generated from the code, and what people copy is tried.
//! `UPDATE=1 cargo test --test documents` writes what has changed.

#![cfg(feature = "kms")] // they describe the program with everything in it
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed assumption is a failed test, in helpers too"
)]

#[path = "documents/errors.rs"]
mod errors;

use std::{
    collections::HashSet,
    fmt::Write,
    path::{Path, PathBuf},
    process::Command,
};

use regex::Regex;
use serde_json::{Value, json};
use vault_mcp::{
    audit::AuditError,
    config::{Config, Layers, SETTINGS},
    error::Error,
    front::http::{answer, openapi},
    op::OPS,
    telemetry::meters::{Kind, METERS},
};

const REFRESH: &str = "UPDATE=1 cargo test --test documents";

fn top() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(top().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Compares a file with what the code says it should be, or writes it.
fn hold(path: &str, wanted: &str) {
    let whole = top().join(path);
    let is = std::fs::read_to_string(&whole).unwrap_or_default();
    if is == wanted {
        return;
    }
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&whole, wanted).unwrap();
        return;
    }
    let at = is.lines().zip(wanted.lines()).position(|(a, b)| a != b).unwrap_or(0) + 1;
    panic!("{path} is not what the code says, from line {at} on. Refresh it: {REFRESH}");
}

/// A cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

fn tools() -> String {
    let mut table = String::from("| tool | what it does | asks a human |\n|---|---|---|\n");
    for op in OPS {
        let first = op.spec.summary.split_inclusive(". ").next().unwrap().trim_end();
        let schema = op.input_schema();
        let has = |name: &str| schema.get("properties").is_some_and(|known| known.get(name).is_some());
        let asks = match op.spec.effect.is_read_only() {
            false if has("dry_run") => "always, but for a dry run",
            false => "always",
            true if has("reveal") => "to reveal",
            true => "",
        };
        writeln!(table, "| `{}` | {} | {asks} |", op.spec.tool_name(), cell(first)).unwrap();
    }
    table
}

/// Routes by group, in the order of the document's groups.
fn rest() -> String {
    let api = api();
    let mut table = String::from("| route | scope | what it does |\n|---|---|---|\n");
    for tag in api["tags"].as_array().unwrap() {
        for (path, methods) in api["paths"].as_object().unwrap() {
            for (method, operation) in methods.as_object().unwrap() {
                if operation["tags"][0] != tag["name"] {
                    continue;
                }
                let security = operation["security"].as_array().unwrap();
                let scope =
                    match security.first().map(|scheme| scheme.as_object().unwrap().values().next().unwrap())
                    {
                        None => "open",
                        Some(scopes) => scopes
                            .as_array()
                            .unwrap()
                            .first()
                            .map_or("any caller", |scope| scope.as_str().unwrap()),
                    };
                let about = operation["summary"].as_str().unwrap();
                writeln!(table, "| `{} {path}` | {scope} | {} |", method.to_uppercase(), cell(about))
                    .unwrap();
            }
        }
    }
    table
}

/// `long` says of secrets how they may be given, as only the longer document does.
fn settings(long: bool) -> String {
    let mut table = String::from("| setting | default | what it does |\n|---|---|---|\n");
    for row in SETTINGS {
        let default = row.default.filter(|text| !text.is_empty()).map(|text| format!("`{text}`"));
        let mut help = cell(row.help.trim());
        if long && row.secret {
            write!(help, " Secret: may be given as `{}_FILE`, never on the command line.", row.name).unwrap();
        }
        writeln!(table, "| `{}` | {} | {help} |", row.name, default.unwrap_or_default()).unwrap();
    }
    table
}

fn codes() -> String {
    let mut table = String::from("| code | when |\n|---|---|\n");
    for code in Error::CODES.iter().chain(Error::ELSEWHERE) {
        writeln!(table, "| `{}` | {} |", code.code, cell(code.when)).unwrap();
    }
    writeln!(table, "| `audit_…` | the audit log refuses; [every one](docs/errors.md#the-audit-log) |")
        .unwrap();
    table
}

fn help(arguments: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_vault-mcp")).args(arguments).output().unwrap();
    let text = String::from_utf8(done.stdout).unwrap();
    text.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn the_readmes_tables_are_the_codes() {
    let mut text = read("README.md");
    let commands = format!("```text\n{}```\n", help(&["--help"]));
    for (name, table) in [
        ("tools", tools()),
        ("rest", rest()),
        ("settings", settings(false)),
        ("errors", codes()),
        ("commands", commands),
    ] {
        fill(&mut text, name, &table);
    }
    hold("README.md", &text);
}

#[test]
fn the_list_of_metrics_is_the_codes() {
    let mut table = String::from("| metric | kind | labels | what it tells |\n|---|---|---|---|\n");
    for meter in METERS {
        let labels: Vec<_> = meter.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, kind) = (meter.name, meter.kind.as_str());
        writeln!(table, "| `{name}` | {kind} | {} | {} |", labels.join(", "), cell(meter.help)).unwrap();
    }
    let mut text = read("docs/observability.md");
    fill(&mut text, "meters", &table);
    hold("docs/observability.md", &text);
}

#[test]
fn the_dashboard_shows_every_metric_and_none_that_there_is_not() {
    let dashboard: Value = serde_json::from_str(&read("deploy/grafana/vault-mcp.json")).unwrap();
    let panels = dashboard["panels"].as_array().unwrap();
    let targets = panels.iter().flat_map(|panel| panel["targets"].as_array().into_iter().flatten());
    let queries: String = targets.map(|target| format!("{}\n", target["expr"].as_str().unwrap())).collect();
    let name = Regex::new(r"\b((?:http|vault_mcp|process)_[a-z_]+)\{").unwrap();
    let bare = |name: &str| {
        let histogram = METERS.iter().find(|meter| {
            let part = name.strip_prefix(meter.name);
            meter.kind == Kind::Histogram
                && part.is_some_and(|part| ["_bucket", "_count", "_sum"].contains(&part))
        });
        histogram.map_or(name, |meter| meter.name).to_owned()
    };
    let shown: HashSet<_> = name.captures_iter(&queries).map(|found| bare(&found[1])).collect();
    let known: HashSet<_> = METERS.iter().map(|meter| meter.name.to_owned()).collect();
    assert_eq!(shown, known);
    // Every selector is narrowed to what the person looking has chosen.
    let selectors = queries.matches('{').count();
    assert_eq!(queries.matches(r#"{job=~"$job",instance=~"$instance""#).count(), selectors);
}

#[test]
fn the_list_of_tools_is_the_codes() {
    let tools: Vec<Value> = OPS
        .iter()
        .map(|op| {
            json!({
                "name": op.spec.tool_name(),
                "id": op.spec.id,
                "title": op.spec.title,
                "summary": op.spec.summary,
                "scope": op.spec.scope,
                "effect": op.spec.effect,
                "toolset": op.spec.toolset,
                "input": op.input_schema(),
                "output": op.output_schema(),
            })
        })
        .collect();
    hold("docs/tools.json", &(serde_json::to_string_pretty(&tools).unwrap() + "\n"));
}

/// With everything switched on that the document speaks of.
fn api() -> Value {
    let on = ["AUTH_MTLS_ENABLED", "AWS_KMS_ENABLED", "CONFIRM_REST"];
    let arguments = on.into_iter().map(|name| (name.to_owned(), "true".to_owned())).collect();
    openapi::made(&Config::load(&Layers { arguments, ..Layers::default() }).unwrap())
}

#[test]
fn the_description_of_the_http_api_is_the_codes() {
    hold("docs/openapi.json", &(serde_json::to_string_pretty(&api()).unwrap() + "\n"));
}

#[test]
fn every_group_of_routes_is_described() {
    let api = api();
    let described: HashSet<&str> =
        api["tags"].as_array().unwrap().iter().map(|tag| tag["name"].as_str().unwrap()).collect();
    for (path, methods) in api["paths"].as_object().unwrap() {
        for operation in methods.as_object().unwrap().values() {
            let tag = operation["tags"][0].as_str().unwrap();
            assert!(described.contains(tag), "{path} is in the group {tag}, which is not in TAGS");
        }
    }
}

#[test]
fn a_refusal_is_described_under_the_status_that_it_is_answered_with() {
    let api = api();
    let mut described: HashSet<(String, String)> = HashSet::new();
    for operation in
        api["paths"].as_object().unwrap().values().flat_map(|path| path.as_object().unwrap().values())
    {
        for (status, response) in operation["responses"].as_object().unwrap() {
            let name = response["$ref"].as_str().unwrap_or_default().rsplit('/').next().unwrap();
            let schema = &api["components"]["responses"][name]["content"]["application/json"]["schema"];
            let codes = schema["properties"]["error"]["enum"].as_array().cloned().unwrap_or_default();
            described.extend(codes.iter().map(|code| (code.as_str().unwrap().to_owned(), status.clone())));
        }
    }
    // What REST never answers.
    const NEVER: &[&str] = &[
        "unauthorized",
        "unknown_tool",
        "reveal_forbidden",
        "file_refused",
        "file_unreadable",
        "not_carried",
        "version_gone",
        "config_invalid",
    ];
    for error in errors::samples().iter().filter(|error| !NEVER.contains(&error.code())) {
        let known = (error.code().to_owned(), answer::status_of(error.kind()).as_str().to_owned());
        assert!(described.contains(&known), "{known:?} stands nowhere in the document");
    }
}

#[test]
fn the_list_of_settings_is_the_codes() {
    let text = format!(
        "<!-- Made from the code: {REFRESH} -->\n\n# Settings\n\n\
        Precedence: `--set NAME=VALUE` on the command line, the environment, a configuration file, the default.\n\
        `vault-mcp config` prints what is in effect and where each value came from; secrets show as `***`.\n\n\
        - Every `VAULT_…` setting may be given as `BAO_…`; `VAULT_…` wins.\n\
        - An empty value is no value.\n\
        - A value that begins with `${{` is refused: it is a variable that the client did not expand.\n\
        - The configuration file is the one that `APP_CONFIG_FILE` names: TOML, JSON or YAML by its ending, one\n  \
          entry a setting, names in either case. None is looked for in the working folder:\n  \
          [why](decisions/0005-no-config-from-the-working-folder-on-stdio.md). An entry that is no setting is an error.\n\
        - Yes and no are `true`, `1`, `yes`, `on` and `false`, `0`, `no`, `off`. Lists are separated by commas or spaces.\n\n{}",
        settings(true)
    );
    hold("docs/settings.md", &text);
}

#[test]
fn the_list_of_errors_is_the_codes() {
    let mut text = format!(
        "<!-- Made from the code: {REFRESH} -->\n\n# Errors\n\n\
        A refused or failed call answers with `isError` and one text, `code: fault, then remedy`. The code is\n\
        stable and stands in the audit log as well; the sentence after it may change. No message repeats a value.\n\
        Names in the messages below are examples.\n\n| code | when | message |\n|---|---|---|\n"
    );
    let samples = errors::samples();
    let row = |text: &mut String, code: &vault_mcp::codes::Code, message: Option<String>| {
        let message = message.unwrap_or_else(|| panic!("documents/errors.rs has no sample of {}", code.code));
        writeln!(text, "| `{}` | {} | {} |", code.code, cell(code.when), cell(&message)).unwrap();
    };
    let sample = |code: &str| samples.iter().find(|error| error.code() == code).map(ToString::to_string);
    for code in Error::CODES {
        row(&mut text, code, sample(code.code));
    }
    for code in Error::ELSEWHERE {
        row(&mut text, code, Some("as the approver's terminal gave it".into()));
    }
    text.push_str("\n## The audit log\n\nNo record, no call: with any of these nothing else is done.\n\n");
    text.push_str("| code | when | message |\n|---|---|---|\n");
    let audit = errors::audit_samples();
    for code in AuditError::CODES {
        row(&mut text, code, audit.iter().find(|error| error.code() == code.code).map(ToString::to_string));
    }
    hold("docs/errors.md", &text);
}

#[test]
fn a_code_means_one_thing() {
    let mut seen = HashSet::new();
    for code in Error::CODES.iter().chain(Error::ELSEWHERE).chain(AuditError::CODES) {
        assert!(seen.insert(code.code), "{} twice", code.code);
        assert!(code.code.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'));
    }
}

/// Markdown files of ours, by their path from the top.
fn markdown() -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap().to_owned();
            if path.is_dir() && !name.starts_with('.') && name != "target" && name != "node_modules" {
                walk(&path, found);
            } else if name.ends_with(".md") {
                found.push(path);
            }
        }
    }
    let mut found = Vec::new();
    walk(&top(), &mut found);
    found.iter().map(|path| path.strip_prefix(top()).unwrap().to_str().unwrap().to_owned()).collect()
}

/// As GitHub makes it from a heading.
fn anchor(heading: &str) -> String {
    let kept = heading.trim().to_lowercase().replace(' ', "-");
    kept.chars().filter(|c| c.is_alphanumeric() || *c == '-' || *c == '_').collect()
}

#[test]
fn every_link_leads_somewhere() {
    let link = Regex::new(r"\]\(([^)\s]+)\)").unwrap();
    let outside_code = Regex::new(r"(?s)```.*?```").unwrap();
    let mut broken = Vec::new();
    for file in markdown() {
        let text = read(&file);
        for found in link.captures_iter(&outside_code.replace_all(&text, "")) {
            let target = &found[1];
            if target.starts_with("http") || target.starts_with("mailto:") {
                continue;
            }
            let (path, fragment) = target.split_once('#').unwrap_or((target, ""));
            let whole = if path.is_empty() {
                top().join(&file)
            } else {
                top().join(&file).parent().unwrap().join(path)
            };
            let there = whole.exists()
                && (fragment.is_empty()
                    || std::fs::read_to_string(&whole).unwrap().lines().any(|line| {
                        line.starts_with('#') && anchor(line.trim_start_matches('#')) == fragment
                    }));
            if !there {
                broken.push(format!("{file}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}

#[test]
fn every_client_configuration_parses() {
    let mut configurations = vec![(".mcp.json.example".to_owned(), read(".mcp.json.example"))];
    let block = Regex::new(r"(?s)```json\n(.*?)```").unwrap();
    for file in markdown() {
        let text = read(&file);
        configurations.extend(block.captures_iter(&text).map(|found| (file.clone(), found[1].to_owned())));
    }
    assert!(configurations.len() >= 4, "the README's snippets are gone");
    for (file, text) in configurations {
        let value: Value =
            serde_json::from_str(&text).unwrap_or_else(|error| panic!("{file}: {error}\n{text}"));
        let Some(servers) = value.get("mcpServers").or_else(|| value.get("servers")) else { continue };
        for (name, server) in servers.as_object().unwrap() {
            let command = server["command"].as_str().unwrap();
            assert!(command.ends_with("vault-mcp"), "{file}: {name} runs {command}");
            for setting in server.get("env").and_then(Value::as_object).into_iter().flatten().map(|(k, _)| k)
            {
                assert!(SETTINGS.iter().any(|row| row.name == setting), "{file}: there is no {setting}");
            }
        }
    }
}

#[test]
fn what_documents_call_a_setting_is_one() {
    // Words of these documents in capitals with an underscore that are no settings.
    const OTHERS: &[&str] = &[
        "APP_CONFIG_FILE",
        "VAULT_MCP_TEST_VAULT",
        "VAULT_MCP_TEST_BINARY",
        "LOG_OPENED",
        "TAIL_SET_ASIDE",
        "CONFIRMATION_REQUIRED",
        "ANSWERED_ELSEWHERE",
        "VALIDATION_FAILED",
        "XDG_CACHE_HOME",
        "SSL_CERT_FILE",
        "NAME_FILE",
        // What an operation says of itself.
        "NEEDS_FILES",
        "ENDS_TOKEN",
        // What OpenTelemetry's own library reads.
        "OTEL_EXPORTER_OTLP_HEADERS",
        "OTEL_RESOURCE_ATTRIBUTES",
        "OTEL_TRACES_SAMPLER",
        "OTEL_BSP_SCHEDULE_DELAY",
    ];
    let word = Regex::new(r"`([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)(?:=[^`]*)?`").unwrap();
    for file in markdown().iter().filter(|file| !file.starts_with("audit/")) {
        for found in word.captures_iter(&read(file)) {
            let name = &found[1];
            let bare = name.strip_suffix("_FILE").unwrap_or(name);
            let known = SETTINGS.iter().any(|row| [name, bare].contains(&row.name)) || OTHERS.contains(&name);
            assert!(known || name.starts_with("BAO_"), "{file} speaks of {name}, which is no setting");
        }
    }
}

/// Puts `table` between the markers of this name.
fn fill(text: &mut String, name: &str, table: &str) {
    let (begin, end) = (format!("<!-- {name} -->\n"), format!("<!-- /{name} -->"));
    let from = text.find(&begin).unwrap_or_else(|| panic!("there is no {begin}")) + begin.len();
    let to = from + text[from..].find(&end).unwrap_or_else(|| panic!("there is no {end}"));
    text.replace_range(from..to, table);
}

/// The diff that adds lines `at` of a file, as git writes it; `before` are the lines in their place.
fn diff(path: &str, at: std::ops::Range<usize>, before: &[String]) -> String {
    const CONTEXT: usize = 3;
    let source = read(path);
    let lines: Vec<&str> = source.lines().collect();
    let (from, to) = (at.start.saturating_sub(CONTEXT), (at.end + CONTEXT).min(lines.len()));
    let around = to - from - at.len();
    let mut text = format!(
        "diff --git a/{path} b/{path}\n--- a/{path}\n+++ b/{path}\n@@ -{0},{1} +{0},{2} @@\n",
        from + 1,
        around + before.len(),
        to - from
    );
    let mut put = |sign: char, line: &str| text.push_str(&format!("{sign}{line}\n"));
    lines[from..at.start].iter().for_each(|line| put(' ', line));
    before.iter().for_each(|line| put('-', line));
    lines[at.clone()].iter().for_each(|line| put('+', line));
    lines[at.end..to].iter().for_each(|line| put(' ', line));
    text
}

/// Number of the one line that is this text, from 0.
fn line_of(path: &str, wanted: &str) -> usize {
    let text = read(path);
    let mut found =
        text.lines().enumerate().filter(|(_, line)| line.trim() == wanted).map(|(number, _)| number);
    let number = found.next().unwrap_or_else(|| panic!("{path} has no line: {wanted}"));
    assert!(found.next().is_none(), "{path} has more than one line: {wanted}");
    number
}

#[test]
fn the_diff_that_shows_a_new_operation_is_what_the_code_has() {
    let (kv, table, operation) = ("src/ops/kv.rs", "src/ops.rs", "src/ops/kv/read.rs");
    let exports = line_of(kv, "pub use read::{Compare, Diff, List, Metadata, Read};");
    let without = vec![read(kv).lines().nth(exports).unwrap().replace("Diff, ", "")];
    let row = line_of(table, "Op::of::<kv::Diff>(),");
    let block = line_of(operation, "/// `kv.diff`.")..line_of(operation, "/// `secret.compare`.");
    let shown = format!(
        "```diff\n{}{}{}```\n",
        diff(table, row..row + 1, &[]),
        diff(kv, exports..exports + 1, &without),
        diff(operation, block, &[])
    );
    let mut text = read("docs/adding-an-operation.md");
    fill(&mut text, "diff", &shown);
    hold("docs/adding-an-operation.md", &text);
}
