//! Versions above versions for the tests, made as a maintenance machine makes them: by drafts.

use headwater_store::{DraftName, ImportOptions, Quiet, Store};
use image::ImageReader;
use model::{CHUNK_SIZE, Root};
use std::num::NonZeroUsize;
use std::path::PathBuf;

pub(crate) const CHUNK: usize = CHUNK_SIZE as usize;

/// A write of one version: first chunk, how many chunks, fill byte (0: zeros).
pub(crate) type Change = (u8, u8, u8);

/// Imports `bytes` and claims the version.
pub(crate) fn base(store: &Store, bytes: &[u8]) -> Root {
    let options = ImportOptions { threads: NonZeroUsize::MIN, reserve_bytes: 0 };
    let root = store.import_stream(&mut &bytes[..], None, &options, &Quiet).unwrap().root;
    store.claim(&root).unwrap();
    root
}

/// Makes a version above `parent` with `changes`, and applies them to `bytes`.
pub(crate) fn next(store: &Store, parent: &Root, bytes: &mut [u8], changes: &[Change]) -> Root {
    let name = DraftName::new("test.1").unwrap();
    let draft = store.create_draft(&name, parent).unwrap();
    for (first, count, fill) in changes {
        let from = usize::from(*first) * CHUNK % bytes.len();
        let to = (from + usize::from(*count) * CHUNK).min(bytes.len());
        bytes[from..to].fill(*fill);
        draft.write_at(from as u64, &bytes[from..to]).unwrap();
    }
    draft.flush().unwrap();
    let root = draft.checkpoint(&Quiet).unwrap().root;
    store.claim(&root).unwrap();
    drop(draft);
    store.delete_draft(&name).unwrap();
    root
}

/// All bytes of a version, verified.
pub(crate) fn read_all(store: &Store, root: &Root) -> Vec<u8> {
    let version = store.version(root).unwrap();
    let mut bytes = vec![0xee; version.size().bytes() as usize];
    version.read_at(0, &mut bytes).unwrap();
    bytes
}

/// The data files of all layers.
pub(crate) fn data_files(store: &Store) -> Vec<PathBuf> {
    let layers = std::fs::read_dir(store.path().join("layers")).unwrap();
    layers.map(|layer| layer.unwrap().path().join("data")).collect()
}
