//! What opening a volume needs of the machine: random bytes, device-mapper, mke2fs. Tests answer
//! from memory.

use std::{
    fs::File,
    io::Read as _,
    path::{Path, PathBuf},
    process::{Child, Stdio},
    thread,
    time::{Duration, Instant},
};

use hookprobe_wire::unlock::MAPPED;

use super::{
    error::UnlockError,
    native,
    volume::{Volume, VolumeKey},
};

const MKE2FS: &str = "/usr/sbin/mke2fs";
/// Seconds for a disk of some TB: tables are initialised later, by the kernel. PID 1 waits 90 s for
/// this helper; what is stuck must be said before that.
const MKE2FS_TIMEOUT: Duration = Duration::from_secs(60);
/// How often it is looked at; nobody notices 50 ms in a first boot.
const POLL: Duration = Duration::from_millis(50);
/// Most of what mke2fs said that is repeated.
const SAID_BYTES_MAX: u64 = 512;

/// See the module.
pub(super) trait Machine {
    /// Fills `out` from the kernel's generator.
    ///
    /// # Errors
    /// [`UnlockError::Random`].
    fn random(&mut self, out: &mut [u8]) -> Result<(), UnlockError>;

    /// Maps the volume; where it is then.
    ///
    /// # Errors
    /// [`UnlockError::Map`].
    fn map(&mut self, volume: &mut Volume, key: &VolumeKey) -> Result<PathBuf, UnlockError>;

    /// Takes the mapping back after a failure.
    fn unmap(&mut self, volume: &mut Volume);

    /// Makes an ext4 file system on all of `device`.
    ///
    /// # Errors
    /// [`UnlockError::FileSystem`].
    fn make_file_system(&mut self, device: &Path) -> Result<(), UnlockError>;
}

/// This machine.
#[derive(Debug, Default)]
pub(super) struct Real;

impl Machine for Real {
    fn random(&mut self, out: &mut [u8]) -> Result<(), UnlockError> {
        let mut filled = 0;
        while let Some(rest) = out.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            match rustix::rand::getrandom(rest, rustix::rand::GetRandomFlags::empty()) {
                Ok(bytes) => filled += bytes,
                Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(UnlockError::Random(errno.into())),
            }
        }
        Ok(())
    }

    fn map(&mut self, volume: &mut Volume, key: &VolumeKey) -> Result<PathBuf, UnlockError> {
        volume.activate(MAPPED, key)?;
        let path = Path::new("/dev/mapper").join(MAPPED);
        match path.metadata() {
            Ok(_) => Ok(path),
            Err(error) => Err(UnlockError::Map(format!("{}: {error}", path.display()))),
        }
    }

    fn unmap(&mut self, volume: &mut Volume) {
        if let Err(error) = volume.deactivate(MAPPED) {
            tracing::warn!("{error}");
        }
    }

    fn make_file_system(&mut self, device: &Path) -> Result<(), UnlockError> {
        make_ext4(device)
    }
}

/// Runs mke2fs by its descriptor.
pub(super) fn make_ext4(device: &Path) -> Result<(), UnlockError> {
    let failed = |what: &str, error: std::io::Error| {
        UnlockError::FileSystem(format!("can't be {what}: {error}"))
    };
    let device = device.to_string_lossy();
    // All that decides about the result is here: the image has no mke2fs.conf. One percent for root:
    // the default's five would be gigabytes that no service may use.
    let arguments = [
        "mke2fs",
        "-q",
        "-F",
        "-t",
        "ext4",
        "-b",
        "4096",
        "-m",
        "1",
        "-L",
        "hookprobe-state",
        "-E",
        "lazy_itable_init=1,nodiscard",
        &device,
    ];
    let program = File::open(MKE2FS).map_err(|error| failed("opened", error))?;
    let mut child = native::command_of(program, &arguments)
        .and_then(|mut command| {
            command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()
        })
        .map_err(|error| failed("run", error))?;
    let started = Instant::now();
    let status = loop {
        match child.try_wait() {
            Ok(Some(status)) => break status,
            Ok(None) if started.elapsed() < MKE2FS_TIMEOUT => thread::sleep(POLL),
            Ok(None) => {
                let _ = child.kill();
                let _ = child.wait();
                return Err(UnlockError::FileSystem(format!(
                    "did not end within {} s",
                    MKE2FS_TIMEOUT.as_secs()
                )));
            }
            Err(error) => return Err(failed("waited for", error)),
        }
    };
    if status.success() {
        return Ok(());
    }
    Err(UnlockError::FileSystem(format!("ended with {status}: {}", said(&mut child))))
}

fn said(child: &mut Child) -> String {
    let mut text = Vec::new();
    if let Some(pipe) = child.stderr.take() {
        let _ = pipe.take(SAID_BYTES_MAX).read_to_end(&mut text);
    }
    String::from_utf8_lossy(&text).trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::unlock::header::{HEAD_BYTES, Head, classify};

    #[test]
    fn a_file_system_is_made() {
        if !Path::new(MKE2FS).exists() {
            println!("skipped: no {MKE2FS}");
            return;
        }
        let file = tempfile::NamedTempFile::new().unwrap();
        file.as_file().set_len(64 << 20).unwrap();
        make_ext4(file.path()).unwrap();
        let mut head = vec![0; HEAD_BYTES];
        file.as_file().take(1 << 22).read_exact(&mut head).unwrap();
        assert_eq!(classify(&head), Head::Ext4);
        let error = make_ext4(Path::new("/nowhere/x")).unwrap_err().to_string();
        assert!(error.starts_with("HP-AT-124") && error.contains("/nowhere/x"), "{error}");
    }

    #[test]
    fn random_bytes_are_all_filled() {
        let mut out = [0u8; 600];
        Real.random(&mut out).unwrap();
        assert!(out.chunks(32).all(|chunk| chunk.iter().any(|byte| *byte != 0)));
    }
}
