//! A generation of a draft: a sparse data file in the disk's own addresses and its state log.
//!
//! A draft writes to one generation, the active one. A checkpoint freezes it and opens the next
//! above it; the frozen one's data file becomes the checkpoint's layer.

use super::blocks::{BlockTable, ChunkEntry};
use super::log::{self, BatchPlace, HEADER_BYTES, LogName, RECORD_BYTES, encode_batch, encode_header};
use crate::durable;
use crate::files::{Files, OpenFile};
use model::DiskSize;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};

/// A log is written anew when it has twice the records that it began with and this many more: 2 MiB,
/// by eye.
const SPARE_RECORDS: u32 = 65_536;

/// One generation, open.
#[derive(Debug)]
pub(crate) struct Generation {
    pub(crate) number: u64,
    pub(crate) data: Arc<dyn OpenFile>,
    pub(crate) table: BlockTable,
    /// Something was written to the data file since its last sync.
    pub(crate) data_unsynced: AtomicBool,
    /// Blocks whose bytes are in the data file.
    pub(crate) data_blocks: AtomicI64,
    paths: Paths,
    log: Mutex<Log>,
}

/// Where a generation's files lie.
#[derive(Clone, Debug)]
struct Paths {
    directory: PathBuf,
    name: LogName,
}

#[derive(Debug)]
struct Log {
    file: Arc<dyn OpenFile>,
    next: BatchPlace,
    /// The records that the log had when it was begun or last written anew.
    began_with: u32,
}

/// Why a flush confirmed nothing.
#[derive(Debug)]
pub(crate) enum FlushError {
    /// Nothing is lost; another flush may succeed.
    NotWritten(io::Error),
    /// What is on the disk is not known any more.
    Unknown(String),
}

/// Why a generation cannot be opened.
pub(crate) enum OpenError {
    Damaged(String),
    Io(io::Error),
}

impl From<io::Error> for OpenError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::NotFound => Self::Damaged("a file of a generation is missing".into()),
            _ => Self::Io(error),
        }
    }
}

/// The path of a generation's data file.
pub(crate) fn data_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number}.data"))
}

/// The path of a generation's log.
pub(crate) fn log_path(directory: &Path, number: u64) -> PathBuf {
    directory.join(format!("{number}.log"))
}

impl Generation {
    /// Makes the files of an empty generation durable, all but their directory entries.
    pub(crate) fn create(files: &dyn Files, directory: &Path, name: LogName) -> io::Result<Self> {
        let data = files.create_file(&data_path(directory, name.generation))?;
        data.set_len(name.size.bytes())?;
        data.sync()?;
        let file = files.create_file(&log_path(directory, name.generation))?;
        file.write_all_at(&encode_header(name), 0)?;
        file.sync()?;
        let log = Log { file, next: BatchPlace { batch: 1, start: 0 }, began_with: 0 };
        Ok(Self::new(directory, name, data, log))
    }

    /// Opens a generation as a crash left it: what the log confirms, and nothing that is only in
    /// the system's memory.
    pub(crate) fn open(files: &dyn Files, directory: &Path, name: LogName) -> Result<Self, OpenError> {
        let data = files.open_file(&data_path(directory, name.generation))?;
        let file = files.open_file(&log_path(directory, name.generation))?;
        for file in [&data, &file] {
            file.sync()?;
            file.forget_cached();
        }
        let len = data.length()?;
        if len != name.size.bytes() {
            let reason = format!("data file {} has {len} bytes", name.generation);
            return Err(OpenError::Damaged(reason));
        }
        let replay =
            log::replay(name, &file.read_whole(log_limit(name.size))?).map_err(OpenError::Damaged)?;
        file.set_len(HEADER_BYTES + u64::from(replay.next.start) * RECORD_BYTES)?;
        file.sync()?;
        let log = Log { file, next: replay.next, began_with: 0 };
        let generation = Self::new(directory, name, data, log);
        let blocks = generation.table.load(replay.states);
        generation.data_blocks.store(blocks as i64, Ordering::Relaxed);
        Ok(generation)
    }

    fn new(directory: &Path, name: LogName, data: Arc<dyn OpenFile>, log: Log) -> Self {
        Self {
            number: name.generation,
            data,
            table: BlockTable::new(),
            data_unsynced: AtomicBool::new(false),
            data_blocks: AtomicI64::new(0),
            paths: Paths { directory: directory.to_owned(), name },
            log: Mutex::new(log),
        }
    }

    /// Makes everything written before this call durable: first the data, then the log that says
    /// that it is there.
    pub(crate) fn flush(&self, files: &dyn Files) -> Result<(), FlushError> {
        let mut log = self.log.lock().expect("no thread panics while it holds the log");
        // States are taken before the data is synced: a state is set only after its bytes are
        // written, so the sync covers the bytes of every state taken here.
        let mut entries = self.table.take_unlogged();
        let anew = !entries.is_empty() && log.is_long();
        if anew {
            entries = self.table.entries();
        }
        if self.data_unsynced.swap(false, Ordering::AcqRel) {
            self.data.sync().map_err(|error| FlushError::Unknown(error.to_string()))?;
        }
        let written = match (anew, entries.is_empty()) {
            (_, true) => Ok(()),
            (true, _) => log.write_anew(files, &self.paths, &entries),
            (false, _) => log.append(self.paths.name, &entries),
        };
        if let Err(FlushError::NotWritten(_)) = &written {
            self.table.still_unlogged(&entries);
        }
        written
    }
}

impl Log {
    fn is_long(&self) -> bool {
        self.next.start > self.began_with.saturating_mul(2).saturating_add(SPARE_RECORDS)
    }

    fn append(&mut self, name: LogName, entries: &[ChunkEntry]) -> Result<(), FlushError> {
        let bytes = encode_batch(name, self.next, entries);
        let at = HEADER_BYTES + u64::from(self.next.start) * RECORD_BYTES;
        // A batch that fails half-way is followed by one with a larger number at the same place.
        self.next.batch += 1;
        self.file.write_all_at(&bytes, at).map_err(FlushError::NotWritten)?;
        self.file.sync().map_err(|error| FlushError::Unknown(error.to_string()))?;
        self.next.start += (bytes.len() as u64 / RECORD_BYTES) as u32;
        Ok(())
    }

    /// Replaces the log by one that has only what is still true.
    fn write_anew(
        &mut self,
        files: &dyn Files,
        paths: &Paths,
        entries: &[ChunkEntry],
    ) -> Result<(), FlushError> {
        let path = log_path(&paths.directory, paths.name.generation);
        let new = path.with_extension("log.new");
        let place = BatchPlace { batch: 1, start: 0 };
        let batch = encode_batch(paths.name, place, entries);
        let write = || {
            match files.remove_file(&new) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            let file = files.create_file(&new)?;
            file.write_all_at(&encode_header(paths.name), 0)?;
            file.write_all_at(&batch, HEADER_BYTES)?;
            file.sync()?;
            Ok(file)
        };
        let file = write().map_err(FlushError::NotWritten)?;
        durable::publish(files, &new, &path).map_err(|error| FlushError::Unknown(error.to_string()))?;
        let records = (batch.len() as u64 / RECORD_BYTES) as u32;
        *self = Self { file, next: BatchPlace { batch: 2, start: records }, began_with: records };
        Ok(())
    }
}

/// The longest log in bytes that a disk of this size can have: every second block on its own, the
/// slack between two rewritings, and one more batch.
fn log_limit(size: DiskSize) -> u64 {
    let blocks = u64::from(size.chunk_count()) * 16;
    HEADER_BYTES + (4 * blocks + 2 * u64::from(SPARE_RECORDS)) * RECORD_BYTES
}
