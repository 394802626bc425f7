//! Why nothing could be verified, and with which exit code that ends.

use std::path::PathBuf;

use hookprobe_wire::qr::JoinError;
use thiserror::Error;

use crate::{disk::DiskError, input, report::Exit};

/// Why nothing could be verified. What *was* verified and is not good is a finding, no error.
#[derive(Debug, Error)]
pub enum VerifyError {
    /// The file can't be read.
    #[error("HP-VF-001 {path}: {why}; check the name and the permissions", path = path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// Too long.
    #[error("HP-VF-002 {path}: {got} bytes or more, at most {max} are read; is it the right file?", path = path.display())]
    TooLong {
        /// Which.
        path: PathBuf,
        /// How long.
        got: u64,
        /// How long it may be.
        max: u64,
    },
    /// Nobody said whose releases are trusted.
    #[error(
        "HP-VF-003 no release key: none is built in; give --release-key PEM, set {}, or put {} beside the program",
        input::KEY_VARIABLE,
        input::KEY_FILE
    )]
    NoReleaseKey,
    /// The key file is no key.
    #[error("HP-VF-004 {path}: {why}", path = path.display())]
    Key {
        /// Which.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// One of several files has no lines of QR codes.
    #[error("HP-VF-005 {path}: several files are given and this one has no line HPQ1:..; give one binary file or all lines", path = path.display())]
    NotLines {
        /// Which.
        path: PathBuf,
    },
    /// The kernel has no randomness.
    #[error("HP-VF-029 nonce: no random bytes ({0}); draw 16 hexadecimal digits elsewhere")]
    Random(String),
    /// Lines of QR codes.
    #[error(transparent)]
    Qr(JoinError),
    /// A file that is not what it should be; the text has its own code.
    #[error("{path}: {why}", path = path.display())]
    Format {
        /// Which.
        path: PathBuf,
        /// Why, with code and remedy.
        why: String,
    },
    /// The image.
    #[error(transparent)]
    Disk(#[from] DiskError),
    /// The arguments contradict each other or ask for what does not exist.
    #[error("HP-VF-006 {0}")]
    Usage(String),
}

impl VerifyError {
    /// Exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            Self::NoReleaseKey | Self::Key { .. } | Self::Usage(_) => Exit::Usage,
            Self::Read { .. }
            | Self::Random(_)
            | Self::TooLong { .. }
            | Self::NotLines { .. }
            | Self::Qr(_)
            | Self::Format { .. }
            | Self::Disk(_) => Exit::Unreadable,
        }
    }
}
