//! A file that is only read: what is written to it stays in memory.
//!
//! Lets `verify` run the storage engine's own recovery on evidence without changing it. Holds the
//! pages that the recovery writes, a few hundred at most.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fs::File,
    io::{self, ErrorKind},
    os::unix::fs::FileExt,
    sync::{Mutex, MutexGuard, PoisonError},
};

use redb::StorageBackend;

const PAGE: usize = 4096;

/// A read-only file with writes on top.
#[derive(Debug)]
pub struct Overlay {
    file: File,
    file_len: u64,
    top: Mutex<Top>,
}

#[derive(Debug)]
struct Top {
    len: u64,
    pages: BTreeMap<u64, Box<[u8; PAGE]>>,
}

impl Overlay {
    /// Over `file`.
    ///
    /// # Errors
    /// Those of the file system.
    pub fn new(file: File) -> io::Result<Self> {
        let file_len = file.metadata()?.len();
        Ok(Self { file, file_len, top: Mutex::new(Top { len: file_len, pages: BTreeMap::new() }) })
    }

    fn top(&self) -> MutexGuard<'_, Top> {
        self.top.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The page as the file has it, zeros behind its end.
    fn page_of_file(&self, page: u64) -> io::Result<Box<[u8; PAGE]>> {
        let mut bytes = Box::new([0; PAGE]);
        let start = page * PAGE as u64;
        let there = usize::try_from(self.file_len.saturating_sub(start)).unwrap_or(PAGE);
        if let Some(part) = bytes.get_mut(..there.min(PAGE)) {
            self.file.read_exact_at(part, start)?;
        }
        Ok(bytes)
    }

    /// Calls `work` for every piece of `offset..offset + length`: page, offset in it, offset in the
    /// caller's slice, length.
    fn pieces(
        offset: u64,
        length: usize,
        mut work: impl FnMut(u64, usize, usize, usize) -> io::Result<()>,
    ) -> io::Result<()> {
        let mut done = 0;
        while done < length {
            let at = offset + done as u64;
            let inside = usize::try_from(at % PAGE as u64).unwrap_or(0);
            let count = (PAGE - inside).min(length - done);
            work(at / PAGE as u64, inside, done, count)?;
            done += count;
        }
        Ok(())
    }
}

fn short() -> io::Error {
    ErrorKind::UnexpectedEof.into()
}

impl StorageBackend for Overlay {
    fn len(&self) -> io::Result<u64> {
        Ok(self.top().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let top = self.top();
        let end = offset.checked_add(out.len() as u64).ok_or_else(short)?;
        if end > top.len {
            return Err(short());
        }
        Self::pieces(offset, out.len(), |page, inside, done, count| {
            let fresh;
            let bytes = match top.pages.get(&page) {
                Some(bytes) => bytes,
                None => {
                    fresh = self.page_of_file(page)?;
                    &fresh
                }
            };
            let from = bytes.get(inside..inside + count).ok_or_else(short)?;
            out.get_mut(done..done + count).ok_or_else(short)?.copy_from_slice(from);
            Ok(())
        })
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.top().len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut top = self.top();
        Self::pieces(offset, data.len(), |page, inside, done, count| {
            let bytes = match top.pages.entry(page) {
                Entry::Occupied(there) => there.into_mut(),
                Entry::Vacant(free) => free.insert(self.page_of_file(page)?),
            };
            let from = data.get(done..done + count).ok_or_else(short)?;
            bytes.get_mut(inside..inside + count).ok_or_else(short)?.copy_from_slice(from);
            Ok(())
        })
    }
}
