//! Device nodes of services: given to the service's user while it runs, taken back when it ends.
//!
//! Must never happen here: a node that stays with a user whose process is gone, or a node given
//! that `services.toml` (and with it the measurement) does not name.

use std::{fs, os::unix::fs::PermissionsExt as _, path::Path};

use hookprobe_evidence::closure::ServiceSpec;

/// Most nodes in a directory that are taken back.
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
        let entries = fs::read_dir(path).into_iter().flatten().flatten().take(NODES_MAX);
        for entry in entries {
            // A link points at a node that is listed or not ours to change.
            let _ = std::os::unix::fs::lchown(entry.path(), Some(0), Some(0));
        }
    }
    // Root opens them whatever the owner; a failure leaves a node with a user without a process.
    let _ = hand_over(&spec.devices, 0, 0);
}

fn hand_over(paths: &[String], uid: u32, gid: u32) -> Vec<String> {
    let mut failed = Vec::new();
    for path in paths {
        let Ok(data) = fs::metadata(path) else {
            continue;
        };
        let mode = match (data.is_dir(), uid) {
            (true, 0) => 0o755,
            (true, _) => 0o700,
            (false, _) => 0o600,
        };
        let done = std::os::unix::fs::chown(path, Some(uid), Some(gid))
            .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(mode)));
        if let Err(error) = done {
            failed.push(format!("{path}: {error}"));
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_left_out_and_directories_keep_their_way_in() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name).display().to_string();
        fs::create_dir(path("mapper")).unwrap();
        fs::write(path("mapper/node"), "").unwrap();
        let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
        let failed = hand_over(&[path("mapper"), path("absent")], uid, gid);
        assert_eq!(failed, Vec::<String>::new());
        let mode = fs::metadata(path("mapper")).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, if uid == 0 { 0o755 } else { 0o700 });
    }
}
