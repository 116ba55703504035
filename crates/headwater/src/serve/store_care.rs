//! Looking after this server's stores: prune, scrub, and an eye on the space.
//!
//! One task goes round: it prunes once a day (and when something came or went, see
//! [`Care::look_soon`]), scrubs each store once in `store.scrub_days`, has damage repaired that a
//! reader came upon, and tells when space runs low and when it is ample again. Admins may ask for each at any time (`routes.rs`).
//!
//! What it does not do: know how (crate `store`) or what must stay (`farm::roots_kept`).

mod adopt;
mod prune;
mod repair;
mod routes;
mod scrub;
mod space;

use super::audit;
use super::state::{AppState, Shared};
use super::stores::Share;
use farm::{Actor, EventKind, NewEvent};
use model::Name;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;

pub(super) use routes::routes;
pub(super) use space::{marks, state_text};

/// How often is looked whether something is due; space runs low in minutes, not in seconds.
const LOOK_EVERY: Duration = Duration::from_secs(30);
/// How often everything is pruned, though nobody deleted anything.
const PRUNE_EVERY: Duration = Duration::from_secs(24 * 3600);

/// What is known of the care of each store.
pub(crate) struct Care {
    scrubs: BTreeMap<Name, Arc<scrub::Scrub>>,
    wake: Notify,
    damage: Arc<Notify>,
}

impl Care {
    /// Nothing is at work yet.
    pub(super) fn new(config: &crate::config::Config) -> Self {
        let of = |store: &crate::config::StoreConfig| {
            (store.name.clone(), Arc::new(scrub::Scrub::new(store, &config.server.state_dir)))
        };
        Self { scrubs: config.stores.iter().map(of).collect(), wake: Notify::new(), damage: Arc::default() }
    }

    /// Something came or went: what is not used is given back, and the room is looked at, soon.
    pub(super) fn look_soon(&self) {
        self.wake.notify_one();
    }
}

/// Looks after the stores as long as the server runs.
pub(super) async fn run(state: Shared) {
    let (mut pruned, mut space) = (None::<Instant>, space::Watch::default());
    let mut asked = false;
    for share in state.stores.all() {
        let damage = Arc::clone(&state.care.damage);
        share.store.on_suspect(move || damage.notify_one());
    }
    loop {
        if asked || pruned.is_none_or(|at| at.elapsed() >= PRUNE_EVERY) {
            prune_all(&state).await;
            pruned = Some(Instant::now());
        }
        for share in state.stores.all() {
            scrub::start_if_due(&state, share);
            repair::what_readers_found(&state, share).await;
            repair::from_peers(&state, share).await;
            space.look(&state, share).await;
        }
        asked = tokio::select! {
            () = tokio::time::sleep(LOOK_EVERY) => false,
            () = state.care.wake.notified() => true,
            // A reader waits: it goes on when the chunk is repaired.
            () = state.care.damage.notified() => false,
            () = state.shutdown.wait() => return,
        };
    }
}

async fn prune_all(state: &AppState) {
    for share in state.stores.all() {
        let (actor, name) = (Actor::Server(state.server.clone()), share.name.clone());
        let pruned =
            audit::automatic(&state.farm, actor, ("store.prune", name.as_str()), prune::prune(state, share));
        if let Err(error) = pruned.await {
            let message = format!("store {} is not pruned: {error}", share.name);
            state.farm.event(NewEvent::new(EventKind::ServiceFailed, &share.name, message));
        }
    }
}

impl AppState {
    fn scrub_of(&self, share: &Share) -> Arc<scrub::Scrub> {
        Arc::clone(&self.care.scrubs[&share.name])
    }
}
