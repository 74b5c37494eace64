//! Samples, tables and the line of JSON.

use std::time::Duration;

use serde_json::{Map, Value, json};

/// Times of the same thing, in microseconds.
#[derive(Default, Clone)]
pub struct Samples(Vec<f64>);

impl Samples {
    pub fn add(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1e6);
    }

    /// The smallest sample that is not below `share` of all.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (share * sorted.len() as f64).ceil() as usize;
        sorted[rank.clamp(1, sorted.len()) - 1]
    }

    pub fn p50(&self) -> f64 {
        self.quantile(0.50)
    }

    pub fn p99(&self) -> f64 {
        self.quantile(0.99)
    }
}

/// The middle one of some figures, and the range they lie in.
pub struct Spread {
    pub middle: f64,
    pub low: f64,
    pub high: f64,
}

pub fn spread(figures: impl IntoIterator<Item = f64>) -> Spread {
    let mut sorted: Vec<f64> = figures.into_iter().collect();
    sorted.sort_by(f64::total_cmp);
    Spread { middle: sorted[sorted.len() / 2], low: sorted[0], high: sorted[sorted.len() - 1] }
}

/// A figure to reach.
pub struct Goal {
    pub what: &'static str,
    pub value: f64,
    pub limit: f64,
    pub at_least: bool,
}

impl Goal {
    pub fn at_most(what: &'static str, value: f64, limit: f64) -> Self {
        Self { what, value, limit, at_least: false }
    }

    pub fn at_least(what: &'static str, value: f64, limit: f64) -> Self {
        Self { what, value, limit, at_least: true }
    }

    fn met(&self) -> bool {
        if self.at_least { self.value >= self.limit } else { self.value <= self.limit }
    }
}

/// What a part has to say.
pub struct Report {
    title: String,
    rows: Vec<(String, String)>,
    json: Map<String, Value>,
}

impl Report {
    pub fn new(part: &str, on: Option<&str>) -> Self {
        let title = on.map_or_else(|| part.to_owned(), |on| format!("{part} · {on}"));
        let mut json = Map::new();
        json.insert("part".into(), part.into());
        json.extend(on.map(|on| ("vault".to_owned(), Value::from(on))));
        Self { title, rows: Vec::new(), json }
    }

    /// A row of the table, and the same as a member of the JSON.
    pub fn row(&mut self, what: &str, member: &str, value: f64, unit: &str) {
        let text = match unit {
            "" => format!("{value:.2}"),
            "µs" if value >= 10_000.0 => format!("{:.1} ms", value / 1e3),
            "µs" if value >= 100.0 => format!("{value:.0} µs"),
            _ if value.fract() == 0.0 && value.abs() < 1e12 => format!("{value:.0} {unit}"),
            _ => format!("{value:.1} {unit}"),
        };
        self.note(what, text);
        // Two places are more than any of this is good for.
        self.json.insert(member.into(), json!((value * 100.0).round() / 100.0));
    }

    /// A row in words.
    pub fn note(&mut self, what: &str, text: impl Into<String>) {
        self.rows.push((what.to_owned(), text.into()));
    }

    /// Prints it, each goal with whether it was reached.
    pub fn print(mut self, goals: &[Goal]) {
        for goal in goals {
            let sign = if goal.at_least { '≥' } else { '≤' };
            let verdict = if goal.met() { "reached" } else { "NOT reached" };
            self.rows.push((format!("→ {}", goal.what), format!("{sign} {}: {verdict}", goal.limit)));
        }
        if !goals.is_empty() {
            self.json.insert("reached".into(), goals.iter().all(Goal::met).into());
        }
        let widest = self.rows.iter().map(|(what, _)| what.chars().count()).max().unwrap_or_default();
        println!("\n{}", self.title);
        for (what, text) in &self.rows {
            let gap = " ".repeat(widest - what.chars().count());
            println!("  {what}{gap}  {text}");
        }
        println!("{}", Value::Object(self.json));
    }
}

/// Cores, load and build, for whoever compares figures.
pub fn machine() -> String {
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let load = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let load = load.split(' ').next().unwrap_or("?");
    let binary = super::server::binary();
    let size = std::fs::metadata(&binary).map_or(0, |meta| meta.len());
    let build = if cfg!(debug_assertions) { " · DEBUG build: the figures mean nothing" } else { "" };
    format!("{cores} cores · load {load} · binary {:.1} MB{build}", size as f64 / 1e6)
}
