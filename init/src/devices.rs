//! Device nodes of services: given to the service's user while it runs, taken back when it ends.
//!
//! Must never happen here: a node that stays with a user whose process is gone; a node given that
//! `services.toml` (and with it the measurement) does not name; anything given that is no device,
//! wherever a service could have pointed a link. So what a path means is looked at once, on an open
//! descriptor, and a link counts only when root made it.

use std::{
    fs,
    io::{self, ErrorKind},
    os::{
        fd::{AsRawFd as _, OwnedFd},
        unix::fs::PermissionsExt as _,
    },
    path::Path,
};

use hookprobe_evidence::closure::ServiceSpec;
use rustix::fs::{
    AtFlags, CWD, FileType, Gid, Mode, OFlags, Uid, chownat, fstat, openat, readlinkat,
};

/// Most nodes in a directory that are taken back; what a service made beyond is removed.
const NODES_MAX: usize = 64;

/// Gives the nodes of `spec` to its user. What is not there is left out; returns what could not be
/// given, in words.
#[must_use]
pub fn give(spec: &ServiceSpec) -> Vec<String> {
    hand_over(&spec.devices, spec.uid, spec.gid)
}

/// Takes the nodes of `spec` back, with what it made in the directories among them.
pub fn take_back(spec: &ServiceSpec) {
    for path in spec.devices.iter().filter(|path| Path::new(path).is_dir()) {
        take_back_directory(Path::new(path), &spec.devices);
    }
    // Root opens them whatever the owner; a failure leaves a node with a user without a process.
    let _ = hand_over(&spec.devices, 0, 0);
}

/// Its processes are gone: nobody makes more of them meanwhile.
fn take_back_directory(path: &Path, listed: &[String]) {
    for (number, entry) in fs::read_dir(path).into_iter().flatten().flatten().enumerate() {
        let path = entry.path();
        if listed.iter().any(|listed| Path::new(listed) == path) {
            continue;
        }
        if number >= NODES_MAX {
            let _ = fs::remove_file(&path);
            continue;
        }
        let _ = match entry.file_type() {
            // A link points at a node that is listed or not ours to change.
            Ok(kind) if kind.is_symlink() => std::os::unix::fs::lchown(&path, Some(0), Some(0)),
            _ => node(&path).and_then(|node| own(&node, 0, 0)),
        };
    }
}

fn hand_over(paths: &[String], uid: u32, gid: u32) -> Vec<String> {
    let mut failed = Vec::new();
    for path in paths {
        match node(Path::new(path)).and_then(|node| own(&node, uid, gid)) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => failed.push(format!("{path}: {error}")),
        }
    }
    failed
}

/// The node or directory at `path`, through at most one link, which must be root's.
fn node(path: &Path) -> io::Result<OwnedFd> {
    let found = open(path)?;
    let data = fstat(&found)?;
    if FileType::from_raw_mode(data.st_mode) != FileType::Symlink {
        return Ok(found);
    }
    if data.st_uid != rustix::process::geteuid().as_raw() {
        return Err(io::Error::new(ErrorKind::PermissionDenied, "a link that PID 1 did not make"));
    }
    let target = readlinkat(&found, c"", Vec::new())?;
    let target = target.to_str().map_err(|_| ErrorKind::InvalidData)?;
    if !target.starts_with('/') {
        return Err(io::Error::new(ErrorKind::InvalidData, "a link to a relative path"));
    }
    open(Path::new(target))
}

/// Neither follows a link nor touches the device.
fn open(path: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(openat(CWD, path, flags, Mode::empty())?)
}

fn own(node: &OwnedFd, uid: u32, gid: u32) -> io::Result<()> {
    let kind = FileType::from_raw_mode(fstat(node)?.st_mode);
    let mode = match (kind, uid) {
        (FileType::Directory, 0) => 0o755,
        (FileType::Directory, _) => 0o700,
        (FileType::CharacterDevice | FileType::BlockDevice, _) => 0o600,
        _ => return Err(io::Error::new(ErrorKind::InvalidInput, "neither device nor directory")),
    };
    let (uid, gid) = (Uid::from_raw(uid), Gid::from_raw(gid));
    chownat(node, c"", Some(uid), Some(gid), AtFlags::EMPTY_PATH)?;
    // A descriptor that only names takes no fchmod; its entry in /proc does.
    let name = format!("/proc/self/fd/{}", node.as_raw_fd());
    fs::set_permissions(name, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{MetadataExt as _, symlink};

    use rustix::{fs::mknodat, io::Errno};

    use super::*;

    const UID: u32 = 806;

    /// A directory with `node` (/dev/null's number), or why not.
    fn bench() -> Option<(tempfile::TempDir, String)> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node");
        let number = rustix::fs::makedev(1, 3);
        match mknodat(CWD, &path, FileType::CharacterDevice, Mode::from_raw_mode(0o666), number) {
            Ok(()) => Some((directory, path.display().to_string())),
            Err(Errno::PERM) => {
                println!("skipped: only root makes devices");
                None
            }
            Err(errno) => panic!("{errno}"),
        }
    }

    fn owner(path: &str) -> (u32, u32) {
        let data = fs::metadata(path).unwrap();
        (data.uid(), data.mode() & 0o777)
    }

    #[test]
    fn nodes_are_given_through_a_link_of_roots_and_taken_back() {
        let Some((directory, node)) = bench() else { return };
        let link = directory.path().join("link").display().to_string();
        symlink(&node, &link).unwrap();
        assert_eq!(hand_over(std::slice::from_ref(&link), UID, UID), Vec::<String>::new());
        assert_eq!(owner(&node), (UID, 0o600));
        assert_eq!(hand_over(&[link, "/nonexistent".into()], 0, 0), Vec::<String>::new());
        assert_eq!(owner(&node), (0, 0o600));
    }

    #[test]
    fn nothing_else_is_given_wherever_a_link_points() {
        let Some((directory, node)) = bench() else { return };
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::write(path("shadow"), "").unwrap();
        symlink(path("shadow"), path("to-file")).unwrap();
        symlink(&node, path("theirs")).unwrap();
        std::os::unix::fs::lchown(path("theirs"), Some(UID), Some(UID)).unwrap();
        symlink(path("theirs"), path("twice")).unwrap();
        symlink("node", path("relative")).unwrap();
        for name in ["shadow", "to-file", "theirs", "twice", "relative"] {
            let failed = hand_over(&[path(name)], UID, UID);
            assert_eq!(failed.len(), 1, "{name}: {failed:?}");
            assert_eq!((owner(&node).0, owner(&path("shadow")).0), (0, 0), "{name}");
        }
    }

    #[test]
    fn what_was_made_in_a_directory_is_taken_back() {
        let Some((directory, node)) = bench() else { return };
        let name = directory.path().display().to_string();
        let shadow = tempfile::NamedTempFile::new().unwrap();
        symlink(shadow.path(), directory.path().join("link")).unwrap();
        let given = [name.clone(), node.clone()];
        assert_eq!(hand_over(&given, UID, UID), Vec::<String>::new());
        assert_eq!(owner(&name), (UID, 0o700));
        std::os::unix::fs::chown(shadow.path(), Some(UID), Some(UID)).unwrap();
        for number in 0..2 * NODES_MAX {
            fs::write(directory.path().join(number.to_string()), "").unwrap();
        }
        fs::set_permissions(&node, fs::Permissions::from_mode(0o666)).unwrap();
        take_back_directory(directory.path(), &given);
        let left = fs::read_dir(directory.path()).unwrap().flatten();
        assert!(left.count() <= NODES_MAX + 1);
        assert_eq!(fs::metadata(shadow.path()).unwrap().uid(), UID, "not through a link");
        assert_eq!(hand_over(&given, 0, 0), Vec::<String>::new());
        assert_eq!((owner(&name), owner(&node)), ((0, 0o755), (0, 0o600)));
    }
}
