//! The suite that every engine passes: each function panics where the engine breaks its promise.
//!
//! Run each on an engine of its own or on a shared one: every function keeps to its own prefix.
//! `src/sqlite/tests.rs` shows how.

use crate::db::{
    Change, ChangeKind, ChangeSet, Compare, DbError, Expect, FarmDb, MAX_TXN_OPS, MAX_VALUE_BYTES, Op,
    Revision, TxnOutcome, Watch,
};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How long a change may take to reach a watch before the suite calls it lost.
const PATIENCE: Duration = Duration::from_secs(20);

fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.to_owned(), value: value.as_bytes().to_vec() }
}

fn delete(key: &str) -> Op {
    Op::Delete { key: key.to_owned() }
}

fn compare(key: &str, expect: Expect) -> Compare {
    Compare { key: key.to_owned(), expect }
}

async fn commit(db: &dyn FarmDb, ops: Vec<Op>) -> Revision {
    match db.txn(vec![], ops).await.unwrap() {
        TxnOutcome::Committed { revision } => revision,
        conflict => panic!("nothing was compared: {conflict:?}"),
    }
}

async fn next(watch: &mut Watch) -> ChangeSet {
    tokio::time::timeout(PATIENCE, watch.next()).await.expect("the change arrives").expect("the watch lives")
}

/// The next transaction, which changed one record.
async fn next_change(watch: &mut Watch) -> Change {
    let mut changes = next(watch).await;
    assert_eq!(changes.len(), 1, "{changes:?}");
    changes.remove(0)
}

/// A record is created once; the second creation is told what it ran into.
pub async fn creates_a_record_once(db: &dyn FarmDb) {
    let create = || db.txn(vec![compare("/once/a", Expect::Absent)], vec![put("/once/a", "1")]);
    let TxnOutcome::Committed { revision } = create().await.unwrap() else { panic!("it was absent") };
    let entry = db.get("/once/a").await.unwrap().expect("it was created");
    assert_eq!((entry.create_revision, entry.mod_revision, &*entry.value), (revision, revision, &b"1"[..]));
    let TxnOutcome::Conflict { key, .. } = create().await.unwrap() else { panic!("it existed") };
    assert_eq!(key, "/once/a");
}

/// If one compare fails, nothing of the transaction happens.
pub async fn changes_all_or_nothing(db: &dyn FarmDb) {
    let old = commit(db, vec![put("/all/a", "1"), put("/all/b", "1")]).await;
    let new = commit(db, vec![put("/all/a", "2")]).await;
    let ops = || vec![put("/all/b", "3"), delete("/all/a")];
    for stale in [Expect::Absent, Expect::ModRevision(old), Expect::CreateRevision(new)] {
        let compares = vec![compare("/all/b", Expect::ModRevision(old)), compare("/all/a", stale)];
        let outcome = db.txn(compares, ops()).await.unwrap();
        assert!(matches!(&outcome, TxnOutcome::Conflict { key, .. } if key == "/all/a"), "{outcome:?}");
    }
    assert_eq!(db.get("/all/b").await.unwrap().unwrap().value, b"1");
    let compares =
        vec![compare("/all/a", Expect::ModRevision(new)), compare("/all/a", Expect::CreateRevision(old))];
    assert!(matches!(db.txn(compares, ops()).await.unwrap(), TxnOutcome::Committed { .. }));
    assert_eq!(db.get("/all/a").await.unwrap(), None);
    let absent = vec![compare("/all/a", Expect::ModRevision(new))];
    assert!(matches!(db.txn(absent, ops()).await.unwrap(), TxnOutcome::Conflict { .. }));
}

/// Revisions go up by one with each changing transaction and stay where nothing changes.
pub async fn counts_revisions(db: &dyn FarmDb) {
    let first = commit(db, vec![put("/count/a", "1"), put("/count/b", "1")]).await;
    assert_eq!(commit(db, vec![put("/count/a", "1")]).await, first + 1, "the same bytes are a change");
    assert_eq!(commit(db, vec![delete("/count/none")]).await, first + 1, "nothing was deleted");
    assert_eq!(commit(db, vec![]).await, first + 1);
    let again = commit(db, vec![delete("/count/a")]).await;
    assert_eq!(again, first + 2);
    let reborn = commit(db, vec![put("/count/a", "2")]).await;
    assert_eq!(db.get("/count/a").await.unwrap().unwrap().create_revision, reborn);
}

/// A range is everything under the prefix, in order, and nothing else.
pub async fn reads_ranges(db: &dyn FarmDb) {
    let keys = ["/range/a", "/range/b%", "/range/b/1", "/range/é"];
    let revision = commit(db, keys.iter().map(|key| put(key, key)).collect()).await;
    commit(db, vec![put("/rangf", "beside"), put("/rang", "beside")]).await;
    let snapshot = db.range("/range/").await.unwrap();
    assert!(snapshot.revision > revision);
    assert_eq!(snapshot.entries.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), keys);
    let below = db.range("/range/b").await.unwrap().entries;
    assert_eq!(below.iter().map(|entry| &*entry.key).collect::<Vec<_>>(), ["/range/b%", "/range/b/1"]);
    assert!(db.range("/range/none").await.unwrap().entries.is_empty());
}

/// What breaks the interface is refused before anything happens.
pub async fn refuses_what_it_cannot_hold(db: &dyn FarmDb) {
    let twice = vec![put("/limit/a", "1"), delete("/limit/a")];
    let large = vec![Op::Put { key: "/limit/b".to_owned(), value: vec![0; MAX_VALUE_BYTES + 1] }];
    let many = (0..=MAX_TXN_OPS).map(|n| put(&format!("/limit/{n}"), "")).collect();
    for ops in [twice, large, many] {
        assert!(matches!(db.txn(vec![], ops).await, Err(DbError::Invalid(_))));
    }
    assert!(db.range("/limit/").await.unwrap().entries.is_empty());
}

/// Of transactions that compare the same revision, exactly one commits, each round.
pub async fn lets_one_of_many_win(db: &Arc<dyn FarmDb>) {
    const ROUNDS: usize = 20;
    const RIVALS: usize = 8;
    let mut seen = commit(db.as_ref(), vec![put("/race/a", "0")]).await;
    for _ in 0..ROUNDS {
        let rivals: Vec<_> =
            (0..RIVALS).map(|rival| tokio::spawn(race(Arc::clone(db), seen, rival))).collect();
        let mut winners = Vec::new();
        for rival in rivals {
            winners.extend(rival.await.expect("a rival ends"));
        }
        let [(winner, revision)] = winners[..] else { panic!("{} winners", winners.len()) };
        assert_eq!(db.get("/race/a").await.unwrap().unwrap().value, winner.to_string().into_bytes());
        seen = revision;
    }
}

async fn race(db: Arc<dyn FarmDb>, seen: Revision, rival: usize) -> Option<(usize, Revision)> {
    let compares = vec![compare("/race/a", Expect::ModRevision(seen))];
    match db.txn(compares, vec![put("/race/a", &rival.to_string())]).await.unwrap() {
        TxnOutcome::Committed { revision } => Some((rival, revision)),
        TxnOutcome::Conflict { .. } => None,
    }
}

/// A watch tells every change under its prefix once and in order, from the past into the present.
pub async fn watches_every_change(db: &Arc<dyn FarmDb>) {
    const WRITERS: usize = 4;
    const WRITES: usize = 60;
    let start = commit(db.as_ref(), vec![put("/watch/first", "")]).await;
    let mut watch = db.watch("/watch/", start).await.unwrap();
    assert_eq!(next_change(&mut watch).await.key, "/watch/first");
    let writers: Vec<_> =
        (0..WRITERS).map(|writer| tokio::spawn(write(Arc::clone(db), writer, WRITES))).collect();
    let (mut last, mut counts) = (start, BTreeMap::<String, usize>::new());
    while counts.values().sum::<usize>() < WRITERS * WRITES {
        let change = next_change(&mut watch).await;
        assert!(change.revision > last, "in order: {} after {last}", change.revision);
        last = change.revision;
        let count = counts.entry(change.key.clone()).or_default();
        let ChangeKind::Put { value, .. } = change.kind else { panic!("nothing was deleted") };
        assert_eq!(value, count.to_string().into_bytes(), "none left out of {}", change.key);
        *count += 1;
    }
    for writer in writers {
        writer.await.expect("a writer ends");
    }
}

async fn write(db: Arc<dyn FarmDb>, writer: usize, writes: usize) {
    for n in 0..writes {
        commit(db.as_ref(), vec![put(&format!("/watch/{writer}"), &n.to_string())]).await;
        commit(db.as_ref(), vec![put("/beside", &n.to_string())]).await;
    }
}

/// A watch that is taken up again at the revision after the last one seen misses nothing.
pub async fn resumes_a_watch(db: &dyn FarmDb) {
    let start = commit(db, vec![put("/resume/a", "1"), put("/resume/b", "1")]).await;
    let mut watch = db.watch("/resume/", start).await.unwrap();
    let seen = next(&mut watch).await;
    assert_eq!(seen.len(), 2, "a transaction arrives whole");
    assert!(seen.iter().all(|change| change.revision == start));
    drop(watch);
    commit(db, vec![delete("/resume/a")]).await;
    commit(db, vec![put("/resume/c", "1")]).await;
    let mut watch = db.watch("/resume/", start + 1).await.unwrap();
    let change = next_change(&mut watch).await;
    assert_eq!((&*change.key, change.kind), ("/resume/a", ChangeKind::Delete));
    assert_eq!(next_change(&mut watch).await.key, "/resume/c");
}

/// A record that says that somebody is alive is there as long as its handle, and a later one of the
/// same name is not taken away with the earlier.
pub async fn announces_who_is_alive(db: &Arc<dyn FarmDb>) {
    const TTL: Duration = Duration::from_secs(3);
    let start = commit(db.as_ref(), vec![put("/alive/a", "left over")]).await;
    let announce = |value: &str| {
        let (db, value) = (Arc::clone(db), value.as_bytes().to_vec());
        async move { db.announce("/alive/a", value, TTL).await.unwrap() }
    };
    let mut watch = db.watch("/alive/", start + 1).await.unwrap();
    let first = announce("1").await;
    assert!(matches!(next_change(&mut watch).await.kind, ChangeKind::Put { value, .. } if value == b"1"));
    drop(first);
    assert_eq!(next_change(&mut watch).await.kind, ChangeKind::Delete);
    let (old, new) = (announce("2").await, announce("3").await);
    assert!(matches!(next_change(&mut watch).await.kind, ChangeKind::Put { value, .. } if value == b"2"));
    assert!(matches!(next_change(&mut watch).await.kind, ChangeKind::Put { value, .. } if value == b"3"));
    old.withdraw().await;
    assert_eq!(db.get("/alive/a").await.unwrap().expect("it is the new one's").value, b"3");
    new.withdraw().await;
    assert_eq!(next_change(&mut watch).await.kind, ChangeKind::Delete);
    assert_eq!(db.get("/alive/a").await.unwrap(), None);
}

/// The engine says how it is, with the revision of its last change.
pub async fn tells_its_health(db: &dyn FarmDb) {
    let revision = commit(db, vec![put("/health/a", "1")]).await;
    let health = db.health().await;
    assert!(health.revision.is_some_and(|seen| seen >= revision), "{health:?}");
    assert!(health.endpoints.iter().all(|endpoint| endpoint.state.is_ok()), "{health:?}");
}

/// Everything is there after the engine was closed and opened again; revisions go on.
pub async fn keeps_all_over_a_restart<O: AsyncFn() -> Arc<dyn FarmDb>>(open: O) {
    let db = open().await;
    let revision = commit(db.as_ref(), vec![put("/keep/a", "1"), put("/keep/b", "2")]).await;
    let before = db.range("/keep/").await.unwrap();
    drop(db);
    let db = open().await;
    assert_eq!(db.range("/keep/").await.unwrap(), before);
    assert_eq!(commit(db.as_ref(), vec![put("/keep/c", "3")]).await, revision + 1);
    let mut watch = db.watch("/keep/", revision).await.unwrap();
    assert_eq!(next(&mut watch).await[0].key, "/keep/a");
}
