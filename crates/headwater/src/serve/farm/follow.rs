//! The two tasks behind the snapshot: one applies what the database tells, one writes events.

use super::{FarmHandle, Shutdown};
use farm::{FarmView, NewEvent, RecordError};
use farm_db::{Change, ChangeKind, ChangeSet, DbError, FarmDb, Op, Watch, WatchError};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// How many events the farm keeps.
const KEPT_EVENTS: usize = 2000;
/// How many events are written, or old ones deleted, in one transaction.
const EVENT_BATCH: usize = 100;
/// How long to wait before a lost watch is taken up again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Why the farm cannot be read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    #[error(transparent)]
    Database(#[from] DbError),
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// Reads every record.
pub(super) async fn load(db: &dyn FarmDb) -> Result<FarmView, LoadError> {
    let snapshot = db.range("").await?;
    let mut view = FarmView { revision: snapshot.revision, ..FarmView::default() };
    for entry in snapshot.entries {
        view.put(&entry.key, &entry.value, entry.mod_revision)?;
    }
    Ok(view)
}

/// Applies every change of the database to the snapshot, as long as the server runs.
pub(super) async fn follow(handle: Arc<FarmHandle>) {
    loop {
        let from = handle.view().revision + 1;
        let lost = match handle.db.watch("", from).await {
            Ok(watch) => apply_all(&handle, watch).await,
            Err(error) => WatchError::Lost(error.to_string()),
        };
        tracing::warn!(error = %lost, "the farm database is not followed; trying again");
        tokio::time::sleep(RETRY_AFTER).await;
        if matches!(lost, WatchError::Compacted { .. }) {
            match load(handle.db.as_ref()).await {
                Ok(view) => publish(&handle, view),
                Err(error) => tracing::error!(%error, "the farm cannot be read anew"),
            }
        }
    }
}

async fn apply_all(handle: &FarmHandle, mut watch: Watch) -> WatchError {
    loop {
        let first = match watch.next().await {
            Ok(changes) => changes,
            Err(lost) => return lost,
        };
        let mut view = FarmView::clone(&handle.view());
        apply(&mut view, first);
        // One copy of the snapshot for all transactions that are there already.
        while let Ok(Ok(changes)) = tokio::time::timeout(Duration::ZERO, watch.next()).await {
            apply(&mut view, changes);
        }
        publish(handle, view);
    }
}

fn apply(view: &mut FarmView, changes: ChangeSet) {
    for Change { revision, key, kind } in changes {
        let applied = match kind {
            ChangeKind::Put { value, .. } => view.put(&key, &value, revision),
            ChangeKind::Delete => view.delete(&key),
        };
        if let Err(error) = applied {
            tracing::error!(%error, "a record of the farm is left out");
        }
        view.revision = revision;
    }
}

fn publish(handle: &FarmHandle, view: FarmView) {
    let revision = view.revision;
    *handle.view.write().expect("no holder of this lock panics") = Arc::new(view);
    handle.applied.send_replace(revision);
}

/// Writes events in batches and deletes the oldest beyond the limit.
pub(super) async fn write_events(
    handle: Arc<FarmHandle>,
    mut queue: mpsc::Receiver<NewEvent>,
    shutdown: Shutdown,
) {
    loop {
        let mut batch = Vec::new();
        tokio::select! {
            received = queue.recv_many(&mut batch, EVENT_BATCH) => if received == 0 { return },
            () = shutdown.wait(), if queue.is_empty() && shutdown.has_begun() => return,
        }
        let ops = handle.event_ops(batch).collect();
        if let Err(error) = handle.db.txn(vec![], ops).await {
            tracing::warn!(%error, "events are only in this log");
        }
        forget_old(&handle).await;
    }
}

async fn forget_old(handle: &FarmHandle) {
    let view = handle.view();
    let extra = view.events.len().saturating_sub(KEPT_EVENTS);
    if extra < EVENT_BATCH {
        return;
    }
    let key = |id: &farm::EventId| Op::Delete { key: farm::Key::Event(id.clone()).to_string() };
    let ops = view.events.keys().take(EVENT_BATCH).map(key).collect();
    if let Err(error) = handle.db.txn(vec![], ops).await {
        tracing::warn!(%error, "old events are not forgotten");
    }
}
