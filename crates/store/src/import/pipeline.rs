//! The threads of an import: units in, hashes to the collector, bytes to the data file.
//!
//! Memory is bounded by construction: a worker holds one unit, and a stream's reader is at most
//! two units for each worker ahead.

use super::collector::Collector;
use super::room::{Room, write_error};
use super::staging::{Collected, Staging};
use super::{ImportError, ImportObserver, ImportOptions, ImportPhase, ImportProgress};
use crate::aligned::AlignedBuffer;
use image::{ImageError, ImageReader, RunKind};
use model::{CHUNK_SIZE, ChunkHash, DiskSize};
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender, SyncSender};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// Chunks in a unit of work: 1 MiB fits the cache of a core and is a large write.
pub(crate) const UNIT_CHUNKS: u32 = 16;
/// Bytes in a unit of work.
const UNIT_BYTES: usize = UNIT_CHUNKS as usize * CHUNK_SIZE as usize;
/// How often the observer is asked and told.
const REPORT_EVERY: Duration = Duration::from_millis(100);
/// Units between two reports of a stream: 16 MiB.
const REPORT_UNITS: u32 = 16;
/// A stream's data file grows by this much at once, ahead of what is written, in bytes.
const GROWTH_BYTES: u64 = 1 << 30;

/// What the threads of one import share.
pub(crate) struct Work<'a> {
    staging: &'a Staging,
    room: Room,
    total_bytes: Option<u64>,
    collector: Mutex<Collector>,
    next_unit: AtomicU32,
    done_bytes: AtomicU64,
    data_bytes: AtomicU64,
    stop: AtomicBool,
}

/// The bytes of one unit; what lies past its length is zero.
struct Unit {
    number: u32,
    len: usize,
    buffer: AlignedBuffer,
}

impl Unit {
    fn new() -> Self {
        Self { number: 0, len: 0, buffer: AlignedBuffer::new(UNIT_BYTES) }
    }

    fn offset(&self) -> u64 {
        u64::from(self.number) * UNIT_BYTES as u64
    }

    /// The bytes that lie inside the disk, and zeros to the end of the last chunk.
    fn whole_chunks(&self) -> &[u8] {
        &self.buffer.bytes()[..self.len.next_multiple_of(CHUNK_SIZE as usize)]
    }
}

impl<'a> Work<'a> {
    pub(crate) fn new(
        staging: &'a Staging,
        room: Room,
        total_bytes: Option<u64>,
    ) -> Result<Self, ImportError> {
        let pack = staging.page_pack().map_err(|error| write_error(0, error))?;
        Ok(Self {
            staging,
            room,
            total_bytes,
            collector: Mutex::new(Collector::new(pack)),
            next_unit: AtomicU32::new(0),
            done_bytes: AtomicU64::new(0),
            data_bytes: AtomicU64::new(0),
            stop: AtomicBool::new(false),
        })
    }

    /// Hands over the results once all threads are gone.
    pub(crate) fn into_collected(self, observer: &dyn ImportObserver) -> Collected {
        observer.progress(self.progress(ImportPhase::Finishing));
        let data_bytes = self.data_bytes.into_inner();
        let collector = self.collector.into_inner().expect(NO_PANIC);
        Collected { collector, data_bytes }
    }

    fn progress(&self, phase: ImportPhase) -> ImportProgress {
        ImportProgress {
            phase,
            done_bytes: self.done_bytes.load(Ordering::Relaxed),
            total_bytes: self.total_bytes,
            data_bytes: self.data_bytes.load(Ordering::Relaxed),
        }
    }

    /// Tells the observer; says whether the import goes on.
    fn report(&self, observer: &dyn ImportObserver) -> Result<(), ImportError> {
        observer.progress(self.progress(ImportPhase::Copying));
        match observer.cancelled() {
            true => Err(ImportError::Cancelled),
            false => Ok(()),
        }
    }

    fn collector(&self) -> MutexGuard<'_, Collector> {
        self.collector.lock().expect(NO_PANIC)
    }

    /// Hashes the chunks of a unit and writes those that are not zero.
    fn store(&self, unit: &Unit) -> Result<(), ImportError> {
        let chunks = unit.whole_chunks().chunks_exact(CHUNK_SIZE as usize);
        let mut hashes = [ChunkHash::ZERO; UNIT_CHUNKS as usize];
        let mut count = 0;
        for (hash, chunk) in hashes.iter_mut().zip(chunks) {
            *hash = ChunkHash::of(chunk);
            count += 1;
        }
        let hashes = &hashes[..count];
        let written = self.write(unit, hashes)?;
        self.finish_unit(unit.number, unit.len as u64, hashes, written)
    }

    /// Writes the runs of chunks that are not zero; answers the bytes written.
    fn write(&self, unit: &Unit, hashes: &[ChunkHash]) -> Result<u64, ImportError> {
        let bytes = &unit.buffer.bytes()[..unit.len];
        let (mut at, mut written) = (0, 0);
        for run in hashes.chunk_by(|a, b| (*a == ChunkHash::ZERO) == (*b == ChunkHash::ZERO)) {
            let end = (at + run.len() * CHUNK_SIZE as usize).min(bytes.len());
            if run[0] != ChunkHash::ZERO {
                let done = self.data_bytes.load(Ordering::Relaxed);
                let write = self.staging.data().write(unit.offset() + at as u64, &bytes[at..end]);
                write.map_err(|error| write_error(done, error))?;
                written += (end - at) as u64;
            }
            at = end;
        }
        Ok(written)
    }

    fn finish_unit(
        &self,
        number: u32,
        len: u64,
        hashes: &[ChunkHash],
        written: u64,
    ) -> Result<(), ImportError> {
        let data_bytes = self.data_bytes.fetch_add(written, Ordering::Relaxed) + written;
        self.done_bytes.fetch_add(len, Ordering::Relaxed);
        self.collector().add(number, hashes).map_err(|error| write_error(data_bytes, error))?;
        self.room.check(data_bytes)
    }
}

const NO_PANIC: &str = "no thread panics while it holds the collector";

/// Copies an image with `options.threads` threads that each take the next unit of the disk.
pub(crate) fn copy_image(
    work: &Work<'_>,
    source: &dyn ImageReader,
    size: DiskSize,
    options: &ImportOptions,
    observer: &dyn ImportObserver,
) -> Result<(), ImportError> {
    let (results, ended) = mpsc::channel();
    std::thread::scope(|scope| {
        for _ in 0..options.threads.get() {
            let results = results.clone();
            scope.spawn(move || tell(work, &results, copy_units(work, source, size)));
        }
        drop(results);
        watch(work, &ended, observer)
    })
}

/// Sends a worker's result, and has the others stop where it is an error.
fn tell(work: &Work<'_>, results: &Sender<Result<(), ImportError>>, result: Result<(), ImportError>) {
    if result.is_err() {
        work.stop.store(true, Ordering::Relaxed);
    }
    // Nobody listens any more only where another worker's error came first.
    let _ = results.send(result);
}

/// Reports until all workers have ended; answers the first error.
fn watch(
    work: &Work<'_>,
    ended: &Receiver<Result<(), ImportError>>,
    observer: &dyn ImportObserver,
) -> Result<(), ImportError> {
    loop {
        match ended.recv_timeout(REPORT_EVERY) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(error),
            Err(RecvTimeoutError::Disconnected) => return work.report(observer),
            Err(RecvTimeoutError::Timeout) => {
                if let Err(cancelled) = work.report(observer) {
                    work.stop.store(true, Ordering::Relaxed);
                    return Err(cancelled);
                }
            }
        }
    }
}

fn copy_units(work: &Work<'_>, source: &dyn ImageReader, size: DiskSize) -> Result<(), ImportError> {
    let units = size.bytes().div_ceil(UNIT_BYTES as u64);
    let mut unit = Unit::new();
    while !work.stop.load(Ordering::Relaxed) {
        unit.number = work.next_unit.fetch_add(1, Ordering::Relaxed);
        if u64::from(unit.number) >= units {
            break;
        }
        unit.len = (size.bytes() - unit.offset()).min(UNIT_BYTES as u64) as usize;
        match fill(&mut unit, source)? {
            RunKind::Data => work.store(&unit)?,
            RunKind::Hole => work.finish_unit(unit.number, unit.len as u64, &[], 0)?,
        }
    }
    Ok(())
}

/// Reads a unit's runs of data; answers `Hole` where it has none, and then leaves the bytes alone.
fn fill(unit: &mut Unit, source: &dyn ImageReader) -> Result<RunKind, ImageError> {
    let (start, len) = (unit.offset(), unit.len);
    let bytes = &mut unit.buffer.bytes_mut()[..len.next_multiple_of(CHUNK_SIZE as usize)];
    let (mut at, mut zero_from, mut kind) = (0, 0, RunKind::Hole);
    while at < len {
        let run = source.run_at(start + at as u64, (len - at) as u64)?;
        let end = at + run.len as usize;
        if run.kind == RunKind::Data {
            bytes[zero_from..at].fill(0);
            source.read_at(start + at as u64, &mut bytes[at..end])?;
            (zero_from, kind) = (end, RunKind::Data);
        }
        at = end;
    }
    if kind == RunKind::Data {
        bytes[zero_from..].fill(0);
    }
    Ok(kind)
}

/// Copies a stream: this thread reads, `options.threads` threads hash and write.
pub(crate) fn copy_stream(
    work: &Work<'_>,
    source: &mut dyn Read,
    options: &ImportOptions,
    observer: &dyn ImportObserver,
) -> Result<DiskSize, ImportError> {
    let threads = options.threads.get();
    let (results, ended) = mpsc::channel();
    let (empty, empties) = mpsc::sync_channel(3 * threads);
    let (full, fulls) = mpsc::sync_channel(3 * threads);
    (0..3 * threads).for_each(|_| empty.send(Unit::new()).expect("the channel has room for all"));
    let fulls = Mutex::new(fulls);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (results, empty, fulls) = (results.clone(), empty.clone(), &fulls);
            scope.spawn(move || tell(work, &results, store_units(work, fulls, &empty)));
        }
        drop((results, empty));
        let read = read_units(work, source, &Units { empties, full }, observer);
        // A worker's failure is the cause where both failed.
        watch(work, &ended, observer).and(read)
    })
}

/// The two ends of the stream's units that its reader holds; dropping them ends the workers.
struct Units {
    empties: Receiver<Unit>,
    full: SyncSender<Unit>,
}

fn store_units(
    work: &Work<'_>,
    fulls: &Mutex<Receiver<Unit>>,
    empty: &SyncSender<Unit>,
) -> Result<(), ImportError> {
    loop {
        let next = fulls.lock().expect("no thread panics while it waits for a unit").recv();
        let Ok(unit) = next else { return Ok(()) };
        if work.stop.load(Ordering::Relaxed) {
            return Ok(());
        }
        work.store(&unit)?;
        // The reader is gone at the end of the stream: then the unit is not needed any more.
        let _ = empty.send(unit);
    }
}

/// Reads the stream to its end; answers the size of the disk.
fn read_units(
    work: &Work<'_>,
    source: &mut dyn Read,
    units: &Units,
    observer: &dyn ImportObserver,
) -> Result<DiskSize, ImportError> {
    let mut total = 0;
    for number in 0.. {
        // No worker is left to give units back only after one has failed.
        let Ok(mut unit) = units.empties.recv() else { return Err(ImportError::Cancelled) };
        unit.number = number;
        unit.len = read_full(source, unit.buffer.bytes_mut()).map_err(ImportError::Read)?;
        if number == 0 {
            refuse_other_formats(&unit.buffer.bytes()[..unit.len])?;
        }
        total += unit.len as u64;
        let last = unit.len < UNIT_BYTES;
        if unit.len > 0 {
            // An impossible size is told before the disk is full of it.
            let size = DiskSize::new(total)?;
            grow(work, size, number)?;
            let len = unit.len;
            unit.buffer.bytes_mut()[len..].fill(0);
            if units.full.send(unit).is_err() {
                return Err(ImportError::Cancelled);
            }
        }
        if last {
            break;
        }
        if number % REPORT_UNITS == 0 {
            work.report(observer)?;
        }
    }
    Ok(DiskSize::new(total)?)
}

/// Lengthens the data file now and then, so that writes never do.
fn grow(work: &Work<'_>, size: DiskSize, unit: u32) -> Result<(), ImportError> {
    if (u64::from(unit) * UNIT_BYTES as u64).is_multiple_of(GROWTH_BYTES) {
        let len = size.bytes().next_multiple_of(GROWTH_BYTES);
        work.staging.data().set_len(len).map_err(|error| write_error(0, error))?;
    }
    Ok(())
}

/// A stream is taken for raw unless it begins like something that is surely not.
fn refuse_other_formats(beginning: &[u8]) -> Result<(), ImportError> {
    match image::format_of(beginning) {
        image::Format::Raw => Ok(()),
        other => Err(ImportError::NotRaw(other.name())),
    }
}

/// Reads until `buffer` is full or the stream ends.
fn read_full(source: &mut dyn Read, buffer: &mut [u8]) -> io::Result<usize> {
    let mut len = 0;
    while len < buffer.len() {
        match source.read(&mut buffer[len..]) {
            Ok(0) => break,
            Ok(count) => len += count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(len)
}
