//! `/v1/users`

use super::login::{acceptable, too_many};
use super::password::TooMany;
use crate::serve::api_error::ApiError;
use crate::serve::farm::now;
use crate::serve::params;
use crate::serve::routes::Routes;
use crate::serve::state::{AppState, Shared};
use api::{Endpoint, Least, Method, NewUser, PatchUser, SetPassword, UserView, paths};
use axum::Json;
use axum::extract::rejection::JsonRejection;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use farm::rules::people;
use farm::{FarmView, Role, TokenKind, User};

pub(super) fn routes(routes: Routes) -> Routes {
    let create = Endpoint::change(Method::Post, paths::USERS, "user.create", "Makes a user");
    let role = Endpoint::change(Method::Patch, paths::USER, "user.set-role", "Gives a user another role");
    let delete =
        Endpoint::change(Method::Delete, paths::USER, "user.delete", "Deletes a user and the tokens");
    let password = Endpoint::change(
        Method::Post,
        paths::USER_PASSWORD,
        "user.set-password",
        "Sets a user's password, or takes it away; all logins of the user end",
    );
    let list = Endpoint::get(paths::USERS, "Lists the users").least(Least::FarmAdmin);
    let show = Endpoint::get(paths::USER, "Shows a user").least(Least::FarmAdmin);
    routes
        .on(list.lists::<UserView>(), self::list)
        .on(show.answers::<UserView>(200), self::show)
        .on(create.least(Least::FarmAdmin).takes::<NewUser>().answers::<UserView>(201), self::create)
        .on(role.least(Least::FarmAdmin).takes::<PatchUser>().answers::<UserView>(200), set_role)
        .on(password.least(Least::FarmAdmin).takes::<SetPassword>(), set_password)
        .on(delete.least(Least::FarmAdmin), self::delete)
}

async fn list(State(state): State<Shared>) -> Json<Vec<UserView>> {
    let view = state.farm.view();
    Json(view.users.values().map(|user| user_view(&view, user)).collect())
}

async fn show(State(state): State<Shared>, Path(name): Path<String>) -> Result<Json<UserView>, ApiError> {
    shown(&state, &params::name(&name)?)
}

async fn create(
    State(state): State<Shared>,
    body: Result<Json<NewUser>, JsonRejection>,
) -> Result<(StatusCode, Json<UserView>), ApiError> {
    let Json(NewUser { name, role, password }) = body?;
    let role = parse_role(&role)?;
    let password = hashed(&state, password).await?;
    let new = people::NewUser { name: name.clone(), role, password };
    state.farm.decide(|view, now| people::create(view, new.clone(), now)).await?;
    Ok((StatusCode::CREATED, shown(&state, &name)?))
}

async fn set_role(
    State(state): State<Shared>,
    Path(name): Path<String>,
    body: Result<Json<PatchUser>, JsonRejection>,
) -> Result<Json<UserView>, ApiError> {
    let (name, Json(PatchUser { role })) = (params::name(&name)?, body?);
    let role = parse_role(&role)?;
    state.farm.decide(|view, _| people::set_role(view, &name, role.clone())).await?;
    shown(&state, &name)
}

async fn set_password(
    State(state): State<Shared>,
    Path(name): Path<String>,
    body: Result<Json<SetPassword>, JsonRejection>,
) -> Result<StatusCode, ApiError> {
    let (name, Json(SetPassword { password })) = (params::name(&name)?, body?);
    let hash = hashed(&state, password).await?;
    state.farm.decide(|view, _| people::set_password(view, &name, hash.clone())).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn delete(State(state): State<Shared>, Path(name): Path<String>) -> Result<StatusCode, ApiError> {
    let name = params::name(&name)?;
    state.farm.decide(|view, _| people::delete(view, &name)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn hashed(state: &AppState, password: Option<String>) -> Result<Option<String>, ApiError> {
    let Some(password) = password else { return Ok(None) };
    acceptable(&password)?;
    state.access.hashing.hash(password).await.map(Some).map_err(|TooMany| too_many())
}

/// A role out of a request.
pub(super) fn parse_role(text: &str) -> Result<Role, ApiError> {
    let wrong =
        |message: String| ApiError::bad_request(message, "docs/operations/access.md says what each may do");
    text.parse().map_err(wrong)
}

fn shown(state: &AppState, name: &model::Name) -> Result<Json<UserView>, ApiError> {
    let view = state.farm.view();
    Ok(Json(user_view(&view, people::find(&view, name)?)))
}

fn user_view(view: &FarmView, user: &User) -> UserView {
    let now = now();
    let count = |kind| {
        let valid = view.tokens_of(&user.name).filter(|token| token.kind == kind && token.is_valid(now));
        valid.count() as u32
    };
    UserView {
        name: user.name.clone(),
        role: user.role.to_string(),
        has_password: user.password.is_some(),
        logins: count(TokenKind::Login),
        tokens: count(TokenKind::Program),
        created_ms: user.created.0,
    }
}
