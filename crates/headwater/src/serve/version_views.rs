//! From version records to what the API shows.

use super::drafts::DraftKey;
use super::farm::now;
use super::state::AppState;
use api::{
    BootProfileView, DirtyView, DraftView, GateView, HolderView, OriginView, OrphanState, OrphanView,
    StampView, VersionState, VersionView,
};
use farm::rules::profile::{ProfileOf, profile_of};
use farm::{Bootable, Draft, FarmView, Gate, Orphan, Stamp, Timestamp, VDisk, Version};
use model::Name;
use std::collections::BTreeMap;

/// The versions of a vDisk, lowest number first.
pub(super) fn all(state: &AppState, view: &FarmView, vdisk: &VDisk) -> Vec<VersionView> {
    view.versions_of(&vdisk.name).map(|found| version(state, view, found)).collect()
}

pub(super) fn version(state: &AppState, view: &FarmView, version: &Version) -> VersionView {
    let (kernel, not_bootable) = match &version.boot {
        Bootable::Linux { kernel_version, .. } => (Some(kernel_version.clone()), None),
        Bootable::No { reason } => (None, Some(reason.clone())),
    };
    let vdisk = view.vdisks.get(&version.vdisk);
    let gate = version.gate.map(|gate| GateView { gate: gate_view(gate), missing: missing(view, version) });
    let draft = view.draft(&version.vdisk, version.number);
    VersionView {
        number: version.number.0,
        access: version.access,
        state: match version.state {
            farm::VersionState::Draft => VersionState::Draft,
            farm::VersionState::Sealed => VersionState::Sealed,
        },
        in_production: vdisk.is_some_and(|vdisk| vdisk.production == Some(version.number)),
        root: version.root,
        parent: version.parent.map(|parent| parent.0),
        size_bytes: version.size.bytes(),
        data_bytes: version.data_bytes,
        delta_bytes: vdisk.and_then(|vdisk| state.delta_bytes(vdisk, version)),
        copies: view.copies_of(version.root).map(|(server, _)| server.clone()).collect(),
        read_by: read_by(view, version),
        kernel,
        not_bootable,
        comment: version.comment.clone(),
        origin: version
            .origin
            .as_ref()
            .map(|origin| OriginView { vdisk: origin.vdisk.clone(), version: origin.number.0 }),
        created_ms: version.created.at.0,
        created_by: version.created.by.clone(),
        sealed: version.sealed.as_ref().map(stamp),
        promoted: version.promoted.as_ref().map(stamp),
        retired: version.retired.as_ref().map(stamp),
        merged: version.merged.as_ref().map(stamp),
        boot_profile: profile_of(view, version).map(profile_view),
        gate,
        draft: draft.map(|draft| draft_view(state, draft)),
    }
}

/// On which servers sessions read a version, as they have said.
fn read_by(view: &FarmView, version: &Version) -> BTreeMap<Name, u32> {
    let of_it = |reads: &&farm::Reads| reads.vdisk == version.vdisk && reads.version == version.number;
    let on = |reading: &farm::Reading| {
        let mut reads = reading.reads.iter().filter(of_it).peekable();
        reads.peek().is_some().then(|| reads.map(|reads| reads.sessions).sum())
    };
    let servers = view.readings.iter();
    servers.filter_map(|(server, reading)| Some((server.clone(), on(reading)?))).collect()
}

/// What a pending version waits for, one line each.
fn missing(view: &FarmView, version: &Version) -> Vec<String> {
    let missing = farm::rules::gate::missing(view, version);
    let until = missing.until.filter(|until| *until > now()).map(|until| format!("the time: {until}"));
    let copies = (missing.copies() < missing.copies_wanted)
        .then(|| format!("{} of {} complete copies", missing.copies(), missing.copies_wanted));
    let servers = missing.servers.iter().filter(|(_, since)| since.is_none());
    let servers = servers.map(|(server, _)| format!("server {server} does not have it completely"));
    until.into_iter().chain(copies).chain(servers).collect()
}

fn draft_view(state: &AppState, draft: &Draft) -> DraftView {
    let key = DraftKey::new(&draft.vdisk, draft.number);
    let since = super::drafts::alone_since(&state.farm.view(), draft);
    DraftView {
        epoch: draft.epoch.0,
        holder: draft.holder.as_ref().map(|holder| HolderView {
            server: holder.server.clone(),
            device: holder.device.clone(),
            since_ms: holder.since.0,
        }),
        dirty: draft.dirty.as_ref().map(|dirty| DirtyView {
            server: dirty.server.clone(),
            from_epoch: dirty.from_epoch.0,
            since_ms: dirty.since.0,
            bytes: state.boot.drafts.dirty_bytes(&key),
        }),
        checkpointed_ms: draft.checkpointed.0,
        alone_since_ms: since.map(|since| since.0),
        alone_bytes: since.and_then(|_| state.boot.drafts.alone_bytes(&key)),
    }
}

pub(super) fn orphan(orphan: &Orphan) -> OrphanView {
    OrphanView {
        vdisk: orphan.vdisk.clone(),
        version: orphan.number.0,
        server: orphan.server.clone(),
        from_epoch: orphan.from_epoch.0,
        to_epoch: orphan.to_epoch.0,
        stored_as: orphan.draft.clone(),
        state: match orphan.state {
            farm::OrphanState::Claimed => OrphanState::Claimed,
            farm::OrphanState::Kept => OrphanState::Kept,
            farm::OrphanState::Lost => OrphanState::Lost,
        },
        discarded: stamp(&orphan.discarded),
    }
}

fn profile_view(profile: ProfileOf<'_>) -> BootProfileView {
    let chunks = profile.learned.chunks.chunks().len() as u64;
    BootProfileView {
        chunks,
        bytes: chunks * u64::from(model::CHUNK_SIZE),
        boots: profile.learned.boots,
        changed_ms: profile.learned.at.0,
        inherited_from: profile.inherited_from.map(|number| number.0),
    }
}

fn stamp(stamp: &Stamp) -> StampView {
    StampView { at_ms: stamp.at.0, by: stamp.by.clone() }
}

fn gate_view(gate: Gate) -> api::Gate {
    match gate {
        Gate::At(at) => api::Gate::At { at_ms: at.0 },
        Gate::Copies(copies) => api::Gate::Copies { copies },
        Gate::AllServers => api::Gate::AllServers,
    }
}

pub(super) fn gate_of(gate: &api::Gate) -> Gate {
    match gate {
        api::Gate::At { at_ms } => Gate::At(Timestamp(*at_ms)),
        api::Gate::Copies { copies } => Gate::Copies(*copies),
        api::Gate::AllServers => Gate::AllServers,
    }
}

impl AppState {
    /// Bytes that a version's own files take beside those of the version it was made on.
    fn delta_bytes(&self, vdisk: &VDisk, version: &Version) -> Option<u64> {
        let share = self.stores.find(Some(&vdisk.store))?;
        let view = self.farm.view();
        let parent = version.parent.and_then(|parent| view.versions.get(&(vdisk.name.clone(), parent)));
        share.store.added_bytes(&version.root, parent.map(|parent| &parent.root))
    }
}
