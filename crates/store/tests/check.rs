//! The offline check finds what is wrong, and nothing where nothing is.

mod layered;

use headwater_store::{CheckError, CheckReport, DraftName, Quiet, Store, check};
use layered::{CHUNK, base, data_files, next, read_all};
use std::fs;
use std::path::{Path, PathBuf};

/// A store with two versions and a draft with a flushed write; closed.
fn sample(path: &Path) {
    let store = Store::open(path).unwrap();
    let mut bytes = vec![7; 5 * CHUNK + 512];
    bytes[CHUNK..2 * CHUNK].fill(0);
    bytes[3 * CHUNK] = 1;
    let first = base(&store, &bytes);
    let second = next(&store, &first, &mut bytes, &[(0, 1, 9), (4, 1, 0)]);
    assert_eq!(read_all(&store, &second), bytes);
    assert_eq!(data_files(&store).len(), 2);
    let draft = store.create_draft(&DraftName::new("vdisk.3").unwrap(), &second).unwrap();
    draft.write_at(4096, &[5; 4096]).unwrap();
    draft.flush().unwrap();
}

fn found(path: &Path) -> CheckReport {
    check(path, &Quiet).unwrap()
}

#[test]
fn a_good_store_has_no_findings() {
    let directory = tempfile::tempdir().unwrap();
    sample(directory.path());
    let report = found(directory.path());
    assert_eq!((&report.errors[..], &report.warnings[..]), (&[][..], &[][..]));
    assert_eq!((report.versions, report.layers, report.drafts), (2, 2, 1));
    assert_eq!(report.bytes, 4 * CHUNK as u64 + 512 + CHUNK as u64, "every stored chunk once");
}

/// Every file but the lock; in the order of their paths.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files.extend(self::files(&path)),
            false if path.ends_with("lock") => {}
            false => files.push(path),
        }
    }
    files.sort();
    files
}

#[test]
fn a_flipped_byte_in_any_file_and_a_missing_file_is_an_error() {
    let directory = tempfile::tempdir().unwrap();
    sample(directory.path());
    for file in files(directory.path()) {
        let good = fs::read(&file).unwrap();
        let name = file.file_name().unwrap().to_str().unwrap();
        // The data of a draft has no checksums before the checkpoint.
        if !file.starts_with(directory.path().join("drafts")) || name == "head" {
            let mut bad = good.clone();
            bad[0] ^= 1;
            fs::write(&file, &bad).unwrap();
            let result = check(directory.path(), &Quiet);
            let caught = result.is_err() || result.is_ok_and(|report| report.error_count > 0);
            // A layer above may cover the chunk of the layer below in no version that is there.
            assert!(caught, "{}", file.display());
        }
        fs::remove_file(&file).unwrap();
        let result = check(directory.path(), &Quiet);
        let record = file.parent().unwrap().ends_with("versions");
        let caught = result.is_err()
            || result.is_ok_and(|report| report.error_count > 0 || record && report.versions == 1);
        assert!(caught, "without {}", file.display());
        fs::write(&file, &good).unwrap();
    }
    assert_eq!(found(directory.path()).error_count, 0);
}

#[test]
fn strangers_and_left_overs_are_warnings() {
    let directory = tempfile::tempdir().unwrap();
    sample(directory.path());
    fs::write(directory.path().join("thesis.tex"), "x").unwrap();
    fs::write(directory.path().join("versions/readme"), "x").unwrap();
    fs::create_dir(directory.path().join("layers/abcdefgh01234567")).unwrap();
    fs::create_dir(directory.path().join("incoming/abcdefgh01234567")).unwrap();
    let report = found(directory.path());
    assert_eq!((report.error_count, report.warning_count), (0, 4), "{:?}", report.warnings);
}

#[test]
fn a_store_in_use_and_a_directory_that_is_none_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    assert!(matches!(check(directory.path(), &Quiet), Err(CheckError::NotAStore(_))));
    let store = Store::open(directory.path()).unwrap();
    assert!(matches!(check(directory.path(), &Quiet), Err(CheckError::InUse(_))));
    drop(store);
    assert_eq!(found(directory.path()), CheckReport::default());
}
