//! Rules and lists beside the site configuration: copied for inspector and sensor, measured with it.
//!
//! They lie on the boot partition, where a person can put them. What is there is data that strangers
//! wrote: it is bounded, its names are checked, and nothing here looks into it. Those two read the
//! copies; the partition is not mounted while services run.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use hookprobe_evidence::site::{self, File};
use hookprobe_wire::DETECTION_DIR;
use rustix::mount::MountFlags;

use crate::{mount, state};

/// Bytes of one file. 40 MiB: four million names, or all rules that anybody publishes.
const FILE_BYTES_MAX: usize = 40 << 20;
/// Bytes of all of them. They lie in memory: a box with 512 MB must still run.
const BYTES_MAX: usize = 72 << 20;
/// Room of the file system in memory that they lie in: that much, and pages that are not full. One of
/// its own, so that a long list takes no room of what else lies in /run.
const ROOM: &str = "mode=0755,size=76m";
/// Nothing in it is executed.
const DATA: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
/// Files that are looked at, so that a crafted folder has an end.
const ENTRIES_MAX: usize = 1024;

/// Copies what is there; what was copied, and what was not and why.
#[must_use]
pub fn copy(root: &Path) -> (Vec<File>, Vec<String>) {
    let (mut files, mut problems) = (Vec::new(), Vec::new());
    let folder = Path::new(DETECTION_DIR);
    let names = names(root, &mut problems);
    if names.is_empty() {
        return (files, problems);
    }
    let prepared = fs::create_dir_all(folder).map_err(|error| error.to_string()).and_then(|()| {
        mount::from("tmpfs", "tmpfs", DETECTION_DIR, DATA, ROOM).map_err(|error| error.to_string())
    });
    if let Err(error) = prepared {
        problems.push(format!("HP-CF-015 {DETECTION_DIR}: {error}; restart the box"));
        return (files, problems);
    }
    let mut left = BYTES_MAX;
    for (name, path) in names {
        let bytes = match state::read_bounded(&path, FILE_BYTES_MAX.min(left)) {
            Ok(bytes) => bytes,
            Err(error) => {
                problems.push(format!("HP-CF-016 {name}: {error}, not used; copy it again"));
                continue;
            }
        };
        if bytes.len() > FILE_BYTES_MAX.min(left) {
            problems.push(format!(
                "HP-CF-017 {name}: too long, not used; at most 40 MiB each and 72 MiB together"
            ));
            continue;
        }
        let to = folder.join(&name);
        let written = fs::write(&to, &bytes)
            .and_then(|()| fs::set_permissions(&to, fs::Permissions::from_mode(0o644)));
        match written {
            Ok(()) => {
                left -= bytes.len();
                files.push(File::new(&name, &bytes));
            }
            Err(error) => {
                let _ = fs::remove_file(&to);
                problems.push(format!("HP-CF-015 {}: {error}; restart the box", to.display()));
            }
        }
    }
    (files, problems)
}

/// Files that are used: lists, then rules in the order of their names.
fn names(root: &Path, problems: &mut Vec<String>) -> Vec<(String, PathBuf)> {
    let Ok(entries) = fs::read_dir(root) else { return Vec::new() };
    let mut names: Vec<(String, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path())))
        .filter(|(name, _)| site::is_file(name))
        .take(ENTRIES_MAX)
        .collect();
    // Lists first: files of rules can be put together, they can't.
    names.sort_by_key(|(name, _)| (site::is_rules(name), name.clone()));
    if names.len() > site::FILES_MAX {
        problems.push(format!(
            "HP-CF-018 {} files of rules and lists or more, the first {} are used; put rules together",
            names.len(),
            site::FILES_MAX
        ));
        names.truncate(site::FILES_MAX);
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_used_in_order() {
        let root = tempfile::tempdir().unwrap();
        for name in ["b.rules", "a.rules", "hookprobe.toml", "x.txt", "hookprobe.names"] {
            fs::write(root.path().join(name), name).unwrap();
        }
        let mut problems = Vec::new();
        let found: Vec<String> =
            names(root.path(), &mut problems).into_iter().map(|(name, _)| name).collect();
        assert_eq!(found, ["hookprobe.names", "a.rules", "b.rules"]);
        for number in 0..80 {
            fs::write(root.path().join(format!("{number}.rules")), "").unwrap();
        }
        let found = names(root.path(), &mut problems);
        assert_eq!((found.len(), found[0].0.as_str()), (site::FILES_MAX, "hookprobe.names"));
        assert_eq!(problems.len(), 1);
    }
}
