//! Where things are: the source tree, and what is made from it below `target/`.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
};

use crate::error::{Result, at};

/// The checkout and its products.
#[derive(Debug, Clone)]
pub struct Tree {
    root: PathBuf,
}

impl Tree {
    /// The tree that this program was built from.
    #[must_use]
    pub fn find() -> Self {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        Self { root: here.ancestors().nth(2).unwrap_or(here).to_path_buf() }
    }

    /// A path of the checkout.
    #[must_use]
    pub fn source(&self, path: &str) -> PathBuf {
        self.root.join(path)
    }

    /// A path below `target/`.
    #[must_use]
    pub fn target(&self, path: &str) -> PathBuf {
        std::env::var_os("CARGO_TARGET_DIR")
            .map_or_else(|| self.root.join("target"), PathBuf::from)
            .join(path)
    }

    /// Holds a folder below `target/`, against other threads and other processes of this checkout (a
    /// drill beside a start), until the file is dropped.
    ///
    /// # Errors
    /// What the system says.
    pub fn alone(&self, folder: &str) -> Result<File> {
        let folder = self.target(folder);
        fs::create_dir_all(&folder).map_err(at(&folder))?;
        let path = folder.join("lock");
        let lock = File::create(&path).map_err(at(&path))?;
        lock.lock().map_err(at(&path))?;
        Ok(lock)
    }

    /// Products of the image for the platform.
    #[must_use]
    pub fn image(&self) -> Image {
        Image { dir: self.target("image/x86_64-debian") }
    }
}

/// What the composer makes.
#[derive(Debug, Clone)]
pub struct Image {
    /// Folder of all of it.
    pub dir: PathBuf,
}

impl Image {
    /// The boot blob: a unified kernel image.
    #[must_use]
    pub fn uki(&self) -> PathBuf {
        self.dir.join("hookprobe.efi")
    }

    /// The disk image that is flashed.
    #[must_use]
    pub fn disk(&self) -> PathBuf {
        self.dir.join("hookprobe.img")
    }

    /// The reference manifest with every predicted PCR.
    #[must_use]
    pub fn manifest(&self) -> PathBuf {
        self.dir.join("manifest.json")
    }

    /// The same, signed, as the boot blob carries it.
    #[must_use]
    pub fn envelope(&self) -> PathBuf {
        self.dir.join("manifest.dsse")
    }

    /// The root file system.
    #[must_use]
    pub fn root(&self) -> PathBuf {
        self.dir.join("root.erofs")
    }

    /// The folder that the root file system was made from.
    #[must_use]
    pub fn rootfs(&self) -> PathBuf {
        self.dir.join("rootfs")
    }

    /// The kernel alone, for direct boot.
    #[must_use]
    pub fn kernel(&self) -> PathBuf {
        self.dir.join("vmlinuz")
    }
}
