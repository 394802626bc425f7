//! Content codings (RFC 9110, section 8.4): gzip, deflate, zlib, brotli and LZMA, bounded.
//!
//! Servers mix the first three up, and browsers forgive it. So the piece of a body at which a coding fails is
//! tried as the next one, in libhtp's order, and passes as it is when it is none. What a wrong try made
//! of it is dropped; a coding that was right up to a fault gives what came before, and nothing after.

use super::brotli::Brotli;
use super::coding::{Coding, Limits, codings};
use super::gzip;
use super::lzma::Lzma;
use super::window::{Ended, Window};
use crate::Direction;
use crate::app::Events;

/// A body that grows beyond this and beyond a limit is a bomb (libhtp's ratio).
const BOMB_RATIO: u64 = 2_048;
/// Other codings that are tried (libhtp's limit): each of the three comes by.
const RETRIES_MAX: u8 = 3;
/// What libhtp makes of a piece before it looks what comes next.
const ROUND_BYTES: usize = 32_768;
/// More than this goes on to the next coding before the piece is at its end.
const HELD_BYTES_MAX: usize = 8_192;

/// It grows without end: nothing more is decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bomb;

/// A decoder of all codings of one body.
#[derive(Debug, Default)]
pub(crate) struct Inflate {
    layers: Vec<Layer>,
    bomb_bytes_min: u64,
    bytes_in: u64,
    bytes_out: u64,
    is_bomb: bool,
    /// The body's end came: what follows has no decoder, with which libhtp gives up.
    is_over: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Decodes,
    /// It is none of the codings.
    Passes,
    /// Its end came, or it broke: the rest is dropped.
    Ended,
}

/// What decodes; made when the first byte of compressed data comes.
enum Decoder {
    Deflate(Box<Window>),
    Brotli(Box<Brotli>),
    Lzma(Box<Lzma>),
}

struct Layer {
    coding: Coding,
    retries: u8,
    mode: Mode,
    header: gzip::Header,
    decoder: Option<Decoder>,
    lzma_bytes_max: u32,
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

impl Inflate {
    /// Room that it takes.
    pub(super) fn held_bytes(&self) -> usize {
        let decoder = |layer: &Layer| layer.decoder.as_ref().map_or(0, Decoder::held_bytes);
        let layers = self.layers.iter();
        size_of::<Self>()
            + layers.map(|it| size_of::<Layer>() + it.held.capacity() + decoder(it)).sum::<usize>()
    }

    /// For the value of a Content-Encoding field; `None` if there is nothing to decode.
    pub(super) fn new(
        value: &[u8],
        direction: Direction,
        limits: Limits,
        events: &mut Events,
    ) -> Option<Self> {
        let codings = codings(value, direction, limits, events);
        // What was applied last is undone first.
        let layers: Vec<Layer> =
            codings.into_iter().rev().map(|coding| Layer::new(coding, limits)).collect();
        let bomb_bytes_min = limits.bomb_bytes_min.into();
        (!layers.is_empty()).then(|| Self { layers, bomb_bytes_min, ..Self::default() })
    }

    /// The body's end came.
    pub(super) fn end(&mut self) {
        *self = Self { is_over: true, ..Self::default() };
    }

    /// See [`Self::end`].
    pub(super) const fn is_over(&self) -> bool {
        self.is_over
    }

    /// LZMA is among the codings.
    pub(super) fn has_lzma(&self) -> bool {
        self.layers.iter().any(|layer| layer.coding == Coding::Lzma)
    }

    /// Whether the end of the body may bring more out.
    pub(super) fn holds_back(&self) -> bool {
        self.layers.iter().any(|layer| matches!(layer.decoder, Some(Decoder::Lzma(_))))
    }

    /// Decodes `bytes`, handing pieces to `out`.
    pub(super) fn push(&mut self, bytes: &[u8], out: &mut dyn FnMut(&[u8])) -> Option<Bomb> {
        self.bytes_in += bytes.len() as u64;
        self.run(out, |layers, count| {
            push_layers(layers, bytes, count) && flush_layers(layers, count)
        })
    }

    /// Hands out what was held back.
    pub(super) fn drain(&mut self, out: &mut dyn FnMut(&[u8])) -> Option<Bomb> {
        self.run(out, drain_layers)
    }

    fn run(
        &mut self,
        out: &mut dyn FnMut(&[u8]),
        decode: impl FnOnce(&mut [Layer], Out<'_>) -> bool,
    ) -> Option<Bomb> {
        if self.is_bomb || self.is_over {
            return None;
        }
        let mut bytes_out = self.bytes_out;
        let limit = self.bomb_bytes_min.max(self.bytes_in.saturating_mul(BOMB_RATIO));
        let mut count = |piece: &[u8]| {
            bytes_out += piece.len() as u64;
            out(piece);
            bytes_out <= limit
        };
        self.is_bomb = !decode(&mut self.layers, &mut count);
        self.bytes_out = bytes_out;
        if self.is_bomb {
            // Nothing is decoded any more, so nothing is held for it.
            self.layers = Vec::new();
        }
        self.is_bomb.then_some(Bomb)
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
        inner.iter_mut().for_each(|layer| layer.stop(Mode::Passes));
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

/// The end of the body: what was held back goes through the inner layers.
fn drain_layers(layers: &mut [Layer], out: Out<'_>) -> bool {
    let Some((outer, inner)) = layers.split_first_mut() else { return true };
    let held = match outer.decoder.take() {
        Some(Decoder::Lzma(decoder)) if outer.mode == Mode::Decodes => decoder.end(),
        _ => Vec::new(),
    };
    push_layers(inner, &held, out) && flush_layers(inner, out) && drain_layers(inner, out)
}

impl Decoder {
    fn new(coding: Coding, lzma_bytes_max: u32) -> Self {
        match coding {
            Coding::Gzip | Coding::Deflate | Coding::Zlib => Self::Deflate(Box::default()),
            Coding::Brotli => Self::Brotli(Box::default()),
            Coding::Lzma => Self::Lzma(Box::new(Lzma::new(lzma_bytes_max))),
        }
    }

    fn held_bytes(&self) -> usize {
        match self {
            Self::Deflate(window) => window.held_bytes(),
            Self::Brotli(brotli) => brotli.held_bytes(),
            Self::Lzma(lzma) => lzma.held_bytes(),
        }
    }

    fn step(&mut self, input: &[u8], is_zlib: bool) -> (usize, &[u8], Ended) {
        match self {
            Self::Deflate(window) => window.step(input, is_zlib),
            Self::Brotli(brotli) => brotli.step(input),
            Self::Lzma(lzma) => lzma.step(input),
        }
    }

    /// How much may come out before what is left of a piece is a piece of its own: at a fault only
    /// that is tried as another coding.
    const fn round_bytes(&self) -> usize {
        match self {
            Self::Deflate(_) => ROUND_BYTES,
            Self::Brotli(_) => usize::MAX,
            // Its header by itself.
            Self::Lzma(_) => 0,
        }
    }
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
    fn new(coding: Coding, limits: Limits) -> Self {
        Self {
            coding,
            retries: 0,
            mode: Mode::Decodes,
            header: gzip::Header::default(),
            decoder: None,
            lzma_bytes_max: limits.lzma_bytes_max,
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
                    self.stop(Mode::Ended);
                    return Some(&[]);
                }
                Round::Wrong => self.retry(),
            }
        }
        Some(&[])
    }

    /// It decodes no more, and holds nothing for it.
    fn stop(&mut self, mode: Mode) {
        self.mode = mode;
        self.decoder = None;
        self.held = Vec::new();
    }

    /// The next coding; what the last one made of this piece is dropped.
    fn retry(&mut self) {
        self.held.clear();
        self.fresh = 0;
        self.decoder = None;
        self.header = gzip::Header::default();
        if self.retries >= RETRIES_MAX {
            self.mode = Mode::Passes;
            return;
        }
        self.retries += 1;
        self.coding = match self.coding {
            Coding::Gzip | Coding::Lzma | Coding::Brotli => Coding::Deflate,
            Coding::Deflate => Coding::Zlib,
            Coding::Zlib => Coding::Gzip,
        };
    }

    fn round<'a>(&mut self, bytes: &'a [u8], out: Out<'_>) -> Round<'a> {
        if self.coding == Coding::Gzip && !self.header.is_read() {
            return self.header.push(bytes).map_or(Round::Wrong, Round::Left);
        }
        let is_zlib = self.coding == Coding::Zlib;
        if self.fresh > HELD_BYTES_MAX {
            self.fresh = 0;
            let held = std::mem::take(&mut self.held);
            if !held.is_empty() && !out(&held) {
                return Round::Full;
            }
        }
        let (coding, lzma_bytes_max) = (self.coding, self.lzma_bytes_max);
        let decoder = self.decoder.get_or_insert_with(|| Decoder::new(coding, lzma_bytes_max));
        let round_bytes = decoder.round_bytes();
        let mut rest = bytes;
        let mut made = 0;
        loop {
            let (used, piece, ended) = decoder.step(rest, is_zlib);
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
                    self.decoder = None;
                    return Round::Left(&[]);
                }
                Ended::Full if made >= round_bytes && !rest.is_empty() => {
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
    use super::{Bomb, Inflate, Limits};
    use crate::Direction;
    use crate::app::Events;

    const LIMITS: Limits = Limits {
        layers_max: 3,
        lzma_layers_max: 1,
        lzma_bytes_max: 1 << 20,
        bomb_bytes_min: 1 << 20,
    };

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
        let (side, events) = (Direction::ToClient, &mut Events::default());
        let mut decoder = Inflate::new(encoding.as_bytes(), side, LIMITS, events).unwrap();
        let (mut out, mut bomb) = (Vec::new(), None);
        for piece in pieces {
            bomb = bomb.or(decoder.push(piece, &mut |bytes| out.extend_from_slice(bytes)));
        }
        bomb = bomb.or(decoder.drain(&mut |bytes| out.extend_from_slice(bytes)));
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
    fn brotli_and_lzma_and_what_only_says_so() {
        let lzma = b"]\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\x004\x19I\xee\x8d\xe9O\x7f5\xc5\
            \xa3\xff\xffx\xa4\0\0";
        let brotli = b"\x8f\x02\x80hello\n\x03";
        for at in 0..brotli.len() {
            let (head, tail) = brotli.split_at(at);
            assert_eq!(run("br", &[head, tail]).0, b"hello\n", "{at}");
        }
        for at in 0..lzma.len() {
            let (head, tail) = lzma.split_at(at);
            assert_eq!(run("lzma", &[head, tail]).0, b"hello hello hello", "{at}");
        }
        assert_eq!(run("lzma, gzip", &[&gzip(lzma)]).0, b"hello hello hello");
        // zlib by LZMA: all of it comes at the end, and the inner coding is the second that is tried.
        let zlib = b"]\0\0\x80\0\xff\xff\xff\xff\xff\xff\xff\xff\0<'\x05d\xc2j\x8a\xb5\x03i\x99\
            \xffW\xbf}\xbf\xff\xef\xf1\0\0";
        assert_eq!(run("deflate, lzma", &[zlib]).0, b"abc");
    }
}
