//! What a pending version waits for, and what is missing.

use super::version::put_in_production;
use crate::change::{Change, Refusal, RefusalKind};
use crate::draft::CompleteCopy;
use crate::key::Key;
use crate::timestamp::{Stamp, Timestamp};
use crate::vdisk::{Gate, VDisk, Version};
use crate::view::{FarmView, Stored};
use model::{AccessMode, Name, Root};

/// What a pending version still lacks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// The time it waits for; none where it does not.
    pub until: Option<Timestamp>,
    /// How many complete copies it needs.
    pub copies_wanted: u32,
    /// Every server of the store and since when it has a complete copy, if it has one.
    pub servers: Vec<(Name, Option<Timestamp>)>,
}

impl Missing {
    /// How many servers have a complete copy.
    pub fn copies(&self) -> u32 {
        count(self.servers.iter().filter(|(_, since)| since.is_some()).count())
    }
}

/// Puts the first pending version whose gate is met into production; none where there is no such.
///
/// Any server may ask, at any time: of two that do at once one conflicts.
pub fn open(view: &FarmView, now: Timestamp) -> Option<Change> {
    next(view, now).map(|(_, change)| change)
}

/// The same, with the version that it is about.
pub fn next(view: &FarmView, now: Timestamp) -> Option<(&Version, Change)> {
    view.versions.values().find_map(|version| {
        let gate = version.gate.filter(|_| version.access == AccessMode::Pending)?;
        let vdisk = view.vdisks.get(&version.vdisk)?;
        let mut change = Change::default();
        is_met(view, &mut change, vdisk, version, gate, now).then(|| {
            let by = version.promoted.as_ref().map_or("nobody", |stamp| &stamp.by);
            put_in_production(view, &mut change, vdisk, version, &Stamp::new(by, now));
            (&version.record, change)
        })
    })
}

/// What a version lacks for its gate; for one without a gate, what servers lack at all.
pub fn missing(view: &FarmView, version: &Version) -> Missing {
    let store = view.vdisks.get(&version.vdisk).and_then(|vdisk| view.stores.get(&vdisk.store));
    let servers = store.into_iter().flat_map(|store| store.paths.keys());
    let since = |server: &Name| super::copy::has(view, version.root, server);
    let servers: Vec<_> = servers.map(|server| (server.clone(), since(server))).collect();
    let (until, copies_wanted) = match version.gate {
        Some(Gate::At(time)) => (Some(time), 1),
        Some(Gate::Copies(wanted)) => (None, wanted),
        Some(Gate::AllServers) => (None, count(servers.len())),
        None => (None, 1),
    };
    Missing { until, copies_wanted, servers }
}

/// Refuses a gate that can never be met.
pub(super) fn check(view: &FarmView, vdisk: &VDisk, gate: Gate) -> Result<(), Refusal> {
    let Gate::Copies(wanted) = gate else { return Ok(()) };
    let servers = count(view.stores.get(&vdisk.store).map_or(0, |store| store.paths.len()));
    if (1..=servers).contains(&wanted) {
        return Ok(());
    }
    Err(Refusal::new(
        RefusalKind::Invalid,
        format!("{wanted} copies can never be complete: store {} is on {servers} servers", vdisk.store),
        format!("wait for 1 to {servers} copies"),
    ))
}

/// Whether a gate is open; `change` then relies on the copies that opened it.
pub(super) fn is_met(
    view: &FarmView,
    change: &mut Change,
    vdisk: &VDisk,
    version: &Version,
    gate: Gate,
    now: Timestamp,
) -> bool {
    let wanted = match gate {
        Gate::At(time) if now < time => return false,
        // A version that no server has cannot be booted: the date alone is not enough.
        Gate::At(_) => 1,
        Gate::Copies(wanted) => wanted.max(1),
        Gate::AllServers => match view.stores.get(&vdisk.store) {
            Some(store) => {
                change.unchanged(Key::Store(store.name.clone()), store);
                count(store.paths.len()).max(1)
            }
            None => return false,
        },
    };
    rely_on_copies(view, change, vdisk, version.root, wanted) >= wanted
}

/// Makes `change` rely on up to `wanted` copies on servers of the vDisk's store; answers how many
/// there are, at most `wanted`.
pub(super) fn rely_on_copies(
    view: &FarmView,
    change: &mut Change,
    vdisk: &VDisk,
    root: Root,
    wanted: u32,
) -> u32 {
    let Some(store) = view.stores.get(&vdisk.store) else { return 0 };
    let counts = |(server, _): &(&Name, &Stored<CompleteCopy>)| store.paths.contains_key(*server);
    let mut relied = 0;
    for (server, copy) in view.copies_of(root).filter(counts).take(wanted as usize) {
        change.unchanged(Key::Copy(root, server.clone()), copy);
        relied += 1;
    }
    relied
}

/// What a gate waits for, for people: it goes after "promoted ... to production".
pub fn text(gate: Gate) -> String {
    match gate {
        Gate::At(time) => format!("at {time}"),
        Gate::Copies(1) => "when one server has it completely".to_owned(),
        Gate::Copies(wanted) => format!("when {wanted} servers have it completely"),
        Gate::AllServers => "when every server of its store has it completely".to_owned(),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
