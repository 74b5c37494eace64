//! From the text of one message to the message: what readers could understand differently is refused first, and
//! what is no message is told with the id that it seems to have. Every transport of MCP reads through this.

use std::borrow::Cow;

use rmcp::model::{CallToolRequest, ClientJsonRpcMessage, ErrorCode, ErrorData, JsonRpcMessage, RequestId};
use serde::de::IgnoredAny;
use serde_json::Value;

use crate::front::strict_json::{self, Fault};

/// Why a text is no message.
#[derive(Debug)]
pub(in crate::front) struct Unreadable {
    /// The id it seems to have.
    pub(in crate::front) id: Option<RequestId>,
    /// The fault and the remedy.
    pub(in crate::front) error: ErrorData,
    /// Notifications and responses are never answered, not even when they are broken (JSON-RPC 2.0, 4.1). Where
    /// every text has an answer of its transport's, that one says it.
    pub(in crate::front) wants_no_answer: bool,
}

/// Reads one message.
///
/// # Errors
/// What is wrong with it, without a word of it.
pub(in crate::front) fn read(text: &[u8]) -> Result<ClientJsonRpcMessage, Unreadable> {
    let unreadable = |id, code, fault: Cow<'static, str>| Unreadable {
        id,
        error: ErrorData::new(code, fault, None),
        wants_no_answer: false,
    };
    match strict_json::check(text) {
        Ok(()) => {}
        Err(Fault::Syntax) => {
            let fault = "It is not one JSON text. Send one JSON-RPC message, in UTF-8.";
            return Err(unreadable(None, ErrorCode::PARSE_ERROR, fault.into()));
        }
        Err(Fault::Shape(fault)) => {
            let fault = format!("The message is refused: {fault}.");
            return Err(unreadable(top_level_id(text), ErrorCode::INVALID_REQUEST, fault.into()));
        }
    }
    message(text).map_err(|_| {
        let fault = if text.trim_ascii_start().first() == Some(&b'[') {
            "Batches are not part of this protocol. Send one message at a time."
        } else {
            "This is no JSON-RPC 2.0 message of MCP. Check jsonrpc, id, method and params."
        };
        Unreadable {
            wants_no_answer: wants_no_answer(text),
            ..unreadable(top_level_id(text), ErrorCode::INVALID_REQUEST, fault.into())
        }
    })
}

/// rmcp finds out what a request is by trying one kind after another; the kind that
/// nearly every message is gets tried before that.
fn message(text: &[u8]) -> serde_json::Result<ClientJsonRpcMessage> {
    match serde_json::from_slice::<JsonRpcMessage<CallToolRequest, IgnoredAny, IgnoredAny>>(text) {
        Ok(JsonRpcMessage::Request(call)) => Ok(JsonRpcMessage::request(call.request.into(), call.id)),
        _ => serde_json::from_slice(text),
    }
}

fn wants_no_answer(text: &[u8]) -> bool {
    let Ok(Value::Object(message)) = serde_json::from_slice(text) else { return false };
    if message.contains_key("method") {
        !message.contains_key("id")
    } else {
        message.contains_key("result") || message.contains_key("error")
    }
}

/// The `id` of the outermost object, found in a text that may be cut off or no JSON at all.
pub(in crate::front) fn top_level_id(text: &[u8]) -> Option<RequestId> {
    let (mut depth, mut at) = (0usize, 0usize);
    while let Some(byte) = text.get(at) {
        match byte {
            b'{' | b'[' => depth += 1,
            b'}' | b']' => depth = depth.checked_sub(1)?,
            b'"' => {
                let end = string_end(text, at)?;
                if depth == 1 && text.get(at..=end) == Some(b"\"id\"") {
                    return id_after_key(text.get(end + 1..)?);
                }
                at = end;
            }
            _ => {}
        }
        at += 1;
    }
    None
}

fn string_end(text: &[u8], start: usize) -> Option<usize> {
    let mut at = start + 1;
    loop {
        match text.get(at)? {
            b'\\' => at += 2,
            b'"' => return Some(at),
            _ => at += 1,
        }
    }
}

pub(super) fn id_after_key(rest: &[u8]) -> Option<RequestId> {
    let rest = rest.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start();
    let end = if rest.first() == Some(&b'"') {
        string_end(rest, 0)? + 1
    } else {
        let end = rest.iter().position(|byte| !byte.is_ascii_digit() && *byte != b'-')?;
        // A fraction is no id, nor is its whole part.
        rest.get(end).filter(|byte| byte.is_ascii_whitespace() || matches!(byte, b',' | b'}'))?;
        end
    };
    serde_json::from_slice(rest.get(..end.min(200))?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_of_a_message_that_is_not_read_is_found_where_it_stands() {
        let number = Some(RequestId::Number(7));
        assert_eq!(top_level_id(br#"{"jsonrpc":"2.0","id":7,"method":"x","params":{"a":"#), number);
        assert_eq!(top_level_id(br#"{"params":{"id":1,"a":"\"id\":2"},"id": 7 ,"#), number);
        assert_eq!(top_level_id(br#"{"params":{"id":1"#), None);
        assert_eq!(top_level_id(br#"{"id":1.5,"x":"#), None);
        assert_eq!(top_level_id(br#"{"id":1e5}"#), None);
    }

    #[test]
    fn what_is_no_message_is_told_apart_and_never_quoted() {
        let refused = |text: &str| {
            let unreadable = read(text.as_bytes()).unwrap_err();
            assert!(!unreadable.error.message.contains("s3cret"), "{text}");
            (unreadable.error.code.0, unreadable.wants_no_answer)
        };
        assert_eq!(refused("{\"a\":s3cret}"), (-32700, false));
        assert_eq!(refused(r#"[{"jsonrpc":"2.0","id":1,"method":"s3cret"}]"#), (-32600, false));
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":null,"method":"ping"}"#), (-32600, false));
        assert_eq!(
            refused(r#"{"jsonrpc":"1.0","id":1,"method":"ping","params":{"x":"s3cret"}}"#),
            (-32600, false)
        );
        assert_eq!(refused(r#"{"jsonrpc":"2.0","id":1,"id":2,"method":"ping"}"#), (-32600, false));
        assert_eq!(refused(r#"{"jsonrpc":"1.0","method":"notifications/x"}"#), (-32600, true));
        assert!(read(br#"{"jsonrpc":"2.0","id":1,"method":"ping"}"#).is_ok());
    }
}
