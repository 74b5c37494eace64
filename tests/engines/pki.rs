//! Certificates: chains that openssl verifies, keys that stay in their files, a CRL that knows what was revoked.

use std::sync::OnceLock;

use serde_json::{Value, json};

use super::{
    assert_masked, canary::assert_nowhere, private_file, programs::openssl, question, session, session_of,
    through, work,
};
use crate::common::{Fault, McpClient, On, Proxy, assert_refused, assert_untouched, vault};

/// A root and below it the mount that issues, with the role `web` for example.com.
struct Scene {
    root: String,
    mount: String,
}

fn scene() -> Option<&'static Scene> {
    static SHARED: OnceLock<Option<Scene>> = OnceLock::new();
    let made = || {
        let (root, mount) = (vault().new_mount("pki")?, vault().new_mount("pki")?);
        for path in [&root, &mount] {
            vault().put(&format!("sys/mounts/{path}/tune"), json!({"max_lease_ttl": "87600h"})).ok();
        }
        let text = |value: &Value, name: &str| value["data"][name].as_str().unwrap().to_owned();
        let made = json!({"common_name": "a root of the tests", "ttl": "87600h", "key_type": "ec"});
        vault().put(&format!("{root}/root/generate/internal"), made).ok();
        let asked = json!({"common_name": "an issuer of the tests", "key_type": "ec"});
        let request = vault().put(&format!("{mount}/intermediate/generate/internal"), asked).ok();
        let sign = json!({"csr": text(&request, "csr"), "ttl": "8760h", "format": "pem_bundle"});
        let signed = vault().put(&format!("{root}/root/sign-intermediate"), sign).ok();
        let chain = format!("{}\n{}", text(&signed, "certificate"), text(&signed, "issuing_ca"));
        vault().put(&format!("{mount}/intermediate/set-signed"), json!({"certificate": chain})).ok();
        let role = json!({"allowed_domains": "example.com", "allow_subdomains": true, "allow_ip_sans": true,
            "allow_wildcard_certificates": false, "ttl": "24h", "max_ttl": "72h", "key_type": "ec"});
        vault().put(&format!("{mount}/roles/web"), role).ok();
        Some(Scene { root, mount })
    };
    SHARED.get_or_init(made).as_ref()
}

/// The mount, with the role `web`.
pub(crate) fn mounted() -> Option<&'static str> {
    scene().map(|scene| scene.mount.as_str())
}

impl Scene {
    fn client(&self) -> McpClient {
        session(&[("PKI_MOUNT", &self.mount)])
    }

    /// The root's certificate and both revocation lists, as files in this folder.
    fn write_trust(&self, folder: &std::path::Path) {
        let pem = |path: String| vault().get(&path).text;
        std::fs::write(folder.join("root.pem"), pem(format!("{}/ca/pem", self.root))).unwrap();
        let lists = pem(format!("{}/crl/pem", self.mount)) + "\n" + &pem(format!("{}/crl/pem", self.root));
        std::fs::write(folder.join("crl.pem"), lists).unwrap();
    }
}

#[test]
fn a_certificate_issued_into_a_file_verifies_and_its_key_is_nowhere_else() {
    let Some(scene) = scene() else { return };
    let client = scene.client();
    let folder = work(&client);
    let call = json!({"role": "web", "common_name": "app.example.com", "alt_names": ["www.example.com", "api.example.com"],
        "ip_sans": ["10.0.0.1", "fd00::1"], "ttl": "36h", "to": "app.pem"});
    let issued = client.call("pki_issue", call).ok().clone();
    let asked = question(&client);
    assert!(
        asked.starts_with(&format!(
            "ISSUE {}/issue/web — a certificate for app.example.com and 4 more names, to the file app.pem",
            scene.mount
        )),
        "{asked}"
    );
    assert_masked(&issued["private_key"]);
    assert_eq!(issued["file"], folder.join("app.pem").display().to_string());
    assert_eq!(issued["ca_chain"].as_array().unwrap().len(), 2);
    let bundle = private_file(folder.join("app.pem"));
    assert_eq!(bundle.matches("BEGIN CERTIFICATE").count(), 3, "the certificate, its issuer and the root");
    assert!(
        bundle.starts_with("-----BEGIN EC PRIVATE KEY-----\n")
            && bundle.ends_with("-----END CERTIFICATE-----\n")
    );

    scene.write_trust(&folder);
    std::fs::write(folder.join("leaf.pem"), issued["certificate"].as_str().unwrap()).unwrap();
    std::fs::write(folder.join("chain.pem"), issued["ca_chain"][0].as_str().unwrap()).unwrap();
    let verify = [
        "verify",
        "-CAfile",
        "root.pem",
        "-untrusted",
        "chain.pem",
        "-purpose",
        "sslserver",
        "-verify_hostname",
        "www.example.com",
        "leaf.pem",
    ];
    openssl(&folder, &verify).unwrap();
    let verify =
        ["verify", "-CAfile", "root.pem", "-untrusted", "app.pem", "-verify_ip", "10.0.0.1", "app.pem"];
    openssl(&folder, &verify).unwrap();
    let mut other = verify;
    other[6] = "10.0.0.2";
    let refused = openssl(&folder, &other);
    assert!(!refused.is_ok_and(|said| !said.is_empty()), "openssl takes any address");
    // Key and certificate of the file belong together.
    let of_key = openssl(&folder, &["pkey", "-in", "app.pem", "-pubout"]).unwrap();
    let of_certificate = openssl(&folder, &["x509", "-in", "app.pem", "-noout", "-pubkey"]).unwrap();
    assert_eq!(of_key, of_certificate);
    let lines: Vec<&str> = bundle.lines().skip(1).take_while(|line| !line.starts_with("-----END")).collect();
    assert_nowhere(&client, &lines.iter().copied().filter(|line| line.len() > 16).collect::<Vec<_>>());
}

#[test]
fn a_key_is_masked_without_a_file_and_shown_only_when_the_human_lets_it_be() {
    let Some(scene) = scene() else { return };
    let client = scene.client();
    let issued = client.call("pki_issue", json!({"role": "web", "common_name": "a.example.com"}));
    assert_masked(&issued.ok()["private_key"]);
    assert!(!issued.0.to_string().contains("PRIVATE KEY"), "{}", issued.0);
    let shown =
        client.call("pki_issue", json!({"role": "web", "common_name": "a.example.com", "reveal": true}));
    assert!(shown.ok()["private_key"].as_str().unwrap().contains("PRIVATE KEY"));
    assert!(question(&client).contains("shown to the model"));
    let audit = std::fs::read_to_string(client.server().home().audit_log()).unwrap();
    assert!(!audit.contains("PRIVATE KEY") && !audit.contains("BEGIN"));
}

#[test]
fn what_was_revoked_stands_in_the_revocation_list() {
    let Some(scene) = scene() else { return };
    let client = scene.client();
    let folder = work(&client);
    let issue = |name: &str| {
        let issued = client.call("pki_issue", json!({"role": "web", "common_name": name})).ok().clone();
        std::fs::write(folder.join("leaf.pem"), issued["certificate"].as_str().unwrap()).unwrap();
        std::fs::write(folder.join("chain.pem"), issued["ca_chain"][0].as_str().unwrap()).unwrap();
        issued["serial_number"].as_str().unwrap().to_owned()
    };
    let verify = || {
        scene.write_trust(&folder);
        openssl(
            &folder,
            &[
                "verify",
                "-CAfile",
                "root.pem",
                "-untrusted",
                "chain.pem",
                "-CRLfile",
                "crl.pem",
                "-crl_check",
                "leaf.pem",
            ],
        )
    };
    let kept = issue("kept.example.com");
    verify().unwrap();
    let serial = issue("gone.example.com");
    verify().unwrap();
    let revoked = client.call("pki_revoke", json!({"serial_number": serial})).ok().clone();
    assert!(
        question(&client).starts_with(&format!("REVOKE {} {serial}", scene.mount)),
        "{}",
        question(&client)
    );
    assert!(revoked["revocation_time"].as_i64().unwrap() > 1_700_000_000, "{revoked}");
    let said = verify();
    assert!(!said.as_ref().is_ok_and(|said| !said.is_empty()), "a revoked certificate verifies");
    assert!(said.err().is_none_or(|said| said.contains("revoked")));
    // Twice is once, and hyphens are as good as colons.
    let hyphens = client.call("pki_revoke", json!({"serial_number": serial.replace(':', "-")}));
    assert_eq!(hyphens.ok()["revocation_time"], revoked["revocation_time"]);
    let unknown = client.call("pki_revoke", json!({"serial_number": "11:22"}));
    assert_refused(&unknown, "vault_rejected");
    assert!(unknown.text().contains("no such certificate"), "{}", unknown.text());
    assert_ne!(kept, serial);
}

#[test]
fn the_roles_are_listed() {
    let Some(scene) = scene() else { return };
    assert_eq!(scene.client().call("pki_roles", json!({})).ok()["roles"], json!(["web"]));
    let root = session(&[("PKI_MOUNT", &scene.root)]);
    assert_eq!(root.call("pki_roles", json!({})).ok()["roles"], json!([]));
}

#[test]
fn what_is_no_name_address_time_or_serial_is_not_sent() {
    let Some(scene) = scene() else { return };
    let proxy = Proxy::new(vault());
    let client = through(&proxy, &[("PKI_MOUNT", &scene.mount)]);
    let good = json!({"role": "web", "common_name": "a.example.com"});
    let mut calls = Vec::new();
    let mut with = |field: &str, value: Value| {
        let mut call = good.clone();
        call[field] = value;
        calls.push(("pki_issue", call));
    };
    for name in ["", "a.example.com,evil.org", "a b", "a\n", "a\u{0}", "ä.example.com", "a/b", "a;b", "CN=x"]
    {
        with("common_name", json!(name));
        with("alt_names", json!(["ok.example.com", name]));
    }
    for address in ["", "localhost", "10.0.0.0/8", "10.0.0.1,10.0.0.2", "300.0.0.1"] {
        with("ip_sans", json!([address]));
    }
    for ttl in ["0", "-1", "1y", "", "1h30m"] {
        with("ttl", json!(ttl));
    }
    for role in ["", "..", "../x", "web/../x", "web?x", "*"] {
        with("role", json!(role));
    }
    with("alt_names", json!(vec!["a.example.com"; 51]));
    with("ip_sans", json!(vec!["10.0.0.1"; 51]));
    with("alt_names", json!("a.example.com"));
    with("format", json!("der"));
    with("not_after", json!("9999-12-31T23:59:59Z"));
    for serial in ["", "1", "1g", "11:2", "11::22", "../crl", "11:22\n", "11 22", &"11:".repeat(60)] {
        calls.push(("pki_revoke", json!({"serial_number": serial})));
    }
    calls.push(("pki_revoke", json!({"certificate": "x"})));
    for (tool, call) in calls {
        let result = assert_untouched(&proxy, || client.call(tool, call.clone()));
        assert!(result.is_error(), "{call} went through: {}", result.0);
        assert_refused(&result, "invalid_input");
    }
    assert!(client.asked().is_empty());
}

#[test]
fn a_certificate_is_asked_for_once_and_never_before_its_file_is_there() {
    let Some(scene) = scene() else { return };
    let proxy = Proxy::new(vault());
    let client = through(&proxy, &[("PKI_MOUNT", &scene.mount)]);
    let sent = || proxy.requests().iter().filter(|sent| sent.target.contains("/issue/")).count();
    let call = json!({"role": "web", "common_name": "a.example.com", "to": "out.pem"});
    let file = work(&client).join("out.pem");
    std::fs::write(&file, "mine").unwrap();
    assert_refused(&client.call("pki_issue", call.clone()), "file_refused");
    assert_eq!((sent(), std::fs::read_to_string(&file).unwrap().as_str()), (0, "mine"));
    std::fs::remove_file(&file).unwrap();
    proxy.fail(On::target("/issue/").times(1), Fault::ResetAfter);
    assert_refused(&client.call("pki_issue", call), "outcome_unknown");
    assert!(sent() == 1 && !file.exists());
}

#[test]
fn no_engine_no_role_no_right_name_and_no_permission_are_four_answers() {
    let Some(scene) = scene() else { return };
    let missing = session(&[("PKI_MOUNT", "nosuchmount")]);
    let here = scene.client();
    let token = vault().token("path \"none\" { capabilities = [\"read\"] }", "5m");
    let bare = session_of(&vault().fresh_subject(), &token, &[("PKI_MOUNT", &scene.mount)]);
    for (tool, arguments, path, capabilities) in [
        ("pki_roles", json!({}), "roles", "\"list\""),
        (
            "pki_issue",
            json!({"role": "nosuch", "common_name": "a.example.com"}),
            "issue/nosuch",
            "\"create\", \"update\"",
        ),
        ("pki_revoke", json!({"serial_number": "11:22"}), "revoke", "\"create\", \"update\""),
    ] {
        let no_engine = missing.call(tool, arguments.clone());
        assert_refused(&no_engine, "mount_not_found");
        assert!(no_engine.text().contains("PKI_MOUNT"), "{}", no_engine.text());
        let no_permission = bare.call(tool, arguments);
        assert_refused(&no_permission, "forbidden");
        let line = format!("path \"{}/{path}\" {{ capabilities = [{capabilities}] }}", scene.mount);
        assert!(no_permission.text().contains(&line), "{}", no_permission.text());
    }
    assert!(bare.asked().is_empty());
    for (arguments, words) in [
        (json!({"role": "nosuch", "common_name": "a.example.com"}), "there is no such role"),
        (json!({"role": "web", "common_name": "evil.org"}), "does not allow this name"),
        (json!({"role": "web", "common_name": "*.example.com"}), "does not allow this name"),
        (
            json!({"role": "web", "common_name": "a.example.com", "alt_names": ["evil.org"]}),
            "does not allow this name",
        ),
    ] {
        let refused = here.call("pki_issue", arguments);
        assert_refused(&refused, "vault_rejected");
        assert!(refused.text().contains(words), "{}", refused.text());
    }
}
