//! Who may use the API: whoever has the admin's token.

use super::api_error::ApiError;
use super::state::Shared;
use super::token;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

/// Lets a request through that carries `Authorization: Bearer TOKEN` with the farm's admin token.
pub(super) async fn require_token(State(state): State<Shared>, request: Request, next: Next) -> Response {
    let sent = request.headers().get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = sent.and_then(|value| value.strip_prefix("Bearer "));
    let view = state.farm.view();
    let allowed = token
        .zip(view.admin_token.as_ref())
        .is_some_and(|(token, stored)| token::matches(token.trim(), &stored.hash));
    match (allowed, token) {
        (true, _) => next.run(request).await,
        (false, Some(_)) => unauthorized("the token is not the farm's admin token"),
        (false, None) => unauthorized("the API needs a token"),
    }
}

fn unauthorized(message: &str) -> Response {
    ApiError::new(
        StatusCode::UNAUTHORIZED,
        message,
        "the server wrote it to STATE_DIR/admin.token; set HEADWATER_TOKEN to its content",
    )
    .into_response()
}
