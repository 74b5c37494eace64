//! Nothing is recorded in a file that is not the log, and nothing goes on when the log cannot be kept.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::process::Command;

use aws_lc_rs::digest::{SHA256, digest};
use vault_mcp::audit::{Action, Audit, Fsync, LogFact, Record, Settings};

use crate::common::{Home, call, event, mode, refusal, rotated, written};
use crate::processes::child;

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

#[test]
fn log_keys_and_segments_are_private() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("new/deeper/audit.jsonl");
    let log = Audit::open(Settings { max_bytes: 2_000, ..Settings::new(&path) }).unwrap();
    for number in 0..10 {
        call(&log, &number.to_string()).unwrap();
    }
    let folder = path.parent().unwrap();
    assert_eq!(mode(folder), 0o700);
    let mut count = 0;
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap().path();
        assert_eq!(mode(&entry), 0o600, "{entry:?}");
        count += 1;
    }
    assert!(count >= 6, "{count}");
}

#[test]
fn a_link_a_fifo_a_folder_and_a_device_are_no_log() {
    let target = written(1);
    let home = Home::new();
    symlink(&target.path, &home.path).unwrap();
    assert_eq!(refusal(home.settings()), "audit_symlink");

    let home = Home::new();
    symlink(home.file("nowhere"), &home.path).unwrap();
    assert_eq!(refusal(home.settings()), "audit_symlink");

    let home = Home::new();
    assert!(Command::new("mkfifo").arg(&home.path).status().unwrap().success());
    // Opened as a file it would keep the opener waiting for ever.
    assert_eq!(refusal(home.settings()), "audit_not_a_file");

    let home = Home::new();
    fs::create_dir(&home.path).unwrap();
    assert_eq!(refusal(home.settings()), "audit_not_a_file");

    assert_ne!(refusal(Settings::new("/dev/null")), "");

    // A FIFO in place of a key would keep a reader waiting for ever.
    let home = written(1);
    let key = home.file("audit.jsonl.hmac-key");
    fs::remove_file(&key).unwrap();
    assert!(Command::new("mkfifo").arg(&key).status().unwrap().success());
    assert_eq!(refusal(home.settings()), "audit_not_a_file");
}

#[test]
fn every_finished_segment_ends_in_a_checkpoint() {
    let home = rotated(20);
    let segments: Vec<String> = home.names().into_iter().filter(|name| name.starts_with("audit.0")).collect();
    assert!(segments.len() > 3);
    for name in segments {
        let text = fs::read_to_string(home.file(&name)).unwrap();
        let last: Record<'_> = serde_json::from_str(text.lines().last().unwrap()).unwrap();
        assert_eq!(last.action, Action::Checkpoint, "{name}");
    }
}

#[test]
fn a_file_that_others_can_reach_is_refused() {
    for open in [0o640, 0o604, 0o620, 0o700] {
        let home = written(1);
        fs::set_permissions(&home.path, fs::Permissions::from_mode(open)).unwrap();
        assert_eq!(refusal(home.settings()), "audit_permissions", "{open:o}");
    }
    for key in ["audit.jsonl.hmac-key", "audit.jsonl.signing-key.pem"] {
        let home = written(1);
        fs::set_permissions(home.file(key), fs::Permissions::from_mode(0o644)).unwrap();
        let opened = Audit::open(home.settings()).and_then(|log| {
            log.record(&event(Action::Request, "r"))?;
            log.checkpoint()
        });
        assert_eq!(opened.unwrap_err().code(), "audit_permissions", "{key}");
    }
}

#[test]
fn a_folder_that_others_can_write_to_is_refused() {
    for open in [0o770, 0o707, 0o777, 0o1777] {
        let home = Home::new();
        fs::set_permissions(home.dir.path(), fs::Permissions::from_mode(open)).unwrap();
        assert_eq!(refusal(home.settings()), "audit_folder_open", "{open:o}");
    }
}

#[test]
fn a_foreign_owner_is_refused() {
    if !is_root() {
        // Only root can give files away; a file of root's is then the foreign one.
        assert_ne!(refusal(Settings::new("/etc/hostname")), "");
        return;
    }
    let home = written(1);
    chown(&home.path, Some(12_345), None).unwrap();
    assert_eq!(refusal(home.settings()), "audit_foreign_owner");

    let home = written(1);
    chown(home.dir.path(), Some(12_345), None).unwrap();
    assert_eq!(refusal(home.settings()), "audit_foreign_owner");

    let home = written(1);
    chown(home.file("audit.jsonl.hmac-key"), Some(12_345), None).unwrap();
    assert_eq!(refusal(home.settings()), "audit_foreign_owner");
}

#[test]
fn a_log_that_cannot_be_written_is_refused_at_the_start() {
    // As another user than root, whom no permission stops.
    let home = written(1);
    fs::set_permissions(&home.path, fs::Permissions::from_mode(0o400)).unwrap();
    assert_eq!(child("open", &home).unprivileged().code(), "audit_unwritable");

    let home = Home::new();
    fs::set_permissions(home.dir.path(), fs::Permissions::from_mode(0o500)).unwrap();
    assert_eq!(child("open", &home).unprivileged().code(), "audit_unwritable");
}

#[test]
fn a_full_disk_is_an_error_and_leaves_whole_records() {
    let home = written(1);
    let before = home.bytes();
    // A limit on the size of files answers writes as a full disk does: a part, then an error.
    let limit = before.len() as u64 / 512 + 2;
    assert_eq!(child("fill", &home).file_limit(limit).code(), "audit_full");
    let after = home.bytes();
    assert!(after.len() > before.len());
    assert_eq!(after.last(), Some(&b'\n'));
    assert!(home.verify().is_sound(), "{:?}", home.verify().problems);
    call(&home.open(), "afterwards").unwrap();
    assert!(home.verify().is_sound());
}

#[test]
fn a_log_that_is_removed_while_open_is_not_made_again() {
    let home = Home::new();
    let log = home.open();
    call(&log, "a").unwrap();
    fs::remove_file(&home.path).unwrap();
    assert_eq!(log.record(&event(Action::Request, "b")).unwrap_err().code(), "audit_removed");
    assert!(!home.path.exists());
    assert_eq!(refusal(home.settings()), "audit_removed");
    assert!(!home.path.exists());
}

#[test]
fn a_log_that_is_replaced_while_open_is_an_error() {
    let other = written(1);
    let later = rotated(20);
    type Replace<'a> = &'a dyn Fn(&Home);
    let replace: [(&str, Replace<'_>); 7] = [
        ("later segment of another log", &|home| fs::rename(&later.path, &home.path).unwrap()),
        // With the old one where rotation would put it, but not in the new one's chain.
        ("next segment of another log", &|home| {
            fs::rename(home.file("moved"), home.file("audit.000001.jsonl")).unwrap();
            fs::copy(later.file("audit.000002.jsonl"), &home.path).unwrap();
            fs::copy(home.file("audit.000001.jsonl"), home.file("moved")).unwrap();
        }),
        ("link", &|home| symlink(&other.path, &home.path).unwrap()),
        ("fifo", &|home| assert!(Command::new("mkfifo").arg(&home.path).status().unwrap().success())),
        ("folder", &|home| fs::create_dir(&home.path).unwrap()),
        ("log", &|home| fs::write(&home.path, other.bytes()).unwrap()),
        ("copy", &|home| fs::write(&home.path, fs::read(home.file("moved")).unwrap()).unwrap()),
    ];
    for (what, replace) in replace {
        let home = Home::new();
        let log = home.open();
        call(&log, "a").unwrap();
        fs::rename(&home.path, home.file("moved")).unwrap();
        replace(&home);
        let before = fs::read(home.file("moved")).unwrap();
        let error = log.record(&event(Action::Request, "b")).unwrap_err();
        assert_eq!(error.code(), "audit_replaced", "{what}: {error}");
        assert_eq!(fs::read(home.file("moved")).unwrap(), before, "{what}");
    }
}

#[test]
fn a_log_that_was_shortened_is_an_error() {
    let home = Home::new();
    let log = home.open();
    call(&log, "a").unwrap();
    let mut lines = home.lines();
    lines.pop();
    home.put_lines(&lines);
    assert_eq!(log.record(&event(Action::Request, "b")).unwrap_err().code(), "audit_shortened");
    fs::write(&home.path, "").unwrap();
    assert_eq!(refusal(home.settings()), "audit_shortened");
}

#[test]
fn nothing_is_chained_to_a_damaged_record() {
    let home = written(2);
    let sound = home.lines();
    let mut lines = sound.clone();
    let last = lines.last_mut().unwrap();
    *last = last.replace("audit.checkpoint", "audit.checkpaint");
    home.put_lines(&lines);
    assert_eq!(refusal(home.settings()), "audit_damaged");
    home.put_lines(&[sound, vec!["nonsense".to_owned()]].concat());
    assert_eq!(refusal(home.settings()), "audit_damaged");
}

#[test]
fn a_lost_key_is_not_made_again() {
    let home = written(1);
    fs::remove_file(home.file("audit.jsonl.hmac-key")).unwrap();
    assert_eq!(refusal(home.settings()), "audit_key_missing");
    assert!(!home.file("audit.jsonl.hmac-key").exists());

    let home = written(1);
    fs::write(home.file("audit.jsonl.hmac-key"), "zz\n").unwrap();
    assert_eq!(refusal(home.settings()), "audit_key_bad");

    let home = rotated(10);
    fs::remove_file(home.file("audit.jsonl.hmac-key")).unwrap();
    fs::remove_file(&home.path).unwrap();
    assert_eq!(refusal(home.settings()), "audit_key_missing");
}

#[test]
fn a_last_record_cut_at_every_byte_is_set_aside() {
    let sound = written(2);
    let bytes = sound.bytes();
    let start = bytes[..bytes.len() - 1].iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    for end in start + 1..bytes.len() {
        // A kill while the last line was written, then a cut of what is set aside would show.
        fs::write(&sound.path, &bytes[..end]).unwrap();
        let log = sound.open();
        log.record(&event(Action::Request, "next")).unwrap();
        drop(log);
        let report = sound.verify();
        assert!(report.is_sound(), "cut at {end}: {:?}", report.problems);
        let torn = &bytes[start..end];
        let lines = sound.lines();
        let fact = lines.iter().find_map(|line| match serde_json::from_str::<Record<'_>>(line).unwrap() {
            Record { action: Action::TailSetAside, log: Some(fact), .. } => Some(fact),
            _ => None,
        });
        let Some(LogFact::TailSetAside { bytes: count, sha256, file }) = fact else {
            panic!("cut at {end}: no record says so")
        };
        assert_eq!(count, torn.len() as u64);
        assert_eq!(sha256, hex::encode(digest(&SHA256, torn)));
        assert_eq!(fs::read(sound.file(&file)).unwrap(), torn);
        assert_eq!(mode(&sound.file(&file)), 0o600);
        fs::remove_file(sound.file(&file)).unwrap();
    }
}

#[test]
fn a_beginning_that_was_killed_is_finished() {
    // Before the key was written: all is done again.
    let home = written(1);
    fs::rename(&home.path, home.file("audit.jsonl.next")).unwrap();
    fs::write(home.file("audit.jsonl.hmac-key"), "").unwrap();
    call(&home.open(), "a").unwrap();
    assert!(home.verify().is_sound());
    // After: only the rename is missing.
    let home = written(1);
    fs::rename(&home.path, home.file("audit.jsonl.next")).unwrap();
    let before = fs::read(home.file("audit.jsonl.next")).unwrap();
    call(&home.open(), "b").unwrap();
    assert!(home.bytes().starts_with(&before));
    assert!(home.verify().is_sound());
}

#[test]
fn a_rotation_that_was_killed_is_finished_by_whoever_comes_next() {
    // Between the two renames, met by a process that starts.
    let home = rotated(10);
    fs::rename(&home.path, home.file("audit.jsonl.next")).unwrap();
    call(&home.open(), "next").unwrap();
    assert!(home.verify().is_sound(), "{:?}", home.verify().problems);

    // Before the first of them, when the finished segment has two names.
    let home = rotated(10);
    let number = home.names().iter().filter(|name| name.starts_with("audit.0")).count() + 1;
    let finished = home.file(&format!("audit.{number:06}.jsonl"));
    fs::hard_link(&home.path, &finished).unwrap();
    assert!(home.verify().is_sound(), "{:?}", home.verify().problems);
    call(&home.open(), "goes on").unwrap();
    assert!(home.verify().is_sound(), "{:?}", home.verify().problems);
    let log = Audit::open(Settings { max_bytes: 1, ..home.settings() }).unwrap();
    log.record(&event(Action::Request, "rotates")).unwrap();
    assert_ne!(fs::read(&finished).unwrap(), home.bytes());
    assert!(home.verify().is_sound(), "{:?}", home.verify().problems);

    // And by one that has the finished segment open.
    let home = written(2);
    let waiting = home.open();
    call(&waiting, "before").unwrap();
    let rotating = Audit::open(Settings { max_bytes: 1, ..home.settings() }).unwrap();
    rotating.record(&event(Action::Request, "rotates")).unwrap();
    fs::rename(&home.path, home.file("audit.jsonl.next")).unwrap();
    call(&waiting, "after").unwrap();
    assert!(home.path.exists());
    let report = home.verify();
    assert!(report.is_sound(), "{:?}", report.problems);
}

#[test]
fn a_removed_log_is_not_taken_for_a_killed_rotation() {
    // A waiting segment that does not follow the last finished one.
    let home = rotated(10);
    fs::remove_file(&home.path).unwrap();
    let other = rotated(10);
    fs::copy(&other.path, home.file("audit.jsonl.next")).unwrap();
    assert_eq!(refusal(home.settings()), "audit_removed");
    fs::remove_file(home.file("audit.jsonl.next")).unwrap();
    assert_eq!(refusal(home.settings()), "audit_removed");
}

#[test]
fn rotation_keeps_as_many_segments_as_it_should() {
    let home = Home::new();
    let settings = Settings { max_bytes: 2_500, keep: Some(2), ..home.settings() };
    let log = Audit::open(settings.clone()).unwrap();
    for number in 0..30 {
        call(&log, &number.to_string()).unwrap();
    }
    drop(log);
    let segments: Vec<String> = home.names().into_iter().filter(|name| name.starts_with("audit.0")).collect();
    assert_eq!(segments.len(), 2, "{segments:?}");
    let report = home.verify();
    assert!(report.is_sound(), "{:?}", report.problems);
    assert!(report.notes.iter().any(|note| note.contains("retention")), "{:?}", report.notes);
    // One segment more than retention takes is one too many.
    fs::remove_file(home.file(&segments[0])).unwrap();
    assert!(!home.verify().is_sound());
}

#[test]
fn a_writer_follows_rotations_even_past_what_retention_kept() {
    let home = Home::new();
    let idle = home.open();
    call(&idle, "first").unwrap();
    let busy = Audit::open(Settings { max_bytes: 2_500, keep: Some(1), ..home.settings() }).unwrap();
    for number in 0..40 {
        call(&busy, &number.to_string()).unwrap();
    }
    assert!(!home.file("audit.000001.jsonl").exists());
    call(&idle, "last").unwrap();
    assert!(home.verify().is_sound(), "{:?}", home.verify().problems);
}

#[test]
fn a_checkpoint_stands_at_every_thousandth_record_and_at_the_close() {
    let home = Home::new();
    let log = home.open();
    for number in 0..1_100 {
        call(&log, &number.to_string()).unwrap();
    }
    drop(log);
    let lines = home.lines();
    let checkpoints: Vec<u64> = lines
        .iter()
        .map(|line| serde_json::from_str::<Record<'_>>(line).unwrap())
        .filter(|record| record.action == Action::Checkpoint)
        .map(|record| record.seq)
        .collect();
    assert_eq!(checkpoints, [1_000, 2_000, lines.len() as u64]);
    assert_eq!(home.verify().checkpoints, 3);
    // A process that wrote nothing signs nothing.
    drop(home.open());
    assert_eq!(home.lines().len(), lines.len());
}

#[test]
fn every_fsync_setting_records() {
    for fsync in [Fsync::Always, Fsync::Writes, Fsync::Never] {
        let home = Home::new();
        let log = Audit::open(Settings { fsync, ..home.settings() }).unwrap();
        for durable in [true, false] {
            log.record(&vault_mcp::audit::Event { durable, ..event(Action::Request, "a") }).unwrap();
        }
        assert_eq!(home.lines().len(), 3);
    }
}

#[test]
fn the_logs_own_records_cannot_be_forged_through_the_front_door() {
    let home = Home::new();
    let log = home.open();
    for action in [Action::LogOpened, Action::Rotated, Action::Checkpoint, Action::TailSetAside] {
        assert_eq!(log.record(&event(action, "a")).unwrap_err().code(), "audit_usage");
    }
    assert_eq!(home.lines().len(), 1);
}

/// Bytes that this thread has read so far, as Linux counts them.
#[cfg(target_os = "linux")]
fn bytes_read() -> u64 {
    let counters = fs::read_to_string("/proc/thread-self/io").unwrap();
    counters.lines().find_map(|line| line.strip_prefix("rchar: ")).unwrap().parse().unwrap()
}

#[test]
#[cfg(target_os = "linux")]
fn opening_reads_the_end_of_the_log_and_not_the_log() {
    let (short, long) = (written(50), written(2_000));
    let cost = |home: &Home| {
        let before = bytes_read();
        drop(home.open());
        bytes_read() - before
    };
    let (little, much) = (cost(&short), cost(&long));
    assert!(long.bytes().len() > 20 * short.bytes().len());
    assert!(much < little + 4096, "{much} bytes to open a long log, {little} to open a short one");
}
