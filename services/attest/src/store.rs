//! Where the identity file stands, as a trait so that tests can fail at any step of it.
//!
//! Must never happen here: half a file under the final name; a file that others can read; a damaged
//! file that is lost (it is set aside, one is kept). Called by [`crate::attester`].

use std::{
    fs::{self, File, OpenOptions},
    io::{self, ErrorKind, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use crate::identity::IDENTITY_BYTES_MAX;

/// Where the identity lives on a box.
pub const DIRECTORY: &str = "/var/lib/hookprobe/attest";
/// The file.
pub const FILE: &str = "identity";
/// What a damaged one is renamed to; one is kept.
pub const ASIDE: &str = "identity.damaged";
const FRESH: &str = "identity.new";

/// The place of the identity file.
pub trait Store {
    /// The file's bytes, at most one more than [`IDENTITY_BYTES_MAX`]; `None` when there is none.
    ///
    /// # Errors
    /// What the kernel says.
    fn read(&mut self) -> io::Result<Option<Vec<u8>>>;

    /// Replaces the file; after a crash at any moment the old or the new one is there, whole.
    ///
    /// # Errors
    /// What the kernel says.
    fn write(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Renames the file to [`ASIDE`].
    ///
    /// # Errors
    /// What the kernel says.
    fn set_aside(&mut self) -> io::Result<()>;
}

/// A directory.
#[derive(Debug)]
pub struct Directory(PathBuf);

impl Directory {
    /// The directory at `path`; PID 1 makes it.
    #[must_use]
    pub fn new(path: &Path) -> Self {
        Self(path.into())
    }

    fn sync(&self) -> io::Result<()> {
        File::open(&self.0)?.sync_all()
    }
}

impl Store for Directory {
    fn read(&mut self) -> io::Result<Option<Vec<u8>>> {
        let file = OpenOptions::new()
            .read(true)
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(self.0.join(FILE));
        let file = match file {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut bytes = Vec::new();
        file.take(IDENTITY_BYTES_MAX as u64 + 1).read_to_end(&mut bytes)?;
        Ok(Some(bytes))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fresh = self.0.join(FRESH);
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&fresh, self.0.join(FILE))?;
        self.sync()
    }

    fn set_aside(&mut self) -> io::Result<()> {
        fs::rename(self.0.join(FILE), self.0.join(ASIDE))?;
        self.sync()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn written_whole_and_for_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let mut store = Directory::new(directory.path());
        assert_eq!(store.read().unwrap(), None);
        fs::write(directory.path().join(FRESH), b"torn").unwrap(); // Of a life that was cut short.
        store.write(b"one").unwrap();
        store.write(b"two").unwrap();
        assert_eq!(store.read().unwrap().unwrap(), b"two");
        let mode = fs::metadata(directory.path().join(FILE)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        store.set_aside().unwrap();
        assert_eq!(store.read().unwrap(), None);
        assert_eq!(fs::read(directory.path().join(ASIDE)).unwrap(), b"two");
    }

    #[test]
    fn a_file_that_grew_is_read_to_one_byte_too_many() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join(FILE), vec![0; 10 * IDENTITY_BYTES_MAX]).unwrap();
        let mut store = Directory::new(directory.path());
        assert_eq!(store.read().unwrap().unwrap().len(), IDENTITY_BYTES_MAX + 1);
        fs::remove_file(directory.path().join(FILE)).unwrap();
        std::os::unix::fs::symlink("/etc/hostname", directory.path().join(FILE)).unwrap();
        assert!(store.read().is_err(), "a link is not followed");
    }
}
