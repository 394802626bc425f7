//! A connection as Zeek sees it: state, history, sizes; what a line of conn.log says.
//!
//! Zeek's idea of a connection differs from Suricata's flow in direction (`^` flips), in sizes (by
//! sequence numbers) and in when it ends, so a [`Connection`] is kept beside each flow: it may end
//! and start anew within a flow, and may outlive one. Called by `engine` for every packet.

mod endpoint;
mod far;
mod history;
mod ports;
mod tcp;
#[cfg(test)]
mod tests;

pub(crate) use far::Far;
pub use history::History;

use std::num::NonZeroU64;

use endpoint::{EndState, Endpoint};

use crate::{bits::Bits, config::SECOND_NS};

/// `conn_state` of conn.log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum State {
    /// A try that nobody answered.
    S0,
    /// Established, not ended.
    S1,
    /// Established; the originator wanted to close, the responder did not answer it.
    S2,
    /// Established; the responder wanted to close, the originator did not answer it.
    S3,
    /// Normal end.
    Sf,
    /// The try was rejected.
    Rej,
    /// Established, the originator aborted.
    RstO,
    /// The responder aborted.
    RstR,
    /// The originator sent SYN and then RST, nothing came back.
    RstOs0,
    /// The responder sent SYN ACK and then RST, no SYN was seen.
    RstRh,
    /// The originator sent SYN and then FIN, nothing came back.
    Sh,
    /// The responder sent SYN ACK and then FIN, no SYN was seen.
    ShR,
    /// No SYN: midstream traffic.
    #[default]
    Oth,
}

impl State {
    /// As in conn.log.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::S0 => "S0",
            Self::S1 => "S1",
            Self::S2 => "S2",
            Self::S3 => "S3",
            Self::Sf => "SF",
            Self::Rej => "REJ",
            Self::RstO => "RSTO",
            Self::RstR => "RSTR",
            Self::RstOs0 => "RSTOS0",
            Self::RstRh => "RSTRH",
            Self::Sh => "SH",
            Self::ShR => "SHR",
            Self::Oth => "OTH",
        }
    }
}

/// Which end of a connection, in Zeek's words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// `id.orig_h`.
    Originator,
    /// `id.resp_h`.
    Responder,
}

impl End {
    const fn index(self) -> usize {
        match self {
            Self::Originator => 0,
            Self::Responder => 1,
        }
    }
}

/// What a line of conn.log says about one end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sizes {
    /// `orig_pkts`, `resp_pkts`.
    pub packets: u64,
    /// `orig_ip_bytes`, `resp_ip_bytes`.
    pub ip_bytes: u64,
    /// `orig_bytes`, `resp_bytes`; conn.log has them only where it has a duration.
    pub bytes: u64,
}

/// What a connection carries.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Kind {
    #[default]
    Tcp,
    Udp,
    Icmp,
    Other,
}

/// A packet of a connection that is no TCP segment, or what TCP has in common with it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) time_ns: u64,
    /// Sent by the flow's client.
    pub(crate) is_from_client: bool,
    pub(crate) ip_bytes: u64,
    pub(crate) payload_bytes: u64,
    /// The checksum is wrong and checked.
    pub(crate) is_checksum_wrong: bool,
    /// Source and destination port.
    pub(crate) ports: (u16, u16),
}

/// Zeek's timers, as in its init-bare.zeek.
mod timer {
    use super::SECOND_NS;

    /// `tcp_inactivity_timeout`.
    pub(super) const TCP_IDLE_NS: u64 = 300 * SECOND_NS;
    /// `udp_inactivity_timeout` and those of ICMP and unknown protocols.
    pub(super) const IDLE_NS: u64 = 60 * SECOND_NS;
    /// `tcp_attempt_delay`: a SYN without an answer.
    pub(super) const ATTEMPT_NS: u64 = 5 * SECOND_NS;
    /// `tcp_close_delay`: after both ends closed.
    pub(super) const CLOSE_NS: u64 = 5 * SECOND_NS;
    /// `tcp_connection_linger` and the period of `tcp_session_timer`: one end closed, the other gone.
    pub(super) const LINGER_NS: u64 = 6 * SECOND_NS;
}

/// A connection.
#[derive(Clone, Debug, Default)]
pub struct Connection {
    kind: Kind,
    /// Of [`fact`].
    facts: Bits,
    ends: [Endpoint; 2],
    first_ns: u64,
    last_ns: u64,
    attempt_ns: Option<NonZeroU64>,
    /// When it is over by a timer.
    remove_ns: Option<NonZeroU64>,
    history: History,
    /// Letters that did not fit.
    pub(crate) history_cut: u32,
}

mod fact {
    pub(super) const LIVE: u8 = 1;
    /// The originator is the flow's server.
    pub(super) const FLIPPED: u8 = 2;
    pub(super) const PARTIAL: u8 = 4;
    /// Nothing more is reassembled: the trace looks filtered.
    pub(super) const REASSEMBLY_OFF: u8 = 8;
    /// Which ends have sent.
    pub(super) const ORIGINATOR_SENT: u8 = 16;
    pub(super) const RESPONDER_SENT: u8 = 32;
}

/// One for each flow: see the bound of the flow table's entries.
const _: () = assert!(size_of::<Connection>() <= 168);

impl Connection {
    /// A new one.
    pub(crate) fn begin(kind: Kind, now_ns: u64, is_from_client: bool, ports: (u16, u16)) -> Self {
        let mut connection = Self { kind, first_ns: now_ns, last_ns: now_ns, ..Self::default() };
        connection.facts.set(fact::LIVE);
        connection.facts.put(fact::FLIPPED, !is_from_client);
        let is_flip = kind == Kind::Udp && ports::is_udp(ports.0) && !ports::is_udp(ports.1);
        if is_flip {
            connection.flip();
        }
        connection
    }

    /// Whether there is one.
    #[must_use]
    pub const fn is_live(&self) -> bool {
        self.facts.has(fact::LIVE)
    }

    /// The flow exchanged its client and server.
    pub(crate) const fn flow_swapped(&mut self) {
        self.facts.put(fact::FLIPPED, !self.is_flipped());
    }

    /// The content says that the flow's client began, whatever ports made of it.
    pub(crate) fn client_began(&mut self) {
        if self.is_flipped() {
            self.flip();
        }
    }

    /// `ts`: time of the first packet.
    #[must_use]
    pub const fn first_ns(&self) -> u64 {
        self.first_ns
    }

    /// Time of the last packet that counts.
    #[must_use]
    pub const fn last_ns(&self) -> u64 {
        self.last_ns
    }

    /// `duration`; `None` where conn.log has none (and no `orig_bytes` and `resp_bytes` either).
    #[must_use]
    pub fn duration_ns(&self) -> Option<u64> {
        self.last_ns.checked_sub(self.first_ns).filter(|duration| *duration > 0)
    }

    /// `history`.
    #[must_use]
    pub const fn history(&self) -> &History {
        &self.history
    }

    /// Whether the originator is the flow's client.
    #[must_use]
    pub const fn is_originator_client(&self) -> bool {
        !self.is_flipped()
    }

    const fn is_flipped(&self) -> bool {
        self.facts.has(fact::FLIPPED)
    }

    /// Numbers of one end.
    #[must_use]
    pub fn sizes(&self, end: End) -> Sizes {
        let [originator, responder] = &self.ends;
        let (own, peer) = match end {
            End::Originator => (originator, responder),
            End::Responder => (responder, originator),
        };
        let bytes = if self.kind == Kind::Tcp {
            own.size(peer.state == EndState::Inactive)
        } else {
            own.last.count()
        };
        Sizes { packets: own.packets.count(), ip_bytes: own.ip_bytes.count(), bytes }
    }

    /// `missed_bytes`.
    #[must_use]
    pub fn missed_bytes(&self) -> u64 {
        self.ends.iter().map(Endpoint::missed_bytes).sum()
    }

    /// `conn_state`.
    #[must_use]
    pub fn state(&self) -> State {
        let [originator, responder] = &self.ends;
        match self.kind {
            Kind::Tcp => self.tcp_state(),
            Kind::Udp => match (originator.packets.get() > 0, responder.packets.get() > 0) {
                (true, true) => State::Sf,
                (true, false) => State::S0,
                (false, true) => State::ShR,
                (false, false) => State::Oth,
            },
            Kind::Icmp | Kind::Other => State::Oth,
        }
    }

    fn tcp_state(&self) -> State {
        use EndState::{Closed, Established, Inactive, Partial, Reset, SynAckSent, SynSent};
        let [originator, responder] = &self.ends;
        let (from, to) = (originator.state, responder.state);
        let is_from_inactive = matches!(from, Inactive | Partial);
        let is_to_inactive = matches!(to, Inactive | Partial);
        let is_empty =
            || self.sizes(End::Originator).bytes == 0 && self.sizes(End::Responder).bytes == 0;
        match (from, to) {
            (SynSent | SynAckSent, Reset) => State::Rej,
            (Reset, Reset) if is_empty() => State::Rej,
            (_, Reset) if is_from_inactive => State::RstRh,
            (_, Reset) => State::RstR,
            (Reset, _) if is_to_inactive => {
                if self.is_syn_then_rst() {
                    State::RstOs0
                } else {
                    State::Oth
                }
            }
            (Reset, _) => State::RstO,
            (Closed, Closed) => State::Sf,
            (Closed, _) => {
                if is_to_inactive {
                    State::Sh
                } else {
                    State::S2
                }
            }
            (_, Closed) => {
                if is_from_inactive {
                    State::ShR
                } else {
                    State::S3
                }
            }
            (SynSent, Inactive) => State::S0,
            (Established, Established) => State::S1,
            _ => State::Oth,
        }
    }

    /// History is `S`, then nothing of weight by the originator, then `R`.
    fn is_syn_then_rst(&self) -> bool {
        let history = self.history.as_str();
        let Some(rest) = history.strip_prefix('^').unwrap_or(history).strip_prefix('S') else {
            return false;
        };
        rest.find('R').is_some_and(|at| {
            rest.get(..at).is_some_and(|before| !before.contains(['H', 'A', 'F', 'G', 'I', 'Q']))
        })
    }

    /// Zeek's timers: whether it had ended before `now_ns`.
    pub(crate) fn is_over(&self, now_ns: u64) -> bool {
        let idle_ns = now_ns.saturating_sub(self.last_ns);
        if self.kind != Kind::Tcp {
            return idle_ns > timer::IDLE_NS;
        }
        let [originator, responder] = &self.ends;
        if self.remove_ns.is_some_and(|at| now_ns > at.get()) {
            return true;
        }
        let is_unanswered = matches!(originator.state, EndState::SynSent | EndState::SynAckSent)
            && responder.state == EndState::Inactive;
        if is_unanswered && self.attempt_ns.is_some_and(|at| now_ns > at.get()) {
            return true;
        }
        let has_closed = originator.did_close || responder.did_close;
        let is_dead = [originator, responder]
            .iter()
            .any(|end| matches!(end.state, EndState::Reset | EndState::Inactive));
        if has_closed && is_dead && idle_ns > timer::LINGER_NS {
            return true;
        }
        idle_ns > timer::TCP_IDLE_NS
    }

    /// Which end sends.
    const fn sender(&self, is_from_client: bool) -> End {
        if is_from_client != self.is_flipped() { End::Originator } else { End::Responder }
    }

    fn count(&mut self, seen: &Seen) -> End {
        let end = self.sender(seen.is_from_client);
        if let Some(endpoint) = self.ends.get_mut(end.index()) {
            endpoint.packets.add(1);
            endpoint.ip_bytes.add(seen.ip_bytes);
        }
        end
    }

    /// A packet that is not TCP.
    pub(crate) fn packet(&mut self, seen: &Seen) {
        if seen.is_checksum_wrong {
            if self.kind == Kind::Udp {
                self.scaled(self.sender(seen.is_from_client), 2, b'C');
            }
            return;
        }
        let end = self.count(seen);
        self.last_ns = self.last_ns.max(seen.time_ns);
        if let Some(endpoint) = self.ends.get_mut(end.index()) {
            // Zeek knows nothing of the payload of other protocols.
            let bytes = if self.kind == Kind::Other { 0 } else { seen.payload_bytes };
            endpoint.last.add(bytes);
        }
        if self.kind == Kind::Udp {
            self.once(end, endpoint::once::DATA, b'D');
        }
    }

    /// Originator and responder change places.
    fn flip(&mut self) {
        let [originator, responder] = &mut self.ends;
        std::mem::swap(originator, responder);
        self.facts.put(fact::FLIPPED, !self.is_flipped());
        let originator = self.facts.has(fact::ORIGINATOR_SENT);
        self.facts.put(fact::ORIGINATOR_SENT, self.facts.has(fact::RESPONDER_SENT));
        self.facts.put(fact::RESPONDER_SENT, originator);
        self.facts.put(fact::PARTIAL, false);
        self.letter(b'^');
    }

    fn letter(&mut self, letter: u8) {
        if !self.history.push(letter) {
            self.history_cut += 1;
        }
    }

    /// A letter in the case of `end`.
    fn letter_of(&mut self, end: End, letter: u8) {
        self.letter(match end {
            End::Originator => letter,
            End::Responder => letter.to_ascii_lowercase(),
        });
    }

    /// A letter the first time; true if it was there already.
    fn once(&mut self, end: End, bit: u8, letter: u8) -> bool {
        let Some(endpoint) = self.ends.get_mut(end.index()) else { return true };
        if endpoint.once & bit != 0 {
            return true;
        }
        endpoint.once |= bit;
        self.letter_of(end, letter);
        false
    }

    /// A letter the first, tenth, hundredth... time.
    fn scaled(&mut self, end: End, which: usize, letter: u8) {
        let end_mut = self.ends.get_mut(end.index());
        let Some(count) = end_mut.and_then(|end| end.rare_mut().counts.get_mut(which)) else {
            return;
        };
        *count = count.saturating_add(1);
        let is_power = 10u16.checked_pow(count.ilog10()) == Some(*count);
        if is_power {
            self.letter_of(end, letter);
        }
    }
}
