//! What the TPM's thread asks of the kernel besides the TPM, as one trait so that tests decide it.

use std::{
    fs,
    io::{self, ErrorKind},
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use hookprobe_evidence::{log::LOG_BYTES_MAX, tcg::TCG_BYTES_MAX};
use hookprobe_wire::unlock::RECOVERY_BYTES_MAX;
use zeroize::Zeroizing;

use crate::anchors::read_bounded;

/// Firmware's log, as the kernel shows it.
pub const FIRMWARE_LOG: &str = "/run/log/hookprobe/firmware.log";
/// PID 1's log.
pub const USERSPACE_LOG: &str = "/run/log/hookprobe/measure.log";
/// First pause before a quote is made again because the log did not explain it, four times longer
/// each time: PID 1 writes an event within a millisecond of the extend, on a loaded box within a
/// tenth of a second.
const PAUSE: Duration = Duration::from_millis(20);

/// Both logs as they are in this moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RawLogs {
    /// TCG binary log; empty where the kernel shows none.
    pub firmware: Vec<u8>,
    /// JSON-SEQ; empty without one.
    pub userspace: Vec<u8>,
}

/// The kernel and its files.
pub trait Host {
    /// Reads both logs; a missing one is empty.
    ///
    /// # Errors
    /// What the kernel says of one that is there and can't be read.
    fn logs(&mut self) -> io::Result<RawLogs>;

    /// Fills `bytes` from the kernel's generator.
    ///
    /// # Errors
    /// What the kernel says.
    fn random(&mut self, bytes: &mut [u8]) -> io::Result<()>;

    /// Seconds since 1970.
    fn seconds(&self) -> u64;

    /// Microseconds of a clock that never steps.
    fn micros(&self) -> u64;

    /// Waits for PID 1 to write its log, longer after each of `again` times.
    fn pause(&mut self, again: u32);

    /// The recovery key that the unlock helper left.
    fn fresh_recovery(&mut self) -> Option<Zeroizing<String>>;

    /// It is in the identity file: remove it.
    fn remove_fresh_recovery(&mut self);
}

/// A running box.
#[derive(Debug)]
pub struct Files {
    /// Firmware's log.
    pub firmware: PathBuf,
    /// PID 1's log.
    pub userspace: PathBuf,
    /// Where the unlock helper leaves a fresh recovery key.
    pub recovery: PathBuf,
    /// When this process started.
    pub started: Instant,
}

impl Host for Files {
    fn logs(&mut self) -> io::Result<RawLogs> {
        let optional = |path, limit| match read_bounded(path, limit) {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            other => other,
        };
        // PID 1's last: a record more than the quote is found out, one less is, too, but later.
        let firmware = optional(&self.firmware, TCG_BYTES_MAX).unwrap_or_default();
        Ok(RawLogs { firmware, userspace: optional(&self.userspace, LOG_BYTES_MAX)? })
    }

    fn random(&mut self, bytes: &mut [u8]) -> io::Result<()> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let flags = rustix::rand::GetRandomFlags::empty();
            let filled = rustix::rand::getrandom(&mut *rest, flags)?;
            rest = rest.get_mut(filled..).unwrap_or_default();
        }
        Ok(())
    }

    fn seconds(&self) -> u64 {
        SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs()
    }

    fn micros(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn pause(&mut self, again: u32) {
        std::thread::sleep(PAUSE.saturating_mul(4u32.saturating_pow(again)));
    }

    fn fresh_recovery(&mut self) -> Option<Zeroizing<String>> {
        let bytes = Zeroizing::new(read_bounded(&self.recovery, RECOVERY_BYTES_MAX).ok()?);
        let text = std::str::from_utf8(&bytes).ok()?.trim();
        let plain = text.bytes().all(|byte| byte.is_ascii_graphic() || byte == b' ');
        (plain && !text.is_empty()).then(|| Zeroizing::new(text.to_owned()))
    }

    fn remove_fresh_recovery(&mut self) {
        // Gone already, or in memory until the box stops.
        let _ = fs::remove_file(&self.recovery);
    }
}
