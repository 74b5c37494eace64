//! Secret values go through every route that takes or gives one, well and badly, with every log at its loudest, a
//! collector of traces and all that watches the server. None is found anywhere but in the answer that was asked for.

use std::path::Path;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};

use super::{
    collector::Collector,
    rig::{Agent, Http},
};
use crate::common::{Fault, On, assert_no_canary, canary, vault};

/// Every file below a folder.
fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let (path, kind) = (entry.path(), entry.file_type().unwrap());
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() {
            found.push((path.display().to_string(), std::fs::read(&path).unwrap()));
        }
    }
    found
}

/// A transit key of this test's own; nothing where the Vault has no such engine.
fn transit_key() -> Option<&'static str> {
    vault().ensure_mount("transit", "transit", json!({}));
    let made = vault().put("transit/keys/canaries", json!({}));
    (made.status < 300).then_some("canaries")
}

/// Values in what is written, read, refused and failed. Gives every secret that went through.
fn values(http: &Http, agent: &Agent) -> Vec<String> {
    let mut secrets: Vec<String> = (0..12).map(|number| canary(&format!("v{number}"))).collect();
    for (number, secret) in secrets.iter().enumerate() {
        let path = format!("/secrets/app/n{number}");
        let data = json!({"plain": secret, "list": [secret], "deep": {"k": secret}});
        http.put(agent, &path, json!({"data": data, "cas": 0})).ok();
        assert!(http.get(agent, &path).ok().to_string().contains(secret.as_str()));
        // Conflict, unknown field, wrong type, wrong JSON, wrong place.
        let refused = [
            http.put(agent, &path, json!({"data": data, "cas": 0})),
            http.put(agent, &path, json!({"data": data, "odd": secret})),
            http.put(agent, &path, json!({"data": secret})),
            http.put(agent, &path, json!({"data": {"k": secret}, "cas": secret})),
            http.bare(
                "PUT",
                &path,
                &[("X-API-Key", &agent.key)],
                Some(&format!("{{\"data\": {{\"k\": \"{secret}\"}}")),
            ),
            http.post(agent, &path, json!({"data": {"k": secret}})),
            http.get(agent, &format!("{path}?version={secret}")),
            http.get(agent, &format!("{path}?odd={secret}")),
            http.get(agent, &format!("/nothing/{secret}?{secret}")),
            http.get(agent, &format!("/observability/logs/{secret}?limit={secret}")),
        ];
        for reply in refused {
            assert!(reply.status >= 400, "{}", reply.text);
            assert_no_canary(&reply.text, "a refusal");
        }
    }
    secrets.extend(broken(http, agent));
    secrets.extend(transit(http, agent));
    secrets.extend(credentials(http));
    secrets
}

/// Writes that Vault does not take, or whose answer is lost.
fn broken(http: &Http, agent: &Agent) -> Vec<String> {
    let faults =
        [Fault::Status(500), Fault::ResetBefore, Fault::ResetAfter, Fault::Page(404), Fault::Truncated];
    let one = |fault: Fault| {
        let secret = canary("broken");
        http.proxy.fail(On::target("secret/data").times(1), fault);
        let reply = http.put(agent, "/secrets/broken", json!({"data": {"k": secret}}));
        assert_no_canary(&reply.text, "a fault");
        http.proxy.heal();
        secret
    };
    let mut secrets: Vec<_> = faults.into_iter().map(one).collect();
    // Vault's own words can quote what was sent.
    let quoted = canary("quoted");
    let body = json!({"errors": [format!("cannot store {quoted}")], "warnings": [quoted]}).to_string();
    http.proxy.fail(On::target("secret/data").times(1), Fault::Answer(400, body));
    let reply = http.put(agent, "/secrets/quoted", json!({"data": {"k": quoted}}));
    assert!(reply.status >= 400);
    assert_no_canary(&reply.text, "a quotation");
    http.proxy.heal();
    secrets.push(quoted);
    secrets
}

fn transit(http: &Http, agent: &Agent) -> Vec<String> {
    let Some(key) = transit_key() else { return Vec::new() };
    let secret = canary("transit");
    let plaintext = STANDARD.encode(&secret);
    let sealed = http.post(agent, "/transit/encrypt", json!({"key": key, "plaintext": plaintext})).ok();
    let open = json!({"key": key, "ciphertext": sealed["ciphertext"]});
    assert_eq!(http.post(agent, "/transit/decrypt", open).ok()["plaintext"], plaintext);
    for body in [
        json!({"key": "nosuch", "plaintext": plaintext}),
        json!({"key": key, "plaintext": format!("{plaintext}!")}),
        json!({"key": key, "plaintext": secret}),
        json!({"key": key, "ciphertext": plaintext}),
    ] {
        for route in ["/transit/encrypt", "/transit/decrypt"] {
            let reply = http.post(agent, route, body.clone());
            assert_no_canary(&reply.text, route);
        }
    }
    vec![secret]
}

/// Credentials that do not hold, in every place where one could stand.
fn credentials(http: &Http) -> Vec<String> {
    let secret = canary("credential");
    let bearer = format!("Bearer {secret}");
    for headers in [
        [("X-API-Key", secret.as_str())],
        [("Authorization", &bearer)],
        [("Cookie", &secret)],
        [("X-Vault-Token", &secret)],
        [("X-SSL-Client-S-DN", &secret)],
        [("traceparent", &secret)],
        [("tracestate", &secret)],
        [("baggage", &secret)],
    ] {
        for path in ["/secrets/a", "/whoami", "/metrics", "/readyz", "/mcp", "/nothing"] {
            let reply = http.bare("GET", &format!("{path}?key={secret}"), &headers, None);
            assert_no_canary(&reply.text, path);
            assert_no_canary(format!("{:?}", reply.headers), path);
        }
    }
    vec![secret]
}

#[test]
fn no_secret_stands_in_logs_metrics_traces_observability_or_audit() {
    let agent = Agent::new();
    let collector = Collector::start();
    let settings = [
        ("LOG_LEVEL", "trace"),
        ("RUST_LOG", "trace"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url.as_str()),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ];
    let mut http = Http::start(&[&agent], &settings);
    let secrets = values(&http, &agent);
    assert!(secrets.len() >= 19, "{}", secrets.len());

    let mut places = vec![("metrics".to_owned(), http.bare("GET", "/metrics", &[], None).text.into_bytes())];
    for path in ["summary", "logs/requests?limit=500", "logs/responses?limit=500", "logs/server?limit=500"] {
        let reply = http.get(&agent, &format!("/observability/{path}"));
        assert_eq!(reply.status, 200, "{path}");
        let seen = reply.body.get("lines").and_then(Value::as_array);
        assert!(seen.is_none_or(|lines| lines.len() > 10), "{path} shows nothing");
        places.push((path.to_owned(), reply.text.into_bytes()));
    }
    http.server().signal(rustix::process::Signal::TERM);
    assert!(http.server_mut().wait().success());
    let logged = files(http.home().path());
    for kind in ["/logs/requests.", "/logs/responses.", "/logs/server.", "audit.jsonl"] {
        let there = |(name, bytes): &(String, Vec<u8>)| name.contains(kind) && !bytes.is_empty();
        assert!(logged.iter().any(there), "{kind} is empty");
    }
    places.extend(logged);
    assert!(collector.spans().len() > 100, "hardly anything was traced");
    places.push(("the traces".to_owned(), collector.bytes()));
    places.push(("standard error".to_owned(), http.server().stderr().into_bytes()));
    places.push(("standard output".to_owned(), http.server().stdout()));
    for (place, bytes) in &places {
        assert_no_canary(bytes, place);
        let text = String::from_utf8_lossy(bytes);
        for known in [&agent.key, &vault().root] {
            assert!(!text.contains(known.as_str()), "a credential stands in {place}");
        }
    }
    // What a trace may not tell besides: where below a mount a secret lies, and its keys.
    let traced = String::from_utf8_lossy(&collector.bytes()).into_owned();
    for word in ["app/n", "mcp/", "broken", "canaries", "plain"] {
        assert!(!traced.contains(word), "{word} stands in the traces");
    }
}
