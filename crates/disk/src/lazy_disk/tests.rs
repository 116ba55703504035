//! What a disk that is here in part fetches, and what it never hides.

use super::*;
use crate::contract;
use crate::mapped_cache::MappedCache;
use model::Root;
use std::collections::BTreeSet;
use std::sync::Mutex;
use store::{ImportOptions, Place, Quiet, ReceiveOptions, Receiving, Store, StoredVersion, Urgency};

/// A source that has everything in another store, unless it is told otherwise.
struct OtherStore {
    from: Arc<StoredVersion>,
    to: Arc<Receiving>,
    asked: Mutex<BTreeSet<u32>>,
    gone: Mutex<bool>,
    /// Leaves what came in memory, until somebody else makes it durable.
    unsettled: Mutex<bool>,
}

impl ChunkSource for OtherStore {
    fn open(&self, root: Root) -> Result<(), FetchError> {
        assert_eq!(root, self.from.root());
        Ok(())
    }

    fn fetch(&self, _: Root, chunks: &[ChunkIndex]) -> Result<(), FetchError> {
        if *self.gone.lock().unwrap() {
            return Err(FetchError::NoSource { chunk: chunks[0].0, waited_s: 0 });
        }
        for chunk in chunks {
            self.asked.lock().unwrap().insert(chunk.0);
            let bytes = self.from.chunk_for_peer(*chunk).unwrap();
            self.to.put(*chunk, &bytes, Urgency::OnDemand).unwrap();
        }
        if *self.unsettled.lock().unwrap() {
            return Ok(());
        }
        self.to.settle().map(drop).map_err(|error| FetchError::Failed(error.to_string()))
    }

    fn expect(&self, root: Root, chunks: &[ChunkIndex]) {
        assert!(
            chunks.iter().all(|chunk| chunk.0 < self.from.size().chunk_count()) && root == self.from.root()
        );
    }
}

struct Scene {
    _directory: tempfile::TempDir,
    bytes: Vec<u8>,
    source: Arc<OtherStore>,
    disk: LazyDisk,
}

fn scene() -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes: Vec<u8> = (0..3_000_320u32).map(|i| (i.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    bytes[300_000..1_200_000].fill(0);
    let from = Store::open(&directory.path().join("from")).unwrap();
    let to = Store::open(&directory.path().join("to")).unwrap();
    let options = ImportOptions { reserve_bytes: 0, ..ImportOptions::default() };
    let root = from.import_stream(&mut &bytes[..], None, &options, &Quiet).unwrap().root;
    let from = from.version(&root).unwrap();
    let pages: Vec<_> =
        from.manifest().pages().iter().map(|name| from.page_named(*name).unwrap().unwrap()).collect();
    let to = to.begin_receive(from.manifest(), &pages, None, ReceiveOptions { reserve_bytes: 0 }).unwrap();
    let near = VersionDisk::open(Arc::clone(to.version()), &MappedCache::new(1 << 30)).unwrap();
    let (asked, gone, unsettled) = (Mutex::default(), Mutex::default(), Mutex::default());
    let source = Arc::new(OtherStore { from, to, asked, gone, unsettled });
    let disk = LazyDisk::new(near, Arc::clone(&source) as Arc<dyn ChunkSource>);
    Scene { _directory: directory, bytes, source, disk }
}

#[test]
fn it_keeps_the_contract_of_a_read_only_disk_while_it_fills() {
    let scene = scene();
    contract::read_only(&scene.disk, &scene.bytes);
    assert!(scene.disk.near().version().is_complete());
}

#[test]
fn what_came_is_read_before_it_is_durable() {
    let scene = scene();
    *scene.source.unsettled.lock().unwrap() = true;
    let version = Arc::clone(scene.disk.near().version());
    let mut found = vec![0; 100_000];
    scene.disk.read_at(30_000, &mut found).unwrap();
    assert_eq!(found, scene.bytes[30_000..130_000]);
    assert_eq!(
        (version.place(ChunkIndex(0)), version.place(ChunkIndex(1))),
        (Place::Missing, Place::Missing)
    );
    scene.source.to.settle().unwrap();
    assert!(matches!(version.place(ChunkIndex(1)), Place::Layer(_)));
    scene.disk.read_at(30_000, &mut found).unwrap();
    assert_eq!(found, scene.bytes[30_000..130_000]);
    contract::read_only(&scene.disk, &scene.bytes);
}

#[test]
fn only_what_is_missing_is_fetched_and_only_once() {
    let scene = scene();
    assert!(scene.disk.is_far(ByteRange::new(70_000, 10)));
    scene.disk.read_at(70_000, &mut [0; 10]).unwrap();
    assert!(!scene.disk.is_far(ByteRange::new(70_000, 10)));
    scene.disk.read_at(400_000, &mut [0; 100_000]).unwrap();
    *scene.source.gone.lock().unwrap() = true;
    scene.disk.read_at(70_000, &mut [0; 10]).unwrap();
    assert_eq!(*scene.source.asked.lock().unwrap(), BTreeSet::from([1]));
}

#[test]
fn without_a_source_only_what_is_missing_is_an_error() {
    let scene = scene();
    *scene.source.gone.lock().unwrap() = true;
    let error = scene.disk.read_at(0, &mut [0; 512]).unwrap_err();
    assert!(matches!(&error, BlockError::Io(text) if text.contains("no server that has chunk 0")), "{error}");
    scene.disk.read_at(400_000, &mut [0; 100_000]).unwrap();
    *scene.source.gone.lock().unwrap() = false;
    scene.disk.read_at(0, &mut [0; 512]).unwrap();
}

#[test]
fn what_is_damaged_here_never_falls_through() {
    let scene = scene();
    scene.disk.read_at(0, &mut [0; 512]).unwrap();
    let version = Arc::clone(scene.disk.near().version());
    let file = std::fs::OpenOptions::new().write(true).open(version.layers()[0].path()).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[1; 512], 0).unwrap();
    scene.source.to.store().scrub(&store::scrub::ScrubOptions::default(), &Quiet).unwrap();
    assert_eq!(version.place(ChunkIndex(0)), Place::Quarantined);
    scene.source.asked.lock().unwrap().clear();
    let error = scene.disk.read_at(0, &mut [0; 512]).unwrap_err();
    assert!(matches!(&error, BlockError::Io(text) if text.contains("damaged")), "{error}");
    assert_eq!(scene.source.asked.lock().unwrap().len(), 0);
}
