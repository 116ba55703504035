//! A decorator: what was last known of the records answers reads while the database is away.
//!
//! It follows the database and keeps the records in memory and in a file, at most a second behind.
//! Only reads that nobody answers come from there; changes and watches go to the database alone, so
//! nothing is ever decided on what is only remembered.

use crate::announcement::Announcement;
use crate::db::{
    Change, ChangeKind, ChangeSet, Compare, DbError, Entry, FarmDb, Health, Op, Revision, Snapshot,
    TxnOutcome, Watch,
};
use crate::records_file;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;
use tokio::sync::watch;

/// How long changes are gathered before the file is written.
const GATHER: Duration = Duration::from_secs(1);
/// How soon a database that is away is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// Records that are of no use later: who is alive, and the audit, which nobody reads meanwhile.
const NOT_KEPT: [&str; 2] = ["/live/", "/audit/"];

/// A database whose records can be read while it is away.
pub struct Remembered {
    memory: Arc<Memory>,
}

struct Memory {
    inner: Arc<dyn FarmDb>,
    path: PathBuf,
    /// None until the records were read once, from the database or from the file.
    records: Mutex<Option<Records>>,
    away: watch::Sender<bool>,
}

#[derive(Clone, Default)]
struct Records {
    revision: Revision,
    entries: BTreeMap<String, Entry>,
}

impl Remembered {
    /// Reads what the file has and begins to follow the database.
    ///
    /// Errors: the file is damaged or of a newer program; where the database can be reached, it may
    /// be deleted.
    pub async fn start(inner: Arc<dyn FarmDb>, path: &Path) -> Result<Self, DbError> {
        let owned = path.to_owned();
        let read = tokio::task::spawn_blocking(move || records_file::read(&owned)).await;
        let kept = read.expect("reading answers with an error")?;
        let records = Mutex::new(kept.map(Records::from));
        let memory = Memory { inner, path: path.to_owned(), records, away: watch::Sender::new(false) };
        let memory = Arc::new(memory);
        tokio::spawn(keep(Arc::downgrade(&memory)));
        Ok(Self { memory })
    }

    /// Whether the database is away; wakes when that changes.
    pub fn away(&self) -> watch::Receiver<bool> {
        self.memory.away.subscribe()
    }
}

impl Memory {
    fn recall<T>(&self, error: DbError, read: impl FnOnce(&Records) -> T) -> Result<T, DbError> {
        if !matches!(error, DbError::Unreachable(_)) {
            return Err(error);
        }
        self.set_away(true);
        self.records.lock().expect("no holder of this lock panics").as_ref().map(read).ok_or(error)
    }

    fn set_away(&self, away: bool) {
        self.away.send_if_modified(|seen| std::mem::replace(seen, away) != away);
    }

    async fn store(&self) {
        let records = self.records.lock().expect("no holder of this lock panics").clone();
        let (Some(records), path) = (records, self.path.clone()) else { return };
        let write = move || records_file::write(&path, &Snapshot::from(records));
        // A full disk must not stop the server; the next change tries again.
        let _ = tokio::task::spawn_blocking(write).await;
    }
}

#[async_trait]
impl FarmDb for Remembered {
    async fn get(&self, key: &str) -> Result<Option<Entry>, DbError> {
        match self.memory.inner.get(key).await {
            Err(error) => self.memory.recall(error, |records| records.entries.get(key).cloned()),
            read => read,
        }
    }

    async fn range(&self, prefix: &str) -> Result<Snapshot, DbError> {
        match self.memory.inner.range(prefix).await {
            Err(error) => self.memory.recall(error, |records| records.range(prefix)),
            read => read,
        }
    }

    async fn txn(&self, compares: Vec<Compare>, ops: Vec<Op>) -> Result<TxnOutcome, DbError> {
        self.memory.inner.txn(compares, ops).await
    }

    async fn watch(&self, prefix: &str, from: Revision) -> Result<Watch, DbError> {
        self.memory.inner.watch(prefix, from).await
    }

    async fn announce(&self, key: &str, value: Vec<u8>, ttl: Duration) -> Result<Announcement, DbError> {
        self.memory.inner.announce(key, value, ttl).await
    }

    async fn health(&self) -> Health {
        self.memory.inner.health().await
    }
}

/// Follows the database as long as the decorator is there.
async fn keep(memory: Weak<Memory>) {
    loop {
        let Some(strong) = memory.upgrade() else { return };
        let begun = begin(&strong).await;
        drop(strong);
        if let Some(watch) = begun {
            follow(&memory, watch).await;
        }
        tokio::time::sleep(RETRY).await;
    }
}

/// Reads everything anew.
async fn begin(memory: &Memory) -> Option<Watch> {
    let read = memory.inner.range("").await;
    memory.set_away(matches!(read, Err(DbError::Unreachable(_))));
    let snapshot = read.ok()?;
    let watch = memory.inner.watch("", snapshot.revision + 1).await.ok()?;
    *memory.records.lock().expect("no holder of this lock panics") = Some(snapshot.into());
    memory.store().await;
    Some(watch)
}

/// Takes in changes until the watch is lost.
async fn follow(memory: &Weak<Memory>, mut watch: Watch) {
    while let Ok(changes) = watch.next().await {
        let mut gathered = vec![changes];
        let until = tokio::time::Instant::now() + GATHER;
        while let Ok(Ok(changes)) = tokio::time::timeout_at(until, watch.next()).await {
            gathered.push(changes);
        }
        let Some(memory) = memory.upgrade() else { return };
        if let Some(records) = memory.records.lock().expect("no holder of this lock panics").as_mut() {
            gathered.into_iter().for_each(|changes| records.apply(changes));
        }
        memory.store().await;
    }
}

fn is_kept(key: &str) -> bool {
    !NOT_KEPT.iter().any(|prefix| key.starts_with(prefix))
}

impl Records {
    fn apply(&mut self, changes: ChangeSet) {
        for Change { revision, key, kind } in changes {
            self.revision = revision;
            match kind {
                ChangeKind::Put { value, create_revision } if is_kept(&key) => {
                    let entry = Entry { key: key.clone(), value, create_revision, mod_revision: revision };
                    self.entries.insert(key, entry);
                }
                ChangeKind::Put { .. } => (),
                ChangeKind::Delete => drop(self.entries.remove(&key)),
            }
        }
    }

    fn range(&self, prefix: &str) -> Snapshot {
        let from = self.entries.range(prefix.to_owned()..);
        let entries = from.take_while(|(key, _)| key.starts_with(prefix)).map(|(_, entry)| entry.clone());
        Snapshot { revision: self.revision, entries: entries.collect() }
    }
}

impl From<Snapshot> for Records {
    fn from(snapshot: Snapshot) -> Self {
        let kept = snapshot.entries.into_iter().filter(|entry| is_kept(&entry.key));
        Self { revision: snapshot.revision, entries: kept.map(|entry| (entry.key.clone(), entry)).collect() }
    }
}

impl From<Records> for Snapshot {
    fn from(records: Records) -> Self {
        Self { revision: records.revision, entries: records.entries.into_values().collect() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::etcd_child::EtcdCluster;
    use crate::{Etcd, EtcdOptions, contract};

    async fn connect(cluster: &EtcdCluster) -> Arc<dyn FarmDb> {
        let options = EtcdOptions { endpoints: cluster.endpoints(), tls: None };
        Arc::new(Etcd::connect(&options).await.unwrap())
    }

    fn put(key: &str, value: &str) -> Op {
        Op::Put { key: key.to_owned(), value: value.as_bytes().to_vec() }
    }

    /// Waits until the file has a record of this key with this value.
    async fn until_kept(path: &Path, key: &str, value: &str) {
        let has = |entry: &Entry| entry.key == key && entry.value == value.as_bytes();
        for _ in 0..2000 {
            if records_file::read(path).unwrap().is_some_and(|kept| kept.entries.iter().any(has)) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{key} is never kept");
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn reads_go_on_without_the_database_also_after_a_restart_and_changes_do_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("farm.records");
        let mut cluster = EtcdCluster::start(dir.path(), 1);
        let db = Remembered::start(connect(&cluster).await, &path).await.unwrap();
        let ops = vec![put("/d", "1"), put("/b", "1"), put("/live/x", "1"), put("/audit/x", "1")];
        db.txn(vec![], ops).await.unwrap();
        db.txn(vec![], vec![put("/d", "2"), Op::Delete { key: "/b".to_owned() }]).await.unwrap();
        until_kept(&path, "/d", "2").await;
        let before = db.range("/d").await.unwrap();
        cluster.kill();
        assert_eq!(db.range("/d").await.unwrap().entries, before.entries);
        assert!(*db.away().borrow());
        drop(db);
        let db = Remembered::start(connect(&cluster).await, &path).await.unwrap();
        let all = db.range("").await.unwrap();
        assert_eq!(all.entries, before.entries, "who is alive and the audit are not kept");
        assert_eq!(db.get("/d").await.unwrap().as_ref(), before.entries.first());
        let refused = db.txn(vec![], vec![put("/d", "3")]).await.unwrap_err();
        assert!(matches!(refused, DbError::Unreachable(_)), "{refused}");
        cluster.restart();
        db.away().wait_for(|away| !away).await.unwrap();
        db.txn(vec![], vec![put("/d", "3")]).await.unwrap();
        until_kept(&path, "/d", "3").await;
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_database_that_is_there_keeps_the_contract() {
        let dir = tempfile::tempdir().unwrap();
        let sqlite = Arc::new(crate::Sqlite::open(&dir.path().join("farm.db")).unwrap());
        let db = Remembered::start(sqlite, &dir.path().join("farm.records")).await.unwrap();
        contract::changes_all_or_nothing(&db).await;
        contract::reads_ranges(&db).await;
        contract::resumes_a_watch(&db).await;
    }
}
