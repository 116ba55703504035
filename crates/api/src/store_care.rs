//! Looking after a store: prune, scrub.

use model::{Name, Root};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use utoipa::ToSchema;

/// Asks for the deletion of what nothing needs.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PruneStore {
    /// Only says what would be deleted.
    pub dry_run: bool,
}

/// What a prune deleted, or would delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PruneView {
    /// The store.
    pub store: Name,
    /// Whether nothing was deleted.
    pub dry_run: bool,
    /// The contents.
    pub roots: Vec<Root>,
    /// How many layers.
    pub layers: u32,
    /// Bytes on the disk.
    pub bytes: u64,
}

/// Asks for a file to be adopted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AdoptFile {
    /// The absolute path on the server of a disk image, or of a store's directory.
    #[schema(value_type = String)]
    pub path: PathBuf,
}

/// The files of which a store copies what it lacks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AdoptedView {
    /// The store.
    pub store: Name,
    /// The files, until the server's next start.
    #[schema(value_type = Vec<String>)]
    pub files: Vec<PathBuf>,
    /// Bytes that were copied from them and did not travel, since the server's start.
    pub taken_bytes: u64,
}

/// How the scrub of a store stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ScrubView {
    /// The store.
    pub store: Name,
    /// Whether one is at work.
    pub running: bool,
    /// When it began; none where none is at work.
    pub started_ms: Option<u64>,
    /// Bytes that it has verified.
    pub done_bytes: u64,
    /// Versions that it has done.
    pub done_versions: u32,
    /// All versions.
    pub total_versions: u32,
    /// How many bytes it reads in a second at most.
    pub rate_bytes_per_s: u64,
    /// When the next one is due; none where it only runs when asked.
    pub next_ms: Option<u64>,
    /// Chunks that are damaged and never served.
    pub quarantined_chunks: u64,
    /// What the last complete one found.
    pub last: Option<LastScrub>,
}

/// What a complete scrub found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LastScrub {
    /// When it ended.
    pub ended_ms: u64,
    /// Bytes that it verified.
    pub bytes: u64,
    /// Chunks that it found damaged.
    pub bad_chunks: u64,
    /// Chunks that are whole again.
    pub repaired_chunks: u64,
    /// Versions that cannot be read at all.
    pub damaged_versions: u32,
}
