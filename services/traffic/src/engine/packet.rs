//! One packet: its flow, its connection, its stream, its inspectors.

use super::{Engine, Inspector, View, exception};
use crate::{
    Direction,
    app::{Hides, Meta, Transport as Carrier},
    checksum, config, decode,
    event::Event,
    flow::{Fate, Flow, Key, Reason, State, is_timed_out},
    packet::{Packet, Transport},
    stream::TcpState,
    zeek::{Connection, Kind, Seen},
};

/// Protocols of IP whose flows have two directions.
const ICMP: u8 = 1;
const TCP: u8 = 6;
const UDP: u8 = 17;
const ICMP6: u8 = 58;
const SCTP: u8 = 132;

/// What is known of a packet's place before inspectors see it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub(super) direction: Direction,
    pub(super) is_first: bool,
    pub(super) is_established: bool,
    pub(super) is_refused: bool,
    pub(super) is_in_stream: bool,
    pub(super) is_stream_end: bool,
    pub(super) exceptions: u8,
    pub(super) is_app_changed: bool,
    pub(super) fed: [bool; 2],
    pub(super) is_payload_hidden: bool,
    /// What the application layer says of encryption.
    pub(super) hides: Hides,
    /// What protocol detection found odd.
    pub(super) detection: Option<Event>,
}

impl Place {
    pub(super) const NONE: Self = Self {
        direction: Direction::ToServer,
        is_first: false,
        is_established: false,
        is_refused: false,
        is_in_stream: false,
        is_stream_end: false,
        exceptions: 0,
        is_app_changed: false,
        fed: [false; 2],
        is_payload_hidden: false,
        hides: Hides::No,
        detection: None,
    };

    pub(super) const fn view<'v, 'a>(
        self,
        packet: &'v Packet<'a>,
        outer: Option<&'v Packet<'a>>,
        flow: Option<&'v mut Flow>,
    ) -> View<'v, 'a> {
        View {
            packet,
            outer,
            flow,
            direction: self.direction,
            is_first: self.is_first,
            is_established: self.is_established,
            is_refused: self.is_refused,
            is_in_stream: self.is_in_stream,
            is_stream_end: self.is_stream_end,
            exceptions: self.exceptions,
            is_app_changed: self.is_app_changed,
            fed: self.fed,
            is_payload_hidden: self.is_payload_hidden,
        }
    }
}

/// The packet's flow has done with its protocol and waits for the first bytes of another.
fn is_changing(packet: &Packet<'_>, flow: &Flow) -> bool {
    matches!(packet.transport, Transport::Tcp(_))
        && flow.app.pending().is_some()
        && flow.fate == Fate::Followed
}

/// What is known of a flow that nobody follows any more: flags, and that both sides speak.
fn pass_by(flow: &mut Flow, packet: &Packet<'_>, direction: Direction) {
    if let Transport::Tcp(tcp) = packet.transport {
        if let Some(session) = &mut flow.tcp {
            session.half_mut(direction).flags_seen |= tcp.flags.0;
        }
    } else if flow.has_packets(direction.reverse()) {
        flow.state = State::Established;
    }
}

impl Engine {
    pub(super) fn inspect<'a>(
        &mut self,
        packet: &mut Packet<'a>,
        outer: Option<&Packet<'a>>,
        exceptions: u8,
        inspector: &mut dyn Inspector,
    ) {
        let is_vlan_used = self.config.flow.is_vlan_used;
        let key = Key::of(packet, is_vlan_used)
            .filter(|_| has_flow(packet) && self.config.flow.flows_max > 0);
        let Some(key) = key else {
            let place = Place { exceptions, ..Place::NONE };
            return inspector.packet(&mut place.view(packet, outer, None));
        };
        if let Some(error) = error_key(packet, is_vlan_used) {
            return self.error(packet, outer, [Some(key), error], inspector);
        }
        if key.is_zeeks_alone() {
            if has_connections(key.protocol) && !packet.is_outside_wrong {
                self.connection_alone(packet, &key, inspector);
            }
            return inspector.packet(&mut Place::NONE.view(packet, outer, None));
        }
        if self.config.flow.no_memory_at == Some(self.number) {
            let place = Place { exceptions: exception::FLOW_MEMORY, ..Place::NONE };
            return inspector.packet(&mut place.view(packet, outer, None));
        }
        let (slot, direction, is_new) = self.find_or_make(packet, &key, inspector);
        self.connection(slot, packet, direction, inspector);
        // To Suricata all packets of other protocols go to the server.
        let has_ways = matches!(key.protocol, ICMP | TCP | UDP | ICMP6 | SCTP);
        let direction = if has_ways { direction } else { Direction::ToServer };
        let Some(entry) = self.table.get_mut(slot) else { return };
        let flow = &mut entry.flow;
        let is_first = is_new || !flow.has_packets(direction);
        flow.count(packet, direction);
        let is_payload_hidden = flow.hidden.has_payload();
        let mut place = Place { direction, is_first, is_payload_hidden, ..Place::NONE };
        match packet.transport {
            _ if flow.fate != Fate::Followed => pass_by(flow, packet, direction),
            Transport::Tcp(tcp) => self.tcp(slot, packet, &tcp, &mut place),
            Transport::Udp { .. } => self.udp(slot, packet, &mut place),
            _ => self.other(slot, &mut place),
        }
        self.table.touch(slot);
        if place.hides != Hides::No && !is_payload_hidden {
            self.hide(slot, &place, packet, inspector);
        }
        if self.table.get_mut(slot).is_some_and(|entry| is_changing(packet, &entry.flow)) {
            self.flush(slot, place.direction, packet, inspector);
        }
        let Some(entry) = self.table.get_mut(slot) else { return };
        let is_inline = self.config.stream.is_inline;
        match changed(packet, &entry.flow, place.direction, is_inline, place.is_in_stream) {
            None => inspector.packet(&mut place.view(packet, outer, Some(&mut entry.flow))),
            Some(mut bytes) => {
                sum_again(packet, &mut bytes, &self.config.decode);
                let packet = decode::decode_again(packet, &bytes, &self.config.decode);
                inspector.packet(&mut place.view(&packet, outer, Some(&mut entry.flow)));
            }
        }
        self.after(slot, place.direction, inspector.reads_raw_streams());
    }

    /// A connection to Zeek that is no flow to Suricata.
    fn connection_alone(&mut self, packet: &Packet<'_>, own: &Key, inspector: &mut dyn Inspector) {
        if !self.config.flow.has_connections {
            return;
        }
        let hash = self.table.hash(own);
        let (slot, direction) = self.table.find(own, hash).unwrap_or_else(|| {
            let slot = self.make(own, hash, packet.time_ns, inspector);
            if let Some(entry) = self.table.get_mut(slot) {
                entry.is_ended = true;
            }
            (slot, Direction::ToServer)
        });
        self.connection(slot, packet, direction, inspector);
        self.table.touch(slot);
    }

    /// An ICMP error: part of the flow that it is about, but a connection of its own to Zeek.
    fn error<'a>(
        &mut self,
        packet: &Packet<'a>,
        outer: Option<&Packet<'a>>,
        [own, about]: [Option<Key>; 2],
        inspector: &mut dyn Inspector,
    ) {
        if let Some(own) = own {
            self.connection_alone(packet, &own, inspector);
        }
        let found = about.and_then(|key| self.table.find(&key, self.table.hash(&key)));
        let Some((slot, quoted)) = found else {
            return inspector.packet(&mut Place::NONE.view(packet, outer, None));
        };
        let Some(entry) = self.table.get_mut(slot).filter(|entry| !entry.is_ended) else {
            return inspector.packet(&mut Place::NONE.view(packet, outer, None));
        };
        // The error goes back to who sent what it quotes.
        let direction = quoted.reverse();
        entry.flow.count(packet, direction);
        let is_established = entry.flow.is_established();
        // Who is counted goes to the end of its list: else errors about one flow, sent often enough,
        // would keep it at the head and all behind it from ever ending.
        self.table.touch(slot);
        let Some(entry) = self.table.get_mut(slot) else { return };
        let place = Place { direction, is_established, ..Place::NONE };
        inspector.packet(&mut place.view(packet, outer, Some(&mut entry.flow)));
    }

    /// The flow of `packet`, its direction in it, and whether it begins it.
    fn find_or_make(
        &mut self,
        packet: &Packet<'_>,
        key: &Key,
        inspector: &mut dyn Inspector,
    ) -> (u32, Direction, bool) {
        let hash = self.table.hash(key);
        let Some((slot, direction)) = self.table.find(key, hash) else {
            return (self.make(key, hash, packet.time_ns, inspector), Direction::ToServer, true);
        };
        let Some(entry) = self.table.get(slot) else { return (slot, direction, false) };
        let reason = if entry.is_ended {
            None
        } else if is_timed_out(&entry.flow, packet.time_ns, &self.config.flow) {
            Some(Reason::Timeout)
        } else if is_reused(&entry.flow, packet, direction) {
            Some(Reason::Reused)
        } else {
            return (slot, direction, false);
        };
        if let Some(reason) = reason {
            self.finish_flow(slot, reason, inspector);
        }
        // In the same place, because Zeek's connection may go on.
        self.last_id += 1;
        self.counters.flows += 1;
        let (id, now_ns) = (self.last_id, packet.time_ns);
        if let Some(entry) = self.table.get_mut(slot) {
            entry.is_ended = false;
            let old = std::mem::replace(&mut entry.flow, Flow::new(id, *key, now_ns));
            entry.flow.slot = slot;
            entry.flow.zeek = old.zeek;
            if old.key != *key {
                entry.flow.zeek.flow_swapped();
            }
        }
        (slot, Direction::ToServer, true)
    }

    fn make(&mut self, key: &Key, hash: u32, now_ns: u64, inspector: &mut dyn Inspector) -> u32 {
        while self.table.len() >= self.config.flow.flows_max as usize {
            let Some(oldest) = self.table.oldest() else { break };
            let is_ended = self.table.get(oldest).is_some_and(|entry| entry.is_ended);
            self.counters.flows_evicted += u64::from(!is_ended);
            self.end(oldest, Reason::Evicted, inspector);
        }
        self.last_id += 1;
        self.counters.flows += 1;
        self.table.insert(Flow::new(self.last_id, *key, now_ns), hash)
    }

    /// Zeek's view of the packet.
    fn connection(
        &mut self,
        slot: u32,
        packet: &Packet<'_>,
        direction: Direction,
        inspector: &mut dyn Inspector,
    ) {
        let is_wanted = self.config.flow.has_connections && !packet.is_outside_wrong;
        if !is_wanted || !packet.protocol().is_some_and(has_connections) {
            return;
        }
        let Some(entry) = self.table.get_mut(slot) else { return };
        let flow = &mut entry.flow;
        let is_from_client = direction == Direction::ToServer;
        let ip_bytes = packet.ip.map_or(0, |ip| u64::from(ip.total_bytes));
        let kind = match packet.transport {
            Transport::Tcp(_) => Kind::Tcp,
            Transport::Udp { .. } => Kind::Udp,
            Transport::Icmp(_) | Transport::Icmp6(_) => Kind::Icmp,
            _ => Kind::Other,
        };
        let payload = match packet.transport {
            // Zeek counts behind eight bytes whatever the type.
            Transport::Icmp(_) | Transport::Icmp6(_) => {
                packet.ip.map_or(0, |ip| ip.payload.len().saturating_sub(8))
            }
            _ => packet.payload.len(),
        };
        let seen = Seen {
            time_ns: packet.time_ns,
            is_from_client,
            ip_bytes,
            payload_bytes: payload as u64,
            is_checksum_wrong: packet.is_checksum_wrong,
            ports: packet.ports().unwrap_or((0, 0)),
        };
        let is_reused = match &packet.transport {
            Transport::Tcp(tcp) => flow.zeek.is_reused_by(tcp),
            _ => false,
        };
        let is_over = flow.zeek.is_live() && (flow.zeek.is_over(packet.time_ns) || is_reused);
        if is_over {
            let connection = std::mem::take(&mut flow.zeek);
            self.counters.history_cut += u64::from(connection.history_cut);
            inspector.connection_end(flow, &connection);
        }
        let is_new = !flow.zeek.is_live();
        if is_new {
            flow.zeek = Connection::begin(kind, packet.time_ns, is_from_client, seen.ports);
        }
        match &packet.transport {
            Transport::Tcp(tcp) => flow.zeek.segment(&seen, tcp, is_new),
            _ => flow.zeek.packet(&seen),
        }
    }

    fn udp(&mut self, slot: u32, packet: &Packet<'_>, place: &mut Place) {
        let Some(entry) = self.table.get_mut(slot) else { return };
        let flow = &mut entry.flow;
        place.is_established = flow.is_both_ways();
        if place.is_established {
            flow.state = State::Established;
        }
        if flow.is_app_done || packet.payload.is_empty() {
            return;
        }
        let meta = Meta {
            config: &self.config.app,
            transport: Carrier::Udp,
            ports: (flow.key.client_port, flow.key.server_port),
            gap: 0,
            eof: false,
            is_midstream: false,
            offset: 0,
            is_alone: false,
        };
        let fed = flow.app.feed(packet.time_ns, place.direction, packet.payload, meta);
        flow.is_app_done = fed.is_done;
        *place.direction.of_mut(&mut flow.is_changed) |= fed.is_changed;
        place.is_app_changed = fed.is_changed || fed.is_detected;
        if fed.is_error {
            place.exceptions |= exception::APP_ERROR;
        }
        if fed.is_reversed {
            flow.swap();
            flow.zeek.client_began();
            place.direction = place.direction.reverse();
        }
    }

    fn other(&mut self, slot: u32, place: &mut Place) {
        let Some(entry) = self.table.get_mut(slot) else { return };
        place.is_established = entry.flow.is_both_ways();
        if place.is_established {
            entry.flow.state = State::Established;
        }
    }

    /// After inspectors saw a packet: frees what all of them have seen.
    pub(super) fn after(&mut self, slot: u32, direction: Direction, is_raw_read: bool) {
        let Some(entry) = self.table.get_mut(slot) else { return };
        let flow = &mut entry.flow;
        if flow.fate != Fate::Followed && !flow.is_app_done {
            self.abandon(slot);
            self.forget_app(slot);
            return;
        }
        *direction.of_mut(&mut flow.is_changed) = false;
        if flow.is_changed == [false; 2] {
            flow.app.prune();
        }
        let cut = std::mem::take(&mut flow.app.cut_bytes);
        self.counters.app_cut_bytes += u64::from(cut);
        self.counters.app_dropped += flow.app.newly_dropped();
        self.count_app(slot);
        let Some(entry) = self.table.get_mut(slot) else { return };
        let flow = &mut entry.flow;
        let Some(session) = &mut flow.tcp else { return };
        flow.hidden.shown(direction);
        for (half, own) in session.halves.iter_mut().zip(Direction::BOTH) {
            let is_raw_read = is_raw_read && !flow.hidden.has_stream(own);
            half.slide(flow.is_app_done, is_raw_read, &self.config.stream, &mut self.memory);
        }
    }
}

impl Engine {
    /// Gives up what is held of a flow that nobody follows any more.
    pub(super) fn abandon(&mut self, slot: u32) {
        let Some(entry) = self.table.get_mut(slot) else { return };
        let flow = &mut entry.flow;
        flow.is_app_done = true;
        flow.app.abandon();
        if let Some(session) = &mut flow.tcp {
            for half in &mut session.halves {
                half.stop(&mut self.memory);
            }
        }
    }
}

/// Inline, a segment that says otherwise than what came first is passed on with the bytes that
/// count: the packet as the receiver gets it.
fn changed(
    packet: &Packet<'_>,
    flow: &Flow,
    direction: Direction,
    is_inline: bool,
    is_in_stream: bool,
) -> Option<Vec<u8>> {
    if !is_inline || !is_in_stream {
        return None;
    }
    let Transport::Tcp(tcp) = packet.transport else { return None };
    let held = flow.tcp.as_ref()?.half(direction).at(tcp.seq, packet.payload.len())?;
    if held == packet.payload {
        return None;
    }
    let at = packet.payload.as_ptr().addr().checked_sub(packet.data.as_ptr().addr())?;
    let mut bytes = packet.data.to_vec();
    bytes.get_mut(at..at + held.len())?.copy_from_slice(held);
    Some(bytes)
}

/// Other bytes, another checksum.
fn sum_again(packet: &Packet<'_>, bytes: &mut [u8], config: &config::Decode) {
    let Transport::Tcp(tcp) = packet.transport else { return };
    let Some(at) = tcp.header.as_ptr().addr().checked_sub(packet.data.as_ptr().addr()) else {
        return;
    };
    let field = at + 16..at + 18;
    if let Some(sum) = bytes.get_mut(field.clone()) {
        sum.fill(0);
    }
    let sum = decode::decode_again(packet, bytes, config)
        .ip
        .map(|ip| checksum::transport(&ip, ip.payload));
    if let (Some(sum), Some(place)) = (sum, bytes.get_mut(field)) {
        place.copy_from_slice(&sum.to_be_bytes());
    }
}

/// A header above IP that could be read names a flow, whatever else is wrong with the packet.
const fn has_flow(packet: &Packet<'_>) -> bool {
    !packet.is_invalid || !matches!(packet.transport, Transport::Other(_) | Transport::None)
}

/// Whether Zeek makes connections of a protocol: not of IGMP, ESP, IPv6's mobility header, and not of the
/// outside of IP in IP and GRE.
const fn has_connections(protocol: u8) -> bool {
    !matches!(protocol, 2 | 4 | 41 | 47 | 50 | 135)
}

/// For errors of ICMP: whose flow they are about, if they tell. Suricata follows only what says that
/// something was not reached; an error of `ICMPv6` is a flow of its own.
fn error_key(packet: &Packet<'_>, is_vlan_used: bool) -> Option<Option<Key>> {
    let Transport::Icmp(icmp) = packet.transport else { return None };
    match icmp.kind {
        3 => Some(Key::of_error(packet, is_vlan_used)),
        4 | 5 | 11 | 12 => Some(None),
        _ => None,
    }
}

/// A SYN begins a new flow where the old one has ended or never had a session.
fn is_reused(flow: &Flow, packet: &Packet<'_>, direction: Direction) -> bool {
    let Transport::Tcp(tcp) = packet.transport else { return false };
    use crate::packet::TcpFlags;
    if !tcp.flags.has(TcpFlags::SYN) || !tcp.flags.lacks(TcpFlags::ACK) {
        return false;
    }
    match &flow.tcp {
        None => true,
        Some(session) => {
            let is_done = session.state >= TcpState::TimeWait
                && !matches!(session.state, TcpState::CloseWait | TcpState::Closing);
            is_done && !(direction == Direction::ToServer && session.is_syn_of(tcp.seq))
        }
    }
}
