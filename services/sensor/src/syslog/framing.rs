//! Messages in a stream of bytes: by their length in front or by line (RFC 6587, 3.4).
//!
//! Which of the two is seen in a message's first byte: a length starts with 1 to 9, everything else
//! is a line. Over TLS only lengths are right (RFC 5425, 4.3). Memory is bounded by one message.

use thiserror::Error;

use super::MESSAGE_BYTES_MAX;

/// Most digits of a length. 6: a megabyte, of which all but [`MESSAGE_BYTES_MAX`] is thrown away;
/// more is no length.
const LENGTH_DIGITS_MAX: usize = 6;

/// Why a stream can't be followed any further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum FramingError {
    /// Digits that no space follows.
    #[error("a message's length is malformed")]
    Length,
    /// A line where a length has to be.
    #[error("a message without its length over TLS")]
    NotCounted,
}

/// How messages are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By the first byte of each.
    Either,
    /// Always by length.
    Counted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Start,
    Length { value: usize, digits: usize },
    Counted { left: usize },
    Line,
}

/// Cuts a stream into messages.
#[derive(Debug)]
pub struct Framer {
    framing: Framing,
    state: State,
    /// Never longer than [`MESSAGE_BYTES_MAX`].
    message: Vec<u8>,
    is_cut: bool,
    cut: u64,
}

impl Framer {
    /// At the start of a stream.
    #[must_use]
    pub fn new(framing: Framing) -> Self {
        Self { framing, state: State::Start, message: Vec::new(), is_cut: false, cut: 0 }
    }

    /// Messages so far whose end was thrown away.
    #[must_use]
    pub fn cut(&self) -> u64 {
        self.cut
    }

    /// The next bytes; `each` gets each complete message.
    ///
    /// # Errors
    /// Any [`FramingError`]; the stream has to be closed then.
    pub fn feed(&mut self, bytes: &[u8], each: &mut impl FnMut(&[u8])) -> Result<(), FramingError> {
        let mut rest = bytes;
        while let Some((first, others)) = rest.split_first() {
            match self.state {
                State::Start => match first {
                    b'1'..=b'9' => {
                        let value = usize::from(first - b'0');
                        self.state = State::Length { value, digits: 1 };
                        rest = others;
                    }
                    // Ends of lines between messages.
                    b'\n' | b'\r' | b'\0' => rest = others,
                    _ if self.framing == Framing::Counted => return Err(FramingError::NotCounted),
                    _ => self.state = State::Line,
                },
                State::Length { value, .. } if *first == b' ' => {
                    self.state = State::Counted { left: value };
                    rest = others;
                }
                State::Length { value, digits } => {
                    if !first.is_ascii_digit() || digits >= LENGTH_DIGITS_MAX {
                        return Err(FramingError::Length);
                    }
                    let value = value * 10 + usize::from(first - b'0');
                    self.state = State::Length { value, digits: digits + 1 };
                    rest = others;
                }
                State::Counted { left } => {
                    let (part, others) = rest.split_at(left.min(rest.len()));
                    self.keep(part);
                    rest = others;
                    self.state = State::Counted { left: left - part.len() };
                    if left == part.len() {
                        self.end(each);
                    }
                }
                State::Line => {
                    let end = rest.iter().position(|byte| matches!(byte, b'\n' | b'\0'));
                    let (part, others) = rest.split_at(end.unwrap_or(rest.len()));
                    self.keep(part);
                    rest = others.get(1..).unwrap_or_default();
                    if end.is_some() {
                        self.end(each);
                    }
                }
            }
        }
        Ok(())
    }

    /// The stream ended: a line may lack its end, a counted message is not whole and is dropped.
    pub fn finish(&mut self, each: &mut impl FnMut(&[u8])) {
        if self.state == State::Line {
            self.end(each);
        }
        self.state = State::Start;
        self.message.clear();
    }

    fn keep(&mut self, part: &[u8]) {
        let room = MESSAGE_BYTES_MAX - self.message.len();
        self.is_cut |= part.len() > room;
        self.message.extend(part.iter().take(room));
    }

    fn end(&mut self, each: &mut impl FnMut(&[u8])) {
        self.cut += u64::from(std::mem::take(&mut self.is_cut));
        let message = self.message.strip_suffix(b"\r").unwrap_or(&self.message);
        if !message.is_empty() {
            each(message);
        }
        self.message.clear();
        self.state = State::Start;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(
        framing: Framing,
        bytes: &[u8],
        piece: usize,
    ) -> (Vec<Vec<u8>>, Result<(), FramingError>, u64) {
        let (mut out, mut framer) = (Vec::new(), Framer::new(framing));
        let mut each = |message: &[u8]| out.push(message.to_vec());
        for piece in bytes.chunks(piece) {
            if let Err(error) = framer.feed(piece, &mut each) {
                return (out, Err(error), framer.cut());
            }
        }
        framer.finish(&mut each);
        (out, Ok(()), framer.cut())
    }

    #[track_caller]
    fn check(framing: Framing, text: &str, expected: &[&str], end: Result<(), FramingError>) {
        for piece in [1, 2, 7, 1000] {
            let (found, result, _) = read(framing, text.as_bytes(), piece);
            let found: Vec<String> =
                found.iter().map(|one| String::from_utf8_lossy(one).into()).collect();
            assert_eq!(found, expected, "pieces of {piece}");
            assert_eq!(result, end);
        }
    }

    #[test]
    fn both_in_one_stream() {
        let text = "5 <1>ab<2>line\r\n\n8 <3>\nabc\0<4>last";
        check(Framing::Either, text, &["<1>ab", "<2>line", "<3>\nabc\0", "<4>last"], Ok(()));
    }

    #[test]
    fn counted_only() {
        check(Framing::Counted, "5 <1>ab5 <2>cd", &["<1>ab", "<2>cd"], Ok(()));
        check(Framing::Counted, "5 <1>ab9 <2>", &["<1>ab"], Ok(()));
        check(Framing::Counted, "<1>ab\n", &[], Err(FramingError::NotCounted));
        check(Framing::Counted, "5x<1>ab", &[], Err(FramingError::Length));
        check(Framing::Either, "1234567 x", &[], Err(FramingError::Length));
    }

    #[test]
    fn long_messages_are_cut_and_counted() {
        let line = format!("<1>{}\n<2>next\n", "x".repeat(100_000));
        let counted = format!("100003 <1>{}8 <2>next\n", "x".repeat(100_000));
        for text in [line, counted] {
            let (found, result, cut) = read(Framing::Either, text.as_bytes(), 1000);
            assert_eq!((result, cut), (Ok(()), 1));
            assert_eq!(found[0].len(), MESSAGE_BYTES_MAX);
            assert!(found[1].starts_with(b"<2>next"));
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            bytes in proptest::collection::vec(prop_oneof![Just(b'1'), Just(b' '), Just(b'\n'), Just(b'<'), any::<u8>()], 0..200),
            piece in 1_usize..20,
        ) {
            let whole = read(Framing::Either, &bytes, bytes.len().max(1));
            prop_assert_eq!(read(Framing::Either, &bytes, piece), whole);
        }

        #[test]
        fn counted_round_trip(messages in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 2..50), 0..10)) {
            // A final carriage return belongs to nobody's message.
            prop_assume!(messages.iter().all(|one| !one.ends_with(b"\r")));
            let mut stream = Vec::new();
            for message in &messages {
                stream.extend(format!("{} ", message.len()).bytes());
                stream.extend(message);
            }
            prop_assert_eq!(read(Framing::Counted, &stream, 3), (messages, Ok(()), 0));
        }
    }
}
