//! A person who types a value on the page that a client was told to open, without looking closely.

use super::http::http;

/// Opens the page at this address, types the value and sends it; the status of what came back.
#[track_caller]
pub fn type_value(url: &str, value: &str) -> u16 {
    let page = http("GET", url, &[], None);
    assert_eq!(page.status, 200, "{}", page.text);
    let cookie = page.header("set-cookie").unwrap().split(';').next().unwrap().to_owned();
    let field = "name=\"form\" value=\"";
    let at = page.text.find(field).unwrap() + field.len();
    let encoded: String = value.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let form = format!("form={}&value={encoded}&choice=store", &page.text[at..at + 32]);
    let origin = url.rsplit_once('/').unwrap().0;
    let headers = [
        ("Cookie", cookie.as_str()),
        ("Origin", origin),
        ("Content-Type", "application/x-www-form-urlencoded"),
    ];
    http("POST", url, &headers, Some(&form)).status
}
