//! Keys out of the bytes of a terminal line.
//!
//! Understands what VT100, xterm and the Linux console send. Holds at most [`SEQUENCE_BYTES_MAX`]
//! bytes of an escape sequence; what it does not know it drops. It never asks the terminal
//! anything, so a sequence that looks like an answer is dropped too.

/// Longest escape sequence that is collected; longer ones are dropped byte by byte.
pub const SEQUENCE_BYTES_MAX: usize = 8;
/// How long a lone ESC waits for the rest of a sequence. A terminal sends the rest at line speed
/// (1 ms at 9600 baud); 100 ms leaves room for a network in between and is not felt by a person.
pub const ESCAPE_WAIT_MS: u64 = 100;

/// One key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Key {
    /// A printable ASCII character.
    Char(char),
    /// Return.
    Enter,
    /// Escape alone.
    Esc,
    /// Tab.
    Tab,
    /// Shift and Tab.
    BackTab,
    /// Backspace or Delete.
    Backspace,
    /// Arrow.
    Up,
    /// Arrow.
    Down,
    /// Arrow.
    Left,
    /// Arrow.
    Right,
    /// Page up.
    PageUp,
    /// Page down.
    PageDown,
    /// Home.
    Home,
    /// End.
    End,
    /// Control and a letter, lower case.
    Ctrl(char),
}

impl Key {
    /// How the key is written in help.
    #[must_use]
    pub fn name(self) -> String {
        match self {
            Self::Char(' ') => "Space".into(),
            Self::Char(char) => char.into(),
            Self::Ctrl(char) => format!("Ctrl-{}", char.to_ascii_uppercase()),
            Self::BackTab => "Shift-Tab".into(),
            Self::PageUp => "PgUp".into(),
            Self::PageDown => "PgDn".into(),
            Self::Enter
            | Self::Esc
            | Self::Tab
            | Self::Backspace
            | Self::Up
            | Self::Down
            | Self::Left
            | Self::Right
            | Self::Home
            | Self::End => format!("{self:?}"),
        }
    }
}

/// Bytes in, keys out.
#[derive(Debug, Default)]
pub struct Decoder {
    sequence: Vec<u8>,
    since_ms: u64,
    after_return: bool,
}

impl Decoder {
    /// Nothing collected.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One byte; the keys it completes (a lone ESC and its follower can be two).
    pub fn feed(&mut self, now_ms: u64, byte: u8, out: &mut Vec<Key>) {
        if self.sequence.is_empty() {
            self.plain(now_ms, byte, out);
            return;
        }
        if byte == 0x1b {
            // A new sequence begins: what was collected is over.
            self.flush(out);
            self.plain(now_ms, byte, out);
            return;
        }
        self.sequence.push(byte);
        match self.sequence.as_slice() {
            [0x1b, b'[' | b'O'] => {}
            [0x1b, b'[' | b'O', rest @ ..] => {
                let ends = (0x40..=0x7e).contains(&byte);
                if ends {
                    out.extend(sequence_key(rest));
                }
                if ends || self.sequence.len() >= SEQUENCE_BYTES_MAX {
                    self.sequence.clear();
                }
            }
            _ => {
                // ESC and a character that starts no sequence: two keys.
                self.sequence.clear();
                out.push(Key::Esc);
                self.plain(now_ms, byte, out);
            }
        }
    }

    /// Time passed: a lone ESC becomes a key when nothing followed it.
    pub fn tick(&mut self, now_ms: u64, out: &mut Vec<Key>) {
        if !self.sequence.is_empty() && now_ms.saturating_sub(self.since_ms) >= ESCAPE_WAIT_MS {
            self.flush(out);
        }
    }

    /// Whether a sequence is being collected, so that the caller wakes up for [`Self::tick`].
    #[must_use]
    pub fn pending(&self) -> bool {
        !self.sequence.is_empty()
    }

    fn flush(&mut self, out: &mut Vec<Key>) {
        if self.sequence == [0x1b] {
            out.push(Key::Esc);
        }
        self.sequence.clear();
    }

    fn plain(&mut self, now_ms: u64, byte: u8, out: &mut Vec<Key>) {
        // Some terminals send CR LF for one press of Return.
        let second_half = byte == b'\n' && self.after_return;
        self.after_return = byte == b'\r';
        match byte {
            0x1b => {
                self.sequence.push(byte);
                self.since_ms = now_ms;
            }
            b'\r' => out.push(Key::Enter),
            b'\n' if second_half => {}
            b'\n' => out.push(Key::Enter),
            b'\t' => out.push(Key::Tab),
            0x08 | 0x7f => out.push(Key::Backspace),
            0x01..=0x1a => out.push(Key::Ctrl(char::from(byte + b'a' - 1))),
            0x20..=0x7e => out.push(Key::Char(char::from(byte))),
            _ => {}
        }
    }
}

fn sequence_key(rest: &[u8]) -> Option<Key> {
    Some(match rest {
        b"A" => Key::Up,
        b"B" => Key::Down,
        b"C" => Key::Right,
        b"D" => Key::Left,
        b"Z" => Key::BackTab,
        b"H" | b"1~" | b"7~" => Key::Home,
        b"F" | b"4~" | b"8~" => Key::End,
        b"5~" => Key::PageUp,
        b"6~" => Key::PageDown,
        b"3~" => Key::Backspace,
        b"M" => Key::Enter,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys(bytes: &[u8]) -> Vec<Key> {
        let mut decoder = Decoder::new();
        let mut out = Vec::new();
        for byte in bytes {
            decoder.feed(0, *byte, &mut out);
        }
        decoder.tick(ESCAPE_WAIT_MS, &mut out);
        out
    }

    #[test]
    fn bytes_of_common_terminals() {
        let check = |bytes: &[u8], expect: &[Key]| assert_eq!(keys(bytes), expect, "{bytes:02x?}");
        check(b"1j", &[Key::Char('1'), Key::Char('j')]);
        check(b"\x1b[A\x1bOB", &[Key::Up, Key::Down]);
        check(b"\x1b[5~\x1b[Z", &[Key::PageUp, Key::BackTab]);
        check(b"\r\n\n", &[Key::Enter, Key::Enter]);
        check(b"\x0c\x7f\t", &[Key::Ctrl('l'), Key::Backspace, Key::Tab]);
        check(b"\x1b", &[Key::Esc]);
        check(b"\x1b\x1b[A", &[Key::Esc, Key::Up]);
        check(b"\x1bq", &[Key::Esc, Key::Char('q')]);
    }

    #[test]
    fn answers_and_garbage_are_no_keys() {
        let check = |bytes: &[u8]| assert_eq!(keys(bytes), [], "{bytes:02x?}");
        check(b"\x1b[24;80R");
        check(b"\x1b[?6c");
        check(&[0x80, 0xff, 0x00]);
    }

    #[test]
    fn a_lone_escape_waits() {
        let mut decoder = Decoder::new();
        let mut out = Vec::new();
        decoder.feed(1000, 0x1b, &mut out);
        decoder.tick(1000 + ESCAPE_WAIT_MS - 1, &mut out);
        assert!(out.is_empty() && decoder.pending());
        decoder.tick(1000 + ESCAPE_WAIT_MS, &mut out);
        assert_eq!(out, [Key::Esc]);
    }

    #[test]
    fn what_is_held_is_bounded() {
        let mut decoder = Decoder::new();
        let mut out = Vec::new();
        decoder.feed(0, 0x1b, &mut out);
        decoder.feed(0, b'[', &mut out);
        for _ in 0..10_000 {
            decoder.feed(0, b'1', &mut out);
            assert!(decoder.sequence.len() <= SEQUENCE_BYTES_MAX);
        }
    }
}
