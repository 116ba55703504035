//! Bringing chunks into the page cache before somebody asks for them.

use crate::version::{Place, StoredVersion};
use model::{CHUNK_SIZE, ChunkIndex};
use rustix::fs::{Advice, fadvise};
use std::num::NonZeroU64;

/// Chunks that are asked of the kernel in one call: 2 MiB, which it reads in one go.
const RUN_CHUNKS: u32 = 32;

impl StoredVersion {
    /// Asks the kernel to read those of the chunks that are here, in this order, until `budget_bytes`
    /// were asked for; answers how many bytes that were. Waits where the disk's queue is full.
    pub fn warm(&self, chunks: &[ChunkIndex], budget_bytes: u64) -> u64 {
        let (mut asked, mut rest) = (0, chunks);
        while let Some(first) = rest.first() {
            if first.0 >= self.size().chunk_count() {
                rest = &rest[1..];
                continue;
            }
            let place = self.place(*first);
            let goes_on = |n: u32| {
                let next = rest.get(n as usize).filter(|next| next.0 == first.0 + n);
                next.is_some_and(|next| next.0 < self.size().chunk_count() && self.place(*next) == place)
            };
            let count = (1..RUN_CHUNKS).find(|n| !goes_on(*n)).unwrap_or(RUN_CHUNKS);
            rest = &rest[count as usize..];
            let Place::Layer(layer) = place else { continue };
            let bytes = u64::from(count) * u64::from(CHUNK_SIZE);
            if asked + bytes > budget_bytes {
                break;
            }
            asked += bytes;
            // A hint: who does not take it reads from the disk later.
            let file = self.layers()[usize::from(layer)].file();
            let _ = fadvise(file, first.offset(), NonZeroU64::new(bytes), Advice::WillNeed);
        }
        asked
    }
}

#[cfg(test)]
mod tests {
    use crate::{ImportOptions, Quiet, Store};
    use model::ChunkIndex;

    #[test]
    fn only_what_is_stored_is_asked_for_and_no_more_than_the_budget() {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut bytes: Vec<u8> =
            (0..100 << 16).map(|n: u32| (n.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
        bytes[10 << 16..20 << 16].fill(0);
        let options = ImportOptions { reserve_bytes: 0, ..ImportOptions::default() };
        let root = store.import_stream(&mut &bytes[..], None, &options, &Quiet).unwrap().root;
        let version = store.version(&root).unwrap();
        let chunks = |range: std::ops::Range<u32>| range.map(ChunkIndex).collect::<Vec<_>>();
        assert_eq!(version.warm(&chunks(0..100), u64::MAX), 90 << 16);
        assert_eq!(version.warm(&chunks(5..15), u64::MAX), 5 << 16);
        assert_eq!(version.warm(&chunks(90..300), u64::MAX), 10 << 16, "others are on no disk");
        assert_eq!(version.warm(&chunks(20..100), 40 << 16), 32 << 16);
        let scattered: Vec<_> = [30, 25, 26, 99, 5].map(ChunkIndex).to_vec();
        assert_eq!(version.warm(&scattered, u64::MAX), 5 << 16);
    }
}
