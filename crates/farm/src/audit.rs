//! The audit: every change that somebody asked for, with who, what, when, from where and how it
//! ended.
//!
//! A record is written in the same transaction as the change it is about, so that no change is
//! without one; refused and failed requests have theirs too. Records are not part of the
//! [`crate::FarmView`]: no rule decides on them, and there are many. What a request said is kept
//! as its parameters, without secrets and bounded (see [`parameters`]). Old records go by
//! [`crate::retention`].

pub mod parameters;

use crate::event::EventId;
use crate::people::TokenId;
use crate::record::{FormatRevision, Record};
use crate::timestamp::Timestamp;
use model::{MacAddress, Name};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::fmt;
use std::str::FromStr;

/// The beginning of the keys of all audit records.
pub const AUDIT_PREFIX: &str = "/audit/";
/// The longest object, message or address in bytes.
pub const MAX_TEXT: usize = 500;

/// How [`Actor::Nobody`] is written; no name has brackets.
const NOBODY: &str = "(nobody)";

/// The key of an audit record: like an event's, it sorts by time.
pub type AuditId = EventId;

/// A change that was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AuditRecord {
    /// The format of this record.
    pub revision: FormatRevision,
    /// When it was asked for.
    pub at: Timestamp,
    /// The server that was asked.
    pub server: Name,
    /// Who asked.
    pub actor: Actor,
    /// The id of the token that proved it; none for a server's token file and what is automatic.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token: Option<TokenId>,
    /// What for: a stable text such as `version.promote`.
    pub action: String,
    /// What it is about: `win11`, `win11/3`; empty where it is about the whole.
    pub object: String,
    /// The address that the request came from; none for what a server does by itself.
    pub from: Option<String>,
    /// The request's id, which the answer and the server's log have too.
    pub request: Option<String>,
    /// How it ended.
    pub result: AuditResult,
    /// Why it was refused or failed; empty otherwise.
    pub message: String,
    /// What the request said, without secrets.
    pub parameters: Value,
}

/// Who asks for a change. Written `anna`, `admin`, `(nobody)`, `server:hw1`,
/// `device:52:54:00:12:34:56`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Actor {
    /// A user, or `admin`: whoever has a server's token file.
    User(Name),
    /// Nobody that is known: a login before it succeeds.
    Nobody,
    /// A server, by itself.
    Server(Name),
    /// A device, by booting.
    Device(MacAddress),
}

/// How a request for a change ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditResult {
    /// It is done.
    Ok,
    /// A job was begun; still so after the job's end only where the server was killed before it.
    Started,
    /// The rules, or a check of the request, said no. Nothing has changed.
    Refused,
    /// It was tried and did not succeed.
    Failed,
}

impl AuditResult {
    /// Every result.
    pub const ALL: [Self; 4] = [Self::Ok, Self::Started, Self::Refused, Self::Failed];

    /// The stable text of the result.
    pub fn id(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Started => "started",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => name.fmt(f),
            Self::Nobody => f.write_str(NOBODY),
            Self::Server(name) => write!(f, "server:{name}"),
            Self::Device(mac) => write!(f, "device:{mac}"),
        }
    }
}

impl FromStr for Actor {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = |error: &dyn fmt::Display| format!("{text:?} is no actor: {error}");
        Ok(match text.split_once(':') {
            Some(("server", name)) => Self::Server(name.parse().map_err(|error| wrong(&error))?),
            Some(("device", mac)) => Self::Device(mac.parse().map_err(|error| wrong(&error))?),
            _ if text == NOBODY => Self::Nobody,
            _ => Self::User(text.parse().map_err(|error| wrong(&error))?),
        })
    }
}

impl TryFrom<String> for Actor {
    type Error = String;
    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Actor> for String {
    fn from(actor: Actor) -> Self {
        actor.to_string()
    }
}

impl Record for AuditRecord {}

/// Cuts a text at [`MAX_TEXT`].
pub fn cut(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(MAX_TEXT));
    text
}

/// Which records somebody wants to see; empty fields match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AuditFilter {
    /// Not older than this.
    pub since: Option<Timestamp>,
    /// Of this actor.
    pub actor: Option<String>,
    /// About this object, or one below it: `win11` finds `win11/3`.
    pub object: Option<String>,
    /// Of this action, or of one of this noun: `version` finds `version.promote`.
    pub action: Option<String>,
    /// That ended so.
    pub result: Option<AuditResult>,
}

impl AuditFilter {
    /// Whether a record is wanted.
    pub fn admits(&self, record: &AuditRecord) -> bool {
        self.since.is_none_or(|since| record.at >= since)
            && self.actor.as_ref().is_none_or(|actor| *actor == record.actor.to_string())
            && self.object.as_ref().is_none_or(|object| is_or_below(&record.object, object, '/'))
            && self.action.as_ref().is_none_or(|action| is_or_below(&record.action, action, '.'))
            && self.result.is_none_or(|result| result == record.result)
    }
}

fn is_or_below(text: &str, wanted: &str, separator: char) -> bool {
    text.strip_prefix(wanted).is_some_and(|rest| rest.is_empty() || rest.starts_with(separator))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::key::Key;

    /// The stored form of revision 1: a change here is a change of the format.
    #[test]
    fn the_golden_record_is_read_and_written_to_the_byte() {
        let golden = include_str!("../golden/audit-1.txt");
        for line in golden.lines() {
            let (key, value) = line.split_once(' ').unwrap();
            let key: Key = key.parse().unwrap();
            let record = AuditRecord::decode(&key, value.as_bytes()).unwrap();
            assert_eq!(String::from_utf8(record.encode()).unwrap(), value);
        }
    }

    #[test]
    fn actors_are_read_as_they_were_written() {
        for text in ["admin", "(nobody)", "server:hw1", "device:52:54:00:12:34:56"] {
            assert_eq!(text.parse::<Actor>().unwrap().to_string(), text);
        }
        assert!("Server:x".parse::<Actor>().is_err());
        assert!("device:x".parse::<Actor>().is_err());
    }

    #[test]
    fn a_filter_finds_what_is_below_and_not_what_only_begins_alike() {
        let line = include_str!("../golden/audit-1.txt").lines().next().unwrap();
        let (key, value) = line.split_once(' ').unwrap();
        let record = AuditRecord::decode(&key.parse().unwrap(), value.as_bytes()).unwrap();
        let by = |filter: AuditFilter| filter.admits(&record);
        let text = |text: &str| Some(text.to_owned());
        assert!(by(AuditFilter::default()));
        assert!(by(AuditFilter { object: text("win11"), action: text("version"), ..AuditFilter::default() }));
        assert!(by(AuditFilter { object: text("win11/3"), actor: text("admin"), ..AuditFilter::default() }));
        assert!(!by(AuditFilter { object: text("win1"), ..AuditFilter::default() }));
        assert!(!by(AuditFilter { action: text("version.p"), ..AuditFilter::default() }));
        assert!(!by(AuditFilter { since: Some(Timestamp(record.at.0 + 1)), ..AuditFilter::default() }));
        assert!(!by(AuditFilter { result: Some(AuditResult::Failed), ..AuditFilter::default() }));
    }
}
