//! The end of flows: what is left is fed and shown, then everybody is told.

use super::{Engine, Inspector, packet::Place, tcp::feed};
use crate::{
    Direction,
    app::Hides,
    decode,
    flow::Reason,
    packet::{Origin, Packet},
    stream::TcpState,
};

impl Engine {
    /// Ends the flow in `slot`. For a timeout it lingers while Zeek's connection is still open.
    pub(super) fn end(&mut self, slot: u32, reason: Reason, inspector: &mut dyn Inspector) {
        let Some(entry) = self.table.get(slot) else { return };
        if !entry.is_ended {
            self.finish_flow(slot, reason, inspector);
        }
        let now_ns = self.now_ns;
        let Some(entry) = self.table.get_mut(slot) else { return };
        let is_lingering = reason == Reason::Timeout
            && !entry.is_ended
            && entry.flow.zeek.is_live()
            && !entry.flow.zeek.is_over(now_ns);
        if is_lingering {
            entry.is_ended = true;
            entry.flow.app = crate::app::App::default();
            self.table.touch(slot);
            return;
        }
        if entry.flow.zeek.is_live() {
            let connection = std::mem::take(&mut entry.flow.zeek);
            self.counters.history_cut += u64::from(connection.history_cut);
            inspector.connection_end(&entry.flow, &connection);
        }
        self.table.remove(slot);
    }

    /// Shows what is left of a flow and says that it is over; its slot stays.
    pub(super) fn finish_flow(&mut self, slot: u32, reason: Reason, inspector: &mut dyn Inspector) {
        let Some(entry) = self.table.get_mut(slot) else { return };
        let flow = &mut entry.flow;
        if flow.tcp.is_some() {
            let now_ns = flow.last_ns;
            let mut packet = decode::empty(now_ns, self.number, &[]);
            packet.origin = Origin::FlowEnd;
            packet.vlans = flow.vlans;
            for direction in Direction::BOTH {
                self.show_end(slot, direction, &packet, inspector);
            }
        }
        self.take_losses();
        self.forget_app(slot);
        let Some(entry) = self.table.get_mut(slot) else { return };
        let flow = &mut entry.flow;
        inspector.flow_end(flow, reason);
        if let Some(mut session) = flow.tcp.take() {
            for half in &mut session.halves {
                half.stop(&mut self.memory);
            }
        }
    }

    /// A flow is encrypted from the next packet on. Where what came until now is still of interest,
    /// it is shown first, the other direction before that of `packet`.
    pub(super) fn hide(
        &mut self,
        slot: u32,
        place: &Place,
        packet: &Packet<'_>,
        inspector: &mut dyn Inspector,
    ) {
        let Some(entry) = self.table.get_mut(slot) else { return };
        let flow = &mut entry.flow;
        flow.hidden.begin(place.hides == Hides::AtOnce);
        if place.hides == Hides::AtOnce {
            if let Some(session) = &mut flow.tcp {
                session.halves.iter_mut().for_each(crate::stream::Half::trigger_raw);
            }
            return;
        }
        self.flush(slot, place.direction, packet, inspector);
    }

    /// Shows what came until now, the other direction before that of `packet`: what follows is of
    /// another kind.
    pub(super) fn flush(
        &mut self,
        slot: u32,
        direction: Direction,
        packet: &Packet<'_>,
        inspector: &mut dyn Inspector,
    ) {
        let mut flush = decode::empty(packet.time_ns, self.number, &[]);
        flush.origin = Origin::FlowEnd;
        flush.is_flush = true;
        if let Some(entry) = self.table.get_mut(slot) {
            flush.vlans = entry.flow.vlans;
        }
        for direction in [direction.reverse(), direction] {
            let Some(entry) = self.table.get_mut(slot) else { return };
            let flow = &mut entry.flow;
            if let Some(session) = &mut flow.tcp {
                session.half_mut(direction).trigger_raw();
            }
            let place = Place {
                direction,
                is_established: true,
                // What is over is told now: afterwards it is forgotten.
                is_app_changed: true,
                ..Place::NONE
            };
            inspector.packet(&mut place.view(&flush, None, Some(flow)));
            self.after(slot, direction, inspector.reads_raw_streams());
        }
    }

    fn show_end(
        &mut self,
        slot: u32,
        direction: Direction,
        packet: &Packet<'_>,
        inspector: &mut dyn Inspector,
    ) {
        let Some(entry) = self.table.get_mut(slot) else { return };
        let flow = &mut entry.flow;
        let mut place = Place {
            direction,
            is_first: false,
            is_established: flow.is_established(),
            is_in_stream: false,
            is_stream_end: true,
            is_payload_hidden: flow.hidden.has_payload(),
            ..Place::NONE
        };
        let is_unknown = flow.app.proto().is_none() && !flow.app.is_failed();
        let mut is_unread = false;
        if let Some(session) = &mut flow.tcp {
            let half = session.half_mut(direction);
            // Bytes whose protocol was never found were never read, nor were those that nobody
            // acknowledged.
            is_unread = is_unknown && half.has_begun();
            is_unread |= flow.app.proto().is_some() && half.has_unacked();
            half.finish();
            let is_open = (TcpState::Established..TcpState::Closed).contains(&session.state);
            is_unread |= is_open && flow.app.pending().is_none();
        }
        feed(flow, direction, packet.time_ns, true, &self.config, &mut self.memory, &mut place);
        let has_raw = flow.raw(direction).is_some() && inspector.reads_raw_streams();
        let is_waiting = *direction.of(&flow.is_changed) || flow.app.txs_len() > 0;
        if has_raw || is_waiting || is_unread || place.is_app_changed {
            place.direction = direction;
            inspector.packet(&mut place.view(packet, None, Some(flow)));
        }
        self.after(slot, direction, inspector.reads_raw_streams());
    }
}
