//! The task behind the snapshot: it applies what the database tells.

use super::FarmHandle;
use farm::{FarmView, RecordError};
use farm_db::{Change, ChangeKind, ChangeSet, DbError, FarmDb, Watch, WatchError};
use std::sync::Arc;
use std::time::Duration;

/// How long to wait before a lost watch is taken up again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// What whoever runs a removed server is told.
const REMOVED_HINT: &str = "hint: its devices' sessions go on, and nothing is changed through it any more: shut it down, or move \
    its identity away and join it again: `headwater farm join TOKEN`";

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
    let is_in = |view: &FarmView| view.servers.contains_key(handle.server());
    if is_in(&handle.view()) && !is_in(&view) {
        handle.fence(&format!("server {} was removed from the farm\n{REMOVED_HINT}", handle.server()));
    }
    *handle.view.write().expect("no holder of this lock panics") = Arc::new(view);
    handle.applied.send_replace(revision);
}
