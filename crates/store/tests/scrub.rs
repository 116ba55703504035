//! Scrub finds every flipped byte, nobody reads a damaged chunk, and what can be repaired is.

mod layered;

use headwater_store::{BadChunk, Place, Quiet, ScrubObserver, ScrubOptions, ScrubProgress, Scrubbed, Store};
use image::ImageReader;
use layered::{CHUNK, base, data_files, next, read_all};
use model::ChunkIndex;
use proptest::prelude::*;
use std::cell::Cell;
use std::fs::OpenOptions;
use std::os::unix::fs::FileExt;
use std::path::Path;

fn numbered(chunks: usize) -> Vec<u8> {
    let mut bytes = vec![0; chunks * CHUNK + 512];
    bytes.chunks_mut(CHUNK).enumerate().for_each(|(chunk, bytes)| bytes.fill(chunk as u8 + 1));
    bytes
}

fn flip(path: &Path, at: u64) {
    let file = OpenOptions::new().read(true).write(true).open(path).unwrap();
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ 0x40], at).unwrap();
    file.sync_all().unwrap();
}

fn scrub(store: &Store) -> Scrubbed {
    let found = store.scrub(&ScrubOptions::default(), &Quiet).unwrap();
    assert!(found.complete);
    found
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_flipped_byte_is_found_and_never_read_again(
        places in proptest::collection::btree_set(0usize..8 * CHUNK + 512, 1..6),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let bytes = numbered(8);
        let root = base(&store, &bytes);
        let open = store.version(&root).unwrap();
        let bad: std::collections::BTreeSet<usize> = places.iter().map(|at| at / CHUNK).collect();
        places.iter().for_each(|at| flip(&data_files(&store)[0], *at as u64));
        let found = scrub(&store);
        prop_assert_eq!(found.bad.iter().map(|bad| bad.chunk.0 as usize).collect::<std::collections::BTreeSet<_>>(), bad.clone());
        prop_assert_eq!(found.quarantined_chunks, bad.len() as u64);
        let again = |store: &Store| store.version(&root).unwrap().quarantined().len();
        prop_assert_eq!(again(&store), bad.len());
        for chunk in 0..9u32 {
            let is_bad = bad.contains(&(chunk as usize));
            let place = open.place(ChunkIndex(chunk));
            prop_assert_eq!(place == Place::Quarantined, is_bad, "who had it open sees it");
            prop_assert_eq!(open.read_at(u64::from(chunk) * CHUNK as u64, &mut [0; 512]).is_err(), is_bad);
        }
        prop_assert_eq!(scrub(&store).bad_chunks, 0, "it is told once");
        drop((store, open));
        let store = Store::open(directory.path()).unwrap();
        prop_assert_eq!(again(&store), bad.len(), "and remembered");
        // The same content, imported again, heals the version.
        prop_assert_eq!(base(&store, &bytes), root);
        prop_assert_eq!(read_all(&store, &root), bytes);
    }
}

#[test]
fn what_a_reader_finds_damaged_is_told_and_goes_into_quarantine_without_a_scrub() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let (rung, bell) = std::sync::mpsc::channel();
    store.on_suspect(move || rung.send(()).unwrap());
    let root = base(&store, &numbered(4));
    let version = store.version(&root).unwrap();
    flip(&data_files(&store)[0], CHUNK as u64 + 5);
    assert_eq!(store.examine(&Quiet).unwrap(), Scrubbed::default(), "nobody has read it");
    let mut bytes = vec![0; 3 * CHUNK];
    version.read_verified(0, &mut bytes).unwrap_err();
    version.read_verified(CHUNK as u64 + 100, &mut bytes[..10]).unwrap_err();
    assert_eq!(bell.try_iter().count(), 1, "it is told once");
    let found = store.examine(&Quiet).unwrap();
    assert_eq!((found.bad_chunks, found.bad[0].chunk), (1, ChunkIndex(1)));
    assert_eq!(version.place(ChunkIndex(1)), Place::Quarantined);
    assert_eq!(store.examine(&Quiet).unwrap().bad_chunks, 0);
    version.read_verified(2 * CHUNK as u64, &mut bytes[..CHUNK]).unwrap();
}

#[test]
fn a_chunk_is_repaired_from_a_layer_that_has_the_same_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let mut bytes = numbered(6);
    let root = base(&store, &bytes);
    let base_file = data_files(&store).remove(0);
    let first = bytes.clone();
    // Chunk 4 of the next version is what chunk 1 of the first is.
    let second = next(&store, &root, &mut bytes, &[(4, 1, 2)]);
    flip(&base_file, CHUNK as u64 + 100);
    let open = store.version(&second).unwrap();
    let found = scrub(&store);
    assert_eq!((found.bad_chunks, found.repaired_chunks, found.quarantined_chunks), (1, 1, 0));
    assert_eq!(read_all(&store, &root), first);
    assert_eq!(read_all(&store, &second), bytes);
    assert!(open.quarantined().is_empty());
    assert_eq!(scrub(&store).bad_chunks, 0);
}

struct StopAfter(Cell<u32>);

impl ScrubObserver for StopAfter {
    fn progress(&self, _: ScrubProgress) {
        self.0.set(self.0.get() - 1);
    }

    fn quarantined(&self, _: &BadChunk) {}

    fn repaired(&self, _: &BadChunk) {}

    fn cancelled(&self) -> bool {
        self.0.get() == 0
    }
}

#[test]
fn a_stopped_scrub_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    base(&store, &numbered(7));
    let first = store.scrub(&ScrubOptions::default(), &StopAfter(Cell::new(3))).unwrap();
    assert!(!first.complete);
    assert_eq!(first.bytes, 3 * CHUNK as u64);
    assert_eq!(scrub(&store).bytes, 4 * CHUNK as u64 + 512);
    assert_eq!(scrub(&store).bytes, 7 * CHUNK as u64 + 512, "and begins anew after the end");
}

#[test]
fn a_damaged_version_is_named_and_the_others_are_verified() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let bad = base(&store, &numbered(3));
    let layer = data_files(&store).remove(0);
    base(&store, &numbered(5));
    std::fs::write(layer.with_file_name("present"), "x").unwrap();
    let found = scrub(&store);
    assert!(found.damaged_versions.contains_key(&bad));
    assert_eq!(found.bytes, 5 * CHUNK as u64 + 512);
}
