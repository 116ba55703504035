//! Damaged chunks come again from the other servers.

use crate::serve::state::AppState;
use crate::serve::stores::Share;
use farm::{EventKind, NewEvent};
use std::sync::Arc;

/// Asks the other servers for what is damaged in a share, and tells what is whole again.
pub(super) async fn from_peers(state: &Arc<AppState>, share: &Arc<Share>) {
    if share.store.quarantined_chunks() == 0 {
        return;
    }
    let (replication, store) = (Arc::clone(&state.replication), Arc::clone(&share.store));
    let mended = tokio::task::spawn_blocking(move || replication.repair(&store));
    for mesh::Mended { root, chunk, from } in mended.await.expect("repairing does not panic") {
        let at = format!("chunk {} of root {}", chunk.0, root.short());
        let message = format!("store {}: {at} is whole again: it came from server {from}", share.name);
        state.farm.event(NewEvent::new(EventKind::ChunkRepaired, format!("{}/{at}", share.name), message));
    }
}
