//! SSH: certificates that log in to a real sshd, one-time passwords that Vault takes back, and what must not be
//! signed.

use std::{path::PathBuf, sync::OnceLock};

use serde_json::{Value, json};

use super::{
    assert_masked,
    canary::assert_nowhere,
    private_file,
    programs::{Sshd, program, run, said, ssh_key},
    question, session, session_of, through, work,
};
use crate::common::{
    Fault, McpClient, On, Proxy, assert_no_canary, assert_refused, assert_untouched, canary, vault,
};

/// A mount of the engine with a signing key, and these roles: `user` for the user who runs the tests and for
/// alice, `nobody` without a default user, `host` for machines, `otp` for this machine.
struct Scene {
    mount: String,
    user: String,
    authority: String,
}

fn scene() -> Option<&'static Scene> {
    static SHARED: OnceLock<Option<Scene>> = OnceLock::new();
    let made = || {
        let mount = vault().new_mount("ssh")?;
        let name = std::process::Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(name.stdout).unwrap().trim().to_owned();
        let body = json!({"generate_signing_key": true, "key_type": "ed25519"});
        let reply = vault().put(&format!("{mount}/config/ca"), body).ok();
        let authority = reply["data"]["public_key"].as_str().unwrap().to_owned();
        for (role, body) in [
            (
                "user",
                json!({"key_type": "ca", "allow_user_certificates": true, "allowed_users": format!("{user},alice"),
                "default_user": user, "default_extensions": {"permit-pty": ""}, "ttl": "10m", "max_ttl": "1h"}),
            ),
            ("nobody", json!({"key_type": "ca", "allow_user_certificates": true, "allowed_users": "*"})),
            (
                "empty",
                json!({"key_type": "ca", "allow_user_certificates": true, "allowed_users": "*",
                "allow_empty_principals": true}),
            ),
            (
                "host",
                json!({"key_type": "ca", "allow_host_certificates": true, "allowed_domains": "example.com",
                "allow_subdomains": true}),
            ),
            (
                "otp",
                json!({"key_type": "otp", "default_user": user, "cidr_list": "127.0.0.0/8", "port": 2222}),
            ),
        ] {
            vault().put(&format!("{mount}/roles/{role}"), body).ok();
        }
        Some(Scene { mount, user, authority })
    };
    SHARED.get_or_init(made).as_ref()
}

/// The mount and the user of its roles `user` and `otp`.
pub(crate) fn mounted() -> Option<(&'static str, &'static str)> {
    scene().map(|scene| (scene.mount.as_str(), scene.user.as_str()))
}

impl Scene {
    fn client(&self) -> McpClient {
        session(&[("SSH_MOUNT", &self.mount)])
    }

    fn through(&self, proxy: &Proxy) -> McpClient {
        through(proxy, &[("SSH_MOUNT", &self.mount)])
    }

    /// Signs this key for these principals and puts the certificate where it was said.
    #[track_caller]
    fn sign(&self, client: &McpClient, public: &str, principals: Value, to: &str) -> PathBuf {
        let arguments =
            json!({"role": "user", "public_key": public, "valid_principals": principals, "to": to});
        let signed = client.call("ssh_sign", arguments).ok().clone();
        assert!(signed.get("signed_key").is_none(), "it is in the answer, too: {signed}");
        let path = work(client).join(to);
        assert_eq!(signed["file"], path.display().to_string());
        private_file(&path);
        path
    }
}

pub(crate) const PUBLIC: &str =
    "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJdD7y3aLq454yWBdwLWbieU1ebz9/cu7/QEXn9OIeZJ";

#[test]
fn a_certificate_logs_in_and_one_for_another_principal_does_not() {
    let Some(scene) = scene() else { return };
    let Some(sshd) = Sshd::start(&scene.authority) else { return };
    let client = scene.client();
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let Some((key, public)) = ssh_key(&work(&client), kind, kind) else { return };
        let good = scene.sign(&client, &public, json!([scene.user]), &format!("{kind}-cert.pub"));
        assert!(sshd.lets_in(&key, &good), "{kind}: the certificate does not log in");
        let other = scene.sign(&client, &public, json!("alice"), &format!("{kind}-alice.pub"));
        assert!(!sshd.lets_in(&key, &other), "{kind}: alice's certificate logs in as {}", scene.user);
        // Another's certificate is worth nothing with one's own key.
        let Some((stranger, _)) = ssh_key(&work(&client), &format!("{kind}-stranger"), kind) else { return };
        assert!(!sshd.lets_in(&stranger, &good), "{kind}: a certificate without its key logs in");
    }
    assert_eq!(sshd.user, scene.user);
}

#[test]
fn the_answer_and_the_question_say_whom_the_certificate_is_for() {
    let Some(scene) = scene() else { return };
    let client = scene.client();
    let call = json!({"role": "user", "public_key": format!("{PUBLIC} a comment"), "valid_principals": ["alice", scene.user], "ttl": "30m"});
    let signed = client.call("ssh_sign", call).ok().clone();
    let asked = question(&client);
    assert!(
        asked.starts_with(&format!(
            "SIGN {}/sign/user — a user certificate for alice, {} for 1800s",
            scene.mount, scene.user
        )),
        "{asked}"
    );
    assert_eq!(signed["valid_principals"], json!(["alice", scene.user]));
    let text = signed["signed_key"].as_str().unwrap();
    assert!(text.starts_with("ssh-ed25519-cert-v01@openssh.com AAAA"), "{text}");
    let certificate = ssh_key::Certificate::from_openssh(text.trim()).unwrap();
    assert_eq!(certificate.valid_principals(), ["alice", scene.user.as_str()]);
    assert!(certificate.cert_type().is_user());
    let lasts = certificate.valid_before() - certificate.valid_after();
    assert!((1800..=1900).contains(&lasts), "{lasts} s");
    assert!(certificate.extensions().contains_key("permit-pty") && certificate.critical_options().is_empty());
    assert_eq!(
        format!("{:016x}", certificate.serial()),
        format!("{:0>16}", signed["serial_number"].as_str().unwrap())
    );
    assert!(!text.contains("a comment"));

    // Without a name it is for the role's default user, and for nobody else.
    let signed = client.call("ssh_sign", json!({"role": "user", "public_key": PUBLIC})).ok().clone();
    assert_eq!(signed["valid_principals"], json!([scene.user]));
    let host = json!({"role": "host", "public_key": PUBLIC, "cert_type": "host", "valid_principals": "web.example.com"});
    let signed = client.call("ssh_sign", host).ok().clone();
    assert!(question(&client).contains("a host certificate for web.example.com"), "{}", question(&client));
    let certificate =
        ssh_key::Certificate::from_openssh(signed["signed_key"].as_str().unwrap().trim()).unwrap();
    assert!(certificate.cert_type().is_host());
}

#[test]
fn the_certificate_is_what_ssh_keygen_reads() {
    let Some(scene) = scene() else { return };
    let Some(keygen) = program("ssh-keygen") else { return };
    let client = scene.client();
    let path = scene.sign(&client, PUBLIC, json!([scene.user]), "id-cert.pub");
    let output = run(std::process::Command::new(keygen).arg("-L").arg("-f").arg(path), b"");
    let text = said(&output);
    assert!(output.status.success(), "{text}");
    for line in [
        "Type: ssh-ed25519-cert-v01@openssh.com user certificate",
        &format!("{}\n", scene.user),
        "permit-pty",
        "Signing CA: ED25519",
    ] {
        assert!(text.contains(line), "{line} is not in {text}");
    }
}

#[test]
fn what_would_make_a_certificate_good_for_more_is_not_sent() {
    let Some(scene) = scene() else { return };
    let proxy = Proxy::new(vault());
    let client = scene.through(&proxy);
    let good = json!({"role": "user", "public_key": PUBLIC, "valid_principals": [scene.user]});
    let mut calls = Vec::new();
    let mut with = |field: &str, value: Value| {
        let mut call = good.clone();
        call[field] = value;
        calls.push(call);
    };
    for principals in [
        json!(""),
        json!([]),
        json!([""]),
        json!("*"),
        json!("root,alice"),
        json!(["root,alice"]),
        json!(["a", "*"]),
        json!("a b"),
        json!("a\n"),
        json!("a\u{0}"),
        json!("-oProxyCommand=x"),
        json!("{{identity.entity.name}}"),
        json!("ro?t"),
        json!("\u{440}oot"),
        json!(5),
        json!(vec!["a"; 33]),
        json!("a".repeat(65)),
    ] {
        with("valid_principals", principals);
    }
    for ttl in [
        json!("0"),
        json!("0s"),
        json!("-1"),
        json!("-5m"),
        json!(""),
        json!("1y"),
        json!("366d"),
        json!("99999999999999999999s"),
        json!("1h30m"),
        json!("1.5h"),
        json!(" 1h"),
        json!(3600),
        json!("1h\n"),
    ] {
        with("ttl", ttl);
    }
    let ed25519 = PUBLIC.split(' ').nth(1).unwrap();
    for key in [
        String::new(),
        "ssh-ed25519".to_owned(),
        "ssh-ed25519 AAAA".to_owned(),
        ed25519.to_owned(),
        format!("ssh-rsa {ed25519}"),
        format!("command=\"id\" {PUBLIC}"),
        format!("no-pty,permitopen=\"*\" {PUBLIC}"),
        format!("cert-authority {PUBLIC}"),
        format!("{PUBLIC}\n{PUBLIC}"),
        format!("{PUBLIC}\r\n"),
        format!("{PUBLIC}\nssh-ed25519 x"),
        format!("# x\n{PUBLIC}"),
        format!("{PUBLIC} {}", "c".repeat(20_000)),
        format!("ssh-ed25519-cert-v01@openssh.com {ed25519}"),
    ] {
        with("public_key", json!(key));
    }
    with("cert_type", json!("both"));
    with("extensions", json!({"permit-agent-forwarding": ""}));
    with("critical_options", json!({"force-command": "id"}));
    with("key_id", json!("someone else"));
    for role in ["", "..", "../x", "user/../x", "user?x", "user\n", "*"] {
        with("role", json!(role));
    }
    for call in calls {
        let result = assert_untouched(&proxy, || client.call("ssh_sign", call.clone()));
        assert!(result.is_error(), "{call} was signed: {}", result.0);
        assert_refused(&result, "invalid_input");
    }
    assert!(client.asked().is_empty());
}

#[test]
fn a_private_key_is_refused_before_it_is_sent_or_logged() {
    let Some(scene) = scene() else { return };
    let proxy = Proxy::new(vault());
    let client = scene.through(&proxy);
    let folder = work(&client);
    let secret = canary("private");
    let mut keys = vec![
        format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{secret}\n-----END OPENSSH PRIVATE KEY-----"),
        format!("-----BEGIN RSA PRIVATE KEY-----\r\n{secret}\r\n-----END RSA PRIVATE KEY-----\r\n"),
        format!("-----BEGIN EC PRIVATE KEY----- {secret} -----END EC PRIVATE KEY-----"),
        format!("-----BEGIN ENCRYPTED PRIVATE KEY-----\n{secret}"),
        format!("{PUBLIC} -----BEGIN PRIVATE KEY----- {secret}"),
        format!("PuTTY-User-Key-File-3: ssh-ed25519\nPrivate-Lines: 1\n{secret}"),
    ];
    if let Some((path, _)) = ssh_key(&folder, "real", "ed25519") {
        keys.push(std::fs::read_to_string(path).unwrap());
    }
    for key in keys {
        let call = || client.call("ssh_sign", json!({"role": "user", "public_key": key}));
        let refused = assert_untouched(&proxy, call);
        assert_refused(&refused, "invalid_input");
        if key.contains("PRIVATE KEY") {
            assert!(refused.text().contains("private key"), "{}", refused.text());
        }
        let body: String = key.lines().nth(1).unwrap_or(&key).to_owned();
        assert!(body.len() < 8 || !client.server().stderr().contains(&body));
        assert_nowhere(&client, &[body.as_str()]);
    }
    assert_no_canary(client.server().stdout(), "standard output");
    assert!(client.asked().is_empty());
}

#[test]
fn what_the_role_does_not_allow_is_said_in_our_words() {
    let Some(scene) = scene() else { return };
    let client = scene.client();
    for (arguments, words) in [
        (json!({"role": "user", "valid_principals": "bob"}), "does not allow these principals"),
        (json!({"role": "user", "valid_principals": scene.user, "ttl": "2h"}), "over the role's maximum"),
        (
            json!({"role": "user", "valid_principals": scene.user, "cert_type": "host"}),
            "does not allow this type of certificate",
        ),
        (
            json!({"role": "host", "valid_principals": "x.example.com"}),
            "does not allow this type of certificate",
        ),
        (
            json!({"role": "host", "valid_principals": "evil.org", "cert_type": "host"}),
            "does not allow these principals",
        ),
        (json!({"role": "nosuch", "valid_principals": "bob"}), "there is no such role"),
    ] {
        let mut arguments = arguments;
        arguments["public_key"] = json!(PUBLIC);
        let refused = client.call("ssh_sign", arguments.clone());
        assert_refused(&refused, "vault_rejected");
        assert!(refused.text().contains(words), "{arguments}: {}", refused.text());
    }
}

#[test]
fn a_role_without_a_default_user_signs_for_nobody_in_particular_never() {
    let Some(scene) = scene() else { return };
    let proxy = Proxy::new(vault());
    let client = scene.through(&proxy);
    for role in ["nobody", "empty"] {
        let refused = client.call("ssh_sign", json!({"role": role, "public_key": PUBLIC}));
        assert_refused(&refused, "invalid_input");
        assert!(refused.text().contains("no default user"), "{}", refused.text());
    }
    assert!(!proxy.requests().iter().any(|sent| sent.target.contains("/sign/")));
}

#[test]
fn a_one_time_password_is_good_once() {
    let Some(scene) = scene() else { return };
    let client = scene.client();
    let call = json!({"role": "otp", "ip": "127.0.0.1", "username": scene.user, "to": "otp.json"});
    let issued = client.call("ssh_otp", call).ok().clone();
    let asked = question(&client);
    assert!(
        asked.starts_with(&format!(
            "ISSUE {}/creds/otp — one login as {} on 127.0.0.1, to the file otp.json",
            scene.mount, scene.user
        )),
        "{asked}"
    );
    assert_masked(&issued["key"]);
    assert!(
        issued["port"] == 2222 && issued["ip"] == "127.0.0.1" && issued["username"] == scene.user,
        "{issued}"
    );
    let file: Value = serde_json::from_str(&private_file(work(&client).join("otp.json"))).unwrap();
    let otp = file["SSH_OTP"].as_str().unwrap();
    assert!(file["SSH_HOST"] == "127.0.0.1" && file["SSH_USER"] == scene.user, "{file}");
    // As the helper on the host does it, without any token.
    let verify =
        || vault().call_as("", "POST", &format!("{}/verify", scene.mount), Some(&json!({"otp": otp})));
    let verified = verify().ok();
    assert!(
        verified["data"]["ip"] == "127.0.0.1" && verified["data"]["username"] == scene.user,
        "{verified}"
    );
    assert_eq!(verify().status, 400, "it was good twice");
    assert_nowhere(&client, &[otp]);

    let shown = json!({"role": "otp", "ip": "127.0.0.1", "username": scene.user, "reveal": true, "port": 22});
    let shown = client.call("ssh_otp", shown).ok().clone();
    assert_eq!(shown["port"], 22);
    let body = json!({"otp": shown["key"]});
    vault().put(&format!("{}/verify", scene.mount), body).ok();
}

#[test]
fn an_address_that_is_no_single_host_gets_no_password() {
    let Some(scene) = scene() else { return };
    let proxy = Proxy::new(vault());
    let client = scene.through(&proxy);
    for ip in [
        "",
        "0.0.0.0",
        "::",
        "224.0.0.1",
        "ff02::1",
        "localhost",
        "example.com",
        "127.0.0.0/8",
        "127.1",
        "0x7f.0.0.1",
        "127.0.0.1 ",
        "127.0.0.1,10.0.0.1",
        "127.0.0.1\n",
        "0177.0.0.1",
        "[::1]",
        "*",
    ] {
        let call = || client.call("ssh_otp", json!({"role": "otp", "ip": ip, "username": "root"}));
        assert_refused(&assert_untouched(&proxy, call), "invalid_input");
    }
    for username in ["", "*", "root,alice", "ro ot", "root\n", "-l"] {
        let call = || client.call("ssh_otp", json!({"role": "otp", "ip": "127.0.0.1", "username": username}));
        assert_refused(&assert_untouched(&proxy, call), "invalid_input");
    }
    for port in [json!(-1), json!(65536), json!("22"), json!(1.5)] {
        let arguments = json!({"role": "otp", "ip": "127.0.0.1", "username": "root", "port": port});
        assert_refused(&assert_untouched(&proxy, || client.call("ssh_otp", arguments)), "invalid_input");
    }
    assert!(client.asked().is_empty());
    for (role, ip, username, words) in [
        ("otp", "10.0.0.1", scene.user.as_str(), "does not allow this address"),
        ("otp", "127.0.0.1", "somebodyelse", "does not allow this user"),
        ("nosuch", "127.0.0.1", scene.user.as_str(), "there is no such role"),
    ] {
        let refused = client.call("ssh_otp", json!({"role": role, "ip": ip, "username": username}));
        assert_refused(&refused, "vault_rejected");
        assert!(refused.text().contains(words), "{}", refused.text());
    }
}

#[test]
fn a_signature_and_a_password_are_sent_for_once_and_never_before_their_file_is_there() {
    let Some(scene) = scene() else { return };
    let sign =
        json!({"role": "user", "public_key": PUBLIC, "valid_principals": [scene.user], "to": "out.pub"});
    let otp = json!({"role": "otp", "ip": "127.0.0.1", "username": scene.user, "to": "out.env"});
    for (tool, target, call) in [("ssh_sign", "/sign/", sign), ("ssh_otp", "/creds/", otp)] {
        let proxy = Proxy::new(vault());
        let client = scene.through(&proxy);
        let sent = || proxy.requests().iter().filter(|sent| sent.target.contains(target)).count();
        let file = work(&client).join(call["to"].as_str().unwrap());
        std::fs::write(&file, "mine").unwrap();
        assert_refused(&client.call(tool, call.clone()), "file_refused");
        assert_eq!((sent(), std::fs::read_to_string(&file).unwrap().as_str()), (0, "mine"), "{tool}");
        std::fs::remove_file(&file).unwrap();
        proxy.fail(On::target(target).times(1), Fault::ResetAfter);
        assert_refused(&client.call(tool, call.clone()), "outcome_unknown");
        assert!(sent() == 1 && !file.exists(), "{tool}");
        client.call(tool, call).ok();
        private_file(&file);
    }
}

#[test]
fn no_engine_no_role_and_no_permission_are_three_answers_with_three_remedies() {
    let Some(scene) = scene() else { return };
    let missing = session(&[("SSH_MOUNT", "nosuchmount")]);
    let here = scene.client();
    let token = vault().token("path \"none\" { capabilities = [\"read\"] }", "5m");
    let bare = session_of(&vault().fresh_subject(), &token, &[("SSH_MOUNT", &scene.mount)]);
    for (tool, path, arguments) in [
        ("ssh_sign", "sign", json!({"role": "nosuch", "public_key": PUBLIC, "valid_principals": "alice"})),
        ("ssh_sign", "sign", json!({"role": "nosuch", "public_key": PUBLIC})),
        ("ssh_otp", "creds", json!({"role": "nosuch", "ip": "127.0.0.1", "username": "alice"})),
    ] {
        let no_engine = missing.call(tool, arguments.clone());
        assert_refused(&no_engine, "mount_not_found");
        assert!(no_engine.text().contains("SSH_MOUNT"), "{}", no_engine.text());
        let no_role = here.call(tool, arguments.clone());
        assert_refused(&no_role, "vault_rejected");
        assert!(no_role.text().contains("there is no such role"), "{}", no_role.text());
        let no_permission = bare.call(tool, arguments);
        assert_refused(&no_permission, "forbidden");
        let line =
            format!("path \"{}/{path}/nosuch\" {{ capabilities = [\"create\", \"update\"] }}", scene.mount);
        assert!(no_permission.text().contains(&line), "{}", no_permission.text());
    }
    assert!(bare.asked().is_empty());
}
