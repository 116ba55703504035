//! What admins and the schedule allow: told as a whole, handed to the engine where it differs.

use super::{Shared, State};
use crate::engine::{Action, Event, Priority, Slot};
use model::{Name, Root};
use std::collections::{BTreeMap, BTreeSet};

/// What the pulling may do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// The most bytes a second that come at a priority, over the link to one peer or, without one,
    /// over all links together.
    pub limits: BTreeMap<(Option<Name>, Priority), u64>,
    /// What the weekly schedule allows now.
    pub slot: Slot,
    /// Whether nothing comes but what devices wait for.
    pub paused: bool,
    /// The same, of these roots.
    pub paused_roots: BTreeSet<Root>,
    /// These come whatever the schedule says.
    pub forced_roots: BTreeSet<Root>,
}

impl Default for Policy {
    /// Everything at full speed.
    fn default() -> Self {
        Self {
            limits: BTreeMap::new(),
            slot: Slot::Open,
            paused: false,
            paused_roots: BTreeSet::new(),
            forced_roots: BTreeSet::new(),
        }
    }
}

impl Policy {
    /// The lowest limit that chunks of a priority from this peer are under.
    pub(super) fn lowest(&self, peer: &Name, priority: Priority) -> Option<u64> {
        let slot = match self.slot {
            Slot::Limited(rate) if priority != Priority::OnDemand => Some(rate),
            _ => None,
        };
        let of = |peer| self.limits.get(&(peer, priority)).copied();
        [slot, of(None), of(Some(peer.clone()))].into_iter().flatten().min()
    }
}

impl Shared {
    /// See [`super::Puller::allow`].
    pub(super) fn allow(&self, policy: Policy) {
        let mut state = self.state();
        let events = changes(&state.policy, &policy);
        state.policy = policy;
        let actions: Vec<Action> =
            events.into_iter().flat_map(|event| self.feed(&mut state, event)).collect();
        drop(state);
        self.perform(actions, None);
    }

    /// What the engine has to be told of a root that it did not know before.
    pub(super) fn events_of(state: &State, root: Root) -> Vec<Event> {
        let profile = state.profiles.get(&root).cloned().map(|chunks| Event::Profile { root, chunks });
        let paused = state.policy.paused_roots.contains(&root).then_some(Event::Paused { root: Some(root) });
        let forced =
            state.policy.forced_roots.contains(&root).then_some(Event::Forced { root, forced: true });
        [profile, paused, forced].into_iter().flatten().collect()
    }
}

fn changes(old: &Policy, new: &Policy) -> Vec<Event> {
    let mut events = Vec::new();
    for key in old.limits.keys().chain(new.limits.keys()).collect::<BTreeSet<_>>() {
        let bytes_per_s = new.limits.get(key).copied();
        if old.limits.get(key).copied() != bytes_per_s {
            events.push(Event::Limit { peer: key.0.clone(), priority: key.1, bytes_per_s });
        }
    }
    if old.slot != new.slot {
        events.push(Event::Slot(new.slot));
    }
    match (old.paused, new.paused) {
        (false, true) => events.push(Event::Paused { root: None }),
        (true, false) => events.push(Event::Resumed { root: None }),
        _ => {}
    }
    let paused = new.paused_roots.difference(&old.paused_roots);
    events.extend(paused.map(|root| Event::Paused { root: Some(*root) }));
    let resumed = old.paused_roots.difference(&new.paused_roots);
    events.extend(resumed.map(|root| Event::Resumed { root: Some(*root) }));
    let forced = new.forced_roots.symmetric_difference(&old.forced_roots);
    events.extend(forced.map(|root| Event::Forced { root: *root, forced: new.forced_roots.contains(root) }));
    events
}
