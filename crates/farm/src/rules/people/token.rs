//! Tokens: made, used, revoked.

use super::find;
use crate::change::{Change, Refusal, RefusalKind};
use crate::event::{EventKind, NewEvent};
use crate::key::Key;
use crate::people::{ApiToken, Role, TokenId, TokenKind};
use crate::record::FormatRevision;
use crate::timestamp::Timestamp;
use crate::view::FarmView;
use model::Name;
use std::time::Duration;

/// The most tokens of a user, logins included: all go in one transaction with the user.
pub const MAX_TOKENS: usize = 40;
/// The most logins of a user at once; the oldest one ends then.
const MAX_LOGINS: usize = 20;
/// How exact `last_used` is: a program that asks every second costs one write an hour.
const USED_EVERY: Duration = Duration::from_secs(3600);
/// The longest description in bytes.
const MAX_ABOUT: usize = 200;

/// A token to make.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// Its id, drawn by the caller.
    pub id: TokenId,
    /// Whose it is.
    pub user: Name,
    /// How it comes to be.
    pub kind: TokenKind,
    /// What it is for.
    pub about: String,
    /// Less than the user may.
    pub role: Option<Role>,
    /// The hash of its text.
    pub hash: String,
    /// From when on it proves nothing any more.
    pub expires: Option<Timestamp>,
}

/// Makes a token; what of the user's has expired goes at the same time.
pub fn make_token(view: &FarmView, new: NewToken, now: Timestamp) -> Result<Change, Refusal> {
    let NewToken { id, user, kind, mut about, role, hash, expires } = new;
    let seen = find(view, &user)?;
    if let Some(role) = role.as_ref().filter(|role| !seen.role.includes(role)) {
        let message = format!("a token of {user} cannot be {role}: the user is {}", seen.role);
        return Err(Refusal::new(
            RefusalKind::Invalid,
            message,
            "a token may do less than its user, not more",
        ));
    }
    if expires.is_some_and(|expires| expires <= now) {
        let message = "the token would have expired already";
        return Err(Refusal::new(RefusalKind::Invalid, message, "give a time to come"));
    }
    about.truncate(about.floor_char_boundary(MAX_ABOUT));
    let mut change = Change::default();
    // Written as it is: whoever deletes the user at the same time conflicts.
    change.unchanged(Key::User(user.clone()), seen);
    change.put(Key::User(user.clone()), &seen.record);
    make_room(view, &mut change, &user, kind, now)?;
    let key = Key::Token(id.clone());
    change.absent(key.clone());
    if kind == TokenKind::Program {
        let message = format!("token {id} of user {user} was made: {about}");
        change.event(NewEvent::new(EventKind::TokenChanged, &user, message));
    }
    let token = ApiToken {
        revision: FormatRevision,
        id,
        user,
        kind,
        about,
        role,
        hash,
        created: now,
        expires,
        last_used: None,
    };
    change.put(key, &token);
    Ok(change)
}

/// Deletes what has expired, and the oldest login where there are too many.
fn make_room(
    view: &FarmView,
    change: &mut Change,
    user: &Name,
    kind: TokenKind,
    now: Timestamp,
) -> Result<(), Refusal> {
    let (valid, expired): (Vec<_>, Vec<_>) = view.tokens_of(user).partition(|token| token.is_valid(now));
    expired.iter().for_each(|token| change.delete(Key::Token(token.id.clone())));
    let same: Vec<_> = valid.iter().filter(|token| token.kind == kind).collect();
    match kind {
        TokenKind::Login if same.len() >= MAX_LOGINS => {
            let oldest = same.iter().min_by_key(|token| token.created).expect("there are some");
            change.delete(Key::Token(oldest.id.clone()));
            Ok(())
        }
        TokenKind::Program if same.len() >= MAX_TOKENS - MAX_LOGINS => Err(Refusal::new(
            RefusalKind::Limit,
            format!("user {user} has {} tokens already", same.len()),
            "revoke those that nobody needs: `headwater token list` says when each was last used",
        )),
        _ => Ok(()),
    }
}

/// Makes a token prove nothing any more, at once.
pub fn revoke_token(view: &FarmView, id: &TokenId) -> Result<Change, Refusal> {
    let seen = view.tokens.get(id).ok_or_else(|| Refusal::not_found("token", id, "token list"))?;
    let mut change = Change::default();
    change.unchanged(Key::Token(id.clone()), seen);
    change.delete(Key::Token(id.clone()));
    if seen.kind == TokenKind::Program {
        let message = format!("token {id} of user {} was revoked: {}", seen.user, seen.about);
        change.event(NewEvent::new(EventKind::TokenChanged, &seen.user, message));
    }
    Ok(change)
}

/// Notes that a token was used; no change where that is noted closely enough.
pub fn note_used(view: &FarmView, id: &TokenId, now: Timestamp) -> Change {
    let mut change = Change::default();
    let due = |token: &&crate::view::Stored<ApiToken>| {
        token.last_used.is_none_or(|used| now.since(used) >= USED_EVERY)
    };
    if let Some(seen) = view.tokens.get(id).filter(due) {
        change.unchanged(Key::Token(id.clone()), seen);
        let hour = USED_EVERY.as_millis() as u64;
        let last_used = Some(Timestamp(now.0 / hour * hour));
        change.put(Key::Token(id.clone()), &ApiToken { last_used, ..seen.record.clone() });
    }
    change
}
