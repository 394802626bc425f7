//! Bytes of netlink messages: building and cutting them. Pure. Shapes: linux/netlink.h.
//!
//! ```text
//! message   = length u32 | type u16 | flags u16 | sequence u32 | port u32 | fixed part | attributes
//! attribute = length u16 | type u16 (0x8000: nested) | value | padding to 4
//! ```
//!
//! Headers are in host byte order, values in the order that their protocol asks for. Own code,
//! because the generated bindings number `NFTA_LOOKUP_SREG` wrongly and write the end of set
//! elements in host order; what is built here is compared with what nft(8) sends.

use std::ffi::CStr;

/// Bytes in front of a message.
pub const HEADER_BYTES: usize = 16;
/// Message is a request.
pub const REQUEST: u16 = 1;
/// Answer it when it is done.
pub const ACKNOWLEDGE: u16 = 4;
/// Answer with all objects.
pub const DUMP: u16 = 0x300;
/// Make the object if it is missing.
pub const CREATE: u16 = 0x400;
/// Put it at the end.
pub const APPEND: u16 = 0x800;

const NESTED: u16 = 0x8000;

/// Attributes being built.
#[derive(Debug, Default)]
pub struct Attributes {
    bytes: Vec<u8>,
}

impl Attributes {
    /// Raw value. Ours are far shorter than the 64 KB that fit.
    pub fn put(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.bytes.extend_from_slice(&length.to_ne_bytes());
        self.bytes.extend_from_slice(&kind.to_ne_bytes());
        self.bytes.extend_from_slice(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self
    }

    /// Number in network order.
    pub fn be32(&mut self, kind: u16, value: u32) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Number in network order.
    pub fn be64(&mut self, kind: u16, value: u64) -> &mut Self {
        self.put(kind, &value.to_be_bytes())
    }

    /// Text with its final zero.
    pub fn text(&mut self, kind: u16, value: &CStr) -> &mut Self {
        self.put(kind, value.to_bytes_with_nul())
    }

    /// Attributes in an attribute.
    pub fn nest(&mut self, kind: u16, fill: impl FnOnce(&mut Self)) -> &mut Self {
        let mut inner = Self::default();
        fill(&mut inner);
        self.put(kind | NESTED, &inner.bytes)
    }
}

/// One whole message.
#[must_use]
pub fn message(
    kind: u16,
    flags: u16,
    sequence: u32,
    fixed: &[u8],
    fill: impl FnOnce(&mut Attributes),
) -> Vec<u8> {
    let mut attributes = Attributes::default();
    fill(&mut attributes);
    let length = HEADER_BYTES + fixed.len() + attributes.bytes.len();
    let mut bytes = u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes().to_vec();
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(&(flags | REQUEST).to_ne_bytes());
    bytes.extend_from_slice(&sequence.to_ne_bytes());
    bytes.extend_from_slice(&0u32.to_ne_bytes());
    bytes.extend_from_slice(fixed);
    bytes.extend_from_slice(&attributes.bytes);
    bytes
}

/// One message of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Message<'a> {
    /// Type.
    pub kind: u16,
    /// Flags.
    pub flags: u16,
    /// Of the request that it answers.
    pub sequence: u32,
    /// Fixed part and attributes.
    pub body: &'a [u8],
}

/// Cuts received bytes into messages; `None` when they are none.
#[must_use]
pub fn messages(bytes: &[u8]) -> Option<Vec<Message<'_>>> {
    let mut all = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] =
            *rest.first_chunk::<HEADER_BYTES>()?;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        all.push(Message {
            kind: u16::from_ne_bytes([k0, k1]),
            flags: u16::from_ne_bytes([f0, f1]),
            sequence: u32::from_ne_bytes([s0, s1, s2, s3]),
            body: rest.get(HEADER_BYTES..length)?,
        });
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Some(all)
}

/// The attributes of a message or of a nested attribute: type without flags, value. Stops at the
/// first that does not fit.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let [l0, l1, k0, k1] = *rest.first_chunk()?;
        let length = usize::from(u16::from_ne_bytes([l0, l1]));
        let kind = u16::from_ne_bytes([k0, k1]) & 0x3fff;
        let value = rest.get(4..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// The first attribute of a type.
#[must_use]
pub fn attribute(bytes: &[u8], wanted: u16) -> Option<&[u8]> {
    attributes(bytes).find(|(kind, _)| *kind == wanted).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn attributes_are_cut_with_checked_lengths() {
        let bytes = [5, 0, 1, 0, 9, 0, 0, 0, 8, 0, 2, 0x80, 1, 2, 3, 4, 200, 0, 3, 0];
        let got: Vec<_> = attributes(&bytes).collect();
        assert_eq!(got, [(1, &[9][..]), (2, &[1, 2, 3, 4][..])]);
        assert_eq!(attribute(&bytes, 2), Some(&[1, 2, 3, 4][..]));
        assert_eq!(attribute(&bytes, 3), None);
    }

    #[test]
    fn a_message_longer_than_its_bytes_is_refused() {
        let mut bytes = vec![0; 20];
        for (length, count) in [(21, None), (15, None), (20, Some(1))] {
            bytes[0] = length;
            assert_eq!(messages(&bytes).map(|all| all.len()), count, "{length}");
        }
    }

    #[test]
    fn what_is_built_is_cut_again() {
        let bytes = message(7, DUMP, 9, &[1, 2, 3, 4], |message| {
            message.text(1, c"ab").nest(2, |inner| {
                inner.be32(3, 5).put(4, &[6]);
            });
        });
        let all = messages(&bytes).unwrap();
        assert_eq!((all.len(), all[0].kind, all[0].sequence), (1, 7, 9));
        let body = &all[0].body[4..];
        assert_eq!(attribute(body, 1), Some(&b"ab\0"[..]));
        let inner = attribute(body, 2).unwrap();
        assert_eq!(attribute(inner, 3), Some(&[0, 0, 0, 5][..]));
        assert_eq!(attribute(inner, 4), Some(&[6][..]));
    }

    proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = messages(&bytes);
            let _ = attributes(&bytes).count();
        }
    }
}
