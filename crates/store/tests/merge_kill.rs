//! kill -9 in the middle of merges and prunes: every version that was kept reads as before.

mod layered;

use headwater_store::{PruneMode, Quiet, Store, check};
use layered::{CHUNK, base, data_files, next, read_all};
use model::Root;
use std::collections::BTreeSet;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TEST: &str = "killed_merges_and_prunes_leave_every_kept_version_whole";
/// Set in the child process that is killed: the store to work on.
const STORE_VARIABLE: &str = "HEADWATER_TEST_MERGE_IN";
/// The roots of its versions, base first.
const ROOTS_VARIABLE: &str = "HEADWATER_TEST_MERGE_ROOTS";
const KILLS: u32 = 12;

#[test]
fn killed_merges_and_prunes_leave_every_kept_version_whole() {
    if let Some(path) = std::env::var_os(STORE_VARIABLE) {
        merge_and_prune(&Store::open(Path::new(&path)).unwrap());
        return;
    }
    let template = tempfile::tempdir().unwrap();
    let versions = make(template.path());
    let whole = {
        let copy = copy_of(template.path());
        let begun = Instant::now();
        assert!(start(copy.path(), &versions).wait().unwrap().success());
        begun.elapsed()
    };
    for kill in 0..KILLS {
        let copy = copy_of(template.path());
        let mut child = start(copy.path(), &versions);
        std::thread::sleep(moment(kill, whole));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(copy.path()).unwrap();
        let left = store.roots();
        for (number, (root, bytes)) in versions.iter().enumerate() {
            match left.contains(root) {
                true => assert_eq!(&read_all(&store, root), bytes, "version {number}"),
                false => assert_ne!(number % 2, 0, "version {number} was to be kept"),
            }
        }
        let layers = data_files(&store).len();
        drop(store);
        let report = check(copy.path(), &Quiet).unwrap();
        assert_eq!((report.error_count, report.warning_count), (0, 0), "{report:?}");
        assert_eq!(report.layers as usize, layers);
    }
}

/// Spreads the kills over the child's work; the system's noise makes them random enough.
fn moment(kill: u32, whole: Duration) -> Duration {
    whole * (kill * 2 + 1) / (KILLS * 2)
}

fn start(store: &Path, versions: &[(Root, Vec<u8>)]) -> Child {
    let roots: Vec<String> = versions.iter().map(|(root, _)| root.to_string()).collect();
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", TEST]).stdout(Stdio::null());
    command.env(STORE_VARIABLE, store).env(ROOTS_VARIABLE, roots.join(","));
    command.spawn().unwrap()
}

/// A chain of seven versions; those with even numbers are kept by the child.
fn make(path: &Path) -> Vec<(Root, Vec<u8>)> {
    let store = Store::open(path).unwrap();
    let mut bytes: Vec<u8> = (0..64).flat_map(|chunk| vec![chunk + 1; CHUNK]).collect();
    let mut versions = vec![(base(&store, &bytes), bytes.clone())];
    for number in 1..7u8 {
        let changes = [(number * 5, 4, number), (number * 9, 1, 0)];
        let root = next(&store, &versions.last().unwrap().0, &mut bytes, &changes);
        versions.push((root, bytes.clone()));
    }
    versions
}

fn copy_of(template: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let from = template.join(".");
    let status = Command::new("cp").args(["-a", "--sparse=always"]).arg(from).arg(copy.path()).status();
    assert!(status.unwrap().success());
    copy
}

fn merge_and_prune(store: &Store) {
    let roots = std::env::var(ROOTS_VARIABLE).unwrap();
    let roots: Vec<Root> = roots.split(',').map(|line| line.parse().unwrap()).collect();
    store.fold(&roots[4], 2, &Quiet).unwrap();
    let keep: BTreeSet<Root> = roots.iter().copied().step_by(2).collect();
    store.prune(store.prune_mark(), &keep, PruneMode::Delete).unwrap();
    store.flatten(&roots[6]).unwrap();
    store.flatten(&roots[2]).unwrap();
    store.prune(store.prune_mark(), &keep, PruneMode::Delete).unwrap();
}
