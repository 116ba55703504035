//! Drafts under many threads, and their logs after many flushes.

#[expect(dead_code, reason = "versions are made by drafts here, not above each other")]
mod layered;

use headwater_store::{CheckpointObserver, Draft, DraftError, DraftName, Quiet, Store};
use layered::base;
use model::ByteRange;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const BLOCK: usize = 4096;
/// The disk of the threads: small, so that they meet.
const BLOCKS: usize = 256;
const WRITERS: u64 = 4;
/// Writes of each thread.
const WRITES: u64 = 600;
/// Blocks of each thread's own; all others are everybody's.
const OWN: usize = 32;

fn draft(path: &Path, blocks: usize) -> (Store, Arc<Draft>) {
    let store = Store::open(path).unwrap();
    let root = base(&store, &vec![0x55; blocks * BLOCK]);
    let draft = store.create_draft(&DraftName::new("disk.2").unwrap(), &root).unwrap();
    (store, draft)
}

/// A block that says who wrote it as which write, in every word.
fn pattern(writer: u64, write: u64) -> Vec<u8> {
    (0..BLOCK as u64 / 8).flat_map(|_| (writer << 32 | write).to_le_bytes()).collect()
}

/// The word that a block is made of; panics where it is torn.
fn word(block: usize, bytes: &[u8]) -> u64 {
    let first = &bytes[..8];
    assert!(bytes.chunks_exact(8).all(|word| word == first), "block {block} is torn");
    u64::from_le_bytes(first.try_into().unwrap())
}

/// Writes as one thread: its own blocks and everybody's in turn; answers what its own hold last.
fn write_much(draft: &Draft, writer: u64) -> Vec<u64> {
    let mut own = vec![0x5555_5555_5555_5555; OWN];
    let mut numbers = writer + 1;
    for write in 1..=WRITES {
        numbers = numbers.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let at = (numbers >> 33) as usize;
        let shared = WRITERS as usize * OWN;
        let block = match write % 2 {
            0 => writer as usize * OWN + at % OWN,
            _ => shared + at % (BLOCKS - shared),
        };
        let offset = (block * BLOCK) as u64;
        let is_own = block < shared;
        if is_own && write % 10 == 0 {
            draft.trim(ByteRange::new(offset, BLOCK as u64)).unwrap();
            own[block % OWN] = 0;
        } else {
            draft.write_at(offset, &pattern(writer, write)).unwrap();
            if is_own {
                own[block % OWN] = writer << 32 | write;
            }
        }
        if write % 40 == 0 {
            draft.flush().unwrap();
        }
    }
    own
}

#[test]
fn many_threads_write_flush_checkpoint_and_read_and_no_block_is_torn_or_lost() {
    let directory = tempfile::tempdir().unwrap();
    let (store, draft) = draft(directory.path(), BLOCKS);
    let written = AtomicBool::new(false);
    let (own, checkpoints) = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let draft = &draft;
                scope.spawn(move || write_much(draft, writer))
            })
            .collect();
        let checkpointer = scope.spawn(|| {
            let mut roots = Vec::new();
            while !written.load(Ordering::Acquire) {
                roots.push(draft.checkpoint(&Quiet).unwrap().root);
            }
            roots
        });
        let reader = scope.spawn(|| {
            let mut bytes = vec![0; BLOCKS * BLOCK];
            while !written.load(Ordering::Acquire) {
                // Block by block: one request of many blocks may see some before and some after.
                for (block, bytes) in bytes.chunks_exact_mut(BLOCK).enumerate() {
                    draft.read_at((block * BLOCK) as u64, bytes).unwrap();
                    word(block, bytes);
                }
            }
        });
        let own: Vec<Vec<u64>> = writers.into_iter().map(|writer| writer.join().unwrap()).collect();
        written.store(true, Ordering::Release);
        reader.join().unwrap();
        (own, checkpointer.join().unwrap())
    });
    assert!(checkpoints.len() > 1, "no checkpoint was made while others wrote");
    let expected: Vec<u64> = own.concat();
    let look = |draft: &Draft| {
        let mut bytes = vec![0; BLOCKS * BLOCK];
        draft.read_at(0, &mut bytes).unwrap();
        bytes.chunks_exact(BLOCK).enumerate().map(|(block, bytes)| word(block, bytes)).collect::<Vec<_>>()
    };
    let last = look(&draft);
    assert_eq!(last[..expected.len()], expected, "each thread's own blocks hold what it wrote last");
    draft.flush().unwrap();
    drop((draft, store));
    let store = Store::open(directory.path()).unwrap();
    let again = store.open_draft(&DraftName::new("disk.2").unwrap()).unwrap();
    assert_eq!(look(&again), last, "and so it is after a start");
    let root = again.checkpoint(&Quiet).unwrap().root;
    let sealed = layered::read_all(&store, &root);
    let words = sealed.chunks_exact(BLOCK).enumerate().map(|(block, bytes)| word(block, bytes));
    assert_eq!(words.collect::<Vec<_>>(), last, "and in the version of a checkpoint");
}

/// Cancels a checkpoint after its first step.
struct CancelledAtOnce(AtomicBool);

impl CheckpointObserver for CancelledAtOnce {
    fn progress(&self, _: u64, _: u64) {
        self.0.store(true, Ordering::Release);
    }

    fn cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[test]
fn a_cancelled_checkpoint_publishes_nothing_and_the_next_one_has_all_of_it() {
    let directory = tempfile::tempdir().unwrap();
    let blocks = 2048;
    let (store, draft) = draft(directory.path(), blocks);
    let used = store.space().unwrap().used;
    draft.write_at(0, &vec![7; blocks * BLOCK]).unwrap();
    draft.flush().unwrap();
    assert!(store.space().unwrap().used >= used + (blocks * BLOCK) as u64, "a draft's bytes count");
    let before = draft.parent_root();
    let cancelled = draft.checkpoint(&CancelledAtOnce(AtomicBool::new(false)));
    assert!(matches!(cancelled, Err(DraftError::Cancelled)), "{cancelled:?}");
    assert_eq!((draft.parent_root(), store.unclaimed()), (before, vec![]));
    draft.write_at(0, &[8; BLOCK]).unwrap();
    draft.flush().unwrap();
    let mut bytes = vec![0; 2 * BLOCK];
    draft.read_at(0, &mut bytes).unwrap();
    assert_eq!((bytes[0], bytes[BLOCK]), (8, 7));
    drop((draft, store));
    let store = Store::open(directory.path()).unwrap();
    let draft = store.open_draft(&DraftName::new("disk.2").unwrap()).unwrap();
    let made = draft.checkpoint(&Quiet).unwrap();
    assert_eq!(made.changed_chunks as usize, blocks / 16 + 1, "those of the first, and the one since");
    let version = layered::read_all(&store, &made.root);
    assert!(version[..BLOCK].iter().all(|byte| *byte == 8));
    assert!(version[BLOCK..].iter().all(|byte| *byte == 7));
}

/// The length of a draft's only log in bytes.
fn log_bytes(store: &Path) -> u64 {
    let files = std::fs::read_dir(store.join("drafts/disk.2")).unwrap().map(|entry| entry.unwrap().path());
    let logs: Vec<_> = files.filter(|path| path.extension().is_some_and(|end| end == "log")).collect();
    assert_eq!(logs.len(), 1, "{logs:?}");
    logs[0].metadata().unwrap().len()
}

#[test]
fn a_log_that_has_grown_long_is_written_anew_and_says_the_same() {
    let directory = tempfile::tempdir().unwrap();
    const MANY: usize = 8192;
    let (store, draft) = draft(directory.path(), MANY);
    let (mut lengths, mut is_data) = (vec![log_bytes(directory.path())], vec![None; MANY]);
    for round in 0..19u8 {
        // Every second block, so that each is a record of its own.
        for block in (0..MANY).step_by(2) {
            let offset = (block * BLOCK) as u64;
            match round % 2 {
                0 => draft.write_at(offset, &[round + 1; BLOCK]).unwrap(),
                _ => draft.trim(ByteRange::new(offset, BLOCK as u64)).unwrap(),
            }
            is_data[block] = Some(if round % 2 == 0 { round + 1 } else { 0 });
        }
        draft.flush().unwrap();
        lengths.push(log_bytes(directory.path()));
    }
    // Something behind the new log's first batch, and something that no flush has confirmed.
    draft.write_at(0, &[0xAA; BLOCK]).unwrap();
    draft.flush().unwrap();
    is_data[0] = Some(0xAA);
    let shrunk = lengths.windows(2).filter(|pair| pair[1] < pair[0]).count();
    assert_eq!(shrunk, 1, "it was written anew once: {lengths:?}");
    drop((draft, store));
    let store = Store::open(directory.path()).unwrap();
    let draft = store.open_draft(&DraftName::new("disk.2").unwrap()).unwrap();
    let mut bytes = vec![0; MANY * BLOCK];
    draft.read_at(0, &mut bytes).unwrap();
    for (block, bytes) in bytes.chunks_exact(BLOCK).enumerate() {
        let expected = is_data[block].unwrap_or(0x55);
        assert!(bytes.iter().all(|byte| *byte == expected), "block {block} is not {expected:#x}");
    }
}
