//! What an answer carries that is not 2xx.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// What happened, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ErrorBody {
    /// What happened, for people.
    pub message: String,
    /// What to do next, for people; may be empty.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub hint: String,
}
