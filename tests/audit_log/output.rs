//! What people and collectors are shown is what was recorded, in a form that nothing in it can break.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use std::{fs, thread};

use chrono::{TimeDelta, Utc};
use clap::{CommandFactory, FromArgMatches, Parser};
use serde_json::Value;
use vault_mcp::audit::{
    self, Action, Approval, Audit, AuditError, Event, Filter, Format, Record, Settings, Target,
};
use vault_mcp::cli;

use crate::common::{Home, call, confirmed, event, rotated, written};

/// Everything that could end a line, a field or a terminal's good behaviour, around a word to find again.
const HOSTILE: &str = "w\n\r\t\0 \u{1b}[2J\u{7f}\u{85}\u{9b}\u{2028}\u{2029}\u{202e}\u{200b}\u{feff}\u{1f600}|=\\\"' USER=root ACTION=SUCCESS";

fn hostile(home: &Home) {
    let keys = [HOSTILE.to_owned(), "plain".to_owned()];
    let log = home.open();
    let text = Some(HOSTILE);
    let all = Event {
        subject: HOSTILE,
        front: HOSTILE,
        client: text,
        op: HOSTILE,
        effect: HOSTILE,
        target: HOSTILE,
        keys: &keys,
        outcome: text,
        code: text,
        vault_request_id: text,
        approval: Some(Approval { channel: HOSTILE, ticket: HOSTILE }),
        ..event(Action::Request, HOSTILE)
    };
    log.record(&all).unwrap();
    log.record(&Event { action: Action::Failed, ..all }).unwrap();
}

fn shown(home: &Home, filter: &Filter, format: Format) -> String {
    let mut out = Vec::new();
    audit::show(&home.path, filter, format, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

fn exported(home: &Home, to: Target) -> Vec<String> {
    let mut out = Vec::new();
    assert_eq!(audit::export(&home.path, &Filter::default(), to, &mut out).unwrap(), 0);
    String::from_utf8(out).unwrap().lines().map(str::to_owned).collect()
}

fn is_plain(text: &str) -> bool {
    text.bytes().all(|byte| matches!(byte, b'\n' | 0x20..=0x7e))
}

#[derive(Parser)]
struct Program {
    #[command(flatten)]
    args: cli::audit::Args,
}

/// Runs `vault-mcp audit` with these arguments.
fn run(home: &Home, arguments: &[&str]) -> Result<(ExitCode, String), AuditError> {
    let matches = Program::command().get_matches_from([&["audit"], arguments].concat());
    let program = Program::from_arg_matches(&matches).unwrap();
    let mut out = Vec::new();
    let code = cli::audit::run(program.args, &home.path, &mut out)?;
    Ok((code, String::from_utf8(out).unwrap()))
}

#[test]
fn no_field_can_break_a_line_or_steer_a_terminal() {
    let home = Home::new();
    hostile(&home);
    let bytes = home.bytes();
    assert!(is_plain(std::str::from_utf8(&bytes).unwrap()));
    assert_eq!(home.lines().len(), 4);
    let record: Record<'_> = serde_json::from_str(&home.lines()[1]).unwrap();
    assert_eq!(record.target, HOSTILE);
    assert_eq!(record.keys[0], HOSTILE);
    for character in HOSTILE.chars() {
        let alone = Home::new();
        let target = format!("a{character}b");
        alone.open().record(&Event { target: &target, ..event(Action::Request, "a") }).unwrap();
        let bytes = alone.bytes();
        assert!(is_plain(std::str::from_utf8(&bytes).unwrap()), "{character:?}");
        assert_eq!(alone.lines().len(), 3, "{character:?}");
        let record: Record<'_> = serde_json::from_str(&alone.lines()[1]).unwrap();
        assert_eq!(record.target, target);
    }
    for format in [Format::Line, Format::Json, Format::Table] {
        let text = shown(&home, &Filter::default(), format);
        assert!(is_plain(&text), "{format:?}: {text}");
        assert_eq!(text.lines().count(), if format == Format::Table { 5 } else { 4 }, "{format:?}");
    }
    for to in [Target::Ocsf, Target::Ecs, Target::Cef] {
        let lines = exported(&home, to);
        assert!(lines.iter().all(|line| is_plain(line)), "{to:?}: {lines:?}");
        assert_eq!(lines.len(), 4, "{to:?}");
    }
    let mut out = Vec::new();
    home.verify().print(&mut out).unwrap();
    assert!(is_plain(std::str::from_utf8(&out).unwrap()));
}

#[test]
fn a_line_shows_time_user_action_service_and_details() {
    let home = Home::new();
    let log = home.open();
    let keys = ["DB_PASSWORD".to_owned(), "API_KEY".to_owned()];
    log.record(&Event {
        op: "kv.write",
        keys: &keys,
        outcome: Some("version 4"),
        ..event(Action::Request, "7f3a")
    })
    .unwrap();
    log.record(&confirmed("7f3a", "t-1")).unwrap();
    hostile(&home);
    let text = shown(&home, &Filter::default(), Format::Line);
    let lines: Vec<&str> = text.lines().collect();
    let (time, rest) = lines[1].split_once("] ").unwrap();
    assert_eq!(time.len(), "[2026-01-31T12:00:00.000000Z".len());
    assert_eq!(
        rest,
        "USER=alice ACTION=REQUEST SERVICE=secret/mcp/alice/app DETAILS=op=kv.write effect=read front=stdio \
         id=7f3a keys=DB_PASSWORD,API_KEY client=\"test 1.0\" outcome=\"version 4\""
    );
    assert!(lines[2].ends_with("client=\"test 1.0\" channel=client ticket=t-1"), "{}", lines[2]);
    // A forged field stays inside its quotes.
    assert_eq!(lines[4].matches(" USER=").count() - lines[4].matches("' USER=root").count(), 1);
}

#[test]
fn filters_choose_by_every_field_and_number() {
    let home = rotated(10);
    let log = home.open();
    log.record(&Event { subject: "bob", op: "kv.write", ..event(Action::Refused, "x") }).unwrap();
    let count = |filter: Filter| shown(&home, &filter, Format::Json).lines().count();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(count(Filter { subject: some("alice"), ..Filter::default() }), 20);
    assert_eq!(count(Filter { subject: some("bob"), ..Filter::default() }), 1);
    assert_eq!(count(Filter { op: some("kv.write"), ..Filter::default() }), 1);
    assert_eq!(count(Filter { action: Some(Action::Success), ..Filter::default() }), 10);
    assert_eq!(count(Filter { id: some("call-3"), ..Filter::default() }), 2);
    assert_eq!(count(Filter { subject: some("alice"), last: Some(3), ..Filter::default() }), 3);
    let all = count(Filter::default());
    let now = Utc::now();
    assert_eq!(count(Filter { since: Some(now - TimeDelta::hours(1)), ..Filter::default() }), all);
    assert_eq!(count(Filter { since: Some(now), ..Filter::default() }), 0);
    assert_eq!(count(Filter { until: Some(now), ..Filter::default() }), all);
    assert_eq!(count(Filter { until: Some(now - TimeDelta::hours(1)), ..Filter::default() }), 0);
    let stamp = |line: &str| serde_json::from_str::<Value>(line).unwrap()["ts"].as_str().unwrap().to_owned();
    let text = shown(&home, &Filter { last: Some(2), ..Filter::default() }, Format::Json);
    let [before, last]: [&str; 2] = text.lines().collect::<Vec<_>>().try_into().unwrap();
    assert!(stamp(before) <= stamp(last));
    let since = audit::parse_time(&stamp(last), now).unwrap();
    assert!(count(Filter { since: Some(since), ..Filter::default() }) >= 1);
}

#[test]
fn times_are_read_as_people_give_them() {
    let now = Utc::now();
    let parse = |text| audit::parse_time(text, now);
    assert_eq!(parse("2026-01-31").unwrap().to_rfc3339(), "2026-01-31T00:00:00+00:00");
    assert_eq!(parse("2026-01-31T12:00:00+02:00").unwrap().to_rfc3339(), "2026-01-31T10:00:00+00:00");
    assert_eq!(parse("90s").unwrap(), now - TimeDelta::seconds(90));
    assert_eq!(parse("15m").unwrap(), now - TimeDelta::minutes(15));
    assert_eq!(parse("2h").unwrap(), now - TimeDelta::hours(2));
    assert_eq!(parse("7d").unwrap(), now - TimeDelta::days(7));
    for wrong in ["", "m", "-1h", "5w", "9223372036854775807d", "yesterday", "2026-13-01", "1\u{200b}h", "é"]
    {
        assert_eq!(parse(wrong).unwrap_err().code(), "audit_usage", "{wrong}");
    }
}

#[test]
fn a_line_that_is_no_record_is_named_and_not_shown() {
    let home = written(1);
    let mut lines = home.lines();
    lines.insert(1, "\u{1b}]0;owned\u{7}".to_owned());
    home.put_lines(&lines);
    let text = shown(&home, &Filter::default(), Format::Line);
    assert!(is_plain(&text) && text.contains("audit.jsonl:2: not a record"), "{text}");
    let mut out = Vec::new();
    assert_eq!(audit::export(&home.path, &Filter::default(), Target::Ocsf, &mut out).unwrap(), 1);
    assert_eq!(String::from_utf8(out).unwrap().lines().count(), lines.len() - 1);
}

#[test]
fn ocsf_has_all_that_api_activity_requires() {
    let home = Home::new();
    hostile(&home);
    let log = home.open();
    for (op, effect, activity) in [
        ("kv.read", "read", 2),
        ("kv.write", "write", 3),
        ("kv.generate", "write", 1),
        ("kv.delete", "write", 4),
        ("kv.destroy", "destroy", 4),
        ("db.issue_creds", "issue", 1),
        ("transit.sign", "compute", 99),
    ] {
        log.record(&Event { op, effect, code: Some("vault_forbidden"), ..event(Action::Refused, "x") })
            .unwrap();
        let last: Value = serde_json::from_str(exported(&home, Target::Ocsf).last().unwrap()).unwrap();
        assert_eq!(last["activity_id"], activity, "{op}");
        assert_eq!(last["type_uid"], 600_300 + activity, "{op}");
        assert_eq!(last["status_id"], 2);
        assert_eq!(last["api"]["response"]["error"], "vault_forbidden");
    }
    drop(log);
    for line in exported(&home, Target::Ocsf) {
        let event: Value = serde_json::from_str(&line).unwrap();
        for number in
            ["activity_id", "category_uid", "class_uid", "severity_id", "status_id", "time", "type_uid"]
        {
            assert!(event[number].is_u64(), "{number}: {line}");
        }
        assert_eq!((&event["category_uid"], &event["class_uid"]), (&6.into(), &6003.into()));
        assert!([0, 1, 2, 3, 4, 99].contains(&event["activity_id"].as_u64().unwrap()));
        assert!([0, 1, 2, 3, 4, 5, 6, 99].contains(&event["severity_id"].as_u64().unwrap()));
        assert!(event["time"].as_u64().unwrap() > 1_700_000_000_000, "{line}");
        for text in [
            "/metadata/version",
            "/metadata/product/name",
            "/metadata/product/vendor_name",
            "/actor/user/name",
            "/api/operation",
            "/api/request/uid",
            "/api/service/name",
            "/src_endpoint/name",
        ] {
            assert!(event.pointer(text).is_some_and(Value::is_string), "{text}: {line}");
        }
        assert!(!has_null(&event, "unmapped"), "{line}");
    }
}

/// Whether a member is null, outside of `besides`: an attribute without a value is to be left out.
fn has_null(value: &Value, besides: &str) -> bool {
    match value {
        Value::Null => true,
        Value::Object(map) => map.iter().any(|(name, value)| name != besides && has_null(value, besides)),
        Value::Array(all) => all.iter().any(|value| has_null(value, besides)),
        _ => false,
    }
}

#[test]
fn ecs_uses_the_allowed_values_of_its_categories() {
    let home = Home::new();
    hostile(&home);
    call(&home.open(), "a").unwrap();
    for line in exported(&home, Target::Ecs) {
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["ecs"]["version"], "8.11.0");
        assert!(chrono::DateTime::parse_from_rfc3339(event["@timestamp"].as_str().unwrap()).is_ok());
        assert_eq!(event["event"]["kind"], "event");
        assert_eq!(event["event"]["category"], serde_json::json!(["api"]));
        // What the category `api` expects.
        let types = [
            "access", "admin", "allowed", "change", "creation", "deletion", "denied", "end", "info", "start",
            "user",
        ];
        for kind in event["event"]["type"].as_array().unwrap() {
            assert!(types.contains(&kind.as_str().unwrap()), "{line}");
        }
        assert!(["success", "failure", "unknown"].contains(&event["event"]["outcome"].as_str().unwrap()));
        assert!(event["event"]["sequence"].is_u64());
        assert!(!has_null(&event, "vault_mcp"), "{line}");
    }
}

/// Splits at separators that no backslash stands before, and takes the backslashes away.
fn unescaped(text: &str, separator: char, limit: usize) -> Vec<String> {
    let mut parts = vec![String::new()];
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => match characters.next().unwrap() {
                'n' => parts.last_mut().unwrap().push('\n'),
                'r' => parts.last_mut().unwrap().push('\r'),
                other => {
                    assert!(matches!(other, '\\' | '|' | '='), "{text}");
                    parts.last_mut().unwrap().push(other);
                }
            },
            other if other == separator && parts.len() < limit => parts.push(String::new()),
            other => parts.last_mut().unwrap().push(other),
        }
    }
    parts
}

#[test]
fn cef_escapes_bars_equals_signs_backslashes_and_line_ends() {
    let home = Home::new();
    hostile(&home);
    let log = home.open();
    let target = "a=b|c\\d\ne";
    log.record(&Event { target, op: "kv|read\\", ..event(Action::Request, "a") }).unwrap();
    let lines = exported(&home, Target::Cef);
    for line in &lines {
        // Seven bars end the seven fields of the head.
        let mut bars = 0;
        let mut escaped = false;
        let start = line.chars().position(|character| {
            bars += u32::from(character == '|' && !escaped);
            escaped = character == '\\' && !escaped;
            bars == 7
        });
        let (head, extension) = line.split_at(start.unwrap());
        let head = unescaped(head, '|', 8);
        assert_eq!(head[..3], ["CEF:0", "vault-mcp", "vault-mcp"]);
        assert!((0..=10).contains(&head[6].parse::<u32>().unwrap()));
        // Each unescaped equals sign ends a key of letters and digits.
        let mut rest = &extension[1..];
        let mut count = 0;
        let mut before = '\0';
        for (at, character) in extension[1..].char_indices() {
            if character == '=' && before != '\\' {
                let key = extension[1..][..at].rsplit(' ').next().unwrap();
                assert!(key.bytes().all(|byte| byte.is_ascii_alphanumeric()), "{key:?} in {line}");
                count += 1;
                rest = &extension[1..][at..];
            }
            before = if before == '\\' && character == '\\' { '\0' } else { character };
        }
        assert!(count >= 10 && !rest.is_empty(), "{count}: {line}");
        assert!(extension.contains("cn1Label=seq cn1="), "{line}");
    }
    let last = lines.last().unwrap();
    assert!(last.contains(r"|kv\|read\\:REQUEST|"), "{last}");
    assert!(last.contains(r" cs1Label=target cs1=a\=b|c\\d\ne cs3Label=front "), "{last}");
}

/// A place to write to that another thread reads.
struct Channel(mpsc::Sender<Vec<u8>>);

impl Write for Channel {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send(bytes.to_vec()).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn tail_shows_the_end_and_follows_through_rotation() {
    let home = written(20);
    let (sender, receiver) = mpsc::channel();
    let (stop, stopped) = mpsc::channel::<()>();
    let path = home.path.clone();
    let follower = thread::spawn(move || {
        let filter = Filter { last: Some(3), ..Filter::default() };
        let mut go_on = || !matches!(stopped.try_recv(), Ok(()) | Err(mpsc::TryRecvError::Disconnected));
        audit::tail(&path, &filter, Format::Json, true, &mut Channel(sender), &mut go_on)
    });
    let mut text = Vec::new();
    let lines = |text: &[u8]| -> Vec<u64> {
        let text = std::str::from_utf8(text).unwrap();
        text.lines().map(|line| serde_json::from_str::<Record<'_>>(line).unwrap().seq).collect()
    };
    // Three records of the past, then everything that comes.
    while text.iter().filter(|byte| **byte == b'\n').count() < 3 {
        text.extend(receiver.recv_timeout(Duration::from_secs(60)).unwrap());
    }
    let log = Audit::open(Settings { max_bytes: 6_000, ..home.settings() }).unwrap();
    for number in 0..60 {
        call(&log, &format!("new-{number}")).unwrap();
    }
    drop(log);
    let (last, _) = home.verify().last.unwrap();
    let start = Instant::now();
    while lines(&text).last() != Some(&last) {
        assert!(start.elapsed() < Duration::from_secs(60), "{:?}, not {last}", lines(&text));
        text.extend(receiver.recv_timeout(Duration::from_secs(60)).unwrap());
        while text.last() != Some(&b'\n') {
            text.extend(receiver.recv_timeout(Duration::from_secs(60)).unwrap());
        }
    }
    stop.send(()).unwrap();
    follower.join().unwrap().unwrap();
    // The past ends in the checkpoint of the close, record 42.
    assert_eq!(lines(&text), (40..=last).collect::<Vec<_>>());
    assert!(home.file("audit.000005.jsonl").exists());
}

#[test]
fn tail_says_when_the_log_is_replaced_or_removed() {
    let home = written(2);
    let mut looks = 0;
    let result =
        audit::tail(&home.path, &Filter::default(), Format::Line, true, &mut Vec::new(), &mut || {
            looks += 1;
            if looks == 2 {
                fs::rename(&home.path, home.file("moved")).unwrap();
                fs::copy(home.file("moved"), &home.path).unwrap();
            }
            looks < 20
        });
    assert_eq!(result.unwrap_err().code(), "audit_replaced");
    fs::remove_file(&home.path).unwrap();
    let missing =
        audit::tail(&home.path, &Filter::default(), Format::Line, true, &mut Vec::new(), &mut || true);
    assert_eq!(missing.unwrap_err().code(), "audit_not_found");
}

#[test]
fn a_hash_finds_a_value_without_showing_it() {
    let home = written(1);
    let log = home.open();
    let hash = log.hmac(b"hunter2");
    assert_eq!(hash, audit::hmac_of(&home.path, b"hunter2").unwrap());
    assert!(hash.starts_with("hmac-sha256:") && hash.len() == 12 + 64);
    assert_ne!(hash, log.hmac(b"hunter3"));
    assert_ne!(hash, written(1).open().hmac(b"hunter2"), "each log has its own key");
    assert_eq!(audit::hmac_of(&home.file("none.jsonl"), b"x").unwrap_err().code(), "audit_key_missing");
}

#[test]
fn the_command_reads_the_default_log_or_the_one_it_is_given() {
    let home = written(2);
    let other = written(5);
    let (code, text) = run(&home, &["verify"]).unwrap();
    assert_eq!(code, ExitCode::SUCCESS);
    assert!(text.contains("6 records in 1 files, 1 good checkpoints: no problem found"), "{text}");
    let (_, text) = run(&home, &["verify", "--log", other.path.to_str().unwrap()]).unwrap();
    assert!(text.contains("12 records"), "{text}");
    let (_, text) = run(&home, &["show", "--action", "SUCCESS", "--format", "table"]).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    assert!(text.starts_with("TIME"), "{text}");
    let (_, text) = run(&home, &["tail", "-n", "1"]).unwrap();
    assert!(text.contains("ACTION=CHECKPOINT"), "{text}");
    let (_, text) = run(&home, &["export", "--to", "ocsf", "--since", "1h", "-n", "2"]).unwrap();
    assert_eq!(text.lines().count(), 2, "{text}");
    let mut lines = home.lines();
    lines.remove(2);
    home.put_lines(&lines);
    let (code, text) = run(&home, &["verify"]).unwrap();
    assert_eq!(code, ExitCode::FAILURE);
    assert!(text.starts_with("audit.jsonl:3: seq 4: deleted: record 3 is missing"), "{text}");
}

#[test]
fn what_a_verification_prints_can_be_given_to_the_next() {
    let home = written(2);
    let (_, text) = run(&home, &["verify"]).unwrap();
    let expect = text.split_once("--expect ").unwrap().1.split_whitespace().next().unwrap().to_owned();
    assert_eq!(run(&home, &["verify", "--expect", &expect]).unwrap().0, ExitCode::SUCCESS);
    let mut lines = home.lines();
    lines.pop();
    home.put_lines(&lines);
    assert_eq!(run(&home, &["verify", "--expect", &expect]).unwrap().0, ExitCode::FAILURE);
    for wrong in ["6", "six:00", "6:00"] {
        assert_eq!(run(&home, &["verify", "--expect", wrong]).unwrap_err().code(), "audit_usage", "{wrong}");
    }
}

#[test]
fn a_log_that_is_not_there_is_named() {
    let home = Home::new();
    for arguments in [&["verify"][..], &["show"], &["tail"], &["export", "--to", "cef"]] {
        assert_eq!(run(&home, arguments).unwrap_err().code(), "audit_not_found", "{arguments:?}");
    }
    assert_eq!(home.names(), [""; 0], "reading makes nothing");
}

#[test]
fn the_default_log_lies_in_a_folder_of_its_own() {
    let path = audit::default_path().unwrap();
    assert!(path.is_absolute());
    assert!(path.ends_with(Path::new("audit/audit.jsonl")), "{path:?}");
}

/// `UPDATE=1 cargo test --test audit_log schema` writes the file anew.
#[test]
fn the_committed_schema_is_that_of_the_record() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("audit/schema.json");
    let now = format!("{}\n", serde_json::to_string_pretty(&audit::schema()).unwrap());
    if std::env::var_os("UPDATE").is_some() {
        fs::write(&path, &now).unwrap();
    }
    let committed = fs::read_to_string(&path).unwrap_or_default();
    assert!(committed == now, "run: UPDATE=1 cargo test --test audit_log schema");
}
