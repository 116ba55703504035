//! `/v1/replication/settings` and `/v1/vdisks/{name}/replication`

use crate::serve::api_error::ApiError;
use crate::serve::farm::now;
use crate::serve::params;
use crate::serve::routes::Routes;
use crate::serve::state::{AppState, Shared};
use api::{
    Endpoint, Least, Method, PatchReplication, ReplicationSettingsView, ReplicationWindow, SteerReplication,
    paths,
};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use farm::replication::{clock, policy_at, slot_of, week};
use farm::rules::replication::{self as rules, ReplicationPatch, Steer};
use farm::{Refusal, RefusalKind, TrafficClass, Window};

/// The endpoints of the settings.
pub(super) fn routes(routes: Routes) -> Routes {
    let show =
        Endpoint::get(paths::REPLICATION_SETTINGS, "Shows what servers may pull from each other, and when");
    let patch = Endpoint::change(
        Method::Patch,
        paths::REPLICATION_SETTINGS,
        "replication.change",
        "Changes limits, the schedule, or pauses all replication",
    );
    let steer = Endpoint::change(
        Method::Post,
        paths::VDISK_REPLICATION,
        "replication.steer",
        "Pauses or resumes replication of a vDisk, or has it now or as scheduled",
    );
    let patch = patch.least(Least::FarmAdmin).takes::<PatchReplication>();
    let steer = steer.least(Least::SiteAdmin).takes::<SteerReplication>();
    routes
        .on(show.answers::<ReplicationSettingsView>(200), self::show)
        .on(patch.answers::<ReplicationSettingsView>(200), change)
        .on(steer.answers::<ReplicationSettingsView>(200), self::steer)
}

async fn show(State(state): State<Shared>) -> Json<ReplicationSettingsView> {
    Json(view_of(&state))
}

async fn change(
    State(state): State<Shared>,
    body: Result<Json<PatchReplication>, JsonRejection>,
) -> Result<Json<ReplicationSettingsView>, ApiError> {
    let Json(patch) = body?;
    state.farm.decide(|view, _| rules::change(view, &patch_of(&patch)?)).await?;
    Ok(Json(view_of(&state)))
}

async fn steer(
    State(state): State<Shared>,
    Path(name): Path<String>,
    body: Result<Json<SteerReplication>, JsonRejection>,
) -> Result<Json<ReplicationSettingsView>, ApiError> {
    let (name, Json(SteerReplication { steer })) = (params::name(&name)?, body?);
    let steer = match steer {
        api::Steer::Pause => Steer::Pause,
        api::Steer::Resume => Steer::Resume,
        api::Steer::Now => Steer::Now,
        api::Steer::AsScheduled => Steer::AsScheduled,
    };
    state.farm.decide(|view, _| rules::steer(view, &name, steer)).await?;
    Ok(Json(view_of(&state)))
}

fn view_of(state: &AppState) -> ReplicationSettingsView {
    let settings = rules::current(&state.farm.view());
    let window = |window: &Window| ReplicationWindow {
        days: window.days.iter().copied().collect(),
        from: clock(window.from),
        to: clock(window.to),
        bytes_per_s: window.bytes_per_s,
    };
    ReplicationSettingsView {
        limits: settings.limits.iter().map(|(class, bytes)| (class_view(*class), *bytes)).collect(),
        windows: settings.windows.iter().map(window).collect(),
        week: week(&settings),
        paused: settings.paused,
        changes_at_ms: policy_at(&settings, now()).until.map(|until| until.0),
        zone: settings.zone,
        paused_vdisks: settings.paused_vdisks.into_iter().collect(),
        now: settings.now,
    }
}

fn class_view(class: TrafficClass) -> api::TrafficClass {
    match class {
        TrafficClass::BootProfile => api::TrafficClass::BootProfile,
        TrafficClass::Checkpoint => api::TrafficClass::Checkpoint,
        TrafficClass::Bulk => api::TrafficClass::Bulk,
    }
}

fn patch_of(patch: &PatchReplication) -> Result<ReplicationPatch, Refusal> {
    let limit = patch.limit.map(|limit| {
        let class = match limit.class {
            api::TrafficClass::BootProfile => TrafficClass::BootProfile,
            api::TrafficClass::Checkpoint => TrafficClass::Checkpoint,
            api::TrafficClass::Bulk => TrafficClass::Bulk,
        };
        (class, limit.bytes_per_s)
    });
    Ok(ReplicationPatch {
        limit,
        zone: patch.zone.clone(),
        add_window: patch.add_window.as_ref().map(window_of).transpose()?,
        remove_window: patch.remove_window.as_ref().map(window_of).transpose()?,
        paused: patch.paused,
    })
}

fn window_of(window: &ReplicationWindow) -> Result<Window, Refusal> {
    let slot = |text: &str| {
        let text: String = text.chars().take(40).collect();
        let hint = "write it as 08:15: steps of 15 minutes, up to 24:00";
        slot_of(&text)
            .ok_or_else(|| Refusal::new(RefusalKind::Invalid, format!("{text:?} is no time of a day"), hint))
    };
    Ok(Window {
        days: window.days.iter().copied().collect(),
        from: slot(&window.from)?,
        to: slot(&window.to)?,
        bytes_per_s: window.bytes_per_s,
    })
}
