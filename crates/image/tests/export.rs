//! Exports give back the imported bytes, by qemu-img's word too.

mod qemu;

use headwater_image::{ImageError, ImageReader, export_qcow2, export_raw, open};
use proptest::prelude::*;
use qemu::{disk, qemu_img_ok, text};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

fn raw_image(directory: &Path, bytes: &[u8]) -> Box<dyn ImageReader> {
    let path = directory.join("source.raw");
    fs::write(&path, bytes).unwrap();
    open(&path).unwrap()
}

#[test]
fn a_raw_export_is_identical_and_sparse() {
    let directory = tempfile::tempdir().unwrap();
    let mut bytes = vec![0; (16 << 20) + 512];
    bytes[5 << 20] = 1;
    bytes[(16 << 20) + 511] = 2;
    let out = directory.path().join("out.raw");
    export_raw(&*raw_image(directory.path(), &bytes), &out).unwrap();
    assert!(fs::read(&out).unwrap() == bytes);
    assert!(fs::metadata(&out).unwrap().blocks() * 512 <= 64 << 10);
}

#[test]
fn a_qcow2_export_passes_qemu_img_check_and_compare() {
    let directory = tempfile::tempdir().unwrap();
    for (seed, sectors) in [(1, 1), (2, 127), (3, 128), (4, 20_000), (5, 70_001)] {
        let bytes = disk(seed, sectors);
        let source = raw_image(directory.path(), &bytes);
        let out = directory.path().join(format!("out-{seed}.qcow2"));
        export_qcow2(&*source, &out).unwrap();
        qemu_img_ok(&["check", "-f", "qcow2", text(&out)]);
        let raw = directory.path().join("source.raw");
        qemu_img_ok(&["compare", "-f", "raw", "-F", "qcow2", text(&raw), text(&out)]);
    }
}

/// Spans several L2 tables and a hole longer than one of them.
#[test]
fn a_large_sparse_qcow2_export_passes_too() {
    let directory = tempfile::tempdir().unwrap();
    let raw = directory.path().join("large.raw");
    let file = fs::File::create(&raw).unwrap();
    file.set_len((3 << 30) + 4096).unwrap();
    for offset in [0u64, (512 << 20) - 512, 1 << 20, 3 << 30] {
        std::os::unix::fs::FileExt::write_all_at(&file, &[9; 512], offset).unwrap();
    }
    let out = directory.path().join("large.qcow2");
    export_qcow2(&*open(&raw).unwrap(), &out).unwrap();
    qemu_img_ok(&["check", "-f", "qcow2", text(&out)]);
    qemu_img_ok(&["compare", "-f", "raw", "-F", "qcow2", text(&raw), text(&out)]);
}

#[test]
fn an_export_replaces_nothing_and_leaves_nothing_half() {
    let directory = tempfile::tempdir().unwrap();
    let source = raw_image(directory.path(), &disk(1, 100));
    let out = directory.path().join("taken");
    fs::write(&out, "mine").unwrap();
    assert!(matches!(export_raw(&*source, &out), Err(ImageError::Io { .. })));
    assert_eq!(fs::read(&out).unwrap(), b"mine");
    assert!(export_qcow2(&*source, &directory.path().join("no/such/directory")).is_err());
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 2);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn both_exports_read_back_to_the_byte(seed in any::<u64>(), sectors in 1usize..12_000) {
        let directory = tempfile::tempdir().unwrap();
        let bytes = disk(seed, sectors);
        let source = raw_image(directory.path(), &bytes);
        let (raw, qcow2) = (directory.path().join("out.raw"), directory.path().join("out.qcow2"));
        export_raw(&*source, &raw).unwrap();
        export_qcow2(&*source, &qcow2).unwrap();
        prop_assert!(fs::read(&raw).unwrap() == bytes);
        let mut read = vec![0; bytes.len()];
        open(&qcow2).unwrap().read_at(0, &mut read).unwrap();
        prop_assert!(read == bytes);
    }
}
