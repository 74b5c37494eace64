//! The PKI engine.

use serde_json::{Value, json};

use super::{Step, delete, get, list, patch, post, step};

fn with(mut body: Value, field: &str, value: Value) -> Value {
    body[field] = value;
    body
}

fn before_an_authority() -> Vec<Step> {
    vec![
        post("sys/mounts/pk", json!({ "type": "pki" })),
        post("sys/mounts/pk2", json!({ "type": "pki", "options": { "version": "2" } })),
        get("sys/mounts/pk"),
        get("pk"),
        get("pk/none"),
        post("pk/none", json!({})),
        list("pk/none"),
        list("pk/roles"),
        get("pk/roles"),
        list("pk/certs"),
        get("pk/certs"),
        list("pk/certs/revoked"),
        get("pk/ca").token(""),
        get("pk/ca/pem").token(""),
        get("pk/ca_chain").token(""),
        get("pk/crl").token(""),
        get("pk/crl/pem").token(""),
        get("pk/cert/ca").token(""),
        get("pk/cert/ca_chain").token(""),
        get("pk/cert/crl").token(""),
        get("pk/cert/11:22").token(""),
        get("pk/cert/xyz").token(""),
        post("pk/ca", json!({})),
        post("pk/roles/x", json!({})),
        post("pk/roles/x", json!({ "issuer_ref": "none", "generate_lease": true })),
        post("pk/issue/x", json!({ "common_name": "a" })),
        post("pk/issue/none", json!({ "common_name": "a" })),
        post("pk/issue/-x", json!({})),
        get("pk/issue/x"),
        post("pk/revoke", json!({})),
        post("pk/revoke", json!({ "serial_number": "" })),
        post("pk/revoke", json!({ "serial_number": "11:22" })),
        post("pk/revoke", json!({ "serial_number": "11:22", "certificate": "x" })),
        get("pk/revoke"),
        post("pk/root/sign-intermediate", json!({ "csr": "x" })),
        post("pk/intermediate/set-signed", json!({})),
        post("pk/intermediate/set-signed", json!({ "certificate": "x" })),
        post("pk/intermediate/set-signed", json!({ "certificate": "x".repeat(100) })),
        get("pk/intermediate/set-signed"),
    ]
}

fn roots() -> Vec<Step> {
    let make = |body: Value| post("pk/root/generate/internal", body);
    vec![
        make(json!({ "key_type": "none" })),
        make(json!({ "key_type": "rsa", "key_bits": 1024 })),
        make(json!({ "key_type": "rsa", "key_bits": 2049 })),
        make(json!({ "key_type": "rsa", "signature_bits": 100 })),
        make(json!({ "key_type": "ec", "key_bits": 100 })),
        make(json!({ "key_type": "ec", "format": "none" })),
        make(json!({ "key_type": "ec", "ttl": "soon" })),
        make(
            json!({ "key_type": "ec", "common_name": "a", "ttl": "1h", "not_after": "2030-01-01T00:00:00Z" }),
        ),
        make(json!({ "key_type": "ec", "common_name": "a", "issuer_name": "default" })),
        make(json!({ "key_type": "ec", "common_name": "a", "issuer_name": "a b" })),
        make(json!({ "key_type": "ec", "common_name": "a", "issuer_name": " " })),
        make(json!({ "key_type": "ec", "common_name": "a", "key_name": "default" })),
        make(json!({ "key_type": "ec", "common_name": "a", "alt_names": "a..b" })),
        make(json!({ "key_type": "ec", "common_name": "a", "ip_sans": "x" })),
        post("pk/root/generate/none", json!({ "key_type": "ec" })),
        post("pk/root/generate", json!({ "key_type": "ec" })),
        get("pk/root/generate/internal"),
        make(json!({ "key_type": "ed25519", "common_name": "an authority", "ttl": "240h", "unknown": 1,
            "issuer_name": "first", "key_name": "its-key" }))
        .keep("root", "/data/certificate")
        .keep("root_serial", "/data/serial_number"),
        get("pk/ca").token(""),
        get("pk/ca/pem").token(""),
        get("pk/ca_chain").token(""),
        get("pk/crl").token(""),
        get("pk/crl/pem").token(""),
        get("pk/cert/ca").token(""),
        get("pk/cert/ca/raw").token(""),
        get("pk/cert/ca/raw/pem").token(""),
        get("pk/cert/ca_chain").token(""),
        get("pk/cert/crl").token(""),
        get("pk/crl/rotate"),
        get("pk/crl/rotate").token(""),
        list("pk/certs"),
        get("pk/cert/{root_serial}").token(""),
        get("pk/cert/{root_serial}/raw").token(""),
        get("pk/cert/{root_serial}/raw/pem").token(""),
        get("pk/cert/{root_serial}/none").token(""),
        post("pk/revoke", json!({ "serial_number": "{root_serial}" })),
        make(json!({ "key_type": "ec", "common_name": "a", "issuer_name": "first" })),
        make(json!({ "key_type": "ec", "common_name": "a", "key_name": "its-key" })),
        // A second one is not the default.
        post(
            "pk/root/generate/exported",
            json!({ "key_type": "ec", "key_bits": 384, "common_name": "b.example.com",
            "ttl": "99999h", "format": "pem_bundle", "organization": "Acme, Acme,More", "ou": ["x"], "country": "XX",
            "locality": "\u{e9}", "province": "p", "street_address": "s", "postal_code": 12345, "alt_names": "me@example.com,other.example.com", "ip_sans": "10.0.0.1",
            "max_path_length": 0, "issuer_name": "second", "key_usage": "DigitalSignature,KeyAgreement" }),
        ),
        post("pk/root/generate/exported", json!({ "key_type": "rsa", "common_name": "c", "format": "der" })),
        post(
            "pk/root/generate/exported",
            json!({ "key_type": "ec", "private_key_format": "pkcs8",
            "max_path_length": 1 }),
        ),
        get("pk/ca/pem").token(""),
    ]
}

fn roles() -> Vec<Step> {
    let role = |body: Value| post("pk/roles/x", body);
    let mut all = vec![
        role(json!({})),
        get("pk/roles/x"),
        role(json!({ "unknown": 1, "name": "y" })),
        role(json!({ "ttl": "2h", "max_ttl": "1h" })),
        role(json!({ "ttl": "soon" })),
        role(json!({ "allow_any_name": "perhaps" })),
        role(json!({ "key_type": "none" })),
        role(json!({ "key_type": "rsa", "key_bits": 1024 })),
        role(json!({ "key_type": "rsa", "key_bits": 2049 })),
        role(json!({ "key_type": "ec", "key_bits": 2048 })),
        role(json!({ "signature_bits": 100 })),
        role(json!({ "serial_number_source": "none" })),
        role(json!({ "ext_key_usage_oids": "x" })),
        role(json!({ "cn_validations": "none" })),
        role(json!({ "cn_validations": "email,Email" })),
        role(json!({ "cn_validations": ["disabled", "email"] })),
        role(json!({ "issuer_ref": "none" })),
        role(json!({ "no_store": true, "generate_lease": true })),
        role(
            json!({ "allow_wildcard_certificates": false, "allowed_domains": ["a", "b"], "ttl": 60, "key_type": "ec",
            "key_bits": 521, "signature_bits": 512, "not_before_duration": "1m", "cn_validations": "Hostname",
            "key_usage": [], "ext_key_usage": "TimeStamping", "ext_key_usage_oids": "1.2.3", "ou": "a,b",
            "issuer_ref": "first", "allowed_uri_sans": "spiffe://*", "require_cn": false, "max_ttl": "1h" }),
        ),
        get("pk/roles/x"),
        list("pk/roles"),
        list("pk/roles/"),
        delete("pk/roles/x"),
        get("pk/roles/x"),
        delete("pk/roles/none"),
        list("pk/roles/x"),
        patch("pk/roles/none", json!({})).status_only(),
        post("pk/roles/-x", json!({})),
        post("pk/roles/x@y", json!({})),
        post("pk/roles/x/y", json!({})),
    ];
    for kind in ["rsa", "ec", "ed25519", "any"] {
        all.push(post(
            &format!("pk/roles/{kind}"),
            json!({ "key_type": kind, "allow_any_name": true, "ttl": "1h" }),
        ));
    }
    all
}

fn issuing() -> Vec<Step> {
    let web = json!({ "allowed_domains": "example.com", "allow_subdomains": true, "key_type": "ec", "ttl": "24h",
        "max_ttl": "72h" });
    let issue = |role: &str, name: &str| post(&format!("pk/issue/{role}"), json!({ "common_name": name }));
    let more = |role: &str, body: Value| {
        post(&format!("pk/issue/{role}"), with(body, "common_name", json!("a.example.com")))
    };
    let mut all = vec![
        post("pk/roles/web", web.clone()),
        post("pk/roles/tame", with(web.clone(), "allow_wildcard_certificates", json!(false))),
        post("pk/roles/noip", with(web.clone(), "allow_ip_sans", json!(false))),
        post("pk/roles/bare", with(web.clone(), "allow_bare_domains", json!(true))),
        post("pk/roles/nolocal", with(web.clone(), "allow_localhost", json!(false))),
        post(
            "pk/roles/globs",
            json!({ "allowed_domains": "a*.example.com,*.example.org", "allow_glob_domains": true,
            "key_type": "ec", "ttl": "1h" }),
        ),
        post(
            "pk/roles/free",
            json!({ "allow_any_name": true, "enforce_hostnames": false, "key_type": "ec", "ttl": "1h",
            "require_cn": false, "cn_validations": "disabled", "ou": "a,b", "organization": "Acme" }),
        ),
        post(
            "pk/roles/mail",
            json!({ "allow_any_name": true, "cn_validations": "email", "key_type": "ec", "ttl": "1h",
            "email_protection_flag": true, "server_flag": false, "client_flag": false }),
        ),
        post(
            "pk/roles/me",
            json!({ "allow_token_displayname": true, "allow_subdomains": true, "key_type": "ec", "ttl": "1h" }),
        ),
        post(
            "pk/roles/odd",
            json!({ "allow_any_name": true, "key_type": "ec", "key_bits": 384, "key_usage": "CertSign, x", "ttl": "1h",
            "ext_key_usage": "OCSPSigning,Any", "ext_key_usage_oids": "1.2.3.4", "not_before_duration": "1h",
            "basic_constraints_valid_for_non_ca": true, "code_signing_flag": true, "no_store": true }),
        ),
        post(
            "pk/roles/nousage",
            json!({ "allow_any_name": true, "key_type": "ec", "key_usage": [], "server_flag": false,
            "client_flag": false, "ttl": "1h" }),
        ),
        post(
            "pk/roles/second",
            json!({ "allow_any_name": true, "key_type": "ec", "issuer_ref": "second", "ttl": "1h" }),
        ),
        post("pk/roles/lost", json!({ "allow_any_name": true, "key_type": "ec", "issuer_ref": "lost" })),
        post("pk/roles/leased", json!({ "allow_any_name": true, "key_type": "ec", "generate_lease": true })),
        post(
            "pk/roles/until",
            json!({ "allow_any_name": true, "key_type": "ec", "not_after": "2026-12-05T00:00:00Z" }),
        )
        .status_only(),
        post("pk/issue/web", json!({})),
        post("pk/issue/web", json!({ "common_name": "" })),
        post("pk/issue/free", json!({})),
        post("pk/issue/web", json!({ "common_name": ["a"] })),
        issue("lost", "a"),
        issue("any", "a"),
        issue("free", "not a host name"),
        issue("free", "a@b@c"),
        issue("mail", "me@example.com"),
        issue("mail", "a.example.com"),
        issue("me", "token"),
        issue("me", "a.token"),
        issue("me", "a.other"),
        issue("odd", "a.example.com"),
        issue("nousage", "a.example.com"),
        issue("second", "a.example.com"),
        issue("rsa", "a.example.com"),
        issue("ed25519", "a.example.com"),
        more("web", json!({ "unknown": 1 })),
        more("web", json!({ "alt_names": "b.example.com, c.example.com,b.example.com,,me@d.example.com" })),
        more("web", json!({ "alt_names": "evil.org" })),
        more("web", json!({ "alt_names": "me@evil.org" })),
        more("web", json!({ "alt_names": "not a host name" })),
        more("web", json!({ "exclude_cn_from_sans": true })),
        more("web", json!({ "ip_sans": "10.0.0.1,fd00::1" })),
        more("web", json!({ "ip_sans": ["10.0.0.1", "::ffff:10.0.0.2"] })),
        more("web", json!({ "ip_sans": "10.0.0.0/8" })),
        more("noip", json!({ "ip_sans": "10.0.0.1,10.0.0.2" })),
        more("web", json!({ "ttl": "1h" })),
        more("web", json!({ "ttl": "96h" })),
        more("web", json!({ "ttl": "-1h" })),
        more("web", json!({ "ttl": "soon" })),
        more("web", json!({ "ttl": "1h", "not_after": "2030-01-01T00:00:00Z" })),
        more("web", json!({ "not_after": "tomorrow" })),
        more("free", json!({ "not_after": "2100-01-01T00:00:00Z" })),
        more("free", json!({ "ttl": "500h" })),
        more("web", json!({ "format": "pem_bundle" })),
        more("web", json!({ "format": "der" })),
        more("web", json!({ "format": "none" })),
        more("web", json!({ "format": "" })),
        more("web", json!({ "private_key_format": "pkcs8" })),
        more("web", json!({ "private_key_format": "pkcs8", "format": "der" })),
        more("web", json!({ "remove_roots_from_chain": true })),
        more("rsa", json!({ "private_key_format": "pkcs8" })),
        more("web", json!({})).wrap("60s"),
        more("leased", json!({ "ttl": "1h" }))
            .keep("lease", "/lease_id")
            .keep("leased", "/data/serial_number"),
        post("sys/leases/lookup", json!({ "lease_id": "{lease}" })),
        post("sys/leases/revoke", json!({ "lease_id": "{lease}", "sync": true })),
        get("pk/cert/{leased}"),
        issue("until", "a").status_only(),
    ];
    for name in [
        "a.example.com",
        "A.Example.com",
        "example.com",
        "evil.org",
        "badexample.com",
        "example.com.evil.org",
        "a.b.example.com",
        "*.example.com",
        "*.a.example.com",
        "a*.example.com",
        "*a*.example.com",
        "a.*.example.com",
        "*",
        "localhost",
        "a.localhost",
        "*.localhost",
        "localdomain",
        "me@example.com",
        "me@a.example.com",
        "me@*.example.com",
        "a_b.example.com",
        "-a.example.com",
        "a..example.com",
        "a.example.com.",
        ".example.com",
        "a b.example.com",
        "abc.example.com",
        "x.y.example.org",
        "10.0.0.1",
    ] {
        for role in ["web", "bare", "tame", "globs", "nolocal"] {
            all.push(issue(role, name));
        }
    }
    all.push(issue("web", &format!("{}.example.com", "a".repeat(64))));
    all.push(issue("web", &format!("{}example.com", "a.".repeat(130))));
    all
}

fn revoking() -> Vec<Step> {
    let issue = || {
        post("pk/issue/web", json!({ "common_name": "a.example.com" })).keep("serial", "/data/serial_number")
    };
    vec![
        issue(),
        get("pk/cert/{serial}").token(""),
        get("pk/cert/{serial}/raw").token(""),
        get("pk/cert/{serial}/raw/pem").token(""),
        post("pk/revoke", json!({ "serial_number": "{serial}", "unknown": 1 })),
        post("pk/revoke", json!({ "serial_number": "{serial}" })),
        get("pk/cert/{serial}").token(""),
        get("pk/crl").token(""),
        get("pk/crl/pem").token(""),
        get("pk/cert/crl").token(""),
        list("pk/certs/revoked"),
        issue(),
        step("PUT", "pk/revoke").json(json!({ "serial_number": "{serial}" })),
        get("pk/crl/pem").token(""),
        get("pk/cert/99:99").token(""),
        get("pk/cert/99:99/raw").token(""),
    ]
}

fn intermediates() -> Vec<Step> {
    let make = |body: Value| post("im/intermediate/generate/internal", body);
    let sign = |body: Value| post("pk/root/sign-intermediate", body);
    vec![
        post("sys/mounts/im", json!({ "type": "pki" })),
        make(json!({ "key_type": "none" })),
        make(json!({ "key_type": "ec", "format": "none" })),
        make(json!({ "key_type": "ec", "common_name": "an issuer", "organization": "Acme", "unknown": 1,
            "alt_names": "im.example.com" }))
        .keep("csr", "/data/csr"),
        post("im/intermediate/generate/exported", json!({ "key_type": "ed25519", "common_name": "x" })),
        post("im/intermediate/generate/exported", json!({ "key_type": "ec", "format": "der" })),
        post(
            "im/intermediate/generate/exported",
            json!({ "key_type": "ec", "format": "pem_bundle", "key_bits": 521,
            "common_name": "y" }),
        ),
        post("im/intermediate/generate/none", json!({ "key_type": "ec" })),
        post("im/issue/x", json!({})),
        sign(json!({})),
        sign(json!({ "csr": "x" })),
        sign(json!({ "csr": "{root}" })).status_only(),
        sign(json!({ "csr": "{csr}", "format": "none" })),
        sign(json!({ "csr": "{csr}", "issuer_ref": "" })),
        sign(json!({ "csr": "{csr}", "issuer_ref": "none" })),
        sign(json!({ "csr": "{csr}", "ttl": "1h" })),
        sign(json!({ "csr": "{csr}", "ttl": "1h", "common_name": "another", "ou": "x", "max_path_length": 0,
            "alt_names": "a.example.com" })),
        sign(json!({ "csr": "{csr}", "ttl": "1h", "format": "der" })),
        sign(json!({ "csr": "{csr}", "ttl": "500h" })),
        sign(json!({ "csr": "{csr}", "ttl": "500h", "enforce_leaf_not_after_behavior": true })),
        sign(json!({ "csr": "{csr}", "ttl": "1h", "key_usage": "DigitalSignature,KeyAgreement,x" })),
        sign(json!({ "csr": "{csr}", "issuer_ref": "second", "ttl": "1h" })),
        sign(json!({ "csr": "{csr}", "ttl": "100h", "format": "pem_bundle", "unknown": 1 }))
            .keep("signed", "/data/certificate")
            .keep("above", "/data/issuing_ca"),
        post("im/intermediate/set-signed", json!({ "certificate": "{csr}" })),
        post("im/intermediate/set-signed", json!({ "certificate": "{signed}\n{above}", "unknown": 1 })),
        post("im/intermediate/set-signed", json!({ "certificate": "{signed}" })),
        get("im/ca/pem").token(""),
        get("im/ca_chain").token(""),
        get("im/cert/ca_chain").token(""),
        get("im/crl/pem").token(""),
        list("im/certs"),
        post(
            "im/roles/web",
            json!({ "allowed_domains": "example.com", "allow_subdomains": true, "key_type": "ec" }),
        ),
        post("im/issue/web", json!({ "common_name": "a.example.com", "ttl": "1h" }))
            .keep("leaf", "/data/certificate"),
        post(
            "im/issue/web",
            json!({ "common_name": "a.example.com", "ttl": "1h", "remove_roots_from_chain": true }),
        ),
        post("im/issue/web", json!({ "common_name": "a.example.com", "ttl": "1h", "format": "pem_bundle" })),
        post("im/intermediate/set-signed", json!({ "certificate": "{leaf}" })),
        post(
            "sys/policies/acl/ender",
            json!({ "policy": r#"path "pk/*" { capabilities = ["delete", "update"] }"# }),
        ),
        post(
            "sys/policies/acl/master",
            json!({ "policy": r#"path "pk/*" { capabilities = ["delete", "sudo"] }"# }),
        ),
        post("auth/token/create", json!({ "policies": ["ender"] })).keep("ender", "/auth/client_token"),
        post("auth/token/create", json!({ "policies": ["master"] })).keep("master", "/auth/client_token"),
        delete("pk/root").token("{ender}"),
        post("pk/issue/web", json!({ "common_name": "a.example.com" })).token("{ender}"),
        get("pk/roles/web").token("{ender}"),
        delete("pk/root").token("{master}"),
        get("pk/ca/pem").token(""),
        post("pk/issue/web", json!({ "common_name": "a.example.com" })),
        delete("sys/mounts/im"),
        delete("sys/mounts/pk"),
        get("pk/ca/pem").token(""),
    ]
}

pub(super) fn steps() -> Vec<Step> {
    let mut all = before_an_authority();
    all.extend(roots());
    all.extend(roles());
    all.extend(issuing());
    all.extend(revoking());
    all.extend(intermediates());
    all
}
