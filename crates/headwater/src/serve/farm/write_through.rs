//! Writes the audit, or has it wait in the spool file until the farm database is back.

use super::notes::op;
use super::spool::Spool;
use super::{FarmHandle, Shutdown};
use farm::{AuditId, AuditRecord, AuditResult, EventKind, Key, NewEvent, Record};
use farm_db::{DbError, FarmDb, Op};
use std::sync::Arc;
use std::time::Duration;

/// How often it is tried whether the database takes records again.
const TRY_EVERY: Duration = Duration::from_secs(5);
/// How many records are written in one transaction.
const BATCH: usize = 100;

/// Writes a record to the database, or behind those that wait for it.
pub(super) async fn write(handle: &FarmHandle, id: AuditId, record: AuditRecord) {
    if !handle.spool.is_empty() {
        return wait_for_database(handle, id, record).await;
    }
    if let Err(error) = handle.db.txn(vec![], vec![op(id.clone(), &record)]).await {
        tracing::warn!(%error, "a record of the audit waits in the spool file");
        wait_for_database(handle, id, record).await;
    }
}

/// Puts a record into the spool file.
pub(super) async fn wait_for_database(handle: &FarmHandle, id: AuditId, record: AuditRecord) {
    let (spool, action, result) = (Arc::clone(&handle.spool), record.action.clone(), record.result);
    let appended = tokio::task::spawn_blocking(move || spool.append(&id, &record)).await;
    if let Err(error) = appended.expect("appending does not panic") {
        tracing::error!(%error, action, ?result, "a request is not in the audit");
    }
}

/// Tries again and again, as long as records wait.
pub(super) async fn run(handle: Arc<FarmHandle>, shutdown: Shutdown) {
    let mut turn = tokio::time::interval(TRY_EVERY);
    loop {
        tokio::select! {
            _ = turn.tick() => (),
            () = shutdown.wait() => return,
        }
        if handle.spool.is_empty() {
            continue;
        }
        match write_through(handle.db.as_ref(), &handle.spool).await {
            Ok(0) => (),
            Ok(count) => handle.event(NewEvent::new(
                EventKind::AuditSpooled,
                &handle.server,
                format!("{count} records of the audit waited in a file and are written now"),
            )),
            Err(error) => tracing::warn!(%error, "records of the audit go on waiting"),
        }
    }
}

/// Writes what waits and empties the file; answers how many records were written.
async fn write_through(db: &dyn FarmDb, spool: &Arc<Spool>) -> anyhow::Result<usize> {
    let reader = Arc::clone(spool);
    let (records, length) = tokio::task::spawn_blocking(move || reader.read()).await??;
    let mut written = 0;
    let mut ops: Vec<Op> = Vec::with_capacity(BATCH);
    for (id, record) in records {
        if is_committed(db, &id).await? {
            continue;
        }
        let op = op(id, &record);
        // A transaction names each key once: of two records of one job the later one counts.
        ops.retain(|before| before.key() != op.key());
        ops.push(op);
        if ops.len() == BATCH {
            written += ops.len();
            db.txn(vec![], std::mem::take(&mut ops)).await?;
        }
    }
    if !ops.is_empty() {
        written += ops.len();
        db.txn(vec![], ops).await?;
    }
    // What came meanwhile is written next time, with the rest once more, which changes nothing.
    let spool = Arc::clone(spool);
    tokio::task::spawn_blocking(move || spool.clear(length)).await??;
    Ok(written)
}

/// Whether the change that a record is about went in after all, with its record.
async fn is_committed(db: &dyn FarmDb, id: &AuditId) -> Result<bool, DbError> {
    let key = Key::Audit(id.clone());
    let stored = db.get(&key.to_string()).await?;
    let record = stored.and_then(|entry| AuditRecord::decode(&key, &entry.value).ok());
    Ok(record.is_some_and(|record| record.result == AuditResult::Ok))
}

#[cfg(test)]
mod tests {
    use super::*;
    use farm::audit::Actor;
    use farm::{EventId, FormatRevision, Timestamp};
    use model::Name;

    fn record(count: u64, result: AuditResult) -> (AuditId, AuditRecord) {
        let (server, at) = (Name::new("hw1").unwrap(), Timestamp(1_700_000_000_000));
        let record = AuditRecord {
            revision: FormatRevision,
            at,
            server: server.clone(),
            actor: Actor::Nobody,
            token: None,
            action: "device.add".to_owned(),
            object: count.to_string(),
            from: None,
            request: None,
            result,
            message: String::new(),
            parameters: serde_json::Value::Null,
        };
        (EventId { at, server, count }, record)
    }

    #[tokio::test]
    async fn what_waited_is_written_once_in_its_order_and_what_was_committed_stays() {
        let dir = tempfile::tempdir().unwrap();
        let db = farm_db::Sqlite::open(&dir.path().join("farm.db")).unwrap();
        let spool = Arc::new(Spool::open(&dir.path().join("audit.spool")).unwrap());
        let (id, committed) = record(7, AuditResult::Ok);
        db.txn(vec![], vec![op(id, &committed)]).await.unwrap();
        let append = |(id, record): (AuditId, AuditRecord)| spool.append(&id, &record).unwrap();
        (0..250).for_each(|count| append(record(count, AuditResult::Started)));
        (0..250).for_each(|count| append(record(count, AuditResult::Failed)));
        assert_eq!(write_through(&db, &spool).await.unwrap(), 498);
        assert!(spool.is_empty());
        let stored = db.range(farm::AUDIT_PREFIX).await.unwrap().entries;
        assert_eq!(stored.len(), 250);
        for entry in stored {
            let key: Key = entry.key.parse().unwrap();
            let record = AuditRecord::decode(&key, &entry.value).unwrap();
            let expected = if record.object == "7" { AuditResult::Ok } else { AuditResult::Failed };
            assert_eq!(record.result, expected, "{key}");
        }
        assert_eq!(write_through(&db, &spool).await.unwrap(), 0);
    }
}
