//! From spawning the process to its `initialize` answer, against `/bin/cat` and one line.

use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use crate::{
    measure::{Goal, Report, Samples},
    server,
};

const ROUNDS: usize = 200;
const WARM_UP: usize = 10;

pub fn run() {
    let home = server::home();
    let (mut ours, mut cat) = (Samples::default(), Samples::default());
    for round in 0..WARM_UP + ROUNDS {
        // Nothing listens there: no network before the first use. The rate limit is on, as shipped.
        let mut command = server::command("http://127.0.0.1:9", &home);
        let one = first_answer(command.env_remove("RATE_LIMIT_ENABLED"));
        let other = first_answer(&mut Command::new("/bin/cat"));
        if round >= WARM_UP {
            ours.add(one);
            cat.add(other);
        }
    }
    let mut report = Report::new("start", None);
    report.row("vault-mcp: spawn → initialize, p50", "p50_us", ours.p50(), "µs");
    report.row("vault-mcp, p99", "p99_us", ours.p99(), "µs");
    report.row("/bin/cat: spawn → one line, p50", "cat_p50_us", cat.p50(), "µs");
    report.row("/bin/cat, p99", "cat_p99_us", cat.p99(), "µs");
    report.row("added, p50", "added_us", ours.p50() - cat.p50(), "µs");
    report.row("ratio", "ratio", ours.p50() / cat.p50(), "");
    report.print(&[Goal::at_most("p50 in ms", ours.p50() / 1e3, 5.0)]);
}

fn first_answer(command: &mut Command) -> Duration {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let started = Instant::now();
    let mut child = command.spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let mut output = BufReader::new(child.stdout.take().unwrap());
    input.write_all(server::INITIALIZE.as_bytes()).and_then(|()| input.write_all(b"\n")).unwrap();
    let mut line = String::new();
    output.read_line(&mut line).unwrap();
    let took = started.elapsed();
    assert!(line.contains("\"id\":0"), "no answer: {line:?}");
    drop(input);
    child.wait().unwrap();
    took
}
