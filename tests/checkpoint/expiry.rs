//! A question lives for 120 seconds. Nothing can make it live longer, so neither can a test make it shorter:
//! everything about its end is in one test, which waits for it once.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::{
    common::{Answer, Era, Terminal, ToolResult, assert_refused, canary},
    scene::{Scene, assert_recorded, assert_stopped, call_records, write},
};

const LIFETIME: Duration = Duration::from_secs(120);

#[test]
fn a_question_that_nobody_answers_ends_after_two_minutes() {
    let start = Instant::now();
    // A dialog that is never answered.
    let silent = Scene::new();
    let legacy = silent.client(Era::usual());
    legacy.always(Answer::Never);
    let hanging = legacy.start_call("kv_write", write());
    legacy.wait_until_asked(1);
    // A state that comes back late.
    let late = Scene::new();
    let stateless = late.client(Era::stateless());
    let call = json!({"name": "kv_write", "arguments": write()});
    let asked = stateless.request("tools/call", call.clone()).unwrap();
    assert_eq!(asked["resultType"], "input_required");
    // A no, which is remembered as long.
    let refused = Scene::new();
    let decliner = refused.client(Era::usual());
    decliner.always(Answer::Decline);
    let declined = write();
    assert_refused(&decliner.call("kv_write", declined.clone()), "declined");
    // A question on a terminal that nobody watches.
    let unwatched = Scene::new();
    let served = unwatched.client(Era::mute());
    let mut terminal = Terminal::can_stand_outside().then(|| {
        let launch = unwatched.launch().home(served.server().home()).without("VAULT_TOKEN").arg("approve");
        Terminal::outside(&launch)
    });
    let waiting = terminal.as_ref().map(|terminal| {
        terminal.wait_for("Attached");
        let call = served.start_call("kv_write", write());
        terminal.wait_for("Type yes");
        call
    });

    // Not before its time: shortly before the end all of them are still open.
    std::thread::sleep(LIFETIME.saturating_sub(start.elapsed()).saturating_sub(Duration::from_secs(8)));
    assert!(hanging.poll(Duration::ZERO).is_none());
    assert_refused(&decliner.call("kv_write", declined.clone()), "declined");

    let result = ToolResult(hanging.wait().unwrap());
    assert!(start.elapsed() >= LIFETIME, "{:?}", start.elapsed());
    assert_stopped(&silent, &result, "approval_timed_out");
    assert!(result.text().contains("nobody may have been asked"), "{}", result.text());
    // The dialog does not stay on the screen.
    let withdrawn = legacy.wait_for_notification("notifications/cancelled");
    let said = String::from_utf8(legacy.server().stdout()).unwrap();
    let question = said.lines().find(|line| line.contains("elicitation/create")).unwrap();
    assert_eq!(withdrawn["params"]["requestId"], serde_json::from_str::<Value>(question).unwrap()["id"]);
    assert_recorded(&legacy, &["CONFIRMATION_REQUIRED", "ABORTED"], "approval_timed_out");

    if let (Some(terminal), Some(waiting)) = (&mut terminal, waiting) {
        terminal.wait_for("no longer open");
        let result = ToolResult(waiting.wait().unwrap());
        assert_stopped(&unwatched, &result, "approval_timed_out");
        terminal.type_line("yes");
        served.request("ping", json!({})).unwrap();
        assert_recorded(&served, &["CONFIRMATION_REQUIRED", "ABORTED"], "approval_timed_out");
        assert_eq!(call_records(&served)[1]["approval"]["channel"], "approver");
    }

    std::thread::sleep((LIFETIME + Duration::from_secs(2)).saturating_sub(start.elapsed()));
    stateless.always(Answer::yes());
    let again = stateless.repeat(&call, &asked).unwrap();
    let result = ToolResult(stateless.request("tools/call", again).unwrap());
    assert_stopped(&late, &result, "ticket_invalid");
    // What nobody came back to is closed in the log as soon as the next question opens.
    let next = json!({"path": "app", "data": {"A": canary("n")}});
    assert_eq!(stateless.call_once("kv_write", next).unwrap()["resultType"], "input_required");
    let ended: Vec<_> = call_records(&stateless)
        .into_iter()
        .filter(|record| record["action"] == "ABORTED")
        .map(|record| (record["id"].clone(), record["code"].clone()))
        .collect();
    assert_eq!(ended, [(call_records(&stateless)[0]["id"].clone(), json!("approval_timed_out"))]);

    // The no is forgotten: the same call is asked about again.
    decliner.always(Answer::yes());
    assert_eq!(decliner.call("kv_write", declined).ok()["version"], 1);
}
