//! What is written beside changes: events and the ends of jobs, in batches; and what is too old to
//! be kept.

use super::{FarmHandle, Shutdown, write_through};
use farm::{AUDIT_PREFIX, AuditId, AuditRecord, EventId, Key, NewEvent, Record, Retention};
use farm_db::{DbError, Op};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How many notes are written, or old records deleted, in one transaction.
const BATCH: usize = 100;
/// How often it is looked for what is too old.
const FORGET_EVERY: Duration = Duration::from_secs(60);

/// How long events and the audit are kept.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Kept {
    pub(crate) events: Retention,
    pub(crate) audit: Retention,
}

/// Something to be written soon.
pub(crate) enum Note {
    /// An event.
    Event(NewEvent),
    /// How a job ended, over the record that says that it began.
    Audit(AuditId, Box<AuditRecord>),
}

/// Writes notes in batches, until the stop has begun and none is left.
pub(super) async fn write(handle: Arc<FarmHandle>, mut queue: mpsc::Receiver<Note>, shutdown: Shutdown) {
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            received = queue.recv_many(&mut batch, BATCH) => if received == 0 { return },
            () = shutdown.wait(), if queue.is_empty() && shutdown.has_begun() => return,
        }
        let batch = spool_audit(&handle, batch, When::OthersWait).await;
        if let Err(error) = handle.db.txn(vec![], ops(&handle, &batch)).await {
            tracing::warn!(%error, "events are only in this log");
            spool_audit(&handle, batch, When::Now).await;
        }
        // In between too: what machines in a loop can cause is bounded.
        if handle.view().events.len() > handle.kept.events.records + BATCH {
            forget_events(&handle).await;
        }
    }
}

/// When records of the audit go into the spool file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// The database did not take them.
    Now,
    /// Where others wait there already, so that they arrive in their order.
    OthersWait,
}

/// Puts the records of the audit into the spool file, and answers the rest.
async fn spool_audit(handle: &FarmHandle, batch: Vec<Note>, when: When) -> Vec<Note> {
    if when == When::OthersWait && handle.spool.is_empty() {
        return batch;
    }
    let mut rest = Vec::with_capacity(batch.len());
    for note in batch {
        match note {
            Note::Audit(id, record) => write_through::wait_for_database(handle, id, *record).await,
            event => rest.push(event),
        }
    }
    rest
}

/// A transaction names each key once: of two notes on one job the later one counts.
fn ops(handle: &FarmHandle, batch: &[Note]) -> Vec<Op> {
    let mut ops: Vec<Op> = Vec::with_capacity(batch.len());
    for note in batch {
        match note {
            Note::Event(event) => ops.extend(handle.event_ops(vec![event.clone()])),
            Note::Audit(id, record) => {
                let op = op(id.clone(), record);
                ops.retain(|before| before.key() != op.key());
                ops.push(op);
            }
        }
    }
    ops
}

/// Writes an audit record.
pub(super) fn op(id: AuditId, record: &AuditRecord) -> Op {
    Op::Put { key: Key::Audit(id).to_string(), value: record.encode() }
}

/// Deletes what is too much or too old, again and again.
pub(super) async fn forget(handle: Arc<FarmHandle>, shutdown: Shutdown) {
    let mut turn = tokio::time::interval(FORGET_EVERY);
    loop {
        tokio::select! {
            _ = turn.tick() => (),
            () = shutdown.wait() => return,
        }
        forget_events(&handle).await;
        forget_audit(&handle).await;
    }
}

async fn forget_events(handle: &FarmHandle) {
    let ids: Vec<EventId> = handle.view().events.keys().cloned().collect();
    let expired = handle.kept.events.expired(&ids, super::now());
    delete(handle, expired.iter().cloned().map(Key::Event)).await;
}

async fn forget_audit(handle: &FarmHandle) {
    let ids = match handle.db.range(AUDIT_PREFIX).await {
        Ok(snapshot) => snapshot.entries.iter().filter_map(|entry| id_of(&entry.key)).collect::<Vec<_>>(),
        Err(error) => return tracing::warn!(%error, "old records of the audit are not forgotten"),
    };
    let expired = handle.kept.audit.expired(&ids, super::now());
    delete(handle, expired.iter().cloned().map(Key::Audit)).await;
}

fn id_of(key: &str) -> Option<AuditId> {
    key.strip_prefix(AUDIT_PREFIX)?.parse().ok()
}

async fn delete(handle: &FarmHandle, keys: impl Iterator<Item = Key>) {
    let ops: Vec<Op> = keys.map(|key| Op::Delete { key: key.to_string() }).collect();
    for batch in ops.chunks(BATCH) {
        if let Err(error) = handle.db.txn(vec![], batch.to_vec()).await {
            return tracing::warn!(%error, "old records are not forgotten");
        }
    }
}

/// Every record of the audit, oldest first; what cannot be read is left out.
pub(super) async fn audit_records(handle: &FarmHandle) -> Result<Vec<(AuditId, AuditRecord)>, DbError> {
    let snapshot = handle.db.range(AUDIT_PREFIX).await?;
    let read = |entry: farm_db::Entry| {
        let id = id_of(&entry.key)?;
        let record = AuditRecord::decode(&Key::Audit(id.clone()), &entry.value);
        record
            .inspect_err(|error| tracing::warn!(%error, "left out of the audit"))
            .ok()
            .map(|record| (id, record))
    };
    // By time first: keys of one server sort by the text of their count.
    let mut records: Vec<_> = snapshot.entries.into_iter().filter_map(read).collect();
    records.sort_by(|(a, _), (b, _)| a.cmp(b));
    Ok(records)
}
