//! `/v1/hooks`: which hooks this server has.

use super::api_error::split_hint;
use super::hooks::{HookKind, ListedHook};
use super::routes::Routes;
use super::state::Shared;
use api::{Endpoint, HookView, paths};
use axum::Json;
use axum::extract::State;

/// The endpoints of hooks.
pub(super) fn routes(routes: Routes) -> Routes {
    routes
        .on(Endpoint::get(paths::HOOKS, "Lists the hooks of the answering server").lists::<HookView>(), list)
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
