//! Memory of all streams together: how much is held, and buffers that wait to be used again.

use std::ops::Range;

/// Buffers that are kept for the next stream: enough that steady traffic allocates nothing.
const SPARE_MAX: usize = 256;
/// A buffer that grew beyond this is given back: a stream that waits for one byte may not pin what a
/// large transfer needed.
pub(super) const SPARE_BYTES_MAX: usize = 2 << 10;

/// Room for borders of segments that a spare list keeps.
const SPARE_PIECES_MAX: usize = 64;

/// What all streams share.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Room of the buffers of every stream.
    pub(crate) used: usize,
    /// There is no more, whatever `used` says.
    pub(crate) is_full: bool,
    spare: Vec<Vec<u8>>,
    spare_pieces: Vec<Vec<Range<u64>>>,
    /// For segments that overlap.
    pub(super) scratch: Vec<u8>,
    pub(crate) counters: Losses,
}

/// What streams lost, taken over into `Counters`.
#[derive(Debug, Default)]
pub(crate) struct Losses {
    pub(crate) memory: u64,
    pub(crate) limit: u64,
    pub(crate) depth: u64,
    pub(crate) gaps: u64,
    pub(crate) gap_bytes: u64,
}

impl Memory {
    pub(super) fn take(&mut self) -> Vec<u8> {
        self.spare.pop().unwrap_or_default()
    }

    pub(super) fn take_pieces(&mut self) -> Vec<Range<u64>> {
        self.spare_pieces.pop().unwrap_or_else(|| Vec::with_capacity(1))
    }

    pub(super) fn give_pieces(&mut self, mut pieces: Vec<Range<u64>>) {
        if pieces.capacity() > 0 && self.spare_pieces.len() < SPARE_MAX {
            pieces.clear();
            pieces.shrink_to(SPARE_PIECES_MAX);
            self.spare_pieces.push(pieces);
        }
    }

    pub(super) fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity > 0 && capacity <= SPARE_BYTES_MAX && self.spare.len() < SPARE_MAX {
            buffer.clear();
            self.spare.push(buffer);
        }
    }
}
