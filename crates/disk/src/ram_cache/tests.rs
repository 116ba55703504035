//! The cache against a flat array of bytes, and its promises about memory.

use super::*;
use proptest::prelude::*;

/// A parent of pseudo-random bytes that counts the reads that reach it.
struct Pattern {
    bytes: Vec<u8>,
    reads: AtomicU64,
}

impl Pattern {
    fn new(size: usize) -> Self {
        let bytes =
            (0..size).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0] | 1).collect();
        Self { bytes, reads: AtomicU64::new(0) }
    }
}

impl BlockIo for Pattern {
    fn geometry(&self) -> Geometry {
        Geometry { size_bytes: self.bytes.len() as u64, access: Access::ReadOnly }
    }

    fn read_resident<'a>(&'a self, range: ByteRange, pieces: &mut Vec<Piece<'a>>) -> bool {
        pieces.push(Piece::Memory(&self.bytes[range.offset as usize..][..range.len as usize]));
        true
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), BlockError> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        buffer.copy_from_slice(&self.bytes[offset as usize..][..buffer.len()]);
        Ok(())
    }

    fn write_at(&self, _: u64, _: &[u8]) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn flush(&self) -> Result<(), BlockError> {
        Ok(())
    }

    fn trim(&self, _: ByteRange) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn write_zeroes(&self, _: ByteRange) -> Result<(), BlockError> {
        Err(BlockError::ReadOnly)
    }

    fn extents(&self, range: ByteRange, _: usize) -> Result<Vec<Extent>, BlockError> {
        Ok(vec![Extent { len: range.len, kind: ExtentKind::Data }])
    }

    fn is_far(&self, _: ByteRange) -> bool {
        false
    }

    fn prefetch(&self, _: ByteRange) {}
}

fn read(disk: &impl BlockIo, offset: u64, len: usize) -> Vec<u8> {
    let mut buffer = vec![0xEE; len];
    disk.read_at(offset, &mut buffer).unwrap();
    buffer
}

const MIB: usize = 1 << 20;

#[test]
fn a_write_smaller_than_a_block_keeps_its_neighbours() {
    let cache = RamCache::new(Pattern::new(MIB), 1 << 20);
    let before = read(&cache, 0, 8192);
    cache.write_at(1000, &[9; 50]).unwrap();
    let after = read(&cache, 0, 8192);
    assert_eq!(after[..1000], before[..1000]);
    assert_eq!(after[1000..1050], [9; 50]);
    assert_eq!(after[1050..], before[1050..]);
}

#[test]
fn a_whole_block_is_written_and_read_without_the_parent() {
    let cache = RamCache::new(Pattern::new(MIB), 1 << 20);
    assert!(cache.is_local(ByteRange::new(4096, 8192)));
    assert!(!cache.is_local(ByteRange::new(4096, 8000)));
    cache.write_at(4096, &[3; 8192]).unwrap();
    assert!(cache.is_local(ByteRange::new(5000, 7000)));
    assert_eq!(cache.read_cached(4096, &mut [0; 8192]).unwrap(), None);
    assert_eq!(read(&cache, 4096, 8192), [3; 8192]);
    assert_eq!(cache.parent().reads.load(Ordering::Relaxed), 0);
}

#[test]
fn a_read_that_is_partly_cached_asks_for_the_smallest_range_that_misses() {
    let cache = RamCache::new(Pattern::new(MIB), 1 << 20);
    cache.write_at(0, &[1; 4096]).unwrap();
    cache.write_at(12288, &[1; 4096]).unwrap();
    let missing = cache.read_cached(512, &mut [0; 16384]).unwrap();
    assert_eq!(missing, Some(ByteRange::new(4096, 512 + 16384 - 4096)));
}

#[test]
fn a_full_cache_refuses_new_blocks_whole_and_takes_rewrites() {
    let limit = EXTENT_COST + 2 * BLOCK_SIZE;
    let cache = RamCache::new(Pattern::new(MIB), limit);
    cache.write_at(0, &[1; 8192]).unwrap();
    assert_eq!(cache.fill().used_bytes, limit);
    let before = read(&cache, 0, 65536);
    assert_eq!(cache.write_at(4096, &[2; 8192]), Err(BlockError::NoSpace));
    assert_eq!(read(&cache, 0, 65536), before, "nothing of a refused write is stored");
    cache.write_at(100, &[7; 5000]).unwrap();
    assert_eq!(cache.fill().refused, 1);
    assert_eq!(cache.fill().written_bytes, 8192 + 5000);
}

#[test]
fn a_trim_gives_memory_back_and_hides_the_parent() {
    let cache = RamCache::new(Pattern::new(4 * MIB), 64 << 20);
    cache.write_at(0, &vec![1; MIB]).unwrap();
    let full = cache.fill().used_bytes;
    cache.trim(ByteRange::new(0, 2 * MIB as u64)).unwrap();
    assert!(cache.fill().used_bytes <= REGION_COST && full > MIB as u64);
    assert_eq!(read(&cache, 0, 2 * MIB), vec![0; 2 * MIB]);
    assert_eq!(cache.parent().reads.load(Ordering::Relaxed), 0);
    cache.write_at(4096, &[5; 4096]).unwrap();
    assert_eq!(read(&cache, 0, 4096), [0; 4096], "the rest of a zeroed extent stays zero");
}

#[test]
fn a_full_cache_can_be_trimmed() {
    let cache = RamCache::new(Pattern::new(MIB), 16 * BLOCK_SIZE + EXTENT_COST);
    cache.write_at(0, &[1; 65536]).unwrap();
    cache.trim(ByteRange::new(0, 65536)).unwrap();
    cache.write_at(65536, &[2; 8192]).unwrap();
}

#[test]
fn trimming_a_terabyte_costs_megabytes() {
    struct Large;
    impl BlockIo for Large {
        fn geometry(&self) -> Geometry {
            Geometry { size_bytes: 1 << 40, access: Access::ReadOnly }
        }
        fn read_resident<'a>(&'a self, _: ByteRange, _: &mut Vec<Piece<'a>>) -> bool {
            false
        }
        fn read_at(&self, _: u64, _: &mut [u8]) -> Result<(), BlockError> {
            Err(BlockError::Io("unused".into()))
        }
        fn write_at(&self, _: u64, _: &[u8]) -> Result<(), BlockError> {
            Err(BlockError::ReadOnly)
        }
        fn flush(&self) -> Result<(), BlockError> {
            Ok(())
        }
        fn trim(&self, _: ByteRange) -> Result<(), BlockError> {
            Err(BlockError::ReadOnly)
        }
        fn write_zeroes(&self, _: ByteRange) -> Result<(), BlockError> {
            Err(BlockError::ReadOnly)
        }
        fn extents(&self, range: ByteRange, _: usize) -> Result<Vec<Extent>, BlockError> {
            Ok(vec![Extent { len: range.len, kind: ExtentKind::Data }])
        }
        fn is_far(&self, _: ByteRange) -> bool {
            false
        }

        fn prefetch(&self, _: ByteRange) {}
    }
    let cache = RamCache::new(Large, 4 << 20);
    cache.trim(ByteRange::new(0, 1 << 40)).unwrap();
    assert_eq!(cache.fill().used_bytes, 1024 * REGION_COST);
    let runs = cache.extents(ByteRange::new(0, 1 << 30), 8).unwrap();
    assert_eq!(runs, [Extent { len: 1 << 30, kind: ExtentKind::Hole }]);
}

#[test]
fn requests_beyond_the_disk_are_refused() {
    let cache = RamCache::new(Pattern::new(4096 + 512), 1 << 20);
    assert_eq!(cache.read_at(4096, &mut [0; 513]), Err(BlockError::OutOfRange));
    assert_eq!(cache.write_at(u64::MAX, &[0; 2]), Err(BlockError::OutOfRange));
    assert_eq!(cache.trim(ByteRange::new(0, 5000)), Err(BlockError::OutOfRange));
    cache.write_at(4096, &[4; 512]).unwrap();
    assert_eq!(read(&cache, 4096, 512), [4; 512], "the last block of a disk may be partial");
}

#[derive(Clone, Debug)]
enum Step {
    Write(usize, Vec<u8>),
    Zero(usize, usize),
    Read(usize, usize),
}

const SIZE: usize = 300 * 1024 + 512;

fn step() -> impl Strategy<Value = Step> {
    let at = prop_oneof![(0..SIZE / 4096).prop_map(|block| block * 4096), 0..SIZE];
    let len = prop_oneof![Just(4096usize), Just(512), 1..5000usize, 1..150_000usize];
    (at, len, any::<u8>(), 0..3u8).prop_map(|(at, len, byte, kind)| {
        let len = len.min(SIZE - at);
        match kind {
            0 => Step::Write(at, (0..len).map(|i| byte.wrapping_add(i as u8)).collect()),
            1 => Step::Zero(at, len),
            _ => Step::Read(at, len),
        }
    })
}

/// Applies a step to the model; answers what the cache must answer to a read.
fn apply(model: &mut [u8], step: &Step) {
    match step {
        Step::Write(at, data) => model[*at..*at + data.len()].copy_from_slice(data),
        Step::Zero(at, len) => model[*at..*at + len].fill(0),
        Step::Read(..) => {}
    }
}

proptest! {
    #[test]
    fn the_cache_reads_like_a_flat_array(
        steps in proptest::collection::vec(step(), 1..60),
        limit in prop_oneof![Just(u64::MAX / 4), 0u64..400_000],
    ) {
        let cache = RamCache::new(Pattern::new(SIZE), limit);
        let mut model = cache.parent().bytes.clone();
        for step in &steps {
            let outcome = match step {
                Step::Write(at, data) => cache.write_at(*at as u64, data),
                Step::Zero(at, len) => cache.trim(ByteRange::new(*at as u64, *len as u64)),
                Step::Read(at, len) => {
                    prop_assert_eq!(&read(&cache, *at as u64, *len), &model[*at..*at + len]);
                    Ok(())
                }
            };
            match outcome {
                Ok(()) => apply(&mut model, step),
                Err(error) => prop_assert_eq!(error, BlockError::NoSpace),
            }
            prop_assert!(cache.fill().used_bytes <= limit);
        }
        prop_assert_eq!(&read(&cache, 0, SIZE), &model);
        check_extents(&cache, &model)?;
    }
}

fn check_extents(cache: &RamCache<Pattern>, model: &[u8]) -> Result<(), TestCaseError> {
    let mut at = 0;
    while at < SIZE as u64 {
        let runs = cache.extents(ByteRange::new(at, SIZE as u64 - at), 3).unwrap();
        prop_assert!(!runs.is_empty() && runs.len() <= 3);
        for run in runs {
            let bytes = &model[at as usize..(at + run.len) as usize];
            prop_assert!(run.kind == ExtentKind::Data || bytes.iter().all(|byte| *byte == 0));
            at += run.len;
        }
    }
    prop_assert_eq!(at, SIZE as u64);
    Ok(())
}

#[test]
fn it_keeps_the_promises_of_every_disk() {
    let parent = Pattern::new(SIZE);
    let bytes = parent.bytes.clone();
    crate::contract::writable(&RamCache::new(parent, 64 << 20), &bytes);
}
