//! The audit log's promises, kept by real files and real processes.

use vault_mcp::audit::{Action, Audit, Event, Settings};

fn event<'a>(action: Action, id: &'a str) -> Event<'a> {
    Event {
        action,
        id,
        subject: "alice",
        front: "stdio",
        client: None,
        op: "kv.read",
        effect: "read",
        target: "secret/mcp/alice/app",
        keys: &[],
        outcome: None,
        code: None,
        vault_request_id: None,
        approval: None,
        durable: false,
    }
}

#[test]
fn records_are_numbered_from_the_opening_record_on() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join("log/audit.jsonl");
    let log = Audit::open(Settings::new(&path)).unwrap();
    assert_eq!(log.record(&event(Action::Request, "1")).unwrap().seq, 2);
    assert_eq!(log.record(&event(Action::Success, "1")).unwrap().seq, 3);
}
