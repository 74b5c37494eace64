//! A service's 500 values into a `.env` of 500 lines, question and yes included, against writing that file alone.

use std::time::Instant;

use serde_json::{Value, json};

use crate::{
    measure::{Report, Samples},
    server::{InjectingServer, call},
    vault::{SUBJECT, Vault},
};

const LINES: usize = 500;
const ROUNDS: usize = 30;

pub fn run(vault: &Vault) {
    let data: serde_json::Map<String, Value> = (0..LINES)
        .map(|number| (format!("KEY_{number}"), format!("value {number} with $ and blanks").into()))
        .collect();
    let body = json!({ "data": data }).to_string();
    assert_eq!(
        vault.plain().exchange("POST", &format!("secret/data/mcp/{SUBJECT}/inject"), Some(&body)),
        200
    );
    let mut server = InjectingServer::on(vault);
    let file = server.folder().join(".env");
    let text: String = (0..LINES).map(|number| format!("KEY_{number}=old\n")).collect();
    let (mut ours, mut alone) = (Samples::default(), Samples::default());
    for round in 0..ROUNDS {
        std::fs::write(&file, &text).unwrap();
        let started = Instant::now();
        server.call(&call(round as u64 + 1, "vault_inject", &json!({"service": "inject"})));
        ours.add(started.elapsed());
        let written = std::fs::read_to_string(&file).unwrap();
        assert!(!written.contains("=old"), "{written}");
        forget_backups(server.folder());
        let started = Instant::now();
        let temporary = tempfile::NamedTempFile::new_in(server.folder()).unwrap();
        std::fs::write(temporary.path(), &written).unwrap();
        temporary.as_file().sync_all().unwrap();
        temporary.persist(server.folder().join("alone")).unwrap();
        alone.add(started.elapsed());
    }
    let mut report = Report::new("inject", Some(&vault.name));
    report.note("rounds", format!("{ROUNDS} of {LINES} lines; a person's yes comes at once"));
    report.row("writing the file alone, synced and renamed, p50", "alone", alone.p50(), "µs");
    report.row(
        "vault_inject, with its question, backup and four audit records, p50",
        "p50",
        ours.p50(),
        "µs",
    );
    report.row("ratio", "ratio", ours.p50() / alone.p50(), "");
    report.print(&[]);
}

/// There may be ten of one second, and the rounds are faster than that.
fn forget_backups(folder: &std::path::Path) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(".env.")) {
            std::fs::remove_file(path).unwrap();
        }
    }
}
