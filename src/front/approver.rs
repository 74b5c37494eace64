//! The socket that a human's terminal attaches to: `vault-mcp approve` in another terminal answers this
//! server's questions there, out of the model's reach.
//!
//! What keeps the model out: the socket lies in a 0700 folder and accepts only this user; a process that
//! descends from the MCP client, or shares a terminal session with it, is refused (the model's own shell
//! is one); and one approver at a time is attached. Against a model that may run any program as this user
//! this is a hurdle, not a wall: an approver with its own Vault login, and a server token that can only
//! read, is the wall.

mod lineage;
pub mod wire;

use std::{
    collections::HashMap,
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use serde_json::Value;
use tokio::{
    io::AsyncWriteExt,
    net::{UnixListener, UnixStream},
    sync::{mpsc, oneshot},
};

use crate::{
    broker::{Broker, Closed, Consent, Delegate, Question, SecretValue, TicketId},
    caller::Caller,
    config::DangerousPatterns,
    error::Error,
    op::Boxed,
};
pub use lineage::Connection;
use wire::{FromApprover, Lines, ToApprover};

/// What an approver said.
pub enum Decision {
    /// Yes, and what comes with it.
    Yes(Consent),
    /// No yes, and why.
    Closed(Closed),
}

struct Attached {
    number: u64,
    login: bool,
    process: Option<i32>,
    lines: mpsc::UnboundedSender<ToApprover>,
}

#[derive(Default)]
struct State {
    attached: Option<Attached>,
    next: u64,
    decisions: HashMap<TicketId, oneshot::Sender<Decision>>,
    results: HashMap<TicketId, oneshot::Sender<Result<Value, Error>>>,
}

/// The approvers' side of one server.
pub struct Hub {
    path: PathBuf,
    hello: wire::Hello,
    state: Mutex<State>,
    broker: Arc<Broker>,
}

impl Drop for Hub {
    fn drop(&mut self) {
        // Best effort: a socket that is left behind is found dead and removed by the next approver.
        let _ = std::fs::remove_file(&self.path);
    }
}

/// The folder of the sockets, made 0700 if it is not there.
///
/// # Errors
/// When it cannot be made, or is somebody else's.
pub fn socket_folder() -> io::Result<PathBuf> {
    let uid = rustix::process::getuid().as_raw();
    let folder = match directories::ProjectDirs::from("", "", "vault-mcp")
        .and_then(|dirs| dirs.runtime_dir().map(Path::to_owned))
    {
        Some(folder) => folder,
        None => std::env::temp_dir().join(format!("vault-mcp-{uid}")),
    };
    std::fs::DirBuilder::new().recursive(true).mode(0o700).create(&folder)?;
    let metadata = std::fs::symlink_metadata(&folder)?;
    if !metadata.is_dir() || metadata.uid() != uid || metadata.permissions().mode() & 0o077 != 0 {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            format!("{} is not a folder of this user alone (0700). Remove it", folder.display()),
        ));
    }
    Ok(folder)
}

impl Hub {
    /// Binds this process's socket and serves approvers from then on.
    ///
    /// # Errors
    /// When the folder or the socket cannot be had; the server works without.
    pub fn listen(broker: Arc<Broker>, caller: &Caller) -> io::Result<Arc<Self>> {
        let folder = socket_folder()?;
        let path = folder.join(format!("{}.sock", std::process::id()));
        // Made under another name, so that nobody finds it before it listens and takes it for a dead one.
        let unready = folder.join(format!("{}.new", std::process::id()));
        for left_behind in [&path, &unready] {
            match std::fs::remove_file(left_behind) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        let listener = UnixListener::bind(&unready)?;
        std::fs::set_permissions(&unready, std::fs::Permissions::from_mode(0o600))?;
        std::fs::rename(&unready, &path)?;
        let config = broker.config();
        let hello = wire::Hello {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            subject: caller.subject.as_str().to_owned(),
            address: config.vault_addr.as_str().to_owned(),
            namespace: config.vault_namespace.clone(),
        };
        let hub = Arc::new(Self { path, hello, state: Mutex::default(), broker: broker.clone() });
        let weak = Arc::downgrade(&hub);
        broker.when_login_attached(move || weak.upgrade().is_some_and(|hub| hub.has_login()));
        let weak = Arc::downgrade(&hub);
        tokio::spawn(async move {
            loop {
                let accepted = listener.accept().await;
                let Some(hub) = weak.upgrade() else { return };
                match accepted {
                    Ok((stream, _)) => drop(tokio::spawn(async move { hub.serve(stream).await })),
                    // Out of descriptors, most likely: that passes.
                    Err(_) => tokio::time::sleep(Duration::from_millis(500)).await,
                }
            }
        });
        Ok(hub)
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when an approver is attached.
    #[must_use]
    pub fn is_attached(&self) -> bool {
        self.state().attached.is_some()
    }

    /// True when it has its own Vault login.
    #[must_use]
    pub fn has_login(&self) -> bool {
        self.state().attached.as_ref().is_some_and(|attached| attached.login)
    }

    /// True when the attached approver belongs to the client at the other end of this connection: whoever asks does
    /// not answer.
    pub async fn is_of_client(&self, connection: Connection) -> bool {
        let process = self.state().attached.as_ref().and_then(|attached| attached.process);
        let Some(process) = process else { return false };
        let look = tokio::task::spawn_blocking(move || lineage::is_of_client(connection, process));
        look.await.unwrap_or(true)
    }

    /// Puts a question before the attached approver and waits for what they say.
    pub async fn ask(
        self: &Arc<Self>,
        question: &Question,
        op: &'static str,
        arguments: &Value,
        caller: &Caller,
    ) -> Decision {
        let (sender, receiver) = oneshot::channel();
        {
            let mut state = self.state();
            let Some(attached) = &state.attached else { return Decision::Closed(GONE) };
            let ask = ToApprover::Ask(wire::Ask {
                ticket: question.ticket.as_str().to_owned(),
                text: question.text.clone(),
                op: op.to_owned(),
                target: question.target.clone(),
                subject: caller.subject.as_str().to_owned(),
                seconds: question.seconds,
                // Only an approver that carries the call out itself needs to know it whole.
                arguments: (attached.login && question.can_be_delegated).then(|| arguments.clone()),
                wanted: question
                    .asks_for
                    .clone()
                    .map(|key| wire::Wanted { key, block: self.dangerous() == DangerousPatterns::Block }),
            });
            if attached.lines.send(ask).is_err() {
                return Decision::Closed(GONE);
            }
            state.decisions.insert(question.ticket.clone(), sender);
        }
        receiver.await.unwrap_or(Decision::Closed(GONE))
    }

    fn dangerous(&self) -> DangerousPatterns {
        *self.broker.config().dangerous_patterns
    }

    /// Takes a question back: it timed out or was cancelled.
    pub fn withdraw(&self, ticket: &TicketId) {
        let mut state = self.state();
        if state.decisions.remove(ticket).is_some()
            && let Some(attached) = &state.attached
        {
            let _ = attached.lines.send(ToApprover::Withdraw { ticket: ticket.as_str().to_owned() });
        }
    }

    async fn serve(self: Arc<Self>, stream: UnixStream) {
        let process = stream.peer_cred().ok().and_then(|peer| peer.pid());
        let refusal = match stream.peer_cred() {
            Ok(peer) if peer.uid() != rustix::process::geteuid().as_raw() => {
                Some("this socket belongs to another user")
            }
            Ok(peer) => peer.pid().and_then(lineage::refusal),
            Err(_) => Some("the system does not say who is calling"),
        };
        let (read, mut write) = stream.into_split();
        let mut read = Lines::new(read);
        if let Some(why) = refusal {
            let _ = write.write_all(&wire::line(&ToApprover::Refused { why: why.to_owned() })).await;
            return;
        }
        if write.write_all(&wire::line(&ToApprover::Hello(self.hello.clone()))).await.is_err() {
            return;
        }
        let first = tokio::time::timeout(Duration::from_secs(5), next(&mut read)).await;
        let login = match first {
            Ok(Some(FromApprover::Attach { login })) => login,
            Ok(Some(FromApprover::Login { token })) => {
                if let Ok(token) = <crate::config::SecretText as crate::config::FromSetting>::parse(&token) {
                    self.broker.replace_token(token);
                }
                return;
            }
            _ => return,
        };
        let (lines, mut outgoing) = mpsc::unbounded_channel();
        let Some(number) = self.attach(login, process, lines) else {
            let why = "another approver is attached to it; end that one, then start this one again".into();
            let refused = ToApprover::Refused { why };
            let _ = write.write_all(&wire::line(&refused)).await;
            return;
        };
        let _ = write.write_all(&wire::line(&ToApprover::Attached)).await;
        loop {
            tokio::select! {
                line = outgoing.recv() => {
                    let Some(line) = line else { break };
                    if write.write_all(&wire::line(&line)).await.is_err() {
                        break;
                    }
                }
                message = next(&mut read) => {
                    let Some(message) = message else { break };
                    self.heard(message, login);
                }
            }
        }
        self.detach(number);
    }

    /// A number for this attachment, or nothing when another approver is there; that one is told.
    fn attach(
        &self,
        login: bool,
        process: Option<i32>,
        lines: mpsc::UnboundedSender<ToApprover>,
    ) -> Option<u64> {
        let mut state = self.state();
        if let Some(attached) = &state.attached {
            let text = format!(
                "A second approver tried to attach to the server of '{}' (process {}) and was refused. If that was not you, a program on this machine tried to answer in your place.",
                self.hello.subject, self.hello.pid
            );
            let _ = attached.lines.send(ToApprover::Notice { text });
            return None;
        }
        state.next += 1;
        let number = state.next;
        state.attached = Some(Attached { number, login, process, lines });
        Some(number)
    }

    fn heard(self: &Arc<Self>, message: FromApprover, login: bool) {
        match message {
            FromApprover::Answer { ticket, answer, value } => {
                let ticket = TicketId::from(ticket);
                let Some(sender) = self.state().decisions.remove(&ticket) else { return };
                let decision = match answer {
                    wire::Answer::Yes { execute } if login && execute => {
                        Decision::Yes(Consent::Elsewhere(Arc::new(Remote {
                            hub: self.clone(),
                            ticket,
                            ran: AtomicBool::new(false),
                        })))
                    }
                    wire::Answer::Yes { .. } => match value {
                        None => Decision::Yes(Consent::Plain),
                        // The terminal has looked at it as well, and said what was wrong.
                        Some(wire::Typed(text)) => match SecretValue::parse(text, self.dangerous()) {
                            Ok(value) => Decision::Yes(Consent::Value(value)),
                            Err(_) => Decision::Closed(Closed::NotConfirmed),
                        },
                    },
                    wire::Answer::No => Decision::Closed(Closed::Declined),
                    wire::Answer::Other => Decision::Closed(Closed::NotConfirmed),
                };
                let _ = sender.send(decision);
            }
            FromApprover::Done { ticket, output } => self.finished(ticket, Ok(output)),
            FromApprover::Failed { ticket, code, text } => {
                self.finished(
                    ticket,
                    Err(Error::Elsewhere {
                        code: Error::known_code(&code),
                        text: crate::names::shown(&text, 600),
                    }),
                );
            }
            FromApprover::Attach { .. } | FromApprover::Login { .. } => {}
        }
    }

    fn finished(&self, ticket: String, result: Result<Value, Error>) {
        if let Some(sender) = self.state().results.remove(&TicketId::from(ticket)) {
            let _ = sender.send(result);
        }
    }

    fn detach(&self, number: u64) {
        let mut state = self.state();
        if state.attached.as_ref().is_some_and(|attached| attached.number == number) {
            state.attached = None;
            // Whoever waits for an answer learns that nobody is there any more.
            state.decisions.clear();
            state.results.clear();
        }
    }
}

const GONE: Closed = Closed::NobodyToAsk("the approver's terminal went away");

async fn next<R: tokio::io::AsyncRead + Unpin>(read: &mut Lines<R>) -> Option<FromApprover> {
    serde_json::from_slice(&read.next().await?).ok()
}

/// The approver's own process, which carries the call out with its own token.
struct Remote {
    hub: Arc<Hub>,
    ticket: TicketId,
    ran: AtomicBool,
}

impl Drop for Remote {
    fn drop(&mut self) {
        // A yes that did not come to its call, because the state had changed: the approver must not wait.
        if !self.ran.load(Ordering::Relaxed)
            && let Some(attached) = &self.hub.state().attached
        {
            let _ = attached.lines.send(ToApprover::Withdraw { ticket: self.ticket.as_str().to_owned() });
        }
    }
}

impl Delegate for Remote {
    fn run(&self, _op: &'static str, _arguments: Value) -> Boxed<'_, Result<Value, Error>> {
        self.ran.store(true, Ordering::Relaxed);
        Box::pin(async move {
            let unknown =
                |fault: &str| Error::OutcomeUnknown { fault: fault.to_owned(), read_back: "".into() };
            let (sender, receiver) = oneshot::channel();
            {
                let mut state = self.hub.state();
                let Some(attached) = &state.attached else {
                    return Err(Error::NobodyToAsk {
                        why: "the approver's terminal went away before it did the write".into(),
                    });
                };
                let _ = attached.lines.send(ToApprover::Go { ticket: self.ticket.as_str().to_owned() });
                state.results.insert(self.ticket.clone(), sender);
            }
            match tokio::time::timeout(Duration::from_secs(30), receiver).await {
                Ok(Ok(result)) => result,
                Ok(Err(_)) => Err(unknown("the approver's terminal went away while it did the write")),
                Err(_) => Err(unknown("the approver did not report within 30 s")),
            }
        })
    }
}
