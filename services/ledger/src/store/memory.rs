//! A bounded disk in memory, for a box whose state directory can't be used.

use std::{
    io::{self, ErrorKind},
    sync::{Mutex, PoisonError},
};

use redb::StorageBackend;

/// Largest database in memory: the service may use 96 MiB for everything.
pub const MEMORY_BYTES_MAX: u64 = 32 * 1024 * 1024;

/// Bytes that end with the process.
#[derive(Debug, Default)]
pub struct Memory(Mutex<Vec<u8>>);

impl Memory {
    fn with<T>(&self, work: impl FnOnce(&mut Vec<u8>) -> io::Result<T>) -> io::Result<T> {
        work(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// `offset..offset + length`, checked.
fn range(offset: u64, length: usize) -> io::Result<std::ops::Range<usize>> {
    let start = usize::try_from(offset).map_err(|_| ErrorKind::InvalidInput)?;
    let end = start.checked_add(length).ok_or(ErrorKind::InvalidInput)?;
    Ok(start..end)
}

impl StorageBackend for Memory {
    fn len(&self) -> io::Result<u64> {
        self.with(|bytes| Ok(bytes.len() as u64))
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let range = range(offset, out.len())?;
        self.with(|bytes| {
            out.copy_from_slice(bytes.get(range).ok_or(ErrorKind::UnexpectedEof)?);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        if len > MEMORY_BYTES_MAX {
            return Err(ErrorKind::StorageFull.into());
        }
        let len = usize::try_from(len).map_err(|_| ErrorKind::StorageFull)?;
        self.with(|bytes| {
            bytes.resize(len, 0);
            Ok(())
        })
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let range = range(offset, data.len())?;
        self.with(|bytes| {
            bytes.get_mut(range).ok_or(ErrorKind::UnexpectedEof)?.copy_from_slice(data);
            Ok(())
        })
    }
}
