//! A blocking HTTP call to a Vault, for looking behind the product's back.

use std::sync::OnceLock;

use serde_json::Value;
use ureq::http::Request;

use super::PATIENCE;

/// What came back; `body` is null when it was no JSON.
#[derive(Clone, Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Value,
    pub text: String,
}

impl Reply {
    /// The body of an answer that must be a success.
    #[track_caller]
    pub fn ok(self) -> Value {
        assert!((200..300).contains(&self.status), "status {}: {}", self.status, self.text);
        self.body
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

fn agent() -> &'static ureq::Agent {
    static AGENT: OnceLock<ureq::Agent> = OnceLock::new();
    AGENT.get_or_init(|| {
        ureq::Agent::config_builder()
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .timeout_global(Some(PATIENCE))
            .max_redirects(0)
            .max_redirects_will_error(false)
            .proxy(None)
            .build()
            .into()
    })
}

/// One request. The body, if any, is sent as it is.
pub fn try_http(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: Option<&str>,
) -> Result<Reply, ureq::Error> {
    let mut request = Request::builder().method(method).uri(url);
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let mut response = match body {
        Some(body) => agent().run(request.body(body)?)?,
        None => agent().run(request.body(())?)?,
    };
    let text = String::from_utf8_lossy(&response.body_mut().read_to_vec()?).into_owned();
    let headers = response
        .headers()
        .iter()
        .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
        .collect();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Ok(Reply { status: response.status().as_u16(), headers, body, text })
}

/// As [`try_http`]; a request that got no answer at all ends the test.
#[track_caller]
pub fn http(method: &str, url: &str, headers: &[(&str, &str)], body: Option<&str>) -> Reply {
    try_http(method, url, headers, body).unwrap_or_else(|error| panic!("{method} {url}: {error}"))
}
