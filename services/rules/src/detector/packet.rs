//! Rules for addresses, packets and streams.

use hookprobe_traffic::{
    Direction,
    app::Proto,
    engine::View,
    packet::{Origin, Packet, Transport},
    stream::TcpState,
};

use super::{Hit, Work, has_app};
use crate::{
    buffer::packet_data,
    prefilter::{Class, Unfound},
    rule::{AppName, Kind, Rule, Test, Transports},
    state::{IP_DONE, PROTO_KNOWN},
};

impl Work<'_> {
    pub(super) fn packet_rules(&mut self, view: &View<'_, '_>) {
        self.ip_only(view);
        let is_proto_new = self.is_proto_new(view);
        self.collect(view);
        let mut index = 0;
        while let Some(order) = self.candidates.get(index) {
            index += 1;
            let rules = self.rules;
            if let Some(rule) = rules.rule(order)
                && (is_proto_new || rule.kind != Kind::ProtocolOnly)
            {
                self.packet_rule(rule, view);
            }
        }
    }

    /// Detection of the protocol has ended for the packet's direction, and this is its first packet
    /// since: the only one that rules for the protocol alone are about.
    fn is_proto_new(&mut self, view: &View<'_, '_>) -> bool {
        let Some(flow) = view.flow.as_deref() else { return false };
        let is_udp = matches!(view.packet.transport, Transport::Udp { .. });
        let known = Direction::BOTH.map(|direction| match direction.of(&flow.app.sides) {
            Some(proto) => Some(*proto),
            None if flow.app.is_failed() => Some(Proto::Failed),
            None if is_udp => Some(flow.app.proto().unwrap_or(Proto::Failed)),
            None => None,
        });
        let met = &mut self.state.met;
        let before = *met & PROTO_KNOWN << view.direction.index();
        for (direction, known) in Direction::BOTH.into_iter().zip(known) {
            let bit = PROTO_KNOWN << direction.index();
            *met = (*met & !bit) | if known.is_some() { bit } else { 0 };
        }
        if !has_app(view) || view.packet.origin == Origin::FlowEnd {
            return false;
        }
        let Some(proto) = *view.direction.of(&known) else { return false };
        if is_udp {
            // Datagrams are tried twice in each direction, whatever the first has shown.
            return flow.side(view.direction).packets <= 2;
        }
        if before == 0 && !self.is_inline {
            // What acknowledges bytes by which its own direction is known is before that.
            return false;
        }
        // What follows STARTTLS is new.
        view.direction.of_mut(&mut self.state.proto_done).replace(proto) != Some(proto)
    }

    fn ip_only(&mut self, view: &View<'_, '_>) {
        if view.packet.ip.is_none() {
            return;
        }
        // An error is no packet of the flow that it is about.
        let is_icmp = matches!(view.packet.transport, Transport::Icmp(_));
        if view.flow.as_deref().is_some_and(|flow| is_icmp && flow.key.protocol != 1) {
            return;
        }
        if view.flow.is_some() {
            let bit = IP_DONE << view.direction.index();
            if self.state.met & bit != 0 {
                return;
            }
            self.state.met |= bit;
        }
        let rules = self.rules;
        for order in &rules.prefilter.ip_only {
            let Some(rule) = rules.rule(*order) else { continue };
            if self.header_fits(rule, view)
                && rule.tests.iter().all(|test| self.holds(test, view, None))
            {
                self.hit(rule, view, None, false, Vec::new());
            }
        }
    }

    /// The candidates: what the searches find in payload and stream, and what they can't find.
    fn collect(&mut self, view: &View<'_, '_>) {
        self.candidates.clear();
        let rules = self.rules;
        let prefilter = &rules.prefilter;
        let is_end = view.packet.origin == Origin::FlowEnd;
        let class = if is_end { Class::Tcp } else { Class::of(&view.packet.transport) };
        if let Some(always) = prefilter.packet_always(class) {
            if !view.packet.events.is_empty() {
                self.add_unfound(&always.events, view);
            }
            self.add_unfound(&always.others, view);
        }
        if view.is_payload_hidden {
            // No search is made any more; what needs none may still match.
            self.candidates.sort();
            return;
        }
        prefilter.in_payload(class, view.is_in_stream, payload_of(view.packet), self.candidates);
        for raw in super::raws(view) {
            prefilter.in_stream(raw.bytes, self.candidates);
        }
        self.candidates.sort();
    }

    fn add_unfound(&mut self, rules: &[Unfound], view: &View<'_, '_>) {
        for unfound in rules {
            let is_app = unfound.app.is_none_or(|app| is_app(app, view));
            if is_app && unfound.test.as_ref().is_none_or(|test| self.holds(test, view, None)) {
                for rule in &unfound.rules {
                    self.candidates.add(*rule);
                }
            }
        }
    }

    fn packet_rule(&mut self, rule: &Rule, view: &View<'_, '_>) {
        if view.packet.origin == Origin::FlowEnd && self.is_blind_at_end(rule, view) {
            return;
        }
        if rule.app.is_some_and(|app| !is_app(app, view))
            || !self.tests_hold_here(rule, view)
            || !self.header_fits(rule, view)
        {
            return;
        }
        let mut scan = Self::scan(self.sets, rule);
        for found in rule.packet_buffers.iter() {
            let Some(data) = packet_data(found.buffer, view.packet) else { return };
            let data = found.transforms.iter().fold(data, |data, transform| transform.apply(data));
            if !scan.matches(&found.ops, &data, 0, true) {
                return;
            }
        }
        let mut is_stream = false;
        if !rule.payload.is_empty() || !rule.base64.is_empty() {
            match payload(rule, view, &mut scan) {
                Some(found) => is_stream = found,
                None => return,
            }
        }
        let (captures, contexts) = (scan.captures, scan.contexts);
        self.keep(captures);
        self.hit(rule, view, None, is_stream, contexts);
    }

    /// The packets that end a flow are none: rules for packets don't see them, and to those for a
    /// protocol alone they are of no established flow. Where both ends have closed the flow they
    /// come for what was not yet inspected only.
    fn is_blind_at_end(&self, rule: &Rule, view: &View<'_, '_>) -> bool {
        match rule.kind {
            // What asks for no header is asked where a flow is hidden from now on.
            Kind::Packet => !view.packet.is_flush,
            Kind::AppLayer => {
                let is_established = |test: &Test| matches!(test, Test::Flow(flow) if flow.is_established == Some(true));
                rule.tests.iter().any(is_established) || self.is_all_inspected(view)
            }
            _ => false,
        }
    }

    fn is_all_inspected(&self, view: &View<'_, '_>) -> bool {
        let Some(flow) = view.flow.as_deref() else { return true };
        let side = view.direction.index();
        let is_closed = flow.tcp.as_ref().is_some_and(|session| {
            session.state == TcpState::Closed && !session.half(view.direction).has_unacked()
        });
        is_closed
            && flow.app.txs().filter(|tx| tx.has_direction(view.direction)).all(|tx| {
                let known = self.state.txs.iter().find(|known| known.id == tx.id());
                known.is_some_and(|known| known.is_done.get(side) == Some(&true))
            })
    }

    /// Suricata searches the payload of what is neither TCP nor UDP for the rules of both directions,
    /// and a direction alone is nothing that it tests.
    fn tests_hold_here(&self, rule: &Rule, view: &View<'_, '_>) -> bool {
        let is_sorted = matches!(view.packet.transport, Transport::Tcp(_) | Transport::Udp { .. });
        let is_found = !is_sorted
            && view.packet.origin != Origin::FlowEnd
            && crate::prefilter::best(&rule.payload).is_some();
        let is_way = |test: &Test| matches!(test, Test::Flow(flow) if flow.is_way_only());
        rule.tests.iter().all(|test| (is_found && is_way(test)) || self.holds(test, view, None))
    }

    pub(super) fn header_fits(&self, rule: &Rule, view: &View<'_, '_>) -> bool {
        let header = &rule.header;
        if let (Origin::FlowEnd, Some(flow)) = (view.packet.origin, view.flow.as_deref()) {
            return end_fits(header, flow, view.direction);
        }
        if !transport_fits(header.transports, view) {
            return false;
        }
        match view.packet.ip.as_ref() {
            Some(_) if header.is_any => true,
            Some(ip) => header.fits(ip.source, ip.destination, view.packet.ports()),
            None => header.transports.is_arp || header.transports.is_frame,
        }
    }

    /// Notes a match.
    pub(super) fn hit(
        &mut self,
        rule: &Rule,
        view: &View<'_, '_>,
        tx_id: Option<u64>,
        is_stream: bool,
        contexts: Vec<(String, String)>,
    ) {
        self.post(rule, view, tx_id);
        let is_state = tx_id.is_some();
        let (mut tx_id, mut has_tx, mut is_guessed) = (tx_id, is_state, false);
        if !is_state && rule.kind != Kind::IpOnly {
            (tx_id, has_tx, is_guessed) = self.guess(rule, view);
        }
        self.hits.push(Hit {
            rule: rule.order,
            tx_id,
            has_tx,
            is_guessed,
            is_state,
            is_stream,
            contexts,
        });
    }

    /// The transaction that an alert for a packet may show.
    fn guess(&mut self, rule: &Rule, view: &View<'_, '_>) -> (Option<u64>, bool, bool) {
        let Some(flow) = view.flow.as_deref() else { return (None, false, false) };
        let is_udp = matches!(view.packet.transport, Transport::Udp { .. });
        let side = view.direction.index();
        // Those that this direction is done with are history.
        let mut txs = flow.app.txs().filter(|tx| {
            let known = self.state.txs.iter().find(|known| known.id == tx.id());
            let is_done = known.is_some_and(|known| known.is_done.get(side) == Some(&true));
            tx.has_direction(view.direction) && (is_udp || !is_done)
        });
        let Some(tx) = txs.next() else { return (None, false, false) };
        let is_only = txs.next().is_none();
        if is_udp && rule.app.is_some() {
            return (Some(tx.id()), true, false);
        }
        if self.rules.config.is_tx_guessed && is_only {
            let id = tx.id();
            let state = self.tx_state(id);
            if std::mem::replace(&mut state.guessed, true) {
                return (Some(id), false, false);
            }
            return (Some(id), true, !is_udp);
        }
        (None, false, false)
    }
}

/// Encapsulating security payload (RFC 4303), and its header of index and sequence number.
const ESP: u8 = 50;
const ESP_HEADER_BYTES: usize = 8;

/// What a packet carries; of a fragment Suricata looks at nothing.
pub(super) fn payload_of<'a>(packet: &Packet<'a>) -> &'a [u8] {
    match packet.transport {
        _ if packet.is_fragment() => &[],
        Transport::Other(ESP) => packet.payload.get(ESP_HEADER_BYTES..).unwrap_or_default(),
        // Of protocols that it does not know Suricata knows no payload.
        Transport::Other(_) => &[],
        _ => packet.payload,
    }
}

/// Its protocol; that of a fragment of IPv6 is the fragment's.
pub(super) fn protocol_of(packet: &Packet<'_>) -> Option<u8> {
    const IP6_FRAGMENT: u8 = 44;
    if packet.is_ip6_fragment() { Some(IP6_FRAGMENT) } else { packet.protocol() }
}

/// Whether the packet's flow is of a protocol that counts for it.
fn is_app(app: AppName, view: &View<'_, '_>) -> bool {
    let flow = view.flow.as_deref().filter(|_| has_app(view));
    flow.is_some_and(|flow| app.fits(flow.app.proto(), flow.app.is_failed()))
}

/// The header against the key of a flow that ends: its last packets have no headers.
fn end_fits(
    header: &crate::rule::Header,
    flow: &hookprobe_traffic::flow::Flow,
    direction: hookprobe_traffic::Direction,
) -> bool {
    let key = match direction {
        hookprobe_traffic::Direction::ToServer => flow.key,
        hookprobe_traffic::Direction::ToClient => flow.key.reversed(),
    };
    let wanted = header.transports;
    let version = if key.client.is_ipv4() { 4 } else { 6 };
    let is_carried = wanted.is_any || wanted.is_tcp;
    is_carried
        && wanted.version.is_none_or(|wanted| wanted == version)
        && header.fits(key.client, key.server, Some((key.client_port, key.server_port)))
}

/// Whether the payload matches, and if so whether it was the stream that did.
pub(super) fn payload(
    rule: &Rule,
    view: &View<'_, '_>,
    scan: &mut crate::chain::Scan<'_>,
) -> Option<bool> {
    let is_tcp =
        matches!(view.packet.transport, Transport::Tcp(_)) || view.packet.origin == Origin::FlowEnd;
    if is_tcp && rule.needs_stream {
        let mut raws = super::raws(view);
        if raws.any(|raw| scan.matches(&rule.payload, raw.bytes, 0, false)) {
            return Some(true);
        }
        if (!rule.needs_packet && view.is_in_stream) || rule.only_stream {
            return None;
        }
    } else if rule.only_stream {
        return None;
    }
    let packet = view.packet;
    // A packet that brings bytes of its stream is looked at even if it carries none itself.
    let is_nothing = payload_of(packet).is_empty() && !(is_tcp && super::tests::has_raw(view));
    if packet.origin == Origin::FlowEnd || is_nothing || packet.is_carrier {
        return None;
    }
    if view.is_payload_hidden && !super::tests::has_raw(view) {
        return None;
    }
    scan.matches(&rule.payload, payload_of(packet), 0, true).then_some(false)
}

fn transport_fits(wanted: Transports, view: &View<'_, '_>) -> bool {
    let packet = view.packet;
    let version = packet.ip.as_ref().map(|ip| ip.version());
    if wanted.version.is_some() && wanted.version != version {
        return false;
    }
    if wanted.is_frame {
        return true;
    }
    if wanted.is_any {
        return packet.ip.is_some();
    }
    match packet.transport {
        Transport::Tcp(_) => wanted.is_tcp,
        Transport::Udp { .. } => wanted.is_udp,
        Transport::Icmp(_) => wanted.is_icmp,
        Transport::Icmp6(_) => wanted.is_icmp6,
        Transport::Sctp { .. } => wanted.is_sctp,
        Transport::Other(_) => match protocol_of(packet) {
            Some(6) => wanted.is_tcp,
            Some(17) => wanted.is_udp,
            Some(1) => wanted.is_icmp,
            Some(58) => wanted.is_icmp6,
            Some(132) => wanted.is_sctp,
            _ => false,
        },
        Transport::None => wanted.is_arp && packet.arp.is_some(),
    }
}
