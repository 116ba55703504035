//! Merging: what is read stays what it was, the root too, and readers are not disturbed.

mod layered;

use headwater_store::{FlattenError, FlattenObserver, FlattenProgress, PruneMode, Store};
use image::ImageReader;
use layered::{CHUNK, Change, base, data_files, next, read_all};
use model::Root;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn sample() -> Vec<u8> {
    let mut bytes = vec![0; 12 * CHUNK + 512];
    for (chunk, bytes) in bytes.chunks_mut(CHUNK).enumerate().filter(|(chunk, _)| chunk % 3 > 0) {
        bytes.fill(chunk as u8 + 100);
    }
    bytes
}

/// A chain of versions: their roots and what they read as.
fn chain(store: &Store, versions: &[Vec<Change>]) -> Vec<(Root, Vec<u8>)> {
    let mut bytes = sample();
    let mut chain = vec![(base(store, &bytes), bytes.clone())];
    for changes in versions {
        let root = next(store, &chain.last().unwrap().0, &mut bytes, changes);
        chain.push((root, bytes.clone()));
    }
    chain
}

fn changes() -> impl Strategy<Value = Vec<Vec<Change>>> {
    let change = (0u8..13, 1u8..4, prop_oneof![Just(0u8), 1u8..9]);
    proptest::collection::vec(proptest::collection::vec(change, 1..5), 1..5)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// merge(base, deltas) reads the same as the chain and yields the same root; so do all other
    /// versions, those above the merged one included, now and after the store was opened again.
    #[test]
    fn a_merged_version_reads_as_its_chain_did(versions in changes(), which in 0usize..5, kept in 0usize..3) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let chain = chain(&store, &versions);
        let (root, bytes) = &chain[which % chain.len()];
        let open = store.version(root).unwrap();
        let before = open.layers().len();
        let done = store.fold(root, kept, &headwater_store::Quiet).unwrap();
        prop_assert_eq!(done.layers_after as usize, before.min(kept + 1));
        prop_assert_eq!(store.version(root).unwrap().layers().len(), before.min(kept + 1));
        let mut old = vec![0; bytes.len()];
        open.read_at(0, &mut old).unwrap();
        prop_assert_eq!(&old, bytes, "who had it open");
        drop(open);
        for (root, bytes) in &chain {
            prop_assert_eq!(&read_all(&store, root), bytes);
        }
        drop(store);
        let store = Store::open(directory.path()).unwrap();
        for (root, bytes) in &chain {
            prop_assert_eq!(&read_all(&store, root), bytes);
        }
    }

    /// Invariant 10: random graphs of versions, some of them merged; a random part is kept.
    #[test]
    fn prune_never_deletes_what_is_kept(
        graph in proptest::collection::vec((0usize..8, changes().prop_map(|mut c| c.remove(0)), any::<bool>(), any::<bool>()), 1..8),
    ) {
        let directory = tempfile::tempdir().unwrap();
        let store = Store::open(directory.path()).unwrap();
        let mut versions = chain(&store, &[]);
        let mut keep = BTreeSet::from([versions[0].0]);
        for (parent, changes, kept, merged) in graph {
            let (parent, mut bytes) = versions[parent % versions.len()].clone();
            let root = next(&store, &parent, &mut bytes, &changes);
            if merged {
                store.flatten(&root).unwrap();
            }
            if kept {
                keep.insert(root);
            }
            versions.push((root, bytes));
        }
        let mark = store.prune_mark();
        let would = store.prune(mark, &keep, PruneMode::DryRun).unwrap();
        prop_assert_eq!(store.prune(mark, &keep, PruneMode::Delete).unwrap(), would);
        prop_assert_eq!(store.roots().into_iter().collect::<BTreeSet<_>>(), keep.clone());
        for (root, bytes) in versions.iter().filter(|(root, _)| keep.contains(root)) {
            prop_assert_eq!(&read_all(&store, root), bytes);
        }
        prop_assert_eq!(store.prune(mark, &keep, PruneMode::Delete).unwrap(), Default::default());
    }
}

#[test]
fn what_is_open_drafted_unclaimed_or_newer_than_the_mark_is_not_pruned() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let chain = chain(&store, &[vec![(0, 1, 1)], vec![(0, 1, 2)]]);
    let open = store.version(&chain[0].0).unwrap();
    let name = headwater_store::DraftName::new("v.2").unwrap();
    let draft = store.create_draft(&name, &chain[1].0).unwrap();
    let none = BTreeSet::new();
    let before = headwater_store::Store::prune_mark(&store);
    store.claim(&chain[2].0).unwrap();
    assert_eq!(store.prune(before, &none, PruneMode::Delete).unwrap().roots, [], "claimed since");
    let mark = store.prune_mark();
    assert_eq!(store.prune(mark, &none, PruneMode::Delete).unwrap().roots, [chain[2].0]);
    drop((open, draft));
    store.delete_draft(&name).unwrap();
    let mut left = vec![chain[0].0, chain[1].0];
    left.sort();
    assert_eq!(store.prune(mark, &none, PruneMode::Delete).unwrap().roots, left);
    assert!(data_files(&store).is_empty());
}

#[test]
fn damage_is_not_spread_by_a_merge() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let chain = chain(&store, &[vec![(0, 1, 1)]]);
    for path in data_files(&store) {
        let data = std::fs::OpenOptions::new().write(true).open(path).unwrap();
        std::os::unix::fs::FileExt::write_all_at(&data, b"x", 4 * CHUNK as u64).unwrap();
    }
    let result = store.flatten(&chain[1].0);
    // Where the file system shares blocks nothing is read, and a scrub finds it in one place.
    assert!(matches!(result, Err(FlattenError::Chunk(_))) || result.is_ok_and(|done| done.copied_bytes == 0));
    assert_eq!(std::fs::read_dir(store.path().join("incoming")).unwrap().count(), 0);
}

struct Cancelling;

impl FlattenObserver for Cancelling {
    fn progress(&self, _: FlattenProgress) {}

    fn cancelled(&self) -> bool {
        true
    }
}

#[test]
fn a_cancelled_merge_changes_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    let chain = chain(&store, &[vec![(0, 1, 1)]]);
    assert!(matches!(store.fold(&chain[1].0, 0, &Cancelling), Err(FlattenError::Cancelled)));
    assert_eq!(store.version(&chain[1].0).unwrap().layers().len(), 2);
    assert_eq!(std::fs::read_dir(store.path().join("incoming")).unwrap().count(), 0);
}
