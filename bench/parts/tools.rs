//! What `tools/list` costs a model to read.

use serde_json::Value;

use crate::{
    measure::{Goal, Report},
    server::{Server, Streams},
};

pub fn run() {
    let mut server = Server::start("http://127.0.0.1:9", Streams::Pipes);
    let answer = server.exchange(r#"{"jsonrpc":"2.0","id":1,"method":"tools/list"}"#);
    let answer: Value = serde_json::from_str(answer).unwrap();
    let tools = answer["result"]["tools"].as_array().unwrap();
    let bytes = |value: &Value| serde_json::to_string(value).unwrap().len();
    let mut rows: Vec<(String, usize)> = Vec::new();
    let (mut with, mut without) = (0, 0);
    for tool in tools {
        with += bytes(tool);
        let mut bare = tool.clone();
        bare.as_object_mut().unwrap().remove("outputSchema");
        let size = bytes(&bare);
        without += size;
        rows.push((tool["name"].as_str().unwrap().to_owned(), size));
    }
    rows.sort_by_key(|(_, size)| std::cmp::Reverse(*size));
    let mean = without as f64 / tools.len() as f64;
    let mut report = Report::new("tools", None);
    report.row("tools", "tools", tools.len() as f64, "");
    report.row("all of them, output schemas aside", "bytes", without as f64, "bytes");
    report.row("mean of a tool, output schemas aside", "mean", mean.round(), "bytes");
    report.row("all of them with output schemas", "bytes_with_output", with as f64, "bytes");
    report.row(
        "mean of a tool with output schema",
        "mean_with_output",
        (with as f64 / tools.len() as f64).round(),
        "bytes",
    );
    let largest: Vec<String> = rows.iter().take(3).map(|(name, size)| format!("{name} {size}")).collect();
    report.note("largest", largest.join(" · "));
    report.row("ratio with / without", "ratio", with as f64 / without as f64, "");
    report.print(&[Goal::at_most("mean in bytes, output schemas aside", mean, 800.0)]);
}
