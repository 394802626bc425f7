//! Brotli (RFC 7932) piece by piece.
//!
//! What must never happen here: more held than the format's own window of 16 MiB and its tables. The
//! window is asked for at once but zeroed by the kernel page by page, so it costs what was decoded.

use super::window::Ended;
use brotli_decompressor::{
    Allocator, BrotliDecoderHasMoreOutput, BrotliDecompressStream, BrotliResult, BrotliState,
    SliceWrapper, SliceWrapperMut,
};

/// Most that one step yields.
const STEP_BYTES: usize = 8_192;
/// Longest window of the format, with what the decoder writes ahead.
const WINDOW_BYTES_MAX: usize = (1 << 24) + 1024;

/// Most that one body may bring. Beyond some 11 MiB of commands that yield nothing this version of the
/// decoder reads out of its bounds; no page is that long.
const INPUT_BYTES_MAX: usize = 8 << 20;

/// Memory of the decoder.
#[derive(Default)]
struct Cell<T>(Vec<T>);

impl<T> SliceWrapper<T> for Cell<T> {
    fn slice(&self) -> &[T] {
        &self.0
    }
}

impl<T> SliceWrapperMut<T> for Cell<T> {
    fn slice_mut(&mut self) -> &mut [T] {
        &mut self.0
    }
}

/// Where it comes from: counted.
#[derive(Default)]
struct Counted {
    bytes: usize,
}

impl<T: Clone + Default> Allocator<T> for Counted {
    type AllocatedMemory = Cell<T>;

    fn alloc_cell(&mut self, length: usize) -> Cell<T> {
        let bytes = length.saturating_mul(size_of::<T>());
        if bytes > WINDOW_BYTES_MAX {
            return Cell(Vec::new());
        }
        self.bytes = self.bytes.saturating_add(bytes);
        Cell(vec![T::default(); length])
    }

    fn free_cell(&mut self, cell: Cell<T>) {
        self.bytes = self.bytes.saturating_sub(cell.0.len().saturating_mul(size_of::<T>()));
    }
}

/// A decoder.
pub(super) struct Brotli {
    state: BrotliState<Counted, Counted, Counted>,
    out: Vec<u8>,
    total: usize,
    bytes_in: usize,
}

impl Default for Brotli {
    fn default() -> Self {
        // Strict: no windows beyond the RFC's.
        let state =
            BrotliState::new_strict(Counted::default(), Counted::default(), Counted::default());
        Self { state, out: vec![0; STEP_BYTES], total: 0, bytes_in: 0 }
    }
}

impl Brotli {
    pub(super) fn held_bytes(&self) -> usize {
        let tables = self.state.alloc_u32.bytes + self.state.alloc_hc.bytes;
        // Of the window, what was written to, whether it came out by now or not.
        let written = match self.state.rb_roundtrips {
            0 => usize::try_from(self.state.pos).unwrap_or(0),
            _ => usize::MAX,
        };
        let window = self.state.alloc_u8.bytes.min(written.max(self.total));
        size_of::<Self>() + self.out.capacity() + tables + window
    }

    /// Decodes some of `input`: how much of it, what came out, how it ended.
    pub(super) fn step(&mut self, input: &[u8]) -> (usize, &[u8], Ended) {
        if self.bytes_in.saturating_add(input.len()) > INPUT_BYTES_MAX {
            return (0, &[], Ended::Wrong);
        }
        let (mut left, mut used) = (input.len(), 0);
        let (mut room, mut made) = (self.out.len(), 0);
        let result = BrotliDecompressStream(
            &mut left,
            &mut used,
            input,
            &mut room,
            &mut made,
            &mut self.out,
            &mut self.total,
            &mut self.state,
        );
        let ended = match result {
            // It asks for more before it has given all.
            BrotliResult::NeedsMoreInput if BrotliDecoderHasMoreOutput(&self.state) => Ended::Full,
            BrotliResult::NeedsMoreInput => Ended::Hungry,
            BrotliResult::NeedsMoreOutput => Ended::Full,
            BrotliResult::ResultSuccess => Ended::Whole,
            BrotliResult::ResultFailure => Ended::Wrong,
        };
        self.bytes_in += used;
        (used, self.out.get(..made).unwrap_or_default(), ended)
    }
}

#[cfg(test)]
mod tests {
    use super::{Brotli, Ended};

    /// "hello\n" in one block as it is.
    const HELLO: &[u8] = b"\x8f\x02\x80hello\n\x03";

    fn decode(input: &[u8], piece: usize) -> (Vec<u8>, Ended) {
        let mut decoder = Brotli::default();
        let (mut out, mut rest, mut last) = (Vec::new(), input, Ended::Hungry);
        while last == Ended::Full || last == Ended::Hungry && !rest.is_empty() {
            let now = rest.get(..piece.min(rest.len())).unwrap();
            let (used, made, ended) = decoder.step(now);
            out.extend_from_slice(made);
            (rest, last) = (&rest[used..], ended);
        }
        (out, last)
    }

    #[test]
    fn in_any_pieces() {
        for piece in 1..=HELLO.len() {
            assert_eq!(decode(HELLO, piece), (b"hello\n".to_vec(), Ended::Whole), "{piece}");
        }
        assert_eq!(decode(b"\x11hello", 6).1, Ended::Wrong);
    }

    /// A MiB of zeros, flushed and not ended, in a window of 16 MiB.
    const ZEROS: &[u8] = b"\xaf\xff\xff\x07@\x02 \x1e\x0b$\xf7\xfe\xc1\x00";

    #[test]
    fn what_is_decoded_comes_out_and_counts_without_an_end() {
        let mut decoder = Brotli::default();
        let (used, made, ended) = decoder.step(ZEROS);
        assert_eq!((used, made.len(), ended), (ZEROS.len(), super::STEP_BYTES, Ended::Full));
        assert!(decoder.held_bytes() > 1 << 20, "it is decoded, and held");
        let (mut out, mut last) = (super::STEP_BYTES, ended);
        while last == Ended::Full {
            let (_, made, ended) = decoder.step(&[]);
            (out, last) = (out + made.len(), ended);
        }
        assert_eq!((out, last), (1 << 20, Ended::Hungry));
    }

    #[test]
    fn a_body_without_end_ends() {
        let mut decoder = Brotli::default();
        let (_, _, ended) = decoder.step(&vec![0; super::INPUT_BYTES_MAX + 1]);
        assert_eq!(ended, Ended::Wrong);
    }

    #[test]
    fn a_window_costs_what_was_decoded() {
        let mut decoder = Brotli::default();
        // A window of 16 MiB, one block of 10 bytes as it is, more to come.
        let (_, made, ended) = decoder.step(b"\x8f\x04\x80helloworld");
        assert_eq!((made, ended), (&b"helloworld"[..], Ended::Hungry));
        assert!(decoder.held_bytes() < 64 << 10, "{} bytes", decoder.held_bytes());
    }
}
