//! `/v1/hooks`: which hooks this server has, and what they would do to a version.

use super::api_error::{ApiError, split_hint};
use super::hooks::{HookError, HookKind, HookReport, ListedHook, Subject};
use super::params;
use super::routes::Routes;
use super::state::Shared;
use api::{Endpoint, HookReportView, HookView, Least, Method, TestHooks, paths};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use model::{Name, VersionNumber};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// The endpoints of hooks.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .on(Endpoint::get(paths::HOOKS, "Lists the hooks of the answering server").lists::<HookView>(), list)
        .on(
            Endpoint::change(
                Method::Post,
                paths::HOOK_TEST,
                "hook.test",
                "Runs hooks against a copy of a version and throws the copy away",
            )
            .least(Least::SiteAdmin)
            .takes::<TestHooks>()
            .lists::<HookReportView>(),
            test,
        )
}

async fn list(State(state): State<Shared>) -> Json<Vec<HookView>> {
    let hooks = state.hooks.clone();
    let listed = tokio::task::spawn_blocking(move || hooks.list()).await.expect("listing does not panic");
    Json(listed.into_iter().map(view).collect())
}

fn view(hook: ListedHook) -> HookView {
    let refused = hook.refused.map(|reason| split_hint(&reason).0.to_owned());
    HookView { name: hook.name, built_in: hook.kind == HookKind::BuiltIn, refused }
}

/// Answers when the hooks have ended. A client that goes away cancels them.
async fn test(
    State(state): State<Shared>,
    Path((vdisk, number)): Path<(String, u32)>,
    body: Result<Json<TestHooks>, JsonRejection>,
) -> Result<Json<Vec<HookReportView>>, ApiError> {
    let (vdisk, Json(request)) = (params::name(&vdisk)?, body?);
    let subject = Subject { vdisk, number: VersionNumber(number) };
    let view = state.farm.view();
    let record = view.vdisks.get(&subject.vdisk);
    let record = record.ok_or_else(|| missing("vDisk", &subject.vdisk, "vdisk list"))?;
    let version = view.versions.get(&(subject.vdisk.clone(), subject.number));
    let root = version.ok_or_else(|| no_version(&subject))?.root;
    let hooks = request.hooks.unwrap_or_else(|| record.hooks.clone());
    if hooks.is_empty() {
        let message = format!("vDisk {} has no hooks", subject.vdisk);
        return Err(ApiError::bad_request(message, "name one with --hook; `headwater hook list` shows them"));
    }
    let share = state.stores.find(Some(&record.store)).cloned();
    let share = share.ok_or_else(|| missing("store", &record.store, "store list"))?;
    let gone = CancelOnDrop::default();
    let (runner, cancelled) = (state.hooks.clone(), Arc::clone(&gone.0));
    let shutdown = state.shutdown.clone();
    let tested = tokio::task::spawn_blocking(move || {
        let cancelled = || cancelled.load(Ordering::Relaxed) || shutdown.has_begun();
        runner.test(&share.store, &subject, &root, &hooks, &cancelled)
    });
    let reports = tested.await.expect("hooks do not panic")?;
    Ok(Json(reports.into_iter().map(report).collect()))
}

fn missing(what: &str, name: &Name, list: &str) -> ApiError {
    ApiError::not_found(
        format!("there is no {what} {name}"),
        format!("`headwater {list}` shows what there is"),
    )
}

fn no_version(subject: &Subject) -> ApiError {
    let Subject { vdisk, number } = subject;
    ApiError::not_found(
        format!("vDisk {vdisk} has no version {number}"),
        format!("`headwater vdisk show {vdisk}` lists them"),
    )
}

/// Says stop to what nobody waits for any more.
#[derive(Default)]
struct CancelOnDrop(Arc<AtomicBool>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn report(report: HookReport) -> HookReportView {
    let HookReport { hook, lines, touched_chunks } = report;
    HookReportView { hook, lines, touched_chunks }
}

impl From<HookError> for ApiError {
    fn from(error: HookError) -> Self {
        let status = match error {
            HookError::Unknown { .. } => StatusCode::NOT_FOUND,
            HookError::TooMany(_) | HookError::Refused { .. } => StatusCode::UNPROCESSABLE_ENTITY,
            HookError::Busy { .. } => StatusCode::CONFLICT,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        Self::from_text(status, &error.to_string())
    }
}
