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

/// Which events to answer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct EventsQuery {
    /// Any value but `false`: a stream of server-sent events instead of a list.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub follow: Option<String>,
}
