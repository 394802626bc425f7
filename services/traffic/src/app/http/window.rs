//! Deflated data (RFC 1951, 1950) decoded bit by bit, with the history that it refers to.
//!
//! The buffer does not wrap: so a reference to before the beginning is the fault that it is, which
//! tells data of another kind within a few bytes.

use miniz_oxide::inflate::TINFLStatus;
use miniz_oxide::inflate::core::inflate_flags::{
    TINFL_FLAG_COMPUTE_ADLER32, TINFL_FLAG_HAS_MORE_INPUT, TINFL_FLAG_PARSE_ZLIB_HEADER,
    TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF,
};
use miniz_oxide::inflate::core::{DecompressorOxide, decompress};

/// How far back data refers at most.
const HISTORY_BYTES: usize = 32_768;
/// Most that one step yields.
const STEP_BYTES: usize = 8_192;

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// All was taken.
    Hungry,
    /// There is more.
    Full,
    /// The data ends here.
    Whole,
    /// It is no such data.
    Wrong,
}

/// A decoder.
#[derive(Default)]
pub(super) struct Window {
    core: DecompressorOxide,
    buffer: Vec<u8>,
    at: usize,
}

impl Window {
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.buffer.capacity()
    }

    /// Decodes some of `input`: how much of it, what came out, how it ended.
    pub(super) fn step(&mut self, input: &[u8], is_zlib: bool) -> (usize, &[u8], Ended) {
        if self.at == self.buffer.len() {
            if self.at < HISTORY_BYTES + STEP_BYTES {
                self.buffer.reserve_exact(STEP_BYTES);
                self.buffer.resize(self.at + STEP_BYTES, 0);
            } else {
                self.buffer.copy_within(self.at - HISTORY_BYTES.., 0);
                self.at = HISTORY_BYTES;
            }
        }
        let mut flags = TINFL_FLAG_HAS_MORE_INPUT | TINFL_FLAG_USING_NON_WRAPPING_OUTPUT_BUF;
        if is_zlib {
            flags |= TINFL_FLAG_PARSE_ZLIB_HEADER | TINFL_FLAG_COMPUTE_ADLER32;
        }
        let from = self.at;
        let (status, used, made) = decompress(&mut self.core, input, &mut self.buffer, from, flags);
        self.at += made;
        let ended = match status {
            TINFLStatus::NeedsMoreInput => Ended::Hungry,
            TINFLStatus::HasMoreOutput => Ended::Full,
            TINFLStatus::Done => Ended::Whole,
            _ => Ended::Wrong,
        };
        (used, self.buffer.get(from..self.at).unwrap_or_default(), ended)
    }
}

#[cfg(test)]
mod tests {
    use super::{Ended, Window};

    fn decode(input: &[u8], is_zlib: bool, piece: usize) -> (Vec<u8>, Ended) {
        let mut window = Window::default();
        let (mut out, mut rest, mut last) = (Vec::new(), input, Ended::Hungry);
        while last == Ended::Full || last == Ended::Hungry && !rest.is_empty() {
            let now = rest.get(..piece.min(rest.len())).unwrap();
            let (used, made, ended) = window.step(now, is_zlib);
            out.extend_from_slice(made);
            (rest, last) = (&rest[used..], ended);
            assert!(window.held_bytes() < 64 << 10);
        }
        (out, last)
    }

    #[test]
    fn long_data_comes_back_in_any_pieces() {
        let text: Vec<u8> =
            (0..200_000_u32).map(|number| number.wrapping_mul(number).to_be_bytes()[1]).collect();
        for level in [0, 1, 6] {
            for piece in [1, 100, 70_000] {
                let raw = miniz_oxide::deflate::compress_to_vec(&text, level);
                assert_eq!(decode(&raw, false, piece), (text.clone(), Ended::Whole));
                let zlib = miniz_oxide::deflate::compress_to_vec_zlib(&text, level);
                assert_eq!(decode(&zlib, true, piece), (text.clone(), Ended::Whole));
            }
        }
    }

    #[test]
    fn what_refers_to_before_the_beginning_is_wrong() {
        // A fixed block: the letter `a`, then three bytes from two back.
        assert_eq!(decode(&[0x4b, 0x04, 0x42, 0x00], false, 9).1, Ended::Wrong);
    }
}
