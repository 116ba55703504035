//! How much room a store has: told once when it runs low, and once when it is ample again.

use crate::config::{Config, StoreConfig};
use crate::serve::state::AppState;
use crate::serve::stores::Share;
use farm::{EventKind, NewEvent};
use model::Name;
use std::collections::BTreeMap;
use std::sync::Arc;
use store::{Space, SpaceState, Watermarks};

/// What was told of each store last.
#[derive(Default)]
pub(super) struct Watch(BTreeMap<Name, SpaceState>);

/// The marks of a store on a file system of `total` bytes. The reserve, which only drafts may use,
/// is half of the low mark.
pub(in crate::serve) fn marks(config: &Config, store: &Name, total: u64) -> Watermarks {
    let percent = |part: u8| total / 100 * u64::from(part);
    let found = config.stores.iter().find(|found| found.name == *store);
    let of = |mark: fn(&StoreConfig) -> u8| found.map_or(0, |store| percent(mark(store)));
    let (low, high) = (of(|store| store.space_low_percent), of(|store| store.space_high_percent));
    Watermarks { reserve: low / 2, low, high }
}

/// The state as the API shows it.
pub(in crate::serve) fn state_text(state: SpaceState) -> &'static str {
    match state {
        SpaceState::Ample => "ample",
        SpaceState::Low => "low",
        SpaceState::Reserve => "reserve",
    }
}

impl Watch {
    /// Looks at a store and tells what is news.
    pub(super) async fn look(&mut self, state: &AppState, share: &Arc<Share>) {
        let worker = Arc::clone(share);
        let measured = tokio::task::spawn_blocking(move || worker.store.space()).await;
        let Ok(space) = measured.expect("measuring answers with an error") else { return };
        let marks = marks(&state.config, &share.name, space.total);
        let before = self.0.get(&share.name).copied().unwrap_or_default();
        let now = marks.next(before, space.free);
        self.0.insert(share.name.clone(), now);
        if now != before {
            state.farm.event(event(&share.name, now, space));
        }
    }
}

fn event(store: &Name, now: SpaceState, space: Space) -> NewEvent {
    let free = format!("{} of {} MiB are free", space.free >> 20, space.total >> 20);
    match now {
        SpaceState::Ample => {
            NewEvent::new(EventKind::SpaceRecovered, store, format!("store {store} has room again: {free}"))
        }
        SpaceState::Low => {
            NewEvent::new(EventKind::SpaceLow, store, format!("store {store} runs out of room: {free}"))
        }
        SpaceState::Reserve => {
            let message = format!("store {store} is at its reserve, which is for drafts: {free}");
            NewEvent::new(EventKind::SpaceLow, store, message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marks_are_parts_of_the_file_system() {
        let config = Config::load(None).unwrap();
        let store = Name::new("default").unwrap();
        assert_eq!(marks(&config, &store, 1000), Watermarks { reserve: 25, low: 50, high: 100 });
        let unknown = Name::new("other").unwrap();
        assert_eq!(marks(&config, &unknown, 1000), Watermarks { reserve: 0, low: 0, high: 0 });
    }
}
