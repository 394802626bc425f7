//! Files inside SMB: what is read and written of one open file in one direction.
//!
//! Every byte that is transferred is read, in the order of offsets as far as the bounds allow; with
//! a hole or a step back the file has a gap and no digest. One exception: bytes that are written
//! over others which were read already, or which wait, are passed over. Where a file is changed in
//! place, what is read is its first version.

use std::collections::BTreeMap;

use crate::{
    Direction,
    app::{
        Config,
        http::{Body, File, FileState, Keep},
    },
};

/// Pieces that came before what they follow, and their bytes: more are read with gaps.
const AHEAD_MAX: usize = 64;
const AHEAD_BYTES_MAX: usize = 256 << 10;

/// A file is held whole until so much of it came, or all; then a window of it.
const INSPECT_BYTES_MIN: u32 = 32_768;
const WINDOW_BYTES: u32 = 4_096;

/// One file in one direction.
#[derive(Debug, Default)]
pub struct Transfer {
    /// Version of SMB: 1 or 2.
    pub version: u8,
    /// Command that began it, in the numbers of its version.
    pub command: u16,
    /// Dialect that was agreed upon, if that was seen.
    pub dialect: Option<Vec<u8>>,
    /// Share that it is in.
    pub share: Vec<u8>,
    /// The server's number of the open file, as sent.
    pub handle: Vec<u8>,
    /// Session and tree.
    pub session_id: u64,
    /// See `session_id`.
    pub tree_id: u32,
    /// Name, size, digests.
    pub file: File,
    /// Its bytes: `file.data`.
    pub body: Body,
    /// All bytes from here to `next` were read.
    begin: u64,
    /// Where the next byte belongs.
    next: u64,
    ahead: BTreeMap<u64, Vec<u8>>,
    ahead_bytes: usize,
    keep: Option<Keep>,
}

impl Transfer {
    pub(super) fn new(name: &[u8], config: &Config) -> Self {
        let keep = Keep {
            are_files_hashed: config.are_files_hashed,
            // The window bounds what is held; there is no limit to what is looked at.
            bytes_max: 0,
            inspect_bytes_min: INSPECT_BYTES_MIN,
            window_bytes: WINDOW_BYTES,
        };
        Self { file: File::new(name, config.are_files_hashed), keep: Some(keep), ..Self::default() }
    }

    /// Enough of it came for a look at its bytes.
    #[must_use]
    pub const fn is_due(&self) -> bool {
        self.body.is_finished || self.body.total >= INSPECT_BYTES_MIN as u64
    }

    /// Bytes that belong at `offset`; what comes too early waits. Returns how many pieces were given
    /// up waiting for what belongs before them, and read at once.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) -> u64 {
        if bytes.is_empty() || self.file.state != FileState::Open {
            return 0;
        }
        if self.file.size == 0 && self.ahead.is_empty() {
            // If the beginning was not transferred at all, the file begins here.
            (self.begin, self.next) = (offset, offset);
        } else if offset < self.begin {
            self.jump(offset);
        }
        if offset > self.next {
            self.wait(offset, bytes);
            let is_room = self.ahead.len() <= AHEAD_MAX && self.ahead_bytes <= AHEAD_BYTES_MAX;
            return if is_room { 0 } else { self.give_up() };
        }
        self.append(offset, bytes);
        while let Some((&at, _)) = self.ahead.first_key_value()
            && at <= self.next
            && let Some(piece) = self.ahead.remove(&at)
        {
            self.ahead_bytes -= piece.len();
            self.append(at, &piece);
        }
        0
    }

    /// Of two pieces at one offset the longer one stays.
    fn wait(&mut self, offset: u64, bytes: &[u8]) {
        let known = self.ahead.get(&offset).map_or(0, Vec::len);
        if bytes.len() > known {
            self.ahead.insert(offset, bytes.to_vec());
            self.ahead_bytes += bytes.len() - known;
        }
    }

    /// Reads what waits, in order, as if nothing were missing between. Returns how many pieces.
    fn give_up(&mut self) -> u64 {
        let waiting = std::mem::take(&mut self.ahead);
        self.ahead_bytes = 0;
        let count = waiting.len() as u64;
        for (at, piece) in waiting {
            if at > self.next {
                self.jump(at);
            }
            self.append(at, &piece);
        }
        count
    }

    /// What is read next is no continuation of what was read last.
    fn jump(&mut self, to: u64) {
        self.file.has_gap = true;
        (self.begin, self.next) = (to, to);
    }

    fn append(&mut self, offset: u64, bytes: &[u8]) {
        let known = usize::try_from(self.next.saturating_sub(offset)).unwrap_or(usize::MAX);
        let Some(new) = bytes.get(known..).filter(|new| !new.is_empty()) else { return };
        self.next = self.next.saturating_add(new.len() as u64);
        self.file.push(new);
        if let Some(keep) = self.keep {
            self.body.append(new, keep);
        }
    }

    /// Bytes were lost.
    pub(super) const fn lose(&mut self) {
        if matches!(self.file.state, FileState::Open) {
            self.file.has_gap = true;
        }
    }

    /// Nothing more comes: what waits is read, with its gaps noted.
    pub(super) fn finish(&mut self, state: FileState) {
        self.give_up();
        self.file.finish(if self.file.has_gap { FileState::Truncated } else { state });
        self.body.is_finished = true;
    }

    pub(in crate::app) fn roll(&mut self) {
        if let Some(keep) = self.keep {
            self.body.roll(keep);
        }
    }

    pub(in crate::app) fn held_bytes(&self) -> usize {
        size_of::<Self>()
            + self.file.held_bytes()
            + self.body.held_bytes()
            + self.share.capacity()
            + self.handle.capacity()
            + self.dialect.as_ref().map_or(0, Vec::capacity)
            + self.ahead_bytes
            + self.ahead.len() * size_of::<(u64, Vec<u8>)>()
    }

    pub(super) fn is_of(&self, handle: &[u8], session_id: u64) -> bool {
        self.file.state == FileState::Open && self.session_id == session_id && self.handle == handle
    }
}

/// Bytes of a file in a message of which more may come.
#[derive(Clone, Copy, Debug)]
pub(super) struct Data<'m> {
    pub(super) bytes: &'m [u8],
    /// How many the message states.
    pub(super) length: u64,
    /// How far behind what there is of the message they begin.
    pub(super) skip: usize,
}

impl<'m> Data<'m> {
    pub(super) fn of(message: &'m [u8], at: usize, length: u64) -> Self {
        let bytes = message.get(at..).unwrap_or_default();
        let end = usize::try_from(length).unwrap_or(usize::MAX).min(bytes.len());
        let bytes = bytes.get(..end).unwrap_or_default();
        Self { bytes, length, skip: at.saturating_sub(message.len()) }
    }
}

/// What a message says of a file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Piece<'m> {
    pub(super) direction: Direction,
    pub(super) version: u8,
    pub(super) command: u16,
    pub(super) session_id: u64,
    pub(super) tree_id: u32,
    pub(super) handle: &'m [u8],
    pub(super) offset: u64,
    pub(super) bytes: &'m [u8],
    /// See [`Data`].
    pub(super) length: u64,
    /// See [`Data`].
    pub(super) skip: usize,
    /// Bytes that the message states are left out.
    pub(super) is_cut: bool,
}

impl Piece<'_> {
    /// Commands of a chain may all point at the same bytes: together they are given no more than
    /// the message has.
    pub(super) fn cut_to(mut self, room: &mut u64) -> Self {
        let length = self.length.min(*room);
        self.is_cut = length < self.length;
        self.length = length;
        let end = usize::try_from(length).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes = self.bytes.get(..end).unwrap_or_default();
        *room -= length;
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn transfer() -> Transfer {
        Transfer::new(b"a", &Config { are_files_hashed: true, ..Config::default() })
    }

    /// Pieces in order of arrival, then the end: what was read, and whether there is a digest.
    fn check(pieces: &[(u64, &[u8])], read: &[u8], is_whole: bool) {
        let mut transfer = transfer();
        for (offset, bytes) in pieces {
            transfer.put(*offset, bytes);
        }
        transfer.finish(FileState::Closed);
        assert_eq!(transfer.body.window().1, read, "{pieces:?}");
        assert_eq!(transfer.file.size, read.len() as u64, "{pieces:?}");
        assert_eq!(transfer.file.digests.is_some(), is_whole, "{pieces:?}");
        let state = if is_whole { FileState::Closed } else { FileState::Truncated };
        assert_eq!(transfer.file.state, state, "{pieces:?}");
    }

    #[test]
    fn pieces_in_any_order() {
        let mut transfer = transfer();
        transfer.put(0, b"ab");
        let before = transfer.held_bytes();
        transfer.put(4, b"ef");
        assert_eq!(transfer.body.window().1, b"ab");
        assert!(transfer.held_bytes() >= before + 2, "what waits is counted");
        transfer.put(1, b"bcd");
        assert_eq!(transfer.body.window().1, b"abcdef");
        transfer.put(0, b"xx");
        transfer.finish(FileState::Closed);
        assert_eq!((transfer.file.size, transfer.file.state), (6, FileState::Closed));
        assert!(!transfer.is_of(b"", 0), "a closed file takes nothing more");
    }

    #[test]
    fn what_waits_behind_a_hole_is_read_at_the_end() {
        check(&[(0, b"ab"), (4, b"ef"), (8, b"ij")], b"abefij", false);
        check(&[(0, b"ab"), (2, b"cd")], b"abcd", true);
    }

    #[test]
    fn a_first_piece_far_ahead_hides_nothing() {
        check(&[(1 << 40, b"x"), (0, b"ab"), (2, b"cd")], b"xabcd", false);
        check(&[(u64::MAX, b"x"), (0, b"ab")], b"xab", false);
        check(&[(1 << 40, b""), (0, b"ab"), (2, b"cd")], b"abcd", true);
        check(&[(7, b"ab"), (9, b"cd")], b"abcd", true);
    }

    #[test]
    fn a_short_piece_does_not_replace_a_long_one() {
        check(&[(0, b"a"), (4, b"efgh"), (4, b"e"), (1, b"bcd")], b"abcdefgh", true);
        check(&[(0, b"a"), (4, b"e"), (4, b"efgh"), (1, b"bcd")], b"abcdefgh", true);
        let mut transfer = transfer();
        transfer.put(0, b"a");
        (0..1_000).for_each(|at| assert_eq!(transfer.put(10 + at, b""), 0));
        assert!(transfer.ahead.is_empty(), "an empty piece takes no place");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut transfer = transfer();
        transfer.put(0, b"a");
        let mut given_up = 0;
        for at in 0..1_000_u64 {
            given_up += transfer.put(10 + at * 2, b"x");
            assert!(transfer.ahead.len() <= AHEAD_MAX);
        }
        assert!(transfer.file.has_gap);
        assert_eq!(given_up, transfer.file.size - 1, "each counted, none passed over");
        transfer.finish(FileState::Closed);
        assert_eq!((transfer.file.size, transfer.file.state), (1_001, FileState::Truncated));
        let long = vec![b'x'; AHEAD_BYTES_MAX + 1];
        check(&[(0, b"a"), (9, &long), (3, b"b")], &[&b"a"[..], &long, b"b"].concat(), false);
    }

    #[test]
    fn what_waits_too_long_is_read_in_order() {
        let mut transfer = transfer();
        transfer.put(0, b"<");
        for at in (0..=AHEAD_MAX as u64).rev() {
            transfer.put(10 + at * 2, &[b'0' + at as u8]);
        }
        let digits = (0..=AHEAD_MAX as u8).map(|at| b'0' + at);
        let read: Vec<u8> = std::iter::once(b'<').chain(digits).collect();
        assert_eq!(transfer.body.window().1, read);
    }

    #[test]
    fn a_chain_has_no_more_bytes_than_its_message() {
        let piece = Piece {
            direction: Direction::ToServer,
            version: 1,
            command: 0x2f,
            session_id: 0,
            tree_id: 0,
            handle: b"",
            offset: 0,
            bytes: b"abc",
            length: 5,
            skip: 0,
            is_cut: false,
        };
        let mut room = 7;
        let first = piece.cut_to(&mut room);
        assert_eq!((first.bytes, first.length, first.is_cut, room), (&b"abc"[..], 5, false, 2));
        let second = piece.cut_to(&mut room);
        assert_eq!((second.bytes, second.length, second.is_cut, room), (&b"ab"[..], 2, true, 0));
    }
}
