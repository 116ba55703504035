//! `/v1/replication` and `/v1/replication/backlog`.

use super::Replication;
use crate::serve::routes::Routes;
use crate::serve::state::{AppState, Shared};
use api::{BacklogReason, BacklogView, Endpoint, ReplicationView, paths};
use axum::Json;
use axum::extract::State;
use farm::FarmView;
use mesh::{Backlog, Reason};

/// The endpoints that say what is still to come.
pub(in crate::serve) fn routes(routes: Routes) -> Routes {
    let status = Endpoint::get(paths::REPLICATION, "How replication to the answering server stands");
    let backlog =
        Endpoint::get(paths::REPLICATION_BACKLOG, "Lists the versions that are not all here, and why");
    routes
        .on(status.answers::<ReplicationView>(200), self::status)
        .on(backlog.lists::<BacklogView>(), self::backlog)
}

async fn status(State(state): State<Shared>) -> Json<ReplicationView> {
    let backlog = all(&state);
    let of_us = |store: &model::Name| state.stores.find(Some(store)).is_some();
    let view = state.farm.view();
    let versions = view.versions.values();
    let versions =
        versions.filter(|version| view.vdisks.get(&version.vdisk).is_some_and(|v| of_us(&v.store)));
    let lacking = backlog.iter().filter(|lacking| lacking.version.is_some()).count();
    Json(ReplicationView {
        server: state.server.clone(),
        peers: state.replication.connected(),
        complete_versions: versions.count().saturating_sub(lacking) as u32,
        lacking_versions: lacking as u32,
        missing_bytes: backlog.iter().filter_map(|lacking| lacking.missing_bytes).sum(),
        bytes_per_s: backlog.iter().map(|lacking| lacking.bytes_per_s).sum(),
    })
}

async fn backlog(State(state): State<Shared>) -> Json<Vec<BacklogView>> {
    Json(all(&state))
}

fn all(state: &AppState) -> Vec<BacklogView> {
    let view = state.farm.view();
    let Replication { puller, .. } = &*state.replication;
    puller.backlog().into_iter().map(|backlog| row(state, &view, backlog)).collect()
}

fn row(state: &AppState, view: &FarmView, backlog: Backlog) -> BacklogView {
    let version = view.versions.values().find(|version| version.root == backlog.root);
    let store = version.and_then(|version| view.vdisks.get(&version.vdisk)).map(|vdisk| vdisk.store.clone());
    let eta_s = backlog.eta().map(|eta| eta.as_secs());
    BacklogView {
        server: state.server.clone(),
        store,
        vdisk: version.map(|version| version.vdisk.clone()),
        version: version.map(|version| version.number),
        root: backlog.root,
        missing_chunks: backlog.missing_chunks,
        missing_bytes: backlog.missing_bytes,
        bytes_per_s: backlog.bytes_per_s,
        eta_s,
        reason: reason(backlog.reason),
        sources: backlog.sources,
    }
}

fn reason(reason: Option<Reason>) -> BacklogReason {
    let Some(reason) = reason else { return BacklogReason::Opening };
    match reason {
        Reason::Working => BacklogReason::Coming,
        Reason::Paused => BacklogReason::Paused,
        Reason::Copying => BacklogReason::Copying,
        Reason::DiskFull => BacklogReason::NoRoom,
        Reason::ScheduleClosed => BacklogReason::ScheduleClosed,
        Reason::Limit => BacklogReason::Limit,
        Reason::PeerDown => BacklogReason::PeerDown,
        Reason::Failing => BacklogReason::Failing,
        Reason::NoSource => BacklogReason::NoSource,
    }
}
