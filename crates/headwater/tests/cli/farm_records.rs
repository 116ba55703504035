//! The farm's records carried elsewhere: backup, restore, the move to etcd.

use super::farm::home_of;
use super::support::{HEADWATER, Home, text, wait_for};
use farm_db::backup_file::Backup;
use farm_db::etcd_child::EtcdCluster;
use farm_db::transfer::{self, Present, TransferError, UNDER_WAY};
use farm_db::{Etcd, EtcdOptions, FarmDb, Op, Sqlite};
use std::process::{Command, Output};
use std::time::{Duration, Instant};

/// A command that works on the database itself, with this home's configuration.
fn offline(home: &Home, words: &[&str]) -> Output {
    let mut command = Command::new(HEADWATER);
    command.env_remove("HEADWATER_URL").env_remove("HEADWATER_TOKEN");
    command.arg("farm").args(words).arg("--config").arg(home.path("test.toml"));
    command.arg("--state-dir").arg(home.path("state")).output().unwrap()
}

/// It must succeed; what it prints.
fn done(home: &Home, words: &[&str]) -> String {
    let output = offline(home, words);
    assert!(output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// It must fail; what it says.
fn refused(home: &Home, words: &[&str]) -> String {
    let output = offline(home, words);
    assert!(!output.status.success(), "{words:?}: {}", String::from_utf8_lossy(&output.stdout));
    String::from_utf8(output.stderr).unwrap()
}

/// What a server says that must not start.
fn not_started(home: &Home) -> String {
    let output = home.serve().output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

/// The names of all vDisks.
fn vdisks(home: &Home) -> Vec<String> {
    let list = home.json(&["vdisk", "list"]);
    list.as_array().unwrap().iter().map(|vdisk| vdisk["name"].as_str().unwrap().to_owned()).collect()
}

/// A home with a backup `farm.backup` of a farm with the vDisk `office`; its server is stopped.
fn home_with_backup() -> Home {
    let home = Home::new();
    let server = home.start();
    home.image("in.raw", 1 << 20, 4 << 20);
    home.run(&["vdisk", "import", "office", "in.raw"]);
    home.run(&["farm", "backup", text(&home.path("farm.backup"))]);
    assert_eq!(server.stop(), Some(0));
    home
}

/// What a refusal says the records that are there are called.
fn digest(refusal: &str) -> String {
    let rest = refusal.split_once("--replace ").unwrap_or_else(|| panic!("no digest: {refusal}")).1;
    rest.chars().take_while(char::is_ascii_hexdigit).collect()
}

/// What a transfer leaves that was interrupted.
async fn interrupt(db: &dyn FarmDb) {
    let put = |key: &str| Op::Put { key: key.to_owned(), value: b"{}".to_vec() };
    db.txn(vec![], vec![put(UNDER_WAY), put("/vdisks/half")]).await.unwrap();
}

fn embedded(home: &Home) -> Sqlite {
    Sqlite::open(&home.path("state").join("farm.db")).unwrap()
}

#[test]
fn a_backup_is_restored_over_another_farm_when_that_is_named_and_can_be_taken_back() {
    let home = Home::new();
    let server = home.start();
    home.image("in.raw", 1 << 20, 4 << 20);
    home.run(&["vdisk", "import", "office", "in.raw"]);
    let file = home.path("farm.backup");
    let told = home.json(&["farm", "backup", text(&file)]);
    assert!(told["records"].as_u64().unwrap() > 5, "{told}");
    assert!(home.refused(&["farm", "backup", text(&file)], 1).contains("is there already"));
    assert!(home.run(&["audit"]).contains("farm.backup"));
    home.run(&["vdisk", "import", "later", "in.raw"]);
    assert!(refused(&home, &["restore", text(&file)]).contains("another headwater uses this database"));
    assert_eq!(server.stop(), Some(0));

    let said = refused(&home, &["restore", text(&file)]);
    assert!(said.contains("2 vDisks, 2 versions"), "{said}");
    assert!(refused(&home, &["restore", text(&file), "--replace", "0123456789abcdef"]).contains("2 vDisks"));
    let newer = digest(&said);
    done(&home, &["restore", text(&file), "--replace", &newer]);
    let server = home.start();
    assert_eq!(vdisks(&home), ["office"]);
    assert!(home.refused(&["farm", "status", "--check"], 1).contains("something is wrong"));
    assert!(home.refused(&["store", "prune"], 3).contains("farm accept"), "later's bytes stay until then");
    assert_eq!(server.stop(), Some(0));

    // What was replaced was kept: nothing is lost until somebody has looked.
    let kept = home.path("state").join(format!("replaced-{newer}.backup"));
    let older = digest(&refused(&home, &["restore", text(&kept)]));
    done(&home, &["restore", text(&kept), "--replace", &older]);
    let server = home.start();
    assert_eq!(vdisks(&home), ["later", "office"]);
    home.run(&["vdisk", "export", "later", text(&home.path("out.raw"))]);
    home.run(&["farm", "accept"]);
    home.run(&["farm", "status", "--check"]);
    home.run(&["store", "prune"]);
    assert!(home.refused(&["farm", "accept"], 3).contains("were not restored"));
    assert_eq!(server.stop(), Some(0));
}

#[test]
fn a_backup_that_is_damaged_cut_off_or_something_else_changes_nothing() {
    let home = home_with_backup();
    let whole = std::fs::read(home.path("farm.backup")).unwrap();
    let there = digest(&refused(&home, &["restore", text(&home.path("farm.backup"))]));
    let bad = home.path("bad.backup");
    let refused_as = |bytes: &[u8], why: &str| {
        std::fs::write(&bad, bytes).unwrap();
        let said = refused(&home, &["restore", text(&bad), "--replace", &there]);
        assert!(said.contains(why) && said.contains("hint: "), "{said}");
    };
    refused_as(&whole[..whole.len() - 1], "damaged");
    refused_as(&whole[..whole.len() / 2], "damaged");
    refused_as(&whole[..9], "damaged");
    let mut flipped = whole.clone();
    flipped[whole.len() / 2] ^= 0x10;
    refused_as(&flipped, "damaged");
    refused_as(b"", "no backup of a farm");
    refused_as(b"SQLite format 3\0 and so on", "no backup of a farm");
    let mut newer = whole;
    newer[8] = 9;
    refused_as(&newer, "format 9");
    assert!(refused(&home, &["restore", text(&home.path("none.backup"))]).contains("cannot be read"));
    assert_eq!(digest(&refused(&home, &["restore", text(&home.path("farm.backup"))])), there);
    let server = home.start();
    assert_eq!(vdisks(&home), ["office"]);
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_restore_keeps_servers_from_starting_until_it_was_run_again() {
    let home = home_with_backup();
    let database = embedded(&home);
    interrupt(&database).await;
    database.close().await;
    let said = not_started(&home);
    assert!(said.contains("not all are there") && said.contains("farm restore"), "{said}");
    done(&home, &["restore", text(&home.path("farm.backup"))]);
    let server = home.start();
    assert_eq!(vdisks(&home), ["office"]);
    assert_eq!(server.stop(), Some(0));
}

/// Lets this home's server use etcd; answers the configuration before.
fn use_etcd(home: &Home, etcd: &EtcdCluster) -> String {
    let embedded = std::fs::read_to_string(home.path("test.toml")).unwrap();
    let farm = format!("[farm]\ndatabase = 'etcd'\nendpoints = ['{}']\n", etcd.endpoints()[0]);
    std::fs::write(home.path("test.toml"), embedded.clone() + &farm).unwrap();
    embedded
}

#[test]
fn a_farm_of_one_moves_to_etcd_and_its_old_database_does_not_start_any_more() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = EtcdCluster::start(dir.path(), 1);
    let home = Home::new();
    let server = home.start();
    home.image("in.raw", 1 << 20, 4 << 20);
    home.run(&["vdisk", "import", "office", "in.raw"]);
    assert!(refused(&home, &["migrate"]).contains("farm.database = \"embedded\""));
    let embedded = use_etcd(&home, &etcd);
    assert!(refused(&home, &["migrate"]).contains("another headwater uses this database"));
    assert_eq!(server.stop(), Some(0));

    let said = done(&home, &["migrate"]);
    assert!(said.contains("compared one by one"), "{said}");
    assert!(refused(&home, &["migrate"]).contains("moved to etcd"), "once");
    let server = home.start();
    assert_eq!(vdisks(&home), ["office"]);
    let status = home.json(&["farm", "status", "--check"]);
    assert_eq!(status["database"]["engine"], "etcd", "{status}");
    home.run(&["vdisk", "import", "new", "in.raw"]);
    assert_eq!(server.stop(), Some(0));

    std::fs::write(home.path("test.toml"), embedded).unwrap();
    let said = not_started(&home);
    assert!(said.contains("moved to etcd") && said.contains("hint: "), "{said}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_move_to_etcd_that_was_interrupted_anywhere_is_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = EtcdCluster::start(dir.path(), 1);
    let options = EtcdOptions { endpoints: etcd.endpoints(), tls: None };
    let home = home_with_backup();
    let embedded = use_etcd(&home, &etcd);
    let (on_etcd, marker) = (
        std::fs::read_to_string(home.path("test.toml")).unwrap(),
        home.path("state").join("farm.db.migrated"),
    );
    let configure = |text: &str| std::fs::write(home.path("test.toml"), text).unwrap();
    let begun = "being moved to etcd (http://127.0.0.1:1) at some time\n";

    // In the middle: no server starts on either.
    interrupt(&Etcd::connect(&options).await.unwrap()).await;
    std::fs::write(&marker, begun).unwrap();
    assert!(not_started(&home).contains("not all are there"));
    configure(&embedded);
    assert!(not_started(&home).contains("farm migrate` again"));
    configure(&on_etcd);
    done(&home, &["migrate"]);

    // After the last record, before that was noted.
    std::fs::write(&marker, begun).unwrap();
    done(&home, &["migrate"]);
    assert!(std::fs::read_to_string(&marker).unwrap().starts_with("moved to etcd"));
    let server = home.start();
    assert_eq!(vdisks(&home), ["office"]);
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_farm_does_not_move_into_a_database_that_has_records() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = EtcdCluster::start(dir.path(), 1);
    let other = Etcd::connect(&EtcdOptions { endpoints: etcd.endpoints(), tls: None }).await.unwrap();
    other.txn(vec![], vec![Op::Put { key: "/other".to_owned(), value: b"1".to_vec() }]).await.unwrap();
    let home = home_with_backup();
    let embedded = use_etcd(&home, &etcd);
    let said = refused(&home, &["migrate"]);
    assert!(said.contains("etcd has 1 records already") && said.contains("hint: "), "{said}");
    std::fs::write(home.path("test.toml"), embedded).unwrap();
    let server = home.start();
    assert_eq!(vdisks(&home), ["office"], "it stays where it is");
    assert_eq!(server.stop(), Some(0));
    assert_eq!(other.range("").await.unwrap().entries.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn servers_notice_an_older_database_and_an_admin_says_once_that_it_is_right() {
    let dir = tempfile::tempdir().unwrap();
    let etcd = EtcdCluster::start(dir.path(), 1);
    let (home, address) = home_of("pvs01", &etcd);
    let file = home.path("farm.backup");
    let server = home.start();
    home.run(&["farm", "init", "--address", &address]);
    home.image("in.raw", 1 << 20, 4 << 20);
    home.run(&["vdisk", "import", "office", "in.raw"]);
    home.run(&["farm", "backup", text(&file)]);
    assert!(refused(&home, &["restore", text(&file)]).contains("--replace"));
    home.run(&["vdisk", "import", "later", "in.raw"]);
    assert_eq!(server.stop(), Some(0));
    for _ in 0..2 {
        assert_eq!(home.start().stop(), Some(0));
    }

    // By `farm restore`, which is the word for all servers.
    let restored = || {
        let newer = digest(&refused(&home, &["restore", text(&file)]));
        let tried = offline(&home, &["restore", text(&file), "--replace", &newer]);
        let said = String::from_utf8_lossy(&tried.stderr).into_owned();
        assert!(tried.status.success() || said.contains("a server runs on the database"), "{said}");
        tried.status.success()
    };
    wait_for("the restore, when the lease has ended", restored);
    let server = home.start();
    assert_eq!(vdisks(&home), ["office"]);
    assert!(home.run(&["farm", "status"]).contains("farm accept"));
    home.run(&["farm", "accept"]);
    home.run(&["farm", "backup", text(&home.path("accepted.backup"))]);
    assert_eq!(server.stop(), Some(0));
    for _ in 0..2 {
        assert_eq!(home.start().stop(), Some(0));
    }

    // By another program, as etcd's own snapshot is: each server is asked.
    let older = Backup::decode(&std::fs::read(home.path("accepted.backup")).unwrap()).unwrap().records;
    let db = Etcd::connect(&EtcdOptions { endpoints: etcd.endpoints(), tls: None }).await.unwrap();
    let there = transfer::digest(&db.range("").await.unwrap());
    let begun = Instant::now();
    while let Err(error) = transfer::fill(&db, &older, Present::Replace(&there)).await {
        let waits = matches!(error, TransferError::InUse(_)) && begun.elapsed() < Duration::from_secs(60);
        assert!(waits, "{error}");
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let said = not_started(&home);
    assert!(said.contains("restored to an older state") && said.contains("accept-restored"), "{said}");
    std::fs::write(home.path("state/identity/accept-restored"), "").unwrap();
    let server = home.start();
    assert!(home.refused(&["store", "prune"], 3).contains("farm accept"), "nothing is deleted yet");
    assert_eq!(server.stop(), Some(0));
    let server = home.start();
    home.run(&["farm", "accept"]);
    home.run(&["store", "prune"]);
    assert_eq!(server.stop(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_version_that_a_snapshot_of_etcd_does_not_know_is_not_pruned() {
    let dir = tempfile::tempdir().unwrap();
    let mut etcd = EtcdCluster::start(dir.path(), 1);
    let (home, address) = home_of("pvs01", &etcd);
    let server = home.start();
    home.run(&["farm", "init", "--address", &address]);
    home.image("in.raw", 1 << 20, 4 << 20);
    etcd.kill();
    copy_all(&dir.path().join("m0"), &dir.path().join("snapshot"));
    etcd.restart();
    wait_for("the database", || {
        let _ = home.cli(&["vdisk", "import", "later", "in.raw"]).output().unwrap();
        vdisks(&home) == ["later"]
    });
    wait_for("what is remembered", || {
        let remembered = std::fs::read(home.path("state/farm.records")).unwrap();
        remembered.windows(13).any(|bytes| bytes == b"/vdisks/later")
    });
    let kept = home.files_in_store("layers");
    assert_eq!(server.stop(), Some(0));
    etcd.kill();
    std::fs::remove_dir_all(dir.path().join("m0")).unwrap();
    copy_all(&dir.path().join("snapshot"), &dir.path().join("m0"));
    etcd.restart();

    // The server has not started since: its start marks say nothing.
    for _ in 0..2 {
        let said = not_started(&home);
        assert!(said.contains("restored to an older state") && said.contains("accept-restored"), "{said}");
    }
    std::fs::write(home.path("state/identity/accept-restored"), "").unwrap();
    let server = home.start();
    assert!(vdisks(&home).is_empty());
    assert!(home.refused(&["store", "prune"], 3).contains("farm accept"), "nothing is deleted yet");
    assert_eq!(server.stop(), Some(0));
    let server = home.start();
    assert!(kept > 0);
    assert_eq!(home.files_in_store("layers"), kept, "the bytes are there");
    home.run(&["farm", "accept"]);
    assert_eq!(server.stop(), Some(0));
    assert_eq!(home.start().stop(), Some(0));
}

fn copy_all(from: &std::path::Path, to: &std::path::Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let to = to.join(entry.file_name());
        match entry.path().is_dir() {
            true => copy_all(&entry.path(), &to),
            false => _ = std::fs::copy(entry.path(), to).unwrap(),
        }
    }
}
