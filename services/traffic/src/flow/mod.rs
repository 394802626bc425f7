//! Flows: who talks to whom, since when, how much, and the state of what is parsed within.
//!
//! A flow has a `slot`, a dense index that is free again after `Inspector::flow_end`: inspectors keep
//! their own state in a `Vec` by slot. `id` is never reused. Client and server are told apart as
//! Suricata does (first packet, SYN/ACK of midstream, content).
//!
//! What must never happen here: more flows than the cap, a search that grows with their number.

mod counts;
mod hidden;
mod key;
mod table;

pub use key::Key;
pub(crate) use table::{Table, is_timed_out};

use std::net::IpAddr;

use self::{counts::Counts, hidden::Hidden};
use crate::{
    Direction,
    app::App,
    packet::{Packet, Vlans},
    stream::{Raw, Session},
    zeek,
};

/// Suricata's flow states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// One direction only.
    #[default]
    New,
    /// Both directions (TCP: after the handshake).
    Established,
    /// TCP: ended.
    Closed,
}

/// Why a flow ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Nothing came for the time of its state.
    Timeout,
    /// The table was full.
    Evicted,
    /// A new flow began with the same key.
    Reused,
    /// The input has ended.
    Shutdown,
}

/// One direction of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Side {
    /// Packets.
    pub packets: u64,
    /// Bytes of these packets on the wire (frames; as Suricata counts).
    pub bytes: u64,
    /// Bytes from the IP header on, as the header states them.
    pub ip_bytes: u64,
    /// Bytes that the transport carried, repetitions included.
    pub payload_bytes: u64,
    /// TTL of the last packet; the least and the greatest.
    pub ttl: u8,
    /// See `ttl`.
    pub ttl_min: u8,
    /// See `ttl`.
    pub ttl_max: u8,
}

/// What becomes of a flow.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fate {
    /// Its bytes are followed.
    #[default]
    Followed,
    /// Its packets are dropped.
    Dropped,
    /// Nobody looks at it any more.
    Bypassed,
}

/// One flow.
#[derive(Debug)]
pub struct Flow {
    /// Dense index.
    pub slot: u32,
    /// Number, from 1, never reused.
    pub id: u64,
    /// Client and server.
    pub key: Key,
    /// VLANs of its first packet, whether or not they are part of the key.
    pub vlans: Vlans,
    /// To the server, to the client.
    counts: [Counts; 2],
    /// Time of the first packet.
    pub first_ns: u64,
    /// Time of the last packet.
    pub last_ns: u64,
    /// New, established, closed.
    pub state: State,
    /// As Zeek sees it.
    pub zeek: zeek::Connection,
    /// The application layer.
    pub app: App,
    /// TCP: the session, when there is one.
    pub tcp: Option<Box<Session>>,
    /// Bytes that it held when they were last counted.
    pub(crate) app_bytes: u32,
    /// The application layer wants no more bytes.
    pub is_app_done: bool,
    /// What of it is encrypted by now.
    pub(crate) hidden: Hidden,
    /// What an inspector has decided: the engine counts the packets of such a flow and no more.
    pub fate: Fate,
    /// Directions whose transactions changed since an inspector last saw that direction.
    pub(crate) is_changed: [bool; 2],
    /// Directions of which the application layer knows that they ended.
    pub(crate) is_eof: [bool; 2],
}

impl Flow {
    /// Whether the application layer knows that nothing more comes in `direction`.
    #[must_use]
    pub fn is_over(&self, direction: Direction) -> bool {
        *direction.of(&self.is_eof)
    }

    /// A flow that begins with a packet of `key`.
    pub(crate) fn new(id: u64, key: Key, now_ns: u64) -> Self {
        Self {
            slot: u32::MAX,
            id,
            key,
            vlans: Vlans::default(),
            counts: [Counts::default(); 2],
            first_ns: now_ns,
            last_ns: now_ns,
            state: State::New,
            zeek: zeek::Connection::default(),
            app: App::default(),
            app_bytes: 0,
            tcp: None,
            is_app_done: false,
            hidden: Hidden::default(),
            fate: Fate::Followed,
            is_changed: [false; 2],
            is_eof: [false; 2],
        }
    }

    /// Counts a packet.
    pub(crate) fn count(&mut self, packet: &Packet<'_>, direction: Direction) {
        self.last_ns = self.last_ns.max(packet.time_ns);
        if !self.counts.iter().any(Counts::any) {
            self.vlans = packet.vlans;
        }
        direction.of_mut(&mut self.counts).add(packet);
    }

    /// Packets went in `direction`.
    pub(crate) const fn has_packets(&self, direction: Direction) -> bool {
        direction.of(&self.counts).any()
    }

    /// Packets went both ways.
    pub(crate) fn is_both_ways(&self) -> bool {
        self.counts.iter().all(Counts::any)
    }

    /// Client and server were taken for each other.
    pub(crate) fn swap(&mut self) {
        self.key = self.key.reversed();
        self.counts.reverse();
        self.is_changed.reverse();
        self.is_eof.reverse();
        self.hidden.swap();
        self.zeek.flow_swapped();
        if let Some(session) = &mut self.tcp {
            session.swap();
        }
    }

    /// Client's address.
    #[must_use]
    pub fn client(&self) -> IpAddr {
        self.key.client
    }

    /// Server's address.
    #[must_use]
    pub fn server(&self) -> IpAddr {
        self.key.server
    }

    /// One direction.
    #[must_use]
    pub const fn side(&self, direction: Direction) -> Side {
        direction.of(&self.counts).side()
    }

    /// Packets were seen in both directions; TCP: the handshake is over (Suricata's `established`).
    #[must_use]
    pub fn is_established(&self) -> bool {
        match &self.tcp {
            Some(session) => session.is_established(),
            None => self.is_both_ways(),
        }
    }

    /// Bytes of the stream of `direction` that are due for raw inspection now, see [`Session::raw`].
    #[must_use]
    pub fn raw(&self, direction: Direction) -> Option<Raw<'_>> {
        self.tcp.as_ref().filter(|_| !self.hidden.has_stream(direction))?.raw(direction)
    }

    /// All pieces of [`Self::raw`] that are due.
    pub fn raws(&self, direction: Direction) -> impl Iterator<Item = Raw<'_>> {
        let session = self.tcp.as_ref().filter(|_| !self.hidden.has_stream(direction));
        session.into_iter().flat_map(move |session| session.raws(direction))
    }

    /// Whether the stream seems to have something to read, see [`Session::seems_readable`].
    #[must_use]
    pub fn seems_readable(&self, direction: Direction) -> bool {
        let session = self.tcp.as_ref().filter(|_| !self.hidden.has_stream(direction));
        session.is_some_and(|session| session.seems_readable(direction))
    }

    /// Raw inspection of `direction` has read up to the stream offset `progress`.
    pub fn raw_done(&mut self, direction: Direction, progress: u64) {
        if let Some(session) = &mut self.tcp {
            // Until its protocol is known, Suricata does not get past what is missing.
            let is_waiting = self.app.proto().is_none() && !self.app.is_failed();
            session.raw_done(direction, progress, is_waiting);
        }
    }
}
