//! vault_generate_example.

use serde_json::json;

use super::{Scene, mode};
use crate::common::{Answer, assert_no_canary, assert_refused, canary};

#[test]
fn an_example_has_references_and_no_value_and_fills_again() {
    let scene = Scene::new();
    let secret = canary("example");
    let file =
        format!("# Shop\nDB_PASSWORD='{secret}'\nPORT=5432 # {secret}\nKNOWN={secret}\n# OLD={secret}\n");
    scene.write(".env", &file);
    scene.secret(json!({"KNOWN": secret, "DB_PASSWORD": secret}));
    let result = scene.client.call("vault_generate_example", json!({"service": "shop", "file_path": ".env"}));
    assert_no_canary(result.0.to_string(), "an example");
    let reference = |key: &str| format!("'secretref://secret/mcp/{}/shop#{key}'", scene.subject);
    let wanted = format!(
        "# Shop\nDB_PASSWORD={}\nPORT=\nKNOWN={}\n# OLD=\n",
        reference("DB_PASSWORD"),
        reference("KNOWN")
    );
    assert_eq!(result.ok()["example"], wanted);
    assert_eq!(result.ok()["references"], json!(["DB_PASSWORD", "KNOWN"]));
    assert!(scene.client.asked().is_empty());
    assert_eq!(scene.names(), [".env"]);

    let call = json!({"service": "shop", "file_path": ".env", "output_path": ".env.example"});
    scene.client.always(Answer::Decline);
    assert_refused(&scene.client.call("vault_generate_example", call.clone()), "declined");
    assert_eq!(scene.names(), [".env"]);
    assert!(scene.question().starts_with("EXAMPLE "), "{}", scene.question());
    let scene = Scene { client: scene.again(), ..scene };
    let result = scene.client.call("vault_generate_example", call.clone());
    assert!(result.ok().get("example").is_none(), "{}", result.0);
    assert_eq!((scene.read(".env.example"), mode(scene.path(".env.example"))), (wanted.clone(), 0o600));
    assert_refused(&scene.client.call("vault_generate_example", call), "file_refused");
    assert_eq!(scene.read(".env.example"), wanted);

    let call = json!({"service": "shop", "target": "new.env", "template": ".env.example"});
    scene.client.call("vault_inject", call).ok();
    assert_eq!(
        scene.read("new.env"),
        format!("# Shop\nDB_PASSWORD='{secret}'\nPORT=\nKNOWN='{secret}'\n# OLD=\n")
    );
    scene.records();
}

#[test]
fn a_yaml_example_keeps_the_shape() {
    let scene = Scene::new();
    let secret = canary("shape");
    scene.write(
        "app.yml",
        &format!("# {secret}\ndb:\n  password: {secret}\n  host: {secret} x\n  on: true\n"),
    );
    let result =
        scene.client.call("vault_generate_example", json!({"service": "shop", "file_path": "app.yml"}));
    assert_no_canary(result.0.to_string(), "an example");
    let reference = format!("secretref://secret/mcp/{}/shop#password", scene.subject);
    assert_eq!(result.ok()["example"], format!("db:\n  password: {reference}\n  host: ''\n  on: true\n"));
    scene.write("bad.yml", &format!("a: [{secret}\n"));
    let refused =
        scene.client.call("vault_generate_example", json!({"service": "shop", "file_path": "bad.yml"}));
    assert_refused(&refused, "file_unreadable");
}

#[test]
fn a_read_only_server_shows_examples_and_writes_none() {
    let scene = Scene::with(&[("READ_ONLY", "true")]);
    scene.write(".env", "A_TOKEN=abc\n");
    let mut call = json!({"service": "shop", "file_path": ".env"});
    let shown = scene.client.call("vault_generate_example", call.clone());
    assert!(shown.ok()["example"].as_str().unwrap().starts_with("A_TOKEN='secretref://"), "{}", shown.0);
    call["output_path"] = json!(".env.example");
    assert_refused(&scene.client.call("vault_generate_example", call), "invalid_input");
    assert_eq!(scene.names(), [".env"]);
}
