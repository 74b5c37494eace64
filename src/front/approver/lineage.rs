//! Whose process is at the other end: an approver that descends from the MCP client is most likely the
//! model's own shell, on however convincing a terminal.
//!
//! Source: proc(5), `/proc/PID/stat`. On systems without it nothing is refused here.

/// Process, its parent, its session, its controlling terminal.
struct Process {
    pid: i32,
    parent: i32,
    session: i32,
    terminal: i32,
}

fn look(pid: i32) -> Option<Process> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may hold anything, spaces and parentheses included.
    let mut fields = stat.rsplit_once(')')?.1.split_ascii_whitespace().skip(1);
    let mut next = || fields.next()?.parse().ok();
    let parent = next()?;
    let _group: i32 = next()?;
    Some(Process { pid, parent, session: next()?, terminal: next()? })
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
    let client = own.first()?.parent;
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
            .map(|&(pid, parent, session, terminal)| Process { pid, parent, session, terminal })
            .collect()
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
    fn this_process_is_in_its_own_ancestry() {
        let own = i32::try_from(std::process::id()).unwrap();
        if cfg!(target_os = "linux") {
            assert_eq!(ancestry(own).first().map(|process| process.pid), Some(own));
        }
    }
}
