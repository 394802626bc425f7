//! The session: two halves and the state of the connection.

use super::{Half, Raw, memory::Memory};
use crate::{
    Direction, config,
    event::{Event, Events},
    packet::Tcp,
};

/// States of RFC 9293, as an observer between the ends sees them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum TcpState {
    /// Nothing yet.
    #[default]
    None,
    /// SYN seen.
    SynSent,
    /// SYN and SYN/ACK seen.
    SynReceived,
    /// Handshake over, or picked up midstream.
    Established,
    /// The server wants to close.
    FinWait1,
    /// That was acknowledged.
    FinWait2,
    /// Both ends closed, all acknowledged.
    TimeWait,
    /// The last acknowledgement is missing.
    LastAck,
    /// The client wants to close, the server may still send.
    CloseWait,
    /// Both closed at the same time.
    Closing,
    /// Ended.
    Closed,
}

/// A SYN/ACK or SYN that came beside the first and may turn out to be the one that counts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Handshake {
    pub(super) seq: u32,
    pub(super) ack: u32,
    pub(super) window: u16,
    pub(super) window_scale: Option<u8>,
    pub(super) timestamp: Option<u32>,
}

/// A session.
#[derive(Debug, Default)]
#[expect(clippy::struct_excessive_bools, reason = "independent facts about one connection")]
pub struct Session {
    /// State.
    pub state: TcpState,
    /// What the client sends, what the server sends.
    pub halves: [Half; 2],
    /// Picked up without a handshake.
    pub is_midstream: bool,
    /// One side is never seen.
    pub is_async: bool,
    /// The pick up was a SYN/ACK.
    pub(super) is_midstream_synack: bool,
    /// Both ends send time stamps.
    pub(super) has_timestamps: bool,
    /// The client offered a window scale; the server's is in its half.
    pub(super) has_client_scale: bool,
    /// Both ends sent a SYN first.
    pub(super) is_four_way: bool,
    /// The client's SYN asked for fast open.
    pub(super) is_fast_open: bool,
    /// Something was acknowledged after the handshake by the server.
    pub(super) is_confirmed: bool,
    /// Somebody tried to close with a wrong acknowledgement.
    pub(super) is_evasive: bool,
    /// The server closed first, and all was acknowledged.
    pub is_closed_by_server: bool,
    /// Bytes were lost: resets are believed more easily.
    pub(super) is_lossy: bool,
    /// Zero window probes to the server, to the client.
    pub(super) is_probed: [bool; 2],
    #[expect(clippy::box_collection, reason = "most sessions have none: 8 bytes, not 24")]
    pub(super) handshakes: Option<Box<Vec<Handshake>>>,
}

/// One for each TCP flow: see the bound of the flow table's entries.
const _: () = assert!(size_of::<Session>() <= 168);

/// A TCP packet on its way into a session.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Segment<'p, 'a> {
    pub(crate) time_ns: u64,
    pub(crate) direction: Direction,
    pub(crate) tcp: &'p Tcp<'a>,
    pub(crate) payload: &'a [u8],
    /// Addresses' policies: of the client, of the server.
    pub(crate) policies: [config::Policy; 2],
}

impl Segment<'_, '_> {
    pub(super) const fn has(&self, bits: u8) -> bool {
        self.tcp.flags.has(bits)
    }

    /// Bytes of payload; a packet has at most 65,535.
    pub(super) const fn len(&self) -> u32 {
        self.payload.len() as u32
    }

    /// Sequence number behind the payload.
    pub(super) const fn end(&self) -> u32 {
        self.tcp.seq.wrapping_add(self.len())
    }

    /// What of the payload belongs to the stream. Suricata leaves the last byte out, wherever the
    /// urgent pointer points to.
    fn stored(&self, urgent: config::Urgent) -> &[u8] {
        let is_urgent = self.has(crate::packet::TcpFlags::URG)
            && self.tcp.urgent > 0
            && u32::from(self.tcp.urgent) <= self.len()
            && matches!(urgent, config::Urgent::OutOfBand | config::Urgent::Gap);
        match self.payload {
            [before @ .., _] if is_urgent => before,
            whole => whole,
        }
    }

    pub(super) const fn seconds(&self) -> u32 {
        // Seconds since 1970 fit until 2106; only differences count.
        (self.time_ns / config::SECOND_NS) as u32
    }
}

/// What a segment is handled with.
pub(crate) struct Context<'c> {
    pub(crate) settings: &'c config::Stream,
    pub(crate) memory: &'c mut Memory,
    pub(crate) events: &'c mut Events,
    /// Which directions have something new for the application layer.
    pub(crate) update: [bool; 2],
    /// The payload went into its stream.
    pub(crate) is_in_stream: bool,
    /// If the segment is refused, it is passed on nevertheless.
    pub(crate) is_tolerated: bool,
}

/// The segment is not part of the session.
#[derive(Debug)]
pub(crate) struct Refused;

pub(super) type Handled = Result<(), Refused>;

impl Context<'_> {
    pub(super) const fn refuse<T>(&mut self, event: Event) -> Result<T, Refused> {
        self.events.set(event);
        Err(Refused)
    }
}

impl Session {
    /// What goes in `direction`.
    #[must_use]
    pub const fn half(&self, direction: Direction) -> &Half {
        direction.of(&self.halves)
    }

    pub(crate) const fn half_mut(&mut self, direction: Direction) -> &mut Half {
        direction.of_mut(&mut self.halves)
    }

    /// The half that sends in `direction`, and the other.
    pub(super) const fn pair(&mut self, direction: Direction) -> (&mut Half, &mut Half) {
        let [client, server] = &mut self.halves;
        match direction {
            Direction::ToServer => (client, server),
            Direction::ToClient => (server, client),
        }
    }

    /// The handshake is over (Suricata: state established or later).
    #[must_use]
    pub fn is_established(&self) -> bool {
        self.state >= TcpState::Established
    }

    /// What raw inspection of `direction` should look at now, as Suricata decides: acknowledged bytes
    /// after the progress, once there are enough of them (chunk size), the application layer asks
    /// for it, or the stream ends. `None`: nothing is due. With gaps several pieces may be due:
    /// [`Self::raws`] gives all of them. What was read may be due once more with the next packet.
    #[must_use]
    pub fn raw(&self, direction: Direction) -> Option<Raw<'_>> {
        self.half(direction).raw(self.is_closing())
    }

    /// Suricata's `StreamReassembleRawHasDataReady`: there is something that raw inspection would look
    /// at, were it acknowledged.
    #[must_use]
    pub fn seems_readable(&self, direction: Direction) -> bool {
        self.half(direction).seems_readable(self.is_closing())
    }

    /// All pieces that are due, as [`Self::raw`] gives them one by one.
    pub fn raws(&self, direction: Direction) -> impl Iterator<Item = Raw<'_>> {
        let half = self.half(direction);
        let mut next = self.raw(direction);
        std::iter::from_fn(move || {
            let now = next.take()?;
            next = if half.is_inline() { None } else { half.raw_behind(now.progress) };
            Some(now)
        })
    }

    /// Both ends are about to go: what there is, is all.
    fn is_closing(&self) -> bool {
        self.state > TcpState::TimeWait
    }

    /// Raw inspection has read up to `progress`; what lies before may be freed.
    /// `is_waiting`: what lies behind a hole is to be read again.
    pub(crate) fn raw_done(&mut self, direction: Direction, progress: u64, is_waiting: bool) {
        // Told apart only while the ends say goodbye: before, there is no reason to look again.
        let is_ending =
            matches!(self.state, TcpState::CloseWait | TcpState::LastAck | TcpState::Closing);
        self.half_mut(direction).raw_done(progress, is_waiting && is_ending);
    }

    /// Client and server were taken for each other.
    pub(crate) const fn swap(&mut self) {
        let [client, server] = &mut self.halves;
        std::mem::swap(client, server);
    }

    /// Handshake packets beside the one that counts so far.
    pub(super) fn others(&self) -> &[Handshake] {
        self.handshakes.as_ref().map_or(&[], |others| others.as_slice())
    }

    /// Bytes were lost.
    pub(crate) const fn note_loss(&mut self) {
        self.is_lossy = true;
    }

    /// Whether `seq` is that of the client's SYN.
    pub(crate) const fn is_syn_of(&self, seq: u32) -> bool {
        let [client, _] = &self.halves;
        client.isn == seq
    }

    /// Bytes that are held.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.halves.iter().map(Half::held_bytes).sum()
    }

    pub(super) const fn last_ack(&mut self, direction: Direction, ack: u32) {
        let half = self.half_mut(direction);
        if super::seq::gt(ack, half.last_ack) {
            half.last_ack = ack;
        }
    }

    /// Stores the payload of an accepted segment, and says whose bytes may be read now.
    pub(super) fn store(&mut self, segment: &Segment<'_, '_>, context: &mut Context<'_>) {
        let direction = segment.direction;
        let (own, other) = (direction.index(), direction.reverse().index());
        let is_end = self.state == TcpState::Closed;
        let is_reset = segment.has(crate::packet::TcpFlags::RST);
        let by_packet = context.settings.is_inline || self.is_async || is_reset || is_end;
        let mut update = [false; 2];
        if let Some(place) = update.get_mut(own) {
            *place = by_packet;
        }
        if let Some(place) = update.get_mut(other) {
            *place = !context.settings.is_inline && !is_reset;
        }
        let payload = segment.stored(context.settings.urgent);
        let half = self.half_mut(direction);
        // Inline, what was passed on first is what counts.
        half.policy.get_or_insert(if context.settings.is_inline {
            config::Policy::First
        } else {
            *direction.reverse().of(&segment.policies)
        });
        if is_reset && !segment.payload.is_empty() && !context.settings.is_inline {
            // What a reset carries is nobody's, neither the packet's nor the stream's.
            context.is_in_stream = true;
        }
        if !segment.payload.is_empty() && !is_reset && !half.is_off() {
            let is_data_behind_syn = segment.has(crate::packet::TcpFlags::SYN);
            let seq = segment.tcp.seq.wrapping_add(u32::from(is_data_behind_syn));
            let had_depth = half.is_depth_reached();
            // What comes again has its urgent byte in the sequence numbers already.
            let is_new = half.offset(segment.end()) > half.end();
            half.insert(seq, payload, context.settings, context.memory, context.events);
            // Inline, a segment that is not all in the stream is looked at as it came.
            let is_whole = payload.len() == segment.payload.len() && half.urgent == 0;
            context.is_in_stream = is_whole || !context.settings.is_inline;
            if is_new
                && payload.len() < segment.payload.len()
                && context.settings.urgent == config::Urgent::OutOfBand
            {
                half.urgent = half.urgent.saturating_add(1);
            }
            if context.settings.is_inline {
                half.look_around(seq, payload.len());
            }
            if half.is_depth_reached() && !had_depth {
                half.trigger_raw();
                if let Some(place) = update.get_mut(own) {
                    *place = true;
                }
            }
        }
        for (to, from) in context.update.iter_mut().zip(update) {
            *to |= from;
        }
    }
}
