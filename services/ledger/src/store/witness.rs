//! A small file that remembers the last commit, so that a database that went back is noticed.
//!
//! ```text
//! two slots of 128 bytes: magic(16) | epoch u64 LE | length u64 LE | hash(32) | SHA-256 of these
//! ```
//!
//! A database whose newest commit is damaged can look like a good older one. The witness is
//! written after every commit, in turns, without a sync of its own: after a power cut it may be
//! behind the database, never ahead. It notices accidents and careless restores; it is no defence
//! against somebody who replaces both files, which is what the NV counter is for. It also keeps
//! the epoch number when a database had to be set aside.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::Path,
};

use hookprobe_wire::Hash;
use sha2::{Digest, Sha256};

const MAGIC: &[u8; 16] = b"hp.witness.v1\0\0\0";
const BODY_BYTES: usize = 64;
/// Bytes of one slot.
pub const SLOT_BYTES: usize = 128;

/// What was seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Seen {
    /// Current epoch.
    pub epoch: u64,
    /// Blocks.
    pub length: u64,
    /// Hash of the last.
    pub hash: Hash,
}

/// The file.
#[derive(Debug)]
pub struct Witness {
    file: File,
    slot: bool,
}

impl Witness {
    /// Opens or makes the file; also what it last saw, `None` when there is nothing whole in it.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn open(path: &Path) -> io::Result<(Self, Option<Seen>)> {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(path)?;
        let (seen, newest_is_second) = newest(&file)?;
        let witness = Self { file, slot: !newest_is_second };
        Ok((witness, seen))
    }

    /// Writes over the older slot; with `sync`, waits for the disk.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn note(&mut self, seen: &Seen, sync: bool) -> io::Result<()> {
        self.file.write_all_at(&to_slot(seen), offset(self.slot))?;
        self.slot = !self.slot;
        if sync {
            self.file.sync_all()?;
        }
        Ok(())
    }
}

/// What the file last saw, `None` also when there is no file; nothing is changed.
///
/// # Errors
/// Those of the file system.
pub fn read(path: &Path) -> io::Result<Option<Seen>> {
    match File::open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        file => Ok(newest(&file?)?.0),
    }
}

/// The newest whole slot, and whether it is the second.
fn newest(file: &File) -> io::Result<(Option<Seen>, bool)> {
    let first = read_slot(file, false)?;
    let second = read_slot(file, true)?;
    let order = |seen: &Option<Seen>| seen.map(|seen| (seen.epoch, seen.length));
    if order(&second) > order(&first) { Ok((second, true)) } else { Ok((first, false)) }
}

fn offset(second: bool) -> u64 {
    if second { SLOT_BYTES as u64 } else { 0 }
}

fn read_slot(file: &File, second: bool) -> io::Result<Option<Seen>> {
    let mut slot = [0; SLOT_BYTES];
    match file.read_exact_at(&mut slot, offset(second)) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        other => other?,
    }
    Ok(from_slot(&slot))
}

/// What was seen, as it stands in a slot.
#[must_use]
pub fn to_slot(seen: &Seen) -> Vec<u8> {
    let mut slot = Vec::with_capacity(SLOT_BYTES);
    slot.extend_from_slice(MAGIC);
    slot.extend_from_slice(&seen.epoch.to_le_bytes());
    slot.extend_from_slice(&seen.length.to_le_bytes());
    slot.extend_from_slice(seen.hash.as_bytes());
    let sum = Sha256::digest(&slot);
    slot.extend_from_slice(&sum);
    slot.resize(SLOT_BYTES, 0);
    slot
}

/// What stands in a slot; `None` when it is not whole.
#[must_use]
pub fn from_slot(slot: &[u8; SLOT_BYTES]) -> Option<Seen> {
    let (body, rest) = slot.split_first_chunk::<BODY_BYTES>()?;
    let (magic, fields) = body.split_first_chunk::<16>()?;
    let (epoch, fields) = fields.split_first_chunk::<8>()?;
    let (length, hash) = fields.split_first_chunk::<8>()?;
    let good = magic == MAGIC && rest.starts_with(&Sha256::digest(body));
    good.then_some(Seen {
        epoch: u64::from_le_bytes(*epoch),
        length: u64::from_le_bytes(*length),
        hash: Hash::new(*hash.first_chunk::<32>()?),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen(length: u64) -> Seen {
        Seen { epoch: 2, length, hash: Hash::new([length as u8; 32]) }
    }

    #[test]
    fn the_newest_whole_slot_counts() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("w");
        let (mut witness, none) = Witness::open(&path).unwrap();
        assert_eq!(none, None);
        for length in 1..=5 {
            witness.note(&seen(length), false).unwrap();
            let (_, got) = Witness::open(&path).unwrap();
            assert_eq!(got, Some(seen(length)));
        }
        // A torn newest slot leaves the one before.
        let mut bytes = fs::read(&path).unwrap();
        bytes[SLOT_BYTES + 20] ^= 1;
        fs::write(&path, &bytes).unwrap();
        let (mut witness, got) = Witness::open(&path).unwrap();
        assert_eq!(got, Some(seen(4)));
        witness.note(&seen(6), true).unwrap();
        assert_eq!(Witness::open(&path).unwrap().1, Some(seen(6)));
    }
}
