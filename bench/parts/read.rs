//! One secret read at a time, masked, through stdio and by the plain client, in turn.

use std::{
    process::{Command, Stdio},
    time::Instant,
};

use serde_json::json;

use crate::{
    measure::{Goal, Report, Samples, Spread, spread},
    server::{Server, Streams, call, is_answer},
    vault::Vault,
};

const ROUNDS: usize = 9;
const READS: usize = 1_500;
const WARM_UP: usize = 300;

/// One round: the same number of reads each way, taking turns.
#[derive(Default)]
struct Round {
    ours: Samples,
    plain: Samples,
    hop: Samples,
    cpu: f64,
}

pub fn run(vault: &Vault) {
    measure(vault, Streams::Pipes);
    measure(vault, Streams::Sockets);
}

fn measure(vault: &Vault, streams: Streams) {
    let path = vault.secret("read");
    let mut server = Server::start(&vault.address, streams);
    let mut plain = vault.plain();
    let mut cat = Cat::start();
    let mut id = 1;
    let mut round = |reads: usize| {
        let mut round = Round::default();
        let before = server.cpu_us();
        for _ in 0..reads {
            let started = Instant::now();
            assert_eq!(plain.exchange("GET", &path, None), 200);
            round.plain.add(started.elapsed());

            id += 1;
            let line = call(id, "kv_read", &json!({"path": "read"}));
            let started = Instant::now();
            let answer = server.exchange(&line);
            round.ours.add(started.elapsed());
            assert!(is_answer(answer) && answer.contains("\"masked\":true"), "{answer}");

            let started = Instant::now();
            cat.echo(&line);
            round.hop.add(started.elapsed());
        }
        round.cpu = (server.cpu_us() - before) / reads as f64;
        round
    };
    round(WARM_UP);
    let rounds: Vec<Round> = (0..ROUNDS).map(|_| round(READS)).collect();
    let over = |figure: fn(&Round) -> f64| spread(rounds.iter().map(figure));
    let name = match streams {
        Streams::Pipes => "read",
        Streams::Sockets => "read, streams are sockets",
    };
    let mut report = Report::new(name, Some(&vault.name));
    report.note("rounds", format!("{ROUNDS} of {READS} reads each way, in turn; the middle round counts"));
    let mut row = |what: &str, member: &str, figure: &Spread, unit: &str| {
        report.row(what, member, figure.middle, unit);
        report.note("", format!("{:.1} … {:.1}", figure.low, figure.high));
    };
    row("plain client, p50", "plain_p50_us", &over(|round| round.plain.p50()), "µs");
    row("kv_read, p50", "p50_us", &over(|round| round.ours.p50()), "µs");
    let added_p50 = over(|round| round.ours.p50() - round.plain.p50());
    row("added, p50", "added_p50_us", &added_p50, "µs");
    row("plain client, p99", "plain_p99_us", &over(|round| round.plain.p99()), "µs");
    row("kv_read, p99", "p99_us", &over(|round| round.ours.p99()), "µs");
    let added_p99 = over(|round| round.ours.p99() - round.plain.p99());
    row("added, p99", "added_p99_us", &added_p99, "µs");
    row("processor time of vault-mcp a read", "cpu_us", &over(|round| round.cpu), "µs");
    row("the same line through /bin/cat, p50", "hop_p50_us", &over(|round| round.hop.p50()), "µs");
    row("ratio, p50", "ratio", &over(|round| round.ours.p50() / round.plain.p50()), "");
    report.row("threads", "threads", server.memory().threads as f64, "");
    report.print(&[
        Goal::at_most("added p50 in µs", added_p50.middle, 60.0),
        Goal::at_most("added p99 in µs", added_p99.middle, 1_000.0),
    ]);
}

/// What a line costs that goes through any other process: two pipes, two wake-ups.
struct Cat {
    child: std::process::Child,
    input: std::process::ChildStdin,
    output: std::io::BufReader<std::process::ChildStdout>,
    line: String,
}

impl Cat {
    fn start() -> Self {
        let mut child =
            Command::new("/bin/cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let input = child.stdin.take().unwrap();
        let output = std::io::BufReader::new(child.stdout.take().unwrap());
        Self { child, input, output, line: String::new() }
    }

    fn echo(&mut self, line: &str) {
        use std::io::{BufRead, Write};
        let line = format!("{line}\n");
        self.input.write_all(line.as_bytes()).unwrap();
        self.line.clear();
        self.output.read_line(&mut self.line).unwrap();
        assert_eq!(self.line, line);
    }
}

impl Drop for Cat {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
