//! Connections that have no session to the engine because one side, or the SYN, was never seen: Zeek
//! parses what each side says all the same, so here is an application layer of its own for them.
//!
//! Bytes are taken as they come: what is behind a hole is told to the parser as a gap. An entry
//! exists only for such connections, and is dropped when the engine gets a session after all.

use hookprobe_traffic::{
    Direction,
    app::{App, Config, Fed, Meta, Transport},
    packet::{Packet, Transport as Header},
};

/// Bytes in each direction that are parsed: banners, hellos and the first requests.
const BYTES_MAX: u64 = 1 << 20;

/// One such connection.
#[derive(Debug, Default)]
pub(super) struct OneSide {
    /// What is parsed.
    pub(super) app: App,
    next: [Option<u32>; 2],
    bytes: [u64; 2],
    is_done: bool,
}

impl OneSide {
    /// Takes the payload of a segment; whether a transaction changed.
    pub(super) fn segment(
        &mut self,
        packet: &Packet<'_>,
        direction: Direction,
        ports: (u16, u16),
        config: &Config,
    ) -> bool {
        let Header::Tcp(tcp) = packet.transport else { return false };
        let count = direction.of_mut(&mut self.bytes);
        if self.is_done || *count >= BYTES_MAX {
            return false;
        }
        let before = *count;
        *count += packet.payload.len() as u64;
        let next = direction.of_mut(&mut self.next);
        // How far the segment is ahead of what was expected, in the numbers' circle.
        let ahead = i64::from(tcp.seq.wrapping_sub(next.unwrap_or(tcp.seq)).cast_signed());
        let known = usize::try_from(ahead.saturating_neg()).unwrap_or(0);
        let Some(data) = packet.payload.get(known..).filter(|data| !data.is_empty()) else {
            return false;
        };
        // A packet has less than 65,536 bytes.
        let end = tcp.seq.wrapping_add(u32::try_from(packet.payload.len()).unwrap_or(0));
        *next = Some(end);
        let meta = Meta {
            config,
            transport: Transport::Tcp,
            ports,
            gap: 0,
            eof: false,
            is_midstream: false,
            is_alone: false,
            offset: before,
        };
        let mut changed = false;
        if let Ok(gap @ 1..) = u64::try_from(ahead) {
            let fed = self.app.feed(packet.time_ns, direction, &[], Meta { gap, ..meta });
            changed |= self.took(&fed);
        }
        let fed = self.app.feed(packet.time_ns, direction, data, meta);
        changed | self.took(&fed)
    }

    fn took(&mut self, fed: &Fed) -> bool {
        self.is_done |= fed.is_done;
        fed.is_changed || fed.is_detected
    }
}
