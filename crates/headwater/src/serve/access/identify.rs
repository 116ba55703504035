//! The outer layer: finds out who asks, and stops whoever must prove it and does not.

use super::check::Needs;
use super::{Caller, secret, token_file};
use crate::serve::api_error::ApiError;
use crate::serve::audit::Asker;
use crate::serve::farm::now;
use crate::serve::state::{AppState, Shared};
use api::{Least, paths};
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use farm::rules::people::{note_used, role_of};
use farm::{Actor, EventKind, FarmView, NewEvent, Timestamp, TokenId};
use std::net::SocketAddr;
use std::sync::Arc;

/// Notes who asks; answers 401 where that must be proved and is not.
pub(in crate::serve) async fn identify(
    State((state, needs)): State<(Shared, Arc<Needs>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = sent.and_then(|value| value.strip_prefix("Bearer ")).map(|token| token.trim().to_owned());
    let caller = token.as_deref().and_then(|token| known(&state.farm.view(), token, now()));
    let caller = caller.or_else(|| reads_metrics(&state, &request));
    let asker = match &caller {
        Some(caller) => Asker { actor: Actor::User(caller.name.clone()), token: caller.token.clone() },
        None => Asker { actor: Actor::Nobody, token: None },
    };
    match caller {
        Some(caller) => {
            note_use(&state, caller.token.as_ref());
            request.extensions_mut().insert(caller);
        }
        None if needs.of(&request) == Some(Least::Anyone) => (),
        None => return refuse(&state, &request, token.is_some()),
    }
    request.extensions_mut().insert(asker);
    next.run(request).await
}

/// Whoever reads `/metrics` from a network that may.
fn reads_metrics(state: &AppState, request: &Request) -> Option<Caller> {
    let path = request.extensions().get::<MatchedPath>()?;
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>()?.0.ip();
    let open = path.as_str() == paths::METRICS && state.access.is_open_to(from);
    open.then(Caller::reader_of_metrics)
}

/// Who has this token; none where it proves nothing.
fn known(view: &FarmView, token: &str, now: Timestamp) -> Option<Caller> {
    let Some(id) = secret::id_of(token) else { return has_token_file(view, token) };
    let stored = view.tokens.get(&id)?;
    let matches = token_file::matches(token, &stored.hash);
    let role = role_of(view, stored, now).filter(|_| matches)?;
    Some(Caller { name: stored.user.clone(), role, token: Some(id) })
}

/// The token file of a server that still belongs to the farm.
fn has_token_file(view: &FarmView, token: &str) -> Option<Caller> {
    let of_the_farm = view.admin_tokens.iter().filter(|(server, _)| view.servers.contains_key(*server));
    // All of them, whichever matches: how long it takes tells nothing.
    let matching = of_the_farm.filter(|(_, stored)| token_file::matches(token, &stored.hash)).count();
    (matching > 0).then(Caller::admin)
}

/// Notes once an hour that a token is in use; nobody waits for it.
fn note_use(state: &Shared, token: Option<&TokenId>) {
    let due = |id: &&TokenId| !note_used(&state.farm.view(), id, now()).writes.is_empty();
    let Some(id) = token.filter(due).cloned() else { return };
    let farm = Arc::clone(&state.farm);
    tokio::spawn(async move {
        let noted = farm.decide(|view, now| Ok(note_used(view, &id, now))).await;
        // The next request tries again.
        drop(noted);
    });
}

fn refuse(state: &AppState, request: &Request, is_wrong: bool) -> Response {
    if !is_wrong {
        return unauthorized("the API needs a token", "log in with `headwater login`");
    }
    note_refused(state, request);
    unauthorized(
        "the token is wrong, has expired or was revoked",
        "log in with `headwater login`, or take the token of this server: STATE_DIR/admin.token",
    )
}

/// Once in a while for each address: whoever tries tokens must be seen, and must not fill the log.
fn note_refused(state: &AppState, request: &Request) {
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|from| from.0.ip().to_string());
    let from = from.unwrap_or_default();
    let message = format!("{from} used the API with a token that is not the farm's");
    state.farm.event(NewEvent::new(EventKind::ApiRefused, from, message));
}

/// 401 with the scheme that is expected (RFC 9110, 11.6.1).
fn unauthorized(message: &str, hint: &str) -> Response {
    let mut response = ApiError::new(StatusCode::UNAUTHORIZED, message, hint).into_response();
    response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    response
}
