//! `/v1/farm/...` and taking servers out.

use super::first::{self, Left};
use super::{authority, clock};
use crate::join_token::JoinTokenText;
use crate::serve::access::token_file;
use crate::serve::api_error::ApiError;
use crate::serve::farm::{FarmError, now};
use crate::serve::routes::Routes;
use crate::serve::state::Shared;
use api::{
    Endpoint, GrantedJoinToken, InitFarm, InitialisedFarm, Least, Method, NewJoinToken, RemoveServer, paths,
};
use axum::Json;
use axum::extract::rejection::{JsonRejection, QueryRejection};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use farm::rules::membership::{self, Joining};
use farm::{FarmAuthority, FormatRevision, Refusal, Timestamp};
use mesh::identity::{Authority, IdentityError, KeyRequest, Serial};
use model::Name;
use protocol::mesh::FarmId;
use std::sync::Arc;

/// How long a join token is good for where nobody says.
const TOKEN_S: u64 = 3600;
/// A farm's servers in one token: the first that answers will do.
const MAX_ADDRESSES: usize = 4;

pub(in crate::serve) fn routes(routes: Routes) -> Routes {
    let init = Endpoint::change(
        Method::Post,
        paths::FARM_INIT,
        "farm.init",
        "Makes the farm's certificate authority, once; this server is its first member",
    );
    let token = Endpoint::change(
        Method::Post,
        paths::FARM_TOKENS,
        "farm.token",
        "Makes a token with which one server joins, once",
    );
    let remove =
        Endpoint::change(Method::Delete, paths::SERVER, "server.remove", "Takes a server out of the farm");
    let admin = Least::FarmAdmin;
    routes
        .on(init.least(admin).takes::<InitFarm>().answers::<InitialisedFarm>(201), self::init)
        .on(token.least(admin).takes::<NewJoinToken>().answers::<GrantedJoinToken>(201), self::token)
        .on(remove.least(admin).asks::<RemoveServer>(), self::remove)
}

async fn init(
    State(state): State<Shared>,
    body: Result<Json<InitFarm>, JsonRejection>,
) -> Result<(StatusCode, Json<InitialisedFarm>), ApiError> {
    let Json(InitFarm { address }) = body?;
    let state_dir = state.config.server.state_dir.clone();
    state.farm.catch_up().await?;
    if first::resume(&state_dir, &state.farm).map_err(broken)? == Left::Finished {
        return initialised(&state).await;
    }
    let mut id = [0; 16];
    getrandom::fill(&mut id).expect("the system's randomness is available");
    let farm = FarmId(id);
    let authority = Authority::make(farm, clock()).map_err(failed)?;
    let (key, serial) = (KeyRequest::make(&state.server).map_err(failed)?, Serial::random());
    let certificate = authority.sign(key.request(), &state.server, &serial, clock()).map_err(failed)?;
    let identity = key.certified(authority.certificate(), &certificate).map_err(failed)?;
    let record = FarmAuthority {
        revision: FormatRevision,
        farm: farm.to_string(),
        certificate: authority.certificate().to_owned(),
        key: authority.key().to_owned(),
        created: now(),
    };
    let first = Joining { server: state.server.clone(), address, serial: serial.to_string() };
    let decided = |view: &farm::FarmView, now| membership::init(view, record.clone(), first.clone(), now);
    first::stage(&state_dir, &identity).map_err(broken)?;
    match state.farm.decide(decided).await {
        Ok(()) => first::finish(&state_dir).map_err(broken)?,
        Err(error) => {
            // Of what the database did not answer nothing is known: the next run finds out.
            if matches!(error, FarmError::Refused(_)) {
                first::give_up(&state_dir);
            }
            return Err(error.into());
        }
    }
    initialised(&state).await
}

/// Opens the links of a server that has become the first member.
async fn initialised(state: &Shared) -> Result<(StatusCode, Json<InitialisedFarm>), ApiError> {
    super::start(&Arc::clone(state)).await.map_err(broken)?;
    let view = state.farm.view();
    let farm = super::farm_id(&view).map_err(broken)?.to_string();
    let fingerprint = authority(&view).map_err(failed)?.fingerprint().to_string();
    Ok((StatusCode::CREATED, Json(InitialisedFarm { farm, fingerprint })))
}

fn broken(error: anyhow::Error) -> ApiError {
    ApiError::from_text(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}"))
}

async fn token(
    State(state): State<Shared>,
    body: Result<Json<NewJoinToken>, JsonRejection>,
) -> Result<(StatusCode, Json<GrantedJoinToken>), ApiError> {
    let Json(NewJoinToken { expires_s }) = body?;
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the system's randomness is available");
    let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    let expires = Timestamp(now().0.saturating_add(expires_s.unwrap_or(TOKEN_S).saturating_mul(1000)));
    let hash = token_file::hash(&secret);
    state.farm.decide(|view, now| membership::new_token(view, hash.clone(), expires, now)).await?;
    let view = state.farm.view();
    let pinned = authority(&view).map_err(failed)?.fingerprint();
    // This server first: it is up.
    let mut members: Vec<_> =
        view.servers.values().filter_map(|s| Some((&s.name, s.member.as_ref()?))).collect();
    members.sort_by_key(|(name, _)| **name != state.server);
    let addresses = members.iter().take(MAX_ADDRESSES).map(|(_, member)| member.address.clone()).collect();
    let token = JoinTokenText { pinned, secret, addresses }.to_string();
    Ok((StatusCode::CREATED, Json(GrantedJoinToken { token, expires_ms: expires.0 })))
}

async fn remove(
    State(state): State<Shared>,
    Path(name): Path<Name>,
    query: Result<Query<RemoveServer>, QueryRejection>,
) -> Result<StatusCode, ApiError> {
    let Query(RemoveServer { give_up }) = query?;
    if !membership::is_known(&state.farm.view(), &name) {
        let message = format!("there is no server {name}");
        return Err(ApiError::not_found(message, "`headwater server list` shows what there is"));
    }
    // In pieces: a transaction has a limit, and the record of the server goes with the first.
    loop {
        let mut left = false;
        state
            .farm
            .decide(|view, _| {
                let change = membership::remove(view, &name, &state.server, give_up.as_deref())?;
                left = !change.writes.is_empty();
                Ok::<_, Refusal>(change)
            })
            .await?;
        if !left {
            return Ok(StatusCode::NO_CONTENT);
        }
    }
}

fn failed(error: IdentityError) -> ApiError {
    ApiError::from_text(StatusCode::INTERNAL_SERVER_ERROR, &error.to_string())
}
