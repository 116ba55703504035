//! What happened.

use model::Name;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that happened in the farm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EventView {
    /// The event's id; sorts by time.
    pub id: String,
    /// When it happened.
    pub at_ms: u64,
    /// What it is: a stable text such as `device-auto-added`.
    pub kind: String,
    /// `info`, `warning` or `error`.
    pub severity: String,
    /// What it is about.
    pub subject: String,
    /// One sentence for people.
    pub message: String,
    /// The server that wrote it.
    pub server: Name,
}

/// Which events to answer; fields that are left out match everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventsQuery {
    /// Of these kinds, joined by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// This bad or worse: `info`, `warning`, `error`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub severity: Option<String>,
    /// About this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// Not older than this.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_ms: Option<u64>,
    /// At most so many, the newest ones; a stream does not look at it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
}
