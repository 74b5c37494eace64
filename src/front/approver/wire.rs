//! What server and approver say to each other: one JSON object a line, both ends of the same version.
//!
//! A line may hold a value or a token that somebody typed, so every buffer that a line is made or read in here is
//! wiped.

use std::{fmt, io};

use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt};
use zeroize::{Zeroize, Zeroizing};

use crate::config::DangerousPatterns;

/// Longest line, in bytes: a request's arguments, or a value in base64, and room for the rest.
pub const MAX_LINE: usize = (1 << 20) / 3 * 4 + (64 << 10);

/// Who the server is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Hello {
    /// Version of the program.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Whom its calls act for.
    pub subject: String,
    /// Its Vault.
    pub address: String,
    /// Its namespace.
    pub namespace: Option<String>,
}

/// A question.
#[derive(Serialize, Deserialize)]
pub struct Ask {
    /// Its ticket.
    pub ticket: String,
    /// What to show; already safe for a terminal.
    pub text: String,
    /// Id of the operation.
    pub op: String,
    /// What it touches.
    pub target: String,
    /// Whom it acts for.
    pub subject: String,
    /// Seconds until it runs out.
    pub seconds: u64,
    /// The arguments, for an approver that carries the call out itself.
    pub arguments: Option<Value>,
    /// A value that is to be typed with the yes.
    pub wanted: Option<Wanted>,
}

/// A value that a question asks for.
#[derive(Serialize, Deserialize)]
pub struct Wanted {
    /// The key that it is for.
    pub key: String,
    /// `DANGEROUS_PATTERNS=block` at the server.
    pub block: bool,
}

impl Wanted {
    /// What the server does about patterns that a shell interprets.
    #[must_use]
    pub fn dangerous(&self) -> DangerousPatterns {
        if self.block { DangerousPatterns::Block } else { DangerousPatterns::Warn }
    }
}

/// What was typed, on its way. In base64: a JSON text without escapes is read without a copy that nobody wipes.
pub struct Typed(pub Zeroizing<String>);

impl Serialize for Typed {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&Zeroizing::new(STANDARD.encode(self.0.as_bytes())))
    }
}

impl<'de> Deserialize<'de> for Typed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Typed;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("base64")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Typed, E> {
                // Room for all of it at once: a vector that grows leaves copies behind.
                let mut bytes = Zeroizing::new(Vec::with_capacity(text.len()));
                STANDARD.decode_vec(text, &mut bytes).map_err(|_| E::custom("no base64"))?;
                let typed = std::str::from_utf8(&bytes).map_err(|_| E::custom("no text"))?;
                Ok(Typed(Zeroizing::new(typed.to_owned())))
            }
        }
        deserializer.deserialize_str(Text)
    }
}

/// From the server.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToApprover {
    /// First line.
    Hello(Hello),
    /// Attached: questions come here now.
    Attached,
    /// Not attached.
    Refused {
        /// Why.
        why: String,
    },
    /// A question.
    Ask(Ask),
    /// The question is no longer open.
    Withdraw {
        /// Its ticket.
        ticket: String,
    },
    /// Recorded: carry it out now.
    Go {
        /// Its ticket.
        ticket: String,
    },
    /// Something the human should know.
    Notice {
        /// The text.
        text: String,
    },
}

/// What a human typed.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// `yes`.
    Yes {
        /// The approver carries it out with its own login.
        execute: bool,
    },
    /// `no`.
    No,
    /// Anything else.
    Other,
}

/// From the approver.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FromApprover {
    /// Wants the questions.
    Attach {
        /// It has its own Vault login.
        login: bool,
    },
    /// Hands a new token over to the server, and goes.
    Login {
        /// The token.
        token: String,
    },
    /// An answer.
    Answer {
        /// Ticket of the question.
        ticket: String,
        /// What was typed.
        answer: Answer,
        /// The value that was typed with a yes to a question that wants one.
        value: Option<Typed>,
    },
    /// Carried out.
    Done {
        /// Ticket of the question.
        ticket: String,
        /// The operation's output.
        output: Value,
    },
    /// Could not be carried out.
    Failed {
        /// Ticket of the question.
        ticket: String,
        /// Stable code.
        code: String,
        /// Fault and remedy.
        text: String,
    },
}

/// A message as its line.
#[must_use]
pub fn line<T: Serialize>(message: &T) -> Zeroizing<Vec<u8>> {
    let mut line = Wiped::default();
    // These types always serialize; an empty line would be ignored by the other end.
    let _ = serde_json::to_writer(&mut line, message);
    let _ = io::Write::write_all(&mut line, b"\n");
    line.0
}

/// A buffer that wipes what it leaves behind when it grows.
#[derive(Default)]
struct Wiped(Zeroizing<Vec<u8>>);

impl Wiped {
    fn make_room(&mut self, more: usize) {
        let wanted = self.0.len() + more;
        if wanted > self.0.capacity() {
            let mut larger = Zeroizing::new(Vec::with_capacity(wanted.next_power_of_two().max(1024)));
            larger.extend_from_slice(&self.0);
            self.0 = larger;
        }
    }
}

impl io::Write for Wiped {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.make_room(bytes.len());
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Lines as they come in.
pub struct Lines<R> {
    read: R,
    held: Wiped,
}

impl<R: AsyncRead + Unpin> Lines<R> {
    /// Reads from here.
    pub fn new(read: R) -> Self {
        Self { read, held: Wiped::default() }
    }

    /// The next line, without its end; nothing at the end of input, or when a line is too long. Safe to drop at any
    /// await: what was read is kept.
    pub async fn next(&mut self) -> Option<Zeroizing<Vec<u8>>> {
        let mut looked_at = 0;
        loop {
            let held = &mut self.held.0;
            if let Some(end) = held.iter().skip(looked_at).position(|byte| *byte == b'\n') {
                let end = looked_at + end;
                let line = Zeroizing::new(held.get(..end)?.to_vec());
                let rest = held.len() - (end + 1);
                held.copy_within(end + 1.., 0);
                held.get_mut(rest..)?.zeroize();
                held.truncate(rest);
                return Some(line);
            }
            looked_at = held.len();
            if looked_at > MAX_LINE {
                return None;
            }
            self.held.make_room(4096);
            // Takes what there is room for: nothing grows on the way.
            match self.read.read_buf(&mut *self.held.0).await {
                Ok(1..) => {}
                Ok(0) | Err(_) => return None,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn lines_come_as_they_were_whatever_pieces_they_arrive_in() {
        let long = "x".repeat(100_000);
        let text = format!("a\n\n{long}\nb\nrest");
        let (mut ours, theirs) = tokio::io::duplex(17);
        tokio::spawn(async move {
            for piece in text.as_bytes().chunks(13) {
                tokio::io::AsyncWriteExt::write_all(&mut ours, piece).await.unwrap();
            }
        });
        let mut lines = Lines::new(theirs);
        for wanted in ["a", "", &long, "b"] {
            assert_eq!(lines.next().await.unwrap().as_slice(), wanted.as_bytes());
        }
        assert!(lines.next().await.is_none());
        assert!(Lines::new(tokio::io::repeat(b'x')).next().await.is_none());
    }

    #[test]
    fn a_value_comes_across_to_the_letter() {
        for text in ["", "x", "Ünï 日本 🗝 \" \\ \u{202e}", &"y".repeat(1 << 20)] {
            let answer = FromApprover::Answer {
                ticket: "t".into(),
                answer: Answer::Yes { execute: false },
                value: Some(Typed(Zeroizing::new(text.to_owned()))),
            };
            let line = line(&answer);
            assert!(line.len() <= MAX_LINE);
            let back = serde_json::from_slice(line.strip_suffix(b"\n").unwrap()).unwrap();
            let FromApprover::Answer { value: Some(Typed(back)), .. } = back else { panic!("no value") };
            assert_eq!(*back, text);
        }
    }
}
