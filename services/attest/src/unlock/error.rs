//! Why a step did not work. The decision's own reasons (HP-AT-101 to 113) are in `decide`.

use libcryptsetup_rs::LibcryptErr;
use thiserror::Error;

/// Why a step of opening or making the volume did not work.
#[derive(Debug, Error)]
pub(super) enum UnlockError {
    /// The partition can't be read or written.
    #[error(
        "HP-AT-120 state volume: can't {what} the partition ({source}); check that the disk is there, \
         replace it if this comes back"
    )]
    Partition {
        /// What was tried.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A file between PID 1 and this helper.
    #[error(
        "HP-AT-121 unlock: can't {what} {path} ({source}); restart the box, re-flash if it comes back"
    )]
    File {
        /// What was tried.
        what: &'static str,
        /// Which.
        path: String,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// libcryptsetup refused.
    #[error(
        "HP-AT-122 state volume: {step} failed ({cause}); see the lines above, restart the box"
    )]
    Luks {
        /// Which step.
        step: &'static str,
        /// What it said.
        cause: String,
    },
    /// The mapping was not made.
    #[error(
        "HP-AT-123 state volume: the kernel did not map it ({0}); does it have dm_mod, dm_crypt and \
         xts? restart the box"
    )]
    Map(String),
    /// No file system.
    #[error("HP-AT-124 state volume: mke2fs {0}; check the disk, restart the box")]
    FileSystem(String),
    /// No random bytes.
    #[error("HP-AT-125 unlock: no random bytes ({0}); restart the box")]
    Random(std::io::Error),
    /// The passphrase was not sealed.
    #[error("HP-AT-126 state volume: the passphrase was not sealed ({0}); restart the box")]
    Seal(String),
    /// A step was cut off by a test.
    #[cfg(test)]
    #[error("cut off")]
    Cut,
}

impl UnlockError {
    pub(super) fn luks(step: &'static str) -> impl FnOnce(LibcryptErr) -> Self {
        move |error| Self::Luks { step, cause: cause(&error) }
    }

    pub(super) fn partition(what: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Partition { what, source }
    }
}

/// What libcryptsetup said, without the binding's words around it.
pub(super) fn cause(error: &LibcryptErr) -> String {
    match error {
        LibcryptErr::IOError(error) => error.to_string(),
        other => other.to_string(),
    }
}
