//! Which protocol: by content of both directions, with ports as a hint.
//!
//! The rules are Suricata's: literals at the start of either direction, and for protocols without
//! literals a probe on their usual ports. What a direction shows is final for it.

use super::{Config, Fed, Meta, Proto, Transport, dhcp, dns, quic, socks, tls};
use crate::Direction;

/// First bytes of a direction that are looked at and held.
pub(super) const HEAD_BYTES_MAX: usize = 4_096;
/// Bytes of one direction without any from the other until nothing more is expected (Suricata's
/// limit for one-sided flows).
pub(super) const ONE_SIDED_BYTES_MAX: u64 = 100_000;

/// First bytes of a flow while its protocol is not known.
#[derive(Debug, Default)]
pub struct Detect {
    pub(super) heads: [Vec<u8>; 2],
    /// Bytes in all, those not held included.
    pub(super) totals: [u64; 2],
    pub(super) is_over: [bool; 2],
    pub(super) first: Option<Direction>,
    pub(super) first_ns: u64,
}

impl Detect {
    /// See [`crate::app::App::held_bytes`].
    pub(super) fn held_bytes(&self) -> usize {
        size_of::<Self>() + self.heads.iter().map(Vec::capacity).sum::<usize>()
    }

    /// Takes the next bytes of a direction.
    pub(super) fn add(&mut self, now_ns: u64, direction: Direction, data: &[u8], meta: &Meta<'_>) {
        let index = direction.index();
        let (Some(head), Some(total), Some(is_over)) =
            (self.heads.get_mut(index), self.totals.get_mut(index), self.is_over.get_mut(index))
        else {
            return;
        };
        if meta.gap > 0 {
            // What follows a hole is not the start of anything.
            *is_over = true;
            *total += meta.gap;
        }
        if data.is_empty() {
            return;
        }
        if self.first.is_none() {
            self.first = Some(direction);
            self.first_ns = now_ns;
        }
        if meta.transport == Transport::Udp {
            head.clear();
        }
        let is_whole = *total == head.len() as u64;
        let room = if is_whole {
            HEAD_BYTES_MAX.max(data.len()) - head.len().min(HEAD_BYTES_MAX)
        } else {
            0
        };
        head.extend_from_slice(data.get(..room.min(data.len())).unwrap_or_default());
        *total += data.len() as u64;
    }

    /// Nothing that is known will be found.
    pub(super) fn has_failed(&self, meta: &Meta<'_>, fed: &mut Fed) -> bool {
        let [server, client] = self.is_over;
        if server && client {
            return true;
        }
        let is_skipped = (0..2).any(|index| {
            let other = self.totals.get(1 - index) == Some(&0);
            let total = self.totals.get(index).copied().unwrap_or(0);
            other && self.is_over.get(index) == Some(&true) && total > ONE_SIDED_BYTES_MAX
        });
        if is_skipped && meta.transport == Transport::Tcp {
            fed.events.add("applayer_proto_detection_skipped");
            return true;
        }
        false
    }
}

/// What the bytes of one direction say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// This protocol.
    Is(Proto),
    /// Too few bytes to say.
    More,
    /// None that is known.
    No,
}

/// What one literal says about a protocol: bytes that must be at `offset`, letters of any case.
struct Literal {
    proto: Proto,
    offset: usize,
    bytes: &'static [u8],
}

const fn lit(proto: Proto, offset: usize, bytes: &'static [u8]) -> Literal {
    Literal { proto, offset, bytes }
}

const TO_SERVER: &[Literal] = &[
    lit(Proto::Http2, 0, b"PRI * HTTP/2.0\r\n"),
    lit(Proto::Ssh, 0, b"SSH-"),
    lit(Proto::Smtp, 0, b"EHLO"),
    lit(Proto::Smtp, 0, b"HELO"),
    lit(Proto::Smtp, 0, b"QUIT"),
    lit(Proto::Ftp, 0, b"USER "),
    lit(Proto::Ftp, 0, b"PASS "),
    lit(Proto::Ftp, 0, b"PORT "),
    lit(Proto::Ftp, 0, b"AUTH SSL"),
    lit(Proto::Ftp, 0, b"AUTH TLS"),
    lit(Proto::Ftp, 0, b"FEAT"),
    lit(Proto::Smb, 4, b"\xffSMB"),
    lit(Proto::Smb, 4, b"\xfeSMB"),
    lit(Proto::Dcerpc, 0, b"\x05\x00\x0b"),
    lit(Proto::Pgsql, 0, b"\x00\x00\x00\x08\x04\xd2\x16\x2f"),
    lit(Proto::Imap, 0, b"1 CAPABILITY"),
    lit(Proto::Imap, 0, b"CAPABILITY"),
    lit(Proto::Rfb, 0, b"RFB 003."),
    lit(Proto::Xmpp, 0, b"<?xml version='1.0'?><stream:"),
    lit(Proto::Xmpp, 0, b"<?xml version=\"1.0\"?><stream:"),
    lit(Proto::Xmpp, 0, b"<stream:stream"),
    lit(Proto::Sip, 0, b"INVITE "),
    lit(Proto::Sip, 0, b"REGISTER "),
    lit(Proto::Sip, 0, b"SUBSCRIBE "),
    lit(Proto::BittorrentDht, 0, b"d1:ad2:id20:"),
];

const TO_CLIENT: &[Literal] = &[
    lit(Proto::Http1, 0, b"HTTP/0.9"),
    lit(Proto::Http1, 0, b"HTTP/1.0"),
    lit(Proto::Http1, 0, b"HTTP/1.1"),
    lit(Proto::Ssh, 0, b"SSH-"),
    lit(Proto::Smb, 4, b"\xffSMB"),
    lit(Proto::Smb, 4, b"\xfeSMB"),
    lit(Proto::Dcerpc, 0, b"\x05\x00\x0c"),
    lit(Proto::Imap, 0, b"* OK "),
    lit(Proto::Pop3, 0, b"+OK"),
    lit(Proto::Rfb, 0, b"RFB 003."),
    lit(Proto::Sip, 0, b"SIP/2.0 "),
    lit(Proto::BittorrentDht, 0, b"d1:rd2:id20:"),
];

/// Methods that begin a request; a space or tab must follow.
const METHODS: [&[u8]; 28] = [
    b"GET",
    b"PUT",
    b"POST",
    b"HEAD",
    b"TRACE",
    b"OPTIONS",
    b"CONNECT",
    b"DELETE",
    b"PATCH",
    b"PROPFIND",
    b"PROPPATCH",
    b"MKCOL",
    b"COPY",
    b"MOVE",
    b"LOCK",
    b"UNLOCK",
    b"CHECKOUT",
    b"UNCHECKOUT",
    b"CHECKIN",
    b"UPDATE",
    b"LABEL",
    b"REPORT",
    b"MKWORKSPACE",
    b"MKACTIVITY",
    b"MERGE",
    b"INVALID",
    b"VERSION-CONTROL",
    b"BASELINE-CONTROL",
];

impl Literal {
    /// `Some(true)`: there; `Some(false)`: not; `None`: it may still come.
    fn test(&self, head: &[u8]) -> Option<bool> {
        let there = head.get(self.offset..)?;
        let common = there.len().min(self.bytes.len());
        let is_like = there
            .get(..common)
            .zip(self.bytes.get(..common))
            .is_some_and(|(there, bytes)| there.eq_ignore_ascii_case(bytes));
        if is_like { (common == self.bytes.len()).then_some(true) } else { Some(false) }
    }
}

/// Bytes below which Suricata does not say that they are of no protocol: as far as its patterns
/// reach. Measured with streams of 1 to 1024 bytes.
const TO_SERVER_BYTES_MIN: usize = 17;
const TO_CLIENT_BYTES_MIN: usize = 10;

/// Looks at the first bytes of a stream in one direction.
pub(super) fn tcp(
    direction: Direction,
    head: &[u8],
    ports: (u16, u16),
    config: &Config,
) -> Verdict {
    let (literals, bytes_min) = match direction {
        Direction::ToServer => (TO_SERVER, TO_SERVER_BYTES_MIN),
        Direction::ToClient => (TO_CLIENT, TO_CLIENT_BYTES_MIN),
    };
    let mut is_open = head.len() < bytes_min;
    for literal in literals {
        match literal.test(head) {
            Some(true) => return enabled(literal.proto, config),
            Some(false) => {}
            None => is_open = true,
        }
    }
    if direction == Direction::ToServer {
        match method(head) {
            Some(true) => return enabled(Proto::Http1, config),
            Some(false) => {}
            None => is_open = true,
        }
    }
    match tls::probe(direction, head) {
        Some(true) => return enabled(Proto::Tls, config),
        Some(false) => {}
        None => is_open = true,
    }
    if direction == Direction::ToServer && socks::probe(head) {
        return enabled(Proto::Socks, config);
    }
    match by_port(direction, head, ports, config) {
        Verdict::Is(proto) => return enabled(proto, config),
        Verdict::More => is_open = true,
        Verdict::No => {}
    }
    if is_open && head.len() < HEAD_BYTES_MAX { Verdict::More } else { Verdict::No }
}

fn enabled(proto: Proto, config: &Config) -> Verdict {
    if config.disabled.contains(&proto) { Verdict::No } else { Verdict::Is(proto) }
}

fn method(head: &[u8]) -> Option<bool> {
    let mut is_open = false;
    for method in METHODS {
        let common = head.len().min(method.len());
        if !head.get(..common)?.eq_ignore_ascii_case(method.get(..common)?) {
            continue;
        }
        match head.get(method.len()) {
            Some(b' ' | b'\t') => return Some(true),
            Some(_) => {}
            None => is_open = true,
        }
    }
    if is_open { None } else { Some(false) }
}

/// Protocols over TCP without a literal: only on their ports.
fn by_port(direction: Direction, head: &[u8], ports: (u16, u16), config: &Config) -> Verdict {
    let server = ports.1;
    if config.dns_ports.contains(&server) || config.dns_ports.contains(&ports.0) {
        let Some(message) = head.get(2..) else { return Verdict::More };
        if message.len() < 12 {
            return Verdict::More;
        }
        let length =
            head.first_chunk::<2>().map_or(0, |bytes| usize::from(u16::from_be_bytes(*bytes)));
        let is_whole = message.len() >= length;
        if length >= 12 && (dns::is_plausible(message) || !is_whole && dns::is_header(message)) {
            return Verdict::Is(Proto::Dns);
        }
        return Verdict::No;
    }
    if direction == Direction::ToClient {
        let is_greeting = head.starts_with(b"220 ") || head.starts_with(b"220-");
        let is_other = head.starts_with(b"220 (vsFTPd") || head.starts_with(b"220 (");
        if matches!(server, 25 | 465 | 587) {
            match head.get(4..).filter(|_| is_greeting) {
                Some(name) if is_host(name) => return Verdict::Is(Proto::Smtp),
                // What the client says will tell.
                Some(_) => return Verdict::More,
                None if b"220 ".starts_with(head) => return Verdict::More,
                None => {}
            }
        }
        if server == 21 && is_greeting || is_other {
            return Verdict::Is(Proto::Ftp);
        }
        // A server may say its settings before the client has said anything (RFC 9113, 3.4).
        if server == 80 && is_settings(head) {
            return Verdict::Is(Proto::Http2);
        }
        if is_greeting {
            // Of mail or of files: the client will tell.
            return Verdict::More;
        }
    }
    match (server, head) {
        (3389, [3, 0, _, _, _, 0xe0 | 0xd0, ..]) => Verdict::Is(Proto::Rdp),
        (88, [0, _, _, _, 0x6a..=0x6e | 0x7e, ..]) => Verdict::Is(Proto::Krb5),
        (1883, [0x10, ..]) if memchr::memmem::find(head, b"MQ").is_some() => {
            Verdict::Is(Proto::Mqtt)
        }
        (502, [_, _, 0, 0, ..]) => Verdict::Is(Proto::Modbus),
        // A client that does not ask for encryption begins with version 3 of the protocol.
        (5432, [0, 0, _, _, 0, 3, 0, _, _, ..]) if direction == Direction::ToServer => {
            Verdict::Is(Proto::Pgsql)
        }
        (389, [0x30, ..]) => Verdict::Is(Proto::Ldap),
        (23, [0xff, 0xf0..=0xff, ..]) => Verdict::Is(Proto::Telnet),
        _ => Verdict::No,
    }
}

/// The full name of a host and a blank, with which a server of mail says who it is (RFC 5321, 4.2).
fn is_host(text: &[u8]) -> bool {
    let is_of_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    let end = text.iter().position(|byte| !is_of_name(byte)).unwrap_or(text.len());
    let (name, rest) = text.split_at(end);
    name.contains(&b'.') && rest.first() == Some(&b' ')
}

/// A whole header of a frame with settings or their acknowledgement (RFC 9113, 4.1 and 6.5).
fn is_settings(head: &[u8]) -> bool {
    const SETTINGS: u8 = 4;
    const FRAME_BYTES_MAX: u32 = 16_384;
    let Some([a, b, c, SETTINGS, 0 | 1, high, _, _, _]) = head.first_chunk::<9>() else {
        return false;
    };
    high & 0x80 == 0 && u32::from_be_bytes([0, *a, *b, *c]) <= FRAME_BYTES_MAX
}

/// Looks at one datagram. The second value: client and server are the other way round.
pub(super) fn udp(
    direction: Direction,
    payload: &[u8],
    ports: (u16, u16),
    config: &Config,
) -> (Verdict, bool) {
    let on = |port: u16| ports.0 == port || ports.1 == port;
    let (found, is_reversed) = if (on(67) || on(68) || on(4011)) && dhcp::probe(payload) {
        (Some(Proto::Dhcp), false)
    } else if config.dns_ports.contains(&ports.1) && dns::is_plausible(payload) {
        let is_response = payload.get(2).is_some_and(|flags| flags & 0x80 != 0);
        (Some(Proto::Dns), is_response == (direction == Direction::ToServer))
    } else if on(5353) && dns::is_plausible(payload) {
        (Some(Proto::Mdns), false)
    } else if direction == Direction::ToServer && quic::probe(payload) {
        (Some(Proto::Quic), false)
    } else {
        (datagram_by_port(payload, ports), false)
    };
    (found.map_or(Verdict::No, |proto| enabled(proto, config)), is_reversed)
}

/// Protocols over UDP that are named, not parsed.
fn datagram_by_port(payload: &[u8], ports: (u16, u16)) -> Option<Proto> {
    let on = |port: u16| ports.0 == port || ports.1 == port;
    let literals = TO_SERVER.iter().chain(TO_CLIENT);
    let is_datagram =
        |literal: &&Literal| matches!(literal.proto, Proto::Sip | Proto::BittorrentDht);
    if let Some(literal) =
        literals.filter(is_datagram).find(|literal| literal.test(payload) == Some(true))
    {
        return Some(literal.proto);
    }
    match payload {
        [first, ..] if on(123) && payload.len() >= 48 && matches!(first & 7, 1..=6) => {
            Some(Proto::Ntp)
        }
        [0, 1..=6, ..] if on(69) => Some(Proto::Tftp),
        [0x30, ..] if on(161) || on(162) => Some(Proto::Snmp),
        [0x6a..=0x6e | 0x7e, ..] if on(88) => Some(Proto::Krb5),
        _ if (on(500) || on(4500)) && payload.len() >= 28 => Some(Proto::Ike),
        _ => None,
    }
}

/// The transport's probe, for callers that have both.
pub(super) fn probe(
    transport: Transport,
    direction: Direction,
    head: &[u8],
    ports: (u16, u16),
    config: &Config,
) -> (Verdict, bool) {
    match transport {
        Transport::Tcp => (tcp(direction, head, ports, config), false),
        Transport::Udp => udp(direction, head, ports, config),
    }
}
