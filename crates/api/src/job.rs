//! Work that takes longer than a request.

use crate::error::ErrorBody;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A piece of work on a server. Finished ones are kept for a while, at most some hundred.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobView {
    /// The job's id on its server.
    pub id: u64,
    /// What it does.
    pub kind: JobKind,
    /// What it does it to: a vDisk's name.
    pub subject: String,
    /// How it stands.
    pub state: JobState,
    /// What it is doing now, for people.
    pub phase: String,
    /// Bytes of the virtual disk that are done.
    pub done_bytes: u64,
    /// Bytes of the virtual disk, where known.
    pub total_bytes: Option<u64>,
    /// Bytes that were written.
    pub written_bytes: u64,
    /// Bytes of the virtual disk a second, over the last seconds.
    pub rate_bytes_per_s: u64,
    /// Seconds until it is done, where that can be told.
    pub eta_s: Option<u64>,
    /// When it began.
    pub started_ms: u64,
    /// When it ended.
    pub ended_ms: Option<u64>,
    /// Why it failed.
    pub error: Option<ErrorBody>,
    /// What people should know though it succeeded.
    pub warning: Option<String>,
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobKind {
    /// Imports an image.
    Import,
    /// Writes a version into a file.
    Export,
    /// Makes the present state of a draft durable as a content of its own.
    Checkpoint,
    /// Makes a draft a version that never changes again.
    Seal,
    /// Makes a version a base of its own.
    Merge,
    /// Hashes a file that was brought by other means, and copies from it what is missing.
    Adopt,
}

/// How a job stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "kebab-case")]
pub enum JobState {
    /// At work.
    Running,
    /// Asked to stop, and undoing what it did.
    Cancelling,
    /// All done.
    Done,
    /// Failed; nothing of it is left.
    Failed,
    /// Stopped by somebody; nothing of it is left.
    Cancelled,
}

impl JobState {
    /// Whether nothing will change any more.
    pub fn is_final(self) -> bool {
        !matches!(self, Self::Running | Self::Cancelling)
    }
}
