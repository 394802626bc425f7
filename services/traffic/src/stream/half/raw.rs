//! What raw inspection sees of one direction, and when.

use super::{Half, Raw, fact};

/// Bytes behind a hole that raw inspection reads again and again: protocols are found, or given up,
/// within as many.
const REREAD_BYTES_MAX: u64 = 4096;

impl Half {
    /// Raw inspection shall happen with what there is.
    pub(crate) const fn trigger_raw(&mut self) {
        self.facts.set(fact::RAW_TRIGGERED);
    }

    /// Nothing more will come.
    pub(crate) const fn finish(&mut self) {
        self.facts.set(fact::ENDED);
    }

    /// How many bytes raw inspection waits for.
    pub(in crate::stream) const fn set_raw_min(&mut self, bytes: u32, is_inline: bool) {
        self.raw_min = bytes;
        self.facts.put(fact::INLINE, is_inline);
    }

    /// Up to where raw inspection may look.
    fn raw_limit(&self) -> u64 {
        if self.facts.has(fact::ENDED | fact::INLINE) { u64::MAX } else { self.acked() }
    }

    pub(in crate::stream) const fn is_inline(&self) -> bool {
        self.facts.has(fact::INLINE)
    }

    /// Inline, raw inspection sees each segment as it comes, with as much of what lies before and
    /// behind it without a hole as the size of a chunk allows.
    pub(in crate::stream) fn look_around(&mut self, seq: u32, length: usize) {
        let start = self.base.saturating_add_signed(self.distance(seq).max(0));
        let (length, chunk) = (length as u64, u64::from(self.raw_min));
        let end = start + length;
        let chunk = if chunk / 3 * 2 < length { length + chunk / 3 } else { chunk };
        let (first, last) = (self.run_start(start), self.run_from(start, end));
        let (before, behind) = (start - first, last.saturating_sub(end));
        let room = chunk.saturating_sub(length);
        let before = if before + behind <= room || behind == 0 {
            before.min(room)
        } else if before < room / 2 {
            before
        } else {
            // Half of the room for each, and for what lies before what the other leaves.
            before.min(room - behind.min(room / 2))
        };
        self.raw_ahead = self.ahead(self.raw_offset().min(start - before));
    }

    /// Where the bytes begin that reach `offset` without a hole.
    fn run_start(&self, offset: u64) -> u64 {
        if offset <= self.run() {
            return self.base;
        }
        let segments = self.segments();
        let at = segments.partition_point(|piece| piece.start <= offset);
        let before = segments.get(..at).unwrap_or_default().iter().rev();
        before.fold(
            offset,
            |start, piece| {
                if piece.end >= start { start.min(piece.start) } else { start }
            },
        )
    }

    pub(in crate::stream) fn raw(&self, is_closing: bool) -> Option<Raw<'_>> {
        let has_any = self.raw_limit().min(self.end()) > self.raw_offset();
        if !has_any || !self.is_raw_due(is_closing) || self.is_off() {
            return None;
        }
        self.raw_behind(self.raw_offset())
    }

    fn is_raw_due(&self, is_closing: bool) -> bool {
        let at_once = fact::RAW_TRIGGERED | fact::INLINE | fact::ENDED | fact::DEPTH_REACHED;
        let waiting = self.raw_limit().min(self.end()).saturating_sub(self.raw_offset());
        is_closing || self.facts.has(at_once) || waiting >= u64::from(self.raw_min)
    }

    /// Suricata takes a stream for one with something to read though nothing of it is acknowledged.
    pub(in crate::stream) fn seems_readable(&self, is_closing: bool) -> bool {
        if self.is_inline() {
            return self.raw(is_closing).is_some();
        }
        self.end() > self.raw_offset() && self.is_raw_due(is_closing) && !self.is_off()
    }

    /// What follows `progress` without a hole.
    pub(in crate::stream) fn raw_behind(&self, progress: u64) -> Option<Raw<'_>> {
        let limit = self.raw_limit();
        let (offset, bytes) = self.chunk(progress)?;
        let most = usize::try_from(limit.checked_sub(offset)?).unwrap_or(usize::MAX);
        let bytes = bytes.get(..most).unwrap_or(bytes);
        (!bytes.is_empty()).then(|| Raw { offset, bytes, progress: offset + bytes.len() as u64 })
    }

    pub(in crate::stream) fn raw_done(&mut self, progress: u64, is_waiting: bool) {
        let from = self.raw_offset();
        let hole = match self.chunk(from) {
            _ if !is_waiting
                || self.is_inline()
                || progress - from.min(progress) > REREAD_BYTES_MAX =>
            {
                progress
            }
            Some((start, bytes)) if start == from => start + bytes.len() as u64,
            Some(_) => from,
            None => progress,
        };
        let progress = progress.min(hole);
        self.raw_ahead = self.ahead(self.raw_offset().max(progress.min(self.end())));
        if self.raw_offset() >= self.acked().min(self.end()) {
            self.facts.put(fact::RAW_TRIGGERED, false);
        }
    }
}
