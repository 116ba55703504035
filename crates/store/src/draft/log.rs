//! The state log of a generation: which blocks it has, made durable by each flush.
//!
//! Append-only. A flush appends one batch of records and syncs; a record counts only with its
//! whole batch's order behind it. Revision 1, little-endian:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | magic `HWDRLOG1`, the last digit is the revision |
//! | 8 | 8 | disk size in bytes |
//! | 16 | 8 | number of the generation |
//! | 24 | 8 | zero |
//! | 32 | 32 | BLAKE3 derive_key("headwater 2026-11 draft log v1", the 32 bytes above) |
//! | 64 + 32 x i | 32 | record i |
//!
//! A record:
//!
//! | offset | bytes | field |
//! |---|---|---|
//! | 0 | 8 | first block: byte offset in the disk / 4,096 |
//! | 8 | 4 | number of blocks, at least 1 |
//! | 12 | 1 | new state: 1 its bytes are in the data file, 2 reads as zero |
//! | 13 | 3 | zero |
//! | 16 | 4 | batch: larger than that of every batch before |
//! | 20 | 4 | position of the batch's first record |
//! | 24 | 8 | first 8 bytes of BLAKE3 derive_key("headwater 2026-11 draft record v1", generation as 8 bytes, i as 4, the 24 bytes above) |
//!
//! The log ends before the first record that does not follow from the one before it. Where a later
//! record belongs to a batch that begins after that place, the place was synced once: the log is
//! damaged in the middle and refused. Else it is what a crash left of the last batch, which no
//! flush confirmed, and is cut off.

use super::blocks::{BlockState, CHUNK_BLOCKS, ChunkBlocks, ChunkEntry};
use model::DiskSize;
use std::collections::HashMap;

const MAGIC: &[u8; 8] = b"HWDRLOG1";
const HEADER_CONTEXT: &str = "headwater 2026-11 draft log v1";
const RECORD_CONTEXT: &str = "headwater 2026-11 draft record v1";
/// The length of the header in bytes.
pub(crate) const HEADER_BYTES: u64 = 64;
/// The length of a record in bytes.
pub(crate) const RECORD_BYTES: u64 = 32;
const SUM_AT: usize = 24;

/// Whose log it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct LogName {
    pub(crate) size: DiskSize,
    pub(crate) generation: u64,
}

/// Where a batch goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct BatchPlace {
    /// Its number.
    pub(crate) batch: u32,
    /// The position of its first record.
    pub(crate) start: u32,
}

/// What a log says.
#[derive(Debug)]
pub(crate) struct Replay {
    pub(crate) states: HashMap<u32, ChunkBlocks>,
    /// Where the next batch goes; what lies behind is to be cut off.
    pub(crate) next: BatchPlace,
}

/// The first bytes of the log.
pub(crate) fn encode_header(name: LogName) -> Vec<u8> {
    let mut bytes = MAGIC.to_vec();
    bytes.extend_from_slice(&name.size.bytes().to_le_bytes());
    bytes.extend_from_slice(&name.generation.to_le_bytes());
    bytes.extend_from_slice(&[0; 8]);
    let sum = blake3::derive_key(HEADER_CONTEXT, &bytes);
    bytes.extend_from_slice(&sum);
    bytes
}

/// The records of a batch that says what `entries` (in order) say.
pub(crate) fn encode_batch(name: LogName, place: BatchPlace, entries: &[ChunkEntry]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (index, run) in (place.start..).zip(runs(entries)) {
        bytes.extend_from_slice(&encode_record(name, place, index, run));
    }
    bytes
}

/// A run of blocks in one state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BlockRun {
    first: u64,
    count: u32,
    state: BlockState,
}

/// The runs of what is said in `entries`; neighbours are joined across chunks.
fn runs(entries: &[ChunkEntry]) -> Vec<BlockRun> {
    let mut runs: Vec<BlockRun> = Vec::new();
    for (chunk, blocks) in entries {
        for (first, count, state) in blocks.runs().filter(|(_, _, state)| *state != BlockState::Below) {
            let first = u64::from(chunk.0) * u64::from(CHUNK_BLOCKS) + u64::from(first);
            match runs.last_mut() {
                Some(last) if last.state == state && last.first + u64::from(last.count) == first => {
                    last.count += count;
                }
                _ => runs.push(BlockRun { first, count, state }),
            }
        }
    }
    runs
}

fn encode_record(name: LogName, place: BatchPlace, index: u32, run: BlockRun) -> [u8; 32] {
    let mut bytes = [0; RECORD_BYTES as usize];
    bytes[..8].copy_from_slice(&run.first.to_le_bytes());
    bytes[8..12].copy_from_slice(&run.count.to_le_bytes());
    bytes[12] = if run.state == BlockState::Data { 1 } else { 2 };
    bytes[16..20].copy_from_slice(&place.batch.to_le_bytes());
    bytes[20..24].copy_from_slice(&place.start.to_le_bytes());
    let sum = checksum(name, index, &bytes[..SUM_AT]);
    bytes[SUM_AT..].copy_from_slice(&sum);
    bytes
}

fn checksum(name: LogName, index: u32, bytes: &[u8]) -> [u8; 8] {
    let mut hasher = blake3::Hasher::new_derive_key(RECORD_CONTEXT);
    hasher.update(&name.generation.to_le_bytes()).update(&index.to_le_bytes()).update(bytes);
    let sum = hasher.finalize();
    sum.as_bytes()[..8].try_into().expect("8 bytes")
}

/// A record whose checksum is right.
#[derive(Clone, Copy)]
struct Record<'a> {
    bytes: &'a [u8],
    place: BatchPlace,
}

impl<'a> Record<'a> {
    fn read(name: LogName, index: u32, bytes: &'a [u8]) -> Option<Self> {
        let word = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("4 bytes"));
        let right = checksum(name, index, &bytes[..SUM_AT]) == bytes[SUM_AT..];
        right.then(|| Self { bytes, place: BatchPlace { batch: word(16), start: word(20) } })
    }

    /// Whether the record at `index` may follow one of the batch `before`.
    fn follows(&self, before: BatchPlace, index: u32) -> bool {
        self.place == before || self.place.batch > before.batch && self.place.start == index
    }

    fn run(&self, size: DiskSize) -> Option<BlockRun> {
        let first = u64::from_le_bytes(self.bytes[..8].try_into().expect("8 bytes"));
        let count = u32::from_le_bytes(self.bytes[8..12].try_into().expect("4 bytes"));
        let state = match self.bytes[12] {
            1 => BlockState::Data,
            2 => BlockState::Zero,
            _ => return None,
        };
        let blocks = u64::from(size.chunk_count()) * u64::from(CHUNK_BLOCKS);
        let end = first.checked_add(u64::from(count))?;
        (count > 0 && end <= blocks).then_some(BlockRun { first, count, state })
    }
}

/// Reads a log, or says how it is damaged.
pub(crate) fn replay(name: LogName, bytes: &[u8]) -> Result<Replay, String> {
    if bytes.get(..HEADER_BYTES as usize) != Some(&encode_header(name)) {
        return Err(format!("the header of log {} is damaged", name.generation));
    }
    let records: Vec<&[u8]> = bytes[HEADER_BYTES as usize..].chunks_exact(RECORD_BYTES as usize).collect();
    let mut states = HashMap::new();
    let mut before = BatchPlace { batch: 0, start: 0 };
    let mut end = 0;
    for (index, bytes) in (0..).zip(&records) {
        match Record::read(name, index, bytes).filter(|record| record.follows(before, index)) {
            None => break,
            Some(record) => {
                let run = record.run(name.size);
                apply(&mut states, run.ok_or_else(|| format!("record {index} of its log is impossible"))?);
                before = record.place;
                end = index + 1;
            }
        }
    }
    refuse_damage_in_the_middle(name, &records, end)?;
    Ok(Replay { states, next: BatchPlace { batch: before.batch + 1, start: end } })
}

/// A record that was written after the place `end` was synced proves that something was there.
fn refuse_damage_in_the_middle(name: LogName, records: &[&[u8]], end: u32) -> Result<(), String> {
    let later = (0..).zip(records).skip(end as usize + 1);
    let mut later = later.filter_map(|(index, bytes)| Record::read(name, index, bytes));
    match later.any(|record| record.place.start > end) {
        true => Err(format!("record {end} of log {} is damaged, later ones are whole", name.generation)),
        false => Ok(()),
    }
}

fn apply(states: &mut HashMap<u32, ChunkBlocks>, run: BlockRun) {
    let (mut block, end) = (run.first, run.first + u64::from(run.count));
    while block < end {
        let (chunk, within) = (block / u64::from(CHUNK_BLOCKS), block % u64::from(CHUNK_BLOCKS));
        let last = (u64::from(CHUNK_BLOCKS)).min(within + end - block);
        let blocks = states.entry(chunk as u32).or_default();
        (within..last).for_each(|within| blocks.set(within as u32, run.state));
        block += last - within;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::ChunkIndex;
    use proptest::prelude::*;

    fn entries(states: &HashMap<u32, ChunkBlocks>) -> Vec<ChunkEntry> {
        let mut entries: Vec<_> =
            states.iter().map(|(chunk, blocks)| (ChunkIndex(*chunk), *blocks)).collect();
        entries.sort_unstable_by_key(|(chunk, _)| *chunk);
        entries
    }

    fn name() -> LogName {
        LogName { size: DiskSize::new(10 << 20).unwrap(), generation: 5 }
    }

    fn entry(chunk: u32, block: u32, state: BlockState) -> ChunkEntry {
        let mut blocks = ChunkBlocks::default();
        blocks.set(block, state);
        (ChunkIndex(chunk), blocks)
    }

    /// Three batches: of 1, 3 and 2 records.
    fn sample() -> Vec<u8> {
        let (data, zero) = (BlockState::Data, BlockState::Zero);
        let batches: [&[ChunkEntry]; 3] = [
            &[(ChunkIndex(1), ChunkBlocks::ALL_DATA), (ChunkIndex(2), ChunkBlocks::ALL_DATA)],
            &[entry(3, 0, data), entry(7, 3, zero), entry(9, 15, data)],
            &[entry(1, 4, zero), entry(12, 4, zero)],
        ];
        let mut bytes = encode_header(name());
        for (batch, entries) in (1..).zip(batches) {
            let start = (bytes.len() as u64 - HEADER_BYTES) / RECORD_BYTES;
            let place = BatchPlace { batch, start: start as u32 };
            bytes.extend(encode_batch(name(), place, entries));
        }
        bytes
    }

    #[test]
    fn the_golden_log_is_read_and_written_to_the_byte() {
        let golden = include_bytes!("../../golden/draft-log-1.bin");
        assert_eq!(sample(), golden);
        let replay = replay(name(), golden).unwrap();
        assert_eq!(replay.next, BatchPlace { batch: 4, start: 6 });
        let chunks: Vec<u32> = entries(&replay.states).iter().map(|(chunk, _)| chunk.0).collect();
        assert_eq!(chunks, [1, 2, 3, 7, 9, 12]);
        assert_eq!(replay.states[&1].get(4), BlockState::Zero);
        assert_eq!(replay.states[&1].get(5), BlockState::Data);
    }

    #[test]
    fn a_torn_last_batch_is_cut_and_damage_before_it_is_refused() {
        let good = sample();
        for record in 0..6 {
            let mut bad = good.clone();
            bad[HEADER_BYTES as usize + record * 32 + 9] ^= 1;
            match (replay(name(), &bad), record) {
                (Err(reason), 0..4) => assert!(reason.contains("later ones are whole"), "{reason}"),
                (Ok(replay), 4..) => assert_eq!(replay.next.start as usize, record),
                (other, _) => panic!("record {record}: {other:?}"),
            }
        }
        for len in HEADER_BYTES as usize..good.len() {
            let whole = (len - HEADER_BYTES as usize) / 32;
            assert_eq!(replay(name(), &good[..len]).unwrap().next.start as usize, whole);
        }
    }

    #[test]
    fn what_is_left_of_a_batch_that_was_written_again_does_not_count() {
        let (data, zero) = (BlockState::Data, BlockState::Zero);
        let mut bytes = encode_header(name());
        let first = BatchPlace { batch: 1, start: 0 };
        bytes.extend(encode_batch(name(), first, &[entry(0, 0, data), entry(2, 0, data), entry(4, 0, zero)]));
        let again = encode_batch(name(), BatchPlace { batch: 2, start: 0 }, &[entry(4, 0, data)]);
        bytes[64..96].copy_from_slice(&again);
        let replay = replay(name(), &bytes).unwrap();
        assert_eq!(entries(&replay.states), [entry(4, 0, data)]);
        assert_eq!(replay.next, BatchPlace { batch: 3, start: 1 });
    }

    #[test]
    fn a_log_of_another_generation_or_disk_is_refused() {
        let other = LogName { generation: 6, ..name() };
        assert!(replay(other, &sample()).is_err());
        let other = LogName { size: DiskSize::new(512).unwrap(), ..name() };
        assert!(replay(other, &sample()).is_err());
    }

    proptest! {
        #[test]
        fn replay_undoes_encode(chunks in proptest::collection::btree_map(0u32..160, 1u32.., 1..30)) {
            let blocks = |bits: u32| {
                let mut blocks = ChunkBlocks::default();
                for block in 0..CHUNK_BLOCKS {
                    let state = [BlockState::Below, BlockState::Data, BlockState::Zero, BlockState::Data];
                    blocks.set(block, state[(bits >> (block * 2) & 3) as usize]);
                }
                blocks
            };
            let said: Vec<ChunkEntry> = chunks.iter().map(|(c, bits)| (ChunkIndex(*c), blocks(*bits)))
                .filter(|(_, blocks)| *blocks != ChunkBlocks::default()).collect();
            let mut bytes = encode_header(name());
            bytes.extend(encode_batch(name(), BatchPlace { batch: 1, start: 0 }, &said));
            prop_assert_eq!(entries(&replay(name(), &bytes).unwrap().states), said);
        }

        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut log = encode_header(name());
            log.extend(bytes);
            let _ = replay(name(), &log);
        }
    }
}
