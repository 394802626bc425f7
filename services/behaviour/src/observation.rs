//! What the detectors see: small facts about the traffic, none of the traffic itself.
//!
//! Made by [`crate::traffic`] from flows, by a reader of Zeek's logs in the tests, and by whatever
//! else knows one. Names come from strangers: any bytes, any length.

use std::{fmt, net::IpAddr};

/// Nanoseconds on the clock of the input (CLOCK_BOOTTIME live, capture time in a replay).
pub type TimeNs = u64;

/// One second.
pub const SECOND_NS: TimeNs = 1_000_000_000;
/// One minute.
pub const MINUTE_NS: TimeNs = 60 * SECOND_NS;
/// One hour.
pub const HOUR_NS: TimeNs = 60 * MINUTE_NS;
/// One day.
pub const DAY_NS: TimeNs = 24 * HOUR_NS;

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// Addresses more than one station, or none.
    #[must_use]
    pub fn is_group_or_zero(self) -> bool {
        self.0[0] & 1 == 1 || self.0 == [0; 6]
    }

    /// Chosen by the station itself (IEEE 802, the U/L bit): says nothing about its maker.
    #[must_use]
    pub fn is_local(self) -> bool {
        self.0[0] & 2 == 2
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [a, b, c, d, e, g] = self.0;
        write!(f, "{a:02x}:{b:02x}:{c:02x}:{d:02x}:{e:02x}:{g:02x}")
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What carries a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Protocol {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// ICMP or ICMPv6: the source port is the type, the destination port the code, as in Zeek.
    Icmp,
    /// Anything else.
    Other,
}

impl Protocol {
    /// Word for people.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Other => "ip",
        }
    }
}

/// How a connection stands, Zeek's `conn_state`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// A try without an answer.
    S0,
    /// Established, not ended.
    S1,
    /// Established, the client closed its half.
    S2,
    /// Established, the server closed its half.
    S3,
    /// Normal begin and end.
    Sf,
    /// Refused.
    Rej,
    /// Established, the client aborted.
    Rsto,
    /// Established, the server aborted.
    Rstr,
    /// A SYN and a RST of the client, never an answer.
    Rstos0,
    /// A SYN-ACK and a RST of the server, never a SYN.
    Rstrh,
    /// A SYN and a FIN of the client, never an answer.
    Sh,
    /// A SYN-ACK and a FIN of the server, never a SYN.
    Shr,
    /// Seen in the middle.
    Oth,
}

impl State {
    /// Zeek's name.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        match name {
            "S0" => Self::S0,
            "S1" => Self::S1,
            "S2" => Self::S2,
            "S3" => Self::S3,
            "SF" => Self::Sf,
            "REJ" => Self::Rej,
            "RSTO" => Self::Rsto,
            "RSTR" => Self::Rstr,
            "RSTOS0" => Self::Rstos0,
            "RSTRH" => Self::Rstrh,
            "SH" => Self::Sh,
            "SHR" => Self::Shr,
            _ => Self::Oth,
        }
    }

    /// Whether the client's try failed, succeeded, or nothing can be said.
    #[must_use]
    pub fn outcome(self) -> Option<Answer> {
        match self {
            Self::S1 | Self::S2 | Self::S3 | Self::Sf | Self::Rsto | Self::Rstr => {
                Some(Answer::Accepted)
            }
            Self::Rej => Some(Answer::Refused),
            // RSTOS0 is what a SYN scanner leaves: it answers a SYN-ACK that we may not have seen.
            Self::S0 | Self::Rstos0 | Self::Sh => Some(Answer::Silent),
            Self::Rstrh | Self::Shr | Self::Oth => None,
        }
    }
}

/// How a try ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Answer {
    /// It was accepted.
    Accepted,
    /// It was refused (RST).
    Refused,
    /// A router or the host said that it can't be reached (ICMP).
    Unreachable,
    /// Nothing came.
    Silent,
}

/// What is spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[expect(missing_docs, reason = "names of protocols")]
pub enum Service {
    #[default]
    Unknown,
    Dns,
    Mdns,
    Tls,
    Quic,
    Http,
    Ssh,
    Smtp,
    Dhcp,
    Ntp,
    Other,
}

/// What one side of a connection sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Volume {
    /// Packets.
    pub packets: u64,
    /// Bytes above the transport header.
    pub payload_bytes: u64,
    /// Bytes of the IP packets, headers included (Zeek's `*_ip_bytes`).
    pub ip_bytes: u64,
}

/// A connection as far as it went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Connection<'a> {
    /// Who began it.
    pub source: IpAddr,
    /// Whom.
    pub destination: IpAddr,
    /// Port of the source; type of ICMP.
    pub source_port: u16,
    /// Port of the destination; code of ICMP.
    pub destination_port: u16,
    /// What carries it.
    pub protocol: Protocol,
    /// First packet.
    pub first_ns: TimeNs,
    /// Last packet so far.
    pub last_ns: TimeNs,
    /// How it stands.
    pub state: State,
    /// What is spoken, as far as known.
    pub service: Service,
    /// By the source, so far.
    pub sent: Volume,
    /// By the destination, so far.
    pub received: Volume,
    /// Payload of the source since the observation before of the same connection.
    pub sent_bytes_new: u64,
    /// Payload of the destination since the observation before of the same connection.
    pub received_bytes_new: u64,
    /// Ethernet address of the source, when it is on a watched link.
    pub source_mac: Option<Mac>,
    /// Name that the client asked for in TLS, QUIC or HTTP.
    pub server_name: Option<&'a str>,
}

impl Connection<'_> {
    /// Seconds from the first to the last packet.
    #[must_use]
    pub fn duration_s(&self) -> f64 {
        self.last_ns.saturating_sub(self.first_ns) as f64 / SECOND_NS as f64
    }
}

/// One DNS message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dns<'a> {
    /// Who asked.
    pub client: IpAddr,
    /// Who was asked.
    pub server: IpAddr,
    /// Name of the first question, labels with dots between them, no dot at the end; any bytes.
    pub name: &'a [u8],
    /// Type of the first question.
    pub record_type: u16,
    /// `None` in a query, the response code in a response.
    pub response_code: Option<u16>,
    /// The whole message.
    pub message_bytes: u32,
    /// Data of the answer records.
    pub answer_bytes: u32,
    /// Addresses in the answer, the first few.
    pub addresses: &'a [IpAddr],
}

/// The first message of a TLS or QUIC client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TlsHello<'a> {
    /// Who speaks.
    pub client: IpAddr,
    /// To whom.
    pub server: IpAddr,
    /// Port of the server.
    pub server_port: u16,
    /// Server name, if the client says one.
    pub server_name: Option<&'a str>,
    /// JA4.
    pub ja4: Option<&'a str>,
}

/// One request of HTTP. Any bytes; what looks at it looks at the beginnings.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// Who asks.
    pub client: IpAddr,
    /// Whom.
    pub server: IpAddr,
    /// Port of the server.
    pub server_port: u16,
    /// The target as sent: path and query.
    pub target: &'a [u8],
    /// The header block as sent.
    pub fields: &'a [u8],
    /// Value of `User-Agent`.
    pub agent: &'a [u8],
    /// The beginning of the body, as far as it was kept.
    pub body: &'a [u8],
}

/// A login that a device says it refused (its syslog): the sender's claim, a hint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Login {
    /// Who tried.
    pub client: IpAddr,
    /// The device that tells.
    pub server: IpAddr,
}

/// Messages of DHCP that matter here (RFC 2131, option 53).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DhcpKind {
    /// A client looks for servers, or asks for a lease.
    Request,
    /// A server's OFFER.
    Offer,
    /// A server's ACK.
    Ack,
    /// Anything else.
    Other,
}

/// One DHCP message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Dhcp<'a> {
    /// What it is.
    pub kind: DhcpKind,
    /// Ethernet address of the frame's sender.
    pub sender: Option<Mac>,
    /// Hardware address of the client (`chaddr`).
    pub client: Mac,
    /// Server identifier (option 54), else the source address of an offer.
    pub server: Option<IpAddr>,
    /// Address given (`yiaddr`).
    pub given: Option<IpAddr>,
    /// Router offered (option 3).
    pub router: Option<IpAddr>,
    /// First name server offered (option 6).
    pub name_server: Option<IpAddr>,
    /// Host name (option 12).
    pub host_name: Option<&'a [u8]>,
    /// Vendor class (option 60).
    pub vendor_class: Option<&'a [u8]>,
    /// Parameter request list (option 55): the operating system's fingerprint.
    pub parameters: &'a [u8],
}

/// One ARP message (RFC 826).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arp {
    /// A reply, else a request.
    pub is_reply: bool,
    /// Ethernet address of the frame's sender.
    pub frame_mac: Mac,
    /// Sender hardware address.
    pub sender_mac: Mac,
    /// Sender protocol address.
    pub sender_ip: IpAddr,
    /// Target protocol address.
    pub target_ip: IpAddr,
}

impl Arp {
    /// Announces itself to everybody (RFC 5227, section 2.3; replies with the same meaning too).
    #[must_use]
    pub fn is_gratuitous(&self) -> bool {
        self.sender_ip == self.target_ip && !self.sender_ip.is_unspecified()
    }
}

/// One router advertisement (RFC 4861, section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterAdvertisement {
    /// Ethernet address of the frame's sender.
    pub mac: Mac,
    /// Source address.
    pub ip: IpAddr,
    /// How long it wants to be the default router; 0: it does not.
    pub lifetime_s: u16,
    /// First prefix, for evidence.
    pub prefix: Option<IpAddr>,
}

/// A device said its own name (mDNS, NetBIOS).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'a> {
    /// Address of who said it.
    pub ip: IpAddr,
    /// Its Ethernet address.
    pub mac: Option<Mac>,
    /// The name, e.g. `Kitchen._airplay._tcp.local` or `printer.local`.
    pub name: &'a [u8],
}

/// One fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observation<'a> {
    /// A connection's first packet.
    Started(Connection<'a>),
    /// The first answer to it: only while the detectors wait for one.
    Answered(Connection<'a>, Answer),
    /// It goes on; told every few minutes of a long one.
    Continued(Connection<'a>),
    /// It ended, or was given up. May come without [`Observation::Started`].
    Ended(Connection<'a>),
    /// DNS.
    Dns(Dns<'a>),
    /// TLS or QUIC.
    TlsHello(TlsHello<'a>),
    /// A request of HTTP that is complete, or as far as it went.
    Request(Request<'a>),
    /// DHCP.
    Dhcp(Dhcp<'a>),
    /// ARP.
    Arp(Arp),
    /// IPv6 router advertisement.
    RouterAdvertisement(RouterAdvertisement),
    /// A device's name.
    Named(Named<'a>),
    /// A login that a device refused.
    LoginFailed(Login),
}
