//! JSON Web Tokens in `Authorization: Bearer` (RFC 6750, RFC 7519, and RFC 8725 on what goes wrong with them).
//!
//! The algorithm follows from the settings and never from the token: HS256 with a shared secret, or RS256 and ES256
//! with the issuer's keys, not both. The signature is checked before anything that is signed is looked at; the rules
//! for claims are ours, because readers are generous where this one must not be (an issuer as a list, an audience
//! that may be missing). What this module does not do: fetch keys, or hand a token on to anybody.

use http::{HeaderMap, HeaderValue};
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation};
use serde::Deserialize;
use serde_json::Number;

use super::{Identity, Method, Refusal, jwks::Keys, only};
use crate::{caller::Scope, config::Config, error::Error, names::Subject};

/// Most bytes of a token.
const MAX_TOKEN: usize = 8 << 10;
/// Most bytes of a key id.
const MAX_KEY_ID: usize = 256;
/// How far clocks may differ, in seconds.
const LEEWAY: f64 = 30.0;
/// Least bytes of a shared secret (RFC 7518, section 3.2), but for a server that only this machine reaches.
const MIN_SECRET: usize = 32;

/// Why a token is not taken.
type Fault = &'static str;

/// What verifies signatures.
enum Verifier {
    /// HS256.
    Secret(DecodingKey),
    /// RS256 and ES256.
    Keys(Keys),
}

/// What must be in a token besides a good signature.
struct Rules {
    /// Nothing where any issuer will do.
    issuer: Option<String>,
    /// Nothing where any audience will do.
    audiences: Option<Vec<String>>,
    key_id: bool,
}

/// The tokens that are accepted.
pub(super) struct Jwt {
    verifier: Verifier,
    rules: Rules,
}

impl Jwt {
    /// As the settings say; nothing where they name neither a secret nor keys. `own` are the addresses by which
    /// this server is known for certain: a token that is meant for them is meant for it (RFC 8707).
    ///
    /// # Errors
    /// `config_invalid` when the settings contradict each other, or a file of keys cannot be used.
    pub(super) fn new(config: &Config, own: Vec<String>) -> Result<Option<Self>, Error> {
        if *config.jwt_jwks_cache_seconds == 0 {
            return Err(Error::config("JWT_JWKS_CACHE_SECONDS", "expected at least 1."));
        }
        let verifier = match (&*config.jwt_hs256_secret, Keys::new(config)?) {
            (None, None) => return Ok(None),
            (Some(_), Some(_)) => {
                return Err(Error::config(
                    "JWT_HS256_SECRET",
                    "it goes without JWT_JWKS_URL and JWT_JWKS_FILE: with both, a public key could be passed off as the secret. Set one of them.",
                ));
            }
            (Some(secret), None) => {
                let secret = secret.expose().as_bytes();
                if secret.len() < MIN_SECRET {
                    if !config.host.is_loopback() {
                        return Err(Error::config(
                            "JWT_HS256_SECRET",
                            format!(
                                "it has fewer than {MIN_SECRET} bytes: whoever sees one token can guess it at leisure. Give a longer one, `openssl rand -hex 32` say, or listen on 127.0.0.1."
                            ),
                        ));
                    }
                    tracing::warn!("JWT_HS256_SECRET has fewer than {MIN_SECRET} bytes and can be guessed");
                }
                Verifier::Secret(DecodingKey::from_secret(secret))
            }
            (None, Some(keys)) => Verifier::Keys(keys),
        };
        let audiences = config
            .jwt_validate_audience
            .then(|| std::iter::once(config.jwt_audience.clone()).chain(own).collect());
        let rules = Rules {
            issuer: config.jwt_validate_issuer.then(|| config.jwt_issuer.clone()),
            audiences,
            key_id: *config.jwt_require_kid,
        };
        Ok(Some(Self { verifier, rules }))
    }

    /// Whom a token names.
    pub(super) async fn identify(&self, token: &str) -> Result<Identity, Refusal> {
        let invalid = |fault| Refusal::Invalid { method: Method::Jwt, fault };
        let claims = self.verify(token).await.map_err(invalid)?;
        self.rules.check(claims, now()).map_err(invalid)
    }

    /// The claims of a token whose signature is good.
    async fn verify(&self, token: &str) -> Result<Claims, Fault> {
        if token.len() > MAX_TOKEN {
            return Err("a token of more than 8 KiB");
        }
        // Five parts are an encrypted token, which nobody here could open.
        if token.bytes().filter(|byte| *byte == b'.').count() != 2 {
            return Err("a token that has not three parts");
        }
        let header = jsonwebtoken::decode_header(token).map_err(|_| "a token with an unreadable header")?;
        check_header(&header, self.rules.key_id)?;
        match &self.verifier {
            Verifier::Secret(secret) => {
                if header.alg != Algorithm::HS256 {
                    return Err("a token of another algorithm than HS256");
                }
                decode(token, secret, Algorithm::HS256)
            }
            Verifier::Keys(keys) => {
                let algorithm = header.alg;
                if !matches!(algorithm, Algorithm::RS256 | Algorithm::ES256) {
                    return Err("a token of another algorithm than RS256 and ES256");
                }
                let key = keys.find(header.kid.as_deref(), algorithm).await?;
                decode(token, &key.decoding, algorithm)
            }
        }
    }
}

/// The token in these headers, if there is one. Other schemes than Bearer are nobody's here.
///
/// # Errors
/// When the header stands there twice, or is no text.
pub(super) fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let invalid = |fault| Refusal::Invalid { method: Method::Jwt, fault };
    let value = only(headers, "authorization").map_err(|_| invalid("two Authorization headers"))?;
    let Some(value) = value else { return Ok(None) };
    let value = HeaderValue::to_str(value).map_err(|_| invalid("an Authorization header that is no text"))?;
    // A scheme is compared in any case (RFC 9110, section 11.1).
    let Some((scheme, token)) = value.split_once(' ') else {
        return if value.eq_ignore_ascii_case("bearer") { Ok(Some("")) } else { Ok(None) };
    };
    Ok(scheme.eq_ignore_ascii_case("bearer").then(|| token.trim_start_matches(' ')))
}

/// `jku`, `x5u`, `jwk` and `x5c` are not looked at: a token does not say which key it is good by.
fn check_header(header: &Header, key_id: bool) -> Result<(), Fault> {
    if header.crit.is_some() {
        return Err("a token with extensions that it calls critical");
    }
    if header.enc.is_some() || header.zip.is_some() {
        return Err("an encrypted token");
    }
    // A token made for another purpose says so (RFC 8725, section 3.11).
    let purpose = header.typ.as_deref().unwrap_or("JWT");
    let purpose = purpose.strip_prefix("application/").unwrap_or(purpose);
    if !purpose.eq_ignore_ascii_case("JWT") && !purpose.eq_ignore_ascii_case("at+jwt") {
        return Err("a token of another type");
    }
    match &header.kid {
        Some(id) if id.len() > MAX_KEY_ID => Err("a token whose key id is too long"),
        None if key_id => Err("a token without a key id"),
        _ => Ok(()),
    }
}

/// The signature, and nothing else, is jsonwebtoken's.
fn decode(token: &str, key: &DecodingKey, algorithm: Algorithm) -> Result<Claims, Fault> {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    let decoded = jsonwebtoken::decode::<Claims>(token, key, &validation);
    decoded.map(|token| token.claims).map_err(|error| match error.kind() {
        jsonwebtoken::errors::ErrorKind::Json(_) => "a token whose claims are not of their types",
        _ => "a token whose signature is not good",
    })
}

/// What is read of a token. A claim that stands there twice is an error.
#[derive(Debug, Default, Deserialize)]
struct Claims {
    sub: Option<String>,
    iss: Option<String>,
    aud: Option<OneOrMany>,
    exp: Option<Number>,
    nbf: Option<Number>,
    scope: Option<OneOrMany>,
    scopes: Option<OneOrMany>,
}

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

impl OneOrMany {
    fn has(&self, wanted: &str) -> bool {
        match self {
            Self::One(text) => text == wanted,
            Self::Many(texts) => texts.iter().any(|text| text == wanted),
        }
    }

    /// The scopes among words in a list, or in a text that spaces or commas separate. Words that are none of ours
    /// allow nothing here, `*` among them.
    fn scopes(&self) -> Vec<Scope> {
        let words: Vec<&str> = match self {
            Self::One(text) => text.split([' ', ',']).collect(),
            Self::Many(texts) => texts.iter().map(String::as_str).collect(),
        };
        Scope::ALL.iter().copied().filter(|scope| words.contains(&scope.as_str())).collect()
    }
}

impl Rules {
    fn check(&self, claims: Claims, now: f64) -> Result<Identity, Fault> {
        // A time may have a fraction (RFC 7519, section 2). It may not be text.
        let time = |number: &Number| number.as_f64().filter(|time| time.is_finite());
        let ends = claims.exp.as_ref().and_then(time).ok_or("a token that never ends")?;
        if now >= ends + LEEWAY {
            return Err("an expired token");
        }
        if let Some(begins) = &claims.nbf {
            let begins = time(begins).ok_or("a token whose beginning is no time")?;
            if now < begins - LEEWAY {
                return Err("a token that is not valid yet");
            }
        }
        if let Some(issuer) = &self.issuer
            && claims.iss.as_ref() != Some(issuer)
        {
            return Err("a token of another issuer");
        }
        if let Some(audiences) = &self.audiences {
            let meant = claims.aud.as_ref().is_some_and(|given| audiences.iter().any(|own| given.has(own)));
            if !meant {
                return Err("a token that is meant for somebody else");
            }
        }
        let subject = claims.sub.as_deref().ok_or("a token without a subject")?;
        let subject = Subject::parse(subject).map_err(|_| "a token whose subject is none of ours")?;
        let scopes = match (&claims.scopes, &claims.scope) {
            (None, None) => Vec::new(),
            (Some(one), None) | (None, Some(one)) => one.scopes(),
            // Two claims for one thing: what both allow.
            (Some(one), Some(other)) => super::both(&one.scopes(), &other.scopes()),
        };
        Ok(Identity { subject, scopes, method: Method::Jwt })
    }
}

/// Seconds since 1970.
fn now() -> f64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    since.map_or(f64::MAX, |since| since.as_secs_f64())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: f64 = 1_800_000_000.0;

    fn rules() -> Rules {
        Rules {
            issuer: Some("https://issuer.example.com".into()),
            audiences: Some(vec!["mcp-agents".into(), "https://vault-mcp.example.com/mcp".into()]),
            key_id: false,
        }
    }

    /// Good claims with these in place of theirs; null takes one away.
    fn claims(changes: Value) -> Result<Identity, String> {
        let mut claims = json!({
            "sub": "alice", "iss": "https://issuer.example.com", "aud": "mcp-agents",
            "exp": 1_800_000_060, "scopes": ["read", "list"],
        });
        for (name, value) in changes.as_object().unwrap() {
            match value {
                Value::Null => claims.as_object_mut().unwrap().remove(name),
                value => claims.as_object_mut().unwrap().insert(name.clone(), value.clone()),
            };
        }
        let claims = serde_json::from_str(&claims.to_string()).map_err(|error| error.to_string())?;
        rules().check(claims, NOW).map_err(str::to_owned)
    }

    #[test]
    fn a_token_ends_and_begins_when_it_says_give_or_take_thirty_seconds() {
        for (exp, good) in [
            (json!(1_800_000_000), true),
            (json!(1_799_999_971), true),
            (json!(1_799_999_970), false),
            (json!(1_799_999_970.5), true),
            (json!(0), false),
            (json!(-1), false),
            (json!("1800000060"), false),
            (json!([1_800_000_060]), false),
            (Value::Null, false),
        ] {
            assert_eq!(claims(json!({ "exp": exp })).is_ok(), good, "exp {exp}");
        }
        assert!(
            serde_json::from_str::<Claims>(r#"{"exp": 1e999}"#)
                .map_or(true, |claims| rules().check(claims, NOW).is_err())
        );
        for (nbf, good) in [
            (json!(1_800_000_030), true),
            (json!(1_800_000_031), false),
            (json!("0"), false),
            (json!(1e300), false),
            (json!(0), true),
        ] {
            assert_eq!(claims(json!({ "nbf": nbf })).is_ok(), good, "nbf {nbf}");
        }
    }

    #[test]
    fn issuer_audience_and_subject_are_compared_whole() {
        for (change, good) in [
            (json!({"iss": "https://issuer.example.com/"}), false),
            (json!({"iss": "HTTPS://issuer.example.com"}), false),
            (json!({"iss": ["https://issuer.example.com"]}), false),
            (json!({"iss": null}), false),
            (json!({"aud": ["other", "mcp-agents"]}), true),
            (json!({"aud": "https://vault-mcp.example.com/mcp"}), true),
            (json!({"aud": ["other"]}), false),
            (json!({"aud": []}), false),
            (json!({"aud": "mcp-agents "}), false),
            (json!({"aud": null}), false),
            (json!({"aud": {"mcp-agents": 1}}), false),
            (json!({"sub": "Alice"}), false),
            (json!({"sub": "alice "}), false),
            (json!({"sub": "a/b"}), false),
            (json!({"sub": "*"}), false),
            (json!({"sub": ""}), false),
            (json!({"sub": 7}), false),
            (json!({"sub": null}), false),
        ] {
            assert_eq!(claims(change.clone()).is_ok(), good, "{change}");
        }
    }

    #[test]
    fn scopes_come_as_list_or_text_and_nothing_but_their_names_allows_anything() {
        use Scope::{Delete, List, Read, Write};
        for (change, scopes) in [
            (json!({"scopes": ["list", "read"]}), vec![Read, List]),
            (json!({"scopes": "read write"}), vec![Read, Write]),
            (json!({"scopes": "read,delete, list"}), vec![Read, Delete, List]),
            (json!({"scopes": null, "scope": "openid list"}), vec![List]),
            (json!({"scopes": ["read", "write"], "scope": "read list"}), vec![Read]),
            (json!({"scopes": ["*"]}), vec![]),
            (json!({"scopes": "*"}), vec![]),
            (json!({"scopes": ["READ", "read write"]}), vec![]),
            (json!({"scopes": null}), vec![]),
        ] {
            assert_eq!(claims(change.clone()).unwrap().scopes, scopes, "{change}");
        }
        assert!(claims(json!({"scopes": {"read": true}})).is_err());
    }

    #[test]
    fn a_claim_that_stands_there_twice_is_refused() {
        assert!(serde_json::from_str::<Claims>(r#"{"sub": "alice", "sub": "bob"}"#).is_err());
    }

    #[test]
    fn a_bearer_token_is_found_in_its_header_and_only_there() {
        let found = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append("authorization", HeaderValue::from_str(value).unwrap());
            }
            bearer(&headers).map(|token| token.map(str::to_owned))
        };
        assert_eq!(found(&["Bearer a.b.c"]), Ok(Some("a.b.c".into())));
        assert_eq!(found(&["bEARER  a.b.c"]), Ok(Some("a.b.c".into())));
        assert_eq!(found(&["Bearer"]), Ok(Some(String::new())));
        assert_eq!(found(&["Basic YTpi"]), Ok(None));
        assert_eq!(found(&[]), Ok(None));
        assert!(found(&["Bearer a.b.c", "Bearer a.b.c"]).is_err());
    }
}
