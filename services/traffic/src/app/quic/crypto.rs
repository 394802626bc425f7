//! Keys of Initial packets (RFC 9001, section 5; RFC 9369): derived from the client's first
//! destination connection id, so that anybody on the path can read them.

use ring::aead::quic::{AES_128, HeaderProtectionKey};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Prk, Salt};

/// Label and salt differ by version.
struct Scheme {
    salt: [u8; 20],
    key: &'static [u8],
    iv: &'static [u8],
    hp: &'static [u8],
}

const VERSION_1: Scheme = Scheme {
    salt: [
        0x38, 0x76, 0x2c, 0xf7, 0xf5, 0x59, 0x34, 0xb3, 0x4d, 0x17, 0x9a, 0xe6, 0xa4, 0xc8, 0x0c,
        0xad, 0xcc, 0xbb, 0x7f, 0x0a,
    ],
    key: b"quic key",
    iv: b"quic iv",
    hp: b"quic hp",
};
const VERSION_2: Scheme = Scheme {
    salt: [
        0x0d, 0xed, 0xe3, 0xde, 0xf7, 0x00, 0xa6, 0xdb, 0x81, 0x93, 0x81, 0xbe, 0x6e, 0x26, 0x9d,
        0xcb, 0xf9, 0xbd, 0x2e, 0xd9,
    ],
    key: b"quicv2 key",
    iv: b"quicv2 iv",
    hp: b"quicv2 hp",
};
/// Drafts 29 to 32.
const DRAFT_29: Scheme = Scheme {
    salt: [
        0xaf, 0xbf, 0xec, 0x28, 0x99, 0x93, 0xd2, 0x4c, 0x9e, 0x97, 0x86, 0xf1, 0x9c, 0x61, 0x11,
        0xe0, 0x43, 0x90, 0xa8, 0x99,
    ],
    ..VERSION_1
};
/// Drafts 23 to 28.
const DRAFT_23: Scheme = Scheme {
    salt: [
        0xc3, 0xee, 0xf7, 0x12, 0xc7, 0x2e, 0xbb, 0x5a, 0x11, 0xa7, 0xd2, 0x43, 0x2b, 0xb4, 0x63,
        0x65, 0xbe, 0xf9, 0xf5, 0x02,
    ],
    ..VERSION_1
};

fn scheme(version: u32) -> Option<&'static Scheme> {
    match version {
        1 | 0xff00_0021..=0xff00_0022 => Some(&VERSION_1),
        0x6b33_43cf => Some(&VERSION_2),
        0xff00_001d..=0xff00_0020 => Some(&DRAFT_29),
        0xff00_0017..=0xff00_001c => Some(&DRAFT_23),
        _ => None,
    }
}

/// Whether the keys of `version` are known.
pub(super) fn is_known(version: u32) -> bool {
    scheme(version).is_some()
}

/// Keys of both directions of one connection.
pub(super) struct Keys {
    sides: [Side; 2],
}

struct Side {
    header: HeaderProtectionKey,
    packet: LessSafeKey,
    iv: [u8; 12],
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Keys")
    }
}

struct Bytes(usize);
impl KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

/// HKDF-Expand-Label (RFC 8446, section 7.1) with an empty context.
fn expand<const N: usize>(secret: &Prk, label: &[u8]) -> Option<[u8; N]> {
    let length = u16::try_from(N).ok()?.to_be_bytes();
    let label_length = [u8::try_from(label.len() + 6).ok()?];
    let info = [&length[..], &label_length, b"tls13 ", label, &[0]];
    let mut out = [0; N];
    secret.expand(&info, Bytes(N)).ok()?.fill(&mut out).ok()?;
    Some(out)
}

impl Keys {
    /// For the connection whose client chose `dcid` for its first packet.
    pub(super) fn new(version: u32, dcid: &[u8]) -> Option<Self> {
        let scheme = scheme(version)?;
        let initial = Salt::new(HKDF_SHA256, &scheme.salt).extract(dcid);
        let side = |label: &[u8]| -> Option<Side> {
            let secret = Prk::new_less_safe(HKDF_SHA256, &expand::<32>(&initial, label)?);
            Some(Side {
                header: HeaderProtectionKey::new(&AES_128, &expand::<16>(&secret, scheme.hp)?)
                    .ok()?,
                packet: LessSafeKey::new(
                    UnboundKey::new(&AES_128_GCM, &expand::<16>(&secret, scheme.key)?).ok()?,
                ),
                iv: expand::<12>(&secret, scheme.iv)?,
            })
        };
        Some(Self { sides: [side(b"client in")?, side(b"server in")?] })
    }

    /// Opens a packet: `packet` from its first byte to its end, the packet number at `number_at`.
    /// Returns the plain payload; `None` when it does not authenticate.
    pub(super) fn open(&self, side: usize, packet: &[u8], number_at: usize) -> Option<Vec<u8>> {
        let side = self.sides.get(side)?;
        let sample = packet.get(number_at + 4..number_at + 20)?;
        let mask = side.header.new_mask(sample).ok()?;
        let mut header = packet.get(..number_at + 4)?.to_vec();
        let first = header.first_mut()?;
        *first ^= mask[0] & 0x0f;
        let number_bytes = usize::from(*first & 3) + 1;
        let mut number = 0_u64;
        for (byte, mask) in header.iter_mut().skip(number_at).take(number_bytes).zip(&mask[1..]) {
            *byte ^= mask;
            number = number << 8 | u64::from(*byte);
        }
        header.truncate(number_at + number_bytes);
        let mut nonce = side.iv;
        for (slot, byte) in nonce.iter_mut().skip(4).zip(number.to_be_bytes()) {
            *slot ^= byte;
        }
        let mut payload = packet.get(number_at + number_bytes..)?.to_vec();
        let nonce = Nonce::assume_unique_for_key(nonce);
        let plain = side.packet.open_in_place(nonce, Aad::from(&header), &mut payload).ok()?;
        let length = plain.len();
        payload.truncate(length);
        Some(payload)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::{Keys, expand, scheme};
    use ring::aead::quic::{AES_128, HeaderProtectionKey};
    use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
    use ring::hkdf::{HKDF_SHA256, Prk, Salt};

    const DCID: [u8; 8] = [0x83, 0x94, 0xc8, 0xf0, 0x3e, 0x51, 0x57, 0x08];

    fn secret(version: u32, dcid: &[u8]) -> Prk {
        let scheme = scheme(version).unwrap();
        let initial = Salt::new(HKDF_SHA256, &scheme.salt).extract(dcid);
        Prk::new_less_safe(HKDF_SHA256, &expand::<32>(&initial, b"client in").unwrap())
    }

    /// RFC 9001, appendix A.1, and RFC 9369, appendix A.1.
    #[test]
    fn the_keys_of_the_standards() {
        let one = secret(1, &DCID);
        let key = 0x1f36_9613_dd76_d546_7730_efcb_e3b1_a22d_u128.to_be_bytes();
        assert_eq!(expand::<16>(&one, b"quic key").unwrap(), key);
        let hp = 0x9f50_449e_04a0_e810_283a_1e99_33ad_edd2_u128.to_be_bytes();
        assert_eq!(expand::<16>(&one, b"quic hp").unwrap(), hp);
        let two = secret(0x6b33_43cf, &DCID);
        let key = 0x8b1a_0bc1_2128_4290_a29e_0971_b5cd_045d_u128.to_be_bytes();
        assert_eq!(expand::<16>(&two, b"quicv2 key").unwrap(), key);
    }

    /// A client's first datagram with `frames`.
    pub(in super::super) fn initial(version: u32, frames: &[u8]) -> Vec<u8> {
        let scheme = scheme(version).unwrap();
        let secret = secret(version, &DCID);
        let mut payload = frames.to_vec();
        payload.resize(1_162, 0);
        let kind = if version == 1 { 0xc3 } else { 0xd3 };
        let length = u16::try_from(payload.len() + 16 + 4).unwrap() | 0x4000;
        let mut packet = vec![kind];
        packet.extend_from_slice(&version.to_be_bytes());
        packet.push(8);
        packet.extend_from_slice(&DCID);
        packet.extend_from_slice(&[0, 0]);
        packet.extend_from_slice(&length.to_be_bytes());
        let number_at = packet.len();
        packet.extend_from_slice(&[0, 0, 0, 2]);
        let mut nonce = expand::<12>(&secret, scheme.iv).unwrap();
        nonce[11] ^= 2;
        let key = expand::<16>(&secret, scheme.key).unwrap();
        let key = LessSafeKey::new(UnboundKey::new(&AES_128_GCM, &key).unwrap());
        let aad = Aad::from(packet.clone());
        key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), aad, &mut payload)
            .unwrap();
        packet.extend_from_slice(&payload);
        let hp = expand::<16>(&secret, scheme.hp).unwrap();
        let hp = HeaderProtectionKey::new(&AES_128, &hp).unwrap();
        let mask = hp.new_mask(&packet[number_at + 4..number_at + 20]).unwrap();
        packet[0] ^= mask[0] & 0x0f;
        for (byte, mask) in packet[number_at..number_at + 4].iter_mut().zip(&mask[1..]) {
            *byte ^= mask;
        }
        packet
    }

    #[test]
    fn what_was_sealed_opens_and_what_was_damaged_does_not() {
        for version in [1, 0x6b33_43cf] {
            let mut packet = initial(version, b"\x01hello");
            let keys = Keys::new(version, &DCID).unwrap();
            assert!(keys.open(0, &packet, 18).unwrap().starts_with(b"\x01hello"));
            assert!(keys.open(1, &packet, 18).is_none());
            packet[100] ^= 1;
            assert!(keys.open(0, &packet, 18).is_none());
        }
    }
}
