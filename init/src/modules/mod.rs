//! Loading of kernel modules: by a list in stage 1, by device aliases in PID 1.
//!
//! Files are uncompressed `.ko` on the measured root. After the coldplug phase no module can be
//! loaded any more (`modules_disabled`), so a driver that is not asked for by then never comes.

pub mod index;

use std::{collections::BTreeSet, ffi::CString, fs, path::Path};

use rustix::{io::Errno, system::finit_module};
use thiserror::Error;

use crate::limits::{DEVICES_MAX, SYSFS_DEPTH_MAX};
use index::Index;

/// Why a module was not loaded.
#[derive(Debug, Error)]
pub enum ModuleError {
    /// No such file.
    #[error("module {path}: {source}")]
    Open {
        /// Its file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// The kernel refused it.
    #[error("module {path}: the kernel refused it: {errno}")]
    Refused {
        /// Its file.
        path: String,
        /// Why.
        errno: Errno,
    },
}

/// The file is packed, the kernel unpacks it (linux/module.h).
const MODULE_INIT_COMPRESSED_FILE: i32 = 4;

/// Loads one file; that it is loaded already is fine.
///
/// # Errors
/// [`ModuleError`].
pub fn load(path: &str) -> Result<(), ModuleError> {
    let file =
        fs::File::open(path).map_err(|source| ModuleError::Open { path: path.into(), source })?;
    let flags = if path.ends_with(".xz") { MODULE_INIT_COMPRESSED_FILE } else { 0 };
    match finit_module(&file, &CString::default(), flags) {
        Ok(()) | Err(Errno::EXIST) => Ok(()),
        Err(errno) => Err(ModuleError::Refused { path: path.into(), errno }),
    }
}

/// What was loaded and what was not.
#[derive(Debug, Default)]
pub struct Loaded {
    names: BTreeSet<String>,
    /// Texts of what failed, once each.
    pub failures: Vec<String>,
}

impl Loaded {
    /// Loads a module and what it needs; `true` when something new was loaded.
    pub fn with_dependencies(&mut self, index: &Index, name: &str) -> bool {
        let mut new = false;
        for (name, path) in index.load_order(name) {
            if !self.names.insert(name.into()) {
                continue;
            }
            match load(path) {
                Ok(()) => new = true,
                // A driver whose hardware is not there says so; that is no fault.
                Err(ModuleError::Refused { errno, .. }) if errno == Errno::NODEV => {}
                Err(error) => self.failures.push(error.to_string()),
            }
        }
        new
    }

    /// How many were tried.
    #[must_use]
    pub fn count(&self) -> usize {
        self.names.len()
    }
}

/// Aliases of all devices that the kernel has found so far.
#[must_use]
pub fn modaliases(root: &Path) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut open = vec![(root.to_path_buf(), 0)];
    while let Some((directory, depth)) = open.pop() {
        if depth > SYSFS_DEPTH_MAX || found.len() >= DEVICES_MAX {
            continue;
        }
        let Ok(entries) = fs::read_dir(&directory) else {
            continue;
        };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else {
                continue;
            };
            if kind.is_dir() {
                open.push((entry.path(), depth + 1));
            } else if kind.is_file() && entry.file_name() == "modalias" {
                let text = fs::read_to_string(entry.path()).unwrap_or_default();
                let text = text.trim();
                if !text.is_empty() {
                    found.insert(text.into());
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_walk_finds_aliases_and_never_follows_links() {
        let root = tempfile::tempdir().unwrap();
        let device = root.path().join("pci0/dev0");
        fs::create_dir_all(&device).unwrap();
        fs::write(device.join("modalias"), "pci:v1\n").unwrap();
        std::os::unix::fs::symlink(root.path(), device.join("loop")).unwrap();
        assert_eq!(modaliases(root.path()).into_iter().collect::<Vec<_>>(), ["pci:v1"]);
    }
}
