//! Database users of a real PostgreSQL, and the leases that they come with.

use std::{collections::BTreeMap, sync::OnceLock};

use serde_json::{Value, json};

use super::{
    assert_masked,
    canary::assert_nowhere,
    private_file,
    programs::{Postgres, postgres},
    question, session, session_of, through, work,
};
use crate::common::{
    Answer, Era, Fault, McpClient, On, PATIENCE, Proxy, Server, assert_refused, assert_untouched,
    audit_records, records_of, unique, vault, wait_until,
};

/// A mount of the engine over the PostgreSQL of this test binary, with the roles `app` (an hour) and `short`.
struct Scene {
    postgres: &'static Postgres,
    mount: String,
}

fn scene() -> Option<&'static Scene> {
    static SHARED: OnceLock<Option<Scene>> = OnceLock::new();
    let made = || {
        let mount = vault().new_mount("database")?;
        let postgres = postgres()?;
        let config = json!({
            "plugin_name": "postgresql-database-plugin",
            "connection_url": format!(
                "postgresql://{{{{username}}}}:{{{{password}}}}@127.0.0.1:{}/postgres?sslmode=disable",
                postgres.port
            ),
            "username": "admin",
            "password": postgres.password,
            "allowed_roles": "*",
        });
        vault().put(&format!("{mount}/config/pg"), config).ok();
        let create =
            "CREATE ROLE \"{{name}}\" WITH LOGIN PASSWORD '{{password}}' VALID UNTIL '{{expiration}}'";
        for (role, ttl, most) in [("app", "1h", "24h"), ("short", "2s", "2s")] {
            let body = json!({"db_name": "pg", "creation_statements": [create], "default_ttl": ttl, "max_ttl": most});
            vault().put(&format!("{mount}/roles/{role}"), body).ok();
        }
        Some(Scene { postgres, mount })
    };
    SHARED.get_or_init(made).as_ref()
}

/// The mount, with the role `app`.
pub(crate) fn mounted() -> Option<&'static str> {
    scene().map(|scene| scene.mount.as_str())
}

impl Scene {
    fn client(&self, settings: &[(&str, &str)]) -> McpClient {
        let mut all = vec![("DATABASE_MOUNT", self.mount.as_str())];
        all.extend_from_slice(settings);
        session(&all)
    }

    fn through(&self, proxy: &Proxy) -> McpClient {
        through(proxy, &[("DATABASE_MOUNT", &self.mount)])
    }

    fn can_log_in(&self, user: &str, password: &str) -> bool {
        match self.postgres.psql(user, password, "select 40 + 2") {
            Ok(said) => said.trim() == "42",
            Err(said) => {
                assert!(said.contains("authentication failed"), "psql failed for another reason: {said}");
                false
            }
        }
    }

    /// How many leases of a role Vault knows.
    fn leases(&self, role: &str) -> usize {
        let reply = vault().list(&format!("sys/leases/lookup/{}/creds/{role}", self.mount));
        reply.body["data"]["keys"].as_array().map_or(0, Vec::len)
    }
}

/// `NAME='value'` lines, as a shell reads them.
fn entries(text: &str) -> BTreeMap<String, String> {
    let entry = |line: &str| {
        let (name, value) = line.split_once('=').unwrap();
        (name.to_owned(), value.strip_prefix('\'').unwrap().strip_suffix('\'').unwrap().to_owned())
    };
    text.lines().map(entry).collect()
}

/// Issues into a new file; the answer, the user and the password.
#[track_caller]
fn issue(client: &McpClient) -> (Value, String, String) {
    let file = format!("{}.env", unique("creds"));
    let issued = client.call("db_issue_creds", json!({"role": "app", "to": file})).ok().clone();
    let found = entries(&private_file(work(client).join(file)));
    (issued, found["DB_USERNAME"].clone(), found["DB_PASSWORD"].clone())
}

fn creds(proxy: &Proxy) -> usize {
    proxy.requests().iter().filter(|sent| sent.target.contains("/creds/")).count()
}

#[test]
fn a_user_issued_into_a_file_logs_in_and_its_password_is_nowhere_else() {
    let Some(scene) = scene() else { return };
    let client = scene.client(&[]);
    let issued = client.call("db_issue_creds", json!({"role": "app", "to": "app.env"})).ok().clone();
    let asked = question(&client);
    assert!(asked.starts_with(&format!("ISSUE {}/creds/app — ", scene.mount)), "{asked}");
    assert!(asked.contains("to the file app.env"), "{asked}");
    assert_masked(&issued["password"]);
    let path = work(&client).join("app.env");
    assert_eq!(issued["file"], path.display().to_string());
    let found = entries(&private_file(&path));
    assert_eq!(found.keys().collect::<Vec<_>>(), ["DB_PASSWORD", "DB_USERNAME"]);
    assert_eq!(issued["username"], found["DB_USERNAME"]);
    assert!(issued["lease_duration"] == 3600 && issued["renewable"] == true, "{issued}");
    assert!(scene.can_log_in(&found["DB_USERNAME"], &found["DB_PASSWORD"]));
    assert!(!scene.can_log_in(&found["DB_USERNAME"], "wrong"));

    let issued = client.call("db_issue_creds", json!({"role": "app", "to": "app.json"})).ok().clone();
    let json: Value = serde_json::from_str(&private_file(work(&client).join("app.json"))).unwrap();
    assert_eq!(issued["username"], json["DB_USERNAME"]);
    let password = json["DB_PASSWORD"].as_str().unwrap();
    assert!(scene.can_log_in(json["DB_USERNAME"].as_str().unwrap(), password));
    assert_nowhere(&client, &[&found["DB_PASSWORD"], password]);
}

#[test]
fn a_password_is_shown_only_when_the_human_lets_it_be() {
    let Some(scene) = scene() else { return };
    let client = scene.client(&[]);
    let masked = client.call("db_issue_creds", json!({"role": "app"})).ok().clone();
    assert_masked(&masked["password"]);
    assert!(scene.postgres.has_user(masked["username"].as_str().unwrap()));
    let shown = client.call("db_issue_creds", json!({"role": "app", "reveal": true})).ok().clone();
    assert!(question(&client).contains("shown to the model"), "{}", question(&client));
    let (user, password) = (shown["username"].as_str().unwrap(), shown["password"].as_str().unwrap());
    assert!(scene.can_log_in(user, password));
    let audit = std::fs::read_to_string(client.server().home().audit_log()).unwrap();
    assert!(!audit.contains(password) && !client.server().stderr().contains(password));

    let proxy = Proxy::new(vault());
    let never = through(&proxy, &[("DATABASE_MOUNT", &scene.mount), ("REVEAL", "never")]);
    let call = || never.call("db_issue_creds", json!({"role": "app", "reveal": true}));
    assert_refused(&assert_untouched(&proxy, call), "reveal_forbidden");
}

#[test]
fn a_lease_is_listed_renewed_and_revoked_and_then_nobody_logs_in() {
    let Some(scene) = scene() else { return };
    let client = scene.client(&[]);
    assert_eq!(client.call("db_leases", json!({})).ok()["leases"], json!([]));
    let (issued, user, password) = issue(&client);
    let id = issued["lease_id"].as_str().unwrap();
    let listed = client.call("db_leases", json!({})).ok()["leases"].clone();
    assert_eq!(listed.as_array().unwrap().len(), 1, "{listed}");
    assert!(listed[0]["lease_id"] == id && listed[0]["role"] == "app", "{listed}");
    assert!((3590..=3600).contains(&listed[0]["seconds_left"].as_u64().unwrap()), "{listed}");

    let renewed = client.call("db_renew", json!({"lease_id": id, "increment": 7200})).ok().clone();
    assert!(question(&client).starts_with(&format!("RENEW {id} — ")), "{}", question(&client));
    assert!((7190..=7200).contains(&renewed["lease_duration"].as_u64().unwrap()), "{renewed}");
    let listed = client.call("db_leases", json!({})).ok()["leases"].clone();
    assert!(listed[0]["seconds_left"].as_u64().unwrap() > 7000, "{listed}");
    assert!(scene.can_log_in(&user, &password));

    let revoked = client.call("db_revoke", json!({"lease_id": id})).ok().clone();
    assert!(question(&client).starts_with(&format!("REVOKE {id} — ")), "{}", question(&client));
    assert_eq!(revoked["lease_id"], id);
    assert!(!scene.can_log_in(&user, &password) && !scene.postgres.has_user(&user));
    assert_eq!(client.call("db_leases", json!({})).ok()["leases"], json!([]));
    for tool in ["db_renew", "db_revoke"] {
        assert_refused(&client.call(tool, json!({"lease_id": id})), "lease_unknown");
    }
    assert_nowhere(&client, &[&password]);
}

#[test]
fn a_lease_that_has_ended_is_no_longer_known() {
    let Some(scene) = scene() else { return };
    let client = scene.client(&[]);
    let issued = client.call("db_issue_creds", json!({"role": "short"})).ok().clone();
    wait_until("the end of a lease", PATIENCE, || {
        (client.call("db_leases", json!({})).ok()["leases"] == json!([])).then_some(())
    });
    assert_refused(&client.call("db_renew", json!({"lease_id": issued["lease_id"]})), "lease_unknown");
}

#[test]
fn a_lease_that_vault_ended_is_said_to_be_gone() {
    let Some(scene) = scene() else { return };
    let client = scene.client(&[]);
    let (issued, ..) = issue(&client);
    vault().put("sys/leases/revoke", json!({"lease_id": issued["lease_id"], "sync": true})).ok();
    let renewed = client.call("db_renew", json!({"lease_id": issued["lease_id"]}));
    assert_refused(&renewed, "vault_rejected");
    assert!(renewed.text().contains("the lease has ended"), "{}", renewed.text());
    assert_eq!(client.call("db_leases", json!({})).ok()["leases"], json!([]), "it is listed all the same");
}

#[test]
fn another_subject_s_lease_and_one_made_up_are_refused_before_anything_is_sent() {
    let Some(scene) = scene() else { return };
    let other = scene.client(&[]);
    let (issued, user, password) = issue(&other);
    let proxy = Proxy::new(vault());
    let client = scene.through(&proxy);
    let (own, ..) = issue(&client);
    let asked = client.asked().len();
    let own = own["lease_id"].as_str().unwrap();
    let prefix = format!("{}/creds/app", scene.mount);
    for id in [
        issued["lease_id"].as_str().unwrap(),
        &format!("{prefix}/AAAAAAAAAAAAAAAAAAAAAAAA"),
        &prefix,
        &scene.mount,
        &own[..own.len() - 1],
        &own.to_ascii_uppercase(),
        "auth/token/create/x",
    ] {
        for tool in ["db_renew", "db_revoke"] {
            let call = || client.call(tool, json!({"lease_id": id}));
            assert_refused(&assert_untouched(&proxy, call), "lease_unknown");
        }
    }
    assert_eq!(client.asked().len(), asked, "a human was asked in vain");
    assert!(scene.can_log_in(&user, &password));
    assert_eq!(other.call("db_leases", json!({})).ok()["leases"].as_array().unwrap().len(), 1);
}

#[test]
fn names_numbers_and_lease_ids_of_no_good_form_are_not_sent() {
    let Some(scene) = scene() else { return };
    let proxy = Proxy::new(vault());
    let client = scene.through(&proxy);
    let mut calls = Vec::new();
    for role in ["", "..", "../x", "app/../x", "app?x", "app#x", "app%2fx", "app\n", " app", "*", "+", "ａpp"]
    {
        calls.push(("db_issue_creds", json!({"role": role})));
    }
    let long = "l".repeat(513);
    for id in [
        "",
        "/",
        "..",
        "a/../b",
        "a//b",
        "/a/b",
        "a/b/",
        "a/./b",
        "a?b",
        "a#b",
        "a%2fb",
        "a b",
        "a\n",
        "a\u{0}",
        "a\\b",
        "a*",
        "a\u{202e}",
        long.as_str(),
    ] {
        calls.push(("db_renew", json!({"lease_id": id})));
        calls.push(("db_revoke", json!({"lease_id": id})));
    }
    for number in
        ["0", "-1", "9223372036854775808", "18446744073709551616", "31536001", "1.5", "1e3", "\"60\""]
    {
        let number: Value = serde_json::from_str(number).unwrap();
        calls.push(("db_renew", json!({"lease_id": "a/b", "increment": number})));
    }
    calls.push(("db_revoke", json!({"lease_id": "a/b", "sync": false})));
    calls.push(("db_revoke", json!({"lease_id": "a/b", "prefix": true})));
    calls.push(("db_issue_creds", json!({"role": "app", "mount": "other"})));
    for (tool, arguments) in calls {
        let result = assert_untouched(&proxy, || client.call(tool, arguments.clone()));
        assert!(result.is_error(), "{tool} {arguments} was not refused");
        assert_refused(&result, "invalid_input");
    }
    assert!(client.asked().is_empty());
}

#[test]
fn an_issue_is_sent_once_though_the_connection_breaks() {
    let Some(scene) = scene() else { return };
    for fault in
        [Fault::ResetAfter, Fault::ResetBefore, Fault::Status(500), Fault::StatusAfter(503), Fault::Truncated]
    {
        let proxy = Proxy::new(vault());
        let client = scene.through(&proxy);
        proxy.fail(On::target("/creds/"), fault.clone());
        let result = client.call("db_issue_creds", json!({"role": "app", "to": "out.env"}));
        assert_refused(&result, "outcome_unknown");
        assert_eq!(creds(&proxy), 1, "{fault:?}: it was issued again");
        assert!(!work(&client).join("out.env").exists(), "{fault:?}: an empty file was left");
        let failed = records_of(client.server().home().audit_log(), "db.issue_creds");
        assert_eq!(failed.last().unwrap()["action"], "FAILED");
    }
}

#[test]
fn an_approval_issues_once_however_often_it_is_sent() {
    let Some(scene) = scene() else { return };
    let proxy = Proxy::new(vault());
    let client = Server::of(vault(), &vault().fresh_subject())
        .env("VAULT_ADDR", &proxy.address)
        .env("DATABASE_MOUNT", &scene.mount)
        .env("RATE_LIMIT_ENABLED", "false")
        .spawn()
        .connect(Era::stateless());
    client.always(Answer::yes());
    let params = json!({"name": "db_issue_creds", "arguments": {"role": "app"}});
    let first = client.request("tools/call", params.clone()).unwrap();
    assert_eq!(first["resultType"], "input_required", "{first}");
    let again = client.repeat(&params, &first).unwrap();
    let pending: Vec<_> = (0..5).map(|_| client.start("tools/call", again.clone())).collect();
    let results: Vec<Value> = pending.into_iter().map(|pending| pending.wait().unwrap()).collect();
    let good = results.iter().filter(|result| result["structuredContent"]["lease_id"].is_string()).count();
    assert_eq!((good, creds(&proxy)), (1, 1), "{results:?}");
}

#[test]
fn a_file_that_cannot_be_made_leaves_no_lease() {
    let Some(scene) = scene() else { return };
    let proxy = Proxy::new(vault());
    let client = scene.through(&proxy);
    let folder = work(&client);
    std::fs::write(folder.join("there.env"), "A=1\n").unwrap();
    std::os::unix::fs::symlink("/tmp", folder.join("link")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.join("dangling.env")).unwrap();
    std::fs::create_dir_all(folder.join("other/.git")).unwrap();
    for to in [
        "there.env",
        "dangling.env",
        "link/x.env",
        "../x.env",
        "missing/x.env",
        "/etc/vault-mcp-test.env",
        "/tmp/vault-mcp-test.env",
        ".git/x",
        ".ssh/x",
        ".bashrc",
        "other/x.env",
        "other",
    ] {
        let result = client.call("db_issue_creds", json!({"role": "app", "to": to}));
        assert_refused(&result, "file_refused");
    }
    for to in ["", "a\nb", "a\u{202e}b", "a\u{0}"] {
        let call = || client.call("db_issue_creds", json!({"role": "app", "to": to}));
        assert_refused(&assert_untouched(&proxy, call), "invalid_input");
    }
    assert_eq!(creds(&proxy), 0);
    assert_eq!(client.call("db_leases", json!({})).ok()["leases"], json!([]));
    assert_eq!(std::fs::read_to_string(folder.join("there.env")).unwrap(), "A=1\n");
}

#[test]
fn a_declined_issue_reaches_no_database() {
    let Some(scene) = scene() else { return };
    let proxy = Proxy::new(vault());
    let client = scene.through(&proxy);
    for answer in [Answer::Decline, Answer::Cancel, Answer::typed("no"), Answer::Accept(json!({}))] {
        client.always(answer);
        let result = client.call("db_issue_creds", json!({"role": "app", "to": "out.env"}));
        assert!(result.is_error(), "{}", result.0);
    }
    assert_eq!(creds(&proxy), 0);
    assert!(!work(&client).join("out.env").exists());
}

#[test]
fn leases_are_revoked_at_the_session_s_end_where_the_human_said_so() {
    let Some(scene) = scene() else { return };
    let kept = scene.client(&[]);
    let (_, kept_user, kept_password) = issue(&kept);
    let client = scene.client(&[("REVOKE_LEASES_ON_EXIT", "true")]);
    let (issued, user, password) = issue(&client);
    let (second, second_user, _) = issue(&client);
    client.call("db_revoke", json!({"lease_id": second["lease_id"]})).ok();
    assert!(scene.can_log_in(&user, &password) && !scene.postgres.has_user(&second_user));
    let home = client.server().home().clone();
    assert!(client.close().success());
    assert!(kept.close().success());
    assert!(!scene.can_log_in(&user, &password), "the lease outlived the session");
    assert!(scene.can_log_in(&kept_user, &kept_password), "a lease was revoked that nobody wanted revoked");
    let records = audit_records(home.audit_log());
    let revoked: Vec<_> = records.iter().filter(|record| record["op"] == "db.revoke").collect();
    let last = revoked.last().unwrap();
    assert!(last["action"] == "SUCCESS" && last["target"] == issued["lease_id"], "{last}");
}

#[test]
fn no_engine_no_role_and_no_permission_are_three_answers_with_three_remedies() {
    let Some(scene) = scene() else { return };
    let missing = session(&[("DATABASE_MOUNT", "nosuchmount")]);
    let no_engine = missing.call("db_issue_creds", json!({"role": "app"}));
    assert_refused(&no_engine, "mount_not_found");
    assert!(no_engine.text().contains("DATABASE_MOUNT"), "{}", no_engine.text());

    let no_role = scene.client(&[]).call("db_issue_creds", json!({"role": "nosuch"}));
    assert_refused(&no_role, "vault_rejected");
    assert!(no_role.text().contains("there is no such role"), "{}", no_role.text());

    let token = vault().token("path \"none\" { capabilities = [\"read\"] }", "5m");
    let bare = session_of(&vault().fresh_subject(), &token, &[("DATABASE_MOUNT", &scene.mount)]);
    let no_permission = bare.call("db_issue_creds", json!({"role": "app"}));
    assert_refused(&no_permission, "forbidden");
    let line = format!("path \"{}/creds/app\" {{ capabilities = [\"read\"] }}", scene.mount);
    assert!(no_permission.text().contains(&line), "{}", no_permission.text());
    assert!(bare.asked().is_empty(), "a human was asked in vain");
    assert!(scene.leases("nosuch") == 0);
}
