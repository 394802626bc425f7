//! What can go wrong while building or running, each with the next step.

use std::{io, path::PathBuf};

use thiserror::Error;

/// Result of every fallible function here.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a command of `cargo xtask` failed.
#[derive(Debug, Error)]
pub enum Error {
    /// A file can't be read or written.
    #[error("HP-XT-001 {path}: {source}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A program can't be started.
    #[error("HP-XT-002 {program}: {source}; `cargo xtask doctor` names the package")]
    Spawn {
        /// Which program.
        program: String,
        /// What the system said.
        source: io::Error,
    },
    /// A program failed.
    #[error("HP-XT-003 {command}: {status}\n{tail}")]
    Command {
        /// The command line.
        command: String,
        /// How it ended.
        status: String,
        /// End of what it printed.
        tail: String,
    },
    /// Something has to be installed first.
    #[error("HP-XT-004 missing: {list}; run without --no-install, or: apt-get install {list}")]
    Missing {
        /// Packages.
        list: String,
    },
    /// The guest did not do what was waited for.
    #[error(
        "HP-XT-005 guest: waited {seconds} s for {what}; last phase seen: {phase}\n--- end of the log\n{tail}"
    )]
    Guest {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
        /// Last boot phase that was logged.
        phase: String,
        /// End of the log and of the serial line.
        tail: String,
    },
    /// The image can't be composed.
    #[error("HP-XT-006 image: {0}")]
    Compose(String),
    /// The services list, the manifest or the UKI is wrong.
    #[error("HP-XT-007 measurement: {0}")]
    Measure(String),
    /// The box's `attest` said nothing, or stopped in the middle.
    #[error(
        "HP-XT-018 attest did not answer on its port within {seconds} s ({bytes} bytes came); see its log"
    )]
    Silent {
        /// How long was waited.
        seconds: u64,
        /// What came of an answer.
        bytes: usize,
    },
    /// A drill or a benchmark did not show what it has to show.
    #[error("HP-XT-008 {0}")]
    Check(String),
}

/// Adds the path to an I/O error.
pub fn at(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Error {
    let path = path.into();
    move |source| Error::Io { path, source }
}
