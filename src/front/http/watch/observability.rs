//! What an agent may see of the server's own account: sums, and the lines about its own requests.
//!
//! A line is shown to the subject that it is about and to nobody else: what the server says outside of a request
//! may name other agents, addresses and files, and is for whoever can read the files themselves.

use std::{
    collections::BTreeMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path as FilePath, PathBuf},
    sync::Arc,
};

use axum::{
    Extension, Json,
    extract::{
        Path, Query, State,
        rejection::{PathRejection, QueryRejection},
    },
    response::{IntoResponse, Response},
};
use http::StatusCode;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::Semaphore;

use crate::{
    caller::{Caller, Scope},
    error::Error,
    front::http::{
        App,
        answer::{Fault, plain},
        routes::{Access, Content, Endpoint, Parameter, Place, Reply, Routes},
    },
    op::Verb,
    telemetry::{
        log::{ENDING, Kind},
        meters,
    },
};

static SUMMARY: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/observability/summary",
    tag: "watch",
    title: "How the server is doing",
    about: "Sums since the start, over all callers.",
    access: Access::Scope(Scope::Read),
    parameters: &[],
    body: Content::Nothing,
    replies: &[Reply { status: 200, when: "Always.", content: Content::json::<Summary>() }],
};

static LOGS: Endpoint = Endpoint {
    verb: Verb::Get,
    path: "/observability/logs/{log}",
    tag: "watch",
    title: "The newest lines of a log",
    about: "Lines about the caller's own requests, the oldest of them first: `requests` as they came in, `responses` as they were answered, `server` what the program said while it worked on them.",
    access: Access::Scope(Scope::Read),
    parameters: &[
        Parameter {
            name: "log",
            place: Place::Path,
            about: "Which log.",
            schema: |_| json_schema!({ "type": "string", "enum": ["requests", "responses", "server"] }),
        },
        Parameter {
            name: "limit",
            place: Place::Query,
            about: "At most this many lines.",
            schema: limit_schema,
        },
        Parameter {
            name: "request_id",
            place: Place::Query,
            about: "Lines about this request alone.",
            schema: <String as JsonSchema>::json_schema,
        },
        Parameter {
            name: "correlation_id",
            place: Place::Query,
            about: "Lines about requests with this correlation id alone.",
            schema: <String as JsonSchema>::json_schema,
        },
    ],
    body: Content::Nothing,
    replies: &[
        Reply { status: 200, when: "There is such a log.", content: Content::json::<Tail>() },
        Reply { status: 404, when: "There is none.", content: Content::json::<Refused>() },
        Reply { status: 422, when: "A parameter is none.", content: Content::json::<Refused>() },
    ],
};

/// Most lines in one answer.
const MOST: u16 = 500;
/// How many there are where the caller does not say.
const USUAL: u16 = 100;
/// Bytes of the files that are looked through for one answer.
const BUDGET: u64 = 16 << 20;
/// Bytes that are read at once.
const PIECE: u64 = 256 << 10;
/// Searches at a time; more wait.
static SEARCHES: Semaphore = Semaphore::const_new(2);

fn limit_schema(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "minimum": 1, "maximum": MOST, "default": USUAL })
}

pub(super) fn routes() -> Routes {
    Routes::default().add(&SUMMARY, summary).add(&LOGS, logs)
}

/// A refusal.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is only described here")]
struct Refused {
    /// What is wrong.
    detail: Value,
}

/// How the server is doing.
#[derive(Serialize, JsonSchema)]
struct Summary {
    /// The program's version.
    version: &'static str,
    /// Seconds since the start.
    uptime_seconds: u64,
    /// True when calls would be carried out.
    ready: bool,
    /// Requests that have no answer yet, this one among them.
    in_flight: u64,
    /// Answers by class of their status.
    answers: BTreeMap<&'static str, u64>,
    /// Calls of operations by how they ended.
    operations: BTreeMap<&'static str, u64>,
    /// Questions that wait for a human.
    pending_approvals: usize,
    /// Sessions of MCP that are open.
    sessions: usize,
    /// Bytes of memory that the process holds, where the system says.
    memory_bytes: Option<u64>,
}

async fn summary(State(app): State<Arc<App>>) -> Result<Json<Summary>, Fault> {
    let totals = meters::totals().ok_or(Error::Internal { what: "nothing is counted" })?;
    Ok(Json(Summary {
        version: env!("CARGO_PKG_VERSION"),
        uptime_seconds: app.watch.began.elapsed().as_secs(),
        ready: app.readiness.report(&app.broker).await.is_ready(),
        in_flight: totals.in_flight(),
        answers: totals.answers().collect(),
        operations: totals.operations().collect(),
        pending_approvals: app.broker.pending(),
        sessions: app.mcp.open_sessions(),
        memory_bytes: meters::resident_bytes(),
    }))
}

/// What is asked for.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default = "usual")]
    limit: u16,
    request_id: Option<String>,
    correlation_id: Option<String>,
}

fn usual() -> u16 {
    USUAL
}

/// The newest lines of a log.
#[derive(Serialize, JsonSchema)]
struct Tail {
    /// The lines as they stand in the file, the oldest first.
    lines: Vec<Value>,
    /// False where older lines may be there that were not looked at.
    complete: bool,
}

async fn logs(
    State(app): State<Arc<App>>,
    Extension(caller): Extension<Caller>,
    which: Result<Path<String>, PathRejection>,
    wanted: Result<Query<Wanted>, QueryRejection>,
) -> Response {
    let kind = [Kind::Requests, Kind::Responses, Kind::Server].into_iter();
    let Some(kind) =
        kind.into_iter().find(|kind| which.as_ref().is_ok_and(|Path(name)| name == kind.as_str()))
    else {
        return plain(StatusCode::NOT_FOUND, "Not Found");
    };
    let wanted = match wanted {
        Ok(Query(wanted)) if (1..=MOST).contains(&wanted.limit) => wanted,
        _ => {
            let fault = "expected limit from 1 to 500, request_id, correlation_id, each once at most";
            return Fault(Error::input("query", fault)).into_response();
        }
    };
    let folder = app.watch.access.folder.clone();
    let Ok(_place) = SEARCHES.acquire().await else { return Fault(Error::ShuttingDown).into_response() };
    let search = move || Search { kind, subject: caller.subject.to_string(), wanted }.run(&folder);
    match tokio::task::spawn_blocking(search).await {
        Ok(Ok(tail)) => Json(tail).into_response(),
        _ => Fault(Error::Internal { what: "the log cannot be read" }).into_response(),
    }
}

/// A search through the files of one kind, from the newest line backwards.
struct Search {
    kind: Kind,
    subject: String,
    wanted: Wanted,
}

impl Search {
    fn run(&self, folder: &FilePath) -> io::Result<Tail> {
        let mut found = Vec::new();
        let mut budget = BUDGET;
        let mut complete = true;
        for path in self.files(folder)? {
            complete = self.through(&File::open(path)?, &mut budget, &mut found)?;
            if !complete || found.len() >= usize::from(self.wanted.limit) {
                break;
            }
        }
        let complete = complete && found.len() < usize::from(self.wanted.limit);
        found.reverse();
        Ok(Tail { lines: found, complete })
    }

    /// The newest first: their names hold the day.
    fn files(&self, folder: &FilePath) -> io::Result<Vec<PathBuf>> {
        let mut names = Vec::new();
        for entry in std::fs::read_dir(folder)? {
            let name = entry?.file_name();
            let fits = name.to_str().is_some_and(|name| {
                let day = name.strip_prefix(self.kind.as_str()).and_then(|rest| rest.strip_suffix(ENDING));
                day.is_some_and(|day| day.starts_with('.') && day.ends_with('.'))
            });
            if fits {
                names.push(name);
            }
        }
        names.sort_unstable_by(|one, other| other.cmp(one));
        Ok(names.into_iter().map(|name| folder.join(name)).collect())
    }

    /// False when the budget ended before the file did.
    fn through(&self, file: &File, budget: &mut u64, found: &mut Vec<Value>) -> io::Result<bool> {
        let mut at = file.metadata()?.len();
        // The beginning of a line whose end was read before it.
        let mut rest: Vec<u8> = Vec::new();
        while at > 0 {
            if *budget == 0 {
                return Ok(false);
            }
            let length = PIECE.min(at).min(*budget);
            *budget -= length;
            at -= length;
            let mut piece = vec![0; usize::try_from(length).unwrap_or_default()];
            file.read_exact_at(&mut piece, at)?;
            piece.extend_from_slice(&rest);
            let whole = match piece.iter().position(|byte| *byte == b'\n') {
                _ if at == 0 => 0,
                Some(end) => end + 1,
                None => piece.len(),
            };
            let lines = piece.split_off(whole);
            rest = piece;
            for line in lines.rsplit(|byte| *byte == b'\n') {
                if found.len() >= usize::from(self.wanted.limit) {
                    return Ok(true);
                }
                found.extend(self.own(line));
            }
        }
        Ok(true)
    }

    /// The line, where it is about a request of the caller's and is what is wanted.
    fn own(&self, line: &[u8]) -> Option<Value> {
        // Most lines are somebody else's: those are not parsed.
        let text = std::str::from_utf8(line).ok()?;
        if !text.contains(&self.subject) {
            return None;
        }
        let line: Value = serde_json::from_str(text).ok()?;
        let about = match self.kind {
            Kind::Requests | Kind::Responses => &line,
            Kind::Server => {
                let spans = line.get("spans")?.as_array()?;
                spans.iter().find(|span| span.get("name").and_then(Value::as_str) == Some("request"))?
            }
        };
        let says = |name: &str, wanted: &str| about.get(name).and_then(Value::as_str) == Some(wanted);
        let fits = |name: &str, wanted: &Option<String>| wanted.as_ref().is_none_or(|id| says(name, id));
        let own = says("subject", &self.subject)
            && fits("request_id", &self.wanted.request_id)
            && fits("correlation_id", &self.wanted.correlation_id);
        own.then_some(line)
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;

    use super::*;

    fn search(subject: &str, limit: u16) -> Search {
        let wanted = Wanted { limit, request_id: None, correlation_id: None };
        Search { kind: Kind::Requests, subject: subject.to_owned(), wanted }
    }

    /// Lines of two agents, numbered, over two days; the older file is longer than a piece.
    fn folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let lines = |numbers: std::ops::Range<u32>| {
            let mut text = String::new();
            for number in numbers {
                let subject = if number % 3 == 0 { "alice" } else { "alice2" };
                writeln!(text, r#"{{"n":{number},"subject":"{subject}","pad":"{}"}}"#, "x".repeat(100))
                    .unwrap();
            }
            text
        };
        std::fs::write(folder.path().join("requests.2026-01-01.jsonl"), lines(0..9000)).unwrap();
        std::fs::write(folder.path().join("requests.2026-01-02.jsonl"), lines(9000..9010)).unwrap();
        std::fs::write(folder.path().join("responses.2026-01-03.jsonl"), lines(0..9)).unwrap();
        folder
    }

    fn numbers(tail: &Tail) -> Vec<u64> {
        tail.lines.iter().map(|line| line["n"].as_u64().unwrap()).collect()
    }

    #[test]
    fn the_newest_own_lines_are_found_across_pieces_and_days() {
        let folder = folder();
        let tail = search("alice", 5).run(folder.path()).unwrap();
        assert_eq!((numbers(&tail), tail.complete), (vec![8997, 9000, 9003, 9006, 9009], false));
        let all = search("alice", 500);
        let tail = all.run(folder.path()).unwrap();
        let expected: Vec<u64> = (0..9010).filter(|number| number % 3 == 0).collect();
        assert_eq!(numbers(&tail), expected[expected.len() - 500..]);
    }

    #[test]
    fn nobody_sees_a_line_of_somebody_whose_name_holds_theirs() {
        let folder = folder();
        for (subject, others) in [("alice", "alice2"), ("alice2", "alice")] {
            let tail = search(subject, 500).run(folder.path()).unwrap();
            assert!(tail.lines.iter().all(|line| line["subject"] == subject), "{subject} saw {others}");
        }
        assert!(search("ali", 500).run(folder.path()).unwrap().lines.is_empty());
    }

    #[test]
    fn a_line_that_is_still_being_written_is_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let text = "{\"n\":1,\"subject\":\"alice\"}\n{\"n\":2,\"subject\":\"alice\"";
        std::fs::write(folder.path().join("requests.2026-01-01.jsonl"), text).unwrap();
        let tail = search("alice", 5).run(folder.path()).unwrap();
        assert_eq!((numbers(&tail), tail.complete), (vec![1], true));
    }

    #[test]
    fn what_lies_beyond_the_budget_is_not_looked_at_and_the_answer_says_so() {
        let folder = folder();
        let file = File::open(folder.path().join("requests.2026-01-01.jsonl")).unwrap();
        let (mut budget, mut found) = (PIECE + 1, Vec::new());
        // More lines are wanted than the budget can hold.
        assert!(!search("alice", u16::MAX).through(&file, &mut budget, &mut found).unwrap());
        assert!(budget == 0 && !found.is_empty());
    }
}
