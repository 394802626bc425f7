//! Files that are read and written: the head of the partition, and what goes between PID 1 and this
//! helper.

use std::{
    fs::{self, File, OpenOptions},
    io::{ErrorKind, Read, Write as _},
    os::unix::fs::{FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use hookprobe_wire::unlock::{
    DIRECTORY, FRESH_RECOVERY_FILE, OUTCOME_BYTES_MAX, OUTCOME_FILE, Outcome, RECOVERY_BYTES_MAX,
    RECOVERY_FILE, STATE_LINK,
};
use zeroize::Zeroizing;

use super::{
    error::UnlockError,
    header::{HEAD_BYTES, UNFINISHED},
    recovery::RecoveryKey,
};

/// The LUKS magic is in it; a disk writes a sector as a whole.
const FIRST_SECTOR_BYTES: usize = 512;
/// Longest reason or note in an outcome: with the rest well below [`OUTCOME_BYTES_MAX`].
const TEXT_BYTES_MAX: usize = OUTCOME_BYTES_MAX / 2;

/// Where everything is.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// The partition.
    pub(super) partition: PathBuf,
    /// The directory in memory; a new header is made in it.
    pub(super) directory: PathBuf,
    /// From PID 1.
    pub(super) recovery: PathBuf,
    /// For `attest`.
    pub(super) fresh_recovery: PathBuf,
    /// For PID 1.
    pub(super) outcome: PathBuf,
}

impl Default for Place {
    fn default() -> Self {
        Self {
            partition: STATE_LINK.into(),
            directory: DIRECTORY.into(),
            recovery: RECOVERY_FILE.into(),
            fresh_recovery: FRESH_RECOVERY_FILE.into(),
            outcome: OUTCOME_FILE.into(),
        }
    }
}

impl Place {
    /// Where a header is made.
    #[must_use]
    pub(super) fn new_header(&self) -> PathBuf {
        self.directory.join("header")
    }

    /// The first [`HEAD_BYTES`] of the partition, fewer when it is smaller.
    ///
    /// # Errors
    /// [`UnlockError::Partition`].
    pub(super) fn head(&self) -> Result<Vec<u8>, UnlockError> {
        let mut head = Vec::with_capacity(HEAD_BYTES);
        File::open(&self.partition)
            .and_then(|file| {
                file.take(u64::try_from(HEAD_BYTES).unwrap_or(u64::MAX)).read_to_end(&mut head)
            })
            .map_err(UnlockError::partition("read"))?;
        Ok(head)
    }

    /// Marks the partition as one on which a volume is being made; until [`Self::commit`] it counts
    /// as blank.
    ///
    /// # Errors
    /// [`UnlockError::Partition`].
    pub(super) fn mark_unfinished(&self) -> Result<(), UnlockError> {
        let mut sector = [0; FIRST_SECTOR_BYTES];
        for (to, from) in sector.iter_mut().zip(UNFINISHED) {
            *to = *from;
        }
        self.write_partition("mark", |file| {
            file.write_all_at(&sector, 0)?;
            file.sync_all()
        })
    }

    /// Makes the file for a header.
    ///
    /// # Errors
    /// [`UnlockError::File`].
    pub(super) fn make_header_file(&self) -> Result<PathBuf, UnlockError> {
        let path = self.new_header();
        remove(&path)?;
        create(&path)
            .and_then(|file| file.set_len(u64::try_from(HEAD_BYTES).unwrap_or(u64::MAX)))
            .map_err(at("make", &path))?;
        Ok(path)
    }

    /// Copies the header to the partition: all of it but the first sector, and when that is on the
    /// disk the first sector. Cut off before, the partition is still blank.
    ///
    /// # Errors
    /// [`UnlockError`].
    pub(super) fn commit(&self) -> Result<(), UnlockError> {
        let path = self.new_header();
        let header = fs::read(&path).map_err(at("read", &path))?;
        let (first, rest) = header.split_at_checked(FIRST_SECTOR_BYTES).unwrap_or_default();
        self.write_partition("write the header to", |file| {
            file.write_all_at(rest, FIRST_SECTOR_BYTES.try_into().unwrap_or(u64::MAX))?;
            file.sync_all()?;
            file.write_all_at(first, 0)?;
            file.sync_all()
        })?;
        remove(&path)
    }

    fn write_partition(
        &self,
        what: &'static str,
        write: impl FnOnce(&File) -> std::io::Result<()>,
    ) -> Result<(), UnlockError> {
        OpenOptions::new()
            .write(true)
            .open(&self.partition)
            .and_then(|file| write(&file))
            .map_err(UnlockError::partition(what))
    }

    /// What an operator typed, if anything; removed before it is looked at.
    ///
    /// # Errors
    /// [`UnlockError::File`].
    pub(super) fn take_recovery(&self) -> Result<Option<Zeroizing<String>>, UnlockError> {
        let file = match File::open(&self.recovery) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(at("open", &self.recovery)(error)),
        };
        remove(&self.recovery)?;
        let most = RECOVERY_BYTES_MAX + 1;
        let mut typed = Zeroizing::new(Vec::with_capacity(most));
        file.take(u64::try_from(most).unwrap_or(u64::MAX))
            .read_to_end(&mut typed)
            .map_err(at("read", &self.recovery))?;
        Ok(Some(Zeroizing::new(String::from_utf8_lossy(&typed).into_owned())))
    }

    /// Leaves a recovery key that was just made for `attest`, which shows it once.
    ///
    /// # Errors
    /// [`UnlockError::File`].
    pub(super) fn leave_recovery(&self, key: &RecoveryKey) -> Result<(), UnlockError> {
        write_atomically(&self.fresh_recovery, key.expose().as_bytes())
    }

    /// Removes what a creation that failed left in memory.
    pub(super) fn forget(&self) {
        for path in [self.new_header(), self.fresh_recovery.clone()] {
            if let Err(error) = remove(&path) {
                tracing::warn!("{error}");
            }
        }
    }

    /// Writes the outcome for PID 1.
    ///
    /// # Errors
    /// [`UnlockError::File`].
    pub(super) fn write_outcome(&self, outcome: Outcome) -> Result<(), UnlockError> {
        let mut bytes = Vec::new();
        minicbor::encode(bounded(outcome), &mut bytes).map_err(|error| {
            at("encode", &self.outcome)(std::io::Error::other(error.to_string()))
        })?;
        write_atomically(&self.outcome, &bytes)
    }
}

/// Cuts texts that are longer than PID 1 reads.
fn bounded(outcome: Outcome) -> Outcome {
    let cut = |mut text: String| {
        while text.len() > TEXT_BYTES_MAX {
            text.pop();
        }
        text
    };
    match outcome {
        Outcome::Open { uuid, key_identity, created, recovered, resealed, note } => {
            Outcome::Open { uuid, key_identity, created, recovered, resealed, note: note.map(cut) }
        }
        Outcome::Plain { created } => Outcome::Plain { created },
        Outcome::Locked { reason, recoverable } => {
            Outcome::Locked { reason: cut(reason), recoverable }
        }
    }
}

fn at(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> UnlockError {
    let path = path.display().to_string();
    move |source| UnlockError::File { what, path, source }
}

fn create(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}

fn remove(path: &Path) -> Result<(), UnlockError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(at("remove", path)(error)),
        _ => Ok(()),
    }
}

/// A file of mode 0600 that is there completely or not at all.
fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), UnlockError> {
    let new = path.with_extension("new");
    remove(&new)?;
    create(&new)
        .and_then(|mut file| {
            file.write_all(bytes)?;
            file.sync_all()
        })
        .and_then(|()| fs::rename(&new, path))
        .map_err(at("write", path))
}
