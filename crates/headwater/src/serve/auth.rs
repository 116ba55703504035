//! Who may use the API: whoever has the admin's token.

use super::api_error::ApiError;
use super::state::{AppState, Shared};
use super::token;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use farm::{Actor, EventKind, NewEvent};
use std::net::SocketAddr;

/// The name of the farm's one token.
const ADMIN: &str = "admin";

/// Lets a request through that carries `Authorization: Bearer TOKEN` with the farm's admin token.
pub(super) async fn require_token(State(state): State<Shared>, mut request: Request, next: Next) -> Response {
    let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = sent.and_then(|value| value.strip_prefix("Bearer "));
    let view = state.farm.view();
    let allowed = token
        .zip(view.admin_token.as_ref())
        .is_some_and(|(token, stored)| token::matches(token.trim(), &stored.hash));
    match (allowed, token) {
        (true, _) => {
            let admin = model::Name::new(ADMIN).expect("a name");
            request.extensions_mut().insert(Actor::Token(admin));
            next.run(request).await
        }
        (false, Some(_)) => {
            note_refused(&state, &request);
            unauthorized("the token is not the farm's admin token")
        }
        (false, None) => unauthorized("the API needs a token"),
    }
}

/// Once in a while for each address: whoever tries tokens must be seen, and must not fill the log.
fn note_refused(state: &AppState, request: &Request) {
    let from = request.extensions().get::<ConnectInfo<SocketAddr>>().map(|from| from.0.ip().to_string());
    let from = from.unwrap_or_default();
    let message = format!("{from} used the API with a token that is not the farm's");
    state.farm.event(NewEvent::new(EventKind::ApiRefused, from, message));
}

fn unauthorized(message: &str) -> Response {
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        message,
        "the server wrote it to STATE_DIR/admin.token; set HEADWATER_TOKEN to its content",
    )
    .into_response()
}
