//! Whole processes against the simplest thing that could do the same: `cargo bench --bench whole [-- part…]`.
//!
//! Each part prints a table, the ratio of one run and one line of JSON. `bench/README.md` says what each
//! part measures and gives the figures of one machine.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::print_stdout,
    missing_docs,
    unreachable_pub,
    reason = "a bench that cannot run should say so at once"
)]

mod hop;
mod measure;
mod parts;
mod plain;
mod server;
mod vault;

use vault::Vault;

/// A part and whether it needs a Vault.
struct Part {
    name: &'static str,
    run: Run,
}

enum Run {
    Alone(fn()),
    OnVault(fn(&Vault)),
}

const PARTS: &[Part] = &[
    Part { name: "start", run: Run::Alone(parts::start::run) },
    Part { name: "tools", run: Run::Alone(parts::tools::run) },
    Part { name: "read", run: Run::OnVault(parts::read::run) },
    Part { name: "flight", run: Run::OnVault(parts::flight::run) },
    Part { name: "memory", run: Run::OnVault(parts::memory::run) },
    Part { name: "list", run: Run::OnVault(parts::list::run) },
    Part { name: "transit", run: Run::OnVault(parts::transit::run) },
    Part { name: "inject", run: Run::OnVault(parts::inject::run) },
    Part { name: "http", run: Run::OnVault(parts::http::run) },
    Part { name: "agents", run: Run::OnVault(parts::agents::run) },
    Part { name: "overload", run: Run::OnVault(parts::overload::run) },
];

fn main() {
    if hop::was_asked_for() {
        return;
    }
    // cargo passes --bench; whatever else begins with a dash is cargo's too.
    let asked: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    for word in &asked {
        assert!(
            PARTS.iter().any(|part| part.name == word),
            "there is no part '{word}'; the parts are {}",
            PARTS.iter().map(|part| part.name).collect::<Vec<_>>().join(", ")
        );
    }
    let wanted = |part: &&Part| asked.is_empty() || asked.iter().any(|word| word == part.name);
    println!("{}", measure::machine());
    for part in PARTS.iter().filter(wanted) {
        if let Run::Alone(run) = part.run {
            run();
        }
    }
    let on_vault: Vec<fn(&Vault)> = PARTS
        .iter()
        .filter(wanted)
        .filter_map(|part| match part.run {
            Run::OnVault(run) => Some(run),
            Run::Alone(_) => None,
        })
        .collect();
    if on_vault.is_empty() {
        return;
    }
    // The real one, if there is one, decides; a fast one shows best what we add ourselves.
    for start in [Vault::real as fn() -> Option<Vault>, || Some(Vault::embedded())] {
        if let Some(vault) = start() {
            for run in &on_vault {
                run(&vault);
            }
        }
    }
}
