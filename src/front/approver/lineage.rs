//! Whose process is at the other end: an approver that descends from the MCP client is most likely the
//! model's own shell, on however convincing a terminal.
//!
//! Source: proc(5), `/proc/PID/stat`. On systems without it nothing is refused here.

/// Process, its parent, its group, its session, its controlling terminal.
struct Process {
    pid: i32,
    name: String,
    parent: i32,
    group: i32,
    session: i32,
    terminal: i32,
}

/// Programs that only start another one: between client and server they stand for the client.
const WRAPPERS: &[&str] = &[
    "ash", "bash", "busybox", "dash", "direnv", "env", "fish", "ksh", "nice", "npx", "sh", "timeout", "uv",
    "uvx", "zsh",
];

impl Process {
    fn is_wrapper(&self) -> bool {
        WRAPPERS.contains(&self.name.as_str()) || self.name.starts_with("npm exec")
    }
}

fn look(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, spaces and parentheses included.
    let (head, rest) = stat.rsplit_once(')')?;
    let name = head.split_once('(')?.1.to_owned();
    let mut fields = rest.split_ascii_whitespace().skip(1);
    let mut next = || fields.next()?.parse().ok();
    Some(Process { pid, name, parent: next()?, group: next()?, session: next()?, terminal: next()? })
}

/// A process and its ancestors, itself first, init left out.
fn ancestry(pid: i32) -> Vec<Process> {
    let mut chain = Vec::new();
    let mut at = pid;
    while at > 1 && chain.len() < 64 {
        let Some(process) = look(at) else { break };
        at = process.parent;
        chain.push(process);
    }
    chain
}

/// Why a peer is not accepted as a human's terminal, if it is not.
pub(super) fn refusal(peer: i32) -> Option<&'static str> {
    let own = i32::try_from(std::process::id()).ok()?;
    let (own, peer) = (ancestry(own), ancestry(peer));
    decide(&own, &peer)
}

fn decide(own: &[Process], peer: &[Process]) -> Option<&'static str> {
    let server = own.first()?;
    let mut client = server.parent;
    // A shell that a client started in its own job is part of the client; a person's shell gives each job a
    // group of its own.
    for process in own.iter().skip(1) {
        if process.pid != client || process.group != server.group || !process.is_wrapper() {
            break;
        }
        client = process.parent;
    }
    // Whoever connects and leaves the connection to a child of its own has no ancestors to look at.
    let Some(caller) = peer.first() else { return Some("the process that called is gone or hidden") };
    if caller.terminal == 0 {
        return Some("it has no terminal; run `vault-mcp approve` in a terminal of your own");
    }
    if client > 1 && peer.iter().any(|process| process.pid == client) {
        return Some(
            "it was started by the AI client itself; run `vault-mcp approve` in a terminal of your own",
        );
    }
    let same_session = |a: &Process| own.iter().any(|b| a.session == b.session && a.terminal != 0);
    if peer.iter().any(same_session) {
        return Some(
            "it runs in the terminal session of the AI client; run `vault-mcp approve` in another terminal",
        );
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain(rows: &[(i32, i32, i32, i32)]) -> Vec<Process> {
        rows.iter()
            .map(|&(pid, parent, session, terminal)| Process {
                pid,
                name: "x".into(),
                parent,
                group: pid,
                session,
                terminal,
            })
            .collect()
    }

    /// The same, in one process group and by name.
    fn job(group: i32, rows: &[(i32, i32, &str)]) -> Vec<Process> {
        rows.iter()
            .map(|&(pid, parent, name)| Process {
                pid,
                name: name.into(),
                parent,
                group,
                session: group,
                terminal: 0,
            })
            .collect()
    }

    #[test]
    fn a_wrapper_between_client_and_server_hides_neither() {
        // server ← sh ← npx ← client, of a desktop program without a terminal
        let mut own =
            job(20, &[(30, 29, "vault-mcp"), (29, 28, "sh"), (28, 20, "npm exec vault-"), (20, 5, "app")]);
        own.extend(chain(&[(5, 1, 5, 0)]));
        // approve on a pty ← script ← the client
        let faked = chain(&[(43, 42, 43, 9), (42, 20, 42, 0), (20, 5, 20, 0), (5, 1, 5, 0)]);
        assert!(decide(&own, &faked).is_some());
        // a terminal that the same desktop started
        let person = chain(&[(60, 50, 50, 2), (50, 5, 50, 2), (5, 1, 5, 0)]);
        assert!(decide(&own, &person).is_none());
        // The client itself is no wrapper, whatever stands above it in its group.
        let plain = job(5, &[(30, 20, "vault-mcp"), (20, 5, "app"), (5, 1, "sh")]);
        assert!(decide(&plain, &person).is_none());
    }

    #[test]
    fn the_models_shell_is_refused_on_whatever_terminal() {
        // server ← client ← shell on pts/1
        let own = chain(&[(30, 20, 10, 1), (20, 10, 10, 1), (10, 5, 10, 1), (5, 1, 5, 0)]);
        // approve on a pty of its own ← script ← the client's shell ← client
        let faked = chain(&[
            (43, 42, 43, 9),
            (42, 41, 41, 0),
            (41, 20, 41, 0),
            (20, 10, 10, 1),
            (10, 5, 10, 1),
            (5, 1, 5, 0),
        ]);
        assert!(decide(&own, &faked).is_some());
        // the same below the client's own terminal, when the server hangs off a wrapper
        let wrapped =
            chain(&[(30, 25, 10, 1), (25, 20, 10, 1), (20, 10, 10, 1), (10, 5, 10, 1), (5, 1, 5, 0)]);
        assert!(decide(&wrapped, &faked).is_some());
    }

    #[test]
    fn another_window_of_the_same_terminal_program_is_accepted() {
        let own = chain(&[(30, 20, 10, 1), (20, 10, 10, 1), (10, 5, 10, 1), (5, 1, 5, 0)]);
        let other_window = chain(&[(60, 50, 50, 2), (50, 5, 50, 2), (5, 1, 5, 0)]);
        assert!(decide(&own, &other_window).is_none());
    }

    #[test]
    fn a_caller_that_is_gone_or_has_no_terminal_is_refused() {
        let own = chain(&[(30, 20, 10, 1), (20, 10, 10, 1), (10, 5, 10, 1), (5, 1, 5, 0)]);
        assert!(decide(&own, &[]).is_some());
        assert!(decide(&own, &chain(&[(60, 1, 60, 0)])).is_some());
        assert!(decide(&own, &chain(&[(60, 1, 60, 3)])).is_none());
        // Where nothing can be seen at all, not even of oneself, there is nothing to go by.
        assert!(decide(&[], &[]).is_none());
    }

    #[test]
    fn this_process_is_in_its_own_ancestry() {
        let own = i32::try_from(std::process::id()).unwrap();
        if cfg!(target_os = "linux") {
            assert_eq!(ancestry(own).first().map(|process| process.pid), Some(own));
        }
    }
}
