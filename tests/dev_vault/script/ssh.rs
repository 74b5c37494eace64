//! The SSH engine.

use serde_json::{Value, json};

use super::{Step, delete, get, list, patch, post, step};

const ED25519: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ a comment";
const P256: &str = "ecdsa-sha2-nistp256 AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBN8XaeZ3mVVAlydKS7hQ6TULPeU4QL16Zk/ilxad6m/8e+ojlRmJRszSqta0mkIoOAT7j9bqMkBTM1oysF5AKv4=";

fn mount() -> Vec<Step> {
    vec![
        post("sys/mounts/ss", json!({ "type": "ssh", "description": "doors" })),
        post("sys/mounts/ss2", json!({ "type": "ssh", "options": { "version": "2" } })),
        get("sys/mounts/ss"),
        get("sys/mounts/ss/tune"),
        post("sys/mounts/ss/tune", json!({ "max_lease_ttl": "soon" })),
        post("sys/mounts/ss/tune", json!({ "max_lease_ttl": "1h", "default_lease_ttl": "2h" })),
        post("sys/mounts/ss/tune", json!({ "max_lease_ttl": "24h", "default_lease_ttl": 7200 })),
        post("sys/mounts/ss/tune", json!({ "description": "more doors" })),
        get("sys/mounts/ss/tune"),
        get("sys/mounts/ss"),
        post("sys/mounts/none/tune", json!({ "max_lease_ttl": "1h" })),
        get("ss"),
        get("ss/none"),
        post("ss/none", json!({})),
        list("ss/none"),
    ]
}

fn authority() -> Vec<Step> {
    let configure = |body: Value| post("ss/config/ca", body);
    let mut all = vec![
        get("ss/config/ca"),
        get("ss/config/ca").token("hvs.unknown"),
        get("ss/public_key").token(""),
        get("ss/public_key"),
        post("ss/public_key", json!({})),
        list("ss/config/ca"),
        configure(json!({ "key_type": "none" })),
        configure(json!({ "key_type": "" })),
        configure(json!({ "key_type": "rsa", "key_bits": 1024 })),
        configure(json!({ "key_type": "ssh-rsa", "key_bits": "x" })),
        configure(json!({ "key_type": "ec", "key_bits": 100 })),
        configure(json!({ "generate_signing_key": false })),
        configure(json!({ "generate_signing_key": "perhaps" })),
        configure(json!({ "generate_signing_key": false, "public_key": ED25519 })),
        get("ss/config/ca"),
    ];
    for kind in ["rsa", "ec", "ecdsa-sha2-nistp384", "ecdsa-sha2-nistp521", "ssh-ed25519"] {
        let bits = if kind == "rsa" { 2048 } else { 0 };
        all.extend([
            configure(json!({ "key_type": kind, "key_bits": bits, "unknown": 1 })),
            get("ss/config/ca"),
            get("ss/public_key").token(""),
            configure(json!({ "key_type": kind })),
            delete("ss/config/ca"),
        ]);
    }
    all.push(get("ss/config/ca"));
    all
}

fn roles() -> Vec<Step> {
    let role = |body: Value| post("ss/roles/x", body);
    vec![
        list("ss/roles"),
        get("ss/roles"),
        get("ss/roles/none"),
        delete("ss/roles/none"),
        role(json!({})),
        role(json!({ "key_type": "" })),
        role(json!({ "key_type": "none" })),
        role(json!({ "key_type": "dynamic" })),
        role(json!({ "key_type": "otp" })),
        role(json!({ "key_type": "otp", "default_user": "a", "cidr_list": "10.0.0.0" })),
        role(json!({ "key_type": "otp", "default_user": "a", "cidr_list": "10.0.0.0/8,x/8" })),
        role(json!({ "key_type": "otp", "default_user": "a", "exclude_cidr_list": "10.0.0.0/33" })),
        role(json!({ "key_type": "otp", "default_user": "a", "port": "x" })),
        role(json!({ "key_type": "ca" })),
        role(json!({ "key_type": "ca", "allow_user_certificates": "perhaps" })),
        role(json!({ "key_type": "ca", "allow_user_certificates": true, "ttl": "2h", "max_ttl": "1h" })),
        role(json!({ "key_type": "ca", "allow_user_certificates": true, "ttl": "soon" })),
        role(json!({ "key_type": "ca", "allow_user_certificates": true, "algorithm_signer": "none" })),
        role(json!({ "key_type": "ca", "allow_user_certificates": true, "default_extensions": "x" })),
        role(json!({ "key_type": "ca", "allow_user_certificates": true,
            "allowed_user_key_lengths": { "rsa": "x" } })),
        get("ss/roles/x"),
        role(json!({ "key_type": "OTP", "default_user": "a", "cidr_list": "10.0.0.0/8", "unknown": 1 })),
        get("ss/roles/x"),
        role(json!({ "key_type": "otp", "default_user": "a", "cidr_list": "10.0.0.0/8, fd00::/8",
            "exclude_cidr_list": "10.1.0.0/16", "port": 2222, "allowed_users": "b,c", "ttl": "1h" })),
        get("ss/roles/x"),
        role(json!({ "key_type": "ca", "allow_user_certificates": true })),
        get("ss/roles/x"),
        role(json!({ "key_type": "ca", "allow_host_certificates": true, "allow_user_certificates": true,
            "ttl": "30m", "max_ttl": 3600, "allowed_users": "a, b", "default_user": "a",
            "allowed_domains": "example.com", "allow_subdomains": true, "allow_bare_domains": true,
            "default_extensions": { "permit-pty": "", "n": 5, "t": true, "l": [1, "b"], "z": null },
            "default_critical_options": { "force-command": "id" }, "allowed_extensions": "permit-pty",
            "allowed_critical_options": "force-command", "allow_user_key_ids": true,
            "key_id_format": "{{role_name}}", "algorithm_signer": "rsa-sha2-512",
            "allowed_user_key_lengths": { "rsa": 2048, "ec": [256, "384"], "ed25519": 0 },
            "not_before_duration": 60, "allow_empty_principals": true, "unknown": 1 })),
        get("ss/roles/x"),
        patch("ss/roles/x", json!({ "ttl": "1h" })),
        list("ss/roles"),
        list("ss/roles/"),
        list("ss/roles/x"),
        post("ss/roles/a@b.c", json!({ "key_type": "otp", "default_user": "a", "cidr_list": "::/0" })),
        get("ss/roles/a@b.c"),
        post("ss/roles/-a", json!({ "key_type": "otp", "default_user": "a" })),
        post("ss/roles/a.", json!({ "key_type": "otp", "default_user": "a" })),
        post("ss/roles/a/b", json!({ "key_type": "otp", "default_user": "a" })),
        list("ss/roles"),
        delete("ss/roles/x"),
        delete("ss/roles/a@b.c"),
        list("ss/roles"),
    ]
}

fn passwords() -> Vec<Step> {
    let issue = |body: Value| post("ss/creds/otp", body);
    vec![
        post(
            "ss/roles/otp",
            json!({ "key_type": "otp", "default_user": "ubuntu", "allowed_users": "ubuntu, root",
            "cidr_list": "127.0.0.0/8,fd00::/8", "exclude_cidr_list": "127.9.0.0/16", "port": 2222 }),
        ),
        post(
            "ss/roles/one",
            json!({ "key_type": "otp", "default_user": "ubuntu", "cidr_list": "0.0.0.0/0" }),
        ),
        post("ss/roles/all", json!({ "key_type": "otp", "default_user": "u", "allowed_users": "*" })),
        post(
            "ss/roles/ca",
            json!({ "key_type": "ca", "allow_user_certificates": true, "default_user": "u" }),
        ),
        post("ss/roles/noone", json!({ "key_type": "ca", "allow_user_certificates": true })),
        post("ss/creds/none", json!({ "ip": "127.0.0.1" })),
        post("ss/creds/none", json!({})),
        post("ss/creds/-x", json!({})),
        get("ss/creds/otp"),
        list("ss/creds/otp"),
        issue(json!({})),
        issue(json!({ "ip": "localhost" })),
        issue(json!({ "ip": "127.0.0.0/8" })),
        issue(json!({ "ip": "10.0.0.1" })),
        issue(json!({ "ip": "127.9.0.1" })),
        issue(json!({ "ip": "127.0.0.1", "username": "alice" })),
        post("ss/creds/one", json!({ "ip": "127.0.0.1", "username": "alice" })),
        post("ss/creds/all", json!({ "ip": "127.0.0.1" })),
        post("ss/creds/ca", json!({ "ip": "127.0.0.1" })),
        post("ss/creds/noone", json!({ "ip": "127.0.0.1" })),
        issue(json!({ "ip": "127.0.0.1" })).keep("otp", "/data/key"),
        post("ss/verify", json!({ "otp": "{otp}" })).token(""),
        post("ss/verify", json!({ "otp": "{otp}" })).token(""),
        post("ss/verify", json!({})).token(""),
        post("ss/verify", json!({ "otp": "verify-echo-request" })).token(""),
        get("ss/verify").token(""),
        issue(json!({ "ip": "fd00::1", "username": "root", "unknown": 1 })).keep("otp", "/data/key"),
        post("ss/verify", json!({ "otp": "{otp}", "unknown": 1 })).token(""),
        issue(json!({ "ip": "::ffff:127.0.0.1", "username": "" })).keep("otp", "/data/key"),
        post("ss/verify", json!({ "otp": "{otp}" })).token("hvs.unknown"),
        issue(json!({ "ip": "127.0.0.1" })).wrap("60s"),
        step("PUT", "ss/creds/one").json(json!({ "ip": "8.8.8.8" })),
        // Which roles are for an address.
        post("ss/lookup", json!({})),
        post("ss/lookup", json!({ "ip": "x" })),
        post("ss/lookup", json!({ "ip": "127.0.0.1" })),
        post("ss/lookup", json!({ "ip": "fd00::1" })),
        post("ss/lookup", json!({ "ip": "fe00::1" })),
        get("ss/lookup"),
        get("ss/config/zeroaddress"),
        post("ss/config/zeroaddress", json!({})),
        post("ss/config/zeroaddress", json!({ "roles": "none" })),
        post("ss/config/zeroaddress", json!({ "roles": "all" })),
        get("ss/config/zeroaddress"),
        post("ss/creds/all", json!({ "ip": "1.2.3.4", "username": "anybody" })),
        post("ss/lookup", json!({ "ip": "fe00::1" })),
        delete("ss/config/zeroaddress"),
        get("ss/config/zeroaddress"),
        post("ss/config/zeroaddress", json!({ "roles": ["all", "ca"] })),
        post("ss/creds/ca", json!({ "ip": "1.2.3.4" })),
        delete("ss/roles/all"),
        get("ss/config/zeroaddress"),
        delete("ss/config/zeroaddress"),
    ]
}

fn leases() -> Vec<Step> {
    let issue = || post("ss/creds/otp", json!({ "ip": "127.0.0.1" }));
    vec![
        issue().keep("lease", "/lease_id").keep("otp", "/data/key"),
        post("sys/leases/lookup", json!({ "lease_id": "{lease}" })),
        list("sys/leases/lookup/ss"),
        list("sys/leases/lookup/ss/creds/otp").status_only(),
        list("sys/leases/lookup/ss/creds"),
        list("sys/leases/lookup/nothing"),
        post("sys/leases/renew", json!({ "lease_id": "{lease}" })),
        post("sys/leases/renew/{lease}", json!({})),
        post("sys/leases/revoke", json!({ "lease_id": "{lease}", "sync": true })),
        post("sys/leases/lookup", json!({ "lease_id": "{lease}" })),
        post("sys/leases/renew", json!({ "lease_id": "{lease}" })),
        post("ss/verify", json!({ "otp": "{otp}" })).token(""),
        issue().keep("lease", "/lease_id").keep("otp", "/data/key"),
        step("PUT", "sys/leases/revoke-prefix/ss/creds/otp").json(json!({ "sync": true })),
        post("ss/verify", json!({ "otp": "{otp}" })).token(""),
        // With its token a lease ends too.
        post("auth/token/create", json!({ "policies": ["root"] })).keep("issuer", "/auth/client_token"),
        issue().token("{issuer}").keep("lease", "/lease_id").keep("otp", "/data/key"),
        post("auth/token/revoke-self", json!({})).token("{issuer}"),
        post("sys/leases/lookup", json!({ "lease_id": "{lease}" })),
        post("ss/verify", json!({ "otp": "{otp}" })).token(""),
    ]
}

fn certificates() -> Vec<Step> {
    let sign = |role: &str, body: Value| {
        let mut body = body;
        if body.get("public_key").is_none() {
            body["public_key"] = json!(ED25519);
        }
        post(&format!("ss/sign/{role}"), body)
    };
    let mut all = vec![
        post(
            "ss/roles/user",
            json!({ "key_type": "ca", "allow_user_certificates": true, "default_user": "alice",
            "allowed_users": "alice,bob", "ttl": "30m", "max_ttl": "1h", "default_extensions": { "permit-pty": "" } }),
        ),
        post(
            "ss/roles/any",
            json!({ "key_type": "ca", "allow_user_certificates": true, "allowed_users": "*",
            "allowed_extensions": "*", "allow_user_key_ids": true, "allow_empty_principals": true }),
        ),
        post(
            "ss/roles/some",
            json!({ "key_type": "ca", "allow_user_certificates": true, "allowed_users": "*",
            "allowed_extensions": "permit-pty,n", "allowed_critical_options": "force-command",
            "default_critical_options": { "source-address": "10.0.0.0/8" }, "key_id_format":
            "{{token_display_name}}.{{role_name}}.{{public_key_hash}}.{{other}}", "not_before_duration": "5m" }),
        ),
        post(
            "ss/roles/host",
            json!({ "key_type": "ca", "allow_host_certificates": true,
            "allowed_domains": "example.com,example.org", "allow_subdomains": true }),
        ),
        post(
            "ss/roles/bare",
            json!({ "key_type": "ca", "allow_host_certificates": true,
            "allowed_domains": "example.com", "allow_bare_domains": true }),
        ),
        post(
            "ss/roles/short",
            json!({ "key_type": "ca", "allow_user_certificates": true, "allowed_users": "*",
            "max_ttl": "10m", "allowed_user_key_lengths": { "rsa": [2048, 4096], "ec": [384] } }),
        ),
        post(
            "ss/roles/lengths",
            json!({ "key_type": "ca", "allow_user_certificates": true, "allowed_users": "*",
            "allowed_user_key_lengths": { "ed25519": 0, "ecdsa-sha2-nistp256": 0, "ecdsa-sha2-nistp384": [] } }),
        ),
        // Without a key to sign with.
        sign("user", json!({})),
        post("ss/config/ca", json!({ "key_type": "ed25519" })),
        get("ss/sign/user"),
        list("ss/sign/user"),
        sign("none", json!({})),
        sign("-none", json!({})),
        sign("otp", json!({ "valid_principals": "root" })),
        sign("user", json!({ "public_key": "" })),
        post("ss/sign/user", json!({})),
        sign("user", json!({ "public_key": "ssh-ed25519" })),
        sign("user", json!({ "public_key": "ssh-ed25519 AAAA" })),
        sign("user", json!({ "public_key": "ssh-ed25519 AA!A" })),
        sign("user", json!({ "public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3a" })),
        sign("user", json!({ "public_key": "ssh-ed25519 AAAABG5vbmUAAAAA" })),
        sign("user", json!({})),
        sign("user", json!({ "unknown": 1 })),
        sign("user", json!({ "valid_principals": "bob", "ttl": "1m" })),
        sign("user", json!({ "valid_principals": "bob, alice,,bob" })),
        sign("user", json!({ "valid_principals": "" })),
        sign("user", json!({ "valid_principals": "," })),
        sign("user", json!({ "valid_principals": "carol" })),
        sign("user", json!({ "valid_principals": "alice,carol" })),
        sign("user", json!({ "valid_principals": "*" })),
        sign("user", json!({ "ttl": "2h" })),
        sign("user", json!({ "ttl": 0 })),
        sign("user", json!({ "ttl": -1 })),
        sign("user", json!({ "ttl": "soon" })),
        sign("user", json!({ "cert_type": "host" })),
        sign("user", json!({ "cert_type": "both" })),
        sign("user", json!({ "cert_type": "" })),
        sign("user", json!({ "key_id": "me" })),
        sign("user", json!({ "extensions": { "permit-pty": "" } })),
        sign("user", json!({ "extensions": {} })),
        sign("user", json!({ "critical_options": { "force-command": "id" } })),
        sign("any", json!({})),
        sign("any", json!({ "valid_principals": "root,anybody", "key_id": "me", "ttl": "90d" })),
        sign("any", json!({ "valid_principals": "root", "extensions": { "a": "b", "n": 5 } })),
        sign("some", json!({ "valid_principals": "root" })),
        sign(
            "some",
            json!({ "valid_principals": "root", "extensions": { "n": 5 },
            "critical_options": { "force-command": "id" } }),
        ),
        sign("some", json!({ "valid_principals": "root", "extensions": { "other": "" } })),
        sign("some", json!({ "valid_principals": "root", "critical_options": { "other": "" } })),
        sign("host", json!({ "cert_type": "host", "valid_principals": "web.example.com,a.b.example.org" })),
        sign("host", json!({ "cert_type": "host", "valid_principals": "example.com" })),
        sign("host", json!({ "cert_type": "host", "valid_principals": "evilexample.com" })),
        sign("host", json!({ "cert_type": "host" })),
        sign("host", json!({})),
        sign("bare", json!({ "cert_type": "host", "valid_principals": "example.com" })),
        sign("bare", json!({ "cert_type": "host", "valid_principals": "a.example.com" })),
        sign("noone", json!({ "valid_principals": "root" })),
        sign("short", json!({ "valid_principals": "root" })),
        sign("short", json!({ "valid_principals": "root", "public_key": P256 })),
        sign("lengths", json!({ "valid_principals": "root" })),
        sign("lengths", json!({ "valid_principals": "root", "public_key": P256 })),
        sign("any", json!({ "valid_principals": "root", "public_key": P256 })),
        sign("user", json!({})).wrap("60s"),
    ];
    for kind in ["rsa", "ec", "ecdsa-sha2-nistp521"] {
        let bits = if kind == "rsa" { 2048 } else { 0 };
        all.extend([
            delete("ss/config/ca"),
            post("ss/config/ca", json!({ "key_type": kind, "key_bits": bits })),
            sign("user", json!({ "public_key": P256 })),
        ]);
    }
    all.extend([
        post(
            "ss/roles/sha512",
            json!({ "key_type": "ca", "allow_user_certificates": true, "allowed_users": "*",
            "algorithm_signer": "rsa-sha2-512" }),
        ),
        delete("ss/config/ca"),
        post("ss/config/ca", json!({ "key_type": "rsa", "key_bits": 2048 })),
        sign("sha512", json!({ "valid_principals": "root" })),
        post(
            "sys/policies/acl/signer",
            json!({ "policy": r#"path "ss/sign/user" { capabilities = ["update"] }"# }),
        ),
        post("auth/token/create", json!({ "policies": ["signer"], "display_name": "me" }))
            .keep("signer", "/auth/client_token"),
        sign("user", json!({})).token("{signer}"),
        sign("any", json!({})).token("{signer}"),
        get("ss/roles/user").token("{signer}"),
        sign("user", json!({})).token(""),
    ]);
    all
}

pub(super) fn steps() -> Vec<Step> {
    let mut all = mount();
    all.extend(authority());
    all.extend(roles());
    all.extend(passwords());
    all.extend(leases());
    all.extend(certificates());
    all.push(delete("sys/mounts/ss"));
    all
}
