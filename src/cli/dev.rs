//! `vault-mcp dev` and `--dev`: a Vault to try things with, filled with sample content. Everything in it is
//! gone when it ends, and that is said wherever it shows.

use std::{
    net::{SocketAddr, TcpListener},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use super::{local_caller, print, runtime};
use crate::{
    caller::Front,
    config::{Config, FromSetting, SecretText},
    dev::{
        DevVault, Options,
        seed::{Many, Report, Seed, seed, seed_many},
    },
    error::Error,
    names::Subject,
    vault::http::{Tls, http_client},
};

/// Arguments of `vault-mcp dev`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Which server: the embedded one, or `bao` or `vault` on PATH
    #[arg(long, value_enum, default_value_t)]
    server: Server,
    /// Address to listen on; port 0 takes a free one
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8200")]
    listen: SocketAddr,
    /// Root token; a random one if left out
    #[arg(long, value_name = "TOKEN")]
    root_token: Option<String>,
    /// Leave it empty
    #[arg(long)]
    no_sample: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
enum Server {
    /// Inside this process.
    #[default]
    Embedded,
    /// OpenBao.
    Bao,
    /// HashiCorp Vault.
    Vault,
}

fn fault(error: impl std::fmt::Display) -> Error {
    Error::config("dev", format!("{error}."))
}

/// Whom the embedded Vault is for.
#[derive(Debug, Clone, Copy)]
pub(super) enum For<'a> {
    /// The one at this machine.
    LocalUser,
    /// Whoever calls over HTTP; these are known beforehand.
    Callers(&'a [Subject]),
}

/// Starts the embedded Vault for this process alone, fills it, and points the settings at it. The server
/// gets a token with the policy that such a server needs, not the root token.
pub(super) async fn embed(config: &mut Config, whom: For<'_>) -> Result<DevVault, Error> {
    let subject = local_caller(config, Front::Cli).subject;
    let vault = DevVault::start(Options::default()).await.map_err(fault)?;
    let what = Seed {
        prefix: config.default_prefix.clone(),
        mount: config.kv_mount.as_str().to_owned(),
        transit: config.transit_mount.as_str().to_owned(),
        ssh: config.ssh_mount.as_str().to_owned(),
        pki: config.pki_mount.as_str().to_owned(),
        database: config.database_mount.as_str().to_owned(),
        ..Seed::for_subject(subject.as_str())
    };
    let client = http_client(&Tls { plain: true, ..Tls::default() })?;
    let report = seed(&vault.url(), vault.root_token(), &client, &what).await.map_err(fault)?;
    let token = match whom {
        For::LocalUser => {
            report.tokens.first().map_or(vault.root_token(), |made| made.token.as_str()).to_owned()
        }
        For::Callers(subjects) => {
            let many = Many {
                subjects: subjects.iter().map(Subject::as_str).collect(),
                own_tokens: config.child_token_enabled.then(|| config.child_token_policy_prefix.as_str()),
            };
            seed_many(&vault.url(), vault.root_token(), &client, &what, &many).await.map_err(fault)?
        }
    };
    let token = SecretText::parse(&token).map_err(fault)?;
    config.use_embedded(&vault.url(), token)?;
    tracing::warn!(
        address = vault.url(),
        "the embedded dev Vault: everything in it is gone when this process ends"
    );
    Ok(vault)
}

pub(super) fn run(config: &Config, arguments: Arguments) -> Result<ExitCode, Error> {
    let subject = local_caller(config, Front::Cli).subject;
    let what = Seed { prefix: config.default_prefix.clone(), ..Seed::for_subject(subject.as_str()) };
    runtime()?.block_on(async {
        let running = Running::start(&arguments).await?;
        let client = http_client(&Tls { plain: true, ..Tls::default() })?;
        let report = if arguments.no_sample {
            Report::default()
        } else {
            seed(&running.url, &running.root_token, &client, &what).await.map_err(fault)?
        };
        print(&announcement(&running, arguments.server, &report))?;
        running.wait().await
    })
}

/// What the human sees. The first line sets a shell up: `eval "$(vault-mcp dev | head -n 1)"` is not
/// needed, it can be pasted.
fn announcement(running: &Running, server: Server, report: &Report) -> String {
    let url = &running.url;
    let mut text = format!("export VAULT_ADDR={url}\nexport VAULT_TOKEN={}\n", running.root_token);
    let what = if server == Server::Embedded { "the embedded dev Vault" } else { "a dev server" };
    text.push_str(&format!(
        "\nThis is {what}: in memory, on this machine only, gone when it ends (Ctrl-C).\n"
    ));
    if let Some(key) = &running.unseal_key {
        text.push_str(&format!("Unseal key: {key}\n"));
    }
    for secret in &report.secrets {
        text.push_str(&format!("Sample secret: {secret}\n"));
    }
    for key in &report.transit_keys {
        text.push_str(&format!("Transit key: {key}\n"));
    }
    for role in &report.ssh_roles {
        text.push_str(&format!("SSH role: {role}\n"));
    }
    for role in &report.pki_roles {
        text.push_str(&format!("PKI role: {role}\n"));
    }
    for made in &report.tokens {
        text.push_str(&format!("Token with the policy {}: {}\n", made.policy, made.token));
    }
    if let Some(approle) = &report.approle {
        text.push_str(&format!(
            "AppRole: VAULT_ROLE_ID={} VAULT_SECRET_ID={}\n",
            approle.role_id, approle.secret_id
        ));
    }
    if let Some(user) = &report.userpass {
        text.push_str(&format!("userpass: {} / {}\n", user.user, user.password));
    }
    for skipped in &report.skipped {
        text.push_str(&format!("Left out: {} ({})\n", skipped.part, skipped.reason));
    }
    if let Some(made) = report.tokens.first() {
        text.push_str(&format!(
            "\nRegister it in Claude Code:\n  claude mcp add vault-dev -e VAULT_ADDR={url} -e VAULT_TOKEN={} -- vault-mcp\n",
            made.token
        ));
    }
    text
}

/// A server, whichever it is.
struct Running {
    url: String,
    root_token: String,
    unseal_key: Option<String>,
    embedded: Option<DevVault>,
    child: Option<Reaped>,
}

/// A child that does not outlive this process.
struct Reaped(Child);

impl Drop for Reaped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    async fn start(arguments: &Arguments) -> Result<Self, Error> {
        let program = match arguments.server {
            Server::Embedded => {
                let options = Options { listen: arguments.listen, root_token: arguments.root_token.clone() };
                let vault = DevVault::start(options).await.map_err(fault)?;
                return Ok(Self {
                    url: vault.url(),
                    root_token: vault.root_token().to_owned(),
                    unseal_key: Some(vault.unseal_key().to_owned()),
                    embedded: Some(vault),
                    child: None,
                });
            }
            Server::Bao => "bao",
            Server::Vault => "vault",
        };
        if !arguments.listen.ip().is_loopback() {
            return Err(fault("a dev server listens on loopback only; use 127.0.0.1"));
        }
        let listen = free(arguments.listen)?;
        let root_token = match &arguments.root_token {
            Some(token) => token.clone(),
            None => random_token()?,
        };
        let child = Command::new(program)
            .args(["server", "-dev", "-dev-no-store-token"])
            .arg(format!("-dev-listen-address={listen}"))
            // By the environment: a command line could be read by every process of the machine.
            .env("VAULT_DEV_ROOT_TOKEN_ID", &root_token)
            .env("BAO_DEV_ROOT_TOKEN_ID", &root_token)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(|error| {
                fault(format!(
                    "`{program}` does not start ({}); install it, or use --server embedded",
                    error.kind()
                ))
            })?;
        let mut running = Self {
            url: format!("http://{listen}"),
            root_token,
            unseal_key: None,
            embedded: None,
            child: Some(Reaped(child)),
        };
        running.await_health(program).await?;
        Ok(running)
    }

    async fn await_health(&mut self, program: &str) -> Result<(), Error> {
        let client = http_client(&Tls { plain: true, ..Tls::default() })?;
        let until = Instant::now() + Duration::from_secs(15);
        while Instant::now() < until {
            if let Some(Reaped(child)) = &mut self.child
                && let Ok(Some(_)) = child.try_wait()
            {
                return Err(fault(format!(
                    "`{program} server -dev` ended at once; run it by hand to see why"
                )));
            }
            let health = client.get(format!("{}/v1/sys/health", self.url)).send().await;
            if health.is_ok_and(|response| response.status().is_success()) {
                return Ok(());
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Err(fault(format!("`{program} server -dev` does not answer within 15 s; run it by hand to see why")))
    }

    async fn wait(mut self) -> Result<ExitCode, Error> {
        let ended = tokio_util::sync::CancellationToken::new();
        let signal = super::on_signal(ended.clone());
        let died = async {
            loop {
                tokio::time::sleep(Duration::from_millis(300)).await;
                if let Some(Reaped(child)) = &mut self.child
                    && let Ok(Some(_)) = child.try_wait()
                {
                    return;
                }
            }
        };
        tokio::select! {
            () = signal => {}
            () = died => return Err(fault("the dev server ended by itself")),
        }
        if let Some(vault) = self.embedded {
            vault.shutdown().await;
        }
        Ok(ExitCode::SUCCESS)
    }
}

/// The address asked for, or one with a free port when the port is 0.
fn free(listen: SocketAddr) -> Result<SocketAddr, Error> {
    if listen.port() != 0 {
        return Ok(listen);
    }
    TcpListener::bind(listen)
        .and_then(|socket| socket.local_addr())
        .map_err(|error| fault(format!("no free port ({})", error.kind())))
}

fn random_token() -> Result<String, Error> {
    let mut bytes = [0u8; 16];
    crate::random::fill(&mut bytes)?;
    Ok(format!("dev-{}", hex::encode(bytes)))
}
