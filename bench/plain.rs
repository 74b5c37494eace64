//! The yardstick: a plain blocking HTTP/1.1 client on one kept connection, as lean as one can be.
//! It sends what a `curl` would, reads the answer, and does not even parse it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

pub struct Plain {
    host: String,
    /// What every path begins with.
    root: &'static str,
    /// Who we are, as a header line or several.
    credential: String,
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
    /// Head and body of the last answer.
    head: String,
    pub body: Vec<u8>,
}

impl Plain {
    /// To a Vault.
    pub fn connect(address: &str, token: &str) -> Self {
        Self::with(address, "/v1/", format!("X-Vault-Token: {token}\r\nX-Vault-Request: true\r\n"))
    }

    /// To `vault-mcp --http`.
    pub fn with_key(address: &str, key: &str) -> Self {
        Self::with(address, "/", format!("X-API-Key: {key}\r\n"))
    }

    /// To any server, with these header lines.
    pub fn with(address: &str, root: &'static str, credential: String) -> Self {
        let host = address.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self {
            host,
            root,
            credential,
            stream: BufReader::with_capacity(64 << 10, stream),
            request: Vec::new(),
            head: String::new(),
            body: Vec::new(),
        }
    }

    /// Sends these header lines from now on.
    pub fn say(&mut self, credential: String) {
        self.credential = credential;
    }

    /// A header of the last answer.
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|line| line.split_once(':'));
        lines.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    /// Sends and reads; gives the status.
    pub fn exchange(&mut self, method: &str, path: &str, body: Option<&str>) -> u16 {
        self.send(method, path, body);
        self.receive()
    }

    pub fn send(&mut self, method: &str, path: &str, body: Option<&str>) {
        self.request.clear();
        let (host, root, credential) = (&self.host, self.root, &self.credential);
        write!(self.request, "{method} {root}{path} HTTP/1.1\r\nHost: {host}\r\n{credential}").unwrap();
        match body {
            Some(body) => write!(self.request, "Content-Length: {}\r\n\r\n{body}", body.len()).unwrap(),
            None => self.request.extend_from_slice(b"\r\n"),
        }
        self.stream.get_mut().write_all(&self.request).unwrap();
    }

    pub fn receive(&mut self) -> u16 {
        let mut line = String::new();
        self.stream.read_line(&mut line).unwrap();
        let status = line.split(' ').nth(1).and_then(|word| word.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no HTTP answer: {line:?}"));
        let (mut length, mut chunked) = (0, false);
        self.head.clear();
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            self.head.push_str(&line);
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().unwrap();
            } else if name.eq_ignore_ascii_case("transfer-encoding") {
                chunked = value.contains("chunked");
            }
        }
        self.body.clear();
        if !chunked {
            self.take(length);
            return status;
        }
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            let size = usize::from_str_radix(line.trim_end(), 16).unwrap();
            self.take(size);
            line.clear();
            self.stream.read_line(&mut line).unwrap();
            if size == 0 {
                return status;
            }
        }
    }

    fn take(&mut self, length: usize) {
        let had = self.body.len();
        self.body.resize(had + length, 0);
        self.stream.read_exact(&mut self.body[had..]).unwrap();
    }
}
