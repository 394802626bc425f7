//! Files inside SMB: what is read and written of one open file in one direction.

use std::collections::BTreeMap;

use crate::{
    Direction,
    app::{
        Config,
        http::{Body, File, FileState, Keep},
    },
};

/// Pieces that came before what they follow, and their bytes: more are given up as a gap.
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

    /// Bytes that belong at `offset`. What is there already is not written again; what comes too
    /// early waits.
    pub(super) fn put(&mut self, offset: u64, bytes: &[u8]) {
        if offset > self.next && self.file.size == 0 && self.ahead.is_empty() {
            // The beginning was not transferred at all: the file begins here.
            self.next = offset;
        }
        if offset > self.next {
            let is_room = self.ahead.len() < AHEAD_MAX
                && self.ahead_bytes.saturating_add(bytes.len()) <= AHEAD_BYTES_MAX;
            if is_room {
                let old = self.ahead.insert(offset, bytes.to_vec());
                self.ahead_bytes += bytes.len();
                self.ahead_bytes -= old.map_or(0, |old| old.len());
                return;
            }
            self.file.has_gap = true;
            self.next = offset;
        }
        self.append(offset, bytes);
        while let Some((&at, _)) = self.ahead.first_key_value()
            && at <= self.next
            && let Some(piece) = self.ahead.remove(&at)
        {
            self.ahead_bytes -= piece.len();
            self.append(at, &piece);
        }
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
    pub(super) fn lose(&mut self) {
        self.file.has_gap = true;
    }

    /// Nothing more comes.
    pub(super) fn finish(&mut self, state: FileState) {
        let is_whole = self.ahead.is_empty() && !self.file.has_gap;
        self.file.finish(if is_whole { state } else { FileState::Truncated });
        self.body.is_finished = true;
        self.ahead.clear();
        self.ahead_bytes = 0;
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
            + self.ahead_bytes
    }

    pub(super) fn is_of(&self, handle: &[u8], session_id: u64) -> bool {
        self.file.state == FileState::Open && self.session_id == session_id && self.handle == handle
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
    /// How many bytes the message states.
    pub(super) length: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_in_any_order() {
        let mut transfer = Transfer::new(b"a", &Config::default());
        transfer.put(0, b"ab");
        transfer.put(4, b"ef");
        assert_eq!(transfer.body.window().1, b"ab");
        transfer.put(1, b"bcd");
        assert_eq!(transfer.body.window().1, b"abcdef");
        assert_eq!(transfer.held_bytes(), transfer.held_bytes().max(size_of::<Transfer>()));
        transfer.put(0, b"xx");
        transfer.finish(FileState::Closed);
        assert_eq!((transfer.file.size, transfer.file.state), (6, FileState::Closed));
        assert!(!transfer.is_of(b"", 0), "a closed file takes nothing more");
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut transfer = Transfer::new(b"a", &Config::default());
        transfer.put(0, b"a");
        for at in 0..1_000_u64 {
            transfer.put(10 + at * 2, b"x");
            assert!(transfer.ahead.len() <= AHEAD_MAX);
        }
        assert!(transfer.file.has_gap);
        transfer.finish(FileState::Closed);
        assert_eq!(transfer.file.state, FileState::Truncated);
    }
}
