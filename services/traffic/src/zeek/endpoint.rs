//! One end of a connection: Zeek's endpoint states, sequence numbers, and what counts for history.

use super::far::Far;
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
    pub(super) last: Far,
    /// The same for what the peer acknowledged.
    pub(super) acked: Far,
    pub(super) window_scale: u8,
    pub(super) has_fin: bool,
    pub(super) did_close: bool,
    pub(super) packets: Far,
    pub(super) ip_bytes: Far,
    pub(super) once: u8,
    /// Where the last SYN was.
    pub(super) last_syn: u32,
    /// Payload up to here is there, or was given up.
    pub(super) reassembled: Far,
    /// What most connections never need.
    pub(super) rare: Option<Box<Rare>>,
}

/// What happens to few connections.
#[derive(Clone, Debug, Default)]
pub(super) struct Rare {
    /// Where the last FIN and RST were.
    pub(super) last_fin: u32,
    pub(super) last_rst: u32,
    /// Behind the FIN.
    pub(super) fin: i64,
    /// Payload that was acknowledged and never seen.
    pub(super) missed_bytes: u64,
    /// Retransmissions, zero windows, bad checksums, gaps.
    pub(super) counts: [u16; 4],
    /// Payload that came ahead of what is reassembled.
    pub(super) ahead: Vec<(i64, i64)>,
}

/// Two for each flow.
const _: () = assert!(size_of::<Endpoint>() <= 56);

impl Endpoint {
    /// `seq` relative to the start, in the 64 bit space around `near`.
    pub(super) const fn relative(&self, seq: u32, near: i64) -> i64 {
        let near_seq = self.start_seq.wrapping_add(near as u32);
        near + delta(seq, near_seq) as i64
    }

    pub(super) const fn begin(&mut self, start: u32, last: u32) {
        self.start_seq = start;
        self.acked = Far::new(0);
        self.last = Far::new(delta(last, start) as i64);
        self.reassembled = Far::new(1);
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
            && self.acked.get() > 1;
        let (last, acked) = (self.last.get(), self.acked.get());
        let reach = if last > acked { last } else { acked };
        if was_refused || reach <= 0 {
            return 0;
        }
        // The SYN, seen or not.
        let size = reach as u64 - 1;
        if self.has_fin && size > 0 { size - 1 } else { size }
    }

    /// Payload `from..to` came.
    pub(super) fn note_data(&mut self, from: i64, to: i64) {
        let reassembled = self.reassembled.get();
        let from = from.max(reassembled);
        if to <= from {
            return;
        }
        if from > reassembled {
            let ahead = &mut self.rare_mut().ahead;
            if ahead.len() < RANGES_MAX {
                let at = ahead.partition_point(|range| range.0 < from);
                ahead.insert(at, (from, to));
            }
            return;
        }
        self.reassembled = Far::new(to);
        self.absorb();
    }

    pub(super) fn rare_mut(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }

    /// Behind the FIN, if there was one.
    pub(super) fn fin(&self) -> Option<i64> {
        self.rare.as_ref().filter(|_| self.has_fin).map(|rare| rare.fin)
    }

    pub(super) fn missed_bytes(&self) -> u64 {
        self.rare.as_ref().map_or(0, |rare| rare.missed_bytes)
    }

    fn ahead(&self) -> &[(i64, i64)] {
        self.rare.as_ref().map_or(&[], |rare| &rare.ahead)
    }

    /// What is no longer ahead.
    fn absorb(&mut self) {
        let Some(rare) = &mut self.rare else { return };
        let mut taken = 0;
        let mut reassembled = self.reassembled.get();
        for (from, to) in &rare.ahead {
            if *from > reassembled {
                break;
            }
            reassembled = reassembled.max(*to);
            taken += 1;
        }
        self.reassembled = Far::new(reassembled);
        rare.ahead.drain(..taken);
        if rare.ahead.is_empty() {
            rare.ahead = Vec::new();
        }
    }

    /// The next hole before `to`, as (from, length); it is given up.
    pub(super) fn next_gap(&mut self, to: i64) -> Option<(i64, i64)> {
        let from = self.reassembled.get();
        if from >= to {
            return None;
        }
        let end = self.ahead().first().map_or(to, |range| range.0.min(to));
        self.reassembled = Far::new(end);
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
        self.acked.get() <= 1
    }
}
