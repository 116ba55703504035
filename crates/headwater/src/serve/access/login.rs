//! Logging in and out, and who one is.

use super::limit::{Limited, LoginLimit, Wait};
use super::password::{Hashing, MAX_BYTES, MIN_CHARACTERS, TooMany};
use super::{Caller, secret};
use crate::config::{AccessConfig, Network};
use crate::serve::api_error::ApiError;
use crate::serve::audit::{self, Asker};
use crate::serve::farm::now;
use crate::serve::flood::Flood;
use crate::serve::routes::Routes;
use crate::serve::state::{AppState, Shared};
use api::{ChangePassword, Endpoint, GrantedToken, Least, Login, Method, WhoAmI, paths};
use axum::extract::rejection::JsonRejection;
use axum::extract::{ConnectInfo, State};
use axum::http::StatusCode;
use axum::{Extension, Json};
use farm::rules::people::{self, NewToken};
use farm::{Actor, EventKind, NewEvent, Timestamp, TokenKind};
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// How many failed logins are recorded in a minute, whoever they come from.
const STRANGERS_RECORDS: u32 = 30;

/// What checking passwords needs, for all requests.
#[derive(Debug)]
pub(crate) struct Access {
    pub(super) hashing: Hashing,
    limit: Mutex<LoginLimit>,
    strangers: Flood,
    session: Duration,
    metrics_from: Vec<Network>,
}

impl Access {
    /// As the configuration says.
    pub(crate) fn new(config: &AccessConfig) -> Self {
        let (session, metrics_from) = (config.session(), config.metrics_from.clone());
        let strangers = Flood::new(STRANGERS_RECORDS, Duration::from_secs(60));
        Self { hashing: Hashing::default(), limit: Mutex::default(), strangers, session, metrics_from }
    }

    /// Whether one more refusal of a stranger is recorded: strangers must not push out what is.
    pub(in crate::serve) fn records_stranger(&self) -> bool {
        self.strangers.admits(Instant::now())
    }

    /// Whether metrics may be read from this address without a token.
    pub(super) fn is_open_to(&self, from: IpAddr) -> bool {
        self.metrics_from.iter().any(|network| network.contains(from))
    }

    fn limit(&self) -> std::sync::MutexGuard<'_, LoginLimit> {
        self.limit.lock().expect("no holder of this lock panics")
    }
}

pub(super) fn routes(routes: Routes) -> Routes {
    let post = |path, action, about| Endpoint::change(Method::Post, path, action, about);
    let login = post(paths::LOGIN, "login.begin", "Gives a token for a name and its password");
    let logout = post(paths::LOGOUT, "login.end", "Revokes the token that it is sent with");
    let password = post(paths::OWN_PASSWORD, "login.password", "Changes one's own password; all logins end");
    routes
        .on(login.least(Least::Anyone).takes::<Login>().answers::<GrantedToken>(201), self::login)
        .on(logout.least(Least::ReadOnly), self::logout)
        .on(Endpoint::get(paths::WHOAMI, "Who the token's holder is").answers::<WhoAmI>(200), whoami)
        .on(password.least(Least::ReadOnly).takes::<ChangePassword>(), change_password)
}

async fn login(
    State(state): State<Shared>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    body: Result<Json<Login>, JsonRejection>,
) -> Result<(StatusCode, Json<GrantedToken>), ApiError> {
    let Json(Login { name, password }) = body?;
    verify(&state, from, &name, password).await?;
    let (drawn, expires) = (secret::draw(), expires(&state));
    let new = NewToken {
        id: drawn.id.clone(),
        user: name.clone(),
        kind: TokenKind::Login,
        about: String::new(),
        role: None,
        hash: drawn.hash,
        expires: Some(expires),
    };
    audit::asked_by(Asker { actor: Actor::User(name.clone()), token: Some(drawn.id.clone()) });
    state.farm.decide(|view, now| people::make_token(view, new.clone(), now)).await?;
    let role = people::find(&state.farm.view(), &name)?.role.to_string();
    let (token, id) = (drawn.text, drawn.id.to_string());
    let granted = GrantedToken { token, id, user: name, role, expires_ms: Some(expires.0) };
    Ok((StatusCode::CREATED, Json(granted)))
}

fn expires(state: &AppState) -> Timestamp {
    Timestamp(now().0.saturating_add(state.access.session.as_millis() as u64))
}

/// Checks a password, as often as that is allowed; takes as long whether there is the user or not.
async fn verify(
    state: &AppState,
    from: SocketAddr,
    name: &model::Name,
    password: String,
) -> Result<(), ApiError> {
    let access = &state.access;
    let attempt = access.limit().attempt(from.ip(), name.as_str(), Instant::now());
    attempt.map_err(|wait| limited(state, from, name, &wait))?;
    let stored = state.farm.view().users.get(name).and_then(|user| user.password.clone());
    let short = password.len() <= MAX_BYTES;
    let password = if short { password } else { String::new() };
    match access.hashing.verify(password, stored).await {
        Ok(true) => {
            access.limit().succeeded(from.ip(), name.as_str());
            Ok(())
        }
        Ok(false) => Err(ApiError::new(
            StatusCode::UNAUTHORIZED,
            "name or password is wrong",
            "a farm admin can set a new password: `headwater user set-password USER`",
        )),
        Err(TooMany) => Err(too_many()),
    }
}

fn limited(state: &AppState, from: SocketAddr, name: &model::Name, wait: &Wait) -> ApiError {
    let seconds = wait.wait.as_secs() + 1;
    let (subject, message) = match wait.limited {
        Limited::Address => (from.ip().to_string(), format!("too many logins from {} failed", from.ip())),
        Limited::User => (name.to_string(), format!("too many logins as {name} failed")),
    };
    state.farm.event(NewEvent::new(EventKind::LoginLimited, subject, &message));
    let hint = format!("wait {seconds} seconds; logins that are open and tokens go on working");
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, message, hint)
}

/// The server is busy with other logins.
pub(super) fn too_many() -> ApiError {
    let message = "too many passwords are being checked";
    ApiError::new(StatusCode::TOO_MANY_REQUESTS, message, "try again in a second")
}

/// Refuses a password that is too short or too long.
pub(super) fn acceptable(password: &str) -> Result<(), ApiError> {
    let refused = |message: String| {
        Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, message, "take four words that nobody expects"))
    };
    if password.chars().count() < MIN_CHARACTERS {
        return refused(format!("a password has {MIN_CHARACTERS} characters at least"));
    }
    if password.len() > MAX_BYTES {
        return refused(format!("a password has {MAX_BYTES} bytes at most"));
    }
    Ok(())
}

async fn logout(
    State(state): State<Shared>,
    Extension(caller): Extension<Caller>,
) -> Result<StatusCode, ApiError> {
    caller.is_a_user()?;
    let id = caller.token.expect("a user's");
    state.farm.decide(|view, _| people::revoke_token(view, &id)).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn whoami(State(state): State<Shared>, Extension(caller): Extension<Caller>) -> Json<WhoAmI> {
    let Caller { name, role, token } = caller;
    let view = state.farm.view();
    let expires = token.as_ref().and_then(|id| view.tokens.get(id)?.expires);
    Json(WhoAmI {
        name,
        role: role.to_string(),
        token: token.map(|id| id.to_string()),
        expires_ms: expires.map(|expires| expires.0),
    })
}

async fn change_password(
    State(state): State<Shared>,
    ConnectInfo(from): ConnectInfo<SocketAddr>,
    Extension(caller): Extension<Caller>,
    body: Result<Json<ChangePassword>, JsonRejection>,
) -> Result<StatusCode, ApiError> {
    let Json(ChangePassword { old_password, new_password }) = body?;
    caller.is_a_user()?;
    acceptable(&new_password)?;
    verify(&state, from, &caller.name, old_password).await.map_err(|error| match error.status {
        // With 401 the command line would say that the token is wrong.
        StatusCode::UNAUTHORIZED => ApiError::new(
            StatusCode::FORBIDDEN,
            "the old password is wrong",
            "try again, or ask a farm admin",
        ),
        _ => error,
    })?;
    let hash = state.access.hashing.hash(new_password).await.map_err(|TooMany| too_many())?;
    state.farm.decide(|view, _| people::set_password(view, &caller.name, Some(hash.clone()))).await?;
    Ok(StatusCode::NO_CONTENT)
}
