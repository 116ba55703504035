//! What sessions read is in the record before they begin, and as long as they last.

use super::*;
use crate::config::StoreConfig;
use crate::serve::farm::{Kept, Spool};
use crate::serve::sessions::{Holder, SessionMode};
use crate::serve::shutdown::Shutdown;
use farm::rules::collection::{CollectionPatch, update};
use farm::rules::setup::{ServerStarts, server_starts};
use farm::rules::vdisk::{RegisterVDisk, delete, register};
use farm::{Bootable, Here, Retention};
use farm_db::Sqlite;
use model::DiskSize;
use std::time::SystemTime;

/// Two vDisks that devices boot, neither of them in this server's store.
struct Scene {
    reading: Arc<Reading>,
    _dir: tempfile::TempDir,
}

fn name(text: &str) -> Name {
    Name::new(text).unwrap()
}

fn image(vdisk: &str, byte: u8) -> RegisterVDisk {
    RegisterVDisk {
        name: name(vdisk),
        store: name("default"),
        server: name("pvs02"),
        root: Root::from_bytes([byte; 32]),
        size: DiskSize::new(1 << 30).unwrap(),
        data_bytes: 1 << 20,
        boot: Bootable::No { reason: String::new() },
        comment: String::new(),
        by: "admin".to_owned(),
    }
}

fn spec(vdisk: &str, byte: u8) -> SessionSpec {
    SessionSpec {
        holder: Holder::Admin,
        store: name("default"),
        vdisk: name(vdisk),
        version: VersionNumber(1),
        root: Root::from_bytes([byte; 32]),
        size: DiskSize::new(1 << 30).unwrap(),
        write_cache: None,
        mode: SessionMode::Shared,
        disk: None,
    }
}

impl Scene {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let db = Arc::new(Sqlite::open(&dir.path().join("farm.db")).unwrap());
        let spool = Spool::open(&dir.path().join("audit.spool")).unwrap();
        let kept = Retention { records: 1000, days: 1 };
        let kept = Kept { events: kept, audit: kept };
        let farm = FarmHandle::start(db, name("pvs01"), kept, spool, Shutdown::new()).await.unwrap();
        for server in ["pvs01", "pvs02"] {
            let stores = [(name("default"), "/srv".to_owned())].into();
            let starts = ServerStarts { server: name(server), stores, new_token_hash: None };
            farm.decide(|view, now| Ok(server_starts(view, starts.clone(), now))).await.unwrap();
        }
        for (vdisk, byte) in [("one", 1), ("two", 2)] {
            farm.decide(|view, now| register(view, image(vdisk, byte), now)).await.unwrap();
        }
        let boots =
            || CollectionPatch { vdisks: Some(vec![name("one"), name("two")]), ..CollectionPatch::default() };
        farm.decide(|view, _| update(view, &name("default"), boots())).await.unwrap();
        let stores = Stores::open(&[StoreConfig::new(name("default"), dir.path().join("store"))]).unwrap();
        let reading = Reading::new(farm, Arc::new(Sessions::default()), stores);
        Self { reading, _dir: dir }
    }

    /// How many sessions the record says that read a vDisk; none where it is not in the record.
    fn recorded(&self, vdisk: &str) -> Option<u32> {
        let view = self.reading.farm.view();
        let record = view.readings.get(&name("pvs01"))?;
        record.reads.iter().find(|reads| reads.vdisk == name(vdisk)).map(|reads| reads.sessions)
    }

    /// What another server answers who is asked to delete a vDisk.
    fn asked_elsewhere(&self, vdisk: &str) -> Result<Change, farm::Refusal> {
        delete(&self.reading.farm.view(), &name(vdisk), Here { server: &name("pvs02"), sessions: &[] })
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_that_boot_at_once_share_one_write_that_comes_before_them() {
    let scene = Scene::new().await;
    let before = scene.reading.farm.view().revision;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..300 {
        let reading = Arc::clone(&scene.reading);
        all.spawn(async move {
            let (vdisk, byte) = if n % 2 == 0 { ("one", 1) } else { ("two", 2) };
            let begun = reading.begin(&spec(vdisk, byte)).await.unwrap();
            let record = reading.farm.view().readings[&name("pvs01")].record.clone();
            assert!(
                record.reads.iter().any(|reads| reads.vdisk == name(vdisk)),
                "it is told before it begins"
            );
            begun
        });
    }
    let begun = all.join_all().await;
    assert_eq!(begun.len(), 300);
    // The versions that devices boot are told with the first: one write for all.
    assert_eq!(scene.reading.farm.view().revision, before + 1);
    assert!(scene.asked_elsewhere("one").unwrap_err().message.contains("server pvs01"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_are_counted_and_let_go_when_they_end() {
    let scene = Scene::new().await;
    let reading = &scene.reading;
    let begun = reading.begin(&spec("one", 1)).await.unwrap();
    let token = reading.sessions.open(spec("one", 1), Vec::new(), SystemTime::now()).unwrap();
    drop(begun);
    reading.refresh().await.unwrap();
    assert_eq!(scene.recorded("one"), Some(1));
    let refused = scene.asked_elsewhere("one").unwrap_err();
    assert!(refused.message.contains("1 session on server pvs01"), "{refused}");
    reading.sessions.close(token.hash()).unwrap();
    reading.refresh().await.unwrap();
    // A part of it is still elsewhere only: devices may begin to read it without the database.
    assert_eq!(scene.recorded("one"), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_deleted_is_not_begun() {
    let scene = Scene::new().await;
    let Err(refused) = scene.reading.begin(&spec("one", 9)).await else { panic!("nothing names it") };
    assert!(refused.to_string().contains("was deleted or changed just now"), "{refused}");
    assert!(scene.reading.lock().beginning.is_empty());
}
