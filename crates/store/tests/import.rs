//! Imports end to end: what comes out is what went in, whatever the source and the threads.

use headwater_store::{
    ChunkError, ImportError, ImportObserver, ImportOptions, ImportProgress, Place, Quiet, Store, StoreError,
    StoredVersion, VersionError,
};
use image::{ImageError, ImageReader, Run, RunKind};
use model::{CHUNK_SIZE, ChunkHash, ChunkIndex};
use proptest::prelude::*;
use std::cell::Cell;
use std::num::NonZeroUsize;
use std::sync::Arc;

const CHUNK: usize = CHUNK_SIZE as usize;

/// An image in memory whose holes are known in steps of `grain` bytes.
struct Memory {
    bytes: Vec<u8>,
    grain: usize,
}

impl ImageReader for Memory {
    fn size_bytes(&self) -> u64 {
        self.bytes.len() as u64
    }

    fn run_at(&self, offset: u64, limit: u64) -> Result<Run, ImageError> {
        let at = offset as usize;
        let end = ((at / self.grain + 1) * self.grain).min(self.bytes.len());
        let zero = self.bytes[at..end].iter().all(|byte| *byte == 0);
        let kind = if zero { RunKind::Hole } else { RunKind::Data };
        Ok(Run { len: ((end - at) as u64).min(limit), kind })
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> Result<(), ImageError> {
        let at = offset as usize;
        buffer.copy_from_slice(&self.bytes[at..at + buffer.len()]);
        Ok(())
    }
}

fn options(threads: usize) -> ImportOptions {
    ImportOptions { threads: NonZeroUsize::new(threads).unwrap(), reserve_bytes: 0 }
}

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::open(directory.path()).unwrap();
    (directory, store)
}

fn read_all(version: &StoredVersion) -> Vec<u8> {
    let mut bytes = vec![0xee; version.size().bytes() as usize];
    version.read_at(0, &mut bytes).unwrap();
    bytes
}

/// Data with holes: `pieces` are (length in sectors, fill byte; 0 is a hole).
fn image_of(pieces: &[(u16, u8)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (sectors, fill) in pieces {
        bytes.resize(bytes.len() + usize::from(*sectors) * 512, *fill);
    }
    bytes
}

fn sample() -> Vec<u8> {
    let mut bytes = vec![0; 3 * CHUNK + 512];
    bytes[10] = 1;
    bytes[2 * CHUNK + 7] = 2;
    bytes[3 * CHUNK + 511] = 3;
    bytes
}

#[test]
fn an_imported_image_is_read_back_and_verifies() {
    let (_directory, store) = store();
    let image = Memory { bytes: sample(), grain: 4096 };
    let imported = store.import(&image, &options(2), &Quiet).unwrap();
    assert_eq!(imported.stored_bytes, 2 * u64::from(CHUNK_SIZE) + 512);
    let version = store.version(&imported.root).unwrap();
    assert_eq!(read_all(&version), image.bytes);
    assert_eq!(version.place(ChunkIndex(0)), Place::Layer(0));
    assert_eq!(version.place(ChunkIndex(1)), Place::Zero);
    assert_eq!(version.chunk_hash(ChunkIndex(1)).unwrap(), ChunkHash::ZERO);
    let mut buffer = vec![0; CHUNK];
    (0..4).for_each(|chunk| version.verify_chunk(ChunkIndex(chunk), &mut buffer).unwrap());
    assert_eq!(version.layers()[0].file().metadata().unwrap().len(), image.bytes.len() as u64);
}

#[test]
fn an_import_is_unclaimed_until_it_is_claimed_and_both_survive_reopening() {
    let (directory, store) = store();
    let root = store.import(&Memory { bytes: sample(), grain: 512 }, &options(1), &Quiet).unwrap().root;
    assert_eq!((store.unclaimed(), store.roots()), (vec![root], vec![]));
    drop(store);
    let store = Store::open(directory.path()).unwrap();
    assert_eq!((store.unclaimed(), store.roots()), (vec![root], vec![]));
    store.claim(&root).unwrap();
    store.claim(&root).unwrap();
    drop(store);
    let store = Store::open(directory.path()).unwrap();
    assert_eq!((store.unclaimed(), store.roots()), (vec![], vec![root]));
    assert_eq!(read_all(&store.version(&root).unwrap()), sample());
}

#[test]
fn the_same_content_is_stored_once() {
    let (directory, store) = store();
    let first = store.import(&Memory { bytes: sample(), grain: 512 }, &options(1), &Quiet).unwrap();
    let second = store.import_stream(&mut &sample()[..], None, &options(3), &Quiet).unwrap();
    assert_eq!(second.root, first.root);
    assert!(second.already_stored && second.stored_bytes == 0);
    assert_eq!(std::fs::read_dir(directory.path().join("layers")).unwrap().count(), 1);
    assert_eq!(std::fs::read_dir(directory.path().join("incoming")).unwrap().count(), 0);
}

#[test]
fn a_deleted_version_is_gone_but_its_readers_read_on() {
    let (directory, store) = store();
    let root = store.import(&Memory { bytes: sample(), grain: 512 }, &options(1), &Quiet).unwrap().root;
    let version = store.version(&root).unwrap();
    assert!(store.space().unwrap().used > 0);
    assert!(store.delete(&root).unwrap().bytes >= 2 * u64::from(CHUNK_SIZE));
    assert!(matches!(store.version(&root), Err(VersionError::Missing(_))));
    assert!(matches!(store.delete(&root), Err(StoreError::Missing(_))));
    assert_eq!(store.space().unwrap().used, 0);
    assert_eq!(read_all(&version), sample());
    assert_eq!(std::fs::read_dir(directory.path().join("layers")).unwrap().count(), 0);
}

#[test]
fn an_open_version_is_shared() {
    let (_directory, store) = store();
    let root = store.import(&Memory { bytes: sample(), grain: 512 }, &options(1), &Quiet).unwrap().root;
    let version = store.version(&root).unwrap();
    assert!(Arc::ptr_eq(&version, &store.version(&root).unwrap()));
}

#[test]
fn a_changed_byte_on_the_disk_is_never_given_out() {
    let (directory, store) = store();
    let root = store.import(&Memory { bytes: sample(), grain: 512 }, &options(1), &Quiet).unwrap().root;
    let layer = std::fs::read_dir(directory.path().join("layers")).unwrap().next().unwrap().unwrap().path();
    let data = std::fs::OpenOptions::new().write(true).open(layer.join("data")).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&data, b"x", 100).unwrap();
    let version = store.version(&root).unwrap();
    assert!(matches!(version.read_at(5000, &mut [0; 10]), Err(ImageError::Damaged(_))));
    assert!(matches!(version.read_at(0, &mut [0; CHUNK]), Err(ImageError::Damaged(_))));
    version.read_at(2 * CHUNK as u64, &mut [0; 1000]).unwrap();
    let mut buffer = vec![0; CHUNK];
    assert!(matches!(version.verify_chunk(ChunkIndex(0), &mut buffer), Err(ChunkError::Corrupt { .. })));
}

#[test]
fn runs_tell_what_is_zero() {
    let (_directory, store) = store();
    let root = store.import(&Memory { bytes: sample(), grain: 512 }, &options(1), &Quiet).unwrap().root;
    let version = store.version(&root).unwrap();
    let run = |offset, limit| version.run_at(offset, limit).unwrap();
    assert_eq!(run(0, u64::MAX), Run { len: CHUNK as u64, kind: RunKind::Data });
    assert_eq!(run(CHUNK as u64 + 1, u64::MAX), Run { len: CHUNK as u64 - 1, kind: RunKind::Hole });
    assert_eq!(run(2 * CHUNK as u64, u64::MAX), Run { len: CHUNK as u64 + 512, kind: RunKind::Data });
    assert_eq!(run(2 * CHUNK as u64, 5), Run { len: 5, kind: RunKind::Data });
}

struct Cancelling(Cell<u32>);

impl ImportObserver for Cancelling {
    fn progress(&self, _: ImportProgress) {}

    fn cancelled(&self) -> bool {
        self.0.set(self.0.get() + 1);
        true
    }
}

#[test]
fn a_cancelled_import_leaves_nothing() {
    let (directory, store) = store();
    let bytes = vec![7; 40 << 20];
    let result = store.import_stream(&mut &bytes[..], None, &options(2), &Cancelling(Cell::new(0)));
    assert!(matches!(result, Err(ImportError::Cancelled)), "{result:?}");
    assert_eq!(std::fs::read_dir(directory.path().join("incoming")).unwrap().count(), 0);
    assert!(store.unclaimed().is_empty());
}

#[test]
fn a_stream_that_is_no_raw_image_is_refused() {
    let (directory, store) = store();
    let import = |bytes: &[u8]| store.import_stream(&mut &bytes[..], None, &options(2), &Quiet);
    assert!(matches!(import(b""), Err(ImportError::Size(_))));
    assert!(matches!(import(&[1; 1000]), Err(ImportError::Size(_))));
    assert!(matches!(import(b"QFI\xfb\0\0\0\x03"), Err(ImportError::NotRaw("qcow2"))));
    assert!(matches!(import(b"\x1f\x8b\x08\0"), Err(ImportError::NotRaw("gzip"))));
    assert_eq!(std::fs::read_dir(directory.path().join("incoming")).unwrap().count(), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    /// Invariant 2 of DESIGN section 9: two encoders agree.
    #[test]
    fn threads_runs_and_source_do_not_change_the_root(
        pieces in proptest::collection::vec((1u16..600, prop_oneof![Just(0u8), any::<u8>()]), 1..40),
        grain in prop_oneof![Just(512usize), Just(4096), Just(65536), Just(100 * 512)],
    ) {
        let bytes = image_of(&pieces);
        let (_one, first) = store();
        let (_two, second) = store();
        let a = first.import(&Memory { bytes: bytes.clone(), grain }, &options(1), &Quiet).unwrap();
        let b = second.import(&Memory { bytes: bytes.clone(), grain: 1 << 30 }, &options(8), &Quiet).unwrap();
        let c = first.import_stream(&mut &bytes[..], None, &options(3), &Quiet).unwrap();
        prop_assert_eq!(a.root, b.root);
        prop_assert_eq!(a.root, c.root);
        prop_assert_eq!(a.stored_bytes, b.stored_bytes);
        let version = first.version(&a.root).unwrap();
        prop_assert_eq!(read_all(&version), bytes);
        let qcow2 = second.path().join("out.qcow2");
        image::export_qcow2(&*version, &qcow2).unwrap();
        let d = second.import(&*image::open(&qcow2).unwrap(), &options(2), &Quiet).unwrap();
        prop_assert!(d.already_stored && d.root == a.root);
    }
}
