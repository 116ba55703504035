//! `/v1/replication`, `/v1/replication/backlog` and `/v1/replication/test`.

use super::{Replication, propagation};
use crate::serve::api_error::ApiError;
use crate::serve::routes::Routes;
use crate::serve::state::{AppState, Shared};
use api::{
    ArrivalView, BacklogReason, BacklogView, Endpoint, Least, Method, ReplicationView, TestPropagation, paths,
};
use axum::Json;
use axum::extract::State;
use axum::extract::rejection::JsonRejection;
use farm::FarmView;
use mesh::{Backlog, Reason};

/// The endpoints that say what is still to come.
pub(in crate::serve) fn routes(routes: Routes) -> Routes {
    let status = Endpoint::get(paths::REPLICATION, "How replication to the answering server stands");
    let backlog =
        Endpoint::get(paths::REPLICATION_BACKLOG, "Lists the versions that are not all here, and why");
    let test = Endpoint::change(
        Method::Post,
        paths::REPLICATION_TEST,
        "replication.test",
        "Lets a small content out and tells when each server has it",
    );
    super::settings::routes(routes)
        .on(test.least(Least::SiteAdmin).takes::<TestPropagation>().lists::<ArrivalView>(), self::test)
        .on(status.answers::<ReplicationView>(200), self::status)
        .on(backlog.lists::<BacklogView>(), self::backlog)
}

async fn status(State(state): State<Shared>) -> Json<ReplicationView> {
    Json(standing(&state))
}

/// How replication to this server stands.
pub(in crate::serve) fn standing(state: &AppState) -> ReplicationView {
    let backlog = all(state);
    let of_us = |store: &model::Name| state.stores.find(Some(store)).is_some();
    let view = state.farm.view();
    let versions = view.versions.values();
    let versions =
        versions.filter(|version| view.vdisks.get(&version.vdisk).is_some_and(|v| of_us(&v.store)));
    let lacking = backlog.iter().filter(|lacking| lacking.version.is_some()).count();
    ReplicationView {
        server: state.server.clone(),
        peers: state.replication.connected(),
        complete_versions: versions.count().saturating_sub(lacking) as u32,
        lacking_versions: lacking as u32,
        missing_bytes: backlog.iter().filter_map(|lacking| lacking.missing_bytes).sum(),
        bytes_per_s: backlog.iter().map(|lacking| lacking.bytes_per_s).sum(),
    }
}

async fn test(
    State(state): State<Shared>,
    body: Result<Json<TestPropagation>, JsonRejection>,
) -> Result<Json<Vec<ArrivalView>>, ApiError> {
    let Json(TestPropagation { store, patience_s }) = body?;
    Ok(Json(propagation::test(&state, store.as_ref(), patience_s).await?))
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

pub(super) fn reason(reason: Option<Reason>) -> BacklogReason {
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
