//! The names of records in the database.

use crate::draft::{Epoch, OrphanId};
use crate::event::EventId;
use crate::people::TokenId;
use crate::record::RecordError;
use model::{MacAddress, Name, Root, VersionNumber};
use std::fmt;
use std::str::FromStr;

/// The key of a record: `/devices/pc-001`, `/versions/win11/0000000002`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Key {
    /// The one record of the farm itself.
    Farm,
    /// The [`crate::AdminToken`] of a server.
    AdminToken(Name),
    /// The [`crate::IdentitySecret`].
    IdentitySecret,
    /// A [`crate::Site`].
    Site(Name),
    /// A [`crate::Server`].
    Server(Name),
    /// A [`crate::Store`].
    Store(Name),
    /// A [`crate::VDisk`].
    VDisk(Name),
    /// A [`crate::Version`] of a vDisk.
    Version(Name, VersionNumber),
    /// The [`crate::Draft`] of a version.
    Draft(Name, VersionNumber),
    /// An [`crate::Orphan`].
    Orphan(OrphanId),
    /// The [`crate::CompleteCopy`] of a content on a server.
    Copy(Root, Name),
    /// The [`crate::LearnedProfile`] of a content.
    Profile(Root),
    /// The [`crate::Canary`] of a store.
    Canary(Name),
    /// A [`crate::Collection`].
    Collection(Name),
    /// A [`crate::Device`].
    Device(Name),
    /// Which device has a MAC address; its value is the device's name as a JSON string.
    Mac(MacAddress),
    /// A [`crate::PendingDevice`].
    Pending(MacAddress),
    /// A [`crate::Doomed`] content.
    Doomed(Root),
    /// An [`crate::Event`].
    Event(EventId),
    /// An [`crate::AuditRecord`].
    Audit(EventId),
    /// A [`crate::User`].
    User(Name),
    /// An [`crate::ApiToken`].
    Token(TokenId),
    /// The [`crate::FarmAuthority`].
    Authority,
    /// The [`crate::ReplicationSettings`].
    Replication,
    /// That the records were [`crate::Restored`].
    Restored,
    /// A [`crate::JoinToken`].
    JoinToken(TokenId),
    /// The [`crate::Live`] of a server, under a lease.
    Live(Name),
    /// The [`crate::Reading`] of a server.
    Reading(Name),
    /// A [`Guard`].
    Guard(Guard),
}

/// A record without content whose revision tells that somebody began to use something.
///
/// Whoever refers to a vDisk writes its guard; whoever deletes the vDisk compares the guard's
/// revision with the one of the view in which nothing referred to it. So of "assign" and "delete"
/// at the same time one conflicts, although they write different records.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Guard {
    /// Written by whoever refers to a vDisk.
    VDisk(Name),
    /// Written by whoever refers to a collection.
    Collection(Name),
    /// Written by whoever lets a collection add unknown devices: one collection at most does.
    AutoAdd,
    /// Written by whoever makes the farm's admins fewer: one stays at least.
    FarmAdmins,
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Farm => f.write_str("/farm"),
            Self::AdminToken(server) => write!(f, "/admin-tokens/{server}"),
            Self::IdentitySecret => f.write_str("/identity-secret"),
            Self::Site(name) => write!(f, "/sites/{name}"),
            Self::Server(name) => write!(f, "/servers/{name}"),
            Self::Store(name) => write!(f, "/stores/{name}"),
            Self::VDisk(name) => write!(f, "/vdisks/{name}"),
            Self::Version(name, number) => write!(f, "/versions/{name}/{:010}", number.0),
            Self::Draft(name, number) => write!(f, "/drafts/{name}/{:010}", number.0),
            Self::Orphan(OrphanId { vdisk, number, epoch }) => {
                write!(f, "/orphans/{vdisk}/{:010}/{:020}", number.0, epoch.0)
            }
            Self::Copy(root, server) => write!(f, "/copies/{root}/{server}"),
            Self::Profile(root) => write!(f, "/profiles/{root}"),
            Self::Canary(store) => write!(f, "/canaries/{store}"),
            Self::Collection(name) => write!(f, "/collections/{name}"),
            Self::Device(name) => write!(f, "/devices/{name}"),
            Self::Mac(mac) => write!(f, "/macs/{mac}"),
            Self::Pending(mac) => write!(f, "/pending/{mac}"),
            Self::Doomed(root) => write!(f, "/doomed/{root}"),
            Self::Event(id) => write!(f, "/events/{id}"),
            Self::Audit(id) => write!(f, "/audit/{id}"),
            Self::Live(server) => write!(f, "/live/{server}"),
            Self::Reading(server) => write!(f, "/reading/{server}"),
            Self::Guard(Guard::VDisk(name)) => write!(f, "/guards/vdisks/{name}"),
            Self::Guard(Guard::Collection(name)) => write!(f, "/guards/collections/{name}"),
            Self::Authority => f.write_str("/authority"),
            Self::Replication => f.write_str("/replication"),
            Self::Restored => f.write_str("/restored"),
            Self::JoinToken(id) => write!(f, "/join-tokens/{id}"),
            Self::User(name) => write!(f, "/users/{name}"),
            Self::Token(id) => write!(f, "/tokens/{id}"),
            Self::Guard(Guard::AutoAdd) => f.write_str("/guards/auto-add"),
            Self::Guard(Guard::FarmAdmins) => f.write_str("/guards/farm-admins"),
        }
    }
}

impl FromStr for Key {
    type Err = RecordError;

    fn from_str(text: &str) -> Result<Self, RecordError> {
        parse(text).ok_or_else(|| RecordError::UnknownKey(text.chars().take(100).collect()))
    }
}

fn parse(text: &str) -> Option<Key> {
    let parts: Vec<&str> = text.strip_prefix('/')?.splitn(4, '/').collect();
    let name = |part: &str| Name::new(part).ok();
    Some(match parts[..] {
        ["farm"] => Key::Farm,
        ["admin-tokens", server] => Key::AdminToken(name(server)?),
        ["identity-secret"] => Key::IdentitySecret,
        ["sites", part] => Key::Site(name(part)?),
        ["servers", part] => Key::Server(name(part)?),
        ["stores", part] => Key::Store(name(part)?),
        ["vdisks", part] => Key::VDisk(name(part)?),
        ["versions", part, number] => Key::Version(name(part)?, VersionNumber(number.parse().ok()?)),
        ["drafts", part, number] => Key::Draft(name(part)?, VersionNumber(number.parse().ok()?)),
        ["orphans", part, number, epoch] => Key::Orphan(OrphanId {
            vdisk: name(part)?,
            number: VersionNumber(number.parse().ok()?),
            epoch: Epoch(epoch.parse().ok()?),
        }),
        ["copies", root, server] => Key::Copy(root.parse().ok()?, name(server)?),
        ["profiles", root] => Key::Profile(root.parse().ok()?),
        ["canaries", store] => Key::Canary(name(store)?),
        ["collections", part] => Key::Collection(name(part)?),
        ["devices", part] => Key::Device(name(part)?),
        ["macs", mac] => Key::Mac(mac.parse().ok()?),
        ["pending", mac] => Key::Pending(mac.parse().ok()?),
        ["doomed", root] => Key::Doomed(root.parse().ok()?),
        ["events", id] => Key::Event(id.parse().ok()?),
        ["audit", id] => Key::Audit(id.parse().ok()?),
        ["live", server] => Key::Live(name(server)?),
        ["reading", server] => Key::Reading(name(server)?),
        ["guards", "vdisks", part] => Key::Guard(Guard::VDisk(name(part)?)),
        ["guards", "collections", part] => Key::Guard(Guard::Collection(name(part)?)),
        ["authority"] => Key::Authority,
        ["replication"] => Key::Replication,
        ["restored"] => Key::Restored,
        ["join-tokens", id] => Key::JoinToken(id.parse().ok()?),
        ["users", part] => Key::User(name(part)?),
        ["tokens", id] => Key::Token(id.parse().ok()?),
        ["guards", "auto-add"] => Key::Guard(Guard::AutoAdd),
        ["guards", "farm-admins"] => Key::Guard(Guard::FarmAdmins),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_read_as_it_was_written() {
        for text in [
            "/farm",
            "/admin-tokens/hw1",
            "/users/anna",
            "/tokens/0123456789",
            "/authority",
            "/replication",
            "/restored",
            "/join-tokens/0123456789",
            "/identity-secret",
            "/sites/a",
            "/servers/a",
            "/stores/a",
            "/vdisks/a.b_c-d",
            "/versions/a/0000000012",
            "/drafts/a/0000000012",
            "/orphans/a/0000000012/00000000000000000005",
            &format!("/copies/{}/srv", "0a".repeat(32)),
            &format!("/profiles/{}", "0a".repeat(32)),
            "/canaries/a",
            "/collections/a",
            "/devices/a",
            "/macs/52:54:00:12:34:56",
            "/pending/52:54:00:12:34:56",
            &format!("/doomed/{}", "0a".repeat(32)),
            "/events/00001763836262123-srv-7",
            "/audit/00001763836262123-srv-7",
            "/live/srv",
            "/reading/srv",
            "/guards/vdisks/a",
            "/guards/collections/a",
            "/guards/auto-add",
            "/guards/farm-admins",
        ] {
            assert_eq!(text.parse::<Key>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn other_keys_are_not_taken_for_ours() {
        for text in ["", "/", "farm", "/farm/x", "/vdisks/", "/vdisks/A", "/versions/a/x", "/new/a"] {
            assert!(text.parse::<Key>().is_err(), "{text}");
        }
    }
}
