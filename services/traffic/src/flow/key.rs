//! What makes packets one flow.

use std::net::IpAddr;

use crate::packet::{Packet, Tcp, Transport};

/// Addresses, ports, protocol, VLANs and tunnel depth. Only `client` and `server` have an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    /// Who began.
    pub client: IpAddr,
    /// Who answers.
    pub server: IpAddr,
    /// Client's port; type of ICMP.
    pub client_port: u16,
    /// Server's port; for ICMP the type of the answer or, if there is none, the code (as in Zeek).
    pub server_port: u16,
    /// Protocol number of IP.
    pub protocol: u8,
    /// How many tunnels it is in.
    pub tunnel_depth: u8,
    /// VLANs, outermost first; zeros if they are not used.
    pub vlans: [u16; 3],
}

impl Key {
    /// Client and server exchanged.
    #[must_use]
    pub const fn reversed(&self) -> Self {
        Self {
            client: self.server,
            server: self.client,
            client_port: self.server_port,
            server_port: self.client_port,
            ..*self
        }
    }
}

/// An address as a number, IPv4 apart from IPv6.
pub(super) fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) | 1 << 127,
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Key {
    /// Whose packet `packet` is; `None` for what belongs to no flow.
    pub(crate) fn of(packet: &Packet<'_>, is_vlan_used: bool) -> Option<Self> {
        let ip = packet.ip.as_ref()?;
        let (client_port, server_port) = match packet.transport {
            Transport::Tcp(Tcp { source, destination, .. })
            | Transport::Udp { source, destination, .. }
            | Transport::Sctp { source, destination, .. } => (source, destination),
            Transport::Icmp(icmp) => {
                (icmp.kind.into(), answer4(icmp.kind).unwrap_or(icmp.code).into())
            }
            Transport::Icmp6(icmp) => {
                (icmp.kind.into(), answer6(icmp.kind).unwrap_or(icmp.code).into())
            }
            // GRE is a tunnel and nothing else.
            Transport::Other(47) | Transport::None => return None,
            Transport::Other(_) if ip.is_fragment() => return None,
            Transport::Other(_) => (0, 0),
        };
        Some(Self {
            client: ip.source,
            server: ip.destination,
            client_port,
            server_port,
            protocol: ip.protocol,
            tunnel_depth: packet.tunnel_depth,
            vlans: if is_vlan_used { packet.vlans.ids } else { [0; 3] },
        })
    }

    /// Only Zeek has connections of such protocols: all but TCP, UDP, SCTP, ICMP, ESP and IP in IP.
    pub(crate) const fn is_zeeks_alone(&self) -> bool {
        !matches!(self.protocol, 1 | 4 | 6 | 17 | 41 | 50 | 58 | 132)
    }

    /// The flow that an ICMP error is about, as the packet that it quotes went.
    pub(crate) fn of_error(packet: &Packet<'_>, is_vlan_used: bool) -> Option<Self> {
        let (Transport::Icmp(icmp) | Transport::Icmp6(icmp)) = packet.transport else {
            return None;
        };
        let about = icmp.about?;
        let (client_port, server_port) = about.ports?;
        Some(Self {
            client: about.source,
            server: about.destination,
            client_port,
            server_port,
            protocol: about.protocol,
            tunnel_depth: packet.tunnel_depth,
            vlans: if is_vlan_used { packet.vlans.ids } else { [0; 3] },
        })
    }
}

/// The type that answers a type of ICMP.
const fn answer4(kind: u8) -> Option<u8> {
    Some(match kind {
        8 => 0,
        0 => 8,
        13 => 14,
        14 => 13,
        15 => 16,
        16 => 15,
        10 => 9,
        9 => 10,
        17 => 18,
        18 => 17,
        _ => return None,
    })
}

/// The type that answers a type of ICMPv6.
const fn answer6(kind: u8) -> Option<u8> {
    Some(match kind {
        128 => 129,
        129 => 128,
        133 => 134,
        134 => 133,
        135 => 136,
        136 => 135,
        130 => 131,
        131 => 130,
        139 => 140,
        140 => 139,
        144 => 145,
        145 => 144,
        _ => return None,
    })
}
