//! Child tokens: what an agent's call sends to Vault carries a token of that agent's own and never the server's.

use std::{collections::HashSet, time::Duration};

use serde_json::{Value, json};

use super::{
    rig::{Agent, Http, assert_refused, keys_of},
    wire::Client,
};
use crate::common::{
    Answer, Era, Fault, On, PATIENCE, Proxy, Server, Vault, assert_refused as assert_tool_refused,
    audit_records, canary, proxy::Sent, vault, wait_until,
};

/// `docs/policies/{name}.hcl`.
pub(crate) fn policy(name: &str) -> String {
    let path = format!("{}/docs/policies/{name}.hcl", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

/// Writes the policy of each agent, as the documents have it for `alice`.
fn write_policies(vault: &Vault, agents: &[&Agent]) {
    for Agent { subject, .. } in agents {
        let text = policy("http-agent").replace("alice", subject);
        vault.put(&format!("sys/policies/acl/mcp-agent-{subject}"), json!({"policy": text})).ok();
    }
}

/// A server whose own token may make others and reaches no secret.
pub(crate) fn start(agents: &[&Agent], settings: &[(&str, &str)]) -> Http {
    write_policies(vault(), agents);
    let parent = vault().token(&policy("http-server"), "10m");
    let mut all = vec![("CHILD_TOKEN_ENABLED", "true"), ("VAULT_TOKEN", parent.as_str())];
    all.extend_from_slice(settings);
    Http::start(agents, &all)
}

fn token_of(request: &Sent) -> String {
    request.header("X-Vault-Token").unwrap_or_default().to_owned()
}

fn made(http: &Http) -> Vec<Sent> {
    let is_making = |request: &Sent| request.target.starts_with("/v1/auth/token/create");
    http.proxy.requests().into_iter().filter(is_making).collect()
}

/// The tokens that data requests carried since the first `skip` of them.
fn carried(http: &Http, skip: usize) -> HashSet<String> {
    http.proxy.data_requests().iter().skip(skip).map(token_of).collect()
}

/// The one token that data requests carried since the first `skip` of them.
#[track_caller]
fn the_token(http: &Http, skip: usize) -> String {
    let all: Vec<_> = carried(http, skip).into_iter().collect();
    assert_eq!(all.len(), 1, "several tokens for one agent");
    all.into_iter().next().unwrap()
}

fn is_alive(token: &str) -> bool {
    vault().call_as(token, "GET", "auth/token/lookup-self", None).status == 200
}

fn revoke(token: &str) {
    vault().put("auth/token/revoke", json!({"token": token})).ok();
}

#[test]
fn every_route_of_secrets_works_with_the_documented_policies_and_no_token_but_the_agents_own() {
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = start(&[&alice, &bob], &[]);
    let mut tokens = Vec::new();
    for agent in [&alice, &bob] {
        let before = http.proxy.data_requests().len();
        http.put(agent, "/secrets/app", json!({"data": {"a": "1"}})).ok();
        assert_eq!(http.get(agent, "/secrets/app").ok()["data"], json!({"a": "1"}));
        assert_eq!(http.get(agent, "/secrets").ok()["keys"], json!(["app"]));
        assert_eq!(http.delete(agent, "/secrets/app").status, 204);
        http.post(agent, "/secrets/app:undelete", json!({"versions": [1]})).ok();
        http.post(agent, "/secrets/app:destroy", json!({"versions": [1]})).ok();
        tokens.push(the_token(&http, before));
        http.proxy.data_requests().iter().skip(before).for_each(|request| {
            assert!(request.target.contains(&format!("/mcp/{}", agent.subject)), "{}", request.line());
        });
    }
    let parent = token_of(&made(&http)[0]);
    assert_ne!(tokens[0], tokens[1]);
    assert!(!tokens.contains(&parent), "the server's own token was used");
    // What the tokens are, Vault says.
    for (token, agent) in tokens.iter().zip([&alice, &bob]) {
        let info = vault().put("auth/token/lookup", json!({"token": token})).ok()["data"].clone();
        assert_eq!(info["policies"], json!(["default", format!("mcp-agent-{}", agent.subject)]));
        assert_eq!((&info["creation_ttl"], &info["orphan"]), (&json!(90), &json!(false)), "{info}");
        assert_eq!(info["display_name"], format!("token-vault-mcp-{}", agent.subject));
        assert_eq!(info["meta"], json!({"subject": agent.subject}));
    }
    // One agent's token opens nothing of the other's.
    vault().write_secret(&bob.subject, "app", json!({"a": canary("bob")}));
    let path = format!("secret/data/mcp/{}/app", bob.subject);
    assert_eq!(vault().call_as(&tokens[0], "GET", &path, None).status, 403);
    assert_eq!(vault().call_as(&tokens[1], "GET", &path, None).status, 200);
    assert_eq!(made(&http).len(), 2, "a token is kept between calls");
}

#[test]
fn where_no_token_can_be_made_the_call_fails_and_the_servers_own_is_not_used() {
    let agent = Agent::new();
    write_policies(vault(), &[&agent]);
    vault().write_secret(&agent.subject, "app", json!({"a": canary("child")}));
    let tree = policy("http-agent").replace("alice", &agent.subject);
    // Each of them could read the secret itself.
    for (rule, fault) in [
        ("", "may not make one"),
        ("path \"auth/token/create\" { capabilities = [\"update\"] }\n", "may not give the policy"),
        ("path \"auth/token/create\" { capabilities = [\"sudo\"] }\n", "may not make one"),
    ] {
        let parent = vault().token(&format!("{rule}{tree}"), "10m");
        let http = Http::start(&[&agent], &[("CHILD_TOKEN_ENABLED", "true"), ("VAULT_TOKEN", &parent)]);
        let value = json!({"data": {"a": canary("child")}});
        for (method, path, body) in [
            ("GET", "/secrets/app", None),
            ("GET", "/secrets", None),
            ("PUT", "/secrets/app", Some(value)),
            ("DELETE", "/secrets/app", None),
            ("GET", "/transit/random", None),
        ] {
            let reply = http.call(&agent, method, path, body);
            assert_refused(&reply, 503, "child_token");
            let detail = reply.body["detail"].as_str().unwrap();
            assert!(detail.contains(fault), "{detail}");
            let line = "path \"auth/token/create\" { capabilities = [\"update\", \"sudo\"] }";
            assert!(detail.contains(line), "{detail}");
        }
        assert!(http.proxy.data_requests().is_empty(), "the server's own token was used");
        let ready = http.bare("GET", "/readyz", &[], None);
        assert_eq!(ready.status, 503, "{}", ready.text);
        assert_eq!(ready.body["vault"]["detail"], "Vault token may not make child tokens");
    }
    assert_eq!(vault().version(&agent.subject, "app"), 1);
}

#[test]
fn a_server_that_can_make_tokens_is_ready_and_one_whose_own_is_revoked_is_not() {
    let agent = Agent::new();
    let http = start(&[&agent], &[]);
    let ready = || http.bare("GET", "/readyz", &[], None);
    assert_eq!(ready().ok()["vault"], json!({"ok": true, "detail": "ready"}));
    http.get(&agent, "/secrets").ok();
    revoke(&token_of(&made(&http)[0]));
    // What was found a moment ago is told again for a while.
    let down = wait_until("a server that is not ready", PATIENCE, || {
        Some(ready()).filter(|down| down.status != 200)
    });
    assert_eq!((down.status, &down.body["vault"]["detail"]), (503, &json!("Vault token unauthenticated")));
    // The agent's own ended with the one that made it.
    assert_refused(&http.get(&agent, "/secrets"), 503, "token_invalid");
}

#[test]
fn of_calls_at_the_same_time_one_asks_for_the_token() {
    let agent = Agent::new();
    let http = start(&[&agent], &[]);
    http.proxy.fail(On::target("auth/token/create").times(1), Fault::Delay(Duration::from_millis(300)));
    let door = http.door();
    std::thread::scope(|scope| {
        for _ in 0..12 {
            scope.spawn(|| door.call(&agent, "GET", "/secrets", None).ok());
        }
    });
    assert_eq!(made(&http).len(), 1);
    assert_eq!(carried(&http, 0).len(), 1);
}

#[test]
fn a_caller_that_goes_away_leaves_the_token_to_the_next() {
    use std::io::Write;
    let agent = Agent::new();
    let http = start(&[&agent], &[]);
    http.proxy.fail(On::target("auth/token/create").times(1), Fault::DelayAfter(Duration::from_millis(500)));
    let mut stream = std::net::TcpStream::connect(http.url.trim_start_matches("http://")).unwrap();
    write!(stream, "GET /secrets HTTP/1.1\r\nhost: x\r\nx-api-key: {}\r\n\r\n", agent.key).unwrap();
    http.proxy.wait_for("a token is asked for", |request| request.target.ends_with("auth/token/create"));
    drop(stream);
    http.get(&agent, "/secrets").ok();
    assert_eq!(made(&http).len(), 1, "the first was made and forgotten");
}

#[test]
fn a_token_is_made_anew_when_four_fifths_of_its_life_are_over() {
    let agent = Agent::new();
    let http = start(&[&agent], &[("CHILD_TOKEN_TTL", "5s")]);
    http.get(&agent, "/secrets").ok();
    let first = the_token(&http, 0);
    std::thread::sleep(Duration::from_millis(4_100));
    let before = http.proxy.data_requests().len();
    http.get(&agent, "/secrets").ok();
    assert_ne!(the_token(&http, before), first);
    assert_eq!(made(&http).len(), 2);
    assert_eq!(made(&http)[0].json()["ttl"], "5s");
}

#[test]
fn a_token_revoked_in_between_is_replaced_once_for_reads_and_costs_a_write_nothing_but_a_repeat() {
    let agent = Agent::new();
    let http = start(&[&agent], &[]);
    http.put(&agent, "/secrets/app", json!({"data": {"a": "1"}})).ok();
    revoke(&the_token(&http, 0));
    assert_eq!(http.get(&agent, "/secrets/app").ok()["data"], json!({"a": "1"}));
    assert_eq!(made(&http).len(), 2);
    let before = http.proxy.data_requests().len();
    http.get(&agent, "/secrets/app").ok();
    revoke(&the_token(&http, before));
    let write = || http.put(&agent, "/secrets/app", json!({"data": {"a": "2"}}));
    assert_refused(&write(), 503, "child_token_ended");
    assert_eq!(vault().version(&agent.subject, "app"), 1);
    write().ok();
    assert_eq!(vault().secret(&agent.subject, "app"), json!({"a": "2"}));
    assert_eq!(made(&http).len(), 3);
    // A Vault that takes none of them is asked twice and no more.
    let refused = "{\"errors\":[\"2 errors occurred:\\n\\t* permission denied\\n\\t* invalid token\\n\\n\"]}";
    http.proxy.fail(On::target("/data/"), Fault::Answer(403, refused.to_owned()));
    let before = http.proxy.data_requests().len();
    assert_refused(&http.get(&agent, "/secrets/app"), 503, "child_token_ended");
    assert_eq!(http.proxy.data_requests().len(), before + 2);
}

#[test]
fn what_stands_between_here_and_vault_is_named_as_it_is_and_passes() {
    let agent = Agent::new();
    let http = start(&[&agent], &[]);
    for (fault, status, code) in [
        (Fault::ResetBefore, 502, "vault_unreachable"),
        (Fault::Status(500), 502, "vault_unreachable"),
        (Fault::Answer(503, "{\"errors\":[\"Vault is sealed\"]}".to_owned()), 503, "vault_sealed"),
        (Fault::Body("{}".to_owned()), 502, "vault_answer"),
    ] {
        http.proxy.fail(On::target("auth/token/create").times(1), fault.clone());
        assert_refused(&http.put(&agent, "/secrets/app", json!({"data": {"a": "1"}})), status, code);
    }
    assert!(http.proxy.data_requests().is_empty());
    http.get(&agent, "/secrets").ok();
}

#[test]
fn a_token_with_more_policies_than_the_agents_own_is_given_back_unused() {
    let agent = Agent::new();
    let http = start(&[&agent], &[]);
    let policies = json!(["default", format!("mcp-agent-{}", agent.subject), "admins"]);
    let auth = json!({"client_token": "hvs.madeup", "lease_duration": 90, "policies": policies});
    let body = json!({"request_id": "x", "auth": auth}).to_string();
    http.proxy.fail(On::target("auth/token/create").times(1), Fault::Body(body));
    let reply = http.get(&agent, "/secrets");
    assert_refused(&reply, 503, "child_token");
    assert!(reply.body["detail"].as_str().unwrap().contains("\"admins\""), "{}", reply.text);
    assert!(http.proxy.data_requests().is_empty());
    let given_back = http.proxy.wait_for("its end", |sent| sent.target == "/v1/auth/token/revoke-self");
    assert_eq!(token_of(&given_back), "hvs.madeup");
}

/// A token takes over the identity of the token that made it, with that identity's policies.
#[test]
fn the_identity_of_the_servers_own_login_gives_agents_nothing() {
    if vault().is_embedded() {
        return; // it has no identities
    }
    let agent = Agent::new();
    write_policies(vault(), &[&agent]);
    let name = vault().fresh_subject();
    let rule = "path \"secret/*\" { capabilities = [\"read\", \"list\"] }";
    vault().put(&format!("sys/policies/acl/{name}"), json!({"policy": rule})).ok();
    let server = json!({"policy": policy("http-server")});
    vault().put(&format!("sys/policies/acl/{name}-server"), server).ok();
    vault().put(&format!("sys/auth/{name}"), json!({"type": "userpass"})).ok();
    let user = json!({"password": "sample", "token_policies": [format!("{name}-server")]});
    vault().put(&format!("auth/{name}/users/server"), user).ok();
    let entity = vault().put("identity/entity", json!({"name": name, "policies": [name]})).ok();
    let mount = vault().get("sys/auth").ok()["data"][format!("{name}/")]["accessor"].clone();
    let alias = json!({"name": "server", "canonical_id": entity["data"]["id"], "mount_accessor": mount});
    vault().put("identity/entity-alias", alias).ok();
    let login = vault().put(&format!("auth/{name}/login/server"), json!({"password": "sample"})).ok();
    let parent = login["auth"]["client_token"].as_str().unwrap();

    let settings = [("CHILD_TOKEN_ENABLED", "true"), ("VAULT_TOKEN", parent)];
    let http = Http::start(&[&agent], &settings);
    let reply = http.get(&agent, "/secrets");
    assert_refused(&reply, 503, "child_token");
    assert!(reply.body["detail"].as_str().unwrap().contains(&name), "{}", reply.text);
    assert!(http.proxy.data_requests().is_empty());

    // By a role of orphans there is no identity to take over.
    let role = json!({
        "allowed_policies_glob": ["mcp-agent-*"], "orphan": true, "renewable": true, "token_type": "service",
    });
    vault().put(&format!("auth/token/roles/{name}"), role).ok();
    let narrow = policy("http-server-role").replace("create/vault-mcp", &format!("create/{name}"));
    vault().put(&format!("sys/policies/acl/{name}-server"), json!({"policy": narrow})).ok();
    let settings = [settings[0], settings[1], ("CHILD_TOKEN_ROLE", name.as_str())];
    let http = Http::start(&[&agent], &settings);
    http.get(&agent, "/secrets").ok();
    assert!(made(&http)[0].target.ends_with(&format!("/create/{name}")));
    assert_eq!(http.bare("GET", "/readyz", &[], None).status, 200);
}

#[test]
fn what_is_leased_lasts_as_long_as_it_says_although_the_token_behind_it_is_short_lived() {
    let agent = Agent::new();
    let http = start(&[&agent], &[("CHILD_TOKEN_TTL", "20s")]);
    let lease = |seconds: u64| {
        let creds = json!({"username": "u", "password": canary("db")});
        json!({
            "request_id": "x", "lease_id": "database/creds/app/L", "lease_duration": seconds,
            "renewable": true, "data": creds,
        })
        .to_string()
    };
    let renewals = || {
        // The server renews its own as well.
        let own = token_of(&made(&http)[0]);
        let is_one = |sent: &Sent| sent.target == "/v1/auth/token/renew-self" && token_of(sent) != own;
        http.proxy.requests().into_iter().filter(is_one).collect::<Vec<_>>()
    };
    // Shorter than the token: nothing to do.
    http.proxy.fail(On::target("/v1/database/creds/").times(1), Fault::Body(lease(5)));
    assert_eq!(http.post(&agent, "/db/creds/app", json!({})).ok()["lease_duration"], 5);
    assert!(renewals().is_empty());
    http.proxy.fail(On::target("/v1/database/creds/").times(1), Fault::Body(lease(3600)));
    assert_eq!(http.post(&agent, "/db/creds/app", json!({})).ok()["lease_duration"], 3600);
    let child = the_token(&http, 0);
    assert_eq!(renewals().iter().map(token_of).collect::<Vec<_>>(), std::slice::from_ref(&child));
    let info = vault().put("auth/token/lookup", json!({"token": child})).ok();
    assert!(info["data"]["ttl"].as_u64().unwrap() > 3500, "{info}");
    // Where Vault does not let it last, the answer says how long the lease really does.
    http.proxy.fail(On::target("renew-self"), Fault::Status(500));
    http.proxy.fail(On::target("/v1/database/creds/").times(1), Fault::Body(lease(7200)));
    let seconds = http.post(&agent, "/db/creds/app", json!({})).ok()["lease_duration"].as_u64().unwrap();
    assert!((3500..=3600).contains(&seconds), "{seconds}");
}

#[test]
fn the_end_revokes_every_token_that_was_made() {
    let agents: Vec<_> = std::iter::repeat_with(Agent::new).take(20).collect();
    let agents: Vec<_> = agents.iter().collect();
    let mut http = start(&agents, &[]);
    for agent in &agents {
        http.get(agent, "/secrets").ok();
    }
    let tokens = carried(&http, 0);
    assert_eq!(tokens.len(), agents.len());
    assert!(tokens.iter().all(|token| is_alive(token)));
    let parent = token_of(&made(&http)[0]);
    http.server().signal(rustix::process::Signal::TERM);
    let status = http.server_mut().wait();
    assert!(status.success(), "{}", http.server().stderr());
    let left = tokens.iter().filter(|token| is_alive(token)).count();
    assert_eq!(left, 0, "tokens outlived the server");
    assert!(is_alive(&parent), "the server's own token is not the server's to end");
}

#[test]
fn a_vault_that_no_longer_answers_does_not_hold_up_the_end() {
    let agent = Agent::new();
    let mut http = start(&[&agent], &[]);
    http.get(&agent, "/secrets").ok();
    http.proxy.fail(On::every(), Fault::BlackHole);
    http.server().signal(rustix::process::Signal::TERM);
    // The end gives it a second and a half; a request by itself would have ten.
    assert!(http.server_mut().wait_within(Duration::from_secs(9)).success());
}

#[test]
fn on_stdio_a_log_out_ends_the_subjects_own_token_and_not_the_servers() {
    let agent = Agent::new();
    write_policies(vault(), &[&agent]);
    let parent = vault().token(&policy("http-server"), "10m");
    let proxy = Proxy::new(vault());
    let launch = Server::of(vault(), &agent.subject)
        .env("VAULT_ADDR", &proxy.address)
        .env("VAULT_TOKEN", &parent)
        .env("CHILD_TOKEN_ENABLED", "true");
    let client = launch.spawn().connect(Era::usual());
    client.always(Answer::yes());
    let status = client.call("vault_status", json!({})).ok().clone();
    assert!(status["policies"].as_array().unwrap().contains(&json!(format!("mcp-agent-{}", agent.subject))));
    assert!(status.get("seconds_left").is_none(), "it is made anew by itself: {status}");
    client.call("kv_write", json!({"path": "app", "data": {"a": "1"}})).ok();
    let carried: HashSet<_> = proxy.data_requests().iter().map(token_of).collect();
    let child = carried.into_iter().next().unwrap();
    assert!(child != parent && is_alive(&child));
    let out = client.call("vault_logout", json!({}));
    let told = out.ok()["clean_up"].to_string();
    assert!(told.contains("The next call gets a new one") && !told.contains("VAULT_TOKEN"), "{told}");
    assert!(!is_alive(&child) && is_alive(&parent));
    client.call("kv_read", json!({"path": "app"})).ok();
    let refused = client.call("kv_read", json!({"path": "app", "mount": "other"}));
    assert_tool_refused(&refused, "invalid_input");
}

#[test]
fn over_http_a_log_out_ends_the_callers_own_token_alone_and_a_log_in_asks_for_no_credential() {
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = start(&[&alice, &bob], &[]);
    for era in [Era::usual(), Era::stateless()] {
        let before = http.proxy.data_requests().len();
        let [of_alice, of_bob] = [&alice, &bob].map(|agent| Client::begin(&http, agent, era.clone()));
        of_alice.call("kv_list", json!({})).ok();
        let child = the_token(&http, before);
        let before = http.proxy.data_requests().len();
        of_bob.call("kv_list", json!({})).ok();
        let other = the_token(&http, before);
        let told = of_alice.call("vault_login", json!({})).ok()["instructions"].to_string();
        assert!(told.contains("your own credential") && !told.contains(&http.proxy.address), "{told}");

        // Not without a person's yes.
        of_alice.always(Answer::Decline);
        assert_tool_refused(&of_alice.call("vault_logout", json!({})), "declined");
        assert!(is_alive(&child));
        // A call that was declined is not asked about again at once: another agent's is.
        of_bob.always(Answer::yes());
        let out = of_bob.call("vault_logout", json!({}));
        assert!(out.ok()["clean_up"].to_string().contains("The next call gets a new one"), "{out:?}");
        assert!(!is_alive(&other) && is_alive(&child));
        let question = of_bob.asked().pop().unwrap();
        let question = question["message"].as_str().unwrap();
        assert!(question.starts_with("REVOKE auth/token/revoke-self"), "{question}");
        assert!(question.contains(&bob.subject), "{question}");

        // Whoever has logged out gets a new one with the next call, and the others keep theirs.
        let before = http.proxy.data_requests().len();
        of_bob.call("kv_list", json!({})).ok();
        let new = the_token(&http, before);
        assert!(new != other && is_alive(&new));
        let before = http.proxy.data_requests().len();
        of_alice.call("kv_list", json!({})).ok();
        assert_eq!(the_token(&http, before), child);
    }
    let parent = token_of(&made(&http)[0]);
    assert!(is_alive(&parent));
}

#[test]
fn over_http_without_child_tokens_there_is_nothing_to_log_out_of() {
    let (alice, bob) = (Agent::new(), Agent::new());
    let http = Http::start(&[&alice, &bob], &[]);
    for era in [Era::usual(), Era::stateless()] {
        let client = Client::begin(&http, &alice, era);
        let tools = client.request("tools/list", json!({})).unwrap();
        assert!(!tools.to_string().contains("vault_logout"));
        assert_tool_refused(&client.call("vault_logout", json!({})), "unknown_tool");
        client.call("vault_login", json!({})).ok();
    }
    http.get(&bob, "/secrets").ok();
    assert!(is_alive(&vault().root));
}

#[test]
fn settings_that_could_name_one_of_vaults_own_policies_are_refused() {
    for (name, value) in [
        ("CHILD_TOKEN_POLICY_PREFIX", "ro"),
        ("CHILD_TOKEN_POLICY_PREFIX", "Agent-"),
        ("CHILD_TOKEN_POLICY_PREFIX", "a/b-"),
        ("CHILD_TOKEN_TTL", "1s"),
        ("CHILD_TOKEN_TTL", "25h"),
        ("CHILD_TOKEN_TTL", "-5"),
        ("CHILD_TOKEN_ROLE", "../x"),
        ("CHILD_TOKEN_ROLE", "a/b"),
    ] {
        let run = Server::launch().env(name, value).args(["--http", "--port", "0"]).run("");
        assert!(!run.status.success() && run.stderr.contains(name), "{name}={value}: {}", run.stderr);
    }
}

/// Vault's own log of who sent what is the judge.
#[test]
fn vaults_own_audit_log_has_no_request_of_an_agent_under_the_servers_accessor() {
    let own = Vault::own();
    if own.is_embedded() {
        return; // it keeps no audit log
    }
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("vault-audit.log");
    own.put("sys/audit/file", json!({"type": "file", "options": {"file_path": log}})).ok();
    own.put("sys/mounts/transit", json!({"type": "transit"})).ok();
    own.put("transit/keys/k", json!({})).ok();
    let agents = [Agent::new(), Agent::new(), Agent::new()];
    let agents: Vec<_> = agents.iter().collect();
    for Agent { subject, .. } in &agents {
        let text = policy("http-agent").replace("alice", subject) + &policy("transit");
        own.put(&format!("sys/policies/acl/mcp-agent-{subject}"), json!({"policy": text})).ok();
    }
    let parent = own.token(&policy("http-server"), "10m");
    let accessor = own.put("auth/token/lookup", json!({"token": parent})).ok()["data"]["accessor"].clone();
    let launch = Server::launch()
        .env("VAULT_ADDR", &own.address)
        .env("VAULT_TOKEN", &parent)
        .env("CHILD_TOKEN_ENABLED", "true")
        .env("CHILD_TOKEN_TTL", "6s")
        .env("RATE_LIMIT_ENABLED", "false")
        .env("API_KEYS_JSON", keys_of(&agents));
    let mut http = Http::of(launch, Proxy::new(&own));
    let door = http.door();
    let otp = json!({"role": "r", "ip": "192.0.2.1", "username": "u"});
    // Refusals and what is not there as well.
    let calls = [
        ("PUT", "/secrets/app", Some(json!({"data": {"a": "1"}})), 200),
        ("GET", "/secrets/app", None, 200),
        ("GET", "/secrets", None, 200),
        ("GET", "/transit/random", None, 200),
        ("POST", "/transit/encrypt", Some(json!({"key": "k", "plaintext": "aGk="})), 200),
        ("GET", "/secrets/nothing", None, 404),
        ("POST", "/ssh/otp", Some(otp), 403),
    ];
    let all_calls = |agent: &Agent| {
        for (method, path, body, status) in &calls {
            let reply = door.call(agent, method, path, body.clone());
            assert_eq!(reply.status, *status, "{method} {path}: {}", reply.text);
        }
    };
    let round = || {
        std::thread::scope(|scope| {
            for agent in &agents {
                scope.spawn(|| all_calls(agent));
            }
        });
    };
    round();
    std::thread::sleep(Duration::from_secs(5)); // the tokens are made anew
    round();
    http.bare("GET", "/readyz", &[], None).ok();
    http.server().signal(rustix::process::Signal::TERM);
    assert!(http.server_mut().wait().success());

    let hashed = own.put("sys/audit-hash/file", json!({"input": accessor})).ok()["data"]["hash"].clone();
    let records = wait_until("Vault's log of the last requests", PATIENCE, || {
        let records = audit_records(&log);
        let revoked = records.iter().filter(|record| {
            record["type"] == "response" && record["request"]["path"] == "auth/token/revoke-self"
        });
        (revoked.count() >= agents.len()).then_some(records)
    });
    let requests: Vec<&Value> = records.iter().filter(|record| record["type"] == "request").collect();
    let path = |record: &Value| record["request"]["path"].as_str().unwrap_or_default().to_owned();
    let is_servers = |record: &&&Value| record["auth"]["accessor"] == hashed;
    let servers: HashSet<String> = requests.iter().filter(is_servers).map(|record| path(record)).collect();
    let housekeeping =
        ["auth/token/create", "auth/token/lookup-self", "auth/token/renew-self", "sys/capabilities-self"];
    assert!(servers.contains("auth/token/create"), "the accessor's hash is another: {servers:?}");
    assert!(servers.iter().all(|path| housekeeping.contains(&path.as_str())), "{servers:?}");
    for Agent { subject, .. } in &agents {
        let name = format!("token-vault-mcp-{subject}");
        let of_agent: Vec<_> =
            requests.iter().filter(|record| record["auth"]["display_name"] == name.as_str()).collect();
        let reads = of_agent.iter().filter(|record| path(record).starts_with("secret/")).count();
        assert!(reads >= 8, "{reads} requests of {subject} in Vault's log");
        for record in of_agent {
            let path = path(record);
            let foreign = path.contains("/mcp/") && !path.contains(&format!("/mcp/{subject}"));
            assert!(!foreign, "{subject} sent {path}");
            assert_ne!(record["auth"]["accessor"], hashed);
        }
    }
}
