//! One direction of a session: sequence numbers, and bytes in order as far as they came.
//!
//! Bytes from `base` on lie in one buffer, holes included; `segments` tells which of them came and in
//! which pieces (overlap policies need the borders). The buffer slides on when the application layer
//! and raw inspection have read, and goes back to the pool when it is empty: an idle stream holds
//! nothing.

mod raw;

use std::ops::Range;

use super::{
    Raw,
    held::{self, Held, New},
    memory::{self, Memory},
    pieces::Piece,
};
use crate::{
    bits::Bits,
    config::{self, Policy},
    event::{Event, Events},
};

/// One direction: what one end has sent.
#[derive(Debug, Default)]
pub struct Half {
    /// All flags this end has sent.
    pub flags_seen: u8,
    /// Initial sequence number.
    pub(super) isn: u32,
    /// What this end sends next.
    pub(super) next_seq: u32,
    /// What the other end has acknowledged.
    pub(super) last_ack: u32,
    /// Window that the other end offers to this one.
    pub(super) window: u32,
    /// The last sequence number that fits into it.
    pub(super) next_win: u32,
    pub(super) window_scale: u8,
    /// Who receives this: decides overlaps. Known with the first bytes.
    pub(super) policy: Option<Policy>,
    /// Numbers that stand for urgent bytes beside the stream.
    pub(super) urgent: u16,
    /// PAWS: last time stamp, and the second it came in.
    pub(super) last_ts: u32,
    pub(super) last_ts_s: u32,
    pub(super) has_timestamps: bool,
    pub(super) is_keep_alive: bool,
    /// Of [`fact`].
    facts: Bits,
    raw_min: u32,
    base: u64,
    /// What the application layer gets next, and raw inspection: like the rest counted from `base`, of
    /// which nothing is further than sequence numbers reach.
    app_ahead: u32,
    raw_ahead: u32,
    /// Bytes from `base` to here are without a hole.
    run_ahead: u32,
    /// Behind the last byte that came.
    end_ahead: u32,
    /// Bytes and their pieces, if any are held: most streams of a busy network hold none.
    held: Option<Box<Held>>,
}

mod fact {
    /// More than the depth came: nothing is stored any more.
    pub(super) const DEPTH_REACHED: u8 = 1;
    pub(super) const OFF: u8 = 2;
    pub(super) const GAP: u8 = 4;
    /// Raw inspection shall happen now, however little there is.
    pub(super) const RAW_TRIGGERED: u8 = 8;
    /// Session closed or ended: raw inspection sees everything.
    pub(super) const ENDED: u8 = 16;
    /// Bytes count when they come, not when they are acknowledged.
    pub(super) const INLINE: u8 = 32;
}

/// What the application layer gets next.
pub(crate) enum Next<'a> {
    Data(&'a [u8]),
    Gap(u64),
}

impl Half {
    /// Number of the next byte that is expected.
    #[must_use]
    pub const fn next_seq(&self) -> u32 {
        self.next_seq
    }

    /// Numbers from the initial one to the next that is expected.
    #[must_use]
    pub const fn sequence_len(&self) -> u32 {
        self.next_seq.wrapping_sub(self.isn)
    }

    /// Urgent bytes that were beside the stream.
    #[must_use]
    pub const fn urgent_bytes(&self) -> u16 {
        self.urgent
    }

    /// Stream offset up to which the other end has acknowledged.
    #[must_use]
    pub fn acked(&self) -> u64 {
        self.offset(self.last_ack)
    }

    /// Something came that the other end never acknowledged.
    #[must_use]
    pub fn has_unacked(&self) -> bool {
        self.end() > self.acked()
    }

    /// Stream offset behind the last byte that came.
    #[must_use]
    pub const fn end(&self) -> u64 {
        self.base + self.end_ahead as u64
    }

    /// Stream offset of the first byte that is held.
    #[must_use]
    pub const fn base(&self) -> u64 {
        self.base
    }

    /// Stream offset of what the application layer gets next.
    pub(crate) const fn app_offset(&self) -> u64 {
        self.base + self.app_ahead as u64
    }

    const fn raw_offset(&self) -> u64 {
        self.base + self.raw_ahead as u64
    }

    /// Stream offset up to which bytes from `base` on are without a hole.
    const fn run(&self) -> u64 {
        self.base + self.run_ahead as u64
    }

    /// Its first byte has come.
    pub(crate) const fn has_begun(&self) -> bool {
        self.run() > 0
    }

    /// A stream offset as it is kept.
    fn ahead(&self, offset: u64) -> u32 {
        u32::try_from(offset.saturating_sub(self.base)).unwrap_or(u32::MAX)
    }

    /// A gap was skipped somewhere in this direction.
    #[must_use]
    pub const fn has_gap(&self) -> bool {
        self.facts.has(fact::GAP)
    }

    /// Nothing more of this direction is stored: its depth is reached.
    #[must_use]
    pub const fn is_depth_reached(&self) -> bool {
        self.facts.has(fact::DEPTH_REACHED)
    }

    /// The first bytes without a hole at or after `offset`, and where they begin.
    #[must_use]
    pub fn chunk(&self, offset: u64) -> Option<(u64, &[u8])> {
        let offset = offset.max(self.base);
        let run = if offset < self.run() {
            offset..self.run()
        } else {
            let segments = self.segments();
            let at = segments.partition_point(|piece| piece.start < offset);
            // A longer piece that began before may reach over `offset`.
            let before = segments.get(..at).unwrap_or_default();
            let reach = before.iter().map(|piece| piece.end).max().unwrap_or(0);
            let first = segments.get(at).map(|piece| piece.start);
            let start = if reach > offset { offset } else { first? };
            start..self.run_from(start, reach.max(start))
        };
        let bytes = self.bytes().get(self.place(&run))?;
        Some((run.start, bytes))
    }

    fn bytes(&self) -> &[u8] {
        self.held.as_ref().map_or(&[], |held| &held.bytes)
    }

    /// Pieces that are held, in order of start and then end.
    pub(super) fn segments(&self) -> &[Piece] {
        self.held.as_ref().map_or(&[], |held| &held.segments)
    }

    /// Room of the buffer.
    fn capacity(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes.capacity())
    }

    /// The bytes from `seq` on, if all of them are held.
    pub(crate) fn at(&self, seq: u32, length: usize) -> Option<&[u8]> {
        let start = self.base.checked_add_signed(self.distance(seq))?;
        let (at, bytes) = self.chunk(start).filter(|(at, _)| *at == start)?;
        debug_assert_eq!(at, start, "the first chunk begins there");
        bytes.get(..length)
    }

    /// How far bytes reach without a hole, if those before `end` do.
    fn run_from(&self, start: u64, mut end: u64) -> u64 {
        let segments = self.segments();
        let at = segments.partition_point(|piece| piece.start < start);
        for piece in segments.get(at..).unwrap_or_default() {
            if piece.start > end {
                break;
            }
            end = end.max(piece.end);
        }
        end
    }

    /// Where in `bytes` a range of the stream lies; it must not begin before `base`.
    fn place(&self, range: &Range<u64>) -> Range<usize> {
        match &self.held {
            Some(held) => held.place(self.base, range),
            None => Held::default().place(self.base, range),
        }
    }

    /// Stream offset of a sequence number; 0 for those before the stream.
    pub(super) fn offset(&self, seq: u32) -> u64 {
        self.base.saturating_add_signed(self.distance(seq))
    }

    /// How far `seq` lies behind `base`.
    fn distance(&self, seq: u32) -> i64 {
        // The sequence number of `base`: the lower half of the offset is what wraps.
        let urgent = u32::from(self.urgent);
        let base_seq = self.isn.wrapping_add(1).wrapping_add(self.base as u32).wrapping_add(urgent);
        i64::from(super::seq::delta(seq, base_seq))
    }

    /// Whether all before `seq` is read and freed.
    pub(super) fn is_before_base(&self, seq: u32) -> bool {
        self.distance(seq) <= 0
    }

    pub(super) const fn set_isn(&mut self, isn: u32) {
        self.isn = isn;
    }

    /// Nothing of this direction is wanted any more.
    pub(crate) fn stop(&mut self, memory: &mut Memory) {
        self.facts.set(fact::OFF);
        self.clear(memory);
    }

    pub(crate) const fn is_off(&self) -> bool {
        self.facts.has(fact::OFF)
    }

    fn clear(&mut self, memory: &mut Memory) {
        self.release(memory);
        let (app, raw) = (self.app_offset(), self.raw_offset());
        self.base = self.end();
        (self.app_ahead, self.raw_ahead) = (self.ahead(app), self.ahead(raw));
        (self.run_ahead, self.end_ahead) = (0, 0);
    }

    /// Stores a segment that begins at `seq`.
    pub(super) fn insert(
        &mut self,
        seq: u32,
        data: &[u8],
        settings: &config::Stream,
        memory: &mut Memory,
        events: &mut Events,
    ) {
        let (start, data) = match self.distance(seq) {
            ahead @ 0.. => (self.base.saturating_add_signed(ahead), data),
            behind => {
                let skip = usize::try_from(behind.unsigned_abs()).unwrap_or(usize::MAX);
                (self.base, data.get(skip..).unwrap_or_default())
            }
        };
        if data.is_empty() {
            return;
        }
        let new = start..start + data.len() as u64;
        if !self.is_storable(&new, settings, memory, events) {
            return;
        }
        let place = self.place(&new);
        let overlaps = self.overlapping(&new);
        let (base, policy) = (self.base, self.policy.unwrap_or_default());
        let is_inline = self.is_inline();
        let held = self.held.get_or_insert_with(|| memory.take());
        held.make_room(place.end, &mut memory.used);
        let segment = New { piece: &new, data, base, policy, is_inline };
        held.insert(&segment, overlaps, &mut memory.scratch, events);
        self.note(new);
    }

    /// The buffer goes back to the pool.
    fn release(&mut self, memory: &mut Memory) {
        if let Some(held) = self.held.take() {
            memory.give(held);
        }
    }

    fn is_storable(
        &mut self,
        new: &Piece,
        settings: &config::Stream,
        memory: &mut Memory,
        events: &mut Events,
    ) -> bool {
        if self.is_off() {
            return false;
        }
        let depth = u64::from(settings.depth_bytes);
        if self.is_depth_reached() || (depth != 0 && new.end > depth) {
            self.facts.set(fact::DEPTH_REACHED);
            events.set(Event::StreamReassemblyDepthReached);
            memory.counters.depth += 1;
            return false;
        }
        let is_too_far = new.end - self.base > u64::from(settings.half_bytes_max);
        if is_too_far || self.segments().len() >= settings.segments_max as usize {
            events.set(Event::StreamReassemblyInsertLimit);
            memory.counters.limit += 1;
            return false;
        }
        let (needed, capacity) = (self.place(new).end, self.capacity());
        let growth = match capacity {
            _ if needed <= capacity => 0,
            // A spare buffer may be larger than what is needed.
            0 => needed.max(memory::SPARE_BYTES_MAX),
            _ => held::room(needed, capacity) - capacity,
        };
        if memory.is_full || memory.used.saturating_add(growth) > settings.bytes_max {
            events.set(Event::StreamReassemblyInsertMemcap);
            memory.counters.memory += 1;
            return false;
        }
        true
    }

    /// Indexes of pieces that may overlap `new`.
    fn overlapping(&self, new: &Piece) -> Range<usize> {
        let segments = self.segments();
        let end = segments.partition_point(|piece| piece.start < new.end);
        // No piece is longer than a packet.
        let reach = new.start.saturating_sub(u64::from(u16::MAX));
        let mut start = segments.partition_point(|piece| piece.start < reach);
        while start < end && segments.get(start).is_some_and(|old| old.end <= new.start) {
            start += 1;
        }
        start..end
    }

    /// Remembers a piece.
    fn note(&mut self, new: Piece) {
        if let Some(held) = &mut self.held {
            held.note(&new);
        }
        self.end_ahead = self.ahead(self.end().max(new.end));
        if new.start <= self.run() {
            self.run_ahead = self.ahead(self.run_from(new.start, self.run().max(new.end)));
        }
    }

    /// What the application layer gets next when bytes count as they come.
    pub(crate) fn app_next_inline(&self) -> Option<Next<'_>> {
        match self.chunk(self.app_offset()) {
            Some((start, bytes))
                if start == self.app_offset() && !bytes.is_empty() && !self.is_off() =>
            {
                Some(Next::Data(bytes))
            }
            Some(_) | None => self.app_next(false),
        }
    }

    /// What the application layer gets next: acknowledged bytes (`is_all`: all bytes), or the length
    /// of a gap that will not be filled any more.
    pub(crate) fn app_next(&self, is_all: bool) -> Option<Next<'_>> {
        let limit = if is_all { u64::MAX } else { self.acked() };
        let app = self.app_offset();
        if app >= limit || self.is_off() {
            return None;
        }
        match self.chunk(app) {
            Some((start, bytes)) if start == app => {
                let most = usize::try_from(limit - start).unwrap_or(usize::MAX);
                Some(Next::Data(bytes.get(..most).unwrap_or(bytes)))
            }
            // Acknowledged though it never came, and something behind it was acknowledged, too (or
            // all that is sent is acknowledged): it is lost to us.
            Some((start, _)) => Some(Next::Gap(start.min(limit) - app)),
            // With nothing behind it, it may still come.
            None => None,
        }
    }

    /// The application layer took `count` bytes, or skipped them.
    pub(crate) fn app_advance(&mut self, count: u64, is_gap: bool, memory: &mut Memory) {
        self.app_ahead = self.ahead(self.app_offset().saturating_add(count));
        if is_gap {
            self.facts.set(fact::GAP);
            memory.counters.gaps += 1;
            memory.counters.gap_bytes += count;
        }
    }

    /// Frees what nobody needs: called after every packet.
    pub(crate) fn slide(
        &mut self,
        is_app_done: bool,
        is_raw_read: bool,
        settings: &config::Stream,
        memory: &mut Memory,
    ) {
        if self.held.is_none() {
            return;
        }
        let mut edge = if is_app_done { u64::MAX } else { self.app_offset() };
        if is_raw_read {
            // Inline, what comes next is looked at together with what came before.
            let kept = if self.is_inline() { u64::from(self.raw_min) } else { 0 };
            edge = edge.min(self.raw_offset().saturating_sub(kept));
        }
        if !self.facts.has(fact::ENDED) {
            edge = edge.min(self.acked());
        }
        if settings.is_overlap_checked {
            edge = edge.saturating_sub(u64::from(self.window.max(4096)));
        }
        let edge = edge.min(self.end());
        if edge > self.base {
            self.slide_to(edge, memory);
        }
    }

    fn slide_to(&mut self, edge: u64, memory: &mut Memory) {
        let count = usize::try_from(edge - self.base).unwrap_or(usize::MAX);
        let (run, end) = (self.run(), self.end());
        let (app, raw) = (self.app_offset(), self.raw_offset());
        self.base = edge;
        // What lies before the new base is at it.
        (self.app_ahead, self.raw_ahead) = (self.ahead(app), self.ahead(raw));
        (self.run_ahead, self.end_ahead) = (self.ahead(run), self.ahead(end));
        if edge >= end {
            self.release(memory);
        } else if let Some(held) = &mut self.held {
            held.slide(edge, count);
        }
        if run < edge {
            self.run_ahead = self.ahead(self.run_from(0, edge));
        }
    }

    /// It has a buffer.
    pub(crate) const fn is_holding(&self) -> bool {
        self.held.is_some()
    }

    /// Bytes that are held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held.as_ref().map_or(0, |held| held.bytes.len().saturating_sub(held.head))
    }
}
