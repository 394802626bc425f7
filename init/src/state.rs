//! What outlives a boot: the site configuration (ESP, read only) and the state partition (`/var`).
//!
//! Partitions are found by their GPT names. The configuration is measured before a byte of it is
//! used. A box whose state can't be mounted goes on with memory and says what will be lost.

use std::{
    fs,
    io::Read as _,
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::OpenOptionsExt as _,
    },
    path::{Path, PathBuf},
};

use hookprobe_wire::site::SITE_BYTES_MAX;
use rustix::mount::MountFlags;
use thiserror::Error;

use crate::mount::{self, MountError};

/// Block devices of the kernel.
pub const BLOCK_CLASS: &str = "/sys/class/block";
/// Name of the boot partition.
pub const ESP_LABEL: &str = "hookprobe-esp";
/// Name of the state partition.
pub const STATE_LABEL: &str = "hookprobe-state";
/// Where the state is.
pub const STATE: &str = "/var";
const SITE_NAME: &str = "hookprobe.toml";
/// Most block devices that are looked at.
const BLOCKS_MAX: usize = 256;

const DATA: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Devices (`/dev/...`) of the partitions named `label`, in the kernel's order.
#[must_use]
pub fn partitions(class: &Path, label: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(class) else {
        return Vec::new();
    };
    let wanted = format!("PARTNAME={label}");
    let mut found: Vec<PathBuf> = entries
        .flatten()
        .take(BLOCKS_MAX)
        .filter_map(|entry| {
            let text = fs::read_to_string(entry.path().join("uevent")).ok()?;
            let name = text.lines().find_map(|line| line.strip_prefix("DEVNAME="))?;
            let plain = !name.contains("..") && !name.starts_with('/');
            (plain && text.lines().any(|line| line == wanted)).then(|| Path::new("/dev").join(name))
        })
        .collect();
    found.sort();
    found
}

/// Why the site configuration could not be read.
#[derive(Debug, Error)]
pub enum SiteReadError {
    /// No boot partition.
    #[error(
        "HP-CF-010 hookprobe.toml: no partition is named {ESP_LABEL}, defaults apply; \
         boot from a HookProbe disk to configure the box"
    )]
    NoPartition,
    /// The boot partition can't be mounted.
    #[error("HP-CF-011 hookprobe.toml: {0}, defaults apply; check the boot partition")]
    Mount(MountError),
    /// The file can't be read.
    #[error("HP-CF-012 hookprobe.toml: {0}, defaults apply; copy the file again")]
    Read(std::io::Error),
}

impl SiteReadError {
    /// What is wrong, without what follows from it at the start.
    #[must_use]
    pub fn why(&self) -> String {
        match self {
            Self::NoPartition => format!("no partition is named {ESP_LABEL}"),
            Self::Mount(error) => error.to_string(),
            Self::Read(error) => error.to_string(),
        }
    }
}

/// Bytes of the site configuration; empty when there is no such file. One byte more than allowed
/// is read at most, so that the parser sees that it is too long. `beside` is called with the
/// partition's root while it is mounted; what it gives is there even if the configuration can't be
/// read, because what is used has to be measured.
///
/// # Errors
/// [`SiteReadError`], the inner one for the configuration alone.
pub fn read_site<T>(
    beside: impl FnOnce(&Path) -> T,
) -> Result<(Result<Vec<u8>, SiteReadError>, T), SiteReadError> {
    let partition = BootPartition::open()?;
    Ok(site_in(&partition.root(), beside))
}

fn site_in<T>(root: &Path, beside: impl FnOnce(&Path) -> T) -> (Result<Vec<u8>, SiteReadError>, T) {
    let bytes = read_bounded(&root.join(SITE_NAME), SITE_BYTES_MAX);
    (bytes.map_err(SiteReadError::Read), beside(root))
}

/// Bytes of a file of the boot partition, at most one more than `most`; empty when it is not there.
///
/// # Errors
/// [`SiteReadError`].
pub fn read_boot_file(name: &str, most: usize) -> Result<Vec<u8>, SiteReadError> {
    let partition = BootPartition::open()?;
    read_bounded(&partition.root().join(name), most).map_err(SiteReadError::Read)
}

/// The boot partition, read only and mounted nowhere: no service's view of the file systems has it, and
/// what is read is read anew each time, because nothing keeps it mounted.
#[derive(Debug)]
pub struct BootPartition(OwnedFd);

impl BootPartition {
    /// Opens it.
    ///
    /// # Errors
    /// [`SiteReadError`].
    pub fn open() -> Result<Self, SiteReadError> {
        let devices = partitions(Path::new(BLOCK_CLASS), ESP_LABEL);
        let device = devices.first().ok_or(SiteReadError::NoPartition)?;
        let opened = mount::detached(&device.display().to_string(), "vfat");
        Ok(Self(opened.map_err(SiteReadError::Mount)?))
    }

    /// Its root, as a path of this process.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        PathBuf::from(format!("/proc/self/fd/{}", self.0.as_raw_fd()))
    }
}

/// A file's bytes, at most one more than `most`; empty when it is not there; never through a link.
///
/// # Errors
/// What the system says.
pub fn read_bounded(path: &Path, most: usize) -> Result<Vec<u8>, std::io::Error> {
    let opened = fs::OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    let mut bytes = Vec::new();
    file.take(most as u64 + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// Why the state partition is not used.
#[derive(Debug, Error)]
pub enum StateError {
    /// None there.
    #[error(
        "HP-ST-001 state: no partition is named {STATE_LABEL}; ledger and settings are in memory \
         and lost at the next restart; boot from a HookProbe disk"
    )]
    NoPartition,
    /// It can't be mounted.
    #[error(
        "HP-ST-002 state: {0}; ledger and settings are in memory and lost at the next restart; \
         check the disk, then re-create the state partition"
    )]
    Mount(MountError),
    /// It is read only or full.
    #[error(
        "HP-ST-003 state: can't be written: {0}; ledger and settings are in memory and lost at \
         the next restart; replace the disk"
    )]
    NotWritable(std::io::Error),
}

/// What is mounted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    /// The partition, without encryption.
    Partition,
    /// The volume that was opened on it.
    Volume,
}

/// Mounts the state on `/var`. More than one with the name: the first is taken, and the
/// others are returned so that the operator is told.
///
/// # Errors
/// [`StateError`]; nothing is mounted then.
pub fn mount_state(source: Source) -> Result<Vec<PathBuf>, StateError> {
    let mut devices = partitions(Path::new(BLOCK_CLASS), STATE_LABEL);
    if devices.is_empty() {
        return Err(StateError::NoPartition);
    }
    let partition = devices.remove(0);
    let device = match source {
        Source::Partition => partition,
        Source::Volume => Path::new("/dev/mapper").join(hookprobe_wire::unlock::MAPPED),
    };
    mount::from(
        &device.display().to_string(),
        "ext4",
        STATE,
        DATA | MountFlags::NOATIME,
        "errors=remount-ro",
    )
    .map_err(StateError::Mount)?;
    if let Err(error) = probe(Path::new(STATE)) {
        let _ = mount::remove(STATE);
        return Err(StateError::NotWritable(error));
    }
    Ok(devices)
}

/// Memory in place of the state.
///
/// # Errors
/// [`MountError`].
pub fn mount_memory() -> Result<(), MountError> {
    mount::from("tmpfs", "tmpfs", STATE, DATA, "mode=0755,size=64m")
}

/// Writes and removes a file, so that a disk that only pretends is found out now.
fn probe(root: &Path) -> Result<(), std::io::Error> {
    let path = root.join(".hookprobe-probe");
    let _ = fs::remove_file(&path);
    fs::write(&path, b"probe\n")?;
    fs::remove_file(&path)
}

/// Whether the kernel made `/var` read only since, because of errors of the disk.
#[must_use]
pub fn became_read_only() -> bool {
    rustix::fs::statvfs(STATE)
        .is_ok_and(|data| data.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(entries: &[(&str, &str)]) -> tempfile::TempDir {
        let class = tempfile::tempdir().unwrap();
        for (name, uevent) in entries {
            fs::create_dir(class.path().join(name)).unwrap();
            fs::write(class.path().join(name).join("uevent"), uevent).unwrap();
        }
        class
    }

    #[test]
    fn partitions_are_found_by_name_only() {
        let class = class(&[
            ("vda", "MAJOR=254\nDEVNAME=vda\nDEVTYPE=disk\n"),
            ("vda2", "DEVNAME=vda2\nPARTNAME=hookprobe-state\n"),
            ("sdb1", "DEVNAME=sdb1\nPARTNAME=hookprobe-state\n"),
            ("vda1", "DEVNAME=vda1\nPARTNAME=hookprobe-state-old\n"),
            ("evil", "DEVNAME=../etc/x\nPARTNAME=hookprobe-state\n"),
        ]);
        assert_eq!(
            partitions(class.path(), STATE_LABEL),
            [Path::new("/dev/sdb1"), Path::new("/dev/vda2")]
        );
    }

    #[test]
    fn files_beside_a_configuration_that_can_not_be_read_are_known() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join(SITE_NAME)).unwrap();
        let (bytes, beside) = site_in(root.path(), |root| root.to_path_buf());
        assert!(matches!(bytes, Err(SiteReadError::Read(_))), "{bytes:?}");
        assert_eq!(beside, root.path());
    }

    #[test]
    fn a_site_file_is_bounded_and_never_a_link() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join(SITE_NAME);
        assert!(read_bounded(&path, SITE_BYTES_MAX).unwrap().is_empty());
        fs::write(&path, vec![b'#'; SITE_BYTES_MAX * 2]).unwrap();
        assert_eq!(read_bounded(&path, SITE_BYTES_MAX).unwrap().len(), SITE_BYTES_MAX + 1);
        fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", &path).unwrap();
        assert!(read_bounded(&path, SITE_BYTES_MAX).is_err());
    }
}
