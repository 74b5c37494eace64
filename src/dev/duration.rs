//! Durations as Vault takes and gives them: seconds as a number, Go's `1h30m`, days as `7d`.
//!
//! Reads text into nanoseconds and writes Go's own form back. It knows no time zone and no calendar.

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::Value;

/// Reads a duration from a JSON value: a number or a numeric text is seconds, an empty text is zero.
pub(super) fn from_value(value: &Value) -> Option<TimeDelta> {
    match value {
        Value::Null => Some(TimeDelta::zero()),
        Value::Number(number) => seconds(&number.to_string()),
        Value::String(text) => parse(text),
        _ => None,
    }
}

/// Reads a duration from text; `None` when it is not one.
pub(super) fn parse(text: &str) -> Option<TimeDelta> {
    let text = text.trim();
    if text.is_empty() {
        return Some(TimeDelta::zero());
    }
    if let Some(found) = seconds(text) {
        return Some(found);
    }
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<i64>().ok()) {
        return TimeDelta::try_days(days);
    }
    go(text)
}

fn seconds(text: &str) -> Option<TimeDelta> {
    if let Ok(whole) = text.parse::<i64>() {
        return TimeDelta::try_seconds(whole);
    }
    let fraction = text.parse::<f64>().ok().filter(|number| number.is_finite() && number.abs() < 9e9)?;
    Some(TimeDelta::nanoseconds((fraction * 1e9) as i64))
}

/// Go's `time.ParseDuration`: a sign, then numbers with a unit each.
fn go(text: &str) -> Option<TimeDelta> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_f64;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at_checked(digits)?;
        let number: f64 = number.parse().ok()?;
        let unit = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, next) = after.split_at_checked(unit)?;
        let nanoseconds = match unit {
            "ns" => 1.0,
            "us" | "µs" | "μs" => 1e3,
            "ms" => 1e6,
            "s" => 1e9,
            "m" => 60e9,
            "h" => 3600e9,
            _ => return None,
        };
        total += number * nanoseconds;
        rest = next;
    }
    if total >= 9.2e18 {
        return None;
    }
    let total = TimeDelta::nanoseconds(total as i64);
    Some(if negative { -total } else { total })
}

/// A moment some seconds later, or the last that there is.
pub(super) fn later(moment: DateTime<Utc>, seconds: i64) -> DateTime<Utc> {
    let end = TimeDelta::try_seconds(seconds).and_then(|span| moment.checked_add_signed(span));
    end.unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// A moment some seconds earlier, or the first that Unix knows.
pub(super) fn earlier(moment: DateTime<Utc>, seconds: i64) -> DateTime<Utc> {
    let start = TimeDelta::try_seconds(seconds).and_then(|span| moment.checked_sub_signed(span));
    start.unwrap_or_default().max(DateTime::UNIX_EPOCH)
}

/// Whole seconds in the form of Go's `Duration.String`: `0s`, `1m30s`, `3h0m0s`.
pub(super) fn to_go(seconds: i64) -> String {
    let sign = if seconds < 0 { "-" } else { "" };
    let left = seconds.unsigned_abs();
    let (hours, minutes, seconds) = (left / 3600, left / 60 % 60, left % 60);
    if hours > 0 {
        format!("{sign}{hours}h{minutes}m{seconds}s")
    } else if minutes > 0 {
        format!("{sign}{minutes}m{seconds}s")
    } else {
        format!("{sign}{seconds}s")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_form_that_vault_takes_is_read() {
        for (text, nanoseconds) in [
            ("", 0_i64),
            ("0", 0),
            ("15", 15_000_000_000),
            ("1.5", 1_500_000_000),
            ("1h30m", 5_400_000_000_000),
            ("500ms", 500_000_000),
            ("2d", 172_800_000_000_000),
            ("-5s", -5_000_000_000),
        ] {
            assert_eq!(parse(text), Some(TimeDelta::nanoseconds(nanoseconds)), "{text}");
        }
        for text in ["h", "5 s", "5x", "five", "1h5", "-", "9999999999999h"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn no_span_is_too_long_for_a_moment() {
        let now = Utc::now();
        assert_eq!(later(now, 60) - now, TimeDelta::seconds(60));
        assert_eq!(now - earlier(now, 60), TimeDelta::seconds(60));
        for seconds in [9_000_000_000_000_000, i64::MAX] {
            assert_eq!(later(now, seconds), DateTime::<Utc>::MAX_UTC);
            assert_eq!(earlier(now, seconds), DateTime::UNIX_EPOCH);
        }
    }

    #[test]
    fn go_form_is_written() {
        assert_eq!(to_go(0), "0s");
        assert_eq!(to_go(90), "1m30s");
        assert_eq!(to_go(10_800), "3h0m0s");
        assert_eq!(to_go(-60), "-1m0s");
    }
}
