//! A byte-copying hop: the least that anything between a client and a Vault can do. It runs as a process of its
//! own, as vault-mcp does: this program, started again.

use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
};

/// Names the address that the copy of this program is to copy to.
const TO: &str = "VAULT_MCP_BENCH_HOP_TO";

/// True when this process was the hop, and is done.
pub fn was_asked_for() -> bool {
    let Ok(to) = std::env::var(TO) else { return false };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        println!("http://{}", listener.local_addr().unwrap());
        loop {
            let (mut near, _) = listener.accept().await.unwrap();
            let to = to.clone();
            tokio::spawn(async move {
                let mut far = tokio::net::TcpStream::connect(&to).await.unwrap();
                near.set_nodelay(true).unwrap();
                far.set_nodelay(true).unwrap();
                // How it ends is no matter here.
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    })
}

pub struct Hop {
    child: Child,
    pub address: String,
}

impl Hop {
    /// A hop to this Vault.
    pub fn to(address: &str) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .env(TO, address.trim_start_matches("http://"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, address: line.trim().to_owned() }
    }
}

impl Drop for Hop {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
