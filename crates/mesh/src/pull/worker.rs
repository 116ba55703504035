//! The bulk: for each connected peer two threads, each with one request under way.

use super::{Shared, fetch::Outcome};
use model::Name;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Urgency;

/// Requests under way with one peer: while one answer is stored the next one comes.
const WORKERS: u32 = 2;
/// How often a worker looks for itself whether its peer is still there.
const LOOK: Duration = Duration::from_millis(500);

/// Starts the workers of peers that have none.
pub(super) fn start_missing(shared: &Arc<Shared>) {
    let connected = shared.peers().map(|peers| peers.connected()).unwrap_or_default();
    for peer in connected {
        if !shared.state().workers.insert(peer.clone()) {
            continue;
        }
        for number in 0..WORKERS {
            let (shared, peer) = (Arc::clone(shared), peer.clone());
            let name = format!("mesh-bulk-{number}");
            let body = move || run(&shared, &peer, number);
            if let Err(error) = std::thread::Builder::new().name(name).spawn(body) {
                tracing::error!(%error, "a thread of the mesh cannot be started");
            }
        }
    }
}

/// Works until the peer is gone; the first worker says that there are none any more.
fn run(shared: &Arc<Shared>, peer: &Name, number: u32) {
    while is_connected(shared, peer) {
        let mut state = shared.state();
        if state.stopped {
            return;
        }
        let rests = state.resting.get(peer).is_some_and(|until| *until > Instant::now());
        let next = if rests { None } else { state.plan.next(peer, shared.options.bulk_chunks) };
        let Some((root, chunks)) = next else {
            drop(shared.wait(state, LOOK));
            continue;
        };
        let receiving = state.coming.get(&root).map(|coming| Arc::clone(&coming.receiving));
        drop(state);
        let Some(receiving) = receiving else {
            shared.state().plan.forget(&root);
            continue;
        };
        let outcome = shared.request_chunks(peer, &receiving, &chunks, Urgency::Bulk);
        shared.conclude(peer, root, &chunks, &outcome);
        if matches!(outcome, Outcome::Answered) {
            // What it said that it has and has not is told again by it.
            std::thread::yield_now();
        }
    }
    if number == 0 {
        shared.state().workers.remove(peer);
    }
}

fn is_connected(shared: &Shared, peer: &Name) -> bool {
    shared.peers().is_some_and(|peers| peers.connected().contains(peer))
}
