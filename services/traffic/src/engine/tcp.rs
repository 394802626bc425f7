//! TCP packets: the session, then its bytes to the application layer.

use super::{Engine, exception, packet::Place};
use crate::{
    Direction,
    app::{Hides, Meta, Proto, Transport as Carrier},
    config::{self, Config},
    event::Event,
    flow::{Flow, State},
    packet::{Packet, Tcp, TcpFlags},
    stream::{Context, Memory, Next, Segment, Session, Start, TcpState},
};

impl Engine {
    pub(super) fn tcp(
        &mut self,
        slot: u32,
        packet: &mut Packet<'_>,
        tcp: &Tcp<'_>,
        place: &mut Place,
    ) {
        let settings = &self.config.stream;
        let Some(entry) = self.table.get_mut(slot) else { return };
        let flow = &mut entry.flow;
        place.is_established = flow.tcp.as_ref().is_some_and(|session| session.is_established());
        if packet.is_checksum_wrong {
            self.counters.checksum_wrong += 1;
            return;
        }
        if flow.tcp.is_none() && is_in_the_middle(tcp) {
            place.exceptions |= exception::MIDSTREAM;
        }
        if flow.tcp.is_none() && settings.no_session_at == Some(self.number) {
            place.exceptions |= exception::SESSION_MEMORY;
            return;
        }
        if settings.urgent == config::Urgent::Drop
            && settings.is_inline
            && tcp.flags.has(TcpFlags::URG)
        {
            place.exceptions |= exception::URGENT;
            return;
        }
        let mut context = Context {
            settings,
            memory: &mut self.memory,
            events: &mut packet.events,
            update: [false; 2],
            is_in_stream: false,
            is_tolerated: false,
        };
        let policies =
            [flow.key.client, flow.key.server].map(|address| self.config.policy_of(address));
        let segment = Segment {
            time_ns: packet.time_ns,
            direction: place.direction,
            tcp,
            payload: packet.payload,
            policies,
        };
        let mut is_invalid = false;
        if let Some(session) = &mut flow.tcp {
            if session.handle(&segment, &mut context).is_err() {
                self.counters.stream_refused += 1;
                is_invalid = !context.is_tolerated;
            }
        } else {
            match Session::start(&segment, &mut context) {
                Start::Session(session, is_swapped) => {
                    self.counters.stream_midstream += u64::from(session.is_midstream);
                    if is_swapped {
                        flow.swap();
                        place.direction = place.direction.reverse();
                    }
                    flow.tcp = Some(session);
                }
                Start::Nothing => {
                    self.counters.stream_no_session += 1;
                    // Only what would end a session is wrong without one.
                    is_invalid = !tcp.flags.lacks(TcpFlags::RST | TcpFlags::FIN);
                }
            }
        }
        place.is_in_stream = context.is_in_stream;
        place.is_refused = is_invalid;
        if is_invalid && settings.is_inline && settings.is_invalid_dropped {
            place.exceptions |= exception::INVALID;
            place.is_payload_hidden = true;
        }
        let update = context.update;
        set_state(flow, place, !packet.payload.is_empty());
        let is_closed = flow.tcp.as_ref().is_some_and(|session| session.state == TcpState::Closed);
        place.is_stream_end = is_closed;
        // The acknowledged direction first, as its bytes came first.
        for direction in [place.direction.reverse(), place.direction] {
            if *direction.of(&update) {
                feed(
                    flow,
                    direction,
                    packet.time_ns,
                    is_closed,
                    &self.config,
                    &mut self.memory,
                    place,
                );
            }
        }
        if let Some(event) = place.detection {
            packet.events.set(event);
        }
        if packet.events.has(Event::StreamReassemblyInsertMemcap) {
            place.exceptions |= exception::REASSEMBLY_MEMORY;
        }
        if self.memory.counters.gaps > 0 {
            packet.events.set(Event::StreamReassemblySeqGap);
        }
        self.take_losses();
    }

    pub(super) fn take_losses(&mut self) {
        let losses = std::mem::take(&mut self.memory.counters);
        self.counters.reassembly_memory += losses.memory;
        self.counters.reassembly_limit += losses.limit;
        self.counters.reassembly_depth += losses.depth;
        self.counters.gaps += losses.gaps;
        self.counters.gap_bytes += losses.gap_bytes;
    }
}

/// It neither begins a session nor ends one.
const fn is_in_the_middle(tcp: &Tcp<'_>) -> bool {
    let flags = tcp.flags;
    flags.lacks(TcpFlags::RST) && !flags.lacks(TcpFlags::FIN | TcpFlags::ACK)
}

fn set_state(flow: &mut Flow, place: &mut Place, has_payload: bool) {
    let Some(session) = &flow.tcp else { return };
    flow.state = match session.state {
        TcpState::None | TcpState::SynSent | TcpState::SynReceived => State::New,
        TcpState::Established
        | TcpState::FinWait1
        | TcpState::FinWait2
        | TcpState::CloseWait
        | TcpState::Closing => State::Established,
        TcpState::TimeWait | TcpState::LastAck | TcpState::Closed => State::Closed,
    };
    // The packet that ends the handshake counts only if it has data.
    if session.is_established() && has_payload {
        place.is_established = true;
    }
}

/// Gives the application layer what it may have of `direction`.
pub(super) fn feed(
    flow: &mut Flow,
    direction: Direction,
    now_ns: u64,
    is_end: bool,
    config: &Config,
    memory: &mut Memory,
    place: &mut Place,
) {
    let mut direction = direction;
    loop {
        if flow.is_app_done {
            // Where nothing is read any more: whether there is something to read.
            let is_fed = flow.tcp.as_mut().is_some_and(|session| {
                let half = direction.of_mut(&mut session.halves);
                let limit = half.end().min(half.acked().max(half.app_offset()));
                let count = limit.saturating_sub(half.app_offset());
                half.app_advance(count, false, memory);
                count > 0
            });
            *direction.of_mut(&mut place.fed) |= is_fed || is_end;
            end_of_tls(flow, direction, now_ns, is_end, config);
            return;
        }
        let Some(session) = &mut flow.tcp else { return };
        let is_midstream = session.is_midstream;
        let is_alone = direction.reverse().of(&session.halves).acked() == 0;
        let half = direction.of_mut(&mut session.halves);
        let ports = (flow.key.client_port, flow.key.server_port);
        let meta = Meta {
            config: &config.app,
            transport: Carrier::Tcp,
            ports,
            gap: 0,
            eof: false,
            is_midstream,
            offset: half.app_offset(),
            is_alone,
        };
        let next = if config.stream.is_inline && !is_end {
            half.app_next_inline()
        } else {
            half.app_next(is_end)
        };
        let (fed, count, is_gap) = match next {
            Some(Next::Data(bytes)) => {
                let fed = flow.app.feed(now_ns, direction, bytes, meta);
                let count = bytes.len().saturating_sub(fed.left) as u64;
                (fed, count, false)
            }
            Some(Next::Gap(gap)) => {
                (flow.app.feed(now_ns, direction, &[], Meta { gap, ..meta }), gap, true)
            }
            None if is_end && !*direction.of(&flow.is_eof) => {
                *direction.of_mut(&mut flow.is_eof) = true;
                (flow.app.feed(now_ns, direction, &[], Meta { eof: true, ..meta }), 0, false)
            }
            None => return,
        };
        // Of a protocol that is not known nothing is missed but its beginning.
        let is_gap = is_gap && (meta.offset == 0 || flow.app.proto().is_some());
        half.app_advance(count, is_gap, memory);
        if is_gap {
            session.note_loss();
        }
        *direction.of_mut(&mut place.fed) |= !fed.is_idle;
        if fed.hides != Hides::No {
            place.hides = fed.hides;
        }
        if fed.is_error {
            place.exceptions |= exception::APP_ERROR;
        }
        place.detection = fed.events.iter().find_map(Event::from_name).or(place.detection);
        // An end without a transaction changes nothing for anybody.
        let is_changed = fed.is_changed && flow.app.txs_len() > 0;
        if is_changed || fed.is_detected {
            place.is_app_changed = true;
            // That a protocol was found says nothing of its messages.
            if !fed.is_raw_waiting && is_changed {
                session.half_mut(direction).trigger_raw();
            }
        }
        *direction.of_mut(&mut flow.is_changed) |= is_changed;
        if is_changed && matches!(flow.app.proto(), Some(Proto::Http2 | Proto::Doh2)) {
            // A frame about the connection is of both directions.
            *direction.reverse().of_mut(&mut flow.is_changed) = true;
        }
        flow.is_app_done = fed.is_done;
        if fed.is_reversed {
            flow.swap();
            direction = direction.reverse();
            place.direction = place.direction.reverse();
        }
        // The rest is for the next packet, as in Suricata: this one shows what was before it.
        // At the end there is none.
        if fed.left > 0 && !is_end {
            return;
        }
    }
}

/// A handshake of which nothing more is read is over with the session.
fn end_of_tls(flow: &mut Flow, direction: Direction, now_ns: u64, is_end: bool, config: &Config) {
    let is_tls = matches!(flow.app.state, crate::app::State::Tls(_));
    if !is_end || !is_tls || *direction.of(&flow.is_eof) {
        return;
    }
    *direction.of_mut(&mut flow.is_eof) = true;
    let meta = Meta {
        config: &config.app,
        transport: Carrier::Tcp,
        ports: (flow.key.client_port, flow.key.server_port),
        gap: 0,
        eof: true,
        is_midstream: false,
        offset: 0,
        is_alone: false,
    };
    let fed = flow.app.feed(now_ns, direction, &[], meta);
    *direction.of_mut(&mut flow.is_changed) |= fed.is_changed;
}
