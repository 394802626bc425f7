//! Frames: the eight bytes in front of every message.
//!
//! ```text
//! 0      2       3       4                8
//! | "HP" | ver=1 | flags | length, u32 LE | length bytes of CBOR |
//! ```
//!
//! A frame of another version, with a flag set or longer than [`FRAME_BYTES_MAX`] is an error; the
//! connection that sent it is closed, because nothing after it can be trusted to be in step.

use minicbor::{Decode, Encode};
use thiserror::Error;

/// Version of every message in this crate.
pub const VERSION: u8 = 1;
/// Bytes in front of a body.
pub const HEADER_BYTES: usize = 8;
/// Largest body. A block with the largest payload fits twice.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;

const MAGIC: [u8; 2] = *b"HP";

/// Why bytes from a peer are no frame, or a value can't be framed. Every one closes the connection.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum FrameError {
    /// The first bytes are not a frame's.
    #[error(
        "HP-WR-001 frame: starts with {0:02x?}, expected 48, 50; is the peer a HookProbe service?"
    )]
    Magic([u8; 2]),
    /// The peer speaks another version.
    #[error("HP-WR-002 frame: version {0}, this side speaks {VERSION}; update the older side")]
    Version(u8),
    /// A reserved bit is set.
    #[error("HP-WR-003 frame: reserved flags {0:#04x} are set")]
    Flags(u8),
    /// Longer than allowed.
    #[error("HP-WR-004 frame: {got} bytes, at most {FRAME_BYTES_MAX} are allowed")]
    TooLong {
        /// Length that the header (or the value) claims.
        got: usize,
    },
    /// The body is not the expected message.
    #[error("HP-WR-005 frame: body of {bytes} bytes is not the expected message: {why}")]
    Body {
        /// Length of the body.
        bytes: usize,
        /// What the decoder said.
        why: String,
    },
    /// The body has bytes after the message.
    #[error("HP-WR-006 frame: {extra} bytes after the message")]
    Trailing {
        /// How many.
        extra: usize,
    },
}

/// Appends one frame with `message` to `out`. On error `out` is as before.
///
/// # Errors
/// [`FrameError::TooLong`] when the message does not fit.
pub fn encode<M: Encode<()>>(message: &M, out: &mut Vec<u8>) -> Result<(), FrameError> {
    let start = out.len();
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&[VERSION, 0, 0, 0, 0, 0]);
    let mut body = Vec::new();
    // Writing into a Vec can't fail; a failing Encode impl would be our own bug and is reported.
    if let Err(error) = minicbor::encode(message, &mut body) {
        out.truncate(start);
        return Err(FrameError::Body { bytes: body.len(), why: error.to_string() });
    }
    if body.len() > FRAME_BYTES_MAX {
        out.truncate(start);
        return Err(FrameError::TooLong { got: body.len() });
    }
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX).to_le_bytes();
    if let Some(slot) = out.get_mut(start + 4..start + HEADER_BYTES) {
        slot.copy_from_slice(&length);
    }
    out.extend_from_slice(&body);
    Ok(())
}

/// One frame as a fresh vector.
///
/// # Errors
/// As [`encode`].
pub fn to_vec<M: Encode<()>>(message: &M) -> Result<Vec<u8>, FrameError> {
    let mut out = Vec::new();
    encode(message, &mut out)?;
    Ok(out)
}

/// Length of the body that follows `header`, at most [`FRAME_BYTES_MAX`]. For readers that must
/// not use [`Decoder`], because what they read has to be wiped.
///
/// # Errors
/// [`FrameError::Magic`], [`FrameError::Version`], [`FrameError::Flags`], [`FrameError::TooLong`].
pub fn body_length(header: &[u8; HEADER_BYTES]) -> Result<usize, FrameError> {
    let [m0, m1, version, flags, l0, l1, l2, l3] = *header;
    if [m0, m1] != MAGIC {
        return Err(FrameError::Magic([m0, m1]));
    }
    if version != VERSION {
        return Err(FrameError::Version(version));
    }
    if flags != 0 {
        return Err(FrameError::Flags(flags));
    }
    let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
    if length > FRAME_BYTES_MAX {
        return Err(FrameError::TooLong { got: length });
    }
    Ok(length)
}

/// Decodes a whole body as `M`; bytes left over are an error.
///
/// # Errors
/// [`FrameError::Body`], [`FrameError::Trailing`].
pub fn decode_body<'b, M: Decode<'b, ()>>(body: &'b [u8]) -> Result<M, FrameError> {
    let mut decoder = minicbor::Decoder::new(body);
    let message = decoder
        .decode()
        .map_err(|error| FrameError::Body { bytes: body.len(), why: error.to_string() })?;
    match body.len().saturating_sub(decoder.position()) {
        0 => Ok(message),
        extra => Err(FrameError::Trailing { extra }),
    }
}

/// Cuts a byte stream into frames. Holds at most one frame and what was fed last.
///
/// After the first error every further call returns that it is closed by returning the same kind
/// of error again: a stream that lost step is never resynchronised.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    consumed: usize,
}

impl Decoder {
    /// An empty decoder.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds bytes as they came from the socket. Feed at most what [`Self::room`] allows for a hard
    /// bound of one frame; feeding more only holds more.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.consumed > 0 {
            self.buffer.drain(..self.consumed);
            self.consumed = 0;
        }
        self.buffer.extend_from_slice(bytes);
    }

    /// Bytes that may be fed before a whole frame must have been taken out.
    #[must_use]
    pub fn room(&self) -> usize {
        (HEADER_BYTES + FRAME_BYTES_MAX).saturating_sub(self.buffer.len() - self.consumed)
    }

    /// The next message, `None` while its frame is incomplete.
    ///
    /// # Errors
    /// Any [`FrameError`]; the connection has to be closed.
    #[expect(
        clippy::should_implement_trait,
        reason = "every frame may be another type; no iterator"
    )]
    pub fn next<M>(&mut self) -> Result<Option<M>, FrameError>
    where
        M: for<'b> Decode<'b, ()>,
    {
        let pending = self.buffer.get(self.consumed..).unwrap_or_default();
        let Some((header, rest)) = pending.split_first_chunk::<HEADER_BYTES>() else {
            return Ok(None);
        };
        let length = body_length(header)?;
        let Some(body) = rest.get(..length) else {
            return Ok(None);
        };
        let message = decode_body(body)?;
        self.consumed += HEADER_BYTES + length;
        Ok(Some(message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, PartialEq, Encode, Decode)]
    struct Ping {
        #[n(0)]
        text: String,
        #[n(1)]
        number: u64,
    }

    fn ping() -> Ping {
        Ping { text: "hello".into(), number: 7 }
    }

    #[test]
    fn golden_bytes() {
        let frame = to_vec(&ping()).unwrap();
        assert_eq!(frame, b"HP\x01\x00\x08\x00\x00\x00\x82\x65hello\x07");
    }

    #[test]
    fn byte_by_byte() {
        let frame = to_vec(&ping()).unwrap();
        let mut decoder = Decoder::new();
        for (index, byte) in frame.iter().enumerate() {
            decoder.feed(&[*byte]);
            let got: Option<Ping> = decoder.next().unwrap();
            assert_eq!(got.is_some(), index + 1 == frame.len());
        }
    }

    #[test]
    fn header_errors() {
        let cases: [(&[u8], FrameError); 4] = [
            (b"GET / HT", FrameError::Magic(*b"GE")),
            (b"HP\x02\0\0\0\0\0", FrameError::Version(2)),
            (b"HP\x01\x80\0\0\0\0", FrameError::Flags(0x80)),
            (b"HP\x01\0\xff\xff\xff\x7f", FrameError::TooLong { got: 0x7fff_ffff }),
        ];
        for (bytes, expect) in cases {
            let mut decoder = Decoder::new();
            decoder.feed(bytes);
            assert_eq!(decoder.next::<Ping>().unwrap_err(), expect);
        }
    }

    #[test]
    fn oversize_is_not_sent() {
        let big = Ping { text: "x".repeat(FRAME_BYTES_MAX), number: 0 };
        let mut out = vec![1, 2, 3];
        assert!(matches!(encode(&big, &mut out), Err(FrameError::TooLong { .. })));
        assert_eq!(out, [1, 2, 3]);
    }

    #[test]
    fn trailing_bytes() {
        let mut frame = to_vec(&ping()).unwrap();
        frame.push(0);
        frame[4] += 1;
        let mut decoder = Decoder::new();
        decoder.feed(&frame);
        assert_eq!(decoder.next::<Ping>().unwrap_err(), FrameError::Trailing { extra: 1 });
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same_messages(cuts in proptest::collection::vec(1usize..40, 1..20)) {
            let mut stream = Vec::new();
            for number in 0..10 {
                encode(&Ping { text: "n".repeat(number as usize * 3), number }, &mut stream).unwrap();
            }
            let mut decoder = Decoder::new();
            let (mut at, mut seen, mut cut) = (0, 0, cuts.iter().cycle());
            while at < stream.len() {
                let step = (*cut.next().unwrap()).min(stream.len() - at);
                decoder.feed(&stream[at..at + step]);
                at += step;
                while let Some(message) = decoder.next::<Ping>().unwrap() {
                    prop_assert_eq!(message.number, seen);
                    seen += 1;
                }
            }
            prop_assert_eq!(seen, 10);
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut decoder = Decoder::new();
            decoder.feed(&bytes);
            while let Ok(Some(_)) = decoder.next::<Ping>() {}
        }
    }
}
