//! Captures of machines that leave checksums to the network card: what such a machine sends was
//! captured before the card filled them in.
//!
//! A sender none of whose packets in a sample has a right checksum is taken for such a machine: the
//! capture was made on it. Checksums of what it sends are not looked at, and neither are those of what is
//! sent to it, as its card joins segments and leaves the sum of the first. Suricata's `checksum-checks:
//! auto` decides for the whole capture (a tenth of the first 1000 packets wrong). The sample is taken before the first packet counts; a live
//! sensor takes none, as the kernel says what the card has yet to do.

use std::net::IpAddr;

use crate::{
    config, decode,
    packet::{Frame, Ip, Packet, Transport},
};

/// Packets of a sample, as many as Suricata's.
pub const SAMPLE_PACKETS_MAX: u32 = 1000;
/// Senders that are told apart; captures made on a machine have few that send wrong ones.
const SENDERS_MAX: usize = 64;
/// Wrong packets that are proof: fewer may be damaged, or a trick.
const WRONG_MIN: u32 = 5;

/// A sender in the sample.
#[derive(Clone, Copy, Debug)]
struct Sender {
    address: IpAddr,
    wrong: u32,
    /// One right packet settles it.
    is_right: bool,
}

/// What a sample shows.
#[derive(Clone, Debug, Default)]
pub(super) struct Offload {
    senders: Vec<Sender>,
    packets: u32,
}

impl Offload {
    /// Looks at a frame of the sample.
    pub(super) fn sample(&mut self, frame: &Frame<'_>, settings: &config::Decode) {
        if self.packets >= SAMPLE_PACKETS_MAX {
            return;
        }
        self.packets += 1;
        let (packet, _) = decode::decode(frame, 0, settings);
        self.packet(&packet);
    }

    fn packet(&mut self, packet: &Packet<'_>) {
        let has_sum = matches!(packet.transport, Transport::Tcp(_) | Transport::Udp { .. });
        let (Some(ip), Some(is_right)) = (packet.ip, packet.is_transport_checksum_right()) else {
            return;
        };
        if !has_sum || packet.is_invalid {
            return;
        }
        if let Some(sender) = self.senders.iter_mut().find(|one| one.address == ip.source) {
            sender.is_right |= is_right;
            sender.wrong = sender.wrong.saturating_add(u32::from(!is_right));
        } else if self.senders.len() < SENDERS_MAX {
            self.senders.push(Sender { address: ip.source, wrong: u32::from(!is_right), is_right });
        }
    }

    /// Whether checksums of `address` say nothing.
    fn contains(&self, address: IpAddr) -> bool {
        let is_offloading = |one: &Sender| !one.is_right && one.wrong >= WRONG_MIN;
        self.senders.iter().any(|one| one.address == address && is_offloading(one))
    }

    /// Whether one end of a packet is such a machine.
    pub(super) fn is_at_end_of(&self, ip: &Ip<'_>) -> bool {
        !self.senders.is_empty() && (self.contains(ip.source) || self.contains(ip.destination))
    }

    /// How many senders these are.
    pub(super) fn len(&self) -> usize {
        self.senders.iter().filter(|one| self.contains(one.address)).count()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Link;

    fn frame(source: u8, checksum: [u8; 2]) -> Vec<u8> {
        let mut bytes =
            vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, source, 10, 0, 0, 9];
        bytes.extend_from_slice(&[0, 9, 0, 10, 0, 8]);
        bytes.extend_from_slice(&checksum);
        bytes
    }

    fn sample(offload: &mut Offload, source: u8, checksum: [u8; 2]) {
        let bytes = frame(source, checksum);
        let frame = Frame { time_ns: 1, wire_bytes: 28, link: Link::Raw, bytes: &bytes };
        offload.sample(&frame, &config::Decode::default());
    }

    /// The checksum of `frame`, by what makes the sum right.
    fn right(source: u8) -> [u8; 2] {
        let all = (0..=u16::MAX).map(u16::to_be_bytes).find(|sum| {
            let bytes = frame(source, *sum);
            let frame = Frame { time_ns: 1, wire_bytes: 28, link: Link::Raw, bytes: &bytes };
            let (packet, _) = decode::decode(&frame, 0, &config::Decode::default());
            *sum != [0, 0] && packet.is_transport_checksum_right() == Some(true)
        });
        all.unwrap()
    }

    #[test]
    fn a_sender_without_one_right_checksum_is_not_checked() {
        let mut offload = Offload::default();
        let address = |last| IpAddr::from([10, 0, 0, last]);
        let (good, bad) = (right(2), [0xab, 0xcd]);
        for _ in 0..WRONG_MIN {
            sample(&mut offload, 1, bad);
            sample(&mut offload, 2, good);
            sample(&mut offload, 3, bad);
        }
        sample(&mut offload, 3, right(3));
        sample(&mut offload, 4, bad);
        let found = [1, 2, 3, 4].map(|last| offload.contains(address(last)));
        assert_eq!(found, [true, false, false, false]);
        assert_eq!(offload.len(), 1);
        for source in 5..=255 {
            sample(&mut offload, source, bad);
        }
        assert!(offload.senders.len() <= SENDERS_MAX);
    }
}
