//! Tests of `sqlite`.

use super::*;
use crate::contract;
use crate::db::ChangeKind;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;
use tempfile::TempDir;

fn fresh() -> (TempDir, Arc<dyn FarmDb>) {
    let dir = tempfile::tempdir().unwrap();
    let db = Sqlite::open(&dir.path().join("farm.db")).unwrap();
    (dir, Arc::new(db))
}

/// Opens a database whose last handle was dropped just now: its thread may still hold the lock.
async fn reopen(path: &Path) -> Sqlite {
    for _ in 0..2000 {
        match Sqlite::open(path) {
            Err(DbError::Unusable(why)) if why.contains("another headwater") => {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            other => return other.unwrap(),
        }
    }
    panic!("the lock is never let go");
}

fn put(key: &str, value: &str) -> Op {
    Op::Put { key: key.to_owned(), value: value.as_bytes().to_vec() }
}

#[tokio::test]
async fn sqlite_keeps_the_contract_of_transactions() {
    let (_dir, db) = fresh();
    contract::creates_a_record_once(db.as_ref()).await;
    contract::changes_all_or_nothing(db.as_ref()).await;
    contract::counts_revisions(db.as_ref()).await;
    contract::reads_ranges(db.as_ref()).await;
    contract::refuses_what_it_cannot_hold(db.as_ref()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract_of_concurrency() {
    let (_dir, db) = fresh();
    contract::lets_one_of_many_win(&db).await;
    contract::watches_every_change(&db).await;
    contract::resumes_a_watch(db.as_ref()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sqlite_keeps_the_contract_of_liveness() {
    let (_dir, db) = fresh();
    contract::announces_who_is_alive(&db).await;
    contract::tells_its_health(db.as_ref()).await;
}

#[tokio::test]
async fn what_a_dead_process_announced_is_gone_when_the_database_is_opened_again() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("farm.db");
    let db = Sqlite::open(&path).unwrap();
    db.txn(vec![], vec![put("/servers/a", "1")]).await.unwrap();
    let alive = db.announce("/live/a", b"1".to_vec(), Duration::from_secs(9)).await.unwrap();
    // As a killed process does: nobody takes the record back.
    std::mem::forget(alive);
    let copy = dir.path().join("copy.db");
    let raw = rusqlite::Connection::open(&path).unwrap();
    raw.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
    let after = Sqlite::open(&copy).unwrap();
    let keys: Vec<String> =
        after.range("").await.unwrap().entries.into_iter().map(|entry| entry.key).collect();
    assert_eq!(keys, ["/servers/a"]);
    let mut watch = after.watch("/live/", 3).await.unwrap();
    assert_eq!(watch.next().await.unwrap()[0].kind, ChangeKind::Delete, "watchers are told");
}

#[tokio::test]
async fn sqlite_keeps_the_contract_of_restarts() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("farm.db");
    contract::keeps_all_over_a_restart(async || Arc::new(reopen(&path).await) as Arc<dyn FarmDb>).await;
}

#[tokio::test]
async fn a_watch_of_the_forgotten_past_says_where_to_begin() {
    let dir = tempfile::tempdir().unwrap();
    let options = Options { kept_revisions: 10 };
    let db = Sqlite::open_with(&dir.path().join("farm.db"), options).unwrap();
    for n in 0..30 {
        db.txn(vec![], vec![put("/a", &n.to_string())]).await.unwrap();
    }
    let mut watch = db.watch("", 1).await.unwrap();
    let Err(WatchError::Compacted { oldest }) = watch.next().await else { panic!("it is forgotten") };
    assert!((19..=21).contains(&oldest), "{oldest}");
    let mut watch = db.watch("", oldest).await.unwrap();
    assert_eq!(watch.next().await.unwrap()[0].revision, oldest);
}

#[tokio::test]
async fn a_watch_ends_with_the_database() {
    let (_dir, db) = fresh();
    let mut watch = db.watch("", 0).await.unwrap();
    drop(db);
    assert!(matches!(watch.next().await, Err(WatchError::Lost(_))));
}

#[tokio::test]
async fn a_long_history_is_read_in_whole_transactions() {
    let (_dir, db) = fresh();
    for round in 0..10 {
        let ops = (0..100).map(|n| put(&format!("/{n}"), &round.to_string())).collect();
        db.txn(vec![], ops).await.unwrap();
    }
    let mut watch = db.watch("", 0).await.unwrap();
    for round in 0..10u64 {
        let changes = watch.next().await.unwrap();
        assert_eq!(changes.len(), 100);
        for (n, change) in changes.into_iter().enumerate() {
            assert_eq!((change.revision, change.key), (round + 1, format!("/{n}")));
            let ChangeKind::Put { create_revision, .. } = change.kind else { panic!("a put") };
            assert_eq!(create_revision, 1);
        }
    }
}

#[tokio::test]
async fn a_foreign_or_newer_or_damaged_file_is_refused_with_a_hint() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |name: &str| match Sqlite::open(&dir.path().join(name)) {
        Err(DbError::Unusable(why)) => why,
        other => panic!("{name} must be refused: {other:?}"),
    };
    let foreign = rusqlite::Connection::open(dir.path().join("foreign")).unwrap();
    foreign.execute_batch("CREATE TABLE mine (x)").unwrap();
    assert!(refused("foreign").contains("another program's"));

    Sqlite::open(&dir.path().join("newer")).unwrap().close().await;
    let newer = rusqlite::Connection::open(dir.path().join("newer")).unwrap();
    newer.pragma_update(None, "user_version", 2).unwrap();
    drop(newer);
    let why = refused("newer");
    assert!(why.contains("format revision 2") && why.contains("hint:"), "{why}");

    std::fs::write(dir.path().join("noise"), vec![0x5a; 8192]).unwrap();
    let why = refused("noise");
    assert!(why.contains("noise") && why.contains("hint:"), "{why}");
}

#[tokio::test]
async fn a_damaged_page_is_found_at_the_start() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("farm.db");
    {
        let db = Sqlite::open(&path).unwrap();
        for n in 0..50 {
            db.txn(vec![], vec![put(&format!("/{n}"), &"x".repeat(3000))]).await.unwrap();
        }
    }
    drop(reopen(&path).await);
    while !path.with_extension("db-wal").metadata().map_or(true, |wal| wal.len() == 0) {
        tokio::task::yield_now().await;
    }
    let mut bytes = std::fs::read(&path).unwrap();
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 4096].fill(0xee);
    std::fs::write(&path, bytes).unwrap();
    let Err(DbError::Unusable(why)) = Sqlite::open(&path) else { panic!("it is damaged") };
    assert!(why.contains("hint:"), "{why}");
}

#[tokio::test]
async fn the_log_is_copied_beside_the_commits_and_begins_anew() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("farm.db");
    let db = Sqlite::open(&path).unwrap();
    let log_bytes = || std::fs::metadata(dir.path().join("farm.db-wal")).unwrap().len();
    let value = "x".repeat(65_536);
    let mut written_bytes = 0;
    db.txn(vec![], vec![put("/one", &value)]).await.unwrap();
    let first = salts(&path);
    while written_bytes < 8 << 20 {
        db.txn(vec![], vec![put("/one", &value)]).await.unwrap();
        written_bytes += value.len() as u64;
    }
    // From here on the log grows by little, however long its thread takes to be run.
    let deadline = std::time::Instant::now() + Duration::from_secs(60);
    while salts(&path) == first {
        assert!(std::time::Instant::now() < deadline, "the log of {} bytes never begins anew", log_bytes());
        db.txn(vec![], vec![put("/one", "little")]).await.unwrap();
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    assert!(log_bytes() < u64::from(checkpoint::LAST_RESORT_PAGES) * 4096, "only the last resort copies");
}

/// The two numbers in the head of the log that change whenever it begins anew
/// (<https://www.sqlite.org/fileformat2.html>, section 4.1).
fn salts(database: &Path) -> Vec<u8> {
    let head = std::fs::read(database.with_extension("db-wal")).unwrap();
    head[16..24].to_vec()
}

#[tokio::test]
async fn commits_go_into_a_log_that_is_long_already() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("farm.db");
    let length = || std::fs::metadata(path.with_extension("db-wal")).unwrap().len();
    let db = Sqlite::open(&path).unwrap();
    let before = length();
    for n in 0..40 {
        db.txn(vec![], vec![put(&format!("/{n}"), &"x".repeat(3000))]).await.unwrap();
    }
    assert_eq!(length(), before, "a commit made the log longer");
    // As a killed process leaves it: both files, the log with zeros behind what it holds.
    let other = tempfile::tempdir().unwrap();
    let copy = other.path().join("farm.db");
    std::fs::copy(&path, &copy).unwrap();
    std::fs::copy(path.with_extension("db-wal"), copy.with_extension("db-wal")).unwrap();
    let found = Sqlite::open(&copy).unwrap();
    assert_eq!(found.range("/").await.unwrap(), db.range("/").await.unwrap());
}

#[tokio::test]
async fn a_second_process_is_kept_out() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("farm.db");
    let _first = Sqlite::open(&path).unwrap();
    let Err(DbError::Unusable(why)) = Sqlite::open(&path) else { panic!("it is in use") };
    assert!(why.contains("hint:"), "{why}");
}

/// The test is its own child: with the variable set it commits until it is killed, printing each
/// acknowledged number.
#[test]
fn kill_9_keeps_every_acknowledged_commit() {
    const CHILD: &str = "FARM_DB_KILL_TEST";
    let runtime = tokio::runtime::Runtime::new().unwrap();
    if let Some(path) = std::env::var_os(CHILD) {
        runtime.block_on(commit_for_ever(Path::new(&path)));
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("farm.db");
    let mut acknowledged = 0;
    for round in 0..10 {
        let name = "sqlite::tests::kill_9_keeps_every_acknowledged_commit";
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, &path)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
        let mut numbers = lines.filter_map(|line| line.strip_prefix("acknowledged ")?.parse::<u64>().ok());
        acknowledged = numbers.nth(round * 3).expect("the child commits");
        child.kill().unwrap();
        // What was printed before the kill still lies in the pipe.
        acknowledged = numbers.last().unwrap_or(acknowledged);
        child.wait().unwrap();
        let db = Sqlite::open(&path).unwrap();
        let kept = runtime.block_on(db.range("/n/")).unwrap().entries.len() as u64;
        assert!(kept >= acknowledged, "{kept} kept of {acknowledged} acknowledged");
        drop(db);
        runtime.block_on(reopen(&path));
    }
    assert!(acknowledged >= 10);
}

async fn commit_for_ever(path: &Path) {
    let db = reopen(path).await;
    let first = db.range("/n/").await.unwrap().entries.len() as u64;
    for n in first.. {
        db.txn(vec![], vec![put(&format!("/n/{n:08}"), "x")]).await.unwrap();
        println!("acknowledged {}", n + 1);
        std::io::stdout().flush().unwrap();
    }
}
