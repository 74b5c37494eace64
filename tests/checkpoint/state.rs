//! The confirmation itself: it holds for one call, in one process, once, and for the state that was shown.

use serde_json::{Value, json};

use crate::{
    common::{Answer, Era, Fault, Gate, McpClient, On, ToolResult, assert_refused, canary, vault},
    scene::{Scene, assert_recorded, assert_stopped, call_records, eras, write},
};

fn params(arguments: Value) -> Value {
    json!({"name": "kv_write", "arguments": arguments})
}

/// The call again, with a yes under this state.
fn yes_to(params: &Value, state: impl Into<Value>) -> Value {
    let mut params = params.clone();
    params["requestState"] = state.into();
    params["inputResponses"] = json!({"approval": {"action": "accept", "content": {"answer": "yes"}}});
    params
}

fn tool(client: &McpClient, params: Value) -> ToolResult {
    ToolResult(client.request("tools/call", params).unwrap())
}

/// A client that was asked, and the state it was given.
fn asked(scene: &Scene, call: &Value) -> (McpClient, String) {
    let client = scene.launch().env("RATE_LIMIT_ENABLED", "false").spawn().connect(Era::stateless());
    let state = ask(&client, call);
    (client, state)
}

fn ask(client: &McpClient, call: &Value) -> String {
    let result = client.request("tools/call", call.clone()).unwrap();
    assert_eq!(result["resultType"], "input_required", "{result}");
    assert_eq!(result["inputRequests"]["approval"]["method"], "elicitation/create", "{result}");
    result["requestState"].as_str().unwrap().to_owned()
}

#[test]
fn a_state_with_any_character_changed_does_not_hold() {
    let scene = Scene::new();
    let call = params(write());
    let (client, state) = asked(&scene, &call);
    assert!(state.is_ascii() && state.len() > 64, "{state}");
    for at in 0..state.len() {
        let mut forged = state.clone().into_bytes();
        forged[at] = if forged[at] == b'A' { b'B' } else { b'A' };
        let result = tool(&client, yes_to(&call, String::from_utf8(forged).unwrap()));
        assert_stopped(&scene, &result, "ticket_invalid");
        assert_recorded(&client, &["VALIDATION_FAILED"], "ticket_invalid");
    }
    // The last character of an encoding may carry bits that no byte uses.
    for last in b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_+/=" {
        let mut forged = state.clone().into_bytes();
        if forged.last() == Some(last) {
            continue;
        }
        *forged.last_mut().unwrap() = *last;
        let result = tool(&client, yes_to(&call, String::from_utf8(forged).unwrap()));
        assert_stopped(&scene, &result, "ticket_invalid");
    }
    // None of this used the real one up.
    assert_eq!(tool(&client, yes_to(&call, state)).ok()["version"], 1);
}

#[test]
fn a_state_that_was_never_given_does_not_hold() {
    let scene = Scene::new();
    let call = params(write());
    let (client, state) = asked(&scene, &call);
    let ticket = call_records(&client)[0]["approval"]["ticket"].as_str().unwrap().to_owned();
    let forged = [
        String::new(),
        "yes".to_owned(),
        ticket.clone(),
        hex::encode(&ticket),
        state[..state.len() / 2].to_owned(),
        state[..state.len() - 1].to_owned(),
        format!("{state}A"),
        format!("{state}{state}"),
        format!(" {state}"),
        format!("{state}\n"),
        "A".repeat(state.len()),
        "A".repeat(500_000),
        "\u{202e}\u{0}ß".to_owned(),
    ];
    for state in forged {
        let result = tool(&client, yes_to(&call, state.clone()));
        assert_stopped(&scene, &result, "ticket_invalid");
        assert_recorded(&client, &["VALIDATION_FAILED"], "ticket_invalid");
    }
    for state in [json!(7), json!(true), json!([state]), json!({"state": state})] {
        let error = client.request("tools/call", yes_to(&call, state)).unwrap_err();
        assert!([-32600, -32602].contains(&error["code"].as_i64().unwrap()), "{error}");
    }
    // Responses without a state are a new call: it is asked about.
    for state in [Value::Null, json!("absent")] {
        let mut bare = yes_to(&call, state);
        if bare["requestState"] == "absent" {
            bare.as_object_mut().unwrap().remove("requestState");
        }
        let result = client.request("tools/call", bare).unwrap();
        assert_eq!(result["resultType"], "input_required", "{result}");
    }
    scene.assert_unwritten();
}

#[test]
fn a_client_of_the_older_protocol_cannot_answer_in_the_newer_way() {
    let scene = Scene::new();
    let call = params(write());
    let (_, state) = asked(&scene, &call);
    let client = scene.client(Era::usual());
    assert_stopped(&scene, &tool(&client, yes_to(&call, state)), "ticket_invalid");
    assert!(client.asked().is_empty());
}

#[test]
fn a_yes_holds_for_the_arguments_that_were_shown_and_no_others() {
    let scene = Scene::new();
    let arguments = write();
    let call = params(arguments.clone());
    let changes: [fn(&mut Value); 5] = [
        |arguments| arguments["data"]["DB_PASSWORD"] = json!(canary("other")),
        |arguments| arguments["data"]["MORE"] = json!("x"),
        |arguments| arguments["path"] = json!("other"),
        |arguments| arguments["cas"] = json!(0),
        |arguments| drop(arguments["data"].as_object_mut().unwrap().remove("API_KEY")),
    ];
    let (client, _) = asked(&scene, &call);
    for change in changes {
        let state = ask(&client, &call);
        let mut other = arguments.clone();
        change(&mut other);
        let result = tool(&client, yes_to(&params(other), state.clone()));
        assert_stopped(&scene, &result, "ticket_invalid");
        // It was used up: what it was given for must be asked about anew.
        assert_stopped(&scene, &tool(&client, yes_to(&call, state)), "ticket_invalid");
    }
}

#[test]
fn a_yes_to_one_tool_is_none_to_another() {
    let scene = Scene::new();
    let call = params(write());
    let (client, state) = asked(&scene, &call);
    for other in ["kv_patch", "kv.patch", "kv_delete", "kv_read", "vault_set", "nonsense"] {
        let mut other_call = call.clone();
        other_call["name"] = json!(other);
        let result = tool(&client, yes_to(&other_call, state.clone()));
        let code = if other == "nonsense" { "unknown_tool" } else { "ticket_invalid" };
        assert_stopped(&scene, &result, code);
    }
    // The same tool by its other name is the same call.
    let mut dotted = call;
    dotted["name"] = json!("kv.write");
    assert_eq!(tool(&client, yes_to(&dotted, state)).ok()["version"], 1);
}

#[test]
fn a_state_holds_only_in_the_process_that_gave_it() {
    let scene = Scene::new();
    let call = params(write());
    let (mut first, state) = asked(&scene, &call);
    // Another principal's server, and another server of the same one.
    let other = Scene::new();
    let (theirs, _) = asked(&other, &call);
    assert_stopped(&other, &tool(&theirs, yes_to(&call, state.clone())), "ticket_invalid");
    let second = scene.client(Era::stateless());
    assert_stopped(&scene, &tool(&second, yes_to(&call, state.clone())), "ticket_invalid");
    // The same server after a restart, in the same home.
    let home = first.server().home().clone();
    first.hang_up();
    first.server_mut().wait();
    let again = scene.launch().home(&home).spawn().connect(Era::stateless());
    assert_stopped(&scene, &tool(&again, yes_to(&call, state)), "ticket_invalid");
}

#[test]
fn ten_replays_of_one_yes_have_one_effect() {
    let scene = Scene::new();
    let call = params(write());
    let (client, state) = asked(&scene, &call);
    let answer = yes_to(&call, state);
    let replays: Vec<_> = (0..10).map(|_| client.start("tools/call", answer.clone())).collect();
    let results: Vec<_> = replays.into_iter().map(|call| ToolResult(call.wait().unwrap())).collect();
    let (done, refused): (Vec<_>, Vec<_>) = results.iter().partition(|result| !result.is_error());
    assert_eq!(done.len(), 1);
    for result in refused {
        assert_refused(result, "ticket_invalid");
    }
    assert_eq!((scene.version(), scene.proxy.writes().len()), (1, 1));
    // And one more, after all is done.
    assert_refused(&tool(&client, answer), "ticket_invalid");
    assert_eq!(scene.version(), 1);
    let confirmed = call_records(&client).iter().filter(|record| record["action"] == "CONFIRMED").count();
    assert_eq!(confirmed, 1);
}

#[test]
fn what_changed_before_the_yes_is_asked_about_again() {
    for era in eras() {
        let scene = Scene::new();
        let client = scene.client(era.clone());
        let subject = scene.subject.clone();
        let mut changed = false;
        client.human(move |_| {
            // While the human reads, somebody else writes.
            if !std::mem::replace(&mut changed, true) {
                vault().write_secret(&subject, "app", json!({"THEIRS": "x"}));
            }
            Answer::yes()
        });
        let arguments = write();
        let result = client.call("kv_write", arguments.clone());
        assert_eq!(result.ok()["version"], 2, "{era:?}");
        assert_eq!(scene.secret(), arguments["data"]);
        let asked = client.asked();
        assert_eq!(asked.len(), 2);
        let (first, second) = (asked[0]["message"].as_str().unwrap(), asked[1]["message"].as_str().unwrap());
        assert!(first.starts_with("CREATE secret/"), "{first}");
        assert!(second.starts_with("REPLACE secret/") && second.contains("It changed since"), "{second}");
        assert!(second.contains("- THEIRS"), "{second}");
        assert_eq!(scene.proxy.writes().len(), 1);
    }
}

/// A delete makes no version, so Vault's check-and-set would not notice it.
#[test]
fn what_was_deleted_before_the_yes_is_asked_about_again() {
    for era in eras() {
        let scene = Scene::new();
        vault().write_secret(&scene.subject, "app", json!({"A": "1"}));
        let client = scene.client(era);
        let subject = scene.subject.clone();
        let mut answers = [Answer::yes(), Answer::Decline].into_iter();
        client.human(move |_| {
            vault().delete(&format!("secret/data/mcp/{subject}/app"));
            answers.next().unwrap()
        });
        assert_refused(&client.call("kv_write", write()), "declined");
        let second = client.asked()[1]["message"].as_str().unwrap().to_owned();
        assert!(second.starts_with("CREATE secret/") && second.contains("which is deleted"), "{second}");
        assert!(scene.proxy.writes().is_empty());
        assert_eq!((scene.version(), scene.secret()), (1, Value::Null));
    }
}

#[test]
fn between_the_last_look_and_the_write_stands_vaults_own_check() {
    for era in eras() {
        let scene = Scene::new();
        let client = scene.client(era);
        client.always(Answer::yes());
        let gate = Gate::new();
        scene.proxy.fail(On::target("/v1/secret/data/").method("POST"), Fault::Hold(gate.clone()));
        let call = params(write());
        let call = if client.era().has_handshake() {
            client.start("tools/call", call)
        } else {
            let state = ask(&client, &call);
            client.start("tools/call", yes_to(&call, state))
        };
        scene.proxy.wait_for("the write", |request| request.is_data() && request.is_write());
        vault().write_secret(&scene.subject, "app", json!({"THEIRS": "x"}));
        gate.open();
        let result = ToolResult(call.wait().unwrap());
        assert_refused(&result, "conflict");
        assert_eq!((scene.version(), scene.secret()), (1, json!({"THEIRS": "x"})));
        assert_eq!(scene.proxy.writes().len(), 1, "a refused write is not sent again");
        assert_recorded(&client, &["CONFIRMATION_REQUIRED", "CONFIRMED", "REQUEST", "FAILED"], "conflict");
    }
}

#[test]
fn what_a_human_said_yes_to_is_not_refused_for_the_limit() {
    for era in eras() {
        let scene = Scene::new();
        let limit = scene.launch().env("RATE_LIMIT_REQUESTS", "1").env("RATE_LIMIT_WINDOW_SECONDS", "3600");
        let client = limit.spawn().connect(era);
        client.always(Answer::yes());
        assert_eq!(client.call("kv_write", write()).ok()["version"], 1);
        assert_refused(&client.call("kv_list", json!({})), "rate_limited");
    }
}
