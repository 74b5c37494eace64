//! Identity headers of TLS proxies.

use serde_json::json;

use super::{super::rig::Agent, assert_let_in, assert_turned_away, call, talkative};
use crate::common::vault;

const NAME: &str = "X-SSL-Client-S-DN";
const VERIFY: &str = "X-SSL-Client-Verify";

#[test]
fn a_trusted_proxy_names_the_caller_by_its_certificate() {
    let http = talkative(&[], &[("AUTH_MTLS_ENABLED", "true")]);
    let subject = vault().fresh_subject();
    for name in [
        format!("CN={subject}"),
        format!("CN={subject},OU=agents,O=Example,C=DE"),
        format!("emailAddress=a@example.com,CN={subject},O=x\\, y"),
        format!("O=x+CN={subject}"),
        format!("O=CN=admin,CN={subject}"),
        format!("O=x\\,CN\\=admin,CN={subject}"),
    ] {
        assert_let_in(&http, &subject, &[(NAME, &name), (VERIFY, "SUCCESS")]);
    }
    let name = format!("CN={subject}");
    let headers = [(NAME, name.as_str()), (VERIFY, "SUCCESS")];
    let written = http.bare("PUT", "/secrets/app", &headers, Some(r#"{"data": {"a": "1"}}"#));
    assert_eq!(written.status, 200, "{}", written.text);
    assert_eq!(vault().secret(&subject, "app"), json!({"a": "1"}));
}

#[test]
fn a_name_that_is_not_clear_or_not_verified_is_nobodys() {
    let http = talkative(&[], &[("AUTH_MTLS_ENABLED", "true")]);
    let none = "a certificate that names nobody";
    let two = "a certificate that names two";
    let no_name = "an identity header that is no name";
    let no_subject = "a certificate whose name is no subject of ours";
    for (name, why) in [
        ("CN=alice,CN=admin", two),
        ("CN=alice,OU=x,CN=alice", two),
        ("CN=alice+CN=admin", two),
        ("CN=alice,2.5.4.3=admin", two),
        ("CN=alice,commonname=admin", two),
        ("O=CN=admin", none),
        ("O=x/CN=admin", none),
        ("UID=alice", none),
        ("O=CN=admin,CN=Alice", no_subject),
        ("CN=alice\\,O=x", no_subject),
        ("CN=alice\\00", no_subject),
        ("CN=alice\\20", no_subject),
        ("CN=*", no_subject),
        ("CN=\\+", no_subject),
        ("CN=a\\,b", no_subject),
        ("CN=a/b", no_subject),
        ("CN=Alice", no_subject),
        ("CN=../bob", no_subject),
        ("CN=", no_subject),
        ("CN=#0c05616c696365", "a certificate whose name is no text"),
        ("/CN=alice", no_name),
        ("/C=DE/CN=alice", no_name),
        ("alice", no_name),
        ("CN=alice;CN=admin", no_name),
        ("CN=\"alice\"", no_name),
        ("CN=alice\\", no_name),
        ("CN=alice,", no_name),
    ] {
        assert_turned_away(&http, &[(NAME, name), (VERIFY, "SUCCESS")], why);
    }
    let not_good = "a certificate that the proxy did not find good";
    for verify in
        ["FAILED:certificate has expired", "FAILED", "NONE", "success", "SUCCESS ok", "", "1", "GENEROUS"]
    {
        assert_turned_away(&http, &[(NAME, "CN=alice"), (VERIFY, verify)], not_good);
    }
    assert_turned_away(
        &http,
        &[(NAME, "CN=alice")],
        "an identity header without one that says it was verified",
    );
    assert_turned_away(&http, &[(VERIFY, "SUCCESS")], "a certificate that was verified and names nobody");
    assert_turned_away(&http, &[(VERIFY, "FAILED:x")], "a certificate that was verified and names nobody");
    let twice = "an identity header that stands there twice";
    assert_turned_away(&http, &[(NAME, "CN=alice"), (NAME, "CN=alice"), (VERIFY, "SUCCESS")], twice);
    assert_turned_away(&http, &[(NAME, "CN=alice"), (VERIFY, "SUCCESS"), (VERIFY, "SUCCESS")], twice);
    assert_turned_away(&http, &[(NAME, "CN=alice"), (VERIFY, "FAILED"), (VERIFY, "SUCCESS")], twice);
}

#[test]
fn a_caller_without_a_certificate_behind_the_proxy_may_have_a_key() {
    let agent = Agent::new();
    let http = talkative(&[&agent], &[("AUTH_MTLS_ENABLED", "true")]);
    assert_let_in(&http, &agent.subject, &[("X-API-Key", &agent.key), (VERIFY, "NONE")]);
    assert_turned_away(&http, &[(VERIFY, "NONE")], "no credential");
}

#[test]
fn identity_headers_of_anybody_else_are_refused_even_beside_a_good_key() {
    let agent = Agent::new();
    let settings = [("AUTH_MTLS_ENABLED", "true"), ("MTLS_TRUSTED_PROXIES", "10.0.0.0/8,::1")];
    let http = talkative(&[&agent], &settings);
    let why = "identity headers from a peer that is no trusted proxy";
    let name = format!("CN={}", agent.subject);
    assert_turned_away(&http, &[(NAME, &name), (VERIFY, "SUCCESS")], why);
    assert_turned_away(&http, &[("X-API-Key", &agent.key), (NAME, &name), (VERIFY, "SUCCESS")], why);
    assert_turned_away(&http, &[("X-API-Key", &agent.key), (VERIFY, "NONE")], why);
    // A peer is who the connection comes from, not who a header says.
    for (header, value) in
        [("X-Forwarded-For", "10.0.0.1"), ("X-Real-IP", "10.0.0.1"), ("Forwarded", "for=10.0.0.1")]
    {
        assert_turned_away(&http, &[(NAME, &name), (VERIFY, "SUCCESS"), (header, value)], why);
    }
    assert_let_in(&http, &agent.subject, &[("X-API-Key", &agent.key)]);
}

#[test]
fn identity_headers_mean_nothing_where_they_are_switched_off() {
    let agent = Agent::new();
    let http = talkative(&[&agent], &[]);
    assert_turned_away(&http, &[(NAME, "CN=alice"), (VERIFY, "SUCCESS")], "no credential");
    let headers = [("X-API-Key", agent.key.as_str()), (NAME, "CN=alice"), (VERIFY, "SUCCESS")];
    assert_eq!(call(&http, &headers).status, 200);
    assert_let_in(&http, &agent.subject, &headers);
}

#[test]
fn the_names_of_headers_and_attribute_are_the_settings() {
    let settings = [
        ("AUTH_MTLS_ENABLED", "true"),
        ("MTLS_IDENTITY_HEADER", "X-Client-DN"),
        ("MTLS_VERIFY_HEADER", "X-Client-Verified"),
        ("MTLS_SUBJECT_CN_PREFIX", "UID=agent-"),
    ];
    let http = talkative(&[], &settings);
    let verified = ("X-Client-Verified", "SUCCESS");
    assert_let_in(&http, "alice", &[("X-Client-DN", "UID=agent-alice,CN=Alice"), verified]);
    let other = "a certificate of another kind of name";
    assert_turned_away(&http, &[("X-Client-DN", "UID=alice"), verified], other);
    assert_turned_away(&http, &[(NAME, "CN=alice"), (VERIFY, "SUCCESS")], "no credential");
    for (name, value) in
        [("MTLS_SUBJECT_CN_PREFIX", "mail="), ("MTLS_TRUSTED_PROXIES", "10.0.0.0/8,localhost")]
    {
        let launch = crate::common::Server::launch().env("AUTH_MTLS_ENABLED", "true").env(name, value);
        let run = launch.args(["--http", "--port", "0"]).run("");
        assert!(run.stderr.contains(&format!("config_invalid: {name}: ")), "{}", run.stderr);
    }
}
