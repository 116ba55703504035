//! What happened in the farm, for people and for alarms.

use crate::record::{FormatRevision, Record};
use crate::timestamp::Timestamp;
use model::Name;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// The longest message in bytes: an event is a line, not a log.
pub const MAX_MESSAGE: usize = 500;

/// Something that happened, before it has an id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEvent {
    /// What it is.
    pub kind: EventKind,
    /// What it is about: a device's name, a vDisk's, a MAC address.
    pub subject: String,
    /// One sentence for people.
    pub message: String,
}

impl NewEvent {
    /// An event about `subject`; a message beyond 500 bytes is cut.
    pub fn new(kind: EventKind, subject: impl fmt::Display, message: impl Into<String>) -> Self {
        let mut message = message.into();
        message.truncate(message.floor_char_boundary(MAX_MESSAGE));
        Self { kind, subject: subject.to_string(), message }
    }

    /// The record of the event.
    pub fn at(self, id: EventId) -> Event {
        let Self { kind, subject, message } = self;
        let (at, server) = (id.at, id.server);
        Event { revision: FormatRevision, kind, severity: kind.severity(), subject, message, at, server }
    }
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// The format of this record.
    pub revision: FormatRevision,
    /// What it is.
    pub kind: EventKind,
    /// How bad it is.
    pub severity: Severity,
    /// What it is about.
    pub subject: String,
    /// One sentence for people.
    pub message: String,
    /// When it happened.
    pub at: Timestamp,
    /// The server that wrote it.
    pub server: Name,
}

/// The key of an event: sorts by time, unique by server and count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventId {
    /// When it happened.
    pub at: Timestamp,
    /// The server that wrote it.
    pub server: Name,
    /// A count of that server since its start.
    pub count: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:017}-{}-{}", self.at.0, self.server, self.count)
    }
}

impl FromStr for EventId {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        let (at, rest) = text.split_once('-').ok_or(())?;
        let (server, count) = rest.rsplit_once('-').ok_or(())?;
        Ok(Self {
            at: Timestamp(at.parse().map_err(|_| ())?),
            server: Name::new(server).map_err(|_| ())?,
            count: count.parse().map_err(|_| ())?,
        })
    }
}

/// How bad an event is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Something changed as it should.
    Info,
    /// Somebody should look at it.
    Warning,
    /// Something does not work.
    Error,
}

impl Severity {
    /// The stable text of the severity.
    pub fn id(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

macro_rules! kinds {
    ($($(#[doc = $doc:literal])* $variant:ident = $id:literal, $severity:ident;)*) => {
        /// What an event is about; its text is stable, scripts may rely on it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        pub enum EventKind {
            $($(#[doc = $doc])* #[serde(rename = $id)] $variant,)*
        }

        impl EventKind {
            /// Every kind, as declared.
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The stable text of the kind.
            pub fn id(self) -> &'static str {
                match self { $(Self::$variant => $id,)* }
            }

            /// How bad events of the kind are.
            pub fn severity(self) -> Severity {
                match self { $(Self::$variant => Severity::$severity,)* }
            }

            /// What the kind means, for people.
            pub fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc),*).trim_ascii(),)* }
            }
        }
    };
}

kinds! {
    /// A server began to serve.
    ServerStarted = "server-started", Info;
    /// A server stopped in order.
    ServerStopped = "server-stopped", Info;
    /// The farm database can be reached again; while it was away, changes were refused.
    DatabaseBack = "database-back", Warning;
    /// A vDisk was imported.
    VDiskImported = "vdisk-imported", Info;
    /// A vDisk was imported that we cannot boot.
    VDiskNotBootable = "vdisk-not-bootable", Warning;
    /// An import failed or was cancelled.
    ImportFailed = "import-failed", Warning;
    /// A vDisk was deleted.
    VDiskDeleted = "vdisk-deleted", Info;
    /// A version that a record names is not whole on this server.
    VersionMissing = "version-missing", Error;
    /// A version was made, to be written.
    VersionCreated = "version-created", Info;
    /// A draft's write lease was taken.
    DraftAttached = "draft-attached", Info;
    /// A draft's write lease was given back.
    DraftDetached = "draft-detached", Info;
    /// A draft's write lease was taken away from its holder.
    DraftReleased = "draft-released", Warning;
    /// An admin gave up what a server had acknowledged and no checkpoint has.
    DraftDiscarded = "draft-discarded", Warning;
    /// Discarded bytes were put aside, restored, deleted, or are lost.
    OrphanChanged = "orphan-changed", Info;
    /// A hook failed; its version was not sealed.
    HookFailed = "hook-failed", Warning;
    /// A version's content can change no more.
    VersionSealed = "version-sealed", Info;
    /// A version is for test devices, or in production, from now on.
    VersionPromoted = "version-promoted", Info;
    /// A version waits for its gate.
    VersionPending = "version-pending", Info;
    /// A version does not wait for its gate any more.
    PromotionCancelled = "promotion-cancelled", Warning;
    /// An earlier version is in production again.
    VersionReverted = "version-reverted", Warning;
    /// A version was pinned or unpinned.
    PinChanged = "pin-changed", Info;
    /// A version was let go.
    VersionRetired = "version-retired", Info;
    /// A version was deleted.
    VersionDeleted = "version-deleted", Info;
    /// A vDisk was branched off a version.
    VersionBranched = "version-branched", Info;
    /// A version was made a base.
    VersionMerged = "version-merged", Info;
    /// A version's comment was changed.
    VersionCommented = "version-commented", Info;
    /// A collection was made, changed or deleted.
    CollectionChanged = "collection-changed", Info;
    /// What servers may pull from each other, and when, was changed.
    ReplicationChanged = "replication-changed", Info;
    /// An admin added a device.
    DeviceAdded = "device-added", Info;
    /// A collection's template made a device out of an unknown MAC address.
    DeviceAutoAdded = "device-auto-added", Info;
    /// A device was changed.
    DeviceChanged = "device-changed", Info;
    /// A device was removed.
    DeviceRemoved = "device-removed", Info;
    /// An unknown MAC address waits for an admin.
    DevicePending = "device-pending", Warning;
    /// An admin rejected an unknown MAC address.
    DeviceRejected = "device-rejected", Info;
    /// A device asked to boot and was refused.
    BootRefused = "boot-refused", Warning;
    /// A device was given what it needs to boot.
    BootStarted = "boot-started", Info;
    /// A device runs from its streamed disk.
    DeviceRunning = "device-running", Info;
    /// A device said that it shuts down.
    DeviceStopping = "device-stopping", Info;
    /// A device's write cache is full.
    WriteCacheFull = "write-cache-full", Error;
    /// A session was closed by an admin.
    SessionClosed = "session-closed", Info;
    /// Somebody asked for an export that does not exist.
    UnknownExport = "unknown-export", Warning;
    /// A store's bytes that nothing needs any more were deleted.
    StorePruned = "store-pruned", Info;
    /// A store was read and verified from end to end.
    StoreScrubbed = "store-scrubbed", Info;
    /// A stored chunk is not what its name says; it is never served.
    ChunkQuarantined = "chunk-quarantined", Error;
    /// A quarantined chunk is whole again.
    ChunkRepaired = "chunk-repaired", Info;
    /// Another server sent bytes that are not what they should be; none of them is kept.
    PeerWrongBytes = "peer-wrong-bytes", Error;
    /// A version that is not all on a server has not come on there for ten minutes.
    ReplicationStalled = "replication-stalled", Warning;
    /// A version that did not come on comes on again, or is complete.
    ReplicationResumed = "replication-resumed", Info;
    /// A version is on a server in part for a day.
    ReplicationLate = "replication-late", Warning;
    /// A store has less free space than its low watermark.
    SpaceLow = "space-low", Error;
    /// A store has more free space than its high watermark again.
    SpaceRecovered = "space-recovered", Info;
    /// A user was made, changed or deleted.
    UserChanged = "user-changed", Info;
    /// A token for a program was made or revoked.
    TokenChanged = "token-changed", Info;
    /// Logins from an address, or as a user, failed so often that they have to wait.
    LoginLimited = "login-limited", Warning;
    /// Unknown machines asked to boot faster than they are noted down.
    BootLimited = "boot-limited", Warning;
    /// Records of the audit waited in a file while the farm database did not take them.
    AuditSpooled = "audit-spooled", Warning;
    /// Somebody used the API without the right token.
    ApiRefused = "api-refused", Warning;
    /// A part of the server does not work.
    ServiceFailed = "service-failed", Error;
}

impl Record for Event {}
