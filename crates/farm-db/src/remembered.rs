//! A decorator: what was last known of the records answers reads while the database is away.
//!
//! It follows the database and keeps the records in memory and in a file, at most a second behind.
//! Only reads that nobody answers come from there; changes and watches go to the database alone, so
//! nothing is ever decided on what is only remembered.
//!
//! A database never goes back. One that does was restored from an older copy: every change is
//! refused from then on ([`Remembered::older`]), and the file stays as it is, so that the next start
//! notices too. Where the records themselves say that they were restored ([`RESTORED`]), somebody
//! has looked.

use crate::announcement::Announcement;
use crate::db::{
    Change, ChangeKind, ChangeSet, Compare, DbError, Entry, FarmDb, Health, Op, Revision, Snapshot,
    TxnOutcome, Watch,
};
use crate::records_file;
use async_trait::async_trait;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::time::{Duration, SystemTime};
use tokio::sync::watch;

/// How long changes are gathered before the file is written.
const GATHER: Duration = Duration::from_secs(1);
/// How soon a database that is away is asked again.
const RETRY: Duration = Duration::from_secs(1);
/// Records that are of no use later: who is alive, and the audit, which nobody reads meanwhile.
const NOT_KEPT: [&str; 2] = ["/live/", "/audit/"];

/// The record that says that the records are older than what servers have, and that nothing is
/// deleted because of it.
pub const RESTORED: &str = "/restored";

/// A database whose records can be read while it is away.
pub struct Remembered {
    memory: Arc<Memory>,
}

struct Memory {
    inner: Arc<dyn FarmDb>,
    path: PathBuf,
    /// None until the records were read once, from the database or from the file.
    records: Mutex<Option<Records>>,
    /// When the records of the file were written; none once the database has answered.
    written: Mutex<Option<SystemTime>>,
    away: watch::Sender<Away>,
    /// Why the database is older than what was known of it; none while it is not.
    older: OnceLock<String>,
}

/// Since when the database is away; none while it answers. Where it did not answer since the start,
/// since the remembered records were written.
pub type Away = Option<SystemTime>;

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
        let written = std::fs::metadata(path).and_then(|file| file.modified()).ok();
        let memory = Arc::new(Memory {
            inner,
            path: path.to_owned(),
            records,
            written: Mutex::new(written),
            away: watch::Sender::new(None),
            older: OnceLock::new(),
        });
        // One that is away is looked at when it is back.
        if let (Some(kept), Ok(found)) = (memory.kept(), memory.inner.range("").await) {
            memory.look_at_start(&kept, found);
        }
        tokio::spawn(keep(Arc::downgrade(&memory)));
        Ok(Self { memory })
    }

    /// Whether the database is away; wakes when that changes.
    pub fn away(&self) -> watch::Receiver<Away> {
        self.memory.away.subscribe()
    }

    /// In words, that the database is in an older state than this server has seen it in; nothing is
    /// changed in it then.
    pub fn older(&self) -> Option<&str> {
        self.memory.older.get().map(String::as_str)
    }
}

impl Memory {
    fn kept(&self) -> Option<Records> {
        self.records.lock().expect("no holder of this lock panics").clone()
    }

    fn known_revision(&self) -> Revision {
        let records = self.records.lock().expect("no holder of this lock panics");
        records.as_ref().map_or(0, |records| records.revision)
    }

    /// Where somebody has looked already nothing is relied on that came after that state.
    fn look_at_start(&self, kept: &Records, found: Snapshot) {
        if !found.entries.iter().any(|entry| entry.key == RESTORED) {
            self.look(kept, &found);
        }
        if self.older.get().is_none() {
            *self.records.lock().expect("no holder of this lock panics") = Some(found.into());
        }
    }

    /// Notices that the database has gone back: it is behind, or a record is older than it was.
    fn look(&self, kept: &Records, found: &Snapshot) {
        let is_older = |entry: &&Entry| {
            kept.entries.get(&entry.key).is_some_and(|known| entry.mod_revision < known.mod_revision)
        };
        let turned_back = found.entries.iter().find(is_older);
        if found.revision < kept.revision || turned_back.is_some() {
            self.went_back(kept.revision, found.revision);
        }
    }

    fn went_back(&self, known: Revision, found: Revision) {
        // The first word stays.
        let _ = self.older.set(format!(
            "the farm database was restored to an older state: it is at revision {found}, and this server has \
             seen it at {known}\n\
             hint: stop all servers of the farm and bring the newer database back; or, if it was restored on \
             purpose, make an empty file `accept-restored` in the directory `identity` of the state directory of \
             each server, once, and start it"
        ));
    }

    fn refuse_older(&self) -> Result<(), DbError> {
        self.older.get().map_or(Ok(()), |why| Err(DbError::Unusable(why.clone())))
    }

    fn recall<T>(&self, error: DbError, read: impl FnOnce(&Records) -> T) -> Result<T, DbError> {
        if !matches!(error, DbError::Unreachable(_)) {
            return Err(error);
        }
        self.set_away(true);
        self.records.lock().expect("no holder of this lock panics").as_ref().map(read).ok_or(error)
    }

    fn set_away(&self, away: bool) {
        let mut written = self.written.lock().expect("no holder of this lock panics");
        if !away {
            *written = None;
        }
        self.away.send_if_modified(|seen| {
            let changed = seen.is_some() != away;
            if changed {
                *seen = away.then(|| written.unwrap_or_else(SystemTime::now));
            }
            changed
        });
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
        self.memory.refuse_older()?;
        // What neither looks nor writes may be answered by a member that lags behind.
        let is_empty = compares.is_empty() && ops.is_empty();
        let known = if is_empty { 0 } else { self.memory.known_revision() };
        let outcome = self.memory.inner.txn(compares, ops).await?;
        let (TxnOutcome::Committed { revision } | TxnOutcome::Conflict { revision, .. }) = &outcome;
        if *revision < known {
            self.memory.went_back(known, *revision);
        }
        self.memory.refuse_older().map(|()| outcome)
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
    if let Some(kept) = memory.kept() {
        memory.look(&kept, &snapshot);
    }
    if memory.older.get().is_some() {
        return None;
    }
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
        assert!(db.away().borrow().is_some());
        drop(db);
        let db = Remembered::start(connect(&cluster).await, &path).await.unwrap();
        let all = db.range("").await.unwrap();
        assert_eq!(all.entries, before.entries, "who is alive and the audit are not kept");
        assert_eq!(db.get("/d").await.unwrap().as_ref(), before.entries.first());
        let refused = db.txn(vec![], vec![put("/d", "3")]).await.unwrap_err();
        assert!(matches!(refused, DbError::Unreachable(_)), "{refused}");
        cluster.restart();
        db.away().wait_for(Option::is_none).await.unwrap();
        db.txn(vec![], vec![put("/d", "3")]).await.unwrap();
        until_kept(&path, "/d", "3").await;
    }

    fn copy_all(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
            let to = to.join(entry.file_name());
            match entry.path().is_dir() {
                true => copy_all(&entry.path(), &to),
                false => _ = std::fs::copy(entry.path(), to).unwrap(),
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_database_that_went_back_is_noticed_while_it_runs_and_at_every_start() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("farm.records");
        let mut cluster = EtcdCluster::start(dir.path(), 1);
        let (data, older) = (dir.path().join("m0"), dir.path().join("older"));
        let db = Remembered::start(connect(&cluster).await, &path).await.unwrap();
        db.txn(vec![], vec![put("/d", "1")]).await.unwrap();
        cluster.kill();
        copy_all(&data, &older);
        cluster.restart();
        for value in ["2", "3", "4"] {
            while db.txn(vec![], vec![put("/d", value)]).await.is_err() {}
        }
        until_kept(&path, "/d", "4").await;
        cluster.kill();
        std::fs::remove_dir_all(&data).unwrap();
        copy_all(&older, &data);
        cluster.restart();

        let absent = || Compare { key: "/d".to_owned(), expect: crate::Expect::Absent };
        let refused = loop {
            match db.txn(vec![absent()], vec![]).await {
                Err(DbError::Unreachable(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
                answer => break answer.unwrap_err(),
            }
        };
        assert!(refused.to_string().contains("older state") && db.older().is_some(), "{refused}");
        drop(db);
        for _ in 0..2 {
            let db = Remembered::start(connect(&cluster).await, &path).await.unwrap();
            assert!(db.older().is_some_and(|why| why.contains("hint: ")));
            assert!(db.txn(vec![], vec![put("/d", "5")]).await.is_err());
        }
        // Somebody has looked, and has said so in the records.
        let known = connect(&cluster).await;
        known.txn(vec![], vec![put(RESTORED, "1")]).await.unwrap();
        let db = Remembered::start(known, &path).await.unwrap();
        assert_eq!(db.older(), None);
        db.txn(vec![], vec![put("/d", "5")]).await.unwrap();
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
