//! `docs/http-auth.md` is true: its commands are run in their order, and give what stands below them.

use std::process::Command;

use super::super::rig::Http;
use crate::common::{Home, Proxy, Server, canary, server::binary, vault};

/// Blocks of this language, in order, each with the `text` block that follows it.
fn blocks(document: &str, language: &str) -> Vec<(String, String)> {
    let block = |text: &str, language: &str| {
        let (_, rest) = text.split_once(&format!("```{language}\n"))?;
        let (block, rest) = rest.split_once("```")?;
        Some((block.to_owned(), rest.to_owned()))
    };
    let mut found = Vec::new();
    let mut rest = document.to_owned();
    while let Some((commands, after)) = block(&rest, language) {
        let (output, after) = block(&after, "text").expect("commands without what they give");
        found.push((commands, output));
        rest = after;
    }
    found
}

#[test]
fn the_documents_commands_give_what_it_says() {
    let document =
        std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/http-auth.md")).unwrap();
    let (home, proxy, secret) = (Home::new(), Proxy::new(vault()), canary("a_secret_of_32_bytes_or_more"));
    let launch = Server::launch()
        .home(&home)
        .env("VAULT_ADDR", &proxy.address)
        .env("VAULT_TOKEN", &vault().root)
        .env("JWT_HS256_SECRET", &secret);
    let http = Http::of(launch, proxy);
    let address = http.url.trim_start_matches("http://");
    let blocks = blocks(&document, "sh");
    assert!(blocks.len() >= 4, "{blocks:?}");
    // One shell for all of them, for they use each other's variables; a mark tells what each of them says.
    let script: String = blocks.iter().map(|(commands, _)| format!("{commands}\necho '=='\n")).collect();
    let program = std::path::PathBuf::from(binary());
    let path = format!("{}:/usr/local/bin:/usr/bin:/bin", program.parent().unwrap().display());
    let output = Command::new("sh")
        .args(["-eu", "-c", &script.replace("127.0.0.1:8089", address)])
        .env_clear()
        .envs(home.environment())
        .env("PATH", path)
        .env("JWT_HS256_SECRET", &secret)
        .current_dir(home.work())
        .output()
        .unwrap();
    let (said, complained) =
        (String::from_utf8(output.stdout).unwrap(), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}\n{complained}");
    let lines = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.trim_end().to_owned()).filter(|line| !line.is_empty()).collect()
    };
    let said: Vec<_> = said.split("==\n").map(lines).collect();
    for (at, (commands, expected)) in blocks.iter().enumerate() {
        let expected = lines(&expected.replace("127.0.0.1:8089", address));
        assert_eq!(said[at], expected, "{commands}\n{complained}");
    }
}
