//! `hookprobe-ledger verify DIR`: a ledger that nobody runs, looked at from outside.
//!
//! Not a byte of the evidence changes: what the storage engine has to repair after a crash is
//! repaired in memory, see [`crate::store::overlay`].

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::store::{
    Store, StoreError,
    database::Database,
    open::{DATABASE, WITNESS},
    overlay::Overlay,
    verify_all, witness,
};

/// Why a ledger did not verify.
#[derive(Debug, Error)]
pub enum OfflineError {
    /// It can't be read.
    #[error("HP-LD-040 ledger {}: {source}; is this the state directory of a ledger?", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// It was read and says nothing either way: of a newer format, or the disk failed midway.
    #[error("HP-LD-042 ledger {}: {source}; copy the directory to another disk and verify it there with the version that wrote it", path.display())]
    Undecided {
        /// Which file.
        path: PathBuf,
        /// What stopped it.
        source: StoreError,
    },
    /// It is not right.
    #[error("HP-LD-041 ledger {}: {source}; what comes after this block proves nothing", path.display())]
    Wrong {
        /// Which file.
        path: PathBuf,
        /// What is wrong.
        source: StoreError,
    },
}

/// Verifies the ledger in `dir` and describes it; nothing in it is changed.
///
/// # Errors
/// Any [`OfflineError`]; [`OfflineError::Wrong`] names the first bad block.
pub fn verify(dir: &Path) -> Result<String, OfflineError> {
    let path = dir.join(DATABASE);
    let read = |source| OfflineError::Read { path: path.clone(), source };
    let seen = witness::read(&dir.join(WITNESS)).map_err(read)?;
    // Opened once here, so that a directory without a ledger says so in the system's words.
    fs::File::open(&path).map_err(read)?;
    let file = path.clone();
    let wrong = |source| {
        let path = path.clone();
        match source {
            StoreError::Damaged(_) => OfflineError::Wrong { path, source },
            StoreError::Full | StoreError::Io(_) | StoreError::Busy | StoreError::Newer(_) => {
                OfflineError::Undecided { path, source }
            }
        }
    };
    let database =
        Database::open(Box::new(move || Ok(Box::new(Overlay::new(fs::File::open(&file)?)?))), true)
            .map_err(wrong)?;
    let acknowledged = seen.filter(|seen| seen.length > 0).map(|seen| (seen.length, seen.hash));
    let (_, verified) = verify_all(&database, acknowledged, &mut |_, _| {}).map_err(wrong)?;
    let epochs = database.epochs().map_err(wrong)?;
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = writeln!(out, "blocks  {} verified", verified.tip.next());
    if verified.payloads_missing > 0 {
        let _ = writeln!(out, "payloads missing  {}", verified.payloads_missing);
    }
    for epoch in &epochs {
        let _ =
            writeln!(out, "epoch   {} from block {} by {}", epoch.number, epoch.first, epoch.node);
    }
    let _ = writeln!(out, "head    {}", verified.tip.hash);
    let _ = writeln!(out, "root    {}", verified.tip.tree.root());
    match seen {
        Some(seen) => {
            let _ = writeln!(out, "witness agrees up to block {}", seen.length);
        }
        None => {
            let _ = writeln!(out, "witness none");
        }
    }
    Ok(out)
}
