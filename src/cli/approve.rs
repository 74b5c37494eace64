//! `vault-mcp approve`: the human's terminal. It attaches to every running server of this user, shows each
//! question, and takes a `yes` typed at the keyboard. With a Vault login of its own it carries the write
//! out itself, so that the servers' tokens need not be able to. Where a question asks for a value, the person types it
//! here, unseen, after the `yes`.

mod keyboard;

use std::{
    collections::{HashMap, HashSet},
    io::{IsTerminal, Write},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UnixStream, unix::OwnedWriteHalf},
    sync::mpsc,
};
use tokio_util::sync::CancellationToken;
use zeroize::Zeroizing;

use keyboard::{Keyboard, NoValue, Typed};

use super::{broker, local_caller, runtime};
use crate::{
    broker::{Broker, Channel, Closed, Consent, LIFETIME, Outcome, Place, Question, SecretValue, ValueFault},
    caller::{Caller, Front, Meter, Scope},
    config::{Config, DangerousPatterns, FromSetting, SecretText},
    error::Error,
    front::approver::{
        socket_folder,
        wire::{self, Answer, Ask, FromApprover, Hello, ToApprover, line},
    },
    handover::Roots,
    names::{Subject, is_invisible, shown, shown_name},
    op::{self, Op},
};

/// Arguments of `vault-mcp approve`.
#[derive(clap::Args)]
pub(super) struct Arguments {
    /// Use a Vault login of your own, which then does the writes: `token` asks for it here. Without this,
    /// VAULT_TOKEN (or VAULT_ROLE_ID and VAULT_SECRET_ID) in this terminal's environment is used if set.
    #[arg(long, value_name = "METHOD", value_parser = ["token"])]
    login: Option<String>,
    /// Answer one question, then leave
    #[arg(long)]
    once: bool,
}

/// A question on the screen or waiting for it.
struct Open {
    server: u32,
    ask: Ask,
    until: Instant,
    /// The same call in this process's own pipeline, when it carries it out itself.
    own: Option<(Question, Caller, &'static Op)>,
    /// What was typed for it, when it is carried out here.
    value: Option<SecretValue>,
}

enum Heard {
    Attached(u32, Hello, OwnedWriteHalf),
    From(u32, ToApprover),
    Refused(PathBuf, String),
    Gone(u32),
    Typed(Typed),
    Tick,
}

pub(super) fn run(mut config: Config, arguments: &Arguments) -> Result<ExitCode, Error> {
    if !std::io::stdin().is_terminal() {
        return Err(Error::config(
            "approve",
            "standard input is no terminal. A person answers here; run it in a terminal of your own.",
        ));
    }
    if arguments.login.is_some() {
        let typed = dialoguer::Password::new()
            .with_prompt("Vault token (not shown)")
            .interact()
            .map_err(|_| Error::config("--login", "no token was given."))?;
        let token = SecretText::parse(typed.trim()).map_err(|fault| Error::config("--login", fault))?;
        config.give_token(token);
    }
    // A token file is everybody's default; only a token of this terminal is a login of its own.
    let login = arguments.login.is_some() || config.vault_token.is_some() || config.vault_role_id.is_some();
    let broker = if login { Some(broker(config)?) } else { None };
    let once = arguments.once;
    runtime()?.block_on(async { Session::run(broker, once).await })
}

struct Session {
    broker: Option<Arc<Broker>>,
    servers: HashMap<u32, (Hello, OwnedWriteHalf)>,
    queue: Vec<Open>,
    /// What runs at a server's word: ticket → the call.
    going: HashMap<String, Open>,
    once: bool,
    /// Since when the first of the queue is on the screen, or its value is waited for.
    shown: Option<Instant>,
    /// The first of the queue has its yes, and its value is being typed.
    entering: bool,
    keyboard: Arc<Keyboard>,
}

fn say(text: &str) {
    // A terminal that went away ends the session by its own read.
    let _ = writeln!(std::io::stdout(), "{text}");
}

fn prompt(text: &str) {
    let mut out = std::io::stdout();
    let _ = write!(out, "{text}");
    let _ = out.flush();
}

impl Session {
    async fn run(broker: Option<Arc<Broker>>, once: bool) -> Result<ExitCode, Error> {
        let mut session = Self {
            broker,
            servers: HashMap::new(),
            queue: Vec::new(),
            going: HashMap::new(),
            once,
            shown: None,
            entering: false,
            keyboard: Arc::default(),
        };
        let (sender, mut heard) = mpsc::unbounded_channel();
        if let Some(broker) = &session.broker {
            say("Writes that you allow are done with your own Vault login.");
            say(&login_shown(broker).await);
        }
        say("Waiting for questions, also of servers that start later. Ctrl-C leaves.");
        tokio::spawn(find_servers(sender.clone(), session.broker.is_some()));
        let (typed, keyboard) = (sender.clone(), session.keyboard.clone());
        std::thread::spawn(move || keyboard.read(|what| typed.send(Heard::Typed(what)).is_ok()));
        let (ended, asked_to) = (CancellationToken::new(), sender.clone());
        tokio::spawn(super::on_signal(ended.clone()));
        tokio::spawn(async move {
            ended.cancelled().await;
            let _ = asked_to.send(Heard::Typed(Typed::End));
        });
        let ticks = sender.clone();
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(Duration::from_millis(500)).await;
                if ticks.send(Heard::Tick).is_err() {
                    return;
                }
            }
        });
        while let Some(event) = heard.recv().await {
            if !session.hear(event).await {
                break;
            }
        }
        session.keyboard.show();
        Ok(ExitCode::SUCCESS)
    }

    /// False when it is time to leave.
    async fn hear(&mut self, event: Heard) -> bool {
        match event {
            Heard::Attached(pid, hello, write) => {
                self.note(&format!(
                    "Attached to the server of '{}' (process {pid}, Vault {}).",
                    shown(&hello.subject, 63),
                    shown(&hello.address, 200)
                ));
                self.servers.insert(pid, (hello, write));
            }
            Heard::Refused(path, why) => {
                let name = path.file_stem().and_then(|name| name.to_str()).unwrap_or_default().to_owned();
                self.note(&format!(
                    "The server with process {} refused this terminal: {}.",
                    shown(&name, 20),
                    shown(&why, 200)
                ));
            }
            Heard::Gone(pid) => {
                if self.servers.remove(&pid).is_some() {
                    self.drop_questions(|open| open.server == pid);
                    self.note(&format!("The server with process {pid} has ended."));
                }
            }
            Heard::From(pid, message) => return self.message(pid, message).await,
            Heard::Typed(Typed::Line(text, when)) => return self.typed(&text, when).await,
            Heard::Typed(Typed::Value(value, when)) => return self.value(value, when).await,
            Heard::Typed(Typed::End) => return false,
            Heard::Tick => {
                let now = Instant::now();
                self.drop_questions(|open| open.until <= now);
            }
        }
        self.show_next();
        true
    }

    async fn message(&mut self, pid: u32, message: ToApprover) -> bool {
        match message {
            ToApprover::Ask(ask) => {
                let until = Instant::now() + Duration::from_secs(ask.seconds).min(LIFETIME);
                let mut open = Open { server: pid, ask, until, own: None, value: None };
                match self.prepare(&mut open).await {
                    Ok(()) => self.queue.push(open),
                    Err(error) => {
                        // The server asks no further: the call could not be done with this login.
                        self.note(&format!(
                            "A question of '{}' was turned down: {}: {error}",
                            shown(&open.ask.subject, 63),
                            error.code()
                        ));
                        self.send(
                            pid,
                            &FromApprover::Answer {
                                ticket: open.ask.ticket,
                                answer: Answer::Other,
                                value: None,
                            },
                        )
                        .await;
                    }
                }
            }
            ToApprover::Withdraw { ticket } => {
                if let Some(open) = self.going.remove(&ticket) {
                    self.close_own(&open, Closed::Cancelled);
                    say(
                        "Not done: it changed since you were asked. If the call still stands, you are asked again.",
                    );
                }
                self.drop_questions(|open| open.ask.ticket == ticket);
            }
            ToApprover::Go { ticket } => {
                if let Some(open) = self.going.remove(&ticket) {
                    let report = self.execute(open).await;
                    self.send(pid, &report).await;
                    if self.once {
                        return false;
                    }
                }
            }
            ToApprover::Notice { text } => self.note(&shown(&text, 300)),
            ToApprover::Hello(_) | ToApprover::Attached | ToApprover::Refused { .. } => {}
        }
        self.show_next();
        true
    }

    /// Puts the call through this process's own pipeline up to the question, so that what is shown is what
    /// this process will do, as it sees it.
    async fn prepare(&self, open: &mut Open) -> Result<(), Error> {
        let (Some(broker), Some(arguments)) = (&self.broker, open.ask.arguments.clone()) else {
            return Ok(());
        };
        let Some((hello, _)) = self.servers.get(&open.server) else { return Err(Error::ShuttingDown) };
        let config = broker.config();
        if hello.address != config.vault_addr.as_str() || hello.namespace != *config.vault_namespace {
            return Err(Error::config(
                "VAULT_ADDR",
                format!(
                    "the server uses {}, this terminal {}. Set the same address and namespace here.",
                    shown(&hello.address, 200),
                    config.vault_addr.as_str()
                ),
            ));
        }
        let subject =
            Subject::parse(&open.ask.subject).map_err(|fault| Error::input("subject", fault.to_string()))?;
        let place = Arc::new(Place::of(config, &subject));
        let caller = Caller {
            subject,
            scopes: Scope::ALL.to_vec(),
            front: Front::Approver,
            client: None,
            place,
            roots: Roots::none(),
            meter: Meter::default(),
        };
        let op = op::find(&open.ask.op).ok_or(Error::UnknownTool)?;
        match broker.call(op, arguments, &caller, None).await? {
            Outcome::Ask(question) if question.target == open.ask.target => {
                open.own = Some((question, caller, op));
                Ok(())
            }
            Outcome::Ask(question) => {
                broker.close(&caller, &question.ticket, Closed::Cancelled, Channel::ApproverLogin);
                Err(Error::Elsewhere { code: "target_differs", text: "The same call would touch another path here than at the server. Give both the same KV_MOUNT, KV_ROOT and SERVICES_PATH.".into() })
            }
            Outcome::Done(_) => Err(Error::Internal { what: "a call was not asked about" }),
        }
    }

    fn drop_questions(&mut self, gone: impl Fn(&Open) -> bool) {
        let shown_gone = self.shown.is_some() && self.queue.first().is_some_and(&gone);
        for open in self.queue.extract_if(.., |open| gone(open)).collect::<Vec<_>>() {
            self.close_own(&open, Closed::TimedOut);
        }
        if shown_gone {
            self.shown = None;
            if std::mem::take(&mut self.entering) {
                self.keyboard.show();
            }
            say("\nThis question is no longer open. What you type now does nothing.");
        }
    }

    fn prompt_again(&self) {
        let Some(open) = self.queue.first().filter(|_| self.shown.is_some()) else { return };
        match (&open.ask.wanted, &open.own) {
            (Some(wanted), _) if self.entering => prompt(&format!(
                "Value of {} (not shown as you type; Enter alone gives up): ",
                shown_name(&wanted.key)
            )),
            (Some(_), Some(_)) => {
                prompt("Type yes to enter the value and store it with your Vault login, no to decline: ");
            }
            (Some(_), None) => prompt("Type yes to enter the value, no to decline: "),
            (None, Some(_)) => prompt("Type yes to do it with your Vault login, no to decline: "),
            (None, None) => prompt("Type yes to allow it, no to decline: "),
        }
    }

    /// Says something that is no question, without hiding the one on the screen.
    fn note(&self, text: &str) {
        if self.shown.is_some() {
            say("");
        }
        say(text);
        self.prompt_again();
    }

    /// Records that the same call in this process's own pipeline ends without a yes.
    fn close_own(&self, open: &Open, closed: Closed) {
        if let (Some(broker), Some((question, caller, _))) = (&self.broker, &open.own) {
            broker.close(caller, &question.ticket, closed, Channel::ApproverLogin);
        }
    }

    fn show_next(&mut self) {
        if self.shown.is_some() {
            return;
        }
        let Some(open) = self.queue.first() else { return };
        let text = open.own.as_ref().map_or(&open.ask.text, |(question, ..)| &question.text);
        say(&format!(
            "\n'{}' asks for {} (process {}):\n{}",
            shown(&open.ask.subject, 63),
            shown(&open.ask.op, 40),
            open.server,
            printable(text)
        ));
        self.shown = Some(self.keyboard.start_afresh());
        self.prompt_again();
    }

    async fn typed(&mut self, text: &str, when: Instant) -> bool {
        // A line that was typed before the question stood there is no answer to it.
        if self.shown.is_none_or(|since| when < since) || self.queue.is_empty() {
            return true;
        }
        match text {
            "yes" if self.queue.first().is_some_and(|open| open.ask.wanted.is_some()) => self.enter().await,
            "yes" => self.answer(Answer::Yes { execute: false }, None).await,
            "no" => self.answer(Answer::No, None).await,
            _ => self.answer(Answer::Other, None).await,
        }
    }

    /// The yes is there; now the value.
    async fn enter(&mut self) -> bool {
        let Some(since) = self.keyboard.hide() else {
            say("This terminal cannot hide what is typed, so no value is taken here.");
            return self.answer(Answer::Other, None).await;
        };
        (self.shown, self.entering) = (Some(since), true);
        self.prompt_again();
        true
    }

    async fn value(&mut self, typed: Result<Zeroizing<String>, NoValue>, when: Instant) -> bool {
        if !self.entering || self.shown.is_none_or(|since| when < since) {
            return true;
        }
        let Some(wanted) = self.queue.first().and_then(|open| open.ask.wanted.as_ref()) else { return true };
        let blocked_here = self
            .broker
            .as_ref()
            .is_some_and(|own| *own.config().dangerous_patterns == DangerousPatterns::Block);
        let dangerous = if blocked_here { DangerousPatterns::Block } else { wanted.dangerous() };
        // The terminal did not show the Enter.
        say("");
        let fault = match typed.map(|text| SecretValue::parse(text, dangerous)) {
            Ok(Ok(value)) => {
                say(&format!("Taken ({} characters).", value.length_class()));
                return self.answer(Answer::Yes { execute: false }, Some(value)).await;
            }
            Ok(Err(ValueFault::Empty)) => return self.answer(Answer::Other, None).await,
            Ok(Err(fault)) => fault.to_string(),
            Err(fault) => fault.as_str().to_owned(),
        };
        say(&fault);
        self.enter().await
    }

    /// Answers the question on the screen. Who carries a yes out is decided here.
    async fn answer(&mut self, answer: Answer, value: Option<SecretValue>) -> bool {
        let mut open = self.queue.remove(0);
        (self.shown, self.entering) = (None, false);
        let (server, ticket) = (open.server, open.ask.ticket.clone());
        let (executes, yes) = (open.own.is_some(), matches!(answer, Answer::Yes { .. }));
        let no = matches!(answer, Answer::No);
        let answer = if yes { Answer::Yes { execute: executes } } else { answer };
        let mut sent = None;
        if !yes {
            self.close_own(&open, if no { Closed::Declined } else { Closed::NotConfirmed });
        } else if executes {
            open.value = value;
            self.going.insert(ticket.clone(), open);
        } else {
            sent = value.map(|value| wire::Typed(Zeroizing::new(value.expose().to_owned())));
        }
        self.send(server, &FromApprover::Answer { ticket, answer, value: sent }).await;
        say(match (yes, no) {
            (true, _) if executes => "Allowed.",
            (true, _) => "Allowed. The server does it now.",
            (false, true) => "Declined. Nothing is done, and the same call is refused for two minutes.",
            (false, false) => "That was not yes. Nothing is done; the caller may ask again.",
        });
        if self.once && !(yes && executes) {
            return false;
        }
        self.show_next();
        true
    }

    /// The human said yes, the server has recorded it: now with this terminal's own token.
    async fn execute(&self, open: Open) -> FromApprover {
        let ticket = open.ask.ticket;
        let failed = |error: Error| FromApprover::Failed {
            ticket: ticket.clone(),
            code: error.code().to_owned(),
            text: error.to_string(),
        };
        let (Some(broker), Some((question, caller, op)), Some(arguments)) =
            (&self.broker, open.own, open.ask.arguments)
        else {
            return failed(Error::Internal { what: "nothing to carry out" });
        };
        let consent = open.value.map_or(Consent::Plain, Consent::Value);
        let outcome = match broker.approve(op, &caller, &question.ticket, Channel::ApproverLogin, consent) {
            Ok(approved) => broker.call(op, arguments, &caller, Some(approved)).await,
            Err(error) => Err(error),
        };
        match outcome {
            Ok(Outcome::Done(answer)) => {
                say("Done.");
                FromApprover::Done { ticket, output: answer.value }
            }
            Ok(Outcome::Ask(again)) => {
                let error = broker.close(&caller, &again.ticket, Closed::Cancelled, Channel::ApproverLogin);
                drop(error);
                say("Not done: it changed since you were asked.");
                failed(Error::Conflict)
            }
            Err(error) => {
                say(&format!("Not done: {}: {error}", error.code()));
                failed(error)
            }
        }
    }

    async fn send(&mut self, server: u32, message: &FromApprover) {
        if let Some((_, write)) = self.servers.get_mut(&server) {
            // A server that went away is noticed by its reader.
            let _ = write.write_all(&line(message)).await;
        }
    }
}

/// Whose login it is, or what is wrong with it, before anybody relies on it.
async fn login_shown(broker: &Arc<Broker>) -> String {
    let caller = local_caller(broker.config(), Front::Cli);
    let status = match op::find("vault_status") {
        Some(op) => broker.call(op, serde_json::json!({}), &caller, None).await,
        None => Err(Error::UnknownTool),
    };
    let answer = match status {
        Ok(Outcome::Done(answer)) => answer.value,
        Ok(Outcome::Ask(_)) => return String::new(),
        Err(error) => return format!("It cannot be used now: {error}"),
    };
    let word = |name: &str| answer.get(name).and_then(|value| value.as_str()).map(|text| shown(text, 300));
    if let Some(problem) = word("problem") {
        return format!("It may not work: {problem}");
    }
    let policies = answer.get("policies").and_then(|value| value.as_array());
    let policies: Vec<_> = policies
        .into_iter()
        .flatten()
        .filter_map(|name| name.as_str())
        .map(|name| shown(name, 128))
        .collect();
    format!(
        "Logged in to {} as {} (policies: {}).",
        word("address").unwrap_or_default(),
        word("user").unwrap_or_else(|| "a token without a name".into()),
        policies.join(", ")
    )
}

/// A question's text, whoever wrote it: lines stay lines, and nothing else can move the cursor.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c != '\n' && is_invisible(c) { '\u{fffd}' } else { c }).collect()
}

/// Looks for servers' sockets twice a second, and attaches to each once.
async fn find_servers(sender: mpsc::UnboundedSender<Heard>, login: bool) {
    let mut known: HashSet<PathBuf> = HashSet::new();
    loop {
        if let Ok(folder) = socket_folder()
            && let Ok(entries) = std::fs::read_dir(folder)
        {
            let sockets: HashSet<PathBuf> = entries
                .filter_map(|entry| Some(entry.ok()?.path()))
                .filter(|path| path.extension().is_some_and(|extension| extension == "sock"))
                .collect();
            known.retain(|path| sockets.contains(path));
            for path in sockets {
                if known.insert(path.clone()) {
                    tokio::spawn(attach(path, sender.clone(), login));
                }
            }
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
}

async fn attach(path: PathBuf, sender: mpsc::UnboundedSender<Heard>, login: bool) {
    let stream = match UnixStream::connect(&path).await {
        Ok(stream) => stream,
        Err(error) => {
            if error.kind() == std::io::ErrorKind::ConnectionRefused {
                // Nobody listens: its server was killed. The folder is ours, so tidy up.
                let _ = std::fs::remove_file(&path);
            }
            return;
        }
    };
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::new(read).lines();
    let mut next = async || serde_json::from_str::<ToApprover>(&lines.next_line().await.ok()??).ok();
    let refused = |why: String| drop(sender.send(Heard::Refused(path.clone(), why)));
    let hello = match next().await {
        Some(ToApprover::Hello(hello)) => hello,
        Some(ToApprover::Refused { why }) => return refused(why),
        _ => return,
    };
    if write.write_all(&line(&FromApprover::Attach { login })).await.is_err() {
        return;
    }
    match next().await {
        Some(ToApprover::Attached) => {}
        Some(ToApprover::Refused { why }) => return refused(why),
        _ => return,
    }
    let pid = hello.pid;
    if sender.send(Heard::Attached(pid, hello, write)).is_err() {
        return;
    }
    while let Some(message) = next().await {
        if sender.send(Heard::From(pid, message)).is_err() {
            return;
        }
    }
    let _ = sender.send(Heard::Gone(pid));
}
