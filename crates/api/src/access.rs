//! Who may use the API: logins, users, tokens.
//!
//! Roles are texts: `read-only`, `device-operator`, `site-admin:SITE`, `farm-admin`.

use model::Name;
use serde::{Deserialize, Serialize};
use std::fmt;
use utoipa::ToSchema;

/// A name and its password, for a token that is good for some hours.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The user's name.
    pub name: Name,
    /// The password.
    pub password: String,
}

/// A new password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// The new password; none takes it away, so that only tokens prove who the user is.
    pub password: Option<String>,
}

/// A new password of one's own.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangePassword {
    /// The password so far.
    pub old_password: String,
    /// The new one.
    pub new_password: String,
}

/// A token's text, which is shown this once.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantedToken {
    /// What to send as `Authorization: Bearer TOKEN`.
    pub token: String,
    /// The token's id, by which it is listed and revoked.
    pub id: String,
    /// Whose it is.
    pub user: Name,
    /// What it may do.
    pub role: String,
    /// From when on it proves nothing any more; none = until it is revoked.
    pub expires_ms: Option<u64>,
}

/// Who asks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WhoAmI {
    /// The user's name; `admin` for whoever has a server's token file.
    pub name: Name,
    /// What the token may do.
    pub role: String,
    /// The token's id; none for a server's token file.
    pub token: Option<String>,
    /// From when on the token proves nothing any more; none = until it is revoked.
    pub expires_ms: Option<u64>,
}

/// A user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UserView {
    /// The user's name.
    pub name: Name,
    /// What the user may do.
    pub role: String,
    /// Whether the user can log in with a password.
    pub has_password: bool,
    /// How many logins are open.
    pub logins: u32,
    /// How many tokens for programs there are.
    pub tokens: u32,
    /// When the user was made.
    pub created_ms: u64,
}

/// A user to make.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewUser {
    /// The user's name.
    pub name: Name,
    /// What the user may do.
    pub role: String,
    /// The password; none = only tokens prove who it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password: Option<String>,
}

/// What to change of a user.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PatchUser {
    /// What the user may do from now on.
    pub role: String,
}

/// A token, without its text, which nobody has but its holder.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct TokenView {
    /// The token's id.
    pub id: String,
    /// Whose it is.
    pub user: Name,
    /// `login` or `program`.
    pub kind: String,
    /// What it is for.
    pub about: String,
    /// What it may do now.
    pub role: String,
    /// When it was made.
    pub created_ms: u64,
    /// From when on it proves nothing any more; none = until it is revoked.
    pub expires_ms: Option<u64>,
    /// When it was last used, to the hour; none = never.
    pub last_used_ms: Option<u64>,
}

/// A token to make for a program.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewApiToken {
    /// What it is for.
    pub about: String,
    /// Whose it is; the caller's unless told, which a farm admin may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<Name>,
    /// What it may do, where that is less than its user may.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub role: Option<String>,
    /// In how many seconds it expires; none = never.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_s: Option<u64>,
}

/// Secrets stay out of logs, also by accident.
macro_rules! without_secrets {
    ($($type:ident: $shown:ident;)*) => {
        $(impl fmt::Debug for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let shown = stringify!($shown);
                f.debug_struct(stringify!($type)).field(shown, &self.$shown).finish_non_exhaustive()
            }
        })*
    };
}

without_secrets! {
    Login: name;
    GrantedToken: id;
    NewUser: name;
}
