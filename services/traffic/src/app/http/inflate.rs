//! Content codings (RFC 9110, section 8.4): gzip, deflate and zlib, bounded.
//!
//! Servers mix the three up, and browsers forgive it; so what does not even begin as one is tried as
//! the next, in libhtp's order, and passes as it is when it is none. What breaks later ends there.

use miniz_oxide::inflate::stream::{InflateState, inflate};
use miniz_oxide::{DataFormat, MZFlush, MZStatus};

/// A body that grows beyond this and beyond the ratio is a bomb (libhtp's limits).
const BOMB_BYTES_MIN: u64 = 1_048_576;
const BOMB_RATIO: u64 = 2_048;
/// Most bytes without any output that are kept for another try (names and comments of gzip).
const HEAD_BYTES_MAX: usize = 4_096;
/// Other codings that are tried (libhtp's limit): each of the three comes by.
const RETRIES_MAX: u8 = 3;
/// What one step yields.
const STEP_BYTES: usize = 8_192;
/// Output of another try that is held back until the try has proved right.
const TRIAL_BYTES_MAX: usize = 65_536;

/// It grows without end: nothing more is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bomb;

/// A decoder of all codings of one body.
#[derive(Debug, Default)]
pub(crate) struct Inflate {
    layers: Vec<Layer>,
    bytes_in: u64,
    bytes_out: u64,
    is_bomb: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1951, without any header.
    Deflate,
    /// RFC 1950.
    Zlib,
}

impl Coding {
    const fn next(self) -> Self {
        match self {
            Self::Gzip => Self::Deflate,
            Self::Deflate => Self::Zlib,
            Self::Zlib => Self::Gzip,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Decodes,
    /// It is none of the codings.
    Passes,
    /// Its end came, or it broke: the rest is dropped.
    Ended,
}

struct Layer {
    coding: Coding,
    retries: u8,
    mode: Mode,
    /// All bytes, until there is output.
    head: Vec<u8>,
    /// Once the header of the coding is complete.
    state: Option<Box<InflateState>>,
    has_output: bool,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer").field("coding", &self.coding).finish_non_exhaustive()
    }
}

/// What one name of a Content-Encoding field asks for, with the retries that are left out; whether
/// the name is usual.
fn coding(name: &[u8]) -> (Option<(Coding, u8)>, bool) {
    let has = |word: &[u8]| memchr::memmem::find(name, word).is_some();
    if has(b"gzip") {
        return (Some((Coding::Gzip, 0)), matches!(name, b"gzip" | b"x-gzip"));
    }
    if has(b"deflate") {
        return (Some((Coding::Deflate, 0)), matches!(name, b"deflate" | b"x-deflate"));
    }
    match name {
        // Neither is decoded here; what has the header of another coding is that coding.
        b"br" | b"lzma" => (Some((Coding::Zlib, 2)), true),
        b"identity" | b"none" | b"inflate" => (None, true),
        _ => (None, false),
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
        for (index, name) in names.enumerate() {
            if index >= layers_max as usize {
                event = Some("too_many_encoding_layers");
                break;
            }
            let (found, is_usual) = coding(&name.to_ascii_lowercase());
            if !is_usual {
                event = Some("abnormal_ce_header");
            }
            layers.extend(found.map(|(coding, retries)| Layer {
                coding,
                retries,
                mode: Mode::Decodes,
                head: Vec::new(),
                state: None,
                has_output: false,
            }));
        }
        // What was applied last is undone first.
        layers.reverse();
        let decoder = (!layers.is_empty()).then(|| Self { layers, ..Self::default() });
        (decoder, event)
    }

    /// Decodes `bytes`, handing pieces to `out`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) -> Option<Bomb> {
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
        self.is_bomb = !push_layers(&mut self.layers, bytes, &mut count);
        self.bytes_out = bytes_out;
        self.is_bomb.then_some(Bomb)
    }
}

/// Through all layers, the outermost first; false when `out` has enough.
fn push_layers(layers: &mut [Layer], bytes: &[u8], out: &mut dyn FnMut(&[u8]) -> bool) -> bool {
    let Some((outer, inner)) = layers.split_first_mut() else {
        return out(bytes);
    };
    if outer.mode == Mode::Decodes && outer.push(bytes, &mut |piece| push_layers(inner, piece, out))
    {
        return true;
    }
    match outer.mode {
        Mode::Ended => true,
        Mode::Decodes => false,
        Mode::Passes => {
            // Where the outer coding is not what was said, nothing is known of the inner ones.
            inner.iter_mut().for_each(|layer| layer.mode = Mode::Passes);
            let head = std::mem::take(&mut outer.head);
            if head.is_empty() { out(bytes) } else { out(&head) }
        }
    }
}

/// How a step ended.
enum Step {
    /// All was taken.
    Done,
    /// `out` has enough.
    Full,
    /// It is no such coding.
    Wrong,
}

impl Layer {
    /// Whether all was taken. If not: `out` had enough, or the mode is `Passes` and `head` has what
    /// is to be passed.
    fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8]) -> bool) -> bool {
        let is_kept = !self.has_output;
        if is_kept {
            self.head.extend_from_slice(bytes);
        }
        let mut step = match self.state {
            Some(_) => self.decode(bytes, out),
            None => self.start(out),
        };
        while matches!(step, Step::Wrong) {
            if self.has_output && self.retries == 0 {
                self.mode = Mode::Ended;
                return true;
            }
            if self.has_output {
                // It looked like another coding by chance.
                self.mode = Mode::Passes;
                self.head = bytes.to_vec();
                return false;
            }
            if self.retries >= RETRIES_MAX {
                self.mode = Mode::Passes;
                return false;
            }
            self.retries += 1;
            self.coding = self.coding.next();
            step = self.start(out);
        }
        if self.head.len() > HEAD_BYTES_MAX {
            self.has_output = true;
        }
        if self.has_output {
            self.head = Vec::new();
        }
        matches!(step, Step::Done)
    }

    /// Decodes `head` from its beginning.
    fn start(&mut self, out: &mut dyn FnMut(&[u8]) -> bool) -> Step {
        self.state = None;
        let (at, format) = match self.coding {
            // Nothing marks the start of deflate: half of all letters could be one.
            Coding::Deflate if self.retries > 0 && is_text(&self.head) => return Step::Wrong,
            Coding::Deflate => (0, DataFormat::Raw),
            Coding::Zlib => (0, DataFormat::Zlib),
            Coding::Gzip => match gzip_head(&self.head) {
                Head::Starts(at) => (at, DataFormat::Raw),
                Head::More if self.head.len() < HEAD_BYTES_MAX => return Step::Done,
                Head::More | Head::Wrong => return Step::Wrong,
            },
        };
        self.state = Some(InflateState::new_boxed(format));
        let head = std::mem::take(&mut self.head);
        let bytes = head.get(at..).unwrap_or_default();
        let step = if self.retries == 0 { self.decode(bytes, out) } else { self.trial(bytes, out) };
        self.head = head;
        step
    }

    /// Decodes, but what comes out before the first fault does not count: anything may look like a
    /// coding for a few bytes.
    fn trial(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8]) -> bool) -> Step {
        let mut held = Some(Vec::new());
        let step = self.decode(bytes, &mut |piece| match &mut held {
            Some(before) if before.len() < TRIAL_BYTES_MAX => {
                before.extend_from_slice(piece);
                true
            }
            _ => held.take().is_none_or(|before| out(&before)) && out(piece),
        });
        match (step, held) {
            (Step::Wrong, Some(_)) => {
                self.has_output = false;
                Step::Wrong
            }
            (Step::Done, Some(before)) if !before.is_empty() && !out(&before) => Step::Full,
            (step, _) => step,
        }
    }

    fn decode(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8]) -> bool) -> Step {
        let Some(state) = self.state.as_mut() else { return Step::Wrong };
        let mut rest = bytes;
        let mut buffer = [0_u8; STEP_BYTES];
        loop {
            let result = inflate(state, rest, &mut buffer, MZFlush::None);
            rest = rest.get(result.bytes_consumed..).unwrap_or_default();
            let piece = buffer.get(..result.bytes_written).unwrap_or_default();
            if !piece.is_empty() {
                self.has_output = true;
                if !out(piece) {
                    return Step::Full;
                }
            }
            match result.status {
                Ok(MZStatus::StreamEnd) => {
                    self.mode = Mode::Ended;
                    return Step::Done;
                }
                Ok(_) if result.bytes_written == STEP_BYTES || !rest.is_empty() => {}
                Ok(_) | Err(miniz_oxide::MZError::Buf) => return Step::Done,
                Err(_) => return Step::Wrong,
            }
        }
    }
}

enum Head {
    /// The compressed data starts there.
    Starts(usize),
    More,
    Wrong,
}

/// Whether a body begins as text does.
fn is_text(head: &[u8]) -> bool {
    const START: usize = 16;
    head.iter().take(START).all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace())
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
    if head.len() < at { Head::More } else { Head::Starts(at) }
}

#[cfg(test)]
mod tests {
    use super::{Bomb, Inflate};

    fn gzip(text: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x1f\x8b\x08\x08\0\0\0\0\0\x03name\0".to_vec();
        bytes.extend(miniz_oxide::deflate::compress_to_vec(text, 6));
        bytes.extend_from_slice(&[0; 8]);
        bytes
    }

    fn deflate(text: &[u8]) -> Vec<u8> {
        miniz_oxide::deflate::compress_to_vec(text, 6)
    }

    fn zlib(text: &[u8]) -> Vec<u8> {
        miniz_oxide::deflate::compress_to_vec_zlib(text, 6)
    }

    fn run(encoding: &str, pieces: &[&[u8]]) -> (Vec<u8>, Option<Bomb>) {
        let mut decoder = Inflate::new(encoding.as_bytes(), 3).0.unwrap();
        let (mut out, mut bomb) = (Vec::new(), None);
        for piece in pieces {
            bomb = bomb.or(decoder.push(piece, &mut |bytes| out.extend_from_slice(bytes)));
        }
        (out, bomb)
    }

    #[test]
    fn split_anywhere_it_decodes_the_same() {
        let text = b"hello hello hello";
        for bytes in [gzip(text), deflate(text), zlib(text)] {
            for at in 0..bytes.len() {
                let (head, tail) = bytes.split_at(at);
                assert_eq!(run("gzip", &[head, tail]), (text.to_vec(), None));
                assert_eq!(run("deflate", &[head, tail]), (text.to_vec(), None));
            }
        }
    }

    #[test]
    fn layers_whatever_their_names_say() {
        assert_eq!(run("gzip, gzip", &[&gzip(&gzip(b"abc"))]).0, b"abc");
        assert_eq!(run("deflate, gzip, gzip", &[&zlib(&deflate(&gzip(b"abc")))]).0, b"abc");
        assert_eq!(run("br", &[&zlib(b"abc")]).0, b"abc");
    }

    #[test]
    fn what_is_not_compressed_passes_and_bombs_stop() {
        assert_eq!(run("gzip", &[b"plain", b" text"]).0, b"plain text");
        assert_eq!(run("gzip, deflate", &[b"plain", b" text"]).0, b"plain text");
        let bomb = gzip(&gzip(&vec![0; 4 << 20]));
        let (out, trouble) = run("gzip, gzip", &[&bomb]);
        assert_eq!(trouble, Some(Bomb));
        assert!(out.len() < 2 << 20);
    }

    #[test]
    fn text_that_begins_like_another_coding_passes() {
        // Some letters are the start of a block.
        for first in b' '..=b'~' {
            let text = [&[first][..], b"<html>plain text, not compressed at all</html>"].concat();
            assert_eq!(run("gzip", &[&text]).0, text, "{first}");
        }
    }

    #[test]
    fn nothing_comes_after_what_broke() {
        let mut bytes = deflate(b"abcdefgh");
        let at = bytes.len() - 1;
        bytes.truncate(at);
        // A block of a kind that does not exist.
        let broken = [bytes.as_slice(), &[0xff; 32]].concat();
        let (out, _) = run("deflate", &[&broken, b"tail"]);
        assert!(!out.windows(4).any(|window| window == b"tail"), "{out:?}");
    }

    #[test]
    fn odd_names_are_told() {
        let event = |value: &str| Inflate::new(value.as_bytes(), 2).1;
        assert_eq!(event("gzip"), None);
        assert_eq!(event("identity, x-deflate"), None);
        assert_eq!(event("gzip;q=1"), Some("abnormal_ce_header"));
        assert_eq!(event("none,none,gzip"), Some("too_many_encoding_layers"));
    }
}
