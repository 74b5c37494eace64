//! The page on which a person types a value: what it takes, from whom, and for how long.

use std::{
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use serde_json::{Value, json};

use crate::{
    common::{
        Answer, Era, McpClient, PATIENCE, ToolResult, assert_no_canary, assert_refused, canary,
        client::Pending, vault,
    },
    scene::{Scene, assert_recorded, assert_stopped, call_records},
    typed::ask,
};

fn eras() -> [Era; 2] {
    let modes = json!({"elicitation": {"form": {}, "url": {}}});
    [Era::usual().with(modes.clone()), Era::stateless().with(modes)]
}

fn done(call: Pending) -> ToolResult {
    ToolResult(call.wait().unwrap())
}

/// A call that waits for the page, and the page's address. A client of 2026-07-28 has told the server that it opened it.
fn asked(client: &McpClient, arguments: Value) -> (Pending, Browser) {
    let count = client.asked().len();
    let call = client.start_call("secret_ask", arguments.clone());
    let call = if client.era().has_handshake() {
        client.wait_until_asked(count + 1);
        call
    } else {
        let first = call.wait().unwrap();
        assert_eq!(first["resultType"], "input_required", "{first}");
        let params = json!({"name": "secret_ask", "arguments": arguments});
        client.start("tools/call", client.repeat(&params, &first).unwrap())
    };
    let asked = client.asked();
    let question = &asked[count];
    assert_eq!(question["mode"], "url", "{question}");
    assert!(question.get("requestedSchema").is_none() && question["elicitationId"].is_string(), "{question}");
    assert!(question["message"].as_str().unwrap().starts_with("ASK secret/mcp/"), "{question}");
    (call, Browser::new(question["url"].as_str().unwrap()))
}

/// What came back from the page.
struct Got {
    status: u16,
    head: String,
    body: String,
}

impl Got {
    #[track_caller]
    fn is(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{}\n{}", self.head, self.body);
        self
    }
}

/// A browser as the page sees one; every line that it sends can be another.
struct Browser {
    address: String,
    path: String,
    cookie: String,
    form: String,
}

impl Browser {
    fn new(url: &str) -> Self {
        let rest = url.strip_prefix("http://").unwrap();
        let (address, token) = rest.split_once('/').unwrap();
        assert!(address.starts_with("127.0.0.1:"), "{url}");
        assert!(token.len() == 32 && token.bytes().all(|byte| byte.is_ascii_hexdigit()), "{url}");
        Self {
            address: address.into(),
            path: format!("/{token}"),
            cookie: String::new(),
            form: String::new(),
        }
    }

    /// Sends this head, a host where it has none, and body; nothing when nobody listens any more.
    fn try_send(&self, first: &str, headers: &[(&str, &str)], body: &str) -> Option<Got> {
        let mut stream = TcpStream::connect(&self.address).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut text = format!("{first} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| *name == "Host") {
            text += &format!("Host: {}\r\n", self.address);
        }
        for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
            text += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            text += &format!("Content-Length: {}\r\n", body.len());
        }
        stream.write_all(format!("{text}\r\n{body}").as_bytes()).ok()?;
        let mut all = Vec::new();
        // The end of a connection that is refused in the middle is no answer.
        let _ = stream.read_to_end(&mut all);
        let text = String::from_utf8(all).unwrap();
        let (head, body) = text.split_once("\r\n\r\n")?;
        let status = head.split(' ').nth(1)?.parse().ok()?;
        Some(Got { status, head: head.to_owned(), body: body.to_owned() })
    }

    #[track_caller]
    fn send(&self, first: &str, headers: &[(&str, &str)], body: &str) -> Got {
        self.try_send(first, headers, body).unwrap_or_else(|| panic!("the page does not answer"))
    }

    fn get(&self, headers: &[(&str, &str)]) -> Got {
        let cookie = [("Cookie", self.cookie.as_str())];
        self.send(&format!("GET {}", self.path), &[&cookie, headers].concat(), "")
    }

    /// Opens the page as the one it belongs to.
    fn open(&mut self) -> Got {
        let got = self.get(&[]).is(200);
        let line = got.head.lines().find(|line| line.to_ascii_lowercase().starts_with("set-cookie: "));
        let cookie = line.unwrap().split_once(": ").unwrap().1;
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
        self.cookie = cookie.split(';').next().unwrap().to_owned();
        let field = "name=\"form\" value=\"";
        let at = got.body.find(field).unwrap() + field.len();
        self.form = got.body[at..at + 32].to_owned();
        got
    }

    /// Sends the form, with these headers in place of the browser's own.
    fn try_post(&self, fields: &str, headers: &[(&str, &str)]) -> Option<Got> {
        let origin = format!("http://{}", self.address);
        let own = [
            ("Origin", origin.as_str()),
            ("Content-Type", "application/x-www-form-urlencoded"),
            ("Sec-Fetch-Site", "same-origin"),
            ("Cookie", self.cookie.as_str()),
        ];
        let own = own.iter().filter(|(name, _)| !headers.iter().any(|(other, _)| other == name)).copied();
        let all: Vec<_> = own.chain(headers.iter().copied()).collect();
        self.try_send(&format!("POST {}", self.path), &all, fields)
    }

    #[track_caller]
    fn post(&self, fields: &str, headers: &[(&str, &str)]) -> Got {
        self.try_post(fields, headers).unwrap_or_else(|| panic!("the page does not answer"))
    }

    fn fields(&self, value: &str, choice: &str) -> String {
        let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
        format!("form={}&value={encoded}&choice={choice}", self.form)
    }

    #[track_caller]
    fn store(&self, value: &str) -> Got {
        self.post(&self.fields(value, "store"), &[])
    }
}

#[test]
fn a_value_typed_on_the_page_is_stored_and_seen_by_nobody_else() {
    for era in eras() {
        let scene = Scene::new();
        vault().write_secret(&scene.subject, "app", json!({"KEPT": [1], "DB_PASSWORD": "old"}));
        let client = scene.launch().env("LOG_LEVEL", "trace").spawn().connect(era);
        client.always(Answer::Accept(json!({})));
        let (call, mut browser) = asked(&client, ask());
        let page = browser.open();
        for shown in [
            "key DB_PASSWORD of version 1",
            "The caller&#39;s words, not checked: &quot;the password of the",
            scene.subject.as_str(),
            "type=\"password\"",
        ] {
            assert!(page.body.contains(shown), "{shown} is not in:\n{}", page.body);
        }
        let head = page.head.to_ascii_lowercase();
        for header in [
            "cache-control: no-store",
            "content-security-policy: default-src 'none'; style-src 'sha256-",
            "form-action 'self'; frame-ancestors 'none'",
            "referrer-policy: same-origin",
            "x-frame-options: deny",
            "x-content-type-options: nosniff",
        ] {
            assert!(head.contains(header), "{header} is not in:\n{head}");
        }
        assert!(!head.contains("access-control") && !page.body.contains("<script"), "{head}");
        // Looked at again by the same browser, it is the same page.
        assert!(browser.get(&[]).is(200).body.contains(&browser.form));
        assert!(call.poll(Duration::from_millis(300)).is_none(), "an opened page was taken for a yes");
        scene.assert_version(1);

        let value = format!("{} Ünï 日本 $(id) +&=% '\"\\", canary("page"));
        let taken = browser.store(&value).is(200);
        assert!(taken.body.contains("Taken (33-64 characters)"), "{}", taken.body);
        assert_no_canary(&taken.body, "the page");
        let result = done(call);
        assert_eq!(result.ok()["version"], 2);
        assert_eq!(scene.secret(), json!({"KEPT": [1], "DB_PASSWORD": value}));
        for (place, text) in [
            ("the client", client.server().stdout()),
            ("standard error", client.server().stderr().into_bytes()),
            ("the audit log", std::fs::read(client.server().home().audit_log()).unwrap()),
        ] {
            assert_no_canary(text, place);
        }
        assert_recorded(&client, &["CONFIRMATION_REQUIRED", "CONFIRMED", "REQUEST", "SUCCESS"], "");
        let records = call_records(&client);
        assert_eq!(records[1]["approval"]["channel"], "page");
        assert_eq!(records[2]["keys"], json!(["DB_PASSWORD"]));
        if client.era().has_handshake() {
            let complete = client.wait_for_notification("notifications/elicitation/complete");
            assert_eq!(complete["params"]["elicitationId"], client.asked()[0]["elicitationId"]);
        }
    }
}

/// The value may come before the client's word on the page, and without any.
#[test]
fn the_value_is_the_yes_whatever_the_client_says_and_when() {
    let [handshake, stateless] = eras();
    let scene = Scene::new();
    let client = scene.client(handshake);
    client.always(Answer::Never);
    let (call, mut browser) = asked(&client, ask());
    browser.open();
    browser.store("first").is(200);
    assert_eq!(done(call).ok()["version"], 1);
    // The dialog that still stands there is taken back.
    client.wait_for_notification("notifications/cancelled");

    let client = scene.client(stateless);
    client.always(Answer::Accept(json!({})));
    let params = json!({"name": "secret_ask", "arguments": ask()});
    let first = client.request("tools/call", params.clone()).unwrap();
    let url = first["inputRequests"]["approval"]["params"]["url"].as_str().unwrap().to_owned();
    let mut browser = Browser::new(&url);
    browser.open();
    browser.store("second").is(200);
    browser.store("third").is(410);
    scene.assert_version(1);
    let again = client.repeat(&params, &first).unwrap();
    assert_eq!(ToolResult(client.request("tools/call", again.clone()).unwrap()).ok()["version"], 2);
    assert_eq!(scene.secret(), json!({"DB_PASSWORD": "second"}));
    assert_refused(&ToolResult(client.request("tools/call", again).unwrap()), "ticket_invalid");
    scene.assert_version(2);
}

#[test]
fn no_answer_of_the_client_is_a_value_or_a_yes() {
    for era in eras() {
        let scene = Scene::new();
        let client = scene.client(era);
        let form =
            json!({"answer": "yes", "value": canary("form"), "DB_PASSWORD": canary("form"), "form": "x"});
        client.always(Answer::Accept(form));
        let (call, _browser) = asked(&client, ask());
        assert!(
            call.poll(Duration::from_millis(500)).is_none(),
            "the client's word was taken for the person's"
        );
        scene.assert_unwritten();
        client.notify("notifications/cancelled", json!({"requestId": call.id}));
        drop(call);
        let what = "the end of the question";
        crate::common::wait_until(what, PATIENCE, || {
            call_records(&client).iter().any(|record| record["action"] == "ABORTED").then_some(())
        });
        assert_recorded(&client, &["CONFIRMATION_REQUIRED", "ABORTED"], "cancelled");
    }
    for (answer, code) in [
        (Answer::Decline, "declined"),
        (Answer::Cancel, "cancelled"),
        (Answer::Error(-32603, "no".into()), "nobody_to_ask"),
    ] {
        let scene = Scene::new();
        let client = scene.client(eras()[0].clone());
        client.always(answer);
        let (call, browser) = asked(&client, ask());
        assert_stopped(&scene, &done(call), code);
        assert!(
            browser.try_send(&format!("GET {}", browser.path), &[], "").is_none(),
            "{code}: still served"
        );
    }
    // Without a word on the question, and with a form's answer to it.
    let scene = Scene::new();
    let client = scene.client(eras()[1].clone());
    let params = json!({"name": "secret_ask", "arguments": ask()});
    for (responses, code) in [
        (json!({}), "cancelled"),
        (json!({"approval": {"action": "decline"}}), "declined"),
        (json!({"approval": "yes"}), "cancelled"),
    ] {
        let mut arguments = params.clone();
        arguments["arguments"]["prompt"] = json!(code.to_owned() + &responses.to_string());
        let first = client.request("tools/call", arguments.clone()).unwrap();
        arguments["inputResponses"] = responses;
        arguments["requestState"] = first["requestState"].clone();
        assert_stopped(&scene, &ToolResult(client.request("tools/call", arguments).unwrap()), code);
    }
}

#[test]
fn a_no_on_the_page_is_a_no() {
    for era in eras() {
        let scene = Scene::new();
        let client = scene.client(era);
        client.always(Answer::Accept(json!({})));
        let (call, mut browser) = asked(&client, ask());
        browser.open();
        let got = browser.post(&browser.fields(&canary("half"), "decline"), &[]).is(200);
        assert!(got.body.contains("Nothing is stored"), "{}", got.body);
        assert_stopped(&scene, &done(call), "declined");
        assert_recorded(&client, &["CONFIRMATION_REQUIRED", "ABORTED"], "declined");
        assert_stopped(&scene, &client.call("secret_ask", ask()), "declined");
    }
}

#[test]
fn nothing_but_the_page_in_the_browser_that_opened_it_can_send_a_value() {
    let scene = Scene::new();
    let client = scene.client(eras()[0].clone());
    client.always(Answer::Accept(json!({})));
    let (call, mut browser) = asked(&client, ask());
    let (path, port) = (browser.path.clone(), browser.address.split(':').nth(1).unwrap().to_owned());
    let get = |path: &str| format!("GET {path}");

    // Before it is opened: what does not open it does not use it up either.
    for other in [
        "/",
        "/x",
        "//",
        &format!("{path}/"),
        &format!("{path}?"),
        &format!("{path}?x=1"),
        &path[..32],
        &"/0".repeat(16),
        &format!("/{}{}", if path.starts_with("/0") { 1 } else { 0 }, &path[2..]),
    ] {
        browser.send(&get(other), &[], "").is(404);
    }
    for host in [
        "evil.example",
        "localhost",
        "127.0.0.1",
        "127.0.0.1:1",
        "",
        &format!("localhost:{port}"),
        &format!("evil.example:{port}"),
        &format!("127.0.0.1.evil.example:{port}"),
        &format!("[::1]:{port}"),
    ] {
        let got = browser.try_send(&get(&path), &[("Host", host)], "");
        assert!(got.is_none_or(|got| [400, 421].contains(&got.status)), "host {host:?}");
    }
    let twice = format!("{}\r\nHost: evil.example", browser.address);
    let got = browser.try_send(&get(&path), &[("Host", &twice)], "");
    assert!(got.is_none_or(|got| [400, 421].contains(&got.status)));
    for method in ["HEAD", "PUT", "DELETE", "OPTIONS", "TRACE", "PATCH"] {
        browser.send(&format!("{method} {path}"), &[], "").is(405);
    }
    for ahead in [("Sec-Purpose", "prefetch;prerender"), ("Purpose", "prefetch"), ("X-Moz", "prefetch")] {
        browser.send(&get(&path), &[ahead], "").is(403);
    }
    browser.store(&canary("early")).is(410);

    let page = browser.open();
    assert!(page.body.contains("ASK secret/mcp/"));
    // Somebody who has the address by now.
    let stranger =
        Browser { cookie: String::new(), ..Browser::new(&format!("http://{}{path}", browser.address)) };
    for cookie in ["", "vault-mcp-page=", "vault-mcp-page=00000000000000000000000000000000", "other=1"] {
        let got = stranger.send(&get(&path), &[("Cookie", cookie)], "").is(410);
        assert!(!got.body.contains("ASK") && !got.body.contains(&browser.form), "{}", got.body);
        let form = Browser {
            cookie: cookie.into(),
            form: browser.form.clone(),
            ..Browser::new(&format!("http://{}{path}", browser.address))
        };
        form.store(&canary("stranger")).is(410);
    }
    // Another page in the same browser, which sends the cookie along.
    let fields = browser.fields(&canary("foreign"), "store");
    let origin = format!("http://{}", browser.address);
    for headers in [
        [("Origin", "http://evil.example")].as_slice(),
        &[("Origin", "null")],
        &[("Origin", "")],
        &[("Origin", "http://127.0.0.1")],
        &[("Origin", &format!("https://{}", browser.address))],
        &[("Origin", &format!("http://localhost:{port}"))],
        &[("Origin", &format!("{origin}, http://evil.example"))],
        &[("Origin", &format!("{origin}\r\nOrigin: http://evil.example"))],
        &[("Sec-Fetch-Site", "cross-site")],
        &[("Sec-Fetch-Site", "same-site")],
        &[("Sec-Fetch-Site", "none")],
    ] {
        browser.post(&fields, headers).is(403);
    }
    for kind in ["", "text/plain", "application/json", "multipart/form-data; boundary=x"] {
        browser.post(&fields, &[("Content-Type", kind)]).is(400);
    }
    for form in
        ["", "00000000000000000000000000000000", &browser.form[..31], &browser.form.to_uppercase()[..]]
    {
        if form != browser.form {
            browser.post(&format!("form={form}&value=x&choice=store"), &[]).is(403);
        }
    }
    for body in [
        "",
        "x",
        &format!("form={}&value=x", browser.form),
        &format!("form={}&value=x&choice=yes", browser.form),
        &format!("form={}&value=x&value=y&choice=store", browser.form),
        &format!("form={}&value=%ff&choice=store", browser.form),
        &format!("form={}&value=x&choice=store&path=../bob", browser.form),
    ] {
        browser.post(body, &[]).is(400);
    }
    let long = "a".repeat(3 * (1 << 20) + 8000);
    assert!(browser.try_post(&long, &[]).is_none_or(|got| got.status == 413));
    browser.post(&fields, &[("Transfer-Encoding", "chunked"), ("Content-Length", "")]).is(400);
    assert!(call.poll(Duration::from_millis(200)).is_none());
    scene.assert_unwritten();
    // None of it took the page from the person.
    browser.store("theirs").is(200);
    assert_eq!(done(call).ok()["version"], 1);
    assert_eq!(scene.secret(), json!({"DB_PASSWORD": "theirs"}));
    assert_eq!(scene.proxy.writes().len(), 1);
}

#[test]
fn a_form_counts_once() {
    for era in eras() {
        let scene = Scene::new();
        let client = scene.client(era);
        client.always(Answer::Accept(json!({})));
        let (call, mut browser) = asked(&client, ask());
        browser.open();
        let browser = &browser;
        let statuses: Vec<_> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..10)
                .map(|number| {
                    scope
                        .spawn(move || browser.try_post(&browser.fields(&format!("v{number}"), "store"), &[]))
                })
                .collect();
            threads.into_iter().map(|thread| thread.join().unwrap().map_or(0, |got| got.status)).collect()
        });
        assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 1, "{statuses:?}");
        assert!(statuses.iter().all(|status| [0, 200, 410].contains(status)), "{statuses:?}");
        let winner = statuses.iter().position(|status| *status == 200).unwrap();
        assert_eq!(done(call).ok()["version"], 1);
        assert_eq!(scene.secret(), json!({"DB_PASSWORD": format!("v{winner}")}));
        assert_eq!(scene.proxy.writes().len(), 1);
        assert!(browser.try_post(&browser.fields("late", "store"), &[]).is_none_or(|got| got.status == 410));
    }
}

#[test]
fn a_page_whose_question_is_over_takes_nothing() {
    let scene = Scene::new();
    let client = scene.client(eras()[0].clone());
    client.always(Answer::Accept(json!({})));
    let (call, mut browser) = asked(&client, ask());
    browser.open();
    // A form that is half sent when the question ends.
    let fields = browser.fields(&canary("late"), "store");
    let mut half = TcpStream::connect(&browser.address).unwrap();
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: {a}\r\nOrigin: http://{a}\r\nCookie: {}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{}",
        browser.path,
        browser.cookie,
        fields.len(),
        &fields[..40],
        a = browser.address,
    );
    half.write_all(head.as_bytes()).unwrap();
    std::thread::sleep(Duration::from_millis(200));
    client.notify("notifications/cancelled", json!({"requestId": call.id}));
    let gone = || browser.try_send(&format!("GET {}", browser.path), &[], "").is_none().then_some(());
    crate::common::wait_until("the page's end", PATIENCE, gone);
    let _ = half.write_all(&fields.as_bytes()[40..]);
    half.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut line = String::new();
    let _ = BufReader::new(half).read_line(&mut line);
    assert!(line.is_empty() || line.contains(" 410 "), "{line}");
    scene.assert_unwritten();
    assert!(call.poll(Duration::from_millis(300)).is_none());
    assert_recorded(&client, &["CONFIRMATION_REQUIRED", "ABORTED"], "cancelled");
    // The next question has a page of its own.
    let (call, mut next) = asked(&client, ask());
    assert_ne!((&next.address, &next.path), (&browser.address, &browser.path));
    next.open();
    next.store("next").is(200);
    assert_eq!(done(call).ok()["version"], 1);
}

#[test]
fn a_value_that_is_none_is_said_to_be_none_on_the_page_and_may_be_typed_again() {
    let scene = Scene::new();
    let client = scene.launch().env("DANGEROUS_PATTERNS", "block").spawn().connect(eras()[0].clone());
    client.always(Answer::Accept(json!({})));
    let (call, mut browser) = asked(&client, ask());
    browser.open();
    let secret = canary("bad");
    for (value, said) in [
        (String::new(), "It is empty"),
        (format!("{secret}\u{1b}[2J"), "control character"),
        (format!("{secret}\r\n"), "control character"),
        (format!("{secret}\0"), "control character"),
        (format!("{secret}\u{9b}"), "control character"),
        (format!("{secret}$(id)"), "DANGEROUS_PATTERNS=block"),
        ("secretref://secret/mcp/alice/app#K".to_owned(), "a mask or a reference"),
        ("x".repeat((1 << 20) + 1), "longer than 1048576 bytes"),
    ] {
        let got = browser.store(&value).is(422);
        assert!(got.body.contains(said), "{said} is not in:\n{}", got.body);
        assert_no_canary(&got.body, "the page");
    }
    assert!(call.poll(Duration::from_millis(200)).is_none());
    scene.assert_unwritten();
    let long = "y".repeat(1 << 20);
    browser.store(&long).is(200);
    assert_eq!(done(call).ok()["version"], 1);
    assert_eq!(scene.secret(), json!({"DB_PASSWORD": long}));
}

#[test]
fn what_a_model_wrote_is_text_on_the_page() {
    let scene = Scene::new();
    let client = scene.client(eras()[0].clone());
    client.always(Answer::Accept(json!({})));
    let markup = "</pre><script>x</script><b a=\"c\" onload='y'>&lt;";
    let (call, mut browser) = asked(&client, json!({"path": "app", "key": markup, "prompt": markup}));
    let page = browser.open();
    for unescaped in ["<script", "<b a", "onload='", "</pre><"] {
        assert!(!page.body.contains(unescaped), "{}", page.body);
    }
    browser.store("x").is(200);
    done(call).ok();
    assert_eq!(scene.secret(), json!({ markup: "x" }));
}

#[test]
fn a_secret_that_changes_before_the_value_comes_is_asked_about_on_a_new_page() {
    for era in eras() {
        let scene = Scene::new();
        let client = scene.client(era);
        client.always(Answer::Accept(json!({})));
        let (call, mut browser) = asked(&client, ask());
        browser.open();
        vault().write_secret(&scene.subject, "app", json!({"THEIRS": "x"}));
        browser.store(&canary("stale")).is(200);
        // In 2026-07-28 the answer to the repeated call is another question.
        let call = if client.era().has_handshake() {
            client.wait_until_asked(2);
            call
        } else {
            let again = call.wait().unwrap();
            assert_eq!(again["resultType"], "input_required", "{again}");
            let params = json!({"name": "secret_ask", "arguments": ask()});
            client.start("tools/call", client.repeat(&params, &again).unwrap())
        };
        let question = client.asked()[1].clone();
        assert!(
            question["message"].as_str().unwrap().contains("It changed since you were asked"),
            "{question}"
        );
        assert_eq!(scene.secret(), json!({"THEIRS": "x"}));
        let mut next = Browser::new(question["url"].as_str().unwrap());
        next.open();
        next.store("fresh").is(200);
        assert_eq!(done(call).ok()["version"], 2);
        assert_eq!(scene.secret(), json!({"THEIRS": "x", "DB_PASSWORD": "fresh"}));
    }
}

#[test]
fn other_writes_are_asked_about_as_ever_and_no_page_is_served_for_them() {
    for era in eras() {
        let scene = Scene::new();
        let client = scene.client(era);
        client.always(Answer::yes());
        client.call("kv_write", json!({"path": "app", "data": {"A": "b"}})).ok();
        assert_ne!(client.asked()[0]["mode"], "url");
        let scene = Scene::new();
        let client = scene.launch().env("APPROVAL", "approver").spawn().connect(eras()[0].clone());
        assert_stopped(&scene, &client.call("secret_ask", ask()), "nobody_to_ask");
        assert!(client.asked().is_empty());
    }
}
