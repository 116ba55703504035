//! Whether an image fits, before and while it is imported.

use super::{ImportError, ImportObserver, ImportOptions, ImportPhase, ImportProgress};
use crate::layout::io_error;
use crate::store::{Store, file_system_space};
use image::{ImageReader, RunKind};
use model::hash::is_zero;
use model::{ByteRange, CHUNK_SIZE, DiskSize};
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many bytes are written between two looks at the file system: small against the default
/// reserve of 256 MiB even with many threads, by eye.
const LOOK_EVERY_BYTES: u64 = 16 << 20;
/// How much of an image is read at once to see whether it is zero.
const SCAN_BYTES: usize = 1 << 20;

/// Watches the free space while an import writes.
pub(crate) struct Room {
    path: PathBuf,
    reserve_bytes: u64,
    next_look: AtomicU64,
}

/// Refuses an image that does not fit.
///
/// What a sparse or compressed image says to be data bounds what it takes. Only where this bound
/// does not fit is the image read for zeros, and no further than until it is known not to fit.
pub(crate) fn for_image(
    store: &Store,
    source: &dyn ImageReader,
    options: &ImportOptions,
    observer: &dyn ImportObserver,
) -> Result<Room, ImportError> {
    let room = for_stream(store, options)?;
    let usable = room.usable()?;
    let size = DiskSize::new(source.size_bytes())?;
    let scan = Scan { source, size, usable, observer };
    if scan.data_bytes(Look::Runs)? > usable {
        let needed = scan.data_bytes(Look::Bytes)?;
        if needed > usable {
            return Err(ImportError::NoSpace { needed, free: usable });
        }
    }
    Ok(room)
}

/// Nothing can be said about a stream before it is read: only watches.
pub(crate) fn for_stream(store: &Store, options: &ImportOptions) -> Result<Room, ImportError> {
    let path = store.path().to_owned();
    let room = Room { path, reserve_bytes: options.reserve_bytes, next_look: AtomicU64::new(0) };
    match room.usable()? {
        0 => Err(ImportError::NoSpace { needed: 1, free: 0 }),
        _ => Ok(room),
    }
}

impl Room {
    /// Bytes that may still be written.
    fn usable(&self) -> Result<u64, ImportError> {
        let context = || format!("cannot measure the store {}", self.path.display());
        let (_, free) = file_system_space(&self.path).map_err(io_error(context()))?;
        Ok(free.saturating_sub(self.reserve_bytes))
    }

    /// Refuses to go on when the reserve is touched; `written` counts all bytes of this import.
    pub(crate) fn check(&self, written: u64) -> Result<(), ImportError> {
        if written < self.next_look.load(Ordering::Relaxed) {
            return Ok(());
        }
        self.next_look.fetch_max(written + LOOK_EVERY_BYTES, Ordering::Relaxed);
        match self.usable()? {
            0 => Err(no_space(written)),
            _ => Ok(()),
        }
    }
}

/// The image takes more than the `written` bytes that there was room for.
pub(crate) fn no_space(written: u64) -> ImportError {
    ImportError::NoSpace { needed: written + u64::from(CHUNK_SIZE), free: written }
}

/// A full file system, told from every other failure to write.
pub(crate) fn write_error(written: u64, error: io::Error) -> ImportError {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => no_space(written),
        _ => io_error("cannot write to the store")(error).into(),
    }
}

/// What a scan believes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    /// The image's word for what is a hole.
    Runs,
    /// The bytes themselves.
    Bytes,
}

struct Scan<'a> {
    source: &'a dyn ImageReader,
    size: DiskSize,
    usable: u64,
    observer: &'a dyn ImportObserver,
}

impl Scan<'_> {
    /// Adds up the chunks that would be stored; stops early where they do not fit.
    fn data_bytes(&self, look: Look) -> Result<u64, ImportError> {
        let mut buffer = vec![0; SCAN_BYTES];
        let (mut at, mut found) = (0, 0);
        // A chunk that two runs share is counted once.
        let mut counted_to = 0;
        while at < self.size.bytes() && (look == Look::Runs || found <= self.usable) {
            let run = self.source.run_at(at, self.size.bytes() - at)?;
            let end = at + run.len;
            if run.kind == RunKind::Data && look == Look::Runs {
                let chunk = u64::from(CHUNK_SIZE);
                let first = (at / chunk * chunk).max(counted_to);
                counted_to = end.next_multiple_of(chunk);
                found += counted_to.saturating_sub(first);
            } else if run.kind == RunKind::Data {
                found += self.bytes_in(at, end, &mut buffer)?;
            }
            at = end;
        }
        Ok(found)
    }

    /// Reads a run of data and counts the bytes of its chunks that are not zero throughout.
    fn bytes_in(&self, from: u64, to: u64, buffer: &mut [u8]) -> Result<u64, ImportError> {
        let (mut at, mut found) = (from, 0);
        while at < to && found <= self.usable {
            if self.observer.cancelled() {
                return Err(ImportError::Cancelled);
            }
            let len = (to - at).min(buffer.len() as u64);
            let piece = &mut buffer[..len as usize];
            self.source.read_at(at, piece)?;
            let mut rest = &*piece;
            for part in ByteRange::new(at, len).by_chunk() {
                let (bytes, after) = rest.split_at(part.len as usize);
                found += if is_zero(bytes) { 0 } else { u64::from(part.len) };
                rest = after;
            }
            at += len;
            self.observer.progress(ImportProgress {
                phase: ImportPhase::Measuring,
                done_bytes: at,
                total_bytes: Some(self.size.bytes()),
                data_bytes: 0,
            });
        }
        Ok(found)
    }
}
