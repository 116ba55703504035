//! Which figures there are. docs/operations/metrics.md has a row for each.

use super::text::{Kind, Text};
use crate::serve::drafts::DraftKey;
use crate::serve::farm::now;
use crate::serve::sessions::{SessionInfo, SessionMode};
use crate::serve::state::{AppState, Shared};
use crate::serve::{store_care, stores::Share};
use api::{JobState, JobView};
use farm::{FarmView, PendingState, Severity, VersionState};
use model::AccessMode;
use std::collections::BTreeMap;
use std::sync::Arc;

/// All figures, as of now.
pub(super) async fn of(state: &Shared) -> String {
    state.observe_sessions().await;
    let mut text = Text::default();
    server(&mut text, state);
    streaming(&mut text, state).await;
    sessions(&mut text, &state.boot.sessions.list());
    farm(&mut text, &state.farm.view());
    versions(&mut text, state, &state.farm.view());
    events(&mut text, &state.farm.view());
    jobs(&mut text, &state.jobs.list());
    profiles(&mut text, state);
    let (state, mut text) = (state.clone(), text);
    let measured = tokio::task::spawn_blocking(move || {
        stores(&mut text, &state);
        text
    });
    measured.await.expect("measuring does not panic").finish()
}

fn server(text: &mut Text, state: &AppState) {
    let (server, version) = (state.server.as_str(), env!("CARGO_PKG_VERSION"));
    text.figure("info", Kind::Gauge, "1; the labels say which server and which program.")
        .sample(&[("server", server), ("version", version)], 1);
    let uptime = state.uptime().as_secs();
    text.one("uptime_seconds", Kind::Gauge, "Seconds since the server started.", uptime);
    let waits = u64::from(state.farm.audit_waits());
    text.one("audit_spooled", Kind::Gauge, "1 while records of the audit wait for the database.", waits);
}

async fn streaming(text: &mut Text, state: &AppState) {
    let stats = state.streaming_stats().await;
    let connections = stats.connections as u64;
    text.one("nbd_connections", Kind::Gauge, "Open NBD connections, handshakes included.", connections);
    let totals = stats.totals;
    text.one("nbd_requests_total", Kind::Counter, "Requests that were answered.", totals.requests);
    text.one("nbd_errors_total", Kind::Counter, "Requests that were answered with an error.", totals.errors);
    text.one("nbd_read_bytes_total", Kind::Counter, "Bytes sent to devices.", totals.read_bytes);
    text.one(
        "nbd_written_bytes_total",
        Kind::Counter,
        "Bytes that devices wrote here.",
        totals.written_bytes,
    );
    let help = "Reads that had to wait for a disk; the others came out of memory.";
    text.one("nbd_cache_misses_total", Kind::Counter, help, totals.misses);
}

fn sessions(text: &mut Text, sessions: &[SessionInfo]) {
    let writes = |session: &&SessionInfo| matches!(session.mode, SessionMode::Draft { .. });
    let writing = sessions.iter().filter(writes).count() as u64;
    let mut open = text.figure("sessions", Kind::Gauge, "Open sessions on this server, by what they do.");
    open.sample(&[("mode", "read")], sessions.len() as u64 - writing);
    open.sample(&[("mode", "write")], writing);
    let connected = sessions.iter().filter(|session| session.connections > 0).count() as u64;
    text.one("sessions_connected", Kind::Gauge, "Sessions with a connection.", connected);
    let reports = || sessions.iter().filter_map(|session| session.report.as_ref());
    let used = reports().map(|report| report.cache_used_bytes).sum();
    text.one("write_cache_used_bytes", Kind::Gauge, "What devices hold in their write caches.", used);
    let refused = reports().map(|report| report.cache_refused_writes).sum();
    let help = "Writes that full write caches of open sessions refused.";
    text.one("write_cache_refused_writes", Kind::Gauge, help, refused);
}

fn farm(text: &mut Text, view: &FarmView) {
    let mut one = |name, help, value: usize| text.one(name, Kind::Gauge, help, value as u64);
    one("servers", "Servers of the farm.", view.servers.len());
    one("devices", "Devices of the farm.", view.devices.len());
    one("collections", "Collections of the farm.", view.collections.len());
    one("vdisks", "vDisks of the farm.", view.vdisks.len());
    one("users", "Users of the farm.", view.users.len());
    let now = now();
    let valid = view.tokens.values().filter(|token| token.is_valid(now)).count();
    one("tokens", "Tokens and logins that have not expired.", valid);
    let waiting = |pending: &&farm::Stored<farm::PendingDevice>| pending.state == PendingState::Waiting;
    let waiting = view.pending.values().filter(waiting).count();
    one("pending_machines", "Unknown machines that wait to be accepted.", waiting);
    text.one("farm_revision", Kind::Counter, "The farm database's revision.", view.revision);
}

fn versions(text: &mut Text, state: &AppState, view: &FarmView) {
    let mut counts: BTreeMap<(&str, &str), u64> = BTreeMap::new();
    for version in view.versions.values() {
        *counts.entry((version.vdisk.as_str(), access_text(version.access))).or_default() += 1;
    }
    let mut figure = text.figure("versions", Kind::Gauge, "Versions by vDisk and access mode.");
    for ((vdisk, access), count) in counts {
        figure.sample(&[("vdisk", vdisk), ("access", access)], count);
    }
    let drafts = view.versions.values().filter(|version| version.state == VersionState::Draft).count();
    text.one("drafts", Kind::Gauge, "Versions that can still be written.", drafts as u64);
    let held = view.drafts.values().filter(|draft| draft.holder.is_some()).count();
    text.one("drafts_held", Kind::Gauge, "Drafts that a server holds the write lease of.", held as u64);
    let dirty = view.drafts.values().filter(|draft| draft.dirty.is_some()).count();
    let help = "Drafts with acknowledged bytes that no checkpoint has.";
    text.one("drafts_dirty", Kind::Gauge, help, dirty as u64);
    draft_lag(text, state, view);
    text.one("orphans", Kind::Gauge, "Discarded changes that are kept aside.", view.orphans.len() as u64);
}

fn profiles(text: &mut Text, state: &AppState) {
    let (view, profiles) = (state.farm.view(), &state.boot.profiles);
    let known = view.profiles.len() as u64;
    text.one("boot_profiles", Kind::Gauge, "Contents whose boots are known.", known);
    let noted = profiles.recording() as u64;
    text.one("boots_recorded", Kind::Gauge, "Boots that this server is taking note of.", noted);
    let help = "Bytes that were asked into the page cache because devices read them while they boot.";
    text.one("warmed_bytes_total", Kind::Counter, help, profiles.warmed_bytes());
}

/// What of each draft would be gone with one server.
fn draft_lag(text: &mut Text, state: &AppState, view: &FarmView) {
    let lag = |draft: &farm::Draft| crate::serve::drafts::alone_since(view, draft);
    let labels = |draft: &farm::Draft| (draft.vdisk.to_string(), draft.number.to_string());
    let help = "Seconds since when a draft has bytes that only one server has; 0 = none.";
    let mut figure = text.figure("draft_alone_seconds", Kind::Gauge, help);
    for draft in view.drafts.values() {
        let seconds = lag(draft).map_or(0, |since| now().since(since).as_secs());
        let (vdisk, version) = labels(draft);
        figure.sample(&[("vdisk", &vdisk), ("version", &version)], seconds);
    }
    let help = "Bytes of a draft that only this server has, at most; of drafts that are open here.";
    let mut figure = text.figure("draft_alone_bytes", Kind::Gauge, help);
    for draft in view.drafts.values() {
        let key = DraftKey::new(&draft.vdisk, draft.number);
        let Some(bytes) = state.boot.drafts.alone_bytes(&key) else { continue };
        let (vdisk, version) = labels(draft);
        figure.sample(&[("vdisk", &vdisk), ("version", &version)], lag(draft).map_or(0, |_| bytes));
    }
}

fn access_text(access: AccessMode) -> &'static str {
    match access {
        AccessMode::Maintenance => "maintenance",
        AccessMode::Test => "test",
        AccessMode::Pending => "pending",
        AccessMode::Production => "production",
        AccessMode::Retired => "retired",
    }
}

fn events(text: &mut Text, view: &FarmView) {
    let mut figure = text.figure("events", Kind::Gauge, "Events that are kept, by severity.");
    for severity in [Severity::Info, Severity::Warning, Severity::Error] {
        let count = view.events.values().filter(|event| event.severity == severity).count();
        figure.sample(&[("severity", severity.id())], count as u64);
    }
}

fn jobs(text: &mut Text, jobs: &[JobView]) {
    let mut figure = text.figure("jobs", Kind::Gauge, "Jobs since the server's start that it remembers.");
    let states = [
        (JobState::Running, "running"),
        (JobState::Cancelling, "cancelling"),
        (JobState::Done, "done"),
        (JobState::Failed, "failed"),
        (JobState::Cancelled, "cancelled"),
    ];
    for (state, name) in states {
        let count = jobs.iter().filter(|job| job.state == state).count();
        figure.sample(&[("state", name)], count as u64);
    }
}

/// Measures each share, which reads directories; one that cannot be measured has no samples.
fn stores(text: &mut Text, state: &AppState) {
    let measured: Vec<(&Arc<Share>, store::Space)> =
        state.stores.all().filter_map(|share| Some((share, share.store.space().ok()?))).collect();
    let mut bytes = text.figure("store_bytes", Kind::Gauge, "The file system of a store, and its files.");
    for (share, space) in &measured {
        let name = share.name.as_str();
        bytes.sample(&[("store", name), ("what", "total")], space.total);
        bytes.sample(&[("store", name), ("what", "free")], space.free);
        bytes.sample(&[("store", name), ("what", "used")], space.used);
    }
    let help = "With less than `low` free, space is low; with `high`, it is ample again.";
    let mut marks = text.figure("store_watermark_bytes", Kind::Gauge, help);
    for (share, space) in &measured {
        let (name, of_store) =
            (share.name.as_str(), store_care::marks(&state.config, &share.name, space.total));
        marks.sample(&[("store", name), ("mark", "reserve")], of_store.reserve);
        marks.sample(&[("store", name), ("mark", "low")], of_store.low);
        marks.sample(&[("store", name), ("mark", "high")], of_store.high);
    }
    let help = "Bytes that were copied from adopted files and did not travel.";
    let mut adopted = text.figure("store_adopted_bytes_total", Kind::Counter, help);
    for (share, _) in &measured {
        adopted.sample(&[("store", share.name.as_str())], share.store.taken_bytes());
    }
    let help = "Damaged chunks, which are never served.";
    let mut damaged = text.figure("store_quarantined_chunks", Kind::Gauge, help);
    for (share, _) in &measured {
        damaged.sample(&[("store", share.name.as_str())], share.store.quarantined_chunks());
    }
}
