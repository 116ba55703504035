//! The farm as this server knows it: a snapshot that follows the database, and the way to change it.
//!
//! Reads are of the snapshot and never wait. A change is decided by a pure rule on the snapshot,
//! committed if what the rule relied on still holds, and visible in the snapshot before the caller
//! goes on. If something else got in between, the rule is asked again.

mod event_limit;
mod fenced;
mod follow;
mod notes;
mod spool;
mod write_through;

use super::audit::{self, Asked, Entry};
use super::shutdown::Shutdown;
use super::strangers::Strangers;
use event_limit::EventLimit;
use farm::rules::copy;
use farm::{
    Actor, AuditId, AuditRecord, AuditResult, BootDecision, BootRequest, Change, EventId, EventKind, Expect,
    FarmView, FormatRevision, Key, Live, NewEvent, Precondition, Record, Refusal, Timestamp, Write,
};
use farm_db::{Announcement, Compare, DbError, FarmDb, Health, Op, Snapshot, TxnOutcome};
use fenced::Fenced;
use model::{MacAddress, Name};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, RwLock};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::{mpsc, watch};

/// How often a rule is asked again when others get in between; each try means that another made it.
const MAX_TRIES: usize = 50;
/// How many events and ends of jobs may wait to be written; beyond it they are only logged.
const NOTE_QUEUE: usize = 256;
/// How long a committed change may take to reach the snapshot.
const FOLLOW_PATIENCE: Duration = Duration::from_secs(10);

pub(crate) use notes::{Kept, Note};
pub(crate) use spool::Spool;

/// The farm's records, for all of this server.
pub(crate) struct FarmHandle {
    db: Arc<dyn FarmDb>,
    fence: Arc<Fenced>,
    server: Name,
    view: RwLock<Arc<FarmView>>,
    applied: watch::Sender<u64>,
    event_count: AtomicU64,
    notes: mpsc::Sender<Note>,
    kept: Kept,
    limit: Mutex<EventLimit>,
    spool: Arc<Spool>,
    strangers: Strangers,
}

/// Why a change was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FarmError {
    /// A rule said no.
    #[error("{0}")]
    Refused(Refusal),
    /// The database did not take it.
    #[error(transparent)]
    Database(#[from] DbError),
    /// Others were always faster.
    #[error("the farm is changed by others all the time\nhint: try again")]
    Busy,
    /// The records were turned back, and nobody has looked yet.
    #[error(
        "the farm's records were restored from a backup: nothing is deleted because no record names it\n\
         hint: see whether anything is missing (docs/operations/farms.md), then `headwater farm accept`"
    )]
    Restored,
    /// The snapshot does not follow.
    #[error("the change was made, but this server does not hear of it\nhint: look into its log")]
    Behind,
}

impl FarmError {
    /// Whether the database is away, which passes by itself.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Database(DbError::Unreachable(_)))
    }
}

impl From<Refusal> for FarmError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl FarmHandle {
    /// Reads the farm and begins to follow it.
    pub(crate) async fn start(
        db: Arc<dyn FarmDb>,
        server: Name,
        kept: Kept,
        spool: Spool,
        shutdown: Shutdown,
    ) -> anyhow::Result<Arc<Self>> {
        let fence = Arc::new(Fenced::new(db));
        let db: Arc<dyn FarmDb> = fence.clone();
        let view = follow::load(db.as_ref()).await?;
        let (notes, queue) = mpsc::channel(NOTE_QUEUE);
        let handle = Arc::new(Self {
            db,
            fence,
            server,
            applied: watch::Sender::new(view.revision),
            view: RwLock::new(Arc::new(view)),
            event_count: AtomicU64::new(0),
            notes,
            kept,
            limit: Mutex::default(),
            spool: Arc::new(spool),
            strangers: Strangers::default(),
        });
        tokio::spawn(follow::follow(Arc::clone(&handle)));
        tokio::spawn(notes::write(Arc::clone(&handle), queue, shutdown.clone()));
        tokio::spawn(notes::forget(Arc::clone(&handle), shutdown.clone()));
        tokio::spawn(write_through::run(Arc::clone(&handle), shutdown));
        Ok(handle)
    }

    /// Every record as of one revision, those that no rule decides on among them; without the audit
    /// where the database goes away meanwhile and they are remembered.
    pub(crate) async fn records(&self) -> Result<Snapshot, FarmError> {
        self.catch_up().await?;
        Ok(self.db.range("").await?)
    }

    /// How the database is, asked just now; takes a few seconds at most.
    pub(crate) async fn health(&self) -> Health {
        self.db.health().await
    }

    /// This server's name.
    pub(crate) fn server(&self) -> &Name {
        &self.server
    }

    /// Changes nothing any more, and says why to whoever asks: sessions go on.
    pub(crate) fn fence(&self, why: &str) {
        if self.fence.fence(why) {
            tracing::error!("{why}");
        }
    }

    /// The present snapshot.
    pub(crate) fn view(&self) -> Arc<FarmView> {
        Arc::clone(&self.view.read().expect("no holder of this lock panics"))
    }

    /// Wakes whenever the snapshot has changed; the value is its revision.
    pub(crate) fn changes(&self) -> watch::Receiver<u64> {
        self.applied.subscribe()
    }

    /// Asks a rule and carries out what it decides.
    pub(crate) async fn decide(
        &self,
        mut rule: impl FnMut(&FarmView, Timestamp) -> Result<Change, Refusal> + Send,
    ) -> Result<(), FarmError> {
        for _ in 0..MAX_TRIES {
            let change = rule(&self.view(), now())?;
            if self.commit(change).await? {
                return Ok(());
            }
        }
        Err(FarmError::Busy)
    }

    /// Asked by whoever deletes what no record names: without the database the snapshot may be old,
    /// and records that were turned back do not name what was made since.
    pub(crate) async fn may_delete(&self) -> Result<(), FarmError> {
        self.catch_up().await?;
        match self.view().restored {
            Some(_) => Err(FarmError::Restored),
            None => Ok(()),
        }
    }

    /// Waits until the snapshot has everything that was committed before this call, and makes void
    /// what this server has sent before and knows no outcome of ([`copy::fence`]).
    ///
    /// For whoever deletes what no record names: without the database the snapshot may be old.
    pub(crate) async fn catch_up(&self) -> Result<(), FarmError> {
        for _ in 0..MAX_TRIES {
            let Change { preconditions, writes, .. } = copy::fence(&self.view(), &self.server);
            let compares = preconditions.into_iter().map(compare).collect();
            match self.db.txn(compares, writes.into_iter().map(op).collect()).await? {
                TxnOutcome::Committed { revision } => return self.seen(revision).await,
                TxnOutcome::Conflict { revision, .. } => self.seen(revision).await?,
            }
        }
        Err(FarmError::Busy)
    }

    /// Says that this server is alive, as long as the answer is held.
    pub(crate) async fn announce_server(&self, ttl: Duration) -> Result<Announcement, DbError> {
        let (key, alive) = (Key::Live(self.server.clone()), Live { revision: FormatRevision });
        self.db.announce(&key.to_string(), alive.encode(), ttl).await
    }

    /// Whether a server is alive, by the database and not by what this server has seen of it.
    pub(crate) async fn is_live(&self, server: &Name) -> Result<bool, DbError> {
        Ok(self.db.get(&Key::Live(server.clone()).to_string()).await?.is_some())
    }

    /// Waits until the snapshot is of this revision or a later one.
    async fn seen(&self, revision: u64) -> Result<(), FarmError> {
        let mut applied = self.applied.subscribe();
        match tokio::time::timeout(FOLLOW_PATIENCE, applied.wait_for(|seen| *seen >= revision)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(FarmError::Behind),
        }
    }

    /// What a machine gets that asks to boot; auto-adding and the pending list are done already, so
    /// the answer is `Boot`, `Menu`, `Pending` without a change, or `Refuse`.
    pub(crate) async fn boot_decision(
        &self,
        mac: MacAddress,
        chosen: Option<Name>,
        from: IpAddr,
    ) -> Result<BootDecision, FarmError> {
        let request = BootRequest { mac, server: self.server.clone(), chosen };
        for _ in 0..MAX_TRIES {
            match farm::boot_decision(&self.view(), &request, now()) {
                BootDecision::AutoAdd(_) | BootDecision::Pending { change: Some(_), .. }
                    if !self.strangers.admits(from, Instant::now()) =>
                {
                    return Ok(self.too_many(mac, from));
                }
                BootDecision::AutoAdd(change) => {
                    let actor = Actor::Device(mac);
                    audit::automatic(self, actor, ("device.auto-add", &mac.to_string()), self.commit(change))
                        .await?;
                }
                BootDecision::Pending { change: Some(change), .. } => drop(self.commit(change).await?),
                decided => return Ok(decided),
            }
        }
        Err(FarmError::Busy)
    }

    /// An unknown machine that is not noted down: it asks again, as those do that wait.
    fn too_many(&self, mac: MacAddress, from: IpAddr) -> BootDecision {
        // The same for all of them: it is told once in a while.
        let message =
            format!("too many unknown machines ask to boot from {from}; the rest is not noted down");
        tracing::debug!(%mac, %from, "an unknown machine is not noted down");
        self.event(NewEvent::new(EventKind::BootLimited, from, &message));
        BootDecision::Pending { change: None, reason: message }
    }

    /// Notes an event. Never waits; repetitions and floods are left out.
    pub(crate) fn event(&self, event: NewEvent) {
        if !self.limit.lock().expect("no holder of this lock panics").admits(&event, Instant::now()) {
            return;
        }
        tracing::info!(kind = event.kind.id(), subject = %event.subject, "{}", event.message);
        if self.notes.try_send(Note::Event(event)).is_err() {
            tracing::warn!("too many events at once: the last one is only in this log");
        }
    }

    /// Writes an event before going on: for the last one, after which nobody writes any more.
    pub(crate) async fn write_event_now(&self, event: NewEvent) -> Result<(), DbError> {
        let ops = self.event_ops(vec![event]).collect();
        self.db.txn(vec![], ops).await.map(drop)
    }

    /// Opens an entry of the audit.
    pub(crate) fn audit(&self, asked: Asked) -> Entry {
        Entry::new(self.id(now()), asked, self.notes.clone())
    }

    /// Writes a record of the audit that no change carries; it waits in a file where the database
    /// does not take it.
    pub(crate) async fn write_audit(&self, id: AuditId, record: AuditRecord) {
        write_through::write(self, id, record).await;
    }

    /// Whether records of the audit wait for the database.
    pub(crate) fn audit_waits(&self) -> bool {
        !self.spool.is_empty()
    }

    /// Every record of the audit, oldest first.
    pub(crate) async fn audit_records(&self) -> Result<Vec<(AuditId, AuditRecord)>, DbError> {
        notes::audit_records(self).await
    }

    /// A name for an event or a record of the audit that no other has.
    fn id(&self, at: Timestamp) -> EventId {
        EventId { at, server: self.server.clone(), count: self.event_count.fetch_add(1, Ordering::Relaxed) }
    }

    /// Commits a change with its events and the audit's record; false where something it relied on has changed.
    async fn commit(&self, change: Change) -> Result<bool, FarmError> {
        let Change { preconditions, writes, events } = change;
        let entry = audit::current();
        let record = entry.as_ref().map(|entry| entry.record(AuditResult::Ok, ""));
        let record = record.map(|(id, record)| notes::op(id, &record));
        let ops = writes.into_iter().map(op).chain(self.event_ops(events.clone())).chain(record).collect();
        let outcome = self.db.txn(preconditions.into_iter().map(compare).collect(), ops).await?;
        let (revision, committed) = match outcome {
            TxnOutcome::Committed { revision } => (revision, true),
            TxnOutcome::Conflict { revision, .. } => (revision, false),
        };
        if let Some(entry) = entry.filter(|_| committed) {
            entry.is_news(AuditResult::Ok, "");
        }
        for event in events.iter().filter(|_| committed) {
            tracing::info!(kind = event.kind.id(), subject = %event.subject, "{}", event.message);
        }
        // After a conflict too: the next try must see what was in its way.
        self.seen(revision).await.map(|()| committed)
    }

    fn event_ops(&self, events: Vec<NewEvent>) -> impl Iterator<Item = Op> {
        let at = now();
        events.into_iter().map(move |event| {
            let id = self.id(at);
            let value = farm::Record::encode(&event.at(id.clone()));
            Op::Put { key: farm::Key::Event(id).to_string(), value }
        })
    }
}

/// The wall clock, as the rules take it.
pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}

fn op(write: Write) -> Op {
    match write {
        Write::Put(key, value) => Op::Put { key: key.to_string(), value },
        Write::Delete(key) => Op::Delete { key: key.to_string() },
    }
}

fn compare(precondition: Precondition) -> Compare {
    let expect = match precondition.expect {
        Expect::Absent => farm_db::Expect::Absent,
        Expect::Unchanged(revision) => farm_db::Expect::ModRevision(revision),
    };
    Compare { key: precondition.key.to_string(), expect }
}
