//! A database file that is looked at and never changed: what redb writes while it opens one (the repair after a
//! crash) stays in memory. The locks are real, so a file that a running process holds is refused.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::Bound;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use redb::backends::FileBackend;
use redb::{BackendError, StorageBackend};

/// Written memory is kept in blocks of this size; redb writes pages of at least as much.
const BLOCK_BYTES: u64 = 4096;

/// See the module.
#[derive(Debug)]
pub struct CopyOnWrite {
    file: FileBackend,
    written: Mutex<Written>,
}

#[derive(Debug)]
struct Written {
    len: u64,
    /// Where the file still counts; a cut file that grows again reads as zeros beyond.
    file_len: u64,
    blocks: HashMap<u64, Vec<u8>>,
}

impl CopyOnWrite {
    /// Opens the file for reading.
    ///
    /// # Errors
    /// The disk's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = FileBackend::new(File::open(path)?).map_err(io::Error::other)?;
        let len = file.len()?;
        let written = Mutex::new(Written { len, file_len: len, blocks: HashMap::new() });
        Ok(Self { file, written })
    }

    fn written(&self) -> MutexGuard<'_, Written> {
        self.written.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The block as it is now, from memory or from the file.
    fn block(&self, written: &Written, number: u64) -> io::Result<Vec<u8>> {
        if let Some(block) = written.blocks.get(&number) {
            return Ok(block.clone());
        }
        let mut block = vec![0; size(BLOCK_BYTES)?];
        let start = number * BLOCK_BYTES;
        let there = written.file_len.saturating_sub(start).min(BLOCK_BYTES);
        self.file.read(start, &mut block[..size(there)?])?;
        Ok(block)
    }
}

impl StorageBackend for CopyOnWrite {
    fn len(&self) -> io::Result<u64> {
        Ok(self.written().len)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let written = self.written();
        let end = offset.saturating_add(out.len() as u64);
        if end > written.len {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut at = offset;
        while at < end {
            let (number, inside) = (at / BLOCK_BYTES, at % BLOCK_BYTES);
            let count = (BLOCK_BYTES - inside).min(end - at);
            let block = self.block(&written, number)?;
            let to = size(at - offset)?;
            let from = size(inside)?;
            out[to..to + size(count)?].copy_from_slice(&block[from..from + size(count)?]);
            at += count;
        }
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        let mut written = self.written();
        if len < written.len {
            written.file_len = written.file_len.min(len);
            written.blocks.retain(|&number, _| number * BLOCK_BYTES < len);
            if let Some(last) = written.blocks.get_mut(&(len / BLOCK_BYTES)) {
                last[size(len % BLOCK_BYTES)?..].fill(0);
            }
        }
        written.len = len;
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        Ok(())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        let mut written = self.written();
        let end = offset.saturating_add(data.len() as u64);
        let mut at = offset;
        while at < end {
            let (number, inside) = (at / BLOCK_BYTES, size(at % BLOCK_BYTES)?);
            let count = size((BLOCK_BYTES - at % BLOCK_BYTES).min(end - at))?;
            let mut block = self.block(&written, number)?;
            let from = size(at - offset)?;
            block[inside..inside + count].copy_from_slice(&data[from..from + count]);
            written.blocks.insert(number, block);
            at += count as u64;
        }
        written.len = written.len.max(end);
        Ok(())
    }

    /// Shared: enough to notice a writer, and all that a file open for reading may ask for.
    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.try_lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.file.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.file.query_lock_range(start, end)
    }

    fn close(&self) -> io::Result<()> {
        self.file.close()
    }
}

fn size(bytes: u64) -> io::Result<usize> {
    usize::try_from(bytes).map_err(io::Error::other)
}
