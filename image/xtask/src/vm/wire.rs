//! The host as the wire: frames in and out of the guest's LAN port over QEMU's dgram back end.
//! No privilege, no real network: two Unix sockets in the machine's folder.

use std::{
    fs,
    net::Ipv4Addr,
    os::unix::net::UnixDatagram,
    path::{Path, PathBuf},
    time::Duration,
};

use etherparse::{
    EtherType, Ethernet2Header, IcmpEchoHeader, Icmpv4Header, Icmpv4Type, PacketBuilder,
    SlicedPacket, TransportSlice,
};

use crate::error::{Error, Result, at};

/// Largest frame that is read.
const FRAME_BYTES_MAX: usize = 9216;
/// The guest's card, see the arguments of the machine.
pub const GUEST_MAC: [u8; 6] = [0x52, 0x54, 0, 0x48, 0x50, 0x02];
/// The guest's address in the laboratory configuration.
pub const GUEST: Ipv4Addr = Ipv4Addr::new(10, 20, 0, 2);

/// A host that the drill plays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Station {
    /// Its address.
    pub address: Ipv4Addr,
    /// Its card.
    pub mac: [u8; 6],
}

impl Station {
    /// The station with the given last octet.
    #[must_use]
    pub fn new(last: u8) -> Self {
        Self { address: Ipv4Addr::new(10, 20, 0, last), mac: [2, 0, 0, 20, 0, last] }
    }
}

/// What came out of the guest, as far as the drill cares.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Heard {
    /// TCP RST to a station.
    Reset(Ipv4Addr),
    /// Echo reply to a station.
    EchoReply(Ipv4Addr, u16),
    /// Anything else.
    Other,
}

/// The host's end of the guest's LAN cable.
#[derive(Debug)]
pub struct Cable {
    socket: UnixDatagram,
    guest: PathBuf,
    stations: Vec<Station>,
}

impl Cable {
    /// Plugs in. The guest must have been started, or be started soon.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn plug(dir: &Path, stations: &[Station]) -> Result<Self> {
        let path = dir.join("lan-host.sock");
        let _ = fs::remove_file(&path);
        let socket = UnixDatagram::bind(&path).map_err(at(&path))?;
        socket.set_nonblocking(true).map_err(at(&path))?;
        Ok(Self { socket, guest: dir.join("lan-guest.sock"), stations: stations.to_vec() })
    }

    /// Sends one frame; waits a little while the guest's queue is full.
    ///
    /// # Errors
    /// [`Error::Io`] when the guest is gone.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        for _ in 0..6000 {
            match self.socket.send_to(frame, &self.guest) {
                Ok(_) => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {
                    std::thread::sleep(Duration::from_millis(5));
                }
                Err(error) => return Err(at(&self.guest)(error)),
            }
        }
        Err(Error::Check("the guest does not take frames on its LAN port".into()))
    }

    /// Takes everything that the guest sent; answers its ARP requests for our stations.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn drain(&self) -> Result<Vec<Heard>> {
        let mut heard = Vec::new();
        let mut buffer = vec![0; FRAME_BYTES_MAX];
        loop {
            match self.socket.recv(&mut buffer) {
                Ok(length) => heard.push(self.look(buffer.get(..length).unwrap_or_default())?),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(heard),
                Err(error) => return Err(at("lan-host.sock")(error)),
            }
        }
    }

    fn look(&self, frame: &[u8]) -> Result<Heard> {
        if let Some(reply) = self.arp_reply(frame) {
            self.send(&reply)?;
            return Ok(Heard::Other);
        }
        let Ok(packet) = SlicedPacket::from_ethernet(frame) else {
            return Ok(Heard::Other);
        };
        let Some(etherparse::NetSlice::Ipv4(ip)) = packet.net else {
            return Ok(Heard::Other);
        };
        let to = ip.header().destination_addr();
        Ok(match packet.transport {
            Some(TransportSlice::Tcp(tcp)) if tcp.rst() => Heard::Reset(to),
            Some(TransportSlice::Icmpv4(icmp)) => match icmp.icmp_type() {
                Icmpv4Type::EchoReply(echo) => Heard::EchoReply(to, echo.seq),
                _ => Heard::Other,
            },
            _ => Heard::Other,
        })
    }

    /// RFC 826: who has one of our stations?
    fn arp_reply(&self, frame: &[u8]) -> Option<Vec<u8>> {
        let body = frame.get(14..42)?;
        let request =
            frame.get(12..14)? == [0x08, 0x06] && body.get(..8)? == [0, 1, 8, 0, 6, 4, 0, 1];
        let target: [u8; 4] = body.get(24..28)?.try_into().ok()?;
        let station =
            self.stations.iter().find(|s| s.address.octets() == target).filter(|_| request)?;
        let (asker_mac, asker) = (body.get(8..14)?, body.get(14..18)?);
        let mut out = Vec::with_capacity(42);
        out.extend_from_slice(asker_mac);
        out.extend_from_slice(&station.mac);
        out.extend_from_slice(&[0x08, 0x06, 0, 1, 8, 0, 6, 4, 0, 2]);
        out.extend_from_slice(&station.mac);
        out.extend_from_slice(&station.address.octets());
        out.extend_from_slice(asker_mac);
        out.extend_from_slice(asker);
        Some(out)
    }
}

/// A TCP SYN from a station to a port of the guest.
#[must_use]
pub fn syn(from: Station, port: u16, from_port: u16) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(from.mac, GUEST_MAC)
        .ipv4(from.address.octets(), GUEST.octets(), 64)
        .tcp(from_port, port, 0x1000, 64240)
        .syn();
    let mut out = Vec::new();
    // Into a Vec with an empty payload: there is no error to have.
    let _ = builder.write(&mut out, &[]);
    out
}

/// An echo request from a station to the guest.
#[must_use]
pub fn echo(from: Station, seq: u16) -> Vec<u8> {
    let header = Icmpv4Header::with_checksum(
        Icmpv4Type::EchoRequest(IcmpEchoHeader { id: 0x4850, seq }),
        b"hookprobe",
    );
    let builder = PacketBuilder::ethernet2(from.mac, GUEST_MAC)
        .ipv4(from.address.octets(), GUEST.octets(), 64)
        .icmpv4(header.icmp_type);
    let mut out = Vec::new();
    // Into a Vec with a short payload: there is no error to have.
    let _ = builder.write(&mut out, b"hookprobe");
    out
}

/// A UDP datagram from a station to the guest.
#[must_use]
pub fn datagram(from: Station, port: u16, payload: &[u8]) -> Vec<u8> {
    let builder = PacketBuilder::ethernet2(from.mac, GUEST_MAC)
        .ipv4(from.address.octets(), GUEST.octets(), 64)
        .udp(40_000, port);
    let mut out = Vec::new();
    // Into a Vec with a short payload: there is no error to have.
    let _ = builder.write(&mut out, payload);
    out
}

/// Ethernet header check: a frame long enough to be sent.
#[must_use]
pub fn is_frame(frame: &[u8]) -> bool {
    Ethernet2Header::from_slice(frame).is_ok_and(|(header, _)| header.ether_type != EtherType(0))
}
