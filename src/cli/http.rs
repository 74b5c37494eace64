//! `--http`: REST, MCP and events for many callers, until a signal asks to end.

use std::{io::Write, process::ExitCode};

use tokio_util::sync::CancellationToken;

use super::{broker, dev::For, local_caller, on_signal};
use crate::{
    caller::Front,
    config::{Approval, Config},
    error::Error,
    front::{
        approver::Hub,
        http::{App, Listener, auth, router},
    },
    telemetry::Telemetry,
};

/// Serves until a signal asks to end.
pub(super) fn run(mut config: Config, dev: bool, telemetry: Telemetry) -> Result<ExitCode, Error> {
    let caller = local_caller(&config, Front::McpHttp);
    let approval = *config.approval;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|_| Error::Internal { what: "no runtime" })?;
    let code = runtime.block_on(async {
        // Held until the end: the embedded Vault ends with it.
        let _vault = if dev {
            let known = auth::known_subjects(&config)?;
            Some(super::dev::embed(&mut config, For::Callers(&known)).await?)
        } else {
            None
        };
        let broker = broker(config)?;
        let ended = CancellationToken::new();
        let approvers = if approval == Approval::Client {
            None
        } else {
            Hub::listen(broker.clone(), &caller)
                .inspect_err(|error| tracing::warn!(%error, "no approver can attach"))
                .ok()
        };
        let listener = Listener::bind(broker.config()).await?;
        let app = App::new(broker.clone(), approvers, telemetry.files(), &listener.url(), ended.clone())?;
        // Nobody reading is no fault.
        let _ = writeln!(std::io::stderr(), "vault-mcp: listening on {}", listener.url());
        tokio::spawn(on_signal(ended.clone()));
        // A call outlives the connection that it came over.
        listener.serve(router(&app), ended, broker.all_ended()).await;
        broker.end().await;
        Ok(ExitCode::SUCCESS)
    });
    runtime.shutdown_background();
    telemetry.end();
    code
}
