//! The yardstick: a plain blocking HTTP/1.1 client on one kept connection, as lean as one can be.
//! It sends what a `curl` would, reads the answer, and does not even parse it.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    time::Duration,
};

pub struct Plain {
    host: String,
    token: String,
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
    pub body: Vec<u8>,
}

impl Plain {
    pub fn connect(address: &str, token: &str) -> Self {
        let host = address.trim_start_matches("http://").to_owned();
        let stream = TcpStream::connect(&host).unwrap();
        stream.set_nodelay(true).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        Self {
            host,
            token: token.to_owned(),
            stream: BufReader::with_capacity(64 << 10, stream),
            request: Vec::new(),
            body: Vec::new(),
        }
    }

    /// Sends and reads; gives the status.
    pub fn exchange(&mut self, method: &str, path: &str, body: Option<&str>) -> u16 {
        self.send(method, path, body);
        self.receive()
    }

    pub fn send(&mut self, method: &str, path: &str, body: Option<&str>) {
        self.request.clear();
        let (host, token) = (&self.host, &self.token);
        write!(
            self.request,
            "{method} /v1/{path} HTTP/1.1\r\nHost: {host}\r\nX-Vault-Token: {token}\r\nX-Vault-Request: true\r\n"
        )
        .unwrap();
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
        loop {
            line.clear();
            self.stream.read_line(&mut line).unwrap();
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
