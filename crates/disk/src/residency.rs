//! Which parts of a mapped disk are in memory, asked rarely and remembered shortly.
//!
//! One word for each 2 MiB span: a bit for each of its 32 chunks, and when the kernel was asked.
//! Another word says which chunks were compared with their names since they came into memory: only
//! those count as resident, and one that has left the memory must be compared again.
//! A yes is believed for 0.7 s; a page that is reclaimed within that time costs one blocking
//! fault. A no is believed for 20 ms, so that read-ahead is noticed soon. 12 bytes for 2 MiB:
//! 6 MiB of memory for a disk of 1 TiB.
//!
//! Somebody else may write to the files: such bytes are in memory at once and never came from the
//! disk. Ten times a second it is asked whether a file was changed; then all is compared again.
//! What comes from peers changes files too: while they change all the time, it is asked ever more
//! rarely.

use crate::mapped_cache::MappedCache;
use crate::mapping::PAGE;
use model::CHUNK_SIZE;
use rustix::time::{ClockId, clock_gettime};
use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The chunks of a span: their bits fit half a word.
pub(crate) const SPAN_CHUNKS: u32 = 32;
/// The bytes of a span.
pub(crate) const SPAN: u64 = SPAN_CHUNKS as u64 * CHUNK_SIZE as u64;
const PAGES_IN_CHUNK: usize = CHUNK_SIZE as usize / PAGE;
/// How long "in memory" is believed, in milliseconds. Measured: at 0.5 to 1 s the questions cost
/// below 1 % of a core on a 4 GiB image.
const YES_MS: u32 = 700;
/// How long "not in memory" is believed, in milliseconds: a disk's read takes less.
const NO_MS: u32 = 20;
/// How often it is looked whether somebody has written to the files, in milliseconds: one system
/// call for each layer.
const LOOK_MS: u32 = 100;
/// How rarely, while files change all the time.
const LOOK_RARELY_MS: u32 = 6400;

/// Bytes that are mapped, wherever they lie.
pub(crate) trait Mapped: Debug + Send + Sync {
    /// Tells for each page of `len` bytes at `offset` (both whole pages, but at the end) whether
    /// it is in memory, by the lowest bit of its place in `found`.
    fn residency(&self, offset: u64, len: usize, found: &mut [u8]) -> io::Result<()>;

    /// The chunks from `offset` (the beginning of a span) on that have no name to be compared with,
    /// one bit each.
    fn nameless(&self, offset: u64) -> u32;

    /// Whether somebody has written to the files since this was asked last: what was compared
    /// before says nothing any more.
    fn was_changed(&self) -> bool;

    /// Takes the pages of a range out of our page tables; the page cache keeps them.
    fn unmap_pages(&self, offset: u64, len: usize);
}

/// The residency of one disk.
#[derive(Debug)]
pub(crate) struct Residency {
    mapped: Arc<dyn Mapped>,
    len: u64,
    spans: Vec<AtomicU64>,
    /// Chunks of each span that were compared with their names and have stayed in memory since.
    verified: Vec<AtomicU32>,
    /// When it is to be looked whether somebody has written, and how long after that again.
    look_at: AtomicU32,
    look_after: AtomicU32,
    /// How often somebody had.
    changes: AtomicU32,
    cache: Arc<MappedCache>,
    me: Weak<Self>,
}

impl Residency {
    /// Watches `len` mapped bytes; spans that are handed out count against `cache`.
    pub(crate) fn new(mapped: Arc<dyn Mapped>, len: u64, cache: Arc<MappedCache>) -> Arc<Self> {
        let spans: Vec<AtomicU64> = (0..len.div_ceil(SPAN)).map(|_| AtomicU64::new(0)).collect();
        let verified = spans.iter().map(|_| AtomicU32::new(0)).collect();
        Arc::new_cyclic(|me| Self {
            mapped,
            len,
            spans,
            verified,
            look_at: AtomicU32::new(coarse_ms()),
            look_after: AtomicU32::new(LOOK_MS),
            changes: AtomicU32::new(0),
            cache,
            me: me.clone(),
        })
    }

    /// Whether the chunks that hold these bytes are in memory, as far as known. Not blocking.
    #[inline]
    pub(crate) fn is_resident(&self, offset: u64, len: u64) -> bool {
        let mut at = offset;
        let end = offset + len;
        let now = coarse_ms();
        if now.wrapping_sub(self.look_at.load(Ordering::Relaxed)) < u32::MAX / 2 {
            self.look(now);
        }
        while at < end {
            let span = at / SPAN;
            let span_end = ((span + 1) * SPAN).min(end);
            if !self.span_has(span as usize, mask(at % SPAN, span_end - span * SPAN), now) {
                return false;
            }
            at = span_end;
        }
        true
    }

    /// Asks the kernel again about the spans of these bytes, after they were read.
    pub(crate) fn refresh(&self, offset: u64, len: u64) {
        let now = coarse_ms();
        for span in offset / SPAN..(offset + len).div_ceil(SPAN) {
            self.ask(span as usize, now);
        }
    }

    /// To be told to [`Residency::verified`] by who begins to read now.
    pub(crate) fn changes(&self) -> u32 {
        self.changes.load(Ordering::Acquire)
    }

    /// The chunks that hold these bytes were just read and compared with their names; `changes` is
    /// from before they were read.
    pub(crate) fn verified(&self, offset: u64, len: u64, changes: u32) {
        if changes != self.changes() {
            return;
        }
        let (mut at, end) = (offset, offset + len);
        while at < end {
            let span = at / SPAN;
            let span_end = ((span + 1) * SPAN).min(end);
            let chunks = mask(at % SPAN, span_end - span * SPAN);
            let verified = &self.verified[span as usize];
            verified.fetch_or(chunks, Ordering::SeqCst);
            if changes != self.changes.load(Ordering::SeqCst) {
                // All was forgotten meanwhile, perhaps before this was noted.
                verified.fetch_and(!chunks, Ordering::SeqCst);
            }
            at = span_end;
        }
        self.refresh(offset, len);
    }

    /// Takes a span out of the page tables; called by the cache when the window is full.
    pub(crate) fn forget(&self, span: u32) {
        self.spans[span as usize].store(0, Ordering::Relaxed);
        let start = u64::from(span) * SPAN;
        self.mapped.unmap_pages(start, SPAN.min(self.len - start) as usize);
    }

    /// Forgets what was compared where somebody has written since.
    #[cold]
    fn look(&self, now: u32) {
        let was_changed = self.mapped.was_changed();
        let after = match was_changed {
            true => (self.look_after.load(Ordering::Relaxed) * 2).min(LOOK_RARELY_MS),
            false => LOOK_MS,
        };
        self.look_after.store(after, Ordering::Relaxed);
        self.look_at.store(now.wrapping_add(after), Ordering::Relaxed);
        if !was_changed {
            return;
        }
        // Counted first: who notes something after it is forgotten here sees the count.
        self.changes.fetch_add(1, Ordering::SeqCst);
        for (verified, span) in self.verified.iter().zip(&self.spans) {
            verified.store(0, Ordering::SeqCst);
            span.store(0, Ordering::Relaxed);
        }
    }

    #[inline]
    fn span_has(&self, span: usize, needed: u32, now: u32) -> bool {
        let word = self.spans[span].load(Ordering::Relaxed);
        let (asked, found) = ((word >> 32) as u32, word as u32);
        let age = now.wrapping_sub(asked);
        let has = found & needed == needed;
        match (word, has) {
            (0, _) => self.ask(span, now) & needed == needed,
            (_, true) if age < YES_MS => true,
            (_, false) if age < NO_MS => false,
            _ => self.ask(span, now) & needed == needed,
        }
    }

    /// Asks the kernel about one span and remembers the answer.
    #[cold]
    fn ask(&self, span: usize, now: u32) -> u32 {
        let mut pages = [0u8; SPAN as usize / PAGE];
        let start = span as u64 * SPAN;
        let len = SPAN.min(self.len - start) as usize;
        if self.mapped.residency(start, len, &mut pages).is_err() {
            return 0;
        }
        let resident = chunks_in(&pages, len);
        // What has left the memory comes back from the disk, which may have other bytes now.
        let verified = self.verified[span].fetch_and(resident, Ordering::Relaxed);
        let found = (verified | self.mapped.nameless(start)) & resident;
        // The stamp is never 0 together with no chunk: 0 means that nothing is known.
        let word = u64::from(now.max(1)) << 32 | u64::from(found);
        let before = self.spans[span].swap(word, Ordering::Relaxed);
        if before as u32 == 0 && found != 0 {
            self.cache.entered(self.me.clone(), span as u32);
        }
        found
    }
}

/// The bits of the chunks that `from..to` (offsets in a span) touches.
#[inline]
fn mask(from: u64, to: u64) -> u32 {
    let first = (from / u64::from(CHUNK_SIZE)) as u32;
    let last = ((to - 1) / u64::from(CHUNK_SIZE)) as u32;
    (u32::MAX >> (31 - (last - first))) << first
}

/// A bit for each chunk whose pages, up to `len` bytes of the span, are all there.
fn chunks_in(pages: &[u8], len: usize) -> u32 {
    let pages = &pages[..len.div_ceil(PAGE)];
    let whole = pages.chunks(PAGES_IN_CHUNK).map(|chunk| chunk.iter().all(|page| page & 1 == 1));
    whole.enumerate().fold(0, |bits, (i, whole)| bits | u32::from(whole) << i)
}

/// Milliseconds of a clock that costs a few nanoseconds to read and moves every 1 to 10 ms.
#[inline]
fn coarse_ms() -> u32 {
    let now = clock_gettime(ClockId::MonotonicCoarse);
    (now.tv_sec as u64 * 1000 + now.tv_nsec as u64 / 1_000_000) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_covers_every_chunk_that_is_touched() {
        let chunk = u64::from(CHUNK_SIZE);
        assert_eq!(mask(0, 1), 1);
        assert_eq!(mask(0, SPAN), u32::MAX);
        assert_eq!(mask(chunk - 1, chunk + 1), 0b11);
        assert_eq!(mask(SPAN - 1, SPAN), 1 << 31);
    }

    #[test]
    fn a_chunk_counts_only_with_all_its_pages() {
        let mut pages = [1u8; 512];
        pages[17] = 0;
        assert_eq!(chunks_in(&pages, SPAN as usize), !2);
        assert_eq!(chunks_in(&pages, 5000), 1);
    }
}
