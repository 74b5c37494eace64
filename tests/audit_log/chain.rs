//! What was done to a log afterwards is found.

use std::fs;

use aws_lc_rs::digest::{SHA256, digest};
use vault_mcp::audit::{Action, Fault, VerifyOptions, verify};

use crate::common::{Home, call, confirmed, event, rotated, written};

/// The line with its hash computed again, as a forger without the key would.
fn rehashed(line: &str) -> String {
    let (before, rest) = line.split_once("\"hash\":\"").unwrap();
    let (_, after) = rest.split_at(66);
    let hash = hex::encode(digest(&SHA256, format!("{before}{after}").as_bytes()));
    format!("{before}\"hash\":\"{hash}\",{after}")
}

fn field<'a>(line: &'a str, name: &str) -> &'a str {
    let (_, rest) = line.split_once(&format!("\"{name}\":\"")).unwrap();
    rest.split_once('"').unwrap().0
}

#[test]
fn a_forged_hash_is_computed_as_the_log_computes_it() {
    for line in written(2).lines() {
        assert_eq!(rehashed(&line), line);
    }
}

#[test]
fn every_changed_byte_is_found() {
    let home = written(1);
    let sound = home.bytes();
    for at in 0..sound.len() {
        for change in [0x01, 0x20, 0x80] {
            let mut bytes = sound.clone();
            bytes[at] ^= change;
            fs::write(&home.path, &bytes).unwrap();
            assert!(!home.verify().is_sound(), "byte {at} changed by {change:#x}");
        }
    }
    fs::write(&home.path, &sound).unwrap();
    assert!(home.verify().is_sound());
}

#[test]
fn every_deleted_and_inserted_byte_is_found() {
    let home = written(1);
    let sound = home.bytes();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes.remove(at);
        fs::write(&home.path, &bytes).unwrap();
        assert!(!home.verify().is_sound(), "byte {at} deleted");
    }
    for at in 0..=sound.len() {
        for byte in [b'\n', b' ', b'0', b'"'] {
            let mut bytes = sound.clone();
            bytes.insert(at, byte);
            fs::write(&home.path, &bytes).unwrap();
            assert!(!home.verify().is_sound(), "{byte:?} inserted at {at}");
        }
    }
}

#[test]
fn every_deleted_record_is_found_but_the_last() {
    let home = written(3);
    let sound = home.lines();
    for at in 0..sound.len() - 1 {
        let mut lines = sound.clone();
        lines.remove(at);
        home.put_lines(&lines);
        let faults = home.faults();
        // Without the first record the file begins with none that begins a segment.
        let wanted = if at == 0 { Fault::Changed } else { Fault::Deleted };
        assert!(faults.contains(&wanted), "record {at}: {faults:?}");
    }
}

#[test]
fn every_swap_is_found() {
    let home = written(3);
    let sound = home.lines();
    for first in 0..sound.len() {
        for second in first + 1..sound.len() {
            let mut lines = sound.clone();
            lines.swap(first, second);
            home.put_lines(&lines);
            let report = home.verify();
            let swapped = report.problems.iter().any(|problem| problem.fault == Fault::Swapped);
            assert!(swapped || first == 0, "{first} and {second}: {:?}", report.problems);
            assert!(!report.is_sound());
        }
    }
}

#[test]
fn every_duplicate_is_found_wherever_it_stands() {
    let home = written(3);
    let sound = home.lines();
    for from in 0..sound.len() {
        for to in 0..=sound.len() {
            let mut lines = sound.clone();
            lines.insert(to, sound[from].clone());
            home.put_lines(&lines);
            let report = home.verify();
            let named = report
                .problems
                .iter()
                .any(|problem| matches!(problem.fault, Fault::Duplicated | Fault::Swapped | Fault::Inserted));
            assert!(named || to == 0, "{from} to {to}: {:?}", report.problems);
            assert!(!report.is_sound(), "{from} to {to}");
        }
    }
    let mut lines = sound.clone();
    lines.insert(3, sound[2].clone());
    home.put_lines(&lines);
    let report = home.verify();
    assert_eq!((report.problems[0].fault, report.problems[0].line), (Fault::Duplicated, 4));
}

#[test]
fn a_forged_record_with_a_right_hash_is_found() {
    let home = written(2);
    let mut lines = home.lines();
    let forged = lines[2].replace("alice", "mallory").replace("\"seq\":3", "\"seq\":4");
    let forged = forged.replace(field(&lines[2], "prev"), field(&lines[2], "hash"));
    lines.insert(3, rehashed(&forged));
    home.put_lines(&lines);
    let faults = home.faults();
    assert!(faults.contains(&Fault::Inserted), "{faults:?}");
}

#[test]
fn a_record_changed_with_its_hash_is_found_by_the_next_one() {
    let home = written(2);
    let mut lines = home.lines();
    lines[2] = rehashed(&lines[2].replace("alice", "bobby"));
    home.put_lines(&lines);
    let report = home.verify();
    assert_eq!((report.problems[0].fault, report.problems[0].line), (Fault::Changed, 4));
}

#[test]
fn a_chain_that_was_computed_anew_is_found_by_the_signature() {
    let home = written(2);
    let sound = home.lines();
    let mut lines = sound.clone();
    lines[2] = lines[2].replace("alice", "bobby");
    for at in 2..lines.len() {
        let before = field(&lines[at - 1], "hash").to_owned();
        let old = field(&lines[at], "prev").to_owned();
        // The checkpoint names the hash before it twice.
        lines[at] = rehashed(&lines[at].replace(&old, &before));
    }
    home.put_lines(&lines);
    assert_eq!(home.faults(), [Fault::BadSignature]);
    // Nor does it help to keep the checkpoint's words and change only its place.
    let last = lines.len() - 1;
    lines[last] =
        rehashed(&sound[last].replacen(field(&sound[last], "prev"), field(&lines[last - 1], "hash"), 1));
    home.put_lines(&lines);
    assert_eq!(home.faults(), [Fault::BadSignature]);
}

#[test]
fn a_forged_end_that_no_checkpoint_covers_must_at_least_be_a_record_that_the_log_writes() {
    let home = written(2);
    let log = home.open();
    log.record(&event(Action::Request, "last")).unwrap();
    let sound = home.lines();
    let opened = sound[0].split_once("\"log\":").unwrap().1;
    let forge = |change: &dyn Fn(&str) -> String| {
        let mut lines = sound.clone();
        let last = lines.last_mut().unwrap();
        *last = rehashed(&change(last));
        home.put_lines(&lines);
        home.faults()
    };
    assert_eq!(forge(&|line| line.to_owned()), []);
    assert_eq!(forge(&|line| line.replace("\"client\":", "\"client\": ")), [Fault::Changed]);
    assert_eq!(forge(&|line| line.replace("alice", "\\u0061lice")), [Fault::Changed]);
    assert_eq!(forge(&|line| line.replace("\"schema\":1", "\"schema\":2")), [Fault::Changed]);
    assert_eq!(forge(&|line| line.replace("REQUEST", "CHECKPOINT")), [Fault::Inserted]);
    let facts = forge(&|line| format!("{},\"log\":{opened}", line.trim_end_matches('}')));
    assert!(facts.contains(&Fault::Inserted), "{facts:?}");
    let begun = forge(&|line| {
        let line = line.replace("REQUEST", "LOG_OPENED");
        format!("{},\"log\":{opened}", line.trim_end_matches('}'))
    });
    assert_eq!(begun, [Fault::Inserted]);
}

#[test]
fn the_first_record_names_none_before_it() {
    let home = written(0);
    home.open().record(&event(Action::Request, "a")).unwrap();
    let lines = home.lines();
    let first = rehashed(&lines[0].replacen(&"0".repeat(64), &"1".repeat(64), 1));
    home.put_lines(&[first]);
    assert_eq!(home.faults(), [Fault::Changed]);
}

#[test]
fn a_checkpoint_by_another_key_is_found() {
    let home = written(2);
    let other = written(1);
    let key = other.file("audit.jsonl.public-key.pem");
    let report = verify(&home.path, &VerifyOptions { key: Some(key), expect: None }).unwrap();
    // The opening record names the log's own key, and the checkpoint is signed with it.
    assert_eq!(report.problems.iter().filter(|problem| problem.fault == Fault::BadSignature).count(), 2);
    fs::remove_file(home.file("audit.jsonl.public-key.pem")).unwrap();
    assert_eq!(home.faults(), [Fault::BadSignature]);
}

#[test]
fn a_cut_end_is_found_by_what_was_noted_elsewhere_and_by_nothing_else() {
    let home = written(3);
    let (seq, hash) = home.verify().last.unwrap();
    let expecting = || VerifyOptions { key: None, expect: Some((seq, hash.clone())) };
    assert!(verify(&home.path, &expecting()).unwrap().is_sound());
    let mut lines = home.lines();
    lines.pop();
    home.put_lines(&lines);
    let report = home.verify();
    assert!(report.is_sound());
    assert!(report.notes.iter().any(|note| note.contains("cannot be told from the log alone")));
    let report = verify(&home.path, &expecting()).unwrap();
    assert_eq!(report.problems[0].fault, Fault::NotAsExpected);
    let other = VerifyOptions { key: None, expect: Some((2, hash.clone())) };
    assert_eq!(verify(&home.path, &other).unwrap().problems[0].fault, Fault::NotAsExpected);
}

#[test]
fn a_missing_segment_is_found_wherever_it_was() {
    let count = rotated(20).names().iter().filter(|name| name.starts_with("audit.0")).count();
    assert!(count >= 4, "{count}");
    for number in 1..=count {
        let home = rotated(20);
        fs::remove_file(home.file(&format!("audit.{number:06}.jsonl"))).unwrap();
        let faults = home.faults();
        assert!(faults.contains(&Fault::MissingSegment), "segment {number}: {faults:?}");
    }
    let home = rotated(20);
    fs::remove_file(&home.path).unwrap();
    assert!(home.faults().contains(&Fault::MissingSegment));
}

#[test]
fn every_changed_byte_of_a_finished_segment_is_found() {
    let home = rotated(8);
    let path = home.file("audit.000001.jsonl");
    let sound = fs::read(&path).unwrap();
    for at in 0..sound.len() {
        let mut bytes = sound.clone();
        bytes[at] ^= 1;
        fs::write(&path, &bytes).unwrap();
        assert!(!home.verify().is_sound(), "byte {at}");
    }
    // Cut at the end of a record, which in the current file nobody could tell.
    let lines: Vec<&[u8]> = sound.split_inclusive(|byte| *byte == b'\n').collect();
    fs::write(&path, lines[..lines.len() - 1].concat()).unwrap();
    assert!(home.faults().contains(&Fault::Deleted));
}

#[test]
fn swapped_segments_are_found() {
    let home = rotated(20);
    let [one, two] = [home.file("audit.000001.jsonl"), home.file("audit.000002.jsonl")];
    let away = home.file("away");
    fs::rename(&one, &away).unwrap();
    fs::rename(&two, &one).unwrap();
    fs::rename(&away, &two).unwrap();
    assert!(!home.verify().is_sound());
}

#[test]
fn an_answer_needs_its_request_and_there_is_one_for_each() {
    let home = Home::new();
    let log = home.open();
    call(&log, "a").unwrap();
    log.record(&event(Action::Failed, "a")).unwrap();
    log.record(&event(Action::Success, "never asked")).unwrap();
    let report = home.verify();
    let found: Vec<_> = report.problems.iter().map(|problem| (problem.fault, problem.line)).collect();
    assert_eq!(found, [(Fault::BrokenPromise, 4), (Fault::BrokenPromise, 5)]);
    assert!(report.problems[0].text.contains("second answer"), "{report:?}");
}

#[test]
fn a_request_without_an_answer_is_explained_and_no_fault() {
    let home = Home::new();
    let log = home.open();
    log.record(&event(Action::Request, "a")).unwrap();
    drop(log);
    let report = home.verify();
    assert!(report.is_sound());
    assert!(report.notes.iter().any(|note| note.contains("outcome unknown")), "{:?}", report.notes);
}

#[test]
fn a_ticket_is_confirmed_once() {
    let home = Home::new();
    let log = home.open();
    log.record(&confirmed("a", "t1")).unwrap();
    log.record(&confirmed("b", "t2")).unwrap();
    assert!(home.verify().is_sound());
    log.record(&confirmed("c", "t1")).unwrap();
    assert_eq!(home.faults(), [Fault::BrokenPromise]);
}

#[test]
fn forged_numbers_at_their_limits_are_faults_and_no_panic() {
    let home = written(2);
    let sound = home.lines();
    for (at, old, new) in [
        (2, "\"seq\":3", "\"seq\":18446744073709551615"),
        (2, "\"seq\":3", "\"seq\":0"),
        (5, "\"seq\":6", "\"seq\":18446744073709551615"),
        (5, "\"checkpoint\":{\"seq\":5", "\"checkpoint\":{\"seq\":18446744073709551615"),
        (0, "\"segment\":1", "\"segment\":4294967295"),
        (0, "\"segment\":1", "\"segment\":0"),
    ] {
        let mut lines = sound.clone();
        assert!(lines[at].contains(old), "{}", lines[at]);
        lines[at] = rehashed(&lines[at].replace(old, new));
        home.put_lines(&lines);
        assert!(!home.verify().is_sound(), "{new}");
        // A writer may refuse or go on; what it does must not end the process.
        let _ = call(&home.open(), "after");
        let _ = fs::remove_file(home.file("audit.4294967295.jsonl"));
    }
    home.put_lines(&sound);
    fs::write(home.file("audit.4294967295.jsonl"), "x\n").unwrap();
    assert!(!home.verify().is_sound());
}
