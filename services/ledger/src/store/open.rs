//! What happens at start: open, verify everything, set aside what is damaged, begin an epoch.
//!
//! Ends with a usable chain in every case but two: another process has the database, or the
//! caller can't even get memory. Damage costs an epoch, never a loop of restarts, and the damaged
//! file stays for whoever wants to know. A state directory that can't be used costs permanence:
//! blocks are then kept in bounded memory and `Head.volatile` says so. Called by [`crate::serve`].

use std::{
    collections::HashMap,
    fs, io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use hookprobe_wire::{Diagnostic, Seq, Severity, ledger::RequestId};
use redb::backends::FileBackend;
use thiserror::Error;

use super::{
    Shared, Store, StoreError,
    database::{Database, OpenBackend},
    memory::Memory,
    verify_all,
    witness::{Seen, Witness},
};
use crate::{
    chain::{Epoch, Lane},
    code,
    epoch::{Boot, Mark, Past, Rollback, Turn, decide},
};

/// The database.
pub const DATABASE: &str = "ledger.redb";
/// See [`super::witness`].
pub const WITNESS: &str = "ledger.witness";
/// See [`super::guard`].
pub const SUSPECT: &str = "ledger.suspect";
/// Damaged databases that are kept; for a fourth the oldest makes room, because a state disk that
/// is full of them would record nothing more.
pub const DAMAGED_MAX: usize = 3;

const TMPFS_MAGIC: u64 = 0x0102_1994;
const RAMFS_MAGIC: u64 = 0x8584_58f6;

/// Why there is no chain at all.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Somebody else writes it.
    #[error("HP-LD-025 ledger {}: open in another process; stop that one first", .0.display())]
    Busy(PathBuf),
    /// Not even memory works.
    #[error("HP-LD-024 ledger: no store in memory either: {0}; restart the box")]
    Memory(StoreError),
}

/// A usable chain.
pub struct Opened {
    /// Where it is kept.
    pub store: Shared,
    /// Where it stands; its epoch is on disk.
    pub lane: Lane,
    /// Known request ids, oldest first.
    pub requests: Vec<(RequestId, Seq, hookprobe_wire::Hash)>,
    /// Blocks verified.
    pub verified: u64,
    /// Gone at the next power cut.
    pub volatile: bool,
    /// Notices a database that went back.
    pub witness: Option<Witness>,
    /// What the TPM's boot counter says about the past.
    pub rollback: Option<Rollback>,
    /// What the operator should know.
    pub diagnostics: Vec<Diagnostic>,
}

/// Opens what is in `dir` for the key of `boot`.
///
/// # Errors
/// Any [`OpenError`].
pub fn open(
    dir: &Path,
    boot: &Boot,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Opened, OpenError> {
    let mut notes = Vec::new();
    match on_disk(dir, boot, progress, &mut notes) {
        Ok(opened) => Ok(opened),
        Err(StoreError::Busy) => Err(OpenError::Busy(dir.join(DATABASE))),
        Err(error) => {
            notes.push(memory_only(dir, &error));
            in_memory(boot, notes).map_err(OpenError::Memory)
        }
    }
}

fn on_disk(
    dir: &Path,
    boot: &Boot,
    progress: &mut dyn FnMut(u64, u64),
    notes: &mut Vec<Diagnostic>,
) -> Result<Opened, StoreError> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| io_error(&error))?;
    let volatile = is_in_memory(dir).map_err(|error| io_error(&error))?;
    if volatile {
        notes.push(on_tmpfs(dir));
    }
    super::guard::install(dir.join(SUSPECT));
    let (mut witness, mut seen) =
        Witness::open(&dir.join(WITNESS)).map_err(|error| io_error(&error))?;
    let path = dir.join(DATABASE);
    let suspect = dir.join(SUSPECT);
    if path.exists() && suspect.exists() {
        let why = "the process stopped inside it the last time".to_owned();
        notes.push(set_aside(dir, &why)?);
    }
    if !path.exists() && seen.is_some_and(|seen| seen.length > 0) && notes.iter().all(not_damage) {
        notes.push(missing(&path));
    }
    remove(&suspect)?;
    let mut attempts = 0..2;
    loop {
        if !path.exists() {
            // Written before the new database, so that an empty one is not taken for a loss.
            seen = seen.map(|seen| Seen {
                epoch: seen.epoch.saturating_add(1),
                length: 0,
                hash: hookprobe_wire::Hash::zero(),
            });
            if let Some(seen) = &seen {
                witness.note(seen, true).map_err(|error| io_error(&error))?;
            }
            create(dir, boot, seen)?;
        }
        match use_file(&path, boot, seen, progress) {
            Err(StoreError::Damaged(why)) if attempts.next().is_some() => {
                notes.push(set_aside(dir, &why)?);
                remove(&suspect)?;
            }
            Err(other) => return Err(other),
            Ok((store, ready)) => {
                sync_dir(dir)?;
                let epoch = Seen {
                    epoch: ready.lane.epoch.number,
                    length: ready.lane.tip.next().0,
                    hash: ready.lane.tip.hash,
                };
                witness.note(&epoch, true).map_err(|error| io_error(&error))?;
                notes.extend(ready.rollback.as_ref().map(Rollback::diagnostic));
                return Ok(Opened {
                    store,
                    lane: ready.lane,
                    requests: ready.requests,
                    verified: ready.verified,
                    volatile,
                    witness: Some(witness),
                    rollback: ready.rollback,
                    diagnostics: std::mem::take(notes),
                });
            }
        }
    }
}

/// A store that verified.
pub struct Ready {
    /// Where the chain stands; its epoch is on disk.
    pub lane: Lane,
    /// Known request ids, oldest first.
    pub requests: Vec<(RequestId, Seq, hookprobe_wire::Hash)>,
    /// Blocks verified.
    pub verified: u64,
    /// What the TPM's boot counter says about the past.
    pub rollback: Option<Rollback>,
}

/// Makes a database with its first epoch under another name and renames it when it is whole: a
/// start that is killed here leaves no half database that looks like a damaged one.
fn create(dir: &Path, boot: &Boot, seen: Option<Seen>) -> Result<(), StoreError> {
    let fresh = dir.join(format!("{DATABASE}.new"));
    remove(&fresh)?;
    let database = Database::open(file(&fresh), false)?;
    prepare(&database, boot, seen, &mut |_, _| {})?;
    drop(database);
    fs::rename(&fresh, dir.join(DATABASE)).map_err(|error| io_error(&error))?;
    sync_dir(dir)
}

fn use_file(
    path: &Path,
    boot: &Boot,
    seen: Option<Seen>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<(Shared, Ready), StoreError> {
    let database = match Database::open(file(path), true) {
        // The checksum pass writes what it found out, which a full disk may refuse; the blocks
        // are verified below in any case.
        Err(StoreError::Full) => Database::open(file(path), false)?,
        other => other?,
    };
    let store: Shared = Arc::new(database);
    let ready = prepare(&*store, boot, seen, progress)?;
    Ok((store, ready))
}

/// Verifies what is there and makes sure that the key of `boot` signs from now on, in an epoch of
/// its own. The part of [`open`] that
/// the simulation runs on its own disk.
///
/// # Errors
/// Any [`StoreError`].
pub fn prepare(
    store: &dyn Store,
    boot: &Boot,
    seen: Option<Seen>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<Ready, StoreError> {
    let acknowledged = seen.filter(|seen| seen.length > 0).map(|seen| (seen.length, seen.hash));
    let (state, verified) = verify_all(store, acknowledged, progress)?;
    let requests = store.requests()?;
    let length = verified.tip.next().0;
    let lane = state.as_ref().map(super::State::lane).transpose()?;
    // A witness from a lane that was set aside has reserved its own number already.
    let reserved = seen.map_or(0, |seen| seen.epoch);
    let (turn, rollback) = decide(&past(store)?, boot, reserved);
    let lane = match (turn, lane) {
        (Turn::Continue, Some(lane)) => lane,
        // Without a state row there is no epoch to go on in; verified together above.
        (Turn::Continue, None) => return Err(StoreError::Damaged("state: no row".into())),
        (Turn::Begin(number), _) => {
            let epoch = Epoch { number, node: boot.node, first: verified.tip.next() };
            begin(store, Lane { epoch, tip: verified.tip }, boot)?
        }
    };
    Ok(Ready { lane, requests, verified: length, rollback })
}

fn begin(store: &dyn Store, lane: Lane, boot: &Boot) -> Result<Lane, StoreError> {
    if let Err(error) = store.begin_epoch(&lane, &boot.mark) {
        // Its fate may be open; what is on disk decides.
        store.reopen()?;
        if store.state()? != Some(super::State::of(&lane)) {
            return Err(error);
        }
    }
    Ok(lane)
}

/// The epochs with their marks.
///
/// # Errors
/// Any [`StoreError`].
pub fn past(store: &dyn Store) -> Result<Vec<Past>, StoreError> {
    let marks: HashMap<u64, Mark> = store.marks()?.into_iter().collect();
    let past: Vec<Past> = store
        .epochs()?
        .into_iter()
        .map(|epoch| Past { epoch, mark: marks.get(&epoch.number).copied() })
        .collect();
    let joined = past.iter().filter(|past| past.mark.is_some()).count();
    if joined == marks.len() {
        Ok(past)
    } else {
        Err(StoreError::Damaged(format!("marks: {} for {joined} epochs", marks.len())))
    }
}

fn in_memory(boot: &Boot, diagnostics: Vec<Diagnostic>) -> Result<Opened, StoreError> {
    let store: Shared =
        Arc::new(Database::open(Box::new(|| Ok(Box::new(Memory::default()))), false)?);
    let ready = prepare(&*store, boot, None, &mut |_, _| {})?;
    Ok(Opened {
        store,
        lane: ready.lane,
        requests: ready.requests,
        verified: 0,
        volatile: true,
        witness: None,
        rollback: ready.rollback,
        diagnostics,
    })
}

/// The backend for a file; also used by `verify`.
#[must_use]
pub fn file(path: &Path) -> OpenBackend {
    let path = path.to_owned();
    Box::new(move || {
        let file = fs::OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)?;
        let backend = FileBackend::new(file).map_err(io::Error::other)?;
        Ok(Box::new(backend))
    })
}

/// Renames the database to the next free name and keeps the newest [`DAMAGED_MAX`].
fn set_aside(dir: &Path, why: &str) -> Result<Diagnostic, StoreError> {
    let prefix = format!("{DATABASE}.damaged-");
    let mut kept: Vec<u64> = fs::read_dir(dir)
        .map_err(|error| io_error(&error))?
        .filter_map(|entry| {
            let name = entry.ok()?.file_name();
            name.to_str()?.strip_prefix(&prefix)?.parse().ok()
        })
        .collect();
    kept.sort_unstable();
    let next = kept.last().map_or(1, |last| last.saturating_add(1));
    let name = format!("{prefix}{next}");
    fs::rename(dir.join(DATABASE), dir.join(&name)).map_err(|error| io_error(&error))?;
    sync_dir(dir)?;
    let mut cause = format!("damaged ({why}), kept as {name}; a new epoch begins at block 0");
    let over = (kept.len() + 1).saturating_sub(DAMAGED_MAX);
    for oldest in kept.iter().take(over) {
        let oldest = format!("{prefix}{oldest}");
        remove(&dir.join(&oldest))?;
        cause.push_str(&format!("; {oldest} made room"));
    }
    Ok(code::diagnostic(
        code::DAMAGED,
        Severity::Critical,
        DATABASE,
        cause,
        "copy the kept file off the box for examination and check the state disk",
    ))
}

fn not_damage(note: &Diagnostic) -> bool {
    note.code != code::DAMAGED
}

fn missing(path: &Path) -> Diagnostic {
    code::diagnostic(
        code::MISSING,
        Severity::Critical,
        &path.display().to_string(),
        "is gone although blocks had been acknowledged; a new epoch begins at block 0".into(),
        "find out who removed it; restore it from a copy with the ledger stopped",
    )
}

fn on_tmpfs(dir: &Path) -> Diagnostic {
    code::diagnostic(
        code::VOLATILE,
        Severity::Warn,
        &dir.display().to_string(),
        "is in memory, blocks are lost at power off".into(),
        "give the box a state partition",
    )
}

fn memory_only(dir: &Path, error: &StoreError) -> Diagnostic {
    let code = match error {
        StoreError::Newer(_) => code::NEWER_FORMAT,
        _ => code::MEMORY_ONLY,
    };
    code::diagnostic(
        code,
        Severity::Critical,
        &dir.display().to_string(),
        format!("can't be used ({error}); blocks are kept in memory until the next restart"),
        "check the state disk and restart the box; what is on it was not touched",
    )
}

/// Whether `path` is on a file system in memory.
///
/// # Errors
/// Those of the file system.
pub fn is_in_memory(path: &Path) -> io::Result<bool> {
    let magic = rustix::fs::statfs(path)?.f_type as u64;
    Ok(matches!(magic, TMPFS_MAGIC | RAMFS_MAGIC))
}

fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    fs::File::open(dir).and_then(|dir| dir.sync_all()).map_err(|error| io_error(&error))
}

fn remove(path: &Path) -> Result<(), StoreError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(&error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn io_error(error: &io::Error) -> StoreError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full,
        _ => StoreError::Io(error.to_string()),
    }
}
