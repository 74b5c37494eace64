//! `CONFIRM_REST=true`: a REST call that changes something waits for a person at `vault-mcp approve`.

use serde_json::json;

use super::rig::{Agent, Http, assert_refused};
use crate::common::{PATIENCE, Reply, Server, Terminal, canary, http, vault, wait_until};

pub(crate) fn confirming(agents: &[&Agent]) -> Http {
    Http::start(agents, &[("CONFIRM_REST", "true")])
}

/// An approver that waits for questions.
pub(crate) fn attended(server: &Http) -> Terminal {
    let approve =
        Server::launch().home(server.home()).env("VAULT_ADDR", &server.proxy.address).arg("approve");
    let terminal = Terminal::outside(&approve);
    terminal.wait_for("Attached");
    terminal
}

pub(crate) fn ticket_of(reply: &Reply) -> String {
    assert_eq!(reply.status, 202, "{}", reply.text);
    let ticket = reply.body["ticket"].as_str().unwrap().to_owned();
    assert_eq!(reply.header("x-approval-ticket"), Some(ticket.as_str()));
    assert!(reply.header("retry-after").is_some() && reply.body["expires_in"].is_u64(), "{}", reply.text);
    ticket
}

/// The same request with the ticket of its question.
pub(crate) fn again(
    server: &Http,
    agent: &Agent,
    path: &str,
    body: &serde_json::Value,
    ticket: &str,
) -> Reply {
    let headers = [("X-API-Key", agent.key.as_str()), ("X-Approval-Ticket", ticket)];
    server.bare("PUT", path, &headers, Some(&body.to_string()))
}

/// Asks again until the person has answered.
pub(crate) fn answered(
    server: &Http,
    agent: &Agent,
    path: &str,
    body: &serde_json::Value,
    ticket: &str,
) -> Reply {
    wait_until("the person's answer", PATIENCE, || {
        Some(again(server, agent, path, body, ticket)).filter(|reply| reply.status != 202)
    })
}

#[test]
fn without_a_person_to_ask_nothing_is_written() {
    let agent = Agent::new();
    let server = confirming(&[&agent]);
    let reply = server.put(&agent, "/secrets/app", json!({"data": {"A": canary("w")}}));
    assert_refused(&reply, 503, "nobody_to_ask");
    assert!(server.proxy.writes().is_empty());
    // What changes nothing needs nobody.
    assert_eq!(server.get(&agent, "/secrets?prefix=x").status, 200);
}

#[test]
fn a_yes_at_the_terminal_lets_the_same_request_through_once() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let (agent, other) = (Agent::new(), Agent::new());
    let server = confirming(&[&agent, &other]);
    let mut terminal = attended(&server);
    let body = json!({"data": {"DB_PASSWORD": canary("w")}});
    let ticket = ticket_of(&server.put(&agent, "/secrets/app", body.clone()));
    let screen = terminal.wait_for("to decline:");
    assert!(screen.contains(&format!("CREATE secret/mcp/{}/app", agent.subject)), "{screen}");
    // Before the answer: still waiting, and nobody else's ticket.
    assert_eq!(again(&server, &agent, "/secrets/app", &body, &ticket).status, 202);
    assert_refused(&again(&server, &other, "/secrets/app", &body, &ticket), 403, "ticket_invalid");
    assert!(server.proxy.writes().is_empty());
    terminal.type_line("yes");
    assert_eq!(answered(&server, &agent, "/secrets/app", &body, &ticket).ok()["version"], 1);
    assert_eq!(vault().secret(&agent.subject, "app"), body["data"]);
    assert_refused(&again(&server, &agent, "/secrets/app", &body, &ticket), 403, "ticket_invalid");
    assert_eq!(vault().version(&agent.subject, "app"), 1);
    let actions: Vec<_> = server.records().into_iter().filter(|record| record["op"] == "kv.write").collect();
    let actions: Vec<_> = actions.iter().map(|record| record["action"].as_str().unwrap()).collect();
    for action in ["CONFIRMATION_REQUIRED", "CONFIRMED", "REQUEST", "SUCCESS"] {
        assert_eq!(actions.iter().filter(|known| **known == action).count(), 1, "{actions:?}");
    }
}

#[test]
fn a_yes_holds_for_what_was_shown_and_for_nothing_else() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let agent = Agent::new();
    let server = confirming(&[&agent]);
    let mut terminal = attended(&server);
    let body = json!({"data": {"A": canary("w")}});
    let ticket = ticket_of(&server.put(&agent, "/secrets/app", body.clone()));
    terminal.wait_for("to decline:");
    terminal.type_line("yes");
    terminal.wait_for("Allowed");
    let other = json!({"data": {"A": canary("w")}});
    let reply = answered(&server, &agent, "/secrets/app", &other, &ticket);
    assert_refused(&reply, 403, "ticket_invalid");
    assert_eq!(vault().version(&agent.subject, "app"), 0);
}

#[test]
fn a_no_is_final_and_of_ten_replays_of_a_yes_one_writes() {
    if !Terminal::can_stand_outside() {
        return;
    }
    let agent = Agent::new();
    let server = confirming(&[&agent]);
    let mut terminal = attended(&server);
    let body = json!({"data": {"A": canary("w")}});
    let ticket = ticket_of(&server.put(&agent, "/secrets/app", body.clone()));
    terminal.wait_for("to decline:");
    terminal.type_line("no");
    assert_refused(&answered(&server, &agent, "/secrets/app", &body, &ticket), 403, "declined");
    assert_refused(&server.put(&agent, "/secrets/app", body), 403, "declined");

    let body = json!({"data": {"B": canary("w")}});
    let ticket = ticket_of(&server.put(&agent, "/secrets/app", body.clone()));
    wait_until("the second question", PATIENCE, || {
        (terminal.screen().matches("to decline:").count() >= 2).then_some(())
    });
    terminal.type_line("yes");
    terminal.wait_for("Allowed");
    let replays = std::thread::scope(|scope| {
        let replay = || {
            scope.spawn(|| {
                let headers = [("X-API-Key", agent.key.as_str()), ("X-Approval-Ticket", ticket.as_str())];
                let url = format!("{}/secrets/app", server.url);
                wait_until("an answer", PATIENCE, || {
                    Some(http::http("PUT", &url, &headers, Some(&body.to_string())).status)
                        .filter(|status| *status != 202)
                })
            })
        };
        let all: Vec<_> = (0..10).map(|_| replay()).collect();
        all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
    });
    assert_eq!(replays.iter().filter(|status| **status == 200).count(), 1, "{replays:?}");
    assert_eq!(replays.iter().filter(|status| **status == 403).count(), 9, "{replays:?}");
    assert_eq!(vault().version(&agent.subject, "app"), 1);
}
