//! A bounded window on a body.

use std::ops::Range;

/// A body after transfer and content decoding: the bytes `start..start + window().len()` of it.
///
/// Inspect before every `App::prune`: once `inspect_bytes_min` came, it drops all but the last
/// `window_bytes`.
#[derive(Debug, Default)]
pub struct Body {
    data: Vec<u8>,
    start: u64,
    /// Decoded bytes so far, those beyond the limit included.
    pub total: u64,
    /// Bytes of the message on the wire (with chunk lines).
    pub wire: u64,
    /// Decoded bytes beyond the limit: counted, not kept.
    pub is_limited: bool,
    /// No more will come.
    pub is_finished: bool,
    /// Bytes were lost inside.
    pub has_gap: bool,
    /// The parser gave up before its end: what is there is not looked at by itself any more.
    pub is_broken: bool,
    /// Pieces that came before a byte of what is inside.
    pub(crate) empty_pieces: u8,
    /// For a body without length that ends with the connection: its line ends.
    pub lines: Option<Lines>,
}

/// Line ends of a body, as far as they are not CR LF.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// CR without LF, LF without CR.
    pub bare: u64,
    last: u8,
}

impl Lines {
    fn push(&mut self, bytes: &[u8]) {
        for byte in bytes {
            match (self.last, byte) {
                (b'\r', b'\n') => self.bare = self.bare.saturating_sub(1),
                (_, b'\r' | b'\n') => self.bare += 1,
                _ => {}
            }
            self.last = *byte;
        }
    }

    /// The last line has an end.
    #[must_use]
    pub const fn is_ended(&self) -> bool {
        matches!(self.last, b'\r' | b'\n')
    }
}

/// How a body is kept; see `Config`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    pub are_files_hashed: bool,
    pub bytes_max: u64,
    pub inspect_bytes_min: u32,
    pub window_bytes: u32,
}

impl Body {
    /// Offset in the body of the first byte kept, and the bytes kept.
    #[must_use]
    pub fn window(&self) -> (u64, &[u8]) {
        (self.start, &self.data)
    }

    /// Offset behind the last byte kept: `start + len`.
    #[must_use]
    pub fn kept_end(&self) -> u64 {
        self.start + self.data.len() as u64
    }

    /// The bytes that are kept of `range`.
    #[must_use]
    pub fn slice(&self, range: Range<u64>) -> &[u8] {
        let from = usize::try_from(range.start.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let to = usize::try_from(range.end.saturating_sub(self.start)).unwrap_or(usize::MAX);
        let to = to.min(self.data.len());
        self.data.get(from.min(to)..to).unwrap_or_default()
    }

    /// Room of the window.
    pub(crate) const fn held_bytes(&self) -> usize {
        self.data.capacity()
    }

    /// Drops what was inspected but the window. Nothing is moved for less than a window.
    pub(crate) fn roll(&mut self, keep: Keep) {
        let window = usize::try_from(keep.window_bytes).unwrap_or(usize::MAX).max(1);
        if self.total < u64::from(keep.inspect_bytes_min) || self.data.len() < 2 * window {
            return;
        }
        let gone = self.data.len() - window;
        self.data.drain(..gone);
        // One long piece must not cost its room for as long as the body lasts.
        self.data.shrink_to(2 * window);
        self.start += gone as u64;
    }

    /// Adds decoded bytes; returns how many the limit cut.
    pub(crate) fn append(&mut self, bytes: &[u8], keep: Keep) -> u64 {
        let room = if keep.bytes_max == 0 {
            u64::MAX
        } else {
            keep.bytes_max.saturating_sub(self.kept_end())
        };
        let taken = usize::try_from(room).unwrap_or(usize::MAX).min(bytes.len());
        self.data.extend_from_slice(bytes.get(..taken).unwrap_or_default());
        self.total += bytes.len() as u64;
        if let Some(lines) = &mut self.lines {
            lines.push(bytes);
        }
        let cut = (bytes.len() - taken) as u64;
        self.is_limited |= cut > 0;
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_of_a_long_piece_is_given_back() {
        let keep = Keep {
            are_files_hashed: false,
            bytes_max: 0,
            inspect_bytes_min: 1,
            window_bytes: 1_000,
        };
        let mut body = Body::default();
        body.append(&[b'x'; 1 << 20], keep);
        body.roll(keep);
        assert_eq!((body.window().1.len(), body.kept_end()), (1_000, 1 << 20));
        assert!(body.held_bytes() <= 2_000, "{} bytes", body.held_bytes());
    }
}
