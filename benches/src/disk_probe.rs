//! What the disk itself takes for a bare sync, all the time, beside what is measured.
//!
//! Disks that are shared with other machines stand still now and then, for everybody on them. A
//! call that syncs once cannot be faster than that; with the probe its time can be told apart from
//! the disk's.

use anyhow::{Context, Result};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Between two syncs: a hundredth of what would burden a disk.
const PAUSE: Duration = Duration::from_millis(10);
/// A file that is written over, so that a sync changes no metadata.
const FILE_BYTES: usize = 1 << 20;
const BLOCK: [u8; 4096] = [5; 4096];

/// When a sync began and ended.
type Sync = (Instant, Instant);

/// A thread that writes 4 KiB and syncs them, again and again.
pub struct DiskProbe {
    syncs: Arc<Mutex<Vec<Sync>>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl DiskProbe {
    /// Begins with a file in `directory`.
    pub fn start(directory: &Path) -> Result<Self> {
        let path = directory.join("disk-probe");
        std::fs::write(&path, vec![5; FILE_BYTES])?;
        let file = File::options().write(true).open(&path)?;
        file.sync_all()?;
        let (syncs, stop) = (Arc::default(), Arc::default());
        let (written, ended) = (Arc::clone(&syncs), Arc::clone(&stop));
        let thread = std::thread::Builder::new().name("disk-probe".to_owned());
        let thread = thread.spawn(move || run(&file, &written, &ended)).context("cannot start a thread")?;
        Ok(Self { syncs, stop, thread: Some(thread) })
    }

    /// The longest sync that was under way at any time from `begun` to `ended`. Asked after it may
    /// have ended as well: at the end of all.
    pub fn longest_between(&self, begun: Instant, ended: Instant) -> Duration {
        let syncs = self.syncs.lock().expect("nobody panics with it");
        let beside = syncs.iter().filter(|(from, to)| *from < ended && *to > begun);
        beside.map(|(from, to)| *to - *from).max().unwrap_or_default()
    }
}

impl Drop for DiskProbe {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // A panic there was printed.
            let _ = thread.join();
        }
    }
}

fn run(file: &File, syncs: &Mutex<Vec<Sync>>, stop: &AtomicBool) {
    for number in 0usize.. {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let begun = Instant::now();
        let place = (number * BLOCK.len() % FILE_BYTES) as u64;
        if file.write_all_at(&BLOCK, place).and_then(|()| file.sync_data()).is_err() {
            return; // what it measures for says so itself
        }
        syncs.lock().expect("nobody panics with it").push((begun, Instant::now()));
        std::thread::sleep(PAUSE);
    }
}
