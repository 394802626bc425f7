//! IEEE 802.11 frames as monitors capture them, and LLC with SNAP (IEEE 802.2), which is how an
//! Ethernet type stands in them.

use super::{Decoder, be16, link::Next};

/// Bits of the two bytes of frame control, as they come.
mod control {
    pub(super) const KIND: u8 = 0x0c;
    pub(super) const DATA: u8 = 0x08;
    pub(super) const EMPTY: u8 = 0x40;
    pub(super) const QOS: u8 = 0x80;
    pub(super) const BOTH_WAYS: u8 = 0x03;
    pub(super) const PROTECTED: u8 = 0x40;
    pub(super) const ORDER: u8 = 0x80;
}
/// In the first byte of QoS control: several frames in one.
const AGGREGATE: u8 = 0x80;
/// Addresses and length in front of each frame of an aggregate.
const SUBFRAME_BYTES: usize = 14;

impl<'a> Decoder<'a, '_> {
    /// The header that drivers put in front; its length stands in it, little end first.
    pub(super) fn radiotap(bytes: &'a [u8]) -> Next<'a> {
        let length = match bytes {
            [0, _, low, high, ..] => usize::from(u16::from_le_bytes([*low, *high])),
            _ => return Next::End,
        };
        bytes.get(length..).map_or(Next::End, Self::wlan)
    }

    /// Data frames that nobody encrypted; of an aggregate the first.
    pub(super) fn wlan(bytes: &'a [u8]) -> Next<'a> {
        let [first, second, ..] = bytes else { return Next::End };
        let is_data = first & control::KIND == control::DATA && first & control::EMPTY == 0;
        if !is_data || second & control::PROTECTED != 0 {
            return Next::End;
        }
        let mut length = 24;
        if second & control::BOTH_WAYS == control::BOTH_WAYS {
            length += 6;
        }
        if first & control::QOS != 0 {
            let is_aggregate = bytes.get(length).is_some_and(|qos| qos & AGGREGATE != 0);
            length += 2;
            if second & control::ORDER != 0 {
                length += 4;
            }
            if is_aggregate {
                length += SUBFRAME_BYTES;
            }
        }
        bytes.get(length..).map_or(Next::End, Self::llc)
    }

    /// SNAP with the organisation that stands for Ethernet types; all else is no IP.
    pub(super) fn llc(bytes: &'a [u8]) -> Next<'a> {
        match bytes {
            [0xaa, 0xaa, 0x03, 0, 0, 0, _, _, rest @ ..] => {
                be16(bytes, 6).map_or(Next::End, |kind| Next::Type(kind, rest))
            }
            _ => Next::End,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        config,
        decode::decode,
        packet::{Frame, Link, Transport},
    };

    const UDP: [u8; 28] = [
        0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 1, 10, 0, 0, 2, 0, 9, 0, 10, 0, 8, 0, 0,
    ];

    fn ports(link: Link, parts: &[&[u8]]) -> Option<(u16, u16)> {
        let bytes = parts.concat();
        let wire_bytes = u32::try_from(bytes.len()).unwrap();
        let frame = Frame { time_ns: 1, wire_bytes, link, bytes: &bytes };
        let (packet, _) = decode(&frame, 1, &config::Decode::default());
        assert!(matches!(packet.transport, Transport::Udp { .. } | Transport::None));
        packet.ports()
    }

    const SNAP: [u8; 8] = [0xaa, 0xaa, 3, 0, 0, 0, 8, 0];

    #[test]
    fn data_frames() {
        let rest = [0; 22];
        let check = |head: &[u8], expect| {
            assert_eq!(ports(Link::Wlan, &[head, &rest, &SNAP, &UDP]), expect);
        };
        check(&[0x08, 0x01], Some((9, 10)));
        check(&[0x08, 0x41], None);
        check(&[0x48, 0x01], None);
        check(&[0x80, 0x00], None);
        let qos = [0x88, 0x02];
        assert_eq!(ports(Link::Wlan, &[&qos, &rest, &[0, 0], &SNAP, &UDP]), Some((9, 10)));
        let tap = [0, 0, 10, 0, 0, 0, 0, 0, 0, 0];
        let head = [0x08, 0x02];
        assert_eq!(ports(Link::Radiotap, &[&tap, &head, &rest, &SNAP, &UDP]), Some((9, 10)));
    }

    #[test]
    fn snap_in_ethernet() {
        let head = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0, 36];
        assert_eq!(ports(Link::Ethernet, &[&head, &SNAP, &UDP]), Some((9, 10)));
        let other = [0x42, 0x42, 3, 0, 0, 0, 8, 0];
        assert_eq!(ports(Link::Ethernet, &[&head, &other, &UDP]), None);
    }
}
