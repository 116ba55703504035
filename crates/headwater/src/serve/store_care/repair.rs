//! Damage that readers came upon is looked into, and damaged chunks come again from the other
//! servers.

use crate::serve::state::AppState;
use crate::serve::stores::Share;
use farm::{EventKind, NewEvent};
use std::sync::Arc;
use store::{BadChunk, ScrubObserver, ScrubProgress};

/// Puts what somebody has read and found damaged into quarantine, and repairs it where this store
/// has the same bytes elsewhere.
pub(super) async fn what_readers_found(state: &Arc<AppState>, share: &Arc<Share>) {
    let (told, looked_at) = (Told { state: Arc::clone(state), share: Arc::clone(share) }, Arc::clone(share));
    let examined = tokio::task::spawn_blocking(move || looked_at.store.examine(&told)).await;
    if let Err(error) = examined.expect("looking into damage does not panic") {
        let message = format!("store {}: damage that was found is not looked into: {error}", share.name);
        state.farm.event(NewEvent::new(EventKind::ServiceFailed, &share.name, message));
    }
}

/// Tells what is found.
struct Told {
    state: Arc<AppState>,
    share: Arc<Share>,
}

impl Told {
    fn tell(&self, kind: EventKind, chunk: &BadChunk, what: &str) {
        let at = format!("chunk {} of root {}", chunk.chunk.0, chunk.root.short());
        let message = format!("store {}: {at} {what}: {}", self.share.name, chunk.reason);
        self.state.farm.event(NewEvent::new(kind, format!("{}/{at}", self.share.name), message));
    }
}

impl ScrubObserver for Told {
    fn progress(&self, _: ScrubProgress) {}

    fn quarantined(&self, chunk: &BadChunk) {
        self.tell(EventKind::ChunkQuarantined, chunk, "is damaged and will not be served");
    }

    fn repaired(&self, chunk: &BadChunk) {
        self.tell(EventKind::ChunkRepaired, chunk, "is whole again");
    }

    fn cancelled(&self) -> bool {
        false
    }
}

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
