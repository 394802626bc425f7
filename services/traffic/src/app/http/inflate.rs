//! Content codings (RFC 9110, section 8.4): gzip, deflate and zlib, bounded.
//!
//! Servers mix the three up, and browsers forgive it. So the piece of a body at which a coding fails is
//! tried as the next one, in libhtp's order, and passes as it is when it is none. What a wrong try made
//! of it is dropped; a coding that was right up to a fault gives what came before, and nothing after.

use super::gzip;
use super::window::{Ended, Window};
use crate::app::Events;

/// A body that grows beyond this and beyond the ratio is a bomb (libhtp's limits).
const BOMB_BYTES_MIN: u64 = 1_048_576;
const BOMB_RATIO: u64 = 2_048;
/// Other codings that are tried (libhtp's limit): each of the three comes by.
const RETRIES_MAX: u8 = 3;
/// What libhtp makes of a piece before it looks what comes next.
const ROUND_BYTES: usize = 32_768;
/// More than this goes on to the next coding before the piece is at its end.
const HELD_BYTES_MAX: usize = 8_192;
/// LZMA is not decoded: so many bytes are its header, and what follows fails.
const LZMA_HEADER_BYTES: usize = 18;
/// Codings over each other, whatever the configuration says.
const LAYERS_MAX: usize = 16;

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
    /// The body's end came: what follows has no decoder, with which libhtp gives up.
    is_over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1951, without any header.
    Deflate,
    /// RFC 1950.
    Zlib,
    /// Not decoded; so many bytes of its header came.
    Lzma(usize),
    /// RFC 7932. Not decoded: its window may be 16 MiB.
    Brotli,
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
    header: gzip::Header,
    /// From the first byte of compressed data on.
    state: Option<Box<Window>>,
    /// What another try made of the piece: it does not count before the piece ends well.
    held: Vec<u8>,
    /// Bytes that came out of this piece, as libhtp counts: those that went on by themselves left out.
    fresh: usize,
}

impl std::fmt::Debug for Layer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Layer").field("coding", &self.coding).finish_non_exhaustive()
    }
}

/// The coding that a whole field value names, any case, zero bytes left out; `Some(None)` is none.
fn whole(value: &[u8]) -> Option<Option<Coding>> {
    let name: Vec<u8> = value.iter().copied().filter(|byte| *byte != 0).collect();
    match name.to_ascii_lowercase().as_slice() {
        b"gzip" | b"x-gzip" => Some(Some(Coding::Gzip)),
        b"deflate" | b"x-deflate" => Some(Some(Coding::Deflate)),
        b"lzma" => Some(Some(Coding::Lzma(0))),
        b"br" => Some(Some(Coding::Brotli)),
        b"inflate" | b"none" => Some(None),
        _ => None,
    }
}

/// What one name of a list asks for; whether the name is usual. Case counts here.
fn listed(name: &[u8]) -> (Option<Coding>, bool) {
    let has = |word: &[u8]| super::line::contains(name, word);
    if has(b"gzip") {
        return (Some(Coding::Gzip), matches!(name, b"gzip" | b"x-gzip"));
    }
    if has(b"deflate") {
        return (Some(Coding::Deflate), matches!(name, b"deflate" | b"x-deflate"));
    }
    match name {
        b"lzma" => (Some(Coding::Lzma(0)), true),
        b"identity" | b"none" | b"inflate" => (None, true),
        _ => (None, false),
    }
}

impl Inflate {
    /// Room that it takes.
    pub(super) fn held_bytes(&self) -> usize {
        let state = |layer: &Layer| layer.state.as_ref().map_or(0, |state| state.held_bytes());
        let layers = self.layers.iter();
        size_of::<Self>()
            + layers.map(|it| size_of::<Layer>() + it.held.capacity() + state(it)).sum::<usize>()
    }

    /// For the value of a Content-Encoding field; `None` if there is nothing to decode.
    pub(super) fn new(value: &[u8], layers_max: u32, events: &mut Events) -> Option<Self> {
        let mut codings = Vec::new();
        match whole(value) {
            Some(found) => codings.extend(found),
            None => list(value, layers_max, &mut codings, events),
        }
        // What was applied last is undone first.
        let layers: Vec<Layer> = codings.into_iter().rev().map(Layer::new).collect();
        (!layers.is_empty()).then(|| Self { layers, ..Self::default() })
    }

    /// The body's end came.
    pub(super) fn end(&mut self) {
        *self = Self { is_over: true, ..Self::default() };
    }

    /// See [`Self::end`].
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// Decodes `bytes`, handing pieces to `out`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) -> Option<Bomb> {
        if self.is_bomb || self.is_over {
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
        let is_whole = push_layers(&mut self.layers, bytes, &mut count)
            && flush_layers(&mut self.layers, &mut count);
        self.is_bomb = !is_whole;
        self.bytes_out = bytes_out;
        self.is_bomb.then_some(Bomb)
    }
}

/// The codings of a list, and what is odd about it.
fn list(value: &[u8], layers_max: u32, codings: &mut Vec<Coding>, events: &mut Events) {
    let names = value.split(|byte| matches!(byte, b',' | b' ')).filter(|name| !name.is_empty());
    let mut has_lzma = false;
    for (index, name) in names.enumerate() {
        if index >= (layers_max as usize).min(LAYERS_MAX) {
            events.add("too_many_encoding_layers");
            return;
        }
        let (found, is_usual) = listed(name);
        if !is_usual {
            events.repeat("abnormal_ce_header");
        }
        if found == Some(Coding::Lzma(0)) && std::mem::replace(&mut has_lzma, true) {
            events.add("response_too_many_lzma_layers");
            return;
        }
        codings.extend(found);
    }
}

type Out<'a> = &'a mut dyn FnMut(&[u8]) -> bool;

/// Through all layers, the outermost first; false when `out` has enough.
fn push_layers(layers: &mut [Layer], bytes: &[u8], out: Out<'_>) -> bool {
    let Some((outer, inner)) = layers.split_first_mut() else {
        return bytes.is_empty() || out(bytes);
    };
    let Some(passed) = outer.push(bytes, &mut |piece| push_layers(inner, piece, out)) else {
        return false;
    };
    if outer.mode == Mode::Passes {
        // Where the outer coding is not what was said, nothing is known of the inner ones.
        inner.iter_mut().for_each(|layer| layer.mode = Mode::Passes);
    }
    passed.is_empty() || push_layers(inner, passed, out)
}

/// The piece ended well: what was held counts.
fn flush_layers(layers: &mut [Layer], out: Out<'_>) -> bool {
    let Some((outer, inner)) = layers.split_first_mut() else { return true };
    outer.fresh = 0;
    let held = std::mem::take(&mut outer.held);
    push_layers(inner, &held, out) && flush_layers(inner, out)
}

/// How a round of decoding ended.
enum Round<'a> {
    /// What is left of the piece.
    Left(&'a [u8]),
    /// `out` has enough.
    Full,
    /// It is no such coding.
    Wrong,
}

impl Layer {
    fn new(coding: Coding) -> Self {
        Self {
            coding,
            retries: 0,
            mode: Mode::Decodes,
            header: gzip::Header::default(),
            state: None,
            held: Vec::new(),
            fresh: 0,
        }
    }

    /// Takes a piece; what of it passes as it is, or `None` if `out` has enough.
    fn push<'a>(&mut self, bytes: &'a [u8], out: Out<'_>) -> Option<&'a [u8]> {
        let mut rest = bytes;
        while !rest.is_empty() {
            match self.mode {
                Mode::Passes => return Some(rest),
                Mode::Ended => return Some(&[]),
                Mode::Decodes => {}
            }
            match self.round(rest, out) {
                Round::Left(left) => rest = left,
                Round::Full => return None,
                Round::Wrong if self.retries == 0 && self.fresh > 0 => {
                    self.mode = Mode::Ended;
                    return Some(&[]);
                }
                Round::Wrong => self.retry(),
            }
        }
        Some(&[])
    }

    /// The next coding; what the last one made of this piece is dropped.
    fn retry(&mut self) {
        self.held.clear();
        self.fresh = 0;
        self.state = None;
        self.header = gzip::Header::default();
        if self.retries >= RETRIES_MAX {
            self.mode = Mode::Passes;
            return;
        }
        self.retries += 1;
        self.coding = match self.coding {
            Coding::Gzip | Coding::Lzma(_) | Coding::Brotli => Coding::Deflate,
            Coding::Deflate => Coding::Zlib,
            Coding::Zlib => Coding::Gzip,
        };
    }

    fn round<'a>(&mut self, bytes: &'a [u8], out: Out<'_>) -> Round<'a> {
        let is_zlib = match &mut self.coding {
            Coding::Gzip if !self.header.is_read() => {
                return self.header.push(bytes).map_or(Round::Wrong, Round::Left);
            }
            Coding::Gzip | Coding::Deflate => false,
            Coding::Zlib => true,
            Coding::Lzma(LZMA_HEADER_BYTES) | Coding::Brotli => return Round::Wrong,
            Coding::Lzma(held) => {
                let taken = bytes.len().min(LZMA_HEADER_BYTES - *held);
                *held += taken;
                return Round::Left(bytes.get(taken..).unwrap_or_default());
            }
        };
        if self.fresh > HELD_BYTES_MAX {
            self.fresh = 0;
            let held = std::mem::take(&mut self.held);
            if !held.is_empty() && !out(&held) {
                return Round::Full;
            }
        }
        let state = self.state.get_or_insert_default();
        let mut rest = bytes;
        let mut made = 0;
        loop {
            let (used, piece, ended) = state.step(rest, is_zlib);
            rest = rest.get(used..).unwrap_or_default();
            made += piece.len();
            self.fresh += piece.len();
            if self.retries > 0 {
                self.held.extend_from_slice(piece);
            } else if !piece.is_empty() && !out(piece) {
                return Round::Full;
            }
            match ended {
                Ended::Whole => {
                    self.mode = Mode::Ended;
                    self.state = None;
                    return Round::Left(&[]);
                }
                Ended::Full if made >= ROUND_BYTES && !rest.is_empty() => {
                    return Round::Left(rest);
                }
                Ended::Full => {}
                Ended::Hungry => return Round::Left(&[]),
                Ended::Wrong => return Round::Wrong,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Bomb, Inflate};
    use crate::app::Events;

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
        let mut decoder = Inflate::new(encoding.as_bytes(), 3, &mut Events::default()).unwrap();
        let (mut out, mut bomb) = (Vec::new(), None);
        for piece in pieces {
            bomb = bomb.or(decoder.push(piece, &mut |bytes| out.extend_from_slice(bytes)));
        }
        (out, bomb)
    }

    #[test]
    fn split_anywhere_it_decodes_the_same() {
        let text = b"hello hello hello";
        for (name, bytes) in [("gzip", gzip(text)), ("deflate", deflate(text))] {
            for at in 0..bytes.len() {
                let (head, tail) = bytes.split_at(at);
                assert_eq!(run(name, &[head, tail]), (text.to_vec(), None), "{name} at {at}");
            }
        }
    }

    #[test]
    fn a_piece_is_tried_as_each_coding() {
        let text = b"hello hello hello";
        for bytes in [gzip(text), deflate(text), zlib(text)] {
            for name in ["gzip", "deflate", "x-deflate", "GZip"] {
                assert_eq!(run(name, &[&bytes]), (text.to_vec(), None), "{name}");
            }
        }
        // What came before the piece that fails is not tried again.
        let bytes = zlib(text);
        let (head, tail) = bytes.split_at(1);
        assert_eq!(run("gzip", &[head, tail]).0, tail);
    }

    #[test]
    fn layers_whatever_their_names_say() {
        assert_eq!(run("gzip, gzip", &[&gzip(&gzip(b"abc"))]).0, b"abc");
        assert_eq!(run("deflate, gzip, gzip", &[&zlib(&deflate(&gzip(b"abc")))]).0, b"abc");
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
    fn a_fault_leaves_what_came_before_it_in_the_first_coding_only() {
        let text: Vec<u8> = (0..200_u8).collect();
        let mut bytes = zlib(&text);
        let last = bytes.len() - 1;
        bytes[last] ^= 1;
        assert_eq!(run("gzip", &[&bytes]).0, bytes);
        // A block as it is, then one of a kind that does not exist.
        let broken = [b"\0\x05\0\xfa\xffhello", &[0xff; 8][..]].concat();
        assert_eq!(run("deflate", &[&broken, b"tail"]).0, b"hello");
    }

    #[test]
    fn odd_names_are_told() {
        let told = |value: &str| {
            let mut events = Events::default();
            Inflate::new(value.as_bytes(), 2, &mut events);
            events.iter().collect::<Vec<_>>()
        };
        assert!(told("gzip").is_empty());
        assert!(told("g\0zip").is_empty() && told("br").is_empty());
        assert!(told("DEFLATE").is_empty());
        assert!(told("identity, x-deflate").is_empty());
        assert_eq!(told("gzip;q=1"), ["abnormal_ce_header"]);
        assert_eq!(told("DEFLATE, gzip"), ["abnormal_ce_header"]);
        assert_eq!(told("x, y"), ["abnormal_ce_header", "abnormal_ce_header"]);
        assert_eq!(told("none,none,gzip"), ["too_many_encoding_layers"]);
    }
}
