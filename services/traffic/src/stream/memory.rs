//! Memory of all streams together: how much is held, and buffers that wait to be used again.

use super::held::Held;

/// Buffers that are kept for the next stream: enough that steady traffic allocates next to nothing.
const SPARE_MAX: usize = 64;
/// A buffer that grew beyond this is given back: a stream that waits for one byte may not pin what a
/// large transfer needed.
pub(super) const SPARE_BYTES_MAX: usize = 2 << 10;

/// Room for borders of segments that a spare buffer keeps.
const SPARE_PIECES_MAX: usize = 64;

/// What all streams share.
#[derive(Debug, Default)]
pub(crate) struct Memory {
    /// Room of the buffers of every stream.
    pub(crate) used: usize,
    /// There is no more, whatever `used` says.
    pub(crate) is_full: bool,
    #[expect(clippy::vec_box, reason = "they go to streams as boxes and come back as such")]
    spare: Vec<Box<Held>>,
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
    /// An empty buffer.
    pub(super) fn take(&mut self) -> Box<Held> {
        let held = self.spare.pop().unwrap_or_default();
        self.used += held.bytes.capacity();
        held
    }

    /// The buffer of a stream that needs it no more.
    pub(super) fn give(&mut self, mut held: Box<Held>) {
        self.used = self.used.saturating_sub(held.bytes.capacity());
        if held.bytes.capacity() <= SPARE_BYTES_MAX && self.spare.len() < SPARE_MAX {
            held.head = 0;
            held.bytes.clear();
            held.segments.clear(SPARE_PIECES_MAX);
            self.spare.push(held);
        }
    }
}
