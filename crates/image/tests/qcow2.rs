//! qcow2 images made by qemu-img are read to the byte; damaged ones give an error, never garbage.

mod qemu;

use headwater_image::qcow2::Qcow2Image;
use headwater_image::{ImageError, ImageReader, RunKind, open};
use proptest::prelude::*;
use qemu::{disk, qemu_img_ok, text};
use std::fs;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

const SECTORS: usize = 9 * 2048 + 3;

/// Reads the whole disk by its runs, as an import does.
fn read_all(image: &dyn ImageReader) -> Result<Vec<u8>, ImageError> {
    let mut bytes = vec![0; image.size_bytes() as usize];
    let mut at = 0;
    while at < image.size_bytes() {
        let run = image.run_at(at, 1 << 20)?;
        assert!(run.len > 0 && run.len <= 1 << 20, "a run of {} bytes", run.len);
        if run.kind == RunKind::Data {
            image.read_at(at, &mut bytes[at as usize..(at + run.len) as usize])?;
        }
        at += run.len;
    }
    Ok(bytes)
}

fn converted(directory: &Path, bytes: &[u8], options: &[&str]) -> PathBuf {
    let (raw, qcow2) = (directory.join("disk.raw"), directory.join("disk.qcow2"));
    fs::write(&raw, bytes).unwrap();
    let fixed = ["convert", "-f", "raw", "-O", "qcow2"];
    qemu_img_ok(&[&fixed[..], options, &[text(&raw), text(&qcow2)]].concat());
    qcow2
}

#[test]
fn every_kind_of_qcow2_that_qemu_makes_reads_to_the_byte() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = disk(7, SECTORS);
    for options in [
        &[][..],
        &["-c"],
        &["-o", "cluster_size=512"],
        &["-o", "cluster_size=4k", "-c"],
        &["-o", "cluster_size=2M"],
        &["-o", "compat=0.10"],
        &["-o", "lazy_refcounts=on"],
        &["-o", "refcount_bits=1"],
        &["-o", "preallocation=metadata"],
        &["-o", "preallocation=full"],
        &["-S", "0"],
    ] {
        let image = open(&converted(directory.path(), &bytes, options)).unwrap();
        assert!(read_all(&*image).unwrap() == bytes, "{options:?}");
    }
}

#[test]
fn an_image_with_snapshots_reads_as_its_present_state() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = disk(8, SECTORS);
    let path = converted(directory.path(), &bytes, &[]);
    qemu_img_ok(&["snapshot", "-c", "before", text(&path)]);
    assert!(read_all(&*open(&path).unwrap()).unwrap() == bytes);
}

#[test]
fn what_is_not_read_is_refused_with_a_hint() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let base = converted(directory.path(), &disk(1, 100), &[]);
    let hint = |path: &Path| match open(path) {
        Err(error @ ImageError::Refused { .. }) => error.to_string(),
        other => panic!("{:?}", other.map(|_| ()).map_err(|error| error.to_string())),
    };
    let child = path("child.qcow2");
    qemu_img_ok(&["create", "-q", "-f", "qcow2", "-b", text(&base), "-F", "qcow2", text(&child)]);
    assert!(hint(&child).contains("backing file"));
    let zstd = path("zstd.qcow2");
    qemu_img_ok(&["create", "-q", "-f", "qcow2", "-o", "compression_type=zstd", text(&zstd), "1M"]);
    assert!(hint(&zstd).contains("zstd"));
    let wide = path("wide.qcow2");
    qemu_img_ok(&["create", "-q", "-f", "qcow2", "-o", "extended_l2=on", text(&wide), "1M"]);
    assert!(hint(&wide).contains("extended L2"));
    // Making a LUKS header is a matter of luck on a busy computer (qemu measures the processor), so
    // only the field that says how an image is encrypted is set: bytes 32 to 35, 2 is LUKS.
    let locked = path("locked.qcow2");
    fs::copy(&base, &locked).unwrap();
    fs::OpenOptions::new().write(true).open(&locked).unwrap().write_all_at(&[0, 0, 0, 2], 32).unwrap();
    assert!(hint(&locked).contains("encrypted"));
    let vmdk = path("disk.vmdk");
    qemu_img_ok(&["create", "-q", "-f", "vmdk", text(&vmdk), "1M"]);
    assert!(hint(&vmdk).contains("qemu-img convert"));
}

/// Whether the file still reads as `bytes`, as far as the disk goes; an error is fine too.
fn is_error_or_right(path: &Path, bytes: &[u8]) -> bool {
    let opened = Qcow2Image::open(fs::File::open(path).unwrap());
    let Ok(image) = opened else { return true };
    // A flipped size may be huge and mostly hole: what it adds is not read.
    if image.size_bytes() > 1 << 30 {
        return true;
    }
    match read_all(&image) {
        Err(_) => true,
        Ok(read) => {
            let common = read.len().min(bytes.len());
            read[..common] == bytes[..common] && read[common..].iter().all(|byte| *byte == 0)
        }
    }
}

#[test]
fn a_cut_file_gives_an_error_or_the_right_bytes_at_every_length() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = disk(3, 4099);
    for options in [&["-o", "cluster_size=4k"][..], &["-c"], &["-o", "compat=0.10"]] {
        let path = converted(directory.path(), &bytes, options);
        let whole = fs::read(&path).unwrap();
        let lengths = (0..200).chain((200..whole.len()).step_by(1531));
        for len in lengths.chain(whole.len() - 20..whole.len()) {
            fs::write(&path, &whole[..len]).unwrap();
            assert!(is_error_or_right(&path, &bytes), "{options:?} cut at {len}");
        }
    }
}

#[test]
fn every_flipped_header_byte_gives_an_error_or_the_right_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = disk(4, 2051);
    for options in [&[][..], &["-o", "compat=0.10"], &["-o", "cluster_size=512"]] {
        let path = converted(directory.path(), &bytes, options);
        let whole = fs::read(&path).unwrap();
        for at in 4..112 {
            for flip in [0x01, 0x02, 0x10, 0x80, 0xff] {
                let mut bad = whole.clone();
                bad[at] ^= flip;
                fs::write(&path, &bad).unwrap();
                assert!(is_error_or_right(&path, &bytes), "{options:?} byte {at} ^ {flip:#x}");
            }
        }
    }
}

/// All bits of a table's entries but those that make another sound table of it: bit 0 of an L2
/// entry means "reads as zero", and no checksum says otherwise.
#[test]
fn every_flipped_table_bit_gives_an_error_or_the_right_bytes() {
    let directory = tempfile::tempdir().unwrap();
    let bytes = disk(5, 2051);
    let path = converted(directory.path(), &bytes, &["-o", "cluster_size=64k"]);
    let whole = fs::read(&path).unwrap();
    let long = |at: usize| u64::from_be_bytes(whole[at..at + 8].try_into().unwrap());
    let l1 = long(40) as usize;
    let l2 = (long(l1) & 0x00ff_ffff_ffff_fe00) as usize;
    let entries = (l2..).step_by(8).take(bytes.len().div_ceil(65_536));
    let used: Vec<usize> = entries.filter(|at| long(*at) != 0).collect();
    for at in used.iter().copied().chain([l1]) {
        for bit in if at == l1 { 0..64 } else { 1..64 } {
            let mut bad = whole.clone();
            bad[at..at + 8].copy_from_slice(&(long(at) ^ 1 << bit).to_be_bytes());
            fs::write(&path, &bad).unwrap();
            assert!(is_error_or_right(&path, &bytes), "entry at {at}, bit {bit}");
        }
    }
}

#[test]
fn a_disk_that_claims_to_be_huge_costs_no_memory() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("huge.qcow2");
    qemu_img_ok(&["create", "-q", "-f", "qcow2", text(&path), "64T"]);
    let image = open(&path).unwrap();
    assert_eq!(image.size_bytes(), 64 << 40);
    assert_eq!(image.run_at(1 << 45, u64::MAX).unwrap().kind, RunKind::Hole);
}

/// A sound image of 1 MiB in clusters of 512 bytes: nearly all of its beginning is tables.
fn small_image() -> &'static [u8] {
    static IMAGE: std::sync::OnceLock<Vec<u8>> = std::sync::OnceLock::new();
    IMAGE.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let path = converted(directory.path(), &disk(6, 2048), &["-o", "cluster_size=512"]);
        fs::read(path).unwrap()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn changed_tables_never_panic(
        changes in proptest::collection::vec((4usize..6000, any::<u8>()), 1..12),
        len in 72usize..40_000,
    ) {
        let mut bytes = small_image().to_vec();
        changes.iter().for_each(|(at, byte)| bytes[*at] = *byte);
        bytes.truncate(len.max(30_000) * 30);
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        if let Ok(image) = Qcow2Image::open(file) && image.size_bytes() <= 1 << 24 {
            let _ = read_all(&image);
        }
    }

    #[test]
    fn any_header_is_answered_without_a_panic(mut bytes in proptest::collection::vec(any::<u8>(), 8..2048)) {
        bytes[..8].copy_from_slice(b"QFI\xfb\0\0\0\x03");
        let file = tempfile::tempfile().unwrap();
        std::os::unix::fs::FileExt::write_all_at(&file, &bytes, 0).unwrap();
        let _ = Qcow2Image::open(file);
    }
}
