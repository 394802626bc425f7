//! Frames of Initial packets (RFC 9000, section 19) and the stream of CRYPTO data.

use crate::app::bytes::Cursor;

/// Most bytes of a handshake that are gathered: hellos with post-quantum shares have 2 KiB.
const CRYPTO_BYTES_MAX: usize = 65_536;
/// Most pieces that wait for what comes before them.
const PIECES_MAX: usize = 64;

/// A variable-length integer (RFC 9000, section 16).
pub(super) fn varint(cursor: &mut Cursor<'_>) -> Option<u64> {
    let first = cursor.u8()?;
    let more = (1_usize << (first >> 6)) - 1;
    let rest = cursor.take(more)?;
    Some(rest.iter().fold(u64::from(first & 0x3f), |value, byte| value << 8 | u64::from(*byte)))
}

/// CRYPTO data in order of offset.
#[derive(Debug, Default)]
pub(super) struct Crypto {
    /// Bytes from offset 0 on without a hole.
    pub ready: Vec<u8>,
    pieces: Vec<(usize, Vec<u8>)>,
}

impl Crypto {
    /// Room of what is kept.
    pub(super) fn held_bytes(&self) -> usize {
        let pieces = self.pieces.iter().map(|(_, piece)| piece.capacity());
        self.ready.capacity() + pieces.sum::<usize>()
    }

    fn add(&mut self, offset: u64, data: &[u8]) {
        let Ok(offset) = usize::try_from(offset) else { return };
        if offset.saturating_add(data.len()) > CRYPTO_BYTES_MAX || self.pieces.len() >= PIECES_MAX {
            return;
        }
        self.pieces.push((offset, data.to_vec()));
        self.pieces.sort_by_key(|(offset, _)| *offset);
        let ready = &mut self.ready;
        self.pieces.retain(|(offset, data)| {
            if *offset > ready.len() {
                return true;
            }
            ready.extend_from_slice(data.get(ready.len() - offset..).unwrap_or_default());
            false
        });
    }

    /// The first handshake message, once whole: type and body.
    pub(super) fn message(&self) -> Option<(u8, &[u8])> {
        let mut cursor = Cursor::new(&self.ready);
        let (kind, length) = (cursor.u8()?, cursor.u24()?);
        Some((kind, cursor.take(usize::try_from(length).ok()?)?))
    }
}

/// What a payload held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Seen {
    /// A CRYPTO frame.
    pub has_crypto: bool,
    /// A frame could not be read.
    pub is_malformed: bool,
    /// CONNECTION_CLOSE.
    pub has_close: bool,
}

/// Reads all frames of a payload.
pub(super) fn read(payload: &[u8], crypto: &mut Crypto) -> Seen {
    let mut seen = Seen::default();
    let mut cursor = Cursor::new(payload);
    while !cursor.is_empty() {
        if frame(&mut cursor, crypto, &mut seen).is_none() {
            seen.is_malformed = true;
            break;
        }
    }
    seen
}

fn frame(cursor: &mut Cursor<'_>, crypto: &mut Crypto, seen: &mut Seen) -> Option<()> {
    match varint(cursor)? {
        // PADDING and PING.
        0 | 1 => {}
        kind @ (2 | 3) => {
            let (_largest, _delay) = (varint(cursor)?, varint(cursor)?);
            let ranges = varint(cursor)?;
            varint(cursor)?;
            for _ in 0..ranges {
                varint(cursor)?;
                varint(cursor)?;
            }
            if kind == 3 {
                for _ in 0..3 {
                    varint(cursor)?;
                }
            }
        }
        6 => {
            let (offset, length) = (varint(cursor)?, varint(cursor)?);
            let data = cursor.take(usize::try_from(length).ok()?)?;
            crypto.add(offset, data);
            seen.has_crypto = true;
        }
        0x1c => {
            varint(cursor)?;
            varint(cursor)?;
            let length = varint(cursor)?;
            cursor.take(usize::try_from(length).ok()?)?;
            seen.has_close = true;
        }
        _ => return None,
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::{Crypto, Cursor, read, varint};

    #[test]
    fn integers_of_every_length() {
        let bytes = b"\x25\x7b\xbd\x9d\x7f\x3e\x7d\xc2\x19\x7c\x5e\xff\x14\xe8\x8c";
        let mut cursor = Cursor::new(bytes);
        let values: Vec<u64> = std::iter::from_fn(|| varint(&mut cursor)).collect();
        assert_eq!(values, [37, 15_293, 494_878_333, 151_288_809_941_952_652]);
    }

    #[test]
    fn pieces_out_of_order_and_over_each_other_join() {
        let mut crypto = Crypto::default();
        read(b"\x06\x04\x02ef\x00\x01\x06\x02\x03cde", &mut crypto);
        assert!(crypto.ready.is_empty());
        read(b"\x06\x00\x03abc", &mut crypto);
        assert_eq!(crypto.ready, b"abcdef");
        assert!(read(b"\x06\x00\x7f", &mut crypto).is_malformed);
        assert!(read(b"\x06\xff\xff\xff\xff\xff\xff\xff\xff\x00", &mut crypto).has_crypto);
    }
}
