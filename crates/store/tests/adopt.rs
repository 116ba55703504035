//! Files that were brought by other means: what they have is copied, and nothing of them believed.

use headwater_store::{AdoptError, ImportOptions, Quiet, ReceiveOptions, Receiving, Store, StoredVersion};
use image::ImageReader;
use model::Root;
use std::path::Path;
use std::sync::Arc;

const MIB: usize = 1 << 20;

/// A disk of 9 MiB: numbers, a hole of 2 MiB, numbers again, and a tail of half a chunk.
fn disk(seed: u32) -> Vec<u8> {
    let byte = |n: u64| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8 ^ seed as u8;
    let mut bytes: Vec<u8> = (0..(9 * MIB as u64 - 32_768)).map(byte).collect();
    bytes[3 * MIB..5 * MIB].fill(0);
    bytes
}

struct Scene {
    directory: tempfile::TempDir,
    from: Arc<StoredVersion>,
    to: Store,
}

fn scene(bytes: &[u8]) -> Scene {
    let directory = tempfile::tempdir().unwrap();
    let from = Store::open(&directory.path().join("from")).unwrap();
    let options = ImportOptions { reserve_bytes: 0, ..ImportOptions::default() };
    let root: Root = from.import_stream(&mut &bytes[..], None, &options, &Quiet).unwrap().root;
    let from = from.version(&root).unwrap();
    let to = Store::open(&directory.path().join("to")).unwrap();
    Scene { directory, from, to }
}

impl Scene {
    fn begin(&self) -> Arc<Receiving> {
        let lacking = self.to.lacking_pages(self.from.manifest());
        let pages: Vec<_> =
            lacking.into_iter().map(|name| self.from.page_named(name).unwrap().unwrap()).collect();
        let options = ReceiveOptions { reserve_bytes: 0 };
        self.to.begin_receive(self.from.manifest(), &pages, None, options).unwrap()
    }

    fn file(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let path = self.directory.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }

    fn adopt(&self, path: &Path) -> u64 {
        self.to.adopt(path, image::open(path).unwrap(), &|_| true).unwrap()
    }
}

#[test]
fn an_adopted_copy_leaves_nothing_to_be_fetched() {
    let bytes = disk(1);
    let scene = scene(&bytes);
    let path = scene.file("copy.raw", &bytes);
    assert_eq!(scene.adopt(&path), 7 * MIB as u64, "the hole is not counted, the tail in whole chunks");
    let receiving = scene.begin();
    receiving.copy_seeds(&|| false).unwrap();
    assert_eq!(receiving.wanted().unwrap(), []);
    assert!(receiving.finish().unwrap());
    let mut found = vec![0; bytes.len()];
    receiving.version().read_at(0, &mut found).unwrap();
    assert_eq!(found, bytes);
    assert_eq!((scene.to.adopted_files(), scene.to.taken_bytes()), (vec![path], 7 * MIB as u64));
    scene.to.forget_adopted();
    assert!(scene.to.adopted_files().is_empty());
}

#[test]
fn of_a_file_that_is_older_moved_or_changed_since_only_what_is_the_same_is_copied() {
    let bytes = disk(1);
    let scene = scene(&bytes);
    let receiving = scene.begin();
    // The same from 1 MiB on, and 64 KiB further; then somebody writes into it.
    let mut other = vec![7; MIB + 65_536];
    other.extend(&bytes[MIB..]);
    let path = scene.file("other.raw", &other);
    scene.adopt(&path);
    other[6 * MIB..7 * MIB].fill(9);
    std::fs::write(&path, &other).unwrap();
    receiving.copy_seeds(&|| false).unwrap();
    let wanted = receiving.wanted().unwrap();
    assert_eq!(wanted.len(), 16 + 16, "the first MiB, and what was overwritten");
    assert!(!receiving.finish().unwrap());
    let delta = scene.from.layers()[0].path().to_owned();
    scene.adopt(&delta);
    receiving.copy_seeds(&|| false).unwrap();
    assert!(receiving.finish().unwrap(), "the data of a layer is an image");
}

#[test]
fn an_adoption_can_be_stopped() {
    let scene = scene(&disk(1));
    let path = scene.file("copy.raw", &disk(1));
    let stopped = scene.to.adopt(&path, image::open(&path).unwrap(), &|done| done < MIB as u64);
    assert!(matches!(stopped, Err(AdoptError::Cancelled)));
    assert!(scene.to.adopted_files().is_empty());
}
