//! What is still to come to a server from the others.

use model::{Name, Root, VersionNumber};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use utoipa::ToSchema;

/// How replication to the answering server stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicationView {
    /// The answering server.
    pub server: Name,
    /// The servers that it is connected to.
    pub peers: Vec<Name>,
    /// Versions of its stores that are all here.
    pub complete_versions: u32,
    /// Versions of its stores that are not.
    pub lacking_versions: u32,
    /// Bytes that are missing, as far as known.
    pub missing_bytes: u64,
    /// Bytes that come in a second.
    pub bytes_per_s: u64,
}

/// Asks for a test of propagation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TestPropagation {
    /// The store; the server's first where there is none.
    #[serde(default)]
    pub store: Option<Name>,
    /// How long is waited for servers that do not have it, in seconds; at most 300.
    #[serde(default = "default_patience_s")]
    pub patience_s: u64,
}

fn default_patience_s() -> u64 {
    60
}

/// When a small content that was new arrived on a server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ArrivalView {
    /// The store.
    pub store: Name,
    /// The server.
    pub server: Name,
    /// Milliseconds from when it was let out until the testing server heard that it is complete and
    /// durable there; none where that was not so in time.
    pub arrived_after_ms: Option<u64>,
    /// Whether it is the server where it was let out.
    pub is_origin: bool,
    /// Whether that server is connected with the testing one.
    pub is_connected: bool,
}

/// A version that is not all on the answering server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BacklogView {
    /// The server where it is missing.
    pub server: Name,
    /// The store; none where only a draft's checkpoint has this content.
    pub store: Option<Name>,
    /// The vDisk; none where only a draft's checkpoint has this content.
    pub vdisk: Option<Name>,
    /// The version.
    pub version: Option<VersionNumber>,
    /// The content.
    pub root: Root,
    /// Chunks that are missing; none while the manifest is not here.
    pub missing_chunks: Option<u32>,
    /// Bytes that are missing.
    pub missing_bytes: Option<u64>,
    /// Bytes that come in a second.
    pub bytes_per_s: u64,
    /// Seconds until it is all here, at this rate.
    pub eta_s: Option<u64>,
    /// Why it does not go faster.
    pub reason: BacklogReason,
    /// Connected servers that have something of it.
    pub sources: Vec<Name>,
}

/// Why a version does not come on, or that it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum BacklogReason {
    /// Its manifest is being fetched.
    Opening,
    /// It is coming.
    Coming,
    /// No server that is connected has what is missing.
    NoSource,
    /// The servers that had what is missing cannot be reached.
    PeerDown,
    /// Requests to all that have it failed lately; they are asked again soon.
    Failing,
    /// The store is at its reserve.
    NoRoom,
    /// What other versions here have is being copied.
    Copying,
    /// An admin paused it.
    Paused,
    /// The schedule allows nothing now.
    ScheduleClosed,
    /// A limit in bytes a second is reached.
    Limit,
}

impl BacklogReason {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Opening => "manifest is being fetched",
            Self::Coming => "coming",
            Self::NoSource => "no connected server has it",
            Self::PeerDown => "the servers that have it are not connected",
            Self::Failing => "the servers that have it do not answer",
            Self::NoRoom => "the store is full",
            Self::Copying => "copying what is here already",
            Self::Paused => "paused",
            Self::ScheduleClosed => "closed by the schedule",
            Self::Limit => "limit reached",
        }
    }
}

/// What servers may pull from each other, and when: the settings of the farm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicationSettingsView {
    /// The most bytes a second that come to a server, by class; what is not named is unlimited.
    pub limits: BTreeMap<TrafficClass, u64>,
    /// The IANA name of the zone whose clock the windows mean.
    pub zone: String,
    /// When less is allowed; where several overlap, the strictest holds.
    pub windows: Vec<ReplicationWindow>,
    /// Seven days from Monday on, a character an hour: `.` everything, `l` limited, `#` nothing.
    pub week: Vec<String>,
    /// Whether nothing comes but what devices wait for.
    pub paused: bool,
    /// The same, of these vDisks.
    pub paused_vdisks: Vec<Name>,
    /// The versions of a vDisk up to this one come whatever the schedule says.
    pub now: BTreeMap<Name, VersionNumber>,
    /// When the schedule allows something else next, in milliseconds since 1970; none = not soon.
    pub changes_at_ms: Option<u64>,
}

/// What is limited on its own; what devices wait for never is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum TrafficClass {
    /// What devices will probably read when they boot.
    BootProfile,
    /// Drafts' checkpoints.
    Checkpoint,
    /// All the rest.
    Bulk,
}

/// A part of the week in which less is allowed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicationWindow {
    /// The days on which it begins: 1 is Monday, 7 is Sunday.
    pub days: Vec<u8>,
    /// When it begins, such as `08:15`: steps of 15 minutes.
    pub from: String,
    /// When it ends, up to `24:00`; earlier than `from`: on the next day.
    pub to: String,
    /// Bytes a second for all classes together; none = nothing comes.
    pub bytes_per_s: Option<u64>,
}

/// A limit to set or, without a figure, to lift.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ReplicationLimit {
    /// Of what.
    pub class: TrafficClass,
    /// Bytes a second, at least 65,536; none = unlimited.
    pub bytes_per_s: Option<u64>,
}

/// What to change of the settings; fields that are left out stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PatchReplication {
    /// A limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<ReplicationLimit>,
    /// The IANA name of a zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub zone: Option<String>,
    /// A window to add.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub add_window: Option<ReplicationWindow>,
    /// A window to remove.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remove_window: Option<ReplicationWindow>,
    /// Whether everything is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused: Option<bool>,
}

/// What to do with the replication of one vDisk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SteerReplication {
    /// It.
    pub steer: Steer,
}

/// What can be done with the replication of one vDisk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Steer {
    /// Nothing of it comes but what devices wait for.
    Pause,
    /// The opposite.
    Resume,
    /// The versions that there are come whatever the schedule says.
    Now,
    /// The opposite: they come when the schedule lets them.
    AsScheduled,
}
