//! The bytes that one direction of a session holds, and the pieces in which they came.

use std::ops::Range;

use super::{
    overlap,
    pieces::{Piece, Pieces},
};
use crate::{
    config::Policy,
    event::{Event, Events},
};

/// What a stream holds.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// The byte of the stream's base is `bytes[head]`.
    pub(super) head: usize,
    /// Holes included.
    pub(super) bytes: Vec<u8>,
    /// In order of start and then end.
    pub(super) segments: Pieces,
}

/// A segment that may overlap others.
pub(super) struct New<'a> {
    pub(super) piece: &'a Piece,
    pub(super) data: &'a [u8],
    /// Stream offset of the first byte that is held.
    pub(super) base: u64,
    pub(super) policy: Policy,
    pub(super) is_inline: bool,
}

/// Room of a buffer that grows: a quarter more at least, so that bytes are not moved with every
/// segment. Twice as much would be faster for those that grow far, but most that hold bytes for long
/// hold a few segments.
pub(super) const fn room(needed: usize, capacity: usize) -> usize {
    let grown = capacity + capacity / 4;
    if needed > grown { needed } else { grown }
}

impl Held {
    /// Where in `bytes` a range of the stream lies; it must not begin before `base`.
    pub(super) fn place(&self, base: u64, range: &Range<u64>) -> Range<usize> {
        let at = |offset: u64| {
            let ahead = usize::try_from(offset.saturating_sub(base)).unwrap_or(usize::MAX);
            self.head.saturating_add(ahead)
        };
        at(range.start)..at(range.end)
    }

    /// Room for `needed` bytes in the buffer; `used` is the room of all buffers.
    pub(super) fn make_room(&mut self, needed: usize, used: &mut usize) {
        let capacity = self.bytes.capacity();
        if needed > capacity {
            let target = room(needed, capacity);
            self.bytes.reserve_exact(target - self.bytes.len());
            *used += self.bytes.capacity() - capacity;
        }
    }

    /// Stores `new`, whose bytes belong to `place`.
    pub(super) fn insert(
        &mut self,
        new: &New<'_>,
        overlaps: Range<usize>,
        scratch: &mut Vec<u8>,
        events: &mut Events,
    ) {
        let place = self.place(new.base, new.piece);
        if overlaps.is_empty() && place.start == self.bytes.len() {
            self.bytes.extend_from_slice(new.data);
            return;
        }
        if self.bytes.len() < place.end {
            self.bytes.resize(place.end, 0);
        }
        if overlaps.is_empty() {
            if let Some(to) = self.bytes.get_mut(place) {
                to.copy_from_slice(new.data);
            }
            return;
        }
        scratch.clear();
        scratch.extend_from_slice(new.data);
        self.keep(new, overlaps, scratch, events);
        if let Some(to) = self.bytes.get_mut(place) {
            to.copy_from_slice(scratch);
        }
    }

    /// Puts into `scratch` what overlap policies keep of the pieces in `overlaps`.
    fn keep(&self, new: &New<'_>, overlaps: Range<usize>, scratch: &mut [u8], events: &mut Events) {
        for old in self.segments.get(overlaps).unwrap_or_default() {
            let start = new.piece.start.max(old.start).max(new.base);
            let shared = start..new.piece.end.min(old.end);
            if shared.is_empty() {
                continue;
            }
            let Some(held) = self.bytes.get(self.place(new.base, &shared)) else { continue };
            let at = usize::try_from(shared.start - new.piece.start).unwrap_or(usize::MAX);
            let Some(ours) = new.data.get(at..).and_then(|ours| ours.get(..held.len())) else {
                continue;
            };
            if ours == held {
                continue;
            }
            // Only inline does Suricata compare what has the very borders of what it repeats.
            if new.is_inline || old != new.piece {
                events.set(Event::StreamReassemblyOverlapDifferentData);
            }
            if !overlap::is_new_used(new.policy, new.piece, old)
                && let Some(kept) = scratch.get_mut(at..at + held.len())
            {
                kept.copy_from_slice(held);
            }
        }
    }

    /// Remembers a piece.
    pub(super) fn note(&mut self, new: &Piece) {
        let key = |piece: &Piece| (piece.start, piece.end);
        let is_last = self.segments.last().is_none_or(|last| key(last) < key(new));
        if is_last {
            return self.segments.insert(self.segments.len(), new.clone());
        }
        let at = self.segments.partition_point(|piece| key(piece) < key(new));
        if self.segments.get(at) != Some(new) {
            self.segments.insert(at, new.clone());
        }
    }

    /// Forgets what lies before `edge`, which is `count` bytes on.
    pub(super) fn slide(&mut self, edge: u64, count: usize) {
        let head = self.head.saturating_add(count).min(self.bytes.len());
        if head > self.bytes.len() / 2 {
            // Half of it is read: moving the rest costs no more than reading it did.
            self.bytes.drain(..head);
            self.head = 0;
        } else {
            self.head = head;
        }
        self.segments.retain(|piece| piece.end > edge);
    }
}
