//! Which parts of a mapped disk are in memory, asked rarely and remembered shortly.
//!
//! One word for each 2 MiB span: a bit for each of its 32 chunks, and when the kernel was asked.
//! A yes is believed for 0.7 s; a page that is reclaimed within that time costs one blocking
//! fault. A no is believed for 20 ms, so that read-ahead is noticed soon. 8 bytes for 2 MiB:
//! 4 MiB of memory for a disk of 1 TiB.

use crate::mapped_cache::MappedCache;
use crate::mapping::PAGE;
use model::CHUNK_SIZE;
use rustix::time::{ClockId, clock_gettime};
use std::fmt::Debug;
use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

/// The bytes of a span: 32 chunks, so that its bits fit half a word.
pub(crate) const SPAN: u64 = 32 * CHUNK_SIZE as u64;
const PAGES_IN_CHUNK: usize = CHUNK_SIZE as usize / PAGE;
/// How long "in memory" is believed, in milliseconds. Measured: at 0.5 to 1 s the questions cost
/// below 1 % of a core on a 4 GiB image.
const YES_MS: u32 = 700;
/// How long "not in memory" is believed, in milliseconds: a disk's read takes less.
const NO_MS: u32 = 20;

/// Bytes that are mapped, wherever they lie.
pub(crate) trait Mapped: Debug + Send + Sync {
    /// Tells for each page of `len` bytes at `offset` (both whole pages, but at the end) whether
    /// it is in memory, by the lowest bit of its place in `found`.
    fn residency(&self, offset: u64, len: usize, found: &mut [u8]) -> io::Result<()>;

    /// Takes the pages of a range out of our page tables; the page cache keeps them.
    fn unmap_pages(&self, offset: u64, len: usize);
}

/// The residency of one disk.
#[derive(Debug)]
pub(crate) struct Residency {
    mapped: Arc<dyn Mapped>,
    len: u64,
    spans: Vec<AtomicU64>,
    cache: Arc<MappedCache>,
    me: Weak<Self>,
}

impl Residency {
    /// Watches `len` mapped bytes; spans that are handed out count against `cache`.
    pub(crate) fn new(mapped: Arc<dyn Mapped>, len: u64, cache: Arc<MappedCache>) -> Arc<Self> {
        let spans = (0..len.div_ceil(SPAN)).map(|_| AtomicU64::new(0)).collect();
        Arc::new_cyclic(|me| Self { mapped, len, spans, cache, me: me.clone() })
    }

    /// Whether the chunks that hold these bytes are in memory, as far as known. Not blocking.
    #[inline]
    pub(crate) fn is_resident(&self, offset: u64, len: u64) -> bool {
        let mut at = offset;
        let end = offset + len;
        let now = coarse_ms();
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

    /// Takes a span out of the page tables; called by the cache when the window is full.
    pub(crate) fn forget(&self, span: u32) {
        self.spans[span as usize].store(0, Ordering::Relaxed);
        let start = u64::from(span) * SPAN;
        self.mapped.unmap_pages(start, SPAN.min(self.len - start) as usize);
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
        let found = chunks_in(&pages, len);
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
