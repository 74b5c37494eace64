//! What the page shows, and what its form sends.

use std::fmt::Write as _;

use aws_lc_rs::digest;
use base64::{Engine as _, engine::general_purpose::STANDARD};
use zeroize::Zeroizing;

use crate::names::shown_name;

/// What a page is about.
pub(super) struct About {
    /// Whom the call acts for.
    pub(super) subject: String,
    /// Vault's address.
    pub(super) address: String,
    /// The question.
    pub(super) question: String,
    /// The key that the value is for.
    pub(super) key: String,
}

const STYLE: &str = "\
:root{color-scheme:light dark;font:16px/1.5 system-ui,sans-serif}\
main{max-width:44rem;margin:3rem auto;padding:0 1rem}\
pre{padding:1rem;border:1px solid GrayText;border-radius:.3rem;white-space:pre-wrap;overflow-wrap:anywhere}\
label,input{display:block;width:100%;box-sizing:border-box}\
input{font:1rem monospace;padding:.5rem;margin:.3rem 0 1rem}\
button{font:inherit;padding:.4rem 1.2rem;margin-right:.5rem}\
.fault{border-left:.3rem solid #c22;padding-left:.7rem}";

/// Nothing runs, nothing is fetched, nothing frames it; the form goes back where the page came from.
pub(super) fn content_security_policy() -> String {
    let style = STANDARD.encode(digest::digest(&digest::SHA256, STYLE.as_bytes()));
    format!(
        "default-src 'none'; style-src 'sha256-{style}'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
}

/// A text as HTML shows it, in an element or in a quoted attribute.
fn escaped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn page(inside: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>A value for Vault</title>\
         <meta name=\"viewport\" content=\"width=device-width\"><style>{STYLE}</style></head>\n\
         <body><main><h1>A value for Vault</h1>\n{inside}</main></body></html>\n"
    )
}

/// A page that only says something.
pub(super) fn note(text: &str) -> String {
    page(&format!("<p>{}</p>\n", escaped(text)))
}

impl About {
    /// The page with its form, whose own secret is `form`.
    pub(super) fn html(&self, token: &str, form: &str, fault: Option<&str>) -> String {
        let mut inside = format!(
            "<p>The AI client of <b>{}</b> asks you to type a value. It goes to the Vault at <b>{}</b>. The AI does \
             not see it.</p>\n<pre>{}</pre>\n",
            escaped(&self.subject),
            escaped(&self.address),
            escaped(&self.question)
        );
        if let Some(fault) = fault {
            let _ = writeln!(inside, "<p class=\"fault\" role=\"alert\">{}</p>", escaped(fault));
        }
        let _ = write!(
            inside,
            "<form method=\"post\" action=\"/{token}\" accept-charset=\"utf-8\" autocomplete=\"off\">\n\
             <input type=\"hidden\" name=\"form\" value=\"{form}\">\n\
             <label for=\"value\">Value of <code>{}</code> (one line)</label>\n\
             <input type=\"password\" id=\"value\" name=\"value\" autocomplete=\"off\" spellcheck=\"false\" autofocus>\n\
             <button name=\"choice\" value=\"store\">Store it</button>\n\
             <button name=\"choice\" value=\"decline\">Decline</button>\n</form>\n",
            escaped(&shown_name(&self.key))
        );
        page(&inside)
    }
}

/// What the form sends.
pub(super) struct Sent {
    /// The form's own secret.
    pub(super) form: String,
    /// The value as it was typed.
    pub(super) value: Zeroizing<String>,
    /// The other button.
    pub(super) declined: bool,
}

impl Sent {
    /// Exactly the form's three fields, each once, in UTF-8; nothing for anything else.
    pub(super) fn parse(body: &[u8]) -> Option<Self> {
        let (mut form, mut value, mut choice) = (None, None, None);
        for field in body.split(|byte| *byte == b'&') {
            let at = field.iter().position(|byte| *byte == b'=')?;
            let content = decoded(field.get(at + 1..)?)?;
            let slot = match field.get(..at)? {
                b"form" => &mut form,
                b"value" => &mut value,
                b"choice" => &mut choice,
                _ => return None,
            };
            if slot.replace(content).is_some() {
                return None;
            }
        }
        let declined = match choice?.as_str() {
            "store" => false,
            "decline" => true,
            _ => return None,
        };
        Some(Self { form: form?.to_string(), value: value?, declined })
    }
}

/// `application/x-www-form-urlencoded` (WHATWG URL, section 5.1), but for what it would replace: what is no UTF-8 or a
/// half percent sign is nothing. In memory that is wiped and does not grow.
fn decoded(text: &[u8]) -> Option<Zeroizing<String>> {
    let mut out = Zeroizing::new(Vec::with_capacity(text.len()));
    let mut bytes = text.iter();
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || char::from(*bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            other => *other,
        });
    }
    Some(Zeroizing::new(std::str::from_utf8(&out).ok()?.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_form_is_read_to_the_letter_or_not_at_all() {
        let sent = Sent::parse(b"form=ab&value=+a%2B%26%3D%25%C3%BC%F0%9F%97%9D'\"&choice=store").unwrap();
        assert_eq!((sent.form.as_str(), sent.value.as_str(), sent.declined), ("ab", " a+&=%ü🗝'\"", false));
        assert!(Sent::parse(b"form=ab&value=&choice=decline").unwrap().declined);
        for other in [
            "",
            "form=ab&value=x",
            "form=ab&value=x&choice=",
            "form=ab&value=x&choice=yes",
            "form=ab&value=x&value=y&choice=store",
            "form=ab&value=x&choice=store&choice=decline",
            "form=ab&value=x&choice=store&more=1",
            "form=ab&value=x&choice=store&",
            "form=ab&value=%ff&choice=store",
            "form=ab&value=%C3&choice=store",
            "form=ab&value=%4&choice=store",
            "form=ab&value=%zz&choice=store",
            "form=ab&value=%+1&choice=store",
            "form&value=x&choice=store",
        ] {
            assert!(Sent::parse(other.as_bytes()).is_none(), "{other}");
        }
    }

    #[test]
    fn nothing_that_is_shown_can_be_markup() {
        let hostile = "</pre><script>alert(1)</script><b a=\"x\" b='y'>&amp;";
        let about = About {
            subject: hostile.into(),
            address: hostile.into(),
            question: hostile.into(),
            key: hostile.into(),
        };
        for html in [about.html("t", "f", Some(hostile)), note(hostile)] {
            assert!(!html.contains("<script") && !html.contains("<b a"), "{html}");
            assert!(html.contains("&lt;script&gt;") && html.contains("&amp;amp;"), "{html}");
        }
    }

    #[test]
    fn the_policy_lets_the_style_in_and_nothing_else() {
        let policy = content_security_policy();
        assert!(policy.starts_with("default-src 'none'; style-src 'sha256-") && !policy.contains("unsafe"));
        assert!(page("").contains(&format!("<style>{STYLE}</style>")));
    }
}
