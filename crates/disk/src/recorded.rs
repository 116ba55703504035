//! A disk that notes which chunks are read while its device boots.
//!
//! A recording begins with the first read and ends when boots are over: after a fixed time, or when
//! nothing new was read for a while, or when it is full. From then on a read costs one more look
//! into memory than without.

use crate::block_io::{BlockError, BlockIo, Extent, Geometry, Piece};
use model::boot_profile::MAX_CHUNKS;
use model::{BootProfile, ByteRange, CHUNK_SIZE, ChunkIndex};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// When a boot counts as over.
#[derive(Clone, Copy, Debug)]
pub struct BootLimits {
    /// This long after its first read.
    pub longest: Duration,
    /// When nothing new was read for so long.
    pub calm: Duration,
}

impl Default for BootLimits {
    /// 180 s, 20 s: slow machines log in within three minutes, and a boot that waits 20 s for
    /// something else than its disk is rare; by eye.
    fn default() -> Self {
        Self { longest: Duration::from_secs(180), calm: Duration::from_secs(20) }
    }
}

/// What is noted of one boot.
#[derive(Debug)]
pub struct BootRecorder {
    limits: BootLimits,
    active: AtomicBool,
    recording: Mutex<Recording>,
}

#[derive(Debug)]
struct Recording {
    /// When the first chunk was read.
    began: Option<Instant>,
    /// When the last new chunk was read.
    news: Option<Instant>,
    seen: Vec<u64>,
    order: Vec<ChunkIndex>,
}

impl BootRecorder {
    /// Records the boot of a disk of this size.
    pub fn new(size_bytes: u64, limits: BootLimits) -> Arc<Self> {
        let words = size_bytes.div_ceil(u64::from(CHUNK_SIZE)).div_ceil(64);
        let seen = vec![0; words as usize];
        let recording = Mutex::new(Recording { began: None, news: None, seen, order: Vec::new() });
        Arc::new(Self { limits, active: AtomicBool::new(true), recording })
    }

    /// Whether the boot is over; reads are noted until then.
    pub fn is_over(&self, now: Instant) -> bool {
        let recording = self.recording();
        let (Some(began), Some(news)) = (recording.began, recording.news) else { return false };
        let over = now.saturating_duration_since(began) >= self.limits.longest
            || now.saturating_duration_since(news) >= self.limits.calm
            || recording.order.len() >= MAX_CHUNKS;
        if over {
            self.active.store(false, Ordering::Relaxed);
        }
        over
    }

    /// Ends the recording; what was read.
    pub fn finish(&self) -> BootProfile {
        self.active.store(false, Ordering::Relaxed);
        let mut recording = self.recording();
        recording.seen = Vec::new();
        BootProfile::from_order(std::mem::take(&mut recording.order))
    }

    fn note(&self, range: ByteRange) {
        // A range that ends nowhere is refused by the disk below.
        if !self.active.load(Ordering::Relaxed) || range.end().is_none() {
            return;
        }
        let mut recording = self.recording();
        for part in range.by_chunk() {
            recording.note(part.chunk);
        }
    }

    fn recording(&self) -> MutexGuard<'_, Recording> {
        self.recording.lock().expect("no thread panics while it notes a read")
    }
}

impl Recording {
    fn note(&mut self, chunk: ChunkIndex) {
        let bit = 1 << (chunk.0 % 64);
        // A range outside the disk is refused by the disk below; it is not a read.
        let Some(word) = self.seen.get_mut(chunk.0 as usize / 64).filter(|word| **word & bit == 0) else {
            return;
        };
        if self.order.len() < MAX_CHUNKS {
            *word |= bit;
            self.order.push(chunk);
            let now = Instant::now();
            self.began.get_or_insert(now);
            self.news = Some(now);
        }
    }
}

/// A disk whose reads a recorder hears of.
pub struct Recorded {
    below: Arc<dyn BlockIo>,
    recorder: Arc<BootRecorder>,
}

impl Recorded {
    /// Tells `recorder` what is read of `below`.
    pub fn new(below: Arc<dyn BlockIo>, recorder: Arc<BootRecorder>) -> Self {
        Self { below, recorder }
    }
}

impl BlockIo for Recorded {
    fn geometry(&self) -> Geometry {
        self.below.geometry()
    }

    fn read_resident<'a>(&'a self, range: ByteRange, pieces: &mut Vec<Piece<'a>>) -> bool {
        let is_here = self.below.read_resident(range, pieces);
        if is_here {
            self.recorder.note(range);
        }
        is_here
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        // Before it is read: what must be waited for is wanted just as much.
        self.recorder.note(ByteRange::new(offset, buffer.len() as u64));
        self.below.read_at(offset, buffer)
    }

    fn write_at(&self, offset: u64, data: &[u8]) -> Result<(), BlockError> {
        self.below.write_at(offset, data)
    }

    fn flush(&self) -> Result<(), BlockError> {
        self.below.flush()
    }

    fn trim(&self, range: ByteRange) -> Result<(), BlockError> {
        self.below.trim(range)
    }

    fn write_zeroes(&self, range: ByteRange) -> Result<(), BlockError> {
        self.below.write_zeroes(range)
    }

    fn extents(&self, range: ByteRange, limit: usize) -> Result<Vec<Extent>, BlockError> {
        self.below.extents(range, limit)
    }

    fn is_far(&self, range: ByteRange) -> bool {
        self.below.is_far(range)
    }

    fn prefetch(&self, range: ByteRange) {
        self.below.prefetch(range);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{MemoryDisk, contract};
    use model::DiskSize;

    const SIZE: u64 = 4 << 20;

    fn recorded(limits: BootLimits) -> (Recorded, Arc<BootRecorder>) {
        let recorder = BootRecorder::new(SIZE, limits);
        let below = Arc::new(MemoryDisk::writable(DiskSize::new(SIZE).unwrap()));
        (Recorded::new(below, Arc::clone(&recorder)), recorder)
    }

    #[test]
    fn it_keeps_the_contract_of_what_it_wraps() {
        contract::writable(&recorded(BootLimits::default()).0, &vec![0; SIZE as usize]);
    }

    #[test]
    fn the_chunks_of_a_boot_are_noted_once_until_it_is_over() {
        let calm = Duration::from_secs(5);
        let (disk, recorder) = recorded(BootLimits { longest: Duration::from_secs(60), calm });
        assert!(!recorder.is_over(Instant::now() + Duration::from_secs(1000)), "nothing was read yet");
        for offset in [3 << 16, (3 << 16) + 4096, 60 << 16, 1 << 16] {
            disk.read_at(offset, &mut [0; 512]).unwrap();
        }
        disk.read_at((9 << 16) - 512, &mut [0; 1024]).unwrap();
        assert!(disk.read_at(SIZE + (5 << 16), &mut [0; 512]).is_err());
        assert!(!recorder.is_over(Instant::now()));
        assert!(recorder.is_over(Instant::now() + calm));
        disk.read_at(20 << 16, &mut [0; 512]).unwrap();
        assert_eq!(recorder.finish().to_string(), "1 3 8+2 60");
        assert!(recorder.finish().is_empty());
    }
}
