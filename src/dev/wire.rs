//! What goes in and out of the server: the parsed request, the reply, and Vault's JSON around them.

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use http::StatusCode;
use serde_json::{Map, Value, json};

/// A JSON object.
pub(super) type Object = Map<String, Value>;

/// What a request wants to do. `Create` and `Update` are one HTTP method; which of them it is, the engine's
/// existence check says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Read,
    List,
    Create,
    Update,
    Delete,
    Patch,
    /// HEAD and OPTIONS, which no engine answers.
    Other,
}

impl Op {
    pub(super) fn is_write(self) -> bool {
        matches!(self, Op::Create | Op::Update)
    }

    /// The name that KV keeps in its attribution.
    pub(super) fn name(self) -> &'static str {
        match self {
            Op::Read => "read",
            Op::List => "list",
            Op::Create => "create",
            Op::Update => "update",
            Op::Delete => "delete",
            Op::Patch => "patch",
            Op::Other => "",
        }
    }
}

/// One request, after HTTP.
pub(super) struct Request {
    pub(super) id: String,
    pub(super) op: Op,
    /// Decoded, without `/v1/`. A list ends in `/`.
    pub(super) path: String,
    /// The body's fields, or the query's.
    pub(super) data: Object,
    pub(super) token: Option<String>,
    /// The life of a wrapping token, when the reply shall be wrapped.
    pub(super) wrap: Option<TimeDelta>,
    pub(super) now: DateTime<Utc>,
}

/// What an engine wants the core to make of a login.
pub(super) struct Login {
    pub(super) policies: Vec<String>,
    pub(super) no_default_policy: bool,
    pub(super) metadata: Object,
    pub(super) display_name: String,
    /// What the caller is known by at this mount: the same alias is the same entity.
    pub(super) alias: String,
    /// The path below the mount, for the token's own record.
    pub(super) path: String,
    pub(super) limits: Limits,
    pub(super) warnings: Vec<String>,
}

/// How long and how often a token lives. Seconds; zero is "not set".
#[derive(Clone, Copy, Default, Debug)]
pub(super) struct Limits {
    pub(super) ttl: i64,
    pub(super) max_ttl: i64,
    pub(super) explicit_max_ttl: i64,
    pub(super) period: i64,
    pub(super) num_uses: i64,
}

/// The `wrap_info` of a wrapped reply.
pub(super) struct WrapInfo {
    pub(super) token: String,
    pub(super) accessor: String,
    pub(super) ttl: i64,
    pub(super) creation_time: DateTime<Utc>,
    pub(super) creation_path: String,
    pub(super) wrapped_accessor: Option<String>,
}

/// What an engine issued that shall have a lease.
pub(super) struct Secret {
    /// What the engine knows it by when the lease ends.
    pub(super) name: String,
    /// Seconds until then.
    pub(super) ttl: i64,
}

/// A body of another type than JSON, sent as it stands.
pub(super) struct Plain {
    pub(super) media_type: &'static str,
    pub(super) body: Vec<u8>,
}

/// An answer that went well.
#[derive(Default)]
pub(super) struct Reply {
    /// A status of its own: the envelope is sent as it is, whatever the request was.
    pub(super) status: Option<StatusCode>,
    pub(super) data: Option<Object>,
    pub(super) auth: Option<Value>,
    pub(super) login: Option<Box<Login>>,
    /// Set by the core for what `secret` issues.
    pub(super) lease_id: String,
    pub(super) lease_duration: i64,
    pub(super) secret: Option<Secret>,
    pub(super) warnings: Vec<String>,
    /// Set by the core: the type of the mount that answered.
    pub(super) mount_type: String,
    pub(super) wrap: Option<WrapInfo>,
    /// Set by an engine that wants its answer wrapped whatever was asked.
    pub(super) wrap_ttl: Option<TimeDelta>,
    /// A body that is wrapped already, with the path that made it.
    pub(super) rewrapped: Option<(String, String)>,
    /// A body that is sent as it stands.
    pub(super) raw: Option<String>,
    pub(super) plain: Option<Plain>,
}

impl Reply {
    pub(super) fn data(data: Value) -> Self {
        let data = match data {
            Value::Object(data) => Some(data),
            _ => None,
        };
        Self { data, ..Self::default() }
    }

    pub(super) fn keys(keys: Vec<String>) -> Self {
        // An empty list is a 404 in Vault; a reply without data says so.
        if keys.is_empty() { Self::data(json!({})) } else { Self::data(json!({ "keys": keys })) }
    }

    pub(super) fn warning(text: impl Into<String>) -> Self {
        Self { warnings: vec![text.into()], ..Self::default() }
    }

    /// A body of its own type; nothing at all is 204.
    pub(super) fn plain(media_type: &'static str, body: Vec<u8>) -> Self {
        Self { plain: Some(Plain { media_type, body }), ..Self::default() }
    }

    pub(super) fn with_status(mut self, status: StatusCode) -> Self {
        self.status = Some(status);
        self
    }

    /// A status without any body.
    pub(super) fn bare(status: StatusCode) -> Self {
        Self { status: Some(status), raw: Some(String::new()), ..Self::default() }
    }

    /// The accessor of what a wrapped answer holds: of its token, or of an AppRole secret id.
    pub(super) fn wrapped_accessor(&self) -> Option<String> {
        let token = self.auth.as_ref().and_then(|auth| auth.get("accessor"));
        let secret_id = self.data.as_ref().and_then(|data| data.get("secret_id_accessor"));
        token.or(secret_id).and_then(Value::as_str).map(str::to_owned)
    }

    /// The envelope that Vault puts around every answer.
    pub(super) fn envelope(&self, request_id: &str) -> Object {
        let mut out = Object::new();
        let nothing = || Value::Null;
        if let Some(wrap) = &self.wrap {
            let mut info = json!({
                "token": wrap.token,
                "accessor": wrap.accessor,
                "ttl": wrap.ttl,
                "creation_time": time(wrap.creation_time),
                "creation_path": wrap.creation_path,
            });
            if let (Some(accessor), Some(info)) = (&wrap.wrapped_accessor, info.as_object_mut()) {
                info.insert("wrapped_accessor".into(), json!(accessor));
            }
            out.insert("request_id".into(), json!(""));
            out.insert("lease_id".into(), json!(""));
            out.insert("renewable".into(), json!(false));
            out.insert("lease_duration".into(), json!(0));
            out.insert("data".into(), nothing());
            out.insert("wrap_info".into(), info);
            out.insert("warnings".into(), nothing());
            out.insert("auth".into(), nothing());
            out.insert("mount_type".into(), json!(""));
            return out;
        }
        out.insert("request_id".into(), json!(request_id));
        out.insert("lease_id".into(), json!(self.lease_id));
        out.insert("renewable".into(), json!(false));
        out.insert("lease_duration".into(), json!(self.lease_duration));
        out.insert("data".into(), self.data.clone().map_or_else(nothing, Value::Object));
        out.insert("wrap_info".into(), nothing());
        out.insert(
            "warnings".into(),
            if self.warnings.is_empty() { nothing() } else { json!(self.warnings) },
        );
        out.insert("auth".into(), self.auth.clone().unwrap_or_default());
        out.insert("mount_type".into(), json!(self.mount_type));
        out
    }
}

/// An answer that did not go well: a status and Vault's `{"errors": […]}`.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) status: StatusCode,
    pub(super) errors: Vec<String>,
}

impl Fault {
    pub(super) fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, errors: vec![text.into()] }
    }

    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// A status with an empty list of errors.
    pub(super) fn silent(status: StatusCode) -> Self {
        Self { status, errors: Vec::new() }
    }

    /// Several faults in the form of Go's multierror.
    pub(super) fn list(status: StatusCode, texts: &[&str]) -> Self {
        Self::new(status, multierror(texts))
    }

    pub(super) fn denied() -> Self {
        Self::list(StatusCode::FORBIDDEN, &["permission denied"])
    }

    pub(super) fn invalid_token() -> Self {
        Self::list(StatusCode::FORBIDDEN, &["permission denied", "invalid token"])
    }

    pub(super) fn unsupported_operation() -> Self {
        Self::list(StatusCode::METHOD_NOT_ALLOWED, &["unsupported operation"])
    }

    pub(super) fn unsupported_path() -> Self {
        Self::list(StatusCode::NOT_FOUND, &["unsupported path"])
    }

    /// Vault finds a field of the wrong type before or after the policies: where an engine tells create
    /// from update, it is before, and the text is shorter.
    pub(super) fn for_field(mut self, early: bool) -> Self {
        if early {
            for text in &mut self.errors {
                if let Some(short) = text.strip_prefix("Field validation failed: ") {
                    *text = short.to_owned();
                }
            }
        }
        self
    }

    /// An open path's faults come without Go's list around them.
    pub(super) fn unlisted(mut self) -> Self {
        for text in &mut self.errors {
            if let Some(inner) = text.strip_prefix("1 error occurred:\n\t* ") {
                *text = inner.trim_end().to_owned();
            }
        }
        self
    }

    pub(super) fn body(&self) -> Value {
        json!({ "errors": self.errors })
    }
}

/// `Ok(None)` is "nothing": 404 for a read or a list, 204 for the rest.
pub(super) type Answer = Result<Option<Reply>, Fault>;

/// Several texts as Go's multierror prints them.
pub(super) fn multierror(texts: &[&str]) -> String {
    let mut out = match texts {
        [_] => "1 error occurred:".to_owned(),
        many => format!("{} errors occurred:", many.len()),
    };
    for text in texts {
        out.push_str("\n\t* ");
        out.push_str(text);
    }
    out.push_str("\n\n");
    out
}

/// RFC 3339 with nanoseconds, trailing zeros left out, as Go writes it.
pub(super) fn time(at: DateTime<Utc>) -> String {
    let text = at.to_rfc3339_opts(SecondsFormat::Nanos, true);
    let Some(whole) = text.strip_suffix('Z') else { return text };
    let short = whole.trim_end_matches('0').trim_end_matches('.');
    format!("{short}Z")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_as_go_writes_them() {
        let at = |nanoseconds| time(DateTime::from_timestamp(1_700_000_000, nanoseconds).unwrap());
        assert_eq!(at(123_456_789), "2023-11-14T22:13:20.123456789Z");
        assert_eq!(at(120_000_000), "2023-11-14T22:13:20.12Z");
        assert_eq!(at(0), "2023-11-14T22:13:20Z");
    }
}
