//! What every event begins with, and what is said about a flow.

use std::net::IpAddr;

use crate::outputs::json::{Object, Text, Value, json};
use hookprobe_traffic::{
    Direction,
    app::Proto,
    flow::{Fate, Flow, State},
    packet::{Ether, Origin, Packet, Transport, Tunnel},
};

use super::{
    community::community_id,
    text::{ipv4, ipv6},
};
use crate::outputs::time;

/// Largest integer that every reader of JSON keeps.
const ID_MAX: u64 = (1 << 53) - 1;
/// Room for the fields of most events.
const FIELDS: usize = 20;

/// Both ends of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuple {
    /// Who sent it.
    pub source: IpAddr,
    /// Who gets it.
    pub destination: IpAddr,
    /// Ports of TCP, UDP and SCTP.
    pub ports: Option<(u16, u16)>,
    /// IP protocol.
    pub protocol: u8,
}

impl Tuple {
    /// Of a packet.
    #[must_use]
    pub fn of_packet(packet: &Packet<'_>) -> Option<Self> {
        let ip = packet.ip?;
        Some(Self {
            source: ip.source,
            destination: ip.destination,
            ports: packet.ports().or_else(|| no_ports(packet)),
            protocol: ip.protocol,
        })
    }

    /// Of a flow: what goes in `direction`.
    #[must_use]
    pub fn of_flow(flow: &Flow, direction: Direction) -> Self {
        let key = match direction {
            Direction::ToServer => flow.key,
            Direction::ToClient => flow.key.reversed(),
        };
        let has_ports = matches!(key.protocol, 6 | 17 | 132);
        Self {
            source: key.client,
            destination: key.server,
            ports: has_ports.then_some((key.client_port, key.server_port)),
            protocol: key.protocol,
        }
    }
}

/// A fragment, or a broken header, of a protocol that has ports: none are known, which is written as
/// 0.
fn no_ports(packet: &Packet<'_>) -> Option<(u16, u16)> {
    let has_ports = matches!(packet.protocol(), Some(6 | 17 | 132));
    (has_ports && !packet.is_ip6_fragment()).then_some((0, 0))
}

/// An address as EVE writes it: IPv6 with every digit.
#[must_use]
pub fn address(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ipv4(ip),
        IpAddr::V6(ip) => ipv6(ip),
    }
}

/// `TCP`, `UDP`, ...; numbers for the rest.
#[must_use]
pub fn protocol(number: u8) -> Text {
    let name = PROTOCOLS.get(usize::from(number));
    name.map_or_else(|| number.to_string().into(), |name| (*name).into())
}

/// IANA's keywords of protocol numbers, as far as Suricata names them.
#[rustfmt::skip]
const PROTOCOLS: [&str; 144] = [
    "HOPOPT", "ICMP", "IGMP", "GGP", "IP-in-IP", "ST", "TCP", "CBT",
    "EGP", "IGP", "BBN-RCC-MON", "NVP-II", "PUP", "ARGUS", "EMCON", "XNET",
    "CHAOS", "UDP", "MUX", "DCN-MEAS", "HMP", "PRM", "XNS-IDP", "TRUNK-1",
    "TRUNK-2", "LEAF-1", "LEAF-2", "RDP", "IRTP", "ISO-TP4", "NETBLT", "MFE-NSP",
    "MERIT-INP", "DCCP", "3PC", "IDPR", "XTP", "DDP", "IDPR-CMTP", "TP++",
    "IL", "IPv6", "SDRP", "IPv6-Route", "IPv6-Frag", "IDRP", "RSVP", "GRE",
    "DSR", "BNA", "ESP", "AH", "I-NLSP", "SwIPe", "NARP", "MOBILE",
    "TLSP", "SKIP", "IPv6-ICMP", "IPv6-NoNxt", "IPv6-Opts", "Any", "CFTP", "Any",
    "SAT-EXPAK", "KRYPTOLAN", "RVD", "IPPC", "Any", "SAT-MON", "VISA", "IPCU",
    "CPNX", "CPHB", "WSN", "PVP", "BR-SAT-MON", "SUN-ND", "WB-MON", "WB-EXPAK",
    "ISO-IP", "VMTP", "SECURE-VMTP", "VINES", "TTP", "NSFNET-IGP", "DGP", "TCF",
    "EIGRP", "OSPF", "Sprite-RPC", "LARP", "MTP", "AX.25", "OS", "MICP",
    "SCC-SP", "ETHERIP", "ENCAP", "Any", "GMTP", "IFMP", "PNNI", "PIM",
    "ARIS", "SCPS", "QNX", "A/N", "IPComp", "SNP", "Compaq-Peer", "IPX-in-IP",
    "VRRP", "PGM", "Any", "L2TP", "DDX", "IATP", "STP", "SRP",
    "UTI", "SMP", "SM", "PTP", "IS-IS", "FIRE", "CRTP", "CRUDP",
    "SSCOPMCE", "IPLT", "SPS", "PIPE", "SCTP", "FC", "RSVP-E2E-IGNORE", "Mobility",
    "UDPLite", "MPLS-in-IP", "manet", "HIP", "Shim6", "WESP", "ROHC", "Ethernet",
];

/// A number for a flow: the same for the same flow of the same input.
#[must_use]
pub fn flow_id(flow: &Flow) -> u64 {
    let mut word = flow.id ^ flow.first_ns.rotate_left(32);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb) & ID_MAX
}

/// Where a packet comes from.
#[must_use]
pub fn packet_source(packet: &Packet<'_>) -> &'static str {
    match packet.origin {
        Origin::Wire => "wire/pcap",
        Origin::Rebuilt => "defrag",
        Origin::FlowEnd if packet.is_flush => "stream (detect/log)",
        Origin::FlowEnd => "stream (flow timeout)",
        Origin::Tunnel(Tunnel::Ip4) => "ipv4 tunnel",
        Origin::Tunnel(Tunnel::Ip6) => "ipv6 tunnel",
        Origin::Tunnel(Tunnel::Gre | Tunnel::Erspan) => "gre tunnel",
        Origin::Tunnel(Tunnel::Teredo) => "teredo tunnel",
        Origin::Tunnel(Tunnel::Geneve) => "geneve encapsulation",
        Origin::Tunnel(Tunnel::Gtp) => "gtp tunnel",
        Origin::Tunnel(Tunnel::Ayiya) => "ayiya tunnel",
        Origin::Tunnel(Tunnel::Vxlan) => "vxlan encapsulation",
    }
}

/// Beginning of an event about a packet.
#[must_use]
pub fn header(
    kind: &'static str,
    packet: &Packet<'_>,
    flow: Option<&Flow>,
    tuple: Option<Tuple>,
) -> Object {
    let mut out = Object::with_capacity(FIELDS);
    out.insert("timestamp".into(), json!(time::eve(packet.time_ns)));
    if let Some(flow) = flow {
        out.insert("flow_id".into(), json!(flow_id(flow)));
    }
    // What came out of something else has no place of its own in the capture.
    if packet.origin == Origin::Wire {
        out.insert("pcap_cnt".into(), json!(packet.number));
    }
    out.insert("event_type".into(), Value::word(kind));
    if packet.vlans.count > 0 {
        out.insert("vlan".into(), packet.vlans.iter().collect());
    }
    if let Some(tuple) = tuple {
        put_tuple(&mut out, tuple);
    }
    if let Transport::Icmp(icmp) | Transport::Icmp6(icmp) = packet.transport {
        out.insert("icmp_type".into(), json!(icmp.kind));
        out.insert("icmp_code".into(), json!(icmp.code));
    }
    out.insert("pkt_src".into(), Value::word(packet_source(packet)));
    out
}

/// The `ether` object of an event about `tuple`.
pub fn put_ether(out: &mut Object, packet: &Packet<'_>, tuple: Option<&Tuple>) {
    if let Some(ether) = packet.ether {
        out.insert("ether".into(), ethernet(&ether, is_turned(tuple, packet)));
    }
}

/// The event is about the other direction than the one in which the packet went.
fn is_turned(tuple: Option<&Tuple>, packet: &Packet<'_>) -> bool {
    let of_packet = packet.ip.map(|ip| (ip.source, ip.destination));
    let of_event = tuple.map(|tuple| (tuple.destination, tuple.source));
    of_packet.is_some() && of_packet == of_event
}

/// The `ether` object.
fn ethernet(ether: &Ether, is_turned: bool) -> Value {
    let mac = |bytes: [u8; 6]| super::text::hex(&bytes, ":");
    let (source, destination) = (mac(ether.source.0), mac(ether.destination.0));
    let (source, destination) =
        if is_turned { (destination, source) } else { (source, destination) };
    json!({ "ether_type": ether.ether_type, "src_mac": source, "dest_mac": destination })
}

fn put_tuple(out: &mut Object, tuple: Tuple) {
    out.insert("src_ip".into(), json!(address(tuple.source)));
    out.insert("dest_ip".into(), json!(address(tuple.destination)));
    if let Some((source, destination)) = tuple.ports {
        out.insert("src_port".into(), json!(source));
        out.insert("dest_port".into(), json!(destination));
    }
    out.insert("proto".into(), json!(protocol(tuple.protocol)));
    out.insert("ip_v".into(), json!(if tuple.source.is_ipv4() { 4 } else { 6 }));
}

/// The Community ID of a flow.
#[must_use]
pub fn community(flow: &Flow) -> String {
    let key = &flow.key;
    community_id(key.client, key.server, (key.client_port, key.server_port), key.protocol)
}

/// `app_proto` and its relatives.
pub fn put_app_proto(out: &mut Object, flow: &Flow) {
    let app = &flow.app;
    let current = app.proto().map(|proto| proto.name());
    // One datagram that says nothing is enough to give up.
    let is_dropped = flow.fate == Fate::Dropped && flow.key.protocol != 17;
    let is_failed = (app.is_failed() && !is_dropped) || flow.key.protocol == 17;
    let current = current.or_else(|| is_failed.then_some("failed"));
    if let Some(name) = current {
        out.insert("app_proto".into(), Value::word(name));
    }
    let name = |proto: Option<Proto>| proto.map(|proto| proto.name());
    let [to_server, to_client] = app.sides;
    for (key, name) in [
        ("app_proto_ts", name(to_server)),
        ("app_proto_tc", name(to_client)),
        ("app_proto_orig", name(app.original)),
        ("app_proto_expected", name(app.expected)),
    ] {
        if let Some(name) = name.filter(|name| Some(*name) != current) {
            out.insert(key.into(), Value::word(name));
        }
    }
}

/// The counters of a flow.
#[must_use]
pub fn flow_counters(flow: &Flow) -> Object {
    let [there, back] = Direction::BOTH.map(|direction| flow.side(direction));
    let mut out = Object::with_capacity(9);
    for (key, number) in [
        ("pkts_toserver", there.packets),
        ("pkts_toclient", back.packets),
        ("bytes_toserver", there.bytes),
        ("bytes_toclient", back.bytes),
    ] {
        out.insert(key.into(), json!(number));
    }
    out.insert("start".into(), json!(time::eve(flow.first_ns)));
    out
}

/// `new`, `established`, `closed`.
#[must_use]
pub fn flow_state(state: State) -> &'static str {
    match state {
        State::New => "new",
        State::Established => "established",
        State::Closed => "closed",
    }
}

/// Beginning of an event about a flow that has ended; `now_ns` is when that was noticed.
#[must_use]
pub fn flow_header(flow: &Flow, now_ns: u64) -> Object {
    let mut out = Object::new();
    out.insert("timestamp".into(), json!(time::eve(now_ns)));
    out.insert("flow_id".into(), json!(flow_id(flow)));
    out.insert("event_type".into(), Value::word("flow"));
    let vlans: Vec<u16> = flow.vlans.iter().collect();
    if !vlans.is_empty() {
        out.insert("vlan".into(), json!(vlans));
    }
    put_tuple(&mut out, Tuple::of_flow(flow, Direction::ToServer));
    if matches!(flow.key.protocol, 1 | 58) {
        out.insert("icmp_type".into(), json!(flow.key.client_port));
        out.insert("icmp_code".into(), json!(0));
        if flow.side(Direction::ToClient).packets > 0 {
            out.insert("response_icmp_type".into(), json!(flow.key.server_port));
            out.insert("response_icmp_code".into(), json!(0));
        }
    }
    out
}
