//! kill -9 in the middle of imports; the long form is `benches/src/bin/import-kill.rs`.

use headwater_store::{ImportOptions, Quiet, Store};
use std::fs;
use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const TEST: &str = "the_store_opens_clean_after_imports_were_killed";
/// Set in the child process that is killed: the store to import into.
const STORE_VARIABLE: &str = "HEADWATER_TEST_IMPORT_INTO";
const IMAGE_BYTES: u64 = 64 << 20;

#[test]
fn the_store_opens_clean_after_imports_were_killed() {
    if let Some(path) = std::env::var_os(STORE_VARIABLE) {
        import_numbers(&Store::open(Path::new(&path)).unwrap());
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("store");
    let start = Instant::now();
    assert!(start_import(&path).wait().unwrap().success());
    let whole = start.elapsed();
    let store = Store::open(&path).unwrap();
    let root = store.unclaimed()[0];
    store.delete(&root).unwrap();
    drop(store);
    for kill in 0..10 {
        let mut child = start_import(&path);
        std::thread::sleep(moment(kill, whole));
        child.kill().unwrap();
        child.wait().unwrap();
        let store = Store::open(&path).unwrap();
        for found in store.unclaimed() {
            assert_eq!(found, root, "a version that is listed is the whole one");
            store.delete(&found).unwrap();
        }
        assert_eq!(store.space().unwrap().used, 0);
        for directory in ["incoming", "layers", "unclaimed", "versions"] {
            assert_eq!(fs::read_dir(path.join(directory)).unwrap().count(), 0, "{directory}");
        }
    }
}

/// Spreads the kills over an import; the system's noise makes them random enough.
fn moment(kill: u32, whole: Duration) -> Duration {
    whole * (kill * 2 + 1) / 20
}

fn start_import(store: &Path) -> Child {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", TEST]).env(STORE_VARIABLE, store).stdout(Stdio::null());
    command.spawn().unwrap()
}

fn import_numbers(store: &Store) {
    store.import_stream(&mut Numbers(0), None, &ImportOptions::default(), &Quiet).unwrap();
}

/// A stream of all different chunks: its sectors are numbered.
struct Numbers(u64);

impl Read for Numbers {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = (IMAGE_BYTES - self.0).min(buffer.len() as u64).min(512);
        if len > 0 {
            buffer[..len as usize].fill(1);
            buffer[..8].copy_from_slice(&self.0.to_le_bytes());
        }
        self.0 += len;
        Ok(len as usize)
    }
}
