//! The kernel's TPM device as a [`Transport`].
//!
//! With O_NONBLOCK the driver takes a command, runs it on a work queue and makes the descriptor
//! readable when the response is there, so PID 1 waits in poll with its own bound. Two things to
//! know about the driver: poll and close wait for a lock that it holds while the TPM works (it
//! bounds that by its own table of command durations), and a response that nobody fetched would be
//! read as the next command's. So after a timeout the descriptor is neither used nor closed.

use std::{
    os::fd::{IntoRawFd, OwnedFd},
    path::Path,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    io::Errno,
};

use super::{
    Transport,
    codec::{CommandCode, RESPONSE_BYTES_MAX},
    error::TpmError,
};

/// How long one command may take. The PC Client Profile gives the slowest class of commands 2 s;
/// ours are in the two faster ones. Twice the slowest leaves room for a TPM that does a self-test
/// first, and is far less than the patience of whoever waits for the box to boot.
pub const COMMAND_TIMEOUT_MS: u64 = 4000;

/// `/dev/tpmrm0` or `/dev/tpm0`.
#[derive(Debug)]
pub struct Device {
    /// Always there until drop.
    fd: Option<OwnedFd>,
    timeout: Duration,
    hung: bool,
}

impl Device {
    /// Opens the device; it is not asked anything yet.
    ///
    /// # Errors
    /// [`TpmError::Open`].
    pub fn open(path: &Path) -> Result<Self, TpmError> {
        let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
        let fd = rustix::fs::open(path, flags, Mode::empty())
            .map_err(|errno| TpmError::Open { path: path.display().to_string(), errno })?;
        Ok(Self::new(fd, COMMAND_TIMEOUT_MS))
    }

    pub(super) fn new(fd: OwnedFd, timeout_ms: u64) -> Self {
        Self { fd: Some(fd), timeout: Duration::from_millis(timeout_ms), hung: false }
    }

    fn exchange_once(&self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        let name = CommandCode::name_of(command);
        let io = |what, errno| TpmError::Io { command: name, what, errno };
        let Some(fd) = &self.fd else {
            return Err(TpmError::Hung { command: name });
        };
        let deadline = Instant::now() + self.timeout;
        let written = again(|| rustix::io::write(fd, command)).map_err(|e| io("write", e))?;
        if written != command.len() {
            return Err(io("write", Errno::MSGSIZE));
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            // Seconds of a bound of a few seconds fit.
            let timeout = Timespec {
                tv_sec: left.as_secs().try_into().unwrap_or(0),
                tv_nsec: left.subsec_nanos().into(),
            };
            let mut wanted = [PollFd::new(fd, PollFlags::IN)];
            match poll(&mut wanted, Some(&timeout)) {
                Ok(0) => {
                    return Err(TpmError::Timeout {
                        command: name,
                        ms: u64::try_from(self.timeout.as_millis()).unwrap_or(u64::MAX),
                    });
                }
                Ok(_) => break,
                Err(Errno::INTR) => {}
                Err(errno) => return Err(io("poll", errno)),
            }
        }
        // The driver gives a whole response to one read; one byte more shows that it is too long.
        let mut response = vec![0; RESPONSE_BYTES_MAX + 1];
        let got = again(|| rustix::io::read(fd, &mut response)).map_err(|e| io("read", e))?;
        response.truncate(got);
        Ok(response)
    }
}

/// Again after a signal.
fn again<T>(mut call: impl FnMut() -> Result<T, Errno>) -> Result<T, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            result => return result,
        }
    }
}

impl Transport for Device {
    fn exchange(&mut self, command: &[u8]) -> Result<Vec<u8>, TpmError> {
        if self.hung {
            return Err(TpmError::Hung { command: CommandCode::name_of(command) });
        }
        let result = self.exchange_once(command);
        // Whatever failed, the command may still be on its way: this side is out of step.
        self.hung = result.is_err();
        result
    }
}

impl Drop for Device {
    fn drop(&mut self) {
        // Closing would wait for the command that hangs. PID 1 must not; the kernel keeps one file.
        if let Some(fd) = self.fd.take().filter(|_| self.hung) {
            let _leaked = fd.into_raw_fd();
        }
    }
}
