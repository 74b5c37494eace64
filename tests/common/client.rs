//! An MCP client of the tests' own, over a [`Server`]: any protocol version, any capabilities, and a human who
//! answers as scripted.
//!
//! It is deliberately dumb: it checks nothing that a test should check, and keeps everything that it saw.

use std::{
    collections::HashMap,
    process::ChildStdin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    time::Duration,
};

use serde_json::{Value, json};

use super::{PATIENCE, Server, wait_until};

const PROTOCOL_VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CLIENT_INFO: &str = "io.modelcontextprotocol/clientInfo";
const CLIENT_CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// Which protocol the client speaks, and what it says it can do.
#[derive(Clone, Debug)]
pub struct Era {
    pub version: String,
    pub capabilities: Value,
}

impl Era {
    /// 2025-11-25 with elicitation by form: what most tests want.
    pub fn usual() -> Self {
        Self::handshake("2025-11-25").with(json!({"elicitation": {"form": {}}}))
    }

    /// A version with `initialize`; no capabilities.
    pub fn handshake(version: &str) -> Self {
        Self { version: version.to_owned(), capabilities: json!({}) }
    }

    /// 2025-11-25 without elicitation: a client that cannot ask its human.
    pub fn mute() -> Self {
        Self::handshake("2025-11-25")
    }

    /// 2026-07-28, which has no handshake, with elicitation by form.
    pub fn stateless() -> Self {
        Self::handshake("2026-07-28").with(json!({"elicitation": {"form": {}}}))
    }

    /// 2026-07-28 without elicitation.
    pub fn stateless_mute() -> Self {
        Self::handshake("2026-07-28")
    }

    pub fn with(mut self, capabilities: Value) -> Self {
        self.capabilities = capabilities;
        self
    }

    pub fn has_handshake(&self) -> bool {
        self.version.as_str() < "2026-07-28"
    }

    pub fn info() -> Value {
        json!({"name": "vault-mcp-tests", "version": "1"})
    }

    pub fn meta(&self) -> Value {
        json!({
            PROTOCOL_VERSION: self.version,
            CLIENT_INFO: Self::info(),
            CLIENT_CAPABILITIES: self.capabilities,
        })
    }
}

/// What the human does when asked.
#[derive(Clone, Debug)]
pub enum Answer {
    Accept(Value),
    Decline,
    Cancel,
    /// The client answers with a JSON-RPC error. In 2026-07-28 there is no such thing: a cancel is sent.
    Error(i64, String),
    /// The client never answers. In 2026-07-28 it does not repeat the call.
    Never,
    /// Thinks for a while first.
    After(Duration, Box<Answer>),
}

impl Answer {
    /// The human types `yes` into the field named `answer`.
    pub fn yes() -> Self {
        Self::typed("yes")
    }

    /// The human types this text into the field named `answer`.
    pub fn typed(text: &str) -> Self {
        Self::Accept(json!({"answer": text}))
    }

    pub fn result(&self) -> Option<Result<Value, Value>> {
        match self {
            Self::Accept(content) => Some(Ok(json!({"action": "accept", "content": content}))),
            Self::Decline => Some(Ok(json!({"action": "decline"}))),
            Self::Cancel => Some(Ok(json!({"action": "cancel"}))),
            Self::Error(code, message) => Some(Err(json!({"code": code, "message": message}))),
            Self::Never => None,
            Self::After(pause, answer) => {
                std::thread::sleep(*pause);
                answer.result()
            }
        }
    }
}

type Human = Box<dyn FnMut(&Value) -> Answer + Send>;
type Folders = Box<dyn FnMut() -> Option<Value> + Send>;

#[derive(Default)]
struct Seen {
    waiting: HashMap<String, Sender<Result<Value, Value>>>,
    /// The params of each `elicitation/create` and each input request, in order.
    asked: Vec<Value>,
    notifications: Vec<Value>,
    strays: Vec<String>,
    closed: bool,
}

struct Shared {
    seen: Mutex<Seen>,
    human: Mutex<Human>,
    folders: Mutex<Option<Folders>>,
    /// `None` once the client hung up: this handle would keep the server's input open.
    stdin: Mutex<Option<Arc<Mutex<ChildStdin>>>>,
}

impl Shared {
    fn write(&self, message: &Value) -> bool {
        use std::io::Write as _;
        let Some(stdin) = self.stdin.lock().unwrap().clone() else { return false };
        let mut stdin = stdin.lock().unwrap();
        stdin.write_all(format!("{message}\n").as_bytes()).and_then(|()| stdin.flush()).is_ok()
    }

    fn ask(&self, params: &Value) -> Answer {
        self.seen.lock().unwrap().asked.push(params.clone());
        (self.human.lock().unwrap())(params)
    }
}

/// The client. It answers what the server asks, on a thread of its own, as [`McpClient::human`] was told; a
/// client that was told nothing panics the test when it is asked, so that no question goes unnoticed.
pub struct McpClient {
    server: Server,
    era: Era,
    shared: Arc<Shared>,
    next: AtomicU64,
    /// The result of `initialize`, or null in an era without it.
    pub initialized: Value,
}

/// A request whose answer is awaited.
pub struct Pending {
    pub id: u64,
    what: String,
    answer: Receiver<Result<Value, Value>>,
}

impl Pending {
    /// The result, or the JSON-RPC error object.
    pub fn wait(self) -> Result<Value, Value> {
        self.wait_within(PATIENCE)
    }

    pub fn wait_within(self, patience: Duration) -> Result<Value, Value> {
        match self.answer.recv_timeout(patience) {
            Ok(answer) => answer,
            Err(RecvTimeoutError::Timeout) => panic!("no answer to {} within {patience:?}", self.what),
            Err(RecvTimeoutError::Disconnected) => {
                panic!("the server ended before it answered {}", self.what)
            }
        }
    }

    /// The answer if it comes this soon.
    pub fn poll(&self, patience: Duration) -> Option<Result<Value, Value>> {
        self.answer.recv_timeout(patience).ok()
    }
}

impl McpClient {
    pub(super) fn over(mut server: Server, era: Era) -> Self {
        let lines = server.take_lines();
        let shared = Arc::new(Shared {
            seen: Mutex::default(),
            human: Mutex::new(Box::new(|params| {
                let message = &params["message"];
                eprintln!("the human was asked, and the test has no answer: {message}");
                Answer::Error(-32603, "the test did not expect to be asked".to_owned())
            })),
            folders: Mutex::new(None),
            stdin: Mutex::new(Some(server.writer())),
        });
        {
            let shared = Arc::clone(&shared);
            std::thread::spawn(move || listen(&lines, &shared));
        }
        let mut client = Self { server, era, shared, next: AtomicU64::new(1), initialized: Value::Null };
        if client.era.has_handshake() {
            let params = json!({
                "protocolVersion": client.era.version,
                "capabilities": client.era.capabilities,
                "clientInfo": Era::info(),
            });
            client.initialized = client
                .request("initialize", params)
                .unwrap_or_else(|error| panic!("initialize failed: {error}; {}", client.server().account()));
            client.notify("notifications/initialized", json!({}));
        }
        client
    }

    pub fn server(&self) -> &Server {
        &self.server
    }

    pub fn server_mut(&mut self) -> &mut Server {
        &mut self.server
    }

    pub fn era(&self) -> &Era {
        &self.era
    }

    /// Scripts the human: called with the params of each question.
    pub fn human(&self, human: impl FnMut(&Value) -> Answer + Send + 'static) -> &Self {
        *self.shared.human.lock().unwrap() = Box::new(human);
        self
    }

    /// The human gives this answer to every question.
    pub fn always(&self, answer: Answer) -> &Self {
        self.human(move |_| answer.clone())
    }

    /// The human gives these answers in turn; one question more is a cancel.
    pub fn answers(&self, answers: impl IntoIterator<Item = Answer>) -> &Self {
        let mut answers = answers.into_iter().collect::<Vec<_>>().into_iter();
        self.human(move |_| answers.next().unwrap_or(Answer::Cancel))
    }

    /// The client's answer to `roots/list`, made anew each time: a result, or nothing for a client that never
    /// answers. Without it the client has no such method.
    pub fn folders(&self, folders: impl FnMut() -> Option<Value> + Send + 'static) -> &Self {
        *self.shared.folders.lock().unwrap() = Some(Box::new(folders));
        self
    }

    /// What the human was asked so far: the params of each question.
    pub fn asked(&self) -> Vec<Value> {
        self.shared.seen.lock().unwrap().asked.clone()
    }

    pub fn wait_until_asked(&self, count: usize) -> Vec<Value> {
        wait_until(&format!("question {count} to the human"), PATIENCE, || {
            let asked = self.asked();
            (asked.len() >= count).then_some(asked)
        })
    }

    /// Notifications so far, whole.
    pub fn notifications(&self) -> Vec<Value> {
        self.shared.seen.lock().unwrap().notifications.clone()
    }

    pub fn wait_for_notification(&self, method: &str) -> Value {
        wait_until(&format!("the notification {method}"), PATIENCE, || {
            self.notifications().into_iter().find(|notification| notification["method"] == method)
        })
    }

    /// Lines on standard output that were no JSON-RPC, or answers that nobody waited for.
    pub fn strays(&self) -> Vec<String> {
        self.shared.seen.lock().unwrap().strays.clone()
    }

    /// Whether the server closed its standard output.
    pub fn is_closed(&self) -> bool {
        self.shared.seen.lock().unwrap().closed
    }

    /// Sends a message as it is.
    pub fn send(&self, message: &Value) -> bool {
        self.shared.write(message)
    }

    pub fn notify(&self, method: &str, params: Value) {
        self.send(&json!({"jsonrpc": "2.0", "method": method, "params": params}));
    }

    /// Sends a request, with the era's `_meta` where the era wants one and the params have none.
    pub fn start(&self, method: &str, params: Value) -> Pending {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let mut params = params;
        if !self.era.has_handshake()
            && let Some(params) = params.as_object_mut()
        {
            params.entry("_meta").or_insert_with(|| self.era.meta());
        }
        let (tell, answer) = channel();
        let what = format!("request {id}, {method} {}", params.get("name").unwrap_or(&Value::Null));
        {
            let mut seen = self.shared.seen.lock().unwrap();
            assert!(!seen.closed, "the server ended before {what}");
            seen.waiting.insert(id.to_string(), tell);
        }
        self.send(&json!({"jsonrpc": "2.0", "id": id, "method": method, "params": params}));
        Pending { id, what, answer }
    }

    /// The result, or the JSON-RPC error object.
    pub fn request(&self, method: &str, params: Value) -> Result<Value, Value> {
        self.start(method, params).wait()
    }

    /// A request whose `InputRequiredResult`s are answered by the human until there is a real result.
    pub fn settle(&self, method: &str, params: Value) -> Result<Value, Value> {
        let mut again = params.clone();
        for _ in 0..10 {
            let result = self.request(method, again)?;
            if result["resultType"] != "input_required" {
                return Ok(result);
            }
            let Some(repeated) = self.repeat(&params, &result) else { return Ok(result) };
            again = repeated;
        }
        panic!("{method} asked ten times");
    }

    /// The params that answer an `InputRequiredResult`; `None` when the human never answers.
    pub fn repeat(&self, params: &Value, result: &Value) -> Option<Value> {
        let mut responses = serde_json::Map::new();
        for (key, request) in result["inputRequests"].as_object().into_iter().flatten() {
            let response = match self.shared.ask(&request["params"]).result()? {
                Ok(response) => response,
                Err(_) => json!({"action": "cancel"}),
            };
            responses.insert(key.clone(), response);
        }
        let mut params = params.clone();
        params["inputResponses"] = Value::Object(responses);
        if let Some(state) = result.get("requestState") {
            params["requestState"] = state.clone();
        }
        Some(params)
    }

    /// Calls a tool to the end, questions included, in either era.
    pub fn call(&self, tool: &str, arguments: Value) -> ToolResult {
        match self.settle("tools/call", json!({"name": tool, "arguments": arguments})) {
            Ok(result) => ToolResult(result),
            Err(error) => panic!("{tool}: a JSON-RPC error: {error}"),
        }
    }

    /// Sends the call and does not wait. In 2026-07-28 the answer may be an `InputRequiredResult`.
    pub fn start_call(&self, tool: &str, arguments: Value) -> Pending {
        self.start("tools/call", json!({"name": tool, "arguments": arguments}))
    }

    /// One round only: what the server says first.
    pub fn call_once(&self, tool: &str, arguments: Value) -> Result<Value, Value> {
        self.start_call(tool, arguments).wait()
    }

    /// Every tool of every page of `tools/list`.
    pub fn tools(&self) -> Vec<Value> {
        self.list_all("tools/list", "tools")
    }

    /// Every entry of every page of a list method.
    pub fn list_all(&self, method: &str, field: &str) -> Vec<Value> {
        let mut all = Vec::new();
        let mut params = json!({});
        loop {
            let page = self.request(method, params).unwrap_or_else(|error| panic!("{method}: {error}"));
            all.extend(page[field].as_array().unwrap_or_else(|| panic!("{method} has no {field}")).clone());
            match page.get("nextCursor") {
                Some(cursor) if !cursor.is_null() => params = json!({"cursor": cursor}),
                _ => return all,
            }
        }
    }

    /// Closes standard input, as a client does that ends its session.
    pub fn hang_up(&mut self) {
        *self.shared.stdin.lock().unwrap() = None;
        self.server_mut().close();
    }

    /// Ends the session and waits for the server's end.
    pub fn close(mut self) -> std::process::ExitStatus {
        self.hang_up();
        self.server_mut().wait()
    }
}

fn listen(lines: &Receiver<Vec<u8>>, shared: &Arc<Shared>) {
    while let Ok(line) = lines.recv() {
        let Ok(message) = serde_json::from_slice::<Value>(&line) else {
            let text = String::from_utf8_lossy(&line).into_owned();
            shared.seen.lock().unwrap().strays.push(text);
            continue;
        };
        match (message.get("method").and_then(Value::as_str), message.get("id")) {
            (Some("elicitation/create"), Some(id)) => {
                // On a thread of its own: a human who thinks must not hold up the other answers.
                let (shared, id, params) = (Arc::clone(shared), id.clone(), message["params"].clone());
                std::thread::spawn(move || {
                    let answer = shared.ask(&params).result();
                    let message = match answer {
                        Some(Ok(result)) => json!({"jsonrpc": "2.0", "id": id, "result": result}),
                        Some(Err(error)) => json!({"jsonrpc": "2.0", "id": id, "error": error}),
                        None => return,
                    };
                    shared.write(&message);
                });
            }
            (Some("roots/list"), Some(id)) if shared.folders.lock().unwrap().is_some() => {
                let answer = shared.folders.lock().unwrap().as_mut().and_then(|folders| folders());
                if let Some(result) = answer {
                    shared.write(&json!({"jsonrpc": "2.0", "id": id, "result": result}));
                }
            }
            (Some("ping"), Some(id)) => {
                shared.write(&json!({"jsonrpc": "2.0", "id": id, "result": {}}));
            }
            (Some(_), Some(id)) => {
                let error = json!({"code": -32601, "message": "Method not found"});
                shared.write(&json!({"jsonrpc": "2.0", "id": id, "error": error}));
            }
            (Some(_), None) => shared.seen.lock().unwrap().notifications.push(message),
            (None, id) => {
                let key = id.map_or_else(String::new, Value::to_string);
                let mut seen = shared.seen.lock().unwrap();
                let answer = match message.get("error") {
                    Some(error) => Err(error.clone()),
                    None => Ok(message["result"].clone()),
                };
                match seen.waiting.remove(&key) {
                    Some(tell) => drop(tell.send(answer)),
                    None => seen.strays.push(message.to_string()),
                }
            }
        }
    }
    let mut seen = shared.seen.lock().unwrap();
    seen.closed = true;
    seen.waiting.clear(); // whoever waits learns that the server ended
}

/// The result of `tools/call`.
#[derive(Clone, Debug)]
pub struct ToolResult(pub Value);

impl ToolResult {
    pub fn is_error(&self) -> bool {
        self.0["isError"] == true
    }

    /// All text blocks together.
    pub fn text(&self) -> String {
        let blocks = self.0["content"].as_array().into_iter().flatten();
        blocks.filter_map(|block| block["text"].as_str()).collect::<Vec<_>>().join("\n")
    }

    /// The structured result of a call that must have gone well.
    #[track_caller]
    pub fn ok(&self) -> &Value {
        assert!(!self.is_error(), "the call failed: {}", self.text());
        let structured = &self.0["structuredContent"];
        assert!(structured.is_object(), "no structured result in {}", self.0);
        structured
    }

    /// The stable code of an error: what stands before the first colon.
    #[track_caller]
    pub fn code(&self) -> String {
        assert!(self.is_error(), "the call went well: {}", self.0);
        self.text().split(':').next().unwrap_or_default().to_owned()
    }
}
