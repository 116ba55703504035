//! `/v1/tokens`: one's own; a farm admin's are everybody's.

use super::users::parse_role;
use super::{Caller, secret};
use crate::serve::api_error::ApiError;
use crate::serve::farm::now;
use crate::serve::routes::Routes;
use crate::serve::state::Shared;
use api::{Endpoint, GrantedToken, Least, Method, NewApiToken, TokenView, paths};
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use farm::rules::people::{self, NewToken};
use farm::{ApiToken, FarmView, Timestamp, TokenId, TokenKind};

pub(super) fn routes(routes: Routes) -> Routes {
    let create = Endpoint::change(
        Method::Post,
        paths::TOKENS,
        "token.create",
        "Makes a token for a program; of another user's only a farm admin",
    );
    let revoke = Endpoint::change(
        Method::Delete,
        paths::TOKEN,
        "token.revoke",
        "Revokes a token; of another user's only a farm admin",
    );
    let list = Endpoint::get(paths::TOKENS, "Lists one's own tokens, for a farm admin everybody's");
    routes
        .on(list.lists::<TokenView>(), self::list)
        .on(create.least(Least::ReadOnly).takes::<NewApiToken>().answers::<GrantedToken>(201), self::create)
        .on(revoke.least(Least::ReadOnly), self::revoke)
}

async fn list(State(state): State<Shared>, Extension(caller): Extension<Caller>) -> Json<Vec<TokenView>> {
    let (view, now) = (state.farm.view(), now());
    let shown = view.tokens.values().filter(|token| caller.own_or_farm_admin(&token.user).is_ok());
    Json(shown.filter_map(|token| token_view(&view, token, now)).collect())
}

async fn create(
    State(state): State<Shared>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<NewApiToken>, JsonRejection>,
) -> Result<(StatusCode, Json<GrantedToken>), ApiError> {
    let Json(NewApiToken { about, user, role, expires_s }) = body?;
    let user = match user {
        Some(user) => user,
        None => caller.is_a_user().map(|()| caller.name.clone())?,
    };
    caller.own_or_farm_admin(&user)?;
    let users = people::find(&state.farm.view(), &user)?.role.clone();
    let role = role.map(|role| parse_role(&role)).transpose()?;
    manages_tokens(&state.farm.view(), &caller)?;
    let lasts = |seconds: u64| Timestamp(now().0.saturating_add(seconds.saturating_mul(1000)));
    let (drawn, expires) = (secret::draw(), expires_s.map(lasts));
    let new = NewToken {
        id: drawn.id.clone(),
        user: user.clone(),
        kind: TokenKind::Program,
        about,
        role: role.clone(),
        hash: drawn.hash,
        expires,
    };
    state.farm.decide(|view, now| people::make_token(view, new.clone(), now)).await?;
    let granted = GrantedToken {
        token: drawn.text,
        id: drawn.id.to_string(),
        user,
        role: role.unwrap_or(users).to_string(),
        expires_ms: expires.map(|expires| expires.0),
    };
    Ok((StatusCode::CREATED, Json(granted)))
}

/// Refuses a token that may do less than its user: it would get at what it was not given.
fn manages_tokens(view: &FarmView, caller: &Caller) -> Result<(), ApiError> {
    match view.users.get(&caller.name) {
        Some(user) if user.role != caller.role => {
            let message =
                format!("this token is {} only, and manages no tokens of {}", caller.role, caller.name);
            Err(ApiError::new(StatusCode::FORBIDDEN, message, "log in with `headwater login`"))
        }
        _ => Ok(()),
    }
}

async fn revoke(
    State(state): State<Shared>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let unknown = || {
        ApiError::not_found(format!("there is no token {id:?} of yours"), "`headwater token list` shows them")
    };
    let id: TokenId = id.parse().map_err(|_| unknown())?;
    let view = state.farm.view();
    let token = view.tokens.get(&id).ok_or_else(unknown)?;
    // Others' ids are not told.
    caller.own_or_farm_admin(&token.user).map_err(|_| unknown())?;
    if caller.token.as_ref() != Some(&id) {
        manages_tokens(&view, &caller)?;
    }
    state.farm.decide(|view, _| people::revoke_token(view, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A token as it is listed; none where it proves nothing any more.
fn token_view(view: &FarmView, token: &ApiToken, now: Timestamp) -> Option<TokenView> {
    let role = people::role_of(view, token, now)?;
    Some(TokenView {
        id: token.id.to_string(),
        user: token.user.clone(),
        kind: match token.kind {
            TokenKind::Login => "login".to_owned(),
            TokenKind::Program => "program".to_owned(),
        },
        about: token.about.clone(),
        role: role.to_string(),
        created_ms: token.created.0,
        expires_ms: token.expires.map(|at| at.0),
        last_used_ms: token.last_used.map(|at| at.0),
    })
}
