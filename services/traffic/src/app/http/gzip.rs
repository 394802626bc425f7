//! The header of a gzip member (RFC 1952, section 2.3), read as it comes and with libhtp's tolerance:
//! no checksum is looked at.

const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// Bytes that each header has.
const FIXED_BYTES: usize = 10;

const HEADER_CRC: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;

/// What comes next.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Part {
    #[default]
    Fixed,
    ExtraLength,
    Extra(usize),
    Name,
    Comment,
    Crc,
    Data,
}

/// A header that is being read.
#[derive(Debug, Default)]
pub(super) struct Header {
    fixed: [u8; FIXED_BYTES],
    held: usize,
    /// The first byte of two, where a piece ended between them.
    half: Option<u8>,
    part: Part,
}

impl Header {
    /// It is complete: what follows is compressed data.
    pub(super) const fn is_read(&self) -> bool {
        matches!(self.part, Part::Data)
    }

    /// Takes what belongs to the header from `data`; what is behind it, or `None` if this is no gzip.
    pub(super) fn push<'a>(&mut self, data: &'a [u8]) -> Option<&'a [u8]> {
        let flags = self.fixed[3];
        let mut rest = data;
        loop {
            self.part = match self.part {
                Part::Fixed => return self.push_fixed(data),
                Part::ExtraLength if flags & EXTRA == 0 => Part::Name,
                Part::ExtraLength => {
                    let Some((length, behind)) = self.two(rest) else { return Some(&[]) };
                    rest = behind;
                    Part::Extra(u16::from_le_bytes(length).into())
                }
                Part::Extra(length) if length > rest.len() => {
                    self.part = Part::Extra(length - rest.len());
                    return Some(&[]);
                }
                Part::Extra(length) => {
                    rest = rest.get(length..)?;
                    Part::Name
                }
                Part::Name if flags & NAME == 0 => Part::Comment,
                Part::Comment if flags & COMMENT == 0 => Part::Crc,
                part @ (Part::Name | Part::Comment) => {
                    let Some(end) = memchr::memchr(0, rest) else { return Some(&[]) };
                    rest = rest.get(end + 1..)?;
                    if part == Part::Name { Part::Comment } else { Part::Crc }
                }
                Part::Crc if flags & HEADER_CRC == 0 => Part::Data,
                Part::Crc => {
                    let Some((_, behind)) = self.two(rest) else { return Some(&[]) };
                    rest = behind;
                    Part::Data
                }
                Part::Data => return Some(rest),
            };
        }
    }

    /// The next two bytes, and what is behind them.
    fn two<'a>(&mut self, rest: &'a [u8]) -> Option<([u8; 2], &'a [u8])> {
        match (self.half.take(), rest) {
            (Some(first), [second, behind @ ..]) => Some(([first, *second], behind)),
            (None, [first, second, behind @ ..]) => Some(([*first, *second], behind)),
            (half, _) => {
                self.half = half.or_else(|| rest.first().copied());
                None
            }
        }
    }

    fn push_fixed<'a>(&mut self, data: &'a [u8]) -> Option<&'a [u8]> {
        let taken = data.len().min(FIXED_BYTES - self.held);
        let (now, rest) = data.split_at(taken);
        self.fixed.get_mut(self.held..self.held + taken)?.copy_from_slice(now);
        self.held += taken;
        let known = self.held.min(MAGIC.len());
        if self.fixed.get(..known) != MAGIC.get(..known) {
            return None;
        }
        if self.held < FIXED_BYTES {
            return Some(&[]);
        }
        self.part = Part::ExtraLength;
        self.push(rest)
    }
}

#[cfg(test)]
mod tests {
    use super::Header;

    /// What is behind the header, given in two pieces.
    fn check(flags: u8, fields: &[u8], cut: usize, want: Option<&[u8]>) {
        let bytes = [b"\x1f\x8b\x08", &[flags][..], &[0; 6], fields, b"DATA"].concat();
        let (head, tail) = bytes.split_at(cut);
        let mut header = Header::default();
        let mut found = header.push(head).map(<[u8]>::to_vec);
        if header.is_read() {
            found.as_mut().unwrap().extend_from_slice(tail);
        } else if found.is_some() {
            found = header.push(tail).map(<[u8]>::to_vec);
        }
        assert_eq!(found.as_deref(), want, "{flags} cut at {cut}");
        assert!(header.is_read());
    }

    #[test]
    fn fields_are_passed_over() {
        for cut in 0..14 {
            check(0, b"", cut, Some(b"DATA"));
            check(8, b"name\0", cut, Some(b"DATA"));
        }
        check(0x1e, b"\x03\0abcname\0comment\0\x12\x34", 14, Some(b"DATA"));
        check(0xe1, b"", 10, Some(b"DATA"));
        for cut in 10..15 {
            check(2, b"\x12\x34", cut, Some(b"DATA"));
            check(4, b"\x02\0ab", cut, Some(b"DATA"));
        }
    }

    #[test]
    fn what_does_not_begin_as_gzip_is_none() {
        assert!(Header::default().push(b"\x1f\x8a").is_none());
        assert!(Header::default().push(b"\x1f\x8b\x07").is_none());
        assert_eq!(Header::default().push(b"\x1f\x8b"), Some(&[][..]));
    }
}
