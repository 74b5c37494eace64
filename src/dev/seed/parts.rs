//! The parts of the sample content, one function each.

use http::Method;
use serde_json::{Value, json};

use super::{AppRoleLogin, PolicyToken, Report, Seed, SeedError, Server, UserpassLogin, data, text};

/// Sample secrets: two versions of one, a nested folder, a soft-deleted one, one with other types.
pub(super) async fn kv2(server: &Server<'_>, what: &Seed, report: &mut Report) -> Result<(), SeedError> {
    let Seed { mount, prefix, subject, .. } = what;
    server
        .mount(
            &format!("sys/mounts/{mount}"),
            json!({ "type": "kv", "description": "sample secrets", "options": { "version": "2" } }),
        )
        .await?;
    let first = json!({
        "DB_HOST": "db.example.test",
        "DB_PORT": "5432",
        "DB_USER": "myapp",
        "DB_PASSWORD": "sample-only-first-password",
        "API_KEY": "sample-only-api-key-0001",
    });
    let second = json!({
        "DB_HOST": "db.example.test",
        "DB_PORT": "5432",
        "DB_USER": "myapp",
        "DB_PASSWORD": "sample-only-second-password",
        "API_KEY": "sample-only-api-key-0001",
        "LOG_LEVEL": "info",
    });
    let secrets = [
        ("myapp", vec![first, second], json!({ "owner": "sample", "stage": "dev" })),
        (
            "webshop",
            vec![
                json!({ "STRIPE_KEY": "sample-only-not-a-stripe-key", "SESSION_SECRET": "sample-only-session" }),
            ],
            Value::Null,
        ),
        (
            "team/ci/deploy",
            vec![json!({ "REGISTRY_USER": "ci", "REGISTRY_TOKEN": "sample-only-registry-token" })],
            Value::Null,
        ),
        (
            "team/ci/typed",
            vec![
                json!({ "retries": 3, "ratio": 0.5, "on": true, "hosts": ["a.test", "b.test"], "none": null }),
            ],
            Value::Null,
        ),
        ("retired", vec![json!({ "OLD_TOKEN": "sample-only-old-token" })], Value::Null),
    ];
    for (name, versions, metadata) in secrets {
        let path = format!("{prefix}/{subject}/{name}");
        for version in versions {
            server.post(&format!("{mount}/data/{path}"), data(version)).await?;
        }
        if !metadata.is_null() {
            server.post(&format!("{mount}/metadata/{path}"), json!({ "custom_metadata": metadata })).await?;
        }
        report.secrets.push(format!("{mount}/{path}"));
    }
    // Soft-deleted: it can be undeleted, and a read says that it is gone.
    server.send(Method::DELETE, &format!("{mount}/data/{prefix}/{subject}/retired"), &Value::Null).await?;
    Ok(())
}

/// A mount of version 1 with one secret.
pub(super) async fn kv1(server: &Server<'_>, what: &Seed, report: &mut Report) -> Result<(), SeedError> {
    let Seed { mount_v1, prefix, subject, .. } = what;
    server
        .mount(
            &format!("sys/mounts/{mount_v1}"),
            json!({ "type": "kv", "description": "sample secrets, version 1", "options": { "version": "1" } }),
        )
        .await?;
    let path = format!("{mount_v1}/{prefix}/{subject}/legacy");
    server.post(&path, json!({ "LEGACY_TOKEN": "sample-only-legacy-token" })).await?;
    report.secrets.push(path);
    Ok(())
}

/// One key to encrypt with, one to sign with.
pub(super) async fn transit(server: &Server<'_>, what: &Seed, report: &mut Report) -> Result<(), SeedError> {
    let mount = &what.transit;
    let body = json!({ "type": "transit", "description": "sample keys" });
    server.mount(&format!("sys/mounts/{mount}"), body).await?;
    for (name, kind) in [("k", "aes256-gcm96"), ("signing", "ed25519")] {
        server.post(&format!("{mount}/keys/{name}"), json!({ "type": kind })).await?;
        report.transit_keys.push(format!("{mount}/{name}"));
    }
    Ok(())
}

/// An authority for certificates with a role for it, and a role for one-time passwords.
pub(super) async fn ssh(server: &Server<'_>, what: &Seed, report: &mut Report) -> Result<(), SeedError> {
    let mount = &what.ssh;
    let body = json!({ "type": "ssh", "description": "sample doors" });
    server.mount(&format!("sys/mounts/{mount}"), body).await?;
    // Ed25519 is made in no time, where Vault's own choice, RSA with 4096 bits, takes a second.
    let authority = json!({ "key_type": "ed25519" });
    server.once_only(&format!("{mount}/config/ca"), authority, "already configured").await?;
    let certificates = json!({
        "key_type": "ca",
        "allow_user_certificates": true,
        "default_user": "ubuntu",
        "allowed_users": "ubuntu,deploy",
        "default_extensions": { "permit-pty": "" },
        "ttl": "30m",
        "max_ttl": "8h",
    });
    let passwords = json!({
        "key_type": "otp",
        "default_user": "ubuntu",
        "allowed_users": "ubuntu,deploy",
        "cidr_list": "127.0.0.0/8,10.0.0.0/8",
    });
    for (role, body) in [("user", certificates), ("otp", passwords)] {
        server.post(&format!("{mount}/roles/{role}"), body).await?;
        report.ssh_roles.push(format!("{mount}/{role}"));
    }
    Ok(())
}

/// A root and a role for names below `example.test`.
pub(super) async fn pki(server: &Server<'_>, what: &Seed, report: &mut Report) -> Result<(), SeedError> {
    let mount = &what.pki;
    let config = json!({ "max_lease_ttl": "8760h" });
    let body = json!({ "type": "pki", "description": "sample certificates", "config": config });
    server.mount(&format!("sys/mounts/{mount}"), body).await?;
    // Ed25519 as above: nothing is made at start that takes time. Certificates have keys that everybody reads.
    let root = json!({
        "common_name": "a sample authority, for trying out only",
        "issuer_name": "sample",
        "key_type": "ed25519",
        "ttl": "8760h",
    });
    server.once_only(&format!("{mount}/root/generate/internal"), root, "name already in use").await?;
    let role = json!({
        "allowed_domains": "example.test",
        "allow_subdomains": true,
        "key_type": "ec",
        "ttl": "24h",
        "max_ttl": "720h",
    });
    server.post(&format!("{mount}/roles/web"), role).await?;
    report.pki_roles.push(format!("{mount}/web"));
    Ok(())
}

/// Two policies for the subject's own tree, and a token with each.
pub(super) async fn policies(server: &Server<'_>, what: &Seed, report: &mut Report) -> Result<(), SeedError> {
    let subject = &what.subject;
    for (name, text) in [
        (format!("mcp-agent-{subject}"), agent_policy(what)),
        (format!("mcp-readonly-{subject}"), readonly_policy(what)),
    ] {
        server.post(&format!("sys/policies/acl/{name}"), json!({ "policy": text })).await?;
        report.policies.push(name);
    }
    for policy in &report.policies {
        let answer = server
            .post(
                "auth/token/create",
                json!({ "policies": [policy], "ttl": what.token_ttl, "display_name": policy }),
            )
            .await?;
        report
            .tokens
            .push(PolicyToken { policy: policy.clone(), token: super::text(&answer, "/auth/client_token") });
    }
    Ok(())
}

/// What any agent's token needs about itself.
const SELF: &str = r#"
path "auth/token/lookup-self" { capabilities = ["read"] }
path "auth/token/renew-self" { capabilities = ["update"] }
path "auth/token/revoke-self" { capabilities = ["update"] }
path "sys/capabilities-self" { capabilities = ["update"] }
"#;

pub(super) fn agent_policy(what: &Seed) -> String {
    let Seed { mount, mount_v1, transit, ssh, pki, database, prefix, subject, .. } = what;
    let tree = format!("{prefix}/{subject}");
    format!(
        r#"# Reads and writes in its own tree, computes with transit keys, has keys signed and certificates issued,
# nothing else.
path "{mount}/data/{tree}/*" {{ capabilities = ["create", "read", "update", "patch", "delete"] }}
path "{mount}/metadata/{tree}" {{ capabilities = ["list"] }}
path "{mount}/metadata/{tree}/*" {{ capabilities = ["create", "read", "update", "patch", "delete", "list"] }}
path "{mount}/delete/{tree}/*" {{ capabilities = ["update"] }}
path "{mount}/undelete/{tree}/*" {{ capabilities = ["update"] }}
path "{mount}/destroy/{tree}/*" {{ capabilities = ["update"] }}
path "{mount}/subkeys/{tree}/*" {{ capabilities = ["read"] }}
path "{mount_v1}/{tree}" {{ capabilities = ["list"] }}
path "{mount_v1}/{tree}/*" {{ capabilities = ["create", "read", "update", "delete", "list"] }}
path "{transit}/keys" {{ capabilities = ["list"] }}
path "{transit}/keys/*" {{ capabilities = ["read"] }}
path "{transit}/encrypt/*" {{ capabilities = ["update"] }}
path "{transit}/decrypt/*" {{ capabilities = ["update"] }}
path "{transit}/rewrap/*" {{ capabilities = ["update"] }}
path "{transit}/sign/*" {{ capabilities = ["update"] }}
path "{transit}/verify/*" {{ capabilities = ["update"] }}
path "{transit}/hmac/*" {{ capabilities = ["update"] }}
path "{transit}/random" {{ capabilities = ["update"] }}
path "{ssh}/creds/*" {{ capabilities = ["update"] }}
path "{ssh}/sign/*" {{ capabilities = ["update"] }}
path "{ssh}/roles/*" {{ capabilities = ["read"] }}
path "{pki}/roles" {{ capabilities = ["list"] }}
path "{pki}/issue/*" {{ capabilities = ["update"] }}
path "{pki}/revoke" {{ capabilities = ["update"] }}
# Nothing is there on the embedded server, and it says so only to those who may ask.
path "{database}/creds/*" {{ capabilities = ["read"] }}
{SELF}"#
    )
}

fn readonly_policy(what: &Seed) -> String {
    let Seed { mount, mount_v1, pki, prefix, subject, .. } = what;
    let tree = format!("{prefix}/{subject}");
    format!(
        r#"# Reads in its own tree, writes and issues nothing.
path "{mount}/data/{tree}/*" {{ capabilities = ["read"] }}
path "{mount}/metadata/{tree}" {{ capabilities = ["list"] }}
path "{mount}/metadata/{tree}/*" {{ capabilities = ["read", "list"] }}
path "{mount}/subkeys/{tree}/*" {{ capabilities = ["read"] }}
path "{mount_v1}/{tree}" {{ capabilities = ["list"] }}
path "{mount_v1}/{tree}/*" {{ capabilities = ["read", "list"] }}
path "{pki}/roles" {{ capabilities = ["list"] }}
{SELF}"#
    )
}

/// AppRole with one role that gets the agent's policy.
pub(super) async fn approle(server: &Server<'_>, what: &Seed, report: &mut Report) -> Result<(), SeedError> {
    let role = format!("mcp-{}", what.subject);
    server.mount("sys/auth/approle", json!({ "type": "approle" })).await?;
    let path = format!("auth/approle/role/{role}");
    let policies = [format!("mcp-agent-{}", what.subject)];
    server.post(&path, json!({ "token_policies": policies, "token_ttl": what.token_ttl })).await?;
    let role_id = text(&server.get(&format!("{path}/role-id")).await?, "/data/role_id");
    let secret_id = text(&server.post(&format!("{path}/secret-id"), json!({})).await?, "/data/secret_id");
    report.approle = Some(AppRoleLogin { mount: "approle".to_owned(), role, role_id, secret_id });
    Ok(())
}

/// Userpass with one user that gets the agent's policy.
pub(super) async fn userpass(server: &Server<'_>, what: &Seed, report: &mut Report) -> Result<(), SeedError> {
    let (user, password) = (what.subject.to_lowercase(), "sample-only-password");
    server.mount("sys/auth/userpass", json!({ "type": "userpass" })).await?;
    let policies = [format!("mcp-agent-{}", what.subject)];
    let body = json!({ "password": password, "token_policies": policies, "token_ttl": what.token_ttl });
    server.post(&format!("auth/userpass/users/{user}"), body).await?;
    report.userpass =
        Some(UserpassLogin { mount: "userpass".to_owned(), user, password: password.to_owned() });
    Ok(())
}
