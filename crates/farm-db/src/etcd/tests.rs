//! Tests of `etcd` against real members.

use super::*;
use crate::contract;
use crate::db::{ChangeKind, WatchError};
use crate::etcd_child::EtcdCluster;
use std::time::Instant;
use tempfile::TempDir;

struct Fixture {
    cluster: EtcdCluster,
    db: Arc<dyn FarmDb>,
    _dir: TempDir,
}

async fn start(members: usize) -> Fixture {
    let dir = tempfile::tempdir().unwrap();
    let cluster = EtcdCluster::start(dir.path(), members);
    let db = connect(&cluster).await;
    Fixture { cluster, db, _dir: dir }
}

async fn connect(cluster: &EtcdCluster) -> Arc<dyn FarmDb> {
    let options = EtcdOptions { endpoints: cluster.endpoints(), tls: None };
    Arc::new(Etcd::connect(&options).await.unwrap())
}

fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.to_owned(), value: value.as_bytes().to_vec() }
}

async fn commit(db: &dyn FarmDb, ops: Vec<Op>) -> Revision {
    match db.txn(vec![], ops).await.unwrap() {
        TxnOutcome::Committed { revision } => revision,
        conflict => panic!("nothing was compared: {conflict:?}"),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn etcd_keeps_the_contract() {
    let Fixture { mut cluster, db, _dir } = start(1).await;
    contract::creates_a_record_once(db.as_ref()).await;
    contract::changes_all_or_nothing(db.as_ref()).await;
    contract::counts_revisions(db.as_ref()).await;
    contract::reads_ranges(db.as_ref()).await;
    contract::refuses_what_it_cannot_hold(db.as_ref()).await;
    contract::lets_one_of_many_win(&db).await;
    contract::watches_every_change(&db).await;
    contract::resumes_a_watch(db.as_ref()).await;
    contract::announces_who_is_alive(&db).await;
    contract::tells_its_health(db.as_ref()).await;
    contract::keeps_all_over_a_restart(async || connect(&cluster).await).await;
    // A power cut of the whole cluster takes nothing that was answered.
    let before = db.range("").await.unwrap();
    cluster.kill();
    cluster.restart();
    assert_eq!(db.range("").await.unwrap(), before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_range_of_many_pages_is_of_one_revision() {
    let fixture = start(1).await;
    let keys: Vec<String> = (0..2 * PAGE + 7).map(|n| format!("/many/{n:05}")).collect();
    for keys in keys.chunks(100) {
        commit(fixture.db.as_ref(), keys.iter().map(|key| put(key, "1")).collect()).await;
    }
    let snapshot = fixture.db.range("/many/").await.unwrap();
    assert_eq!(
        snapshot.entries.iter().map(|entry| &entry.key).collect::<Vec<_>>(),
        keys.iter().collect::<Vec<_>>()
    );
    assert_eq!(fixture.db.range("").await.unwrap(), snapshot);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_watch_of_compacted_history_says_where_to_begin() {
    let fixture = start(1).await;
    let first = commit(fixture.db.as_ref(), vec![put("/old/a", "1")]).await;
    let last = commit(fixture.db.as_ref(), vec![put("/old/a", "2")]).await;
    let mut client = etcd_client::Client::connect(fixture.cluster.endpoints(), None).await.unwrap();
    client.compact(last as i64, None).await.unwrap();
    let mut watch = fixture.db.watch("/old/", first).await.unwrap();
    assert_eq!(watch.next().await, Err(WatchError::Compacted { oldest: last }));
    let mut watch = fixture.db.watch("/old/", last).await.unwrap();
    assert!(matches!(&watch.next().await.unwrap()[0].kind, ChangeKind::Put { value, .. } if value == b"2"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_nobody_answers_all_is_refused_and_then_goes_on() {
    let mut fixture = start(1).await;
    let db = &fixture.db;
    let seen = commit(db.as_ref(), vec![put("/away/a", "1")]).await;
    let alive = db.announce("/live/a", b"1".to_vec(), Duration::from_secs(2)).await.unwrap();
    let mut watch = db.watch("/away/", seen + 1).await.unwrap();
    fixture.cluster.kill();
    let refused = loop {
        match db.txn(vec![], vec![put("/away/a", "2")]).await.unwrap_err() {
            // It was on its way before the connection was known to be gone.
            DbError::Failed(why) => assert!(why.contains("not known"), "{why}"),
            refused => break refused,
        }
    };
    assert!(matches!(refused, DbError::Unreachable(_)), "{refused}");
    assert!(refused.to_string().contains("hint:"), "{refused}");
    assert!(matches!(db.get("/away/a").await, Err(DbError::Unreachable(_))));
    assert!(matches!(watch.next().await, Err(WatchError::Lost(_))));
    let health = db.health().await;
    assert!(health.revision.is_none() && health.endpoints[0].state.is_err(), "{health:?}");
    fixture.cluster.restart();
    let mut watch = db.watch("/away/", seen + 1).await.unwrap();
    // Nothing of the refused transaction is there.
    assert_eq!(db.get("/away/a").await.unwrap().unwrap().value, b"1");
    commit(db.as_ref(), vec![put("/away/a", "3")]).await;
    assert!(matches!(&watch.next().await.unwrap()[0].kind, ChangeKind::Put { value, .. } if value == b"3"));
    let begun = Instant::now();
    while db.get("/live/a").await.unwrap().is_none() {
        assert!(begun.elapsed() < Duration::from_secs(60), "it is not announced again");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    alive.withdraw().await;
    assert_eq!(db.get("/live/a").await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_leader_loses_no_answered_change_and_no_watch() {
    const WRITES: usize = 60;
    let mut fixture = start(3).await;
    let start = commit(fixture.db.as_ref(), vec![put("/leader/first", "")]).await;
    let mut watch = fixture.db.watch("/leader/", start + 1).await.unwrap();
    let mut answered = Vec::new();
    for n in 0..WRITES {
        if n == WRITES / 3 {
            let leader = leader(fixture.db.as_ref()).await;
            fixture.cluster.kill_member(leader);
        }
        let key = format!("/leader/{n:03}");
        match fixture.db.txn(vec![], vec![put(&key, "1")]).await {
            Ok(_) => answered.push(key),
            // What the leader died with in its hands is not known.
            Err(DbError::Failed(why)) => assert!(why.contains("hint:"), "{why}"),
            Err(other) => panic!("two of three go on: {other}"),
        }
    }
    assert!(answered.len() >= WRITES - 5, "{} of {WRITES} were answered", answered.len());
    let there = fixture.db.range("/leader/0").await.unwrap().entries;
    let there: Vec<String> = there.into_iter().map(|entry| entry.key).collect();
    assert!(answered.iter().all(|key| there.contains(key)));
    let mut told = Vec::new();
    while told.len() < there.len() {
        told.extend(watch.next().await.unwrap().into_iter().map(|change| change.key));
    }
    told.sort();
    assert_eq!(told, there, "each once, none left out");
}

/// The number of the member that leads.
async fn leader(db: &dyn FarmDb) -> usize {
    let endpoints = db.health().await.endpoints;
    endpoints
        .iter()
        .position(|endpoint| endpoint.state.as_ref().is_ok_and(|member| member.leads))
        .expect("one leads")
}
