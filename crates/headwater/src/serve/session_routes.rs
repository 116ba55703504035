//! The REST side of sessions: who streams what, and sessions for admins and programs.

use super::api_error::ApiError;
use super::drafts::DraftKey;
use super::routes::Routes;
use super::sessions::{Holder, SessionInfo, SessionMode, SessionSpec, TimelineStep, Token};
use super::state::{AppState, Shared};
use api::{Endpoint, Least, Method, NewSession, OpenedSession, SessionView, WriteCacheView, paths};
use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use disk::{BlockIo, RamCache};
use farm::{EventKind, FarmView, NewEvent, Version};
use model::VersionNumber;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

/// The endpoints of sessions.
pub(super) fn routes(routes: Routes) -> Routes {
    let open =
        Endpoint::change(Method::Post, paths::SESSIONS, "session.open", "Opens a session on a version");
    let close = Endpoint::change(Method::Delete, paths::SESSION, "session.close", "Ends a session");
    routes
        .on(Endpoint::get(paths::SESSIONS, "Lists the sessions of the server").lists::<SessionView>(), list)
        .on(Endpoint::get(paths::SESSION, "Shows a session").answers::<SessionView>(200), show)
        .on(open.least(Least::SiteAdmin).takes::<NewSession>().answers::<OpenedSession>(201), self::open)
        .on(close.least(Least::DeviceOperator), self::close)
}

/// Every session, oldest first.
pub(super) async fn list(State(state): State<Shared>) -> Json<Vec<SessionView>> {
    state.observe_sessions().await;
    Json(state.boot.sessions.list().into_iter().map(view).collect())
}

/// One session by its id.
pub(super) async fn show(
    State(state): State<Shared>,
    Path(id): Path<String>,
) -> Result<Json<SessionView>, ApiError> {
    state.observe_sessions().await;
    let found = state.boot.sessions.list().into_iter().find(|info| info.id == id);
    found.map(|info| Json(view(info))).ok_or_else(|| no_session(&id))
}

/// Opens a session for whoever holds the admin's token.
pub(super) async fn open(
    State(state): State<Shared>,
    headers: HeaderMap,
    Json(new): Json<NewSession>,
) -> Result<(StatusCode, Json<OpenedSession>), ApiError> {
    let view = state.farm.view();
    let (version, store) = wanted(&view, &new)?;
    if new.write {
        return open_draft(&state, &headers, &version, store).await;
    }
    let failed = |error: &dyn std::fmt::Display| {
        ApiError::from_text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
    };
    let (boot, root) = (&state.boot, version.root);
    let below = boot.open_disk(&store, root).await.map_err(|error| failed(&error))?;
    let below = if new.record_boot { boot.profiles.recorded(root, below) } else { below };
    let (disk, mode): (Arc<dyn BlockIo>, _) = match new.scratch_bytes {
        None => (below, SessionMode::Shared),
        Some(limit) => (Arc::new(RamCache::new(below, scratch(limit)?)), SessionMode::Scratch),
    };
    let spec = SessionSpec {
        holder: Holder::Admin,
        store,
        vdisk: version.vdisk.clone(),
        version: version.number,
        root,
        size: version.size,
        write_cache: None,
        mode,
        disk: Some(disk),
    };
    let token = boot.open(spec, Vec::new(), SystemTime::now()).await.map_err(|error| failed(&error))?;
    Ok(opened(&state, &headers, &token))
}

/// Opens a draft for writing; refused where somebody holds it.
async fn open_draft(
    state: &AppState,
    headers: &HeaderMap,
    version: &Version,
    store: model::Name,
) -> Result<(StatusCode, Json<OpenedSession>), ApiError> {
    let (boot, key) = (&state.boot, DraftKey::new(&version.vdisk, version.number));
    let attached = boot.drafts.attach(&key, None).await?;
    let epoch = attached.epoch;
    let spec = SessionSpec {
        holder: Holder::Admin,
        store,
        vdisk: key.vdisk.clone(),
        version: key.number,
        root: version.root,
        size: version.size,
        write_cache: None,
        mode: SessionMode::Draft { epoch: Some(epoch) },
        disk: Some(attached.disk),
    };
    match boot.open(spec, Vec::new(), SystemTime::now()).await {
        Ok(token) => Ok(opened(state, headers, &token)),
        Err(error) => {
            boot.drafts.detach(&key, epoch).await?;
            Err(ApiError::from_text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string()))
        }
    }
}

fn opened(state: &AppState, headers: &HeaderMap, token: &Token) -> (StatusCode, Json<OpenedSession>) {
    let id = state.boot.sessions.find(token).map(|info| info.id).unwrap_or_default();
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let uri = format!("nbd://{}/{}", state.boot.reached(host).nbd, token.as_str());
    (StatusCode::CREATED, Json(OpenedSession { id, uri }))
}

/// Refuses what would leave the server without memory for everything else.
fn scratch(limit_bytes: u64) -> Result<u64, ApiError> {
    let most = rustix::system::sysinfo();
    let most = most.totalram as u64 * u64::from(most.mem_unit) / 2;
    if limit_bytes > 0 && limit_bytes <= most {
        return Ok(limit_bytes);
    }
    let message = format!("{limit_bytes} bytes of RAM for writes cannot be had");
    Err(ApiError::bad_request(message, format!("ask for 1 to {most}, half of the server's memory")))
}

/// Ends a session and its connections.
pub(super) async fn close(
    State(state): State<Shared>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let hash = state.boot.sessions.by_id(&id).ok_or_else(|| no_session(&id))?;
    let closed = state.boot.sessions.close(hash).ok_or_else(|| no_session(&id))?;
    if let Some(token) = &closed.token {
        state.close_connections(token).await;
    }
    let info = closed.info;
    state.boot.give_back(&info).await;
    let holder = holder_text(&info);
    let message =
        format!("an admin closed the session of {holder} on {} version {}", info.vdisk, info.version);
    state.farm.event(NewEvent::new(EventKind::SessionClosed, holder, message));
    Ok(StatusCode::NO_CONTENT)
}

/// Who holds a session, for people.
pub(super) fn holder_text(info: &SessionInfo) -> String {
    match &info.holder {
        Holder::Device { name, .. } => name.to_string(),
        Holder::Admin => format!("an admin ({})", info.id),
    }
}

fn wanted(view: &FarmView, new: &NewSession) -> Result<(Version, model::Name), ApiError> {
    let vdisk = view.vdisks.get(&new.vdisk).ok_or_else(|| {
        ApiError::not_found(
            format!("there is no vDisk {}", new.vdisk),
            "`headwater vdisk list` shows what there is",
        )
    })?;
    let version = match new.version {
        Some(number) => view.versions.get(&(new.vdisk.clone(), VersionNumber(number))),
        None => view.production_of(&new.vdisk),
    };
    let version = version.ok_or_else(|| {
        let what =
            new.version.map_or("version in production".to_owned(), |number| format!("version {number}"));
        let hint = format!("`headwater vdisk show {}` shows its versions", new.vdisk);
        ApiError::not_found(format!("vDisk {} has no {what}", new.vdisk), &hint)
    })?;
    Ok((version.record.clone(), vdisk.store.clone()))
}

pub(super) fn view(info: SessionInfo) -> SessionView {
    let (device, mac) = match info.holder {
        Holder::Device { name, mac } => (Some(name), Some(mac)),
        Holder::Admin => (None, None),
    };
    let cache = info.report.as_ref().map(|report| WriteCacheView {
        used_bytes: report.cache_used_bytes,
        limit_bytes: report.cache_limit_bytes,
        refused_writes: report.cache_refused_writes,
    });
    SessionView {
        id: info.id,
        device,
        mac,
        vdisk: info.vdisk,
        version: info.version.0,
        root: info.root,
        writes: matches!(info.mode, SessionMode::Draft { .. }),
        size_bytes: info.size.bytes(),
        opened_ms: milliseconds(info.opened),
        last_seen_ms: milliseconds(info.last_seen),
        connections: info.connections,
        peer: info.peer.map(|peer| peer.to_string()),
        write_cache: cache,
        read_bytes: info.report.as_ref().map(|report| report.read_bytes),
        written_bytes: info.report.as_ref().map(|report| report.written_bytes),
        timeline: info.timeline.into_iter().map(step).collect(),
    }
}

fn step(TimelineStep { label, at }: TimelineStep) -> api::TimelineStep {
    api::TimelineStep { label: label.to_owned(), at_ms: milliseconds(at) }
}

fn milliseconds(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis() as u64
}

fn no_session(id: &str) -> ApiError {
    ApiError::not_found(format!("there is no session {id}"), "`headwater session list` shows what there is")
}

impl AppState {
    /// Brings the sessions' connections up to date before they are shown.
    pub(super) async fn observe_sessions(&self) {
        if let Some(services) = self.services.lock().await.as_ref() {
            services.observe(&self.boot.sessions);
        }
    }

    /// What has been streamed so far; nothing once the stop has begun.
    pub(super) async fn streaming_stats(&self) -> streaming::ServerStats {
        self.services.lock().await.as_ref().map(super::services::Services::stats).unwrap_or_default()
    }

    async fn close_connections(&self, token: &super::sessions::Token) {
        if let Some(services) = self.services.lock().await.as_ref() {
            services.close(token);
        }
    }
}
