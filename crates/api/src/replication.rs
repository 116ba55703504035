//! What is still to come to a server from the others.

use model::{Name, Root, VersionNumber};
use serde::{Deserialize, Serialize};
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
