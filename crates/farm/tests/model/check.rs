//! What must be true in every state of the world, and when two states are the same.
//!
//! The numbers are those of DESIGN section 9.

use super::world::{Acknowledged, Action, Bounds, Bytes, NUMBER, SERVERS, State, World, is_sealed};
use super::world::{bytes, root, server_name, vdisk};
use farm::{OrphanState, roots_in_use};
use stateright::{Model, Property};
use std::hash::{Hash, Hasher};

impl Model for World {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::first(self.bounds)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.possible(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        self.after(last, action)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always("9.1 what is sealed lacks no acknowledged byte", |_, state| {
                sealed_is_whole(state)
            }),
            Property::always("9.1 what is promoted was sealed", |_, state| promoted_was_sealed(state)),
            Property::always("9.5 one server at most holds an epoch", |_, state| epochs_are_unique(state)),
            Property::always("9.5 9.10 no old epoch and no prune does harm", |_, state: &State| {
                !state.broken
            }),
            Property::always("9.6 no step by itself discards a byte", |_, state| nothing_is_discarded(state)),
            Property::always("9.10 what is needed is somewhere complete", |_, state| {
                needed_is_somewhere(state)
            }),
            Property::always("9.10 who says complete has it", |_, state| copies_are_true(state)),
            Property::sometimes("a version with every write is in production", |world: &World, state| {
                in_production(state) && bytes(state.version().root) == all_writes(world.bounds)
            }),
            Property::sometimes("a server writes with an old epoch", |_, state| old_epoch_wrote(state)),
            Property::sometimes("an admin gives up what a server wrote", |_, state: &State| {
                !state.given_up.is_empty()
            }),
        ]
    }
}

fn all_writes(bounds: Bounds) -> Bytes {
    (1 << bounds.writes) - 1
}

fn acknowledged(state: &State) -> impl Iterator<Item = (Bytes, Acknowledged)> {
    state
        .acknowledged
        .iter()
        .enumerate()
        .filter_map(|(write, acknowledged)| Some((1 << write, (*acknowledged)?)))
}

fn sealed_is_whole(state: &State) -> bool {
    let content = bytes(state.version().root);
    !is_sealed(state) || acknowledged(state).all(|(bit, by)| content & bit != 0 || state.is_given_up(by))
}

fn in_production(state: &State) -> bool {
    state.farm.vdisks[&vdisk()].production == Some(NUMBER)
}

fn promoted_was_sealed(state: &State) -> bool {
    !in_production(state) || is_sealed(state) && state.version().access == model::AccessMode::Production
}

fn epochs_are_unique(state: &State) -> bool {
    let leases: Vec<_> =
        state.servers.iter().filter_map(|server| server.lease.map(|(epoch, _)| epoch)).collect();
    leases.iter().enumerate().all(|(at, epoch)| !leases[..at].contains(epoch))
}

/// Each acknowledged write is in the checkpoint or the sealed content, or in the files of the server
/// that is noted for it, or was given up and is kept.
fn nothing_is_discarded(state: &State) -> bool {
    let content = bytes(state.version().root);
    let dirty = state.draft().and_then(|draft| draft.dirty.as_ref()).map(|dirty| &dirty.server);
    acknowledged(state).all(|(bit, by)| {
        let server = &state.servers[by.server];
        let in_files = server.files.is_some_and(|(bytes, _)| bytes & bit != 0);
        let noted = dirty == Some(&server_name(by.server)) && in_files;
        let kept = state.is_given_up(by) && (in_files || server.kept & bit != 0);
        content & bit != 0 || noted || kept || state.lost_writes & bit != 0
    })
}

fn needed_is_somewhere(state: &State) -> bool {
    roots_in_use(&state.farm).into_iter().map(bytes).all(|content| {
        let complete = state.servers.iter().any(|server| server.complete & 1 << content != 0);
        complete || state.lost_roots & 1 << content != 0
    })
}

fn copies_are_true(state: &State) -> bool {
    let has = |content: Bytes, server: usize| state.servers[server].complete & 1 << content != 0;
    state.losses > 0
        || (0..SERVERS).all(|server| {
            let says =
                |content: &Bytes| state.farm.copies.contains_key(&(root(*content), server_name(server)));
            (0..8).filter(says).all(|content| has(content, server))
        })
}

fn old_epoch_wrote(state: &State) -> bool {
    let present = state.draft().map_or(u64::MAX, |draft| draft.epoch.0);
    let holds = |by: Acknowledged| state.servers[by.server].lease.is_some_and(|(epoch, _)| epoch == by.epoch);
    acknowledged(state).any(|(_, by)| by.epoch.0 < present && holds(by) && state.is_given_up(by))
}

impl Hash for State {
    fn hash<H: Hasher>(&self, state: &mut H) {
        canonical(self).hash(state);
    }
}

impl PartialEq for State {
    fn eq(&self, other: &Self) -> bool {
        canonical(self) == canonical(other)
    }
}

/// The same for states that differ in revisions only, and for those that differ in which server is
/// which, as long as no transaction is on its way (it names servers in its bytes).
fn canonical(state: &State) -> Vec<u8> {
    const ORDERS: [[usize; SERVERS]; 6] = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]];
    let Some(sent) = &state.in_flight else {
        let renamed = ORDERS.iter().map(|order| projected(state, *order));
        return renamed.min().expect("there are six");
    };
    let mut out = projected(state, ORDERS[0]);
    out.extend(format!("{:?} {} {:?}", sent.intent, sent.awaited, sent.change.writes).into_bytes());
    out
}

/// What of a state matters, with the servers renamed.
fn projected(state: &State, order: [usize; SERVERS]) -> Vec<u8> {
    let mut out = Vec::with_capacity(160);
    let at = |server: &model::Name| {
        order[(0..SERVERS).find(|at| server_name(*at) == *server).expect("one of ours")] as u8
    };
    let version = state.version();
    let sealed = u8::from(is_sealed(state));
    out.extend([sealed, version.access as u8, bytes(version.root), u8::from(in_production(state))]);
    if let Some(draft) = state.draft() {
        out.push(draft.epoch.0 as u8);
        let holder = draft.holder.as_ref();
        out.extend(holder.map_or([9, 9], |holder| [at(&holder.server), u8::from(holder.device.is_some())]));
        let dirty = draft.dirty.as_ref();
        out.extend(dirty.map_or([9, 9], |dirty| [at(&dirty.server), dirty.from_epoch.0 as u8]));
    }
    let mut servers = [[0; 12]; SERVERS];
    for (server, here) in state.servers.iter().enumerate() {
        let says = |content: &Bytes| state.farm.copies.contains_key(&(root(*content), server_name(server)));
        let recorded = (0..8).filter(says).fold(0, |mask, content| mask | 1u8 << content);
        let (epoch, device) = here.lease.map_or((0, 0), |(epoch, device)| (epoch.0 as u8, u8::from(device)));
        let (files, base) = here.files.unwrap_or((0xff, 0xff));
        servers[order[server]] = [
            epoch,
            device,
            u8::from(here.marked),
            files,
            base,
            here.kept,
            here.complete,
            recorded,
            0,
            0,
            0,
            0,
        ];
    }
    out.extend(servers.as_flattened());
    for write in state.acknowledged {
        out.extend(write.map_or([9, 9], |by| [order[by.server] as u8, by.epoch.0 as u8]));
    }
    let mut given_up: Vec<_> = state
        .given_up
        .iter()
        .map(|(server, from, to)| [order[*server] as u8, from.0 as u8, to.0 as u8])
        .collect();
    given_up.sort_unstable();
    out.extend(given_up.as_flattened());
    for orphan in state.farm.orphans.values() {
        let settled = u8::from(orphan.state == OrphanState::Claimed);
        out.extend([at(&orphan.server), bytes(orphan.checkpoint), settled, orphan.to_epoch.0 as u8]);
    }
    out.extend([state.losses, state.lost_writes, state.lost_roots, u8::from(state.broken)]);
    out
}
