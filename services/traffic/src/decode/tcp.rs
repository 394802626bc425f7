//! TCP headers (RFC 9293) and their options.

use super::{Decoder, be16, be32};
use crate::{
    event::Event,
    packet::{Tcp, TcpFlags, TcpOptions, Transport},
};

/// Option kinds.
mod option {
    pub(super) const END: u8 = 0;
    pub(super) const NOP: u8 = 1;
    pub(super) const MSS: u8 = 2;
    pub(super) const WINDOW_SCALE: u8 = 3;
    pub(super) const SACK_PERMITTED: u8 = 4;
    pub(super) const SACK: u8 = 5;
    pub(super) const TIMESTAMPS: u8 = 8;
    pub(super) const MD5: u8 = 19;
    pub(super) const AUTHENTICATION: u8 = 29;
    pub(super) const FAST_OPEN: u8 = 34;
    pub(super) const EXPERIMENT_1: u8 = 253;
    pub(super) const EXPERIMENT_2: u8 = 254;
}

/// The greatest shift (RFC 7323 section 2.3); greater ones count as this one.
const WINDOW_SCALE_MAX: u8 = 14;

/// Fast open as an experiment (RFC 6994).
const FAST_OPEN_MAGIC: u16 = 0xf989;

impl<'a> Decoder<'a, '_> {
    pub(super) fn tcp(&mut self, bytes: &'a [u8]) {
        let Some(fixed) = bytes.first_chunk::<20>() else {
            return self.reject(Event::TcpPktTooSmall);
        };
        let [s0, s1, d0, d1, q0, q1, q2, q3, a0, a1, a2, a3, offset, flags, w0, w1, _, _, u0, u1] =
            *fixed;
        let length = usize::from(offset >> 4) * 4;
        let Some((header, payload)) = bytes.split_at_checked(length) else {
            return self.reject(Event::TcpHlenTooSmall);
        };
        let Some(options) = header.get(20..) else {
            return self.reject(Event::TcpInvalidOptlen);
        };
        let parsed =
            if options.is_empty() { TcpOptions::default() } else { self.tcp_options(options) };
        self.packet.transport = Transport::Tcp(Tcp {
            source: u16::from_be_bytes([s0, s1]),
            destination: u16::from_be_bytes([d0, d1]),
            seq: u32::from_be_bytes([q0, q1, q2, q3]),
            ack: u32::from_be_bytes([a0, a1, a2, a3]),
            reserved: offset & 15,
            flags: TcpFlags(flags),
            window: u16::from_be_bytes([w0, w1]),
            urgent: u16::from_be_bytes([u0, u1]),
            header,
            options,
            parsed,
        });
        self.packet.payload = payload;
    }

    fn tcp_options(&mut self, mut options: &[u8]) -> TcpOptions {
        let mut found = TcpOptions::default();
        let mut has_sack = false;
        while let [kind, rest @ ..] = options {
            match *kind {
                option::END => break,
                option::NOP => {
                    options = rest;
                    continue;
                }
                _ => {}
            }
            let Some(length) = rest.first() else { break };
            let length = usize::from(*length);
            let Some((whole, behind)) = options.split_at_checked(length).filter(|_| length >= 2)
            else {
                self.reject(Event::TcpOptInvalidLen);
                break;
            };
            let body = whole.get(2..).unwrap_or_default();
            self.tcp_option(*kind, body, &mut found, &mut has_sack);
            options = behind;
        }
        found
    }

    fn tcp_option(&mut self, kind: u8, body: &[u8], found: &mut TcpOptions, has_sack: &mut bool) {
        let is_length_right = match kind {
            option::MSS => body.len() == 2,
            option::WINDOW_SCALE => body.len() == 1,
            option::SACK_PERMITTED => body.is_empty(),
            option::TIMESTAMPS => body.len() == 8,
            option::SACK => body.len().is_multiple_of(8) && body.len() <= 32,
            option::FAST_OPEN => {
                body.is_empty() || ((4..=16).contains(&body.len()) && body.len().is_multiple_of(2))
            }
            option::EXPERIMENT_1 | option::EXPERIMENT_2 => matches!(body.len(), 2 | 10),
            option::MD5 => body.len() == 16,
            option::AUTHENTICATION => body.len() >= 2,
            _ => true,
        };
        if !is_length_right {
            return if matches!(kind, option::MD5 | option::AUTHENTICATION) {
                self.reject(Event::TcpOptInvalidLen);
            } else {
                self.note(Event::TcpOptInvalidLen);
            };
        }
        let is_duplicate = match kind {
            option::MSS => found.mss.is_some(),
            option::WINDOW_SCALE => found.window_scale.is_some(),
            option::SACK_PERMITTED => found.is_sack_permitted,
            option::TIMESTAMPS => found.timestamps.is_some(),
            option::SACK => *has_sack && !body.is_empty(),
            option::FAST_OPEN => found.is_fast_open,
            _ => false,
        };
        if is_duplicate {
            return self.note(Event::TcpOptDuplicate);
        }
        match kind {
            option::MSS => found.mss = be16(body, 0),
            option::WINDOW_SCALE => {
                if body.first().is_some_and(|scale| *scale > WINDOW_SCALE_MAX) {
                    self.note(Event::TcpOptWscaleOverMax);
                }
                found.window_scale = body.first().map(|scale| (*scale).min(WINDOW_SCALE_MAX));
            }
            option::SACK_PERMITTED => found.is_sack_permitted = true,
            option::TIMESTAMPS => found.timestamps = be32(body, 0).zip(be32(body, 4)),
            option::SACK => {
                *has_sack |= !body.is_empty();
                found.sack_blocks = u8::try_from(body.len() / 8).unwrap_or(0);
            }
            option::FAST_OPEN => found.is_fast_open = true,
            option::EXPERIMENT_1 | option::EXPERIMENT_2
                if be16(body, 0) == Some(FAST_OPEN_MAGIC) =>
            {
                found.is_fast_open = true;
            }
            _ => {}
        }
    }
}
