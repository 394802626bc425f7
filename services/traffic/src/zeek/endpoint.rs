//! One end of a connection: Zeek's endpoint states, sequence numbers, and what counts for history.

use crate::stream::seq::delta;

/// Zeek's states of a TCP endpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum EndState {
    #[default]
    Inactive,
    SynSent,
    SynAckSent,
    Partial,
    Established,
    Closed,
    Reset,
}

/// Letters that appear once for each end.
pub(super) mod once {
    pub(crate) const SYN: u8 = 1;
    pub(crate) const FIN: u8 = 2;
    pub(crate) const RST: u8 = 4;
    pub(crate) const DATA: u8 = 8;
    pub(crate) const ACK: u8 = 16;
    pub(crate) const MULTI: u8 = 32;
    pub(crate) const FIN_RST: u8 = 64;
}

/// Ranges out of order that are remembered; beyond, holes are taken for filled.
const RANGES_MAX: usize = 64;

/// One end.
#[derive(Clone, Debug, Default)]
pub(super) struct Endpoint {
    pub(super) state: EndState,
    pub(super) before: EndState,
    pub(super) start_seq: u32,
    /// Highest sequence number sent, extended to 64 bits, relative to `start_seq`.
    pub(super) last: i64,
    /// The same for what the peer acknowledged.
    pub(super) acked: i64,
    pub(super) window_scale: u8,
    pub(super) has_fin: bool,
    pub(super) fin: i64,
    pub(super) did_close: bool,
    pub(super) packets: u64,
    pub(super) ip_bytes: u64,
    /// Payload of UDP and ICMP.
    pub(super) payload: u64,
    /// Anything of UDP or ICMP came.
    pub(super) is_active: bool,
    pub(super) once: u8,
    /// Where the last SYN, FIN and RST were: sequence numbers.
    pub(super) last_control: [u32; 3],
    /// Retransmissions, zero windows, bad checksums, gaps.
    pub(super) counts: [u16; 4],
    /// Payload up to here is there, or was given up.
    pub(super) reassembled: i64,
    /// What came ahead of it.
    #[expect(clippy::box_collection, reason = "most connections have none: 8 bytes, not 24")]
    pub(super) ahead: Option<Box<Vec<(i64, i64)>>>,
}

impl Endpoint {
    /// `seq` relative to the start, in the 64 bit space around `near`.
    pub(super) const fn relative(&self, seq: u32, near: i64) -> i64 {
        let near_seq = self.start_seq.wrapping_add(near as u32);
        near + delta(seq, near_seq) as i64
    }

    pub(super) const fn begin(&mut self, start: u32, last: u32) {
        self.start_seq = start;
        self.acked = 0;
        self.last = delta(last, start) as i64;
        self.reassembled = 1;
    }

    pub(super) const fn set(&mut self, state: EndState) {
        if self.state as u8 != state as u8 {
            self.before = self.state;
            self.state = state;
        }
    }

    /// `orig_bytes`, `resp_bytes` of TCP: by sequence numbers, without SYN and FIN.
    pub(super) const fn size(&self, is_peer_inactive: bool) -> u64 {
        let was_refused = matches!(self.before, EndState::SynSent)
            && matches!(self.state, EndState::Reset)
            && is_peer_inactive
            && self.acked > 1;
        let reach = if self.last > self.acked { self.last } else { self.acked };
        if was_refused || reach <= 0 {
            return 0;
        }
        // The SYN, seen or not.
        let size = reach as u64 - 1;
        if self.has_fin && size > 0 { size - 1 } else { size }
    }

    /// Payload `from..to` came.
    pub(super) fn note_data(&mut self, from: i64, to: i64) {
        let from = from.max(self.reassembled);
        if to <= from {
            return;
        }
        if from > self.reassembled {
            let ahead = self.ahead.get_or_insert_default();
            if ahead.len() < RANGES_MAX {
                let at = ahead.partition_point(|range| range.0 < from);
                ahead.insert(at, (from, to));
            }
            return;
        }
        self.reassembled = to;
        self.absorb();
    }

    /// What is no longer ahead.
    fn absorb(&mut self) {
        let Some(ahead) = &mut self.ahead else { return };
        let mut taken = 0;
        for (from, to) in ahead.iter() {
            if *from > self.reassembled {
                break;
            }
            self.reassembled = self.reassembled.max(*to);
            taken += 1;
        }
        ahead.drain(..taken);
        if ahead.is_empty() {
            self.ahead = None;
        }
    }

    /// The next hole before `to`, as (from, length); it is given up.
    pub(super) fn next_gap(&mut self, to: i64) -> Option<(i64, i64)> {
        if self.reassembled >= to {
            return None;
        }
        let from = self.reassembled;
        let first = self.ahead.as_ref().and_then(|ahead| ahead.first());
        let end = first.map_or(to, |range| range.0.min(to));
        self.reassembled = end;
        self.absorb();
        Some((from, end - from))
    }

    /// Payload that waits behind a hole.
    pub(super) fn ahead_bytes(&self) -> i64 {
        self.ahead.iter().flat_map(|ahead| ahead.iter()).map(|(from, to)| to - from).sum()
    }

    pub(super) const fn has_no_ack(&self) -> bool {
        self.acked <= 1
    }
}
