//! A run of `farm init` that ends after each of its steps, and the run after it.

use super::*;
use crate::serve::farm::{Kept, Spool, now};
use crate::serve::shutdown::Shutdown;
use farm::rules::membership::{Joining, init};
use farm::rules::setup::{ServerStarts, server_starts};
use farm::{FarmAuthority, FormatRevision, Retention};
use farm_db::Sqlite;
use mesh::identity::{Authority, KeyRequest, Serial};
use model::Name;
use protocol::mesh::FarmId;
use std::sync::Arc;

struct Run {
    dir: tempfile::TempDir,
    farm: Arc<FarmHandle>,
    identity: ServerIdentity,
    authority: FarmAuthority,
    first: Joining,
}

impl Run {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let (server, path) = (Name::new("pvs01").unwrap(), dir.path().to_owned());
        let db = Arc::new(Sqlite::open(&path.join("farm.db")).unwrap());
        let kept = Retention { records: 1000, days: 1 };
        let spool = Spool::open(&path.join("audit.spool")).unwrap();
        let kept = Kept { events: kept, audit: kept };
        let farm = FarmHandle::start(db, server.clone(), kept, spool, Shutdown::new()).await.unwrap();
        let starts =
            ServerStarts { server: server.clone(), stores: Default::default(), new_token_hash: None };
        farm.decide(|view, now| Ok(server_starts(view, starts.clone(), now))).await.unwrap();
        let id = FarmId([7; 16]);
        let clock = time::OffsetDateTime::now_utc();
        let (authority, key) = (Authority::make(id, clock).unwrap(), KeyRequest::make(&server).unwrap());
        let serial = Serial::random();
        let certificate = authority.sign(key.request(), &server, &serial, clock).unwrap();
        let identity = key.certified(authority.certificate(), &certificate).unwrap();
        let record = FarmAuthority {
            revision: FormatRevision,
            farm: id.to_string(),
            certificate: authority.certificate().to_owned(),
            key: authority.key().to_owned(),
            created: now(),
        };
        let first = Joining { server, address: "127.0.0.1:1".to_owned(), serial: serial.to_string() };
        Self { dir, farm, identity, authority: record, first }
    }

    async fn commit(&self) {
        let rule = |view: &FarmView, now| init(view, self.authority.clone(), self.first.clone(), now);
        self.farm.decide(rule).await.unwrap();
    }

    fn identity(&self) -> Option<ServerIdentity> {
        ServerIdentity::load(&self.dir.path().join(IDENTITY_DIR)).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_ended_before_the_records_leaves_nothing() {
    let run = Run::new().await;
    assert_eq!(resume(run.dir.path(), &run.farm).unwrap(), Left::Nothing);
    stage(run.dir.path(), &run.identity).unwrap();
    assert_eq!(resume(run.dir.path(), &run.farm).unwrap(), Left::Nothing);
    assert!(run.identity().is_none() && !run.dir.path().join(STAGED).exists());
    // The next run goes through.
    stage(run.dir.path(), &run.identity).unwrap();
    run.commit().await;
    finish(run.dir.path()).unwrap();
    assert_eq!(run.identity().unwrap().peer(), run.identity.peer());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_run_that_ended_behind_the_records_is_finished_by_the_next() {
    let run = Run::new().await;
    stage(run.dir.path(), &run.identity).unwrap();
    run.commit().await;
    assert!(run.identity().is_none());
    assert_eq!(resume(run.dir.path(), &run.farm).unwrap(), Left::Finished);
    assert_eq!(run.identity().unwrap().peer(), run.identity.peer());
    assert_eq!(resume(run.dir.path(), &run.farm).unwrap(), Left::Nothing);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_identity_that_was_cut_off_is_thrown_away() {
    let run = Run::new().await;
    stage(run.dir.path(), &run.identity).unwrap();
    let staged = run.dir.path().join(STAGED);
    std::fs::write(staged.join("certificate.pem"), "-----BEGIN").unwrap();
    assert_eq!(resume(run.dir.path(), &run.farm).unwrap(), Left::Nothing);
    assert!(!staged.exists());
}
