//! What a crash, a full disk or a stranger may leave behind, and what the store makes of it.

use headwater_store::{ImportError, ImportOptions, Imported, Quiet, Store, StoreError, VersionError};
use image::ImageReader;
use std::fs;
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::Command;

const IMAGE_BYTES: usize = 3 << 20;

fn import(store: &Store, fill: u8) -> Imported {
    let bytes = vec![fill; IMAGE_BYTES];
    let options = ImportOptions { threads: NonZeroUsize::MIN, reserve_bytes: 0 };
    store.import_stream(&mut &bytes[..], None, &options, &Quiet).unwrap()
}

fn names(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name());
    names.map(|name| name.into_string().unwrap()).collect()
}

fn assert_empty(path: &Path) {
    for directory in ["incoming", "layers", "unclaimed", "versions"] {
        assert_eq!(names(&path.join(directory)), Vec::<String>::new(), "{directory}");
    }
}

/// Moves the files of a finished import back to where they were after each step of publication.
#[test]
fn a_crash_after_any_step_of_publication_leaves_all_or_nothing() {
    for step in ["staged", "record written", "layer in place", "all"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let root = import(&Store::open(path).unwrap(), 1).root;
        let layer = names(&path.join("layers")).remove(0);
        let record = path.join("unclaimed").join(root.to_string());
        let staged_record = path.join("incoming").join(format!("{layer}.version"));
        let back =
            || fs::rename(path.join("layers").join(&layer), path.join("incoming").join(&layer)).unwrap();
        match step {
            "staged" => {
                fs::remove_file(&record).unwrap();
                back();
            }
            "record written" => {
                fs::rename(&record, &staged_record).unwrap();
                back();
            }
            "layer in place" => fs::rename(&record, &staged_record).unwrap(),
            _ => {}
        }
        let store = Store::open(path).unwrap();
        if step == "all" {
            assert_eq!(store.unclaimed(), [root]);
        } else {
            assert!(store.unclaimed().is_empty(), "{step}");
            assert_empty(path);
        }
        assert_eq!(import(&store, 1).root, root, "{step}: and the import can be made again");
    }
}

#[test]
fn a_crash_while_a_store_is_created_does_no_harm() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    fs::write(path.join("lock"), "").unwrap();
    fs::create_dir(path.join("incoming")).unwrap();
    fs::write(path.join("format.new"), "headwa").unwrap();
    import(&Store::open(path).unwrap(), 1);
}

#[test]
fn a_foreign_directory_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    fs::write(directory.path().join("thesis.tex"), "x").unwrap();
    let error = Store::open(directory.path()).unwrap_err();
    assert!(matches!(&error, StoreError::NotAStore { found, .. } if found == "thesis.tex"), "{error}");
    assert_eq!(names(directory.path()), ["thesis.tex"]);
}

#[test]
fn another_format_revision_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(Store::open(directory.path()).unwrap());
    fs::write(directory.path().join("format"), "headwater store, revision 2\n").unwrap();
    let error = Store::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains("revision 2") && error.contains("hint:"), "{error}");
}

#[test]
fn a_store_is_open_once() {
    let directory = tempfile::tempdir().unwrap();
    let first = Store::open(directory.path()).unwrap();
    let error = Store::open(directory.path()).unwrap_err().to_string();
    assert!(error.contains(&format!("process {}", std::process::id())), "{error}");
    drop(first);
    Store::open(directory.path()).unwrap();
}

#[test]
fn a_damaged_record_hides_no_other_version_and_can_be_deleted() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let store = Store::open(path).unwrap();
    let (good, bad) = (import(&store, 1).root, import(&store, 2).root);
    store.claim(&bad).unwrap();
    drop(store);
    fs::write(path.join("versions").join(bad.to_string()), "garbage").unwrap();
    let store = Store::open(path).unwrap();
    assert!(store.version(&good).is_ok());
    assert!(matches!(store.version(&bad), Err(VersionError::Corrupt { .. })));
    assert_eq!(store.roots(), [bad]);
    assert_eq!(names(&path.join("layers")).len(), 2, "whose the layers are is not known");
    assert!(store.delete(&bad).unwrap().bytes >= IMAGE_BYTES as u64);
    assert_eq!(names(&path.join("layers")).len(), 1);
    assert!(store.version(&good).is_ok());
}

#[test]
fn importing_again_repairs_a_damaged_version_and_keeps_its_claim() {
    for damage in ["record", "present", "pages", "data", "layer"] {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let store = Store::open(path).unwrap();
        let root = import(&store, 1).root;
        store.claim(&root).unwrap();
        drop(store);
        let layer = path.join("layers").join(names(&path.join("layers")).remove(0));
        match damage {
            "record" => fs::write(path.join("versions").join(root.to_string()), "").unwrap(),
            "layer" => fs::remove_dir_all(&layer).unwrap(),
            file => fs::write(layer.join(file), "short").unwrap(),
        }
        let store = Store::open(path).unwrap();
        assert!(matches!(store.version(&root), Err(VersionError::Corrupt { .. })), "{damage}");
        assert!(!import(&store, 1).already_stored);
        assert_eq!(store.roots(), [root]);
        let mut bytes = vec![0; IMAGE_BYTES];
        store.version(&root).unwrap().read_at(0, &mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 1));
        assert_eq!(names(&path.join("layers")).len(), 1);
    }
}

/// A file system of 32 MiB in memory, unmounted at the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let options = ["-t", "tmpfs", "-o", "size=32M", "tmpfs"];
        let mounted = Command::new("mount").args(options).arg(directory.path()).status().unwrap();
        assert!(mounted.success(), "this test mounts a small tmpfs: run it as root");
        Self(directory)
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.0.path()).status();
    }
}

/// A stream of the given length that is no zero.
struct Endless(u64);

impl std::io::Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.0.min(buffer.len() as u64);
        buffer[..len as usize].fill(3);
        self.0 -= len;
        Ok(len as usize)
    }
}

/// A raw image file of which only `data` bytes at the beginning are not zero, without holes.
fn full_image(directory: &Path, len: usize, data: usize) -> Box<dyn ImageReader> {
    let mut bytes = vec![0; len];
    bytes[..data].fill(7);
    fs::write(directory.join("full.raw"), bytes).unwrap();
    image::open(&directory.join("full.raw")).unwrap()
}

#[test]
fn an_image_larger_than_the_free_space_is_refused_and_nothing_is_left() {
    let disk = SmallDisk::mount();
    let elsewhere = tempfile::tempdir().unwrap();
    let store = Store::open(&disk.0.path().join("store")).unwrap();
    let options = |reserve_bytes| ImportOptions { threads: NonZeroUsize::MIN, reserve_bytes };
    let large = full_image(elsewhere.path(), 64 << 20, 64 << 20);
    let result = store.import(&*large, &options(0), &Quiet);
    assert!(matches!(result, Err(ImportError::NoSpace { needed, free }) if needed > free), "{result:?}");
    // The file system is full before the reserve of 0 bytes is touched.
    let result = store.import_stream(&mut Endless(64 << 20), None, &options(0), &Quiet);
    assert!(matches!(result, Err(ImportError::NoSpace { .. })), "{result:?}");
    // The reserve is touched before the file system is full.
    let result = store.import_stream(&mut Endless(64 << 20), None, &options(8 << 20), &Quiet);
    assert!(matches!(result, Err(ImportError::NoSpace { .. })), "{result:?}");
    assert_empty(store.path());
    let mostly_zero = full_image(elsewhere.path(), 64 << 20, 4 << 20);
    let imported = store.import(&*mostly_zero, &options(8 << 20), &Quiet).unwrap();
    assert_eq!(imported.stored_bytes, 4 << 20);
}
