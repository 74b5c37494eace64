//! Answers that stay the same while the server runs: documents, pages and the files they are made of. A client
//! that has one already is told so and no more.

use axum::{
    body::Bytes,
    response::{IntoResponse, Response},
};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::answer::plain;

/// A body that stays the same, and what is said with it.
pub struct Fixed {
    body: Bytes,
    tag: String,
    headers: Vec<(HeaderName, &'static str)>,
    gzipped: bool,
}

impl Fixed {
    /// A body of this media type. A client may keep it, and asks each time whether it still holds.
    pub(super) fn new(media: &'static str, body: impl Into<Bytes>) -> Self {
        let body = body.into();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &body);
        let tag = format!("\"{}\"", hex::encode(digest.as_ref().get(..16).unwrap_or_default()));
        let headers = vec![
            (header::CONTENT_TYPE, media),
            (header::CACHE_CONTROL, "no-cache"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        ];
        Self { body, tag, headers, gzipped: false }
    }

    /// The body is compressed already.
    pub(super) fn gzipped(mut self) -> Self {
        self.gzipped = true;
        self.with(header::CONTENT_ENCODING, "gzip").with(header::VARY, "accept-encoding")
    }

    /// With this header, in place of one of that name.
    pub(super) fn with(mut self, name: HeaderName, value: &'static str) -> Self {
        self.headers.retain(|(known, _)| *known != name);
        self.headers.push((name, value));
        self
    }

    /// What names this very body: letters and digits.
    pub(super) fn digest(&self) -> &str {
        self.tag.trim_matches('"')
    }

    /// The answer to a request with these headers (RFC 9110, sections 12.5.3 and 13.1.2).
    pub(super) fn answer(&self, request: &HeaderMap) -> Response {
        if self.gzipped && !takes_gzip(request) {
            return plain(StatusCode::NOT_ACCEPTABLE, "It is kept compressed; send Accept-Encoding: gzip");
        }
        let known = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|tags| tags.to_str().ok());
        let known = known.flat_map(|tags| tags.split(',')).map(str::trim);
        let has_it = known.map(|tag| tag.trim_start_matches("W/")).any(|tag| tag == "*" || tag == self.tag);
        let mut response =
            if has_it { StatusCode::NOT_MODIFIED.into_response() } else { self.body.clone().into_response() };
        let headers = response.headers_mut();
        for (name, value) in &self.headers {
            headers.insert(name, HeaderValue::from_static(value));
        }
        if has_it {
            headers.remove(header::CONTENT_TYPE);
            headers.remove(header::CONTENT_ENCODING);
        }
        if let Ok(tag) = HeaderValue::try_from(&self.tag) {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

/// A client that does not say what it takes takes anything.
fn takes_gzip(request: &HeaderMap) -> bool {
    let said = request.get_all(header::ACCEPT_ENCODING);
    if said.iter().next().is_none() {
        return true;
    }
    let codings =
        said.iter().filter_map(|codings| codings.to_str().ok()).flat_map(|codings| codings.split(','));
    let weighed: Vec<_> = codings
        .map(|coding| {
            let (coding, weight) = coding.split_once(';').unwrap_or((coding, ""));
            let weight = weight.trim().strip_prefix("q=").and_then(|weight| weight.parse().ok());
            (coding.trim(), weight.unwrap_or(1.0_f32))
        })
        .collect();
    let named = |wanted: &str| weighed.iter().find(|(coding, _)| coding.eq_ignore_ascii_case(wanted));
    named("gzip").or_else(|| named("*")).is_some_and(|(_, weight)| *weight > 0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(name: HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::try_from(value).unwrap())])
    }

    #[test]
    fn what_is_compressed_goes_to_those_who_take_it() {
        let file = Fixed::new("text/css", "x").gzipped();
        for (takes, status) in [
            ("gzip, deflate, br", 200),
            ("br;q=1.0, gzip;q=0.8, *;q=0.1", 200),
            ("GZIP", 200),
            ("*", 200),
            ("identity", 406),
            ("br", 406),
            ("gzip;q=0", 406),
            ("gzip;q=0.000, *", 406),
            ("", 406),
        ] {
            let answer = file.answer(&asked(header::ACCEPT_ENCODING, takes));
            assert_eq!(answer.status(), status, "{takes}");
        }
        assert_eq!(file.answer(&HeaderMap::new()).headers()[header::CONTENT_ENCODING], "gzip");
    }

    #[test]
    fn who_has_it_is_told_so() {
        let file = Fixed::new("text/css", "x");
        let tag = file.answer(&HeaderMap::new()).headers()[header::ETAG].clone();
        for (has, status) in [
            (tag.to_str().unwrap().to_owned(), 304),
            (format!("\"other\", W/{}", tag.to_str().unwrap()), 304),
            ("*".to_owned(), 304),
            ("\"other\"".to_owned(), 200),
            (file.digest().to_owned(), 200),
        ] {
            let answer = file.answer(&asked(header::IF_NONE_MATCH, &has));
            assert_eq!(answer.status(), status, "{has}");
            assert_eq!(answer.headers()[header::ETAG], tag);
        }
        assert_ne!(file.digest(), Fixed::new("text/css", "y").digest());
    }
}
