//! Content codings (RFC 9110, section 8.4): gzip and deflate, bounded.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

/// A body that grows beyond this and beyond the ratio is a bomb (libhtp's limits).
const BOMB_BYTES_MIN: u64 = 1_048_576;
const BOMB_RATIO: u64 = 2_048;
/// Longest gzip header that is waited for (names and comments).
const GZIP_HEAD_BYTES_MAX: usize = 4_096;
/// What one step yields.
const STEP_BYTES: usize = 8_192;

/// What went wrong with a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Trouble {
    /// It is not what the header says: the bytes are passed on as they are.
    Corrupt,
    /// It grows without end: nothing more is decoded.
    Bomb,
}

/// A decoder of all codings of one body.
#[derive(Debug, Default)]
pub(crate) struct Inflate {
    layers: Vec<Layer>,
    bytes_in: u64,
    bytes_out: u64,
    is_bomb: bool,
}

struct Layer {
    is_gzip: bool,
    /// Bytes of the header, until it is complete.
    head: Vec<u8>,
    state: Option<Box<InflateState>>,
    has_output: bool,
    is_plain: bool,
    is_ended: bool,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer").field("is_gzip", &self.is_gzip).finish_non_exhaustive()
    }
}

impl Inflate {
    /// Codings over each other.
    pub(super) const fn layers(&self) -> usize {
        self.layers.len()
    }

    /// For the value of a Content-Encoding field; `None` if there is nothing to decode. The second
    /// value is an event.
    pub(super) fn new(value: &[u8], layers_max: u32) -> (Option<Self>, Option<&'static str>) {
        let mut layers = Vec::new();
        let mut event = None;
        let names = value.split(|byte| matches!(byte, b',' | b' ')).filter(|name| !name.is_empty());
        for name in names {
            let name = name.to_ascii_lowercase();
            let is_gzip = memchr::memmem::find(&name, b"gzip").is_some();
            let is_deflate = memchr::memmem::find(&name, b"deflate").is_some();
            let is_exact = matches!(&name[..], b"gzip" | b"x-gzip" | b"deflate" | b"x-deflate");
            let is_nothing =
                matches!(&name[..], b"identity" | b"none" | b"inflate" | b"br" | b"zstd");
            if !is_exact && !is_nothing {
                event = Some("abnormal_ce_header");
            }
            if !is_gzip && !is_deflate {
                continue;
            }
            if layers.len() >= layers_max as usize {
                event = Some("too_many_encoding_layers");
                break;
            }
            layers.push(Layer {
                is_gzip,
                head: Vec::new(),
                state: None,
                has_output: false,
                is_plain: false,
                is_ended: false,
            });
        }
        // What was applied last is undone first.
        layers.reverse();
        let decoder = (!layers.is_empty()).then(|| Self { layers, ..Self::default() });
        (decoder, event)
    }

    /// Decodes `bytes`, handing pieces to `out`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) -> Option<Trouble> {
        if self.is_bomb {
            return None;
        }
        self.bytes_in += bytes.len() as u64;
        let mut bytes_out = self.bytes_out;
        let limit = BOMB_BYTES_MIN.max(self.bytes_in.saturating_mul(BOMB_RATIO));
        let mut count = |piece: &[u8]| {
            bytes_out += piece.len() as u64;
            out(piece);
            bytes_out <= limit
        };
        let trouble = push_layers(&mut self.layers, bytes, &mut count);
        self.bytes_out = bytes_out;
        self.is_bomb = trouble == Some(Trouble::Bomb);
        trouble
    }
}

/// Through all layers, the outermost first.
fn push_layers(
    layers: &mut [Layer],
    bytes: &[u8],
    out: &mut dyn FnMut(&[u8]) -> bool,
) -> Option<Trouble> {
    let Some((outer, inner)) = layers.split_first_mut() else {
        return (!out(bytes)).then_some(Trouble::Bomb);
    };
    let mut inner_trouble = None;
    let outer_trouble = outer.push(bytes, &mut |piece| {
        let trouble = push_layers(inner, piece, out);
        inner_trouble = inner_trouble.or(trouble);
        trouble != Some(Trouble::Bomb)
    });
    outer_trouble.max(inner_trouble)
}

impl Layer {
    /// `out` returns false when it has enough.
    fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8]) -> bool) -> Option<Trouble> {
        if self.is_plain {
            return (!out(bytes)).then_some(Trouble::Bomb);
        }
        if self.is_ended {
            return None;
        }
        if self.state.is_some() {
            if !self.has_output {
                self.head.extend_from_slice(bytes);
            }
            return self.decode(bytes, out);
        }
        self.head.extend_from_slice(bytes);
        let start = if self.is_gzip { gzip_head(&self.head) } else { zlib_head(&self.head) };
        match start {
            Head::Starts(at, format) => {
                self.state = Some(InflateState::new_boxed(format));
                let head = self.head.clone();
                self.decode(head.get(at..).unwrap_or_default(), out)
            }
            Head::More if self.head.len() < GZIP_HEAD_BYTES_MAX => None,
            Head::More | Head::Wrong => self.pass(out),
        }
    }

    fn pass(&mut self, out: &mut dyn FnMut(&[u8]) -> bool) -> Option<Trouble> {
        self.is_plain = true;
        let head = std::mem::take(&mut self.head);
        out(&head);
        Some(Trouble::Corrupt)
    }

    fn decode(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8]) -> bool) -> Option<Trouble> {
        let state = self.state.as_mut()?;
        let mut rest = bytes;
        let mut buffer = [0_u8; STEP_BYTES];
        loop {
            let result = inflate(state, rest, &mut buffer, MZFlush::None);
            rest = rest.get(result.bytes_consumed..).unwrap_or_default();
            let piece = buffer.get(..result.bytes_written).unwrap_or_default();
            if !piece.is_empty() {
                self.has_output = true;
                self.head.clear();
                if !out(piece) {
                    return Some(Trouble::Bomb);
                }
            }
            if self.head.len() > GZIP_HEAD_BYTES_MAX {
                self.has_output = true;
                self.head.clear();
            }
            match result.status {
                Ok(MZStatus::StreamEnd) => {
                    self.is_ended = true;
                    return None;
                }
                Ok(_) if result.bytes_written == STEP_BYTES || !rest.is_empty() => {}
                Ok(_) | Err(miniz_oxide::MZError::Buf) => return None,
                // Not even its start was compressed: a server that only says so.
                Err(_) if !self.has_output => return self.pass(out),
                Err(_) => {
                    self.is_plain = true;
                    out(rest);
                    return Some(Trouble::Corrupt);
                }
            }
        }
    }
}

enum Head {
    /// The compressed data starts there.
    Starts(usize, DataFormat),
    More,
    Wrong,
}

/// Some servers send raw deflate where zlib is meant (RFC 9110, section 8.4.1.2).
fn zlib_head(head: &[u8]) -> Head {
    match head {
        [a, b, ..] if a & 0x0f == 8 && u16::from_be_bytes([*a, *b]).is_multiple_of(31) => {
            Head::Starts(0, DataFormat::Zlib)
        }
        [_, _, ..] => Head::Starts(0, DataFormat::Raw),
        _ => Head::More,
    }
}

/// RFC 1952, section 2.3.
fn gzip_head(head: &[u8]) -> Head {
    const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
    let common = head.len().min(MAGIC.len());
    if head.get(..common) != MAGIC.get(..common) {
        return Head::Wrong;
    }
    let Some(flags) = head.get(3) else { return Head::More };
    let mut at = 10;
    if flags & 4 != 0 {
        let Some([low, high]) = head.get(at..at + 2) else { return Head::More };
        at += 2 + usize::from(u16::from_le_bytes([*low, *high]));
    }
    for flag in [8, 16] {
        if flags & flag != 0 {
            let Some(rest) = head.get(at..) else { return Head::More };
            let Some(end) = memchr::memchr(0, rest) else { return Head::More };
            at += end + 1;
        }
    }
    if flags & 2 != 0 {
        at += 2;
    }
    if head.len() < at { Head::More } else { Head::Starts(at, DataFormat::Raw) }
}

#[cfg(test)]
mod tests {
    use super::{Inflate, Trouble};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x1f\x8b\x08\x08\0\0\0\0\0\x03name\0".to_vec();
        bytes.extend(miniz_oxide::deflate::compress_to_vec(text, 6));
        bytes.extend_from_slice(&[0; 8]);
        bytes
    }

    fn run(encoding: &str, pieces: &[&[u8]]) -> (Vec<u8>, Option<Trouble>) {
        let mut decoder = Inflate::new(encoding.as_bytes(), 2).0.unwrap();
        let (mut out, mut trouble) = (Vec::new(), None);
        for piece in pieces {
            let found = decoder.push(piece, &mut |bytes| out.extend_from_slice(bytes));
            trouble = trouble.or(found);
        }
        (out, trouble)
    }

    #[test]
    fn split_anywhere_it_decodes_the_same() {
        let bytes = gzip(b"hello hello hello");
        for at in 0..bytes.len() {
            let (head, tail) = bytes.split_at(at);
            assert_eq!(run("gzip", &[head, tail]), (b"hello hello hello".to_vec(), None));
        }
    }

    #[test]
    fn deflate_in_both_readings_and_two_layers() {
        let raw = miniz_oxide::deflate::compress_to_vec(b"abc", 6);
        assert_eq!(run("deflate", &[&raw]).0, b"abc");
        let zlib = miniz_oxide::deflate::compress_to_vec_zlib(b"abc", 6);
        assert_eq!(run("deflate", &[&zlib]).0, b"abc");
        assert_eq!(run("gzip, gzip", &[&gzip(&gzip(b"abc"))]).0, b"abc");
    }

    #[test]
    fn what_is_not_compressed_passes_and_bombs_stop() {
        assert_eq!(run("gzip", &[b"plain", b" text"]).0, b"plain text");
        let bomb = gzip(&gzip(&vec![0; 4 << 20]));
        let (out, trouble) = run("gzip, gzip", &[&bomb]);
        assert_eq!(trouble, Some(Trouble::Bomb));
        assert!(out.len() < 2 << 20);
    }
}
