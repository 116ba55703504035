//! What happens several times a second: what came is made durable and told, versions end, rates
//! are measured, full stores are looked at again.

use super::{Coming, Shared};
use crate::engine::Event;
use model::Root;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};
use store::Receiving;

/// How often.
const EVERY: Duration = Duration::from_millis(200);
/// How often it is looked whether a full store has room again, and at what else changes slowly.
const SLOWLY: Duration = Duration::from_secs(1);

pub(super) fn run(shared: &Arc<Shared>) {
    let mut told: BTreeSet<Root> = BTreeSet::new();
    let (mut ticked, mut slowly) = (Instant::now(), Instant::now());
    loop {
        let state = shared.state();
        if state.stopped {
            drop(state);
            return shared.settle_all(EVERY);
        }
        let until_wake = state.wake.saturating_sub(shared.began.elapsed());
        let state = shared.wait(state, EVERY.saturating_sub(ticked.elapsed()).min(until_wake));
        let is_due = state.wake <= shared.began.elapsed();
        drop(state);
        if is_due {
            shared.wake();
        }
        if ticked.elapsed() < EVERY {
            continue;
        }
        let elapsed = std::mem::replace(&mut ticked, Instant::now()).elapsed();
        shared.settle_all(elapsed);
        shared.tell_changes(&mut told);
        if slowly.elapsed() >= SLOWLY {
            slowly = Instant::now();
            shared.shares.close_idle();
            shared.try_again();
        }
    }
}

impl Shared {
    /// Hands in the tick that the engine asked for.
    fn wake(&self) {
        let mut state = self.state();
        state.wake = Duration::MAX;
        let actions = self.feed(&mut state, Event::Tick);
        drop(state);
        self.perform(actions, None);
    }

    pub(super) fn all_coming(&self) -> Vec<Arc<Receiving>> {
        self.state().coming.values().map(|coming| Arc::clone(&coming.receiving)).collect()
    }

    fn settle_all(&self, elapsed: Duration) {
        for receiving in self.all_coming() {
            let root = receiving.root();
            match receiving.finish() {
                Ok(true) => self.complete(root),
                Ok(false) => {}
                Err(error) => tracing::warn!(%root, %error, "what came of a version cannot be made durable"),
            }
        }
        for coming in self.state().coming.values_mut() {
            let now = (coming.arrived_bytes as f64 / elapsed.as_secs_f64()) as u64;
            coming.arrived_bytes = 0;
            // Half of it is what came in the last second.
            coming.bytes_per_s = (coming.bytes_per_s * 7 + now) / 8;
        }
    }

    fn complete(&self, root: Root) {
        let mut state = self.state();
        state.coming.remove(&root);
        state.profiles.remove(&root);
        let actions = self.feed(&mut state, Event::Unwanted { root });
        drop(state);
        self.perform(actions, None);
        self.observer.completed(root);
        self.changed.notify_all();
    }

    /// Tells the peers what is here that was not here when they were told last.
    fn tell_changes(&self, told: &mut BTreeSet<Root>) {
        let whole: BTreeSet<Root> = self.shares.whole().into_iter().collect();
        for root in whole.difference(told) {
            self.tell(&self.shares.complete(*root));
        }
        for root in told.difference(&whole) {
            self.tell(&self.shares.gone(*root));
        }
        *told = whole;
        let changed = |coming: &mut Coming| {
            let missing = coming.receiving.version().missing_count();
            let before = std::mem::replace(&mut coming.told_missing, missing);
            (before != missing).then(|| Arc::clone(&coming.receiving))
        };
        let changed: Vec<_> = self.state().coming.values_mut().filter_map(changed).collect();
        for receiving in changed {
            self.shares.part(receiving.version()).iter().for_each(|have| self.tell(have));
        }
    }

    /// Goes on with what stood still: a store that was full, chunks that came and were lost again.
    fn try_again(&self) {
        let still: Vec<Arc<Receiving>> = {
            let mut state = self.state();
            let busy: BTreeSet<Root> = state.engine.wanted().collect();
            let stands = |(root, coming): (&Root, &mut Coming)| {
                let stands = coming.full || !busy.contains(root);
                coming.full = false;
                (stands && !coming.copying).then(|| Arc::clone(&coming.receiving))
            };
            state.coming.iter_mut().filter_map(stands).collect()
        };
        still.iter().for_each(|receiving| self.want_bulk(receiving));
    }
}
