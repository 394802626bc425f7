//! `hookprobe-ledger verify` and `export`: a ledger that nobody runs, looked at from outside.
//!
//! Not a byte of the evidence changes: what the storage engine has to repair after a crash is
//! repaired in memory, see [`crate::store::overlay`]. The TPM's signatures in `Event::Binding` are
//! not verified here, they are only found: `hookprobe-verify` does that, from an export, on another
//! machine, with an implementation of its own.

use std::{
    fmt::Write as _,
    fs,
    io::{self, BufWriter, Write as _},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use hookprobe_wire::{
    Seq,
    export::{self, ExportError, Summary},
    ledger::Record,
};
use thiserror::Error;

use crate::{
    chain::{Epoch, Tip},
    store::{
        Store, StoreError,
        database::Database,
        open::{DATABASE, WITNESS},
        overlay::Overlay,
        verify_each,
        witness::{self, Seen},
    },
    verify::Verified,
};

mod bindings;

use bindings::Bindings;

/// Why a ledger did not verify, or is not exported.
#[derive(Debug, Error)]
pub enum OfflineError {
    /// It can't be read.
    #[error("HP-LD-040 ledger {}: {source}; is this the state directory of a ledger?", path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: io::Error,
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
    /// The file can't be written.
    #[error("HP-LD-045 export {}: {source}; name a new file on a disk with space", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// There is no such block.
    #[error(
        "HP-LD-046 export: block {from} does not exist, the ledger has {length}; give a smaller --from"
    )]
    From {
        /// First wanted.
        from: Seq,
        /// Blocks.
        length: Seq,
    },
    /// A block does not fit the format.
    #[error(transparent)]
    Format(#[from] ExportError),
}

/// A ledger that verified.
struct Ledger {
    path: PathBuf,
    database: Database,
    seen: Option<Seen>,
    verified: Verified,
    epochs: Vec<Epoch>,
    bindings: Bindings,
}

impl Ledger {
    fn open(dir: &Path) -> Result<Self, OfflineError> {
        let path = dir.join(DATABASE);
        let read = |source| OfflineError::Read { path: path.clone(), source };
        let seen = witness::read(&dir.join(WITNESS)).map_err(read)?;
        // Opened once here, so that a directory without a ledger says so in the system's words.
        fs::File::open(&path).map_err(read)?;
        let file = path.clone();
        let backend = Box::new(move || {
            let overlay = Overlay::new(fs::File::open(&file)?)?;
            Ok(Box::new(overlay) as Box<dyn redb::StorageBackend>)
        });
        let wrong = |source| store_error(&path, source);
        let database = Database::open(backend, true).map_err(wrong)?;
        let acknowledged = seen.filter(|seen| seen.length > 0).map(|seen| (seen.length, seen.hash));
        let mut bindings = Bindings::default();
        let mut visit = |record: &_| bindings.see(record);
        let (_, verified) =
            verify_each(&database, acknowledged, &mut visit, &mut |_, _| {}).map_err(wrong)?;
        let epochs = database.epochs().map_err(wrong)?;
        Ok(Self { path, database, seen, verified, epochs, bindings })
    }

    /// Calls `work` for every record in `from..to`.
    fn read(
        &self,
        from: Seq,
        to: Seq,
        mut work: impl FnMut(&Record) -> Result<(), OfflineError>,
    ) -> Result<(), OfflineError> {
        let mut next = from;
        while next < to {
            let chunk =
                self.database.read(next).map_err(|source| store_error(&self.path, source))?;
            if chunk.is_empty() {
                let source = StoreError::Damaged(format!("block {next}: gone while it was read"));
                return Err(store_error(&self.path, source));
            }
            for record in chunk.iter().take_while(|record| record.block.header.seq < to) {
                work(record)?;
                next.0 = next.0.saturating_add(1);
            }
        }
        Ok(())
    }
}

fn store_error(path: &Path, source: StoreError) -> OfflineError {
    let path = path.to_owned();
    match source {
        StoreError::Damaged(_) => OfflineError::Wrong { path, source },
        StoreError::Full | StoreError::Io(_) | StoreError::Busy | StoreError::Newer(_) => {
            OfflineError::Undecided { path, source }
        }
    }
}

/// Verifies the ledger in `dir` and describes it; nothing in it is changed.
///
/// # Errors
/// Any [`OfflineError`]; [`OfflineError::Wrong`] names the first bad block.
pub fn verify(dir: &Path) -> Result<String, OfflineError> {
    let ledger = Ledger::open(dir)?;
    let tip = &ledger.verified.tip;
    let mut out = String::new();
    // Writing to a String can't fail.
    let _ = writeln!(out, "blocks  {} verified", tip.next());
    if ledger.verified.payloads_missing > 0 {
        let _ = writeln!(out, "payloads missing  {}", ledger.verified.payloads_missing);
    }
    for epoch in &ledger.epochs {
        let _ =
            writeln!(out, "epoch   {} from block {} by {}", epoch.number, epoch.first, epoch.node);
        let _ = writeln!(out, "        {}", ledger.bindings.describe(epoch.number));
    }
    let _ = writeln!(out, "head    {}", tip.hash);
    let _ = writeln!(out, "root    {}", tip.tree.root());
    match ledger.seen {
        Some(seen) => {
            let _ = writeln!(out, "witness agrees up to block {}", seen.length);
        }
        None => {
            let _ = writeln!(out, "witness none");
        }
    }
    Ok(out)
}

/// Verifies the ledger in `dir` and writes its blocks from `from` on to the new file `out`
/// ([`hookprobe_wire::export`]); says what was written.
///
/// # Errors
/// Any [`OfflineError`]; no file is left then.
pub fn export(dir: &Path, out: &Path, from: Seq) -> Result<String, OfflineError> {
    let ledger = Ledger::open(dir)?;
    let end = ledger.verified.tip.next();
    if from > end {
        return Err(OfflineError::From { from, length: end });
    }
    let file = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(out)
        .map_err(|source| file_error(out, source))?;
    if let Err(error) = write(&ledger, from, out, file) {
        // What went wrong is said; half a file would be refused by its reader in any case.
        let _ = fs::remove_file(out);
        return Err(error);
    }
    Ok(format!(
        "{} blocks from {from} written to {}\nhead    {}\nroot    {}\n",
        end.0 - from.0,
        out.display(),
        ledger.verified.tip.hash,
        ledger.verified.tip.tree.root()
    ))
}

fn write(ledger: &Ledger, from: Seq, path: &Path, file: fs::File) -> Result<(), OfflineError> {
    let io = |source| file_error(path, source);
    let tip = &ledger.verified.tip;
    let mut before = Tip::empty();
    ledger.read(Seq(0), from, |record| {
        before.push(&record.block.header, record.hash);
        Ok(())
    })?;
    let summary = Summary {
        first: from,
        length: tip.next().0,
        before: before.hash,
        peaks: before.tree.peaks().to_vec(),
        hash: tip.hash,
        root: tip.tree.root(),
    };
    let mut writer = BufWriter::new(file);
    let mut bytes = Vec::new();
    export::begin(&summary, &mut bytes)?;
    writer.write_all(&bytes).map_err(io)?;
    ledger.read(from, tip.next(), |record| {
        bytes.clear();
        export::record(record, &mut bytes)?;
        writer.write_all(&bytes).map_err(io)
    })?;
    let file = writer.into_inner().map_err(|error| io(error.into_error()))?;
    file.sync_all().map_err(io)
}

fn file_error(path: &Path, source: io::Error) -> OfflineError {
    OfflineError::File { path: path.to_owned(), source }
}
