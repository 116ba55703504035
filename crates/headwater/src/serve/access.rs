//! Who may use the API, and what for.
//!
//! Two layers stand around every route. The outer one, `identify.rs`, finds out who asks: a token
//! file of a server, or a token of a user. The inner one, `check.rs`, lets through what the caller's
//! role allows, by the level that each endpoint declares; the decision itself is
//! [`farm::rules::people::may`]. Handlers decide nothing about roles, but for what is one's own
//! ([`Caller::own_or_farm_admin`]). Between the two lies the audit's layer, so that what was refused
//! is recorded, with who asked.
//!
//! Passwords are checked in `login.rs` and nowhere else, as often as `limit.rs` lets.

mod check;
mod identify;
mod limit;
mod login;
mod password;
mod secret;
pub(crate) mod token_file;
mod tokens;
mod users;

use super::api_error::ApiError;
use super::routes::Routes;
use axum::http::StatusCode;
use farm::people::ADMIN;
use farm::{Role, TokenId};
use model::Name;

pub(super) use check::{Needs, check};
pub(super) use identify::identify;
pub(crate) use login::Access;

/// Who asks, as it was proved.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// The user's name, or `admin` for whoever has a server's token file.
    pub(crate) name: Name,
    /// What the token may do.
    pub(crate) role: Role,
    /// The token's id; none for a token file.
    pub(crate) token: Option<TokenId>,
}

impl Caller {
    /// Whoever has a server's token file.
    fn admin() -> Self {
        Self { name: Name::new(ADMIN).expect("a name"), role: Role::FarmAdmin, token: None }
    }

    /// Whoever reads `/metrics` from a network that needs no token for it.
    fn reader_of_metrics() -> Self {
        Self { name: Name::new("metrics").expect("a name"), role: Role::ReadOnly, token: None }
    }

    /// Refuses what is another user's, unless a farm admin asks.
    fn own_or_farm_admin(&self, user: &Name) -> Result<(), ApiError> {
        if self.name == *user || self.role == Role::FarmAdmin {
            return Ok(());
        }
        let message = format!("that is {user}'s, and {} is {}", self.name, self.role);
        Err(ApiError::new(StatusCode::FORBIDDEN, message, "ask a farm admin"))
    }

    /// Refuses whoever has only a token file, which is no user.
    fn is_a_user(&self) -> Result<(), ApiError> {
        match self.token {
            Some(_) => Ok(()),
            None => Err(ApiError::bad_request(
                format!("{ADMIN} is no user: this is the token file of a server"),
                "make a user with `headwater user create`, or name one",
            )),
        }
    }
}

/// The endpoints of logins, users and tokens.
pub(super) fn routes(routes: Routes) -> Routes {
    [login::routes, users::routes, tokens::routes].into_iter().fold(routes, |routes, add| add(routes))
}
