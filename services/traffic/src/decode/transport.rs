//! UDP (RFC 768), SCTP (RFC 9260), and the little that is looked at of IGMP and ESP.

use super::{Decoder, be16, be32};
use crate::{event::Event, packet::Transport};

/// Chunks of one SCTP packet that are walked, as in Suricata.
const CHUNKS_MAX: usize = 256;
/// Data chunks of one packet that are ordinary.
const DATA_CHUNKS_MAX: usize = 64;

impl<'a> Decoder<'a, '_> {
    pub(super) fn udp(&mut self, bytes: &'a [u8]) {
        let (Some(source), Some(destination), Some(length), Some(header)) =
            (be16(bytes, 0), be16(bytes, 2), be16(bytes, 4), bytes.get(..8))
        else {
            return self.reject(Event::UdpHlenTooSmall);
        };
        if bytes.len() < usize::from(length) {
            return self.reject(Event::UdpPktTooSmall);
        }
        let Some(payload) = bytes.get(8..usize::from(length)) else {
            return self.reject(Event::UdpLenInvalid);
        };
        self.packet.transport = Transport::Udp { source, destination, bytes: length, header };
        self.packet.payload = payload;
        self.udp_tunnel(source, destination, payload);
    }

    pub(super) fn sctp(&mut self, bytes: &'a [u8]) {
        let (Some(source), Some(destination), Some(tag), Some(header)) =
            (be16(bytes, 0), be16(bytes, 2), be32(bytes, 4), bytes.get(..12))
        else {
            return self.reject(Event::SctpPktTooSmall);
        };
        let payload = bytes.get(12..).unwrap_or_default();
        self.packet.transport = Transport::Sctp { source, destination, tag, header };
        self.packet.payload = payload;
        self.sctp_chunks(tag, payload);
    }

    fn sctp_chunks(&mut self, tag: u32, mut chunks: &[u8]) {
        let (mut count, mut data, mut inits) = (0usize, 0usize, 0usize);
        while !chunks.is_empty() {
            let (Some(kind), Some(length)) = (chunks.first(), be16(chunks, 2)) else {
                self.note(Event::SctpChunkTooSmall);
                break;
            };
            let length = usize::from(length);
            if length < 4 || length > chunks.len() {
                self.note(Event::SctpChunkLenInvalid);
                break;
            }
            count += 1;
            if count > CHUNKS_MAX {
                self.note(Event::SctpTooManyChunks);
                break;
            }
            match kind {
                0 => data += 1,
                1 => inits += 1,
                _ => {}
            }
            // Chunks are padded to four bytes; the last one may lack its padding.
            chunks = chunks.get(length.next_multiple_of(4)..).unwrap_or_default();
        }
        if inits > 0 && count > 1 {
            self.note(Event::SctpInitChunkBundled);
        }
        if inits > 0 && tag != 0 {
            self.note(Event::SctpInitWithNonZeroVtag);
        }
        if data > 0 && tag == 0 {
            self.note(Event::SctpDataWithZeroVtag);
        }
        if data > DATA_CHUNKS_MAX {
            self.note(Event::SctpTooManyDataChunks);
        }
    }

    pub(super) fn igmp(&mut self, bytes: &'a [u8]) {
        match bytes.first() {
            _ if bytes.len() < 8 => self.reject(Event::IgmpPktTooSmall),
            // A report of version 3, or a query with more than the old fields.
            Some(0x22) if bytes.len() < 16 => self.reject(Event::IgmpV3PktTooSmall),
            _ => {}
        }
    }

    pub(super) const fn esp(&mut self, bytes: &'a [u8]) {
        if bytes.len() < 8 {
            self.reject(Event::EspPktTooSmall);
        }
    }
}
