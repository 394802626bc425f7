//! Rules and lists beside the site configuration: copied for inspector and sensor, measured with it.
//!
//! They lie on the boot partition, where a person can put them. What is there is data that strangers
//! wrote: it is bounded, its names are checked, and nothing here looks into it. Those two read the
//! copies; the partition is never in a service's view of the file systems.
//!
//! A set is copied into a folder of its own and hashed on the way, piece by piece, so that PID 1 can
//! do something else in between. At a reload the whole folder takes the place of the one in force, in
//! one step: nobody ever sees a part of each.

use std::{
    collections::VecDeque,
    fs::{self, File as Open},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use hookprobe_evidence::{
    digest::{HashAlg, MultiHasher},
    site::{self, File},
};
use hookprobe_wire::{DETECTION_DIR, DETECTION_MOUNT};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    mount::MountFlags,
};

use crate::{
    limits::{DETECTION_BYTES_MAX, DETECTION_FILE_BYTES_MAX, DETECTION_STEP_BYTES},
    mount,
};

/// Room of the file system in memory that they lie in: all files, and the longest one twice, because
/// a file that changed is there in both editions for a moment. One of its own, so that a long list
/// takes no room of what else lies in /run.
const ROOM: &str = "mode=0755,size=116m";
/// Nothing in it is executed.
const DATA: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);
/// Where a set is made ready that will take the place of the one in force.
pub const NEXT: &str = "/run/hookprobe/detection/next";
/// Files that are looked at, so that a crafted folder has an end.
const ENTRIES_MAX: usize = 1024;

/// Makes the place where they lie; it is there also when there are none, so that services that start
/// now see what a reload brings.
///
/// # Errors
/// With code and remedy.
pub fn prepare() -> Result<(), String> {
    let failed = |error: String| format!("HP-CF-015 {DETECTION_MOUNT}: {error}; restart the box");
    fs::create_dir_all(DETECTION_MOUNT).map_err(|error| failed(error.to_string()))?;
    mount::from("tmpfs", "tmpfs", DETECTION_MOUNT, DATA, ROOM)
        .map_err(|error| failed(error.to_string()))?;
    // Empty, for a box whose boot partition can't be read now and can later.
    mount::directory(DETECTION_DIR, 0o755, 0, 0).map_err(|error| failed(error.to_string()))
}

/// A set of files that is being copied.
#[derive(Debug)]
pub struct Copying {
    into: PathBuf,
    /// The folder in force and what is in it, when this is a reload.
    before: Option<(PathBuf, Vec<File>)>,
    waiting: VecDeque<(String, PathBuf)>,
    current: Option<Current>,
    left: u64,
    files: Vec<File>,
    problems: Vec<String>,
}

#[derive(Debug)]
struct Current {
    name: String,
    from: Open,
    to: Open,
    hasher: MultiHasher,
    bytes: u64,
}

impl Copying {
    /// Begins to copy what is used of `root` into the folder `into`, which is made anew. `before`: the
    /// folder in force and its files; one that is the same is not there twice.
    #[must_use]
    pub fn new(root: &Path, into: &Path, before: Option<(&Path, &[File])>) -> Self {
        let mut problems = Vec::new();
        let waiting = names(root, &mut problems).into();
        let _ = fs::remove_dir_all(into);
        if let Err(error) = fs::DirBuilder::new().mode(0o755).create(into) {
            problems.push(format!("HP-CF-015 {}: {error}; restart the box", into.display()));
        }
        // Whatever the mask of this process says.
        let _ = fs::set_permissions(into, fs::Permissions::from_mode(0o755));
        Self {
            into: into.into(),
            before: before.map(|(folder, files)| (folder.into(), files.to_vec())),
            waiting,
            current: None,
            left: DETECTION_BYTES_MAX,
            files: Vec::new(),
            problems,
        }
    }

    /// Copies one piece; `false` when all is done.
    pub fn step(&mut self) -> bool {
        if let Some(current) = self.current.take() {
            self.go_on(current);
        } else if let Some((name, path)) = self.waiting.pop_front() {
            self.begin(name, &path);
        }
        self.current.is_some() || !self.waiting.is_empty()
    }

    /// What was copied, and what was not and why.
    #[must_use]
    pub fn finish(mut self) -> (Vec<File>, Vec<String>) {
        while self.step() {}
        (self.files, self.problems)
    }

    fn begin(&mut self, name: String, path: &Path) {
        let from = match open(path) {
            Ok(Some(from)) => from,
            // It was there a moment ago.
            Ok(None) => return self.unreadable(&name, &io::ErrorKind::NotFound.into()),
            Err(error) => return self.unreadable(&name, &error),
        };
        let to =
            Open::options().write(true).create_new(true).mode(0o644).open(self.into.join(&name));
        match to.and_then(|to| {
            to.set_permissions(fs::Permissions::from_mode(0o644))?;
            Ok(to)
        }) {
            Ok(to) => {
                let hasher = MultiHasher::new(&[HashAlg::Sha256]);
                self.current = Some(Current { name, from, to, hasher, bytes: 0 });
            }
            Err(error) => self.no_room(&name, &error),
        }
    }

    fn go_on(&mut self, mut current: Current) {
        let most = DETECTION_FILE_BYTES_MAX.min(self.left);
        let mut bytes = Vec::new();
        // One more than may be, so that a longer file shows.
        let room = (most - current.bytes.min(most) + 1).min(DETECTION_STEP_BYTES);
        let read = (&current.from).take(room).read_to_end(&mut bytes);
        if let Err(error) = read {
            return self.unreadable(&current.name, &error);
        }
        if bytes.is_empty() {
            return self.end(current);
        }
        current.bytes += bytes.len() as u64;
        if current.bytes > most {
            let _ = fs::remove_file(self.into.join(&current.name));
            self.problems.push(format!(
                "HP-CF-017 {}: too long, not used; at most 40 MiB each and 72 MiB together",
                current.name
            ));
            return;
        }
        current.hasher.update(&bytes);
        if let Err(error) = current.to.write_all(&bytes) {
            return self.no_room(&current.name, &error);
        }
        self.current = Some(current);
    }

    fn end(&mut self, Current { name, hasher, bytes, .. }: Current) {
        let Some(digest) = hasher.finish().into_iter().next() else { return };
        let file = File { name, digest };
        self.left -= bytes.min(self.left);
        if let Some((folder, files)) = &self.before
            && files.contains(&file)
        {
            let to = self.into.join(&file.name);
            let twice =
                fs::remove_file(&to).and_then(|()| fs::hard_link(folder.join(&file.name), &to));
            if let Err(error) = twice {
                return self.no_room(&file.name, &error);
            }
        }
        self.files.push(file);
    }

    fn unreadable(&mut self, name: &str, error: &io::Error) {
        let _ = fs::remove_file(self.into.join(name));
        self.problems.push(format!("HP-CF-016 {name}: {error}, not used; copy it again"));
    }

    fn no_room(&mut self, name: &str, error: &io::Error) {
        let to = self.into.join(name);
        let _ = fs::remove_file(&to);
        self.problems.push(format!("HP-CF-015 {}: {error}; restart the box", to.display()));
    }
}

/// A file of the boot partition, never through a link; `None` when it is not there.
fn open(path: &Path) -> io::Result<Option<Open>> {
    let opened =
        Open::options().read(true).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK).open(path);
    match opened {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Copies what is there at the start; what was copied, and what was not and why.
#[must_use]
pub fn copy(root: &Path) -> (Vec<File>, Vec<String>) {
    Copying::new(root, Path::new(DETECTION_DIR), None).finish()
}

/// Puts the folder `next` in the place of `now`, in one step, and drops what was there.
///
/// # Errors
/// The system's; what was in force stays.
pub fn exchange(next: &Path, now: &Path) -> io::Result<()> {
    renameat_with(CWD, next, CWD, now, RenameFlags::EXCHANGE)?;
    // Who still reads in it has its files open.
    let _ = fs::remove_dir_all(next);
    Ok(())
}

/// Drops a set that will not be put in force.
pub fn forget(next: &Path) {
    let _ = fs::remove_dir_all(next);
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
    use std::os::unix::fs::MetadataExt as _;

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

    #[test]
    fn a_set_is_copied_in_pieces_and_takes_the_place_of_the_one_before() {
        let (root, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (now, next) = (place.path().join("now"), place.path().join("next"));
        let long = vec![b'#'; usize::try_from(DETECTION_STEP_BYTES).unwrap() * 2 + 1];
        fs::write(root.path().join("a.rules"), &long).unwrap();
        fs::write(root.path().join("b.rules"), b"one").unwrap();
        let (files, problems) = Copying::new(root.path(), &now, None).finish();
        assert_eq!(problems, Vec::<String>::new());
        assert_eq!(files, [File::new("a.rules", &long), File::new("b.rules", b"one")]);

        fs::write(root.path().join("b.rules"), b"two").unwrap();
        fs::write(root.path().join("hookprobe.block"), b"192.0.2.1\n").unwrap();
        let mut copying = Copying::new(root.path(), &next, Some((&now, &files)));
        let mut steps = 0;
        while copying.step() {
            steps += 1;
            assert_eq!(fs::read(now.join("b.rules")).unwrap(), b"one");
        }
        assert!(steps > 5, "{steps}");
        let (files, problems) = copying.finish();
        assert_eq!((files.len(), problems.len()), (3, 0));
        // The same file is there once.
        let inode = |folder: &Path, name: &str| fs::metadata(folder.join(name)).unwrap().ino();
        assert_eq!(inode(&now, "a.rules"), inode(&next, "a.rules"));
        assert_ne!(inode(&now, "b.rules"), inode(&next, "b.rules"));
        exchange(&next, &now).unwrap();
        assert_eq!(fs::read(now.join("b.rules")).unwrap(), b"two");
        assert_eq!(fs::read(now.join("a.rules")).unwrap(), long);
        assert!(!next.exists());
    }

    #[test]
    fn what_can_not_be_read_or_is_too_long_is_named_and_left_out() {
        let (root, place) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        std::os::unix::fs::symlink("/etc/passwd", root.path().join("a.rules")).unwrap();
        fs::create_dir(root.path().join("b.rules")).unwrap();
        let long = Open::create(root.path().join("c.rules")).unwrap();
        long.set_len(DETECTION_FILE_BYTES_MAX + 1).unwrap();
        fs::write(root.path().join("d.rules"), b"fine").unwrap();
        let into = place.path().join("now");
        let (files, problems) = Copying::new(root.path(), &into, None).finish();
        assert_eq!(files, [File::new("d.rules", b"fine")]);
        let codes: Vec<&str> = problems.iter().map(|text| &text[..9]).collect();
        assert_eq!(codes, ["HP-CF-016", "HP-CF-016", "HP-CF-017"], "{problems:?}");
        assert_eq!(fs::read_dir(&into).unwrap().count(), 1);
    }
}
