//! Copies the log into the database file beside the thread that writes.
//!
//! SQLite does this by itself inside the commit that fills the log, and that commit waits for two
//! more syncs of a disk that is busy with a vDisk's data. A passive checkpoint
//! (<https://www.sqlite.org/wal.html>, section 3.1) waits for nobody and keeps nobody waiting; the
//! log begins anew once all of it was copied. Where commits come so fast that there is always a
//! rest, and the log has become long, a commit waits for the rest. Where this thread does not keep
//! up at all, SQLite's own limit ([`LAST_RESORT_PAGES`]) is still there.

use rusqlite::{Connection, Row};
use std::path::Path;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;

/// Commits after which the log is copied; by eye about 2 MiB of it.
const COMMITS: u32 = 50;
/// How often it is copied at once: what was committed during one copy is little for the next.
const COPIES: u32 = 4;
/// Pages of the log (16 MiB) at which a commit may wait for the rest of it.
const LONG_PAGES: i64 = 4096;
/// Pages of the log (64 MiB) at which the commit itself copies it.
pub(super) const LAST_RESORT_PAGES: u32 = 16_384;

/// Has the log copied now and then; its thread has closed the file when this is dropped.
pub(super) struct Checkpointer {
    commits: u32,
    wake: Option<SyncSender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Checkpointer {
    /// Opens the database at `path` a second time, on a thread that only copies its log.
    pub(super) fn start(path: &Path) -> rusqlite::Result<Self> {
        let db = Connection::open(path)?;
        // One wake-up may wait: what is committed meanwhile is copied with it.
        let (wake, woken) = sync_channel(1);
        let thread = std::thread::Builder::new().name("farm-db-log".to_owned());
        let thread = thread.spawn(move || run(&db, &woken));
        let thread = thread.map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))?;
        Ok(Self { commits: 0, wake: Some(wake), thread: Some(thread) })
    }

    /// A transaction was committed.
    pub(super) fn committed(&mut self) {
        self.commits += 1;
        let Some(wake) = &self.wake else { return };
        if self.commits >= COMMITS && wake.try_send(()).is_ok() {
            self.commits = 0;
        }
    }
}

impl Drop for Checkpointer {
    fn drop(&mut self) {
        self.wake = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was told when it happened; here is nothing left to do about it.
            let _ = thread.join();
        }
    }
}

fn run(db: &Connection, woken: &Receiver<()>) {
    while woken.recv().is_ok() {
        // One that fails is tried again with the next; nothing is lost, the log only grows.
        if let Err(error) = copy(db) {
            tracing::warn!(%error, "the log of the farm database is copied later");
        }
    }
}

fn copy(db: &Connection) -> rusqlite::Result<()> {
    let pages = |row: &Row<'_>| Ok((row.get::<_, i64>(1)?, row.get::<_, i64>(2)?));
    let mut log = 0;
    for _ in 0..COPIES {
        let copied;
        (log, copied) = db.query_row("PRAGMA wal_checkpoint(PASSIVE)", [], pages)?;
        if copied >= log {
            return Ok(());
        }
    }
    match log > LONG_PAGES {
        true => db.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(())),
        false => Ok(()),
    }
}
