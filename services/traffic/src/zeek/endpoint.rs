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
    /// Highest sequence number sent, extended to 64 bits, relative to `start_seq`. Of protocols without
    /// such numbers: bytes of payload.
    pub(super) last: i64,
    /// The same for what the peer acknowledged.
    pub(super) acked: i64,
    pub(super) window_scale: u8,
    pub(super) has_fin: bool,
    pub(super) fin: i64,
    pub(super) did_close: bool,
    pub(super) packets: u64,
    pub(super) ip_bytes: u64,
    pub(super) once: u8,
    /// Where the last SYN was.
    pub(super) last_syn: u32,
    /// Payload up to here is there, or was given up.
    pub(super) reassembled: i64,
    /// What most connections never need.
    pub(super) rare: Option<Box<Rare>>,
}

/// What happens to few connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Rare {
    /// Where the last FIN and RST were.
    pub(super) last_fin: u32,
    pub(super) last_rst: u32,
    /// Retransmissions, zero windows, bad checksums, gaps.
    pub(super) counts: [u16; 4],
    /// Payload that came ahead of what is reassembled.
    pub(super) ahead: Vec<(i64, i64)>,
}

/// Two for each flow.
const _: () = assert!(size_of::<Endpoint>() <= 80);

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
            let ahead = &mut self.rare_mut().ahead;
            if ahead.len() < RANGES_MAX {
                let at = ahead.partition_point(|range| range.0 < from);
                ahead.insert(at, (from, to));
            }
            return;
        }
        self.reassembled = to;
        self.absorb();
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    fn ahead(&self) -> &[(i64, i64)] {
        self.rare.as_ref().map_or(&[], |rare| &rare.ahead)
    }

    /// What is no longer ahead.
    fn absorb(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        let mut taken = 0;
        for (from, to) in &rare.ahead {
            if *from > self.reassembled {
                break;
            }
            self.reassembled = self.reassembled.max(*to);
            taken += 1;
        }
        rare.ahead.drain(..taken);
        if rare.ahead.is_empty() {
            rare.ahead = Vec::new();
        }
    }

    /// The next hole before `to`, as (from, length); it is given up.
    pub(super) fn next_gap(&mut self, to: i64) -> Option<(i64, i64)> {
        if self.reassembled >= to {
            return None;
        }
        let from = self.reassembled;
        let end = self.ahead().first().map_or(to, |range| range.0.min(to));
        self.reassembled = end;
        self.absorb();
        Some((from, end - from))
    }

    /// Payload that waits behind a hole.
    pub(super) fn ahead_bytes(&self) -> i64 {
        self.ahead().iter().map(|(from, to)| to - from).sum()
    }

    /// Forgets what came ahead.
    pub(super) fn drop_ahead(&mut self) {
        if let Some(rare) = &mut self.rare {
            rare.ahead = Vec::new();
        }
    }

    pub(super) const fn has_no_ack(&self) -> bool {
        self.acked <= 1
    }
}
