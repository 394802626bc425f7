//! Mounts of the box as data, and the two operations on them.
//!
//! Everything that can be is nosuid, nodev and noexec: only the read-only root holds programs.

use std::{
    ffi::CString,
    fs,
    os::{
        fd::OwnedFd,
        unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    },
    path::Path,
};

use rustix::{
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MountFlags, fsconfig_create, fsconfig_set_flag,
        fsconfig_set_string, fsmount, fsopen, mount, unmount,
    },
};
use thiserror::Error;

const NOTHING: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// One mount.
#[derive(Debug, Clone, Copy)]
pub struct Mount {
    /// Type of file system.
    pub kind: &'static str,
    /// Where.
    pub target: &'static str,
    /// Flags.
    pub flags: MountFlags,
    /// Options.
    pub options: &'static str,
}

/// What stage 1 needs to see devices and modules.
pub const EARLY: [Mount; 4] = [
    Mount { kind: "proc", target: "/proc", flags: NOTHING, options: "" },
    Mount { kind: "sysfs", target: "/sys", flags: NOTHING, options: "" },
    Mount {
        kind: "devtmpfs",
        target: "/dev",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: "mode=0755",
    },
    // Made here because stage 1 leaves what the boot blob brought in it.
    Mount { kind: "tmpfs", target: "/run", flags: NOTHING, options: "mode=0755,size=32m" },
];

/// What PID 1 adds.
pub const BASE: [Mount; 6] = [
    Mount { kind: "tmpfs", target: "/tmp", flags: NOTHING, options: "mode=1777,size=16m" },
    Mount {
        kind: "devpts",
        target: "/dev/pts",
        flags: MountFlags::NOSUID.union(MountFlags::NOEXEC),
        options: "mode=0620,ptmxmode=0000",
    },
    Mount { kind: "cgroup2", target: "/sys/fs/cgroup", flags: NOTHING, options: "" },
    Mount { kind: "bpf", target: "/sys/fs/bpf", flags: NOTHING, options: "mode=0755" },
    Mount { kind: "securityfs", target: "/sys/kernel/security", flags: NOTHING, options: "" },
    Mount { kind: "tmpfs", target: "/dev/shm", flags: NOTHING, options: "mode=1777,size=4m" },
];

/// Why a mount was not made.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum MountError {
    /// The kernel refused.
    #[error("mount of {kind} from {source_path} on {target}: {errno}")]
    Refused {
        /// Type of file system.
        kind: String,
        /// From what.
        source_path: String,
        /// Where.
        target: String,
        /// Why.
        errno: Errno,
    },
    /// A path or option has a NUL.
    #[error("mount on {0}: the options have a NUL byte")]
    Nul(String),
}

/// Makes one mount of the tables above; that it is there already is fine.
///
/// # Errors
/// [`MountError`].
pub fn make(entry: &Mount) -> Result<(), MountError> {
    // The directory may be on a read-only root, where the composer made it.
    let _ = fs::create_dir_all(entry.target);
    match from(entry.kind, entry.kind, entry.target, entry.flags, entry.options) {
        Err(MountError::Refused { errno, .. }) if errno == Errno::BUSY => Ok(()),
        other => other,
    }
}

/// Mounts `source`.
///
/// # Errors
/// [`MountError`].
pub fn from(
    source: &str,
    kind: &str,
    target: &str,
    flags: MountFlags,
    options: &str,
) -> Result<(), MountError> {
    let data = CString::new(options).map_err(|_| MountError::Nul(target.into()))?;
    mount(source, target, kind, flags, data.as_c_str()).map_err(|errno| MountError::Refused {
        kind: kind.into(),
        source_path: source.into(),
        target: target.into(),
        errno,
    })
}

/// Mounts `source` read only, as data, and nowhere: it is seen through the descriptor alone, by who has
/// that, and is unmounted with it.
///
/// # Errors
/// [`MountError`].
pub fn detached(source: &str, kind: &str) -> Result<OwnedFd, MountError> {
    let open = || {
        let context = fsopen(kind, FsOpenFlags::FSOPEN_CLOEXEC)?;
        fsconfig_set_string(&context, "source", source)?;
        fsconfig_set_flag(&context, "ro")?;
        fsconfig_create(&context)?;
        let flags = MountAttrFlags::MOUNT_ATTR_RDONLY
            | MountAttrFlags::MOUNT_ATTR_NOSUID
            | MountAttrFlags::MOUNT_ATTR_NODEV
            | MountAttrFlags::MOUNT_ATTR_NOEXEC;
        fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, flags)
    };
    open().map_err(|errno| MountError::Refused {
        kind: kind.into(),
        source_path: source.into(),
        target: "nowhere".into(),
        errno,
    })
}

/// Unmounts.
///
/// # Errors
/// The kernel's.
pub fn remove(target: &str) -> Result<(), Errno> {
    unmount(target, rustix::mount::UnmountFlags::NOFOLLOW)
}

/// A directory with mode and owner, made when it is missing. Parents get mode 0755.
///
/// # Errors
/// The kernel's.
pub fn directory(path: &str, mode: u32, uid: u32, gid: u32) -> Result<(), std::io::Error> {
    if let Some(parent) = Path::new(path).parent() {
        fs::DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
    }
    match fs::DirBuilder::new().mode(mode).create(path) {
        Err(error) if error.kind() != std::io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    // Never through a link that a service could have left.
    if !fs::symlink_metadata(path)?.is_dir() {
        return Err(std::io::Error::from(std::io::ErrorKind::NotADirectory));
    }
    std::os::unix::fs::lchown(path, Some(uid), Some(gid))?;
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_device_file_systems_have_devices_and_nothing_is_executable() {
        for entry in EARLY.iter().chain(&BASE) {
            assert!(entry.flags.contains(MountFlags::NOSUID), "{}", entry.target);
            assert!(entry.flags.contains(MountFlags::NOEXEC), "{}", entry.target);
            let devices = matches!(entry.kind, "devtmpfs" | "devpts");
            assert_eq!(!entry.flags.contains(MountFlags::NODEV), devices, "{}", entry.target);
        }
    }

    #[test]
    fn a_link_in_place_of_a_directory_is_refused() {
        let temporary = tempfile::tempdir().unwrap();
        let link = temporary.path().join("link");
        std::os::unix::fs::symlink("/etc", &link).unwrap();
        assert!(directory(link.to_str().unwrap(), 0o700, 0, 0).is_err());
    }
}
