//! A proxy that stands between the product and a Vault, keeps every request byte for byte as it was sent, and
//! breaks what it is told to break.
//!
//! It speaks HTTP/1.1 to the client and HTTP/1.0 to the Vault, whose answers then end where the connection
//! ends. One thread for each connection; nothing is clever.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use super::{PATIENCE, Vault, wait_until};

/// A request as it came over the wire.
#[derive(Clone, Debug)]
pub struct Sent {
    pub method: String,
    /// The request target, byte for byte: path and query.
    pub target: String,
    /// Names and values as they were spelt, in order.
    pub headers: Vec<(String, String)>,
    /// The whole head, from the method to the empty line.
    pub head: Vec<u8>,
    pub body: Vec<u8>,
    /// When its last byte was there.
    pub at: SystemTime,
}

impl Sent {
    /// Method and target, for messages.
    pub fn line(&self) -> String {
        format!("{} {}", self.method, self.target)
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// Whether it could change something.
    pub fn is_write(&self) -> bool {
        !matches!(self.method.as_str(), "GET" | "LIST" | "HEAD")
    }

    /// Whether it is about secrets and engines, not about the token or the server's health.
    pub fn is_data(&self) -> bool {
        !["/v1/sys/", "/v1/auth/"].iter().any(|housekeeping| self.target.starts_with(housekeeping))
    }

    /// The body as JSON; null when it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }
}

/// What is to go wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    /// The connection is reset; Vault never hears of the request.
    ResetBefore,
    /// Vault executes the request; then the connection is reset.
    ResetAfter,
    /// The request is forwarded this much later.
    Delay(Duration),
    /// Vault executes the request; the answer comes this much later.
    DelayAfter(Duration),
    /// The request is swallowed, and no answer ever comes.
    BlackHole,
    /// Vault executes the request; no answer ever comes.
    BlackHoleAfter,
    /// This status with an error body as Vault writes it.
    Status(u16),
    /// 429 with this `Retry-After`.
    RetryAfter(&'static str),
    /// Vault executes the request and its body arrives, under this status.
    StatusAfter(u16),
    /// 307 to this address, as a standby answers.
    Redirect(String),
    /// The answer, cut in the middle of its body.
    Truncated,
    /// A JSON answer with one string of this many bytes.
    Huge(usize),
    /// 200 with a page of HTML.
    NotJson,
    /// This status with a page of HTML, as a proxy in between answers.
    Page(u16),
    /// Bytes that are no HTTP.
    NotHttp,
    /// 200 with this body.
    Body(String),
    /// This status with this body.
    Answer(u16, String),
    /// The answer a byte at a time, this long apart.
    Drip(Duration),
    /// The request is forwarded once the gate is open.
    Hold(Gate),
    /// Vault executes the request; the answer comes once the gate is open.
    HoldAfter(Gate),
}

/// Where requests wait for the test, so that what it does meanwhile is not a race against a pause.
#[derive(Clone, Debug, Default)]
pub struct Gate(Arc<AtomicBool>);

impl Gate {
    pub fn new() -> Self {
        Self::default()
    }

    /// Lets through who waits, and who comes later.
    pub fn open(&self) {
        self.0.store(true, Ordering::Release);
    }

    fn is_open(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

/// Which requests a fault strikes.
#[derive(Clone, Debug)]
pub struct On {
    method: Option<&'static str>,
    target: Option<String>,
    writes_only: bool,
    after_a_write: bool,
    skip: usize,
    times: usize,
}

impl On {
    pub fn every() -> Self {
        Self {
            method: None,
            target: None,
            writes_only: false,
            after_a_write: false,
            skip: 0,
            times: usize::MAX,
        }
    }

    /// The n-th request from now on, counted from 1.
    pub fn nth(n: usize) -> Self {
        Self::every().skip(n - 1).times(1)
    }

    /// Requests whose target holds this text.
    pub fn target(text: impl Into<String>) -> Self {
        Self { target: Some(text.into()), ..Self::every() }
    }

    /// Requests that could change something.
    pub fn writes() -> Self {
        Self { writes_only: true, ..Self::every() }
    }

    pub fn method(mut self, method: &'static str) -> Self {
        self.method = Some(method);
        self
    }

    /// Of these, the ones that could change something.
    pub fn changing(mut self) -> Self {
        self.writes_only = true;
        self
    }

    /// Of these, the ones that come after a request about secrets and engines that could change something.
    pub fn after_a_write(mut self) -> Self {
        self.after_a_write = true;
        self
    }

    /// Lets the first `n` that match go by.
    pub fn skip(mut self, n: usize) -> Self {
        self.skip = n;
        self
    }

    /// Strikes so often and no more.
    pub fn times(mut self, n: usize) -> Self {
        self.times = n;
        self
    }

    fn strikes(&mut self, request: &Sent, written: bool) -> bool {
        let matches = (written || !self.after_a_write)
            && self.method.is_none_or(|method| request.method == method)
            && self.target.as_ref().is_none_or(|text| request.target.contains(text))
            && (!self.writes_only || request.is_write());
        if !matches {
            return false;
        }
        if self.skip > 0 {
            self.skip -= 1;
            return false;
        }
        self.times = self.times.saturating_sub(1);
        true
    }
}

struct Shared {
    upstream: SocketAddr,
    requests: Mutex<Vec<Sent>>,
    faults: Mutex<Vec<(On, Fault)>>,
    connections: Mutex<usize>,
    ended: AtomicBool,
    end: (Mutex<bool>, Condvar),
}

/// The proxy. `address` stands for the Vault's own.
pub struct Proxy {
    pub address: String,
    shared: Arc<Shared>,
}

impl Proxy {
    pub fn new(vault: &Vault) -> Self {
        Self::before(&vault.address)
    }

    /// Before any other server that speaks plain HTTP.
    pub fn before(address: &str) -> Self {
        let upstream = address.trim_start_matches("http://").parse().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            upstream,
            requests: Mutex::default(),
            faults: Mutex::default(),
            connections: Mutex::default(),
            ended: AtomicBool::new(false),
            end: (Mutex::new(false), Condvar::new()),
        });
        let all = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                if all.ended.load(Ordering::Relaxed) {
                    return;
                }
                let Ok(client) = client else { continue };
                *all.connections.lock().unwrap() += 1;
                let shared = Arc::clone(&all);
                // A client that goes away is no fault of the proxy's.
                std::thread::spawn(move || drop(serve(&client, &shared)));
            }
        });
        Self { address, shared }
    }

    /// Breaks what `on` describes. Of several faults the one that was set first strikes.
    pub fn fail(&self, on: On, fault: Fault) -> &Self {
        self.shared.faults.lock().unwrap().push((on, fault));
        self
    }

    /// Nothing breaks any more.
    pub fn heal(&self) -> &Self {
        self.shared.faults.lock().unwrap().clear();
        self
    }

    /// Every request so far, also those that a fault struck.
    pub fn requests(&self) -> Vec<Sent> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub fn count(&self) -> usize {
        self.shared.requests.lock().unwrap().len()
    }

    /// Requests about secrets and engines.
    pub fn data_requests(&self) -> Vec<Sent> {
        self.requests().into_iter().filter(Sent::is_data).collect()
    }

    /// Requests about secrets and engines that could change something.
    pub fn writes(&self) -> Vec<Sent> {
        self.data_requests().into_iter().filter(Sent::is_write).collect()
    }

    pub fn connections(&self) -> usize {
        *self.shared.connections.lock().unwrap()
    }

    /// Waits for the n-th request that matches.
    pub fn wait_for(&self, what: &str, matches: impl Fn(&Sent) -> bool) -> Sent {
        wait_until(&format!("a request to Vault: {what}"), PATIENCE, || {
            self.requests().into_iter().find(|request| matches(request))
        })
    }

    /// Every data request's target begins, byte for byte, with one of these.
    #[track_caller]
    pub fn assert_within(&self, prefixes: &[String]) {
        for request in self.data_requests() {
            let fits = prefixes.iter().any(|prefix| request.target.starts_with(prefix));
            assert!(fits, "{} lies outside {prefixes:?}", request.line());
        }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::Relaxed);
        *self.shared.end.0.lock().unwrap() = true;
        self.shared.end.1.notify_all();
        let _ = TcpStream::connect(self.address.trim_start_matches("http://")); // wakes the listener
    }
}

impl Shared {
    /// Sleeps, but not beyond the proxy's end; `true` when there is no point in going on.
    fn sleep(&self, pause: Duration) -> bool {
        let ended = self.end.0.lock().unwrap();
        *self.end.1.wait_timeout_while(ended, pause, |ended| !*ended).unwrap().0
    }

    /// Waits for the gate, but not beyond the proxy's end; `true` when there is no point in going on.
    fn wait_at(&self, gate: &Gate) -> bool {
        while !gate.is_open() {
            if self.sleep(Duration::from_millis(5)) {
                return true;
            }
        }
        false
    }
}

fn serve(client: &TcpStream, shared: &Shared) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let mut reader = BufReader::new(client.try_clone()?);
    let mut client = client;
    while let Some(request) = read_request(&mut reader)? {
        let fault = {
            let mut requests = shared.requests.lock().unwrap();
            let written = requests.iter().any(|earlier| earlier.is_data() && earlier.is_write());
            requests.push(request.clone());
            drop(requests);
            let mut faults = shared.faults.lock().unwrap();
            let fault = faults
                .iter_mut()
                .find_map(|(on, fault)| on.strikes(&request, written).then(|| fault.clone()));
            faults.retain(|(on, _)| on.times > 0);
            fault
        };
        match fault {
            None => client.write_all(&forward(&request, shared)?.bytes())?,
            Some(Fault::ResetBefore) => return reset(client),
            Some(Fault::ResetAfter) => {
                forward(&request, shared)?;
                return reset(client);
            }
            Some(Fault::Delay(pause)) => {
                if shared.sleep(pause) {
                    return Ok(());
                }
                client.write_all(&forward(&request, shared)?.bytes())?;
            }
            Some(Fault::DelayAfter(pause)) => {
                let answer = forward(&request, shared)?;
                if shared.sleep(pause) {
                    return Ok(());
                }
                client.write_all(&answer.bytes())?;
            }
            Some(Fault::Hold(gate)) => {
                if shared.wait_at(&gate) {
                    return Ok(());
                }
                client.write_all(&forward(&request, shared)?.bytes())?;
            }
            Some(Fault::HoldAfter(gate)) => {
                let answer = forward(&request, shared)?;
                if shared.wait_at(&gate) {
                    return Ok(());
                }
                client.write_all(&answer.bytes())?;
            }
            Some(Fault::BlackHole) => {
                shared.sleep(Duration::MAX);
                return Ok(());
            }
            Some(Fault::BlackHoleAfter) => {
                forward(&request, shared)?;
                shared.sleep(Duration::MAX);
                return Ok(());
            }
            Some(Fault::Status(status)) => client.write_all(&Response::error(status).bytes())?,
            Some(Fault::RetryAfter(value)) => {
                client.write_all(&Response::error(429).with("Retry-After", value).bytes())?;
            }
            Some(Fault::StatusAfter(status)) => {
                let answer = forward(&request, shared)?;
                client.write_all(&Response { status, ..answer }.bytes())?;
            }
            Some(Fault::Redirect(to)) => {
                client.write_all(&Response::new(307, Vec::new()).with("Location", &to).bytes())?;
            }
            Some(Fault::Truncated) => {
                let bytes = forward(&request, shared)?.bytes();
                let body = bytes.windows(4).position(|four| four == b"\r\n\r\n").map_or(0, |at| at + 4);
                client.write_all(&bytes[..body + (bytes.len() - body) / 2])?;
                return Ok(());
            }
            Some(Fault::Huge(length)) => {
                let head = format!(
                    "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
                    length + 22
                );
                client.write_all(head.as_bytes())?;
                client.write_all(br#"{"data":{"data":{"x":""#)?;
                let piece = vec![b'x'; 1 << 16];
                let mut left = length.saturating_sub(4);
                while left > 0 {
                    let now = left.min(piece.len());
                    client.write_all(&piece[..now])?;
                    left -= now;
                }
                client.write_all(br#""}}}"#)?;
            }
            Some(Fault::NotJson) => {
                let page = b"<!DOCTYPE html><title>Sign in</title><p>Please sign in.".to_vec();
                client.write_all(&Response::new(200, page).with("Content-Type", "text/html").bytes())?;
            }
            Some(Fault::Page(status)) => {
                let page = b"<!DOCTYPE html><title>Not here</title><p>Blocked by the gateway.".to_vec();
                client.write_all(&Response::new(status, page).with("Content-Type", "text/html").bytes())?;
            }
            Some(Fault::NotHttp) => {
                client.write_all(b"SSH-2.0-OpenSSH_9.2p1\r\n")?;
                return Ok(());
            }
            Some(Fault::Body(body)) => client.write_all(&Response::new(200, body.into_bytes()).bytes())?,
            Some(Fault::Answer(status, body)) => {
                client.write_all(&Response::new(status, body.into_bytes()).bytes())?;
            }
            Some(Fault::Drip(pause)) => {
                for byte in forward(&request, shared)?.bytes() {
                    client.write_all(&[byte])?;
                    if shared.sleep(pause) {
                        return Ok(());
                    }
                }
            }
        }
    }
    Ok(())
}

/// An answer: what came from Vault, or what is made up.
#[derive(Clone, Debug)]
struct Response {
    status: u16,
    headers: Vec<(String, String)>,
    body: Vec<u8>,
}

impl Response {
    fn new(status: u16, body: Vec<u8>) -> Self {
        Self { status, headers: Vec::new(), body }
    }

    fn error(status: u16) -> Self {
        let body = format!(r#"{{"errors":["made by the fault proxy: {status}"]}}"#);
        Self::new(status, body.into_bytes()).with("Content-Type", "application/json")
    }

    fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_owned(), value.to_owned()));
        self
    }

    fn bytes(&self) -> Vec<u8> {
        let mut bytes = format!("HTTP/1.1 {} X\r\n", self.status).into_bytes();
        for (name, value) in &self.headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        if self.status != 204 {
            bytes.extend_from_slice(format!("Content-Length: {}\r\n", self.body.len()).as_bytes());
        }
        bytes.extend_from_slice(b"\r\n");
        bytes.extend_from_slice(&self.body);
        bytes
    }
}

/// One request, or `None` at the end of the connection. The body is read by its length or its chunks.
fn read_request(reader: &mut BufReader<TcpStream>) -> std::io::Result<Option<Sent>> {
    let mut head = Vec::new();
    loop {
        let start = head.len();
        if reader.read_until(b'\n', &mut head)? == 0 {
            return Ok(None);
        }
        if matches!(&head[start..], b"\r\n" | b"\n") {
            break;
        }
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let mut lines = text.lines();
    let mut first = lines.next().unwrap_or_default().split(' ');
    let method = first.next().unwrap_or_default().to_owned();
    let target = first.next().unwrap_or_default().to_owned();
    let headers = headers(lines);
    let mut sent = Sent { method, target, headers, head, body: Vec::new(), at: UNIX_EPOCH };
    if let Some(length) = sent.header("content-length").and_then(|length| length.parse().ok()) {
        sent.body = vec![0; length];
        reader.read_exact(&mut sent.body)?;
    } else if sent.header("transfer-encoding").is_some() {
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            let length = usize::from_str_radix(line.trim(), 16).unwrap_or(0);
            let start = sent.body.len();
            sent.body.resize(start + length, 0);
            reader.read_exact(&mut sent.body[start..])?;
            reader.read_line(&mut String::new())?;
            if length == 0 {
                break;
            }
        }
    }
    sent.at = SystemTime::now();
    Ok(Some(sent))
}

fn headers<'a>(lines: impl Iterator<Item = &'a str>) -> Vec<(String, String)> {
    lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

/// Sends the request on, its target untouched, and reads the answer to its end.
fn forward(request: &Sent, shared: &Shared) -> std::io::Result<Response> {
    let mut upstream = TcpStream::connect(shared.upstream)?;
    upstream.set_read_timeout(Some(PATIENCE))?;
    let mut head = format!("{} {} HTTP/1.0\r\n", request.method, request.target);
    for (name, value) in &request.headers {
        let own = ["connection", "transfer-encoding", "content-length", "accept-encoding"];
        if !own.contains(&name.to_ascii_lowercase().as_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str(&format!("Content-Length: {}\r\n\r\n", request.body.len()));
    upstream.write_all(head.as_bytes())?;
    upstream.write_all(&request.body)?;
    let mut answer = Vec::new();
    upstream.read_to_end(&mut answer)?;
    let end =
        answer.windows(4).position(|four| four == b"\r\n\r\n").ok_or(std::io::ErrorKind::InvalidData)?;
    let text = String::from_utf8_lossy(&answer[..end]).into_owned();
    let mut lines = text.lines();
    let status = lines.next().and_then(|line| line.split(' ').nth(1)).and_then(|code| code.parse().ok());
    let mut headers = headers(lines);
    headers
        .retain(|(name, _)| !["connection", "content-length"].contains(&name.to_ascii_lowercase().as_str()));
    Ok(Response { status: status.unwrap_or(502), headers, body: answer[end + 4..].to_vec() })
}

/// Ends the connection with a reset instead of an orderly close.
fn reset(client: &TcpStream) -> std::io::Result<()> {
    rustix::net::sockopt::set_socket_linger(client, Some(Duration::ZERO))?;
    Err(std::io::ErrorKind::ConnectionReset.into())
}
