//! A version that comes chunk by chunk: what is known at once, what has to come, what is kept
//! through a kill, a power loss, a full disk and a peer that sends something else.

use headwater_store::files::simulated::{Faults, SimulatedFiles};
use headwater_store::{
    CheckReport, ChunkError, ImportOptions, Place, Quiet, ReceiveError, ReceiveOptions, Receiving, Store,
    StoredVersion, Urgency,
};
use image::ImageReader;
use model::{CHUNK_SIZE, ChunkIndex, Page, Root};
use std::num::NonZeroUsize;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

const CHUNK: usize = CHUNK_SIZE as usize;
const NO_RESERVE: ReceiveOptions = ReceiveOptions { reserve_bytes: 0 };

/// Bytes that differ from chunk to chunk.
fn chunk(number: u32) -> Vec<u8> {
    (0..CHUNK as u32)
        .map(|at| (at.wrapping_mul(2_654_435_761) >> 7) as u8 ^ number as u8 ^ (number >> 8) as u8)
        .collect()
}

/// A disk of these chunks; 0 is a chunk of zeros. The last one is cut to 1,000 sectors' rest.
fn disk(chunks: &[u32]) -> Vec<u8> {
    let all = chunks.iter().flat_map(|number| if *number == 0 { vec![0; CHUNK] } else { chunk(*number) });
    let mut bytes: Vec<u8> = all.collect();
    bytes.truncate(bytes.len() - 512);
    bytes
}

fn import(store: &Store, bytes: &[u8]) -> Root {
    let options = ImportOptions { threads: NonZeroUsize::MIN, reserve_bytes: 0 };
    let mut stream = bytes;
    let root = store.import_stream(&mut stream, None, &options, &Quiet).unwrap().root;
    store.claim(&root).unwrap();
    root
}

fn read(version: &StoredVersion) -> Vec<u8> {
    let mut bytes = vec![0; version.size().bytes() as usize];
    version.read_at(0, &mut bytes).unwrap();
    bytes
}

/// The pages that the store lacks, as a peer would send them.
fn pages(store: &Store, from: &StoredVersion) -> Vec<Page> {
    let lacking = store.lacking_pages(from.manifest());
    lacking.into_iter().map(|name| from.page_named(name).unwrap().unwrap()).collect()
}

fn begin(store: &Store, from: &StoredVersion, below: Option<Root>) -> Arc<Receiving> {
    store.begin_receive(from.manifest(), &pages(store, from), below, NO_RESERVE).unwrap()
}

fn put(receiving: &Receiving, from: &StoredVersion, chunk: ChunkIndex) -> Result<u32, ReceiveError> {
    receiving.put(chunk, &from.chunk_for_peer(chunk).unwrap(), Urgency::Bulk)
}

/// The same where a device waits for it.
fn put_now(receiving: &Receiving, from: &StoredVersion, chunk: ChunkIndex) -> Result<u32, ReceiveError> {
    receiving.put(chunk, &from.chunk_for_peer(chunk).unwrap(), Urgency::OnDemand)
}

fn check(path: &Path) -> CheckReport {
    headwater_store::check(path, &Quiet).unwrap()
}

struct Pair {
    _directory: tempfile::TempDir,
    from: Store,
    to: Store,
}

fn pair() -> Pair {
    let directory = tempfile::tempdir().unwrap();
    let from = Store::open(&directory.path().join("from")).unwrap();
    let to = Store::open(&directory.path().join("to")).unwrap();
    Pair { _directory: directory, from, to }
}

#[test]
fn a_version_comes_chunk_by_chunk_and_is_the_same() {
    let Pair { from, to, _directory } = pair();
    let bytes = disk(&[1, 0, 2, 1, 3, 2, 0, 4]);
    let root = import(&from, &bytes);
    let source = from.version(&root).unwrap();
    let receiving = begin(&to, &source, None);
    assert_eq!((to.receiving(), to.roots(), to.has_whole(&root)), (vec![root], vec![], false));
    let version = Arc::clone(receiving.version());
    assert_eq!(version.place(ChunkIndex(1)), Place::Zero, "chunks of zeros are known by their hash");
    assert_eq!(version.missing_count(), 6);
    let wanted = receiving.wanted().unwrap();
    assert_eq!(wanted, [0, 2, 4, 7].map(ChunkIndex), "the same bytes are fetched once");
    assert_eq!(put(&receiving, &source, ChunkIndex(0)).unwrap(), 2, "and put wherever they belong");
    assert_eq!(version.place(ChunkIndex(0)), Place::Missing, "before the sync nobody reads it");
    receiving.settle().unwrap();
    assert_eq!(version.possession(), [0b0100_1011]);
    assert!(!receiving.finish().unwrap());
    for chunk in receiving.wanted().unwrap() {
        put(&receiving, &source, chunk).unwrap();
    }
    assert_eq!(receiving.wanted().unwrap(), [], "what was written is not asked for again");
    assert!(receiving.finish().unwrap() && receiving.finish().unwrap());
    assert_eq!(read(&version), bytes);
    assert_eq!(to.unclaimed(), [root]);
    to.claim(&root).unwrap();
    let path = to.path().to_owned();
    drop((version, receiving, to));
    assert_eq!(
        check(&path),
        CheckReport { versions: 1, layers: 1, bytes: 6 * 65_536 - 512, ..CheckReport::default() }
    );
    let to = Store::open(&path).unwrap();
    assert_eq!((to.roots(), read(&to.version(&root).unwrap())), (vec![root], bytes));
}

#[test]
fn a_version_that_has_lost_a_file_is_not_here_and_comes_again() {
    for file in ["data", "present", "pages"] {
        let Pair { from, to, _directory } = pair();
        let (bytes, other) = (disk(&[1, 2, 3, 4]), disk(&[5, 6]));
        let source = from.version(&import(&from, &bytes)).unwrap();
        let (root, kept) = (import(&to, &bytes), import(&to, &other));
        let layer = to.version(&root).unwrap().layers()[0].path().to_owned();
        let path = to.path().to_owned();
        drop(to);
        std::fs::File::options().write(true).open(layer.with_file_name(file)).unwrap().set_len(5).unwrap();

        let to = Store::open(&path).unwrap();
        assert!(to.version(&root).is_err() && !to.has_whole(&root), "{file}");
        assert_eq!(to.whole().into_iter().collect::<Vec<_>>(), [kept], "nobody is told that it is here");
        assert!(to.resume_receive(&root, NO_RESERVE).unwrap().is_none());
        let receiving = begin(&to, &source, None);
        for chunk in receiving.wanted().unwrap() {
            put(&receiving, &source, chunk).unwrap();
        }
        assert!(receiving.finish().unwrap());
        to.claim(&root).unwrap();
        drop((receiving, to));
        let to = Store::open(&path).unwrap();
        assert_eq!(read(&to.version(&root).unwrap()), bytes, "{file}");
        assert_eq!(read(&to.version(&kept).unwrap()), other, "{file}");
        assert!(!layer.exists(), "what was left of the damaged one goes");
    }
}

#[test]
fn what_has_come_is_read_before_it_is_durable_and_stored_with_the_next_batch() {
    let Pair { from, to, _directory } = pair();
    let bytes = disk(&[1, 2, 2, 3]);
    let source = from.version(&import(&from, &bytes)).unwrap();
    let receiving = begin(&to, &source, None);
    let version = receiving.version();
    assert_eq!(receiving.wanted().unwrap(), [0, 1, 3].map(ChunkIndex));
    put(&receiving, &source, ChunkIndex(0)).unwrap();
    assert_eq!(put_now(&receiving, &source, ChunkIndex(1)).unwrap(), 2);
    assert_eq!(put_now(&receiving, &source, ChunkIndex(1)).unwrap(), 0, "it is here");
    for chunk in [0, 1, 2].map(ChunkIndex) {
        assert_eq!(version.place(chunk), Place::Missing);
        assert!(version.is_readable(chunk));
        version.verify_chunk(chunk, &mut vec![0; CHUNK]).unwrap();
    }
    assert_eq!(version.possession(), [0], "peers are told only what is durable");
    assert_eq!(receiving.settle().unwrap(), 3);
    assert_eq!(version.possession(), [0b0111]);
    put_now(&receiving, &source, ChunkIndex(3)).unwrap();
    assert!(receiving.finish().unwrap());
    assert_eq!(read(version), bytes);
}

#[test]
fn of_a_newer_version_only_what_changed_comes() {
    let Pair { from, to, _directory } = pair();
    let (old, new) = (disk(&[1, 2, 3, 4, 5]), disk(&[1, 7, 3, 0, 5]));
    let old_root = import(&from, &old);
    import(&to, &old);
    let root = import(&from, &new);
    let source = from.version(&root).unwrap();
    let receiving = begin(&to, &source, Some(old_root));
    assert_eq!(receiving.wanted().unwrap(), [ChunkIndex(1)]);
    assert_eq!(receiving.version().layers().len(), 2);
    put(&receiving, &source, ChunkIndex(1)).unwrap();
    assert!(receiving.finish().unwrap());
    assert_eq!(read(&to.version(&root).unwrap()), new);
    to.flatten(&root).unwrap();
    assert_eq!(read(&to.version(&root).unwrap()), new);
}

#[test]
fn what_lies_elsewhere_in_the_store_is_copied() {
    let Pair { from, to, _directory } = pair();
    import(&to, &disk(&[9, 3, 8, 1, 4]));
    let root = import(&from, &disk(&[1, 2, 3, 3, 5, 6]));
    let source = from.version(&root).unwrap();
    let receiving = begin(&to, &source, None);
    assert_eq!(receiving.copy_seeds(&|| false).unwrap(), 3);
    assert_eq!(receiving.wanted().unwrap(), [1, 4, 5].map(ChunkIndex));
}

#[test]
fn a_version_above_one_that_is_on_its_way_shares_what_comes() {
    let Pair { from, to, _directory } = pair();
    let (old_root, new_root) = (import(&from, &disk(&[1, 2, 3])), import(&from, &disk(&[1, 7, 3])));
    let (old, new) = (from.version(&old_root).unwrap(), from.version(&new_root).unwrap());
    let below = begin(&to, &old, None);
    let above = begin(&to, &new, Some(old_root));
    assert_eq!(above.wanted().unwrap().len(), 3);
    put(&above, &new, ChunkIndex(0)).unwrap();
    put(&above, &new, ChunkIndex(1)).unwrap();
    above.settle().unwrap();
    assert_eq!(below.version().place(ChunkIndex(0)), Place::Layer(0));
    assert_eq!(below.wanted().unwrap(), [1, 2].map(ChunkIndex));
    put(&below, &old, ChunkIndex(2)).unwrap();
    below.settle().unwrap();
    assert!(above.finish().unwrap() && !below.finish().unwrap());
    to.claim(&new_root).unwrap();
    to.delete(&old_root).unwrap();
    let path = to.path().to_owned();
    drop((above, below, to));
    assert_eq!(check(&path).error_count, 0);
    let to = Store::open(&path).unwrap();
    assert_eq!(read(&to.version(&new_root).unwrap()), disk(&[1, 7, 3]));
}

#[test]
fn wrong_bytes_are_refused_and_change_nothing() {
    let Pair { from, to, _directory } = pair();
    let root = import(&from, &disk(&[1, 2]));
    let source = from.version(&root).unwrap();
    let receiving = begin(&to, &source, None);
    let refused = receiving.put(ChunkIndex(0), &chunk(3), Urgency::OnDemand);
    assert!(matches!(refused, Err(ReceiveError::WrongBytes { chunk: 0, .. })));
    for (number, bytes) in [(2, chunk(1)), (1, chunk(2)), (0, vec![0; 5])] {
        let refused = receiving.put(ChunkIndex(number), &bytes, Urgency::Bulk);
        assert!(matches!(refused, Err(ReceiveError::NoSuchChunk { .. })));
    }
    assert_eq!(receiving.settle().unwrap(), 0);
    let lacking = to.begin_receive(
        from.version(&import(&from, &disk(&[5]))).unwrap().manifest(),
        &[],
        None,
        NO_RESERVE,
    );
    assert!(matches!(lacking, Err(ReceiveError::PageMissing(_))));
}

#[test]
fn at_the_reserve_nothing_comes_in() {
    let Pair { from, to, _directory } = pair();
    let root = import(&from, &disk(&[1, 2]));
    let source = from.version(&root).unwrap();
    let options = ReceiveOptions { reserve_bytes: u64::MAX / 2 };
    let refused = to.begin_receive(source.manifest(), &pages(&to, &source), None, options);
    assert!(matches!(refused, Err(ReceiveError::NoSpace { .. })));
    drop(begin(&to, &source, None));
    let receiving = to.resume_receive(&root, options).unwrap().unwrap();
    assert!(matches!(put(&receiving, &source, ChunkIndex(0)), Err(ReceiveError::NoSpace { .. })));
}

#[test]
fn an_import_of_a_version_that_is_on_its_way_completes_it() {
    let Pair { from, to, _directory } = pair();
    let bytes = disk(&[1, 2, 3]);
    let root = import(&from, &bytes);
    let source = from.version(&root).unwrap();
    let receiving = begin(&to, &source, None);
    assert_eq!(import(&to, &bytes), root);
    assert_eq!((to.roots(), to.receiving()), (vec![root], vec![]));
    assert!(matches!(put(&receiving, &source, ChunkIndex(0)), Ok(_) | Err(ReceiveError::Gone(_))));
    assert_eq!(read(&to.version(&root).unwrap()), bytes);
}

/// At each number of operations the power goes; what is said to be here then is here.
#[test]
fn after_a_power_loss_what_is_marked_is_there() {
    let base = tempfile::tempdir().unwrap();
    let from = Store::open(&base.path().join("from")).unwrap();
    let (old, new) = (disk(&[1, 2, 3, 4, 5, 6]), disk(&[7, 2, 0, 8, 9, 10]));
    let (old_root, new_root) = (import(&from, &old), import(&from, &new));
    let source = from.version(&new_root).unwrap();
    let (mut resumed, mut refetched) = (0, 0);
    for seed in 0..60 {
        let directory = tempfile::tempdir_in(base.path()).unwrap();
        let (path, after) = (directory.path().join("before"), directory.path().join("after"));
        std::fs::create_dir(&path).unwrap();
        import(&Store::open(&path).unwrap(), &old);
        let files = SimulatedFiles::new(&path, seed).unwrap();
        let store = Store::open_with(&path, Arc::new(files.clone())).unwrap();
        files.set(Faults { power_lasts: Some(seed), ..Faults::default() });
        let pages = pages(&store, &source);
        let receiving = store.begin_receive(source.manifest(), &pages, Some(old_root), NO_RESERVE);
        let mut settled = 0;
        for (number, put) in [(0, put as fn(&_, &_, _) -> _), (3, put_now), (4, put_now), (5, put)] {
            let Ok(receiving) = &receiving else { break };
            if put(receiving, &source, ChunkIndex(number)).is_ok() && receiving.settle().is_ok() {
                settled += 1;
            }
        }
        let finished = receiving.as_ref().is_ok_and(|receiving| receiving.finish().is_ok_and(|done| done));
        std::fs::create_dir(&after).unwrap();
        files.lose_power(&after).unwrap();
        drop((receiving, store));
        let store = Store::open(&after).unwrap();
        assert_eq!(read(&store.version(&old_root).unwrap()), old, "seed {seed}");
        assert!(!finished || store.unclaimed() == [new_root], "seed {seed}: what is complete stays complete");
        let receiving = begin(&store, &source, Some(old_root));
        let wanted = receiving.wanted().unwrap();
        resumed += u32::from(wanted.len() < 4 && !finished);
        refetched += (wanted.len() as u32).saturating_sub(4 - settled);
        for chunk in (0..6).map(ChunkIndex) {
            match receiving.version().verify_chunk(chunk, &mut vec![0; CHUNK]) {
                Ok(()) | Err(ChunkError::Missing(_)) => {}
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        for chunk in wanted {
            put(&receiving, &source, chunk).unwrap();
        }
        assert!(receiving.finish().unwrap(), "seed {seed}");
        assert_eq!(read(receiving.version()), new, "seed {seed}");
        drop((receiving, store));
        assert_eq!(check(&after).error_count, 0, "seed {seed}");
    }
    assert!(resumed > 5, "{resumed} went on from a part, {refetched} chunks came twice");
}

#[test]
fn a_disk_that_fails_or_is_full_marks_nothing() {
    let base = tempfile::tempdir().unwrap();
    let from = Store::open(&base.path().join("from")).unwrap();
    let root = import(&from, &disk(&[1, 2, 3]));
    let source = from.version(&root).unwrap();
    let path = base.path().join("to");
    drop(Store::open(&path).unwrap());
    let files = SimulatedFiles::new(&path, 7).unwrap();
    let store = Store::open_with(&path, Arc::new(files.clone())).unwrap();
    let receiving = begin(&store, &source, None);
    files.set(Faults { sync_error_one_in: 1, ..Faults::default() });
    put(&receiving, &source, ChunkIndex(0)).unwrap();
    receiving.settle().unwrap_err();
    assert_eq!(receiving.wanted().unwrap().len(), 3, "what was not synced is wanted again");
    files.set(Faults { room_bytes: Some(100), ..Faults::default() });
    assert!(matches!(put(&receiving, &source, ChunkIndex(1)), Err(ReceiveError::NoSpace { .. })));
    assert!(!receiving.version().is_readable(ChunkIndex(1)), "what is not taken is not read either");
    put_now(&receiving, &source, ChunkIndex(2)).unwrap();
    assert!(matches!(receiving.settle(), Err(ReceiveError::NoSpace { .. })));
    assert!(!receiving.version().is_readable(ChunkIndex(2)));
    files.set(Faults::default());
    for chunk in receiving.wanted().unwrap() {
        put(&receiving, &source, chunk).unwrap();
    }
    assert!(receiving.finish().unwrap());
    assert_eq!(read(receiving.version()), disk(&[1, 2, 3]));
}

const KILL_TEST: &str = "a_killed_reception_goes_on_where_it_was";
const KILL_VARIABLE: &str = "HEADWATER_TEST_RECEIVE_IN";

/// Receives slowly, says how many chunks are settled, until it is killed.
fn receive_and_tell(path: &Path) {
    let from = Store::open(&path.join("from")).unwrap();
    let to = Store::open(&path.join("to")).unwrap();
    let source = from.version(&from.roots()[0]).unwrap();
    let receiving = begin(&to, &source, None);
    for chunk in receiving.wanted().unwrap() {
        put(&receiving, &source, chunk).unwrap();
        receiving.settle().unwrap();
        println!("{}", receiving.version().missing_count());
    }
}

#[test]
fn a_killed_reception_goes_on_where_it_was() {
    use std::io::{BufRead, BufReader};
    if let Some(path) = std::env::var_os(KILL_VARIABLE) {
        return receive_and_tell(Path::new(&path));
    }
    let directory = tempfile::tempdir().unwrap();
    let numbers: Vec<u32> = (1..=60).collect();
    let root = import(&Store::open(&directory.path().join("from")).unwrap(), &disk(&numbers));
    let mut left = 60;
    for _ in 0..4 {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", KILL_TEST, "--nocapture"]).env(KILL_VARIABLE, directory.path());
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let told = lines.filter_map(|line| line.unwrap().parse::<u32>().ok()).nth(9);
        child.kill().unwrap();
        child.wait().unwrap();
        let told = told.expect("ten chunks are settled before it is killed");
        assert!(told < left, "it goes on where it was");
        let store = Store::open(&directory.path().join("to")).unwrap();
        left = store.version(&root).unwrap().missing_count();
        assert!(left <= told, "what was settled is there after kill -9: {left} of {told}");
    }
}
