//! The embedded engine: one SQLite file, one thread that owns it, nothing to install.
//!
//! WAL with `synchronous=FULL`: a committed transaction survives a power cut. All statements run
//! on one thread of the engine's own, in the order they were asked for; the servers of a farm with
//! several of them use etcd instead (DESIGN section 5). A lock file keeps a second process out.
//!
//! Read next: `schema.rs` for the tables, `engine.rs` for the statements.

mod checkpoint;
mod engine;
mod schema;

use crate::announcement::Announcement;
use crate::db::{
    ChangeSet, Compare, DbError, Entry, FarmDb, Health, Op, Revision, Snapshot, TxnOutcome, Watch,
    WatchError, check_txn,
};
use async_trait::async_trait;
use engine::Engine;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// How many requests may wait for the thread: beyond it callers wait to ask.
const QUEUE: usize = 256;
/// How many transactions a watch reads ahead of its reader.
const WATCH_AHEAD: usize = 64;
/// How many revisions of history are kept for watches, by eye: hours of a busy farm.
const KEPT_REVISIONS: u64 = 10_000;

type Job = Box<dyn FnOnce(&mut Engine) + Send>;

/// The embedded database; cheap to clone, closed when the last clone and watch are gone.
#[derive(Clone, Debug)]
pub struct Sqlite {
    jobs: mpsc::Sender<Job>,
    latest: watch::Receiver<Revision>,
}

/// How to open the file.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How many revisions of history are kept for watches.
    pub kept_revisions: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { kept_revisions: KEPT_REVISIONS }
    }
}

impl Sqlite {
    /// Opens the database file at `path`, or makes it. Blocking: it reads the file's head and
    /// checks its integrity.
    ///
    /// Errors: the file is another program's, damaged, of a newer format, or in use by another
    /// process; the message says which and what to do.
    pub fn open(path: &Path) -> Result<Self, DbError> {
        Self::open_with(path, Options::default())
    }

    /// [`Sqlite::open`] with other limits than the usual ones.
    pub fn open_with(path: &Path, options: Options) -> Result<Self, DbError> {
        let lock = lock(path)?;
        let engine = Engine::open(path, options.kept_revisions)?;
        let (report, latest) = watch::channel(engine.revision());
        let (jobs, queue) = mpsc::channel(QUEUE);
        std::thread::Builder::new()
            .name("farm-db".to_owned())
            .spawn(move || serve(engine, queue, report, lock))
            .map_err(|e| DbError::Failed(format!("its thread cannot be started: {e}")))?;
        Ok(Self { jobs, latest })
    }

    /// Waits until the file is closed and another process may open it: until the other clones and
    /// watches are gone too.
    pub async fn close(self) {
        let Self { jobs, mut latest } = self;
        drop(jobs);
        while latest.changed().await.is_ok() {}
    }

    async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Engine) -> Result<T, DbError> + Send + 'static,
    ) -> Result<T, DbError> {
        ask(&self.jobs, job).await
    }
}

async fn ask<T: Send + 'static>(
    jobs: &mpsc::Sender<Job>,
    job: impl FnOnce(&mut Engine) -> Result<T, DbError> + Send + 'static,
) -> Result<T, DbError> {
    let gone = || DbError::Failed("its thread has ended".to_owned());
    let (answer, wait) = oneshot::channel();
    // A caller that stopped waiting is no error: what it asked for was done.
    let job: Job = Box::new(move |engine| drop(answer.send(job(engine))));
    jobs.send(job).await.map_err(|_| gone())?;
    wait.await.map_err(|_| gone())?
}

/// The thread: one job after the other until every handle is gone.
fn serve(mut engine: Engine, mut queue: mpsc::Receiver<Job>, report: watch::Sender<Revision>, lock: File) {
    while let Some(job) = queue.blocking_recv() {
        job(&mut engine);
        report.send_if_modified(|seen| std::mem::replace(seen, engine.revision()) != engine.revision());
    }
    drop(engine);
    drop(lock);
    // Last: `Sqlite::close` waits for it.
    drop(report);
}

#[async_trait]
impl FarmDb for Sqlite {
    async fn get(&self, key: &str) -> Result<Option<Entry>, DbError> {
        let key = key.to_owned();
        self.ask(move |engine| engine.get(&key)).await
    }

    async fn range(&self, prefix: &str) -> Result<Snapshot, DbError> {
        let prefix = prefix.to_owned();
        self.ask(move |engine| engine.range(&prefix)).await
    }

    async fn txn(&self, compares: Vec<Compare>, ops: Vec<Op>) -> Result<TxnOutcome, DbError> {
        check_txn(&compares, &ops)?;
        self.ask(move |engine| engine.txn(&compares, &ops)).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, DbError> {
        let (feed, changes) = mpsc::channel(WATCH_AHEAD);
        let cursor = Cursor { prefix: prefix.into(), from: from.max(1) };
        tokio::spawn(follow(self.jobs.clone(), self.latest.clone(), cursor, feed));
        Ok(Watch::new(changes))
    }

    async fn announce(&self, key: &str, value: Vec<u8>, _ttl: Duration) -> Result<Announcement, DbError> {
        check_txn(&[], &[Op::Put { key: key.to_owned(), value: value.clone() }])?;
        let put = key.to_owned();
        let put_at = self.ask(move |engine| engine.announce(&put, value)).await?;
        let (stop, stopped) = oneshot::channel::<()>();
        let (jobs, key) = (self.jobs.clone(), key.to_owned());
        let keeper = tokio::spawn(async move {
            let _ = stopped.await;
            // What stays is removed when the database is opened again.
            let _ = ask(&jobs, move |engine| engine.withdraw(&key, put_at)).await;
        });
        Ok(Announcement::new(stop, keeper))
    }

    async fn health(&self) -> Health {
        let revision = self.ask(|engine| Ok(engine.revision())).await.ok();
        Health { engine: "embedded", revision, endpoints: Vec::new() }
    }
}

/// What a watch reads next.
struct Cursor {
    prefix: Arc<str>,
    from: Revision,
}

/// Feeds one watch out of the history table, which misses nothing and holds no memory for a slow
/// reader. It holds the queue only while it asks, so that watches alone do not keep it open.
async fn follow(
    jobs: mpsc::Sender<Job>,
    mut latest: watch::Receiver<Revision>,
    mut cursor: Cursor,
    feed: mpsc::Sender<Result<ChangeSet, WatchError>>,
) {
    let weak = jobs.downgrade();
    drop(jobs);
    loop {
        let Some(jobs) = weak.upgrade() else { return };
        let (prefix, from) = (Arc::clone(&cursor.prefix), cursor.from);
        let page = ask(&jobs, move |engine| engine.history(&prefix, from)).await;
        drop(jobs);
        let page = page.unwrap_or_else(|error| Err(WatchError::Lost(error.to_string())));
        let (changes, next) = match page {
            Ok(page) => page,
            Err(error) => {
                // Whoever watched has gone if this fails; there is nobody to tell.
                let _ = feed.send(Err(error)).await;
                return;
            }
        };
        cursor.from = next;
        for transaction in changes.chunk_by(|a, b| a.revision == b.revision) {
            if feed.send(Ok(transaction.to_vec())).await.is_err() {
                return;
            }
        }
        tokio::select! {
            found = latest.wait_for(|revision| *revision >= next) => if found.is_err() { return },
            () = feed.closed() => return,
        }
    }
}

/// Takes the lock file beside the database; held as long as the returned file is open.
fn lock(path: &Path) -> Result<File, DbError> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let unusable = |why: String| DbError::Unusable(format!("{}: {why}", name.display()));
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&name)
        .map_err(|e| unusable(format!("cannot be opened: {e}")))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(std::fs::TryLockError::WouldBlock) => Err(unusable(
            "another headwater uses this database\nhint: stop it, or give this one another state_dir"
                .to_owned(),
        )),
        Err(std::fs::TryLockError::Error(e)) => Err(unusable(format!("cannot be locked: {e}"))),
    }
}

#[cfg(test)]
mod tests;
