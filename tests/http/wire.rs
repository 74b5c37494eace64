//! MCP over HTTP as a client speaks it, on a socket of its own for each request, so that a test can hold a stream
//! open, read it bit by bit, or break it off.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use super::rig::{Agent, Http};
use crate::common::{Answer, Era, PATIENCE, ToolResult};

/// An answer whose body comes bit by bit.
pub(crate) struct Wire {
    reader: BufReader<TcpStream>,
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    /// Decoded and not read yet.
    ready: Vec<u8>,
    over: bool,
}

/// One event of a stream; a comment has neither data nor id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) id: Option<String>,
    pub(crate) data: Option<String>,
    pub(crate) comment: Option<String>,
}

impl Event {
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        let data = self.data.as_deref().unwrap_or_else(|| panic!("an event without data: {self:?}"));
        serde_json::from_str(data).unwrap_or_else(|error| panic!("{error}: {data}"))
    }
}

impl Wire {
    /// Sends a request and reads the head of its answer.
    #[track_caller]
    pub(crate) fn open(
        url: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Self {
        Self::send(url, method, path, headers, body).head()
    }

    /// Sends a request, and waits for nothing.
    #[track_caller]
    pub(crate) fn send(
        url: &str,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&str>,
    ) -> Self {
        let address = url.strip_prefix("http://").unwrap();
        let mut socket = TcpStream::connect(address).unwrap();
        socket.set_nodelay(true).unwrap();
        let mut text = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n");
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
            text.push_str(&format!("Host: {address}\r\n"));
        }
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            text.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        text.push_str("\r\n");
        text.push_str(body.unwrap_or_default());
        socket.write_all(text.as_bytes()).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        let reader = BufReader::new(socket);
        Self { reader, status: 0, headers: Vec::new(), ready: Vec::new(), over: false }
    }

    /// Reads the head of the answer.
    #[track_caller]
    fn head(mut self) -> Self {
        let mut line = String::new();
        self.reader.read_line(&mut line).unwrap_or_else(|error| panic!("no answer: {error}"));
        let status = line.split(' ').nth(1).and_then(|code| code.parse().ok());
        self.status = status.unwrap_or_else(|| panic!("no status: {line:?}"));
        loop {
            let mut line = String::new();
            self.reader.read_line(&mut line).unwrap();
            let Some((name, value)) = line.trim_end().split_once(": ") else { break };
            self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        self
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn is_stream(&self) -> bool {
        self.header("content-type") == Some("text/event-stream")
    }

    /// Breaks the connection off.
    pub(crate) fn cut(self) {
        let _ = self.reader.get_ref().shutdown(Shutdown::Both);
    }

    /// Takes in one more piece; `false` when nothing came in time.
    fn more(&mut self, patience: Duration) -> bool {
        self.reader.get_ref().set_read_timeout(Some(patience.max(Duration::from_millis(1)))).unwrap();
        match self.reader.fill_buf() {
            Ok([]) => {
                self.over = true;
                return true;
            }
            Ok(_) => {}
            Err(error)
                if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) =>
            {
                return false;
            }
            Err(_) => {
                self.over = true;
                return true;
            }
        }
        self.reader.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        if self.header("transfer-encoding") != Some("chunked") {
            let mut piece = vec![0; 1 << 16];
            let length = self.reader.read(&mut piece).unwrap_or_default();
            self.ready.extend_from_slice(&piece[..length]);
            return true;
        }
        let mut size = String::new();
        if self.reader.read_line(&mut size).unwrap_or_default() == 0 {
            self.over = true;
            return true;
        }
        let size = usize::from_str_radix(size.trim(), 16).unwrap_or_default();
        let mut piece = vec![0; size + 2];
        if self.reader.read_exact(&mut piece).is_err() || size == 0 {
            self.over = true;
        }
        self.ready.extend_from_slice(&piece[..size]);
        true
    }

    /// The next event; `None` when the stream has ended.
    #[track_caller]
    pub(crate) fn event(&mut self) -> Option<Event> {
        self.event_within(PATIENCE).unwrap_or_else(|| panic!("no event within {PATIENCE:?}"))
    }

    /// The next event, or its end; nothing when neither came in time.
    pub(crate) fn event_within(&mut self, patience: Duration) -> Option<Option<Event>> {
        let start = Instant::now();
        loop {
            if let Some(at) = self.ready.windows(2).position(|pair| pair == b"\n\n") {
                let text = String::from_utf8(self.ready.drain(..at + 2).collect()).unwrap();
                let field = |name: &str| {
                    let of = |line: &str| line.strip_prefix(name).map(|value| value.trim_start().to_owned());
                    text.lines().find_map(of)
                };
                return Some(Some(Event { id: field("id:"), data: field("data:"), comment: field(":") }));
            }
            if self.over {
                return Some(None);
            }
            let left = patience.checked_sub(start.elapsed())?;
            if !self.more(left) {
                return None;
            }
        }
    }

    /// The next event that is no comment and has data.
    #[track_caller]
    pub(crate) fn told(&mut self) -> Option<Event> {
        loop {
            let event = self.event()?;
            if event.data.as_deref().is_some_and(|data| !data.is_empty()) {
                return Some(event);
            }
        }
    }

    /// Nothing but signs of life comes for this long.
    #[track_caller]
    pub(crate) fn assert_silent(&mut self, patience: Duration) {
        let start = Instant::now();
        while let Some(left) = patience.checked_sub(start.elapsed()) {
            match self.event_within(left) {
                None => return,
                Some(None) => panic!("the stream has ended"),
                Some(Some(event)) => {
                    assert!(
                        event.data.as_deref().is_none_or(str::is_empty),
                        "it should be silent: {event:?}"
                    );
                }
            }
        }
    }

    /// The whole body of an answer that ends.
    #[track_caller]
    pub(crate) fn text(mut self) -> String {
        let length = self.header("content-length").and_then(|length| length.parse::<usize>().ok());
        while !self.over && length.is_none_or(|length| self.ready.len() < length) {
            assert!(self.more(PATIENCE), "the body does not end");
        }
        String::from_utf8(self.ready).unwrap()
    }

    /// The body as JSON; null where it is none.
    #[track_caller]
    pub(crate) fn json(self) -> Value {
        serde_json::from_str(&self.text()).unwrap_or_default()
    }
}

type Human = Box<dyn FnMut(&Value) -> Answer + Send>;

/// A client of `/mcp` in either era.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) url: String,
    pub(crate) key: String,
    pub(crate) era: Era,
    pub(crate) session: Option<String>,
    human: Arc<Mutex<Human>>,
    asked: Arc<Mutex<Vec<Value>>>,
    next: Arc<AtomicU64>,
}

impl Client {
    /// Begins a session where the era has them.
    #[track_caller]
    pub(crate) fn begin(http: &Http, agent: &Agent, era: Era) -> Self {
        let mut client = Self::without_session(http, agent, era);
        if client.era.has_handshake() {
            let wire = client.post(&client.hello());
            assert_eq!(wire.status, 200);
            client.session = wire.header("mcp-session-id").map(str::to_owned);
            let hello = client.answer(wire).unwrap();
            assert_eq!(hello["protocolVersion"], client.era.version, "{hello}");
            let told = client.post(&json!({"jsonrpc": "2.0", "method": "notifications/initialized"}));
            assert_eq!(told.status, 202);
        }
        client
    }

    pub(crate) fn without_session(http: &Http, agent: &Agent, era: Era) -> Self {
        let human: Human = Box::new(|question| panic!("the test did not expect to be asked: {question}"));
        Self {
            url: http.url.clone(),
            key: agent.key.clone(),
            era,
            session: None,
            human: Arc::new(Mutex::new(human)),
            asked: Arc::default(),
            next: Arc::new(AtomicU64::new(1)),
        }
    }

    /// The same session under another credential.
    pub(crate) fn under(&self, key: &str) -> Self {
        Self { key: key.to_owned(), ..self.clone() }
    }

    /// The same credential with another session's id.
    pub(crate) fn in_session(&self, id: &str) -> Self {
        Self { session: Some(id.to_owned()), ..self.clone() }
    }

    /// The same session's id at another server.
    pub(crate) fn at(&self, http: &Http) -> Self {
        Self { url: http.url.clone(), ..self.clone() }
    }

    pub(crate) fn hello(&self) -> Value {
        let params = json!({
            "protocolVersion": self.era.version,
            "capabilities": self.era.capabilities,
            "clientInfo": Era::info(),
        });
        json!({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params})
    }

    pub(crate) fn human(&self, human: impl FnMut(&Value) -> Answer + Send + 'static) -> &Self {
        *self.human.lock().unwrap() = Box::new(human);
        self
    }

    pub(crate) fn always(&self, answer: Answer) -> &Self {
        self.human(move |_| answer.clone())
    }

    pub(crate) fn asked(&self) -> Vec<Value> {
        self.asked.lock().unwrap().clone()
    }

    fn ask(&self, params: &Value) -> Answer {
        self.asked.lock().unwrap().push(params.clone());
        (self.human.lock().unwrap())(params)
    }

    /// The headers that a request of this client has.
    pub(crate) fn headers(&self, message: &Value) -> Vec<(String, String)> {
        let mut headers = vec![
            ("X-API-Key".to_owned(), self.key.clone()),
            ("Content-Type".to_owned(), "application/json".to_owned()),
            ("Accept".to_owned(), "application/json, text/event-stream".to_owned()),
        ];
        if let Some(session) = &self.session {
            headers.push(("Mcp-Session-Id".to_owned(), session.clone()));
        }
        if self.session.is_some() || !self.era.has_handshake() {
            headers.push(("MCP-Protocol-Version".to_owned(), self.era.version.clone()));
        }
        if !self.era.has_handshake() {
            let params = &message["params"];
            if let Some(method) = message["method"].as_str() {
                headers.push(("Mcp-Method".to_owned(), method.to_owned()));
            }
            if let Some(name) = params["name"].as_str().or(params["uri"].as_str()) {
                headers.push(("Mcp-Name".to_owned(), name.to_owned()));
            }
        }
        headers
    }

    #[track_caller]
    pub(crate) fn send(&self, method: &str, headers: &[(String, String)], body: Option<&str>) -> Wire {
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        Wire::open(&self.url, method, "/mcp", &headers, body)
    }

    #[track_caller]
    pub(crate) fn post(&self, message: &Value) -> Wire {
        self.send("POST", &self.headers(message), Some(&message.to_string()))
    }

    /// A request as the era has it.
    pub(crate) fn message(&self, method: &str, mut params: Value) -> Value {
        if !self.era.has_handshake() {
            params.as_object_mut().unwrap().entry("_meta").or_insert_with(|| self.era.meta());
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
    }

    #[track_caller]
    pub(crate) fn start(&self, method: &str, params: Value) -> Wire {
        self.post(&self.message(method, params))
    }

    /// Reads a stream to the answer of the request it was opened for; what is asked meanwhile, the human answers.
    #[track_caller]
    pub(crate) fn answer(&self, mut wire: Wire) -> Result<Value, Value> {
        if !wire.is_stream() {
            let (status, text) = (wire.status, wire.text());
            let body: Value = serde_json::from_str(&text).unwrap_or_else(|_| panic!("{status}: {text:?}"));
            return Err(body.get("error").cloned().unwrap_or(body));
        }
        loop {
            let event = wire.told().expect("the stream ended without an answer");
            let message = event.json();
            match message["method"].as_str() {
                Some("elicitation/create") => {
                    let answer = match self.ask(&message["params"]).result() {
                        Some(Ok(result)) => json!({"jsonrpc": "2.0", "id": message["id"], "result": result}),
                        Some(Err(error)) => json!({"jsonrpc": "2.0", "id": message["id"], "error": error}),
                        None => continue,
                    };
                    assert_eq!(self.post(&answer).status, 202);
                }
                Some(_) => {}
                None => {
                    return match message.get("error") {
                        Some(error) => Err(error.clone()),
                        None => Ok(message["result"].clone()),
                    };
                }
            }
        }
    }

    #[track_caller]
    pub(crate) fn request(&self, method: &str, params: Value) -> Result<Value, Value> {
        self.answer(self.start(method, params))
    }

    /// Calls a tool to the end, questions included, in either era.
    #[track_caller]
    pub(crate) fn call(&self, tool: &str, arguments: Value) -> ToolResult {
        let params = json!({"name": tool, "arguments": arguments});
        let mut again = params.clone();
        for _ in 0..5 {
            let result = self.request("tools/call", again).unwrap_or_else(|error| panic!("{tool}: {error}"));
            if result["resultType"] != "input_required" {
                return ToolResult(result);
            }
            let Some(repeated) = self.repeat(&params, &result) else { return ToolResult(result) };
            again = repeated;
        }
        panic!("{tool} asked five times");
    }

    /// The params that answer an `InputRequiredResult`.
    pub(crate) fn repeat(&self, params: &Value, result: &Value) -> Option<Value> {
        let mut params = params.clone();
        for (key, request) in result["inputRequests"].as_object().into_iter().flatten() {
            params["inputResponses"][key] = self.ask(&request["params"]).result()?.ok()?;
        }
        params["requestState"] = result["requestState"].clone();
        Some(params)
    }

    /// The stream of what the session's server says unasked.
    #[track_caller]
    pub(crate) fn listen(&self, last: Option<&str>) -> Wire {
        let mut headers = self.headers(&Value::Null);
        if let Some(last) = last {
            headers.push(("Last-Event-ID".to_owned(), last.to_owned()));
        }
        self.send("GET", &headers, None)
    }
}
