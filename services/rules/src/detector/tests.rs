//! Tests of packets and flows.

use hookprobe_traffic::{
    Direction,
    app::Proto,
    decode::is_ip4_option_right,
    engine::View,
    flow::Flow,
    packet::{Ip, Origin, TcpOptions, Transport, extension},
};

use super::Work;
use crate::{
    number::Compare,
    rule::{AppAt, AppName, Bits, FlagMode, FlowTest, Layer, Owner, Side, Test, VlanLayer},
};

const SECOND_NS: u64 = 1_000_000_000;
/// FIN, SYN, RST.
const BEGIN_OR_END: u8 = 0x07;
/// URG, ECE, CWR.
const UNUSUAL: u8 = 0xe0;

impl Work<'_> {
    pub(super) fn holds(&self, test: &Test, view: &View<'_, '_>, tx_id: Option<u64>) -> bool {
        let packet = view.packet;
        match test {
            Test::Flow(test) => flow_fits(*test, view),
            Test::Bits { bits, is_set } => self.bits_fit(bits, *is_set, view, tx_id),
            Test::FlowInt { name, test } => view.flow.is_some() && self.state.holds(*name, *test),
            Test::FlowVar { name, value } => self.state.has_variable(name, value),
            Test::FlowPackets(side, compare) => view
                .flow
                .as_deref()
                .is_some_and(|flow| counters_fit(flow, *side, *compare, |side| side.packets)),
            Test::FlowBytes(side, compare) => view
                .flow
                .as_deref()
                .is_some_and(|flow| counters_fit(flow, *side, *compare, |side| side.bytes)),
            Test::FlowAge(compare) => view.flow.as_deref().is_some_and(|flow| {
                // Seconds as the clock has them, not the time between.
                compare.fits((flow.last_ns / SECOND_NS).saturating_sub(flow.first_ns / SECOND_NS))
            }),
            Test::StreamSize { side, compare } => {
                view.flow.as_deref().is_some_and(|flow| stream_size(flow, *side, *compare))
            }
            Test::AppProto { name, is_negated, at } => {
                app_proto_fits(view, *name, *is_negated, *at)
            }
            Test::Event(event) => packet.events.has(*event),
            Test::Size(compare) => {
                packet.origin != Origin::FlowEnd && self.size_fits(*compare, view)
            }
            test => packet.origin != Origin::FlowEnd && header_holds(test, view),
        }
    }

    fn bits_fit(&self, bits: &Bits, is_set: bool, view: &View<'_, '_>, tx_id: Option<u64>) -> bool {
        let ends = Self::ends(view);
        let mut found = bits.bits.iter().map(|bit| self.has_bit(bits.owner, *bit, ends, tx_id));
        let has_owner = view.flow.is_some() || bits.owner != Owner::Flow;
        has_owner && found.any(|bit| bit == is_set)
    }

    /// A packet that brings bytes of its stream to be looked at is not empty to Suricata, one whose
    /// payload is hidden is.
    fn size_fits(&self, compare: Compare, view: &View<'_, '_>) -> bool {
        let packet = view.packet;
        let payload = super::packet::payload_of(packet);
        if !compare.fits(payload.len() as u64) {
            return false;
        }
        let is_hidden = view.is_payload_hidden || packet.is_carrier;
        let has_payload = !payload.is_empty() && !is_hidden;
        let ports = packet.ports().unwrap_or((0, 0));
        let has_stream = has_raw(view) && self.rules.sees_stream(view.direction, ports);
        let is_empty = !has_payload && !has_stream;
        match compare {
            Compare::Equal(0) => is_empty,
            Compare::Equal(_)
            | Compare::NotEqual(_)
            | Compare::Greater(_)
            | Compare::Between(..) => !is_empty,
            _ => true,
        }
    }
}

/// The stream seems to have bytes that are to be looked at with this packet.
pub(super) fn has_raw(view: &View<'_, '_>) -> bool {
    let flow = view.flow.as_deref().filter(|_| super::has_app(view));
    flow.is_some_and(|flow| flow.seems_readable(view.direction))
}

fn header_holds(test: &Test, view: &View<'_, '_>) -> bool {
    let packet = view.packet;
    let ip = packet.ip.as_ref();
    match test {
        Test::Ttl(compare) => ip.is_some_and(|ip| compare.fits(u64::from(ip.ttl))),
        Test::Tos { value, is_negated } => {
            ip.is_some_and(|ip| ip.version() == 4 && (ip.tos == *value) != *is_negated)
        }
        Test::IpId(value) => ip.is_some_and(|ip| ip.version() == 4 && ip.id == u32::from(*value)),
        Test::IpOption(option) => {
            ip.is_some_and(|ip| has_option(ip.version(), ip.options, *option))
        }
        Test::FragmentBits { mode, bits } => {
            ip.is_some_and(|ip| ip.version() == 4 && fragment_bits_fit(*mode, ip.flags, *bits))
        }
        Test::FragmentOffset(compare) => {
            let has_offset =
                |ip: &&Ip<'_>| ip.version() == 4 || ip.extensions & extension::FRAGMENT != 0;
            ip.filter(has_offset).is_some_and(|ip| compare.fits(u64::from(ip.fragment_offset / 8)))
        }
        Test::IpProto(compare) => {
            super::packet::protocol_of(packet).is_some_and(|proto| compare.fits(u64::from(proto)))
        }
        Test::SameIp => ip.is_some_and(|ip| ip.source == ip.destination),
        Test::VlanId { layer, compare } => {
            let fits = |id| compare.fits(u64::from(id));
            let count = packet.vlans.iter().count();
            match layer {
                VlanLayer::Number(layer) => packet.vlans.iter().nth(*layer).is_some_and(fits),
                VlanLayer::FromInner(layer) => {
                    let layer = count.checked_sub(layer + 1);
                    layer.and_then(|layer| packet.vlans.iter().nth(layer)).is_some_and(fits)
                }
                VlanLayer::Any => packet.vlans.iter().any(fits),
                VlanLayer::All => count > 0 && packet.vlans.iter().all(fits),
            }
        }
        Test::IpVersion(version) => ip.is_some_and(|ip| ip.version() == *version),
        Test::Always => true,
        Test::VlanLayers(compare) => compare.fits(u64::from(packet.vlans.count)),
        Test::Checksum { layer, is_valid } => checksum_fits(view, *layer, *is_valid),
        test => transport_holds(test, packet.transport),
    }
}

fn transport_holds(test: &Test, transport: Transport<'_>) -> bool {
    match (test, transport) {
        (Test::TcpFlags { mode, flags, ignored, is_none }, Transport::Tcp(tcp)) => {
            // Suricata asks for a flag of the same group first, whatever the comparison.
            let is_in = |group: u8| *flags & group == 0 || tcp.flags.0 & group != 0;
            if !is_in(BEGIN_OR_END) || !is_in(UNUSUAL) {
                return false;
            }
            let own = tcp.flags.0 & !ignored;
            if *is_none && *flags == 0 {
                return match mode {
                    FlagMode::NoneOf => own != 0,
                    _ => own == 0,
                };
            }
            bits_fit(*mode, own, *flags & !ignored)
        }
        (Test::Seq(value), Transport::Tcp(tcp)) => tcp.seq == *value,
        (Test::Ack(value), Transport::Tcp(tcp)) => tcp.ack == *value,
        (Test::Window { value, is_negated }, Transport::Tcp(tcp)) => {
            (tcp.window == *value) != *is_negated
        }
        (Test::Mss(compare), Transport::Tcp(tcp)) => {
            option(tcp.parsed, |parsed| parsed.mss.map(u64::from), *compare)
        }
        (Test::WindowScale(compare), Transport::Tcp(tcp)) => {
            option(tcp.parsed, |parsed| parsed.window_scale.map(u64::from), *compare)
        }
        (Test::IcmpType(compare), Transport::Icmp(icmp) | Transport::Icmp6(icmp)) => {
            compare.fits(u64::from(icmp.kind))
        }
        (Test::IcmpCode(compare), Transport::Icmp(icmp) | Transport::Icmp6(icmp)) => {
            compare.fits(u64::from(icmp.code))
        }
        (Test::IcmpId(value), Transport::Icmp(icmp)) => is_query(icmp.kind) && icmp.id == *value,
        (Test::IcmpSeq(value), Transport::Icmp(icmp)) => is_query(icmp.kind) && icmp.seq == *value,
        (Test::IcmpId(value), Transport::Icmp6(icmp)) => {
            matches!(icmp.kind, 128 | 129) && icmp.id == *value
        }
        (Test::IcmpSeq(value), Transport::Icmp6(icmp)) => {
            matches!(icmp.kind, 128 | 129) && icmp.seq == *value
        }
        (Test::Icmp6Mtu(compare), Transport::Icmp6(icmp)) => {
            icmp.kind == 2
                && icmp.code == 0
                && compare.fits(u64::from(icmp.id) << 16 | u64::from(icmp.seq))
        }
        _ => false,
    }
}

const fn is_query(kind: u8) -> bool {
    matches!(kind, 0 | 8 | 13..=18)
}

fn option(parsed: TcpOptions, get: impl Fn(TcpOptions) -> Option<u64>, compare: Compare) -> bool {
    get(parsed).is_some_and(|value| compare.fits(value))
}

const fn bits_fit(mode: FlagMode, own: u8, wanted: u8) -> bool {
    match mode {
        FlagMode::Exactly => own == wanted,
        FlagMode::AllOf => own & wanted == wanted,
        FlagMode::AnyOf => own & wanted != 0,
        FlagMode::NoneOf => own & wanted != wanted,
    }
}

/// `+` wants others beside those that are named.
const fn fragment_bits_fit(mode: FlagMode, own: u8, wanted: u8) -> bool {
    match mode {
        FlagMode::AllOf => own & wanted == wanted && own != wanted,
        _ => bits_fit(mode, own, wanted),
    }
}

fn has_option(version: u8, options: &[u8], wanted: u8) -> bool {
    if version != 4 {
        return false;
    }
    let mut rest = options;
    while let Some((kind, tail)) = rest.split_first() {
        let is_wanted = *kind == wanted || (wanted == 255 && *kind != 0);
        match kind {
            0 => return is_wanted,
            1 if is_wanted => return true,
            1 => rest = tail,
            _ => {
                let length = tail.first().map_or(0, |length| usize::from(*length));
                let Some((whole, next)) = rest.split_at_checked(length.max(2)) else {
                    return false;
                };
                // What is not as it should be counts for nothing.
                if is_wanted && is_ip4_option_right(whole) {
                    return true;
                }
                rest = next;
            }
        }
    }
    false
}

fn flow_fits(test: FlowTest, view: &View<'_, '_>) -> bool {
    let has_flow = view.flow.is_some();
    let is_rebuilt = view.packet.is_rebuilt();
    if (test.only_fragment && !is_rebuilt) || (test.no_fragment && is_rebuilt) {
        return false;
    }
    if let Some(direction) = test.direction
        && (!(has_flow || test.is_way_only()) || direction != view.direction)
    {
        return false;
    }
    // To say that a flow's state does not matter takes a flow.
    if test.is_stateless && !has_flow {
        return false;
    }
    match test.is_established {
        Some(wanted) => {
            let is_end = view.packet.origin == Origin::FlowEnd;
            (has_flow && (view.is_established || is_end)) == wanted
        }
        None => true,
    }
}

fn counters_fit(
    flow: &Flow,
    side: Side,
    compare: Compare,
    get: impl Fn(&hookprobe_traffic::flow::Side) -> u64,
) -> bool {
    let value = |direction: Direction| get(&flow.side(direction));
    let (server, client) = (value(Direction::ToServer), value(Direction::ToClient));
    match side {
        Side::To(direction) => compare.fits(value(direction)),
        Side::Either => compare.fits(server) || compare.fits(client),
        Side::Both => compare.fits(server) && compare.fits(client),
    }
}

fn stream_size(flow: &Flow, side: Side, compare: Compare) -> bool {
    let Some(session) = &flow.tcp else { return false };
    // Suricata counts sequence numbers, not bytes: SYN and FIN are one each, holes count.
    let size = |direction: Direction| u64::from(session.half(direction).sequence_len());
    let (client, server) = (size(Direction::ToServer), size(Direction::ToClient));
    match side {
        Side::To(direction) => compare.fits(size(direction)),
        Side::Either => compare.fits(client) || compare.fits(server),
        Side::Both => compare.fits(client) && compare.fits(server),
    }
}

/// `app-layer-protocol`: what is not yet known is `unknown`, and never something else than a name.
fn app_proto_fits(view: &View<'_, '_>, name: AppName, is_negated: bool, at: AppAt) -> bool {
    let Some(flow) = view.flow.as_deref() else { return false };
    let app = &flow.app;
    // What a datagram does not show no other will.
    let is_datagram = matches!(view.packet.transport, Transport::Udp { .. });
    let is_failed = app.is_failed() || (is_datagram && app.proto().is_none());
    let side = |direction: Direction| match *direction.of(&app.sides) {
        Some(Proto::Failed) => (None, true),
        None if is_datagram && flow.side(direction).packets > 0 => (app.proto(), is_failed),
        None if is_datagram => (None, false),
        own => (own, own.is_none() && is_failed),
    };
    let known = match at {
        AppAt::Direction => side(view.direction),
        AppAt::ToServer => side(Direction::ToServer),
        AppAt::ToClient => side(Direction::ToClient),
        AppAt::Final => (app.proto(), is_failed),
        AppAt::Original => (app.original, false),
        AppAt::Either => {
            let found = Direction::BOTH.map(side);
            let fits = found.iter().any(|(proto, is_failed)| name.fits(*proto, *is_failed));
            return if is_negated { !fits && (app.proto().is_some() || is_failed) } else { fits };
        }
    };
    let (proto, is_failed) = known;
    if is_negated {
        (proto.is_some() || is_failed) && !name.fits(proto, is_failed)
    } else {
        name.fits(proto, is_failed)
    }
}

fn checksum_fits(view: &View<'_, '_>, layer: Layer, is_valid: bool) -> bool {
    let packet = view.packet;
    let Some(ip) = packet.ip.as_ref() else { return false };
    let is_v4 = ip.version() == 4;
    let right = match (layer, packet.transport) {
        (Layer::Ip4, _) => ip.is_checksum_right(),
        (Layer::Tcp4, Transport::Tcp(_)) if is_v4 => packet.is_transport_checksum_right(),
        (Layer::Tcp6, Transport::Tcp(_)) if !is_v4 => packet.is_transport_checksum_right(),
        (Layer::Udp4, Transport::Udp { .. }) if is_v4 => packet.is_transport_checksum_right(),
        (Layer::Udp6, Transport::Udp { .. }) if !is_v4 => packet.is_transport_checksum_right(),
        (Layer::Icmp4, Transport::Icmp(_)) | (Layer::Icmp6, Transport::Icmp6(_)) => {
            packet.is_transport_checksum_right()
        }
        _ => None,
    };
    right == Some(is_valid)
}
