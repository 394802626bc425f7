//! What the TPM's thread asks of the kernel besides the TPM, as one trait so that tests decide it.

use std::{
    fs::{self, OpenOptions},
    io::{self, ErrorKind, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    time::{Duration, Instant, SystemTime},
};

use hookprobe_evidence::{log::LOG_BYTES_MAX, tcg::TCG_BYTES_MAX};
use hookprobe_tpm::trust::Secret;
use hookprobe_wire::{attest::SEED_BYTES, unlock::RECOVERY_BYTES_MAX};
use zeroize::Zeroizing;

use crate::anchors::read_bounded;

/// Firmware's log, as the kernel shows it.
pub const FIRMWARE_LOG: &str = "/run/log/hookprobe/firmware.log";
/// PID 1's log.
pub const USERSPACE_LOG: &str = "/run/log/hookprobe/measure.log";
/// The seed of a boot without one from the TPM; only attest's user can look into this directory.
pub const BOOT_SEED: &str = "/run/hookprobe/unlock/boot-seed";
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

    /// The seed that was drawn earlier in this boot.
    fn kept_seed(&mut self) -> Option<Secret>;

    /// Keeps it until the box is switched off.
    ///
    /// # Errors
    /// What the kernel says.
    fn keep_seed(&mut self, seed: &Secret) -> io::Result<()>;
}

/// The seed of this boot: the one that was drawn earlier in it, else a fresh one, kept.
///
/// # Errors
/// The kernel gave no random bytes.
pub fn boot_seed(host: &mut dyn Host) -> io::Result<Secret> {
    if let Some(kept) = host.kept_seed() {
        return Ok(kept);
    }
    let mut drawn = Zeroizing::new([0; SEED_BYTES]);
    host.random(drawn.as_mut_slice())?;
    let seed = Secret::new(*drawn);
    if let Err(error) = host.keep_seed(&seed) {
        let text = "boot seed not kept, the ledger's key changes if attest starts again";
        tracing::warn!(%error, "{text}");
    }
    Ok(seed)
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
    /// Where the seed of a boot without one from the TPM is kept: in memory, 0600.
    pub seed: PathBuf,
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

    fn kept_seed(&mut self) -> Option<Secret> {
        let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
        let file = OpenOptions::new().read(true).custom_flags(flags).open(&self.seed).ok()?;
        let mut bytes = Zeroizing::new(Vec::with_capacity(2 * SEED_BYTES));
        file.take(SEED_BYTES as u64 + 1).read_to_end(&mut bytes).ok()?;
        let seed: [u8; SEED_BYTES] = bytes.as_slice().try_into().ok()?;
        Some(Secret::new(seed))
    }

    fn keep_seed(&mut self, seed: &Secret) -> io::Result<()> {
        // What is there is no seed, or it would be in use.
        match fs::remove_file(&self.seed) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            Ok(()) | Err(_) => {}
        }
        let mut file =
            OpenOptions::new().write(true).create_new(true).mode(0o600).open(&self.seed)?;
        file.write_all(seed.expose())
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn files(seed: PathBuf) -> Files {
        let nowhere = PathBuf::from("/nonexistent");
        let (firmware, userspace, recovery) = (nowhere.clone(), nowhere.clone(), nowhere);
        Files { firmware, userspace, recovery, seed, started: Instant::now() }
    }

    #[test]
    fn a_boot_has_one_seed_for_nobody_else() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("seed");
        let first = boot_seed(&mut files(path.clone())).unwrap();
        let again = boot_seed(&mut files(path.clone())).unwrap();
        assert_eq!(again.expose(), first.expose());
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        // Half a seed is none, neither is what a link points at.
        fs::write(&path, [1; SEED_BYTES - 1]).unwrap();
        assert_ne!(boot_seed(&mut files(path.clone())).unwrap().expose(), first.expose());
        let other = directory.path().join("other");
        fs::rename(&path, &other).unwrap();
        std::os::unix::fs::symlink(&other, &path).unwrap();
        let kept = fs::read(&other).unwrap();
        assert_ne!(boot_seed(&mut files(path)).unwrap().expose().to_vec(), kept);
        assert_eq!(fs::read(&other).unwrap(), kept);
        let nowhere = boot_seed(&mut files("/nonexistent/seed".into())).unwrap();
        assert_ne!(nowhere.expose(), &[0; SEED_BYTES], "used though it can't be kept");
    }
}
