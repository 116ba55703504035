//! Completing and hashing the chunks of a frozen generation, on all cores.

use super::{CheckpointObserver, DraftError, file_error, inside};
use crate::draft::blocks::{BLOCK_BYTES, BlockState, ChunkBlocks, ChunkEntry};
use crate::files::OpenFile;
use crate::version::StoredVersion;
use model::{CHUNK_SIZE, ChunkHash};
use std::num::NonZeroUsize;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

/// Chunks that a thread takes at once: 1 MiB.
const BATCH: usize = 16;

/// What became of a touched chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is what it was in the version below.
    Unchanged,
    /// It reads as zero; nothing is stored.
    Zero,
    /// Its bytes, all of them, are in the data file.
    Stored(ChunkHash),
}

impl Outcome {
    /// The chunk's name in the manifest; of changed ones only.
    pub(super) fn hash(self) -> ChunkHash {
        match self {
            Self::Stored(hash) => hash,
            Self::Zero => ChunkHash::ZERO,
            Self::Unchanged => unreachable!("unchanged chunks are left out"),
        }
    }
}

/// What became of all touched chunks, in the order that they were given in.
#[derive(Debug)]
pub(super) struct Completed {
    pub(super) outcomes: Vec<Outcome>,
    pub(super) bytes_read: u64,
    pub(super) bytes_written: u64,
}

impl Completed {
    pub(super) fn changed(&self) -> u32 {
        self.outcomes.iter().filter(|outcome| **outcome != Outcome::Unchanged).count() as u32
    }
}

/// What the threads share.
struct Work<'a> {
    data: &'a dyn OpenFile,
    entries: &'a [ChunkEntry],
    parent: &'a StoredVersion,
    next: AtomicUsize,
    bytes_read: AtomicU64,
    bytes_written: AtomicU64,
    stop: AtomicBool,
}

/// Completes in `data` what only a part was written of, and hashes everything.
pub(super) fn chunks(
    data: &dyn OpenFile,
    entries: &[ChunkEntry],
    parent: &StoredVersion,
    observer: &dyn CheckpointObserver,
) -> Result<Completed, DraftError> {
    let work = Work {
        data,
        entries,
        parent,
        next: AtomicUsize::new(0),
        bytes_read: AtomicU64::new(0),
        bytes_written: AtomicU64::new(0),
        stop: AtomicBool::new(false),
    };
    let outcomes = Mutex::new(vec![Outcome::Unchanged; entries.len()]);
    let threads = std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN).get();
    let threads = threads.min(entries.len().div_ceil(BATCH)).max(1);
    std::thread::scope(|scope| {
        let worker = || work.run(&outcomes, observer);
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(worker)).collect();
        let mut result = worker();
        for other in others {
            result = result.and(other.join().expect("a worker does not panic"));
        }
        result
    })?;
    Ok(Completed {
        outcomes: outcomes.into_inner().expect("no worker panics"),
        bytes_read: work.bytes_read.into_inner(),
        bytes_written: work.bytes_written.into_inner(),
    })
}

impl Work<'_> {
    /// Takes batches until there are none, or until a thread failed.
    fn run(
        &self,
        outcomes: &Mutex<Vec<Outcome>>,
        observer: &dyn CheckpointObserver,
    ) -> Result<(), DraftError> {
        let mut chunk = Chunk { bytes: vec![0; CHUNK_SIZE as usize], below: vec![0; CHUNK_SIZE as usize] };
        let total = self.entries.len() as u64 * u64::from(CHUNK_SIZE);
        while !self.stop.load(Ordering::Relaxed) {
            if observer.cancelled() {
                self.stop.store(true, Ordering::Relaxed);
                return Err(DraftError::Cancelled);
            }
            let first = self.next.fetch_add(BATCH, Ordering::Relaxed);
            if first >= self.entries.len() {
                break;
            }
            let last = (first + BATCH).min(self.entries.len());
            for at in first..last {
                let outcome = self.complete(self.entries[at], &mut chunk);
                let outcome = outcome.inspect_err(|_| self.stop.store(true, Ordering::Relaxed))?;
                outcomes.lock().expect("no worker panics")[at] = outcome;
            }
            observer.progress((last as u64 * u64::from(CHUNK_SIZE)).min(total), total);
        }
        Ok(())
    }

    fn complete(&self, entry: ChunkEntry, buffers: &mut Chunk) -> Result<Outcome, DraftError> {
        let (chunk, blocks) = entry;
        self.gather(entry, buffers)?;
        let hash = ChunkHash::of(&buffers.bytes);
        if hash == self.parent.chunk_hash(chunk)? {
            return Ok(Outcome::Unchanged);
        }
        if hash == ChunkHash::ZERO {
            self.make_zero(entry, 0, CHUNK_SIZE)?;
            return Ok(Outcome::Zero);
        }
        for (first, count, state) in blocks.runs() {
            let (from, len) = (first * BLOCK_BYTES, count * BLOCK_BYTES);
            match state {
                BlockState::Data => {}
                // A write that did not fit may have left bytes there.
                BlockState::Zero => self.make_zero(entry, from, len)?,
                BlockState::Below => self.write(entry, from, len, &buffers.bytes)?,
            }
        }
        Ok(Outcome::Stored(hash))
    }

    /// Puts the whole chunk together as the draft reads it, zero-padded past the disk's end.
    fn gather(&self, entry: ChunkEntry, buffers: &mut Chunk) -> Result<(), DraftError> {
        let (chunk, blocks) = entry;
        let len = self.parent.size().chunk_len(chunk);
        let states =
            |state| blocks.runs().any(|(first, _, found)| found == state && first * BLOCK_BYTES < len);
        if states(BlockState::Below) {
            self.parent.verify_chunk(chunk, &mut buffers.below)?;
            self.bytes_read.fetch_add(u64::from(len), Ordering::Relaxed);
        }
        if blocks != ChunkBlocks::ALL_DATA || len < CHUNK_SIZE {
            buffers.bytes.fill(0);
        }
        for (first, count, state) in blocks.runs() {
            let range = inside(self.parent.size(), chunk, first * BLOCK_BYTES, count * BLOCK_BYTES);
            let from = (first * BLOCK_BYTES) as usize;
            let place = from..from + range.len as usize;
            match state {
                BlockState::Zero => {}
                BlockState::Below => buffers.bytes[place.clone()].copy_from_slice(&buffers.below[place]),
                BlockState::Data => {
                    let read = self.data.read_exact_at(&mut buffers.bytes[place], range.offset);
                    read.map_err(file_error("cannot read the draft's data"))?;
                    self.bytes_read.fetch_add(range.len, Ordering::Relaxed);
                }
            }
        }
        Ok(())
    }

    fn make_zero(&self, (chunk, _): ChunkEntry, from: u32, len: u32) -> Result<(), DraftError> {
        let range = inside(self.parent.size(), chunk, from, len);
        match range.len {
            0 => Ok(()),
            len => {
                self.data.make_zero(range.offset, len).map_err(file_error("cannot write the draft's data"))
            }
        }
    }

    fn write(&self, (chunk, _): ChunkEntry, from: u32, len: u32, bytes: &[u8]) -> Result<(), DraftError> {
        let range = inside(self.parent.size(), chunk, from, len);
        let bytes = &bytes[from as usize..][..range.len as usize];
        let written = self.data.write_all_at(bytes, range.offset);
        written.map_err(file_error("cannot write the draft's data"))?;
        self.bytes_written.fetch_add(range.len, Ordering::Relaxed);
        Ok(())
    }
}

/// The memory of a thread.
struct Chunk {
    bytes: Vec<u8>,
    below: Vec<u8>,
}
