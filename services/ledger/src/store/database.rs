//! The store over redb.
//!
//! ```text
//! blocks    seq -> block          payloads  seq -> payload        (bytes: see [`super::rows`])
//! requests  seq -> request id     epochs    number -> epoch
//! state     "state" -> state               marks     number of the epoch -> mark
//! ```
//!
//! Every write is one transaction with two-phase commit and the allocator state saved
//! (quick repair), durable when the call returns. The key of `requests` is the block that the
//! request became, so the oldest are those with the smallest key. What is read is checked: a
//! value that does not decode, or not to the bytes it came from, is damage. `marks` came later: an
//! older version of this program does not see it and leaves its epochs without.
//!
//! What must never happen here: a panic of the storage engine that ends the process in a loop
//! (see [`super::guard`]), a lock held while waiting for anything but the disk.

use std::{
    fmt,
    io::ErrorKind,
    sync::{PoisonError, RwLock, RwLockReadGuard},
};

use hookprobe_wire::{
    Hash, Seq,
    ledger::{Record, RequestId},
};
use redb::{
    Builder, CommitError, Durability, ReadTransaction, ReadableDatabase, ReadableTable,
    StorageBackend, StorageError, TableDefinition, TableError, TransactionError, WriteTransaction,
};

use super::{
    CHUNK_BLOCKS_MAX, CHUNK_BYTES_MAX, Entry, State, Store, StoreError, guard,
    rows::{self, EPOCH_BYTES, MARK_BYTES},
};
use crate::{
    appender::REQUESTS_MAX,
    chain::{Epoch, Lane},
    epoch::Mark,
};

const BLOCKS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("blocks");
const PAYLOADS: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("payloads");
const REQUESTS: TableDefinition<'static, u64, &[u8; 16]> = TableDefinition::new("requests");
const EPOCHS: TableDefinition<'static, u64, &[u8; EPOCH_BYTES]> = TableDefinition::new("epochs");
const MARKS: TableDefinition<'static, u64, &[u8; MARK_BYTES]> = TableDefinition::new("marks");
const STATE: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("state");
const STATE_ROW: &str = "state";

/// Memory that redb may use for pages: the tail of the tables and their inner nodes fit many times,
/// and the service has 96 MiB for everything.
const CACHE_BYTES: usize = 8 * 1024 * 1024;

/// Opens the storage under the database; called again by every reopen.
pub type OpenBackend = Box<dyn Fn() -> std::io::Result<Box<dyn StorageBackend>> + Send + Sync>;

/// A store over redb.
pub struct Database {
    backend: OpenBackend,
    /// None between a failed write and a successful reopen.
    open: RwLock<Option<redb::Database>>,
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Database(redb)")
    }
}

/// redb wants a type, we have a box.
#[derive(Debug)]
struct Boxed(Box<dyn StorageBackend>);

impl StorageBackend for Boxed {
    fn len(&self) -> Result<u64, std::io::Error> {
        self.0.len()
    }
    fn read(&self, offset: u64, out: &mut [u8]) -> Result<(), std::io::Error> {
        self.0.read(offset, out)
    }
    fn set_len(&self, len: u64) -> Result<(), std::io::Error> {
        self.0.set_len(len)
    }
    fn sync_data(&self) -> Result<(), std::io::Error> {
        self.0.sync_data()
    }
    fn write(&self, offset: u64, data: &[u8]) -> Result<(), std::io::Error> {
        self.0.write(offset, data)
    }
    fn close(&self) -> Result<(), std::io::Error> {
        self.0.close()
    }
    fn try_lock_range(
        &self,
        start: std::ops::Bound<u64>,
        end: std::ops::Bound<u64>,
    ) -> Result<bool, redb::BackendError> {
        self.0.try_lock_range(start, end)
    }
    fn unlock_range(
        &self,
        start: std::ops::Bound<u64>,
        end: std::ops::Bound<u64>,
    ) -> Result<(), redb::BackendError> {
        self.0.unlock_range(start, end)
    }
    fn query_lock_range(
        &self,
        start: std::ops::Bound<u64>,
        end: std::ops::Bound<u64>,
    ) -> Result<bool, redb::BackendError> {
        self.0.query_lock_range(start, end)
    }
}

impl Database {
    /// Opens or makes a database. With `check`, every page's checksum is verified first.
    ///
    /// # Errors
    /// Any [`StoreError`].
    pub fn open(backend: OpenBackend, check: bool) -> Result<Self, StoreError> {
        let database = open_redb(&backend, check)?;
        Ok(Self { backend, open: RwLock::new(Some(database)) })
    }

    fn opened(&self) -> RwLockReadGuard<'_, Option<redb::Database>> {
        // A panic while it was held is caught by the guard; the value is an Option and whole.
        self.open.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_with<T>(
        &self,
        work: impl FnOnce(&ReadTransaction) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let open = self.opened();
        let database = open.as_ref().ok_or_else(closed)?;
        guard::run(|| work(&database.begin_read().map_err(transaction_error)?))
    }

    fn write_with(
        &self,
        work: impl FnOnce(&WriteTransaction) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let open = self.opened();
        let database = open.as_ref().ok_or_else(closed)?;
        guard::run(|| {
            let mut transaction = database.begin_write().map_err(transaction_error)?;
            transaction.set_two_phase_commit(true);
            transaction.set_quick_repair(true);
            transaction
                .set_durability(Durability::Immediate)
                .map_err(|error| StoreError::Io(error.to_string()))?;
            work(&transaction)?;
            transaction.commit().map_err(|error| match error {
                CommitError::Storage(storage) => storage_error(storage),
                other => StoreError::Io(other.to_string()),
            })
        })
    }
}

fn open_redb(backend: &OpenBackend, check: bool) -> Result<redb::Database, StoreError> {
    let backend = backend().map_err(|error| storage_error(StorageError::Io(error)))?;
    guard::run(|| {
        Builder::new()
            .set_cache_size(CACHE_BYTES)
            .set_check_integrity_on_open(check)
            .create_with_backend(Boxed(backend))
            .map_err(|error| match error {
                redb::DatabaseError::DatabaseAlreadyOpen => StoreError::Busy,
                redb::DatabaseError::Storage(storage) => storage_error(storage),
                other => StoreError::Damaged(other.to_string()),
            })
    })
}

impl Store for Database {
    fn state(&self) -> Result<Option<State>, StoreError> {
        self.read_with(|transaction| {
            let Some(table) = existing(transaction.open_table(STATE))? else {
                return Ok(None);
            };
            let Some(row) = table.get(STATE_ROW).map_err(storage_error)? else {
                return Ok(None);
            };
            rows::state(row.value()).map(Some)
        })
    }

    fn epochs(&self) -> Result<Vec<Epoch>, StoreError> {
        self.read_with(|transaction| {
            let Some(table) = existing(transaction.open_table(EPOCHS))? else {
                return Ok(Vec::new());
            };
            let mut epochs = Vec::new();
            for row in table.iter().map_err(storage_error)? {
                let (number, value) = row.map_err(storage_error)?;
                epochs.push(rows::epoch(number.value(), value.value())?);
            }
            Ok(epochs)
        })
    }

    fn marks(&self) -> Result<Vec<(u64, Mark)>, StoreError> {
        self.read_with(|transaction| {
            let Some(table) = existing(transaction.open_table(MARKS))? else {
                return Ok(Vec::new());
            };
            let mut marks = Vec::new();
            for row in table.iter().map_err(storage_error)? {
                let (number, value) = row.map_err(storage_error)?;
                marks.push((number.value(), rows::mark(value.value())?));
            }
            Ok(marks)
        })
    }

    fn requests(&self) -> Result<Vec<(RequestId, Seq, Hash)>, StoreError> {
        self.read_with(|transaction| {
            let (Some(requests), Some(blocks)) = (
                existing(transaction.open_table(REQUESTS))?,
                existing(transaction.open_table(BLOCKS))?,
            ) else {
                return Ok(Vec::new());
            };
            let mut found = Vec::new();
            for row in requests.iter().map_err(storage_error)? {
                let (seq, id) = row.map_err(storage_error)?;
                let seq = seq.value();
                let Some(block) = blocks.get(seq).map_err(storage_error)? else {
                    return Err(StoreError::Damaged(format!("request of block {seq}: no block")));
                };
                let block = rows::block(block.value())?;
                found.push((RequestId((*id.value()).into()), Seq(seq), block.hash()));
            }
            Ok(found)
        })
    }

    fn read(&self, from: Seq) -> Result<Vec<Record>, StoreError> {
        self.read_with(|transaction| {
            let (Some(blocks), Some(payloads)) = (
                existing(transaction.open_table(BLOCKS))?,
                existing(transaction.open_table(PAYLOADS))?,
            ) else {
                return Ok(Vec::new());
            };
            let mut records = Vec::new();
            let mut bytes = 0;
            for row in blocks.range(from.0..).map_err(storage_error)? {
                let (seq, block) = row.map_err(storage_error)?;
                let payload = payloads.get(seq.value()).map_err(storage_error)?;
                let payload = payload.map(|row| rows::payload(row.value())).transpose()?;
                let block = rows::block(block.value()).map_err(|error| {
                    StoreError::Damaged(format!("block {}: {error}", seq.value()))
                })?;
                bytes += payload.as_ref().map_or(0, |payload| payload.bytes.len());
                records.push(Record { hash: block.hash(), block, payload });
                if records.len() >= CHUNK_BLOCKS_MAX || bytes >= CHUNK_BYTES_MAX {
                    break;
                }
            }
            Ok(records)
        })
    }

    fn begin_epoch(&self, lane: &Lane, mark: &Mark) -> Result<(), StoreError> {
        self.write_with(|transaction| {
            let row = rows::from_epoch(&lane.epoch);
            let mut epochs = transaction.open_table(EPOCHS).map_err(table_error)?;
            epochs.insert(lane.epoch.number, &row).map_err(storage_error)?;
            let row = rows::from_mark(mark);
            let mut marks = transaction.open_table(MARKS).map_err(table_error)?;
            marks.insert(lane.epoch.number, &row).map_err(storage_error)?;
            put_state(transaction, lane)
        })
    }

    fn commit(&self, entries: &[Entry], after: &Lane) -> Result<(), StoreError> {
        self.write_with(|transaction| {
            let mut blocks = transaction.open_table(BLOCKS).map_err(table_error)?;
            let mut payloads = transaction.open_table(PAYLOADS).map_err(table_error)?;
            let mut requests = transaction.open_table(REQUESTS).map_err(table_error)?;
            for entry in entries {
                let seq = entry.record.block.header.seq.0;
                let block = rows::from_block(&entry.record.block);
                blocks.insert(seq, block.as_slice()).map_err(storage_error)?;
                if let Some(payload) = &entry.record.payload {
                    let payload = rows::from_payload(payload);
                    payloads.insert(seq, payload.as_slice()).map_err(storage_error)?;
                }
                requests.insert(seq, &*entry.id.0).map_err(storage_error)?;
                if let Some(oldest) = seq.checked_sub(REQUESTS_MAX) {
                    requests.remove(oldest).map_err(storage_error)?;
                }
            }
            put_state(transaction, after)
        })
    }

    fn reopen(&self) -> Result<(), StoreError> {
        let mut open = self.open.write().unwrap_or_else(PoisonError::into_inner);
        // Closed before it is opened again: the lock on the file is per open.
        guard::run(|| {
            drop(open.take());
            Ok(())
        })?;
        *open = Some(open_redb(&self.backend, false)?);
        Ok(())
    }
}

fn put_state(transaction: &WriteTransaction, lane: &Lane) -> Result<(), StoreError> {
    let row = rows::from_state(&State::of(lane));
    let mut state = transaction.open_table(STATE).map_err(table_error)?;
    state.insert(STATE_ROW, row.as_slice()).map_err(storage_error)?;
    Ok(())
}

fn closed() -> StoreError {
    StoreError::Io("the database is closed after a failed write".into())
}

/// A table that was never written is no table.
fn existing<T>(table: Result<T, TableError>) -> Result<Option<T>, StoreError> {
    match table {
        Ok(table) => Ok(Some(table)),
        Err(TableError::TableDoesNotExist(_)) => Ok(None),
        Err(other) => Err(table_error(other)),
    }
}

fn table_error(error: TableError) -> StoreError {
    match error {
        TableError::Storage(storage) => storage_error(storage),
        other => StoreError::Damaged(other.to_string()),
    }
}

fn transaction_error(error: TransactionError) -> StoreError {
    match error {
        TransactionError::Storage(storage) => storage_error(storage),
        other => StoreError::Io(other.to_string()),
    }
}

fn storage_error(error: StorageError) -> StoreError {
    match error {
        StorageError::Corrupted(what) => StoreError::Damaged(what),
        StorageError::Io(error) => match error.kind() {
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => StoreError::Full,
            // "not a database" and a file shorter than its header says.
            ErrorKind::InvalidData | ErrorKind::UnexpectedEof => {
                StoreError::Damaged(error.to_string())
            }
            _ => StoreError::Io(error.to_string()),
        },
        other => StoreError::Io(other.to_string()),
    }
}
