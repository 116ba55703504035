//! Deleting what nothing needs: no version, no draft, no session.
//!
//! The order matters (see `store::prune`): the store's mark first, then the farm's records, then,
//! for each content that goes, the record that this server has it, and only then its bytes.

use crate::serve::farm::FarmError;
use crate::serve::state::AppState;
use crate::serve::stores::Share;
use farm::rules::copy;
use farm::{EventKind, NewEvent};
use model::Root;
use std::collections::BTreeSet;
use std::sync::Arc;
use store::{PruneMode, Pruned, StoreError};

/// Why a store is not pruned.
#[derive(Debug, thiserror::Error)]
pub(super) enum PruneError {
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error(transparent)]
    Farm(#[from] FarmError),
}

/// What a prune would delete now.
pub(super) async fn dry_run(state: &AppState, share: &Arc<Share>) -> Result<Pruned, PruneError> {
    let mark = share.store.prune_mark();
    let keep = needed(state);
    let share = Arc::clone(share);
    let look = move || share.store.prune(mark, &keep, PruneMode::DryRun);
    Ok(tokio::task::spawn_blocking(look).await.expect("a prune answers with an error")?)
}

/// Deletes what nothing needs.
pub(super) async fn prune(state: &AppState, share: &Arc<Share>) -> Result<Pruned, PruneError> {
    state.farm.may_delete().await?;
    // What our own sessions have stopped to read a moment ago is not kept for them.
    state.boot.reading.refresh().await?;
    share.settle(&state.farm).await;
    let mark = share.store.prune_mark();
    let planned = dry_run(state, share).await?;
    if planned.roots.is_empty() && planned.layers == 0 {
        return Ok(planned);
    }
    for root in &planned.roots {
        // Others must not count on a copy that is about to go.
        state.farm.decide(|view, _| copy::forget(view, *root, &state.server)).await?;
    }
    let keep = needed(state);
    let worker = Arc::clone(share);
    let delete = move || worker.store.prune(mark, &keep, PruneMode::Delete);
    let pruned = tokio::task::spawn_blocking(delete).await.expect("a prune answers with an error")?;
    if !pruned.roots.is_empty() || pruned.layers > 0 {
        let message = format!(
            "store {}: {} contents and {} layers that nothing needs were deleted, {} MiB",
            share.name,
            pruned.roots.len(),
            pruned.layers,
            pruned.bytes >> 20
        );
        state.farm.event(NewEvent::new(EventKind::StorePruned, &share.name, message));
    }
    Ok(pruned)
}

/// What must stay: what the farm's records need, and what sessions of any server read.
fn needed(state: &AppState) -> BTreeSet<Root> {
    let mut needed = farm::roots_kept(&state.farm.view());
    needed.extend(state.boot.sessions.list().into_iter().map(|session| session.root));
    needed
}
