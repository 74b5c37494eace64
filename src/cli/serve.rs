//! The MCP server on standard input and output: what runs when no command is given.

use std::{process::ExitCode, sync::Arc};

use rmcp::{ServiceExt, service::ServerInitializeError};
use tokio_util::sync::CancellationToken;

use super::{broker, dev::For, local_caller, on_signal, runtime};
use crate::{
    broker::{Broker, Outcome},
    caller::{Caller, Front},
    config::{Approval, Config},
    error::Error,
    front::{
        approver::Hub,
        mcp::{House, McpServer, Tracked, stdio::StdioTransport, streams},
    },
    op,
};

/// Serves one client until its input ends or a signal asks to stop.
pub(super) fn run(mut config: Config, dev: bool) -> Result<ExitCode, Error> {
    let caller = local_caller(&config, Front::Stdio);
    let approval = *config.approval;
    let revoke = *config.revoke_leases_on_exit;
    let runtime = runtime()?;
    let code = runtime.block_on(async {
        // Held until the session ends: the embedded Vault ends with it.
        let _vault = if dev { Some(super::dev::embed(&mut config, For::LocalUser).await?) } else { None };
        let broker = broker(config)?;
        let ended = CancellationToken::new();
        tokio::spawn(on_signal(ended.clone()));
        let approvers = if approval == Approval::Client {
            None
        } else {
            Hub::listen(broker.clone(), &caller)
                .inspect_err(|error| tracing::warn!(%error, "no approver can attach"))
                .ok()
        };
        let leaving = Caller { front: Front::Cli, ..caller.clone() };
        let house = House::new(broker.clone(), approvers, ended.clone())?;
        let server = McpServer::new(house, caller);
        let transport = StdioTransport::new(streams::input(), streams::output(), ended.clone());
        let server = Tracked::new(server, transport.in_flight());
        let code = match server.serve(transport).await {
            Ok(running) => {
                // How the loop ended is no matter: the input is gone, and so is whom to tell.
                let _ = running.waiting().await;
                if revoke {
                    revoke_leases(&broker, &leaving).await;
                }
                ExitCode::SUCCESS
            }
            Err(ServerInitializeError::ConnectionClosed(_) | ServerInitializeError::Cancelled) => {
                ExitCode::SUCCESS
            }
            // The client went away before the session began.
            Err(_) if ended.is_cancelled() => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
        broker.end().await;
        Ok(code)
    });
    // Where standard input is neither pipe nor socket a thread may still be waiting for a line. It must not be waited for.
    runtime.shutdown_background();
    code
}

/// `REVOKE_LEASES_ON_EXIT`: the human's standing order, carried out call by call through the broker, each
/// with its record.
async fn revoke_leases(broker: &Arc<Broker>, caller: &Caller) {
    let call = async |id: &str, arguments: serde_json::Value| match op::find(id) {
        Some(op) => broker.call(op, arguments, caller, None).await.ok(),
        None => None,
    };
    let Some(Outcome::Done(held)) = call("db.leases", serde_json::json!({})).await else { return };
    for lease in held.value.get("leases").and_then(|list| list.as_array()).into_iter().flatten() {
        if let Some(id) = lease.get("lease_id") {
            // What cannot be revoked ends by itself; its record says that it failed.
            let _ = call("db.revoke", serde_json::json!({ "lease_id": id })).await;
        }
    }
}
