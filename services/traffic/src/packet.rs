//! One decoded packet: an IP packet (of the wire, of a tunnel, or rebuilt from fragments) or a frame
//! that is no IP.
//!
//! Everything borrows from the frame; a packet is made and dropped without an allocation. Lengths
//! are checked by `decode`: slices here lie within the frame, `payload` within the length that the IP
//! header states. Callers: `engine`, inspectors.

use std::net::IpAddr;

use crate::{checksum, event::Events};

/// How the first bytes of a frame are to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Link {
    /// Ethernet II, with or without VLAN tags.
    #[default]
    Ethernet,
    /// An IPv4 or IPv6 header (`LINKTYPE_RAW` and its relatives).
    Raw,
    /// BSD loopback: the address family in four bytes (`LINKTYPE_NULL`, `LINKTYPE_LOOP`).
    Null,
    /// Linux cooked, 16 bytes.
    LinuxSll,
    /// Linux cooked version 2, 20 bytes.
    LinuxSll2,
    /// PPP, with or without its address and control bytes.
    Ppp,
    /// IEEE 802.11.
    Wlan,
    /// The same behind a radiotap header.
    Radiotap,
    /// An IPv4 header and nothing else (`LINKTYPE_IPV4`).
    RawIp4,
    /// An IPv6 header and nothing else (`LINKTYPE_IPV6`).
    RawIp6,
    /// Cisco HDLC: two bytes, then an Ethernet type.
    CiscoHdlc,
    /// ERSPAN type II: eight bytes with a VLAN, then Ethernet. In GRE only.
    Erspan2,
}

impl Link {
    /// All of them, for tests that go through every one.
    pub const ALL: [Self; 12] = [
        Self::Ethernet,
        Self::Raw,
        Self::Null,
        Self::LinuxSll,
        Self::LinuxSll2,
        Self::Ppp,
        Self::Wlan,
        Self::Radiotap,
        Self::RawIp4,
        Self::RawIp6,
        Self::CiscoHdlc,
        Self::Erspan2,
    ];

    /// By the number in a capture file.
    #[must_use]
    pub const fn from_linktype(number: u32) -> Option<Self> {
        match number {
            1 => Some(Self::Ethernet),
            12 | 14 | 101 => Some(Self::Raw),
            228 => Some(Self::RawIp4),
            229 => Some(Self::RawIp6),
            0 | 108 => Some(Self::Null),
            113 => Some(Self::LinuxSll),
            276 => Some(Self::LinuxSll2),
            9 => Some(Self::Ppp),
            105 => Some(Self::Wlan),
            127 => Some(Self::Radiotap),
            104 => Some(Self::CiscoHdlc),
            _ => None,
        }
    }

    /// Number and name of it as EVE writes them; tunnels carry IP without a link layer.
    #[must_use]
    pub const fn linktype(self) -> (u32, &'static str) {
        match self {
            Self::Ethernet => (1, "EN10MB"),
            Self::Raw | Self::Erspan2 => (12, "RAW"),
            Self::Null => (0, "NULL"),
            Self::LinuxSll => (113, "LINUX_SLL"),
            Self::LinuxSll2 => (276, "LINUX_SLL2"),
            Self::Ppp => (9, "PPP"),
            Self::CiscoHdlc => (104, "C_HDLC"),
            Self::Wlan => (105, "IEEE802_11"),
            Self::Radiotap => (127, "IEEE802_11_RADIO"),
            Self::RawIp4 => (228, "IPv4"),
            Self::RawIp6 => (229, "IPv6"),
        }
    }
}

/// What comes from a wire or a capture.
#[derive(Clone, Copy, Debug)]
pub struct Frame<'a> {
    /// When it was captured, nanoseconds since 1970.
    pub time_ns: u64,
    /// How long it was on the wire; `bytes` may be shorter.
    pub wire_bytes: u32,
    /// How to read it.
    pub link: Link,
    /// What was captured.
    pub bytes: &'a [u8],
}

/// A hardware address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Mac(pub [u8; 6]);

/// The Ethernet header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ether {
    /// Who sent it.
    pub source: Mac,
    /// Who shall have it.
    pub destination: Mac,
    /// The type behind all VLAN tags.
    pub ether_type: u16,
}

/// VLAN identifiers, outermost first; three at most, as Suricata keeps.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Vlans {
    /// Those beyond `count` are 0.
    pub ids: [u16; 3],
    /// How many tags there were.
    pub count: u8,
}

impl Vlans {
    /// Identifiers, outermost first.
    pub fn iter(&self) -> impl Iterator<Item = u16> + '_ {
        self.ids.iter().copied().take(usize::from(self.count))
    }
}

/// The IP header with its extensions.
#[derive(Clone, Copy, Debug)]
pub struct Ip<'a> {
    /// Sender.
    pub source: IpAddr,
    /// Receiver.
    pub destination: IpAddr,
    /// Time to live, hop limit.
    pub ttl: u8,
    /// Type of service, traffic class.
    pub tos: u8,
    /// IPv4 identification; that of the fragment header for IPv6.
    pub id: u32,
    /// The three flags of IPv4 (`0b100` reserved, `0b010` don't fragment, `0b001` more fragments); for
    /// IPv6 only the last, from the fragment header.
    pub flags: u8,
    /// Where this fragment begins, in bytes.
    pub fragment_offset: u16,
    /// Flow label of IPv6.
    pub flow_label: u32,
    /// Protocol number behind all extension headers (IPv4: the field itself).
    pub protocol: u8,
    /// Length of the whole packet as its header states it (IPv6: with the fixed header).
    pub total_bytes: u32,
    /// The header with options or extension headers.
    pub header: &'a [u8],
    /// IPv4 options; IPv6 extension headers.
    pub options: &'a [u8],
    /// Bit set of the IPv6 extension headers seen, see [`extension`].
    pub extensions: u8,
    /// Everything behind the header, within the stated length and what was captured.
    pub payload: &'a [u8],
}

/// Bits of [`Ip::extensions`].
pub mod extension {
    /// Hop-by-hop options.
    pub const HOP_BY_HOP: u8 = 1;
    /// Routing.
    pub const ROUTING: u8 = 2;
    /// Fragment.
    pub const FRAGMENT: u8 = 4;
    /// Destination options.
    pub const DESTINATION: u8 = 8;
    /// Authentication header.
    pub const AUTHENTICATION: u8 = 16;
    /// Encapsulating security payload.
    pub const ESP: u8 = 32;
}

impl Ip<'_> {
    /// 4 or 6.
    #[must_use]
    pub const fn version(&self) -> u8 {
        if self.source.is_ipv4() { 4 } else { 6 }
    }

    /// `DF`.
    #[must_use]
    pub const fn is_dont_fragment(&self) -> bool {
        self.flags & 0b010 != 0
    }

    /// `MF`.
    #[must_use]
    pub const fn has_more_fragments(&self) -> bool {
        self.flags & 0b001 != 0
    }

    /// A part of a packet.
    #[must_use]
    pub const fn is_fragment(&self) -> bool {
        self.has_more_fragments() || self.fragment_offset != 0
    }

    /// Whether the checksum of an IPv4 header is right; `None` for IPv6.
    #[must_use]
    pub fn is_checksum_right(&self) -> Option<bool> {
        self.source.is_ipv4().then(|| checksum::sum(&[self.header]) == 0)
    }
}

/// TCP's flags, one byte as in the header.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpFlags(pub u8);

impl TcpFlags {
    /// No more data.
    pub const FIN: u8 = 0x01;
    /// Synchronise.
    pub const SYN: u8 = 0x02;
    /// Reset.
    pub const RST: u8 = 0x04;
    /// Push.
    pub const PSH: u8 = 0x08;
    /// The acknowledgement number counts.
    pub const ACK: u8 = 0x10;
    /// The urgent pointer counts.
    pub const URG: u8 = 0x20;
    /// ECN echo.
    pub const ECE: u8 = 0x40;
    /// Congestion window reduced.
    pub const CWR: u8 = 0x80;

    /// All of `bits` are set.
    #[must_use]
    pub const fn has(self, bits: u8) -> bool {
        self.0 & bits == bits
    }

    /// None of `bits` is set.
    #[must_use]
    pub const fn lacks(self, bits: u8) -> bool {
        self.0 & bits == 0
    }
}

/// Options of a TCP header that the stream engine and fingerprints use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TcpOptions {
    /// Maximum segment size.
    pub mss: Option<u16>,
    /// Window scale, not clamped.
    pub window_scale: Option<u8>,
    /// SACK permitted.
    pub is_sack_permitted: bool,
    /// How many blocks a SACK option has.
    pub sack_blocks: u8,
    /// Own time stamp, echoed time stamp.
    pub timestamps: Option<(u32, u32)>,
    /// Fast open (RFC 7413), with or without a cookie.
    pub is_fast_open: bool,
}

/// A TCP header.
#[derive(Clone, Copy, Debug)]
pub struct Tcp<'a> {
    /// Source port.
    pub source: u16,
    /// Destination port.
    pub destination: u16,
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// The four bits between header length and flags, of which the last is `NS`.
    pub reserved: u8,
    /// Flags.
    pub flags: TcpFlags,
    /// Window, not scaled.
    pub window: u16,
    /// Urgent pointer.
    pub urgent: u16,
    /// The header with options.
    pub header: &'a [u8],
    /// Options as they are.
    pub options: &'a [u8],
    /// Options that were understood.
    pub parsed: TcpOptions,
}

/// ICMP and ICMPv6.
#[derive(Clone, Copy, Debug)]
pub struct Icmp<'a> {
    /// Type.
    pub kind: u8,
    /// Code.
    pub code: u8,
    /// Identifier of queries (the fifth and sixth byte in any case).
    pub id: u16,
    /// Sequence number of queries (the seventh and eighth byte in any case).
    pub seq: u16,
    /// The first eight bytes (fewer only if fewer were captured).
    pub header: &'a [u8],
    /// For errors: what they are about.
    pub about: Option<Embedded>,
}

/// The packet that an ICMP error quotes, as far as it names a flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Embedded {
    /// Its sender.
    pub source: IpAddr,
    /// Its receiver.
    pub destination: IpAddr,
    /// Its protocol.
    pub protocol: u8,
    /// Its ports, for TCP, UDP and SCTP.
    pub ports: Option<(u16, u16)>,
}

/// What is above IP.
#[derive(Clone, Copy, Debug)]
pub enum Transport<'a> {
    /// TCP.
    Tcp(Tcp<'a>),
    /// UDP.
    Udp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Length as stated.
        bytes: u16,
        /// The eight bytes.
        header: &'a [u8],
    },
    /// SCTP.
    Sctp {
        /// Source port.
        source: u16,
        /// Destination port.
        destination: u16,
        /// Verification tag.
        tag: u32,
        /// The twelve bytes.
        header: &'a [u8],
    },
    /// ICMP.
    Icmp(Icmp<'a>),
    /// ICMPv6.
    Icmp6(Icmp<'a>),
    /// Any other protocol, a fragment, or a header that is broken (see the events).
    Other(u8),
    /// No IP.
    None,
}

/// ARP for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// 1 request, 2 reply.
    pub operation: u16,
    /// Hardware address of the sender.
    pub sender_mac: Mac,
    /// Protocol address of the sender.
    pub sender: std::net::Ipv4Addr,
    /// Hardware address of the target.
    pub target_mac: Mac,
    /// Protocol address of the target.
    pub target: std::net::Ipv4Addr,
}

/// Where a packet comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The wire.
    Wire,
    /// A tunnel: the bytes of another packet.
    Tunnel(Tunnel),
    /// Fragments, put together.
    Rebuilt,
    /// None: the engine makes it at the end of a flow so that inspectors see what is left.
    FlowEnd,
}

/// Kinds of tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// IPv4 or IPv6 in IPv4.
    Ip4,
    /// IPv4 or IPv6 in IPv6.
    Ip6,
    /// Generic routing encapsulation.
    Gre,
    /// VXLAN.
    Vxlan,
    /// Geneve.
    Geneve,
    /// Teredo.
    Teredo,
    /// ERSPAN.
    Erspan,
    /// GTP-U of mobile networks.
    Gtp,
    /// AYIYA.
    Ayiya,
}

/// One packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'a> {
    /// When its frame was captured, nanoseconds since 1970.
    pub time_ns: u64,
    /// Which frame of the input it came in, from 1. Several packets may share it.
    pub number: u64,
    /// Length of the frame on the wire; of a tunnelled or rebuilt packet: its own length.
    pub wire_bytes: u32,
    /// What was captured of the frame, or the bytes of the inner packet.
    pub data: &'a [u8],
    /// How `data` begins.
    pub link: Link,
    /// Ethernet header, if there is one.
    pub ether: Option<Ether>,
    /// VLAN tags.
    pub vlans: Vlans,
    /// IP header.
    pub ip: Option<Ip<'a>>,
    /// What is above IP.
    pub transport: Transport<'a>,
    /// What the transport carries.
    pub payload: &'a [u8],
    /// ARP.
    pub arp: Option<Arp>,
    /// What is wrong with it; stream events are added before inspectors see it.
    pub events: Events,
    /// Where it comes from.
    pub origin: Origin,
    /// How many tunnels it is in.
    pub tunnel_depth: u8,
    /// The checksum of TCP, UDP, ICMP or ICMPv6 is wrong, and that counts: it is validated, and the sender
    /// does not leave it to its network card.
    pub is_checksum_wrong: bool,
    /// Its IP header has a wrong checksum that counts, or it came in a packet with a wrong one: Zeek does
    /// not look into such.
    pub is_outside_wrong: bool,
    /// Its headers do not hold together (Suricata's `PKT_IS_INVALID`): no flow unless the transport's
    /// header could be read.
    pub is_invalid: bool,
    /// It is the outside of a tunnel: what it carries is a packet of its own.
    pub is_carrier: bool,
    /// Of [`Origin::FlowEnd`]: the flow goes on, but what it says is hidden from now on.
    pub is_flush: bool,
}

impl Packet<'_> {
    /// Source and destination port of TCP, UDP and SCTP.
    #[must_use]
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match self.transport {
            Transport::Tcp(Tcp { source, destination, .. })
            | Transport::Udp { source, destination, .. }
            | Transport::Sctp { source, destination, .. } => Some((source, destination)),
            Transport::Icmp(_) | Transport::Icmp6(_) | Transport::Other(_) | Transport::None => {
                None
            }
        }
    }

    /// A fragment that was not put together: what it carries is not known.
    #[must_use]
    pub fn is_fragment(&self) -> bool {
        self.ip.is_some_and(|ip| ip.is_fragment()) && !self.is_rebuilt()
    }

    /// One of IPv6: its protocol is that of fragments.
    #[must_use]
    pub fn is_ip6_fragment(&self) -> bool {
        self.is_fragment() && self.ip.is_some_and(|ip| ip.version() == 6)
    }

    /// The protocol number (that of the IP header for fragments).
    #[must_use]
    pub fn protocol(&self) -> Option<u8> {
        self.ip.map(|ip| ip.protocol)
    }

    /// Whether it was put together from fragments.
    #[must_use]
    pub fn is_rebuilt(&self) -> bool {
        self.origin == Origin::Rebuilt
    }

    /// Whether the checksum of TCP, UDP, ICMP or ICMPv6 is right; `None` where there is none or where
    /// it can't be told because bytes were not captured.
    #[must_use]
    pub fn is_transport_checksum_right(&self) -> Option<bool> {
        let ip = self.ip.as_ref()?;
        let whole = ip.total_bytes as usize == ip.header.len() + ip.payload.len();
        if !whole || ip.is_fragment() {
            return None;
        }
        match self.transport {
            Transport::Tcp(_) | Transport::Icmp6(_) => {
                Some(checksum::transport(ip, ip.payload) == 0)
            }
            Transport::Udp { bytes, header, .. } => {
                let stored = header.get(6..8)?;
                if stored == [0, 0] {
                    return ip.source.is_ipv6().then_some(false);
                }
                let datagram = ip.payload.get(..usize::from(bytes))?;
                Some(checksum::transport(ip, datagram) == 0)
            }
            Transport::Icmp(_) => Some(checksum::sum(&[ip.payload]) == 0),
            Transport::Sctp { .. } | Transport::Other(_) | Transport::None => None,
        }
    }
}
