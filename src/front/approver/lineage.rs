//! Whose process is at the other end: an approver that descends from the MCP client is most likely the
//! model's own shell, on however convincing a terminal.
//!
//! Source: proc(5), `/proc/PID/stat`. On systems without it nothing is refused here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// A connection over which a client asks: its end, and ours.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection {
    /// The client's end; a proxy's, where one stands between.
    pub client: SocketAddr,
    /// The server's end.
    pub server: SocketAddr,
}

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
    // A server that nobody's client started still has no business with what it started itself.
    if peer.iter().any(|process| process.pid == server.pid) {
        return Some(
            "it was started by the server itself; run `vault-mcp approve` in a terminal of your own",
        );
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

/// True when the approver was started by the client at the other end of this connection, or shares a terminal
/// session with it: as far as the client is a process of this user on this machine, and no proxy stands between.
pub(super) fn is_of_client(connection: Connection, approver: i32) -> bool {
    let Some(inode) = inode(connection) else { return false };
    let approver = ancestry(approver);
    holders(&inode).into_iter().any(|client| {
        // As if the client had started the server: one rule for both.
        let server =
            Process { pid: 0, name: String::new(), parent: client, group: -1, session: -1, terminal: 0 };
        let mut own = vec![server];
        own.extend(ancestry(client));
        decide(&own, &approver).is_some()
    })
}

/// The client's socket, as the kernel numbers it.
fn inode(connection: Connection) -> Option<String> {
    ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| {
        let table = std::fs::read_to_string(table).ok()?;
        table.lines().skip(1).find_map(|line| inode_in(line, connection))
    })
}

/// Of a line of `/proc/net/tcp`: `sl local remote state queues timer retransmits uid timeout inode …`.
fn inode_in(line: &str, Connection { client, server }: Connection) -> Option<String> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (local, remote) = (address(fields.next()?)?, address(fields.next()?)?);
    let same =
        |a: SocketAddr, b: SocketAddr| a.port() == b.port() && a.ip().to_canonical() == b.ip().to_canonical();
    (same(local, client) && same(remote, server)).then(|| fields.nth(6).map(str::to_owned))?
}

/// `0100007F:1F90`: each word of the address in the order of this machine's bytes.
fn address(text: &str) -> Option<SocketAddr> {
    let (host, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let word = |at: usize| {
        let word = u32::from_str_radix(host.get(at * 8..at * 8 + 8)?, 16).ok()?;
        Some(word.to_ne_bytes())
    };
    let ip: IpAddr = match host.len() {
        8 => Ipv4Addr::from(word(0)?).into(),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let mut octets = [0; 16];
            octets.iter_mut().zip(words.iter().flatten()).for_each(|(octet, byte)| *octet = *byte);
            Ipv6Addr::from(octets).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// The processes that hold this socket open, of those that may be looked at.
fn holders(inode: &str) -> Vec<i32> {
    let link = format!("socket:[{inode}]");
    let holds = |pid: &i32| {
        let Ok(open) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        open.flatten()
            .any(|entry| std::fs::read_link(entry.path()).is_ok_and(|to| to.as_os_str() == link.as_str()))
    };
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let pids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(holds).collect()
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

    #[test]
    fn what_the_server_started_itself_is_refused_though_nobody_started_the_server() {
        let own = chain(&[(30, 1, 30, 0)]);
        assert!(decide(&own, &chain(&[(43, 42, 43, 9), (42, 30, 42, 0), (30, 1, 30, 0)])).is_some());
        assert!(decide(&own, &chain(&[(60, 50, 50, 2), (50, 1, 50, 2)])).is_none());
    }

    #[test]
    fn a_connection_is_found_in_the_kernels_table_by_both_of_its_ends() {
        let line = "  4: 0100007F:C350 0100007F:1F99 01 00000000:00000000 00:00000000 00000000  1000        0 123456 1 x";
        let at = |text: &str| text.parse().unwrap();
        let connection = Connection { client: at("127.0.0.1:50000"), server: at("127.0.0.1:8089") };
        if cfg!(target_endian = "little") {
            assert_eq!(inode_in(line, connection).as_deref(), Some("123456"));
            let mapped = Connection { client: at("[::ffff:127.0.0.1]:50000"), ..connection };
            assert_eq!(inode_in(line, mapped).as_deref(), Some("123456"));
        }
        // The other end of the same connection is the server's own.
        let turned = Connection { client: connection.server, server: connection.client };
        assert_eq!(inode_in(line, turned), None);
        assert_eq!(inode_in("", connection), None);
    }

    #[test]
    fn this_process_is_found_to_hold_its_own_end_of_a_connection() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let connection =
            Connection { client: ours.local_addr().unwrap(), server: listener.local_addr().unwrap() };
        if cfg!(target_os = "linux") {
            let own = i32::try_from(std::process::id()).unwrap();
            assert!(holders(&inode(connection).unwrap()).contains(&own));
        }
    }
}
