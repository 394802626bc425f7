//! Keywords about headers, flows and transactions.

use hookprobe_traffic::{Direction, app::Proto, event::Event};

use super::{Builder, Done, RuleError, fault, header};
use crate::{
    buffer::Place,
    number::Compare,
    rule::{AppAt, AppName, FlagMode, FlowTest, Layer, Side, Test, TxTest, VlanLayer},
};

const DNS_PLACES: &[Place] = &[
    place(Proto::Dns, Direction::ToServer, 1),
    place(Proto::Dns, Direction::ToClient, 1),
    place(Proto::Mdns, Direction::ToServer, 1),
    place(Proto::Mdns, Direction::ToClient, 1),
];
const TLS_PLACES: &[Place] =
    &[place(Proto::Tls, Direction::ToServer, 0), place(Proto::Tls, Direction::ToClient, 0)];
const TLS_CHAIN_PLACES: &[Place] = &[place(Proto::Tls, Direction::ToClient, 2)];
const SSH_PLACES: &[Place] =
    &[place(Proto::Ssh, Direction::ToServer, 0), place(Proto::Ssh, Direction::ToClient, 0)];
const FILE_PLACES: &[Place] =
    &[place(Proto::Http1, Direction::ToServer, 3), place(Proto::Http1, Direction::ToClient, 3)];
const HTTP_PLACES: &[Place] =
    &[place(Proto::Http1, Direction::ToServer, 0), place(Proto::Http1, Direction::ToClient, 0)];
const SMTP_PLACES: &[Place] =
    &[place(Proto::Smtp, Direction::ToServer, 0), place(Proto::Smtp, Direction::ToClient, 0)];
const QUIC_PLACES: &[Place] =
    &[place(Proto::Quic, Direction::ToServer, 0), place(Proto::Quic, Direction::ToClient, 0)];
const DHCP_PLACES: &[Place] =
    &[place(Proto::Dhcp, Direction::ToServer, 0), place(Proto::Dhcp, Direction::ToClient, 0)];

pub(super) const fn place(proto: Proto, direction: Direction, progress: u8) -> Place {
    Place { proto, direction, progress }
}

impl Builder<'_, '_> {
    pub(super) fn packet_option(
        &mut self,
        name: &str,
        value: Option<&str>,
    ) -> Result<bool, RuleError> {
        let text = value.unwrap_or_default().trim();
        let compare = || Compare::parse(text).ok_or_else(|| fault(name, "no comparison"));
        let word = || text.parse::<u16>().map_err(|_| fault(name, "no number below 65536"));
        let long = || text.parse::<u32>().map_err(|_| fault(name, "no number of 32 bits"));
        let test = match name {
            "dsize" => Test::Size(compare()?),
            "flags" | "tcp.flags" => flags(name, text)?,
            "seq" | "tcp.seq" => Test::Seq(long()?),
            "ack" | "tcp.ack" => Test::Ack(long()?),
            "window" | "tcp.window" => {
                let (is_negated, text) = negation(text);
                let value = text.parse().map_err(|_| fault(name, "no number"))?;
                Test::Window { value, is_negated }
            }
            "ttl" => Test::Ttl(compare()?),
            "tos" => {
                let (is_negated, text) = negation(text);
                let value = text.strip_prefix('x').map_or_else(
                    || text.parse::<u8>().ok(),
                    |hex| u8::from_str_radix(hex, 16).ok(),
                );
                Test::Tos { value: value.ok_or_else(|| fault(name, "no number"))?, is_negated }
            }
            "id" => Test::IpId(word()?),
            "ipopts" => Test::IpOption(ip_option(text).ok_or_else(|| fault(name, "unknown"))?),
            "fragbits" => fragment_bits(name, text)?,
            "fragoffset" => Test::FragmentOffset(compare()?),
            "itype" => Test::IcmpType(compare()?),
            "icode" => Test::IcmpCode(compare()?),
            "icmp_id" => Test::IcmpId(
                text.trim_matches('"').trim().parse().map_err(|_| fault(name, "no number"))?,
            ),
            "icmp_seq" => Test::IcmpSeq(
                text.trim_matches('"').trim().parse().map_err(|_| fault(name, "no number"))?,
            ),
            "icmpv6.mtu" => Test::Icmp6Mtu(compare()?),
            "ip_proto" => Test::IpProto(ip_proto(text).ok_or_else(|| fault(name, "unknown"))?),
            "tcp.mss" => Test::Mss(compare()?),
            "tcp.wscale" => Test::WindowScale(compare()?),
            "sameip" => Test::SameIp,
            "vlan.id" => vlan_id(name, text)?,
            "l3_proto" => Test::IpVersion(match text {
                "ipv4" | "ip4" => 4,
                "ipv6" | "ip6" => 6,
                _ => return Err(fault(name, format!("{text:?} is unknown"))),
            }),
            "vlan.layers" => Test::VlanLayers(compare()?),
            "tcpv4-csum" => checksum(name, text, Layer::Tcp4)?,
            "tcpv6-csum" => checksum(name, text, Layer::Tcp6)?,
            "udpv4-csum" => checksum(name, text, Layer::Udp4)?,
            "udpv6-csum" => checksum(name, text, Layer::Udp6)?,
            "icmpv4-csum" => checksum(name, text, Layer::Icmp4)?,
            "icmpv6-csum" => checksum(name, text, Layer::Icmp6)?,
            "ipv4-csum" => checksum(name, text, Layer::Ip4)?,
            "decode-event" => Test::Event(event(name, "decoder.", text)?),
            "stream-event" => {
                self.tests.push(Test::Event(event(name, "stream.", text)?));
                self.needs_packet = true;
                return Ok(true);
            }
            _ => return self.flow_option(name, text),
        };
        self.tests.push(test);
        self.needs_packet |= name != "decode-event";
        Ok(true)
    }

    fn flow_option(&mut self, name: &str, text: &str) -> Result<bool, RuleError> {
        let compare = |text: &str| Compare::parse(text).ok_or_else(|| fault(name, "no comparison"));
        let test = match name {
            "flow" => {
                let test = flow(name, text)?;
                Test::Flow(test)
            }
            "stream_size" => {
                let parts: Vec<&str> = text.split(',').map(str::trim).collect();
                let (side, operator, number) = match parts.as_slice() {
                    [side, operator, number] => (*side, *operator, *number),
                    [side, rest] => (*side, "", *rest),
                    _ => return Err(fault(name, "needs side, operator, number")),
                };
                let side = match side {
                    "server" => Side::To(Direction::ToClient),
                    "client" => Side::To(Direction::ToServer),
                    "both" => Side::Both,
                    "either" => Side::Either,
                    _ => return Err(fault(name, "side is unknown")),
                };
                let compare = compare(&format!("{operator}{number}"))?;
                self.needs_packet = true;
                Test::StreamSize { side, compare }
            }
            "flow.elephant" => match text {
                "toserver" | "toclient" | "either" | "both" => Test::Never,
                _ => return Err(fault(name, "side is unknown")),
            },
            "flow.age" => Test::FlowAge(compare(text)?),
            "flow.pkts" | "flow.bytes" => {
                let (side, number) =
                    text.split_once(',').ok_or_else(|| fault(name, "needs side, number"))?;
                let side = match side.trim() {
                    "toserver" => Side::To(Direction::ToServer),
                    "toclient" => Side::To(Direction::ToClient),
                    "either" => Side::Either,
                    "both" => Side::Both,
                    _ => return Err(fault(name, "side is unknown")),
                };
                counter(name == "flow.pkts", side, compare(number)?)
            }
            "flow.pkts_toserver"
            | "flow.pkts_toclient"
            | "flow.bytes_toserver"
            | "flow.bytes_toclient" => {
                let direction = if name.ends_with("toserver") {
                    Direction::ToServer
                } else {
                    Direction::ToClient
                };
                counter(name.starts_with("flow.pkts"), Side::To(direction), compare(text)?)
            }
            "app-layer-protocol" if self.has_app() => {
                return Err(fault(name, "the protocol is said already"));
            }
            "app-layer-protocol" => app_protocol(name, text)?,
            _ => return self.tx_option(name, text),
        };
        self.tests.push(test);
        Ok(true)
    }

    fn tx_option(&mut self, name: &str, text: &str) -> Result<bool, RuleError> {
        let compare = || Compare::parse(text).ok_or_else(|| fault(name, "no comparison"));
        let (test, places) = match name {
            "dns.opcode" => (TxTest::DnsOpcode(compare()?), DNS_PLACES),
            "dns.rcode" => {
                (TxTest::DnsRcode(named(text, &RCODES).map_or_else(compare, Ok)?), DNS_PLACES)
            }
            "dns.rrtype" => {
                (TxTest::DnsRrtype(named(text, RRTYPES).map_or_else(compare, Ok)?), DNS_PLACES)
            }
            "tls.version" | "ssl_version" => (tls_version(name, text)?, TLS_PLACES),
            "tls.cert_chain_len" => (TxTest::TlsChain(compare()?), TLS_CHAIN_PLACES),
            "filesize" => (TxTest::FileSize(compare()?), FILE_PLACES),
            "app-layer-event" => return self.app_event(name, text).map(|()| true),
            _ => return self.app_option(name, text),
        };
        self.tx_tests.push((test, places));
        Ok(true)
    }

    fn app_event(&mut self, name: &str, text: &str) -> Done {
        let Some((proto, event)) = text.split_once('.') else {
            // Protocol detection tells its events with the packet.
            let event = text.strip_prefix("applayer_").and_then(|_| Event::from_name(text));
            self.tests.push(Test::Event(event.ok_or_else(|| fault(name, "is unknown"))?));
            return Ok(());
        };
        let known = Proto::from_name(proto).ok_or_else(|| fault(name, "protocol is unknown"))?;
        let places = match known {
            Proto::Http1 | Proto::Http2 | Proto::Doh2 => HTTP_PLACES,
            Proto::Dns | Proto::Mdns => DNS_PLACES,
            Proto::Tls => TLS_PLACES,
            Proto::Ssh => SSH_PLACES,
            Proto::Smtp => SMTP_PLACES,
            Proto::Quic => QUIC_PLACES,
            Proto::Dhcp => DHCP_PLACES,
            _ => return Err(fault(name, format!("{proto:?} has no parser here"))),
        };
        let test = TxTest::Event { name: event.to_owned() };
        self.tx_tests.push((test, places));
        Ok(())
    }
}

fn negation(text: &str) -> (bool, &str) {
    match text.strip_prefix('!') {
        Some(rest) => (true, rest.trim()),
        None => (false, text),
    }
}

const fn counter(is_packets: bool, side: Side, compare: Compare) -> Test {
    if is_packets { Test::FlowPackets(side, compare) } else { Test::FlowBytes(side, compare) }
}

fn flags(name: &str, text: &str) -> Result<Test, RuleError> {
    let bits = |text: &str| {
        let mut bits = 0_u8;
        for letter in text.chars() {
            bits |= match letter.to_ascii_uppercase() {
                'F' => 0x01,
                'S' => 0x02,
                'R' => 0x04,
                'P' => 0x08,
                'A' => 0x10,
                'U' => 0x20,
                'E' | '2' => 0x40,
                'C' | '1' => 0x80,
                '0' | ' ' => 0,
                other => return Err(fault(name, format!("flag {other:?} is unknown"))),
            };
        }
        Ok(bits)
    };
    // `R,A`: the second part is a mask of flags that do not count.
    let (text, ignored) = match text.split_once(',') {
        Some((flags, ignored)) => (flags.trim(), bits(ignored.trim())?),
        None => (text, 0),
    };
    let (mode, text) = mode(text);
    let flags = bits(text)?;
    let is_none = text.contains('0');
    Ok(Test::TcpFlags { mode, flags, ignored, is_none })
}

fn mode(text: &str) -> (FlagMode, &str) {
    for (sign, mode) in [('+', FlagMode::AllOf), ('*', FlagMode::AnyOf), ('!', FlagMode::NoneOf)] {
        if let Some(rest) = text.strip_prefix(sign) {
            return (mode, rest.trim());
        }
        if let Some(rest) = text.strip_suffix(sign) {
            return (mode, rest.trim());
        }
    }
    (FlagMode::Exactly, text.strip_prefix('=').unwrap_or(text).trim())
}

fn fragment_bits(name: &str, text: &str) -> Result<Test, RuleError> {
    let (mode, text) = match mode(text) {
        // A sign behind the letters says nothing.
        (_, letters) if text.ends_with(['+', '*', '!']) => (FlagMode::Exactly, letters),
        found => found,
    };
    let mut bits = 0;
    for letter in text.chars() {
        bits |= match letter.to_ascii_uppercase() {
            'M' => 0b001,
            'D' => 0b010,
            'R' => 0b100,
            ' ' => 0,
            other => return Err(fault(name, format!("bit {other:?} is unknown"))),
        };
    }
    Ok(Test::FragmentBits { mode, bits })
}

/// Number of an IPv4 option; 255 is any.
fn ip_option(text: &str) -> Option<u8> {
    Some(match text {
        "rr" => 7,
        "eol" => 0,
        "nop" => 1,
        "ts" => 68,
        "sec" => 130,
        "esec" => 133,
        "lsrr" => 131,
        "ssrr" => 137,
        "satid" => 136,
        "cipso" => 134,
        "rtralt" => 148,
        "qs" => 25,
        "any" => 255,
        _ => return None,
    })
}

fn ip_proto(text: &str) -> Option<Compare> {
    let text = text.trim_matches('"').trim();
    let at = text.find(|letter: char| letter.is_alphanumeric())?;
    let (sign, name) = text.split_at_checked(at)?;
    let number = match name.trim().to_ascii_lowercase().as_str() {
        "icmp" => 1,
        "igmp" => 2,
        "ipip" | "ipencap" => 4,
        "tcp" => 6,
        "udp" => 17,
        "ipv6" => 41,
        "gre" => 47,
        "esp" => 50,
        "ah" => 51,
        "icmpv6" | "ipv6-icmp" => 58,
        "ospf" => 89,
        "pim" => 103,
        "vrrp" => 112,
        "sctp" => 132,
        other => other.parse::<u64>().ok().filter(|number| *number < 256)?,
    };
    Compare::parse(&format!("{}{number}", sign.trim()))
}

fn vlan_id(name: &str, text: &str) -> Result<Test, RuleError> {
    let (compare, layer) = match text.split_once(',') {
        Some((compare, layer)) => (compare, layer.trim()),
        None => (text, "any"),
    };
    let layer = match layer {
        "any" => VlanLayer::Any,
        "all" => VlanLayer::All,
        number => match number.parse::<i8>().map_err(|_| fault(name, "no layer"))? {
            layer @ 0..=2 => VlanLayer::Number(usize::from(layer.unsigned_abs())),
            layer @ -3..=-1 => VlanLayer::FromInner(usize::from(layer.unsigned_abs()) - 1),
            _ => return Err(fault(name, "layers are 0 to 2 and -1 to -3")),
        },
    };
    let compare = Compare::parse(compare).ok_or_else(|| fault(name, "no comparison"))?;
    Ok(Test::VlanId { layer, compare })
}

fn checksum(name: &str, text: &str, layer: Layer) -> Result<Test, RuleError> {
    match text.trim_matches('"') {
        "valid" => Ok(Test::Checksum { layer, is_valid: true }),
        "invalid" => Ok(Test::Checksum { layer, is_valid: false }),
        other => Err(fault(name, format!("{other:?} is unknown"))),
    }
}

fn event(name: &str, prefix: &str, text: &str) -> Result<Event, RuleError> {
    let text = text.trim_matches('"').to_ascii_lowercase();
    let full = if text.starts_with(prefix) { text.clone() } else { format!("{prefix}{text}") };
    Event::from_name(&full)
        .or_else(|| Event::from_name(&text))
        .ok_or_else(|| fault(name, format!("event {text:?} is unknown")))
}

fn flow(name: &str, text: &str) -> Result<FlowTest, RuleError> {
    let mut test = FlowTest::default();
    for word in text.split(',').map(str::trim) {
        match word.to_ascii_lowercase().as_str() {
            "to_server" | "from_client" => test.direction = Some(Direction::ToServer),
            "to_client" | "from_server" => test.direction = Some(Direction::ToClient),
            "established" => test.is_established = Some(true),
            "not_established" => test.is_established = Some(false),
            "stateless" => test.is_stateless = true,
            "only_stream" => test.only_stream = true,
            "no_stream" => test.no_stream = true,
            "only_frag" => test.only_fragment = true,
            "no_frag" => test.no_fragment = true,
            other => return Err(fault(name, format!("{other:?} is unknown"))),
        }
    }
    Ok(test)
}

fn app_protocol(name: &str, text: &str) -> Result<Test, RuleError> {
    let (is_negated, text) = negation(text);
    let (proto, at) = match text.split_once(',') {
        Some((proto, at)) => (proto.trim(), at.trim()),
        None => (text, "direction"),
    };
    let proto: AppName =
        header::app(proto).ok_or_else(|| fault(name, format!("{proto:?} is unknown")))?;
    let at = match at {
        "direction" => AppAt::Direction,
        "final" => AppAt::Final,
        "either" => AppAt::Either,
        "to_server" | "toserver" => AppAt::ToServer,
        "to_client" | "toclient" => AppAt::ToClient,
        "original" => AppAt::Original,
        other => return Err(fault(name, format!("{other:?} is unknown"))),
    };
    Ok(Test::AppProto { name: proto, is_negated, at })
}

fn tls_version(name: &str, text: &str) -> Result<TxTest, RuleError> {
    let mut versions = Vec::new();
    let mut is_negated = false;
    for word in text.split(',').map(|word| word.trim().trim_matches('"')) {
        let word = match word.strip_prefix('!') {
            Some(rest) => {
                is_negated = true;
                rest
            }
            None => word,
        };
        versions.push(match word.to_ascii_lowercase().as_str() {
            "sslv2" => 0x0002,
            "sslv3" => 0x0300,
            "1.0" | "tls1.0" => 0x0301,
            "1.1" | "tls1.1" => 0x0302,
            "1.2" | "tls1.2" => 0x0303,
            "1.3" | "tls1.3" => 0x0304,
            hex => hex
                .strip_prefix("0x")
                .and_then(|hex| u16::from_str_radix(hex, 16).ok())
                .ok_or_else(|| fault(name, format!("version {word:?} is unknown")))?,
        });
    }
    Ok(TxTest::TlsVersion { versions, is_negated })
}

const RCODES: [(&str, u64); 19] = [
    ("noerror", 0),
    ("formerr", 1),
    ("servfail", 2),
    ("nxdomain", 3),
    ("notimp", 4),
    ("refused", 5),
    ("yxdomain", 6),
    ("yxrrset", 7),
    ("nxrrset", 8),
    ("notauth", 9),
    ("notzone", 10),
    ("badvers", 16),
    ("badkey", 17),
    ("badtime", 18),
    ("badmode", 19),
    ("badname", 20),
    ("badalg", 21),
    ("badtrunc", 22),
    ("badcookie", 23),
];
const RRTYPES: &[(&str, u64)] = &[
    ("a", 1),
    ("ns", 2),
    ("cname", 5),
    ("soa", 6),
    ("ptr", 12),
    ("mx", 15),
    ("txt", 16),
    ("aaaa", 28),
    ("srv", 33),
    ("any", 255),
    ("md", 3),
    ("mf", 4),
    ("mb", 7),
    ("mg", 8),
    ("mr", 9),
    ("null", 10),
    ("wks", 11),
    ("hinfo", 13),
    ("minfo", 14),
    ("rp", 17),
    ("afsdb", 18),
    ("x25", 19),
    ("isdn", 20),
    ("rt", 21),
    ("nsap", 22),
    ("nsapptr", 23),
    ("sig", 24),
    ("key", 25),
    ("px", 26),
    ("gpos", 27),
    ("loc", 29),
    ("nxt", 30),
    ("atma", 34),
    ("naptr", 35),
    ("kx", 36),
    ("cert", 37),
    ("a6", 38),
    ("dname", 39),
    ("opt", 41),
    ("apl", 42),
    ("ds", 43),
    ("sshfp", 44),
    ("ipseckey", 45),
    ("rrsig", 46),
    ("nsec", 47),
    ("dnskey", 48),
    ("dhcid", 49),
    ("nsec3", 50),
    ("nsec3param", 51),
    ("tlsa", 52),
    ("hip", 55),
    ("cds", 59),
    ("cdnskey", 60),
    ("https", 65),
    ("spf", 99),
    ("tkey", 249),
    ("tsig", 250),
    ("maila", 254),
    ("uri", 256),
];

fn named(text: &str, names: &[(&str, u64)]) -> Option<Compare> {
    let (is_negated, text) = negation(text);
    let lower = text.to_ascii_lowercase();
    let value = names.iter().find(|(name, _)| *name == lower)?.1;
    Some(if is_negated { Compare::NotEqual(value) } else { Compare::Equal(value) })
}
