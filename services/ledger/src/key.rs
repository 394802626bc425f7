//! The Ed25519 key that signs blocks.
//!
//! Its 32-byte seed comes from `attest` ([`crate::attest`](mod@crate::attest)), is drawn here for one boot, or, for
//! tests and benchmarks, is kept in a file. It never leaves this module: no `Clone`, no `Debug` of
//! it, wiped when dropped. Signing is done by [`crate::writer`] on its own thread.

use std::{
    fmt, fs,
    io::{self, Read, Write},
    os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use ed25519_dalek::{Signer, SigningKey};
use hookprobe_wire::{
    NodeId,
    block::{Header, Signature},
};
use rustix::rand::{GetRandomFlags, getrandom};
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes of a seed.
const SEED_BYTES: usize = 32;

/// Why there is no signing key.
#[derive(Debug, Error)]
pub enum KeyError {
    /// The file system refused.
    #[error("HP-LD-030 key {}: {doing}: {source}; check that its directory exists and belongs to the ledger's user", path.display())]
    Io {
        /// Which file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// Why not.
        source: io::Error,
    },
    /// Others can read or replace it.
    #[error("HP-LD-030 key {}: owner {uid}, mode {mode:o}, expected the ledger's own file with mode 600; remove it, the next start makes a new key", path.display())]
    Exposed {
        /// Which file.
        path: PathBuf,
        /// Its owner.
        uid: u32,
        /// Its permissions.
        mode: u32,
    },
    /// Not a seed.
    #[error("HP-LD-030 key {}: {got} bytes, expected {SEED_BYTES}; remove it, the next start makes a new key", path.display())]
    Length {
        /// Which file.
        path: PathBuf,
        /// Its length.
        got: u64,
    },
    /// The kernel gave no random bytes.
    #[error("HP-LD-030 key: no random bytes from the kernel: {0}; restart the box")]
    Random(io::Error),
}

/// The signing key.
pub struct LedgerKey(SigningKey);

impl fmt::Debug for LedgerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LedgerKey({}, redacted)", self.node().short())
    }
}

impl LedgerKey {
    /// From a seed. The caller wipes its own copy.
    #[must_use]
    pub fn from_seed(seed: &[u8; SEED_BYTES]) -> Self {
        Self(SigningKey::from_bytes(seed))
    }

    /// A key that nobody keeps.
    ///
    /// # Errors
    /// [`KeyError::Random`].
    pub fn random() -> Result<Self, KeyError> {
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        fill_random(seed.as_mut()).map_err(KeyError::Random)?;
        Ok(Self::from_seed(&seed))
    }

    /// Reads the seed at `path`, or makes one there.
    ///
    /// # Errors
    /// Any [`KeyError`].
    pub fn load_or_create(path: &Path) -> Result<Self, KeyError> {
        match Self::load(path) {
            Err(KeyError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                Self::create(path)
            }
            other => other,
        }
    }

    fn load(path: &Path) -> Result<Self, KeyError> {
        let io = |doing| move |source| KeyError::Io { path: path.into(), doing, source };
        let mut file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(nix::libc::O_NOFOLLOW | nix::libc::O_NONBLOCK)
            .open(path)
            .map_err(io("open"))?;
        let meta = file.metadata().map_err(io("stat"))?;
        let mode = meta.permissions().mode() & 0o7777;
        let own = meta.uid() == rustix::process::geteuid().as_raw();
        if !meta.is_file() || mode & 0o077 != 0 || !own {
            return Err(KeyError::Exposed { path: path.into(), uid: meta.uid(), mode });
        }
        if meta.len() != SEED_BYTES as u64 {
            return Err(KeyError::Length { path: path.into(), got: meta.len() });
        }
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        file.read_exact(seed.as_mut()).map_err(io("read"))?;
        Ok(Self::from_seed(&seed))
    }

    /// Writes a new seed under another name first, so that a crash never leaves half of one.
    fn create(path: &Path) -> Result<Self, KeyError> {
        let io = |doing| move |source| KeyError::Io { path: path.into(), doing, source };
        let mut seed = Zeroizing::new([0; SEED_BYTES]);
        fill_random(seed.as_mut()).map_err(KeyError::Random)?;
        let fresh = path.with_extension("new");
        match fs::remove_file(&fresh) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(io("remove an unfinished one beside it")(error));
            }
            Ok(()) | Err(_) => {}
        }
        let mut file = fs::OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&fresh)
            .map_err(io("create"))?;
        file.write_all(seed.as_ref()).map_err(io("write"))?;
        file.sync_all().map_err(io("sync"))?;
        fs::rename(&fresh, path).map_err(io("rename"))?;
        Ok(Self::from_seed(&seed))
    }

    /// The public key, which names the node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        NodeId::new(self.0.verifying_key().to_bytes())
    }

    /// Signs a header.
    #[must_use]
    pub fn sign(&self, header: &Header) -> Signature {
        Signature {
            signer: self.node(),
            bytes: self.0.sign(&header.signing_bytes()).to_bytes().into(),
        }
    }
}

/// Fills `out` from the kernel.
///
/// # Errors
/// What the kernel said.
pub fn fill_random(out: &mut [u8]) -> io::Result<()> {
    let mut filled = 0;
    while let Some(rest) = out.get_mut(filled..)
        && !rest.is_empty()
    {
        filled += getrandom(rest, GetRandomFlags::empty())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn made_once_then_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.seed");
        let first = LedgerKey::load_or_create(&path).unwrap();
        let second = LedgerKey::load_or_create(&path).unwrap();
        assert_eq!(first.node(), second.node());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn debug_shows_nothing_of_the_seed() {
        let key = LedgerKey::from_seed(&[0xab; 32]);
        let text = format!("{key:?}");
        assert!(text.contains("redacted") && !text.contains("abab"), "{text}");
    }

    #[test]
    fn exposed_or_short_is_refused_with_its_remedy() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ledger.seed");
        LedgerKey::load_or_create(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = LedgerKey::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("HP-LD-030") && error.contains("640"), "{error}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, [1, 2, 3]).unwrap();
        let error = LedgerKey::load_or_create(&path).unwrap_err().to_string();
        assert!(error.contains("3 bytes"), "{error}");
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/dev/zero", &path).unwrap();
        LedgerKey::load_or_create(&path).unwrap_err();
    }
}
