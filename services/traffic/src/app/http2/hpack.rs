//! HPACK (RFC 7541), decoding only, bounded.

use std::collections::VecDeque;
use std::sync::LazyLock;

/// Largest dynamic table that a peer may ask for here; senders stay at 4096 unless told otherwise.
const TABLE_BYTES_MAX: usize = 65_536;
/// What a table counts for an entry beside its text (RFC 7541, section 4.1).
const ENTRY_BYTES: usize = 32;
/// Longest text of one string.
const STRING_BYTES_MAX: usize = 65_536;
/// Fields of one block.
const FIELDS_MAX: usize = 1_024;

/// A field: name and value.
pub(super) type Field = (Vec<u8>, Vec<u8>);

/// Why a block can't be read. The table is then out of step, and so is all that follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Broken {
    /// It ends inside a field.
    Short,
    /// An index that no table has.
    Index,
    /// A number that is too large.
    Overflow,
    /// A string whose code is wrong.
    Huffman,
}

/// The decoder of one direction.
#[derive(Debug)]
pub(super) struct Decoder {
    dynamic: VecDeque<Field>,
    bytes: usize,
    bytes_max: usize,
}

impl Default for Decoder {
    fn default() -> Self {
        Self { dynamic: VecDeque::new(), bytes: 0, bytes_max: 4_096 }
    }
}

impl Decoder {
    /// Bytes of the table, by the protocol's own count (RFC 7541, section 4.1).
    pub(super) const fn held_bytes(&self) -> usize {
        self.bytes
    }

    /// Reads a whole block.
    pub(super) fn block(&mut self, bytes: &[u8]) -> Result<Vec<Field>, Broken> {
        let mut rest = bytes;
        let mut fields = Vec::new();
        while let Some(first) = rest.first().copied() {
            let field = match first {
                0x80.. => {
                    let index = integer(&mut rest, 7)?;
                    self.entry(index)?
                }
                0x40..0x80 => {
                    let field = self.literal(&mut rest, 6)?;
                    self.insert(field.clone());
                    field
                }
                0x20..0x40 => {
                    self.bytes_max = integer(&mut rest, 5)?.min(TABLE_BYTES_MAX);
                    self.evict();
                    continue;
                }
                0..0x20 => self.literal(&mut rest, 4)?,
            };
            if fields.len() < FIELDS_MAX {
                fields.push(field);
            }
        }
        Ok(fields)
    }

    fn literal(&self, rest: &mut &[u8], prefix: u32) -> Result<Field, Broken> {
        let name = match integer(rest, prefix)? {
            0 => string(rest)?,
            index => self.entry(index)?.0,
        };
        Ok((name, string(rest)?))
    }

    fn entry(&self, index: usize) -> Result<Field, Broken> {
        let at = index.checked_sub(1).ok_or(Broken::Index)?;
        if let Some((name, value)) = STATIC.get(at) {
            return Ok((name.as_bytes().to_vec(), value.as_bytes().to_vec()));
        }
        self.dynamic.get(at - STATIC.len()).cloned().ok_or(Broken::Index)
    }

    fn insert(&mut self, field: Field) {
        self.bytes += field.0.len() + field.1.len() + ENTRY_BYTES;
        self.dynamic.push_front(field);
        self.evict();
    }

    fn evict(&mut self) {
        while self.bytes > self.bytes_max {
            let Some((name, value)) = self.dynamic.pop_back() else { break };
            self.bytes -= name.len() + value.len() + ENTRY_BYTES;
        }
    }
}

/// Section 5.1.
fn integer(rest: &mut &[u8], prefix: u32) -> Result<usize, Broken> {
    let (&first, mut tail) = rest.split_first().ok_or(Broken::Short)?;
    let limit = (1_usize << prefix) - 1;
    let mut value = usize::from(first) & limit;
    if value == limit {
        for shift in (0..28).step_by(7) {
            let (&byte, behind) = tail.split_first().ok_or(Broken::Short)?;
            tail = behind;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                *rest = tail;
                return Ok(value);
            }
        }
        return Err(Broken::Overflow);
    }
    *rest = tail;
    Ok(value)
}

/// Section 5.2.
fn string(rest: &mut &[u8]) -> Result<Vec<u8>, Broken> {
    let is_coded = rest.first().is_some_and(|first| first & 0x80 != 0);
    let length = integer(rest, 7)?;
    let (text, tail) = rest.split_at_checked(length).ok_or(Broken::Short)?;
    *rest = tail;
    if length > STRING_BYTES_MAX {
        return Err(Broken::Overflow);
    }
    if is_coded { huffman(text) } else { Ok(text.to_vec()) }
}

/// Shortest and longest code.
const BITS_MIN: usize = 5;
const BITS_MAX: usize = 30;

/// Length of the code of each byte (appendix B). The code is canonical: within a length the codes
/// count up in the order of the bytes, so the lengths are all that has to be known.
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28,
    28, 28, 28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5,
    5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7,
    7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6,
    6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22,
    23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22,
    21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20,
    22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19,
    21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20, 21, 22, 21, 21, 23, 22,
    22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
];

/// For each length: the first code, and the bytes that have codes of that length.
struct Codes {
    first: [u32; BITS_MAX + 1],
    bytes: [Vec<u8>; BITS_MAX + 1],
}

static CODES: LazyLock<Codes> = LazyLock::new(|| {
    let mut codes = Codes { first: [0; BITS_MAX + 1], bytes: Default::default() };
    for (byte, length) in (0..=u8::MAX).zip(LENGTHS) {
        if let Some(bytes) = codes.bytes.get_mut(usize::from(length)) {
            bytes.push(byte);
        }
    }
    let mut next = 0_u32;
    for (first, bytes) in codes.first.iter_mut().zip(&codes.bytes) {
        next <<= 1;
        *first = next;
        next += u32::try_from(bytes.len()).unwrap_or(0);
    }
    codes
});

fn huffman(text: &[u8]) -> Result<Vec<u8>, Broken> {
    let codes = &*CODES;
    let mut out = Vec::with_capacity(text.len() * 8 / BITS_MIN);
    let (mut code, mut length) = (0_u32, 0_usize);
    for bit in text.iter().flat_map(|byte| (0..8).rev().map(move |shift| byte >> shift & 1)) {
        code = code << 1 | u32::from(bit);
        length += 1;
        let (Some(first), Some(bytes)) = (codes.first.get(length), codes.bytes.get(length)) else {
            return Err(Broken::Huffman);
        };
        let index = code.checked_sub(*first).and_then(|index| usize::try_from(index).ok());
        if let Some(byte) = index.and_then(|index| bytes.get(index)) {
            out.push(*byte);
            (code, length) = (0, 0);
        }
    }
    // What is left is padding: less than a byte, all ones.
    if length < 8 && code == (1 << length) - 1 { Ok(out) } else { Err(Broken::Huffman) }
}

/// Appendix A.
const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];

#[cfg(test)]
mod tests {
    use super::{Broken, Decoder, huffman};

    fn check(decoder: &mut Decoder, block: &[u8], want: &[(&str, &str)]) {
        let fields = decoder.block(block).unwrap();
        let got: Vec<(String, String)> = fields
            .into_iter()
            .map(|(name, value)| {
                (String::from_utf8(name).unwrap(), String::from_utf8(value).unwrap())
            })
            .collect();
        let want: Vec<(String, String)> =
            want.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
        assert_eq!(got, want);
    }

    /// RFC 7541, appendix C.4: requests on one connection, with Huffman code.
    #[test]
    fn the_examples_of_the_standard() {
        let mut decoder = Decoder::default();
        let first = b"\x82\x86\x84\x41\x8c\xf1\xe3\xc2\xe5\xf2\x3a\x6b\xa0\xab\x90\xf4\xff";
        let request = [
            (":method", "GET"),
            (":scheme", "http"),
            (":path", "/"),
            (":authority", "www.example.com"),
        ];
        check(&mut decoder, first, &request);
        let mut again = request.to_vec();
        again.push(("cache-control", "no-cache"));
        check(&mut decoder, b"\x82\x86\x84\xbe\x58\x86\xa8\xeb\x10\x64\x9c\xbf", &again);
    }

    #[test]
    fn what_is_broken_is_named() {
        let mut decoder = Decoder::default();
        assert_eq!(decoder.block(b"\x80"), Err(Broken::Index));
        assert_eq!(decoder.block(b"\xff\x00"), Err(Broken::Index));
        assert_eq!(decoder.block(b"\xff\xff\xff\xff\xff\xff"), Err(Broken::Overflow));
        assert_eq!(decoder.block(b"\x40\x05a"), Err(Broken::Short));
        assert_eq!(huffman(b"\xff\xff\xff\xff"), Err(Broken::Huffman));
    }

    #[test]
    fn the_table_stays_small() {
        let mut decoder = Decoder::default();
        for index in 0..10_000_u32 {
            let mut block = b"\x40\x04".to_vec();
            block.extend_from_slice(&index.to_be_bytes());
            block.extend_from_slice(b"\x01v");
            decoder.block(&block).unwrap();
        }
        assert!(decoder.bytes <= 4_096);
        decoder.block(b"\x20").unwrap();
        assert_eq!((decoder.bytes, decoder.dynamic.len()), (0, 0));
    }
}
