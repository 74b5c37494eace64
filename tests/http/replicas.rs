//! Servers that share a Vault, `REQUEST_STATE_KEY` and nothing else: what one asked, any of them finishes, and of all
//! of them one.

use std::time::Duration;

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::{
    child_tokens::{self, policy},
    rig::{Agent, Http, keys_of},
    wire::Client,
};
use crate::common::{
    Answer, Era, Fault, On, PATIENCE, Proxy, Server, ToolResult, Vault, assert_no_canary, assert_refused,
    assert_untouched, canary, proxy::Sent, unique, vault, wait_until,
};

const KEY: (&str, &str) = ("REQUEST_STATE_KEY", "a-key-of-these-tests-and-of-nobody-else");

/// One of several servers for the same agents. Each has a token of its own at Vault, to make the agents' of; all reach
/// it through the first one's proxy, for their settings are the same.
fn beside(first: &Http, agents: &[&Agent], settings: &[(&str, &str)]) -> Http {
    let parent = vault().token(&policy("http-server"), "10m");
    let mut launch = Server::launch()
        .env("VAULT_ADDR", &first.proxy.address)
        .env("VAULT_TOKEN", parent)
        .env("CHILD_TOKEN_ENABLED", "true")
        .env("RATE_LIMIT_ENABLED", "false")
        .env("API_KEYS_JSON", keys_of(agents));
    for (name, value) in settings {
        launch = launch.env(name, value);
    }
    Http::of(launch, Proxy::new(vault()))
}

fn pair(agents: &[&Agent]) -> (Http, Http) {
    let first = child_tokens::start(agents, &[KEY]);
    let second = beside(&first, agents, &[KEY]);
    (first, second)
}

fn at(http: &Http, agent: &Agent) -> Client {
    Client::begin(http, agent, Era::stateless())
}

fn write() -> Value {
    json!({"name": "kv_write", "arguments": {"path": "app", "data": {"DB_PASSWORD": canary("w")}}})
}

/// Asks, and gives the question with its state.
#[track_caller]
fn ask(http: &Http, agent: &Agent, call: &Value) -> Value {
    let result = at(http, agent).request("tools/call", call.clone()).unwrap();
    assert_eq!(result["resultType"], "input_required", "{result}");
    result
}

/// The call again, with an answer to that question.
fn with_answer(call: &Value, asked: &Value, answer: Value) -> Value {
    let mut params = call.clone();
    params["requestState"] = asked["requestState"].clone();
    params["inputResponses"] = json!({"approval": answer});
    params
}

fn yes(call: &Value, asked: &Value) -> Value {
    with_answer(call, asked, json!({"action": "accept", "content": {"answer": "yes"}}))
}

#[track_caller]
fn tell(http: &Http, agent: &Agent, params: &Value) -> ToolResult {
    ToolResult(at(http, agent).request("tools/call", params.clone()).unwrap())
}

/// What the log of a server says of writes, in order.
fn actions(http: &Http) -> Vec<String> {
    let records = http.records();
    let of_writes = records.iter().filter(|record| record["op"] == "kv.write");
    of_writes.map(|record| record["action"].as_str().unwrap().to_owned()).collect()
}

fn version(agent: &Agent) -> u64 {
    vault().version(&agent.subject, "app")
}

fn sent_to(http: &Http, path: &str) -> Vec<Sent> {
    http.proxy
        .requests()
        .into_iter()
        .filter(|sent| sent.target == format!("/v1/sys/wrapping/{path}"))
        .collect()
}

#[test]
fn what_one_server_asked_another_finishes_and_each_log_has_its_part_of_it() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    let call = write();
    let asked = ask(&first, &agent, &call);
    assert_eq!(tell(&second, &agent, &yes(&call, &asked)).ok()["version"], 1);
    assert_eq!(vault().secret(&agent.subject, "app"), call["arguments"]["data"]);
    assert_eq!(actions(&first), ["CONFIRMATION_REQUIRED"]);
    assert_eq!(actions(&second), ["CONFIRMED", "REQUEST", "SUCCESS"]);
    // One call and one ticket, in both.
    let (here, there) = (first.records(), second.records());
    let asked_of = here.iter().find(|record| record["action"] == "CONFIRMATION_REQUIRED").unwrap();
    for record in there.iter().filter(|record| record["op"] == "kv.write") {
        for part in ["id", "subject", "target", "keys"] {
            assert_eq!(record[part], asked_of[part], "{record}");
        }
        assert_eq!(record["approval"]["ticket"], asked_of["approval"]["ticket"], "{record}");
        assert_eq!(record["approval"]["channel"], "client", "{record}");
    }
    // And never again, wherever it is tried.
    for server in [&second, &first, &second] {
        assert_refused(&tell(server, &agent, &yes(&call, &asked)), "ticket_invalid");
    }
    assert_eq!(version(&agent), 1);
    assert_eq!(actions(&first), ["CONFIRMATION_REQUIRED", "ANSWERED_ELSEWHERE"]);
    for server in [&first, &second] {
        assert!(!server.records().iter().any(|record| record["action"] == "ABORTED"));
    }
}

#[test]
fn the_server_that_asked_finishes_its_own_and_says_nothing_of_others() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    let call = write();
    let asked = ask(&first, &agent, &call);
    assert_eq!(tell(&first, &agent, &yes(&call, &asked)).ok()["version"], 1);
    assert_refused(&tell(&second, &agent, &yes(&call, &asked)), "ticket_invalid");
    assert_eq!(actions(&first), ["CONFIRMATION_REQUIRED", "CONFIRMED", "REQUEST", "SUCCESS"]);
    assert!(actions(&second).is_empty());
    assert_eq!(version(&agent), 1);
}

#[test]
fn of_ten_answers_at_once_over_both_servers_one_writes() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    let call = write();
    let asked = ask(&first, &agent, &call);
    let answer = yes(&call, &asked);
    let clients = [at(&first, &agent), at(&second, &agent)];
    let results: Vec<_> = std::thread::scope(|scope| {
        let all: Vec<_> = (0..10)
            .map(|number| {
                let (client, answer) = (&clients[number % 2], &answer);
                scope.spawn(move || ToolResult(client.request("tools/call", answer.clone()).unwrap()))
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert_eq!(results.iter().filter(|result| !result.is_error()).count(), 1, "{results:?}");
    for refused in results.iter().filter(|result| result.is_error()) {
        assert_refused(refused, "ticket_invalid");
    }
    assert_eq!(version(&agent), 1);
    assert_eq!(first.proxy.writes().len(), 1);
    let both = [actions(&first), actions(&second)].concat();
    for (action, count) in [("CONFIRMED", 1), ("REQUEST", 1), ("SUCCESS", 1), ("ABORTED", 0)] {
        assert_eq!(both.iter().filter(|known| *known == action).count(), count, "{both:?}");
    }
    // The one that asked says that it was elsewhere if, and only if, it was.
    let elsewhere = actions(&first).contains(&"ANSWERED_ELSEWHERE".to_owned());
    assert!(!elsewhere || actions(&second).contains(&"CONFIRMED".to_owned()), "{both:?}");
}

#[test]
fn what_is_no_yes_ends_the_question_for_every_server() {
    let nothing = json!({"action": "accept", "content": {}});
    let answers = [
        (json!({"action": "decline"}), "declined"),
        (json!({"action": "cancel"}), "cancelled"),
        (nothing, "not_confirmed"),
        (json!("nonsense"), "not_confirmed"),
    ];
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    for (answer, code) in answers {
        let call = write();
        let asked = ask(&first, &agent, &call);
        assert_refused(&tell(&second, &agent, &with_answer(&call, &asked, answer)), code);
        for server in [&first, &second] {
            assert_refused(&tell(server, &agent, &yes(&call, &asked)), "ticket_invalid");
        }
        let last = second.records().into_iter().rfind(|record| record["action"] == "ABORTED").unwrap();
        assert_eq!((&last["code"], &last["op"]), (&json!(code), &json!("kv.write")), "{last}");
    }
    assert_eq!(version(&agent), 0);
    assert!(first.proxy.writes().is_empty());
}

#[test]
fn other_arguments_or_another_tool_get_nothing_and_arguments_use_it_up() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    let call = write();
    let asked = ask(&first, &agent, &call);
    let mut tool = yes(&call, &asked);
    tool["name"] = json!("kv_patch");
    assert_refused(&assert_untouched(&first.proxy, || tell(&second, &agent, &tool)), "ticket_invalid");
    let mut other = yes(&call, &asked);
    other["arguments"]["path"] = json!("other");
    assert_refused(&tell(&second, &agent, &other), "ticket_invalid");
    for server in [&first, &second] {
        assert_refused(&tell(server, &agent, &yes(&call, &asked)), "ticket_invalid");
    }
    assert!(first.proxy.writes().is_empty());
    // The record is of the question, not of what came in its place.
    let ended = second.records().into_iter().find(|record| record["action"] == "ABORTED").unwrap();
    assert_eq!(ended["target"], format!("secret/mcp/{}/app", agent.subject), "{ended}");
}

#[test]
fn a_stolen_state_is_of_no_use_to_another_subject_and_stays_good_for_its_own() {
    let (alice, bob) = (Agent::new(), Agent::new());
    let (first, second) = pair(&[&alice, &bob]);
    let call = write();
    let asked = ask(&first, &alice, &call);
    for server in [&first, &second] {
        let refused = assert_untouched(&first.proxy, || tell(server, &bob, &yes(&call, &asked)));
        assert_refused(&refused, "ticket_invalid");
    }
    assert_eq!(tell(&second, &alice, &yes(&call, &asked)).ok()["version"], 1);
    assert_eq!(vault().version(&bob.subject, "app"), 0);
}

#[test]
fn any_change_to_a_state_is_refused_before_vault_hears_of_it() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    let call = write();
    let asked = ask(&first, &agent, &call);
    let state = asked["requestState"].as_str().unwrap().to_owned();
    let client = at(&second, &agent);
    assert_untouched(&first.proxy, || {
        for at in (0..state.len()).step_by(7) {
            let mut forged = state.clone().into_bytes();
            forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
            let mut answer = yes(&call, &asked);
            answer["requestState"] = json!(String::from_utf8(forged).unwrap());
            let result = ToolResult(client.request("tools/call", answer).unwrap());
            assert_refused(&result, "ticket_invalid");
        }
    });
    assert_eq!(tell(&second, &agent, &yes(&call, &asked)).ok()["version"], 1);
}

#[test]
fn a_server_with_another_key_or_with_none_takes_no_answer() {
    let agent = Agent::new();
    let first = child_tokens::start(&[&agent], &[KEY]);
    let keyless = beside(&first, &[&agent], &[]);
    let stranger = beside(&first, &[&agent], &[("REQUEST_STATE_KEY", "another-key-than-that-of-the-others")]);
    let strict = beside(&first, &[&agent], &[KEY, ("APPROVAL", "approver")]);
    let call = write();
    let asked = ask(&first, &agent, &call);
    for server in [&keyless, &stranger, &strict] {
        let refused = assert_untouched(&first.proxy, || tell(server, &agent, &yes(&call, &asked)));
        assert_refused(&refused, "ticket_invalid");
    }
    // Nor do those with a key take what one without asked.
    let own = ask(&keyless, &agent, &call);
    assert_refused(&tell(&first, &agent, &yes(&call, &own)), "ticket_invalid");
    assert_eq!(sent_to(&first, "wrap").len(), 1, "a server without the key shares nothing");
    assert_eq!(tell(&first, &agent, &yes(&call, &asked)).ok()["version"], 1);
}

#[test]
fn a_state_of_mcp_over_http_is_none_on_standard_input_or_in_one_message() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    let call = write();
    let asked = ask(&first, &agent, &call);
    let stdio = Server::of(vault(), &agent.subject).env("VAULT_ADDR", &first.proxy.address).env(KEY.0, KEY.1);
    let stdio = stdio.spawn().connect(Era::stateless());
    let refused = ToolResult(stdio.request("tools/call", yes(&call, &asked)).unwrap());
    assert_refused(&refused, "ticket_invalid");
    let rpc = json!({"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": yes(&call, &asked)});
    let rpc = second.post(&agent, "/mcp/rpc", rpc).ok();
    assert_refused(&ToolResult(rpc["result"].clone()), "ticket_invalid");
    // On standard input nothing is shared, key or not.
    assert_eq!(
        stdio.call_once("kv_write", call["arguments"].clone()).unwrap()["resultType"],
        "input_required"
    );
    assert_eq!(sent_to(&first, "wrap").len(), 1);
    assert_eq!(tell(&second, &agent, &yes(&call, &asked)).ok()["version"], 1);
}

#[test]
fn the_key_alone_makes_no_yes_without_the_vault_that_was_asked() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    // The same key and subject before another Vault: whoever stole the key has no other.
    let theirs = Vault::own();
    let proxy = Proxy::before(&theirs.address);
    let launch = Server::launch()
        .env("VAULT_ADDR", &proxy.address)
        .env("VAULT_TOKEN", &theirs.root)
        .env("API_KEYS_JSON", keys_of(&[&agent]))
        .env(KEY.0, KEY.1);
    let forger = Http::of(launch, proxy);
    let call = write();
    let asked = ask(&forger, &agent, &call);
    for server in [&first, &second] {
        assert_refused(&tell(server, &agent, &yes(&call, &asked)), "ticket_invalid");
    }
    assert_eq!(sent_to(&first, "unwrap").len(), 2, "it was Vault that refused");
    assert!(first.proxy.writes().is_empty());
}

#[test]
fn a_server_that_is_gone_leaves_its_questions_to_the_others() {
    for orderly in [false, true] {
        let agent = Agent::new();
        let (mut first, second) = pair(&[&agent]);
        let call = write();
        let asked = ask(&first, &agent, &call);
        if orderly {
            first.server().signal(rustix::process::Signal::TERM);
            first.server_mut().wait();
        } else {
            first.server_mut().kill();
        }
        assert_eq!(tell(&second, &agent, &yes(&call, &asked)).ok()["version"], 1, "{orderly}");
        assert_eq!(actions(&first), ["CONFIRMATION_REQUIRED"], "{orderly}");
    }
}

#[test]
fn what_changed_since_it_was_shown_is_asked_about_again_by_the_other_server() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    let call = write();
    let asked = ask(&first, &agent, &call);
    vault().write_secret(&agent.subject, "app", json!({"THEIRS": "x"}));
    let again = at(&second, &agent).request("tools/call", yes(&call, &asked)).unwrap();
    let text = again["inputRequests"]["approval"]["params"]["message"].as_str().unwrap();
    assert!(text.starts_with("REPLACE secret/") && text.contains("It changed since"), "{text}");
    assert!(first.proxy.writes().is_empty());
    // Which the first may finish.
    assert_eq!(tell(&first, &agent, &yes(&call, &again)).ok()["version"], 2);
}

#[test]
fn whatever_a_client_is_asked_may_be_finished_elsewhere() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    let value = unique("value");
    vault().write_secret(&agent.subject, "app", json!({"A": value}));
    let call = |tool: &str, arguments: Value| json!({"name": tool, "arguments": arguments});
    let reveal = call("kv_read", json!({"path": "app", "reveal": true}));
    let asked = ask(&first, &agent, &reveal);
    assert_eq!(tell(&second, &agent, &yes(&reveal, &asked)).ok()["data"]["A"], value);
    let generate = call("kv_generate", json!({"path": "app", "key": "B"}));
    let asked = ask(&first, &agent, &generate);
    tell(&second, &agent, &yes(&generate, &asked)).ok();
    assert_eq!(version(&agent), 2);
    let delete = call("kv_delete", json!({"path": "app"}));
    let asked = ask(&second, &agent, &delete);
    tell(&first, &agent, &yes(&delete, &asked)).ok();
    assert_eq!(vault().secret(&agent.subject, "app"), Value::Null);
}

#[test]
fn a_yes_to_one_tree_is_none_to_that_of_a_server_with_other_settings() {
    let agent = Agent::new();
    let settings = [KEY, ("CHILD_TOKEN_ENABLED", "false"), ("VAULT_TOKEN", &vault().root)];
    let first = Http::start(&[&agent], &settings);
    let elsewhere = [&settings[..], &[("DEFAULT_PREFIX", "elsewhere")]].concat();
    let second = beside(&first, &[&agent], &elsewhere);
    let call = write();
    let asked = ask(&first, &agent, &call);
    let again = at(&second, &agent).request("tools/call", yes(&call, &asked)).unwrap();
    let text = again["inputRequests"]["approval"]["params"]["message"].as_str().unwrap().to_owned();
    assert!(text.starts_with(&format!("CREATE secret/elsewhere/{}/app", agent.subject)), "{again}");
    assert!(text.contains("It changed since"), "{text}");
    assert!(first.proxy.writes().is_empty());
}

#[test]
fn what_vault_keeps_for_the_one_answer_is_made_with_the_agents_own_token_and_shown_to_nobody() {
    let agent = Agent::new();
    let loud = [KEY, ("LOG_LEVEL", "debug")];
    let first = child_tokens::start(&[&agent], &loud);
    let second = beside(&first, &[&agent], &loud);
    let call = write();
    let asked = ask(&first, &agent, &call);
    let answered = tell(&second, &agent, &yes(&call, &asked));
    assert_eq!(answered.ok()["version"], 1);
    let (wraps, unwraps) = (sent_to(&first, "wrap"), sent_to(&first, "unwrap"));
    assert_eq!((wraps.len(), unwraps.len()), (1, 1));
    let token = |sent: &Sent| sent.header("X-Vault-Token").unwrap().to_owned();
    // Whose the first is, Vault says; the second proves itself.
    let info = vault().put("auth/token/lookup", json!({"token": token(&wraps[0])})).ok()["data"].clone();
    assert_eq!(info["meta"], json!({"subject": agent.subject}));
    assert_eq!(wraps[0].header("X-Vault-Wrap-TTL"), Some("200"));
    let ticket = first.records()[1]["approval"]["ticket"].clone();
    assert_eq!(wraps[0].json(), json!({"marks": ticket}));
    let mark = token(&unwraps[0]);
    assert!(mark.len() > 20 && mark != token(&wraps[0]), "{mark}");
    // All else that was sent for the agent carries a token of the agent's own.
    for sent in first.proxy.data_requests() {
        let info = vault().put("auth/token/lookup", json!({"token": token(&sent)})).ok()["data"].clone();
        assert_eq!(info["meta"], json!({"subject": agent.subject}), "{}", sent.line());
    }
    let state = asked["requestState"].as_str().unwrap();
    let inside: Vec<u8> =
        state.split('.').filter_map(|part| URL_SAFE_NO_PAD.decode(part).ok()).flatten().collect();
    let inside = String::from_utf8_lossy(&inside).into_owned();
    assert!(inside.contains(ticket.as_str().unwrap()), "the state is read wrongly: {state}");
    let mut places = vec![state.to_owned(), inside, asked.to_string(), answered.0.to_string()];
    for server in [&first, &second] {
        places.push(server.server().stderr());
        places.push(std::fs::read_to_string(server.home().audit_log()).unwrap());
    }
    for place in places {
        assert!(!place.contains(&mark), "the wrapping token stands in {place:.200}");
        assert_no_canary(&place, "what was said");
    }
}

#[test]
fn where_a_policy_forbids_to_wrap_nothing_is_asked_and_the_line_is_named() {
    let agent = Agent::new();
    let first = child_tokens::start(&[&agent], &[KEY]);
    let text = policy("http-agent").replace("alice", &agent.subject);
    let text = format!("{text}\npath \"sys/wrapping/wrap\" {{ capabilities = [\"deny\"] }}\n");
    vault().put(&format!("sys/policies/acl/mcp-agent-{}", agent.subject), json!({"policy": text})).ok();
    let refused = tell(&first, &agent, &write());
    assert_refused(&refused, "forbidden");
    let line = "path \"sys/wrapping/wrap\" { capabilities = [\"update\"] }";
    assert!(refused.text().contains(line), "{}", refused.text());
    assert_eq!(actions(&first), ["CONFIRMATION_REQUIRED", "ABORTED"]);
    // It does not count as one that waits.
    for _ in 0..4 {
        assert_refused(&tell(&first, &agent, &write()), "forbidden");
    }
}

#[test]
fn while_vault_cannot_be_reached_nothing_is_taken_and_the_question_stays_good() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    let call = write();
    let asked = ask(&first, &agent, &call);
    let answer = yes(&call, &asked);
    for (fault, code) in [
        (Fault::ResetBefore, "vault_unreachable"),
        (Fault::Status(503), "vault_unreachable"),
        (Fault::Status(429), "vault_rate_limited"),
        (Fault::Page(403), "vault_answer"),
        (Fault::NotJson, "vault_answer"),
        (Fault::Body("{}".to_owned()), "ticket_invalid"),
    ] {
        // The last stands for a Vault that does not say what it unwrapped: its word counts for nothing.
        let server = if code == "ticket_invalid" { &first } else { &second };
        first.proxy.fail(On::target("sys/wrapping/unwrap").times(1), fault.clone());
        assert_refused(&tell(server, &agent, &answer), code);
        first.proxy.heal();
        assert!(first.proxy.writes().is_empty(), "{fault:?}");
    }
    assert_eq!(tell(&second, &agent, &answer).ok()["version"], 1);
}

#[test]
fn an_answer_that_vault_took_without_saying_so_is_used_up_and_writes_nothing() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    let call = write();
    let asked = ask(&first, &agent, &call);
    first.proxy.fail(On::target("sys/wrapping/unwrap").times(1), Fault::ResetAfter);
    assert_refused(&tell(&second, &agent, &yes(&call, &asked)), "vault_unreachable");
    for server in [&second, &first] {
        assert_refused(&tell(server, &agent, &yes(&call, &asked)), "ticket_invalid");
    }
    assert!(first.proxy.writes().is_empty());
}

#[test]
fn a_question_that_cannot_be_carried_is_not_asked() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    for fault in [Fault::ResetBefore, Fault::ResetAfter] {
        first.proxy.fail(On::target("sys/wrapping/wrap").times(1), fault);
        assert_refused(&tell(&first, &agent, &write()), "vault_unreachable");
    }
    first.proxy.heal();
    let call = write();
    let asked = ask(&first, &agent, &call);
    assert_eq!(tell(&second, &agent, &yes(&call, &asked)).ok()["version"], 1);
}

#[test]
fn an_answer_sent_again_and_again_reaches_vault_once_at_each_server() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    let call = write();
    let asked = ask(&first, &agent, &call);
    tell(&second, &agent, &yes(&call, &asked)).ok();
    for _ in 0..5 {
        for server in [&first, &second] {
            assert_refused(&tell(server, &agent, &yes(&call, &asked)), "ticket_invalid");
        }
    }
    assert_eq!(sent_to(&first, "unwrap").len(), 2);
}

#[test]
fn three_questions_wait_at_each_server_and_those_answered_elsewhere_no_longer_do() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    let call = |number: usize| json!({"name": "kv_write", "arguments": {"path": format!("p{number}"), "data": {"A": "b"}}});
    let asked: Vec<_> = (0..3).map(|number| ask(&first, &agent, &call(number))).collect();
    assert_refused(&tell(&first, &agent, &call(3)), "too_many_pending");
    // Whoever stands before the other one has three more.
    ask(&second, &agent, &call(4));
    for (number, asked) in asked.iter().enumerate().skip(1) {
        tell(&second, &agent, &yes(&call(number), asked)).ok();
    }
    ask(&first, &agent, &call(5));
    ask(&first, &agent, &call(6));
    assert_refused(&tell(&first, &agent, &call(7)), "too_many_pending");
    let elsewhere = first.records().into_iter().filter(|record| record["action"] == "ANSWERED_ELSEWHERE");
    let elsewhere: Vec<_> = elsewhere.map(|record| record["target"].clone()).collect();
    assert_eq!(elsewhere.len(), 2, "{elsewhere:?}");
    // A look does not use up what it looks at.
    assert_eq!(tell(&second, &agent, &yes(&call(0), &asked[0])).ok()["version"], 1);
}

#[test]
fn a_question_of_a_session_stays_with_its_server() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    let client = Client::begin(&first, &agent, Era::usual());
    client.always(Answer::yes());
    client.call("kv_write", write()["arguments"].clone()).ok();
    assert!(sent_to(&first, "wrap").is_empty(), "a session's question was shared");
    let lost = client.at(&second);
    assert_eq!(lost.post(&lost.message("tools/call", write())).status, 404);
}

/// Nothing makes a question end sooner: everything about its end is in one test, which waits for it once.
#[test]
fn the_server_that_asked_records_an_end_that_was_one_and_no_other() {
    let agent = Agent::new();
    let (first, second) = pair(&[&agent]);
    let call = |path: &str| json!({"name": "kv_write", "arguments": {"path": path, "data": {"A": "b"}}});
    let (answered, left, own) =
        (ask(&first, &agent, &call("a")), ask(&first, &agent, &call("b")), ask(&first, &agent, &call("c")));
    tell(&second, &agent, &yes(&call("a"), &answered)).ok();
    tell(&first, &agent, &yes(&call("c"), &own)).ok();
    let ended = |target: &str| {
        let of = |record: &Value| record["target"].as_str().is_some_and(|name| name.ends_with(target));
        let last = first.records().into_iter().rfind(of).unwrap();
        (last["action"].as_str().unwrap().to_owned(), last["code"].clone())
    };
    std::thread::sleep(Duration::from_secs(110));
    assert_eq!(ended("/b").0, "CONFIRMATION_REQUIRED");
    wait_until("the end of a question", PATIENCE, || (ended("/b").0 == "ABORTED").then_some(()));
    assert_eq!(ended("/b").1, "approval_timed_out");
    wait_until("word of the other", PATIENCE, || (ended("/a").0 == "ANSWERED_ELSEWHERE").then_some(()));
    assert_eq!((ended("/a").1, ended("/c").0), (Value::Null, "SUCCESS".to_owned()));
    for server in [&first, &second] {
        assert_refused(&tell(server, &agent, &yes(&call("b"), &left)), "ticket_invalid");
    }
    assert_eq!(vault().version(&agent.subject, "b"), 0);
}
