//! From records to what the API shows.

use super::farm::now;
use super::session_routes::holder_text;
use super::sessions::Holder;
use super::state::AppState;
use super::store_care;
use super::stores::Share;
use super::version_views;
use crate::config::Config;
use api::{CollectionView, DeviceView, EventView, PendingView, ServerView, StatusView, StoreView, VDiskView};
use farm::{
    Collection, Device, Event, EventId, FarmView, PendingDevice, PendingState, Server, Severity, VDisk,
};
use model::{MacAddress, Name, VersionNumber};
use std::collections::{BTreeMap, HashMap};
use store::SpaceState;

/// How many sessions each device has on this server.
pub(super) type SessionCounts = HashMap<MacAddress, u32>;

pub(super) fn sessions_by_mac(state: &AppState) -> SessionCounts {
    let mut counts = SessionCounts::new();
    for info in state.boot.sessions.list().into_iter().filter(|info| info.connections > 0) {
        if let Holder::Device { mac, .. } = info.holder {
            *counts.entry(mac).or_default() += 1;
        }
    }
    counts
}

/// The open sessions that read a vDisk, for people.
pub(super) fn sessions_of(state: &AppState, vdisk: &Name) -> Vec<String> {
    let open = state.boot.sessions.list().into_iter().filter(|info| &info.vdisk == vdisk);
    open.map(|info| holder_text(&info)).collect()
}

/// The open sessions that read or write one version, for people.
pub(super) fn sessions_of_version(state: &AppState, vdisk: &Name, number: VersionNumber) -> Vec<String> {
    let open = state.boot.sessions.list().into_iter();
    let open = open.filter(|info| &info.vdisk == vdisk && info.version == number);
    open.map(|info| holder_text(&info)).collect()
}

pub(super) fn device(
    view: &FarmView,
    device: &Device,
    server: &Name,
    sessions: &SessionCounts,
) -> DeviceView {
    DeviceView {
        name: device.name.clone(),
        mac: device.mac,
        collection: device.collection.clone(),
        kind: match device.kind {
            farm::DeviceKind::Production => api::DeviceKind::Production,
            farm::DeviceKind::Test => api::DeviceKind::Test,
            farm::DeviceKind::Maintenance => api::DeviceKind::Maintenance,
        },
        assigned_vdisks: device.vdisks.clone(),
        vdisks: view.vdisks_of(device).to_vec(),
        pins: numbers(&device.pins),
        disabled: device.disabled,
        not_booting: farm::rules::boot::why_not_booting(view, device, server, now()),
        sessions: sessions.get(&device.mac).copied().unwrap_or(0),
        created_ms: device.created.0,
    }
}

pub(super) fn collection(view: &FarmView, collection: &Collection) -> CollectionView {
    let devices = view.devices.values().filter(|device| device.collection == collection.name).count();
    let naming = &collection.naming;
    CollectionView {
        name: collection.name.clone(),
        vdisks: collection.vdisks.clone(),
        pins: numbers(&collection.pins),
        cache_limit_bytes: collection.write_cache.limit_bytes,
        when_full: match collection.write_cache.when_full {
            farm::WhenFull::RefuseWrites => api::WhenFull::RefuseWrites,
            farm::WhenFull::Reboot => api::WhenFull::Reboot,
        },
        boot_args: collection.boot_args.clone(),
        prefix: naming.prefix.clone(),
        digits: naming.digits,
        suffix: naming.suffix.clone(),
        next_name: naming.name(naming.next),
        auto_add: collection.auto_add,
        identity: collection.identity,
        devices: count(devices),
    }
}

pub(super) fn pending(pending: &PendingDevice) -> PendingView {
    PendingView {
        mac: pending.mac,
        first_seen_ms: pending.first_seen.0,
        last_seen_ms: pending.last_seen.0,
        rejected: pending.state == PendingState::Rejected,
    }
}

/// Pins as the API shows them.
fn numbers(pins: &BTreeMap<Name, VersionNumber>) -> BTreeMap<Name, u32> {
    pins.iter().map(|(vdisk, number)| (vdisk.clone(), number.0)).collect()
}

pub(super) fn vdisk(state: &AppState, view: &FarmView, vdisk: &VDisk) -> VDiskView {
    VDiskView {
        name: vdisk.name.clone(),
        store: vdisk.store.clone(),
        size_bytes: vdisk.size.bytes(),
        created_ms: vdisk.created.0,
        hooks: vdisk.hooks.clone(),
        checkpoint_s: vdisk.checkpoints.every_s,
        checkpoint_bytes: vdisk.checkpoints.bytes,
        production: vdisk.production.map(|number| number.0),
        pinned: vdisk.pinned.map(|number| number.0),
        versions: version_views::all(state, view, vdisk),
    }
}

pub(super) fn store(view: &FarmView, config: &Config, share: &Share) -> Result<StoreView, store::StoreError> {
    let space = share.store.space()?;
    let vdisks = view.vdisks.values().filter(|vdisk| vdisk.store == share.name).count();
    let marks = store_care::marks(config, &share.name, space.total);
    Ok(StoreView {
        name: share.name.clone(),
        path: share.path.display().to_string(),
        total_bytes: space.total,
        free_bytes: space.free,
        used_bytes: space.used,
        vdisks: count(vdisks),
        space: store_care::state_text(marks.next(SpaceState::Ample, space.free)).to_owned(),
        low_bytes: marks.low,
        high_bytes: marks.high,
        quarantined_chunks: share.store.quarantined_chunks(),
    })
}

pub(super) fn server(server: &Server, this: &Name) -> ServerView {
    ServerView {
        name: server.name.clone(),
        site: server.site.clone(),
        this: server.name == *this,
        created_ms: server.created.0,
        address: server.member.as_ref().map(|member| member.address.clone()),
        incarnation: server.member.as_ref().map(|member| member.incarnation),
    }
}

pub(super) fn event(id: &EventId, event: &Event) -> EventView {
    EventView {
        id: id.to_string(),
        at_ms: event.at.0,
        kind: event.kind.id().to_owned(),
        severity: match event.severity {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
        .to_owned(),
        subject: event.subject.clone(),
        message: event.message.clone(),
        server: event.server.clone(),
    }
}

pub(super) fn status(state: &AppState) -> StatusView {
    let view = state.farm.view();
    let unnamed = || state.server.clone();
    StatusView {
        server: state.server.clone(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        farm: view.farm.as_ref().map_or_else(unnamed, |farm| farm.name.clone()),
        uptime_s: state.uptime().as_secs(),
        revision: view.revision,
        vdisks: count(view.vdisks.len()),
        devices: count(view.devices.len()),
        collections: count(view.collections.len()),
        pending: count(view.pending.len()),
        sessions: sessions_by_mac(state).values().sum(),
        jobs: count(state.jobs.running()),
    }
}

fn count(number: usize) -> u32 {
    u32::try_from(number).unwrap_or(u32::MAX)
}
