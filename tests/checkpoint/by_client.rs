//! The question carried by the client, in both protocols: what is a yes, and what is none.

use std::time::Duration;

use serde_json::{Value, json};

use crate::{
    common::{
        AT_ONCE, Answer, Era, PATIENCE, ToolResult, assert_no_canary, audit_records, canary, vault,
        wait_until,
    },
    scene::{Scene, assert_recorded, assert_stopped, call_records, eras, last_call, text, write},
};

const ASKED: &str = "CONFIRMATION_REQUIRED";

#[test]
fn a_typed_yes_writes_once_and_says_who_allowed_it() {
    for era in eras() {
        let scene = Scene::new();
        let client = scene.client(era.clone());
        client.always(Answer::yes());
        let arguments = write();
        let result = client.call("kv_write", arguments.clone());
        assert_eq!(result.ok()["version"], 1, "{era:?}");
        assert_eq!(scene.secret(), arguments["data"], "{era:?}");
        assert_eq!(scene.proxy.writes().len(), 1, "{era:?}");
        assert_eq!(client.asked().len(), 1, "{era:?}");
        assert_no_canary(client.server().stdout(), "standard output");

        assert_recorded(&client, &[ASKED, "CONFIRMED", "REQUEST", "SUCCESS"], "");
        let records = call_records(&client);
        assert_eq!(records[1]["approval"]["channel"], "client");
        assert_eq!(records[1]["approval"]["ticket"], records[0]["approval"]["ticket"]);
    }
}

#[test]
fn the_form_asks_for_one_required_text_without_a_default() {
    for era in eras() {
        let scene = Scene::new();
        let client = scene.client(era);
        client.always(Answer::Decline);
        client.call("kv_write", write());
        let form = &client.asked()[0]["requestedSchema"];
        assert_eq!(form["type"], "object");
        assert_eq!(form["required"], json!(["answer"]));
        assert_eq!(form["properties"].as_object().unwrap().len(), 1);
        assert_eq!(form["properties"]["answer"]["type"], "string");
        assert!(form["properties"]["answer"].get("default").is_none());
    }
}

#[test]
fn nothing_but_the_exact_word_is_a_yes() {
    let answers = [
        (Answer::Accept(json!({})), "not_confirmed"),
        (Answer::Accept(Value::Null), "not_confirmed"),
        (Answer::typed("Yes"), "not_confirmed"),
        (Answer::typed("YES"), "not_confirmed"),
        (Answer::typed("yes "), "not_confirmed"),
        (Answer::typed(" yes"), "not_confirmed"),
        (Answer::typed("yes\n"), "not_confirmed"),
        (Answer::typed("y"), "not_confirmed"),
        (Answer::typed("ｙｅｓ"), "not_confirmed"),
        (Answer::typed("yes\u{200b}"), "not_confirmed"),
        (Answer::typed(""), "not_confirmed"),
        (Answer::Accept(json!({"answer": true})), "not_confirmed"),
        (Answer::Accept(json!({"answer": 1})), "not_confirmed"),
        (Answer::Accept(json!({"answer": ["yes"]})), "not_confirmed"),
        (Answer::Accept(json!({"answer": {"value": "yes"}})), "not_confirmed"),
        (Answer::Accept(json!({"Answer": "yes"})), "not_confirmed"),
        (Answer::Accept(json!({"confirm": "yes", "yes": "yes"})), "not_confirmed"),
        (Answer::Decline, "declined"),
        (Answer::Cancel, "cancelled"),
    ];
    for era in eras() {
        let scene = Scene::new();
        let client = scene.client(era.clone());
        for (answer, code) in &answers {
            client.always(answer.clone());
            // Each call is another one: a declined call is not asked again.
            let result = client.call("kv_write", write());
            assert_eq!(result.code(), *code, "{answer:?} in {}", era.version);
            assert_stopped(&scene, &result, code);
            assert_recorded(&client, &[ASKED, "ABORTED"], code);
        }
        assert_eq!(client.asked().len(), answers.len());
        // After all that a yes is still a yes.
        client.always(Answer::yes());
        assert_eq!(client.call("kv_write", write()).ok()["version"], 1);
    }
}

/// Answers that are no elicitation result at all.
#[test]
fn an_answer_of_another_shape_is_no_yes() {
    let bare = json!({"action": "accept"});
    let shapes = [
        bare,
        json!({}),
        json!({"action": "Accept", "content": {"answer": "yes"}}),
        json!({"action": true, "content": {"answer": "yes"}}),
        json!({"content": {"answer": "yes"}}),
        json!({"action": "accept", "content": "yes"}),
        json!({"action": "accept", "content": [{"answer": "yes"}]}),
        json!({"action": "decline", "content": {"answer": "yes"}}),
        json!({"action": "cancel", "content": {"answer": "yes"}}),
        json!({"result": {"action": "accept", "content": {"answer": "yes"}}}),
    ];
    for shape in &shapes {
        // The older protocol: the answer is a response with the question's id.
        let scene = Scene::new();
        let client = scene.client(Era::usual());
        client.always(Answer::Never);
        let call = client.start_call("kv_write", write());
        client.wait_until_asked(1);
        let asked = client.server().stdout();
        let asked = String::from_utf8(asked).unwrap();
        let question = asked.lines().find(|line| line.contains("elicitation/create")).unwrap();
        let id = serde_json::from_str::<Value>(question).unwrap()["id"].clone();
        client.send(&json!({"jsonrpc": "2.0", "id": id, "result": shape}));
        let result = ToolResult(call.wait().unwrap());
        assert_stopped(&scene, &result, &result.code());
        assert_recorded(&client, &[ASKED, "ABORTED"], &result.code());

        // The newer one: it stands among the responses of the repeated call.
        let scene = Scene::new();
        let client = scene.client(Era::stateless());
        let params = json!({"name": "kv_write", "arguments": write()});
        let asked = client.request("tools/call", params.clone()).unwrap();
        for responses in
            [json!({"approval": shape}), json!({"other": {"action": "accept", "content": {"answer": "yes"}}})]
        {
            let mut again = params.clone();
            again["requestState"] = asked["requestState"].clone();
            again["inputResponses"] = responses;
            match client.request("tools/call", again) {
                Ok(result) => {
                    let result = ToolResult(result);
                    assert_stopped(&scene, &result, &result.code());
                }
                // A shape that the protocol's own types refuse.
                Err(error) => assert!([-32600, -32602].contains(&error["code"].as_i64().unwrap()), "{error}"),
            }
        }
        scene.assert_unwritten();
    }
}

#[test]
fn a_yes_that_comes_after_the_cancel_does_nothing() {
    let scene = Scene::new();
    let client = scene.client(Era::stateless());
    let params = json!({"name": "kv_write", "arguments": write()});
    let asked = client.request("tools/call", params.clone()).unwrap();
    for (answer, code) in [(Answer::Cancel, "cancelled"), (Answer::yes(), "ticket_invalid")] {
        client.always(answer);
        let again = client.repeat(&params, &asked).unwrap();
        let result = ToolResult(client.request("tools/call", again).unwrap());
        assert_stopped(&scene, &result, code);
    }

    // In the older protocol the second answer has no question any more.
    let scene = Scene::new();
    let client = scene.client(Era::usual());
    client.always(Answer::Cancel);
    let result = client.call("kv_write", write());
    assert_stopped(&scene, &result, "cancelled");
    for id in 0..5 {
        client.send(&json!({"jsonrpc": "2.0", "id": id, "result": {"action": "accept", "content": {"answer": "yes"}}}));
    }
    client.request("ping", json!({})).unwrap();
    scene.assert_unwritten();
    assert_recorded(&client, &[ASKED, "ABORTED"], "cancelled");
}

#[test]
fn a_declined_call_is_refused_at_once_and_another_is_asked() {
    for era in eras() {
        let scene = Scene::new();
        let client = scene.client(era);
        client.always(Answer::Decline);
        let arguments = write();
        assert_stopped(&scene, &client.call("kv_write", arguments.clone()), "declined");
        client.always(Answer::yes());
        // The same call, its keys in another order: nobody is asked.
        let mut reordered = serde_json::Map::new();
        reordered.insert("data".into(), arguments["data"].clone());
        reordered.insert("path".into(), arguments["path"].clone());
        for again in [arguments.clone(), Value::Object(reordered)] {
            assert_stopped(&scene, &client.call("kv_write", again), "declined");
            assert_recorded(&client, &["REFUSED"], "declined");
        }
        // By its other name it is the same call.
        assert_stopped(&scene, &client.call("kv.write", arguments.clone()), "declined");
        assert_eq!(client.asked().len(), 1);
        // Another value is another call, and so is another tool.
        assert_eq!(client.call("kv_write", write()).ok()["version"], 1);
        assert_eq!(client.call("kv_patch", arguments).ok()["version"], 2);
        assert_eq!(client.asked().len(), 3);
    }
}

#[test]
fn a_client_without_elicitation_cannot_write_and_is_told_what_would_help() {
    let modes = [
        Era::mute(),
        Era::stateless_mute(),
        Era::handshake("2024-11-05"),
        Era::usual().with(json!({"elicitation": {"url": {}}})),
        Era::stateless().with(json!({"elicitation": {"url": {}}})),
        Era::usual().with(json!({"experimental": {"elicitation": {"form": {}}}})),
    ];
    for era in modes {
        let scene = Scene::new();
        let client = scene.client(era.clone());
        let result = client.call("kv_write", write());
        assert_stopped(&scene, &result, "nobody_to_ask");
        assert!(result.text().contains("vault-mcp approve"), "{}", result.text());
        assert!(client.asked().is_empty(), "{era:?}");
        assert_recorded(&client, &[ASKED, "ABORTED"], "nobody_to_ask");
    }
}

#[test]
fn a_meta_that_claims_a_capability_does_not_give_it() {
    let claims = [
        json!({"io.modelcontextprotocol/clientCapabilities": {"elicitation": {"form": {}}}}),
        json!({"clientCapabilities": {"elicitation": {}}, "elicitation": {"form": {}}}),
        json!({"confirmed": true, "approved": "yes", "answer": "yes", "inputResponses": {"approval": {"action": "accept", "content": {"answer": "yes"}}}}),
    ];
    for claim in claims {
        let scene = Scene::new();
        let client = scene.client(Era::mute());
        let params = json!({"name": "kv_write", "arguments": write(), "_meta": claim});
        let result = ToolResult(client.request("tools/call", params).unwrap());
        assert_stopped(&scene, &result, "nobody_to_ask");
        assert!(client.asked().is_empty());
    }
    // Nor does an argument: the tool knows none that confirms.
    let scene = Scene::new();
    let client = scene.client(Era::usual());
    for name in
        ["confirm", "confirmed", "approved", "yes", "force", "requestState", "inputResponses", "_meta"]
    {
        let mut arguments = write();
        arguments[name] = json!("yes");
        assert_stopped(&scene, &client.call("kv_write", arguments), "invalid_input");
    }
}

#[test]
fn a_client_that_answers_with_an_error_has_asked_nobody() {
    for (code, message) in [(-32601, "Method not found"), (-32603, "boom"), (-1, "User rejected")] {
        let scene = Scene::new();
        let client = scene.client(Era::usual());
        client.always(Answer::Error(code, message.to_owned()));
        let result = client.call("kv_write", write());
        assert_stopped(&scene, &result, "nobody_to_ask");
        assert_recorded(&client, &[ASKED, "ABORTED"], "nobody_to_ask");
        assert!(!result.text().contains(message), "the client's own words: {}", result.text());
    }
}

#[test]
fn a_cancelled_call_ends_its_question_and_a_late_yes_does_nothing() {
    let scene = Scene::new();
    let client = scene.client(Era::usual());
    let (say, when) = std::sync::mpsc::channel();
    client.human(move |_| {
        when.recv().unwrap();
        Answer::yes()
    });
    let call = client.start_call("kv_write", write());
    client.wait_until_asked(1);
    client.notify("notifications/cancelled", json!({"requestId": call.id, "reason": "the user pressed Esc"}));
    // The dialog is taken back at once …
    let withdrawn = client.wait_for_notification("notifications/cancelled");
    let asked = String::from_utf8(client.server().stdout()).unwrap();
    let question = asked.lines().find(|line| line.contains("elicitation/create")).unwrap();
    let question = serde_json::from_str::<Value>(question).unwrap();
    assert_eq!(withdrawn["params"]["requestId"], question["id"]);
    wait_until("the record of it", PATIENCE, || {
        last_call(&client)
            .iter()
            .any(|(action, code)| action == "ABORTED" && code == "cancelled")
            .then_some(())
    });
    // … and the yes that comes in spite of it opens nothing.
    say.send(()).unwrap();
    assert!(call.poll(Duration::from_secs(2)).is_none(), "a cancelled call is not answered");
    scene.assert_unwritten();
    client.always(Answer::yes());
    assert_eq!(client.call("kv_write", write()).ok()["version"], 1);
}

#[test]
fn a_question_leaves_with_the_client_at_once() {
    for era in [Era::usual(), Era::stateless()] {
        let scene = Scene::new();
        let mut client = scene.client(era.clone());
        client.always(Answer::Never);
        let call = client.start_call("kv_write", write());
        if era.has_handshake() {
            client.wait_until_asked(1);
        } else {
            call.wait().unwrap();
        }
        client.hang_up();
        let status = client.server_mut().wait_within(AT_ONCE);
        assert!(status.success(), "{status}");
        assert_recorded(&client, &[ASKED, "ABORTED"], "cancelled");
        scene.assert_unwritten();
    }
}

#[test]
fn of_a_hundred_questions_three_are_put() {
    for era in [Era::usual(), Era::stateless()] {
        let scene = Scene::new();
        let client = scene.launch().env("RATE_LIMIT_ENABLED", "false").spawn().connect(era.clone());
        client.always(Answer::Never);
        let mut open: Vec<_> = (0..100).map(|_| client.start_call("kv_write", write())).collect();
        let (mut put, mut refused) = (0, Vec::new());
        // Who asks in a message of its own is not answered; who asks in the answer is.
        let unanswered = if era.has_handshake() { 3 } else { 0 };
        wait_until("97 refusals", PATIENCE, || {
            open.retain(|call| match call.poll(Duration::ZERO) {
                Some(Ok(result)) if result["resultType"] == "input_required" => {
                    put += 1;
                    false
                }
                Some(result) => {
                    refused.push(ToolResult(result.unwrap()));
                    false
                }
                None => true,
            });
            (open.len() == unanswered).then_some(())
        });
        for result in &refused {
            assert_stopped(&scene, result, "too_many_pending");
        }
        assert_eq!((put + open.len(), refused.len()), (3, 97), "{}", era.version);
        assert!(open.iter().all(|call| call.poll(Duration::from_millis(300)).is_none()));
        // Reading goes on meanwhile.
        client.call("kv_list", json!({})).ok();
        let records = audit_records(client.server().home().audit_log());
        let asked = records.iter().filter(|record| text(record, "action") == ASKED).count();
        let refused = records.iter().filter(|record| text(record, "code") == "too_many_pending").count();
        assert_eq!((asked, refused), (3, 97));
    }
}

#[test]
fn reading_for_the_eyes_only_asks_as_well() {
    let scene = Scene::new();
    let secret = canary("r");
    vault().write_secret(&scene.subject, "app", json!({"TOKEN": secret}));
    for era in eras() {
        let client = scene.client(era);
        client.answers([Answer::Decline, Answer::yes()]);
        let result = client.call("kv_read", json!({"path": "app", "reveal": true}));
        assert_eq!(result.code(), "declined");
        assert_no_canary(client.server().stdout(), "standard output");
        let result = client.call("kv_read", json!({"path": "app", "reveal": true, "keys": ["TOKEN"]}));
        assert_eq!(result.ok()["data"]["TOKEN"], json!(secret));
        assert_eq!(client.asked().len(), 2);
        assert!(client.asked()[1]["message"].as_str().unwrap().contains("shown to the model"));
    }
}

/// With CONFIRM_EFFECTS=read a resource asks as well, where its protocol can carry the question.
#[test]
fn a_resource_that_cannot_ask_leaves_no_question_behind() {
    for era in eras() {
        let scene = Scene::new();
        vault().write_secret(&scene.subject, "app", json!({"TOKEN": canary("r")}));
        let client = scene.launch().env("CONFIRM_EFFECTS", "read").spawn().connect(era.clone());
        client.always(Answer::Decline);
        let uri = json!({"uri": format!("kv://{}/app", scene.subject)});
        let code = if era.has_handshake() { "declined: " } else { "nobody_to_ask: " };
        for _ in 0..5 {
            let error = client.request("resources/read", uri.clone()).unwrap_err();
            assert!(error["message"].as_str().unwrap().starts_with(code), "{error}");
        }
        // None of them holds one of the three places.
        client.always(Answer::yes());
        client.call("kv_list", json!({})).ok();
        let open = call_records(&client).iter().filter(|record| record["action"] == ASKED).count();
        let ended = call_records(&client).iter().filter(|record| record["action"] == "ABORTED").count();
        assert_eq!(open, ended + 1, "{}", era.version);
    }
}

#[test]
fn a_call_that_waits_says_so_to_a_client_that_asks_for_progress() {
    let scene = Scene::new();
    let client = scene.client(Era::usual());
    client.human(|_| {
        std::thread::sleep(Duration::from_millis(300));
        Answer::yes()
    });
    let params = json!({ "name": "kv_write", "arguments": write(), "_meta": { "progressToken": "waiting" } });
    let result = client.request("tools/call", params).expect("the write is allowed");
    assert_eq!(result["isError"], false, "{result}");
    let told = client.wait_for_notification("notifications/progress");
    assert_eq!(told["params"]["progressToken"], "waiting");
    assert!(told["params"]["message"].as_str().unwrap().contains("person"), "{told}");
}
