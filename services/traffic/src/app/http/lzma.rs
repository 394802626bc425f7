//! LZMA (the SDK's first file format) piece by piece.
//!
//! What must never happen here: a dictionary beyond the limit, tables that a header of five bytes asks
//! for and nothing earned. What is decoded comes out when the dictionary is full or at the end, as
//! libhtp has it.

use super::window::Ended;
use lzma_rs::decompress::{Options, Stream};
use std::io::{Error, Write};

/// Bits of context of a literal that are followed. The format has up to 12, with tables of 6 MiB;
/// encoders stop at 4.
const CONTEXT_BITS_MAX: u8 = 8;
/// Bytes before the first that are data: such a header is a piece of its own.
const HEADER_BYTES: usize = 18;

/// What came out and was not taken yet.
struct Sink {
    bytes: Vec<u8>,
    bytes_max: usize,
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        let taken = bytes.len().min(self.bytes_max.saturating_sub(self.bytes.len()));
        self.bytes.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        Ok(taken)
    }

    fn flush(&mut self) -> Result<(), Error> {
        Ok(())
    }
}

/// A decoder.
pub(super) struct Lzma {
    /// `None` before the first byte.
    stream: Option<Stream<Sink>>,
    out: Vec<u8>,
    bytes_max: usize,
    bytes_in: usize,
    /// Bits of context that its header asks for.
    context_bits: u8,
    /// Its tables would be too large: as if its first byte of data were a fault.
    is_refused: bool,
}

impl Lzma {
    pub(super) fn new(bytes_max: u32) -> Self {
        let bytes_max = usize::try_from(bytes_max).unwrap_or(usize::MAX);
        Self {
            stream: None,
            out: Vec::new(),
            bytes_max,
            bytes_in: 0,
            context_bits: 0,
            is_refused: false,
        }
    }

    /// Room that it takes: how full the dictionary is can't be seen, so it is counted as the most that
    /// what came may have made.
    pub(super) fn held_bytes(&self) -> usize {
        /// A match of 273 bytes takes 14 decisions of .02 bits at least.
        const RATIO_MAX: usize = 8192;
        let data = self.bytes_in.saturating_sub(HEADER_BYTES);
        let dictionary = data.saturating_mul(RATIO_MAX).min(self.bytes_max);
        let tables = if self.stream.is_some() { 0x300 << (self.context_bits + 1) } else { 0 };
        size_of::<Self>() + self.out.capacity() + dictionary + tables
    }

    /// Takes some of `input`, which is not empty: how much of it, what came out, how it ended. The
    /// header is a step of its own.
    pub(super) fn step(&mut self, input: &[u8]) -> (usize, &[u8], Ended) {
        self.out.clear();
        if self.bytes_in == 0 {
            let first = input.first().copied().unwrap_or_default();
            self.context_bits = first % 9 + first / 9 % 5;
            self.is_refused = first < 225 && self.context_bits > CONTEXT_BITS_MAX;
        }
        if self.is_refused {
            let used = input.len().min(HEADER_BYTES.saturating_sub(self.bytes_in));
            self.bytes_in += used;
            let ended = match used {
                0 => Ended::Wrong,
                _ if used == input.len() => Ended::Hungry,
                _ => Ended::Full,
            };
            return (used, &[], ended);
        }
        if self.stream.is_none() {
            let options = Options { memlimit: Some(self.bytes_max), ..Options::default() };
            let sink = Sink { bytes: Vec::new(), bytes_max: self.bytes_max };
            self.stream = Some(Stream::new_with_options(&options, sink));
        }
        let Some(stream) = &mut self.stream else { return (0, &[], Ended::Wrong) };
        let Ok(used) = stream.write(input) else { return (0, &[], Ended::Wrong) };
        self.bytes_in += used;
        if let Some(sink) = stream.get_output_mut() {
            self.out = std::mem::take(&mut sink.bytes);
        }
        let ended = if used == 0 || used == input.len() { Ended::Hungry } else { Ended::Full };
        (if used == 0 { input.len() } else { used }, &self.out, ended)
    }

    /// The body is at its end: what is left in the dictionary, or nothing if it is not at its own.
    pub(super) fn end(self) -> Vec<u8> {
        let sink = self.stream.and_then(|stream| stream.finish().ok());
        sink.map(|sink| sink.bytes).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::{Ended, Lzma};

    /// "hello hello hello", size not told, with an end marker.
    const HELLO: &[u8] = b"]\x00\x00\x80\x00\xff\xff\xff\xff\xff\xff\xff\xff\x004\x19I\xee\x8d\xe9O\x7f5\xc5\xa3\xff\xffx\xa4\x00\x00";

    fn decode(input: &[u8], piece: usize) -> (Vec<u8>, Ended) {
        let mut decoder = Lzma::new(1 << 20);
        let (mut out, mut rest, mut last) = (Vec::new(), input, Ended::Hungry);
        while last != Ended::Wrong && !rest.is_empty() {
            let now = rest.get(..piece.min(rest.len())).unwrap();
            let (used, made, ended) = decoder.step(now);
            out.extend_from_slice(made);
            (rest, last) = (&rest[used..], ended);
        }
        out.extend(decoder.end());
        (out, last)
    }

    #[test]
    fn in_any_pieces_at_the_end() {
        for piece in 1..=HELLO.len() {
            assert_eq!(decode(HELLO, piece).0, b"hello hello hello", "{piece}");
        }
        assert_eq!(decode(&HELLO[..HELLO.len() - 3], 9).0, b"");
    }

    #[test]
    fn large_tables_are_not_made() {
        let mut bytes = HELLO.to_vec();
        // lc 8, lp 4.
        bytes[0] = 44;
        assert_eq!(decode(&bytes, bytes.len()).1, Ended::Wrong);
    }

    #[test]
    fn more_than_the_limit_is_a_fault() {
        let mut decoder = Lzma::new(8);
        let (header, data) = HELLO.split_at(18);
        assert_eq!(decoder.step(header).2, Ended::Hungry);
        assert_eq!(decoder.step(data).2, Ended::Wrong);
    }
}
