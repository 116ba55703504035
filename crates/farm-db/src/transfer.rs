//! Bringing all records of one farm into another database: restoring a backup, moving to etcd.
//!
//! A transaction holds few records, so a transfer takes many; while it is under way the record
//! [`UNDER_WAY`] stands in the database, and no server starts on it. It is put first and removed
//! last, after everything was read back and compared. A transfer that was interrupted is begun
//! again from the start. Revisions are the target's own: nothing in a record refers to them.

use crate::db::{Compare, DbError, Entry, Expect, FarmDb, MAX_TXN_OPS, Op, Snapshot, TxnOutcome};
use std::collections::BTreeMap;

/// The record that stands in a database while records are brought into it.
pub const UNDER_WAY: &str = "/transfer";
/// Records of who is alive; they stay where they are.
const LIVE: &str = "/live/";
/// The most bytes of one transaction: etcd refuses 1.5 MiB. A larger record goes alone.
const TXN_BYTES: usize = 512 * 1024;

/// Whether a record is carried from database to database.
pub fn is_carried(key: &str) -> bool {
    key != UNDER_WAY && !key.starts_with(LIVE)
}

/// The digits of a [`digest`]: too many to be right by chance.
const DIGEST_LENGTH: usize = 16;

/// What to do with records that are there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Present<'a> {
    /// Refuse.
    Keep,
    /// Delete them first, if this is their [`digest`].
    Replace(&'a str),
}

/// Why records were not brought into a database.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransferError {
    /// The database has records, and not those that may be replaced.
    #[error("the database has {0} records already")]
    NotEmpty(usize),
    /// Servers run on the database.
    #[error(
        "a server runs on the database: {0} says so\nhint: stop all servers of the farm, wait half a minute, then try again"
    )]
    InUse(String),
    /// Somebody else changes the database.
    #[error("somebody else changes the database: {0}\nhint: stop all servers of the farm, then try again")]
    Raced(String),
    /// What was read back is not what was written.
    #[error(
        "the database does not have what was written into it: {0} records differ\nhint: try again; the old records are as they were"
    )]
    Differs(usize),
    /// The database did not answer.
    #[error(transparent)]
    Database(#[from] DbError),
}

/// Brings records into a database that no server runs on; answers how many.
///
/// Errors: the database has records that `present` does not name, or is in use, or fails. What was
/// begun stays under way, so that no server starts on it; it is begun anew by calling this again.
pub async fn fill(db: &dyn FarmDb, records: &Snapshot, present: Present<'_>) -> Result<usize, TransferError> {
    let there = db.range("").await?;
    if let Some(live) = there.entries.iter().find(|entry| entry.key.starts_with(LIVE)) {
        return Err(TransferError::InUse(live.key.clone()));
    }
    let begun = there.entries.iter().find(|entry| entry.key == UNDER_WAY);
    let count = there.entries.iter().filter(|entry| is_carried(&entry.key)).count();
    if count > 0 && begun.is_none() && present != Present::Replace(&digest(&there)) {
        return Err(TransferError::NotEmpty(count));
    }
    begin(db, begun).await?;
    delete_all(db, &there).await?;
    let entries: Vec<&Entry> = records.entries.iter().filter(|entry| is_carried(&entry.key)).collect();
    put_all(db, &entries).await?;
    let different = differences(&db.range("").await?, records);
    if different > 0 {
        return Err(TransferError::Differs(different));
    }
    commit(db, vec![], vec![Op::Delete { key: UNDER_WAY.to_owned() }]).await?;
    Ok(entries.len())
}

/// Whether records were being brought into this database, and not all are there.
pub async fn is_under_way(db: &dyn FarmDb) -> Result<bool, DbError> {
    Ok(db.get(UNDER_WAY).await?.is_some())
}

/// What names these records and no others: sixteen hexadecimal digits. Revisions and who is alive do
/// not count.
pub fn digest(snapshot: &Snapshot) -> String {
    let mut hasher = blake3::Hasher::new_derive_key("headwater 2026-11 records of a farm v1");
    for Entry { key, value, .. } in snapshot.entries.iter().filter(|entry| is_carried(&entry.key)) {
        for part in [key.as_bytes(), value] {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part);
        }
    }
    hasher.finalize().to_hex()[..DIGEST_LENGTH].to_owned()
}

/// How many records of the two are not the same in both; revisions and who is alive do not count.
pub fn differences(a: &Snapshot, b: &Snapshot) -> usize {
    let carried = |snapshot: &Snapshot| -> BTreeMap<String, Vec<u8>> {
        let entries = snapshot.entries.iter().filter(|entry| is_carried(&entry.key));
        entries.map(|entry| (entry.key.clone(), entry.value.clone())).collect()
    };
    let (a, b) = (carried(a), carried(b));
    let other = a.iter().filter(|(key, value)| b.get(*key) != Some(value)).count();
    other + b.keys().filter(|key| !a.contains_key(*key)).count()
}

async fn begin(db: &dyn FarmDb, begun: Option<&Entry>) -> Result<(), TransferError> {
    let expect = begun.map_or(Expect::Absent, |entry| Expect::ModRevision(entry.mod_revision));
    let compare = Compare { key: UNDER_WAY.to_owned(), expect };
    commit(db, vec![compare], vec![Op::Put { key: UNDER_WAY.to_owned(), value: b"{}".to_vec() }]).await
}

async fn delete_all(db: &dyn FarmDb, there: &Snapshot) -> Result<(), TransferError> {
    let keys: Vec<&Entry> = there.entries.iter().filter(|entry| is_carried(&entry.key)).collect();
    for keys in keys.chunks(MAX_TXN_OPS) {
        let ops = keys.iter().map(|entry| Op::Delete { key: entry.key.clone() }).collect();
        commit(db, vec![], ops).await?;
    }
    Ok(())
}

async fn put_all(db: &dyn FarmDb, mut entries: &[&Entry]) -> Result<(), TransferError> {
    while !entries.is_empty() {
        let (now, later) = entries.split_at(batch(entries));
        let compares = now.iter().map(|entry| Compare { key: entry.key.clone(), expect: Expect::Absent });
        let ops = now.iter().map(|entry| Op::Put { key: entry.key.clone(), value: entry.value.clone() });
        commit(db, compares.collect(), ops.collect()).await?;
        entries = later;
    }
    Ok(())
}

/// How many of the first records go with one transaction; at least one.
fn batch(entries: &[&Entry]) -> usize {
    let mut bytes = 0;
    let fits = |entry: &&&Entry| {
        bytes += entry.key.len() + entry.value.len();
        bytes <= TXN_BYTES
    };
    entries.iter().take(MAX_TXN_OPS).take_while(fits).count().max(1)
}

async fn commit(db: &dyn FarmDb, compares: Vec<Compare>, ops: Vec<Op>) -> Result<(), TransferError> {
    match db.txn(compares, ops).await? {
        TxnOutcome::Committed { .. } => Ok(()),
        TxnOutcome::Conflict { key, .. } => Err(TransferError::Raced(key)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Sqlite;
    use crate::etcd_child::EtcdCluster;
    use crate::{Etcd, EtcdOptions};

    fn records(count: usize, bytes: usize) -> Snapshot {
        let entry = |n: usize| Entry {
            key: format!("/events/{n:06}"),
            value: vec![n as u8; bytes],
            create_revision: 7,
            mod_revision: 7,
        };
        Snapshot { revision: 7, entries: (0..count).map(entry).collect() }
    }

    async fn put(db: &dyn FarmDb, key: &str) {
        commit(db, vec![], vec![Op::Put { key: key.to_owned(), value: b"1".to_vec() }]).await.unwrap();
    }

    async fn keeps_the_rules(db: &dyn FarmDb) {
        let many = records(1000, 20);
        assert_eq!(fill(db, &many, Present::Keep).await, Ok(1000));
        assert_eq!(differences(&db.range("").await.unwrap(), &many), 0);
        assert!(!is_under_way(db).await.unwrap());
        let few = records(3, 5);
        assert_eq!(fill(db, &few, Present::Keep).await, Err(TransferError::NotEmpty(1000)));
        assert_eq!(
            fill(db, &few, Present::Replace(&digest(&few))).await,
            Err(TransferError::NotEmpty(1000)),
            "others than those that were named"
        );
        assert_eq!(fill(db, &few, Present::Replace(&digest(&many))).await, Ok(3));
        assert_eq!(differences(&db.range("").await.unwrap(), &few), 0);
        assert_eq!(differences(&many, &few), 1000);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn records_are_brought_whole_into_an_empty_database_only() {
        let dir = tempfile::tempdir().unwrap();
        keeps_the_rules(&Sqlite::open(&dir.path().join("farm.db")).unwrap()).await;
        let cluster = EtcdCluster::start(dir.path(), 1);
        let options = EtcdOptions { endpoints: cluster.endpoints(), tls: None };
        let etcd = Etcd::connect(&options).await.unwrap();
        keeps_the_rules(&etcd).await;
        let large = records(5, 400 * 1024);
        let there = digest(&etcd.range("").await.unwrap());
        assert_eq!(
            fill(&etcd, &large, Present::Replace(&there)).await,
            Ok(5),
            "in transactions that etcd takes"
        );
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn an_interrupted_transfer_is_under_way_and_is_begun_anew() {
        let dir = tempfile::tempdir().unwrap();
        let db = Sqlite::open(&dir.path().join("farm.db")).unwrap();
        put(&db, UNDER_WAY).await;
        put(&db, "/vdisks/half").await;
        assert!(is_under_way(&db).await.unwrap());
        let few = records(3, 5);
        assert_eq!(fill(&db, &few, Present::Keep).await, Ok(3));
        assert_eq!(differences(&db.range("").await.unwrap(), &few), 0);
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn a_database_that_a_server_runs_on_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let db = Sqlite::open(&dir.path().join("farm.db")).unwrap();
        put(&db, "/live/servers/pvs01").await;
        let refused = fill(&db, &records(1, 1), Present::Keep).await.unwrap_err();
        assert!(matches!(&refused, TransferError::InUse(key) if key.contains("pvs01")), "{refused}");
    }

    #[test]
    fn a_batch_is_bounded_in_records_and_bytes() {
        let of = |records: Snapshot| {
            let entries: Vec<&Entry> = records.entries.iter().collect();
            batch(&entries)
        };
        assert_eq!(of(records(500, 10)), MAX_TXN_OPS);
        assert_eq!(of(records(500, 100 * 1024)), 5);
        assert_eq!(of(records(2, 1 << 20)), 1);
    }
}
