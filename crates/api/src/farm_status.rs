//! How the whole farm stands: its database, its servers, and what is wrong.

use model::Name;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// The farm as one server sees it now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FarmStatusView {
    /// The farm's id; none before `headwater farm init`.
    pub farm: Option<String>,
    /// The answering server.
    pub answered_by: Name,
    /// When it looked.
    pub at_ms: u64,
    /// That the records were turned back to a backup, until `headwater farm accept`.
    pub restored: Option<RestoredView>,
    /// Where the records are.
    pub database: DatabaseView,
    /// Every server, by name.
    pub servers: Vec<ServerStandingView>,
    /// What is wrong or worth knowing, the worst first.
    pub findings: Vec<FindingView>,
}

/// From when restored records are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RestoredView {
    /// When the backup was made; none where another program restored the database.
    pub made_ms: Option<u64>,
    /// When it was restored, or when the first server noticed.
    pub at_ms: u64,
}

/// How the farm's database stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatabaseView {
    /// `embedded` or `etcd`.
    pub engine: String,
    /// Whether it answered.
    pub reachable: bool,
    /// Its revision, where it answered.
    pub revision: Option<u64>,
    /// How long a read took, in microseconds, where it answered.
    pub latency_us: Option<u64>,
    /// What is shown meanwhile, where it did not answer.
    pub remembered: Option<RememberedView>,
    /// Its members, in the order of `farm.endpoints`; none where it is embedded.
    pub members: Vec<DatabaseMemberView>,
}

/// What a server remembers of the records while their database is away.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RememberedView {
    /// The revision that it is the state of.
    pub revision: u64,
    /// Until when it followed the database.
    pub since_ms: u64,
}

/// How one member of etcd stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DatabaseMemberView {
    /// Its address.
    pub endpoint: String,
    /// Whether it answers and complains of nothing.
    pub healthy: bool,
    /// Its name in its cluster, where it answered.
    pub name: Option<String>,
    /// Its program's version, where it answered.
    pub version: Option<String>,
    /// Whether it leads.
    pub leads: bool,
    /// The size of its file in bytes, where it answered.
    pub size_bytes: Option<u64>,
    /// How long its answer took, in microseconds.
    pub latency_us: u64,
    /// Why it does not answer, or what it complains of.
    pub troubles: Vec<String>,
}

/// Whether a server is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ServerState {
    /// It answers.
    Up,
    /// It is connected with the answering server and does not answer.
    Silent,
    /// It is not connected with the answering server.
    Down,
    /// It was taken out of the farm, but not all of it is out of the records.
    Removed,
}

impl ServerState {
    /// For people.
    pub fn text(self) -> &'static str {
        match self {
            Self::Up => "up",
            Self::Silent => "silent",
            Self::Down => "down",
            Self::Removed => "removed",
        }
    }
}

/// How one server of the farm stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerStandingView {
    /// Its name.
    pub name: Name,
    /// Whether it is the one that answers.
    pub this: bool,
    /// Whether it is there.
    pub state: ServerState,
    /// Since when it is up or down, as far as known.
    pub since_ms: Option<u64>,
    /// Where the other servers reach it; none in a farm of one.
    pub address: Option<String>,
    /// How often it has started since it joined; none in a farm of one.
    pub incarnation: Option<u64>,
    /// Whether it renews its lease in the database; none where the database does not answer.
    pub lease: Option<bool>,
    /// How far its clock is before ours, in milliseconds; negative where it is behind.
    pub clock_ms: Option<i64>,
    /// By how much `clock_ms` may be wrong: half of the time that the question took.
    pub clock_error_ms: Option<u64>,
    /// What it says of itself; none where it does not answer.
    pub report: Option<ServerReport>,
}

/// What a server says of itself; also what it answers its peers. A newer program may say more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ServerReport {
    /// The program's version.
    pub version: String,
    /// Its clock when it answered.
    pub now_ms: u64,
    /// When it started.
    pub up_since_ms: u64,
    /// When its certificate ends; none in a farm of one.
    pub certificate_ends_ms: Option<u64>,
    /// Its stores.
    pub stores: Vec<StoreFillView>,
    /// Versions of its stores that are all there.
    pub complete_versions: u32,
    /// Versions of its stores that are not.
    pub lacking_versions: u32,
    /// Bytes that are missing, as far as known.
    pub missing_bytes: u64,
    /// Bytes that come in a second.
    pub bytes_per_s: u64,
    /// Open sessions.
    pub sessions: u32,
}

/// How full a server's share of a store is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoreFillView {
    /// The store's name.
    pub name: Name,
    /// The size of the file system in bytes.
    pub total_bytes: u64,
    /// What may still be written, in bytes.
    pub free_bytes: u64,
    /// `ample`, `low` or `reserve`, by what is free now.
    pub space: String,
    /// Chunks that are damaged and never served.
    pub quarantined_chunks: u64,
}

/// How bad a finding is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FindingSeverity {
    /// Something does not work.
    Error,
    /// Something will not work, or does not survive another failure.
    Warning,
    /// Nothing is wrong.
    Note,
}

/// Something that is wrong or worth knowing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FindingView {
    /// How bad it is.
    pub severity: FindingSeverity,
    /// The server that it is about; none where it is the database.
    pub server: Option<Name>,
    /// What it is.
    pub message: String,
    /// What to do next.
    pub hint: String,
}
