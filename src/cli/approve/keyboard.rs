//! The keyboard of an approver: lines as they are typed, and values that are not shown. It is read past the standard
//! library's buffer, which would keep a value; whatever holds one here is wiped.

use std::{
    io::{Stdin, stdin},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    termios::{
        LocalModes, OptionalActions, QueueSelector, SpecialCodeIndex, Termios, tcflush, tcgetattr, tcsetattr,
    },
};
use zeroize::{Zeroize, Zeroizing};

use crate::broker::MAX_REQUEST;

/// What more comes this soon after the end of a line was pasted, not typed.
const PASTED: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// What came from the keyboard, and when it was read.
pub(super) enum Typed {
    /// A line, without its end.
    Line(String, Instant),
    /// A value, typed unseen.
    Value(Result<Zeroizing<String>, NoValue>, Instant),
    /// The end of input, or Ctrl-C where no value is to see it.
    End,
}

/// Why a value is none, whatever stands in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NoValue {
    /// More than one line came at once.
    Lines,
    /// Longer than any value may be.
    TooLong,
    /// Not UTF-8.
    NoText,
}

impl NoValue {
    /// What the person is told.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Lines => "That was more than one line. A value is one line of text.",
            Self::TooLong => "That is longer than a value may be. Store it elsewhere.",
            Self::NoText => "That is no UTF-8 text. Type the value as text.",
        }
    }
}

/// The keyboard. What was typed before a question came must not answer it, whether the terminal still holds
/// it or this program has read it already; the lock makes the two the only cases.
#[derive(Default)]
pub(super) struct Keyboard(Mutex<State>);

#[derive(Default)]
struct State {
    /// The beginning of a line that has not ended.
    line: Vec<u8>,
    hidden: Option<Hidden>,
}

impl State {
    /// What is typed is shown again, and what waits in the terminal is thrown away.
    fn show(&mut self) {
        if let Some(hidden) = self.hidden.take() {
            // A terminal that is gone shows nothing anyway.
            let _ = tcsetattr(stdin(), OptionalActions::Flush, &hidden.before);
        }
    }
}

/// A value is being typed.
struct Hidden {
    before: Termios,
    /// With room for the longest value from the start: a vector that grows leaves copies behind.
    text: Zeroizing<Vec<u8>>,
}

impl Hidden {
    /// One byte more. True at the end of the line; nothing at the end of input.
    fn take(&mut self, byte: u8) -> Option<bool> {
        match byte {
            b'\n' | b'\r' => return Some(true),
            // Ctrl-C, and Ctrl-D at the beginning.
            0x03 => return None,
            0x04 if self.text.is_empty() => return None,
            // Backspace takes a whole character.
            0x08 | 0x7f => while self.text.pop().is_some_and(|last| last & 0xc0 == 0x80) {},
            // Ctrl-U
            0x15 => self.text.zeroize(),
            _ if self.text.len() <= MAX_REQUEST => self.text.push(byte),
            // Too long already.
            _ => {}
        }
        Some(false)
    }

    fn finish(self) -> Result<Zeroizing<String>, NoValue> {
        if self.text.len() > MAX_REQUEST {
            return Err(NoValue::TooLong);
        }
        let text = std::str::from_utf8(&self.text).map_err(|_| NoValue::NoText)?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

impl Keyboard {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Forgets what was typed so far. What is read from now on carries a later moment than the one given.
    pub(super) fn start_afresh(&self) -> Instant {
        let mut state = self.lock();
        state.line.clear();
        let _ = tcflush(stdin(), QueueSelector::IFlush);
        Instant::now()
    }

    /// Takes the next line as a value, which is not shown. Nothing where the terminal cannot hide it.
    pub(super) fn hide(&self) -> Option<Instant> {
        let mut state = self.lock();
        state.show();
        let before = tcgetattr(stdin()).ok()?;
        let mut modes = before.clone();
        // Byte by byte: a terminal that collects lines cuts them at 4096 bytes. Ctrl-C comes as a byte, because a
        // program that it ends would leave a terminal behind that shows nothing.
        modes.local_modes -= LocalModes::ECHO | LocalModes::ECHONL | LocalModes::ICANON | LocalModes::ISIG;
        modes.special_codes[SpecialCodeIndex::VMIN] = 1;
        modes.special_codes[SpecialCodeIndex::VTIME] = 0;
        tcsetattr(stdin(), OptionalActions::Flush, &modes).ok()?;
        state.line.clear();
        state.hidden = Some(Hidden { before, text: Zeroizing::new(Vec::with_capacity(MAX_REQUEST + 1)) });
        Some(Instant::now())
    }

    /// No value is wanted any more.
    pub(super) fn show(&self) {
        self.lock().show();
    }

    /// Reads for ever; gives what it read to `hear` until that says false.
    pub(super) fn read(&self, mut hear: impl FnMut(Typed) -> bool) {
        let stdin = stdin();
        loop {
            if !ready(&stdin, None) {
                continue;
            }
            let typed = {
                let mut state = self.lock();
                if !ready(&stdin, Some(&Timespec::default())) {
                    continue;
                }
                state.read(&stdin)
            };
            let Some(typed) = typed else { continue };
            let last = matches!(typed, Typed::End);
            if !hear(typed) || last {
                return;
            }
        }
    }
}

impl State {
    fn read(&mut self, stdin: &Stdin) -> Option<Typed> {
        let mut piece = Zeroizing::new([0u8; 4096]);
        let count = match rustix::io::read(stdin, &mut piece[..]) {
            Ok(0) => return Some(self.end()),
            Ok(count) => count,
            Err(rustix::io::Errno::INTR | rustix::io::Errno::AGAIN) => return None,
            Err(_) => return Some(self.end()),
        };
        let piece = piece.get(..count)?;
        let Some(hidden) = &mut self.hidden else {
            self.line.extend_from_slice(piece);
            self.line.pop_if(|last| *last == b'\n')?;
            let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
            return Some(Typed::Line(line, Instant::now()));
        };
        for (at, byte) in piece.iter().enumerate() {
            match hidden.take(*byte) {
                Some(false) => {}
                None => return Some(self.end()),
                Some(true) => {
                    let more = at + 1 < count || ready(stdin, Some(&PASTED));
                    let hidden = self.hidden.take()?;
                    let _ = tcsetattr(stdin, OptionalActions::Flush, &hidden.before);
                    let value = if more { Err(NoValue::Lines) } else { hidden.finish() };
                    return Some(Typed::Value(value, Instant::now()));
                }
            }
        }
        None
    }

    fn end(&mut self) -> Typed {
        self.show();
        Typed::End
    }
}

/// True when there is something to read: in a terminal that collects lines, a whole one.
fn ready(stdin: &Stdin, timeout: Option<&Timespec>) -> bool {
    let mut fds = [PollFd::new(stdin, PollFlags::IN)];
    match poll(&mut fds, timeout) {
        Ok(count) => count > 0,
        // What cannot be waited for is read, and its own fault is seen there.
        Err(error) => error != rustix::io::Errno::INTR,
    }
}
