//! Buffers of packets.

use std::borrow::Cow;
use std::net::IpAddr;

use hookprobe_traffic::packet::{Packet, Transport};

use super::Buffer;

/// The bytes of `buffer`, if the packet has it.
pub(crate) fn data<'a>(buffer: Buffer, packet: &Packet<'a>) -> Option<Cow<'a, [u8]>> {
    let ip = packet.ip.as_ref();
    let address = |address: IpAddr| match address {
        IpAddr::V4(address) => Cow::Owned(address.octets().to_vec()),
        IpAddr::V6(address) => Cow::Owned(address.octets().to_vec()),
    };
    match (buffer, packet.transport) {
        (Buffer::Ipv4Header, _) => {
            ip.filter(|ip| ip.version() == 4).map(|ip| Cow::Borrowed(ip.header))
        }
        (Buffer::Ipv6Header, _) => {
            ip.filter(|ip| ip.version() == 6).map(|ip| Cow::Borrowed(ip.header))
        }
        (Buffer::TcpHeader, Transport::Tcp(tcp)) => Some(Cow::Borrowed(tcp.header)),
        (Buffer::UdpHeader, Transport::Udp { header, .. }) => Some(Cow::Borrowed(header)),
        (Buffer::Icmp4Header, Transport::Icmp(icmp))
        | (Buffer::Icmp6Header, Transport::Icmp6(icmp)) => Some(Cow::Borrowed(icmp.header)),
        (Buffer::IpSource, _) => ip.map(|ip| address(ip.source)),
        (Buffer::IpDestination, _) => ip.map(|ip| address(ip.destination)),
        _ => None,
    }
}
