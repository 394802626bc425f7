//! The pieces: one kind of fact from one kind of thing that the engine shows.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hookprobe_traffic::{
    Direction,
    app::{
        Proto, dhcp,
        dns::{RData, Tx},
        http,
    },
    flow::{Flow, Side},
    packet::{Origin, Packet, TcpFlags, Transport},
    zeek::{self, End},
};

use crate::exploit::PART_BYTES_MAX;
use crate::observation::{
    Arp, Connection, Dhcp, DhcpKind, Dns, Mac, Named, Protocol, Request, RouterAdvertisement,
    Service, State, TlsHello, Volume,
};

/// Most addresses of an answer that are passed on.
const ADDRESSES_MAX: usize = 16;
/// Most names of one mDNS message that are passed on.
const NAMES_MAX: usize = 16;

/// Ethernet address of who sent the frame, if the packet is the frame's own.
pub(super) fn sender(packet: &Packet<'_>) -> Option<Mac> {
    let is_own =
        matches!(packet.origin, Origin::Wire | Origin::Rebuilt) && packet.tunnel_depth == 0;
    packet.ether.filter(|_| is_own).map(|ether| Mac(ether.source.0))
}

/// Whether a packet begins something: a SYN, a first datagram, a request. Midstream traffic of TCP
/// begins nothing.
pub(super) fn begins(packet: &Packet<'_>) -> bool {
    match packet.transport {
        Transport::Tcp(tcp) => tcp.flags.has(TcpFlags::SYN) && tcp.flags.lacks(TcpFlags::ACK),
        Transport::Icmp(icmp) | Transport::Icmp6(icmp) => icmp.about.is_none(),
        Transport::Udp { .. } | Transport::Sctp { .. } => true,
        Transport::Other(_) | Transport::None => false,
    }
}

/// A flow as far as it went.
pub(super) fn connection<'a>(
    flow: &Flow,
    source_mac: Option<Mac>,
    server_name: Option<&'a str>,
) -> Connection<'a> {
    let [sent, received] = Direction::BOTH.map(|direction| flow.side(direction));
    Connection {
        source: flow.key.client,
        destination: flow.key.server,
        source_port: flow.key.client_port,
        destination_port: flow.key.server_port,
        protocol: protocol(flow.key.protocol),
        first_ns: flow.first_ns,
        last_ns: flow.last_ns,
        state: state(flow.zeek.state()),
        service: service(flow),
        sent: side(&sent),
        received: side(&received),
        sent_bytes_new: 0,
        received_bytes_new: 0,
        source_mac,
        server_name,
    }
}

/// A connection that ended, with Zeek's numbers.
pub(super) fn ended<'a>(
    flow: &Flow,
    ended: &zeek::Connection,
    source_mac: Option<Mac>,
    server_name: Option<&'a str>,
) -> Connection<'a> {
    let (sent, received) = (sizes(ended, End::Originator), sizes(ended, End::Responder));
    let is_same = ended.is_originator_client();
    let key = if is_same { flow.key } else { flow.key.reversed() };
    let first_ns = ended.first_ns();
    Connection {
        source: key.client,
        destination: key.server,
        source_port: key.client_port,
        destination_port: key.server_port,
        first_ns,
        last_ns: first_ns.saturating_add(ended.duration_ns().unwrap_or(0)),
        state: state(ended.state()),
        sent,
        received,
        ..connection(flow, source_mac.filter(|_| is_same), server_name)
    }
}

/// Sets what is new since `before`.
pub(super) fn since(connection: &mut Connection<'_>, before: [u64; 2]) {
    let [sent, received] = before;
    connection.sent_bytes_new = connection.sent.payload_bytes.saturating_sub(sent);
    connection.received_bytes_new = connection.received.payload_bytes.saturating_sub(received);
}

fn side(side: &Side) -> Volume {
    Volume { packets: side.packets, payload_bytes: side.payload_bytes, ip_bytes: side.ip_bytes }
}

fn sizes(connection: &zeek::Connection, end: End) -> Volume {
    let sizes = connection.sizes(end);
    Volume { packets: sizes.packets, payload_bytes: sizes.bytes, ip_bytes: sizes.ip_bytes }
}

fn protocol(number: u8) -> Protocol {
    match number {
        6 => Protocol::Tcp,
        17 => Protocol::Udp,
        1 | 58 => Protocol::Icmp,
        _ => Protocol::Other,
    }
}

fn state(state: zeek::State) -> State {
    match state {
        zeek::State::S0 => State::S0,
        zeek::State::S1 => State::S1,
        zeek::State::S2 => State::S2,
        zeek::State::S3 => State::S3,
        zeek::State::Sf => State::Sf,
        zeek::State::Rej => State::Rej,
        zeek::State::RstO => State::Rsto,
        zeek::State::RstR => State::Rstr,
        zeek::State::RstOs0 => State::Rstos0,
        zeek::State::RstRh => State::Rstrh,
        zeek::State::Sh => State::Sh,
        zeek::State::ShR => State::Shr,
        zeek::State::Oth => State::Oth,
    }
}

/// What is spoken, as far as it is known.
pub(super) fn service(flow: &Flow) -> Service {
    match flow.app.proto() {
        None => Service::Unknown,
        Some(Proto::Http1 | Proto::Http2 | Proto::Doh2) => Service::Http,
        Some(Proto::Dns) => Service::Dns,
        Some(Proto::Mdns) => Service::Mdns,
        Some(Proto::Tls) => Service::Tls,
        Some(Proto::Ssh) => Service::Ssh,
        Some(Proto::Smtp) => Service::Smtp,
        Some(Proto::Quic) => Service::Quic,
        Some(Proto::Dhcp) => Service::Dhcp,
        Some(Proto::Ntp) => Service::Ntp,
        Some(_) => Service::Other,
    }
}

/// A host name as text; what is no UTF-8 is no name.
pub(super) fn host(name: &[u8]) -> Option<&str> {
    std::str::from_utf8(name).ok().filter(|name| !name.is_empty() && name.len() <= 255)
}

/// A ClientHello.
pub(super) fn hello<'a>(
    flow: &Flow,
    server_name: Option<&'a str>,
    ja4: Option<&'a str>,
) -> TlsHello<'a> {
    TlsHello {
        client: flow.key.client,
        server: flow.key.server,
        server_port: flow.key.server_port,
        server_name,
        ja4,
    }
}

/// Whether all of a request that is looked at is there.
pub(super) fn is_asked(tx: &http::Tx) -> bool {
    let (_, body) = tx.body(Direction::ToServer).window();
    tx.progress(Direction::ToServer) >= http::progress::COMPLETE
        || tx.progress(Direction::ToClient) > http::progress::NOT_STARTED
        || body.len() >= PART_BYTES_MAX
}

/// A request of HTTP.
pub(super) fn request<'a>(flow: &Flow, tx: &'a http::Tx) -> Request<'a> {
    let fields = tx.headers(Direction::ToServer);
    let (start, body) = tx.body(Direction::ToServer).window();
    Request {
        client: flow.key.client,
        server: flow.key.server,
        server_port: flow.key.server_port,
        target: &tx.request.uri_raw,
        fields: &fields.raw,
        agent: fields.get("user-agent").unwrap_or_default(),
        // What of a body is left is not always its beginning.
        body: if start == 0 { body } else { &[] },
    }
}

/// Addresses in an answer.
pub(super) fn addresses(tx: &Tx) -> Vec<IpAddr> {
    let address = |data: &RData| match data {
        RData::A(octets) => Some(IpAddr::from(*octets)),
        RData::Aaaa(octets) => Some(IpAddr::from(*octets)),
        _ => None,
    };
    tx.message
        .answers
        .iter()
        .filter_map(|record| address(&record.data))
        .take(ADDRESSES_MAX)
        .collect()
}

/// A DNS message with a question.
pub(super) fn dns<'a>(flow: &Flow, tx: &'a Tx, addresses: &'a [IpAddr]) -> Option<Dns<'a>> {
    let message = &tx.message;
    let query = message.queries.first()?;
    let answer_bytes: usize = message.answers.iter().map(|record| data_bytes(&record.data)).sum();
    Some(Dns {
        client: flow.key.client,
        server: flow.key.server,
        name: &query.name.text,
        record_type: query.rtype,
        response_code: message.is_response().then(|| message.rcode()),
        message_bytes: message.wire_bytes,
        answer_bytes: u32::try_from(answer_bytes).unwrap_or(u32::MAX),
        addresses,
    })
}

/// About how many bytes the data of a record carries.
fn data_bytes(data: &RData) -> usize {
    match data {
        RData::A(_) => 4,
        RData::Aaaa(_) => 16,
        RData::Name(name)
        | RData::Mx { exchange: name, .. }
        | RData::Srv { target: name, .. }
        | RData::Svcb { target: name, .. } => name.text.len(),
        RData::Txt(strings) => strings.iter().map(Vec::len).sum(),
        RData::Null(bytes) | RData::Other(bytes) => bytes.len(),
        RData::Soa(_)
        | RData::Sshfp { .. }
        | RData::Caa { .. }
        | RData::Naptr(_)
        | RData::Opt(_) => 0,
    }
}

/// What a device calls itself in an mDNS answer: owners of addresses and services, and instances.
pub(super) fn names<'a>(packet: &Packet<'_>, tx: &'a Tx) -> Vec<Named<'a>> {
    let (Some(ip), true) = (packet.ip, tx.message.is_response()) else {
        return Vec::new();
    };
    let name = |name: &'a [u8]| Named { ip: ip.source, mac: sender(packet), name };
    tx.message
        .answers
        .iter()
        .chain(&tx.message.additionals)
        .filter_map(|record| match &record.data {
            // `_ipp._tcp.local` points to `Printer._ipp._tcp.local`; the list of all service types
            // (`_services._dns-sd._udp`) points to types.
            RData::Name(target) => Some(name(&target.text)),
            RData::A(_) | RData::Aaaa(_) | RData::Srv { .. } => Some(name(&record.name.text)),
            _ => None,
        })
        .take(NAMES_MAX)
        .collect()
}

/// A DHCP message of an Ethernet client.
pub(super) fn dhcp<'a>(packet: &Packet<'_>, tx: &'a dhcp::Tx) -> Option<Dhcp<'a>> {
    const SERVER_IDENTIFIER: u8 = 54;
    const ROUTER: u8 = 3;
    const NAME_SERVER: u8 = 6;
    let message = &tx.message;
    let client = message.client_mac.first_chunk().copied().map(Mac)?;
    let kind = match message.kind() {
        // DISCOVER, REQUEST, INFORM.
        Some(1 | 3 | 8) => DhcpKind::Request,
        Some(2) => DhcpKind::Offer,
        Some(5) => DhcpKind::Ack,
        Some(_) | None => DhcpKind::Other,
    };
    let address = |octets: [u8; 4]| {
        let ip = Ipv4Addr::from(octets);
        (!ip.is_unspecified()).then_some(IpAddr::V4(ip))
    };
    let is_server = matches!(kind, DhcpKind::Offer | DhcpKind::Ack);
    let speaker = packet.ip.map(|ip| ip.source).filter(|_| is_server);
    Some(Dhcp {
        kind,
        sender: sender(packet),
        client,
        server: message.address(SERVER_IDENTIFIER).and_then(address).or(speaker),
        given: address(message.assigned_ip),
        router: message.address(ROUTER).and_then(address),
        name_server: message.address(NAME_SERVER).and_then(address),
        host_name: message.host_name(),
        vendor_class: message.vendor_class(),
        parameters: message.parameters().unwrap_or_default(),
    })
}

/// An ARP message.
pub(super) fn arp(packet: &Packet<'_>) -> Option<Arp> {
    let arp = packet.arp?;
    let sender_mac = Mac(arp.sender_mac.0);
    Some(Arp {
        is_reply: arp.operation == 2,
        frame_mac: packet.ether.map_or(sender_mac, |ether| Mac(ether.source.0)),
        sender_mac,
        sender_ip: arp.sender.into(),
        target_ip: arp.target.into(),
    })
}

/// A router advertisement (RFC 4861, section 4.2) with hop limit 255, as section 6.1.2 demands.
pub(super) fn router_advertisement(packet: &Packet<'_>) -> Option<RouterAdvertisement> {
    const ROUTER_ADVERTISEMENT: u8 = 134;
    const OPTIONS_AT: usize = 16;
    let ip = packet.ip?;
    let Transport::Icmp6(icmp) = packet.transport else {
        return None;
    };
    if icmp.kind != ROUTER_ADVERTISEMENT || ip.ttl != 255 {
        return None;
    }
    let lifetime = ip.payload.get(6..8)?.first_chunk().copied()?;
    Some(RouterAdvertisement {
        mac: sender(packet)?,
        ip: ip.source,
        lifetime_s: u16::from_be_bytes(lifetime),
        prefix: prefix(ip.payload.get(OPTIONS_AT..).unwrap_or_default()),
    })
}

/// The first prefix of the options: type, length in eight bytes, data.
fn prefix(mut options: &[u8]) -> Option<IpAddr> {
    const PREFIX_INFORMATION: u8 = 3;
    while let [kind, length, ..] = options {
        let bytes = usize::from(*length) * 8;
        if bytes == 0 {
            return None;
        }
        if *kind == PREFIX_INFORMATION {
            let octets: [u8; 16] = options.get(16..32)?.first_chunk().copied()?;
            return Some(Ipv6Addr::from(octets).into());
        }
        options = options.get(bytes..)?;
    }
    None
}
