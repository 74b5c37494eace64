//! The script of requests that the embedded dev Vault and a real Vault must answer alike.
//!
//! `{name}` in a path, header or body is replaced by what an earlier step kept from that server's answer.

mod pki;
mod ssh;
mod transit;

use serde_json::{Value, json};

use super::client::Ask;

/// One step.
pub(crate) struct Step {
    pub(crate) ask: Ask,
    /// Names to keep, each with the JSON pointer of its value in the answer.
    pub(crate) keep: Vec<(&'static str, &'static str)>,
    /// Only the status is compared: the text is the parser's own.
    pub(crate) status_only: bool,
}

impl Step {
    fn token(mut self, token: &str) -> Self {
        self.ask.headers.retain(|(name, _)| name != "X-Vault-Token");
        if !token.is_empty() {
            self.ask = self.ask.token(token);
        }
        self
    }

    fn json(mut self, body: Value) -> Self {
        self.ask = self.ask.json(body);
        self
    }

    fn raw(mut self, body: &str) -> Self {
        self.ask = self.ask.body(body.as_bytes());
        self
    }

    fn header(mut self, name: &str, value: &str) -> Self {
        self.ask = self.ask.header(name, value);
        self
    }

    fn patch(self) -> Self {
        self.header("Content-Type", "application/merge-patch+json")
    }

    fn wrap(self, ttl: &str) -> Self {
        self.header("X-Vault-Wrap-TTL", ttl)
    }

    fn keep(mut self, name: &'static str, pointer: &'static str) -> Self {
        self.keep.push((name, pointer));
        self
    }

    fn status_only(mut self) -> Self {
        self.status_only = true;
        self
    }
}

fn step(method: &str, path: &str) -> Step {
    Step { ask: Ask::new(method, &format!("/v1/{path}")).token("root"), keep: Vec::new(), status_only: false }
}

fn get(path: &str) -> Step {
    step("GET", path)
}

fn post(path: &str, body: Value) -> Step {
    step("POST", path).json(body)
}

fn list(path: &str) -> Step {
    step("LIST", path)
}

fn delete(path: &str) -> Step {
    step("DELETE", path)
}

fn patch(path: &str, body: Value) -> Step {
    step("PATCH", path).json(body).patch()
}

/// All steps, in order.
pub(crate) fn steps() -> Vec<Step> {
    let mut all = Vec::new();
    for part in [
        without_token(),
        kv2(),
        kv2_settings(),
        kv2_attacks(),
        kv1(),
        http(),
        mounts(),
        policies(),
        tokens(),
        wrapping(),
        logins(),
        leases(),
        transit::steps(),
        ssh::steps(),
        pki::steps(),
        seal(),
    ] {
        all.extend(part);
    }
    all
}

fn without_token() -> Vec<Step> {
    vec![
        get("sys/health"),
        get("sys/health").token(""),
        get("sys/health?activecode=299"),
        get("sys/health?activecode=x"),
        get("sys/health?standbyok=true"),
        get("sys/health?standbyok=perhaps"),
        step("HEAD", "sys/health"),
        post("sys/health", json!({})),
        get("sys/seal-status").token(""),
        post("sys/seal-status", json!({})),
        get("sys/init").token(""),
        get("sys/leader").token(""),
        get("sys/seal"),
        post("sys/unseal", json!({})),
        post("sys/unseal", json!({ "reset": true })),
        post("sys/unseal", json!({ "key": "not base64!" })),
        post("sys/unseal", json!({ "key": "AAAA" })),
        get("sys/unseal"),
        get("secret/data/a").token(""),
        get("secret/data/a").token("hvs.unknown"),
        get("nothing/at/all").token(""),
        get("nothing/at/all").token("hvs.unknown"),
        get("auth/token/lookup-self").token(""),
        get("auth/token/lookup-self").token("").header("Authorization", "Bearer root"),
        get("auth/token/lookup-self").token("").header("Authorization", "Basic root"),
        get("sys/internal/ui/mounts").token(""),
        get("sys/internal/ui/mounts/secret").token(""),
        post("sys/seal", json!({})).token(""),
        post("sys/seal", json!({})).token("hvs.unknown"),
    ]
}

fn kv2() -> Vec<Step> {
    let big = "x".repeat(5000);
    vec![
        get("secret/data/none"),
        list("secret/metadata/none"),
        list("secret/metadata"),
        get("secret/metadata/none"),
        delete("secret/data/none"),
        delete("secret/metadata/none"),
        post("secret/delete/none", json!({ "versions": [1] })),
        post("secret/undelete/none", json!({ "versions": [1] })),
        post("secret/destroy/none", json!({ "versions": [1] })),
        get("secret/subkeys/none"),
        patch("secret/data/none", json!({ "data": { "a": 1 } })),
        patch("secret/metadata/none", json!({ "max_versions": 3 })),
        // Writing and reading.
        post("secret/data/a", json!({ "data": { "s": "text", "n": 1, "f": 2.5, "t": true, "z": null, "l": [1, "b"], "o": { "x": { "y": 1 } } } })),
        get("secret/data/a"),
        get("secret/data/a?version=1"),
        get("secret/data/a?version=0"),
        get("secret/data/a?version=-1"),
        get("secret/data/a?version=2"),
        get("secret/data/a?version=x"),
        step("PUT", "secret/data/a").json(json!({ "data": { "s": "<&>\u{e9}\u{1f600}\u{2028}" } })),
        get("secret/data/a"),
        get("secret/data/a?version=1"),
        get("secret/metadata/a"),
        get("secret/subkeys/a?version=1"),
        get("secret/subkeys/a?version=1&depth=1"),
        get("secret/subkeys/a?version=1&depth=2"),
        get("secret/subkeys/a?depth=x"),
        // Check and set.
        post("secret/data/a", json!({ "data": { "a": 1 }, "options": { "cas": 1 } })),
        post("secret/data/a", json!({ "data": { "a": 1 }, "options": { "cas": "x" } })),
        post("secret/data/a", json!({ "data": { "a": 1 }, "options": { "cas": -1 } })),
        post("secret/data/a", json!({ "data": { "a": 1 }, "options": "x" })),
        post("secret/data/a", json!({ "data": { "a": 1 }, "options": { "cas": 2 } })),
        post("secret/data/a", json!({ "data": { "a": 1 }, "options": { "cas": "3" } })),
        post("secret/data/new", json!({ "data": { "a": 1 }, "options": { "cas": 1 } })),
        post("secret/data/new", json!({ "data": { "a": 1 }, "options": { "cas": 0 } })),
        post("secret/data/new", json!({ "data": { "a": 1 }, "options": { "cas": 0 } })),
        // Bodies.
        post("secret/data/b", json!({})),
        post("secret/data/b", json!({ "options": {} })),
        post("secret/data/b", json!({ "data": "x" })),
        post("secret/data/b", json!({ "data": [1] })),
        post("secret/data/b", json!({ "data": 5 })),
        step("POST", "secret/data/b"),
        step("POST", "secret/data/b").raw("null"),
        step("POST", "secret/data/b").raw("[1]"),
        step("POST", "secret/data/b").raw("\"x\""),
        step("POST", "secret/data/b").raw("garbage"),
        step("POST", "secret/data/b").raw("nonsense").status_only(),
        post("secret/data/b?x=1", json!({ "data": {}, "zeta": 1, "alpha": 2 })),
        post("secret/data/b", json!({ "data": [] })),
        post("secret/data/b", json!({ "data": [{ "a": 1 }] })).status_only(),
        get("secret/data/b?foo=1&version=1"),
        get("secret/data/none?foo=1"),
        list("secret/metadata?foo=1"),
        post("secret/destroy/b", json!({ "versions": [1, "x", 1.5, [2]], "foo": 1 })),
        step("POST", "secret/data/b").raw("{\"data\":{\"a\":"),
        step("POST", "secret/data/b").raw("{\"data\":{\"a\":1}} x"),
        step("POST", "secret/data/b").raw("{\"data\":{\"a\":1,\"a\":2}}"),
        step("POST", "secret/data/b").raw("{\"data\":{\"a\":1e999}}"),
        step("POST", "secret/data/b").raw("a=b").header("Content-Type", "application/x-www-form-urlencoded"),
        get("secret/data/b"),
        post("secret/data/b", json!({ "data": {} })),
        get("secret/data/b"),
        post("secret/data/b", json!({ "data": null })),
        get("secret/data/b"),
        get("secret/subkeys/b"),
        post("secret/data/big", json!({ "data": { "x": big } })),
        get("secret/data/big"),
        step("POST", "secret/data/numbers").raw(
            "{\"data\":{\"a\":9007199254740993,\"b\":9223372036854775807,\"c\":12345678901234567890,\"d\":1.50,\
             \"e\":1e21,\"f\":0.0000001,\"g\":-0,\"h\":1e5,\"i\":123456789012345678901234567890}}",
        ),
        get("secret/data/numbers"),
        // Patch.
        patch("secret/data/a", json!({ "data": { "b": "new" } })),
        get("secret/data/a"),
        patch("secret/data/a", json!({ "data": { "a": null, "o": { "p": { "q": 1 } }, "l": [1] } })),
        get("secret/data/a"),
        patch("secret/data/a", json!({ "data": { "o": { "p": { "q": null, "r": 2 } } }, "options": { "cas": 6 } })),
        get("secret/data/a"),
        patch("secret/data/a", json!({ "data": { "o": null }, "options": { "cas": 1 } })),
        patch("secret/data/a", json!({ "options": {} })),
        patch("secret/data/a", json!({ "data": "x" })),
        patch("secret/data/numbers", json!({ "data": { "new": 1 } })),
        get("secret/data/numbers"),
        step("PATCH", "secret/data/a").json(json!({ "data": {} })).header("Content-Type", "application/json"),
        step("PATCH", "secret/data/a").json(json!({ "data": {} })),
        // Soft deletion and destruction.
        delete("secret/data/a"),
        get("secret/data/a"),
        get("secret/data/a?version=1"),
        get("secret/subkeys/a"),
        patch("secret/data/a", json!({ "data": { "b": 1 } })),
        delete("secret/data/a"),
        post("secret/undelete/a", json!({ "versions": [7] })),
        get("secret/data/a"),
        post("secret/delete/a", json!({ "versions": ["1", 2, 99] })),
        get("secret/data/a?version=1"),
        post("secret/destroy/a", json!({ "versions": "2,3" })),
        get("secret/data/a?version=2"),
        post("secret/undelete/a", json!({ "versions": [1, 2] })),
        get("secret/data/a?version=1"),
        get("secret/data/a?version=2"),
        step("PUT", "secret/destroy/a").json(json!({ "versions": [7] })),
        get("secret/data/a"),
        patch("secret/data/a", json!({ "data": { "b": 1 } })),
        get("secret/metadata/a"),
        post("secret/delete/a", json!({})),
        post("secret/undelete/a", json!({ "versions": [] })),
        post("secret/destroy/a", json!({})),
        post("secret/destroy/a", json!({ "versions": ["x"] })),
        get("secret/delete/a"),
        delete("secret/destroy/a"),
        post("secret/data/a", json!({ "data": { "after": 1 } })),
        get("secret/data/a"),
        // Folders.
        post("secret/data/f/one", json!({ "data": { "a": 1 } })),
        post("secret/data/f/two/three", json!({ "data": { "a": 1 } })),
        post("secret/data/f", json!({ "data": { "a": 1 } })),
        list("secret/metadata"),
        list("secret/metadata/"),
        get("secret/metadata?list=true"),
        get("secret/metadata/f?list=true"),
        get("secret/metadata/f/?list=1"),
        get("secret/metadata/f?list=false"),
        get("secret/metadata/f?list=perhaps"),
        list("secret/metadata/f/two"),
        list("secret/metadata/f/one"),
        delete("secret/data/f/one"),
        list("secret/metadata/f?exclude_deleted=true"),
        delete("secret/metadata/f/one"),
        list("secret/metadata/f"),
        // Elsewhere on the mount.
        get("secret"),
        get("secret/"),
        get("secret/foo"),
        post("secret/foo", json!({ "a": 1 })),
        list("secret/foo"),
        delete("secret/foo"),
        patch("secret/foo", json!({})),
        get("secret/data"),
        get("secret/data/"),
        list("secret"),
        list("secret/data"),
        list("secret/data/f"),
        get("secret/metadata"),
        get("secret/metadata/"),
        get("secret/data/a/"),
        post("secret/data/a/", json!({ "data": {} })),
        post("secret/metadata/a/", json!({ "max_versions": 1 })),
        post("secret/subkeys/a", json!({})),
        patch("secret/data/a/", json!({ "data": {} })),
    ]
}

fn kv2_settings() -> Vec<Step> {
    let mut steps = vec![
        get("secret/config"),
        post("secret/metadata/m", json!({})),
        get("secret/metadata/m"),
        post(
            "secret/metadata/m",
            json!({ "max_versions": 2, "custom_metadata": { "owner": "me", "n": 5, "t": true } }),
        ),
        get("secret/metadata/m"),
        get("secret/data/m"),
        patch("secret/data/m", json!({ "data": {} })),
    ];
    for version in 1..=4 {
        steps.push(post("secret/data/m", json!({ "data": { "v": version } })));
    }
    steps.extend([
        get("secret/data/m?version=2"),
        get("secret/data/m?version=3"),
        get("secret/metadata/m"),
        post("secret/metadata/m", json!({ "cas_required": true })),
        post("secret/data/m", json!({ "data": { "v": 5 } })),
        patch("secret/data/m", json!({ "data": { "v": 5 } })),
        post("secret/data/m", json!({ "data": { "v": 5 }, "options": { "cas": 4 } })),
        patch(
            "secret/metadata/m",
            json!({ "custom_metadata": { "owner": null, "more": "x" }, "cas_required": false }),
        ),
        get("secret/metadata/m"),
        post("secret/metadata/m", json!({ "custom_metadata": {} })),
        get("secret/metadata/m"),
        post("secret/metadata/m", json!({ "custom_metadata": { "a": "" } })),
        post("secret/metadata/m", json!({ "custom_metadata": { "a": [1] } })),
        post("secret/metadata/m", json!({ "custom_metadata": "x" })),
        post("secret/metadata/m", json!({ "max_versions": "x" })),
        post("secret/metadata/m", json!({ "max_versions": 1.5 })),
        post("secret/metadata/m", json!({ "max_versions": [1] })),
        post("secret/metadata/m", json!({ "max_versions": true })),
        post("secret/metadata/m", json!({ "cas_required": "x" })),
        post("secret/metadata/m", json!({ "cas_required": [1] })),
        post("secret/metadata/m", json!({ "delete_version_after": [1] })),
        post("secret/metadata/m", json!({ "delete_version_after": -5 })),
        post("secret/metadata/m", json!({ "max_versions": 2, "custom_metadata": [{ "z": 1 }] })),
        get("secret/metadata/m"),
        post("secret/metadata/m", json!({ "delete_version_after": "3h25m19s" })),
        get("secret/metadata/m"),
        post("secret/metadata/m", json!({ "delete_version_after": "soon" })),
        post("secret/data/m", json!({ "data": { "v": 6 } })),
        post("secret/metadata/m", json!({ "delete_version_after": "0s", "max_versions": 0 })),
        post(
            "secret/config",
            json!({ "max_versions": 3, "cas_required": true, "delete_version_after": "1h" }),
        ),
        get("secret/config"),
        post("secret/data/c", json!({ "data": { "v": 1 } })),
        post("secret/data/c", json!({ "data": { "v": 1 }, "options": { "cas": 0 } })),
        post("secret/metadata/c", json!({ "cas_required": false })),
        patch("secret/metadata/c", json!({ "cas_required": false })),
        post(
            "secret/config",
            json!({ "max_versions": 0, "cas_required": false, "delete_version_after": "0s" }),
        ),
        get("secret/config"),
        post("secret/config", json!({})),
        delete("secret/config"),
        list("secret/config"),
        delete("secret/metadata/m"),
        get("secret/metadata/m"),
        get("secret/data/m"),
    ]);
    for version in 1..=12 {
        steps.push(post("secret/data/many", json!({ "data": { "v": version } })));
    }
    steps.extend([
        get("secret/data/many?version=2"),
        get("secret/data/many?version=3"),
        get("secret/metadata/many"),
    ]);
    steps
}

fn kv2_attacks() -> Vec<Step> {
    vec![
        get("secret/data/../data/a"),
        get("secret/data/./a"),
        get("secret/data//a"),
        get("secret//data/a?version=1"),
        get("secret/data/%2e%2e/a"),
        post("secret/data/%2e%2e/up", json!({ "data": { "a": 1 } })),
        get("secret/data/%2e%2e/up"),
        list("secret/metadata/%2e%2e"),
        list("secret/metadata"),
        get("secret/data/a%00b"),
        get("secret/data/a%0ab"),
        get("secret/data/a%7fb"),
        get("secret/data/a%E2%80%8Bb"),
        get("secret/data/a%E2%80%AEb"),
        get("secret/data/a%C2%A0b"),
        post("secret/data/%C3%A9%20%2B", json!({ "data": { "a": 1 } })),
        get("secret/data/%C3%A9%20%2B"),
        get("secret/data/%C3%A9%20+"),
        post("secret/data/x%2Fy", json!({ "data": { "a": 1 } })),
        get("secret/data/x/y"),
        get("secret/data/%252e"),
        get("secret/data/a%3Fversion=1"),
        get("secret/data/a%23"),
    ]
}

fn kv1() -> Vec<Step> {
    vec![
        post("sys/mounts/one", json!({ "type": "kv", "options": { "version": "1" } })),
        get("one/none"),
        list("one"),
        list("one/none"),
        get("one"),
        get("one/"),
        step("POST", "one/a").raw("{\"s\":\"x\",\"n\":12345678901234567890,\"e\":1e5,\"f\":1.50}"),
        get("one/a"),
        post("one/a", json!({})),
        step("POST", "one/a"),
        post("one/b/c", json!({ "ttl": "1h", "v": 1 })),
        get("one/b/c"),
        post("one/b/d", json!({ "ttl": "nonsense" })),
        get("one/b/d"),
        post("one/b/d", json!({ "lease": 30 })),
        get("one/b/d"),
        get("one?list=true"),
        list("one/b"),
        patch("one/a", json!({ "x": 1 })),
        post("one/a/", json!({ "x": 1 })),
        get("one/a?version=1"),
        delete("one/a"),
        delete("one/a"),
        get("one/a"),
        step("PUT", "one/data/a").json(json!({ "data": { "x": 1 } })),
        get("one/data/a"),
        list("one"),
    ]
}

fn http() -> Vec<Step> {
    vec![
        step("TRACE", "secret/data/a"),
        step("HEAD", "secret/data/a"),
        step("OPTIONS", "secret/data/a"),
        get(""),
        get("sys"),
        get("sys/unknown"),
        post("sys/unknown", json!({})),
        get("auth/token/unknown"),
        get("auth/token"),
        get("auth/none/login"),
        post("auth/none/login", json!({})),
        post("auth/none/login", json!({})).token(""),
        get("foo/bar"),
        post("foo/bar", json!({})),
        list("foo/bar"),
        delete("foo/bar"),
        get("sys/mounts").header("X-Vault-Request", "true"),
        get("secret/data/new").header("X-Vault-Namespace", "team"),
        get("sys/health").header("X-Vault-Namespace", "team"),
        Step { ask: Ask::new("GET", "/v1"), keep: Vec::new(), status_only: false },
        Step { ask: Ask::new("GET", "/v2/secret"), keep: Vec::new(), status_only: false },
        Step { ask: Ask::new("GET", "/"), keep: Vec::new(), status_only: false },
        Step { ask: Ask::new("GET", "//v1/secret"), keep: Vec::new(), status_only: false },
        get("identity/unknown"),
    ]
}

fn mounts() -> Vec<Step> {
    vec![
        get("sys/mounts"),
        get("sys/mounts/secret"),
        get("sys/mounts/secret/"),
        get("sys/mounts/none"),
        get("sys/mounts/secret/tune"),
        post("sys/mounts", json!({})),
        delete("sys/mounts"),
        patch("sys/mounts", json!({})),
        post("sys/mounts/x", json!({})),
        post("sys/mounts/x", json!({ "type": "no-such-engine" })),
        post("sys/mounts/x", json!({ "type": "kv", "options": { "version": "3" } })),
        post("sys/mounts/x", json!({ "type": "transit", "options": { "version": "2" } })),
        post("sys/mounts/sys", json!({ "type": "kv" })),
        post("sys/mounts/sys/x", json!({ "type": "kv" })),
        post("sys/mounts/auth/x", json!({ "type": "kv" })),
        post("sys/mounts/cubbyhole", json!({ "type": "kv" })),
        post("sys/mounts/secret", json!({ "type": "kv" })),
        post("sys/mounts/secret/deep", json!({ "type": "kv" })),
        post(
            "sys/mounts/deep/er",
            json!({ "type": "kv-v2", "description": "two", "config": { "default_lease_ttl": "1h", "max_lease_ttl": "2h" } }),
        ),
        post("sys/mounts/deep", json!({ "type": "kv" })),
        get("sys/mounts/deep/er"),
        get("sys/mounts/deep/er/tune"),
        post("deep/er/data/x", json!({ "data": { "a": 1 } })),
        get("deep/er/data/x"),
        get("deep/x"),
        post("sys/mounts/plain", json!({ "type": "kv" })),
        get("sys/mounts/plain"),
        get("sys/mounts/plain/tune"),
        delete("sys/mounts/plain"),
        delete("sys/mounts/plain"),
        delete("sys/mounts/deep/er"),
        get("deep/er/data/x"),
        delete("sys/mounts/sys"),
        delete("sys/mounts/cubbyhole"),
        get("sys/internal/ui/mounts"),
        get("sys/internal/ui/mounts/secret"),
        get("sys/internal/ui/mounts/secret/data/x"),
        get("sys/internal/ui/mounts/one/x"),
        get("sys/internal/ui/mounts/auth/token"),
        get("sys/internal/ui/mounts/none"),
        post("sys/internal/ui/mounts", json!({})),
        get("sys/internal/ui/mounts").token("hvs.unknown"),
        get("sys/internal/ui/resultant-acl"),
        get("sys/auth"),
        get("sys/auth/token"),
        get("sys/auth/none"),
        post("sys/auth/x", json!({ "type": "no-such-method" })),
        post("sys/auth/x", json!({})),
        post("sys/auth/token", json!({ "type": "token" })),
        delete("sys/auth/token"),
        delete("sys/auth/none"),
        get("sys/audit"),
    ]
}

const TEAM: &str = r#"
    path "secret/data/team/*" { capabilities = ["create", "read", "list"] }
    path "secret/data/team/private" { capabilities = ["deny"] }
    path "secret/data/+/shared" { capabilities = ["read", "update"] }
    path "secret/metadata/team/" { capabilities = ["list"] }
    path "secret/metadata/other" { capabilities = ["list"] }
    path "one/exact" { capabilities = ["update", "delete"] }
"#;

fn policies() -> Vec<Step> {
    vec![
        list("sys/policies/acl"),
        get("sys/policies/acl?list=true"),
        get("sys/policies/acl"),
        get("sys/policy"),
        list("sys/policy"),
        get("sys/policies/acl/none"),
        get("sys/policy/none"),
        get("sys/policies/acl/root"),
        get("sys/policies/acl/response-wrapping"),
        post("sys/policies/acl/p", json!({})),
        post("sys/policies/acl/p", json!({ "policy": "path" })).status_only(),
        post("sys/policies/acl/p", json!({ "policy": "path \"a\" { capabilities = [\"fly\"] }" })),
        post("sys/policies/acl/p", json!({ "policy": "path \"a\" { wings = 2 }" })).status_only(),
        post("sys/policies/acl/p", json!({ "policy": "path \"a+*\" { capabilities = [\"read\"] }" })),
        post("sys/policies/acl/p", json!({ "policy": "path \"a\" { policy = \"fly\" }" })),
        post("sys/policies/acl/root", json!({ "policy": "path \"a\" { capabilities = [\"read\"] }" })),
        delete("sys/policies/acl/root"),
        delete("sys/policies/acl/default"),
        delete("sys/policies/acl/response-wrapping"),
        delete("sys/policies/acl/none"),
        post("sys/policies/acl/Team", json!({ "policy": TEAM })),
        get("sys/policies/acl/team"),
        get("sys/policies/acl/TEAM"),
        get("sys/policy/team"),
        step("PUT", "sys/policy/old").json(json!({ "rules": "path \"one/*\" { policy = \"read\" }" })),
        get("sys/policy/old"),
        step("PUT", "sys/policies/acl/json").json(
            json!({ "policy": "{\"path\":{\"one/*\":{\"capabilities\":[\"list\"]},\"sys/mounts\":{\"capabilities\":[\"read\"]}}}" }),
        ),
        patch("sys/policies/acl/team", json!({})),
        list("sys/policies/acl"),
        // Enforced.
        post("secret/data/team/private", json!({ "data": { "a": 1 } })),
        post("secret/data/x/shared", json!({ "data": { "a": 1 } })),
        post("auth/token/create", json!({ "policies": ["team"], "ttl": "1h" })).keep("team", "/auth/client_token"),
        get("auth/token/lookup-self").token("{team}"),
        post("secret/data/team/a", json!({ "data": { "a": 1 } })).token("{team}"),
        post("secret/data/team/a", json!({ "data": { "a": 2 } })).token("{team}"),
        get("secret/data/team/a").token("{team}"),
        delete("secret/data/team/a").token("{team}"),
        patch("secret/data/team/a", json!({ "data": { "a": 2 } })).token("{team}"),
        get("secret/data/team/private").token("{team}"),
        get("secret/data/x/shared").token("{team}"),
        post("secret/data/x/shared", json!({ "data": { "a": 2 } })).token("{team}"),
        post("secret/data/y/shared", json!({ "data": { "a": 2 } })).token("{team}"),
        get("secret/data/x/other").token("{team}"),
        list("secret/metadata/team").token("{team}"),
        get("secret/metadata/team/?list=true").token("{team}"),
        list("secret/metadata/team/a").token("{team}"),
        list("secret/metadata/other").token("{team}"),
        list("secret/metadata/other/deep").token("{team}"),
        get("secret/metadata/team/a").token("{team}"),
        list("secret/data/team/x").token("{team}"),
        post("one/exact", json!({ "a": 1 })).token("{team}"),
        post("one/exact", json!({ "a": 1 })),
        post("one/exact", json!({ "a": 2 })).token("{team}"),
        delete("one/exact").token("{team}"),
        get("nothing/at/all").token("{team}"),
        get("sys/mounts").token("{team}"),
        get("sys/auth").token("{team}"),
        post("sys/seal", json!({})).token("{team}"),
        get("sys/internal/ui/mounts").token("{team}"),
        get("sys/internal/ui/mounts/secret").token("{team}"),
        get("sys/internal/ui/mounts/one/a").token("{team}"),
        get("sys/internal/ui/resultant-acl").status_only(),
        post("sys/capabilities-self", json!({ "paths": ["secret/data/team/a", "secret/data/team/private", "secret/data/x/shared", "secret/data/team/shared", "secret/metadata/team", "secret/metadata/team/", "one/exact", "sys/mounts", "auth/token/lookup-self", "cubbyhole/x", "/secret/data/team/a"] })).token("{team}"),
        post("sys/capabilities-self", json!({ "paths": "one/exact,sys/mounts" })).token("{team}"),
        post("sys/capabilities-self", json!({ "path": "one/exact" })).token("{team}"),
        post("sys/capabilities-self", json!({})).token("{team}"),
        get("sys/capabilities-self").token("{team}"),
        post("sys/capabilities-self", json!({ "path": "secret/data/a" })),
        post("sys/capabilities", json!({ "token": "{team}", "path": "one/exact" })),
        post("sys/capabilities", json!({ "token": "hvs.unknown", "path": "one/exact" })),
        post("sys/capabilities", json!({ "path": "one/exact" })),
        post("sys/capabilities", json!({ "token": "{team}", "path": "one/exact" })).token("{team}"),
        post("sys/capabilities-accessor", json!({ "accessor": "none", "path": "one/exact" })),
        post("auth/token/create", json!({ "policies": ["old", "json"] })).keep("both", "/auth/client_token"),
        post("sys/capabilities-self", json!({ "paths": ["one/x", "sys/mounts", "one"] })).token("{both}"),
        get("sys/mounts").token("{both}"),
        list("one").token("{both}"),
        get("one/data/a").token("{both}"),
        // A change counts at once.
        post("sys/policies/acl/old", json!({ "policy": "path \"one/*\" { capabilities = [\"deny\"] }" })),
        get("one/data/a").token("{both}"),
        delete("sys/policies/acl/old"),
        post("sys/capabilities-self", json!({ "paths": ["one/x", "sys/mounts"] })).token("{both}"),
        post("auth/token/create", json!({ "policies": ["old"] })),
    ]
}

fn tokens() -> Vec<Step> {
    vec![
        get("auth/token/lookup-self"),
        post("auth/token/lookup-self", json!({})),
        get("auth/token/lookup"),
        post("auth/token/lookup", json!({})),
        post("auth/token/lookup", json!({ "token": "hvs.unknown" })),
        post("auth/token/lookup-accessor", json!({})),
        post("auth/token/lookup-accessor", json!({ "accessor": "none" })),
        post("auth/token/revoke", json!({})),
        post("auth/token/revoke", json!({ "token": "hvs.unknown" })),
        post("auth/token/revoke-accessor", json!({ "accessor": "none" })),
        post("auth/token/revoke-orphan", json!({ "token": "hvs.unknown" })),
        post("auth/token/renew", json!({})),
        post("auth/token/renew", json!({ "token": "hvs.unknown" })),
        post("auth/token/renew-accessor", json!({ "accessor": "none" })),
        post("auth/token/renew-self", json!({})),
        get("auth/token/create"),
        delete("auth/token/lookup-self"),
        post("auth/token/create", json!({})).keep("root2", "/auth/client_token"),
        get("auth/token/lookup-self").token("{root2}"),
        post("auth/token/revoke-self", json!({})).token("{root2}"),
        get("auth/token/lookup-self").token("{root2}"),
        post("auth/token/create", json!({ "ttl": "soon" })),
        post("auth/token/create", json!({ "ttl": -5 })),
        post("auth/token/create", json!({ "period": "x", "policies": ["default"] })),
        post("auth/token/create", json!({ "explicit_max_ttl": "-1s", "policies": ["default"] })),
        post("auth/token/create", json!({ "num_uses": -1 })),
        post("auth/token/create", json!({ "num_uses": "x" })),
        post("auth/token/create", json!({ "renewable": "perhaps" })),
        post("auth/token/create", json!({ "type": "paper" })),
        post("auth/token/create", json!({ "policies": ["response-wrapping"] })),
        post("auth/token/create", json!({ "policies": ["root", "team"], "ttl": "10m" })),
        post("auth/token/create", json!({ "policies": "Team, team,default", "ttl": "10m", "meta": { "a": "b" }, "display_name": "my name!" })).keep("child", "/auth/client_token").keep("child_accessor", "/auth/accessor"),
        get("auth/token/lookup-self").token("{child}"),
        post("auth/token/lookup", json!({ "token": "{child}" })),
        get("auth/token/lookup?token={child}"),
        post("auth/token/lookup-accessor", json!({ "accessor": "{child_accessor}" })),
        post("auth/token/lookup", json!({ "token": "{child}" })).token("{child}"),
        post("auth/token/create", json!({})).token("{child}"),
        post("auth/token/renew-self", json!({})).token("{child}"),
        post("auth/token/renew-self", json!({ "increment": "20m" })).token("{child}"),
        post("auth/token/renew-self", json!({ "increment": 1200 })).token("{child}"),
        post("auth/token/renew-self", json!({ "increment": "-5" })).token("{child}"),
        post("auth/token/renew-self", json!({ "increment": "soon" })).token("{child}"),
        post("auth/token/renew", json!({ "token": "{child}", "increment": "30m" })),
        post("auth/token/renew-accessor", json!({ "accessor": "{child_accessor}" })),
        get("auth/token/lookup-self").token("{child}"),
        post("auth/token/create", json!({ "policies": ["default"], "ttl": "1000h" })),
        post("auth/token/create", json!({ "policies": ["default"], "ttl": "2h", "explicit_max_ttl": "1h30m" })).keep("max", "/auth/client_token"),
        get("auth/token/lookup-self").token("{max}"),
        post("auth/token/renew-self", json!({ "increment": "5h" })).token("{max}"),
        post("auth/token/create", json!({ "policies": ["default"], "period": "1h" })).keep("period", "/auth/client_token"),
        get("auth/token/lookup-self").token("{period}"),
        post("auth/token/renew-self", json!({ "increment": "5h" })).token("{period}"),
        post("auth/token/create", json!({ "policies": ["default"], "renewable": false, "no_default_policy": true })).keep("fixed", "/auth/client_token"),
        post("auth/token/renew", json!({ "token": "{fixed}" })),
        get("auth/token/lookup-self").token("{fixed}"),
        post("auth/token/create", json!({ "policies": ["team"], "no_default_policy": true })),
        post("auth/token/create", json!({ "id": "custom", "policies": ["default"] })),
        post("auth/token/create", json!({ "id": "custom", "policies": ["default"] })),
        get("auth/token/lookup-self").token("custom"),
        // Uses.
        post("auth/token/create", json!({ "policies": ["default"], "num_uses": 2 })).keep("two", "/auth/client_token"),
        get("auth/token/lookup-self").token("{two}"),
        get("auth/token/lookup-self").token("{two}"),
        get("auth/token/lookup-self").token("{two}"),
        post("auth/token/create", json!({ "policies": ["root"], "num_uses": 3 })).keep("few", "/auth/client_token"),
        post("auth/token/create", json!({})).token("{few}"),
        // Parents and orphans.
        post("sys/policies/acl/maker", json!({ "policy": "path \"auth/token/create\" { capabilities = [\"update\"] }\npath \"auth/token/create-orphan\" { capabilities = [\"update\", \"sudo\"] }" })),
        post("auth/token/create", json!({ "policies": ["maker", "team"], "ttl": "1h" })).keep("maker", "/auth/client_token"),
        post("auth/token/create", json!({ "policies": ["root"] })).token("{maker}"),
        post("auth/token/create", json!({ "policies": ["json"] })).token("{maker}"),
        post("auth/token/create", json!({ "policies": ["team"], "no_parent": true })).token("{maker}"),
        post("auth/token/create", json!({ "policies": ["team"], "period": "1h" })).token("{maker}"),
        post("auth/token/create", json!({ "policies": ["team"], "id": "mine" })).token("{maker}"),
        post("auth/token/create", json!({ "policies": ["team"] })).token("{maker}").keep("made", "/auth/client_token"),
        post("auth/token/create", json!({})).token("{maker}"),
        post("auth/token/create-orphan", json!({ "policies": ["team"] })).token("{maker}").keep("orphan", "/auth/client_token"),
        get("auth/token/lookup-self").token("{orphan}"),
        post("auth/token/create", json!({ "policies": ["default"], "no_parent": true })),
        post("auth/token/revoke", json!({ "token": "{maker}" })),
        get("auth/token/lookup-self").token("{made}"),
        get("auth/token/lookup-self").token("{orphan}"),
        post("auth/token/revoke-orphan", json!({ "token": "{orphan}" })),
        post("auth/token/revoke-orphan", json!({ "token": "{orphan}" })).token("{child}"),
        post("auth/token/revoke-accessor", json!({ "accessor": "{child_accessor}" })),
        get("auth/token/lookup-self").token("{child}"),
        list("auth/token/accessors").token("{period}"),
        list("auth/token/accessors").status_only(),
        get("auth/token/accessors"),
        // A cubbyhole is the token's own.
        post("cubbyhole/x", json!({ "a": 1 })).token("{period}"),
        get("cubbyhole/x").token("{period}"),
        get("cubbyhole/x"),
        list("cubbyhole").token("{period}"),
        list("cubbyhole/none").token("{period}"),
        get("cubbyhole/none").token("{period}"),
        post("cubbyhole/x", json!({})).token("{period}"),
        delete("cubbyhole/x").token("{period}"),
        patch("cubbyhole/x", json!({})).token("{period}"),
    ]
}

fn wrapping() -> Vec<Step> {
    vec![
        post("secret/data/w", json!({ "data": { "a": "b" } })),
        get("secret/data/w").wrap("60").keep("w1", "/wrap_info/token"),
        post("sys/wrapping/lookup", json!({ "token": "{w1}" })),
        post("sys/wrapping/lookup", json!({ "token": "{w1}" })).token(""),
        get("sys/wrapping/lookup").token("{w1}"),
        post("sys/wrapping/unwrap", json!({ "token": "{w1}" })).token(""),
        post("sys/wrapping/unwrap", json!({ "token": "{w1}" })),
        post("sys/wrapping/unwrap", json!({ "token": "{w1}" })),
        post("sys/wrapping/lookup", json!({ "token": "{w1}" })),
        get("secret/data/w").wrap("1m").keep("w2", "/wrap_info/token"),
        post("sys/wrapping/unwrap", json!({})).token("{w2}"),
        post("sys/wrapping/unwrap", json!({})).token("{w2}"),
        get("secret/data/w").wrap("1m").keep("w3", "/wrap_info/token"),
        post("auth/token/lookup", json!({ "token": "{w3}" })),
        post("sys/wrapping/rewrap", json!({ "token": "{w3}" })).keep("w4", "/wrap_info/token"),
        post("sys/wrapping/unwrap", json!({ "token": "{w3}" })),
        post("sys/wrapping/lookup", json!({ "token": "{w4}" })),
        post("sys/wrapping/unwrap", json!({ "token": "{w4}" })),
        get("secret/data/w").wrap("1m").keep("w5", "/wrap_info/token"),
        get("secret/data/w").token("{w5}"),
        post("sys/wrapping/unwrap", json!({ "token": "{w5}" })),
        post("sys/wrapping/unwrap", json!({})),
        post("sys/wrapping/unwrap", json!({ "token": "" })),
        post("sys/wrapping/unwrap", json!({ "token": "hvs.unknown" })),
        post("sys/wrapping/unwrap", json!({ "token": "root" })),
        post("sys/wrapping/unwrap", json!({ "token": 5 })),
        post("sys/wrapping/wrap", json!({ "a": 1 })),
        post("sys/wrapping/wrap", json!({ "a": 1, "n": 12345678901234567890_u64 }))
            .wrap("5m")
            .keep("w6", "/wrap_info/token"),
        post("sys/wrapping/unwrap", json!({ "token": "{w6}" })),
        get("secret/data/none").wrap("60"),
        list("secret/metadata/none").wrap("60"),
        list("secret/metadata").wrap("60").keep("w7", "/wrap_info/token"),
        post("sys/wrapping/unwrap", json!({ "token": "{w7}" })),
        get("secret/data/w").wrap("soon"),
        get("secret/data/w").wrap("-5"),
        get("secret/data/w").wrap("0"),
        delete("secret/data/w").wrap("60"),
        get("secret/data/w").wrap("60").keep("w8", "/wrap_info/token"),
        post("sys/wrapping/unwrap", json!({ "token": "{w8}" })),
        post("auth/token/create", json!({ "policies": ["default"], "ttl": "1h" }))
            .wrap("60")
            .keep("w9", "/wrap_info/token"),
        post("sys/wrapping/unwrap", json!({ "token": "{w9}" })).keep("inner", "/auth/client_token"),
        get("auth/token/lookup-self").token("{inner}"),
        get("secret/data/w").wrap("60").token("{inner}"),
        get("secret/foo").wrap("60").status_only(),
    ]
}

fn logins() -> Vec<Step> {
    vec![
        post("auth/approle/login", json!({ "role_id": "x" })).token(""),
        post("sys/auth/approle", json!({ "type": "approle", "description": "robots" })),
        post("sys/auth/approle", json!({ "type": "approle" })),
        get("sys/auth/approle"),
        get("sys/auth/approle/tune"),
        list("auth/approle/role"),
        get("auth/approle/role/none"),
        get("auth/approle/role/none/role-id"),
        post("auth/approle/role/none/secret-id", json!({})),
        post(
            "auth/approle/role/R1",
            json!({ "token_policies": "team,Default", "token_ttl": "10m", "token_max_ttl": "1h", "secret_id_num_uses": 3, "role_id": "fixed-role-id" }),
        ),
        get("auth/approle/role/r1"),
        list("auth/approle/role"),
        get("auth/approle/role/r1/role-id"),
        post("auth/approle/role/r1", json!({ "token_ttl": "5m" })),
        get("auth/approle/role/r1"),
        post("auth/approle/role/r1", json!({ "token_ttl": "5h" })),
        post("auth/approle/role/r1", json!({ "token_ttl": "soon" })),
        post("auth/approle/role/r1/secret-id", json!({ "num_uses": 9 })),
        post(
            "auth/approle/role/r1/secret-id",
            json!({ "num_uses": 2, "ttl": "10m", "metadata": "{\"team\":\"a\"}" }),
        )
        .keep("sid", "/data/secret_id")
        .keep("sid_accessor", "/data/secret_id_accessor"),
        post("auth/approle/role/r1/secret-id/lookup", json!({ "secret_id": "{sid}" })),
        post("auth/approle/role/r1/secret-id/lookup", json!({ "secret_id": "none" })),
        post(
            "auth/approle/role/r1/secret-id-accessor/lookup",
            json!({ "secret_id_accessor": "{sid_accessor}" }),
        ),
        list("auth/approle/role/r1/secret-id"),
        post("auth/approle/login", json!({})).token(""),
        post("auth/approle/login", json!({ "role_id": "fixed-role-id" })).token(""),
        post("auth/approle/login", json!({ "role_id": "none", "secret_id": "{sid}" })).token(""),
        post("auth/approle/login", json!({ "role_id": "fixed-role-id", "secret_id": "none" })).token(""),
        post("auth/approle/login", json!({ "role_id": "fixed-role-id", "secret_id": "{sid}" }))
            .token("")
            .keep("robot", "/auth/client_token"),
        get("auth/token/lookup-self").token("{robot}"),
        post("auth/token/renew-self", json!({})).token("{robot}"),
        post("auth/token/renew-self", json!({ "increment": "30m" })).token("{robot}"),
        post("secret/data/team/robot", json!({ "data": { "a": 1 } })).token("{robot}"),
        get("secret/metadata/team/robot"),
        post("auth/approle/login", json!({ "role_id": "fixed-role-id", "secret_id": "{sid}" }))
            .token("hvs.unknown"),
        post("auth/approle/login", json!({ "role_id": "fixed-role-id", "secret_id": "{sid}" })).token(""),
        post("auth/approle/role/r1/custom-secret-id", json!({ "secret_id": "chosen" })),
        post("auth/approle/role/r1/secret-id", json!({})).wrap("60").keep("wsid", "/wrap_info/token"),
        post("sys/wrapping/unwrap", json!({ "token": "{wsid}" })),
        post("auth/approle/role/r1/secret-id/destroy", json!({ "secret_id": "chosen" })),
        post("auth/approle/login", json!({ "role_id": "fixed-role-id", "secret_id": "chosen" })).token(""),
        delete("auth/approle/role/r1"),
        delete("auth/approle/role/r1"),
        list("auth/approle/role"),
        // Users.
        post("sys/auth/userpass", json!({ "type": "userpass" })),
        list("auth/userpass/users"),
        post("auth/userpass/users/Ann", json!({})),
        post(
            "auth/userpass/users/Ann",
            json!({ "password": "pw", "token_policies": ["team"], "token_ttl": "5m" }),
        ),
        get("auth/userpass/users/ann"),
        get("auth/userpass/users/none"),
        list("auth/userpass/users"),
        post("auth/userpass/login/ann", json!({ "password": "pw" }))
            .token("")
            .keep("ann", "/auth/client_token"),
        post("auth/userpass/login/ANN", json!({ "password": "pw" })).token(""),
        get("auth/token/lookup-self").token("{ann}"),
        post("auth/userpass/login/ann", json!({ "password": "no" })).token(""),
        post("auth/userpass/login/none", json!({ "password": "no" })).token(""),
        post("auth/userpass/login/ann", json!({})).token(""),
        post("auth/userpass/users/ann/password", json!({ "password": "pw2" })),
        post("auth/userpass/login/ann", json!({ "password": "pw" })).token(""),
        post("auth/userpass/login/ann", json!({ "password": "pw2" }))
            .token("")
            .wrap("60")
            .keep("wann", "/wrap_info/token"),
        post("sys/wrapping/unwrap", json!({ "token": "{wann}" })),
        post("auth/userpass/users/ann/policies", json!({ "token_policies": "json" })),
        get("auth/userpass/users/ann"),
        delete("auth/userpass/users/ann"),
        delete("auth/userpass/users/ann"),
        post("auth/userpass/login/ann", json!({ "password": "pw2" })).token(""),
        delete("sys/auth/userpass"),
        post("auth/userpass/login/ann", json!({ "password": "pw2" })).token(""),
        get("auth/userpass/users/ann"),
    ]
}

fn seal() -> Vec<Step> {
    vec![
        post("secret/data/kept", json!({ "data": { "a": 1 } })),
        post("auth/token/create", json!({ "policies": ["default"], "ttl": "1h" }))
            .keep("survivor", "/auth/client_token"),
        post(
            "sys/policies/acl/sealer",
            json!({ "policy": "path \"sys/seal\" { capabilities = [\"update\", \"sudo\"] }" }),
        ),
        post("auth/token/create", json!({ "policies": ["sealer"], "ttl": "1h" }))
            .keep("sealer", "/auth/client_token"),
        post("sys/seal", json!({})).token("{survivor}"),
        step("PUT", "sys/seal").token("{sealer}"),
        get("sys/health"),
        get("sys/health?sealedcode=200"),
        get("sys/health?standbyok=true"),
        step("HEAD", "sys/health"),
        get("sys/seal-status"),
        get("sys/init"),
        get("secret/data/kept"),
        get("nothing/at/all").token(""),
        post("auth/token/create", json!({})),
        get("auth/token/lookup-self").token("hvs.unknown"),
        post("sys/wrapping/unwrap", json!({ "token": "x" })),
        get("sys/internal/ui/mounts").token(""),
        step("PATCH", "secret/data/kept").json(json!({})),
        step("POST", "secret/data/kept").raw("{"),
        post("sys/seal", json!({})),
        post("sys/unseal", json!({})),
        post("sys/unseal", json!({ "reset": true })),
        post("sys/unseal", json!({ "key": "AAAA" })),
        post("sys/unseal", json!({ "key": "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=" })),
        post("sys/unseal", json!({ "key": "00" })),
        step("POST", "sys/unseal").raw("{"),
        step("PUT", "sys/unseal").json(json!({ "key": "{unseal_key}" })).token(""),
        step("PUT", "sys/unseal").json(json!({ "key": "{unseal_key}" })),
        get("sys/health"),
        get("secret/data/kept"),
        get("auth/token/lookup-self").token("{survivor}"),
    ]
}

fn leases() -> Vec<Step> {
    vec![
        post("sys/leases/lookup", json!({})),
        post("sys/leases/lookup", json!({ "lease_id": "none" })),
        get("sys/leases/lookup"),
        post("sys/leases/renew", json!({})),
        post("sys/leases/renew", json!({ "lease_id": "none" })),
        post("sys/leases/revoke", json!({})),
        post("sys/leases/revoke", json!({ "lease_id": "none" })),
        post("sys/leases/renew/none", json!({})),
        post("sys/renew/none", json!({})),
        post("sys/revoke/none", json!({})),
        step("PUT", "sys/leases/revoke-prefix/none"),
        get("sys/leases/unknown"),
    ]
}
