//! What `audit/README.md` tells people to do by hand works as it stands there.

use std::fs;
use std::process::{Command, Output};

use vault_mcp::audit::Action;

use crate::common::{Home, event, rotated};

/// The code blocks of the section, in order: their language and text.
fn blocks() -> Vec<(String, String)> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/audit/README.md")).unwrap();
    let (_, section) = text.split_once("## By hand").unwrap();
    let parts: Vec<&str> = section.split("```").collect();
    parts
        .chunks(2)
        .filter_map(|pair| pair.get(1))
        .map(|block| block.split_once('\n').unwrap())
        .map(|(language, code)| (language.to_owned(), code.to_owned()))
        .collect()
}

/// Runs block `number` in the folder of the log. None if a program that it needs is not installed.
fn run(home: &Home, number: usize) -> Option<Output> {
    let (language, code) = &blocks()[number];
    let program = match language.as_str() {
        "python" => "python3",
        "sh" => "bash",
        other => panic!("{other}"),
    };
    let needed = ["python3", "jq", "openssl", "bash"];
    for tool in needed.iter().filter(|tool| **tool == program || code.contains(**tool)) {
        if Command::new(tool).arg("--version").output().is_err() {
            println!("{tool} is not installed: block {number} was not run");
            return None;
        }
    }
    let code = if program == "bash" { format!("set -euo pipefail\n{code}") } else { code.clone() };
    Some(
        Command::new(program)
            .arg("-c")
            .arg(code)
            .env("VALUE", "hunter2")
            .current_dir(home.dir.path())
            .output()
            .unwrap(),
    )
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned()
}

#[test]
fn the_python_accepts_a_log_and_finds_changes() {
    let home = rotated(20);
    let Some(output) = run(&home, 0) else { return };
    let (seq, hash) = home.verify().last.unwrap();
    assert!(output.status.success(), "{}", text(&output));
    assert_eq!(text(&output), format!("chain is whole through {seq}:{hash}\n"));
    let sound = home.bytes();
    type Change<'a> = &'a dyn Fn(&mut Vec<u8>);
    let changes: [(&str, Change<'_>); 4] = [
        ("changed", &|bytes| bytes[500] ^= 1),
        ("torn", &|bytes| bytes.truncate(bytes.len() - 1)),
        ("hash", &|bytes| bytes[170] ^= 1),
        ("deleted", &|bytes| drop(bytes.drain(..=bytes.iter().position(|byte| *byte == b'\n').unwrap()))),
    ];
    for (what, change) in changes {
        let mut bytes = sound.clone();
        change(&mut bytes);
        fs::write(&home.path, bytes).unwrap();
        assert!(!run(&home, 0).unwrap().status.success(), "{what}");
    }
    fs::write(&home.path, &sound).unwrap();
    fs::remove_file(home.file("audit.000002.jsonl")).unwrap();
    assert!(!run(&home, 0).unwrap().status.success(), "missing segment");
}

#[test]
fn one_records_hash_is_that_of_its_bytes() {
    let home = rotated(1);
    let Some(output) = run(&home, 1) else { return };
    let text = text(&output);
    let [computed, written]: [&str; 2] = text.lines().collect::<Vec<_>>().try_into().unwrap();
    assert_eq!(computed, written);
    assert_eq!(written.len(), 64);
}

#[test]
fn openssl_accepts_the_last_checkpoint_and_no_other_key() {
    let home = rotated(1);
    let Some(output) = run(&home, 2) else { return };
    assert!(output.status.success(), "{}", text(&output));
    assert!(text(&output).contains("Verified Successfully"), "{}", text(&output));
    let key = "audit.jsonl.public-key.pem";
    fs::copy(rotated(1).file(key), home.file(key)).unwrap();
    assert!(!run(&home, 2).unwrap().status.success());
}

#[test]
fn requests_without_an_answer_are_listed() {
    let home = rotated(5);
    home.open().record(&event(Action::Request, "unanswered")).unwrap();
    let Some(output) = run(&home, 3) else { return };
    assert_eq!(text(&output), "unanswered\n");
}

#[test]
fn openssl_computes_the_same_hash_of_a_value() {
    let home = rotated(1);
    let Some(output) = run(&home, 4) else { return };
    let hash = home.open().hmac(b"hunter2");
    assert!(text(&output).trim().ends_with(hash.trim_start_matches("hmac-sha256:")), "{}", text(&output));
    assert_eq!(blocks().len(), 5);
}
