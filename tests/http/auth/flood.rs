//! Whoever is refused again and again fills no disk and keeps nobody else out.

use serde_json::json;

use super::{super::rig::Agent, assert_let_in, call, talkative};
use crate::common::canary;

#[test]
fn a_flood_of_bad_credentials_is_counted_and_the_good_ones_pass() {
    let agent = Agent::new();
    let http = talkative(&[&agent], &[]);
    let before = http.records().len();
    let bad = canary("guess");
    let statuses: Vec<u16> = (0..600).map(|_| call(&http, &[("X-API-Key", &bad)]).status).collect();
    let turned_away = statuses.iter().filter(|status| **status == 401).count();
    let told_to_wait = statuses.iter().filter(|status| **status == 429).count();
    assert_eq!(turned_away + told_to_wait, 600);
    assert!(turned_away >= 100, "{turned_away}");
    assert!(told_to_wait > 0, "600 of them are no flood?");
    let waiting =
        (0..100).map(|_| call(&http, &[("X-API-Key", &bad)])).find(|reply| reply.status == 429).unwrap();
    assert_eq!(waiting.body, json!({"detail": "Rate limit exceeded", "error": "rate_limited"}));
    let seconds: u64 = waiting.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds), "{seconds}");

    let records = http.records();
    let refusals: Vec<_> =
        records[before..].iter().filter(|record| record["code"] == "unauthorized").collect();
    // One for each that was told alone, and one that says when the flood began, as often as it did.
    let onsets =
        refusals.iter().filter(|record| record["outcome"].as_str().unwrap().contains("that follow")).count();
    assert!(onsets >= 1);
    assert!(refusals.len() < 700, "{}", refusals.len());
    assert!(refusals.len() <= turned_away + onsets + 100, "{} {turned_away} {onsets}", refusals.len());

    assert_let_in(&http, &agent.subject, &[("X-API-Key", &agent.key)]);
    // Whoever has no credential yet learns how to get one.
    let reply = call(&http, &[]);
    assert_eq!((reply.status, reply.text.as_str()), (401, r#"{"detail":"Unauthorized"}"#));
    assert!(reply.header("www-authenticate").is_some());
    assert!(http.proxy.data_requests().is_empty());
    let metrics = http.get(&agent, "/metrics");
    assert!(metrics.text.contains("vault_mcp_auth_refusals_total{kind=\"api_key\"}"), "{}", metrics.text);
}
