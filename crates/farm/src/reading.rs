//! What servers read for their devices, and which servers are alive.
//!
//! Every server has one [`Reading`] record and adds to it before a session is served from a content
//! that the record does not have yet. Whoever deletes asks these records and not only its own
//! sessions. They are not leased: a server that is frozen past its lease still has its devices. The
//! lease is on the [`Live`] record beside it, and only a fixed time after that has gone is the other
//! one taken away. The rules are in [`crate::rules::reading`].

use crate::record::{FormatRevision, Record};
use model::{Name, Root, VersionNumber};
use serde::{Deserialize, Serialize};

/// That a server is alive: there as long as its lease is renewed. Liveness only.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Live {
    /// The format of this record.
    pub revision: FormatRevision,
}

/// Everything that one server's sessions read, or may begin to read without the database.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reading {
    /// The format of this record.
    pub revision: FormatRevision,
    /// At most [`crate::rules::reading::MAX_READS`], each version and content once, in order.
    pub reads: Vec<Reads>,
}

/// One version that sessions of a server read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reads {
    /// The vDisk.
    pub vdisk: Name,
    /// The version.
    pub version: VersionNumber,
    /// The content that the sessions are bound to.
    pub root: Root,
    /// The store that it is in.
    pub store: Name,
    /// How many sessions there are, a few seconds ago; 0 where one is about to begin.
    pub sessions: u32,
}

impl Reads {
    /// Whether both are of the same version and content, however many sessions read it.
    pub fn is_of(&self, other: &Self) -> bool {
        (&self.vdisk, self.version, self.root) == (&other.vdisk, other.version, other.root)
    }
}

impl Record for Live {}
impl Record for Reading {}
